/* bindings/lua_sources.c - core.sources: columns, windows, lines, TFRecord files, CSV tables, names of files as raw functions; lua/nnlua/data/ makes
** them an API.
**
** A column is a tensor, or texts: a table {bytes, ends} of two tensors (nn_sources.h). Numbers of columns count from 1 here.
** What files can refuse when a data set is made gives nil and a message; while it is read, it raises.
*/
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <string.h>
#include "data.h"
#include "nn_sources.h"

static int give_nothing(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, nn_error(nnL_context(L)));
  return 2;
}

/* The strings of the list at arg, borrowed from it; their array is userdata, left on the stack. */
static const char **check_strings(lua_State *L, int arg, int *n) {
  luaL_checktype(L, arg, LUA_TTABLE);
  lua_Unsigned count = lua_rawlen(L, arg);
  luaL_argcheck(L, count < INT32_MAX / 16, arg, "too many");
  *n = (int)count;
  const char **list = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *list, 0);
  for (int i = 0; i < *n; i++) {
    size_t bytes;
    if (lua_rawgeti(L, arg, i + 1) != LUA_TSTRING) nnL_raise_named(L, "value %d is a %s, not a string", i + 1, luaL_typename(L, -1));
    list[i] = lua_tolstring(L, -1, &bytes);
    if (strlen(list[i]) != bytes) nnL_raise_named(L, "value %d holds a zero byte", i + 1);
    lua_pop(L, 1);
  }
  return list;
}

/* ---- columns -------------------------------------------------------------------------------------------------------------- */

/* columns{tensor | {bytes, ends}, ...} -> data set */
static int sources_columns(lua_State *L) {
  nn_column cols[NN_DATA_MAX] = {{0}};
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 1);
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "data set: %d columns; an element has 1 to %d", (int)n, NN_DATA_MAX);
  luaL_checkstack(L, 3 * NN_DATA_MAX + 4, NULL);
  for (int i = 0; i < (int)n; i++) { /* tensors stay on the stack until the data set has them */
    if (lua_rawgeti(L, 1, i + 1) == LUA_TTABLE) {
      lua_rawgeti(L, -1, 2);
      cols[i].ends = nnL_checktensor(L, -1);
      lua_rawgeti(L, -2, 1);
    }
    cols[i].data = nnL_checktensor(L, -1);
  }
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_columns(nnL_context(L), (int)n, cols));
}

/* windows(x, targets | nil, length, stride, rate, most | nil) -> data set */
static int sources_windows(lua_State *L) {
  nn_tensor *x = nnL_checktensor(L, 1), *targets = lua_isnil(L, 2) ? NULL : nnL_checktensor(L, 2);
  lua_Integer length = luaL_checkinteger(L, 3), stride = luaL_checkinteger(L, 4), rate = luaL_checkinteger(L, 5), most = luaL_optinteger(L, 6, -1);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_windows(nnL_context(L), x, targets, length, stride, rate, most));
}

