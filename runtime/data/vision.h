/* data/vision.h - changing images: a list of transforms applied to a sample, whose images, masks and boxes move together.
**
** A transform is a row of vision.def: a name, the names of its parameters (numbers, made by lua/nnlua/vision.lua from options) and one function.
** There are four sorts of function:
**   place   where pixels come from (nni_geometry); applied to images by interpolation, to masks by the nearest pixel, to boxes by their corners
**   change  other values in the same places: images only
**   pick    one of several other transforms, drawn anew for each sample
**   decode  an image from the bytes of a file
** Images are u8 (0 to 255) or f32 (low to high), H x W x C; masks of any dtype, H x W or H x W x C; boxes f32 K x 4: x1 y1 x2 y2 in pixels from the
** upper left corner of the image, so that a whole image is 0 0 W H.
**
** What is drawn depends on the sample's key (made of seed, epoch and sample) and the place in the list alone: never on threads or order. Pure
** functions, any thread; memory of the thread-safe nni_memory.
*/
#ifndef NNI_VISION_H
#define NNI_VISION_H
#include "dataset.h"

/* Hot loops once more for AVX2, picked when the library is loaded. Without fused multiply-add, so both give the same bits. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(NNI_SANITIZE) && !defined(__clang__)
#define NNI_HOT __attribute__((target_clones("default", "avx2")))
#else
#define NNI_HOT
#endif

#define NNI_VISION_STEPS 32
#define NNI_VISION_PARAMS 12
#define NNI_VISION_NAME (40 * NNI_VISION_STEPS) /* room for the names of all steps */

/* Pixels with an owner: `data` is read; it is `own` when the picture may change and must free it. */
typedef struct nni_picture {
  nn_dtype dtype;
  int32_t h, w, c;
  const void *data;
  void *own; /* of nni_buffer_get(m, bytes), or NULL */
  size_t bytes;
} nni_picture;

typedef struct nni_draws { /* a row of random numbers */
  uint64_t key, stream, at;
} nni_draws;
double nni_draw_between(nni_draws *d, double low, double high); /* low when they are equal */

typedef struct nni_range { /* what values an image can have */
  float low, high;
} nni_range;

typedef struct nni_geometry {
  enum { NNI_PLACE_SAME, NNI_PLACE_WINDOW, NNI_PLACE_RESIZE, NNI_PLACE_WARP, NNI_PLACE_FIELD } kind;
  int32_t h, w;           /* of the result */
  int32_t top, left;      /* window: the result's pixel (y, x) is (top + y, left + x) of the source, whose sides may lie inside it; then mirrored */
  bool mirror_x, mirror_y;
  int method;             /* resize: nni_resize_method */
  bool antialias;
  double m[9];            /* warp: source (x, y, 1) ~ m (x, y, 1) of the result, at pixels' centres (x + 0.5) */
  float *field;           /* h x w x 2: source minus result, x then y; of nni_buffer_get(m, field_bytes) */
  size_t field_bytes;
  int beyond;             /* outside the source: 0 `fill`, 1 the nearest pixel, 2 mirrored */
  double fill;
  bool bilinear;          /* images; else the nearest pixel */
} nni_geometry;

typedef enum nni_resize_method { NNI_RESIZE_NEAREST, NNI_RESIZE_BILINEAR, NNI_RESIZE_BICUBIC, NNI_RESIZE_AREA } nni_resize_method;

typedef struct nni_step nni_step;
typedef nn_status (*nni_place_fn)(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err);
typedef nn_status (*nni_change_fn)(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err);
typedef void (*nni_pick_fn)(const double *p, nni_draws *d, int32_t h, int32_t w, nni_step *out);
typedef nn_status (*nni_decode_fn)(nni_memory *m, const double *p, nni_picture *x, nni_error *err);

/* What an image is after it: as before; of the height and width that are its first two parameters (masks too); f32; decoded (masks too). */
typedef enum nni_gives { NNI_GIVES_same, NNI_GIVES_sized, NNI_GIVES_floats, NNI_GIVES_picture } nni_gives;

typedef struct nni_transform {
  const char *name, *params; /* "height width method antialias" */
  nni_gives gives;
  nni_place_fn place;        /* one of these */
  nni_change_fn change;
  nni_pick_fn pick;
  nni_decode_fn decode;
} nni_transform;

