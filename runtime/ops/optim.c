/* ops/optim.c - one step of an optimizer over a list of parameters: record every update, replace the tensors, run once (or leave that to the caller).
**
** The updates are chains of pointwise operators, so each parameter becomes one row program that works in place (nn_assign). A failed step changes nothing.
*/
#include <math.h>
#include "ops.h"

/* num: the numbers of an update in the order in which they are recorded: all that differs from one step to the next, renewed when a recording is replayed */
typedef nn_status (*update_fn)(nni_scope *s, const void *o, const double *num, nn_tensor *p, nn_tensor *g, nn_tensor *s1, nn_tensor *s2, nn_tensor *next[3]);

static nn_tensor *times(nni_scope *s, nn_tensor *t, double f) { return nni_do(s, mul, NN_T(t), NN_F(f)); }

int nn_sgd_numbers(const nn_sgd *o, double num[NN_MAXNUMBER]) {
  int n = 0;
  if (o->weight_decay != 0) num[n++] = o->weight_decay;
  if (o->momentum != 0) {
    num[n++] = o->momentum;
    if (o->dampening != 0) num[n++] = 1 - o->dampening;
    if (o->nesterov) num[n++] = o->momentum;
  }
  num[n++] = o->lr;
  return n;
}

/* velocity: v = momentum v + (1 - dampening) g; p = p - lr v (nesterov: p - lr (g + momentum v)). As PyTorch, from v = 0. */
static nn_status sgd_update(nni_scope *s, const void *opt, const double *num, nn_tensor *p, nn_tensor *g, nn_tensor *v, nn_tensor *unused, nn_tensor *next[3]) {
  const nn_sgd *o = opt;
  (void)unused;
  if (o->weight_decay != 0) g = nni_do(s, add, NN_T(g), NN_T(times(s, p, *num++)));
  if (v) {
    nn_tensor *kept = times(s, v, *num++), *gs = o->dampening != 0 ? times(s, g, *num++) : g;
    next[1] = nni_do(s, add, NN_T(kept), NN_T(gs));
    g = o->nesterov ? nni_do(s, add, NN_T(g), NN_T(times(s, next[1], *num++))) : next[1];
  }
  next[0] = nni_do(s, sub, NN_T(p), NN_T(times(s, g, *num)));
  return next[0] ? NN_OK : nni_error_of(s->ctx)->status;
}

int nn_adam_numbers(const nn_adam *o, double num[NN_MAXNUMBER]) {
  double c1 = 1 - pow(o->beta1, (double)o->step), c2 = 1 - pow(o->beta2, (double)o->step);
  const double all[] = {o->beta1, 1 - o->beta1, o->beta2, 1 - o->beta2, 1 / sqrt(c2), o->eps, o->lr / c1, 1 - o->lr * o->weight_decay};
  memcpy(num, all, sizeof all);
  return o->weight_decay != 0 ? 8 : 7;
}

/* Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; weight decay decoupled (Loshchilov and Hutter, ICLR 2019). */
static nn_status adam_update(nni_scope *s, const void *opt, const double *num, nn_tensor *p, nn_tensor *g, nn_tensor *m, nn_tensor *v, nn_tensor *next[3]) {
  const nn_adam *o = opt;
  nn_tensor *mk = times(s, m, num[0]), *mg = times(s, g, num[1]);
  next[1] = nni_do(s, add, NN_T(mk), NN_T(mg));
  nn_tensor *vk = times(s, v, num[2]), *vg = times(s, nni_do(s, square, NN_T(g)), num[3]);
  next[2] = nni_do(s, add, NN_T(vk), NN_T(vg));
  nn_tensor *root = times(s, nni_do(s, sqrt, NN_T(next[2])), num[4]), *den = nni_do(s, add, NN_T(root), NN_F(num[5]));
  nn_tensor *step = nni_do(s, div, NN_T(times(s, next[1], num[6])), NN_T(den));
  nn_tensor *q = o->weight_decay != 0 ? times(s, p, num[7]) : p;
  next[0] = nni_do(s, sub, NN_T(q), NN_T(step));
  return next[0] ? NN_OK : nni_error_of(s->ctx)->status;
}

