/* test_kernels.c - the structural kernels of cpu/k_copy.c, k_reduce.c, k_matmul.c and k_rows.c against naive loops in double.
**
** Every case runs with 1, 2 and 3 threads; the bits must agree. Outputs lie between guards. Run once per NNLUA_ISA level by ctest.
*/
#include "cpu_check.h"

/* ---- operands -------------------------------------------------------------------------------------------------------------- */
typedef struct arr {
  nni_operand o;
  int64_t shape[NN_MAXDIM], stride[NN_MAXDIM];
  void *base;
  size_t bytes; /* asked for, without the pad */
} arr;

static void *place(const arr *a, int64_t i) { return (char *)a->o.data + i * (int64_t)nn_dtype_size(a->o.dtype); }
static double get_at(const arr *a, int64_t i) {
  double f;
  int64_t n;
  nn_element_read(a->o.dtype, place(a, i), &f, &n);
  return f;
}
static void put_at(arr *a, int64_t i, double v) {
  if (a->o.dtype == NN_BOOL) *(uint8_t *)place(a, i) = (uint8_t)(int64_t)v;
  else nn_element_write(a->o.dtype, place(a, i), v, nn_dtype_is_float(a->o.dtype) ? 0 : (int64_t)v);
}
static int64_t numel(const arr *a) {
  int64_t n = 1;
  for (int d = 0; d < a->o.ndim; d++) n *= a->shape[d];
  return n;
}
/* memory offset of element number i (row-major) */
static int64_t offset_of(const arr *a, int64_t i) {
  int64_t off = 0;
  for (int d = a->o.ndim - 1; d >= 0; d--) {
    off += i % a->shape[d] * a->stride[d];
    i /= a->shape[d];
  }
  return off;
}

