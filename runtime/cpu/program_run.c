/* cpu/program_run.c - runs compiled row programs: tiles over threads, steps over a tile. See program_steps.h. */
#include "program.h"
#include "program_steps.h"

typedef struct run {
  const program *p;
  void *const *in, *const *out;
  const nni_param *params;
  char *shared, *scratch; /* partial reductions; the threads' */
  int phase;       /* SEGMENTS or ROWS */
  uint32_t direct; /* outputs that are computed in place */
  uint32_t stream; /* outputs that go past the caches */
} run;

typedef struct tile {
  int64_t row, nrows, col, n, first; /* n elements from column col of row `row` on; first: linear index */
} tile;

static size_t class_size(int cls) { return cls == NNI_L || cls == NNI_D ? 8 : 4; }

/* where a row starts in input `io`, in elements */
static int64_t row_offset(const program *p, int io, int64_t row) {
  const int64_t *stride = p->in_stride[io];
  int64_t at = 0;
  for (int d = p->ndim - 2; d > 0; d--) {
    at += row % p->shape[d] * stride[d];
    row /= p->shape[d];
  }
  return p->ndim > 1 ? at + row * stride[0] : 0;
}

static const char *input_at(const run *r, const step *s, const tile *t) {
  const program *p = r->p;
  const char *base = r->in[s->io];
  int64_t at;
  if (s->shape == CONST) return base;
  if (s->dense) at = s->shape == ROW ? t->row : t->first;
  else at = row_offset(p, s->io, t->row) + (s->shape == FULL ? t->col * p->in_stride[s->io][p->ndim - 1] : 0);
  return base + at * p->in_size[s->io];
}

static void load_full(const run *r, const step *s, const tile *t, void **v) {
  const program *p = r->p;
  int64_t stride = p->in_stride[s->io][p->ndim - 1], cols = t->n / t->nrows;
  char *o = v[s->self];
  if (s->dense || t->nrows == 1) {
    s->fn.load(o, input_at(r, s, t), s->dense ? 1 : stride, t->n);
    return;
  }
  for (int64_t i = 0; i < t->nrows; i++, o += (size_t)cols * class_size(s->cls))
    s->fn.load(o, (const char *)r->in[s->io] + row_offset(p, s->io, t->row + i) * p->in_size[s->io], stride, cols);
}

static void splat(const run *r, int cls, void *o, const void *value) { r->p->k->expand[cls](o, value, 0, 1, r->p->k->vw); }

static void load_rows(const run *r, const step *s, const tile *t, void **v) {
  const program *p = r->p;
  char *o = v[s->self];
  if (s->shape == CONST || p->tile_rows == 1) {
    int64_t one;
    s->fn.load(&one, input_at(r, s, t), 1, 1);
    splat(r, s->cls, o, &one);
  } else if (s->dense) {
    s->fn.load(o, input_at(r, s, t), 1, t->nrows);
  } else if (p->ndim == 2) {
    s->fn.load(o, input_at(r, s, t), p->in_stride[s->io][0], t->nrows);
  } else {
    for (int64_t i = 0; i < t->nrows; i++, o += class_size(s->cls))
      s->fn.load(o, (const char *)r->in[s->io] + row_offset(p, s->io, t->row + i) * p->in_size[s->io], 1, 1);
  }
}

static void load_param(const run *r, const step *s, void **v) {
  double x = r->params[s->io].f;
  union { float f; int32_t i; int64_t l; double d; } u;
  if (s->cls == NNI_F) u.f = (float)x;
  else if (s->cls == NNI_D) u.d = x;
  else if (s->cls == NNI_L) u.l = x != x ? 0 : x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (int64_t)x;
  else u.i = x != x ? 0 : x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int32_t)x;
  if (s->dtype == NN_BOOL) u.i = x != 0;
  if (s->dtype == NN_U8) u.i &= 255;
  splat(r, s->cls, v[s->self], &u);
}

/* A pointwise step whose result is in an output's memory: whole vectors there, the rest by way of a buffer, as what follows
** belongs to another tile. */
static void pw_direct(const run *r, const step *s, void **v, int64_t n) {
  int64_t vw = r->p->k->vw, whole = n / vw * vw, vectors = whole / s->lanes;
  size_t size = class_size(s->cls);
  _Alignas(64) char rest[NN_ROWS_SPLAT];
  const char *a[3];
  if (whole) s->fn.pw(v[s->self], v[s->a[0]], v[s->a[1]], v[s->a[2]], s->step, whole);
  if (whole == n) return;
  for (int k = 0; k < 3; k++) a[k] = (const char *)v[s->a[k]] + vectors * s->step[k];
  s->fn.pw(rest, a[0], a[1], a[2], s->step, n - whole);
  memcpy((char *)v[s->self] + (size_t)whole * size, rest, (size_t)(n - whole) * size);
}

