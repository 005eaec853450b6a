/* bindings/lua_verbs.c - core.pipeline: the verbs of data sets as raw functions, and how they call Lua functions inside a pass.
**
** Functions of a data set are a table by number; numbers are given once in a Lua state, so that data sets that are joined can join their tables. A call
** runs protected: an error stays on the stack and comes out of nn_iter_next as a status, and the binding of the iterator raises it again.
*/
#include <string.h>
#include "data.h"

#define MOST_SETS 1024 /* in zip, concat, choose */
static const char counter_key = 0;

/* ---- verbs without functions ------------------------------------------------------------------------------------------------ */

/* shuffle(d, buffer[, seed[, reshuffle = true]]): without a seed one is drawn from the random stream */
static int data_shuffle(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer buffer = luaL_checkinteger(L, 2);
  nn_context *ctx = nnL_context(L);
  uint64_t seed = lua_isnoneornil(L, 3) ? nn_data_seed(ctx) : (uint64_t)luaL_checkinteger(L, 3);
  bool reshuffle = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_shuffle(ctx, up, buffer, seed, reshuffle));
}

/* batch(d, n[, drop_last]) */
static int data_batch(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_batch(nnL_context(L), up, n, lua_toboolean(L, 3)));
}

/* The integers of a list; as many as its length. */
static int64_t *check_integers(lua_State *L, int arg, int n) {
  luaL_checktype(L, arg, LUA_TTABLE);
  int64_t *list = lua_newuserdatauv(L, (size_t)n * sizeof *list + 1, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, arg, i + 1);
    list[i] = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
  }
  return list;
}

/* From the list of {value, list of sizes or nil} at arg, one for each value of an element; the last is that of all further ones. */
static void check_padding(lua_State *L, int arg, nn_padding *pad) {
  luaL_checktype(L, arg, LUA_TTABLE);
  lua_Integer n = (lua_Integer)lua_rawlen(L, arg);
  if (n < 1 || n > NN_DATA_MAX) nnL_raise(L, "padding: %d values; an element has 1 to %d", (int)n, NN_DATA_MAX);
  for (int i = 0; i < NN_DATA_MAX; i++) {
    lua_rawgeti(L, arg, i < n ? i + 1 : n);
    int entry = lua_gettop(L);
    luaL_checktype(L, entry, LUA_TTABLE);
    lua_rawgeti(L, entry, 1);
    pad->value[i] = luaL_checknumber(L, -1);
    pad->ndim[i] = -1;
    if (i < n && lua_rawgeti(L, entry, 2) == LUA_TTABLE) {
      lua_Integer ndim = (lua_Integer)lua_rawlen(L, -1);
      if (ndim > NN_MAXDIM) nnL_raise(L, "padding: a shape of %d dims", (int)ndim);
      pad->ndim[i] = (int)ndim;
      for (int k = 0; k < pad->ndim[i]; k++) {
        lua_rawgeti(L, entry + 2, k + 1);
        pad->shape[i][k] = luaL_checkinteger(L, -1);
        lua_pop(L, 1);
      }
    }
    lua_settop(L, entry - 1);
  }
}

/* padded_batch(d, n, padding[, drop_last]) */
static int data_padded_batch(lua_State *L) {
  nn_padding pad;
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  lua_settop(L, 4);
  check_padding(L, 3, &pad);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_padded_batch(nnL_context(L), up, n, &pad, lua_toboolean(L, 4)));
}

/* window(d, size, shift, stride[, drop_last]) */
static int data_window(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer size = luaL_checkinteger(L, 2), shift = luaL_checkinteger(L, 3), stride = luaL_checkinteger(L, 4);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_window(nnL_context(L), up, size, shift, stride, lua_toboolean(L, 5)));
}

/* shard(d, n, index from 1) */
static int data_shard(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2), index = luaL_checkinteger(L, 3);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_shard(nnL_context(L), up, n, index - 1));
}

static int counted(lua_State *L, nn_dataset *(*verb)(nn_context *, nn_dataset *, int64_t)) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, verb(nnL_context(L), up, n));
}
static int data_repeated(lua_State *L) { return counted(L, nn_data_repeated); }
static int data_take(lua_State *L) { return counted(L, nn_data_take); }
static int data_skip(lua_State *L) { return counted(L, nn_data_skip); }
static int data_prefetch(lua_State *L) { return counted(L, nn_data_prefetch); }
static int data_enumerate(lua_State *L) { return counted(L, nn_data_enumerate); }

