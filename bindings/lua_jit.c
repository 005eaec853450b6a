/* bindings/lua_jit.c - nn.jit below lua/nnlua/jit.lua: which recording a call fits, making one, replaying it.
**
** A jitted function is a userdata with up to MAXTRACE traces; a trace is a userdata with a recording (nn_jit) and what a call must look like to be
** replayed by it: the form of the arguments (items, in the order of a walk), the function's variables, options of modules that it called, gradient
** mode, and the form of all tensors that it uses (nn_jit_misfit).
**
** While a function is recorded, each box that is used reports itself once (nnL_jit_touch): box.session tells which ones did, or were made meanwhile.
*/
#include <stdlib.h>
#include <string.h>
#include "lua_jit.h"

/* ---- while recording ---- */
void nnL_jit_touch(lua_State *L, nnL_box *b, int arg) {
  nnL_state *s = nnL_getstate(L);
  struct nnL_session *r = s->jit;
  if (!r || b->session == s->session) return;
  b->session = s->session;
  int h = nn_jit_touch(s->ctx, &b->t);
  if (h < 0) return;
  if (h >= MAXHANDLE) {
    nn_jit_refuse(s->ctx, "it uses more than 4096 tensors");
    return;
  }
  for (int i = 0; i < r->nleaf; i++)
    if (r->leaf[i] == b) {
      r->map[h] = i;
      return;
    }
  r->map[h] = -1 - r->ncaptured;
  lua_pushvalue(L, arg);
  lua_rawgeti(L, LUA_REGISTRYINDEX, r->tables);
  lua_rawgeti(L, -1, CAPTURED); /* large enough: nothing is allocated, so nothing is raised */
  lua_pushvalue(L, -3);
  lua_rawseti(L, -2, ++r->ncaptured);
  lua_pop(L, 3);
}

/* jit_recording() -> is a function being recorded? */
static int recording(lua_State *L) {
  lua_pushboolean(L, nn_jit_recording(nnL_context(L)));
  return 1;
}

/* jit_host(fn, x) -> true: fn(x) was called, and each replay calls it here; false: nothing is recorded, do it yourself */
static int host(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  lua_settop(L, 2);
  if (!nn_jit_recording(s->ctx) || !s->jit) return lua_pushboolean(L, false), 1;
  nnL_check(L, nn_jit_host(s->ctx, true));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  int st = lua_pcall(L, 1, 0, 0);
  nn_jit_host(s->ctx, false);
  if (st != LUA_OK) {
    nn_jit_refuse(s->ctx, "a step of an optimizer failed in it");
    return lua_error(L);
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->jit->tables);
  lua_rawgeti(L, -1, HOSTS);
  for (int i = 1; i <= 2; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, 2 * s->jit->nhost + i);
  }
  s->jit->nhost++;
  return lua_pushboolean(L, true), 1;
}

/* jit_renewal(fn, x): the steps that follow take their numbers from what fn(x) gives to sgd_renew and adam_renew before each replay */
static int renewal(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  lua_settop(L, 2);
  if (!nn_jit_recording(s->ctx) || !s->jit) return 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->jit->tables);
  lua_rawgeti(L, -1, RENEWALS);
  for (int i = 1; i <= 2; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, 2 * s->jit->nrenewal + i);
  }
  s->jit->nrenewal++;
  nn_jit_renewal(s->ctx);
  return 0;
}

/* jit_note(object [, except]): a replay needs its numbers, booleans and strings as they are now, but those whose keys are in the table `except` */
static int note(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  if (!nn_jit_recording(s->ctx) || !s->jit) return 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->jit->tables);
  lua_rawgeti(L, 3, FIELDS); /* 4 */
  if (lua_rawgetp(L, 4, lua_topointer(L, 1)) != LUA_TNIL) return 0;
  lua_pushboolean(L, true);
  lua_rawsetp(L, 4, lua_topointer(L, 1));
  lua_settop(L, 4);
  for (lua_pushnil(L); lua_next(L, 1); lua_settop(L, 5)) {
    int t = lua_type(L, 6);
    if (t != LUA_TNUMBER && t != LUA_TBOOLEAN && t != LUA_TSTRING) continue;
    if (lua_istable(L, 2) && (lua_pushvalue(L, 5), lua_rawget(L, 2) != LUA_TNIL)) continue;
    int at = 3 * s->jit->nfield++;
    for (int i = 0; i < 3; i++) { /* object, key, value */
      lua_pushvalue(L, i == 0 ? 1 : 4 + i);
      lua_rawseti(L, 4, at + 1 + i);
    }
  }
  return 0;
}

