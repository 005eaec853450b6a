/* vulkan/vk.h - what the files of this room share: the device, its memory, its stream, and how a kernel records a dispatch.
**
** Addresses. A buffer's address is (block number + 1) << 40 | offset: base + offset arithmetic works in graph/ as on the host, and following one traps.
** One in-order stream per device: what was recorded earlier happens earlier; barriers only where ranges overlap. Every kernel has one
** descriptor layout: set 0, bindings 0..NN_VK_NBUF-1 storage buffers, then two uniform buffers (std430 layout, NN_VK_PARAMS and NN_VK_INFO).
**   Params: what differs from run to run (learning rate, draw position): an array of nn_vk_param, the run-time parameters of the dispatch.
**   Info:   what the plan fixes: the dispatch's sizes, strides and offsets, written once when a plan is recorded.
** Storage-buffer ranges start at the device's alignment, so a view may start inside: element offsets come in Info (see nn_vk_bind.offset).
**
** How to write a kernel (k_copy.c with shaders/copy.comp is the model):
**   1. shaders/<file>.comp: #include "common.glsl", `layout(local_size_x = 256) in;`, one buffer block per operand at bindings 0, 1, ... declared
**      `readonly` or `writeonly`, INFO { ... }; for the Info block, PARAMS(n) where it reads run-time parameters. The operand's dtype comes as a specialization
**      constant (constant_id 0, 1, ...: nn_dtype numbers, dtype.glsl's names); NN_LOADER / NN_STORER of dtype.glsl declare one buffer under all its
**      element types. CMake finds the file, compiles, checks and embeds it; NN_VK_S_<file> is its number. Math: #include "math.glsl".
**   2. k_<family>.c: nn_status nn_vk_<name>(const nni_kernel_call *k) and size_t nn_vk_<name>_scratch(k); delete the kernel's two lines from the list in vulkan.c.
**        nn_vk_device *d = nn_vk_of(k->dev);
**        nn_vk_bind b[] = {nn_vk_strided(d, &k->in[0]), nn_vk_dense(d, &k->out[0], true)};    ranges; b[i].offset: where element 0 is, in elements
**        struct { uint32_t n, in, out; ... } info = {n, b[0].offset, b[1].offset};              laid out as the shader's Info (std430)
**        uint32_t spec[] = {k->in[0].dtype, k->out[0].dtype};
**        nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_copy, spec, 2, k->err), .bind = b, .nbind = 2, .info = &info, .ninfo = sizeof info};
**        nn_vk_grid(d, (n + 255) / 256, w.groups);                                              shader: NN_INVOCATION is the linear number; return when >= n
**        return nn_vk_dispatch(d, &w, k->err);                                                  fails with the error set when w.pipeline is NULL, too
**      Several dispatches in one kernel are several calls; scratch is a buffer like any other (nn_vk_range). A dispatch of 0 workgroups records nothing.
**   3. Index arithmetic is uint32, modulo 2^32, so negative strides work; divide by run-time sizes with nn_vk_div / fastdiv. Nothing float is atomic; trees have fixed shapes.
**   4. tests/c/test_vulkan_<family>.c with vk_check.h: check_kernel runs the CPU's kernel and ours side by side, recorded and replayed. NNLUA_VK_VALIDATE=1 must stay silent.
**   Ids that may be wrong: nn_vk_check_ids_in first (k_rows.c), and then read nothing outside because of them. Long work: nn_vk_budget. Error messages: as the CPU's.
** Switches (read when a device is opened): NNLUA_VK_VALIDATE=1 core and synchronization validation; NNLUA_VK_BARRIERS=1 a barrier after every dispatch;
** NNLUA_VK_NO_REPLAY=1 record every run anew; NNLUA_VK_NO_FUSION=1 every node by itself; NNLUA_VK_NO_COOPMAT=1 no cooperative matrices;
** NNLUA_VK_NO_LANES=1 a software device makes products as others do;
** NNLUA_VK_MEMORY=<MiB> at most so much device memory; NNLUA_VK_BUDGET=<n> nn_vk_budget is n.
*/
#ifndef NN_VK_H
#define NN_VK_H
#include "../graph/device.h"

#define NN_VK_NBUF 32
#define NN_VK_PARAMS 32 /* binding numbers of the uniform buffers */
#define NN_VK_INFO 33
#define NN_VK_MAXINFO 1024   /* bytes of Info per dispatch */
#define NN_VK_MAXPARAM 256   /* run-time parameters per dispatch */
#define NN_VK_FAULT_WORDS 8

