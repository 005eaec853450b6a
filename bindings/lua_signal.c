/* bindings/lua_signal.c - Ctrl-C in the nnlua program.
**
** Owns: the SIGINT handler, the flag that C code polls (nnL_interrupted), and the three coroutine functions that keep track of which
** Lua thread is running. Installed by main.c only.
**
** How a press stops a program: the handler hooks the running Lua thread, and the hook raises "interrupted". The hook stays until top level
** clears it, because a loop around pcall would swallow a single error. But a program must be able to put things in order on its way out
** (`<close>` variables, a checkpoint), so after each error the hook lets a number of instructions pass first, a quarter as many each time: some
** ten errors and 20 ms later it raises at every instruction. The third press ends the process at once (a C loop that does not poll, a finalizer).
**
** Code that must not be cut in two holds the press back for a moment (nnL_interrupt_hold); a second press gets through.
**
** Only async-signal-safe things happen in the handler: lua_sethook is (Lua's own `lua` does the same), and the rest are plain stores.
*/
#include "prog.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define GRACE 1000000 /* instructions that may pass after the first error */

static volatile sig_atomic_t pending;      /* pressed, not yet dealt with */
static volatile sig_atomic_t presses;      /* how often, since top level */
static lua_State *volatile running;        /* the Lua thread that runs now */
static volatile sig_atomic_t held;         /* no hook until it is let go (nnL_interrupt_hold) */
static volatile int grace;                 /* instructions until the hook raises; 0: at once */
static pthread_t main_thread;

static void stop_hook(lua_State *L, lua_Debug *ar);

/* Make L raise when `grace` instructions have passed. */
static void hook_thread(lua_State *L) {
  if (grace > 0) lua_sethook(L, stop_hook, LUA_MASKCOUNT, grace);
  else lua_sethook(L, stop_hook, LUA_MASKCALL | LUA_MASKCOUNT, 1);
}

static void stop_hook(lua_State *L, lua_Debug *ar) {
  if (!pending) { /* left over in a coroutine that was asleep when top level cleared */
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  grace = grace > 0 ? grace / 4 : GRACE;
  if (grace < 64) grace = 0;
  hook_thread(L);
  lua_getinfo(L, "Sl", ar);
  if (ar->currentline > 0) luaL_error(L, "%s:%d: interrupted", ar->short_src, ar->currentline);
  luaL_error(L, "interrupted");
}

static void on_sigint(int sig) {
  if (!pthread_equal(pthread_self(), main_thread)) { /* so that it is the main thread's system call that returns early */
    pthread_kill(main_thread, sig);
    return;
  }
  if (++presses >= 3) {
    static const char text[] = "\nnnlua: killed by the third Ctrl-C\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(130);
  }
  pending = 1;
  grace = 0;
  if (!held || presses > 1) hook_thread(running);
}

/* Called when L is (again) the running thread: a press may have come, or the grace become less, while another one ran. A hook that is right
** already is left alone, because setting it would start its count anew. */
static void enter_thread(lua_State *L) {
  running = L;
  if (pending && (!held || presses > 1) && (lua_gethook(L) != stop_hook || lua_gethookcount(L) > (grace > 0 ? grace : 1))) hook_thread(L);
}

bool nnL_interrupted(void *ud) {
  (void)ud;
  return pending != 0;
}

int nnL_interrupt_presses(void) { return presses; }

void nnL_interrupt_hold(lua_State *L, bool on) {
  held = on;
  if (!on && pending) enter_thread(L);
}

bool nnL_interrupt_clear(lua_State *L) {
  bool was = pending != 0;
  pending = 0;
  held = 0;
  grace = 0;
  if (lua_gethook(L) == stop_hook) lua_sethook(L, NULL, 0, 0);
  return was;
}

void nnL_interrupt_forget(lua_State *L) {
  nnL_interrupt_clear(L);
  presses = 0;
}

/* ---- coroutine.resume, wrap, close: as in Lua, and they say which thread runs -------------------------------------------------- */
/* Resume co with the narg values on top of L. Leaves the results on L and returns their number; on failure one message and -1. */
static int resume_thread(lua_State *L, lua_State *co, int narg) {
  int nres = 0;
  if (!lua_checkstack(co, narg)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, co, narg);
  enter_thread(co);
  int status = lua_resume(co, L, narg, &nres);
  enter_thread(L);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  if (!lua_checkstack(L, nres + 1)) {
    lua_pop(co, nres);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, nres);
  return nres;
}

static lua_State *check_thread(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "thread");
  return co;
}

static int co_resume(lua_State *L) {
  lua_State *co = check_thread(L);
  int n = resume_thread(L, co, lua_gettop(L) - 1);
  lua_pushboolean(L, n >= 0);
  if (n < 0) n = 1;
  lua_insert(L, -(n + 1));
  return n + 1;
}

/* Close co's pending `<close>` variables, with co as the running thread. */
static int close_thread(lua_State *L, lua_State *co) {
  enter_thread(co);
  int status = lua_resetthread(co);
  enter_thread(L);
  return status;
}

static int co_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int n = resume_thread(L, co, lua_gettop(L));
  if (n >= 0) return n;
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) { /* it died of an error, so its variables are still to be closed */
    status = close_thread(L, co);
    lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) { /* say where it was resumed */
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int co_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, co_wrapped, 1);
  return 1;
}

static int co_close(lua_State *L) {
  lua_State *co = check_thread(L);
  lua_Debug ar;
  bool suspended = co != L && (lua_status(co) == LUA_YIELD || (lua_status(co) == LUA_OK && !lua_getstack(co, 0, &ar)));
  bool dead = co != L && lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD;
  if (!suspended && !dead) return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
  if (close_thread(L, co) == LUA_OK) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

void nnL_signals_install(lua_State *L) {
  static const luaL_Reg functions[] = {{"resume", co_resume}, {"wrap", co_wrap}, {"close", co_close}, {NULL, NULL}};
  struct sigaction act, old;
  lua_getglobal(L, LUA_COLIBNAME);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
  running = L;
  main_thread = pthread_self();
  if (sigaction(SIGINT, NULL, &old) == 0 && old.sa_handler == SIG_IGN) return; /* started in the background: stays deaf, as a shell means it */
  act.sa_handler = on_sigint;
  act.sa_flags = 0; /* no SA_RESTART: a read that waits must come back */
  sigemptyset(&act.sa_mask);
  sigaction(SIGINT, &act, NULL);
}
