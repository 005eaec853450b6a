/* ops/reduce.c - reductions over any set of dims, and what is made of them (variance, softmax, ...).
**
** Trailing dims are reduced by a row program (so a reduction fuses with what surrounds it), a block of dims further left by the structural kernel, scattered dims are
** moved to the end first. `reduce` is the only place that decides this.
*/
#include <math.h>
#include "ops.h"


static bool is_position(int red) { return red == NNI_RED_rargmax || red == NNI_RED_rargmin; }

/* x (outer, n, inner) -> (outer, inner) */
static nn_tensor *reduce_block(nni_scope *s, nn_tensor *x, int red, int64_t outer, int64_t n, int64_t inner) {
  nn_dtype d = is_position(red) ? NN_I64 : x ? x->dtype : NN_F32;
  if (inner == 1 && n <= NNI_LONGEST_ROW) {
    nn_tensor *v = nni_reshape(s, x, 2, (int64_t[]){outer, n});
    nni_out o = nni_like(d, 1, &outer);
    return nni_rec1(s, &(nni_rec){.kind = NNI_N_REDUCE, .op = red, .nin = 1, .in = &v, .nout = 1, .out = &o});
  }
  x = nni_dense(s, x);
  nni_out o = nni_like(d, 2, (int64_t[]){outer, inner});
  const int64_t ia[4] = {red, outer, n, inner};
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_reduce, .nin = 1, .in = &x, .nia = 4, .ia = ia, .nout = 1, .out = &o});
}

/* reduced dims to the end */
static nn_tensor *gather_dims(nni_scope *s, nn_tensor *x, const bool *on) {
  int64_t dims[NN_MAXDIM];
  int k = 0;
  for (int i = 0; i < x->l.ndim; i++)
    if (!on[i]) dims[k++] = i;
  for (int i = 0; i < x->l.ndim; i++)
    if (on[i]) dims[k++] = i;
  return nni_do(s, permute, NN_T(x), NN_INTS(x->l.ndim, dims));
}

static nn_tensor *reduce(nni_scope *s, nn_tensor *x, int red, const bool *on, bool keep) {
  if (!x) return NULL;
  int64_t outer = 1, n = 1, inner = 1, shape[NN_MAXDIM];
  int nd = 0, state = 0;
  bool scattered = false;
  for (int i = 0; i < x->l.ndim; i++) { /* state 0 before, 1 in, 2 behind the block; size-1 dims don't matter */
    int64_t d = x->l.shape[i];
    if (on[i]) {
      if (state == 2 && d != 1) scattered = true;
      if (state == 0 && d != 1) state = 1;
      n *= d;
      if (keep) shape[nd++] = 1;
    } else {
      if (state == 1 && d != 1) state = 2;
      if (state == 0) outer *= d;
      else inner *= d;
      shape[nd++] = d;
    }
  }
  if (n == 0 && (red == NNI_RED_rmax || red == NNI_RED_rmin || is_position(red)) && outer * inner > 0) {
    nni_opfail(s, NN_ESHAPE, "there is nothing to choose from: the reduced dims have no elements");
    return NULL;
  }
  if (n == 1) { /* one element each: no row to run along (a program's space has no dims of size 1) */
    if (is_position(red)) return nni_do(s, full, NN_INTS(nd, shape), NN_F(0), NN_I(NN_I64));
    return nni_reshape(s, x, nd, shape);
  }
  if (scattered) {
    x = gather_dims(s, x, on);
    outer *= inner;
    inner = 1;
  }
  if (n == 0 && outer * inner > 0) return nni_do(s, full, NN_INTS(nd, shape), NN_F(red == NNI_RED_rprod ? 1 : 0), NN_I(x->dtype));
  return nni_reshape(s, reduce_block(s, x, red, outer, n, inner), nd, shape);
}

static nn_tensor *countable(nni_scope *s, nn_tensor *x) { return nn_dtype_is_float(x->dtype) ? x : nni_cast(s, x, NN_I64); }

static nn_status simple(nni_call *c, nn_tensor *x, int red) {
  bool on[NN_MAXDIM];
  if (!x) return nni_error_of(c->s.ctx)->status;
  if (!nni_dims(&c->s, &c->arg[1], x->l.ndim, on)) return NN_EINVAL;
  return nni_give(c, reduce(&c->s, x, red, on, c->arg[2].u.i != 0));
}

