/* ops/pointwise.c - one rule and one gradient for all rows of pointwise.def.
**
** The rule promotes dtypes, broadcasts shapes and records one node. The gradients are the table's expressions, expanded here to recorded operators; reducing
** them to the argument's shape is graph/grad.c's business.
*/
#include <math.h>
#include <math.h>
#include "ops.h"

/* ---- rule ---- */
static nn_status shapes_fail(nn_context *ctx, const nn_op *op, const nn_arg *arg, int n) {
  char a[3][150];
  int k = 0;
  for (int i = 0; i < n && k < 3; i++)
    if (arg[i].kind == NN_ARG_TENSOR) nni_shape_text(arg[i].u.t->l.ndim, arg[i].u.t->l.shape, a[k++], sizeof a[0]);
  if (k == 3) return nni_fail(nni_error_of(ctx), NN_ESHAPE, "%s: shapes do not broadcast: (%s), (%s), (%s)", op->name, a[0], a[1], a[2]);
  return nni_fail(nni_error_of(ctx), NN_ESHAPE, "%s: shapes do not broadcast: (%s) and (%s)", op->name, a[0], a[1]);
}

static nn_status infer_shape(nn_context *ctx, const nn_op *op, const nn_arg *arg, int n, nni_out *o) {
  const nni_layout *first = NULL;
  nni_layout acc;
  for (int i = 0; i < n; i++) {
    if (arg[i].kind != NN_ARG_TENSOR) continue;
    const nni_layout *l = &arg[i].u.t->l;
    if (!first) {
      first = l;
      continue;
    }
    if (nni_layout_same_shape(first, l)) continue;
    int nd;
    int64_t shape[NN_MAXDIM];
    if (!nni_layout_broadcast(first, l, &nd, shape)) return shapes_fail(ctx, op, arg, n);
    nni_layout_contiguous(&acc, nd, shape);
    first = &acc;
  }
  if (!first) return nni_fail(nni_error_of(ctx), NN_EINVAL, "%s: at least one argument must be a tensor", op->name);
  o->ndim = first->ndim;
  memcpy(o->shape, first->shape, sizeof(int64_t) * (size_t)first->ndim);
  int64_t numel;
  if (first == &acc && !nni_size_mul(o->shape, o->ndim, nn_dtype_size(o->dtype), &numel))
    return nni_fail(nni_error_of(ctx), NN_ESHAPE, "%s: the broadcast result is too large", op->name);
  return NN_OK;
}

/* a limit (F) that an integer can hold, or an infinite one, leaves integers what they are */
static nn_dtype limited_dtype(const nn_op *op, const nn_arg *arg, int n) {
  nn_arg v[4];
  for (int i = 0; i < n; i++) {
    v[i] = arg[i];
    if (nni_op_sig(op)->p[i].type != NNI_A_F || arg[i].kind != NN_ARG_FLOAT) continue;
    double x = arg[i].u.f;
    if (x == floor(x)) v[i] = NN_I(0);
  }
  return nni_weak_promote(v, 0, n, NN_BOOL);
}

static nn_dtype compute_dtype(const nn_op *op, const nn_arg *arg, int n) {
  switch (op->type) {
    case 'F': {
      nn_dtype d = nni_weak_promote(arg, 0, n, NN_BOOL);
      return nn_dtype_is_float(d) ? d : NN_F32;
    }
    case 'I': return nni_weak_promote(arg, 0, n, NN_BOOL);
    case 'B': return NN_BOOL;
    case 'W': return nni_weak_promote(arg, 1, n, NN_BOOL);
    case 'C': return nni_weak_promote(arg, 0, n, NN_BOOL);
    default: {
      nn_dtype d = nni_weak_promote(arg, 0, n, NN_BOOL);
      if (d == NN_F32 && arg[0].kind == NN_ARG_TENSOR && arg[0].u.t->dtype != NN_F32) d = limited_dtype(op, arg, n);
      return d == NN_BOOL ? NN_I64 : d; /* arithmetic on truth values counts */
    }
  }
}

/* bits: floats have none to offer, truth values have one */
static nn_status bits_rule(nn_context *ctx, const nn_op **op, nn_dtype d) {
  static const uint8_t has[NNI_NPW] = {[NNI_PW_bitwise_and] = 1, [NNI_PW_bitwise_or] = 1, [NNI_PW_bitwise_xor] = 1, [NNI_PW_bitwise_not] = 1};
  static const nni_opid logical[NNI_NPW] = {[NNI_PW_bitwise_and] = NNI_OP_logical_and, [NNI_PW_bitwise_or] = NNI_OP_logical_or,
                                            [NNI_PW_bitwise_xor] = NNI_OP_logical_xor, [NNI_PW_bitwise_not] = NNI_OP_logical_not};
  if (nn_dtype_is_float(d)) return nni_fail(nni_error_of(ctx), NN_EDTYPE, "%s: floats have no bits to work on; cast to an integer dtype first", (*op)->name);
  if (d != NN_BOOL) return NN_OK;
  if (!has[(*op)->pw]) return nni_fail(nni_error_of(ctx), NN_EDTYPE, "%s: truth values can't be shifted; cast to an integer dtype first", (*op)->name);
  *op = nni_op_row(logical[(*op)->pw]);
  return NN_OK;
}

