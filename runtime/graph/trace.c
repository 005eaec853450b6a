/* graph/trace.c - what runs did: nodes, the units they became, work, memory and time. See trace.h. */
#include <math.h>
#include <time.h>
#include "trace.h"

struct nni_trace {
  nn_trace_run *run;
  int n, cap;
  bool on;
};

static const char *const pw_names[] = {
#define NN_PW(name, ...) #name,
#include "../ops/pointwise.def"
#undef NN_PW
};
static const char *const red_names[] = {
#define NN_RED(name, ...) #name,
#include "../ops/reduce.def"
#undef NN_RED
};
static const char *const kernel_names[] = {
#define NN_KERNEL(name, doc) #name,
#include "../ops/kernels.def"
#undef NN_KERNEL
};

const char *nni_node_name(const nni_node *n) {
  static const char *const kinds[] = {"", "cast", "fill", "index", "random"};
  switch (n->kind) {
    case NNI_N_PW: return pw_names[n->op];
    case NNI_N_REDUCE: return red_names[n->op] + 1; /* rsum is a sum to its reader */
    case NNI_N_KERNEL: return kernel_names[n->op];
    default: return kinds[n->kind];
  }
}

double nni_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- estimates ---- */
static double numel_of(const nni_out *o) {
  double n = 1;
  for (int i = 0; i < o->ndim; i++) n *= (double)o->shape[i];
  return n;
}

/* of one decomposition of (M, N), M the larger: the leading terms of Golub and Van Loan, "Matrix Computations"; rhs: columns of a right side */
static double linalg_flops(int kernel, double m, double n, double rhs) {
  switch (kernel) {
    case NNI_K_inv: return 2 * n * n * n;
    case NNI_K_solve: return 2.0 / 3 * n * n * n + 2 * n * n * rhs;
    case NNI_K_cholesky: return n * n * n / 3;
    case NNI_K_qr: return 4 * n * n * (m - n / 3);
    case NNI_K_svd: return 4 * m * m * n + 8 * m * n * n + 9 * n * n * n;
    case NNI_K_eigh: return 9 * n * n * n;
    case NNI_K_det:
    case NNI_K_slogdet: return 2.0 / 3 * n * n * n;
    case NNI_K_lstsq: return 2 * n * n * (m - n / 3) + 4 * m * n * rhs;
    default: return 0;
  }
}

static double flops_of(const nni_node *n) {
  double out = numel_of(&n->oshape[0]);
  if (n->kind == NNI_N_REDUCE) return (double)nn_numel(n->in[0]);
  if (n->kind != NNI_N_KERNEL) return n->kind == NNI_N_PW ? out : 0;
  const nni_layout *a = &n->in[0]->l, *b = n->nin > 1 ? &n->in[1]->l : a;
  switch (n->op) {
    case NNI_K_matmul: return 2 * out * (double)a->shape[a->ndim - 1];
    case NNI_K_conv2d: return 2 * out * (double)(b->shape[0] * b->shape[1] * b->shape[2]);
    case NNI_K_conv2d_dx: return 2 * (double)nn_numel(n->in[0]) * (double)(b->shape[0] * b->shape[1] * b->shape[2]);
    case NNI_K_conv2d_dw: return 2 * (double)nn_numel(n->in[1]) * out / (double)n->oshape[0].shape[3];
    case NNI_K_reduce: return (double)nn_numel(n->in[0]);
    default: break;
  }
  if (a->ndim < 2) return 0;
  double rows = (double)a->shape[a->ndim - 2], cols = (double)a->shape[a->ndim - 1], rhs = b->ndim ? (double)b->shape[b->ndim - 1] : 0;
  if (rows == 0 || cols == 0) return 0;
  return (double)nn_numel(n->in[0]) / (rows * cols) * linalg_flops(n->op, rows > cols ? rows : cols, rows > cols ? cols : rows, rhs);
}

/* bytes that cross the unit's border */
static double bytes_of(const nn_context *ctx, const nni_plan *p, int node) {
  const nni_node *n = ctx->win.node[node];
  double b = 0;
  for (int k = 0; k < n->nin; k++) {
    const nn_tensor *t = n->in[k];
    if (!t || (t->v->node && p->unit_of[t->v->index] == p->unit_of[node])) continue;
    double elems = 1; /* a broadcast dim is read once */
    for (int i = 0; i < t->l.ndim; i++) elems *= t->l.stride[i] ? (double)t->l.shape[i] : 1;
    b += elems * (double)nn_dtype_size(t->dtype);
  }
  return b;
}

/* ---- collecting ---- */
static nn_trace_run *new_run(nn_context *ctx, int nnode, int nunit) {
  struct nni_trace *t = ctx->trace;
  nni_memory *m = ctx->core.mem;
  if (t->n == t->cap) {
    int cap = t->cap ? 2 * t->cap : 16;
    nn_trace_run *r = nni_realloc(m, t->run, sizeof *r * (size_t)t->cap, sizeof *r * (size_t)cap);
    if (!r) return NULL;
    t->run = r;
    t->cap = cap;
  }
  nn_trace_run *r = &t->run[t->n];
  *r = (nn_trace_run){.nnode = nnode, .nunit = nunit};
  r->node = nni_calloc(m, sizeof *r->node * (size_t)nnode);
  r->unit = nni_calloc(m, sizeof *r->unit * (size_t)(nunit + 1));
  if (r->node && r->unit) return t->n++, r;
  nni_free(m, r->node, sizeof *r->node * (size_t)nnode);
  nni_free(m, r->unit, sizeof *r->unit * (size_t)(nunit + 1));
  return NULL;
}