/* a result of reducing x's dims, back in x's number of dims (each reduced one of size 1) */
static nn_tensor *with_dims(nni_scope *s, nn_tensor *t, const nni_out *x, const nn_arg *dims) {
  bool on[NN_MAXDIM];
  int64_t shape[NN_MAXDIM];
  if (!nni_dims(s, dims, x->ndim, on)) return NULL;
  for (int i = 0; i < x->ndim; i++) shape[i] = on[i] ? 1 : x->shape[i];
  return t ? nni_reshape(s, t, x->ndim, shape) : NULL;
}

static nn_status got(nni_gradcall *g, nn_tensor *dx) {
  g->dx[0] = dx;
  return dx ? NN_OK : nni_error_of(g->s.ctx)->status;
}

nn_status nni_rule_sum(nni_call *c) { return simple(c, countable(&c->s, c->arg[0].u.t), NNI_RED_rsum); }
nn_status nni_grad_sum(nni_gradcall *g) {
  nn_tensor *d = with_dims(&g->s, g->d[0], &g->xs[0], &g->arg[1]);
  return got(g, d ? nni_do(&g->s, expand, NN_T(d), NN_INTS(g->xs[0].ndim, g->xs[0].shape)) : NULL);
}

nn_status nni_rule_prod(nni_call *c) { return simple(c, countable(&c->s, c->arg[0].u.t), NNI_RED_rprod); }
/* x (outer, n): the product of what is before each element */
static nn_tensor *before(nni_scope *s, nn_tensor *x) {
  if (!x) return NULL;
  const int64_t first = 0, one[2] = {x->l.shape[0], 1};
  nn_tensor *front = nni_do(s, full, NN_INTS(2, one), NN_F(1), NN_I(x->dtype));
  nn_tensor *rest = nni_do(s, narrow, NN_T(x), NN_I(1), NN_INTS(1, &first), NN_I(x->l.shape[1] - 1));
  if (!front || !rest) return NULL;
  return nni_do(s, cumprod, NN_T(nni_do(s, cat, NN_TENSORS(2, ((nn_tensor *[]){front, rest})), NN_I(1))), NN_I(1));
}

/* d * product of the others, which is what is before times what is behind: without a division zeros are nothing special, to any order */
nn_status nni_grad_prod(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *x = g->x[0], *d = with_dims(s, g->d[0], &g->xs[0], &g->arg[1]);
  bool on[NN_MAXDIM];
  if (!d || !nni_dims(s, &g->arg[1], x->l.ndim, on)) return nni_error_of(s->ctx)->status;
  if (nn_numel(x) == 0 || x->l.ndim == 0) return got(g, nni_do(s, expand, NN_T(d), NN_INTS(x->l.ndim, x->l.shape)));
  int64_t order[NN_MAXDIM], back[NN_MAXDIM], n = 1;
  int k = 0;
  for (int reduced = 0; reduced < 2; reduced++) /* as gather_dims */
    for (int i = 0; i < x->l.ndim; i++)
      if (on[i] == (reduced == 1)) order[k++] = i;
  for (int i = 0; i < k; i++) {
    back[order[i]] = i;
    if (on[i]) n *= x->l.shape[i];
  }
  nn_tensor *moved = gather_dims(s, x, on), *flat = moved ? nni_reshape(s, moved, 2, (int64_t[]){nn_numel(x) / n, n}) : NULL;
  nn_tensor *behind = before(s, flat ? nni_do(s, flip, NN_T(flat), NN_INTS(1, ((int64_t[]){1}))) : NULL);
  nn_tensor *others = behind ? nni_do(s, mul, NN_T(before(s, flat)), NN_T(nni_do(s, flip, NN_T(behind), NN_INTS(1, ((int64_t[]){1}))))) : NULL;
  others = others ? nni_reshape(s, others, k, moved->l.shape) : NULL;
  return got(g, others ? nni_do(s, mul, NN_T(d), NN_T(nni_do(s, permute, NN_T(others), NN_INTS(k, back)))) : NULL);
}

