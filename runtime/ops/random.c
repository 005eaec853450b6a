/* ops/random.c - tensors made from nothing: constants, ranges, draws. Every draw takes a stream number of its own from the context; element i of it is
** draw i of that stream, so values depend on seed and position only. */
#include <math.h>
#include "ops.h"

static nn_status shape_of(nni_scope *s, const nn_arg *a, nn_dtype d, nni_out *o) {
  int64_t n;
  char t[150];
  if (a->n > NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "%d dims, at most %d are possible", a->n, NN_MAXDIM);
  *o = nni_like(d, a->n, a->u.ints);
  if (nni_size_mul(o->shape, o->ndim, nn_dtype_size(d), &n)) return NN_OK;
  nni_shape_text(o->ndim, o->shape, t, sizeof t);
  return nni_opfail(s, NN_ESHAPE, "size %s is negative or too large", t);
}

nn_status nni_rule_full(nni_call *c) {
  nni_out o;
  nn_dtype d = (nn_dtype)c->arg[2].u.i;
  nni_param pa = {.f = c->arg[1].u.f};
  if (c->arg[2].u.i < 0 || d >= NN_NDTYPE) return nni_opfail(&c->s, NN_EDTYPE, "unknown dtype");
  nn_status st = shape_of(&c->s, &c->arg[0], d, &o);
  return st == NN_OK ? nni_give(c, nni_rec1(&c->s, &(nni_rec){.kind = NNI_N_FILL, .npa = 1, .pa = &pa, .nout = 1, .out = &o})) : st;
}

nn_status nni_rule_arange(nni_call *c) {
  nni_scope *s = &c->s;
  const bool both = c->arg[1].kind != NN_ARG_NONE;
  double start = both ? c->arg[0].u.f : 0, stop = c->arg[both].u.f, step = c->arg[2].u.f, count = ceil((stop - start) / step);
  nn_dtype d = (nn_dtype)c->arg[3].u.i;
  if (c->arg[3].u.i < 0 || d >= NN_NDTYPE || d == NN_BOOL) return nni_opfail(s, NN_EDTYPE, "the dtype must be a number's");
  if (step == 0 || !(count == count)) return nni_opfail(s, NN_EINVAL, "from %g to %g by %g has no end", start, stop, step);
  if (count > 9e15) return nni_opfail(s, NN_ESHAPE, "from %g to %g by %g has too many elements", start, stop, step);
  if (count < 0) count = 0;
  nni_out o = nni_like(NN_I64, 1, (int64_t[]){(int64_t)count});
  nn_tensor *i = nni_rec1(s, &(nni_rec){.kind = NNI_N_INDEX, .nout = 1, .out = &o});
  bool whole = !nn_dtype_is_float(d) && start == floor(start) && step == floor(step);
  nn_tensor *y = whole ? i : nni_cast(s, i, d == NN_F64 ? NN_F64 : NN_F32);
  if (step != 1) y = nni_do(s, mul, NN_T(y), whole ? NN_I((int64_t)step) : NN_F(step));
  if (start != 0) y = nni_do(s, add, NN_T(y), whole ? NN_I((int64_t)start) : NN_F(start));
  return nni_give(c, nni_cast(s, y, d));
}

static nn_tensor *draw(nni_scope *s, const nni_out *o) {
  nni_param pa[2];
  nni_draw(s->ctx, pa);
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_RANDOM, .npa = 2, .pa = pa, .nout = 1, .out = o});
}

nn_status nni_rule_uniform(nni_call *c) {
  nni_out o;
  nn_status st = shape_of(&c->s, &c->arg[0], NN_F32, &o);
  double low = c->arg[1].u.f, high = c->arg[2].u.f;
  if (st != NN_OK) return st;
  nn_tensor *u = draw(&c->s, &o);
  if (low != 0 || high != 1) u = nni_do(&c->s, add, NN_T(nni_do(&c->s, mul, NN_T(u), NN_F(high - low))), NN_F(low));
  return nni_give(c, u);
}

nn_status nni_rule_normal(nni_call *c) {
  nni_scope *s = &c->s;
  nni_out o;
  nn_status st = shape_of(s, &c->arg[0], NN_F32, &o);
  if (st != NN_OK) return st;
  nn_tensor *u = nni_do(s, sub, NN_F(1), NN_T(draw(s, &o))), *v = draw(s, &o); /* u in (0, 1] */
  nn_tensor *r = nni_do(s, sqrt, NN_T(nni_do(s, mul, NN_T(nni_do(s, log, NN_T(u))), NN_F(-2))));
  nn_tensor *z = nni_do(s, mul, NN_T(r), NN_T(nni_do(s, cos, NN_T(nni_do(s, mul, NN_T(v), NN_F(6.283185307179586))))));
  z = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(z), c->arg[2])), c->arg[1]);
  return nni_give(c, z);
}

nn_status nni_rule_bernoulli(nni_call *c) {
  nni_out o;
  nni_layout fits;
  nn_status st = shape_of(&c->s, &c->arg[0], NN_F32, &o);
  if (st != NN_OK) return st;
  if (c->arg[1].kind == NN_ARG_TENSOR && !nni_layout_expand(&c->arg[1].u.t->l, o.ndim, o.shape, &fits)) {
    char a[150], b[150];
    nn_shape_text(c->arg[1].u.t, a, sizeof a);
    nni_shape_text(o.ndim, o.shape, b, sizeof b);
    return nni_opfail(&c->s, NN_ESHAPE, "p of shape %s does not broadcast to %s", a, b);
  }
  return nni_give(c, nni_do(&c->s, lt, NN_T(draw(&c->s, &o)), c->arg[1]));
}

nn_status nni_rule_dropout(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_real(s, c->arg[0].u.t);
  double p = c->arg[1].u.f;
  if (!x) return nni_error_of(s->ctx)->status;
  if (!(p >= 0 && p <= 1)) return nni_opfail(s, NN_EINVAL, "p = %g is not in 0..1", p);
  if (p == 0) return nni_give(c, x);
  nni_out o = nni_like(NN_F32, x->l.ndim, x->l.shape);
  nn_tensor *keep = nni_do(s, ge, NN_T(draw(s, &o)), NN_F(p));
  nn_tensor *scaled = nni_do(s, mul, NN_T(x), NN_F(p < 1 ? 1 / (1 - p) : 0));
  return nni_give(c, nni_do(s, where, NN_T(keep), NN_T(scaled), NN_F(0)));
}
