/* cpu/k_conv.c - the structural kernels conv2d, conv2d_dx and conv2d_dw: which algorithm, how its work is cut, where its scratch lies.
**
** Everything here is decided by shapes (and by the vector width of this machine), never by the number of threads; the arithmetic is in
** isa/conv_*.c. Called by the plan's runner through nn_cpu_backend. Beyond the attributes of kernels.def each kernel reads one more,
** `exact`: conv2d ia[9], conv2d_dx and conv2d_dw ia[11]; 1 turns Winograd off.
**
** An algorithm's plan is written once, as a function that carves its arrays out of the scratch: with no scratch it only adds up sizes.
*/
#include "double.h"
#include "isa/conv.h"

enum {
  SERIAL_FLOPS = 1 << 20, /* up to here one thread does it all: a few microseconds */
  WINO_CHANNELS = 12,     /* fewest input and output channels at which Winograd pays */
  WINO_TILES = 32,        /* fewest tiles that repay transforming small weights (more for large ones: see is_winograd) */
  WINO_TILES_DW = 12,     /* the same for their gradient */
  WINO_RANGE = 64,        /* channels in M, or in each dim of dU, at a time: what stays in L2 */
  BAND_FLOATS = 32 << 10, /* a packed band: a part of L2 */
  BLOCKS = 16             /* blocks to aim at, so that a few threads share them evenly */
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return div_up(a, b) * b; }

static const nn_conv_ops *ops_get(void) { return NN_ISA_PICK(nn_conv_ops_get)(); }

/* ---- scratch -------------------------------------------------------------------------------------------------------------------- */
typedef struct carver {
  char *base; /* NULL: only sizes are wanted */
  size_t used;
} carver;

static void *carve(carver *a, int64_t n, size_t size) {
  void *p = a->base ? a->base + a->used : NULL;
  a->used += ((size_t)n * size + 63) & ~(size_t)63;
  return p;
}
static float *carve_floats(carver *a, int64_t n) { return carve(a, n, sizeof(float)); }

/* ---- the convolution that a call means ------------------------------------------------------------------------------------------- */
typedef struct axis {
  int64_t in, out, taps, stride, pad, dil; /* pad: before the first element */
} axis;

typedef struct geometry {
  axis h, w;
  int64_t N, C, K, groups; /* C, K of all groups */
  bool exact;
  nni_threads *threads;
  int64_t nthread;
} geometry;

static geometry geometry_of(const nni_kernel_call *k, const int64_t *x, const int64_t *w, const int64_t *y, bool exact) {
  const int64_t *ia = k->ia;
  return (geometry){.h = {x[1], y[1], w[0], ia[0], ia[2], ia[6]},
                    .w = {x[2], y[2], w[1], ia[1], ia[3], ia[7]},
                    .N = x[0],
                    .C = x[3],
                    .K = y[3],
                    .groups = ia[8],
                    .exact = exact,
                    .threads = k->threads,
                    .nthread = nni_threads_count(k->threads)};
}

/* Blocks of a job. A small convolution stays on this thread: waking the others may take longer. */
static void run_blocks(const geometry *g, int64_t count, nni_block_fn fn, void *job) {
  const double flops = 2. * (double)(g->N * g->h.out * g->w.out) * (double)(g->h.taps * g->w.taps) * (double)(g->C / g->groups) * (double)g->K;
  if (flops > SERIAL_FLOPS) nni_parallel(g->threads, count, fn, job);
  else if (count > 0) fn(job, 0, count, 0);
}

static bool is_depthwise(const geometry *g) { return g->groups > 1 && g->groups == g->C && g->C == g->K; }

/* Winograd on outputs of oh x ow pixels? How many tiles repay transforming C x K weights, or their gradient, is measured. */
static bool is_winograd(const geometry *g, int64_t oh, int64_t ow, bool dw) {
  const int64_t tile_min = dw ? WINO_TILES_DW + g->C * g->K / 16384 : WINO_TILES + g->C * g->K / 8192;
  const int64_t tiles = div_up(oh, 4) * div_up(ow, 4);
  return !g->exact && g->h.taps == 3 && g->w.taps == 3 && g->h.stride == 1 && g->w.stride == 1 && g->h.dil == 1 && g->w.dil == 1 && g->groups == 1 &&
         g->C >= WINO_CHANNELS && g->K >= WINO_CHANNELS && g->N * tiles >= tile_min && 2 * oh * ow >= 16 * tiles;
}

