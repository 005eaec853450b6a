/* cpu/k_linalg.c - the structural kernels of linear algebra, by LAPACK (blas.h): inverses, solutions, decompositions, determinants.
**
** The matrices of a batch are independent: threads take some each, and every call to LAPACK runs in its thread. What comes out of a matrix that
** LAPACK can't handle is a number in info[]; the first such matrix of the batch is reported when all are done, whatever the threads.
** LAPACK is column-major: a row-major matrix is the transpose of what it sees, which some routines use and the others undo.
** linalg_real.h holds the work on a matrix, for f32 and for f64. Letters: M rows, N columns, K columns of a right side; B = min(M, N).
*/
#include <float.h>
#include <math.h>
#include <stdio.h>
#include "blas.h"

enum { BLOCK = 64, UNFIT = -1000 }; /* columns of workspace per row, as LAPACK's own block size at most; info: holds NaN or Inf */

typedef struct job job;
typedef int (*one_fn)(const job *j, int64_t i, void *work, int *iwork); /* matrix number i; gives LAPACK's info */
struct job {
  const nni_kernel_call *k;
  const nn_cpu_lapack *f;
  one_fn one;
  int m, n, rhs; /* rows and columns of in0; columns of in1 */
  int64_t batch;
  size_t size, nreal, nint; /* bytes of an element; workspace of one thread */
  int *info;           /* per matrix */
  char *space;
};

static size_t round_up(size_t n) { return (n + 63) / 64 * 64; }
static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }

static job describe(const nni_kernel_call *k, one_fn one) {
  const nni_operand *a = &k->in[0];
  job j = {.k = k, .one = one, .batch = 1, .size = nn_dtype_size(a->dtype), .m = (int)a->shape[a->ndim - 2], .n = (int)a->shape[a->ndim - 1]};
  for (int d = 0; d < a->ndim - 2; d++) j.batch *= a->shape[d];
  if (k->nin > 1) j.rhs = (int)k->in[1].shape[k->in[1].ndim - 1];
  return j;
}

static size_t thread_space(const job *j) { return round_up(j->nreal * j->size) + round_up(j->nint * sizeof(int)); }

static size_t space(const job *j) {
  const int t = nni_threads_count(j->k->threads);
  return round_up((size_t)j->batch * sizeof(int)) + thread_space(j) * (size_t)(t > 0 ? t : 1);
}

static void run_some(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  char *mine = j->space + (size_t)tid * thread_space(j);
  for (int64_t i = begin; i < end; i++) {
    nn_cpu_lapack_enter();
    j->info[i] = j->one(j, i, mine, (int *)(void *)(mine + round_up(j->nreal * j->size)));
    nn_cpu_lapack_leave();
  }
}

/* `wrong` says what a positive info means. */
static nn_status run(job *j, const char *(*wrong)(int info, char *text, size_t n)) {
  j->f = nn_cpu_lapack_get();
  if (!j->f)
    return nni_fail(j->k->err, NN_EUNSUPPORTED, "needs LAPACK, which is not installed: libopenblas.so.0 (package libopenblas0) or liblapack.so.3");
  j->info = j->k->scratch;
  j->space = (char *)j->k->scratch + round_up((size_t)j->batch * sizeof(int));
  nni_parallel(j->k->threads, j->batch, run_some, j);
  for (int64_t i = 0; i < j->batch; i++) {
    char which[64] = "the matrix", text[120];
    if (j->info[i] == 0) continue;
    if (j->batch > 1) snprintf(which, sizeof which, "matrix %lld of %lld", (long long)i + 1, (long long)j->batch);
    if (j->info[i] == UNFIT) return nni_fail(j->k->err, NN_EINVAL, "%s holds NaN or Inf", which);
    if (j->info[i] < 0) return nni_fail(j->k->err, NN_EINTERNAL, "LAPACK refused argument %d (a bug in nnlua)", -j->info[i]);
    return nni_fail(j->k->err, NN_EINVAL, "%s %s", which, wrong(j->info[i], text, sizeof text));
  }
  return NN_OK;
}

static const char *singular(int info, char *text, size_t n) {
  snprintf(text, n, "is singular: pivot %d of its LU decomposition is exactly zero", info);
  return text;
}
static const char *indefinite(int info, char *text, size_t n) {
  snprintf(text, n, "is not positive definite: its leading minor of order %d is not positive", info);
  return text;
}
static const char *diverged(int info, char *text, size_t n) {
  snprintf(text, n, "did not converge (LAPACK's info is %d)", info);
  return text;
}

/* ---- the work on a matrix, for each type ---- */
static const void *in_at(const job *j, int which, int64_t i, int64_t count) { return (const char *)j->k->in[which].data + (size_t)(i * count) * j->size; }
static void *out_at(const job *j, int which, int64_t i, int64_t count) { return (char *)j->k->out[which].data + (size_t)(i * count) * j->size; }

static int svd_lwork(int m, int n) {
  const int b = smaller(m, n), w = larger(m, n);
  return 3 * b + larger(w, 5 * b * b + 4 * b) + BLOCK * (w + b);
}
static int eigh_lwork(int n) { return 1 + 6 * n + 2 * n * n + BLOCK * n; }
static int lstsq_lwork(int m, int n, int r) {
  const int b = smaller(m, n);
  return larger(b + 2 * n + BLOCK * (n + 1), 2 * b + BLOCK * (r + 1)) + 3 * n + 1;
}

