/* graph/fuse.c - which nodes become one row program.
**
** Every node starts as a unit of its own. In the order of recording a node's unit is merged with the units that make its arguments when (1) both can be row programs over one
** space, (2) every value that passes between them is read where it is made (same point, or same row for what a reduction gave), (3) no path leads from one to the other through a
** third unit, (4) the program stays within its limits. `deps` is the transitive closure of "needs", as bit sets over units.
*/
#include "plan.h"

#define MAXMEMBERS 200

typedef struct unit {
  bool alive, fusible, reduces;
  bool pinned;                          /* its elements are numbered, so it can't become a row-level part */
  bool flat;                            /* everything is read in place: any space with as many points will do */
  int head, tail, n;                    /* members, linked through fuse.next */
  nni_layout space;
  uint64_t *deps;
} unit;

typedef struct fuse {
  nn_context *ctx;
  nni_node **node;
  int n, words;
  const uint64_t *visible;
  unit *u;
  int *unit_of, *next;
  int *vbase;      /* number of a node's first result */
  int **uses;      /* per result: nodes that read it */
  int *nuses;
  uint8_t *level;
  bool *live;
} fuse;

#define BIT(set, i) ((set)[(i) >> 6] >> ((i) & 63) & 1)
static void bit_set(uint64_t *s, int i) { s[i >> 6] |= (uint64_t)1 << (i & 63); }
static void bit_clear(uint64_t *s, int i) { s[i >> 6] &= ~((uint64_t)1 << (i & 63)); }

static void strip(int ndim, const int64_t *shape, nni_layout *out) {
  int n = 0;
  int64_t s[NN_MAXDIM];
  for (int i = 0; i < ndim; i++)
    if (shape[i] != 1) s[n++] = shape[i];
  if (n == 0) s[n++] = 1;
  nni_layout_contiguous(out, n, s);
}

static bool same_space(const nni_layout *a, const nni_layout *b) { return nni_layout_same_shape(a, b); }

/* is r the rows of s: s without its last dim? */
static bool rows_of(const nni_layout *s, const nni_layout *r) {
  if (s->shape[s->ndim - 1] == 1) return false;
  if (s->ndim == 1) return r->ndim == 1 && r->shape[0] == 1;
  if (r->ndim != s->ndim - 1) return false;
  for (int i = 0; i < r->ndim; i++)
    if (r->shape[i] != s->shape[i]) return false;
  return true;
}

/* the space a node works over: its result's, or its argument's when it reduces */
static const nni_layout *work_shape(const nni_node *n, nni_layout *l) {
  if (n->kind == NNI_N_REDUCE) return &n->in[0]->l;
  nni_layout_contiguous(l, n->oshape[0].ndim, n->oshape[0].shape);
  return l;
}

typedef enum pattern { OTHER, IDENTITY, PER_ROW } pattern;
static pattern pattern_of(const nni_node *n, int k) {
  nni_layout tmp, e;
  const nni_layout *w = work_shape(n, &tmp);
  if (n->in[k]->l.offset != 0 || !nni_layout_expand(&n->in[k]->l, w->ndim, w->shape, &e)) return OTHER;
  int64_t s = 1, r = 1;
  bool ident = true, row = true, last = true;
  for (int i = w->ndim - 1; i >= 0; i--) {
    if (w->shape[i] == 1) continue;
    if (e.stride[i] != s) ident = false;
    if (e.stride[i] != (last ? 0 : r)) row = false;
    if (!last) r *= w->shape[i];
    s *= w->shape[i];
    last = false;
  }
  if (n->in[k]->v->numel != (ident ? s : r)) return OTHER; /* a view of a part */
  return ident ? IDENTITY : row ? PER_ROW : OTHER;
}

static bool can_fuse(const nni_node *n) {
  if (n->kind == NNI_N_KERNEL) return false;
  if (n->kind != NNI_N_REDUCE) return true;
  const nni_layout *l = &n->in[0]->l;
  return l->shape[l->ndim - 1] <= NNI_LONGEST_ROW;
}

