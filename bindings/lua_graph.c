/* bindings/lua_graph.c - gradients, runs, randomness, settings, and the optimizers' steps. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "nnL.h"

static bool flag(lua_State *L, int t, const char *k) {
  if (!lua_istable(L, t)) return false;
  lua_getfield(L, t, k);
  bool b = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return b;
}

/* ---- gradients ---- */
/* x:backward([cotangent] [, {retain_graph=, create_graph=}]) */
static int backward(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  int o = lua_istable(L, 2) ? 2 : 3;
  nn_tensor *d = o == 3 && !lua_isnoneornil(L, 2) ? nnL_checktensor(L, 2) : NULL;
  nnL_check(L, nn_backward(t, d, flag(L, o, "retain_graph"), flag(L, o, "create_graph")));
  nnL_pace(L);
  return 0;
}

static int read_list(lua_State *L, int arg, nn_tensor **v, int max, const char *what) {
  nn_tensor *one = nnL_testtensor(L, arg);
  if (one) return v[0] = one, 1;
  if (!lua_istable(L, arg)) nnL_raise_named(L, "%s must be a tensor or a list of tensors", what);
  int n = (int)lua_rawlen(L, arg);
  if (n > max) nnL_raise_named(L, "at most %d %s", max, what);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, arg, i + 1);
    v[i] = nnL_testtensor(L, -1);
    if (!v[i]) nnL_raise_named(L, "entry %d of the %s must be a tensor, got %s", i + 1, what, luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  return n;
}

/* grad(outputs, inputs [, {cotangents=, retain_graph=, create_graph=}]) -> a gradient per input (nil where an input is not reached) */
static int grad(lua_State *L) {
  nn_tensor *out[64], *in[250], *dout[64], *res[250];
  int nout = read_list(L, 1, out, 64, "outputs"), nin = read_list(L, 2, in, 250, "inputs"), nd = 0;
  bool retain = flag(L, 3, "retain_graph"), create = flag(L, 3, "create_graph");
  if (lua_istable(L, 3) && lua_getfield(L, 3, "cotangents") != LUA_TNIL) nd = read_list(L, lua_gettop(L), dout, 64, "cotangents");
  if (nd && nd != nout) nnL_raise(L, "grad: %d cotangents for %d outputs", nd, nout);
  lua_settop(L, 3);
  luaL_checkstack(L, nin + 4, NULL);
  nnL_box *box[250];
  for (int i = 0; i < nin; i++) box[i] = nnL_newbox(L);
  nnL_check_named(L, nn_grad(out, nd ? dout : NULL, nout, in, nin, retain, create, res), "backward");
  for (int i = 0; i < nin; i++) {
    box[i]->t = res[i];
    if (res[i]) continue;
    lua_pushnil(L);
    lua_replace(L, 4 + i);
  }
  return nin;
}

static int get_grad(lua_State *L) {
  nn_tensor *g = nn_grad_of(nnL_checktensor(L, 1));
  if (!g) return lua_pushnil(L), 1;
  nnL_box *b = nnL_newbox(L);
  b->t = nn_retain(g);
  return 1;
}

static int set_grad(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1), *g = lua_isnoneornil(L, 2) ? NULL : nnL_checktensor(L, 2);
  if (g && (nn_ndim(g) != nn_ndim(t) || memcmp(nn_shape(g), nn_shape(t), sizeof(int64_t) * (size_t)nn_ndim(t)) != 0))
    return nnL_raise(L, "set_grad: the gradient does not have the tensor's shape");
  if (g && !nn_dtype_is_float(nn_dtype_of(g))) return nnL_raise(L, "set_grad: a gradient has a floating dtype, not %s", nn_dtype_name(nn_dtype_of(g)));
  nn_set_grad(t, g);
  lua_settop(L, 1);
  return 1;
}

/* x:requires_grad() asks; x:requires_grad(true) makes the handle a leaf that wants a gradient */
static int requires_grad(lua_State *L) {
  nnL_box *b = nnL_checkbox(L, 1);
  if (lua_isnone(L, 2)) return lua_pushboolean(L, nn_requires_grad(b->t)), 1;
  nn_tensor *t = lua_toboolean(L, 2) ? nn_variable(b->t) : nn_detach(b->t);
  if (!t) nnL_check(L, NN_EDTYPE);
  nn_release(b->t);
  b->t = t;
  lua_settop(L, 1);
  return 1;
}

