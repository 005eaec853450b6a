/* data/pieces.c - verbs that cut batches up and put elements together: unbatch, window, padded_batch, bucket. */
#include <stdio.h>
#include "dataset.h"

#define BUCKETS_MOST 1024

/* ---- elements put together ---------------------------------------------------------------------------------------------------- */

/* src into a corner of dst; shapes of ndim dims, inner dims first to differ. */
static void copy_corner(char *dst, const int64_t *to, const char *src, const int64_t *from, int ndim, size_t elem) {
  int64_t rows = ndim > 0 ? from[0] : 1;
  size_t dst_row = elem, src_row = elem;
  for (int i = 1; i < ndim; i++) {
    dst_row *= (size_t)to[i];
    src_row *= (size_t)from[i];
  }
  if (ndim < 2 || dst_row == src_row) {
    memcpy(dst, src, (size_t)rows * src_row);
    return;
  }
  for (int64_t i = 0; i < rows; i++) copy_corner(dst + (size_t)i * dst_row, to + 1, src + (size_t)i * src_row, from + 1, ndim - 1, elem);
}

/* Component i of the result: shape and buffer. */
static nn_status stack_room(nni_memory *m, const char *name, const nni_element *list, int64_t n, int i, bool pad, double value, nni_component *to,
                            nni_error *err) {
  const nni_component *first = &list[0].c[i];
  int64_t count;
  size_t elem = nn_dtype_size(first->dtype);
  bool differ = false;
  if (first->ndim + 1 > NN_MAXDIM) return nni_fail(err, NN_ESHAPE, "%s: elements have %d dims already", name, first->ndim);
  *to = (nni_component){.dtype = first->dtype, .ndim = first->ndim + 1, .shape = {n}};
  memcpy(to->shape + 1, first->shape, (size_t)first->ndim * sizeof *first->shape);
  for (int64_t k = 1; k < n; k++) {
    const nni_component *c = &list[k].c[i];
    bool fits = pad && c->dtype == first->dtype && c->ndim == first->ndim;
    if (nni_component_alike(c, first)) continue;
    if (!fits)
      return nni_fail(err, NN_ESHAPE, "%s: value %d of element %lld of a batch has another %s (%s) than the first (%s)", name, i + 1, (long long)k + 1,
                      pad ? "number of dims or dtype" : "shape or dtype", nn_dtype_name(c->dtype), nn_dtype_name(first->dtype));
    differ = true;
    for (int j = 0; j < c->ndim; j++)
      if (c->shape[j] > to->shape[j + 1]) to->shape[j + 1] = c->shape[j];
  }
  bool fits = nni_size_mul(to->shape, to->ndim, elem, &count);
  to->bytes = fits ? (size_t)count * elem : 0;
  to->buffer = fits ? nni_buffer_get(m, to->bytes) : NULL;
  if (to->buffer == NULL) return nni_fail(err, NN_ENOMEM, "%s: out of memory for a batch of %lld", name, (long long)n);
  for (int64_t k = 0; differ && k < count; k++) nn_element_write(to->dtype, (char *)to->buffer + (size_t)k * elem, value, (int64_t)value);
  return NN_OK;
}

/* Elements [0, n) as one with a new first dim, in fresh buffers. pad: shapes may differ, and all are filled up with value to the largest. */
static nn_status stack_elements(nni_memory *m, const char *name, const nni_element *list, int64_t n, bool pad, double value, nni_element *out, nni_error *err) {
  nn_status rc = NN_OK;
  out->n = 0;
  for (int64_t k = 1; k < n; k++)
    if (list[k].n != list[0].n)
      return nni_fail(err, NN_ESHAPE, "%s: element %lld of a batch has %d values, the first has %d", name, (long long)k + 1, list[k].n, list[0].n);
  for (int i = 0; i < list[0].n && rc == NN_OK; i++) {
    nni_component *to = &out->c[i];
    rc = stack_room(m, name, list, n, i, pad, value, to, err);
    if (rc != NN_OK) break;
    out->n = i + 1;
    for (int64_t k = 0; k < n && rc == NN_OK; k++) {
      const void *data;
      rc = nni_element_data(&list[k].c[i], &data, err);
      if (rc == NN_OK)
        copy_corner((char *)to->buffer + (size_t)k * (to->bytes / (size_t)n), to->shape + 1, data, list[k].c[i].shape, to->ndim - 1,
                    nn_dtype_size(to->dtype));
    }
  }
  if (rc != NN_OK) nni_element_free(m, out);
  return rc;
}

