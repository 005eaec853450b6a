/* data/vision_mix.c - MixUp and CutMix: images of a batch mixed in pairs, with their labels. Pure functions; see vision.h. */
#include <math.h>
#include "vision.h"

static double normal(nni_draws *d) {
  float two[2];
  nni_random_normal(d->key, d->stream ^ UINT64_C(1) << 62, 2 * d->at++, two, 1);
  return (double)two[0];
}

/* Gamma(a, 1): Marsaglia and Tsang (ACM TOMS 2000), with the power of a uniform for a < 1. Its logarithm, so that small a don't underflow. */
static double log_gamma_draw(nni_draws *d, double a) {
  const double less = a < 1 ? log(1 - nni_draw_between(d, 0, 1)) / a : 0, b = (a < 1 ? a + 1 : a) - 1.0 / 3, c = 1 / sqrt(9 * b);
  for (int tries = 0; tries < 1000; tries++) {
    const double x = normal(d), v = 1 + c * x, u = 1 - nni_draw_between(d, 0, 1);
    if (v <= 0) continue;
    const double cube = v * v * v;
    if (log(u) < 0.5 * x * x + b - b * cube + b * log(cube)) return log(b * cube) + less;
  }
  return log(b) + less;
}

double nni_draw_beta(nni_draws *d, double alpha) {
  const double a = log_gamma_draw(d, alpha), b = log_gamma_draw(d, alpha);
  return 1 / (1 + exp(b - a));
}

void nni_draw_dirichlet(nni_draws *d, double alpha, int n, double *w) {
  double most = -INFINITY, sum = 0;
  for (int i = 0; i < n; i++) most = fmax(most, w[i] = log_gamma_draw(d, alpha));
  for (int i = 0; i < n; i++) sum += w[i] = exp(w[i] - most);
  for (int i = 0; i < n; i++) w[i] /= sum;
}

static void shuffle(nni_draws *d, int64_t *perm, int64_t n) {
  for (int64_t i = 0; i < n; i++) perm[i] = i;
  for (int64_t i = n - 1; i > 0; i--) {
    const int64_t j = (int64_t)(nni_draw_between(d, 0, 1) * (double)(i + 1)), t = perm[i];
    perm[i] = perm[j];
    perm[j] = t;
  }
}

static void mix_labels(const nni_batch *b, float lambda, const int64_t *perm) {
  for (int64_t i = 0; i < b->n; i++)
    for (int64_t k = 0; k < b->classes; k++)
      b->ny[i * b->classes + k] = lambda * b->y[i * b->classes + k] + (1 - lambda) * b->y[perm[i] * b->classes + k];
}

void nni_mixup(const nni_batch *b, double alpha, nni_draws *d, int64_t *perm) {
  const float lambda = (float)nni_draw_beta(d, alpha), other = 1 - lambda;
  const size_t row = (size_t)b->h * (size_t)b->w * (size_t)b->c;
  shuffle(d, perm, b->n);
  for (int64_t i = 0; i < b->n; i++) {
    const size_t at = (size_t)i * row, from = (size_t)perm[i] * row;
    if (b->dtype == NN_U8) {
      const uint8_t *x = b->x;
      for (size_t k = 0; k < row; k++) ((uint8_t *)b->nx)[at + k] = (uint8_t)(int)(lambda * (float)x[at + k] + other * (float)x[from + k] + 0.5f);
    } else {
      const float *x = b->x;
      for (size_t k = 0; k < row; k++) ((float *)b->nx)[at + k] = lambda * x[at + k] + other * x[from + k];
    }
  }
  mix_labels(b, lambda, perm);
}

void nni_cutmix(const nni_batch *b, double alpha, nni_draws *d, int64_t *perm) {
  const double side = sqrt(1 - nni_draw_beta(d, alpha));
  const double cy = nni_draw_between(d, 0, (double)b->h), cx = nni_draw_between(d, 0, (double)b->w);
  const int64_t y0 = (int64_t)fmax(0, cy - side * (double)b->h / 2), y1 = (int64_t)fmin((double)b->h, cy + side * (double)b->h / 2);
  const int64_t x0 = (int64_t)fmax(0, cx - side * (double)b->w / 2), x1 = (int64_t)fmin((double)b->w, cx + side * (double)b->w / 2);
  const size_t each = (size_t)b->c * nn_dtype_size(b->dtype), row = (size_t)b->w * each, image = (size_t)b->h * row;
  shuffle(d, perm, b->n);
  memcpy(b->nx, b->x, (size_t)b->n * image);
  for (int64_t i = 0; i < b->n; i++)
    for (int64_t y = y0; y < y1 && x1 > x0; y++) {
      const size_t in = (size_t)y * row + (size_t)x0 * each;
      memcpy((char *)b->nx + (size_t)i * image + in, (const char *)b->x + (size_t)perm[i] * image + in, (size_t)(x1 - x0) * each);
    }
  mix_labels(b, (float)(1 - (double)((y1 - y0) * (x1 - x0)) / (double)(b->h * b->w)), perm);
}
