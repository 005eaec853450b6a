/* tests/c/test_program.c - row programs of the CPU backend against a naive interpreter: doubles rounded to f32 after every instruction (which
** is what f32 arithmetic gives), 64-bit integers wrapped to the register's class.
**
** Every case runs with 1, 2 and 3 threads and must give the same bits; bytes behind each output must survive.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu/program.h"
#include "ops/ops.h"
#include "row_program.h"

static int failures, checks;
#define FAIL(...) (failures++ < 40 ? (void)(printf(__VA_ARGS__), putchar('\n')) : (void)0)

/* ---- naive interpreter ------------------------------------------------------------------------------------------------------------------ */
typedef struct num { double f; int64_t i; } num;
static bool is_real(int cls) { return cls == NNI_F || cls == NNI_D; }
static double rounded(double f, nn_dtype d) { /* to the precision of d */
  uint64_t u = 0;
  int64_t i;
  if (!nn_dtype_is_float(d)) return f;
  nn_element_write(d, &u, f, 0);
  nn_element_read(d, &u, &f, &i);
  return f;
}

static num get(const void *p, nn_dtype d, int64_t at) {
  num n = {0, 0};
  if (nn_dtype_is_float(d)) nn_element_read(d, (const char *)p + (size_t)at * nn_dtype_size(d), &n.f, &(int64_t){0});
  else if (d == NN_I64) n.i = ((const int64_t *)p)[at];
  else if (d == NN_I32) n.i = ((const int32_t *)p)[at];
  else n.i = ((const uint8_t *)p)[at];
  return n;
}
static void put(void *p, nn_dtype d, int64_t at, num n) {
  if (nn_dtype_is_float(d)) nn_element_write(d, (char *)p + (size_t)at * nn_dtype_size(d), n.f, 0);
  else if (d == NN_I64) ((int64_t *)p)[at] = n.i;
  else if (d == NN_I32) ((int32_t *)p)[at] = (int32_t)n.i;
  else ((uint8_t *)p)[at] = (uint8_t)n.i;
}
static num to_dtype(num n, int from, nn_dtype d) {
  num r = {0, 0};
  double f = is_real(from) ? n.f : (double)(n.i);
  if (nn_dtype_is_float(d)) {
    r.f = rounded(d != NN_F64 && !is_real(from) ? (double)(float)n.i : f, d);
    return r;
  }
  if (!is_real(from)) r.i = n.i;
  else if (f != f) r.i = 0;
  else if (d == NN_I64) r.i = f >= 0x1p63 ? INT64_MAX : f < -0x1p63 ? INT64_MIN : (int64_t)f;
  else r.i = f >= 0x1p31 ? INT32_MAX : f < -0x1p31 ? INT32_MIN : (int32_t)f;
  if (d == NN_BOOL) r.i = is_real(from) ? f != 0 : n.i != 0;
  if (d == NN_U8) r.i = (uint8_t)r.i;
  if (d == NN_I32) r.i = (int32_t)r.i;
  return r;
}
static double fmax_nan(double a, double b) { return a != a ? a : b != b ? b : a > b ? a : b; }
static double fmin_nan(double a, double b) { return a != a ? a : b != b ? b : a < b ? a : b; }
static double pw_float(int op, double a, double b, double c) {
  switch (op) {
  case NNI_PW_add: return a + b;
  case NNI_PW_sub: return a - b;
  case NNI_PW_mul: return a * b;
  case NNI_PW_div: return a / b;
  case NNI_PW_pow: return pow(a, b);
  case NNI_PW_minimum: return fmin_nan(a, b);
  case NNI_PW_maximum: return fmax_nan(a, b);
  case NNI_PW_neg: return -a;
  case NNI_PW_abs: return fabs(a);
  case NNI_PW_sign: return a > 0 ? 1 : a < 0 ? -1 : 0;
  case NNI_PW_square: return a * a;
  case NNI_PW_sqrt: return sqrt(a);
  case NNI_PW_rsqrt: return 1 / sqrt(a);
  case NNI_PW_reciprocal: return 1 / a;
  case NNI_PW_exp: return exp(a);
  case NNI_PW_log: return log(a);
  case NNI_PW_sin: return sin(a);
  case NNI_PW_cos: return cos(a);
  case NNI_PW_tanh: return tanh(a);
  case NNI_PW_relu: return fmax_nan(a, 0);
  default: return nni_numbers[op](a, b, c); /* the table's formula in double; that the formulas are right is for test_vm and the specs to say */
  }
}
static int64_t pow_int(int64_t a, int64_t b) { /* one product after the other */
  uint64_t r = 1;
  if (b < 0) return a == 1 || (a == -1 && b % 2 == 0) ? 1 : a == -1 ? -1 : 0;
  for (int64_t i = 0; i < b; i++) r *= (uint64_t)a;
  return (int64_t)r;
}
static int64_t pw_int(int op, int width, int64_t a, int64_t b, int64_t c) {
  switch (op) {
  case NNI_PW_add: return (int64_t)((uint64_t)a + (uint64_t)b);
  case NNI_PW_sub: return (int64_t)((uint64_t)a - (uint64_t)b);
  case NNI_PW_mul: return (int64_t)((uint64_t)a * (uint64_t)b);
  case NNI_PW_square: return (int64_t)((uint64_t)a * (uint64_t)a);
  case NNI_PW_pow: return pow_int(a, b);
  case NNI_PW_minimum: return a < b ? a : b;
  case NNI_PW_maximum: return a > b ? a : b;
  case NNI_PW_neg: return (int64_t)(0 - (uint64_t)a);
  case NNI_PW_abs: return a < 0 ? (int64_t)(0 - (uint64_t)a) : a;
  case NNI_PW_sign: return a > 0 ? 1 : a < 0 ? -1 : 0;
  case NNI_PW_clamp: a = a > b ? a : b; return a < c ? a : c;
  case NNI_PW_relu: return a > 0 ? a : 0;
  case NNI_PW_logical_and: return a && b;
  case NNI_PW_logical_or: return a || b;
  case NNI_PW_logical_xor: return !a != !b;
  case NNI_PW_logical_not: return !a;
  case NNI_PW_floor: case NNI_PW_ceil: case NNI_PW_round: case NNI_PW_trunc: return a;
  case NNI_PW_relu6: return a < 0 ? 0 : a > 6 ? 6 : a;
  case NNI_PW_fmod: return b == 0 || b == -1 ? 0 : a % b;
  case NNI_PW_mod: return b == 0 || b == -1 ? 0 : a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
  case NNI_PW_floor_div: return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b - (a % b != 0 && (a < 0) != (b < 0));
  case NNI_PW_bitwise_and: return a & b;
  case NNI_PW_bitwise_or: return a | b;
  case NNI_PW_bitwise_xor: return a ^ b;
  case NNI_PW_bitwise_not: return ~a;
  case NNI_PW_bitwise_left_shift: return b < 0 || b >= width ? 0 : (int64_t)((uint64_t)a << b);
  case NNI_PW_bitwise_right_shift: return a >> (b < 0 || b >= width ? width - 1 : b);
  default: return -12345;
  }
}
static int compare(int op, num a, num b, bool real) {
  bool lt = real ? a.f < b.f : a.i < b.i, eq = real ? a.f == b.f : a.i == b.i, gt = real ? a.f > b.f : a.i > b.i;
  switch (op) {
  case NNI_PW_lt: return lt;
  case NNI_PW_le: return lt || eq;
  case NNI_PW_gt: return gt;
  case NNI_PW_ge: return gt || eq;
  case NNI_PW_eq: return eq;
  case NNI_PW_ne: return !eq;
  case NNI_PW_isnan: return real && a.f != a.f;
  case NNI_PW_isinf: return real && isinf(a.f);
  case NNI_PW_isfinite: return !real || isfinite(a.f);
  default: return -1;
  }
}
static num pw_one(const nni_rinstr *i, const num *a) {
  num r = {0, 0};
  int c = compare(i->op, a[0], a[1], is_real(i->opcls));
  if (c >= 0) r.i = c;
  else if (i->op == NNI_PW_where) r = a[0].i ? a[1] : a[2];
  else if (is_real(i->opcls)) r.f = rounded(pw_float(i->op, a[0].f, a[1].f, a[2].f), i->opcls == NNI_F ? NN_F32 : NN_F64);
  else r.i = pw_int(i->op, i->opcls == NNI_L ? 64 : 32, a[0].i, a[1].i, a[2].i);
  if (i->cls == NNI_I) r.i = (int32_t)r.i;
  return to_dtype(r, i->cls, (nn_dtype)i->dtype);
}
static num reduce_one(const nni_rinstr *i, const num *a, int64_t n) {
  bool real = is_real(i->opcls), min = i->op == NNI_RED_rmin || i->op == NNI_RED_rargmin;
  num r = a[0];
  int64_t at = 0;
  for (int64_t j = 1; j < n; j++) {
    num x = a[j];
    if (i->op == NNI_RED_rsum) r.f += x.f, r.i = (int64_t)((uint64_t)r.i + (uint64_t)x.i);
    else if (i->op == NNI_RED_rprod) r.f *= x.f, r.i = (int64_t)((uint64_t)r.i * (uint64_t)x.i);
    else if (real ? (r.f == r.f && (x.f != x.f || (min ? x.f < r.f : x.f > r.f))) : (min ? x.i < r.i : x.i > r.i)) r = x, at = j;
  }
  if (i->op == NNI_RED_rargmax || i->op == NNI_RED_rargmin) return (num){0, at};
  if (i->cls == NNI_I) r.i = (int32_t)r.i;
  r.f = rounded(r.f, (nn_dtype)i->dtype);
  return r;
}
static int64_t offset_of(const prog *g, const nni_access *a, int64_t row, int64_t col) {
  int64_t at = a->level == NNI_ROW ? 0 : col * a->stride[g->p.ndim - 1];
  for (int d = g->p.ndim - 2; d >= 0; row /= g->p.shape[d--]) at += row % g->p.shape[d] * a->stride[d];
  return at;
}
static void interpret(const prog *g, void *const *in, void *const *out, const nni_param *par) {
  int64_t rows = g->p.rows, cols = g->p.cols;
  num *v[128];
  for (int n = 0; n < g->p.ninstr; n++) {
    const nni_rinstr *i = &g->code[n];
    int64_t width = i->level == NNI_ROW ? 1 : cols;
    v[n] = malloc((size_t)(rows * width) * sizeof(num));
    for (int64_t e = 0; e < rows * width; e++) {
      num arg[3] = {{0, 0}, {0, 0}, {0, 0}}, r = {0, 0};
      int64_t row = e / width, col = e % width;
      for (int k = 0; k < i->nargs && i->kind != NNI_R_REDUCE; k++)
        arg[k] = v[i->a[k]][g->code[i->a[k]].level == NNI_ROW ? row : row * cols + col];
      switch (i->kind) {
      case NNI_R_LOAD: r = get(in[i->slot], g->p.in[i->slot].dtype, offset_of(g, &g->p.in[i->slot], row, col)); break;
      case NNI_R_PARAM:
        r = (num){i->cls == NNI_F ? (double)(float)par[i->slot].f : par[i->slot].f, (int64_t)par[i->slot].f};
        if (!is_real(i->cls)) r = to_dtype(r, NNI_L, (nn_dtype)i->dtype);
        break;
      case NNI_R_INDEX: r.i = e; break;
      case NNI_R_RANDOM: {
        nni_philox w = nni_philox4x32(par[i->slot].u, (uint64_t)e / 4, par[i->slot + 1].u);
        r.f = (double)nni_uniform01(w.v[e % 4]);
        break;
      }
      case NNI_R_CAST: r = to_dtype(arg[0], i->opcls, (nn_dtype)i->dtype); break;
      case NNI_R_PW: r = pw_one(i, arg); break;
      case NNI_R_REDUCE: r = reduce_one(i, v[i->a[0]] + row * cols, cols); break;
      default: {
        int from = g->code[i->a[0]].level == NNI_ROW && i->level == NNI_FULL ? 1 : 0;
        r = v[i->a[0]][from ? row : e];
        put(out[i->slot], g->p.out[i->slot].dtype, e, to_dtype(r, g->code[i->a[0]].cls, g->p.out[i->slot].dtype));
      }
      }
      v[n][e] = r;
    }
  }
  for (int n = 0; n < g->p.ninstr; n++) free(v[n]);
}

