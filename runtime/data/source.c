/* data/source.c - where rows come from: arrays in memory, windows over them, and ranges of integers. */
#include <stdio.h>
#include "dataset.h"

typedef struct source_stage {
  nni_stage s;
  int64_t at; /* rows given so far */
} source_stage;

static nn_status source_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  source_stage *t = (source_stage *)s;
  int64_t left = s->d->verb->cardinality(s->d) - t->at;
  (void)err;
  *got = max < left ? max : left;
  for (int64_t i = 0; i < *got; i++) out[i] = t->at + i;
  t->at += *got;
  return NN_OK;
}

static nn_status source_rewind(nni_stage *s, nni_error *err) {
  (void)err;
  ((source_stage *)s)->at = 0;
  return NN_OK;
}

static void source_save(const nni_stage *s, int64_t *words) { words[0] = ((const source_stage *)s)->at; }

static nn_status source_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  (void)caller;
  int64_t rows = s->d->verb->cardinality(s->d);
  if (words[0] < 0 || words[0] > rows)
    return nni_fail(err, NN_EFORMAT, "data set: the state stands at row %lld of %lld", (long long)words[0], (long long)rows);
  ((source_stage *)s)->at = words[0];
  return NN_OK;
}

#define SOURCE_VERB                                                                                                          \
  .stage_bytes = sizeof(source_stage), .words = 1, .rows = source_rows, .rewind = source_rewind, .save = source_save, \
  .restore = source_restore

/* ---- arrays -------------------------------------------------------------------------------------------------------------- */

static size_t row_bytes(const nni_column *c) {
  size_t n = nn_dtype_size(c->dtype);
  for (int i = 0; i < c->ndim; i++) n *= (size_t)c->shape[i];
  return n;
}

static int64_t columns_cardinality(const nni_dataset *d) { return d->u.columns.rows; }
static int columns_params(const nni_dataset *d, char *buf, size_t n) { return snprintf(buf, n, "%lld", (long long)d->u.columns.rows); }

static int64_t columns_length(const nni_dataset *d, int component, int64_t row) {
  const int32_t *ends = d->u.columns.cols[component].ends;
  return ends[row + 1] - ends[row];
}

static void texts_gather(const nni_column *c, const int64_t *rows, int64_t n, char *to) {
  for (int64_t i = 0; i < n; i++) {
    size_t bytes = (size_t)(c->ends[rows[i] + 1] - c->ends[rows[i]]);
    memcpy(to, (const char *)c->data + c->ends[rows[i]], bytes);
    to += bytes;
  }
}

#define LINE 64
#define NEAR_ROW 4096 /* bytes of a row that are asked for ahead; with more of them the processor sees for itself where it goes */
#define AHEAD 8       /* rows; 4, 16 and 32 were measured to be slower */

/* Asks the caches for a row that is going to be read: rows in random places come from memory, and the wait for one is that of several. */
static inline void expect_row(const char *row, size_t bytes) {
  const size_t n = bytes < NEAR_ROW ? bytes : NEAR_ROW;
  for (size_t i = 0; i < n; i += LINE) __builtin_prefetch(row + i);
}

/* Neighbouring rows go in one copy. */
static void columns_gather(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst) {
  for (int c = 0; c < d->u.columns.ncols; c++) {
    const char *src = d->u.columns.cols[c].data;
    char *to = dst[c];
    if (d->u.columns.cols[c].ends != NULL) {
      texts_gather(&d->u.columns.cols[c], rows, n, to);
      continue;
    }
    size_t bytes = row_bytes(&d->u.columns.cols[c]);
    for (int64_t i = 0; i < n && i < AHEAD; i++) expect_row(src + (size_t)rows[i] * bytes, bytes);
    for (int64_t i = 0, j; i < n; i = j) {
      for (j = i + 1; j < n && rows[j] == rows[j - 1] + 1;) j++;
      for (int64_t k = i + AHEAD; k < j + AHEAD && k < n && j == i + 1; k++) expect_row(src + (size_t)rows[k] * bytes, bytes);
      memcpy(to + (size_t)i * bytes, src + (size_t)rows[i] * bytes, (size_t)(j - i) * bytes);
    }
  }
}

static void columns_free(nni_dataset *d) {
  for (int i = 0; i < d->u.columns.ncols; i++) {
    nni_column *c = &d->u.columns.cols[i];
    if (c->drop != NULL) c->drop(c->owner);
  }
  nni_free(d->m, d->u.columns.cols, (size_t)d->u.columns.ncols * sizeof(nni_column));
}

static const nni_verb columns_verb = {.name = "columns", SOURCE_VERB, .params = columns_params, .cardinality = columns_cardinality,
                                      .free = columns_free, .gather = columns_gather, .length = columns_length};

