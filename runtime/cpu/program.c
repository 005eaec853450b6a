/* cpu/program.c - compiles row programs: tile geometry, what is constant, how each input is read, registers, the kernel of each step.
**
** Pure functions of the program and the instruction-set level; the only memory is the compiled block (and a working copy while compiling).
*/
#include "program.h"
#include "program_steps.h"

#define PARALLEL_NS 2000.0
#define CACHES 32e6 /* bytes: a program that moves more finds nothing of its inputs in the caches and leaves nothing of its results */

typedef struct builder {
  const nni_program *src;
  program *p;        /* its steps grow here, operands numbered in order of making; sorted and given registers at the end */
  int cap;
  bool failed;
  int16_t *value;    /* src instruction -> step */
  int16_t *expanded; /* step -> its S_EXPAND, -1 */
} builder;

static const uint8_t dtype_bytes[NN_NDTYPE] = {
#define NN_X(name, text, type, bytes) [NN_##name] = bytes,
  NN_DTYPE_MAP(NN_X)
#undef NN_X
};
static int dtype_class(nn_dtype d) { return d == NN_F64 ? NNI_D : d >= NN_F16 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I; }
static bool is_half(nn_dtype d) { return d == NN_F16 || d == NN_BF16; }
static size_t class_size(int cls) { return cls == NNI_L || cls == NNI_D ? 8 : 4; }
static bool is_natural(nn_dtype d) { return d != NN_BOOL && d != NN_U8 && !is_half(d); } /* in memory as in a register */
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- geometry ------------------------------------------------------------------------------------------------------------------ */
static bool all_zero(const int64_t *s, int n) {
  for (int d = 0; d < n; d++)
    if (s[d]) return false;
  return true;
}
/* strides of a dense array over the first n dims (dims of size 1: stride 0, as normalised) */
static bool is_dense(const program *p, const int64_t *s, int n) {
  int64_t want = 1;
  for (int d = n - 1; d >= 0; d--) {
    if (p->shape[d] > 1 && s[d] != want) return false;
    want *= p->shape[d];
  }
  return true;
}

static void set_inputs(program *p, const nni_program *src) {
  p->ndim = src->ndim;
  p->rows = src->rows;
  p->cols = src->cols;
  p->nin = src->nin;
  p->nout = src->nout;
  memcpy(p->shape, src->shape, sizeof p->shape);
  for (int i = 0; i < src->nin; i++) {
    p->in_size[i] = dtype_bytes[src->in[i].dtype];
    for (int d = 0; d < src->ndim; d++) p->in_stride[i][d] = p->shape[d] == 1 ? 0 : src->in[i].stride[d];
  }
  for (int o = 0; o < src->nout; o++) {
    p->out_size[o] = dtype_bytes[src->out[o].dtype];
    p->out_shape[o] = src->out[o].level == NNI_FULL ? FULL : ROW;
    p->out_direct[o] = -1;
  }
}

/* Without rows to speak of, and every input dense or a scalar, the space is one long row. */
static void set_linear(program *p, const nni_program *src) {
  for (int i = 0; i < src->ninstr; i++)
    if (src->instr[i].level == NNI_ROW || src->instr[i].kind == NNI_R_REDUCE) return;
  for (int i = 0; i < p->nin; i++)
    if (!is_dense(p, p->in_stride[i], p->ndim) && !all_zero(p->in_stride[i], p->ndim)) return;
  for (int i = 0; i < p->nin; i++) p->in_stride[i][0] = all_zero(p->in_stride[i], p->ndim) ? 0 : 1;
  p->cols *= p->rows;
  p->rows = 1;
  p->ndim = 1;
  p->shape[0] = p->cols;
}

/* bytes that one run reads and writes */
static double traffic(const program *p) {
  double n = (double)p->rows * (double)p->cols, bytes = 0;
  for (int i = 0; i < p->nin; i++) bytes += all_zero(p->in_stride[i], p->ndim > 1 ? p->ndim - 1 : 1) ? 0 : n * p->in_size[i]; /* no bias, no number */
  for (int o = 0; o < p->nout; o++) bytes += n * p->out_size[o];
  return bytes;
}

