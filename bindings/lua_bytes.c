/* bindings/lua_bytes.c - bytes in Lua strings and files: core.crc32, core.sha256, core.inflate, core.file_replace, core.elements.
**
**   crc32(bytes[, before]) -> integer
**   sha256(bytes), sha256_file(path) -> 64 hex digits | nil, message
**   inflate(bytes, size)   -> `size` bytes | nil, message     raw deflate
**   file_replace(file, bytes) -> true | nil, message          atomic, and on disk when it returns; also a list of strings and tensors (their elements,
**                                                             row-major), written one behind the other without a copy of the whole
**   elements(from, encoding, shape[, offset[, name]])         a tensor of elements as files hold them (nn_file.h has the encodings); from: a string of exactly
**     -> tensor | nil, message                                these bytes, or an open Lua file, in which they lie from `offset`; `name` is for messages
*/
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <stdio.h>

#include "nnL.h"
#include "nn_file.h"

static int crc32_of(lua_State *L) {
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  lua_pushinteger(L, nn_crc32((uint32_t)luaL_optinteger(L, 2, 0), bytes, n));
  return 1;
}

static int sha256_of(lua_State *L) {
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  char hex[65];
  nn_sha256(bytes, n, hex);
  lua_pushstring(L, hex);
  return 1;
}

static int give_message(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

static int sha256_of_file(lua_State *L) {
  char hex[65];
  if (nn_file_sha256(nnL_context(L), luaL_checkstring(L, 1), hex) != NN_OK) return give_message(L);
  lua_pushstring(L, hex);
  return 1;
}

static int inflate_bytes(lua_State *L) {
  size_t packed;
  const char *bytes = luaL_checklstring(L, 1, &packed);
  const lua_Integer size = luaL_checkinteger(L, 2);
  luaL_Buffer out;
  char *to;
  nn_status s;
  luaL_argcheck(L, size >= 0, 2, "a size");
  to = luaL_buffinitsize(L, &out, (size_t)size);
  s = nn_inflate(nnL_context(L), bytes, packed, to, (size_t)size);
  if (s != NN_OK) return give_message(L);
  luaL_pushresultsize(&out, (size_t)size);
  return 1;
}

/* The list at 2 is left alone meanwhile, so its strings and tensors stay. */
static int replace_parts(lua_State *L, const char *file) {
  const lua_Unsigned n = lua_rawlen(L, 2);
  nn_part *parts;
  luaL_argcheck(L, n < INT_MAX / sizeof *parts, 2, "too many parts");
  parts = lua_newuserdatauv(L, (size_t)n * sizeof *parts + 1, 0);
  for (lua_Unsigned i = 0; i < n; i++) {
    nn_tensor *t;
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    t = nnL_testtensor(L, -1);
    if (t) {
      parts[i].size = (size_t)nn_numel(t) * nn_dtype_size(nn_dtype_of(t));
      parts[i].data = nn_data(t);
      if (!parts[i].data) nnL_check(L, NN_EINTERNAL);
    } else {
      luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "a list of strings and tensors");
      parts[i].data = lua_tolstring(L, -1, &parts[i].size);
    }
    lua_pop(L, 1);
  }
  if (nn_file_replace_parts(nnL_context(L), file, parts, (int)n) != NN_OK) return give_message(L);
  lua_pushboolean(L, 1);
  return 1;
}

static int elements_of(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  const char *encoding = luaL_checkstring(L, 2);
  const lua_Integer offset = luaL_optinteger(L, 4, 0);
  const char *name = luaL_optstring(L, 5, "file");
  int64_t shape[NN_MAXDIM];
  int nd;
  nnL_box *b;
  lua_settop(L, 5);
  nnL_checktype(L, 3, LUA_TTABLE);
  nnL_shape(L, 3, &nd, shape);
  b = nnL_newbox(L);
  if (lua_type(L, 1) == LUA_TSTRING) {
    size_t n;
    const char *bytes = lua_tolstring(L, 1, &n);
    b->t = nn_elements_bytes(ctx, bytes, n, encoding, nd, shape);
  } else {
    const luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    luaL_argcheck(L, f->closef != NULL, 1, "an open file");
    b->t = nn_elements_file(ctx, fileno(f->f), name, offset, encoding, nd, shape);
  }
  if (b->t) b->t = nnL_place(b->t, nn_device(ctx));
  if (!b->t) return give_message(L);
  nnL_pace(L);
  return 1;
}

static int replace_file(lua_State *L) {
  const char *file = luaL_checkstring(L, 1);
  size_t n;
  const char *bytes;
  if (lua_istable(L, 2)) return replace_parts(L, file);
  bytes = luaL_checklstring(L, 2, &n);
  if (nn_file_replace(nnL_context(L), file, bytes, n) != NN_OK) return give_message(L);
  lua_pushboolean(L, 1);
  return 1;
}

void nnL_open_bytes(lua_State *L) {
  static const luaL_Reg functions[] = {{"crc32", crc32_of}, {"sha256", sha256_of}, {"sha256_file", sha256_of_file}, {"inflate", inflate_bytes},
                                       {"file_replace", replace_file}, {"elements", elements_of}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
