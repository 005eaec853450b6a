/* cpu/isa/conv_tile.c - the register-tile kernels of convolution. See conv_tile.h.
**
** Every sum runs over (tap, channel) in the same order whatever the tile's size, so how pixels are cut into tiles never changes a bit.
** The loops over sums have constant trip counts and are unrolled by pragma: that is what keeps the sums in registers.
*/
#include "conv_tile.h"

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */
typedef void (*rows_fn)(const nn_tile_rows *r, const float *x, const float *w, float *y);

NN_AINLINE void tile_blocked(const int NP, const int NV, const nn_tile_rows *r, const float *restrict x, const float *restrict w, float *restrict y) {
  vf a[12][2];
  NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) a[p][v] = (vf){0};
  const int64_t full = r->C / VW, rest = r->C % VW;
  for (int64_t t = 0; t < r->nt; t++) {
    const float *xb = x + r->off[t];
    for (int64_t b = 0; b < full; b++, xb += r->cs) {
      _Pragma("GCC unroll 4") for (int c = 0; c < VW; c++, w += NV * VW) {
        vf wv[2];
        NN_UNROLL for (int v = 0; v < NV; v++) wv[v] = vf_load(w + v * VW);
        NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) a[p][v] += xb[p * VW + c] * wv[v];
      }
    }
    for (int64_t c = 0; c < rest; c++, w += NV * VW) {
      vf wv[2];
      NN_UNROLL for (int v = 0; v < NV; v++) wv[v] = vf_load(w + v * VW);
      NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) a[p][v] += xb[p * VW + c] * wv[v];
    }
  }
  NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) vf_store(y + p * r->sy + v * VW, a[p][v]);
}

NN_AINLINE void tile_planar(const int NP, const int NV, const nn_tile_rows *r, const float *restrict x, const float *restrict w, float *restrict y) {
  vf a[12][2];
  NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) a[p][v] = (vf){0};
  for (int64_t t = 0; t < r->nt; t++) {
    const float *xb = x + r->off[t];
    for (int64_t c = 0; c < r->C; c++, xb += r->cs, w += NV * VW) {
      vf wv[2];
      NN_UNROLL for (int v = 0; v < NV; v++) wv[v] = vf_load(w + v * VW);
      NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) a[p][v] += xb[p] * wv[v];
    }
  }
  NN_UNROLL for (int p = 0; p < NP; p++) NN_UNROLL for (int v = 0; v < NV; v++) vf_store(y + p * r->sy + v * VW, a[p][v]);
}

#define ROWS(kind, NP, NV)                                                                                                                           \
  static __attribute__((noinline)) void kind##_##NP##_##NV(const nn_tile_rows *r, const float *x, const float *w, float *y) {                        \
    kind(NP, NV, r, x, w, y);                                                                                                                        \
  }
#define ROWS_6(kind, NV) ROWS(kind, 1, NV) ROWS(kind, 2, NV) ROWS(kind, 3, NV) ROWS(kind, 4, NV) ROWS(kind, 5, NV) ROWS(kind, 6, NV)
#define ROWS_12(kind, NV)                                                                                                                            \
  ROWS_6(kind, NV) ROWS(kind, 7, NV) ROWS(kind, 8, NV) ROWS(kind, 9, NV) ROWS(kind, 10, NV) ROWS(kind, 11, NV) ROWS(kind, 12, NV)
#define NAMES_6(kind, NV) kind##_1_##NV, kind##_2_##NV, kind##_3_##NV, kind##_4_##NV, kind##_5_##NV, kind##_6_##NV
#define NAMES_12(kind, NV) NAMES_6(kind, NV), kind##_7_##NV, kind##_8_##NV, kind##_9_##NV, kind##_10_##NV, kind##_11_##NV, kind##_12_##NV

ROWS_12(tile_blocked, 1)
ROWS_12(tile_planar, 1)
static const rows_fn blocked_1[] = {NAMES_12(tile_blocked, 1)}, planar_1[] = {NAMES_12(tile_planar, 1)};
#if NN_TILE_2 == 12
ROWS_12(tile_blocked, 2)
ROWS_12(tile_planar, 2)
static const rows_fn blocked_2[] = {NAMES_12(tile_blocked, 2)}, planar_2[] = {NAMES_12(tile_planar, 2)};
#else
ROWS_6(tile_blocked, 2)
ROWS_6(tile_planar, 2)
static const rows_fn blocked_2[] = {NAMES_6(tile_blocked, 2)}, planar_2[] = {NAMES_6(tile_planar, 2)};
#endif

/* n pixels in tiles of nearly equal size; xs: floats of x per pixel */
NN_AINLINE void run_rows(const nn_tile_rows *r, int64_t n, int nv, int64_t last, const float *x, int64_t xs, const float *w, float *y,
                         const rows_fn *one, const rows_fn *two) {
  const int64_t np = nv == 2 ? NN_TILE_2 : NN_TILE_1, ntile = (n + np - 1) / np;
  const rows_fn *fn = nv == 2 ? two : one;
  float tmp[12 * 2 * VW];
  nn_tile_rows part = *r;
  part.sy = nv * VW;
  for (int64_t i = 0, p = 0; i < ntile; i++) {
    const int64_t m = n * (i + 1) / ntile - p;
    if (last == VW) {
      fn[m - 1](r, x + p * xs, w, y + p * r->sy);
    } else {
      fn[m - 1](&part, x + p * xs, w, tmp);
      for (int64_t j = 0; j < m; j++) {
        float *o = y + (p + j) * r->sy;
        if (nv == 2) vf_store(o, vf_load(tmp + j * 2 * VW));
        vf_store_n(o + (nv - 1) * VW, vf_load(tmp + (j * nv + nv - 1) * VW), last);
      }
    }
    p += m;
  }
}

