/* cpu/isa/rows_io.c - what brings elements in and out of registers: loads, stores, casts, splats, random numbers; and the table of all
** tile kernels of this level. */
#include "rows.h"
#include "rows_stream.h"
#include "vm_d.h"
#include "../../tensor/half.h"

/* ---- casts: o[i] = (type)a[i]; exactly n elements ------------------------------------------------------------------------------- */
/* Saturate, NaN -> 0: the value is brought into range before it is converted, so nothing is undefined. */
static inline int32_t f_to_i(float x) {
  float y = x == x ? x : 0.f;
  y = y < 2147483520.f ? y : 2147483520.f;
  y = y > -2147483648.f ? y : -2147483648.f;
  return x >= 2147483648.f ? INT32_MAX : (int32_t)y;
}
static inline int64_t f_to_l(float x) {
  float y = x == x ? x : 0.f;
  y = y < 9223371487098961920.f ? y : 9223371487098961920.f;
  y = y > -9223372036854775808.f ? y : -9223372036854775808.f;
  return x >= 9223372036854775808.f ? INT64_MAX : (int64_t)y;
}
static inline int32_t d_to_i(double x) { return x != x ? 0 : x >= 0x1p31 ? INT32_MAX : x <= -0x1p31 ? INT32_MIN : (int32_t)x; }
static inline int64_t d_to_l(double x) { return x != x ? 0 : x >= 0x1p63 ? INT64_MAX : x <= -0x1p63 ? INT64_MIN : (int64_t)x; }
static inline float round_f16(float x) { return nni_from_f16(nni_to_f16(x)); }
static inline float round_bf16(float x) { return nni_from_bf16(nni_to_bf16(x)); }
typedef double f64_alias __attribute__((may_alias));
typedef float f32_alias __attribute__((may_alias));
typedef int32_t i32_alias __attribute__((may_alias));
typedef int64_t i64_alias __attribute__((may_alias));
#define CAST(name, from, to, expr)                                                                                     \
  static void cast_##name(void *o_, const void *a_, const void *b_, const void *c_, const int32_t *step, int64_t n) {  \
    to *o = o_;                                                                                                        \
    const from *a = a_;                                                                                                \
    (void)b_, (void)c_, (void)step;                                                                                    \
    _Pragma("GCC ivdep") /* o may be a's register: each element is read before it is written */                        \
    for (int64_t i = 0; i < n; i++) o[i] = (expr);                                                                     \
  }
CAST(f_bool, f32_alias, i32_alias, a[i] != 0.f)
CAST(f_u8, f32_alias, i32_alias, f_to_i(a[i]) & 255)
CAST(f_i32, f32_alias, i32_alias, f_to_i(a[i]))
CAST(f_i64, f32_alias, i64_alias, f_to_l(a[i]))
CAST(i_bool, i32_alias, i32_alias, a[i] != 0)
CAST(i_u8, i32_alias, i32_alias, a[i] & 255)
CAST(i_i64, i32_alias, i64_alias, a[i])
CAST(i_f32, i32_alias, f32_alias, (float)a[i])
CAST(l_bool, i64_alias, i32_alias, a[i] != 0)
CAST(l_u8, i64_alias, i32_alias, (int32_t)(a[i] & 255))
CAST(l_i32, i64_alias, i32_alias, (int32_t)a[i])
CAST(l_f32, i64_alias, f32_alias, (float)a[i])
CAST(f_f16, f32_alias, f32_alias, round_f16(a[i]))
CAST(f_bf16, f32_alias, f32_alias, round_bf16(a[i]))
CAST(f_f64, f32_alias, f64_alias, (double)a[i])
CAST(i_f16, i32_alias, f32_alias, round_f16((float)a[i]))
CAST(i_bf16, i32_alias, f32_alias, round_bf16((float)a[i]))
CAST(i_f64, i32_alias, f64_alias, (double)a[i])
CAST(l_f16, i64_alias, f32_alias, round_f16((float)a[i]))
CAST(l_bf16, i64_alias, f32_alias, round_bf16((float)a[i]))
CAST(l_f64, i64_alias, f64_alias, (double)a[i])
CAST(d_bool, f64_alias, i32_alias, a[i] != 0)
CAST(d_u8, f64_alias, i32_alias, d_to_i(a[i]) & 255)
CAST(d_i32, f64_alias, i32_alias, d_to_i(a[i]))
CAST(d_i64, f64_alias, i64_alias, d_to_l(a[i]))
CAST(d_f16, f64_alias, f32_alias, round_f16((float)a[i]))
CAST(d_bf16, f64_alias, f32_alias, round_bf16((float)a[i]))
CAST(d_f32, f64_alias, f32_alias, (float)a[i])
static void copy4(void *o, const void *a, const void *b, const void *c, const int32_t *step, int64_t n) {
  (void)b, (void)c, (void)step;
  if (o != a) memcpy(o, a, (size_t)n * 4);
}
static void copy8(void *o, const void *a, const void *b, const void *c, const int32_t *step, int64_t n) {
  (void)b, (void)c, (void)step;
  if (o != a) memcpy(o, a, (size_t)n * 8);
}

