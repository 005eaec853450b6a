/* cpu/isa/vm.h - vectors of VW floats and the functions on them that the formulas of the tables in ops need.
**
** vf, vi, vu: VW floats, int32, uint32. vl: VW/2 int64. vfm: mask of a vf or vi, vlm: mask of a vl; both only come from the compare functions
** and go into vm_sel*, vm_any*. Everything is lane by lane: the value of a lane never depends on its neighbours or its place.
**
** Never compile this with -ffast-math: vm_exp rounds by adding and taking away 1.5 * 2^23, which "associative" mathematics removes.
** Error bounds in the comments are measured by tests/c/test_vm.c against double libm, at every level.
*/
#ifndef NN_CPU_VM_H
#define NN_CPU_VM_H
#include <math.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define VM_BYTES (VW * 4)
typedef float vf __attribute__((vector_size(VM_BYTES)));
typedef int32_t vi __attribute__((vector_size(VM_BYTES)));
typedef uint32_t vu __attribute__((vector_size(VM_BYTES)));
typedef int64_t vl __attribute__((vector_size(VM_BYTES)));
typedef double vd __attribute__((vector_size(VM_BYTES)));
typedef int32_t vih __attribute__((vector_size(VM_BYTES / 2)));
typedef float vfh __attribute__((vector_size(VM_BYTES / 2)));
/* the same in memory, of any alignment (vf and vi are vec.h's types too) */
typedef float vf_mem __attribute__((vector_size(VM_BYTES), may_alias, aligned(4)));
typedef int32_t vi_mem __attribute__((vector_size(VM_BYTES), may_alias, aligned(4)));
typedef int64_t vl_mem __attribute__((vector_size(VM_BYTES), may_alias, aligned(8)));
typedef int32_t vih_mem __attribute__((vector_size(VM_BYTES / 2), may_alias, aligned(4)));

#define VM_FN static inline __attribute__((always_inline, unused))
VM_FN vf vm_f(float x) { return x - (vf){0}; }
VM_FN vi vm_i(int32_t x) { return x - (vi){0}; }
VM_FN vl vm_l(int64_t x) { return x - (vl){0}; }
VM_FN vd vm_d(double x) { return x - (vd){0}; }

/* ---- compare and choose ------------------------------------------------------------------------------------------------ */
#if defined(__AVX512F__) && VW == 16
typedef __mmask16 vfm;
typedef __mmask8 vlm;
#define VM_CMP(op, fpred, ipred)                                                                                   \
  VM_FN vfm vm_##op##f(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, fpred); }                     \
  VM_FN vfm vm_##op##i(vi a, vi b) { return _mm512_cmp_epi32_mask((__m512i)a, (__m512i)b, ipred); }                \
  VM_FN vlm vm_##op##l(vl a, vl b) { return _mm512_cmp_epi64_mask((__m512i)a, (__m512i)b, ipred); }
VM_CMP(lt, _CMP_LT_OQ, _MM_CMPINT_LT)
VM_CMP(le, _CMP_LE_OQ, _MM_CMPINT_LE)
VM_CMP(gt, _CMP_GT_OQ, _MM_CMPINT_NLE)
VM_CMP(ge, _CMP_GE_OQ, _MM_CMPINT_NLT)
VM_CMP(eq, _CMP_EQ_OQ, _MM_CMPINT_EQ)
VM_CMP(ne, _CMP_NEQ_UQ, _MM_CMPINT_NE)
VM_FN vf vm_self(vfm m, vf a, vf b) { return (vf)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
VM_FN vi vm_seli(vfm m, vi a, vi b) { return (vi)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a); }
VM_FN vl vm_sell(vlm m, vl a, vl b) { return (vl)_mm512_mask_blend_epi64(m, (__m512i)b, (__m512i)a); }
VM_FN vi vm_onei(vfm m) { return (vi)_mm512_maskz_set1_epi32(m, 1); }            /* 1 where set, 0 elsewhere */
VM_FN vih vm_onel(vlm m) { return (vih)_mm256_maskz_set1_epi32(m, 1); }
VM_FN vlm vm_maskl(vih a) { return _mm256_test_epi32_mask((__m256i)a, (__m256i)a); } /* a != 0 */
VM_FN vfm vm_notf(vfm m) { return (vfm)~m; }
VM_FN vlm vm_notl(vlm m) { return (vlm)~m; }
VM_FN int vm_anyf(vfm m) { return m != 0; }
VM_FN int vm_anyl(vlm m) { return m != 0; }
#else
typedef vi vfm;
typedef vl vlm;
#define VM_CMP(op, sign)                                   \
  VM_FN vfm vm_##op##f(vf a, vf b) { return (vfm)(a sign b); } \
  VM_FN vfm vm_##op##i(vi a, vi b) { return (vfm)(a sign b); } \
  VM_FN vlm vm_##op##l(vl a, vl b) { return (vlm)(a sign b); }
