/* graph/run.c - running the window: find or make its plan, get all memory first, hand unit after unit to the device, keep what is visible.
**
** All memory of a run is taken before its first unit starts, so running out of it changes nothing. A run that fails half-way loses what
** depends on the node that failed; variables that were assigned fall back to what they were (record.c).
*/
#include "jit.h"
#include "trace.h"

#define MAXPLANS 512
#define BIT(set, i) ((set)[(i) >> 6] >> ((i) & 63) & 1)

static uint64_t mix(uint64_t h, uint64_t word) {
  h = (h ^ word) * 0xff51afd7ed558ccdu;
  return h ^ h >> 32;
}

/* four chains side by side: a multiplication need not wait for the one before it */
static uint64_t hash_words(const uint64_t *w, int n) {
  uint64_t h[4] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u, 0x27d4eb2f165667c5u};
  int i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; k++) h[k] = mix(h[k], w[i + k]);
  for (; i < n; i++) h[0] = mix(h[0], w[i]);
  return mix(mix(mix(h[0], h[1]), h[2]), h[3]);
}

/* ---- cache ---- */
static nni_plan **bucket(nn_context *ctx, uint64_t hash) { return &ctx->plans[hash % NNI_COUNT(ctx->plans)]; }

static nni_plan *find_plan(nn_context *ctx, uint64_t hash) {
  const nni_window *w = &ctx->win;
  for (nni_plan *p = *bucket(ctx, hash); p; p = p->next)
    if (p->hash == hash && p->nkey == w->nkey && memcmp(p->key, w->key, sizeof *w->key * (size_t)w->nkey) == 0) return p;
  return NULL;
}

static void unlink_plan(nn_context *ctx, nni_plan *p) {
  for (nni_plan **q = bucket(ctx, p->hash); *q; q = &(*q)->next)
    if (*q == p) {
      *q = p->next;
      ctx->nplans--;
      nni_plan_free(ctx, p);
      return;
    }
}

static void evict_oldest(nn_context *ctx) {
  nni_plan *old = NULL;
  for (int i = 0; i < NNI_COUNT(ctx->plans); i++)
    for (nni_plan *p = ctx->plans[i]; p; p = p->next)
      if (!old || p->used < old->used) old = p;
  if (old) unlink_plan(ctx, old);
}

void nni_plans_free(nn_context *ctx) {
  for (int i = 0; i < NNI_COUNT(ctx->plans); i++)
    while (ctx->plans[i]) unlink_plan(ctx, ctx->plans[i]);
}

/* ---- what is visible ---- */
static int value_count(const nni_window *w) {
  int n = 0;
  for (int i = 0; i < w->n; i++) n += w->node[i]->nout;
  return n;
}

static void see(const nni_window *w, uint64_t *set, int words) {
  int v = 0;
  memset(set, 0, sizeof *set * (size_t)words);
  for (int i = 0; i < w->n; i++)
    for (int k = 0; k < w->node[i]->nout; k++, v++)
      if (w->node[i]->out[k]->ext > 0) set[v >> 6] |= (uint64_t)1 << (v & 63);
}

static bool subset(const uint64_t *a, const uint64_t *b, int words) {
  for (int i = 0; i < words; i++)
    if (a[i] & ~b[i]) return false;
  return true;
}

static nni_plan *get_plan(nn_context *ctx) {
  nni_window *w = &ctx->win;
  int nv = value_count(w), words = (nv + 63) / 64;
  uint64_t *vis = nni_arena_get(&w->arena, sizeof *vis * (size_t)words);
  if (!vis) {
    nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while planning a run");
    return NULL;
  }
  uint64_t hash = hash_words(w->key, w->nkey);
  see(w, vis, words);
  nni_plan *p = find_plan(ctx, hash);
  if (p && !subset(vis, p->visible, words)) p = NULL;
  if (!p && ctx->hooks.collect) { /* dead handles that were not collected look visible: ask for a young collection, look again */
    ctx->hooks.collect(ctx->hooks.ud, 0);
    see(w, vis, words);
    p = find_plan(ctx, hash);
    if (p && !subset(vis, p->visible, words)) p = NULL;
  }
  if (p) ctx->info.plan_hits++;
  else {
    nni_plan *old = find_plan(ctx, hash);
    for (int i = 0; old && i < words; i++) vis[i] |= old->visible[i];
    ctx->info.plan_misses++;
    p = nni_plan_new(ctx, hash, vis, nv);
    if (!p) return NULL;
    if (old) unlink_plan(ctx, old);
    if (ctx->nplans >= MAXPLANS) evict_oldest(ctx);
    p->next = *bucket(ctx, hash);
    *bucket(ctx, hash) = p;
    ctx->nplans++;
  }
  p->used = ++ctx->plan_clock;
  return p;
}

