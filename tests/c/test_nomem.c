/* tests/c/test_nomem.c - every allocation of the runtime may fail: a training step is run with its N-th request refused, for every N.
**
** Two modes: only the N-th request fails; the N-th and all later ones fail. After a failure: a status and a message; parameters and
** optimizer state are, to the bit, what they were before the step (or after it, when it was over); the same step run again gives the bits
** of an undisturbed one; closing leaves nothing alive.
*/
#include <string.h>
#include "nomem.h"
#include "tensor/tensor.h"

static int failures;
#define MAXFAIL 20 /* lines of complaint */

/* ---- a model: parameters, Adam's two moments of each, and statistics that are assigned ---- */
typedef struct model {
  nn_context *ctx;
  int nparam, nstat, ntmp;
  nn_tensor *p[10], *m[10], *v[10], *stat[4], *fresh[4]; /* fresh: takes the place of stat when the step is over */
  nn_tensor *tmp[160];
  int64_t step;
} model;

/* m takes over t */
static nn_tensor *hold(model *m, nn_tensor *t) {
  if (t) m->tmp[m->ntmp++] = t;
  return t;
}
#define DO(...) hold(m, nn_call(m->ctx, __VA_ARGS__))

static void add_param(model *m, int ndim, const int64_t *shape, double std) {
  nn_tensor *w = nn_call(m->ctx, "normal", NN_INTS(ndim, shape), NN_F(0), NN_F(std));
  m->p[m->nparam] = nn_variable(w);
  m->m[m->nparam] = nn_tensor_new(m->ctx, NN_F32, ndim, shape, NULL);
  m->v[m->nparam++] = nn_tensor_new(m->ctx, NN_F32, ndim, shape, NULL);
  nn_release(w);
}

static void add_stat(model *m, int64_t n, double value) { m->stat[m->nstat++] = nn_call(m->ctx, "full", NN_INTS(1, &n), NN_F(value)); }

static nn_tensor *input(model *m, int ndim, const int64_t *shape) {
  float x[1024];
  int64_t n = 1;
  for (int i = 0; i < ndim; i++) n *= shape[i];
  for (int64_t i = 0; i < n; i++) x[i] = (float)((i * 37 + 11) % 101) / 50 - 1;
  return hold(m, nn_tensor_new(m->ctx, NN_F32, ndim, shape, x));
}

static nn_tensor *labels(model *m, int64_t n) {
  int64_t y[16];
  for (int64_t i = 0; i < n; i++) y[i] = i * 3 % 4;
  return hold(m, nn_tensor_new(m->ctx, NN_I64, 1, &n, y));
}

static nn_tensor *mean_loss(model *m, nn_tensor *logits, int64_t n) {
  return DO("mean", NN_T(DO("softmax_cross_entropy", NN_T(logits), NN_T(labels(m, n)))));
}

/* ---- mlp: 5 - 7 - 4, dropout ---- */
static void mlp_init(model *m) {
  add_param(m, 2, (int64_t[]){5, 7}, 0.5);
  add_param(m, 1, (int64_t[]){7}, 0.1);
  add_param(m, 2, (int64_t[]){7, 4}, 0.5);
  add_param(m, 1, (int64_t[]){4}, 0.1);
}

static nn_tensor *mlp_loss(model *m) {
  nn_tensor *x = input(m, 2, (int64_t[]){6, 5});
  nn_tensor *h = DO("leaky_relu", NN_T(DO("linear", NN_T(x), NN_T(m->p[0]), NN_T(m->p[1]))), NN_F(0.1));
  h = DO("dropout", NN_T(h), NN_F(0.3));
  return mean_loss(m, DO("linear", NN_T(h), NN_T(m->p[2]), NN_T(m->p[3])), 6);
}

/* ---- cnn: conv, batch normalisation with running statistics, pool, dropout, strided conv, linear ---- */
static void cnn_init(model *m) {
  add_param(m, 4, (int64_t[]){3, 3, 1, 4}, 0.5);
  add_param(m, 1, (int64_t[]){4}, 0.1); /* gamma */
  add_param(m, 1, (int64_t[]){4}, 0.1); /* beta */
  add_param(m, 4, (int64_t[]){3, 3, 4, 3}, 0.3);
  add_param(m, 1, (int64_t[]){3}, 0.1);
  add_param(m, 2, (int64_t[]){12, 4}, 0.3);
  add_param(m, 1, (int64_t[]){4}, 0.1);
  add_stat(m, 4, 0);
  add_stat(m, 4, 1);
}

/* moving = 0.9 moving + 0.1 batch */
static bool follow(model *m, int k, nn_tensor *batch) {
  nn_tensor *now = batch ? hold(m, nn_detach(batch)) : NULL;
  nn_tensor *next = DO("add", NN_T(DO("mul", NN_T(m->stat[k]), NN_F(0.9))), NN_T(DO("mul", NN_T(now), NN_F(0.1))));
  m->fresh[k] = next ? nn_assign(m->stat[k], next) : NULL;
  return m->fresh[k] != NULL;
}

