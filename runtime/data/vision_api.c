/* data/vision_api.c - nn_vision.h on top of io/image.h and data/vision.h: tensors instead of buffers, the context's error slot. Main thread only. */
#include "../nn_vision.h"

#include "../io/image.h"
#include "../tensor/tensor.h"
#include "vision.h"

/* ---- files in memory ------------------------------------------------------------------------------------------------------------------------ */

nn_tensor *nn_image_decode(nn_context *ctx, const void *bytes, size_t n, const nn_image_want *want) {
  const nni_image_want w = {.channels = want->channels, .depth = want->depth, .height = want->height, .width = want->width, .as_stored = want->as_stored};
  nni_image x;
  if (nni_image_decode(nni_memory_of(ctx), bytes, n, &w, &x, nni_error_of(ctx)) != NN_OK) return NULL;
  const int64_t shape[] = {x.height, x.width, x.channels};
  return nni_tensor_adopt(ctx, x.depth == 16 ? NN_I32 : NN_U8, 3, shape, x.pixels);
}

static nn_status image_of(nn_context *ctx, nn_tensor *x, nni_image *out) {
  const int64_t *d = nn_shape(x);
  const int ndim = nn_ndim(x);
  const nn_dtype dtype = nn_dtype_of(x);
  char shape[256];
  nni_shape_text(ndim, d, shape, sizeof shape);
  if ((ndim != 2 && ndim != 3) || (dtype != NN_U8 && dtype != NN_I32))
    return nni_fail(nni_error_of(ctx), NN_EINVAL, "image: takes u8 H x W x C (or i32 with 16 bits), got %s %s", nn_dtype_name(dtype), shape);
  const int64_t channels = ndim == 3 ? d[2] : 1;
  if (d[0] < 1 || d[1] < 1 || channels < 1 || channels > 4 || d[0] > NNI_IMAGE_PIXELS || d[1] > NNI_IMAGE_PIXELS || d[0] * d[1] > NNI_IMAGE_PIXELS)
    return nni_fail(nni_error_of(ctx), NN_ESHAPE, "image: 1 to 2^28 pixels of 1 to 4 channels, got %s", shape);
  const union { const void *from; void *pixels; } u = {.from = nn_data(x)}; /* encoding only reads */
  if (u.from == NULL) return nni_error_of(ctx)->status;
  *out = (nni_image){.height = (int32_t)d[0], .width = (int32_t)d[1], .channels = (int32_t)channels, .depth = dtype == NN_I32 ? 16 : 8, .pixels = u.pixels,
                     .bytes = (size_t)(d[0] * d[1] * channels) * nn_dtype_size(dtype)};
  return NN_OK;
}

nn_status nn_image_encode(nn_context *ctx, nn_tensor *x, const char *format, int quality, void (*put)(void *ud, const void *p, size_t n), void *ud) {
  static const struct { const char *name; nni_image_format format; } names[] = {
    {"png", NNI_IMAGE_PNG}, {"jpeg", NNI_IMAGE_JPEG}, {"jpg", NNI_IMAGE_JPEG}, {"bmp", NNI_IMAGE_BMP}, {"ppm", NNI_IMAGE_PNM}, {"pgm", NNI_IMAGE_PNM}};
  nni_image_format f = NNI_IMAGE_NONE;
  nni_bytes out = {.m = nni_memory_of(ctx)};
  nni_image image;
  for (int i = 0; i < NNI_COUNT(names); i++)
    if (strcmp(names[i].name, format) == 0) f = names[i].format;
  if (f == NNI_IMAGE_NONE) return nni_fail(nni_error_of(ctx), NN_EINVAL, "image: no format '%.40s'; there are png, jpeg, bmp, ppm", format);
  nn_status rc = image_of(ctx, x, &image);
  if (rc == NN_OK) rc = nni_image_encode(&image, f, quality, &out, nni_error_of(ctx));
  if (rc == NN_OK) put(ud, out.p, out.n);
  nni_bytes_free(&out);
  return rc;
}

nn_tensor *nn_sound_decode(nn_context *ctx, const void *bytes, size_t n, int *rate) {
  nni_sound s;
  if (nni_wav_decode(nni_memory_of(ctx), bytes, n, &s, nni_error_of(ctx)) != NN_OK) return NULL;
  const int64_t shape[] = {s.frames, s.channels};
  *rate = s.rate;
  return nni_tensor_adopt(ctx, NN_F32, 2, shape, s.samples);
}

