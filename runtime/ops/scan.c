/* ops/scan.c - running sums, products, extremes and recurrences along one dim (the kernel `scan`), and reductions made of others
** (norm, count_nonzero).
**
** The gradient of a running sum is the running sum from the other end; that of a recurrence is a recurrence from the other end.
*/
#include <math.h>
#include "ops.h"

enum { SUM, PROD, MAX, MIN, LSE, LINEAR }; /* as cpu/k_scan.c */

static nn_status err(const nni_scope *s) { return nni_error_of(s->ctx)->status; }

static nn_status got(nni_gradcall *g, nn_tensor *dx) {
  g->dx[0] = dx;
  return dx ? NN_OK : err(&g->s);
}

static nn_tensor *zeros(nni_scope *s, const nni_out *x) { return nni_do(s, full, NN_INTS(x->ndim, x->shape), NN_F(0), NN_I(x->dtype)); }

/* Scan x (and k) along dim; at: positions, when wanted. */
static nn_tensor *scan(nni_scope *s, nn_tensor *x, nn_tensor *k, int dim, int op, bool reverse, bool exclusive, nn_tensor **at) {
  x = nni_dense(s, x);
  if (!x || (k && !(k = nni_dense(s, k)))) return NULL;
  int64_t v[3] = {1, x->l.shape[dim], 1};
  for (int i = 0; i < x->l.ndim; i++)
    if (i != dim) v[i > dim ? 2 : 0] *= x->l.shape[i];
  nn_tensor *in[2] = {nni_reshape(s, x, 3, v), k ? nni_reshape(s, k, 3, v) : NULL}, *out[NN_MAXOUT] = {0};
  const int64_t ia[3] = {op, reverse, exclusive};
  const nni_out o[2] = {nni_like(x->dtype, 3, v), nni_like(NN_I64, 3, v)};
  if (!in[0] || (k && !in[1])) return NULL;
  const nni_rec r = {.kind = NNI_N_KERNEL, .op = NNI_K_scan, .nin = k ? 2 : 1, .in = in, .nia = 3, .ia = ia, .nout = at ? 2 : 1, .out = o};
  if (nni_record(s->ctx, &r, out) != NN_OK) return NULL;
  nn_tensor *y = nni_hold(s, out[0]), *p = at ? nni_hold(s, out[1]) : NULL;
  if (at) *at = p ? nni_reshape(s, p, x->l.ndim, x->l.shape) : NULL;
  return y ? nni_reshape(s, y, x->l.ndim, x->l.shape) : NULL;
}

static nn_tensor *part(nni_scope *s, nn_tensor *x, int dim, int64_t start, int64_t size) {
  return nni_do(s, narrow, NN_T(x), NN_I(dim), NN_INTS(1, &start), NN_I(size));
}

/* x with a slice of one value in front or behind */
static nn_tensor *with_edge(nni_scope *s, nn_tensor *x, int dim, bool front, double v) {
  if (!x) return NULL;
  nni_out one = nni_like(x->dtype, x->l.ndim, x->l.shape);
  one.shape[dim] = 1;
  nn_tensor *edge = nni_do(s, full, NN_INTS(one.ndim, one.shape), NN_F(v), NN_I(one.dtype));
  return edge ? nni_do(s, cat, NN_TENSORS(2, ((nn_tensor *[]){front ? edge : x, front ? x : edge})), NN_I(dim)) : NULL;
}

/* x moved by one along dim, towards the end or the front, v coming in */
static nn_tensor *moved(nni_scope *s, nn_tensor *x, int dim, bool to_end, double v) {
  if (!x || x->l.shape[dim] == 0) return x;
  return with_edge(s, part(s, x, dim, to_end ? 0 : 1, x->l.shape[dim] - 1), dim, to_end, v);
}

static nn_tensor *countable(nni_scope *s, nn_tensor *x) { return nn_dtype_is_float(x->dtype) ? x : nni_cast(s, x, NN_I64); }

