/* cpu/double.h - the f64 forms of structural kernels (k_double.c, k_double_conv.c), called by the kernels themselves when their operands are f64.
** None of them needs scratch. */
#ifndef NN_CPU_DOUBLE_H
#define NN_CPU_DOUBLE_H
#include "cpu.h"

nn_status nn_cpu_matmul_f64(const nni_kernel_call *k);
nn_status nn_cpu_reduce_f64(const nni_kernel_call *k);
nn_status nn_cpu_moments_f64(const nni_kernel_call *k);
nn_status nn_cpu_column_dots_f64(const nni_kernel_call *k);
nn_status nn_cpu_lstm_f64(const nni_kernel_call *k);
nn_status nn_cpu_lstm_dx_f64(const nni_kernel_call *k);
nn_status nn_cpu_conv2d_f64(const nni_kernel_call *k);
nn_status nn_cpu_conv2d_dx_f64(const nni_kernel_call *k);
nn_status nn_cpu_conv2d_dw_f64(const nni_kernel_call *k);
nn_status nn_cpu_max_pool2d_f64(const nni_kernel_call *k);
nn_status nn_cpu_max_pool2d_dx_f64(const nni_kernel_call *k);
nn_status nn_cpu_max_pool2d_take_f64(const nni_kernel_call *k);
/* out[ids[i]][c] += in[i][c]; ids are i64 or i32, in range */
void nn_cpu_add_rows_f64(nni_threads *t, nn_dtype idtype, const void *ids, int64_t n, const double *in, double *out, int64_t width);

#endif
