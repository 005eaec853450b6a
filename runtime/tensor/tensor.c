/* tensor/tensor.c - life of values and tensors, and reading them. The counting rules are in tensor.h. */
#include "tensor.h"

static nni_core *core(const nn_context *ctx) { return (nni_core *)(uintptr_t)ctx; }

nni_memory *nni_memory_of(nn_context *ctx) { return core(ctx)->mem; }
nni_error *nni_error_of(nn_context *ctx) { return &core(ctx)->err; }
nni_threads *nni_threads_of(nn_context *ctx) { return core(ctx)->threads; }

/* ---- values ---- */
nni_value *nni_value_new(nn_context *ctx, struct nni_device *dev, nn_dtype d, int64_t numel) {
  nni_value *v = nni_slab_get(&core(ctx)->values);
  if (!v) {
    nni_fail(&core(ctx)->err, NN_ENOMEM, "out of memory");
    return NULL;
  }
  *v = (nni_value){.dtype = d, .numel = numel, .dev = dev};
  return v;
}

void nni_value_release(nn_context *ctx, nni_value *v) {
  if (--v->refs > 0) return;
  nni_data_put(ctx, v);
  nni_slab_put(&core(ctx)->values, v);
}

/* ---- tensors ---- */
nn_tensor *nni_tensor_over(nn_context *ctx, nni_value *v, const nni_layout *l) {
  nn_tensor *t = nni_slab_get(&core(ctx)->tensors);
  if (!t) {
    nni_fail(&core(ctx)->err, NN_ENOMEM, "out of memory");
    return NULL;
  }
  t->refs = 1;
  t->wrefs = 0;
  t->ctx = ctx;
  t->v = v;
  nni_layout_copy(&t->l, l);
  t->dtype = v->dtype;
  t->requires_grad = false;
  t->out = 0;
  t->tape = NULL;
  t->grad = NULL;
  t->prev = NULL;
  v->refs++;
  v->ext++;
  return t;
}

nn_tensor *nni_tensor_view(nn_tensor *base, nn_dtype d, const nni_layout *l) {
  nn_tensor *t = nni_tensor_over(base->ctx, base->v, l);
  if (t) t->dtype = d;
  return t;
}

static void tensor_free(nn_tensor *t) {
  nn_context *ctx = t->ctx;
  nni_value *v = t->v;
  struct nni_tape *tape = t->tape;
  nn_tensor *grad = t->grad, *prev = t->prev;
  nni_slab_put(&core(ctx)->tensors, t);
  nni_value_release(ctx, v);
  if (tape) nni_tape_release(ctx, tape);
  if (grad) nn_release(grad);
  if (prev) nni_window_release(prev);
}

nn_tensor *nn_retain(nn_tensor *t) {
  if (t) t->refs++, t->v->ext++;
  return t;
}

void nn_release(nn_tensor *t) {
  if (!t) return;
  t->v->ext--;
  if (--t->refs == 0) tensor_free(t);
}

nn_tensor *nni_window_retain(nn_tensor *t) {
  t->refs++;
  t->wrefs++;
  return t;
}

void nni_window_release(nn_tensor *t) {
  t->wrefs--;
  if (--t->refs == 0) tensor_free(t);
}

nn_tensor *nni_tensor_adopt(nn_context *ctx, nn_dtype d, int ndim, const int64_t *shape, void *buffer) {
  return nni_tensor_adopt_on(ctx, nni_host(ctx), d, ndim, shape, buffer);
}

nn_tensor *nni_tensor_adopt_on(nn_context *ctx, struct nni_device *dev, nn_dtype d, int ndim, const int64_t *shape, void *buffer) {
  nni_layout l;
  nni_layout_contiguous(&l, ndim, shape);
  int64_t n = nni_layout_numel(&l);
  nni_value *v = nni_value_new(ctx, dev, d, n);
  if (!v) {
    nni_data_put(ctx, &(nni_value){.dev = dev, .dtype = d, .numel = n, .data = buffer});
    return NULL;
  }
  v->data = buffer;
  v->refs = 1;
  nn_tensor *t = nni_tensor_over(ctx, v, &l);
  nni_value_release(ctx, v);
  return t;
}