/* Elements that wait, in an array that grows. */
typedef struct heap {
  nni_element *e;
  int64_t n, cap;
} heap;

static nn_status heap_add(nni_memory *m, heap *h, nni_element *e, nni_error *err) {
  if (h->n == h->cap) {
    int64_t cap = h->cap == 0 ? 8 : 2 * h->cap;
    void *p = (uint64_t)cap < SIZE_MAX / sizeof *h->e ? nni_realloc(m, h->e, (size_t)h->cap * sizeof *h->e, (size_t)cap * sizeof *h->e) : NULL;
    if (p == NULL) {
      nni_element_free(m, e);
      return nni_fail(err, NN_ENOMEM, "data set: out of memory for %lld elements", (long long)cap);
    }
    h->e = p;
    h->cap = cap;
  }
  h->e[h->n++] = *e;
  return NN_OK;
}

static void heap_drop(nni_memory *m, heap *h, int64_t n) { /* the first n */
  if (n == 0) return;
  for (int64_t i = 0; i < n; i++) nni_element_free(m, &h->e[i]);
  memmove(h->e, h->e + n, (size_t)(h->n - n) * sizeof *h->e);
  h->n -= n;
}

static void heap_free(nni_memory *m, heap *h) {
  heap_drop(m, h, h->n);
  nni_free(m, h->e, (size_t)h->cap * sizeof *h->e);
}

static int64_t unknown_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n == 0 ? 0 : n == NN_INFINITE ? n : NN_UNKNOWN;
}

/* d's elements get a first dim of n (-1: varies), and so may the dims after it. */
static nni_dataset *lead_spec(nni_dataset *d, int64_t n, bool vary) {
  for (int i = 0; i < d->spec.n; i++) {
    nni_component *c = &d->spec.c[i];
    memmove(c->shape + 1, c->shape, sizeof c->shape - sizeof c->shape[0]);
    c->shape[0] = n;
    c->ndim++;
    for (int k = 1; vary && k < c->ndim; k++) c->shape[k] = -1;
  }
  return d;
}

static bool room_for_lead(const char *name, const nni_dataset *up, nni_error *err) {
  for (int i = 0; i < up->spec.n; i++) {
    if (up->spec.c[i].ndim < NN_MAXDIM) continue;
    nni_fail(err, NN_ESHAPE, "%s: elements have %d dims already", name, up->spec.c[i].ndim);
    return false;
  }
  return true;
}

/* ---- unbatch -------------------------------------------------------------------------------------------------------------------- */

typedef struct unbatch_stage {
  nni_stage s;
  nni_element held;  /* n == 0: nothing */
  int64_t at;        /* its rows that were given */
  int64_t *before;   /* state of the stages before it, before `held` */
} unbatch_stage;

static nn_status unbatch_open(nni_stage *s, nni_error *err) {
  unbatch_stage *t = (unbatch_stage *)s;
  t->before = nni_calloc(s->d->m, (size_t)nni_words_before(s->d) * sizeof *t->before);
  return t->before != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "unbatch: out of memory");
}

static void unbatch_reset(nni_stage *s) {
  unbatch_stage *t = (unbatch_stage *)s;
  nni_element_free(s->d->m, &t->held);
  t->at = 0;
}

