/* tests/c/test_vm.c - the vector mathematics of cpu/isa/vm.h, through the tile kernels of the level in use, against double libm.
**
** Dense samples over all floats and over the interesting ranges; the bounds are those that vm.h states. `test_vm -v` prints what was measured;
** NNLUA_TEST_SHARE=15 takes one sample of 15 (under an emulator).
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu/isa/rows.h"

#define N 4096
static int failures;
static bool verbose;
static int share = 1;
#define FAIL(...) (failures++ < 40 ? (void)(printf(__VA_ARGS__), putchar('\n')) : (void)0)

typedef double (*ref_fn)(double, double);
typedef struct batch {
  const char *name;
  nn_rows_fn fn;
  ref_fn ref;
  double rel, abs; /* an error passes when it is below rel * |value| + abs */
  float x[N], y[N], z[N];
  int n;
  double worst, worst_x, worst_abs;
} batch;

static double half_denormal(double want) { return fabs(want) < 0x1p-126 ? 0x1p-149 : 0; }
static void flush(batch *b) {
  const int32_t bytes[3] = {(int32_t)NN_ISA_PICK(nn_cpu_rows)()->vw * 4, (int32_t)NN_ISA_PICK(nn_cpu_rows)()->vw * 4, 0};
  b->fn(b->z, b->x, b->y, NULL, bytes, b->n);
  for (int i = 0; i < b->n; i++) {
    double want = b->ref((double)b->x[i], (double)b->y[i]), got = (double)b->z[i], err;
    bool same = want != want ? got != got : (double)(float)want == got && (want != 0 || signbit(want) == signbit(got));
    if (same) continue;
    err = fabs(got - want);
    if (!isfinite((float)want) || want != want || !(err <= b->rel * fabs(want) + b->abs + half_denormal(want)))
      FAIL("%s(%.9g, %.9g) = %.9g, want %.9g", b->name, (double)b->x[i], (double)b->y[i], got, want);
    if (err > b->worst_abs) b->worst_abs = err;
    if (fabs(want) >= 0x1p-126 && err / fabs(want) > b->worst) {
      b->worst = err / fabs(want);
      b->worst_x = (double)b->x[i];
    }
  }
  b->n = 0;
}
static void sample(batch *b, float x, float y) {
  b->x[b->n] = x;
  b->y[b->n++] = y;
  if (b->n == N) flush(b);
}
static batch *begin(const char *name, int op, ref_fn ref, double rel, double abs) {
  static batch b;
  memset(&b, 0, sizeof b);
  b.name = name;
  b.fn = NN_ISA_PICK(nn_cpu_rows)()->pw[NNI_F][op];
  b.ref = ref;
  b.rel = rel;
  b.abs = abs;
  return &b;
}
static void end(batch *b) {
  flush(b);
  if (verbose) printf("%-8s max relative error %.3g (at %.9g), max absolute error %.3g\n", b->name, b->worst, b->worst_x, b->worst_abs);
}
static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
/* every 1009-th float there is, the special ones, and lo..hi evenly */
static void sweep(const char *name, int op, ref_fn ref, double rel, double abs, double lo, double hi) {
  static const uint32_t special[] = {0, 0x80000000, 1, 0x80000001, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff, 0xff7fffff, 0x00800000, 0x007fffff,
                                     0x3f800000, 0x3f7fffff, 0x3f800001, 0x42b17217, 0x42b17218, 0x42b20000, 0xc2ce8ecf, 0xc2ce8ed0, 0xc2cff1b5,
                                     0xc2d00000, 0x4b000000, 0x4b000001, 0x4b7fffff, 0xcb000001, 0x3f000000, 0x3fc00000, 0x40200000, 0xbf000000,
                                     0xbfc00000, 0x4f000000, 0x5f000000, 0x3effffff, 0x4afffffe, 0x4affffff, 0x3f1fffff, 0x3f200000};
  batch *b = begin(name, op, ref, rel, abs);
  for (uint64_t u = 0; u <= UINT32_MAX; u += 1009 * (uint64_t)share) sample(b, from_bits((uint32_t)u), 0);
  for (int i = 0; i < NNI_COUNT(special); i++) sample(b, from_bits(special[i]), 0);
  for (int i = 0; i <= 1000000; i += share) sample(b, (float)(lo + (hi - lo) * i / 1e6), 0);
  end(b);
}

