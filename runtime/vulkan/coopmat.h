/* vulkan/coopmat.h - cooperative matrices, what can be decided and tested without a device: which shape to use, which products can go that way, and the
** words of a shader in the form that a driver takes. Included by vk_device.h, k_matmul.c and tests.
*/
#ifndef NN_VK_COOPMAT_H
#define NN_VK_COOPMAT_H
#include "../graph/device.h"

/* One entry of a driver's list (of the extension's VkCooperativeMatrixProperties..., whose numbers for types and scopes are the same in both extensions). */
enum { NN_VK_CM_F16 = 0, NN_VK_CM_F32 = 1, NN_VK_CM_SUBGROUP = 3 };
typedef struct nn_vk_coopmat { uint32_t M, N, K, a, b, c, result, saturating, scope; } nn_vk_coopmat;
typedef enum nn_vk_coopform { NN_VK_CM_NONE, NN_VK_CM_NV, NN_VK_CM_KHR } nn_vk_coopform;

/* Is 16x16x16 of f16 with sums in f32, by a subgroup, in the list? */
bool nn_vk_coopmat_listed(const nn_vk_coopmat *list, uint32_t n);

/* How a product is cut for shaders/matmul_coopmat.comp on a device with subgroups of that size. */
typedef struct nn_vk_cooptile { uint32_t subgroups, m, n, k, wm, wn; } nn_vk_cooptile;
bool nn_vk_coopmat_tile(uint32_t subgroup, uint64_t M, uint64_t N, nn_vk_cooptile *t); /* false: not for subgroups of that size */

/* May a (..., M, K) or b (..., K, N) be read eight elements at a time, from element `from` of the bound range on? */
bool nn_vk_coopmat_aligned(const nni_operand *o, uint32_t from);

/* SPV_NV_cooperative_matrix -> SPV_KHR_cooperative_matrix. A matrix type's use follows from its sizes, so constants 10, 11 and 12 (TM, TN, TK) must be three
** ids. Writes at most room words; how many, or 0 when the module is not as expected or there is no room. NN_VK_CM_MORE: words that it may grow by, besides one per
** matrix type. */
#define NN_VK_CM_MORE 64
size_t nn_vk_coopmat_patch(const uint32_t *in, size_t n, uint32_t *out, size_t room);
#endif
