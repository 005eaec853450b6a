/* vulkan/emit_formula.c - what the words of the tables' language mean in SPIR-V (emit_formula.h). A word is a function that writes an instruction
** and gives its id, so a formula of the table is a C expression. Masks are bools.
*/
#include "emit_formula.h"

typedef struct expr { module *o; int cls; } expr;

uint32_t nn_vk_type_uint(module *o, uint32_t bits) { return nn_vk_declare(o, OpTypeInt, 0, IDS(bits, 0)); }
uint32_t nn_vk_type_bool(module *o) { return nn_vk_declare(o, OpTypeBool, 0, 0, NULL); }
uint32_t nn_vk_type(module *o, int cls) {
  if (cls == NNI_F) return nn_vk_declare(o, OpTypeFloat, 0, IDS(32));
  return nn_vk_declare(o, OpTypeInt, 0, IDS(cls == NNI_L ? 64 : 32, 1));
}
uint32_t nn_vk_constant_uint(module *o, uint32_t x) { return nn_vk_declare(o, OpConstant, nn_vk_type_uint(o, 32), IDS(x)); }
uint32_t nn_vk_constant(module *o, int cls, double x) {
  union { float f; int32_t i; int64_t l; uint32_t w[2]; } u = {.w = {0, 0}};
  if (cls == NNI_F) u.f = x >= 1e300 ? __builtin_inff() : x <= -1e300 ? -__builtin_inff() : (float)x;
  else if (cls == NNI_I) u.i = x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int32_t)x;
  else u.l = x >= 9.2e18 ? INT64_MAX : x <= -9.2e18 ? INT64_MIN : (int64_t)x;
  return nn_vk_declare(o, OpConstant, nn_vk_type(o, cls), cls == NNI_L ? 2 : 1, u.w);
}

/* ---- words ------------------------------------------------------------------------------------------------------------------- */
static uint32_t wrong(const expr *e) { /* a word that the class does not have: the tables' types exclude it */
  e->o->failed = true;
  return 1;
}
static uint32_t pure2(const expr *e, uint32_t op, uint32_t type, uint32_t a, uint32_t b) { return nn_vk_pure(e->o, op, type, IDS(a, b)); }
static uint32_t arith(const expr *e, uint32_t fop, uint32_t iop, uint32_t a, uint32_t b) {
  uint32_t op = e->cls == NNI_F ? fop : iop;
  return op ? pure2(e, op, nn_vk_type(e->o, e->cls), a, b) : wrong(e);
}
static uint32_t compare(const expr *e, uint32_t fop, uint32_t iop, uint32_t a, uint32_t b) {
  return pure2(e, e->cls == NNI_F ? fop : iop, nn_vk_type_bool(e->o), a, b);
}
static uint32_t isnan_of(const expr *e, uint32_t a) { return nn_vk_call(e->o, LIB_isnan, IDS(a)); }
static uint32_t not_of(const expr *e, uint32_t a) { return nn_vk_pure(e->o, OpLogicalNot, nn_vk_type_bool(e->o), IDS(a)); }
static uint32_t logic(const expr *e, uint32_t op, uint32_t a, uint32_t b) { return pure2(e, op, nn_vk_type_bool(e->o), a, b); }
static uint32_t choose(const expr *e, uint32_t m, uint32_t a, uint32_t b) {
  return nn_vk_pure(e->o, OpSelect, nn_vk_type(e->o, e->cls), IDS(m, a, b));
}
/* x - x and x == x ask about NaN and infinity: by the bits, because drivers may compute as if there were none */
static uint32_t sub_of(const expr *e, uint32_t a, uint32_t b) {
  return e->cls == NNI_F && a == b ? nn_vk_call(e->o, LIB_zero_if_finite, IDS(a)) : arith(e, OpFSub, OpISub, a, b);
}
/* times 0 is NaN for what is not finite; drivers that fold constants (llvmpipe) make it 0 */
static uint32_t mul_of(const expr *e, uint32_t a, uint32_t b) {
  if (e->cls == NNI_F && b == nn_vk_constant(e->o, NNI_F, 0)) return nn_vk_call(e->o, LIB_times_zero, IDS(a));
  return arith(e, OpFMul, OpIMul, a, b);
}
static uint32_t eq_of(const expr *e, uint32_t a, uint32_t b) {
  return e->cls == NNI_F && a == b ? not_of(e, isnan_of(e, a)) : compare(e, OpFOrdEqual, OpIEqual, a, b);
}
static uint32_t ne_of(const expr *e, uint32_t a, uint32_t b) {
  return e->cls == NNI_F && a == b ? isnan_of(e, a) : compare(e, OpFUnordNotEqual, OpINotEqual, a, b);
}
static uint32_t call1(const expr *e, libfn f, uint32_t a) { return e->cls == NNI_F ? nn_vk_call(e->o, f, IDS(a)) : wrong(e); }
static uint32_t call2(const expr *e, libfn f, uint32_t a, uint32_t b) { return e->cls == NNI_F ? nn_vk_call(e->o, f, IDS(a, b)) : wrong(e); }
static uint32_t by_class(const expr *e, int f, int i, int l, uint32_t a, uint32_t b) {
  int fn = e->cls == NNI_F ? f : e->cls == NNI_I ? i : l;
  return fn >= 0 ? nn_vk_call(e->o, (libfn)fn, IDS(a, b)) : wrong(e);
}
static uint32_t least(const expr *e, uint32_t a, uint32_t b) {
  return e->cls == NNI_F ? call2(e, LIB_min, a, b) : choose(e, compare(e, 0, OpSLessThan, a, b), a, b);
}
static uint32_t most(const expr *e, uint32_t a, uint32_t b) {
  return e->cls == NNI_F ? call2(e, LIB_max, a, b) : choose(e, compare(e, 0, OpSGreaterThan, a, b), a, b);
}
static uint32_t neg_of(const expr *e, uint32_t a) {
  return nn_vk_pure(e->o, e->cls == NNI_F ? OpFNegate : OpSNegate, nn_vk_type(e->o, e->cls), IDS(a));
}
static uint32_t abs_of(const expr *e, uint32_t a) {
  if (e->cls == NNI_F) return call1(e, LIB_abs, a);
  return choose(e, compare(e, 0, OpSLessThan, a, nn_vk_constant(e->o, e->cls, 0)), neg_of(e, a), a);
}
static uint32_t whole(const expr *e, libfn f, uint32_t a) { return e->cls == NNI_F ? call1(e, f, a) : a; }

