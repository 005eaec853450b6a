/* nn.h - the public interface of nnlua's C runtime.
**
** A tensor is a value: `nn_tensor` is immutable and reference counted, so views and copies are free and nothing aliases.
** Calling an operator checks its arguments, infers the result at once and only records a node; recorded nodes run when a
** value is read (nn_read, nn_item), at nn_eval, and when the pending window reaches its size cap.
**
** Conventions: functions that can fail return nn_status, or NULL for a tensor; the context then holds a one-line
** message (nn_error). A function that returns a tensor returns a new reference (nn_release it). A context and its tensors belong
** to one thread at a time; the runtime's own threads never call back. Positions and dims are 0-based here (1-based in Lua).
*/
#ifndef NN_H
#define NN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NN_API __attribute__((visibility("default")))
#else
#define NN_API
#endif

#define NN_VERSION "0.1.0"
#define NN_MAXDIM 8 /* most dimensions a tensor can have */

typedef struct nn_context nn_context;
typedef struct nn_tensor nn_tensor;
typedef struct nn_op nn_op; /* a row of the operator table */

/* ---- status -------------------------------------------------------------------------------------------------------- */
#define NN_STATUS_MAP(X)                            \
  X(OK, "ok")                                       \
  X(EINVAL, "invalid argument")                     \
  X(ESHAPE, "shapes do not fit")                    \
  X(EDTYPE, "dtype does not fit")                   \
  X(EINDEX, "index out of range")                   \
  X(ENOMEM, "out of memory")                        \
  X(EIO, "input/output error")                      \
  X(EFORMAT, "malformed file")                      \
  X(ENOTFOUND, "not found")                         \
  X(EUNSUPPORTED, "not supported")                  \
  X(EDEVICE, "device error")                        \
  X(EINTERRUPT, "interrupted")                      \
  X(ELOST, "value lost by a run that failed")       \
  X(EINTERNAL, "internal error (a bug in nnlua)")
typedef enum nn_status {
#define NN_X(name, text) NN_##name,
  NN_STATUS_MAP(NN_X)
#undef NN_X
} nn_status;
NN_API const char *nn_status_text(nn_status s);      /* "out of memory" */
NN_API const char *nn_error(const nn_context *ctx);  /* message of the last failure, "" when none */

/* ---- dtypes -------------------------------------------------------------------------------------------------------- */
/* X(enum, name, C type, bytes); order is promotion order (but f16 with bf16: f32). f16 and bf16 are stored; arithmetic is f32 */
#define NN_DTYPE_MAP(X)          \
  X(BOOL, "bool", uint8_t, 1)    \
  X(U8, "u8", uint8_t, 1)        \
  X(I32, "i32", int32_t, 4)      \
  X(I64, "i64", int64_t, 8)      \
  X(F16, "f16", uint16_t, 2)     \
  X(BF16, "bf16", uint16_t, 2)   \
  X(F32, "f32", float, 4)        \
  X(F64, "f64", double, 8)
typedef enum nn_dtype {
#define NN_X(name, text, type, bytes) NN_##name,
  NN_DTYPE_MAP(NN_X)
#undef NN_X
  NN_NDTYPE
} nn_dtype;
NN_API const char *nn_dtype_name(nn_dtype d);
NN_API size_t nn_dtype_size(nn_dtype d);                    /* bytes per element */
NN_API bool nn_dtype_from_name(const char *s, nn_dtype *d); /* accepts "f32", "float32", "int64", ... */
NN_API nn_dtype nn_dtype_promote(nn_dtype a, nn_dtype b);
NN_API bool nn_dtype_is_float(nn_dtype d);
/* One element in memory, of any alignment. A float is read to both (i is 0 where it does not fit), and written from f; an integer from i, a bool from f. */
NN_API void nn_element_read(nn_dtype d, const void *p, double *f, int64_t *i);
NN_API void nn_element_write(nn_dtype d, void *p, double f, int64_t i);
NN_API int64_t nn_element_int(nn_dtype d, double f); /* the integer that f becomes, as cast does: without its fraction, NaN 0, at the limits beyond them */

/* ---- context ------------------------------------------------------------------------------------------------------- */
/* Every byte of the runtime comes through one function, as in Lua: nsize == 0 frees; NULL means failure. Must be thread-safe. */
typedef void *(*nn_alloc_fn)(void *ud, void *ptr, size_t osize, size_t nsize);

