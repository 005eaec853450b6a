/* bindings/lua_bytes.c - bytes in Lua strings: core.crc32, core.sha256, core.inflate, core.file_replace.
**
**   crc32(bytes[, before]) -> integer
**   sha256(bytes), sha256_file(path) -> 64 hex digits | nil, message
**   inflate(bytes, size)   -> `size` bytes | nil, message     raw deflate
**   file_replace(file, bytes) -> true | nil, message          atomic, and on disk when it returns
*/
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

static int replace_file(lua_State *L) {
  const char *file = luaL_checkstring(L, 1);
  size_t n;
  const char *bytes = luaL_checklstring(L, 2, &n);
  if (nn_file_replace(nnL_context(L), file, bytes, n) != NN_OK) return give_message(L);
  lua_pushboolean(L, 1);
  return 1;
}

void nnL_open_bytes(lua_State *L) {
  static const luaL_Reg functions[] = {{"crc32", crc32_of}, {"sha256", sha256_of}, {"sha256_file", sha256_of_file},
                                       {"inflate", inflate_bytes}, {"file_replace", replace_file}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
