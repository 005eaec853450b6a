/* tests/c/test_emit.c - row programs as SPIR-V. Every module must pass spirv-val (where that is installed), be the same when it is emitted again,
** and run on the first Vulkan device (where there is one) to the CPU's results: whole numbers to the bit, floats within a few units.
**
** test_program.c holds the CPU's row programs against a naive interpreter, so what they give is the reference here.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu/program.h"
#include "nomem.h"
#include "row_program.h"
#include "vulkan/emit.h"

static int failures, checks, valid, ran;
#define FAIL(...) (failures++ < 40 ? (void)(printf(__VA_ARGS__), putchar('\n')) : (void)0)
static nni_memory *mem;
static nni_device *dev; /* NULL: none here */
static bool validator, verbose;

/* ---- data -------------------------------------------------------------------------------------------------------------------- */
static uint64_t seed = 1;
static double uniform(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(seed >> 40) / 16777216.0;
}
static int64_t below(int64_t n) { return (int64_t)(uniform() * (double)n); }
enum { SMALL, WHOLE, SPECIAL };
static void fill(void *p, nn_dtype d, int64_t n, int kind) {
  static const float odd[] = {0.f, -0.f, 1.f, -1.f, NAN, INFINITY, -INFINITY, 3e9f, -3e9f, 1e19f, -1e19f, 255.f, 256.5f, -1.5f, 0.5f,
                              2147483647.f, 1e-30f};
  for (int64_t i = 0; i < n; i++) {
    double f = uniform() * 4 - 2;
    int64_t k = below(1000) - 500;
    if (kind == WHOLE) f = (double)(below(17) - 8) / 2;
    if (kind == SPECIAL) f = (double)odd[below(17)];
    if (kind == SPECIAL && d == NN_I32) k = below(2) ? INT32_MAX - below(3) : INT32_MIN + below(3);
    if (kind == SPECIAL && d == NN_I64) k = below(2) ? INT64_MAX - below(3) : below(3) - INT64_MAX;
    if (d == NN_BOOL) k &= 1;
    if (nn_dtype_is_float(d)) nn_element_write(d, (char *)p + (size_t)i * nn_dtype_size(d), f, 0);
    else if (d == NN_I64) ((int64_t *)p)[i] = k;
    else if (d == NN_I32) ((int32_t *)p)[i] = (int32_t)k;
    else ((uint8_t *)p)[i] = (uint8_t)k;
  }
}
static bool same(nn_dtype d, const void *x, const void *y, int64_t at, double tol, double *a, double *b) {
  size_t n = nn_dtype_size(d);
  const char *p = (const char *)x + (size_t)at * n, *q = (const char *)y + (size_t)at * n;
  if (!nn_dtype_is_float(d)) {
    int64_t i = 0, j = 0;
    memcpy(&i, p, n);
    memcpy(&j, q, n);
    *a = (double)i;
    *b = (double)j;
    return i == j;
  }
  nn_element_read(d, p, a, &(int64_t){0});
  nn_element_read(d, q, b, &(int64_t){0});
  if (*a == *b || (*a != *a && *b != *b)) return true;
  return isfinite(*b) && fabs(*a - *b) <= tol * fmax(1, fabs(*b)) + 1.2e-38; /* a device may flush denormals */
}

/* ---- one program: validator, then device ------------------------------------------------------------------------------------- */
static uint64_t hash_of(const nn_vk_module *m) {
  uint64_t h = m->nwords;
  for (size_t i = 0; i < m->nwords; i++) h = (h ^ m->words[i]) * 0x9E3779B97F4A7C15u, h ^= h >> 29;
  return h;
}
static bool is_new(uint64_t h) { /* not validated yet */
  static uint64_t seen[1 << 14];
  size_t k = h & ((1 << 14) - 1);
  for (; seen[k]; k = (k + 1) & ((1 << 14) - 1))
    if (seen[k] == h) return false;
  seen[k] = h;
  return true;
}
static bool validate(const prog *g, const nn_vk_module *m) {
  FILE *f = popen("spirv-val --target-env vulkan1.2 -", "w");
  if (!f) return false;
  size_t n = fwrite(m->words, 4, m->nwords, f);
  if (pclose(f) == 0 && n == m->nwords) return valid++, true;
  FAIL("%s: spirv-val refuses the module", g->name);
  char name[64];
  snprintf(name, sizeof name, "emit_failed_%d.spv", failures);
  f = fopen(name, "wb");
  if (f) {
    fwrite(m->words, 4, m->nwords, f);
    fclose(f);
  }
  return false;
}
static bool check_module(const prog *g) {
  nn_vk_module m, again;
  nni_error err = {0};
  bool good = true;
  if (nn_vk_emit(mem, &g->p, 0, &m, &err) != NN_OK) {
    FAIL("%s: not emitted: %s", g->name, err.text);
    return false;
  }
  if (is_new(hash_of(&m)) && validator) good = validate(g, &m);
  if (nn_vk_emit(mem, &g->p, 0, &again, &err) != NN_OK || again.nwords != m.nwords || memcmp(again.words, m.words, m.nwords * 4) != 0)
    FAIL("%s: other words when emitted again", g->name);
  nni_free(mem, m.words, m.nwords * 4);
  nni_free(mem, again.words, again.nwords * 4);
  return good;
}

