/* test_index.c - the kernels of cpu/k_index.c, k_scan.c and k_sort.c against naive loops.
**
** Every case runs with 1, 2 and 3 threads; the bits must agree. Outputs and scratch lie between guards.
*/
#include "cpu_check.h"

/* ---- arrays ---------------------------------------------------------------------------------------------------------------- */
typedef struct arr {
  nni_operand o;
  int64_t shape[3], stride[3], n;
  size_t bytes;
} arr;

static arr *new_arr(nn_dtype d, int ndim, int64_t a, int64_t b, int64_t c) {
  arr *x = calloc(1, sizeof *x);
  if (!x) exit(2);
  x->shape[0] = a, x->shape[1] = ndim > 1 ? b : 1, x->shape[2] = ndim > 2 ? c : 1;
  x->n = x->shape[0] * x->shape[1] * x->shape[2];
  x->stride[2] = 1, x->stride[1] = x->shape[2], x->stride[0] = x->shape[1] * x->shape[2];
  x->bytes = (size_t)x->n * nn_dtype_size(d);
  x->o = (nni_operand){nni_buffer_get(mem, x->bytes), d, ndim, x->shape, x->stride};
  if (!x->o.data) exit(2);
  for (int64_t i = 0; i < x->n; i++) {
    const int32_t r = (int32_t)below(2001) - 1000;
    switch (d) {
    case NN_F32: ((float *)x->o.data)[i] = (float)r / 256; break;
    case NN_F64: ((double *)x->o.data)[i] = r / 256.0; break;
    case NN_F16:
    case NN_BF16: ((uint16_t *)x->o.data)[i] = (uint16_t)r; break;
    case NN_I32: ((int32_t *)x->o.data)[i] = r; break;
    case NN_I64: ((int64_t *)x->o.data)[i] = r; break;
    default: ((uint8_t *)x->o.data)[i] = (uint8_t)(d == NN_BOOL ? r & 1 : r & 255);
    }
  }
  return x;
}
static void drop(arr *x) {
  nni_buffer_put(mem, x->o.data, x->bytes);
  free(x);
}
static double at(const arr *x, int64_t i) {
  switch (x->o.dtype) {
  case NN_F32: return (double)((const float *)x->o.data)[i];
  case NN_F64: return ((const double *)x->o.data)[i];
  case NN_F16:
  case NN_BF16: return ((const uint16_t *)x->o.data)[i]; /* only moved, as bits */
  case NN_I32: return ((const int32_t *)x->o.data)[i];
  case NN_I64: return (double)((const int64_t *)x->o.data)[i];
  default: return ((const uint8_t *)x->o.data)[i];
  }
}
static int64_t int_at(const arr *x, int64_t i) { return ((const int64_t *)x->o.data)[i]; }
static int64_t *ints(arr *x) { return x->o.data; }
static float *floats(arr *x) { return x->o.data; }
static double *doubles(arr *x) { return x->o.data; }

/* ---- running ----------------------------------------------------------------------------------------------------------------- */
static nni_error err;

typedef struct kernel {
  nni_kernel_fn run;
  nni_scratch_fn scratch;
} kernel;
#define K(name) ((kernel){nn_cpu_##name, nn_cpu_##name##_scratch})