/* x:assign(new): the handle now stands for new's value */
static int assign(lua_State *L) {
  nnL_box *b = nnL_checkbox(L, 1);
  nn_tensor *next = nnL_checktensor(L, 2), *t = nn_assign(b->t, next);
  if (!t) nnL_check(L, NN_ESHAPE);
  nn_release(b->t);
  b->t = t;
  lua_settop(L, 1);
  return 1;
}

/* ---- gradients written in Lua ---- */
typedef struct custom { /* a registry slot holds the function */
  lua_State *L;
  int ref;
} custom;

static void custom_release(void *ud) {
  custom *c = ud;
  luaL_unref(c->L, LUA_REGISTRYINDEX, c->ref);
  free(c);
}

/* in protected mode: function, then cotangents as boxes; leaves a gradient or nil per argument */
typedef struct custom_call { custom *c; nn_tensor *const *d; int nd; nn_tensor **dx; int nx; } custom_call;
static int custom_protected(lua_State *L) {
  custom_call *k = lua_touserdata(L, 1);
  lua_settop(L, 0);
  luaL_checkstack(L, k->nd + k->nx + 4, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, k->c->ref);
  for (int i = 0; i < k->nd; i++) {
    nnL_box *b = nnL_newbox(L);
    b->t = nn_retain(k->d[i]);
  }
  lua_call(L, k->nd, k->nx);
  for (int i = 0; i < k->nx; i++)
    if (!lua_isnil(L, i + 1)) nnL_checktensor(L, i + 1);
  for (int i = 0; i < k->nx; i++) k->dx[i] = lua_isnil(L, i + 1) ? NULL : nn_retain(nnL_checktensor(L, i + 1));
  return 0;
}

static nn_status custom_backward(void *ud, nn_context *ctx, nn_tensor *const *d, int nd, nn_tensor **dx, int nx) {
  custom_call k = {ud, d, nd, dx, nx};
  lua_State *L = k.c->L;
  if (!lua_checkstack(L, 4)) return nn_fail(ctx, NN_ENOMEM, "custom: out of memory");
  lua_pushcfunction(L, custom_protected);
  lua_pushlightuserdata(L, &k);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return NN_OK;
  const char *text = lua_tostring(L, -1);
  nn_status st = nn_fail(ctx, NN_EINVAL, text ? text : "custom: the gradient raised an error that is no text");
  lua_pop(L, 1);
  return st;
}

/* record_custom(inputs, outputs, backward): outputs (detached) get backward as their gradient; lua/nnlua/autograd.lua makes nn.custom of it */
static int record_custom(lua_State *L) {
  nn_tensor *in[64], *out[NN_MAXOUT];
  int nin = read_list(L, 1, in, 64, "inputs"), nout = read_list(L, 2, out, NN_MAXOUT, "outputs");
  nnL_checktype(L, 3, LUA_TFUNCTION);
  nnL_box *box[NN_MAXOUT];
  luaL_checkstack(L, nout + 4, NULL);
  for (int i = 0; i < nout; i++) box[i] = nnL_newbox(L);
  lua_pushvalue(L, 3);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX); /* may raise: nothing native is held yet */
  custom *c = malloc(sizeof *c);
  if (!c) {
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    return nnL_raise(L, "custom: out of memory");
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  *c = (custom){.L = lua_tothread(L, -1), .ref = ref};
  lua_pop(L, 1);
  for (int i = 0; i < nout; i++) nn_retain(out[i]);
  nn_status st = nn_record_custom(nnL_context(L), &(nn_custom){custom_backward, custom_release, c}, in, nin, out, nout);
  for (int i = 0; i < nout; i++) box[i]->t = out[i];
  nnL_check(L, st);
  return nout;
}

