/* graph/devices.c - the context's devices: which there are, opening them when they are first asked for, where a node computes, moving values between them.
**
** Invariants: device 0 is the CPU and always open. A value lies on one device for life; a window's nodes are all of one device. Nothing migrates by
** itself, but for single numbers, which may come from the CPU (as a 0-d tensor may in PyTorch).
*/
#include <stdio.h>
#include "graph.h"

nn_status nni_devices_open(nn_context *ctx) {
  nni_device *cpu = nni_calloc(ctx->core.mem, sizeof *cpu);
  if (!cpu) return NN_ENOMEM;
  *cpu = (nni_device){.is = &nn_cpu_backend, .mem = ctx->core.mem, .threads = ctx->core.threads, .host = true, .name = "cpu"};
  ctx->dev[0] = ctx->current = cpu;
  return NN_OK;
}

void nni_devices_close(nn_context *ctx) {
  for (int i = NN_MAXDEVICE - 1; i > 0; i--)
    if (ctx->dev[i]) ctx->dev[i]->is->close(ctx->dev[i]);
  nni_free(ctx->core.mem, ctx->dev[0], sizeof *ctx->dev[0]);
}

nni_device *nni_host(nn_context *ctx) { return ctx->dev[0]; }

/* ---- asking ---- */
int nn_device_count(nn_context *ctx) {
  nni_error ignored;
  int n = 1 + nn_vk_count(ctx->core.mem, &ignored);
  return n < NN_MAXDEVICE ? n : NN_MAXDEVICE;
}

nn_status nn_device_describe(nn_context *ctx, int device, nn_device_info *info) {
  *info = (nn_device_info){.name = "cpu", .kind = "cpu"};
  if (device < 0 || device >= nn_device_count(ctx)) return nni_fail(&ctx->core.err, NN_EINVAL, "device: %d is not in 0..%d", device, nn_device_count(ctx) - 1);
  if (device > 0) return nn_vk_describe(ctx->core.mem, device - 1, info, &ctx->core.err);
  snprintf(info->title, sizeof info->title, "%d threads, %s", nn_threads(ctx), nn_cpu_level_name());
  return NN_OK;
}

nn_status nn_device_properties(nn_context *ctx, int device, char *buf, size_t n) {
  if (device == 0) return nni_fail(&ctx->core.err, NN_EINVAL, "device_properties: the CPU has no driver to ask; give the name of a Vulkan device");
  return nn_vk_properties(device - 1, buf, n, &ctx->core.err);
}

nn_status nn_device_find(nn_context *ctx, const char *name, int *device) {
  int n = 0, end = 0;
  if (strcmp(name, "cpu") == 0) *device = 0;
  else if (strcmp(name, "vulkan") == 0 || (sscanf(name, "vulkan:%d%n", &n, &end) == 1 && name[end] == 0)) {
    nni_error why = {.text = ""};
    int count = nn_vk_count(ctx->core.mem, &why);
    if (end == 0) n = 1;
    if (count == 0) return nni_fail(&ctx->core.err, NN_EUNSUPPORTED, "device: there is no Vulkan device here%s%s", why.text[0] ? ": " : "", why.text);
    if (n < 1 || n > count || n >= NN_MAXDEVICE) return nni_fail(&ctx->core.err, NN_EINVAL, "device: there is no %s; the Vulkan devices are vulkan:1 to vulkan:%d", name, count);
    *device = n;
  } else return nni_fail(&ctx->core.err, NN_EINVAL, "device: '%s' is no device; there are \"cpu\", \"vulkan\" (the first) and \"vulkan:1\", \"vulkan:2\", ...", name);
  return NN_OK;
}

static nn_status open_device(nn_context *ctx, int i) {
  if (i < 0 || i >= NN_MAXDEVICE) return nni_fail(&ctx->core.err, NN_EINVAL, "device: %d is not in 0..%d", i, NN_MAXDEVICE - 1);
  if (ctx->dev[i]) return NN_OK;
  nni_device *d;
  nn_status st = nn_vk_open(ctx->core.mem, i - 1, &d, &ctx->core.err);
  if (st != NN_OK) return st;
  d->threads = ctx->core.threads;
  d->index = i;
  ctx->dev[i] = d;
  ctx->several = true;
  return NN_OK;
}

nn_status nn_set_device(nn_context *ctx, int device) {
  nn_status st = open_device(ctx, device);
  if (st == NN_OK) ctx->current = ctx->dev[device];
  return st;
}