/* ---- one run ---- */
typedef struct run {
  nn_context *ctx;
  nni_plan *p;
  nni_value *const *input, *const *result; /* what the plan's inputs and outputs stand for */
  int ninput;
  const nni_param *param;
  void **out;        /* per output: its memory */
  nni_value **donor; /* per output: whose buffer it took, or NULL */
  char *arena, *scratch;
  int unit, blame;   /* the one that runs, or ran last; the one that failed, or -1 */
  bool late;         /* a device that tells of failures when the run is over, and it may fail: it overwrites nothing, and is waited for */
} run;

static nni_kernel_call unit_call(nn_context *ctx, const nni_plan *p, const nni_unit *u, const nni_operand *op, const nni_param *pa, void *scratch) {
  return (nni_kernel_call){.dev = p->dev, .threads = ctx->core.threads, .param = u->param0, .in = op, .out = op + u->nin, .nin = u->nin, .nout = u->nout, .ia = u->ia, .pa = pa,
                           .scratch = scratch, .err = &ctx->core.err};
}

static void size_scratch(nn_context *ctx, nni_plan *p) {
  int t = nni_threads_count(ctx->core.threads);
  if (p->threads == t) return;
  p->scratch = 0;
  for (int i = 0; i < p->nunit; i++) {
    nni_unit *u = &p->unit[i];
    nni_kernel_call k = unit_call(ctx, p, u, u->op, NULL, NULL);
    size_t n = u->program ? p->dev->is->program_scratch(p->dev, u->prog) : p->dev->is->kernel_scratch(u->kernel)(&k);
    if (n > p->scratch) p->scratch = n;
  }
  p->threads = t;
}

static bool take_memory(run *r) {
  nni_plan *p = r->p;
  if (p->arena && !(r->arena = p->dev->is->buffer_get(p->dev, p->arena))) return false;
  if (p->scratch && !(r->scratch = p->dev->is->buffer_get(p->dev, p->scratch))) return false;
  for (int o = 0; o < p->nout; o++) {
    const nni_planout *po = &p->output[o];
    for (int d = 0; d < po->ndonor && !r->late && !r->donor[o]; d++) {
      nni_value *v = r->input[po->donor[d]];
      bool taken = v->ext > 0 || !v->data;
      for (int q = 0; q < o && !taken; q++) taken = r->donor[q] == v;
      if (!taken) r->donor[o] = v;
    }
    r->out[o] = r->donor[o] ? r->donor[o]->data : p->dev->is->buffer_get(p->dev, po->bytes);
    if (!r->out[o]) return false;
  }
  return true;
}

static void give_back(run *r, bool outputs) {
  nni_device *dev = r->p->dev;
  if (r->arena) dev->is->buffer_put(dev, r->arena, r->p->arena);
  if (r->scratch) dev->is->buffer_put(dev, r->scratch, r->p->scratch);
  r->arena = r->scratch = NULL;
  for (int o = 0; outputs && o < r->p->nout; o++) {
    if (r->out[o] && !r->donor[o]) dev->is->buffer_put(dev, r->out[o], r->p->output[o].bytes);
    r->out[o] = NULL;
    r->donor[o] = NULL;
  }
}

static void *at(const run *r, const nni_slot *s) {
  char *base = s->kind == NNI_S_INPUT ? r->input[s->index]->data : s->kind == NNI_S_OUTPUT ? r->out[s->index] : r->arena;
  return base + s->offset;
}

static nn_status run_unit(run *r, nni_unit *u) {
  nn_context *ctx = r->ctx;
  nni_param pa[u->nparam + 1];
  for (int i = 0; i < u->nparam; i++) pa[i] = r->param[u->param[i]];
  for (int i = 0; i < u->nin; i++) u->op[i].data = at(r, &u->in[i]);
  for (int i = 0; i < u->nout; i++) u->op[u->nin + i].data = at(r, &u->out[i]);
  nni_kernel_call k = unit_call(ctx, r->p, u, u->op, pa, r->scratch);
  k.unit = r->unit;
  return u->program ? r->p->dev->is->program_run(u->prog, &k) : r->p->dev->is->kernel(u->kernel)(&k);
}

