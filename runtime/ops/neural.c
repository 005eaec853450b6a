/* ops/neural.c - normalization over trailing dims, attention, embedding, and split4: composites that a C program needs too, or whose recording from Lua would cost.
**
** layer_norm and rms_norm see x as (M, N) rows; forward and input gradient are row programs that start from x, so history keeps nothing but x and the weight.
** Letters: N features that are normalized together, M rows; L queries, S keys, E features of attention.
*/
#include <math.h>
#include "ops.h"

typedef struct rows { int64_t m, n; } rows;

/* ---- layer_norm, rms_norm: x, shape of what is normalized (the last dim when absent), weight, [bias,] eps ---- */
static bool trailing(nni_scope *s, const nni_out *x, const nn_arg *shape, rows *r) {
  int k = shape->kind == NN_ARG_INTS ? shape->n : 1;
  const int64_t *want = shape->kind == NN_ARG_INTS ? shape->u.ints : shape->kind == NN_ARG_INT ? &shape->u.i : NULL;
  bool ok = k >= 1 && k <= x->ndim;
  *r = (rows){1, 1};
  for (int i = 0; ok && i < x->ndim; i++) {
    int at = i - (x->ndim - k);
    if (at >= 0) r->n *= x->shape[i];
    else r->m *= x->shape[i];
    if (at >= 0 && want) ok = want[at] == x->shape[i];
  }
  if (ok) return true;
  char a[150], b[150] = "the last dim";
  nni_shape_text(x->ndim, x->shape, a, sizeof a);
  if (want) nni_shape_text(k, want, b, sizeof b);
  nni_opfail(s, NN_ESHAPE, "the input (%s) does not end in the normalized shape (%s)", a, b);
  return false;
}

/* a weight or bias as (N), NULL with the error set when it does not fit */
static nn_tensor *per_feature(nni_scope *s, nn_tensor *w, int64_t n, const char *what) {
  if (nn_numel(w) == n) return nni_reshape(s, nni_real(s, w), 1, &n);
  char a[150];
  nn_shape_text(w, a, sizeof a);
  nni_opfail(s, NN_ESHAPE, "the %s needs %lld elements, its shape is (%s)", what, (long long)n, a);
  return NULL;
}

static nn_tensor *row_mean(nni_scope *s, nn_tensor *x) { return nni_do(s, mean, NN_T(x), NN_I(-1), NN_I(1)); }

/* rows with mean 0 (if `centre`) and mean square 1; *rstd is 1 / sqrt(mean square + eps) */
static nn_tensor *normalized(nni_scope *s, nn_tensor *x, bool centre, nn_arg eps, nn_tensor **rstd) {
  if (centre) x = nni_do(s, sub, NN_T(x), NN_T(row_mean(s, x)));
  nn_tensor *square = nni_do(s, square, NN_T(x));
  *rstd = nni_do(s, rsqrt, NN_T(nni_do(s, add, NN_T(square ? row_mean(s, square) : NULL), eps)));
  return nni_do(s, mul, NN_T(x), NN_T(*rstd));
}

static nn_status norm_rule(nni_call *c, bool centre, const nn_arg *weight, const nn_arg *bias, nn_arg eps) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *rstd;
  rows r;
  if (!x) return nni_error_of(s->ctx)->status;
  nni_out o = nni_like(x->dtype, x->l.ndim, x->l.shape);
  if (!trailing(s, &o, &c->arg[1], &r)) return NN_ESHAPE;
  nn_tensor *y = normalized(s, nni_reshape(s, x, 2, (int64_t[]){r.m, r.n}), centre, eps, &rstd);
  if (y && weight->kind == NN_ARG_TENSOR) y = nni_do(s, mul, NN_T(y), NN_T(per_feature(s, weight->u.t, r.n, "weight")));
  if (y && bias && bias->kind == NN_ARG_TENSOR) y = nni_do(s, add, NN_T(y), NN_T(per_feature(s, bias->u.t, r.n, "bias")));
  return nni_give(c, y ? nni_reshape(s, y, o.ndim, o.shape) : NULL);
}

/* sum of t (M, N) over rows, in the shape of argument i */
static bool give_feature(nni_gradcall *g, int i, nn_tensor *t) {
  nn_tensor *sum = t ? nni_do(&g->s, sum, NN_T(t), NN_I(0), NN_I(0)) : NULL;
  g->dx[i] = sum ? nni_reshape(&g->s, sum, g->xs[i].ndim, g->xs[i].shape) : NULL;
  return g->dx[i] != NULL;
}

