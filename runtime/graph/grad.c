/* graph/grad.c - calling operators with history, and reverse-mode differentiation.
**
** A tape entry keeps what the gradient of one call needs: its arguments (only those the gradient uses), its results' values, and edges to the entries or leaves its
** arguments came from. Backward walks entries from the newest to the oldest; each gradient records operators. Accumulation and un-broadcasting happen here only.
*/
#include <stdlib.h>
#include "graph.h"

/* ---- calling ---- */
static bool wants_grad(const nn_arg *arg, int n) {
  for (int i = 0; i < n; i++) {
    if (arg[i].kind == NN_ARG_TENSOR && (arg[i].u.t->requires_grad || arg[i].u.t->tape)) return true;
    if (arg[i].kind == NN_ARG_TENSORS)
      for (int k = 0; k < arg[i].n; k++)
        if (arg[i].u.tensors[k]->requires_grad || arg[i].u.tensors[k]->tape) return true;
  }
  return false;
}

static nn_status run_rule(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout) {
  nni_call c;
  c.s.ctx = ctx;
  c.s.op = op;
  c.s.ntmp = 0;
  c.s.failed = false;
  c.nout = 0;
  memcpy(c.arg, arg, sizeof(nn_arg) * (size_t)nargs);
  for (int i = nargs; i < NN_MAXARG; i++) c.arg[i] = NN_NONE;
  nn_status st = op->rule(&c);
  nni_scope_close(&c.s);
  *nout = 0;
  if (st != NN_OK) {
    for (int i = 0; i < c.nout; i++) nn_release(c.out[i]);
    return st;
  }
  for (int i = 0; i < c.nout; i++) out[i] = c.out[i];
  *nout = c.nout;
  return NN_OK;
}

static nn_status tape_add(nn_context *ctx, const nn_op *op, const nn_arg *arg, int given, nn_tensor **out, int nout);
static nn_status apply(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout) {
  nn_status st;
  if (op->rule && nni_wants_wider(op, arg, nargs)) return nni_apply_wider(ctx, op, arg, nargs, out, nout);
  bool tape = ctx->no_tape == 0 && ctx->grad_enabled && op->grad_own && wants_grad(arg, nargs);
  if (!op->rule) {
    ctx->no_tape++; /* the casts a pointwise rule records belong to it */
    st = nni_pw_rule(ctx, op, arg, nargs, out);
    ctx->no_tape--;
    *nout = st == NN_OK;
  } else {
    if (op->grad_own) ctx->no_tape++;
    st = run_rule(ctx, op, arg, nargs, out, nout);
    if (op->grad_own) ctx->no_tape--;
  }
  if (st != NN_OK || !tape || !nn_dtype_is_float(out[0]->dtype)) return st;
  /* a rule that changes nothing (a reshape to the same shape) may return its argument: history needs a tensor of its own */
  for (int k = 0; k < *nout; k++)
    if (out[k]->tape || out[k]->requires_grad || out[k]->refs - out[k]->wrefs > 1) {
      nn_tensor *v = nni_tensor_view(out[k], out[k]->dtype, &out[k]->l);
      if (!v) st = NN_ENOMEM;
      else nn_release(out[k]), out[k] = v;
    }
  if (st == NN_OK) st = tape_add(ctx, op, arg, nni_op_sig(op)->n, out, *nout);
  if (st == NN_OK) return st;
  for (int k = 0; k < *nout; k++) nn_release(out[k]);
  *nout = 0;
  return st;
}

nn_status nni_apply(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout) {
  nn_status st;
  nni_device *outer = ctx->among, *here = ctx->several ? nni_device_among(arg, nargs) : NULL;
  if (here) ctx->among = here; /* what the rule creates lies where its arguments lie */
  st = apply(ctx, op, arg, nargs, out, nout);
  ctx->among = outer;
  return st;
}

/* ---- tape entries ---- */
static void retain(nni_tape *t) { t->refs++; }

