/* bindings/lua_load.c - the one way in for Lua source.
**
** Owns: every compilation of Lua code in the nnlua program. Invariant: all source goes through `load_source` below, which passes the mode "t", so
** bytecode, which can crash Lua when it is malformed, is refused everywhere and no argument turns that off. The only other call of lua_load is
** in nnL_copyfunction, which carries a live function of this process from one Lua state to another and takes no bytes from anywhere else.
** Used by main.c (scripts, -e, -l, -, LUA_INIT), lua_sys.c, and through nnL_textonly by load, loadfile, dofile and require.
*/
#include "prog.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_source(lua_State *L, lua_Reader reader, void *data, const char *chunkname) {
  return lua_load(L, reader, data, chunkname, "t");
}

/* ---- from memory ---- */
typedef struct text_source { const char *s; size_t n; } text_source;

static const char *read_text(lua_State *L, void *data, size_t *n) {
  text_source *src = data;
  (void)L;
  *n = src->n;
  src->n = 0; /* the next call is the end */
  return *n ? src->s : NULL;
}

int nnL_loadtext(lua_State *L, const char *s, size_t n, const char *chunkname) {
  text_source src = {s, n};
  return load_source(L, read_text, &src, chunkname);
}

/* ---- from another Lua state of this process ---- */
typedef struct dumped { char *p; size_t n, cap; } dumped;

static int collect_dump(lua_State *L, const void *p, size_t n, void *ud) {
  dumped *d = ud;
  (void)L;
  if (d->cap - d->n < n) {
    size_t cap = 2 * (d->cap + n);
    char *grown = realloc(d->p, cap);
    if (grown == NULL) return 1;
    d->p = grown;
    d->cap = cap;
  }
  memcpy(d->p + d->n, p, n);
  d->n += n;
  return 0;
}

int nnL_copyfunction(lua_State *from, lua_State *to) {
  dumped d = {NULL, 0, 0};
  int rc = lua_dump(from, collect_dump, &d, 0) != 0 ? LUA_ERRMEM : LUA_OK;
  if (rc == LUA_OK) rc = lua_load(to, read_text, &(text_source){d.p, d.n}, "function", "b"); /* protected, so d.p is freed in any case */
  free(d.p);
  return rc;
}

/* ---- from a file ---- */
typedef struct file_source {
  FILE *f;
  int ahead[4]; /* characters to hand out before the file's: a '\n' for a '#' line, the first bytes when they are no byte order mark */
  int nahead;
  char buf[BUFSIZ];
} file_source;

static const char *read_file(lua_State *L, void *data, size_t *n) {
  file_source *src = data;
  (void)L;
  if (src->nahead) {
    *n = (size_t)src->nahead;
    for (int i = 0; i < src->nahead; i++) src->buf[i] = (char)src->ahead[i];
    src->nahead = 0;
    return src->buf;
  }
  if (feof(src->f)) return NULL; /* a terminal would be asked again otherwise */
  *n = fread(src->buf, 1, sizeof src->buf, src->f);
  return *n ? src->buf : NULL;
}

/* Leave out a byte order mark and a first line that begins with '#' (its end stays, so that lines keep their numbers). */
static void skip_head(file_source *src) {
  static const unsigned char bom[3] = {0xEF, 0xBB, 0xBF};
  int c = getc(src->f);
  for (int i = 0; i < 3 && c == bom[i]; i++) {
    src->ahead[src->nahead++] = c;
    c = getc(src->f);
  }
  if (src->nahead == 3) src->nahead = 0;
  if (src->nahead == 0 && c == '#') {
    do c = getc(src->f);
    while (c != EOF && c != '\n');
  }
  if (c != EOF) src->ahead[src->nahead++] = c;
}

static int file_error(lua_State *L, const char *what, const char *path, int err) {
  lua_pushfstring(L, "cannot %s %s: %s", what, path ? path : "standard input", strerror(err));
  return LUA_ERRFILE;
}

