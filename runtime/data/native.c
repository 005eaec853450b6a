/* data/native.c - map with a function that needs no Lua (nni_native), on several threads.
**
** The stage pulls elements itself, on the thread that asks it for one, and hands them to its workers through a ring; they come out in the order they
** went in, so neither order nor values depend on how many workers there are. With each element goes where the stages before it stood right
** after it was pulled: the state is that of the element given last, however far ahead the workers are.
** Workers only run the function: they pull nothing, and the ring's slots [taken by a worker, done) are theirs alone.
*/
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include "dataset.h"

#define STREAM 0x6e617469ull /* "nati" */
#define AHEAD 4              /* elements in the ring for each worker: one that takes long must not stop the others */

typedef struct native_own {
  nni_native fn;
  int workers;
  uint64_t seed;
  int64_t opens;
} native_own;

typedef struct slot {
  nni_element in, out;
  nni_sample sample;
  bool done;
  nn_status rc;
  nni_error err;
} slot;

typedef struct native_stage {
  nni_stage s;
  int64_t opening, at; /* at: elements of the stage before it that were used, up to the one given last */
  uint64_t key;        /* of the pass */
  bool direct, has_lock, stop, up_end;
  int nworkers, nthreads; /* worker objects, threads that run */
  void **workers;
  pthread_t *threads;
  pthread_mutex_t lock;
  pthread_cond_t work, finished;
  slot *ring, *awaited;   /* awaited: whom the consumer sleeps for, so that nobody else's end wakes it */
  int64_t *states, *last; /* n x words, words: of the stages before it */
  int64_t n, head, taken, tail; /* slots given back, taken by workers, filled: counted from the pass's begin */
  int begun;
} native_stage;

typedef struct starting {
  native_stage *t;
  int index;
} starting;

static const native_own *own_of(const nni_stage *s) { return s->d->own; }

static void key_pass(native_stage *t) {
  nni_philox a = nni_philox4x32(own_of(&t->s)->seed, (uint64_t)t->opening, STREAM);
  nni_philox b = nni_philox4x32((uint64_t)a.v[0] << 32 | a.v[1], t->s.pass, STREAM);
  t->key = (uint64_t)b.v[0] << 32 | b.v[1];
}

static nni_sample sample_at(const native_stage *t, int64_t index, void *caller) {
  nni_philox p = nni_philox4x32(t->key, (uint64_t)index, STREAM);
  return (nni_sample){.key = (uint64_t)p.v[0] << 32 | p.v[1], .index = index, .caller = caller};
}

static nn_status run(const native_stage *t, void *worker, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err) {
  const native_own *o = own_of(&t->s);
  out->n = 0;
  nn_status rc = o->fn.run(o->fn.ud, worker, t->s.d->m, sample, in, out, err);
  nni_element_free(t->s.d->m, in);
  return rc;
}

/* ---- workers ----------------------------------------------------------------------------------------------------------- */

static void *work(void *arg) {
  starting begin = *(starting *)arg;
  native_stage *t = begin.t;
  pthread_mutex_lock(&t->lock);
  t->nthreads++; /* arg has been read */
  pthread_cond_signal(&t->finished);
  while (!t->stop) {
    if (t->taken == t->tail) {
      pthread_cond_wait(&t->work, &t->lock);
      continue;
    }
    slot *job = &t->ring[t->taken++ % t->n];
    if (job->done) continue; /* a failure of the stages before it */
    pthread_mutex_unlock(&t->lock);
    nn_status rc = run(t, t->workers[begin.index], &job->sample, &job->in, &job->out, &job->err);
    pthread_mutex_lock(&t->lock);
    job->rc = rc;
    job->done = true;
    if (job == t->awaited) pthread_cond_signal(&t->finished);
  }
  pthread_mutex_unlock(&t->lock);
  return NULL;
}

/* Called with the lock held, which is free while it waits. */
static void await(native_stage *t, slot *job) {
  t->awaited = job;
  while (!job->done) pthread_cond_wait(&t->finished, &t->lock);
  t->awaited = NULL;
}

/* Worker objects and threads, at the first element. Signals are for the main thread. */
static nn_status start(native_stage *t, void *caller, nni_error *err) {
  const native_own *o = own_of(&t->s);
  sigset_t all, old;
  int created = 0;
  for (; t->begun < t->nworkers; t->begun++) {
    nn_status rc = o->fn.begin != NULL ? o->fn.begin(caller, o->fn.ud, &t->workers[t->begun], err) : NN_OK;
    if (rc != NN_OK) return rc;
  }
  if (t->direct || t->nthreads > 0) return NN_OK;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_mutex_lock(&t->lock);
  for (int i = 0; i < t->nworkers; i++) {
    starting begin = {.t = t, .index = i};
    if (pthread_create(&t->threads[created], NULL, work, &begin) != 0) break; /* fewer do as well */
    created++;
    while (t->nthreads < created) pthread_cond_wait(&t->finished, &t->lock);
  }
  pthread_mutex_unlock(&t->lock);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  t->direct = created == 0;
  return NN_OK;
}

