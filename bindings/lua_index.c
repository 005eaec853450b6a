/* bindings/lua_index.c - x[...] and x[...] = v.
**
**   x[i]                      slice i of dim 1 (the dim is dropped); negative counts from the end
**   x[{ {1, 3}, {}, -1 }]     per dim: {first, last[, step]} closed range, {} everything, a number (dim dropped), a tensor of positions, a mask
**   x[ids], x[mask]           slices of dim 1 named by an integer tensor; elements (or slices) where a bool tensor is true
** Tensors of positions may have any shape and be several: they are broadcast together and name tuples, as in NumPy (numbers beside them drop their
** dim first, as in PyTorch); -1 is the last position. A mask of k dims stands for k dims. Positions of a mask are needed at
** once, so it runs what is pending.
** Assignment takes the same keys and re-binds the handle to a new value; the value is broadcast to what the key names. A string key is a method.
*/
#include <stdlib.h>
#include <string.h>
#include "nnL.h"

#define MAXTEMP 48
#define HELD "nnlua.held"
typedef struct held { /* a userdata that lets go of its tensors when it is collected */
  int n;
  nn_tensor *x[MAXTEMP];
} held;
typedef struct temps { /* what is made on the way: held from the moment it exists, without another allocation, so that an error leaks nothing */
  lua_State *L;
  held *h; /* on the Lua stack */
} temps;

typedef struct box {
  int n;                                                     /* dims of x */
  int64_t start[NN_MAXDIM], size[NN_MAXDIM], step[NN_MAXDIM];
  int64_t shape[NN_MAXDIM];                                  /* of the box without dropped dims */
  int nshape;
  bool whole;                                                /* nothing but tensors of positions */
  nn_tensor *ids[NN_MAXDIM];                                 /* tensors of 0-based positions, held by temps */
  int64_t ids_dim[NN_MAXDIM];                                /* which dim of the box without dropped dims each is for */
  int nids;
} box;

/* leaves the holder on the stack; before anything native is made */
static temps start(lua_State *L) {
  temps t = {L, lua_newuserdatauv(L, sizeof(held), 0)};
  t.h->n = 0;
  luaL_setmetatable(L, HELD);
  return t;
}

static void let_go(temps *t) {
  while (t->h->n > 0) nn_release(t->h->x[--t->h->n]);
}

static int held_gc(lua_State *L) {
  temps t = {L, luaL_checkudata(L, 1, HELD)};
  let_go(&t);
  return 0;
}

/* an operator's result, held until the end of the call */
static nn_tensor *hold(temps *t, nn_tensor *x) {
  if (!x) nnL_check(t->L, NN_EINTERNAL);
  if (t->h->n == MAXTEMP) {
    nn_release(x);
    nnL_raise(t->L, "index: the key is too long");
  }
  return t->h->x[t->h->n++] = x;
}

static int64_t position(lua_State *L, int64_t i, int64_t size, int dim) {
  if (i == 0) nnL_raise(L, "index: position 0 in dim %d: positions count from 1, or from -1 at the end", dim + 1);
  int64_t p = i < 0 ? i + size : i - 1;
  if (p < 0 || p >= size) nnL_raise(L, "index: position %lld is out of range in dim %d of size %lld", (long long)i, dim + 1, (long long)size);
  return p;
}

static int64_t integer(lua_State *L, int dim) {
  int ok;
  int64_t v = lua_tointegerx(L, -1, &ok);
  if (!ok || lua_type(L, -1) != LUA_TNUMBER)
    nnL_raise(L, "index: entry of dim %d must be an integer, a range {first, last}, {} or a tensor of positions, got %s", dim + 1,
              luaL_typename(L, -1));
  return v;
}

