/* graph/jit_replay.c - recordings (jit.h): do two say the same, does one fit, and doing it again.
**
** A replay changes handles only after its segment ran; memory for that is taken before. A handle's old value is let go for the run, so that
** updates work in place as in an ordinary run. Values that are needed until the call is over (held) are visible, so nobody takes their buffers over.
*/
#include <stdio.h>
#include "jit.h"

static const char *const origins[] = {"a tensor", "a gradient", "a result", "a constant"};

nni_jform nni_jit_form(const nn_tensor *t) { return (nni_jform){t->dtype, t->l, t->v->numel, t->v->dev}; }
bool nni_jit_same_layout(const nni_layout *a, const nni_layout *b) {
  size_t n = sizeof(int64_t) * (size_t)a->ndim;
  return a->ndim == b->ndim && a->offset == b->offset && memcmp(a->shape, b->shape, n) == 0 && memcmp(a->stride, b->stride, n) == 0;
}
static bool has_form(const nn_tensor *t, const nni_jform *f) {
  return t->dtype == f->dtype && t->v->numel == f->numel && t->v->dev == f->dev && nni_jit_same_layout(&t->l, &f->l);
}

/* ---- do two recordings say the same? --------------------------------------------------------------------------------------- */
static bool same_constant(nn_context *ctx, const nni_jslot *a, const nni_jslot *b) {
  if (a->v == b->v) return true;
  const void *p = a->v && a->v->data ? nni_value_host(ctx, a->v) : NULL, *q = b->v && b->v->data ? nni_value_host(ctx, b->v) : NULL;
  return p && q && memcmp(p, q, (size_t)a->numel * nn_dtype_size(a->dtype)) == 0;
}

static bool segments_differ(const nni_jsegment *a, const nni_jsegment *b, char *why, size_t n) {
  bool same = !a->plan == !b->plan;
  if (same && a->plan) same = a->plan->nkey == b->plan->nkey && memcmp(a->plan->key, b->plan->key, sizeof *a->plan->key * (size_t)a->plan->nkey) == 0;
  if (!same || a->nparam != b->nparam || a->ndraw != b->ndraw || a->drawn != b->drawn || a->host != b->host)
    return snprintf(why, n, "it recorded other operators than in the call before"), true;
  bool out = !a->plan || (a->plan->nout == b->plan->nout && memcmp(a->out, b->out, sizeof *a->out * (size_t)a->plan->nout) == 0);
  if (!out || a->nin != b->nin || (a->nin && memcmp(a->in, b->in, sizeof *a->in * (size_t)a->nin) != 0) || a->neffect != b->neffect)
    return snprintf(why, n, "it used other tensors than in the call before"), true;
  for (int i = 0; i < a->neffect; i++)
    if (a->effect[i].handle != b->effect[i].handle || a->effect[i].slot != b->effect[i].slot || a->effect[i].grad != b->effect[i].grad ||
        !nni_jit_same_layout(&a->effect[i].l, &b->effect[i].l))
      return snprintf(why, n, "it changed other tensors than in the call before"), true;
  for (int i = 0; i < a->nparam; i++) {
    if (a->param[i].u == b->param[i].u) continue;
    int k = snprintf(why, n, "a number that %s is given changes from call to call (%.9g, then %.9g", b->who[i], a->param[i].f, b->param[i].f);
    if (b->line[i] > 0 && k > 0 && (size_t)k < n) snprintf(why + k, n - (size_t)k, ", line %d); give it as a tensor", (int)b->line[i]);
    else if (k > 0 && (size_t)k < n) snprintf(why + k, n - (size_t)k, "); give it as a tensor");
    return true;
  }
  return false;
}

bool nn_jit_differs(const nn_jit *a, const nn_jit *b, char *why, size_t n) {
  if (a->nrenewal != b->nrenewal || a->nrenews != b->nrenews)
    return snprintf(why, n, "its optimizers took other steps than in the call before"), true;
  if (a->nsegment != b->nsegment) return snprintf(why, n, "it ran %d times, then %d times", a->nsegment, b->nsegment), true;
  for (int i = 0; i < a->nsegment; i++)
    if (segments_differ(&a->segment[i], &b->segment[i], why, n)) return true;
  if (a->nslot != b->nslot || a->nhandle != b->nhandle || a->nresult != b->nresult)
    return snprintf(why, n, "it used other tensors than in the call before"), true;
  for (int i = 0; i < a->nslot; i++) {
    const nni_jslot *x = &a->slot[i], *y = &b->slot[i];
    if (x->from != y->from || x->handle != y->handle || x->dtype != y->dtype || x->numel != y->numel || x->dev != y->dev)
      return snprintf(why, n, "%s took the place of %s of the call before", origins[y->from], origins[x->from]), true;
    if (x->from == NNI_J_CONSTANT && !same_constant(a->ctx, x, y))
      return snprintf(why, n, "a tensor of %lld elements that it makes of numbers differs from call to call; give it as an argument",
                      (long long)x->numel), true;
  }
  for (int i = 0; i < a->nresult; i++)
    if (a->result[i].slot != b->result[i].slot || !nni_jit_same_layout(&a->result[i].l, &b->result[i].l))
      return snprintf(why, n, "it returned other results than in the call before"), true;
  return false;
}

