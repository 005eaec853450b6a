/* cpu/isa/gemm.c - our own matrix product: a register-blocked tile of MR rows by two vectors, B packed in panels.
**
** Every element of C is a chain of multiply-adds over k in order, within blocks of KC that are added up in order: its bits depend on K
** alone, not on where it lies or how the product is cut. MR is such that the tile fits the register file (16 or 32 vectors).
*/
#include "../isa_kernels.h"

#if VW == 16 || defined(__aarch64__)
#define MR 12
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define MR 6
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
enum { NR = 2 * VW, KC = 256, NC = 128 };

typedef float V __attribute__((vector_size(VW * 4), aligned(4)));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 12")

/* cols < a whole number of vectors: through memory */
INLINE V load_part(const float *p, int64_t n) {
  float lane[VW] = {0};
  if (n > 0) memcpy(lane, p, (size_t)(n < VW ? n : VW) * sizeof *p);
  return *(const V *)lane;
}
INLINE void store_part(float *p, V v, int64_t n) {
  if (n > 0) memcpy(p, &v, (size_t)(n < VW ? n : VW) * sizeof *p);
}

/* mr rows, nv vectors: c (+)= a b. One of am, ak is a compile-time 1 (rows share base pointers in threes so that addresses stay in registers). */
INLINE void tile(const int mr, const int nv, const float *restrict a, const int64_t am, const int64_t ak, const float *restrict b, int64_t k,
                 float *restrict c, int64_t ldc, int64_t cols, bool add) {
  V s[MR][2];
  const float *p[4] = {a, a + 3 * am, a + 6 * am, a + 9 * am};
  UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) s[i][v] = (V){0};
  for (int64_t q = 0; q < k; q++, b += NR) {
    V w[2];
    UNROLL for (int v = 0; v < nv; v++) w[v] = *(const V *)(b + v * VW);
    UNROLL for (int i = 0; i < mr; i++) {
      const float x = p[i / 3][i % 3 * am];
      UNROLL for (int v = 0; v < nv; v++) s[i][v] += x * w[v];
    }
    UNROLL for (int i = 0; i < (mr + 2) / 3; i++) p[i] += ak;
  }
  if (cols == nv * VW) {
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) {
      V *o = (V *)(c + i * ldc + v * VW);
      *o = add ? *o + s[i][v] : s[i][v];
    }
  } else {
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) {
      float *o = c + i * ldc + v * VW;
      store_part(o, add ? load_part(o, cols - v * VW) + s[i][v] : s[i][v], cols - v * VW);
    }
  }
}

typedef void (*tile_fn)(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc, int64_t cols, bool add);
/* r: a has unit stride along k, lda along m; t: the other way round */
#define TILES(mr)                                                                                                                        \
  static void r1_##mr(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc, int64_t cols, bool add) {           \
    tile(mr, 1, a, lda, 1, b, k, c, ldc, cols, add);                                                                                     \
  }                                                                                                                                      \
  static void r2_##mr(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc, int64_t cols, bool add) {           \
    tile(mr, 2, a, lda, 1, b, k, c, ldc, cols, add);                                                                                     \
  }                                                                                                                                      \
  static void t1_##mr(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc, int64_t cols, bool add) {           \
    tile(mr, 1, a, 1, lda, b, k, c, ldc, cols, add);                                                                                     \
  }                                                                                                                                      \
  static void t2_##mr(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc, int64_t cols, bool add) {           \
    tile(mr, 2, a, 1, lda, b, k, c, ldc, cols, add);                                                                                     \
  }
EACH_MR(TILES)
#define R1(mr) r1_##mr,
#define R2(mr) r2_##mr,
#define T1(mr) t1_##mr,
#define T2(mr) t2_##mr,
static const tile_fn tiles[2][2][MR] = {{{EACH_MR(R1)}, {EACH_MR(R2)}}, {{EACH_MR(T1)}, {EACH_MR(T2)}}}; /* [transposed][vectors - 1][mr - 1] */

/* k rows of cols <= NR columns of b to out[k][NR], zeros in the columns that are not there */
static void pack_b(const float *b, int64_t bk, int64_t bn, int64_t k, int64_t cols, float *restrict out) {
  if (bn == 1 && cols == NR) {
    for (int64_t q = 0; q < k; q++, b += bk, out += NR)
      for (int v = 0; v < 2; v++) *(V *)(out + v * VW) = *(const V *)(b + v * VW);
    return;
  }
  if (cols < NR) memset(out, 0, (size_t)(k * NR) * sizeof *out);
  for (int64_t q0 = 0; q0 < k; q0 += 16) {
    const int64_t q1 = q0 + 16 < k ? q0 + 16 : k;
    for (int64_t j = 0; j < cols; j++)
      for (int64_t q = q0; q < q1; q++) out[q * NR + j] = b[q * bk + j * bn];
  }
}

/* mr rows of a to out[k][MR] */
static void pack_a(const float *a, int64_t am, int64_t ak, int64_t k, int64_t mr, float *restrict out) {
  if (am == 1 && mr == MR) {
    for (int64_t q = 0; q < k; q++, a += ak, out += MR) memcpy(out, a, MR * sizeof *a);
    return;
  }
  for (int64_t i = 0; i < mr; i++)
    for (int64_t q = 0; q < k; q++) out[q * MR + i] = a[i * am + q * ak];
}

void NN_ISA_FN(nn_cpu_gemm_own)(const nn_cpu_gemm *g) {
  float bp[NC * KC] __attribute__((aligned(64))), ap[MR * KC] __attribute__((aligned(64)));
  const bool pack = g->ak != 1;
  for (int64_t j0 = 0; j0 < g->n; j0 += NC)
    for (int64_t k0 = 0; k0 < g->k; k0 += KC) {
      const int64_t nc = g->n - j0 < NC ? g->n - j0 : NC, kc = g->k - k0 < KC ? g->k - k0 : KC;
      for (int64_t j = 0; j < nc; j += NR)
        pack_b(g->b + k0 * g->bk + (j0 + j) * g->bn, g->bk, g->bn, kc, nc - j < NR ? nc - j : NR, bp + j * kc);
      for (int64_t i = 0; i < g->m; i += MR) {
        const int64_t mr = g->m - i < MR ? g->m - i : MR;
        const float *a = g->a + i * g->am + k0 * g->ak;
        if (pack) pack_a(a, g->am, g->ak, kc, mr, ap);
        for (int64_t j = 0; j < nc; j += NR) {
          const int64_t cols = nc - j < NR ? nc - j : NR;
          tiles[pack][cols > VW][mr - 1](pack ? ap : a, pack ? MR : g->am, bp + j * kc, kc, g->c + i * g->ldc + j0 + j, g->ldc, cols, k0 > 0);
        }
      }
    }
}
