/* cpu/isa/conv_tile.h - the register-tile kernels that all convolutions are made of. Only for cpu/isa/conv_*.c; bodies in conv_tile.c.
**
** Two shapes of product, both with the sums held in registers from start to end:
**   rows:  y[p][k] = sum over t, c of x[off[t] + p (+ c)][..] * w[t][c][k]   p pixels times 1 or 2 vectors of output channels
**   outer: o[i][k] += sum over pixels of x[pixel][i] * d[pixel][k]           i rows of the weight gradient times 1 or 2 vectors
*/
#ifndef NN_CPU_CONV_TILE_H
#define NN_CPU_CONV_TILE_H
#include "conv.h"
#include "vec.h"

/* Rows of the tile for 2 vectors and for 1: as many sums as registers allow, beside the vectors of w and a broadcast. */
#if NN_VREGS == 32
#define NN_TILE_2 12
#else
#define NN_TILE_2 6
#endif
#define NN_TILE_1 12
#define NN_OUTER_2 (NN_VREGS == 32 ? 8 : 4) /* rows of the outer product */
#define NN_OUTER_1 8
#define NN_TAPROWS_2 (NN_VREGS == 32 ? 9 : 5) /* the same when every row has a place of its own (planar weight gradient) */
#define NN_TAPROWS_1 9

/* Blocked: x [c / VW][pixel][VW], cs floats between blocks of channels. Planar: x [c][pixel], cs floats between planes. */
typedef struct nn_tile_rows {
  const int64_t *off; /* nt offsets of taps */
  int64_t nt, C, cs;
  int64_t sy; /* floats between pixels of y */
} nn_tile_rows;

/* n pixels, nv vectors (1 or 2) of which the last has `last` lanes that may be written */
void NN_ISA_FN(nn_tile_blocked)(const nn_tile_rows *r, int64_t n, int nv, int64_t last, const float *x, const float *w, float *y);
void NN_ISA_FN(nn_tile_planar)(const nn_tile_rows *r, int64_t n, int nv, int64_t last, const float *x, const float *w, float *y);

/* o[i * ldo + ..] += over R rows of L pixels: x[r * xr + l * VW + i] * d[r * dr + l * ds + ..], i < n <= VW, k in kv vectors */
typedef struct nn_tile_outer {
  int64_t R, L, xr, dr, ds, ldo;
} nn_tile_outer;
void NN_ISA_FN(nn_tile_outer_blocked)(const nn_tile_outer *q, int64_t n, int64_t kv, const float *x, const float *d, float *o);
/* the same with a place for each row: x[r * xr + l + off[i]] */
void NN_ISA_FN(nn_tile_outer_taps)(const nn_tile_outer *q, const int64_t *off, int64_t n, int64_t kv, const float *x, const float *d, float *o);

/* Blocks of the other files, named here for the table in conv_direct.c */
#define NN_CONV_BLOCK(name) void NN_ISA_FN(name)(void *arg, int64_t begin, int64_t end, int tid)
NN_CONV_BLOCK(nn_wino_weights);
NN_CONV_BLOCK(nn_wino_run);
NN_CONV_BLOCK(nn_wino_dw_run);
NN_CONV_BLOCK(nn_wino_dw_out);
NN_CONV_BLOCK(nn_depth_fwd);
NN_CONV_BLOCK(nn_depth_dx);
NN_CONV_BLOCK(nn_depth_dw);
NN_CONV_BLOCK(nn_depth_dw_sum);
NN_CONV_BLOCK(nn_pool_fwd);
NN_CONV_BLOCK(nn_pool_dx);
NN_CONV_BLOCK(nn_pool_take);
#endif