static int plain(lua_State *L, nn_dataset *(*verb)(nn_context *, nn_dataset *)) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, verb(nnL_context(L), up));
}
static int data_unbatch(lua_State *L) { return plain(L, nn_data_unbatch); }
static int data_unique(lua_State *L) { return plain(L, nn_data_unique); }
static int data_ignore_errors(lua_State *L) { return plain(L, nn_data_ignore_errors); }

/* cache(d[, file]) */
static int data_cache(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  const char *file = luaL_optstring(L, 2, NULL);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_cache(nnL_context(L), up, file));
}

/* ---- of several: lists of data sets ------------------------------------------------------------------------------------------- */

/* The data sets of the list at arg (borrowed); the table on top of the stack gets their functions. The userdata that holds the list stays below it. */
static nn_dataset **check_list(lua_State *L, int arg, int *n) {
  luaL_checktype(L, arg, LUA_TTABLE);
  lua_Unsigned count = lua_rawlen(L, arg);
  if (count < 1 || count > MOST_SETS) nnL_raise(L, "data set: %d data sets in a list; it takes 1 to %d", (int)count, MOST_SETS);
  nn_dataset **list = lua_newuserdatauv(L, (size_t)count * sizeof *list, 0);
  lua_newtable(L);
  for (lua_Unsigned i = 0; i < count; i++) {
    lua_rawgeti(L, arg, (lua_Integer)i + 1);
    list[i] = nnL_checkdataset(L, -1);
    if (lua_getiuservalue(L, -1, 1) == LUA_TTABLE)
      for (lua_pushnil(L); lua_next(L, -2);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -6); /* functions, data set, its table, key, key, value */
      }
    lua_pop(L, 2);
  }
  *n = (int)count;
  return list;
}

/* u, which is above the functions, is the result */
static int give_joined(lua_State *L, nnL_dataset *u, nn_dataset *d) {
  if (d == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  u->d = d;
  lua_pushvalue(L, -2);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

static int data_zip(lua_State *L) {
  int n;
  nn_dataset **list = check_list(L, 1, &n);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_zip(nnL_context(L), n, list));
}

static int data_concat(lua_State *L) {
  int n;
  nn_dataset **list = check_list(L, 1, &n);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_concat(nnL_context(L), n, list));
}

/* choose(list with the choices first, stop) */
static int data_choose(lua_State *L) {
  int n;
  nn_dataset **list = check_list(L, 1, &n);
  nnL_dataset *u = nnL_newdataset(L);
  if (n < 2) return nnL_raise(L, "choose: no data sets to choose from");
  return give_joined(L, u, nn_data_choose(nnL_context(L), list[0], n - 1, list + 1, lua_toboolean(L, 2)));
}

/* interleave(list, block) */
static int data_interleave(lua_State *L) {
  int n;
  lua_Integer block = luaL_checkinteger(L, 2);
  nn_dataset **list = check_list(L, 1, &n);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_interleave(nnL_context(L), n, list, block));
}

/* sample_from(list, weights, seed or nil, stop) */
static int data_sample_from(lua_State *L) {
  int n;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 4);
  double *weights = lua_newuserdatauv(L, (size_t)lua_rawlen(L, 1) * sizeof *weights + 1, 0);
  nn_context *ctx = nnL_context(L);
  nn_dataset **list = check_list(L, 1, &n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    weights[i] = luaL_checknumber(L, -1);
    lua_pop(L, 1);
  }
  uint64_t seed = lua_isnil(L, 3) ? nn_data_seed(ctx) : (uint64_t)luaL_checkinteger(L, 3);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_sample_from(ctx, n, list, weights, seed, lua_toboolean(L, 4)));
}

/* ---- calling Lua from inside nn_iter_next --------------------------------------------------------------------------------------- */

enum call_kind { CALL_MAP, CALL_FILTER, CALL_WHILE, CALL_FLAT, CALL_KEY, CALL_GROUP };

typedef struct call {
  enum call_kind kind;
  const char *verb;
  lua_Integer which; /* of the functions */
  int slot;          /* CALL_FLAT */
  nn_tensor *const *in;
  int nin;
  nn_tensor **out;
  int *nout;
  nn_dataset **set;  /* CALL_FLAT, CALL_GROUP: what comes out */
  nn_dataset *window; /* CALL_GROUP */
  int64_t *key, *size; /* CALL_KEY, CALL_GROUP */
} call;

