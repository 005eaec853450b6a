/* graph/plan.c - from groups of nodes to units with buffers: builds the row programs, decides which values need memory and where it lies.
**
** Values that are visible get a buffer of their own (OUTPUT), the others share one arena per run (TEMP), placed by when they are made and last read. A program's result
** takes the place of an argument that dies there, when each element is read no later than it is written.
*/
#include "plan.h"

#define ALIGN 64
#define BIT(set, i) ((set)[(i) >> 6] >> ((i) & 63) & 1)

typedef struct mat { /* a result that needs memory */
  bool used;
  int def, last;  /* units */
  size_t bytes;
  nni_slot slot;
} mat;

typedef struct hole { size_t offset, size; } hole;

typedef struct build {
  nn_context *ctx;
  nni_arena *tmp;
  nni_plan *plan;
  nni_grouping g;
  const uint64_t *visible;
  int *vbase;
  mat *value;            /* per result */
  int *input_last;       /* per window input: last unit that reads it, -1 */
  int **members;         /* per unit: its nodes in order */
  int *nmember;
  hole *free_list;
  int nfree, capfree;
  size_t top;
} build;

static size_t round_up(size_t n) { return (n + NNI_PAD + ALIGN - 1) / ALIGN * ALIGN; }
static int number_of(const build *b, const nn_tensor *t) { return b->vbase[t->v->index] + t->v->out; }

/* ---- which values need memory, and how long ---- */
static bool collect(build *b) {
  nni_window *w = &b->ctx->win;
  int nv = b->plan->nvalue;
  b->value = nni_arena_get(b->tmp, sizeof(mat) * (size_t)(nv + 1));
  b->input_last = nni_arena_get(b->tmp, sizeof(int) * (size_t)(w->ninput + 1));
  b->members = nni_arena_get(b->tmp, sizeof(int *) * (size_t)(b->g.nunit + 1));
  b->nmember = nni_arena_get(b->tmp, sizeof(int) * (size_t)(b->g.nunit + 1));
  int *list = nni_arena_get(b->tmp, sizeof(int) * (size_t)(w->n + 1));
  b->capfree = nv + 8;
  b->free_list = nni_arena_get(b->tmp, sizeof(hole) * (size_t)b->capfree);
  if (!b->value || !b->input_last || !b->members || !b->nmember || !list || !b->free_list) return false;
  memset(b->value, 0, sizeof(mat) * (size_t)nv);
  memset(b->nmember, 0, sizeof(int) * (size_t)b->g.nunit);
  for (int i = 0; i < w->ninput; i++) b->input_last[i] = -1;
  for (int i = 0; i < w->n; i++)
    if (b->g.unit_of[i] >= 0) b->nmember[b->g.unit_of[i]]++;
  for (int u = 0; u < b->g.nunit; u++) b->members[u] = list, list += b->nmember[u], b->nmember[u] = 0;
  for (int i = 0; i < w->n; i++) {
    int u = b->g.unit_of[i];
    if (u < 0) continue;
    const nni_node *n = w->node[i];
    b->members[u][b->nmember[u]++] = i;
    for (int k = 0; k < n->nout; k++) {
      mat *m = &b->value[b->vbase[i] + k];
      m->def = m->last = u;
      m->bytes = (size_t)n->out[k]->numel * nn_dtype_size(n->out[k]->dtype);
      m->used = n->kind == NNI_N_KERNEL || BIT(b->visible, b->vbase[i] + k); /* a kernel writes all its results */
    }
  }
  for (int i = 0; i < w->n; i++) {
    int u = b->g.unit_of[i];
    for (int k = 0; u >= 0 && k < w->node[i]->nin; k++) {
      const nn_tensor *t = w->node[i]->in[k];
      if (!t) continue;
      if (t->v->node) {
        mat *m = &b->value[number_of(b, t)];
        if (m->def != u) m->used = true;
        if (u > m->last) m->last = u;
      } else if (u > b->input_last[t->v->index]) b->input_last[t->v->index] = u;
    }
  }
  return true;
}

