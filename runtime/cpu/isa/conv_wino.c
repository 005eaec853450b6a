/* cpu/isa/conv_wino.c - 3x3 stride-1 convolution by Winograd F(4x4, 3x3): forward and weight gradient. See conv.h.
**
**   Y = A' [ (G g G') * (B' d B) ] A     d a 6x6 patch of x, g a 3x3 filter, Y a 4x4 patch of y, * elementwise and summed over c
**   dg = G' [ (B' d B) * (A dY A') ] G   summed over tiles before the last transform
** Points 0, 1, -1, 2, -2, infinity. Every transform works on whole vectors of channels.
*/
#include "conv_tile.h"

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- one-dimensional transforms (o and d at stride s, in vectors) ------------------------------------------------------------------ */

NN_AINLINE void bt6(const vf *d, vf *o, const int s) { /* B' d */
  const vf e = d[4 * s] - 4.f * d[2 * s], f = d[3 * s] - 4.f * d[s], g = d[4 * s] - d[2 * s], h = 2.f * (d[3 * s] - d[s]);
  o[0] = 4.f * d[0] - 5.f * d[2 * s] + d[4 * s];
  o[s] = e + f;
  o[2 * s] = e - f;
  o[3 * s] = g + h;
  o[4 * s] = g - h;
  o[5 * s] = 4.f * d[s] - 5.f * d[3 * s] + d[5 * s];
}

NN_AINLINE void at4(const vf *m, vf *o, const int s) { /* A' m: 6 -> 4 */
  const vf p = m[s] + m[2 * s], q = m[s] - m[2 * s], u = m[3 * s] + m[4 * s], v = m[3 * s] - m[4 * s];
  o[0] = m[0] + p + u;
  o[s] = q + 2.f * v;
  o[2 * s] = p + 4.f * u;
  o[3 * s] = q + 8.f * v + m[5 * s];
}

NN_AINLINE void a6(const vf *y, vf *o, const int s) { /* A y: 4 -> 6 */
  const vf p = y[0] + y[2 * s], q = y[s] + y[3 * s], u = y[0] + 4.f * y[2 * s], v = 2.f * y[s] + 8.f * y[3 * s];
  o[0] = y[0];
  o[s] = p + q;
  o[2 * s] = p - q;
  o[3 * s] = u + v;
  o[4 * s] = u - v;
  o[5 * s] = y[3 * s];
}

NN_AINLINE void g6(const vf *g, vf *o, const int s) { /* G g: 3 -> 6 */
  const vf p = (g[0] + g[2 * s]) * (-1 / 6.f), q = g[s] * (1 / 6.f), u = g[0] * (1 / 24.f) + g[2 * s] * (1 / 6.f), v = g[s] * (1 / 12.f);
  o[0] = g[0] * .25f;
  o[s] = p - q;
  o[2 * s] = p + q;
  o[3 * s] = u + v;
  o[4 * s] = u - v;
  o[5 * s] = g[2 * s];
}

NN_AINLINE void gt3(const vf *u, vf *o, const int s) { /* G' u: 6 -> 3 */
  const vf p = u[s] + u[2 * s], q = u[2 * s] - u[s], r = u[3 * s] + u[4 * s], t = u[3 * s] - u[4 * s];
  o[0] = u[0] * .25f - p * (1 / 6.f) + r * (1 / 24.f);
  o[s] = q * (1 / 6.f) + t * (1 / 12.f);
  o[2 * s] = (r - p) * (1 / 6.f) + u[5 * s];
}

/* ---- transforms of tiles ------------------------------------------------------------------------------------------------------------ */

typedef struct tile_at {
  int64_t n, h, w; /* image and first output row and column */
} tile_at;

static tile_at tile_find(const nn_conv_wino *j, int64_t t) {
  const int64_t in = t % (j->TH * j->TW);
  return (tile_at){t / (j->TH * j->TW), in / j->TW * 4, in % j->TW * 4};
}

/* Transforms nb blocks of channels of a patch whose pixel (i, l) is at at[i * 6 + l] (edge), or at x + i * row + l * pix (inside) */
NN_AINLINE void in_patch(const int edge, const float *const *at, const float *x, int64_t row, int64_t pix, int64_t nb, float *V, int64_t vs,
                         int64_t bs) {
  for (int64_t c = 0; c < nb * VW; c += VW, V += bs) {
    vf d[36], s[36];
    NN_UNROLL for (int l = 0; l < 6; l++) {
      NN_UNROLL for (int i = 0; i < 6; i++) d[i * 6 + l] = vf_load(edge ? at[i * 6 + l] + c : x + i * row + l * pix + c);
      bt6(d + l, s + l, 6);
    }
    NN_UNROLL for (int i = 0; i < 6; i++) {
      vf o[6];
      bt6(s + i * 6, o, 1);
      NN_UNROLL for (int l = 0; l < 6; l++) vf_store(V + (i * 6 + l) * vs, o[l]);
    }
  }
}

