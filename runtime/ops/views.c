/* ops/views.c - operators that only change the layout, and those that read or write a box of a tensor. Invariant: a view never copies unless the
** wanted shape can't be expressed by strides. */
#include "ops.h"

static nn_tensor *view(nni_scope *s, nn_tensor *t, const nni_layout *l) { return nni_hold(s, nni_tensor_view(t, t->dtype, l)); }

/* ---- reshape ---- */
nn_status nni_rule_reshape(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  int n = c->arg[1].n, open = -1;
  int64_t shape[NN_MAXDIM], known = 1, total = nn_numel(x), count;
  char a[150], b[150];
  if (n > NN_MAXDIM) return nni_opfail(&c->s, NN_ESHAPE, "%d dims, at most %d are possible", n, NN_MAXDIM);
  for (int i = 0; i < n; i++) {
    shape[i] = c->arg[1].u.ints[i];
    if (shape[i] == -1 && open < 0) open = i;
    else if (shape[i] < 0) return nni_opfail(&c->s, NN_ESHAPE, "size %lld is negative (one size may be -1)", (long long)shape[i]);
  }
  if (open >= 0) {
    shape[open] = 1;
    if (nni_size_mul(shape, n, 1, &known) && known > 0) shape[open] = total / known;
    else shape[open] = 0;
  }
  if (!nni_size_mul(shape, n, 1, &count) || count != total) {
    nn_shape_text(x, a, sizeof a);
    if (open >= 0) shape[open] = -1;
    nni_shape_text(n, shape, b, sizeof b);
    return nni_opfail(&c->s, NN_ESHAPE, "%s (%lld elements) cannot take the shape %s", a, (long long)total, b);
  }
  nni_layout l;
  if (nni_layout_reshape(&x->l, n, shape, &l)) return nni_give(c, view(&c->s, x, &l));
  x = nni_dense(&c->s, x);
  if (!x || !nni_layout_reshape(&x->l, n, shape, &l)) return nni_error_of(c->s.ctx)->status;
  return nni_give(c, view(&c->s, x, &l));
}

nn_status nni_grad_reshape(nni_gradcall *g) {
  g->dx[0] = nni_reshape(&g->s, g->d[0], g->xs[0].ndim, g->xs[0].shape);
  return NN_OK;
}

nn_status nni_rule_flatten(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  int64_t shape[NN_MAXDIM];
  int n = 0, from, to;
  if (x->l.ndim == 0) return nni_give(c, nni_reshape(&c->s, x, 1, (int64_t[]){1}));
  if (!nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &from) || !nni_dim(&c->s, c->arg[2].u.i, x->l.ndim, &to)) return NN_EINVAL;
  if (from > to) return nni_opfail(&c->s, NN_EINVAL, "dim %d comes after dim %d", from + 1, to + 1);
  for (int i = 0; i < x->l.ndim; i++) {
    if (i > from && i <= to) shape[n - 1] *= x->l.shape[i];
    else shape[n++] = x->l.shape[i];
  }
  return nni_give(c, nni_reshape(&c->s, x, n, shape));
}

nn_status nni_rule_squeeze(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  bool on[NN_MAXDIM];
  int64_t shape[NN_MAXDIM];
  int n = 0;
  if (!nni_dims(&c->s, &c->arg[1], x->l.ndim, on)) return NN_EINVAL;
  for (int i = 0; i < x->l.ndim; i++)
    if (!(on[i] && x->l.shape[i] == 1)) shape[n++] = x->l.shape[i];
  return nni_give(c, nni_reshape(&c->s, x, n, shape));
}

nn_status nni_rule_unsqueeze(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  int64_t shape[NN_MAXDIM];
  int d;
  if (x->l.ndim == NN_MAXDIM) return nni_opfail(&c->s, NN_ESHAPE, "the tensor has %d dims already", NN_MAXDIM);
  if (!nni_dim(&c->s, c->arg[1].u.i, x->l.ndim + 1, &d)) return NN_EINVAL;
  for (int i = 0; i <= x->l.ndim; i++) shape[i] = i < d ? x->l.shape[i] : i == d ? 1 : x->l.shape[i - 1];
  return nni_give(c, nni_reshape(&c->s, x, x->l.ndim + 1, shape));
}

/* ---- permute ---- */
nn_status nni_rule_transpose(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  int64_t dims[NN_MAXDIM];
  int a, b;
  if (!nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &a) || !nni_dim(&c->s, c->arg[2].u.i, x->l.ndim, &b)) return NN_EINVAL;
  for (int i = 0; i < x->l.ndim; i++) dims[i] = i == a ? b : i == b ? a : i;
  return nni_give(c, nni_do(&c->s, permute, NN_T(x), NN_INTS(x->l.ndim, dims)));
}

