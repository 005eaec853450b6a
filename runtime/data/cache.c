/* data/cache.c - cache in memory or a file: what the stages before it gave in the first pass is given in every pass.
**
** Where the stages before it stood when the first pass began (`first`) decides what is in the cache, whoever fills it and when: a pass that was left
** early, two passes at once, and a program that goes on from a saved state all continue one list. It grows as far as somebody asks.
** The list is shared by all passes, which may be on several threads: `lock`.
**
** With a file the list is written once it is complete, and read from there (mapped) by this and every later program; then what is before it never runs.
*/
#include <pthread.h>
#include <stdio.h>
#include "cache_file.h"

typedef struct cache_own {
  pthread_mutex_t lock;
  nni_element *e;
  int64_t n, cap;
  bool complete, has_lock;
  bool begun;     /* first holds */
  int64_t *first; /* nni_words_before */
  char *file;     /* or NULL */
  bool looked;    /* for the file */
  nni_cache_map map; /* when base is there, the list is its */
} cache_own;

typedef struct cache_stage {
  nni_stage s;
  int64_t k;  /* elements given */
  int64_t up; /* elements that the stages before it gave, from `first` on; -1: they stand elsewhere */
} cache_stage;

static size_t first_bytes(const nni_dataset *d) { return (size_t)nni_words_before(d) * sizeof(int64_t); }

static void cache_reset(nni_stage *s) {
  cache_stage *t = (cache_stage *)s;
  cache_own *o = s->d->own;
  pthread_mutex_lock(&o->lock);
  t->k = 0;
  t->up = o->begun ? -1 : 0;
  if (!o->begun) nni_stage_save_ups(s, o->first);
  o->begun = true;
  pthread_mutex_unlock(&o->lock);
}

static nn_status append(const nni_dataset *d, nni_element *e, nni_error *err) {
  cache_own *o = d->own;
  nn_status rc = nni_element_own(d->m, e, err);
  if (rc == NN_OK && o->n == o->cap) {
    int64_t cap = o->cap == 0 ? 64 : 2 * o->cap;
    void *p = (uint64_t)cap < SIZE_MAX / sizeof *o->e ? nni_realloc(d->m, o->e, (size_t)o->cap * sizeof *o->e, (size_t)cap * sizeof *o->e) : NULL;
    if (p == NULL) rc = nni_fail(err, NN_ENOMEM, "cache: out of memory for %lld elements", (long long)cap);
    else {
      o->e = p;
      o->cap = cap;
    }
  }
  if (rc == NN_OK) o->e[o->n++] = *e;
  else nni_element_free(d->m, e);
  return rc;
}

static void drop_list(nni_dataset *d) {
  cache_own *o = d->own;
  if (o->map.base == NULL) {
    for (; o->n > 0; o->n--) nni_element_free(d->m, &o->e[o->n - 1]);
    nni_free(d->m, o->e, (size_t)o->cap * sizeof *o->e);
  }
  nni_cache_unmap(d->m, &o->map);
  o->e = NULL;
  o->n = o->cap = 0;
  o->complete = false;
}

/* The list from the file, where there is one. */
static nn_status look(nni_dataset *d, nni_error *err) {
  cache_own *o = d->own;
  char text[4000];
  nni_cache_map map;
  if (o->file == NULL || o->map.base != NULL || o->looked) return NN_OK;
  nni_dataset_describe(d->up, text, sizeof text);
  nn_status rc = nni_cache_open(d->m, o->file, text, &map, err);
  o->looked = rc == NN_OK;
  if (rc != NN_OK || map.base == NULL) return rc;
  drop_list(d);
  o->map = map;
  o->e = map.e;
  o->n = map.n;
  o->complete = true;
  return NN_OK;
}

/* The list is complete: into the file, and from now on from there. */
static nn_status keep(nni_dataset *d, nni_error *err) {
  cache_own *o = d->own;
  char text[4000];
  if (o->file == NULL) return NN_OK;
  nni_dataset_describe(d->up, text, sizeof text);
  nn_status rc = nni_cache_write(d->m, o->file, text, o->e, o->n, err);
  o->looked = false;
  return rc == NN_OK ? look(d, err) : rc;
}

/* The list holds element t->k, or is complete. */
static nn_status reach(cache_stage *t, void *caller, nni_error *err) {
  nni_dataset *d = t->s.d;
  cache_own *o = d->own;
  nn_status rc = look(d, err);
  if (rc != NN_OK) return rc;
  if (o->n > t->k || o->complete) return NN_OK;
  if (t->up < 0 && (rc = nni_stage_restore_ups(&t->s, caller, o->first, err)) != NN_OK) return rc;
  if (t->up < 0) t->up = 0;
  if (t->up < o->n) {
    int64_t skipped = 0;
    rc = nni_stage_skip(t->s.up, caller, o->n - t->up, &skipped, err);
    t->up += skipped;
    if (rc != NN_OK) return rc;
  }
  while (o->n <= t->k && !o->complete) {
    nni_element e;
    rc = nni_stage_pull(t->s.up, caller, &e, err);
    if (rc != NN_OK) return rc;
    if (e.n == 0) {
      o->complete = true;
      return keep(d, err);
    }
    if ((rc = append(d, &e, err)) != NN_OK) return rc;
    t->up++;
  }
  return NN_OK;
}

