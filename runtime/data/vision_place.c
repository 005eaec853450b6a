/* data/vision_place.c - transforms that move pixels, and moving them: images by interpolation, masks by the nearest pixel, boxes by their corners.
** Pure functions; see vision.h and vision.def.
*/
#include <math.h>
#include "vision.h"

/* ---- windows and sizes --------------------------------------------------------------------------------------------------------------------- */

nn_status nni_place_resize(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)d, (void)h, (void)w, (void)err;
  *g = (nni_geometry){.kind = NNI_PLACE_RESIZE, .h = (int32_t)p[0], .w = (int32_t)p[1], .method = (int)p[2], .antialias = p[3] != 0};
  return NN_OK;
}

nn_status nni_place_center_crop(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)d, (void)err;
  *g = (nni_geometry){.kind = NNI_PLACE_WINDOW, .h = (int32_t)p[0], .w = (int32_t)p[1], .fill = p[2]};
  g->top = (h - g->h) / 2;
  g->left = (w - g->w) / 2;
  return NN_OK;
}

/* Where a window of `size` begins in `from` pixels with `padding` more on either side: each place is as likely as another; one that is too large is centred. */
static int32_t window_start(nni_draws *d, int32_t from, int32_t size, int32_t padding) {
  const int64_t places = (int64_t)from + 2 * (int64_t)padding - size + 1;
  const double u = nni_draw_between(d, 0, 1);
  return places > 0 ? (int32_t)(u * (double)places) - padding : (from - size) / 2;
}

nn_status nni_place_random_crop(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  *g = (nni_geometry){.kind = NNI_PLACE_WINDOW, .h = (int32_t)p[0], .w = (int32_t)p[1], .fill = p[3]};
  g->top = window_start(d, h, g->h, (int32_t)p[2]);
  g->left = window_start(d, w, g->w, (int32_t)p[2]);
  return NN_OK;
}

nn_status nni_place_flip(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  *g = (nni_geometry){.kind = NNI_PLACE_WINDOW, .h = h, .w = w};
  g->mirror_x = nni_draw_between(d, 0, 1) < p[0];
  g->mirror_y = nni_draw_between(d, 0, 1) < p[1];
  if (!g->mirror_x && !g->mirror_y) g->kind = NNI_PLACE_SAME;
  return NN_OK;
}

/* ---- warps ---------------------------------------------------------------------------------------------------------------------------------- */

/* Source (u, v), counted from the centre, = (a x + b y + c, d x + e y + f) of the result's, with the tail of the parameters. */
static nn_status affine(nni_geometry *g, int32_t h, int32_t w, double a, double b, double c, double d, double e, double f, const double *tail) {
  const double cx = w / 2.0, cy = h / 2.0;
  *g = (nni_geometry){.kind = NNI_PLACE_WARP, .h = h, .w = w, .beyond = (int)tail[0], .fill = tail[1], .bilinear = tail[2] != 0};
  const double m[9] = {a, b, c + cx - a * cx - b * cy, d, e, f + cy - d * cx - e * cy, 0, 0, 1};
  memcpy(g->m, m, sizeof m);
  return NN_OK;
}

nn_status nni_place_rotation(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  const double angle = nni_draw_between(d, p[0], p[1]) * (3.14159265358979323846 / 180);
  return affine(g, h, w, cos(angle), -sin(angle), 0, sin(angle), cos(angle), 0, p + 2);
}

nn_status nni_place_translation(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  const double down = nni_draw_between(d, p[0], p[1]) * h, right = nni_draw_between(d, p[2], p[3]) * w;
  return affine(g, h, w, 1, 0, -right, 0, 1, -down, p + 4);
}

nn_status nni_place_zoom(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  const double high = 1 + nni_draw_between(d, p[0], p[1]), wide = 1 + nni_draw_between(d, p[2], p[3]);
  return affine(g, h, w, p[4] != 0 ? high : wide, 0, 0, 0, high, 0, p + 5);
}

nn_status nni_place_shear(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  const double x = nni_draw_between(d, p[0], p[1]), y = nni_draw_between(d, p[2], p[3]);
  return affine(g, h, w, 1, x, 0, y, 1, 0, p + 4);
}