/* A contiguous array of small random numbers. */
static void new_arr(arr *a, nn_dtype d, int ndim, const int64_t *shape) {
  int64_t n = 1;
  memset(a, 0, sizeof *a);
  for (int i = ndim - 1; i >= 0; i--) {
    a->shape[i] = shape[i];
    a->stride[i] = n;
    n *= shape[i];
  }
  a->bytes = (size_t)n * nn_dtype_size(d);
  a->base = nni_buffer_get(mem, a->bytes);
  a->o = (nni_operand){a->base, d, ndim, NULL, NULL};
  if (!a->base) exit(2);
  for (int64_t i = 0; i < n; i++) {
    const int32_t r = (int32_t)below(2001) - 1000;
    put_at(a, i, nn_dtype_is_float(d) ? r / 256.0 : d == NN_BOOL ? r & 1 : d == NN_U8 ? r & 255 : r);
  }
}
static void free_arr(arr *a) { nni_buffer_put(mem, a->base, a->bytes); }
/* swap dims x and y of a view */
static void swap_dims(arr *a, int x, int y) {
  int64_t s = a->shape[x], t = a->stride[x];
  a->shape[x] = a->shape[y], a->stride[x] = a->stride[y];
  a->shape[y] = s, a->stride[y] = t;
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */
typedef struct run {
  nni_error err;
  nn_status status;
} run;

static const struct {
  nni_kernel_fn run;
  nni_scratch_fn scratch;
} kernels[NNI_NKERNEL] = {
#define ROW(name) [NNI_K_##name] = {nn_cpu_##name, nn_cpu_##name##_scratch}
    ROW(copy), ROW(slice_set), ROW(slice_add), ROW(concat), ROW(reduce), ROW(matmul), ROW(take_rows), ROW(add_rows), ROW(check_ids)};

/* Runs kernel id with 1, 2 and 3 threads into out (new_arr'ed by the caller); checks guards and that the bits agree. */
static run run_kernel(const char *what, nni_kernel_id id, arr *in, int nin, arr *out, const int64_t *ia) {
  nni_operand ins[8], o;
  run r = {.status = NN_OK};
  uint8_t *room[3];
  const size_t size = out->bytes + 2 * GUARD;
  for (int i = 0; i < nin; i++) {
    ins[i] = in[i].o;
    ins[i].shape = in[i].shape;
    ins[i].stride = in[i].stride;
  }
  o = out->o;
  o.shape = out->shape;
  o.stride = out->stride;
  for (int t = 0; t < 3; t++) {
    nni_kernel_call k = {.threads = pools[t], .in = ins, .out = &o, .nin = nin, .nout = 1, .ia = ia, .err = &r.err};
    nni_operand blind[8], blind_out = o;
    room[t] = nni_buffer_get(mem, size);
    memset(room[t], 0xA5, size);
    memcpy(blind, ins, sizeof ins);
    for (int i = 0; i < nin; i++) blind[i].data = NULL;
    blind_out.data = NULL;
    k.in = blind;
    k.out = &blind_out;
    const size_t scratch = kernels[id].scratch(&k);
    uint8_t *s = nni_buffer_get(mem, scratch + 64);
    memset(s, 0xFF, scratch + 64);
    k.in = ins;
    k.out = &o;
    k.scratch = s;
    o.data = room[t] + GUARD;
    r.status = kernels[id].run(&k);
    for (size_t i = 0; i < 64; i++)
      if (s[scratch + i] != 0xFF) {
        CHECK(false, "%s: wrote past its scratch", what);
        break;
      }
    nni_buffer_put(mem, s, scratch + 64);
    int bad = 0;
    for (size_t i = 0; i < GUARD; i++) bad |= (room[t][i] != 0xA5) | (room[t][GUARD + out->bytes + i] != 0xA5);
    CHECK(!bad, "%s: wrote outside the output (%d threads)", what, t + 1);
    if (t > 0) CHECK(memcmp(room[0], room[t], size) == 0, "%s: %d threads give other bits", what, t + 1);
  }
  memcpy(out->base, room[1] + GUARD, out->bytes);
  for (int t = 0; t < 3; t++) nni_buffer_put(mem, room[t], size);
  return r;
}

/* ---- copy ------------------------------------------------------------------------------------------------------------------ */
static double convert(double v, nn_dtype from, nn_dtype to) {
  if (to == NN_BOOL) return v != 0;
  if (nn_dtype_is_float(to)) {
    uint64_t u;
    int64_t n;
    nn_element_write(to, &u, v, 0);
    nn_element_read(to, &u, &v, &n);
    return v;
  }
  if (nn_dtype_is_float(from)) {
    if (isnan(v)) return 0;
    v = trunc(v);
    if (to == NN_I64) return v;
    if (v > INT32_MAX) v = INT32_MAX;
    if (v < INT32_MIN) v = INT32_MIN;
  }
  const int64_t i = (int64_t)v;
  return to == NN_U8 ? (double)(uint8_t)i : to == NN_I32 ? (double)(int32_t)i : (double)i;
}

static void check_copy(const char *what, arr *in, nn_dtype to) {
  arr out;
  new_arr(&out, to, in->o.ndim, in->shape);
  run_kernel(what, NNI_K_copy, in, 1, &out, NULL);
  int64_t bad = -1;
  for (int64_t i = 0; i < numel(in) && bad < 0; i++)
    if (get_at(&out, i) != convert(get_at(in, offset_of(in, i)), in->o.dtype, to)) bad = i;
  CHECK(bad < 0, "%s %s -> %s: element %" PRId64 " differs", what, nn_dtype_name(in->o.dtype), nn_dtype_name(to), bad);
  free_arr(&out);
}

static void test_copy(void) {
  static const int64_t shapes[][4] = {{1, 1, 1, 1}, {3, 1, 5, 7}, {0, 3, 2, 2}, {2, 3, 0, 4}, {2, 70, 67, 3}, {5, 4, 33, 129}, {1, 200, 1, 300}};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int d = 0; d < NN_NDTYPE; d++)
      for (int e = 0; e < NN_NDTYPE; e++) {
        if (s > 4 && d != e && (d + e) % 3) continue;
        arr a;
        new_arr(&a, (nn_dtype)d, 4, shapes[s]);
        check_copy("copy", &a, (nn_dtype)e);
        for (int x = 0; x < 4; x++)
          for (int y = x + 1; y < 4; y++) {
            swap_dims(&a, x, y);
            check_copy("copy, dims swapped", &a, (nn_dtype)e);
            swap_dims(&a, x, y);
          }
        swap_dims(&a, 1, 3);
        swap_dims(&a, 2, 3);
        check_copy("copy, dims rotated", &a, (nn_dtype)e);
        swap_dims(&a, 2, 3);
        swap_dims(&a, 1, 3);
        for (int x = 0; x < 4; x++) { /* broadcast, then every second element backwards */
          const int64_t stride = a.stride[x], shape = a.shape[x];
          a.stride[x] = 0;
          check_copy("copy, broadcast", &a, (nn_dtype)e);
          a.stride[x] = -2 * stride;
          a.shape[x] = shape / 2;
          a.o.data = (char *)a.base + (shape > 0 ? (shape - 1) * stride * (int64_t)nn_dtype_size(a.o.dtype) : 0);
          check_copy("copy, backwards", &a, (nn_dtype)e);
          a.o.data = a.base;
          a.stride[x] = stride;
          a.shape[x] = shape;
        }
        free_arr(&a);
      }
}