/* ---- loads and stores ------------------------------------------------------------------------------------------------------------- */
#define LOAD(name, from, to)                                                          \
  static void load_##name(void *o_, const void *src, int64_t stride, int64_t n) {     \
    to *restrict o = o_;                                                              \
    const from *restrict a = src;                                                     \
    if (stride == 1)                                                                  \
      for (int64_t i = 0; i < n; i++) o[i] = a[i];                                    \
    else                                                                              \
      for (int64_t i = 0; i < n; i++) o[i] = a[i * stride];                           \
  }
LOAD(u8, uint8_t, i32_alias)
LOAD(i32, i32_alias, i32_alias)
LOAD(i64, i64_alias, i64_alias)
LOAD(f32, f32_alias, f32_alias)
LOAD(f64, f64_alias, f64_alias)
static void load_f16(void *o_, const void *src, int64_t stride, int64_t n) {
  f32_alias *restrict o = o_;
  const uint16_t *restrict a = src;
  int64_t i = 0;
#if defined(__F16C__)
  if (stride == 1)
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps((float *)o + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(a + i))));
#elif defined(__aarch64__)
  if (stride == 1)
    for (; i + 4 <= n; i += 4) vst1q_f32((float *)o + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(a + i))));
#endif
  for (; i < n; i++) o[i] = nni_from_f16(a[i * stride]);
}
static void load_bf16(void *o_, const void *src, int64_t stride, int64_t n) {
  f32_alias *restrict o = o_;
  const uint16_t *restrict a = src;
  if (stride == 1)
    for (int64_t i = 0; i < n; i++) o[i] = nni_from_bf16(a[i]);
  else
    for (int64_t i = 0; i < n; i++) o[i] = nni_from_bf16(a[i * stride]);
}
static void store_f16(void *dst, const void *a_, int64_t n) {
  uint16_t *restrict o = dst;
  const f32_alias *restrict a = a_;
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128((__m128i *)(void *)(o + i), _mm256_cvtps_ph(_mm256_loadu_ps((const float *)a + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
  for (; i + 4 <= n; i += 4) vst1_u16(o + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32((const float *)a + i))));
#endif
  for (; i < n; i++) o[i] = nni_to_f16(a[i]);
}
static void store_bf16(void *dst, const void *a_, int64_t n) {
  uint16_t *restrict o = dst;
  const f32_alias *restrict a = a_;
  for (int64_t i = 0; i < n; i++) o[i] = nni_to_bf16(a[i]);
}
static void store4(void *dst, const void *a, int64_t n) { memcpy(dst, a, (size_t)n * 4); }
static void store8(void *dst, const void *a, int64_t n) { memcpy(dst, a, (size_t)n * 8); }
static void stream(void *dst, const void *a_, size_t bytes) {
  char *o = dst;
  const char *a = a_;
  size_t head = (size_t)-(uintptr_t)o % 64;
  if (head > bytes) head = bytes;
  memcpy(o, a, head);
  for (o += head, a += head, bytes -= head; bytes >= VM_BYTES; o += VM_BYTES, a += VM_BYTES, bytes -= VM_BYTES) STREAM(o, *(const vf_mem *)a);
  memcpy(o, a, bytes);
}
static void stream_end(void) {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}
static void store_u8(void *dst, const void *a_, int64_t n) {
  uint8_t *restrict o = dst;
  const i32_alias *restrict a = a_;
  for (int64_t i = 0; i < n; i++) o[i] = (uint8_t)a[i];
}

/* ---- row values along their rows ---------------------------------------------------------------------------------------------------- */
/* Each row is written in whole vectors; what runs over is the next row's, written after it. */
#define EXPAND(name, vec, mem, elem, splat)                                                          \
  static void expand_##name(void *o_, const void *a_, int astep, int64_t rows, int64_t cols) {       \
    elem *o = o_;                                                                                    \
    const elem *a = a_;                                                                              \
    const int64_t lanes = (int64_t)(sizeof(vec) / sizeof(elem));                                     \
    for (int64_t r = 0; r < rows; r++, o += cols, a += astep) {                                      \
      vec v = splat(*a);                                                                             \
      for (int64_t j = 0; j < cols; j += lanes) *(mem *)(o + j) = v;                                 \
    }                                                                                                \
  }
