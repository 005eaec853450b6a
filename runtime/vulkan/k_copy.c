/* vulkan/k_copy.c - kernels that move elements: copy, slice_set, slice_add, concat.
**
** All of them are one walk over a space with two sets of strides (shaders/strided.glsl): dims of size 1 dropped, neighbours merged. What is dense on both sides and of one
** dtype is a plain copy of bytes.
*/
#include "vk.h"
#include "shaders.h"

_Static_assert(NN_BOOL == 0 && NN_U8 == 1 && NN_I32 == 2 && NN_I64 == 3 && NN_F16 == 4 && NN_BF16 == 5 && NN_F32 == 6,
               "numbers in shaders/dtype.glsl");

/* the Info block of strided.glsl */
typedef struct info {
  uint32_t n, from, to, pad;
  nn_vk_div size[NN_MAXDIM];
  uint32_t shape[NN_MAXDIM], from_stride[NN_MAXDIM], to_stride[NN_MAXDIM];
} info;

/* Fills shape and strides; returns the rank, at least 1. */
static int collapse(info *w, int ndim, const int64_t *shape, const int64_t *from, const int64_t *to) {
  int64_t s[NN_MAXDIM], f[NN_MAXDIM], t[NN_MAXDIM];
  int m = 0;
  for (int i = 0; i < ndim; i++) {
    if (shape[i] == 1) continue;
    if (m > 0 && f[m - 1] == from[i] * shape[i] && t[m - 1] == to[i] * shape[i]) {
      s[m - 1] *= shape[i], f[m - 1] = from[i], t[m - 1] = to[i];
      continue;
    }
    s[m] = shape[i], f[m] = from[i], t[m] = to[i];
    m++;
  }
  if (m == 0) s[0] = f[0] = t[0] = m = 1;
  for (int i = 0; i < m; i++) {
    w->size[i] = nn_vk_divisor((uint32_t)s[i]);
    w->shape[i] = (uint32_t)s[i];
    w->from_stride[i] = (uint32_t)f[i];
    w->to_stride[i] = (uint32_t)t[i];
  }
  return m;
}

/* The operand from, into the elements of `to` that to's strides name. */
static nn_status move(const nni_kernel_call *k, const nni_operand *from, const nni_operand *to, bool add) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const size_t each = nn_dtype_size(to->dtype);
  const uint64_t n = nn_vk_numel(from);
  info w = {0};
  nn_status st = nn_vk_fits(d, from, k->err);
  if (st != NN_OK || n == 0) return st;
  const int rank = collapse(&w, from->ndim, from->shape, from->stride, to->stride);
  if (!add && from->dtype == to->dtype && rank == 1 && w.from_stride[0] == 1 && w.to_stride[0] == 1)
    return nn_vk_copy_bytes(d, to->data, from->data, n * each, k->err);
  nn_vk_bind b[3] = {nn_vk_strided(d, from), nn_vk_strided(d, to), nn_vk_strided(d, to)}; /* added to: read under one name, written under another */
  const int last = add ? 2 : 1;
  b[last].write = true;
  w.n = (uint32_t)n;
  w.from = b[0].offset;
  w.to = b[1].offset;
  const uint32_t copy[] = {from->dtype, to->dtype, (uint32_t)rank}, sum[] = {to->dtype, (uint32_t)rank};
  nn_vk_work work = {.pipeline = add ? nn_vk_shader(d, NN_VK_S_add, sum, 2, k->err) : nn_vk_shader(d, NN_VK_S_copy, copy, 3, k->err),
                     .bind = b,
                     .nbind = last + 1,
                     .info = &w,
                     .ninfo = sizeof w};
  nn_vk_grid(d, (n + 255) / 256, work.groups);
  return nn_vk_dispatch(d, &work, k->err);
}

static void dense_strides(const nni_operand *o, int64_t *stride) {
  int64_t s = 1;
  for (int d = o->ndim - 1; d >= 0; d--) {
    stride[d] = s;
    s *= o->shape[d];
  }
}
static void *at(const nni_operand *o, int64_t i) { return (char *)o->data + i * (int64_t)nn_dtype_size(o->dtype); }

nn_status nn_vk_copy(const nni_kernel_call *k) {
  int64_t stride[NN_MAXDIM];
  nni_operand to = k->out[0];
  dense_strides(&to, stride);
  to.stride = stride;
  return move(k, &k->in[0], &to, false);
}

static nn_status put_slice(const nni_kernel_call *k, bool add) {
  const nni_operand *out = &k->out[0], *part = &k->in[1];
  nn_status st = nn_vk_copy_bytes(nn_vk_of(k->dev), out->data, k->in[0].data, (size_t)nn_vk_numel(out) * nn_dtype_size(out->dtype), k->err);
  const nni_operand region = {.data = at(out, k->ia[0]), .dtype = out->dtype, .ndim = part->ndim, .shape = part->shape, .stride = k->ia + 1};
  return st == NN_OK ? move(k, part, &region, add) : st;
}
nn_status nn_vk_slice_set(const nni_kernel_call *k) { return put_slice(k, false); }
nn_status nn_vk_slice_add(const nni_kernel_call *k) { return put_slice(k, true); }

nn_status nn_vk_concat(const nni_kernel_call *k) {
  const nni_operand *out = &k->out[0];
  const int dim = (int)k->ia[0];
  int64_t stride[NN_MAXDIM], done = 0;
  nn_status st = NN_OK;
  dense_strides(out, stride);
  for (int i = 0; i < k->nin && st == NN_OK; i++) {
    const nni_operand *in = &k->in[i];
    const nni_operand to = {.data = at(out, done * stride[dim]), .dtype = out->dtype, .ndim = in->ndim, .shape = in->shape, .stride = stride};
    st = move(k, in, &to, false);
    done += in->shape[dim];
  }
  return st;
}

/* none of them needs scratch */
size_t nn_vk_copy_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_slice_set_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_slice_add_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_concat_scratch(const nni_kernel_call *k) { return (void)k, 0; }
