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

/* One output pixel whose window may reach past the image's left or right: taps h0 .. h1, and those columns that lie inside */
static void depth_edge(const nn_conv_depth *j, const float *x, int64_t ow, int64_t h0, int64_t h1, float *y) {
  const int64_t C = j->C, row = j->dilh * j->W * C;
  int64_t w0, w1;
  taps_in(ow, j->sw, j->pl, j->dilw, j->KW, j->W, &w0, &w1);
  x += (ow * j->sw - j->pl) * C;
  for (int64_t c = 0; c < C; c += VW) {
    vf s = {0};
    for (int64_t kh = h0; kh < h1; kh++)
      for (int64_t kw = w0; kw < w1; kw++) s += vf_load(x + kh * row + kw * j->dilw * C + c) * vf_load(j->w + (kh * j->KW + kw) * C + c);
    vf_store_n(y + ow * C + c, s, min64(VW, C - c));
  }
}

/* NP neighbours whose windows lie inside: each vector of weights is loaded once for all of them. x: first tap of the first pixel */
NN_AINLINE void depth_tile(const int NP, const nn_conv_depth *j, const float *x, int64_t h0, int64_t h1, float *y) {
  const int64_t C = j->C, step = j->sw * C;
  for (int64_t c = 0; c < C; c += VW) {
    vf a[8];
    NN_UNROLL for (int p = 0; p < NP; p++) a[p] = (vf){0};
    for (int64_t kh = h0; kh < h1; kh++)
      for (int64_t kw = 0; kw < j->KW; kw++) {
        const vf w = vf_load(j->w + (kh * j->KW + kw) * C + c);
        const float *xp = x + (kh * j->dilh * j->W + kw * j->dilw) * C + c;
        NN_UNROLL for (int p = 0; p < NP; p++) a[p] += vf_load(xp + p * step) * w;
      }
    NN_UNROLL for (int p = 0; p < NP; p++) vf_store_n(y + p * C + c, a[p], min64(VW, C - c));
  }
}

/* block: an output row */
void NN_ISA_FN(nn_depth_fwd)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  (void)tid;
  const int64_t reach = (j->KW - 1) * j->dilw; /* columns left .. right need no checks */
  const int64_t left = min64(j->OW, (j->pl + j->sw - 1) / j->sw), last = j->W - 1 - reach + j->pl;
  const int64_t right = last < 0 ? left : min64(j->OW, last / j->sw + 1);
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->OH, oh = b % j->OH;
    int64_t h0, h1, ow = 0;
    taps_in(oh, j->sh, j->pt, j->dilh, j->KH, j->H, &h0, &h1);
    const float *x = j->x + (n * j->H + oh * j->sh - j->pt) * j->W * j->C;
    float *y = j->y + b * j->OW * j->C;
    for (; ow < left; ow++) depth_edge(j, x, ow, h0, h1, y);
    for (; ow + 8 <= right; ow += 8) depth_tile(8, j, x + (ow * j->sw - j->pl) * j->C, h0, h1, y + ow * j->C);
    for (; ow + 2 <= right; ow += 2) depth_tile(2, j, x + (ow * j->sw - j->pl) * j->C, h0, h1, y + ow * j->C);
    for (; ow < j->OW; ow++) depth_edge(j, x, ow, h0, h1, y);
  }
}

/* y[w] += dy[ow] w[kw] for every column of one input row and the taps that meet it */
static void depth_dx_row(const nn_conv_depth *j, const float *dy, const float *wk, float *y) {
  const int64_t C = j->C;
  for (int64_t w = 0; w < j->W; w++)
    for (int64_t kw = 0; kw < j->KW; kw++) {
      const int64_t a = w + j->pl - kw * j->dilw, ow = a / j->sw;
      if (a < 0 || a % j->sw || ow >= j->OW) continue;
      int64_t c = 0;
      for (; c + VW <= C; c += VW) vf_store(y + w * C + c, vf_load(y + w * C + c) + vf_load(dy + ow * C + c) * vf_load(wk + kw * C + c));
      if (c < C) vf_store_n(y + w * C + c, vf_load_n(y + w * C + c, C - c) + vf_load(dy + ow * C + c) * vf_load(wk + kw * C + c), C - c);
    }
}

/* block: an input row. dx[h] = sum of dy[oh] w[kh] over the taps with oh * s - p + kh * dil = h. For strides; without, forward does it */
void NN_ISA_FN(nn_depth_dx)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_conv_depth *j = arg;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->H, h = b % j->H;
    float *y = j->y + b * j->W * j->C;
    memset(y, 0, (size_t)(j->W * j->C) * sizeof(float));
    for (int64_t kh = 0; kh < j->KH; kh++) {
      const int64_t a = h + j->pt - kh * j->dilh, oh = a / j->sh;
      if (a < 0 || a % j->sh || oh >= j->OH) continue;
      depth_dx_row(j, j->dy + (n * j->OH + oh) * j->OW * j->C, j->w + kh * j->KW * j->C, y);
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
      vf s[4] = {vf_load(p)}; /* four sums: one would wait for itself */
      int64_t o = o0;
      for (; o + 4 <= o1; o += 4) NN_UNROLL for (int i = 0; i < 4; i++) s[i] += vf_load(x + (o + i) * j->sw * C) * vf_load(dy + (o + i) * C);
      for (; o < o1; o++) s[0] += vf_load(x + o * j->sw * C) * vf_load(dy + o * C);
      vf_store(p, (s[0] + s[1]) + (s[2] + s[3]));
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
