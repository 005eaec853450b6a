/* cpu/isa/vm_math.h - the functions of the tables' language that vm.h does not have: expm1, log1p, log2, log10, atan2, erfc and the
** remainders, for vectors of floats. Lane by lane like vm.h, and with its rules; bounds are measured by tests/c/test_vm.c.
*/
#ifndef NN_CPU_VM_MATH_H
#define NN_CPU_VM_MATH_H
#include "vm.h"

/* ---- exp and log near 0 and 1 -------------------------------------------------------------------------------------------------- */
/* e^x - 1, relative error < 2.5e-7: 2^n (e^r - 1 + 1 - 2^-n) with vm_exp's reduction, so that nothing cancels at n = 0 */
VM_FN vf vm_expm1(vf x) {
  const vf magic = vm_f(12582912.f);
  vf n, r, p;
  x = vm_max_const(vm_min_const(x, 89.f), -20.f); /* below: -1 + 2e-9 */
  n = (x * 1.44269504f + magic) - magic;
  r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r;
  return vm_scale(p + (1.f - vm_scale(vm_f(1.f), -n)), n);
}

/* ln(1 + x), relative error < 4e-7: ln of the rounded sum plus what the rounding lost */
VM_FN vf vm_log1p(vf x) {
  vf u = x + 1.f, y = vm_log(u), lost = (x - (u - 1.f)) / u;
  return vm_self(vm_gtf(u, vm_f(0.f)) & vm_ltf(u, vm_f(__builtin_inff())), y + lost, y);
}

/* log2(x) * factor for half a vector, in double: x > 0, finite */
VM_FN vfh vm_log2_half(vfh x, double factor) { return __builtin_convertvector(vm_log2_double(__builtin_convertvector(x, vd)) * factor, vfh); }
VM_FN vf vm_log_base(vf x, double factor) {
  union { vf v; vfh h[2]; } a, r;
  vf zero = vm_f(0.f), inf = vm_f(__builtin_inff());
  vfm fine = vm_gtf(x, zero) & vm_ltf(x, inf);
  a.v = vm_self(fine, x, vm_f(1.f));
  r.h[0] = vm_log2_half(a.h[0], factor);
  r.h[1] = vm_log2_half(a.h[1], factor);
  r.v = vm_self(vm_gef(x, zero), r.v, vm_f(__builtin_nanf("")));
  r.v = vm_self(vm_eqf(x, zero), -inf, r.v);
  return vm_self(vm_eqf(x, inf), x, r.v);
}
/* Rounded once, but for rare halves: exact at powers of the base. */
VM_FN vf vm_log2(vf x) { return vm_log_base(x, 1.0); }
VM_FN vf vm_log10(vf x) { return vm_log_base(x, 0.30102999566398119521); }

/* ---- arc tangent ------------------------------------------------------------------------------------------------------------------ */
/* The angle of the point (x, y), in (-pi, pi], relative error < 3e-7; signed zeros and infinities as in C. The smaller coordinate over the
** larger one is at most 1, and one division more (combined with the first) brings it below tan(pi/8), where our polynomial holds. */
VM_FN vf vm_atan2(vf y, vf x) {
  const vf inf = vm_f(__builtin_inff());
  vf ay = vm_abs(y), ax = vm_abs(x), t, z, p;
  vfm steep = vm_gtf(ay, ax), both = vm_eqf(ay, inf) & vm_eqf(ax, inf), large;
  vf big = vm_self(steep, ay, ax), small = vm_self(steep, ax, ay);
  vf k = vm_self(vm_gtf(big, vm_f(1e30f)), vm_f(0.0625f), vm_self(vm_ltf(big, vm_f(1e-30f)), vm_f(16777216.f), vm_f(1.f)));
  big = vm_self(both, vm_f(1.f), big * k);
  small = vm_self(both, vm_f(1.f), small * k);
  large = vm_gtf(small, big * 0.414213562f);
  t = vm_self(large, small - big, small) / vm_self(large, small + big, big);
  t = vm_self(vm_eqf(big, vm_f(0.f)), vm_f(0.f), t);
  z = t * t;
  p = z * 0.07986974458f - 0.138521799f;
  p = p * z + 0.1997448212f;
  p = p * z - 0.3333279975f;
  p = p * z * t + t; /* the fit's constant term is 1 - 2e-8 */
  p = p + vm_self(large, vm_f(0.785398163f), vm_f(0.f));
  p = vm_self(steep, 1.57079633f - p, p);
  p = vm_self(vm_lti((vi)x, vm_i(0)), 3.14159265f - p, p);
  p = vm_copysign(p, y);
  return vm_self(vm_eqf(x, x) & vm_eqf(y, y), p, x + y);
}

