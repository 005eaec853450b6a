/* data/verbs.c - take, skip, repeated, shard, enumerate, ignore_errors and batch. */
#include <stdio.h>
#include "dataset.h"

#define SKIP_CHUNK 256     /* rows dropped at a time */
#define IGNORED_MOST 10000 /* failures in a row */

static int n_params(const nni_dataset *d, char *buf, size_t n) { return snprintf(buf, n, "%lld", (long long)d->u.n); }
static int64_t same_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up); }

static nni_dataset *new_counted(const nni_verb *verb, nni_dataset *up, int64_t n, nni_error *err) {
  nni_dataset *d = nni_dataset_new(up->m, verb, up, err);
  if (d != NULL) d->u.n = n;
  return d;
}

/* A stage with one number as its state. */
typedef struct counter_stage {
  nni_stage s;
  int64_t k;
} counter_stage;

static void counter_save(const nni_stage *s, int64_t *words) { words[0] = ((const counter_stage *)s)->k; }

static nn_status counter_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  (void)caller;
  if (words[0] < 0) return nni_fail(err, NN_EFORMAT, "%s: the state has the count %lld", s->d->verb->name, (long long)words[0]);
  ((counter_stage *)s)->k = words[0];
  return NN_OK;
}

static nn_status counter_rewind(nni_stage *s, nni_error *err) {
  ((counter_stage *)s)->k = 0;
  return nni_stage_rewind(s->up, s->pass, err);
}

#define COUNTER_VERB                                                                                                            \
  .stage_bytes = sizeof(counter_stage), .words = 1, .params = n_params, .save = counter_save, .restore = counter_restore, \
  .rewind = counter_rewind

/* ---- take: k elements were given ------------------------------------------------------------------------------------------ */

static int64_t take_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n == NN_UNKNOWN ? NN_UNKNOWN : n == NN_INFINITE || n > d->u.n ? d->u.n : n;
}

static nn_status take_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  int64_t left = s->d->u.n - t->k;
  *got = 0;
  if (left <= 0) return NN_OK;
  nn_status rc = s->up->d->verb->rows(s->up, out, max < left ? max : left, got, err);
  t->k += *got;
  return rc;
}

static nn_status take_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  if (t->k >= s->d->u.n) return NN_OK;
  nn_status rc = nni_stage_pull(s->up, caller, out, err);
  if (out->n > 0) t->k++;
  return rc;
}

static const nni_verb take_verb = {.name = "take", COUNTER_VERB, .cardinality = take_cardinality, .rows = take_rows, .next = take_next};

nni_dataset *nni_data_take(nni_dataset *up, int64_t n, nni_error *err) {
  if (n >= 0) return new_counted(&take_verb, up, n, err);
  nni_fail(err, NN_EINVAL, "take: %lld elements", (long long)n);
  return NULL;
}

/* ---- skip: k elements were dropped ------------------------------------------------------------------------------------------ */

static int64_t skip_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n < 0 ? n : n > d->u.n ? n - d->u.n : 0;
}

static nn_status skip_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  while (t->k < s->d->u.n) {
    int64_t drop[SKIP_CHUNK], left = s->d->u.n - t->k;
    nn_status rc = s->up->d->verb->rows(s->up, drop, left < SKIP_CHUNK ? left : SKIP_CHUNK, got, err);
    if (rc != NN_OK || *got == 0) return rc;
    t->k += *got;
  }
  return s->up->d->verb->rows(s->up, out, max, got, err);
}

static nn_status skip_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  for (;;) {
    nn_status rc = nni_stage_pull(s->up, caller, out, err);
    if (rc != NN_OK || out->n == 0 || t->k >= s->d->u.n) return rc;
    nni_element_free(s->d->m, out);
    t->k++;
  }
}

static const nni_verb skip_verb = {.name = "skip", COUNTER_VERB, .cardinality = skip_cardinality, .rows = skip_rows, .next = skip_next};

nni_dataset *nni_data_skip(nni_dataset *up, int64_t n, nni_error *err) {
  if (n >= 0) return new_counted(&skip_verb, up, n, err);
  nni_fail(err, NN_EINVAL, "skip: %lld elements", (long long)n);
  return NULL;
}