static nni_dataset *new_columns(const nni_verb *verb, nni_memory *m, int64_t rows, int ncols, const nni_column *cols, nni_error *err) {
  if (ncols < 1 || ncols > NN_DATA_MAX || rows < 0) {
    nni_fail(err, NN_EINVAL, "data set: %d arrays of %lld rows; it takes 1 to %d arrays", ncols, (long long)rows, NN_DATA_MAX);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(m, verb, NULL, err);
  nni_column *copy = d != NULL ? nni_malloc(m, (size_t)ncols * sizeof *copy) : NULL;
  if (copy == NULL) {
    nni_dataset_release(d);
    nni_fail(err, NN_ENOMEM, "data set: out of memory");
    return NULL;
  }
  memcpy(copy, cols, (size_t)ncols * sizeof *copy);
  d->source = d;
  d->spec.n = ncols;
  for (int i = 0; i < ncols; i++) {
    nni_component *c = &d->spec.c[i];
    c->dtype = cols[i].dtype;
    c->ndim = cols[i].ndim;
    memcpy(c->shape, cols[i].shape, sizeof c->shape);
  }
  d->u.columns.rows = rows;
  d->u.columns.cols = copy;
  d->u.columns.ncols = ncols;
  return d;
}

nni_dataset *nni_data_columns(nni_memory *m, int64_t rows, int ncols, const nni_column *cols, nni_error *err) {
  return new_columns(&columns_verb, m, rows, ncols, cols, err);
}

/* ---- windows ------------------------------------------------------------------------------------------------------------- */

typedef struct windows_own {
  int64_t length, stride, rate;
} windows_own;

static int windows_params(const nni_dataset *d, char *buf, size_t n) {
  const windows_own *w = d->own;
  return snprintf(buf, n, "%lld %lld %lld %lld", (long long)d->u.columns.rows, (long long)w->length, (long long)w->stride, (long long)w->rate);
}

static void windows_gather(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst) {
  const windows_own *w = d->own;
  for (int c = 0; c < d->u.columns.ncols; c++) {
    const char *src = d->u.columns.cols[c].data;
    char *to = dst[c];
    size_t bytes = row_bytes(&d->u.columns.cols[c]);
    for (int64_t i = 0; i < n; i++) {
      const char *from = src + (size_t)(rows[i] * w->stride) * bytes;
      int64_t pieces = c > 0 ? 1 : w->rate == 1 ? 1 : w->length;
      size_t piece = c == 0 && w->rate == 1 ? (size_t)w->length * bytes : bytes;
      for (int64_t k = 0; k < pieces; k++, to += piece) memcpy(to, from + (size_t)(k * w->rate) * bytes, piece);
    }
  }
}

static const nni_verb windows_verb = {.name = "windows", SOURCE_VERB, .node_bytes = sizeof(windows_own), .params = windows_params,
                                      .cardinality = columns_cardinality, .free = columns_free, .gather = windows_gather};

nni_dataset *nni_data_windows(nni_memory *m, int64_t count, int64_t length, int64_t stride, int64_t rate, int ncols, const nni_column *cols,
                              nni_error *err) {
  if (length < 1 || stride < 1 || rate < 1 || cols[0].ndim >= NN_MAXDIM) {
    nni_fail(err, NN_EINVAL, "timeseries: windows of %lld by %lld, one each %lld; all are 1 or more", (long long)length, (long long)rate,
             (long long)stride);
    return NULL;
  }
  nni_dataset *d = new_columns(&windows_verb, m, count, ncols, cols, err);
  if (d == NULL) return NULL;
  *(windows_own *)d->own = (windows_own){.length = length, .stride = stride, .rate = rate};
  nni_component *c = &d->spec.c[0];
  memmove(c->shape + 1, c->shape, (size_t)c->ndim * sizeof *c->shape);
  c->shape[0] = length;
  c->ndim++;
  return d;
}

/* ---- ranges -------------------------------------------------------------------------------------------------------------- */

static int64_t range_cardinality(const nni_dataset *d) { return d->u.range.count; }

static int range_params(const nni_dataset *d, char *buf, size_t n) {
  return snprintf(buf, n, "%lld %lld %lld", (long long)d->u.range.first, (long long)d->u.range.step, (long long)d->u.range.count);
}

static void range_gather(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst) {
  int64_t *to = dst[0];
  for (int64_t i = 0; i < n; i++) to[i] = d->u.range.first + rows[i] * d->u.range.step;
}

static const nni_verb range_verb = {.name = "range", SOURCE_VERB, .params = range_params, .cardinality = range_cardinality,
                                    .gather = range_gather};

nni_dataset *nni_data_range(nni_memory *m, int64_t first, int64_t step, int64_t count, nni_error *err) {
  int64_t last;
  if (count < 0 || (count > 0 && (__builtin_mul_overflow(count - 1, step, &last) || __builtin_add_overflow(first, last, &last)))) {
    nni_fail(err, NN_EINVAL, "range: %lld numbers from %lld by %lld do not fit i64", (long long)count, (long long)first, (long long)step);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(m, &range_verb, NULL, err);
  if (d == NULL) return NULL;
  d->source = d;
  d->spec.n = 1;
  d->spec.c[0] = (nni_component){.dtype = NN_I64};
  d->u.range.first = first;
  d->u.range.step = step;
  d->u.range.count = count;
  return d;
}
