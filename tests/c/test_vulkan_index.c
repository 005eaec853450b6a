/* test_vulkan_index.c - vulkan/k_index.c, k_scan.c and k_sort.c against the CPU's kernels: rows, positions, scans, sorting, draws; empty operands, sizes around the
** shaders' tiles, strides, equals, NaN, bad positions. What is said to go in order of position is the same to the bit. */
#include "vk_check.h"

#define DIMS(...)                                                                                                                                    \
  (const int64_t[]) { __VA_ARGS__ }

static arr *values(nn_dtype t, int ndim, const int64_t *shape, const int64_t *stride, int span) { /* few different ones, so that there are equals */
  arr *a = arr_new(t, ndim, shape, stride, draw() % 5);
  const size_t each = nn_dtype_size(t);
  for (size_t i = 0; i < a->bytes / each; i++) {
    const int64_t n = (int64_t)(draw() % (uint32_t)(2 * span + 1)) - span;
    nn_element_write(t, a->memory + i * each, (double)n / 8, t == NN_U8 || t == NN_BOOL ? n + span : n);
    if (t == NN_BOOL) a->memory[i] = (char)(draw() & 1);
  }
  return a;
}
/* positions in 0..below-1 */
static arr *spots(nn_dtype t, int ndim, const int64_t *shape, const int64_t *stride, int64_t below) {
  arr *a = arr_new(t, ndim, shape, stride, draw() % 5);
  const size_t each = nn_dtype_size(t);
  for (size_t i = 0; i < a->bytes / each; i++) nn_element_write(t, a->memory + i * each, 0, below > 0 ? (int64_t)(draw() % (uint64_t)below) : 0);
  return a;
}
static arr *result(nn_dtype t, int ndim, const int64_t *shape) {
  arr *a = arr_new(t, ndim, shape, NULL, draw() % 5);
  arr_fill(a);
  return a;
}
static void put_id(arr *ids, int64_t element, int64_t id) {
  nn_element_write(ids->host.dtype, (char *)ids->host.data + element * (int64_t)nn_dtype_size(ids->host.dtype), 0, id);
}

static void done(arr **a, int n) {
  for (int i = 0; i < n; i++) arr_free(a[i]);
}

/* ---- rows ---- */
static void check_rows(nn_dtype t, nn_dtype id, int64_t V, int64_t n, int64_t width, int64_t bad) {
  arr *a[] = {values(t, 2, DIMS(V, width), NULL, 100), spots(id, 1, &n, NULL, V), result(t, 2, DIMS(n, width))};
  if (bad >= 0) put_id(a[1], bad, V + 3), put_id(a[1], bad + 1, -2);
  check_kernel(KERNEL(take_rows), a, 2, a + 2, 1, NULL, NULL, 0, 0);
  done(a, 3);
  if (t != NN_F32) return;
  arr *b[] = {values(t, 2, DIMS(n, width), NULL, 10000), spots(id, 1, &n, NULL, V), result(t, 2, DIMS(V, width))};
  for (size_t i = 0; i < b[0]->bytes / 4; i++) ((float *)(void *)b[0]->memory)[i] *= 1.1f; /* sums that depend on the order */
  if (bad >= 0) put_id(b[1], bad, V), put_id(b[1], bad + 1, INT64_MIN);
  check_kernel(KERNEL(add_rows), b, 2, b + 2, 1, &V, NULL, 0, 0);
  done(b, 3);
}

static void rows(void) {
  check_rows(NN_F32, NN_I64, 10, 0, 3, -1);
  check_rows(NN_F32, NN_I64, 1, 1, 1, -1);
  check_rows(NN_F32, NN_I32, 7, 65, 5, -1);
  check_rows(NN_F32, NN_I64, 5, 700, 3, -1);
  check_rows(NN_F32, NN_I64, 300, 2000, 40, -1);
  check_rows(NN_F32, NN_I64, 9, 70, 16400, -1);
  check_rows(NN_F32, NN_I64, 4, 3, 0, -1);
  check_rows(NN_F32, NN_I32, 9, 40, 2, 30);
  check_rows(NN_F32, NN_I64, 9, 400, 2, 300);
  check_rows(NN_F32, NN_I64, 9, 4, 0, 2);
  check_rows(NN_F16, NN_I64, 20, 300, 3, -1);
  check_rows(NN_I64, NN_I64, 20, 300, 3, 0);
  check_rows(NN_BOOL, NN_I32, 20, 300, 3, -1);
}