/* The first unit that overwrites an argument in place. From there on the run is finished rather than interrupted, so that nothing is lost. */
static int first_overwrite(const run *r) {
  int first = r->p->nunit;
  for (int o = 0; o < r->p->nout; o++)
    if (r->donor[o] && r->p->output[o].unit < first) first = r->p->output[o].unit;
  return first;
}

/* On a device that is not the host: its work is recorded and submitted as a whole, or submitted again. */
static nn_status submit_units(run *r) {
  nn_context *ctx = r->ctx;
  nni_plan *p = r->p;
  nni_device *dev = p->dev;
  int n = 0;
  void **address = nni_arena_get(&ctx->win.arena, sizeof(void *) * (size_t)(r->ninput + p->nout + 2));
  nni_param *pa = nni_arena_get(&ctx->win.arena, sizeof(nni_param) * (size_t)(p->nparam + 1));
  if (!address || !pa) return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while starting a run");
  for (int i = 0; i < r->ninput; i++) address[n++] = r->input[i]->data;
  for (int i = 0; i < p->nout; i++) address[n++] = r->out[i];
  address[n++] = r->arena;
  address[n++] = r->scratch;
  for (int u = 0; u < p->nunit; u++)
    for (int i = 0; i < p->unit[u].nparam; i++) pa[p->unit[u].param0 + i] = r->param[p->unit[u].param[i]];
  r->unit = -1;
  const double started = nni_clock();
  nni_submission s = {.recorded = &p->recorded, .address = address, .naddress = n, .param = pa, .nparam = p->nparam, .err = &ctx->core.err};
  const bool timed = nni_trace_on(ctx); /* then it is recorded for this once, with marks between the units */
  double *times = timed ? nni_arena_get(&ctx->win.arena, sizeof *times * (size_t)(p->nunit + 1)) : NULL;
  if (timed && !times) return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while starting a run");
  if (timed) s.recorded = NULL;
  bool replay = false;
  nn_status st = dev->is->begin(dev, &s, &replay);
  if (st != NN_OK) return st;
  if (timed) st = dev->is->mark(dev, 0, p->nunit + 1, &ctx->core.err);
  for (int i = 0; i < p->nunit && !replay && st == NN_OK; i++) {
    r->unit = i;
    st = run_unit(r, &p->unit[i]);
    if (st != NN_OK) r->blame = i;
    else if (timed) st = dev->is->mark(dev, i + 1, p->nunit + 1, &ctx->core.err);
  }
  nn_status end = dev->is->end(dev, st != NN_OK, &ctx->core.err);
  if (st == NN_OK) st = end;
  if (st != NN_OK && s.recorded && p->recorded) r->unit = -1; /* all of it was submitted or, as here, nothing */
  if (st == NN_OK && r->late) { /* nothing takes the place of anything before it is known to be right */
    dev->blamed = -1;
    st = dev->is->finish(dev, &ctx->core.err);
    r->blame = dev->blamed;
  }
  ctx->info.units += (uint64_t)p->nunit;
  if (timed && st == NN_OK) st = dev->is->marked(dev, p->nunit + 1, times, &ctx->core.err);
  for (int i = 0; timed && st == NN_OK && i < p->nunit; i++) nni_trace_unit(ctx, i, started + times[i], started + times[i + 1]);
  return st;
}

static nn_status run_units(run *r) {
  nn_context *ctx = r->ctx;
  if (!r->p->dev->host) return submit_units(r);
  int point_of_no_return = first_overwrite(r);
  for (int i = 0; i < r->p->nunit; i++) {
    if (i <= point_of_no_return && ctx->hooks.interrupted && ctx->hooks.interrupted(ctx->hooks.ud)) return nni_fail(&ctx->core.err, NN_EINTERRUPT, "interrupted");
    r->unit = i;
    double t0 = ctx->trace ? nni_clock() : 0;
    nn_status st = run_unit(r, &r->p->unit[i]);
    if (st != NN_OK) return r->blame = i, st;
    if (ctx->trace) nni_trace_unit(ctx, i, t0, nni_clock());
    ctx->info.units++;
  }
  return NN_OK;
}

/* outputs become the values' data; after a failure an argument that was overwritten already is lost */
static void keep_outputs(run *r, bool ok) {
  for (int o = 0; o < r->p->nout; o++) {
    nni_value *v = r->result[o];
    if (ok) {
      v->data = r->out[o];
      if (r->donor[o]) r->donor[o]->data = NULL, nni_data_put(r->ctx, r->donor[o]);
      r->out[o] = NULL;
    } else if (r->donor[o] && r->p->output[o].unit <= r->unit) {
      nni_data_put(r->ctx, r->donor[o]);
      r->donor[o]->lost = true;
    }
  }
}

