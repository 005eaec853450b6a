/* bindings/prog.h - what the nnlua program needs of its own bindings beside nnL.h: its allocator, the loader of Lua source, Ctrl-C.
**
** Used by main.c (which installs them) and lua_sys.c (which shows them to Lua). In a stock lua5.4 nothing here is installed, so the
** host keeps its own load functions and its own signal handling, and nnL_interrupted is always false.
*/
#ifndef NNL_PROG_H
#define NNL_PROG_H
#include "nnL.h"

/* ---- lua_alloc.c: the state's small pieces --------------------------------------------------------------------------------- */
lua_State *nnL_newstate(void **pool);            /* NULL: out of memory; pool: what its pieces come from */
void nnL_closestate(lua_State *L, void *pool);   /* closes it and gives its pieces back */

/* ---- lua_load.c: Lua source is loaded as text, never as bytecode ---------------------------------------------------------- */
/* Both push the compiled chunk and return LUA_OK, or push a message and return an error code. path NULL reads standard input. */
int nnL_loadtext(lua_State *L, const char *s, size_t n, const char *chunkname);
int nnL_loadfile(lua_State *L, const char *path);
/* The Lua function on top of `from`, which stays, pushed in `to` without its captured values; or a message and an error code. */
int nnL_copyfunction(lua_State *from, lua_State *to);
void nnL_textonly(lua_State *L); /* replaces load, loadfile, dofile and the searcher of Lua modules; needs the standard libraries open */

/* ---- lua_signal.c: Ctrl-C ------------------------------------------------------------------------------------------------- */
void nnL_signals_install(lua_State *L);  /* L is the main thread; replaces coroutine.resume, wrap and close */
bool nnL_interrupted(void *ud);          /* has Ctrl-C been pressed and not yet been dealt with? for nn_set_hooks; ud is not used */
bool nnL_interrupt_clear(lua_State *L);  /* go on as if it had not been pressed; returns whether it had been */
void nnL_interrupt_hold(lua_State *L, bool on); /* while on, a first press waits: L goes on until it is let go; kernels are stopped all the same */
void nnL_interrupt_forget(lua_State *L); /* at top level only: clear, and count presses from zero again */
int nnL_interrupt_presses(void);         /* since start or nnL_interrupt_forget */

#endif