nn_tensor *nn_tensor_new(nn_context *ctx, nn_dtype d, int ndim, const int64_t *shape, const void *data) {
  int64_t n;
  if (ndim < 0 || ndim > NN_MAXDIM) {
    nni_fail(&core(ctx)->err, NN_ESHAPE, "tensor: %d dims, at most %d are possible", ndim, NN_MAXDIM);
    return NULL;
  }
  if (!nni_size_mul(shape, ndim, nn_dtype_size(d), &n)) {
    char s[200];
    nni_shape_text(ndim, shape, s, sizeof s);
    nni_fail(&core(ctx)->err, NN_ESHAPE, "tensor: size %s is negative or too large", s);
    return NULL;
  }
  size_t bytes = (size_t)n * nn_dtype_size(d);
  void *buf = nni_buffer_get(core(ctx)->mem, bytes);
  if (!buf) {
    nni_fail(&core(ctx)->err, NN_ENOMEM, "tensor: out of memory (%zu bytes)", bytes);
    return NULL;
  }
  if (data) memcpy(buf, data, bytes);
  else memset(buf, 0, bytes);
  return nni_tensor_adopt(ctx, d, ndim, shape, buf);
}

nn_tensor *nn_scalar(nn_context *ctx, nn_dtype d, double value) {
  int64_t u;
  nn_element_write(d, &u, value, nn_element_int(d, value));
  return nn_tensor_new(ctx, d, 0, NULL, &u);
}

nn_context *nn_context_of(const nn_tensor *t) { return t->ctx; }
nn_dtype nn_dtype_of(const nn_tensor *t) { return t->dtype; }
int nn_ndim(const nn_tensor *t) { return t->l.ndim; }
const int64_t *nn_shape(const nn_tensor *t) { return t->l.shape; }
int64_t nn_numel(const nn_tensor *t) { return nni_layout_numel(&t->l); }
bool nn_is_contiguous(const nn_tensor *t) { return nni_layout_is_contiguous(&t->l); }
int nn_shape_text(const nn_tensor *t, char *buf, size_t n) { return nni_shape_text(t->l.ndim, t->l.shape, buf, n); }

/* ---- reading ---- */
const void *nn_data(nn_tensor *t) {
  nn_context *ctx = t->ctx;
  if (!nni_layout_is_contiguous(&t->l)) { /* put a row-major copy in place of the view: same elements, same tensor */
    bool grad = nn_set_grad_enabled(ctx, false);
    nn_tensor *c = nn_call(ctx, "contiguous", NN_T(t));
    nn_set_grad_enabled(ctx, grad);
    if (!c) return NULL;
    if (nni_need(c) != NN_OK) {
      nn_release(c);
      return NULL;
    }
    nni_value *old = t->v;
    int32_t ext = t->refs - t->wrefs;
    c->v->refs++;
    c->v->ext += ext;
    t->v = c->v;
    t->l = c->l;
    old->ext -= ext;
    nni_value_release(ctx, old);
    nn_release(c);
  }
  if (nni_need(t) != NN_OK) return NULL;
  const char *p = nni_value_host(ctx, t->v);
  return p ? p + (size_t)t->l.offset * nn_dtype_size(t->dtype) : NULL;
}

nn_status nn_read(nn_tensor *t, void *dst, size_t bytes) {
  size_t want = (size_t)nn_numel(t) * nn_dtype_size(t->dtype);
  if (bytes != want) return nni_fail(&core(t->ctx)->err, NN_EINVAL, "read: %zu bytes wanted, the tensor has %zu", bytes, want);
  const void *p = nn_data(t);
  if (!p) return core(t->ctx)->err.status;
  memcpy(dst, p, bytes);
  return NN_OK;
}

nn_status nn_item(nn_tensor *t, double *d, int64_t *i) {
  if (nn_numel(t) != 1) {
    char s[200];
    nn_shape_text(t, s, sizeof s);
    return nni_fail(&core(t->ctx)->err, NN_ESHAPE, "item: the tensor must have one element, its shape is %s", s);
  }
  nn_status st = nni_need(t);
  if (st != NN_OK) return st;
  double f = 0;
  int64_t n = 0, bits = 0;
  size_t size = nn_dtype_size(t->dtype);
  st = nni_value_peek(t->ctx, t->v, (size_t)t->l.offset * size, size, &bits);
  if (st != NN_OK) return st;
  nn_element_read(t->dtype, &bits, &f, &n);
  if (d) *d = f;
  if (i) *i = n;
  return NN_OK;
}
