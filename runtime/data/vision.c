/* data/vision.c - the table of transforms and how a list of them is applied to a sample. See vision.h. */
#include "vision.h"

#include <stdio.h>

#include "../io/image.h"
#include "../tensor/tensor.h"

/* ---- the table ------------------------------------------------------------------------------------------------------------------------ */
const nni_transform nni_transforms[] = {
#define NN_TRANSFORM(name, sort, function, gives, params) {#name, params, NNI_GIVES_##gives, .sort = function},
#include "vision.def"
#undef NN_TRANSFORM
};
const int nni_ntransforms = NNI_COUNT(nni_transforms);

const nni_transform *nni_transform_named(const char *name) {
  for (int i = 0; i < nni_ntransforms; i++)
    if (strcmp(nni_transforms[i].name, name) == 0) return &nni_transforms[i];
  return NULL;
}

int nni_transform_nparams(const nni_transform *t) {
  int n = t->params[0] != 0;
  for (const char *s = t->params; *s != 0; s++) n += *s == ' ';
  return n;
}

/* ---- pictures --------------------------------------------------------------------------------------------------------------------------- */

nn_status nni_picture_new(nni_memory *m, nn_dtype dtype, int64_t h, int64_t w, int64_t c, nni_picture *out, nni_error *err) {
  const int64_t sizes[] = {h, w, c};
  int64_t count;
  *out = (nni_picture){0};
  if (!nni_size_mul(sizes, 3, nn_dtype_size(dtype), &count) || count == 0 || h * w > NNI_IMAGE_PIXELS)
    return nni_fail(err, NN_EINVAL, "image: %lld x %lld x %lld; it can have 1 to 2^28 pixels", (long long)h, (long long)w, (long long)c);
  *out = (nni_picture){.dtype = dtype, .h = (int32_t)h, .w = (int32_t)w, .c = (int32_t)c, .bytes = (size_t)count * nn_dtype_size(dtype)};
  out->data = out->own = nni_buffer_get(m, out->bytes);
  return out->own != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "image: out of memory for %zu bytes", out->bytes);
}

void nni_picture_free(nni_memory *m, nni_picture *x) {
  if (x->own != NULL) nni_buffer_put(m, x->own, x->bytes);
  *x = (nni_picture){0};
}

nn_status nni_picture_own(nni_memory *m, nni_picture *x, nni_error *err) {
  nni_picture y;
  if (x->own != NULL) return NN_OK;
  nn_status rc = nni_picture_new(m, x->dtype, x->h, x->w, x->c, &y, err);
  if (rc != NN_OK) return rc;
  memcpy(y.own, x->data, y.bytes);
  *x = y;
  return NN_OK;
}

nn_status nni_decode_picture(nni_memory *m, const double *p, nni_picture *x, nni_error *err) {
  const nni_image_want want = {.channels = (int32_t)p[0], .height = (int32_t)p[1], .width = (int32_t)p[2]};
  nni_image image;
  nn_status rc = nni_image_decode(m, x->data, (size_t)x->w, &want, &image, err);
  if (rc != NN_OK) return rc;
  nni_picture_free(m, x);
  *x = (nni_picture){.dtype = NN_U8, .h = image.height, .w = image.width, .c = image.channels, .data = image.pixels, .own = image.pixels,
                     .bytes = image.bytes};
  return NN_OK;
}

/* ---- a sample ---------------------------------------------------------------------------------------------------------------------------- */

double nni_draw_between(nni_draws *d, double low, double high) {
  const nni_philox p = nni_philox4x32(d->key, d->at++, d->stream);
  return low + (high - low) * ((double)p.v[0] * 0x1p-32);
}

typedef struct sample {
  const nni_vision *v;
  nni_memory *m;
  nni_error *err;
  int n;
  nni_vision_kind kind[NN_DATA_MAX];
  nni_picture part[NN_DATA_MAX]; /* of images and masks; boxes: h rows of 4 */
  int32_t h, w;                  /* of its images and masks; 0: not known yet */
} sample;

/* All images and masks of a sample have one size, which is noted in s. */
static nn_status check_sizes(sample *s, const char *name) {
  s->h = 0;
  for (int i = 0; i < s->n; i++) {
    const nni_picture *x = &s->part[i];
    if (s->kind[i] != NNI_VISION_IMAGE && s->kind[i] != NNI_VISION_MASK) continue;
    if (x->h == 0) return nni_fail(s->err, NN_EINVAL, "%s: part %d holds the bytes of a file; Decode comes first", name, i + 1);
    if (s->h == 0) s->h = x->h, s->w = x->w;
    if (x->h != s->h || x->w != s->w)
      return nni_fail(s->err, NN_ESHAPE, "%s: part %d of the sample is %d x %d, the first image %d x %d; they must have one size", name, i + 1, x->h, x->w,
        s->h, s->w);
  }
  return s->h > 0 ? NN_OK : nni_fail(s->err, NN_EINVAL, "%s: the sample has no image", name);
}