/* ---- direct ------------------------------------------------------------------------------------------------------------------------ */

/* Offset in the input of tap i (in order of the weights used: flipped ones for dx) for the outputs of residue r; false: none */
static bool tap_offset(const axis *a, bool dx, int64_t r, int64_t i, int64_t *d) {
  if (!dx) {
    *d = i * a->dil - a->pad;
    return true;
  }
  const int64_t at = r + a->pad - (a->taps - 1 - i) * a->dil;
  *d = at / a->stride;
  return at % a->stride == 0;
}

/* Least and greatest offset of the taps of residue r; returns how many there are */
static int64_t tap_range(const axis *a, bool dx, int64_t r, int64_t *lo, int64_t *hi) {
  int64_t n = 0, d;
  *lo = *hi = 0;
  for (int64_t i = 0; i < a->taps; i++)
    if (tap_offset(a, dx, r, i, &d)) {
      *lo = n ? min64(*lo, d) : d;
      *hi = n ? max64(*hi, d) : d;
      n++;
    }
  return n;
}

/* Size of the bands of a sub whose taps' ranges are known. pixels > 0: aim at so many outputs (weight gradient), else at BAND_FLOATS */
static void set_bands(nn_conv_sub *s, const nn_conv_direct *d, int64_t pixels) {
  const int64_t extent = s->dh1 - s->dh0;
  s->nph = min64(s->sw, s->dw1 - s->dw0 + 1);
  s->PW = s->OW + (s->dw1 - s->dw0) / s->sw;
  int64_t R = pixels / max64(1, s->OW);
  if (pixels == 0) {
    const int64_t row = max64(1, s->nph * s->PW * (d->planar ? d->C : d->Cv)), rows = BAND_FLOATS / row;
    R = min64((rows - extent - 1) / s->sh + 1, div_up(d->N * d->groups * s->OH, BLOCKS));
  }
  s->R = max64(1, min64(R, s->OH));
  s->nband = s->OW > 0 ? div_up(s->OH, s->R) : 0;
  s->rows = (s->R - 1) * s->sh + extent + 1;
}

/* One sub: the outputs of residues rh, rw (0, 0 unless dx); its taps are written from d->src[tap0], d->off[tap0] on when there is scratch */
static nn_conv_sub make_sub(const nn_conv_direct *d, const geometry *g, bool dx, int64_t rh, int64_t rw, int64_t tap0, int64_t lanes,
                            int64_t pixels) {
  nn_conv_sub s = {.oh0 = rh, .ow0 = rw, .osh = 1, .osw = 1, .sh = g->h.stride, .sw = g->w.stride, .OH = g->h.out, .OW = g->w.out, .tap0 = tap0};
  if (dx) {
    s.osh = g->h.stride;
    s.osw = g->w.stride;
    s.sh = s.sw = 1;
    s.OH = max64(0, div_up(g->h.in - rh, g->h.stride));
    s.OW = max64(0, div_up(g->w.in - rw, g->w.stride));
  }
  const int64_t nh = tap_range(&g->h, dx, rh, &s.dh0, &s.dh1), nw = tap_range(&g->w, dx, rw, &s.dw0, &s.dw1);
  s.nt = nh * nw;
  set_bands(&s, d, pixels);
  if (!d->off) return s;
  for (int64_t i = 0, t = tap0, dh, dw; i < g->h.taps; i++)
    for (int64_t l = 0; l < g->w.taps; l++)
      if (tap_offset(&g->h, dx, rh, i, &dh) && tap_offset(&g->w, dx, rw, l, &dw)) {
        d->src[t] = i * g->w.taps + l;
        d->off[t++] = (((dh - s.dh0) * s.nph + (dw - s.dw0) % s.sw) * s.PW + (dw - s.dw0) / s.sw) * lanes;
      }
  return s;
}