#define K(x) nn_vk_constant(e->o, e->cls, x)
#define INF 1e300
#define ADD(a, b) arith(e, OpFAdd, OpIAdd, a, b)
#define SUB(a, b) sub_of(e, a, b)
#define MUL(a, b) mul_of(e, a, b)
#define DIV(a, b) arith(e, OpFDiv, 0, a, b)
#define NEG(a) neg_of(e, a)
#define ABS(a) abs_of(e, a)
#define MIN(a, b) least(e, a, b)
#define MAX(a, b) most(e, a, b)
#define FLOOR(a) whole(e, LIB_floor, a)
#define CEIL(a) whole(e, LIB_ceil, a)
#define RINT(a) whole(e, LIB_rint, a)
#define TRUNC(a) whole(e, LIB_trunc, a)
#define FMOD(a, b) by_class(e, LIB_fmod, LIB_fmod_i, LIB_fmod_l, a, b)
#define MOD(a, b) by_class(e, LIB_mod, LIB_mod_i, LIB_mod_l, a, b)
#define FLOORDIV(a, b) by_class(e, LIB_floordiv, LIB_floordiv_i, LIB_floordiv_l, a, b)
#define SQRT(a) call1(e, LIB_sqrt, a)
#define EXP(a) call1(e, LIB_exp, a)
#define EXPM1(a) call1(e, LIB_expm1, a)
#define LOG(a) call1(e, LIB_log, a)
#define LOG1P(a) call1(e, LIB_log1p, a)
#define LOG2(a) call1(e, LIB_log2, a)
#define LOG10(a) call1(e, LIB_log10, a)
#define SIN(a) call1(e, LIB_sin, a)
#define COS(a) call1(e, LIB_cos, a)
#define TANH(a) call1(e, LIB_tanh, a)
#define ERF(a) call1(e, LIB_erf, a)
#define ERFC(a) call1(e, LIB_erfc, a)
#define POW(a, b) by_class(e, LIB_pow, LIB_pow_i, LIB_pow_l, a, b)
#define ATAN2(a, b) call2(e, LIB_atan2, a, b)
#define BAND(a, b) arith(e, 0, OpBitwiseAnd, a, b)
#define BOR(a, b) arith(e, 0, OpBitwiseOr, a, b)
#define BXOR(a, b) arith(e, 0, OpBitwiseXor, a, b)
#define BNOT(a) nn_vk_pure(e->o, OpNot, nn_vk_type(e->o, e->cls), IDS(a))
#define SHL(a, n) by_class(e, -1, LIB_shl_i, LIB_shl_l, a, n)
#define SHR(a, n) by_class(e, -1, LIB_shr_i, LIB_shr_l, a, n)
#define LT(a, b) compare(e, OpFOrdLessThan, OpSLessThan, a, b)
#define LE(a, b) compare(e, OpFOrdLessThanEqual, OpSLessThanEqual, a, b)
#define GT(a, b) compare(e, OpFOrdGreaterThan, OpSGreaterThan, a, b)
#define GE(a, b) compare(e, OpFOrdGreaterThanEqual, OpSGreaterThanEqual, a, b)
#define EQ(a, b) eq_of(e, a, b)
#define NE(a, b) ne_of(e, a, b)
#define AND(a, b) logic(e, OpLogicalAnd, a, b)
#define OR(a, b) logic(e, OpLogicalOr, a, b)
#define XOR(a, b) logic(e, OpLogicalNotEqual, a, b)
#define NOT(a) not_of(e, a)
#define SEL(m, a, b) choose(e, m, a, b)

