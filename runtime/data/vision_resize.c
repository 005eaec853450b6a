/* data/vision_resize.c - images of another size. Pure functions; see vision.h.
**
** A pixel's centre lies at its place + 0.5, as in PIL, in TensorFlow 2 and in PyTorch with align_corners = false. Each pixel of the result is a
** weighted sum of source pixels, a list of weights per row and one per column (Taps). With antialias, making an image smaller widens the filter by
** the scale, as PIL and torchvision do, and weights beyond the border are shared among the others; without, it reads 2 or 4 pixels a side whatever
** the scale and the border is repeated, as TensorFlow's and PyTorch's plain resize do. Bicubic is Keys' (a = -0.5 with antialias, -0.75 without:
** PyTorch's and PIL's numbers). Area is the mean over what a pixel covers, parts of pixels counted.
*/
#include <math.h>
#include "vision.h"

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias)); /* in memory */
typedef float lanes8 __attribute__((vector_size(32)));
typedef int32_t numbers8 __attribute__((vector_size(32)));

typedef struct taps {
  int32_t n, most;       /* pixels of the result; room for weights of one: even */
  int32_t pairs;         /* so many pairs of weights hold all of any pixel; those that are no weights are 0 */
  int32_t *first, *count; /* of the source */
  float *weight;         /* n x most */
  size_t bytes;
} taps;

static double triangle(double x) { return x < 0 ? (x > -1 ? 1 + x : 0) : x < 1 ? 1 - x : 0; }

static double cubic(double x, double a) {
  x = fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* The weights of result pixel i. */
static void taps_of(taps *t, int32_t i, int32_t from, nni_resize_method method, bool antialias) {
  const double scale = (double)from / t->n, centre = (i + 0.5) * scale;
  double support = method == NNI_RESIZE_BICUBIC ? 2 : 1, wide = antialias && scale > 1 ? scale : 1, sum = 0;
  float *w = t->weight + (size_t)i * (size_t)t->most;
  int64_t low, high; /* source pixels [low, high) */
  if (method == NNI_RESIZE_AREA) {
    low = (int64_t)floor(i * scale);
    high = (int64_t)ceil((i + 1) * scale);
  } else {
    low = (int64_t)floor(centre - support * wide + 0.5);
    high = (int64_t)floor(centre + support * wide + 0.5);
    if (high <= low) high = low + 1;
  }
  const int64_t first = low < 0 ? 0 : low < from ? low : from - 1, last = high > from ? from : high > first ? high : first + 1;
  t->first[i] = (int32_t)first;
  t->count[i] = (int32_t)(last - first);
  memset(w, 0, (size_t)t->most * sizeof *w);
  for (int64_t k = low; k < high; k++) {
    double f;
    if (method == NNI_RESIZE_AREA) f = fmin((double)(k + 1), (i + 1) * scale) - fmax((double)k, i * scale);
    else if (method == NNI_RESIZE_BILINEAR) f = triangle(((double)k + 0.5 - centre) / wide);
    else f = cubic(((double)k + 0.5 - centre) / wide, antialias ? -0.5 : -0.75);
    int64_t at = k;
    if (at < first || at >= last) {
      if (antialias || method == NNI_RESIZE_AREA) continue;
      at = at < first ? first : last - 1;
    }
    w[at - first] += (float)f;
    sum += f;
  }
  for (int32_t k = 0; k < t->count[i]; k++) w[k] = (float)((double)w[k] / sum);
}

static nn_status taps_make(nni_memory *m, int32_t from, int32_t to, nni_resize_method method, bool antialias, taps *t, nni_error *err) {
  const double scale = (double)from / to;
  *t = (taps){.n = to, .most = (int32_t)(2 * ceil((method == NNI_RESIZE_BICUBIC ? 2 : 1) * (scale > 1 ? scale : 1))) + 2};
  t->bytes = (size_t)to * (2 * sizeof(int32_t) + (size_t)t->most * sizeof(float));
  char *block = nni_buffer_get(m, t->bytes);
  if (block == NULL) return nni_fail(err, NN_ENOMEM, "Resize: out of memory");
  t->first = (int32_t *)block;
  t->count = t->first + to;
  t->weight = (float *)(t->count + to);
  for (int32_t i = 0; i < to; i++) {
    taps_of(t, i, from, method, antialias);
    if (t->count[i] > 2 * t->pairs) t->pairs = (t->count[i] + 1) / 2;
  }
  return NN_OK;
}

static void taps_free(nni_memory *m, taps *t) {
  if (t->first != NULL) nni_buffer_put(m, t->first, t->bytes);
}

/* row (n floats) = what it was (more) or nothing, and w[0] x the first source row, ... w[k - 1] x the kth, in this order. */
#define BLEND(NAME, TYPE, AS)                                                                                              \
  static inline __attribute__((always_inline)) void NAME##_k(float *restrict row, const TYPE *restrict from, const float *restrict w, int k, size_t n, \
                                                             bool more) {                                                  \
    for (size_t i = 0; i < n; i++) {                                                                                       \
      float sum = more ? row[i] : 0;                                                                                       \
      for (int j = 0; j < k; j++) sum += w[j] * AS from[(size_t)j * n + i];                                                \
      row[i] = sum;                                                                                                        \
    }                                                                                                                      \
  }                                                                                                                        \
  NNI_HOT static void NAME(float *row, const TYPE *from, const float *w, int k, size_t n, bool more) {                     \
    switch (k) { /* the number of rows known to the compiler: a sum stays in a register */                                 \
      case 1: NAME##_k(row, from, w, 1, n, more); break;                                                                   \
      case 2: NAME##_k(row, from, w, 2, n, more); break;                                                                   \
      case 3: NAME##_k(row, from, w, 3, n, more); break;                                                                   \
      default: NAME##_k(row, from, w, 4, n, more); break;                                                                  \
    }                                                                                                                      \
  }
