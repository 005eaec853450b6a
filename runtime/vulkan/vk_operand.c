/* vulkan/vk_operand.c - what the host side of a kernel computes: ranges and offsets of operands, grids, divisors, limits. Records nothing.
*/
#include "vk_device.h"

nn_vk_bind nn_vk_range(const nn_vk_device *d, const void *data, size_t bytes, size_t elem_bytes, bool write) {
  return (nn_vk_bind){.data = data, .bytes = bytes, .write = write, .offset = (uint32_t)((uintptr_t)data % d->range_align / elem_bytes)};
}

uint64_t nn_vk_numel(const nni_operand *o) {
  uint64_t n = 1;
  for (int i = 0; i < o->ndim; i++) n *= (uint64_t)o->shape[i];
  return n;
}

nn_vk_bind nn_vk_dense(const nn_vk_device *d, const nni_operand *o, bool write) {
  const size_t each = nn_dtype_size(o->dtype);
  return nn_vk_range(d, o->data, (size_t)nn_vk_numel(o) * each, each, write);
}

nn_vk_bind nn_vk_strided(const nn_vk_device *d, const nni_operand *o) {
  const size_t each = nn_dtype_size(o->dtype);
  int64_t below = 0, above = 0;
  if (nn_vk_numel(o) == 0) return nn_vk_range(d, o->data, 0, each, false);
  for (int i = 0; i < o->ndim; i++)
    if (o->stride[i] < 0) below -= o->stride[i] * (o->shape[i] - 1);
    else above += o->stride[i] * (o->shape[i] - 1);
  nn_vk_bind b = nn_vk_range(d, (const char *)o->data - (size_t)below * each, (size_t)(below + above + 1) * each, each, false);
  b.offset += (uint32_t)below;
  return b;
}

/* What has to be folded gets short rows: nn_vk_dispatch cuts long work between rows. */
void nn_vk_grid(const nn_vk_device *d, uint64_t n, uint32_t g[3]) {
  enum { ROW = 1024 };
  const uint32_t *most = d->props.limits.maxComputeWorkGroupCount;
  g[0] = g[1] = g[2] = 0;
  if (n == 0) return;
  const uint64_t rows = n <= most[0] ? 1 : nn_vk_ceil_div(n, ROW), planes = nn_vk_ceil_div(rows, most[1]);
  g[2] = (uint32_t)planes;
  g[1] = (uint32_t)nn_vk_ceil_div(rows, planes);
  g[0] = (uint32_t)nn_vk_ceil_div(n, (uint64_t)g[1] * g[2]);
}

bool nn_vk_is_software(const nn_vk_device *d) { return d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU; }

uint32_t nn_vk_lanes(const nn_vk_device *d) { return d->lanes; }

uint32_t nn_vk_cooperates(const nn_vk_device *d) { return d->coopmat == NN_VK_CM_NONE ? 0 : d->subgroup; }

uint64_t nn_vk_budget(const nn_vk_device *d) { return d->budget; }

nn_vk_div nn_vk_divisor(uint32_t d) {
  uint32_t l = 0; /* Granlund and Montgomery 1994, figure 4.1: right for every 32-bit dividend */
  while (l < 32 && ((uint64_t)1 << l) < d) l++;
  const uint64_t m = (((uint64_t)1 << 32) * (((uint64_t)1 << l) - d)) / d + 1;
  return (nn_vk_div){.mul = (uint32_t)m, .shift = (l < 1 ? l : 1) | (l > 1 ? l - 1 : 0) << 8};
}

nn_status nn_vk_fits(const nn_vk_device *d, const nni_operand *o, nni_error *err) {
  char shape[128];
  const uint64_t n = nn_vk_numel(o);
  nni_shape_text(o->ndim, o->shape, shape, sizeof shape);
  if (n >> 32)
    return nni_fail(err, NN_EUNSUPPORTED, "%s: %s has 2^32 elements or more, which kernels on Vulkan devices cannot count", d->base.name, shape);
  return NN_OK;
}
