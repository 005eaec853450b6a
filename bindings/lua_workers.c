/* bindings/lua_workers.c - map with workers: a Lua function that runs in Lua states of its own, each on a thread of the data engine.
**
** When `map` is called, the function and what it captures are copied into a template state, so that the pipeline does what it did then, whatever becomes
** of the captured variables. A worker's state is a copy of the template. States are made and dropped on the consumer's thread; while a pass is read
** each belongs to its worker's thread. A state that a pass gives back waits for the next one.
** What travels: nil, booleans, numbers, strings, tables, tensors, lists of transforms, Lua functions; modules and what they hold by name; the table
** of globals as the worker's own. Everything else is named in the error.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data.h"
#include "prog.h"

#define DEEPEST 100 /* tables and functions inside each other */
#define PATH_MAX_TEXT 200

typedef struct shared { /* of one map verb; consumer's thread */
  lua_State *template;
  lua_Integer number; /* of the function in the consumer's state, which runs it when there are no workers */
  int workers;
  int n_idle;
  lua_State *idle[];  /* workers of them: fewer wait */
} shared;

typedef struct worker {
  shared *s;
  lua_State *L; /* function at 1; NULL: without workers */
  int n;        /* results that are held until the next call */
  nn_tensor *out[NN_DATA_MAX];
} worker;

/* ---- copying values between states: stack of `from` -> top of `to` --------------------------------------------------------------- */

typedef struct copier {
  lua_State *from, *to;
  int memo, list;  /* from: value -> number; to: number -> copy */
  lua_Integer n;
  char path[PATH_MAX_TEXT]; /* of the value that is being copied: "config.scale" */
  char *message;
  size_t size;
} copier;

static bool copy_value(copier *c, int idx, int depth);

static bool refuse(copier *c, const char *what) {
  snprintf(c->message, c->size,
           "map: the function captures `%s` (%s), which cannot travel to a worker; it may capture plain values, tables, tensors, modules and Lua "
           "functions. Make it inside of the function, or leave out `workers`", c->path, what);
  return false;
}

static size_t path_push(copier *c, const char *name) {
  size_t n = strlen(c->path);
  snprintf(c->path + n, sizeof c->path - n, "%s%s", n > 0 && name[0] != '[' ? "." : "", name);
  return n;
}

static void remember(copier *c, int idx) { /* the copy is on top of `to` */
  lua_pushvalue(c->from, idx);
  lua_pushinteger(c->from, ++c->n);
  lua_rawset(c->from, c->memo);
  lua_pushvalue(c->to, -1);
  lua_rawseti(c->to, c->list, c->n);
}

static bool remembered(copier *c, int idx) {
  lua_pushvalue(c->from, idx);
  bool known = lua_rawget(c->from, c->memo) == LUA_TNUMBER;
  if (known) lua_rawgeti(c->to, c->list, lua_tointeger(c->from, -1));
  lua_pop(c->from, 1);
  return known;
}

/* Is it a loaded module, or something that one holds? Then it is the worker's own of that name. */
static bool copy_by_name(copier *c, int idx) {
  lua_State *L = c->from;
  int top = lua_gettop(L);
  const char *module = NULL, *key = NULL;
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (lua_pushnil(L); module == NULL && lua_next(L, top + 1);) { /* top + 2: name, top + 3: module */
    const char *name = lua_type(L, top + 2) == LUA_TSTRING ? lua_tostring(L, top + 2) : NULL;
    if (name != NULL && lua_rawequal(L, top + 3, idx)) module = name;
    else if (name != NULL && lua_istable(L, top + 3) && strcmp(name, "_G") != 0)
      for (lua_pushnil(L); module == NULL && lua_next(L, top + 3); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, idx)) {
          key = lua_tostring(L, -2); /* held by the module */
          module = name;
        }
    lua_settop(L, top + 2);
  }
  bool done = false;
  if (module != NULL) {
    lua_getglobal(c->to, "require");
    lua_pushstring(c->to, module);
    const int rc = lua_pcall(c->to, 1, 1, 0);
    if (rc == LUA_ERRMEM) return lua_error(c->to);
    done = rc == LUA_OK;
    if (done && key != NULL) {
      done = lua_istable(c->to, -1);
      if (done) {
        lua_getfield(c->to, -1, key);
        lua_remove(c->to, -2);
      }
      done = done && lua_type(c->to, -1) == lua_type(L, idx);
    }
    if (!done) lua_pop(c->to, 1);
  }
  lua_settop(L, top);
  return done;
}

