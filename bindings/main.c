/* bindings/main.c - the nnlua program: Lua 5.4's command line with nnlua built in.
**
** Owns: the process (its Lua state, arguments, exit code). Takes every option of `lua` and means the same by it. What it adds: our Lua files and
** scripts are found from any folder, source is loaded as text only (lua_load.c), Ctrl-C stops anything that polls (lua_signal.c), the collector runs
** in generational mode, and the interactive mode is lua/nnlua/repl.lua.
**
** The program finds its files by its own place: <place>/share or <place>/../share holds lua/5.4/nnlua and nnlua/scripts. A build folder has
** the same layout as an installed tree (CMakeLists.txt makes share/ there from links to the sources).
*/
#include "prog.h"
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_INTERRUPTED 130

typedef struct program {
  const char *name;   /* argv[0]; how messages begin */
  char **argv;
  int argc, script;   /* argv[script] is the script; argc when there is none */
  bool version, interactive, execute, noenv; /* -v -i -e -E */
  char prefix[PATH_MAX]; /* folder that holds share/ and lib/; "" when not found */
} program;

/* ---- messages -------------------------------------------------------------------------------------------------------- */
static void print_message(const program *p, const char *msg) {
  fflush(stdout);
  if (p->name) fprintf(stderr, "%s: ", p->name);
  fprintf(stderr, "%s\n", msg);
  fflush(stderr);
}

static void print_version(void) { printf("nnlua %s (%s)\n", NN_VERSION, LUA_COPYRIGHT); }

static void print_usage(FILE *f, const program *p) {
  fprintf(f,
          "usage: %s [options] [script [args]]\n"
          "Available options are:\n"
          "  -e stat   execute string 'stat'\n"
          "  -i        enter interactive mode after executing 'script'\n"
          "  -l mod    require library 'mod' into global 'mod'\n"
          "  -l g=mod  require library 'mod' into global 'g'\n"
          "  -v        show version information\n"
          "  -E        ignore environment variables\n"
          "  -W        turn warnings on\n"
          "  --        stop handling options\n"
          "  -         stop handling options and execute stdin\n"
          "A script that is not in the current folder is looked for among those that came with nnlua%s%s%s,\n"
          "where .lua may be left out: %s bench measures this machine.\n",
          p->name ? p->name : "nnlua", p->prefix[0] ? " (" : "", p->prefix, p->prefix[0] ? "/share/nnlua/scripts)" : "", p->name ? p->name : "nnlua");
}

/* ---- running --------------------------------------------------------------------------------------------------------- */
/* Makes a message of any error value, with a traceback. */
static int message_handler(lua_State *L) {
  const char *msg = lua_tostring(L, 1);
  if (!msg) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
    msg = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  luaL_traceback(L, L, msg, 1);
  return 1;
}

static int call_traced(lua_State *L, int narg, int nres) {
  int base = lua_gettop(L) - narg;
  lua_pushcfunction(L, message_handler);
  lua_insert(L, base);
  int status = lua_pcall(L, narg, nres, base);
  lua_remove(L, base);
  return status;
}

/* Prints the message on top when status is not LUA_OK. Returns whether all is well. */
static bool report(lua_State *L, const program *p, int status) {
  if (status == LUA_OK) return true;
  const char *msg = lua_tostring(L, -1);
  bool by_user = nnL_interrupt_presses() > 0 && msg && strstr(msg, "interrupted"); /* main says so in one line */
  if (!by_user) print_message(p, msg ? msg : "(error message is not a string)");
  lua_pop(L, 1);
  return false;
}

static bool run_chunk(lua_State *L, const program *p, int status) {
  if (status == LUA_OK) status = call_traced(L, 0, 0);
  return report(L, p, status);
}

static bool run_string(lua_State *L, const program *p, const char *s, const char *name) {
  return run_chunk(L, p, nnL_loadtext(L, s, strlen(s), name));
}

/* -l mod, -l global=mod */
static bool run_library(lua_State *L, const program *p, const char *arg) {
  const char *equals = strchr(arg, '='), *module = equals ? equals + 1 : arg;
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  int status = call_traced(L, 1, 1);
  if (status == LUA_OK) {
    lua_pushglobaltable(L);
    if (equals) lua_pushlstring(L, arg, (size_t)(equals - arg));
    else lua_pushstring(L, module);
    lua_rotate(L, -3, -1); /* value, table, name -> table, name, value */
    lua_settable(L, -3);
    lua_pop(L, 1);
  }
  return report(L, p, status);
}