struct nni_step {
  const nni_transform *t; /* NULL: nothing is done */
  double chance;          /* of being applied */
  double p[NNI_VISION_PARAMS];
};

typedef enum nni_vision_kind { NNI_VISION_KEEP, NNI_VISION_IMAGE, NNI_VISION_MASK, NNI_VISION_BOXES } nni_vision_kind;

typedef struct nni_vision {
  int n, nkinds;
  nni_vision_kind kinds[NN_DATA_MAX]; /* of a sample's parts; parts after nkinds are kept as they are */
  nni_range range;                    /* of f32 images */
  nni_step steps[NNI_VISION_STEPS];
} nni_vision;

/* The functions of the rows. */
#define NN_SORT_place(f) nn_status f(nni_memory *m, const double *p, nni_draws *d, int32_t h, int32_t w, nni_geometry *g, nni_error *err);
#define NN_SORT_change(f) nn_status f(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err);
#define NN_SORT_pick(f) void f(const double *p, nni_draws *d, int32_t h, int32_t w, nni_step *out);
#define NN_SORT_decode(f) nn_status f(nni_memory *m, const double *p, nni_picture *x, nni_error *err);
#define NN_TRANSFORM(name, sort, function, gives, params) NN_SORT_##sort(function)
#include "vision.def"
#undef NN_TRANSFORM

/* vision.c */
extern const nni_transform nni_transforms[];
extern const int nni_ntransforms;
const nni_transform *nni_transform_named(const char *name); /* NULL: there is none */
int nni_transform_nparams(const nni_transform *t);
/* in -> out, whose parts are new buffers or in's own (which are moved). in keeps what it still has. All that is drawn depends on key, which is another one
** for each sample and epoch. */
nn_status nni_vision_apply(const nni_vision *v, nni_memory *m, uint64_t key, nni_element *in, nni_element *out, nni_error *err);
/* What it makes of elements that look like `in`; n -1: not known (in isn't, or it takes a draw that changes a dtype). */
void nni_vision_spec(const nni_vision *v, const nni_element *in, nni_element *out);
void nni_vision_name(const nni_vision *v, char *buf, size_t n); /* "Resize+RandomFlip"; buf holds a text already, which it is added to */
nn_status nni_picture_new(nni_memory *m, nn_dtype dtype, int64_t h, int64_t w, int64_t c, nni_picture *out, nni_error *err);
nn_status nni_picture_own(nni_memory *m, nni_picture *x, nni_error *err); /* makes a copy unless it may be changed already */
void nni_picture_free(nni_memory *m, nni_picture *x);

/* vision_place.c */
nn_status nni_geometry_apply(nni_memory *m, const nni_geometry *g, bool mask, nni_picture *x, nni_error *err);
void nni_geometry_boxes(const nni_geometry *g, int32_t h, int32_t w, float *boxes, int64_t n); /* h, w: of the source */

/* vision_resize.c */
nn_status nni_picture_resize(nni_memory *m, nni_picture *x, int32_t h, int32_t w, nni_resize_method method, bool antialias, nni_error *err);

/* vision_filter.c */
nn_status nni_picture_blur(nni_memory *m, nni_picture *x, double sigma, nni_error *err); /* Gaussian, out to 3 sigma, borders mirrored */

/* vision_mix.c: batches x (N rows of `row` elements, u8 or f32) and labels y (f32, N x classes), into nx, ny of the same form. Image i is mixed with
** image perm(i), a permutation that is drawn. lambda of Beta(alpha, alpha); one for the batch. */
typedef struct nni_batch {
  nn_dtype dtype;
  int64_t n, h, w, c, classes;
  const void *x;
  const float *y;
  void *nx;
  float *ny;
} nni_batch;
double nni_draw_beta(nni_draws *d, double alpha);                           /* of Beta(alpha, alpha) */
void nni_draw_dirichlet(nni_draws *d, double alpha, int n, double *weights); /* n that sum to one */
void nni_mixup(const nni_batch *b, double alpha, nni_draws *d, int64_t *perm);
void nni_cutmix(const nni_batch *b, double alpha, nni_draws *d, int64_t *perm); /* a rectangle of sqrt(1 - lambda) of the sides; labels by its true area */

#endif