static nn_tensor *batch_norm(model *m, nn_tensor *x, nn_tensor *gamma, nn_tensor *beta) {
  static const int64_t dims[] = {0, 1, 2};
  nn_tensor *mean = DO("mean", NN_T(x), NN_INTS(3, dims)), *centred = DO("sub", NN_T(x), NN_T(mean));
  nn_tensor *var = DO("mean", NN_T(DO("square", NN_T(centred))), NN_INTS(3, dims));
  if (!follow(m, 0, mean) || !follow(m, 1, var)) return NULL;
  nn_tensor *y = DO("mul", NN_T(centred), NN_T(DO("rsqrt", NN_T(DO("add", NN_T(var), NN_F(1e-3))))));
  return DO("add", NN_T(DO("mul", NN_T(y), NN_T(gamma))), NN_T(beta));
}

static nn_tensor *cnn_loss(model *m) {
  nn_tensor *x = input(m, 4, (int64_t[]){3, 8, 8, 1});
  nn_tensor *h = batch_norm(m, DO("conv2d", NN_T(x), NN_T(m->p[0]), NN_NONE, NN_I(1), NN_TEXT("same")), m->p[1], m->p[2]);
  h = DO("dropout", NN_T(DO("max_pool2d", NN_T(DO("relu", NN_T(h))), NN_I(2))), NN_F(0.25));
  h = DO("relu", NN_T(DO("conv2d", NN_T(h), NN_T(m->p[3]), NN_T(m->p[4]), NN_I(2), NN_TEXT("same"))));
  return mean_loss(m, DO("linear", NN_T(DO("flatten", NN_T(h), NN_I(1))), NN_T(m->p[5]), NN_T(m->p[6])), 3);
}

/* ---- odds and ends: views, joins, gathers, scans of several dims, and a gradient of a gradient ---- */
static void odd_init(model *m) {
  add_param(m, 2, (int64_t[]){6, 4}, 0.5);
  add_param(m, 2, (int64_t[]){4, 4}, 0.5);
}

static nn_tensor *odd_loss(model *m) {
  int64_t n = 3, ids[] = {4, 0, 4}, start[] = {0, 1}, size[] = {3, 2}, one[] = {1, 1}, dims[] = {1, 0}, shape[] = {2, 6};
  nn_tensor *rows = DO("index_select", NN_T(m->p[0]), NN_I(0), NN_T(hold(m, nn_tensor_new(m->ctx, NN_I64, 1, &n, ids))));
  nn_tensor *box = DO("slice", NN_T(rows), NN_INTS(2, start), NN_INTS(2, size), NN_INTS(2, one));
  nn_tensor *set = DO("slice_set", NN_T(rows), NN_T(DO("exp", NN_T(box))), NN_INTS(2, start), NN_INTS(2, size), NN_INTS(2, one));
  nn_tensor *prod = DO("matmul", NN_T(set), NN_T(DO("permute", NN_T(m->p[1]), NN_INTS(2, dims)))); /* 3x4 */
  if (!prod || !rows) return NULL;
  nn_tensor *cat = DO("cat", NN_TENSORS(2, ((nn_tensor *[]){prod, rows})), NN_I(1)); /* 3x8 */
  nn_tensor *parts[] = {DO("amax", NN_T(cat), NN_I(0)), DO("logsumexp", NN_T(cat), NN_I(0)), DO("var", NN_T(cat), NN_I(0)),
                        DO("prod", NN_T(DO("clamp", NN_T(cat), NN_F(-1), NN_F(1))), NN_I(0))};
  for (int i = 0; i < 4; i++)
    if (!parts[i]) return NULL;
  nn_tensor *all =
      DO("softmax", NN_T(DO("reshape",
                            NN_T(DO("contiguous", NN_T(DO("transpose", NN_T(DO("slice", NN_T(DO("stack", NN_TENSORS(4, parts))), NN_INTS(2, start),
                                                                               NN_INTS(2, ((int64_t[]){3, 4})), NN_INTS(2, one))))))),
                            NN_INTS(2, shape))));
  nn_tensor *inner = DO("sum", NN_T(DO("pow", NN_T(all), NN_F(1.5)))), *g = NULL;
  if (!inner || nn_grad(&inner, NULL, 1, &m->p[1], 1, true, true, &g) != NN_OK) return NULL;
  hold(m, g);
  return DO("add", NN_T(DO("sum", NN_T(DO("square", NN_T(g))))), NN_T(inner));
}

