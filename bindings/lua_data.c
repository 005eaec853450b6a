/* bindings/lua_data.c - core.pipeline: data sets, IDX files, generated digits and downloads as raw functions; lua/nnlua/data.lua makes them an API.
**
** Owns two kinds of userdata. A data set (its user value: the list of Lua functions that its maps call, or nil) and an iterator (user values: that
** list, the data set). Map functions live in user values, not in the registry, so a function that refers to its own data set is still collected.
** Tensors on their way to Lua wait in the iterator until they have boxes, so that running out of memory leaks nothing.
** What the outside world can refuse (files, network) returns nil and a message; everything else raises.
*/
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "nnL.h"
#include "nn_data.h"

#define DATASET "nnlua.dataset"
#define ITERATOR "nnlua.iterator"

typedef struct dataset_ud {
  nn_dataset *d; /* NULL while half built */
} dataset_ud;

typedef struct iterator_ud {
  nn_iter *it; /* NULL once closed */
  bool busy;   /* inside nn_iter_next */
  int n, at;   /* tensors that came, and how many of them have boxes */
  nn_tensor *out[NN_DATA_MAX];
} iterator_ud;

static int raise_last(lua_State *L) { return nnL_raise(L, "%s", nn_error(nnL_context(L))); }

/* ---- data sets -------------------------------------------------------------------------------------------------------------- */

static nn_dataset *check_dataset(lua_State *L, int arg) { return ((dataset_ud *)luaL_checkudata(L, arg, DATASET))->d; }

static int dataset_gc(lua_State *L) {
  dataset_ud *u = luaL_checkudata(L, 1, DATASET);
  nn_dataset_release(u->d);
  u->d = NULL;
  return 0;
}

static dataset_ud *new_dataset(lua_State *L) {
  dataset_ud *u = lua_newuserdatauv(L, sizeof *u, 1);
  u->d = NULL;
  luaL_setmetatable(L, DATASET);
  return u;
}

/* The data set d is the result, with the map functions of the one at arg 1 when that is a data set. u is made before d, in a statement of its
** own: making it may raise, and the order of arguments is the compiler's. */
static int give_dataset(lua_State *L, dataset_ud *u, nn_dataset *d) {
  if (d == NULL) return raise_last(L);
  u->d = d;
  if (luaL_testudata(L, 1, DATASET) != NULL) {
    lua_getiuservalue(L, 1, 1);
    lua_setiuservalue(L, -2, 1);
  }
  return 1;
}

/* tensors(x, ...): element i is row i of each */
static int data_tensors(lua_State *L) {
  nn_tensor *t[NN_DATA_MAX];
  int n = lua_gettop(L);
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "from_tensors: %d tensors; it takes 1 to %d", n, NN_DATA_MAX);
  for (int i = 0; i < n; i++) t[i] = nnL_checktensor(L, i + 1);
  dataset_ud *u = new_dataset(L);
  return give_dataset(L, u, nn_data_tensors(nnL_context(L), n, t));
}

/* range(first, step, count) */
static int data_range(lua_State *L) {
  lua_Integer first = luaL_checkinteger(L, 1), step = luaL_checkinteger(L, 2), count = luaL_checkinteger(L, 3);
  dataset_ud *u = new_dataset(L);
  return give_dataset(L, u, nn_data_range(nnL_context(L), first, step, count));
}

/* shuffle(d, buffer[, seed[, reshuffle = true]]): without a seed one is drawn from the random stream */
static int data_shuffle(lua_State *L) {
  nn_dataset *up = check_dataset(L, 1);
  lua_Integer buffer = luaL_checkinteger(L, 2);
  nn_context *ctx = nnL_context(L);
  uint64_t seed = lua_isnoneornil(L, 3) ? nn_data_seed(ctx) : (uint64_t)luaL_checkinteger(L, 3);
  bool reshuffle = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
  dataset_ud *u = new_dataset(L);
  return give_dataset(L, u, nn_data_shuffle(ctx, up, buffer, seed, reshuffle));
}

/* batch(d, n[, drop_last]) */
static int data_batch(lua_State *L) {
  nn_dataset *up = check_dataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  dataset_ud *u = new_dataset(L);
  return give_dataset(L, u, nn_data_batch(nnL_context(L), up, n, lua_toboolean(L, 3)));
}