/* ---- repeated -------------------------------------------------------------------------------------------------------------- */

typedef struct repeated_stage {
  nni_stage s;
  int64_t k;  /* repetitions that ended */
  bool empty; /* nothing has come yet in this one */
} repeated_stage;

static int64_t times(int64_t n, int64_t repetitions) {
  int64_t all;
  if (n == 0 || repetitions == 0) return 0;
  if (n == NN_UNKNOWN) return NN_UNKNOWN;
  if (n == NN_INFINITE || repetitions < 0) return NN_INFINITE;
  return __builtin_mul_overflow(n, repetitions, &all) ? INT64_MAX : all;
}

static int64_t repeated_rows_in(const nni_dataset *d) { return times(nni_dataset_rows_in(d->up), d->u.n); }
static int64_t repeated_cardinality(const nni_dataset *d) { return times(nni_dataset_cardinality(d->up), d->u.n); }

static nn_status repeated_open(nni_stage *s, nni_error *err) {
  (void)err;
  ((repeated_stage *)s)->empty = true;
  return NN_OK;
}

/* The pass before it has ended: begin the next. *more is false after the last, and when one gave nothing at all (it would go on for ever). */
static nn_status repeated_advance(repeated_stage *t, bool *more, nni_error *err) {
  int64_t times = t->s.d->u.n;
  *more = !t->empty && (times < 0 || t->k + 1 < times);
  if (!*more) return NN_OK;
  t->k++;
  t->empty = true;
  return nni_stage_rewind(t->s.up, nni_pass_number(t->s.pass, t->k), err);
}

static nn_status repeated_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  repeated_stage *t = (repeated_stage *)s;
  bool more = s->d->u.n != 0;
  *got = 0;
  while (more) {
    nn_status rc = s->up->d->verb->rows(s->up, out, max, got, err);
    if (*got > 0) t->empty = false;
    if (rc != NN_OK || *got > 0) return rc;
    if ((rc = repeated_advance(t, &more, err)) != NN_OK) return rc;
  }
  return NN_OK;
}

static nn_status repeated_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  repeated_stage *t = (repeated_stage *)s;
  bool more = s->d->u.n != 0;
  while (more) {
    nn_status rc = nni_stage_pull(s->up, caller, out, err);
    if (out->n > 0) t->empty = false;
    if (rc != NN_OK || out->n > 0) return rc;
    if ((rc = repeated_advance(t, &more, err)) != NN_OK) return rc;
  }
  return NN_OK;
}

static nn_status repeated_rewind(nni_stage *s, nni_error *err) {
  repeated_stage *t = (repeated_stage *)s;
  t->k = 0;
  t->empty = true;
  return nni_stage_rewind(s->up, s->pass, err);
}

static void repeated_save(const nni_stage *s, int64_t *words) {
  const repeated_stage *t = (const repeated_stage *)s;
  words[0] = t->k;
  words[1] = t->empty;
  words[2] = (int64_t)s->pass;
}

static nn_status repeated_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  repeated_stage *t = (repeated_stage *)s;
  (void)caller;
  if (words[0] < 0) return nni_fail(err, NN_EFORMAT, "repeated: the state has the count %lld", (long long)words[0]);
  t->k = words[0];
  t->empty = words[1] != 0;
  s->pass = (uint64_t)words[2];
  return NN_OK;
}

static const nni_verb repeated_verb = {.name = "repeated", .stage_bytes = sizeof(repeated_stage), .words = 3, .params = n_params,
  .cardinality = repeated_cardinality, .rows_in = repeated_rows_in,
  .open = repeated_open, .rows = repeated_rows, .next = repeated_next, .rewind = repeated_rewind,
  .save = repeated_save, .restore = repeated_restore};

nni_dataset *nni_data_repeated(nni_dataset *up, int64_t times, nni_error *err) {
  return new_counted(&repeated_verb, up, times < 0 ? -1 : times, err);
}

/* ---- shard: k elements of the stage before it were seen ---------------------------------------------------------------------- */