/* ---- one training step ---- */
static nn_status message_of(model *m) { /* a call gave NULL */
  const nni_error *e = nni_error_of(m->ctx);
  return e->status == NN_OK ? NN_EINTERNAL : e->status;
}

static nn_status step(model *m, nn_tensor *(*loss_of)(model *), float *loss) {
  nn_seed(m->ctx, 7);
  nn_tensor *l = loss_of(m);
  nn_status st = l ? nn_backward(l, NULL, false, false) : message_of(m);
  l = nn_retain(l);
  while (m->ntmp > 0) nn_release(m->tmp[--m->ntmp]);
  nn_adam adam = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = m->step + 1};
  if (st == NN_OK) st = nn_adam_step(m->ctx, &adam, m->nparam, m->p, m->m, m->v);
  for (int k = 0; k < m->nstat; k++) {
    nn_tensor *gone = st == NN_OK ? m->stat[k] : m->fresh[k];
    if (st == NN_OK) m->stat[k] = m->fresh[k];
    m->fresh[k] = NULL;
    nn_release(gone);
  }
  double value = 0;
  if (st == NN_OK) st = nn_item(l, &value, NULL);
  nn_release(l);
  for (int i = 0; i < m->nparam; i++) nn_set_grad(m->p[i], NULL);
  *loss = (float)value;
  if (st == NN_OK) m->step++;
  return st;
}

/* ---- what a step changes, as bytes ---- */
typedef struct bits {
  size_t n;
  char at[8192];
} bits;

static bool snap_one(bits *b, nn_tensor *t) {
  size_t n = (size_t)nn_numel(t) * nn_dtype_size(nn_dtype_of(t));
  bool ok = b->n + n <= sizeof b->at && nn_read(t, b->at + b->n, n) == NN_OK;
  b->n += n;
  return ok;
}

static bool snap(model *m, bits *b) {
  bool ok = true;
  b->n = 0;
  for (int i = 0; i < m->nparam; i++) ok = snap_one(b, m->p[i]) && snap_one(b, m->m[i]) && snap_one(b, m->v[i]) && ok;
  for (int i = 0; i < m->nstat; i++) ok = snap_one(b, m->stat[i]) && ok;
  return ok;
}

static bool same(const bits *a, const bits *b) { return a->n == b->n && memcmp(a->at, b->at, a->n) == 0; }

/* ---- the sweep ---- */
typedef struct job {
  const char *name;
  void (*init)(model *);
  nn_tensor *(*loss)(model *);
  int threads;
  int warm; /* undisturbed steps before: the plan is cached then */
  bool eager;
} job;

static nn_status model_open(const job *j, nomem *h, model *m) {
  float loss;
  *m = (model){0};
  nn_status st = nn_open(&(nn_options){.alloc = nomem_alloc, .alloc_ud = h, .threads = j->threads, .seed = 1}, &m->ctx);
  if (st != NN_OK) return st;
  nn_set_eager(m->ctx, j->eager);
  j->init(m);
  for (int i = 0; i < j->warm && st == NN_OK; i++) st = step(m, j->loss, &loss);
  return st == NN_OK ? nn_eval(m->ctx) : st;
}

static void model_close(model *m) {
  for (int i = 0; i < m->nparam; i++) nn_release(m->p[i]), nn_release(m->m[i]), nn_release(m->v[i]);
  for (int i = 0; i < m->nstat; i++) nn_release(m->stat[i]);
  nn_close(m->ctx);
}

static bool complain(const job *j, nomem_mode mode, long long at, const char *what, const char *more) {
  if (++failures <= MAXFAIL)
    fprintf(stderr, "%s, %s request %lld: %s%s%s\n", j->name, mode == NOMEM_ONCE ? "failing" : "failing from", at, what, more[0] ? ": " : "", more);
  return false;
}

typedef struct tally {
  long long requests, failed, finished;
} tally; /* finished: the step was over although a request had failed */