/* ---- running a case ------------------------------------------------------------------------------------------------------------------------- */
static nni_memory *mem;
static nni_threads *pools[3];
static uint64_t seed = 1;
static double uniform(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(seed >> 40) / 16777216.0;
}
static int64_t below(int64_t n) { return (int64_t)(uniform() * (double)n); }

enum { SMALL, WHOLE, SPECIAL }; /* kinds of data */
static void fill(void *p, nn_dtype d, int64_t n, int kind) {
  static const float odd[] = {0.f, -0.f, 1.f, -1.f, NAN, INFINITY, -INFINITY, 3e9f,
                              -3e9f, 1e19f, -1e19f, 255.f, 256.5f, -1.5f, 0.5f, 2147483647.f, 1e-40f};
  for (int64_t i = 0; i < n; i++) {
    num x = {uniform() * 4 - 2, below(1000) - 500};
    if (kind == WHOLE) x.f = (double)(below(17) - 8) / 2;
    if (kind == SPECIAL) x.f = (double)odd[below(17)];
    if (kind == SPECIAL && d == NN_I32) x.i = below(2) ? INT32_MAX - below(3) : INT32_MIN + below(3);
    if (kind == SPECIAL && d == NN_I64) x.i = below(2) ? INT64_MAX - below(3) : below(3) - INT64_MAX;
    if (d == NN_BOOL) x.i &= 1;
    put(p, d, i, x);
  }
}
static int64_t extent(const prog *g, const nni_access *a) {
  int64_t at = 1;
  for (int d = 0; d < g->p.ndim - (a->level == NNI_ROW); d++) at += (g->p.shape[d] - 1) * a->stride[d];
  return at;
}
static int64_t out_count(const prog *g, int o) { return g->p.out[o].level == NNI_ROW ? g->p.rows : g->p.rows * g->p.cols; }

