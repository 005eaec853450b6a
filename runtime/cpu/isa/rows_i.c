/* cpu/isa/rows_i.c - tile kernels of class I (i32; u8 and bool live in it too). Exports its tables to rows_io.c. */
#include "rows.h"
#include "vm_int.h"
#define LETTER i
#define T int32_t
#define V vi
#define VMEM vi_mem
#define MASK vfm
#define LANES VW
#define LOADV(p) (*(const vi_mem *)(p))
#define SPLATV(x) vm_i(x)
#define LOADM(p) vm_nei(LOADV(p), vm_i(0))
#define STOREM(p, m) *(vi_mem *)(p) = vm_onei(m)
#define REAL(...)
#define INTEGER(...) __VA_ARGS__
#define LOGIC(...) __VA_ARGS__
#define vm_noti vm_notf
#define vm_anyi vm_anyf
#define K(x) vm_i((x) >= 2147483647.0 ? INT32_MAX : (x) <= -2147483648.0 ? INT32_MIN : (int32_t)(x))
#define MIN(a, b) vm_seli(vm_lti(a, b), a, b)
#define MAX(a, b) vm_seli(vm_gti(a, b), a, b)
#define ABS(a) vm_seli(vm_lti(a, vm_i(0)), -(a), a)
#define NEG(a) (-(a))
#define FMOD(a, b) vm_fmodi(a, b)
#define MOD(a, b) vm_modi(a, b)
#define FLOORDIV(a, b) vm_floordivi(a, b)
#define POW(a, b) vm_powi(a, b)
#define FLOOR(a) (a)
#define CEIL(a) (a)
#define RINT(a) (a)
#define TRUNC(a) (a)
#define BAND(a, b) ((a) & (b))
#define BOR(a, b) ((a) | (b))
#define BXOR(a, b) ((a) ^ (b))
#define BNOT(a) (~(a))
#define SHL(a, n) vm_shli(a, n)
#define SHR(a, n) vm_shri(a, n)
#if VW == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif VW == 8
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#else
#define LANE_NUMBERS 0, 1, 2, 3
#endif
#define LANE_V LOADV(lane_numbers)
#define ROTATE(v, s) __builtin_shuffle(v, (LOADV(lane_numbers) + (s)) & (VW - 1))
#define PW_TABLE NN_ISA_FN(nn_cpu_rows_pw_i)
#define JOIN_TABLE NN_ISA_FN(nn_cpu_rows_join_i)
#define REDUCE_TABLE NN_ISA_FN(nn_cpu_rows_reduce_i)
#include "rows_tile.h"
