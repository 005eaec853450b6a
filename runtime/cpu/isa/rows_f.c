/* cpu/isa/rows_f.c - tile kernels of class F (f32). Exports its tables to rows_io.c. */
#include "rows.h"
#include "vm_math.h"
#define LETTER f
#define T float
#define V vf
#define VMEM vf_mem
#define MASK vfm
#define LANES VW
#define LOADV(p) (*(const vf_mem *)(p))
#define SPLATV(x) vm_f(x)
#define LOADM(p) vm_nei(*(const vi_mem *)(p), vm_i(0))
#define STOREM(p, m) *(vi_mem *)(p) = vm_onei(m)
#define REAL(...) __VA_ARGS__
#define INTEGER(...)
#define LOGIC(...)
#define K(x) vm_f((x) >= 1e300 ? __builtin_inff() : (x) <= -1e300 ? -__builtin_inff() : (float)(x))
#define MIN(a, b) vm_min(a, b)
#define MAX(a, b) vm_max(a, b)
#define ABS(a) vm_abs(a)
#define NEG(a) vm_neg(a)
#define SQRT(a) vm_sqrt(a)
#define EXP(a) vm_exp(a)
#define EXPM1(a) vm_expm1(a)
#define LOG(a) vm_log(a)
#define LOG1P(a) vm_log1p(a)
#define LOG2(a) vm_log2(a)
#define LOG10(a) vm_log10(a)
#define SIN(a) vm_sin(a)
#define COS(a) vm_cos(a)
#define ATAN2(a, b) vm_atan2(a, b)
#define TANH(a) vm_tanh(a)
#define ERF(a) vm_erf(a)
#define ERFC(a) vm_erfc(a)
#define POW(a, b) vm_pow(a, b)
#define FMOD(a, b) vm_fmod(a, b)
#define MOD(a, b) vm_mod(a, b)
#define FLOORDIV(a, b) vm_floordiv(a, b)
#define FLOOR(a) vm_floor(a)
#define CEIL(a) vm_ceil(a)
#define RINT(a) vm_rint(a)
#define TRUNC(a) vm_trunc(a)
#if VW == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif VW == 8
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#else
#define LANE_NUMBERS 0, 1, 2, 3
#endif
#define ROTATE(v, s) __builtin_shuffle(v, (*(const vi *)rotation + (s)) & (VW - 1))
static const int32_t rotation[VW] __attribute__((aligned(VM_BYTES))) = {LANE_NUMBERS};
#define PW_TABLE NN_ISA_FN(nn_cpu_rows_pw_f)
#define JOIN_TABLE NN_ISA_FN(nn_cpu_rows_join_f)
#define REDUCE_TABLE NN_ISA_FN(nn_cpu_rows_reduce_f)
#define SQUARE_SUM NN_ISA_FN(nn_cpu_rows_square_sum)
#define BYROW_TABLE NN_ISA_FN(nn_cpu_rows_byrow)
#include "rows_tile.h"

/* ---- two steps in one ---------------------------------------------------------------------------------------------------------- */
/* The product is kept apart from the sum (no fused multiply-add), so that the bits are those of square and rsum. */
#if defined(__x86_64__)
static inline V square_of(V x) {
  V y = x * x;
  __asm__("" : "+x"(y));
  return y;
}
#else
static inline V square_of(V x) {
  V y = x * x;
  __asm__("" : "+w"(y));
  return y;
}
#endif
FOLD(square, K(0), ADD(a, b), square_of)
ROWS_OF(square)
void SQUARE_SUM(void *o, const void *a, int64_t rows, int64_t cols);
void SQUARE_SUM(void *o, const void *a, int64_t rows, int64_t cols) { reduce_square(o, a, rows, cols); }

/* A row value with a row, without spreading it out first. */
#define BYROW(name, expr)                                                                                            \
  static void byrow_##name(void *o_, const void *a_, const void *b_, int64_t rows, int64_t cols) {                   \
    const T *a = a_, *b = b_;                                                                                        \
    T *o = o_;                                                                                                       \
    for (int64_t r = 0; r < rows; r++, a += cols, o += cols) {                                                       \
      const V y = SPLATV(b[r]);                                                                                      \
      for (int64_t j = 0; j < cols; j += LANES) {                                                                    \
        const V x = LOADV(a + j);                                                                                    \
        *(VMEM *)(o + j) = expr;                                                                                     \
      }                                                                                                              \
    }                                                                                                                \
  }
BYROW(add, x + y)
BYROW(sub, x - y)
BYROW(mul, x * y)
BYROW(div, x / y)
BYROW(sub_from, y - x)
BYROW(div_by, y / x)
extern const nn_rows_byrow_fn BYROW_TABLE[2][NNI_NPW];
const nn_rows_byrow_fn BYROW_TABLE[2][NNI_NPW] = {
  {[NNI_PW_add] = byrow_add, [NNI_PW_sub] = byrow_sub, [NNI_PW_mul] = byrow_mul, [NNI_PW_div] = byrow_div},
  {[NNI_PW_add] = byrow_add, [NNI_PW_sub] = byrow_sub_from, [NNI_PW_mul] = byrow_mul, [NNI_PW_div] = byrow_div_by}};
