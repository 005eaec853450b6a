/* graph/jit.c - recordings of a function: the plans of the windows that it ran, and what it did to tensors, to be done again on other values. Here they are
** made; jit_replay.c compares and replays them.
**
** The caller tells which handles (places that hold a tensor, in Lua the userdata) the function uses; everything else follows from values. Each window
** that runs while a recording is on becomes a segment: a plan of its own, made for exactly what is visible after a full collection, and where its
** inputs come from: the present value or gradient of a handle, a result of an earlier segment, or a constant. After a segment the handles are
** compared with what they held before it; what differs is an effect. Draws keep their place relative to the stream's position, so that a replay draws
** what a call would have drawn.
**
** Numbers that the host computes (a learning rate, the count of steps) are parameters in the plan and can't be told from constants. Hence: two
** recordings that differ in one are no match (nn_jit_differs), and what is known to compute such numbers runs by itself: between segments
** (nn_jit_host), or, when only numbers differ from call to call, before the segment that uses them (nn_jit_renewal).
**
** Invariant: a slot stands for one value; while recording it holds a reference, afterwards only a constant does. Handles are held by the caller.
*/
#include <stdio.h>
#include "jit.h"
#include "trace.h"

static bool grow(nn_jit *j, void *pp, int *cap, int need, size_t elem) {
  void **p = pp;
  if (need <= *cap) return true;
  int n = *cap ? 2 * *cap : 16;
  void *q = nni_realloc(j->ctx->core.mem, *p, (size_t)*cap * elem, (size_t)n * elem);
  if (!q) return false;
  *p = q;
  *cap = n;
  return true;
}

/* the first reason counts */
static void refuse(nn_jit *j, const char *fmt, ...) NNI_PRINTF(2, 3);
static void refuse(nn_jit *j, const char *fmt, ...) {
  if (j->refused) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(j->why, sizeof j->why, fmt, ap);
  va_end(ap);
  j->refused = true;
}

/* ---- recording --------------------------------------------------------------------------------------------------------- */
bool nn_jit_recording(const nn_context *ctx) { return ctx->jit && !ctx->jit->suspended; }

const char *nn_jit_blocked(const nn_context *ctx) {
  if (ctx->jit) return "it is called by a function that is being recorded";
  if (ctx->running) return "a run is going on";
  if (ctx->eager) return "eager mode is on";
  if (ctx->check_finite) return "every call is checked for NaN";
  if (nni_trace_on(ctx)) return "nn.graph or nn.profile looks on";
  return NULL;
}

nn_status nn_jit_start(nn_context *ctx, nn_jit **out) {
  *out = NULL;
  nn_status st = nni_run(ctx);
  if (st != NN_OK) return st;
  nn_jit *j = nni_calloc(ctx->core.mem, sizeof *j);
  if (!j) return nni_fail(&ctx->core.err, NN_ENOMEM, "jit: out of memory");
  j->ctx = ctx;
  j->rng = ctx->rng;
  *out = ctx->jit = j;
  return NN_OK;
}

static void snapshot(nni_jhandle *h) {
  h->t = nni_window_retain(*h->at);
  h->grad = h->t->grad ? nni_window_retain(h->t->grad) : NULL;
}

static void forget(nni_jhandle *h) {
  if (h->t) nni_window_release(h->t);
  if (h->grad) nni_window_release(h->grad);
  h->t = h->grad = NULL;
}

static int first_like(const nn_jit *j, const nni_value *v) {
  for (int i = 0; i < j->nhandle; i++) {
    if (j->handle[i].first == v) return 2 * i;
    if (j->handle[i].first_grad == v) return 2 * i + 1;
  }
  return -1;
}

int nn_jit_touch(nn_context *ctx, nn_tensor **at) {
  nn_jit *j = ctx->jit;
  if (!grow(j, &j->handle, &j->caphandle, j->nhandle + 1, sizeof *j->handle)) {
    refuse(j, "out of memory");
    return -1;
  }
  int k = j->nhandle;
  nni_jhandle *h = &j->handle[k];
  nn_tensor *t = *at;
  *h = (nni_jhandle){.at = at, .value = nni_jit_form(t), .requires_grad = t->requires_grad, .has_grad = t->grad != NULL};
  if (t->tape) refuse(j, "it uses a tensor with a history that was recorded outside of it; give it x:detach()");
  if (t->grad) h->gradient = nni_jit_form(t->grad);
  int like = first_like(j, t->v), glike = t->grad ? first_like(j, t->grad->v) : -1;
  h->same_value = like >= 0 ? like : 2 * k;
  h->same_grad = glike >= 0 ? glike : t->grad && t->grad->v == t->v ? 2 * k : 2 * k + 1;
  h->first = t->v, t->v->refs++;
  if (t->grad) h->first_grad = t->grad->v, t->grad->v->refs++;
  snapshot(h);
  return j->nhandle++;
}

