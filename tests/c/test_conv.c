/* tests/c/test_conv.c - convolution and max pooling kernels against naive loops in double, at one instruction-set level: ctest runs it at each.
**
** Each case: forward, input gradient, weight gradient, with 1, 2 and 3 threads (same bits), exact and not. Operands are followed by NaN and
** scratch is filled with NaN, so that a kernel which lets foreign memory reach a result is caught; a guard after outputs and scratch catches
** writes past the end.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu/cpu.h"

enum { GUARD = 64, FILL = 0xff, MARK = 0xa5 };

static nni_memory *mem;
static nni_threads *pool[3];
static int failed;

#define CHECK(cond, ...)                                                                                                                             \
  do {                                                                                                                                               \
    if (!(cond)) {                                                                                                                                   \
      if (failed++ < 40) {                                                                                                                           \
        printf("%s: ", nn_cpu_level_name());                                                                                                         \
        printf(__VA_ARGS__);                                                                                                                         \
        printf("\n");                                                                                                                                \
      }                                                                                                                                              \
    }                                                                                                                                                \
  } while (0)

static void *get(size_t n, int fill) {
  char *p = nni_buffer_get(mem, n + GUARD);
  if (!p) exit(2);
  memset(p, fill, n + GUARD);
  return p;
}
static void put(void *p, size_t n) { nni_buffer_put(mem, p, n + GUARD); }
static bool guarded(const void *p, size_t n) {
  const unsigned char *g = (const unsigned char *)p + n;
  for (int i = 0; i < GUARD; i++)
    if (g[i] != MARK) return false;
  return true;
}

static uint32_t seed = 1;
static float draw(void) {
  seed = seed * 1664525u + 1013904223u;
  return (float)(seed >> 8) * 0x1p-23f - 1.f;
}
static float *drawn(int64_t n) { /* followed by NaN */
  float *p = get((size_t)n * 4, FILL);
  for (int64_t i = 0; i < n; i++) p[i] = draw();
  return p;
}

/* Runs a kernel with 1, 2, 3 threads; the result of the first is left in out, the others must be equal. */
static void run(const char *what, nni_kernel_fn fn, nni_scratch_fn scratch, const nni_operand *in, int nin, nni_operand *out, int nout,
                const size_t *bytes, const int64_t *ia, const char *label) {
  for (int t = 0; t < 3; t++) {
    void *first[2] = {out[0].data, nout > 1 ? out[1].data : NULL};
    nni_error err = {0};
    nni_kernel_call k = {.threads = pool[t], .in = in, .out = out, .nin = nin, .nout = nout, .ia = ia, .err = &err};
    nni_operand blind_in[2], blind_out[2];
    for (int i = 0; i < nin; i++) {
      blind_in[i] = in[i];
      blind_in[i].data = NULL;
    }
    for (int i = 0; i < nout; i++) {
      blind_out[i] = out[i];
      blind_out[i].data = NULL;
    }
    nni_kernel_call blind = k;
    blind.in = blind_in;
    blind.out = blind_out;
    const size_t n = scratch(&blind);
    k.scratch = get(n, FILL);
    memset((char *)k.scratch + n, MARK, GUARD);
    for (int i = 0; i < nout; i++) {
      if (t > 0) out[i].data = get(bytes[i], FILL);
      memset((char *)out[i].data + bytes[i], MARK, GUARD);
    }
    CHECK(fn(&k) == NN_OK, "%s %s: status", label, what);
    CHECK(guarded(k.scratch, n), "%s %s: wrote past its scratch (%d threads)", label, what, t + 1);
    for (int i = 0; i < nout; i++) {
      CHECK(guarded(out[i].data, bytes[i]), "%s %s: wrote past output %d (%d threads)", label, what, i, t + 1);
      if (t == 0) continue;
      CHECK(memcmp(first[i], out[i].data, bytes[i]) == 0, "%s %s: %d threads give other bits", label, what, t + 1);
      put(out[i].data, bytes[i]);
      out[i].data = first[i];
    }
    put(k.scratch, n);
  }
}

static nni_operand operand(void *data, nn_dtype dtype, const int64_t *shape) {
  static const int64_t stride[4] = {0}; /* contiguous operands: kernels do not look */
  return (nni_operand){data, dtype, 4, shape, stride};
}