/* Nothing is in the ring any more. */
static void drain(native_stage *t) {
  if (t->ring == NULL) return;
  pthread_mutex_lock(&t->lock);
  int64_t taken = t->taken;
  t->taken = t->tail; /* nobody takes more */
  for (int64_t i = t->head; i < t->tail; i++) {
    slot *job = &t->ring[i % t->n];
    if (i < taken) await(t, job);
    nni_element_free(t->s.d->m, &job->in);
    nni_element_free(t->s.d->m, &job->out);
  }
  t->head = t->tail = t->taken = 0;
  pthread_mutex_unlock(&t->lock);
}

/* ---- the stage --------------------------------------------------------------------------------------------------------- */

static nn_status native_open(nni_stage *s, nni_error *err) {
  native_stage *t = (native_stage *)s;
  nni_memory *m = s->d->m;
  native_own *o = s->d->own;
  size_t words = (size_t)nni_words_before(s->d);
  t->direct = o->workers == 0;
  t->nworkers = t->direct ? 1 : o->workers;
  t->opening = o->opens++;
  t->workers = nni_calloc(m, (size_t)t->nworkers * sizeof *t->workers);
  bool ok = t->workers != NULL;
  if (!t->direct && ok) {
    t->n = AHEAD * t->nworkers;
    pthread_mutex_init(&t->lock, NULL); /* these three can't fail with default attributes on Linux */
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->finished, NULL);
    t->has_lock = true;
    t->threads = nni_calloc(m, (size_t)t->nworkers * sizeof *t->threads);
    t->ring = nni_calloc(m, (size_t)t->n * sizeof *t->ring);
    t->states = nni_malloc(m, (size_t)t->n * words * sizeof *t->states);
    t->last = nni_malloc(m, words * sizeof *t->last);
    ok = t->threads != NULL && t->ring != NULL && t->states != NULL && t->last != NULL;
  }
  return ok ? NN_OK : nni_fail(err, NN_ENOMEM, "map: out of memory");
}

static void native_reset(nni_stage *s) {
  native_stage *t = (native_stage *)s;
  drain(t);
  t->up_end = false;
  t->at = 0;
  if (t->last != NULL) nni_stage_save_ups(s, t->last);
  key_pass(t);
}

static void native_close(nni_stage *s) {
  native_stage *t = (native_stage *)s;
  const native_own *o = own_of(s);
  nni_memory *m = s->d->m;
  size_t words = (size_t)nni_words_before(s->d);
  if (t->has_lock) {
    drain(t);
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->nthreads; i++) pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->finished);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
  }
  for (int i = 0; i < t->begun; i++)
    if (o->fn.end != NULL) o->fn.end(o->fn.ud, t->workers[i]);
  nni_free(m, t->workers, (size_t)t->nworkers * sizeof *t->workers);
  nni_free(m, t->threads, (size_t)t->nworkers * sizeof *t->threads);
  nni_free(m, t->ring, (size_t)t->n * sizeof *t->ring);
  nni_free(m, t->states, (size_t)t->n * words * sizeof *t->states);
  nni_free(m, t->last, words * sizeof *t->last);
}

static nn_status next_direct(native_stage *t, void *caller, nni_element *out, nni_error *err) {
  for (;;) {
    nni_element in;
    nn_status rc = nni_stage_pull(t->s.up, caller, &in, err);
    if (rc != NN_OK || in.n == 0) return rc;
    nni_sample sample = sample_at(t, t->at++, caller);
    rc = run(t, t->workers[0], &sample, &in, out, err);
    if (rc != NN_OK || out->n > 0) return rc;
  }
}

/* Fill the ring. What fails before the workers takes its place in the order too, and nothing is pulled beyond it until it has been told. */
static void fill(native_stage *t, void *caller) {
  int64_t words = nni_words_before(t->s.d);
  while (!t->up_end && t->tail - t->head < t->n) {
    slot *job = &t->ring[t->tail % t->n];
    *job = (slot){.sample = sample_at(t, t->at + (t->tail - t->head), NULL)};
    job->rc = nni_stage_pull(t->s.up, caller, &job->in, &job->err);
    if (job->rc == NN_OK && job->in.n == 0) {
      t->up_end = true;
      return;
    }
    if (job->rc == NN_OK) job->rc = nni_element_own(t->s.d->m, &job->in, &job->err);
    if (job->rc != NN_OK) nni_element_free(t->s.d->m, &job->in);
    t->up_end = job->done = job->rc != NN_OK;
    nni_stage_save_ups(&t->s, t->states + t->tail % t->n * words);
    pthread_mutex_lock(&t->lock);
    t->tail++;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
  }
}

