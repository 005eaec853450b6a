/* cpu/isa/conv.h - what the dispatcher (cpu/k_conv.c, cpu/k_pool.c) and the vector code (cpu/isa/conv_*.c) of convolution and pooling share.
**
** The dispatcher fills one of the jobs below from shapes alone, puts its tables and buffers into the call's scratch, and hands blocks of it to the
** thread pool; the functions of nn_conv_ops compute blocks. What a block computes depends on its number and on shapes, never on the thread.
**
** Letters: N batch, H W input rows and columns, OH OW output, C K channels in and out *of one group*, t tap, Cv Kv channels rounded up to whole
** vectors. All arrays are NHWC / HWIO, floats; an input may be read up to VW - 1 floats past its end (NNI_PAD), nothing is written past one.
*/
#ifndef NN_CPU_CONV_H
#define NN_CPU_CONV_H
#include <stdbool.h>
#include <stdint.h>
#include "../../base/base.h"
#include "../isa.h"

/* Largest C that is packed in planes (one per channel) rather than in blocks of VW channels. */
#define NN_CONV_PLANAR 4

/* ---- direct convolution --------------------------------------------------------------------------------------------------
** A `sub` is a set of output pixels (oh0 + i * osh, ow0 + j * osw), i < OH, j < OW, that share their taps:
**   y[i][j][k] = sum over taps t, c of x[i * sh + dh[t]][j * sw + dw[t]][c] * w[src[t]][c][k], x = 0 outside of the image.
** Forward is one sub; the input gradient of stride (s, s') is up to s * s' subs with sh = sw = 1 on the transposed weights.
** A block of work is a band of R rows of one sub, image and group. Its input is first packed into the thread's band buffer, with zeros for
** the padding and columns split by their residue modulo sw, so that neighbouring output pixels are neighbours:
**   blocked: [C / VW][row][residue][column][VW]        planar: [C][row][residue][column]
*/
typedef struct nn_conv_sub {
  int64_t OH, OW, oh0, ow0, osh, osw;
  int64_t sh, sw;
  int64_t tap0, nt;           /* its taps are src, off[tap0 .. tap0 + nt) */
  int64_t dh0, dh1, dw0, dw1; /* least and greatest offsets */
  int64_t R, nband;           /* output rows in a band; bands in an image */
  int64_t rows, nph, PW;      /* packed band: rows, column residues, columns of each */
  int64_t block0;             /* number of its first block */
} nn_conv_sub;

typedef struct nn_conv_direct {
  const float *x, *w; /* w is [KH*KW][C][groups*K] */
  float *y;
  int64_t N, H, W, C, OHY, OWY, K, groups; /* OHY, OWY: rows and columns of y (a sub covers a part of them) */
  int64_t Cv, Kv;                          /* C, K rounded up to vectors */
  bool planar;
  bool holes;                      /* some pixels of y belong to no sub: y is zeroed first */
  int64_t nsub, ntap, nkc, nblock; /* nkc: parts into which the output channels of a block are cut */
  nn_conv_sub *sub;
  int64_t *src, *off; /* ntap each; src: row of w; off: place of the tap's first pixel in the packed band */
  float *wp;          /* packed weights: [group][vector pairs of K][t][c][2 * VW] (a last odd vector: VW) */
  float *band;        /* band_floats for each thread */
  int64_t band_floats;
} nn_conv_direct;

/* ---- weight gradient, direct -----------------------------------------------------------------------------------------------
** dw[t][c][k] = sum over n, i, j of x[n][i * sh + dh[t]][j * sw + dw[t]][c] * dy[n][i][j][k]. The images' bands (units) are cut into nchunk
** chunks, each of which sums into its own part [chunk][group][t][C][Kv]; parts are added in order of chunk. An item is a chunk, a
** group and VW channels of C (planar: all of them).
*/
typedef struct nn_conv_dw {
  nn_conv_direct g; /* x, geometry and taps (one sub); w, y, wp unused */
  const float *dy;
  float *out; /* [KH*KW][C][groups*K] */
  int64_t nchunk, nunit, ncb, nitem;
  float *part;
} nn_conv_dw;

