/* bindings/lua_vision.c - core.imaging: images and sound from Lua strings and back, lists of transforms; lua/nnlua/vision.lua makes them an API.
**
** Owns one kind of userdata, a list of transforms. What the outside world can get wrong (bytes of files) returns nil and a message; everything else
** raises.
*/
#include <string.h>
#include "nnL.h"
#include "data.h"
#include "nn_vision.h"

#define VISION "nnlua.vision"

typedef struct vision_ud {
  nn_vision *v; /* NULL while half built */
} vision_ud;

const nn_vision *nnL_checkvision(lua_State *L, int arg) { return ((const vision_ud *)luaL_checkudata(L, arg, VISION))->v; }

static int raise_last(lua_State *L) { return nnL_raise(L, "%s", nn_error(nnL_context(L))); }

static int give_nothing(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

/* the tensor in box, moved to where tensors are made */
static void place(lua_State *L, nnL_box *box) {
  if (box->t != NULL && nn_dtype_of(box->t) != NN_F64) box->t = nnL_place(box->t, nn_device(nnL_context(L)));
  if (box->t == NULL) raise_last(L);
}

/* ---- files in memory ------------------------------------------------------------------------------------------------------------------ */

/* decode(bytes, channels, depth, height, width, as_stored) -> tensor, or nil and a message */
static int vision_decode(lua_State *L) {
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  const nn_image_want want = {.channels = (int)luaL_checkinteger(L, 2), .depth = (int)luaL_checkinteger(L, 3), .height = (int)luaL_checkinteger(L, 4),
                              .width = (int)luaL_checkinteger(L, 5), .as_stored = lua_toboolean(L, 6)};
  nnL_box *box = nnL_newbox(L);
  box->t = nn_image_decode(nnL_context(L), bytes, n, &want);
  if (box->t == NULL) return give_nothing(L);
  place(L, box);
  nnL_pace(L);
  return 1;
}

typedef struct piece { /* encoded bytes on their way into a Lua string, which may fail for want of memory */
  lua_State *L;
  bool failed;
} piece;

typedef struct text {
  const void *p;
  size_t n;
} text;

static int push_text(lua_State *L) {
  const text *t = lua_touserdata(L, 1);
  lua_pushlstring(L, t->p, t->n);
  return 1;
}

static void put_piece(void *ud, const void *p, size_t n) {
  piece *to = ud;
  text t = {p, n};
  lua_pushcfunction(to->L, push_text);
  lua_pushlightuserdata(to->L, &t);
  to->failed = lua_pcall(to->L, 1, 1, 0) != LUA_OK;
}

static int give_piece(lua_State *L, const piece *to, nn_status rc) {
  if (rc != NN_OK) return raise_last(L);
  return to->failed ? lua_error(L) : 1;
}

/* encode(tensor, format, quality) -> bytes */
static int vision_encode(lua_State *L) {
  nn_tensor *x = nnL_checktensor(L, 1);
  const char *format = luaL_checkstring(L, 2);
  const int quality = (int)luaL_checkinteger(L, 3);
  piece to = {.L = L};
  luaL_checkstack(L, 4, "encode");
  return give_piece(L, &to, nn_image_encode(nnL_context(L), x, format, quality, put_piece, &to));
}

/* wav_decode(bytes) -> tensor, rate; or nil and a message */
static int vision_wav_decode(lua_State *L) {
  size_t n;
  int rate = 0;
  const char *bytes = luaL_checklstring(L, 1, &n);
  nnL_box *box = nnL_newbox(L);
  box->t = nn_sound_decode(nnL_context(L), bytes, n, &rate);
  if (box->t == NULL) return give_nothing(L);
  place(L, box);
  lua_pushinteger(L, rate);
  return 2;
}

/* wav_encode(tensor, rate) -> bytes */
static int vision_wav_encode(lua_State *L) {
  nn_tensor *x = nnL_checktensor(L, 1);
  const int rate = (int)luaL_checkinteger(L, 2);
  piece to = {.L = L};
  luaL_checkstack(L, 4, "encode");
  return give_piece(L, &to, nn_sound_encode(nnL_context(L), x, rate, put_piece, &to));
}

/* ---- transforms ----------------------------------------------------------------------------------------------------------------------- */

static int vision_gc(lua_State *L) {
  vision_ud *u = luaL_checkudata(L, 1, VISION);
  nn_vision_free(nnL_context(L), u->v);
  u->v = NULL;
  return 0;
}

bool nnL_copyvision(lua_State *from, int idx, lua_State *to) {
  const vision_ud *u = luaL_testudata(from, idx, VISION);
  if (u == NULL) return false;
  vision_ud *copy = lua_newuserdatauv(to, sizeof *copy, 0);
  copy->v = NULL;
  luaL_setmetatable(to, VISION);
  copy->v = nn_vision_copy(nnL_context(to), u->v);
  if (copy->v == NULL) lua_pop(to, 1);
  return copy->v != NULL;
}

/* transforms() -> { {name, "parameter parameter"}, ... } */
static int vision_transforms(lua_State *L) {
  const int n = nn_transform_count();
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    const char *params, *name = nn_transform_name(i, &params);
    lua_createtable(L, 2, 0);
    lua_pushstring(L, name);
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, params);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* list(kinds, low, high, steps): kinds a list of numbers of nn_vision_kind, steps { {name, chance, parameter, ...}, ... } */
static int vision_list(lua_State *L) {
  nn_vision_kind kinds[NN_DATA_MAX];
  double params[32];
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  const lua_Integer nkinds = luaL_len(L, 1);
  for (int i = 0; i < NN_DATA_MAX && i < nkinds; i++) {
    lua_rawgeti(L, 1, i + 1);
    kinds[i] = (nn_vision_kind)luaL_checkinteger(L, -1);
    lua_pop(L, 1);
  }
  vision_ud *u = lua_newuserdatauv(L, sizeof *u, 0);
  u->v = NULL;
  luaL_setmetatable(L, VISION);
  u->v = nn_vision_new(nnL_context(L), (int)nkinds, kinds, luaL_checknumber(L, 2), luaL_checknumber(L, 3));
  if (u->v == NULL) return raise_last(L);
  const lua_Integer nsteps = luaL_len(L, 4);
  for (lua_Integer s = 1; s <= nsteps; s++) {
    lua_rawgeti(L, 4, s);
    luaL_checktype(L, -1, LUA_TTABLE);
    const int step = lua_gettop(L), n = (int)lua_rawlen(L, step) - 2;
    if (n < 0 || n > 32) return nnL_raise(L, "vision: step %d has %d parameters", (int)s, n);
    lua_rawgeti(L, step, 1);
    lua_rawgeti(L, step, 2);
    for (int i = 0; i < n; i++) {
      lua_rawgeti(L, step, i + 3);
      params[i] = luaL_checknumber(L, -1);
      lua_pop(L, 1);
    }
    if (nn_vision_add(nnL_context(L), u->v, luaL_checkstring(L, step + 1), luaL_checknumber(L, step + 2), n, params) != NN_OK) return raise_last(L);
    lua_settop(L, step - 1);
  }
  return 1;
}

/* a key's three numbers from arg; without a seed one is drawn from the random stream */
static uint64_t seed_at(lua_State *L, int arg) {
  return lua_isnoneornil(L, arg) ? nn_data_seed(nnL_context(L)) : (uint64_t)luaL_checkinteger(L, arg);
}

static void give_tensors(lua_State *L, nn_tensor **out, int n) {
  nnL_box *boxes[NN_DATA_MAX];
  for (int i = 0; i < n; i++) boxes[i] = lua_touserdata(L, lua_gettop(L) - n + 1 + i);
  for (int i = 0; i < n; i++) boxes[i]->t = out[i];
  for (int i = 0; i < n; i++) place(L, boxes[i]);
  nnL_pace(L);
}

/* apply(list, seed or nil, epoch, sample, tensor, ...) -> tensor, ... */
static int vision_apply(lua_State *L) {
  const vision_ud *u = luaL_checkudata(L, 1, VISION);
  nn_tensor *in[NN_DATA_MAX], *out[NN_DATA_MAX];
  int n = lua_gettop(L) - 4, nout = 0;
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "vision: a sample of %d tensors; it can have 1 to %d", n, NN_DATA_MAX);
  for (int i = 0; i < n; i++) in[i] = nnL_checktensor(L, 5 + i);
  const uint64_t seed = seed_at(L, 2), epoch = (uint64_t)luaL_checkinteger(L, 3), sample = (uint64_t)luaL_checkinteger(L, 4);
  luaL_checkstack(L, n + 4, "vision");
  for (int i = 0; i < n; i++) nnL_newbox(L);
  if (nn_vision_apply(nnL_context(L), u->v, seed, epoch, sample, in, n, out, &nout) != NN_OK) return raise_last(L);
  give_tensors(L, out, n);
  return n;
}

