/* io/image.c - images from bytes of any format and to bytes: which format it is, the module, channels, orientation. See image.h.
**
** Owns the module: loaded once, by whichever thread needs it first, and kept.
*/
#define _GNU_SOURCE
#include "image.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>

#include "beside.h"

/* ---- the module -------------------------------------------------------------------------------------------------------------------------- */
static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;
static const nni_image_module *module; /* set once */

static nn_status load_module(const nni_image_module **out, nni_error *err) {
  static const char need[] = "JPEG and PNG need the module nn_image, libjpeg-turbo and libpng";
  char path[PATH_MAX];
  nn_status rc = NN_OK;
  pthread_mutex_lock(&module_lock);
  if (module == NULL) {
    if (!nni_find_beside("libnn_image.so", path, sizeof path)) {
      rc = nni_fail(err, NN_EUNSUPPORTED, "%s: libnn_image.so is not beside libnn", need);
    } else {
      void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
      const nni_image_module *found = lib != NULL ? dlsym(lib, NNI_IMAGE_SYMBOL) : NULL;
      if (lib == NULL) rc = nni_fail(err, NN_EUNSUPPORTED, "%s: %s", need, dlerror());
      else if (found == NULL || found->abi != NNI_IMAGE_ABI) rc = nni_fail(err, NN_EUNSUPPORTED, "%s: %.300s belongs to another version", need, path);
      else module = found;
      if (lib != NULL && rc != NN_OK) dlclose(lib);
    }
  }
  *out = module;
  pthread_mutex_unlock(&module_lock);
  return rc;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------------------------------- */

bool nni_bytes_add(void *bytes, const void *p, size_t n) {
  nni_bytes *b = bytes;
  if (n > b->cap - b->n) {
    size_t cap = b->cap > 0 ? b->cap : 4096;
    while (cap - b->n < n) {
      if (cap > PTRDIFF_MAX / 2) return false;
      cap *= 2;
    }
    uint8_t *q = nni_realloc(b->m, b->p, b->cap, cap);
    if (q == NULL) return false;
    b->p = q;
    b->cap = cap;
  }
  if (n > 0) memcpy(b->p + b->n, p, n);
  b->n += n;
  return true;
}

void nni_bytes_free(nni_bytes *b) {
  nni_free(b->m, b->p, b->cap);
  *b = (nni_bytes){.m = b->m};
}

void nni_image_free(nni_memory *m, nni_image *x) {
  if (x->pixels != NULL) nni_buffer_put(m, x->pixels, x->bytes);
  *x = (nni_image){0};
}

nni_image_format nni_image_sniff(const uint8_t *p, size_t n) {
  if (n >= 4 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff) return NNI_IMAGE_JPEG;
  if (n >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0) return NNI_IMAGE_PNG;
  if (n >= 2 && p[0] == 'B' && p[1] == 'M') return NNI_IMAGE_BMP;
  if (n >= 3 && p[0] == 'P' && (p[1] == '2' || p[1] == '3' || p[1] == '5' || p[1] == '6')) return NNI_IMAGE_PNM;
  return NNI_IMAGE_NONE;
}

/* ---- channels and depth --------------------------------------------------------------------------------------------------------------------- */

static int32_t luma(int32_t r, int32_t g, int32_t b) { return (int32_t)((19595LL * r + 38470LL * g + 7471LL * b + 32768) >> 16); }

/* n pixels of `from` channels as ones of `to`: both arrays hold samples of TYPE */
#define CONVERT(TYPE, FULL)                                                                                     \
  static void convert_##TYPE(const TYPE *x, int from, TYPE *y, int to, size_t n) {                              \
    for (size_t i = 0; i < n; i++, x += from, y += to) {                                                        \
      const bool gray = from < 3;                                                                               \
      if (to == 1) y[0] = gray ? x[0] : (TYPE)luma(x[0], x[1], x[2]);                                           \
      else y[0] = x[0], y[1] = gray ? x[0] : x[1], y[2] = gray ? x[0] : x[2];                                   \
      if (to == 4) y[3] = from == 2 ? x[1] : from == 4 ? x[3] : (TYPE)FULL;                                     \
    }                                                                                                           \
  }