nn_status nni_rule_permute(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  bool on[NN_MAXDIM];
  nni_layout l = {.ndim = x->l.ndim, .offset = x->l.offset};
  int n = c->arg[1].kind == NN_ARG_INTS ? c->arg[1].n : 1;
  const int64_t *dims = c->arg[1].kind == NN_ARG_INTS ? c->arg[1].u.ints : &c->arg[1].u.i;
  if (n != x->l.ndim) return nni_opfail(&c->s, NN_EINVAL, "%d dims are named, the tensor has %d", n, x->l.ndim);
  if (!nni_dims(&c->s, &c->arg[1], x->l.ndim, on)) return NN_EINVAL;
  for (int i = 0; i < n; i++) {
    int d = (int)(dims[i] < 0 ? dims[i] + n : dims[i]);
    l.shape[i] = x->l.shape[d];
    l.stride[i] = x->l.stride[d];
  }
  return nni_give(c, view(&c->s, x, &l));
}

nn_status nni_grad_permute(nni_gradcall *g) {
  int n = g->xs[0].ndim;
  int64_t back[NN_MAXDIM];
  const int64_t *dims = g->arg[1].kind == NN_ARG_INTS ? g->arg[1].u.ints : &g->arg[1].u.i;
  for (int i = 0; i < n; i++) back[dims[i] < 0 ? dims[i] + n : dims[i]] = i;
  g->dx[0] = nni_do(&g->s, permute, NN_T(g->d[0]), NN_INTS(n, back));
  return NN_OK;
}

/* ---- expand ---- */
nn_status nni_rule_expand(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  int n = c->arg[1].n, lead = n - x->l.ndim;
  int64_t shape[NN_MAXDIM], count;
  nni_layout l;
  if (n > NN_MAXDIM) return nni_opfail(&c->s, NN_ESHAPE, "%d dims, at most %d are possible", n, NN_MAXDIM);
  for (int i = 0; i < n; i++) {
    shape[i] = c->arg[1].u.ints[i];
    if (shape[i] == -1 && i >= lead) shape[i] = x->l.shape[i - lead];
  }
  if (!nni_size_mul(shape, n, nn_dtype_size(x->dtype), &count) || !nni_layout_expand(&x->l, n, shape, &l)) {
    char a[150], b[150];
    nn_shape_text(x, a, sizeof a);
    nni_shape_text(n, shape, b, sizeof b);
    return nni_opfail(&c->s, NN_ESHAPE, "%s cannot be expanded to %s", a, b);
  }
  return nni_give(c, view(&c->s, x, &l));
}

nn_status nni_grad_expand(nni_gradcall *g) {
  g->dx[0] = g->d[0]; /* grad.c sums what was broadcast */
  return NN_OK;
}

/* ---- boxes ---- */
static nn_status box_of(nni_scope *s, const nn_tensor *x, const nn_arg *arg, nni_layout *l) {
  int n = x->l.ndim;
  if (arg[0].n != n || arg[1].n != n || arg[2].n != n) return nni_opfail(s, NN_EINVAL, "start, size and step need one entry for each of %d dims", n);
  *l = (nni_layout){.ndim = n, .offset = x->l.offset};
  for (int i = 0; i < n; i++) {
    int64_t start = arg[0].u.ints[i], size = arg[1].u.ints[i], step = arg[2].u.ints[i];
    if (size < 0 || size > x->l.shape[i] || step == 0) return nni_opfail(s, NN_EINDEX, "size %lld, step %lld in dim %d", (long long)size, (long long)step, i + 1);
    int64_t last = start;
    bool bad = size > 0 && (start < 0 || start >= x->l.shape[i] || __builtin_mul_overflow(size - 1, step, &last) || __builtin_add_overflow(last, start, &last) ||
                            last < 0 || last >= x->l.shape[i]);
    if (bad) return nni_opfail(s, NN_EINDEX, "positions %lld..%lld are outside of dim %d, which has size %lld", (long long)start + 1, (long long)last + 1, i + 1, (long long)x->l.shape[i]);
    l->shape[i] = size;
    l->stride[i] = x->l.stride[i] * step;
    if (size > 0) l->offset += start * x->l.stride[i];
  }
  return NN_OK;
}

nn_status nni_rule_slice(nni_call *c) {
  nni_layout l;
  nn_status st = box_of(&c->s, c->arg[0].u.t, &c->arg[1], &l);
  return st == NN_OK ? nni_give(c, view(&c->s, c->arg[0].u.t, &l)) : st;
}

