/* bindings/lua_tensor.c - making tensors from Lua values and reading them back; the methods that are no operators. */
#include <stdlib.h>
#include <string.h>
#include "nnL.h"

/* ---- from tables ---- */
typedef struct reader {
  lua_State *L;
  int ndim;
  int64_t shape[NN_MAXDIM];
  nn_dtype dtype;
  bool seen;
  char *p;        /* where the next element goes; NULL in the first pass */
} reader;

static void measure(reader *r, int depth) {
  lua_State *L = r->L;
  while (lua_istable(L, -1)) {
    if (depth == NN_MAXDIM) nnL_raise(L, "tensor: the table is nested deeper than %d", NN_MAXDIM);
    r->shape[depth++] = (int64_t)lua_rawlen(L, -1);
    luaL_checkstack(L, 2, "nested table");
    if (lua_rawgeti(L, -1, 1) == LUA_TNIL) break;
  }
  r->ndim = depth;
}

/* pass 1 (p NULL) finds the dtype and checks that the table is regular, pass 2 writes */
static void walk(reader *r, int depth) {
  lua_State *L = r->L;
  if (depth < r->ndim) {
    if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != r->shape[depth])
      nnL_raise(L, "tensor: the table is not regular: expected %d entries at depth %d, got %s", (int)r->shape[depth], depth + 1,
                lua_istable(L, -1) ? "a table of another length" : luaL_typename(L, -1));
    luaL_checkstack(L, 2, "nested table");
    for (int64_t i = 1; i <= r->shape[depth]; i++) {
      lua_rawgeti(L, -1, i);
      walk(r, depth + 1);
      lua_pop(L, 1);
    }
    return;
  }
  int t = lua_type(L, -1);
  if (!r->p) {
    nn_dtype d = t == LUA_TBOOLEAN ? NN_BOOL : lua_isinteger(L, -1) ? NN_I64 : NN_F32;
    if (t != LUA_TBOOLEAN && t != LUA_TNUMBER) nnL_raise(L, "tensor: elements must be numbers or booleans, got %s", luaL_typename(L, -1));
    r->dtype = r->seen ? nn_dtype_promote(r->dtype, d) : d;
    r->seen = true;
    return;
  }
  double f = t == LUA_TBOOLEAN ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
  int64_t n = t == LUA_TBOOLEAN ? lua_toboolean(L, -1) : lua_isinteger(L, -1) ? lua_tointeger(L, -1) : nn_element_int(r->dtype, f);
  nn_element_write(r->dtype, r->p, f, n);
  r->p += nn_dtype_size(r->dtype);
}

static bool bool_field(lua_State *L, int t, const char *k) {
  lua_getfield(L, t, k);
  bool b = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return b;
}

/* make the box's tensor one that wants a gradient */
static void want_grad(lua_State *L, nnL_box *b) {
  nn_tensor *v = nn_variable(b->t);
  if (!v) nnL_check(L, NN_EDTYPE);
  nn_release(b->t);
  b->t = v;
}

/* a new tensor from the host goes where tensors are made */
static void place_here(lua_State *L, nnL_box *b) {
  b->t = nnL_place(b->t, nn_device(nnL_context(L)));
  if (!b->t) nnL_check(L, NN_EINTERNAL);
}

/* tensor(table | number | boolean | tensor [, dtype | {dtype=, requires_grad=}]) */
static int tensor_new(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  bool options = lua_istable(L, 2), grad = options && bool_field(L, 2, "requires_grad");
  if (options) lua_getfield(L, 2, "dtype");
  else lua_settop(L, 2);
  if (!options) lua_pushvalue(L, 2);
  int dt = lua_gettop(L);
  nnL_box *b = nnL_newbox(L);
  nn_tensor *src = nnL_testtensor(L, 1);
  if (src) {
    nn_dtype d = nnL_optdtype(L, dt, nn_dtype_of(src));
    nnL_fill(L, b, d == nn_dtype_of(src) ? nn_detach(src) : nn_call(ctx, "cast", NN_T(src), NN_I(d)));
  } else {
    reader r = {.L = L, .dtype = NN_F32};
    int64_t n = 1;
    lua_pushvalue(L, 1);
    int top = lua_gettop(L);
    measure(&r, 0);
    lua_settop(L, top);
    walk(&r, 0);
    r.dtype = nnL_optdtype(L, dt, r.seen ? r.dtype : NN_F32);
    for (int i = 0; i < r.ndim; i++) n *= r.shape[i];
    nnL_fill(L, b, nn_tensor_new(ctx, r.dtype, r.ndim, r.shape, NULL));
    r.p = (char *)(uintptr_t)nn_data(b->t); /* nobody else has seen it yet */
    walk(&r, 0);
    lua_settop(L, top - 1);
    place_here(L, b);
  }
  if (grad) want_grad(L, b);
  nnL_pace(L);
  return 1;
}

