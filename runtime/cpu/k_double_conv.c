/* cpu/k_double_conv.c - convolution, max pooling and their gradients in f64: called by k_conv.c and k_pool.c when operands are f64.
**
** The definitions as loops, in one order: f64 is for checking and for numbers that need it. A block writes a row of its result (the weight gradient:
** some input channels of a tap), so threads never meet. Letters as in ops/kernels.def; shapes come from the operands.
*/
#include <math.h>
#include "double.h"

enum { SERIAL = 1 << 14, CHANNELS = 16 /* of the weight gradient in one block: it stays in the caches */ };

typedef struct job {
  int64_t N, H, W, C, OH, OW, K, KH, KW, groups;
  int64_t sh, sw, pt, pl, dh, dw;
  const double *x, *w, *dy; /* what is read: two of them, pooling: one and taps */
  double *out;
  const uint8_t *taps_in;
  uint8_t *taps;
} job;

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static job conv_job(const int64_t *ia, const int64_t *x, const int64_t *w, const int64_t *y) {
  return (job){.N = x[0], .H = x[1], .W = x[2], .C = x[3], .OH = y[1], .OW = y[2], .K = y[3], .KH = w[0], .KW = w[1], .groups = ia[8],
               .sh = ia[0], .sw = ia[1], .pt = ia[2], .pl = ia[3], .dh = ia[6], .dw = ia[7]};
}

static job pool_job(const int64_t *ia, const int64_t *x, const int64_t *y) {
  return (job){.N = x[0], .H = x[1], .W = x[2], .C = x[3], .OH = y[1], .OW = y[2], .K = 1, .KH = ia[0], .KW = ia[1], .groups = 1,
               .sh = ia[2], .sw = ia[3], .pt = ia[4], .pl = ia[5], .dh = 1, .dw = 1};
}

static void run_blocks(const nni_kernel_call *k, int64_t count, nni_block_fn fn, job *j) {
  const double work = (double)(j->N * j->OH * j->OW) * (double)(j->C / j->groups) * (double)j->K * (double)(j->KH * j->KW);
  if (work > SERIAL) nni_parallel(k->threads, count, fn, j);
  else if (count > 0) fn(j, 0, count, 0);
}

/* ---- conv2d: block b is the output row (N, OH) ---- */
/* y (K of group g) += x (C of it) * w (C/groups, K) */
static void add_pixel(const job *j, const double *x, const double *w, double *y) {
  const int64_t C = j->C / j->groups, K = j->K / j->groups;
  for (int64_t g = 0; g < j->groups; g++)
    for (int64_t c = 0; c < C; c++) {
      const double v = x[g * C + c], *restrict p = w + c * j->K + g * K;
      double *restrict o = y + g * K;
      for (int64_t k = 0; k < K; k++) o[k] += v * p[k];
    }
}

static void forward(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t taps = j->C / j->groups * j->K;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->OH, h0 = b % j->OH * j->sh - j->pt;
    double *y = j->out + b * j->OW * j->K;
    memset(y, 0, (size_t)(j->OW * j->K) * sizeof *y);
    for (int64_t ow = 0; ow < j->OW; ow++)
      for (int64_t kh = 0; kh < j->KH; kh++)
        for (int64_t kw = 0; kw < j->KW; kw++) {
          const int64_t h = h0 + kh * j->dh, w = ow * j->sw - j->pl + kw * j->dw;
          if (h < 0 || h >= j->H || w < 0 || w >= j->W) continue;
          add_pixel(j, j->x + ((n * j->H + h) * j->W + w) * j->C, j->w + (kh * j->KW + kw) * taps, y + ow * j->K);
        }
  }
}

nn_status nn_cpu_conv2d_f64(const nni_kernel_call *k) {
  job j = conv_job(k->ia, k->in[0].shape, k->in[1].shape, k->out[0].shape);
  j.x = k->in[0].data;
  j.w = k->in[1].data;
  j.out = k->out[0].data;
  run_blocks(k, j.N * j.OH, forward, &j);
  return NN_OK;
}

