/* cpu/isa/vec.h - the vector type of the kernels in cpu/isa, on GCC vector extensions.
**
** `vf` holds VW floats, `vi` VW int32; a comparison of two vf gives a vi of 0 / -1 lanes. Loads and stores need no alignment. Included only by
** files of cpu/isa, which are compiled with VW set (see ../isa.h). vm.h builds the mathematics on it. With four lanes these become SSE or NEON as they
** stand; x86's wider levels, and what has an instruction of its own (minima, halves, products into 64 bits), are named by intrinsics where they are used.
*/
#ifndef NN_CPU_VEC_H
#define NN_CPU_VEC_H
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef VW
#error "files of cpu/isa are compiled once per instruction-set level, with VW set"
#endif
#if VW == 16 || defined(__aarch64__)
#define NN_VREGS 32 /* architectural vector registers: what a register tile must fit */
#else
#define NN_VREGS 16
#endif

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint8_t vb __attribute__((vector_size(VW))); /* VW bytes: what u8 tensors are loaded as */
typedef float vf_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t vi_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint8_t vb_u __attribute__((vector_size(VW), aligned(1), may_alias));

#define NN_AINLINE static inline __attribute__((always_inline, unused))
#define NN_UNROLL _Pragma("GCC unroll 16")

NN_AINLINE vf vf_load(const float *p) { return *(const vf_u *)p; }
NN_AINLINE void vf_store(float *p, vf v) { *(vf_u *)p = v; }
NN_AINLINE vf vf_set1(float a) { return a - (vf){0}; } /* a - 0, not a + 0: keeps -0 */
NN_AINLINE vi vi_load(const int32_t *p) { return *(const vi_u *)p; }
NN_AINLINE void vi_store(int32_t *p, vi v) { *(vi_u *)p = v; }
NN_AINLINE vi vi_set1(int32_t a) { return a + (vi){0}; }
NN_AINLINE vf vf_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); } /* mask lanes 0 or -1 */
NN_AINLINE vi vi_select(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }

/* The first n of VW lanes (0 <= n <= VW): the rest reads as 0 and is not written. */
NN_AINLINE vf vf_load_n(const float *p, int64_t n) {
#if VW == 16 && defined(__AVX512F__)
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#else
  float t[VW] = {0};
  for (int64_t i = 0; i < VW && i < n; i++) t[i] = p[i];
  return vf_load(t);
#endif
}
NN_AINLINE void vf_store_n(float *p, vf v, int64_t n) {
#if VW == 16 && defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#else
  float t[VW];
  vf_store(t, v);
  for (int64_t i = 0; i < VW && i < n; i++) p[i] = t[i];
#endif
}
#endif
