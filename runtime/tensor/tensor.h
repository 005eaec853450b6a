/* tensor/tensor.h - values, layouts and tensors.
**
** A value is one result: a typed run of elements that is either pending (its node has not run) or held in a buffer. A tensor is a layout on
** a value plus its place in the gradient history; it never changes. Views are tensors on the same value.
**
** References: tensor.refs counts everybody, tensor.wrefs the references held by nodes of the pending window. value.ext counts the references to all its tensors
** that are not the window's: a value with ext > 0 is visible (somebody outside may read it), so a run must leave it in a buffer.
*/
#ifndef NNI_TENSOR_H
#define NNI_TENSOR_H
#include "../base/base.h"

/* Run-time parameter of a node: everything that may differ from step to step without a new plan (learning rate, dropout's draw position, ...). */
typedef union nni_param { double f; uint64_t u; } nni_param;

typedef struct nni_layout {
  int32_t ndim;
  int64_t shape[NN_MAXDIM];
  int64_t stride[NN_MAXDIM]; /* in elements; 0 in a broadcast dim */
  int64_t offset;            /* in elements */
} nni_layout;

struct nni_node;
struct nni_tape;

typedef struct nni_value {
  int32_t refs;          /* tensors on it + nodes that produce it */
  int32_t ext;           /* references from outside the window to its tensors */
  nn_dtype dtype;
  bool lost;             /* the run that would have made it failed */
  bool bounded;          /* integers: all elements are in least..most (graph/bounds.c) */
  int64_t numel;         /* elements in the buffer */
  int64_t least, most;
  void *data;            /* NULL while pending; another device's is an address of its own, not to be followed */
  struct nni_device *dev; /* where it is, or will be */
  void *host;            /* another device's: a copy of all elements that somebody reads, or NULL */
  struct nni_node *node; /* its producer while pending */
  int32_t out;           /* which of the producer's outputs */
  uint32_t stamp;        /* window in which `index` is valid */
  int32_t index;         /* number of this value among the window's inputs */
} nni_value;

struct nn_tensor {
  int32_t refs, wrefs;
  nn_context *ctx;
  nni_value *v;
  nni_layout l;
  nn_dtype dtype;
  bool requires_grad;
  uint8_t out;            /* which result of tape */
  struct nni_tape *tape;  /* NULL: a leaf */
  nn_tensor *grad;        /* a leaf's gradient */
  nn_tensor *prev;        /* nn_assign: whose place it took, until the run is over */
};

/* The part of the context that this room and below may know; the first member of nn_context (graph/graph.h). */
typedef struct nni_core {
  nni_memory *mem;
  nni_threads *threads;
  nni_error err;
  const char *caller; /* the operator that was called from outside, for messages; NULL between calls */
  nni_slab tensors, values;
} nni_core;

/* layout.c: pure functions on layouts */
static inline void nni_layout_copy(nni_layout *to, const nni_layout *l) { /* without the dims that are not there */
  to->ndim = l->ndim;
  to->offset = l->offset;
  for (int i = 0; i < l->ndim; i++) to->shape[i] = l->shape[i], to->stride[i] = l->stride[i];
}
void nni_layout_contiguous(nni_layout *l, int ndim, const int64_t *shape); /* shape must have passed nni_size_mul */
int64_t nni_layout_numel(const nni_layout *l);
bool nni_layout_is_contiguous(const nni_layout *l);        /* row-major without gaps (offset may be anything; size-1 dims any stride) */
bool nni_layout_same_shape(const nni_layout *a, const nni_layout *b);
bool nni_layout_broadcast(const nni_layout *a, const nni_layout *b, int *ndim, int64_t *shape); /* false: do not fit */
bool nni_layout_expand(const nni_layout *l, int ndim, const int64_t *shape, nni_layout *out);   /* stride 0 where broadcast */
bool nni_layout_reshape(const nni_layout *l, int ndim, const int64_t *shape, nni_layout *out);  /* false: needs a copy */
int nni_shape_text(int ndim, const int64_t *shape, char *buf, size_t n);   /* "64x784"; returns the length written */

/* tensor.c */
nni_memory *nni_memory_of(nn_context *ctx);
nni_error *nni_error_of(nn_context *ctx);
nni_threads *nni_threads_of(nn_context *ctx);
/* A tensor over a buffer of nni_buffer_get(m, numel * element size), which it takes over (also when it fails). _on: a buffer of that device. */
nn_tensor *nni_tensor_adopt(nn_context *ctx, nn_dtype d, int ndim, const int64_t *shape, void *buffer);
nn_tensor *nni_tensor_adopt_on(nn_context *ctx, struct nni_device *dev, nn_dtype d, int ndim, const int64_t *shape, void *buffer);
nn_tensor *nni_tensor_view(nn_tensor *base, nn_dtype d, const nni_layout *l); /* same value, other layout, no history */
nn_tensor *nni_tensor_over(nn_context *ctx, nni_value *v, const nni_layout *l); /* takes a new reference to v */
nni_value *nni_value_new(nn_context *ctx, struct nni_device *dev, nn_dtype d, int64_t numel); /* refs 0, no data */
void nni_value_release(nn_context *ctx, nni_value *v);
nn_tensor *nni_window_retain(nn_tensor *t); /* the window's references do not make a value visible */
void nni_window_release(nn_tensor *t);
/* provided by graph/ */
nn_status nni_need(nn_tensor *t);                                  /* run what t's value waits for */
void nni_tape_release(nn_context *ctx, struct nni_tape *tape);     /* drop a reference to a history entry */
struct nni_device *nni_host(nn_context *ctx);                      /* the CPU */
void nni_data_put(nn_context *ctx, nni_value *v);                  /* gives v's buffer and its host copy back */
const void *nni_value_host(nn_context *ctx, nni_value *v);         /* all elements of a value that is not pending, on the host; NULL: error set */
nn_status nni_value_peek(nn_context *ctx, nni_value *v, size_t at, size_t bytes, void *dst); /* some bytes of it */

#endif