static void compare_out(const prog *g, int o, const void *got, const void *want, double tol) {
  nn_dtype d = g->p.out[o].dtype;
  int64_t n = out_count(g, o);
  for (int64_t e = 0; e < n; e++) {
    num x = get(got, d, e), y = get(want, d, e);
    bool same = !nn_dtype_is_float(d) ? x.i == y.i : x.f == y.f || (x.f != x.f && y.f != y.f) ||
                  (isfinite(y.f) && fabs(x.f - y.f) <= tol * fmax(1, fabs(y.f)));
    if (!same) {
      FAIL("%s (%lldx%lld): output %d element %lld: %.9g/%lld, want %.9g/%lld", g->name, (long long)g->p.rows, (long long)g->p.cols, o, (long long)e,
           x.f, (long long)x.i, y.f, (long long)y.i);
      return;
    }
  }
}
/* inplace[o]: number of the input whose memory output o takes; NULL or -1: none */
static void check(prog *g, int kind, double tol, const int *inplace) {
  void *in[16], *out[16], *want[16], *first[16], *work[16];
  size_t size[16];
  static const nni_param par[] = {{.f = 0.75}, {.f = -2}, {.f = 200}, {.f = 3}, {.u = 0x123456789abcdefu}, {.u = 0xfedcba9876543210u}};
  checks++;
  for (int i = 0; i < g->p.nin; i++) {
    size[i] = (size_t)extent(g, &g->p.in[i]) * nn_dtype_size(g->p.in[i].dtype);
    in[i] = nni_buffer_get(mem, size[i]);
    fill(in[i], g->p.in[i].dtype, extent(g, &g->p.in[i]), kind);
  }
  for (int o = 0; o < g->p.nout; o++) want[o] = malloc((size_t)out_count(g, o) * nn_dtype_size(g->p.out[o].dtype));
  interpret(g, in, want, par);
  void *c = nn_cpu_program_new(mem, &g->p);
  if (!c) FAIL("%s: not compiled", g->name);
  for (int t = -1; t < 3 && c; t++) {
    size_t scratch_size = nn_cpu_program_scratch(c, t < 0 ? 1 : t + 1);
    void *scratch = nni_buffer_get(mem, scratch_size);
    memset(scratch, 0x77, scratch_size);
    for (int i = 0; i < g->p.nin; i++) {
      work[i] = nni_buffer_get(mem, size[i]);
      memcpy(work[i], in[i], size[i]);
    }
    for (int o = 0; o < g->p.nout; o++) {
      size_t n = (size_t)out_count(g, o) * nn_dtype_size(g->p.out[o].dtype);
      out[o] = inplace && inplace[o] >= 0 ? work[inplace[o]] : memset(nni_buffer_get(mem, n + 64), 0x5a, n + 64);
    }
    nn_cpu_program_run(c, t < 0 ? NULL : pools[t], work, out, par, scratch);
    for (int o = 0; o < g->p.nout; o++) {
      size_t n = (size_t)out_count(g, o) * nn_dtype_size(g->p.out[o].dtype);
      bool own = !(inplace && inplace[o] >= 0);
      compare_out(g, o, out[o], want[o], tol);
      for (int k = 0; own && k < 64; k++)
        if (((uint8_t *)out[o])[n + (size_t)k] != 0x5a) {
          FAIL("%s: output %d: written past its end", g->name, o);
          break;
        }
      if (t < 0) first[o] = memcpy(malloc(n), out[o], n);
      else if (memcmp(first[o], out[o], n) != 0) FAIL("%s: output %d: other bits with %d threads", g->name, o, t + 1);
      if (own) nni_buffer_put(mem, out[o], n + 64);
    }
    for (int i = 0; i < g->p.nin; i++) nni_buffer_put(mem, work[i], size[i]);
    nni_buffer_put(mem, scratch, scratch_size);
  }
  for (int o = 0; o < g->p.nout; o++) {
    if (c) free(first[o]);
    free(want[o]);
  }
  for (int i = 0; i < g->p.nin; i++) nni_buffer_put(mem, in[i], size[i]);
  nn_cpu_program_free(mem, c);
}

