/* ops/sort.c - sorting and what follows from it: the k largest, extremes with positions, median, quantile, unique; and search in sorted rows.
**
** Positions come first and values are looked up at them (`gather`), so that a gradient goes to the very element that was chosen.
*/
#include <math.h>
#include "ops.h"

static nn_status err(const nni_scope *s) { return nni_error_of(s->ctx)->status; }

/* both results of an operator that has two, borrowed */
static bool do2(nni_scope *s, nni_opid id, const nn_arg *args, int nargs, nn_tensor *y[2]) {
  nn_tensor *out[NN_MAXOUT];
  int n = 0;
  if (!args[0].u.t || nni_apply(s->ctx, nni_op_row(id), args, nargs, out, &n) != NN_OK) return false;
  y[0] = nni_hold(s, out[0]);
  y[1] = nni_hold(s, out[1]);
  return y[0] && y[1];
}

static nn_tensor *narrow(nni_scope *s, nn_tensor *x, int dim, int64_t start, int64_t size) {
  return nni_do(s, narrow, NN_T(x), NN_I(dim), NN_INTS(1, &start), NN_I(size));
}

static nn_status give2(nni_call *c, nn_tensor *a, nn_tensor *b) {
  if (!a || !b) return err(&c->s);
  nn_status st = nni_give(c, a);
  return st == NN_OK ? nni_give(c, b) : st;
}

/* ---- sort ---- */
nn_status nni_rule_sort(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *out[NN_MAXOUT] = {0};
  int dim, last = x->l.ndim - 1;
  if (!nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  x = nni_dense(s, dim == last ? x : nni_do(s, transpose, NN_T(x), NN_I(dim), NN_I(last)));
  if (!x) return err(s);
  const int64_t n = x->l.shape[last];
  int64_t rows = 1;
  for (int i = 0; i < last; i++) rows *= x->l.shape[i];
  nn_tensor *in = nni_reshape(s, x, 2, (int64_t[]){rows, n});
  const int64_t ia = c->arg[2].u.i != 0;
  const nni_out o[2] = {nni_like(x->dtype, 2, (int64_t[]){rows, n}), nni_like(NN_I64, 2, (int64_t[]){rows, n})};
  if (!in) return err(s);
  nn_status st =
      nni_record(s->ctx, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_sort, .nin = 1, .in = &in, .nia = 1, .ia = &ia, .nout = 2, .out = o}, out);
  if (st != NN_OK) return st;
  for (int i = 0; i < 2; i++) {
    out[i] = nni_hold(s, out[i]);
    out[i] = out[i] ? nni_reshape(s, out[i], last + 1, x->l.shape) : NULL;
    if (out[i] && dim != last) out[i] = nni_do(s, transpose, NN_T(out[i]), NN_I(dim), NN_I(last));
  }
  return give2(c, out[0], out[1]);
}
nn_status nni_grad_sort(nni_gradcall *g) {
  nn_tensor *zero = nni_do(&g->s, full, NN_INTS(g->xs[0].ndim, g->xs[0].shape), NN_F(0), NN_I(g->xs[0].dtype));
  g->dx[0] = nni_do(&g->s, scatter_add, NN_T(zero), g->arg[1], NN_T(g->y[1]), NN_T(g->d[0]));
  return g->dx[0] ? NN_OK : err(&g->s);
}

nn_status nni_rule_argsort(nni_call *c) {
  nn_tensor *y[2];
  return do2(&c->s, NNI_OP_sort, c->arg, 3, y) ? nni_give(c, y[1]) : err(&c->s);
}

nn_status nni_rule_topk(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *y[2];
  const int64_t k = c->arg[1].u.i;
  int dim;
  if (!nni_dim(s, c->arg[2].u.i, x->l.ndim, &dim)) return err(s);
  if (k < 0 || k > x->l.shape[dim])
    return nni_opfail(s, NN_EINVAL, "k = %lld is not in 0..%lld, the size of dim %d", (long long)k, (long long)x->l.shape[dim], dim + 1);
  if (!do2(s, NNI_OP_sort, (nn_arg[]){NN_T(x), NN_I(dim), NN_I(c->arg[3].u.i != 0)}, 3, y)) return err(s);
  return give2(c, narrow(s, y[0], dim, 0, k), narrow(s, y[1], dim, 0, k));
}

