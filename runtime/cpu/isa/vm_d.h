/* cpu/isa/vm_d.h - vectors of VW/2 doubles (class D) and the functions on them that the formulas of the tables need.
**
** Arithmetic and comparisons are vectors; the functions of mathematics go through libm lane by lane: f64 is there for checking and for
** numbers that need it, not for speed. Masks are vm.h's vlm.
*/
#ifndef NN_CPU_VM_D_H
#define NN_CPU_VM_D_H
#include "vm.h"

typedef double vd_mem __attribute__((vector_size(VM_BYTES), may_alias, aligned(8)));

#if defined(__AVX512F__) && VW == 16
#define VM_CMPD(op, pred) VM_FN vlm vm_##op##d(vd a, vd b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, pred); }
VM_CMPD(lt, _CMP_LT_OQ)
VM_CMPD(le, _CMP_LE_OQ)
VM_CMPD(gt, _CMP_GT_OQ)
VM_CMPD(ge, _CMP_GE_OQ)
VM_CMPD(eq, _CMP_EQ_OQ)
VM_CMPD(ne, _CMP_NEQ_UQ)
#else
#define VM_CMPD(op, sign) VM_FN vlm vm_##op##d(vd a, vd b) { return (vlm)(a sign b); }
VM_CMPD(lt, <)
VM_CMPD(le, <=)
VM_CMPD(gt, >)
VM_CMPD(ge, >=)
VM_CMPD(eq, ==)
VM_CMPD(ne, !=)
#endif
VM_FN vd vm_seld(vlm m, vd a, vd b) { return (vd)vm_sell(m, (vl)a, (vl)b); }
#define vm_notd vm_notl
#define vm_anyd vm_anyl

/* NaN if either is NaN */
VM_FN vd vm_mind(vd a, vd b) { return vm_seld(vm_ned(a, a), a, vm_seld(vm_ltd(a, b), a, b)); }
VM_FN vd vm_maxd(vd a, vd b) { return vm_seld(vm_ned(a, a), a, vm_seld(vm_gtd(a, b), a, b)); }
VM_FN vd vm_absd(vd x) { return (vd)((vl)x & INT64_MAX); }
VM_FN vd vm_negd(vd x) { return (vd)((vl)x ^ INT64_MIN); }

#define VM_LIBM1(name, fn)                                            \
  VM_FN vd vm_##name##d(vd x) {                                       \
    for (int j = 0; j < VW / 2; j++) x[j] = fn(x[j]);                 \
    return x;                                                         \
  }
#define VM_LIBM2(name, fn)                                            \
  VM_FN vd vm_##name##d(vd x, vd y) {                                 \
    for (int j = 0; j < VW / 2; j++) x[j] = fn(x[j], y[j]);           \
    return x;                                                         \
  }
VM_LIBM1(sqrt, sqrt)
VM_LIBM1(exp, exp)
VM_LIBM1(expm1, expm1)
VM_LIBM1(log, log)
VM_LIBM1(log1p, log1p)
VM_LIBM1(log2, log2)
VM_LIBM1(log10, log10)
VM_LIBM1(sin, sin)
VM_LIBM1(cos, cos)
VM_LIBM1(tanh, tanh)
VM_LIBM1(erf, erf)
VM_LIBM1(erfc, erfc)
VM_LIBM1(floor, floor)
VM_LIBM1(ceil, ceil)
VM_LIBM1(rint, rint)
VM_LIBM1(trunc, trunc)
VM_LIBM2(atan2, atan2)
VM_LIBM2(pow, pow)
VM_LIBM2(fmod, fmod)
VM_FN vd vm_copysignd(vd magnitude, vd sign) { return (vd)(((vl)magnitude & INT64_MAX) | ((vl)sign & INT64_MIN)); }
/* a - floor(a / b) b, with the sign of b; floor(a / b) of the exact quotient: as in vm_math.h */
VM_FN vd vm_modd(vd a, vd b) {
  vd r = vm_fmodd(a, b), zero = vm_d(0);
  r = vm_seld(vm_eqd(r, zero), vm_copysignd(zero, b), r);
  return vm_seld(vm_ned(r, zero) & vm_ltl((vl)r ^ (vl)b, vm_l(0)), r + b, r);
}
VM_FN vd vm_floordivd(vd a, vd b) {
  vd r = vm_fmodd(a, b), zero = vm_d(0), q = (a - r) / b;
  q = q - vm_seld(vm_ned(r, zero) & vm_ltl((vl)r ^ (vl)b, vm_l(0)), vm_d(1), zero);
  q = vm_copysignd(vm_rintd(q), a / b);
  return vm_seld(vm_eqd(b, zero), a / b, q);
}
#endif
