/* bindings/lua_h5.c - archives (nn_archive.h) as tables: core.h5_write, core.h5_read.
**
**   h5_write(file, { datasets = { { path = "/a/kernel", tensor = t }, { path = "/a/raw", dtype = "u8", shape = { 3 }, bytes = "abc" } },
**                    attrs = { { path = "/a", name = "names", value = { "x", "y" } } } })      -> true | nil, message
**   h5_read(file) -> { datasets = { ["/a/kernel"] = t, ... }, attrs = { ["/a"] = { names = { "x", "y" } } } } | nil, message
**   h5_foreign(file[, bytes]) -> the same of another program's file; of its bytes, when they are given
**   h5_image(what h5_write takes) -> the bytes of the file | nil, message
**
** An attribute is a text, an integer, a float or a list of texts. Wrong use raises; what files, disks and folders do gives nil and a message.
*/
#include <string.h>

#include "nnL.h"
#include "nn_archive.h"

#define ARCHIVE_MT "nnlua.archive"

static int free_archive(lua_State *L) {
  nn_archive **a = luaL_checkudata(L, 1, ARCHIVE_MT);
  nn_archive_free(*a);
  *a = NULL;
  return 0;
}

/* A new archive, freed when the calling C function returns or raises. */
static nn_archive *new_archive(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nn_archive **a = lua_newuserdatauv(L, sizeof *a, 0);
  *a = NULL;
  luaL_setmetatable(L, ARCHIVE_MT);
  lua_toclose(L, -1);
  if (!(*a = nn_archive_new(ctx))) nnL_check(L, NN_ENOMEM);
  return *a;
}

/* Faults of the outside world: nil and the message; others are raised. */
static int give_failure(lua_State *L, nn_status s) {
  if (s == NN_EINVAL || s == NN_EINTERRUPT || s == NN_EINTERNAL || s == NN_ELOST) nnL_check(L, s);
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

/* The text in field `name` of the table on top; pushes it. */
static const char *text_field(lua_State *L, const char *what, const char *name) {
  size_t n;
  const char *s;
  if (lua_getfield(L, -1, name) != LUA_TSTRING) nnL_raise(L, "h5_write: %s needs a text in field '%s'", what, name);
  s = lua_tolstring(L, -1, &n);
  if (strlen(s) != n) nnL_raise(L, "h5_write: %s has a zero byte in field '%s'", what, name);
  return s;
}

/* The data set described by the table on top. */
static void add_dataset(lua_State *L, nn_archive *a) {
  const int top = lua_gettop(L);
  const char *path = text_field(L, "a data set", "path");
  nn_dtype d;
  int64_t shape[NN_MAXDIM], count = 1;
  int ndim, i;
  size_t n;
  const char *bytes;
  lua_getfield(L, top, "tensor");
  if (!lua_isnil(L, -1)) nnL_check(L, nn_archive_add(a, path, nnL_checktensor(L, lua_gettop(L))));
  else {
    lua_getfield(L, top, "dtype");
    if (!lua_isstring(L, -1) || !nn_dtype_from_name(lua_tostring(L, -1), &d))
      nnL_raise(L, "h5_write: %s: needs a tensor, or dtype, shape and bytes", path);
    lua_getfield(L, top, "shape");
    luaL_checktype(L, lua_gettop(L), LUA_TTABLE);
    nnL_shape(L, lua_gettop(L), &ndim, shape);
    for (i = 0; i < ndim; i++)
      if (shape[i] < 0 || __builtin_mul_overflow(count, shape[i], &count)) nnL_raise(L, "h5_write: %s: impossible shape", path);
    lua_getfield(L, top, "bytes");
    if (lua_type(L, -1) != LUA_TSTRING) nnL_raise(L, "h5_write: %s: needs a tensor, or dtype, shape and bytes", path);
    bytes = lua_tolstring(L, -1, &n);
    if (n % nn_dtype_size(d) != 0 || n / nn_dtype_size(d) != (size_t)count)
      nnL_raise(L, "h5_write: %s: %d bytes do not fill the shape", path, (int)n);
    nnL_check(L, nn_archive_add_bytes(a, path, d, ndim, shape, bytes));
  }
  lua_settop(L, top);
}

static nn_status add_texts(lua_State *L, nn_archive *a, const char *path, const char *name, int idx) {
  const int n = (int)luaL_len(L, idx);
  const char **texts = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *texts, 0);
  size_t len;
  int i;
  for (i = 0; i < n; i++) {
    if (lua_rawgeti(L, idx, i + 1) != LUA_TSTRING)
      nnL_raise(L, "h5_write: attribute %s of %s: item %d is a %s, not a text", name, path, i + 1, luaL_typename(L, -1));
    texts[i] = lua_tolstring(L, -1, &len); /* anchored by the list */
    if (strlen(texts[i]) != len) nnL_raise(L, "h5_write: attribute %s of %s: item %d has a zero byte", name, path, i + 1);
    lua_pop(L, 1);
  }
  return nn_archive_set_texts(a, path, name, n, texts);
}

