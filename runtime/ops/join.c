/* ops/join.c - joining tensors, and picking slices by position. */
#include "ops.h"

static nn_tensor *move_dim(nni_scope *s, nn_tensor *t, int from, int to) {
  int64_t dims[NN_MAXDIM];
  int n = 0;
  if (!t || from == to) return t;
  for (int i = 0; i < t->l.ndim; i++) {
    if (n == to) dims[n++] = from;
    if (i != from) dims[n++] = i;
  }
  if (n < t->l.ndim) dims[n] = from;
  return nni_do(s, permute, NN_T(t), NN_INTS(t->l.ndim, dims));
}

/* ---- cat, stack ---- */
static nn_status check_join(nni_call *c, int *dim, nni_out *o) {
  int n = c->arg[0].n;
  nn_tensor *const *xs = c->arg[0].u.tensors;
  if (n == 0) return nni_opfail(&c->s, NN_EINVAL, "the list of tensors is empty");
  if (n > 250) return nni_opfail(&c->s, NN_EINVAL, "%d tensors, at most 250 can be joined in one call", n);
  if (!nni_dim(&c->s, c->arg[1].u.i, xs[0]->l.ndim, dim)) return NN_EINVAL;
  *o = nni_like(xs[0]->dtype, xs[0]->l.ndim, xs[0]->l.shape);
  for (int i = 1; i < n; i++) {
    bool ok = xs[i]->l.ndim == o->ndim;
    for (int k = 0; ok && k < o->ndim; k++) ok = k == *dim || xs[i]->l.shape[k] == o->shape[k];
    if (!ok) {
      char a[150], b[150];
      nn_shape_text(xs[0], a, sizeof a);
      nn_shape_text(xs[i], b, sizeof b);
      return nni_opfail(&c->s, NN_ESHAPE, "tensor %d has shape %s, the first has %s; they may differ in dim %d only", i + 1, b, a, *dim + 1);
    }
    o->dtype = nn_dtype_promote(o->dtype, xs[i]->dtype);
    o->shape[*dim] += xs[i]->l.shape[*dim];
  }
  return NN_OK;
}

nn_status nni_rule_cat(nni_call *c) {
  int dim, n = c->arg[0].n;
  nni_out o;
  nn_status st = check_join(c, &dim, &o);
  if (st != NN_OK) return st;
  nn_tensor *in[250], *own[250];
  int nown = 0;
  for (int i = 0; i < n && st == NN_OK; i++) { /* not in the scope: a list may be longer than it */
    in[i] = c->arg[0].u.tensors[i];
    if (in[i]->dtype == o.dtype) continue;
    in[i] = nn_call(c->s.ctx, "cast", NN_T(in[i]), NN_I(o.dtype));
    if (in[i]) own[nown++] = in[i];
    else st = nni_error_of(c->s.ctx)->status;
  }
  int64_t ia = dim;
  if (st == NN_OK)
    st = nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_concat, .nin = n, .in = in, .nia = 1, .ia = &ia, .nout = 1, .out = &o}));
  while (nown > 0) nn_release(own[--nown]);
  return st;
}

nn_status nni_grad_cat(nni_gradcall *g) {
  int dim = 0, nd = g->xs[0].ndim;
  int64_t start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM];
  if (!nni_dim(&g->s, g->arg[1].u.i, nd, &dim)) return NN_EINVAL;
  for (int i = 0; i < nd; i++) step[i] = 1;
  for (int i = 0; i < g->nx; i++) {
    for (int k = 0; k < nd; k++) size[k] = g->xs[i].shape[k];
    if (g->need[i]) {
      g->dxl[i] = nni_do(&g->s, slice, NN_T(g->d[0]), NN_INTS(nd, start), NN_INTS(nd, size), NN_INTS(nd, step));
      if (!g->dxl[i]) return nni_error_of(g->s.ctx)->status;
    }
    start[dim] += size[dim];
  }
  return NN_OK;
}

nn_status nni_rule_stack(nni_call *c) {
  int dim, n = c->arg[0].n;
  nn_tensor *in[100];
  if (n == 0) return nni_opfail(&c->s, NN_EINVAL, "the list of tensors is empty");
  if (n > NNI_COUNT(in)) return nni_opfail(&c->s, NN_EINVAL, "%d tensors, at most %d can be stacked in one call", n, NNI_COUNT(in));
  if (!nni_dim(&c->s, c->arg[1].u.i, c->arg[0].u.tensors[0]->l.ndim + 1, &dim)) return NN_EINVAL;
  for (int i = 0; i < n; i++) {
    in[i] = nni_do(&c->s, unsqueeze, NN_T(c->arg[0].u.tensors[i]), NN_I(dim));
    if (!in[i]) return nni_error_of(c->s.ctx)->status;
  }
  return nni_give(c, nni_do(&c->s, cat, NN_TENSORS(n, in), NN_I(dim)));
}