/* ---- which trace ---- */
static void handles(const trace *t, nnL_box *const *leaf) {
  for (int h = 0; h < t->nhandle; h++) t->at[h] = t->map[h] >= 0 ? &leaf[t->map[h]]->t : &t->captured[-1 - t->map[h]]->t;
}

/* Does the call with arguments 2..1+n fit? The environment is at env. On success m->leaf is filled and t->at is ready. */
static bool fits(lua_State *L, trace *t, int n, int env, matching *m) {
  nnL_state *s = nnL_getstate(L);
  int top = lua_gettop(L);
  *m->why = 0;
  lua_rawgetp(L, env, t);
  lua_getiuservalue(L, -1, 1);
  int tables = lua_gettop(L);
  lua_rawgeti(L, tables, CONSTANTS);
  luaL_getmetatable(L, NNL_TENSOR);
  m->L = L, m->t = t, m->constants = tables + 1, m->metatable = tables + 2, m->pos = m->nconst = 0;
  bool ok = n == t->narg || nnL_jit_mismatch(m, "%d arguments, had %d", n, t->narg);
  for (int i = 0; i < n && ok; i++) ok = nnL_jit_match(m, 2 + i, i + 1);
  m->passed = ok;
  if (ok && nn_grad_enabled(s->ctx) != t->grad) ok = nnL_jit_mismatch(m, t->grad ? "gradients are off now" : "gradients are on now");
  if (ok && nn_exact(s->ctx) != t->exact) ok = nnL_jit_mismatch(m, "nn.exact changed");
  if (ok && nn_get_matmul_precision(s->ctx) != t->precision) ok = nnL_jit_mismatch(m, "nn.matmul_precision changed");
  if (ok && nn_device(s->ctx) != t->device) ok = nnL_jit_mismatch(m, "nn.device changed");
  m->passed += ok;
  if (ok) {
    lua_rawgeti(L, tables, VARIABLES);
    lua_rawgeti(L, tables, FIELDS);
    int at = lua_gettop(L);
    ok = nnL_jit_variables_match(L, at - 1, t->nvariable, m->why, m->n) && nnL_jit_fields_match(L, at, m->why, m->n);
  }
  m->passed += ok;
  if (ok) {
    char text[200];
    handles(t, m->leaf);
    int h = nn_jit_misfit(t->j, t->at, text, sizeof text);
    if (h >= 0 && t->map[h] >= 0) ok = nnL_jit_mismatch(m, "argument %d %s", t->leaf_arg[t->map[h]], text);
    else if (h >= 0) ok = nnL_jit_mismatch(m, "tensor %d of those that it uses %s", -t->map[h], text);
  }
  lua_settop(L, top);
  return ok;
}

/* ---- calls ---- */
typedef struct hosting { lua_State *L; nn_jit *j; int tables, error; } hosting; /* error: stack index of what was raised, 0 */
static nn_status call_host(void *ud, int k) {
  hosting *c = ud;
  lua_State *L = c->L;
  nnL_state *s = nnL_getstate(L);
  lua_rawgeti(L, c->tables, k < 0 ? RENEWALS : HOSTS);
  if (k < 0) s->renewing = c->j, k = -1 - k;
  lua_rawgeti(L, -1, 2 * k + 1);
  lua_rawgeti(L, -2, 2 * k + 2);
  int st = lua_pcall(L, 1, 0, 0);
  s->renewing = NULL;
  if (st == LUA_OK) return lua_pop(L, 1), NN_OK;
  c->error = lua_gettop(L);
  return NN_EINVAL;
}

static int replay(lua_State *L, jit *f, trace *t, int env) {
  nn_tensor *out[MAXLEAF];
  nnL_box *box[MAXLEAF];
  lua_settop(L, env);
  luaL_checkstack(L, t->nresult + 12, "results");
  lua_rawgetp(L, env, t);
  lua_getiuservalue(L, -1, 1);
  hosting c = {L, t->j, lua_gettop(L), 0};
  if (!t->plain) {
    lua_rawgeti(L, env, REBUILD);
    lua_rawgeti(L, c.tables, SHAPE);
  }
  int first = lua_gettop(L) + 1;
  for (int i = 0; i < t->nresult; i++) box[i] = nnL_newbox(L);
  f->busy = true;
  nn_status st = nn_jit_replay(t->j, t->at, call_host, &c, out);
  f->busy = false;
  if (c.error) return lua_settop(L, c.error), lua_error(L);
  nnL_check(L, st);
  for (int i = 0; i < t->nresult; i++) box[i]->t = out[i];
  f->replays++;
  nnL_pace(L);
  if (t->plain) return t->nresult;
  lua_call(L, t->nresult + 1, LUA_MULTRET);
  return lua_gettop(L) - (first - 3);
}

