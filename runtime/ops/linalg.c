/* ops/linalg.c - linear algebra: products with names of their own, and decompositions, solutions and determinants of (batches of) matrices.
**
** Gradients are those of M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008), where nothing else
** is named. Letters: ' transposes the last two dims, dq is the cotangent of q. M rows, N columns, B = min(M, N).
*/
#include <math.h>
#include "ops.h"

enum { MOST = 20000, FAR = 1 << 24 }; /* LAPACK counts its workspace in 32 bits: the smaller side, and the larger one */

static nn_status error_of(nni_scope *s) { return nni_error_of(s->ctx)->status; }

/* short names for what gradients are made of; NULL in, NULL out */
static nn_tensor *flip(nni_scope *s, nn_tensor *t) { return nni_do(s, transpose, NN_T(t), NN_I(-2), NN_I(-1)); }
static nn_tensor *mm(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, matmul, NN_T(a), NN_T(b)); }
static nn_tensor *times(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, mul, NN_T(a), NN_T(b)); }
static nn_tensor *plus(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, add, NN_T(a), NN_T(b)); }
static nn_tensor *minus(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, sub, NN_T(a), NN_T(b)); }
static nn_tensor *negative(nni_scope *s, nn_tensor *a) { return nni_do(s, neg, NN_T(a)); }
static nn_tensor *column(nni_scope *s, nn_tensor *t) { return nni_do(s, unsqueeze, NN_T(t), NN_I(-1)); }              /* scales rows */
static nn_tensor *row(nni_scope *s, nn_tensor *t) { return nni_do(s, unsqueeze, NN_T(t), NN_I(-2)); }                 /* scales columns */
static nn_tensor *left_solve(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, solve, NN_T(a), NN_T(b)); } /* inv(a) b */

/* b inv(a') = (inv(a) b')' */
static nn_tensor *right_solve(nni_scope *s, nn_tensor *b, nn_tensor *a) { return flip(s, left_solve(s, a, flip(s, b))); }
/* (a + a') / 2 */
static nn_tensor *symmetric(nni_scope *s, nn_tensor *a) { return nni_do(s, mul, NN_T(plus(s, a, flip(s, a))), NN_F(0.5)); }

/* bool (n, n): the diagonal, or what lies on and below it */
static nn_tensor *diagonal(nni_scope *s, int64_t n) {
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)n), NN_F(1), NN_I(NN_I64));
  return nni_do(s, eq, NN_T(column(s, i)), NN_T(i));
}
static nn_tensor *lower(nni_scope *s, int64_t n) {
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)n), NN_F(1), NN_I(NN_I64));
  return nni_do(s, ge, NN_T(column(s, i)), NN_T(i));
}
static nn_tensor *only(nni_scope *s, nn_tensor *mask, nn_tensor *x) { return nni_do(s, where, NN_T(mask), NN_T(x), NN_F(0)); }
/* 1 / (s_j - s_i) off the diagonal, 0 on it: infinite for equal values */
static nn_tensor *gaps(nni_scope *s, nn_tensor *v, nn_tensor *diag) {
  nn_tensor *gap = minus(s, row(s, v), column(s, v));
  nn_tensor *safe = nni_do(s, where, NN_T(diag), NN_F(1), NN_T(gap));
  return nni_do(s, where, NN_T(diag), NN_F(0), NN_T(nni_do(s, reciprocal, NN_T(safe))));
}

static nn_status got(nni_gradcall *g, int i, nn_tensor *dx) {
  g->dx[i] = dx;
  return dx ? NN_OK : error_of(&g->s);
}

/* ---- checks ---- */
static nn_status check_matrix(nni_scope *s, const nn_tensor *a, bool square) {
  char x[150];
  nn_shape_text(a, x, sizeof x);
  if (a->l.ndim < 2) return nni_opfail(s, NN_ESHAPE, "a matrix (at least 2 dims) is needed, the shape is (%s)", x);
  int64_t m = a->l.shape[a->l.ndim - 2], n = a->l.shape[a->l.ndim - 1], least = m < n ? m : n, most = m < n ? n : m;
  if (square && m != n) return nni_opfail(s, NN_ESHAPE, "the matrix must be square, the shape is (%s)", x);
  if (least > MOST || most > FAR) return nni_opfail(s, NN_ESHAPE, "the matrix is too large for LAPACK: (%s); the smaller side may be %d", x, MOST);
  return NN_OK;
}