/* With xh = x / rms (of the centred x), e = d * weight: dx = rstd * (e - mean(e) - xh * mean(e * xh)), without mean(e) when x is not centred.
** wi, bi: which tensors weight and bias are, -1 when absent. */
static nn_status norm_grad(nni_gradcall *g, bool centre, int wi, int bi, nn_arg eps) {
  nni_scope *s = &g->s;
  rows r;
  if (!trailing(s, &g->xs[0], &g->arg[1], &r)) return NN_ESHAPE;
  const int64_t mn[2] = {r.m, r.n};
  nn_tensor *rstd, *d = nni_reshape(s, g->d[0], 2, mn), *e = d;
  bool ok = d != NULL;
  if (ok && bi >= 0 && g->need[bi]) ok = give_feature(g, bi, d);
  if (!ok || (!g->need[0] && (wi < 0 || !g->need[wi]))) return ok ? NN_OK : nni_error_of(s->ctx)->status;
  nn_tensor *xh = normalized(s, nni_reshape(s, nni_real(s, g->x[0]), 2, mn), centre, eps, &rstd);
  if (wi >= 0 && g->need[wi]) ok = give_feature(g, wi, nni_do(s, mul, NN_T(d), NN_T(xh)));
  if (ok && g->need[0]) {
    if (wi >= 0) e = nni_do(s, mul, NN_T(d), NN_T(per_feature(s, g->x[wi], r.n, "weight")));
    nn_tensor *along = nni_do(s, mul, NN_T(xh), NN_T(e ? row_mean(s, nni_do(s, mul, NN_T(e), NN_T(xh))) : NULL));
    nn_tensor *dx = centre ? nni_do(s, sub, NN_T(e), NN_T(e ? row_mean(s, e) : NULL)) : e;
    dx = nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(dx), NN_T(along))), NN_T(rstd));
    g->dx[0] = dx ? nni_reshape(s, dx, g->xs[0].ndim, g->xs[0].shape) : NULL;
    ok = g->dx[0] != NULL;
  }
  return ok ? NN_OK : nni_error_of(s->ctx)->status;
}

nn_status nni_rule_layer_norm(nni_call *c) { return norm_rule(c, true, &c->arg[2], &c->arg[3], c->arg[4]); }
nn_status nni_grad_layer_norm(nni_gradcall *g) {
  bool w = g->arg[2].kind == NN_ARG_TENSOR, b = g->arg[3].kind == NN_ARG_TENSOR;
  return norm_grad(g, true, w ? 1 : -1, b ? 1 + w : -1, g->arg[4]);
}

nn_status nni_rule_rms_norm(nni_call *c) { return norm_rule(c, false, &c->arg[2], NULL, c->arg[3]); }
nn_status nni_grad_rms_norm(nni_gradcall *g) { return norm_grad(g, false, g->arg[2].kind == NN_ARG_TENSOR ? 1 : -1, -1, g->arg[3]); }

/* ---- attention: q (..., L, E), k (..., S, E), v (..., S, V), mask (broadcast to (..., L, S)): bool keeps where true, numbers are added ---- */
static nn_status attention_shapes(nni_scope *s, const nn_tensor *q, const nn_tensor *k, const nn_tensor *v) {
  int nq = q->l.ndim, nk = k->l.ndim, nv = v->l.ndim;
  if (nq >= 2 && nk >= 2 && nv >= 2 && q->l.shape[nq - 1] == k->l.shape[nk - 1] && k->l.shape[nk - 2] == v->l.shape[nv - 2]) return NN_OK;
  char a[150], b[150], c[150];
  nn_shape_text(q, a, sizeof a);
  nn_shape_text(k, b, sizeof b);
  nn_shape_text(v, c, sizeof c);
  return nni_opfail(s, NN_ESHAPE, "queries (..., L, E), keys (..., S, E) and values (..., S, V) are needed, got (%s), (%s), (%s)", a, b, c);
}

/* scores (..., L, S) with -inf where the key comes after the query */
static nn_tensor *causal(nni_scope *s, nn_tensor *scores) {
  int n = scores ? scores->l.ndim : 0;
  if (!n) return NULL;
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)scores->l.shape[n - 2]), NN_F(1), NN_I(NN_I64));
  nn_tensor *j = nni_do(s, arange, NN_F(0), NN_F((double)scores->l.shape[n - 1]), NN_F(1), NN_I(NN_I64));
  nn_tensor *seen = nni_do(s, le, NN_T(j), NN_T(nni_do(s, unsqueeze, NN_T(i), NN_I(-1))));
  return nni_do(s, where, NN_T(seen), NN_T(scores), NN_F(-INFINITY));
}

nn_status nni_rule_scaled_dot_product_attention(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[3] = {c->arg[0].u.t, c->arg[1].u.t, c->arg[2].u.t};
  if (!nni_reals(s, 3, in)) return nni_error_of(s->ctx)->status;
  nn_tensor *q = in[0], *k = in[1], *v = in[2];
  nn_status st = attention_shapes(s, q, k, v);
  if (st != NN_OK) return st;
  double scale = c->arg[6].kind == NN_ARG_FLOAT ? c->arg[6].u.f : 1 / sqrt((double)q->l.shape[q->l.ndim - 1]), p = c->arg[4].u.f;
  nn_tensor *scaled = nni_do(s, mul, NN_T(q), NN_F(scale));
  nn_tensor *scores = nni_do(s, matmul, NN_T(scaled), NN_T(nni_do(s, transpose, NN_T(k), NN_I(-2), NN_I(-1))));
  if (c->arg[5].u.i) scores = causal(s, scores);
  if (c->arg[3].kind == NN_ARG_TENSOR) {
    nn_tensor *mask = c->arg[3].u.t;
    if (mask->dtype == NN_BOOL) scores = nni_do(s, where, NN_T(mask), NN_T(scores), NN_F(-INFINITY));
    else scores = nni_do(s, add, NN_T(scores), NN_T(mask));
  }
  nn_tensor *weights = nni_do(s, softmax, NN_T(scores), NN_I(-1));
  if (p != 0) weights = nni_do(s, dropout, NN_T(weights), NN_F(p));
  return nni_give(c, nni_do(s, matmul, NN_T(weights), NN_T(v)));
}