nn_status nn_sound_encode(nn_context *ctx, nn_tensor *x, int rate, void (*put)(void *ud, const void *p, size_t n), void *ud) {
  const int64_t *d = nn_shape(x);
  nni_bytes out = {.m = nni_memory_of(ctx)};
  if (nn_ndim(x) != 2 || nn_dtype_of(x) != NN_F32 || d[1] < 1 || d[1] > 1024 || rate < 1)
    return nni_fail(nni_error_of(ctx), NN_EINVAL, "WAV: takes f32 frames x channels (1 to 1024) and a rate above 0");
  const union { const void *from; void *to; } u = {.from = nn_data(x)}; /* encoding only reads */
  if (u.from == NULL) return nni_error_of(ctx)->status;
  const nni_sound s = {.frames = d[0], .channels = (int32_t)d[1], .rate = rate, .samples = u.to};
  nn_status rc = nni_wav_encode(&s, &out, nni_error_of(ctx));
  if (rc == NN_OK) put(ud, out.p, out.n);
  nni_bytes_free(&out);
  return rc;
}

/* ---- transforms ----------------------------------------------------------------------------------------------------------------------------- */

int nn_transform_count(void) { return nni_ntransforms; }

const char *nn_transform_name(int i, const char **params) {
  *params = nni_transforms[i].params;
  return nni_transforms[i].name;
}

nn_vision *nn_vision_new(nn_context *ctx, int nkinds, const nn_vision_kind *kinds, double low, double high) {
  nni_vision *v = NULL;
  if (nkinds < 1 || nkinds > NN_DATA_MAX) nni_fail(nni_error_of(ctx), NN_EINVAL, "vision: %d kinds; a sample has 1 to %d parts", nkinds, NN_DATA_MAX);
  else if (!(low < high)) nni_fail(nni_error_of(ctx), NN_EINVAL, "vision: the range of values %g to %g is empty", low, high);
  else if ((v = nni_calloc(nni_memory_of(ctx), sizeof *v)) == NULL) nni_fail(nni_error_of(ctx), NN_ENOMEM, "vision: out of memory");
  if (v == NULL) return NULL;
  v->range = (nni_range){(float)low, (float)high};
  v->nkinds = nkinds;
  for (int i = 0; i < nkinds; i++) v->kinds[i] = (nni_vision_kind)kinds[i];
  return v;
}

nn_status nn_vision_add(nn_context *ctx, nn_vision *v, const char *name, double chance, int n, const double *params) {
  const nni_transform *t = nni_transform_named(name);
  if (t == NULL) return nni_fail(nni_error_of(ctx), NN_EINVAL, "vision: no transform '%.40s'", name);
  if (n != nni_transform_nparams(t)) return nni_fail(nni_error_of(ctx), NN_EINVAL, "%s: %d parameters; it has %d", name, n, nni_transform_nparams(t));
  if (v->n == NNI_VISION_STEPS) return nni_fail(nni_error_of(ctx), NN_EINVAL, "vision: more than %d transforms in a list", NNI_VISION_STEPS);
  nni_step *s = &v->steps[v->n];
  *s = (nni_step){.t = t, .chance = chance};
  for (int i = 0; i < n; i++) {
    if (!(params[i] > -1e9 && params[i] < 1e9)) return nni_fail(nni_error_of(ctx), NN_EINVAL, "%s: parameter %d is %g", name, i + 1, params[i]);
    s->p[i] = params[i];
  }
  v->n++;
  return NN_OK;
}

nn_vision *nn_vision_copy(nn_context *ctx, const nn_vision *v) {
  nni_vision *copy = nni_malloc(nni_memory_of(ctx), sizeof *copy);
  if (copy != NULL) *copy = *v;
  else nni_fail(nni_error_of(ctx), NN_ENOMEM, "vision: out of memory");
  return copy;
}

void nn_vision_free(nn_context *ctx, nn_vision *v) { nni_free(nni_memory_of(ctx), v, sizeof *v); }

static uint64_t key_of(uint64_t seed, uint64_t epoch, uint64_t sample) {
  const nni_philox p = nni_philox4x32(seed, sample, epoch);
  return (uint64_t)p.v[1] << 32 | p.v[0];
}

nn_status nn_vision_apply(nn_context *ctx, const nn_vision *v, uint64_t seed, uint64_t epoch, uint64_t sample, nn_tensor *const *in, int nin,
                          nn_tensor **out, int *nout) {
  nni_element from = {.n = nin}, to;
  *nout = 0;
  if (nin < 1 || nin > NN_DATA_MAX) return nni_fail(nni_error_of(ctx), NN_EINVAL, "vision: a sample of %d tensors; it can have 1 to %d", nin, NN_DATA_MAX);
  for (int i = 0; i < nin; i++) {
    nni_component *c = &from.c[i];
    *c = (nni_component){.dtype = nn_dtype_of(in[i]), .ndim = nn_ndim(in[i]), .tensor = nn_retain(in[i])};
    memcpy(c->shape, nn_shape(in[i]), (size_t)c->ndim * sizeof *c->shape);
  }
  nn_status rc = nni_vision_apply(v, nni_memory_of(ctx), key_of(seed, epoch, sample), &from, &to, nni_error_of(ctx));
  nni_element_free(nni_memory_of(ctx), &from);
  return rc == NN_OK ? nni_element_tensors(ctx, &to, out, nout) : rc;
}

