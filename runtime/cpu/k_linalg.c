/* cpu/k_linalg.c - the structural kernels of linear algebra, by LAPACK (blas.h): inverses, solutions, decompositions, determinants.
**
** The matrices of a batch are independent: threads take some each, and every call to LAPACK runs in its thread. What comes out of a matrix that
** LAPACK can't handle is a number in info[]; the first such matrix of the batch is reported when all are done, whatever the threads.
** LAPACK is column-major: a row-major matrix is the transpose of what it sees, which some routines use and the others undo.
** Letters: M rows, N columns, K columns of a right side; B = min(M, N).
*/
#include <math.h>
#include <stdio.h>
#include "blas.h"

enum { BLOCK = 64, UNFIT = -1000 }; /* columns of workspace per row, as LAPACK's own block size at most; info: holds NaN or Inf */

typedef struct job job;
typedef int (*one_fn)(const job *j, int64_t i, float *work, int *iwork); /* matrix number i; gives LAPACK's info */
struct job {
  const nni_kernel_call *k;
  const nn_cpu_lapack *f;
  one_fn one;
  int m, n, rhs; /* rows and columns of in0; columns of in1 */
  int64_t batch;
  size_t nfloat, nint; /* workspace of one thread */
  int *info;           /* per matrix */
  char *space;
};

static size_t round_up(size_t n) { return (n + 63) / 64 * 64; }
static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }

static job describe(const nni_kernel_call *k, one_fn one) {
  const nni_operand *a = &k->in[0];
  job j = {.k = k, .one = one, .batch = 1, .m = (int)a->shape[a->ndim - 2], .n = (int)a->shape[a->ndim - 1]};
  for (int d = 0; d < a->ndim - 2; d++) j.batch *= a->shape[d];
  if (k->nin > 1) j.rhs = (int)k->in[1].shape[k->in[1].ndim - 1];
  return j;
}

static size_t thread_space(const job *j) { return round_up(j->nfloat * sizeof(float)) + round_up(j->nint * sizeof(int)); }

static size_t space(const job *j) {
  const int t = nni_threads_count(j->k->threads);
  return round_up((size_t)j->batch * sizeof(int)) + thread_space(j) * (size_t)(t > 0 ? t : 1);
}

