/* graph/device.h - what a backend is handed, and the interface it answers: kernels of structural operators, row programs.
**
** A backend reads plans; it includes this file, ops/ids.h and the .def tables, base/ and tensor/,
** never ops/ops.h, graph/graph.h, Lua or another backend.
*/
#ifndef NNI_DEVICE_H
#define NNI_DEVICE_H
#include "../ops/ids.h"
#include "../tensor/tensor.h"

typedef struct nni_device nni_device;

/* ---- structural kernels ------------------------------------------------------------------------------------------------ */
typedef struct nni_operand {
  void *data;            /* element 0 of the view (offset applied); outputs are contiguous. Another device's: an address of its own, never to be followed */
  nn_dtype dtype;
  int32_t ndim;
  const int64_t *shape;  /* ndim entries */
  const int64_t *stride; /* in elements */
} nni_operand;

typedef struct nni_kernel_call {
  nni_device *dev;
  nni_threads *threads;
  const nni_operand *in, *out;
  int nin, nout;
  const int64_t *ia;     /* structural attributes, see structural.def */
  const nni_param *pa;   /* run-time parameters */
  int param;             /* number of pa[0] among the parameters of the run: a device that replays runs reads values from there */
  int unit;              /* which part of the run it is, for failures that are seen later */
  void *scratch;         /* as many bytes as the kernel's scratch function asked for, 64-byte aligned; contents undefined */
  nni_error *err;        /* filled when a status other than NN_OK is returned (only kernels that read indices may fail) */
} nni_kernel_call;

/* A CPU kernel is nn_cpu_<name>; every one has nn_cpu_<name>_scratch too (0 when it needs none), called with data pointers NULL. Both see
** any number of threads; what they compute depends on shapes alone. */
typedef nn_status (*nni_kernel_fn)(const nni_kernel_call *k);
typedef size_t (*nni_scratch_fn)(const nni_kernel_call *k);

/* ---- row programs -------------------------------------------------------------------------------------------------------- */
/* A chain of pointwise operators and last-axis reductions over one iteration space (rows x cols, cols = the last dim). SSA: instruction i
** defines value i. FULL values have an element per point of the space, ROW values one per row (what a reduction gives). A FULL instruction
** with a ROW operand sees it repeated along the row. Registers have a class: F (f32; also f16 and bf16, which are
** rounded to their own precision whenever they are the result of an instruction), I (i32; also u8 and bool), L (i64), D (f64). */
typedef enum nni_rclass { NNI_F, NNI_I, NNI_L, NNI_D, NNI_NCLASS } nni_rclass;
typedef enum nni_rlevel { NNI_FULL, NNI_ROW } nni_rlevel;
typedef enum nni_rkind {
  NNI_R_LOAD,    /* slot = input operand */
  NNI_R_PARAM,   /* slot = run-time parameter, read as double, converted to cls */
  NNI_R_INDEX,   /* linear element index in the space (FULL, class L) */
  NNI_R_RANDOM,  /* class F, [0,1): Philox draw = linear element index; slot, slot+1 = parameters seed (.u) and stream (.u) */
  NNI_R_CAST,    /* a[0] converted to dtype (a float to an integer truncates; to bool: != 0; to u8: modulo 256; to f16, bf16: rounded) */
  NNI_R_PW,      /* op = row of pointwise.def, operands a[] all of class `opcls`; comparisons give class I holding 0 or 1 */
  NNI_R_REDUCE,  /* op = row of reduce.def, a[0] FULL -> ROW (rargmax and rargmin give class L) */
  NNI_R_STORE    /* a[0] to output operand slot, converted to its dtype */
} nni_rkind;
typedef struct nni_rinstr {
  uint8_t kind, cls, opcls, level; /* nni_rkind, class of the result, class of the operands, nni_rlevel */
  uint8_t dtype;                   /* nn_dtype of the result (tells bool and u8 from i32 within class I) */
  uint8_t nargs;
  uint16_t op;                     /* nni_pwid or nni_redid below */
  int16_t a[4];                    /* operands: instruction numbers */
  int16_t slot;
} nni_rinstr;
typedef struct nni_access {
  nn_dtype dtype;
  uint8_t level;
  int64_t stride[NN_MAXDIM]; /* inputs: elements per step of each dim of the space (ROW: the last one unused). Outputs are contiguous: unused */
} nni_access;
#define NNI_PROG_MAXIO 16
typedef struct nni_program {
  int ndim;                   /* >= 1 */
  int64_t shape[NN_MAXDIM];   /* the space, dims collapsed as far as every access allows; no dim is 0 */
  int64_t rows, cols;
  int nin, nout, ninstr;
  nni_access in[NNI_PROG_MAXIO], out[NNI_PROG_MAXIO];
  nni_rinstr *instr;
} nni_program;

