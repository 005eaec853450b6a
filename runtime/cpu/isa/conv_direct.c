/* cpu/isa/conv_direct.c - direct convolution: forward (and, on flipped weights, the input gradient) and weight gradient. See conv.h.
**
** The input of a band of output rows is packed first (zeros for padding, columns split by stride), so that the register tiles need no bounds
** checks and see pixels at a constant distance; packing costs a few per cent of the products it feeds.
*/
#include "conv_tile.h"
#include "transpose.h"

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- packing ------------------------------------------------------------------------------------------------------------------ */

/* block: (group, pair of vectors of K, tap) */
static void direct_pack(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_direct *d = arg;
  const int64_t nvec = d->Kv / VW, npair = (nvec + 1) / 2, ws = d->groups * d->K;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t t = b % d->ntap, pair = b / d->ntap % npair, g = b / d->ntap / npair, k0 = pair * 2 * VW;
    const int64_t nv = min64(2, nvec - pair * 2);
    const float *src = d->w + d->src[t] * d->C * ws + g * d->K + k0;
    float *dst = d->wp + g * d->ntap * d->C * d->Kv + d->ntap * d->C * k0 + t * d->C * nv * VW;
    for (int64_t c = 0; c < d->C; c++, src += ws)
      for (int64_t v = 0; v < nv; v++, dst += VW) vf_store(dst, vf_load_n(src + v * VW, min64(VW, d->K - k0 - v * VW)));
  }
}

/* The columns of one packed row and residue that lie in the image: w = j * sw + o for jlo <= j < jhi. */
static void valid_columns(const nn_conv_sub *s, int64_t o, int64_t W, int64_t *jlo, int64_t *jhi) {
  const int64_t hi = o < W ? (W - 1 - o) / s->sw + 1 : 0, lo = o < 0 ? (-o + s->sw - 1) / s->sw : 0;
  *jhi = min64(hi, s->PW);
  *jlo = min64(lo, *jhi);
}

static void pack_row_blocked(const nn_conv_sub *s, const float *x, int64_t xpix, int64_t W, float *dst) {
  for (int64_t ph = 0; ph < s->nph; ph++, dst += s->PW * VW) {
    int64_t jlo, jhi, j = 0;
    valid_columns(s, ph + s->dw0, W, &jlo, &jhi);
    const float *xp = x + (jlo * s->sw + ph + s->dw0) * xpix;
    for (; j < jlo; j++) vf_store(dst + j * VW, (vf){0});
    for (; j < jhi; j++, xp += s->sw * xpix) vf_store(dst + j * VW, vf_load(xp));
    for (; j < s->PW; j++) vf_store(dst + j * VW, (vf){0});
  }
}

static void pack_row_planar(const nn_conv_sub *s, const float *x, int64_t xpix, int64_t W, float *dst) {
  for (int64_t ph = 0; ph < s->nph; ph++, dst += s->PW) {
    int64_t jlo, jhi, j = 0;
    valid_columns(s, ph + s->dw0, W, &jlo, &jhi);
    const float *xp = x + (jlo * s->sw + ph + s->dw0) * xpix;
    for (; j < jlo; j++) dst[j] = 0;
    for (; j < jhi; j++, xp += s->sw * xpix) dst[j] = *xp;
    for (; j < s->PW; j++) dst[j] = 0;
  }
}

/* Packs what output rows i0 .. i0 + ni of image n, group g need: planes or blocks of channels b0 .. b1. */
static void pack_band(const nn_conv_direct *d, const nn_conv_sub *s, int64_t n, int64_t g, int64_t i0, int64_t ni, int64_t b0, int64_t b1,
                      float *dst) {
  const int64_t xpix = d->groups * d->C, lanes = d->planar ? 1 : VW, rowlen = s->nph * s->PW * lanes, extent = s->dh1 - s->dh0;
  const float *x = d->x + n * d->H * d->W * xpix + g * d->C;
  for (int64_t r = 0; r < (ni - 1) * s->sh + extent + 1; r++) {
    if (r % s->sh > extent) continue; /* between the taps' reach: never read */
    const int64_t h = i0 * s->sh + s->dh0 + r;
    for (int64_t b = b0; b < b1; b++) {
      float *o = dst + ((b - b0) * s->rows + r) * rowlen;
      if (h < 0 || h >= d->H) memset(o, 0, (size_t)rowlen * sizeof(float));
      else if (d->planar) pack_row_planar(s, x + h * d->W * xpix + b, xpix, d->W, o);
      else pack_row_blocked(s, x + h * d->W * xpix + b * VW, xpix, d->W, o);
    }
  }
}

