/* bindings/lua_edit.c - the module nnlua.edit: one line from a terminal, with editing, history and completion, through libedit.
**
** Owns: the editor of the process and, while a line is read, the terminal and the signals listed below. A module of its own, so that a program that
** is not interactive never loads libedit. Used by lua/nnlua/repl.lua only.
**
** Signals: while a line is read they are blocked except inside ppoll, and the handler only notes them; the loop around ppoll then acts in
** ordinary code, with the terminal put back first where the process stops or dies. So nothing is lost between a check and a wait, and
** libedit's own handlers (which signal the whole process group) are not used.
*/
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <histedit.h>
#include <lauxlib.h>
#include <locale.h>
#include <lua.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

int luaopen_nnlua_edit(lua_State *L);

static const int watched[] = {SIGINT, SIGTSTP, SIGCONT, SIGWINCH, SIGTERM, SIGQUIT, SIGHUP};
#define NWATCHED ((int)(sizeof watched / sizeof watched[0]))

/* One editor per process, because there is one terminal; `L` is set while a line is read. */
static struct editor {
  EditLine *el;
  History *history;
  lua_State *L;
  char prompt[64];
  bool cancelled;            /* Ctrl-C ended the line */
  sigset_t outside;          /* signal mask to wait under */
  struct sigaction before[NWATCHED];
} ed;
static volatile sig_atomic_t noted[NWATCHED];

/* ---- signals --------------------------------------------------------------------------------------------------------- */
static void note_signal(int sig) {
  for (int i = 0; i < NWATCHED; i++) {
    if (watched[i] == sig) noted[i] = 1;
  }
}

static void watch_signals(void) {
  sigset_t block;
  struct sigaction act;
  memset(&act, 0, sizeof act);
  act.sa_handler = note_signal;
  sigemptyset(&act.sa_mask);
  sigemptyset(&block);
  for (int i = 0; i < NWATCHED; i++) sigaddset(&block, watched[i]);
  sigprocmask(SIG_BLOCK, &block, &ed.outside);
  for (int i = 0; i < NWATCHED; i++) {
    noted[i] = 0;
    sigaction(watched[i], NULL, &ed.before[i]);
    if (ed.before[i].sa_handler != SIG_IGN) sigaction(watched[i], &act, NULL);
  }
}

static void unwatch_signals(void) {
  for (int i = 0; i < NWATCHED; i++) sigaction(watched[i], &ed.before[i], NULL);
  sigprocmask(SIG_SETMASK, &ed.outside, NULL);
}

/* The terminal may have been used by others: take it back and show the line again. */
static void redraw(void) {
  for (int i = 0; i < NWATCHED; i++) {
    if (watched[i] == SIGCONT) noted[i] = 0; /* dealt with here */
  }
  el_set(ed.el, EL_PREP_TERM, 1);
  el_set(ed.el, EL_REFRESH);
}

/* Stop or end the process as the signal would have done, with the terminal as the shell knows it. Returns when the process goes on. */
static void act_on(int i) {
  struct sigaction mine;
  sigset_t only, old;
  el_set(ed.el, EL_PREP_TERM, 0);
  sigaction(watched[i], &ed.before[i], &mine);
  raise(watched[i]);
  sigemptyset(&only);
  sigaddset(&only, watched[i]);
  sigprocmask(SIG_UNBLOCK, &only, &old); /* here it takes effect */
  sigprocmask(SIG_SETMASK, &old, NULL);
  sigaction(watched[i], &mine, NULL);
  redraw();
}

/* Deals with what was noted. Returns false when the line is to be given up. */
static bool handle_signals(void) {
  for (int i = 0; i < NWATCHED; i++) {
    if (!noted[i]) continue;
    noted[i] = 0;
    switch (watched[i]) {
      case SIGINT: ed.cancelled = true; return false;
      case SIGWINCH: el_resize(ed.el); break;
      case SIGCONT: redraw(); break; /* it was stopped by somebody else */
      default: act_on(i);
    }
  }
  return true;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */
static const char *show_prompt(EditLine *el) {
  (void)el;
  return ed.prompt;
}

/* One byte from the terminal: 1, 0 at the end, -1 when the line is given up */
static int read_byte(unsigned char *c) {
  for (;;) {
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (!handle_signals()) return -1;
    int n = ppoll(&p, 1, NULL, &ed.outside);
    if (n < 0 && errno != EINTR) return -1;
    if (n <= 0) continue;
    ssize_t got = read(STDIN_FILENO, c, 1);
    if (got >= 0) return (int)got;
    if (errno != EINTR && errno != EAGAIN) return -1;
  }
}

static int read_character(EditLine *el, wchar_t *out) {
  mbstate_t state;
  (void)el;
  memset(&state, 0, sizeof state);
  for (;;) {
    unsigned char byte;
    int got = read_byte(&byte);
    if (got <= 0) return got;
    char c = (char)byte;
    size_t n = mbrtowc(out, &c, 1, &state);
    if (n == (size_t)-2) continue; /* the character has more bytes */
    if (n == (size_t)-1) { /* not in this locale's encoding */
      *out = L'?';
    } else if (n == 0) {
      *out = L'\0';
    }
    return 1;
  }
}

/* ---- completion ------------------------------------------------------------------------------------------------------ */
/* Writes the candidates (a list of strings at index t) below the line, in columns. */
static void show_candidates(lua_State *L, int t, int n) {
  size_t widest = 0, len;
  int columns = 80;
  el_get(ed.el, EL_GETTC, "co", &columns);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, t, i);
    lua_tolstring(L, -1, &len);
    if (len > widest) widest = len;
    lua_pop(L, 1);
  }
  int per_row = columns / (int)(widest + 2);
  if (per_row < 1) per_row = 1;
  int rows = (n + per_row - 1) / per_row;
  putchar('\n');
  for (int r = 0; r < rows; r++) {
    for (int i = r; i < n; i += rows) { /* down the columns, as ls does */
      lua_rawgeti(L, t, i + 1);
      const char *s = lua_tostring(L, -1);
      printf("%-*s", i + rows < n ? (int)(widest + 2) : 0, s);
      lua_pop(L, 1);
    }
    putchar('\n');
  }
  fflush(stdout);
}

