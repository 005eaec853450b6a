/* vulkan/emit_layout.h - what a row program's module depends on besides its instructions, and the words of its Info block.
** Used by emit.c, emit_value.c and emit_layout.c. */
#ifndef NN_VK_EMIT_LAYOUT_H
#define NN_VK_EMIT_LAYOUT_H
#include "emit.h"

/* words of Info: these, the offsets, what the strides need. A divisor is the number, then its nn_vk_div. */
enum { INFO_GROUPS, INFO_ROWS, INFO_COUNT, INFO_COLS /* a divisor */, INFO_OFFSETS = INFO_COLS + 3 };
typedef enum row_walk { ROW_SAME, ROW_PITCH, ROW_STRIDES } row_walk; /* where a row starts: all at one place, row * pitch, by coordinates */
typedef enum col_walk { COL_SAME, COL_NEXT, COL_STRIDE } col_walk;
typedef struct nn_vk_walk { uint8_t row, col; bool linear; } nn_vk_walk; /* linear: element e of the space is element e of the input */
typedef struct nn_vk_layout {
  bool rows;                     /* invocations share rows */
  uint32_t lanes, per_group, workgroup;
  uint32_t each;                 /* elements that an invocation has at once, a workgroup (rows: lanes) apart; 4 keep more loads under way */
  bool resident;                 /* each * lanes elements are a whole row: its values stay in registers, and there are no loops */
  nn_vk_walk in[NNI_PROG_MAXIO];
  uint32_t shape_at, walk_at[NNI_PROG_MAXIO], nwords; /* divisors of dims 1 .. ndim - 2; strides: rows, columns */
} nn_vk_layout;

nn_vk_layout nn_vk_layout_of(const nni_program *p);

#endif
