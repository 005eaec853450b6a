/* tests/c/test_vm.c - the vector mathematics of cpu/isa/vm.h, through the tile kernels of the level in use, against double libm.
**
** Dense samples over all floats and over the interesting ranges; the bounds are those that vm.h states. `test_vm -v` prints what was measured.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu/isa/rows.h"

#define N 4096
static int failures;
static bool verbose;
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
  for (uint64_t u = 0; u <= UINT32_MAX; u += 1009) sample(b, from_bits((uint32_t)u), 0);
  for (int i = 0; i < NNI_COUNT(special); i++) sample(b, from_bits(special[i]), 0);
  for (int i = 0; i <= 1000000; i++) sample(b, (float)(lo + (hi - lo) * i / 1e6), 0);
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
static double ref_max(double x, double y) { return x != x ? x : y != y ? y : x > y ? x : y; }
static double ref_min(double x, double y) { return x != x ? x : y != y ? y : x < y ? x : y; }

static void two_arguments(void) {
  static const float odd[] = {0.f, 1.f, 2.f, 3.f, 0.5f, 1.5f, 1e-40f, 1e-30f, 1e30f, 16777216.f, 16777215.f, 8388609.f, 3.4e38f, INFINITY, NAN,
                             0.99999994f, 1.0000001f, 100.f, 127.f, 149.f};
  batch *b = begin("pow", NNI_PW_pow, ref_pow, 1.2e-7, 0);
  for (int i = 0; i < 2 * NNI_COUNT(odd); i++)
    for (int j = 0; j < 2 * NNI_COUNT(odd); j++) sample(b, i % 2 ? odd[i / 2] : -odd[i / 2], j % 2 ? odd[j / 2] : -odd[j / 2]);
  for (int i = 0; i < 1500; i++)
    for (int j = 0; j < 1500; j++) sample(b, (float)pow(10, (i - 750) / 20.), (float)((j - 750) / 50.));
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
  verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
  if (verbose) printf("%s\n", nn_cpu_level_name());
  sweep("exp", NNI_PW_exp, ref_exp, 1.2e-7, 0, -105, 90);
  sweep("log", NNI_PW_log, ref_log, 2e-7, 0, 0.2, 3);
  sweep("sin", NNI_PW_sin, ref_sin, 1e-7, 1.5e-7, -200, 200);
  sweep("cos", NNI_PW_cos, ref_cos, 1e-7, 1.5e-7, -200, 200);
  sweep("sin", NNI_PW_sin, ref_sin, 1e-7, 1.5e-7, 200, 1.1e4);
  sweep("cos", NNI_PW_cos, ref_cos, 1e-7, 1.5e-7, 200, 1.1e4);
  sweep("tanh", NNI_PW_tanh, ref_tanh, 2.5e-7, 0, -10, 10);
  sweep("erf", NNI_PW_erf, ref_erf, 3e-7, 0, -5, 5);
  sweep("sigmoid", NNI_PW_sigmoid, ref_sigmoid, 3e-7, 1.2e-38, -90, 90); /* 0 where 1 + e^-x overflows */
  sweep("floor", NNI_PW_floor, ref_floor, 0, 0, -10, 10);
  sweep("ceil", NNI_PW_ceil, ref_ceil, 0, 0, -10, 10);
  sweep("round", NNI_PW_round, ref_rint, 0, 0, -10, 10);
  sweep("trunc", NNI_PW_trunc, ref_trunc, 0, 0, -10, 10);
  sweep("sqrt", NNI_PW_sqrt, ref_sqrt, 0, 0, 0, 10);
  sweep("neg", NNI_PW_neg, ref_neg, 0, 0, -1, 1);
  sweep("abs", NNI_PW_abs, ref_abs, 0, 0, -1, 1);
  two_arguments();
  printf("%d failures\n", failures);
  return failures != 0;
}