/* The projective map that takes the four points `from` to `to`: eight equations, by elimination with pivots. False when they have no one solution. */
static bool homography(const double from[4][2], const double to[4][2], double m[9]) {
  double a[8][9];
  for (int i = 0; i < 4; i++) {
    const double x = from[i][0], y = from[i][1], u = to[i][0], v = to[i][1];
    const double rows[2][9] = {{x, y, 1, 0, 0, 0, -x * u, -y * u, u}, {0, 0, 0, x, y, 1, -x * v, -y * v, v}};
    memcpy(a[2 * i], rows, sizeof rows);
  }
  for (int k = 0; k < 8; k++) {
    int best = k;
    for (int i = k + 1; i < 8; i++)
      if (fabs(a[i][k]) > fabs(a[best][k])) best = i;
    if (fabs(a[best][k]) < 1e-12) return false;
    for (int j = 0; j < 9 && best != k; j++) {
      const double t = a[k][j];
      a[k][j] = a[best][j], a[best][j] = t;
    }
    for (int i = 0; i < 8; i++) {
      const double f = a[i][k] / a[k][k];
      for (int j = k; j < 9 && i != k; j++) a[i][j] -= f * a[k][j];
    }
  }
  for (int k = 0; k < 8; k++) m[k] = a[k][8] / a[k][k];
  m[8] = 1;
  return true;
}

/* Each corner moves inwards by up to distortion / 2 of the sides. */
nn_status nni_place_perspective(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  (void)m, (void)err;
  const double corner[4][2] = {{0, 0}, {w, 0}, {w, h}, {0, h}};
  double moved[4][2];
  for (int i = 0; i < 4; i++) {
    const double dx = nni_draw_between(d, 0, p[0] * w / 2), dy = nni_draw_between(d, 0, p[0] * h / 2);
    moved[i][0] = corner[i][0] + (i == 0 || i == 3 ? dx : -dx);
    moved[i][1] = corner[i][1] + (i < 2 ? dy : -dy);
  }
  affine(g, h, w, 1, 0, 0, 0, 1, 0, p + 1);
  if (!homography(moved, corner, g->m)) g->kind = NNI_PLACE_SAME; /* distortion 1 may bring corners together */
  return NN_OK;
}

/* Simard, Steinkraus, Platt (ICDAR 2003): every pixel moves by alpha x noise of -1..1 that was blurred by sigma pixels. */
nn_status nni_place_elastic(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err) {
  nni_picture noise;
  affine(g, h, w, 1, 0, 0, 0, 1, 0, p + 2);
  nn_status rc = nni_picture_new(m, NN_F32, h, w, 2, &noise, err);
  if (rc != NN_OK) return rc;
  const int64_t n = 2 * (int64_t)h * w;
  float *f = noise.own;
  nni_random_uniform(d->key, d->stream | UINT64_C(1) << 63, 0, f, n);
  for (int64_t i = 0; i < n; i++) f[i] = 2 * f[i] - 1;
  rc = nni_picture_blur(m, &noise, p[1], err);
  if (rc != NN_OK) {
    nni_picture_free(m, &noise);
    return rc;
  }
  f = noise.own;
  for (int64_t i = 0; i < n; i++) f[i] *= (float)p[0];
  g->kind = NNI_PLACE_FIELD;
  g->field = f;
  g->field_bytes = noise.bytes;
  return NN_OK;
}

/* ---- pixels ------------------------------------------------------------------------------------------------------------------------------------ */

/* Where pixel i of a line of n is read when it lies beyond it: -1 is the fill. */
static int64_t folded(int64_t i, int64_t n, int beyond) {
  if (i >= 0 && i < n) return i;
  if (beyond == 0) return -1;
  if (beyond == 1) return i < 0 ? 0 : n - 1;
  i %= 2 * n; /* d c b a | a b c d | d c b a */
  if (i < 0) i += 2 * n;
  return i < n ? i : 2 * n - 1 - i;
}

/* One element of `dtype` from a number, as bytes for copying. */
static void fill_bytes(nn_dtype dtype, double fill, char *to) {
  double v = fill;
  if (!nn_dtype_is_float(dtype)) v = dtype == NN_U8 ? fmin(fmax(fill, 0), 255) : fill;
  nn_element_write(dtype, to, v, nn_element_int(dtype, v));
}