#define REF(name, expr) static double ref_##name(double x, double y) { (void)y; return expr; }
REF(exp, exp(x))
REF(log, log(x))
REF(sin, sin(x))
REF(cos, cos(x))
REF(tanh, tanh(x))
REF(erf, erf(x))
REF(floor, floor(x))
REF(ceil, ceil(x))
REF(rint, rint(x))
REF(trunc, trunc(x))
REF(sqrt, sqrt(x))
REF(sigmoid, 1 / (1 + exp(-x)))
REF(pow, pow(x, y))
REF(neg, -x)
REF(abs, fabs(x))
REF(expm1, expm1(x))
REF(exp2, exp2(x))
REF(log1p, log1p(x))
REF(log2, log2(x))
REF(log10, log10(x))
REF(tan, tan(x))
REF(asin, asin(x))
REF(acos, acos(x))
REF(atan, atan(x))
REF(sinh, sinh(x))
REF(cosh, cosh(x))
REF(asinh, asinh(x))
REF(acosh, acosh(x))
REF(atanh, atanh(x))
REF(erfc, erfc(x))
REF(gelu, 0.5 * x * erfc(-x * 0.70710678118654752440))
REF(silu, x / (1 + exp(-x)))
REF(mish, x * tanh(x > 30 ? x : log1p(exp(x))))
REF(log_sigmoid, x < -700 ? x : -log1p(exp(-x)))
REF(softsign, x / (1 + fabs(x)))
REF(atan2, atan2(x, y))
REF(fmod, fmod(x, y))
static double ref_mod(double x, double y) {
  double r = fmod(x, y);
  if (r != 0) return (r < 0) != (y < 0) ? (double)((float)r + (float)y) : r;
  return copysign(0, y);
}
static double ref_floordiv(double x, double y) { /* the rounded quotient is the quotient of floats: floor of the exact one needs the remainder */
  double r = fmod(x, y), q;
  if (y == 0) return x / y;
  q = (x - r) / y;
  if (r != 0 && (r < 0) != (y < 0)) q -= 1;
  return copysign(rint(q), x / y);
}
static double ref_max(double x, double y) { return x != x ? x : y != y ? y : x > y ? x : y; }
static double ref_min(double x, double y) { return x != x ? x : y != y ? y : x < y ? x : y; }

static void remainders(void) {
  static const float odd[] = {0.f, 1.f, 2.f, 3.f, 0.5f, 0.1f, 0.3f, 1e-40f, 1e-30f, 1e30f, 16777216.f, 16777215.f, 3.4e38f, INFINITY, NAN, 0.99999994f};
  static const struct { const char *name; int op; ref_fn ref; double rel; } rows[] = {
      {"fmod", NNI_PW_fmod, ref_fmod, 0}, {"mod", NNI_PW_mod, ref_mod, 0}, {"atan2", NNI_PW_atan2, ref_atan2, 4e-7}};
  for (int r = 0; r < NNI_COUNT(rows); r++) {
    batch *b = begin(rows[r].name, rows[r].op, rows[r].ref, rows[r].rel, 0);
    for (int i = 0; i < 2 * NNI_COUNT(odd); i++)
      for (int j = 0; j < 2 * NNI_COUNT(odd); j++) sample(b, i % 2 ? odd[i / 2] : -odd[i / 2], j % 2 ? odd[j / 2] : -odd[j / 2]);
    for (int i = -700; i < 700; i++)
      for (int j = -700; j < 700; j += share) sample(b, (float)i / 7, (float)j / 64);
    for (int i = 0; i < 700; i++)
      for (int j = 0; j < 700; j += share) sample(b, (float)pow(10, (i - 350) / 10.), -(float)pow(10, (j - 350) / 20.));
    end(b);
  }
  batch *b = begin("floordiv", NNI_PW_floor_div, ref_floordiv, 1.2e-7, 0);
  for (int i = -700; i < 700; i++)
    for (int j = -700; j < 700; j += share) sample(b, (float)i / 7, (float)j / 64);
  end(b);
}

static void two_arguments(void) {
  static const float odd[] = {0.f, 1.f, 2.f, 3.f, 0.5f, 1.5f, 1e-40f, 1e-30f, 1e30f, 16777216.f, 16777215.f, 8388609.f, 3.4e38f, INFINITY, NAN,
                             0.99999994f, 1.0000001f, 100.f, 127.f, 149.f};
  batch *b = begin("pow", NNI_PW_pow, ref_pow, 1.2e-7, 0);
  for (int i = 0; i < 2 * NNI_COUNT(odd); i++)
    for (int j = 0; j < 2 * NNI_COUNT(odd); j++) sample(b, i % 2 ? odd[i / 2] : -odd[i / 2], j % 2 ? odd[j / 2] : -odd[j / 2]);
  for (int i = 0; i < 1500; i++)
    for (int j = 0; j < 1500; j += share) sample(b, (float)pow(10, (i - 750) / 20.), (float)((j - 750) / 50.));
  for (int i = -2000; i < 2000; i++)
    for (int j = -30; j < 30; j++) sample(b, (float)i / 7, (float)j);
  end(b);
  for (int op = 0; op < 2; op++) {
    b = begin(op ? "minimum" : "maximum", op ? NNI_PW_minimum : NNI_PW_maximum, op ? ref_min : ref_max, 0, 0);
    for (int i = 0; i < 2 * NNI_COUNT(odd); i++)
      for (int j = 0; j < 2 * NNI_COUNT(odd); j++)
        if (odd[i / 2] != 0 || odd[j / 2] != 0) sample(b, i % 2 ? odd[i / 2] : -odd[i / 2], j % 2 ? odd[j / 2] : -odd[j / 2]);
    end(b);
  }
}