/* ---- extremes with positions ---- */
/* the elements at `at` (x's dims, size 1 in dim), and the positions; dim kept or not */
static nn_status chosen(nni_call *c, nn_tensor *x, nn_tensor *at, int dim, bool keep) {
  nni_scope *s = &c->s;
  nn_tensor *v = nni_do(s, gather, NN_T(x), NN_I(dim), NN_T(at));
  if (!keep) v = nni_do(s, squeeze, NN_T(v), NN_I(dim)), at = nni_do(s, squeeze, NN_T(at), NN_I(dim));
  return give2(c, v, at);
}

static nn_status extreme(nni_call *c, nni_opid whole, nni_opid position, nni_opid pair) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int dim;
  if (c->arg[1].kind == NN_ARG_TENSOR) return nni_give(c, nni_do_(s, pair, (nn_arg[]){NN_T(x), c->arg[1]}, 2));
  if (c->arg[1].kind == NN_ARG_NONE) return nni_give(c, nni_do_(s, whole, (nn_arg[]){NN_T(x), NN_NONE, c->arg[2]}, 3));
  if (!nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  return chosen(c, x, nni_do_(s, position, (nn_arg[]){NN_T(x), NN_I(dim), NN_I(1)}, 3), dim, c->arg[2].u.i != 0);
}
nn_status nni_rule_max(nni_call *c) { return extreme(c, NNI_OP_amax, NNI_OP_argmax, NNI_OP_maximum); }
nn_status nni_rule_min(nni_call *c) { return extreme(c, NNI_OP_amin, NNI_OP_argmin, NNI_OP_minimum); }

/* ---- order statistics ---- */
/* x and dim to look at: all elements in one dim when no dim was given */
static nn_tensor *lane(nni_scope *s, nn_tensor *x, const nn_arg *dim, int *d) {
  if (dim->kind == NN_ARG_NONE) {
    *d = 0;
    x = nni_reshape(s, x, 1, (int64_t[]){-1});
  } else if (!nni_dim(s, dim->u.i, x->l.ndim, d)) return NULL;
  if (x && x->l.shape[*d] == 0) {
    nni_opfail(s, NN_ESHAPE, "there is nothing to choose from: the dim has no elements");
    return NULL;
  }
  return x;
}
static nn_tensor *all_dims(nni_scope *s, nn_tensor *y, const nn_tensor *x, const nn_arg *dim, bool keep) {
  if (!y || dim->kind != NN_ARG_NONE) return y;
  int64_t one[NN_MAXDIM];
  for (int i = 0; i < NN_MAXDIM; i++) one[i] = 1;
  return nni_reshape(s, y, keep ? x->l.ndim : 0, one);
}

nn_status nni_rule_median(nni_call *c) {
  nni_scope *s = &c->s;
  int dim;
  const bool keep = c->arg[2].u.i != 0;
  nn_tensor *x = lane(s, c->arg[0].u.t, &c->arg[1], &dim), *y[2];
  if (!x || !do2(s, NNI_OP_sort, (nn_arg[]){NN_T(x), NN_I(dim), NN_I(0)}, 3, y)) return err(s);
  const int64_t n = x->l.shape[dim];
  nn_tensor *at = narrow(s, y[1], dim, (n - 1) / 2, 1), *end = narrow(s, y[0], dim, n - 1, 1);
  at = nni_do(s, where, NN_T(nni_do(s, ne, NN_T(end), NN_T(end))), NN_T(narrow(s, y[1], dim, n - 1, 1)), NN_T(at)); /* NaN wins; it is sorted last */
  if (c->arg[1].kind != NN_ARG_NONE) return chosen(c, x, at, dim, keep);
  return nni_give(c, all_dims(s, nni_do(s, gather, NN_T(x), NN_I(dim), NN_T(at)), c->arg[0].u.t, &c->arg[1], keep));
}

/* a + w * (b - a), a where w is 0 (b may be infinite) */
static nn_tensor *between(nni_scope *s, nn_tensor *a, nn_tensor *b, nn_arg w) {
  nn_tensor *step = nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(b), NN_T(a))), w);
  return nni_do(s, add, NN_T(a), NN_T(step));
}

enum { LINEAR, LOWER, HIGHER, NEAREST, MIDPOINT };
static const char *const methods[] = {"linear", "lower", "higher", "nearest", "midpoint"};