static void drop_saved(nn_context *ctx, nni_tape *t) {
  for (int i = 0; i < t->nedge; i++) {
    nn_release(t->edge[i].saved);
    t->edge[i].saved = NULL;
  }
  for (int i = 0; i < t->nout; i++)
    if (t->res[i].v) {
      t->res[i].v->ext--;
      nni_value_release(ctx, t->res[i].v);
      t->res[i].v = NULL;
    }
}

static void tape_free(nn_context *ctx, nni_tape *t, nni_tape **chain) {
  drop_saved(ctx, t);
  for (int i = 0; i < t->nedge; i++) {
    nn_release(t->edge[i].leaf);
    nni_tape *from = t->edge[i].tape;
    if (from && --from->refs == 0) { /* freed later from the list: a deep history must not recurse */
      from->arg = (nn_arg *)(void *)*chain;
      *chain = from;
    }
  }
  for (int i = 0; i < t->nout; i++) nn_release(t->res[i].d);
  if (t->custom.release) t->custom.release(t->custom.ud);
  nni_free(ctx->core.mem, t, t->bytes);
}

void nni_tape_release(nn_context *ctx, nni_tape *t) {
  if (--t->refs > 0) return;
  nni_tape *chain = NULL;
  tape_free(ctx, t, &chain);
  while (chain) {
    nni_tape *next = chain;
    chain = (nni_tape *)(void *)next->arg;
    tape_free(ctx, next, &chain);
  }
}

static void set_edge(nni_edge *e, nn_tensor *t, bool save) {
  *e = (nni_edge){.dtype = t->dtype, .ndim = t->l.ndim};
  memcpy(e->shape, t->l.shape, sizeof(int64_t) * (size_t)t->l.ndim);
  if (t->tape) {
    e->tape = t->tape;
    retain(t->tape);
    e->out = t->out;
    e->need = true;
  } else if (t->requires_grad) {
    e->leaf = nn_retain(t);
    e->need = true;
  }
  if (save) e->saved = nn_retain(t);
}

static nn_status tape_add(nn_context *ctx, const nn_op *op, const nn_arg *arg, int given, nn_tensor **out, int nout) {
  int nargs = given < 4 ? 4 : given, nedge = 0, nints = 0;
  for (int i = 0; i < given; i++) {
    if (arg[i].kind == NN_ARG_TENSOR) nedge++;
    else if (arg[i].kind == NN_ARG_TENSORS) nedge += arg[i].n;
    else if (arg[i].kind == NN_ARG_INTS) nints += arg[i].n;
  }
  size_t bytes = sizeof(nni_tape) + sizeof(nni_edge) * (size_t)nedge + sizeof(nn_arg) * (size_t)nargs + sizeof *((nni_tape *)0)->res * (size_t)nout +
                 sizeof(int64_t) * (size_t)nints;
  nni_tape *t = nni_malloc(ctx->core.mem, bytes);
  if (!t) return nni_fail(&ctx->core.err, NN_ENOMEM, "%s: out of memory", op->name);
  *t = (nni_tape){.refs = nout, .seq = ++ctx->tape_seq, .bytes = bytes, .op = op, .nargs = nargs, .nedge = nedge, .nout = nout};
  t->edge = (nni_edge *)(t + 1);
  t->arg = (nn_arg *)(t->edge + nedge);
  t->res = (void *)(t->arg + nargs);
  int64_t *ints = (int64_t *)(t->res + nout);
  int e = 0, declared = 0; /* SAVES counts the tensors of the signature, of which a call may give some as numbers */
  for (int i = 0; i < nargs; i++) {
    t->arg[i] = i < given ? arg[i] : NN_NONE;
    nn_arg *a = &t->arg[i];
    if (a->kind == NN_ARG_TENSOR) {
      set_edge(&t->edge[e++], a->u.t, declared < 4 && (op->saves >> declared & 1));
      a->u.t = NULL;
    } else if (a->kind == NN_ARG_TENSORS) {
      for (int k = 0; k < a->n; k++) set_edge(&t->edge[e++], a->u.tensors[k], false);
      a->u.tensors = NULL;
    } else if (a->kind == NN_ARG_INTS && a->n) {
      memcpy(ints, a->u.ints, sizeof(int64_t) * (size_t)a->n);
      a->u.ints = ints;
      ints += a->n;
    }
    declared += i < nni_op_sig(op)->n && nni_op_sig(op)->p[i].type <= NNI_A_TL;
  }
  for (int k = 0; k < nout; k++) {
    t->res[k].v = NULL;
    t->res[k].d = NULL;
    t->res[k].l = out[k]->l;
    if (k < 3 && (op->saves & NNI_SY << k)) {
      t->res[k].v = out[k]->v;
      out[k]->v->refs++;
      out[k]->v->ext++;
    }
    out[k]->tape = t;
    out[k]->out = (uint8_t)k;
  }
  return NN_OK;
}

