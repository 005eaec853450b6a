/* ops/matmul.c - matrix products. Letters: M rows of a, K inner size, N columns of b; leading dims are batches and broadcast.
** The kernel takes transposed matrices by their strides, so the gradients' transposes are views. */
#include "ops.h"

/* each matrix must have unit stride in one of its two dims */
static nn_tensor *for_kernel(nni_scope *s, nn_tensor *t) {
  if (!t) return NULL;
  int n = t->l.ndim;
  const int64_t *sh = t->l.shape, *st = t->l.stride;
  bool rows = (st[n - 1] == 1 || sh[n - 1] == 1) && (st[n - 2] >= sh[n - 1] || sh[n - 2] == 1);
  bool cols = (st[n - 2] == 1 || sh[n - 2] == 1) && (st[n - 1] >= sh[n - 2] || sh[n - 1] == 1);
  return rows || cols ? t : nni_dense(s, t);
}

static nn_tensor *expand_batch(nni_scope *s, nn_tensor *t, int nb, const int64_t *batch) {
  int64_t shape[NN_MAXDIM];
  nni_layout l;
  if (!t) return NULL;
  for (int i = 0; i < nb; i++) shape[i] = batch[i];
  shape[nb] = t->l.shape[t->l.ndim - 2];
  shape[nb + 1] = t->l.shape[t->l.ndim - 1];
  if (!nni_layout_expand(&t->l, nb + 2, shape, &l)) return NULL;
  return nni_hold(s, nni_tensor_view(t, t->dtype, &l));
}

static nn_status shapes_fail(nni_scope *s, const nn_tensor *a, const nn_tensor *b) {
  char x[150], y[150];
  nn_shape_text(a, x, sizeof x);
  nn_shape_text(b, y, sizeof y);
  if (a->l.ndim == 0 || b->l.ndim == 0) return nni_opfail(s, NN_ESHAPE, "(%s) x (%s): a scalar has no matrix product; use *", x, y);
  int64_t k = a->l.shape[a->l.ndim - 1], k2 = b->l.shape[b->l.ndim > 1 ? b->l.ndim - 2 : 0];
  if (k != k2) return nni_opfail(s, NN_ESHAPE, "inner sizes differ: (%s) x (%s): %lld vs %lld", x, y, (long long)k, (long long)k2);
  return nni_opfail(s, NN_ESHAPE, "leading dims do not broadcast: (%s) x (%s)", x, y);
}

/* a, b with at least 2 dims */
static nn_tensor *product(nni_scope *s, nn_tensor *a, nn_tensor *b) {
  int na = a->l.ndim, nb = b->l.ndim, nd;
  int64_t m = a->l.shape[na - 2], k = a->l.shape[na - 1], n = b->l.shape[nb - 1], batch[NN_MAXDIM];
  if (nb == 2 && na > 2 && nni_layout_is_contiguous(&a->l)) { /* one weight for all: a is one tall matrix */
    int64_t flat[2] = {nn_numel(a) / (k ? k : 1), k}, shape[NN_MAXDIM];
    if (k) {
      nn_tensor *y = product(s, nni_reshape(s, a, 2, flat), b);
      for (int i = 0; i < na; i++) shape[i] = i == na - 1 ? n : a->l.shape[i];
      return y ? nni_reshape(s, y, na, shape) : NULL;
    }
  }
  nni_layout la = a->l, lb = b->l;
  la.ndim -= 2;
  lb.ndim -= 2;
  if (!nni_layout_broadcast(&la, &lb, &nd, batch) || nd + 2 > NN_MAXDIM) {
    shapes_fail(s, a, b);
    return NULL;
  }
  nn_tensor *in[2] = {expand_batch(s, for_kernel(s, a), nd, batch), expand_batch(s, for_kernel(s, b), nd, batch)};
  nni_out o = {.dtype = a->dtype, .ndim = nd + 2};
  for (int i = 0; i < nd; i++) o.shape[i] = batch[i];
  o.shape[nd] = m;
  o.shape[nd + 1] = n;
  int64_t count;
  if (!nni_size_mul(o.shape, o.ndim, nn_dtype_size(o.dtype), &count)) {
    nni_opfail(s, NN_ESHAPE, "the result is too large");
    return NULL;
  }
  const int64_t precision = nn_get_matmul_precision(s->ctx);
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_matmul, .nin = 2, .in = in, .nia = 1, .ia = &precision, .nout = 1, .out = &o});
}

static nn_tensor *as_matrix(nni_scope *s, nn_tensor *t, bool left) {
  if (!t || t->l.ndim > 1) return t;
  int64_t n = t->l.shape[0];
  return nni_reshape(s, t, 2, left ? (int64_t[]){1, n} : (int64_t[]){n, 1});
}

