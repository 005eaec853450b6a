/* data/vision_colour.c - changes of each pixel by itself: gray, colour jitter, posterising, solarising, inverting. Pure functions; see vision.h and
** vision.def.
**
** A value that depends on the old value alone is looked up for bytes; what mixes channels runs over pieces of floats.
*/
#include <math.h>
#include "vision.h"

static float cut(float v, nni_range r) {
  v = v > r.low ? v : r.low;
  return v < r.high ? v : r.high;
}

static size_t count_of(const nni_picture *x) { return (size_t)x->h * (size_t)x->w * (size_t)x->c; }

/* ---- value by value --------------------------------------------------------------------------------------------------------------------------- */

typedef float (*value_fn)(float v, nni_range r, const float *arg);

static nn_status each_value(nni_memory *m, nni_picture *x, nni_range r, value_fn f, const float *arg, nni_error *err) {
  nn_status rc = nni_picture_own(m, x, err);
  if (rc != NN_OK) return rc;
  const size_t n = count_of(x);
  if (x->dtype == NN_U8) {
    uint8_t to[256], *p = x->own;
    for (int v = 0; v < 256; v++) to[v] = (uint8_t)(int)(cut(f((float)v, r, arg), r) + 0.5f);
    for (size_t i = 0; i < n; i++) p[i] = to[p[i]];
  } else {
    float *p = x->own;
    for (size_t i = 0; i < n; i++) p[i] = cut(f(p[i], r, arg), r);
  }
  return NN_OK;
}

static float inverted(float v, nni_range r, const float *arg) {
  (void)arg;
  return r.low + r.high - v;
}

static float solarized(float v, nni_range r, const float *arg) { return v >= arg[0] ? r.low + r.high - v : v; }

/* The highest `bits` of 8. */
static float posterized(float v, nni_range r, const float *arg) {
  const float scale = 255.0f / (r.high - r.low);
  const int kept = 256 - (1 << (8 - (int)arg[0]));
  const int byte = (int)((cut(v, r) - r.low) * scale + 0.001f); /* a byte's value as a float is that byte */
  return r.low + (float)(byte & kept) / scale;
}

nn_status nni_change_invert(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)p, (void)d;
  return each_value(m, x, range, inverted, NULL, err);
}

nn_status nni_change_solarize(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)d;
  const float threshold = range.low + (float)p[0] * (range.high - range.low);
  return each_value(m, x, range, solarized, &threshold, err);
}

nn_status nni_change_posterize(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)d;
  const float bits = (float)p[0];
  return each_value(m, x, range, posterized, &bits, err);
}

/* ---- colours ----------------------------------------------------------------------------------------------------------------------------------- */

static inline float luma(const float *v) { return 0.299f * v[0] + 0.587f * v[1] + 0.114f * v[2]; } /* ITU-R BT.601 */

static nn_status check_channels(const nni_picture *x, const char *name, nni_error *err) {
  return x->c == 1 || x->c == 3 ? NN_OK : nni_fail(err, NN_ESHAPE, "%s: images of 1 or 3 channels, got %d", name, x->c);
}

#define PIECE 256 /* pixels at a time */
typedef void (*colour_fn)(float *v, size_t pixels, nni_range r, const float *arg);

/* f over the pixels of x, which has three channels. */
static nn_status each_colour(nni_memory *m, nni_picture *x, nni_range r, colour_fn f, const float *arg, nni_error *err) {
  float v[3 * PIECE];
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t i = 0, n = count_of(x); rc == NN_OK && i < n; i += 3 * PIECE) {
    const size_t k = n - i < 3 * PIECE ? n - i : 3 * PIECE;
    if (x->dtype == NN_F32) {
      f((float *)x->own + i, k / 3, r, arg);
      continue;
    }
    uint8_t *p = (uint8_t *)x->own + i;
    for (size_t j = 0; j < k; j++) v[j] = (float)p[j];
    f(v, k / 3, r, arg);
    for (size_t j = 0; j < k; j++) p[j] = (uint8_t)(int)(v[j] + 0.5f);
  }
  return rc;
}