typedef struct nn_options {
  nn_alloc_fn alloc; /* NULL: malloc family */
  void *alloc_ud;
  int threads;       /* 0: as many as the process may use */
  uint64_t seed;     /* of the random streams */
} nn_options;

NN_API nn_status nn_open(const nn_options *opt, nn_context **out); /* opt may be NULL */
NN_API void nn_close(nn_context *ctx);                             /* after the last tensor was released */
NN_API nn_status nn_set_threads(nn_context *ctx, int n);           /* results never depend on n */
NN_API int nn_threads(const nn_context *ctx);
NN_API const char *nn_cpu_level_name(void);                        /* "x86-64-v3": the kernels in use */
NN_API const char *nn_cpu_kernels_name(void);                      /* and whose products: "x86-64-v2 with OpenBLAS Haswell"; others round otherwise */
NN_API void nn_set_eager(nn_context *ctx, bool on);                /* run each node as it is recorded */
NN_API bool nn_eager(const nn_context *ctx);
NN_API void nn_set_exact(nn_context *ctx, bool on);                /* convolutions without Winograd: slower, errors near 1e-6 instead of 1e-5 */
NN_API bool nn_exact(const nn_context *ctx);
typedef enum nn_matmul_precision { NN_MATMUL_HIGHEST, NN_MATMUL_HIGH, NN_MATMUL_MEDIUM } nn_matmul_precision;
/* Products of f32 matrices: strict f32 (the start; "high" is the same), or with operands that may be rounded to f16 on devices where that is faster. Not the CPU. */
NN_API void nn_set_matmul_precision(nn_context *ctx, nn_matmul_precision p);
NN_API nn_matmul_precision nn_get_matmul_precision(const nn_context *ctx);
NN_API void nn_seed(nn_context *ctx, uint64_t seed);               /* restart the random stream */
typedef struct nn_rng_state { uint64_t seed, position; } nn_rng_state;
NN_API nn_rng_state nn_rng_get(const nn_context *ctx);
NN_API void nn_rng_set(nn_context *ctx, nn_rng_state s);

typedef struct nn_memory_info {
  size_t live, cached, peak; /* bytes in tensors, kept for re-use, most ever live */
  uint64_t allocated;        /* bytes ever handed out (paces Lua's collector) */
} nn_memory_info;
NN_API nn_memory_info nn_memory(const nn_context *ctx); /* of all devices that were asked for */
NN_API void nn_memory_trim(nn_context *ctx); /* give cached blocks back to the system */

/* ---- devices --------------------------------------------------------------------------------------------------------
** Device 0 is the CPU, devices 1.. are what the Vulkan loader lists (discrete before integrated before virtual before software). A device is opened when it is first
** asked for. An operator computes where its arguments lie; tensors made from nothing lie on the current device. f64 and the LAPACK operators are the CPU's. */
#define NN_MAXDEVICE 16
typedef struct nn_device_info {
  char name[24], title[256], driver[256], kind[16]; /* "vulkan:1", "Radeon RX 6600", "Mesa 22.3.6", "cpu"|"discrete"|"integrated"|"virtual"|"software" */
  uint64_t memory;    /* bytes of its largest heap of its own; 0: not known */
  uint32_t subgroup;  /* lanes that run together; 0 for the CPU */
  char features[256]; /* words such as "f16 coopmat" */
} nn_device_info;
NN_API int nn_device_count(nn_context *ctx);                                          /* at least 1 */
NN_API nn_status nn_device_describe(nn_context *ctx, int device, nn_device_info *info);
NN_API nn_status nn_device_properties(nn_context *ctx, int device, char *buf, size_t n); /* what a Vulkan device's driver says of it: lines "name: value" */
NN_API nn_status nn_device_find(nn_context *ctx, const char *name, int *device);      /* "cpu", "vulkan" (the first), "vulkan:2" */
NN_API nn_status nn_set_device(nn_context *ctx, int device);                          /* make it the current one */
NN_API int nn_device(const nn_context *ctx);
NN_API int nn_device_of(const nn_tensor *t);
NN_API const char *nn_device_name(nn_context *ctx, int device);                       /* of one that is open */
NN_API nn_tensor *nn_to_device(nn_tensor *t, int device);                             /* a copy there (t itself when it is there); differentiable */
NN_API nn_status nn_device_memory(nn_context *ctx, int device, nn_memory_info *info); /* of one that is open; zeros otherwise */
NN_API const char *nn_kernel_without_vulkan(int i);                                   /* i-th kernel that only the CPU has, NULL past the end */
NN_API nn_status nn_finish(nn_context *ctx); /* run what is pending and wait until every device has done it */