nn_status nni_rule_matmul(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *a = c->arg[0].u.t, *b = c->arg[1].u.t;
  if (a->l.ndim == 0 || b->l.ndim == 0 || a->l.shape[a->l.ndim - 1] != b->l.shape[b->l.ndim > 1 ? b->l.ndim - 2 : 0]) return shapes_fail(s, a, b);
  bool va = a->l.ndim == 1, vb = b->l.ndim == 1;
  nn_dtype d = nn_dtype_promote(a->dtype, b->dtype);
  if (!nn_dtype_is_float(d)) d = NN_F32;
  nn_tensor *x = as_matrix(s, nni_cast(s, a, d), true), *w = as_matrix(s, nni_cast(s, b, d), false);
  if (!x || !w) return nni_error_of(s->ctx)->status;
  nn_tensor *y = product(s, x, w);
  if (!y || (!va && !vb)) return nni_give(c, y);
  int64_t shape[NN_MAXDIM];
  int n = 0;
  for (int i = 0; i < y->l.ndim; i++)
    if (!(i == y->l.ndim - 2 && va) && !(i == y->l.ndim - 1 && vb)) shape[n++] = y->l.shape[i];
  return nni_give(c, nni_reshape(s, y, n, shape));
}

static nn_tensor *t2(nni_scope *s, nn_tensor *t) { return nni_do(s, transpose, NN_T(t), NN_I(-2), NN_I(-1)); }

nn_status nni_grad_matmul(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *a = as_matrix(s, nni_cast(s, g->x[0], g->d[0]->dtype), true), *b = as_matrix(s, nni_cast(s, g->x[1], g->d[0]->dtype), false), *d = g->d[0];
  if (!a || !b) return nni_error_of(s->ctx)->status;
  bool va = g->xs[0].ndim == 1, vb = g->xs[1].ndim == 1;
  if (va || vb) { /* d as the product of the matrices would have it */
    int64_t shape[NN_MAXDIM];
    int n = 0, lead = d->l.ndim - !va - !vb;
    for (int i = 0; i < lead; i++) shape[n++] = d->l.shape[i];
    shape[n++] = va ? 1 : a->l.shape[a->l.ndim - 2];
    shape[n++] = vb ? 1 : b->l.shape[b->l.ndim - 1];
    d = nni_reshape(s, d, n, shape);
  }
  if (g->need[0]) {
    nn_tensor *da = nni_do(s, matmul, NN_T(d), NN_T(t2(s, b)));
    if (da && va) da = nni_reshape(s, nni_unbroadcast(s, da, 2, a->l.shape), 1, g->xs[0].shape);
    g->dx[0] = da;
  }
  if (g->need[1]) {
    nn_tensor *db;
    if (d && b->l.ndim == 2 && a->l.ndim > 2) { /* one weight for all: sum over the batch inside one product */
      int64_t k = a->l.shape[a->l.ndim - 1], n = d->l.shape[d->l.ndim - 1];
      a = nni_reshape(s, a, 2, (int64_t[]){-1, k});
      d = nni_reshape(s, d, 2, (int64_t[]){-1, n});
    }
    db = nni_do(s, matmul, NN_T(t2(s, a)), NN_T(d));
    if (db && vb) db = nni_reshape(s, nni_unbroadcast(s, db, 2, b->l.shape), 1, g->xs[1].shape);
    g->dx[1] = db;
  }
  return (g->need[0] && !g->dx[0]) || (g->need[1] && !g->dx[1]) ? nni_error_of(s->ctx)->status : NN_OK;
}

nn_status nni_rule_linear(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t, *w = c->arg[1].u.t;
  if (w->l.ndim != 2 || x->l.ndim < 1 || x->l.shape[x->l.ndim - 1] != w->l.shape[0]) {
    char a[150], b[150];
    nn_shape_text(x, a, sizeof a);
    nn_shape_text(w, b, sizeof b);
    if (w->l.ndim != 2) return nni_opfail(&c->s, NN_ESHAPE, "the weight must be a matrix (in, out), its shape is (%s)", b);
    return nni_opfail(&c->s, NN_ESHAPE, "the input (%s) has %lld features, the weight (%s) takes %lld", a, (long long)(x->l.ndim ? x->l.shape[x->l.ndim - 1] : 1), b,
                      (long long)w->l.shape[0]);
  }
  nn_tensor *y = nni_do(&c->s, matmul, NN_T(x), NN_T(w));
  if (c->arg[2].kind == NN_ARG_TENSOR) y = nni_do(&c->s, add, NN_T(y), c->arg[2]);
  return nni_give(c, y);
}
