/* vulkan/k_index.c - kernels that look up or store by position: take_rows, gather, ravel_ids; add_rows, scatter; nonzero; and randint.
**
** All but the last two are one job on a table (a, v, b) and positions (a, m, b). A bad position is skipped and its number noted; a dispatch of one invocation adds what
** the message tells. Values for one element are joined in the order of their positions, without float atomics:
** - set: the last position that names an element is found with whole numbers (atomicMax), then every element is picked;
** - add, min, max, mul: an invocation walks the positions of one (a, b) where there are few positions or many (a, b); otherwise positions are
**   sorted, and an invocation walks those of one element.
*/
#include <inttypes.h>
#include <stdio.h>
#include "k_index.h"
#include "shaders.h"

enum {
  FEW = 64,
  LANES = 1 << 14,
  STEPS = 1 << 18
}; /* positions to walk at once; (a, b) that fill a device; most steps of an invocation in a dispatch */

/* Info of index.glsl */
typedef struct spots {
  uint32_t n, a, v, m, b, nb, ids, ia, im, ib, from, sa, sm, sb, to, old, aux, at, words, m0, m1, pad;
  nn_vk_div div_b, div_nb, div_m, div_v;
  uint32_t size[NN_MAXDIM];
} spots;

typedef struct job {
  const nni_kernel_call *k;
  nn_vk_device *d;
  spots w;
  uint32_t type; /* dtype of the positions */
  nn_vk_bind ids, words;
} job;

static nn_vk_div divisor(uint64_t n) { return nn_vk_divisor(n ? (uint32_t)n : 1); }

static nn_status run(job *j, int shader, const uint32_t *spec, int nspec, const nn_vk_bind *bind, int nbind, uint64_t n, uint32_t width) {
  j->w.n = (uint32_t)n;
  nn_vk_work w = {.pipeline = nn_vk_shader(j->d, shader, spec, nspec, j->k->err), .bind = bind, .nbind = nbind, .info = &j->w, .ninfo = sizeof j->w};
  nn_vk_grid(j->d, (n + width - 1) / width, w.groups);
  return nn_vk_dispatch(j->d, &w, j->k->err);
}

/* ---- bad positions ------------------------------------------------------------------------------------------------------------- */
/* ia: 0: rows by id, 1: elements by position; positions per row; then the size and dim of each, or of all */
enum { BY_ID, BY_POSITION };

static nn_status say(const uint32_t *words, const int64_t *ia, int nia, nni_error *err) {
  const int64_t id = (int64_t)((uint64_t)words[3] << 32 | words[2]), nb = ia[1];
  const int columns = (nia - 2) / 2;
  const uint64_t number = words[1];
  const int c = columns > 1 ? (int)(number % (uint64_t)nb) : 0;
  const uint64_t element = columns > 1 || ia[0] == BY_ID ? number / (uint64_t)nb : number;
  char shown[24]; /* id + 1, which INT64_MAX has no room for */
  if (id < 0) snprintf(shown, sizeof shown, "%" PRId64, id + 1);
  else snprintf(shown, sizeof shown, "%" PRIu64, (uint64_t)id + 1);
  if (ia[0] == BY_ID) return nni_fail(err, NN_EINDEX, "id %s at position %" PRIu64 " is not in 1..%" PRId64, shown, element + 1, ia[2]);
  return nni_fail(err, NN_EINDEX, "position %s (element %" PRIu64 " of the positions) is not in 1..%" PRId64 " of dim %" PRId64, shown, element + 1,
                  ia[2 + c], ia[2 + columns + c] + 1);
}