nn_tensor *nnL_totensor(lua_State *L, int idx, const char *verb, int position) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *t = nnL_testtensor(L, idx);
  if (t != NULL) return nn_retain(t);
  if (lua_isinteger(L, idx)) {
    int64_t i = lua_tointeger(L, idx);
    t = nn_tensor_new(ctx, NN_I64, 0, NULL, &i);
  } else if (lua_type(L, idx) == LUA_TNUMBER) {
    t = nn_scalar(ctx, NN_F32, lua_tonumber(L, idx));
  } else if (lua_isboolean(L, idx)) {
    t = nn_scalar(ctx, NN_BOOL, lua_toboolean(L, idx));
  } else if (lua_type(L, idx) == LUA_TSTRING) { /* its bytes */
    size_t n;
    const char *s = lua_tolstring(L, idx, &n);
    t = nn_tensor_new(ctx, NN_U8, 1, &(int64_t){(int64_t)n}, s);
  } else {
    nnL_raise(L, "%s: value %d that the function returned is a %s; it must be a tensor, a number, a boolean or a string", verb, position,
              luaL_typename(L, idx));
  }
  if (t == NULL) nnL_raise(L, "%s", nn_error(ctx));
  return t;
}

/* Pushes function `which`: of the pass itself (the table at 2), or of a data set that one of its flat_maps opened (the tables in the one at 3). */
static void push_function(lua_State *L, lua_Integer which, const char *verb) {
  if (lua_istable(L, 2) && lua_rawgeti(L, 2, which) == LUA_TFUNCTION) return;
  if (lua_istable(L, 3))
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 2))
      if (lua_rawgeti(L, -1, which) == LUA_TFUNCTION) return;
  nnL_raise(L, "%s: its function is gone", verb);
}

static bool truth(lua_State *L, int idx, const char *verb) {
  nn_tensor *t = nnL_testtensor(L, idx);
  double v;
  if (lua_isboolean(L, idx)) return lua_toboolean(L, idx);
  if (t == NULL) return nnL_raise(L, "%s: the function returned a %s; it must return true or false", verb, luaL_typename(L, idx));
  if (nn_item(t, &v, NULL) != NN_OK) nnL_raise(L, "%s: %s", verb, nn_error(nnL_context(L)));
  return v != 0;
}

/* The data set that a flat_map's function returned; its functions go to the pass (the table at 3). */
static void take_dataset(lua_State *L, int idx, const call *c) {
  nnL_dataset *u = NULL;
  if (lua_istable(L, idx)) {
    lua_pushliteral(L, "handle");
    lua_rawget(L, idx);
    u = luaL_testudata(L, -1, NNL_DATASET);
  }
  if (u == NULL || u->d == NULL) nnL_raise(L, "%s: the function returned a %s; it must return a data set", c->verb, luaL_typename(L, idx));
  lua_getiuservalue(L, -1, 1);
  lua_rawseti(L, 3, c->which * 1024 + c->slot);
  *c->set = nn_dataset_retain(u->d);
}

/* The whole number at idx, which a function returned. */
static int64_t whole(lua_State *L, int idx, const char *verb) {
  int is_int;
  int64_t v = lua_tointegerx(L, idx, &is_int);
  nn_tensor *t = nnL_testtensor(L, idx);
  double d;
  if (t != NULL && nn_item(t, &d, &v) != NN_OK) nnL_raise(L, "%s: %s", verb, nn_error(nnL_context(L)));
  if (t != NULL) is_int = d == (double)v;
  if (!is_int) nnL_raise(L, "%s: the function returned %s; it must return a whole number", verb, luaL_tolstring(L, idx, NULL));
  return v;
}