/* ---- the arena ---- */
static size_t arena_take(build *b, size_t bytes) {
  size_t n = round_up(bytes);
  int best = -1;
  for (int i = 0; i < b->nfree; i++)
    if (b->free_list[i].size >= n && (best < 0 || b->free_list[i].size < b->free_list[best].size)) best = i;
  if (best >= 0) {
    size_t at = b->free_list[best].offset;
    b->free_list[best].offset += n;
    b->free_list[best].size -= n;
    if (b->free_list[best].size == 0) b->free_list[best] = b->free_list[--b->nfree];
    return at;
  }
  size_t at = b->top;
  for (int i = 0; i < b->nfree; i++)
    if (b->free_list[i].offset + b->free_list[i].size == b->top) { /* grow the hole at the end */
      at = b->free_list[i].offset;
      b->free_list[i] = b->free_list[--b->nfree];
      break;
    }
  b->top = at + n;
  return at;
}

static void arena_give(build *b, size_t at, size_t bytes) {
  size_t n = round_up(bytes);
  for (int i = 0; i < b->nfree; i++) { /* join neighbours */
    hole *h = &b->free_list[i];
    if (h->offset + h->size == at) {
      at = h->offset;
      n += h->size;
      *h = b->free_list[--b->nfree];
      i = -1;
    } else if (at + n == h->offset) {
      n += h->size;
      *h = b->free_list[--b->nfree];
      i = -1;
    }
  }
  if (b->nfree < b->capfree) b->free_list[b->nfree++] = (hole){at, n};
}

/* ---- slots ---- */
static nni_slot slot_of(const build *b, const nn_tensor *t) {
  nni_slot s = t->v->node ? b->value[number_of(b, t)].slot : (nni_slot){NNI_S_INPUT, t->v->index, 0};
  s.offset += (size_t)t->l.offset * nn_dtype_size(t->v->dtype);
  return s;
}

static void place(build *b, int u, int node, int out) {
  mat *m = &b->value[b->vbase[node] + out];
  if (BIT(b->visible, b->vbase[node] + out)) {
    nni_plan *p = b->plan;
    p->output[p->nout] = (nni_planout){.node = node, .out = out, .unit = u, .bytes = m->bytes};
    m->slot = (nni_slot){NNI_S_OUTPUT, p->nout++, 0};
  } else m->slot = (nni_slot){NNI_S_TEMP, 0, arena_take(b, m->bytes)};
}

/* may the result take the memory of argument t, which is read in unit u as a whole and in order? */
static bool dies_here(const build *b, const nn_tensor *t, int u, const mat *m) {
  if (t->l.offset != 0 || (size_t)t->v->numel * nn_dtype_size(t->v->dtype) != m->bytes || nn_dtype_size(t->v->dtype) == 0) return false;
  if (t->v->node) {
    const mat *a = &b->value[number_of(b, t)];
    return a->slot.kind == NNI_S_TEMP && a->last == u && a->def != u;
  }
  return b->input_last[t->v->index] == u;
}

/* give result (node, out) memory in unit u: a dying argument's if one of the candidates will do */
static void place_over(build *b, int u, int node, int out, nn_tensor *const *cand, int ncand) {
  int number = b->vbase[node] + out;
  mat *m = &b->value[number];
  bool visible = BIT(b->visible, number);
  for (int i = 0; !visible && i < ncand; i++) {
    if (!cand[i]->v->node || !dies_here(b, cand[i], u, m)) continue;
    mat *a = &b->value[number_of(b, cand[i])];
    m->slot = a->slot;
    a->last = -1; /* its memory lives on */
    return;
  }
  place(b, u, node, out);
  if (!visible) return;
  nni_planout *o = &b->plan->output[m->slot.index];
  for (int i = 0; i < ncand && o->ndonor < NNI_MAXDONOR; i++)
    if (!cand[i]->v->node && dies_here(b, cand[i], u, m)) o->donor[o->ndonor++] = cand[i]->v->index;
}

static void free_dead(build *b, int u) {
  for (int v = 0; v < b->plan->nvalue; v++) {
    mat *m = &b->value[v];
    if (m->used && m->slot.kind == NNI_S_TEMP && m->last == u && m->def <= u) {
      arena_give(b, m->slot.offset, m->bytes);
      m->last = -1;
    }
  }
}