static void copy_node(nn_context *ctx, const nni_plan *p, nn_trace_node *d, int i) {
  const nni_node *n = ctx->win.node[i];
  *d = (nn_trace_node){.op = nni_node_name(n), .dtype = n->oshape[0].dtype, .ndim = n->oshape[0].ndim, .unit = p->unit_of[i], .line = n->line,
                       .visible = n->out[0]->ext > 0, .nin = n->nin < 8 ? n->nin : 8};
  memcpy(d->shape, n->oshape[0].shape, sizeof(int64_t) * (size_t)d->ndim);
  for (int k = 0; k < d->nin; k++) {
    const nn_tensor *t = n->in[k];
    d->in[k] = !t ? NN_TRACE_SCALAR : t->v->node ? t->v->index : -1 - t->v->index;
  }
}

bool nni_trace_run(nn_context *ctx, const nni_plan *p, bool hit) {
  if (!ctx->trace->on) return true;
  nn_trace_run *r = new_run(ctx, ctx->win.n, p->nunit);
  if (!r) {
    nni_fail(&ctx->core.err, NN_ENOMEM, "trace: out of memory");
    return false;
  }
  r->hit = hit;
  r->ninput = ctx->win.ninput;
  r->arena = p->arena;
  for (int o = 0; o < p->nout; o++) r->outputs += p->output[o].bytes;
  for (int u = 0; u < p->nunit; u++) r->unit[u].name = p->unit[u].program ? "program" : kernel_names[p->unit[u].kernel];
  for (int i = 0; i < ctx->win.n; i++) {
    const nni_node *n = ctx->win.node[i];
    copy_node(ctx, p, &r->node[i], i);
    if (p->unit_of[i] < 0) continue;
    nn_trace_unit *u = &r->unit[p->unit_of[i]];
    u->nnode++;
    u->flops += flops_of(n);
    u->bytes += bytes_of(ctx, p, i);
    for (int k = 0; k < n->nout; k++) r->unplanned += (size_t)n->out[k]->numel * nn_dtype_size(n->out[k]->dtype);
  }
  for (int i = 0; i < ctx->win.n; i++) { /* results that are stored */
    if (p->unit_of[i] < 0) continue;
    bool stored = r->node[i].visible || ctx->win.node[i]->kind == NNI_N_KERNEL;
    for (int j = i + 1; j < ctx->win.n && !stored; j++)
      for (int k = 0; k < r->node[j].nin && !stored; k++) stored = r->node[j].in[k] == i && p->unit_of[j] >= 0 && p->unit_of[j] != p->unit_of[i];
    if (stored) r->unit[p->unit_of[i]].bytes += numel_of(&ctx->win.node[i]->oshape[0]) * (double)nn_dtype_size(r->node[i].dtype);
  }
  return true;
}

void nni_trace_unit(nn_context *ctx, int unit, double t0, double t1) {
  struct nni_trace *t = ctx->trace;
  if (!t->on || t->n == 0) return;
  t->run[t->n - 1].unit[unit].start = t0;
  t->run[t->n - 1].unit[unit].end = t1;
}

static void forget(nn_context *ctx) {
  struct nni_trace *t = ctx->trace;
  for (int i = 0; i < t->n; i++) {
    nni_free(ctx->core.mem, t->run[i].node, sizeof(nn_trace_node) * (size_t)t->run[i].nnode);
    nni_free(ctx->core.mem, t->run[i].unit, sizeof(nn_trace_unit) * (size_t)(t->run[i].nunit + 1));
  }
  t->n = 0;
}

void nni_trace_free(nn_context *ctx) {
  struct nni_trace *t = ctx->trace;
  if (!t) return;
  forget(ctx);
  nni_free(ctx->core.mem, t->run, sizeof *t->run * (size_t)t->cap);
  nni_free(ctx->core.mem, t, sizeof *t);
  ctx->trace = NULL;
}

bool nni_trace_on(const nn_context *ctx) { return ctx->trace && ctx->trace->on; }

void nn_trace_start(nn_context *ctx) {
  if (!ctx->trace) ctx->trace = nni_calloc(ctx->core.mem, sizeof *ctx->trace);
  if (!ctx->trace) return;
  forget(ctx);
  ctx->trace->on = true;
}

const nn_trace_run *nn_trace_stop(nn_context *ctx, int *n) {
  *n = 0;
  if (!ctx->trace) return NULL;
  ctx->trace->on = false;
  *n = ctx->trace->n;
  return ctx->trace->run;
}

/* ---- finite results ---- */
static bool finite_value(nn_context *ctx, nni_value *v) {
  const size_t size = nn_dtype_size(v->dtype);
  const char *p = nn_dtype_is_float(v->dtype) && v->data ? nni_value_host(ctx, v) : NULL;
  if (!p) return true;
  for (int64_t i = 0; i < v->numel; i++) {
    double f;
    int64_t n;
    nn_element_read(v->dtype, p + (size_t)i * size, &f, &n);
    if (!isfinite(f)) return false;
  }
  return true;
}

nn_status nni_check_finite(nn_context *ctx) {
  nni_window *w = &ctx->win;
  for (int i = 0; i < w->n; i++) {
    const nni_node *n = w->node[i];
    bool fresh = true;
    for (int k = 0; k < n->nin && fresh; k++) fresh = !n->in[k] || finite_value(ctx, n->in[k]->v);
    for (int k = 0; k < n->nout && fresh; k++) {
      if (finite_value(ctx, n->out[k])) continue;
      char s[150];
      nni_shape_text(n->oshape[k].ndim, n->oshape[k].shape, s, sizeof s);
      return nni_fail(&ctx->core.err, NN_EINVAL, "%s: the result (%s) holds NaN or Inf, its arguments are finite", nni_node_name(n), s);
    }
  }
  return NN_OK;
}