/* the range table on top of the stack */
static void range(lua_State *L, box *b, int d, int64_t size) {
  int n = (int)lua_rawlen(L, -1);
  int64_t v[3] = {1, -1, 1};
  if (n > 3) nnL_raise(L, "index: a range is {first, last} or {first, last, step}");
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -1, i + 1);
    v[i] = integer(L, d);
    lua_pop(L, 1);
  }
  if (n == 0 || (n > 1 && size == 0 && ((v[0] == 1 && v[1] == -1) || (v[0] == -1 && v[1] == 1)))) { /* {1, -1} is everything of an empty dim too */
    b->start[d] = 0, b->size[d] = size, b->step[d] = 1;
    return;
  }
  if (n == 1) v[1] = v[0];
  if (v[2] == 0) nnL_raise(L, "index: step 0 in dim %d", d + 1);
  if (v[2] > 0 && v[1] >= 0 && v[0] > 0 && v[1] == v[0] - 1) { /* {3, 2}: an empty range, which may lie behind the end */
    if (v[1] > size) position(L, v[0], size, d);
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

/* 0-based positions of an integer tensor for a dim of this size; what lies outside stays outside by as much */
static nn_tensor *zero_based(temps *t, nn_tensor *ids, int64_t size) {
  nn_context *ctx = nnL_context(t->L);
  nn_tensor *w = hold(t, nn_call(ctx, "cast", NN_T(ids), NN_I(NN_I64)));
  nn_tensor *negative = hold(t, nn_call(ctx, "lt", NN_T(w), NN_I(0))), *known = hold(t, nn_call(ctx, "ge", NN_T(w), NN_I(-size)));
  nn_tensor *from_end = hold(t, nn_call(ctx, "logical_and", NN_T(negative), NN_T(known)));
  nn_tensor *off = hold(t, nn_call(ctx, "where", NN_T(from_end), NN_I(size), NN_I(-1)));
  return hold(t, nn_call(ctx, "add", NN_T(w), NN_T(off)));
}

static void add_ids(lua_State *L, box *b, nn_tensor *ids) {
  if (b->nids == NN_MAXDIM) nnL_raise(L, "index: more than %d tensors of positions", NN_MAXDIM);
  b->ids_dim[b->nids] = b->nshape;
  b->ids[b->nids++] = ids;
}

/* a mask over dims d.. of x: a column of positions for each */
static void mask(lua_State *L, nn_tensor *x, box *b, int d, nn_tensor *m, temps *t) {
  nn_context *ctx = nnL_context(L);
  int k = nn_ndim(m);
  if (k < 1 || d + k > b->n) nnL_raise(L, "index: a mask of %d dims at dim %d of a tensor of %d dims", k, d + 1, b->n);
  for (int i = 0; i < k; i++)
    if (nn_shape(m)[i] != nn_shape(x)[d + i])
      nnL_raise(L, "index: the mask's size %lld differs from the tensor's in dim %d, %lld", (long long)nn_shape(m)[i], d + i + 1,
                (long long)nn_shape(x)[d + i]);
  nn_tensor *at = hold(t, nn_call(ctx, "nonzero", NN_T(m))); /* (count, k) */
  for (int i = 0; i < k; i++) {
    const int64_t start[2] = {0, i}, size[2] = {nn_shape(at)[0], 1}, step[2] = {1, 1};
    nn_tensor *column = hold(t, nn_call(ctx, "slice", NN_T(at), NN_INTS(2, start), NN_INTS(2, size), NN_INTS(2, step)));
    add_ids(L, b, hold(t, nn_call(ctx, "reshape", NN_T(column), NN_INTS(1, size))));
    b->shape[b->nshape++] = b->size[d + i] = nn_shape(x)[d + i];
  }
}

/* the entry on top of the stack, for dim d; gives how many dims it stands for */
static int entry(lua_State *L, nn_tensor *x, box *b, int d, temps *t) {
  int64_t size = nn_shape(x)[d];
  nn_tensor *e = nnL_testtensor(L, -1);
  if (e && nn_dtype_of(e) == NN_BOOL) {
    mask(L, x, b, d, e, t);
    return nn_ndim(e);
  }
  if (e) {
    if (nn_dtype_is_float(nn_dtype_of(e)))
      nnL_raise(L, "index: positions must be integers or a mask, dim %d has a tensor of dtype %s", d + 1, nn_dtype_name(nn_dtype_of(e)));
    add_ids(L, b, zero_based(t, e, size));
  } else if (lua_istable(L, -1)) {
    range(L, b, d, size);
    b->whole = b->whole && b->size[d] == size && b->step[d] == 1;
  } else {
    b->start[d] = position(L, integer(L, d), size, d);
    b->size[d] = 1;
    b->whole = false;
    return 1;
  }
  b->shape[b->nshape++] = b->size[d];
  return 1;
}

static void parse(lua_State *L, nn_tensor *x, int key, box *b, temps *t) {
  *b = (box){.n = nn_ndim(x), .whole = true};
  bool table = lua_istable(L, key);
  int n = table ? (int)lua_rawlen(L, key) : 1, d = 0;
  for (int i = 0; i < b->n; i++) b->size[i] = nn_shape(x)[i], b->step[i] = 1;
  for (int e = 0; e < n; e++) {
    if (d >= b->n) nnL_raise(L, "index: %d entries for a tensor of %d dims", n, b->n);
    if (table) lua_rawgeti(L, key, e + 1);
    else lua_pushvalue(L, key);
    d += entry(L, x, b, d, t);
    lua_pop(L, 1);
  }
  for (; d < b->n; d++) b->shape[b->nshape++] = b->size[d];
}

/* the tensors of positions as one, tuples in the last dim */
static nn_tensor *tuples(lua_State *L, const box *b, temps *t) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *all[NN_MAXDIM];
  if (b->nids == 1) return hold(t, nn_call(ctx, "unsqueeze", NN_T(b->ids[0]), NN_I(-1)));
  int nd = 0;
  int64_t shape[NN_MAXDIM];
  for (int i = 0; i < b->nids; i++)
    if (nn_ndim(b->ids[i]) > nd) nd = nn_ndim(b->ids[i]);
  for (int k = 0; k < nd; k++) shape[k] = 1;
  for (int i = 0; i < b->nids; i++) {
    int lead = nd - nn_ndim(b->ids[i]);
    for (int k = lead; k < nd; k++)
      if (shape[k] == 1) shape[k] = nn_shape(b->ids[i])[k - lead];
  }
  for (int i = 0; i < b->nids; i++) {
    nn_tensor *e = nn_call(ctx, "expand", NN_T(b->ids[i]), NN_INTS(nd, shape));
    if (!e) nnL_raise(L, "index: the tensors of positions do not broadcast: %s", nn_error(ctx));
    all[i] = hold(t, e);
  }
  return hold(t, nn_call(ctx, "stack", NN_TENSORS(b->nids, all), NN_I(-1)));
}