static nn_status check_vectors(nni_call *c) {
  nn_tensor *a = c->arg[0].u.t, *b = c->arg[1].u.t;
  if (a->l.ndim == 1 && b->l.ndim == 1) return NN_OK;
  char x[150], y[150];
  nn_shape_text(a, x, sizeof x);
  nn_shape_text(b, y, sizeof y);
  return nni_opfail(&c->s, NN_ESHAPE, "two vectors are needed, the shapes are (%s) and (%s); for more dims use matmul or einsum", x, y);
}

/* ---- products ---- */
nn_status nni_rule_dot(nni_call *c) {
  nn_status st = check_vectors(c);
  if (st != NN_OK) return st;
  nn_tensor *a = c->arg[0].u.t, *b = c->arg[1].u.t;
  if (a->l.shape[0] != b->l.shape[0])
    return nni_opfail(&c->s, NN_ESHAPE, "the vectors have %lld and %lld elements", (long long)a->l.shape[0], (long long)b->l.shape[0]);
  return nni_give(c, nni_do(&c->s, sum, NN_T(times(&c->s, a, b)), NN_NONE, NN_I(0)));
}

nn_status nni_rule_outer(nni_call *c) {
  nn_status st = check_vectors(c);
  return st != NN_OK ? st : nni_give(c, times(&c->s, column(&c->s, c->arg[0].u.t), c->arg[1].u.t));
}

nn_status nni_rule_bmm(nni_call *c) {
  nn_tensor *a = c->arg[0].u.t, *b = c->arg[1].u.t;
  if (a->l.ndim != 3 || b->l.ndim != 3 || a->l.shape[0] != b->l.shape[0] || a->l.shape[2] != b->l.shape[1]) {
    char x[150], y[150];
    nn_shape_text(a, x, sizeof x);
    nn_shape_text(b, y, sizeof y);
    return nni_opfail(&c->s, NN_ESHAPE, "(B, M, K) x (B, K, N) is needed, the shapes are (%s) and (%s); matmul broadcasts", x, y);
  }
  return nni_give(c, mm(&c->s, a, b));
}

nn_status nni_rule_addmm(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *a = c->arg[1].u.t, *b = c->arg[2].u.t;
  if (a->l.ndim != 2 || b->l.ndim != 2) return nni_opfail(s, NN_ESHAPE, "a and b must be matrices, they have %d and %d dims", a->l.ndim, b->l.ndim);
  nn_tensor *y = mm(s, a, b);
  if (!y) return error_of(s);
  int64_t shape[2] = {y->l.shape[0], y->l.shape[1]};
  if (x->l.ndim > 2) return nni_opfail(s, NN_ESHAPE, "x has %d dims, the product has 2", x->l.ndim);
  for (int i = 0; i < x->l.ndim; i++) {
    char text[150];
    int64_t have = x->l.shape[i], want = shape[2 - x->l.ndim + i];
    nn_shape_text(x, text, sizeof text);
    if (have != 1 && have != want)
      return nni_opfail(s, NN_ESHAPE, "x (%s) does not broadcast to the product, %lldx%lld", text, (long long)shape[0], (long long)shape[1]);
  }
  if (c->arg[4].u.f != 1) y = nni_do(s, mul, NN_T(y), c->arg[4]);
  x = nni_do(s, expand, NN_T(x), NN_INTS(2, shape)); /* x may not widen the product */
  if (c->arg[3].u.f != 1) x = nni_do(s, mul, NN_T(x), c->arg[3]);
  if (!x) return error_of(s);
  return nni_give(c, c->arg[3].u.f == 0 ? y : plus(s, x, y));
}

/* sum(f)^(1/p) with derivative 0 where the sum is 0 (rows that are equal) */
static nn_tensor *root(nni_scope *s, nn_tensor *sum, double p) {
  nn_tensor *zero = nni_do(s, eq, NN_T(sum), NN_F(0)), *safe = nni_do(s, where, NN_T(zero), NN_F(1), NN_T(sum));
  nn_tensor *y = p == 2 ? nni_do(s, sqrt, NN_T(safe)) : nni_do(s, pow, NN_T(safe), NN_F(1 / p));
  return nni_do(s, where, NN_T(zero), NN_F(0), NN_T(y));
}

