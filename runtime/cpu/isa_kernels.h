/* cpu/isa_kernels.h - functions of cpu/isa that the structural kernels call (one copy per instruction-set level, see isa.h).
**
** Included by k_*.c (for the declarations) and by the files of isa/ (so that prototypes are checked).
*/
#ifndef NN_CPU_ISA_KERNELS_H
#define NN_CPU_ISA_KERNELS_H
#include "cpu.h"

/* copy.c: n elements; ds, ss: elements per step */
NN_ISA_DECL(void, nn_cpu_copy_row, (nn_dtype dd, void *dst, int64_t ds, nn_dtype sd, const void *src, int64_t ss, int64_t n));
NN_ISA_DECL(void, nn_cpu_add_row, (nn_dtype d, void *dst, int64_t ds, const void *src, int64_t ss, int64_t n));

/* out[id][c] += in[i][c] for id = ids[i] (i64 or i32), i in order, where v0 <= id < v1, c0 <= c < c1; rows of width elements */
NN_ISA_DECL(void, nn_cpu_add_some_rows,
            (nn_dtype idtype, const void *ids, int64_t n, const float *in, float *out, int64_t width, int64_t v0, int64_t v1, int64_t c0,
             int64_t c1));
/* elements of 1, 4 or 8 bytes: dst[r * ds + c] = src[c * ss + r], r < rows, c < cols */
NN_ISA_DECL(void, nn_cpu_transpose, (int64_t size, void *dst, int64_t ds, const void *src, int64_t ss, int64_t rows, int64_t cols));

/* reduce.c. A partial result: f of f32 (v of integers), at is the position of what rargmax and rargmin chose. */
typedef struct nn_cpu_part {
  double f;
  int64_t v, at;
} nn_cpu_part;
enum { NN_CPU_STRIP = 1024 }; /* most columns a call of the *_cols functions takes */
/* n >= 1 neighbours */
NN_ISA_DECL(nn_cpu_part, nn_cpu_reduce_run, (nni_redid op, nn_dtype d, const void *x, int64_t n));
/* out[r] = reduction of row r of rows, n >= 1 elements each; not rargmax, rargmin */
NN_ISA_DECL(void, nn_cpu_reduce_rows_f32, (nni_redid op, const float *x, int64_t n, int64_t rows, float *out));
/* the part that `op` keeps of an earlier a and a later b; f32 or integer */
NN_ISA_DECL(nn_cpu_part, nn_cpu_reduce_join, (nni_redid op, bool is_f32, nn_cpu_part a, nn_cpu_part b));
/* out[c] = reduction over rows >= 1 of x[r * stride + c], c < cols <= NN_CPU_STRIP */
NN_ISA_DECL(void, nn_cpu_reduce_cols_f32, (nni_redid op, const float *x, int64_t stride, int64_t rows, int64_t cols, float *out));
NN_ISA_DECL(void, nn_cpu_reduce_cols_int, (nni_redid op, nn_dtype d, const void *x, int64_t stride, int64_t rows, int64_t cols, int64_t *out));
/* the same for rargmax and rargmin; every row number is counted from row0 */
NN_ISA_DECL(void, nn_cpu_reduce_cols_arg,
            (nni_redid op, nn_dtype d, const void *x, int64_t stride, int64_t rows, int64_t cols, int64_t row0, nn_cpu_part *out));

/* gemm.c: see nn_cpu_gemm_run */
NN_ISA_DECL(void, nn_cpu_gemm_own, (const nn_cpu_gemm *g));
NN_ISA_DECL(void, nn_cpu_gemm_pack_own, (const nn_cpu_gemm *g, float *out));

/* moments.c: rows x cols at x, `stride` elements a row -> mean and sum of squared differences from it */
NN_ISA_DECL(void, nn_cpu_moments_block, (const float *x, int64_t stride, int64_t rows, int64_t cols, float *mean, float *squares));
/* sum of a and of a * (x - mean) */
NN_ISA_DECL(void, nn_cpu_dots_block,
            (const float *a, const float *x, int64_t stride, const float *mean, int64_t rows, int64_t cols, float *sum, float *dot));

/* lstm.c: one row of one step, H cells. z: x (in), gates (out) 4H; hw: what the state gives to the gates; c, h: the row's states before and after */
NN_ISA_DECL(void, nn_cpu_lstm_row, (int64_t H, const float *x, const float *hw, const float *c, float *gates, float *c_out, float *h_out));
/* its gradient: dz (4H) from gates, c before and after, cotangents that may be NULL (dh, dc, dgates) and those of the next step: dh_next (in), dc_next (in and out) */
NN_ISA_DECL(void, nn_cpu_lstm_row_dx,
            (int64_t H, const float *gates, const float *c, const float *c_out, const float *dh, const float *dc, const float *dgates, const float *dh_next,
             float *dc_next, float *dz));

#endif