static bool same_shape(const nn_tensor *a, const nn_tensor *b) {
  return nn_ndim(a) == nn_ndim(b) && memcmp(nn_shape(a), nn_shape(b), sizeof(int64_t) * (size_t)nn_ndim(a)) == 0;
}

static int index_value(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *x = nnL_checktensor(L, 1);
  nnL_box *r = nnL_newbox(L);
  lua_settop(L, 3);
  if (nn_ndim(x) == 0) return nnL_raise(L, "index: a scalar cannot be indexed; use :item()");
  box b;
  temps t = start(L);
  parse(L, x, 2, &b, &t);
  nn_tensor *s = nn_call(ctx, "slice", NN_T(x), NN_INTS(b.n, b.start), NN_INTS(b.n, b.size), NN_INTS(b.n, b.step));
  if (!s) nnL_check(L, NN_EINDEX);
  nn_tensor *y = b.nshape == b.n ? s : nn_call(ctx, "reshape", NN_T(s), NN_INTS(b.nshape, b.shape));
  if (y != s) nn_release(s);
  if (y && b.nids) {
    hold(&t, y);
    nn_tensor *ids = b.ids[0];
    y = b.nids == 1 && nn_ndim(ids) == 1 && b.ids_dim[0] == 0 ? nn_call(ctx, "index_select", NN_T(y), NN_I(b.ids_dim[0]), NN_T(ids))
                                         : nn_call(ctx, "index", NN_T(y), NN_T(tuples(L, &b, &t)), NN_INTS(b.nids, b.ids_dim));
    let_go(&t);
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
    if (!lua_isnil(L, -1)) return 1;
    size_t n;
    const char *k = lua_tolstring(L, 2, &n);
    if (n > 1 && k[n - 1] == '_') {
      lua_pushlstring(L, k, n - 1);
      bool known = lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL;
      if (known) return nnL_raise(L, "there are no in-place methods: a tensor is a value; write x = x:%.*s(...)", (int)n - 1, k);
    }
    lua_pushvalue(L, 2);
    lua_gettable(L, lua_upvalueindex(1)); /* the library's words about names that tensors lack (nnlua.init) */
    return 1;
  }
  return index_value(L);
}

