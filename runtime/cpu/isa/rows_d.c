/* cpu/isa/rows_d.c - tile kernels of class D (f64). Masks travel as class I, half a vector at a time. Exports its tables to rows_io.c. */
#include "rows.h"
#include "vm_d.h"
#define LETTER d
#define T double
#define V vd
#define VMEM vd_mem
#define MASK vlm
#define LANES (VW / 2)
#define LOADV(p) (*(const vd_mem *)(p))
#define SPLATV(x) vm_d(x)
#define LOADM(p) vm_maskl(*(const vih_mem *)(p))
#define STOREM(p, m) *(vih_mem *)(p) = vm_onel(m)
#define REAL(...) __VA_ARGS__
#define INTEGER(...)
#define LOGIC(...)
#define K(x) vm_d((x) >= 1e300 ? __builtin_inf() : (x) <= -1e300 ? -__builtin_inf() : (double)(x))
#define MIN(a, b) vm_mind(a, b)
#define MAX(a, b) vm_maxd(a, b)
#define ABS(a) vm_absd(a)
#define NEG(a) vm_negd(a)
#define SQRT(a) vm_sqrtd(a)
#define EXP(a) vm_expd(a)
#define EXPM1(a) vm_expm1d(a)
#define LOG(a) vm_logd(a)
#define LOG1P(a) vm_log1pd(a)
#define LOG2(a) vm_log2d(a)
#define LOG10(a) vm_log10d(a)
#define SIN(a) vm_sind(a)
#define COS(a) vm_cosd(a)
#define ATAN2(a, b) vm_atan2d(a, b)
#define TANH(a) vm_tanhd(a)
#define ERF(a) vm_erfd(a)
#define ERFC(a) vm_erfcd(a)
#define POW(a, b) vm_powd(a, b)
#define FMOD(a, b) vm_fmodd(a, b)
#define MOD(a, b) vm_modd(a, b)
#define FLOORDIV(a, b) vm_floordivd(a, b)
#define FLOOR(a) vm_floord(a)
#define CEIL(a) vm_ceild(a)
#define RINT(a) vm_rintd(a)
#define TRUNC(a) vm_truncd(a)
#if VW == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#elif VW == 8
#define LANE_NUMBERS 0, 1, 2, 3
#else
#define LANE_NUMBERS 0, 1
#endif
#define LANE_V (*(const vl *)rotation)
#define ROTATE(v, s) __builtin_shuffle(v, (*(const vl *)rotation + (s)) & (LANES - 1))
static const int64_t rotation[LANES] __attribute__((aligned(VM_BYTES))) = {LANE_NUMBERS};
#define PW_TABLE NN_ISA_FN(nn_cpu_rows_pw_d)
#define JOIN_TABLE NN_ISA_FN(nn_cpu_rows_join_d)
#define REDUCE_TABLE NN_ISA_FN(nn_cpu_rows_reduce_d)
#include "rows_tile.h"
