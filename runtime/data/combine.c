/* data/combine.c - one data set of several: zip, concat, and choose (by the numbers that another data set gives, or by weighted draws).
**
** concat of row stages is a row stage: its source numbers the rows of the first part's source, then the second's, and so on, so that a shuffle
** after it still moves no data.
*/
#include <float.h>
#include <stdio.h>
#include "dataset.h"

#define STREAM 0x63686f6full /* "choo" */
#define MOST 1024            /* data sets in one */

static bool check_count(const char *name, int n, nni_error *err) {
  if (n >= 1 && n <= MOST) return true;
  nni_fail(err, NN_EINVAL, "%s: %d data sets; it takes 1 to %d", name, n, MOST);
  return false;
}

/* What elements of all look like, as far as that is known: sizes that differ vary. *alike: all the same. Says so when they can't go together. */
static bool join_specs(const char *name, int n, nni_dataset *const *ups, nni_element *spec, bool *alike, nni_error *err) {
  bool known = true;
  *alike = true;
  *spec = ups[0]->spec;
  for (int i = 1; i < n; i++) {
    const nni_element *a = &ups[0]->spec, *b = &ups[i]->spec;
    bool fits = a->n == b->n || a->n < 0 || b->n < 0;
    known = known && a->n >= 0 && b->n >= 0;
    for (int k = 0; fits && k < a->n && k < b->n; k++) {
      nni_component *to = &spec->c[k];
      fits = to->dtype == b->c[k].dtype;
      if (to->ndim != b->c[k].ndim) known = *alike = false;
      for (int j = 0; j < to->ndim && j < b->c[k].ndim; j++) {
        if (to->shape[j] == b->c[k].shape[j]) continue;
        to->shape[j] = -1;
        *alike = false;
      }
      to->loose |= b->c[k].loose;
    }
    if (fits) continue;
    nni_fail(err, NN_ESHAPE, "%s: elements of data set %d have other components or dtypes than those of the first", name, i + 1);
    return false;
  }
  if (!known) spec->n = -1;
  *alike = *alike && spec->n >= 0;
  return true;
}

/* ---- zip: the components of all, until the first ends ------------------------------------------------------------------------ */

static int64_t zip_cardinality(const nni_dataset *d) {
  int64_t least = NN_INFINITE;
  for (int i = 0; i < d->nups; i++) {
    int64_t n = nni_dataset_cardinality(d->ups[i]);
    if (n == 0) return 0;
    if (n == NN_UNKNOWN) least = NN_UNKNOWN;
    else if (n >= 0 && least != NN_UNKNOWN && (least == NN_INFINITE || n < least)) least = n;
  }
  return least;
}

static nn_status zip_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  for (int i = 0; i < s->d->nups; i++) {
    nni_element e;
    nn_status rc = nni_stage_pull(s->ups[i], caller, &e, err);
    bool fits = out->n + e.n <= NN_DATA_MAX;
    if (rc == NN_OK && !fits) rc = nni_fail(err, NN_ESHAPE, "zip: more than %d tensors in an element", NN_DATA_MAX);
    if (rc != NN_OK || e.n == 0) {
      nni_element_free(s->d->m, &e);
      nni_element_free(s->d->m, out);
      return rc;
    }
    memcpy(out->c + out->n, e.c, (size_t)e.n * sizeof *e.c);
    out->n += e.n;
  }
  return NN_OK;
}

static const nni_verb zip_verb = {.name = "zip", .stage_bytes = sizeof(nni_stage), .cardinality = zip_cardinality, .next = zip_next};

nni_dataset *nni_data_zip(int n, nni_dataset *const *ups, nni_error *err) {
  nni_element spec = {0};
  if (!check_count("zip", n, err)) return NULL;
  for (int i = 0; i < n && spec.n >= 0; i++) {
    const nni_element *e = &ups[i]->spec;
    if (e->n >= 0 && spec.n + e->n > NN_DATA_MAX) {
      nni_fail(err, NN_ESHAPE, "zip: more than %d tensors in an element", NN_DATA_MAX);
      return NULL;
    }
    if (e->n > 0) memcpy(spec.c + spec.n, e->c, (size_t)e->n * sizeof *e->c);
    spec.n = e->n < 0 ? -1 : spec.n + e->n;
  }
  nni_dataset *d = nni_dataset_join(ups[0]->m, &zip_verb, n, ups, 0, err);
  if (d != NULL) d->spec = spec;
  return d;
}

