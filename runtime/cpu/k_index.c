/* cpu/k_index.c - kernels that look up or store by position: ravel_ids, gather, scatter, nonzero; and the integer draws of randint.
**
** Every position is checked before anything is written; messages count from 1. A destination of scatter is written by one
** thread only, in the order of the positions, so duplicates are deterministic.
*/
#include <inttypes.h>
#include <stdio.h>
#include "cpu.h"

enum { SERIAL = 1 << 14, STRIP = 64 };

static void for_all(nni_threads *t, int64_t count, int64_t work, nni_block_fn fn, void *arg) {
  if (count <= 0) return;
  if (work < SERIAL) fn(arg, 0, count, 0);
  else nni_parallel(t, count, fn, arg);
}

static void note_first(_Atomic int64_t *first, int64_t i) {
  int64_t seen = atomic_load(first);
  while ((seen < 0 || i < seen) && !atomic_compare_exchange_weak(first, &seen, i)) {
  }
}

/* position `id` (0-based) at element `at` */
static nn_status outside(const nni_kernel_call *k, int64_t id, int64_t at, int64_t size, int64_t dim) {
  char shown[24]; /* id + 1, which INT64_MAX has no room for */
  if (id < 0) snprintf(shown, sizeof shown, "%" PRId64, id + 1);
  else snprintf(shown, sizeof shown, "%" PRIu64, (uint64_t)id + 1);
  return nni_fail(k->err, NN_EINDEX, "position %s (element %" PRId64 " of the positions) is not in 1..%" PRId64 " of dim %" PRId64, shown, at + 1,
                  size, dim + 1);
}

/* ---- ravel_ids ----------------------------------------------------------------------------------------------------------- */
typedef struct ravel {
  const int64_t *ids, *size;
  int64_t *out;
  int64_t width, sm, sk; /* K; elements per step of M and K */
  _Atomic int64_t bad;
} ravel;

static void ravel_some(void *arg, int64_t begin, int64_t end, int tid) {
  ravel *r = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t *id = r->ids + i * r->sm;
    int64_t at = 0;
    for (int64_t c = 0; c < r->width; c++, id += r->sk) {
      if ((uint64_t)*id >= (uint64_t)r->size[c]) {
        note_first(&r->bad, i * r->width + c);
        return;
      }
      at = at * r->size[c] + *id;
    }
    r->out[i] = at;
  }
}

nn_status nn_cpu_ravel_ids(const nni_kernel_call *k) {
  const nni_operand *ids = &k->in[0];
  ravel r = {.ids = ids->data, .size = k->ia, .out = k->out[0].data, .width = ids->shape[1], .sm = ids->stride[0], .sk = ids->stride[1]};
  atomic_init(&r.bad, -1);
  for_all(k->threads, ids->shape[0], ids->shape[0] * r.width, ravel_some, &r);
  const int64_t bad = atomic_load(&r.bad);
  if (bad < 0) return NN_OK;
  const int64_t c = bad % r.width;
  return outside(k, r.ids[bad / r.width * r.sm + c * r.sk], bad / r.width, r.size[c], r.size[r.width + c]);
}

/* ---- gather and scatter: common ------------------------------------------------------------------------------------------- */
typedef struct job {
  const int64_t *ids;
  int64_t a, v, m, b;   /* table (a, v, b), positions (a, m, b) */
  int64_t ia, im, ib;   /* elements per step of ids */
  int64_t sa, sm, sb;   /* the same of scatter's source */
  int64_t size, strip, strips; /* bytes per element; pieces of b: size, count */
  const char *in;
  char *out;
  int mode;
  nn_dtype d;
  _Atomic int64_t bad;
} job;

static void job_init(job *j, const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0], *ids = &k->in[1];
  *j = (job){.ids = ids->data,
             .a = x->shape[0],
             .v = x->shape[1],
             .m = ids->shape[1],
             .b = x->shape[2],
             .ia = ids->stride[0],
             .im = ids->stride[1],
             .ib = ids->stride[2]};
  j->size = (int64_t)nn_dtype_size(x->dtype);
  j->d = x->dtype;
  int64_t pieces = (nni_threads_count(k->threads) + j->a - 1) / (j->a ? j->a : 1); /* what an element gets does not depend on the cut */
  j->strip = ((j->b + pieces - 1) / (pieces ? pieces : 1) + STRIP - 1) / STRIP * STRIP;
  j->strips = j->b ? (j->b + j->strip - 1) / j->strip : 0;
  j->out = k->out[0].data;
  atomic_init(&j->bad, -1);
}