/* q a number: where it lies is known now. x sorted along its last dim -> (..., 1) */
static nn_tensor *quantile_at(nni_scope *s, nn_tensor *x, double q, int method) {
  const int last = x->l.ndim - 1;
  const double at = q * (double)(x->l.shape[last] - 1), near = rint(at), w = at - floor(at);
  const int64_t lo = (int64_t)(method == NEAREST ? near : floor(at)), hi = (int64_t)(method == NEAREST ? near : ceil(at));
  nn_tensor *a = narrow(s, x, last, lo, 1), *b = narrow(s, x, last, hi, 1);
  if (method == LOWER || lo == hi) return a;
  if (method == HIGHER) return b;
  return between(s, a, b, NN_F(method == MIDPOINT ? 0.5 : w));
}

/* q a tensor (Q) -> (..., Q) */
static nn_tensor *quantiles_at(nni_scope *s, nn_tensor *x, nn_tensor *q, int method) {
  const int last = x->l.ndim - 1;
  nn_tensor *at = nni_do(s, mul, NN_T(q), NN_F((double)(x->l.shape[last] - 1))), *down = nni_do(s, floor, NN_T(at)), *up = nni_do(s, ceil, NN_T(at));
  if (method == NEAREST) down = up = nni_do(s, round, NN_T(at));
  if (!down || !up) return NULL;
  nn_tensor *a = nni_do(s, index_select, NN_T(x), NN_I(last), NN_T(nni_cast(s, down, NN_I64))),
            *b = nni_do(s, index_select, NN_T(x), NN_I(last), NN_T(nni_cast(s, up, NN_I64)));
  if (method == LOWER || method == NEAREST) return a;
  if (method == HIGHER) return b;
  nn_tensor *w = nni_do(s, sub, NN_T(at), NN_T(down)), *mid = between(s, a, b, method == MIDPOINT ? NN_F(0.5) : NN_T(w));
  return nni_do(s, where, NN_T(nni_do(s, eq, NN_T(w), NN_F(0))), NN_T(a), NN_T(mid));
}

nn_status nni_rule_quantile(nni_call *c) {
  nni_scope *s = &c->s;
  const nn_arg *q = &c->arg[1];
  const bool keep = c->arg[3].u.i != 0, many = q->kind == NN_ARG_TENSOR;
  int dim, method = 0;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *y[2], *r;
  while (method < NNI_COUNT(methods) && strcmp(methods[method], c->arg[4].u.s) != 0) method++;
  if (method == NNI_COUNT(methods))
    return nni_opfail(s, NN_EINVAL, "method = \"%s\"; there are linear, lower, higher, nearest, midpoint", c->arg[4].u.s);
  const double v = q->kind == NN_ARG_INT ? (double)q->u.i : many ? 0 : q->u.f;
  if (!(v >= 0 && v <= 1)) return nni_opfail(s, NN_EINVAL, "q = %g is not in 0..1", v);
  if (many && q->u.t->l.ndim != 1) return nni_opfail(s, NN_ESHAPE, "q must be a number or a 1-D tensor, it has %d dims", q->u.t->l.ndim);
  x = x ? lane(s, x, &c->arg[2], &dim) : NULL;
  if (!x || !do2(s, NNI_OP_sort, (nn_arg[]){NN_T(nni_do(s, movedim, NN_T(x), NN_I(dim), NN_I(-1))), NN_I(-1), NN_I(0)}, 3, y)) return err(s);
  const int last = x->l.ndim - 1;
  r = many ? quantiles_at(s, y[0], nni_cast(s, q->u.t, x->dtype), method) : quantile_at(s, y[0], v, method);
  nn_tensor *end = narrow(s, y[0], last, x->l.shape[dim] - 1, 1);
  r = nni_do(s, where, NN_T(nni_do(s, ne, NN_T(end), NN_T(end))), NN_F((double)NAN), NN_T(r)); /* NaN wins */
  if (!r) return err(s);
  int64_t shape[NN_MAXDIM];
  int n = 0;
  if (many) {
    if (keep && c->arg[0].u.t->l.ndim == NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "the result would have %d dims", NN_MAXDIM + 1);
    r = nni_do(s, movedim, NN_T(r), NN_I(-1), NN_I(0));
    shape[n++] = q->u.t->l.shape[0];
  }
  for (int i = 0; i < c->arg[0].u.t->l.ndim; i++) {
    bool gone = c->arg[2].kind == NN_ARG_NONE || i == dim;
    if (!gone) shape[n++] = x->l.shape[i];
    else if (keep) shape[n++] = 1;
  }
  return nni_give(c, r ? nni_reshape(s, r, n, shape) : NULL);
}

