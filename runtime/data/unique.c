/* data/unique.c - each element once: a set of the bytes of all elements that came in this pass. */
#include "dataset.h"

typedef struct seen {
  uint64_t hash;
  nni_element e; /* n == 0: free */
} seen;

typedef struct unique_stage {
  nni_stage s;
  seen *set;      /* open addressing, cap a power of two */
  size_t n, cap;
} unique_stage;

static void unique_reset(nni_stage *s) {
  unique_stage *t = (unique_stage *)s;
  for (size_t i = 0; i < t->cap; i++) nni_element_free(s->d->m, &t->set[i].e);
  t->n = 0;
}

static void unique_close(nni_stage *s) {
  unique_stage *t = (unique_stage *)s;
  unique_reset(s);
  nni_free(s->d->m, t->set, t->cap * sizeof *t->set);
}

static uint64_t hash_element(const nni_element *e) { /* FNV-1a */
  uint64_t h = 0xcbf29ce484222325u;
  for (int i = 0; i < e->n; i++) {
    const uint8_t *p = e->c[i].buffer;
    for (size_t k = 0; k < e->c[i].bytes; k++) h = (h ^ p[k]) * 0x100000001b3u;
    h = (h ^ (uint64_t)e->c[i].dtype) * 0x100000001b3u;
  }
  return h;
}

static bool same_element(const nni_element *a, const nni_element *b) {
  bool same = a->n == b->n;
  for (int i = 0; same && i < a->n; i++)
    same = nni_component_alike(&a->c[i], &b->c[i]) && memcmp(a->c[i].buffer, b->c[i].buffer, a->c[i].bytes) == 0;
  return same;
}

static seen *find(seen *set, size_t cap, const nni_element *e, uint64_t hash) {
  size_t i = (size_t)(hash ^ hash >> 32) & (cap - 1);
  while (set[i].e.n > 0 && !(set[i].hash == hash && same_element(&set[i].e, e))) i = (i + 1) & (cap - 1);
  return &set[i];
}

static nn_status unique_grow(unique_stage *t, nni_error *err) {
  nni_memory *m = t->s.d->m;
  size_t cap = t->cap == 0 ? 64 : 2 * t->cap;
  if (2 * (t->n + 1) <= t->cap) return NN_OK;
  seen *set = cap < SIZE_MAX / sizeof *set ? nni_calloc(m, cap * sizeof *set) : NULL;
  if (set == NULL) return nni_fail(err, NN_ENOMEM, "unique: out of memory for %zu elements", cap);
  for (size_t i = 0; i < t->cap; i++)
    if (t->set[i].e.n > 0) *find(set, cap, &t->set[i].e, t->set[i].hash) = t->set[i];
  nni_free(m, t->set, t->cap * sizeof *t->set);
  t->set = set;
  t->cap = cap;
  return NN_OK;
}

static nn_status unique_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  unique_stage *t = (unique_stage *)s;
  for (;;) {
    nn_status rc = nni_stage_pull(s->up, caller, out, err);
    if (rc != NN_OK || out->n == 0) return rc;
    rc = nni_element_own(s->d->m, out, err);
    if (rc == NN_OK) rc = unique_grow(t, err);
    if (rc == NN_OK) {
      uint64_t hash = hash_element(out);
      seen *at = find(t->set, t->cap, out, hash);
      if (at->e.n == 0) {
        rc = nni_element_copy(s->d->m, out, &at->e, err);
        if (rc == NN_OK) {
          at->hash = hash;
          t->n++;
          return rc;
        }
      }
    }
    nni_element_free(s->d->m, out);
    if (rc != NN_OK) return rc;
  }
}

static int64_t unique_cardinality(const nni_dataset *d) {
  int64_t n = nni_dataset_cardinality(d->up);
  return n == 0 ? 0 : NN_UNKNOWN;
}

static const nni_verb unique_verb = {.name = "unique", .replay = true, .words = 1, .stage_bytes = sizeof(unique_stage),
  .cardinality = unique_cardinality, .next = unique_next, .reset = unique_reset, .close = unique_close};

nni_dataset *nni_data_unique(nni_dataset *up, nni_error *err) { return nni_dataset_new(up->m, &unique_verb, up, err); }
