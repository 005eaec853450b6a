/* bindings/lua_core.c - the module nnlua.core: the context, errors, boxes and their scopes, and the pace of Lua's collector.
**
** One context per Lua state, kept in the registry and closed with it. Opening the module again (busted clears package.loaded) finds everything in place.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prog.h"

#define YOUNG_BYTES ((uint64_t)16 << 20) /* native bytes between two young collections */
#define FULL_FLOOR ((size_t)64 << 20)    /* live bytes below which no full collection is asked for */
static const char state_key = 0;
const char nnL_tag = 0;

nnL_state *nnL_getstate(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  nnL_state *s = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

nn_context *nnL_context(lua_State *L) { return nnL_getstate(L)->ctx; }

/* ---- errors ---- */
/* Is this the chunk name of a file of lua/nnlua, in a source tree (which may itself be called nnlua) or installed? */
bool nnL_in_library(const char *source) {
  const char *rest = NULL;
  if (*source != '@') return false; /* no file */
  for (const char *p = source; (p = strstr(p, "lua/nnlua/")) != NULL; p++) rest = p + strlen("lua/nnlua/");
  if (rest && strncmp(rest, "scripts/", 8) != 0 && strncmp(rest, "tests/", 6) != 0) return true;
  return strstr(source, "lua/5.4/nnlua/") != NULL;
}

/* the first Lua function on the stack that is not the library's own */
static bool caller(lua_State *L, lua_Debug *ar) {
  for (int level = 0; lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    if (ar->currentline > 0 && !nnL_in_library(ar->source)) return true;
  }
  return false;
}

int nnL_line(lua_State *L) {
  lua_Debug ar;
  return caller(L, &ar) ? ar.currentline : 0;
}

static void push_where(lua_State *L) {
  lua_Debug ar;
  if (caller(L, &ar)) lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
  else lua_pushliteral(L, "");
}

static int raise_text(lua_State *L, const char *text) {
  push_where(L);
  lua_pushstring(L, text);
  lua_concat(L, 2);
  return lua_error(L);
}

int nnL_raise(lua_State *L, const char *fmt, ...) {
  char text[1000];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return raise_text(L, text);
}

/* pushes the name of the C function that runs: that under which a user finds it, in nnlua.core or among the methods of tensors */
static const char *push_name(lua_State *L) {
  lua_Debug ar;
  int top = lua_gettop(L);
  if (!lua_getstack(L, 0, &ar)) return lua_pushliteral(L, "nnlua");
  lua_getinfo(L, "nf", &ar); /* the function is at top + 1 */
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "nnlua.core");
  if (luaL_getmetatable(L, NNL_TENSOR) == LUA_TTABLE) lua_getfield(L, -1, "methods");
  for (int at = lua_gettop(L), end = at - 3; at > end; at--) {
    if (!lua_istable(L, at)) continue;
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
      if (lua_type(L, -2) != LUA_TSTRING || !lua_rawequal(L, -1, top + 1)) continue;
      lua_pushvalue(L, -2);
      lua_replace(L, top + 1);
      lua_settop(L, top + 1);
      return lua_tostring(L, -1);
    }
  }
  lua_settop(L, top);
  return lua_pushstring(L, ar.name ? ar.name : "nnlua");
}

int nnL_raise_named(lua_State *L, const char *fmt, ...) {
  char text[900];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return nnL_raise(L, "%s: %s", push_name(L), text);
}

void nnL_check_named(lua_State *L, nn_status s, const char *inner) {
  if (s == NN_OK) return;
  const char *text = nn_error(nnL_context(L));
  size_t n = strlen(inner);
  if (strncmp(text, inner, n) != 0 || text[n] != ':') nnL_check(L, s);
  nnL_raise_named(L, "%s", text + n + 2);
}

lua_Integer nnL_checkinteger(lua_State *L, int arg) {
  int ok;
  lua_Integer v = lua_tointegerx(L, arg, &ok);
  if (!ok || lua_type(L, arg) != LUA_TNUMBER) 
    nnL_raise_named(L, "argument %d must be an integer, got %s", arg, lua_type(L, arg) == LUA_TNUMBER ? lua_tostring(L, arg) : luaL_typename(L, arg));
  return v;
}