void NN_ISA_FN(nn_tile_blocked)(const nn_tile_rows *r, int64_t n, int nv, int64_t last, const float *x, const float *w, float *y) {
  run_rows(r, n, nv, last, x, VW, w, y, blocked_1, blocked_2);
}

void NN_ISA_FN(nn_tile_planar)(const nn_tile_rows *r, int64_t n, int nv, int64_t last, const float *x, const float *w, float *y) {
  run_rows(r, n, nv, last, x, 1, w, y, planar_1, planar_2);
}

/* ---- outer -------------------------------------------------------------------------------------------------------------------- */
typedef void (*outer_fn)(const nn_tile_outer *q, const int64_t *off, const float *x, const float *d, float *o);

/* taps: each row i has its own place off[i] and a pixel is 1 float; else rows are neighbours and a pixel is VW floats */
NN_AINLINE void tile_outer(const int NR, const int NV, const int taps, const nn_tile_outer *q, const int64_t *off, const float *restrict x,
                           const float *restrict d, float *restrict o) {
  vf a[9][2];
  int64_t at[9];
  NN_UNROLL for (int i = 0; i < NR; i++) {
    at[i] = taps ? off[i] : i;
    NN_UNROLL for (int v = 0; v < NV; v++) a[i][v] = vf_load(o + i * q->ldo + v * VW);
  }
  const int64_t L = q->L, ds = q->ds;
  for (int64_t r = 0; r < q->R; r++) {
    const float *xp = x + r * q->xr, *dp = d + r * q->dr;
    for (int64_t l = 0; l < L; l++, xp += taps ? 1 : VW, dp += ds) {
      vf dv[2];
      NN_UNROLL for (int v = 0; v < NV; v++) dv[v] = vf_load(dp + v * VW);
      NN_UNROLL for (int i = 0; i < NR; i++) NN_UNROLL for (int v = 0; v < NV; v++) a[i][v] += (taps ? xp[at[i]] : xp[i]) * dv[v];
    }
  }
  NN_UNROLL for (int i = 0; i < NR; i++) NN_UNROLL for (int v = 0; v < NV; v++) vf_store(o + i * q->ldo + v * VW, a[i][v]);
}

#define OUTER(NR, NV, T)                                                                                                                             \
  static                                                                                                                                             \
      __attribute__((noinline)) void outer_##NR##_##NV##_##T(const nn_tile_outer *q, const int64_t *off, const float *x, const float *d, float *o) { \
    tile_outer(NR, NV, T, q, off, x, d, o);                                                                                                          \
  }
#define OUTER_9(NV, T)                                                                                                                               \
  OUTER(1, NV, T) OUTER(2, NV, T) OUTER(3, NV, T) OUTER(4, NV, T) OUTER(5, NV, T) OUTER(6, NV, T) OUTER(7, NV, T) OUTER(8, NV, T) OUTER(9, NV, T)
#define OUTER_NAMES(NV, T)                                                                                                                           \
  {                                                                                                                                                  \
    outer_1_##NV##_##T, outer_2_##NV##_##T, outer_3_##NV##_##T, outer_4_##NV##_##T, outer_5_##NV##_##T, outer_6_##NV##_##T, outer_7_##NV##_##T,      \
        outer_8_##NV##_##T, outer_9_##NV##_##T                                                                                                       \
  }
OUTER_9(1, 0)
OUTER_9(2, 0)
OUTER_9(1, 1)
OUTER_9(2, 1)
static const outer_fn outer_blocked[2][9] = {OUTER_NAMES(1, 0), OUTER_NAMES(2, 0)};
static const outer_fn outer_taps[2][9] = {OUTER_NAMES(1, 1), OUTER_NAMES(2, 1)};

NN_AINLINE void run_outer(const nn_tile_outer *q, const int64_t *off, int64_t n, int64_t kv, const float *x, const float *d, float *o, int taps) {
  for (int64_t v = 0; v < kv; v += 2) {
    const int nv = kv - v >= 2 ? 2 : 1;
    const int64_t max = taps ? (nv == 2 ? NN_TAPROWS_2 : NN_TAPROWS_1) : (nv == 2 ? NN_OUTER_2 : NN_OUTER_1), ntile = (n + max - 1) / max;
    for (int64_t i = 0, p = 0; i < ntile; i++) {
      const int64_t m = n * (i + 1) / ntile - p;
      const outer_fn f = taps ? outer_taps[nv - 1][m - 1] : outer_blocked[nv - 1][m - 1];
      f(q, taps ? off + p : NULL, taps ? x : x + p, d + v * VW, o + p * q->ldo + v * VW);
      p += m;
    }
  }
}

void NN_ISA_FN(nn_tile_outer_blocked)(const nn_tile_outer *q, int64_t n, int64_t kv, const float *x, const float *d, float *o) {
  run_outer(q, NULL, n, kv, x, d, o, 0);
}

void NN_ISA_FN(nn_tile_outer_taps)(const nn_tile_outer *q, const int64_t *off, int64_t n, int64_t kv, const float *x, const float *d, float *o) {
  run_outer(q, off, n, kv, x, d, o, 1);
}
