/* ops/index.c - looking up and storing by position: what x[...] records for tensors of positions, gather and scatter in their forms, masks, counting.
**
** Everything is one of two kernels on (A, V, B): `gather` reads and `scatter` writes at (a, ids[a, m, b], b). Tuples of positions become one
** row-major number each (`ravel_ids`) first. Where the same element is stored twice the last position wins, and gradients know which one that was.
*/
#include <math.h>
#include "ops.h"

static nn_status err(const nni_scope *s) { return nni_error_of(s->ctx)->status; }

static int64_t product(const int64_t *v, int n) {
  int64_t p = 1;
  for (int i = 0; i < n; i++) p *= v[i];
  return p;
}

static nn_tensor *positions(nni_scope *s, nn_tensor *ids) {
  if (nn_dtype_is_float(ids->dtype) || ids->dtype == NN_BOOL) {
    nni_opfail(s, NN_EDTYPE, "positions must be integers (i64), got %s", nn_dtype_name(ids->dtype));
    return NULL;
  }
  return nni_cast(s, ids, NN_I64);
}

static nn_tensor *expand(nni_scope *s, nn_tensor *t, int n, const int64_t *shape) { return t ? nni_do(s, expand, NN_T(t), NN_INTS(n, shape)) : NULL; }
static nn_tensor *filled(nni_scope *s, int n, const int64_t *shape, double v, nn_dtype d) {
  return nni_do(s, full, NN_INTS(n, shape), NN_F(v), NN_I(d));
}

/* v, a tensor or a number, as a tensor of dtype d */
static nn_tensor *value_of(nni_scope *s, const nn_arg *v, nn_dtype d) {
  if (v->kind == NN_ARG_TENSOR) return nni_cast(s, v->u.t, d);
  return filled(s, 0, NULL, v->kind == NN_ARG_INT ? (double)v->u.i : v->u.f, d);
}

/* ---- the two kernels ---- */
static nn_tensor *gather3(nni_scope *s, nn_tensor *x, nn_tensor *ids, int dim) {
  if (!x || !ids) return NULL;
  nn_tensor *in[2] = {x, ids};
  const int64_t ia = dim;
  nni_out o = nni_like(x->dtype, 3, ids->l.shape);
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_gather, .nin = 2, .in = in, .nia = 1, .ia = &ia, .nout = 1, .out = &o});
}

enum { SET, ADD, LEAST, MOST, TIMES };
static nn_tensor *scatter3(nni_scope *s, nn_tensor *x, nn_tensor *ids, nn_tensor *v, int dim, int mode) {
  if (!x || !ids || !v) return NULL;
  nn_dtype keep = x->dtype, d = mode && !nn_dtype_is_float(keep) ? NN_I64 : keep;
  nn_tensor *in[3] = {nni_cast(s, x, d), ids, nni_cast(s, v, d)};
  const int64_t ia[2] = {dim, mode};
  nni_out o = nni_like(d, 3, x->l.shape);
  return nni_cast(s, nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_scatter, .nin = 3, .in = in, .nia = 2, .ia = ia, .nout = 1, .out = &o}),
                  keep);
}

/* ---- tuples of positions: index, index_set and what is like them ---- */
/* Dims of x named by ids (..., K). When they are neighbours in order the result has the dims of ids in their place, otherwise in front (as NumPy). */
typedef struct spot {
  int k, nd, dim[NN_MAXDIM];
  bool front;               /* x is permuted: the named dims first */
  int64_t order[NN_MAXDIM]; /* that permutation */
  int64_t a, v, b, m;       /* (a, v, b) of x, positions */
  int nbefore, nafter, nids;
  int nresult;
  int64_t result[NN_MAXDIM]; /* before + dims of ids + after */
} spot;