/* ---- structural units ---- */
static bool unit_alloc(build *b, nni_unit *t, int nin, int nout, int nparam, int nia, int ndims) {
  size_t nio = (size_t)(nin + nout);
  t->bytes = sizeof(nni_slot) * nio + sizeof(nni_operand) * nio + sizeof(int64_t) * (size_t)(nia + ndims) + sizeof(int) * (size_t)nparam + 16;
  char *p = nni_calloc(b->ctx->core.mem, t->bytes);
  if (!p) return false;
  t->op = (nni_operand *)p, p += sizeof(nni_operand) * nio;
  t->ia = (int64_t *)p, p += sizeof(int64_t) * (size_t)nia;
  t->dims = (int64_t *)p, p += sizeof(int64_t) * (size_t)ndims;
  t->in = (nni_slot *)p, p += sizeof(nni_slot) * (size_t)nin;
  t->out = (nni_slot *)p, p += sizeof(nni_slot) * (size_t)nout;
  t->param = (int *)p;
  t->nin = nin, t->nout = nout, t->nparam = nparam, t->nia = nia;
  return true;
}

static bool build_kernel(build *b, int u) {
  int node = b->members[u][0];
  const nni_node *n = b->ctx->win.node[node];
  nni_unit *t = &b->plan->unit[u];
  t->kernel = n->op;
  t->first = node;
  if (!unit_alloc(b, t, n->nin, n->nout, n->npa, n->nia, (n->nin + n->nout) * 2 * NN_MAXDIM)) return false;
  int64_t *d = t->dims;
  for (int k = 0; k < n->nin + n->nout; k++, d += 2 * NN_MAXDIM) {
    nni_layout l;
    if (k < n->nin) l = n->in[k]->l;
    else nni_layout_contiguous(&l, n->oshape[k - n->nin].ndim, n->oshape[k - n->nin].shape);
    memcpy(d, l.shape, sizeof(int64_t) * (size_t)l.ndim);
    memcpy(d + NN_MAXDIM, l.stride, sizeof(int64_t) * (size_t)l.ndim);
    t->op[k] = (nni_operand){.dtype = k < n->nin ? n->in[k]->dtype : n->oshape[k - n->nin].dtype, .ndim = l.ndim, .shape = d, .stride = d + NN_MAXDIM};
  }
  for (int k = 0; k < n->nin; k++) t->in[k] = slot_of(b, n->in[k]);
  bool over = n->op == NNI_K_slice_set || n->op == NNI_K_slice_add;
  for (int k = 0; k < n->nout; k++) {
    if (over && n->in[1]->v != n->in[0]->v) place_over(b, u, node, k, n->in, 1);
    else place(b, u, node, k);
    t->out[k] = b->value[b->vbase[node] + k].slot;
  }
  if (n->nia) memcpy(t->ia, n->ia, sizeof(int64_t) * n->nia);
  for (int k = 0; k < n->npa; k++) t->param[k] = n->param + k;
  return true;
}

/* ---- row programs ---- */
typedef struct prog {
  nni_program p;
  nni_rinstr *instr;
  int cap;
  const nn_tensor *in[NNI_PROG_MAXIO]; /* what input i loads */
  nni_layout inl[NNI_PROG_MAXIO];      /* its strides over the space (ROW: over the rows) */
  int loaded[NNI_PROG_MAXIO];          /* its LOAD instruction */
  int lastread[NNI_PROG_MAXIO];        /* last instruction that reads it */
  int outnode[NNI_PROG_MAXIO];
  int outdef[NNI_PROG_MAXIO];          /* instruction that makes output i */
  int *param;
  int nparam;
} prog;

static int class_of(nn_dtype d) { return d == NN_F64 ? NNI_D : d >= NN_F16 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I; }

static int emit(prog *q, nni_rinstr in) {
  if (q->p.ninstr == q->cap) return -1; /* the array was sized for the worst case */
  q->instr[q->p.ninstr] = in;
  return q->p.ninstr++;
}