nn_status nni_rule_cdist(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *a = nni_real(s, c->arg[0].u.t), *b = nni_real(s, c->arg[1].u.t);
  const double p = c->arg[2].u.f;
  if (!a || !b) return error_of(s);
  if (a->l.ndim < 2 || b->l.ndim < 2 || a->l.shape[a->l.ndim - 1] != b->l.shape[b->l.ndim - 1]) {
    char x[150], y[150];
    nn_shape_text(a, x, sizeof x);
    nn_shape_text(b, y, sizeof y);
    return nni_opfail(s, NN_ESHAPE, "rows of one length are needed, the shapes are (%s) and (%s)", x, y);
  }
  if (!(p >= 0)) return nni_opfail(s, NN_EINVAL, "p must not be negative, it is %g", p);
  nn_tensor *diff = minus(s, row(s, a), nni_do(s, unsqueeze, NN_T(b), NN_I(-3)));
  const nn_arg last = NN_I(-1), drop = NN_I(0);
  if (p == 0) return nni_give(c, nni_do(s, sum, NN_T(nni_cast(s, nni_do(s, ne, NN_T(diff), NN_F(0)), diff ? diff->dtype : NN_F32)), last, drop));
  if (p == 2) return nni_give(c, root(s, nni_do(s, sum, NN_T(nni_do(s, square, NN_T(diff))), last, drop), 2));
  nn_tensor *size = nni_do(s, abs, NN_T(diff));
  if (!size) return error_of(s);
  if (p == 1) return nni_give(c, nni_do(s, sum, NN_T(size), last, drop));
  if (isinf(p) && size->l.shape[size->l.ndim - 1] > 0) return nni_give(c, nni_do(s, amax, NN_T(size), last, drop));
  if (isinf(p)) return nni_give(c, nni_do(s, sum, NN_T(size), last, drop));
  return nni_give(c, root(s, nni_do(s, sum, NN_T(nni_do(s, pow, NN_T(size), NN_F(p))), last, drop), p));
}

/* ---- recording a kernel ---- */
/* shape of x without its last two dims, then what is given; the dtype that operand() gives */
static nni_out like(const nn_tensor *x, int n, int64_t a, int64_t b) {
  nni_out o = nni_like(nn_dtype_is_float(x->dtype) ? x->dtype : NN_F32, x->l.ndim - 2, x->l.shape);
  if (n > 0) o.shape[o.ndim++] = a;
  if (n > 1) o.shape[o.ndim++] = b;
  return o;
}

static nn_status record(nni_call *c, int kernel, int nin, nn_tensor *const *in, const int64_t *ia, const nni_param *pa, int nout, const nni_out *o) {
  nn_tensor *out[NN_MAXOUT];
  for (int i = 0; i < nin; i++)
    if (!in[i]) return error_of(&c->s);
  nni_rec r = {
      .kind = NNI_N_KERNEL, .op = kernel, .nin = nin, .in = in, .nia = ia ? 1 : 0, .ia = ia, .npa = pa ? 1 : 0, .pa = pa, .nout = nout, .out = o};
  nn_status st = nni_record(c->s.ctx, &r, out);
  for (int i = 0; st == NN_OK && i < nout; i++) c->out[c->nout++] = out[i];
  return st;
}

static nn_tensor *operand(nni_call *c, int i) { return nni_dense(&c->s, nni_real(&c->s, c->arg[i].u.t)); }

/* a square matrix in; results without the last two dims (0), vectors (1), matrices (2) */
static nn_status of_square(nni_call *c, int kernel, int nout, const int *dims) {
  nn_tensor *a = c->arg[0].u.t;
  nni_out o[2];
  nn_status st = check_matrix(&c->s, a, true);
  if (st != NN_OK) return st;
  for (int i = 0; i < nout; i++) o[i] = like(a, dims[i], a->l.shape[a->l.ndim - 1], a->l.shape[a->l.ndim - 1]);
  a = operand(c, 0);
  return record(c, kernel, 1, &a, NULL, NULL, nout, o);
}