/* of a split program: a segment's reduction, to be joined later */
static char *parts_of(const run *r, const step *s, const tile *t) {
  return r->shared + (size_t)s->io * (size_t)r->p->ntiles * 8 + (size_t)(t->row * r->p->nseg) * class_size(s->cls);
}
static void keep_part(const run *r, const step *s, const tile *t, void **v) {
  const size_t size = class_size(s->cls);
  if (r->p->split) memcpy(parts_of(r, s, t) + (size_t)(t->col / r->p->seg) * size, v[s->self], size);
}

static void run_reduce(const run *r, const step *s, const tile *t, void **v) {
  const program *p = r->p;
  if (r->phase == ROWS) {
    p->k->join[s->src_cls][s->op](v[s->self], parts_of(r, s, t), 1, p->cols);
    return;
  }
  s->fn.reduce(v[s->self], v[s->a[0]], t->nrows, t->n / t->nrows);
  keep_part(r, s, t, v);
}

/* how a link's value gets to v: past the caches where that is the output itself */
static int32_t store_link(const run *r, const step *s) {
  return s->direct && (r->stream & r->direct) >> s->io & 1 ? NN_LINK_stream : NN_LINK_store;
}

/* the chain whose first link is s */
static void run_chain(const run *r, const step *s, const tile *t, void **v) {
  const step *last = s + s->nlinks - 1;
  const nn_rows_chain_fn chain = s->fn.chain;
  const int64_t rows = s->by_row ? t->nrows : 1, cols = t->n / rows;
  const int32_t full = (int32_t)(rows > 1 ? cols * 4 : 0);
  nn_rows_link link[NN_ROWS_MAXLINKS], *k = link;
  *k++ = (nn_rows_link){NN_LINK_load, full, v[s->other == 0 ? s->a[1] : s->a[0]]};
  for (; s <= last; s++) {
    if (s->kind == S_REDUCE) {
      *k++ = (nn_rows_link){s->link, 4, v[s->self]};
      break;
    }
    *k++ = (nn_rows_link){s->link, s->step[0], s->other >= 0 ? v[s->a[s->other]] : NULL};
    if (s->keeps) *k++ = (nn_rows_link){store_link(r, s), full, v[s->self]};
  }
  *k = (nn_rows_link){NN_LINK_end, 0, NULL};
  chain(link, (int)(k - link), rows, cols);
  if (last->kind == S_REDUCE) keep_part(r, last, t, v);
}

static void run_step(const run *r, const step *s, const tile *t, void **v) {
  const program *p = r->p;
  int64_t n = s->shape == FULL ? t->n : s->shape == ROW && p->tile_rows > 1 ? t->nrows : p->k->vw;
  switch ((step_kind)s->kind) {
  case S_PW:
    if (s->direct && (n & (p->k->vw - 1))) pw_direct(r, s, v, n);
    else s->fn.pw(v[s->self], v[s->a[0]], v[s->a[1]], v[s->a[2]], s->step, n);
    break;
  case S_ALIAS: v[s->self] = (void *)(uintptr_t)input_at(r, s, t); break;
  case S_LOAD: load_full(r, s, t, v); break;
  case S_LOAD_ROW: load_rows(r, s, t, v); break;
  case S_PARAM: load_param(r, s, v); break;
  case S_RANDOM: p->k->random(v[s->self], r->params[s->io].u, r->params[s->io + 1].u, (uint64_t)t->first, t->n); break;
  case S_INDEX: p->k->index(v[s->self], t->first, t->n); break;
  case S_REDUCE: run_reduce(r, s, t, v); break;
  case S_EXPAND:
    if (s->shape == ROW) s->fn.expand(v[s->self], v[s->a[0]], 0, 1, t->nrows);
    else if (s->step[0]) s->fn.expand(v[s->self], v[s->a[0]], 1, t->nrows, t->n / t->nrows);
    else s->fn.expand(v[s->self], v[s->a[0]], 0, 1, t->n);
    break;
  case S_STORE: {
    bool full = p->out_shape[s->io] == FULL;
    int64_t at = full ? t->first : t->row;
    if (s->direct && (r->direct >> s->io & 1)) break;
    char *to = (char *)r->out[s->io] + at * p->out_size[s->io];
    if (r->stream >> s->io & 1) p->k->stream(to, v[s->a[0]], (size_t)t->n * p->out_size[s->io]);
    else s->fn.store(to, v[s->a[0]], full ? t->n : t->nrows);
    break;
  }
  }
}