/* strides of t over the dims of the space that `nd` leading ones name, dims of size 1 of the node's own shape left out */
static bool strides_over(const nn_tensor *t, const nni_layout *work, nni_layout *out) {
  nni_layout e;
  if (!nni_layout_expand(&t->l, work->ndim, work->shape, &e)) return false;
  out->ndim = 0;
  for (int i = 0; i < e.ndim; i++)
    if (e.shape[i] != 1) out->shape[out->ndim] = e.shape[i], out->stride[out->ndim++] = e.stride[i];
  if (out->ndim == 0) out->shape[0] = 1, out->stride[0] = 0, out->ndim = 1;
  return true;
}

static bool same_shape(const nni_layout *l, int ndim, const int64_t *shape) {
  return l->ndim == ndim && memcmp(l->shape, shape, sizeof(int64_t) * (size_t)ndim) == 0;
}

static int load(prog *q, nn_tensor *t, const nni_layout *work, int level) {
  nni_layout l;
  if (!strides_over(t, work, &l)) return -1;
  int nd = level == NNI_FULL ? q->p.ndim : q->p.ndim - 1;
  if (nd > 0 && !same_shape(&l, nd, q->p.shape)) nni_layout_contiguous(&l, nd, q->p.shape); /* a flat part, read in place */
  bool has_row = level == NNI_FULL && l.ndim == q->p.ndim && q->p.ndim > 1 && l.stride[l.ndim - 1] == 0;
  if (has_row) level = NNI_ROW, l.ndim--; /* constant along the row: one element per row is enough */
  for (int i = 0; i < q->p.nin; i++)
    if (q->in[i]->v == t->v && q->in[i]->l.offset == t->l.offset && q->p.in[i].level == level &&
        memcmp(q->inl[i].stride, l.stride, sizeof(int64_t) * (size_t)l.ndim) == 0)
      return q->loaded[i];
  int i = q->p.nin++;
  q->in[i] = t;
  q->inl[i] = l;
  q->p.in[i] = (nni_access){.dtype = t->dtype, .level = (uint8_t)level};
  memcpy(q->p.in[i].stride, l.stride, sizeof(int64_t) * (size_t)l.ndim);
  q->loaded[i] = emit(q, (nni_rinstr){.kind = NNI_R_LOAD, .cls = (uint8_t)class_of(t->dtype), .level = (uint8_t)level, .dtype = (uint8_t)t->dtype, .slot = (int16_t)i});
  q->lastread[i] = q->loaded[i];
  return q->loaded[i];
}

static int new_param(prog *q, int number) {
  q->param[q->nparam] = number;
  return q->nparam++;
}

static int param_value(prog *q, int number, nn_dtype d, int level) {
  return emit(q, (nni_rinstr){.kind = NNI_R_PARAM, .cls = (uint8_t)class_of(d), .level = (uint8_t)level, .dtype = (uint8_t)d, .slot = (int16_t)new_param(q, number)});
}

/* the instructions of one node; returns the one that holds its value, -1 on failure */
static int emit_node(build *b, prog *q, int node, const int *def) {
  const nni_node *n = b->ctx->win.node[node];
  int level = b->g.level[node], npa = 0, u = b->g.unit_of[node];
  nni_layout work;
  if (n->kind == NNI_N_REDUCE) work = n->in[0]->l;
  else nni_layout_contiguous(&work, n->oshape[0].ndim, n->oshape[0].shape);
  nn_dtype od = n->oshape[0].dtype;
  nni_rinstr r = {.level = (uint8_t)level, .cls = (uint8_t)class_of(od), .opcls = (uint8_t)class_of(n->cdtype), .dtype = (uint8_t)od, .op = n->op, .nargs = n->nin};
  for (int k = 0; k < n->nin; k++) {
    nn_tensor *t = n->in[k];
    int a;
    if (!t) a = param_value(q, n->param + npa++, n->cdtype, level);
    else if (t->v->node && b->g.unit_of[t->v->index] == u) a = def[t->v->index];
    else a = load(q, t, &work, level);
    if (a < 0) return -1;
    r.a[k] = (int16_t)a;
    for (int i = 0; i < q->p.nin; i++)
      if (q->loaded[i] == a) q->lastread[i] = q->p.ninstr;
  }
  switch (n->kind) {
    case NNI_N_FILL: {
      int a = param_value(q, n->param, od, level);
      if (od != NN_F16 && od != NN_BF16) return a;
      r = (nni_rinstr){.kind = NNI_R_CAST, .cls = NNI_F, .opcls = NNI_F, .level = (uint8_t)level, .dtype = (uint8_t)od, .nargs = 1, .a = {(int16_t)a}};
      return emit(q, r);
    }
    case NNI_N_INDEX: r.kind = NNI_R_INDEX; break;
    case NNI_N_RANDOM:
      r.kind = NNI_R_RANDOM;
      r.slot = (int16_t)new_param(q, n->param);
      new_param(q, n->param + 1);
      break;
    case NNI_N_CAST: r.kind = NNI_R_CAST; break;
    case NNI_N_REDUCE: r.kind = NNI_R_REDUCE, r.level = NNI_ROW; break;
    default: r.kind = NNI_R_PW;
  }
  int at = emit(q, r);
  if (n->kind == NNI_N_PW && od == NN_U8 && at >= 0) /* u8 arithmetic wraps in registers as it does in memory */
    at = emit(q, (nni_rinstr){.kind = NNI_R_CAST, .cls = NNI_I, .opcls = NNI_I, .level = (uint8_t)level, .dtype = NN_U8, .nargs = 1, .a = {(int16_t)at}});
  return at;
}