/* V[xi][block of C][tile][VW] for tiles t0 .. t0 + nt and nb blocks of channels from c0 on */
static void in_tiles(const nn_conv_wino *j, int64_t t0, int64_t nt, int64_t c0, int64_t nb, float *V) {
  const int64_t pix = j->C, row = j->W * j->C;
  for (int64_t t = 0; t < nt; t++) {
    const tile_at a = tile_find(j, t0 + t);
    const int64_t h = a.h - j->pt, w = a.w - j->pl;
    const float *x = j->x + a.n * j->H * row + h * row + w * pix + c0;
    if (h >= 0 && w >= 0 && h + 6 <= j->H && w + 6 <= j->W) {
      in_patch(0, NULL, x, row, pix, nb, V + t * VW, j->vs, j->T * VW);
      continue;
    }
    const float *at[36];
    for (int i = 0; i < 6; i++)
      for (int l = 0; l < 6; l++) {
        const bool in = h + i >= 0 && h + i < j->H && w + l >= 0 && w + l < j->W;
        at[i * 6 + l] = in ? x + i * row + l * pix : j->zero;
      }
    in_patch(1, at, NULL, 0, 0, nb, V + t * VW, j->vs, j->T * VW);
  }
}

/* y (nv vectors of channels from k0 on) from M[xi][tile][Km] */
static void out_tiles(const nn_conv_wino *j, int64_t t0, int64_t nt, int64_t k0, int64_t nv, const float *M) {
  for (int64_t t = 0; t < nt; t++) {
    const tile_at a = tile_find(j, t0 + t);
    const int64_t nh = min64(4, j->OH - a.h), nw = min64(4, j->OW - a.w), row = j->OW * j->K;
    float *y = j->y + ((a.n * j->OH + a.h) * j->OW + a.w) * j->K + k0;
    for (int64_t v = 0; v < nv; v++, y += VW) {
      const int64_t lanes = min64(VW, j->K - k0 - v * VW);
      const float *m = M + t * j->Km + v * VW;
      vf d[36], s[24];
      NN_UNROLL for (int l = 0; l < 6; l++) {
        NN_UNROLL for (int i = 0; i < 6; i++) d[i * 6 + l] = vf_load(m + (i * 6 + l) * j->ms);
        at4(d + l, s + l, 6);
      }
      for (int i = 0; i < nh; i++) {
        vf o[4];
        at4(s + i * 6, o, 1);
        if (lanes == VW && nw == 4) {
          NN_UNROLL for (int l = 0; l < 4; l++) vf_store(y + i * row + l * j->K, o[l]);
        } else {
          for (int l = 0; l < nw; l++) vf_store_n(y + i * row + l * j->K, o[l], lanes);
        }
      }
    }
  }
}

/* M[xi][tile][Kr] = transformed dy (nv vectors of channels from k0 on) */
static void dy_tiles(const nn_conv_wino *j, int64_t t0, int64_t nt, int64_t k0, int64_t nv, float *M) {
  for (int64_t t = 0; t < nt; t++) {
    const tile_at a = tile_find(j, t0 + t);
    const int64_t nh = min64(4, j->OH - a.h), nw = min64(4, j->OW - a.w), row = j->OW * j->K;
    const float *y = j->dy + ((a.n * j->OH + a.h) * j->OW + a.w) * j->K + k0;
    for (int64_t v = 0; v < nv; v++, y += VW) {
      float *m = M + t * j->Kr + v * VW;
      vf d[16], s[24];
      if (nh == 4 && nw == 4) {
        NN_UNROLL for (int i = 0; i < 16; i++) d[i] = vf_load(y + i / 4 * row + i % 4 * j->K);
      } else {
        for (int i = 0; i < 16; i++) d[i] = i / 4 < nh && i % 4 < nw ? vf_load(y + i / 4 * row + i % 4 * j->K) : (vf){0};
      }
      NN_UNROLL for (int l = 0; l < 4; l++) a6(d + l, s + l, 4);
      NN_UNROLL for (int i = 0; i < 6; i++) {
        vf o[6];
        a6(s + i * 4, o, 1);
        NN_UNROLL for (int l = 0; l < 6; l++) vf_store(m + (i * 6 + l) * j->ms, o[l]);
      }
    }
  }
}

/* ---- forward ------------------------------------------------------------------------------------------------------------------------ */

