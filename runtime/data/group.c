/* data/group.c - verbs that gather elements by a number: bucket (by length, into padded batches) and group (by a key, into data sets of their own).
**
** Both hold elements of several groups at a time, so their state is a replay (dataset.h). What a key function is: nni_key.
*/
#include <stdio.h>
#include "dataset.h"

#define BUCKETS_MOST 1024

static int64_t unknown_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n == 0 ? 0 : n == NN_INFINITE ? n : NN_UNKNOWN;
}

static void key_free(nni_memory *m, const nni_key *k) { nni_free(m, k->ud_bytes > 0 ? k->ud : NULL, k->ud_bytes); }

/* ---- bucket ----------------------------------------------------------------------------------------------------------------------- */

typedef struct bucket_own {
  nni_key by; /* or, without fn, */
  int which;  /* component whose first dim is the length */
  int nbounds;
  int64_t *bounds, *sizes; /* nbounds, nbounds + 1; one allocation */
  nn_padding pad;
  bool drop_last;
} bucket_own;

typedef struct bucket_stage {
  nni_stage s;
  nni_heap *buckets; /* nbounds + 1 */
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
  for (int i = 0; i <= ((const bucket_own *)s->d->own)->nbounds; i++) nni_heap_drop(s->d->m, &t->buckets[i], t->buckets[i].n);
  t->flushed = 0;
  t->up_end = false;
}

static void bucket_close(nni_stage *s) {
  bucket_stage *t = (bucket_stage *)s;
  int n = ((const bucket_own *)s->d->own)->nbounds + 1;
  for (int i = 0; t->buckets != NULL && i < n; i++) nni_heap_free(s->d->m, &t->buckets[i]);
  nni_free(s->d->m, t->buckets, (size_t)n * sizeof *t->buckets);
}

static nn_status bucket_give(bucket_stage *t, int i, nni_element *out, nni_error *err) {
  nni_heap *b = &t->buckets[i];
  nn_status rc = nni_elements_stack(t->s.d->m, "bucket", b->e, b->n, &((const bucket_own *)t->s.d->own)->pad, out, err);
  nni_heap_drop(t->s.d->m, b, b->n);
  return rc;
}

static nn_status bucket_length(const bucket_own *o, void *caller, nni_element *e, int64_t *length, nni_error *err) {
  int64_t size = 0;
  if (o->by.fn != NULL) return o->by.fn(caller, o->by.ud, e, length, &size, err);
  if (o->which >= e->n || e->c[o->which].ndim < 1)
    return nni_fail(err, NN_ESHAPE, "bucket: an element's value %d has no first dim to sort it by", o->which + 1);
  *length = e->c[o->which].shape[0];
  return NN_OK;
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
    int64_t length = 0;
    if ((rc = bucket_length(o, caller, &e, &length, err)) != NN_OK) {
      nni_element_free(s->d->m, &e);
      return rc;
    }
    while (i < o->nbounds && length >= o->bounds[i]) i++;
    if ((rc = nni_heap_add(s->d->m, &t->buckets[i], &e, err)) != NN_OK) return rc;
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
  int k = o->by.fn != NULL ? snprintf(buf, n, "function") : snprintf(buf, n, "%d", o->which + 1);
  size_t from = (size_t)k < n ? (size_t)k : n;
  k += nni_padding_text(&o->pad, buf + from, n - from);
  if (o->drop_last && (size_t)k < n) k += snprintf(buf + k, n - (size_t)k, " drop_last");
  for (int i = 0; i <= o->nbounds; i++) {
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += i < o->nbounds ? snprintf(buf + at, n - at, " %lld:%lld", (long long)o->bounds[i], (long long)o->sizes[i])
                        : snprintf(buf + at, n - at, " %lld", (long long)o->sizes[i]);
  }
  return k;
}

static void bucket_free(nni_dataset *d) {
  bucket_own *o = d->own;
  key_free(d->m, &o->by);
  nni_free(d->m, o->bounds, (size_t)(2 * o->nbounds + 1) * sizeof *o->bounds);
}

static const nni_verb bucket_verb = {.name = "bucket", .replay = true, .words = 1, .stage_bytes = sizeof(bucket_stage),
  .node_bytes = sizeof(bucket_own), .params = bucket_params, .cardinality = unknown_cardinality, .open = bucket_open, .next = bucket_next,
  .reset = bucket_reset, .close = bucket_close, .free = bucket_free};

