/* data/vision_augment.c - transforms made of other transforms, drawn anew for each sample: RandAugment and AugMix. Pure functions; see vision.h and
** vision.def.
*/
#include <math.h>
#include "vision.h"

typedef enum scale { PLAIN, SIGNED, STRENGTH, BITS, THRESHOLD } scale;

/* Torchvision's list and strengths, for both: a part of 0 to 1 goes from nothing to `most`. The first changes nothing, and AugMix has it not. */
static const struct choice {
  const char *name;
  scale scale;
  double most;
  int at;   /* of the parameters, where the drawn value goes, twice: as a range */
  int tail; /* where beyond, fill, bilinear are, or 0 */
} choices[] = {
  {NULL, PLAIN, 0, 0, 0},
  {"RandomShear", SIGNED, 0.3, 0, 4},
  {"RandomShear", SIGNED, 0.3, 2, 4},
  {"RandomTranslation", SIGNED, 150.0 / 331, 0, 4},
  {"RandomTranslation", SIGNED, 150.0 / 331, 2, 4},
  {"RandomRotation", SIGNED, 30, 0, 2},
  {"ColorJitter", STRENGTH, 0.9, 0, 0},
  {"ColorJitter", STRENGTH, 0.9, 2, 0},
  {"ColorJitter", STRENGTH, 0.9, 4, 0},
  {"Sharpen", STRENGTH, 0.9, 0, 0},
  {"Posterize", BITS, 4, 0, 0},
  {"Solarize", THRESHOLD, 1, 0, 0},
  {"AutoContrast", PLAIN, 0, 0, 0},
  {"Equalize", PLAIN, 0, 0, 0},
};

/* Those that the paper uses, without brightness, contrast, saturation and sharpness, which its test set is made of. */
#define MILD 9
static const int mild[MILD] = {1, 2, 3, 4, 5, 10, 11, 12, 13};

/* Choice c at `part` of its strength, to one side or the other. */
static nni_step step_of(const struct choice *c, double part, double sign) {
  nni_step s = {.t = c->name != NULL ? nni_transform_named(c->name) : NULL, .chance = 1};
  if (c->name == NULL) return s;
  if (strcmp(c->name, "ColorJitter") == 0)
    for (int i = 0; i < 6; i++) s.p[i] = 1;
  switch (c->scale) {
    case PLAIN: break;
    case SIGNED: s.p[c->at] = s.p[c->at + 1] = sign * part * c->most; break;
    case STRENGTH: s.p[c->at] = s.p[c->at + 1] = 1 + sign * part * c->most; break;
    case BITS: s.p[0] = 8 - floor(part * c->most + 0.5); break;
    case THRESHOLD: s.p[0] = 1 - part; break;
  }
  if (c->tail > 0) s.p[c->tail + 2] = 1; /* bilinear, beyond the border the range's low end */
  return s;
}

/* Cubuk et al., "RandAugment" (CVPR workshops 2020). */
void nni_pick_randaugment(const double *p, nni_draws *d, int32_t h, int32_t w, nni_step *out) {
  (void)h, (void)w;
  const struct choice *c = &choices[(int)nni_draw_between(d, 0, NNI_COUNT(choices))];
  const double sign = nni_draw_between(d, 0, 1) < 0.5 ? -1 : 1;
  *out = step_of(c, p[1] / 30, sign);
}

/* ---- AugMix ---------------------------------------------------------------------------------------------------- */

#define MIXED_MOST 16 /* chains */

static nn_status apply_to(nni_memory *m, const nni_step *s, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  nni_geometry g = {.kind = NNI_PLACE_SAME};
  if (s->t->change != NULL) return s->t->change(m, s->p, d, range, x, err);
  nn_status rc = s->t->place(m, s->p, d, x->h, x->w, &g, err); /* none of the list has a field */
  return rc == NN_OK ? nni_geometry_apply(m, &g, false, x, err) : rc;
}

static float value_at(const nni_picture *x, size_t i) {
  return x->dtype == NN_U8 ? (float)((const uint8_t *)x->data)[i] : ((const float *)x->data)[i];
}

/* sum += weight * x */
static void add_picture(float *sum, const nni_picture *x, float weight) {
  const size_t n = (size_t)x->h * (size_t)x->w * (size_t)x->c;
  for (size_t i = 0; i < n; i++) sum[i] += weight * value_at(x, i);
}

/* A copy of x through `depth` drawn transforms, each at a drawn strength of 0 to severity - 1 of 9, added to sum. */
static nn_status add_chain(nni_memory *m, const double *p, nni_draws *d, nni_range range, const nni_picture *x, float weight, float *sum,
                           nni_error *err) {
  const int severity = (int)p[0], depth = p[2] > 0 ? (int)p[2] : 1 + (int)nni_draw_between(d, 0, 3);
  const bool all = p[4] != 0;
  nni_picture y = *x;
  y.own = NULL; /* borrows: the first that changes it makes a copy */
  nn_status rc = NN_OK;
  for (int k = 0; k < depth && rc == NN_OK; k++) {
    const int which = all ? 1 + (int)nni_draw_between(d, 0, NNI_COUNT(choices) - 1) : mild[(int)nni_draw_between(d, 0, MILD)];
    const double part = floor(nni_draw_between(d, 0, severity)) / 9, sign = nni_draw_between(d, 0, 1) < 0.5 ? -1 : 1;
    const nni_step s = step_of(&choices[which], part, sign);
    rc = apply_to(m, &s, d, range, &y, err);
  }
  if (rc == NN_OK) add_picture(sum, &y, weight);
  nni_picture_free(m, &y);
  return rc;
}

/* Hendrycks et al., "AugMix" (ICLR 2020): (1 - b) x + b sum of w_i chain_i(x), b of Beta(alpha, alpha), w of Dirichlet(alpha). */
nn_status nni_change_augmix(nni_memory *m, const double *p, nni_draws *d, nni_range range, nni_picture *x, nni_error *err) {
  const int width = (int)p[1];
  const double alpha = p[3], mixed = nni_draw_beta(d, alpha);
  const size_t n = (size_t)x->h * (size_t)x->w * (size_t)x->c;
  double weight[MIXED_MOST];
  if (width < 1 || width > MIXED_MOST || p[0] < 1) return nni_fail(err, NN_EINVAL, "AugMix: %d chains, 1 to %d; severity 1 to 10", width, MIXED_MOST);
  if (x->c != 1 && x->c != 3) return nni_fail(err, NN_ESHAPE, "AugMix: images of 1 or 3 channels, got %d", x->c);
  nni_draw_dirichlet(d, alpha, width, weight);
  float *sum = nni_buffer_get(m, n * sizeof *sum);
  if (sum == NULL) return nni_fail(err, NN_ENOMEM, "AugMix: out of memory");
  memset(sum, 0, n * sizeof *sum);
  add_picture(sum, x, (float)(1 - mixed));
  nn_status rc = NN_OK;
  for (int i = 0; i < width && rc == NN_OK; i++) rc = add_chain(m, p, d, range, x, (float)(mixed * weight[i]), sum, err);
  if (rc == NN_OK) rc = nni_picture_own(m, x, err);
  for (size_t i = 0; rc == NN_OK && i < n; i++) {
    const float v = sum[i] < range.low ? range.low : sum[i] > range.high ? range.high : sum[i];
    if (x->dtype == NN_U8) ((uint8_t *)x->own)[i] = (uint8_t)(int)(v + 0.5f);
    else ((float *)x->own)[i] = v;
  }
  nni_buffer_put(m, sum, n * sizeof *sum);
  return rc;
}