/* ---- gradients off ---- */
static int guard_close(lua_State *L) {
  int *was = luaL_checkudata(L, 1, "nnlua.guard");
  if (*was >= 0) nn_set_grad_enabled(nnL_context(L), *was != 0);
  *was = -1;
  return 0;
}

/* local _ <close> = no_grad(); or no_grad(fn, ...) -> what fn returns */
static int no_grad(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  if (lua_isnoneornil(L, 1)) {
    int *was = lua_newuserdatauv(L, sizeof *was, 0);
    *was = -1;
    luaL_setmetatable(L, "nnlua.guard");
    *was = nn_set_grad_enabled(ctx, false);
    return 1;
  }
  bool was = nn_set_grad_enabled(ctx, false);
  int st = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  nn_set_grad_enabled(ctx, was);
  return st == LUA_OK ? lua_gettop(L) : lua_error(L);
}

static int grad_enabled(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  lua_pushboolean(L, nn_grad_enabled(ctx));
  if (!lua_isnone(L, 1)) nn_set_grad_enabled(ctx, lua_toboolean(L, 1));
  return 1;
}

/* ---- runs and settings ---- */
static int eval(lua_State *L) {
  nnL_check(L, nn_eval(nnL_context(L)));
  nnL_pace(L);
  return 0;
}

static int eval_tensor(lua_State *L) {
  if (!nn_data(nnL_checktensor(L, 1))) nnL_check(L, NN_EINTERNAL);
  /* No pacing: the next operator does it, when this tensor may be gone already and its buffer serves the next run. */
  lua_settop(L, 1);
  return 1;
}

static int eager(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  const bool was = nn_eager(ctx);
  lua_pushboolean(L, was);
  if (!lua_isnone(L, 1)) {
    const bool on = lua_toboolean(L, 1);
    if (on && !was) nnL_check(L, nn_eval(ctx)); /* what waits */
    nn_set_eager(ctx, on);
  }
  return 1;
}

/* matmul_precision("medium") -> what it was */
static int matmul_precision(lua_State *L) {
  static const char *const names[] = {"highest", "high", "medium", NULL};
  nn_context *ctx = nnL_context(L);
  lua_pushstring(L, names[nn_get_matmul_precision(ctx)]);
  if (!lua_isnone(L, 1)) nn_set_matmul_precision(ctx, (nn_matmul_precision)luaL_checkoption(L, 1, NULL, names));
  return 1;
}

/* exact(true): convolutions without Winograd */
static int exact(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  lua_pushboolean(L, nn_exact(ctx));
  if (!lua_isnone(L, 1)) nn_set_exact(ctx, lua_toboolean(L, 1));
  return 1;
}

static int threads(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer n = nnL_checkinteger(L, 1);
    nnL_check(L, nn_set_threads(ctx, n < 0 || n > INT_MAX ? INT_MAX : (int)n));
  }
  lua_pushinteger(L, nn_threads(ctx));
  return 1;
}

static int seed(lua_State *L) {
  lua_Integer n = nnL_checkinteger(L, 1);
  nn_seed(nnL_context(L), (uint64_t)n);
  return 0;
}

/* rng_state() -> {seed=, position=}; set_rng_state(that) continues the stream there */
static int rng_state(lua_State *L) {
  nn_rng_state s = nn_rng_get(nnL_context(L));
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, (lua_Integer)s.seed);
  lua_setfield(L, -2, "seed");
  lua_pushinteger(L, (lua_Integer)s.position);
  lua_setfield(L, -2, "position");
  return 1;
}

static int set_rng_state(lua_State *L) {
  nn_rng_state s;
  nnL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "seed");
  lua_getfield(L, 1, "position");
  if (!lua_isinteger(L, -1) || !lua_isinteger(L, -2)) return nnL_raise(L, "set_rng_state: a table of integers seed and position is needed");
  s.seed = (uint64_t)lua_tointeger(L, -2);
  s.position = (uint64_t)lua_tointeger(L, -1);
  nn_rng_set(nnL_context(L), s);
  return 0;
}

/* next_stream() -> a number that no other draw uses, for draws made outside of tensors (shuffling) */
static int next_stream(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nn_rng_state s = nn_rng_get(ctx);
  lua_pushinteger(L, (lua_Integer)s.seed);
  lua_pushinteger(L, (lua_Integer)s.position);
  s.position++;
  nn_rng_set(ctx, s);
  return 2;
}