EXPAND(f, vf, vf_mem, f32_alias, vm_f)
EXPAND(i, vi, vi_mem, i32_alias, vm_i)
EXPAND(l, vl, vl_mem, i64_alias, vm_l)
EXPAND(d, vd, vd_mem, f64_alias, vm_d)

static void index_fill(int64_t *o, int64_t first, int64_t n) {
  for (int64_t i = 0; i < n; i++) o[i] = first + i;
}

/* ---- Philox, VW blocks at a time (base/philox.c is the definition) -------------------------------------------------------------------- */
#if defined(__AVX512F__) && VW == 16
#define MUL_EVEN(a, b) ((vu)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__AVX2__) && VW == 8
#define MUL_EVEN(a, b) ((vu)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#elif defined(__SSE4_1__) && VW == 4
#define MUL_EVEN(a, b) ((vu)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#elif defined(__aarch64__)
#define MUL_EVEN(a, b) ((vu)vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#else
static inline vu MUL_EVEN(vu a, vu b) {
  typedef uint64_t vq __attribute__((vector_size(VM_BYTES)));
  return (vu)(((vq)a & 0xffffffffu) * ((vq)b & 0xffffffffu));
}
#endif
#if VW == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define ODD 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define IOTA 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif VW == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 8, 2, 10, 4, 12, 6, 14
#define ODD 1, 9, 3, 11, 5, 13, 7, 15
#define IOTA 0, 1, 2, 3, 4, 5, 6, 7
#else
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define EVEN 0, 4, 2, 6
#define ODD 1, 5, 3, 7
#define IOTA 0, 1, 2, 3
#endif
/* low and high halves of the products of all lanes of a with k */
static inline void mul_wide(vu a, uint32_t k, vu *low, vu *high) {
  vu kk = k + (vu){0}, even = MUL_EVEN(a, kk), odd = MUL_EVEN((vu)((vl)a >> 32), kk);
  *low = __builtin_shuffle(even, odd, (vu){EVEN});
  *high = __builtin_shuffle(even, odd, (vu){ODD});
}
static inline vf to_uniform(vu x) { return __builtin_convertvector((vi)(x >> 8), vf) * 0x1p-24f; }
/* the 4 VW draws of blocks block .. block + VW - 1 */
static inline void philox_tile(uint64_t seed, uint64_t stream, uint64_t block, vf out[4]) {
  vu c0 = (uint32_t)block + (vu){IOTA}, c1, c2 = (uint32_t)stream + (vu){0}, c3 = (uint32_t)(stream >> 32) + (vu){0};
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  vu low0, high0, low1, high1, t0, t1, t2, t3;
  c1 = (uint32_t)(block >> 32) - (vu)(c0 < (uint32_t)block); /* carry */
  for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    mul_wide(c0, 0xD2511F53u, &low0, &high0);
    mul_wide(c2, 0xCD9E8D57u, &low1, &high1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
  }
  t0 = __builtin_shuffle(c0, c2, (vu){LOW});
  t1 = __builtin_shuffle(c1, c3, (vu){LOW});
  t2 = __builtin_shuffle(c0, c2, (vu){HIGH});
  t3 = __builtin_shuffle(c1, c3, (vu){HIGH});
  out[0] = to_uniform(__builtin_shuffle(t0, t1, (vu){LOW}));
  out[1] = to_uniform(__builtin_shuffle(t0, t1, (vu){HIGH}));
  out[2] = to_uniform(__builtin_shuffle(t2, t3, (vu){LOW}));
  out[3] = to_uniform(__builtin_shuffle(t2, t3, (vu){HIGH}));
}
static void random_fill(float *o, uint64_t seed, uint64_t stream, uint64_t first, int64_t n) {
  uint64_t block = first / 4;
  int64_t skip = (int64_t)(first % 4);
  while (n > 0) {
    vf v[4];
    int64_t take = 4 * VW - skip < n ? 4 * VW - skip : n;
    philox_tile(seed, stream, block, v);
    memcpy(o, (const float *)(const void *)v + skip, (size_t)take * 4);
    o += take;
    n -= take;
    skip = 0;
    block += VW;
  }
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------------- */
#define PW(c) NN_ISA_CAT(nn_cpu_rows_pw_##c, NN_ISA)
#define RED(c) NN_ISA_CAT(nn_cpu_rows_reduce_##c, NN_ISA)
#define JOIN(c) NN_ISA_CAT(nn_cpu_rows_join_##c, NN_ISA)
extern const nn_rows_reduce_fn JOIN(f)[NNI_NRED], JOIN(i)[NNI_NRED], JOIN(l)[NNI_NRED], JOIN(d)[NNI_NRED];
void NN_ISA_FN(nn_cpu_rows_light)(const nn_rows_link *k, int nlinks, int64_t rows, int64_t cols);
void NN_ISA_FN(nn_cpu_rows_heavy)(const nn_rows_link *k, int nlinks, int64_t rows, int64_t cols);
extern const nn_rows_fn PW(f)[NNI_NPW], PW(i)[NNI_NPW], PW(l)[NNI_NPW], PW(d)[NNI_NPW];
extern const nn_rows_reduce_fn RED(f)[NNI_NRED], RED(i)[NNI_NRED], RED(l)[NNI_NRED], RED(d)[NNI_NRED];

const nn_rows *NN_ISA_FN(nn_cpu_rows)(void) {
  static const nn_rows rows = {
    .vw = VW,
    .pw = {PW(f), PW(i), PW(l), PW(d)},
    .reduce = {RED(f), RED(i), RED(l), RED(d)},
    .join = {JOIN(f), JOIN(i), JOIN(l), JOIN(d)},
    .cast = {
      [NNI_F] = {[NN_BOOL] = cast_f_bool, [NN_U8] = cast_f_u8, [NN_I32] = cast_f_i32, [NN_I64] = cast_f_i64, [NN_F32] = copy4,
                [NN_F16] = cast_f_f16, [NN_BF16] = cast_f_bf16, [NN_F64] = cast_f_f64},
      [NNI_I] = {[NN_BOOL] = cast_i_bool, [NN_U8] = cast_i_u8, [NN_I32] = copy4, [NN_I64] = cast_i_i64, [NN_F32] = cast_i_f32,
                [NN_F16] = cast_i_f16, [NN_BF16] = cast_i_bf16, [NN_F64] = cast_i_f64},
      [NNI_L] = {[NN_BOOL] = cast_l_bool, [NN_U8] = cast_l_u8, [NN_I32] = cast_l_i32, [NN_I64] = copy8, [NN_F32] = cast_l_f32,
                [NN_F16] = cast_l_f16, [NN_BF16] = cast_l_bf16, [NN_F64] = cast_l_f64},
      [NNI_D] = {[NN_BOOL] = cast_d_bool, [NN_U8] = cast_d_u8, [NN_I32] = cast_d_i32, [NN_I64] = cast_d_i64, [NN_F32] = cast_d_f32,
                 [NN_F16] = cast_d_f16, [NN_BF16] = cast_d_bf16, [NN_F64] = copy8}},
    .copy = {copy4, copy4, copy8, copy8},
    .load = {[NN_BOOL] = load_u8, [NN_U8] = load_u8, [NN_I32] = load_i32, [NN_I64] = load_i64, [NN_F32] = load_f32,
             [NN_F16] = load_f16, [NN_BF16] = load_bf16, [NN_F64] = load_f64},
    .store = {[NN_BOOL] = store_u8, [NN_U8] = store_u8, [NN_I32] = store4, [NN_I64] = store8, [NN_F32] = store4,
              [NN_F16] = store_f16, [NN_BF16] = store_bf16, [NN_F64] = store8},
    .stream = stream,
    .stream_end = stream_end,
    .expand = {expand_f, expand_i, expand_l, expand_d},
    .light = NN_ISA_FN(nn_cpu_rows_light),
    .heavy = NN_ISA_FN(nn_cpu_rows_heavy),
    .random = random_fill,
    .index = index_fill,
  };
  return &rows;
}