/* Rows of positions begin..end, cut where `a` changes: calls f with row r, its a, the positions of that row and how many rows follow in this a. */
#define EACH_RUN(f)                                                                                                                                  \
  for (int64_t r = begin, n; r < end; r += n) {                                                                                                      \
    const int64_t o = r / j->m, m0 = r % j->m, *id = j->ids + o * j->ia + m0 * j->im;                                                                \
    n = j->m - m0 < end - r ? j->m - m0 : end - r;                                                                                                   \
    f                                                                                                                                                \
  }

static void check_some(void *arg, int64_t begin, int64_t end, int tid) {
  job *j = arg;
  const int64_t nb = j->ib == 0 ? 1 : j->b; /* one position serves the whole row */
  (void)tid;
  EACH_RUN({
    for (int64_t m = 0; m < n; m++, id += j->im) {
      bool bad = false;
      for (int64_t i = 0; i < nb; i++) bad |= (uint64_t)id[i * j->ib] >= (uint64_t)j->v;
      for (int64_t i = 0; bad && i < nb; i++)
        if ((uint64_t)id[i * j->ib] >= (uint64_t)j->v) {
          note_first(&j->bad, (r + m) * nb + i);
          return;
        }
    }
  })
}
static nn_status check(const nni_kernel_call *k, job *j) {
  for_all(k->threads, j->a * j->m, j->a * j->m * (j->ib ? j->b : 1), check_some, j);
  const int64_t bad = atomic_load(&j->bad);
  if (bad < 0) return NN_OK;
  const int64_t nb = j->ib == 0 ? 1 : j->b, r = bad / nb;
  return outside(k, j->ids[r / j->m * j->ia + r % j->m * j->im + bad % nb * j->ib], bad, j->v, k->ia[0]);
}

/* ---- gather ---------------------------------------------------------------------------------------------------------------- */
#define PICK(T)                                                                                                                                      \
  {                                                                                                                                                  \
    const T *x = (const T *)(const void *)j->in + o * j->v * j->b;                                                                                   \
    T *y = (T *)(void *)j->out + r * j->b;                                                                                                           \
    if (j->b == 1) {                                                                                                                                 \
      for (int64_t m = 0; m < n; m++) y[m] = x[id[m * j->im]];                                                                                       \
    } else {                                                                                                                                         \
      for (int64_t m = 0; m < n; m++, id += j->im, y += j->b)                                                                                        \
        for (int64_t i = 0; i < j->b; i++) y[i] = x[id[i * j->ib] * j->b + i];                                                                       \
    }                                                                                                                                                \
  }
static void gather_some(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t row = j->b * j->size;
  (void)tid;
  EACH_RUN({
    if (j->ib == 0 && j->b > 1)
      for (int64_t m = 0; m < n; m++) memcpy(j->out + (r + m) * row, j->in + (o * j->v + id[m * j->im]) * row, (size_t)row);
    else if (j->size == 4) PICK(uint32_t)
    else if (j->size == 8) PICK(uint64_t)
    else if (j->size == 2) PICK(uint16_t)
    else PICK(uint8_t)
  })
}

nn_status nn_cpu_gather(const nni_kernel_call *k) {
  job j;
  job_init(&j, k);
  j.in = k->in[0].data;
  nn_status s = check(k, &j);
  if (s == NN_OK) for_all(k->threads, j.a * j.m, j.a * j.m * j.b, gather_some, &j);
  return s;
}

/* ---- scatter --------------------------------------------------------------------------------------------------------------- */
#define STORE(T, expr)                                                                                                                               \
  for (int64_t m = 0; m < j->m; m++) {                                                                                                               \
    const int64_t *id = j->ids + o * j->ia + m * j->im;                                                                                              \
    const T *s = (const T *)(const void *)j->in + o * j->sa + m * j->sm;                                                                             \
    T *y = (T *)(void *)j->out + o * j->v * j->b;                                                                                                    \
    if (j->ib == 0 && j->sb == 1) { /* whole rows */                                                                                                 \
      T *p = y + *id * j->b;                                                                                                                         \
      for (int64_t i = i0; i < i1; i++) {                                                                                                            \
        const T old = p[i], new = s[i];                                                                                                              \
        (void)old;                                                                                                                                   \
        p[i] = (expr);                                                                                                                               \
      }                                                                                                                                              \
      continue;                                                                                                                                      \
    }                                                                                                                                                \
    for (int64_t i = i0; i < i1; i++) {                                                                                                              \
      T *p = y + id[i * j->ib] * j->b + i;                                                                                                           \
      const T old = *p, new = s[i * j->sb];                                                                                                          \
      (void)old;                                                                                                                                     \
      *p = (expr);                                                                                                                                   \
    }                                                                                                                                                \
  }