/* ---- positions ---- */
static void check_ravel(int64_t M, int64_t K, bool strided, int64_t bad) {
  static const int64_t size[] = {7, 1, 30, 11}, dim[] = {2, 3, 0, 1};
  int64_t ia[8];
  for (int c = 0; c < K; c++) ia[c] = size[c], ia[K + c] = dim[c];
  arr *a[] = {spots(NN_I64, 2, DIMS(M, K), strided ? DIMS(-2 * K, 2) : NULL, 1), result(NN_I64, 1, &M)};
  for (int64_t i = 0; i < M; i++)
    for (int64_t c = 0; c < K; c++) put_id(a[0], i * a[0]->stride[0] + c * a[0]->stride[1], (int64_t)(draw() % (uint64_t)size[c]));
  if (bad >= 0) put_id(a[0], bad / K * a[0]->stride[0] + bad % K * a[0]->stride[1], -1), put_id(a[0], (bad / K + 1) * a[0]->stride[0], INT64_MAX);
  check_kernel(KERNEL(ravel_ids), a, 1, a + 1, 1, ia, NULL, 0, 0);
  done(a, 2);
}

/* steps: of the positions; NULL: dense */
static void check_gather(nn_dtype t, int64_t A, int64_t V, int64_t M, int64_t B, const int64_t *steps, int64_t bad) {
  const int64_t ia[] = {1};
  arr *a[] = {values(t, 3, DIMS(A, V, B), NULL, 100), spots(NN_I64, 3, DIMS(A, M, B), steps, V), result(t, 3, DIMS(A, M, B))};
  if (bad >= 0) put_id(a[1], bad, V), put_id(a[1], bad + 1, -7);
  check_kernel(KERNEL(gather), a, 2, a + 2, 1, ia, NULL, 0, 0);
  done(a, 3);
}

static void check_scatter(nn_dtype t, int how, int64_t A, int64_t V, int64_t M, int64_t B, const int64_t *steps, const int64_t *from, int64_t bad) {
  const int64_t ia[] = {0, how};
  arr *a[] = {values(t, 3, DIMS(A, V, B), NULL, 100), spots(NN_I64, 3, DIMS(A, M, B), steps, V),
              values(t, 3, DIMS(A, M, B), from, how == 4 ? 9 : 10000), result(t, 3, DIMS(A, V, B))};
  if (t == NN_F32 && how)
    for (size_t i = 0; i < a[2]->bytes / 4; i++)
      ((float *)(void *)a[2]->memory)[i] = M < 1000 && draw() % 97 == 0 ? NAN : ((float *)(void *)a[2]->memory)[i] * 1.1f;
  if (bad >= 0) put_id(a[1], bad, V), put_id(a[1], bad + 1, -7);
  check_kernel(KERNEL(scatter), a, 3, a + 3, 1, ia, NULL, 0, 0);
  done(a, 4);
}

static void positions(void) {
  check_ravel(0, 2, false, -1);
  check_ravel(300, 1, false, -1);
  check_ravel(65, 4, true, -1);
  check_ravel(500, 3, false, 700);
  check_ravel(20, 2, true, 6);
  static const nn_dtype types[] = {NN_F32, NN_I64, NN_BF16, NN_U8};
  for (int t = 0; t < NNI_COUNT(types); t++) {
    check_gather(types[t], 2, 5, 70, 3, NULL, -1);
    check_gather(types[t], 3, 9, 4, 33, DIMS(0, -1, 0), -1);
    check_scatter(types[t], 0, 2, 50, 70, 3, NULL, NULL, -1);
    check_scatter(types[t], 0, 3, 7, 5, 33, DIMS(-5, 1, 0), DIMS(0, -33, 1), -1);
  }
  check_gather(NN_F32, 1, 1, 1, 1, NULL, -1);
  check_gather(NN_F32, 1, 70000, 66000, 1, NULL, -1);
  check_gather(NN_F32, 2, 5, 0, 3, NULL, -1);
  check_gather(NN_F32, 2, 0, 3, 3, NULL, 4);
  check_gather(NN_F32, 2, 5, 7, 3, NULL, 22);
  check_gather(NN_F32, 2, 5, 7, 3, DIMS(7, 1, 0), 9);
  for (int how = 0; how < 5; how++) {
    check_scatter(NN_F32, how, 1, 30, 500, 1, NULL, NULL, -1);
    check_scatter(NN_I64, how, 2, 5, 100, 3, NULL, NULL, -1);
    check_scatter(NN_F32, how, 3, 9, 40, 5, DIMS(40, -1, 0), DIMS(1, 0, 0), -1);
  }
  check_scatter(NN_F32, 1, 1, 100, 66000, 1, NULL, NULL, -1);
  check_scatter(NN_F32, 1, 2, 20, 300, 7, DIMS(300, 1, 0), NULL, -1);
  check_scatter(NN_F32, 1, 1, 500, 270000, 1, NULL, NULL, -1); /* more than a dispatch may walk */
  check_scatter(NN_F32, 1, 2, 9, 0, 3, NULL, NULL, -1);
  check_scatter(NN_F32, 0, 2, 0, 3, 3, NULL, NULL, 5);
  check_scatter(NN_F32, 1, 2, 0, 3, 3, NULL, NULL, 5);
  check_scatter(NN_F32, 0, 2, 9, 30, 3, NULL, NULL, 100);
  check_scatter(NN_F32, 1, 2, 9, 30, 3, NULL, NULL, 100);
  check_scatter(NN_F32, 1, 2, 9, 300, 3, NULL, NULL, 1000);
  check_scatter(NN_F32, 1, 2, 9, 300, 3, DIMS(300, 1, 0), NULL, 400);
}

