/* ops/recurrent.c - recurrent layers whose steps run inside one kernel.
**
** The first gradient is a kernel too; where gradients of gradients are wanted it is recorded step by step from the layer's results instead, which are
** differentiable. Letters: N batch, T steps, H cells; gates lie side by side (input, forget, cell, output).
*/
#include "ops.h"

static nn_status state_fits(nni_scope *s, const nn_tensor *t, const char *what, int64_t n, int64_t h) {
  char b[150];
  if (t->l.ndim == 2 && t->l.shape[0] == n && t->l.shape[1] == h) return NN_OK;
  nn_shape_text(t, b, sizeof b);
  return nni_opfail(s, NN_ESHAPE, "the state %s must be (%lld, %lld), it is (%s)", what, (long long)n, (long long)h, b);
}

nn_status nni_rule_lstm_sequence(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[4], *res[NN_MAXOUT];
  for (int i = 0; i < 4; i++) in[i] = c->arg[i].u.t;
  if (!nni_reals(s, 4, in)) return nni_error_of(s->ctx)->status;
  for (int i = 0; i < 4; i++) {
    in[i] = nni_dense(s, in[i]);
    if (!in[i]) return nni_error_of(s->ctx)->status;
  }
  const nni_layout *x = &in[0]->l, *w = &in[1]->l;
  if (x->ndim != 3 || w->ndim != 2 || w->shape[1] != 4 * w->shape[0] || x->shape[2] != w->shape[1]) {
    char a[150], b[150];
    nn_shape_text(in[0], a, sizeof a);
    nn_shape_text(in[1], b, sizeof b);
    return nni_opfail(s, NN_ESHAPE, "needs x (N, T, 4H) and w (H, 4H), got (%s) and (%s)", a, b);
  }
  const int64_t N = x->shape[0], T = x->shape[1], H = w->shape[0];
  nn_status st = state_fits(s, in[2], "h", N, H);
  if (st == NN_OK) st = state_fits(s, in[3], "c", N, H);
  if (st != NN_OK) return st;
  nni_out o[3];
  o[0] = o[1] = nni_like(in[0]->dtype, 3, (int64_t[]){N, T, H});
  o[2] = nni_like(in[0]->dtype, 3, x->shape);
  st = nni_record(s->ctx, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_lstm, .nin = 4, .in = in, .nout = 3, .out = o}, res);
  if (st != NN_OK) return st;
  for (int i = 0; i < 3; i++) c->out[i] = res[i];
  c->nout = 3;
  return NN_OK;
}

/* the size elements from `at` on of step t of x (N, T, ...): (N, 1, size) */
static nn_tensor *part(nni_scope *s, nn_tensor *x, int64_t t, int64_t at, int64_t size) {
  if (!x) return NULL;
  return nni_do(s, slice, NN_T(x), NN_INTS(3, ((int64_t[]){0, t, at})), NN_INTS(3, ((int64_t[]){x->l.shape[0], 1, size})), NN_INTS(3, ((int64_t[]){1, 1, 1})));
}
static nn_tensor *mul(nni_scope *s, nn_tensor *a, nn_tensor *b) { return nni_do(s, mul, NN_T(a), NN_T(b)); }
static nn_tensor *add(nni_scope *s, nn_tensor *a, nn_tensor *b) { return a && b ? nni_do(s, add, NN_T(a), NN_T(b)) : a ? a : b; }
static nn_tensor *one_minus(nni_scope *s, nn_tensor *a) { return nni_do(s, sub, NN_F(1), NN_T(a)); }
/* d * y (1 - y), d * (1 - y^2) */
static nn_tensor *through_sigmoid(nni_scope *s, nn_tensor *d, nn_tensor *y) { return mul(s, d, mul(s, y, one_minus(s, y))); }
static nn_tensor *through_tanh(nni_scope *s, nn_tensor *d, nn_tensor *y) { return mul(s, d, one_minus(s, mul(s, y, y))); }

