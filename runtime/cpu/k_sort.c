/* cpu/k_sort.c - sort (stable, with positions) and searchsorted.
**
** Elements become unsigned keys that order as the elements do (NaN above everything, -0 equal to 0; a descending sort complements them). A row whose
** keys fit 32 bits is sorted as packed (key, position) words, any other as pairs; both by counting digits of 8 bits from the least, skipping digits
** that all share.
** A row is sorted by one thread.
*/
#include "cpu.h"

enum { SMALL = 48, SERIAL = 1 << 12 };

typedef struct pair {
  uint64_t key, at;
} pair;

typedef struct job {
  const nni_operand *in;
  char *values;
  int64_t *at;
  int64_t rows, n;
  bool down, per_row; /* per_row: fewer rows than threads, so each row has a room of its own */
  char *scratch;
} job;

/* ---- keys ------------------------------------------------------------------------------------------------------------------- */
static inline uint32_t key_of_float(float f) {
  uint32_t u;
  if (f != f) return UINT32_MAX;
  f += 0.0f; /* -0 becomes 0 */
  memcpy(&u, &f, 4);
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}

static inline uint64_t key_of_double(double f) {
  uint64_t u;
  if (f != f) return UINT64_MAX;
  f += 0.0;
  memcpy(&u, &f, 8);
  return u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

/* 32-bit keys of a row into the high half of w, positions in the low one; false when they don't fit */
static bool pack(const job *j, int64_t row, uint64_t *w) {
  const int64_t n = j->n;
  const uint32_t flip = j->down ? UINT32_MAX : 0;
  switch (j->in->dtype) {
  case NN_F32: {
    const float *x = (const float *)j->in->data + row * n;
    for (int64_t i = 0; i < n; i++) w[i] = (uint64_t)(key_of_float(x[i]) ^ flip) << 32 | (uint64_t)i;
    return true;
  }
  case NN_F64: return false;
  case NN_I32: {
    const int32_t *x = (const int32_t *)j->in->data + row * n;
    for (int64_t i = 0; i < n; i++) w[i] = (uint64_t)(((uint32_t)x[i] ^ 0x80000000u) ^ flip) << 32 | (uint64_t)i;
    return true;
  }
  case NN_I64: {
    const int64_t *x = (const int64_t *)j->in->data + row * n;
    int64_t lo = x[0], hi = x[0];
    for (int64_t i = 1; i < n; i++) {
      lo = x[i] < lo ? x[i] : lo;
      hi = x[i] > hi ? x[i] : hi;
    }
    if ((uint64_t)hi - (uint64_t)lo > UINT32_MAX) return false;
    for (int64_t i = 0; i < n; i++) w[i] = (uint64_t)((uint32_t)((uint64_t)x[i] - (uint64_t)lo) ^ flip) << 32 | (uint64_t)i;
    return true;
  }
  default: {
    const uint8_t *x = (const uint8_t *)j->in->data + row * n;
    for (int64_t i = 0; i < n; i++) w[i] = (uint64_t)(x[i] ^ flip) << 32 | (uint64_t)i;
    return true;
  }
  }
}

/* ---- sorting ---------------------------------------------------------------------------------------------------------------- */
#define KEY_WORD(e) (e)
#define KEY_PAIR(e) ((e).key)
#define SORT(name, T, KEY, SHIFT)                                                                                                                    \
  static T *name(T *a, T *b, int64_t n) { /* sorts a with room b; the result is in one of them */                                                    \
    if (n <= SMALL) {                                                                                                                                \
      for (int64_t i = 1; i < n; i++) {                                                                                                              \
        const T e = a[i];                                                                                                                            \
        int64_t k = i;                                                                                                                               \
        for (; k > 0 && KEY(a[k - 1]) > KEY(e); k--) a[k] = a[k - 1];                                                                                \
        a[k] = e;                                                                                                                                    \
      }                                                                                                                                              \
      return a;                                                                                                                                      \
    }                                                                                                                                                \
    for (int shift = SHIFT; shift < 64; shift += 8) {                                                                                                \
      int64_t count[256] = {0}, at = 0;                                                                                                              \
      for (int64_t i = 0; i < n; i++) count[KEY(a[i]) >> shift & 255]++;                                                                             \
      if (count[KEY(a[0]) >> shift & 255] == n) continue;                                                                                            \
      for (int d = 0; d < 256; d++) {                                                                                                                \
        const int64_t c = count[d];                                                                                                                  \
        count[d] = at;                                                                                                                               \
        at += c;                                                                                                                                     \
      }                                                                                                                                              \
      for (int64_t i = 0; i < n; i++) b[count[KEY(a[i]) >> shift & 255]++] = a[i];                                                                   \
      T *t = a;                                                                                                                                      \
      a = b;                                                                                                                                         \
      b = t;                                                                                                                                         \
    }                                                                                                                                                \
    return a;                                                                                                                                        \
  }
SORT(sort_words, uint64_t, KEY_WORD, 32)
SORT(sort_pairs, pair, KEY_PAIR, 0)

static void take_values(const job *j, int64_t row) {
  const int64_t n = j->n, size = (int64_t)nn_dtype_size(j->in->dtype), *at = j->at + row * n;
  const char *x = (const char *)j->in->data + row * n * size;
  char *y = j->values + row * n * size;
  for (int64_t i = 0; i < n; i++) {
    if (size == 4) memcpy(y + 4 * i, x + 4 * at[i], 4);
    else if (size == 8) memcpy(y + 8 * i, x + 8 * at[i], 8);
    else y[i] = x[at[i]];
  }
}

static void sort_rows(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t n = j->n;
  for (int64_t row = begin; row < end; row++) {
    pair *room = (pair *)(void *)j->scratch + (j->per_row ? row : tid) * 2 * n;
    int64_t *at = j->at + row * n;
    uint64_t *words = (uint64_t *)(void *)room;
    if (pack(j, row, words)) {
      const uint64_t *s = sort_words(words, words + n, n);
      for (int64_t i = 0; i < n; i++) at[i] = (int64_t)(s[i] & UINT32_MAX);
    } else {
      const uint64_t flip = j->down ? UINT64_MAX : 0;
      if (j->in->dtype == NN_F64) {
        const double *x = (const double *)j->in->data + row * n;
        for (int64_t i = 0; i < n; i++) room[i] = (pair){key_of_double(x[i]) ^ flip, (uint64_t)i};
      } else {
        const int64_t *x = (const int64_t *)j->in->data + row * n;
        for (int64_t i = 0; i < n; i++) room[i] = (pair){((uint64_t)x[i] ^ (uint64_t)1 << 63) ^ flip, (uint64_t)i};
      }
      const pair *s = sort_pairs(room, room + n, n);
      for (int64_t i = 0; i < n; i++) at[i] = (int64_t)s[i].at;
    }
    take_values(j, row);
  }
}

nn_status nn_cpu_sort(const nni_kernel_call *k) {
  const nni_operand *in = &k->in[0];
  job j = {.in = in,
           .values = k->out[0].data,
           .at = k->out[1].data,
           .rows = in->shape[0],
           .n = in->shape[1],
           .down = k->ia[0] != 0,
           .scratch = k->scratch};
  j.per_row = j.rows <= nni_threads_count(k->threads);
  if (j.rows * j.n == 0) return NN_OK;
  if (j.n > INT64_C(0xffffffff)) return nni_fail(k->err, NN_EUNSUPPORTED, "sort: more than 2^32 elements in a row");
  if (j.rows * j.n < SERIAL) sort_rows(&j, 0, j.rows, 0);
  else nni_parallel(k->threads, j.rows, sort_rows, &j);
  return NN_OK;
}
size_t nn_cpu_sort_scratch(const nni_kernel_call *k) {
  const int64_t rows = k->in[0].shape[0], threads = nni_threads_count(k->threads);
  return (size_t)(k->in[0].shape[1] * 2 * (rows < threads ? rows : threads)) * sizeof(pair);
}

/* ---- searchsorted ------------------------------------------------------------------------------------------------------------- */
typedef struct search {
  const nni_operand *table;
  const void *v;
  int64_t *out;
  int64_t n, m;
  bool right;
} search;

#define SEARCH(T)                                                                                                                                    \
  {                                                                                                                                                  \
    const T *t = (const T *)s->table->data + (s->table->shape[0] == 1 ? 0 : i / s->m * s->n), v = ((const T *)s->v)[i];                              \
    while (lo < hi) {                                                                                                                                \
      const int64_t mid = lo + (hi - lo) / 2;                                                                                                        \
      if (s->right ? !(t[mid] > v) : !(t[mid] >= v)) lo = mid + 1;                                                                                   \
      else hi = mid;                                                                                                                                 \
    }                                                                                                                                                \
  }
static void search_some(void *arg, int64_t begin, int64_t end, int tid) {
  const search *s = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    int64_t lo = 0, hi = s->n;
    if (s->table->dtype == NN_F32) SEARCH(float)
    else if (s->table->dtype == NN_F64) SEARCH(double)
    else SEARCH(int64_t)
    s->out[i] = lo;
  }
}

nn_status nn_cpu_searchsorted(const nni_kernel_call *k) {
  search s = {.table = &k->in[0], .v = k->in[1].data, .out = k->out[0].data, .n = k->in[0].shape[1], .m = k->in[1].shape[1], .right = k->ia[0] != 0};
  const int64_t count = nn_cpu_numel(&k->in[1]);
  if (count < SERIAL) search_some(&s, 0, count, 0);
  else nni_parallel(k->threads, count, search_some, &s);
  return NN_OK;
}
size_t nn_cpu_searchsorted_scratch(const nni_kernel_call *k) { return (void)k, 0; }