/* ---- conv2d_dx: block b is the input row (N, H) ---- */
/* which output position reads position `at` of the input through tap k; false: none */
static bool reader(int64_t at, int64_t pad, int64_t k, int64_t dil, int64_t stride, int64_t count, int64_t *out) {
  const int64_t p = at + pad - k * dil;
  *out = p / stride;
  return p >= 0 && p % stride == 0 && *out < count;
}

/* dx (C) += w (C/groups, K) * dy (K), group by group */
static void add_back(const job *j, const double *dy, const double *w, double *dx) {
  const int64_t C = j->C / j->groups, K = j->K / j->groups;
  for (int64_t c = 0; c < j->C; c++) {
    const double *p = w + c % C * j->K + c / C * K, *d = dy + c / C * K;
    double sum = 0;
    for (int64_t k = 0; k < K; k++) sum += p[k] * d[k];
    dx[c] += sum;
  }
}

static void backward(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t taps = j->C / j->groups * j->K;
  int64_t oh, ow;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->H, h = b % j->H;
    double *dx = j->out + b * j->W * j->C;
    memset(dx, 0, (size_t)(j->W * j->C) * sizeof *dx);
    for (int64_t kh = 0; kh < j->KH; kh++) {
      if (!reader(h, j->pt, kh, j->dh, j->sh, j->OH, &oh)) continue;
      for (int64_t w = 0; w < j->W; w++)
        for (int64_t kw = 0; kw < j->KW; kw++)
          if (reader(w, j->pl, kw, j->dw, j->sw, j->OW, &ow))
            add_back(j, j->dy + ((n * j->OH + oh) * j->OW + ow) * j->K, j->w + (kh * j->KW + kw) * taps, dx + w * j->C);
    }
  }
}

nn_status nn_cpu_conv2d_dx_f64(const nni_kernel_call *k) {
  job j = conv_job(k->ia, k->out[0].shape, k->in[1].shape, k->in[0].shape);
  j.dy = k->in[0].data;
  j.w = k->in[1].data;
  j.out = k->out[0].data;
  run_blocks(k, j.N * j.H, backward, &j);
  return NN_OK;
}

/* ---- conv2d_dw: block b is a tap and CHANNELS channels of each group ---- */
static void add_weights(const job *j, int64_t c0, int64_t c1, const double *x, const double *dy, double *dw) {
  const int64_t C = j->C / j->groups, K = j->K / j->groups;
  for (int64_t g = 0; g < j->groups; g++)
    for (int64_t c = c0; c < c1; c++) {
      const double v = x[g * C + c], *restrict d = dy + g * K;
      double *restrict o = dw + c * j->K + g * K;
      for (int64_t k = 0; k < K; k++) o[k] += v * d[k];
    }
}

static void weights(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t C = j->C / j->groups, parts = (C + CHANNELS - 1) / CHANNELS;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t tap = b / parts, c0 = b % parts * CHANNELS, c1 = min64(C, c0 + CHANNELS), kh = tap / j->KW, kw = tap % j->KW;
    double *dw = j->out + tap * C * j->K;
    memset(dw + c0 * j->K, 0, (size_t)((c1 - c0) * j->K) * sizeof *dw);
    for (int64_t p = 0; p < j->N * j->OH * j->OW; p++) {
      const int64_t n = p / (j->OH * j->OW), h = p / j->OW % j->OH * j->sh - j->pt + kh * j->dh, w = p % j->OW * j->sw - j->pl + kw * j->dw;
      if (h < 0 || h >= j->H || w < 0 || w >= j->W) continue;
      add_weights(j, c0, c1, j->x + ((n * j->H + h) * j->W + w) * j->C, j->dy + p * j->K, dw);
    }
  }
}