static bool find_spot(nni_scope *s, const nni_out *x, const nni_out *ids, const nn_arg *dims, spot *p) {
  int n = dims->kind == NN_ARG_INTS ? dims->n : 1;
  const int64_t *v = dims->kind == NN_ARG_INTS ? dims->u.ints : &dims->u.i;
  bool on[NN_MAXDIM];
  *p = (spot){.k = n, .nd = x->ndim, .a = 1, .v = 1, .b = 1, .m = 1};
  if (!nni_dims(s, dims, x->ndim, on)) return false;
  if (ids->ndim < 1 || ids->shape[ids->ndim - 1] != n || n < 1) {
    char t[150];
    nni_shape_text(ids->ndim, ids->shape, t, sizeof t);
    nni_opfail(s, NN_ESHAPE, "positions of shape %s: the last dim must be the number of dims they name, %d", t, n);
    return false;
  }
  for (int i = 0; i < n; i++) {
    p->dim[i] = (int)(v[i] < 0 ? v[i] + x->ndim : v[i]);
    p->front = p->front || (i && p->dim[i] != p->dim[i - 1] + 1);
    p->v *= x->shape[p->dim[i]];
  }
  p->nids = ids->ndim - 1;
  p->m = product(ids->shape, p->nids);
  int k = 0;
  for (int i = 0; i < n; i++) p->order[k++] = p->dim[i];
  for (int i = 0; i < x->ndim; i++)
    if (!on[i]) p->order[k++] = i;
  p->nbefore = p->front ? 0 : p->dim[0];
  p->nafter = x->ndim - n - p->nbefore;
  p->nresult = p->nbefore + p->nids + p->nafter;
  if (p->nresult > NN_MAXDIM) {
    nni_opfail(s, NN_ESHAPE, "the result would have %d dims, at most %d are possible", p->nresult, NN_MAXDIM);
    return false;
  }
  k = 0;
  for (int i = 0; i < p->nbefore; i++) p->a *= p->result[k++] = x->shape[i];
  for (int i = 0; i < p->nids; i++) p->result[k++] = ids->shape[i];
  for (int i = 0; i < p->nafter; i++) p->b *= p->result[k++] = x->shape[p->front ? p->order[n + i] : p->nbefore + n + i];
  int64_t count;
  if (nni_size_mul(p->result, p->nresult, 8, &count)) return true;
  nni_opfail(s, NN_ESHAPE, "the result would be too large");
  return false;
}

static nni_out out_of(const nn_tensor *t) { return nni_like(t->dtype, t->l.ndim, t->l.shape); }

/* ids (..., K) as (a, m, b), one number each */
static nn_tensor *ravel(nni_scope *s, nn_tensor *x, nn_tensor *ids, const spot *p) {
  int64_t ia[2 * NN_MAXDIM];
  for (int i = 0; i < p->k; i++) ia[i] = x->l.shape[p->dim[i]], ia[p->k + i] = p->dim[i];
  nn_tensor *flat = ids ? nni_reshape(s, ids, 2, (int64_t[]){p->m, p->k}) : NULL;
  nni_out o = nni_like(NN_I64, 1, &p->m);
  nn_tensor *one = nni_rec1(
      s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_ravel_ids, .nin = 1, .in = &flat, .nia = 2 * p->k, .ia = ia, .nout = 1, .out = &o});
  if (!one) return NULL;
  return expand(s, nni_reshape(s, one, 3, (int64_t[]){1, p->m, 1}), 3, (int64_t[]){p->a, p->m, p->b});
}

static nn_tensor *table(nni_scope *s, nn_tensor *x, const spot *p) {
  if (p->front) x = nni_do(s, permute, NN_T(x), NN_INTS(p->nd, p->order));
  x = nni_dense(s, x);
  return x ? nni_reshape(s, x, 3, (int64_t[]){p->a, p->v, p->b}) : NULL;
}

static nn_tensor *lookup(nni_scope *s, nn_tensor *x, nn_tensor *ids, const nn_arg *dims) {
  spot p;
  if (!x || !ids || !(ids = positions(s, ids))) return NULL;
  nni_out xo = out_of(x), io = out_of(ids);
  if (!find_spot(s, &xo, &io, dims, &p)) return NULL;
  nn_tensor *y = gather3(s, table(s, x, &p), ravel(s, x, ids, &p), p.dim[0]);
  return y ? nni_reshape(s, y, p.nresult, p.result) : NULL;
}

static nn_status no_room(nni_scope *s, const nn_tensor *v, const spot *p) {
  char a[150], b[150];
  nn_shape_text(v, a, sizeof a);
  nni_shape_text(p->nresult, p->result, b, sizeof b);
  return nni_opfail(s, NN_ESHAPE, "values of shape %s do not fit the %s elements that the positions name", a, b);
}

static nn_tensor *store(nni_scope *s, nn_tensor *x, nn_tensor *ids, const nn_arg *dims, const nn_arg *value, int mode) {
  spot p;
  nni_layout e;
  if (!x || !ids || !(ids = positions(s, ids))) return NULL;
  nni_out xo = out_of(x), io = out_of(ids);
  nn_tensor *v = value_of(s, value, x->dtype);
  if (!v || !find_spot(s, &xo, &io, dims, &p)) return NULL;
  if (!nni_layout_expand(&v->l, p.nresult, p.result, &e)) {
    no_room(s, v, &p);
    return NULL;
  }
  v = expand(s, v, p.nresult, p.result);
  nn_tensor *y = scatter3(s, table(s, x, &p), ravel(s, x, ids, &p), v ? nni_reshape(s, v, 3, (int64_t[]){p.a, p.m, p.b}) : NULL, p.dim[0], mode);
  if (!y || !p.front) return y ? nni_reshape(s, y, p.nd, x->l.shape) : NULL;
  int64_t shape[NN_MAXDIM], back[NN_MAXDIM];
  for (int i = 0; i < p.nd; i++) shape[i] = x->l.shape[p.order[i]], back[p.order[i]] = i;
  return nni_do(s, permute, NN_T(nni_reshape(s, y, p.nd, shape)), NN_INTS(p.nd, back));
}