nni_dataset *nni_data_bucket(nni_dataset *up, int which, const nni_key *by, int nbounds, const int64_t *bounds, const int64_t *sizes,
                             const nn_padding *pad, bool drop_last, nni_error *err) {
  bool good = which >= 0 && nbounds >= 1 && nbounds < BUCKETS_MOST;
  for (int i = 0; good && i <= nbounds; i++) good = sizes[i] >= 1 && (i == 0 || i == nbounds || bounds[i] > bounds[i - 1]);
  if (!good)
    nni_fail(err, NN_EINVAL, "bucket: bounds must ascend, there must be a batch size for each bucket (one more than bounds), all at least 1");
  good = good && nni_lead_room("bucket", up, err) && nni_padding_fits("bucket", up, pad, err);
  int64_t *copy = good ? nni_malloc(up->m, (size_t)(2 * nbounds + 1) * sizeof *copy) : NULL;
  if (good && copy == NULL) nni_fail(err, NN_ENOMEM, "bucket: out of memory");
  nni_dataset *d = copy != NULL ? nni_dataset_new(up->m, &bucket_verb, up, err) : NULL;
  if (d == NULL) {
    if (copy != NULL) nni_free(up->m, copy, (size_t)(2 * nbounds + 1) * sizeof *copy);
    key_free(up->m, by);
    return NULL;
  }
  memcpy(copy, bounds, (size_t)nbounds * sizeof *copy);
  memcpy(copy + nbounds, sizes, (size_t)(nbounds + 1) * sizeof *copy);
  *(bucket_own *)d->own = (bucket_own){.by = *by, .which = which, .nbounds = nbounds, .bounds = copy, .sizes = copy + nbounds, .pad = *pad,
                                       .drop_last = drop_last};
  d->consumer_only = up->consumer_only || by->fn != NULL;
  return nni_lead_spec(d, -1, drop_last, pad);
}

/* ---- a few elements as a data set: what a group's function gets -------------------------------------------------------------------- */

typedef struct held_stage {
  nni_stage s;
  int64_t at;
} held_stage;

static nn_status held_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  held_stage *t = (held_stage *)s;
  const nni_heap *h = s->d->own;
  (void)caller;
  return t->at < h->n ? nni_element_copy(s->d->m, &h->e[t->at++], out, err) : NN_OK;
}

static void held_reset(nni_stage *s) { ((held_stage *)s)->at = 0; }
static void held_save(const nni_stage *s, int64_t *words) { words[0] = ((const held_stage *)s)->at; }

static nn_status held_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  const nni_heap *h = s->d->own;
  (void)caller;
  if (words[0] < 0 || words[0] > h->n)
    return nni_fail(err, NN_EFORMAT, "group: the state stands at element %lld of %lld", (long long)words[0], (long long)h->n);
  ((held_stage *)s)->at = words[0];
  return NN_OK;
}

static int64_t held_cardinality(const nni_dataset *d) { return ((const nni_heap *)d->own)->n; }
static int held_params(const nni_dataset *d, char *buf, size_t n) { return snprintf(buf, n, "%lld", (long long)held_cardinality(d)); }
static void held_free(nni_dataset *d) { nni_heap_free(d->m, d->own); }

static const nni_verb held_verb = {.name = "elements", .stage_bytes = sizeof(held_stage), .node_bytes = sizeof(nni_heap), .words = 1,
  .params = held_params, .cardinality = held_cardinality, .next = held_next, .reset = held_reset, .save = held_save, .restore = held_restore,
  .free = held_free};

/* A data set of the elements in h, which it takes (also when it fails). */
static nni_dataset *hold(nni_memory *m, nni_heap *h, const nni_element *spec, nni_error *err) {
  nn_status rc = NN_OK;
  for (int64_t i = 0; i < h->n && rc == NN_OK; i++) rc = nni_element_own(m, &h->e[i], err); /* whoever reads it may have threads */
  nni_dataset *d = rc == NN_OK ? nni_dataset_new(m, &held_verb, NULL, err) : NULL;
  if (d == NULL) {
    nni_heap_free(m, h);
  } else {
    *(nni_heap *)d->own = *h;
    d->spec = *spec;
  }
  *h = (nni_heap){0};
  return d;
}

/* ---- group ------------------------------------------------------------------------------------------------------------------------ */

typedef struct group_own {
  nni_key by; /* ud is the function's, too */
  nni_group_fn fn;
  int64_t size;
} group_own;

typedef struct group { /* elements of one key that wait */
  int64_t key, size;
  nni_heap elements;
} group;

typedef struct group_stage {
  nni_stage s;
  group *groups; /* ascending by key */
  int64_t n, cap, flushed;
  nni_iter *open; /* over what fn made of a window */
  bool up_end;
} group_stage;

static void group_reset(nni_stage *s) {
  group_stage *t = (group_stage *)s;
  nni_iter_close(t->open);
  t->open = NULL;
  for (int64_t i = 0; i < t->n; i++) nni_heap_free(s->d->m, &t->groups[i].elements);
  t->n = t->flushed = 0;
  t->up_end = false;
}

static void group_close(nni_stage *s) {
  group_stage *t = (group_stage *)s;
  group_reset(s);
  nni_free(s->d->m, t->groups, (size_t)t->cap * sizeof *t->groups);
}