/* Opens the job: sizes of the table, positions (a, m, nb) with their strides, and the words for a bad one. size, dim: `columns` of each, for the message. */
static nn_status job_open(job *j, const nni_kernel_call *k, const uint64_t table[3], const nni_operand *ids, const int64_t shape[3],
                          const int64_t stride[3], int columns, const int64_t *size, const int64_t *dim) {
  int64_t ia[2 + 2 * NN_MAXDIM] = {dim ? BY_POSITION : BY_ID, shape[2]};
  *j = (job){.k = k, .d = nn_vk_of(k->dev), .type = ids->dtype, .ids = nn_vk_strided(nn_vk_of(k->dev), ids)};
  for (int c = 0; c < columns; c++) {
    ia[2 + c] = size[c];
    ia[2 + columns + c] = dim ? dim[c] : 0;
    j->w.size[c] = size[c] > UINT32_MAX ? UINT32_MAX : (uint32_t)size[c];
  }
  const nni_operand space = {.ndim = 3, .shape = shape},
                    whole = {.ndim = 3, .shape = (const int64_t[]){(int64_t)table[0], (int64_t)table[1], (int64_t)table[2]}};
  nn_status st = nn_vk_fits(j->d, &space, k->err);
  if (st == NN_OK) st = nn_vk_fits(j->d, &whole, k->err);
  if (st == NN_OK) st = nn_vk_faults(k, say, ia, 2 + 2 * columns, &j->words);
  if (st != NN_OK) return st;
  spots *w = &j->w;
  w->a = (uint32_t)table[0], w->v = (uint32_t)table[1], w->b = (uint32_t)table[2];
  w->m = (uint32_t)shape[1], w->nb = (uint32_t)shape[2];
  w->ids = j->ids.offset, w->words = j->words.offset;
  w->ia = (uint32_t)stride[0], w->im = (uint32_t)stride[1], w->ib = (uint32_t)stride[2];
  w->m1 = w->m;
  w->div_b = divisor(w->b), w->div_nb = divisor(w->nb), w->div_m = divisor(w->m), w->div_v = divisor(w->v);
  return NN_OK;
}

/* A table may be empty; then nothing of it is touched, and what is bound is no matter. */
static nn_vk_bind some(const job *j, nn_vk_bind b) { return b.bytes ? b : j->words; }

/* After what looked at all positions. */
static nn_status explain(job *j) {
  const nn_vk_bind b[] = {j->ids, j->words};
  return run(j, NN_VK_S_index_fault, &j->type, 1, b, 2, 1, 1);
}

/* ids (a, m, b) of gather and scatter; one position serves a row where the stride along b is 0 */
static nn_status open_elements(job *j, const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0], *ids = &k->in[1];
  const int64_t shape[3] = {x->shape[0], ids->shape[1], ids->stride[2] == 0 ? 1 : x->shape[2]};
  return job_open(j, k, (const uint64_t[]){(uint64_t)x->shape[0], (uint64_t)x->shape[1], (uint64_t)x->shape[2]}, ids, shape, ids->stride, 1,
                  &x->shape[1], k->ia);
}

/* ids of any shape, dense, for rows of a table (v, ...) */
static nn_status open_rows(job *j, const nni_kernel_call *k, const nni_operand *ids, const nni_operand *table) {
  uint64_t width = 1;
  for (int i = 1; i < table->ndim; i++) width *= (uint64_t)table->shape[i];
  const int64_t m = (int64_t)nn_vk_numel(ids);
  const nni_operand flat = {.data = ids->data, .dtype = ids->dtype, .ndim = 1, .shape = &m, .stride = (const int64_t[]){1}};
  return job_open(j, k, (const uint64_t[]){1, (uint64_t)table->shape[0], width}, &flat, (const int64_t[]){1, m, 1}, (const int64_t[]){0, 1, 0}, 1,
                  &table->shape[0], NULL);
}

/* ---- looking up ---------------------------------------------------------------------------------------------------------------------- */
static nn_status look_up(job *j) {
  const nni_kernel_call *k = j->k;
  const nn_vk_bind b[] = {j->ids, some(j, nn_vk_dense(j->d, &k->in[0], false)), nn_vk_dense(j->d, &k->out[0], true), j->words};
  const uint32_t spec[] = {j->type, (uint32_t)nn_dtype_size(k->in[0].dtype)};
  const uint64_t n = nn_vk_numel(&k->out[0]);
  nn_status st = nn_vk_fits(j->d, &k->out[0], k->err);
  if (st != NN_OK) return st;
  j->w.from = b[1].offset, j->w.to = b[2].offset;
  st = run(j, NN_VK_S_gather, spec, 2, b, 4, n, 256);
  return st == NN_OK ? explain(j) : st;
}

nn_status nn_vk_take_rows(const nni_kernel_call *k) {
  job j;
  if (nn_vk_numel(&k->in[1]) == 0) return NN_OK;
  nn_status st = open_rows(&j, k, &k->in[1], &k->in[0]);
  if (st != NN_OK) return st;
  return j.w.b == 0 ? nn_vk_check_ids_in(k, &k->in[1], k->in[0].shape[0], false) : look_up(&j);
}