/* integers to the power of a negative number: there is no integer to give */
static nn_status power_rule(nn_context *ctx, const nn_arg *exponent) {
  if (exponent->kind != NN_ARG_INT || exponent->u.i >= 0) return NN_OK;
  return nni_fail(nni_error_of(ctx), NN_EINVAL, "pow: integers to the power %lld are not integers; make the base a float first", (long long)exponent->u.i);
}

nn_status nni_pw_rule(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out) {
  int n = 0, npa = 0;
  while (n < nargs && n < 4 && arg[n].kind != NN_ARG_NONE) n++;
  nn_dtype cd = compute_dtype(op, arg, n);
  nni_out o;
  o.dtype = op->type == 'C' ? NN_BOOL : cd;
  nn_status st = op->type == 'I' ? bits_rule(ctx, &op, cd) : NN_OK;
  if (op->pw == NNI_PW_pow && !nn_dtype_is_float(cd)) st = power_rule(ctx, &arg[1]);
  if (st == NN_OK) st = infer_shape(ctx, op, arg, n, &o);
  if (st != NN_OK) return st;
  nn_tensor *in[4];
  nni_param pa[4];
  nni_scope s; /* field by field: an initializer would clear the list as well */
  s.ctx = ctx, s.op = op, s.ntmp = 0, s.failed = false;
  for (int i = 0; i < n; i++) {
    if (arg[i].kind == NN_ARG_TENSOR) {
      nn_dtype want = op->type == 'W' && i == 0 ? NN_BOOL : cd;
      in[i] = arg[i].u.t->dtype == want ? arg[i].u.t : nni_cast(&s, arg[i].u.t, want);
      if (!in[i]) {
        nni_scope_close(&s);
        return nni_error_of(ctx)->status;
      }
    } else {
      in[i] = NULL;
      pa[npa++].f = arg[i].kind == NN_ARG_INT ? (double)arg[i].u.i : arg[i].u.f;
    }
  }
  st = nni_record(ctx, &(nni_rec){.kind = NNI_N_PW, .op = op->pw, .nin = n, .in = in, .npa = npa, .pa = pa, .nout = 1, .out = &o}, out);
  if (s.ntmp) nni_scope_close(&s);
  return st;
}

/* ---- gradients: the language of pointwise.def as recorded operators ---- */
/* Arguments may be numbers (the exponent of x^3): what a gradient computes from numbers alone is computed at once, not recorded. */
static bool is_number(const nn_arg *a) { return a->kind == NN_ARG_FLOAT || a->kind == NN_ARG_INT; }
static double number(const nn_arg *a) { return a->kind == NN_ARG_INT ? (double)a->u.i : a->u.f; }

static nn_arg apply(nni_scope *s, nni_opid id, const nn_arg *v, int n) {
  double x[3] = {0, 0, 0};
  for (int i = 0; i < n; i++) {
    if (!is_number(&v[i])) return NN_T(nni_do_(s, id, v, n));
    x[i] = number(&v[i]);
  }
  return NN_F(nni_numbers[nni_op_row(id)->pw](x[0], x[1], x[2]));
}
static nn_arg un(nni_scope *s, nni_opid id, nn_arg a) { return apply(s, id, &a, 1); }
static nn_arg bin(nni_scope *s, nni_opid id, nn_arg a, nn_arg b) {
  nn_arg v[2] = {a, b};
  return apply(s, id, v, 2);
}
static nn_arg sel(nni_scope *s, nn_arg m, nn_arg a, nn_arg b) {
  nn_arg v[3] = {m, a, b};
  if (is_number(&m)) return number(&m) != 0 ? a : b;
  return apply(s, NNI_OP_where, v, 3);
}