static int add_slot(nn_jit *j, nni_jslot s) {
  if (!grow(j, &j->slot, &j->capslot, j->nslot + 1, sizeof *j->slot)) {
    refuse(j, "out of memory");
    return -1;
  }
  s.v->refs++;
  if (s.from == NNI_J_CONSTANT) s.v->ext++; /* nobody may take its buffer over */
  s.dtype = s.v->dtype;
  s.dev = s.v->dev;
  s.numel = s.v->numel;
  j->slot[j->nslot] = s;
  return j->nslot++;
}

/* where v comes from, as seen from the segment that is being closed */
static int slot_of(nn_jit *j, nni_value *v) {
  for (int i = 0; i < j->nslot; i++)
    if (j->slot[i].v == v) return i;
  for (int i = 0; i < j->nhandle; i++) {
    const nni_jhandle *h = &j->handle[i];
    if (h->t->v == v) return add_slot(j, (nni_jslot){.from = NNI_J_HANDLE, .handle = i, .v = v, .l = h->t->l});
    if (h->grad && h->grad->v == v) return add_slot(j, (nni_jslot){.from = NNI_J_GRAD, .handle = i, .v = v, .l = h->grad->l});
  }
  return add_slot(j, (nni_jslot){.from = NNI_J_CONSTANT, .v = v});
}

static bool known(const nn_jit *j, const nni_value *v) {
  for (int i = 0; i < j->nslot; i++)
    if (j->slot[i].v == v) return j->slot[i].from != NNI_J_CONSTANT;
  for (int i = 0; i < j->nhandle; i++)
    if (j->handle[i].t->v == v || (j->handle[i].grad && j->handle[i].grad->v == v)) return true;
  return false;
}

/* A constant that the function made itself may be read: it is the same each time, or the second recording tells. */
void nni_jit_read(nn_context *ctx, const nn_tensor *t) {
  nn_jit *j = ctx->jit;
  if (j->suspended || j->refused || (t->v->data && !known(j, t->v))) return;
  char s[150];
  nn_shape_text(t, s, sizeof s);
  refuse(j, "it reads a value while it runs (%s%s of shape %s), which what follows may depend on",
         ctx->core.caller ? ctx->core.caller : "item, print or the like", ctx->core.caller ? ", on a tensor" : "", s);
}

static void *block(nn_jit *j, int n, size_t elem) {
  void *p = nni_calloc(j->ctx->core.mem, (size_t)(n + 1) * elem);
  if (!p) refuse(j, "out of memory");
  return p;
}

static nni_jsegment *new_segment(nn_jit *j) {
  if (!grow(j, &j->segment, &j->capsegment, j->nsegment + 1, sizeof *j->segment)) {
    refuse(j, "out of memory");
    return NULL;
  }
  nni_jsegment *s = &j->segment[j->nsegment++];
  *s = (nni_jsegment){.slot0 = j->nslot};
  return s;
}

static void note_params(nn_jit *j, nni_jsegment *s) {
  const nni_window *w = &j->ctx->win;
  s->nparam = w->nparam;
  s->param = block(j, s->nparam, sizeof *s->param);
  s->who = block(j, s->nparam, sizeof *s->who);
  s->line = block(j, s->nparam, sizeof *s->line);
  s->draw = block(j, w->n, sizeof *s->draw);
  if (!s->param || !s->who || !s->line || !s->draw) return;
  for (int i = 0; i < w->n; i++) {
    const nni_node *n = w->node[i];
    for (int k = 0; k < n->npa; k++) {
      s->param[n->param + k] = n->pa[k];
      s->who[n->param + k] = n->by ? n->by : nni_node_name(n);
      s->line[n->param + k] = n->line;
    }
    if (n->kind != NNI_N_RANDOM) continue;
    if (n->pa[0].u != j->rng.seed) refuse(j, "it sets the seed");
    s->draw[s->ndraw++] = (nni_jdraw){n->param, n->pa[1].u - j->rng.position};
    s->param[n->param + 1].u = 0;
  }
  for (int i = 0; i < j->nrenewal; i++) /* no two recordings have the same */
    if (j->renewal[i].segment == j->nsegment - 1) memset(s->param + j->renewal[i].param, 0, sizeof *s->param * (size_t)j->renewal[i].n);
}