/* true where a tuple of positions is the last that names its element, in the shape of the result */
static nn_tensor *winners(nni_scope *s, const nni_out *x, nn_tensor *ids, const nn_arg *dims) {
  spot p;
  nni_out io = out_of(ids);
  int64_t box[NN_MAXDIM], all[NN_MAXDIM], shape[NN_MAXDIM];
  if (!find_spot(s, x, &io, dims, &p)) return NULL;
  for (int i = 0; i < p.k; i++) box[i] = x->shape[p.dim[i]], all[i] = i;
  nn_tensor *number = nni_do(s, arange, NN_F(0), NN_F((double)p.m), NN_F(1), NN_I(NN_I64));
  number = number ? nni_reshape(s, number, p.nids, ids->l.shape) : NULL;
  nn_tensor *last = nni_do(s, index_set, NN_T(filled(s, p.k, box, -1, NN_I64)), NN_T(ids), NN_INTS(p.k, all), NN_T(number), NN_I(0));
  nn_tensor *won = nni_do(s, eq, NN_T(nni_do(s, index, NN_T(last), NN_T(ids), NN_INTS(p.k, all))), NN_T(number));
  int n = 0;
  for (int i = 0; i < p.nids; i++) shape[n++] = ids->l.shape[i];
  for (int i = 0; i < p.nafter; i++) shape[n++] = 1;
  return won ? nni_reshape(s, won, n, shape) : NULL;
}

/* gradients of storing: g->x[1] the positions, argument v the value */
static nn_status stored(nni_gradcall *g, nn_tensor *ids, const nn_arg *dims, bool add) {
  nni_scope *s = &g->s;
  bool value = g->nx > 2 && g->need[2];
  if (g->need[0]) g->dx[0] = add ? g->d[0] : nni_do(s, index_set, NN_T(g->d[0]), NN_T(ids), *dims, NN_F(0), NN_I(0));
  if (value) {
    g->dx[2] = nni_do(s, index, NN_T(g->d[0]), NN_T(ids), *dims);
    if (!add) g->dx[2] = nni_do(s, where, NN_T(winners(s, &g->xs[0], ids, dims)), NN_T(g->dx[2]), NN_F(0));
  }
  return (g->need[0] && !g->dx[0]) || (value && !g->dx[2]) ? err(s) : NN_OK;
}

static nn_status looked_up(nni_gradcall *g, nn_tensor *ids, const nn_arg *dims) {
  nn_tensor *zero = filled(&g->s, g->xs[0].ndim, g->xs[0].shape, 0, g->xs[0].dtype);
  g->dx[0] = nni_do(&g->s, index_set, NN_T(zero), NN_T(ids), *dims, NN_T(g->d[0]), NN_I(1));
  return g->dx[0] ? NN_OK : err(&g->s);
}

nn_status nni_rule_index(nni_call *c) { return nni_give(c, lookup(&c->s, c->arg[0].u.t, c->arg[1].u.t, &c->arg[2])); }
nn_status nni_grad_index(nni_gradcall *g) { return looked_up(g, g->x[1], &g->arg[2]); }

nn_status nni_rule_index_set(nni_call *c) {
  return nni_give(c, store(&c->s, c->arg[0].u.t, c->arg[1].u.t, &c->arg[2], &c->arg[3], c->arg[4].u.i ? ADD : SET));
}
nn_status nni_grad_index_set(nni_gradcall *g) { return stored(g, g->x[1], &g->arg[2], g->arg[4].u.i != 0); }

/* the first K dims, K the last size of ids */
static bool leading(nni_scope *s, const nni_out *x, const nni_out *ids, int64_t *dims, nn_arg *a) {
  int64_t k = ids->ndim ? ids->shape[ids->ndim - 1] : 0;
  if (k < 1 || k > x->ndim) {
    char t[150];
    nni_shape_text(ids->ndim, ids->shape, t, sizeof t);
    nni_opfail(s, NN_ESHAPE, "positions of shape %s: the last dim holds one position for each of 1..%d dims", t, x->ndim);
    return false;
  }
  for (int i = 0; i < k; i++) dims[i] = i;
  *a = NN_INTS((int)k, dims);
  return true;
}