nn_status nni_rule_amax(nni_call *c) { return simple(c, c->arg[0].u.t, NNI_RED_rmax); }
nn_status nni_rule_amin(nni_call *c) { return simple(c, c->arg[0].u.t, NNI_RED_rmin); }
nn_status nni_grad_amax(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *y = with_dims(s, g->y[0], &g->xs[0], &g->arg[1]), *d = with_dims(s, g->d[0], &g->xs[0], &g->arg[1]);
  nn_tensor *hit = nni_cast(s, nni_do(s, eq, NN_T(g->x[0]), NN_T(y)), g->x[0]->dtype);
  nn_tensor *count = nni_do(s, sum, NN_T(hit), g->arg[1], NN_I(1));
  return got(g, nni_do(s, mul, NN_T(hit), NN_T(nni_do(s, div, NN_T(d), NN_T(count)))));
}
nn_status nni_grad_amin(nni_gradcall *g) { return nni_grad_amax(g); }

static nn_status position(nni_call *c, int red) {
  nn_tensor *x = c->arg[0].u.t;
  bool on[NN_MAXDIM] = {false};
  if (c->arg[1].kind == NN_ARG_NONE) {
    for (int i = 0; i < x->l.ndim; i++) on[i] = true;
    if (c->arg[2].u.i == 0) x = nni_do(&c->s, flatten, NN_T(x), NN_I(0), NN_I(-1)), on[0] = true;
  } else {
    int d;
    if (!nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &d)) return NN_EINVAL;
    on[d] = true;
  }
  if (x && !nn_dtype_is_float(x->dtype) && x->dtype != NN_I64) x = nni_cast(&c->s, x, NN_I64);
  return nni_give(c, reduce(&c->s, x, red, on, c->arg[2].u.i != 0));
}
nn_status nni_rule_argmax(nni_call *c) { return position(c, NNI_RED_rargmax); }
nn_status nni_rule_argmin(nni_call *c) { return position(c, NNI_RED_rargmin); }

nn_status nni_rule_any(nni_call *c) {
  bool empty = nn_numel(c->arg[0].u.t) == 0;
  nn_tensor *b = nni_cast(&c->s, c->arg[0].u.t, NN_BOOL);
  if (!empty) return simple(c, b, NNI_RED_rmax);
  nn_tensor *n = b ? nni_do(&c->s, sum, NN_T(b), c->arg[1], c->arg[2]) : NULL;
  return nni_give(c, nni_do(&c->s, gt, NN_T(n), NN_I(0)));
}
nn_status nni_rule_all(nni_call *c) {
  nn_tensor *b = nni_cast(&c->s, c->arg[0].u.t, NN_BOOL);
  if (nn_numel(c->arg[0].u.t)) return simple(c, b, NNI_RED_rmin);
  nn_tensor *n = b ? nni_do(&c->s, sum, NN_T(nni_do(&c->s, logical_not, NN_T(b))), c->arg[1], c->arg[2]) : NULL;
  return nni_give(c, nni_do(&c->s, eq, NN_T(n), NN_I(0)));
}

/* ---- composites ---- */
static int64_t reduced_count(const nn_tensor *x, const bool *on) {
  int64_t n = 1;
  for (int i = 0; i < x->l.ndim; i++)
    if (on[i]) n *= x->l.shape[i];
  return n;
}

nn_status nni_rule_mean(nni_call *c) {
  nn_tensor *x = nni_real(&c->s, c->arg[0].u.t);
  bool on[NN_MAXDIM];
  if (!x || !nni_dims(&c->s, &c->arg[1], x->l.ndim, on)) return nni_error_of(c->s.ctx)->status;
  nn_tensor *sum = nni_do(&c->s, sum, NN_T(x), c->arg[1], c->arg[2]);
  return nni_give(c, nni_do(&c->s, mul, NN_T(sum), NN_F(1.0 / (double)reduced_count(x, on))));
}

nn_status nni_rule_var(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  bool on[NN_MAXDIM];
  if (!x || !nni_dims(s, &c->arg[1], x->l.ndim, on)) return nni_error_of(s->ctx)->status;
  double n = (double)reduced_count(x, on) - (double)c->arg[2].u.i;
  nn_tensor *mean = nni_do(s, mean, NN_T(x), c->arg[1], NN_I(1));
  nn_tensor *dev = nni_do(s, square, NN_T(nni_do(s, sub, NN_T(x), NN_T(mean))));
  nn_tensor *sum = dev ? nni_do(s, sum, NN_T(dev), c->arg[1], c->arg[3]) : NULL;
  return nni_give(c, nni_do(s, mul, NN_T(sum), NN_F(n > 0 ? 1.0 / n : (double)NAN)));
}

