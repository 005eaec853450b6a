/* base/alloc.c - all memory of the runtime: small pieces, pooled element buffers, slabs and arenas.
**
** Owns the allocation hook and the cache of buffers. Thread-safe but for slabs and arenas. Invariants:
** - every byte comes through the hook and goes back with the size it was asked for;
** - the hook is never called with the lock held;
** - a buffer's address is preceded by its block record, which alone says how big the block is, so a request can be served by a
**   somewhat bigger block;
** - blocks lie in LIFO lists by size class, 8 classes a power of two. Nothing is given back to the system but by trim, on
**   exhaustion, and when a request misses while the cache holds more than the most that was ever live: a loop with steady shapes
**   never misses, and one whose shapes keep changing holds at most about twice its peak.
*/
#define _GNU_SOURCE /* madvise */
#include "base.h"
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define ALIGN ((size_t)64)
#define HUGE ((size_t)2 << 20)
#define NEAR_MIN ((size_t)64 << 10) /* from here on a request may take a block of the next NEAR classes */
#define NEAR 2
#define CACHE_FREE ((size_t)64 << 20) /* cached bytes that are never worth giving back on a miss */
#define NCLASS 440
#ifdef NNI_DEBUG
#define GUARD ((size_t)64) /* bytes of GUARD_BYTE behind the pad, checked when the buffer is put */
#define GUARD_BYTE 0xA5
#define FRESH_BYTE 0xFF /* contents of a new buffer: NaN as f32, so that a value nobody wrote shows */
#else
#define GUARD ((size_t)0)
#endif

/* In front of every buffer, ALIGN bytes before its address. */
typedef struct block {
  struct block *next; /* in its free list */
  void *raw;          /* what the hook gave, raw_size bytes */
  size_t raw_size;
  size_t cap;         /* element bytes it can hold, without NNI_PAD */
  size_t asked;       /* by the present holder */
  int size_class;
} block;
_Static_assert(sizeof(block) <= ALIGN, "block record");

struct nni_memory {
  nn_alloc_fn fn;
  void *ud;
  atomic_size_t small;
  pthread_mutex_t lock; /* of all that follows */
  nn_memory_info info;
  size_t buffers, damaged;
  block *free[NCLASS];
};

/* ---- the hook ---------------------------------------------------------------------------------------------------------- */

static void *default_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  (void)ud, (void)osize;
  if (nsize == 0) {
    free(p);
    return NULL;
  }
  return realloc(p, nsize);
}

nni_memory *nni_memory_open(nn_alloc_fn fn, void *ud) {
  nni_memory *m;
  if (fn == NULL) fn = default_alloc;
  m = fn(ud, NULL, 0, sizeof *m);
  if (m == NULL) return NULL;
  memset(m, 0, sizeof *m);
  m->fn = fn;
  m->ud = ud;
  if (pthread_mutex_init(&m->lock, NULL) != 0) {
    fn(ud, m, sizeof *m, 0);
    return NULL;
  }
  return m;
}

void nni_memory_close(nni_memory *m) {
  nn_alloc_fn fn;
  void *ud;
  if (m == NULL) return;
  fn = m->fn, ud = m->ud;
  nni_memory_trim(m);
#ifdef NNI_DEBUG
  if (m->buffers > 0) fprintf(stderr, "nni_memory_close: %zu buffers (%zu bytes) are still held\n", m->buffers, m->info.live);
  if (atomic_load(&m->small) > 0) fprintf(stderr, "nni_memory_close: %zu bytes of nni_malloc are still held\n", atomic_load(&m->small));
  assert(m->buffers == 0 && atomic_load(&m->small) == 0);
#endif
  pthread_mutex_destroy(&m->lock);
  fn(ud, m, sizeof *m, 0);
}

void *nni_malloc(nni_memory *m, size_t n) {
  void *p = n == 0 || n > PTRDIFF_MAX ? NULL : m->fn(m->ud, NULL, 0, n);
  if (p != NULL) atomic_fetch_add_explicit(&m->small, n, memory_order_relaxed);
  return p;
}

void *nni_calloc(nni_memory *m, size_t n) {
  void *p = nni_malloc(m, n);
  if (p != NULL) memset(p, 0, n);
  return p;
}

void nni_free(nni_memory *m, void *p, size_t n) {
  if (p == NULL) return;
  atomic_fetch_sub_explicit(&m->small, n, memory_order_relaxed);
  m->fn(m->ud, p, n, 0);
}

void *nni_realloc(nni_memory *m, void *p, size_t osize, size_t nsize) {
  void *q;
  if (p == NULL) return nni_malloc(m, nsize);
  if (nsize == 0) {
    nni_free(m, p, osize);
    return NULL;
  }
  q = nsize > PTRDIFF_MAX ? NULL : m->fn(m->ud, p, osize, nsize);
  if (q != NULL) atomic_fetch_add_explicit(&m->small, nsize - osize, memory_order_relaxed); /* wraps when it shrinks */
  return q;
}