static nn_status check(nni_scope *s, const nn_tensor *p, const nn_tensor *state) {
  if (!state || nni_layout_same_shape(&p->l, &state->l)) return NN_OK;
  return nni_opfail(s, NN_ESHAPE, "an optimizer's state does not have its parameter's shape");
}

static nn_status step(nn_context *ctx, bool defer, update_fn update, const void *o, const double *num, int nnum, int n, nn_tensor **param, nn_tensor **s1, nn_tensor **s2) {
  nni_memory *mem = nni_memory_of(ctx);
  size_t bytes = sizeof(nn_tensor *) * 3 * (size_t)(n + 1);
  nn_tensor **fresh = nni_calloc(mem, bytes); /* what takes the place of param, s1, s2 */
  nni_scope s = {.ctx = ctx, .ntmp = 0};
  nn_status st = fresh ? NN_OK : nni_fail(nni_error_of(ctx), NN_ENOMEM, "optimizer step: out of memory");
  bool grad = nn_set_grad_enabled(ctx, false);
  nni_renewed(ctx, NULL, 0);
  for (int i = 0; i < n && st == NN_OK; i++) {
    nn_tensor *next[3] = {NULL, NULL, NULL}, *g = param[i]->grad, *old[3] = {param[i], s1 ? s1[i] : NULL, s2 ? s2[i] : NULL};
    if (!g) continue;
    st = check(&s, param[i], old[1]);
    if (st == NN_OK) st = check(&s, param[i], old[2]);
    if (st == NN_OK) st = update(&s, o, num, old[0], g, old[1], old[2], next);
    if (st == NN_OK) nni_renewed(ctx, num, nnum);
    for (int k = 0; k < 3 && st == NN_OK; k++)
      if (next[k] && old[k]) {
        nn_tensor *t = nni_cast(&s, next[k], old[k]->dtype); /* a half with its states in f32 */
        fresh[3 * i + k] = t ? nn_assign(old[k], t) : NULL;
        if (!fresh[3 * i + k]) st = nni_error_of(ctx)->status;
      }
    nni_scope_close(&s);
  }
  nn_set_grad_enabled(ctx, grad);
  for (int i = 0; i < n && st == NN_OK; i++) /* before the run, so that nobody holds the old values and they are updated in place */
    for (int k = 0; k < 3; k++) {
      nn_tensor **slot = k == 0 ? &param[i] : k == 1 ? (s1 ? &s1[i] : NULL) : (s2 ? &s2[i] : NULL);
      if (!slot || !fresh[3 * i + k]) continue;
      nn_release(*slot);
      *slot = fresh[3 * i + k];
      fresh[3 * i + k] = NULL;
    }
  for (int i = 0; fresh && i < 3 * n; i++) nn_release(fresh[i]);
  nni_free(mem, fresh, bytes);
  return st == NN_OK && !defer && !nn_jit_recording(ctx) ? nn_eval(ctx) : st; /* a recording runs it when the caller's handles have been told */
}

nn_status nn_sgd_step(nn_context *ctx, const nn_sgd *o, int n, nn_tensor **param, nn_tensor **velocity) {
  if (o->momentum != 0 && !velocity) return nni_fail(nni_error_of(ctx), NN_EINVAL, "sgd_step: momentum needs velocities");
  double num[NN_MAXNUMBER];
  int nnum = nn_sgd_numbers(o, num);
  return step(ctx, o->defer, sgd_update, o, num, nnum, n, param, o->momentum != 0 ? velocity : NULL, NULL);
}

nn_status nn_adam_step(nn_context *ctx, const nn_adam *o, int n, nn_tensor **param, nn_tensor **m, nn_tensor **v) {
  if (o->step < 1) return nni_fail(nni_error_of(ctx), NN_EINVAL, "adam_step: step counts from 1, got %lld", (long long)o->step);
  double num[NN_MAXNUMBER];
  int nnum = nn_adam_numbers(o, num);
  return step(ctx, o->defer, adam_update, o, num, nnum, n, param, m, v);
}