static void test_extremes(void) {
  const float f[] = {NAN,  INFINITY, -INFINITY, 2147483648.0f, -2147483904.0f, 2147483520.0f, 9.3e18f,        -9.3e18f, -1.9f,
                     1.9f, 300.7f,   -0.0f,     1e-30f,        255.9f,         256.0f,        -2147483648.0f, 0.5f};
  const int64_t i32[] = {0, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 2147483520, INT32_MAX, INT32_MIN, -1, 1, 300, 0, 0, 255, 256, INT32_MIN, 0};
  const int64_t n = NNI_COUNT(f);
  arr a, o;
  new_arr(&a, NN_F32, 1, &n);
  memcpy(a.base, f, sizeof f);
  new_arr(&o, NN_I32, 1, &n);
  run_kernel("extremes", NNI_K_copy, &a, 1, &o, NULL);
  for (int64_t i = 0; i < n; i++) CHECK((int64_t)get_at(&o, i) == i32[i], "f32 -> i32: element %d is %.0f", (int)i, get_at(&o, i));
  free_arr(&o);
  new_arr(&o, NN_U8, 1, &n);
  run_kernel("extremes", NNI_K_copy, &a, 1, &o, NULL);
  for (int64_t i = 0; i < n; i++) CHECK((int64_t)get_at(&o, i) == (i32[i] & 255), "f32 -> u8: element %d is %.0f", (int)i, get_at(&o, i));
  free_arr(&o);
  new_arr(&o, NN_BOOL, 1, &n);
  run_kernel("extremes", NNI_K_copy, &a, 1, &o, NULL);
  for (int64_t i = 0; i < n; i++) CHECK((int64_t)get_at(&o, i) == (f[i] != 0), "f32 -> bool: element %d is %.0f", (int)i, get_at(&o, i));
  free_arr(&o);
  new_arr(&o, NN_I64, 1, &n);
  run_kernel("extremes", NNI_K_copy, &a, 1, &o, NULL);
  const int64_t *p = o.base;
  CHECK(p[0] == 0 && p[1] == INT64_MAX && p[2] == INT64_MIN && p[3] == 2147483648 && p[4] == -2147483904 && p[6] == INT64_MAX && p[7] == INT64_MIN &&
            p[8] == -1,
        "f32 -> i64: the ends");
  free_arr(&o);
  free_arr(&a);
}

/* ---- slices and concat ------------------------------------------------------------------------------------------------------ */
static void test_slice(void) {
  static const nn_dtype kinds[] = {NN_F32, NN_I32, NN_I64, NN_U8, NN_BOOL};
  static const int64_t wholes[][3] = {{6, 5, 4}, {1, 1, 1}, {0, 2, 3}, {64, 90, 32}, {40, 3, 301}};
  for (int w = 0; w < 5; w++)
    for (int d = 0; d < 5; d++)
      for (int add = 0; add < (d < 3 ? 2 : 1); add++)
        for (int form = 0; form < 4; form++) {
          const int64_t *whole = wholes[w];
          const int64_t row = whole[2], plane = row * whole[1];
          /* the middle of dims 1 and 2; every second of dim 0; backwards along dim 2; nothing */
          int64_t part[3] = {whole[0], (whole[1] + 1) / 2, (whole[2] + 1) / 2}, ia[4] = {whole[1] / 2 * row + whole[2] / 2, plane, row, 1};
          if (form == 1) part[0] = (whole[0] + 1) / 2, part[1] = whole[1], part[2] = whole[2], ia[0] = 0, ia[1] = 2 * plane;
          if (form == 2) part[1] = whole[1], part[2] = whole[2], ia[0] = row - 1, ia[3] = -1;
          if (form == 3) part[1] = 0, ia[0] = 0;
          arr in[2], out;
          new_arr(&in[0], kinds[d], 3, whole);
          if (form == 2) { /* a transposed region */
            const int64_t turned[] = {part[2], part[1], part[0]};
            new_arr(&in[1], kinds[d], 3, turned);
            swap_dims(&in[1], 0, 2);
          } else {
            new_arr(&in[1], kinds[d], 3, part);
          }
          new_arr(&out, kinds[d], 3, whole);
          run_kernel("slice", add ? NNI_K_slice_add : NNI_K_slice_set, in, 2, &out, ia);
          for (int64_t i = 0; i < numel(&in[1]); i++) {
            const int64_t a = i / (part[1] * part[2]), b = i / part[2] % part[1], c = i % part[2], to = ia[0] + a * ia[1] + b * ia[2] + c * ia[3];
            put_at(&in[0], to, get_at(&in[1], offset_of(&in[1], i)) + (add ? get_at(&in[0], to) : 0));
          }
          CHECK(memcmp(in[0].base, out.base, out.bytes) == 0, "slice: whole %d dtype %d add %d form %d", w, d, add, form);
          /* into in0's own memory */
          nni_operand ops[2] = {in[0].o, in[1].o};
          for (int i = 0; i < 2; i++) ops[i].shape = in[i].shape, ops[i].stride = in[i].stride;
          nni_kernel_call k = {.threads = pools[1], .in = ops, .out = ops, .nin = 2, .nout = 1, .ia = ia};
          if (!add) CHECK(nn_cpu_slice_set(&k) == NN_OK && memcmp(in[0].base, out.base, out.bytes) == 0, "slice_set in place");
          for (int i = 0; i < 2; i++) free_arr(&in[i]);
          free_arr(&out);
        }
}