/* ---- concat: one after the other ------------------------------------------------------------------------------------------- */

typedef struct concat_stage {
  nni_stage s;
  int64_t k; /* the one that gives now */
} concat_stage;

typedef struct concat_own {
  int64_t *first; /* of a row stage: number of the first row of each part's source, and of none */
} concat_own;

static int64_t concat_cardinality(const nni_dataset *d) {
  int64_t sum = 0;
  for (int i = 0; i < d->nups; i++) {
    int64_t n = nni_dataset_cardinality(d->ups[i]);
    if (n == NN_INFINITE) return NN_INFINITE; /* it gets there, or one before it never ends */
    if (sum != NN_UNKNOWN && (n == NN_UNKNOWN || __builtin_add_overflow(sum, n, &sum))) sum = NN_UNKNOWN;
  }
  return sum;
}

static nn_status concat_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  concat_stage *t = (concat_stage *)s;
  const concat_own *o = s->d->own;
  nn_status rc = NN_OK;
  *got = 0;
  for (; t->k < s->d->nups; t->k++) {
    nni_stage *up = s->ups[t->k];
    rc = up->d->verb->rows(up, out, max, got, err);
    for (int64_t i = 0; i < *got; i++) out[i] += o->first[t->k];
    if (rc != NN_OK || *got > 0) return rc;
  }
  return rc;
}

static nn_status concat_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  concat_stage *t = (concat_stage *)s;
  for (; t->k < s->d->nups; t->k++) {
    nn_status rc = nni_stage_pull(s->ups[t->k], caller, out, err);
    if (rc != NN_OK || out->n > 0) return rc;
  }
  return NN_OK;
}

/* Which part a row is of: first[it] <= row < first[it + 1]. */
static int part_of(const nni_dataset *d, int64_t row) {
  const concat_own *o = d->own;
  int lo = 0, hi = d->nups;
  while (hi - lo > 1) {
    int mid = (lo + hi) / 2;
    if (row < o->first[mid]) hi = mid;
    else lo = mid;
  }
  return lo;
}

static int64_t concat_length(const nni_dataset *d, int component, int64_t row) {
  int part = part_of(d, row);
  const nni_dataset *source = d->ups[part]->source;
  return source->verb->length(source, component, row - ((const concat_own *)d->own)->first[part]);
}

/* Runs of rows of one part go in one call. */
static void concat_gather(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst) {
  const concat_own *o = d->own;
  void *to[NN_DATA_MAX];
  int64_t local[64];
  for (int64_t i = 0, j; i < n; i = j) {
    int lo = part_of(d, rows[i]);
    for (j = i; j < n && j - i < (int64_t)NNI_COUNT(local) && rows[j] >= o->first[lo] && rows[j] < o->first[lo + 1]; j++)
      local[j - i] = rows[j] - o->first[lo];
    for (int c = 0; c < d->spec.n; c++) {
      size_t bytes = nn_dtype_size(d->spec.c[c].dtype);
      for (int k = 0; k < d->spec.c[c].ndim; k++)
        bytes *= (size_t)(d->spec.c[c].shape[k] < 0 ? concat_length(d, c, rows[i]) : d->spec.c[c].shape[k]); /* all n have the same */
      to[c] = (char *)dst[c] + (size_t)i * bytes;
    }
    const nni_dataset *source = d->ups[lo]->source;
    source->verb->gather(source, local, j - i, to);
  }
}

static void concat_reset(nni_stage *s) { ((concat_stage *)s)->k = 0; }
static void concat_save(const nni_stage *s, int64_t *words) { words[0] = ((const concat_stage *)s)->k; }

static nn_status concat_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  (void)caller;
  if (words[0] < 0 || words[0] > s->d->nups)
    return nni_fail(err, NN_EFORMAT, "concat: the state stands at data set %lld of %d", (long long)words[0], s->d->nups);
  ((concat_stage *)s)->k = words[0];
  return NN_OK;
}

static void concat_free(nni_dataset *d) {
  concat_own *o = d->own;
  nni_free(d->m, o->first, (size_t)(d->nups + 1) * sizeof *o->first);
}