void nnL_checktype(lua_State *L, int arg, int type) {
  if (lua_type(L, arg) != type) nnL_raise_named(L, "argument %d must be a %s, got %s", arg, lua_typename(L, type), luaL_typename(L, arg));
}

void nnL_check(lua_State *L, nn_status s) {
  if (s == NN_OK) return;
  nn_context *ctx = nnL_context(L);
  raise_text(L, nn_error(ctx)[0] ? nn_error(ctx) : nn_status_text(s));
}

/* ---- boxes ---- */
void nnL_scope_forget(nnL_box *b) {
  if (!b->next) return;
  b->prev->next = b->next;
  b->next->prev = b->prev;
  b->prev = b->next = NULL;
}

nnL_box *nnL_newbox(lua_State *L) {
  luaL_getmetatable(L, NNL_TENSOR);
  nnL_box *b = nnL_newbox_in(L, nnL_getstate(L), lua_gettop(L));
  lua_remove(L, -2);
  return b;
}

nnL_box *nnL_newbox_in(lua_State *L, nnL_state *s, int metatable) {
  nnL_box *b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = (nnL_box){.tag = &nnL_tag, .session = s->session};
  lua_pushvalue(L, metatable);
  lua_setmetatable(L, -2);
  if (s->nscope) {
    nnL_box *head = &s->scope[s->nscope - 1];
    b->prev = head;
    b->next = head->next;
    head->next->prev = b;
    head->next = b;
  }
  return b;
}

void nnL_fill(lua_State *L, nnL_box *b, nn_tensor *t) {
  if (!t) nnL_check(L, NN_EINTERNAL);
  b->t = t;
}

static nn_tensor *opened(lua_State *L, nnL_box *b, int arg) {
  if (b->t && nn_jit_recording(nn_context_of(b->t))) nnL_jit_touch(L, b, arg);
  if (!b->t) nnL_raise_named(L, "this tensor is gone: its scope has ended or it was freed (keep it with :keep())");
  return b->t;
}

nnL_box *nnL_checkbox(lua_State *L, int arg) {
  nnL_box *b = nnL_testbox(L, arg);
  if (!b) nnL_raise_named(L, "argument %d must be a tensor, got %s", arg, luaL_typename(L, arg));
  opened(L, b, arg);
  return b;
}

nn_tensor *nnL_checktensor(lua_State *L, int arg) { return nnL_checkbox(L, arg)->t; }

nn_tensor *nnL_testtensor(lua_State *L, int arg) {
  nnL_box *b = nnL_testbox(L, arg);
  return b ? opened(L, b, arg) : NULL;
}

void nnL_shape(lua_State *L, int arg, int *ndim, int64_t *shape) {
  int n = 0;
  bool table = lua_istable(L, arg);
  lua_Integer count = table ? luaL_len(L, arg) : lua_gettop(L) - arg + 1;
  if (count > NN_MAXDIM) nnL_raise_named(L, "a shape of %d dims; at most %d are possible", (int)count, NN_MAXDIM);
  for (; n < count; n++) {
    if (table) lua_geti(L, arg, n + 1);
    else lua_pushvalue(L, arg + n);
    int ok;
    lua_Integer v = lua_tointegerx(L, -1, &ok);
    if (!ok || lua_type(L, -1) != LUA_TNUMBER)
      nnL_raise_named(L, "a shape is a list of integers, entry %d is %s", n + 1, lua_isnumber(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1));
    shape[n] = v;
    lua_pop(L, 1);
  }
  *ndim = n;
}

nn_dtype nnL_optdtype(lua_State *L, int arg, nn_dtype def) {
  nn_dtype d;
  if (lua_isnoneornil(L, arg)) return def;
  const char *s = lua_type(L, arg) == LUA_TSTRING ? lua_tostring(L, arg) : NULL;
  if (!s || !nn_dtype_from_name(s, &d))
    nnL_raise_named(L, "unknown dtype %s; there are bool, u8, i32, i64, f16, bf16, f32, f64", s ? s : luaL_typename(L, arg));
  return d;
}

/* ---- the collector ---- */
void nnL_pace(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  s->runs = UINT64_MAX; /* the caller may have taken memory without a run */
  nnL_pace_in(L, s);
}