CONVERT(uint8_t, 255)
CONVERT(int32_t, 65535)

/* x with `channels` channels and `depth` bits in place of what it has. */
static nn_status convert(nni_memory *m, nni_image *x, int channels, int depth, nni_error *err) {
  nni_image y;
  const size_t n = (size_t)x->height * (size_t)x->width;
  if (depth == 16 && x->depth == 8) {
    nn_status rc = nni_image_alloc(m, x->height, x->width, x->channels, 16, &y, err);
    if (rc != NN_OK) return rc;
    for (size_t i = 0; i < n * (size_t)x->channels; i++) ((int32_t *)y.pixels)[i] = 257 * ((const uint8_t *)x->pixels)[i];
    nni_image_free(m, x);
    *x = y;
  }
  if (channels == 0 || channels == x->channels) return NN_OK;
  nn_status rc = nni_image_alloc(m, x->height, x->width, channels, x->depth, &y, err);
  if (rc != NN_OK) return rc;
  if (x->depth == 16) convert_int32_t(x->pixels, x->channels, y.pixels, channels, n);
  else convert_uint8_t(x->pixels, x->channels, y.pixels, channels, n);
  nni_image_free(m, x);
  *x = y;
  return NN_OK;
}

/* EXIF's eight ways to hold a camera: x (8 bits) as it should be seen. Row y, column x of the result is at (a, b) of what is stored. */
static nn_status turn(nni_memory *m, nni_image *x, int orientation, nni_error *err) {
  const bool across = orientation >= 5; /* height and width change places */
  nni_image y;
  if (orientation <= 1) return NN_OK;
  nn_status rc = nni_image_alloc(m, across ? x->width : x->height, across ? x->height : x->width, x->channels, 8, &y, err);
  if (rc != NN_OK) return rc;
  const uint8_t *from = x->pixels;
  uint8_t *to = y.pixels;
  const int64_t h = x->height, w = x->width, c = x->channels;
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  for (int64_t i = 0; i < y.height; i++)
    for (int64_t j = 0; j < y.width; j++, to += c) {
      int64_t a = across ? j : i, b = across ? i : j; /* row and column that are stored */
      if (across ? flip_columns : flip_rows) a = h - 1 - a;
      if (across ? flip_rows : flip_columns) b = w - 1 - b;
      for (int64_t k = 0; k < c; k++) to[k] = from[(a * w + b) * c + k];
    }
  nni_image_free(m, x);
  *x = y;
  return NN_OK;
}

/* ---- through the module ------------------------------------------------------------------------------------------------------------------------ */

typedef struct decoding {
  nni_memory *m;
  nni_error *err;
  nni_image image;
  uint16_t *wide; /* 16-bit samples of PNG, before they become int32_t */
  size_t wide_bytes;
} decoding;

static void *decoding_get(void *ud, int64_t height, int64_t width, int channels, int depth) {
  decoding *d = ud;
  if (d->image.pixels != NULL || nni_image_alloc(d->m, height, width, channels, depth, &d->image, d->err) != NN_OK) return NULL;
  if (depth == 8) return d->image.pixels;
  d->wide_bytes = d->image.bytes / 2;
  d->wide = nni_buffer_get(d->m, d->wide_bytes);
  if (d->wide == NULL) nni_fail(d->err, NN_ENOMEM, "image: out of memory for %zu bytes", d->wide_bytes);
  return d->wide;
}