char *nni_strdup(nni_memory *m, const char *s) {
  size_t n = strlen(s) + 1;
  char *p = nni_malloc(m, n);
  if (p != NULL) memcpy(p, s, n);
  return p;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------------- */

static inline void *block_data(block *b) { return (char *)b + ALIGN; }
static inline block *block_of(void *p) { return (block *)((char *)p - ALIGN); }

/* Size class of n bytes and the capacity of its blocks: multiples of 64 up to 512, then 8 steps a power of two. */
static int class_of(size_t n, size_t *cap) {
  int e;
  size_t step;
  if (n <= 512) {
    step = n == 0 ? 0 : (n - 1) / ALIGN;
    *cap = (step + 1) * ALIGN;
    return (int)step;
  }
  e = 63 - __builtin_clzll((unsigned long long)(n - 1)); /* 2^e < n <= 2^(e+1) */
  step = (n - 1) >> (e - 3);                             /* 8..15 */
  *cap = (step + 1) << (e - 3);
  return 8 + (e - 9) * 8 + (int)(step & 7);
}

static block *block_new(nni_memory *m, size_t cap, int size_class) {
  size_t align = cap >= HUGE ? HUGE : ALIGN;
  size_t raw_size = ALIGN + (align - 1) + cap + NNI_PAD + GUARD;
  char *raw = m->fn(m->ud, NULL, 0, raw_size);
  uintptr_t at;
  block *b;
  if (raw == NULL) return NULL;
  at = ((uintptr_t)raw + ALIGN + (align - 1)) & ~(uintptr_t)(align - 1);
  b = block_of(raw + (at - (uintptr_t)raw));
  *b = (block){.raw = raw, .raw_size = raw_size, .cap = cap, .size_class = size_class};
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (align == HUGE) (void)madvise(block_data(b), cap, MADV_HUGEPAGE); /* advice: small pages are slower, not wrong */
#endif
  return b;
}

static void blocks_free(nni_memory *m, block *b) {
  while (b != NULL) {
    block *next = b->next;
    UNPOISON(block_data(b), b->cap + NNI_PAD);
    m->fn(m->ud, b->raw, b->raw_size, 0);
    b = next;
  }
}

/* Takes blocks out of the cache, big ones first, until at most `keep` bytes stay in it. Called with the lock held. */
static block *cache_shrink(nni_memory *m, size_t keep) {
  block *out = NULL;
  for (int c = NCLASS - 1; c >= 0 && m->info.cached > keep; c--)
    while (m->free[c] != NULL && m->info.cached > keep) {
      block *b = m->free[c];
      m->free[c] = b->next;
      m->info.cached -= b->cap;
      b->next = out;
      out = b;
    }
  return out;
}

/* A cached block for the class, or a slightly bigger one. Called with the lock held. */
static block *cache_take(nni_memory *m, size_t cap, int size_class) {
  int last = cap >= NEAR_MIN ? size_class + NEAR : size_class;
  for (int c = size_class; c <= last && c < NCLASS; c++) {
    block *b = m->free[c];
    if (b == NULL) continue;
    m->free[c] = b->next;
    m->info.cached -= b->cap;
    return b;
  }
  return NULL;
}

/* The block goes to a holder who asked for n bytes. Called with the lock held. */
static void account(nni_memory *m, size_t n) {
  m->buffers++;
  m->info.live += n;
  m->info.allocated += n;
  if (m->info.live > m->info.peak) m->info.peak = m->info.live;
}

/* From the hook; on failure the cache is given back and the hook asked once more. */
static block *block_obtain(nni_memory *m, size_t n, size_t cap, int size_class) {
  block *b = block_new(m, cap, size_class);
  if (b == NULL) {
    nni_memory_trim(m);
    b = block_new(m, cap, size_class);
  }
  if (b == NULL) return NULL;
  pthread_mutex_lock(&m->lock);
  account(m, n);
  pthread_mutex_unlock(&m->lock);
  return b;
}

void *nni_buffer_get(nni_memory *m, size_t n) {
  block *b, *excess = NULL;
  size_t cap;
  int size_class;
  if (n > PTRDIFF_MAX / 2) return NULL;
  size_class = class_of(n, &cap);
  pthread_mutex_lock(&m->lock);
  b = cache_take(m, cap, size_class);
  if (b != NULL) account(m, n);
  else if (m->info.cached > m->info.peak + CACHE_FREE) excess = cache_shrink(m, m->info.peak + CACHE_FREE);
  pthread_mutex_unlock(&m->lock);
  blocks_free(m, excess);
  if (b == NULL) b = block_obtain(m, n, cap, size_class);
  if (b == NULL) return NULL;
  b->asked = n;
  UNPOISON(block_data(b), b->cap + NNI_PAD);
#ifdef NNI_DEBUG
  memset(block_data(b), FRESH_BYTE, n + NNI_PAD);
  memset((char *)block_data(b) + n + NNI_PAD, GUARD_BYTE, GUARD);
#endif
  return block_data(b);
}

#ifdef NNI_DEBUG
/* Did the holder write behind the pad, or give back another size than it asked for? */
static bool block_damaged(const block *b, const unsigned char *data, size_t n) {
  if (b->asked != n) {
    fprintf(stderr, "nni_buffer_put: buffer %p was asked for with %zu bytes and put with %zu\n", (const void *)data, b->asked, n);
    return true;
  }
  for (size_t i = 0; i < GUARD; i++)
    if (data[n + NNI_PAD + i] != GUARD_BYTE) {
      fprintf(stderr, "nni_buffer_put: byte %zu past the end of buffer %p (%zu bytes) was overwritten\n", NNI_PAD + i, (const void *)data, n);
      return true;
    }
  return false;
}
#endif

void nni_buffer_put(nni_memory *m, void *p, size_t n) {
  block *b;
  bool damaged = false;
  if (p == NULL) return;
  b = block_of(p);
#ifdef NNI_DEBUG
  damaged = block_damaged(b, p, n);
#else
  (void)n; /* the record knows */
#endif
  POISON(p, b->cap + NNI_PAD);
  pthread_mutex_lock(&m->lock);
  m->buffers--;
  m->info.live -= b->asked;
  m->info.cached += b->cap;
  m->damaged += damaged;
  b->next = m->free[b->size_class];
  m->free[b->size_class] = b;
  pthread_mutex_unlock(&m->lock);
}

nn_memory_info nni_memory_stats(nni_memory *m) {
  nn_memory_info info;
  pthread_mutex_lock(&m->lock);
  info = m->info;
  pthread_mutex_unlock(&m->lock);
  return info;
}

nni_memory_check nni_memory_inspect(nni_memory *m) {
  nni_memory_check c;
  pthread_mutex_lock(&m->lock);
  c = (nni_memory_check){.small = atomic_load(&m->small), .buffers = m->buffers, .damaged = m->damaged};
  pthread_mutex_unlock(&m->lock);
  return c;
}

void nni_memory_trim(nni_memory *m) {
  block *all;
  pthread_mutex_lock(&m->lock);
  all = cache_shrink(m, 0);
  pthread_mutex_unlock(&m->lock);
  blocks_free(m, all);
}

/* ---- slabs ------------------------------------------------------------------------------------------------------------- */

void nni_slab_init(nni_slab *s, nni_memory *m, size_t size) {
  *s = (nni_slab){.m = m, .size = size < sizeof(void *) ? sizeof(void *) : size};
}

void *nni_slab_get(nni_slab *s) {
  void *p = s->free;
  if (p == NULL) return nni_malloc(s->m, s->size);
  memcpy(&s->free, p, sizeof s->free); /* the first bytes of a free object link to the next */
  return p;
}

void nni_slab_put(nni_slab *s, void *p) {
  if (p == NULL) return;
#ifdef WITH_ASAN
  nni_free(s->m, p, s->size); /* at once, so that a use after free is seen */
#else
  memcpy(p, &s->free, sizeof s->free);
  s->free = p;
#endif
}

void nni_slab_close(nni_slab *s) {
  while (s->free != NULL) {
    void *p = s->free;
    memcpy(&s->free, p, sizeof s->free);
    nni_free(s->m, p, s->size);
  }
}

/* ---- arenas ------------------------------------------------------------------------------------------------------------ */

#define ARENA_MIN ((size_t)16 << 10)
#define ARENA_MAX ((size_t)1 << 20) /* blocks double up to here; a bigger piece gets a block of its own */

typedef struct nni_arena_block {
  struct nni_arena_block *next;
  size_t size; /* bytes behind the record */
} nni_arena_block;
_Static_assert(sizeof(nni_arena_block) % 16 == 0, "pieces are 16-byte aligned");

void nni_arena_init(nni_arena *a, nni_memory *m) { *a = (nni_arena){.m = m}; }

/* A block of at least n bytes becomes current: one behind it that was kept, or a new one put there. */
static bool arena_grow(nni_arena *a, size_t n) {
  nni_arena_block *b = a->cur != NULL ? a->cur->next : a->first;
  if (b == NULL || b->size < n) {
    nni_arena_block *next = b;
    size_t size = a->cur == NULL ? ARENA_MIN : a->cur->size < ARENA_MAX ? a->cur->size * 2 : ARENA_MAX;
    if (size < n) size = n;
    b = nni_malloc(a->m, sizeof *b + size);
    if (b == NULL) return false;
    *b = (nni_arena_block){.next = next, .size = size};
    if (a->cur != NULL) a->cur->next = b;
    else a->first = b;
  }
  a->cur = b;
  a->used = 0;
  return true;
}

void *nni_arena_get(nni_arena *a, size_t n) {
  void *p;
  if (n > PTRDIFF_MAX / 2) return NULL;
  n = (n + 15) & ~(size_t)15;
  if ((a->cur == NULL || a->cur->size - a->used < n) && !arena_grow(a, n)) return NULL;
  p = (char *)(a->cur + 1) + a->used;
  a->used += n;
  return p;
}

void nni_arena_reset(nni_arena *a) {
  a->cur = NULL; /* the first block is taken up again by arena_grow */
  a->used = 0;
}

void nni_arena_close(nni_arena *a) {
  while (a->first != NULL) {
    nni_arena_block *next = a->first->next;
    nni_free(a->m, a->first, sizeof *a->first + a->first->size);
    a->first = next;
  }
  nni_arena_reset(a);
}