void nnL_count(lua_State *L, const char *k, uint64_t v) {
  lua_pushinteger(L, (lua_Integer)v);
  lua_setfield(L, -2, k);
}

static int run_stats(lua_State *L) {
  nn_run_info r = nn_run_stats(nnL_context(L));
  lua_createtable(L, 0, 5);
  nnL_count(L, "runs", r.runs);
  nnL_count(L, "plan_hits", r.plan_hits);
  nnL_count(L, "plan_misses", r.plan_misses);
  nnL_count(L, "nodes", r.nodes);
  nnL_count(L, "units", r.units);
  nnL_count(L, "submissions", r.submissions);
  nnL_count(L, "uploads", r.uploads);
  nnL_count(L, "downloads", r.downloads);
  nnL_count(L, "waits", r.waits);
  return 1;
}

static int memory_trim(lua_State *L) {
  nn_memory_trim(nnL_context(L));
  return 0;
}

/* ---- optimizers ---- */
#define MAXPARAM 4096
static double number(lua_State *L, int t, const char *k, double def) {
  if (!lua_istable(L, t)) nnL_raise_named(L, "argument %d must be a table of options, got %s", t, luaL_typename(L, t));
  lua_getfield(L, t, k);
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER) nnL_raise_named(L, "'%s' must be a number", k);
  double v = lua_isnil(L, -1) ? def : lua_tonumber(L, -1);
  lua_pop(L, 1);
  return v;
}

/* boxes of the list at arg; NULL when it is nil */
static nnL_box **boxes(lua_State *L, int arg, int n, const char *what) {
  if (lua_isnoneornil(L, arg)) return NULL;
  nnL_checktype(L, arg, LUA_TTABLE);
  if ((int)lua_rawlen(L, arg) != n) nnL_raise_named(L, "%d %s for %d parameters", (int)lua_rawlen(L, arg), what, n);
  nnL_box **b = lua_newuserdatauv(L, sizeof *b * (size_t)(n + 1), 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, arg, i + 1);
    if (!nnL_testtensor(L, -1)) nnL_raise_named(L, "entry %d of the %s must be a tensor, got %s", i + 1, what, luaL_typename(L, -1));
    b[i] = nnL_checkbox(L, lua_gettop(L));
    lua_pop(L, 1);
  }
  return b;
}

/* The lists of a step. While it runs the boxes are empty: the step replaces the references, and a box that is listed twice shows. */
typedef struct lists {
  int n;
  nnL_box **box[3];      /* NULL: the optimizer has no such list */
  nn_tensor **tensor[3];
} lists;

static void give_back(lists *l) {
  for (int k = 0; k < 3; k++)
    for (int i = 0; l->box[k] && i < l->n; i++)
      if (l->tensor[k][i]) l->box[k][i]->t = l->tensor[k][i];
}

static void take(lua_State *L, lists *l) {
  bool twice = false;
  for (int k = 0; k < 3; k++)
    if (l->box[k]) l->tensor[k] = lua_newuserdatauv(L, sizeof(nn_tensor *) * (size_t)(l->n + 1), 0);
  for (int k = 0; k < 3; k++)
    for (int i = 0; l->box[k] && i < l->n; i++) {
      l->tensor[k][i] = l->box[k][i]->t;
      twice = twice || !l->tensor[k][i];
      l->box[k][i]->t = NULL;
    }
  if (!twice) return;
  give_back(l);
  nnL_raise_named(L, "a tensor is given twice: each parameter and each state must have a handle of its own");
}

static int count(lua_State *L, int arg) {
  nnL_checktype(L, arg, LUA_TTABLE);
  int n = (int)lua_rawlen(L, arg);
  if (n > MAXPARAM) nnL_raise_named(L, "more than %d parameters", MAXPARAM);
  return n;
}

