/* bindings/lua_jit.c - nn.jit below lua/nnlua/jit.lua: which recording a call fits, making one, replaying it.
**
** A jitted function is a userdata with up to MAXTRACE traces; a trace is a userdata with a recording (nn_jit) and what a call must look like to be replayed by
** it: the form of the arguments (items, in the order of a walk), the function's variables, fields of modules that it called, gradient mode, and the form of all tensors
** that it uses (nn_jit_misfit). Tables without a metatable are walked; anything else that is no tensor is a constant and must be the very same.
**
** While a function is recorded, each box that is used reports itself once (nnL_jit_touch): box.session tells which ones did, or were made meanwhile.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nnL.h"

#define MAXTRACE 8
#define MAXLEAF 250     /* tensors in arguments, and in results */
#define MAXHANDLE 4096  /* tensors that a function uses */
#define MAXDEPTH 16
#define MAXFUNCTION 32  /* whose variables are looked at */
#define JIT "nnlua.jit"
#define TRACE "nnlua.jit.trace"

typedef enum kind { TENSOR, SAME, CONSTANT, TABLE } kind;
typedef struct item { kind kind; int n; } item; /* n: TENSOR its number among leaves, SAME the leaf that it is again, TABLE entries (key, then item) */

typedef struct trace {
  nn_jit *j;
  item *item;
  int nitem, capitem, narg, nleaf, nhandle, nresult, nvariable;
  int leaf_arg[MAXLEAF]; /* the argument it is in, from 1 */
  int *map;              /* per handle: a leaf, or -1 - k: k-th captured box */
  nnL_box **captured;
  nn_tensor ***at;       /* per handle, for a call */
  bool grad, exact, plain, verified;
} trace;
/* uservalue of a trace: a table of these */
enum { CONSTANTS = 1, CAPTURED, VARIABLES, FIELDS, HOSTS, RENEWALS, SHAPE };

typedef struct jit {
  trace *trace[MAXTRACE + 1]; /* last used first; the environment holds them by address. One more while the first two are compared */
  int n;
  bool gave_up, busy;
  lua_Integer replays;
} jit;
/* uservalue of a jit: the environment. FN: the function; CALL: the same with results flattened; MISS, REBUILD: of jit.lua */
enum { FN = 1, CALL, MISS, REBUILD };

struct nnL_session { /* one recording */
  int nleaf, ncaptured, nhost, nrenewal, nfield;
  nnL_box *leaf[MAXLEAF], *original[MAXLEAF];
  int map[MAXHANDLE];
  int tables; /* registry reference of the trace's table */
};

static nnL_box *box_at(lua_State *L, int i) { return luaL_testudata(L, i, NNL_TENSOR); }

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

/* ---- the form of arguments ---- */
static void add_item(lua_State *L, trace *t, item x) {
  if (t->nitem == t->capitem) {
    int cap = t->capitem ? 2 * t->capitem : 16;
    item *p = realloc(t->item, sizeof *p * (size_t)cap);
    if (!p) nnL_raise(L, "jit: out of memory");
    t->item = p;
    t->capitem = cap;
  }
  t->item[t->nitem++] = x;
}

static bool plain_table(lua_State *L, int i) {
  if (!lua_istable(L, i)) return false;
  if (!lua_getmetatable(L, i)) return true;
  return lua_pop(L, 1), false;
}

static void add_constant(lua_State *L, int constants, int *n, int i) {
  lua_pushvalue(L, i);
  lua_rawseti(L, constants, ++*n);
}

/* pushes a copy of the value at i with boxes of its own, and notes its form */
static void copy(lua_State *L, trace *t, struct nnL_session *r, int i, int constants, int *nconst, int depth) {
  nnL_box *b = box_at(L, i);
  luaL_checkstack(L, 8, "arguments nested deeply");
  if (b) {
    for (int k = 0; k < r->nleaf; k++)
      if (r->original[k] == b) {
        add_item(L, t, (item){SAME, k});
        lua_rawgeti(L, constants - 1, k + 1); /* the list of boxes */
        return;
      }
    if (r->nleaf == MAXLEAF) nnL_raise(L, "jit: more than %d tensors in the arguments", MAXLEAF);
    add_item(L, t, (item){TENSOR, r->nleaf});
    nnL_box *c = nnL_newbox(L);
    nnL_scope_forget(c);
    c->t = nn_retain(nnL_checktensor(L, i));
    r->original[r->nleaf] = b;
    r->leaf[r->nleaf++] = c;
    lua_pushvalue(L, -1);
    lua_rawseti(L, constants - 1, r->nleaf);
  } else if (plain_table(L, i)) {
    if (depth == MAXDEPTH) nnL_raise(L, "jit: a table in the arguments is nested deeper than %d", MAXDEPTH);
    int at = t->nitem;
    add_item(L, t, (item){TABLE, 0});
    lua_newtable(L);
    int to = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, i);) {
      int key = lua_gettop(L) - 1;
      t->item[at].n++;
      add_constant(L, constants, nconst, key);
      copy(L, t, r, key + 1, constants, nconst, depth + 1);
      lua_pushvalue(L, key);
      lua_insert(L, -2);
      lua_rawset(L, to);
      lua_settop(L, key);
    }
  } else {
    add_item(L, t, (item){CONSTANT, 0});
    add_constant(L, constants, nconst, i);
    lua_pushvalue(L, i);
  }
}

