/* base/threads.c - the thread pool: one fork and one join for each parallel loop, no queues.
**
** Owns n - 1 workers, started by the first loop that needs them. The thread that calls nni_parallel is thread 0. A loop is
** published by raising `start`; each worker runs its part and lowers `pending`; the caller goes on at 0. Both sides spin for
** SPIN_NS (a loop then costs about 0.2 us), then sleep, the caller after giving its CPU away a few times: a worker may be waiting
** for that very CPU. With more threads than CPUs nobody spins. A worker between two loops runs the errand that was offered, if any: the
** one thing here that any thread may ask for.
** Invariants: fn, arg, count and stop are written only while pending == 0, and read by workers only between a raised start and
** their own lowering of pending; `start` never moves by more than 1 before all workers have seen it.
*/
#define _GNU_SOURCE /* sched_getaffinity */
#include "base.h"
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__) && !defined(NNI_NO_FUTEX)
#include <linux/futex.h>
#include <sys/syscall.h>
#define USE_FUTEX 1
#endif

#define SPIN_NS 40000
#define SPIN_BATCH 64  /* looks between two readings of the clock */
#define YIELDS 16      /* of the caller, before it sleeps */
#define ERRAND_SPINS 1000 /* looks of an errand's owner, before it gives its CPU away between them */
#define DEFAULT_MAX 64 /* threads when nobody says how many */
#define THREADS_MAX 512
#define LINE 128       /* two cache lines: neighbours are fetched in pairs */
#define ASLEEP 0x80000000u /* in `pending`: the caller sleeps */

/* ---- a 32-bit word that threads can sleep on ----------------------------------------------------------------------------- */

typedef struct gate {
  _Atomic uint32_t word;
#ifndef USE_FUTEX
  pthread_mutex_t lock;
  pthread_cond_t changed;
#endif
} gate;

#ifdef USE_FUTEX
static void gate_init(gate *g) { atomic_init(&g->word, 0); }
static void gate_close(gate *g) { (void)g; }
/* Sleeps while the word is `value`; may return early. */
static void gate_sleep(gate *g, uint32_t value) { syscall(SYS_futex, &g->word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); }
static void gate_wake(gate *g) { syscall(SYS_futex, &g->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); }
#else
static void gate_init(gate *g) {
  atomic_init(&g->word, 0);
  pthread_mutex_init(&g->lock, NULL);
  pthread_cond_init(&g->changed, NULL);
}
static void gate_close(gate *g) {
  pthread_mutex_destroy(&g->lock);
  pthread_cond_destroy(&g->changed);
}
static void gate_sleep(gate *g, uint32_t value) {
  pthread_mutex_lock(&g->lock);
  if (atomic_load(&g->word) == value) pthread_cond_wait(&g->changed, &g->lock);
  pthread_mutex_unlock(&g->lock);
}
static void gate_wake(gate *g) {
  pthread_mutex_lock(&g->lock); /* a thread between its look and its sleep holds the lock */
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}
#endif

static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the pool ------------------------------------------------------------------------------------------------------------ */

typedef struct worker {
  nni_threads *pool;
  pthread_t thread;
  uint32_t seen; /* value of start that it has already served */
  int tid;
} worker;

struct nni_threads {
  nni_memory *m;
  void *raw;       /* this struct lies LINE-aligned inside it */
  int n;           /* threads wanted, the caller included */
  int running;     /* workers that run */
  bool spin;
  worker *workers;
  int room;        /* in workers; n - 1, or more when the system gave fewer threads */
  nni_block_fn fn; /* the loop */
  void *arg;
  int64_t count;
  int cpu;         /* on which the caller published the loop, -1 unknown */
  bool stop;
#ifdef NNI_DEBUG
  atomic_bool busy; /* a loop is running */
#endif
  _Alignas(LINE) gate start;
  _Atomic(nni_errand *) errand; /* offered and not begun; beside `start`, since whoever looks for a loop looks here too */
  _Alignas(LINE) _Atomic uint32_t sleeping; /* workers that sleep, or are about to */
  _Alignas(LINE) gate pending;
};

/* Which pool's loop this thread is running, and as which thread of it: a loop inside it runs inline. */
static _Thread_local struct {
  const nni_threads *pool;
  int tid;
} inside;