/* Elements of a tile. Measured: what is done once per tile or row costs the same for few elements and many (latencies that nothing hides, some 70 ns
** in layer norm), so bigger is better while everything is in the first cache; when arrays come from memory, smaller tiles let loads of the next one
** overlap with arithmetic, but not where rows are reduced (layer norm of 32768x128: 0.67 ms in tiles of 512, 0.52 of 1024). A program that keeps nothing in
** its registers need not care for the first cache (wide; addition of 64K elements: 6.1 us in tiles of 1024, 5.2 of 4096; past the caches 0.32 and 0.26 ms). */
static int64_t tile_size(const program *p, bool strided, bool whole, bool wide) {
  double n = (double)p->rows * (double)p->cols;
  int64_t tile = traffic(p) <= CACHES || whole ? 1024 : 512;
  if (wide && !whole) tile = 4096;
  if (strided) return 64; /* its cache lines must still be there when the next row wants its share of them */
  while (tile > (whole ? 512 : 256) && n < 8 * (double)tile) tile /= 2; /* something to share out */
  return tile;
}

/* A long row whose reductions nothing else in the row waits for can be cut: partial results of LEAF elements each, joined in the order of
** the whole row. late: 0 for each instruction; becomes 1 for those that wait. */
static bool is_splittable(const nni_program *src, uint8_t *late) {
  if (src->cols < 8 * NN_ROWS_LEAF) return false;
  for (int i = 0; i < src->ninstr; i++) {
    const nni_rinstr *s = &src->instr[i];
    bool waits = false;
    for (int k = 0; k < s->nargs || (s->kind == NNI_R_STORE && k < 1); k++) waits |= late[s->a[k]] != 0;
    if (waits && s->level == NNI_FULL) return false;
    if (s->kind == NNI_R_REDUCE && (s->op == NNI_RED_rargmax || s->op == NNI_RED_rargmin)) return false;
    late[i] = waits || s->kind == NNI_R_REDUCE;
  }
  return true;
}

static void set_tiles(program *p, const nni_program *src, uint8_t *late, bool wide) {
  bool whole = false, strided = false; /* rows must not be cut; an input is read across its grain */
  int64_t tile;
  for (int i = 0; i < src->ninstr; i++) {
    const nni_rinstr *s = &src->instr[i];
    whole |= s->kind == NNI_R_REDUCE || (s->kind == NNI_R_STORE && p->out_shape[s->slot] == ROW);
    strided |= s->kind == NNI_R_LOAD && s->level == NNI_FULL && p->in_stride[s->slot][p->ndim - 1] > 1 && p->rows > 1;
  }
  p->split = whole && is_splittable(src, late);
  tile = p->split ? NN_ROWS_LEAF : tile_size(p, strided && !whole, whole, wide);
  p->down = strided && !whole;
  p->nseg = 1;
  p->seg = p->cols;
  p->tile_rows = 1;
  if (p->split || (!whole && p->cols > tile)) {
    p->nseg = (p->cols + tile - 1) / tile;
    p->seg = p->split ? tile : ((p->cols + p->nseg - 1) / p->nseg + 15) / 16 * 16;
    p->nseg = (p->cols + p->seg - 1) / p->seg;
    p->ntiles = p->rows * p->nseg;
  } else {
    p->tile_rows = min64(p->rows, max64(1, tile / p->cols));
    p->ntiles = (p->rows + p->tile_rows - 1) / p->tile_rows;
  }
}

/* ---- building ------------------------------------------------------------------------------------------------------------------- */
static step *add_step(builder *b, step_kind kind, int cls, shape sh) {
  if (b->p->nsteps == b->cap) { /* cannot happen: cap counts the worst case; keeps a bug harmless */
    b->failed = true;
    b->p->nsteps = 0;
  }
  step *s = &b->p->steps[b->p->nsteps];
  *s = (step){.kind = (uint8_t)kind, .cls = (uint8_t)cls, .shape = (uint8_t)sh, .a = {-1, -1, -1}, .io = -1, .reg = -1, .next = -1};
  s->self = (int16_t)b->p->nsteps;
  s->cost = 6;
  s->lanes = (uint8_t)b->p->k->vw;
  s->prologue = sh == CONST;
  b->expanded[b->p->nsteps++] = -1;
  return s;
}
static step *step_at(builder *b, int i) { return &b->p->steps[i]; }
static bool is_splat(const program *p, const step *s) { return s->shape == CONST || (s->shape == ROW && p->tile_rows == 1); }