/* ---- liveness and uses ---- */
static bool prepare(fuse *f, nni_arena *a) {
  int nv = 0;
  size_t n = (size_t)f->n;
  f->u = nni_arena_get(a, sizeof *f->u * n);
  f->unit_of = nni_arena_get(a, sizeof(int) * n);
  f->next = nni_arena_get(a, sizeof(int) * n);
  f->vbase = nni_arena_get(a, sizeof(int) * (n + 1));
  f->level = nni_arena_get(a, n);
  f->live = nni_arena_get(a, n);
  uint64_t *deps = nni_arena_get(a, sizeof(uint64_t) * n * (size_t)f->words);
  if (!f->u || !f->unit_of || !f->next || !f->vbase || !f->level || !f->live || !deps) return false;
  memset(deps, 0, sizeof(uint64_t) * n * (size_t)f->words);
  for (int i = 0; i < f->n; i++) {
    f->unit_of[i] = i; /* within_limits asks about nodes whose turn has not come */
    f->vbase[i] = nv;
    nv += f->node[i]->nout;
    f->u[i].deps = deps + (size_t)i * (size_t)f->words;
  }
  f->vbase[f->n] = nv;
  f->nuses = nni_arena_get(a, sizeof(int) * (size_t)(nv + 1));
  f->uses = nni_arena_get(a, sizeof(int *) * (size_t)(nv + 1));
  if (!f->nuses || !f->uses) return false;
  memset(f->nuses, 0, sizeof(int) * (size_t)nv);
  int total = 0;
  for (int i = f->n - 1; i >= 0; i--) {
    const nni_node *nd = f->node[i];
    bool live = false;
    for (int k = 0; k < nd->nout; k++) live = live || f->nuses[f->vbase[i] + k] > 0 || BIT(f->visible, f->vbase[i] + k);
    f->live[i] = live;
    for (int k = 0; live && k < nd->nin; k++)
      if (nd->in[k] && nd->in[k]->v->node) f->nuses[f->vbase[nd->in[k]->v->index] + nd->in[k]->v->out]++, total++;
  }
  int *list = nni_arena_get(a, sizeof(int) * (size_t)(total + 1));
  if (!list) return false;
  for (int v = 0; v < nv; v++) f->uses[v] = list, list += f->nuses[v], f->nuses[v] = 0;
  for (int i = 0; i < f->n; i++)
    for (int k = 0; f->live[i] && k < f->node[i]->nin; k++) {
      const nn_tensor *t = f->node[i]->in[k];
      if (!t || !t->v->node) continue;
      int v = f->vbase[t->v->index] + t->v->out;
      f->uses[v][f->nuses[v]++] = i;
    }
  return true;
}

/* ---- merging ---- */
/* levels the members of a and b would have in one program: space of the result, and which of them turns into row-level parts */
static bool joint_space(const unit *a, const unit *b, nni_layout *space, int *to_row) {
  *to_row = 0;
  bool count = nni_layout_numel(&a->space) == nni_layout_numel(&b->space);
  if (same_space(&a->space, &b->space)) *space = a->space;
  else if (count && a->flat) *space = b->space;
  else if (count && b->flat) *space = a->space;
  else if (rows_of(&a->space, &b->space) && !b->reduces && !b->pinned) *space = a->space, *to_row = 2;
  else if (rows_of(&b->space, &a->space) && !a->reduces && !a->pinned) *space = b->space, *to_row = 1;
  else return false;
  return true;
}

typedef struct pair { int a, b, to_row; } pair;
static int new_level(const fuse *f, const pair *p, int node) {
  int u = f->unit_of[node];
  return (p->to_row == 1 && u == p->a) || (p->to_row == 2 && u == p->b) ? NNI_ROW : f->level[node];
}

/* every value that node reads from a unit of the pair is read at the place where it is made */
static bool reads_fit(const fuse *f, const pair *p, int node) {
  const nni_node *n = f->node[node];
  for (int k = 0; k < n->nin; k++) {
    if (!n->in[k] || !n->in[k]->v->node) continue;
    int from = n->in[k]->v->index, fu = f->unit_of[from];
    if (fu != p->a && fu != p->b) continue;
    int value_level = f->node[from]->kind == NNI_N_REDUCE ? NNI_ROW : new_level(f, p, from);
    pattern pt = pattern_of(n, k);
    if (new_level(f, p, node) == NNI_ROW) {
      if (value_level != NNI_ROW || pt != IDENTITY) return false;
    } else if (value_level == NNI_FULL ? pt != IDENTITY : pt != PER_ROW) return false;
  }
  return true;
}