/* ids (B..., M..., K) behind b batch dims as ids (B..., M..., b + K) that name the batch too */
static nn_tensor *with_batch(nni_scope *s, const nni_out *x, nn_tensor *ids, int64_t b) {
  nn_tensor *part[NN_MAXDIM + 1];
  if (b == 0 || !ids) return ids;
  const int n = ids->l.ndim;
  bool fits = b > 0 && b < n && b < x->ndim;
  for (int i = 0; fits && i < b; i++) fits = ids->l.shape[i] == x->shape[i];
  if (!fits) {
    char v[150], w[150];
    nni_shape_text(x->ndim, x->shape, v, sizeof v);
    nn_shape_text(ids, w, sizeof w);
    nni_opfail(s, NN_ESHAPE, "%s and positions of shape %s do not share %lld leading batch dims with others behind them", v, w, (long long)b);
    return NULL;
  }
  for (int i = 0; i < b; i++) {
    int64_t shape[NN_MAXDIM], all[NN_MAXDIM];
    for (int k = 0; k < n; k++) shape[k] = k == i ? x->shape[i] : 1, all[k] = k < n - 1 ? ids->l.shape[k] : 1;
    nn_tensor *number = nni_do(s, arange, NN_F(0), NN_F((double)x->shape[i]), NN_F(1), NN_I(NN_I64));
    part[i] = expand(s, number ? nni_reshape(s, number, n, shape) : NULL, n, all);
    if (!part[i]) return NULL;
  }
  part[b] = positions(s, ids);
  return part[b] ? nni_do(s, cat, NN_TENSORS((int)b + 1, part), NN_I(-1)) : NULL;
}

nn_status nni_rule_gather_nd(nni_call *c) {
  int64_t dims[NN_MAXDIM];
  nn_arg a;
  const nni_out x = out_of(c->arg[0].u.t);
  nn_tensor *ids = with_batch(&c->s, &x, c->arg[1].u.t, c->arg[2].u.i);
  if (!ids) return err(&c->s);
  const nni_out io = out_of(ids);
  if (!leading(&c->s, &x, &io, dims, &a)) return NN_ESHAPE;
  return nni_give(c, lookup(&c->s, c->arg[0].u.t, ids, &a));
}
nn_status nni_grad_gather_nd(nni_gradcall *g) {
  int64_t dims[NN_MAXDIM];
  nn_arg a;
  nn_tensor *ids = with_batch(&g->s, &g->xs[0], g->x[1], g->arg[2].u.i);
  if (!ids) return err(&g->s);
  const nni_out io = out_of(ids);
  if (!leading(&g->s, &g->xs[0], &io, dims, &a)) return NN_ESHAPE;
  return looked_up(g, ids, &a);
}

nn_status nni_rule_scatter_nd(nni_call *c) {
  int64_t dims[NN_MAXDIM];
  nn_arg a;
  nni_out x = out_of(c->arg[0].u.t), ids = out_of(c->arg[1].u.t);
  if (!leading(&c->s, &x, &ids, dims, &a)) return NN_ESHAPE;
  return nni_give(c, store(&c->s, c->arg[0].u.t, c->arg[1].u.t, &a, &c->arg[2], c->arg[3].u.i ? ADD : SET));
}
nn_status nni_grad_scatter_nd(nni_gradcall *g) {
  int64_t dims[NN_MAXDIM];
  nn_arg a;
  if (!leading(&g->s, &g->xs[0], &g->xs[1], dims, &a)) return NN_ESHAPE;
  return stored(g, g->x[1], &a, g->arg[3].u.i != 0);
}

/* one number per tuple, then scatter_reduce along the joined dims */
nn_status nni_rule_scatter_nd_reduce(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *ids = positions(s, c->arg[1].u.t), *v = value_of(s, &c->arg[2], x->dtype);
  int64_t dims[NN_MAXDIM];
  nn_arg a;
  spot p;
  nni_layout e;
  if (!ids || !v) return err(s);
  const nni_out xo = out_of(x), io = out_of(ids);
  if (!leading(s, &xo, &io, dims, &a) || !find_spot(s, &xo, &io, &a, &p)) return err(s);
  if (!nni_layout_expand(&v->l, p.nresult, p.result, &e)) return no_room(s, v, &p);
  v = expand(s, v, p.nresult, p.result);
  v = v ? nni_reshape(s, v, 3, (int64_t[]){1, p.m, p.b}) : NULL;
  nn_tensor *flat = table(s, x, &p), *at = ravel(s, x, ids, &p);
  nn_tensor *y = at ? nni_do(s, scatter_reduce, NN_T(flat), NN_I(1), NN_T(at), NN_T(v), c->arg[3], c->arg[4]) : NULL;
  return nni_give(c, y ? nni_reshape(s, y, x->l.ndim, x->l.shape) : NULL);
}

static nn_tensor *as_tuples(nni_scope *s, nn_tensor *ids) { return nni_do(s, unsqueeze, NN_T(ids), NN_I(-1)); }

