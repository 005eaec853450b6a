/* bindings/lua_index.c - x[...] and x[...] = v.
**
**   x[i]                      slice i of dim 1 (the dim is dropped); negative counts from the end
**   x[{ {1, 3}, {}, -1 }]     per dim: {first, last[, step]} closed range, {} everything, a number (dim dropped), a tensor of positions (one at most)
**   x[mask], x[ids]           elements where a bool tensor is true (1-D); slices of dim 1 named by an integer tensor
** Assignment takes the same keys and re-binds the handle to a new value; the value is broadcast to the box.
** A string key is a method.
*/
#include <stdlib.h>
#include <string.h>
#include "nnL.h"

typedef struct box {
  int n;                                                     /* dims of x */
  int64_t start[NN_MAXDIM], size[NN_MAXDIM], step[NN_MAXDIM];
  int64_t shape[NN_MAXDIM];                                  /* of the box without dropped dims */
  int nshape;
  nn_tensor *ids;                                            /* a tensor of positions (borrowed), and its dim */
  int ids_dim;                                               /* in the result's dims */
} box;

static int64_t position(lua_State *L, int64_t i, int64_t size, int dim) {
  if (i == 0) nnL_raise(L, "index: position 0 in dim %d: positions count from 1, or from -1 at the end", dim + 1);
  int64_t p = i < 0 ? i + size : i - 1;
  if (p < 0 || p >= size) nnL_raise(L, "index: position %lld is out of range in dim %d of size %lld", (long long)i, dim + 1, (long long)size);
  return p;
}

static int64_t integer(lua_State *L, int dim) {
  int ok;
  int64_t v = lua_tointegerx(L, -1, &ok);
  if (!ok || lua_type(L, -1) != LUA_TNUMBER) nnL_raise(L, "index: entry of dim %d must be an integer, a range {first, last}, {} or a tensor of positions, got %s", dim + 1, luaL_typename(L, -1));
  return v;
}

/* the range table on top of the stack */
static void range(lua_State *L, box *b, int d, int64_t size) {
  int n = (int)lua_rawlen(L, -1);
  int64_t v[3] = {1, -1, 1};
  if (n > 3) nnL_raise(L, "index: a range is {first, last} or {first, last, step}");
  if (n == 0 || size == 0) {
    b->start[d] = 0, b->size[d] = size, b->step[d] = 1;
    return;
  }
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -1, i + 1);
    v[i] = integer(L, d);
    lua_pop(L, 1);
  }
  if (n == 1) v[1] = v[0];
  if (v[2] == 0) nnL_raise(L, "index: step 0 in dim %d", d + 1);
  if (v[2] > 0 && v[1] >= 0 && v[0] > 0 && v[1] == v[0] - 1) { /* {3, 2}: an empty range */
    b->start[d] = 0, b->size[d] = 0, b->step[d] = 1;
    return;
  }
  int64_t first = position(L, v[0], size, d), last = position(L, v[1], size, d);
  if ((v[2] > 0 && last < first) || (v[2] < 0 && last > first))
    nnL_raise(L, "index: the range %lld..%lld in dim %d runs backwards", (long long)v[0], (long long)v[1], d + 1);
  b->start[d] = first;
  b->step[d] = v[2];
  b->size[d] = (last - first) / v[2] + 1;
}

static void parse(lua_State *L, nn_tensor *x, int key, box *b) {
  *b = (box){.n = nn_ndim(x)};
  bool table = lua_istable(L, key);
  int n = table ? (int)lua_rawlen(L, key) : 1;
  if (n > b->n) nnL_raise(L, "index: %d entries for a tensor of %d dims", n, b->n);
  for (int d = 0; d < b->n; d++) {
    int64_t size = nn_shape(x)[d];
    bool drop = false;
    b->start[d] = 0, b->size[d] = size, b->step[d] = 1;
    if (d < n) {
      if (table) lua_rawgeti(L, key, d + 1);
      else lua_pushvalue(L, key);
      nn_tensor *t = nnL_testtensor(L, -1);
      if (t) {
        if (b->ids) nnL_raise(L, "index: one tensor of positions is possible, dim %d has a second", d + 1);
        if (nn_ndim(t) != 1 || nn_dtype_of(t) == NN_F32) nnL_raise(L, "index: positions must be a 1-D tensor of integers or booleans");
        b->ids = t;
        b->ids_dim = b->nshape;
      } else if (lua_istable(L, -1)) range(L, b, d, size);
      else {
        b->start[d] = position(L, integer(L, d), size, d);
        b->size[d] = 1;
        drop = true;
      }
      lua_pop(L, 1);
    }
    if (!drop) b->shape[b->nshape++] = b->size[d];
  }
}

