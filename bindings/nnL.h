/* bindings/nnL.h - glue between Lua 5.4 and nn.h: how tensors travel, where errors are raised.
**
** Tensor userdata is a box: it holds one nn_tensor and may be re-bound to another (x[2] = 5, an optimizer's step). Make the (empty) userdata first,
** then fill it, so that nothing leaks when Lua runs out of memory. Only nnL_check and nnL_raise raise errors made in the runtime.
*/
#ifndef NNL_H
#define NNL_H
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include "nn.h"

typedef struct nnL_box {
  const void *tag; /* nnL_tag: tells a box from userdata of others of the same size */
  nn_tensor *t; /* NULL while half built, and after its scope ended */
  struct nnL_box *prev, *next; /* among the boxes of its scope; NULL, NULL when it outlives every scope */
  uint32_t session;            /* the recording of a function in which it was made or first used; lua_jit.c */
} nnL_box;

nn_context *nnL_context(lua_State *L);                 /* the process's context, opened on first use */
nnL_box *nnL_newbox(lua_State *L);                     /* pushes an empty tensor userdata; fill ->t with a reference */
void nnL_fill(lua_State *L, nnL_box *b, nn_tensor *t); /* the same for a box that is on the stack already */
void nnL_pace(lua_State *L);                           /* lets native memory drive Lua's collector; cheap when nothing is due */
nn_tensor *nnL_checktensor(lua_State *L, int arg);     /* borrowed; raises when arg is no tensor */
nnL_box *nnL_checkbox(lua_State *L, int arg);
extern const char nnL_tag;
/* The box at i, empty or not; NULL when there is something else. Two calls, where asking for the metatable takes five. */
static inline nnL_box *nnL_testbox(lua_State *L, int i) {
  nnL_box *b = lua_touserdata(L, i);
  return b && lua_rawlen(L, i) == sizeof *b && b->tag == &nnL_tag ? b : NULL; /* light userdata has length 0 */
}
nn_tensor *nnL_testtensor(lua_State *L, int arg);      /* borrowed; NULL when arg is no tensor */
void nnL_check(lua_State *L, nn_status s);             /* raises the context's message, with the position of the Lua caller, unless s is NN_OK */
int nnL_raise(lua_State *L, const char *fmt, ...);     /* a binding's own error, positioned at the first Lua frame outside the library (lua/nnlua) */
int nnL_raise_named(lua_State *L, const char *fmt, ...); /* the same, begun with the name of the function that runs: "size: ..." */
void nnL_check_named(lua_State *L, nn_status s, const char *inner); /* nnL_check for a function that is the operator `inner` by another name */
lua_Integer nnL_checkinteger(lua_State *L, int arg);
void nnL_checktype(lua_State *L, int arg, int type);   /* raises unless arg is a value of this Lua type */
void nnL_count(lua_State *L, const char *key, uint64_t n); /* table on top: [key] = n */
void nnL_shape(lua_State *L, int arg, int *ndim, int64_t *shape); /* reads {2, 3} at arg, or numbers from arg to the top */
nn_dtype nnL_optdtype(lua_State *L, int arg, nn_dtype def);

bool nnL_to_device(lua_State *L, const char *name); /* the tensor at 1 replaced by one on that device; false: no device's name */
nn_tensor *nnL_place(nn_tensor *t, int device);     /* t moved there; takes over the reference, NULL on failure (or when t is NULL) */

#define NNL_TENSOR "nnlua.tensor" /* name of the metatable in the registry */
#define NNL_MAXSCOPE 64
typedef struct nnL_state { /* one per Lua state, in the registry; lua_core.c */
  nn_context *ctx;
  lua_State *main;
  uint64_t young_at; /* allocated bytes at which the next young collection is due */
  uint64_t runs;     /* of the context when that was last looked at: recording takes no element memory */
  size_t full_at;    /* live bytes at which the next full one is due */
  struct nnL_session *jit;        /* the recording of a function that is going on, or NULL; lua_jit.c */
  nn_jit *renewing;               /* the recording that asks for an optimizer's numbers, or NULL */
  uint32_t session, sessions;     /* its number, 0 without one; the last number given */
  bool lines;        /* note the caller's line with each recorded node */
  int nscope;
  nnL_box scope[NNL_MAXSCOPE]; /* list heads */
} nnL_state;
nnL_state *nnL_getstate(lua_State *L);
/* what operators' closures use, which have the state and the metatable as upvalues */
nnL_box *nnL_newbox_in(lua_State *L, nnL_state *s, int metatable);
void nnL_pace_in(lua_State *L, nnL_state *s);
bool nnL_in_library(const char *source); /* of a chunk */
int nnL_line(lua_State *L); /* of the first Lua function that is not the library's own; 0 when there is none */
void nnL_scope_forget(nnL_box *b);  /* the box outlives its scope */
void nnL_jit_touch(lua_State *L, nnL_box *b, int arg); /* lua_jit.c: the box at arg is used while a function is recorded; never raises */

/* Each file of bindings/ adds its functions to the core table on top of the stack. */
void nnL_open_tensor(lua_State *L);  /* lua_tensor.c */
void nnL_open_ops(lua_State *L);     /* lua_ops.c */
void nnL_open_graph(lua_State *L);   /* lua_graph.c: gradients, eval, optimizers' steps, scopes, seeds */
void nnL_open_data(lua_State *L);    /* lua_data.c: data sets, IDX, digits, download */
void nnL_open_vision(lua_State *L);  /* lua_vision.c: images, sound, transforms */
void nnL_open_h5(lua_State *L);      /* lua_h5.c: HDF5 archives */
void nnL_open_bytes(lua_State *L);   /* lua_bytes.c: checksums, deflated bytes, files */
void nnL_open_sources(lua_State *L); /* lua_sources.c: where the elements of data sets come from */
void nnL_open_sys(lua_State *L);     /* lua_sys.c: clock, terminal, text-mode loader */
void nnL_open_index(lua_State *L);   /* lua_index.c: x[...] */
void nnL_open_device(lua_State *L);  /* lua_device.c: devices, memory */
void nnL_open_trace(lua_State *L);   /* lua_trace.c: what runs did */
void nnL_open_jit(lua_State *L);     /* lua_jit.c: recording and replaying functions */
void nnL_open_json(lua_State *L);    /* lua_json.c: core.json_encode, core.json_decode */
int luaopen_nnlua_core(lua_State *L);

#endif