static const nni_param par[] = {{.f = 0.75}, {.f = -2}, {.f = 200}, {.f = 3}, {.u = 0x123456789abcdefu}, {.u = 0xfedcba9876543210u}};
static int64_t in_count(const prog *g, int i) {
  int64_t n = 1;
  for (int d = 0; d < g->p.ndim - (g->p.in[i].level == NNI_ROW); d++) n += (g->p.shape[d] - 1) * g->p.in[i].stride[d];
  return n;
}
static int64_t out_count(const prog *g, int o) { return g->p.out[o].level == NNI_ROW ? g->p.rows : g->p.rows * g->p.cols; }
static size_t in_bytes(const prog *g, int i) { return (size_t)in_count(g, i) * nn_dtype_size(g->p.in[i].dtype); }
static size_t out_bytes(const prog *g, int o) { return (size_t)out_count(g, o) * nn_dtype_size(g->p.out[o].dtype); }

/* The device's result in out[]. inplace[o]: number of the input whose memory output o takes; NULL or -1: none. */
static bool run_device(const prog *g, void *const *in, void *const *out, const int *inplace) {
  void *din[16], *dout[16], *address[32], *rec = NULL, *c = dev->is->program_new(dev, &g->p);
  nni_operand oin[16] = {{0}}, oout[16] = {{0}};
  nni_error err = {0};
  bool replay = false, good = c != NULL;
  int n = 0;
  if (!c) return false;
  for (int i = 0; i < g->p.nin; i++) {
    oin[i].data = address[n++] = din[i] = dev->is->buffer_get(dev, in_bytes(g, i));
    oin[i].dtype = g->p.in[i].dtype;
    good = good && din[i] && dev->is->upload(dev, din[i], in[i], in_bytes(g, i), &err) == NN_OK;
  }
  for (int o = 0; o < g->p.nout; o++) {
    bool own = !(inplace && inplace[o] >= 0);
    oout[o].data = address[n++] = dout[o] = own ? dev->is->buffer_get(dev, out_bytes(g, o) + 64) : din[inplace[o]];
    oout[o].dtype = g->p.out[o].dtype;
    good = good && dout[o];
    char *mark = own ? malloc(out_bytes(g, o) + 64) : NULL;
    if (own) good = good && dev->is->upload(dev, dout[o], memset(mark, 0x5a, out_bytes(g, o) + 64), out_bytes(g, o) + 64, &err) == NN_OK;
    free(mark);
  }
  nni_submission s = {.recorded = &rec, .address = address, .naddress = n, .param = par, .nparam = NNI_COUNT(par), .err = &err};
  nni_kernel_call k = {.dev = dev, .in = oin, .out = oout, .nin = g->p.nin, .nout = g->p.nout, .pa = par, .param = 0, .err = &err};
  good = good && dev->is->begin(dev, &s, &replay) == NN_OK;
  if (good) {
    good = dev->is->program_run(c, &k) == NN_OK;
    good = dev->is->end(dev, !good, &err) == NN_OK && good;
  }
  for (int o = 0; o < g->p.nout && good; o++) {
    bool own = !(inplace && inplace[o] >= 0);
    size_t bytes = out_bytes(g, o);
    char *got = malloc(bytes + 64);
    good = dev->is->download(dev, got, dout[o], bytes + (own ? 64 : 0), &err) == NN_OK;
    memcpy(out[o], got, bytes);
    for (int b = 0; b < 64 && own && good; b++)
      if (got[bytes + (size_t)b] != 0x5a) {
        FAIL("%s: output %d: written past its end", g->name, o);
        break;
      }
    free(got);
  }
  if (!good) FAIL("%s: does not run: %s", g->name, err.text);
  for (int o = 0; o < g->p.nout; o++)
    if (!(inplace && inplace[o] >= 0) && dout[o]) dev->is->buffer_put(dev, dout[o], out_bytes(g, o) + 64);
  for (int i = 0; i < g->p.nin; i++)
    if (din[i]) dev->is->buffer_put(dev, din[i], in_bytes(g, i));
  if (rec) dev->is->recorded_free(dev, rec);
  dev->is->program_free(dev, c);
  return good;
}

static void compare(const prog *g, int kind, double tol, const int *inplace) {
  void *in[16], *want[16], *got[16];
  void *c = nn_cpu_program_new(mem, &g->p);
  size_t n = c ? nn_cpu_program_scratch(c, 1) : 0;
  void *scratch = nni_buffer_get(mem, n);
  for (int i = 0; i < g->p.nin; i++) {
    in[i] = nni_buffer_get(mem, in_bytes(g, i));
    fill(in[i], g->p.in[i].dtype, in_count(g, i), kind);
  }
  for (int o = 0; o < g->p.nout; o++) want[o] = nni_buffer_get(mem, out_bytes(g, o)), got[o] = nni_buffer_get(mem, out_bytes(g, o));
  nn_cpu_program_run(c, NULL, in, want, par, scratch);
  bool good = run_device(g, in, got, inplace);
  for (int o = 0; o < g->p.nout && good; o++) {
    int64_t count = out_count(g, o);
    double x, y;
    for (int64_t e = 0; e < count; e++)
      if (!same(g->p.out[o].dtype, got[o], want[o], e, tol, &x, &y)) {
        FAIL("%s (%lldx%lld): output %d element %lld: %.9g, want %.9g", g->name, (long long)g->p.rows, (long long)g->p.cols, o, (long long)e, x, y);
        break;
      }
  }
  ran += good;
  if (good && checks % 8 == 0) { /* once more: the same bits */
    for (int o = 0; o < g->p.nout; o++) memcpy(want[o], got[o], out_bytes(g, o));
    good = run_device(g, in, got, inplace);
    for (int o = 0; o < g->p.nout && good; o++)
      if (memcmp(want[o], got[o], out_bytes(g, o)) != 0) FAIL("%s: other bits in the second run", g->name);
  }
  for (int o = 0; o < g->p.nout; o++) nni_buffer_put(mem, want[o], out_bytes(g, o)), nni_buffer_put(mem, got[o], out_bytes(g, o));
  for (int i = 0; i < g->p.nin; i++) nni_buffer_put(mem, in[i], in_bytes(g, i));
  nni_buffer_put(mem, scratch, n);
  nn_cpu_program_free(mem, c);
}
static void check(const prog *g, int kind, double tol, const int *inplace) {
  checks++;
  if (check_module(g) && dev) compare(g, kind, tol, inplace);
}

