/* vulkan/vk.h - what the files of this room share: the device, its memory, its stream, and how a kernel records a dispatch.
**
** Addresses. A buffer's address is (block number + 1) << 40 | offset: base + offset arithmetic works in graph/ as on the host, and following one traps.
** One in-order stream per device: what was recorded earlier happens earlier; barriers only where ranges overlap. Every kernel has one
** descriptor layout: set 0, bindings 0..NN_VK_NBUF-1 storage buffers, then two uniform buffers (std430 layout, NN_VK_PARAMS and NN_VK_INFO).
**   Params: what differs from run to run (learning rate, draw position): an array of nn_vk_param, one per run-time parameter of the run.
**   Info:   what the plan fixes: first the dispatch's own words (sizes, strides, ...) as the kernel gave them, written once when a plan is recorded.
** Storage-buffer ranges start at the device's alignment, so a view may start inside: element offsets come in Info (see nn_vk_bind.offset).
*/
#ifndef NN_VK_H
#define NN_VK_H
#include "../graph/device.h"

#define NN_VK_NBUF 32
#define NN_VK_PARAMS 32 /* binding numbers of the uniform buffers */
#define NN_VK_INFO 33
#define NN_VK_MAXINFO 1024 /* bytes of Info per dispatch */

/* One run-time parameter as shaders see it (32 bytes): the double as f32, i32 and i64, and the raw 64 bits (seeds, stream positions). */
typedef struct nn_vk_param { float f; int32_t i; int64_t l; uint64_t u; uint64_t pad; } nn_vk_param;

typedef struct nn_vk_device nn_vk_device; /* begins with an nni_device */

/* One storage buffer of a dispatch: `bytes` from `data` on, read or written. size: bytes per element. dispatch() sets `offset`: elements between
** the start of the bound range and `data`; the kernel puts it into its Info block. */
typedef struct nn_vk_bind { const void *data; size_t bytes; uint32_t size; bool write; uint32_t offset; } nn_vk_bind;
/* Computes the offsets of b[0..n). Call it before the Info block is filled. */
void nn_vk_offsets(const nn_vk_device *d, nn_vk_bind *b, int n);

/* A compute pipeline: an embedded shader with its specialization constants, or a generated module. */
typedef struct nn_vk_pipeline nn_vk_pipeline;
/* shader: number from shaders.h (NN_VK_S_<file>); cached by (shader, constants). NULL: error set. */
nn_vk_pipeline *nn_vk_shader(nn_vk_device *d, int shader, const uint32_t *spec, int nspec, nni_error *err);
nn_vk_pipeline *nn_vk_generated(nn_vk_device *d, const uint32_t *words, size_t nwords, nni_error *err); /* cached by content */

/* Record one dispatch of x * y * z workgroups (split where a grid limit asks for it is the kernel's business: nn_vk_grid). Every range that is read or written is in b.
** info: the Info block, at most NN_VK_MAXINFO bytes. param: number of the first run-time parameter the shader uses (Params is bound from there), -1: none. */
nn_status nn_vk_dispatch(nn_vk_device *d, nn_vk_pipeline *p, const nn_vk_bind *b, int n, const void *info, size_t ninfo, int param, uint32_t x, uint32_t y, uint32_t z, nni_error *err);
/* n workgroups over x, y, z so that no axis passes the device's limit; the shader uses x + y * X + z * X * Y and returns when it is past n. */
void nn_vk_grid(const nn_vk_device *d, uint64_t n, uint32_t g[3]);
nn_status nn_vk_fill(nn_vk_device *d, void *dst, size_t bytes, uint32_t word, nni_error *err); /* vkCmdFillBuffer in the stream; bytes a multiple of 4 */
nn_status nn_vk_copy(nn_vk_device *d, void *dst, const void *src, size_t bytes, nni_error *err);

/* Kernels report a bad id by writing to the error words (binding of nn_vk_faults): word 0 is 0 or the number of the failing dispatch, 1.. what it wants to say.
** The first to fail wins (atomic compare and swap on word 0). `say` turns the words into the message on the host, when the run's end is waited for. */
typedef void (*nn_vk_say)(const uint32_t *words, const int64_t *ia, int nia, nni_error *err);
nn_vk_bind nn_vk_faults(nn_vk_device *d, nn_vk_say say, const int64_t *ia, int nia, uint32_t *number, nni_error *err);

/* emit.c: a row program as a SPIR-V 1.5 module (emit.h: its bindings and Info block). words: from nni_malloc (nwords * 4 bytes). features: of NN_VK_EMIT_*,
** the float controls for 32 bits that the device has (VkPhysicalDeviceFloatControlsProperties). needs: of NN_VK_NEEDS_*. */
enum { NN_VK_EMIT_NAN = 1, NN_VK_EMIT_DENORMALS = 2, NN_VK_EMIT_ROUND_EVEN = 4 }; /* shaderSignedZeroInfNanPreserve, DenormPreserve, RoundingModeRTE */
enum { NN_VK_NEEDS_INT64 = 1, NN_VK_NEEDS_8BIT = 2, NN_VK_NEEDS_16BIT = 4 };      /* shaderInt64, storageBuffer8BitAccess, storageBuffer16BitAccess */
typedef struct nn_vk_module { uint32_t *words; size_t nwords; uint32_t workgroup, needs; } nn_vk_module;
nn_status nn_vk_emit(nni_memory *m, const nni_program *p, uint32_t features, nn_vk_module *out, nni_error *err);

#endif
