/* graph/context.c - opening and closing a context, its settings and counters. */
#include "trace.h"

nn_status nn_open(const nn_options *opt, nn_context **out) {
  nn_options o = opt ? *opt : (nn_options){0};
  *out = NULL;
  nni_memory *m = nni_memory_open(o.alloc, o.alloc_ud);
  if (!m) return NN_ENOMEM;
  nn_context *ctx = nni_calloc(m, sizeof *ctx);
  nni_threads *t = ctx ? nni_threads_open(m, o.threads) : NULL;
  if (!t) {
    nni_free(m, ctx, sizeof *ctx);
    nni_memory_close(m);
    return NN_ENOMEM;
  }
  ctx->core.mem = m;
  ctx->core.threads = t;
  ctx->grad_enabled = true;
  ctx->rng.seed = o.seed;
  nni_slab_init(&ctx->core.tensors, m, sizeof(nn_tensor));
  nni_slab_init(&ctx->core.values, m, sizeof(nni_value));
  nni_window_init(ctx);
  if (nni_devices_open(ctx) != NN_OK) {
    nn_close(ctx);
    return NN_ENOMEM;
  }
  *out = ctx;
  return NN_OK;
}

void nn_close(nn_context *ctx) {
  if (!ctx) return;
  nni_memory *m = ctx->core.mem;
  nni_window_drop(ctx, false);
  nni_window_close(ctx);
  nni_plans_free(ctx);
  nni_trace_free(ctx);
  nni_devices_close(ctx);
  nni_slab_close(&ctx->core.tensors);
  nni_slab_close(&ctx->core.values);
  nni_threads_close(ctx->core.threads);
  nni_free(m, ctx, sizeof *ctx);
  nni_memory_close(m);
}

const char *nn_error(const nn_context *ctx) { return ctx->core.err.text; }

nn_status nn_set_threads(nn_context *ctx, int n) {
  if (n < 1 || n > 64) return nni_fail(&ctx->core.err, NN_EINVAL, "threads: %d is not in 1..64", n);
  if (!nni_threads_resize(ctx->core.threads, n)) return nni_fail(&ctx->core.err, NN_ENOMEM, "threads: cannot start %d threads", n);
  return NN_OK;
}
int nn_threads(const nn_context *ctx) { return nni_threads_count(ctx->core.threads); }
void nn_set_eager(nn_context *ctx, bool on) { ctx->eager = on; }
bool nn_eager(const nn_context *ctx) { return ctx->eager; }
void nn_set_exact(nn_context *ctx, bool on) { ctx->exact = on; }
void nn_set_matmul_precision(nn_context *ctx, nn_matmul_precision p) { ctx->matmul_precision = p; }
nn_matmul_precision nn_get_matmul_precision(const nn_context *ctx) { return ctx->matmul_precision; }
bool nn_exact(const nn_context *ctx) { return ctx->exact; }
void nn_seed(nn_context *ctx, uint64_t seed) { ctx->rng = (nn_rng_state){seed, 0}; }
nn_rng_state nn_rng_get(const nn_context *ctx) { return ctx->rng; }
void nn_rng_set(nn_context *ctx, nn_rng_state s) { ctx->rng = s; }
nn_run_info nn_run_stats(const nn_context *ctx) {
  nn_run_info info = ctx->info;
  for (int i = 1; i < NN_MAXDEVICE; i++) {
    if (!ctx->dev[i]) continue;
    const nni_device_counts c = ctx->dev[i]->is->counted(ctx->dev[i]);
    info.submissions += c.submissions, info.uploads += c.uploads, info.downloads += c.downloads, info.waits += c.waits;
  }
  return info;
}
uint64_t nn_runs(const nn_context *ctx) { return ctx->info.runs; }
void nn_set_hooks(nn_context *ctx, nn_hooks h) { ctx->hooks = h; }
bool nn_grad_enabled(const nn_context *ctx) { return ctx->grad_enabled; }
bool nn_set_grad_enabled(nn_context *ctx, bool on) {
  bool was = ctx->grad_enabled;
  ctx->grad_enabled = on;
  return was;
}

/* Every draw of a tensor has a stream number of its own: the position counts draws, the element number is Philox's counter. */
void nni_draw(nn_context *ctx, nni_param pa[2]) {
  pa[0].u = ctx->rng.seed;
  pa[1].u = ctx->rng.position++;
}

void nn_set_line(nn_context *ctx, int line) { ctx->line = line; }
void nn_set_check_finite(nn_context *ctx, bool on) { ctx->check_finite = on; }