/* The part of a plan that forward, dx and dw share: subs, taps, the band buffers. Returns the last sub. */
static nn_conv_sub plan_direct_base(nn_conv_direct *d, carver *a, const geometry *g, bool dx, int64_t pixels) {
  const nn_conv_ops *ops = ops_get();
  d->N = g->N;
  d->groups = g->groups;
  d->H = dx ? g->h.out : g->h.in;
  d->W = dx ? g->w.out : g->w.in;
  d->OHY = dx ? g->h.in : g->h.out;
  d->OWY = dx ? g->w.in : g->w.out;
  d->C = (dx ? g->K : g->C) / g->groups;
  d->K = (dx ? g->C : g->K) / g->groups;
  d->Cv = round_up(d->C, ops->vw);
  d->Kv = round_up(d->K, ops->vw);
  d->planar = d->C <= NN_CONV_PLANAR;
  /* dx: only residues that some tap reaches make a sub; there are at most as many as taps */
  const int64_t nrh = dx ? min64(g->h.stride, g->h.in) : 1, nrw = dx ? min64(g->w.stride, g->w.in) : 1;
  const int64_t taps = g->h.taps * g->w.taps, lanes = d->planar ? 1 : ops->vw;
  d->sub = carve(a, min64(nrh, g->h.taps) * min64(nrw, g->w.taps), sizeof *d->sub);
  d->src = carve(a, taps, sizeof(int64_t));
  d->off = carve(a, taps * (d->planar ? d->C : 1), sizeof(int64_t)); /* the weight gradient lists channels too */
  nn_conv_sub s = {0};
  int64_t lo, hi;
  for (int64_t rh = 0; rh < nrh; rh++) {
    if (tap_range(&g->h, dx, rh, &lo, &hi) == 0) continue;
    for (int64_t rw = 0; rw < nrw; rw++) {
      if (tap_range(&g->w, dx, rw, &lo, &hi) == 0) continue;
      s = make_sub(d, g, dx, rh, rw, d->ntap, lanes, pixels);
      const int64_t per = pixels && !d->planar ? ops->vw : d->planar ? d->C : d->Cv;
      d->band_floats = max64(d->band_floats, round_up(s.rows * s.nph * s.PW * per, 16));
      d->ntap += s.nt;
      if (d->sub) d->sub[d->nsub] = s;
      d->nsub++;
    }
  }
  d->holes = d->nsub < nrh * nrw;
  d->band = carve_floats(a, d->band_floats * g->nthread);
  return s;
}

static nn_conv_direct plan_direct(carver *a, const geometry *g, bool dx) {
  nn_conv_direct d = {0};
  plan_direct_base(&d, a, g, dx, 0);
  d.wp = carve_floats(a, d.groups * d.ntap * d.C * d.Kv);
  if (!a->base) return d;
  int64_t n = 0;
  for (int64_t i = 0; i < d.nsub; i++) n += d.sub[i].nband * d.N * d.groups;
  d.nkc = n > 0 && n < BLOCKS / 2 ? max64(1, min64(div_up(d.Kv / ops_get()->vw, 2), div_up(BLOCKS, n))) : 1;
  for (int64_t i = 0; i < d.nsub; i++) {
    d.sub[i].block0 = d.nblock;
    d.nblock += d.sub[i].nband * d.N * d.groups * d.nkc;
  }
  return d;
}

static void run_direct(const geometry *g, nn_conv_direct *d) {
  const nn_conv_ops *ops = ops_get();
  const int64_t npair = div_up(d->Kv / ops->vw, 2);
  if (d->holes) nn_cpu_zero_bytes(g->threads, d->y, (size_t)(d->N * d->OHY * d->OWY * d->groups * d->K) * sizeof(float));
  if (d->nblock == 0 || d->K == 0) return;
  run_blocks(g, d->groups * npair * d->ntap, ops->direct_pack, d);
  run_blocks(g, d->nblock, ops->direct_run, d);
}