/* ---- gradients of the caller's own ---- */
static nn_status custom_grad(nni_gradcall *g) {
  nn_tensor *d[NN_MAXOUT];
  int nout = (int)g->arg[1].u.i;
  for (int i = 0; i < nout; i++) d[i] = g->d[i];
  for (int i = 0; i < nout; i++) { /* a result nobody used has a zero cotangent */
    const nn_arg *shape = &g->arg[2 + i];
    if (!d[i]) d[i] = nni_do(&g->s, full, *shape, NN_F(0), NN_I(NN_F32));
    if (!d[i]) return g->s.ctx ? nni_error_of(g->s.ctx)->status : NN_EINTERNAL;
  }
  nn_status st = g->custom->backward(g->custom->ud, g->s.ctx, d, nout, g->dxl, g->nx);
  for (int i = 0; i < g->nx; i++)
    if (g->dxl[i] && !nni_hold(&g->s, g->dxl[i])) st = NN_EINTERNAL;
  for (int i = 0; i < g->nx && st == NN_OK; i++) {
    nni_layout want;
    nni_layout_contiguous(&want, g->xs[i].ndim, g->xs[i].shape);
    if (!g->dxl[i] || nni_layout_same_shape(&g->dxl[i]->l, &want)) continue;
    char a[150], b[150];
    nn_shape_text(g->dxl[i], a, sizeof a);
    nni_shape_text(want.ndim, want.shape, b, sizeof b);
    st = nni_fail(nni_error_of(g->s.ctx), NN_ESHAPE, "custom: the gradient of argument %d has shape %s, the argument has %s", i + 1, a, b);
  }
  return st;
}

nn_status nn_record_custom(nn_context *ctx, const nn_custom *f, nn_tensor *const *in, int nin, nn_tensor **out, int nout) {
  static const nn_op op = {.name = "custom", .grad_own = true, .grad = custom_grad};
  nn_arg arg[2 + NN_MAXOUT] = {NN_TENSORS(nin, in), NN_I(nout)};
  if (nout < 1 || nout > NN_MAXOUT || nin > NNI_MAXTMP / 2) {
    if (f->release) f->release(f->ud);
    return nni_fail(&ctx->core.err, NN_EINVAL, "custom: %d results of %d arguments; 1..%d of at most %d are possible", nout, nin, NN_MAXOUT, NNI_MAXTMP / 2);
  }
  if (!ctx->grad_enabled || !wants_grad(arg, 1)) {
    if (f->release) f->release(f->ud);
    return NN_OK;
  }
  nn_status st = NN_OK;
  for (int i = 0; i < nout && st == NN_OK; i++) {
    nn_tensor *v = nn_dtype_is_float(out[i]->dtype) ? nni_tensor_view(out[i], out[i]->dtype, &out[i]->l) : NULL;
    if (!v) st = nn_dtype_is_float(out[i]->dtype) ? NN_ENOMEM : nni_fail(&ctx->core.err, NN_EDTYPE, "custom: results must be floats");
    else nn_release(out[i]), out[i] = v;
    arg[2 + i] = NN_INTS(out[i]->l.ndim, out[i]->l.shape);
  }
  if (st == NN_OK) st = tape_add(ctx, &op, arg, 2 + nout, out, nout);
  if (st == NN_OK) out[0]->tape->custom = *f;
  else if (f->release) f->release(f->ud);
  return st;
}