nn_status nn_cpu_conv2d_dw_f64(const nni_kernel_call *k) {
  job j = conv_job(k->ia, k->in[0].shape, k->out[0].shape, k->in[1].shape);
  j.x = k->in[0].data;
  j.dy = k->in[1].data;
  j.out = k->out[0].data;
  run_blocks(k, j.KH * j.KW * ((j.C / j.groups + CHANNELS - 1) / CHANNELS), weights, &j);
  return NN_OK;
}

/* ---- max_pool2d: block b is the output row (N, OH) ---- */
static bool inside(const job *j, int64_t b, int64_t ow, int64_t tap, int64_t *at) {
  const int64_t h = b % j->OH * j->sh - j->pt + tap / j->KW, w = ow * j->sw - j->pl + tap % j->KW;
  *at = ((b / j->OH * j->H + h) * j->W + w) * j->C;
  return tap < j->KH * j->KW && h >= 0 && h < j->H && w >= 0 && w < j->W;
}

static void pool(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  int64_t at;
  (void)tid;
  for (int64_t i = begin * j->OW; i < end * j->OW; i++) {
    double *y = j->out + i * j->C;
    uint8_t *taps = j->taps + i * j->C;
    bool first = true;
    for (int64_t c = 0; c < j->C; c++) y[c] = -INFINITY, taps[c] = 0;
    for (int64_t tap = 0; tap < j->KH * j->KW; tap++) {
      if (!inside(j, i / j->OW, i % j->OW, tap, &at)) continue;
      for (int64_t c = 0; c < j->C; c++) {
        const double v = j->x[at + c];
        if (first || (!isnan(y[c]) && !(v <= y[c]))) y[c] = v, taps[c] = (uint8_t)tap;
      }
      first = false;
    }
  }
}

nn_status nn_cpu_max_pool2d_f64(const nni_kernel_call *k) {
  job j = pool_job(k->ia, k->in[0].shape, k->out[0].shape);
  j.x = k->in[0].data;
  j.out = k->out[0].data;
  j.taps = k->out[1].data;
  run_blocks(k, j.N * j.OH, pool, &j);
  return NN_OK;
}

/* block b is an image: windows may overlap */
static void pool_back(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t image = j->H * j->W * j->C, pixels = j->OH * j->OW;
  int64_t at;
  (void)tid;
  memset(j->out + begin * image, 0, (size_t)((end - begin) * image) * sizeof(double));
  for (int64_t i = begin * pixels; i < end * pixels; i++)
    for (int64_t c = 0; c < j->C; c++)
      if (inside(j, i / j->OW, i % j->OW, j->taps_in[i * j->C + c], &at)) j->out[at + c] += j->dy[i * j->C + c];
}

nn_status nn_cpu_max_pool2d_dx_f64(const nni_kernel_call *k) {
  job j = pool_job(k->ia, k->out[0].shape, k->in[0].shape);
  j.dy = k->in[0].data;
  j.taps_in = k->in[1].data;
  j.out = k->out[0].data;
  run_blocks(k, j.N, pool_back, &j);
  return NN_OK;
}

/* block b is the output row (N, OH) */
static void pool_take(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  int64_t at;
  (void)tid;
  for (int64_t i = begin * j->OW; i < end * j->OW; i++)
    for (int64_t c = 0; c < j->C; c++) j->out[i * j->C + c] = inside(j, i / j->OW, i % j->OW, j->taps_in[i * j->C + c], &at) ? j->x[at + c] : 0;
}

nn_status nn_cpu_max_pool2d_take_f64(const nni_kernel_call *k) {
  job j = pool_job(k->ia, k->in[0].shape, k->out[0].shape);
  j.x = k->in[0].data;
  j.taps_in = k->in[1].data;
  j.out = k->out[0].data;
  run_blocks(k, j.N * j.OH, pool_take, &j);
  return NN_OK;
}