static void unbatch_close(nni_stage *s) {
  unbatch_stage *t = (unbatch_stage *)s;
  nni_element_free(s->d->m, &t->held);
  nni_free(s->d->m, t->before, (size_t)nni_words_before(s->d) * sizeof *t->before);
}

static nn_status unbatch_pull(unbatch_stage *t, void *caller, nni_error *err) {
  nni_stage_save_ups(&t->s, t->before);
  t->at = 0;
  nn_status rc = nni_stage_pull(t->s.up, caller, &t->held, err);
  for (int i = 0; rc == NN_OK && i < t->held.n; i++) {
    const nni_component *c = &t->held.c[i];
    if (c->ndim < 1) rc = nni_fail(err, NN_ESHAPE, "unbatch: value %d of an element is a scalar; there is nothing to take apart", i + 1);
    else if (t->held.c[0].ndim > 0 && c->shape[0] != t->held.c[0].shape[0])
      rc = nni_fail(err, NN_ESHAPE, "unbatch: value %d of an element has %lld rows, the first has %lld", i + 1, (long long)c->shape[0],
                    (long long)t->held.c[0].shape[0]);
  }
  if (rc != NN_OK) nni_element_free(t->s.d->m, &t->held);
  return rc;
}

static nn_status unbatch_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  unbatch_stage *t = (unbatch_stage *)s;
  nni_memory *m = s->d->m;
  while (t->held.n == 0 || t->at == t->held.c[0].shape[0]) {
    nni_element_free(m, &t->held);
    nn_status rc = unbatch_pull(t, caller, err);
    if (rc != NN_OK || t->held.n == 0) return rc;
  }
  for (int i = 0; i < t->held.n; i++) {
    const nni_component *from = &t->held.c[i];
    nni_component *to = &out->c[i];
    const void *data;
    nn_status rc = nni_element_data(from, &data, err);
    size_t bytes = nn_dtype_size(from->dtype);
    for (int k = 1; k < from->ndim; k++) bytes *= (size_t)from->shape[k];
    *to = (nni_component){.dtype = from->dtype, .ndim = from->ndim - 1, .bytes = bytes};
    memcpy(to->shape, from->shape + 1, (size_t)to->ndim * sizeof *to->shape);
    to->buffer = rc == NN_OK ? nni_buffer_get(m, bytes) : NULL;
    if (to->buffer == NULL) {
      nni_element_free(m, out);
      return rc != NN_OK ? rc : nni_fail(err, NN_ENOMEM, "unbatch: out of memory");
    }
    memcpy(to->buffer, (const char *)data + (size_t)t->at * bytes, bytes);
    out->n = i + 1;
  }
  t->at++;
  return NN_OK;
}

static void unbatch_save_up(const nni_stage *s, int64_t *words) {
  const unbatch_stage *t = (const unbatch_stage *)s;
  if (t->held.n == 0) nni_stage_save_ups(s, words);
  else memcpy(words, t->before, (size_t)nni_words_before(s->d) * sizeof *words);
}

static void unbatch_save(const nni_stage *s, int64_t *words) {
  const unbatch_stage *t = (const unbatch_stage *)s;
  words[0] = t->held.n > 0 ? t->at : -1;
}

static nn_status unbatch_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  unbatch_stage *t = (unbatch_stage *)s;
  unbatch_reset(s);
  if (words[0] < 0) return NN_OK;
  nn_status rc = unbatch_pull(t, caller, err);
  if (rc == NN_OK && (t->held.n == 0 || words[0] > t->held.c[0].shape[0]))
    rc = nni_fail(err, NN_EFORMAT, "unbatch: the state stands at row %lld of a batch that has fewer", (long long)words[0]);
  t->at = words[0];
  return rc;
}

static const nni_verb unbatch_verb = {.name = "unbatch", .stage_bytes = sizeof(unbatch_stage), .words = 1, .cardinality = unknown_cardinality,
  .open = unbatch_open, .next = unbatch_next, .reset = unbatch_reset, .close = unbatch_close, .save = unbatch_save,
  .save_up = unbatch_save_up, .restore = unbatch_restore};