/* The group of a key; a new one where there is none yet. */
static group *group_of(group_stage *t, int64_t key, int64_t size, nni_error *err) {
  int64_t lo = 0, hi = t->n;
  while (lo < hi) {
    int64_t mid = (lo + hi) / 2;
    if (t->groups[mid].key < key) lo = mid + 1;
    else hi = mid;
  }
  if (lo < t->n && t->groups[lo].key == key) return &t->groups[lo];
  if (t->n == t->cap) {
    int64_t cap = t->cap == 0 ? 8 : 2 * t->cap;
    void *p = nni_realloc(t->s.d->m, t->groups, (size_t)t->cap * sizeof *t->groups, (size_t)cap * sizeof *t->groups);
    if (p == NULL) {
      nni_fail(err, NN_ENOMEM, "group: out of memory for %lld keys", (long long)cap);
      return NULL;
    }
    t->groups = p;
    t->cap = cap;
  }
  memmove(t->groups + lo + 1, t->groups + lo, (size_t)(t->n++ - lo) * sizeof *t->groups);
  t->groups[lo] = (group){.key = key, .size = size};
  return &t->groups[lo];
}

/* The elements of g become a data set, and what fn makes of it is opened. */
static nn_status group_give(group_stage *t, group *g, void *caller, nni_error *err) {
  const group_own *o = t->s.d->own;
  nni_dataset *window = hold(t->s.d->m, &g->elements, &t->s.up->d->spec, err), *inner = NULL;
  if (window == NULL) return err->status;
  nn_status rc = o->fn(caller, o->by.ud, g->key, window, &inner, err);
  nni_dataset_release(window);
  if (rc != NN_OK) return rc;
  t->open = nni_iter_open(inner, err);
  nni_dataset_release(inner);
  return t->open != NULL ? NN_OK : err->status;
}

/* One more element into its group, whose window is opened when it is full. */
static nn_status group_take(group_stage *t, void *caller, nni_error *err) {
  const group_own *o = t->s.d->own;
  nni_memory *m = t->s.d->m;
  int64_t key = 0, size = o->size;
  nni_element e;
  nn_status rc = nni_stage_pull(t->s.up, caller, &e, err);
  t->up_end = rc == NN_OK && e.n == 0;
  if (rc != NN_OK || t->up_end) return rc;
  rc = o->by.fn(caller, o->by.ud, &e, &key, &size, err);
  if (rc == NN_OK && size < 1)
    rc = nni_fail(err, NN_EINVAL, "group: a window of %lld elements for the key %lld; at least 1", (long long)size, (long long)key);
  group *g = rc == NN_OK ? group_of(t, key, size, err) : NULL;
  if (g == NULL) {
    nni_element_free(m, &e);
    return rc != NN_OK ? rc : err->status;
  }
  rc = nni_heap_add(m, &g->elements, &e, err);
  return rc == NN_OK && g->elements.n >= g->size ? group_give(t, g, caller, err) : rc;
}

static nn_status group_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  group_stage *t = (group_stage *)s;
  for (;;) {
    nn_status rc = NN_OK;
    if (t->open != NULL) {
      rc = nni_iter_next(t->open, caller, out, err);
      if (out->n > 0) return rc;
      nni_iter_close(t->open); /* ended, or failed: it gives nothing after that */
      t->open = NULL;
    } else if (!t->up_end) {
      rc = group_take(t, caller, err);
    } else if (t->flushed < t->n) {
      group *g = &t->groups[t->flushed++];
      if (g->elements.n > 0) rc = group_give(t, g, caller, err);
    } else {
      return NN_OK;
    }
    if (rc != NN_OK) return rc;
  }
}

static int group_params(const nni_dataset *d, char *buf, size_t n) { return snprintf(buf, n, "%lld", (long long)((const group_own *)d->own)->size); }
static int64_t group_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up) == 0 ? 0 : NN_UNKNOWN; }
static void group_free(nni_dataset *d) { key_free(d->m, &((const group_own *)d->own)->by); }

static const nni_verb group_verb = {.name = "group_by", .replay = true, .words = 1, .stage_bytes = sizeof(group_stage),
  .node_bytes = sizeof(group_own), .params = group_params, .cardinality = group_cardinality, .next = group_next, .reset = group_reset,
  .close = group_close, .free = group_free};

nni_dataset *nni_data_group(nni_dataset *up, const nni_key *by, nni_group_fn fn, int64_t size, nni_error *err) {
  nni_dataset *d = NULL;
  if (size < 1) nni_fail(err, NN_EINVAL, "group_by: windows of %lld elements; at least 1", (long long)size);
  else d = nni_dataset_new(up->m, &group_verb, up, err);
  if (d == NULL) {
    key_free(up->m, by);
    return NULL;
  }
  *(group_own *)d->own = (group_own){.by = *by, .fn = fn, .size = size};
  d->consumer_only = true;
  d->spec.n = -1;
  return d;
}
