/* cpu/blas.h - a BLAS from the system, loaded on first use. */
#ifndef NN_CPU_BLAS_H
#define NN_CPU_BLAS_H
#include "cpu.h"

/* The product by the system's BLAS, in the calling thread; false when there is none, or it can't take these strides or sizes. Nothing is
** written then. */
bool nn_cpu_blas_gemm(const nn_cpu_gemm *g);

#endif
