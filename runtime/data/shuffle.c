/* data/shuffle.c - tf.data's buffer shuffle: keep `buffer` elements, give a random one, put the next in its place. A buffer that holds
** everything makes it a full, uniform shuffle.
**
** Over rows the buffer holds row numbers, else elements. Step t of a pass draws from a Philox key made of (seed, opening, pass); nothing else decides
** the order. State is those numbers and t: restoring replays t steps, which over rows costs a few nanoseconds each.
*/
#include <stdio.h>
#include "dataset.h"

#define STREAM 0x73687566ull /* "shuf": the random stream of orders */
#define DRAWS 128            /* drawn at a time */
#define ROWS 256             /* row numbers pulled at a time */
#define FIRST_CAP 256

typedef struct shuffle_stage {
  nni_stage s;
  int64_t opening, step;      /* which opening of the data set; elements given in this pass */
  uint64_t key;               /* of the pass */
  uint32_t draws[2 * DRAWS];  /* two words a step, those of steps [drawn - DRAWS, drawn) */
  int64_t drawn;
  int64_t most, cap, have;    /* elements wanted in the buffer; room for; in it */
  int64_t *rows;              /* the buffer, one of the two */
  nni_element *elements;
  int64_t ahead[ROWS];        /* row numbers pulled and not yet in the buffer */
  int n_ahead, at_ahead;
  bool up_end;
  int64_t *start;             /* state of the stages before it when the pass began */
} shuffle_stage;

static int start_words(const nni_stage *s) { return s->up->d->words - NNI_STATE_HEAD; }

static void begin_pass(shuffle_stage *t) {
  const nni_dataset *d = t->s.d;
  uint64_t opening = d->u.shuffle.reshuffle ? (uint64_t)t->opening : 0, pass = d->u.shuffle.reshuffle ? t->s.pass : 0;
  nni_philox a = nni_philox4x32(d->u.shuffle.seed, opening, STREAM);
  nni_philox b = nni_philox4x32((uint64_t)a.v[0] << 32 | a.v[1], pass, STREAM);
  t->key = (uint64_t)b.v[0] << 32 | b.v[1];
  t->step = t->drawn = 0;
  t->n_ahead = t->at_ahead = 0;
  t->up_end = false;
  for (; t->elements != NULL && t->have > 0; t->have--) nni_element_free(d->m, &t->elements[t->have - 1]);
  t->have = 0;
  nni_stage_save(t->s.up, t->start);
}

static nn_status shuffle_open(nni_stage *s, nni_error *err) {
  shuffle_stage *t = (shuffle_stage *)s;
  int64_t n = nni_dataset_cardinality(s->up->d);
  t->most = n > 0 && n < s->d->u.shuffle.buffer ? n : s->d->u.shuffle.buffer;
  t->start = nni_malloc(s->d->m, (size_t)start_words(s) * sizeof *t->start);
  if (t->start == NULL) return nni_fail(err, NN_ENOMEM, "shuffle: out of memory");
  t->opening = s->d->u.shuffle.opens++;
  begin_pass(t);
  return NN_OK;
}

static nn_status shuffle_rewind(nni_stage *s, nni_error *err) {
  nn_status rc = nni_stage_rewind(s->up, s->pass, err);
  if (rc == NN_OK) begin_pass((shuffle_stage *)s);
  return rc;
}

static void shuffle_close(nni_stage *s) {
  shuffle_stage *t = (shuffle_stage *)s;
  nni_memory *m = s->d->m;
  for (; t->elements != NULL && t->have > 0; t->have--) nni_element_free(m, &t->elements[t->have - 1]);
  nni_free(m, t->elements, (size_t)t->cap * sizeof *t->elements);
  nni_free(m, t->rows, (size_t)t->cap * sizeof *t->rows);
  nni_free(m, t->start, (size_t)start_words(s) * sizeof *t->start);
}