/* ---- direct weight gradient ---------------------------------------------------------------------------------------------------------- */
static nn_conv_dw plan_dw(carver *a, const geometry *g) {
  nn_conv_dw j = {0};
  const nn_conv_ops *ops = ops_get();
  const int64_t pixels = g->N * g->h.out * g->w.out;
  nn_conv_direct *d = &j.g;
  const nn_conv_sub s = plan_direct_base(d, a, g, false, g->C / g->groups <= NN_CONV_PLANAR ? 512 : 128);
  j.ncb = d->planar ? 1 : max64(1, d->Cv / ops->vw);
  j.nunit = s.nband * d->N;
  j.nchunk = max64(1, min64(min64(BLOCKS / (j.ncb * d->groups), pixels / 64), j.nunit));
  j.nitem = j.nchunk * d->groups * j.ncb;
  j.part = carve_floats(a, j.nchunk * d->groups * d->ntap * d->C * d->Kv);
  if (a->base && d->planar) /* one place for each (tap, channel); from the back, since the taps' own places are overwritten */
    for (int64_t i = d->ntap * d->C - 1; i >= 0; i--) d->off[i] = d->off[i / d->C] + i % d->C * s.rows * s.nph * s.PW;
  return j;
}

/* ---- Winograd ------------------------------------------------------------------------------------------------------------------------ */

/* Sizes that all three directions share: a convolution of N x h x w x C to oh x ow x K */
static nn_conv_wino wino_base(int64_t N, int64_t h, int64_t w, int64_t C, int64_t oh, int64_t ow, int64_t K) {
  const nn_conv_ops *ops = ops_get();
  nn_conv_wino j = {.N = N, .H = h, .W = w, .C = C, .OH = oh, .OW = ow, .K = K};
  j.Cv = round_up(C, ops->vw);
  j.Kv = round_up(K, ops->vw);
  j.TH = div_up(oh, 4);
  j.TW = div_up(ow, 4);
  j.TT = N * j.TH * j.TW;
  return j;
}

static nn_conv_wino plan_wino(carver *a, const geometry *g, bool dx) {
  const nn_conv_ops *ops = ops_get();
  nn_conv_wino j =
      dx ? wino_base(g->N, g->h.out, g->w.out, g->K, g->h.in, g->w.in, g->C) : wino_base(g->N, g->h.in, g->w.in, g->C, g->h.out, g->w.out, g->K);
  j.pt = dx ? 2 - g->h.pad : g->h.pad;
  j.pl = dx ? 2 - g->w.pad : g->w.pad;
  j.Km = min64(j.Kv, WINO_RANGE);
  const int64_t c = max64(j.C, j.Km), T = c < 64 || c > 256 ? 48 : 24; /* V and M in L2; many channels: what counts is reading U seldom */
  j.T = min64(T, round_up(div_up(j.TT, BLOCKS / 2), ops->np));         /* few tiles: smaller groups, so that threads share them */
  j.ngroup = div_up(j.TT, j.T);
  j.vs = round_up(j.T * j.Cv, 16) + 16; /* not a power of two: 36 of these would fall on the same sets of L1 */
  j.ms = round_up(j.T * j.Km, 16) + 16;
  j.vm_floats = 36 * (j.vs + j.ms);
  j.zero = carve_floats(a, j.Cv);
  j.U = carve_floats(a, 36 * j.C * j.Kv);
  j.VM = carve_floats(a, j.vm_floats * g->nthread);
  return j;
}

static void run_wino(const geometry *g, nn_conv_wino *j) {
  const nn_conv_ops *ops = ops_get();
  memset(j->zero, 0, (size_t)j->Cv * sizeof(float));
  run_blocks(g, j->C, ops->wino_weights, j);
  run_blocks(g, j->ngroup, ops->wino_run, j);
}

static nn_conv_wino plan_wino_dw(carver *a, const geometry *g) {
  nn_conv_wino j = wino_base(g->N, g->h.in, g->w.in, g->C, g->h.out, g->w.out, g->K);
  j.pt = g->h.pad;
  j.pl = g->w.pad;
  j.Cr = min64(j.Cv, WINO_RANGE);
  j.Kr = min64(j.Kv, WINO_RANGE);
  j.nc = div_up(j.Cv, j.Cr);
  j.nk = div_up(j.Kv, j.Kr);
  j.nchunk = max64(1, min64(div_up(BLOCKS / 2, j.nc * j.nk), j.TT / 64));
  j.nitem = j.nchunk * j.nc * j.nk;
  j.du_floats = 36 * j.Cr * j.Kr;
  j.T = max64(j.Cr, j.Kr) >= 64 ? 24 : 48;
  j.vs = round_up(j.T * j.Cr, 16) + 16;
  j.ms = round_up(j.T * j.Kr, 16) + 16;
  j.vm_floats = 36 * (j.vs + j.ms);
  j.zero = carve_floats(a, j.Cv);
  j.part = carve_floats(a, j.nitem * j.du_floats);
  j.VM = carve_floats(a, j.vm_floats * g->nthread);
  return j;
}

