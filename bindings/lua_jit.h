/* bindings/lua_jit.h - shared by lua_jit.c (calls, recording, replays) and lua_jit_form.c (what a call must look like to be replayed). */
#ifndef NNL_JIT_H
#define NNL_JIT_H
#include "nnL.h"

#define MAXTRACE 8
#define MAXLEAF 250     /* tensors in arguments, and in results */
#define MAXHANDLE 4096  /* tensors that a function uses */
#define MAXDEPTH 16
#define MAXFUNCTION 32  /* whose variables are looked at */
#define JIT "nnlua.jit"
#define TRACE "nnlua.jit.trace"

typedef enum kind { TENSOR, SAME, CONSTANT, TABLE } kind;
/* n: TENSOR its number among leaves, SAME the leaf that it is again, TABLE entries (key, then item) */
typedef struct item { kind kind; int n; } item;

typedef struct trace {
  nn_jit *j;
  item *item;
  int nitem, capitem, narg, nleaf, nhandle, nresult, nvariable;
  int leaf_arg[MAXLEAF]; /* the argument it is in, from 1 */
  int *map;              /* per handle: a leaf, or -1 - k: k-th captured box */
  nnL_box **captured;
  nn_tensor ***at;       /* per handle, for a call */
  int device; /* the current one */
  bool grad, exact, plain, verified;
  nn_matmul_precision precision;
} trace;
/* uservalue of a trace: a table of these */
enum { CONSTANTS = 1, CAPTURED, VARIABLES, FIELDS, HOSTS, RENEWALS, SHAPE };

typedef struct jit {
  trace *trace[MAXTRACE + 1]; /* last used first; the environment holds them by address. One more while the first two are compared */
  int n;
  bool gave_up, busy;
  lua_Integer replays;
} jit;
/* uservalue of a jit: the environment. FN: the function; CALL: the same with results flattened; MISS, REBUILD: of jit.lua */
enum { FN = 1, CALL, MISS, REBUILD };

struct nnL_session { /* one recording */
  int nleaf, ncaptured, nhost, nrenewal, nfield;
  nnL_box *leaf[MAXLEAF], *original[MAXLEAF];
  int map[MAXHANDLE];
  int tables; /* registry reference of the trace's table */
};

typedef struct matching { /* a walk over the arguments of a call beside a trace's items */
  lua_State *L;
  const trace *t;
  int metatable, constants, pos, nconst; /* stack indices, and where the walk is */
  nnL_box *leaf[MAXLEAF];
  int passed;                             /* how many of the checks in fits() */
  char *why;
  size_t n;
} matching;

/* lua_jit_form.c */
/* pushes a copy of the value at i with boxes of its own, and notes its form; constants - 1: the list of those boxes */
void nnL_jit_copy(lua_State *L, trace *t, struct nnL_session *r, int i, int constants, int *nconst, int depth);
bool nnL_jit_match(matching *m, int i, int arg);
bool nnL_jit_mismatch(matching *m, const char *fmt, ...); /* the reason; false */
bool nnL_jit_wants_grad(lua_State *L, int i, int depth);
int nnL_jit_variables(lua_State *L, int fn, int list);    /* lists variables; how many */
bool nnL_jit_variables_match(lua_State *L, int list, int n, char *why, size_t size);
bool nnL_jit_fields_match(lua_State *L, int fields, char *why, size_t n);

#endif