/* join neighbouring dims that every access walks as one; the last dim stays when rows matter */
static void collapse(prog *q) {
  nni_program *p = &q->p;
  bool rows = false;
  for (int i = 0; i < p->ninstr; i++) rows = rows || q->instr[i].level == NNI_ROW;
  for (int d = p->ndim - 2; d >= 0; d--) {
    bool last = d + 1 == p->ndim - 1;
    if (last && rows) continue;
    bool ok = true;
    for (int i = 0; i < p->nin && ok; i++) {
      const nni_access *a = &p->in[i];
      if (a->level == NNI_ROW && last) ok = false;
      else ok = a->stride[d] == a->stride[d + 1] * p->shape[d + 1];
    }
    if (!ok) continue;
    p->shape[d] *= p->shape[d + 1];
    for (int k = d + 1; k + 1 < p->ndim; k++) p->shape[k] = p->shape[k + 1];
    for (int i = 0; i < p->nin; i++)
      for (int k = d; k + 1 < p->ndim; k++) p->in[i].stride[k] = p->in[i].stride[k + 1];
    p->ndim--;
  }
  p->cols = p->shape[p->ndim - 1];
  p->rows = 1;
  for (int i = 0; i < p->ndim - 1; i++) p->rows *= p->shape[i];
}

/* arguments that output o may overwrite: loaded once, as a whole, in order, and not read after o is made */
static int overwritable(build *b, const prog *q, int o, nn_tensor **cand) {
  int n = 0;
  for (int i = 0; i < q->p.nin; i++) {
    nni_layout ident;
    nni_layout_contiguous(&ident, q->inl[i].ndim, q->inl[i].shape);
    if (q->p.in[i].level != q->instr[q->outdef[o]].level || memcmp(ident.stride, q->inl[i].stride, sizeof(int64_t) * (size_t)ident.ndim) != 0) continue;
    if (q->lastread[i] > q->outdef[o] || q->in[i]->dtype != b->ctx->win.node[q->outnode[o]]->oshape[0].dtype) continue;
    bool once = true;
    for (int j = 0; j < q->p.nin; j++) once = once && (j == i || q->in[j]->v != q->in[i]->v);
    if (once) cand[n++] = (nn_tensor *)(uintptr_t)q->in[i];
  }
  return n;
}

/* The device's form of the program; units that do the same to other operands share one, so that less of it has to be in the caches. */
static bool compile_program(build *b, const prog *q, int u) {
  nni_unit *t = &b->plan->unit[u];
  const size_t isz = sizeof(nni_rinstr) * (size_t)q->p.ninstr;
  for (int v = 0; v < u; v++) {
    const nni_unit *w = &b->plan->unit[v];
    if (!w->program || w->borrowed || memcmp(w->desc, &q->p, offsetof(nni_program, instr)) != 0 || memcmp(w->desc->instr, q->instr, isz) != 0) continue;
    t->prog = w->prog, t->desc = w->desc, t->borrowed = true;
    return true;
  }
  t->desc = nni_malloc(b->ctx->core.mem, sizeof(nni_program) + isz);
  if (!t->desc) return false;
  *t->desc = q->p;
  t->desc->instr = (nni_rinstr *)(t->desc + 1);
  memcpy(t->desc->instr, q->instr, isz);
  t->prog = b->plan->dev->is->program_new(b->plan->dev, t->desc);
  return t->prog != NULL;
}