void nnL_pace_in(lua_State *L, nnL_state *s) {
  uint64_t runs = nn_runs(s->ctx);
  if (runs == s->runs) return;
  s->runs = runs;
  nn_memory_info m = nn_memory(s->ctx);
  if (m.allocated < s->young_at) return;
  lua_gc(L, LUA_GCSTEP, 0);
  m = nn_memory(s->ctx);
  if (m.live > s->full_at) {
    lua_gc(L, LUA_GCCOLLECT);
    m = nn_memory(s->ctx);
    s->full_at = m.live > FULL_FLOOR / 2 ? 2 * m.live : FULL_FLOOR;
  }
  s->young_at = m.allocated + YOUNG_BYTES;
}

static void collect_hook(void *ud, int level) {
  nnL_state *s = ud;
  if (level == 0) lua_gc(s->main, LUA_GCSTEP, 0);
  else lua_gc(s->main, LUA_GCCOLLECT);
}

/* ---- scopes ---- */
static int scope_close(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  int *depth = luaL_checkudata(L, 1, "nnlua.scope");
  if (*depth == 0) return 0;
  while (s->nscope >= *depth) { /* inner scopes that were not closed go with it */
    nnL_box *head = &s->scope[s->nscope - 1];
    while (head->next != head) {
      nnL_box *b = head->next;
      nn_tensor *t = b->t;
      nnL_scope_forget(b);
      b->t = NULL;
      nn_release(t);
    }
    s->nscope--;
  }
  *depth = 0;
  return 0;
}

static int scope_new(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  int *depth = lua_newuserdatauv(L, sizeof *depth, 0);
  *depth = 0;
  luaL_setmetatable(L, "nnlua.scope");
  if (s->nscope == NNL_MAXSCOPE) return nnL_raise(L, "scope: more than %d scopes inside each other", NNL_MAXSCOPE);
  nnL_box *head = &s->scope[s->nscope++];
  head->prev = head->next = head;
  *depth = s->nscope;
  return 1;
}

static int scope_keep(lua_State *L) {
  for (int i = 2; i <= lua_gettop(L); i++) nnL_scope_forget(nnL_checkbox(L, i));
  lua_remove(L, 1);
  return lua_gettop(L);
}

/* ---- opening ---- */
static int state_gc(lua_State *L) {
  nnL_state *s = lua_touserdata(L, 1);
  nn_close(s->ctx);
  s->ctx = NULL;
  return 0;
}

static void state_new(lua_State *L) {
  nnL_state *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, state_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  if (nn_open(NULL, &s->ctx) != NN_OK) luaL_error(L, "nnlua: out of memory");
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  s->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  s->young_at = YOUNG_BYTES;
  s->full_at = FULL_FLOOR;
  const char *eager = getenv("NNLUA_EAGER"); /* for tests: the whole suite must pass with each call run by itself */
  nn_set_eager(s->ctx, eager && strcmp(eager, "1") == 0);
  nn_set_hooks(s->ctx, (nn_hooks){.collect = collect_hook, .interrupted = nnL_interrupted, .ud = s});
  lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
}

int luaopen_nnlua_core(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key) == LUA_TNIL) state_new(L);
  lua_pop(L, 1);
  if (luaL_newmetatable(L, "nnlua.scope")) {
    static const luaL_Reg scope[] = {{"__gc", scope_close}, {"__close", scope_close}, {"close", scope_close}, {"keep", scope_keep}, {NULL, NULL}};
    luaL_setfuncs(L, scope, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushcfunction(L, scope_new);
  lua_setfield(L, -2, "scope");
  lua_pushliteral(L, NN_VERSION);
  lua_setfield(L, -2, "version");
  nnL_open_tensor(L);
  nnL_open_index(L);
  nnL_open_device(L);
  nnL_open_ops(L);
  nnL_open_graph(L);
  nnL_open_data(L);
  nnL_open_vision(L);
  nnL_open_sys(L);
  nnL_open_trace(L);
  nnL_open_jit(L);
  nnL_open_json(L);
  nnL_open_h5(L);
  nnL_open_bytes(L);
  nnL_open_sources(L);
  return 1;
}
