/* vulkan/k_index.h - what k_index.c needs of k_sort.c: sorting keys within rows. */
#ifndef NN_VK_K_INDEX_H
#define NN_VK_K_INDEX_H
#include "vk.h"

/* Rows of n keys each, sorted stably. */
typedef struct nn_vk_sorting {
  const void *src; /* (rows, n) dense; f32, i32, i64, u8, bool; or NN_VK_KEYS, uint32 as they are */
  uint32_t dtype;
  uint64_t rows, n;
  bool down;
  char *scratch;                  /* nn_vk_sorting_scratch bytes */
  const nni_operand *values, *at; /* results: elements of src in order, i64 positions; or NULL: keys and positions (uint32) are left in scratch */
} nn_vk_sorting;
enum { NN_VK_KEYS = 7 }; /* the number after the last dtype in shaders/dtype.glsl */
size_t nn_vk_sorting_scratch(const nn_vk_sorting *s);
/* keys, at: where they were left (may be NULL when there are results) */
nn_status nn_vk_sort_rows(const nni_kernel_call *k, const nn_vk_sorting *s, char **keys, char **at);

#endif