nn_status nn_vk_gather(const nni_kernel_call *k) {
  job j;
  if (nn_vk_numel(&k->out[0]) == 0) return NN_OK;
  nn_status st = open_elements(&j, k);
  return st == NN_OK ? look_up(&j) : st;
}

nn_status nn_vk_ravel_ids(const nni_kernel_call *k) {
  const nni_operand *ids = &k->in[0];
  const int64_t m = ids->shape[0], width = ids->shape[1];
  job j;
  if (m == 0) return NN_OK;
  nn_status st = job_open(&j, k, (const uint64_t[]){1, 1, 1}, ids, (const int64_t[]){1, m, width},
                          (const int64_t[]){0, ids->stride[0], ids->stride[1]}, (int)width, k->ia, k->ia + width);
  if (st != NN_OK) return st;
  const nn_vk_bind b[] = {j.ids, nn_vk_dense(j.d, &k->out[0], true), j.words};
  j.w.to = b[1].offset;
  st = run(&j, NN_VK_S_ravel, &j.type, 1, b, 3, (uint64_t)m, 256);
  return st == NN_OK ? explain(&j) : st;
}

/* ---- storing ----------------------------------------------------------------------------------------------------------------------------- */
enum { SET, ADD };

static bool by_walking(uint64_t m, uint64_t lanes) { return m <= FEW || lanes >= LANES; }

static size_t words_bytes(uint64_t n) { return ((size_t)n * sizeof(uint32_t) + 64) / 64 * 64; } /* not 0 */

static size_t store_scratch(uint64_t a, uint64_t v, uint64_t m, uint64_t b, uint64_t nb, int mode) {
  if (mode == SET) return words_bytes(a * v * nb);
  if (by_walking(m, a * b)) return 0;
  const nn_vk_sorting s = {.dtype = NN_VK_KEYS, .rows = a * nb, .n = m};
  return words_bytes(a * nb * m) + nn_vk_sorting_scratch(&s);
}

static nn_status set_last(job *j, const nni_operand *old, const nni_operand *src) {
  const nni_kernel_call *k = j->k;
  const size_t bytes = words_bytes((uint64_t)j->w.a * j->w.v * j->w.nb);
  nn_vk_bind last[] = {j->ids, nn_vk_range(j->d, k->scratch, bytes, sizeof(uint32_t), true), j->words};
  nn_vk_bind pick[] = {last[1], nn_vk_dense(j->d, old, false), nn_vk_strided(j->d, src), nn_vk_dense(j->d, &k->out[0], true)};
  const uint32_t size = (uint32_t)nn_dtype_size(old->dtype);
  pick[0].write = false;
  j->w.aux = last[1].offset, j->w.old = pick[1].offset, j->w.from = pick[2].offset, j->w.to = pick[3].offset;
  nn_status st = nn_vk_fill(j->d, k->scratch, bytes, 0, k->err);
  if (st == NN_OK) st = run(j, NN_VK_S_scatter_last, &j->type, 1, last, 3, (uint64_t)j->w.a * j->w.m * j->w.nb, 256);
  if (st == NN_OK) st = explain(j);
  return st == NN_OK ? run(j, NN_VK_S_scatter_pick, &size, 1, pick, 4, nn_vk_numel(old), 256) : st;
}

/* The part of m from m0 on that a dispatch of `lanes` walks may do. */
static void next_part(job *j, uint32_t m0, uint64_t lanes) {
  uint64_t most = nn_vk_budget(j->d) / 64 / (lanes ? lanes : 1); /* an element is worth many multiply-adds */
  if (most > STEPS) most = STEPS;
  if (most < 1) most = 1;
  j->w.m0 = m0;
  j->w.m1 = j->w.m - m0 < most ? j->w.m : m0 + (uint32_t)most;
}

static nn_status join_walking(job *j, const nni_operand *src, uint32_t mode) {
  const nn_vk_bind b[] = {j->ids, nn_vk_strided(j->d, src), some(j, nn_vk_dense(j->d, &j->k->out[0], true)), j->words};
  const uint32_t spec[] = {j->type, src->dtype, mode};
  const uint64_t lanes = (uint64_t)j->w.a * j->w.b;
  nn_status st = NN_OK;
  j->w.from = b[1].offset, j->w.to = b[2].offset;
  for (uint32_t m = 0; m < j->w.m && st == NN_OK; m = j->w.m1) {
    next_part(j, m, lanes);
    st = run(j, NN_VK_S_scatter_walk, spec, 3, b, 4, lanes, 64);
  }
  return st == NN_OK ? explain(j) : st;
}

