/* cpu/cpu.h - what the files of cpu/ show each other: every kernel by name, the strided copy and the product; row programs are program.h's.
**
** Included by cpu/ only; the graph sees the backend through nn_cpu_backend (graph/device.h).
*/
#ifndef NN_CPU_H
#define NN_CPU_H
#include "../graph/device.h"
#include "isa.h"
#include "program.h"

/* ---- structural kernels: k_copy.c, k_reduce.c, k_matmul.c, k_rows.c, k_conv*.c, k_pool.c ------------------------------------ */
#define NN_KERNEL(name, doc)                                                                                                                         \
  nn_status nn_cpu_##name(const nni_kernel_call *k);                                                                                                 \
  size_t nn_cpu_##name##_scratch(const nni_kernel_call *k);
#include "../ops/kernels.def"
#undef NN_KERNEL

/* ---- strided copy: k_copy.c ------------------------------------------------------------------------------------------------- */
/* One end of a copy: element 0, dtype, elements per step of each dim. */
typedef struct nn_cpu_side {
  void *data;
  nn_dtype dtype;
  const int64_t *stride;
} nn_cpu_side;
/* dst[i] = src[i] (converted as NNI_R_CAST says), or dst[i] += src[i] when add (one dtype: a float, i32 or i64). The two must not overlap
** unless they are the same elements; destinations must be distinct. */
void nn_cpu_copy_strided(nni_threads *t, int ndim, const int64_t *shape, nn_cpu_side dst, nn_cpu_side src, bool add);
/* n bytes, by several threads when that pays; nothing when dst == src. */
void nn_cpu_copy_bytes(nni_threads *t, void *dst, const void *src, size_t n);
void nn_cpu_zero_bytes(nni_threads *t, void *dst, size_t n);

/* ---- matrix product: k_matmul.c ---------------------------------------------------------------------------------------------- */
/* C (M, N) = A (M, K) B (K, N), f32; am, ak, bk, bn: elements per step of a row or column; C has unit stride along N and ldc along M.
** Computed by the calling thread: for use inside nni_parallel. Each of A and B has unit stride in one dim. An element of C does
** not depend on how a product is cut along M and N. Reads up to NNI_PAD bytes past A and B. */
typedef struct nn_cpu_gemm {
  const float *a, *b;
  float *c;
  int64_t m, n, k, am, ak, bk, bn, ldc;
  const float *packed; /* B as nn_cpu_gemm_pack left it, or NULL */
} nn_cpu_gemm;
void nn_cpu_gemm_run(const nn_cpu_gemm *g);
/* For many products with one B: the panels of B to `out`, nn_cpu_gemm_packed_size floats. Gives the bits that nn_cpu_gemm_run gives without. */
int64_t nn_cpu_gemm_packed_size(int64_t n, int64_t k);
void nn_cpu_gemm_pack(const nn_cpu_gemm *g, float *out);

static inline int64_t nn_cpu_numel(const nni_operand *o) {
  int64_t n = 1;
  for (int d = 0; d < o->ndim; d++) n *= o->shape[d];
  return n;
}

#endif
