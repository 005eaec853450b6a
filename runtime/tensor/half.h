/* tensor/half.h - f16 and bf16 in memory to and from f32, rounding to nearest, halves to even.
**
** Conversion instructions where the level has them (F16C, every aarch64); bit arithmetic that vectorises otherwise. A NaN stays one.
*/
#ifndef NNI_HALF_H
#define NNI_HALF_H
#include <stdint.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

static inline uint32_t nni_half_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
static inline float nni_half_float(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
static inline float nni_from_bf16(uint16_t h) { return nni_half_float((uint32_t)h << 16); }
static inline uint16_t nni_to_bf16(float x) {
  uint32_t u = nni_half_bits(x), r = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  return (uint16_t)(x != x ? u >> 16 | 0x40 : r);
}
#if defined(__F16C__)
static inline float nni_from_f16(uint16_t h) { return _cvtsh_ss(h); }
static inline uint16_t nni_to_f16(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__aarch64__)
static inline float nni_from_f16(uint16_t h) {
  __fp16 x;
  memcpy(&x, &h, 2);
  return (float)x;
}
static inline uint16_t nni_to_f16(float x) {
  const __fp16 y = (__fp16)x;
  uint16_t h;
  memcpy(&h, &y, 2);
  return h;
}
#else
/* exponents are moved by a multiplication, which makes denormals right */
static inline float nni_from_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = (uint32_t)(h & 0x7fff) << 13;
  float x = nni_half_float(m) * 0x1p112f;
  uint32_t inf = nni_half_bits(x) | 0x7f800000;
  return nni_half_float(sign | (m >= 0x0f800000 ? inf : nni_half_bits(x)));
}
static inline uint16_t nni_to_f16(float x) {
  uint32_t u = nni_half_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff, r, tiny;
  r = (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13;
  tiny = nni_half_bits(nni_half_float(a) + 0.5f) - 0x3f000000; /* below 2^-14: 0.5 + x has its last bit where a denormal has it */
  r = a < 0x38800000 ? tiny : a >= 0x477ff000 ? 0x7c00 : r;
  return (uint16_t)(sign | (a > 0x7f800000 ? 0x7e00 : r));
}
#endif
#endif