nn_status nn_fail(nn_context *ctx, nn_status s, const char *message) { return nni_fail(&ctx->core.err, s, "%s", message); }

/* ---- leaves ---- */
nn_tensor *nn_variable(nn_tensor *t) {
  if (!nn_dtype_is_float(t->dtype)) {
    nni_fail(&t->ctx->core.err, NN_EDTYPE, "requires_grad: only tensors of floats can have a gradient, this one is %s", nn_dtype_name(t->dtype));
    return NULL;
  }
  nn_tensor *v = nni_tensor_view(t, t->dtype, &t->l);
  if (v) v->requires_grad = true;
  return v;
}
bool nn_requires_grad(const nn_tensor *t) { return t->requires_grad || t->tape; }
nn_tensor *nn_detach(nn_tensor *t) { return nni_tensor_view(t, t->dtype, &t->l); }
nn_tensor *nn_grad_of(nn_tensor *leaf) { return leaf->grad; }
void nn_set_grad(nn_tensor *leaf, nn_tensor *grad) {
  nn_retain(grad);
  nn_release(leaf->grad);
  leaf->grad = grad;
}

/* ---- backward ---- */
typedef struct walk {
  nn_context *ctx;
  nni_tape **list; /* reachable entries, newest first */
  int n, cap;
  nn_tensor *const *want; /* nn_grad: gradients of these; NULL: into every leaf */
  int nwant;
  nn_tensor **got;
} walk;

static bool push(walk *w, nni_tape *t) {
  if (t->mark == w->ctx->tape_mark) return true;
  if (w->n == w->cap) {
    int cap = w->cap ? w->cap * 2 : 128;
    nni_tape **p = nni_realloc(w->ctx->core.mem, w->list, sizeof *p * (size_t)w->cap, sizeof *p * (size_t)cap);
    if (!p) return false;
    w->list = p;
    w->cap = cap;
  }
  t->mark = w->ctx->tape_mark;
  w->list[w->n++] = t;
  retain(t);
  return true;
}

static int newest_first(const void *a, const void *b) {
  uint64_t x = (*(nni_tape *const *)a)->seq, y = (*(nni_tape *const *)b)->seq;
  return x < y ? 1 : x > y ? -1 : 0;
}

/* *slot += d */
static nn_status accumulate(nn_context *ctx, nn_tensor **slot, nn_tensor *d) {
  if (!*slot) {
    *slot = nn_retain(d);
    return NN_OK;
  }
  const nn_arg arg[2] = {NN_T(*slot), NN_T(d)};
  nn_tensor *sum[NN_MAXOUT];
  int n;
  nn_status st = nni_apply(ctx, nni_op_row(NNI_OP_add), arg, 2, sum, &n);
  if (st != NN_OK) return st;
  nn_release(*slot);
  *slot = sum[0];
  return NN_OK;
}

static void replace(nn_tensor **slot, nn_tensor *d) {
  nn_retain(d);
  nn_release(*slot);
  *slot = d;
}

static nn_status deliver(walk *w, nni_edge *e, nn_tensor *d) {
  nn_context *ctx = w->ctx;
  if (e->tape) return accumulate(ctx, &e->tape->res[e->out].d, d);
  for (int i = 0; i < w->nwant; i++)
    if (w->want[i] == e->leaf) return accumulate(ctx, &w->got[i], d);
  if (w->want) return NN_OK;
  return accumulate(ctx, &e->leaf->grad, d);
}

