/* cpu/isa/transpose.h - a square of floats, one vector a side, transposed in registers. Included by files of isa/ only. */
#ifndef NN_CPU_ISA_TRANSPOSE_H
#define NN_CPU_ISA_TRANSPOSE_H

typedef float nn_tv __attribute__((vector_size(VW * 4), aligned(4)));
typedef int32_t nn_ti __attribute__((vector_size(VW * 4)));

/* dst[j * ds + i] = src[i * ss + j], i and j < VW. Interleaving row i with row i + VW/2, log2(VW) times, is the transposition. */
static inline __attribute__((always_inline)) void transpose_square(const float *src, int64_t ss, float *dst, int64_t ds) {
  nn_ti low, high;
  nn_tv a[VW], b[VW];
  for (int l = 0; l < VW; l++) {
    low[l] = l / 2 + l % 2 * VW;
    high[l] = low[l] + VW / 2;
  }
#pragma GCC unroll 16
  for (int i = 0; i < VW; i++) a[i] = *(const nn_tv *)(src + i * ss);
#pragma GCC unroll 4
  for (int n = 1; n < VW; n *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < VW / 2; i++) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + VW / 2], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + VW / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < VW; i++) *(nn_tv *)(dst + i * ds) = a[i];
}

#endif