/* ---- forward ------------------------------------------------------------------------------------------------------------------ */

/* One band: output rows i0 .. i0 + ni of sub s in image n, group g, vector pairs p0 .. p1 of its channels */
static void run_band(const nn_conv_direct *d, const nn_conv_sub *s, int64_t n, int64_t g, int64_t i0, int64_t ni, int64_t p0, int64_t p1,
                     float *band) {
  const int64_t lanes = d->planar ? 1 : VW, rowlen = s->nph * s->PW * lanes, ypix = d->groups * d->K, nvec = d->Kv / VW;
  const nn_tile_rows r = {d->off + s->tap0, s->nt, d->C, s->rows * rowlen, s->osw * ypix};
  pack_band(d, s, n, g, i0, ni, 0, d->planar ? d->C : d->Cv / VW, band);
  for (int64_t pair = p0; pair < p1; pair++) {
    const int64_t k0 = pair * 2 * VW;
    const int nv = nvec - pair * 2 >= 2 ? 2 : 1;
    const int64_t last = min64(VW, d->K - k0 - (nv - 1) * VW);
    const float *w = d->wp + g * d->ntap * d->C * d->Kv + d->ntap * d->C * k0 + s->tap0 * d->C * nv * VW;
    for (int64_t i = 0; i < ni; i++) {
      float *y = d->y + ((n * d->OHY + s->oh0 + (i0 + i) * s->osh) * d->OWY + s->ow0) * ypix + g * d->K + k0;
      const float *x = band + i * s->sh * rowlen;
      if (d->planar) NN_ISA_FN(nn_tile_planar)(&r, s->OW, nv, last, x, w, y);
      else NN_ISA_FN(nn_tile_blocked)(&r, s->OW, nv, last, x, w, y);
    }
  }
}

/* block: sub, then (group, image, band, part of the output channels) */
static void direct_run(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_direct *d = arg;
  const int64_t npair = (d->Kv / VW + 1) / 2;
  float *band = d->band + tid * d->band_floats;
  int64_t is = 0;
  for (int64_t b = begin; b < end; b++) {
    while (is + 1 < d->nsub && d->sub[is + 1].block0 <= b) is++;
    const nn_conv_sub *s = &d->sub[is];
    const int64_t q = b - s->block0, kc = q % d->nkc, ib = q / d->nkc % s->nband, n = q / d->nkc / s->nband % d->N, g = q / d->nkc / s->nband / d->N;
    run_band(d, s, n, g, ib * s->R, min64(s->R, s->OH - ib * s->R), npair * kc / d->nkc, npair * (kc + 1) / d->nkc, band);
  }
}

/* ---- weight gradient ---------------------------------------------------------------------------------------------------------- */

/* Adds unit u's share (a band of an image) to part: channels of block cb, or all of them in planar form */
static void dw_unit(const nn_conv_dw *j, int64_t u, int64_t g, int64_t cb, float *band, float *part) {
  const nn_conv_direct *d = &j->g;
  const nn_conv_sub *s = d->sub;
  const int64_t n = u / s->nband, i0 = u % s->nband * s->R, ni = min64(s->R, s->OH - i0), ypix = d->groups * d->K;
  const int64_t lanes = d->planar ? 1 : VW, rowlen = s->nph * s->PW * lanes, kv = d->Kv / VW;
  const nn_tile_outer q = {ni, s->OW, s->sh * rowlen, s->OW * ypix, ypix, d->Kv};
  const float *dy = j->dy + (n * s->OH + i0) * s->OW * ypix + g * d->K;
  pack_band(d, s, n, g, i0, ni, d->planar ? 0 : cb, d->planar ? d->C : cb + 1, band);
  if (d->planar) {
    NN_ISA_FN(nn_tile_outer_taps)(&q, d->off, d->ntap * d->C, kv, band, dy, part);
    return;
  }
  const int64_t nc = min64(VW, d->C - cb * VW);
  for (int64_t t = 0; t < d->ntap; t++) NN_ISA_FN(nn_tile_outer_blocked)(&q, nc, kv, band + d->off[t], dy, part + (t * d->C + cb * VW) * d->Kv);
}