/* from_string(bytes, dtype, shape): raw elements, row-major, this machine's byte order */
static int from_string(lua_State *L) {
  size_t len;
  nnL_checktype(L, 1, LUA_TSTRING);
  const char *p = lua_tolstring(L, 1, &len);
  nn_dtype d = nnL_optdtype(L, 2, NN_U8);
  int64_t shape[NN_MAXDIM], n = 1;
  int nd = 1;
  if (lua_isnoneornil(L, 3)) shape[0] = (int64_t)(len / nn_dtype_size(d));
  else nnL_shape(L, 3, &nd, shape);
  for (int i = 0; i < nd; i++)
    if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n)) nnL_raise(L, "from_string: size %d of the shape is negative or too large", i + 1);
  if ((uint64_t)n > SIZE_MAX / 8 || (size_t)n * nn_dtype_size(d) != len) nnL_raise(L, "from_string: %d bytes do not fill the shape", (int)len);
  nnL_box *b = nnL_newbox(L);
  nnL_fill(L, b, nn_tensor_new(nnL_context(L), d, nd, shape, p));
  place_here(L, b);
  return 1;
}

static int bytes_of(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  const void *p = nn_data(t);
  if (!p) nnL_check(L, NN_EINTERNAL);
  lua_pushlstring(L, p, (size_t)nn_numel(t) * nn_dtype_size(nn_dtype_of(t)));
  return 1;
}

/* ---- constants of a shape ---- */
/* a dtype's name, or {dtype =} */
static nn_dtype dtype_option(lua_State *L, const char *name, int arg, nn_dtype def) {
  if (!lua_istable(L, arg)) return nnL_optdtype(L, arg, def);
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1))
    if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "dtype") != 0)
      nnL_raise(L, "%s: unknown option '%s' (valid: dtype)", name, lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
  lua_getfield(L, arg, "dtype");
  nn_dtype d = nnL_optdtype(L, lua_gettop(L), def);
  lua_pop(L, 1);
  return d;
}

/* zeros(2, 3), zeros(2, 3, dtype), zeros({2, 3}, dtype); {dtype =} in place of dtype */
static int filled(lua_State *L, const char *name, double value) {
  int64_t shape[NN_MAXDIM];
  int nd;
  nn_dtype d = NN_F32;
  const bool list = lua_istable(L, 1);
  const int last = list ? 2 : lua_gettop(L);
  if (list || (last > 0 && (lua_type(L, last) == LUA_TSTRING || lua_istable(L, last)))) d = dtype_option(L, name, last, NN_F32), lua_settop(L, last - 1);
  nnL_shape(L, 1, &nd, shape);
  nnL_box *b = nnL_newbox(L);
  b->t = nn_call(nnL_context(L), "full", NN_INTS(nd, shape), NN_F(value), NN_I(d));
  if (!b->t) nnL_check_named(L, NN_EINTERNAL, "full");
  return 1;
}
static int zeros(lua_State *L) { return filled(L, "zeros", 0); }
static int ones(lua_State *L) { return filled(L, "ones", 1); }

/* zeros_like(x), zeros_like(x, dtype), zeros_like(x, {dtype =}) */
static int like(lua_State *L, const char *name, double value) {
  nn_tensor *t = nnL_checktensor(L, 1);
  nn_dtype d = dtype_option(L, name, 2, nn_dtype_of(t));
  nnL_box *b = nnL_newbox(L);
  nn_context *ctx = nnL_context(L);
  const int outer = nn_device(ctx);
  nn_set_device(ctx, nn_device_of(t)); /* where x lies */
  nn_tensor *made = nn_call(ctx, "full", NN_INTS(nn_ndim(t), nn_shape(t)), NN_F(value), NN_I(d));
  nn_set_device(ctx, outer);
  nnL_fill(L, b, made);
  return 1;
}
static int zeros_like(lua_State *L) { return like(L, "zeros_like", 0); }
static int ones_like(lua_State *L) { return like(L, "ones_like", 1); }