VM_CMP(lt, <)
VM_CMP(le, <=)
VM_CMP(gt, >)
VM_CMP(ge, >=)
VM_CMP(eq, ==)
VM_CMP(ne, !=)
#if defined(__AVX2__) && VW == 8
VM_FN vf vm_self(vfm m, vf a, vf b) { return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m); }
VM_FN vi vm_seli(vfm m, vi a, vi b) { return (vi)_mm256_blendv_epi8((__m256i)b, (__m256i)a, (__m256i)m); }
VM_FN vl vm_sell(vlm m, vl a, vl b) { return (vl)_mm256_blendv_epi8((__m256i)b, (__m256i)a, (__m256i)m); }
VM_FN int vm_anyf(vfm m) { return _mm256_movemask_ps((__m256)m) != 0; }
VM_FN int vm_anyl(vlm m) { return _mm256_movemask_ps((__m256)m) != 0; }
#else
VM_FN vf vm_self(vfm m, vf a, vf b) { return (vf)(((vi)a & m) | ((vi)b & ~m)); }
VM_FN vi vm_seli(vfm m, vi a, vi b) { return (a & m) | (b & ~m); }
VM_FN vl vm_sell(vlm m, vl a, vl b) { return (a & m) | (b & ~m); }
#if defined(__aarch64__)
VM_FN int vm_anyl(vlm m) { return vmaxvq_u32((uint32x4_t)m) != 0; }
#else
VM_FN int vm_anyl(vlm m) {
  int64_t r = 0;
  for (int j = 0; j < VW / 2; j++) r |= m[j];
  return r != 0;
}
#endif
VM_FN int vm_anyf(vfm m) { return vm_anyl((vlm)m); }
#endif
VM_FN vi vm_onei(vfm m) { return m & 1; }
VM_FN vih vm_onel(vlm m) { return __builtin_convertvector(m & 1, vih); }
VM_FN vlm vm_maskl(vih a) { return (vlm)(__builtin_convertvector(a, vl) != 0); }
VM_FN vfm vm_notf(vfm m) { return ~m; }
VM_FN vlm vm_notl(vlm m) { return ~m; }
#endif