static bool copy_function(copier *c, int idx, int depth) {
  lua_State *L = c->from;
  if (lua_iscfunction(L, idx)) {
    if (lua_getupvalue(L, idx, 1) != NULL) {
      lua_pop(L, 1);
      return refuse(c, "a function written in C");
    }
    lua_pushcfunction(c->to, lua_tocfunction(L, idx));
    return true;
  }
  lua_pushvalue(L, idx);
  int rc = nnL_copyfunction(L, c->to);
  lua_pop(L, 1);
  if (rc != LUA_OK) return luaL_error(c->to, "map: out of memory for a worker");
  remember(c, idx);
  for (int i = 1;; i++) {
    const char *name = lua_getupvalue(L, idx, i);
    if (name == NULL) return true;
    size_t n = path_push(c, name);
    bool ok = true;
    if (strcmp(name, "_ENV") == 0) lua_pushglobaltable(c->to); /* the worker's own globals, also where a test runner put others in */
    else ok = copy_value(c, lua_gettop(L), depth + 1);
    lua_pop(L, 1);
    if (!ok) return false;
    lua_setupvalue(c->to, -2, i);
    c->path[n] = 0;
  }
}

static bool copy_table(copier *c, int idx, int depth) {
  lua_State *L = c->from;
  lua_newtable(c->to);
  remember(c, idx);
  for (lua_pushnil(L); lua_next(L, idx);) {
    int key = lua_gettop(L) - 1;
    char number[32];
    if (lua_type(L, key) == LUA_TSTRING) snprintf(number, sizeof number, "%s", lua_tostring(L, key));
    else if (lua_isinteger(L, key)) snprintf(number, sizeof number, "[%lld]", (long long)lua_tointeger(L, key));
    else snprintf(number, sizeof number, "[%s]", luaL_typename(L, key));
    size_t n = path_push(c, number);
    if (!copy_value(c, key, depth + 1) || !copy_value(c, key + 1, depth + 1)) return false;
    lua_rawset(c->to, -3);
    lua_pop(L, 1);
    c->path[n] = 0;
  }
  if (!lua_getmetatable(L, idx)) return true;
  size_t n = path_push(c, "metatable");
  bool ok = copy_value(c, lua_gettop(L), depth + 1);
  lua_pop(L, 1);
  if (ok) lua_setmetatable(c->to, -2);
  c->path[n] = 0;
  return ok;
}

static bool copy_tensor(copier *c, nn_tensor *t) {
  nnL_box *box = nnL_newbox(c->to);
  const void *data = nn_data(t);
  if (data == NULL) return refuse(c, "a tensor whose values are not there");
  box->t = nn_tensor_new(nnL_context(c->to), nn_dtype_of(t), nn_ndim(t), nn_shape(t), data);
  return box->t != NULL || luaL_error(c->to, "map: out of memory for a worker");
}