typedef struct matching {
  lua_State *L;
  const trace *t;
  int metatable, constants, pos, nconst; /* stack indices, and where the walk is */
  nnL_box *leaf[MAXLEAF];
  int passed;                             /* how many of the checks in fits() */
  char *why;
  size_t n;
} matching;

static bool mismatch(matching *m, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(m->why, m->n, fmt, ap);
  va_end(ap);
  return false;
}

static const char *shown(lua_State *L, int i, char *buf, size_t n) {
  switch (lua_type(L, i)) {
    case LUA_TNUMBER: snprintf(buf, n, lua_isinteger(L, i) ? "%.0f" : "%.9g", lua_tonumber(L, i)); break;
    case LUA_TBOOLEAN: snprintf(buf, n, "%s", lua_toboolean(L, i) ? "true" : "false"); break;
    case LUA_TSTRING: snprintf(buf, n, "\"%.30s\"", lua_tostring(L, i)); break;
    case LUA_TNIL: snprintf(buf, n, "nil"); break;
    default: snprintf(buf, n, "a %s", box_at(L, i) ? "tensor" : luaL_typename(L, i));
  }
  return buf;
}

static bool match(matching *m, int i, int arg) {
  lua_State *L = m->L;
  const item x = m->t->item[m->pos++];
  nnL_box *b = NULL;
  if (lua_type(L, i) == LUA_TUSERDATA && lua_getmetatable(L, i)) {
    if (lua_rawequal(L, -1, m->metatable)) b = lua_touserdata(L, i);
    lua_pop(L, 1);
  }
  if (x.kind == TENSOR) {
    if (!b || !b->t) return mismatch(m, "argument %d is no tensor any more", arg);
    m->leaf[x.n] = b;
    return true;
  }
  if (x.kind == SAME) return b == m->leaf[x.n] || mismatch(m, "argument %d is another tensor than argument %d now", arg, m->t->leaf_arg[x.n]);
  if (x.kind == CONSTANT) {
    if (lua_rawgeti(L, m->constants, ++m->nconst), lua_rawequal(L, -1, i)) return lua_pop(L, 1), true;
    char was[64], is[64];
    shown(L, lua_gettop(L), was, sizeof was);
    shown(L, i, is, sizeof is);
    return mismatch(m, strcmp(was, is) == 0 ? "argument %d is another %s" : "argument %d changed: %s -> %s", arg, was[0] == 'a' && strcmp(was, is) == 0 ? was + 2 : was, is);
  }
  int n = 0;
  if (!plain_table(L, i)) return mismatch(m, "argument %d is no table any more", arg);
  luaL_checkstack(L, 8, "arguments nested deeply");
  for (lua_pushnil(L); lua_next(L, i); n++) lua_pop(L, 1);
  if (n != x.n) return mismatch(m, "the table in argument %d has %d entries, had %d", arg, n, x.n);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, m->constants, ++m->nconst);
    lua_rawget(L, i);
    int child = lua_gettop(L);
    bool ok = match(m, child, arg);
    lua_settop(L, child - 1);
    if (!ok) return false;
  }
  return true;
}

static bool wants_grad(lua_State *L, int i, int depth) {
  nnL_box *b = box_at(L, i);
  if (b) return b->t && nn_requires_grad(b->t);
  if (depth == MAXDEPTH || !plain_table(L, i)) return false;
  luaL_checkstack(L, 8, "arguments nested deeply");
  bool wants = false;
  for (lua_pushnil(L); lua_next(L, i) && !wants; ) {
    wants = wants_grad(L, lua_gettop(L), depth + 1);
    lua_settop(L, wants ? i : -2);
  }
  return wants;
}

