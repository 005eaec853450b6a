/* bindings/lua_json.c - JSON: core.json_encode, core.json_decode, core.json_null, core.json_array.
**
** Integers stay integers (64 bit) and floats stay floats (the shortest text that reads back the same). Objects are written with sorted keys,
** so that equal tables give equal texts. A list is a table with keys 1..n; an empty table is {}, or [] when its metatable is core.json_array,
** which decoding gives to empty lists. null is core.json_null. Nesting is limited to 64, on both sides; duplicate keys are refused.
** Encoding raises errors, since only a program can be wrong; decoding returns nil and a message.
*/
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nnL.h"

#define MAX_DEPTH 64
#define ARRAY_MT "nnlua.json_array"
#define HOLDER_MT "nnlua.json"

/* ---- encoding ------------------------------------------------------------------------------------------------------------ */
/* The text grows in a userdata at stack index `box`, so that an error anywhere leaks nothing. */
typedef struct writer {
  lua_State *L;
  int box, indent; /* indent < 0: all on one line */
  char *p;
  size_t n, cap;
} writer;

static void put_bytes(writer *w, const char *s, size_t n) {
  if (w->cap - w->n < n) {
    const size_t cap = 2 * w->cap + n;
    char *p = lua_newuserdatauv(w->L, cap, 0);
    memcpy(p, w->p, w->n);
    lua_replace(w->L, w->box);
    w->p = p;
    w->cap = cap;
  }
  memcpy(w->p + w->n, s, n);
  w->n += n;
}

static void put(writer *w, const char *s) { put_bytes(w, s, strlen(s)); }

static void put_line(writer *w, int depth) {
  int i;
  if (w->indent < 0) return;
  put(w, "\n");
  for (i = 0; i < depth * w->indent; i++) put(w, " ");
}

static void put_text(writer *w, const char *s, size_t n) {
  static const char hex[] = "0123456789abcdef";
  json_t *valid = json_stringn(s, n); /* refuses what is not UTF-8 */
  size_t i;
  if (!valid) {
    nnL_raise(w->L, "json_encode: a text of %d bytes is not UTF-8", (int)n);
    return;
  }
  json_decref(valid);
  put(w, "\"");
  for (i = 0; i < n; i++) {
    const unsigned char c = (unsigned char)s[i];
    if (c == '"' || c == '\\') put_bytes(w, (char[]){'\\', (char)c}, 2);
    else if (c == '\n') put(w, "\\n");
    else if (c == '\t') put(w, "\\t");
    else if (c < 32 || c == 127) put_bytes(w, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    else put_bytes(w, s + i, 1);
  }
  put(w, "\"");
}

static void put_float(writer *w, double v) {
  char text[40], *comma;
  int digits;
  if (!isfinite(v)) nnL_raise(w->L, "json_encode: JSON has no %s", isnan(v) ? "nan" : "inf");
  for (digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  if ((comma = strchr(text, ','))) *comma = '.'; /* a locale of the user's */
  put(w, text);
  if (!strpbrk(text, ".e")) put(w, ".0");
}

static void put_value(writer *w, int idx, int depth);

static void put_list(writer *w, int idx, lua_Integer n, int depth) {
  lua_Integer i;
  put(w, "[");
  for (i = 1; i <= n; i++) {
    if (i > 1) put(w, ",");
    put_line(w, depth + 1);
    lua_rawgeti(w->L, idx, i);
    put_value(w, lua_gettop(w->L), depth + 1);
    lua_pop(w->L, 1);
  }
  if (n > 0) put_line(w, depth);
  put(w, "]");
}

typedef struct key {
  const char *s;
  size_t n;
} key;

static int compare_keys(const void *a, const void *b) {
  const key *x = a, *y = b;
  const int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
  return c ? c : (x->n > y->n) - (x->n < y->n);
}

static void put_object(writer *w, int idx, lua_Integer n, int depth) {
  key *keys = lua_newuserdatauv(w->L, (size_t)n * sizeof *keys + 1, 0);
  lua_Integer i = 0;
  lua_pushnil(w->L);
  while (lua_next(w->L, idx)) {
    keys[i].s = lua_tolstring(w->L, -2, &keys[i].n); /* a string already, anchored by the table */
    i++;
    lua_pop(w->L, 1);
  }
  qsort(keys, (size_t)n, sizeof *keys, compare_keys);
  put(w, "{");
  for (i = 0; i < n; i++) {
    if (i > 0) put(w, ",");
    put_line(w, depth + 1);
    put_text(w, keys[i].s, keys[i].n);
    put(w, w->indent < 0 ? ":" : ": ");
    lua_pushlstring(w->L, keys[i].s, keys[i].n);
    lua_rawget(w->L, idx);
    put_value(w, lua_gettop(w->L), depth + 1);
    lua_pop(w->L, 1);
  }
  if (n > 0) put_line(w, depth);
  put(w, "}");
  lua_pop(w->L, 1);
}

static bool has_array_mark(lua_State *L, int idx) {
  bool same;
  if (!lua_getmetatable(L, idx)) return false;
  luaL_getmetatable(L, ARRAY_MT);
  same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

static void put_table(writer *w, int idx, int depth) {
  lua_State *L = w->L;
  lua_Integer n = 0, ints = 0, strings = 0;
  const lua_Integer len = (lua_Integer)lua_rawlen(L, idx);
  if (depth >= MAX_DEPTH) nnL_raise(L, "json_encode: nested deeper than %d (or a table that holds itself)", MAX_DEPTH);
  luaL_checkstack(L, 8, "json_encode");
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1), n++) {
    if (lua_type(L, -2) == LUA_TSTRING) strings++;
    else if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= len) ints++;
  }
  if (n > 0 && ints == n && len == n) put_list(w, idx, n, depth);
  else if (n == 0 && has_array_mark(L, idx)) put(w, "[]");
  else if (strings == n && !has_array_mark(L, idx)) put_object(w, idx, n, depth);
  else nnL_raise(L, "json_encode: a table must be a list 1..n without holes, or have only text keys");
}

