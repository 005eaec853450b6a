/* base/base.h - what every room of the runtime stands on: error slot, allocator hook and caching pool, thread pool, Philox.
**
** Includes nothing of the other rooms. Everything here is thread-safe unless a line says otherwise, so that data-set workers can use it.
*/
#ifndef NNI_BASE_H
#define NNI_BASE_H
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include "../nn.h"

#define NNI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NNI_COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* ---- error slot (status.c) ------------------------------------------------------------------------------------------- */
/* One line, at most sizeof text bytes; a longer message is cut. A slot belongs to one thread at a time. */
typedef struct nni_error {
  nn_status status;
  char text[1000];
} nni_error;
/* Fill the slot and return s, so that a function can end with `return nni_fail(...)`. slot may be NULL. */
nn_status nni_fail(nni_error *slot, nn_status s, const char *fmt, ...) NNI_PRINTF(3, 4);
nn_status nni_failv(nni_error *slot, nn_status s, const char *fmt, va_list ap);

/* ---- checked sizes (status.c): nothing else multiplies dims ------------------------------------------------------------- */
/* Product of n sizes >= 0; false when one is negative or the product times elem_bytes exceeds PTRDIFF_MAX. */
bool nni_size_mul(const int64_t *sizes, int n, size_t elem_bytes, int64_t *count);

/* ---- memory (alloc.c) ------------------------------------------------------------------------------------------------ */
/* Two ways to get memory, both through the context's nn_alloc_fn:
**   nni_malloc/nni_free: small bookkeeping; freed at once; the caller gives the size back (no header).
**   nni_buffer_get/put:  element storage; 64-byte aligned, readable NNI_PAD bytes past its end, size-bucketed, kept for re-use
**                        when put; blocks of 2 MiB and more are aligned to 2 MiB and advised to be huge pages.
*/
#define NNI_PAD 64
typedef struct nni_memory nni_memory;
nni_memory *nni_memory_open(nn_alloc_fn fn, void *ud);  /* fn NULL: malloc family; NULL on failure */
void nni_memory_close(nni_memory *m);                    /* frees the cache; live buffers are a bug (asserted in debug builds) */
void *nni_malloc(nni_memory *m, size_t n);               /* NULL when it fails or n == 0 */
void *nni_calloc(nni_memory *m, size_t n);
void *nni_realloc(nni_memory *m, void *p, size_t osize, size_t nsize); /* on failure p stays valid */
void nni_free(nni_memory *m, void *p, size_t n);          /* p may be NULL */
char *nni_strdup(nni_memory *m, const char *s);           /* free with size strlen + 1 */
void *nni_buffer_get(nni_memory *m, size_t n);            /* contents undefined; n == 0 gives a valid pointer; NULL: drop the cache, retry, fail */
void nni_buffer_put(nni_memory *m, void *p, size_t n);    /* n as asked for */
nn_memory_info nni_memory_stats(nni_memory *m);
void nni_memory_trim(nni_memory *m);

/* Fixed-size objects (tensors, values, tape entries): a free list over nni_malloc. Not thread-safe. */
typedef struct nni_slab { nni_memory *m; size_t size; void *free; } nni_slab;
void nni_slab_init(nni_slab *s, nni_memory *m, size_t size);
void *nni_slab_get(nni_slab *s);        /* uninitialised; NULL on failure */
void nni_slab_put(nni_slab *s, void *p);
void nni_slab_close(nni_slab *s);       /* frees the free list */

/* Growable bump arena for one window: cheap pieces, freed all at once; keeps its blocks. Not thread-safe. */
typedef struct nni_arena { nni_memory *m; struct nni_arena_block *first, *cur; size_t used; } nni_arena;
void nni_arena_init(nni_arena *a, nni_memory *m);
void *nni_arena_get(nni_arena *a, size_t n);   /* 16-byte aligned, uninitialised; NULL on failure */
void nni_arena_reset(nni_arena *a);
void nni_arena_close(nni_arena *a);

/* ---- threads (threads.c) ---------------------------------------------------------------------------------------------- */
/* One pool of our own: n-1 workers and the caller; workers spin a few tens of microseconds, then park on a futex.
** Work is a range of blocks; thread t of n gets the contiguous blocks [count*t/n, count*(t+1)/n), the same from call to call,
** so that a thread keeps its slice of every array. What a block computes must not depend on n.
** A call from inside a pool thread, or with count == 1, runs inline. Not re-entrant from two user threads at once (asserted). */
typedef struct nni_threads nni_threads;
typedef void (*nni_block_fn)(void *arg, int64_t begin, int64_t end, int tid);
nni_threads *nni_threads_open(nni_memory *m, int n); /* n <= 0: CPUs this process may use (at most 64); threads start on first use */
void nni_threads_close(nni_threads *t);
int nni_threads_count(const nni_threads *t);
bool nni_threads_resize(nni_threads *t, int n);      /* false when it fails; then unchanged */
void nni_parallel(nni_threads *t, int64_t count, nni_block_fn fn, void *arg);

/* Something small that may be done ahead by a worker that has no loop to run: one at a time. Nobody is woken for it, and a loop that begins
** meanwhile waits for it, so it should take microseconds. Any thread may offer; what was offered must be taken back before it or the pool ends. */
typedef struct nni_errand {
  void (*run)(void *arg); /* on a worker; a nni_parallel inside runs inline */
  void *arg;
  atomic_bool done;
} nni_errand;
bool nni_threads_offer(nni_threads *t, nni_errand *e);     /* false: another one is waiting; then *e was not offered */
bool nni_threads_take_back(nni_threads *t, nni_errand *e); /* true: it was not begun and never will be; false: it has been run (waits until it is) */

/* ---- random (philox.c) ------------------------------------------------------------------------------------------------ */
/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A draw depends on (seed, counter) only.
** Draw number i of a stream at `position` is word i%4 of philox(key = seed, counter = {position + i/4 (64 bit), stream (64 bit)}). */
typedef struct nni_philox { uint32_t v[4]; } nni_philox;
nni_philox nni_philox4x32(uint64_t key, uint64_t counter, uint64_t stream);
static inline float nni_uniform01(uint32_t u) { return (float)(u >> 8) * 0x1p-24f; } /* [0, 1) */
void nni_random_u32(uint64_t key, uint64_t stream, uint64_t first_draw, uint32_t *out, int64_t n);
void nni_random_uniform(uint64_t key, uint64_t stream, uint64_t first_draw, float *out, int64_t n);            /* [0, 1) */
void nni_random_normal(uint64_t key, uint64_t stream, uint64_t first_draw, float *out, int64_t n);             /* Box-Muller: element i from draws 2*(i/2), 2*(i/2)+1 */
uint64_t nni_random_below(uint64_t key, uint64_t stream, uint64_t draw, uint64_t n);                           /* [0, n), multiply-shift on 64 bits */

#endif