/* ---- inv, det, slogdet ---- */
nn_status nni_rule_inv(nni_call *c) { return of_square(c, NNI_K_inv, 1, (int[]){2}); }
nn_status nni_grad_inv(nni_gradcall *g) { /* -y' d y' */
  nn_tensor *t = flip(&g->s, g->y[0]);
  return got(g, 0, negative(&g->s, mm(&g->s, mm(&g->s, t, g->d[0]), t)));
}

nn_status nni_rule_det(nni_call *c) { return of_square(c, NNI_K_det, 1, (int[]){0}); }
nn_status nni_grad_det(nni_gradcall *g) {
  nni_scope *s = &g->s;
  return got(g, 0, times(s, column(s, column(s, g->d[0])), nni_do(s, cofactor, NN_T(g->x[0]))));
}

nn_status nni_rule_cofactor(nni_call *c) { return of_square(c, NNI_K_cofactor, 1, (int[]){2}); }

/* u (..., M, M) and v' of an svd -> the sign of det(u v'), without history: it does not change */
static nn_tensor *turn_sign(nni_scope *s, nn_tensor *u, nn_tensor *vh) {
  nn_tensor *a = u ? nni_hold(s, nni_tensor_view(u, u->dtype, &u->l)) : NULL, *b = vh ? nni_hold(s, nni_tensor_view(vh, vh->dtype, &vh->l)) : NULL;
  nn_tensor *det = times(s, nni_do(s, det, NN_T(a)), nni_do(s, det, NN_T(b)));
  return column(s, column(s, nni_do(s, sign, NN_T(det))));
}

/* a = u S v' with a diagonal S, and cof(a) = det(u v') u cof(S) v'. For a change of S, whatever its shape, with p_ij = the product of all s but s_i and s_j,
**   dcof_ii = sum over j != i of p_ij dS_jj,   dcof_ij = -p_ij dS_ji
** which divides by nothing: singular matrices, and equal singular values, have this gradient too. (Its own gradient is that of svd, which needs distinct
** singular values.) */
nn_status nni_grad_cofactor(nni_gradcall *g) {
  nni_scope *s = &g->s;
  const int64_t n = g->xs[0].shape[g->xs[0].ndim - 1];
  nn_tensor *out[NN_MAXOUT] = {NULL}, *diag = diagonal(s, n);
  int nout = 0;
  if (n < 2) return got(g, 0, nni_do(s, mul, NN_T(g->d[0]), NN_F(0))); /* a constant */
  nn_status st = nni_apply(s->ctx, nni_op_row(NNI_OP_svd), (nn_arg[]){NN_T(g->x[0]), NN_I(0)}, 2, out, &nout);
  if (st != NN_OK) return st;
  for (int i = 0; i < nout; i++) nni_hold(s, out[i]);
  nn_tensor *e = mm(s, mm(s, flip(s, out[0]), g->d[0]), flip(s, out[2])); /* the cotangent of cof(S) */
  nn_tensor *either = nni_do(s, logical_or, NN_T(row(s, diag)), NN_T(nni_do(s, unsqueeze, NN_T(diag), NN_I(0))));
  nn_tensor *p = nni_do(s, prod, NN_T(nni_do(s, where, NN_T(either), NN_F(1), NN_T(row(s, row(s, out[1]))))), NN_I(-1), NN_I(0));
  nn_tensor *others = nni_do(s, where, NN_T(diag), NN_F(0), NN_T(p));
  nn_tensor *own = mm(s, others, column(s, nni_do(s, sum, NN_T(only(s, diag, e)), NN_I(-1), NN_I(0))));
  nn_tensor *slope = nni_do(s, where, NN_T(diag), NN_T(own), NN_T(negative(s, times(s, others, flip(s, e)))));
  return got(g, 0, times(s, turn_sign(s, out[0], out[2]), mm(s, mm(s, out[0], slope), out[2])));
}

nn_status nni_rule_slogdet(nni_call *c) { return of_square(c, NNI_K_slogdet, 2, (int[]){0, 0}); }
nn_status nni_grad_slogdet(nni_gradcall *g) { /* d inv(a)'; the sign is constant */
  nni_scope *s = &g->s;
  if (!g->d[1]) return NN_OK;
  return got(g, 0, times(s, column(s, column(s, g->d[1])), flip(s, nni_do(s, inv, NN_T(g->x[0])))));
}

