/* data/vision_filter.c - changes that look at neighbours or at the whole image: blur, sharpening, equalising, contrast stretched, standardising,
** erasing, noise. Pure functions; see vision.h and vision.def.
*/
#include <math.h>
#include "vision.h"

static inline float value_of(const nni_picture *x, size_t i) {
  return x->dtype == NN_U8 ? (float)((const uint8_t *)x->data)[i] : ((const float *)x->data)[i];
}

static inline void put_value(nni_picture *x, size_t i, float v, nni_range range) {
  v = v > range.low ? v : range.low;
  v = v < range.high ? v : range.high;
  if (x->dtype == NN_U8) ((uint8_t *)x->own)[i] = (uint8_t)(int)(v + 0.5f);
  else ((float *)x->own)[i] = v;
}

static size_t count_of(const nni_picture *x) { return (size_t)x->h * (size_t)x->w * (size_t)x->c; }

/* x as floats of its own. */
static nn_status to_floats(nni_memory *m, nni_picture *x, nni_error *err) {
  nni_picture y;
  if (x->dtype == NN_F32) return nni_picture_own(m, x, err);
  nn_status rc = nni_picture_new(m, NN_F32, x->h, x->w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  for (size_t i = 0, n = count_of(x); i < n; i++) ((float *)y.own)[i] = (float)((const uint8_t *)x->data)[i];
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}

/* ---- blur and sharpening ---------------------------------------------------------------------------------------------------------------------- */

static int32_t mirrored(int64_t i, int32_t n) { /* d c b | a b c d | c b a */
  const int64_t period = n > 1 ? 2 * (int64_t)n - 2 : 1;
  i %= period;
  if (i < 0) i += period;
  return (int32_t)(i < n ? i : period - i);
}

/* One pass along a line of n places, each of `lanes` values that lie side by side, `step` apart; `line` and `to` as they lie in a picture. */
static void blur_line(const float *line, float *to, int32_t n, size_t step, size_t lanes, const float *weight, int radius) {
  for (int32_t i = 0; i < n; i++) {
    float *out = to + (size_t)i * step;
    for (size_t k = 0; k < lanes; k++) out[k] = 0;
    for (int r = -radius; r <= radius; r++) {
      const float *from = line + (size_t)mirrored((int64_t)i + r, n) * step, w = weight[r < 0 ? -r : r];
      for (size_t k = 0; k < lanes; k++) out[k] += w * from[k];
    }
  }
}

nn_status nni_picture_blur(nni_memory *m, nni_picture *x, double sigma, nni_error *err) {
  const int radius = (int)ceil(3 * sigma);
  const nn_dtype was = x->dtype;
  float weight[302];
  double sum = 0;
  if (!(sigma > 0)) return NN_OK;
  if (radius >= NNI_COUNT(weight)) return nni_fail(err, NN_EINVAL, "blur: sigma %g is above 100 pixels", sigma);
  for (int r = 0; r <= radius; r++) sum += (r > 0 ? 2 : 1) * exp(-0.5 * r * r / (sigma * sigma));
  for (int r = 0; r <= radius; r++) weight[r] = (float)(exp(-0.5 * r * r / (sigma * sigma)) / sum);
  nni_picture y;
  nn_status rc = to_floats(m, x, err);
  if (rc == NN_OK) rc = nni_picture_new(m, NN_F32, x->h, x->w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  const size_t row = (size_t)x->w * (size_t)x->c;
  blur_line(x->data, y.own, x->h, row, row, weight, radius);
  for (int32_t i = 0; i < x->h; i++)
    blur_line((const float *)y.data + (size_t)i * row, (float *)x->own + (size_t)i * row, x->w, (size_t)x->c, (size_t)x->c, weight, radius);
  nni_picture_free(m, &y);
  if (was == NN_F32) return NN_OK;
  if ((rc = nni_picture_new(m, NN_U8, x->h, x->w, x->c, &y, err)) != NN_OK) return rc;
  for (size_t i = 0, n = count_of(x); i < n; i++) put_value(&y, i, value_of(x, i), (nni_range){0, 255});
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}

nn_status nni_change_blur(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)range;
  return nni_picture_blur(m, x, nni_draw_between(d, p[0], p[1]), err);
}

/* x + (f - 1) (x - smooth), smooth = [1 1 1; 1 5 1; 1 1 1] / 13 inside and x on the border, as PIL's and torchvision's sharpness. */
nn_status nni_change_sharpen(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const float f = (float)nni_draw_between(d, p[0], p[1]);
  nni_picture y;
  if (x->h < 3 || x->w < 3) return NN_OK;
  nn_status rc = nni_picture_new(m, x->dtype, x->h, x->w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  memcpy(y.own, x->data, y.bytes);
  const size_t c = (size_t)x->c, row = (size_t)x->w * c;
  for (size_t i = 1; i + 1 < (size_t)x->h; i++)
    for (size_t j = c; j < row - c; j++) {
      const size_t at = i * row + j;
      const float here = value_of(x, at);
      float sum = 4 * here;
      for (size_t a = at - row; a <= at + row; a += row) sum += value_of(x, a - c) + value_of(x, a) + value_of(x, a + c);
      float smooth = sum / 13;
      if (x->dtype == NN_U8) smooth = floorf(smooth + 0.5f); /* PIL's smooth image has bytes */
      put_value(&y, at, smooth + f * (here - smooth), range);
    }
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}

/* ---- histograms ---------------------------------------------------------------------------------------------------------------------------------- */

/* A value as one of 256 steps of the range. */
static int step_of(float v, nni_range r) {
  const float s = (v - r.low) / (r.high - r.low) * 255.0f + 0.5f;
  return s > 0 ? s < 255 ? (int)s : 255 : 0;
}

/* Each channel's values spread so that all are equally frequent, as PIL does it: step = (pixels but the last value's) / 255. Floats by 256 steps. */
nn_status nni_change_equalize(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)p, (void)d;
  const size_t n = count_of(x), c = (size_t)x->c;
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t ch = 0; rc == NN_OK && ch < c; ch++) {
    int64_t count[256] = {0}, total = 0, last = 0;
    float to[256];
    for (size_t i = ch; i < n; i += c) count[step_of(value_of(x, i), range)]++;
    for (int v = 0; v < 256; v++) {
      total += count[v];
      if (count[v] > 0) last = count[v];
    }
    const int64_t step = (total - last) / 255;
    if (step == 0) continue;
    int64_t sum = step / 2;
    for (int v = 0; v < 256; sum += count[v++]) {
      const int64_t level = sum / step < 255 ? sum / step : 255;
      to[v] = range.low + (range.high - range.low) * (float)level / 255.0f;
    }
    for (size_t i = ch; i < n; i += c) put_value(x, i, to[step_of(value_of(x, i), range)], range);
  }
  return rc;
}

