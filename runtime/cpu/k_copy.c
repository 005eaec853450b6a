/* cpu/k_copy.c - kernels that move elements: copy, slice_set, slice_add, concat.
**
** All of them are nn_cpu_copy_strided: dims of size 1 dropped, neighbours merged, then rows (or tiles, when the source runs along another
** dim than the destination) shared out over the threads. Which thread moves what never matters: every destination is written once.
*/
#include "isa_kernels.h"
#include <stdlib.h>

enum {
  CHUNK = 16384,  /* elements of a long row that one block moves */
  SERIAL = 16384, /* fewer elements than this are not worth waking a thread for */
  TILE = 64,      /* side of a transposing tile */
  BYTES = 1 << 16 /* bytes per block of a plain copy */
};

typedef struct job {
  int ndim; /* dims left; the last is the row */
  int64_t shape[NN_MAXDIM], ds[NN_MAXDIM], ss[NN_MAXDIM];
  nn_dtype dd, sd;
  int64_t dsize, ssize; /* bytes per element */
  char *dst;
  const char *src;
  bool add;
  bool turn;      /* tiles: unit strides across each other and one dtype, so a plain transposition */
  int64_t chunks; /* pieces of a row (rows); tiles along the row (tiles) */
  int64_t across; /* tiles along the other dim */
} job;

/* Drop dims of size 1, merge neighbours that both sides walk evenly. */
static void collapse(job *j, int ndim, const int64_t *shape, const int64_t *ds, const int64_t *ss) {
  int m = 0;
  for (int d = 0; d < ndim; d++) {
    if (shape[d] == 1) continue;
    if (m > 0 && j->ds[m - 1] == ds[d] * shape[d] && j->ss[m - 1] == ss[d] * shape[d]) {
      j->shape[m - 1] *= shape[d];
      j->ds[m - 1] = ds[d];
      j->ss[m - 1] = ss[d];
      continue;
    }
    j->shape[m] = shape[d];
    j->ds[m] = ds[d];
    j->ss[m] = ss[d];
    m++;
  }
  if (m == 0) {
    j->shape[0] = j->ds[0] = j->ss[0] = 1;
    m = 1;
  }
  j->ndim = m;
}

static void move_row(const job *j, char *dst, int64_t ds, const char *src, int64_t ss, int64_t n) {
  if (j->add) NN_ISA_PICK(nn_cpu_add_row)(j->dd, dst, ds, src, ss, n);
  else if (j->dd == j->sd && ds == 1 && ss == 1) memcpy(dst, src, (size_t)(n * j->dsize));
  else NN_ISA_PICK(nn_cpu_copy_row)(j->dd, dst, ds, j->sd, src, ss, n);
}

/* Offsets (elements) of outer point number i over the first nd dims; pos is left at it. */
static void seek(const job *j, int nd, int64_t i, int64_t *pos, int64_t *doff, int64_t *soff) {
  *doff = *soff = 0;
  for (int d = nd - 1; d >= 0; d--) {
    pos[d] = i % j->shape[d];
    i /= j->shape[d];
    *doff += pos[d] * j->ds[d];
    *soff += pos[d] * j->ss[d];
  }
}
static void advance(const job *j, int nd, int64_t *pos, int64_t *doff, int64_t *soff) {
  for (int d = nd - 1; d >= 0; d--) {
    *doff += j->ds[d];
    *soff += j->ss[d];
    if (++pos[d] < j->shape[d]) return;
    *doff -= j->ds[d] * j->shape[d];
    *soff -= j->ss[d] * j->shape[d];
    pos[d] = 0;
  }
}