static const nni_verb concat_verb = {.name = "concat", .stage_bytes = sizeof(concat_stage), .node_bytes = sizeof(concat_own), .words = 1,
  .cardinality = concat_cardinality, .rows = concat_rows, .next = concat_next, .gather = concat_gather,
  .length = concat_length, .reset = concat_reset,
  .save = concat_save, .restore = concat_restore, .free = concat_free};

static int64_t source_rows(const nni_dataset *source) {
  return source->verb == &concat_verb ? ((const concat_own *)source->own)->first[source->nups] : nni_dataset_cardinality(source);
}

nni_dataset *nni_data_concat(int n, nni_dataset *const *ups, nni_error *err) {
  nni_element spec;
  bool rows;
  if (!check_count("concat", n, err) || !join_specs("concat", n, ups, &spec, &rows, err)) return NULL;
  nni_dataset *d = nni_dataset_join(ups[0]->m, &concat_verb, n, ups, 0, err);
  if (d == NULL) return NULL;
  for (int i = 0; i < n; i++) rows = rows && ups[i]->source != NULL && source_rows(ups[i]->source) >= 0;
  d->spec = spec;
  if (!rows) return d;
  concat_own *o = d->own;
  o->first = nni_calloc(d->m, (size_t)(n + 1) * sizeof *o->first);
  if (o->first == NULL) {
    nni_dataset_release(d);
    nni_fail(err, NN_ENOMEM, "concat: out of memory");
    return NULL;
  }
  d->source = d;
  for (int i = 0; i < n; i++) /* of range's many rows: then elements */
    if (__builtin_add_overflow(o->first[i], source_rows(ups[i]->source), &o->first[i + 1])) d->source = NULL;
  return d;
}

/* ---- choose: which one gives next is what the first data set says, a draw, or whose turn it is -------------------------------- */

typedef struct choose_own {
  enum { CHOSEN, DRAWN, IN_TURN } by;
  bool stop; /* the first that ends ends all */
  uint64_t seed;
  int64_t opens, block; /* IN_TURN: elements at a time */
  int n;                /* data sets to choose from; after the choosing one when CHOSEN */
  double *weights;      /* DRAWN: running sums, the last is 1 */
} choose_own;

static double weight_of(const choose_own *o, int i) { return o->weights[i] - (i > 0 ? o->weights[i - 1] : 0); }

typedef struct choose_stage {
  nni_stage s;
  int64_t opening, step;
  uint64_t key;
  uint8_t *ended; /* n */
} choose_stage;

static nn_status choose_open(nni_stage *s, nni_error *err) {
  choose_stage *t = (choose_stage *)s;
  choose_own *o = s->d->own;
  t->opening = o->opens++;
  t->ended = nni_calloc(s->d->m, (size_t)o->n);
  return t->ended != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "%s: out of memory", s->d->verb->name);
}

static void choose_close(nni_stage *s) { nni_free(s->d->m, ((choose_stage *)s)->ended, (size_t)((const choose_own *)s->d->own)->n); }

static void choose_reset(nni_stage *s) {
  choose_stage *t = (choose_stage *)s;
  const choose_own *o = s->d->own;
  nni_philox a = nni_philox4x32(o->seed, (uint64_t)t->opening, STREAM);
  nni_philox b = nni_philox4x32((uint64_t)a.v[0] << 32 | a.v[1], s->pass, STREAM);
  t->key = (uint64_t)b.v[0] << 32 | b.v[1];
  t->step = 0;
  memset(t->ended, 0, (size_t)o->n);
}

/* The next choice, from 0; -1: the end. */
static nn_status choice(choose_stage *t, void *caller, int *which, nni_error *err) {
  const choose_own *o = t->s.d->own;
  nni_element e;
  const void *data;
  *which = -1;
  if (o->by == IN_TURN) {
    *which = (int)(t->step++ / o->block % o->n);
    return NN_OK;
  }
  if (o->by == DRAWN) {
    nni_philox p = nni_philox4x32(t->key, (uint64_t)t->step++, STREAM);
    double u = (double)(((uint64_t)p.v[0] << 32 | p.v[1]) >> 11) * 0x1p-53;
    for (*which = 0; *which < o->n - 1 && u >= o->weights[*which];) ++*which;
    return NN_OK;
  }
  nn_status rc = nni_stage_pull(t->s.up, caller, &e, err);
  if (rc != NN_OK || e.n == 0) return rc;
  if (e.n != 1 || e.c[0].dtype != NN_I64 || e.c[0].ndim != 0)
    rc = nni_fail(err, NN_ESHAPE, "choose: the choices must be whole numbers (i64 scalars)");
  if (rc == NN_OK) rc = nni_element_data(&e.c[0], &data, err);
  if (rc == NN_OK) {
    int64_t v = *(const int64_t *)data;
    if (v < 1 || v > o->n) rc = nni_fail(err, NN_EINVAL, "choose: a choice is %lld; there are data sets 1 to %d", (long long)v, o->n);
    else *which = (int)v - 1;
  }
  nni_element_free(t->s.d->m, &e);
  return rc;
}