/* the positions (1-based, i64) where a bool tensor is true, as a new reference */
static nn_tensor *where_true(lua_State *L, nn_tensor *mask) {
  const uint8_t *p = nn_data(mask);
  if (!p) nnL_check(L, NN_EINTERNAL);
  int64_t n = nn_numel(mask), k = 0;
  int64_t *v = lua_newuserdatauv(L, sizeof *v * (size_t)(n + 1), 0);
  for (int64_t i = 0; i < n; i++)
    if (p[i]) v[k++] = i;
  nn_tensor *t = nn_tensor_new(nnL_context(L), NN_I64, 1, &k, v);
  if (!t) nnL_check(L, NN_ENOMEM);
  return t;
}

/* 0-based ids of a key tensor, as a new reference */
static nn_tensor *zero_based(lua_State *L, nn_tensor *t) {
  nn_context *ctx = nnL_context(L);
  if (nn_dtype_of(t) == NN_BOOL) return where_true(L, t);
  nn_tensor *w = nn_call(ctx, "cast", NN_T(t), NN_I(NN_I64)), *z = w ? nn_call(ctx, "sub", NN_T(w), NN_I(1)) : NULL;
  nn_release(w);
  if (!z) nnL_check(L, NN_EINTERNAL);
  return z;
}

static nn_tensor *select_ids(lua_State *L, nn_tensor *x, int dim, nn_tensor *ids) {
  nn_tensor *z = zero_based(L, ids), *y = nn_call(nnL_context(L), "index_select", NN_T(x), NN_I(dim), NN_T(z));
  nn_release(z);
  return y;
}

static bool same_shape(const nn_tensor *a, const nn_tensor *b) {
  return nn_ndim(a) == nn_ndim(b) && memcmp(nn_shape(a), nn_shape(b), sizeof(int64_t) * (size_t)nn_ndim(a)) == 0;
}

static int index_value(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *x = nnL_checktensor(L, 1), *key = nnL_testtensor(L, 2);
  nnL_box *r = nnL_newbox(L);
  if (key && nn_dtype_of(key) == NN_BOOL && nn_ndim(key) > 0 && (nn_ndim(key) > 1 || nn_ndim(x) == 1)) {
    if (!same_shape(x, key)) return nnL_raise(L, "index: the mask must have the tensor's shape");
    nn_tensor *flat = nn_call(ctx, "flatten", NN_T(x));
    nnL_fill(L, r, flat); /* anchored while the mask is read */
    nn_tensor *z = where_true(L, key);
    r->t = nn_call(ctx, "index_select", NN_T(flat), NN_I(0), NN_T(z));
    nn_release(z);
    nn_release(flat);
    if (!r->t) nnL_check(L, NN_EINTERNAL);
    lua_settop(L, 3); /* the result; where_true left its list above */
    return 1;
  }
  if (nn_ndim(x) == 0) return nnL_raise(L, "index: a scalar cannot be indexed; use :item()");
  box b;
  parse(L, x, 2, &b);
  nn_tensor *s = nn_call(ctx, "slice", NN_T(x), NN_INTS(b.n, b.start), NN_INTS(b.n, b.size), NN_INTS(b.n, b.step));
  if (!s) nnL_check(L, NN_EINDEX);
  nn_tensor *y = b.nshape == b.n ? s : nn_call(ctx, "reshape", NN_T(s), NN_INTS(b.nshape, b.shape));
  if (y != s) nn_release(s);
  if (y && b.ids) {
    r->t = y; /* anchored while ids are converted */
    nn_tensor *w = select_ids(L, y, b.ids_dim, b.ids);
    nn_release(y);
    r->t = NULL;
    y = w;
  }
  nnL_fill(L, r, y);
  lua_settop(L, 3);
  nnL_pace(L);
  return 1;
}