/* Runs protected: boxes the inputs, calls the function, takes what it returns. Arguments: a call, the functions, those of opened data sets. */
static int run_call(lua_State *L) {
  call *c = lua_touserdata(L, 1);
  luaL_checkstack(L, NN_DATA_MAX + 8, c->verb);
  push_function(L, c->which, c->verb);
  lua_replace(L, 1);
  lua_settop(L, 3);
  lua_pushvalue(L, 1);
  for (int i = 0; i < c->nin; i++) nnL_newbox(L)->t = nn_retain(c->in[i]);
  if (c->kind == CALL_GROUP) {
    lua_pushinteger(L, *c->key);
    nnL_newdataset(L)->d = nn_dataset_retain(c->window);
  }
  lua_call(L, c->kind == CALL_GROUP ? 2 : c->nin, LUA_MULTRET);
  int n = lua_gettop(L) - 3;
  if (c->kind == CALL_KEY) {
    lua_settop(L, 5);
    *c->key = whole(L, 4, c->verb);
    if (!lua_isnil(L, 5)) *c->size = whole(L, 5, c->verb);
    return 0;
  }
  if (c->kind == CALL_FLAT || c->kind == CALL_GROUP) {
    lua_settop(L, 4);
    take_dataset(L, 4, c);
    return 0;
  }
  if (c->kind == CALL_MAP) {
    if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "%s: the function returned %d values; it must return 1 to %d", c->verb, n, NN_DATA_MAX);
    for (int i = 0; i < n; i++) {
      c->out[i] = nnL_totensor(L, 4 + i, c->verb, i + 1);
      *c->nout = i + 1;
    }
    return 0;
  }
  lua_settop(L, 4);
  if (!truth(L, 4, c->verb)) {
    if (c->kind == CALL_WHILE) *c->nout = -1;
    return 0;
  }
  for (int i = 0; i < c->nin; i++) c->out[i] = nn_retain(c->in[i]);
  *c->nout = c->nin;
  return 0;
}

static nn_status call_lua(void *caller, call *c) {
  nnL_caller *m = caller;
  lua_State *L = m->L;
  int none = 0;
  if (c->nout == NULL) c->nout = &none;
  *c->nout = 0;
  if (m->failed) lua_pop(L, 1); /* a failure that ignore_errors went past */
  m->failed = false;
  if (!lua_checkstack(L, 6)) return nn_data_fail(nnL_context(L), NN_ENOMEM, "map: Lua's stack is full");
  lua_pushcfunction(L, run_call);
  lua_pushlightuserdata(L, c);
  lua_getiuservalue(L, m->iterator, 1);
  lua_getiuservalue(L, m->iterator, 3);
  if (lua_pcall(L, 3, 0, 0) == LUA_OK) return NN_OK;
  while (*c->nout > 0) nn_release(c->out[--*c->nout]);
  m->failed = true; /* the error value stays on the stack for the iterator */
  return nn_data_fail(nnL_context(L), NN_EINVAL, "data set: a function failed");
}

#define NUMBER(ud) ((lua_Integer)(intptr_t)(ud))

nn_status nnL_callfunction(nnL_caller *m, const char *verb, lua_Integer which, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  return call_lua(m, &(call){.kind = CALL_MAP, .verb = verb, .which = which, .in = in, .nin = nin, .out = out, .nout = nout});
}

static nn_status call_map(void *m, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  return nnL_callfunction(m, "map", NUMBER(ud), in, nin, out, nout);
}
static nn_status call_scan(void *m, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  return nnL_callfunction(m, "scan", NUMBER(ud), in, nin, out, nout);
}
static nn_status call_filter(void *m, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  return call_lua(m, &(call){.kind = CALL_FILTER, .verb = "filter", .which = NUMBER(ud), .in = in, .nin = nin, .out = out, .nout = nout});
}
static nn_status call_while(void *m, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  return call_lua(m, &(call){.kind = CALL_WHILE, .verb = "take_while", .which = NUMBER(ud), .in = in, .nin = nin, .out = out, .nout = nout});
}
static nn_status call_flat(void *m, void *ud, int slot, nn_tensor *const *in, int nin, nn_dataset **out) {
  return call_lua(m, &(call){.kind = CALL_FLAT, .verb = "flat_map", .which = NUMBER(ud), .slot = slot, .in = in, .nin = nin, .set = out});
}

static nn_status call_key(void *m, void *ud, nn_tensor *const *in, int nin, int64_t *key, int64_t *size) {
  return call_lua(m, &(call){.kind = CALL_KEY, .verb = "key", .which = NUMBER(ud), .in = in, .nin = nin, .key = key, .size = size});
}
static nn_status call_group(void *m, void *ud, int64_t key, nn_dataset *window, nn_dataset **out) {
  return call_lua(m, &(call){.kind = CALL_GROUP, .verb = "group_by", .which = NUMBER(ud) + 1, .window = window, .key = &key, .set = out});
}

/* ---- verbs with functions -------------------------------------------------------------------------------------------------------- */

/* The function at fn into the table on top of the stack; its number. */
static lua_Integer add_function(lua_State *L, int fn) {
  luaL_checktype(L, fn, LUA_TFUNCTION);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &counter_key);
  lua_Integer number = lua_tointeger(L, -1) + 1; /* nil is 0 */
  lua_pop(L, 1);
  lua_pushinteger(L, number);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &counter_key);
  lua_pushvalue(L, fn);
  lua_rawseti(L, -2, number);
  return number;
}