/* block: an input channel. U = G g G' for each output channel */
void NN_ISA_FN(nn_wino_weights)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_wino *j = arg;
  const int64_t nvec = j->Kv / VW;
  (void)tid;
  for (int64_t c = begin; c < end; c++)
    for (int64_t v = 0; v < nvec; v++) {
      const int64_t lanes = min64(VW, j->K - v * VW), k0 = v / 2 * 2 * VW, nv = min64(2, nvec - v / 2 * 2);
      float *u = j->U + k0 * 36 * j->C + c * nv * VW + v % 2 * VW;
      vf g[9], s[18];
      NN_UNROLL for (int t = 0; t < 9; t++) g[t] = vf_load_n(j->w + (t * j->C + c) * j->K + v * VW, lanes);
      NN_UNROLL for (int l = 0; l < 3; l++) g6(g + l, s + l, 3);
      NN_UNROLL for (int i = 0; i < 6; i++) {
        vf o[6];
        g6(s + i * 3, o, 1);
        NN_UNROLL for (int l = 0; l < 6; l++) vf_store(u + (i * 6 + l) * j->C * nv * VW, o[l]);
      }
    }
}

/* block: a group of T tiles */
void NN_ISA_FN(nn_wino_run)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_wino *j = arg;
  static const int64_t zero = 0;
  const nn_tile_rows r = {&zero, 1, j->C, j->T * VW, j->Km};
  float *V = j->VM + tid * j->vm_floats, *M = V + 36 * j->vs;
  for (int64_t b = begin; b < end; b++) {
    const int64_t t0 = b * j->T, nt = min64(j->T, j->TT - t0);
    in_tiles(j, t0, nt, 0, j->Cv / VW, V);
    for (int64_t k0 = 0; k0 < j->Kv; k0 += j->Km) {
      const int64_t nk = min64(j->Km, j->Kv - k0);
      for (int64_t xi = 0; xi < 36; xi++)
        for (int64_t k = 0; k < nk; k += 2 * VW) {
          const int nv = nk - k >= 2 * VW ? 2 : 1;
          NN_ISA_FN(nn_tile_blocked)(&r, nt, nv, VW, V + xi * j->vs, j->U + (k0 + k) * 36 * j->C + xi * j->C * nv * VW, M + xi * j->ms + k);
        }
      out_tiles(j, t0, nt, k0, nk / VW, M);
    }
  }
}

/* ---- weight gradient ------------------------------------------------------------------------------------------------------------------ */

/* block: (chunk of the tiles, range of C, range of K). dU += V' M */
void NN_ISA_FN(nn_wino_dw_run)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_wino *j = arg;
  float *V = j->VM + tid * j->vm_floats, *M = V + 36 * j->vs;
  for (int64_t b = begin; b < end; b++) {
    const int64_t chunk = b / (j->nc * j->nk), c0 = b / j->nk % j->nc * j->Cr, k0 = b % j->nk * j->Kr;
    const int64_t nc = min64(j->Cr, j->C - c0), nv = min64(j->Kr, j->Kv - k0) / VW;
    const int64_t end_t = j->TT * (chunk + 1) / j->nchunk;
    float *dU = j->part + b * j->du_floats;
    memset(dU, 0, (size_t)j->du_floats * sizeof(float));
    for (int64_t t0 = j->TT * chunk / j->nchunk; t0 < end_t; t0 += j->T) {
      const int64_t nt = min64(j->T, end_t - t0);
      const nn_tile_outer q = {1, nt, 0, 0, j->Kr, j->Kr};
      in_tiles(j, t0, nt, c0, (nc + VW - 1) / VW, V);
      dy_tiles(j, t0, nt, k0, nv, M);
      for (int64_t xi = 0; xi < 36; xi++)
        for (int64_t c = 0; c < nc; c += VW)
          NN_ISA_FN(nn_tile_outer_blocked)(&q, min64(VW, nc - c), nv, V + xi * j->vs + c * j->T, M + xi * j->ms, dU + (xi * j->Cr + c) * j->Kr);
    }
  }
}

/* block: an input channel. dw = G' dU G */
void NN_ISA_FN(nn_wino_dw_out)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_wino *j = arg;
  const int64_t step = j->nc * j->nk * j->du_floats;
  (void)tid;
  for (int64_t c = begin; c < end; c++)
    for (int64_t k = 0; k < j->Kv; k += VW) {
      const float *p = j->part + (c / j->Cr * j->nk + k / j->Kr) * j->du_floats + c % j->Cr * j->Kr + k % j->Kr;
      vf u[36], s[18], o[9];
      for (int xi = 0; xi < 36; xi++) {
        u[xi] = vf_load(p + xi * j->Cr * j->Kr);
        for (int64_t i = 1; i < j->nchunk; i++) u[xi] += vf_load(p + xi * j->Cr * j->Kr + i * step);
      }
      NN_UNROLL for (int l = 0; l < 6; l++) gt3(u + l, s + l, 6);
      NN_UNROLL for (int i = 0; i < 3; i++) gt3(s + i * 6, o + i * 3, 1);
      NN_UNROLL for (int t = 0; t < 9; t++) vf_store_n(j->out + (t * j->C + c) * j->K + k, o[t], min64(VW, j->K - k));
    }
}