typedef struct shard_own {
  int64_t n, index; /* elements index, index + n, ... */
} shard_own;

static int shard_params(const nni_dataset *d, char *buf, size_t n) {
  const shard_own *o = d->own;
  return snprintf(buf, n, "%lld %lld", (long long)o->n, (long long)o->index);
}

static int64_t shard_cardinality(const nni_dataset *d) {
  const shard_own *o = d->own;
  int64_t n = nni_dataset_cardinality(d->up);
  return n < 0 ? n : n > o->index ? (n - o->index - 1) / o->n + 1 : 0;
}

static nn_status shard_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  const shard_own *o = s->d->own;
  int64_t kept = 0;
  nn_status rc;
  do {
    rc = s->up->d->verb->rows(s->up, out, max, got, err);
    for (int64_t i = 0; i < *got; i++, t->k++)
      if (t->k % o->n == o->index) out[kept++] = out[i];
  } while (rc == NN_OK && *got > 0 && kept == 0);
  *got = kept;
  return rc;
}

static nn_status shard_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  const shard_own *o = s->d->own;
  for (;;) {
    nn_status rc = nni_stage_pull(s->up, caller, out, err);
    if (rc != NN_OK || out->n == 0 || t->k++ % o->n == o->index) return rc;
    nni_element_free(s->d->m, out);
  }
}

static const nni_verb shard_verb = {.name = "shard", .stage_bytes = sizeof(counter_stage), .node_bytes = sizeof(shard_own), .words = 1,
  .params = shard_params, .cardinality = shard_cardinality, .rows = shard_rows, .next = shard_next, .save = counter_save,
  .restore = counter_restore, .rewind = counter_rewind};

nni_dataset *nni_data_shard(nni_dataset *up, int64_t n, int64_t index, nni_error *err) {
  if (n < 1 || index < 0 || index >= n) {
    nni_fail(err, NN_EINVAL, "shard: part %lld of %lld", (long long)index + 1, (long long)n);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(up->m, &shard_verb, up, err);
  if (d != NULL) *(shard_own *)d->own = (shard_own){.n = n, .index = index};
  return d;
}

/* ---- enumerate: k elements were given ---------------------------------------------------------------------------------------- */

static nn_status enumerate_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  counter_stage *t = (counter_stage *)s;
  nn_status rc = nni_stage_pull(s->up, caller, out, err);
  if (rc != NN_OK || out->n == 0) return rc;
  int64_t *number = out->n < NN_DATA_MAX ? nni_buffer_get(s->d->m, sizeof *number) : NULL;
  if (number == NULL) {
    rc = out->n == NN_DATA_MAX ? nni_fail(err, NN_ESHAPE, "enumerate: elements have %d tensors already", NN_DATA_MAX)
                               : nni_fail(err, NN_ENOMEM, "enumerate: out of memory");
    nni_element_free(s->d->m, out);
    return rc;
  }
  *number = s->d->u.n + t->k++;
  memmove(out->c + 1, out->c, (size_t)out->n++ * sizeof *out->c);
  out->c[0] = (nni_component){.dtype = NN_I64, .buffer = number, .bytes = sizeof *number};
  return NN_OK;
}

static const nni_verb enumerate_verb = {.name = "enumerate", COUNTER_VERB, .cardinality = same_cardinality, .next = enumerate_next};

nni_dataset *nni_data_enumerate(nni_dataset *up, int64_t first, nni_error *err) {
  if (up->spec.n == NN_DATA_MAX) {
    nni_fail(err, NN_ESHAPE, "enumerate: elements have %d tensors already", NN_DATA_MAX);
    return NULL;
  }
  nni_dataset *d = new_counted(&enumerate_verb, up, first, err);
  if (d == NULL || d->spec.n < 0) return d;
  memmove(d->spec.c + 1, d->spec.c, (size_t)d->spec.n++ * sizeof *d->spec.c);
  d->spec.c[0] = (nni_component){.dtype = NN_I64};
  return d;
}

/* ---- ignore_errors ------------------------------------------------------------------------------------------------------------ */

static int64_t unknown_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n == 0 || n == NN_INFINITE ? n : NN_UNKNOWN;
}