/* arguments and results of the joint program, counted generously */
static bool within_limits(const fuse *f, const pair *p) {
  const nn_tensor *in[NNI_PROG_MAXIO];
  int level[NNI_PROG_MAXIO]; /* a tensor may be loaded per point and per row */
  int nin = 0, nout = 0;
  const int heads[2] = {f->u[p->a].head, f->u[p->b].head};
  if (f->u[p->a].n + f->u[p->b].n > MAXMEMBERS) return false;
  for (int h = 0; h < 2; h++)
    for (int i = heads[h]; i >= 0; i = f->next[i]) {
      const nni_node *n = f->node[i];
      for (int k = 0; k < n->nin; k++) {
        const nn_tensor *t = n->in[k];
        if (!t) continue;
        int fu = t->v->node ? f->unit_of[t->v->index] : -1;
        if (fu >= 0 && (fu == p->a || fu == p->b)) continue;
        int j = 0, lv = new_level(f, p, i);
        while (j < nin && (in[j] != t || level[j] != lv)) j++;
        if (j < nin) continue;
        if (nin == NNI_PROG_MAXIO) return false;
        level[nin] = lv;
        in[nin++] = t;
      }
      int v = f->vbase[i];
      bool out = BIT(f->visible, v);
      for (int k = 0; !out && k < f->nuses[v]; k++) {
        int uu = f->unit_of[f->uses[v][k]];
        out = uu != p->a && uu != p->b;
      }
      if (out && ++nout > NNI_PROG_MAXIO) return false;
    }
  return true;
}

static bool no_path_between(const fuse *f, int a, int b, int upto) {
  for (int x = 0; x <= upto; x++) {
    if (!f->live[x] || !f->u[x].alive || x == a || x == b) continue;
    const uint64_t *dx = f->u[x].deps;
    if (BIT(dx, a) && BIT(f->u[b].deps, x)) return false;
    if (BIT(dx, b) && BIT(f->u[a].deps, x)) return false;
  }
  return true;
}

static void try_merge(fuse *f, int a, int b, int upto) {
  if (a == b || !f->u[a].fusible || !f->u[b].fusible) return;
  pair p = {a, b, 0};
  nni_layout space;
  if (!joint_space(&f->u[a], &f->u[b], &space, &p.to_row)) return;
  for (int i = f->u[a].head; i >= 0; i = f->next[i])
    if (!reads_fit(f, &p, i)) return;
  for (int i = f->u[b].head; i >= 0; i = f->next[i])
    if (!reads_fit(f, &p, i)) return;
  if (!within_limits(f, &p) || !no_path_between(f, a, b, upto)) return;
  if (p.to_row)
    for (int i = f->u[p.to_row == 1 ? a : b].head; i >= 0; i = f->next[i]) f->level[i] = NNI_ROW;
  unit *ua = &f->u[a], *ub = &f->u[b];
  for (int i = ub->head; i >= 0; i = f->next[i]) f->unit_of[i] = a;
  f->next[ua->tail] = ub->head;
  ua->tail = ub->tail;
  ua->n += ub->n;
  ua->space = space;
  ua->reduces |= ub->reduces;
  ua->pinned |= ub->pinned;
  ua->flat = ua->flat && ub->flat && !p.to_row;
  ub->alive = false;
  for (int w = 0; w < f->words; w++) ua->deps[w] |= ub->deps[w];
  bit_clear(ua->deps, a);
  bit_clear(ua->deps, b);
  for (int x = 0; x <= upto; x++) {
    if (!f->live[x] || !f->u[x].alive || x == a || !(BIT(f->u[x].deps, a) || BIT(f->u[x].deps, b))) continue;
    bit_clear(f->u[x].deps, b);
    bit_set(f->u[x].deps, a);
    for (int w = 0; w < f->words; w++) f->u[x].deps[w] |= ua->deps[w];
  }
}