BLEND(blend_bytes, uint8_t, (float)(int))
BLEND(blend_floats, float, )

/* Row i of the result before it is resized across: n floats. */
static void blend_rows(const taps *t, int32_t i, const nni_picture *x, float *row, size_t n) {
  const float *w = t->weight + (size_t)i * (size_t)t->most;
  for (int32_t k = 0; k < t->count[i]; k += 4) {
    const int32_t rows = t->count[i] - k < 4 ? t->count[i] - k : 4;
    const size_t at = (size_t)(t->first[i] + k) * n;
    if (x->dtype == NN_U8) blend_bytes(row, (const uint8_t *)x->data + at, w + k, rows, n, k > 0);
    else blend_floats(row, (const float *)x->data + at, w + k, rows, n, k > 0);
  }
}

/* The weights of three channels side by side: n x pairs x 8, three times one weight, three times the next, and two zeros. */
static void spread_weights(const taps *t, float *to) {
  for (int32_t i = 0; i < t->n; i++)
    for (int32_t k = 0; k < t->pairs; k++, to += 8) {
      const float *w = t->weight + (size_t)i * (size_t)t->most + 2 * (size_t)k;
      *(v8 *)to = (v8){w[0], w[0], w[0], w[1], w[1], w[1], 0, 0};
    }
}

/* Three channels of finite numbers, so that what has no weight may be read: two pixels at once, and every pixel of the result in the same number of
** steps. Reads up to 6 x pairs + 2 floats from a pixel's first one. */
NNI_HOT static void gather_pairs(const taps *t, const float *weight, const float *row, float *to) {
  const int32_t n = t->n, pairs = t->pairs, *first = t->first;
  for (int32_t i = 0; i < n; i++, to += 3) {
    const float *from = row + 3 * (size_t)first[i];
    lanes8 sum = {0};
    for (int32_t k = 0; k < pairs; k++, weight += 8, from += 6) sum += *(const v8 *)weight * *(const v8 *)from;
    sum += __builtin_shuffle(sum, (numbers8){3, 4, 5, 3, 4, 5, 3, 4});
    memcpy(to, &sum, 4 * sizeof *to); /* the fourth for nothing */
  }
}