/* the value as FULL (or ROW), spread out if it is less and no splat */
static int expand(builder *b, int v, shape want, bool splat_will_do) {
  step *from = step_at(b, v);
  if (from->shape >= want || (splat_will_do && is_splat(b->p, from))) return v;
  if (want == ROW && b->p->tile_rows == 1) return v;
  if (want == FULL && b->expanded[v] >= 0) return b->expanded[v];
  step *s = add_step(b, S_EXPAND, from->cls, want);
  s->a[0] = (int16_t)v;
  s->src_cls = from->cls;
  s->step[0] = is_splat(b->p, from) ? 0 : 1;
  s->prologue = from->shape == CONST;
  s->fn.expand = b->p->k->expand[from->cls];
  if (want == FULL) b->expanded[v] = s->self;
  return s->self;
}

static int cast(builder *b, int v, nn_dtype to) {
  step *from = step_at(b, v);
  bool same = dtype_class(to) == from->cls && (!is_half(to) || to == from->dtype) &&
              (from->cls != NNI_I || to == NN_I32 || to == from->dtype || (to == NN_U8 && from->dtype == NN_BOOL));
  if (same) return v;
  step *s = add_step(b, S_PW, dtype_class(to), (shape)from->shape);
  s->fn.pw = b->p->k->cast[from->cls][to];
  s->src_cls = from->cls;
  s->dtype = (uint8_t)to;
  s->a[0] = (int16_t)v;
  s->step[0] = is_splat(b->p, from) ? 0 : b->p->k->vw * (int32_t)class_size(from->cls);
  return s->self;
}

static int build_load(builder *b, const nni_rinstr *i) {
  program *p = b->p;
  const nni_access *in = &b->src->in[i->slot];
  const int64_t *st = p->in_stride[i->slot];
  int last = p->ndim - 1;
  bool natural = is_natural(in->dtype), row = in->level == NNI_ROW || (st[last] == 0 && p->cols > 1);
  bool fixed_row = all_zero(st, last); /* the same for all rows */
  step *s;
  if (fixed_row && (row || st[last] == 0)) {
    s = add_step(b, S_LOAD_ROW, dtype_class(in->dtype), CONST);
  } else if (row) {
    bool dense = is_dense(p, st, last);
    s = add_step(b, dense && natural && p->tile_rows > 1 ? S_ALIAS : S_LOAD_ROW, dtype_class(in->dtype), ROW);
    s->dense = dense;
  } else {
    bool dense = is_dense(p, st, p->ndim), alias = natural && (dense || (p->tile_rows == 1 && st[last] == 1));
    s = add_step(b, alias ? S_ALIAS : S_LOAD, dtype_class(in->dtype), FULL);
    s->dense = dense;
    s->prologue = !alias && fixed_row && p->nseg == 1; /* a bias: the same in every tile */
  }
  s->fn.load = p->k->load[in->dtype];
  s->dtype = (uint8_t)in->dtype;
  s->io = i->slot;
  return s->self;
}

/* Does the result of u8 or bool operands, computed in i32, fit their dtype? And does the row call vector mathematics? */
static bool keeps_range(int op) {
#define KEEPS_F 0
#define KEEPS_N 0
#define KEEPS_C 1
#define KEEPS_B 1
#define KEEPS_W 1
#define KEEPS_I 0
  static const uint8_t keeps[NNI_NPW] = {
#define NN_PW(name, TYPE, ...) [NNI_PW_##name] = KEEPS_##TYPE,
#include "../ops/pointwise.def"
#undef NN_PW
  };
  return keeps[op] || op == NNI_PW_minimum || op == NNI_PW_maximum || op == NNI_PW_relu;
}
/* does its formula contain a function that is a polynomial or worse? */
static bool is_heavy(int op) {
  static const char *const formulas[NNI_NPW] = {
#define NN_PW(name, TYPE, sig, nargs, doc, formula, ...) [NNI_PW_##name] = #formula,
#include "../ops/pointwise.def"
#undef NN_PW
  };
  static const char *const words[] = {"EXP", "LOG", "SIN", "COS", "TAN", "ERF", "POW", "SIGMOID", "MOD(", "FLOORDIV("};
  for (int i = 0; i < NNI_COUNT(words); i++)
    if (strstr(formulas[op], words[i])) return true;
  return false;
}