/* The source of a result's pixel, as a continuous place; false: nowhere (behind the eye of a projection). */
static inline bool source_of(const nni_geometry *g, int32_t x, int32_t y, double *u, double *v) {
  if (g->kind == NNI_PLACE_FIELD) {
    const float *f = g->field + 2 * ((size_t)y * (size_t)g->w + (size_t)x);
    *u = x + 0.5 + (double)f[0];
    *v = y + 0.5 + (double)f[1];
    return true;
  }
  const double px = x + 0.5, py = y + 0.5, *m = g->m;
  double q = m[6] * px + m[7] * py + m[8];
  if (!(q > 1e-9)) return false;
  q = 1 / q;
  *u = (m[0] * px + m[1] * py + m[2]) * q;
  *v = (m[3] * px + m[4] * py + m[5]) * q;
  return fabs(*u) < 1e9 && fabs(*v) < 1e9;
}

/* floor, with what lies within a rounding error below a border counted as on it: a turn by 90 degrees meets pixels exactly */
static int64_t pixel_at(double u) { return (int64_t)floor(u + 1e-9); }

/* A row that is mirrored, or not, of pixels that all lie in the source. */
static void copy_row(const char *from, char *to, int32_t w, size_t each, bool mirror) {
  if (!mirror) {
    memcpy(to, from, (size_t)w * each);
  } else if (each == 3) { /* moved as four bytes, the last of them for nothing, but at the ends, where there are only three */
    from += 3 * (size_t)(w - 1);
    memcpy(to, from, 3);
    for (int32_t j = 2; j < w; j++) memcpy(to += 3, from -= 3, 4);
    if (w > 1) memcpy(to + 3, from - 3, 3);
  } else {
    for (int32_t j = 0; j < w; j++) memcpy(to + (size_t)j * each, from + (size_t)(w - 1 - j) * each, each);
  }
}

static void copy_warped(const nni_geometry *g, const nni_picture *x, nni_picture *y, const char *fill) {
  const size_t each = (size_t)x->c * nn_dtype_size(x->dtype);
  char *to = y->own;
  const bool within = g->kind == NNI_PLACE_WINDOW && g->left >= 0 && (int64_t)g->left + g->w <= x->w;
  for (int32_t i = 0; i < g->h; i++) {
    const int64_t row = (int64_t)g->top + (g->mirror_y ? g->h - 1 - i : i);
    if (within && row >= 0 && row < x->h) {
      copy_row((const char *)x->data + (size_t)(row * x->w + g->left) * each, to, g->w, each, g->mirror_x);
      to += (size_t)g->w * each;
      continue;
    }
    for (int32_t j = 0; j < g->w; j++, to += each) {
      double u, v;
      int64_t a = -1, b = -1;
      if (g->kind == NNI_PLACE_WINDOW) {
        a = folded(row, x->h, 0);
        b = folded((int64_t)g->left + (g->mirror_x ? g->w - 1 - j : j), x->w, 0);
      } else if (source_of(g, j, i, &u, &v)) {
        a = folded(pixel_at(v), x->h, g->beyond);
        b = folded(pixel_at(u), x->w, g->beyond);
      }
      memcpy(to, a < 0 || b < 0 ? fill : (const char *)x->data + (size_t)(a * x->w + b) * each, each);
    }
  }
}

static void copy_bilinear(const nni_geometry *g, const nni_picture *x, nni_picture *y, float fill) {
  const bool bytes = x->dtype == NN_U8;
  const int32_t c = x->c;
  size_t at = 0;
  for (int32_t i = 0; i < g->h; i++)
    for (int32_t j = 0; j < g->w; j++) {
      double u = 0, v = 0;
      const bool somewhere = source_of(g, j, i, &u, &v);
      u -= 0.5, v -= 0.5;
      const int64_t x0 = (int64_t)floor(u), y0 = (int64_t)floor(v);
      const float fx = (float)(u - (double)x0), fy = (float)(v - (double)y0);
      const float weight[4] = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
      int64_t from[4];
      for (int k = 0; k < 4; k++) {
        const int64_t a = somewhere ? folded(y0 + (k >> 1), x->h, g->beyond) : -1, b = somewhere ? folded(x0 + (k & 1), x->w, g->beyond) : -1;
        from[k] = a < 0 || b < 0 ? -1 : (a * x->w + b) * c;
      }
      for (int32_t ch = 0; ch < c; ch++, at++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
          float s = fill;
          if (from[k] >= 0) s = bytes ? (float)((const uint8_t *)x->data)[from[k] + ch] : ((const float *)x->data)[from[k] + ch];
          sum += weight[k] * s;
        }
        if (bytes) ((uint8_t *)y->own)[at] = (uint8_t)(int)(sum + 0.5f); /* a mean of bytes is within them */
        else ((float *)y->own)[at] = sum;
      }
    }
}