/* ---- depthwise ------------------------------------------------------------------------------------------------------------------------- */
static nn_conv_depth plan_depth(const geometry *g) {
  return (nn_conv_depth){.N = g->N,
                         .H = g->h.in,
                         .W = g->w.in,
                         .OH = g->h.out,
                         .OW = g->w.out,
                         .C = g->C,
                         .KH = g->h.taps,
                         .KW = g->w.taps,
                         .sh = g->h.stride,
                         .sw = g->w.stride,
                         .pt = g->h.pad,
                         .pl = g->w.pad,
                         .dilh = g->h.dil,
                         .dilw = g->w.dil};
}

/* The convolution of dy that is the input gradient of j, of stride 1 */
static void depth_reverse(nn_conv_depth *j) {
  const nn_conv_depth f = *j;
  j->H = f.OH;
  j->W = f.OW;
  j->OH = f.H;
  j->OW = f.W;
  j->pt = (f.KH - 1) * f.dilh - f.pt;
  j->pl = (f.KW - 1) * f.dilw - f.pl;
}

static nn_conv_depth plan_depth_dw(carver *a, const geometry *g) {
  nn_conv_depth j = plan_depth(g);
  const int64_t vw = ops_get()->vw;
  j.Cv = round_up(j.C, vw);
  j.nchunk = max64(1, min64(BLOCKS * vw / j.Cv, j.N * j.OH / 4));
  j.nitem = j.nchunk * (j.Cv / vw);
  j.part = carve_floats(a, j.nchunk * j.KH * j.KW * j.Cv);
  return j;
}

/* ---- conv2d ------------------------------------------------------------------------------------------------------------------------------ */
static geometry geometry_fwd(const nni_kernel_call *k) { return geometry_of(k, k->in[0].shape, k->in[1].shape, k->out[0].shape, k->ia[9] == 1); }

size_t nn_cpu_conv2d_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const geometry g = geometry_fwd(k);
  carver a = {0};
  if (is_depthwise(&g)) return 0;
  if (is_winograd(&g, g.h.out, g.w.out, false)) plan_wino(&a, &g, false);
  else plan_direct(&a, &g, false);
  return a.used;
}

nn_status nn_cpu_conv2d(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_conv2d_f64(k);
  const geometry g = geometry_fwd(k);
  carver a = {k->scratch, 0};
  const float *x = k->in[0].data, *w = k->in[1].data;
  float *y = k->out[0].data;
  if (is_depthwise(&g)) {
    nn_conv_depth j = plan_depth(&g);
    j.x = x;
    j.w = w;
    j.y = y;
    run_blocks(&g, g.N * g.h.out, ops_get()->depth_fwd, &j);
  } else if (is_winograd(&g, g.h.out, g.w.out, false)) {
    nn_conv_wino j = plan_wino(&a, &g, false);
    j.x = x;
    j.w = w;
    j.y = y;
    run_wino(&g, &j);
  } else {
    nn_conv_direct d = plan_direct(&a, &g, false);
    d.x = x;
    d.w = w;
    d.y = y;
    run_direct(&g, &d);
  }
  return NN_OK;
}

/* ---- conv2d_dx: a convolution of dy with the flipped, transposed weights ----------------------------------------------------------------- */
static geometry geometry_dx(const nni_kernel_call *k) { return geometry_of(k, k->out[0].shape, k->in[1].shape, k->in[0].shape, k->ia[11] == 1); }

static nn_conv_flip plan_flip(carver *a, const geometry *g) {
  nn_conv_flip f = {.nt = g->h.taps * g->w.taps, .C = g->C / g->groups, .K = g->K / g->groups, .groups = g->groups};
  f.out = carve_floats(a, f.nt * f.C * g->K);
  return f;
}