int nn_device(const nn_context *ctx) { return ctx->current->index; }
int nn_device_of(const nn_tensor *t) { return t->v->dev->index; }
const char *nn_device_name(nn_context *ctx, int device) { return device >= 0 && device < NN_MAXDEVICE && ctx->dev[device] ? ctx->dev[device]->name : NULL; }

nn_memory_info nn_memory(const nn_context *ctx) {
  nn_memory_info sum = {0};
  for (int i = 0; i < (ctx->several ? NN_MAXDEVICE : 1); i++) {
    if (!ctx->dev[i]) continue;
    nn_memory_info m = ctx->dev[i]->is->memory(ctx->dev[i]);
    sum.live += m.live, sum.cached += m.cached, sum.peak += m.peak, sum.allocated += m.allocated;
  }
  return sum;
}

nn_status nn_device_memory(nn_context *ctx, int device, nn_memory_info *info) {
  *info = (nn_memory_info){0};
  if (device < 0 || device >= NN_MAXDEVICE) return nni_fail(&ctx->core.err, NN_EINVAL, "memory: %d is no device", device);
  if (ctx->dev[device]) *info = ctx->dev[device]->is->memory(ctx->dev[device]);
  return NN_OK;
}

void nn_memory_trim(nn_context *ctx) {
  for (int i = 0; i < NN_MAXDEVICE; i++)
    if (ctx->dev[i]) ctx->dev[i]->is->trim(ctx->dev[i]);
}

nn_status nn_finish(nn_context *ctx) {
  nn_status st = nni_run(ctx);
  for (int i = 1; i < NN_MAXDEVICE; i++) {
    nn_status done = ctx->dev[i] ? ctx->dev[i]->is->finish(ctx->dev[i], &ctx->core.err) : NN_OK;
    if (st == NN_OK) st = done;
  }
  return st;
}