nn_status nni_rule_take(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_reshape(s, c->arg[0].u.t, 1, (int64_t[]){-1});
  return nni_give(c, lookup(s, x, as_tuples(s, c->arg[1].u.t), &NN_I(0)));
}
nn_status nni_grad_take(nni_gradcall *g) {
  nni_scope *s = &g->s;
  int64_t n = product(g->xs[0].shape, g->xs[0].ndim);
  nn_tensor *d = nni_do(s, index_set, NN_T(filled(s, 1, &n, 0, g->xs[0].dtype)), NN_T(as_tuples(s, g->x[1])), NN_I(0), NN_T(g->d[0]), NN_I(1));
  g->dx[0] = d ? nni_reshape(s, d, g->xs[0].ndim, g->xs[0].shape) : NULL;
  return g->dx[0] ? NN_OK : err(s);
}

nn_status nni_rule_index_add(nni_call *c) {
  nni_scope *s = &c->s;
  if (c->arg[2].u.t->l.ndim != 1) return nni_opfail(s, NN_ESHAPE, "positions must have 1 dim, got %d", c->arg[2].u.t->l.ndim);
  return nni_give(c, store(s, c->arg[0].u.t, as_tuples(s, c->arg[2].u.t), &c->arg[1], &c->arg[3], ADD));
}
nn_status nni_grad_index_add(nni_gradcall *g) {
  nn_tensor *ids = as_tuples(&g->s, g->x[1]);
  return ids ? stored(g, ids, &g->arg[1], true) : err(&g->s);
}

/* ---- one position per element: gather, scatter ---- */
/* x cut to the sizes of ids in every dim but `dim`; whole: nothing was cut */
static nn_tensor *cut(nni_scope *s, nn_tensor *x, const nni_out *ids, int dim, bool *whole) {
  int64_t zero[NN_MAXDIM] = {0}, one[NN_MAXDIM], size[NN_MAXDIM];
  char a[150], b[150];
  *whole = true;
  bool fits = x->l.ndim == ids->ndim;
  for (int i = 0; fits && i < x->l.ndim; i++) {
    one[i] = 1;
    size[i] = i == dim ? x->l.shape[i] : ids->shape[i];
    fits = size[i] <= x->l.shape[i];
    *whole = *whole && size[i] == x->l.shape[i];
  }
  if (!fits) {
    nn_shape_text(x, a, sizeof a);
    nni_shape_text(ids->ndim, ids->shape, b, sizeof b);
    nni_opfail(s, NN_ESHAPE, "positions of shape %s do not fit %s: as many dims, and no larger in any but dim %d", b, a, dim + 1);
    return NULL;
  }
  return *whole ? x : nni_do(s, slice, NN_T(x), NN_INTS(x->l.ndim, zero), NN_INTS(x->l.ndim, size), NN_INTS(x->l.ndim, one));
}

/* t, of the shape of x but for dim, as (a, its size, b) */
static nn_tensor *three(nni_scope *s, nn_tensor *t, int dim) {
  t = nni_dense(s, t);
  if (!t) return NULL;
  const int64_t *v = t->l.shape;
  return nni_reshape(s, t, 3, (int64_t[]){product(v, dim), v[dim], product(v + dim + 1, t->l.ndim - dim - 1)});
}