size_t nn_cpu_conv2d_dx_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const geometry g = geometry_dx(k);
  carver a = {0};
  if (is_depthwise(&g) && (g.h.stride > 1 || g.w.stride > 1)) return 0;
  plan_flip(&a, &g);
  if (is_depthwise(&g)) return a.used;
  if (is_winograd(&g, g.h.in, g.w.in, false)) plan_wino(&a, &g, true);
  else plan_direct(&a, &g, true);
  return a.used;
}

nn_status nn_cpu_conv2d_dx(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_conv2d_dx_f64(k);
  const geometry g = geometry_dx(k);
  const nn_conv_ops *ops = ops_get();
  carver a = {k->scratch, 0};
  const float *dy = k->in[0].data;
  float *dx = k->out[0].data;
  if (is_depthwise(&g) && (g.h.stride > 1 || g.w.stride > 1)) {
    nn_conv_depth j = plan_depth(&g);
    j.dy = dy;
    j.w = k->in[1].data;
    j.y = dx;
    run_blocks(&g, g.N * g.h.in, ops->depth_dx, &j);
    return NN_OK;
  }
  nn_conv_flip f = plan_flip(&a, &g);
  f.w = k->in[1].data;
  run_blocks(&g, f.nt * f.groups * div_up(f.C, ops->vw), ops->flip, &f);
  if (is_depthwise(&g)) {
    nn_conv_depth j = plan_depth(&g);
    depth_reverse(&j);
    j.x = dy;
    j.w = f.out;
    j.y = dx;
    run_blocks(&g, g.N * g.h.in, ops->depth_fwd, &j);
  } else if (is_winograd(&g, g.h.in, g.w.in, false)) {
    nn_conv_wino j = plan_wino(&a, &g, true);
    j.x = dy;
    j.w = f.out;
    j.y = dx;
    run_wino(&g, &j);
  } else {
    nn_conv_direct d = plan_direct(&a, &g, true);
    d.x = dy;
    d.w = f.out;
    d.y = dx;
    run_direct(&g, &d);
  }
  return NN_OK;
}

/* ---- conv2d_dw ----------------------------------------------------------------------------------------------------------------------------- */
static geometry geometry_dw(const nni_kernel_call *k) { return geometry_of(k, k->in[0].shape, k->out[0].shape, k->in[1].shape, k->ia[11] == 1); }

size_t nn_cpu_conv2d_dw_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const geometry g = geometry_dw(k);
  carver a = {0};
  if (is_depthwise(&g)) plan_depth_dw(&a, &g);
  else if (is_winograd(&g, g.h.out, g.w.out, true)) plan_wino_dw(&a, &g);
  else plan_dw(&a, &g);
  return a.used;
}

nn_status nn_cpu_conv2d_dw(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_conv2d_dw_f64(k);
  const geometry g = geometry_dw(k);
  const nn_conv_ops *ops = ops_get();
  carver a = {k->scratch, 0};
  const float *x = k->in[0].data, *dy = k->in[1].data;
  if (is_depthwise(&g)) {
    nn_conv_depth j = plan_depth_dw(&a, &g);
    j.x = x;
    j.dy = dy;
    j.y = k->out[0].data;
    run_blocks(&g, j.nitem, ops->depth_dw, &j);
    run_blocks(&g, j.KH * j.KW, ops->depth_dw_sum, &j);
  } else if (is_winograd(&g, g.h.out, g.w.out, true)) {
    nn_conv_wino j = plan_wino_dw(&a, &g);
    j.x = x;
    j.dy = dy;
    j.out = k->out[0].data;
    memset(j.zero, 0, (size_t)j.Cv * sizeof(float));
    run_blocks(&g, j.nitem, ops->wino_dw_run, &j);
    run_blocks(&g, j.C, ops->wino_dw_out, &j);
  } else {
    nn_conv_dw j = plan_dw(&a, &g);
    j.g.x = x;
    j.dy = dy;
    j.out = k->out[0].data;
    run_blocks(&g, j.nitem, ops->dw_run, &j);
    run_blocks(&g, j.g.ntap * j.g.C, ops->dw_sum, &j);
  }
  return NN_OK;
}