/* Blocks: (outer point, chunk of its row). */
static void move_rows(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int last = j->ndim - 1;
  const int64_t n = j->shape[last], ds = j->ds[last], ss = j->ss[last];
  int64_t pos[NN_MAXDIM], doff, soff;
  (void)tid;
  seek(j, last, begin / j->chunks, pos, &doff, &soff);
  for (int64_t c = begin % j->chunks, left = end - begin; left > 0; c = 0) {
    const int64_t take = left < j->chunks - c ? left : j->chunks - c; /* neighbouring chunks of one row go together */
    const int64_t i0 = c * CHUNK, i1 = (c + take) * CHUNK < n ? (c + take) * CHUNK : n;
    move_row(j, j->dst + (doff + i0 * ds) * j->dsize, ds, j->src + (soff + i0 * ss) * j->ssize, ss, i1 - i0);
    left -= take;
    advance(j, last, pos, &doff, &soff);
  }
}

/* Blocks: (outer point, tile across, tile along). The last two dims are the tile's; the source is dense along the first of them. */
static void move_tiles(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int b = j->ndim - 1, a = b - 1;
  int64_t pos[NN_MAXDIM], doff, soff;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t point = i / (j->across * j->chunks), tile = i % (j->across * j->chunks);
    const int64_t a0 = tile / j->chunks * TILE, b0 = tile % j->chunks * TILE;
    const int64_t an = j->shape[a] - a0 < TILE ? j->shape[a] - a0 : TILE, bn = j->shape[b] - b0 < TILE ? j->shape[b] - b0 : TILE;
    seek(j, a, point, pos, &doff, &soff);
    if (j->turn) {
      NN_ISA_PICK(nn_cpu_transpose)
      (j->dsize, j->dst + (doff + a0 * j->ds[a] + b0) * j->dsize, j->ds[a], j->src + (soff + a0 + b0 * j->ss[b]) * j->ssize, j->ss[b], an, bn);
      continue;
    }
    for (int64_t r = a0; r < a0 + an; r++)
      move_row(j, j->dst + (doff + r * j->ds[a] + b0 * j->ds[b]) * j->dsize, j->ds[b], j->src + (soff + r * j->ss[a] + b0 * j->ss[b]) * j->ssize,
               j->ss[b], bn);
  }
}

/* The dim along which the source is denser than along the row, moved next to the row; false when there is none worth tiling. */
static bool pick_tiles(job *j) {
  const int b = j->ndim - 1;
  int best = -1;
  for (int d = 0; d < b; d++)
    if (j->ss[d] != 0 && llabs(j->ss[d]) < llabs(j->ss[b]) && j->shape[d] >= 4 && (best < 0 || llabs(j->ss[d]) < llabs(j->ss[best]))) best = d;
  if (best < 0 || j->shape[b] < 4) return false;
  const int64_t shape = j->shape[best], ds = j->ds[best], ss = j->ss[best];
  for (int d = best; d < b - 1; d++) {
    j->shape[d] = j->shape[d + 1];
    j->ds[d] = j->ds[d + 1];
    j->ss[d] = j->ss[d + 1];
  }
  j->shape[b - 1] = shape;
  j->ds[b - 1] = ds;
  j->ss[b - 1] = ss;
  return true;
}