/* Towards each pixel's luma: arg[0] is 1 as it was, 0 gray. */
static void saturate(float *v, size_t pixels, nni_range r, const float *arg) {
  for (size_t i = 0; i < pixels; i++, v += 3) {
    const float gray = luma(v);
    for (int c = 0; c < 3; c++) v[c] = cut((v[c] - gray) * arg[0] + gray, r);
  }
}

nn_status nni_change_gray(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)p, (void)d;
  const float none = 0;
  nn_status rc = check_channels(x, "Grayscale", err);
  return rc == NN_OK && x->c == 3 ? each_colour(m, x, range, saturate, &none, err) : rc;
}

/* ---- colour jitter: three planes of floats, two passes ---- */

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct planes { /* a piece of an image, channel by channel */
  float v[3][PIECE];
} planes;

/* Bytes are moved as bytes and made floats side by side: a compiler knows vector code for either, but not for both at once. */
NNI_HOT static void take_bytes(const uint8_t *from, size_t n, planes *p) {
  uint8_t v[3][PIECE] = {{0}};
  for (size_t i = 0; i < n; i++) v[0][i] = from[3 * i], v[1][i] = from[3 * i + 1], v[2][i] = from[3 * i + 2];
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < PIECE; i++) p->v[c][i] = (float)(int)v[c][i];
}

NNI_HOT static void put_bytes(uint8_t *restrict to, size_t n, const planes *p) {
  uint8_t v[3][PIECE];
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < PIECE; i++) v[c][i] = (uint8_t)(int)(p->v[c][i] + 0.5f);
  for (size_t i = 0; i < n; i++) to[3 * i] = v[0][i], to[3 * i + 1] = v[1][i], to[3 * i + 2] = v[2][i];
}

static void take_apart(const nni_picture *x, size_t at, size_t n, planes *p) {
  if (x->dtype == NN_U8) {
    take_bytes((const uint8_t *)x->data + 3 * at, n, p);
    return;
  }
  const float *from = (const float *)x->data + 3 * at;
  for (size_t i = 0; i < n; i++, from += 3) p->v[0][i] = from[0], p->v[1][i] = from[1], p->v[2][i] = from[2];
}

static void put_together(nni_picture *x, size_t at, size_t n, const planes *p) {
  if (x->dtype == NN_U8) {
    put_bytes((uint8_t *)x->own + 3 * at, n, p);
    return;
  }
  float *to = (float *)x->own + 3 * at;
  for (size_t i = 0; i < n; i++, to += 3) to[0] = p->v[0][i], to[1] = p->v[1][i], to[2] = p->v[2][i];
}

static inline float higher(float a, float b) { return a > b ? a : b; }
static inline float lower(float a, float b) { return a < b ? a : b; }

NNI_HOT static void blend_to(planes *p, float strength, float other, nni_range r) {
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < PIECE; i++) p->v[c][i] = lower(higher((p->v[c][i] - other) * strength + other, r.low), r.high);
}

NNI_HOT static void blend_to_luma(planes *p, float strength, nni_range range) {
  for (int i = 0; i < PIECE; i++) {
    const float gray = 0.299f * p->v[0][i] + 0.587f * p->v[1][i] + 0.114f * p->v[2][i];
    for (int c = 0; c < 3; c++) p->v[c][i] = lower(higher((p->v[c][i] - gray) * strength + gray, range.low), range.high);
  }
}

static inline float magnitude(float v) { return higher(v, -v); }

/* The hue turned by a part of the circle, through hue (in sixths), saturation and value. Each channel is a trapezium over the circle: red falls from 1 at
** one sixth to 0 at two, the others a third later each. */
NNI_HOT static void turn_hue(planes *p, float by, nni_range range) {
  for (int i = 0; i < PIECE; i++) {
    const float r = p->v[0][i], g = p->v[1][i], b = p->v[2][i];
    const float high = higher(r, higher(g, b)), low = lower(r, lower(g, b)), spread = high - low, unit = 1 / (spread + 1e-20f);
    const float red = (g - b) * unit, green = (b - r) * unit + 2, blue = (r - g) * unit + 4;
    float hue = (high == r ? red : high == g ? green : blue) + 6 * by;
    hue -= 6 * ((float)(int)(hue * (1.0f / 6) + 64) - 64); /* floor, of what lies far above -64 */
    p->v[0][i] = lower(low + lower(higher(spread * (magnitude(hue - 3) - 1), 0), spread), range.high);
    p->v[1][i] = lower(low + lower(higher(spread * (2 - magnitude(hue - 2)), 0), spread), range.high);
    p->v[2][i] = lower(low + lower(higher(spread * (2 - magnitude(hue - 4)), 0), spread), range.high);
  }
}

