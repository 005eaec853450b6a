/* ops/common.c - calling operators from outside (arguments checked by signature) and from rules, and the helpers that rules share. */
#include <stdio.h>
#include "ops.h"

static nni_error *err_of(nn_context *ctx) { return nni_error_of(ctx); }

/* ---- from outside ---- */
static const char *const expected[] = {"a tensor", "a tensor or a number", "a tensor of positions", "a list of tensors", "a number", "an integer",
                                       "a boolean", "a list of integers", "an integer or a pair", "a dtype", "a dim", "a dim or a list of dims", "a list of positions",
                                       "\"valid\", \"same\" or sizes", "a word", "a tensor or a dim"};

static bool fits(nni_argtype t, const nn_arg *a) {
  switch (t) {
    case NNI_A_T:
    case NNI_A_TI: return a->kind == NN_ARG_TENSOR && a->u.t;
    case NNI_A_TF: return (a->kind == NN_ARG_TENSOR && a->u.t) || a->kind == NN_ARG_FLOAT || a->kind == NN_ARG_INT;
    case NNI_A_TD: return (a->kind == NN_ARG_TENSOR && a->u.t) || a->kind == NN_ARG_INT;
    case NNI_A_TL: return a->kind == NN_ARG_TENSORS;
    case NNI_A_F: return a->kind == NN_ARG_FLOAT || a->kind == NN_ARG_INT;
    case NNI_A_I:
    case NNI_A_B:
    case NNI_A_D:
    case NNI_A_Y: return a->kind == NN_ARG_INT;
    case NNI_A_PL:
    case NNI_A_IL: return a->kind == NN_ARG_INTS;
    case NNI_A_I2: return a->kind == NN_ARG_INT || (a->kind == NN_ARG_INTS && a->n == 2);
    case NNI_A_DL: return a->kind == NN_ARG_INT || a->kind == NN_ARG_INTS;
    case NNI_A_S: return a->kind == NN_ARG_TEXT && a->u.s;
    case NNI_A_PAD: return a->kind == NN_ARG_TEXT || a->kind == NN_ARG_INT || (a->kind == NN_ARG_INTS && (a->n == 2 || a->n == 4));
  }
  return false;
}

/* A message of an operator that the called one is made of ("cat: ..." from stack) is shown as the called one's. */
static void name_caller(nni_error *e, const nn_op *op) {
  char inner[64];
  size_t n = strcspn(e->text, ":");
  if (n >= sizeof inner || e->text[n] != ':') return;
  memcpy(inner, e->text, n);
  inner[n] = 0;
  if (strcmp(inner, op->name) == 0 || !nn_op_find(inner)) return;
  nni_fail(e, e->status, "%s%s", op->name, e->text + n);
}

nn_status nn_op_call(nn_context *ctx, const nn_op *op, const nn_arg *args, int nargs, nn_tensor **out, int *nout) {
  const nni_sig *g = nni_op_sig(op);
  nn_arg full[NN_MAXARG];
  *nout = 0;
  if (nargs > g->n) return nni_fail(err_of(ctx), NN_EINVAL, "%s: %d arguments, at most %d are possible (%s)", op->name, nargs, g->n, op->sig);
  for (int i = 0; i < g->n; i++) {
    const nni_param_spec *p = &g->p[i];
    full[i] = i < nargs && args[i].kind != NN_ARG_NONE ? args[i] : p->def;
    nn_arg *a = &full[i];
    if (a->kind == NN_ARG_NONE) {
      if (p->optional) continue;
      return nni_fail(err_of(ctx), NN_EINVAL, "%s: argument '%s' is missing (%s)", op->name, p->name, op->sig);
    }
    if (!fits(p->type, a)) return nni_fail(err_of(ctx), NN_EINVAL, "%s: argument '%s' must be %s", op->name, p->name, expected[p->type]);
    if (p->type == NNI_A_F && a->kind == NN_ARG_INT) *a = NN_F((double)a->u.i);
    if (p->type == NNI_A_T && nn_context_of(a->u.t) != ctx)
      return nni_fail(err_of(ctx), NN_EINVAL, "%s: argument '%s' belongs to another context", op->name, p->name);
  }
  nni_core *core = (nni_core *)(void *)ctx;
  const char *outer = core->caller;
  if (!outer) core->caller = op->name;
  nn_status st = nni_apply(ctx, op, full, g->n, out, nout);
  core->caller = outer;
  if (st != NN_OK && !outer) name_caller(&core->err, op);
  return st;
}

