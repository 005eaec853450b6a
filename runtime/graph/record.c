/* graph/record.c - the window: nodes are appended here, and with them the words of the plan's key.
**
** Invariant: between calls every pending value's producer is in the window, and every node's inputs are produced by earlier nodes or are listed in `input`.
** A failure to record leaves the window as it was.
*/
#include "graph.h"

void nni_window_init(nn_context *ctx) {
  nni_window *w = &ctx->win;
  nni_arena_init(&w->arena, ctx->core.mem);
  w->stamp = 1;
}

static bool grow(nn_context *ctx, void *pp, int *cap, int need, size_t elem) {
  void **p = pp;
  if (need <= *cap) return true;
  int n = *cap ? *cap : 64;
  while (n < need) n *= 2;
  void *q = nni_realloc(ctx->core.mem, *p, (size_t)*cap * elem, (size_t)n * elem);
  if (!q) return false;
  *p = q;
  *cap = n;
  return true;
}

/* ---- the key ---- */
static void put(nni_window *w, uint64_t x) { w->key[w->nkey++] = x; } /* room was made by record */

/* what an argument is, with its layout; kind: 1 made in the window, 2 from before it */
static void put_view(nni_window *w, uint64_t kind, uint64_t number, uint64_t what, const nni_layout *l) {
  bool plain = l->offset == 0 && nni_layout_is_contiguous(l);
  put(w, kind | (plain ? 0 : 4) | (uint64_t)l->ndim << 4 | number << 8 | what << 40);
  for (int i = 0; i < l->ndim; i++) put(w, (uint64_t)l->shape[i]);
  if (plain) return;
  for (int i = 0; i < l->ndim; i++) put(w, (uint64_t)l->stride[i]);
  put(w, (uint64_t)l->offset);
}

/* number of v among the window's inputs, -1 when out of memory */
static int input_index(nn_context *ctx, nni_value *v) {
  nni_window *w = &ctx->win;
  if (v->stamp == w->stamp) return v->index;
  if (!grow(ctx, &w->input, &w->inputcap, w->ninput + 1, sizeof *w->input)) return -1;
  w->input[w->ninput] = v;
  v->refs++;
  v->stamp = w->stamp;
  v->index = w->ninput;
  return w->ninput++;
}

static bool put_input(nn_context *ctx, nn_tensor *t) {
  nni_window *w = &ctx->win;
  if (!t) {
    put(w, 0);
    return true;
  }
  nni_value *v = t->v;
  if (v->node) {
    put_view(w, 1, (uint64_t)v->index, (uint64_t)v->out, &t->l);
    return true;
  }
  int k = input_index(ctx, v);
  if (k < 0) return false;
  put_view(w, 2, (uint64_t)k, (uint64_t)v->dtype, &t->l);
  put(w, (uint64_t)v->numel);
  return true;
}

static bool put_node(nn_context *ctx, const nni_rec *r, nn_dtype cd) {
  nni_window *w = &ctx->win;
  if (!grow(ctx, &w->key, &w->keycap, w->nkey + 2 + r->nin * (3 + 2 * NN_MAXDIM) + r->nout * (1 + NN_MAXDIM) + r->nia, sizeof *w->key)) return false;
  if (w->n == 0) put(w, (uint64_t)w->dev->index);
  put(w, (uint64_t)r->kind | (uint64_t)r->op << 8 | (uint64_t)r->nin << 24 | (uint64_t)r->npa << 32 | (uint64_t)r->nout << 40 | (uint64_t)cd << 48);
  for (int i = 0; i < r->nin; i++)
    if (!put_input(ctx, r->in[i])) return false;
  for (int i = 0; i < r->nout; i++) {
    put(w, (uint64_t)r->out[i].ndim | (uint64_t)r->out[i].dtype << 8 | (uint64_t)r->nia << 16);
    for (int k = 0; k < r->out[i].ndim; k++) put(w, (uint64_t)r->out[i].shape[k]);
  }
  for (int i = 0; i < r->nia; i++) put(w, (uint64_t)r->ia[i]);
  return true;
}

/* ---- nodes ---- */
static nni_node *node_new(nni_window *w, const nni_rec *r) {
  size_t pin = sizeof(void *) * (size_t)r->nin, pout = sizeof(void *) * (size_t)r->nout, po = sizeof(nni_out) * (size_t)r->nout;
  size_t pia = sizeof(int64_t) * (size_t)r->nia, ppa = sizeof(nni_param) * (size_t)r->npa;
  char *p = nni_arena_get(&w->arena, sizeof(nni_node) + pin + pout + po + pia + ppa);
  if (!p) return NULL;
  nni_node *n = (nni_node *)p;
  n->kind = (uint8_t)r->kind, n->nin = (uint8_t)r->nin, n->nout = (uint8_t)r->nout, n->npa = (uint8_t)r->npa;
  n->op = (uint16_t)r->op, n->nia = (uint16_t)r->nia; /* the rest is filled here and in nni_record */
  p += sizeof(nni_node);
  n->in = (nn_tensor **)p, p += pin;
  n->out = (nni_value **)p, p += pout;
  n->oshape = (nni_out *)p, p += po;
  n->ia = (int64_t *)p, p += pia;
  n->pa = (nni_param *)p;
  memcpy(n->oshape, r->out, po);
  if (pia) memcpy(n->ia, r->ia, pia);
  if (ppa) memcpy(n->pa, r->pa, ppa);
  return n;
}