/* ---- the function's variables, and fields ---- */
/* Variables (upvalues) of fn and of the functions among them, without the library's, as triples function, number, value. Gives how many. */
static int list_variables(lua_State *L, int fn, int list) {
  int n = 0, first = lua_gettop(L) + 1;
  lua_pushvalue(L, fn);
  for (int at = first; at <= lua_gettop(L) && at < first + MAXFUNCTION; at++) {
    for (int i = 1; lua_getupvalue(L, at, i); i++) {
      lua_Debug ar;
      int value = lua_gettop(L);
      lua_pushvalue(L, at);
      lua_rawseti(L, list, 3 * n + 1);
      lua_pushinteger(L, i);
      lua_rawseti(L, list, 3 * n + 2);
      lua_pushvalue(L, value);
      lua_rawseti(L, list, 3 * n++ + 3);
      bool walk = lua_isfunction(L, value) && !lua_iscfunction(L, value);
      for (int k = first; k < value && walk; k++) walk = !lua_rawequal(L, k, value);
      if (walk) {
        lua_pushvalue(L, value);
        lua_getinfo(L, ">S", &ar);
        walk = !nnL_in_library(ar.source);
      }
      lua_settop(L, walk ? value : value - 1);
      luaL_checkstack(L, 8, "functions");
    }
  }
  lua_settop(L, first - 1);
  return n;
}

static bool variables_match(lua_State *L, int list, int n, char *why, size_t size) {
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, list, 3 * i + 1);
    lua_rawgeti(L, list, 3 * i + 2);
    const char *name = lua_getupvalue(L, -2, (int)lua_tointeger(L, -1));
    lua_rawgeti(L, list, 3 * i + 3);
    if (!lua_rawequal(L, -1, -2)) {
      char was[64], is[64];
      shown(L, lua_gettop(L), was, sizeof was);
      shown(L, lua_gettop(L) - 1, is, sizeof is);
      if (strcmp(was, is) == 0) snprintf(why, size, "its variable %s is another %s", name, was + (was[0] == 'a' ? 2 : 0));
      else snprintf(why, size, "its variable %s changed: %s -> %s", name, was, is);
      return false;
    }
    lua_pop(L, 4);
  }
  return true;
}

