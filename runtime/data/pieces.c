/* data/pieces.c - verbs that cut batches up and put elements together: unbatch, window, padded_batch. (By a key: group.c.) */
#include <stdio.h>
#include "dataset.h"

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

/* The shape of component i of n elements put together: of the first, or (pad) the largest in each dim or what pad says. *fill: some are smaller. */
static nn_status stack_shape(const char *name, const nni_element *list, int64_t n, int i, const nn_padding *pad, nni_component *to, bool *fill,
                             nni_error *err) {
  const nni_component *first = &list[0].c[i];
  const bool given = pad != NULL && pad->ndim[i] >= 0;
  if (first->ndim + 1 > NN_MAXDIM) return nni_fail(err, NN_ESHAPE, "%s: elements have %d dims already", name, first->ndim);
  *to = (nni_component){.dtype = first->dtype, .ndim = first->ndim + 1, .shape = {n}};
  memcpy(to->shape + 1, first->shape, (size_t)first->ndim * sizeof *first->shape);
  for (int64_t k = 1; k < n; k++) {
    const nni_component *c = &list[k].c[i];
    if (nni_component_alike(c, first)) continue;
    if (pad == NULL || c->dtype != first->dtype || c->ndim != first->ndim)
      return nni_fail(err, NN_ESHAPE, "%s: value %d of element %lld of a batch has another %s (%s) than the first (%s)", name, i + 1, (long long)k + 1,
                      pad != NULL ? "number of dims or dtype" : "shape or dtype", nn_dtype_name(c->dtype), nn_dtype_name(first->dtype));
    for (int j = 0; j < c->ndim; j++)
      if (c->shape[j] > to->shape[j + 1]) to->shape[j + 1] = c->shape[j];
  }
  if (given && pad->ndim[i] != first->ndim)
    return nni_fail(err, NN_ESHAPE, "%s: value %d of an element has %d dims, the shape for it %d", name, i + 1, first->ndim, pad->ndim[i]);
  for (int j = 0; given && j < first->ndim; j++) {
    if (pad->shape[i][j] < 0) continue;
    if (to->shape[j + 1] > pad->shape[i][j])
      return nni_fail(err, NN_ESHAPE, "%s: dim %d of value %d of an element is %lld, more than the %lld of the shape for it", name, j + 1, i + 1,
                      (long long)to->shape[j + 1], (long long)pad->shape[i][j]);
    to->shape[j + 1] = pad->shape[i][j];
  }
  for (int64_t k = 0; pad != NULL && k < n; k++)
    *fill = *fill || memcmp(list[k].c[i].shape, to->shape + 1, (size_t)first->ndim * sizeof *first->shape) != 0;
  return NN_OK;
}

/* Component i of the result: shape and buffer. */
static nn_status stack_room(nni_memory *m, const char *name, const nni_element *list, int64_t n, int i, const nn_padding *pad, nni_component *to,
                            nni_error *err) {
  int64_t count;
  bool fill = false;
  nn_status rc = stack_shape(name, list, n, i, pad, to, &fill, err);
  if (rc != NN_OK) return rc;
  size_t elem = nn_dtype_size(to->dtype);
  bool fits = nni_size_mul(to->shape, to->ndim, elem, &count);
  to->bytes = fits ? (size_t)count * elem : 0;
  to->buffer = fits ? nni_buffer_get(m, to->bytes) : NULL;
  if (to->buffer == NULL) return nni_fail(err, NN_ENOMEM, "%s: out of memory for a batch of %lld", name, (long long)n);
  for (int64_t k = 0; fill && k < count; k++)
    nn_element_write(to->dtype, (char *)to->buffer + (size_t)k * elem, pad->value[i], (int64_t)pad->value[i]);
  return NN_OK;
}