/* One run-time parameter as shaders see it (32 bytes): the double as f32, i32 and i64, and the raw 64 bits (seeds, stream positions). */
typedef struct nn_vk_param { float f; int32_t i; int64_t l; uint64_t u; uint64_t pad; } nn_vk_param;

typedef struct nn_vk_device nn_vk_device;
static inline nn_vk_device *nn_vk_of(nni_device *d) { return (nn_vk_device *)d; } /* it begins with an nni_device */

/* ---- operands (vk_operand.c) ---------------------------------------------------------------------------------------------------- */
/* One storage buffer of a dispatch: the bytes [data, data + bytes), read or written. offset: from the start of the bound range to element 0, in
** elements (also past elements that a negative stride reaches). */
typedef struct nn_vk_bind { const void *data; size_t bytes; uint32_t offset; bool write; } nn_vk_bind;
nn_vk_bind nn_vk_range(const nn_vk_device *d, const void *data, size_t bytes, size_t elem_bytes, bool write);
nn_vk_bind nn_vk_strided(const nn_vk_device *d, const nni_operand *o);           /* all that the view reaches, read */
nn_vk_bind nn_vk_dense(const nn_vk_device *d, const nni_operand *o, bool write); /* a contiguous operand */
uint64_t nn_vk_numel(const nni_operand *o);

/* ---- pipelines (vk_pipeline.c) --------------------------------------------------------------------------------------------------- */
/* A compute pipeline: an embedded shader with its specialization constants, or a generated module. Owned by the device. */
typedef struct nn_vk_pipeline nn_vk_pipeline;
/* shader: number from shaders.h (NN_VK_S_<file>); spec[i] is constant_id i; cached by (shader, constants). NULL: error set. */
nn_vk_pipeline *nn_vk_shader(nn_vk_device *d, int shader, const uint32_t *spec, int nspec, nni_error *err);
nn_vk_pipeline *nn_vk_generated(nn_vk_device *d, const uint32_t *words, size_t nwords, nni_error *err); /* cached by content */

/* ---- recording (vk_dispatch.c, vk_transfer.c) ------------------------------------------------------------------------------------------------------ */
typedef struct nn_vk_work {
  nn_vk_pipeline *pipeline; /* NULL: its error is passed on */
  const nn_vk_bind *bind;   /* binding i is bind[i]; every range that is read or written */
  int nbind;
  const void *info;         /* the Info block, at most NN_VK_MAXINFO bytes */
  size_t ninfo;
  int param, nparam;        /* run-time parameters that the shader sees as Params[0..nparam): param is the call's `param`; nparam 0: none */
  uint32_t groups[3];
  uint64_t ops; /* operations of all groups, roughly (nn_vk_budget's); what its memory takes counts by itself, so 0 where that is the most of it */
} nn_vk_work;
/* No dispatch runs for long: where the estimate is beyond nn_vk_budget its groups are dispatched in parts, which see the same numbers as in one (NN_GROUP). So groups must not
** wait for each other. */
nn_status nn_vk_dispatch(nn_vk_device *d, const nn_vk_work *w, nni_error *err);
/* n workgroups over x, y, z so that no axis passes the device's limit; there may be more than n: the shader uses NN_GROUP and returns when it is past n. */
void nn_vk_grid(const nn_vk_device *d, uint64_t n, uint32_t g[3]);
/* Size of the subgroups of a device that has cooperative matrices (f16, sums in f32), else 0. */
uint32_t nn_vk_cooperates(const nn_vk_device *d);
/* Operations (multiply-adds, say) that one dispatch may do so that it stays far below a second, which drivers take for a hang. nn_vk_dispatch sees to it; a kernel whose single groups would
** grow beyond it cuts its work smaller by itself. */
uint64_t nn_vk_budget(const nn_vk_device *d);
bool nn_vk_is_software(const nn_vk_device *d); /* the CPU behind a driver: kernels keep their tiles small there */
/* Size of the subgroups of a software device where products go by shaders/lanes.glsl, in tiles of NN_VK_LANE_ROWS rows per lane and NN_VK_LANE_COLUMNS columns in
** steps of NN_VK_LANE_STEP; else 0. Mesa's driver leaves a shader's loops after 65535 turns, whatever they say: an inner size is cut into parts of at most
** NN_VK_LANE_LONGEST. */
enum { NN_VK_LANE_ROWS = 4, NN_VK_LANE_COLUMNS = 16, NN_VK_LANE_STEP = 4, NN_VK_LANE_LONGEST = 60000 * NN_VK_LANE_STEP };
uint32_t nn_vk_lanes(const nn_vk_device *d);
nn_status nn_vk_fill(nn_vk_device *d, void *dst, size_t bytes, uint32_t word, nni_error *err); /* vkCmdFillBuffer in the stream; dst and bytes multiples of 4 */
nn_status nn_vk_copy_bytes(nn_vk_device *d, void *dst, const void *src, size_t bytes, nni_error *err); /* nothing when dst == src */