nn_status nni_geometry_apply(nni_memory *m, const nni_geometry *g, bool mask, nni_picture *x, nni_error *err) {
  nni_picture y;
  if (g->kind == NNI_PLACE_RESIZE) return nni_picture_resize(m, x, g->h, g->w, mask ? NNI_RESIZE_NEAREST : (nni_resize_method)g->method, g->antialias, err);
  const bool smooth = g->bilinear && !mask && g->kind != NNI_PLACE_WINDOW;
  if (smooth && x->dtype != NN_U8 && x->dtype != NN_F32)
    return nni_fail(err, NN_EDTYPE, "vision: images are u8 or f32, got %s", nn_dtype_name(x->dtype));
  const size_t size = nn_dtype_size(x->dtype), each = (size_t)x->c * size;
  nn_status rc = nni_picture_new(m, x->dtype, g->h, g->w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  if (smooth) {
    copy_bilinear(g, x, &y, (float)(x->dtype == NN_U8 ? fmin(fmax(g->fill, 0), 255) : g->fill));
  } else {
    char *fill = nni_malloc(m, each);
    if (fill == NULL) {
      nni_picture_free(m, &y);
      return nni_fail(err, NN_ENOMEM, "vision: out of memory");
    }
    for (int32_t i = 0; i < x->c; i++) fill_bytes(x->dtype, mask ? 0 : g->fill, fill + (size_t)i * size);
    copy_warped(g, x, &y, fill);
    nni_free(m, fill, each);
  }
  nni_picture_free(m, x);
  *x = y;
  return NN_OK;
}

/* ---- boxes ---------------------------------------------------------------------------------------------------------------------------------------- */

static void invert(const double *m, double *r) { /* the adjugate: a projective map needs no determinant */
  const double adjugate[9] = {
    m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
    m[5] * m[6] - m[3] * m[8], m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
    m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]};
  memcpy(r, adjugate, sizeof adjugate);
}

/* Where a point of the source lies in the result. */
static void forward(const nni_geometry *g, const double *inverse, int32_t h, int32_t w, double *x, double *y) {
  switch (g->kind) {
    case NNI_PLACE_WINDOW:
      *x = g->mirror_x ? g->w - (*x - g->left) : *x - g->left;
      *y = g->mirror_y ? g->h - (*y - g->top) : *y - g->top;
      return;
    case NNI_PLACE_RESIZE:
      *x *= (double)g->w / w;
      *y *= (double)g->h / h;
      return;
    case NNI_PLACE_WARP: {
      const double q = inverse[6] * *x + inverse[7] * *y + inverse[8];
      const double u = (inverse[0] * *x + inverse[1] * *y + inverse[2]) / q;
      *y = (inverse[3] * *x + inverse[4] * *y + inverse[5]) / q;
      *x = u;
      return;
    }
    case NNI_PLACE_FIELD: { /* the field is smooth: what moved here moved as its neighbours did */
      const double cx = fmin(fmax(*x, 0), g->w - 1), cy = fmin(fmax(*y, 0), g->h - 1);
      const float *f = g->field + 2 * ((size_t)cy * (size_t)g->w + (size_t)cx);
      *x -= (double)f[0];
      *y -= (double)f[1];
      return;
    }
    default: return;
  }
}

/* A box becomes the smallest one around its four corners, cut at the borders; one that is wholly outside gets the size 0. */
void nni_geometry_boxes(const nni_geometry *g, int32_t h, int32_t w, float *boxes, int64_t n) {
  double inverse[9];
  invert(g->m, inverse);
  for (int64_t i = 0; i < n; i++, boxes += 4) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int k = 0; k < 4; k++) {
      double at[2] = {(double)boxes[k & 1 ? 2 : 0], (double)boxes[k & 2 ? 3 : 1]};
      forward(g, inverse, h, w, &at[0], &at[1]);
      for (int a = 0; a < 2; a++) low[a] = fmin(low[a], at[a]), high[a] = fmax(high[a], at[a]);
    }
    for (int a = 0; a < 2; a++) {
      const double size = a == 0 ? g->w : g->h;
      boxes[a] = (float)fmin(fmax(low[a], 0), size);
      boxes[a + 2] = (float)fmin(fmax(high[a], 0), size);
    }
  }
}
