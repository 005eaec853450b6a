/* io/image.h - images and sound from bytes and to bytes: JPEG, PNG, BMP, PPM and PGM, WAV.
**
** JPEG and PNG live in the module nn_image beside libnn (io/image_module.c: libjpeg-turbo and libpng), loaded on first use; the others are
** image_plain.c and wav.c. Everything here is pure: bytes in, bytes out, any thread.
**
** Pixels are rows of height x width x channels, row-major, without gaps: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. Bytes read are not trusted: an
** image has at most NNI_IMAGE_PIXELS pixels, a JPEG or PNG that declares more than its bytes could hold is refused before anything is allocated, and
** a file that ends early is an error.
*/
#ifndef NNI_IMAGE_H
#define NNI_IMAGE_H
#include "../base/base.h"

#define NNI_IMAGE_PIXELS (INT64_C(1) << 28)

typedef enum nni_image_format { NNI_IMAGE_NONE, NNI_IMAGE_JPEG, NNI_IMAGE_PNG, NNI_IMAGE_BMP, NNI_IMAGE_PNM } nni_image_format;

typedef struct nni_image {
  int32_t height, width, channels, depth; /* depth: bits of a sample, 8 (uint8_t) or 16 (int32_t, 0 to 65535) */
  void *pixels;                           /* of nni_buffer_get(m, bytes) */
  size_t bytes;
} nni_image;

/* What is wanted of an image; zeros: as it is stored, 8 bits. */
typedef struct nni_image_want {
  int32_t channels;      /* 1, 3, 4: gray is repeated, colours become luma (ITU-R BT.601), alpha is dropped (not blended) or 255; 0: as stored */
  int32_t depth;         /* 16: of 16-bit PNG and PNM; 8-bit ones are widened (x 257) */
  int32_t height, width; /* > 0: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as neither side falls below these: much quicker */
  bool as_stored;        /* the EXIF orientation of a JPEG is not applied */
} nni_image_want;

nni_image_format nni_image_sniff(const uint8_t *p, size_t n);
nn_status nni_image_decode(nni_memory *m, const uint8_t *p, size_t n, const nni_image_want *want, nni_image *out, nni_error *err);
void nni_image_free(nni_memory *m, nni_image *x);

/* Growing bytes; zeros are an empty one. */
typedef struct nni_bytes {
  nni_memory *m;
  uint8_t *p;
  size_t n, cap;
} nni_bytes;
bool nni_bytes_add(void *bytes, const void *p, size_t n); /* bytes: a nni_bytes; false: out of memory */
void nni_bytes_free(nni_bytes *b);

/* x as a file. BMP and JPEG keep no alpha, PNM neither; quality 1 to 100 is JPEG's. Depth 16: PNG and PNM. */
nn_status nni_image_encode(const nni_image *x, nni_image_format format, int quality, nni_bytes *out, nni_error *err);

/* ---- image_plain.c ------------------------------------------------------------------------------------------------------------------ */
nn_status nni_pnm_decode(nni_memory *m, const uint8_t *p, size_t n, int depth, nni_image *out, nni_error *err);
nn_status nni_bmp_decode(nni_memory *m, const uint8_t *p, size_t n, nni_image *out, nni_error *err);
nn_status nni_pnm_encode(const nni_image *x, nni_bytes *out, nni_error *err);
nn_status nni_bmp_encode(const nni_image *x, nni_bytes *out, nni_error *err);
int nni_exif_orientation(const uint8_t *p, size_t n); /* of a JPEG file: 1 to 8; 1 when it says nothing */
/* Fills depth, sizes and an undefined buffer; refuses more than NNI_IMAGE_PIXELS. */
nn_status nni_image_alloc(nni_memory *m, int64_t height, int64_t width, int channels, int depth, nni_image *out, nni_error *err);

/* ---- wav.c --------------------------------------------------------------------------------------------------------------------------- */
typedef struct nni_sound {
  int64_t frames;
  int32_t channels, rate;
  float *samples; /* frames x channels in -1..1, of nni_buffer_get(m, bytes) */
  size_t bytes;
} nni_sound;
nn_status nni_wav_decode(nni_memory *m, const uint8_t *p, size_t n, nni_sound *out, nni_error *err); /* PCM 8, 16, 24, 32 bits; float 32, 64 */
nn_status nni_wav_encode(const nni_sound *s, nni_bytes *out, nni_error *err);                          /* PCM 16 bits */

/* ---- the module: what it is handed; it exports NNI_IMAGE_SYMBOL, a nni_image_module ------------------------------------------------------ */
#define NNI_IMAGE_SYMBOL "nn_image_codecs"
#define NNI_IMAGE_ABI 1
typedef struct nni_image_job {
  const uint8_t *file; /* decoding */
  size_t n;
  nni_image_want want;                                                     /* channels 0, 1 or 3 */
  void *(*get)(void *ud, int64_t height, int64_t width, int channels, int depth); /* pixels for the declared size; NULL: stop, text is set by get's owner */
  int32_t height, width, channels, depth;                                  /* encoding */
  const void *pixels;
  int quality;
  bool (*put)(void *ud, const void *p, size_t n); /* a piece of the file */
  void *ud;
  bool stopped;   /* out: get or put refused */
  char text[200]; /* out: why it failed */
} nni_image_job;
typedef struct nni_image_module {
  int abi;
  bool (*jpeg_decode)(nni_image_job *job);
  bool (*jpeg_encode)(nni_image_job *job);
  bool (*png_decode)(nni_image_job *job);
  bool (*png_encode)(nni_image_job *job);
} nni_image_module;

#endif