int nnL_loadfile(lua_State *L, const char *path) {
  file_source src = {.f = path ? fopen(path, "rb") : stdin};
  if (!src.f) return file_error(L, "open", path, errno);
  if (path) lua_pushfstring(L, "@%s", path);
  else lua_pushliteral(L, "=stdin");
  errno = 0;
  skip_head(&src);
  int status = load_source(L, read_file, &src, lua_tostring(L, -1));
  int bad = ferror(src.f), err = errno;
  if (path) fclose(src.f);
  lua_remove(L, -2); /* chunk name */
  if (bad) {
    lua_pop(L, 1);
    return file_error(L, "read", path, err);
  }
  return status;
}

/* ---- from a function that returns pieces (load with a function) ---- */
static const char *read_pieces(lua_State *L, void *data, size_t *n) {
  int reader = *(int *)data, keep = reader + 1; /* `keep` anchors the piece while it is read */
  luaL_checkstack(L, 2, "too many nested functions");
  lua_pushvalue(L, reader);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    *n = 0;
    return NULL;
  }
  if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "reader function must return a string");
  lua_replace(L, keep);
  return lua_tolstring(L, keep, n);
}

/* ---- load, loadfile, dofile, require ---- */
/* A mode that leaves text out finds nothing it may load; "b" never means that bytecode is allowed. */
static bool refuse_mode(lua_State *L, int arg) {
  const char *mode = luaL_optstring(L, arg, "t");
  if (strchr(mode, 't')) return false;
  lua_pushnil(L);
  lua_pushfstring(L, "only text can be loaded, never bytecode (mode is '%s')", mode);
  return true;
}

/* The results of load and loadfile; env is the index of the environment, 0 for none. */
static int finish_load(lua_State *L, int status, int env) {
  if (status != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (env) {
    lua_pushvalue(L, env);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  }
  return 1;
}

static int do_load(lua_State *L) {
  int env = lua_isnone(L, 4) ? 0 : 4, status;
  size_t n;
  const char *s = lua_tolstring(L, 1, &n);
  if (refuse_mode(L, 3)) return 2;
  if (s) {
    status = nnL_loadtext(L, s, n, luaL_optstring(L, 2, s));
  } else {
    const char *name = luaL_optstring(L, 2, "=(load)");
    int reader = 1;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    /* the reader and its piece go below everything else: 1 reader, 2 piece, 3 name, 4 env */
    lua_settop(L, 4);
    lua_pushstring(L, name);
    lua_replace(L, 3);
    status = load_source(L, read_pieces, &reader, lua_tostring(L, 3));
  }
  return finish_load(L, status, env);
}

static int do_loadfile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  int env = lua_isnone(L, 3) ? 0 : 3;
  if (refuse_mode(L, 2)) return 2;
  return finish_load(L, nnL_loadfile(L, path), env);
}

static int dofile_results(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return lua_gettop(L) - 1;
}

static int do_dofile(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  lua_settop(L, 1);
  if (nnL_loadfile(L, path) != LUA_OK) return lua_error(L);
  lua_callk(L, 0, LUA_MULTRET, 0, dofile_results);
  return dofile_results(L, LUA_OK, 0);
}

/* package.searchers[2]: upvalue 1 is `package`. */
static int search_module(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_getfield(L, lua_upvalueindex(1), "searchpath");
  lua_pushvalue(L, 1);
  if (lua_getfield(L, lua_upvalueindex(1), "path") != LUA_TSTRING) return luaL_error(L, "'package.path' must be a string");
  lua_call(L, 2, 2);
  if (lua_isnil(L, -2)) return 1; /* the list of places that were tried */
  lua_pop(L, 1);
  const char *path = lua_tostring(L, -1);
  if (nnL_loadfile(L, path) != LUA_OK) {
    return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path, lua_tostring(L, -1));
  }
  lua_insert(L, -2);
  return 2; /* the chunk, and the path as its second argument */
}

void nnL_textonly(lua_State *L) {
  static const luaL_Reg base[] = {{"load", do_load}, {"loadfile", do_loadfile}, {"dofile", do_dofile}, {NULL, NULL}};
  lua_pushglobaltable(L);
  luaL_setfuncs(L, base, 0);
  lua_getfield(L, -1, LUA_LOADLIBNAME); /* package */
  lua_getfield(L, -1, "searchers");
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, search_module, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 3);
}