static nn_status join_sorted(job *j, const nni_operand *src, uint32_t mode) {
  const nni_kernel_call *k = j->k;
  const uint64_t rows = (uint64_t)j->w.a * j->w.nb, n = rows * j->w.m, lanes = (uint64_t)j->w.a * j->w.b;
  const size_t bytes = (size_t)n * sizeof(uint32_t);
  char *keys = k->scratch, *at = NULL;
  const nn_vk_sorting s = {.src = keys, .dtype = NN_VK_KEYS, .rows = rows, .n = j->w.m, .scratch = keys + words_bytes(n)};
  nn_vk_bind make[] = {j->ids, nn_vk_range(j->d, keys, bytes, sizeof(uint32_t), true), j->words};
  j->w.aux = make[1].offset;
  nn_status st = run(j, NN_VK_S_scatter_keys, &j->type, 1, make, 3, n, 256);
  if (st == NN_OK) st = explain(j);
  if (st == NN_OK) st = nn_vk_sort_rows(k, &s, &keys, &at);
  if (st != NN_OK) return st;
  const nn_vk_bind b[] = {nn_vk_range(j->d, keys, bytes, sizeof(uint32_t), false), nn_vk_range(j->d, at, bytes, sizeof(uint32_t), false),
                          nn_vk_strided(j->d, src), some(j, nn_vk_dense(j->d, &k->out[0], true))};
  const uint32_t spec[] = {src->dtype, mode};
  j->w.aux = b[0].offset, j->w.at = b[1].offset, j->w.from = b[2].offset, j->w.to = b[3].offset;
  for (uint32_t m = 0; m < j->w.m && st == NN_OK; m = j->w.m1) {
    next_part(j, m, lanes);
    j->w.div_m = divisor(j->w.m1 - m);
    st = run(j, NN_VK_S_scatter_runs, spec, 2, b, 4, lanes * (j->w.m1 - m), 256);
  }
  return st;
}

/* out holds what the values are added to */
static nn_status join(job *j, const nni_operand *src, uint32_t mode) {
  return by_walking(j->w.m, (uint64_t)j->w.a * j->w.b) ? join_walking(j, src, mode) : join_sorted(j, src, mode);
}

nn_status nn_vk_scatter(const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0], *src = &k->in[2];
  const size_t bytes = (size_t)nn_vk_numel(x) * nn_dtype_size(x->dtype);
  const bool some = nn_vk_numel(&k->in[1]) > 0;
  job j;
  nn_status st = NN_OK;
  if (k->ia[1] != SET && x->dtype != NN_F32 && x->dtype != NN_I64) return nni_fail(k->err, NN_EINTERNAL, "scatter: no such dtype");
  if (!some || k->ia[1] != SET) st = nn_vk_copy_bytes(nn_vk_of(k->dev), k->out[0].data, x->data, bytes, k->err);
  if (st == NN_OK && some) st = open_elements(&j, k);
  if (st != NN_OK || !some) return st;
  j.w.sa = (uint32_t)src->stride[0], j.w.sm = (uint32_t)src->stride[1], j.w.sb = (uint32_t)src->stride[2];
  return k->ia[1] == SET ? set_last(&j, x, src) : join(&j, src, (uint32_t)k->ia[1]);
}
size_t nn_vk_scatter_scratch(const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0], *ids = &k->in[1];
  return store_scratch((uint64_t)x->shape[0], (uint64_t)x->shape[1], (uint64_t)ids->shape[1], (uint64_t)x->shape[2],
                       ids->stride[2] == 0 ? 1 : (uint64_t)x->shape[2], (int)k->ia[1]);
}

