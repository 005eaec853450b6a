/* bindings/lua_data.c - core.pipeline: data sets, IDX files, generated digits and downloads as raw functions; lua/nnlua/data.lua makes them an API.
**
** Owns two kinds of userdata. A data set (its user value: the Lua functions that its verbs call, by number, or nil) and an iterator (user values: those
** functions; the data set; the functions of data sets that a flat_map opened). Functions live in user values, not in the registry, so a function
** that refers to its own data set is still collected. What verbs there are, and how they call Lua: lua_verbs.c.
** Tensors on their way to Lua wait in the iterator until they have boxes, so that running out of memory leaks nothing.
** What the outside world can refuse (files, network) returns nil and a message; everything else raises.
*/
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "data.h"

#define ITERATOR "nnlua.iterator"

typedef struct iterator_ud {
  nn_iter *it; /* NULL once closed */
  bool busy;   /* inside nn_iter_next */
  int n, at;   /* tensors that came, and how many of them have boxes */
  nn_tensor *out[NN_DATA_MAX];
} iterator_ud;

/* ---- data sets -------------------------------------------------------------------------------------------------------------- */

nn_dataset *nnL_checkdataset(lua_State *L, int arg) { return ((nnL_dataset *)luaL_checkudata(L, arg, NNL_DATASET))->d; }

static int dataset_gc(lua_State *L) {
  nnL_dataset *u = luaL_checkudata(L, 1, NNL_DATASET);
  nn_dataset_release(u->d);
  u->d = NULL;
  return 0;
}

nnL_dataset *nnL_newdataset(lua_State *L) {
  nnL_dataset *u = lua_newuserdatauv(L, sizeof *u, 1);
  u->d = NULL;
  luaL_setmetatable(L, NNL_DATASET);
  return u;
}

int nnL_givedataset(lua_State *L, nnL_dataset *u, nn_dataset *d) {
  if (d == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  u->d = d;
  if (luaL_testudata(L, 1, NNL_DATASET) != NULL) {
    lua_getiuservalue(L, 1, 1);
    lua_setiuservalue(L, -2, 1);
  }
  return 1;
}

/* A worker's traceback gets its lines back here. */
static int raise_last(lua_State *L) {
  const char *text = nn_error(nnL_context(L));
  if (strstr(text, NNL_TRACE) != NULL) {
    text = luaL_gsub(L, text, " stack traceback:" NNL_TRACE, "\nstack traceback:\n\t");
    text = luaL_gsub(L, text, NNL_TRACE, "\n\t");
  }
  return nnL_raise(L, "%s", text);
}

/* tensors(x, ...): element i is row i of each */
static int data_tensors(lua_State *L) {
  nn_tensor *t[NN_DATA_MAX];
  int n = lua_gettop(L);
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "from_tensors: %d tensors; it takes 1 to %d", n, NN_DATA_MAX);
  for (int i = 0; i < n; i++) t[i] = nnL_checktensor(L, i + 1);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_tensors(nnL_context(L), n, t));
}

/* range(first, step, count) */
static int data_range(lua_State *L) {
  lua_Integer first = luaL_checkinteger(L, 1), step = luaL_checkinteger(L, 2), count = luaL_checkinteger(L, 3);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_range(nnL_context(L), first, step, count));
}

/* cardinality(d) -> elements of a pass, math.huge, or nil when that is not known */
static int data_cardinality(lua_State *L) {
  int64_t n = nn_dataset_cardinality(nnL_checkdataset(L, 1));
  if (n >= 0) lua_pushinteger(L, n);
  else if (n == NN_INFINITE) lua_pushnumber(L, (lua_Number)HUGE_VAL);
  else lua_pushnil(L);
  return 1;
}

static int push_text(lua_State *L, int (*text)(const nn_dataset *, char *, size_t)) {
  const nn_dataset *d = nnL_checkdataset(L, 1);
  char buf[2000];
  text(d, buf, sizeof buf);
  lua_pushstring(L, buf);
  return 1;
}
static int data_spec(lua_State *L) { return push_text(L, nn_dataset_spec); }

/* components(d) -> list of {dtype, list of sizes (-1: varies)}, or nil when that is not known */
static int data_components(lua_State *L) {
  nn_array spec[NN_DATA_MAX];
  int n = nn_dataset_components(nnL_checkdataset(L, 1), spec);
  if (n < 0) return 0;
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, nn_dtype_name(spec[i].dtype));
    lua_rawseti(L, -2, 1);
    lua_createtable(L, spec[i].ndim, 0);
    for (int k = 0; k < spec[i].ndim; k++) {
      lua_pushinteger(L, spec[i].shape[k]);
      lua_rawseti(L, -2, k + 1);
    }
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int data_describe(lua_State *L) { return push_text(L, nn_dataset_describe); }

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
  iterator_ud *u = lua_newuserdatauv(L, sizeof *u, 3);
  *u = (iterator_ud){.it = NULL};
  luaL_setmetatable(L, ITERATOR);
  lua_getiuservalue(L, arg, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, arg);
  lua_setiuservalue(L, -2, 2);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 3);
  return u;
}

/* open(d) -> iterator */
static int data_open(lua_State *L) {
  nn_dataset *d = nnL_checkdataset(L, 1);
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
  luaL_checkstack(L, NN_DATA_MAX + 4, "data set");
  nnL_caller caller = {.L = L, .iterator = 1};
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
  nn_dataset *d = nnL_checkdataset(L, 1);
  nn_iter *it = lua_isnoneornil(L, 2) ? NULL : ((iterator_ud *)luaL_checkudata(L, 2, ITERATOR))->it;
  return push_words(L, d, it);
}

/* restore(d, list of integers) -> an iterator that goes on from there, or nil when the state lies between two passes */
static int data_restore(lua_State *L) {
  nn_dataset *d = nnL_checkdataset(L, 1);
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
  nnL_caller caller = {.L = L, .iterator = lua_gettop(L)};
  nn_context *ctx = nnL_context(L);
  const int device = nn_device(ctx);
  u->busy = true;
  nn_set_device(ctx, 0); /* as in iterator_call */
  nn_status rc = nn_dataset_restore(ctx, d, &caller, words, n, &u->it);
  nn_set_device(ctx, device);
  u->busy = false;
  if (rc != NN_OK) return caller.failed ? lua_error(L) : raise_last(L);
  lua_settop(L, caller.iterator);
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
    {"tensors", data_tensors},   {"range", data_range},       {"spec", data_spec},             {"components", data_components},
    {"open", data_open},         {"close", iterator_close},   {"done", iterator_done},         {"state", data_state},
    {"restore", data_restore},   {"idx_read", data_idx_read}, {"digits", data_digits},         {"download", data_download},
    {"writable", data_writable}, {"describe", data_describe}, {"cardinality", data_cardinality}, {NULL, NULL},
  };
  static const luaL_Reg iterator_methods[] = {
    {"__call", iterator_call}, {"__gc", iterator_close}, {"__close", iterator_close}, {"close", iterator_close}, {NULL, NULL}};
  if (luaL_newmetatable(L, NNL_DATASET)) {
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
  nnL_open_verbs(L);
  nnL_open_workers(L);
  lua_setfield(L, -2, "pipeline");
}