/* ---- solve, lstsq: two matrices whose leading dims broadcast; b may be one vector ---- */
typedef struct sides {
  nn_tensor *a, *b;
  int64_t m, n, rhs;
  bool vector;
} sides;

static nn_status two_sides(nni_call *c, bool square, sides *p) {
  nni_scope *s = &c->s;
  nn_tensor *a = c->arg[0].u.t, *b = c->arg[1].u.t;
  nn_status st = check_matrix(s, a, square);
  if (st != NN_OK) return st;
  char x[150], y[150];
  nn_shape_text(a, x, sizeof x);
  nn_shape_text(b, y, sizeof y);
  p->vector = b->l.ndim == 1;
  p->m = a->l.shape[a->l.ndim - 2];
  p->n = a->l.shape[a->l.ndim - 1];
  if (b->l.ndim == 0 || b->l.shape[p->vector ? 0 : b->l.ndim - 2] != p->m)
    return nni_opfail(s, NN_ESHAPE, "a (%s) has %lld rows, b (%s) must have as many", x, (long long)p->m, y);
  nn_tensor *in[2] = {a, b};
  if (!nni_reals(s, 2, in)) return error_of(s);
  a = in[0];
  b = p->vector ? column(s, in[1]) : in[1];
  if (!b) return error_of(s);
  p->rhs = b->l.shape[b->l.ndim - 1];
  if (p->rhs > FAR) return nni_opfail(s, NN_ESHAPE, "b (%s) has too many columns for LAPACK", y);
  nni_layout la = a->l, lb = b->l;
  int64_t shape[NN_MAXDIM];
  int nb;
  la.ndim -= 2;
  lb.ndim -= 2;
  if (!nni_layout_broadcast(&la, &lb, &nb, shape) || nb + 2 > NN_MAXDIM)
    return nni_opfail(s, NN_ESHAPE, "leading dims do not broadcast: (%s) and (%s)", x, y);
  shape[nb] = p->m;
  shape[nb + 1] = p->n;
  p->a = nni_dense(s, nni_do(s, expand, NN_T(a), NN_INTS(nb + 2, shape)));
  shape[nb + 1] = p->rhs;
  p->b = nni_dense(s, nni_do(s, expand, NN_T(b), NN_INTS(nb + 2, shape)));
  return p->a && p->b ? NN_OK : error_of(s);
}

static nn_status give_side(nni_call *c, int kernel, const sides *p, const nni_param *pa) {
  nn_tensor *in[2] = {p->a, p->b};
  nni_out o = like(p->a, 2, p->n, p->rhs);
  nn_status st = record(c, kernel, 2, in, NULL, pa, 1, &o);
  if (st != NN_OK || !p->vector) return st;
  nn_tensor *x = nni_hold(&c->s, c->out[--c->nout]);
  return nni_give(c, nni_do(&c->s, squeeze, NN_T(x), NN_I(-1)));
}

nn_status nni_rule_solve(nni_call *c) {
  sides p;
  nn_status st = two_sides(c, true, &p);
  return st == NN_OK ? give_side(c, NNI_K_solve, &p, NULL) : st;
}

nn_status nni_grad_solve(nni_gradcall *g) { /* db = inv(a') d, da = -db x' */
  nni_scope *s = &g->s;
  bool vector = g->xs[1].ndim == 1;
  nn_tensor *d = vector ? column(s, g->d[0]) : g->d[0], *x = vector ? column(s, g->y[0]) : g->y[0];
  nn_tensor *db = left_solve(s, flip(s, g->x[0]), d);
  if (g->need[0]) g->dx[0] = negative(s, mm(s, db, flip(s, x)));
  if (g->need[1]) g->dx[1] = vector ? nni_do(s, squeeze, NN_T(db), NN_I(-1)) : db;
  return s->failed ? error_of(s) : NN_OK;
}

/* singular values that count as zero, when the caller leaves it to us: as NumPy and PyTorch do */
static double part(const nn_arg *given, const nn_tensor *a, int64_t m, int64_t n) {
  const double eps = a->dtype == NN_F64 ? 0x1p-52 : 0x1p-23;
  return given->kind == NN_ARG_NONE ? eps * (double)(m > n ? m : n) : given->kind == NN_ARG_INT ? (double)given->u.i : given->u.f;
}

