/* ops/batchnorm.c - statistics of channels, and batch normalization in training by them.
**
** x is seen as (R, C): C channels, the last dim, R everything else. The gradient of batch_norm_train needs two sums for each channel (column_dots) and one
** pointwise pass; it is recorded from differentiable operators, so gradients of gradients work.
*/
#include "ops.h"

typedef struct rows { int64_t r, c; } rows;
static rows rows_of(const nni_out *x) {
  rows s = {1, x->ndim ? x->shape[x->ndim - 1] : 1};
  for (int i = 0; i + 1 < x->ndim; i++) s.r *= x->shape[i];
  return s;
}
static nn_tensor *as_rows(nni_scope *s, nn_tensor *x, rows n) { return x ? nni_reshape(s, x, 2, (int64_t[]){n.r, n.c}) : NULL; }
static nn_status failed(const nni_scope *s) { return nni_error_of(s->ctx)->status; }
static nni_out out_like(const nn_tensor *t) { return nni_like(t->dtype, t->l.ndim, t->l.shape); }

static nn_status has_rows(nni_scope *s, const nni_out *x) {
  if (x->ndim < 1) return nni_opfail(s, NN_ESHAPE, "the input is a scalar, it needs channels (the last dim)");
  if (rows_of(x).r == 0) return nni_opfail(s, NN_ESHAPE, "there is nothing to take statistics of: the batch is empty");
  return NN_OK;
}
static nn_status per_channel(nni_scope *s, const nn_tensor *t, const char *what, int64_t c) {
  char b[150];
  if (t->l.ndim == 1 && t->l.shape[0] == c) return NN_OK;
  nn_shape_text(t, b, sizeof b);
  return nni_opfail(s, NN_ESHAPE, "%s must have one element for each of %lld channels, its shape is (%s)", what, (long long)c, b);
}

/* records a kernel with two results (C); res: held by the scope */
static nn_status two_sums(nni_scope *s, int kernel, nn_tensor *const *in, int nin, int64_t c, nn_tensor *res[2]) {
  nn_tensor *r[NN_MAXOUT];
  nni_out o[2];
  o[0] = o[1] = nni_like(in[0]->dtype, 1, &c);
  nn_status st = nni_record(s->ctx, &(nni_rec){.kind = NNI_N_KERNEL, .op = kernel, .nin = nin, .in = in, .nout = 2, .out = o}, r);
  for (int i = 0; i < 2 && st == NN_OK; i++) res[i] = nni_hold(s, r[i]);
  return st;
}
static nn_status moments_of(nni_scope *s, nn_tensor *x, rows n, nn_tensor *res[2]) {
  nn_tensor *flat = nni_dense(s, as_rows(s, x, n));
  return flat ? two_sums(s, NNI_K_moments, &flat, 1, n.c, res) : failed(s);
}

/* ---- moments ---- */
nn_status nni_rule_moments(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *res[2];
  if (!x) return failed(s);
  const nni_out o = out_like(x);
  nn_status st = has_rows(s, &o);
  if (st == NN_OK) st = moments_of(s, x, rows_of(&o), res);
  if (st == NN_OK) st = nni_give(c, res[0]);
  return st == NN_OK ? nni_give(c, res[1]) : st;
}

/* what cotangents of mean and variance (either may be NULL) give to x: (dmean + 2 (x - mean) dvariance) / R */
static nn_tensor *moments_back(nni_scope *s, nn_tensor *x, nn_tensor *mean, int64_t r, nn_tensor *dmean, nn_tensor *dvariance) {
  nn_tensor *v = dvariance ? nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(x), NN_T(mean))), NN_T(nni_do(s, mul, NN_T(dvariance), NN_F(2.0 / (double)r)))) : NULL;
  nn_tensor *m = dmean ? nni_do(s, mul, NN_T(dmean), NN_F(1.0 / (double)r)) : NULL;
  if (!dvariance) return m ? nni_do(s, expand, NN_T(m), NN_INTS(x->l.ndim, x->l.shape)) : NULL;
  return dmean ? nni_do(s, add, NN_T(v), NN_T(m)) : v;
}

nn_status nni_grad_moments(nni_gradcall *g) {
  nni_scope *s = &g->s;
  g->dx[0] = moments_back(s, nni_real(s, g->x[0]), g->y[0], rows_of(&g->xs[0]).r, g->d[0], g->d[1]);
  return g->dx[0] ? NN_OK : failed(s);
}

/* ---- column_dots ---- */
nn_status nni_rule_column_dots(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[3], *res[2];
  for (int i = 0; i < 3; i++) in[i] = c->arg[i].u.t;
  if (!nni_reals(s, 3, in)) return failed(s);
  const nni_out o = out_like(in[0]);
  const rows n = rows_of(&o);
  if (o.ndim < 1) return nni_opfail(s, NN_ESHAPE, "a is a scalar, it needs channels (the last dim)");
  if (!nni_layout_same_shape(&in[0]->l, &in[1]->l)) return nni_opfail(s, NN_ESHAPE, "a and x differ in shape");
  nn_status st = per_channel(s, in[2], "mean", n.c);
  if (st != NN_OK) return st;
  for (int i = 0; i < 2; i++) in[i] = nni_dense(s, as_rows(s, in[i], n));
  in[2] = nni_dense(s, in[2]);
  if (!in[0] || !in[1] || !in[2]) return failed(s);
  st = two_sums(s, NNI_K_column_dots, in, 3, n.c, res);
  if (st == NN_OK) st = nni_give(c, res[0]);
  return st == NN_OK ? nni_give(c, res[1]) : st;
}