static nn_status choose_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  choose_stage *t = (choose_stage *)s;
  const choose_own *o = s->d->own;
  int left = 0, which;
  for (int i = 0; i < o->n; i++) left += !t->ended[i];
  while (left > 0 && !(o->stop && left < o->n)) {
    nn_status rc = choice(t, caller, &which, err);
    if (rc != NN_OK || which < 0) return rc;
    if (t->ended[which]) continue;
    if (o->by == DRAWN && weight_of(o, which) <= 0) continue; /* rounding */
    rc = nni_stage_pull(s->ups[which + (o->by == CHOSEN)], caller, out, err);
    if (rc != NN_OK || out->n > 0) return rc;
    t->ended[which] = 1;
    left--;
    if (o->by == DRAWN) { /* what is left may have no weight: it would be drawn for ever */
      double weight = 0;
      for (int i = 0; i < o->n; i++)
        if (!t->ended[i]) weight += weight_of(o, i);
      if (weight <= 0) left = 0;
    }
  }
  return NN_OK;
}

/* Known where it does not matter which one is asked when. */
static int64_t choose_cardinality(const nni_dataset *d) {
  const choose_own *o = d->own;
  int64_t sum = 0, least = INT64_MAX, choices = o->by == CHOSEN ? nni_dataset_cardinality(d->up) : NN_INFINITE;
  int used = 0, endless = 0;
  bool unknown = false;
  for (int i = 0; i < o->n; i++) {
    int64_t n = nni_dataset_cardinality(d->ups[i + (o->by == CHOSEN)]);
    if (o->by == DRAWN && weight_of(o, i) <= 0) continue;
    used++;
    if (n == NN_INFINITE) endless++;
    else if (n == NN_UNKNOWN || __builtin_add_overflow(sum, n, &sum)) unknown = true;
    if (n >= 0 && n < least) least = n;
  }
  if (choices == 0 || (!unknown && endless == 0 && sum == 0)) return 0;
  if (endless == used) return choices;
  if (unknown || choices == NN_UNKNOWN) return !o->stop && endless > 0 ? choices : NN_UNKNOWN;
  if (used == 1) return choices >= 0 && choices < least ? choices : least;
  if (o->by == CHOSEN) return choices >= 0 && choices <= least ? choices : NN_UNKNOWN;
  return o->stop ? NN_UNKNOWN : endless > 0 ? NN_INFINITE : sum;
}

static void choose_save(const nni_stage *s, int64_t *words) {
  const choose_stage *t = (const choose_stage *)s;
  const choose_own *o = s->d->own;
  words[0] = (int64_t)o->seed;
  words[1] = t->opening;
  words[2] = (int64_t)s->pass;
  words[3] = t->step;
  for (int i = 0; i < o->n; i++) words[4 + i] = t->ended[i];
}

static nn_status choose_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  choose_stage *t = (choose_stage *)s;
  choose_own *o = s->d->own;
  (void)caller;
  if (words[1] < 0 || words[3] < 0) return nni_fail(err, NN_EFORMAT, "%s: the state has a negative position", s->d->verb->name);
  o->seed = (uint64_t)words[0];
  t->opening = words[1];
  s->pass = (uint64_t)words[2];
  choose_reset(s);
  t->step = words[3];
  for (int i = 0; i < o->n; i++) t->ended[i] = words[4 + i] != 0;
  return NN_OK;
}

static void choose_save_node(const nni_dataset *d, int64_t *words) {
  const choose_own *o = d->own;
  words[0] = (int64_t)o->seed;
  words[1] = o->opens;
}