static nn_status no_memory(nn_context *ctx) { return nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while recording"); }

/* Results without elements need no node. */
static nn_status record_empty(nn_context *ctx, nni_device *dev, const nni_rec *r, nn_tensor **result) {
  for (int i = 0; i < r->nout; i++) {
    void *buf = dev->is->buffer_get(dev, 0);
    result[i] = buf ? nni_tensor_adopt_on(ctx, dev, r->out[i].dtype, r->out[i].ndim, r->out[i].shape, buf) : NULL;
    if (result[i]) continue;
    while (i > 0) nn_release(result[--i]);
    return no_memory(ctx);
  }
  return NN_OK;
}

/* Has a device that is not the host what the node needs? */
static nn_status device_has(nn_context *ctx, const nni_device *dev, const nni_rec *r) {
  bool wide = false;
  for (int i = 0; i < r->nin; i++) wide = wide || (r->in[i] && r->in[i]->dtype == NN_F64);
  for (int i = 0; i < r->nout; i++) wide = wide || r->out[i].dtype == NN_F64;
  if (wide) return nni_fail(&ctx->core.err, NN_EUNSUPPORTED, "f64 is computed on the CPU only, not on %s; convert with :to(\"f32\") or move with :to(\"cpu\")", dev->name);
  if (r->kind == NNI_N_KERNEL && !dev->is->kernel(r->op))
    return nni_fail(&ctx->core.err, NN_EUNSUPPORTED, "%s has no kernel for this operator; move its arguments with :to(\"cpu\")", dev->name);
  return NN_OK;
}

nn_status nni_record(nn_context *ctx, const nni_rec *r, nn_tensor **result) {
  nni_window *w = &ctx->win;
  bool empty = true;
  if (ctx->running) return nni_fail(&ctx->core.err, NN_EINVAL, "an operator was called while a run was going on (from a finalizer?)");
  for (int i = 0; i < r->nin; i++)
    if (r->in[i] && r->in[i]->v->lost) return nni_fail(&ctx->core.err, NN_ELOST, "an argument's value is lost: the run that would have computed it failed");
  for (int i = 0; i < r->nout; i++) {
    int64_t n = 1;
    for (int k = 0; k < r->out[i].ndim; k++) n *= r->out[i].shape[k];
    empty = empty && n == 0;
  }
  nni_device *dev;
  nn_status placed = nni_choose_device(ctx, r->in, r->nin, &dev);
  if (placed == NN_OK && !dev->host) placed = device_has(ctx, dev, r);
  if (placed != NN_OK) return ctx->core.caller ? nni_fail(&ctx->core.err, placed, "%s: %s", ctx->core.caller, ctx->core.err.text) : placed;
  for (int i = 0; i < r->nin && r->kind == NNI_N_KERNEL; i++)
    if (r->in[i] && (r->in[i]->dtype == NN_F16 || r->in[i]->dtype == NN_BF16) && !dev->is->takes(r->op, r->in[i]->dtype))
      return nni_fail(&ctx->core.err, NN_EUNSUPPORTED, "this operator is not available for %s; cast to f32 first", nn_dtype_name(r->in[i]->dtype));
  if (empty) return record_empty(ctx, dev, r, result);
  if (w->n >= NNI_WINDOW_CAP || (w->n > 0 && w->dev != dev)) {
    nn_status st = nni_run(ctx);
    if (st != NN_OK) return st;
  }
  if (w->n == 0) {
    w->dev = dev;
    w->rng = ctx->rng;
    if (r->kind == NNI_N_RANDOM) w->rng = (nn_rng_state){r->pa[0].u, r->pa[1].u}; /* its number was taken already */
  }
  int nkey = w->nkey;
  nn_dtype cd = r->out[0].dtype; /* what the operands are: the result's dtype, but for comparisons, casts and reductions */
  if (r->kind != NNI_N_PW || cd == NN_BOOL)
    for (int i = 0; i < r->nin; i++)
      if (r->in[i]) cd = r->in[i]->dtype;
  nni_node *n = grow(ctx, &w->node, &w->cap, w->n + 1, sizeof *w->node) && put_node(ctx, r, cd) ? node_new(w, r) : NULL;
  if (!n) {
    w->nkey = nkey;
    return no_memory(ctx);
  }
  n->cdtype = cd;
  n->by = ctx->core.caller;
  int made = 0;
  for (; made < r->nout; made++) {
    nni_layout l;
    nni_layout_contiguous(&l, r->out[made].ndim, r->out[made].shape);
    nni_value *v = nni_value_new(ctx, dev, r->out[made].dtype, nni_layout_numel(&l));
    if (!v) break;
    v->refs = 1; /* the node's */
    result[made] = nni_tensor_over(ctx, v, &l);
    if (!result[made]) {
      nni_value_release(ctx, v);
      break;
    }
    v->node = n;
    v->index = w->n;
    v->out = made;
    n->out[made] = v;
  }
  if (made < r->nout) {
    while (made-- > 0) {
      nn_release(result[made]);
      nni_value_release(ctx, n->out[made]);
    }
    w->nkey = nkey;
    return no_memory(ctx);
  }
  for (int i = 0; i < r->nin; i++) n->in[i] = r->in[i] ? nni_window_retain(r->in[i]) : NULL;
  n->line = ctx->line;
  n->param = w->nparam;
  w->nparam += r->npa;
  if (!dev->host) nni_bounds_follow(n);
  w->node[w->n++] = n;
  ctx->info.nodes++;
  if (!ctx->eager && !ctx->check_finite) return NN_OK;
  nn_status st = nni_run(ctx);
  for (int i = 0; st != NN_OK && i < r->nout; i++) nn_release(result[i]);
  return st;
}

/* ---- the end of a window ---- */
static void settle_assigned(nn_context *ctx, bool failed) {
  nni_window *w = &ctx->win;
  for (int i = 0; i < w->nassigned; i++) {
    nn_tensor *t = w->assigned[i], *prev = t->prev;
    t->prev = NULL;
    if (prev && (failed || t->v->lost) && prev->v->data) { /* fall back to what it replaced */
      int32_t ext = t->refs - t->wrefs;
      nni_value *old = t->v;
      t->v = prev->v;
      t->l = prev->l;
      t->v->refs++;
      t->v->ext += ext;
      old->ext -= ext;
      nni_value_release(ctx, old);
    }
    if (prev) nni_window_release(prev);
    nni_window_release(t);
  }
  w->nassigned = 0;
}

void nni_window_drop(nn_context *ctx, bool failed) {
  nni_window *w = &ctx->win;
  for (int i = 0; i < w->n; i++) {
    nni_node *n = w->node[i];
    for (int k = 0; k < n->nout; k++) {
      nni_value *v = n->out[k];
      v->node = NULL;
      if (!v->data) v->lost = true; /* visible only after a failed run */
    }
  }
  settle_assigned(ctx, failed);
  for (int i = 0; i < w->n; i++) {
    nni_node *n = w->node[i];
    for (int k = 0; k < n->nin; k++)
      if (n->in[k]) nni_window_release(n->in[k]);
    for (int k = 0; k < n->nout; k++) nni_value_release(ctx, n->out[k]);
  }
  for (int i = 0; i < w->ninput; i++) nni_value_release(ctx, w->input[i]);
  if (failed && w->n) ctx->rng = w->rng;
  w->n = w->ninput = w->nkey = w->nparam = 0;
  w->stamp++;
  nni_arena_reset(&w->arena);
}

void nni_window_close(nn_context *ctx) {
  nni_window *w = &ctx->win;
  nni_memory *m = ctx->core.mem;
  nni_free(m, w->node, sizeof *w->node * (size_t)w->cap);
  nni_free(m, w->input, sizeof *w->input * (size_t)w->inputcap);
  nni_free(m, w->key, sizeof *w->key * (size_t)w->keycap);
  nni_free(m, w->assigned, sizeof *w->assigned * (size_t)w->assignedcap);
  nni_arena_close(&w->arena);
}

nn_tensor *nn_assign(nn_tensor *prev, nn_tensor *next) {
  nn_context *ctx = prev->ctx;
  nni_window *w = &ctx->win;
  if (prev->v->dev != next->v->dev) { /* a variable stays where it is */
    nn_tensor *moved = nn_to_device(next, prev->v->dev->index), *t = moved ? nn_assign(prev, moved) : NULL;
    nn_release(moved);
    return t;
  }
  if (!nni_layout_same_shape(&prev->l, &next->l) || prev->dtype != next->dtype) {
    char a[150], b[150];
    nn_shape_text(prev, a, sizeof a);
    nn_shape_text(next, b, sizeof b);
    nni_fail(&ctx->core.err, NN_ESHAPE, "assign: %s %s cannot take the place of %s %s", nn_dtype_name(next->dtype), b, nn_dtype_name(prev->dtype), a);
    return NULL;
  }
  bool pending = next->v->node != NULL;
  if (pending && !grow(ctx, &w->assigned, &w->assignedcap, w->nassigned + 1, sizeof *w->assigned)) {
    no_memory(ctx);
    return NULL;
  }
  nn_tensor *t = nni_tensor_view(next, next->dtype, &next->l);
  if (!t) return NULL;
  t->requires_grad = prev->requires_grad;
  t->grad = nn_retain(prev->grad);
  if (pending) {
    t->prev = nni_window_retain(prev);
    w->assigned[w->nassigned++] = nni_window_retain(t);
  }
  return t;
}