/* greatest difference relative to the greatest value; infinite when a result is NaN */
static double error_of(const float *a, const double *b, int64_t n) {
  double e = 0, m = 1e-30;
  for (int64_t i = 0; i < n; i++) {
    const double d = fabs((double)a[i] - b[i]);
    if (!(d <= e)) e = d;
    if (!(d < HUGE_VAL)) return HUGE_VAL;
    if (fabs(b[i]) > m) m = fabs(b[i]);
  }
  return e / m;
}

/* ---- convolution --------------------------------------------------------------------------------------------------------- */
typedef struct conv_case {
  int64_t N, H, W, C, K, KH, KW, sh, sw, pt, pl, pb, pr, dh, dw, groups;
} conv_case;

/* the three references at once: y, dx (from dy, w), dw (from x, dy) */
static void reference(const conv_case *c, int64_t OH, int64_t OW, const float *x, const float *w, const float *dy, double *y, double *dx,
                      double *dw) {
  const int64_t cg = c->C / c->groups, kg = c->K / c->groups;
  for (int64_t n = 0; n < c->N; n++)
    for (int64_t oh = 0; oh < OH; oh++)
      for (int64_t ow = 0; ow < OW; ow++)
        for (int64_t kh = 0; kh < c->KH; kh++)
          for (int64_t kw = 0; kw < c->KW; kw++) {
            const int64_t h = oh * c->sh - c->pt + kh * c->dh, v = ow * c->sw - c->pl + kw * c->dw;
            if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
            const int64_t yo = ((n * OH + oh) * OW + ow) * c->K, xo = ((n * c->H + h) * c->W + v) * c->C, wo = (kh * c->KW + kw) * cg * c->K;
            for (int64_t g = 0; g < c->groups; g++)
              for (int64_t i = 0; i < cg; i++)
                for (int64_t k = g * kg; k < (g + 1) * kg; k++) {
                  y[yo + k] += (double)x[xo + g * cg + i] * (double)w[wo + i * c->K + k];
                  dx[xo + g * cg + i] += (double)dy[yo + k] * (double)w[wo + i * c->K + k];
                  dw[wo + i * c->K + k] += (double)x[xo + g * cg + i] * (double)dy[yo + k];
                }
          }
}

static void test_conv(const conv_case *c) {
  char label[160];
  snprintf(label, sizeof label, "conv %dx%dx%dx%d->%d k%dx%d s%dx%d p%d,%d,%d,%d d%dx%d g%d", (int)c->N, (int)c->H, (int)c->W, (int)c->C, (int)c->K,
           (int)c->KH, (int)c->KW, (int)c->sh, (int)c->sw, (int)c->pt, (int)c->pl, (int)c->pb, (int)c->pr, (int)c->dh, (int)c->dw, (int)c->groups);
  const int64_t OH = (c->H + c->pt + c->pb - (c->KH - 1) * c->dh - 1) / c->sh + 1, OW = (c->W + c->pl + c->pr - (c->KW - 1) * c->dw - 1) / c->sw + 1;
  const int64_t nx = c->N * c->H * c->W * c->C, nw = c->KH * c->KW * (c->C / c->groups) * c->K, ny = c->N * OH * OW * c->K;
  const int64_t xs[4] = {c->N, c->H, c->W, c->C}, ws[4] = {c->KH, c->KW, c->C / c->groups, c->K}, ys[4] = {c->N, OH, OW, c->K};
  float *x = drawn(nx), *w = drawn(nw), *dy = drawn(ny);
  const size_t by = (size_t)ny * 4, bx = (size_t)nx * 4, bw = (size_t)nw * 4;
  float *y = get(by, FILL), *dx = get(bx, FILL), *dw = get(bw, FILL);
  double *ry = calloc((size_t)ny + 1, 8), *rdx = calloc((size_t)nx + 1, 8), *rdw = calloc((size_t)nw + 1, 8);
  if (!ry || !rdx || !rdw) exit(2);
  reference(c, OH, OW, x, w, dy, ry, rdx, rdw);
  const nni_operand ox = operand(x, NN_F32, xs), ow = operand(w, NN_F32, ws), ody = operand(dy, NN_F32, ys);
  nni_operand oy = operand(y, NN_F32, ys), odx = operand(dx, NN_F32, xs), odw = operand(dw, NN_F32, ws);
  for (int exact = 0; exact < 2; exact++) {
    const double tol = exact ? 1e-5 : 2e-4;
    int64_t ia[12] = {c->sh, c->sw, c->pt, c->pl, c->pb, c->pr, c->dh, c->dw, c->groups, exact};
    run("forward", nn_cpu_conv2d, nn_cpu_conv2d_scratch, (nni_operand[]){ox, ow}, 2, &oy, 1, &by, ia, label);
    double e = error_of(y, ry, ny);
    CHECK(e <= tol, "%s forward%s: error %.2e", label, exact ? " exact" : "", e);
    ia[9] = c->H, ia[10] = c->W, ia[11] = exact;
    run("dx", nn_cpu_conv2d_dx, nn_cpu_conv2d_dx_scratch, (nni_operand[]){ody, ow}, 2, &odx, 1, &bx, ia, label);
    e = error_of(dx, rdx, nx);
    CHECK(e <= tol, "%s dx%s: error %.2e", label, exact ? " exact" : "", e);
    ia[9] = c->KH, ia[10] = c->KW;
    run("dw", nn_cpu_conv2d_dw, nn_cpu_conv2d_dw_scratch, (nni_operand[]){ox, ody}, 2, &odw, 1, &bw, ia, label);
    e = error_of(dw, rdw, nw);
    CHECK(e <= tol, "%s dw%s: error %.2e", label, exact ? " exact" : "", e);
  }
  put(x, bx), put(w, bw), put(dy, by), put(y, by), put(dx, bx), put(dw, bw);
  free(ry), free(rdx), free(rdw);
}