static void test_concat(void) {
  static const int64_t sizes[][3] = {{3, 1, 5}, {0, 2, 0}, {64, 1, 100}};
  for (int s = 0; s < 3; s++)
    for (int64_t dim = 0; dim < 3; dim++)
      for (int d = 0; d < NN_NDTYPE; d++) {
        int64_t shape[3] = {s == 2 ? 70 : 3, s == 2 ? 65 : 4, 5}, total = 0, done = 0;
        arr in[3], out;
        for (int i = 0; i < 3; i++) {
          total += shape[dim] = sizes[s][i];
          if (i == 1) { /* one of them transposed */
            const int64_t turned[] = {shape[1], shape[0], shape[2]};
            new_arr(&in[i], (nn_dtype)d, 3, turned);
            swap_dims(&in[i], 0, 1);
          } else {
            new_arr(&in[i], (nn_dtype)d, 3, shape);
          }
        }
        shape[dim] = total;
        new_arr(&out, (nn_dtype)d, 3, shape);
        run_kernel("concat", NNI_K_concat, in, 3, &out, &dim);
        int bad = 0;
        for (int i = 0; i < 3; i++) {
          for (int64_t e = 0; e < numel(&in[i]); e++) {
            int64_t off = 0, r = e;
            for (int q = 2; q >= 0; q--) {
              off += (r % in[i].shape[q] + (q == dim ? done : 0)) * out.stride[q];
              r /= in[i].shape[q];
            }
            bad |= get_at(&out, off) != get_at(&in[i], offset_of(&in[i], e));
          }
          done += in[i].shape[dim];
          free_arr(&in[i]);
        }
        CHECK(!bad, "concat: sizes %d dim %d dtype %d", s, (int)dim, d);
        free_arr(&out);
      }
}

/* ---- reduce ---------------------------------------------------------------------------------------------------------------- */
static bool takes(int op, double v, double best) {
  if (isnan(best)) return false;
  if (isnan(v)) return true;
  return op == NNI_RED_rmax || op == NNI_RED_rargmax ? v > best : v < best;
}