typedef struct nn_run_info {
  uint64_t runs, plan_hits, plan_misses; /* windows run; plans found in the cache; plans built */
  uint64_t nodes, units;                 /* nodes recorded; kernels launched */
  uint64_t submissions, uploads, downloads, waits; /* of all devices beside the CPU: work handed to them, transfers from and to the host, times that the host stood still for one */
} nn_run_info;
NN_API nn_run_info nn_run_stats(const nn_context *ctx);
NN_API uint64_t nn_runs(const nn_context *ctx); /* its first number alone */

/* Hooks: `collect` is asked to drop unreachable handles (level 0 young, 1 full); `interrupted` is polled between kernels. */
typedef struct nn_hooks {
  void (*collect)(void *ud, int level);
  bool (*interrupted)(void *ud);
  void *ud;
} nn_hooks;
NN_API void nn_set_hooks(nn_context *ctx, nn_hooks h);

/* ---- tensors ------------------------------------------------------------------------------------------------------- */
/* shape may be NULL when ndim is 0 (a scalar). data is copied, row-major; NULL gives zeros. */
NN_API nn_tensor *nn_tensor_new(nn_context *ctx, nn_dtype d, int ndim, const int64_t *shape, const void *data);
NN_API nn_tensor *nn_scalar(nn_context *ctx, nn_dtype d, double value);
NN_API nn_tensor *nn_retain(nn_tensor *t); /* returns t; NULL is allowed */
NN_API void nn_release(nn_tensor *t);      /* NULL is allowed */
NN_API nn_context *nn_context_of(const nn_tensor *t);
NN_API nn_dtype nn_dtype_of(const nn_tensor *t);
NN_API int nn_ndim(const nn_tensor *t);
NN_API const int64_t *nn_shape(const nn_tensor *t);
NN_API int64_t nn_numel(const nn_tensor *t);
NN_API bool nn_is_contiguous(const nn_tensor *t);
NN_API int nn_shape_text(const nn_tensor *t, char *buf, size_t n); /* "64x784"; "scalar" */

/* Reading runs what is pending. nn_read writes the elements row-major; bytes must be numel * element size. */
NN_API nn_status nn_read(nn_tensor *t, void *dst, size_t bytes);
NN_API nn_status nn_item(nn_tensor *t, double *v, int64_t *i); /* one element; either pointer may be NULL */
/* Pointer to the elements, row-major and contiguous, valid while t lives; NULL on failure. */
NN_API const void *nn_data(nn_tensor *t);
NN_API nn_status nn_eval(nn_context *ctx); /* run everything that is pending */

/* ---- operators ----------------------------------------------------------------------------------------------------- */
typedef enum nn_argkind { NN_ARG_NONE, NN_ARG_TENSOR, NN_ARG_FLOAT, NN_ARG_INT, NN_ARG_INTS, NN_ARG_TENSORS, NN_ARG_TEXT } nn_argkind;
typedef struct nn_arg {
  nn_argkind kind;
  int n; /* length of ints / tensors */
  union {
    nn_tensor *t;
    double f;
    int64_t i;
    const int64_t *ints;
    nn_tensor *const *tensors;
    const char *s;
  } u;
} nn_arg;
#define NN_NONE ((nn_arg){.kind = NN_ARG_NONE})
#define NN_T(x) ((nn_arg){.kind = NN_ARG_TENSOR, .u.t = (x)})
#define NN_F(x) ((nn_arg){.kind = NN_ARG_FLOAT, .u.f = (x)})
#define NN_I(x) ((nn_arg){.kind = NN_ARG_INT, .u.i = (x)})
#define NN_INTS(count, p) ((nn_arg){.kind = NN_ARG_INTS, .n = (count), .u.ints = (p)})
#define NN_TENSORS(count, p) ((nn_arg){.kind = NN_ARG_TENSORS, .n = (count), .u.tensors = (p)})
#define NN_TEXT(x) ((nn_arg){.kind = NN_ARG_TEXT, .u.s = (x)})

#define NN_MAXARG 12
#define NN_MAXOUT 4