static nn_status differentiate(walk *w, nni_tape *t) {
  nn_context *ctx = w->ctx;
  nn_tensor *y[NN_MAXOUT] = {0}, *d[NN_MAXOUT];
  size_t n = (size_t)t->nedge, bytes = n * (2 * sizeof(void *) + sizeof(bool) + sizeof(nni_out)) + 64;
  char *block = nni_calloc(ctx->core.mem, bytes);
  if (!block) return nni_fail(&ctx->core.err, NN_ENOMEM, "%s: out of memory", t->op->name);
  nn_tensor **x = (nn_tensor **)(void *)block, **dx = x + n;
  nni_out *xs = (nni_out *)(void *)(dx + n);
  bool *need = (bool *)(xs + n);
  nn_status st = NN_OK;
  for (int i = 0; i < t->nedge; i++) {
    x[i] = t->edge[i].saved;
    need[i] = t->edge[i].need;
    xs[i] = nni_like(t->edge[i].dtype, t->edge[i].ndim, t->edge[i].shape);
  }
  for (int i = 0; i < t->nout; i++) {
    d[i] = t->res[i].d;
    if (!t->res[i].v || st != NN_OK) continue;
    y[i] = nni_tensor_over(ctx, t->res[i].v, &t->res[i].l);
    if (!y[i]) st = NN_ENOMEM;
    else y[i]->tape = t, y[i]->out = (uint8_t)i, retain(t);
  }
  nni_gradcall g = {.s = {.ctx = ctx, .op = t->op, .ntmp = 0}, .arg = t->arg, .x = x, .y = y, .d = d, .need = need, .xs = xs, .nx = t->nedge, .custom = &t->custom, .dxl = dx};
  if (t->nedge > 0 && t->edge[0].tape) g.sum = t->edge[0].tape->res[t->edge[0].out].d;
  nni_device *outer = ctx->among;
  for (int i = 0; i < t->nout; i++)
    if (d[i]) ctx->among = d[i]->v->dev;
  if (st == NN_OK) st = t->op->grad(&g);
  if (st == NN_OK && g.s.failed) st = ctx->core.err.status;
  for (int i = 0; st == NN_OK && i < t->nedge; i++) {
    if (!need[i]) continue;
    nn_tensor *r = dx[i] ? dx[i] : i < NN_MAXARG ? g.dx[i] : NULL;
    if (!r) continue;
    r = nni_unbroadcast(&g.s, nni_cast(&g.s, r, xs[i].dtype), xs[i].ndim, xs[i].shape);
    if (!r) st = ctx->core.err.status;
    else if (i == 0 && g.summed) replace(&t->edge[0].tape->res[t->edge[0].out].d, r);
    else st = deliver(w, &t->edge[i], r);
  }
  ctx->among = outer;
  nni_scope_close(&g.s);
  for (int i = 0; i < t->nout; i++) nn_release(y[i]);
  nni_free(ctx->core.mem, block, bytes);
  return st;
}

static nn_status seed(walk *w, nn_tensor *out, nn_tensor *dout) {
  nn_context *ctx = w->ctx;
  nn_tensor *d = nn_retain(dout);
  if (!d) {
    if (nn_numel(out) != 1) {
      char s[150];
      nn_shape_text(out, s, sizeof s);
      return nni_fail(&ctx->core.err, NN_ESHAPE, "backward: the loss must be a scalar, its shape is %s; reduce it (mean, sum) or give a cotangent of its shape", s);
    }
    nni_device *outer = ctx->among;
    ctx->among = out->v->dev;
    d = nn_call(ctx, "full", NN_INTS(out->l.ndim, out->l.shape), NN_F(1), NN_I(out->dtype));
    ctx->among = outer;
    if (!d) return ctx->core.err.status;
  } else if (!nni_layout_same_shape(&d->l, &out->l)) {
    char a[150], b[150];
    nn_shape_text(d, a, sizeof a);
    nn_shape_text(out, b, sizeof b);
    nn_release(d);
    return nni_fail(&ctx->core.err, NN_ESHAPE, "backward: the cotangent's shape is %s, the result's %s", a, b);
  }
  nn_status st = NN_OK;
  for (int i = 0; i < w->nwant; i++)
    if (w->want[i] == out) st = accumulate(ctx, &w->got[i], d);
  if (st == NN_OK && out->tape) st = accumulate(ctx, &out->tape->res[out->out].d, d);
  else if (st == NN_OK && !w->want) st = accumulate(ctx, &out->grad, d);
  nn_release(d);
  return st;
}