#define K(c) NN_F(c)
#define ADD(p, q) bin(s, NNI_OP_add, p, q)
#define SUB(p, q) bin(s, NNI_OP_sub, p, q)
#define MUL(p, q) bin(s, NNI_OP_mul, p, q)
#define DIV(p, q) bin(s, NNI_OP_div, p, q)
#define POW(p, q) bin(s, NNI_OP_pow, p, q)
#define MIN(p, q) bin(s, NNI_OP_minimum, p, q)
#define MAX(p, q) bin(s, NNI_OP_maximum, p, q)
#define LT(p, q) bin(s, NNI_OP_lt, p, q)
#define LE(p, q) bin(s, NNI_OP_le, p, q)
#define GT(p, q) bin(s, NNI_OP_gt, p, q)
#define GE(p, q) bin(s, NNI_OP_ge, p, q)
#define EQ(p, q) bin(s, NNI_OP_eq, p, q)
#define NE(p, q) bin(s, NNI_OP_ne, p, q)
#define AND(p, q) bin(s, NNI_OP_logical_and, p, q)
#define OR(p, q) bin(s, NNI_OP_logical_or, p, q)
#define NOT(p) un(s, NNI_OP_logical_not, p)
#define NEG(p) un(s, NNI_OP_neg, p)
#define ABS(p) un(s, NNI_OP_abs, p)
#define SQRT(p) un(s, NNI_OP_sqrt, p)
#define EXP(p) un(s, NNI_OP_exp, p)
#define EXPM1(p) un(s, NNI_OP_expm1, p)
#define LOG(p) un(s, NNI_OP_log, p)
#define LOG1P(p) un(s, NNI_OP_log1p, p)
#define LOG2(p) un(s, NNI_OP_log2, p)
#define LOG10(p) un(s, NNI_OP_log10, p)
#define SIN(p) un(s, NNI_OP_sin, p)
#define COS(p) un(s, NNI_OP_cos, p)
#define TANH(p) un(s, NNI_OP_tanh, p)
#define ERF(p) un(s, NNI_OP_erf, p)
#define ERFC(p) un(s, NNI_OP_erfc, p)
#define ATAN2(p, q) bin(s, NNI_OP_atan2, p, q)
#define FMOD(p, q) bin(s, NNI_OP_fmod, p, q)
#define MOD(p, q) bin(s, NNI_OP_mod, p, q)
#define FLOORDIV(p, q) bin(s, NNI_OP_floor_div, p, q)
#define FLOOR(p) un(s, NNI_OP_floor, p)
#define CEIL(p) un(s, NNI_OP_ceil, p)
#define RINT(p) un(s, NNI_OP_round, p)
#define TRUNC(p) un(s, NNI_OP_trunc, p)
#define XOR(p, q) bin(s, NNI_OP_logical_xor, p, q)
#define SIGMOID(p) un(s, NNI_OP_sigmoid, p)
#define SINH(p) un(s, NNI_OP_sinh, p)
#define COSH(p) un(s, NNI_OP_cosh, p)
#define SEL(m, p, q) sel(s, m, p, q)
#define NOGRAD NN_NONE

/* one function per row: the gradient of argument i */
#define GRAD1(i, e) if ((i) == want) return e;
#define EACH1(e0) GRAD1(0, e0)
#define EACH2(e0, e1) GRAD1(0, e0) GRAD1(1, e1)
#define EACH3(e0, e1, e2) GRAD1(0, e0) GRAD1(1, e1) GRAD1(2, e2)
#define PICK(e0, e1, e2, NAME, ...) NAME
#define EACH(...) PICK(__VA_ARGS__, EACH3, EACH2, EACH1)(__VA_ARGS__)

#define NN_PW(name, type, sig, n, doc, formula, saves, ...)                                                                  \
  static nn_arg grad_##name(nni_scope *s, int want, nn_arg a, nn_arg b, nn_arg c, nn_arg y, nn_arg d) {                     \
    (void)s, (void)a, (void)b, (void)c, (void)y, (void)d;                                                                    \
    EACH(__VA_ARGS__)                                                                                                        \
    return NN_NONE;                                                                                                          \
  }
#include "pointwise.def"
#undef NN_PW

typedef nn_arg (*row_grad)(nni_scope *s, int want, nn_arg a, nn_arg b, nn_arg c, nn_arg y, nn_arg d);
static const row_grad row_grads[] = {
#define NN_PW(name, ...) grad_##name,
#include "pointwise.def"
#undef NN_PW
};

nn_status nni_pw_grad(nni_gradcall *g) {
  const nn_op *op = g->s.op;
  nn_arg v[4] = {NN_NONE, NN_NONE, NN_NONE, NN_NONE};
  int edge[4] = {-1, -1, -1, -1};
  int k = 0;
  for (int i = 0; i < 4 && g->arg[i].kind != NN_ARG_NONE; i++) {
    v[i] = g->arg[i];
    if (v[i].kind != NN_ARG_TENSOR) continue;
    v[i].u.t = g->x[k];
    edge[i] = k++;
  }
  int which = 0; /* gradients stand in the order of the table's tensor arguments, which may be numbers in this call */
  for (int i = 0; i < 3 && v[i].kind != NN_ARG_NONE; i++, which++) {
    if (edge[i] < 0 || !g->need[edge[i]]) continue;
    nn_arg r = row_grads[op->pw](&g->s, which, v[0], v[1], v[2], NN_T(g->y[0]), NN_T(g->d[0]));
    if (r.kind == NN_ARG_NONE) continue;
    if (r.kind == NN_ARG_FLOAT) r.u.t = nni_do(&g->s, mul, NN_T(g->d[0]), r);
    if (!r.u.t) return nni_error_of(g->s.ctx)->status;
    g->dxl[edge[i]] = r.u.t;
  }
  return NN_OK;
}