/* ---- searchsorted, unique ---- */
nn_status nni_rule_searchsorted(nni_call *c) {
  nni_scope *s = &c->s;
  const bool whole = c->arg[1].kind == NN_ARG_INT;
  nn_tensor *t = c->arg[0].u.t,
            *v = c->arg[1].kind == NN_ARG_TENSOR
                     ? c->arg[1].u.t
                     : nni_do(s, full, NN_INTS(0, NULL), whole ? NN_F((double)c->arg[1].u.i) : c->arg[1],
                              NN_I(nn_dtype_is_float(t->dtype) ? t->dtype : whole ? NN_I64 : NN_F32));
  if (!v) return err(s);
  const int n = t->l.ndim - 1;
  nn_dtype d = nn_dtype_promote(t->dtype, v->dtype);
  if (!nn_dtype_is_float(d)) d = NN_I64;
  bool fits = n == 0 || (n > 0 && v->l.ndim == n + 1);
  int64_t rows = 1, m = 1;
  for (int i = 0; fits && i < n; i++) fits = t->l.shape[i] == v->l.shape[i], rows *= t->l.shape[i];
  if (!fits) {
    char a[150], b[150];
    nn_shape_text(t, a, sizeof a);
    nn_shape_text(v, b, sizeof b);
    return nni_opfail(s, NN_ESHAPE, "sorted has shape %s, values %s: they may differ in the last dim only, unless sorted is 1-D", a, b);
  }
  for (int i = n; i < v->l.ndim; i++) m *= v->l.shape[i];
  t = nni_dense(s, nni_cast(s, t, d));
  nn_tensor *flat = nni_dense(s, nni_cast(s, v, d));
  if (!t || !flat) return err(s);
  nn_tensor *in[2] = {nni_reshape(s, t, 2, (int64_t[]){rows, t->l.shape[n]}), nni_reshape(s, flat, 2, (int64_t[]){rows, m})};
  const int64_t ia = c->arg[2].u.i != 0;
  nni_out o = nni_like(NN_I64, 2, (int64_t[]){rows, m});
  nn_tensor *y =
      nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_searchsorted, .nin = 2, .in = in, .nia = 1, .ia = &ia, .nout = 1, .out = &o});
  return nni_give(c, y ? nni_reshape(s, y, v->l.ndim, v->l.shape) : NULL);
}

/* What is equal in the vector v (n), groups in v's order: where each group comes first, which group each element is in, how many a group has. Sorted, an
** element starts a group when it differs from the one before. How many groups there are must be known now: the window runs. */
static bool find_groups(nni_scope *s, nn_tensor *v, nn_tensor **first, nn_tensor **inverse, nn_tensor **count) {
  nn_tensor *y[2];
  if (!v || !do2(s, NNI_OP_sort, (nn_arg[]){NN_T(v), NN_I(0), NN_I(0)}, 3, y)) return false;
  const int64_t n = v->l.shape[0];
  nn_tensor *none = nni_do(s, full, NN_INTS(1, &n), NN_F(0), NN_I(NN_I64));
  if (n == 0) return (*first = *inverse = *count = none) != NULL;
  nn_tensor *differs = nni_do(s, ne, NN_T(narrow(s, y[0], 0, 1, n - 1)), NN_T(narrow(s, y[0], 0, 0, n - 1)));
  nn_tensor *start = nni_do(s, full, NN_INTS(1, (const int64_t[]){1}), NN_F(1), NN_I(NN_BOOL));
  if (!start || !differs) return false;
  nn_tensor *starts = nni_do(s, cat, NN_TENSORS(2, ((nn_tensor *[]){start, differs})), NN_I(0));
  nn_tensor *number = nni_do(s, sub, NN_T(nni_do(s, cumsum, NN_T(starts), NN_I(0), NN_I(0), NN_I(0))), NN_I(1));
  nn_tensor *at = nni_do(s, nonzero, NN_T(starts)); /* (groups, 1) */
  if (!number || !at) return false;
  const int64_t groups = at->l.shape[0];
  nn_tensor *zero = nni_do(s, full, NN_INTS(1, &groups), NN_F(0), NN_I(NN_I64));
  nn_tensor *one = nni_do(s, full, NN_INTS(0, NULL), NN_F(1), NN_I(NN_I64));
  *first = nni_do(s, gather_nd, NN_T(y[1]), NN_T(at), NN_I(0)); /* sorting is stable */
  *inverse = nni_do(s, scatter, NN_T(none), NN_I(0), NN_T(y[1]), NN_T(number));
  *count = nni_do(s, scatter_add, NN_T(zero), NN_I(0), NN_T(number), NN_T(one));
  return *first && *inverse && *count;
}