/* the link that an instruction can be, 0: none */
static int link_of(const nni_rinstr *i, shape sh) {
#define UNARY(name) [NNI_PW_##name] = NN_LINK_##name,
  static const uint8_t links[NNI_NPW] = {NN_ROWS_HEAVY(UNARY, UNARY)};
#undef UNARY
  return sh == FULL && i->cls == NNI_F && i->opcls == NNI_F && i->dtype == NN_F32 ? links[i->op] : 0;
}
/* can rows be gone through one after the other without much loss? */
static bool has_long_rows(const program *p) { return p->tile_rows == 1 || p->cols >= 4 * p->k->vw; }

static int build_pw(builder *b, const nni_rinstr *i) {
  program *p = b->p;
  shape sh = CONST;
  int a[3] = {-1, -1, -1};
  for (int k = 0; k < i->nargs && k < 3; k++) {
    a[k] = b->value[i->a[k]];
    sh = (shape)max64(sh, step_at(b, a[k])->shape);
  }
  const int link = link_of(i, sh);
  for (int k = 0; k < 3; k++)
    if (a[k] >= 0 && !(link && has_long_rows(p))) a[k] = expand(b, a[k], sh, true);
  step *s = add_step(b, S_PW, i->cls, sh);
  s->op = (uint8_t)link;
  s->fn.pw = p->k->pw[i->opcls][i->op];
  if (!s->fn.pw) b->failed = true;
  s->src_cls = i->opcls;
  s->dtype = i->dtype;
  s->lanes = (uint8_t)(class_size(i->opcls) == 8 ? p->k->vw / 2 : p->k->vw);
  for (int k = 0; k < 3; k++) {
    s->a[k] = (int16_t)a[k];
    if (a[k] >= 0 && !is_splat(p, step_at(b, a[k]))) s->step[k] = s->lanes * (int32_t)class_size(step_at(b, a[k])->cls);
  }
  s->cost = is_heavy(i->op) ? 30 : 6;
  s->cost = (uint8_t)(i->opcls == NNI_D && s->cost > 6 ? 200 : s->cost);
  if (is_half(i->dtype)) { /* even what a comparison chose: a number among the operands is no half */
    s->dtype = NN_F32;
    return cast(b, s->self, (nn_dtype)i->dtype);
  }
  if (i->cls != NNI_I || i->dtype == NN_I32 || keeps_range(i->op)) return s->self;
  s->dtype = NN_I32; /* u8 arithmetic: bring the sum back into range */
  return cast(b, s->self, (nn_dtype)i->dtype);
}

static int build_reduce(builder *b, const nni_rinstr *i) {
  int v = b->value[i->a[0]];
  bool position = i->op == NNI_RED_rargmax || i->op == NNI_RED_rargmin;
  if (i->cls == NNI_L && !position) v = cast(b, v, NN_I64); /* u8 and bool add up in i64 */
  v = expand(b, v, FULL, false);
  step *s = add_step(b, S_REDUCE, position ? NNI_L : i->cls, ROW);
  s->a[0] = (int16_t)v;
  s->src_cls = step_at(b, v)->cls;
  s->dtype = (uint8_t)(position ? NN_I64 : i->dtype);
  s->fn.reduce = b->p->k->reduce[s->src_cls][i->op];
  s->op = (uint8_t)i->op;
  s->io = (int16_t)b->p->nreduce++;
  if (!is_half(i->dtype)) return s->self;
  s->dtype = NN_F32;
  return cast(b, s->self, (nn_dtype)i->dtype);
}

