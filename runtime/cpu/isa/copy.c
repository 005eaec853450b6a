/* cpu/isa/copy.c - one row of a strided copy, with conversion: the inner loops of k_copy.c.
**
** float -> integer truncates, saturates at the ends of i32 or i64, NaN gives 0; -> bool is != 0; -> u8 is modulo 256 (a float through i32).
*/
#include "../isa_kernels.h"
#include "../../tensor/half.h"
#include "transpose.h"

static inline int32_t f32_to_i32(float x) { return x >= 0x1p31f ? INT32_MAX : x <= -0x1p31f ? INT32_MIN : x != x ? 0 : (int32_t)x; }
static inline int64_t f32_to_i64(float x) { return x >= 0x1p63f ? INT64_MAX : x <= -0x1p63f ? INT64_MIN : x != x ? 0 : (int64_t)x; }

#define ID(x) (x)
#define TO_BOOL(x) ((uint8_t)((x) != 0))
#define TO_U8(x) ((uint8_t)((uint64_t)(x)&255))
#define F_TO_U8(x) ((uint8_t)((uint32_t)f32_to_i32(x) & 255))
#define TO_I32(x) ((int32_t)(x))
#define TO_I64(x) ((int64_t)(x))
#define TO_F32(x) ((float)(x))
#define TO_F64(x) ((double)(x))

/* CASE(pair, source type, destination type, conversion): three loops, so that the common ones vectorise */
#define PAIR(s, d) ((s)*NN_NDTYPE + (d))
#define CASE(s, d, S, D, CONV)                                                                                                                       \
  case PAIR(s, d): {                                                                                                                                 \
    const S *restrict x = src;                                                                                                                       \
    D *restrict y = dst;                                                                                                                             \
    if (ss == 1 && ds == 1)                                                                                                                          \
      for (int64_t i = 0; i < n; i++) y[i] = CONV(x[i]);                                                                                             \
    else if (ss == 0 && ds == 1) {                                                                                                                   \
      const D v = CONV(x[0]);                                                                                                                        \
      for (int64_t i = 0; i < n; i++) y[i] = v;                                                                                                      \
    } else                                                                                                                                           \
      for (int64_t i = 0; i < n; i++) y[i * ds] = CONV(x[i * ss]);                                                                                   \
    break;                                                                                                                                           \
  }
#define FROM(s, S, u8)                                                                                                                               \
  CASE(s, NN_BOOL, S, uint8_t, TO_BOOL)                                                                                                              \
  CASE(s, NN_U8, S, uint8_t, u8)                                                                                                                     \
  CASE(s, NN_I32, S, int32_t, TO_I32)                                                                                                                \
  CASE(s, NN_I64, S, int64_t, TO_I64)                                                                                                                \
  CASE(s, NN_F32, S, float, TO_F32)

/* The pairs that are rare: element by element. What saturates in f32_to_i32 and its like does here too. */
static void convert_rest(nn_dtype dd, void *dst, int64_t ds, nn_dtype sd, const void *src, int64_t ss, int64_t n) {
  const int64_t to = (int64_t)nn_dtype_size(dd), from = (int64_t)nn_dtype_size(sd);
  for (int64_t i = 0; i < n; i++) {
    double f;
    int64_t v;
    nn_element_read(sd, (const char *)src + i * ss * from, &f, &v);
    if (nn_dtype_is_float(sd)) {
      v = f != f ? 0 : f >= 0x1p63 ? INT64_MAX : f <= -0x1p63 ? INT64_MIN : (int64_t)f;
      if (dd != NN_I64) v = v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
    }
    nn_element_write(dd, (char *)dst + i * ds * to, f, v);
  }
}

void NN_ISA_FN(nn_cpu_copy_row)(nn_dtype dd, void *dst, int64_t ds, nn_dtype sd, const void *src, int64_t ss, int64_t n) {
  if (n <= 0) return;
  switch (PAIR(sd, dd)) {
    CASE(NN_BOOL, NN_BOOL, uint8_t, uint8_t, ID)
    CASE(NN_BOOL, NN_U8, uint8_t, uint8_t, ID)
    CASE(NN_BOOL, NN_I32, uint8_t, int32_t, TO_I32)
    CASE(NN_BOOL, NN_I64, uint8_t, int64_t, TO_I64)
    CASE(NN_BOOL, NN_F32, uint8_t, float, TO_F32)
    CASE(NN_U8, NN_BOOL, uint8_t, uint8_t, TO_BOOL)
    CASE(NN_U8, NN_U8, uint8_t, uint8_t, ID)
    CASE(NN_U8, NN_I32, uint8_t, int32_t, TO_I32)
    CASE(NN_U8, NN_I64, uint8_t, int64_t, TO_I64)
    CASE(NN_U8, NN_F32, uint8_t, float, TO_F32)
    FROM(NN_I32, int32_t, TO_U8)
    FROM(NN_I64, int64_t, TO_U8)
    CASE(NN_F32, NN_BOOL, float, uint8_t, TO_BOOL)
    CASE(NN_F32, NN_U8, float, uint8_t, F_TO_U8)
    CASE(NN_F32, NN_I32, float, int32_t, f32_to_i32)
    CASE(NN_F32, NN_I64, float, int64_t, f32_to_i64)
    CASE(NN_F32, NN_F32, float, float, ID)
    CASE(NN_F16, NN_F16, uint16_t, uint16_t, ID)
    CASE(NN_BF16, NN_BF16, uint16_t, uint16_t, ID)
    CASE(NN_F64, NN_F64, double, double, ID)
    CASE(NN_F32, NN_F64, float, double, TO_F64)
    CASE(NN_F64, NN_F32, double, float, TO_F32)
    CASE(NN_F16, NN_F32, uint16_t, float, nni_from_f16)
    CASE(NN_F32, NN_F16, float, uint16_t, nni_to_f16)
    CASE(NN_BF16, NN_F32, uint16_t, float, nni_from_bf16)
    CASE(NN_F32, NN_BF16, float, uint16_t, nni_to_bf16)
  default: convert_rest(dd, dst, ds, sd, src, ss, n);
  }
}