lua_Integer nnL_newfunction(lua_State *L, int from, int fn) {
  luaL_checktype(L, fn, LUA_TFUNCTION);
  lua_newtable(L);
  if (lua_getiuservalue(L, from, 1) == LUA_TTABLE)
    for (lua_pushnil(L); lua_next(L, -2);) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -5); /* new table, old table, key, key, value */
    }
  lua_pop(L, 1);
  return add_function(L, fn);
}

static int with_function(lua_State *L, nn_dataset *(*verb)(nn_context *, nn_dataset *, nn_map_fn, void *), nn_map_fn fn) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer number = nnL_newfunction(L, 1, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, verb(nnL_context(L), up, fn, (void *)(intptr_t)number));
}
static int data_map(lua_State *L) { return with_function(L, nn_data_map, call_map); }
static int data_filter(lua_State *L) { return with_function(L, nn_data_filter, call_filter); }
static int data_take_while(lua_State *L) { return with_function(L, nn_data_take_while, call_while); }

/* scan(d, fn, initial) */
static int data_scan(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  nn_tensor *initial = nnL_checktensor(L, 3);
  lua_Integer number = nnL_newfunction(L, 1, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_scan(nnL_context(L), up, initial, call_scan, (void *)(intptr_t)number));
}

/* flat_map(d, fn, cycle, block) */
static int data_flat_map(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer cycle = luaL_checkinteger(L, 3), block = luaL_checkinteger(L, 4), number = nnL_newfunction(L, 1, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_flat_map(nnL_context(L), up, call_flat, (void *)(intptr_t)number, cycle, block));
}

/* bucket(d, which from 1 or a function, bounds, sizes, padding[, drop_last]); sizes: one more than bounds */
static int data_bucket(lua_State *L) {
  nn_padding pad;
  nn_dataset *up = nnL_checkdataset(L, 1);
  bool by = lua_isfunction(L, 2);
  int which = by ? 0 : (int)luaL_checkinteger(L, 2) - 1;
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 3);
  if (n > MOST_SETS) return nnL_raise(L, "bucket: more than %d bounds", MOST_SETS);
  lua_settop(L, 6);
  const int64_t *bounds = check_integers(L, 3, (int)n), *sizes = check_integers(L, 4, (int)n + 1);
  check_padding(L, 5, &pad);
  bool drop_last = lua_toboolean(L, 6);
  lua_Integer number = by ? nnL_newfunction(L, 1, 2) : 0;
  nnL_dataset *u = nnL_newdataset(L);
  nn_dataset *d = nn_data_bucket(nnL_context(L), up, which, by ? call_key : NULL, (void *)(intptr_t)number, (int)n, bounds, sizes, &pad, drop_last);
  return by ? give_joined(L, u, d) : nnL_givedataset(L, u, d);
}

/* group_by(d, key function, function of a key and a window, size) */
static int data_group_by(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer size = luaL_checkinteger(L, 4), number = nnL_newfunction(L, 1, 2);
  add_function(L, 3); /* number + 1 */
  nnL_dataset *u = nnL_newdataset(L);
  return give_joined(L, u, nn_data_group(nnL_context(L), up, call_key, call_group, (void *)(intptr_t)number, size));
}

void nnL_open_verbs(lua_State *L) {
  static const luaL_Reg verbs[] = {
    {"shuffle", data_shuffle},     {"batch", data_batch},           {"padded_batch", data_padded_batch}, {"bucket", data_bucket},
    {"window", data_window},       {"shard", data_shard},           {"repeated", data_repeated},         {"take", data_take},
    {"skip", data_skip},           {"prefetch", data_prefetch},     {"enumerate", data_enumerate},       {"unbatch", data_unbatch},
    {"unique", data_unique},       {"cache", data_cache},           {"zip", data_zip},                   {"ignore_errors", data_ignore_errors},
    {"concat", data_concat},       {"choose", data_choose},         {"sample_from", data_sample_from},   {"map", data_map},
    {"filter", data_filter},       {"take_while", data_take_while}, {"scan", data_scan},                 {"flat_map", data_flat_map},
    {"interleave", data_interleave}, {"group_by", data_group_by},
    {NULL, NULL},
  };
  luaL_setfuncs(L, verbs, 0);
}