nn_status nni_elements_stack(nni_memory *m, const char *name, const nni_element *list, int64_t n, const nn_padding *pad, nni_element *out,
                             nni_error *err) {
  nn_status rc = NN_OK;
  out->n = 0;
  for (int64_t k = 1; k < n; k++)
    if (list[k].n != list[0].n)
      return nni_fail(err, NN_ESHAPE, "%s: element %lld of a batch has %d values, the first has %d", name, (long long)k + 1, list[k].n, list[0].n);
  for (int i = 0; i < list[0].n && rc == NN_OK; i++) {
    nni_component *to = &out->c[i];
    rc = stack_room(m, name, list, n, i, pad, to, err);
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

nn_status nni_heap_add(nni_memory *m, nni_heap *h, nni_element *e, nni_error *err) {
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

void nni_heap_drop(nni_memory *m, nni_heap *h, int64_t n) { /* the first n */
  if (n == 0) return;
  for (int64_t i = 0; i < n; i++) nni_element_free(m, &h->e[i]);
  memmove(h->e, h->e + n, (size_t)(h->n - n) * sizeof *h->e);
  h->n -= n;
}

void nni_heap_free(nni_memory *m, nni_heap *h) {
  nni_heap_drop(m, h, h->n);
  nni_free(m, h->e, (size_t)h->cap * sizeof *h->e);
}

/* d's elements get a first dim of n (-1: varies; else the last may have less, unless drop_last). pad: what it gives a shape has that one. */
nni_dataset *nni_lead_spec(nni_dataset *d, int64_t n, bool drop_last, const nn_padding *pad) {
  int64_t all = d->up != NULL ? nni_dataset_cardinality(d->up) : NN_UNKNOWN;
  bool full = n < 0 || drop_last || all == NN_INFINITE || (all >= 0 && all % n == 0);
  for (int i = 0; i < d->spec.n; i++) {
    nni_component *c = &d->spec.c[i];
    for (int k = 0; pad != NULL && pad->ndim[i] == c->ndim && k < c->ndim; k++) {
      if (pad->shape[i][k] < 0) continue;
      c->shape[k] = pad->shape[i][k];
      c->loose &= ~(1u << k);
    }
    memmove(c->shape + 1, c->shape, sizeof c->shape - sizeof c->shape[0]);
    c->shape[0] = n;
    c->ndim++;
    c->loose = c->loose << 1 | !full;
  }
  return d;
}

bool nni_lead_room(const char *name, const nni_dataset *up, nni_error *err) {
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

static const nni_verb unbatch_verb = {.name = "unbatch", .stage_bytes = sizeof(unbatch_stage), .words = 1, .cardinality = nni_up_rows_in,
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
    c->loose >>= 1;
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
  nni_heap elements;    /* over elements: those from the begin of the next window on */
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
  nni_heap_drop(s->d->m, &t->elements, t->elements.n);
  t->n = t->owed = 0;
  t->up_end = false;
}

static void window_close(nni_stage *s) {
  window_stage *t = (window_stage *)s;
  const window_own *o = s->d->own;
  nni_heap_free(s->d->m, &t->elements);
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
      if (got > 0) rc = nni_heap_add(t->s.d->m, &t->elements, &e, err);
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
  if (o->stride == 1) return nni_elements_stack(m, "window", t->elements.e, picked, NULL, out, err);
  nni_element *pick = nni_malloc(m, (size_t)picked * sizeof *pick);
  if (pick == NULL) return nni_fail(err, NN_ENOMEM, "window: out of memory");
  for (int64_t i = 0; i < picked; i++) pick[i] = t->elements.e[i * o->stride];
  nn_status rc = nni_elements_stack(m, "window", pick, picked, NULL, out, err);
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
  else nni_heap_drop(s->d->m, &t->elements, gone);
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
  nni_dataset *d = nni_lead_room("window", up, err) ? nni_dataset_new(up->m, &window_verb, up, err) : NULL;
  if (d == NULL) return NULL;
  *(window_own *)d->own = (window_own){.size = size, .shift = shift, .stride = stride, .span = span + 1, .drop_last = drop_last};
  return nni_lead_spec(d, drop_last ? size : -1, drop_last, NULL);
}

/* ---- padded_batch ----------------------------------------------------------------------------------------------------------------- */

typedef struct padded_own {
  int64_t n;
  nn_padding pad;
  bool drop_last;
} padded_own;

int nni_padding_text(const nn_padding *pad, char *buf, size_t n) {
  int k = 0;
  for (int i = 0; i < NN_DATA_MAX; i++) {
    if (pad->value[i] == pad->value[0] && i > 0 && pad->ndim[i] < 0) continue;
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += snprintf(buf + at, n - at, " %d:%.9g", i + 1, pad->value[i]);
    for (int j = 0; j < pad->ndim[i]; j++) {
      at = (size_t)k < n ? (size_t)k : n;
      k += snprintf(buf + at, n - at, "%c%lld", j == 0 ? ':' : 'x', (long long)pad->shape[i][j]);
    }
  }
  return k;
}

bool nni_padding_fits(const char *name, const nni_dataset *up, const nn_padding *pad, nni_error *err) {
  for (int i = 0; i < up->spec.n; i++) {
    if (pad->ndim[i] < 0 || pad->ndim[i] == up->spec.c[i].ndim) continue;
    nni_fail(err, NN_ESHAPE, "%s: value %d of an element has %d dims, the shape for it %d", name, i + 1, up->spec.c[i].ndim, pad->ndim[i]);
    return false;
  }
  return true;
}

typedef struct padded_stage {
  nni_stage s;
  nni_heap elements;
} padded_stage;

static nn_status padded_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  padded_stage *t = (padded_stage *)s;
  const padded_own *o = s->d->own;
  nn_status rc = NN_OK;
  while (t->elements.n < o->n) {
    nni_element e;
    rc = nni_stage_pull(s->up, caller, &e, err);
    if (rc != NN_OK || e.n == 0) break;
    if ((rc = nni_heap_add(s->d->m, &t->elements, &e, err)) != NN_OK) break;
  }
  if (rc == NN_OK && t->elements.n > 0 && (t->elements.n == o->n || !o->drop_last))
    rc = nni_elements_stack(s->d->m, "padded_batch", t->elements.e, t->elements.n, &o->pad, out, err);
  nni_heap_drop(s->d->m, &t->elements, t->elements.n);
  return rc;
}

static void padded_close(nni_stage *s) { nni_heap_free(s->d->m, &((padded_stage *)s)->elements); }

static int padded_params(const nni_dataset *d, char *buf, size_t n) {
  const padded_own *o = d->own;
  int k = snprintf(buf, n, "%lld%s", (long long)o->n, o->drop_last ? " drop_last" : "");
  size_t at = (size_t)k < n ? (size_t)k : n;
  return k + nni_padding_text(&o->pad, buf + at, n - at);
}

static int64_t padded_rows_in(const nni_dataset *d) {
  const padded_own *o = d->own;
  int64_t n = nni_dataset_cardinality(d->up);
  return n >= 0 && o->drop_last ? n / o->n * o->n : n;
}

static int64_t padded_cardinality(const nni_dataset *d) {
  const padded_own *o = d->own;
  int64_t n = nni_dataset_cardinality(d->up);
  return n < 0 ? n : n / o->n + (n % o->n != 0 && !o->drop_last);
}

static const nni_verb padded_verb = {.name = "padded_batch", .stage_bytes = sizeof(padded_stage), .node_bytes = sizeof(padded_own),
  .params = padded_params, .cardinality = padded_cardinality, .rows_in = padded_rows_in, .next = padded_next, .close = padded_close};

nni_dataset *nni_data_padded_batch(nni_dataset *up, int64_t n, const nn_padding *pad, bool drop_last, nni_error *err) {
  if (n < 1) {
    nni_fail(err, NN_EINVAL, "padded_batch: batches of %lld; at least 1", (long long)n);
    return NULL;
  }
  bool good = nni_lead_room("padded_batch", up, err) && nni_padding_fits("padded_batch", up, pad, err);
  nni_dataset *d = good ? nni_dataset_new(up->m, &padded_verb, up, err) : NULL;
  if (d == NULL) return NULL;
  *(padded_own *)d->own = (padded_own){.n = n, .pad = *pad, .drop_last = drop_last};
  return nni_lead_spec(d, n, drop_last, pad);
}