/* the node with the largest result: what is given up when memory does not suffice */
static int largest_node(const nni_window *w, const uint64_t *dead) {
  int at = -1;
  size_t most = 0;
  for (int i = 0; i < w->n; i++)
    for (int k = 0; !(dead && BIT(dead, i)) && k < w->node[i]->nout; k++) {
      size_t bytes = (size_t)w->node[i]->out[k]->numel * nn_dtype_size(w->node[i]->out[k]->dtype);
      if (bytes >= most) most = bytes, at = i;
    }
  return at;
}

static nn_status no_memory(nn_context *ctx, const nni_plan *p) {
  size_t results = 0;
  for (int o = 0; o < p->nout; o++)
    if (__builtin_add_overflow(results, p->output[o].bytes, &results)) results = SIZE_MAX;
  return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory on %s: a run needs %zu bytes for its results and %zu for what is between, beside %zu in live tensors",
                  p->dev->name, results, p->arena + p->scratch, p->dev->is->memory(p->dev).live);
}

/* Ids whose bounds the host knows cannot be bad. (A recording of nn.jit has no nodes to ask.) */
static bool tells_late(const nn_context *ctx, const nni_plan *p) {
  if (p->dev->host || !p->fallible) return false;
  for (int i = 0; i < p->nunit; i++)
    if (p->unit[i].fallible && (ctx->win.n == 0 || !nni_bounds_suffice(ctx->win.node[p->unit[i].first]))) return true;
  return false;
}

nn_status nni_run_on(nn_context *ctx, nni_plan *p, nni_value *const *input, int ninput, nni_value *const *result, const nni_param *param, int *unit) {
  run r = {.ctx = ctx, .p = p, .input = input, .ninput = ninput, .result = result, .param = param, .blame = -1, .late = tells_late(ctx, p)};
  *unit = -1;
  r.out = nni_arena_get(&ctx->win.arena, sizeof(void *) * (size_t)(p->nout + 1));
  r.donor = nni_arena_get(&ctx->win.arena, sizeof(void *) * (size_t)(p->nout + 1));
  if (!r.out || !r.donor) return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while starting a run");
  memset(r.out, 0, sizeof(void *) * (size_t)p->nout);
  memset(r.donor, 0, sizeof(void *) * (size_t)p->nout);
  size_scratch(ctx, p);
  if (!take_memory(&r)) {
    give_back(&r, true);
    if (ctx->hooks.collect) ctx->hooks.collect(ctx->hooks.ud, 1);
    p->dev->is->trim(p->dev);
    if (!take_memory(&r)) {
      give_back(&r, true);
      return no_memory(ctx, p);
    }
  }
  nn_status st = run_units(&r);
  *unit = r.blame;
  keep_outputs(&r, st == NN_OK);
  give_back(&r, st != NN_OK);
  return st;
}

/* The window by its plan. culprit: on failure the node to blame, -1 when there is none */
static nn_status run_plan(nn_context *ctx, nni_plan *p, const uint64_t *dead, int *culprit) {
  nni_window *w = &ctx->win;
  int unit;
  nni_param *param = nni_arena_get(&w->arena, sizeof(nni_param) * (size_t)(w->nparam + 1));
  nni_value **result = nni_arena_get(&w->arena, sizeof(void *) * (size_t)(p->nout + 1));
  *culprit = -1;
  if (!param || !result) return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while starting a run");
  for (int i = 0; i < w->n; i++)
    if (w->node[i]->npa) memcpy(param + w->node[i]->param, w->node[i]->pa, sizeof(nni_param) * w->node[i]->npa);
  for (int o = 0; o < p->nout; o++) result[o] = w->node[p->output[o].node]->out[p->output[o].out];
  nn_status st = nni_run_on(ctx, p, w->input, w->ninput, result, param, &unit);
  if (unit >= 0) {
    *culprit = p->unit[unit].first;
    const char *by = w->node[*culprit]->by; /* a kernel's message, with the operator in front that the user called */
    return by ? nni_fail(&ctx->core.err, st, "%s: %s", by, ctx->core.err.text) : st;
  }
  if (st == NN_ENOMEM) *culprit = largest_node(w, dead);
  return st;
}

