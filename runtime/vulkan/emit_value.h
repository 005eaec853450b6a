/* vulkan/emit_value.h - what emit.c and emit_value.c share: the state of an emitter, the instructions that both write, and the values of a program.
*/
#ifndef NN_VK_EMIT_VALUE_H
#define NN_VK_EMIT_VALUE_H
#include "emit_formula.h"
#include "emit_layout.h"

enum { MAX_BATCH = 3, MOST_EACH = 4 }; /* reductions that share a tree (at most 15 KiB of shared memory); layout.each */

typedef struct value { uint32_t id, mask; uint8_t cls, dtype; } value; /* id or mask may be 0: made from the other when asked for */
typedef struct emitter {
  module o;
  const nni_program *p;
  nn_vk_layout l;
  value *all, *v;          /* of the elements that an invocation has at once, one after the other; of the element in hand */
  uint8_t *depth, *need;   /* depth: reductions on the longest way to an instruction */
  uint8_t *made;           /* FULL values that stay in registers */
  uint32_t in[NNI_PROG_MAXIO], out[NNI_PROG_MAXIO], in_base[NNI_PROG_MAXIO], in_step[NNI_PROG_MAXIO], out_base[NNI_PROG_MAXIO];
  uint32_t info, params, info_word[NN_VK_MAXINFO / 4]; /* info_word: those read in scope 0 */
  uint32_t u32, yes_no;    /* types */
  uint32_t lane, local, row, col, linear, valid, cols; /* lane: within the row; valid: 0 or "the row exists" */
  uint32_t shared_value[NNI_NCLASS][MAX_BATCH], shared_at[MAX_BATCH];
} emitter;

static inline uint32_t uint_of(emitter *e, uint32_t x) { return nn_vk_constant_uint(&e->o, x); }
static inline uint32_t op_uint(emitter *e, uint32_t op, uint32_t a, uint32_t b) { return nn_vk_pure(&e->o, op, e->u32, IDS(a, b)); }
static inline uint32_t op_bool(emitter *e, uint32_t op, uint32_t a, uint32_t b) { return nn_vk_pure(&e->o, op, e->yes_no, IDS(a, b)); }
static inline uint32_t pointer(emitter *e, uint32_t storage, uint32_t type) { return nn_vk_declare(&e->o, OpTypePointer, 0, IDS(storage, type)); }
static inline uint32_t load(emitter *e, uint32_t type, uint32_t from) { return nn_vk_result(&e->o, OpLoad, type, IDS(from)); }
static inline void store(emitter *e, uint32_t to, uint32_t x) { nn_vk_put(&e->o, &e->o.body, OpStore, IDS(to, x)); }
static inline bool is_half(int d) { return d == NN_F16 || d == NN_BF16; }

/* types, buffers and uniform blocks of the module, before anything else */
void nn_vk_emit_declare(emitter *e);
uint32_t nn_vk_emit_builtin(emitter *e, uint32_t which, uint32_t type);
uint32_t nn_vk_emit_info(emitter *e, uint32_t word);
uint32_t nn_vk_emit_group(emitter *e);                            /* the number of the workgroup: x + nx (y + ny z) */
uint32_t nn_vk_emit_divide(emitter *e, uint32_t x, uint32_t word); /* x / the divisor at `word` */
void nn_vk_emit_bases(emitter *e);                                /* where the row in hand starts in inputs and outputs */
uint32_t nn_vk_emit_id(emitter *e, int i);                        /* the value of instruction i */
uint32_t nn_vk_emit_widen(emitter *e, uint32_t x);                /* uint32 -> i64 */
value nn_vk_emit_cast(emitter *e, value from, uint32_t x, nn_dtype d); /* a value converted to dtype d: as cpu/isa/rows_io.c */
void nn_vk_emit_value(emitter *e, int n);                         /* instruction n, of the element in hand */
void nn_vk_emit_store(emitter *e, const nni_rinstr *i);

#endif