static void check_reduce(int op, nn_dtype d, int64_t outer, int64_t n, int64_t inner, bool nan) {
  const int64_t dims[3] = {outer, n, inner}, odims[2] = {outer, inner}, ia[4] = {op, outer, n, inner};
  const bool arg = op == NNI_RED_rargmax || op == NNI_RED_rargmin, sums = op == NNI_RED_rsum || op == NNI_RED_rprod;
  const nn_dtype od = arg || (sums && (d == NN_U8 || d == NN_BOOL)) ? NN_I64 : d;
  arr in, out;
  new_arr(&in, d, 3, dims);
  if (op == NNI_RED_rprod)
    for (int64_t i = 0; i < numel(&in); i++) put_at(&in, i, nn_dtype_is_float(d) ? 1 + get_at(&in, i) / 4096 : draw() % 97 == 0 ? 2 : 1);
  if (nan)
    for (int64_t i = 0; i < numel(&in); i += 1 + draw() % (2 * n)) put_at(&in, i, NAN);
  new_arr(&out, od, 2, odims);
  run_kernel("reduce", NNI_K_reduce, &in, 1, &out, ia);
  int64_t bad = -1;
  for (int64_t o = 0; o < outer && bad < 0; o++)
    for (int64_t c = 0; c < inner && bad < 0; c++) {
      double best = 0, sum = 0, prod = 1, size = 0, got = get_at(&out, o * inner + c);
      uint64_t whole = 1;
      int64_t at = 0;
      for (int64_t r = 0; r < n; r++) {
        const double v = get_at(&in, (o * n + r) * inner + c);
        if (r == 0 || takes(op, v, best)) best = v, at = r;
        sum += v;
        size += fabs(v);
        prod *= v;
        whole *= (uint64_t)(int64_t)(nn_dtype_is_float(d) ? 1 : v);
      }
      bool ok = false;
      if (arg) ok = got == (double)at;
      else if (op == NNI_RED_rsum) ok = isnan(sum) ? isnan(got) : fabs(got - sum) <= (d == NN_F32 ? 2e-6 * size : d == NN_F64 ? 1e-11 * size : 0);
      else if (op == NNI_RED_rprod && nn_dtype_is_float(d)) ok = isnan(prod) ? isnan(got) : fabs(got - prod) <= 1e-7 * (double)(n + 10) * fabs(prod);
      else if (op == NNI_RED_rprod) ok = got == (d == NN_I32 ? (double)(int32_t)whole : (double)(int64_t)whole);
      else ok = isnan(best) ? isnan(got) : got == best;
      if (!ok) bad = o * inner + c;
    }
  CHECK(bad < 0, "reduce op %d %s (%" PRId64 ", %" PRId64 ", %" PRId64 ")%s: element %" PRId64, op, nn_dtype_name(d), outer, n, inner,
        nan ? " with NaN" : "", bad);
  free_arr(&in);
  free_arr(&out);
}

static void test_reduce(void) {
  static const int64_t shapes[][3] = {{1, 1, 1},     {3, 1, 4},       {5, 7, 1},   {1, 16, 1},    {4, 129, 1},  {2, 70001, 1}, {1, 200000, 1},
                                      {300, 300, 1}, {1, 5, 3},       {2, 100, 3}, {1, 30001, 3}, {1, 64, 128}, {3, 33, 17},   {1, 5000, 64},
                                      {2, 40, 1500}, {1, 2000, 1030}, {0, 3, 4},   {2, 3, 0},     {70, 9, 31}};
  static const nn_dtype kinds[] = {NN_F32, NN_I32, NN_I64, NN_U8, NN_BOOL, NN_F64};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int op = 0; op < NNI_NRED; op++)
      for (int d = 0; d < 6; d++) {
        check_reduce(op, kinds[d], shapes[s][0], shapes[s][1], shapes[s][2], false);
        if ((d == 0 || d == 5) && shapes[s][1] > 1) check_reduce(op, kinds[d], shapes[s][0], shapes[s][1], shapes[s][2], true);
      }
  /* nothing to reduce */
  const int64_t dims[3] = {2, 0, 3}, odims[2] = {2, 3};
  for (int op = 0; op < NNI_NRED; op++) {
    const bool arg = op == NNI_RED_rargmax || op == NNI_RED_rargmin;
    const int64_t ia[4] = {op, 2, 0, 3};
    const double want = op == NNI_RED_rprod ? 1 : op == NNI_RED_rmax ? -HUGE_VAL : op == NNI_RED_rmin ? HUGE_VAL : 0;
    arr in, out;
    new_arr(&in, NN_F32, 3, dims);
    new_arr(&out, arg ? NN_I64 : NN_F32, 2, odims);
    run_kernel("reduce", NNI_K_reduce, &in, 1, &out, ia);
    for (int i = 0; i < 6; i++) CHECK(get_at(&out, i) == want, "reduce op %d of nothing: %g", op, get_at(&out, i));
    free_arr(&in);
    free_arr(&out);
  }
}

/* ---- matmul ---------------------------------------------------------------------------------------------------------------- */
typedef enum form { PLAIN, SHARE_A, SHARE_B } form;

