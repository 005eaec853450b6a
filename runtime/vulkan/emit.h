/* vulkan/emit.h - row programs as SPIR-V modules: what the module expects of the dispatch that runs it. Emitting is nn_vk_emit (vk.h).
**
** Bindings of set 0: input i at i (readonly), output j at nin + j (writeonly), Params at NN_VK_PARAMS (an array of nn_vk_param; only when the program
** has parameters), Info at NN_VK_INFO (uint32 words). An output may be the memory of an input that the planner let it take (device.h): an element,
** or in programs of rows an element of the row, is read before it is written, by the same invocation or across a barrier.
**
** The module depends on the program's instructions, and on its shape only through what nn_vk_emit looks at: how each input is walked (not by how
** many elements) and the bracket of cols. So programs that differ in sizes share a module, word for word.
** Parameters: class I reads nn_vk_param.i, L .l, F .f, saturated by the host as cpu/program_run.c does (NaN: 0); seeds and streams .u.
*/
#ifndef NN_VK_EMIT_H
#define NN_VK_EMIT_H
#include "vk.h"

/* Info for one dispatch, and its workgroups (spread over x, y, z by nn_vk_grid). */
typedef struct nn_vk_rowinfo {
  uint32_t word[NN_VK_MAXINFO / 4];
  uint32_t nwords, groups;
} nn_vk_rowinfo;
/* offset: elements between the start of each bound range and the view: nin inputs, then nout outputs. false: more than 2^32 - 1 elements. */
bool nn_vk_rowinfo_fill(const nni_program *p, const uint32_t *offset, nn_vk_rowinfo *out);
/* Parameters that the program reads: slots 0 .. n - 1. */
int nn_vk_param_count(const nni_program *p);

#endif