/* What fails again and again will not get better, and running out of memory is no property of an element. */
static nn_status ignore_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  nn_status rc = NN_OK;
  for (int tries = 0; tries < IGNORED_MOST; tries++) {
    rc = nni_stage_pull(s->up, caller, out, err);
    if (rc == NN_OK || rc == NN_ENOMEM) return rc;
  }
  return rc;
}

static const nni_verb ignore_verb = {.name = "ignore_errors", .stage_bytes = sizeof(nni_stage), .cardinality = unknown_cardinality,
                                     .next = ignore_next};

nni_dataset *nni_data_ignore_errors(nni_dataset *up, nni_error *err) { return nni_dataset_new(up->m, &ignore_verb, up, err); }

/* ---- batch ------------------------------------------------------------------------------------------------------------------- */

typedef struct batch_stage {
  nni_stage s;
  int64_t *rows; /* over rows: those of one batch */
  int64_t cap;
} batch_stage;

static int batch_params(const nni_dataset *d, char *buf, size_t n) {
  return snprintf(buf, n, "%lld%s", (long long)d->u.batch.n, d->u.batch.drop_last ? " drop_last" : "");
}

static int64_t batch_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up), size = d->u.batch.n;
  return n < 0 ? n : n / size + (n % size != 0 && !d->u.batch.drop_last);
}

static int64_t batch_rows_in(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n >= 0 && d->u.batch.drop_last ? n / d->u.batch.n * d->u.batch.n : n;
}

static nn_status batch_open(nni_stage *s, nni_error *err) {
  batch_stage *t = (batch_stage *)s;
  if (s->up->d->source == NULL) return NN_OK;
  int64_t n = nni_dataset_cardinality(s->up->d);
  int64_t cap = n >= 0 && n < s->d->u.batch.n ? n + 1 : s->d->u.batch.n;
  t->rows = (uint64_t)cap < SIZE_MAX / sizeof *t->rows ? nni_malloc(s->d->m, (size_t)cap * sizeof *t->rows) : NULL;
  if (t->rows == NULL) return nni_fail(err, NN_ENOMEM, "batch: out of memory for batches of %lld", (long long)s->d->u.batch.n);
  t->cap = cap;
  return NN_OK;
}

static void batch_close(nni_stage *s) {
  batch_stage *t = (batch_stage *)s;
  nni_free(s->d->m, t->rows, (size_t)t->cap * sizeof *t->rows);
}

static nn_status batch_rows(batch_stage *t, nni_element *out, nni_error *err) {
  nni_stage *up = t->s.up;
  int64_t n = 0, got;
  while (n < t->cap) {
    nn_status rc = up->d->verb->rows(up, t->rows + n, t->cap - n, &got, err);
    if (rc != NN_OK) return rc;
    if (got == 0) break;
    n += got;
  }
  if (n == 0 || (n < t->s.d->u.batch.n && t->s.d->u.batch.drop_last)) return NN_OK;
  return nni_rows_gather(up->d, t->rows, n, true, out, err);
}

/* Make room for `cap` elements like e in out, of which `used` bytes per component are kept. */
static nn_status batch_room(nni_memory *m, const nni_element *e, nni_element *out, int64_t cap, int64_t used, nni_error *err) {
  for (int i = 0; i < e->n; i++) {
    nni_component *to = &out->c[i];
    int64_t count;
    size_t elem = nn_dtype_size(e->c[i].dtype);
    void *buffer = NULL;
    size_t bytes = 0, keep = 0;
    int64_t shape[NN_MAXDIM];
    memcpy(shape + 1, e->c[i].shape, sizeof shape - sizeof shape[0]);
    shape[0] = cap;
    if (nni_size_mul(shape, e->c[i].ndim + 1, elem, &count)) {
      bytes = (size_t)count * elem;
      keep = cap > 0 ? bytes / (size_t)cap * (size_t)used : 0;
      buffer = nni_buffer_get(m, bytes);
    }
    if (buffer == NULL) return nni_fail(err, NN_ENOMEM, "batch: out of memory for %lld elements", (long long)cap);
    if (i < out->n) {
      memcpy(buffer, to->buffer, keep);
      nni_buffer_put(m, to->buffer, to->bytes);
    } else {
      out->n = i + 1;
    }
    *to = (nni_component){.dtype = e->c[i].dtype, .ndim = e->c[i].ndim + 1, .buffer = buffer, .bytes = bytes};
    memcpy(to->shape, shape, sizeof shape);
  }
  return NN_OK;
}