/* Which of the `have` entries of the buffer is next: multiply-shift on 64 random bits. */
static int64_t draw(shuffle_stage *t) {
  if (t->step >= t->drawn) {
    nni_random_u32(t->key, STREAM, 2 * (uint64_t)t->step, t->draws, NNI_COUNT(t->draws));
    t->drawn = t->step + DRAWS;
  }
  const uint32_t *w = &t->draws[2 * (t->step + DRAWS - t->drawn)];
  t->step++;
  return (int64_t)(((unsigned __int128)((uint64_t)w[0] << 32 | w[1]) * (uint64_t)t->have) >> 64);
}

/* Room for one more entry: the buffer grows as it fills, so that a buffer size far beyond the data costs nothing. */
static nn_status reserve(shuffle_stage *t, nni_error *err) {
  if (t->have < t->cap) return NN_OK;
  bool rows = t->s.d->source != NULL;
  size_t elem = rows ? sizeof *t->rows : sizeof *t->elements;
  int64_t cap = t->cap == 0 ? FIRST_CAP : 2 * t->cap;
  if (cap > t->most) cap = t->most;
  void *old = rows ? (void *)t->rows : (void *)t->elements;
  void *p = (uint64_t)cap < SIZE_MAX / elem ? nni_realloc(t->s.d->m, old, (size_t)t->cap * elem, (size_t)cap * elem) : NULL;
  if (p == NULL) return nni_fail(err, NN_ENOMEM, "shuffle: out of memory for a buffer of %lld", (long long)cap);
  if (rows) t->rows = p;
  else t->elements = p;
  t->cap = cap;
  return NN_OK;
}

/* ---- over rows ------------------------------------------------------------------------------------------------------------ */

/* The next row number from the stage before; false at its end. */
static bool next_row(shuffle_stage *t, int64_t *row, nn_status *rc, nni_error *err) {
  if (t->at_ahead == t->n_ahead && !t->up_end) {
    int64_t got = 0;
    *rc = t->s.up->d->verb->rows(t->s.up, t->ahead, ROWS, &got, err);
    t->up_end = got == 0;
    t->n_ahead = (int)got;
    t->at_ahead = 0;
  }
  if (t->at_ahead == t->n_ahead) return false;
  *row = t->ahead[t->at_ahead++];
  return true;
}

static nn_status shuffle_rows(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err) {
  shuffle_stage *t = (shuffle_stage *)s;
  nn_status rc = NN_OK;
  int64_t row;
  *got = 0;
  while (t->have < t->most && !t->up_end) {
    if ((rc = reserve(t, err)) != NN_OK) return rc;
    if (!next_row(t, &row, &rc, err)) break;
    t->rows[t->have++] = row;
  }
  while (rc == NN_OK && *got < max && t->have > 0) {
    int64_t j = draw(t);
    out[(*got)++] = t->rows[j];
    t->rows[j] = next_row(t, &row, &rc, err) ? row : t->rows[--t->have];
  }
  return rc;
}

/* ---- over elements ---------------------------------------------------------------------------------------------------------- */

/* One more element into entry t->have of the buffer, which has room. */
static nn_status pull(shuffle_stage *t, void *caller, int64_t at, bool *came, nni_error *err) {
  *came = false;
  if (t->up_end) return NN_OK;
  nn_status rc = nni_stage_pull(t->s.up, caller, &t->elements[at], err);
  t->up_end = rc != NN_OK || t->elements[at].n == 0;
  *came = !t->up_end;
  return rc;
}

static nn_status shuffle_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  shuffle_stage *t = (shuffle_stage *)s;
  bool came;
  nn_status rc;
  while (t->have < t->most && !t->up_end) {
    if ((rc = reserve(t, err)) != NN_OK || (rc = pull(t, caller, t->have, &came, err)) != NN_OK) return rc;
    if (came) t->have++;
  }
  if (t->have == 0) return NN_OK;
  int64_t j = draw(t);
  *out = t->elements[j];
  t->elements[j] = t->elements[--t->have]; /* entry t->have is free now, for the one that takes its place */
  rc = pull(t, caller, t->have, &came, err);
  if (came) {
    nni_element last = t->elements[t->have];
    if (j < t->have) {
      t->elements[t->have] = t->elements[j];
      t->elements[j] = last;
    }
    t->have++;
  }
  if (rc != NN_OK) nni_element_free(s->d->m, out);
  return rc;
}