nn_status nni_rule_gather(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *ids = positions(s, c->arg[2].u.t);
  int dim;
  bool whole;
  if (!ids || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  nni_out io = out_of(ids);
  x = cut(s, x, &io, dim, &whole);
  nn_tensor *y = x ? gather3(s, three(s, x, dim), three(s, ids, dim), dim) : NULL;
  return nni_give(c, y ? nni_reshape(s, y, io.ndim, io.shape) : NULL);
}
nn_status nni_grad_gather(nni_gradcall *g) {
  nn_tensor *zero = filled(&g->s, g->xs[0].ndim, g->xs[0].shape, 0, g->xs[0].dtype);
  g->dx[0] = nni_do(&g->s, scatter_add, NN_T(zero), g->arg[1], NN_T(g->x[1]), NN_T(g->d[0]));
  return g->dx[0] ? NN_OK : err(&g->s);
}

static nn_status put_elements(nni_call *c, int mode) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *ids = positions(s, c->arg[2].u.t), *v = value_of(s, &c->arg[3], x->dtype);
  int dim;
  bool whole;
  nni_layout e;
  if (!ids || !v || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return err(s);
  nni_out io = out_of(ids);
  nn_tensor *box = cut(s, x, &io, dim, &whole);
  if (!box) return err(s);
  if (!nni_layout_expand(&v->l, io.ndim, io.shape, &e)) {
    char a[150], b[150];
    nn_shape_text(v, a, sizeof a);
    nni_shape_text(io.ndim, io.shape, b, sizeof b);
    return nni_opfail(s, NN_ESHAPE, "values of shape %s do not fit positions of shape %s", a, b);
  }
  v = three(s, expand(s, v, io.ndim, io.shape), dim);
  nn_tensor *y = scatter3(s, three(s, box, dim), three(s, ids, dim), v, dim, mode);
  y = y ? nni_reshape(s, y, box->l.ndim, box->l.shape) : NULL;
  if (y && !whole) {
    int64_t zero[NN_MAXDIM] = {0}, one[NN_MAXDIM];
    for (int i = 0; i < io.ndim; i++) one[i] = 1;
    y = nni_do(s, slice_set, NN_T(x), NN_T(y), NN_INTS(io.ndim, zero), NN_INTS(io.ndim, box->l.shape), NN_INTS(io.ndim, one));
  }
  return nni_give(c, y);
}

nn_status nni_rule_scatter_add(nni_call *c) { return put_elements(c, ADD); }
nn_status nni_grad_scatter_add(nni_gradcall *g) {
  bool value = g->nx > 2 && g->need[2];
  if (g->need[0]) g->dx[0] = g->d[0];
  if (value) g->dx[2] = nni_do(&g->s, gather, NN_T(g->d[0]), g->arg[1], NN_T(g->x[1]));
  return value && !g->dx[2] ? err(&g->s) : NN_OK;
}

nn_status nni_rule_scatter(nni_call *c) { return put_elements(c, SET); }
nn_status nni_grad_scatter(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *ids = g->x[1];
  bool value = g->nx > 2 && g->need[2];
  if (g->need[0]) g->dx[0] = nni_do(s, scatter, NN_T(g->d[0]), g->arg[1], NN_T(ids), NN_F(0));
  if (value) { /* only the last of those stored at one element */
    int dim;
    int64_t shape[NN_MAXDIM];
    if (!nni_dim(s, g->arg[1].u.i, ids->l.ndim, &dim)) return err(s);
    for (int i = 0; i < ids->l.ndim; i++) shape[i] = i == dim ? ids->l.shape[i] : 1;
    nn_tensor *number = nni_do(s, arange, NN_F(0), NN_F((double)ids->l.shape[dim]), NN_F(1), NN_I(NN_I64));
    number = expand(s, number ? nni_reshape(s, number, ids->l.ndim, shape) : NULL, ids->l.ndim, ids->l.shape);
    nn_tensor *last = nni_do(s, scatter, NN_T(filled(s, g->xs[0].ndim, g->xs[0].shape, -1, NN_I64)), g->arg[1], NN_T(ids), NN_T(number));
    nn_tensor *won = nni_do(s, eq, NN_T(nni_do(s, gather, NN_T(last), g->arg[1], NN_T(ids))), NN_T(number));
    g->dx[2] = nni_do(s, where, NN_T(won), NN_T(nni_do(s, gather, NN_T(g->d[0]), g->arg[1], NN_T(ids))), NN_F(0));
  }
  return (g->need[0] && !g->dx[0]) || (value && !g->dx[2]) ? err(s) : NN_OK;
}

/* src in the shape of the positions */
static nn_tensor *source(nni_gradcall *g) {
  return expand(&g->s, value_of(&g->s, g->nx > 2 ? &NN_T(g->x[2]) : &g->arg[3], g->xs[0].dtype), g->xs[1].ndim, g->xs[1].shape);
}

/* Of each src, sorted so that those of one element of x are neighbours, the product of its neighbours in front (behind: of those that follow). `same`
** (one shorter along dim): whether an element and the next go to the same place. Without a division zeros are nothing special, to any order. */
static nn_tensor *neighbours(nni_scope *s, nn_tensor *src, nn_tensor *same, int dim, bool behind) {
  const int64_t at = behind, n = same->l.shape[dim];
  int64_t one[NN_MAXDIM];
  for (int i = 0; i < src->l.ndim; i++) one[i] = i == dim ? 1 : src->l.shape[i];
  nn_tensor *next = nni_do(s, narrow, NN_T(src), NN_I(dim), NN_INTS(1, &at), NN_I(n)), *factor = nni_do(s, mul, NN_T(same), NN_T(next));
  nn_tensor *fresh = nni_do(s, sub, NN_F(1), NN_T(same));
  nn_tensor *first[2] = {filled(s, src->l.ndim, one, 0, src->dtype), factor}, *start[2] = {filled(s, src->l.ndim, one, 1, src->dtype), fresh};
  nn_tensor *last[2] = {first[1], first[0]}, *end[2] = {start[1], start[0]};
  nn_tensor *a = nni_do(s, cat, NN_TENSORS(2, behind ? last : first), NN_I(dim)), *b = nni_do(s, cat, NN_TENSORS(2, behind ? end : start), NN_I(dim));
  return nni_do(s, linear_scan, NN_T(a), NN_T(b), NN_I(dim), NN_I(behind));
}

nn_status nni_rule_scatter_prod(nni_call *c) { return put_elements(c, TIMES); }
nn_status nni_grad_scatter_prod(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *ids = g->x[1], *src = source(g);
  int dim;
  if (!src || !nni_dim(s, g->arg[1].u.i, g->xs[0].ndim, &dim)) return err(s);
  nn_tensor *ones = filled(s, g->xs[0].ndim, g->xs[0].shape, 1, g->xs[0].dtype);
  if (g->need[0]) g->dx[0] = nni_do(s, mul, NN_T(g->d[0]), NN_T(nni_do(s, scatter_prod, NN_T(ones), NN_I(dim), NN_T(ids), NN_T(src))));
  if (g->nx < 3 || !g->need[2]) return g->need[0] && !g->dx[0] ? err(s) : NN_OK;
  nn_tensor *outer = nni_do(s, gather, NN_T(nni_do(s, mul, NN_T(g->d[0]), NN_T(g->x[0]))), NN_I(dim), NN_T(ids));
  if (ids->l.shape[dim] > 1) {
    const int64_t n = ids->l.shape[dim] - 1, zero = 0, one = 1;
    nn_tensor *order = nni_do(s, argsort, NN_T(ids), NN_I(dim), NN_I(0)), *sorted = nni_do(s, gather, NN_T(ids), NN_I(dim), NN_T(order));
    nn_tensor *low = nni_do(s, narrow, NN_T(sorted), NN_I(dim), NN_INTS(1, &zero), NN_I(n));
    nn_tensor *high = nni_do(s, narrow, NN_T(sorted), NN_I(dim), NN_INTS(1, &one), NN_I(n));
    nn_tensor *same = nni_do(s, cast, NN_T(nni_do(s, eq, NN_T(low), NN_T(high))), NN_I(src->dtype));
    src = nni_do(s, gather, NN_T(src), NN_I(dim), NN_T(order));
    if (!same || !src) return err(s);
    nn_tensor *others = nni_do(s, mul, NN_T(neighbours(s, src, same, dim, false)), NN_T(neighbours(s, src, same, dim, true)));
    nn_tensor *back = nni_do(s, argsort, NN_T(order), NN_I(dim), NN_I(0));
    outer = nni_do(s, mul, NN_T(outer), NN_T(nni_do(s, gather, NN_T(others), NN_I(dim), NN_T(back))));
  }
  g->dx[2] = outer;
  return outer && (!g->need[0] || g->dx[0]) ? NN_OK : err(s);
}

nn_status nni_rule_scatter_amax(nni_call *c) { return put_elements(c, MOST); }
nn_status nni_rule_scatter_amin(nni_call *c) { return put_elements(c, LEAST); }
/* all that equal the result share its gradient */
nn_status nni_grad_scatter_amax(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *ids = g->x[1], *src = source(g), *y = g->y[0];
  const nn_arg dim = g->arg[1], dtype = NN_I(g->xs[0].dtype);
  nn_tensor *mine = nni_do(s, cast, NN_T(nni_do(s, eq, NN_T(g->x[0]), NN_T(y))), dtype);
  nn_tensor *theirs = nni_do(s, cast, NN_T(nni_do(s, eq, NN_T(src), NN_T(nni_do(s, gather, NN_T(y), dim, NN_T(ids))))), dtype);
  nn_tensor *share = nni_do(s, div, NN_T(g->d[0]), NN_T(nni_do(s, scatter_add, NN_T(mine), dim, NN_T(ids), NN_T(theirs))));
  g->dx[0] = nni_do(s, mul, NN_T(mine), NN_T(share));
  if (g->nx > 2) g->dx[2] = nni_do(s, mul, NN_T(theirs), NN_T(nni_do(s, gather, NN_T(share), dim, NN_T(ids))));
  return g->dx[0] && (g->nx < 3 || g->dx[2]) ? NN_OK : err(s);
}
nn_status nni_grad_scatter_amin(nni_gradcall *g) { return nni_grad_scatter_amax(g); }

/* without include_self the elements of x that are named start from what changes nothing */
nn_status nni_rule_scatter_reduce(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const nn_arg dim = c->arg[1], ids = c->arg[2], src = c->arg[3];
  const char *word = c->arg[4].u.s;
  const bool real = nn_dtype_is_float(x->dtype), self = c->arg[5].u.i != 0;
  static const char *const words[] = {"sum", "mean", "prod", "amin", "amax"};
  enum { SUM, MEAN, PROD, AMIN, AMAX };
  int which = 0;
  while (which < NNI_COUNT(words) && strcmp(word, words[which]) != 0) which++;
  if (which == NNI_COUNT(words)) return nni_opfail(s, NN_EINVAL, "reduce = \"%.40s\"; there are sum, mean, prod, amin, amax", word);
  const nn_arg nothing = which == PROD ? NN_I(1) : which < PROD ? NN_I(0) : real ? NN_F(which == AMIN ? INFINITY : -INFINITY) :
                         NN_I(which == AMIN ? INT64_MAX : INT64_MIN);
  if (!self) x = nni_do(s, scatter, NN_T(x), dim, ids, nothing);
  if (which == PROD) return nni_give(c, nni_do(s, scatter_prod, NN_T(x), dim, ids, src));
  if (which == AMIN) return nni_give(c, nni_do(s, scatter_amin, NN_T(x), dim, ids, src));
  if (which == AMAX) return nni_give(c, nni_do(s, scatter_amax, NN_T(x), dim, ids, src));
  nn_tensor *sum = nni_do(s, scatter_add, NN_T(x), dim, ids, src);
  if (which == SUM || !sum) return nni_give(c, sum);
  nn_tensor *count = filled(s, x->l.ndim, x->l.shape, 1, x->dtype);
  if (!self) count = nni_do(s, scatter, NN_T(count), dim, ids, NN_I(0));
  count = nni_do(s, scatter_add, NN_T(count), dim, ids, NN_I(1));
  return nni_give(c, real ? nni_do(s, div, NN_T(sum), NN_T(count)) : nni_do(s, floor_div, NN_T(sum), NN_T(count)));
}

/* ---- masks and counting: shapes that depend on values, so the window runs here ---- */
static nn_tensor *true_positions(nni_scope *s, nn_tensor *mask) {
  int64_t count;
  if (mask && mask->l.ndim == 0) mask = nni_reshape(s, mask, 1, (int64_t[]){1});
  mask = nni_dense(s, mask ? nni_cast(s, mask, NN_BOOL) : NULL);
  nn_tensor *n = mask ? nni_do(s, sum, NN_T(mask), NN_NONE, NN_I(0)) : NULL;
  if (!n || nn_item(n, NULL, &count) != NN_OK) return NULL;
  nni_out o = nni_like(NN_I64, 2, (int64_t[]){count, mask->l.ndim});
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_nonzero, .nin = 1, .in = &mask, .nout = 1, .out = &o});
}