/* Step t backwards: *dh, *dc (N,1,H) cotangents of the states after it, replaced by those before it (new references). Returns dz (N,1,4H), a new reference. */
static nn_tensor *step_back(nni_gradcall *g, int64_t t, nn_tensor *c0, nn_tensor *wt, nn_tensor **dh, nn_tensor **dc) {
  nni_scope scope = {.ctx = g->s.ctx, .op = g->s.op}, *s = &scope;
  const int64_t N = g->xs[0].shape[0], H = g->xs[1].shape[0];
  nn_tensor *gate[4], *d[4];
  for (int i = 0; i < 4; i++) gate[i] = part(s, g->y[2], t, i * H, H);
  nn_tensor *before = t ? part(s, g->y[1], t - 1, 0, H) : nni_reshape(s, c0, 3, (int64_t[]){N, 1, H});
  nn_tensor *y = nni_do(s, tanh, NN_T(part(s, g->y[1], t, 0, H)));
  nn_tensor *h = g->d[0] ? add(s, *dh, part(s, g->d[0], t, 0, H)) : *dh, *e = g->d[1] ? add(s, *dc, part(s, g->d[1], t, 0, H)) : *dc;
  e = add(s, e, through_tanh(s, mul(s, h, gate[3]), y));
  d[0] = mul(s, e, gate[2]), d[1] = mul(s, e, before), d[2] = mul(s, e, gate[0]), d[3] = mul(s, h, y);
  for (int i = 0; i < 4 && g->d[2]; i++) d[i] = add(s, d[i], part(s, g->d[2], t, i * H, H));
  for (int i = 0; i < 4; i++) d[i] = i == 2 ? through_tanh(s, d[i], gate[i]) : through_sigmoid(s, d[i], gate[i]);
  bool ok = d[0] && d[1] && d[2] && d[3];
  nn_tensor *dz = ok ? nni_do(s, cat, NN_TENSORS(4, d), NN_I(2)) : NULL;
  nn_tensor *nh = dz ? nni_do(s, matmul, NN_T(dz), NN_T(wt)) : NULL, *nc = e ? mul(s, e, gate[1]) : NULL;
  nn_release(*dh);
  nn_release(*dc);
  *dh = nn_retain(nh);
  *dc = nn_retain(nc);
  nn_retain(dz);
  nni_scope_close(s);
  return dz;
}

/* the gradient in operators that have gradients */
static nn_tensor *step_by_step(nni_gradcall *g, nn_tensor *c0, nn_tensor *w, nn_tensor **dh0, nn_tensor **dc0) {
  nni_scope *s = &g->s;
  const int64_t N = g->xs[0].shape[0], T = g->xs[0].shape[1], H = g->xs[1].shape[0], state[3] = {N, 1, H};
  nni_memory *mem = nni_memory_of(s->ctx);
  const size_t bytes = sizeof(nn_tensor *) * (size_t)T;
  nn_tensor **dz = nni_calloc(mem, bytes), *out = NULL;
  nn_tensor *zero = nni_do(s, full, NN_INTS(3, state), NN_F(0), NN_I(w->dtype)), *wt = nni_do(s, transpose, NN_T(w), NN_I(0), NN_I(1));
  nn_tensor *dh = nn_retain(zero), *dc = nn_retain(zero);
  bool ok = dz && zero && wt;
  if (!dz) nni_fail(nni_error_of(s->ctx), NN_ENOMEM, "lstm_sequence: out of memory");
  for (int64_t t = T - 1; t >= 0 && ok; t--) {
    dz[t] = step_back(g, t, c0, wt, &dh, &dc);
    ok = dz[t] && dh && dc;
  }
  if (ok) out = nni_do(s, cat, NN_TENSORS((int)T, dz), NN_I(1));
  for (int64_t t = 0; dz && t < T; t++) nn_release(dz[t]);
  nni_free(mem, dz, bytes);
  *dh0 = dh ? nni_reshape(s, nni_hold(s, dh), 2, (int64_t[]){N, H}) : NULL;
  *dc0 = dc ? nni_reshape(s, nni_hold(s, dc), 2, (int64_t[]){N, H}) : NULL;
  return out;
}