static nn_status run(const char *what, kernel fn, arr **in, int nin, arr **out, int nout, const int64_t *ia, const nni_param *pa) {
  nni_operand i[3], o[2], ib[3], ob[2];
  uint8_t *room[3][2];
  nn_status st = NN_OK;
  for (int k = 0; k < nin; k++) i[k] = ib[k] = in[k]->o, ib[k].data = NULL;
  for (int k = 0; k < nout; k++) o[k] = ob[k] = out[k]->o, ob[k].data = NULL;
  for (int t = 0; t < 3; t++) {
    nni_kernel_call c = {.threads = pools[t], .in = ib, .out = ob, .nin = nin, .nout = nout, .ia = ia, .pa = pa, .err = &err};
    const size_t need = fn.scratch(&c);
    uint8_t *s = nni_buffer_get(mem, need + 64);
    memset(s, 0xFF, need + 64);
    for (int k = 0; k < nout; k++) {
      room[t][k] = nni_buffer_get(mem, out[k]->bytes + 2 * GUARD);
      memset(room[t][k], 0xA5, out[k]->bytes + 2 * GUARD);
      o[k].data = room[t][k] + GUARD;
    }
    c.in = i, c.out = o, c.scratch = s;
    err.text[0] = 0;
    st = fn.run(&c);
    int bad = 0;
    for (int g = 0; g < 64; g++) bad |= s[need + (size_t)g] != 0xFF;
    for (int k = 0; k < nout; k++) {
      for (size_t g = 0; g < GUARD; g++) bad |= (room[t][k][g] != 0xA5) | (room[t][k][GUARD + out[k]->bytes + g] != 0xA5);
      if (t && st == NN_OK) CHECK(memcmp(room[0][k], room[t][k], out[k]->bytes + 2 * GUARD) == 0, "%s: %d threads give other bits", what, t + 1);
    }
    CHECK(!bad, "%s: wrote outside (%d threads)", what, t + 1);
    nni_buffer_put(mem, s, need + 64);
  }
  for (int k = 0; k < nout; k++) {
    memcpy(out[k]->o.data, room[1][k] + GUARD, out[k]->bytes);
    for (int t = 0; t < 3; t++) nni_buffer_put(mem, room[t][k], out[k]->bytes + 2 * GUARD);
  }
  return st;
}

/* ---- gather, scatter ---------------------------------------------------------------------------------------------------------- */
static const int64_t sizes[][4] = {{1, 5, 7, 1},     {3, 4, 6, 5},       {2, 9, 1, 130}, {1, 1, 3, 2},
                                   {4, 300, 200, 3}, {1, 5000, 9000, 1}, {2, 3, 0, 4},   {1, 40, 600, 64}};

static arr *new_ids(int64_t a, int64_t m, int64_t b, int64_t v, bool splat) {
  arr *ids = new_arr(NN_I64, 3, a, m, b);
  for (int64_t i = 0; i < ids->n; i++) ints(ids)[i] = below(v);
  if (splat) ids->stride[2] = 0;
  return ids;
}
static int64_t id_at(arr *ids, int64_t a, int64_t m, int64_t b) { return ints(ids)[a * ids->stride[0] + m * ids->stride[1] + b * ids->stride[2]]; }

static void test_gather(void) {
  for (int s = 0; s < NNI_COUNT(sizes); s++)
    for (int d = 0; d < NN_NDTYPE; d++)
      for (int splat = 0; splat < 2; splat++) {
        const int64_t A = sizes[s][0], V = sizes[s][1], M = sizes[s][2], B = sizes[s][3], ia[1] = {1};
        arr *x = new_arr((nn_dtype)d, 3, A, V, B), *ids = new_ids(A, M, B, V, splat), *y = new_arr((nn_dtype)d, 3, A, M, B);
        CHECK(run("gather", K(gather), (arr *[]){x, ids}, 2, &y, 1, ia, NULL) == NN_OK, "%s", err.text);
        int64_t bad = 0;
        for (int64_t a = 0; a < A; a++)
          for (int64_t m = 0; m < M; m++)
            for (int64_t b = 0; b < B; b++) bad += at(y, (a * M + m) * B + b) != at(x, (a * V + id_at(ids, a, m, b)) * B + b);
        CHECK(bad == 0, "gather, case %d, %s: %" PRId64 " elements differ", s, nn_dtype_name((nn_dtype)d), bad);
        if (M > 0) {
          ints(ids)[0] = V + 6;
          CHECK(run("gather", K(gather), (arr *[]){x, ids}, 2, &y, 1, ia, NULL) == NN_EINDEX, "no error");
          char want[100];
          snprintf(want, sizeof want, "position %" PRId64 " (element 1 of the positions) is not in 1..%" PRId64 " of dim 2", V + 7, V);
          CHECK(strcmp(err.text, want) == 0, "message: %s", err.text);
          ints(ids)[0] = INT64_MAX;
          CHECK(run("gather", K(gather), (arr *[]){x, ids}, 2, &y, 1, ia, NULL) == NN_EINDEX && strstr(err.text, "9223372036854775808"),
                "message: %s", err.text);
          ints(ids)[0] = -1;
          CHECK(run("gather", K(gather), (arr *[]){x, ids}, 2, &y, 1, ia, NULL) == NN_EINDEX && strstr(err.text, "position 0 "), "message: %s",
                err.text);
        }
        drop(x), drop(ids), drop(y);
      }
}