nn_tensor *nn_call_(nn_context *ctx, const char *name, const nn_arg *args, int nargs) {
  const nn_op *op = nn_op_find(name);
  nn_tensor *out[NN_MAXOUT];
  int n = 0;
  for (int i = 0; i < nargs; i++)
    if (args[i].kind == NN_ARG_TENSOR && !args[i].u.t) return NULL; /* an earlier call failed and left its message */
  if (!op) {
    nni_fail(err_of(ctx), NN_ENOTFOUND, "there is no operator '%s'", name);
    return NULL;
  }
  if (nn_op_call(ctx, op, args, nargs, out, &n) != NN_OK) return NULL;
  for (int i = 1; i < n; i++) nn_release(out[i]);
  return out[0];
}

/* ---- from rules and gradients ---- */
static nn_tensor *none(nni_scope *s) {
  s->failed = true;
  return NULL;
}

nn_tensor *nni_hold(nni_scope *s, nn_tensor *t) {
  if (!t) return none(s);
  if (s->ntmp == NNI_MAXTMP) {
    nn_release(t);
    nni_opfail(s, NN_EINTERNAL, "too many temporaries in one rule");
    return none(s);
  }
  s->tmp[s->ntmp++] = t;
  return t;
}

void nni_scope_close(nni_scope *s) {
  while (s->ntmp > 0) nn_release(s->tmp[--s->ntmp]);
}

nn_tensor *nni_do_(nni_scope *s, nni_opid id, const nn_arg *args, int nargs) {
  nn_tensor *out[NN_MAXOUT];
  int n = 0;
  for (int i = 0; i < nargs; i++)
    if (args[i].kind == NN_ARG_TENSOR && !args[i].u.t) return none(s);
  if (nni_apply(s->ctx, nni_op_row(id), args, nargs, out, &n) != NN_OK) return none(s);
  for (int i = 1; i < n; i++) nn_release(out[i]);
  return nni_hold(s, out[0]);
}

nn_tensor *nni_rec1(nni_scope *s, const nni_rec *r) {
  nn_tensor *out[NN_MAXOUT];
  for (int i = 0; i < r->nin; i++)
    if (!r->in[i] && r->kind != NNI_N_PW) return none(s);
  if (nni_record(s->ctx, r, out) != NN_OK) return none(s);
  for (int i = 1; i < r->nout; i++) nn_release(out[i]);
  return nni_hold(s, out[0]);
}

nn_status nni_give(nni_call *c, nn_tensor *t) {
  if (!t) return err_of(c->s.ctx)->status;
  c->out[c->nout++] = nn_retain(t);
  return NN_OK;
}

/* ---- helpers ---- */
nn_status nni_opfail(nni_scope *s, nn_status st, const char *fmt, ...) {
  char text[800];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return nni_fail(err_of(s->ctx), st, "%s: %s", s->op ? s->op->name : "nn", text);
}

bool nni_dim(nni_scope *s, int64_t dim, int ndim, int *out) {
  int64_t d = dim < 0 ? dim + ndim : dim;
  if (d < 0 || d >= ndim) {
    if (ndim == 0) nni_opfail(s, NN_EINVAL, "a scalar has no dims, dim %lld was asked for", (long long)(dim < 0 ? dim : dim + 1));
    else nni_opfail(s, NN_EINVAL, "dim %lld is out of range: the tensor has %d dims (1..%d or -1..-%d)", (long long)(dim < 0 ? dim : dim + 1), ndim, ndim, ndim);
    return false;
  }
  *out = (int)d;
  return true;
}