void nn_jit_renewal(nn_context *ctx) {
  nn_jit *j = ctx->jit;
  if (!nn_jit_recording(ctx) || j->refused) return;
  if (grow(j, &j->renews, &j->caprenews, j->nrenews + 1, sizeof *j->renews)) j->renews[j->nrenews++] = j->nsegment;
  else refuse(j, "out of memory");
}

void nni_renewed(nn_context *ctx, const double *num, int n) {
  nn_jit *j = ctx->jit;
  const nni_window *w = &ctx->win;
  if (!nn_jit_recording(ctx) || j->refused) return;
  if (j->nrenews == 0) {
    refuse(j, "it takes a step of an optimizer that can't tell its numbers to a replay");
    return;
  }
  if (n == 0) {
    j->nset++;
    return;
  }
  int k = n;
  for (int i = w->n - 1; i >= 0 && k > 0; i--)
    for (int q = w->node[i]->npa - 1; q >= 0 && k > 0; q--)
      if (w->node[i]->pa[q].f != num[--k]) k = -1;
  if (k != 0) refuse(j, "a step of an optimizer was recorded in another order");
  else if (!grow(j, &j->renewal, &j->caprenewal, j->nrenewal + 1, sizeof *j->renewal)) refuse(j, "out of memory");
  else j->renewal[j->nrenewal++] = (nni_jrenewal){j->nset - 1, j->nsegment, w->nparam - n, n};
}

nn_status nn_jit_renew(nn_jit *j, const double *num, int n) {
  int set = j->nset++;
  for (int i = 0; i < j->nrenewal; i++) {
    const nni_jrenewal *r = &j->renewal[i];
    if (r->set != set) continue;
    if (r->n != n) return nni_fail(&j->ctx->core.err, NN_EINTERNAL, "jit: an optimizer step has %d numbers, %d were recorded", n, r->n);
    for (int k = 0; k < n; k++) j->segment[r->segment].param[r->param + k].f = num[k];
  }
  return NN_OK;
}

static void note_plan(nn_jit *j, nni_jsegment *s) {
  nn_context *ctx = j->ctx;
  nni_window *w = &ctx->win;
  int nv = 0;
  for (int i = 0; i < w->n; i++) nv += w->node[i]->nout;
  uint64_t *vis = block(j, (nv + 63) / 64, sizeof *vis);
  if (!vis) return;
  for (int i = 0, v = 0; i < w->n; i++)
    for (int k = 0; k < w->node[i]->nout; k++, v++)
      if (w->node[i]->out[k]->ext > 0) vis[v >> 6] |= (uint64_t)1 << (v & 63);
  nni_plan *p = s->plan = nni_plan_new(ctx, 0, vis, nv);
  nni_free(ctx->core.mem, vis, (size_t)((nv + 63) / 64 + 1) * sizeof *vis);
  if (!p) {
    refuse(j, "out of memory");
    return;
  }
  s->nin = w->ninput;
  s->in = block(j, s->nin, sizeof *s->in);
  s->out = block(j, p->nout, sizeof *s->out);
  s->by = block(j, p->nunit, sizeof *s->by);
  if (!s->in || !s->out || !s->by) return;
  for (int i = 0; i < w->ninput; i++) s->in[i] = slot_of(j, w->input[i]);
  for (int o = 0; o < p->nout; o++) s->out[o] = add_slot(j, (nni_jslot){.from = NNI_J_RUN, .v = w->node[p->output[o].node]->out[p->output[o].out]});
  for (int u = 0; u < p->nunit; u++) s->by[u] = w->node[p->unit[u].first]->by;
  note_params(j, s);
}

static void add_effect(nn_jit *j, nni_jsegment *s, nni_jeffect e) {
  if (!grow(j, &s->effect, &s->capeffect, s->neffect + 1, sizeof *s->effect)) refuse(j, "out of memory");
  else s->effect[s->neffect++] = e;
}