static void check_matmul(int64_t batch, int64_t m, int64_t n, int64_t k, bool ta, bool tb, form f) {
  const int64_t as[3] = {batch, ta ? k : m, ta ? m : k}, bs[3] = {batch, tb ? n : k, tb ? k : n}, cs[3] = {batch, m, n};
  arr in[2], out;
  new_arr(&in[0], NN_F32, 3, as);
  new_arr(&in[1], NN_F32, 3, bs);
  new_arr(&out, NN_F32, 3, cs);
  if (ta) swap_dims(&in[0], 1, 2);
  if (tb) swap_dims(&in[1], 1, 2);
  if (f != PLAIN) in[f == SHARE_B].stride[0] = 0;
  for (int i = 0; i < 2; i++) /* the stride of a dim of size 1 says nothing */
    for (int d = 0; d < 3; d++)
      if (in[i].shape[d] == 1) in[i].stride[d] = (int64_t)(draw() % 1000);
  run_kernel("matmul", NNI_K_matmul, in, 2, &out, NULL);
  const float *a = in[0].base, *b = in[1].base;
  int64_t bad = -1;
  for (int64_t i = 0; i < batch * m * n && bad < 0; i++) {
    const float *p = a + i / (m * n) * in[0].stride[0] + i / n % m * in[0].stride[1];
    const float *q = b + i / (m * n) * in[1].stride[0] + i % n * in[1].stride[2];
    double sum = 0, size = 0;
    for (int64_t e = 0; e < k; e++) {
      const double v = (double)p[e * in[0].stride[2]] * (double)q[e * in[1].stride[1]];
      sum += v;
      size += fabs(v);
    }
    if (!(fabs(get_at(&out, i) - sum) <= 4e-6 * size)) bad = i;
  }
  CHECK(bad < 0, "matmul %" PRId64 " x (%" PRId64 ", %" PRId64 ", %" PRId64 ") ta %d tb %d form %d: element %" PRId64, batch, m, n, k, ta, tb, (int)f,
        bad);
  for (int i = 0; i < 2; i++) free_arr(&in[i]);
  free_arr(&out);
}

/* One row, or one product deep, with no unit stride but that of a dim of size 1. */
static void test_thin(void) {
  for (int deep = 0; deep < 2; deep++) {
    const int64_t wide[3] = {1, 40, 5}, narrow[3] = {1, deep ? 1 : 40, 20}, result[3] = {1, deep ? 40 : 1, 20};
    arr in[2], out;
    new_arr(&in[0], NN_F32, 3, wide);
    new_arr(&in[1], NN_F32, 3, narrow);
    new_arr(&out, NN_F32, 3, result);
    in[0].shape[2] = 1; /* a column of it */
    if (!deep) swap_dims(&in[0], 1, 2);
    in[0].stride[deep ? 2 : 1] = 77;
    run_kernel("thin matmul", NNI_K_matmul, in, 2, &out, NULL);
    const float *a = in[0].base, *b = in[1].base;
    int bad = 0;
    for (int64_t i = 0; i < numel(&out); i++) {
      double sum = 0;
      for (int64_t e = 0; e < (deep ? 1 : 40); e++) sum += (double)a[(deep ? i / 20 : e) * 5] * (double)b[e * 20 + i % 20];
      bad |= !(fabs(get_at(&out, i) - sum) <= 1e-4);
    }
    CHECK(!bad, "matmul of a column, deep %d", deep);
    for (int i = 0; i < 2; i++) free_arr(&in[i]);
    free_arr(&out);
  }
}

/* An element of a product does not depend on how the product is cut. */
static void test_cuts(void) {
  const int64_t as[2] = {75, 900}, bs[2] = {900, 150}, cs[2] = {75, 150};
  for (int t = 0; t < 4; t++) {
    arr a, b, c, e;
    new_arr(&a, NN_F32, 2, as);
    new_arr(&b, NN_F32, 2, bs);
    new_arr(&c, NN_F32, 2, cs);
    new_arr(&e, NN_F32, 2, cs);
    const bool ta = t & 1, tb = t & 2;
    nn_cpu_gemm g = {a.base, b.base, c.base, 75, 150, 900, ta ? 1 : 900, ta ? 75 : 1, tb ? 1 : 150, tb ? 900 : 1, 150, NULL};
    nn_cpu_gemm_run(&g);
    for (int64_t m0 = 0; m0 < 75; m0 += 29)
      for (int64_t n0 = 0; n0 < 150; n0 += 41) {
        nn_cpu_gemm p = g;
        p.a += m0 * g.am;
        p.b += n0 * g.bn;
        p.c = (float *)e.base + m0 * 150 + n0;
        p.m = 75 - m0 < 29 ? 75 - m0 : 29;
        p.n = 150 - n0 < 41 ? 150 - n0 : 41;
        nn_cpu_gemm_run(&p);
      }
    CHECK(memcmp(c.base, e.base, c.bytes) == 0, "a product cut in pieces has other bits (%d)", t);
    free_arr(&a), free_arr(&b), free_arr(&c), free_arr(&e);
  }
}

