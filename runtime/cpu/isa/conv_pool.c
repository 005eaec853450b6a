/* cpu/isa/conv_pool.c - max pooling, its gradient, and the gradient of that, vectorised over channels. See conv.h.
**
** A window's winner is stored as its tap kh * KW + kw in a byte. Gradients gather (a row of the result is written by one block), so windows may
** overlap without races and sums always run in the order of the windows.
*/
#include "conv_tile.h"

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static inline void store_taps(uint8_t *p, vi taps, int64_t n) {
  const vb b = __builtin_convertvector(taps, vb);
  if (n == VW) *(vb_u *)p = b;
  else
    for (int64_t i = 0; i < n; i++) p[i] = b[i];
}
static inline vi load_taps(const uint8_t *p) { return __builtin_convertvector((vb) * (const vb_u *)p, vi); }

/* *best, *tap = v, t where v is greater or the first NaN */
NN_AINLINE void take_greater(vf *best, vi *tap, vf v, vi t) {
#if VW == 16 && defined(__AVX512F__)
  const __m512 a = (__m512)v, b = (__m512)*best;
  const __mmask16 k = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(b, b, _CMP_ORD_Q), a, b, _CMP_NLE_UQ);
  *best = (vf)_mm512_mask_mov_ps(b, k, a);
  *tap = (vi)_mm512_mask_mov_epi32((__m512i)*tap, k, (__m512i)t);
#else
  const vi take = (v > *best) | ((v != v) & (*best == *best));
  *best = vf_select(take, v, *best);
  *tap = vi_select(take, t, *tap);
#endif
}

/* block: an output row */
void NN_ISA_FN(nn_pool_fwd)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_pool_job *j = arg;
  const int64_t C = j->C;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->OH, h0 = b % j->OH * j->sh - j->pt, kh0 = max64(0, -h0), kh1 = min64(j->KH, j->H - h0);
    for (int64_t ow = 0; ow < j->OW; ow++) {
      const int64_t w0 = ow * j->sw - j->pl, kw0 = max64(0, -w0), kw1 = min64(j->KW, j->W - w0);
      const float *x = j->x + ((n * j->H + h0) * j->W + w0) * C;
      for (int64_t c = 0; c < C; c += VW) {
        vf best = vf_set1(-__builtin_inff());
        vi tap = vi_set1((int32_t)(kh0 * j->KW + kw0)); /* the first in the image, should all be -inf */
        if (kh0 >= kh1 || kw0 >= kw1) tap = (vi){0};
        for (int64_t kh = kh0; kh < kh1; kh++)
          for (int64_t kw = kw0; kw < kw1; kw++)
            take_greater(&best, &tap, vf_load(x + (kh * j->W + kw) * C + c), vi_set1((int32_t)(kh * j->KW + kw)));
        const int64_t at = (b * j->OW + ow) * C + c, lanes = min64(VW, C - c);
        vf_store_n(j->y + at, best, lanes);
        store_taps(j->taps + at, tap, lanes);
      }
    }
  }
}

/* What the windows of output row oh that reach input row h through their row kh add to it. o: the row of dx */
static void dx_row(const nn_pool_job *j, int64_t n, int64_t oh, int64_t kh, float *o) {
  const int64_t C = j->C;
  for (int64_t ow = 0; ow < j->OW; ow++) {
    const int64_t at = ((n * j->OH + oh) * j->OW + ow) * C, w0 = ow * j->sw - j->pl;
    const int64_t kw0 = max64(0, -w0), kw1 = min64(j->KW, j->W - w0);
    for (int64_t c = 0; c < C; c += VW) {
      const vf dy = vf_load(j->x + at + c);
      const vi tap = load_taps(j->taps_in + at + c);
      for (int64_t kw = kw0; kw < kw1; kw++) {
        float *p = o + (w0 + kw) * C + c;
        const vf add = (vf)((vi)dy & (tap == (int32_t)(kh * j->KW + kw)));
        if (C - c >= VW) vf_store(p, vf_load(p) + add);
        else vf_store_n(p, vf_load_n(p, C - c) + add, C - c);
      }
    }
  }
}

/* block: an input row */
void NN_ISA_FN(nn_pool_dx)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_pool_job *j = arg;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->H, h = b % j->H, a = h + j->pt;
    float *o = j->y + b * j->W * j->C;
    memset(o, 0, (size_t)(j->W * j->C) * sizeof(float));
    const int64_t oh0 = a - j->KH + 1 > 0 ? (a - j->KH + j->sh) / j->sh : 0;
    for (int64_t oh = oh0; oh < j->OH && oh * j->sh <= a; oh++) dx_row(j, n, oh, a - oh * j->sh, o);
  }
}

/* block: an output row */
void NN_ISA_FN(nn_pool_take)(void *arg, int64_t begin, int64_t end, int tid) {
  const nn_pool_job *j = arg;
  const int64_t C = j->C;
  (void)tid;
  for (int64_t b = begin; b < end; b++) {
    const int64_t n = b / j->OH, h0 = b % j->OH * j->sh - j->pt, kh0 = max64(0, -h0), kh1 = min64(j->KH, j->H - h0);
    for (int64_t ow = 0; ow < j->OW; ow++) {
      const int64_t w0 = ow * j->sw - j->pl, kw0 = max64(0, -w0), kw1 = min64(j->KW, j->W - w0);
      const float *x = j->x + ((n * j->H + h0) * j->W + w0) * C;
      for (int64_t c = 0; c < C; c += VW) {
        const int64_t at = (b * j->OW + ow) * C + c;
        const vi tap = load_taps(j->taps_in + at);
        vf v = {0};
        for (int64_t kh = kh0; kh < kh1; kh++)
          for (int64_t kw = kw0; kw < kw1; kw++) v = vf_select(tap == (int32_t)(kh * j->KW + kw), vf_load(x + (kh * j->W + kw) * C + c), v);
        vf_store_n(j->y + at, v, min64(VW, C - c));
      }
    }
  }
}