static int counted(lua_State *L, nn_dataset *(*verb)(nn_context *, nn_dataset *, int64_t)) {
  nn_dataset *up = check_dataset(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  dataset_ud *u = new_dataset(L);
  return give_dataset(L, u, verb(nnL_context(L), up, n));
}
static int data_repeated(lua_State *L) { return counted(L, nn_data_repeated); }
static int data_take(lua_State *L) { return counted(L, nn_data_take); }
static int data_skip(lua_State *L) { return counted(L, nn_data_skip); }
static int data_prefetch(lua_State *L) { return counted(L, nn_data_prefetch); }

/* cardinality(d) -> elements of a pass, math.huge, or nil when that is not known */
static int data_cardinality(lua_State *L) {
  int64_t n = nn_dataset_cardinality(check_dataset(L, 1));
  if (n >= 0) lua_pushinteger(L, n);
  else if (n == NN_INFINITE) lua_pushnumber(L, (lua_Number)HUGE_VAL);
  else lua_pushnil(L);
  return 1;
}

static int push_text(lua_State *L, int (*text)(const nn_dataset *, char *, size_t)) {
  const nn_dataset *d = check_dataset(L, 1);
  char buf[2000];
  text(d, buf, sizeof buf);
  lua_pushstring(L, buf);
  return 1;
}
static int data_spec(lua_State *L) { return push_text(L, nn_dataset_spec); }
static int data_describe(lua_State *L) { return push_text(L, nn_dataset_describe); }

/* ---- map: calling Lua from inside nn_iter_next ------------------------------------------------------------------------------- */

typedef struct map_caller { /* what nn_iter_next hands on */
  lua_State *L;
  int functions; /* stack index of the list of functions */
  bool failed;   /* the error value is on top of the stack */
} map_caller;

typedef struct map_call {
  map_caller *caller;
  lua_Integer which; /* of the functions */
  nn_tensor *const *in;
  int nin;
  nn_tensor **out;
  int *nout;
} map_call;

/* The value at idx as a tensor, a new reference: numbers and booleans become scalars. */
static nn_tensor *to_tensor(lua_State *L, int idx, int position) {
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
  } else {
    nnL_raise(L, "map: value %d that the function returned is a %s; it must be a tensor, a number or a boolean", position, luaL_typename(L, idx));
  }
  if (t == NULL) raise_last(L);
  return t;
}

/* Runs protected: boxes the inputs, calls the function, takes what it returns. Argument: a map_call. */
static int run_map(lua_State *L) {
  map_call *c = lua_touserdata(L, 1);
  lua_settop(L, 2); /* 2: the list of functions */
  lua_rawgeti(L, 2, c->which);
  luaL_checkstack(L, NN_DATA_MAX + 4, "map");
  for (int i = 0; i < c->nin; i++) nnL_newbox(L)->t = nn_retain(c->in[i]);
  lua_call(L, c->nin, LUA_MULTRET);
  int n = lua_gettop(L) - 2;
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "map: the function returned %d values; it must return 1 to %d", n, NN_DATA_MAX);
  for (int i = 0; i < n; i++) {
    c->out[i] = to_tensor(L, 3 + i, i + 1);
    *c->nout = i + 1;
  }
  return 0;
}

static nn_status map_lua(void *caller, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  map_caller *m = caller;
  map_call c = {.caller = m, .which = (lua_Integer)(intptr_t)ud, .in = in, .nin = nin, .out = out, .nout = nout};
  lua_State *L = m->L;
  *nout = 0;
  if (!lua_checkstack(L, 4)) return nn_data_fail(nnL_context(L), NN_ENOMEM, "map: Lua's stack is full");
  lua_pushcfunction(L, run_map);
  lua_pushlightuserdata(L, &c);
  lua_pushvalue(L, m->functions);
  if (lua_pcall(L, 2, 0, 0) == LUA_OK) return NN_OK;
  while (*nout > 0) nn_release(out[--*nout]);
  m->failed = true; /* the error value stays on the stack for advance() */
  return nn_data_fail(nnL_context(L), NN_EINVAL, "map: the function failed");
}

/* map(d, fn) */
static int data_map(lua_State *L) {
  nn_dataset *up = check_dataset(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_Integer n = 0;
  dataset_ud *u = new_dataset(L);
  lua_newtable(L);
  if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
    n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
      lua_rawgeti(L, -1, i);
      lua_rawseti(L, -3, i);
    }
  }
  lua_pop(L, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, n + 1);
  u->d = nn_data_map(nnL_context(L), up, map_lua, (void *)(intptr_t)(n + 1));
  if (u->d == NULL) return raise_last(L);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

/* ---- iterators -------------------------------------------------------------------------------------------------------------- */