static nn_status decode_by_module(nni_memory *m, nni_image_format format, const uint8_t *p, size_t n, const nni_image_want *want, nni_image *out,
                                  nni_error *err) {
  const nni_image_module *codecs;
  nn_status rc = load_module(&codecs, err);
  if (rc != NN_OK) return rc;
  decoding d = {.m = m, .err = err};
  nni_image_job job = {.file = p, .n = n, .want = *want, .get = decoding_get, .ud = &d};
  if (want->channels == 4) job.want.channels = 0;
  const int orientation = format == NNI_IMAGE_JPEG && !want->as_stored ? nni_exif_orientation(p, n) : 1;
  if (orientation >= 5) job.want.height = want->width, job.want.width = want->height;
  const bool ok = format == NNI_IMAGE_JPEG ? codecs->jpeg_decode(&job) : codecs->png_decode(&job);
  if (ok && d.wide != NULL)
    for (size_t i = 0; i < d.wide_bytes / 2; i++) ((int32_t *)d.image.pixels)[i] = d.wide[i];
  if (d.wide != NULL) nni_buffer_put(m, d.wide, d.wide_bytes);
  if (!ok) {
    nni_image_free(m, &d.image);
    if (job.stopped) return err != NULL ? err->status : NN_ENOMEM;
    return nni_fail(err, NN_EFORMAT, "%s image: %s", format == NNI_IMAGE_JPEG ? "JPEG" : "PNG", job.text[0] != 0 ? job.text : "damaged");
  }
  *out = d.image;
  return turn(m, out, orientation, err);
}

nn_status nni_image_decode(nni_memory *m, const uint8_t *p, size_t n, const nni_image_want *want, nni_image *out, nni_error *err) {
  const nni_image_format format = nni_image_sniff(p, n);
  nn_status rc;
  *out = (nni_image){0};
  switch (format) {
    case NNI_IMAGE_JPEG: case NNI_IMAGE_PNG: rc = decode_by_module(m, format, p, n, want, out, err); break;
    case NNI_IMAGE_BMP: rc = nni_bmp_decode(m, p, n, out, err); break;
    case NNI_IMAGE_PNM: rc = nni_pnm_decode(m, p, n, want->depth, out, err); break;
    default: return nni_fail(err, NN_EFORMAT, "image: the bytes are no JPEG, PNG, BMP, PPM or PGM");
  }
  if (rc == NN_OK) rc = convert(m, out, want->channels, want->depth, err);
  if (rc != NN_OK) nni_image_free(m, out);
  return rc;
}

/* ---- encoding -------------------------------------------------------------------------------------------------------------------------------- */

nn_status nni_image_encode(const nni_image *x, nni_image_format format, int quality, nni_bytes *out, nni_error *err) {
  const nni_image_module *codecs;
  const char *name = format == NNI_IMAGE_JPEG ? "JPEG" : format == NNI_IMAGE_PNG ? "PNG" : format == NNI_IMAGE_BMP ? "BMP" : "PNM";
  if (x->channels < 1 || x->channels > 4 || (format != NNI_IMAGE_PNG && x->channels != 1 && x->channels != 3))
    return nni_fail(err, NN_EINVAL, "%s image: %d channels; it can have %s", name, x->channels, format == NNI_IMAGE_PNG ? "1 to 4" : "1 or 3");
  if (x->depth == 16 && format != NNI_IMAGE_PNG && format != NNI_IMAGE_PNM) return nni_fail(err, NN_EINVAL, "%s image: samples have 8 bits", name);
  if (format == NNI_IMAGE_BMP) return nni_bmp_encode(x, out, err);
  if (format == NNI_IMAGE_PNM) return nni_pnm_encode(x, out, err);
  nn_status rc = load_module(&codecs, err);
  if (rc != NN_OK) return rc;
  nni_image_job job = {.height = x->height, .width = x->width, .channels = x->channels, .depth = x->depth, .pixels = x->pixels, .quality = quality,
                       .put = nni_bytes_add, .ud = out};
  uint16_t *wide = NULL;
  const size_t n = x->bytes / sizeof(int32_t);
  if (x->depth == 16) {
    if ((wide = nni_buffer_get(out->m, n * 2)) == NULL) return nni_fail(err, NN_ENOMEM, "image: out of memory");
    for (size_t i = 0; i < n; i++) wide[i] = (uint16_t)((const int32_t *)x->pixels)[i];
    job.pixels = wide;
  }
  const bool ok = format == NNI_IMAGE_JPEG ? codecs->jpeg_encode(&job) : codecs->png_encode(&job);
  if (wide != NULL) nni_buffer_put(out->m, wide, n * 2);
  if (ok) return NN_OK;
  if (job.stopped) return nni_fail(err, NN_ENOMEM, "image: out of memory");
  return nni_fail(err, NN_EINVAL, "%s image: %s", name, job.text);
}