/* texts(list of strings) -> {bytes, ends}; the inverse is strings */
static int sources_texts(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const int64_t n = (int64_t)lua_rawlen(L, 1), nends = n + 1;
  int64_t total = 0;
  for (int64_t i = 1; i <= n; i++) {
    if (lua_rawgeti(L, 1, i) != LUA_TSTRING) return nnL_raise_named(L, "value %d is a %s, not a string", (int)i, luaL_typename(L, -1));
    total += (int64_t)lua_rawlen(L, -1);
    lua_pop(L, 1);
  }
  if (total > INT32_MAX) return nnL_raise_named(L, "more than 2 GiB of texts");
  lua_createtable(L, 2, 0);
  nnL_box *bytes = nnL_newbox(L);
  bytes->t = nn_tensor_new(nnL_context(L), NN_U8, 1, &total, NULL);
  if (bytes->t == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  lua_rawseti(L, -2, 1);
  nnL_box *ends = nnL_newbox(L);
  ends->t = nn_tensor_new(nnL_context(L), NN_I32, 1, &nends, NULL);
  if (ends->t == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  lua_rawseti(L, -2, 2);
  char *to = (char *)(uintptr_t)nn_data(bytes->t); /* nobody else has them yet */
  int32_t *at = (int32_t *)(uintptr_t)nn_data(ends->t);
  if (to == NULL || at == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  for (int64_t i = 0; i < n; i++) {
    size_t k;
    lua_rawgeti(L, 1, i + 1);
    const char *s = lua_tolstring(L, -1, &k);
    memcpy(to + at[i], s, k);
    at[i + 1] = (int32_t)(at[i] + (int64_t)k);
    lua_pop(L, 1);
  }
  return 1;
}

/* strings(bytes, ends) -> list of strings */
static int sources_strings(lua_State *L) {
  nn_tensor *bytes = nnL_checktensor(L, 1), *ends = nnL_checktensor(L, 2);
  const char *p = nn_data(bytes);
  const int32_t *at = nn_data(ends);
  if (p == NULL || at == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  const int n = (int)(nn_shape(ends)[0] - 1);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushlstring(L, p + at[i], (size_t)(at[i + 1] - at[i]));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* text(u8 vector) -> string */
static int sources_text(lua_State *L) {
  nn_tensor *t = nnL_checktensor(L, 1);
  if (nn_dtype_of(t) != NN_U8 || nn_ndim(t) != 1) {
    char shape[256];
    nn_shape_text(t, shape, sizeof shape);
    return nnL_raise_named(L, "needs a vector of u8, got %s %s", nn_dtype_name(nn_dtype_of(t)), shape);
  }
  const void *p = nn_data(t);
  if (p == NULL) return nnL_raise(L, "%s", nn_error(nnL_context(L)));
  lua_pushlstring(L, p, (size_t)nn_shape(t)[0]);
  return 1;
}

/* ---- streams of records ----------------------------------------------------------------------------------------------------- */

typedef nn_dataset *(*records_fn)(nn_context *, int, const char *const *, int64_t);

static int give_records(lua_State *L, records_fn make) {
  int n;
  const char **files = check_strings(L, 1, &n);
  lua_Integer most = luaL_checkinteger(L, 2);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, make(nnL_context(L), n, files, most));
}
static int sources_lines(lua_State *L) { return give_records(L, nn_data_lines); }       /* lines(files, most) */
static int sources_tfrecord(lua_State *L) { return give_records(L, nn_data_tfrecord); } /* tfrecord(files, most) */

/* read_files(data set, component, most, workers[, transforms]) */
static int sources_read_files(lua_State *L) {
  nn_dataset *up = nnL_checkdataset(L, 1);
  lua_Integer which = luaL_checkinteger(L, 2), most = luaL_checkinteger(L, 3), workers = luaL_checkinteger(L, 4);
  const nn_vision *v = lua_isnoneornil(L, 5) ? NULL : nnL_checkvision(L, 5);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_read_files(nnL_context(L), up, (int)which - 1, most, v, (int)workers));
}

/* examples(data set, list of {name, dtype, shape (sizes; -1: varies), missing | nil}, workers) */
static int sources_examples(lua_State *L) {
  nn_feature f[NN_DATA_MAX] = {{0}};
  nn_dataset *up = nnL_checkdataset(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 2);
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "examples: %d features; an element has 1 to %d", (int)n, NN_DATA_MAX);
  luaL_checkstack(L, 6 * NN_DATA_MAX + 4, NULL);
  for (int i = 0; i < (int)n; i++) {
    lua_rawgeti(L, 2, i + 1);
    int at = lua_gettop(L);
    luaL_checktype(L, at, LUA_TTABLE);
    lua_rawgeti(L, at, 1);
    f[i].name = luaL_checkstring(L, -1);
    lua_rawgeti(L, at, 2);
    f[i].dtype = nnL_optdtype(L, lua_gettop(L), NN_F32);
    lua_rawgeti(L, at, 3);
    int sizes = lua_gettop(L);
    luaL_checktype(L, sizes, LUA_TTABLE);
    f[i].ndim = (int)lua_rawlen(L, sizes);
    if (f[i].ndim > NN_MAXDIM) return nnL_raise(L, "examples: feature %d has %d dims", i + 1, f[i].ndim);
    for (int k = 0; k < f[i].ndim; k++) {
      lua_rawgeti(L, sizes, k + 1);
      f[i].shape[k] = luaL_checkinteger(L, -1);
      lua_pop(L, 1);
    }
    lua_rawgeti(L, at, 4);
    f[i].optional = !lua_isnil(L, -1);
    f[i].missing = luaL_optnumber(L, -1, 0);
  }
  lua_Integer workers = luaL_checkinteger(L, 3);
  nnL_dataset *u = nnL_newdataset(L);
  return nnL_givedataset(L, u, nn_data_examples(nnL_context(L), up, (int)n, f, (int)workers));
}

/* ---- CSV ---------------------------------------------------------------------------------------------------------------------- */

#define CSV "nnlua.csv"

typedef struct csv_ud {
  nn_csv_table table;
} csv_ud;

static int csv_gc(lua_State *L) {
  nn_csv_table_free(nnL_context(L), &((csv_ud *)luaL_checkudata(L, 1, CSV))->table);
  return 0;
}

/* From arg: path, delimiter, header, list of missing texts. */
static nn_csv_form check_form(lua_State *L, int arg) {
  nn_csv_form form = {.path = luaL_checkstring(L, arg), .delimiter = *luaL_checkstring(L, arg + 1), .header = lua_toboolean(L, arg + 2)};
  form.missing = check_strings(L, arg + 3, &form.nmissing);
  return form;
}

/* csv_scan(path, delimiter, header, missing) -> table, rows, names | nil, kinds ("i64" "f32" "text"), missing cells; or nil and a message */
static int sources_csv_scan(lua_State *L) {
  static const char *const kinds[] = {"i64", "f32", "text"};
  nn_csv_form form = check_form(L, 1);
  csv_ud *u = lua_newuserdatauv(L, sizeof *u, 0);
  *u = (csv_ud){0};
  luaL_setmetatable(L, CSV);
  if (nn_csv_scan(nnL_context(L), &form, &u->table) != NN_OK) return give_nothing(L);
  lua_pushinteger(L, u->table.rows);
  lua_createtable(L, u->table.ncols, 0);
  lua_createtable(L, u->table.ncols, 0);
  lua_createtable(L, u->table.ncols, 0);
  for (int i = 0; i < u->table.ncols; i++) {
    const nn_csv_column *c = &u->table.cols[i];
    if (c->name != NULL) {
      lua_pushstring(L, c->name);
      lua_rawseti(L, -4, i + 1);
    }
    lua_pushstring(L, kinds[c->kind == NN_CSV_INTEGERS && c->missing > 0 ? NN_CSV_NUMBERS : c->kind]);
    lua_rawseti(L, -3, i + 1);
    lua_pushinteger(L, c->missing);
    lua_rawseti(L, -2, i + 1);
  }
  return 5;
}

/* The part in the table on top of the stack: {columns = {1, 2}, scalar =, text =, dtype =, fill =}. Leaves the list of columns. */
static void check_part(lua_State *L, nn_csv_part *part) {
  int at = lua_gettop(L);
  lua_getfield(L, at, "columns");
  part->ncols = (int)lua_rawlen(L, -1);
  int *cols = lua_newuserdatauv(L, (size_t)(part->ncols + 1) * sizeof *cols, 0);
  for (int i = 0; i < part->ncols; i++) {
    lua_rawgeti(L, -2, i + 1);
    cols[i] = (int)luaL_checkinteger(L, -1) - 1;
    lua_pop(L, 1);
  }
  part->cols = cols;
  lua_getfield(L, at, "scalar");
  part->scalar = lua_toboolean(L, -1);
  lua_getfield(L, at, "text");
  part->text = lua_toboolean(L, -1);
  lua_getfield(L, at, "fill");
  part->fill = luaL_checknumber(L, -1);
  lua_getfield(L, at, "dtype");
  part->dtype = nnL_optdtype(L, lua_gettop(L), NN_F32);
}

/* csv_read(table, path, delimiter, header, missing, parts) -> list of columns; or nil and a message */
static int sources_csv_read(lua_State *L) {
  nn_csv_part parts[NN_DATA_MAX] = {{0}};
  nn_column out[NN_DATA_MAX] = {{0}};
  nnL_box *boxes[NN_DATA_MAX][2] = {{0}};
  csv_ud *u = luaL_checkudata(L, 1, CSV);
  nn_csv_form form = check_form(L, 2);
  luaL_checktype(L, 6, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 6);
  if (n < 1 || n > NN_DATA_MAX) return nnL_raise(L, "csv: %d components; an element has 1 to %d", (int)n, NN_DATA_MAX);
  luaL_checkstack(L, 8 * NN_DATA_MAX + 4, NULL);
  for (int i = 0; i < (int)n; i++) {
    lua_rawgeti(L, 6, i + 1);
    check_part(L, &parts[i]);
  }
  lua_createtable(L, (int)n, 0);
  for (int i = 0; i < (int)n; i++) {
    if (parts[i].text) lua_createtable(L, 2, 0);
    boxes[i][0] = nnL_newbox(L);
    if (parts[i].text) {
      lua_rawseti(L, -2, 1);
      boxes[i][1] = nnL_newbox(L);
      lua_rawseti(L, -2, 2);
    }
    lua_rawseti(L, -2, i + 1);
  }
  if (nn_csv_read(nnL_context(L), &form, &u->table, (int)n, parts, out) != NN_OK) return give_nothing(L);
  for (int i = 0; i < (int)n; i++) {
    boxes[i][0]->t = out[i].data;
    if (parts[i].text) boxes[i][1]->t = out[i].ends;
  }
  nnL_pace(L);
  return 1;
}

/* ---- files ---------------------------------------------------------------------------------------------------------------------- */

typedef struct glob_ud {
  glob_t g;
  DIR *dir;
} glob_ud;

static int glob_gc(lua_State *L) {
  glob_ud *u = lua_touserdata(L, 1);
  globfree(&u->g);
  if (u->dir != NULL) closedir(u->dir);
  u->dir = NULL;
  return 0;
}

/* What frees itself when the list is made, or when making it raised. */
static glob_ud *new_glob(lua_State *L) {
  glob_ud *u = lua_newuserdatauv(L, sizeof *u, 0);
  memset(u, 0, sizeof *u);
  if (luaL_newmetatable(L, "nnlua.glob")) {
    lua_pushcfunction(L, glob_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return u;
}

/* glob(pattern) -> list of paths, sorted by their bytes; or nil and a message */
static int sources_glob(lua_State *L) {
  const char *pattern = luaL_checkstring(L, 1);
  glob_ud *u = new_glob(L);
  int rc = glob(pattern, GLOB_NOSORT, NULL, &u->g);
  if (rc != 0 && rc != GLOB_NOMATCH) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: cannot be listed", pattern);
    return 2;
  }
  lua_createtable(L, (int)u->g.gl_pathc, 0);
  for (size_t i = 0; rc == 0 && i < u->g.gl_pathc; i++) {
    lua_pushstring(L, u->g.gl_pathv[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* folder(path) -> list of the names in it without "." and ".."; or nil and a message */
static int sources_folder(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  glob_ud *u = new_glob(L);
  u->dir = opendir(path);
  if (u->dir == NULL) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, strerror(errno));
    return 2;
  }
  lua_newtable(L);
  lua_Integer n = 0;
  for (struct dirent *e; (e = readdir(u->dir)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    lua_pushstring(L, e->d_name);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

void nnL_open_sources(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"columns", sources_columns},   {"windows", sources_windows},       {"texts", sources_texts},       {"strings", sources_strings},
    {"text", sources_text},         {"lines", sources_lines},           {"tfrecord", sources_tfrecord}, {"read_files", sources_read_files},
    {"examples", sources_examples}, {"csv_scan", sources_csv_scan},     {"csv_read", sources_csv_read}, {"glob", sources_glob},
    {"folder", sources_folder},     {NULL, NULL},
  };
  if (luaL_newmetatable(L, CSV)) {
    lua_pushcfunction(L, csv_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "sources");
}