static void release_waiting(iterator_ud *u) {
  while (u->at < u->n) nn_release(u->out[u->at++]);
  u->n = u->at = 0;
}

static int iterator_close(lua_State *L) {
  iterator_ud *u = luaL_checkudata(L, 1, ITERATOR);
  if (u->busy) return nnL_raise(L, "data set: its own map function closes the iterator");
  nn_iter *it = u->it;
  u->it = NULL;
  release_waiting(u);
  nn_iter_close(it);
  return 0;
}

/* Where this iterator stands as a list of integers. */
static int push_words(lua_State *L, const nn_dataset *d, const nn_iter *it) {
  int n = nn_dataset_state_words(d);
  int64_t *words = lua_newuserdatauv(L, (size_t)n * sizeof *words, 0);
  nn_dataset_save(d, it, words);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, words[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* A new iterator userdata without an iterator yet; the data set is at stack index arg. */
static iterator_ud *new_iterator(lua_State *L, int arg) {
  iterator_ud *u = lua_newuserdatauv(L, sizeof *u, 2);
  *u = (iterator_ud){.it = NULL};
  luaL_setmetatable(L, ITERATOR);
  lua_getiuservalue(L, arg, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, arg);
  lua_setiuservalue(L, -2, 2);
  return u;
}

/* open(d) -> iterator */
static int data_open(lua_State *L) {
  nn_dataset *d = check_dataset(L, 1);
  iterator_ud *u = new_iterator(L, 1);
  u->it = nn_iter_open(nnL_context(L), d);
  return u->it != NULL ? 1 : raise_last(L);
}

/* iterator() -> the tensors of the next element, where tensors are made; nothing at the end, when it has closed itself */
static int iterator_call(lua_State *L) {
  iterator_ud *u = luaL_checkudata(L, 1, ITERATOR);
  if (u->busy) return nnL_raise(L, "data set: its own map function asks the iterator for the next element");
  if (u->it == NULL) return 0;
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  luaL_checkstack(L, NN_DATA_MAX + 2, "data set");
  map_caller caller = {.L = L, .functions = 2};
  nn_context *ctx = nnL_context(L);
  const int device = nn_device(ctx);
  u->busy = true;
  nn_set_device(ctx, 0); /* elements lie on the CPU until they are given out: what a map makes does too */
  nn_status rc = nn_iter_next(ctx, u->it, &caller, u->out, &u->n);
  nn_set_device(ctx, device);
  u->busy = false;
  u->at = 0;
  if (rc != NN_OK || u->n == 0) {
    nn_iter *it = u->it;
    u->it = NULL;
    u->n = 0;
    nn_iter_close(it);
    return rc == NN_OK ? 0 : caller.failed ? lua_error(L) : raise_last(L);
  }
  int n = u->n;
  while (u->at < u->n) {
    nnL_box *box = nnL_newbox(L);
    box->t = u->out[u->at++];
    if (nn_dtype_of(box->t) == NN_F64) continue; /* the CPU's */
    box->t = nnL_place(box->t, device);
    if (!box->t) return raise_last(L);
  }
  nnL_pace(L);
  return n;
}

/* state(d[, iterator]) -> list of integers; without an iterator, or when it has ended: between two passes */
static int data_state(lua_State *L) {
  nn_dataset *d = check_dataset(L, 1);
  nn_iter *it = lua_isnoneornil(L, 2) ? NULL : ((iterator_ud *)luaL_checkudata(L, 2, ITERATOR))->it;
  return push_words(L, d, it);
}

/* restore(d, list of integers) -> an iterator that goes on from there, or nil when the state lies between two passes */
static int data_restore(lua_State *L) {
  nn_dataset *d = check_dataset(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  int n = (int)lua_rawlen(L, 2);
  if (n != nn_dataset_state_words(d))
    return nnL_raise(L, "restore: %d numbers are not a state of this data set, which has %d", n, nn_dataset_state_words(d));
  int64_t *words = lua_newuserdatauv(L, (size_t)n * sizeof *words, 0);
  for (int i = 0; i < n; i++) {
    int ok;
    lua_rawgeti(L, 2, i + 1);
    words[i] = lua_tointegerx(L, -1, &ok);
    if (!ok) return nnL_raise(L, "restore: number %d of the state is not an integer", i + 1);
    lua_pop(L, 1);
  }
  iterator_ud *u = new_iterator(L, 1);
  lua_getiuservalue(L, 1, 1);
  map_caller caller = {.L = L, .functions = lua_gettop(L)};
  u->busy = true;
  nn_status rc = nn_dataset_restore(nnL_context(L), d, &caller, words, n, &u->it);
  u->busy = false;
  if (rc != NN_OK) return caller.failed ? lua_error(L) : raise_last(L);
  lua_settop(L, 4);
  if (u->it == NULL) lua_pushnil(L);
  return 1;
}

static int iterator_done(lua_State *L) {
  iterator_ud *u = luaL_checkudata(L, 1, ITERATOR);
  lua_pushboolean(L, u->it == NULL || nn_iter_done(u->it));
  return 1;
}

/* ---- where data come from -------------------------------------------------------------------------------------------------- */

static int give_nothing(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

/* idx_read(path[, type[, ndim]]) -> tensor, or nil and a message */
static int data_idx_read(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int type = (int)luaL_optinteger(L, 2, 0), ndim = (int)luaL_optinteger(L, 3, 0);
  nnL_box *box = nnL_newbox(L);
  box->t = nn_idx_read(nnL_context(L), path, type, ndim);
  nnL_pace(L);
  return box->t != NULL ? 1 : give_nothing(L);
}

/* digits(seed, first, n) -> images u8 n x 28 x 28, labels u8 n (0 to 9); first counts from 0 */
static int data_digits(lua_State *L) {
  lua_Integer seed = luaL_checkinteger(L, 1), first = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3);
  nnL_box *x = nnL_newbox(L), *y = nnL_newbox(L);
  if (nn_digits(nnL_context(L), (uint64_t)seed, first, n, &x->t, &y->t) != NN_OK) return raise_last(L);
  nnL_pace(L);
  return 2;
}

typedef struct progress {
  lua_State *L; /* the function is at stack index 5; after a failure the error value is on top */
  bool failed;
} progress;

static bool report_progress(void *ud, int64_t done, int64_t total) {
  progress *p = ud;
  if (lua_isnil(p->L, 5)) return true;
  lua_pushvalue(p->L, 5);
  lua_pushinteger(p->L, done);
  lua_pushinteger(p->L, total);
  p->failed = lua_pcall(p->L, 2, 0, 0) != LUA_OK;
  return !p->failed;
}

/* download(url, dest[, limit[, digest[, progress]]]) -> true, or nil and a message. progress(done, total): total -1 when unknown; its errors stop it.
** digest: an MD5 or a SHA-256 in lower-case hex; its length says which. */
static int data_download(lua_State *L) {
  progress p = {.L = L};
  nn_download d = {.url = luaL_checkstring(L, 1), .dest = luaL_checkstring(L, 2), .limit = luaL_optinteger(L, 3, 0),
                   .progress = report_progress, .ud = &p};
  size_t digits = 0;
  const char *digest = luaL_optlstring(L, 4, NULL, &digits);
  luaL_argcheck(L, digest == NULL || digits == 32 || digits == 64, 4, "32 or 64 hex digits");
  if (digits == 64) d.sha256 = digest;
  else d.md5 = digest;
  lua_settop(L, 5);
  luaL_checkstack(L, 4, "download");
  nn_status rc = nn_download_run(nnL_context(L), &d);
  if (p.failed) return lua_error(L);
  if (rc != NN_OK) return give_nothing(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* writable(folder) -> may files be made there? */
static int data_writable(lua_State *L) {
  lua_pushboolean(L, access(luaL_checkstring(L, 1), W_OK | X_OK) == 0);
  return 1;
}

void nnL_open_data(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"tensors", data_tensors},   {"range", data_range},       {"shuffle", data_shuffle},         {"batch", data_batch},
    {"repeated", data_repeated}, {"take", data_take},         {"skip", data_skip},               {"map", data_map},
    {"prefetch", data_prefetch}, {"spec", data_spec},         {"cardinality", data_cardinality}, {"describe", data_describe},
    {"open", data_open},         {"close", iterator_close},   {"done", iterator_done},           {"state", data_state},
    {"restore", data_restore},   {"idx_read", data_idx_read}, {"digits", data_digits},           {"download", data_download},
    {"writable", data_writable}, {NULL, NULL},
  };
  static const luaL_Reg iterator_methods[] = {
    {"__call", iterator_call}, {"__gc", iterator_close}, {"__close", iterator_close}, {"close", iterator_close}, {NULL, NULL}};
  if (luaL_newmetatable(L, DATASET)) {
    lua_pushcfunction(L, dataset_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  if (luaL_newmetatable(L, ITERATOR)) {
    luaL_setfuncs(L, iterator_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "pipeline");
}