typedef struct vision_map {
  nni_vision v;
  nni_memory *m;
  char name[NNI_VISION_NAME]; /* "Resize+RandomFlip" */
} vision_map;

static nn_status map_run(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err) {
  const vision_map *map = ud;
  (void)worker;
  return nni_vision_apply(&map->v, m, sample->key, in, out, err);
}

static nn_status map_spec(void *ud, const nni_element *in, nni_element *out, nni_error *err) {
  (void)err;
  nni_vision_spec(&((const vision_map *)ud)->v, in, out);
  return NN_OK;
}

static void map_drop(void *ud) {
  vision_map *map = ud;
  nni_free(map->m, map, sizeof *map);
}

nn_dataset *nn_data_vision(nn_context *ctx, nn_dataset *up, const nn_vision *v, int workers, uint64_t seed) {
  nni_memory *m = nni_memory_of(ctx);
  vision_map *map = nni_calloc(m, sizeof *map);
  if (map == NULL) {
    nni_fail(nni_error_of(ctx), NN_ENOMEM, "map: out of memory");
    return NULL;
  }
  map->v = *v;
  map->m = m;
  nni_vision_name(v, map->name, sizeof map->name);
  const nni_native native = {.name = map->name, .run = map_run, .spec = map_spec, .drop = map_drop, .ud = map};
  return nni_data_native(up, &native, workers, seed, nni_error_of(ctx));
}

nn_status nn_vision_mix(nn_context *ctx, bool cut, double alpha, uint64_t seed, uint64_t epoch, uint64_t batch, nn_tensor *x, nn_tensor *y,
                        nn_tensor **nx, nn_tensor **ny) {
  const char *name = cut ? "CutMix" : "MixUp";
  nni_memory *m = nni_memory_of(ctx);
  nni_error *err = nni_error_of(ctx);
  const int64_t *d = nn_shape(x), *k = nn_shape(y);
  const nn_dtype dtype = nn_dtype_of(x);
  *nx = *ny = NULL;
  if (nn_ndim(x) != 4 || (dtype != NN_U8 && dtype != NN_F32)) return nni_fail(err, NN_ESHAPE, "%s: takes images N x H x W x C of u8 or f32", name);
  if (nn_ndim(y) != 2 || nn_dtype_of(y) != NN_F32 || k[0] != d[0])
    return nni_fail(err, NN_ESHAPE, "%s: takes labels f32 N x classes, a row per image (one_hot makes them of numbers)", name);
  if (!(alpha > 0)) return nni_fail(err, NN_EINVAL, "%s: alpha must be above 0, got %g", name, alpha);
  nni_batch b = {.dtype = dtype, .n = d[0], .h = d[1], .w = d[2], .c = d[3], .classes = k[1], .x = nn_data(x), .y = nn_data(y)};
  if (b.x == NULL || b.y == NULL) return err->status;
  const size_t bytes = (size_t)nn_numel(x) * nn_dtype_size(dtype), ybytes = (size_t)nn_numel(y) * sizeof(float), pbytes = ((size_t)b.n + 1) * sizeof(int64_t);
  int64_t *perm = nni_buffer_get(m, pbytes);
  b.nx = nni_buffer_get(m, bytes);
  b.ny = nni_buffer_get(m, ybytes);
  nni_draws draws = {.key = key_of(seed, epoch, batch), .stream = cut ? 2 : 1};
  const bool ok = perm != NULL && b.nx != NULL && b.ny != NULL;
  if (ok && cut) nni_cutmix(&b, alpha, &draws, perm);
  else if (ok) nni_mixup(&b, alpha, &draws, perm);
  if (perm != NULL) nni_buffer_put(m, perm, pbytes);
  if (!ok) {
    if (b.nx != NULL) nni_buffer_put(m, b.nx, bytes);
    if (b.ny != NULL) nni_buffer_put(m, b.ny, ybytes);
    return nni_fail(err, NN_ENOMEM, "%s: out of memory", name);
  }
  *nx = nni_tensor_adopt(ctx, dtype, 4, d, b.nx);
  *ny = nni_tensor_adopt(ctx, NN_F32, 2, k, b.ny);
  if (*nx != NULL && *ny != NULL) return NN_OK;
  nn_release(*nx);
  nn_release(*ny);
  *nx = *ny = NULL;
  return err->status;
}