nn_status nni_rule_lstsq(nni_call *c) {
  sides p;
  nn_status st = two_sides(c, false, &p);
  if (st != NN_OK) return st;
  return give_side(c, NNI_K_lstsq, &p, &(nni_param){.f = part(&c->arg[2], p.a, p.m, p.n)});
}

nn_status nni_rule_pinv(nni_call *c) { /* the least-squares solution for each unit vector */
  nni_scope *s = &c->s;
  nn_tensor *a = c->arg[0].u.t;
  nn_status st = check_matrix(s, a, false);
  if (st != NN_OK) return st;
  int64_t m = a->l.shape[a->l.ndim - 2], n = a->l.shape[a->l.ndim - 1];
  sides p = {.m = m, .n = n, .rhs = m, .a = operand(c, 0)};
  nni_out o = like(a, 2, m, m);
  p.b = nni_dense(s, nni_do(s, expand, NN_T(nni_cast(s, diagonal(s, m), o.dtype)), NN_INTS(o.ndim, o.shape)));
  if (!p.a || !p.b) return error_of(s);
  return give_side(c, NNI_K_lstsq, &p, &(nni_param){.f = part(&c->arg[1], p.a, m, n)});
}

/* G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate" (1973): for constant rank
** dp = -p da p + p p' da' (1 - a p) + (1 - p a) da' p' p, so that
**   da = -p' d p' + (d' p p' - a p d' p p') + (p' p d' - p' p d' p a) */
static nn_tensor *pinv_grad(nni_scope *s, nn_tensor *a, nn_tensor *p, nn_tensor *d) {
  nn_tensor *pt = flip(s, p), *dt = flip(s, d);
  nn_tensor *u = mm(s, mm(s, dt, p), pt), *v = mm(s, pt, mm(s, p, dt)); /* (M, N) both */
  nn_tensor *first = negative(s, mm(s, mm(s, pt, d), pt));
  nn_tensor *second = minus(s, u, mm(s, a, mm(s, p, u)));
  return plus(s, plus(s, first, second), minus(s, v, mm(s, mm(s, v, p), a)));
}

nn_status nni_grad_pinv(nni_gradcall *g) {
  nni_scope *s = &g->s;
  return got(g, 0, pinv_grad(s, nni_real(s, g->x[0]), g->y[0], g->d[0]));
}

nn_status nni_grad_lstsq(nni_gradcall *g) { /* x = pinv(a) b */
  nni_scope *s = &g->s;
  bool vector = g->xs[1].ndim == 1;
  nn_tensor *in[2] = {g->x[0], g->x[1]}, *d = vector ? column(s, g->d[0]) : g->d[0];
  if (!nni_reals(s, 2, in)) return error_of(s);
  nn_tensor *a = in[0], *b = in[1];
  nn_tensor *p = nni_do(s, pinv, NN_T(a), g->arg[2]);
  if (vector) b = column(s, b);
  if (g->need[0]) g->dx[0] = pinv_grad(s, a, p, mm(s, d, flip(s, b)));
  if (g->need[1]) {
    nn_tensor *db = mm(s, flip(s, p), d);
    g->dx[1] = vector ? nni_do(s, squeeze, NN_T(db), NN_I(-1)) : db;
  }
  return s->failed ? error_of(s) : NN_OK;
}

/* ---- cholesky ---- */
nn_status nni_rule_cholesky(nni_call *c) { return of_square(c, NNI_K_cholesky, 1, (int[]){2}); }

/* I. Murray, "Differentiation of the Cholesky decomposition" (2016): inv(l') sym(p) inv(l), p = the lower triangle of l' d with its diagonal halved */
nn_status nni_grad_cholesky(nni_gradcall *g) {
  nni_scope *s = &g->s;
  int64_t n = g->xs[0].shape[g->xs[0].ndim - 1];
  nn_tensor *lt = flip(s, g->y[0]), *p = only(s, lower(s, n), mm(s, lt, only(s, lower(s, n), g->d[0])));
  nn_tensor *half = nni_do(s, where, NN_T(diagonal(s, n)), NN_F(0.5), NN_F(1));
  nn_tensor *sym = symmetric(s, times(s, p, half));
  return got(g, 0, right_solve(s, left_solve(s, lt, sym), lt));
}

