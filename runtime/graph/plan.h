/* graph/plan.h - a plan: the window as units (row programs and structural kernels) with their buffers assigned.
**
** A plan depends on the window's key and on which results are visible. It may make more results visible than a run needs (they are then dropped at
** once), so one plan serves every run whose visible results are a subset of its own; when a run needs more, the plan is made anew for the union. That is what keeps
** the hit rate at 100 % although the collector decides when a dead handle stops being visible.
*/
#ifndef NNI_PLAN_H
#define NNI_PLAN_H
#include "graph.h"

typedef enum nni_slotkind { NNI_S_INPUT, NNI_S_TEMP, NNI_S_OUTPUT } nni_slotkind;
typedef struct nni_slot {
  nni_slotkind kind;
  int32_t index;  /* INPUT: number in the window's inputs; OUTPUT: number in plan->output */
  size_t offset;  /* bytes: where the view starts; TEMP: from the start of the run's arena */
} nni_slot;

typedef struct nni_unit {
  bool program;
  bool fallible;            /* it looks at values that may be wrong (ids out of range) */
  int kernel;               /* nni_kernel_id when it is no program */
  void *prog;               /* the device's form of the row program */
  int nin, nout, nparam, nia;
  nni_slot *in, *out;
  nni_operand *op;          /* kernels: nin + nout operands without data; shape and stride point into dims */
  int64_t *ia, *dims;
  int *param;               /* run-time parameters: their numbers in the window */
  nni_program *desc;        /* what prog was made of */
  bool borrowed;            /* prog and desc belong to an earlier unit that does the same */
  int param0;               /* parameters of the units before it */
  int first;                /* number of its first node, for ordering and printing */
  size_t bytes;             /* of the block that holds the arrays above */
} nni_unit;

#define NNI_MAXDONOR 4
typedef struct nni_planout {
  int node, out, unit; /* unit: the one that writes it */
  size_t bytes;
  int ndonor, donor[NNI_MAXDONOR]; /* inputs whose buffer it may take over when nobody else holds them */
} nni_planout;

typedef struct nni_plan {
  struct nni_plan *next;
  uint64_t hash, used;
  uint64_t *key;
  int nkey;
  int nvalue;        /* results of all nodes */
  uint64_t *visible; /* bit per result */
  int nunit, nout, nnode;
  nni_unit *unit;
  nni_planout *output;
  int *unit_of;      /* per node; -1: not run */
  nni_device *dev;
  void *recorded;    /* the device's own, nni_submission.recorded */
  int nparam;        /* of all units together */
  bool fallible;     /* a unit is */
  size_t arena;      /* bytes of all TEMP slots */
  size_t scratch;    /* largest scratch of a unit, for `threads` threads */
  int threads;
} nni_plan;

/* fuse.c: group the live nodes of the window into units. unit_of[i]: unit of node i, -1 for a dead node; units are numbered in the order they run. level[i]: of the
** node within its program (nni_rlevel; a reduction's is FULL, its value is ROW). space: per unit, ndim and shape without dims of size 1. */
typedef struct nni_grouping {
  int nunit;
  int *unit_of;
  uint8_t *level;
  nni_layout *space;     /* only ndim and shape */
  bool *program;
} nni_grouping;
bool nni_fuse(nn_context *ctx, const uint64_t *visible, nni_arena *tmp, nni_grouping *g); /* false: out of memory. All arrays come from tmp */

/* plan.c */
nni_plan *nni_plan_new(nn_context *ctx, uint64_t hash, const uint64_t *visible, int nvalue); /* NULL: error set */
void nni_plan_free(nn_context *ctx, nni_plan *p);

/* run.c: run a plan on these values: input[] by the numbers its slots name, result[] (pending) one per output, all parameters. All memory is taken
** before the first unit starts. On failure *unit is the one to blame, -1 when it is none. Takes from the window's arena. */
nn_status nni_run_on(nn_context *ctx, nni_plan *p, nni_value *const *input, int ninput, nni_value *const *result, const nni_param *param, int *unit);

#endif
