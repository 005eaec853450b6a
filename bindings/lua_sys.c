/* bindings/lua_sys.c - core.sys: the little that the library needs from the system and Lua's own libraries lack.
**
** Owns no state. What the outside world can refuse returns nil and a message; wrong arguments raise. Used by lua/nnlua.
*/
#define _GNU_SOURCE /* secure_getenv */
#include "prog.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "nnlua.folder"

static int fail(lua_State *L, const char *what, const char *path, int err) {
  lua_pushnil(L);
  lua_pushfstring(L, "cannot %s %s: %s", what, path, strerror(err));
  lua_pushinteger(L, err);
  return 3;
}

/* ---- time ---- */
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* clock() -> seconds since some fixed moment; only moves forward */
static int sys_clock(lua_State *L) {
  lua_pushnumber(L, now());
  return 1;
}

/* sleep(seconds) -> true; false when a signal cut it short (after Ctrl-C the program stops at its next instruction) */
static int sys_sleep(lua_State *L) {
  double end = now() + luaL_checknumber(L, 1), left;
  while (!nnL_interrupted(NULL) && (left = end - now()) > 0) {
    int ms = left > 0.1 ? 100 : (int)(left * 1000) + 1; /* a signal may land just before poll; then it is seen 0.1 s later */
    if (poll(NULL, 0, ms) < 0) break; /* in a stock lua the host's handler took the signal */
  }
  lua_pushboolean(L, now() >= end);
  return 1;
}

/* ---- terminal ---- */
/* isatty([fd = 1]) -> boolean */
static int sys_isatty(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_optinteger(L, 1, STDOUT_FILENO)));
  return 1;
}

/* terminal_width([fd = 1]) -> columns; $COLUMNS or 80 where there is no terminal */
static int sys_terminal_width(lua_State *L) {
  struct winsize w;
  if (ioctl((int)luaL_optinteger(L, 1, STDOUT_FILENO), TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
    lua_pushinteger(L, w.ws_col);
    return 1;
  }
  const char *columns = getenv("COLUMNS");
  long n = columns ? strtol(columns, NULL, 10) : 0;
  lua_pushinteger(L, n >= 20 && n <= 1000 ? n : 80);
  return 1;
}

/* ---- process ---- */
/* getpid() -> integer */
static int sys_getpid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

/* exe_path() -> full path of the running program, or nil */
static int sys_exe_path(lua_State *L) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0 || n == sizeof path) lua_pushnil(L);
  else lua_pushlstring(L, path, (size_t)n);
  return 1;
}

/* resident_memory() -> bytes of this process in memory now, or nil where the system does not say */
static int sys_resident_memory(lua_State *L) {
  long long total, resident;
  FILE *f = fopen("/proc/self/statm", "r");
  int got = f ? fscanf(f, "%lld %lld", &total, &resident) : 0;
  if (f) fclose(f);
  if (got == 2) lua_pushinteger(L, (lua_Integer)resident * sysconf(_SC_PAGESIZE));
  else lua_pushnil(L);
  return 1;
}

/* interrupted() -> boolean: was Ctrl-C pressed and not yet dealt with? */
static int sys_interrupted(lua_State *L) {
  lua_pushboolean(L, nnL_interrupted(NULL));
  return 1;
}

/* clear_interrupt() -> whether Ctrl-C was pending; lets code that must finish (saving on the way out) run. Re-raise the error afterwards. */
static int sys_clear_interrupt(lua_State *L) {
  lua_pushboolean(L, nnL_interrupt_clear(L));
  return 1;
}

/* hold_interrupt(on): while on, Lua code is not stopped by a first Ctrl-C (a run of kernels is); what must not be cut in two goes between two calls */
static int sys_hold_interrupt(lua_State *L) {
  nnL_interrupt_hold(L, lua_toboolean(L, 1));
  return 0;
}

/* forget_interrupt(): the REPL is back at its prompt; presses count from zero again */
static int sys_forget_interrupt(lua_State *L) {
  nnL_interrupt_forget(L);
  return 0;
}

/* ---- files ---- */
/* file_type(path) -> "file", "folder" or "other"; nil when there is nothing */
static int sys_file_type(lua_State *L) {
  struct stat st;
  if (stat(luaL_checkstring(L, 1), &st) != 0) lua_pushnil(L);
  else lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "folder" : "other");
  return 1;
}

/* file_exists(path) -> boolean */
static int sys_file_exists(lua_State *L) {
  struct stat st;
  lua_pushboolean(L, stat(luaL_checkstring(L, 1), &st) == 0);
  return 1;
}

/* file_size(path) -> bytes, or nil and a message */
static int sys_file_size(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat st;
  if (stat(path, &st) != 0) return fail(L, "open", path, errno);
  lua_pushinteger(L, (lua_Integer)st.st_size);
  return 1;
}

static bool make_folder(const char *path, mode_t mode, int *err) {
  struct stat st;
  if (mkdir(path, mode) == 0) return true;
  *err = errno;
  if (*err == EEXIST || *err == EISDIR || *err == EROFS || *err == EACCES || *err == EPERM) {
    if (stat(path, &st) == 0) {
      if (S_ISDIR(st.st_mode)) return true;
      *err = ENOTDIR;
    }
  }
  return false;
}