/* ---- erfc ---------------------------------------------------------------------------------------------------------------------------- */
/* 1 - erf(x), relative error < 1e-6 down to the denormals: e^(-x^2) t R(t) for x >= 0 with t = 1 / (1 + 0.4 x), R our own fit (6e-8), and x^2 in
** two parts, the first of them exact. */
VM_FN vf vm_erfc(vf x) {
  vf a = vm_min_const(vm_abs(x), 10.5f), hi = (vf)((vi)a & -4096), lo, t, p, e;
  lo = (a - hi) * (a + hi);
  e = vm_exp(-(hi * hi)) * (1.f - lo * (1.f - lo * (0.5f - lo * (0.16666667f - lo * 0.041666668f))));
  t = 1.f / (a * 0.4f + 1.f);
  p = t * 0.04161289189f - 0.1420818227f;
  p = p * t + 0.08765734764f;
  p = p * t + 0.08373263025f;
  p = p * t + 0.08270340962f;
  p = p * t + 0.1921276797f;
  p = p * t + 0.2022139537f;
  p = p * t + 0.226397018f;
  p = p * t + 0.2256369554f;
  p = p * t * e;
  return vm_self(vm_ltf(x, vm_f(0.f)), 2.f - p, p);
}

/* ---- remainders ------------------------------------------------------------------------------------------------------------------------- */
/* a - trunc(a / b) b, exact: in double while the quotient is below 2^27 (so that its rounding can't reach the next whole number) */
VM_FN vfh vm_fmod_half(vfh af, vfh bf) {
  vd a = __builtin_convertvector(af, vd), b = __builtin_convertvector(bf, vd), q = a / b;
  const vl big = (vl)(q * q < 0x1p54);
  q = (vd)((vl)q & big);
  q = __builtin_convertvector(__builtin_convertvector(q, vih), vd);
  return __builtin_convertvector(a - q * b, vfh);
}
static __attribute__((noinline, unused)) vf vm_fmod_far(vf a, vf b, vf r) {
  for (int j = 0; j < VW; j++)
    if (!(fabsf(a[j]) < fabsf(b[j]) * 0x1p26f) || !(fabsf(b[j]) <= 3.4028235e38f)) r[j] = fmodf(a[j], b[j]);
  return r;
}
VM_FN vf vm_fmod(vf a, vf b) {
  union { vf v; vfh h[2]; } p, q, r;
  p.v = a;
  q.v = b;
  r.h[0] = vm_fmod_half(p.h[0], q.h[0]);
  r.h[1] = vm_fmod_half(p.h[1], q.h[1]);
  r.v = vm_copysign(r.v, a);
  vfm far = vm_notf(vm_ltf(vm_abs(a), vm_abs(b) * 0x1p26f)) | vm_notf(vm_lef(vm_abs(b), vm_f(3.4028235e38f)));
  return vm_anyf(far) ? vm_fmod_far(a, b, r.v) : r.v;
}
/* a - floor(a / b) b, with the sign of b */
VM_FN vf vm_mod(vf a, vf b) {
  vf r = vm_fmod(a, b), zero = vm_f(0.f);
  r = vm_self(vm_eqf(r, zero), vm_copysign(zero, b), r);
  return vm_self(vm_notf(vm_eqf(r, zero)) & vm_lti((vi)r ^ (vi)b, vm_i(0)), r + b, r);
}
/* floor(a / b) of the exact quotient, as NumPy: a / 0 is infinite or NaN */
VM_FN vf vm_floordiv(vf a, vf b) {
  vf r = vm_fmod(a, b), zero = vm_f(0.f), q = (a - r) / b;
  q = q - vm_self(vm_nef(r, zero) & vm_lti((vi)r ^ (vi)b, vm_i(0)), vm_f(1.f), zero);
  q = vm_copysign(vm_rint(q), a / b);
  return vm_self(vm_eqf(b, zero), a / b, q);
}
#endif
