/* cpu/isa/conv_depth.c - convolution with one channel per group (depthwise): forward and gradients, vectorised over channels. See conv.h. */
#include "conv_tile.h"

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Taps k0 <= k < k1 whose input o * s - p + k * dil lies in 0 .. n */
static void taps_in(int64_t o, int64_t s, int64_t p, int64_t dil, int64_t nk, int64_t n, int64_t *k0, int64_t *k1) {
  const int64_t at = o * s - p;
  *k0 = at < 0 ? min64(nk, (-at + dil - 1) / dil) : 0;
  *k1 = at < n ? min64(nk, (n - 1 - at) / dil + 1) : 0;
  if (*k1 < *k0) *k1 = *k0;
}

/* block: an output row */
void NN_ISA_FN(nn_depth_fwd)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  const int64_t C = j->C;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->OH, oh = b % j->OH;
    int64_t h0, h1, w0, w1;
    taps_in(oh, j->sh, j->pt, j->dilh, j->KH, j->H, &h0, &h1);
    for (int64_t ow = 0; ow < j->OW; ow++) {
      taps_in(ow, j->sw, j->pl, j->dilw, j->KW, j->W, &w0, &w1);
      for (int64_t c = 0; c < C; c += VW) {
        vf s = {0};
        for (int64_t kh = h0; kh < h1; kh++) {
          const float *x = j->x + ((n * j->H + oh * j->sh - j->pt + kh * j->dilh) * j->W + ow * j->sw - j->pl) * C + c;
          for (int64_t kw = w0; kw < w1; kw++) s += vf_load(x + kw * j->dilw * C) * vf_load(j->w + (kh * j->KW + kw) * C + c);
        }
        vf_store_n(j->y + (b * j->OW + ow) * C + c, s, min64(VW, C - c));
      }
    }
  }
}

/* block: an input row. dx[h] = sum of dy[oh] w[kh] over the taps with oh * s - p + kh * dil = h */
void NN_ISA_FN(nn_depth_dx)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  const int64_t C = j->C;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->H, h = b % j->H;
    for (int64_t w = 0; w < j->W; w++)
      for (int64_t c = 0; c < C; c += VW) {
        vf s = {0};
        for (int64_t kh = 0; kh < j->KH; kh++) {
          const int64_t a = h + j->pt - kh * j->dilh, oh = a / j->sh;
          if (a < 0 || a % j->sh || oh >= j->OH) continue;
          for (int64_t kw = 0; kw < j->KW; kw++) {
            const int64_t e = w + j->pl - kw * j->dilw, ow = e / j->sw;
            if (e < 0 || e % j->sw || ow >= j->OW) continue;
            s += vf_load(j->dy + ((n * j->OH + oh) * j->OW + ow) * C + c) * vf_load(j->w + (kh * j->KW + kw) * C + c);
          }
        }
        vf_store_n(j->y + (b * j->W + w) * C + c, s, min64(VW, C - c));
      }
  }
}

/* Output columns o0 <= o < o1 whose input o * s + at lies in 0 .. n */
static void outs_in(int64_t at, int64_t s, int64_t no, int64_t n, int64_t *o0, int64_t *o1) {
  *o0 = at < 0 ? min64(no, (-at + s - 1) / s) : 0;
  *o1 = at < n ? min64(no, (n - 1 - at) / s + 1) : 0;
  if (*o1 < *o0) *o1 = *o0;
}

/* One row's share of the weight gradient for VW channels from c on, added to part[tap][Cv] */
static void depth_dw_row(const nn_conv_depth *j, int64_t n, int64_t oh, int64_t c, float *part) {
  const int64_t C = j->C;
  for (int64_t kh = 0; kh < j->KH; kh++) {
    const int64_t h = oh * j->sh - j->pt + kh * j->dilh;
    if (h < 0 || h >= j->H) continue;
    for (int64_t kw = 0; kw < j->KW; kw++) {
      int64_t o0, o1;
      outs_in(kw * j->dilw - j->pl, j->sw, j->OW, j->W, &o0, &o1);
      const float *x = j->x + ((n * j->H + h) * j->W + kw * j->dilw - j->pl) * C + c, *dy = j->dy + (n * j->OH + oh) * j->OW * C + c;
      float *p = part + (kh * j->KW + kw) * j->Cv;
      vf s = vf_load(p);
      for (int64_t o = o0; o < o1; o++) s += vf_load(x + o * j->sw * C) * vf_load(dy + o * C);
      vf_store(p, s);
    }
  }
}

/* block: (chunk of the output rows, VW channels) */
void NN_ISA_FN(nn_depth_dw)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  const int64_t nv = j->Cv / VW, rows = j->N * j->OH, nt = j->KH * j->KW;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t chunk = b / nv, c = b % nv * VW;
    float *part = j->part + chunk * nt * j->Cv + c;
    for (int64_t t = 0; t < nt; t++) vf_store(part + t * j->Cv, (vf){0});
    for (int64_t r = rows * chunk / j->nchunk; r < rows * (chunk + 1) / j->nchunk; r++) depth_dw_row(j, r / j->OH, r % j->OH, c, part);
  }
}

/* block: a tap */
void NN_ISA_FN(nn_depth_dw_sum)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  const int64_t nt = j->KH * j->KW;
  (void)tid;
  for (int64_t t = begin; t < end; t++)
    for (int64_t c = 0; c < j->C; c += VW) {
      const float *p = j->part + t * j->Cv + c;
      vf s = vf_load(p);
      for (int64_t i = 1; i < j->nchunk; i++) s += vf_load(p + i * nt * j->Cv);
      vf_store_n(j->y + t * j->C + c, s, min64(VW, j->C - c));
    }
}