void nn_cpu_copy_strided(nni_threads *t, int ndim, const int64_t *shape, nn_cpu_side dst, nn_cpu_side src, bool add) {
  job j = {.dd = dst.dtype, .sd = src.dtype, .dst = dst.data, .src = src.data, .add = add};
  int64_t numel = 1, blocks = 1;
  for (int d = 0; d < ndim; d++) numel *= shape[d];
  if (numel == 0) return;
  j.dsize = (int64_t)nn_dtype_size(dst.dtype);
  j.ssize = (int64_t)nn_dtype_size(src.dtype);
  collapse(&j, ndim, shape, dst.stride, src.stride);
  nni_block_fn fn = move_rows;
  int outer = j.ndim - 1;
  if (pick_tiles(&j)) {
    fn = move_tiles;
    outer--;
    j.turn = !add && dst.dtype == src.dtype && j.dsize != 2 && j.ds[outer + 1] == 1 && j.ss[outer] == 1;
    j.across = (j.shape[outer] + TILE - 1) / TILE;
    j.chunks = (j.shape[outer + 1] + TILE - 1) / TILE;
    blocks = j.across * j.chunks;
  } else {
    j.chunks = (j.shape[outer] + CHUNK - 1) / CHUNK;
    blocks = j.chunks;
  }
  for (int d = 0; d < outer; d++) blocks *= j.shape[d];
  if (numel < SERIAL) fn(&j, 0, blocks, 0);
  else nni_parallel(t, blocks, fn, &j);
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------------- */
typedef struct bytes {
  char *dst;
  const char *src;
  size_t n;
} bytes;

static void move_bytes(void *arg, int64_t begin, int64_t end, int tid) {
  const bytes *b = arg;
  const size_t i0 = (size_t)begin * BYTES, i1 = (size_t)end * BYTES < b->n ? (size_t)end * BYTES : b->n;
  (void)tid;
  if (b->src) memcpy(b->dst + i0, b->src + i0, i1 - i0);
  else memset(b->dst + i0, 0, i1 - i0);
}

void nn_cpu_copy_bytes(nni_threads *t, void *dst, const void *src, size_t n) {
  if (n == 0 || dst == src) return;
  nni_parallel(t, (int64_t)((n + BYTES - 1) / BYTES), move_bytes, &(bytes){dst, src, n});
}
void nn_cpu_zero_bytes(nni_threads *t, void *dst, size_t n) {
  if (n > 0) nni_parallel(t, (int64_t)((n + BYTES - 1) / BYTES), move_bytes, &(bytes){dst, NULL, n});
}

/* ---- kernels -------------------------------------------------------------------------------------------------------------- */
static void dense_strides(const nni_operand *o, int64_t *stride) {
  int64_t s = 1;
  for (int d = o->ndim - 1; d >= 0; d--) {
    stride[d] = s;
    s *= o->shape[d];
  }
}
static nn_cpu_side side_of(const nni_operand *o) { return (nn_cpu_side){o->data, o->dtype, o->stride}; }
static void *at(const nni_operand *o, int64_t i) { return (char *)o->data + i * (int64_t)nn_dtype_size(o->dtype); }

nn_status nn_cpu_copy(const nni_kernel_call *k) {
  int64_t stride[NN_MAXDIM];
  dense_strides(&k->out[0], stride);
  nn_cpu_copy_strided(k->threads, k->in[0].ndim, k->in[0].shape, (nn_cpu_side){k->out[0].data, k->out[0].dtype, stride}, side_of(&k->in[0]), false);
  return NN_OK;
}

static nn_status put_slice(const nni_kernel_call *k, bool add) {
  const nni_operand *out = &k->out[0], *part = &k->in[1];
  nn_cpu_copy_bytes(k->threads, out->data, k->in[0].data, (size_t)nn_cpu_numel(out) * nn_dtype_size(out->dtype));
  if (nn_cpu_numel(part) == 0) return NN_OK;
  nn_cpu_copy_strided(k->threads, part->ndim, part->shape, (nn_cpu_side){at(out, k->ia[0]), out->dtype, k->ia + 1}, side_of(part), add);
  return NN_OK;
}
nn_status nn_cpu_slice_set(const nni_kernel_call *k) { return put_slice(k, false); }
nn_status nn_cpu_slice_add(const nni_kernel_call *k) { return put_slice(k, true); }

nn_status nn_cpu_concat(const nni_kernel_call *k) {
  const nni_operand *out = &k->out[0];
  const int dim = (int)k->ia[0];
  int64_t stride[NN_MAXDIM], done = 0;
  if (nn_cpu_numel(out) == 0) return NN_OK;
  dense_strides(out, stride);
  for (int i = 0; i < k->nin; i++) {
    const nni_operand *in = &k->in[i];
    if (in->shape[dim] == 0) continue;
    nn_cpu_copy_strided(k->threads, in->ndim, in->shape, (nn_cpu_side){at(out, done * stride[dim]), out->dtype, stride}, side_of(in), false);
    done += in->shape[dim];
  }
  return NN_OK;
}

/* none of them needs scratch */
size_t nn_cpu_copy_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_slice_set_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_slice_add_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_concat_scratch(const nni_kernel_call *k) { return (void)k, 0; }