static void add_node(fuse *f, int i) {
  const nni_node *n = f->node[i];
  unit *u = &f->u[i];
  nni_layout tmp;
  uint64_t *deps = u->deps;
  *u = (unit){.alive = true, .fusible = can_fuse(n), .reduces = n->kind == NNI_N_REDUCE, .head = i, .tail = i, .n = 1, .deps = deps};
  u->pinned = n->kind == NNI_N_INDEX || n->kind == NNI_N_RANDOM;
  f->unit_of[i] = i;
  f->next[i] = -1;
  f->level[i] = NNI_FULL;
  if (u->fusible) {
    const nni_layout *w = work_shape(n, &tmp);
    strip(w->ndim, w->shape, &u->space);
  }
  u->flat = u->fusible && !u->reduces;
  for (int k = 0; k < n->nin && u->flat; k++) u->flat = !n->in[k] || pattern_of(n, k) == IDENTITY;
  for (int k = 0; k < n->nin; k++) {
    if (!n->in[k] || !n->in[k]->v->node) continue;
    int d = f->unit_of[n->in[k]->v->index];
    bit_set(deps, d);
    for (int w = 0; w < f->words; w++) deps[w] |= f->u[d].deps[w];
  }
  if (!u->fusible || f->ctx->win.dev->unfused) return;
  for (int k = n->nin - 1; k >= 0; k--)
    if (n->in[k] && n->in[k]->v->node) try_merge(f, f->unit_of[n->in[k]->v->index], f->unit_of[i], i);
}

/* units in the order they run: of those whose needs are met, the one that was recorded first */
static bool number_units(fuse *f, nni_arena *a, nni_grouping *g) {
  int n = 0;
  int *order = nni_arena_get(a, sizeof(int) * (size_t)f->n);
  uint64_t *done = nni_arena_get(a, sizeof(uint64_t) * (size_t)f->words);
  int *rank = nni_arena_get(a, sizeof(int) * (size_t)f->n);
  if (!order || !done || !rank) return false;
  memset(done, 0, sizeof(uint64_t) * (size_t)f->words);
  int left = 0, from = 0;
  for (int i = 0; i < f->n; i++) left += f->live[i] && f->u[i].alive;
  while (left > 0) {
    while (!(f->live[from] && f->u[from].alive) || BIT(done, from)) from++;
    int pick = -1;
    for (int i = from; i < f->n && pick < 0; i++) {
      if (!f->live[i] || !f->u[i].alive || BIT(done, i)) continue;
      bool ready = true;
      for (int w = 0; w < f->words && ready; w++) ready = (f->u[i].deps[w] & ~done[w]) == 0;
      if (ready) pick = i;
    }
    if (pick < 0) return false; /* a cycle: can't be */
    bit_set(done, pick);
    rank[pick] = n;
    order[n++] = pick;
    left--;
  }
  g->nunit = n;
  g->unit_of = nni_arena_get(a, sizeof(int) * (size_t)f->n);
  g->space = nni_arena_get(a, sizeof(nni_layout) * (size_t)(n + 1));
  g->program = nni_arena_get(a, (size_t)n + 1);
  if (!g->unit_of || !g->space || !g->program) return false;
  for (int i = 0; i < f->n; i++) g->unit_of[i] = f->live[i] ? rank[f->unit_of[i]] : -1;
  for (int i = 0; i < n; i++) g->space[i] = f->u[order[i]].space, g->program[i] = f->u[order[i]].fusible;
  g->level = f->level;
  return true;
}

bool nni_fuse(nn_context *ctx, const uint64_t *visible, nni_arena *tmp, nni_grouping *g) {
  fuse f = {.ctx = ctx, .node = ctx->win.node, .n = ctx->win.n, .words = (ctx->win.n + 63) / 64, .visible = visible};
  if (!prepare(&f, tmp)) return false;
  for (int i = 0; i < f.n; i++)
    if (f.live[i]) add_node(&f, i);
  return number_units(&f, tmp, g);
}