/* ---- after a failure ---- */
#define MAXSALVAGE 8 /* failures of one window that are gone into */

/* the node and all that is made from it */
static void give_up(const nni_window *w, uint64_t *dead, int node) {
  dead[node >> 6] |= (uint64_t)1 << (node & 63);
  for (int i = node + 1; i < w->n; i++)
    for (int k = 0; k < w->node[i]->nin; k++) {
      const nn_tensor *t = w->node[i]->in[k];
      if (t && t->v->node && BIT(dead, t->v->index)) dead[i >> 6] |= (uint64_t)1 << (i & 63);
    }
}

/* vis: what is visible, and what assigned tensors fall back to, without what was given up; false when that is nothing */
static bool see_rest(const nni_window *w, const uint64_t *dead, uint64_t *vis, int words) {
  bool any = false;
  see(w, vis, words);
  for (int i = 0, v = 0; i < w->n; i++)
    for (int k = 0; k < w->node[i]->nout; k++, v++) {
      bool on = BIT(vis, v);
      for (int a = 0; a < w->nassigned && !on; a++) on = w->assigned[a]->prev && w->assigned[a]->prev->v == w->node[i]->out[k];
      if (BIT(dead, i)) on = false;
      if (on) vis[v >> 6] |= (uint64_t)1 << (v & 63);
      else vis[v >> 6] &= ~((uint64_t)1 << (v & 63));
      any = any || on;
    }
  return any;
}

/* One bad argument costs its own results only: everything in the window that does not depend on the node to blame is still computed (nothing in place, so that
** assigned tensors can fall back). The error of the run stays the first one. */
static void salvage(nn_context *ctx, int culprit) {
  nni_window *w = &ctx->win;
  nni_error first = ctx->core.err;
  struct nni_trace *trace = ctx->trace;
  int nv = value_count(w), words = (nv + 63) / 64;
  uint64_t *vis = nni_arena_get(&w->arena, sizeof *vis * (size_t)words), *dead = nni_arena_get(&w->arena, sizeof *dead * (size_t)words);
  if (!vis || !dead) return;
  memset(dead, 0, sizeof *dead * (size_t)words);
  ctx->trace = NULL;
  for (int i = 0; i < MAXSALVAGE && culprit >= 0; i++) {
    give_up(w, dead, culprit);
    nni_plan *p = see_rest(w, dead, vis, words) ? nni_plan_new(ctx, 0, vis, nv) : NULL;
    if (!p) break;
    for (int o = 0; o < p->nout; o++) p->output[o].ndonor = 0;
    if (run_plan(ctx, p, dead, &culprit) == NN_OK) culprit = -1, w->rng = ctx->rng; /* its draws have been seen */
    nni_plan_free(ctx, p);
  }
  ctx->trace = trace;
  ctx->core.err = first;
}

nn_status nni_run(nn_context *ctx) {
  nni_window *w = &ctx->win;
  if (w->n == 0) return NN_OK;
  if (ctx->running) return nni_fail(&ctx->core.err, NN_EINVAL, "a run was asked for inside a run");
  ctx->running = true;
  uint64_t misses = ctx->info.plan_misses;
  int culprit = -1;
  if (ctx->jit) nni_jit_window(ctx);
  nni_plan *p = get_plan(ctx);
  if (p && ctx->trace && !nni_trace_run(ctx, p, ctx->info.plan_misses == misses)) p = NULL;
  nn_status st = p ? run_plan(ctx, p, NULL, &culprit) : ctx->core.err.status;
  bool failed = st != NN_OK;
  if (failed && culprit >= 0) salvage(ctx, culprit);
  if (!failed && ctx->check_finite) st = nni_check_finite(ctx);
  ctx->info.runs++;
  ctx->running = false;
  nni_window_drop(ctx, failed);
  return st;
}

nn_status nni_need(nn_tensor *t) {
  nn_context *ctx = t->ctx;
  if (ctx->jit) nni_jit_read(ctx, t);
  if (!t->v->data && !t->v->lost) {
    nn_status st = nni_run(ctx);
    if (st != NN_OK && !t->v->data) return st;
  }
  if (t->v->data) return NN_OK;
  if (t->v->lost) return nni_fail(&ctx->core.err, NN_ELOST, "this tensor's value is lost: the run that would have computed it failed");
  return nni_fail(&ctx->core.err, NN_EINTERNAL, "a tensor has no value after a run (a bug in nnlua)");
}

nn_status nn_eval(nn_context *ctx) { return nni_run(ctx); }
