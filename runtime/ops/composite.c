/* ops/composite.c - operators that are short formulas of others; their gradients come from the parts. */
#include <math.h>
#include "ops.h"

/* x split in halves a, b along dim: a * sigmoid(b) */
nn_status nni_rule_glu(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t), *half[2];
  int dim;
  if (!x || !nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return nni_error_of(s->ctx)->status;
  if (x->l.shape[dim] % 2)
    return nni_opfail(s, NN_ESHAPE, "dim %d has %lld elements, which can't be halved", dim + 1, (long long)x->l.shape[dim]);
  for (int i = 0; i < 2; i++) {
    int64_t start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM];
    for (int d = 0; d < x->l.ndim; d++) size[d] = x->l.shape[d], step[d] = 1;
    size[dim] /= 2;
    start[dim] = i * size[dim];
    half[i] = nni_do(s, slice, NN_T(x), NN_INTS(x->l.ndim, start), NN_INTS(x->l.ndim, size), NN_INTS(x->l.ndim, step));
  }
  return nni_give(c, nni_do(s, mul, NN_T(half[0]), NN_T(nni_do(s, sigmoid, NN_T(half[1])))));
}

nn_status nni_rule_softmin(nni_call *c) {
  nn_tensor *x = nni_real(&c->s, c->arg[0].u.t);
  return nni_give(c, nni_do(&c->s, softmax, NN_T(nni_do(&c->s, neg, NN_T(x))), c->arg[1]));
}

nn_status nni_rule_gelu(nni_call *c) {
  nni_scope *s = &c->s;
  const char *how = c->arg[1].u.s;
  if (strcmp(how, "none") == 0) return nni_give(c, nni_do(s, gelu_erf, c->arg[0]));
  if (strcmp(how, "tanh") == 0) return nni_give(c, nni_do(s, gelu_tanh, c->arg[0]));
  return nni_opfail(s, NN_EINVAL, "approximate = \"%.40s\"; there are none, tanh", how);
}

/* NaN -> nan, infinities -> posinf and neginf (by default the largest finite numbers of the dtype); integers have none of them */
nn_status nni_rule_nan_to_num(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  double largest = x->dtype == NN_F64 ? 1.7976931348623157e308 : x->dtype == NN_F16 ? 65504 :
                   x->dtype == NN_BF16 ? 3.3895313892515355e38 : 3.4028234663852886e38;
  nn_arg up = c->arg[2].kind == NN_ARG_NONE ? NN_F(largest) : c->arg[2], down = c->arg[3].kind == NN_ARG_NONE ? NN_F(-largest) : c->arg[3];
  if (!nn_dtype_is_float(x->dtype)) return nni_give(c, x);
  nn_tensor *y = nni_do(s, where, NN_T(nni_do(s, isnan, NN_T(x))), c->arg[1], NN_T(x));
  y = nni_do(s, where, NN_T(nni_do(s, eq, NN_T(x), NN_F(INFINITY))), up, NN_T(y));
  y = nni_do(s, where, NN_T(nni_do(s, eq, NN_T(x), NN_F(-INFINITY))), down, NN_T(y));
  return nni_give(c, y);
}