nn_status nni_rule_nonzero(nni_call *c) { return nni_give(c, true_positions(&c->s, c->arg[0].u.t)); }

nn_status nni_rule_masked_select(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *mask = c->arg[1].u.t;
  int nd;
  int64_t shape[NN_MAXDIM];
  if (mask->dtype != NN_BOOL) return nni_opfail(s, NN_EDTYPE, "the mask must be bool, got %s", nn_dtype_name(mask->dtype));
  if (!nni_layout_broadcast(&x->l, &mask->l, &nd, shape)) {
    char a[150], b[150];
    nn_shape_text(x, a, sizeof a);
    nn_shape_text(mask, b, sizeof b);
    return nni_opfail(s, NN_ESHAPE, "the mask's shape %s does not fit %s", b, a);
  }
  nn_tensor *where = true_positions(s, nni_reshape(s, expand(s, mask, nd, shape), 1, (int64_t[]){-1}));
  x = expand(s, x, nd, shape);
  return nni_give(c, x && where ? nni_do(s, gather_nd, NN_T(nni_reshape(s, x, 1, (int64_t[]){-1})), NN_T(where), NN_I(0)) : NULL);
}

nn_status nni_rule_masked_fill(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t, *mask = c->arg[1].u.t;
  if (mask->dtype != NN_BOOL) return nni_opfail(s, NN_EDTYPE, "the mask must be bool, got %s", nn_dtype_name(mask->dtype));
  return nni_give(c, nni_do(s, where, NN_T(mask), NN_T(value_of(s, &c->arg[2], x->dtype)), NN_T(x)));
}