nn_status nni_rule_cumsum(nni_call *c) {
  nn_tensor *x = countable(&c->s, c->arg[0].u.t);
  int dim;
  if (!x || !nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &dim)) return err(&c->s);
  return nni_give(c, scan(&c->s, x, NULL, dim, SUM, c->arg[3].u.i != 0, c->arg[2].u.i != 0, NULL));
}
nn_status nni_grad_cumsum(nni_gradcall *g) { return got(g, nni_do(&g->s, cumsum, NN_T(g->d[0]), g->arg[1], g->arg[2], NN_I(!g->arg[3].u.i))); }

nn_status nni_rule_cumprod(nni_call *c) {
  nn_tensor *x = countable(&c->s, c->arg[0].u.t);
  int dim;
  if (!x || !nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &dim)) return err(&c->s);
  return nni_give(c, scan(&c->s, x, NULL, dim, PROD, false, false, NULL));
}
/* dx[j] = (product of what is before j) * r[j] with r[j] = d[j] + x[j+1] * r[j+1]: no division, so zeros are nothing special */
nn_status nni_grad_cumprod(nni_gradcall *g) {
  nni_scope *s = &g->s;
  int dim;
  if (!nni_dim(s, g->arg[1].u.i, g->xs[0].ndim, &dim)) return err(s);
  nn_tensor *r = nni_do(s, linear_scan, NN_T(moved(s, g->x[0], dim, false, 0)), NN_T(g->d[0]), NN_I(dim), NN_I(1));
  return got(g, nni_do(s, mul, NN_T(moved(s, g->y[0], dim, true, 1)), NN_T(r)));
}