static nn_sgd sgd_options(lua_State *L, int t) {
  return (nn_sgd){.lr = number(L, t, "lr", 0.01), .momentum = number(L, t, "momentum", 0), .dampening = number(L, t, "dampening", 0),
                  .weight_decay = number(L, t, "weight_decay", 0), .nesterov = flag(L, t, "nesterov"), .defer = flag(L, t, "defer")};
}

static nn_adam adam_options(lua_State *L, int t) {
  double step = number(L, t, "step", 1);
  return (nn_adam){.lr = number(L, t, "lr", 0.001), .beta1 = number(L, t, "beta1", 0.9), .beta2 = number(L, t, "beta2", 0.999), .eps = number(L, t, "eps", 1e-7),
                   .weight_decay = number(L, t, "weight_decay", 0), .step = step >= 1 && step < 0x1p53 ? (int64_t)step : 0, .defer = flag(L, t, "defer")};
}

/* sgd_renew(options), adam_renew(options): the numbers of the step that nn.jit is about to replay */
static int renew(lua_State *L, const double *num, int n) {
  nn_jit *j = nnL_getstate(L)->renewing;
  if (!j) return nnL_raise(L, "optimizer step: nothing is replayed");
  nnL_check(L, nn_jit_renew(j, num, n));
  return 0;
}
static int sgd_renew(lua_State *L) {
  double num[NN_MAXNUMBER];
  nn_sgd o = sgd_options(L, 1);
  return renew(L, num, nn_sgd_numbers(&o, num));
}
static int adam_renew(lua_State *L) {
  double num[NN_MAXNUMBER];
  nn_adam o = adam_options(L, 1);
  return renew(L, num, nn_adam_numbers(&o, num));
}

/* sgd_step(params, velocities | nil, {lr, momentum, nesterov, weight_decay, dampening, defer}) */
static int sgd_step(lua_State *L) {
  int n = count(L, 1);
  nn_sgd o = sgd_options(L, 3);
  lists l = {.n = n, .box = {boxes(L, 1, n, "parameters"), boxes(L, 2, n, "velocities")}};
  take(L, &l);
  nn_status st = nn_sgd_step(nnL_context(L), &o, n, l.tensor[0], l.tensor[1]);
  give_back(&l);
  nnL_check(L, st);
  nnL_pace(L);
  return 0;
}

/* adam_step(params, ms, vs, {lr, beta1, beta2, eps, weight_decay, step, defer}) */
static int adam_step(lua_State *L) {
  int n = count(L, 1);
  nn_adam o = adam_options(L, 4);
  lists l = {.n = n, .box = {boxes(L, 1, n, "parameters"), boxes(L, 2, n, "first moments"), boxes(L, 3, n, "second moments")}};
  if (!l.box[1] || !l.box[2]) return nnL_raise_named(L, "first and second moments are needed");
  take(L, &l);
  nn_status st = nn_adam_step(nnL_context(L), &o, n, l.tensor[0], l.tensor[1], l.tensor[2]);
  give_back(&l);
  nnL_check(L, st);
  nnL_pace(L);
  return 0;
}

void nnL_open_graph(lua_State *L) {
  static const luaL_Reg functions[] = {{"grad", grad}, {"record_custom", record_custom}, {"no_grad", no_grad}, {"grad_enabled", grad_enabled}, {"eval", eval}, {"eager", eager}, {"exact", exact}, {"matmul_precision", matmul_precision}, {"threads", threads},
                                       {"seed", seed}, {"rng_state", rng_state}, {"set_rng_state", set_rng_state}, {"next_stream", next_stream},
                                       {"memory_trim", memory_trim}, {"run_stats", run_stats}, {"sgd_step", sgd_step},
                                       {"adam_step", adam_step}, {"sgd_renew", sgd_renew}, {"adam_renew", adam_renew}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"backward", backward}, {"grad", get_grad}, {"set_grad", set_grad}, {"requires_grad", requires_grad},
                                     {"assign", assign}, {"eval", eval_tensor}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  luaL_getmetatable(L, NNL_TENSOR);
  lua_getfield(L, -1, "methods");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 2);
  if (luaL_newmetatable(L, "nnlua.guard")) {
    lua_pushcfunction(L, guard_close);
    lua_setfield(L, -2, "__close");
  }
  lua_pop(L, 1);
}
