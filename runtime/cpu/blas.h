/* cpu/blas.h - a BLAS and a LAPACK from the system, loaded on first use. */
#ifndef NN_CPU_BLAS_H
#define NN_CPU_BLAS_H
#include "cpu.h"

/* The product by the system's BLAS, in the calling thread; false when there is none, or it can't take these strides or sizes. Nothing is
** written then. */
bool nn_cpu_blas_gemm(const nn_cpu_gemm *g);
bool nn_cpu_blas_wanted(void); /* with the kernels in use a BLAS is faster than ours, for products that are not small */

/* LAPACK's routines by Fortran's interface: matrices are column-major, the sizes at the end are the lengths of the character arguments. Calls
** stand between enter and leave, which take turns where the library is not known to be safe for concurrent calls. Names are without their
** first letter, s or d; NN_REAL is the type it stands for. */
#define NN_CPU_LAPACK_MAP(X)                                                                                                                         \
  X(getrf, const int *m, const int *n, NN_REAL *a, const int *lda, int *piv, int *info)                                                                \
  X(getri, const int *n, NN_REAL *a, const int *lda, const int *piv, NN_REAL *work, const int *lwork, int *info)                                         \
  X(gesv, const int *n, const int *nrhs, NN_REAL *a, const int *lda, int *piv, NN_REAL *b, const int *ldb, int *info)                                    \
  X(potrf, const char *uplo, const int *n, NN_REAL *a, const int *lda, int *info, size_t luplo)                                                        \
  X(geqrf, const int *m, const int *n, NN_REAL *a, const int *lda, NN_REAL *tau, NN_REAL *work, const int *lwork, int *info)                               \
  X(orgqr, const int *m, const int *n, const int *k, NN_REAL *a, const int *lda, const NN_REAL *tau, NN_REAL *work, const int *lwork, int *info)           \
  X(gesdd, const char *job, const int *m, const int *n, NN_REAL *a, const int *lda, NN_REAL *s, NN_REAL *u, const int *ldu, NN_REAL *vt, const int *ldvt,    \
    NN_REAL *work, const int *lwork, int *iwork, int *info, size_t ljob)                                                                               \
  X(syevd, const char *job, const char *uplo, const int *n, NN_REAL *a, const int *lda, NN_REAL *w, NN_REAL *work, const int *lwork, int *iwork,           \
    const int *liwork, int *info, size_t ljob, size_t luplo)                                                                                         \
  X(gelsy, const int *m, const int *n, const int *nrhs, NN_REAL *a, const int *lda, NN_REAL *b, const int *ldb, int *piv, const NN_REAL *rcond, int *rank, \
    NN_REAL *work, const int *lwork, int *info)
#define NN_X(name, ...) void (*name)(__VA_ARGS__);
#define NN_REAL float
typedef struct nn_cpu_lapack_f32 { NN_CPU_LAPACK_MAP(NN_X) } nn_cpu_lapack_f32;
#undef NN_REAL
#define NN_REAL double
typedef struct nn_cpu_lapack_f64 { NN_CPU_LAPACK_MAP(NN_X) } nn_cpu_lapack_f64;
#undef NN_REAL
#undef NN_X
typedef struct nn_cpu_lapack {
  nn_cpu_lapack_f32 f32;
  nn_cpu_lapack_f64 f64;
} nn_cpu_lapack;
const nn_cpu_lapack *nn_cpu_lapack_get(void); /* NULL: there is none */
void nn_cpu_lapack_enter(void);
void nn_cpu_lapack_leave(void);

#endif