static nn_status running_best(nni_call *c, int op) {
  nni_scope *s = &c->s;
  nn_tensor *x = countable(s, c->arg[0].u.t), *at = NULL;
  int dim;
  if (!x || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  nn_status st = nni_give(c, nni_cast(s, scan(s, x, NULL, dim, op, false, false, &at), c->arg[0].u.t->dtype));
  return st == NN_OK ? nni_give(c, at) : st;
}
static nn_status to_positions(nni_gradcall *g) {
  return got(g, nni_do(&g->s, scatter_add, NN_T(zeros(&g->s, &g->xs[0])), g->arg[1], NN_T(g->y[1]), NN_T(g->d[0])));
}
nn_status nni_rule_cummax(nni_call *c) { return running_best(c, MAX); }
nn_status nni_rule_cummin(nni_call *c) { return running_best(c, MIN); }
nn_status nni_grad_cummax(nni_gradcall *g) { return to_positions(g); }
nn_status nni_grad_cummin(nni_gradcall *g) { return to_positions(g); }

nn_status nni_rule_linear_scan(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *a = nni_real(s, c->arg[0].u.t), *b = nni_real(s, c->arg[1].u.t);
  int dim, nd;
  int64_t shape[NN_MAXDIM];
  if (!a || !b) return err(s);
  if (!nni_layout_broadcast(&a->l, &b->l, &nd, shape)) {
    char x[150], y[150];
    nn_shape_text(a, x, sizeof x);
    nn_shape_text(b, y, sizeof y);
    return nni_opfail(s, NN_ESHAPE, "shapes do not broadcast: (%s) and (%s)", x, y);
  }
  if (!nni_dim(s, c->arg[2].u.i, nd, &dim)) return err(s);
  const nn_dtype d = nn_dtype_promote(a->dtype, b->dtype);
  a = nni_do(s, expand, NN_T(nni_cast(s, a, d)), NN_INTS(nd, shape));
  b = nni_do(s, expand, NN_T(nni_cast(s, b, d)), NN_INTS(nd, shape));
  return nni_give(c, a && b ? scan(s, b, a, dim, LINEAR, c->arg[3].u.i != 0, false, NULL) : NULL);
}
/* db[t] = d[t] + a[t+1] * db[t+1], da[t] = db[t] * y[t-1] */
nn_status nni_grad_linear_scan(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *y = g->y[0], *a = nni_do(s, expand, NN_T(g->x[0]), NN_INTS(y->l.ndim, y->l.shape));
  bool reverse = g->arg[3].u.i != 0;
  int dim;
  if (!a || !nni_dim(s, g->arg[2].u.i, y->l.ndim, &dim)) return err(s);
  nn_tensor *db = nni_do(s, linear_scan, NN_T(moved(s, a, dim, reverse, 0)), NN_T(g->d[0]), NN_I(dim), NN_I(!reverse));
  g->dx[1] = db;
  return got(g, nni_do(s, mul, NN_T(db), NN_T(moved(s, y, dim, !reverse, 0))));
}

nn_status nni_rule_logcumsumexp(nni_call *c) {
  nn_tensor *x = nni_real(&c->s, c->arg[0].u.t);
  int dim;
  if (!x || !nni_dim(&c->s, c->arg[1].u.i, x->l.ndim, &dim)) return err(&c->s);
  return nni_give(c, scan(&c->s, x, NULL, dim, LSE, false, false, NULL));
}
/* dx[j] = exp(x[j] - y[j]) * r[j] with r[j] = d[j] + exp(y[j] - y[j+1]) * r[j+1]: y never falls, so no exponent is above 0 */
nn_status nni_grad_logcumsumexp(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *x = g->x[0], *y = g->y[0];
  int dim;
  if (!nni_dim(s, g->arg[1].u.i, y->l.ndim, &dim)) return err(s);
  nn_tensor *none = nni_do(s, eq, NN_T(y), NN_F(-INFINITY)), *base = nni_do(s, where, NN_T(none), NN_F(0), NN_T(y));
  const int64_t n = y->l.shape[dim];
  if (!base || n == 0) return got(g, base);
  nn_tensor *fall = nni_do(s, exp, NN_T(nni_do(s, sub, NN_T(part(s, base, dim, 0, n - 1)), NN_T(part(s, base, dim, 1, n - 1)))));
  nn_tensor *factor = nni_do(s, where, NN_T(none), NN_F(0), NN_T(with_edge(s, fall, dim, false, 0)));
  nn_tensor *r = nni_do(s, linear_scan, NN_T(factor), NN_T(g->d[0]), NN_I(dim), NN_I(1));
  return got(g, nni_do(s, mul, NN_T(nni_do(s, exp, NN_T(nni_do(s, sub, NN_T(x), NN_T(base))))), NN_T(r)));
}

/* ---- reductions ---- */
nn_status nni_rule_count_nonzero(nni_call *c) {
  nn_tensor *on = nni_do(&c->s, ne, c->arg[0], NN_I(0));
  return nni_give(c, on ? nni_do(&c->s, sum, NN_T(on), c->arg[1], c->arg[2]) : NULL);
}

nn_status nni_rule_norm(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  const double p = c->arg[1].u.f;
  const nn_arg dim = c->arg[2], keep = c->arg[3];
  if (!x) return err(s);
  if (p != p) return nni_opfail(s, NN_EINVAL, "p is not a number");
  nn_tensor *a = nni_do(s, abs, NN_T(x));
  if (!a) return err(s);
  if (p == (double)INFINITY) return nni_give(c, nni_do(s, amax, NN_T(a), dim, keep));
  if (p == -(double)INFINITY) return nni_give(c, nni_do(s, amin, NN_T(a), dim, keep));
  if (p == 1) return nni_give(c, nni_do(s, sum, NN_T(a), dim, keep));
  nn_tensor *each = p == 0 ? nni_cast(s, nni_do(s, ne, NN_T(x), NN_F(0)), x->dtype) : p == 2 ? nni_do(s, square, NN_T(x)) : nni_do(s, pow, NN_T(a), NN_F(p));
  nn_tensor *sum = each ? nni_do(s, sum, NN_T(each), dim, keep) : NULL;
  if (p == 0 || p < 0) return nni_give(c, p == 0 ? sum : nni_do(s, pow, NN_T(sum), NN_F(1 / p)));
  nn_tensor *zero = nni_do(s, eq, NN_T(sum), NN_F(0)),
            *safe = nni_do(s, where, NN_T(zero), NN_F(1), NN_T(sum)); /* the gradient of a zero norm is 0 */
  nn_tensor *root = p == 2 ? nni_do(s, sqrt, NN_T(safe)) : nni_do(s, pow, NN_T(safe), NN_F(1 / p));
  return nni_give(c, nni_do(s, where, NN_T(zero), NN_F(0), NN_T(root)));
}