static nn_status place_sample(sample *s, const nni_step *step, nni_draws *d) {
  nni_geometry g = {.kind = NNI_PLACE_SAME};
  nn_status rc = check_sizes(s, step->t->name);
  if (rc == NN_OK) rc = step->t->place(s->m, step->p, d, s->h, s->w, &g, s->err);
  for (int i = 0; rc == NN_OK && g.kind != NNI_PLACE_SAME && i < s->n; i++) {
    nni_picture *x = &s->part[i];
    if (s->kind[i] == NNI_VISION_IMAGE || s->kind[i] == NNI_VISION_MASK) rc = nni_geometry_apply(s->m, &g, s->kind[i] == NNI_VISION_MASK, x, s->err);
    else if (s->kind[i] == NNI_VISION_BOXES && x->h > 0 && (rc = nni_picture_own(s->m, x, s->err)) == NN_OK)
      nni_geometry_boxes(&g, s->h, s->w, x->own, x->h);
  }
  if (g.field != NULL) nni_buffer_put(s->m, g.field, g.field_bytes);
  return rc;
}

static nn_status apply_step(sample *s, const nni_step *step, nni_draws *d) {
  const nni_transform *t = step->t;
  nn_status rc = NN_OK;
  if (t == NULL || (step->chance < 1 && nni_draw_between(d, 0, 1) >= step->chance)) return NN_OK;
  if (t->place != NULL) return place_sample(s, step, d);
  if (t->pick != NULL) {
    const int times = (int)step->p[0];
    for (int i = 0; i < times && rc == NN_OK; i++) {
      nni_step one = {.t = NULL, .chance = 1};
      if ((rc = check_sizes(s, t->name)) != NN_OK) break;
      t->pick(step->p, d, s->h, s->w, &one);
      rc = apply_step(s, &one, d); /* no row picks itself: the depth is two */
    }
    return rc;
  }
  const nni_draws start = *d; /* images of one sample change alike */
  for (int i = 0; i < s->n && rc == NN_OK; i++) {
    nni_picture *x = &s->part[i];
    if (s->kind[i] != NNI_VISION_IMAGE && !(t->decode != NULL && s->kind[i] == NNI_VISION_MASK)) continue;
    if (t->decode != NULL) {
      if (x->h != 0) return nni_fail(s->err, NN_EINVAL, "Decode: part %d of the sample is an image already, not the bytes of one", i + 1);
      rc = t->decode(s->m, step->p, x, s->err);
      continue;
    }
    if (x->h == 0) return nni_fail(s->err, NN_EINVAL, "%s: part %d holds the bytes of a file; Decode comes first", t->name, i + 1);
    if (x->dtype != NN_U8 && x->dtype != NN_F32) return nni_fail(s->err, NN_EDTYPE, "%s: images are u8 or f32, got %s", t->name, nn_dtype_name(x->dtype));
    *d = start;
    nni_range range = s->v->range;
    if (x->dtype == NN_U8) range = (nni_range){0, 255};
    rc = t->change(s->m, step->p, d, range, x, s->err);
  }
  return rc;
}

/* Part i of the element as a picture that borrows its data. A file's bytes: h 0, w their number. */
static nn_status borrow(sample *s, int i, const nni_component *c) {
  static const char *const kinds[] = {"", "image", "mask", "boxes"};
  nni_picture *x = &s->part[i];
  const int64_t *d = c->shape;
  char shape[256];
  nn_status rc = nni_element_data(c, &x->data, s->err);
  if (rc != NN_OK) return rc;
  x->dtype = c->dtype;
  bool good;
  if (s->kind[i] == NNI_VISION_BOXES) {
    good = c->ndim == 2 && d[1] == 4 && c->dtype == NN_F32 && d[0] <= INT32_MAX;
    if (good) x->h = (int32_t)d[0], x->w = 4, x->c = 1;
  } else if (c->ndim == 1 && c->dtype == NN_U8) {
    good = d[0] > 0 && d[0] <= INT32_MAX;
    if (good) x->w = (int32_t)d[0];
  } else {
    const int64_t channels = c->ndim == 3 ? d[2] : 1;
    good = (c->ndim == 2 || c->ndim == 3) && d[0] > 0 && d[1] > 0 && d[0] <= NNI_IMAGE_PIXELS && d[1] <= NNI_IMAGE_PIXELS
        && d[0] * d[1] <= NNI_IMAGE_PIXELS && channels > 0 && channels <= 4096;
    if (good) x->h = (int32_t)d[0], x->w = (int32_t)d[1], x->c = (int32_t)channels;
  }
  if (good) {
    x->bytes = (size_t)(x->h > 0 || s->kind[i] == NNI_VISION_BOXES ? x->h : 1) * (size_t)x->w * (size_t)(x->c > 0 ? x->c : 1) * nn_dtype_size(c->dtype);
    return NN_OK;
  }
  nni_shape_text(c->ndim, d, shape, sizeof shape);
  return nni_fail(s->err, NN_ESHAPE, "vision: part %d, the %s, is %s %s; expected %s", i + 1, kinds[s->kind[i]], nn_dtype_name(c->dtype), shape,
    s->kind[i] == NNI_VISION_BOXES ? "f32 K x 4" : "H x W x C, H x W, or the bytes of a file");
}

