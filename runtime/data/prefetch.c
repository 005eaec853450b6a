/* data/prefetch.c - run the stages before it ahead: on a worker thread, or in the idle moments of the pool's.
**
** The worker owns the stages before it from its start until it is joined; it fills a ring of `n` elements, each with the state of those stages
** right after it, so that the consumer's position is known however far ahead the worker is. The end and a failure travel through the ring's tail.
**
** Where making an element is cheaper than handing it to a worker that must be woken, the next one is offered to the pool (nni_threads_offer) as each is
** handed out: threads that wait for the next loop make it meanwhile, and an element that nobody began is made when it is asked for. The stages
** before it belong to that errand from the offer until it is taken back.
** Elements are just passed on where a stage before it must run on the consumer's thread, or no thread can be had.
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
  bool direct;               /* no worker: passed on, or the errand */
  nni_element *ring;         /* elements [head, head + count) modulo n */
  int64_t *states;           /* n x words: of the stages before it, after each */
  int64_t *last;             /* words: after the element that was handed out last */
  int64_t n, head, count;
  int words;
  bool stop, ended;          /* asked to stop; nothing follows what is in the ring */
  nn_status rc;              /* why it ended */
  nni_error err;
  nni_errand errand;         /* makes `ahead`, rc and err */
  nni_element ahead;
  bool offered;
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

static void make_ahead(void *arg) {
  prefetch_stage *t = arg;
  t->rc = nni_stage_pull(t->s.up, NULL, &t->ahead, &t->err);
}

/* The stages before it are the consumer's again; true: `ahead` and rc are what they gave. */
static bool settle(prefetch_stage *t) {
  if (!t->offered) return false;
  t->offered = false;
  return !nni_threads_take_back(t->s.d->u.prefetch.pool, &t->errand);
}

static void offer(prefetch_stage *t) {
  nni_stage_save(t->s.up, t->last);
  t->offered = nni_threads_offer(t->s.d->u.prefetch.pool, &t->errand);
}

static void withdraw(prefetch_stage *t) {
  if (settle(t) && t->rc == NN_OK) nni_element_free(t->s.d->m, &t->ahead);
}

static nn_status pass_on(prefetch_stage *t, void *caller, nni_element *out, nni_error *err) {
  nn_status rc;
  if (settle(t)) {
    rc = t->rc;
    if (rc != NN_OK) return nni_fail(err, rc, "%s", t->err.text);
    *out = t->ahead;
  } else {
    rc = nni_stage_pull(t->s.up, caller, out, err);
    if (rc != NN_OK) return rc;
  }
  if (out->n > 0 && t->s.d->u.prefetch.pool != NULL) offer(t);
  return NN_OK;
}

static nn_status prefetch_open(nni_stage *s, nni_error *err) {
  prefetch_stage *t = (prefetch_stage *)s;
  nni_memory *m = s->d->m;
  t->n = s->d->u.prefetch.n;
  t->words = s->up->d->words - NNI_STATE_HEAD;
  t->direct = !s->d->u.prefetch.worker;
  t->errand = (nni_errand){.run = make_ahead, .arg = t};
  if (t->direct && s->d->u.prefetch.pool == NULL) return NN_OK;
  t->last = nni_calloc(m, (size_t)t->words * sizeof *t->last);
  if (t->last == NULL) return nni_fail(err, NN_ENOMEM, "prefetch: out of memory");
  if (t->direct) return NN_OK;
  t->ring = nni_calloc(m, (size_t)t->n * sizeof *t->ring);
  t->states = nni_malloc(m, (size_t)(t->n * t->words) * sizeof *t->states);
  if (t->ring == NULL || t->states == NULL) return nni_fail(err, NN_ENOMEM, "prefetch: out of memory");
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
  withdraw(t);
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
  if (t->direct) return pass_on(t, caller, out, err);
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
  withdraw((prefetch_stage *)s);
  return nni_stage_rewind(s->up, s->pass, err);
}

static void prefetch_save_up(const nni_stage *s, int64_t *words) {
  const prefetch_stage *t = (const prefetch_stage *)s;
  if (!t->running && !t->offered) nni_stage_save(s->up, words);
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

nni_dataset *nni_data_prefetch(nni_dataset *up, int64_t n, int64_t worth, nni_threads *pool, nni_error *err) {
  if (n < 1 || n > MOST) {
    nni_fail(err, NN_EINVAL, "prefetch: %lld elements; 1 to %d", (long long)n, MOST);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(up->m, &prefetch_verb, up, err);
  if (d == NULL) return NULL;
  d->u.prefetch.n = n;
  bool little = cheap(up, worth);
  d->u.prefetch.worker = !d->consumer_only && !little;
  d->u.prefetch.pool = !d->consumer_only && little ? pool : NULL;
  d->gathered = up->gathered || up->source != NULL;
  return d;
}