static bool copy_value(copier *c, int idx, int depth) {
  lua_State *L = c->from;
  if (depth > DEEPEST) return refuse(c, "too many tables inside each other");
  if (!lua_checkstack(L, 12) || !lua_checkstack(c->to, 12)) return luaL_error(c->to, "map: out of memory for a worker");
  switch (lua_type(L, idx)) {
    case LUA_TNIL: lua_pushnil(c->to); return true;
    case LUA_TBOOLEAN: lua_pushboolean(c->to, lua_toboolean(L, idx)); return true;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx)) lua_pushinteger(c->to, lua_tointeger(L, idx));
      else lua_pushnumber(c->to, lua_tonumber(L, idx));
      return true;
    case LUA_TSTRING: {
      size_t n;
      const char *s = lua_tolstring(L, idx, &n);
      lua_pushlstring(c->to, s, n);
      return true;
    }
    case LUA_TTABLE:
    case LUA_TFUNCTION:
      if (remembered(c, idx) || copy_by_name(c, idx)) return true;
      return lua_istable(L, idx) ? copy_table(c, idx, depth) : copy_function(c, idx, depth);
    default:
      if (nnL_testtensor(L, idx) != NULL) return copy_tensor(c, nnL_testtensor(L, idx));
      if (nnL_copyvision(L, idx, c->to)) return true;
      return refuse(c, luaL_typename(L, idx));
  }
}

/* ---- states ---------------------------------------------------------------------------------------------------------------------- */

/* Runs protected in the new state. Argument: the state whose paths it takes over. */
static int furnish(lua_State *L) {
  lua_State *from = lua_touserdata(L, 1);
  luaL_openlibs(L);
  nnL_textonly(L);
  lua_getglobal(L, "package");
  lua_getglobal(from, "package");
  for (int i = 0; i < 2; i++) {
    const char *key = i == 0 ? "path" : "cpath";
    if (lua_istable(from, -1) && lua_getfield(from, -1, key) == LUA_TSTRING) lua_pushstring(L, lua_tostring(from, -1));
    else lua_getfield(L, -1, key);
    lua_setfield(L, -2, key);
    if (lua_istable(from, -2)) lua_pop(from, 1);
  }
  lua_pop(from, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_nnlua_core);
  lua_setfield(L, -2, "nnlua.core");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nnlua");
  lua_call(L, 1, 1);
  nn_set_threads(nnL_context(L), 1);
  return 0;
}

/* The function on top of c->from, into c->to at index 1. Runs protected in c->to. */
static int copy_into(lua_State *L) {
  copier *c = lua_touserdata(L, 1);
  lua_State *from = c->from;
  int top = lua_gettop(from);
  lua_newtable(from);
  c->memo = lua_gettop(from);
  lua_newtable(L);
  c->list = lua_gettop(L);
  lua_pushglobaltable(from); /* is the worker's own there */
  lua_pushglobaltable(L);
  remember(c, lua_gettop(from));
  lua_pop(from, 1);
  bool ok = copy_value(c, top, 0);
  lua_settop(from, top);
  if (!ok) return luaL_error(L, "%s", c->message);
  return 1;
}

typedef struct builder {
  lua_State *L;
  char *message; /* "" at first */
  size_t size;
  bool ok;
} builder;

/* Runs protected in the state that it copies from. Arguments: a builder, the function. A failure in the new state is caught here. One in `from`, for
** want of memory, jumps out of here and of whatever runs in the new state, which then can be closed and nothing else. */
static int build_state(lua_State *from) {
  builder *b = lua_touserdata(from, 1);
  copier c = {.from = from, .to = b->L, .message = b->message, .size = b->size};
  luaL_checkstack(from, 16, "map");
  lua_pushcfunction(b->L, furnish);
  lua_pushlightuserdata(b->L, from);
  b->ok = lua_pcall(b->L, 1, 0, 0) == LUA_OK;
  if (b->ok) {
    lua_settop(from, 2);
    lua_pushcfunction(b->L, copy_into);
    lua_pushlightuserdata(b->L, &c);
    b->ok = lua_pcall(b->L, 1, 1, 0) == LUA_OK;
  }
  if (!b->ok && b->message[0] == 0 && lua_type(b->L, -1) == LUA_TSTRING) snprintf(b->message, b->size, "%s", lua_tostring(b->L, -1));
  return 0;
}

