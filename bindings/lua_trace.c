/* bindings/lua_trace.c - traces of runs as Lua tables; lua/nnlua/graph.lua prints, draws and profiles them. */
#include "nnL.h"

static void field_number(lua_State *L, const char *k, double v) {
  lua_pushnumber(L, v);
  lua_setfield(L, -2, k);
}
static void field_integer(lua_State *L, const char *k, lua_Integer v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, k);
}
static void field_text(lua_State *L, const char *k, const char *v) {
  lua_pushstring(L, v);
  lua_setfield(L, -2, k);
}
static void field_bool(lua_State *L, const char *k, bool v) {
  lua_pushboolean(L, v);
  lua_setfield(L, -2, k);
}

/* {op=, dtype=, shape=, inputs={node number | -k for the k-th value from before | false for a number}, unit= | nil, line=, visible=} */
static void push_node(lua_State *L, const nn_trace_node *n) {
  lua_createtable(L, 0, 8);
  field_text(L, "op", n->op);
  field_text(L, "dtype", nn_dtype_name(n->dtype));
  lua_createtable(L, n->ndim, 0);
  for (int i = 0; i < n->ndim; i++) {
    lua_pushinteger(L, n->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "shape");
  lua_createtable(L, n->nin, 0);
  for (int i = 0; i < n->nin; i++) {
    if (n->in[i] == NN_TRACE_SCALAR) lua_pushboolean(L, 0);
    else lua_pushinteger(L, n->in[i] < 0 ? n->in[i] : n->in[i] + 1);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "inputs");
  if (n->unit >= 0) field_integer(L, "unit", n->unit + 1);
  field_integer(L, "line", n->line);
  field_bool(L, "visible", n->visible);
}

static void push_unit(lua_State *L, const nn_trace_unit *u) {
  lua_createtable(L, 0, 6);
  field_text(L, "name", u->name);
  field_integer(L, "nodes", u->nnode);
  field_number(L, "flops", u->flops);
  field_number(L, "bytes", u->bytes);
  field_number(L, "start", u->start);
  field_number(L, "stop", u->end);
}

static void push_run(lua_State *L, const nn_trace_run *r) {
  lua_createtable(L, 0, 7);
  lua_createtable(L, r->nnode, 0);
  for (int i = 0; i < r->nnode; i++) {
    push_node(L, &r->node[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "nodes");
  lua_createtable(L, r->nunit, 0);
  for (int i = 0; i < r->nunit; i++) {
    push_unit(L, &r->unit[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "units");
  field_integer(L, "inputs", r->ninput);
  field_integer(L, "arena", (lua_Integer)r->arena);
  field_integer(L, "outputs", (lua_Integer)r->outputs);
  field_integer(L, "unplanned", (lua_Integer)r->unplanned);
  field_bool(L, "hit", r->hit);
}

/* trace_start(): what runs do from now on is noted, with the caller's lines */
static int trace_start(lua_State *L) {
  nnL_getstate(L)->lines = true;
  nn_trace_start(nnL_context(L));
  return 0;
}

/* trace_stop() -> list of runs */
static int trace_stop(lua_State *L) {
  int n;
  const nn_trace_run *r = nn_trace_stop(nnL_context(L), &n);
  nnL_getstate(L)->lines = false;
  nn_set_line(nnL_context(L), 0);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_run(L, &r[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* check_finite(on): stop at the first operator that makes a NaN or Inf of finite arguments */
static int check_finite(lua_State *L) {
  nnL_state *s = nnL_getstate(L);
  nnL_check(L, nn_eval(s->ctx));
  s->lines = lua_toboolean(L, 1);
  nn_set_check_finite(s->ctx, lua_toboolean(L, 1));
  return 0;
}

void nnL_open_trace(lua_State *L) {
  static const luaL_Reg functions[] = {{"trace_start", trace_start}, {"trace_stop", trace_stop}, {"check_finite", check_finite}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