/* tile i's place in the space */
static void set_tile(const program *p, tile *t, int64_t i) {
  if (p->nseg > 1) {
    t->row = p->down ? i % p->rows : i / p->nseg;
    t->col = (p->down ? i / p->rows : i % p->nseg) * p->seg;
  } else t->row = i * p->tile_rows;
}

/* how much of the space it is */
static void fit_tile(const program *p, tile *t) {
  if (p->nseg > 1) t->n = p->cols - t->col < p->seg ? p->cols - t->col : p->seg;
  else {
    t->nrows = p->rows - t->row < p->tile_rows ? p->rows - t->row : p->tile_rows;
    t->n = t->nrows * p->cols;
  }
  t->first = t->row * p->cols + t->col;
}

/* the place of the tile behind it, without a division */
static void next_tile(const program *p, tile *t) {
  if (p->nseg <= 1) t->row += p->tile_rows;
  else if (p->down) {
    if (++t->row == p->rows) t->row = 0, t->col += p->seg;
  } else if ((t->col += p->seg) >= p->cols) t->col = 0, t->row++;
}

/* the thread's table of values, pointing at their registers, constant ones filled */
static void **set_values(const run *r, int tid, tile *t) {
  const program *p = r->p;
  char *mem = r->scratch + (size_t)tid * p->scratch;
  void **v = (void **)(void *)mem + 1; /* v[-1]: what absent operands point at */
  *t = (tile){.nrows = p->tile_rows, .n = p->nseg > 1 ? p->seg : p->tile_rows * p->cols};
  v[-1] = mem;
  for (int i = 0; i < p->nsteps; i++)
    if (p->steps[i].reg >= 0) v[p->steps[i].self] = mem + p->steps[i].reg;
  for (int i = 0; i < p->nprologue; i++) run_step(r, &p->steps[i], t, v);
  return v;
}

static void run_tiles(void *arg, int64_t begin, int64_t end, int tid) {
  const run *r = arg;
  const program *p = r->p;
  tile t;
  void **v = set_values(r, tid, &t);
  set_tile(p, &t, begin);
  for (int64_t i = begin; i < end; i++, next_tile(p, &t)) {
    fit_tile(p, &t);
    for (int o = 0; o < p->nout; o++)
      if (r->direct >> o & 1) v[p->out_direct[o]] = (char *)r->out[o] + t.first * p->out_size[o];
    for (int k = p->nprologue; k < p->nsteps; k++) {
      const step *s = &p->steps[k];
      if (!(s->phases & SEGMENTS)) continue;
      if (!s->nlinks) {
        run_step(r, s, &t, v);
        continue;
      }
      run_chain(r, s, &t, v);
      k += s->nlinks - 1;
    }
  }
  if (r->stream) p->k->stream_end();
}

/* after the segments of a split program: join its reductions and do what waited for them */
static void run_rows(run *r) {
  const program *p = r->p;
  tile t;
  void **v = set_values(r, 0, &t);
  r->phase = ROWS;
  for (t.row = 0; t.row < p->rows; t.row++)
    for (int k = p->nprologue; k < p->nsteps; k++)
      if (p->steps[k].phases & ROWS) run_step(r, &p->steps[k], &t, v);
}

void nn_cpu_program_run(const void *prog, nni_threads *t, void *const *in, void *const *out, const nni_param *params, void *scratch) {
  const program *p = prog;
  run r = {.p = p, .in = in, .out = out, .params = params, .shared = scratch, .scratch = (char *)scratch + p->shared, .phase = SEGMENTS};
  for (int o = 0; o < p->nout; o++) {
    bool clash = p->out_direct[o] < 0, own = true; /* own: no input has the same memory */
    for (int i = 0; i < p->nin; i++) {
      clash |= (p->out_conflict[o] >> i & 1) && in[i] == out[o];
      own &= in[i] != out[o];
    }
    bool stream = own && (p->out_stream >> o & 1);
    if (stream) r.stream |= 1u << o;
    if (!clash && (!stream || ((p->out_link >> o & 1) && (uintptr_t)out[o] % 64 == 0))) r.direct |= 1u << o;
  }
  if (t && p->parallel) nni_parallel(t, p->ntiles, run_tiles, &r);
  else run_tiles(&r, 0, p->ntiles, 0);
  if (p->split) run_rows(&r);
}
