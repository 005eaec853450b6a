/* vulkan/k_sort.c - sort (stable, with positions), sorting of keys for k_index.c, and searchsorted.
**
** Elements become unsigned keys that order as they do (32 bits; i64: 64), as on the CPU. Tiles of 256 are sorted by counting, then runs are merged two by two,
** every element finding its place by a binary search: n log n searches, no atomics, equal elements never change order.
*/
#include "k_index.h"
#include "shaders.h"

enum { TILE = 256 };

static size_t rounded(uint64_t bytes) { return ((size_t)bytes + 64) / 64 * 64; }
static size_t key_bytes(const nn_vk_sorting *s) { return s->dtype == NN_I64 ? sizeof(uint64_t) : sizeof(uint32_t); }
static int merges(const nn_vk_sorting *s) {
  int n = 0;
  for (uint64_t w = TILE; w < s->n; w *= 2) n++;
  return n;
}
/* One buffer has keys, then positions. With results the last pass needs none. */
static size_t buffer_bytes(const nn_vk_sorting *s) { return rounded(s->rows * s->n * key_bytes(s)) + rounded(s->rows * s->n * sizeof(uint32_t)); }
size_t nn_vk_sorting_scratch(const nn_vk_sorting *s) {
  const int left = merges(s) + (s->values ? 0 : 1);
  return buffer_bytes(s) * (size_t)(left < 2 ? left : 2);
}

typedef struct info {
  uint32_t n, count, items, per_group, tiles, width, down, from, keys, at, to_keys, to_at, values, positions;
  nn_vk_div div_n;
} info;

/* Pass 0 sorts tiles, pass p merges runs of TILE * 2^(p - 1). */
static nn_status pass(const nni_kernel_call *k, const nn_vk_sorting *s, int p, bool final) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const uint64_t count = s->rows * s->n, size = buffer_bytes(s);
  const size_t each = key_bytes(s), src_each = s->dtype == NN_VK_KEYS ? sizeof(uint32_t) : nn_dtype_size((nn_dtype)s->dtype),
               words = (size_t)count * sizeof(uint32_t);
  char *to = s->scratch + (p % 2 ? size : 0), *from = s->scratch + (p % 2 ? 0 : size);
  info w = {.n = (uint32_t)s->n, .count = (uint32_t)count, .down = s->down, .div_n = nn_vk_divisor((uint32_t)s->n)};
  nn_vk_bind b[7] = {nn_vk_range(d, s->src, (size_t)count * src_each, src_each, false)};
  if (final) {
    b[3] = nn_vk_dense(d, s->values, true), b[4] = nn_vk_dense(d, s->at, true);
    b[1] = b[2] = b[3]; /* what is not used is bound to something that is */
  } else {
    b[1] = nn_vk_range(d, to, (size_t)count * each, each, true), b[2] = nn_vk_range(d, to + rounded(count * each), words, sizeof(uint32_t), true);
    b[3] = b[4] = b[1];
  }
  if (p > 0)
    b[5] = nn_vk_range(d, from, (size_t)count * each, each, false),
    b[6] = nn_vk_range(d, from + rounded(count * each), words, sizeof(uint32_t), false);
  w.from = b[0].offset, w.to_keys = b[1].offset, w.to_at = b[2].offset, w.values = b[3].offset, w.positions = b[4].offset, w.keys = b[5].offset,
  w.at = b[6].offset;
  if (p == 0 && s->n <= TILE) w.per_group = (uint32_t)(TILE / s->n);
  w.tiles = (uint32_t)((s->n + TILE - 1) / TILE);
  w.width = p ? TILE << (p - 1) : 0;
  const uint64_t items = p ? count : w.per_group ? (s->rows + w.per_group - 1) / w.per_group : s->rows * w.tiles;
  const uint32_t spec[] = {s->dtype, final};
  nn_vk_work work = {.pipeline = nn_vk_shader(d, p ? NN_VK_S_sort_merge : NN_VK_S_sort_tile, spec, 2, k->err),
                     .bind = b,
                     .nbind = p ? 7 : 5,
                     .info = &w,
                     .ninfo = sizeof w,
                     .ops = items * 512 * (p ? 1 : TILE)}; /* 512 for an element */
  w.items = (uint32_t)items;
  nn_vk_grid(d, p ? nn_vk_ceil_div(items, TILE) : items, work.groups);
  return nn_vk_dispatch(d, &work, k->err);
}

nn_status nn_vk_sort_rows(const nni_kernel_call *k, const nn_vk_sorting *s, char **keys, char **at) {
  const int n = merges(s);
  nn_status st = NN_OK;
  for (int p = 0; p <= n && st == NN_OK; p++) st = pass(k, s, p, p == n && s->values);
  if (keys) *keys = s->scratch + (n % 2 ? buffer_bytes(s) : 0), *at = *keys + rounded(s->rows * s->n * key_bytes(s));
  return st;
}

static nn_vk_sorting sorting_of(const nni_kernel_call *k) {
  const nni_operand *in = &k->in[0];
  return (nn_vk_sorting){.src = in->data,
                         .dtype = in->dtype,
                         .rows = (uint64_t)in->shape[0],
                         .n = (uint64_t)in->shape[1],
                         .down = k->ia[0] != 0,
                         .scratch = k->scratch,
                         .values = &k->out[0],
                         .at = &k->out[1]};
}

nn_status nn_vk_sort(const nni_kernel_call *k) {
  const nn_vk_sorting s = sorting_of(k);
  nn_status st = nn_vk_fits(nn_vk_of(k->dev), &k->in[0], k->err);
  return st != NN_OK || s.rows * s.n == 0 ? st : nn_vk_sort_rows(k, &s, NULL, NULL);
}
size_t nn_vk_sort_scratch(const nni_kernel_call *k) {
  const nn_vk_sorting s = sorting_of(k);
  return nn_vk_sorting_scratch(&s);
}

/* ---- searchsorted --------------------------------------------------------------------------------------------------------------------------- */
nn_status nn_vk_searchsorted(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *table = &k->in[0], *v = &k->in[1];
  const uint64_t count = nn_vk_numel(v);
  nn_vk_bind b[] = {nn_vk_dense(d, table, false), nn_vk_dense(d, v, false), nn_vk_dense(d, &k->out[0], true)};
  if (b[0].bytes == 0) b[0] = b[1];
  const uint32_t words[] = {
      (uint32_t)count, (uint32_t)table->shape[1], (uint32_t)v->shape[1], table->shape[0] != 1, k->ia[0] != 0, b[0].offset, b[1].offset, b[2].offset};
  const uint32_t spec = table->dtype;
  nn_status st = nn_vk_fits(d, table, k->err);
  if (st == NN_OK) st = nn_vk_fits(d, v, k->err);
  if (st != NN_OK || count == 0) return st;
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_searchsorted, &spec, 1, k->err), .bind = b, .nbind = 3, .info = words, .ninfo = sizeof words};
  nn_vk_grid(d, (count + 255) / 256, w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}
size_t nn_vk_searchsorted_scratch(const nni_kernel_call *k) { return (void)k, 0; }