/* f64, transposed or not, against the sums in long double */
static void check_matmul_f64(int64_t batch, int64_t m, int64_t n, int64_t k, bool ta, bool tb) {
  const int64_t as[3] = {batch, ta ? k : m, ta ? m : k}, bs[3] = {1, tb ? n : k, tb ? k : n}, cs[3] = {batch, m, n};
  arr in[2], out;
  new_arr(&in[0], NN_F64, 3, as);
  new_arr(&in[1], NN_F64, 3, bs);
  new_arr(&out, NN_F64, 3, cs);
  if (ta) swap_dims(&in[0], 1, 2);
  if (tb) swap_dims(&in[1], 1, 2);
  in[1].stride[0] = 0;
  in[1].shape[0] = batch;
  run_kernel("matmul", NNI_K_matmul, in, 2, &out, NULL);
  int64_t bad = -1;
  for (int64_t i = 0; i < batch * m * n && bad < 0; i++) {
    long double sum = 0;
    double size = 0;
    for (int64_t e = 0; e < k; e++) {
      const double v = get_at(&in[0], i / (m * n) * in[0].stride[0] + i / n % m * in[0].stride[1] + e * in[0].stride[2]);
      const double w = get_at(&in[1], e * in[1].stride[1] + i % n * in[1].stride[2]);
      sum += (long double)v * (long double)w;
      size += fabs(v * w);
    }
    if (!(fabs(get_at(&out, i) - (double)sum) <= 1e-14 * size)) bad = i;
  }
  CHECK(bad < 0, "matmul f64 (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 ")%s%s: element %" PRId64, batch, m, n, k, ta ? " ta" : "",
        tb ? " tb" : "", bad);
  for (int i = 0; i < 2; i++) free_arr(&in[i]);
  free_arr(&out);
}

static void test_matmul(void) {
  static const int64_t shapes[][4] = {{1, 1, 1, 1},      {1, 13, 10, 7},   {3, 5, 33, 2},    {1, 64, 10, 128},  {2, 12, 32, 300},  {1, 0, 3, 4},
                                      {1, 3, 0, 4},      {2, 3, 4, 0},     {0, 3, 4, 5},     {1, 64, 128, 784}, {1, 257, 129, 65}, {48, 33, 31, 17},
                                      {1, 1, 500, 1030}, {1, 500, 1, 513}, {2, 97, 300, 40}, {1, 784, 128, 64}, {1, 11, 257, 515}};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int t = 0; t < 4; t++) {
      const int64_t *q = shapes[s];
      check_matmul(q[0], q[1], q[2], q[3], t & 1, t >> 1, PLAIN);
      if (q[0] > 1) check_matmul(q[0], q[1], q[2], q[3], t & 1, t >> 1, SHARE_A);
      if (q[0] > 1) check_matmul(q[0], q[1], q[2], q[3], t & 1, t >> 1, SHARE_B);
    }
  for (int t = 0; t < 4; t++) {
    check_matmul_f64(2, 13, 10, 7, t & 1, t >> 1);
    check_matmul_f64(1, 70, 65, 33, t & 1, t >> 1);
    check_matmul_f64(3, 1, 1, 300, t & 1, t >> 1);
  }
  for (int64_t m = 1; m <= 26; m++)
    for (int64_t n = 1; n <= 70; n += n < 34 ? 1 : 5) check_matmul(1, m, n, 19, m & 1, n & 1, PLAIN);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------ */
static void test_rows(void) {
  static const int64_t shapes[][3] = {{10, 4, 7}, {1, 1, 1}, {50, 0, 3}, {50, 3, 0}, {1000, 128, 700}, {300, 1, 30000}, {40, 5, 9001}, {7, 300, 400}};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int wide = 0; wide < 2; wide++)
      for (int d = 0; d < NN_NDTYPE; d++) {
        const int64_t v = shapes[s][0], w = shapes[s][1], n = shapes[s][2], table[2] = {v, w}, outs[2] = {n, w};
        arr in[2], out;
        new_arr(&in[0], (nn_dtype)d, 2, table);
        new_arr(&in[1], wide ? NN_I64 : NN_I32, 1, &n);
        for (int64_t i = 0; i < n; i++) put_at(&in[1], i, draw() % (uint32_t)v);
        new_arr(&out, (nn_dtype)d, 2, outs);
        run r = run_kernel("take_rows", NNI_K_take_rows, in, 2, &out, NULL);
        int bad = r.status != NN_OK;
        for (int64_t i = 0; i < n * w; i++) bad |= get_at(&out, i) != get_at(&in[0], (int64_t)get_at(&in[1], i / w) * w + i % w);
        CHECK(!bad, "take_rows: (%" PRId64 ", %" PRId64 ") dtype %d", v, w, d);
        free_arr(&in[0]);
        free_arr(&out);
        if (d == NN_F32) {
          new_arr(&in[0], NN_F32, 2, outs);
          new_arr(&out, NN_F32, 2, table);
          r = run_kernel("add_rows", NNI_K_add_rows, in, 2, &out, &v);
          float *sum = calloc((size_t)(v * w) + 1, sizeof *sum); /* in order of position: equal to the bit */
          for (int64_t i = 0; i < n * w; i++) sum[(int64_t)get_at(&in[1], i / w) * w + i % w] += (float)get_at(&in[0], i);
          CHECK(r.status == NN_OK && memcmp(sum, out.base, out.bytes) == 0, "add_rows: (%" PRId64 ", %" PRId64 ")", v, w);
          free(sum);
          free_arr(&in[0]);
          free_arr(&out);
        }
        free_arr(&in[1]);
      }
}