/* Each channel stretched over the whole range. A channel of one value stays. */
nn_status nni_change_autocontrast(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)p, (void)d;
  const size_t n = count_of(x), c = (size_t)x->c;
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t ch = 0; rc == NN_OK && ch < c; ch++) {
    float low = INFINITY, high = -INFINITY;
    for (size_t i = ch; i < n; i += c) {
      const float v = value_of(x, i);
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    if (!(high > low)) continue;
    const float scale = (range.high - range.low) / (high - low);
    for (size_t i = ch; i < n; i += c) put_value(x, i, (value_of(x, i) - low) * scale + range.low, range);
  }
  return rc;
}

/* (x - mean) / max(deviation, 1 / sqrt(values)) over the whole image, as TensorFlow's per_image_standardization. f32. */
nn_status nni_change_standardize(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)p, (void)d, (void)range;
  nn_status rc = to_floats(m, x, err);
  if (rc != NN_OK) return rc;
  const size_t n = count_of(x);
  float *v = x->own;
  double sum = 0, square = 0;
  for (size_t i = 0; i < n; i++) sum += (double)v[i];
  const double mean = sum / (double)n;
  for (size_t i = 0; i < n; i++) square += ((double)v[i] - mean) * ((double)v[i] - mean);
  const double by = fmax(sqrt(square / (double)n), 1 / sqrt((double)n));
  for (size_t i = 0; i < n; i++) v[i] = (float)(((double)v[i] - mean) / by);
  return NN_OK;
}

