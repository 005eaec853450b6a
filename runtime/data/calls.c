/* data/calls.c - verbs that call back: map, filter and take_while, scan, flat_map and interleave. They run on the consumer's thread.
**
** One kind of function does for the first three (nni_map_fn): what it gives is the new element, nothing, or the end.
*/
#include <stdio.h>
#include "dataset.h"

#define CYCLE_MOST 1024

/* ---- map, filter, take_while ------------------------------------------------------------------------------------------------ */

typedef struct call_own {
  nni_map_fn fn;
  void *ud;
  size_t ud_bytes;
  nn_tensor *initial; /* scan */
} call_own;

typedef struct call_stage {
  nni_stage s;
  bool ended;
  nn_tensor *carry; /* scan */
} call_stage;

static int64_t map_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up); }
static int64_t fewer_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up) == 0 ? 0 : NN_UNKNOWN; }

static nn_status call_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  call_stage *t = (call_stage *)s;
  const call_own *o = s->d->own;
  while (!t->ended) {
    nni_element in;
    nn_status rc = nni_stage_pull(s->up, caller, &in, err);
    if (rc != NN_OK || in.n == 0) return rc;
    rc = o->fn(caller, o->ud, &in, out, err);
    nni_element_free(s->d->m, &in);
    if (rc != NN_OK || out->n > 0) return rc;
    t->ended = out->n < 0;
    out->n = 0;
  }
  return NN_OK;
}

static void call_reset(nni_stage *s) { ((call_stage *)s)->ended = false; }

static void call_free(nni_dataset *d) {
  call_own *o = d->own;
  nni_free(d->m, o->ud_bytes > 0 ? o->ud : NULL, o->ud_bytes);
  nn_release(o->initial);
}

#define CALL_VERB .stage_bytes = sizeof(call_stage), .node_bytes = sizeof(call_own), .reset = call_reset, .free = call_free

static const nni_verb map_verb = {.name = "map", CALL_VERB, .cardinality = map_cardinality, .next = call_next};
static const nni_verb filter_verb = {.name = "filter", CALL_VERB, .cardinality = fewer_cardinality, .next = call_next};
static const nni_verb take_while_verb = {.name = "take_while", CALL_VERB, .cardinality = fewer_cardinality, .next = call_next};

static nni_dataset *new_call(const nni_verb *verb, nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err) {
  nni_dataset *d = nni_dataset_new(up->m, verb, up, err);
  if (d == NULL) {
    nni_free(up->m, ud_bytes > 0 ? ud : NULL, ud_bytes);
    return NULL;
  }
  *(call_own *)d->own = (call_own){.fn = fn, .ud = ud, .ud_bytes = ud_bytes};
  d->consumer_only = true;
  return d;
}

nni_dataset *nni_data_map(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err) {
  nni_dataset *d = new_call(&map_verb, up, fn, ud, ud_bytes, err);
  if (d != NULL) d->spec.n = -1;
  return d;
}

nni_dataset *nni_data_filter(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err) {
  return new_call(&filter_verb, up, fn, ud, ud_bytes, err);
}

nni_dataset *nni_data_take_while(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err) {
  return new_call(&take_while_verb, up, fn, ud, ud_bytes, err);
}

/* ---- scan: fn takes the carry and the element, and gives the next carry and what comes out ------------------------------------- */

static void component_of(nn_tensor *t, nni_component *c) {
  *c = (nni_component){.dtype = nn_dtype_of(t), .ndim = nn_ndim(t), .tensor = t};
  memcpy(c->shape, nn_shape(t), (size_t)c->ndim * sizeof *c->shape);
}

static nn_status scan_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  call_stage *t = (call_stage *)s;
  const call_own *o = s->d->own;
  nni_element in;
  nn_status rc = nni_stage_pull(s->up, caller, &in, err);
  if (rc != NN_OK || in.n == 0) return rc;
  if (in.n == NN_DATA_MAX) {
    nni_element_free(s->d->m, &in);
    return nni_fail(err, NN_ESHAPE, "scan: elements may have %d tensors at most", NN_DATA_MAX - 1);
  }
  memmove(in.c + 1, in.c, (size_t)in.n++ * sizeof *in.c);
  component_of(nn_retain(t->carry), &in.c[0]);
  rc = o->fn(caller, o->ud, &in, out, err);
  nni_element_free(s->d->m, &in);
  if (rc == NN_OK && (out->n < 2 || out->c[0].tensor == NULL)) {
    nni_element_free(s->d->m, out);
    rc = nni_fail(err, NN_EINVAL, "scan: the function must return the next carry and at least one value");
  }
  if (rc != NN_OK) return rc;
  nn_release(t->carry);
  t->carry = out->c[0].tensor;
  memmove(out->c, out->c + 1, (size_t)--out->n * sizeof *out->c);
  return NN_OK;
}