int main(int argc, char **argv) {
  const char *part = getenv("NNLUA_TEST_SHARE");
  verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
  if (part && atoi(part) > 0) share = atoi(part);
  if (verbose) printf("%s\n", nn_cpu_level_name());
  sweep("exp", NNI_PW_exp, ref_exp, 1.2e-7, 0, -105, 90);
  sweep("log", NNI_PW_log, ref_log, 2e-7, 0, 0.2, 3);
  sweep("sin", NNI_PW_sin, ref_sin, 1e-7, 1.5e-7, -200, 200);
  sweep("cos", NNI_PW_cos, ref_cos, 1e-7, 1.5e-7, -200, 200);
  sweep("sin", NNI_PW_sin, ref_sin, 1e-7, 1.5e-7, 200, 1.1e4);
  sweep("cos", NNI_PW_cos, ref_cos, 1e-7, 1.5e-7, 200, 1.1e4);
  sweep("tanh", NNI_PW_tanh, ref_tanh, 2.5e-7, 0, -10, 10);
  sweep("erf", NNI_PW_erf, ref_erf, 3e-7, 0, -5, 5);
  sweep("sigmoid", NNI_PW_sigmoid, ref_sigmoid, 3e-7, 0, -105, 90);
  sweep("expm1", NNI_PW_expm1, ref_expm1, 2.5e-7, 0, -2, 2);
  sweep("exp2", NNI_PW_exp2, ref_exp2, 1.2e-7, 0, -150, 129);
  sweep("log1p", NNI_PW_log1p, ref_log1p, 4e-7, 0, -1, 3);
  sweep("log2", NNI_PW_log2, ref_log2, 6.1e-8, 0, 0.2, 3);
  sweep("log10", NNI_PW_log10, ref_log10, 6.1e-8, 0, 0.2, 3);
  sweep("tan", NNI_PW_tan, ref_tan, 1e-6, 1.5e-7, -0.78, 0.78);
  sweep("asin", NNI_PW_asin, ref_asin, 5e-7, 0, -1, 1);
  sweep("acos", NNI_PW_acos, ref_acos, 5e-7, 0, -1, 1);
  sweep("atan", NNI_PW_atan, ref_atan, 3e-7, 0, -4, 4);
  sweep("sinh", NNI_PW_sinh, ref_sinh, 6e-7, 0, -2, 2);
  sweep("cosh", NNI_PW_cosh, ref_cosh, 6e-7, 0, -89.5, 89.5);
  sweep("asinh", NNI_PW_asinh, ref_asinh, 6e-7, 0, -3, 3);
  sweep("acosh", NNI_PW_acosh, ref_acosh, 6e-7, 0, 1, 3);
  sweep("atanh", NNI_PW_atanh, ref_atanh, 6e-7, 0, -1, 1);
  sweep("erfc", NNI_PW_erfc, ref_erfc, 1e-6, 0, -5, 10);
  sweep("gelu_erf", NNI_PW_gelu_erf, ref_gelu, 3e-5, 1e-43, -7, 5); /* in the tail the rounding of a / sqrt(2) counts 2 a^2 times */
  sweep("silu", NNI_PW_silu, ref_silu, 5e-7, 2e-43, -90, 20);
  sweep("mish", NNI_PW_mish, ref_mish, 6e-7, 2e-43, -80, 25);
  sweep("log_sigmoid", NNI_PW_log_sigmoid, ref_log_sigmoid, 5e-7, 0, -90, 90);
  sweep("softsign", NNI_PW_softsign, ref_softsign, 2e-7, 0, -10, 10);
  sweep("floor", NNI_PW_floor, ref_floor, 0, 0, -10, 10);
  sweep("ceil", NNI_PW_ceil, ref_ceil, 0, 0, -10, 10);
  sweep("round", NNI_PW_round, ref_rint, 0, 0, -10, 10);
  sweep("trunc", NNI_PW_trunc, ref_trunc, 0, 0, -10, 10);
  sweep("sqrt", NNI_PW_sqrt, ref_sqrt, 0, 0, 0, 10);
  sweep("neg", NNI_PW_neg, ref_neg, 0, 0, -1, 1);
  sweep("abs", NNI_PW_abs, ref_abs, 0, 0, -1, 1);
  two_arguments();
  remainders();
  printf("%d failures\n", failures);
  return failures != 0;
}