/* ---- does a recording fit what the handles hold now? ------------------------------------------------------------------------- */
static int alias(const nni_window *w, nni_value *v, int number) {
  if (v->stamp == w->stamp - 1) return v->index;
  v->stamp = w->stamp - 1;
  v->index = number;
  return number;
}

static void describe(const nn_tensor *t, const nni_jform *f, char *why, size_t n) {
  char a[150], b[150];
  nni_shape_text(f->l.ndim, f->l.shape, a, sizeof a);
  nn_shape_text(t, b, sizeof b);
  if (t->v->dev != f->dev) snprintf(why, n, "is on another device now: %s -> %s", f->dev->name, t->v->dev->name);
  else if (t->dtype != f->dtype) snprintf(why, n, "changed dtype: %s -> %s", nn_dtype_name(f->dtype), nn_dtype_name(t->dtype));
  else if (strcmp(a, b) != 0) snprintf(why, n, "changed shape: %s -> %s", a, b);
  else snprintf(why, n, "changed layout (it is a view of another kind)");
}

/* The window is empty, so its stamp is free to mark values with. */
int nn_jit_misfit(const nn_jit *j, nn_tensor **const *at, char *why, size_t n) {
  nni_window *w = &j->ctx->win;
  w->stamp += 2; /* this one's marks mean nothing to the next window */
  for (int i = 0; i < j->nhandle; i++) {
    const nni_jhandle *h = &j->handle[i];
    const nn_tensor *t = *at[i];
    *why = 0;
    if (!t) snprintf(why, n, "was freed");
    else if (!has_form(t, &h->value)) describe(t, &h->value, why, n);
    else if (t->tape) snprintf(why, n, "has a history now");
    else if (t->requires_grad != h->requires_grad) snprintf(why, n, t->requires_grad ? "requires a gradient now" : "requires no gradient any more");
    else if ((t->grad != NULL) != h->has_grad) snprintf(why, n, t->grad ? "has a gradient now" : "has no gradient any more");
    else if (t->grad && !has_form(t->grad, &h->gradient)) snprintf(why, n, "has a gradient of another form");
    else if (alias(w, t->v, 2 * i) != h->same_value || (t->grad && alias(w, t->grad->v, 2 * i + 1) != h->same_grad))
      snprintf(why, n, "shares its value with other tensors than before");
    else continue;
    return i;
  }
  return -1;
}

/* ---- replay -------------------------------------------------------------------------------------------------------------------- */
static nn_status load(nn_jit *j, const nni_jsegment *s, nn_tensor **const *at) {
  nn_context *ctx = j->ctx;
  for (int i = s->slot0; i < s->slot1; i++) {
    const nni_jslot *k = &j->slot[i];
    if (k->from == NNI_J_RUN) {
      nni_value *v = nni_value_new(ctx, k->dev, k->dtype, k->numel);
      if (!v) return NN_ENOMEM;
      v->refs = v->ext = 1;
      j->value[i] = v;
      continue;
    }
    nni_value *v = k->v;
    if (k->from != NNI_J_CONSTANT) {
      const nn_tensor *t = *at[k->handle];
      if (t && k->from == NNI_J_GRAD) t = t->grad;
      const nni_jform f = {k->dtype, k->l, k->numel, k->dev};
      if (!t || !has_form(t, &f))
        return nni_fail(&ctx->core.err, NN_ESHAPE, "jit: %s changed its shape or dtype during the call", origins[k->from]);
      v = t->v;
      if (!v->data) return nni_fail(&ctx->core.err, NN_ELOST, "an argument's value is lost: the run that would have computed it failed");
    }
    v->refs++;
    v->ext += k->held;
    j->value[i] = v;
  }
  return NN_OK;
}