/* block: (chunk, group, block of C) */
static void dw_run(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_dw *j = arg;
  const nn_conv_direct *d = &j->g;
  float *band = d->band + tid * d->band_floats;
  for (int64_t b = begin; b < end; b++) {
    const int64_t cb = b % j->ncb, g = b / j->ncb % d->groups, chunk = b / j->ncb / d->groups;
    float *part = j->part + (chunk * d->groups + g) * d->ntap * d->C * d->Kv;
    const int64_t c0 = d->planar ? 0 : cb * VW, nc = d->planar ? d->C : min64(VW, d->C - c0);
    for (int64_t t = 0; t < d->ntap; t++) memset(part + (t * d->C + c0) * d->Kv, 0, (size_t)(nc * d->Kv) * sizeof(float));
    for (int64_t u = j->nunit * chunk / j->nchunk; u < j->nunit * (chunk + 1) / j->nchunk; u++) dw_unit(j, u, g, cb, band, part);
  }
}

/* block: a row (tap, c) of dw */
static void dw_sum(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_dw *j = arg;
  const nn_conv_direct *d = &j->g;
  const int64_t rows = d->ntap * d->C, step = d->groups * rows * d->Kv;
  (void)tid;
  for (int64_t row = begin; row < end; row++)
    for (int64_t g = 0; g < d->groups; g++)
      for (int64_t k = 0; k < d->K; k += VW) {
        const float *p = j->part + (g * rows + row) * d->Kv + k;
        vf s = vf_load(p);
        for (int64_t i = 1; i < j->nchunk; i++) s += vf_load(p + i * step);
        vf_store_n(j->out + (row * d->groups + g) * d->K + k, s, min64(VW, d->K - k));
      }
}

/* ---- weights of the input gradient -------------------------------------------------------------------------------------------- */

/* o [nk][nc] (rows ldo apart) = w [nc][nk] (rows ldw apart), nc and nk at most VW */
static void flip_square(const float *w, int64_t ldw, float *o, int64_t ldo, int64_t nc, int64_t nk) {
  if (nc == VW && nk == VW) {
    transpose_square(w, ldw, o, ldo);
    return;
  }
  for (int64_t k = 0; k < nk; k++)
    for (int64_t c = 0; c < nc; c++) o[k * ldo + c] = w[c * ldw + k];
}

/* block: (tap, group, VW rows of w): the C x K matrix, transposed square by square */
static void flip(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_flip *f = arg;
  const int64_t gk = f->groups * f->K, gc = f->groups * f->C, nb = (f->C + VW - 1) / VW;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t c = b % nb * VW, g = b / nb % f->groups, t = b / nb / f->groups;
    const float *w = f->w + (t * f->C + c) * gk + g * f->K;
    float *o = f->out + (f->nt - 1 - t) * f->K * gc + g * f->C + c;
    for (int64_t k = 0; k < f->K; k += VW) flip_square(w + k, gk, o + k * gc, gc, min64(VW, f->C - c), min64(VW, f->K - k));
  }
}

/* ---- the table ---------------------------------------------------------------------------------------------------------------- */
const nn_conv_ops *NN_ISA_FN(nn_conv_ops_get)(void) {
  static const nn_conv_ops ops = {
      .vw = VW,
      .np = NN_TILE_2,
      .direct_pack = direct_pack,
      .direct_run = direct_run,
      .dw_run = dw_run,
      .dw_sum = dw_sum,
      .flip = flip,
      .wino_weights = NN_ISA_FN(nn_wino_weights),
      .wino_run = NN_ISA_FN(nn_wino_run),
      .wino_dw_run = NN_ISA_FN(nn_wino_dw_run),
      .wino_dw_out = NN_ISA_FN(nn_wino_dw_out),
      .depth_fwd = NN_ISA_FN(nn_depth_fwd),
      .depth_dx = NN_ISA_FN(nn_depth_dx),
      .depth_dw = NN_ISA_FN(nn_depth_dw),
      .depth_dw_sum = NN_ISA_FN(nn_depth_dw_sum),
      .pool_fwd = NN_ISA_FN(nn_pool_fwd),
      .pool_dx = NN_ISA_FN(nn_pool_dx),
      .pool_take = NN_ISA_FN(nn_pool_take),
  };
  return &ops;
}