/* Stores run after everything else in the tile, unless the value is computed right in the output. */
static void build_store(builder *b, const nni_rinstr *i) {
  program *p = b->p;
  nn_dtype d = b->src->out[i->slot].dtype;
  shape want = (shape)p->out_shape[i->slot];
  int v = expand(b, cast(b, b->value[i->a[0]], d), want, false);
  if (want == FULL && step_at(b, v)->kind == S_ALIAS) { /* copied within the body, where the order of reads and writes is watched */
    step *c = add_step(b, S_PW, step_at(b, v)->cls, FULL);
    c->fn.pw = p->k->copy[c->cls];
    c->src_cls = c->cls;
    c->dtype = (uint8_t)d;
    c->a[0] = (int16_t)v;
    c->step[0] = p->k->vw * (int32_t)class_size(c->cls);
    v = c->self;
  }
  step *from = step_at(b, v);
  bool direct = want == FULL && is_natural(d) && !from->direct && !from->prologue &&
                (from->kind == S_PW || from->kind == S_RANDOM || from->kind == S_INDEX);
  step *s = add_step(b, S_STORE, dtype_class(d), want);
  s->prologue = false;
  s->a[0] = (int16_t)v;
  s->io = i->slot;
  s->fn.store = p->k->store[d];
  if (direct) {
    s->direct = step_at(b, v)->direct = true;
    if (from->kind == S_PW) step_at(b, v)->io = i->slot;
    p->out_direct[i->slot] = (int16_t)v;
  }
}

static void build(builder *b) {
  for (int n = 0; n < b->src->ninstr && !b->failed; n++) {
    const nni_rinstr *i = &b->src->instr[n];
    step *s = NULL;
    switch ((nni_rkind)i->kind) {
    case NNI_R_LOAD: b->value[n] = (int16_t)build_load(b, i); break;
    case NNI_R_PARAM: s = add_step(b, S_PARAM, i->cls, CONST); break;
    case NNI_R_INDEX: s = add_step(b, S_INDEX, NNI_L, FULL); break;
    case NNI_R_RANDOM: s = add_step(b, S_RANDOM, NNI_F, FULL); break;
    case NNI_R_CAST: b->value[n] = (int16_t)cast(b, b->value[i->a[0]], (nn_dtype)i->dtype); break;
    case NNI_R_PW: b->value[n] = (int16_t)build_pw(b, i); break;
    case NNI_R_REDUCE: b->value[n] = (int16_t)build_reduce(b, i); break;
    case NNI_R_STORE: build_store(b, i); break;
    }
    if (s) {
      s->dtype = is_half((nn_dtype)i->dtype) ? NN_F32 : i->dtype; /* numbers are not rounded, results are */
      s->io = i->slot;
      b->value[n] = s->self;
    }
  }
}

/* ---- order, liveness, registers ------------------------------------------------------------------------------------------------ */
static int group(const step *s) { return s->prologue ? 0 : s->kind == S_STORE ? 2 : 1; }

/* A cut row: what is FULL goes with the segments, what waits for a reduction with the rows after them, other ROW values with both. */
static void set_phases(program *p, uint8_t *late) {
  for (int i = 0; i < p->nsteps; i++) {
    step *s = &p->steps[i];
    late[i] = s->kind == S_REDUCE;
    for (int k = 0; k < 3; k++) late[i] |= s->a[k] >= 0 && late[s->a[k]];
    if (!p->split || s->shape == FULL) s->phases = SEGMENTS;
    else if (s->kind == S_STORE || (late[i] && s->kind != S_REDUCE)) s->phases = ROWS;
    else s->phases = SEGMENTS | ROWS;
  }
  if (p->split) p->shared = ((size_t)p->nreduce * (size_t)p->ntiles * 8 + 127) / 128 * 128;
}