#define ADD(T, U)                                                                                                                                    \
  {                                                                                                                                                  \
    const T *restrict x = src;                                                                                                                       \
    T *restrict y = dst;                                                                                                                             \
    if (ss == 1 && ds == 1)                                                                                                                          \
      for (int64_t i = 0; i < n; i++) y[i] = (T)((U)y[i] + (U)x[i]);                                                                                 \
    else                                                                                                                                             \
      for (int64_t i = 0; i < n; i++) y[i * ds] = (T)((U)y[i * ds] + (U)x[i * ss]);                                                                  \
  }

static void add_halves(nn_dtype d, uint16_t *y, int64_t ds, const uint16_t *x, int64_t ss, int64_t n) {
  if (d == NN_F16)
    for (int64_t i = 0; i < n; i++) y[i * ds] = nni_to_f16(nni_from_f16(y[i * ds]) + nni_from_f16(x[i * ss]));
  else if (d == NN_BF16)
    for (int64_t i = 0; i < n; i++) y[i * ds] = nni_to_bf16(nni_from_bf16(y[i * ds]) + nni_from_bf16(x[i * ss]));
}

void NN_ISA_FN(nn_cpu_add_row)(nn_dtype d, void *dst, int64_t ds, const void *src, int64_t ss, int64_t n) {
  if (d == NN_F32) ADD(float, float)
  else if (d == NN_I32) ADD(int32_t, uint32_t)
  else if (d == NN_I64) ADD(int64_t, uint64_t)
  else if (d == NN_F64) ADD(double, double)
  else add_halves(d, dst, ds, src, ss, n);
}

void NN_ISA_FN(nn_cpu_add_some_rows)(nn_dtype idtype, const void *ids, int64_t n, const float *in, float *out, int64_t width, int64_t v0, int64_t v1,
                                     int64_t c0, int64_t c1) {
  for (int64_t i = 0; i < n; i++) {
    const int64_t id = idtype == NN_I64 ? ((const int64_t *)ids)[i] : ((const int32_t *)ids)[i];
    const float *restrict x = in + i * width;
    float *restrict y = out + id * width;
    if (id < v0 || id >= v1) continue;
    for (int64_t c = c0; c < c1; c++) y[c] += x[c];
  }
}

/* ---- transposition: squares whose lines on both sides fit the L1 cache, whatever the strides ---- */
#define TRANSPOSE(name, T, SIDE)                                                                                                                     \
  static void name(T *restrict y, int64_t ds, const T *restrict x, int64_t ss, int64_t rows, int64_t cols) {                                         \
    for (int64_t c0 = 0; c0 < cols; c0 += SIDE)                                                                                                      \
      for (int64_t r0 = 0; r0 < rows; r0 += SIDE) {                                                                                                  \
        const int64_t c1 = c0 + SIDE < cols ? c0 + SIDE : cols, r1 = r0 + SIDE < rows ? r0 + SIDE : rows;                                            \
        for (int64_t r = r0; r < r1; r++)                                                                                                            \
          for (int64_t c = c0; c < c1; c++) y[r * ds + c] = x[c * ss + r];                                                                           \
      }                                                                                                                                              \
  }
TRANSPOSE(transpose1, uint8_t, 16)
TRANSPOSE(transpose4, float, 8)
TRANSPOSE(transpose8, int64_t, 8)

/* f32 and i32 alike: the bits are only moved */
static void transpose_squares(float *y, int64_t ds, const float *x, int64_t ss, int64_t rows, int64_t cols) {
  const int64_t r1 = rows - rows % VW, c1 = cols - cols % VW;
  for (int64_t r = 0; r < r1; r += VW)
    for (int64_t c = 0; c < c1; c += VW) transpose_square(x + c * ss + r, ss, y + r * ds + c, ds);
  transpose4(y + c1, ds, x + c1 * ss, ss, r1, cols - c1);
  transpose4(y + r1 * ds, ds, x + r1, ss, rows - r1, cols);
}

void NN_ISA_FN(nn_cpu_transpose)(int64_t size, void *dst, int64_t ds, const void *src, int64_t ss, int64_t rows, int64_t cols) {
  if (size == 4) transpose_squares(dst, ds, src, ss, rows, cols);
  else if (size == 8) transpose8(dst, ds, src, ss, rows, cols);
  else transpose1(dst, ds, src, ss, rows, cols);
}