static void note_effects(nn_jit *j, nni_jsegment *s) {
  for (int i = 0; i < j->nhandle && !j->refused; i++) {
    nni_jhandle *h = &j->handle[i];
    nn_tensor *t = *h->at;
    if (!t) {
      refuse(j, "it frees a tensor that it did not make");
      return;
    }
    if (t->tape) refuse(j, "it leaves a tensor that was there before with a history (x[...] = of a result that has a gradient); assign y:detach()");
    if (t != h->t && (t->v != h->t->v || !nni_jit_same_layout(&t->l, &h->t->l) || t->requires_grad != h->t->requires_grad))
      add_effect(j, s, (nni_jeffect){.handle = i, .slot = slot_of(j, t->v), .requires_grad = t->requires_grad, .l = t->l});
    if (t->grad != h->grad)
      add_effect(j, s, (nni_jeffect){.handle = i, .grad = true, .slot = t->grad ? slot_of(j, t->grad->v) : -1, .l = t->grad ? t->grad->l : t->l});
  }
}

/* All that was recorded since the last segment becomes one. */
static void close_segment(nn_jit *j, bool host) {
  nn_context *ctx = j->ctx;
  if (j->refused) return;
  if (ctx->rng.seed != j->rng.seed || ctx->rng.position < j->rng.position) refuse(j, "it sets the seed or the position of the random stream");
  nni_jsegment *s = new_segment(j);
  if (!s) return;
  if (ctx->win.n) note_plan(j, s);
  note_effects(j, s);
  s = &j->segment[j->nsegment - 1];
  s->slot1 = j->nslot;
  s->drawn = ctx->rng.position - j->rng.position;
  s->host = host;
}

/* the next segment starts from what the handles hold now */
static void next_segment(nn_jit *j) {
  j->rng = j->ctx->rng;
  for (int i = 0; i < j->nhandle && !j->refused; i++) {
    forget(&j->handle[i]);
    if (*j->handle[i].at) snapshot(&j->handle[i]);
    else refuse(j, "it frees a tensor that it did not make");
  }
}

/* Tensors that only the window's nodes hold can't be differentiated any more: without their history, what it saved is no result. */
static void forget_histories(nni_window *w, nn_context *ctx) {
  for (bool again = true; again;) {
    again = false;
    for (int i = w->n - 1; i >= 0; i--)
      for (int k = 0; k < w->node[i]->nin; k++) {
        nn_tensor *t = w->node[i]->in[k];
        if (!t || !t->tape || t->refs > t->wrefs) continue;
        nni_tape *tape = t->tape;
        t->tape = NULL;
        nni_tape_release(ctx, tape);
        again = true;
      }
  }
}

void nni_jit_window(nn_context *ctx) {
  nn_jit *j = ctx->jit;
  if (!nn_jit_recording(ctx) || j->refused) return;
  if (ctx->hooks.collect) ctx->hooks.collect(ctx->hooks.ud, 1); /* what is dead shall not look like a result */
  forget_histories(&ctx->win, ctx);
  close_segment(j, false);
  next_segment(j);
}

nn_status nn_jit_host(nn_context *ctx, bool begin) {
  nn_jit *j = ctx->jit;
  if (!begin) {
    j->suspended--;
    if (!j->suspended) next_segment(j);
    return NN_OK;
  }
  if (!j->suspended) {
    nn_status st = nni_run(ctx);
    if (st != NN_OK) return st;
    close_segment(j, true);
  }
  j->suspended++;
  return NN_OK;
}

/* references that a replay renews */
static int renewed(const nn_jit *j, const nni_value *v, nn_tensor *const *t, int n) {
  int refs = 0;
  for (int i = 0; i < n; i++) refs += t[i]->v == v;
  for (int i = 0; i < j->nhandle; i++) {
    const nn_tensor *h = *j->handle[i].at;
    refs += (h->v == v) + (h->grad && h->grad->v == v);
  }
  return refs;
}

/* What somebody holds besides was put where no replay puts another. */
static void find_escaped(nn_jit *j, nn_tensor *const *t, int n) {
  if (j->ctx->hooks.collect) j->ctx->hooks.collect(j->ctx->hooks.ud, 1);
  for (int i = 0; i < j->nslot; i++) {
    const nni_value *v = j->slot[i].v;
    if (j->slot[i].from == NNI_J_RUN && v->ext > renewed(j, v, t, n)) {
      refuse(j, "it keeps a tensor of %lld elements that it made in a variable or a table; return it only, or assign it to a tensor that is "
             "there before (x:assign)", (long long)v->numel);
      return;
    }
  }
}