static double combine(int mode, double old, double new) {
  return mode == 0 ? new : mode == 1 ? old + new : mode == 2 ? (new < old ? new : old) : mode == 3 ? (new > old ? new : old) : old *new;
}

static void test_scatter(void) {
  for (int s = 0; s < NNI_COUNT(sizes); s++)
    for (int mode = 0; mode < 5; mode++)
      for (int d = 0; d < NN_NDTYPE; d++) {
        if (mode && d != NN_F32 && d != NN_F64 && d != NN_I64) continue;
        const int64_t A = sizes[s][0], V = sizes[s][1], M = sizes[s][2], B = sizes[s][3], ia[2] = {0, mode};
        arr *x = new_arr((nn_dtype)d, 3, A, V, B), *ids = new_ids(A, M, B, V, s % 2), *v = new_arr((nn_dtype)d, 3, A, M, B),
            *y = new_arr((nn_dtype)d, 3, A, V, B);
        if (s == 3) v->stride[1] = 0; /* a broadcast source */
        if (mode == 4)
          for (int64_t i = 0; i < v->n; i++) { /* products that stay exact */
            if (d == NN_F32) floats(v)[i] = i % 3 ? 1 : -1;
            else if (d == NN_F64) doubles(v)[i] = i % 3 ? 1 : -1;
            else ints(v)[i] = i % 3 ? 1 : -1;
          }
        CHECK(run("scatter", K(scatter), (arr *[]){x, ids, v}, 3, &y, 1, ia, NULL) == NN_OK, "%s", err.text);
        double *want = calloc((size_t)x->n + 1, sizeof *want);
        for (int64_t i = 0; i < x->n; i++) want[i] = at(x, i);
        for (int64_t a = 0; a < A; a++)
          for (int64_t m = 0; m < M; m++)
            for (int64_t b = 0; b < B; b++) {
              double *w = &want[(a * V + id_at(ids, a, m, b)) * B + b];
              *w = combine(mode, *w, at(v, a * v->stride[0] + m * v->stride[1] + b * v->stride[2]));
            }
        int64_t bad = 0;
        for (int64_t i = 0; i < x->n; i++) bad += at(y, i) != want[i]; /* sums of quarters of 1/64 are exact in f32 */
        CHECK(bad == 0, "scatter, case %d, mode %d, %s: %" PRId64 " elements differ", s, mode, nn_dtype_name((nn_dtype)d), bad);
        free(want);
        drop(x), drop(ids), drop(v), drop(y);
      }
}

static void test_ravel(void) {
  const int64_t M = 20000, ia[6] = {5, 6, 7, 3, 1, 0};
  arr *ids = new_arr(NN_I64, 2, M, 3, 1), *y = new_arr(NN_I64, 1, M, 1, 1);
  for (int64_t i = 0; i < M; i++)
    for (int k = 0; k < 3; k++) ints(ids)[3 * i + k] = below(ia[k]);
  CHECK(run("ravel_ids", K(ravel_ids), &ids, 1, &y, 1, ia, NULL) == NN_OK, "%s", err.text);
  int64_t bad = 0;
  for (int64_t i = 0; i < M; i++) bad += int_at(y, i) != (int_at(ids, 3 * i) * 6 + int_at(ids, 3 * i + 1)) * 7 + int_at(ids, 3 * i + 2);
  CHECK(bad == 0, "%" PRId64 " elements differ", bad);
  ints(ids)[3 * 700 + 1] = 6;
  ints(ids)[3 * 15000] = -2;
  CHECK(run("ravel_ids", K(ravel_ids), &ids, 1, &y, 1, ia, NULL) == NN_EINDEX, "no error");
  CHECK(strcmp(err.text, "position 7 (element 701 of the positions) is not in 1..6 of dim 2") == 0, "message: %s", err.text);
  drop(ids), drop(y);
}