static void expect_message(nni_kernel_id id, arr *in, int nin, arr *out, const int64_t *ia, const char *want) {
  run r = run_kernel("bad ids", id, in, nin, out, ia);
  CHECK(r.status == NN_EINDEX, "bad ids: status %d", (int)r.status);
  CHECK(strcmp(r.err.text, want) == 0, "message is \"%s\", should be \"%s\"", r.err.text, want);
  const uint8_t *p = out->base;
  size_t untouched = 0;
  while (untouched < out->bytes && p[untouched] == 0xA5) untouched++;
  CHECK(untouched == out->bytes, "bad ids: the output was written to");
}

static void test_messages(void) {
  static const struct {
    double id;
    const char *shown;
  } cases[] = {{10, "11"}, {-1, "0"}, {-5, "-4"}, {2147483646, "2147483647"}};
  for (int c = 0; c < NNI_COUNT(cases); c++)
    for (int kind = 0; kind < 2; kind++) {
      const int64_t v = 10, six = 6, table[2] = {10, 3}, rows[2] = {6, 3};
      char want[200];
      arr in[2], out;
      new_arr(&in[1], kind ? NN_I64 : NN_I32, 1, &six);
      for (int i = 0; i < 6; i++) put_at(&in[1], i, i == 4 ? cases[c].id : i == 5 ? 99 : i);
      new_arr(&in[0], NN_F32, 2, table);
      new_arr(&out, NN_F32, 2, rows);
      snprintf(want, sizeof want, "id %s at position 5 is not in 1..10", cases[c].shown);
      expect_message(NNI_K_take_rows, in, 2, &out, NULL, want);
      free_arr(&out);
      free_arr(&in[0]);
      new_arr(&in[0], NN_F32, 2, rows);
      new_arr(&out, NN_F32, 2, table);
      snprintf(want, sizeof want, "id %s at position 5 is not in 1..10", cases[c].shown);
      expect_message(NNI_K_add_rows, in, 2, &out, &v, want);
      free_arr(&out);
      free_arr(&in[0]);
      new_arr(&out, NN_I64, 1, &six);
      snprintf(want, sizeof want, "class id %s at position 5 is not in 1..10", cases[c].shown);
      expect_message(NNI_K_check_ids, in + 1, 1, &out, &v, want);
      free_arr(&out);
      free_arr(&in[1]);
    }
  /* good ids come through, also from u8; a bad one late in a long list is found */
  const int64_t n = 5000, v = 200;
  arr in, out;
  new_arr(&in, NN_U8, 1, &n);
  for (int64_t i = 0; i < n; i++) put_at(&in, i, (double)(i % 200));
  new_arr(&out, NN_I64, 1, &n);
  run r = run_kernel("check_ids", NNI_K_check_ids, &in, 1, &out, &v);
  int bad = r.status != NN_OK;
  for (int64_t i = 0; i < n; i++) bad |= get_at(&out, i) != (double)(i % 200);
  CHECK(!bad, "check_ids: u8 -> i64");
  put_at(&in, 4321, 200);
  expect_message(NNI_K_check_ids, &in, 1, &out, &v, "class id 201 at position 4322 is not in 1..200");
  put_at(&in, 4321, 0);
  put_at(&in, n - 1, 255);
  expect_message(NNI_K_check_ids, &in, 1, &out, &v, "class id 256 at position 5000 is not in 1..200");
  free_arr(&in);
  free_arr(&out);
}

int main(void) {
  if (!pools_open()) return 2;
  test_copy();
  test_extremes();
  test_slice();
  test_concat();
  test_reduce();
  test_matmul();
  test_thin();
  test_cuts();
  test_rows();
  test_messages();
  pools_close();
  printf("%s: %d checks, %d failed\n", nn_cpu_level_name(), checks, failures);
  return failures != 0;
}