nn_status nni_rule_bincount(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *ids = positions(s, c->arg[0].u.t), *w = c->arg[1].kind == NN_ARG_TENSOR ? c->arg[1].u.t : NULL;
  int64_t least = 0, most = -1, length = c->arg[2].u.i;
  if (!ids) return err(s);
  if (ids->l.ndim != 1 || (w && (w->l.ndim != 1 || w->l.shape[0] != ids->l.shape[0])))
    return nni_opfail(s, NN_ESHAPE, "ids must be 1-D, and weights as long as ids");
  if (length < 0) return nni_opfail(s, NN_EINVAL, "minlength = %lld is negative", (long long)length);
  if (nn_numel(ids) > 0) {
    nn_tensor *lo = nni_do(s, amin, NN_T(ids), NN_NONE, NN_I(0)), *hi = nni_do(s, amax, NN_T(ids), NN_NONE, NN_I(0));
    if (!lo || !hi || nn_item(lo, NULL, &least) != NN_OK || nn_item(hi, NULL, &most) != NN_OK) return err(s);
  }
  if (least < 0) return nni_opfail(s, NN_EINDEX, "id %lld is below 1", (long long)least + 1);
  if (most >= length) length = most + 1;
  if (length < 0 || length > PTRDIFF_MAX / 8) return nni_opfail(s, NN_ESHAPE, "id %lld needs too long a result", (long long)most);
  if (w) return nni_give(c, nni_do(s, add_rows, NN_T(w), NN_T(ids), NN_I(length)));
  return nni_give(c, store(s, filled(s, 1, &length, 0, NN_I64), as_tuples(s, ids), &NN_I(0), &NN_I(1), ADD));
}