static void mark_held(nn_jit *j) {
  for (int i = 0; i < j->nresult; i++)
    if (j->result[i].slot >= 0) j->slot[j->result[i].slot].held = true;
  for (int i = 0; i < j->nslot; i++)
    if (j->slot[i].from == NNI_J_RUN) j->slot[i].held = true;
  for (int i = 0; i < j->nsegment; i++)
    for (int k = 0; k < j->segment[i].nin; k++)
      if (j->segment[i].in[k] < j->segment[i].slot0) j->slot[j->segment[i].in[k]].held = true;
}

static void stop(nn_jit *j) {
  nn_context *ctx = j->ctx;
  if (ctx->jit == j) ctx->jit = NULL;
  for (int i = 0; i < j->nhandle; i++) {
    nni_jhandle *h = &j->handle[i];
    forget(h);
    h->at = NULL;
    if (h->first) nni_value_release(ctx, h->first);
    if (h->first_grad) nni_value_release(ctx, h->first_grad);
    h->first = h->first_grad = NULL;
  }
  for (int i = 0; i < j->nslot; i++) {
    nni_jslot *s = &j->slot[i];
    if (!s->v) continue;
    if (s->from != NNI_J_CONSTANT) nni_value_release(ctx, s->v), s->v = NULL;
  }
}

nn_status nn_jit_finish(nn_jit *j, nn_tensor *const *t, int n, const char **why) {
  nn_context *ctx = j->ctx;
  *why = NULL;
  nn_status st = NN_OK;
  if (ctx->win.n) st = nni_run(ctx); /* what is pending becomes the last segment */
  else close_segment(j, false);
  if (st != NN_OK) refuse(j, "a run failed");
  j->result = block(j, n, sizeof *j->result);
  j->nresult = j->result ? n : 0;
  for (int i = 0; i < j->nresult && !j->refused; i++) j->result[i] = (nni_jresult){slot_of(j, t[i]->v), t[i]->l};
  if (!j->refused) j->segment[j->nsegment - 1].slot1 = j->nslot, find_escaped(j, t, n), mark_held(j);
  j->value = block(j, j->nslot, sizeof *j->value);
  stop(j);
  if (j->refused) *why = j->why;
  return st;
}

void nn_jit_free(nn_jit *j) {
  if (!j) return;
  nn_context *ctx = j->ctx;
  nni_memory *m = ctx->core.mem;
  if (ctx->jit == j) j->refused = true, stop(j);
  for (int i = 0; i < j->nslot; i++)
    if (j->slot[i].v) j->slot[i].v->ext--, nni_value_release(ctx, j->slot[i].v);
  for (int i = 0; i < j->nsegment; i++) {
    nni_jsegment *s = &j->segment[i];
    int nunit = s->plan ? s->plan->nunit : 0, nout = s->plan ? s->plan->nout : 0, nnode = s->plan ? s->plan->nnode : 0;
    nni_free(m, s->by, (size_t)(nunit + 1) * sizeof *s->by);
    nni_free(m, s->in, (size_t)(s->nin + 1) * sizeof *s->in);
    nni_free(m, s->out, (size_t)(nout + 1) * sizeof *s->out);
    nni_free(m, s->param, (size_t)(s->nparam + 1) * sizeof *s->param);
    nni_free(m, s->who, (size_t)(s->nparam + 1) * sizeof *s->who);
    nni_free(m, s->line, (size_t)(s->nparam + 1) * sizeof *s->line);
    nni_free(m, s->draw, (size_t)(nnode + 1) * sizeof *s->draw);
    nni_free(m, s->effect, (size_t)s->capeffect * sizeof *s->effect);
    if (s->plan) nni_plan_free(ctx, s->plan);
  }
  nni_free(m, j->segment, (size_t)j->capsegment * sizeof *j->segment);
  nni_free(m, j->slot, (size_t)j->capslot * sizeof *j->slot);
  nni_free(m, j->handle, (size_t)j->caphandle * sizeof *j->handle);
  nni_free(m, j->renewal, (size_t)j->caprenewal * sizeof *j->renewal);
  nni_free(m, j->renews, (size_t)j->caprenews * sizeof *j->renews);
  nni_free(m, j->result, (size_t)(j->nresult + 1) * sizeof *j->result);
  nni_free(m, j->value, (size_t)(j->nslot + 1) * sizeof *j->value);
  nni_free(m, j, sizeof *j);
}

int nn_jit_handles(const nn_jit *j) { return j->nhandle; }
void nn_jit_refuse(nn_context *ctx, const char *why) {
  if (ctx->jit) refuse(ctx->jit, "%s", why);
}