nn_status nni_rule_std(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *v = nni_do(s, var, c->arg[0], c->arg[1], c->arg[2], c->arg[3]), *zero = nni_do(s, eq, NN_T(v), NN_F(0));
  nn_tensor *root = nni_do(s, sqrt, NN_T(nni_do(s, where, NN_T(zero), NN_F(1), NN_T(v)))); /* where all are equal the gradient is 0, not 0 * inf */
  return nni_give(c, nni_do(s, where, NN_T(zero), NN_F(0), NN_T(root)));
}

/* the largest along dims, 0 where that is infinite: what is subtracted before exp. A constant for the gradient. */
static nn_tensor *shift(nni_scope *s, nn_tensor *x, nn_arg dims) {
  nn_tensor *plain = x ? nni_hold(s, nni_tensor_view(x, x->dtype, &x->l)) : NULL;
  if (plain && nn_numel(x) == 0) return nni_do(s, sum, NN_T(plain), dims, NN_I(1)); /* zeros: there is no largest */
  nn_tensor *m = nni_do(s, amax, NN_T(plain), dims, NN_I(1));
  return nni_do(s, where, NN_T(nni_do(s, eq, NN_T(nni_do(s, abs, NN_T(m))), NN_F(INFINITY))), NN_F(0), NN_T(m));
}

nn_status nni_rule_logsumexp(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  bool on[NN_MAXDIM];
  int64_t shape[NN_MAXDIM];
  int nd = 0;
  if (!x || !nni_dims(s, &c->arg[1], x->l.ndim, on)) return nni_error_of(s->ctx)->status;
  for (int i = 0; i < x->l.ndim; i++) {
    if (!on[i]) shape[nd++] = x->l.shape[i];
    else if (c->arg[2].u.i) shape[nd++] = 1;
  }
  nn_tensor *m = shift(s, x, c->arg[1]);
  nn_tensor *sum = nni_do(s, exp, NN_T(nni_do(s, sub, NN_T(x), NN_T(m))));
  sum = sum ? nni_do(s, sum, NN_T(sum), c->arg[1], NN_I(1)) : NULL;
  nn_tensor *y = nni_do(s, add, NN_T(nni_do(s, log, NN_T(sum))), NN_T(m));
  return nni_give(c, y ? nni_reshape(s, y, nd, shape) : NULL);
}

/* x with dim last, and back */
static nn_tensor *to_last(nni_scope *s, nn_tensor *x, int dim) {
  return x && dim != x->l.ndim - 1 ? nni_do(s, transpose, NN_T(x), NN_I(dim), NN_I(-1)) : x;
}

nn_status nni_rule_softmax(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  int dim;
  if (!x || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return nni_error_of(s->ctx)->status;
  x = to_last(s, x, dim);
  nn_tensor *e = nni_do(s, exp, NN_T(nni_do(s, sub, NN_T(x), NN_T(shift(s, x, NN_I(-1))))));
  nn_tensor *sum = nni_do(s, sum, NN_T(e), NN_I(-1), NN_I(1));
  return nni_give(c, to_last(s, nni_do(s, div, NN_T(e), NN_T(sum)), dim));
}
nn_status nni_grad_softmax(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *dy = nni_do(s, mul, NN_T(g->d[0]), NN_T(g->y[0]));
  nn_tensor *sum = nni_do(s, sum, NN_T(dy), g->arg[1], NN_I(1));
  return got(g, nni_do(s, sub, NN_T(dy), NN_T(nni_do(s, mul, NN_T(g->y[0]), NN_T(sum)))));
}

nn_status nni_rule_log_softmax(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  int dim;
  if (!x || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return nni_error_of(s->ctx)->status;
  x = to_last(s, x, dim);
  nn_tensor *z = nni_do(s, sub, NN_T(x), NN_T(shift(s, x, NN_I(-1))));
  nn_tensor *sum = nni_do(s, sum, NN_T(nni_do(s, exp, NN_T(z))), NN_I(-1), NN_I(1));
  return nni_give(c, to_last(s, nni_do(s, sub, NN_T(z), NN_T(nni_do(s, log, NN_T(sum)))), dim));
}
nn_status nni_grad_log_softmax(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *sum = nni_do(s, sum, NN_T(g->d[0]), g->arg[1], NN_I(1));
  return got(g, nni_do(s, sub, NN_T(g->d[0]), NN_T(nni_do(s, mul, NN_T(nni_do(s, exp, NN_T(g->y[0]))), NN_T(sum)))));
}
