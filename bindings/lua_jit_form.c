/* bindings/lua_jit_form.c - nn.jit: the form of a call: its arguments, the variables of the function, options of what it used. Noted when a trace is
** recorded, compared at each call. Tables without a metatable are walked; anything else that is no tensor is a constant and must be the very same.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua_jit.h"

static nnL_box *box_at(lua_State *L, int i) { return nnL_testbox(L, i); }

/* ---- arguments ---- */
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
void nnL_jit_copy(lua_State *L, trace *t, struct nnL_session *r, int i, int constants, int *nconst, int depth) {
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
      nnL_jit_copy(L, t, r, key + 1, constants, nconst, depth + 1);
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

bool nnL_jit_mismatch(matching *m, const char *fmt, ...) {
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

bool nnL_jit_match(matching *m, int i, int arg) {
  lua_State *L = m->L;
  const item x = m->t->item[m->pos++];
  nnL_box *b = NULL;
  if (lua_type(L, i) == LUA_TUSERDATA && lua_getmetatable(L, i)) {
    if (lua_rawequal(L, -1, m->metatable)) b = lua_touserdata(L, i);
    lua_pop(L, 1);
  }
  if (x.kind == TENSOR) {
    if (!b || !b->t) return nnL_jit_mismatch(m, "argument %d is no tensor any more", arg);
    m->leaf[x.n] = b;
    return true;
  }
  if (x.kind == SAME) return b == m->leaf[x.n] || nnL_jit_mismatch(m, "argument %d is another tensor than argument %d now", arg, m->t->leaf_arg[x.n]);
  if (x.kind == CONSTANT) {
    if (lua_rawgeti(L, m->constants, ++m->nconst), lua_rawequal(L, -1, i)) return lua_pop(L, 1), true;
    char was[64], is[64];
    shown(L, lua_gettop(L), was, sizeof was);
    shown(L, i, is, sizeof is);
    if (strcmp(was, is) == 0) return nnL_jit_mismatch(m, "argument %d is another %s", arg, was + (was[0] == 'a' ? 2 : 0));
    return nnL_jit_mismatch(m, "argument %d changed: %s -> %s", arg, was, is);
  }
  int n = 0;
  if (!plain_table(L, i)) return nnL_jit_mismatch(m, "argument %d is no table any more", arg);
  luaL_checkstack(L, 8, "arguments nested deeply");
  for (lua_pushnil(L); lua_next(L, i); n++) lua_pop(L, 1);
  if (n != x.n) return nnL_jit_mismatch(m, "the table in argument %d has %d entries, had %d", arg, n, x.n);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, m->constants, ++m->nconst);
    lua_rawget(L, i);
    int child = lua_gettop(L);
    bool ok = nnL_jit_match(m, child, arg);
    lua_settop(L, child - 1);
    if (!ok) return false;
  }
  return true;
}

bool nnL_jit_wants_grad(lua_State *L, int i, int depth) {
  nnL_box *b = box_at(L, i);
  if (b) return b->t && nn_requires_grad(b->t);
  if (depth == MAXDEPTH || !plain_table(L, i)) return false;
  luaL_checkstack(L, 8, "arguments nested deeply");
  bool wants = false;
  for (lua_pushnil(L); lua_next(L, i) && !wants; ) {
    wants = nnL_jit_wants_grad(L, lua_gettop(L), depth + 1);
    lua_settop(L, wants ? i : -2);
  }
  return wants;
}

/* ---- the function's variables, and fields ---- */
/* Variables (upvalues) of fn and of the functions among them, without the library's, as triples function, number, value. Gives how many. */
int nnL_jit_variables(lua_State *L, int fn, int list) {
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

bool nnL_jit_variables_match(lua_State *L, int list, int n, char *why, size_t size) {
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

bool nnL_jit_fields_match(lua_State *L, int fields, char *why, size_t n) {
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