/* A state with the function that is on top of `from`, which stays there; NULL and a message. Raises nothing in `from`, where nobody may be there to
** catch it: a template runs no code. */
static lua_State *state_open(lua_State *from, char *message, size_t size) {
  builder b = {.L = luaL_newstate(), .message = message, .size = size};
  message[0] = 0;
  if (b.L != NULL && lua_checkstack(from, 4)) {
    lua_pushcfunction(from, build_state);
    lua_pushlightuserdata(from, &b);
    lua_pushvalue(from, -3);
    if (lua_pcall(from, 2, 0, 0) != LUA_OK) {
      b.ok = false;
      lua_pop(from, 1);
    }
  }
  if (b.ok) return b.L;
  if (message[0] == 0) snprintf(message, size, "map: out of memory for a worker");
  if (b.L != NULL) lua_close(b.L);
  return NULL;
}

/* ---- a worker: begin and end on the consumer's thread, run on its own --------------------------------------------------------------- */

static nn_status worker_begin(void *caller, void *ud, void **out, char *message, size_t size) {
  shared *s = ud;
  worker *w = calloc(1, sizeof *w);
  (void)caller;
  *out = w;
  if (w == NULL) {
    snprintf(message, size, "map: out of memory for a worker");
    return NN_ENOMEM;
  }
  w->s = s;
  if (s->workers == 0) return NN_OK;
  w->L = s->n_idle > 0 ? s->idle[--s->n_idle] : state_open(s->template, message, size);
  if (w->L != NULL) return NN_OK;
  free(w);
  return NN_EINVAL;
}

static void drop_results(worker *w) {
  while (w->n > 0) nn_release(w->out[--w->n]);
}

static void worker_end(void *ud, void *p) {
  shared *s = ud;
  worker *w = p;
  drop_results(w);
  if (w->L != NULL && s->n_idle < s->workers) s->idle[s->n_idle++] = w->L;
  else if (w->L != NULL) lua_close(w->L);
  free(w);
}

typedef struct job {
  worker *w;
  uint64_t key;
  const nn_array *in;
  int nin;
} job;

static int add_traceback(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  if (text == NULL && luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) text = luaL_tolstring(L, 1, NULL);
  if (text == NULL) text = lua_pushfstring(L, "an error that is a %s, which does not leave its worker", luaL_typename(L, 1));
  luaL_traceback(L, L, text, 1);
  luaL_gsub(L, lua_tostring(L, -1), "\nstack traceback:\n\t", " stack traceback:" NNL_TRACE);
  luaL_gsub(L, lua_tostring(L, -1), "\n\t", NNL_TRACE);
  return 1;
}

static int run_job(lua_State *L) {
  job *j = lua_touserdata(L, 1);
  nn_context *ctx = nnL_context(L);
  luaL_checkstack(L, NN_DATA_MAX + 8, "map");
  lua_pushvalue(L, 2);
  nn_rng_set(ctx, (nn_rng_state){.seed = j->key});
  for (int i = 0; i < j->nin; i++) {
    nnL_box *box = nnL_newbox(L);
    box->t = nn_tensor_new(ctx, j->in[i].dtype, j->in[i].ndim, j->in[i].shape, j->in[i].data);
    if (box->t == NULL) return luaL_error(L, "%s", nn_error(ctx));
  }
  lua_call(L, j->nin, LUA_MULTRET);
  int n = lua_gettop(L) - 2;
  if (n < 1 || n > NN_DATA_MAX) return luaL_error(L, "map: the function returned %d values; it must return 1 to %d", n, NN_DATA_MAX);
  for (int i = 0; i < n; i++) {
    j->w->out[i] = nnL_totensor(L, 3 + i, "map", i + 1);
    j->w->n = i + 1;
    if (nn_data(j->w->out[i]) == NULL) return luaL_error(L, "%s", nn_error(ctx));
  }
  nnL_pace(L);
  return 0;
}

static void give_results(worker *w, nn_array *out, int *nout) {
  for (int i = 0; i < w->n; i++) {
    nn_tensor *t = w->out[i];
    out[i] = (nn_array){.dtype = nn_dtype_of(t), .ndim = nn_ndim(t), .data = nn_data(t)};
    memcpy(out[i].shape, nn_shape(t), (size_t)out[i].ndim * sizeof *out[i].shape);
  }
  *nout = w->n;
}

