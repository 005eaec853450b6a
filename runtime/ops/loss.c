/* ops/loss.c - losses over class ids. Ids are checked by a kernel when the run reaches them, so an id out of range is an error, not a wrong number. */
#include <math.h>
#include "ops.h"


static nn_status check_ids(nni_scope *s, const nn_tensor *x, const nn_tensor *ids) {
  bool ok = x->l.ndim == ids->l.ndim + 1;
  for (int i = 0; ok && i < ids->l.ndim; i++) ok = x->l.shape[i] == ids->l.shape[i];
  if (ok) return NN_OK;
  char a[150], b[150];
  nn_shape_text(x, a, sizeof a);
  nn_shape_text(ids, b, sizeof b);
  return nni_opfail(s, NN_ESHAPE, "one class id is needed per row: predictions are (%s), ids are (%s)", a, b);
}

static int64_t classes_of(const nni_out *x) { return x->shape[x->ndim - 1]; }

/* x[id] of each row */
static nn_tensor *pick(nni_scope *s, nn_tensor *x, nn_tensor *mask) {
  return nni_do(s, sum, NN_T(nni_do(s, where, NN_T(mask), NN_T(x), NN_F(0))), NN_I(-1), NN_I(0));
}

nn_status nni_rule_softmax_cross_entropy(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *ids = c->arg[1].u.t;
  if (!x) return nni_error_of(s->ctx)->status;
  nn_status st = check_ids(s, x, ids);
  if (st != NN_OK) return st;
  nn_tensor *lse = nni_do(s, logsumexp, NN_T(x), NN_I(-1), NN_I(0));
  nn_tensor *mask = nni_one_hot_mask(s, ids, x->l.shape[x->l.ndim - 1]);
  return nni_give(c, nni_do(s, sub, NN_T(lse), NN_T(pick(s, x, mask))));
}

nn_status nni_grad_softmax_cross_entropy(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *p = nni_do(s, softmax, NN_T(g->x[0]), NN_I(-1));
  nn_tensor *mask = nni_one_hot_mask(s, g->x[1], classes_of(&g->xs[0]));
  nn_tensor *d = nni_do(s, unsqueeze, NN_T(g->d[0]), NN_I(-1));
  g->dx[0] = nni_do(s, mul, NN_T(nni_do(s, sub, NN_T(p), NN_T(nni_cast(s, mask, p ? p->dtype : NN_F32)))), NN_T(d));
  return g->dx[0] ? NN_OK : nni_error_of(s->ctx)->status;
}

nn_status nni_rule_nll(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *ids = c->arg[1].u.t;
  if (!x) return nni_error_of(s->ctx)->status;
  nn_status st = check_ids(s, x, ids);
  if (st != NN_OK) return st;
  nn_tensor *mask = nni_one_hot_mask(s, ids, x->l.shape[x->l.ndim - 1]);
  return nni_give(c, nni_do(s, neg, NN_T(pick(s, x, mask))));
}

nn_status nni_grad_nll(nni_gradcall *g) {
  nni_scope *s = &g->s;
  nn_tensor *mask = nni_one_hot_mask(s, g->x[1], classes_of(&g->xs[0]));
  nn_tensor *d = nni_do(s, unsqueeze, NN_T(nni_do(s, neg, NN_T(g->d[0]))), NN_I(-1));
  g->dx[0] = nni_do(s, where, NN_T(mask), NN_T(d), NN_F(0));
  return g->dx[0] ? NN_OK : nni_error_of(s->ctx)->status;
}