NN_API const nn_op *nn_op_find(const char *name); /* NULL when there is none */
NN_API const nn_op *nn_op_at(int i);              /* i-th row of the table, NULL past the end */
NN_API const char *nn_op_name(const nn_op *op);
NN_API const char *nn_op_signature(const nn_op *op); /* see ops/ops.h */
NN_API const char *nn_op_doc(const nn_op *op);
NN_API bool nn_op_differentiable(const nn_op *op);
/* Call an operator. Missing trailing arguments take the signature's defaults. out receives *nout references. */
NN_API nn_status nn_op_call(nn_context *ctx, const nn_op *op, const nn_arg *args, int nargs, nn_tensor **out, int *nout);
/* The first result of the operator `name`, NULL on failure: nn_call(ctx, "matmul", NN_T(x), NN_T(w)) */
NN_API nn_tensor *nn_call_(nn_context *ctx, const char *name, const nn_arg *args, int nargs);
#define nn_call(ctx, name, ...) \
  nn_call_((ctx), (name), (const nn_arg[]){__VA_ARGS__}, (int)(sizeof((nn_arg[]){__VA_ARGS__}) / sizeof(nn_arg)))

/* ---- gradients ----------------------------------------------------------------------------------------------------- */
/* A leaf that wants a gradient: shares t's value. Float tensors only. */
NN_API nn_tensor *nn_variable(nn_tensor *t);
NN_API bool nn_requires_grad(const nn_tensor *t);
NN_API nn_tensor *nn_detach(nn_tensor *t); /* same value, no history */
NN_API bool nn_grad_enabled(const nn_context *ctx);
NN_API bool nn_set_grad_enabled(nn_context *ctx, bool on); /* returns the previous setting */
/* Add d(loss)/d(leaf) to every leaf reached. dloss: cotangent of loss's shape, NULL for a scalar loss. */
NN_API nn_status nn_backward(nn_tensor *loss, nn_tensor *dloss, bool retain_graph, bool create_graph);
/* d(sum outputs*douts)/d(inputs) into grads (new references, NULL where an input is not reached); .grad is not touched */
NN_API nn_status nn_grad(nn_tensor *const *outputs, nn_tensor *const *douts, int nout, nn_tensor *const *inputs, int nin,
                         bool retain_graph, bool create_graph, nn_tensor **grads);
NN_API nn_tensor *nn_grad_of(nn_tensor *leaf);              /* borrowed; NULL when there is none */
NN_API void nn_set_grad(nn_tensor *leaf, nn_tensor *grad);  /* NULL clears */
/* A leaf with next's value that takes the place of `prev`: inherits requires_grad and gradient (moved to prev's device if need be). If the run that would compute it fails it
** falls back to prev's value, so a failed step loses nothing; when nobody else holds prev its buffer is re-used in place. */
NN_API nn_tensor *nn_assign(nn_tensor *prev, nn_tensor *next);

/* A gradient of the caller's own. out[i] are values computed outside the history (detached); they are replaced by tensors whose gradient with respect to
** in[] is what `backward` gives: din[i] new references, or NULL for none. release is called when the history is dropped. */
typedef struct nn_custom {
  nn_status (*backward)(void *ud, nn_context *ctx, nn_tensor *const *dout, int nout, nn_tensor **din, int nin);
  void (*release)(void *ud);
  void *ud;
} nn_custom;
NN_API nn_status nn_record_custom(nn_context *ctx, const nn_custom *f, nn_tensor *const *in, int nin, nn_tensor **out, int nout);
NN_API nn_status nn_fail(nn_context *ctx, nn_status s, const char *message); /* fills the error slot from a callback; returns s */

/* ---- traces: what runs did, for printing, drawing and profiling ------------------------------------------------------ */
typedef struct nn_trace_node {
  const char *op;
  nn_dtype dtype;
  int ndim, nin, unit, line; /* unit: which kernel ran it, -1: nobody needed it; line: the caller's, 0 when unknown */
  bool visible;              /* kept for the user */
  int64_t shape[NN_MAXDIM];
  int in[8];                 /* node numbers; -1 - k: k-th value from before the run; NN_TRACE_SCALAR; arguments past 8 are left out */
} nn_trace_node;
#define NN_TRACE_SCALAR INT32_MIN
typedef struct nn_trace_unit {
  const char *name; /* a structural kernel, or "program" */
  int nnode;
  double flops, bytes; /* estimated work; memory read and written */
  double start, end;   /* seconds on a monotonic clock */
} nn_trace_unit;
typedef struct nn_trace_run {
  int nnode, nunit, ninput;
  nn_trace_node *node;
  nn_trace_unit *unit;
  size_t arena, outputs, unplanned; /* bytes: shared by intermediate results; results kept; what they would take without planning */
  bool hit;                         /* the plan came from the cache */
} nn_trace_run;
NN_API void nn_trace_start(nn_context *ctx);                         /* forgets earlier traces */
NN_API const nn_trace_run *nn_trace_stop(nn_context *ctx, int *n);   /* valid until the next start or nn_close */
NN_API void nn_set_line(nn_context *ctx, int line);                  /* nodes recorded from now on carry it */
/* Stop a run at the first operator whose result holds NaN or Inf although its arguments did not (runs node by node; slow). */
NN_API void nn_set_check_finite(nn_context *ctx, bool on);