/* to: as many steps as b->p has. Values keep their numbers, only the order changes. */
static void sort_steps(program *p, step *to) {
  int n = 0;
  for (int g = 0; g < 3; g++) {
    for (int i = 0; i < p->nsteps; i++) {
      const step *s = &p->steps[i];
      if (group(s) != g || (s->chained && s->next >= 0)) continue;
      for (int k = s->chained ? s->head : i; k >= 0; k = p->steps[k].next) to[n++] = p->steps[k]; /* a chain stands where its last link is */
    }
    if (g == 0) p->nprologue = n;
    if (g == 1) p->nbody = n - p->nprologue;
  }
  memcpy(p->steps, to, (size_t)n * sizeof *to);
}

/* position[v]: where value v is made. Sets last of every value: for one that copies its input, where it is made. Row values that a chain
** reads are read until its end. */
static void find_last(program *p, int16_t *position) {
  for (int i = 0; i < p->nsteps; i++) {
    position[p->steps[i].self] = (int16_t)i;
    p->steps[i].last = i;
  }
  for (int i = 0, end = -1; i < p->nsteps; i++) {
    if (p->steps[i].nlinks) end = i + p->steps[i].nlinks - 1;
    for (int k = 0; k < 3; k++) {
      step *a = p->steps[i].a[k] >= 0 ? &p->steps[position[p->steps[i].a[k]]] : NULL;
      if (a) a->last = i <= end && a->shape != FULL ? end : i;
    }
  }
}

static void find_conflicts(program *p, const int16_t *position) {
  for (int o = 0; o < p->nout; o++) {
    if (p->out_direct[o] < 0) continue;
    for (int i = 0; i < p->nsteps; i++) {
      const step *s = &p->steps[i];
      bool input = s->kind == S_ALIAS || s->kind == S_LOAD || s->kind == S_LOAD_ROW;
      if (input && s->last > position[p->out_direct[o]] && (s->kind == S_ALIAS || i > position[p->out_direct[o]])) p->out_conflict[o] |= 1u << s->io;
    }
  }
}

static int register_size(const step *s) { return s->shape != FULL ? 2 : class_size(s->cls) == 8; } /* FULL of 4 bytes, FULL of 8, ROW */

/* Linear scan. A step may write over an operand that it reads last if their elements have one size: kernels read a vector before they write it.
** Not over a splat that is read again for a second vector (class L, whose vectors have fewer lanes than a splat). */
static void set_registers(program *p, const int16_t *position, int64_t *free_regs, int cap) {
  size_t full = (size_t)(p->nseg > 1 ? p->seg : p->tile_rows * p->cols), top = ((size_t)p->nsteps + 1) * sizeof(void *);
  size_t size[3] = {full * 4, full * 8, (size_t)p->tile_rows * 8};
  int nfree[3] = {0, 0, 0};
  for (int i = 0; i < 3; i++) size[i] = (size[i] + NN_ROWS_PAD + 63) / 64 * 64;
  top = (top + 63) / 64 * 64;
  for (int i = 0; i < p->nsteps; i++) {
    step *s = &p->steps[i];
    for (int after = 0; after < 2; after++) { /* operands of the result's element size are let go before, others after it has its place */
      for (int k = 0; k < 3; k++) {
        step *a = s->a[k] >= 0 ? &p->steps[position[s->a[k]]] : NULL;
        bool again = (k > 0 && s->a[k] == s->a[0]) || (k > 1 && s->a[k] == s->a[1]);
        if (!a || again || a->prologue || a->reg < 0 || a->last != i) continue;
        bool apart = class_size(a->cls) != class_size(s->cls) || (s->kind == S_PW && s->step[k] == 0 && s->lanes < p->k->vw);
        if (apart != after) continue;
        int c = register_size(a);
        free_regs[c * cap + nfree[c]++] = a->reg;
      }
      if (after || s->kind == S_STORE || s->kind == S_ALIAS || (s->chained && !s->keeps)) continue;
      int c = register_size(s);
      if (nfree[c] && !s->prologue) {
        s->reg = free_regs[c * cap + --nfree[c]];
      } else {
        s->reg = (int64_t)top;
        top += size[c];
      }
    }
  }
  p->scratch = (top + 127) / 128 * 128;
}