static void scan_reset(nni_stage *s) {
  call_stage *t = (call_stage *)s;
  nn_release(t->carry);
  t->carry = nn_retain(((const call_own *)s->d->own)->initial);
}

static void scan_close(nni_stage *s) { nn_release(((call_stage *)s)->carry); }

static const nni_verb scan_verb = {.name = "scan", .replay = true, .words = 1, .stage_bytes = sizeof(call_stage), .node_bytes = sizeof(call_own),
  .cardinality = map_cardinality, .next = scan_next, .reset = scan_reset, .close = scan_close, .free = call_free};

nni_dataset *nni_data_scan(nni_dataset *up, nn_tensor *initial, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err) {
  nni_dataset *d = new_call(&scan_verb, up, fn, ud, ud_bytes, err);
  if (d == NULL) return NULL;
  ((call_own *)d->own)->initial = nn_retain(initial);
  d->spec.n = -1;
  return d;
}

/* ---- flat_map, interleave ------------------------------------------------------------------------------------------------------ */

typedef struct flat_own {
  nni_flat_fn fn;
  void *ud;
  size_t ud_bytes;
  int64_t cycle, block;
} flat_own;

typedef struct flat_stage {
  nni_stage s;
  nni_iter **open;       /* cycle: passes over what fn gave, or NULL */
  int64_t at, in_block;  /* whose turn; elements that it gave in this turn */
  int64_t k;             /* elements of the one that is open (flat_map) */
  int64_t *before;       /* flat_map: state of the stages before it, before the element of the open one */
  bool up_end;
} flat_stage;

static size_t before_bytes(const nni_stage *s) { return (size_t)nni_words_before(s->d) * sizeof(int64_t); }

static void flat_reset(nni_stage *s) {
  flat_stage *t = (flat_stage *)s;
  const flat_own *o = s->d->own;
  for (int64_t i = 0; i < o->cycle; i++) {
    nni_iter_close(t->open[i]);
    t->open[i] = NULL;
  }
  t->at = t->in_block = t->k = 0;
  t->up_end = false;
}

static nn_status flat_open(nni_stage *s, nni_error *err) {
  flat_stage *t = (flat_stage *)s;
  t->open = nni_calloc(s->d->m, (size_t)((const flat_own *)s->d->own)->cycle * sizeof *t->open);
  t->before = nni_calloc(s->d->m, before_bytes(s));
  return t->open != NULL && t->before != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "%s: out of memory", s->d->verb->name);
}

static void flat_close(nni_stage *s) {
  flat_stage *t = (flat_stage *)s;
  if (t->open != NULL) flat_reset(s);
  nni_free(s->d->m, t->open, (size_t)((const flat_own *)s->d->own)->cycle * sizeof *t->open);
  nni_free(s->d->m, t->before, before_bytes(s));
}

/* The next element of the stage before it becomes the data set at t->at. */
static nn_status flat_begin(flat_stage *t, void *caller, nni_error *err) {
  const flat_own *o = t->s.d->own;
  nni_element in;
  nni_dataset *inner = NULL;
  nni_stage_save_ups(&t->s, t->before);
  nn_status rc = nni_stage_pull(t->s.up, caller, &in, err);
  if (rc != NN_OK) return rc;
  t->up_end = in.n == 0;
  if (t->up_end) return NN_OK;
  rc = o->fn(caller, o->ud, (int)t->at, &in, &inner, err);
  nni_element_free(t->s.d->m, &in);
  if (rc != NN_OK) return rc;
  t->open[t->at] = nni_iter_open(inner, err);
  nni_dataset_release(inner);
  t->k = t->in_block = 0;
  return t->open[t->at] != NULL ? NN_OK : err->status;
}