/* Many boxes may be cut from one tensor: the first gradient is laid into zeros, the others are added in place, each touching its box only. */
nn_status nni_grad_slice(nni_gradcall *g) {
  if (g->sum) {
    g->summed = true;
    g->dx[0] = nni_do(&g->s, slice_add, NN_T(g->sum), NN_T(g->d[0]), g->arg[1], g->arg[2], g->arg[3]);
    return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
  }
  nn_tensor *zero = nni_do(&g->s, full, NN_INTS(g->xs[0].ndim, g->xs[0].shape), NN_F(0), NN_I(g->xs[0].dtype));
  g->dx[0] = nni_do(&g->s, slice_set, NN_T(zero), NN_T(g->d[0]), g->arg[1], g->arg[2], g->arg[3]);
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}

static nn_status record_box(nni_call *c, int kernel) {
  nn_tensor *x = c->arg[0].u.t, *v = nni_cast(&c->s, c->arg[1].u.t, x->dtype);
  nn_tensor *base = nni_dense(&c->s, x);
  nni_layout box, e;
  if (!v || !base) return nni_error_of(c->s.ctx)->status;
  nn_status st = box_of(&c->s, base, &c->arg[2], &box);
  if (st != NN_OK) return st;
  if (!nni_layout_expand(&v->l, box.ndim, box.shape, &e)) {
    char a[150], b[150];
    nn_shape_text(v, a, sizeof a);
    nni_shape_text(box.ndim, box.shape, b, sizeof b);
    return nni_opfail(&c->s, NN_ESHAPE, "a value of shape %s does not fit a box of shape %s", a, b);
  }
  if (nni_layout_numel(&box) == 0) return nni_give(c, x);
  int64_t ia[1 + NN_MAXDIM];
  ia[0] = box.offset - base->l.offset;
  for (int i = 0; i < box.ndim; i++) ia[1 + i] = box.stride[i];
  nn_tensor *in[2] = {base, nni_hold(&c->s, nni_tensor_view(v, v->dtype, &e))};
  nni_out o = nni_like(x->dtype, x->l.ndim, x->l.shape);
  return nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_KERNEL, .op = kernel, .nin = 2, .in = in, .nia = 1 + box.ndim, .ia = ia, .nout = 1, .out = &o}));
}

nn_status nni_rule_slice_set(nni_call *c) { return record_box(c, NNI_K_slice_set); }

nn_status nni_rule_slice_add(nni_call *c) {
  nn_dtype d = c->arg[0].u.t->dtype;
  if (nn_dtype_is_float(d) || d == NN_I32 || d == NN_I64) return record_box(c, NNI_K_slice_add);
  return nni_opfail(&c->s, NN_EDTYPE, "adds floats, i64 or i32, not %s", nn_dtype_name(d));
}

nn_status nni_grad_slice_add(nni_gradcall *g) {
  g->dx[0] = g->d[0];
  if (g->need[1]) g->dx[1] = nni_do(&g->s, slice, NN_T(g->d[0]), g->arg[2], g->arg[3], g->arg[4]);
  return g->need[1] && !g->dx[1] ? nni_error_of(g->s.ctx)->status : NN_OK;
}

nn_status nni_grad_slice_set(nni_gradcall *g) {
  if (g->need[0]) {
    nn_tensor *zero = nni_do(&g->s, full, NN_INTS(0, NULL), NN_F(0), NN_I(NN_F32));
    g->dx[0] = nni_do(&g->s, slice_set, NN_T(g->d[0]), NN_T(zero), g->arg[2], g->arg[3], g->arg[4]);
  }
  if (g->need[1]) g->dx[1] = nni_do(&g->s, slice, NN_T(g->d[0]), g->arg[2], g->arg[3], g->arg[4]);
  return (g->need[0] && !g->dx[0]) || (g->need[1] && !g->dx[1]) ? nni_error_of(g->s.ctx)->status : NN_OK;
}

/* ---- copies ---- */
nn_status nni_rule_contiguous(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  if (nni_layout_is_contiguous(&x->l)) return nni_give(c, x);
  nni_out o = nni_like(x->dtype, x->l.ndim, x->l.shape);
  return nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_copy, .nin = 1, .in = &x, .nout = 1, .out = &o}));
}

nn_status nni_grad_contiguous(nni_gradcall *g) {
  g->dx[0] = g->d[0];
  return NN_OK;
}

nn_status nni_rule_cast(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  nn_dtype d = (nn_dtype)c->arg[1].u.i;
  if (c->arg[1].u.i < 0 || d >= NN_NDTYPE) return nni_opfail(&c->s, NN_EDTYPE, "unknown dtype %lld", (long long)c->arg[1].u.i);
  if (d == x->dtype) return nni_give(c, x);
  nni_out o = nni_like(d, x->l.ndim, x->l.shape);
  return nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_CAST, .nin = 1, .in = &x, .nout = 1, .out = &o}));
}

nn_status nni_grad_cast(nni_gradcall *g) {
  g->dx[0] = g->d[0]; /* grad.c converts to the argument's dtype */
  return NN_OK;
}
