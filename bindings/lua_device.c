/* bindings/lua_device.c - devices: listing them, choosing where tensors are made, moving tensors, memory per device.
**
** Devices have names in Lua ("cpu", "vulkan", "vulkan:2"); numbers stay in C. A device that is not there is the outside world's doing: nil and a message.
*/
#include <string.h>
#include "nnL.h"

/* devices() -> list of {name=, title=, kind=, driver=, memory=, subgroup=, features=} */
static int devices(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  int n = nn_device_count(ctx);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    nn_device_info d;
    nnL_check(L, nn_device_describe(ctx, i, &d));
    lua_createtable(L, 0, 7);
    lua_pushstring(L, d.name), lua_setfield(L, -2, "name");
    lua_pushstring(L, d.title), lua_setfield(L, -2, "title");
    lua_pushstring(L, d.kind), lua_setfield(L, -2, "kind");
    lua_pushstring(L, d.driver), lua_setfield(L, -2, "driver");
    lua_pushinteger(L, (lua_Integer)d.memory), lua_setfield(L, -2, "memory");
    lua_pushinteger(L, (lua_Integer)d.subgroup), lua_setfield(L, -2, "subgroup");
    lua_pushstring(L, d.features), lua_setfield(L, -2, "features");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int nothing(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

/* device_properties(name) -> lines "name: value" of what a Vulkan driver says of a device, its lists of cooperative matrices too; nil and a message without one */
static int device_properties(lua_State *L) {
  static const size_t room = 64 * 1024;
  nn_context *ctx = nnL_context(L);
  luaL_Buffer b;
  int i;
  if (nn_device_find(ctx, luaL_checkstring(L, 1), &i) != NN_OK) return nothing(L);
  char *at = luaL_buffinitsize(L, &b, room);
  if (nn_device_properties(ctx, i, at, room) != NN_OK) return nothing(L);
  luaL_pushresultsize(&b, strlen(at));
  return 1;
}

/* device() -> name of the current one; device(name) makes it current -> name, or nil and a message */
static int device(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  int i = nn_device(ctx);
  if (!lua_isnoneornil(L, 1)) {
    const char *name = luaL_checkstring(L, 1);
    if (nn_device_find(ctx, name, &i) != NN_OK || nn_set_device(ctx, i) != NN_OK) return nothing(L);
  }
  lua_pushstring(L, nn_device_name(ctx, i));
  return 1;
}

static int device_of(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  lua_pushstring(L, nn_device_name(nnL_context(L), nn_device_of(t)));
  return 1;
}

bool nnL_to_device(lua_State *L, const char *name) {
  nn_context *ctx = nnL_context(L);
  nn_tensor *t = nnL_checktensor(L, 1);
  int i;
  if (strcmp(name, "cpu") != 0 && strncmp(name, "vulkan", 6) != 0) return false;
  nnL_check(L, nn_device_find(ctx, name, &i));
  lua_settop(L, 1);
  if (i == nn_device_of(t)) return true;
  nnL_box *b = nnL_newbox(L);
  nnL_fill(L, b, nn_to_device(t, i));
  return true;
}

nn_tensor *nnL_place(nn_tensor *t, int device) {
  if (!t || nn_device_of(t) == device) return t;
  nn_tensor *moved = nn_to_device(t, device);
  nn_release(t);
  return moved;
}

/* move(x, device): x's handle names the values there from now on; a variable stays one and its gradient comes along. For what Module:to moves. */
static int move(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nnL_box *b = nnL_checkbox(L, 1);
  int i;
  nnL_check(L, nn_device_find(ctx, luaL_checkstring(L, 2), &i));
  if (i == nn_device_of(b->t)) return 0;
  nn_tensor *grad = nn_grad_of(b->t), *plain = nn_detach(b->t), *moved = plain ? nn_to_device(plain, i) : NULL;
  nn_tensor *leaf = moved && nn_requires_grad(b->t) ? nn_variable(moved) : nn_retain(moved);
  nn_tensor *moved_grad = leaf && grad ? nn_to_device(grad, i) : NULL;
  nn_release(plain);
  nn_release(moved);
  if (!leaf || (grad && !moved_grad)) {
    nn_release(leaf);
    nnL_check(L, NN_EINTERNAL);
  }
  nn_set_grad(leaf, moved_grad);
  nn_release(moved_grad);
  nn_release(b->t);
  b->t = leaf;
  return 0;
}

static int here_close(lua_State *L) {
  nn_set_device(nnL_context(L), *(int *)luaL_checkudata(L, 1, "nnlua.here"));
  return 0;
}

/* here(x): `local _ <close> = here(x)`: until the block ends tensors are made where x lies. nil when they are anyway. For library functions that make
** tensors beside those they are given. */
static int here(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  const int now = nn_device(ctx), there = nn_device_of(nnL_checktensor(L, 1));
  if (now == there) return 0;
  *(int *)lua_newuserdatauv(L, sizeof(int), 0) = now;
  luaL_setmetatable(L, "nnlua.here");
  nn_set_device(ctx, there);
  return 1;
}

/* memory([device]) -> bytes {live=, cached=, peak=, allocated=}: of all devices together, or of one */
static int memory(lua_State *L) {
  nn_context *ctx = nnL_context(L);
  nn_memory_info m;
  if (lua_isnoneornil(L, 1)) m = nn_memory(ctx);
  else {
    int i;
    nnL_check(L, nn_device_find(ctx, luaL_checkstring(L, 1), &i));
    nnL_check(L, nn_device_memory(ctx, i, &m));
  }
  lua_createtable(L, 0, 4);
  nnL_count(L, "live", m.live);
  nnL_count(L, "cached", m.cached);
  nnL_count(L, "peak", m.peak);
  nnL_count(L, "allocated", m.allocated);
  return 1;
}

/* kernels_without_vulkan() -> names of the kernels that only the CPU has */
static int kernels_without_vulkan(lua_State *L) {
  const char *name;
  lua_newtable(L);
  for (int i = 0; (name = nn_kernel_without_vulkan(i)) != NULL; i++) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* finish(): run what is pending and wait for every device (what a stopwatch needs) */
static int finish(lua_State *L) {
  nnL_check(L, nn_finish(nnL_context(L)));
  return 0;
}

void nnL_open_device(lua_State *L) {
  static const luaL_Reg functions[] = {{"devices", devices}, {"device", device}, {"device_properties", device_properties}, {"memory", memory},
                                       {"move", move}, {"here", here}, {"finish", finish}, {"kernels_without_vulkan", kernels_without_vulkan}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  luaL_newmetatable(L, "nnlua.here");
  lua_pushcfunction(L, here_close);
  lua_setfield(L, -2, "__close");
  lua_pop(L, 1);
  lua_getfield(L, -1, "tensor_metatable");
  lua_getfield(L, -1, "methods");
  lua_pushcfunction(L, device_of);
  lua_setfield(L, -2, "device");
  lua_pop(L, 2);
}