/* ---- state -------------------------------------------------------------------------------------------------------------------- */

static void shuffle_save(const nni_stage *s, int64_t *words) {
  const shuffle_stage *t = (const shuffle_stage *)s;
  words[0] = (int64_t)s->d->u.shuffle.seed;
  words[1] = t->opening;
  words[2] = (int64_t)s->pass;
  words[3] = t->step;
}

static void shuffle_save_up(const nni_stage *s, int64_t *words) {
  const shuffle_stage *t = (const shuffle_stage *)s;
  memcpy(words, t->start, (size_t)start_words(s) * sizeof *words);
}

static nn_status shuffle_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  shuffle_stage *t = (shuffle_stage *)s;
  if (words[1] < 0 || words[3] < 0) return nni_fail(err, NN_EFORMAT, "shuffle: the state has a negative position");
  s->d->u.shuffle.seed = (uint64_t)words[0];
  t->opening = words[1];
  s->pass = (uint64_t)words[2];
  begin_pass(t);
  while (t->step < words[3]) {
    nn_status rc;
    int64_t drop[ROWS], left = words[3] - t->step, got = 0;
    if (s->d->source != NULL) {
      rc = shuffle_rows(s, drop, left < ROWS ? left : ROWS, &got, err);
    } else {
      nni_element e = {0};
      rc = shuffle_next(s, caller, &e, err);
      got = e.n;
      nni_element_free(s->d->m, &e);
    }
    if (rc != NN_OK) return rc;
    if (got == 0)
      return nni_fail(err, NN_EFORMAT, "shuffle: the state stands at element %lld; there are %lld", (long long)words[3], (long long)t->step);
  }
  return NN_OK;
}

static void shuffle_save_node(const nni_dataset *d, int64_t *words) {
  words[0] = (int64_t)d->u.shuffle.seed;
  words[1] = d->u.shuffle.opens;
}

static void shuffle_restore_node(nni_dataset *d, const int64_t *words, bool in_pass) {
  d->u.shuffle.seed = (uint64_t)words[0];
  d->u.shuffle.opens = words[1] + in_pass;
}

static int64_t shuffle_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up); }

static int shuffle_params(const nni_dataset *d, char *buf, size_t n) {
  return snprintf(buf, n, "%lld%s", (long long)d->u.shuffle.buffer, d->u.shuffle.reshuffle ? "" : " once");
}

static const nni_verb shuffle_verb = {.name = "shuffle", .stage_bytes = sizeof(shuffle_stage), .words = 4, .params = shuffle_params,
  .cardinality = shuffle_cardinality, .rows_in = nni_up_rows_in, .open = shuffle_open, .rows = shuffle_rows, .next = shuffle_next,
  .rewind = shuffle_rewind,
  .save = shuffle_save, .save_up = shuffle_save_up, .restore = shuffle_restore, .save_node = shuffle_save_node,
  .restore_node = shuffle_restore_node, .close = shuffle_close};

nni_dataset *nni_data_shuffle(nni_dataset *up, int64_t buffer, uint64_t seed, bool reshuffle, nni_error *err) {
  if (buffer < 1) {
    nni_fail(err, NN_EINVAL, "shuffle: a buffer of %lld; at least 1", (long long)buffer);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(up->m, &shuffle_verb, up, err);
  if (d == NULL) return NULL;
  d->u.shuffle.buffer = buffer;
  d->u.shuffle.seed = seed;
  d->u.shuffle.reshuffle = reshuffle;
  return d;
}
