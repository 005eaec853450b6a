/* base/philox.c - counter-based random numbers: Philox4x32-10. Pure functions; anybody may call.
**
** Layout: key words 0, 1 = seed low, high; counter words 0, 1 = position low, high; counter words 2, 3 = stream low, high.
** Each counter gives a block of four 32-bit words. The bulk functions number the draws of a stream from position 0: draw d is word
** d % 4 of block d / 4, and element i of the output comes from draw first_draw + i alone (a stream at `position` starts at draw
** 4 * position). So a result depends neither on how a request is cut into pieces nor on the instruction set:
** - uniform: the top 24 bits of the draw over 2^24;
** - normal: elements 2p and 2p + 1 are r cos(a) and r sin(a), r = sqrt(-2 ln((k + 1) / 2^24)), a = 2 pi l / 2^24, where k, l are
**   the top 24 bits of draws 2p and 2p + 1. |x| < 5.77. Computed with own polynomials and no fused multiply-add (CMakeLists.txt
**   compiles this file with -ffp-contract=off), hence the same bits on every CPU;
** - below: 64-bit number d of a stream is words 2d (low half) and 2d + 1 (high half); the result is the top half of its product
**   with n, bias at most n / 2^64.
*/
#include <math.h>
#include "base.h"

#define MUL0 0xD2511F53u
#define MUL1 0xCD9E8D57u
#define WEYL0 0x9E3779B9u /* golden ratio */
#define WEYL1 0xBB67AE85u /* sqrt(3) - 1 */
#define ROUNDS 10
#define LANES 32         /* blocks computed side by side */
#define TILE (4 * LANES) /* draws they give */

nni_philox nni_philox4x32(uint64_t key, uint64_t counter, uint64_t stream) {
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int r = 0; r < ROUNDS; r++) {
    uint64_t p0 = (uint64_t)MUL0 * c0, p1 = (uint64_t)MUL1 * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += WEYL0;
    k1 += WEYL1;
  }
  return (nni_philox){{c0, c1, c2, c3}};
}

/* The LANES blocks from `block` on, words in the order of their draws. The loops over lanes are vectorised; with 16 lanes gcc unrolls
** them first and then cannot, which costs a factor of 2. */
static void tile_fill(uint64_t key, uint64_t stream, uint64_t block, uint32_t out[TILE]) {
  uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int i = 0; i < LANES; i++) {
    uint64_t at = block + (uint64_t)i;
    c0[i] = (uint32_t)at;
    c1[i] = (uint32_t)(at >> 32);
    c2[i] = (uint32_t)stream;
    c3[i] = (uint32_t)(stream >> 32);
  }
  for (int r = 0; r < ROUNDS; r++, k0 += WEYL0, k1 += WEYL1)
    for (int i = 0; i < LANES; i++) {
      uint64_t p0 = (uint64_t)MUL0 * c0[i], p1 = (uint64_t)MUL1 * c2[i];
      c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = (uint32_t)p1;
      c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = (uint32_t)p0;
    }
  for (int i = 0; i < LANES; i++) {
    out[4 * i] = c0[i];
    out[4 * i + 1] = c1[i];
    out[4 * i + 2] = c2[i];
    out[4 * i + 3] = c3[i];
  }
}

static void tile_uniform(const uint32_t u[TILE], float x[TILE]) {
  for (int i = 0; i < TILE; i++) x[i] = (float)(int32_t)(u[i] >> 8) * 0x1p-24f;
}

/* ln of x in (0, 1], relative error below 1.2e-7: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m by a polynomial in m - 1. */
static inline float ln01(float x) {
  union { float f; int32_t i; } v = {x};
  int32_t e = (v.i - 0x3F3504F3) >> 23; /* 0x3F3504F3: sqrt(1/2) */
  float m, z, y, fe = (float)e;
  v.i -= (int32_t)((uint32_t)e << 23);
  m = v.f - 1.0f;
  z = m * m;
  y = 7.0376836292e-2f;
  y = y * m - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z;
  y = y - 2.12194440e-4f * fe - 0.5f * z; /* ln 2 in two parts */
  return m + y + 0.693359375f * fe;
}

/* Pairs of draws -> pairs of normal numbers. */
static void tile_normal(const uint32_t u[TILE], float x[TILE]) {
  for (int p = 0; p < TILE / 2; p++) {
    float s = (float)(int32_t)((u[2 * p] >> 8) + 1) * 0x1p-24f;
    float r = sqrtf(-2.0f * ln01(s));
    int32_t turn = (int32_t)(u[2 * p + 1] >> 8);    /* angle in 2^-24 turns */
    int32_t quarter = (turn + (1 << 21)) >> 22;     /* 0..4, the nearest quarter turn */
    float a = (float)(turn - quarter * (1 << 22)) * 3.74507028e-7f; /* 2 pi / 2^24; a in [-pi/4, pi/4) */
    float z = a * a;
    float sn = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * a + a;
    float cs = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    float c = (quarter & 1) != 0 ? sn : cs, d = (quarter & 1) != 0 ? cs : sn;
    x[2 * p] = r * (((quarter + 1) & 2) != 0 ? -c : c);
    x[2 * p + 1] = r * ((quarter & 2) != 0 ? -d : d);
  }
}

/* How a tile of draws becomes a tile of results of the same size. */
typedef enum kind { BITS, UNIFORM, NORMAL } kind;

static void tile_make(kind k, uint64_t key, uint64_t stream, uint64_t block, void *out) {
  uint32_t u[TILE];
  if (k == BITS) {
    tile_fill(key, stream, block, out);
    return;
  }
  tile_fill(key, stream, block, u);
  if (k == UNIFORM) tile_uniform(u, out);
  else tile_normal(u, out);
}

/* Results first .. first + n - 1; whole tiles go straight to out, the ragged ends through a buffer. A result is 4 bytes. */
static void fill(kind k, uint64_t key, uint64_t stream, uint64_t first, void *out, int64_t n) {
  union { uint32_t u[TILE]; float f[TILE]; } tile;
  char *to = out;
  int64_t skip = (int64_t)(first % 4);
  uint64_t block = first / 4;
  while (n > 0) {
    int64_t len = TILE - skip < n ? TILE - skip : n;
    if (len == TILE) tile_make(k, key, stream, block, to);
    else {
      tile_make(k, key, stream, block, &tile);
      memcpy(to, tile.u + skip, (size_t)len * 4);
    }
    to += len * 4;
    n -= len;
    skip = 0;
    block += LANES;
  }
}

void nni_random_u32(uint64_t key, uint64_t stream, uint64_t first_draw, uint32_t *out, int64_t n) {
  fill(BITS, key, stream, first_draw, out, n);
}

void nni_random_uniform(uint64_t key, uint64_t stream, uint64_t first_draw, float *out, int64_t n) {
  fill(UNIFORM, key, stream, first_draw, out, n);
}

void nni_random_normal(uint64_t key, uint64_t stream, uint64_t first_draw, float *out, int64_t n) {
  fill(NORMAL, key, stream, first_draw, out, n);
}

uint64_t nni_random_below(uint64_t key, uint64_t stream, uint64_t draw, uint64_t n) {
  nni_philox b = nni_philox4x32(key, draw / 2, stream);
  uint64_t at = 2 * (draw % 2), x = b.v[at] | (uint64_t)b.v[at + 1] << 32;
  return (uint64_t)(((unsigned __int128)x * n) >> 64);
}