/* One row of the result, `to` (t->n x c floats, and 4 more), of row (and 4 more). */
static void gather_row(const taps *t, const float *row, float *to, int32_t c) {
  for (int32_t i = 0; i < t->n; i++, to += c) {
    const float *w = t->weight + (size_t)i * (size_t)t->most, *from = row + (size_t)t->first[i] * (size_t)c;
    const int32_t n = t->count[i];
    if (c == 3) { /* four lanes, the last of them for nothing */
      v4 sum = {0};
      for (int32_t k = 0; k < n; k++) sum += w[k] * *(const v4 *)(from + 3 * k);
      *(v4 *)to = sum;
      continue;
    }
    for (int32_t ch = 0; ch < c; ch++) {
      float sum = 0;
      for (int32_t k = 0; k < n; k++) sum += w[k] * from[(size_t)k * (size_t)c + (size_t)ch];
      to[ch] = sum;
    }
  }
}

NNI_HOT static void store_bytes(const float *from, uint8_t *to, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float v = from[i] + 0.5f;
    v = v > 0 ? v : 0;
    to[i] = (uint8_t)(int)(v < 255.5f ? v : 255.0f);
  }
}

static nn_status resize_nearest(nni_memory *m, nni_picture *x, int32_t h, int32_t w, nni_error *err) {
  nni_picture y;
  nn_status rc = nni_picture_new(m, x->dtype, h, w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  const size_t each = (size_t)x->c * nn_dtype_size(x->dtype);
  char *to = y.own;
  for (int32_t i = 0; i < h; i++) {
    const int64_t a = (2 * (int64_t)i + 1) * x->h / (2 * (int64_t)h); /* floor((i + 0.5) * scale), exactly */
    for (int32_t j = 0; j < w; j++, to += each) {
      const int64_t b = (2 * (int64_t)j + 1) * x->w / (2 * (int64_t)w);
      memcpy(to, (const char *)x->data + (size_t)(a * x->w + b) * each, each);
    }
  }
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}

nn_status nni_picture_resize(nni_memory *m, nni_picture *x, int32_t h, int32_t w, nni_resize_method method, bool antialias, nni_error *err) {
  if (h == x->h && w == x->w) return NN_OK;
  if (method == NNI_RESIZE_NEAREST) return resize_nearest(m, x, h, w, err);
  if (x->dtype != NN_U8 && x->dtype != NN_F32) return nni_fail(err, NN_EDTYPE, "Resize: images are u8 or f32, got %s", nn_dtype_name(x->dtype));
  taps down = {0}, across = {0};
  nni_picture y = {0};
  float *row = NULL;
  nn_status rc = taps_make(m, x->h, h, method, antialias, &down, err);
  if (rc == NN_OK) rc = taps_make(m, x->w, w, method, antialias, &across, err);
  const bool pairs = x->c == 3 && x->dtype == NN_U8;
  const size_t wide = (size_t)x->w * (size_t)x->c, out = (size_t)w * (size_t)x->c, beyond = 6 * (size_t)across.pairs + 4;
  const size_t floats = wide + beyond + out + 4, bytes = (floats + (pairs ? 8 * (size_t)w * (size_t)across.pairs : 0)) * sizeof(float);
  if (rc == NN_OK) rc = nni_picture_new(m, x->dtype, h, w, x->c, &y, err);
  if (rc == NN_OK && (row = nni_buffer_get(m, bytes)) == NULL) rc = nni_fail(err, NN_ENOMEM, "Resize: out of memory");
  if (rc == NN_OK) memset(row + wide, 0, beyond * sizeof *row);
  if (rc == NN_OK && pairs) spread_weights(&across, row + floats);
  for (int32_t i = 0; rc == NN_OK && i < h; i++) {
    float *to = row + wide + beyond;
    blend_rows(&down, i, x, row, wide);
    if (pairs) gather_pairs(&across, row + floats, row, to);
    else gather_row(&across, row, to, x->c);
    if (x->dtype == NN_U8) store_bytes(to, (uint8_t *)y.own + (size_t)i * out, out);
    else memcpy((float *)y.own + (size_t)i * out, to, out * sizeof *to);
  }
  taps_free(m, &down);
  taps_free(m, &across);
  if (row != NULL) nni_buffer_put(m, row, bytes);
  if (rc != NN_OK) {
    nni_picture_free(m, &y);
    return rc;
  }
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}