static bool finish_program(build *b, prog *q, int u) {
  nni_unit *t = &b->plan->unit[u];
  if (!unit_alloc(b, t, q->p.nin, q->p.nout, q->nparam, 0, 0)) return false;
  for (int i = 0; i < q->p.nin; i++) t->in[i] = slot_of(b, q->in[i]);
  for (int o = 0; o < q->p.nout; o++) {
    nn_tensor *cand[NNI_PROG_MAXIO];
    place_over(b, u, q->outnode[o], 0, cand, overwritable(b, q, o, cand));
    t->out[o] = b->value[b->vbase[q->outnode[o]]].slot;
  }
  if (q->nparam) memcpy(t->param, q->param, sizeof(int) * (size_t)q->nparam);
  t->program = true;
  t->first = b->members[u][0];
  return compile_program(b, q, u);
}

static bool build_program(build *b, int u) {
  prog *q = nni_arena_get(b->tmp, sizeof *q);
  int nm = b->nmember[u], *def = nni_arena_get(b->tmp, sizeof(int) * (size_t)b->ctx->win.n);
  if (!q || !def) return false;
  memset(q, 0, sizeof *q);
  q->cap = nm * 7 + 2;
  q->instr = nni_arena_get(b->tmp, sizeof(nni_rinstr) * (size_t)q->cap);
  q->param = nni_arena_get(b->tmp, sizeof(int) * (size_t)(nm * 4 + 1));
  if (!q->instr || !q->param) return false;
  const nni_layout *sp = &b->g.space[u];
  q->p.ndim = sp->ndim;
  memcpy(q->p.shape, sp->shape, sizeof(int64_t) * (size_t)sp->ndim); /* the rest stays 0: programs are compared */
  for (int i = 0; i < nm; i++) {
    int node = b->members[u][i];
    def[node] = emit_node(b, q, node, def);
    if (def[node] < 0) return false;
    if (!b->value[b->vbase[node]].used) continue;
    int o = q->p.nout++;
    q->outnode[o] = node;
    q->outdef[o] = def[node];
    nn_dtype d = b->ctx->win.node[node]->oshape[0].dtype;
    uint8_t level = q->instr[def[node]].level;
    q->p.out[o] = (nni_access){.dtype = d, .level = level};
    if (emit(q, (nni_rinstr){.kind = NNI_R_STORE, .cls = (uint8_t)class_of(d), .level = level, .dtype = (uint8_t)d, .nargs = 1, .a = {(int16_t)def[node]}, .slot = (int16_t)o}) < 0)
      return false;
  }
  collapse(q);
  q->p.instr = q->instr;
  return finish_program(b, q, u);
}

/* ---- the plan ---- */
void nni_plan_free(nn_context *ctx, nni_plan *p) {
  nni_memory *m = ctx->core.mem;
  if (!p) return;
  if (p->recorded) p->dev->is->recorded_free(p->dev, p->recorded);
  for (int i = 0; p->unit && i < p->nunit; i++) {
    nni_unit *u = &p->unit[i];
    if (u->prog && !u->borrowed) p->dev->is->program_free(p->dev, u->prog);
    if (u->desc && !u->borrowed) nni_free(m, u->desc, sizeof(nni_program) + sizeof(nni_rinstr) * (size_t)u->desc->ninstr);
    nni_free(m, u->op, u->bytes);
  }
  nni_free(m, p->unit, sizeof *p->unit * (size_t)p->nunit);
  nni_free(m, p->output, sizeof *p->output * (size_t)p->nvalue);
  nni_free(m, p->unit_of, sizeof(int) * (size_t)p->nnode);
  nni_free(m, p->key, sizeof *p->key * (size_t)p->nkey);
  nni_free(m, p->visible, sizeof(uint64_t) * (size_t)((p->nvalue + 63) / 64));
  nni_free(m, p, sizeof *p);
}