static void test_nonzero(void) {
  arr *x = new_arr(NN_BOOL, 3, 7, 5, 11), *flat = new_arr(NN_BOOL, 1, 0, 1, 1);
  int64_t count = 0, k = 0, bad = 0;
  for (int64_t i = 0; i < x->n; i++) count += at(x, i) != 0;
  arr *y = new_arr(NN_I64, 2, count, 3, 1), *none = new_arr(NN_I64, 2, 0, 1, 1), *few = new_arr(NN_I64, 2, count - 1, 3, 1);
  CHECK(run("nonzero", K(nonzero), &x, 1, &y, 1, NULL, NULL) == NN_OK, "%s", err.text);
  for (int64_t i = 0; i < x->n; i++)
    if (at(x, i) != 0) bad += int_at(y, 3 * k) != i / 55 || int_at(y, 3 * k + 1) != i / 11 % 5 || int_at(y, 3 * k + 2) != i % 11, k++;
  CHECK(bad == 0, "%" PRId64 " differ", bad);
  CHECK(run("nonzero", K(nonzero), &x, 1, &few, 1, NULL, NULL) == NN_EINTERNAL, "a wrong count passes");
  CHECK(run("nonzero", K(nonzero), &flat, 1, &none, 1, NULL, NULL) == NN_OK, "%s", err.text);
  drop(x), drop(y), drop(flat), drop(none), drop(few);
}

/* ---- scans -------------------------------------------------------------------------------------------------------------------- */
static double log_add(double a, double b) {
  const double m = a > b ? a : b;
  return isinf(m) && m < 0 ? m : m + log(exp(a - m) + exp(b - m));
}

static void check_scan(int op, nn_dtype d, int64_t A, int64_t N, int64_t B, bool reverse, bool exclusive) {
  const int64_t ia[3] = {op, reverse, exclusive};
  const bool best = op == 2 || op == 3;
  arr *x = new_arr(d, 3, A, N, B), *k = new_arr(d == NN_F64 ? NN_F64 : NN_F32, 3, A, N, B), *y = new_arr(d, 3, A, N, B),
      *p = new_arr(NN_I64, 3, A, N, B);
  for (int64_t i = 0; i < k->n; i++) {
    if (d == NN_F64) doubles(k)[i] /= 4;
    else floats(k)[i] /= 4;
  }
  if (op == 1)
    for (int64_t i = 0; i < x->n; i++) {
      if (d == NN_F32) floats(x)[i] = i % 5 ? 1.0f + floats(x)[i] / 64 : -1;
      else if (d == NN_F64) doubles(x)[i] = i % 5 ? 1.0 + doubles(x)[i] / 64 : -1;
      else ints(x)[i] = i % 5 ? 1 : -2;
    }
  CHECK(run("scan", K(scan), (arr *[]){x, k}, op == 5 ? 2 : 1, (arr *[]){y, p}, best ? 2 : 1, ia, NULL) == NN_OK, "%s", err.text);
  int64_t bad = 0;
  for (int64_t a = 0; a < A; a++)
    for (int64_t b = 0; b < B; b++) {
      double acc = op == 1 ? 1 : op == 4 ? -(double)INFINITY : 0, wrong;
      int64_t from = -1;
      for (int64_t s = 0; s < N; s++) {
        const int64_t n = reverse ? N - 1 - s : s, i = (a * N + n) * B + b;
        const double e = at(x, i), was = acc;
        switch (op) {
        case 0: acc += e; break;
        case 1: acc = d != NN_I64 ? acc * e : (double)(int64_t)((uint64_t)(int64_t)acc * (uint64_t)(int64_t)e); break;
        case 2:
          if (from < 0 || e >= acc) acc = e, from = n;
          break;
        case 3:
          if (from < 0 || e <= acc) acc = e, from = n;
          break;
        case 4: acc = log_add(acc, e); break;
        default: acc = acc * at(k, i) + e;
        }
        wrong = fabs(at(y, i) - (exclusive ? was : acc));
        bad +=
            !(wrong <= (d == NN_F64 ? 1e-12 : 1e-6) * fmax(op == 4, fabs(exclusive ? was : acc)) || wrong == 0 || (exclusive && op == 4 && s == 0));
        if (best) bad += int_at(p, i) != from;
      }
    }
  CHECK(bad == 0, "scan %d %s (%d, %d, %d): %" PRId64 " elements differ", op, nn_dtype_name(d), (int)A, (int)N, (int)B, bad);
  drop(x), drop(k), drop(y), drop(p);
}