static bool run_init(lua_State *L, const program *p) {
  const char *name = "=LUA_INIT_5_4", *init = getenv(name + 1);
  if (!init) init = getenv((name = "=LUA_INIT") + 1);
  if (!init) return true;
  if (init[0] == '@') return run_chunk(L, p, nnL_loadfile(L, init + 1));
  return run_string(L, p, init, name);
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */
static bool is_file(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* a .. b in out; false when it does not fit */
static bool join(char out[PATH_MAX], const char *a, const char *b) { return snprintf(out, PATH_MAX, "%s%s", a, b) < PATH_MAX; }

/* Fill p->prefix: the folder of the program, or the one above it. */
static void find_prefix(program *p) {
  static const char *const above[] = {"", "/.."};
  char exe[PATH_MAX], place[PATH_MAX], probe[PATH_MAX];
  p->prefix[0] = '\0';
  if (!realpath("/proc/self/exe", exe)) return;
  char *slash = strrchr(exe, '/');
  if (!slash) return;
  *slash = '\0';
  for (int i = 0; i < 2; i++) {
    struct stat st;
    if (join(place, exe, above[i]) && join(probe, place, "/share/lua/5.4/nnlua") && stat(probe, &st) == 0 && realpath(place, p->prefix)) return;
  }
  p->prefix[0] = '\0';
}

/* The file to run for the script name as typed: itself, or one that came with nnlua ("bench" for bench.lua). */
static const char *find_script(const program *p, const char *name, char found[PATH_MAX]) {
  char path[PATH_MAX];
  if (is_file(name) || !p->prefix[0] || name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0) return name;
  for (int i = 0; i < 2; i++)
    if (snprintf(path, sizeof path, "%s/share/nnlua/scripts/%s%s", p->prefix, name, i ? ".lua" : "") < (int)sizeof path && is_file(path) && realpath(path, found))
      return found;
  return name;
}

/* Put our folders before the others in package.path and package.cpath. */
static void set_paths(lua_State *L, const program *p) {
  char path[PATH_MAX], dir[PATH_MAX];
  lua_getglobal(L, "package");
  /* resolved, so that in a build tree messages name the source file */
  if (join(path, p->prefix, "/share/lua/5.4") && realpath(path, dir)) {
    lua_getfield(L, -1, "path");
    const char *old = lua_tostring(L, -1);
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", dir, dir, old ? old : "");
    lua_setfield(L, -3, "path");
    lua_pop(L, 1);
  }
  lua_getfield(L, -1, "cpath");
  const char *old = lua_tostring(L, -1);
  lua_pushfstring(L, "%s/lib/lua/5.4/?.so;%s", p->prefix, old ? old : "");
  lua_setfield(L, -3, "cpath");
  lua_pop(L, 2);
}

/* ---- arguments ------------------------------------------------------------------------------------------------------- */
/* Reads the options into p. Returns the option that is wrong, or NULL. */
static const char *read_options(program *p) {
  int i;
  for (i = 1; i < p->argc; i++) {
    const char *a = p->argv[i];
    if (a[0] != '-') break;
    if (a[1] == '\0') break; /* "-" is a script: standard input */
    if (strcmp(a, "--") == 0) {
      i++;
      break;
    }
    switch (a[1]) {
      case 'E': p->noenv = true; break;
      case 'W': break; /* in its turn, in run_options */
      case 'i': p->interactive = p->version = true; break;
      case 'v': p->version = true; break;
      case 'e': p->execute = true; /* fall through */
      case 'l':
        if (a[2] == '\0' && (++i >= p->argc || p->argv[i][0] == '-')) return a;
        continue;
      default: return a;
    }
    if (a[2] != '\0') return a;
  }
  p->script = i;
  return NULL;
}

/* -e, -l and -W in the order in which they were given */
static bool run_options(lua_State *L, const program *p) {
  for (int i = 1; i < p->script && strcmp(p->argv[i], "--") != 0; i++) {
    const char *a = p->argv[i];
    if (a[1] == 'W') lua_warning(L, "@on", 0);
    if (a[1] != 'e' && a[1] != 'l') continue;
    const char *value = a[2] ? a + 2 : p->argv[++i];
    if (a[1] == 'e' ? !run_string(L, p, value, "=(command line)") : !run_library(L, p, value)) return false;
  }
  return true;
}

/* The global `arg`: the script (or the program, without one) at 0, its arguments from 1, what stood before it below 0. */
static void make_arg(lua_State *L, const program *p, const char *script) {
  int zero = p->script < p->argc ? p->script : 0;
  lua_createtable(L, p->argc - zero, zero + 1);
  for (int i = 0; i < p->argc; i++) {
    lua_pushstring(L, i == zero && zero > 0 ? script : p->argv[i]);
    lua_rawseti(L, -2, i - zero);
  }
  lua_setglobal(L, "arg");
}

static bool run_script(lua_State *L, const program *p, const char *path) {
  const char *name = p->argv[p->script];
  bool from_stdin = strcmp(name, "-") == 0 && strcmp(p->argv[p->script - 1], "--") != 0;
  int status = nnL_loadfile(L, from_stdin ? NULL : path);
  if (status == LUA_ERRFILE && path == name && p->prefix[0] && name[0] != '/' && name[0] != '.') {
    lua_pushfstring(L, "%s (looked here and in %s/share/nnlua/scripts)", lua_tostring(L, -1), p->prefix);
    lua_remove(L, -2);
  }
  if (status == LUA_OK) {
    lua_getglobal(L, "arg"); /* a script may have changed it through -e; then it gets what is there */
    if (!lua_istable(L, -1)) luaL_error(L, "'arg' is not a table");
    int t = lua_gettop(L), n = (int)luaL_len(L, t);
    luaL_checkstack(L, n + 3, "too many arguments to script");
    for (int i = 1; i <= n; i++) lua_rawgeti(L, t, i);
    lua_remove(L, t);
    status = call_traced(L, n, 0);
  }
  return report(L, p, status);
}

/* The interactive mode: require("nnlua.repl").run() */
static bool run_repl(lua_State *L, program *p) {
  p->name = NULL;
  nnL_interrupt_forget(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "nnlua.repl");
  int status = call_traced(L, 1, 1);
  if (status == LUA_OK) {
    lua_getfield(L, -1, "run");
    lua_remove(L, -2);
    status = call_traced(L, 0, 0);
  }
  return report(L, p, status);
}

/* Neither script nor statement: a terminal gets the interactive mode; anything else is a script. */
static bool run_stdin(lua_State *L, program *p) {
  if (!isatty(STDIN_FILENO)) return run_chunk(L, p, nnL_loadfile(L, NULL));
  print_version();
  return run_repl(L, p);
}

/* ---- main ------------------------------------------------------------------------------------------------------------ */
static void open_state(lua_State *L, const program *p) {
  if (p->noenv) { /* as lua.c tells the libraries to ignore LUA_PATH and LUA_CPATH */
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  luaL_openlibs(L);
  nnL_textonly(L);
  nnL_signals_install(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_nnlua_core);
  lua_setfield(L, -2, "nnlua.core");
  lua_pop(L, 1);
  if (p->prefix[0]) set_paths(L, p);
}

/* Protected: argument 1 is the program. Returns whether all went well. */
static int run_program(lua_State *L) {
  program *p = lua_touserdata(L, 1);
  char found[PATH_MAX];
  const char *bad = read_options(p);
  find_prefix(p);
  if (bad) {
    bool help = strcmp(bad, "--help") == 0, version = strcmp(bad, "--version") == 0;
    if (version) print_version();
    else if (help) print_usage(stdout, p);
    else {
      bool lacks_value = bad[1] == 'e' || bad[1] == 'l';
      print_message(p, lacks_value ? lua_pushfstring(L, "'%s' needs argument", bad) : lua_pushfstring(L, "unrecognized option '%s'", bad));
      print_usage(stderr, p);
    }
    lua_pushboolean(L, help || version);
    return 1;
  }
  bool has_script = p->script < p->argc;
  if (p->version) print_version();
  const char *script = has_script ? find_script(p, p->argv[p->script], found) : NULL;
  open_state(L, p);
  make_arg(L, p, script);
  lua_gc(L, LUA_GCGEN, 0, 0);
  bool ok = p->noenv || run_init(L, p);
  ok = ok && run_options(L, p);
  ok = ok && (!has_script || run_script(L, p, script));
  if (ok) {
    if (p->interactive) ok = run_repl(L, p);
    else if (!has_script && !p->execute && !p->version) ok = run_stdin(L, p);
  }
  lua_pushboolean(L, ok);
  return 1;
}

int main(int argc, char **argv) {
  program p = {.name = argc > 0 && argv[0][0] ? argv[0] : "nnlua", .argv = argv, .argc = argc, .script = argc};
  void *pool;
  lua_State *L = nnL_newstate(&pool);
  if (!L) {
    print_message(&p, "cannot create the Lua state: not enough memory");
    return EXIT_FAILURE;
  }
  signal(SIGXFSZ, SIG_IGN); /* a file that grows past its limit is an error to report, not a reason to die */
  lua_pushcfunction(L, run_program);
  lua_pushlightuserdata(L, &p);
  bool ok = report(L, &p, lua_pcall(L, 1, 1, 0)) && lua_toboolean(L, -1);
  bool interrupted = nnL_interrupted(NULL) || (nnL_interrupt_presses() > 0 && !ok); /* also when a pcall swallowed the last error */
  nnL_interrupt_clear(L); /* finalizers may compute */
  nnL_closestate(L, pool);
  if (interrupted) print_message(&p, "interrupted");
  return interrupted ? EXIT_INTERRUPTED : ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