/* mkdir_p(path [, private]) -> true, or nil and a message; makes parents too; private: only for this user */
static int sys_mkdir_p(lua_State *L) {
  size_t n;
  const char *path = luaL_checklstring(L, 1, &n);
  mode_t mode = lua_toboolean(L, 2) ? 0700 : 0777;
  int err = 0;
  char *copy = lua_newuserdatauv(L, n + 1, 0);
  memcpy(copy, path, n + 1);
  for (size_t i = 1; i < n; i++) {
    if (copy[i] != '/') continue;
    copy[i] = '\0';
    bool ok = make_folder(copy, mode, &err);
    copy[i] = '/';
    if (!ok) return fail(L, "make folder", path, err);
  }
  if (!make_folder(copy, mode, &err)) return fail(L, "make folder", path, err);
  lua_pushboolean(L, 1);
  return 1;
}

/* list_folder(path) -> the names in it, in no order and without "." and ".."; or nil and a message */
static int sys_list_folder(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  DIR **kept = lua_newuserdatauv(L, sizeof *kept, 0); /* closed below; where an allocation fails on the way, by the collector */
  *kept = NULL;
  luaL_setmetatable(L, FOLDER);
  DIR *d = *kept = opendir(path);
  if (!d) return fail(L, "read folder", path, errno);
  lua_newtable(L);
  const struct dirent *e;
  for (lua_Integer n = 0; (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    lua_pushstring(L, e->d_name);
    lua_rawseti(L, -2, ++n);
  }
  closedir(d);
  *kept = NULL;
  return 1;
}

static int folder_gc(lua_State *L) {
  DIR **kept = lua_touserdata(L, 1);
  if (*kept) closedir(*kept);
  *kept = NULL;
  return 0;
}

/* create_private(path) -> true, or nil and a message; an empty file that only this user can read, unless it is there already */
static int sys_create_private(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return fail(L, "create", path, errno);
  close(fd);
  lua_pushboolean(L, 1);
  return 1;
}

/* The user's folder of one kind: $variable/nnlua when that is an absolute path, as the XDG rules say, else $HOME/fallback/nnlua. */
static int user_folder(lua_State *L, const char *variable, const char *fallback) {
  const char *base = secure_getenv(variable), *home = secure_getenv("HOME");
  if (base && base[0] == '/') {
    lua_pushfstring(L, "%s/nnlua", base);
  } else if (home && home[0] == '/') {
    lua_pushfstring(L, "%s/%s/nnlua", home, fallback);
  } else {
    lua_pushnil(L);
    lua_pushfstring(L, "there is no folder for this user's files: neither %s nor HOME is set", variable);
    return 2;
  }
  return 1;
}

/* cache_dir() -> the user's folder for what can be fetched again; it may not exist yet. nil and a message without a home. */
static int sys_cache_dir(lua_State *L) { return user_folder(L, "XDG_CACHE_HOME", ".cache"); }

/* state_dir() -> the user's folder for history and the like; as cache_dir */
static int sys_state_dir(lua_State *L) { return user_folder(L, "XDG_STATE_HOME", ".local/state"); }

/* ---- Lua source, as text only ---- */
static int loaded(lua_State *L, int status, int env) {
  if (status != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (!lua_isnoneornil(L, env)) {
    lua_pushvalue(L, env);
    if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  }
  return 1;
}

/* load_text(source, chunkname [, env]) -> function, or nil and a message; like load, refuses bytecode in every host */
static int sys_load_text(lua_State *L) {
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  const char *name = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  return loaded(L, nnL_loadtext(L, s, n, name), 3);
}

/* load_file(path [, env]) -> function, or nil and a message */
static int sys_load_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 2);
  return loaded(L, nnL_loadfile(L, path), 2);
}

void nnL_open_sys(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"clock", sys_clock},
      {"sleep", sys_sleep},
      {"isatty", sys_isatty},
      {"terminal_width", sys_terminal_width},
      {"getpid", sys_getpid},
      {"exe_path", sys_exe_path},
      {"resident_memory", sys_resident_memory},
      {"interrupted", sys_interrupted},
      {"clear_interrupt", sys_clear_interrupt},
      {"hold_interrupt", sys_hold_interrupt},
      {"forget_interrupt", sys_forget_interrupt},
      {"file_type", sys_file_type},
      {"file_exists", sys_file_exists},
      {"file_size", sys_file_size},
      {"mkdir_p", sys_mkdir_p},
      {"create_private", sys_create_private},
      {"list_folder", sys_list_folder},
      {"cache_dir", sys_cache_dir},
      {"state_dir", sys_state_dir},
      {"load_text", sys_load_text},
      {"load_file", sys_load_file},
      {NULL, NULL},
  };
  if (luaL_newmetatable(L, FOLDER)) {
    lua_pushcfunction(L, folder_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "sys");
}