bool nni_dims(nni_scope *s, const nn_arg *dims, int ndim, bool *on) {
  for (int i = 0; i < ndim; i++) on[i] = dims->kind == NN_ARG_NONE;
  int n = dims->kind == NN_ARG_INTS ? dims->n : dims->kind == NN_ARG_INT ? 1 : 0;
  const int64_t *v = dims->kind == NN_ARG_INTS ? dims->u.ints : &dims->u.i;
  for (int i = 0; i < n; i++) {
    int d;
    if (!nni_dim(s, v[i], ndim, &d)) return false;
    if (on[d]) {
      nni_opfail(s, NN_EINVAL, "dim %d is named twice", d + 1);
      return false;
    }
    on[d] = true;
  }
  return true;
}

nni_out nni_like(nn_dtype d, int ndim, const int64_t *shape) {
  nni_out o = {.dtype = d, .ndim = ndim};
  for (int i = 0; i < ndim; i++) o.shape[i] = shape[i];
  return o;
}

nn_tensor *nni_dense(nni_scope *s, nn_tensor *t) {
  if (!t || nni_layout_is_contiguous(&t->l)) return t;
  return nni_do(s, contiguous, NN_T(t)); /* an operator, so that gradients find their way through it */
}

nn_tensor *nni_cast(nni_scope *s, nn_tensor *t, nn_dtype d) {
  if (!t || t->dtype == d) return t;
  return nni_do(s, cast, NN_T(t), NN_I(d));
}

nn_tensor *nni_real(nni_scope *s, nn_tensor *t) { return !t || nn_dtype_is_float(t->dtype) ? t : nni_cast(s, t, NN_F32); }

bool nni_reals(nni_scope *s, int n, nn_tensor **t) {
  nn_dtype d = NN_BOOL;
  bool ok = true;
  for (int i = 0; i < n; i++) d = t[i] ? nn_dtype_promote(d, t[i]->dtype) : d;
  if (!nn_dtype_is_float(d)) d = NN_F32;
  for (int i = 0; i < n; i++) ok = (t[i] = nni_cast(s, t[i], d)) && ok;
  return ok;
}

nn_tensor *nni_reshape(nni_scope *s, nn_tensor *t, int ndim, const int64_t *shape) { return nni_do(s, reshape, NN_T(t), NN_INTS(ndim, shape)); }

nn_tensor *nni_unbroadcast(nni_scope *s, nn_tensor *t, int ndim, const int64_t *shape) {
  if (!t) return NULL;
  int64_t dims[NN_MAXDIM];
  int n = 0, lead = t->l.ndim - ndim;
  for (int i = 0; i < t->l.ndim; i++)
    if (i < lead || (shape[i - lead] == 1 && t->l.shape[i] != 1)) dims[n++] = i;
  if (n) t = nni_do(s, sum, NN_T(t), NN_INTS(n, dims), NN_I(1));
  if (!t) return NULL;
  nni_layout want;
  nni_layout_contiguous(&want, ndim, shape);
  if (nni_layout_same_shape(&t->l, &want)) return t;
  if (nn_numel(t) == nni_layout_numel(&want)) return nni_reshape(s, t, ndim, shape);
  return nni_do(s, expand, NN_T(t), NN_INTS(ndim, shape));
}

nn_dtype nni_weak_promote(const nn_arg *arg, int from, int n, nn_dtype floor) {
  nn_dtype d = floor;
  bool fraction = false, integer = false;
  for (int i = from; i < n; i++) {
    if (arg[i].kind == NN_ARG_TENSOR) d = nn_dtype_promote(d, arg[i].u.t->dtype);
    else if (arg[i].kind == NN_ARG_FLOAT) fraction = true;
    else if (arg[i].kind == NN_ARG_INT) integer = true;
  }
  if (fraction && !nn_dtype_is_float(d)) return NN_F32;
  if (integer && d == NN_BOOL) return NN_I64;
  return d;
}