/* ---- qr ---- */
nn_status nni_rule_qr(nni_call *c) {
  nn_tensor *a = c->arg[0].u.t;
  nn_status st = check_matrix(&c->s, a, false);
  if (st != NN_OK) return st;
  int64_t m = a->l.shape[a->l.ndim - 2], n = a->l.shape[a->l.ndim - 1], complete = c->arg[1].u.i != 0, q = complete || m < n ? m : n;
  if (q > MOST) return nni_opfail(&c->s, NN_ESHAPE, "a square q of %lld rows is too large for LAPACK", (long long)q);
  nni_out o[2] = {like(a, 2, m, q), like(a, 2, q, n)};
  a = operand(c, 0);
  return record(c, NNI_K_qr, 1, &a, &complete, NULL, 2, o);
}

/* (dq + q copyltu(r dr' - dq' q)) inv(r'), where copyltu mirrors the lower triangle; q (M, N), r (N, N). Liao, Liu, Wang and Xiang, "Differentiable programming
** tensor networks" (2019). dq or dr may be NULL. */
static nn_tensor *tall_grad(nni_scope *s, nn_tensor *q, nn_tensor *r, nn_tensor *dq, nn_tensor *dr) {
  int64_t n = r->l.shape[r->l.ndim - 1];
  nn_tensor *m = dr ? mm(s, r, flip(s, dr)) : NULL;
  if (dq) {
    nn_tensor *w = mm(s, flip(s, dq), q);
    m = m ? minus(s, m, w) : negative(s, w);
  }
  nn_tensor *low = only(s, lower(s, n), m), *mirror = plus(s, low, flip(s, nni_do(s, where, NN_T(diagonal(s, n)), NN_F(0), NN_T(low))));
  nn_tensor *sum = mm(s, q, mirror);
  return right_solve(s, dq ? plus(s, dq, sum) : sum, r);
}

static nn_tensor *columns(nni_scope *s, nn_tensor *t, int64_t from, int64_t count) {
  int64_t start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM];
  int n = t ? t->l.ndim : 1;
  for (int i = 0; t && i < n; i++) size[i] = t->l.shape[i], step[i] = 1;
  start[n - 1] = from;
  size[n - 1] = count;
  return t ? nni_do(s, slice, NN_T(t), NN_INTS(n, start), NN_INTS(n, size), NN_INTS(n, step)) : NULL;
}

/* A wide matrix is (x, y) = q (u, v) with square u: y = q v, and x as above. Roberts and Roberts, "QR and LQ decomposition matrix backpropagation algorithms
** for square, wide, and deep matrices" (2020). */
nn_status nni_grad_qr(nni_gradcall *g) {
  nni_scope *s = &g->s;
  const nni_out *a = &g->xs[0];
  int64_t m = a->shape[a->ndim - 2], n = a->shape[a->ndim - 1];
  nn_tensor *q = g->y[0], *r = g->y[1], *dq = g->d[0], *dr = g->d[1];
  if (g->arg[1].u.i && m > n) return nni_opfail(s, NN_EUNSUPPORTED, "the square q of a tall matrix has no gradient: leave `complete` out");
  if (!q || !r) return error_of(s);
  if (m >= n) return got(g, 0, tall_grad(s, q, r, dq, dr));
  nn_tensor *u = columns(s, r, 0, m), *dv = dr ? columns(s, dr, m, n - m) : NULL, *du = dr ? columns(s, dr, 0, m) : NULL;
  if (dv) {
    nn_tensor *y = mm(s, q, columns(s, r, m, n - m)), *more = mm(s, y, flip(s, dv));
    dq = dq ? plus(s, dq, more) : more;
  }
  nn_tensor *dx = u ? tall_grad(s, q, u, dq, du) : NULL;
  nn_tensor *dy = dv ? mm(s, q, dv) : NULL;
  if (!dy) {
    int64_t shape[NN_MAXDIM];
    for (int i = 0; i < a->ndim; i++) shape[i] = a->shape[i];
    shape[a->ndim - 1] = n - m;
    dy = nni_do(s, full, NN_INTS(a->ndim, shape), NN_F(0), NN_I(a->dtype));
  }
  if (!dx || !dy) return error_of(s);
  nn_tensor *both[2] = {dx, dy};
  return got(g, 0, nni_do(s, cat, NN_TENSORS(2, both), NN_I(a->ndim - 1)));
}