/* Adds up each channel of what brightness b leaves of n pixels, at most PIECE. Eight pixels are 24 sums side by side, whatever the machine: always
** the same bits. */
NNI_HOT static void sum_channels(const nni_picture *x, size_t at, size_t n, float b, nni_range r, double sum[3]) {
  float v[3 * PIECE];
  v8 lanes[3] = {{0}};
  const size_t values = 3 * n;
  if (x->dtype == NN_U8) {
    const uint8_t *from = (const uint8_t *)x->data + 3 * at;
    for (size_t i = 0; i < values; i++) v[i] = lower(higher(((float)(int)from[i] - r.low) * b + r.low, r.low), r.high);
  } else {
    const float *from = (const float *)x->data + 3 * at;
    for (size_t i = 0; i < values; i++) v[i] = lower(higher((from[i] - r.low) * b + r.low, r.low), r.high);
  }
  memset(v + values, 0, (3 * PIECE - values) * sizeof *v);
  for (int i = 0; i < 3 * PIECE; i += 24)
    for (int k = 0; k < 3; k++) lanes[k] += *(const v8 *)(v + i + 8 * k);
  for (int i = 0; i < 24; i++) sum[i % 3] += (double)lanes[i / 8][i % 8];
}

static void jitter_gray(nni_picture *x, float b, float c, nni_range r) {
  const size_t n = count_of(x);
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    const float v = x->dtype == NN_U8 ? (float)((const uint8_t *)x->data)[i] : ((const float *)x->data)[i];
    sum += (double)cut((v - r.low) * b + r.low, r);
  }
  const float middle = (float)(sum / (double)n);
  for (size_t i = 0; i < n; i++) {
    float v = x->dtype == NN_U8 ? (float)((const uint8_t *)x->data)[i] : ((const float *)x->data)[i];
    v = cut((cut((v - r.low) * b + r.low, r) - middle) * c + middle, r);
    if (x->dtype == NN_U8) ((uint8_t *)x->own)[i] = (uint8_t)(int)(v + 0.5f);
    else ((float *)x->own)[i] = v;
  }
}

/* Brightness, contrast, saturation, hue, in this order, each by a strength of its range; bytes are rounded once, at the end. */
nn_status nni_change_jitter(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const float b = (float)nni_draw_between(d, p[0], p[1]), c = (float)nni_draw_between(d, p[2], p[3]), s = (float)nni_draw_between(d, p[4], p[5]);
  const float h = (float)nni_draw_between(d, p[6], p[7]);
  nn_status rc = check_channels(x, "ColorJitter", err);
  if (rc == NN_OK) rc = nni_picture_own(m, x, err);
  if (rc != NN_OK || (b == 1 && c == 1 && s == 1 && h == 0)) return rc;
  if (x->c == 1) {
    jitter_gray(x, b, c, range);
    return NN_OK;
  }
  const size_t n = count_of(x) / 3;
  double sum[3] = {0};
  planes v = {0};
  for (size_t i = 0; c != 1 && i < n; i += PIECE) sum_channels(x, i, n - i < PIECE ? n - i : PIECE, b, range, sum);
  const float middle = (float)((0.299 * sum[0] + 0.587 * sum[1] + 0.114 * sum[2]) / (double)n); /* contrast is about the mean luma of what brightness leaves */
  for (size_t i = 0; i < n; i += PIECE) {
    const size_t k = n - i < PIECE ? n - i : PIECE;
    take_apart(x, i, k, &v);
    if (b != 1) blend_to(&v, b, range.low, range);
    if (c != 1) blend_to(&v, c, middle, range);
    if (s != 1) blend_to_luma(&v, s, range);
    if (h != 0) turn_hue(&v, h, range);
    put_together(x, i, k, &v);
  }
  return NN_OK;
}