static const conv_case convs[] = {
    /* N  H   W   C   K  KH KW sh sw pt pl pb pr dh dw g */
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1},      {2, 5, 4, 3, 10, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1},
    {1, 1, 1, 17, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},    {3, 9, 11, 1, 32, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1}, /* first layers */
    {2, 28, 28, 1, 33, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 1},   {2, 13, 17, 3, 16, 7, 7, 2, 2, 3, 3, 3, 3, 1, 1, 1},
    {1, 12, 10, 4, 64, 3, 3, 2, 1, 1, 0, 0, 2, 1, 1, 1},   {2, 9, 9, 2, 10, 3, 2, 1, 3, 0, 1, 1, 1, 2, 1, 1},
    {4, 10, 9, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, /* Winograd */
    {2, 26, 26, 32, 64, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1},  {9, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {6, 11, 7, 17, 33, 3, 3, 1, 1, 2, 0, 1, 2, 1, 1, 1},   {3, 14, 15, 33, 12, 3, 3, 1, 1, 0, 1, 2, 0, 1, 1, 1},
    {3, 7, 7, 64, 16, 3, 3, 1, 1, 5, 4, 3, 2, 1, 1, 1},                                                          /* more padding than taps */
    {4, 9, 9, 80, 144, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},                                                         /* several ranges of channels */
    {9, 6, 6, 300, 20, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},   {2, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1}, /* strides */
    {2, 16, 15, 32, 64, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1},  {1, 17, 13, 16, 33, 3, 3, 3, 3, 1, 1, 0, 0, 1, 1, 1},
    {2, 10, 11, 17, 10, 2, 2, 2, 3, 0, 0, 0, 0, 1, 1, 1},  {1, 11, 10, 6, 7, 2, 4, 3, 2, 1, 3, 0, 1, 1, 1, 1},
    {1, 9, 9, 5, 5, 1, 1, 3, 3, 2, 2, 2, 2, 1, 1, 1},     /* outputs that are padding only, inputs never read */
    {1, 9, 5, 16, 4, 2, 3, 1000, 7, 1, 1, 1, 1, 1, 1, 1}, /* strides longer than the image */
    {1, 14, 12, 16, 16, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 1}, /* dilation */
    {2, 15, 13, 10, 17, 3, 2, 2, 1, 1, 2, 3, 0, 3, 2, 1},  {1, 20, 9, 3, 33, 5, 3, 3, 2, 0, 4, 4, 0, 1, 2, 1},
    {2, 6, 5, 64, 10, 6, 5, 1, 1, 0, 0, 0, 0, 1, 1, 1}, /* kernel as large as the image */
    {1, 30, 70, 33, 64, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 1},  {1, 4, 4, 256, 72, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {2, 9, 8, 12, 20, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4},                                                       /* groups */
    {1, 9, 8, 34, 66, 3, 3, 2, 1, 1, 0, 1, 1, 1, 1, 2},    {2, 7, 9, 6, 12, 3, 2, 1, 2, 0, 1, 0, 1, 1, 2, 6}, /* one channel in, two out */
    {2, 9, 9, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 32},                                                      /* depthwise */
    {2, 12, 9, 19, 19, 5, 3, 2, 3, 2, 0, 1, 1, 1, 2, 19},  {1, 11, 23, 35, 35, 3, 5, 1, 1, 4, 6, 3, 5, 2, 1, 35},
    {2, 7, 21, 16, 16, 2, 3, 1, 2, 0, 1, 0, 1, 1, 1, 16},  {1, 3, 3, 6, 6, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 6},
    {4, 20, 24, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 64}, /* large enough for several threads */
    {8, 30, 31, 70, 70, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 70}, {4, 16, 16, 48, 96, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3},
    {0, 5, 5, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},    /* no images */
    {16, 16, 16, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, /* several chunks of the weight gradient */
    {9, 19, 21, 40, 24, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1},
};

/* ---- pooling ---------------------------------------------------------------------------------------------------------------- */
typedef struct pool_case {
  int64_t N, H, W, C, KH, KW, sh, sw, pt, pl, pb, pr;
  bool nan;
} pool_case;

static void pool_reference(const pool_case *c, int64_t OH, int64_t OW, const float *x, float *y, uint8_t *taps) {
  for (int64_t n = 0; n < c->N; n++)
    for (int64_t oh = 0; oh < OH; oh++)
      for (int64_t ow = 0; ow < OW; ow++)
        for (int64_t ch = 0; ch < c->C; ch++) {
          bool any = false;
          float best = 0;
          int64_t tap = 0;
          for (int64_t kh = 0; kh < c->KH; kh++)
            for (int64_t kw = 0; kw < c->KW; kw++) {
              const int64_t h = oh * c->sh - c->pt + kh, w = ow * c->sw - c->pl + kw;
              if (h < 0 || h >= c->H || w < 0 || w >= c->W) continue;
              const float v = x[((n * c->H + h) * c->W + w) * c->C + ch];
              if (any && !(v > best) && !(isnan(v) && !isnan(best))) continue;
              any = true;
              best = v;
              tap = kh * c->KW + kw;
            }
          const int64_t o = ((n * OH + oh) * OW + ow) * c->C + ch;
          y[o] = best;
          taps[o] = (uint8_t)tap;
        }
}

static void test_pool(const pool_case *c) {
  char label[160];
  snprintf(label, sizeof label, "pool %dx%dx%dx%d k%dx%d s%dx%d p%d,%d,%d,%d", (int)c->N, (int)c->H, (int)c->W, (int)c->C, (int)c->KH, (int)c->KW,
           (int)c->sh, (int)c->sw, (int)c->pt, (int)c->pl, (int)c->pb, (int)c->pr);
  const int64_t OH = (c->H + c->pt + c->pb - c->KH) / c->sh + 1, OW = (c->W + c->pl + c->pr - c->KW) / c->sw + 1;
  const int64_t nx = c->N * c->H * c->W * c->C, ny = c->N * OH * OW * c->C;
  const int64_t xs[4] = {c->N, c->H, c->W, c->C}, ys[4] = {c->N, OH, OW, c->C};
  const int64_t ia[10] = {c->KH, c->KW, c->sh, c->sw, c->pt, c->pl, c->pb, c->pr, c->H, c->W};
  const size_t bx = (size_t)nx * 4, by = (size_t)ny * 4, bt = (size_t)ny;
  float *x = drawn(nx), *dy = drawn(ny), *y = get(by, FILL), *dx = get(bx, FILL), *taken = get(by, FILL), *ry = get(by, FILL);
  uint8_t *taps = get(bt, FILL), *rt = get(bt, FILL);
  double *rdx = calloc((size_t)nx + 1, 8);
  if (!rdx) exit(2);
  for (int64_t i = 0; i < nx; i++) {
    x[i] = rintf(x[i] * 3); /* many equals */
    if (c->nan && draw() > .8f) x[i] = NAN;
    if (c->nan && draw() > .7f) x[i] = -INFINITY;
  }
  pool_reference(c, OH, OW, x, ry, rt);
  const nni_operand ox = operand(x, NN_F32, xs), ody = operand(dy, NN_F32, ys), ot = operand(rt, NN_U8, ys);
  nni_operand out[2] = {operand(y, NN_F32, ys), operand(taps, NN_U8, ys)}, odx = operand(dx, NN_F32, xs), otaken = operand(taken, NN_F32, ys);
  run("forward", nn_cpu_max_pool2d, nn_cpu_max_pool2d_scratch, &ox, 1, out, 2, (size_t[]){by, bt}, ia, label);
  run("dx", nn_cpu_max_pool2d_dx, nn_cpu_max_pool2d_dx_scratch, (nni_operand[]){ody, ot}, 2, &odx, 1, &bx, ia, label);
  run("take", nn_cpu_max_pool2d_take, nn_cpu_max_pool2d_take_scratch, (nni_operand[]){ox, ot}, 2, &otaken, 1, &by, ia, label);
  int bad_y = 0, bad_tap = 0, bad_take = 0;
  for (int64_t i = 0; i < ny; i++) {
    const bool same = y[i] == ry[i] || (isnan(y[i]) && isnan(ry[i]));
    bad_y += !same;
    bad_tap += taps[i] != rt[i];
    bad_take += !(taken[i] == ry[i] || (isnan(taken[i]) && isnan(ry[i])));
    const int64_t ch = i % c->C, o = i / c->C, ow = o % OW, oh = o / OW % OH, n = o / OW / OH;
    const int64_t h = oh * c->sh - c->pt + rt[i] / c->KW, w = ow * c->sw - c->pl + rt[i] % c->KW;
    rdx[((n * c->H + h) * c->W + w) * c->C + ch] += (double)dy[i];
  }
  CHECK(bad_y == 0, "%s: %d wrong values", label, bad_y);
  CHECK(bad_tap == 0, "%s: %d wrong taps", label, bad_tap);
  CHECK(bad_take == 0, "%s: %d wrong in take", label, bad_take);
  const double e = error_of(dx, rdx, nx);
  CHECK(e <= 1e-6, "%s dx: error %.2e", label, e);
  put(x, bx), put(dy, by), put(y, by), put(dx, bx), put(taken, by), put(ry, by), put(taps, bt), put(rt, bt);
  free(rdx);
}

static const pool_case pools[] = {
    {1, 2, 2, 1, 2, 2, 2, 2, 0, 0, 0, 0, false},    {2, 24, 24, 64, 2, 2, 2, 2, 0, 0, 0, 0, false}, {3, 7, 9, 17, 2, 2, 2, 2, 0, 0, 0, 0, false},
    {2, 9, 9, 33, 3, 3, 2, 2, 1, 1, 1, 1, false},   {1, 8, 7, 5, 3, 3, 1, 1, 1, 1, 1, 1, true},     {2, 10, 11, 16, 5, 3, 3, 2, 2, 1, 1, 0, true},
    {1, 15, 17, 3, 15, 17, 1, 1, 0, 0, 0, 0, true}, {2, 9, 5, 20, 2, 1, 3, 4, 0, 0, 0, 0, false},   {1, 6, 6, 48, 4, 4, 2, 3, 2, 2, 2, 2, true},
    {4, 25, 23, 40, 3, 3, 2, 2, 1, 1, 1, 1, true},  {0, 4, 4, 8, 2, 2, 2, 2, 0, 0, 0, 0, false},
};

int main(void) {
  mem = nni_memory_open(NULL, NULL);
  for (int i = 0; i < 3; i++) pool[i] = nni_threads_open(mem, i + 1);
  if (!mem || !pool[0] || !pool[1] || !pool[2]) return 2;
  for (int i = 0; i < NNI_COUNT(convs); i++) test_conv(&convs[i]);
  for (int i = 0; i < NNI_COUNT(pools); i++) test_pool(&pools[i]);
  for (int i = 0; i < 3; i++) nni_threads_close(pool[i]);
  nni_memory_close(mem);
  if (failed) printf("%s: %d checks failed\n", nn_cpu_level_name(), failed);
  return failed ? 1 : 0;
}
