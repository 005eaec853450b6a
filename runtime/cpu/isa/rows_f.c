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
#define LANE_V (*(const vi *)rotation)
#define ROTATE(v, s) __builtin_shuffle(v, (*(const vi *)rotation + (s)) & (VW - 1))
static const int32_t rotation[VW] __attribute__((aligned(VM_BYTES))) = {LANE_NUMBERS};
#define PW_TABLE NN_ISA_FN(nn_cpu_rows_pw_f)
#define JOIN_TABLE NN_ISA_FN(nn_cpu_rows_join_f)
#define REDUCE_TABLE NN_ISA_FN(nn_cpu_rows_reduce_f)
#include "rows_tile.h"
#include "rows_stream.h"

/* Polynomials need registers: only half as many vectors of a strip find a place beside them. */
#define CHAIN NN_ISA_FN(nn_cpu_rows_light)
#define OF(name) name##_light
#define STRIP 8
#define LINKS NN_ROWS_LIGHT
#include "rows_chain.h"
#define CHAIN NN_ISA_FN(nn_cpu_rows_heavy)
#define OF(name) name##_heavy
#define STRIP 4
#define LINKS NN_ROWS_HEAVY
#include "rows_chain.h"