#define MODES(T)                                                                                                                                     \
  switch (j->mode) {                                                                                                                                 \
  case 1: STORE(T, old + new) break;                                                                                                                 \
  case 2: STORE(T, new < old || new != new ? new : old) break;                                                                                       \
  case 3: STORE(T, new > old || new != new ? new : old) break;                                                                                       \
  default: STORE(T, old *new) break;                                                                                                                 \
  }
/* Blocks: (a, strip of b); each walks all positions in order. */
static void scatter_some(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t u = begin; u < end; u++) {
    const int64_t o = u / j->strips, i0 = u % j->strips * j->strip, i1 = i0 + j->strip < j->b ? i0 + j->strip : j->b;
    if (j->mode == 0 && j->size == 4) STORE(uint32_t, new)
    else if (j->mode == 0 && j->size == 8) STORE(uint64_t, new)
    else if (j->mode == 0 && j->size == 2) STORE(uint16_t, new)
    else if (j->mode == 0) STORE(uint8_t, new)
    else if (j->d == NN_F32) MODES(float)
    else if (j->d == NN_F64) MODES(double)
    else MODES(int64_t)
  }
}

nn_status nn_cpu_scatter(const nni_kernel_call *k) {
  const nni_operand *src = &k->in[2];
  job j;
  job_init(&j, k);
  nn_status s = check(k, &j);
  if (s != NN_OK) return s;
  nn_cpu_copy_bytes(k->threads, j.out, k->in[0].data, (size_t)(j.a * j.v * j.b * j.size));
  j.in = src->data;
  j.sa = src->stride[0], j.sm = src->stride[1], j.sb = src->stride[2];
  j.mode = (int)k->ia[1];
  if (j.mode && j.d != NN_F32 && j.d != NN_F64 && j.d != NN_I64) return nni_fail(k->err, NN_EINTERNAL, "scatter: no such dtype");
  for_all(k->threads, j.a * j.strips, j.a * j.m * j.b, scatter_some, &j);
  return NN_OK;
}

/* ---- nonzero --------------------------------------------------------------------------------------------------------------- */
nn_status nn_cpu_nonzero(const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0];
  const uint8_t *p = x->data;
  int64_t *out = k->out[0].data;
  const int64_t n = nn_cpu_numel(x), want = k->out[0].shape[0], nd = x->ndim;
  int64_t got = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!p[i]) continue;
    int64_t left = i;
    for (int64_t d = nd - 1; d >= 0 && got < want; d--) {
      out[got * nd + d] = left % x->shape[d];
      left /= x->shape[d];
    }
    got++;
  }
  return got == want ? NN_OK : nni_fail(k->err, NN_EINTERNAL, "nonzero: %" PRId64 " elements are true, %" PRId64 " were counted", got, want);
}

/* ---- randint --------------------------------------------------------------------------------------------------------------- */
typedef struct draws {
  uint64_t seed, stream, low, count;
  int64_t *out;
} draws;

static void draw_some(void *arg, int64_t begin, int64_t end, int tid) {
  const draws *d = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) d->out[i] = (int64_t)(d->low + nni_random_below(d->seed, d->stream, (uint64_t)i, d->count));
}

nn_status nn_cpu_randint(const nni_kernel_call *k) {
  draws d = {k->pa[0].u, k->pa[1].u, k->pa[2].u, k->pa[3].u, k->out[0].data};
  const int64_t n = nn_cpu_numel(&k->out[0]);
  for_all(k->threads, n, n * 4, draw_some, &d);
  return NN_OK;
}

/* none of them needs scratch */
size_t nn_cpu_ravel_ids_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_gather_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_scatter_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_nonzero_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_randint_scratch(const nni_kernel_call *k) { return (void)k, 0; }