/* kernels that read ids, or matrices that may be singular */
static bool may_fail(const nni_unit *u) {
  if (u->program) return false;
  switch (u->kernel) {
    case NNI_K_take_rows: case NNI_K_add_rows: case NNI_K_check_ids: case NNI_K_ravel_ids: case NNI_K_gather: case NNI_K_scatter: case NNI_K_nonzero:
    case NNI_K_inv: case NNI_K_solve: case NNI_K_cholesky: case NNI_K_qr: case NNI_K_svd: case NNI_K_eigh: case NNI_K_slogdet: case NNI_K_det:
    case NNI_K_cofactor: case NNI_K_lstsq: return true;
    default: return false;
  }
}

/* A run that fails must not have overwritten anything: up to the last unit that may fail results get memory of their own. (A device that tells of failures
** when the whole run is over spares all inputs of a run that may fail, and only of such: run.c.) */
static void spare_inputs(nni_plan *p) {
  int last = -1;
  for (int u = 0; u < p->nunit; u++)
    if ((p->unit[u].fallible = may_fail(&p->unit[u]))) last = u;
  p->fallible = last >= 0;
  for (int o = 0; o < p->nout; o++)
    if (p->dev->host && p->output[o].unit <= last) p->output[o].ndonor = 0;
}

static bool fill(build *b) {
  nn_context *ctx = b->ctx;
  nni_plan *p = b->plan;
  int nv = 0;
  b->vbase = nni_arena_get(b->tmp, sizeof(int) * (size_t)(ctx->win.n + 1));
  if (!b->vbase) return false;
  for (int i = 0; i < ctx->win.n; i++) b->vbase[i] = nv, nv += ctx->win.node[i]->nout;
  if (!nni_fuse(ctx, p->visible, b->tmp, &b->g)) return false;
  p->unit = nni_calloc(ctx->core.mem, sizeof *p->unit * (size_t)b->g.nunit);
  if (!p->unit && b->g.nunit) return false;
  p->nunit = b->g.nunit;
  memcpy(p->unit_of, b->g.unit_of, sizeof(int) * (size_t)ctx->win.n);
  if (!collect(b)) return false;
  for (int u = 0; u < p->nunit; u++) {
    if (!(b->g.program[u] ? build_program(b, u) : build_kernel(b, u))) return false;
    free_dead(b, u);
    p->unit[u].param0 = p->nparam;
    p->nparam += p->unit[u].nparam;
  }
  spare_inputs(p);
  p->arena = b->top;
  return true;
}

nni_plan *nni_plan_new(nn_context *ctx, uint64_t hash, const uint64_t *visible, int nvalue) {
  nni_memory *m = ctx->core.mem;
  nni_window *w = &ctx->win;
  nni_arena tmp;
  nni_arena_init(&tmp, m);
  size_t words = (size_t)((nvalue + 63) / 64);
  nni_plan *p = nni_calloc(m, sizeof *p);
  if (p) {
    p->hash = hash;
    p->dev = w->dev;
    p->nvalue = nvalue;
    p->nnode = w->n;
    p->nkey = w->nkey;
    p->key = nni_malloc(m, sizeof *p->key * (size_t)w->nkey);
    p->visible = nni_malloc(m, sizeof(uint64_t) * words);
    p->output = nni_malloc(m, sizeof *p->output * (size_t)nvalue);
    p->unit_of = nni_malloc(m, sizeof(int) * (size_t)w->n);
    p->threads = -1;
  }
  bool ok = p && p->key && p->visible && p->output && p->unit_of;
  if (ok) {
    memcpy(p->key, w->key, sizeof *p->key * (size_t)w->nkey);
    memcpy(p->visible, visible, sizeof(uint64_t) * words);
    build b = {.ctx = ctx, .tmp = &tmp, .plan = p, .visible = p->visible};
    ok = fill(&b);
  }
  nni_arena_close(&tmp);
  if (ok) return p;
  nni_plan_free(ctx, p);
  nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory while planning a run");
  return NULL;
}
