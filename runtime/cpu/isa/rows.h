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
/* a: rows x cols, dense -> o[r]; writes VW equal elements at o + r (in ascending order of r) */
typedef void (*nn_rows_reduce_fn)(void *o, const void *a, int64_t rows, int64_t cols);
/* The order of the combinations is a function of cols and VW alone: partial results of at most NN_ROWS_LEAF elements in a balanced tree. join
** does the tree over partial results a[0], a[1], ... of a row of cols elements. */
#define NN_ROWS_LEAF 2048
/* o[r * cols + j] = f(a[r * cols + j], b[r]) (or f(b, a)); cols is a multiple of VW, o may be a */
typedef void (*nn_rows_byrow_fn)(void *o, const void *a, const void *b, int64_t rows, int64_t cols);
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
  const nn_rows_byrow_fn *byrow[2];     /* class F, by nni_pwid, NULL for most: the second operand is the ROW one; the first is */
  nn_rows_reduce_fn square_sum;         /* class F: rsum of square in one go, with the bits of the two apart */
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
