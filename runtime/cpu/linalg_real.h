/* cpu/linalg_real.h - what k_linalg.c does with one matrix, for one type of its elements. Included there twice, with
**   REAL        float or double          T(name)   the name of a function for this type
**   LAPACK      the routines for it      EPSILON, LEAST   of its numbers: distance of 1 from the next one, smallest normal one
** A function called x_one takes matrix number i of the batch and gives LAPACK's info.
*/
/* ---- moving matrices ---- */
/* dst (cols, rows) = src (rows, cols) transposed, both without gaps except that a row of dst takes ld */
static void T(turn)(REAL *dst, int64_t ld, const REAL *src, int64_t src_ld, int64_t rows, int64_t cols) {
  enum { TILE = 16 };
  for (int64_t r0 = 0; r0 < rows; r0 += TILE)
    for (int64_t c0 = 0; c0 < cols; c0 += TILE)
      for (int64_t r = r0; r < rows && r < r0 + TILE; r++)
        for (int64_t c = c0; c < cols && c < c0 + TILE; c++) dst[c * ld + r] = src[r * src_ld + c];
}

static bool T(all_finite)(const REAL *x, int64_t n) {
  bool ok = true;
  for (int64_t i = 0; i < n; i++) ok = ok && isfinite(x[i]);
  return ok;
}

static void T(unit_matrix)(REAL *x, int64_t n) {
  memset(x, 0, sizeof(REAL) * (size_t)(n * n));
  for (int64_t i = 0; i < n; i++) x[i * n + i] = 1;
}

/* ---- inv, solve ---- */
static int T(inv_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int n = j->n, lwork = n * BLOCK;
  int info = 0;
  REAL *a = work, *rest = a + (int64_t)n * n;
  if (n == 0) return 0;
  T(turn)(a, n, in_at(j, 0, i, (int64_t)n * n), n, n, n);
  LAPACK.getrf(&n, &n, a, &n, iwork, &info);
  if (info == 0) LAPACK.getri(&n, a, &n, iwork, rest, &lwork, &info);
  T(turn)(out_at(j, 0, i, (int64_t)n * n), n, a, n, n, n);
  return info;
}

static int T(solve_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int n = j->n, r = j->rhs;
  int info = 0;
  REAL *a = work, *b = a + (int64_t)n * n;
  if (n == 0 || r == 0) return 0;
  T(turn)(a, n, in_at(j, 0, i, (int64_t)n * n), n, n, n);
  T(turn)(b, n, in_at(j, 1, i, (int64_t)n * r), r, n, r);
  LAPACK.gesv(&n, &r, a, &n, iwork, b, &n, &info);
  T(turn)(out_at(j, 0, i, (int64_t)n * r), r, b, n, r, n);
  return info;
}

/* ---- cholesky: what LAPACK calls the upper triangle is our lower one ---- */
static int T(cholesky_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int n = j->n;
  int info = 0;
  REAL *out = out_at(j, 0, i, (int64_t)n * n);
  (void)work;
  (void)iwork;
  if (n == 0) return 0;
  memcpy(out, in_at(j, 0, i, (int64_t)n * n), sizeof(REAL) * (size_t)n * (size_t)n);
  LAPACK.potrf("U", &n, out, &n, &info, 1);
  for (int64_t r = 0; r < n; r++) {
    if (info == 0 && !(out[r * n + r] > 0)) info = (int)r + 1; /* NaN passes some versions */
    memset(out + r * n + r + 1, 0, sizeof(REAL) * (size_t)(n - r - 1));
  }
  return info;
}

/* ---- qr ---- */
static int T(qr_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int m = j->m, n = j->n, b = smaller(m, n), q = j->k->ia[0] ? m : b, lwork = larger(m, n) * BLOCK;
  REAL *a = work, *tau = a + (int64_t)m * larger(n, q), *rest = tau + b, *r = out_at(j, 1, i, (int64_t)q * n);
  int info = 0;
  (void)iwork;
  if (b == 0) {
    if (q) T(unit_matrix)(out_at(j, 0, i, (int64_t)m * q), m);
    if (q > 0 && n > 0) memset(r, 0, sizeof(REAL) * (size_t)q * (size_t)n);
    return 0;
  }
  T(turn)(a, m, in_at(j, 0, i, (int64_t)m * n), n, m, n);
  LAPACK.geqrf(&m, &n, a, &m, tau, rest, &lwork, &info);
  if (info) return info;
  for (int64_t row = 0; row < q; row++)
    for (int64_t c = 0; c < n; c++) r[row * n + c] = c < row ? 0 : a[c * m + row];
  LAPACK.orgqr(&m, &q, &b, a, &m, tau, rest, &lwork, &info);
  T(turn)(out_at(j, 0, i, (int64_t)m * q), q, a, m, q, m);
  return info;
}

/* ---- svd: LAPACK decomposes the transpose, so its V' is our U and its U is our V' ---- */
static int T(svd_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int m = j->m, n = j->n, b = smaller(m, n), full = j->k->ia[0] != 0, u = full ? m : b, v = full ? n : b, lwork = svd_lwork(m, n);
  REAL *a = work, *rest = a + (int64_t)m * n;
  int info = 0;
  if (b == 0) {
    if (u) T(unit_matrix)(out_at(j, 0, i, (int64_t)m * u), m);
    if (v) T(unit_matrix)(out_at(j, 2, i, (int64_t)v * n), n);
    return 0;
  }
  if (!T(all_finite)(in_at(j, 0, i, (int64_t)m * n), (int64_t)m * n)) return UNFIT;
  memcpy(a, in_at(j, 0, i, (int64_t)m * n), sizeof(REAL) * (size_t)m * (size_t)n);
  LAPACK.gesdd(full ? "A" : "S", &n, &m, a, &n, out_at(j, 1, i, b), out_at(j, 2, i, (int64_t)v * n), &n, out_at(j, 0, i, (int64_t)m * u), &u, rest,
              &lwork, iwork, &info, 1);
  return info;
}