static bool fields_match(lua_State *L, int fields, char *why, size_t n) {
  int len = (int)lua_rawlen(L, fields);
  for (int i = 1; i + 2 <= len; i += 3) {
    lua_rawgeti(L, fields, i);
    lua_rawgeti(L, fields, i + 1);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    lua_rawgeti(L, fields, i + 2);
    if (!lua_rawequal(L, -1, -2)) {
      char was[64], is[64], key[64];
      int top = lua_gettop(L);
      shown(L, top, was, sizeof was);
      shown(L, top - 1, is, sizeof is);
      shown(L, top - 2, key, sizeof key);
      snprintf(why, n, "option %s of a layer or optimizer that it uses changed: %s -> %s", key, was, is);
      return false;
    }
    lua_pop(L, 4);
  }
  return true;
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
  bool ok = n == t->narg || mismatch(m, "%d arguments, had %d", n, t->narg);
  for (int i = 0; i < n && ok; i++) ok = match(m, 2 + i, i + 1);
  m->passed = ok;
  if (ok && nn_grad_enabled(s->ctx) != t->grad) ok = mismatch(m, t->grad ? "gradients are off now" : "gradients are on now");
  if (ok && nn_exact(s->ctx) != t->exact) ok = mismatch(m, "nn.exact changed");
  m->passed += ok;
  if (ok) {
    lua_rawgeti(L, tables, VARIABLES);
    lua_rawgeti(L, tables, FIELDS);
    int at = lua_gettop(L);
    ok = variables_match(L, at - 1, t->nvariable, m->why, m->n) && fields_match(L, at, m->why, m->n);
  }
  m->passed += ok;
  if (ok) {
    char text[200];
    handles(t, m->leaf);
    int h = nn_jit_misfit(t->j, t->at, text, sizeof text);
    if (h >= 0 && t->map[h] >= 0) ok = mismatch(m, "argument %d %s", t->leaf_arg[t->map[h]], text);
    else if (h >= 0) ok = mismatch(m, "tensor %d of those that it uses %s", -t->map[h], text);
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
    if (wants_grad(L, 2 + i, 0)) return direct(L, n, env);
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

/* jit_trace(f, ...) -> reason why it can't be replayed or nil, flat results...; the trace is f's first one then */
static int jit_trace(lua_State *L) {
  jit *f = luaL_checkudata(L, 1, JIT);
  nnL_state *s = nnL_getstate(L);
  int n = lua_gettop(L) - 1;
  luaL_checkstack(L, 2 * n + 30, "arguments");
  lua_getiuservalue(L, 1, 1);
  int env = n + 2, variables, tables = env + 2, constants = env + 5;
  trace *t = lua_newuserdatauv(L, sizeof *t, 1); /* env + 1 */
  *t = (trace){.narg = n, .grad = nn_grad_enabled(s->ctx), .exact = nn_exact(s->ctx)};
  luaL_setmetatable(L, TRACE);
  lua_createtable(L, SHAPE, 0);                  /* env + 2 */
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, env + 1, 1);
  struct nnL_session *r = lua_newuserdatauv(L, sizeof *r, 0); /* env + 3 */
  r->nleaf = r->ncaptured = r->nhost = r->nrenewal = r->nfield = 0;
  lua_newtable(L);                               /* env + 4: boxes of the arguments */
  lua_newtable(L);                               /* env + 5 */
  lua_pushvalue(L, -1);
  lua_rawseti(L, tables, CONSTANTS);
  lua_createtable(L, MAXHANDLE, 0);
  lua_rawseti(L, tables, CAPTURED);
  lua_newtable(L);
  lua_rawseti(L, tables, FIELDS);
  lua_newtable(L);
  lua_rawseti(L, tables, HOSTS);
  lua_newtable(L);
  lua_rawseti(L, tables, RENEWALS);
  lua_newtable(L);
  variables = lua_gettop(L);                     /* env + 6 */
  lua_pushvalue(L, -1);
  lua_rawseti(L, tables, VARIABLES);
  lua_rawgeti(L, env, FN);                       /* env + 7 */
  t->nvariable = list_variables(L, env + 7, variables);
  lua_rawgeti(L, env, CALL);
  int nconst = 0;
  for (int i = 0; i < n; i++) {
    int before = r->nleaf;
    copy(L, t, r, 2 + i, constants, &nconst, 0);
    for (int k = before; k < r->nleaf; k++) t->leaf_arg[k] = i + 1;
  }
  int at = lua_gettop(L) - n;
  lua_pushvalue(L, tables);
  r->tables = luaL_ref(L, LUA_REGISTRYINDEX);
  nn_status st = nn_jit_start(s->ctx, &t->j);
  bool lines = s->lines;
  if (st == NN_OK) s->jit = r, s->session = ++s->sessions, s->lines = true;
  int ok = st == NN_OK ? lua_pcall(L, n, LUA_MULTRET, 0) : LUA_OK;
  const char *why = NULL;
  nn_tensor *out[MAXLEAF];
  int nout = lua_gettop(L) - at + 1;
  if (ok == LUA_OK && st == NN_OK) {
    for (int i = 0; i < nout && i < MAXLEAF; i++) out[i] = nnL_testtensor(L, at + i);
    if (nout > MAXLEAF) nn_jit_refuse(s->ctx, "it returns more than 250 tensors");
    st = nn_jit_finish(t->j, out, nout <= MAXLEAF ? nout : 0, &why);
  } else nn_jit_free(t->j), t->j = NULL;
  s->jit = NULL, s->session = 0, s->lines = lines;
  nn_set_line(s->ctx, 0);
  luaL_unref(L, LUA_REGISTRYINDEX, r->tables);
  copy_back(r);
  if (ok != LUA_OK) return lua_error(L);
  nnL_check(L, st);
  char text[300];
  if (!why && !variables_match(L, variables, t->nvariable, text, sizeof text)) why = text;
  if (!why && (lua_rawgeti(L, tables, FIELDS), !fields_match(L, lua_gettop(L), text, sizeof text))) why = text;
  lua_settop(L, at + nout - 1);
  if (why) {
    lua_pushstring(L, why);
    lua_insert(L, at);
    return nout + 1;
  }
  keep(L, t, r, tables);
  t->nresult = nout;
  t->plain = true;
  lua_pushvalue(L, env + 1);
  lua_rawsetp(L, env, t);
  if (f->n > MAXTRACE) drop_last(L, f, env);
  memmove(f->trace + 1, f->trace, sizeof f->trace[0] * (size_t)f->n);
  f->trace[0] = t;
  f->n++;
  lua_pushnil(L);
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

/* jit_verify(f) -> nil: the first trace says the same as the second, which is dropped, and may be replayed; else what differs (the second is dropped, too) */
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
  static const luaL_Reg functions[] = {{"jit_new", jit_new}, {"jit_trace", jit_trace}, {"jit_shape", jit_shape}, {"jit_verify", jit_verify}, {"jit_give_up", jit_give_up},
                                       {"jit_stats", jit_stats}, {"jit_recording", recording}, {"jit_host", host}, {"jit_note", note}, {"jit_renewal", renewal}, {NULL, NULL}};
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