nni_dataset *nni_data_unbatch(nni_dataset *up, nni_error *err) {
  for (int i = 0; i < up->spec.n; i++) {
    if (up->spec.c[i].ndim > 0) continue;
    nni_fail(err, NN_ESHAPE, "unbatch: value %d of an element is a scalar; there is nothing to take apart", i + 1);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(up->m, &unbatch_verb, up, err);
  for (int i = 0; d != NULL && i < d->spec.n; i++) {
    nni_component *c = &d->spec.c[i];
    memmove(c->shape, c->shape + 1, sizeof c->shape - sizeof c->shape[0]);
    c->ndim--;
  }
  return d;
}

/* ---- window --------------------------------------------------------------------------------------------------------------------- */

typedef struct window_own {
  int64_t size, shift, stride, span; /* span: elements from the first to the last of a window */
  bool drop_last;
} window_own;

typedef struct window_stage {
  nni_stage s;
  heap elements;    /* over elements: those from the begin of the next window on */
  int64_t *rows;    /* over rows */
  int64_t n, owed;  /* rows there; elements to drop before the next window */
  bool up_end;
} window_stage;

static nn_status window_open(nni_stage *s, nni_error *err) {
  window_stage *t = (window_stage *)s;
  const window_own *o = s->d->own;
  if (s->up->d->source == NULL) return NN_OK;
  t->rows = (uint64_t)o->span < SIZE_MAX / 16 ? nni_malloc(s->d->m, (size_t)(o->span + o->size) * sizeof *t->rows) : NULL; /* and those picked */
  return t->rows != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "window: out of memory for %lld rows", (long long)o->span);
}

static void window_reset(nni_stage *s) {
  window_stage *t = (window_stage *)s;
  heap_drop(s->d->m, &t->elements, t->elements.n);
  t->n = t->owed = 0;
  t->up_end = false;
}

static void window_close(nni_stage *s) {
  window_stage *t = (window_stage *)s;
  const window_own *o = s->d->own;
  heap_free(s->d->m, &t->elements);
  nni_free(s->d->m, t->rows, (size_t)(o->span + o->size) * sizeof *t->rows);
}

static nn_status window_fill(window_stage *t, void *caller, nni_error *err) {
  const window_own *o = t->s.d->own;
  nni_stage *up = t->s.up;
  int64_t got;
  nn_status rc = nni_stage_skip(up, caller, t->owed, &got, err);
  t->owed -= got;
  if (rc != NN_OK) return rc;
  if (t->owed > 0) t->up_end = true;
  while (!t->up_end && t->n < o->span) {
    if (t->rows != NULL) {
      rc = up->d->verb->rows(up, t->rows + t->n, o->span - t->n, &got, err);
    } else {
      nni_element e;
      rc = nni_stage_pull(up, caller, &e, err);
      got = rc == NN_OK && e.n > 0;
      if (got > 0) rc = heap_add(t->s.d->m, &t->elements, &e, err);
    }
    if (rc != NN_OK) return rc;
    t->n += got;
    t->up_end = got == 0;
  }
  return NN_OK;
}

static nn_status window_give(window_stage *t, int64_t picked, nni_element *out, nni_error *err) {
  const window_own *o = t->s.d->own;
  nni_memory *m = t->s.d->m;
  if (t->rows != NULL) {
    int64_t *pick = t->rows + o->span;
    for (int64_t i = 0; i < picked; i++) pick[i] = t->rows[i * o->stride];
    return nni_rows_gather(t->s.up->d, pick, picked, true, out, err);
  }
  if (o->stride == 1) return stack_elements(m, "window", t->elements.e, picked, false, 0, out, err);
  nni_element *pick = nni_malloc(m, (size_t)picked * sizeof *pick);
  if (pick == NULL) return nni_fail(err, NN_ENOMEM, "window: out of memory");
  for (int64_t i = 0; i < picked; i++) pick[i] = t->elements.e[i * o->stride];
  nn_status rc = stack_elements(m, "window", pick, picked, false, 0, out, err);
  nni_free(m, pick, (size_t)picked * sizeof *pick);
  return rc;
}