/* __index: a string is a method */
static int index_any(lua_State *L) {
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    const char *k = lua_tostring(L, 2);
    size_t n = strlen(k);
    if (lua_isnil(L, -1) && n > 1 && k[n - 1] == '_') {
      lua_pushlstring(L, k, n - 1);
      bool known = lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL;
      if (known) return nnL_raise(L, "there are no in-place methods: a tensor is a value; write x = x:%.*s(...)", (int)n - 1, k);
      lua_pop(L, 1);
    }
    return 1;
  }
  return index_value(L);
}

static nn_tensor *value_for(lua_State *L, int arg, nn_dtype d) {
  nn_tensor *v = nnL_testtensor(L, arg);
  if (v) return nn_retain(v);
  if (lua_type(L, arg) != LUA_TNUMBER && lua_type(L, arg) != LUA_TBOOLEAN) nnL_raise(L, "index: the value must be a tensor or a number, got %s", luaL_typename(L, arg));
  v = nn_scalar(nnL_context(L), d, lua_isboolean(L, arg) ? lua_toboolean(L, arg) : lua_tonumber(L, arg));
  if (!v) nnL_check(L, NN_ENOMEM);
  return v;
}

static int newindex(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nnL_box *xb = nnL_checkbox(L, 1);
  nn_tensor *x = xb->t, *key = nnL_testtensor(L, 2), *y;
  if (lua_type(L, 2) == LUA_TSTRING) return nnL_raise(L, "a tensor has no fields to assign ('%s')", lua_tostring(L, 2));
  box b = {0};
  nnL_box *hold = nnL_newbox(L);
  if (key && nn_dtype_of(key) == NN_BOOL && same_shape(x, key)) {
    hold->t = value_for(L, 3, nn_dtype_of(x));
    y = nn_call(ctx, "where", NN_T(key), NN_T(hold->t), NN_T(x));
  } else {
    if (nn_ndim(x) == 0) return nnL_raise(L, "index: a scalar cannot be indexed");
    parse(L, x, 2, &b);
    if (b.ids) return nnL_raise(L, "index: assignment by a tensor of positions is not possible; use a mask or ranges");
    hold->t = value_for(L, 3, nn_dtype_of(x));
    nn_tensor *v = nn_retain(hold->t);
    if (nn_ndim(v) > 0 && b.nshape != b.n) { /* the value has the box's shape without the dropped dims: put them back */
      nn_tensor *e = nn_call(ctx, "expand", NN_T(v), NN_INTS(b.nshape, b.shape)), *w = e ? nn_call(ctx, "reshape", NN_T(e), NN_INTS(b.n, b.size)) : NULL;
      nn_release(e);
      nn_release(v);
      if (!w) nnL_check(L, NN_ESHAPE);
      v = w;
    }
    y = nn_call(ctx, "slice_set", NN_T(x), NN_T(v), NN_INTS(b.n, b.start), NN_INTS(b.n, b.size), NN_INTS(b.n, b.step));
    nn_release(v);
  }
  if (y && nn_dtype_of(y) != nn_dtype_of(x)) {
    nn_tensor *w = nn_call(ctx, "cast", NN_T(y), NN_I(nn_dtype_of(x)));
    nn_release(y);
    y = w;
  }
  if (!y) nnL_check(L, NN_EINDEX);
  if (nn_requires_grad(x) && !nn_grad_enabled(ctx)) { /* a variable under no_grad stays a variable */
    nn_tensor *w = nn_assign(x, y);
    nn_release(y);
    if (!w) nnL_check(L, NN_ESHAPE);
    y = w;
  }
  xb->t = y;
  nn_release(x);
  nnL_pace(L);
  return 0;
}

void nnL_open_index(lua_State *L) {
  luaL_getmetatable(L, NNL_TENSOR);
  lua_getfield(L, -1, "methods");
  lua_pushcclosure(L, index_any, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, newindex);
  lua_setfield(L, -2, "__newindex");
  lua_pop(L, 1);
}