static void flat_turn(flat_stage *t) {
  t->at = (t->at + 1) % ((const flat_own *)t->s.d->own)->cycle;
  t->in_block = 0;
}

static nn_status flat_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  flat_stage *t = (flat_stage *)s;
  const flat_own *o = s->d->own;
  for (int64_t idle = 0; idle < o->cycle;) {
    nn_status rc = NN_OK;
    if (t->open[t->at] == NULL && !t->up_end) rc = flat_begin(t, caller, err);
    if (rc != NN_OK) return rc;
    if (t->open[t->at] == NULL) { /* only when there is nothing more to open */
      flat_turn(t);
      idle++;
      continue;
    }
    idle = 0;
    rc = nni_iter_next(t->open[t->at], caller, out, err);
    if (out->n > 0) {
      t->k++;
      if (++t->in_block == o->block) flat_turn(t);
      return rc;
    }
    nni_iter_close(t->open[t->at]); /* ended, or failed: an iterator gives nothing after that */
    t->open[t->at] = NULL;
    t->k = 0;
    flat_turn(t);
    if (rc != NN_OK) return rc;
  }
  return NN_OK;
}

static void flat_save_up(const nni_stage *s, int64_t *words) {
  const flat_stage *t = (const flat_stage *)s;
  if (t->open[0] == NULL) nni_stage_save_ups(s, words);
  else memcpy(words, t->before, before_bytes(s));
}

static void flat_save(const nni_stage *s, int64_t *words) {
  const flat_stage *t = (const flat_stage *)s;
  words[0] = t->open[0] != NULL;
  words[1] = t->k;
}

static nn_status flat_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  flat_stage *t = (flat_stage *)s;
  int64_t skipped = 0;
  flat_reset(s);
  if (words[0] == 0) return NN_OK;
  nn_status rc = words[1] < 0 ? nni_fail(err, NN_EFORMAT, "flat_map: the state has the count %lld", (long long)words[1])
                              : flat_begin(t, caller, err);
  if (rc == NN_OK && t->open[0] != NULL) rc = nni_iter_skip(t->open[0], caller, words[1], &skipped, err);
  if (rc == NN_OK && skipped < words[1])
    rc = nni_fail(err, NN_EFORMAT, "flat_map: the state stands at element %lld of %lld", (long long)words[1], (long long)skipped);
  t->k = words[1];
  return rc;
}

static int flat_params(const nni_dataset *d, char *buf, size_t n) {
  const flat_own *o = d->own;
  return snprintf(buf, n, "%lld %lld", (long long)o->cycle, (long long)o->block);
}

static void flat_free(nni_dataset *d) {
  flat_own *o = d->own;
  nni_free(d->m, o->ud_bytes > 0 ? o->ud : NULL, o->ud_bytes);
}

#define FLAT_VERB                                                                                                                 \
  .stage_bytes = sizeof(flat_stage), .node_bytes = sizeof(flat_own), .cardinality = fewer_cardinality, .open = flat_open,         \
  .next = flat_next, .reset = flat_reset, .close = flat_close, .free = flat_free

static const nni_verb flat_verb = {.name = "flat_map", FLAT_VERB, .words = 2, .save = flat_save, .save_up = flat_save_up,
                                   .restore = flat_restore};
static const nni_verb interleave_verb = {.name = "interleave", FLAT_VERB, .replay = true, .words = 1, .params = flat_params};

nni_dataset *nni_data_flat_map(nni_dataset *up, nni_flat_fn fn, void *ud, size_t ud_bytes, int64_t cycle, int64_t block, nni_error *err) {
  nni_dataset *d = NULL;
  if (cycle < 1 || cycle > CYCLE_MOST || block < 1)
    nni_fail(err, NN_EINVAL, "interleave: %lld at a time, %lld elements each; at least 1, and at most %d at a time", (long long)cycle,
             (long long)block, CYCLE_MOST);
  else d = nni_dataset_new(up->m, cycle == 1 ? &flat_verb : &interleave_verb, up, err);
  if (d == NULL) {
    nni_free(up->m, ud_bytes > 0 ? ud : NULL, ud_bytes);
    return NULL;
  }
  *(flat_own *)d->own = (flat_own){.fn = fn, .ud = ud, .ud_bytes = ud_bytes, .cycle = cycle, .block = block};
  d->consumer_only = true;
  d->spec.n = -1;
  return d;
}