static nn_status window_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  window_stage *t = (window_stage *)s;
  const window_own *o = s->d->own;
  nn_status rc = window_fill(t, caller, err);
  if (rc != NN_OK || t->n == 0 || (t->n < o->span && o->drop_last)) return rc;
  rc = window_give(t, t->n < o->span ? (t->n - 1) / o->stride + 1 : o->size, out, err);
  if (rc != NN_OK) return rc;
  int64_t gone = o->shift < t->n ? o->shift : t->n;
  t->owed = o->shift - gone;
  t->n -= gone;
  if (t->rows != NULL) memmove(t->rows, t->rows + gone, (size_t)t->n * sizeof *t->rows);
  else heap_drop(s->d->m, &t->elements, gone);
  return NN_OK;
}

/* n windows on, from the begin of a pass */
static nn_status window_seek(nni_stage *s, void *caller, int64_t n, nni_error *err) {
  window_stage *t = (window_stage *)s;
  (void)caller, (void)err;
  return __builtin_mul_overflow(n, ((const window_own *)s->d->own)->shift, &t->owed)
    ? nni_fail(err, NN_EFORMAT, "window: the state stands at window %lld", (long long)n) : NN_OK; /* they are skipped when the next is asked for */
}

static int64_t window_cardinality(const nni_dataset *d) {
  const window_own *o = d->own;
  int64_t n = nni_dataset_cardinality(d->up), least = o->drop_last ? o->span : 1;
  return n < 0 ? n : n < least ? 0 : (n - least) / o->shift + 1;
}

static int window_params(const nni_dataset *d, char *buf, size_t n) {
  const window_own *o = d->own;
  return snprintf(buf, n, "%lld %lld %lld%s", (long long)o->size, (long long)o->shift, (long long)o->stride, o->drop_last ? " drop_last" : "");
}

static const nni_verb window_verb = {.name = "window", .replay = true, .words = 1, .stage_bytes = sizeof(window_stage),
  .node_bytes = sizeof(window_own), .params = window_params, .cardinality = window_cardinality, .open = window_open, .next = window_next,
  .seek = window_seek, .reset = window_reset, .close = window_close};

nni_dataset *nni_data_window(nni_dataset *up, int64_t size, int64_t shift, int64_t stride, bool drop_last, nni_error *err) {
  int64_t span;
  if (size < 1 || shift < 1 || stride < 1 || __builtin_mul_overflow(size - 1, stride, &span) || span > INT64_MAX / 32) {
    nni_fail(err, NN_EINVAL, "window: %lld elements by %lld, shifted by %lld", (long long)size, (long long)stride, (long long)shift);
    return NULL;
  }
  nni_dataset *d = room_for_lead("window", up, err) ? nni_dataset_new(up->m, &window_verb, up, err) : NULL;
  if (d == NULL) return NULL;
  *(window_own *)d->own = (window_own){.size = size, .shift = shift, .stride = stride, .span = span + 1, .drop_last = drop_last};
  return lead_spec(d, drop_last ? size : -1, false);
}

/* ---- padded_batch ----------------------------------------------------------------------------------------------------------------- */

typedef struct padded_own {
  int64_t n;
  double value;
  bool drop_last;
} padded_own;

typedef struct padded_stage {
  nni_stage s;
  heap elements;
} padded_stage;