/* ---- the tables -------------------------------------------------------------------------------------------------------------- */
static const char types[] = {
#define NN_PW(name, TYPE, ...) #TYPE[0],
#include "../ops/pointwise.def"
#undef NN_PW
};
char nn_vk_pw_type(int op) { return types[op]; }
bool nn_vk_pw_keeps_range(int op) {
  char t = types[op];
  return t == 'C' || t == 'B' || t == 'W' || op == NNI_PW_minimum || op == NNI_PW_maximum || op == NNI_PW_relu;
}

uint32_t nn_vk_formula(module *o, int op, int cls, const uint32_t v[3]) {
  const expr ex = {o, cls}, *e = &ex;
  const uint32_t a = v[0], b = v[1], c = v[2];
  switch ((nni_pwid)op) {
#define NN_PW(name, TYPE, sig, nargs, doc, formula, ...) \
  case NNI_PW_##name: return formula;
#include "../ops/pointwise.def"
#undef NN_PW
  case NNI_NPW: break;
  }
  return wrong(e);
}

uint32_t nn_vk_reduce_identity(module *o, int op, int cls) {
  const expr ex = {o, cls}, *e = &ex;
  switch ((nni_redid)op) {
#define NN_RED(name, TYPE, identity, combine) \
  case NNI_RED_##name: return identity;
#include "../ops/reduce.def"
#undef NN_RED
  case NNI_NRED: break;
  }
  return wrong(e);
}
uint32_t nn_vk_reduce_combine(module *o, int op, int cls, uint32_t a, uint32_t b) {
  const expr ex = {o, cls}, *e = &ex;
  switch ((nni_redid)op) {
#define NN_RED(name, TYPE, identity, combine) \
  case NNI_RED_##name: return combine;
#include "../ops/reduce.def"
#undef NN_RED
  case NNI_NRED: break;
  }
  return wrong(e);
}
uint32_t nn_vk_reduce_takes(module *o, int op, int cls, uint32_t a, uint32_t ia, uint32_t b, uint32_t ib) {
  const expr ex = {o, cls}, *e = &ex;
  uint32_t beyond = nn_vk_reduce_combine(o, op, cls, b, a), same = eq_of(e, a, b);
  uint32_t first = nn_vk_pure(o, OpULessThan, nn_vk_type_bool(o), IDS(ib, ia));
  if (cls != NNI_F) return OR(beyond, AND(same, first));
  uint32_t na = isnan_of(e, a), nb = isnan_of(e, b);
  same = OR(same, AND(na, nb));
  return OR(OR(beyond, AND(nb, NOT(na))), AND(same, first));
}