static nn_tensor *by_kernel(nni_gradcall *g, nn_tensor *c0, nn_tensor *w, nn_tensor **dh0, nn_tensor **dc0) {
  nni_scope *s = &g->s;
  nn_tensor *in[7] = {nni_dense(s, w), nni_dense(s, c0), g->y[1], g->y[2]}, *res[NN_MAXOUT]; /* nobody asks for a history here */
  int n = 4;
  int64_t given = 0;
  if (!in[0] || !in[1]) return NULL;
  for (int i = 0; i < 3; i++)
    if (g->d[i]) {
      in[n] = nni_dense(s, g->d[i]);
      if (!in[n++]) return NULL;
      given |= (int64_t)1 << i;
    }
  nni_out o[3];
  o[0] = nni_like(w->dtype, 3, g->xs[0].shape);
  o[1] = o[2] = nni_like(w->dtype, 2, (int64_t[]){g->xs[0].shape[0], g->xs[1].shape[0]});
  nni_rec r = {.kind = NNI_N_KERNEL, .op = NNI_K_lstm_dx, .nin = n, .in = in, .nia = 1, .ia = &given, .nout = 3, .out = o};
  if (nni_record(s->ctx, &r, res) != NN_OK) return NULL;
  nn_tensor *dz = nni_hold(s, res[0]);
  *dh0 = nni_hold(s, res[1]);
  *dc0 = nni_hold(s, res[2]);
  return dz;
}

nn_status nni_grad_lstm_sequence(nni_gradcall *g) {
  nni_scope *s = &g->s;
  const int64_t T = g->xs[0].shape[1], H = g->xs[1].shape[0], one[3] = {1, 1, 1}, zero[3] = {0, 0, 0};
  const nn_dtype dtype = g->y[0]->dtype; /* of everything: what the arguments were promoted to */
  nn_tensor *w = nni_cast(s, g->x[1], dtype), *c0 = nni_cast(s, g->x[3], dtype), *h0 = nni_cast(s, g->x[2], dtype);
  if (!w || !c0 || !h0) return nni_error_of(s->ctx)->status;
  nn_tensor *dh0 = NULL, *dc0 = NULL, *dz;
  dz = nn_grad_enabled(s->ctx) && T > 0 ? step_by_step(g, c0, w, &dh0, &dc0) : by_kernel(g, c0, w, &dh0, &dc0);
  if (!dz || !dh0 || !dc0) return nni_error_of(s->ctx)->status;
  g->dx[0] = dz;
  g->dx[2] = dh0;
  g->dx[3] = dc0;
  if (!g->need[1]) return NN_OK;
  /* dw = (states before each step)^T dz */
  const int64_t N = g->xs[0].shape[0], size[3] = {N, T > 0 ? T - 1 : 0, H};
  nn_tensor *h[2] = {nni_reshape(s, h0, 3, (int64_t[]){N, 1, H}), nni_do(s, slice, NN_T(g->y[0]), NN_INTS(3, zero), NN_INTS(3, size), NN_INTS(3, one))};
  if (!h[0] || !h[1]) return nni_error_of(s->ctx)->status;
  nn_tensor *before = T > 0 ? nni_reshape(s, nni_do(s, cat, NN_TENSORS(2, h), NN_I(1)), 2, (int64_t[]){N * T, H}) : nni_reshape(s, g->y[0], 2, (int64_t[]){0, H});
  before = before ? nni_do(s, transpose, NN_T(before), NN_I(0), NN_I(1)) : NULL;
  nn_tensor *flat = nni_reshape(s, dz, 2, (int64_t[]){N * T, 4 * H});
  g->dx[1] = before && flat ? nni_do(s, matmul, NN_T(before), NN_T(flat)) : NULL;
  return g->dx[1] ? NN_OK : nni_error_of(s->ctx)->status;
}
