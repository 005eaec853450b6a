/* data/prefetch.c - run the stages before it ahead, on a worker thread.
**
** The worker owns the stages before it from its start until it is joined; it fills a ring of `n` elements, each with the state of those stages
** right after it, so that the consumer's position is known however far ahead the worker is. The end and a failure travel through the ring's tail.
** Elements are just passed on where a stage before it must run on the consumer's thread, where no thread can be had, and where making
** them is cheaper than handing them over.
*/
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include "dataset.h"

#define MOST 65536

typedef struct prefetch_stage {
  nni_stage s;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t room, item; /* there is room for the worker; an item for the consumer */
  bool has_lock, running;    /* running: to be joined */
  bool direct;               /* no worker */
  nni_element *ring;         /* elements [head, head + count) modulo n */
  int64_t *states;           /* n x words: of the stages before it, after each */
  int64_t *last;             /* words: after the element that was handed out last */
  int64_t n, head, count;
  int words;
  bool stop, ended;          /* asked to stop; nothing follows what is in the ring */
  nn_status rc;              /* why it ended */
  nni_error err;
} prefetch_stage;

static void *work(void *arg) {
  prefetch_stage *t = arg;
  pthread_mutex_lock(&t->lock);
  while (!t->stop && !t->ended) {
    if (t->count == t->n) {
      pthread_cond_wait(&t->room, &t->lock);
      continue;
    }
    int64_t at = (t->head + t->count) % t->n; /* free, and head only moves away from it */
    pthread_mutex_unlock(&t->lock);
    nn_status rc = nni_stage_pull(t->s.up, NULL, &t->ring[at], &t->err);
    bool item = rc == NN_OK && t->ring[at].n > 0;
    if (item) nni_stage_save(t->s.up, t->states + at * t->words);
    pthread_mutex_lock(&t->lock);
    t->rc = rc;
    if (item) t->count++;
    else t->ended = true;
    pthread_cond_signal(&t->item);
  }
  pthread_mutex_unlock(&t->lock);
  return NULL;
}

/* Signals are for the main thread. */
static bool start(prefetch_stage *t) {
  sigset_t all, old;
  sigfillset(&all);
  t->stop = t->ended = false;
  t->rc = NN_OK;
  t->head = t->count = 0;
  nni_stage_save(t->s.up, t->last);
  if (pthread_sigmask(SIG_SETMASK, &all, &old) != 0) return false;
  t->running = pthread_create(&t->thread, NULL, work, t) == 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return t->running;
}

static void halt(prefetch_stage *t) {
  if (!t->running) return;
  pthread_mutex_lock(&t->lock);
  t->stop = true;
  pthread_cond_signal(&t->room);
  pthread_mutex_unlock(&t->lock);
  pthread_join(t->thread, NULL);
  t->running = false;
  for (; t->count > 0; t->count--, t->head = (t->head + 1) % t->n) nni_element_free(t->s.d->m, &t->ring[t->head]);
}

static nn_status prefetch_open(nni_stage *s, nni_error *err) {
  prefetch_stage *t = (prefetch_stage *)s;
  nni_memory *m = s->d->m;
  t->n = s->d->u.prefetch.n;
  t->words = s->up->d->words - NNI_STATE_HEAD;
  t->direct = s->d->u.prefetch.direct;
  if (t->direct) return NN_OK;
  t->ring = nni_calloc(m, (size_t)t->n * sizeof *t->ring);
  t->states = nni_malloc(m, (size_t)(t->n * t->words) * sizeof *t->states);
  t->last = nni_calloc(m, (size_t)t->words * sizeof *t->last);
  if (t->ring == NULL || t->states == NULL || t->last == NULL) return nni_fail(err, NN_ENOMEM, "prefetch: out of memory");
  pthread_mutex_init(&t->lock, NULL); /* these three can't fail with default attributes on Linux */
  pthread_cond_init(&t->room, NULL);
  pthread_cond_init(&t->item, NULL);
  t->has_lock = true;
  return NN_OK;
}

static void prefetch_close(nni_stage *s) {
  prefetch_stage *t = (prefetch_stage *)s;
  nni_memory *m = s->d->m;
  halt(t);
  if (t->has_lock) {
    pthread_cond_destroy(&t->item);
    pthread_cond_destroy(&t->room);
    pthread_mutex_destroy(&t->lock);
  }
  nni_free(m, t->ring, (size_t)t->n * sizeof *t->ring);
  nni_free(m, t->states, (size_t)(t->n * t->words) * sizeof *t->states);
  nni_free(m, t->last, (size_t)t->words * sizeof *t->last);
}

static nn_status prefetch_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  prefetch_stage *t = (prefetch_stage *)s;
  if (!t->direct && !t->running) t->direct = !start(t);
  if (t->direct) return nni_stage_pull(s->up, caller, out, err);
  bool failed = false;
  pthread_mutex_lock(&t->lock);
  while (t->count == 0 && !t->ended) pthread_cond_wait(&t->item, &t->lock);
  nn_status rc = NN_OK;
  if (t->count > 0) {
    *out = t->ring[t->head];
    memcpy(t->last, t->states + t->head * t->words, (size_t)t->words * sizeof *t->last);
    t->head = (t->head + 1) % t->n;
    t->count--;
    pthread_cond_signal(&t->room);
  } else if (t->rc != NN_OK) {
    rc = nni_fail(err, t->rc, "%s", t->err.text);
    failed = true;
  }
  pthread_mutex_unlock(&t->lock);
  if (failed) halt(t); /* who goes on after a failure (ignore_errors) gets a worker that goes on after it */
  return rc;
}

static nn_status prefetch_rewind(nni_stage *s, nni_error *err) {
  halt((prefetch_stage *)s);
  return nni_stage_rewind(s->up, s->pass, err);
}

static void prefetch_save_up(const nni_stage *s, int64_t *words) {
  const prefetch_stage *t = (const prefetch_stage *)s;
  if (!t->running) nni_stage_save(s->up, words);
  else memcpy(words, t->last, (size_t)t->words * sizeof *words);
}

static int64_t prefetch_cardinality(const nni_dataset *d) { return nni_dataset_cardinality(d->up); }

static const nni_verb prefetch_verb = {.name = "prefetch", .silent = true, .stage_bytes = sizeof(prefetch_stage),
  .cardinality = prefetch_cardinality, .rows_in = nni_up_rows_in, .open = prefetch_open, .next = prefetch_next, .rewind = prefetch_rewind,
  .save_up = prefetch_save_up, .close = prefetch_close};

static bool cheap(const nni_dataset *up, int64_t worth) {
  if (up->source == NULL && !up->gathered) return false;
  int64_t bytes = 0;
  for (int i = 0; i < up->spec.n; i++) {
    const nni_component *c = &up->spec.c[i];
    int64_t count;
    if (!nni_size_mul(c->shape, c->ndim, nn_dtype_size(c->dtype), &count)) return false;
    bytes += count * (int64_t)nn_dtype_size(c->dtype);
    if (bytes > worth) return false;
  }
  return true;
}

nni_dataset *nni_data_prefetch(nni_dataset *up, int64_t n, int64_t worth, nni_error *err) {
  if (n < 1 || n > MOST) {
    nni_fail(err, NN_EINVAL, "prefetch: %lld elements; 1 to %d", (long long)n, MOST);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(up->m, &prefetch_verb, up, err);
  if (d == NULL) return NULL;
  d->u.prefetch.n = n;
  d->u.prefetch.direct = d->consumer_only || cheap(up, worth);
  d->gathered = up->gathered || up->source != NULL;
  return d;
}