/* v's elements numbered by rank, equals alike; *groups: how many numbers there are */
static nn_tensor *ranks(nni_scope *s, nn_tensor *v, int64_t *groups) {
  nn_tensor *first, *inverse, *count;
  if (!find_groups(s, v, &first, &inverse, &count)) return NULL;
  *groups = first->l.shape[0];
  return inverse;
}

/* v (n, m) of numbers below *groups, as rows: neighbouring columns joined to one number, (n, (m + 1) / 2) */
static nn_tensor *join_columns(nni_scope *s, nn_tensor *v, int64_t n, int64_t m, int64_t *groups) {
  if (m % 2) {
    nn_tensor *blank = nni_do(s, full, NN_INTS(2, ((int64_t[]){n, 1})), NN_F(0), NN_I(NN_I64));
    nn_tensor *part[2] = {nni_reshape(s, v, 2, (int64_t[]){n, m}), blank};
    v = part[0] && blank ? nni_do(s, cat, NN_TENSORS(2, part), NN_I(1)) : NULL;
  }
  const int64_t half = n * ((m + 1) / 2);
  v = v ? nni_reshape(s, v, 2, (int64_t[]){half, 2}) : NULL;
  if (!v) return NULL;
  nn_tensor *key = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(narrow(s, v, 1, 0, 1)), NN_I(*groups))), NN_T(narrow(s, v, 1, 1, 1)));
  return key ? ranks(s, nni_reshape(s, key, 1, &half), groups) : NULL;
}

/* Rows of t (n, m) as numbers (n) in the order of the rows, the first column counting most: columns are joined in pairs until one is left. A scope for
** each turn: there may be more of them than one holds. */
static nn_tensor *row_ranks(nni_scope *s, nn_tensor *t, int64_t n, int64_t m) {
  int64_t groups = 0;
  if (m == 0) return nni_do(s, full, NN_INTS(1, &n), NN_F(0), NN_I(NN_I64));
  nn_tensor *v = ranks(s, nni_reshape(s, t, 1, (int64_t[]){n * m}), &groups);
  for (; v && m > 1; m = (m + 1) / 2) {
    nni_scope turn = {.ctx = s->ctx, .op = s->op};
    nn_tensor *joined = nn_retain(join_columns(&turn, v, n, m, &groups));
    nni_scope_close(&turn);
    v = joined ? nni_hold(s, joined) : NULL;
  }
  return v;
}

/* groups in the order in which they first appear */
static bool as_they_appear(nni_scope *s, nn_tensor **first, nn_tensor **inverse, nn_tensor **count) {
  nn_tensor *y[2];
  if (!do2(s, NNI_OP_sort, (nn_arg[]){NN_T(*first), NN_I(0), NN_I(0)}, 3, y)) return false;
  nn_tensor *rank = nni_do(s, argsort, NN_T(y[1]), NN_I(0), NN_I(0)); /* the inverse of a permutation */
  *first = y[0];
  *count = nni_do(s, gather, NN_T(*count), NN_I(0), NN_T(y[1]));
  *inverse = nni_do(s, gather, NN_T(rank), NN_I(0), NN_T(*inverse));
  return *count && *inverse;
}

nn_status nni_rule_unique(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *v, *first, *inverse, *count;
  const bool whole = c->arg[1].kind == NN_ARG_NONE;
  int dim = 0;
  if (!whole && !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  if (whole) {
    v = x = nni_reshape(s, x, 1, (int64_t[]){-1});
  } else {
    const int64_t n = x->l.shape[dim], m = n ? nn_numel(x) / n : 0;
    v = nni_dense(s, nni_do(s, movedim, NN_T(x), NN_I(dim), NN_I(0)));
    v = v ? row_ranks(s, v, n, m) : NULL;
  }
  if (!v || !find_groups(s, v, &first, &inverse, &count)) return err(s);
  if (!c->arg[2].u.i && !as_they_appear(s, &first, &inverse, &count)) return err(s);
  if (whole) inverse = nni_reshape(s, inverse, c->arg[0].u.t->l.ndim, c->arg[0].u.t->l.shape);
  nn_status st = give2(c, nni_do(s, index_select, NN_T(x), NN_I(dim), NN_T(first)), inverse);
  return st == NN_OK ? give2(c, count, first) : st;
}