/* ---- embedding: ids of any shape, weight (V, E) -> (ids..., E) ---- */
nn_status nni_rule_embedding(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *ids = c->arg[0].u.t, *w = c->arg[1].u.t;
  int64_t shape[NN_MAXDIM], n = nn_numel(ids);
  int nd = ids->l.ndim;
  if (w->l.ndim != 2) return nni_opfail(s, NN_ESHAPE, "the weight must be a matrix (ids, features), it has %d dims", w->l.ndim);
  if (nd == NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "ids of %d dims; at most %d are possible", nd, NN_MAXDIM - 1);
  for (int i = 0; i < nd; i++) shape[i] = ids->l.shape[i];
  shape[nd] = w->l.shape[1];
  nn_tensor *flat = nni_reshape(s, ids, 1, &n);
  nn_tensor *y = nni_do(s, index_select, NN_T(w), NN_I(0), NN_T(flat));
  y = y ? nni_reshape(s, y, nd + 1, shape) : NULL;
  const nn_arg *pad = &c->arg[2];
  if (pad->kind == NN_ARG_INTS && pad->n != 1) return nni_opfail(s, NN_EINVAL, "one padding_id is possible, got %d", pad->n);
  if (y && pad->kind != NN_ARG_NONE) { /* that row gets no gradient */
    nn_arg id = NN_I(pad->kind == NN_ARG_INTS ? pad->u.ints[0] : pad->u.i);
    nn_tensor *fixed = nni_do(s, unsqueeze, NN_T(nni_do(s, eq, NN_T(ids), id)), NN_I(-1));
    nn_tensor *plain = nni_hold(s, nni_tensor_view(y, y->dtype, &y->l));
    y = nni_do(s, where, NN_T(fixed), NN_T(plain), NN_T(y));
  }
  return nni_give(c, y);
}

/* ---- split4: what a recurrent cell does with its gates and a sequence with its steps. The gradient of a slice is a tensor of x's size; the pieces of one
** split4 share one, so a sequence taken apart by repeated split4 costs its size times log4 of its length. ---- */
nn_status nni_rule_split4(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const nn_arg *sizes = &c->arg[2];
  int dim;
  if (!nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return NN_EINVAL;
  if (sizes->kind != NN_ARG_INTS || sizes->n != 4) return nni_opfail(s, NN_EINVAL, "four sizes are needed");
  int64_t start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM], rest = x->l.shape[dim];
  for (int i = 0; i < x->l.ndim; i++) size[i] = x->l.shape[i], step[i] = 1;
  for (int k = 0; k < 4; k++) { /* one by one: a sum may overflow */
    if (sizes->u.ints[k] < 0 || sizes->u.ints[k] > rest) rest = -1;
    else rest -= sizes->u.ints[k];
    if (rest < 0) break;
  }
  if (rest != 0) {
    char a[150];
    nn_shape_text(x, a, sizeof a);
    return nni_opfail(s, NN_ESHAPE, "the sizes must be at least 0 and add up to dim %d of (%s)", dim + 1, a);
  }
  for (int k = 0; k < 4; k++) {
    size[dim] = sizes->u.ints[k];
    nn_status st = nni_give(c, nni_do(s, slice, NN_T(x), NN_INTS(x->l.ndim, start), NN_INTS(x->l.ndim, size), NN_INTS(x->l.ndim, step)));
    if (st != NN_OK) return st;
    start[dim] += size[dim];
    if (start[dim] == x->l.shape[dim]) start[dim] = 0; /* an empty piece at the end starts inside */
  }
  return NN_OK;
}

nn_status nni_grad_split4(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *piece[4];
  int dim, n = 0;
  if (!nni_dim(s, g->arg[1].u.i, g->xs[0].ndim, &dim)) return NN_EINVAL;
  nni_out o = g->xs[0];
  for (int k = 0; k < 4; k++) {
    o.shape[dim] = g->arg[2].u.ints[k];
    if (!o.shape[dim]) continue;
    piece[n] = g->d[k] ? g->d[k] : nni_do(s, full, NN_INTS(o.ndim, o.shape), NN_F(0), NN_I(o.dtype));
    if (!piece[n++]) return nni_error_of(s->ctx)->status;
  }
  if (n > 0) g->dx[0] = n == 1 ? piece[0] : nni_do(s, cat, NN_TENSORS(n, piece), NN_I(dim));
  else g->dx[0] = nni_do(s, full, NN_INTS(g->xs[0].ndim, g->xs[0].shape), NN_F(0), NN_I(g->xs[0].dtype));
  return g->dx[0] ? NN_OK : nni_error_of(s->ctx)->status;
}