static nn_status batch_add(const nni_element *e, nni_element *out, int64_t at, nni_error *err) {
  if (e->n != out->n)
    return nni_fail(err, NN_ESHAPE, "batch: element %lld has %d values, the first had %d", (long long)at + 1, e->n, out->n);
  for (int i = 0; i < e->n; i++) {
    const nni_component *c = &e->c[i];
    nni_component *to = &out->c[i];
    const void *data;
    if (c->dtype != to->dtype || c->ndim + 1 != to->ndim || memcmp(c->shape, to->shape + 1, (size_t)c->ndim * sizeof *c->shape) != 0)
      return nni_fail(err, NN_ESHAPE, "batch: value %d of element %lld has another shape or dtype (%s) than the first (%s)", i + 1,
                      (long long)at + 1, nn_dtype_name(c->dtype), nn_dtype_name(to->dtype));
    nn_status rc = nni_element_data(c, &data, err);
    if (rc != NN_OK) return rc;
    size_t bytes = to->bytes / (size_t)to->shape[0];
    memcpy((char *)to->buffer + (size_t)at * bytes, data, bytes);
  }
  return NN_OK;
}

static nn_status batch_elements(batch_stage *t, void *caller, nni_element *out, nni_error *err) {
  int64_t size = t->s.d->u.batch.n, n = 0, cap = size < 1024 ? size : 1024;
  nni_memory *m = t->s.d->m;
  nni_element e, like;
  nn_status rc = NN_OK;
  for (; n < size; n++) {
    rc = nni_stage_pull(t->s.up, caller, &e, err);
    if (rc != NN_OK || e.n == 0) break;
    if (n == 0) like = e;
    if (n == cap) cap = cap < size / 2 ? 2 * cap : size;
    for (int i = 0; i < e.n && rc == NN_OK; i++)
      if (e.c[i].ndim + 1 > NN_MAXDIM) rc = nni_fail(err, NN_ESHAPE, "batch: elements have %d dims already", e.c[i].ndim);
    if (rc == NN_OK && (n == 0 || cap > out->c[0].shape[0])) rc = batch_room(m, &like, out, cap, n, err);
    if (rc == NN_OK) rc = batch_add(&e, out, n, err);
    nni_element_free(m, &e);
    if (rc != NN_OK) break;
  }
  if (rc == NN_OK && n > 0 && n < size && t->s.d->u.batch.drop_last) nni_element_free(m, out);
  else if (rc == NN_OK && n > 0 && n < cap) rc = batch_room(m, &like, out, n, n, err);
  if (rc != NN_OK) nni_element_free(m, out);
  return rc;
}

static nn_status batch_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  batch_stage *t = (batch_stage *)s;
  return t->rows != NULL ? batch_rows(t, out, err) : batch_elements(t, caller, out, err);
}

static const nni_verb batch_verb = {.name = "batch", .stage_bytes = sizeof(batch_stage), .params = batch_params,
  .cardinality = batch_cardinality, .rows_in = batch_rows_in, .open = batch_open, .next = batch_next, .close = batch_close};

nni_dataset *nni_data_batch(nni_dataset *up, int64_t n, bool drop_last, nni_error *err) {
  if (n < 1) {
    nni_fail(err, NN_EINVAL, "batch: batches of %lld; at least 1", (long long)n);
    return NULL;
  }
  nni_dataset *d = nni_lead_room("batch", up, err) ? nni_dataset_new(up->m, &batch_verb, up, err) : NULL;
  if (d == NULL) return NULL;
  d->gathered = up->source != NULL;
  d->u.batch.n = n;
  d->u.batch.drop_last = drop_last;
  return nni_lead_spec(d, n, drop_last, NULL);
}