/* Protected, argument 1: the text before the cursor. Calls complete(text) -> text to insert, candidates; acts on them. */
static int complete_text(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "nnlua.edit.complete");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 2);
  const char *insert = lua_tostring(L, 2);
  int result = CC_ERROR;
  if (insert && insert[0] && el_insertstr(ed.el, insert) == 0) {
    result = CC_REFRESH;
  } else if (lua_istable(L, 3)) {
    int n = (int)lua_rawlen(L, 3);
    if (n > 0) {
      show_candidates(L, 3, n);
      result = CC_REDISPLAY;
    }
  }
  lua_pushinteger(L, result);
  return 1;
}

static unsigned char complete(EditLine *el, int ch) {
  const LineInfo *line = el_line(el);
  lua_State *L = ed.L;
  (void)ch;
  lua_pushcfunction(L, complete_text);
  lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
  int result = lua_pcall(L, 1, 1, 0) == LUA_OK ? (int)lua_tointeger(L, -1) : CC_ERROR; /* a __index that fails must not end the line */
  lua_pop(L, 1);
  return (unsigned char)result;
}

/* ---- the module ------------------------------------------------------------------------------------------------------ */
/* start(name, complete) -> true, or nil and a message. complete(text before the cursor) -> text to insert or "", list of candidates. */
static int edit_start(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  HistEvent event;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  lua_setfield(L, LUA_REGISTRYINDEX, "nnlua.edit.complete");
  if (!ed.el) {
    const char *locale = setlocale(LC_CTYPE, ""); /* so that letters beyond ASCII can be typed; numbers keep the C locale */
    if (!locale || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0) setlocale(LC_CTYPE, "C.UTF-8");
    ed.el = el_init(name, stdin, stdout, stderr);
    ed.history = ed.el ? history_init() : NULL;
    if (!ed.history) {
      if (ed.el) el_end(ed.el);
      ed.el = NULL;
      lua_pushnil(L);
      lua_pushliteral(L, "line editing is not possible on this terminal");
      return 2;
    }
    history(ed.history, &event, H_SETSIZE, 2000);
    history(ed.history, &event, H_SETUNIQUE, 1);
    el_set(ed.el, EL_EDITOR, "emacs");
    el_set(ed.el, EL_SIGNAL, 0);
    el_set(ed.el, EL_HIST, history, ed.history);
    el_set(ed.el, EL_PROMPT, show_prompt);
    el_set(ed.el, EL_GETCFN, read_character);
    el_set(ed.el, EL_ADDFN, "nnlua-complete", "complete a name", complete);
    el_set(ed.el, EL_BIND, "^I", "nnlua-complete", NULL);
    el_set(ed.el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(ed.el, NULL); /* the user's ~/.editrc */
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* read(prompt) -> line without its end; nil and "interrupted" after Ctrl-C; nil at the end of input (Ctrl-D) */
static int edit_read(lua_State *L) {
  const char *prompt = luaL_checkstring(L, 1);
  int n = 0;
  if (!ed.el) return luaL_error(L, "edit.read before edit.start");
  snprintf(ed.prompt, sizeof ed.prompt, "%s", prompt);
  ed.L = L;
  ed.cancelled = false;
  watch_signals();
  el_set(ed.el, EL_PREP_TERM, 1); /* before the prompt is seen: what is typed at once must not go through the terminal's own editing */
  const char *line = el_gets(ed.el, &n);
  el_set(ed.el, EL_PREP_TERM, 0);
  if (ed.cancelled || !line) { /* forget the characters of a line given up */
    el_reset(ed.el);
  }
  unwatch_signals();
  ed.L = NULL;
  if (ed.cancelled) {
    printf("^C\n");
    fflush(stdout);
    lua_pushnil(L);
    lua_pushliteral(L, "interrupted");
    return 2;
  }
  if (!line || n <= 0) {
    lua_pushnil(L);
    return 1;
  }
  while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
  lua_pushlstring(L, line, (size_t)n);
  return 1;
}

/* remember(line): one more entry of the history */
static int edit_remember(lua_State *L) {
  HistEvent event;
  const char *line = luaL_checkstring(L, 1);
  if (ed.history) history(ed.history, &event, H_ENTER, line);
  return 0;
}

/* stop(): put the terminal back for good */
static int edit_stop(lua_State *L) {
  (void)L;
  if (ed.el) {
    history_end(ed.history);
    el_end(ed.el);
    ed.el = NULL;
    ed.history = NULL;
  }
  return 0;
}

int luaopen_nnlua_edit(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"start", edit_start}, {"read", edit_read}, {"remember", edit_remember}, {"stop", edit_stop}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