/* ---- cases ------------------------------------------------------------------------------------------------------------------------------------- */
#define SHAPE(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}
static const int64_t col_sizes[] = {1, 2, 3, 10, 16, 17, 100, 255, 256, 257, 1000, 5000};

static void chain_case(int64_t n, const int *inplace) {
  prog pr, *g = &pr;
  start(g, "relu(tanh(x*y+z)*x-y)", SHAPE(n));
  int x = dense(g, NN_F32), y = dense(g, NN_F32), z = dense(g, NN_F32);
  store(g, NN_F32, F1(relu, F2(sub, F2(mul, F1(tanh, F2(add, F2(mul, x, y), z)), x), y)));
  check(g, SMALL, 1e-6, inplace);
}
static void softmax_case(int64_t rows, int64_t cols, const int *inplace) {
  prog pr, *g = &pr;
  start(g, "softmax", SHAPE(rows, cols));
  int x = dense(g, NN_F32), e = F1(exp, F2(sub, x, reduce(g, NNI_RED_rmax, NN_F32, x)));
  int s = reduce(g, NNI_RED_rsum, NN_F32, e);
  store(g, NN_F32, F2(div, e, s));
  store(g, NN_F32, F1(log, s));
  check(g, SMALL, 1e-6, inplace);
}
static void adam_case(int64_t n, const int *inplace) {
  prog pr, *g = &pr;
  start(g, "adam", SHAPE(n));
  int p = dense(g, NN_F32), d = dense(g, NN_F32), m = dense(g, NN_F32), v = dense(g, NN_F32), b1 = param(g, NN_F32, 0), one = param(g, NN_F32, 3);
  int r = F2(sub, one, b1); /* the same in every tile */
  int m2 = F2(add, F2(mul, m, b1), F2(mul, d, r)), v2 = F2(add, F2(mul, v, b1), F2(mul, F1(square, d), r));
  store(g, NN_F32, m2);
  store(g, NN_F32, v2);
  store(g, NN_F32, F2(sub, p, F2(div, m2, F2(add, F1(sqrt, F1(abs, v2)), one))));
  check(g, SMALL, 1e-6, inplace);
}
static void broadcast_cases(int64_t a, int64_t b, int64_t c) {
  const int64_t strides[][3] = {{b * c, c, 1}, {0, 0, 1}, {1, 0, 0}, {0, 0, 0}, {c, 0, 1}, {0, 1, 0}, {b, 1, 0}, {1, a * c, a}, {2 * b * c, 2 * c, 2},
                                {b * (c + 3), c + 3, 1}, {0, 0, 5}, {0, c, 1}};
  const nn_dtype types[] = {NN_F32, NN_I32, NN_U8, NN_BOOL, NN_I64};
  for (int i = 0; i < NNI_COUNT(strides); i++)
    for (int t = 0; t < NNI_COUNT(types); t++) {
      prog pr, *g = &pr;
      start(g, "broadcast", SHAPE(a, b, c));
      int x = load(g, types[t], NNI_FULL, strides[i]), y = dense(g, NN_F32);
      store(g, NN_F32, F2(add, cast(g, NN_F32, x), y));
      if (t == 0) store(g, types[t], x);
      check(g, SMALL, 0, NULL);
      start(g, "broadcast, reduced", SHAPE(a, b, c));
      x = load(g, types[t], NNI_FULL, strides[i]);
      int r = load(g, NN_F32, NNI_ROW, i % 2 ? NULL : (int64_t[]){1, 0, 0}), s = reduce(g, NNI_RED_rmax, types[t], x);
      store(g, NN_F32, F2(sub, cast(g, NN_F32, x), F2(mul, r, cast(g, NN_F32, s))));
      store(g, types[t], s);
      store(g, NN_F32, r);
      store(g, types[t], x);
      check(g, SMALL, 0, NULL);
    }
}
static void cast_cases(void) {
  for (int from = 0; from < NN_NDTYPE; from++)
    for (int to = 0; to < NN_NDTYPE; to++)
      for (int special = 0; special < 2; special++) {
        prog pr, *g = &pr;
        start(g, "cast", SHAPE(special ? 3000 : 77));
        store(g, (nn_dtype)to, cast(g, (nn_dtype)to, dense(g, (nn_dtype)from)));
        check(g, special ? SPECIAL : SMALL, 0, NULL);
        start(g, "cast of rows", SHAPE(40, 7));
        int x = dense(g, (nn_dtype)from), m = cast(g, (nn_dtype)to, reduce(g, NNI_RED_rmin, (nn_dtype)from, x));
        store(g, (nn_dtype)to, m);
        check(g, special ? SPECIAL : SMALL, 0, NULL);
      }
}
static void draw_cases(void) {
  static const int64_t shapes[][2] = {{1, 5}, {1, 100000}, {333, 7}, {11, 301}, {2, 5000}, {5, 255}};
  for (int i = 0; i < NNI_COUNT(shapes); i++) {
    prog pr, *g = &pr;
    start(g, "random and index", SHAPE(shapes[i][0], shapes[i][1]));
    int u = (emit(g, NNI_R_RANDOM, NNI_FULL, NN_F32)->slot = 4, last(g));
    int n = (emit(g, NNI_R_INDEX, NNI_FULL, NN_I64), last(g));
    int half = param(g, NN_F32, 0), x = dense(g, NN_F32);
    store(g, NN_F32, u);
    store(g, NN_I64, n);
    store(g, NN_F32, pw(g, NNI_PW_where, NN_F32, pw(g, NNI_PW_lt, NN_BOOL, u, half, -1), x, half));
    if (i % 2) store(g, NN_I64, reduce(g, NNI_RED_rsum, NN_I64, n));
    check(g, SMALL, 0, NULL);
  }
}
static void reduce_cases(void) {
  const nn_dtype types[] = {NN_F32, NN_I32, NN_I64, NN_U8, NN_BOOL};
  for (int c = 0; c < NNI_COUNT(col_sizes); c++)
    for (int t = 0; t < NNI_COUNT(types); t++)
      for (int op = 0; op < NNI_NRED; op++)
        for (int kind = WHOLE; kind <= SPECIAL; kind++) {
          bool position = op == NNI_RED_rargmax || op == NNI_RED_rargmin, sum = op == NNI_RED_rsum || op == NNI_RED_rprod;
          if (t == 0 && (op == NNI_RED_rprod || (sum && kind == SPECIAL))) continue; /* order matters: checked elsewhere */
          prog pr, *g = &pr;
          start(g, "reduce", SHAPE(37, col_sizes[c]));
          nn_dtype d = position || (sum && t >= 3) ? NN_I64 : types[t];
          int x = dense(g, types[t]);
          if (sum && t >= 3) x = cast(g, NN_I64, x);
          store(g, d, reduce(g, op, d, x));
          check(g, kind, 0, NULL);
        }
  prog pr, *g = &pr;
  start(g, "product", SHAPE(9, 33));
  store(g, NN_F32, reduce(g, NNI_RED_rprod, NN_F32, dense(g, NN_F32)));
  check(g, SMALL, 1e-6, NULL);
  start(g, "sum of a million", SHAPE(2, 1000003));
  store(g, NN_F32, reduce(g, NNI_RED_rsum, NN_F32, dense(g, NN_F32)));
  check(g, SMALL, 2e-6, NULL);
  start(g, "long rows, cut", SHAPE(3, 16384 + 777));
  int a = dense(g, NN_F32), b = load(g, NN_F32, NNI_ROW, NULL), c = dense(g, NN_I32), d = F2(sub, a, b), k = param(g, NN_F32, 0);
  int m = reduce(g, NNI_RED_rmax, NN_F32, d), n = reduce(g, NNI_RED_rsum, NN_I32, c);
  store(g, NN_F32, F2(mul, F2(add, m, cast(g, NN_F32, n)), F2(sub, b, k)));
  store(g, NN_F32, F1(abs, d));
  store(g, NN_I32, reduce(g, NNI_RED_rmin, NN_I32, c));
  store(g, NN_F32, b);
  store(g, NN_F32, reduce(g, NNI_RED_rsum, NN_F32, F1(square, d)));
  check(g, SMALL, 2e-6, NULL);
  start(g, "long rows, whole", SHAPE(3, 16384 + 777));
  a = dense(g, NN_F32);
  store(g, NN_F32, F2(sub, a, reduce(g, NNI_RED_rmax, NN_F32, a)));
  store(g, NN_I64, reduce(g, NNI_RED_rargmax, NN_I64, a));
  check(g, SMALL, 0, NULL);
  start(g, "sums of u8 and bool without a cast", SHAPE(12, 3000));
  int u = dense(g, NN_U8), v = dense(g, NN_BOOL);
  store(g, NN_I64, reduce(g, NNI_RED_rsum, NN_I64, u));
  store(g, NN_I64, reduce(g, NNI_RED_rsum, NN_I64, v));
  check(g, SMALL, 0, NULL);
}
/* A sum has the same bits whether its row was cut into segments, and whatever else the program does. */
static void sum_bits_case(int64_t cols) {
  float got[2][2], *x = nni_buffer_get(mem, (size_t)cols * 8), *y = nni_buffer_get(mem, (size_t)cols * 8);
  fill(x, NN_F32, 2 * cols, SMALL);
  for (int whole = 0; whole < 2; whole++) {
    prog pr, *g = &pr;
    start(g, "sum", SHAPE(2, cols));
    int a = dense(g, NN_F32), s = reduce(g, NNI_RED_rsum, NN_F32, whole ? F1(neg, F1(neg, a)) : a);
    store(g, NN_F32, s);
    if (whole) store(g, NN_F32, F2(mul, a, s));
    void *c = nn_cpu_program_new(mem, &g->p), *out[] = {got[whole], y}, *in[] = {x};
    size_t n = nn_cpu_program_scratch(c, 3);
    void *scratch = nni_buffer_get(mem, n);
    nn_cpu_program_run(c, pools[2], in, out, NULL, scratch);
    nni_buffer_put(mem, scratch, n);
    nn_cpu_program_free(mem, c);
  }
  checks++;
  if (memcmp(got[0], got[1], sizeof got[0]) != 0) FAIL("sum of %lld: %.9g cut, %.9g whole", (long long)cols, (double)got[0][0], (double)got[1][0]);
  nni_buffer_put(mem, x, (size_t)cols * 8);
  nni_buffer_put(mem, y, (size_t)cols * 8);
}
static void run_once(const prog *g, void *const *in, void *const *out, int threads) {
  static const nni_param par[] = {{.f = 0.75}};
  void *c = nn_cpu_program_new(mem, &g->p);
  size_t n = nn_cpu_program_scratch(c, threads);
  void *scratch = nni_buffer_get(mem, n);
  nn_cpu_program_run(c, pools[threads - 1], in, out, par, scratch);
  nni_buffer_put(mem, scratch, n);
  nn_cpu_program_free(mem, c);
}
/* Instruction after instruction in a program of its own, f32 throughout: value[i] becomes the result of instruction i. */
static void run_apart(const prog *g, void *const *in, float **value, size_t bytes) {
  for (int n = 0; n < g->p.ninstr; n++) {
    const nni_rinstr *s = &g->code[n];
    prog pr;
    void *from[3];
    int a[3] = {-1, -1, -1};
    value[n] = NULL;
    if (s->kind == NNI_R_LOAD) memcpy(value[n] = nni_buffer_get(mem, bytes), in[s->slot], bytes);
    if (s->kind != NNI_R_PW && s->kind != NNI_R_REDUCE) continue;
    start(&pr, g->name, g->p.ndim, g->p.shape);
    for (int k = 0; k < s->nargs; k++) {
      const nni_rinstr *o = &g->code[s->a[k]];
      if (o->kind != NNI_R_PARAM) from[pr.p.nin] = value[s->a[k]];
      a[k] = o->kind == NNI_R_PARAM ? param(&pr, NN_F32, o->slot) : load(&pr, NN_F32, o->level, NULL);
    }
    store(&pr, NN_F32, s->kind == NNI_R_PW ? pw(&pr, s->op, NN_F32, a[0], a[1], a[2]) : reduce(&pr, s->op, NN_F32, a[0]));
    value[n] = nni_buffer_get(mem, bytes);
    run_once(&pr, from, (void *[]){value[n]}, 1);
  }
}
/* What steps give as links of chains has the bits of the steps one by one: row values on either side, results wanted in between, sums of products
** (no fused multiply-add), vector mathematics; with big arrays results that are written past the caches. */
static void chain_bits_case(int64_t rows, int64_t cols) {
  const size_t bytes = (size_t)(rows * cols) * 4;
  prog pr, *g = &pr;
  start(g, "chain", SHAPE(rows, cols));
  int x = dense(g, NN_F32), y = dense(g, NN_F32), k = param(g, NN_F32, 0);
  int m = F2(mul, reduce(g, NNI_RED_rsum, NN_F32, x), k), c = F2(sub, x, m);
  int v = F1(rsqrt, F2(add, reduce(g, NNI_RED_rsum, NN_F32, F1(square, c)), k)), z = F2(add, F2(mul, F2(mul, c, v), y), k);
  int e = F1(exp, F2(sub, F2(mul, z, k), reduce(g, NNI_RED_rmax, NN_F32, z)));
  int d = F2(div, reduce(g, NNI_RED_rsum, NN_F32, e), F2(add, F1(tanh, e), k));
  int last = F2(minimum, F2(maximum, F2(sub, k, F2(mul, d, d)), F1(neg, y)), F1(abs, F1(relu, F2(mul, z, d))));
  int kept[] = {z, d, reduce(g, NNI_RED_rmin, NN_F32, F2(add, F2(mul, c, y), x)), last};
  float *value[128];
  void *in[2], *out[4];
  for (int i = 0; i < 2; i++) fill(in[i] = nni_buffer_get(mem, bytes), NN_F32, rows * cols, SMALL);
  for (int o = 0; o < 4; o++) store(g, NN_F32, kept[o]), out[o] = nni_buffer_get(mem, bytes);
  run_apart(g, in, value, bytes);
  for (int threads = 1; threads <= 3; threads += 2) {
    run_once(g, in, out, threads);
    for (int o = 0; o < 4; o++, checks++)
      if (memcmp(out[o], value[kept[o]], (size_t)out_count(g, o) * 4) != 0)
        FAIL("chain of %lldx%lld: output %d differs", (long long)rows, (long long)cols, o);
  }
  for (int n = 0; n < g->p.ninstr; n++)
    if (value[n]) nni_buffer_put(mem, value[n], bytes);
  for (int i = 0; i < 2; i++) nni_buffer_put(mem, in[i], bytes);
  for (int o = 0; o < 4; o++) nni_buffer_put(mem, out[o], bytes);
}
/* Every row of pointwise.def in every class it has, against scalars and splats too. */
static void row_cases(void) {
  for (int op = 0; op < NNI_NPW; op++) {
#define NN_PW(name, TYPE, sig, nargs, ...) {#name, #TYPE[0], nargs},
    static const struct { const char *name; char type; int nargs; } rows[] = {
#include "ops/pointwise.def"
    };
#undef NN_PW
    char type = rows[op].type;
    for (int d = 0; d < NN_NDTYPE; d++)
      for (int special = 0; special < 2; special++) {
        nn_dtype dt = (nn_dtype)d, rt = type == 'C' || type == 'B' ? NN_BOOL : dt;
        if ((type == 'F' && !nn_dtype_is_float(dt)) || (type == 'B' && dt != NN_BOOL) || (type == 'N' && dt == NN_BOOL) ||
            (type == 'I' && (dt == NN_BOOL || nn_dtype_is_float(dt))))
          continue;
        bool steep = op == NNI_PW_pow || op == NNI_PW_logit || op == NNI_PW_softplus;
        if ((steep && special) || op == NNI_PW_celu) continue; /* a rounding inside counts without bound: test_vm and the specs have them */
        prog pr, *g = &pr;
        start(g, rows[op].name, SHAPE(3, special ? 304 : 301)); /* whole vectors: rows with row values in one go */
        int x = dense(g, type == 'W' ? NN_BOOL : dt), y = dense(g, dt), z = dense(g, dt), k = param(g, dt, 2), r;
        int n = rows[op].nargs;
        if (op == NNI_PW_pow) x = pw(g, NNI_PW_abs, dt, x, -1, -1);
        store(g, rt, pw(g, op, rt, x, n > 1 ? y : -1, n > 2 ? z : -1));
        if (n > 1) store(g, rt, pw(g, op, rt, x, k, n > 2 ? k : -1));
        r = reduce(g, NNI_RED_rmax, type == 'W' ? NN_BOOL : dt, x);
        store(g, rt, pw(g, op, rt, r, n > 1 ? y : -1, n > 2 ? z : -1));
        if (n > 1 && type != 'W') store(g, rt, pw(g, op, rt, y, r, n > 2 ? z : -1));
        check(g, special ? SPECIAL : SMALL, dt == NN_F64 ? 1e-14 : dt == NN_F16 ? 1e-3 : dt == NN_BF16 ? 8e-3 : 1e-6, NULL);
      }
  }
}
/* Random programs of exact operators: every output must be equal to the bit. */
static void fuzz_case(uint64_t number) {
  static const int fop[] = {NNI_PW_add, NNI_PW_sub, NNI_PW_mul, NNI_PW_minimum, NNI_PW_maximum, NNI_PW_neg,
                            NNI_PW_abs, NNI_PW_relu, NNI_PW_floor, NNI_PW_clamp, NNI_PW_sqrt};
  static const int nargs[] = {2, 2, 2, 2, 2, 1, 1, 1, 1, 3, 1}, dims[] = {1, 2, 3, 7, 16, 31, 64, 256, 300};
  static const nn_dtype types[] = {NN_F32, NN_I32, NN_I64, NN_U8, NN_BOOL, NN_F64, NN_F16, NN_BF16};
  prog pr, *g = &pr;
  char name[40];
  int v[64], nv = 0, ndim = 1 + (int)below(3), inplace[16];
  int64_t shape[3];
  snprintf(name, sizeof name, "fuzz %llu", (unsigned long long)number);
  for (int d = 0; d < ndim; d++) shape[d] = dims[below(ndim == 3 ? 7 : 9)];
  if (ndim == 1) shape[0] = 1 + below(3000);
  start(g, name, ndim, shape);
  for (int i = 0, n = 1 + (int)below(4); i < n; i++) {
    int64_t st[3], s = 1;
    for (int d = ndim - 1; d >= 0; s *= shape[d--]) st[d] = s;
    int how = (int)below(4);
    for (int d = 0; d < ndim && how == 1; d++)
      if (below(2)) st[d] = 0;
    v[nv++] = load(g, types[below(8)], how == 2 ? NNI_ROW : NNI_FULL, how == 1 ? st : NULL);
  }
  v[nv++] = param(g, types[below(3)], 1);
  for (int i = 0, n = 1 + (int)below(24); i < n; i++) {
    int a = v[below(nv)], b = v[below(nv)], c = v[below(nv)], what = (int)below(8), k = (int)below(11), r;
    nn_dtype d = (nn_dtype)g->code[a].dtype;
    if (what == 0) r = cast(g, types[below(8)], a);
    else if (what == 1 && g->code[a].level == NNI_FULL) {
      static const int red[] = {NNI_RED_rmax, NNI_RED_rmin, NNI_RED_rargmax, NNI_RED_rargmin, NNI_RED_rsum};
      int op = red[below(5)];
      if (op == NNI_RED_rsum && nn_dtype_is_float(d)) op = NNI_RED_rmax;
      if (op == NNI_RED_rsum && (d == NN_U8 || d == NN_BOOL)) a = cast(g, d = NN_I64, a);
      r = reduce(g, op, op == NNI_RED_rargmax || op == NNI_RED_rargmin ? NN_I64 : d, a);
    } else if (what == 2) r = pw(g, NNI_PW_eq + (int)below(6), NN_BOOL, a, cast(g, d, b), -1);
    else if (what == 3) r = pw(g, NNI_PW_where, d, cast(g, NN_BOOL, b), a, cast(g, d, c));
    else if (what == 4) r = pw(g, NNI_PW_logical_and + (int)below(2), NN_BOOL, cast(g, NN_BOOL, a), cast(g, NN_BOOL, b), -1);
    else {
      if (d == NN_BOOL) a = cast(g, d = types[below(4)], a);
      if (!nn_dtype_is_float(d) && (fop[k] == NNI_PW_floor || fop[k] == NNI_PW_sqrt)) k = 0;
      r = pw(g, fop[k], d, a, nargs[k] > 1 ? cast(g, d, b) : -1, nargs[k] > 2 ? cast(g, d, c) : -1);
    }
    v[nv++] = r;
  }
  for (int o = 0, n = 1 + (int)below(4); o < n; o++) {
    int a = v[nv - 1 - below(nv < 5 ? nv : 5)];
    store(g, (nn_dtype)g->code[a].dtype, a);
    inplace[o] = -1;
    for (int i = 0; i < g->p.nin; i++) { /* take over an input that has one element per element */
      const nni_access *in = &g->p.in[i], *out = &g->p.out[o];
      bool taken = in->level != out->level || in->dtype != out->dtype || below(2);
      int64_t s = 1;
      for (int q = 0; q < o; q++) taken |= inplace[q] == i;
      for (int d = ndim - 1 - (in->level == NNI_ROW); d >= 0; s *= shape[d--]) taken |= in->stride[d] != s;
      if (!taken) inplace[o] = i;
    }
  }
  if (g->p.ninstr <= 128) check(g, below(2) ? WHOLE : SPECIAL, 0, inplace);
}