/* Division by a number that the host knows: q = fastdiv(x, div) in common.glsl, right for every uint32 x. d > 0. */
typedef struct nn_vk_div { uint32_t mul, shift; } nn_vk_div;
nn_vk_div nn_vk_divisor(uint32_t d);
static inline uint64_t nn_vk_ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* How (outer, n, inner) is reduced along n (k_reduce.c): a group makes cx columns of one block of `step` elements; strips of columns, blocks along n. By sizes alone. */
typedef struct nn_vk_cut { uint64_t step, blocks, strips; uint32_t cx; } nn_vk_cut;
nn_vk_cut nn_vk_cut_columns(uint64_t outer, uint64_t n, uint64_t inner);
/* out[0] = the sum of `parts` partial results in the scratch, f32, one after the other (k_matmul.c). */
nn_status nn_vk_join_parts(const nni_kernel_call *k, uint32_t parts);

/* Kernels report bad ids by writing to fault words of their own: NN_VK_FAULT_WORDS uint32, 0 before every run; word 0 not 0 afterwards is a failure, and `say` makes
** the message of the words on the host, when the run's end is waited for. ia: what say needs besides (copied; at most NN_VK_FAULT_IA numbers).
** Make the words the same whichever invocation comes first (atomicMin of a position, say), so that messages are. */
#define NN_VK_FAULT_IA 24
typedef nn_status (*nn_vk_say)(const uint32_t *words, const int64_t *ia, int nia, nni_error *err);
nn_status nn_vk_faults(const nni_kernel_call *k, nn_vk_say say, const int64_t *ia, int nia, nn_vk_bind *words);

/* Can the device run this? Refuses what passes its limits (range of one buffer, 2^32 elements) with an error that names the operand. */
nn_status nn_vk_fits(const nn_vk_device *d, const nni_operand *o, nni_error *err);

/* ---- kernels (k_*.c) ----------------------------------------------------------------------------------------------------------------- */
#define NN_KERNEL(name, doc)                        \
  nn_status nn_vk_##name(const nni_kernel_call *k); \
  size_t nn_vk_##name##_scratch(const nni_kernel_call *k);
#include "../ops/kernels.def"
#undef NN_KERNEL

/* Records that ids (contiguous; i64, i32 or u8) must lie in 0..size-1; the run fails otherwise, with the CPU's message (k_rows.c). */
nn_status nn_vk_check_ids_in(const nni_kernel_call *k, const nni_operand *ids, int64_t size, bool classes);

/* ---- row programs (emit.c) ------------------------------------------------------------------------------------------------------------------ */
/* A row program as a SPIR-V 1.5 module; emit.h says what it expects of the dispatch that runs it. words: from nni_malloc (nwords * 4 bytes).
** features: of NN_VK_EMIT_*, the float controls for 32 bits that the device has. */
enum { NN_VK_EMIT_NAN = 1, NN_VK_EMIT_DENORMALS = 2, NN_VK_EMIT_ROUND_EVEN = 4 }; /* shaderSignedZeroInfNanPreserve, DenormPreserve, RoundingModeRTE */
typedef struct nn_vk_module { uint32_t *words; size_t nwords; } nn_vk_module;
nn_status nn_vk_emit(nni_memory *m, const nni_program *p, uint32_t features, nn_vk_module *out, nni_error *err);

/* What a device has done so far. A step of training in its steady state is one replayed run, one submission, and one more for what is read back. */
typedef struct nn_vk_counts {
  uint64_t submissions, recorded, replayed; /* to the queue; runs that were recorded, and that were not */
  uint64_t dispatches, barriers;            /* recorded */
  uint64_t uploads, downloads, pipelines;   /* transfers from and to the host; pipelines compiled */
  uint64_t waits;                           /* times that the host stood still until the device was so far */
} nn_vk_counts;
nn_vk_counts nn_vk_counted(const nni_device *d);
/* SPIR-V embedded in the program, in bytes. */
size_t nn_vk_embedded_bytes(void);
/* Messages of the validation layers so far, in the whole process (0 without NNLUA_VK_VALIDATE=1). */
int nn_vk_messages(void);

#endif