static nn_status native_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  native_stage *t = (native_stage *)s;
  int64_t words = nni_words_before(s->d);
  nn_status rc = start(t, caller, err);
  if (rc != NN_OK || t->direct) return rc != NN_OK ? rc : next_direct(t, caller, out, err);
  for (;;) {
    fill(t, caller);
    if (t->head == t->tail) return NN_OK;
    slot *job = &t->ring[t->head % t->n];
    pthread_mutex_lock(&t->lock);
    await(t, job);
    if (t->taken == t->head) t->taken++; /* a failure that no worker has looked at yet */
    pthread_mutex_unlock(&t->lock);
    memcpy(t->last, t->states + t->head % t->n * words, (size_t)words * sizeof *t->last);
    t->head++;
    t->at++;
    rc = job->rc;
    *out = job->out;
    job->out.n = 0;
    if (rc != NN_OK) {
      out->n = 0;
      t->up_end = false; /* who goes on after a failure */
      return nni_fail(err, rc, "%s", job->err.text);
    }
    if (out->n > 0) return NN_OK;
  }
}

/* ---- state ------------------------------------------------------------------------------------------------------------- */

static void native_save_up(const nni_stage *s, int64_t *words) {
  const native_stage *t = (const native_stage *)s;
  if (t->last == NULL || t->direct) nni_stage_save_ups(s, words);
  else memcpy(words, t->last, (size_t)nni_words_before(s->d) * sizeof *words);
}

static void native_save(const nni_stage *s, int64_t *words) {
  const native_stage *t = (const native_stage *)s;
  words[0] = (int64_t)own_of(s)->seed;
  words[1] = t->opening;
  words[2] = (int64_t)s->pass;
  words[3] = t->at;
}

static nn_status native_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  native_stage *t = (native_stage *)s;
  native_own *o = s->d->own;
  (void)caller;
  if (words[1] < 0 || words[3] < 0) return nni_fail(err, NN_EFORMAT, "map: the state has a negative position");
  o->seed = (uint64_t)words[0];
  t->opening = words[1];
  s->pass = (uint64_t)words[2];
  native_reset(s);
  t->at = words[3];
  return NN_OK;
}

static void native_save_node(const nni_dataset *d, int64_t *words) {
  const native_own *o = d->own;
  words[0] = (int64_t)o->seed;
  words[1] = o->opens;
}

static void native_restore_node(nni_dataset *d, const int64_t *words, bool in_pass) {
  native_own *o = d->own;
  o->seed = (uint64_t)words[0];
  o->opens = words[1] + in_pass;
}

static int64_t native_cardinality(const nni_dataset *d) {
  const native_own *o = d->own;
  return o->fn.drops ? NN_UNKNOWN : nni_dataset_cardinality(d->up);
}

static int native_params(const nni_dataset *d, char *buf, size_t n) { return snprintf(buf, n, "%s", ((const native_own *)d->own)->fn.name); }

static void native_free(nni_dataset *d) {
  native_own *o = d->own;
  if (o->fn.drop != NULL) o->fn.drop(o->fn.ud);
}

static const nni_verb native_verb = {.name = "map", .stage_bytes = sizeof(native_stage), .node_bytes = sizeof(native_own), .words = 4,
  .params = native_params, .cardinality = native_cardinality, .open = native_open, .next = native_next, .reset = native_reset,
  .save = native_save, .save_up = native_save_up, .restore = native_restore, .save_node = native_save_node,
  .restore_node = native_restore_node, .close = native_close, .free = native_free};

nni_dataset *nni_data_native(nni_dataset *up, const nni_native *fn, int workers, uint64_t seed, nni_error *err) {
  nni_element spec = {.n = -1};
  nn_status rc = workers < 0 || workers > NNI_WORKERS_MOST
    ? nni_fail(err, NN_EINVAL, "map: %d workers; 0 to %d", workers, NNI_WORKERS_MOST)
    : fn->spec != NULL ? fn->spec(fn->ud, &up->spec, &spec, err) : NN_OK;
  nni_dataset *d = rc == NN_OK ? nni_dataset_new(up->m, &native_verb, up, err) : NULL;
  if (d == NULL) {
    if (fn->drop != NULL) fn->drop(fn->ud);
    return NULL;
  }
  *(native_own *)d->own = (native_own){.fn = *fn, .workers = workers, .seed = seed};
  d->spec = spec;
  d->consumer_only = up->consumer_only || fn->begin != NULL;
  return d;
}
