/* cpu/isa/gemm.c - our own matrix product: a register-blocked tile of MR rows by two vectors, B packed in panels.
**
** Every element of C is a chain of multiply-adds over k in order, within blocks that are added up in order (their length is K's share of
** the fewest blocks of at most KC): its bits depend on K alone, not on where it lies or how the product is cut. MR is such that the tile
** fits the register file (16 or 32 vectors).
*/
#include "../isa_kernels.h"
#include "transpose.h"

#if VW == 16 || defined(__aarch64__)
#define MR 12
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define MR 6
#define EACH_MR(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
enum { NR = 2 * VW, KC = 384, NC = 128 };

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

/* mr rows, nv vectors: c (+)= a b. One of am, ak is a compile-time 1; rows share base pointers in threes so that addresses stay in registers. */
INLINE void tile(const int mr, const int nv, const float *restrict a, const int64_t am, const int64_t ak, const float *restrict b, const int64_t bs,
                 int64_t k, float *restrict c, int64_t ldc, int64_t cols, bool add) {
  V s[MR][2];
  const float *p[4] = {a, a + 3 * am, a + 6 * am, a + 9 * am};
  UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) s[i][v] = (V){0};
  for (int64_t q = 0; q < k; q++, b += bs) {
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

typedef void (*tile_fn)(const float *a, int64_t lda, const float *b, int64_t ldb, int64_t k, float *c, int64_t ldc, int64_t cols, bool add);
/* r: a has unit stride along k, lda along m; t: the other way round; b packed. d: as r, b not packed, ldb between its rows. */
#define TILE(name, mr, nv, am, ak, bs)                                                                                                               \
  static void name##nv##_##mr(const float *a, int64_t lda, const float *b, int64_t ldb, int64_t k, float *c, int64_t ldc, int64_t cols, bool add) {  \
    (void)ldb;                                                                                                                                       \
    tile(mr, nv, a, am, ak, b, bs, k, c, ldc, cols, add);                                                                                            \
  }
#define TILES(mr)                                                                                                                                    \
  TILE(r, mr, 1, lda, 1, NR)                                                                                                                         \
  TILE(r, mr, 2, lda, 1, NR)                                                                                                                         \
  TILE(t, mr, 1, 1, lda, NR)                                                                                                                         \
  TILE(t, mr, 2, 1, lda, NR)                                                                                                                         \
  TILE(d, mr, 1, lda, 1, ldb)                                                                                                                        \
  TILE(d, mr, 2, lda, 1, ldb)
EACH_MR(TILES)
#define R1(mr) r1_##mr,
#define R2(mr) r2_##mr,
#define T1(mr) t1_##mr,
#define T2(mr) t2_##mr,
#define D1(mr) d1_##mr,
#define D2(mr) d2_##mr,
typedef enum kind { A_ROWS, A_COLUMNS, B_DIRECT } kind;
static const tile_fn tiles[3][2][MR] = {
    {{EACH_MR(R1)}, {EACH_MR(R2)}}, {{EACH_MR(T1)}, {EACH_MR(T2)}}, {{EACH_MR(D1)}, {EACH_MR(D2)}}}; /* [kind][vectors - 1][mr - 1] */

/* k rows of cols <= NR columns of b to out[k][NR]. Columns past cols hold anything: what they give is not stored (b may be read past its
** end, within NNI_PAD). */
static void pack_b(const float *b, int64_t bk, int64_t bn, int64_t k, int64_t cols, float *restrict out) {
  if (bn == 1 && cols > VW) {
    for (int64_t q = 0; q < k; q++, b += bk, out += NR)
      for (int v = 0; v < 2; v++) *(V *)(out + v * VW) = *(const V *)(b + v * VW);
    return;
  }
  if (bn == 1) {
    for (int64_t q = 0; q < k; q++, b += bk, out += NR) *(V *)out = *(const V *)b;
    return;
  }
  if (cols < NR) memset(out, 0, (size_t)(k * NR) * sizeof *out);
  int64_t done = 0; /* columns */
  if (bk == 1 && k >= VW)
    for (; done + VW <= cols; done += VW)
      for (int64_t q = 0; q < k; q += VW) {
        const int64_t at = q + VW <= k ? q : k - VW; /* the last square overlaps the one before */
        transpose_square(b + at + done * bn, bn, out + at * NR + done, NR);
      }
  for (int64_t j = done; j < cols; j++)
    for (int64_t q = 0; q < k; q++) out[q * NR + j] = b[q * bk + j * bn];
}

/* The panels of all of B, in the order in which a product uses them. */
void NN_ISA_FN(nn_cpu_gemm_pack_own)(const nn_cpu_gemm *g, float *out) {
  const int64_t blocks = (g->k + KC - 1) / KC, step = blocks ? (g->k + blocks - 1) / blocks : 1;
  for (int64_t j0 = 0; j0 < g->n; j0 += NC)
    for (int64_t k0 = 0; k0 < g->k; k0 += step) {
      const int64_t nc = g->n - j0 < NC ? g->n - j0 : NC, kc = g->k - k0 < step ? g->k - k0 : step;
      for (int64_t j = 0; j < nc; j += NR, out += NR * kc)
        pack_b(g->b + k0 * g->bk + (j0 + j) * g->bn, g->bk, g->bn, kc, nc - j < NR ? nc - j : NR, out);
    }
}

/* A is never packed: its rows or columns go straight to the multipliers, one element at a time. A dim of size 1 has no stride to speak of. */
void NN_ISA_FN(nn_cpu_gemm_own)(const nn_cpu_gemm *g) {
  float bp[NC * KC] __attribute__((aligned(64)));
  const int64_t blocks = (g->k + KC - 1) / KC, step = (g->k + blocks - 1) / blocks;
  const bool rows = g->ak == 1 || g->k == 1, direct = rows && g->bn == 1 && g->m <= MR && !g->packed; /* a B that is read once needs no packing */
  const kind form = direct ? B_DIRECT : rows ? A_ROWS : A_COLUMNS;
  const int64_t lda = rows ? g->am : g->ak;
  const float *ready = g->packed;
  for (int64_t j0 = 0; j0 < g->n; j0 += NC)
    for (int64_t k0 = 0; k0 < g->k; k0 += step) {
      const int64_t nc = g->n - j0 < NC ? g->n - j0 : NC, kc = g->k - k0 < step ? g->k - k0 : step;
      const float *a = g->a + k0 * g->ak, *b = g->b + k0 * g->bk + j0 * g->bn;
      const float *panel = ready ? ready : bp;
      if (ready) ready += (nc + NR - 1) / NR * NR * kc;
      for (int64_t j = 0; j < nc && !direct && !ready; j += NR) pack_b(b + j * g->bn, g->bk, g->bn, kc, nc - j < NR ? nc - j : NR, bp + j * kc);
      for (int64_t i = 0; i < g->m; i += MR) {
        const int64_t mr = g->m - i < MR ? g->m - i : MR;
        for (int64_t j = 0; j < nc; j += NR) {
          const int64_t cols = nc - j < NR ? nc - j : NR;
          tiles[form][cols > VW][mr - 1](a + i * g->am, lda, direct ? b + j : panel + j * kc, g->bk, kc, g->c + i * g->ldc + j0 + j, g->ldc, cols,
                                         k0 > 0);
        }
      }
    }
}