static void check_nonzero(int ndim, const int64_t *shape, int share, int64_t wrong) {
  int64_t n = 0, total = 1;
  for (int i = 0; i < ndim; i++) total *= shape[i];
  arr *x = arr_new(NN_BOOL, ndim, shape, NULL, 3);
  for (int64_t i = 0; i < total; i++) n += ((char *)x->host.data)[i] = (int)(draw() % 100) < share;
  arr *out = result(NN_I64, 2, DIMS(n + wrong, ndim));
  check_kernel(KERNEL(nonzero), &x, 1, &out, 1, NULL, NULL, 0, 0);
  arr_free(x);
  arr_free(out);
}

static void check_randint(int64_t n, uint64_t low, uint64_t count) {
  const nni_param pa[] = {{.u = 1234567890123456789u}, {.u = (uint64_t)7 << 33 | 5}, {.u = low}, {.u = count}};
  arr *out = result(NN_I64, 1, &n);
  check_kernel(KERNEL(randint), NULL, 0, &out, 1, NULL, pa, 4, 0);
  arr_free(out);
}

static void counted(void) {
  check_nonzero(1, DIMS(0), 50, 0);
  check_nonzero(1, DIMS(1), 100, 0);
  check_nonzero(1, DIMS(5000), 0, 0);
  check_nonzero(3, DIMS(7, 1, 11), 40, 0);
  check_nonzero(2, DIMS(4096, 3), 100, 0);
  check_nonzero(2, DIMS(300, 257), 7, 0);
  check_nonzero(1, DIMS(9000), 7, 2);
  check_randint(0, 0, 5);
  check_randint(1, (uint64_t)-3, 7);
  check_randint(1001, 10, 3);
  check_randint(70001, (uint64_t)INT64_MIN, UINT64_MAX);
  check_randint(301, 0, ((uint64_t)1 << 40) + 12345);
}

/* ---- scans ---- */
static void check_scan(int op, nn_dtype t, int64_t A, int64_t N, int64_t B, bool reverse, bool exclusive, const char *odd) {
  const int64_t ia[] = {op, reverse, exclusive};
  const bool best = op == 2 || op == 3;
  arr *a[] = {values(t, 3, DIMS(A, N, B), NULL, best ? 5 : 40), values(t, 3, DIMS(A, N, B), NULL, 7), result(t, 3, DIMS(A, N, B)),
              result(NN_I64, 3, DIMS(A, N, B))};
  float *x = a[0]->host.data;
  const int64_t n = A * N * B;
  if (op == 1 && t == NN_F32)
    for (int64_t i = 0; i < n; i++) x[i] = 0.97f + 0.0006f * (float)(draw() % 100);
  if (odd) { /* infinities, NaN, zeros */
    x[n / 3] = strtof(odd, NULL);
    x[n / 2] = -x[n / 3];
    x[n - 1 - n / 4] = NAN;
    for (int64_t i = 0; op == 4 && i < n / 8; i++) x[i] = -INFINITY;
  }
  check_kernel(KERNEL(scan), a, op == 5 ? 2 : 1, a + 2, best ? 2 : 1, ia, NULL, 0, t == NN_I64 || best ? 0 : op == 4 ? 2e-6 : 4e-7);
  done(a, 4);
}