static nn_tensor *value_for(lua_State *L, int arg, const nn_tensor *x) {
  nn_tensor *v = nnL_testtensor(L, arg);
  if (v) return nn_retain(v);
  if (lua_type(L, arg) != LUA_TNUMBER && lua_type(L, arg) != LUA_TBOOLEAN)
    nnL_raise(L, "index: the value must be a tensor or a number, got %s", luaL_typename(L, arg));
  int64_t one;
  double f = lua_isboolean(L, arg) ? lua_toboolean(L, arg) : lua_tonumber(L, arg);
  nn_element_write(nn_dtype_of(x), &one, f, lua_isinteger(L, arg) ? lua_tointeger(L, arg) : nn_element_int(nn_dtype_of(x), f));
  v = nn_tensor_new(nnL_context(L), nn_dtype_of(x), 0, NULL, &one);
  v = nnL_place(v, nn_device_of(x));
  if (!v) nnL_check(L, NN_ENOMEM);
  return v;
}

/* v broadcast to the box: the box's shape without the dropped dims; put them back */
static nn_tensor *with_dropped(temps *t, nn_tensor *v, const box *b) {
  nn_context *ctx = nnL_context(t->L);
  if (nn_ndim(v) == 0 || b->nshape == b->n) return v;
  nn_tensor *e = nn_call(ctx, "expand", NN_T(v), NN_INTS(b->nshape, b->shape));
  if (!e) nnL_raise(t->L, "index: the value does not fit what the key names: %s", nn_error(ctx));
  return hold(t, nn_call(ctx, "reshape", NN_T(hold(t, e)), NN_INTS(b->n, b->size)));
}

/* x with v at the key, as a new reference */
static nn_tensor *with_value(lua_State *L, nn_tensor *x, nn_tensor *v, temps *t) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *key = nnL_testtensor(L, 2);
  if (key && nn_dtype_of(key) == NN_BOOL && same_shape(x, key) && (nn_numel(v) == 1 || (nn_ndim(x) > 1 && same_shape(x, v)))) /* nothing to count */
    return nn_call(ctx, "where", NN_T(key), NN_T(v), NN_T(x));
  if (nn_ndim(x) == 0) nnL_raise(L, "index: a scalar cannot be indexed");
  box b;
  parse(L, x, 2, &b, t);
  if (b.nids) {
    nn_tensor *part = x;
    if (!b.whole) {
      nn_tensor *s = hold(t, nn_call(ctx, "slice", NN_T(x), NN_INTS(b.n, b.start), NN_INTS(b.n, b.size), NN_INTS(b.n, b.step)));
      part = hold(t, nn_call(ctx, "reshape", NN_T(s), NN_INTS(b.nshape, b.shape)));
    }
    nn_tensor *ids = tuples(L, &b, t), *y = nn_call(ctx, "index_set", NN_T(part), NN_T(ids), NN_INTS(b.nids, b.ids_dim), NN_T(v));
    if (b.whole) return y;
    v = hold(t, y);
  }
  v = with_dropped(t, v, &b);
  return nn_call(ctx, "slice_set", NN_T(x), NN_T(v), NN_INTS(b.n, b.start), NN_INTS(b.n, b.size), NN_INTS(b.n, b.step));
}

static int newindex(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nnL_box *xb = nnL_checkbox(L, 1);
  nn_tensor *x = xb->t;
  if (lua_type(L, 2) == LUA_TSTRING) return nnL_raise(L, "index: a tensor has no fields to assign ('%s')", lua_tostring(L, 2));
  temps t = start(L);
  nnL_box *value = nnL_newbox(L);
  value->t = value_for(L, 3, x);
  nn_tensor *y = with_value(L, x, value->t, &t);
  let_go(&t);
  nn_release(value->t);
  value->t = NULL;
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
  if (luaL_newmetatable(L, HELD)) {
    lua_pushcfunction(L, held_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  luaL_getmetatable(L, NNL_TENSOR);
  lua_getfield(L, -1, "methods");
  lua_pushcclosure(L, index_any, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, newindex);
  lua_setfield(L, -2, "__newindex");
  lua_pop(L, 1);
}