/* Without workers: in the consumer's state, with random draws of the element's own all the same. */
static nn_status run_here(worker *w, nnL_caller *m, uint64_t key, const nn_array *in, int nin, char *message, size_t size) {
  nn_context *ctx = nnL_context(m->L);
  nn_tensor *from[NN_DATA_MAX];
  nn_status rc = NN_OK;
  int made = 0;
  for (; made < nin && rc == NN_OK; made++)
    if ((from[made] = nn_tensor_new(ctx, in[made].dtype, in[made].ndim, in[made].shape, in[made].data)) == NULL) rc = NN_ENOMEM;
  nn_rng_state before = nn_rng_get(ctx);
  nn_rng_set(ctx, (nn_rng_state){.seed = key});
  if (rc == NN_OK) rc = nnL_callfunction(m, "map", w->s->number, from, nin, w->out, &w->n);
  for (int i = 0; i < w->n && rc == NN_OK; i++)
    if (nn_data(w->out[i]) == NULL) rc = NN_EINVAL;
  nn_rng_set(ctx, before);
  while (made > 0) nn_release(from[--made]);
  if (rc != NN_OK) snprintf(message, size, "%s", nn_error(ctx));
  return rc;
}

static nn_status worker_run(void *p, void *caller, uint64_t key, const nn_array *in, int nin, nn_array *out, int *nout, char *message, size_t size) {
  worker *w = p;
  nn_status rc = NN_OK;
  drop_results(w);
  if (w->L == NULL) {
    rc = run_here(w, caller, key, in, nin, message, size);
  } else {
    lua_State *L = w->L;
    lua_settop(L, 1);
    lua_pushcfunction(L, add_traceback);
    lua_pushcfunction(L, run_job);
    lua_pushlightuserdata(L, &(job){.w = w, .key = key, .in = in, .nin = nin});
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 2, 0, 2) != LUA_OK) {
      snprintf(message, size, "map: in a worker: %s", lua_tostring(L, -1) != NULL ? lua_tostring(L, -1) : "an error without a message");
      rc = NN_EINVAL;
    }
    lua_settop(L, 1);
  }
  if (rc == NN_OK) give_results(w, out, nout);
  return rc;
}

static void shared_drop(void *ud) {
  shared *s = ud;
  while (s->n_idle > 0) lua_close(s->idle[--s->n_idle]);
  if (s->template != NULL) lua_close(s->template);
  free(s);
}

/* parallel(d, fn, workers[, seed]): without a seed one is drawn from the random stream */
static int data_parallel(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  int workers = (int)luaL_checkinteger(L, 3);
  char message[PATH_MAX_TEXT + 400] = "";
  if (workers < 0 || workers > 256) return nnL_raise(L, "map: %d workers; 0 to 256", workers);
  lua_settop(L, 4);
  uint64_t seed = lua_isnil(L, 4) ? nn_data_seed(nnL_context(L)) : (uint64_t)luaL_checkinteger(L, 4);
  lua_Integer number = nnL_newfunction(L, 1, 2);
  nnL_dataset *u = nnL_newdataset(L);
  shared *s = calloc(1, sizeof *s + (size_t)workers * sizeof *s->idle);
  if (s == NULL) return nnL_raise(L, "map: out of memory");
  s->number = number;
  s->workers = workers;
  if (workers > 0) {
    lua_pushvalue(L, 2);
    s->template = state_open(L, message, sizeof message);
    lua_pop(L, 1);
    if (s->template == NULL) {
      shared_drop(s);
      return nnL_raise(L, "%s", message);
    }
  }
  nn_workers fn = {.begin = worker_begin, .run = worker_run, .end = worker_end, .drop = shared_drop, .ud = s};
  u->d = nn_data_parallel(nnL_context(L), up, &fn, workers, seed);
  if (u->d == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  lua_pushvalue(L, -2);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

void nnL_open_workers(lua_State *L) {
  lua_pushcfunction(L, data_parallel);
  lua_setfield(L, -2, "parallel");
}