const char *nn_kernel_without_vulkan(int i) {
  static const char *const names[] = {
#define NN_KERNEL(name, doc) #name,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  for (int k = 0; k < NNI_COUNT(names); k++)
    if (!nn_vk_has_kernel(k) && i-- == 0) return names[k];
  return NULL;
}

/* ---- where a node computes ---- */
nni_device *nni_device_among(const nn_arg *arg, int nargs) {
  nni_device *host = NULL;
  for (int i = 0; i < nargs; i++) {
    int n = arg[i].kind == NN_ARG_TENSOR ? 1 : arg[i].kind == NN_ARG_TENSORS ? arg[i].n : 0;
    for (int k = 0; k < n; k++) {
      nni_device *d = (arg[i].kind == NN_ARG_TENSOR ? arg[i].u.t : arg[i].u.tensors[k])->v->dev;
      if (!d->host) return d;
      host = d;
    }
  }
  return host;
}

bool nni_device_takes(const nn_tensor *t, int kernel) { return t->v->dev->is->takes(kernel, t->dtype); }

nn_status nni_choose_device(nn_context *ctx, nn_tensor *const *in, int nin, nni_device **dev) {
  *dev = ctx->several ? NULL : ctx->dev[0];
  for (int i = 0; ctx->several && i < nin; i++) {
    if (!in[i]) continue;
    nni_device *d = in[i]->v->dev;
    if (*dev && d != *dev)
      return nni_fail(&ctx->core.err, NN_EINVAL, "arguments lie on different devices: %s and %s; move one with :to(\"%s\")", (*dev)->name, d->name,
                      (d->host ? *dev : d)->name);
    *dev = d;
  }
  if (!*dev) *dev = ctx->among ? ctx->among : ctx->current;
  return NN_OK;
}

/* ---- the host's view of a value ---- */
void nni_data_put(nn_context *ctx, nni_value *v) {
  size_t bytes = (size_t)v->numel * nn_dtype_size(v->dtype);
  if (v->data) v->dev->is->buffer_put(v->dev, v->data, bytes);
  if (v->host) nni_buffer_put(ctx->core.mem, v->host, bytes);
  v->data = v->host = NULL;
}

const void *nni_value_host(nn_context *ctx, nni_value *v) {
  size_t bytes = (size_t)v->numel * nn_dtype_size(v->dtype);
  if (v->dev->host) return v->data;
  if (v->host) return v->host;
  void *p = nni_buffer_get(ctx->core.mem, bytes);
  if (!p) nni_fail(&ctx->core.err, NN_ENOMEM, "out of memory for a copy of %zu bytes from %s", bytes, v->dev->name);
  else if (v->dev->is->download(v->dev, p, v->data, bytes, &ctx->core.err) != NN_OK) {
    nni_buffer_put(ctx->core.mem, p, bytes);
    p = NULL;
  }
  return v->host = p;
}

nn_status nni_value_peek(nn_context *ctx, nni_value *v, size_t at, size_t bytes, void *dst) {
  const char *p = v->dev->host ? v->data : v->host;
  if (!p) return v->dev->is->download(v->dev, dst, (const char *)v->data + at, bytes, &ctx->core.err);
  memcpy(dst, p + at, bytes);
  return NN_OK;
}

/* ---- moving ---- */
/* A buffer; when there is no room, dead tensors are collected and caches dropped first. NULL: error set. */
static void *room_on(nn_context *ctx, nni_device *dev, size_t bytes) {
  void *p = dev->is->buffer_get(dev, bytes);
  if (p) return p;
  if (ctx->hooks.collect) ctx->hooks.collect(ctx->hooks.ud, 1);
  dev->is->trim(dev);
  if ((p = dev->is->buffer_get(dev, bytes))) return p;
  nni_fail(&ctx->core.err, NN_ENOMEM, "to: out of memory on %s: a copy needs %zu bytes, beside %zu in live tensors", dev->name, bytes,
           dev->is->memory(dev).live);
  return NULL;
}

/* t's elements, row-major, in a new buffer of dev */
static nn_tensor *copy_to(nn_tensor *t, nni_device *dev) {
  nn_context *ctx = t->ctx;
  size_t bytes = (size_t)nn_numel(t) * nn_dtype_size(t->dtype);
  if (!dev->host && t->dtype == NN_F64) {
    nni_fail(&ctx->core.err, NN_EUNSUPPORTED, "to: f64 is computed on the CPU only; convert with :to(\"f32\") first");
    return NULL;
  }
  if (!nni_layout_is_contiguous(&t->l)) {
    nn_tensor *c = nn_call(ctx, "contiguous", NN_T(t));
    nn_tensor *moved = c ? copy_to(c, dev) : NULL;
    nn_release(c);
    return moved;
  }
  if (nni_need(t) != NN_OK) return NULL;
  size_t from = (size_t)t->l.offset * nn_dtype_size(t->dtype);
  void *p = room_on(ctx, dev, bytes);
  nn_status st = NN_OK;
  if (!p) return NULL;
  if (bytes && dev->host) st = nni_value_peek(ctx, t->v, from, bytes, p);
  else if (bytes) { /* from the host, or by way of it */
    const char *src = nni_value_host(ctx, t->v);
    st = src ? dev->is->upload(dev, p, src + from, bytes, &ctx->core.err) : ctx->core.err.status;
  }
  if (st == NN_OK) {
    nn_tensor *moved = nni_tensor_adopt_on(ctx, dev, t->dtype, t->l.ndim, t->l.shape, p);
    if (moved && bytes && !dev->host && t->v->dev->host) nni_bounds_look(moved->v, (const char *)t->v->data + from);
    return moved;
  }
  dev->is->buffer_put(dev, p, bytes);
  return NULL;
}

static nn_status move_back(void *ud, nn_context *ctx, nn_tensor *const *dout, int nout, nn_tensor **din, int nin) {
  (void)nout, (void)nin;
  din[0] = nn_to_device(dout[0], (int)(intptr_t)ud);
  return din[0] ? NN_OK : ctx->core.err.status;
}

nn_tensor *nn_to_device(nn_tensor *t, int device) {
  nn_context *ctx = t->ctx;
  if (open_device(ctx, device) != NN_OK) return NULL;
  if (t->v->dev->index == device) return nn_retain(t);
  bool grad = nn_set_grad_enabled(ctx, false);
  nn_tensor *moved = copy_to(t, ctx->dev[device]);
  nn_set_grad_enabled(ctx, grad);
  if (!moved || !nn_dtype_is_float(moved->dtype)) return moved;
  const nn_custom back = {.backward = move_back, .ud = (void *)(intptr_t)t->v->dev->index};
  if (nn_record_custom(ctx, &back, &t, 1, &moved, 1) == NN_OK) return moved;
  nn_release(moved);
  return NULL;
}