/* ---- recordings: call a function once, then replay what it recorded on other values ------------------------------------ */
/* A handle is a place that holds a tensor (nn_tensor *) and outlives the recording. Report each one that exists before the function and is used by it,
** at its first use (nn_jit_touch); replay gives their present places in the same order. A recording does not see numbers, nor anything else of the caller's. */
typedef struct nn_jit nn_jit;
typedef nn_status (*nn_jit_call)(void *ud, int k); /* the k-th thing that ran between nn_jit_host(true) and (false); -1 - k: the k-th renewal */
NN_API const char *nn_jit_blocked(const nn_context *ctx);         /* why nothing can be recorded or replayed now; NULL: it can */
NN_API nn_status nn_jit_start(nn_context *ctx, nn_jit **out);     /* runs what is pending */
NN_API bool nn_jit_recording(const nn_context *ctx);
NN_API int nn_jit_touch(nn_context *ctx, nn_tensor **handle);     /* its number, -1 when the recording is of no use any more */
NN_API nn_status nn_jit_host(nn_context *ctx, bool begin);        /* what happens until (false) is not recorded; a replay calls it */
/* Renewals: optimizer steps recorded from here on take numbers that each replay asks for before they run: one nn_jit_renew per step, in order. */
NN_API void nn_jit_renewal(nn_context *ctx);
NN_API nn_status nn_jit_renew(nn_jit *j, const double *num, int n);
NN_API nn_status nn_jit_finish(nn_jit *j, nn_tensor *const *results, int n, const char **why); /* why: cannot be replayed; NULL: can */
NN_API bool nn_jit_differs(const nn_jit *a, const nn_jit *b, char *why, size_t n); /* two recordings of the same function */
NN_API int nn_jit_misfit(const nn_jit *j, nn_tensor **const *handles, char *why, size_t n); /* a handle that does not fit, or -1; nothing may be pending */
NN_API void nn_jit_refuse(nn_context *ctx, const char *why);      /* the recording that is going on is of no use */
NN_API int nn_jit_handles(const nn_jit *j);                       /* how many were reported */
/* On failure the segment that failed changed nothing (earlier ones did, as in a call). results: new references. */
NN_API nn_status nn_jit_replay(nn_jit *j, nn_tensor **const *handles, nn_jit_call host, void *ud, nn_tensor **results);
NN_API void nn_jit_free(nn_jit *j);

/* ---- optimizer steps: record the update of every parameter that has a gradient, replace the tensors, and run ----
** defer: without running, so that several steps, and what the caller records besides, are one run; nn_eval runs them, and puts everything back when that fails. */
typedef struct nn_sgd { double lr, momentum, dampening, weight_decay; bool nesterov, defer; } nn_sgd;
NN_API nn_status nn_sgd_step(nn_context *ctx, const nn_sgd *o, int n, nn_tensor **param, nn_tensor **velocity); /* velocity may be NULL when momentum is 0 */
typedef struct nn_adam { double lr, beta1, beta2, eps, weight_decay; int64_t step; bool defer; } nn_adam; /* step counts from 1; weight_decay as in AdamW */
NN_API nn_status nn_adam_step(nn_context *ctx, const nn_adam *o, int n, nn_tensor **param, nn_tensor **m, nn_tensor **v);
#define NN_MAXNUMBER 8
NN_API int nn_sgd_numbers(const nn_sgd *o, double num[NN_MAXNUMBER]);   /* what a step computes with, for nn_jit_renew; how many */
NN_API int nn_adam_numbers(const nn_adam *o, double num[NN_MAXNUMBER]);

#ifdef __cplusplus
}
#endif
#endif