/* ---- cases ------------------------------------------------------------------------------------------------------------------- */
#define SHAPE(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}
static const nn_dtype all[] = {NN_F32, NN_F16, NN_BF16, NN_I32, NN_I64, NN_U8, NN_BOOL};
static double tolerance(nn_dtype d) { return d == NN_F16 ? 1e-3 : d == NN_BF16 ? 8e-3 : 1e-6; }

/* every row of pointwise.def in every dtype it has, with numbers and row values as operands too */
static void row_cases(void) {
#define NN_PW(name, TYPE, sig, nargs, ...) {#name, #TYPE[0], nargs},
  static const struct { const char *name; char type; int nargs; } rows[] = {
#include "ops/pointwise.def"
  };
#undef NN_PW
  for (int op = 0; op < NNI_NPW; op++)
    for (int t = 0; t < NNI_COUNT(all); t++)
      for (int special = 0; special < 2; special++) {
        char type = rows[op].type;
        int n = rows[op].nargs;
        nn_dtype dt = all[t], rt = type == 'C' || type == 'B' ? NN_BOOL : dt;
        if ((type == 'F' && !nn_dtype_is_float(dt)) || (type == 'B' && dt != NN_BOOL) || (type == 'N' && dt == NN_BOOL)) continue;
        if (type == 'I' && (dt == NN_BOOL || nn_dtype_is_float(dt))) continue;
        bool steep = op == NNI_PW_pow || op == NNI_PW_logit || op == NNI_PW_softplus || op == NNI_PW_celu; /* a rounding inside counts a lot */
        double tol = steep ? 1e-4 : tolerance(dt) * (op == NNI_PW_gelu_erf ? 3 : 1);
        prog pr, *g = &pr;
        start(g, rows[op].name, SHAPE(700));
        int x = dense(g, type == 'W' ? NN_BOOL : dt), y = dense(g, dt), z = dense(g, dt), k = param(g, dt, 2);
        store(g, rt, pw(g, op, rt, x, n > 1 ? y : -1, n > 2 ? z : -1));
        if (n > 1) store(g, rt, pw(g, op, rt, x, k, n > 2 ? k : -1));
        check(g, special ? SPECIAL : SMALL, tol, NULL);
        if (special || (dt != NN_F32 && dt != NN_I32)) continue;
        start(g, rows[op].name, SHAPE(5, 70));
        x = dense(g, type == 'W' ? NN_BOOL : dt), y = dense(g, dt), z = dense(g, dt);
        int r = reduce(g, NNI_RED_rmax, type == 'W' ? NN_BOOL : dt, x);
        store(g, rt, pw(g, op, rt, r, n > 1 ? y : -1, n > 2 ? z : -1));
        if (n > 1 && type != 'W') store(g, rt, pw(g, op, rt, y, r, n > 2 ? z : -1));
        check(g, SMALL, tol, NULL);
      }
}
static void cast_cases(void) {
  for (int f = 0; f < NNI_COUNT(all); f++)
    for (int special = 0; special < 2; special++) {
      prog pr, *g = &pr;
      start(g, "casts", SHAPE(special ? 3000 : 77));
      for (int t = 0, x = dense(g, all[f]); t < NNI_COUNT(all); t++) store(g, all[t], cast(g, all[t], x));
      check(g, special ? SPECIAL : SMALL, 0, NULL);
      start(g, "casts of rows", SHAPE(40, 7));
      for (int t = 0, x = reduce(g, NNI_RED_rmin, all[f], dense(g, all[f])); t < NNI_COUNT(all); t++) store(g, all[t], cast(g, all[t], x));
      check(g, special ? SPECIAL : SMALL, 0, NULL);
    }
}
static void broadcast_cases(int64_t a, int64_t b, int64_t c) {
  const int64_t strides[][3] = {{b * c, c, 1}, {0, 0, 1}, {1, 0, 0}, {0, 0, 0}, {c, 0, 1}, {0, 1, 0}, {b, 1, 0}, {1, a * c, a}, {2 * b * c, 2 * c, 2},
                                {b * (c + 3), c + 3, 1}, {0, 0, 5}, {0, c, 1}};
  const nn_dtype types[] = {NN_F32, NN_U8, NN_I64, NN_F16};
  for (int i = 0; i < NNI_COUNT(strides); i++)
    for (int t = i % 2; t < NNI_COUNT(types); t += 2) {
      prog pr, *g = &pr;
      start(g, "broadcast", SHAPE(a, b, c));
      int x = load(g, types[t], NNI_FULL, strides[i]), y = dense(g, NN_F32);
      store(g, NN_F32, F2(add, cast(g, NN_F32, x), y));
      check(g, SMALL, 0, NULL);
      start(g, "broadcast, reduced", SHAPE(a, b, c));
      x = load(g, types[t], NNI_FULL, strides[i]);
      int r = load(g, NN_F32, NNI_ROW, i % 2 ? NULL : (int64_t[]){1, 0, 0}), s = reduce(g, NNI_RED_rmax, types[t], x);
      store(g, NN_F32, F2(sub, cast(g, NN_F32, x), F2(mul, r, cast(g, NN_F32, s))));
      store(g, types[t], s);
      store(g, NN_F32, r);
      check(g, SMALL, 0, NULL);
    }
}
static void reduce_cases(void) {
  static const int64_t cols[] = {1, 2, 5, 32, 33, 255, 256, 700, 5000};
  for (int c = 0; c < NNI_COUNT(cols); c++)
    for (int t = 0; t < NNI_COUNT(all); t++)
      for (int kind = WHOLE; kind <= SPECIAL; kind++) {
        prog pr, *g = &pr;
        start(g, "reduce", SHAPE(37, cols[c]));
        int x = dense(g, all[t]);
        for (int op = 0; op < NNI_NRED; op++) {
          bool position = op == NNI_RED_rargmax || op == NNI_RED_rargmin, sum = op == NNI_RED_rsum || op == NNI_RED_rprod;
          if (nn_dtype_is_float(all[t]) && sum) continue; /* order matters */
          nn_dtype d = position || (sum && (all[t] == NN_U8 || all[t] == NN_BOOL)) ? NN_I64 : all[t];
          store(g, d, reduce(g, op, d, x));
        }
        check(g, kind, 0, NULL);
      }
  for (int c = 0; c < NNI_COUNT(cols); c++) {
    prog pr, *g = &pr;
    start(g, "sum", SHAPE(37, cols[c]));
    store(g, NN_F32, reduce(g, NNI_RED_rsum, NN_F32, dense(g, NN_F32)));
    check(g, WHOLE, 0, NULL); /* halves: no order rounds */
    check(g, SMALL, 5e-5, NULL); /* of partial sums around 50 */
  }
  prog pr, *g = &pr;
  start(g, "product and sum", SHAPE(9, 133));
  int x = dense(g, NN_F32), y = dense(g, NN_F16);
  store(g, NN_F32, reduce(g, NNI_RED_rprod, NN_F32, F2(add, F2(mul, x, param(g, NN_F32, 1)), param(g, NN_F32, 2))));
  store(g, NN_F16, reduce(g, NNI_RED_rsum, NN_F16, pw(g, NNI_PW_abs, NN_F16, y, -1, -1)));
  check(g, WHOLE, 1e-3, NULL);
  start(g, "many reductions", SHAPE(70, 90)); /* more than one batch of a tree */
  x = dense(g, NN_F32);
  int n = dense(g, NN_I64);
  for (int op = 0; op < NNI_NRED; op++) {
    if (op != NNI_RED_rprod) store(g, op >= NNI_RED_rargmax ? NN_I64 : NN_F32, reduce(g, op, op >= NNI_RED_rargmax ? NN_I64 : NN_F32, x));
    store(g, NN_I64, reduce(g, op, NN_I64, n));
  }
  check(g, WHOLE, 0, NULL);
}
static void draw_cases(void) {
  static const int64_t shapes[][2] = {{1, 5}, {1, 10000}, {333, 7}, {11, 301}};
  for (int i = 0; i < NNI_COUNT(shapes); i++) {
    prog pr, *g = &pr;
    start(g, "random and index", SHAPE(shapes[i][0], shapes[i][1]));
    int u = (emit(g, NNI_R_RANDOM, NNI_FULL, NN_F32)->slot = 4, last(g)), n = (emit(g, NNI_R_INDEX, NNI_FULL, NN_I64), last(g));
    int half = param(g, NN_F32, 0), x = dense(g, NN_F32);
    store(g, NN_F32, u);
    store(g, NN_I64, n);
    store(g, NN_F32, pw(g, NNI_PW_where, NN_F32, pw(g, NNI_PW_lt, NN_BOOL, u, half, -1), x, half));
    if (i % 2) store(g, NN_I64, reduce(g, NNI_RED_rsum, NN_I64, n));
    check(g, SMALL, 0, NULL);
  }
}
static void softmax_case(int64_t rows, int64_t cols, int in) {
  prog pr, *g = &pr;
  start(g, "softmax", SHAPE(rows, cols));
  int x = dense(g, NN_F32), e = F1(exp, F2(sub, x, reduce(g, NNI_RED_rmax, NN_F32, x))), s = reduce(g, NNI_RED_rsum, NN_F32, e);
  store(g, NN_F32, F2(div, e, s));
  store(g, NN_F32, F1(log, s));
  check(g, SMALL, 2e-6, (int[]){in, -1});
}
static void adam_case(int64_t n, const int *inplace) {
  prog pr, *g = &pr;
  start(g, "adam", SHAPE(n));
  int p = dense(g, NN_F32), d = dense(g, NN_F32), m = dense(g, NN_F32), v = dense(g, NN_F32), b1 = param(g, NN_F32, 0);
  int r = F2(sub, param(g, NN_F32, 3), b1);
  int m2 = F2(add, F2(mul, m, b1), F2(mul, d, r)), v2 = F2(add, F2(mul, v, b1), F2(mul, F1(square, d), r));
  store(g, NN_F32, m2);
  store(g, NN_F32, v2);
  store(g, NN_F32, F2(sub, p, F2(div, m2, F2(add, F1(sqrt, F1(abs, v2)), param(g, NN_F32, 3)))));
  check(g, SMALL, 2e-5, inplace); /* the CPU fuses multiplications with additions, and differences cancel */
}
/* more workgroups than one axis of the grid has */
static void large_case(void) {
  prog pr, *g = &pr;
  start(g, "large", SHAPE(65535 * 256 + 300));
  store(g, NN_U8, pw(g, NNI_PW_add, NN_U8, dense(g, NN_U8), param(g, NN_U8, 3), -1));
  check(g, SMALL, 0, NULL);
  start(g, "many rows", SHAPE(65535 * 64 + 70, 3));
  store(g, NN_U8, reduce(g, NNI_RED_rmax, NN_U8, dense(g, NN_U8)));
  check(g, SMALL, 0, NULL);
}
/* A program gives the bits of its instructions run one by one: nothing is contracted across operators, orders of summation depend on cols alone. */
static void one_by_one_case(int64_t rows, int64_t cols) {
  prog whole, part, *g = &whole, *q = &part;
  size_t full = (size_t)(rows * cols) * 4;
  float *x = nni_buffer_get(mem, full), *y = nni_buffer_get(mem, full), *t = nni_buffer_get(mem, full), *r = nni_buffer_get(mem, full);
  float *fused = nni_buffer_get(mem, full);
  fill(x, NN_F32, rows * cols, SMALL);
  fill(y, NN_F32, rows * cols, SMALL);
  start(g, "fused", SHAPE(rows, cols));
  int a = dense(g, NN_F32), b = dense(g, NN_F32), e = F1(exp, F2(sub, F2(mul, a, b), a)), s = reduce(g, NNI_RED_rsum, NN_F32, e);
  store(g, NN_F32, F2(add, F2(mul, F2(div, e, s), b), a));
  bool good = run_device(g, (void *[]){x, y}, (void *[]){fused}, NULL);
#define STEP(op, a_, b_, to)                                                                  \
  start(q, #op, SHAPE(rows, cols));                                                           \
  a = dense(q, NN_F32), b = dense(q, NN_F32);                                                 \
  store(q, NN_F32, pw(q, NNI_PW_##op, NN_F32, a, NNI_PW_##op == NNI_PW_exp ? -1 : b, -1));    \
  good = good && run_device(q, (void *[]){a_, b_}, (void *[]){to}, NULL);
  STEP(mul, x, y, t)
  STEP(sub, t, x, t)
  STEP(exp, t, x, t)
  start(q, "sum", SHAPE(rows, cols));
  store(q, NN_F32, reduce(q, NNI_RED_rsum, NN_F32, dense(q, NN_F32)));
  good = good && run_device(q, (void *[]){t}, (void *[]){r}, NULL);
  start(q, "quotient", SHAPE(rows, cols));
  a = dense(q, NN_F32), b = load(q, NN_F32, NNI_ROW, NULL);
  store(q, NN_F32, pw(q, NNI_PW_div, NN_F32, a, b, -1));
  good = good && run_device(q, (void *[]){t, r}, (void *[]){t}, NULL);
  STEP(mul, t, y, t)
  STEP(add, t, x, t)
#undef STEP
  checks++;
  if (good && memcmp(t, fused, full) != 0) FAIL("%lldx%lld: fused and one by one give other bits", (long long)rows, (long long)cols);
  float *all_of_them[] = {x, y, t, r, fused};
  for (int i = 0; i < 5; i++) nni_buffer_put(mem, all_of_them[i], full);
}
/* several elements of an invocation, the last ones past the end; broadcasts, draws, in place */
static void several_case(int64_t rows, int64_t cols, int in, int ballast) {
  prog pr, *g = &pr;
  start(g, "several", SHAPE(rows, cols));
  int x = dense(g, NN_F32), y = load(g, NN_F32, NNI_FULL, (int64_t[]){0, 1}), z = load(g, NN_F32, NNI_ROW, NULL), k = param(g, NN_F32, 1);
  int u = (emit(g, NNI_R_RANDOM, NNI_FULL, NN_F32)->slot = 4, last(g));
  x = F2(maximum, F2(sub, x, y), F2(add, z, k));
  for (int i = 0; i < ballast; i++) x = F2(minimum, F2(maximum, x, y), u);
  store(g, NN_F32, x);
  store(g, NN_BOOL, pw(g, NNI_PW_lt, NN_BOOL, x, u, -1));
  check(g, SMALL, 0, (int[]){in, -1});
}
/* Many rows are computed in another way than few, to the same bits: the first rows of a large array alone. In place in the large one. */
static void many_rows_case(int64_t cols) {
  const int64_t many = (1 << 18) / cols + 3, few = 5;
  size_t bytes = (size_t)(many * cols) * 4;
  float *x = nni_buffer_get(mem, bytes), *y = nni_buffer_get(mem, bytes), *z = nni_buffer_get(mem, bytes), sums[8];
  float *rows = nni_buffer_get(mem, (size_t)many * 4);
  int64_t *at = nni_buffer_get(mem, (size_t)many * 8), first[8];
  bool good = true;
  fill(x, NN_F32, many * cols, SMALL);
  for (int k = 0; k < 2; k++) {
    prog pr, *g = &pr;
    start(g, "rows", SHAPE(k ? few : many, cols));
    int a = dense(g, NN_F32), e = F1(exp, F2(sub, a, reduce(g, NNI_RED_rmax, NN_F32, a))), s = reduce(g, NNI_RED_rsum, NN_F32, e);
    store(g, NN_F32, F2(div, e, s));
    store(g, NN_F32, s);
    store(g, NN_I64, reduce(g, NNI_RED_rargmin, NN_I64, a));
    if (!k) check(g, SMALL, 5e-6, (int[]){0, -1, -1});
    good = good && run_device(g, (void *[]){x}, k ? (void *[]){z, sums, first} : (void *[]){y, rows, at}, k ? NULL : (int[]){0, -1, -1});
  }
  if (good && (memcmp(y, z, (size_t)(few * cols) * 4) != 0 || memcmp(rows, sums, (size_t)few * 4) != 0 || memcmp(at, first, (size_t)few * 8) != 0))
    FAIL("rows of %lld: many and few give other bits", (long long)cols);
  nni_buffer_put(mem, x, bytes);
  nni_buffer_put(mem, y, bytes);
  nni_buffer_put(mem, z, bytes);
  nni_buffer_put(mem, rows, (size_t)many * 4);
  nni_buffer_put(mem, at, (size_t)many * 8);
}
/* random programs of exact operators */
static void fuzz_case(uint64_t number) {
  static const int fop[] = {NNI_PW_add, NNI_PW_sub, NNI_PW_mul, NNI_PW_minimum, NNI_PW_maximum, NNI_PW_neg,
                            NNI_PW_abs, NNI_PW_relu, NNI_PW_floor, NNI_PW_clamp, NNI_PW_sqrt};
  static const int nargs[] = {2, 2, 2, 2, 2, 1, 1, 1, 1, 3, 1}, dims[] = {1, 2, 3, 7, 16, 31, 64, 256, 300};
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
    int how = (int)below(4);
    for (int d = ndim - 1; d >= 0; s *= shape[d--]) st[d] = how == 1 && below(2) ? 0 : s;
    v[nv++] = load(g, all[below(7)], how == 2 ? NNI_ROW : NNI_FULL, how == 1 ? st : NULL);
  }
  v[nv++] = param(g, all[below(3)], 1);
  for (int i = 0, n = 1 + (int)below(24); i < n; i++) {
    int a = v[below(nv)], b = v[below(nv)], c = v[below(nv)], what = (int)below(8), k = (int)below(11), r;
    nn_dtype d = (nn_dtype)g->code[a].dtype;
    if (what == 0) r = cast(g, all[below(7)], a);
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
      if (d == NN_BOOL) a = cast(g, d = all[below(5)], a);
      if (!nn_dtype_is_float(d) && (fop[k] == NNI_PW_floor || fop[k] == NNI_PW_sqrt)) k = 0;
      r = pw(g, fop[k], d, a, nargs[k] > 1 ? cast(g, d, b) : -1, nargs[k] > 2 ? cast(g, d, c) : -1);
    }
    v[nv++] = r;
  }
  int nout = 1 + (int)below(3), made[16];
  for (int o = 0; o < nout; o++) {
    made[o] = v[nv - 1 - below(nv < 5 ? nv : 5)];
    store(g, (nn_dtype)g->code[made[o]].dtype, made[o]);
    inplace[o] = -1;
    for (int i = 0; i < g->p.nin; i++) { /* take over an input as the planner does: one element per element, not read after the output is made */
      const nni_access *in = &g->p.in[i], *out = &g->p.out[o];
      bool taken = in->level != out->level || in->dtype != out->dtype || below(2);
      int64_t s = 1;
      for (int q = 0; q < o; q++) taken |= inplace[q] == i || made[q] == made[o];
      for (int d = ndim - 1 - (in->level == NNI_ROW); d >= 0; s *= shape[d--]) taken |= in->stride[d] != s;
      for (int n = made[o] + 1; n < g->p.ninstr; n++)
        for (int k = 0; k < g->code[n].nargs || (g->code[n].kind == NNI_R_STORE && k < 1); k++) {
          const nni_rinstr *l = &g->code[g->code[n].a[k]];
          taken |= l->kind == NNI_R_LOAD && l->slot == i && n != made[o] && !(g->code[n].kind == NNI_R_STORE && g->code[n].a[k] == made[o]);
        }
      if (!taken) inplace[o] = i;
    }
  }
  if (g->p.ninstr <= 160) check(g, below(2) ? WHOLE : SPECIAL, 0, inplace);
}
/* ---- the device's mathematics against doubles -------------------------------------------------------------------------------- */
#define NSAMPLE 100000
static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
/* floats of all sizes, and lo..hi evenly; an error passes below rel * |value| + abs. y: second argument, 0 where there is none */
static void accuracy(const char *name, int op, int nargs, double (*ref)(double, double), double rel, double abs_, double lo, double hi) {
  prog pr, *g = &pr;
  start(g, name, SHAPE(NSAMPLE));
  int a = dense(g, NN_F32), b = dense(g, NN_F32);
  store(g, NN_F32, pw(g, op, NN_F32, a, nargs > 1 ? b : -1, -1));
  float *x = nni_buffer_get(mem, NSAMPLE * 4), *y = nni_buffer_get(mem, NSAMPLE * 4), *z = nni_buffer_get(mem, NSAMPLE * 4);
  double worst = 0, worst_x = 0, worst_y = 0;
  seed = 12345;
  for (int i = 0; i < NSAMPLE; i++) {
    x[i] = i % 2 ? (float)(lo + (hi - lo) * i / NSAMPLE) : from_bits((uint32_t)i * 42949u);
    y[i] = i % 4 < 2 ? (float)below(9) - 4.f : (float)(uniform() * 16 - 8);
  }
  static const uint32_t special[] = {0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800000, 0xbf800000, 0x7f7fffff, 0xff7fffff, 0x00800000,
                                     0x42b17218, 0xc2ce8ed0};
  for (int i = 0; i < NNI_COUNT(special); i++) x[i] = from_bits(special[i]);
  checks++;
  bool good = run_device(g, (void *[]){x, y}, (void *[]){z}, NULL);
  ran += good;
  for (int i = 0; i < NSAMPLE && good; i++) {
    if (x[i] != 0 && fabsf(x[i]) < 1.2e-38f) continue; /* denormals: flushed or not */
    double want = ref((double)x[i], (double)y[i]), got = (double)z[i], err = fabs(got - want);
    if (want != want ? got != got : (double)(float)want == got || (fabs(want) < 1.2e-38 && fabs(got) < 1.2e-38)) continue;
    if (!(err <= rel * fabs(want) + abs_)) {
      FAIL("%s(%.9g, %.9g) = %.9g, want %.9g", name, (double)x[i], (double)y[i], got, want);
      break;
    }
    if (err / fabs(want) > worst) worst = err / fabs(want), worst_x = (double)x[i], worst_y = (double)y[i];
  }
  if (verbose) printf("%-10s max relative error %.3g (at %.9g, %.9g)\n", name, worst, worst_x, worst_y);
  nni_buffer_put(mem, x, NSAMPLE * 4);
  nni_buffer_put(mem, y, NSAMPLE * 4);
  nni_buffer_put(mem, z, NSAMPLE * 4);
}
#define REF(name, expr) static double ref_##name(double x, double y) { (void)y; return expr; }
REF(exp, exp(x))
REF(expm1, expm1(x))
REF(log, log(x))
REF(log1p, log1p(x))
REF(log2, log2(x))
REF(log10, log10(x))
REF(sin, sin(x))
REF(cos, cos(x))
REF(tanh, tanh(x))
REF(erf, erf(x))
REF(erfc, erfc(x))
REF(sigmoid, 1 / (1 + exp(-x)))
REF(pow, pow(x, y))
REF(atan2, atan2(x, y))
REF(fmod, fmod(x, y))
REF(sqrt, sqrt(x))
REF(div, x / y)
REF(exp2, exp2(x))
REF(round, rint(x))
REF(floor, floor(x))
REF(atan, atan(x))
REF(asinh, asinh(x))
REF(sinh, sinh(x))
static double ref_mod(double x, double y) {
  double r = fmod(x, y);
  return r == 0 ? copysign(0, y) : (r < 0) != (y < 0) ? (double)((float)r + (float)y) : r;
}
static double ref_floor_div(double x, double y) {
  double r = fmod(x, y), q = (x - r) / y;
  return y == 0 ? x / y : rint(r != 0 && (r < 0) != (y < 0) ? q - 1 : q);
}
static void accuracy_cases(void) {
#define A(name, nargs, rel, abs, lo, hi) accuracy(#name, NNI_PW_##name, nargs, ref_##name, rel, abs, lo, hi)
  A(exp, 1, 1.5e-7, 0, -104, 89);
  A(expm1, 1, 3e-7, 0, -2, 2);
  A(exp2, 1, 4e-7, 0, -126, 128);
  A(log, 1, 2.5e-7, 0, 0, 3);
  A(log1p, 1, 5e-7, 0, -1, 3);
  A(log2, 1, 1.2e-7, 0, 0.2, 3);
  A(log10, 1, 1.2e-7, 0, 0.2, 3);
  A(sin, 1, 0, 2e-7, -100, 100);
  A(cos, 1, 0, 2e-7, -1e5, 1e5);
  A(tanh, 1, 3e-7, 0, -3, 3);
  A(erf, 1, 3.5e-7, 0, -4, 4);
  A(erfc, 1, 1.2e-6, 0, -5, 9);
  A(sigmoid, 1, 4e-7, 0, -80, 80);
  A(pow, 2, 4e-7, 0, -9, 9);
  A(atan2, 2, 4e-7, 0, -9, 9);
  A(atan, 1, 4e-7, 0, -9, 9);
  A(asinh, 1, 7e-7, 0, -9, 9);
  A(sinh, 1, 8e-7, 0, -9, 9);
  A(fmod, 2, 0, 0, -1000, 1000);
  A(mod, 2, 0, 0, -1000, 1000);
  A(floor_div, 2, 3e-7, 0, -1000, 1000);
  A(sqrt, 1, 3e-7, 0, 0, 1000);
  A(div, 2, 3e-7, 0, -9, 9);
  A(round, 1, 0, 0, -9, 9);
  A(floor, 1, 0, 0, -9, 9);
  float *x = nni_buffer_get(mem, 64), *z = nni_buffer_get(mem, 64);
  prog pr, *g = &pr;
  start(g, "log10 of powers", SHAPE(11));
  store(g, NN_F32, F1(log10, dense(g, NN_F32)));
  for (int i = 0; i < 11; i++) x[i] = (float)pow(10, i);
  if (run_device(g, (void *[]){x}, (void *[]){z}, NULL))
    for (int i = 0; i < 11; i++)
      if (z[i] != (float)i) FAIL("log10(1e%d) = %.9g", i, (double)z[i]);
  nni_buffer_put(mem, x, 64);
  nni_buffer_put(mem, z, 64);
}

/* sizes do not make another module; f64 is refused */
static void sharing_cases(void) {
  prog a, b;
  nn_vk_module m, n;
  nni_error err = {0};
  start(&a, "a", SHAPE(10, 300));
  start(&b, "b", SHAPE(77, 400));
  for (int k = 0; k < 2; k++) {
    prog *g = k ? &b : &a;
    int x = dense(g, NN_F32), y = load(g, NN_F32, NNI_ROW, NULL);
    store(g, NN_F32, F2(sub, F2(mul, x, y), reduce(g, NNI_RED_rmax, NN_F32, x)));
  }
  bool both = nn_vk_emit(mem, &a.p, 0, &m, &err) == NN_OK && nn_vk_emit(mem, &b.p, 0, &n, &err) == NN_OK;
  if (!both || m.nwords != n.nwords || memcmp(m.words, n.words, m.nwords * 4) != 0)
    FAIL("programs that differ in sizes make two modules");
  nni_free(mem, m.words, m.nwords * 4);
  nni_free(mem, n.words, n.nwords * 4);
  start(&a, "f64", SHAPE(10));
  store(&a, NN_F64, dense(&a, NN_F64));
  if (nn_vk_emit(mem, &a.p, 0, &m, &err) != NN_EDTYPE || m.words) FAIL("f64 is not refused");
}

static void features_case(void) { /* float controls are declared, not more */
  prog pr, *g = &pr;
  nni_error err = {0};
  start(g, "float controls", SHAPE(10));
  store(g, NN_F32, F1(exp, dense(g, NN_F32)));
  for (uint32_t features = 0; features < 8; features++) {
    nn_vk_module m;
    if (nn_vk_emit(mem, &g->p, features, &m, &err) != NN_OK) FAIL("float controls: not emitted");
    else if (validator) validate(g, &m);
    nni_free(mem, m.words, m.nwords * 4);
  }
}
/* every allocation of an emission refused in turn, and all from there on: an error, nothing lost */
static void nomem_case(void) {
  prog pr, *g = &pr;
  start(g, "nomem", SHAPE(10, 300));
  int x = dense(g, NN_F16), y = cast(g, NN_F32, x);
  store(g, NN_F32, F1(gelu_erf, F2(sub, F1(sin, y), reduce(g, NNI_RED_rsum, NN_F32, F1(exp, y)))));
  for (int mode = NOMEM_ONCE; mode <= NOMEM_ONWARD; mode++)
    for (long long at = 1;; at++) {
      nomem h = {0};
      nni_memory *m = nni_memory_open(nomem_alloc, &h);
      nn_vk_module out;
      nni_error err = {0};
      nomem_arm(&h, (nomem_mode)mode, at);
      bool done = nn_vk_emit(m, &g->p, 0, &out, &err) == NN_OK;
      if (!done && (err.status != NN_ENOMEM || !atomic_load(&h.failed))) FAIL("request %lld: %s", at, err.text);
      if (done) nni_free(m, out.words, out.nwords * 4);
      nomem_arm(&h, NOMEM_NEVER, 0);
      nni_memory_close(m);
      if (!nomem_clean(&h, "nn_vk_emit", (nomem_mode)mode, at)) failures++;
      checks++;
      if (done) break;
    }
}

int main(int argc, char **argv) {
  nni_error err = {0};
  verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
  mem = nni_memory_open(NULL, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  validator = system("spirv-val --version > /dev/null 2>&1") == 0;
  if (!validator) printf("skipped: spirv-val is not installed\n");
  if (nn_vk_count(mem, &err) < 1 || nn_vk_open(mem, 0, &dev, &err) != NN_OK) printf("skipped: no Vulkan device (%s)\n", err.text);
  sharing_cases();
  nomem_case();
  features_case();
  if (dev) {
    accuracy_cases();
    one_by_one_case(3, 17);
    one_by_one_case(20, 300);
    one_by_one_case(2, 3000);
    many_rows_case(20);
    many_rows_case(100);
    many_rows_case(500);
    many_rows_case(1000);
    many_rows_case(3001);
  }
  for (int in = -1; in < 1; in++) {
    softmax_case(1, 5, in);
    softmax_case(67, 10, in);
    softmax_case(67, 100, in);
    softmax_case(9, 3000, in);
    adam_case(1000, in < 0 ? NULL : (int[]){2, 3, 0});
    adam_case(70000, in < 0 ? NULL : (int[]){1, 3, 2});
  }
  large_case();
  several_case(1000, 301, -1, 0);
  several_case(301, 1000, 0, 10);
  several_case(512, 512, 0, 40);
  cast_cases();
  broadcast_cases(5, 7, 10);
  broadcast_cases(3, 4, 300);
  broadcast_cases(6, 1, 33);
  draw_cases();
  reduce_cases();
  row_cases();
  for (uint64_t i = 0; i < 150; i++) {
    seed = i * 977 + 5;
    below(2);
    fuzz_case(i);
  }
  if (dev) {
    dev->is->close(dev);
    if (nn_vk_messages()) FAIL("%d messages of the validation layers", nn_vk_messages());
  }
  size_t live = nni_memory_stats(mem).live;
  if (live) FAIL("%zu bytes were not given back", live);
  nni_memory_close(mem);
  printf("%d programs, %d modules valid, %d ran; %d failures\n", checks, valid, ran, failures);
  return failures != 0;
}