static int cpu_count(void) {
  long n = 0;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
#endif
  if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > 1 << 20 ? 1 << 20 : (int)n;
}

/* count * t / n without overflow */
static inline int64_t bound(int64_t count, int t, int n) { return count / n * t + count % n * t / n; }

static void run_part(nni_threads *t, int tid) {
  int n = t->running + 1;
  int64_t begin = bound(t->count, tid, n), end = bound(t->count, tid + 1, n);
  if (begin < end) t->fn(t->arg, begin, end, tid);
}

static void run_errand(nni_threads *t) {
  if (atomic_load_explicit(&t->errand, memory_order_relaxed) == NULL) return;
  nni_errand *e = atomic_exchange_explicit(&t->errand, NULL, memory_order_acquire);
  if (e == NULL) return; /* another worker took it, or its owner took it back */
  e->run(e->arg);
  atomic_store_explicit(&e->done, true, memory_order_release); /* the owner may end *e from here on */
}

/* Waits until start differs from seen; returns it. */
static uint32_t wait_start(nni_threads *t, uint32_t seen) {
  uint32_t now;
  if (t->spin) {
    int64_t until = now_ns() + SPIN_NS;
    do
      for (int i = 0; i < SPIN_BATCH; i++) {
        now = atomic_load_explicit(&t->start.word, memory_order_acquire);
        if (now != seen) return now;
        run_errand(t);
        cpu_pause();
      }
    while (now_ns() < until);
  } else run_errand(t);
  atomic_fetch_add(&t->sleeping, 1); /* before the look inside gate_sleep; the caller raises start before it looks here */
  while ((now = atomic_load(&t->start.word)) == seen) gate_sleep(&t->start, seen);
  atomic_fetch_sub(&t->sleeping, 1);
  return now;
}

static void wait_pending(nni_threads *t) {
  uint32_t now;
  if (t->spin) {
    int64_t until = 0;
    for (int i = 0;; i++) {
      if (atomic_load_explicit(&t->pending.word, memory_order_acquire) == 0) return;
      cpu_pause();
      if (i < SPIN_BATCH) continue;
      i = 0;
      if (until == 0) until = now_ns() + SPIN_NS;
      else if (now_ns() >= until) break;
    }
  }
  for (int i = 0; i < YIELDS; i++) {
    if (atomic_load_explicit(&t->pending.word, memory_order_acquire) == 0) return;
    sched_yield();
  }
  now = atomic_fetch_or(&t->pending.word, ASLEEP) | ASLEEP;
  while (now != ASLEEP) {
    gate_sleep(&t->pending, now);
    now = atomic_load_explicit(&t->pending.word, memory_order_acquire);
  }
  atomic_store_explicit(&t->pending.word, 0, memory_order_relaxed);
}

/* The kernel may wake a worker on the very CPU where the caller spins, and leave the pair there for good, since each sleeps while the
** other runs: every loop then costs the spinning time. A worker that finds itself there moves, by leaving that CPU out for a moment. */
static void move_off(int cpu) {
#if defined(__linux__)
  cpu_set_t all, others;
  if (cpu < 0 || sched_getcpu() != cpu || sched_getaffinity(0, sizeof all, &all) != 0) return;
  others = all;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof all, &all);
#else
  (void)cpu;
#endif
}

static void *worker_main(void *p) {
  worker *w = p;
  nni_threads *t = w->pool;
  uint32_t seen = w->seen;
  inside.pool = t;
  inside.tid = w->tid;
  for (;;) {
    seen = wait_start(t, seen);
    if (t->stop) return NULL;
    if (t->spin) move_off(t->cpu);
    run_part(t, w->tid);
    if (atomic_fetch_sub(&t->pending.word, 1) == (ASLEEP | 1)) gate_wake(&t->pending);
  }
}

static void publish(nni_threads *t) {
  atomic_fetch_add(&t->start.word, 1);
  if (atomic_load(&t->sleeping) != 0) gate_wake(&t->start);
}