/* da = d0 + d1 (x - mean); dx = d1 a; dmean = -d1 sum a */
nn_status nni_grad_column_dots(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *a = nni_real(s, g->x[0]), *x = nni_real(s, g->x[1]), *mean = nni_real(s, g->x[2]);
  if (!a || !x || !mean) return failed(s);
  if (g->need[0]) {
    nn_tensor *v = g->d[1] ? nni_do(s, mul, NN_T(g->d[1]), NN_T(nni_do(s, sub, NN_T(x), NN_T(mean)))) : NULL;
    if (v && g->d[0]) v = nni_do(s, add, NN_T(v), NN_T(g->d[0]));
    else if (!g->d[1]) v = nni_do(s, expand, NN_T(g->d[0]), NN_INTS(a->l.ndim, a->l.shape));
    g->dx[0] = v;
    if (!v) return failed(s);
  }
  if (!g->d[1]) return NN_OK;
  nn_tensor *da = nni_do(s, mul, NN_T(g->d[1]), NN_T(a));
  g->dx[1] = da;
  g->dx[2] = g->need[2] ? nni_do(s, neg, NN_T(da)) : NULL; /* grad.c sums it over the rows */
  return da && (!g->need[2] || g->dx[2]) ? NN_OK : failed(s);
}

/* ---- batch_norm_train ---- */
static nn_tensor *deviation(nni_scope *s, nn_tensor *variance, nn_arg eps) { return nni_do(s, rsqrt, NN_T(nni_do(s, add, NN_T(variance), eps))); }

nn_status nni_rule_batch_norm_train(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[3] = {c->arg[0].u.t, c->arg[1].u.t, c->arg[2].u.t}, *res[2];
  if (!nni_reals(s, 3, in)) return failed(s);
  nn_tensor *x = in[0], *weight = in[1], *bias = in[2];
  const nni_out o = out_like(x);
  const rows n = rows_of(&o);
  nn_status st = has_rows(s, &o);
  if (st == NN_OK) st = per_channel(s, weight, "weight", n.c);
  if (st == NN_OK) st = per_channel(s, bias, "bias", n.c);
  if (st == NN_OK) st = moments_of(s, x, n, res);
  if (st != NN_OK) return st;
  nn_tensor *scale = nni_do(s, mul, NN_T(weight), NN_T(deviation(s, res[1], c->arg[3])));
  nn_tensor *y = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(x), NN_T(res[0]))), NN_T(scale))), NN_T(bias));
  st = nni_give(c, y);
  if (st == NN_OK) st = nni_give(c, res[0]);
  return st == NN_OK ? nni_give(c, res[1]) : st;
}

/* dx = weight / dev (d - sum(d) / R - (x - mean) sum(d (x - mean)) / (dev^2 R)), dev^2 = variance + eps */
nn_status nni_grad_batch_norm_train(nni_gradcall *g) {
  nni_scope *s = &g->s;
  const double inv = 1.0 / (double)rows_of(&g->xs[0]).r;
  nn_tensor *x = nni_real(s, g->x[0]), *weight = nni_real(s, g->x[1]), *d = g->d[0], *dx = NULL;
  if (!x || !weight) return failed(s);
  if (d) {
    nn_tensor *sum[NN_MAXOUT];
    int nsum;
    const nn_arg arg[3] = {NN_T(d), NN_T(x), NN_T(g->y[1])};
    nn_status st = nni_apply(s->ctx, nni_op_row(NNI_OP_column_dots), arg, 3, sum, &nsum);
    if (st != NN_OK) return st;
    for (int i = 0; i < nsum; i++) nni_hold(s, sum[i]);
    nn_tensor *rstd = deviation(s, g->y[2], g->arg[3]), *slope = nni_do(s, mul, NN_T(sum[1]), NN_T(nni_do(s, square, NN_T(rstd))));
    nn_tensor *a = nni_do(s, sub, NN_T(d), NN_T(nni_do(s, mul, NN_T(sum[0]), NN_F(inv))));
    nn_tensor *b = nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(x), NN_T(g->y[1]))), NN_T(nni_do(s, mul, NN_T(slope), NN_F(inv))));
    dx = nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(a), NN_T(b))), NN_T(nni_do(s, mul, NN_T(weight), NN_T(rstd))));
    g->dx[1] = nni_do(s, mul, NN_T(sum[1]), NN_T(rstd));
    g->dx[2] = sum[0];
    if (!dx || !g->dx[1]) return failed(s);
  }
  if (g->need[0] && (g->d[1] || g->d[2])) {
    nn_tensor *m = moments_back(s, x, g->y[1], rows_of(&g->xs[0]).r, g->d[1], g->d[2]);
    dx = m && dx ? nni_do(s, add, NN_T(dx), NN_T(m)) : m;
    if (!dx) return failed(s);
  }
  g->dx[0] = dx;
  return NN_OK;
}