static nn_status walk_all(walk *w, bool retain) {
  nn_context *ctx = w->ctx;
  nn_status st = NN_OK;
  for (int i = 0; i < w->n && st == NN_OK; i++) {
    nni_tape *t = w->list[i];
    bool any = false;
    for (int k = 0; k < t->nout; k++) any = any || t->res[k].d;
    for (int k = 0; st == NN_OK && k < w->nwant; k++) /* the gradient of an inner result is complete when its entry is reached */
      if (w->want[k]->tape == t && t->res[w->want[k]->out].d) st = accumulate(ctx, &w->got[k], t->res[w->want[k]->out].d);
    if (!any || st != NN_OK) continue;
    if (t->freed) st = nni_fail(&ctx->core.err, NN_EINVAL, "backward: this history was freed by an earlier backward; call that one with retain_graph = true");
    else st = differentiate(w, t);
  }
  for (int i = 0; i < w->n; i++) {
    nni_tape *t = w->list[i];
    for (int k = 0; k < t->nout; k++) {
      nn_release(t->res[k].d);
      t->res[k].d = NULL;
    }
    if (!retain && st == NN_OK) {
      drop_saved(ctx, t);
      t->freed = true;
    }
  }
  return st;
}

static nn_status differentiate_all(walk *w, nn_tensor *const *outputs, nn_tensor *const *douts, int nout, bool retain, bool create) {
  nn_context *ctx = w->ctx;
  nn_status st = NN_OK;
  bool was = nn_set_grad_enabled(ctx, create);
  ctx->tape_mark++;
  for (int i = 0; i < nout && st == NN_OK; i++) {
    if (!nn_requires_grad(outputs[i])) st = nni_fail(&ctx->core.err, NN_EINVAL, "backward: the result does not depend on anything that requires a gradient");
    else if (outputs[i]->tape && !push(w, outputs[i]->tape)) st = nni_fail(&ctx->core.err, NN_ENOMEM, "backward: out of memory");
  }
  for (int i = 0; i < w->n && st == NN_OK; i++)
    for (int k = 0; k < w->list[i]->nedge && st == NN_OK; k++)
      if (w->list[i]->edge[k].tape && !push(w, w->list[i]->edge[k].tape)) st = nni_fail(&ctx->core.err, NN_ENOMEM, "backward: out of memory");
  if (w->n > 1) qsort(w->list, (size_t)w->n, sizeof *w->list, newest_first);
  for (int i = 0; i < nout && st == NN_OK; i++) st = seed(w, outputs[i], douts ? douts[i] : NULL);
  if (st == NN_OK) st = walk_all(w, retain || create);
  else
    for (int i = 0; i < w->n; i++)
      for (int k = 0; k < w->list[i]->nout; k++) {
        nn_release(w->list[i]->res[k].d);
        w->list[i]->res[k].d = NULL;
      }
  for (int i = 0; i < w->n; i++) nni_tape_release(ctx, w->list[i]);
  nni_free(ctx->core.mem, w->list, sizeof *w->list * (size_t)w->cap);
  nn_set_grad_enabled(ctx, was);
  return st;
}

nn_status nn_backward(nn_tensor *loss, nn_tensor *dloss, bool retain_graph, bool create_graph) {
  walk w = {.ctx = loss->ctx};
  return differentiate_all(&w, &loss, dloss ? &dloss : NULL, 1, retain_graph, create_graph);
}

nn_status nn_grad(nn_tensor *const *outputs, nn_tensor *const *douts, int nout, nn_tensor *const *inputs, int nin, bool retain_graph, bool create_graph,
                  nn_tensor **grads) {
  for (int i = 0; i < nin; i++) grads[i] = NULL;
  if (nout < 1) return NN_OK;
  walk w = {.ctx = outputs[0]->ctx, .want = inputs, .nwant = nin, .got = grads};
  nn_status st = differentiate_all(&w, outputs, douts, nout, retain_graph, create_graph);
  for (int i = 0; st != NN_OK && i < nin; i++) {
    nn_release(grads[i]);
    grads[i] = NULL;
  }
  return st;
}