static nn_status padded_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  padded_stage *t = (padded_stage *)s;
  const padded_own *o = s->d->own;
  nn_status rc = NN_OK;
  while (t->elements.n < o->n) {
    nni_element e;
    rc = nni_stage_pull(s->up, caller, &e, err);
    if (rc != NN_OK || e.n == 0) break;
    if ((rc = heap_add(s->d->m, &t->elements, &e, err)) != NN_OK) break;
  }
  if (rc == NN_OK && t->elements.n > 0 && (t->elements.n == o->n || !o->drop_last))
    rc = stack_elements(s->d->m, "padded_batch", t->elements.e, t->elements.n, true, o->value, out, err);
  heap_drop(s->d->m, &t->elements, t->elements.n);
  return rc;
}

static void padded_close(nni_stage *s) { heap_free(s->d->m, &((padded_stage *)s)->elements); }

static int padded_params(const nni_dataset *d, char *buf, size_t n) {
  const padded_own *o = d->own;
  return snprintf(buf, n, "%lld %.9g%s", (long long)o->n, o->value, o->drop_last ? " drop_last" : "");
}

static int64_t padded_cardinality(const nni_dataset *d) {
  const padded_own *o = d->own;
  int64_t n = nni_dataset_cardinality(d->up);
  return n < 0 ? n : n / o->n + (n % o->n != 0 && !o->drop_last);
}

static const nni_verb padded_verb = {.name = "padded_batch", .stage_bytes = sizeof(padded_stage), .node_bytes = sizeof(padded_own),
  .params = padded_params, .cardinality = padded_cardinality, .next = padded_next, .close = padded_close};

nni_dataset *nni_data_padded_batch(nni_dataset *up, int64_t n, double value, bool drop_last, nni_error *err) {
  if (n < 1) {
    nni_fail(err, NN_EINVAL, "padded_batch: batches of %lld; at least 1", (long long)n);
    return NULL;
  }
  nni_dataset *d = room_for_lead("padded_batch", up, err) ? nni_dataset_new(up->m, &padded_verb, up, err) : NULL;
  if (d == NULL) return NULL;
  *(padded_own *)d->own = (padded_own){.n = n, .value = value, .drop_last = drop_last};
  return lead_spec(d, n, up->source == NULL);
}

/* ---- bucket ----------------------------------------------------------------------------------------------------------------------- */

typedef struct bucket_own {
  int which, nbounds;
  int64_t *bounds, *sizes; /* nbounds, nbounds + 1; one allocation */
  double value;
  bool drop_last;
} bucket_own;

typedef struct bucket_stage {
  nni_stage s;
  heap *buckets; /* nbounds + 1 */
  int flushed;   /* at the end: buckets that were emptied */
  bool up_end;
} bucket_stage;

static nn_status bucket_open(nni_stage *s, nni_error *err) {
  bucket_stage *t = (bucket_stage *)s;
  t->buckets = nni_calloc(s->d->m, (size_t)(((const bucket_own *)s->d->own)->nbounds + 1) * sizeof *t->buckets);
  return t->buckets != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "bucket: out of memory");
}

static void bucket_reset(nni_stage *s) {
  bucket_stage *t = (bucket_stage *)s;
  for (int i = 0; i <= ((const bucket_own *)s->d->own)->nbounds; i++) heap_drop(s->d->m, &t->buckets[i], t->buckets[i].n);
  t->flushed = 0;
  t->up_end = false;
}

static void bucket_close(nni_stage *s) {
  bucket_stage *t = (bucket_stage *)s;
  int n = ((const bucket_own *)s->d->own)->nbounds + 1;
  for (int i = 0; t->buckets != NULL && i < n; i++) heap_free(s->d->m, &t->buckets[i]);
  nni_free(s->d->m, t->buckets, (size_t)n * sizeof *t->buckets);
}

static nn_status bucket_give(bucket_stage *t, int i, nni_element *out, nni_error *err) {
  heap *b = &t->buckets[i];
  nn_status rc = stack_elements(t->s.d->m, "bucket", b->e, b->n, true, ((const bucket_own *)t->s.d->own)->value, out, err);
  heap_drop(t->s.d->m, b, b->n);
  return rc;
}