static void test_scan(void) {
  static const int64_t shape[][3] = {{1, 1, 1}, {3, 7, 1}, {2, 5, 3}, {1, 40, 300}, {50, 300, 1}, {3, 60, 65}, {2, 0, 3}};
  for (int s = 0; s < NNI_COUNT(shape); s++)
    for (int op = 0; op < 6; op++)
      for (int flags = 0; flags < 4; flags++) {
        if ((op == 2 || op == 3) && flags & 2) continue;
        for (int f = 0; f < 2; f++)
          check_scan(op, f ? NN_F64 : NN_F32, shape[s][0], op == 1 ? (shape[s][1] < 40 ? shape[s][1] : 40) : shape[s][1], shape[s][2], flags & 1,
                     flags & 2);
        if (op < 4)
          check_scan(op, NN_I64, shape[s][0], op == 1 ? (shape[s][1] < 40 ? shape[s][1] : 40) : shape[s][1], shape[s][2], flags & 1, flags & 2);
      }
  const int64_t ia[3] = {2, 0, 0};
  const float v[5] = {1, NAN, 5, (float)INFINITY, 0};
  arr *x = new_arr(NN_F32, 3, 1, 5, 1), *y = new_arr(NN_F32, 3, 1, 5, 1), *p = new_arr(NN_I64, 3, 1, 5, 1);
  memcpy(x->o.data, v, sizeof v);
  CHECK(run("scan", K(scan), &x, 1, (arr *[]){y, p}, 2, ia, NULL) == NN_OK, "%s", err.text);
  CHECK(floats(y)[0] == 1 && isnan(floats(y)[1]) && isnan(floats(y)[4]) && int_at(p, 4) == 1, "NaN must win and stay");
  drop(x), drop(y), drop(p);
}

/* ---- sorting -------------------------------------------------------------------------------------------------------------------- */
/* a before b? NaN is the largest, equals keep their order */
static bool before(const arr *x, int64_t a, int64_t b, bool down) {
  const double u = at(x, a), v = at(x, b);
  const bool less = x->o.dtype == NN_I64 ? int_at(x, a) < int_at(x, b) : isnan(v) ? !isnan(u) : u < v;
  const bool more = x->o.dtype == NN_I64 ? int_at(x, a) > int_at(x, b) : isnan(u) ? !isnan(v) : u > v;
  if (less || more) return down ? more : less;
  return a < b;
}

static void check_sort(arr *x, const char *what) {
  const int64_t A = x->shape[0], N = x->shape[1];
  for (int64_t down = 0; down < 2; down++) {
    arr *y = new_arr(x->o.dtype, 2, A, N, 1), *p = new_arr(NN_I64, 2, A, N, 1);
    CHECK(run("sort", K(sort), &x, 1, (arr *[]){y, p}, 2, &down, NULL) == NN_OK, "%s", err.text);
    int64_t bad = 0;
    const int64_t size = (int64_t)nn_dtype_size(x->o.dtype);
    for (int64_t a = 0; a < A; a++)
      for (int64_t i = 0; i < N; i++) {
        const int64_t here = int_at(p, a * N + i);
        bad += here < 0 || here >= N || memcmp((char *)y->o.data + (a * N + i) * size, (char *)x->o.data + (a * N + here) * size, (size_t)size) != 0;
        if (i) bad += !before(x, a * N + int_at(p, a * N + i - 1), a * N + here, down); /* strict: so every position occurs once */
      }
    CHECK(bad == 0, "%s, %s, (%d, %d): %" PRId64 " elements are wrong", what, down ? "descending" : "ascending", (int)A, (int)N, bad);
    drop(y), drop(p);
  }
}

