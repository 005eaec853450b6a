/* cpu/isa/rows.h - what cpu/program.c and the tile kernels of one instruction-set level agree on.
**
** A tile kernel works on n consecutive elements of one thread's tile. Registers and aliased buffers hold class F, I, L or D (device.h) elements;
** kernels read and write whole vectors, so n is rounded up to VW elements: registers are padded, buffers readable past their end. An operand
** is an array (step = bytes per vector) or a splat (step 0: one vector of VW equal elements).
*/
#ifndef NN_CPU_ROWS_H
#define NN_CPU_ROWS_H
#include "../../graph/device.h"
#include "../isa.h"

#define NN_ROWS_PAD 128   /* bytes a kernel may write past the n elements of a register */
#define NN_ROWS_SPLAT 128 /* bytes of a splat: VW elements of any class */

/* pointwise and casts: o[i] = f(a[i], b[i], c[i]); step[k] is the step of operand k */
typedef void (*nn_rows_fn)(void *o, const void *a, const void *b, const void *c, const int32_t *step, int64_t n);
/* a: rows x cols, dense -> o[r]; writes whole vectors, of a single row one of VW equal elements; of several rows cols <= NN_ROWS_LEAF */
typedef void (*nn_rows_reduce_fn)(void *o, const void *a, int64_t rows, int64_t cols);
/* The order of the combinations is a function of cols and VW alone: partial results of at most NN_ROWS_LEAF elements in a balanced tree. join
** does the tree over partial results a[0], a[1], ... of a row of cols elements. */
#define NN_ROWS_LEAF 2048
/* A chain: light operators of class F applied one after the other to a strip of a few vectors that stays in registers, with the bits of the
** operators one by one. Its first link loads the strip; store and stream write it where it is wanted; a reduction can only be the last link.
** An operator's second argument is memory (_row: one element for the whole row); _into: it is the first argument, the strip the second.
** Rows have cols elements. Reductions: cols <= NN_ROWS_LEAF. */
#define NN_ROWS_LIGHT(UNARY, BINARY) BINARY(add) BINARY(sub) BINARY(mul) BINARY(div) BINARY(minimum) BINARY(maximum) \
  UNARY(neg) UNARY(abs) UNARY(square) UNARY(relu) UNARY(sqrt)
#define NN_ROWS_HEAVY(UNARY, BINARY) NN_ROWS_LIGHT(UNARY, BINARY) UNARY(rsqrt) UNARY(reciprocal) UNARY(exp) UNARY(log) UNARY(tanh) UNARY(sigmoid)
#define NN_ROWS_MAXLINKS 32 /* of a chain, load and end included */
typedef enum nn_rows_linkop {
  NN_LINK_end, NN_LINK_load, NN_LINK_store, NN_LINK_stream, NN_LINK_rsum, NN_LINK_rprod, NN_LINK_rmax, NN_LINK_rmin,
#define NN_X1(name) NN_LINK_##name,
#define NN_X2(name) NN_LINK_##name, NN_LINK_##name##_row, NN_LINK_##name##_into, NN_LINK_##name##_row_into,
  NN_ROWS_HEAVY(NN_X1, NN_X2)
  NN_LINK_count
#undef NN_X1
#undef NN_X2
} nn_rows_linkop;
typedef struct nn_rows_link {
  int32_t op, stride; /* stride: bytes from row to row */
  char *p;
} nn_rows_link;
typedef void (*nn_rows_chain_fn)(const nn_rows_link *k, int nlinks, int64_t rows, int64_t cols); /* k[nlinks] is NN_LINK_end */
/* n elements `stride` elements apart, of the type the row of the table says, to a register; exactly n are read */
typedef void (*nn_rows_load_fn)(void *o, const void *src, int64_t stride, int64_t n);
/* exactly n elements of a register to memory */
typedef void (*nn_rows_store_fn)(void *dst, const void *a, int64_t n);
/* o[r * cols + j] = a[r * astep]; astep 0 or 1 */
typedef void (*nn_rows_expand_fn)(void *o, const void *a, int astep, int64_t rows, int64_t cols);

typedef struct nn_rows {
  int vw;
  const nn_rows_fn *pw[NNI_NCLASS];              /* by class of the operands, then nni_pwid; NULL where the row has no such class */
  const nn_rows_reduce_fn *reduce[NNI_NCLASS];   /* by class of the operand, then nni_redid */
  const nn_rows_reduce_fn *join[NNI_NCLASS];
  nn_rows_chain_fn light, heavy;        /* chains of the operators of NN_ROWS_LIGHT; of all of NN_ROWS_HEAVY, somewhat slower */
  nn_rows_fn cast[NNI_NCLASS][NN_NDTYPE];        /* class -> dtype */
  nn_rows_fn copy[NNI_NCLASS];                   /* o = a */
  nn_rows_load_fn load[NN_NDTYPE];
  nn_rows_store_fn store[NN_NDTYPE];
  void (*stream)(void *dst, const void *a, size_t bytes); /* past the caches; order it before what others read with stream_end */
  void (*stream_end)(void);
  nn_rows_expand_fn expand[NNI_NCLASS];
  void (*random)(float *o, uint64_t seed, uint64_t stream, uint64_t first, int64_t n); /* exactly n draws */
  void (*index)(int64_t *o, int64_t first, int64_t n);
} nn_rows;

NN_ISA_DECL(const nn_rows *, nn_cpu_rows, (void));
#endif