static void scans(void) {
  static const int64_t shapes[][3] = {{1, 1, 1}, {3, 70, 5}, {1, 5000, 1}, {2, 333, 40}, {2, 0, 3}};
  for (int op = 0; op < 6; op++)
    for (int s = 0; s < NNI_COUNT(shapes); s++) {
      check_scan(op, NN_F32, shapes[s][0], shapes[s][1], shapes[s][2], s % 2 == 1, s == 1 || s == 2, NULL);
      if (op < 4) check_scan(op, NN_I64, shapes[s][0], shapes[s][1], shapes[s][2], s % 2 == 0, s == 2 || s == 3, NULL);
    }
  for (int op = 0; op < 6; op++) {
    check_scan(op, NN_F32, 1, 4000, 1, false, false, "inf");
    check_scan(op, NN_F32, 2, 50, 9, true, false, "0");
  }
  check_scan(0, NN_F32, 1, 100000, 1, false, false, NULL);
  check_scan(0, NN_F32, 66000, 3, 1, false, false, NULL);
}

/* ---- sorting ---- */
static void check_sort(nn_dtype t, int64_t A, int64_t N, bool down, int span) {
  const int64_t ia[] = {down};
  arr *a[] = {values(t, 2, DIMS(A, N), NULL, span), result(t, 2, DIMS(A, N)), result(NN_I64, 2, DIMS(A, N))};
  for (int64_t i = 0; t == NN_F32 && i < A * N; i++) {
    float *x = (float *)a[0]->host.data + i;
    const uint32_t what = draw() % 40;
    *x = what == 0 ? NAN : what == 1 ? INFINITY : what == 2 ? -INFINITY : what == 3 ? -0.0f : what == 4 ? -NAN : *x;
  }
  for (int64_t i = 0; t == NN_I64 && i < A * N; i++) ((int64_t *)a[0]->host.data)[i] *= INT64_C(0x3fffffffffff);
  check_kernel(KERNEL(sort), a, 1, a + 1, 2, ia, NULL, 0, 0);
  done(a, 3);
}

static void check_search(nn_dtype t, int64_t A, int64_t rows, int64_t N, int64_t M, bool right, bool nan) {
  const int64_t ia[] = {right};
  arr *a[] = {values(t, 2, DIMS(rows, N), NULL, 100), values(t, 2, DIMS(A, M), NULL, 110), result(NN_I64, 2, DIMS(A, M))};
  for (int64_t i = 0; i < rows * N; i++) /* ascending, with equals */
    if (t == NN_F32) ((float *)a[0]->host.data)[i] = (float)(i % N / 3) / 4 - 6;
    else ((int64_t *)a[0]->host.data)[i] = i % N / 3 - 50;
  if (nan) ((float *)a[1]->host.data)[A * M / 2] = NAN, ((float *)a[0]->host.data)[rows * N - 1] = NAN;
  check_kernel(KERNEL(searchsorted), a, 2, a + 2, 1, ia, NULL, 0, 0);
  done(a, 3);
}

static void sorting(void) {
  static const int64_t shapes[][2] = {{1, 1}, {0, 3}, {3, 0}, {100, 5}, {3, 100}, {2, 256}, {3, 257}, {1, 1000}, {1, 5000}, {17, 700}};
  static const nn_dtype types[] = {NN_F32, NN_I64, NN_I32, NN_U8, NN_BOOL};
  for (int s = 0; s < NNI_COUNT(shapes); s++)
    for (int t = 0; t < NNI_COUNT(types); t++)
      if (t < 2 || s == 3 || s == 7) check_sort(types[t], shapes[s][0], shapes[s][1], (s + t) % 2, t == 3 ? 100 : s % 3 ? 1000 : 20);
  check_sort(NN_F32, 1, 70000, false, 1 << 20);
  for (int right = 0; right < 2; right++) {
    check_search(NN_F32, 1, 1, 50, 300, right, false);
    check_search(NN_F32, 3, 3, 101, 33, right, true);
    check_search(NN_I64, 4, 1, 300, 70, right, false);
    check_search(NN_I64, 4, 4, 1, 3, right, false);
    check_search(NN_F32, 2, 2, 0, 3, right, false);
  }
}

static void all(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } parts[] = {{"rows", rows}, {"positions", positions}, {"counted", counted}, {"scans", scans}, {"sorting", sorting}};
  const char *only = getenv("ONLY");
  for (int i = 0; i < NNI_COUNT(parts); i++)
    if (!only || strcmp(only, parts[i].name) == 0) parts[i].run();
}

int main(void) { return vk_check_main("test_vulkan_index", all); }