nn_status nni_change_rescale(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)d, (void)range;
  nn_status rc = to_floats(m, x, err);
  const float scale = (float)p[0], offset = (float)p[1];
  for (size_t i = 0, n = count_of(x); rc == NN_OK && i < n; i++) ((float *)x->own)[i] = ((float *)x->own)[i] * scale + offset;
  return rc;
}

nn_status nni_change_normalize(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  (void)d, (void)range;
  if (x->c > 4) return nni_fail(err, NN_EINVAL, "Normalize: the image has %d channels; at most 4 are possible", x->c);
  nn_status rc = to_floats(m, x, err);
  if (rc != NN_OK) return rc;
  const size_t n = count_of(x), c = (size_t)x->c;
  for (size_t ch = 0; ch < c; ch++) {
    const float mean = (float)p[ch], by = (float)(1 / p[4 + ch]);
    for (size_t i = ch; i < n; i += c) ((float *)x->own)[i] = (((float *)x->own)[i] - mean) * by;
  }
  return NN_OK;
}

/* ---- noise ------------------------------------------------------------------------------------------------------------------------------------------ */

#define NOISE_PIECE 1024 /* numbers drawn at a time */
static uint64_t noise_stream(const nni_draws *d) { return d->stream | UINT64_C(1) << 63; }

/* Normal noise; stddev is a share of the range. */
nn_status nni_change_noise(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const float by = (float)p[0] * (range.high - range.low);
  float noise[NOISE_PIECE];
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t i = 0, n = count_of(x); rc == NN_OK && i < n; i += NOISE_PIECE) {
    const size_t k = n - i < NOISE_PIECE ? n - i : NOISE_PIECE;
    nni_random_normal(d->key, noise_stream(d), i, noise, (int64_t)k);
    for (size_t j = 0; j < k; j++) put_value(x, i + j, value_of(x, i + j) + by * noise[j], range);
  }
  return rc;
}

/* A share `rate` of the pixels black or white, all channels alike. */
nn_status nni_change_salt(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const float pepper = (float)(p[0] / 2), salt = (float)p[0];
  const size_t n = (size_t)x->h * (size_t)x->w, c = (size_t)x->c;
  float u[NOISE_PIECE];
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t i = 0; rc == NN_OK && i < n; i += NOISE_PIECE) {
    const size_t k = n - i < NOISE_PIECE ? n - i : NOISE_PIECE;
    nni_random_uniform(d->key, noise_stream(d), i, u, (int64_t)k);
    for (size_t j = 0; j < k; j++)
      for (size_t ch = 0; u[j] < salt && ch < c; ch++) put_value(x, (i + j) * c + ch, u[j] < pepper ? range.low : range.high, range);
  }
  return rc;
}

/* A rectangle of a share of the area and a form (height / width) that are drawn, set to value (Zhong et al., "Random Erasing", AAAI 2020). One that doesn't
** fit into the image is cut to it. */
nn_status nni_change_erase(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const double area = nni_draw_between(d, p[0], p[1]) * x->h * x->w, ratio = exp(nni_draw_between(d, log(p[2]), log(p[3])));
  const int32_t h = (int32_t)fmin(x->h, floor(sqrt(area * ratio) + 0.5)), w = (int32_t)fmin(x->w, floor(sqrt(area / ratio) + 0.5));
  const size_t top = (size_t)nni_draw_between(d, 0, x->h - h + 1), left = (size_t)nni_draw_between(d, 0, x->w - w + 1), c = (size_t)x->c;
  nn_status rc = nni_picture_own(m, x, err);
  for (size_t i = top; rc == NN_OK && i < top + (size_t)h; i++)
    for (size_t j = left * c; j < (left + (size_t)w) * c; j++) put_value(x, i * (size_t)x->w * c + j, (float)p[4], range);
  return rc;
}