/* A picture as a part of the element that goes out; a borrowed one leaves the part as it came. */
static void give(const nni_picture *x, nni_vision_kind kind, nni_component *was, nni_component *c) {
  if (x->own == NULL) {
    *c = *was;
    *was = (nni_component){.dtype = c->dtype};
    return;
  }
  const bool flat = was->ndim == 2 && x->c == 1;
  *c = (nni_component){.dtype = x->dtype, .ndim = kind == NNI_VISION_BOXES || flat ? 2 : 3, .buffer = x->own, .bytes = x->bytes};
  c->shape[0] = x->h;
  c->shape[1] = x->w;
  c->shape[2] = x->c;
}

nn_status nni_vision_apply(const nni_vision *v, nni_memory *m, uint64_t key, nni_element *in, nni_element *out, nni_error *err) {
  sample s = {.v = v, .m = m, .err = err, .n = in->n};
  nn_status rc = NN_OK;
  out->n = 0;
  for (int i = 0; i < in->n && rc == NN_OK; i++) {
    s.kind[i] = i < v->nkinds ? v->kinds[i] : NNI_VISION_KEEP;
    if (s.kind[i] != NNI_VISION_KEEP) rc = borrow(&s, i, &in->c[i]);
  }
  for (int i = 0; i < v->n && rc == NN_OK; i++) {
    nni_draws d = {.key = key, .stream = (uint64_t)i + 1};
    rc = apply_step(&s, &v->steps[i], &d);
  }
  if (rc != NN_OK) {
    for (int i = 0; i < s.n; i++) nni_picture_free(m, &s.part[i]);
    return rc;
  }
  for (int i = 0; i < s.n; i++) give(&s.part[i], s.kind[i], &in->c[i], &out->c[i]);
  out->n = s.n;
  return NN_OK;
}

/* ---- what comes out, before it runs ---------------------------------------------------------------------------------------------------------- */

/* The part c after the step; false: that can't be told. */
static bool step_spec(const nni_step *s, nni_vision_kind kind, nni_component *c) {
  const bool image = kind == NNI_VISION_IMAGE, placed = image || kind == NNI_VISION_MASK, sure = s->chance >= 1;
  switch (s->t->gives) {
    case NNI_GIVES_same: return true;
    case NNI_GIVES_sized:
      for (int i = 0; placed && i < 2; i++)
        if (c->shape[i] != (int64_t)s->p[i]) c->shape[i] = sure ? (int64_t)s->p[i] : -1;
      return !placed || c->ndim >= 2;
    case NNI_GIVES_floats:
      if (!image || c->dtype == NN_F32) return true;
      c->dtype = NN_F32;
      return sure;
    case NNI_GIVES_picture:
      if (placed) *c = (nni_component){.dtype = NN_U8, .ndim = 3, .shape = {-1, -1, s->p[0] > 0 ? (int64_t)s->p[0] : -1}};
      return !placed || sure;
  }
  return false;
}

void nni_vision_spec(const nni_vision *v, const nni_element *in, nni_element *out) {
  bool known = in->n >= 0;
  *out = *in;
  for (int i = 0; known && i < v->n; i++)
    for (int k = 0; known && k < in->n && k < v->nkinds; k++) known = step_spec(&v->steps[i], v->kinds[k], &out->c[k]);
  if (!known) out->n = -1;
}

void nni_vision_name(const nni_vision *v, char *buf, size_t n) {
  for (int i = 0; i < v->n; i++) {
    const size_t at = strlen(buf);
    snprintf(buf + at, n - at, "%s%s", at > 0 ? "+" : "", v->steps[i].t->name);
  }
}