/* ---- Winograd F(4x4, 3x3), stride 1, one group ---------------------------------------------------------------------------------
** Lavin and Gray, "Fast algorithms for convolutional neural networks" (2015). Output tiles of 4x4 pixels are numbered through the batch and
** handled in groups of T: V[xi][C / VW][tile][VW] = transformed input, M[xi][tile][Km] = sum over c of V U, y = transformed M.
*/
typedef struct nn_conv_wino {
  const float *x, *w; /* w is [9][C][K] */
  float *y;
  int64_t N, H, W, C, OH, OW, K, Cv, Kv;
  int64_t pt, pl;     /* rows above and columns left of the image that the first tile starts at */
  int64_t TH, TW, TT; /* tiles down, across, in all */
  int64_t T, ngroup;
  int64_t Km;     /* output channels in M at a time */
  int64_t vs, ms; /* floats from one xi to the next in V and M */
  float *U;       /* [vector pairs of K][xi][C][2 * VW] */
  float *zero;    /* Cv or Kv zeros */
  float *VM;      /* V and M: vm_floats for each thread */
  int64_t vm_floats;
  /* weight gradient only: dU[xi][Cr][Kr] is summed over the tiles of a chunk; an item is a chunk, Cr input and Kr output channels */
  const float *dy;
  float *out, *part; /* out [9][C][K]; part: nchunk * nc * nk times du_floats */
  int64_t Cr, Kr, nc, nk, nchunk, nitem, du_floats;
} nn_conv_wino;

/* ---- one channel per group ---------------------------------------------------------------------------------------------------- */
typedef struct nn_conv_depth {
  const float *x, *w, *dy; /* w is [KH*KW][C] with C = groups */
  float *y;                /* y, dx or the weight gradient */
  int64_t N, H, W, OH, OW, C, KH, KW, sh, sw, pt, pl, dilh, dilw;
  float *part; /* weight gradient: [nchunk][KH*KW][Cv] */
  int64_t Cv, nchunk, nitem;
} nn_conv_depth;

/* w [KH*KW][C][groups*K] -> out [KH*KW][K][groups*C], taps reversed: the weights of the input gradient */
typedef struct nn_conv_flip {
  const float *w;
  float *out;
  int64_t nt, C, K, groups;
} nn_conv_flip;

/* ---- max pooling ---------------------------------------------------------------------------------------------------------------- */
typedef struct nn_pool_job {
  const float *x; /* x; dy for the gradient */
  const uint8_t *taps_in;
  float *y;
  uint8_t *taps;
  int64_t N, H, W, C, OH, OW, KH, KW, sh, sw, pt, pl;
} nn_pool_job;

typedef struct nn_conv_ops {
  int vw;
  int np;                                                   /* rows of the register tile with two vectors */
  nni_block_fn direct_pack, direct_run;                     /* blocks: groups * vector pairs of K; d->nblock */
  nni_block_fn dw_run, dw_sum;                              /* blocks: nitem; rows of dw: ntap * C */
  nni_block_fn wino_weights, wino_run;                      /* blocks: C; ngroup */
  nni_block_fn wino_dw_run, wino_dw_out;                    /* blocks: nitem; C */
  nni_block_fn depth_fwd, depth_dx, depth_dw, depth_dw_sum; /* blocks: N * OH; N * H; nitem; KH * KW */
  nni_block_fn flip;                                        /* blocks: nt * groups * (C / vw rounded up) */
  nni_block_fn pool_fwd, pool_dx, pool_take;                /* blocks: N * OH; N * H; N * OH */
} nn_conv_ops;

NN_ISA_DECL(const nn_conv_ops *, nn_conv_ops_get, (void));

#endif