static void choose_restore_node(nni_dataset *d, const int64_t *words, bool in_pass) {
  choose_own *o = d->own;
  o->seed = (uint64_t)words[0];
  o->opens = words[1] + in_pass;
}

static int choose_params(const nni_dataset *d, char *buf, size_t n) {
  const choose_own *o = d->own;
  int k = snprintf(buf, n, "%d%s", o->n, o->stop ? " stop" : "");
  if (o->by == IN_TURN && (size_t)k < n) k += snprintf(buf + k, n - (size_t)k, " %lld", (long long)o->block);
  for (int i = 0; o->by == DRAWN && i < o->n; i++) {
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += snprintf(buf + at, n - at, " %.6g", o->weights[i]);
  }
  return k;
}

static void choose_free(nni_dataset *d) {
  choose_own *o = d->own;
  nni_free(d->m, o->weights, (size_t)o->n * sizeof *o->weights);
}

#define CHOOSE_VERB                                                                                                               \
  .stage_bytes = sizeof(choose_stage), .node_bytes = sizeof(choose_own), .words = 4, .params = choose_params,                     \
  .cardinality = choose_cardinality, .open = choose_open, .next = choose_next, .reset = choose_reset, .close = choose_close,      \
  .save = choose_save, .restore = choose_restore, .save_node = choose_save_node, .restore_node = choose_restore_node, .free = choose_free

static const nni_verb choose_verb = {.name = "choose", CHOOSE_VERB};
static const nni_verb sample_verb = {.name = "sample_from", CHOOSE_VERB};
static const nni_verb turns_verb = {.name = "interleave", CHOOSE_VERB};

nni_dataset *nni_data_choose(nni_dataset *choices, int n, nni_dataset *const *ups, bool stop, nni_error *err) {
  nni_dataset *all[MOST + 1] = {choices};
  nni_element spec;
  bool alike;
  if (!check_count("choose", n, err) || !join_specs("choose", n, ups, &spec, &alike, err)) return NULL;
  memcpy(all + 1, ups, (size_t)n * sizeof *all);
  nni_dataset *d = nni_dataset_join(ups[0]->m, &choose_verb, n + 1, all, n, err);
  if (d == NULL) return NULL;
  *(choose_own *)d->own = (choose_own){.stop = stop, .n = n};
  d->spec = spec;
  return d;
}

nni_dataset *nni_data_turns(int n, nni_dataset *const *ups, int64_t block, nni_error *err) {
  nni_element spec;
  bool alike;
  if (!check_count("interleave", n, err) || !join_specs("interleave", n, ups, &spec, &alike, err)) return NULL;
  if (block < 1) {
    nni_fail(err, NN_EINVAL, "interleave: %lld elements of each in turn; at least 1", (long long)block);
    return NULL;
  }
  nni_dataset *d = nni_dataset_join(ups[0]->m, &turns_verb, n, ups, n, err);
  if (d == NULL) return NULL;
  *(choose_own *)d->own = (choose_own){.by = IN_TURN, .n = n, .block = block};
  d->spec = spec;
  return d;
}

nni_dataset *nni_data_sample_from(int n, nni_dataset *const *ups, const double *weights, uint64_t seed, bool stop, nni_error *err) {
  nni_element spec;
  bool alike;
  double sum = 0, so_far = 0;
  if (!check_count("sample_from", n, err) || !join_specs("sample_from", n, ups, &spec, &alike, err)) return NULL;
  for (int i = 0; i < n; i++) sum += weights[i] >= 0 && sum >= 0 ? weights[i] : -DBL_MAX;
  if (!(sum > 0 && sum <= DBL_MAX)) {
    nni_fail(err, NN_EINVAL, "sample_from: weights must not be negative, and one must be above 0");
    return NULL;
  }
  nni_dataset *d = nni_dataset_join(ups[0]->m, &sample_verb, n, ups, n, err);
  double *sums = d != NULL ? nni_malloc(d->m, (size_t)n * sizeof *sums) : NULL;
  if (sums == NULL) {
    nni_dataset_release(d);
    nni_fail(err, NN_ENOMEM, "sample_from: out of memory");
    return NULL;
  }
  for (int i = 0; i < n; i++) sums[i] = (so_far += weights[i]) / sum;
  *(choose_own *)d->own = (choose_own){.by = DRAWN, .stop = stop, .seed = seed, .n = n, .weights = sums};
  d->spec = spec;
  return d;
}
