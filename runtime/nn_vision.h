/* nn_vision.h - images and sound: files in memory, transforms of samples; a part of the public interface (nn.h is the first). Conventions are nn.h's.
**
** Images are tensors H x W x C (channels last): u8 0 to 255; 16-bit ones are i32 0 to 65535.
*/
#ifndef NN_VISION_H
#define NN_VISION_H
#include "nn_data.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- files in memory: JPEG, PNG, BMP, PPM and PGM; WAV -------------------------------------------------------------------------------------- */
typedef struct nn_image_want { /* zeros: as it is stored, 8 bits */
  int channels;      /* 1, 3, 4, or 0; alpha is dropped, not blended */
  int depth;         /* 16: 16 bits of PNG and PNM */
  int height, width; /* > 0: a JPEG may be decoded at 1/2, 1/4, 1/8 of its size, as long as it stays this large: much quicker */
  bool as_stored;    /* leave the EXIF orientation of a JPEG alone */
} nn_image_want;
NN_API nn_tensor *nn_image_decode(nn_context *ctx, const void *bytes, size_t n, const nn_image_want *want); /* NN_EFORMAT: damaged */
/* x as a file of `format` ("png", "jpeg", "bmp", "ppm"); quality 1 to 100 is JPEG's. The bytes go to put, in one piece. */
NN_API nn_status nn_image_encode(nn_context *ctx, nn_tensor *x, const char *format, int quality, void (*put)(void *ud, const void *p, size_t n), void *ud);
NN_API nn_tensor *nn_sound_decode(nn_context *ctx, const void *bytes, size_t n, int *rate); /* f32 frames x channels, -1 to 1 */
NN_API nn_status nn_sound_encode(nn_context *ctx, nn_tensor *x, int rate, void (*put)(void *ud, const void *p, size_t n), void *ud);

/* ---- transforms -------------------------------------------------------------------------------------------------------------------------------- */
typedef struct nni_vision nn_vision; /* a list of transforms; read only once it is made */
typedef enum nn_vision_kind { NN_VISION_KEEP, NN_VISION_IMAGE, NN_VISION_MASK, NN_VISION_BOXES } nn_vision_kind;

NN_API int nn_transform_count(void);
NN_API const char *nn_transform_name(int i, const char **params); /* params: their names, with blanks between; data/vision.def */
/* kinds: of a sample's parts; low, high: what f32 images can have */
NN_API nn_vision *nn_vision_new(nn_context *ctx, int nkinds, const nn_vision_kind *kinds, double low, double high);
NN_API nn_status nn_vision_add(nn_context *ctx, nn_vision *v, const char *name, double chance, int n, const double *params);
NN_API nn_vision *nn_vision_copy(nn_context *ctx, const nn_vision *v); /* of any context, into this one */
NN_API void nn_vision_free(nn_context *ctx, nn_vision *v);
/* New references in out[NN_DATA_MAX]. What is drawn depends on (seed, epoch, sample) alone. */
NN_API nn_status nn_vision_apply(nn_context *ctx, const nn_vision *v, uint64_t seed, uint64_t epoch, uint64_t sample, nn_tensor *const *in, int nin,
                                 nn_tensor **out, int *nout);
/* v applied to each element of up on `workers` threads (0: on the one that reads), the same for any number; v is copied. */
NN_API nn_dataset *nn_data_vision(nn_context *ctx, nn_dataset *up, const nn_vision *v, int workers, uint64_t seed);
/* Batches of images (N x H x W x C, u8 or f32) and labels (f32 N x classes) mixed in pairs, lambda of Beta(alpha, alpha): MixUp, or with cut CutMix. */
NN_API nn_status nn_vision_mix(nn_context *ctx, bool cut, double alpha, uint64_t seed, uint64_t epoch, uint64_t batch, nn_tensor *x, nn_tensor *y,
                               nn_tensor **nx, nn_tensor **ny);

#ifdef __cplusplus
}
#endif
#endif