/* ---- exact functions ------------------------------------------------------------------------------------------------------ */
/* NaN if either is NaN, as NumPy. A constant goes second: then the NaN test of it folds away and one instruction is left. */
#if defined(__aarch64__) /* NEON's own instructions are NaN if either is */
VM_FN vf vm_min(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
VM_FN vf vm_max(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
VM_FN vf vm_min_const(vf a, float k) { return vm_min(a, vm_f(k)); }
VM_FN vf vm_max_const(vf a, float k) { return vm_max(a, vm_f(k)); }
#else
#if defined(__AVX512F__) && VW == 16
#define VM_MINPS(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b))) /* a < b ? a : b, so b when one is NaN */
#define VM_MAXPS(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#elif defined(__AVX2__) && VW == 8
#define VM_MINPS(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define VM_MAXPS(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#elif defined(__SSE4_1__) && VW == 4
#define VM_MINPS(a, b) ((vf)_mm_min_ps((__m128)(a), (__m128)(b)))
#define VM_MAXPS(a, b) ((vf)_mm_max_ps((__m128)(a), (__m128)(b)))
#else
VM_FN vf VM_MINPS(vf a, vf b) { return vm_self(vm_ltf(a, b), a, b); }
VM_FN vf VM_MAXPS(vf a, vf b) { return vm_self(vm_gtf(a, b), a, b); }
#endif
VM_FN vf vm_min(vf a, vf b) { return vm_self(vm_nef(b, b), b, VM_MINPS(b, a)); }
VM_FN vf vm_max(vf a, vf b) { return vm_self(vm_nef(b, b), b, VM_MAXPS(b, a)); }
VM_FN vf vm_min_const(vf a, float k) { return VM_MINPS(vm_f(k), a); }
VM_FN vf vm_max_const(vf a, float k) { return VM_MAXPS(vm_f(k), a); }
#endif
VM_FN vf vm_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
VM_FN vf vm_neg(vf x) { return (vf)((vi)x ^ INT32_MIN); }
VM_FN vf vm_copysign(vf magnitude, vf sign) { return (vf)(((vi)magnitude & 0x7fffffff) | ((vi)sign & INT32_MIN)); }
#if defined(__AVX512F__) && VW == 16
VM_FN vf vm_sqrt(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
VM_FN vf vm_floor(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_ceil(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_rint(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VM_FN vf vm_trunc(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__AVX2__) && VW == 8
VM_FN vf vm_sqrt(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
VM_FN vf vm_floor(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_ceil(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_rint(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VM_FN vf vm_trunc(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__SSE4_1__) && VW == 4
VM_FN vf vm_sqrt(vf x) { return (vf)_mm_sqrt_ps((__m128)x); }
VM_FN vf vm_floor(vf x) { return (vf)_mm_round_ps((__m128)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_ceil(vf x) { return (vf)_mm_round_ps((__m128)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
VM_FN vf vm_rint(vf x) { return (vf)_mm_round_ps((__m128)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VM_FN vf vm_trunc(vf x) { return (vf)_mm_round_ps((__m128)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else /* one instruction each on aarch64 */
#define VM_LANES(name, fn)      \
  VM_FN vf name(vf x) {         \
    for (int j = 0; j < VW; j++) x[j] = fn(x[j]); \
    return x;                   \
  }
VM_LANES(vm_sqrt, sqrtf)
VM_LANES(vm_floor, floorf)
VM_LANES(vm_ceil, ceilf)
VM_LANES(vm_rint, rintf)
VM_LANES(vm_trunc, truncf)
#endif

/* ---- exp and log ------------------------------------------------------------------------------------------------------------ */
/* x * 2^n for whole n in [-252, 254]: overflows to inf, underflows through the denormals to 0 */
VM_FN vf vm_scale(vf x, vf n) {
#if defined(__AVX512F__) && VW == 16
  return (vf)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
  vi k = __builtin_convertvector(n, vi), h = k >> 1;
  return x * (vf)((h + 127) << 23) * (vf)((k - h + 127) << 23);
#endif
}
/* e^x, relative error < 1.2e-7 (results below 2^-126: half a denormal more); inf above 88.73, 0 below -104, NaN stays.
** x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 is split so that n times its first part is exact. */
VM_FN vf vm_exp(vf x) {
  const vf magic = vm_f(12582912.f);
  vf n, r, p;
  x = vm_max_const(vm_min_const(x, 89.f), -104.f);
  n = (x * 1.44269504f + magic) - magic;
  r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  return vm_scale(p, n);
}

/* ln x, relative error < 2e-7 (near 1: of x - 1); denormals too; 0 -> -inf, negative and NaN -> NaN, inf -> inf.
** x = 2^e m, sqrt(1/2) <= m < sqrt(2). */
VM_FN vf vm_log(vf x) {
  vfm tiny = vm_ltf(x, vm_f(1.17549435e-38f));
  vf u = vm_self(tiny, x * 8388608.f, x), e, r, z, p;
  vi k = ((vi)u - 0x3f3504f3) >> 23;
  r = (vf)((vi)u - (k << 23)) - 1.f;
  e = __builtin_convertvector(k, vf) - vm_self(tiny, vm_f(23.f), vm_f(0.f));
  z = r * r;
  p = r * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  p = p * r * z;
  p = p - e * 2.12194440e-4f;
  p = p - z * 0.5f;
  p = r + p + e * 0.693359375f;
  p = vm_self(vm_gef(x, vm_f(0.f)), p, vm_f(__builtin_nanf("")));
  p = vm_self(vm_eqf(x, vm_f(0.f)), vm_f(-__builtin_inff()), p);
  return vm_self(vm_eqf(x, vm_f(__builtin_inff())), x, p);
}

/* ---- trigonometry ------------------------------------------------------------------------------------------------------------ */
#define VM_TRIG_MAX 1e4f /* beyond this, and for NaN, lanes go through libm one by one */
/* sin (quarter 0) or cos (quarter 1) of |x| <= VM_TRIG_MAX: absolute error < 1.5e-7 */
VM_FN vf vm_sincos_near(vf x, int quarter) {
  const vf magic = vm_f(12582912.f);
  vf k = x * 0.636619772f + magic, n = k - magic, r, z, s, c;
  vi q = (vi)k + quarter; /* the low bits of k hold n modulo 4 */
  r = x - n * 1.5703125f;
  r = r - n * 4.837512969970703125e-4f;
  r = r - n * 7.54978995489188216e-8f;
  z = r * r;
  s = z * -1.9515295891e-4f + 8.3321608736e-3f;
  s = s * z - 1.6666654611e-1f;
  s = s * z * r + r;
  c = z * 2.443315711809948e-5f - 1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * z * z - z * 0.5f + 1.f;
  r = vm_self(vm_nei(q & 1, vm_i(0)), c, s);
  return (vf)((vi)r ^ ((q & 2) << 30));
}
static __attribute__((noinline, unused)) vf vm_sin_far(vf x, vf y) {
  for (int j = 0; j < VW; j++)
    if (!(fabsf(x[j]) <= VM_TRIG_MAX)) y[j] = sinf(x[j]);
  return y;
}
static __attribute__((noinline, unused)) vf vm_cos_far(vf x, vf y) {
  for (int j = 0; j < VW; j++)
    if (!(fabsf(x[j]) <= VM_TRIG_MAX)) y[j] = cosf(x[j]);
  return y;
}
VM_FN vf vm_sin(vf x) {
  vf y = vm_sincos_near(x, 0);
  return vm_anyf(vm_notf(vm_lef(vm_abs(x), vm_f(VM_TRIG_MAX)))) ? vm_sin_far(x, y) : y;
}
VM_FN vf vm_cos(vf x) {
  vf y = vm_sincos_near(x, 1);
  return vm_anyf(vm_notf(vm_lef(vm_abs(x), vm_f(VM_TRIG_MAX)))) ? vm_cos_far(x, y) : y;
}

/* ---- tanh and erf ------------------------------------------------------------------------------------------------------------ */
/* tanh, relative error < 2.5e-7 everywhere: a polynomial below 0.625, 1 - 2 / (e^2x + 1) above */
VM_FN vf vm_tanh(vf x) {
  vf a = vm_abs(x), z = x * x, p, q;
  p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  p = p * z * x + x;
  q = vm_copysign(1.f - 2.f / (vm_exp(a + a) + 1.f), x);
  return vm_self(vm_ltf(a, vm_f(0.625f)), p, q);
}

/* erf, relative error < 3e-7 everywhere. Below 1 an odd polynomial, above 1 - exp(-q(x)) with q fitted to -ln erfc on [0.95, 4] (weighted so
** that the error of the result is even, 1.3e-9); both fits are our own. */
VM_FN vf vm_erf(vf x) {
  vf a = vm_abs(x), z = x * x, t = vm_min_const(a, 4.f), p, q;
  p = z * 7.853859279e-5f - 8.010193123e-4f;
  p = p * z + 5.188327748e-3f;
  p = p * z - 2.685381100e-2f;
  p = p * z + 1.128358543e-1f;
  p = p * z - 3.761262596e-1f;
  p = p * z + 1.128379107f;
  q = t * -1.915046014e-4f + 2.999545075e-3f;
  q = q * t - 2.205201425e-2f;
  q = q * t + 1.035669222e-1f;
  q = q * t + 6.376000047e-1f;
  q = q * t + 1.127426147f;
  q = q * t + 2.564409806e-4f;
  q = vm_copysign(1.f - vm_exp(-q), x);
  return vm_self(vm_ltf(a, vm_f(1.f)), p * x, q);
}

/* ---- pow ------------------------------------------------------------------------------------------------------------------------ */
/* log2(x) in double: x > 0, finite */
VM_FN vd vm_log2_double(vd x) {
  vl bits = (vl)x, k = (bits - 0x3fe6a09e667f3bcdLL) >> 52; /* of x = 2^k m, sqrt(1/2) <= m < sqrt(2) */
  const vd magic = vm_d(6755399441055744.0);
  vd m = (vd)(bits - (k << 52)), kd = (vd)(k + (vl)magic) - magic, s = (m - 1.0) / (m + 1.0), z = s * s, p;
  p = z * (1.0 / 15) + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  p = p * z + 1.0;
  return kd + s * p * 2.8853900817779268; /* 2 / ln 2 */
}
/* 2^(y log2 x) for half a vector, in double: x > 0 or x = 0 or inf, y finite */
VM_FN vfh vm_pow_half(vfh xf, vfh yf) {
  vd x = __builtin_convertvector(xf, vd), y = __builtin_convertvector(yf, vd), p, t = vm_log2_double(x), n;
  const vd magic = vm_d(6755399441055744.0);
  const vl big = (vl)vm_d(1e300);
  vl bits, sat, huge;
  sat = (vl)(x == 0.0);
  t = (vd)((((vl)t) & ~sat) | ((big | INT64_MIN) & sat));
  huge = (vl)(x > 1e300);
  t = (vd)((((vl)t) & ~huge) | (big & huge));
  t *= y;
  sat = (vl)(t > 300.0);
  t = (vd)((((vl)t) & ~sat) | ((vl)vm_d(300.0) & sat));
  sat = (vl)(t < -300.0);
  t = (vd)((((vl)t) & ~sat) | ((vl)vm_d(-300.0) & sat));
  n = t + magic;
  bits = (vl)n << 52;
  t = (t - (n - magic)) * 0.69314718055994531;
  p = t * (1.0 / 362880) + 1.0 / 40320;
  p = p * t + 1.0 / 5040;
  p = p * t + 1.0 / 720;
  p = p * t + 1.0 / 120;
  p = p * t + 1.0 / 24;
  p = p * t + 1.0 / 6;
  p = p * t + 0.5;
  p = p * t + 1.0;
  p = p * t + 1.0;
  return __builtin_convertvector((vd)((vl)p + bits), vfh);
}
static __attribute__((noinline, unused)) vf vm_pow_odd(vf x, vf y, vf r) {
  for (int j = 0; j < VW; j++)
    if (!(fabsf(y[j]) <= 3.4028235e38f) || x[j] != x[j]) r[j] = powf(x[j], y[j]);
  return r;
}
/* x^y, relative error < 1e-7; special cases as C's pow */
VM_FN vf vm_pow(vf x, vf y) {
  union { vf v; vfh h[2]; } a, b, r;
  vfm neg = vm_lti((vi)x, vm_i(0)), whole, odd;
  vf half = y * 0.5f;
  a.v = vm_abs(x);
  b.v = y;
  r.h[0] = vm_pow_half(a.h[0], b.h[0]);
  r.h[1] = vm_pow_half(a.h[1], b.h[1]);
  whole = vm_eqf(vm_trunc(y), y);
  odd = whole & vm_nef(vm_trunc(half), half);
  r.v = vm_self(neg & odd, vm_neg(r.v), r.v);
  r.v = vm_self(neg & vm_notf(whole) & vm_ltf(x, vm_f(0.f)) & vm_gtf(x, vm_f(-__builtin_inff())), vm_f(__builtin_nanf("")), r.v);
  return vm_anyf(vm_notf(vm_lef(vm_abs(y), vm_f(3.4028235e38f))) | vm_nef(x, x)) ? vm_pow_odd(x, y, r.v) : r.v;
}
#endif
