/* graph/jit.h - a recording (jit.c makes it, jit_replay.c replays it), and what the rest of graph/ tells one that is going on. */
#ifndef NNI_JIT_H
#define NNI_JIT_H
#include "plan.h"

void nni_jit_window(nn_context *ctx);               /* before a window runs: it becomes a segment of the recording */
void nni_jit_read(nn_context *ctx, const nn_tensor *t); /* a value is read: the function may depend on it in ways that no replay sees */

typedef enum nni_jorigin { NNI_J_HANDLE, NNI_J_GRAD, NNI_J_RUN, NNI_J_CONSTANT } nni_jorigin;

typedef struct nni_jslot {
  nni_jorigin from;
  int handle;     /* NNI_J_HANDLE, NNI_J_GRAD */
  nni_value *v;
  nn_dtype dtype;
  int64_t numel;
  nni_device *dev;
  nni_layout l;   /* NNI_J_HANDLE, NNI_J_GRAD: of the tensor; a plan counts on it */
  bool held;      /* needed until the call is over: nobody may take its buffer over */
} nni_jslot;

typedef struct nni_jform { nn_dtype dtype; nni_layout l; int64_t numel; nni_device *dev; } nni_jform; /* of a tensor and its value */

typedef struct nni_jhandle {
  nn_tensor **at;       /* while recording */
  nn_tensor *t, *grad;  /* what it held when the segment began: window references */
  nni_jform value, gradient; /* when it was first used */
  bool requires_grad, has_grad;
  int same_value, same_grad; /* lowest number of a handle's value (2 h) or gradient (2 h + 1) that is the same value */
  nni_value *first, *first_grad; /* with a reference, while recording */
} nni_jhandle;

typedef struct nni_jeffect {
  int handle, slot;  /* slot -1: the gradient is cleared */
  bool grad, requires_grad;
  nni_layout l;
  nn_tensor *next, *old; /* during a replay */
} nni_jeffect;

typedef struct nni_jdraw { int param; uint64_t offset; } nni_jdraw;

typedef struct nni_jsegment {
  nni_plan *plan;    /* NULL: nothing is computed */
  const char **by;   /* per unit: the operator to name when it fails */
  int nin, nparam, ndraw, neffect, capeffect;
  int *in, *out;     /* slots */
  nni_param *param;
  const char **who;  /* per parameter: the operator it was given to, and the caller's line */
  int32_t *line;
  nni_jdraw *draw;
  nni_jeffect *effect;
  int slot0, slot1;  /* slots that it brings */
  uint64_t drawn;    /* stream positions */
  bool host;         /* something of the caller's runs after it */
} nni_jsegment;

typedef struct nni_jresult { int slot; nni_layout l; } nni_jresult;
typedef struct nni_jrenewal { int set, segment, param, n; } nni_jrenewal; /* numbers: n parameters in a row */

struct nn_jit {
  nn_context *ctx;
  nni_jslot *slot;
  int nslot, capslot;
  nni_jhandle *handle;
  int nhandle, caphandle;
  nni_jsegment *segment;
  int nsegment, capsegment;
  nni_jresult *result;
  int nresult;
  nni_jrenewal *renewal;
  int nrenewal, caprenewal, nset; /* set: what one optimizer step used. nset counts them, in a replay those that were given */
  int *renews;                    /* segments before which the caller is asked */
  int nrenews, caprenews;
  nni_value **value; /* per slot, during a replay */
  nn_rng_state rng;  /* where the present segment began */
  int suspended;
  bool refused;
  char why[300];
};

nni_jform nni_jit_form(const nn_tensor *t);
bool nni_jit_same_layout(const nni_layout *a, const nni_layout *b);

#endif