static void test_sort(void) {
  static const int64_t shape[][2] = {{1, 1}, {4, 2}, {3, 47}, {2, 48}, {2, 49}, {5, 300}, {1, 20000}, {300, 70}, {3, 0}};
  for (int s = 0; s < NNI_COUNT(shape); s++)
    for (int d = 0; d < NN_NDTYPE; d++) {
      if (d == NN_F16 || d == NN_BF16) continue; /* sorted as f32 */
      arr *x = new_arr((nn_dtype)d, 2, shape[s][0], shape[s][1], 1);
      check_sort(x, nn_dtype_name((nn_dtype)d));
      if (d == NN_I64) { /* keys that need 64 bits */
        for (int64_t i = 0; i < x->n; i++) ints(x)[i] = (int64_t)((uint64_t)draw() << 33 ^ (uint64_t)draw());
        if (x->n > 2) ints(x)[0] = INT64_MIN, ints(x)[1] = INT64_MAX;
        check_sort(x, "wide i64");
      }
      if (d == NN_F32) {
        static const float odd[] = {NAN, 0.0f, -0.0f, INFINITY, -INFINITY, 1e-45f, -1e-45f, 3.4e38f, -NAN, 1.0f};
        for (int64_t i = 0; i < x->n; i++) floats(x)[i] = odd[below(NNI_COUNT(odd))];
        check_sort(x, "odd f32");
      }
      if (d == NN_F64) {
        static const double odd[] = {NAN, 0.0, -0.0, INFINITY, -INFINITY, 5e-324, -5e-324, 1e308, -NAN, 1.0};
        for (int64_t i = 0; i < x->n; i++) doubles(x)[i] = odd[below(NNI_COUNT(odd))];
        check_sort(x, "odd f64");
      }
      drop(x);
    }
}

static void test_search(void) {
  for (int one = 0; one < 2; one++)
    for (int d = 0; d < 2; d++)
      for (int64_t right = 0; right < 2; right++) {
        const int64_t A = 6, N = 50, M = 900;
        nn_dtype t = d ? NN_I64 : NN_F32;
        arr *x = new_arr(t, 2, one ? 1 : A, N, 1), *v = new_arr(t, 2, A, M, 1), *y = new_arr(NN_I64, 2, A, M, 1);
        for (int64_t i = 0; i < x->n; i++) {
          const int64_t value = i % N / 3 - 8; /* with equals */
          if (d) ints(x)[i] = value;
          else floats(x)[i] = (float)value;
        }
        for (int64_t i = 0; i < v->n; i++) {
          if (d) ints(v)[i] = below(30) - 15;
          else floats(v)[i] = i % 97 == 5 ? NAN : (float)(below(60) - 30) / 2;
        }
        CHECK(run("searchsorted", K(searchsorted), (arr *[]){x, v}, 2, &y, 1, &right, NULL) == NN_OK, "%s", err.text);
        int64_t bad = 0;
        for (int64_t i = 0; i < v->n; i++) {
          int64_t want = 0;
          const double e = at(v, i);
          while (want < N && (isnan(e) || (right ? at(x, (one ? 0 : i / M * N) + want) <= e : at(x, (one ? 0 : i / M * N) + want) < e))) want++;
          bad += int_at(y, i) != want;
        }
        CHECK(bad == 0, "searchsorted %s, right %d: %" PRId64 " differ", nn_dtype_name(t), (int)right, bad);
        drop(x), drop(v), drop(y);
      }
}

static void test_randint(void) {
  const nni_param pa[4] = {{.u = 7}, {.u = 3}, {.u = (uint64_t)-2}, {.u = 5}};
  arr *y = new_arr(NN_I64, 2, 100, 500, 1);
  int64_t count[5] = {0}, bad = 0;
  CHECK(run("randint", K(randint), NULL, 0, &y, 1, NULL, pa) == NN_OK, "%s", err.text);
  for (int64_t i = 0; i < y->n; i++) {
    const int64_t v = int_at(y, i) + 2;
    if (v < 0 || v > 4) bad++;
    else count[v]++;
  }
  CHECK(bad == 0, "%" PRId64 " draws are outside", bad);
  for (int i = 0; i < 5; i++) CHECK(llabs(count[i] - 10000) < 500, "value %d comes %" PRId64 " times in 50000", i - 2, count[i]);
  drop(y);
}

int main(void) {
  if (!pools_open()) return 2;
  test_gather();
  test_scatter();
  test_ravel();
  test_nonzero();
  test_scan();
  test_sort();
  test_search();
  test_randint();
  pools_close();
  printf("index: %d checks, %d failures\n", checks, failures);
  return failures != 0;
}