static void put_value(writer *w, int idx, int depth) {
  lua_State *L = w->L;
  size_t n;
  const char *s;
  switch (lua_type(L, idx)) {
  case LUA_TSTRING:
    s = lua_tolstring(L, idx, &n);
    put_text(w, s, n);
    return;
  case LUA_TNUMBER:
    if (lua_isinteger(L, idx)) {
      char text[32];
      snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(L, idx));
      put(w, text);
    } else put_float(w, lua_tonumber(L, idx));
    return;
  case LUA_TBOOLEAN: put(w, lua_toboolean(L, idx) ? "true" : "false"); return;
  case LUA_TTABLE: put_table(w, idx, depth); return;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, idx) == NULL) {
      put(w, "null");
      return;
    }
    break;
  default: break;
  }
  nnL_raise(L, "json_encode: JSON has no %s", luaL_typename(L, idx));
}

/* json_encode(value [, { indent = n }]) -> text */
static int json_encode(lua_State *L) {
  writer w = {.L = L, .indent = -1, .cap = 256};
  luaL_checkany(L, 1);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "indent");
    w.indent = (int)luaL_optinteger(L, -1, -1);
    if (w.indent > 16) w.indent = 16;
  }
  lua_settop(L, 1);
  w.p = lua_newuserdatauv(L, w.cap, 0);
  w.box = 2;
  put_value(&w, 1, 0);
  lua_pushlstring(L, w.p, w.n);
  return 1;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------------ */
static int free_holder(lua_State *L) {
  json_t **holder = luaL_checkudata(L, 1, HOLDER_MT);
  json_decref(*holder);
  *holder = NULL;
  return 0;
}

static bool push_value(lua_State *L, const json_t *v, int depth);

static bool push_list(lua_State *L, const json_t *v, int depth) {
  const size_t n = json_array_size(v);
  size_t i;
  lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
  if (n == 0) luaL_setmetatable(L, ARRAY_MT);
  for (i = 0; i < n; i++) {
    if (!push_value(L, json_array_get(v, i), depth + 1)) return false;
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return true;
}

static bool push_object(lua_State *L, const json_t *v, int depth) {
  void *it;
  lua_newtable(L);
  for (it = json_object_iter((json_t *)(uintptr_t)v); it; it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
    lua_pushstring(L, json_object_iter_key(it));
    if (!push_value(L, json_object_iter_value(it), depth + 1)) return false;
    lua_rawset(L, -3);
  }
  return true;
}

/* False: nested too deep. */
static bool push_value(lua_State *L, const json_t *v, int depth) {
  luaL_checkstack(L, 6, "json_decode");
  switch (json_typeof(v)) {
  case JSON_OBJECT: return depth < MAX_DEPTH && push_object(L, v, depth);
  case JSON_ARRAY: return depth < MAX_DEPTH && push_list(L, v, depth);
  case JSON_STRING: lua_pushlstring(L, json_string_value(v), json_string_length(v)); break;
  case JSON_INTEGER: lua_pushinteger(L, (lua_Integer)json_integer_value(v)); break;
  case JSON_REAL: lua_pushnumber(L, json_real_value(v)); break;
  case JSON_TRUE: lua_pushboolean(L, 1); break;
  case JSON_FALSE: lua_pushboolean(L, 0); break;
  case JSON_NULL: lua_pushlightuserdata(L, NULL); break;
  }
  return true;
}

/* json_decode(text) -> value | nil, message */
static int json_decode(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  json_error_t why;
  json_t **holder = lua_newuserdatauv(L, sizeof *holder, 0);
  *holder = NULL;
  luaL_setmetatable(L, HOLDER_MT);
  lua_toclose(L, -1);
  *holder = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
  if (!*holder) {
    for (char *c = why.text; *c; c++) /* a piece of the text may be in it */
      if ((unsigned char)*c < 32 || *c == 127) *c = ' ';
    lua_pushnil(L);
    lua_pushfstring(L, "JSON: line %d, column %d: %s", why.line, why.column, why.text);
    return 2;
  }
  if (push_value(L, *holder, 0)) return 1;
  lua_pushnil(L);
  lua_pushfstring(L, "JSON: nested deeper than %d", MAX_DEPTH);
  return 2;
}

void nnL_open_json(lua_State *L) {
  static const luaL_Reg functions[] = {{"json_encode", json_encode}, {"json_decode", json_decode}, {NULL, NULL}};
  if (luaL_newmetatable(L, HOLDER_MT)) {
    lua_pushcfunction(L, free_holder);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, free_holder);
    lua_setfield(L, -2, "__close");
  }
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
  luaL_newmetatable(L, ARRAY_MT);
  lua_setfield(L, -2, "json_array");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "json_null");
}