/* Rough nanoseconds of one run, to decide about threads. */
static void set_parallel(program *p) {
  double ns = 0;
  for (int i = p->nprologue; i < p->nsteps; i++) {
    const step *s = &p->steps[i];
    double n = s->shape == FULL || s->kind == S_REDUCE ? (double)p->rows * (double)p->cols : (double)p->rows;
    int cost = s->kind == S_ALIAS ? 2 : s->kind == S_LOAD && !s->dense ? 30 : s->kind == S_RANDOM ? 50 : s->cost;
    ns += n * cost * 0.16 / p->k->vw;
  }
  p->parallel = ns >= PARALLEL_NS && p->ntiles > 1;
}

/* Results are written past the caches where they would not be found there. Rows that are reduced are read again, and results that go through the
** caches drive them out: those go past from less bytes on (softmax of 4096x1024, 33.5 MB: 0.59 ms past, 0.64 through; exp of as much 0.41 and 0.31). */
static bool compile(builder *b, int16_t *position, step *spare, int64_t *free_regs, uint8_t *late, bool wide) {
  program *p = b->p;
  set_inputs(p, b->src);
  set_linear(p, b->src);
  set_tiles(p, b->src, late, wide);
  build(b);
  if (b->failed) return false;
  double past = 1.25 * CACHES;
  for (int i = 0; i < p->nsteps; i++)
    if (p->steps[i].kind == S_REDUCE) past = CACHES;
  for (int o = 0; o < p->nout; o++)
    if (traffic(p) > past && p->out_shape[o] == FULL && is_natural(b->src->out[o].dtype)) p->out_stream |= 1u << o;
  nn_cpu_program_chain(p, position, b->value);
  set_phases(p, late);
  sort_steps(p, spare);
  find_last(p, position);
  find_conflicts(p, position);
  set_registers(p, position, free_regs, b->cap);
  set_parallel(p);
  return true;
}

/* does a tile's row of elements lie in a register, rather than in an operand's memory or a chain's vectors? */
static bool keeps_elements(const program *p) {
  for (int i = 0; i < p->nsteps; i++)
    if (p->steps[i].reg >= 0 && p->steps[i].shape == FULL && !p->steps[i].direct) return true;
  return false;
}

void *nn_cpu_program_new(nni_memory *m, const nni_program *src) {
  int cap = 6 * src->ninstr + 1; /* an instruction makes at most 3 spread operands, a cast, itself, a copy */
  size_t per = 2 * sizeof(step) + 3 * sizeof(int64_t) + 3 * sizeof(int16_t) + 1, bytes;
  program *work, *p = NULL;
  char *rest;
  builder b = {.src = src, .cap = cap};
  if (src->ninstr > 4096) return NULL; /* step numbers are 16 bits */
  bytes = sizeof *work + (size_t)cap * per;
  work = nni_malloc(m, bytes);
  if (!work) return NULL;
  step *spare = work->steps + cap;
  int64_t *free_regs = (int64_t *)(void *)(spare + cap);
  int16_t *position = (int16_t *)(void *)(free_regs + 3 * cap);
  rest = (char *)(position + cap);
  b.expanded = (int16_t *)(void *)rest;
  b.value = b.expanded + cap;
  uint8_t *late = (uint8_t *)(b.value + cap);
  b.p = work;
  bool ok = true;
  for (int wide = 1; wide >= 0 && ok; wide--) { /* wide tiles are for programs that turn out to keep nothing */
    memset(work, 0, bytes);
    work->k = NN_ISA_PICK(nn_cpu_rows)();
    ok = compile(&b, position, spare, free_regs, late, wide);
    if (!keeps_elements(work)) break;
  }
  if (ok) {
    size_t keep = sizeof *p + (size_t)work->nsteps * sizeof(step);
    p = nni_malloc(m, keep);
    if (p) {
      memcpy(p, work, keep);
      p->bytes = keep;
    }
  }
  nni_free(m, work, bytes);
  return p;
}

void nn_cpu_program_free(nni_memory *m, void *prog) {
  program *p = prog;
  if (p) nni_free(m, p, p->bytes);
}

size_t nn_cpu_program_scratch(const void *prog, int nthreads) {
  const program *p = prog;
  return p->shared + p->scratch * (size_t)(nthreads > 1 ? nthreads : 1);
}