/* rand(2, 3): uniform in [0, 1); randn: standard normal */
static int draws(lua_State *L, const char *op) {
  int64_t shape[NN_MAXDIM];
  int nd;
  nnL_shape(L, 1, &nd, shape);
  nnL_box *b = nnL_newbox(L);
  b->t = nn_call(nnL_context(L), op, NN_INTS(nd, shape));
  if (!b->t) nnL_check_named(L, NN_EINTERNAL, op);
  return 1;
}
static int rand_(lua_State *L) { return draws(L, "uniform"); }
static int randn(lua_State *L) { return draws(L, "normal"); }

/* ---- what a tensor is ---- */
static int shape(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  lua_createtable(L, nn_ndim(t), 0);
  for (int i = 0; i < nn_ndim(t); i++) {
    lua_pushinteger(L, nn_shape(t)[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int size(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  int n = nn_ndim(t);
  if (!lua_isnoneornil(L, 2)) {
    lua_Integer d = nnL_checkinteger(L, 2);
    if (d == 0 || d > n || d < -n) return nnL_raise(L, "size: dim %d is out of range: the tensor has %d dims (counted from 1)", (int)d, n);
    lua_pushinteger(L, nn_shape(t)[d < 0 ? d + n : d - 1]);
    return 1;
  }
  luaL_checkstack(L, n, NULL);
  for (int i = 0; i < n; i++) lua_pushinteger(L, nn_shape(t)[i]);
  return n;
}

static int len(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  if (nn_ndim(t) == 0) return nnL_raise(L, "#: a scalar has no length");
  lua_pushinteger(L, nn_shape(t)[0]);
  return 1;
}

static int dim(lua_State *L) {
  lua_pushinteger(L, nn_ndim(nnL_checktensor(L, 1)));
  return 1;
}
static int numel(lua_State *L) {
  lua_pushinteger(L, nn_numel(nnL_checktensor(L, 1)));
  return 1;
}
static int dtype(lua_State *L) {
  lua_pushstring(L, nn_dtype_name(nn_dtype_of(nnL_checktensor(L, 1))));
  return 1;
}
static int is_contiguous(lua_State *L) {
  lua_pushboolean(L, nn_is_contiguous(nnL_checktensor(L, 1)));
  return 1;
}

/* ---- reading ---- */
static void push_element(lua_State *L, nn_dtype d, const char *p) {
  double f;
  int64_t n;
  nn_element_read(d, p, &f, &n);
  if (d == NN_BOOL) lua_pushboolean(L, n != 0);
  else if (nn_dtype_is_float(d)) lua_pushnumber(L, f);
  else lua_pushinteger(L, n);
}

static int item(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  double f;
  int64_t i;
  nnL_check(L, nn_item(t, &f, &i));
  if (nn_dtype_is_float(nn_dtype_of(t))) lua_pushnumber(L, f);
  else if (nn_dtype_of(t) == NN_BOOL) lua_pushboolean(L, i != 0);
  else lua_pushinteger(L, i);
  return 1;
}

static void push_table(lua_State *L, const nn_tensor *t, int depth, const char **p) {
  if (depth == nn_ndim(t)) {
    push_element(L, nn_dtype_of(t), *p);
    *p += nn_dtype_size(nn_dtype_of(t));
    return;
  }
  int64_t n = nn_shape(t)[depth];
  luaL_checkstack(L, 3, NULL);
  lua_createtable(L, (int)(n < 1 << 20 ? n : 1 << 20), 0);
  for (int64_t i = 1; i <= n; i++) {
    push_table(L, t, depth + 1, p);
    lua_rawseti(L, -2, i);
  }
}

static int totable(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  const char *p = nn_data(t);
  if (!p) nnL_check(L, NN_EINTERNAL);
  push_table(L, t, 0, &p);
  return 1;
}

/* elements start..stop (1-based) of the row-major order as numbers: what printing needs of a large tensor */
static int elements(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  lua_Integer a = nnL_checkinteger(L, 2), b = nnL_checkinteger(L, 3);
  if (a < 1 || b > nn_numel(t)) return nnL_raise(L, "elements: %d..%d is not in 1..%d", (int)a, (int)b, (int)nn_numel(t));
  const char *p = nn_data(t);
  if (!p) nnL_check(L, NN_EINTERNAL);
  size_t sz = nn_dtype_size(nn_dtype_of(t));
  lua_createtable(L, b >= a ? (int)(b - a + 1) : 0, 0);
  for (lua_Integer i = a; i <= b; i++) {
    push_element(L, nn_dtype_of(t), p + (size_t)(i - 1) * sz);
    lua_rawseti(L, -2, i - a + 1);
  }
  return 1;
}

/* ---- handles ---- */
static int tensor_gc(lua_State *L) {
  nnL_box *b = luaL_checkudata(L, 1, NNL_TENSOR);
  nn_tensor *t = b->t;
  nnL_scope_forget(b);
  b->t = NULL;
  nn_release(t);
  return 0;
}

static int keep(lua_State *L) {
  nnL_scope_forget(nnL_checkbox(L, 1));
  lua_settop(L, 1);
  return 1;
}

static int clone(lua_State *L) { /* a value never changes: a clone is another handle on it, with the same history */
  nn_tensor *t = nnL_checktensor(L, 1);
  nnL_box *b = nnL_newbox(L);
  b->t = nn_retain(t);
  return 1;
}

static int detach(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  nnL_box *b = nnL_newbox(L);
  nnL_fill(L, b, nn_detach(t));
  return 1;
}

/* x:to("i64"), x:to("cpu"), x:float(), ... */
static int cast_to(lua_State *L, nn_dtype d) {
  nn_tensor *t = nnL_checktensor(L, 1);
  lua_settop(L, 1);
  if (d == nn_dtype_of(t)) return 1;
  nnL_box *b = nnL_newbox(L);
  nnL_fill(L, b, nn_call(nnL_context(L), "cast", NN_T(t), NN_I(d)));
  return 1;
}
static int to(lua_State *L) {
  nnL_checktype(L, 2, LUA_TSTRING);
  const char *s = lua_tostring(L, 2);
  nn_dtype d;
  if (nnL_to_device(L, s)) return 1;
  if (!nn_dtype_from_name(s, &d)) return nnL_raise(L, "to: '%s' is neither a dtype (bool, u8, i32, i64, f32, ...) nor a device (cpu, vulkan, vulkan:2, ...)", s);
  return cast_to(L, d);
}
static int to_float(lua_State *L) { return cast_to(L, NN_F32); }
static int to_long(lua_State *L) { return cast_to(L, NN_I64); }
static int to_int(lua_State *L) { return cast_to(L, NN_I32); }
static int to_double(lua_State *L) { return cast_to(L, NN_F64); }
static int to_half(lua_State *L) { return cast_to(L, NN_F16); }
static int to_byte(lua_State *L) { return cast_to(L, NN_U8); }
static int to_bool(lua_State *L) { return cast_to(L, NN_BOOL); }

static int is_tensor(lua_State *L) {
  nnL_box *b = luaL_testudata(L, 1, NNL_TENSOR);
  lua_pushboolean(L, b && b->t);
  return 1;
}

static int alive(lua_State *L) {
  nnL_box *b = luaL_checkudata(L, 1, NNL_TENSOR);
  lua_pushboolean(L, b->t != NULL);
  return 1;
}

void nnL_open_tensor(lua_State *L) {
  static const luaL_Reg functions[] = {{"tensor", tensor_new}, {"from_string", from_string}, {"zeros", zeros}, {"ones", ones},
                                       {"zeros_like", zeros_like}, {"ones_like", ones_like}, {"rand", rand_}, {"randn", randn},
                                       {"is_tensor", is_tensor}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"shape", shape}, {"size", size}, {"dim", dim}, {"numel", numel}, {"dtype", dtype},
                                     {"is_contiguous", is_contiguous}, {"item", item}, {"totable", totable}, {"elements", elements},
                                     {"tostring_bytes", bytes_of}, {"free", tensor_gc}, {"keep", keep}, {"clone", clone}, {"detach", detach},
                                     {"to", to}, {"float", to_float}, {"double", to_double}, {"half", to_half},
                                     {"long", to_long}, {"int", to_int}, {"byte", to_byte}, {"bool", to_bool},
                                     {"zeros_like", zeros_like}, {"ones_like", ones_like}, {"is_alive", alive}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  if (luaL_newmetatable(L, NNL_TENSOR)) {
    lua_pushcfunction(L, tensor_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, tensor_gc);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, len);
    lua_setfield(L, -2, "__len");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "methods");
  }
  lua_setfield(L, -2, "tensor_metatable");
}