/* The attribute described by the table on top. */
static void add_attr(lua_State *L, nn_archive *a) {
  const int top = lua_gettop(L);
  const char *path = text_field(L, "an attribute", "path"), *name;
  lua_pushvalue(L, top);
  name = text_field(L, "an attribute", "name");
  switch (lua_getfield(L, top, "value")) {
  case LUA_TSTRING:
    lua_pushvalue(L, top);
    nnL_check(L, nn_archive_set_text(a, path, name, text_field(L, "an attribute", "value")));
    break;
  case LUA_TNUMBER:
    if (lua_isinteger(L, -1)) nnL_check(L, nn_archive_set_int(a, path, name, lua_tointeger(L, -1)));
    else nnL_check(L, nn_archive_set_float(a, path, name, lua_tonumber(L, -1)));
    break;
  case LUA_TTABLE: nnL_check(L, add_texts(L, a, path, name, lua_gettop(L))); break;
  default: nnL_raise(L, "h5_write: attribute %s of %s: needs a text, a number or a list of texts, got a %s", name, path, luaL_typename(L, -1));
  }
  lua_settop(L, top);
}

static void add_list(lua_State *L, nn_archive *a, const char *field, void (*add)(lua_State *, nn_archive *)) {
  lua_Integer i, n;
  if (lua_getfield(L, 2, field) == LUA_TNIL) return;
  luaL_checktype(L, -1, LUA_TTABLE);
  n = luaL_len(L, -1);
  for (i = 1; i <= n; i++) {
    if (lua_rawgeti(L, -1, i) != LUA_TTABLE) nnL_raise(L, "h5_write: item %d of %s is a %s, not a table", (int)i, field, luaL_typename(L, -1));
    add(L, a);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* The archive described by the table at 2, the last value on the stack. */
static nn_archive *build_archive(lua_State *L) {
  nn_archive *a = new_archive(L);
  add_list(L, a, "datasets", add_dataset);
  add_list(L, a, "attrs", add_attr);
  return a;
}

static int h5_write(lua_State *L) {
  const char *file = luaL_checkstring(L, 1);
  nn_status s;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  s = nn_archive_save(build_archive(L), file);
  if (s != NN_OK) return give_failure(L, s);
  lua_pushboolean(L, 1);
  return 1;
}

static int h5_image(lua_State *L) {
  const void *image;
  size_t n;
  nn_status s;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  s = nn_archive_image(build_archive(L), &image, &n);
  if (s != NN_OK) return give_failure(L, s);
  lua_pushlstring(L, image, n);
  return 1;
}

static void push_attr(lua_State *L, const nn_attr *at) {
  int i;
  switch (at->kind) {
  case NN_ATTR_TEXT: lua_pushstring(L, at->texts[0]); return;
  case NN_ATTR_INT: lua_pushinteger(L, at->i); return;
  case NN_ATTR_FLOAT: lua_pushnumber(L, at->f); return;
  case NN_ATTR_TEXTS: break;
  }
  lua_createtable(L, at->n, 0);
  for (i = 0; i < at->n; i++) {
    lua_pushstring(L, at->texts[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int push_archive(lua_State *L, nn_archive *a, nn_status s) {
  const char *path;
  nn_attr at;
  int i;
  if (s != NN_OK) return give_failure(L, s);
  lua_createtable(L, 0, 2);
  lua_newtable(L);
  for (i = 0; i < nn_archive_tensors(a); i++) {
    nnL_box *box = nnL_newbox(L);
    if (!(box->t = nn_archive_take(a, i, &path))) nnL_check(L, NN_ENOMEM);
    lua_setfield(L, -2, path);
  }
  lua_setfield(L, -2, "datasets");
  lua_newtable(L);
  for (i = 0; nn_archive_attr(a, i, &at); i++) {
    if (lua_getfield(L, -1, at.path) == LUA_TNIL) {
      lua_pop(L, 1);
      lua_newtable(L);
      lua_pushvalue(L, -1);
      lua_setfield(L, -3, at.path);
    }
    push_attr(L, &at);
    lua_setfield(L, -2, at.name);
    lua_pop(L, 1);
  }
  lua_setfield(L, -2, "attrs");
  return 1;
}

static int h5_read(lua_State *L) {
  const char *file = luaL_checkstring(L, 1);
  nn_archive *a = new_archive(L);
  return push_archive(L, a, nn_archive_load(a, file));
}

static int h5_foreign(lua_State *L) {
  const char *file = luaL_checkstring(L, 1);
  size_t n;
  const char *bytes = luaL_optlstring(L, 2, NULL, &n);
  nn_archive *a = new_archive(L);
  return push_archive(L, a, bytes ? nn_archive_load_image(a, file, bytes, n) : nn_archive_load_foreign(a, file));
}

/* cpu_level() -> name of the kernels in use, where products are OpenBLAS's of its kernels too; a checkpoint records it */
static int cpu_level(lua_State *L) {
  lua_pushstring(L, nn_cpu_kernels_name());
  return 1;
}

void nnL_open_h5(lua_State *L) {
  static const luaL_Reg functions[] = {{"h5_write", h5_write}, {"h5_read", h5_read}, {"h5_foreign", h5_foreign}, {"h5_image", h5_image}, {"cpu_level", cpu_level}, {NULL, NULL}};
  if (luaL_newmetatable(L, ARCHIVE_MT)) {
    lua_pushcfunction(L, free_archive);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, free_archive);
    lua_setfield(L, -2, "__close");
  }
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
