/* bindings/lua_alloc.c - the allocator of the program's Lua state: small pieces by size, from lists of free ones.
**
** A training loop makes and drops a userdata for every tensor, in batches (the collector's), for which malloc's quick lists are too short.
** Pieces of up to LARGEST bytes are cut from slabs, go back to the list of their size, and are given to the system when the state is closed;
** Lua says the size of what it frees, so a piece needs no header. Bigger ones are malloc's. A state is used by one thread at a time, and so
** is this.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prog.h"

#define GRAIN ((size_t)16)
#ifdef NNI_SANITIZE
#define LARGEST ((size_t)0) /* all by malloc, so that a use after free is seen */
#else
#define LARGEST ((size_t)256)
#endif
#define SLAB ((size_t)16 << 10)

typedef struct piece {
  struct piece *next;
} piece;

typedef struct pieces {
  piece *free[LARGEST / GRAIN + 1]; /* by size in grains */
  piece *slabs;                     /* their first grain links them */
  char *at, *end;                   /* what is not cut yet of the last one */
  bool warns, warned;               /* are warnings shown? is there more to come of the last one? */
} pieces;

static size_t grains(size_t n) { return (n + GRAIN - 1) / GRAIN; }

static void *cut(pieces *p, size_t n) {
  size_t bytes = grains(n) * GRAIN;
  if ((size_t)(p->end - p->at) < bytes) { /* what is left of the slab is lost: less than a piece */
    piece *slab = malloc(SLAB);
    if (!slab) return NULL;
    slab->next = p->slabs;
    p->slabs = slab;
    p->at = (char *)slab + GRAIN;
    p->end = (char *)slab + SLAB;
  }
  void *q = p->at;
  p->at += bytes;
  return q;
}

static void *take(pieces *p, size_t n) {
  piece **list = &p->free[grains(n)], *q = *list;
  if (!q) return cut(p, n);
  *list = q->next;
  return q;
}

static void give(pieces *p, void *q, size_t n) {
  piece **list = &p->free[grains(n)], *o = q;
  o->next = *list;
  *list = o;
}

static void *allocate(void *ud, void *q, size_t osize, size_t nsize) {
  pieces *p = ud;
  if (!q) osize = 0; /* a kind of object */
  bool was_small = q && osize <= LARGEST, small = nsize <= LARGEST;
  if (was_small && nsize && grains(osize) == grains(nsize)) return q;
  if (!was_small && !small) return realloc(q, nsize);
  void *r = NULL;
  if (nsize) {
    r = small ? take(p, nsize) : malloc(nsize);
    if (!r) return NULL;
    if (q) memcpy(r, q, osize < nsize ? osize : nsize);
  }
  if (was_small) give(p, q, osize);
  else free(q);
  return r;
}

static void pieces_free(pieces *p) {
  while (p && p->slabs) {
    piece *slab = p->slabs;
    p->slabs = slab->next;
    free(slab);
  }
  free(p);
}

/* ---- warnings: off until "@on", then to stderr ---- */
static void warn(void *ud, const char *msg, int more) {
  pieces *p = ud;
  if (!p->warned && !more && *msg == '@') {
    if (strcmp(msg, "@on") == 0) p->warns = true;
    else if (strcmp(msg, "@off") == 0) p->warns = false;
    return;
  }
  if (p->warns) fprintf(stderr, "%s%s%s", p->warned ? "" : "Lua warning: ", msg, more ? "" : "\n");
  p->warned = more;
}

lua_State *nnL_newstate(void **pool) {
  pieces *p = *pool = calloc(1, sizeof *p);
  lua_State *L = p ? lua_newstate(allocate, p) : NULL;
  if (L) lua_setwarnf(L, warn, p);
  else pieces_free(p);
  return L;
}

void nnL_closestate(lua_State *L, void *pool) {
  lua_close(L);
  pieces_free(pool);
}