static void run_some(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  char *mine = j->space + (size_t)tid * thread_space(j);
  for (int64_t i = begin; i < end; i++) {
    nn_cpu_lapack_enter();
    j->info[i] = j->one(j, i, (float *)(void *)mine, (int *)(void *)(mine + round_up(j->nfloat * sizeof(float))));
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

/* ---- moving matrices ---- */
static const float *in_at(const job *j, int which, int64_t i, int64_t rows, int64_t cols) {
  return (const float *)j->k->in[which].data + i * rows * cols;
}
static float *out_at(const job *j, int which, int64_t i, int64_t size) { return (float *)j->k->out[which].data + i * size; }

/* dst (cols, rows) = src (rows, cols) transposed, both without gaps except that a row of dst takes ld */
static void turn(float *dst, int64_t ld, const float *src, int64_t src_ld, int64_t rows, int64_t cols) {
  enum { TILE = 16 };
  for (int64_t r0 = 0; r0 < rows; r0 += TILE)
    for (int64_t c0 = 0; c0 < cols; c0 += TILE)
      for (int64_t r = r0; r < rows && r < r0 + TILE; r++)
        for (int64_t c = c0; c < cols && c < c0 + TILE; c++) dst[c * ld + r] = src[r * src_ld + c];
}

static bool all_finite(const float *x, int64_t n) {
  bool ok = true;
  for (int64_t i = 0; i < n; i++) ok = ok && isfinite(x[i]);
  return ok;
}

static void unit_matrix(float *x, int64_t n) {
  memset(x, 0, sizeof(float) * (size_t)(n * n));
  for (int64_t i = 0; i < n; i++) x[i * n + i] = 1;
}

/* ---- inv, solve ---- */
static int inv_one(const job *j, int64_t i, float *work, int *iwork) {
  const int n = j->n, lwork = n * BLOCK;
  int info = 0;
  float *a = work, *rest = work + (int64_t)n * n;
  if (n == 0) return 0;
  turn(a, n, in_at(j, 0, i, n, n), n, n, n);
  j->f->getrf(&n, &n, a, &n, iwork, &info);
  if (info == 0) j->f->getri(&n, a, &n, iwork, rest, &lwork, &info);
  turn(out_at(j, 0, i, (int64_t)n * n), n, a, n, n, n);
  return info;
}
static job inv_job(const nni_kernel_call *k) {
  job j = describe(k, inv_one);
  j.nfloat = (size_t)j.n * (size_t)(j.n + BLOCK);
  j.nint = (size_t)j.n;
  return j;
}
nn_status nn_cpu_inv(const nni_kernel_call *k) {
  job j = inv_job(k);
  return run(&j, singular);
}

static int solve_one(const job *j, int64_t i, float *work, int *iwork) {
  const int n = j->n, r = j->rhs;
  int info = 0;
  float *a = work, *b = work + (int64_t)n * n;
  if (n == 0 || r == 0) return 0;
  turn(a, n, in_at(j, 0, i, n, n), n, n, n);
  turn(b, n, in_at(j, 1, i, n, r), r, n, r);
  j->f->gesv(&n, &r, a, &n, iwork, b, &n, &info);
  turn(out_at(j, 0, i, (int64_t)n * r), r, b, n, r, n);
  return info;
}
static job solve_job(const nni_kernel_call *k) {
  job j = describe(k, solve_one);
  j.nfloat = (size_t)j.n * (size_t)(j.n + j.rhs);
  j.nint = (size_t)j.n;
  return j;
}
nn_status nn_cpu_solve(const nni_kernel_call *k) {
  job j = solve_job(k);
  return run(&j, singular);
}

/* ---- cholesky: what LAPACK calls the upper triangle is our lower one ---- */
static int cholesky_one(const job *j, int64_t i, float *work, int *iwork) {
  const int n = j->n;
  int info = 0;
  float *out = out_at(j, 0, i, (int64_t)n * n);
  (void)work;
  (void)iwork;
  if (n == 0) return 0;
  memcpy(out, in_at(j, 0, i, n, n), sizeof(float) * (size_t)n * (size_t)n);
  j->f->potrf("U", &n, out, &n, &info, 1);
  for (int64_t r = 0; r < n; r++) {
    if (info == 0 && !(out[r * n + r] > 0)) info = (int)r + 1; /* NaN passes some versions */
    memset(out + r * n + r + 1, 0, sizeof(float) * (size_t)(n - r - 1));
  }
  return info;
}
nn_status nn_cpu_cholesky(const nni_kernel_call *k) {
  job j = describe(k, cholesky_one);
  return run(&j, indefinite);
}

/* ---- qr ---- */
static int qr_one(const job *j, int64_t i, float *work, int *iwork) {
  const int m = j->m, n = j->n, b = smaller(m, n), q = j->k->ia[0] ? m : b, lwork = larger(m, n) * BLOCK;
  float *a = work, *tau = a + (int64_t)m * larger(n, q), *rest = tau + b, *r = out_at(j, 1, i, (int64_t)q * n);
  int info = 0;
  (void)iwork;
  if (b == 0) {
    if (q) unit_matrix(out_at(j, 0, i, (int64_t)m * q), m);
    if (q > 0 && n > 0) memset(r, 0, sizeof(float) * (size_t)q * (size_t)n);
    return 0;
  }
  turn(a, m, in_at(j, 0, i, m, n), n, m, n);
  j->f->geqrf(&m, &n, a, &m, tau, rest, &lwork, &info);
  if (info) return info;
  for (int64_t row = 0; row < q; row++)
    for (int64_t c = 0; c < n; c++) r[row * n + c] = c < row ? 0 : a[c * m + row];
  j->f->orgqr(&m, &q, &b, a, &m, tau, rest, &lwork, &info);
  turn(out_at(j, 0, i, (int64_t)m * q), q, a, m, q, m);
  return info;
}
static job qr_job(const nni_kernel_call *k) {
  job j = describe(k, qr_one);
  const size_t m = (size_t)j.m, n = (size_t)j.n, wide = m > n ? m : n;
  j.nfloat = m * (k->ia[0] ? wide : n) + m + wide * BLOCK;
  return j;
}
nn_status nn_cpu_qr(const nni_kernel_call *k) {
  job j = qr_job(k);
  return run(&j, diverged);
}

/* ---- svd: LAPACK decomposes the transpose, so its V' is our U and its U is our V' ---- */
static int svd_lwork(int m, int n) {
  const int b = smaller(m, n), w = larger(m, n);
  return 3 * b + larger(w, 5 * b * b + 4 * b) + BLOCK * (w + b);
}
static int svd_one(const job *j, int64_t i, float *work, int *iwork) {
  const int m = j->m, n = j->n, b = smaller(m, n), full = j->k->ia[0] != 0, u = full ? m : b, v = full ? n : b, lwork = svd_lwork(m, n);
  float *a = work, *rest = a + (int64_t)m * n;
  int info = 0;
  if (b == 0) {
    if (u) unit_matrix(out_at(j, 0, i, (int64_t)m * u), m);
    if (v) unit_matrix(out_at(j, 2, i, (int64_t)v * n), n);
    return 0;
  }
  if (!all_finite(in_at(j, 0, i, m, n), (int64_t)m * n)) return UNFIT;
  memcpy(a, in_at(j, 0, i, m, n), sizeof(float) * (size_t)m * (size_t)n);
  j->f->gesdd(full ? "A" : "S", &n, &m, a, &n, out_at(j, 1, i, b), out_at(j, 2, i, (int64_t)v * n), &n, out_at(j, 0, i, (int64_t)m * u), &u, rest,
              &lwork, iwork, &info, 1);
  return info;
}
static job svd_job(const nni_kernel_call *k) {
  job j = describe(k, svd_one);
  j.nfloat = (size_t)j.m * (size_t)j.n + (size_t)svd_lwork(j.m, j.n);
  j.nint = 8 * (size_t)smaller(j.m, j.n);
  return j;
}
nn_status nn_cpu_svd(const nni_kernel_call *k) {
  job j = svd_job(k);
  return run(&j, diverged);
}

/* ---- eigh ---- */
static int eigh_lwork(int n) { return 1 + 6 * n + 2 * n * n + BLOCK * n; }
static int eigh_one(const job *j, int64_t i, float *work, int *iwork) {
  const int n = j->n, lwork = eigh_lwork(n), liwork = 3 + 5 * n;
  const float *in = in_at(j, 0, i, n, n);
  float *a = work, *rest = a + (int64_t)n * n;
  int info = 0;
  bool ok = true;
  if (n == 0) return 0;
  for (int64_t r = 0; r < n; r++) ok = ok && all_finite(in + r * n, r + 1);
  if (!ok) return UNFIT;
  memcpy(a, in, sizeof(float) * (size_t)n * (size_t)n);
  j->f->syevd("V", "U", &n, a, &n, out_at(j, 0, i, n), rest, &lwork, iwork, &liwork, &info, 1, 1);
  turn(out_at(j, 1, i, (int64_t)n * n), n, a, n, n, n);
  return info;
}
static job eigh_job(const nni_kernel_call *k) {
  job j = describe(k, eigh_one);
  j.nfloat = (size_t)j.n * (size_t)j.n + (size_t)eigh_lwork(j.n);
  j.nint = 3 + 5 * (size_t)j.n;
  return j;
}
nn_status nn_cpu_eigh(const nni_kernel_call *k) {
  job j = eigh_job(k);
  return run(&j, diverged);
}

/* ---- determinants: a singular matrix has one; the transpose has the same ---- */
static void factor(const job *j, int64_t i, float *a, int *piv) {
  const int n = j->n;
  int info;
  if (n == 0) return;
  memcpy(a, in_at(j, 0, i, n, n), sizeof(float) * (size_t)n * (size_t)n);
  j->f->getrf(&n, &n, a, &n, piv, &info);
}
static int det_one(const job *j, int64_t i, float *work, int *iwork) {
  double det = 1;
  factor(j, i, work, iwork);
  for (int64_t r = 0; r < j->n; r++) det *= (double)work[r * j->n + r] * (iwork[r] != r + 1 ? -1 : 1);
  *out_at(j, 0, i, 1) = (float)det;
  return 0;
}
static int slogdet_one(const job *j, int64_t i, float *work, int *iwork) {
  double sign = 1, log_size = 0;
  factor(j, i, work, iwork);
  for (int64_t r = 0; r < j->n; r++) {
    const double d = (double)work[r * j->n + r] * (iwork[r] != r + 1 ? -1 : 1);
    sign *= d > 0 ? 1 : d < 0 ? -1 : d; /* 0 and NaN stay */
    log_size += log(fabs(d));
  }
  *out_at(j, 0, i, 1) = (float)sign;
  *out_at(j, 1, i, 1) = (float)log_size;
  return 0;
}
static job det_job(const nni_kernel_call *k, one_fn one) {
  job j = describe(k, one);
  j.nfloat = (size_t)j.n * (size_t)j.n;
  j.nint = (size_t)j.n;
  return j;
}
nn_status nn_cpu_det(const nni_kernel_call *k) {
  job j = det_job(k, det_one);
  return run(&j, singular);
}
nn_status nn_cpu_slogdet(const nni_kernel_call *k) {
  job j = det_job(k, slogdet_one);
  return run(&j, singular);
}

/* ---- lstsq, by a complete orthogonal factorization ---- */
static int lstsq_lwork(int m, int n, int r) {
  const int b = smaller(m, n);
  return larger(b + 2 * n + BLOCK * (n + 1), 2 * b + BLOCK * (r + 1)) + 3 * n + 1;
}
static int lstsq_one(const job *j, int64_t i, float *work, int *iwork) {
  const int m = j->m, n = j->n, r = j->rhs, ld = larger(m, n), lwork = lstsq_lwork(m, n, r);
  const float *a = in_at(j, 0, i, m, n), *b = in_at(j, 1, i, m, r), rcond = (float)j->k->pa[0].f;
  float *x = out_at(j, 0, i, (int64_t)n * r), *fa = work, *fb = fa + (int64_t)m * n, *rest = fb + (int64_t)ld * r;
  int info = 0, rank;
  if (n == 0 || r == 0) return 0;
  if (m == 0) return memset(x, 0, sizeof(float) * (size_t)n * (size_t)r), 0;
  if (!all_finite(a, (int64_t)m * n) || !all_finite(b, (int64_t)m * r)) return UNFIT;
  turn(fa, m, a, n, m, n);
  memset(fb, 0, sizeof(float) * (size_t)ld * (size_t)r);
  turn(fb, ld, b, r, m, r);
  memset(iwork, 0, sizeof(int) * (size_t)n); /* every column may be moved */
  j->f->gelsy(&m, &n, &r, fa, &m, fb, &ld, iwork, &rcond, &rank, rest, &lwork, &info);
  turn(x, r, fb, ld, r, n);
  return info;
}
static job lstsq_job(const nni_kernel_call *k) {
  job j = describe(k, lstsq_one);
  j.nfloat = (size_t)j.m * (size_t)j.n + (size_t)larger(j.m, j.n) * (size_t)j.rhs + (size_t)lstsq_lwork(j.m, j.n, j.rhs);
  j.nint = (size_t)j.n;
  return j;
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
SCRATCH(cholesky, describe(k, cholesky_one))
SCRATCH(qr, qr_job(k))
SCRATCH(svd, svd_job(k))
SCRATCH(eigh, eigh_job(k))
SCRATCH(slogdet, det_job(k, slogdet_one))
SCRATCH(det, det_job(k, det_one))
SCRATCH(lstsq, lstsq_job(k))