/* ---- by position ---- */
static nn_status check_index(nni_scope *s, const nn_tensor *ids, int ndim) {
  if (nn_dtype_is_float(ids->dtype) || ids->dtype == NN_BOOL) return nni_opfail(s, NN_EDTYPE, "positions must be integers (i64), got %s", nn_dtype_name(ids->dtype));
  if (ndim >= 0 && ids->l.ndim != ndim) return nni_opfail(s, NN_ESHAPE, "positions must have %d dims, got %d", ndim, ids->l.ndim);
  return NN_OK;
}

nn_status nni_rule_index_select(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t, *ids = c->arg[2].u.t;
  int dim;
  if (!nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &dim)) return NN_EINVAL;
  nn_status st = check_index(&c->s, ids, 1);
  if (st != NN_OK) return st;
  nn_tensor *in[2] = {nni_dense(&c->s, move_dim(&c->s, x, dim, 0)), nni_dense(&c->s, nni_cast(&c->s, ids, NN_I64))};
  if (!in[0] || !in[1]) return nni_error_of(c->s.ctx)->status;
  nni_out o = nni_like(x->dtype, x->l.ndim, in[0]->l.shape);
  o.shape[0] = ids->l.shape[0];
  nn_tensor *y = nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_take_rows, .nin = 2, .in = in, .nout = 1, .out = &o});
  return nni_give(c, move_dim(&c->s, y, 0, dim));
}

nn_status nni_grad_index_select(nni_gradcall *g) {
  int dim;
  if (!nni_dim(&g->s, g->arg[1].u.i, g->xs[0].ndim, &dim)) return NN_EINVAL;
  nn_tensor *d = nni_do(&g->s, add_rows, NN_T(move_dim(&g->s, g->d[0], dim, 0)), NN_T(g->x[1]), NN_I(g->xs[0].shape[dim]));
  g->dx[0] = move_dim(&g->s, d, 0, dim);
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}

nn_status nni_rule_add_rows(nni_call *c) {
  nn_tensor *x = nni_dense(&c->s, nni_real(&c->s, c->arg[0].u.t)), *ids = c->arg[1].u.t;
  nn_status st = check_index(&c->s, ids, 1);
  if (st != NN_OK || !x) return st != NN_OK ? st : nni_error_of(c->s.ctx)->status;
  if (x->l.ndim < 1 || x->l.shape[0] != ids->l.shape[0]) return nni_opfail(&c->s, NN_ESHAPE, "%lld positions for %lld slices", (long long)ids->l.shape[0], (long long)(x->l.ndim ? x->l.shape[0] : 1));
  if (c->arg[2].u.i < 0) return nni_opfail(&c->s, NN_ESHAPE, "rows = %lld is negative", (long long)c->arg[2].u.i);
  nn_tensor *in[2] = {x, nni_dense(&c->s, nni_cast(&c->s, ids, NN_I64))};
  nni_out o = nni_like(x->dtype, x->l.ndim, x->l.shape);
  o.shape[0] = c->arg[2].u.i;
  int64_t ia = o.shape[0];
  return nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_add_rows, .nin = 2, .in = in, .nia = 1, .ia = &ia, .nout = 1, .out = &o}));
}

nn_status nni_grad_add_rows(nni_gradcall *g) {
  g->dx[0] = nni_do(&g->s, index_select, NN_T(g->d[0]), NN_I(0), NN_T(g->x[1]));
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}

nn_tensor *nni_one_hot_mask(nni_scope *s, nn_tensor *ids, int64_t classes) {
  if (check_index(s, ids, -1) != NN_OK) return NULL;
  ids = nni_dense(s, nni_cast(s, ids, NN_I64));
  if (!ids) return NULL;
  nni_out o = nni_like(NN_I64, ids->l.ndim, ids->l.shape);
  nn_tensor *ok = nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_check_ids, .nin = 1, .in = &ids, .nia = 1, .ia = &classes, .nout = 1, .out = &o});
  nn_tensor *range = nni_do(s, arange, NN_F(0), NN_F((double)classes), NN_F(1), NN_I(NN_I64));
  return nni_do(s, eq, NN_T(nni_do(s, unsqueeze, NN_T(ok), NN_I(-1))), NN_T(range));
}

nn_status nni_rule_one_hot(nni_call *c) {
  if (c->arg[1].u.i < 1) return nni_opfail(&c->s, NN_EINVAL, "classes = %lld, at least 1 is needed", (long long)c->arg[1].u.i);
  return nni_give(c, nni_cast(&c->s, nni_one_hot_mask(&c->s, c->arg[0].u.t, c->arg[1].u.i), NN_F32));
}