int main(void) {
  mem = nni_memory_open(NULL, NULL);
  for (int t = 0; t < 3; t++) pools[t] = nni_threads_open(mem, t + 1);
  static const int64_t ns[] = {1, 3, 16, 64, 255, 256, 257, 1000, 4097, 100003};
  for (int i = 0; i < NNI_COUNT(ns); i++)
    for (int in = -1; in < 3; in++) {
      chain_case(ns[i], &in);
      adam_case(ns[i], in < 0 ? NULL : in == 0 ? (int[]){2, 3, 0} : in == 1 ? (int[]){1, 3, 2} : (int[]){0, 1, 3});
    }
  for (int i = 0; i < NNI_COUNT(col_sizes); i++)
    for (int in = -1; in < 1; in++) {
      softmax_case(1, col_sizes[i], (int[]){in, -1});
      softmax_case(67, col_sizes[i], (int[]){in, -1});
    }
  broadcast_cases(5, 7, 10);
  broadcast_cases(3, 4, 300);
  broadcast_cases(6, 1, 33);
  broadcast_cases(9, 5, 1);
  broadcast_cases(1, 1, 700);
  cast_cases();
  draw_cases();
  reduce_cases();
  row_cases();
  sum_bits_case(16384);
  sum_bits_case(50001);
  sum_bits_case(1000003);
  static const int64_t widths[] = {1, 5, 16, 64, 100, 128, 200, 1000, 2048, 5000, 50001};
  for (int i = 0; i < NNI_COUNT(widths); i++) {
    chain_bits_case(1, widths[i]);
    chain_bits_case(37, widths[i]);
  }
  chain_bits_case(2049, 1024); /* more than caches hold; so are these, with rows that do not start at whole vectors */
  chain_bits_case(16003, 100);
  const char *part = getenv("NNLUA_TEST_SHARE"); /* one of so many random programs (under an emulator) */
  for (uint64_t i = 0; i < 1500; i += part && atoi(part) > 0 ? (uint64_t)atoi(part) : 1) {
    seed = i * 977 + 5;
    below(2);
    fuzz_case(i);
  }
  for (int t = 0; t < 3; t++) nni_threads_close(pools[t]);
  size_t live = nni_memory_stats(mem).live;
  if (live) FAIL("%zu bytes were not given back", live);
  nni_memory_close(mem);
  printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