static int direct(lua_State *L, int n, int env) {
  lua_rawgeti(L, env, FN);
  lua_replace(L, 1);
  lua_settop(L, n + 1);
  lua_call(L, n, LUA_MULTRET);
  return lua_gettop(L);
}

static void drop_last(lua_State *L, jit *f, int env) {
  lua_pushnil(L);
  lua_rawsetp(L, env, f->trace[--f->n]);
}

/* f(...) */
static int jit_call(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  nnL_state *s = nnL_getstate(L);
  int n = lua_gettop(L) - 1, env = n + 2, near = -1, passed = -1;
  char why[300], what[300] = "";
  lua_getiuservalue(L, 1, 1);
  luaL_checkstack(L, n + 20, "arguments");
  if (f->gave_up || f->busy || nn_jit_blocked(s->ctx)) return direct(L, n, env);
  nnL_check(L, nn_eval(s->ctx));
  matching m = {.why = why, .n = sizeof why};
  for (int i = 0; i < f->n; i++) {
    trace *t = f->trace[i];
    if (!fits(L, t, n, env, &m)) {
      if (m.passed > passed) memcpy(what, why, sizeof why), passed = m.passed; /* the trace that fits best tells the reason */
      continue;
    }
    for (int k = 0; k < t->nleaf && t->grad; k++)
      if (nn_requires_grad(m.leaf[k]->t)) return direct(L, n, env);
    memmove(f->trace + 1, f->trace, sizeof f->trace[0] * (size_t)i);
    f->trace[0] = t;
    if (t->verified) return replay(L, f, t, env);
    near = i;
    break;
  }
  for (int i = 0; i < n && nn_grad_enabled(s->ctx); i++)
    if (nnL_jit_wants_grad(L, 2 + i, 0)) return direct(L, n, env);
  if (near < 0 && f->n == MAXTRACE) drop_last(L, f, env);
  lua_rawgeti(L, env, MISS); /* miss(f, recorded before, what changed, ...) */
  lua_insert(L, 2);
  lua_pushvalue(L, 1);
  lua_insert(L, 3);
  lua_pushboolean(L, near >= 0);
  lua_insert(L, 4);
  if (*what && near < 0) lua_pushstring(L, what);
  else lua_pushnil(L);
  lua_insert(L, 5);
  lua_settop(L, n + 5);
  lua_call(L, n + 3, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

/* ---- recording ---- */
static int trace_gc(lua_State *L) {
  trace *t = luaL_checkudata(L, 1, TRACE);
  nn_jit_free(t->j);
  free(t->item);
  free(t->map);
  free(t->captured);
  free(t->at);
  *t = (trace){0};
  return 0;
}

/* what the recording learned, as a trace; the tables are on the stack at `tables` */
static void keep(lua_State *L, trace *t, const struct nnL_session *r, int tables) {
  t->nleaf = r->nleaf;
  size_t n = (size_t)nn_jit_handles(t->j);
  t->map = calloc(n + 1, sizeof *t->map);
  t->at = calloc(n + 1, sizeof *t->at);
  t->captured = calloc((size_t)r->ncaptured + 1, sizeof *t->captured);
  if (!t->map || !t->at || !t->captured) nnL_raise(L, "jit: out of memory");
  t->nhandle = (int)n;
  memcpy(t->map, r->map, sizeof *t->map * n);
  lua_rawgeti(L, tables, CAPTURED);
  lua_createtable(L, r->ncaptured, 0); /* of the right size */
  for (int i = 0; i < r->ncaptured; i++) {
    lua_rawgeti(L, -2, i + 1);
    t->captured[i] = lua_touserdata(L, -1);
    lua_rawseti(L, -2, i + 1);
  }
  lua_rawseti(L, tables, CAPTURED);
  lua_pop(L, 1);
}

/* the arguments of the caller take what the function bound theirs to */
static void copy_back(const struct nnL_session *r) {
  for (int i = 0; i < r->nleaf; i++) {
    nnL_box *from = r->leaf[i], *to = r->original[i];
    if (!from->t || from->t == to->t) continue;
    nn_release(to->t);
    to->t = nn_retain(from->t);
  }
}

/* stack slots of jit_trace above the arguments, from the environment's on */
enum { AT_ENV, AT_TRACE, AT_TABLES, AT_SESSION, AT_BOXES, AT_CONSTANTS, AT_VARIABLES, AT_FUNCTION };

static void put_table(lua_State *L, int tables, int k, int size) {
  lua_createtable(L, size, 0);
  lua_rawseti(L, tables, k);
}

/* pushes AT_ENV to AT_FUNCTION, then what is to be called with copies of the n arguments */
static void prepare(lua_State *L, int n, trace **pt, struct nnL_session **pr) {
  nnL_state *s = nnL_getstate(L);
  int env = n + 2, tables = env + AT_TABLES, nconst = 0;
  lua_getiuservalue(L, 1, 1);
  trace *t = *pt = lua_newuserdatauv(L, sizeof *t, 1);
  *t = (trace){.narg = n, .grad = nn_grad_enabled(s->ctx), .exact = nn_exact(s->ctx), .precision = nn_get_matmul_precision(s->ctx), .device = nn_device(s->ctx), .plain = true};
  luaL_setmetatable(L, TRACE);
  lua_createtable(L, SHAPE, 0);
  lua_pushvalue(L, tables);
  lua_setiuservalue(L, env + AT_TRACE, 1);
  struct nnL_session *r = *pr = lua_newuserdatauv(L, sizeof *r, 0);
  r->nleaf = r->ncaptured = r->nhost = r->nrenewal = r->nfield = 0;
  lua_newtable(L);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushvalue(L, env + AT_CONSTANTS);
  lua_rawseti(L, tables, CONSTANTS);
  lua_pushvalue(L, env + AT_VARIABLES);
  lua_rawseti(L, tables, VARIABLES);
  put_table(L, tables, CAPTURED, MAXHANDLE);
  put_table(L, tables, FIELDS, 0);
  put_table(L, tables, HOSTS, 0);
  put_table(L, tables, RENEWALS, 0);
  lua_rawgeti(L, env, FN);
  t->nvariable = nnL_jit_variables(L, env + AT_FUNCTION, env + AT_VARIABLES);
  lua_rawgeti(L, env, CALL);
  for (int i = 0; i < n; i++) {
    int before = r->nleaf;
    nnL_jit_copy(L, t, r, 2 + i, env + AT_CONSTANTS, &nconst, 0);
    for (int k = before; k < r->nleaf; k++) t->leaf_arg[k] = i + 1;
  }
}

/* Calls what prepare() pushed while all is recorded. Gives pcall's status; *nout results are on the stack. */
static int record(lua_State *L, trace *t, struct nnL_session *r, int at, int n, int *nout, nn_status *st, const char **why) {
  nnL_state *s = nnL_getstate(L);
  nn_tensor *out[MAXLEAF];
  bool lines = s->lines;
  lua_pushvalue(L, n + 2 + AT_TABLES);
  r->tables = luaL_ref(L, LUA_REGISTRYINDEX);
  *st = nn_jit_start(s->ctx, &t->j);
  if (*st == NN_OK) s->jit = r, s->session = ++s->sessions, s->lines = true;
  int ok = *st == NN_OK ? lua_pcall(L, n, LUA_MULTRET, 0) : LUA_OK;
  *nout = lua_gettop(L) - at + 1;
  if (ok == LUA_OK && *st == NN_OK) {
    for (int i = 0; i < *nout && i < MAXLEAF; i++) out[i] = nnL_testtensor(L, at + i);
    if (*nout > MAXLEAF) nn_jit_refuse(s->ctx, "it returns more than 250 tensors");
    *st = nn_jit_finish(t->j, out, *nout <= MAXLEAF ? *nout : 0, why);
  } else nn_jit_free(t->j), t->j = NULL;
  s->jit = NULL, s->session = 0, s->lines = lines;
  nn_set_line(s->ctx, 0);
  luaL_unref(L, LUA_REGISTRYINDEX, r->tables);
  return ok;
}

/* jit_trace(f, ...) -> reason why it can't be replayed or nil, flat results...; the trace is f's first one then */
static int jit_trace(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  int n = lua_gettop(L) - 1, env = n + 2, nout;
  trace *t;
  struct nnL_session *r;
  nn_status st;
  const char *why = NULL;
  char text[300];
  luaL_checkstack(L, 2 * n + 30, "arguments");
  prepare(L, n, &t, &r);
  int at = lua_gettop(L) - n, ok = record(L, t, r, at, n, &nout, &st, &why);
  copy_back(r);
  if (ok != LUA_OK) return lua_error(L);
  nnL_check(L, st);
  if (!why && !nnL_jit_variables_match(L, env + AT_VARIABLES, t->nvariable, text, sizeof text)) why = text;
  if (!why && (lua_rawgeti(L, env + AT_TABLES, FIELDS), !nnL_jit_fields_match(L, lua_gettop(L), text, sizeof text))) why = text;
  lua_settop(L, at + nout - 1);
  if (why) lua_pushstring(L, why);
  else {
    keep(L, t, r, env + AT_TABLES);
    t->nresult = nout;
    lua_pushvalue(L, env + AT_TRACE);
    lua_rawsetp(L, env, t);
    if (f->n > MAXTRACE) drop_last(L, f, env);
    memmove(f->trace + 1, f->trace, sizeof f->trace[0] * (size_t)f->n);
    f->trace[0] = t;
    f->n++;
    lua_pushnil(L);
  }
  lua_insert(L, at);
  return nout + 1;
}

/* jit_shape(f, shape): results of the first trace are put together by rebuild(shape, ...) */
static int jit_shape(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  if (f->n == 0) return 0;
  lua_getiuservalue(L, 1, 1);
  lua_rawgetp(L, -1, f->trace[0]);
  lua_getiuservalue(L, -1, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, SHAPE);
  f->trace[0]->plain = lua_isnil(L, 2);
  return 0;
}

static bool same_captured(const trace *a, const trace *b) {
  bool same = a->nhandle == b->nhandle;
  for (int h = 0; h < a->nhandle && same; h++) {
    int x = a->map[h], y = b->map[h];
    same = x == y && (x >= 0 || a->captured[-1 - x] == b->captured[-1 - y]);
  }
  return same;
}

/* jit_verify(f) -> nil: the first trace says the same as the second and may be replayed; else what differs. The second is dropped. */
static int jit_verify(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  if (f->n < 2) return 0;
  trace *a = f->trace[1], *b = f->trace[0];
  char why[300] = "it used other tensors than in the call before";
  bool differs = !same_captured(a, b) || a->nresult != b->nresult || nn_jit_differs(a->j, b->j, why, sizeof why);
  b->verified = !differs;
  memmove(f->trace + 1, f->trace + 2, sizeof f->trace[0] * (size_t)(f->n - 2));
  f->n--;
  lua_getiuservalue(L, 1, 1);
  lua_pushnil(L);
  lua_rawsetp(L, -2, a);
  if (!differs) return 0;
  lua_pushstring(L, why);
  return 1;
}

/* jit_give_up(f): from now on each call calls the function */
static int jit_give_up(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  while (f->n > 0) drop_last(L, f, 2);
  f->gave_up = true;
  return 0;
}

/* jit_stats(f) -> replays, traces held, runs of the first trace */
static int jit_stats(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  lua_pushinteger(L, f->replays);
  lua_pushinteger(L, f->n);
  return 2;
}

/* jit_new(fn, call, miss, rebuild) -> a jitted function */
static int jit_new(lua_State *L) {
  lua_settop(L, 4);
  jit *f = lua_newuserdatauv(L, sizeof *f, 1);
  *f = (jit){.n = 0};
  lua_createtable(L, 4, 4);
  for (int i = 1; i <= 4; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i);
  }
  lua_setiuservalue(L, 5, 1);
  luaL_setmetatable(L, JIT);
  return 1;
}

void nnL_open_jit(lua_State *L) {
  static const luaL_Reg functions[] = {{"jit_new", jit_new}, {"jit_trace", jit_trace}, {"jit_shape", jit_shape}, {"jit_verify", jit_verify},
                                       {"jit_give_up", jit_give_up}, {"jit_stats", jit_stats}, {"jit_recording", recording}, {"jit_host", host},
                                       {"jit_note", note}, {"jit_renewal", renewal}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  if (luaL_newmetatable(L, TRACE)) {
    lua_pushcfunction(L, trace_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  if (luaL_newmetatable(L, JIT)) {
    lua_pushcfunction(L, jit_call);
    lua_setfield(L, -2, "__call");
  }
  lua_setfield(L, -2, "jit_metatable");
}