/* Starts the workers that are missing; with fewer than wanted when the system has no more. */
static void workers_start(nni_threads *t) {
  sigset_t all, old;
  sigfillset(&all); /* signals are for the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  while (t->running < t->n - 1) {
    worker *w = &t->workers[t->running];
    *w = (worker){.pool = t, .seen = atomic_load(&t->start.word), .tid = t->running + 1};
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) break;
    t->running++;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  t->n = t->running + 1;
}

static void workers_stop(nni_threads *t) {
  if (t->running == 0) return;
  t->stop = true;
  publish(t);
  for (int i = 0; i < t->running; i++) pthread_join(t->workers[i].thread, NULL);
  t->stop = false;
  t->running = 0;
}

nni_threads *nni_threads_open(nni_memory *m, int n) {
  void *raw = nni_malloc(m, sizeof(nni_threads) + LINE - 1);
  nni_threads *t;
  int cpus = cpu_count();
  if (raw == NULL) return NULL;
  if (n <= 0) n = cpus < DEFAULT_MAX ? cpus : DEFAULT_MAX;
  t = (nni_threads *)((char *)raw + (-(uintptr_t)raw & (LINE - 1)));
  memset(t, 0, sizeof *t);
  t->m = m;
  t->raw = raw;
  t->n = 1;
  gate_init(&t->start);
  gate_init(&t->pending);
  if (!nni_threads_resize(t, n)) {
    nni_threads_close(t);
    return NULL;
  }
  return t;
}

void nni_threads_close(nni_threads *t) {
  if (t == NULL) return;
  workers_stop(t);
  nni_free(t->m, t->workers, (size_t)t->room * sizeof(worker));
  gate_close(&t->start);
  gate_close(&t->pending);
  nni_free(t->m, t->raw, sizeof(nni_threads) + LINE - 1);
}

int nni_threads_count(const nni_threads *t) { return t->n; }

bool nni_threads_resize(nni_threads *t, int n) {
  worker *workers = NULL;
  int cpus = cpu_count();
  if (n <= 0) n = cpus < DEFAULT_MAX ? cpus : DEFAULT_MAX;
  if (n > THREADS_MAX) n = THREADS_MAX;
  if (n > 1) {
    workers = nni_malloc(t->m, (size_t)(n - 1) * sizeof(worker));
    if (workers == NULL) return false;
  }
  workers_stop(t);
  nni_free(t->m, t->workers, (size_t)t->room * sizeof(worker));
  t->workers = workers;
  t->room = n - 1;
  t->n = n;
  t->spin = n <= cpus;
  return true;
}

void nni_parallel(nni_threads *t, int64_t count, nni_block_fn fn, void *arg) {
  if (count <= 0) return;
  if (inside.pool != NULL) {
    fn(arg, 0, count, inside.pool == t ? inside.tid : 0);
    return;
  }
  if (count == 1 || t->n == 1) {
    fn(arg, 0, count, 0);
    return;
  }
#ifdef NNI_DEBUG
  assert(!atomic_exchange(&t->busy, true));
#endif
  if (t->running < t->n - 1) workers_start(t);
  t->fn = fn;
  t->arg = arg;
  t->count = count;
  inside.pool = t;
  inside.tid = 0;
  if (t->running == 0) fn(arg, 0, count, 0); /* the system gave no thread at all */
  else {
    atomic_store_explicit(&t->pending.word, (uint32_t)t->running, memory_order_relaxed);
#if defined(__linux__)
    t->cpu = sched_getcpu();
#else
    t->cpu = -1;
#endif
    publish(t);
    run_part(t, 0);
    wait_pending(t);
  }
  inside.pool = NULL;
#ifdef NNI_DEBUG
  atomic_store(&t->busy, false);
#endif
}

bool nni_threads_offer(nni_threads *t, nni_errand *e) {
  nni_errand *none = NULL;
  atomic_store_explicit(&e->done, false, memory_order_relaxed);
  return atomic_compare_exchange_strong_explicit(&t->errand, &none, e, memory_order_release, memory_order_relaxed);
}

bool nni_threads_take_back(nni_threads *t, nni_errand *e) {
  nni_errand *mine = e;
  if (atomic_load_explicit(&e->done, memory_order_acquire)) return false;
  if (atomic_compare_exchange_strong_explicit(&t->errand, &mine, NULL, memory_order_relaxed, memory_order_relaxed)) return true;
  for (int i = 0; !atomic_load_explicit(&e->done, memory_order_acquire); i++)
    if (i < ERRAND_SPINS) cpu_pause();
    else sched_yield();
  return false;
}
