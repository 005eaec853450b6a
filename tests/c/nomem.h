/* tests/c/nomem.h - an allocator that fails on request and counts what is alive, for the sweeps of test_nomem.c and test_nomem_lua.c.
**
** Every block carries its size in front, so that giving back another size than was asked for is found too. Thread-safe, as nn_alloc_fn must be.
*/
#ifndef NOMEM_H
#define NOMEM_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NOMEM_HEAD 64 /* keeps malloc's alignment */

typedef enum nomem_mode { NOMEM_NEVER, NOMEM_ONCE, NOMEM_ONWARD } nomem_mode; /* fail no request, the n-th, the n-th and all after it */
typedef struct nomem {
  atomic_llong calls, failed; /* requests for more memory since nomem_arm; how many of them were refused */
  atomic_llong blocks, bytes; /* alive */
  atomic_int wrong_size;
  nomem_mode mode;
  long long at;
} nomem;

static void nomem_arm(nomem *h, nomem_mode mode, long long at) {
  atomic_store(&h->calls, 0);
  atomic_store(&h->failed, 0);
  h->mode = mode;
  h->at = at;
}

static bool nomem_refuses(nomem *h) {
  long long n = atomic_fetch_add(&h->calls, 1) + 1;
  bool no = (h->mode == NOMEM_ONCE && n == h->at) || (h->mode == NOMEM_ONWARD && n >= h->at);
  if (no) atomic_fetch_add(&h->failed, 1);
  return no;
}

/* osize is checked against what the block was asked for with; Lua passes a type tag as the old size of nothing. */
static void *nomem_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  nomem *h = ud;
  char *raw = p ? (char *)p - NOMEM_HEAD : NULL, *q;
  if (raw && *(size_t *)(void *)raw != osize) atomic_fetch_add(&h->wrong_size, 1);
  if (nsize == 0) {
    if (!raw) return NULL;
    atomic_fetch_sub(&h->blocks, 1);
    atomic_fetch_sub(&h->bytes, (long long)osize);
    free(raw);
    return NULL;
  }
  if ((!raw || nsize > osize) && nomem_refuses(h)) return NULL; /* shrinking never fails, as Lua demands */
  q = realloc(raw, nsize + NOMEM_HEAD);
  if (!q) return NULL;
  *(size_t *)(void *)q = nsize;
  if (!raw) atomic_fetch_add(&h->blocks, 1);
  atomic_fetch_add(&h->bytes, (long long)nsize - (raw ? (long long)osize : 0));
  return q + NOMEM_HEAD;
}

/* Nothing alive, no wrong size: prints what is wrong otherwise. */
static bool nomem_clean(const nomem *h, const char *what, nomem_mode mode, long long at) {
  if (h->blocks == 0 && h->bytes == 0 && h->wrong_size == 0) return true;
  fprintf(stderr, "%s, %s request %lld: %lld blocks (%lld bytes) leaked, %d given back with a wrong size\n", what,
          mode == NOMEM_ONCE ? "failing" : "failing from", at, (long long)h->blocks, (long long)h->bytes, h->wrong_size);
  return false;
}

#endif