/* ---- eigh ---- */
static int T(eigh_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int n = j->n, lwork = eigh_lwork(n), liwork = 3 + 5 * n;
  const REAL *in = in_at(j, 0, i, (int64_t)n * n);
  REAL *a = work, *rest = a + (int64_t)n * n;
  int info = 0;
  bool ok = true;
  if (n == 0) return 0;
  for (int64_t r = 0; r < n; r++) ok = ok && T(all_finite)(in + r * n, r + 1);
  if (!ok) return UNFIT;
  memcpy(a, in, sizeof(REAL) * (size_t)n * (size_t)n);
  LAPACK.syevd("V", "U", &n, a, &n, out_at(j, 0, i, n), rest, &lwork, iwork, &liwork, &info, 1, 1);
  T(turn)(out_at(j, 1, i, (int64_t)n * n), n, a, n, n, n);
  return info;
}

/* ---- determinants: a singular matrix has one; the transpose has the same ---- */
static void T(factor)(const job *j, int64_t i, REAL *a, int *piv) {
  const int n = j->n;
  int info;
  if (n == 0) return;
  memcpy(a, in_at(j, 0, i, (int64_t)n * n), sizeof(REAL) * (size_t)n * (size_t)n);
  LAPACK.getrf(&n, &n, a, &n, piv, &info);
}
static int T(det_one)(const job *j, int64_t i, void *work, int *iwork) {
  const REAL *lu = work;
  double det = 1;
  T(factor)(j, i, work, iwork);
  for (int64_t r = 0; r < j->n; r++) det *= (double)lu[r * j->n + r] * (iwork[r] != r + 1 ? -1 : 1);
  *(REAL *)out_at(j, 0, i, 1) = (REAL)det;
  return 0;
}
static int T(slogdet_one)(const job *j, int64_t i, void *work, int *iwork) {
  const REAL *lu = work;
  double sign = 1, log_size = 0;
  T(factor)(j, i, work, iwork);
  for (int64_t r = 0; r < j->n; r++) {
    const double d = (double)lu[r * j->n + r] * (iwork[r] != r + 1 ? -1 : 1);
    sign *= d > 0 ? 1 : d < 0 ? -1 : d; /* 0 and NaN stay */
    log_size += log(fabs(d));
  }
  *(REAL *)out_at(j, 0, i, 1) = (REAL)sign;
  *(REAL *)out_at(j, 1, i, 1) = (REAL)log_size;
  return 0;
}

/* det(a) inv(a)' by one decomposition. A pivot that is 0 is replaced by a tiny one: what that does to the result is as small, as the result is a polynomial
** of a, and det and inverse have the same pivots. */
static int T(cofactor_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int n = j->n, lwork = n * BLOCK;
  REAL *a = work, *rest = a + (int64_t)n * n, *out = out_at(j, 0, i, (int64_t)n * n), largest = 0;
  double det = 1;
  int info = 0;
  if (n == 0) return 0;
  T(factor)(j, i, a, iwork);
  for (int64_t r = 0; r < n; r++) largest = (REAL)fmax((double)largest, fabs((double)a[r * n + r]));
  const REAL tiny = (REAL)fmax((double)(largest * EPSILON * EPSILON), (double)(LEAST / EPSILON));
  for (int64_t r = 0; r < n; r++) {
    if (a[r * n + r] == 0) a[r * n + r] = tiny;
    det *= (double)a[r * n + r] * (iwork[r] != r + 1 ? -1 : 1);
  }
  LAPACK.getri(&n, a, &n, iwork, rest, &lwork, &info);
  T(turn)(out, n, a, n, n, n);
  for (int64_t k = 0; k < (int64_t)n * n; k++) out[k] = (REAL)(det * (double)out[k]);
  return info;
}

/* ---- lstsq, by a complete orthogonal factorization ---- */
static int T(lstsq_one)(const job *j, int64_t i, void *work, int *iwork) {
  const int m = j->m, n = j->n, r = j->rhs, ld = larger(m, n), lwork = lstsq_lwork(m, n, r);
  const REAL *a = in_at(j, 0, i, (int64_t)m * n), *b = in_at(j, 1, i, (int64_t)m * r), rcond = (REAL)j->k->pa[0].f;
  REAL *x = out_at(j, 0, i, (int64_t)n * r), *fa = work, *fb = fa + (int64_t)m * n, *rest = fb + (int64_t)ld * r;
  int info = 0, rank;
  if (n == 0 || r == 0) return 0;
  if (m == 0) return memset(x, 0, sizeof(REAL) * (size_t)n * (size_t)r), 0;
  if (!T(all_finite)(a, (int64_t)m * n) || !T(all_finite)(b, (int64_t)m * r)) return UNFIT;
  T(turn)(fa, m, a, n, m, n);
  memset(fb, 0, sizeof(REAL) * (size_t)ld * (size_t)r);
  T(turn)(fb, ld, b, r, m, r);
  memset(iwork, 0, sizeof(int) * (size_t)n); /* every column may be moved */
  LAPACK.gelsy(&m, &n, &r, fa, &m, fb, &ld, iwork, &rcond, &rank, rest, &lwork, &info);
  T(turn)(x, r, fb, ld, r, n);
  return info;
}