/* ---- svd ---- */
nn_status nni_rule_svd(nni_call *c) {
  nn_tensor *a = c->arg[0].u.t;
  nn_status st = check_matrix(&c->s, a, false);
  if (st != NN_OK) return st;
  int64_t m = a->l.shape[a->l.ndim - 2], n = a->l.shape[a->l.ndim - 1], b = m < n ? m : n, full = c->arg[1].u.i != 0;
  if (full && (m > MOST || n > MOST)) return nni_opfail(&c->s, NN_ESHAPE, "square u and vh are too large for LAPACK: pass full_matrices = false");
  nni_out o[3] = {like(a, 2, m, full ? m : b), like(a, 1, b, 0), like(a, 2, full ? n : b, n)};
  a = operand(c, 0);
  return record(c, NNI_K_svd, 1, &a, &full, NULL, 3, o);
}

/* J. Townsend, "Differentiating the singular value decomposition" (2016), with f = 1 / (s_j^2 - s_i^2):
**   u ((f (u' du - du' u)) s + ds + s (f (v' dv - dv' v))) v' + (1 - u u') du inv(s) v' + u inv(s) dv' (1 - v v')   for distinct singular values */
nn_status nni_grad_svd(nni_gradcall *g) {
  nni_scope *s = &g->s;
  const nni_out *a = &g->xs[0];
  int64_t m = a->shape[a->ndim - 2], n = a->shape[a->ndim - 1], b = m < n ? m : n;
  nn_tensor *u = g->y[0], *v = g->y[1], *vh = g->y[2], *du = g->d[0], *dvh = g->d[2];
  if (g->arg[1].u.i && m != n) {
    if (du || dvh)
      return nni_opfail(s, NN_EUNSUPPORTED, "square u and vh of a matrix that is not square have no gradient: pass full_matrices = false");
    u = columns(s, u, 0, b);
    vh = flip(s, columns(s, flip(s, vh), 0, b));
  }
  nn_tensor *diag = diagonal(s, b), *inner = g->d[1] ? only(s, diag, row(s, g->d[1])) : NULL, *more = NULL;
  if (!u || !vh || !v || !diag) return error_of(s);
  if (du || dvh) {
    nn_tensor *f = gaps(s, nni_do(s, square, NN_T(v)), diag);
    if (du) {
      nn_tensor *w = mm(s, flip(s, u), du), *e = times(s, times(s, f, minus(s, w, flip(s, w))), row(s, v));
      inner = inner ? plus(s, inner, e) : e;
      if (m > b) more = mm(s, nni_do(s, div, NN_T(minus(s, du, mm(s, u, w))), NN_T(row(s, v))), vh);
    }
    if (dvh) {
      nn_tensor *w = mm(s, vh, flip(s, dvh)), *e = times(s, column(s, v), times(s, f, minus(s, w, flip(s, w))));
      inner = inner ? plus(s, inner, e) : e;
      if (n > b) more = mm(s, u, nni_do(s, div, NN_T(minus(s, dvh, mm(s, flip(s, w), vh))), NN_T(column(s, v))));
    }
  }
  if (!inner) return s->failed ? error_of(s) : NN_OK;
  nn_tensor *da = mm(s, mm(s, u, inner), vh);
  return got(g, 0, more ? plus(s, da, more) : da);
}

/* ---- eigh ---- */
nn_status nni_rule_eigh(nni_call *c) { return of_square(c, NNI_K_eigh, 2, (int[]){1, 2}); }

/* v (dw + f (v' dv)) v' with f = 1 / (w_j - w_i), for distinct eigenvalues; made symmetric as the matrix is */
nn_status nni_grad_eigh(nni_gradcall *g) {
  nni_scope *s = &g->s;
  int64_t n = g->xs[0].shape[g->xs[0].ndim - 1];
  nn_tensor *w = g->y[0], *v = g->y[1], *diag = diagonal(s, n);
  nn_tensor *inner = g->d[0] ? only(s, diag, row(s, g->d[0])) : NULL;
  if (g->d[1]) {
    nn_tensor *e = times(s, gaps(s, w, diag), mm(s, flip(s, v), g->d[1]));
    inner = inner ? plus(s, inner, e) : e;
  }
  return got(g, 0, symmetric(s, mm(s, mm(s, v, inner), flip(s, v))));
}
