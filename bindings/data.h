/* bindings/data.h - what the files about data sets share: their userdata, and calls of Lua from inside a pass. */
#ifndef NNL_DATA_H
#define NNL_DATA_H
#include "nnL.h"
#include "nn_vision.h"

#define NNL_DATASET "nnlua.dataset"

typedef struct nnL_dataset {
  nn_dataset *d; /* NULL while half built */
} nnL_dataset;

typedef struct nnL_caller { /* what nn_iter_next hands on */
  lua_State *L;
  int iterator; /* its stack index */
  bool failed;  /* the error value is on top of the stack */
} nnL_caller;

nn_dataset *nnL_checkdataset(lua_State *L, int arg);
const nn_vision *nnL_checkvision(lua_State *L, int arg); /* lua_vision.c: a list of transforms */
bool nnL_copyvision(lua_State *from, int idx, lua_State *to); /* pushes a copy onto `to`; false: it is none, or memory is out */
/* Between the lines of a traceback in an error's message, which is one line until the message is raised. */
#define NNL_TRACE " <- "
/* The data set d is the result, with the functions of the one at arg 1 when that is a data set. u is made before d, in a statement of its
** own: making it may raise, and the order of arguments is the compiler's. */
nnL_dataset *nnL_newdataset(lua_State *L);
int nnL_givedataset(lua_State *L, nnL_dataset *u, nn_dataset *d);
/* lua_verbs.c: function number `which` of the running pass with the values that are on top of the stack; leaves the error value there on failure. */
lua_Integer nnL_newfunction(lua_State *L, int from, int fn); /* pushes from's functions and the one at fn; its number */
nn_status nnL_callfunction(nnL_caller *m, const char *verb, lua_Integer which, nn_tensor *const *in, int nin, nn_tensor **out, int *nout);
nn_tensor *nnL_totensor(lua_State *L, int idx, const char *verb, int position); /* a new reference: numbers and booleans become scalars */

void nnL_open_verbs(lua_State *L);   /* lua_verbs.c: adds to the table on top of the stack */
void nnL_open_workers(lua_State *L); /* lua_workers.c: the same */

#endif
