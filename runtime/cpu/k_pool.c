/* cpu/k_pool.c - the structural kernels max_pool2d, max_pool2d_dx and max_pool2d_take. The work is in isa/conv_pool.c. No scratch. */
#include "double.h"
#include "isa/conv.h"

enum { SERIAL_TAPS = 1 << 15 };

/* x, y: shapes of the pooled image and of the result */
static nn_pool_job job_of(const int64_t *ia, const int64_t *x, const int64_t *y) {
  return (nn_pool_job){.N = x[0],
                       .H = x[1],
                       .W = x[2],
                       .C = x[3],
                       .OH = y[1],
                       .OW = y[2],
                       .KH = ia[0],
                       .KW = ia[1],
                       .sh = ia[2],
                       .sw = ia[3],
                       .pt = ia[4],
                       .pl = ia[5]};
}

/* A small image stays on this thread: waking the others may take longer. */
static void run_blocks(const nni_kernel_call *k, int64_t count, nni_block_fn fn, nn_pool_job *j) {
  if (j->N * j->OH * j->OW * j->C * j->KH * j->KW > SERIAL_TAPS) nni_parallel(k->threads, count, fn, j);
  else if (count > 0) fn(j, 0, count, 0);
}

size_t nn_cpu_max_pool2d_scratch(const nni_kernel_call *k) {
  (void)k;
  return 0;
}

nn_status nn_cpu_max_pool2d(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_max_pool2d_f64(k);
  nn_pool_job j = job_of(k->ia, k->in[0].shape, k->out[0].shape);
  j.x = k->in[0].data;
  j.y = k->out[0].data;
  j.taps = k->out[1].data;
  run_blocks(k, j.N * j.OH, NN_ISA_PICK(nn_conv_ops_get)()->pool_fwd, &j);
  return NN_OK;
}

size_t nn_cpu_max_pool2d_dx_scratch(const nni_kernel_call *k) {
  (void)k;
  return 0;
}

nn_status nn_cpu_max_pool2d_dx(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_max_pool2d_dx_f64(k);
  nn_pool_job j = job_of(k->ia, k->out[0].shape, k->in[0].shape);
  j.x = k->in[0].data;
  j.taps_in = k->in[1].data;
  j.y = k->out[0].data;
  run_blocks(k, j.N * j.H, NN_ISA_PICK(nn_conv_ops_get)()->pool_dx, &j);
  return NN_OK;
}

size_t nn_cpu_max_pool2d_take_scratch(const nni_kernel_call *k) {
  (void)k;
  return 0;
}

nn_status nn_cpu_max_pool2d_take(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_max_pool2d_take_f64(k);
  nn_pool_job j = job_of(k->ia, k->in[0].shape, k->out[0].shape);
  j.x = k->in[0].data;
  j.taps_in = k->in[1].data;
  j.y = k->out[0].data;
  run_blocks(k, j.N * j.OH, NN_ISA_PICK(nn_conv_ops_get)()->pool_take, &j);
  return NN_OK;
}