static nn_status bucket_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  bucket_stage *t = (bucket_stage *)s;
  const bucket_own *o = s->d->own;
  while (!t->up_end) {
    nni_element e;
    int i = 0;
    nn_status rc = nni_stage_pull(s->up, caller, &e, err);
    if (rc != NN_OK) return rc;
    t->up_end = e.n == 0;
    if (t->up_end) break;
    if (o->which >= e.n || e.c[o->which].ndim < 1) {
      nni_element_free(s->d->m, &e);
      return nni_fail(err, NN_ESHAPE, "bucket: an element's value %d has no first dim to sort it by", o->which + 1);
    }
    while (i < o->nbounds && e.c[o->which].shape[0] >= o->bounds[i]) i++;
    if ((rc = heap_add(s->d->m, &t->buckets[i], &e, err)) != NN_OK) return rc;
    if (t->buckets[i].n == o->sizes[i]) return bucket_give(t, i, out, err);
  }
  while (t->flushed <= o->nbounds) {
    int i = t->flushed++;
    if (t->buckets[i].n > 0 && !o->drop_last) return bucket_give(t, i, out, err);
  }
  return NN_OK;
}

static int bucket_params(const nni_dataset *d, char *buf, size_t n) {
  const bucket_own *o = d->own;
  int k = snprintf(buf, n, "%d %.9g%s", o->which + 1, o->value, o->drop_last ? " drop_last" : "");
  for (int i = 0; i <= o->nbounds; i++) {
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += i < o->nbounds ? snprintf(buf + at, n - at, " %lld:%lld", (long long)o->bounds[i], (long long)o->sizes[i])
                        : snprintf(buf + at, n - at, " %lld", (long long)o->sizes[i]);
  }
  return k;
}

static void bucket_free(nni_dataset *d) {
  bucket_own *o = d->own;
  nni_free(d->m, o->bounds, (size_t)(2 * o->nbounds + 1) * sizeof *o->bounds);
}

static const nni_verb bucket_verb = {.name = "bucket", .replay = true, .words = 1, .stage_bytes = sizeof(bucket_stage),
  .node_bytes = sizeof(bucket_own), .params = bucket_params, .cardinality = unknown_cardinality, .open = bucket_open, .next = bucket_next,
  .reset = bucket_reset, .close = bucket_close, .free = bucket_free};

nni_dataset *nni_data_bucket(nni_dataset *up, int which, int nbounds, const int64_t *bounds, const int64_t *sizes, double value, bool drop_last,
                             nni_error *err) {
  bool good = which >= 0 && nbounds >= 1 && nbounds < BUCKETS_MOST;
  for (int i = 0; good && i <= nbounds; i++) good = sizes[i] >= 1 && (i == 0 || i == nbounds || bounds[i] > bounds[i - 1]);
  if (!good) {
    nni_fail(err, NN_EINVAL, "bucket: bounds must ascend, there must be a batch size for each bucket (one more than bounds), all at least 1");
    return NULL;
  }
  nni_dataset *d = room_for_lead("bucket", up, err) ? nni_dataset_new(up->m, &bucket_verb, up, err) : NULL;
  int64_t *copy = d != NULL ? nni_malloc(up->m, (size_t)(2 * nbounds + 1) * sizeof *copy) : NULL;
  if (copy == NULL) {
    if (d != NULL) nni_fail(err, NN_ENOMEM, "bucket: out of memory");
    nni_dataset_release(d);
    return NULL;
  }
  memcpy(copy, bounds, (size_t)nbounds * sizeof *copy);
  memcpy(copy + nbounds, sizes, (size_t)(nbounds + 1) * sizeof *copy);
  *(bucket_own *)d->own = (bucket_own){.which = which, .nbounds = nbounds, .bounds = copy, .sizes = copy + nbounds, .value = value,
                                       .drop_last = drop_last};
  return lead_spec(d, -1, true);
}