/* ---- what a backend answers ------------------------------------------------------------------------------------------------ */
/* One run of a plan on a device that records its work once and submits it again. */
typedef struct nni_submission {
  void **recorded;        /* the backend's record of this plan, kept with the plan; *recorded is NULL before the first run */
  void *const *address;   /* where all operands of the run lie (inputs, outputs, intermediate results, scratch): a record serves runs with equal addresses */
  int naddress;
  const nni_param *param; /* parameters of all units, one after the other in the order they run */
  int nparam;
  nni_error *err;
} nni_submission;

/* What a device that is not the host has done so far. */
typedef struct nni_device_counts { uint64_t submissions, uploads, downloads, waits; } nni_device_counts;

typedef struct nni_backend {
  /* Buffers. The CPU's are pointers; another device's are addresses of its own that can be added to (base + offset) but not followed. */
  void *(*buffer_get)(nni_device *d, size_t bytes); /* NULL: out of memory, its cache dropped already; 0 bytes give an address too */
  void (*buffer_put)(nni_device *d, void *p, size_t bytes);
  nn_memory_info (*memory)(nni_device *d);
  void (*trim)(nni_device *d);
  /* Row programs: compile once per plan, run many times. Compiling copies what it needs of p. NULL on failure (out of memory). */
  void *(*program_new)(nni_device *d, const nni_program *p);
  void (*program_free)(nni_device *d, void *prog);
  size_t (*program_scratch)(nni_device *d, const void *prog);
  /* in[i], out[i] of c: only `data` is set (element 0, offsets applied); an output may be the same memory as an input of the same size and identity access */
  nn_status (*program_run)(const void *prog, const nni_kernel_call *c);
  /* Structural kernels by name of structural.def's kernel column; NULL: this device has none. */
  nni_kernel_fn (*kernel)(int kernel_id);
  nni_scratch_fn (*kernel_scratch)(int kernel_id);
  bool (*takes)(int kernel_id, nn_dtype d); /* asked of f16 and bf16 operands only: has the kernel a form for them? Where it has not, operators widen them to f32 */
  /* Devices that are not the host; NULL on the CPU. Between begin and end, program_run and kernels record; *replay: nothing has to be recorded,
  ** the work is as in the record. end submits and does not wait. */
  nn_status (*begin)(nni_device *d, const nni_submission *s, bool *replay);
  nn_status (*end)(nni_device *d, bool failed, nni_error *err);
  void (*recorded_free)(nni_device *d, void *recorded);
  nn_status (*upload)(nni_device *d, void *dst, const void *src, size_t bytes, nni_error *err);   /* in order with the runs; src may change once it returns */
  nn_status (*download)(nni_device *d, void *dst, const void *src, size_t bytes, nni_error *err); /* waits for the runs so far; reports what failed in them */
  nn_status (*finish)(nni_device *d, nni_error *err);                                              /* waits for all work; reports what failed in it */
  nni_device_counts (*counted)(const nni_device *d);
  /* A clock of the device's own, for profiles: mark i of 0..n-1 of the run that is being recorded lies behind all that was recorded before it (mark 0 comes first); marked waits
  ** for the run and gives the times in seconds, from some start. Zeros where the device has no clock. */
  nn_status (*mark)(nni_device *d, int i, int n, nni_error *err);
  nn_status (*marked)(nni_device *d, int n, double *seconds, nni_error *err);
  void (*close)(nni_device *d);
} nni_backend;

struct nni_device {
  const nni_backend *is;
  nni_memory *mem;      /* the context's: bookkeeping, and the CPU's buffers */
  nni_threads *threads;
  int index;            /* in the context's list; 0 is the CPU */
  bool host;            /* its buffers are the program's own memory */
  int blamed;           /* the unit of the run whose failure `finish` reported last */
  bool unfused;         /* every node is a unit of its own: to find out what fusion has to do with a result */
  char name[24];        /* "cpu", "vulkan:1" */
};
extern const nni_backend nn_cpu_backend;

/* Kernels that move bytes take every dtype on every device. */
static inline bool nni_kernel_moves(int id) {
  return id == NNI_K_copy || id == NNI_K_slice_set || id == NNI_K_slice_add || id == NNI_K_concat || id == NNI_K_take_rows || id == NNI_K_gather;
}

/* Vulkan devices (vulkan/). Listing loads the loader on first use; no loader and no device give 0. index counts from 0. */
int nn_vk_count(nni_memory *m, nni_error *err);
nn_status nn_vk_describe(nni_memory *m, int index, nn_device_info *info, nni_error *err);
nn_status nn_vk_properties(int index, char *buf, size_t room, nni_error *err); /* lines "name: value" of what its driver says, cooperative matrices too */
bool nn_vk_has_kernel(int kernel_id); /* of the room, whatever the device */
nn_status nn_vk_open(nni_memory *m, int index, nni_device **out, nni_error *err);

#endif
