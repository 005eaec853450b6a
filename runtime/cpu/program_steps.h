/* cpu/program_steps.h - the compiled form of a row program: made by program.c, run by program_run.c, seen by nobody else.
**
** Work is cut into tiles: `nrows` whole rows, or one segment of a row. A value is a step's result and has a shape in the tile:
**   CONST  the same in all tiles: a splat, filled once per run and thread
**   ROW    one element per row of the tile; a splat when tiles have one row
**   FULL   an element per point, rows dense one after the other
** Rows are cut into segments when nothing needs them whole; a very long row with reductions at its end is cut too (split).
** Steps that hand their results to the next may form a chain (isa/rows.h), which stands where its last link does: program_chain.c.
** Steps come in three groups: prologue (once per run and thread), body, and stores that the body could not do itself.
*/
#ifndef NN_CPU_PROGRAM_STEPS_H
#define NN_CPU_PROGRAM_STEPS_H
#include "isa/rows.h"

typedef enum shape { CONST, ROW, FULL } shape;
typedef enum step_kind {
  S_ALIAS,     /* the value is the input's memory */
  S_LOAD,      /* FULL: copied and converted from an input */
  S_LOAD_ROW,  /* ROW or CONST likewise */
  S_PARAM, S_RANDOM, S_INDEX,
  S_PW,        /* pointwise operator, cast or copy: fn */
  S_REDUCE,
  S_EXPAND,    /* to FULL, or CONST to ROW */
  S_STORE
} step_kind;

enum { SEGMENTS = 1, ROWS = 2 };

typedef struct step {
  uint8_t kind, cls, shape; /* of the result */
  uint8_t src_cls;          /* class of operand 0 */
  uint8_t dtype, lanes;     /* lanes: elements per vector of fn */
  uint8_t cost;             /* 0.01 ns per element, about, at 16 lanes */
  bool prologue, direct;    /* direct: FULL result computed in the memory of output io when that is safe */
  bool dense;               /* S_LOAD, S_ALIAS: element e of the space is element e of the input */
  int16_t a[3];             /* operands: step numbers; -1 */
  int16_t self;             /* own number, the number of the value */
  int16_t io;               /* input, output, parameter; number of a reduction */
  uint8_t phases, op;       /* SEGMENTS, ROWS; nni_redid of a reduction; of S_PW the link that it can be, 0: none */
  int32_t step[3];          /* bytes operand k advances per vector; 0: a splat. In a chain step[0]: bytes that `other` advances per row */
  bool chained, keeps;      /* keeps: the value of a link is wanted outside the chain (always for other steps) */
  bool by_row;              /* first link: the chain goes row by row */
  uint8_t nlinks, link;     /* first link: steps of the chain, 0 elsewhere; nn_rows_linkop */
  int8_t other;             /* operand of a link that is not the strip, -1 */
  int16_t next, head;       /* in a chain: the link after this one, -1; the first (until steps are sorted) */
  union {
    nn_rows_fn pw;
    nn_rows_reduce_fn reduce;
    nn_rows_chain_fn chain; /* first link */
    nn_rows_load_fn load;
    nn_rows_store_fn store;
    nn_rows_expand_fn expand;
  } fn;
  int32_t last;             /* position of the last step that reads the value */
  int64_t reg;              /* its register's place in a thread's scratch; -1: none */
} step;

typedef struct program {
  size_t bytes;             /* of this block */
  const nn_rows *k;
  int ndim;
  int64_t shape[NN_MAXDIM], rows, cols;
  int64_t tile_rows, seg, nseg; /* a tile: tile_rows rows, or (nseg > 1) seg of one row */
  int64_t ntiles;
  int nin, nout;
  int64_t in_stride[NNI_PROG_MAXIO][NN_MAXDIM];
  uint8_t in_size[NNI_PROG_MAXIO], out_size[NNI_PROG_MAXIO], out_shape[NNI_PROG_MAXIO]; /* sizes: bytes per element */
  int16_t out_direct[NNI_PROG_MAXIO];   /* the value computed in place; -1 */
  uint32_t out_conflict[NNI_PROG_MAXIO]; /* inputs still read after that: then it must not share their memory */
  uint32_t out_stream;      /* outputs that go to memory past the caches: a line that is written whole is not read first */
  uint32_t out_link;        /* outputs that a link can write there itself: all its rows start at whole vectors */
  bool parallel;
  bool down;                /* tiles in the order of segments, then rows */
  bool split;               /* segments leave partial reductions in the shared part of the scratch; a second pass over the rows joins them */
  int nreduce;
  size_t shared;            /* bytes, before those of the threads */
  size_t scratch;           /* bytes per thread: pointers of the values, then registers */
  int nsteps, nprologue, nbody; /* order: prologue, body, stores */
  step steps[];
} program;

/* Joins steps into chains. Before they are sorted; first, second: as many elements each as there are steps. */
void nn_cpu_program_chain(program *p, int16_t *first, int16_t *second);
#endif