/* One disturbed step in a fresh context; false when the N-th request was never made. */
static bool disturb(const job *j, nomem_mode mode, long long at, const bits *before, const bits *after, float want, tally *t) {
  nomem h = {0};
  model m;
  bits now;
  float loss = 0;
  if (model_open(j, &h, &m) != NN_OK) return complain(j, mode, at, "cannot open", m.ctx ? nn_error(m.ctx) : "");
  *nni_error_of(m.ctx) = (nni_error){0};
  nomem_arm(&h, mode, at);
  nn_status st = step(&m, j->loss, &loss);
  bool reached = h.calls >= at;
  nomem_arm(&h, NOMEM_NEVER, 0);
  const char *text = nn_error(m.ctx);
  if (st != NN_OK) {
    t->failed++;
    if (st != NN_ENOMEM) complain(j, mode, at, "another status than out of memory", nn_status_text(st));
    if (nni_error_of(m.ctx)->status != st || text[0] == 0 || strchr(text, '\n')) complain(j, mode, at, "bad message", text);
  } else if (reached) t->finished++;
  if (!snap(&m, &now)) complain(j, mode, at, "a parameter was lost", nn_error(m.ctx));
  else if (!same(&now, after)) {
    if (st == NN_OK || !same(&now, before)) complain(j, mode, at, "parameters are neither those before the step nor those after it", "");
    else if (step(&m, j->loss, &loss) != NN_OK) complain(j, mode, at, "the step failed again", nn_error(m.ctx));
    else if (!snap(&m, &now) || !same(&now, after)) complain(j, mode, at, "the step run again gives other parameters", "");
  }
  if (memcmp(&loss, &want, sizeof loss) != 0) complain(j, mode, at, "another loss", "");
  if (nn_eval(m.ctx) != NN_OK) complain(j, mode, at, "what is pending fails", nn_error(m.ctx));
  model_close(&m);
  if (!nomem_clean(&h, j->name, mode, at)) failures++;
  return reached;
}

static void sweep(const job *j) {
  nomem h = {0};
  model m;
  bits before, after;
  float loss;
  if (model_open(j, &h, &m) != NN_OK || !snap(&m, &before)) {
    complain(j, NOMEM_NEVER, 0, "cannot open", m.ctx ? nn_error(m.ctx) : "");
    return;
  }
  nomem_arm(&h, NOMEM_NEVER, 0);
  bool ok = step(&m, j->loss, &loss) == NN_OK;
  tally t[2] = {{.requests = h.calls}, {.requests = h.calls}};
  ok = ok && snap(&m, &after) && !same(&before, &after);
  if (!ok) complain(j, NOMEM_NEVER, 0, "the undisturbed step fails or changes nothing", nn_error(m.ctx));
  model_close(&m);
  if (!nomem_clean(&h, j->name, NOMEM_NEVER, 0)) failures++;
  for (int k = 0; ok && k < 2 && failures < MAXFAIL; k++) {
    nomem_mode mode = k ? NOMEM_ONWARD : NOMEM_ONCE;
    long long at = 1;
    while (disturb(j, mode, at, &before, &after, loss, &t[k]) && failures < MAXFAIL) at++;
    if (failures == 0 && at - 1 != t[k].requests) complain(j, mode, at, "the sweep has another length than the undisturbed step has requests", "");
  }
  printf("%-10s %4lld requests; one fails: %lld steps fail, %lld absorb it; all fail from there on: %lld fail, %lld absorb it\n", j->name,
         t[0].requests, t[0].failed, t[0].finished, t[1].failed, t[1].finished);
  if (ok && !j->warm && t[1].failed < t[1].requests / 2) complain(j, NOMEM_ONWARD, 0, "hardly any step failed: is the hook in use?", "");
}

static void sweep_open(void) {
  for (int mode = NOMEM_ONCE; mode <= NOMEM_ONWARD; mode++) {
    long long at = 1;
    for (bool reached = true; reached; at++) {
      nomem h = {0};
      nn_context *ctx = NULL;
      nomem_arm(&h, (nomem_mode)mode, at);
      nn_status st = nn_open(&(nn_options){.alloc = nomem_alloc, .alloc_ud = &h, .threads = 2}, &ctx);
      reached = h.failed > 0;
      if (reached ? st != NN_ENOMEM || ctx : st != NN_OK) failures++, fprintf(stderr, "nn_open, request %lld failed: status %d\n", at, (int)st);
      if (ctx && nn_set_threads(ctx, 5) != NN_OK) { /* unchanged then, and at work */
        reached = true;
        if (nn_threads(ctx) != 2 || nn_error(ctx)[0] == 0)
          failures++, fprintf(stderr, "nn_set_threads, request %lld failed: %d threads\n", at, nn_threads(ctx));
      }
      nn_close(ctx);
      if (!nomem_clean(&h, "nn_open", (nomem_mode)mode, at)) failures++;
    }
    if (at < 4) failures++, fprintf(stderr, "nn_open makes %lld requests only: is the hook in use?\n", at - 2);
  }
}

int main(void) {
  static const job jobs[] = {{"mlp", mlp_init, mlp_loss, 1, 0, false},      {"mlp warm", mlp_init, mlp_loss, 1, 2, false},
                             {"mlp eager", mlp_init, mlp_loss, 1, 0, true}, {"cnn", cnn_init, cnn_loss, 2, 0, false},
                             {"cnn warm", cnn_init, cnn_loss, 2, 2, false}, {"odd", odd_init, odd_loss, 1, 0, false}};
  sweep_open();
  for (int i = 0; i < (int)(sizeof jobs / sizeof *jobs); i++) sweep(&jobs[i]);
  if (failures) fprintf(stderr, "%d failures\n", failures);
  return failures != 0;
}