static nn_status cache_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  cache_stage *t = (cache_stage *)s;
  cache_own *o = s->d->own;
  pthread_mutex_lock(&o->lock);
  nn_status rc = reach(t, caller, err);
  if (rc == NN_OK && t->k < o->n) rc = nni_element_copy(s->d->m, &o->e[t->k], out, err);
  if (rc == NN_OK && out->n > 0) t->k++;
  pthread_mutex_unlock(&o->lock);
  return rc;
}

/* ---- state: words are k, begun, first ------------------------------------------------------------------------------------- */

static void save_first(const nni_dataset *d, int64_t *words) {
  cache_own *o = d->own;
  pthread_mutex_lock(&o->lock);
  words[0] = 0;
  words[1] = o->begun;
  if (o->begun) memcpy(words + 2, o->first, first_bytes(d));
  pthread_mutex_unlock(&o->lock);
}

static void cache_save(const nni_stage *s, int64_t *words) {
  save_first(s->d, words);
  words[0] = ((const cache_stage *)s)->k;
}

static void cache_save_up(const nni_stage *s, int64_t *words) { memcpy(words, ((const cache_own *)s->d->own)->first, first_bytes(s->d)); }

/* What is in the list stays only when it comes from the same beginning. */
static void load_first(nni_dataset *d, const int64_t *words) {
  cache_own *o = d->own;
  pthread_mutex_lock(&o->lock);
  bool same = words[1] == 1 && o->begun && memcmp(o->first, words + 2, first_bytes(d)) == 0;
  if (!same && o->map.base == NULL) drop_list(d); /* what is in a file stays what it is */
  o->begun = words[1] == 1;
  if (o->begun) memcpy(o->first, words + 2, first_bytes(d));
  pthread_mutex_unlock(&o->lock);
}

static nn_status cache_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  cache_stage *t = (cache_stage *)s;
  (void)caller;
  if (words[0] < 0 || words[1] != 1) return nni_fail(err, NN_EFORMAT, "cache: the state stands at element %lld", (long long)words[0]);
  load_first(s->d, words);
  t->k = words[0];
  t->up = 0; /* the stages before it were restored to `first` */
  return NN_OK;
}

static void cache_restore_node(nni_dataset *d, const int64_t *words, bool in_pass) {
  if (!in_pass) load_first(d, words);
}

static int64_t cache_cardinality(const nni_dataset *d) {
  cache_own *o = d->own;
  pthread_mutex_lock(&o->lock);
  int64_t n = o->complete ? o->n : NN_UNKNOWN;
  pthread_mutex_unlock(&o->lock);
  return n >= 0 ? n : nni_dataset_cardinality(d->up);
}

static void cache_free(nni_dataset *d) {
  cache_own *o = d->own;
  drop_list(d);
  if (o->file != NULL) nni_free(d->m, o->file, strlen(o->file) + 1);
  nni_free(d->m, o->first, first_bytes(d));
  if (o->has_lock) pthread_mutex_destroy(&o->lock);
}

static const nni_verb cache_verb = {.name = "cache", .stage_bytes = sizeof(cache_stage), .node_bytes = sizeof(cache_own), .words = 2,
  .cardinality = cache_cardinality, .rows_in = nni_up_rows_in, .next = cache_next, .reset = cache_reset, .save = cache_save, .save_up = cache_save_up,
  .restore = cache_restore, .save_node = save_first, .restore_node = cache_restore_node, .free = cache_free};

nni_dataset *nni_data_cache(nni_dataset *up, const char *file, nni_error *err) {
  int more = up->words - NNI_STATE_HEAD;
  nni_dataset *d = nni_dataset_join(up->m, &cache_verb, 1, &up, more, err);
  if (d == NULL) return NULL;
  cache_own *o = d->own;
  o->has_lock = pthread_mutex_init(&o->lock, NULL) == 0;
  o->first = nni_calloc(d->m, first_bytes(d));
  o->file = file != NULL ? nni_strdup(d->m, file) : NULL;
  if (o->has_lock && o->first != NULL && (file == NULL || o->file != NULL)) return d;
  nni_dataset_release(d);
  nni_fail(err, NN_ENOMEM, "cache: out of memory");
  return NULL;
}