nn_status nn_vk_add_rows(const nni_kernel_call *k) {
  const nni_operand *out = &k->out[0], *ids = &k->in[1];
  job j;
  nn_status st = nn_vk_fill(nn_vk_of(k->dev), out->data, (size_t)nn_vk_numel(out) * sizeof(float), 0, k->err);
  if (st != NN_OK || nn_vk_numel(ids) == 0) return st;
  st = open_rows(&j, k, ids, out);
  if (st != NN_OK) return st;
  if (j.w.b == 0) return nn_vk_check_ids_in(k, ids, k->ia[0], false);
  const int64_t shape[3] = {1, j.w.m, j.w.b}, stride[3] = {0, j.w.b, 1};
  const nni_operand src = {.data = k->in[0].data, .dtype = k->in[0].dtype, .ndim = 3, .shape = shape, .stride = stride};
  j.w.sm = j.w.b, j.w.sb = 1;
  return join(&j, &src, ADD);
}
size_t nn_vk_add_rows_scratch(const nni_kernel_call *k) {
  uint64_t width = 1;
  for (int i = 1; i < k->out[0].ndim; i++) width *= (uint64_t)k->out[0].shape[i];
  return store_scratch(1, (uint64_t)k->ia[0], nn_vk_numel(&k->in[1]), width, 1, ADD);
}

/* ---- nonzero ------------------------------------------------------------------------------------------------------------------------------------- */
typedef struct shares {
  uint64_t n, share, groups;
} shares;

static shares shares_of(const nni_operand *x) {
  enum { STRIP = 4096, MOST = 1024 }; /* elements that a workgroup looks at together (nonzero.comp); workgroups */
  shares s = {.n = nn_vk_numel(x)};
  const uint64_t strips = (s.n + STRIP - 1) / STRIP;
  s.share = (strips + MOST - 1) / MOST * STRIP;
  s.groups = s.n ? (s.n + s.share - 1) / s.share : 0;
  return s;
}

/* ia: how many there should be */
static nn_status say_count(const uint32_t *words, const int64_t *ia, int nia, nni_error *err) {
  (void)nia;
  return nni_fail(err, NN_EINTERNAL, "nonzero: %" PRIu32 " elements are true, %" PRId64 " were counted", words[1], ia[0]);
}

nn_status nn_vk_nonzero(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *x = &k->in[0], *out = &k->out[0];
  const shares s = shares_of(x);
  struct {
    uint32_t n, share, groups, dims, from, counts, to, words, want, pad, shape[NN_MAXDIM];
  } info = {.n = (uint32_t)s.n, .share = (uint32_t)s.share, .groups = (uint32_t)s.groups, .dims = (uint32_t)x->ndim, .want = (uint32_t)out->shape[0]};
  nn_vk_bind b[] = {nn_vk_dense(d, x, false),
                    nn_vk_range(d, k->scratch, (size_t)s.groups * sizeof(uint32_t), sizeof(uint32_t), true),
                    nn_vk_dense(d, out, true),
                    {0}};
  nn_status st = nn_vk_fits(d, x, k->err);
  if (st == NN_OK) st = nn_vk_fits(d, out, k->err);
  if (st != NN_OK || s.n == 0) return st;
  st = nn_vk_faults(k, say_count, (const int64_t[]){out->shape[0]}, 1, &b[3]);
  for (int i = 0; i < x->ndim; i++) info.shape[i] = (uint32_t)x->shape[i];
  info.from = b[0].offset, info.counts = b[1].offset, info.to = b[2].offset, info.words = b[3].offset;
  for (uint32_t write = 0; write < 2 && st == NN_OK; write++) {
    nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_nonzero, &write, 1, k->err), .bind = b, .nbind = 4, .info = &info, .ninfo = sizeof info};
    nn_vk_grid(d, s.groups, w.groups);
    st = nn_vk_dispatch(d, &w, k->err);
  }
  return st;
}
size_t nn_vk_nonzero_scratch(const nni_kernel_call *k) { return (size_t)shares_of(&k->in[0]).groups * sizeof(uint32_t); }

/* ---- randint ------------------------------------------------------------------------------------------------------------------------------------- */
nn_status nn_vk_randint(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const uint64_t n = nn_vk_numel(&k->out[0]);
  const nn_vk_bind b = nn_vk_dense(d, &k->out[0], true);
  const uint32_t info[] = {(uint32_t)n, b.offset};
  nn_status st = nn_vk_fits(d, &k->out[0], k->err);
  if (st != NN_OK || n == 0) return st;
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_randint, NULL, 0, k->err),
                  .bind = &b,
                  .nbind = 1,
                  .info = info,
                  .ninfo = sizeof info,
                  .param = k->param,
                  .nparam = 4};
  nn_vk_grid(d, (n + 255) / 256, w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}

/* none of these needs scratch */
size_t nn_vk_take_rows_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_gather_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_ravel_ids_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_randint_scratch(const nni_kernel_call *k) { return (void)k, 0; }