/* map(data set, list, workers[, seed]): without a seed one is drawn from the random stream */
static int vision_map(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  const vision_ud *v = luaL_checkudata(L, 2, VISION);
  const int workers = (int)luaL_checkinteger(L, 3);
  if (workers < 0 || workers > 256) return nnL_raise(L, "map: %d workers; 0 to 256", workers);
  const uint64_t seed = seed_at(L, 4);
  nnL_dataset *u = nnL_newdataset(L);
  u->d = nn_data_vision(nnL_context(L), up, v->v, workers, seed);
  if (u->d == NULL) return raise_last(L);
  lua_getiuservalue(L, 1, 1); /* the functions of the maps before it */
  lua_setiuservalue(L, -2, 1);
  return 1;
}

/* mix(cut, alpha, seed or nil, epoch, batch, x, y) -> x, y */
static int vision_mix(lua_State *L) {
  nn_tensor *out[2];
  const bool cut = lua_toboolean(L, 1);
  const double alpha = luaL_checknumber(L, 2);
  const uint64_t epoch = (uint64_t)luaL_checkinteger(L, 4), batch = (uint64_t)luaL_checkinteger(L, 5);
  nn_tensor *x = nnL_checktensor(L, 6), *y = nnL_checktensor(L, 7);
  const uint64_t seed = seed_at(L, 3);
  nnL_newbox(L), nnL_newbox(L);
  if (nn_vision_mix(nnL_context(L), cut, alpha, seed, epoch, batch, x, y, &out[0], &out[1]) != NN_OK) return raise_last(L);
  give_tensors(L, out, 2);
  return 2;
}

void nnL_open_vision(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"decode", vision_decode}, {"encode", vision_encode}, {"wav_decode", vision_wav_decode}, {"wav_encode", vision_wav_encode},
    {"transforms", vision_transforms}, {"list", vision_list}, {"apply", vision_apply}, {"map", vision_map}, {"mix", vision_mix}, {NULL, NULL}};
  if (luaL_newmetatable(L, VISION)) {
    lua_pushcfunction(L, vision_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "imaging");
}
