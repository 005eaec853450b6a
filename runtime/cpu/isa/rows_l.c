/* cpu/isa/rows_l.c - tile kernels of class L (i64). Masks travel as class I, half a vector at a time. Exports its tables to rows_io.c. */
#include "rows.h"
#include "vm_int.h"
#define LETTER l
#define T int64_t
#define V vl
#define VMEM vl_mem
#define MASK vlm
#define LANES (VW / 2)
#define LOADV(p) (*(const vl_mem *)(p))
#define SPLATV(x) vm_l(x)
#define LOADM(p) vm_maskl(*(const vih_mem *)(p))
#define STOREM(p, m) *(vih_mem *)(p) = vm_onel(m)
#define REAL(...)
#define INTEGER(...) __VA_ARGS__
#define LOGIC(...)
#define K(x) vm_l((x) >= 9.2e18 ? INT64_MAX : (x) <= -9.2e18 ? INT64_MIN : (int64_t)(x))
#define MIN(a, b) vm_sell(vm_ltl(a, b), a, b)
#define MAX(a, b) vm_sell(vm_gtl(a, b), a, b)
#define ABS(a) vm_sell(vm_ltl(a, vm_l(0)), -(a), a)
#define NEG(a) (-(a))
#define FMOD(a, b) vm_fmodl(a, b)
#define MOD(a, b) vm_modl(a, b)
#define FLOORDIV(a, b) vm_floordivl(a, b)
#define POW(a, b) vm_powl(a, b)
#define FLOOR(a) (a)
#define CEIL(a) (a)
#define RINT(a) (a)
#define TRUNC(a) (a)
#define BAND(a, b) ((a) & (b))
#define BOR(a, b) ((a) | (b))
#define BXOR(a, b) ((a) ^ (b))
#define BNOT(a) (~(a))
#define SHL(a, n) vm_shll(a, n)
#define SHR(a, n) vm_shrl(a, n)
#if VW == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#elif VW == 8
#define LANE_NUMBERS 0, 1, 2, 3
#else
#define LANE_NUMBERS 0, 1
#endif
#define LANE_V LOADV(lane_numbers)
#define ROTATE(v, s) __builtin_shuffle(v, (LOADV(lane_numbers) + (s)) & (LANES - 1))
#define PW_TABLE NN_ISA_FN(nn_cpu_rows_pw_l)
#define JOIN_TABLE NN_ISA_FN(nn_cpu_rows_join_l)
#define REDUCE_TABLE NN_ISA_FN(nn_cpu_rows_reduce_l)
#include "rows_tile.h"
