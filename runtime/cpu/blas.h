/* cpu/blas.h - a BLAS and a LAPACK from the system, loaded on first use. */
#ifndef NN_CPU_BLAS_H
#define NN_CPU_BLAS_H
#include "cpu.h"

/* The product by the system's BLAS, in the calling thread; false when there is none, or it can't take these strides or sizes. Nothing is
** written then. */
bool nn_cpu_blas_gemm(const nn_cpu_gemm *g);

/* LAPACK's routines by Fortran's interface: matrices are column-major, the sizes at the end are the lengths of the character arguments. Calls
** stand between enter and leave, which take turns where the library is not known to be safe for concurrent calls. Names without the `s` of f32. */
#define NN_CPU_LAPACK_MAP(X)                                                                                                                         \
  X(getrf, const int *m, const int *n, float *a, const int *lda, int *piv, int *info)                                                                \
  X(getri, const int *n, float *a, const int *lda, const int *piv, float *work, const int *lwork, int *info)                                         \
  X(gesv, const int *n, const int *nrhs, float *a, const int *lda, int *piv, float *b, const int *ldb, int *info)                                    \
  X(potrf, const char *uplo, const int *n, float *a, const int *lda, int *info, size_t luplo)                                                        \
  X(geqrf, const int *m, const int *n, float *a, const int *lda, float *tau, float *work, const int *lwork, int *info)                               \
  X(orgqr, const int *m, const int *n, const int *k, float *a, const int *lda, const float *tau, float *work, const int *lwork, int *info)           \
  X(gesdd, const char *job, const int *m, const int *n, float *a, const int *lda, float *s, float *u, const int *ldu, float *vt, const int *ldvt,    \
    float *work, const int *lwork, int *iwork, int *info, size_t ljob)                                                                               \
  X(syevd, const char *job, const char *uplo, const int *n, float *a, const int *lda, float *w, float *work, const int *lwork, int *iwork,           \
    const int *liwork, int *info, size_t ljob, size_t luplo)                                                                                         \
  X(gelsy, const int *m, const int *n, const int *nrhs, float *a, const int *lda, float *b, const int *ldb, int *piv, const float *rcond, int *rank, \
    float *work, const int *lwork, int *info)
typedef struct nn_cpu_lapack {
#define NN_X(name, ...) void (*name)(__VA_ARGS__);
  NN_CPU_LAPACK_MAP(NN_X)
#undef NN_X
} nn_cpu_lapack;
const nn_cpu_lapack *nn_cpu_lapack_get(void); /* NULL: there is none */
void nn_cpu_lapack_enter(void);
void nn_cpu_lapack_leave(void);

#endif