static void unload(nn_jit *j) {
  for (int i = 0; i < j->nslot; i++) {
    if (!j->value[i]) continue;
    j->value[i]->ext -= j->slot[i].held;
    nni_value_release(j->ctx, j->value[i]);
    j->value[i] = NULL;
  }
}

static nn_status prepare_effects(nn_jit *j, nni_jsegment *s, nn_tensor **const *at) {
  for (int i = 0; i < s->neffect; i++) {
    nni_jeffect *e = &s->effect[i];
    e->next = e->old = NULL;
    if (e->slot < 0) continue;
    e->next = nni_tensor_over(j->ctx, j->value[e->slot], &e->l);
    if (!e->next) return NN_ENOMEM;
    e->next->requires_grad = !e->grad && e->requires_grad;
  }
  for (int i = 0; i < s->neffect; i++) {
    nni_jeffect *e = &s->effect[i];
    if (e->grad) continue;
    e->old = nni_window_retain(*at[e->handle]); /* let go of, so that its buffer can be taken over */
    nn_release(*at[e->handle]);
  }
  return NN_OK;
}

static void apply_effects(nni_jsegment *s, nn_tensor **const *at, bool ok) {
  for (int i = 0; i < s->neffect; i++) {
    nni_jeffect *e = &s->effect[i];
    nn_tensor **h = at[e->handle];
    if (!ok) {
      if (e->old) nn_retain(e->old), nni_window_release(e->old);
      nn_release(e->next);
    } else if (e->grad) {
      nn_set_grad(*h, e->next);
      nn_release(e->next);
    } else {
      e->next->grad = nn_retain(e->old->grad);
      *h = e->next;
      nni_window_release(e->old);
    }
    e->next = e->old = NULL;
  }
}

static nn_status compute(nn_jit *j, nni_jsegment *s) {
  nn_context *ctx = j->ctx;
  nni_plan *p = s->plan;
  if (!p) return NN_OK;
  nni_value *in[s->nin + 1], *out[p->nout + 1];
  int unit;
  for (int i = 0; i < s->nin; i++) in[i] = j->value[s->in[i]];
  for (int o = 0; o < p->nout; o++) out[o] = j->value[s->out[o]];
  for (int i = 0; i < s->ndraw; i++) {
    s->param[s->draw[i].param].u = ctx->rng.seed;
    s->param[s->draw[i].param + 1].u = ctx->rng.position + s->draw[i].offset;
  }
  ctx->running = true;
  nn_status st = nni_run_on(ctx, p, in, s->nin, out, s->param, &unit);
  ctx->running = false;
  ctx->info.runs++;
  ctx->info.plan_hits++;
  nni_arena_reset(&ctx->win.arena);
  return unit >= 0 && s->by[unit] ? nni_fail(&ctx->core.err, st, "%s: %s", s->by[unit], ctx->core.err.text) : st;
}

static nn_status make_results(nn_jit *j, nn_tensor **out) {
  for (int i = 0; i < j->nresult; i++) {
    out[i] = nni_tensor_over(j->ctx, j->value[j->result[i].slot], &j->result[i].l);
    if (!out[i]) return NN_ENOMEM;
  }
  return NN_OK;
}

nn_status nn_jit_replay(nn_jit *j, nn_tensor **const *at, nn_jit_call host, void *ud, nn_tensor **out) {
  nn_context *ctx = j->ctx;
  nn_status st = NN_OK;
  j->nset = 0;
  for (int i = 0; i < j->nresult; i++) out[i] = NULL;
  for (int i = 0, call = 0, asked = 0; i < j->nsegment && st == NN_OK; i++) {
    nni_jsegment *s = &j->segment[i];
    while (st == NN_OK && asked < j->nrenews && j->renews[asked] == i) st = host(ud, -1 - asked++);
    if (st == NN_OK && ctx->win.n) st = nni_run(ctx);
    if (st == NN_OK) st = load(j, s, at);
    if (st == NN_OK && i == j->nsegment - 1) st = make_results(j, out);
    bool prepared = st == NN_OK;
    if (prepared) st = prepare_effects(j, s, at);
    if (st == NN_OK) st = compute(j, s);
    if (prepared) apply_effects(s, at, st == NN_OK);
    if (st == NN_OK) ctx->rng.position += s->drawn;
    if (st == NN_OK && s->host) st = host(ud, call++);
  }
  unload(j);
  for (int i = 0; st != NN_OK && i < j->nresult; i++) {
    nn_release(out[i]);
    out[i] = NULL;
  }
  return st;
}
