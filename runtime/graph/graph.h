/* graph/graph.h - the context, the window of recorded nodes, the gradient history (tape).
**
** A call records one or more nodes into the window; a run turns the window into a plan (or finds it in the cache) and hands it to the device. Nodes live in
** the window's arena and are gone after the run. What differentiation needs is kept apart, in tape entries that tensors hold.
*/
#ifndef NNI_GRAPH_H
#define NNI_GRAPH_H
#include "../ops/ops.h"
#include "device.h"

#define NNI_WINDOW_CAP 3000 /* nodes after which a window runs by itself */

typedef struct nni_node {
  uint8_t kind;  /* nni_nodekind */
  uint8_t nin, nout, npa;
  uint16_t op;   /* nni_pwid, nni_redid or nni_kernel_id */
  uint16_t nia;
  nn_dtype cdtype;   /* dtype of the operands (pointwise, reduce) */
  int32_t line;      /* of the caller, 0 when unknown */
  int32_t param;     /* number of its first run-time parameter in the window */
  nn_tensor **in;    /* NULL: the operand is the next run-time parameter */
  nni_value **out;
  nni_out *oshape;
  int64_t *ia;
  nni_param *pa;
  const char *by;    /* name of the operator that recorded it, for messages; may be NULL */
} nni_node;

typedef struct nni_window {
  nni_arena arena;
  nni_node **node;
  int n, cap;
  nni_value **input; /* values from before the window, in order of first use; each with a reference */
  int ninput, inputcap;
  uint64_t *key;     /* what the plan depends on, as words */
  int nkey, keycap;
  nni_device *dev;   /* of all its nodes */
  int nparam;
  uint32_t stamp;
  nn_rng_state rng;  /* stream position when the window was empty */
  nn_tensor **assigned; /* nn_assign: journal */
  int nassigned, assignedcap;
} nni_window;

struct nni_plan;
struct nn_context {
  nni_core core; /* first: tensor/ sees only this part */
  nni_device *dev[NN_MAXDEVICE]; /* those that were asked for; dev[0] is the CPU */
  bool several;        /* a device beside the CPU was opened: before that nobody needs to ask where anything lies */
  nni_device *current; /* where tensors are created that nothing else decides */
  nni_device *among;   /* where the arguments of the operator lie that is being called; NULL between calls */
  nni_window win;
  struct nni_plan *plans[256]; /* hash chains */
  int nplans;
  uint64_t plan_clock;
  bool grad_enabled, eager, exact, running;
  nn_matmul_precision matmul_precision;
  int no_tape;      /* > 0 inside a rule whose operator has a gradient of its own */
  uint64_t tape_seq;
  uint32_t tape_mark;
  nn_rng_state rng;
  nn_hooks hooks;
  int line;
  bool check_finite;
  struct nni_trace *trace; /* NULL: never asked for */
  struct nn_jit *jit;      /* the recording that is going on, or NULL */
  nn_run_info info;
};

/* ---- tape -------------------------------------------------------------------------------------------------------------- */
typedef struct nni_edge { /* a tensor argument, as far as gradients need it */
  struct nni_tape *tape;  /* who made it, with a reference; NULL for a leaf */
  nn_tensor *leaf;        /* the leaf, with a reference */
  nn_tensor *saved;       /* the argument itself when the gradient uses it */
  bool need;
  uint8_t out;
  nn_dtype dtype;
  int32_t ndim;
  int64_t shape[NN_MAXDIM];
} nni_edge;

typedef struct nni_tape {
  int32_t refs;
  uint32_t mark;
  uint64_t seq;
  size_t bytes;
  const nn_op *op;
  int nargs, nedge, nout;
  bool freed;
  nn_custom custom; /* backward NULL: the operator's own gradient */
  nn_arg *arg;     /* the call's arguments; tensors are NULL here, see edge */
  nni_edge *edge;  /* one per tensor argument, lists flattened */
  struct { nni_value *v; nni_layout l; nn_tensor *d; } *res; /* results: value when saved; cotangent during backward */
} nni_tape;

/* ---- runs ---------------------------------------------------------------------------------------------------------------- */
nn_status nni_run(nn_context *ctx);       /* run the window */
void nni_window_init(nn_context *ctx);
void nni_window_drop(nn_context *ctx, bool failed); /* forget the nodes; failed: their results are lost, assignments undone */
void nni_window_close(nn_context *ctx);
void nni_plans_free(nn_context *ctx);      /* the whole cache */

/* ---- bounds of integers (bounds.c) ------------------------------------------------------------------------------------------- */
void nni_bounds_look(nni_value *v, const void *elements);  /* v's elements, which the host has */
void nni_bounds_follow(const nni_node *n);                 /* of its result, from those of its arguments */
bool nni_bounds_suffice(const nni_node *n);                /* a kernel that fails on bad ids: can it not? */

/* ---- devices (devices.c) --------------------------------------------------------------------------------------------------- */
nn_status nni_devices_open(nn_context *ctx);   /* the CPU */
void nni_devices_close(nn_context *ctx);
nn_status nni_choose_device(nn_context *ctx, nn_tensor *const *in, int nin, nni_device **dev); /* of a node with these arguments (NULL entries: none) */
nni_device *nni_device_among(const nn_arg *arg, int nargs); /* of the first tensor; NULL: there is none */

#endif