#define REAL float
#define EPSILON FLT_EPSILON
#define LEAST FLT_MIN
#define T(name) name##_f32
#define LAPACK j->f->f32
#include "linalg_real.h"
#undef REAL
#undef EPSILON
#undef LEAST
#undef T
#undef LAPACK
#define REAL double
#define EPSILON DBL_EPSILON
#define LEAST DBL_MIN
#define T(name) name##_f64
#define LAPACK j->f->f64
#include "linalg_real.h"
#undef REAL
#undef EPSILON
#undef LEAST
#undef T
#undef LAPACK
#define OF(name) (k->in[0].dtype == NN_F64 ? name##_f64 : name##_f32)

/* ---- kernels: workspace, and what LAPACK's complaints mean ---- */
static job inv_job(const nni_kernel_call *k) {
  job j = describe(k, OF(inv_one));
  j.nreal = (size_t)j.n * (size_t)(j.n + BLOCK);
  j.nint = (size_t)j.n;
  return j;
}
static job solve_job(const nni_kernel_call *k) {
  job j = describe(k, OF(solve_one));
  j.nreal = (size_t)j.n * (size_t)(j.n + j.rhs);
  j.nint = (size_t)j.n;
  return j;
}
static job qr_job(const nni_kernel_call *k) {
  job j = describe(k, OF(qr_one));
  const size_t m = (size_t)j.m, n = (size_t)j.n, wide = m > n ? m : n;
  j.nreal = m * (k->ia[0] ? wide : n) + m + wide * BLOCK;
  return j;
}
static job svd_job(const nni_kernel_call *k) {
  job j = describe(k, OF(svd_one));
  j.nreal = (size_t)j.m * (size_t)j.n + (size_t)svd_lwork(j.m, j.n);
  j.nint = 8 * (size_t)smaller(j.m, j.n);
  return j;
}
static job eigh_job(const nni_kernel_call *k) {
  job j = describe(k, OF(eigh_one));
  j.nreal = (size_t)j.n * (size_t)j.n + (size_t)eigh_lwork(j.n);
  j.nint = 3 + 5 * (size_t)j.n;
  return j;
}
static job det_job(const nni_kernel_call *k, one_fn one) {
  job j = describe(k, one);
  j.nreal = (size_t)j.n * (size_t)j.n;
  j.nint = (size_t)j.n;
  return j;
}
static job cofactor_job(const nni_kernel_call *k) {
  job j = inv_job(k);
  j.one = OF(cofactor_one);
  return j;
}
static job lstsq_job(const nni_kernel_call *k) {
  job j = describe(k, OF(lstsq_one));
  j.nreal = (size_t)j.m * (size_t)j.n + (size_t)larger(j.m, j.n) * (size_t)j.rhs + (size_t)lstsq_lwork(j.m, j.n, j.rhs);
  j.nint = (size_t)j.n;
  return j;
}

nn_status nn_cpu_inv(const nni_kernel_call *k) {
  job j = inv_job(k);
  return run(&j, singular);
}
nn_status nn_cpu_solve(const nni_kernel_call *k) {
  job j = solve_job(k);
  return run(&j, singular);
}
nn_status nn_cpu_cholesky(const nni_kernel_call *k) {
  job j = describe(k, OF(cholesky_one));
  return run(&j, indefinite);
}
nn_status nn_cpu_qr(const nni_kernel_call *k) {
  job j = qr_job(k);
  return run(&j, diverged);
}
nn_status nn_cpu_svd(const nni_kernel_call *k) {
  job j = svd_job(k);
  return run(&j, diverged);
}
nn_status nn_cpu_eigh(const nni_kernel_call *k) {
  job j = eigh_job(k);
  return run(&j, diverged);
}
nn_status nn_cpu_det(const nni_kernel_call *k) {
  job j = det_job(k, OF(det_one));
  return run(&j, singular);
}
nn_status nn_cpu_cofactor(const nni_kernel_call *k) {
  job j = cofactor_job(k);
  return run(&j, singular);
}
nn_status nn_cpu_slogdet(const nni_kernel_call *k) {
  job j = det_job(k, OF(slogdet_one));
  return run(&j, singular);
}
nn_status nn_cpu_lstsq(const nni_kernel_call *k) {
  job j = lstsq_job(k);
  return run(&j, diverged);
}

/* ---- scratch: info per matrix, workspace per thread ---- */
#define SCRATCH(name, ...)                                                                                                                           \
  size_t nn_cpu_##name##_scratch(const nni_kernel_call *k) {                                                                                         \
    const job j = __VA_ARGS__;                                                                                                                       \
    return space(&j);                                                                                                                                \
  }
SCRATCH(inv, inv_job(k))
SCRATCH(solve, solve_job(k))
SCRATCH(cholesky, describe(k, OF(cholesky_one)))
SCRATCH(qr, qr_job(k))
SCRATCH(svd, svd_job(k))
SCRATCH(eigh, eigh_job(k))
SCRATCH(slogdet, det_job(k, OF(slogdet_one)))
SCRATCH(cofactor, cofactor_job(k))
SCRATCH(det, det_job(k, OF(det_one)))
SCRATCH(lstsq, lstsq_job(k))
