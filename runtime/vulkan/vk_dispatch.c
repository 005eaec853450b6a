/* vulkan/vk_dispatch.c - how a dispatch is recorded: its descriptors, Info and Params, cut where it would take long; fault words. Into the batch that
** vk_stream.c says; kernels call nn_vk_dispatch and nn_vk_faults (vk.h).
*/
#include "vk_device.h"

enum { SETS = 64, PER_BYTE = 8 }; /* descriptor sets of a pool; operations that take as long as a byte */

static nn_status next_set(nn_vk_device *d, nn_vk_batch *b, VkDescriptorSet *out, nni_error *err) {
  VkResult r;
  if (b->inset == SETS) b->set++, b->inset = 0;
  if (b->set == b->nsets) {
    const VkDescriptorPoolSize size[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, SETS * (uint32_t)d->nbuf},
                                         {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, SETS * 2}};
    const VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = SETS, .poolSizeCount = 2, .pPoolSizes = size};
    if (!NN_VK_ROOM(d, b, sets, nsets, capsets)) return nn_vk_failed(d, VK_ERROR_OUT_OF_HOST_MEMORY, "recording", err);
    r = d->vk.vkCreateDescriptorPool(d->handle, &info, NULL, &b->sets[b->nsets]);
    if (r != VK_SUCCESS) return nn_vk_failed(d, r, "recording", err);
    b->nsets++;
  }
  const VkDescriptorSetAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                             .descriptorPool = b->sets[b->set],
                                             .descriptorSetCount = 1,
                                             .pSetLayouts = &d->setlayout};
  r = d->vk.vkAllocateDescriptorSets(d->handle, &alloc, out);
  b->inset++;
  return r == VK_SUCCESS ? NN_OK : nn_vk_failed(d, r, "recording", err);
}

static int32_t to_i32(double f) { return f != f ? 0 : f >= 2147483647.0 ? INT32_MAX : f <= -2147483648.0 ? INT32_MIN : (int32_t)f; }
static int64_t to_i64(double f) { return f != f ? 0 : f >= 0x1p63 ? INT64_MAX : f <= -0x1p63 ? INT64_MIN : (int64_t)f; }
static void fill_slice(const nn_vk_slice *s, const nni_param *p) {
  for (int i = 0; i < s->n; i++) {
    const nni_param *q = &p[s->param + i];
    s->at[i] = (nn_vk_param){.f = (float)q->f, .i = to_i32(q->f), .l = to_i64(q->f), .u = q->u};
  }
}
void nn_vk_refill(const nn_vk_batch *b, const nni_param *p) {
  for (int i = 0; i < b->nslice; i++) fill_slice(&b->slice[i], p);
}

/* The Params of a dispatch; dispatches of one unit that follow each other share theirs. */
static const nn_vk_slice *slice_of(nn_vk_device *d, nn_vk_batch *b, int param, int n) {
  nn_vk_slice *last = b->nslice > 0 ? &b->slice[b->nslice - 1] : NULL;
  if (last && last->param == param && last->n == n) return last;
  nn_vk_piece h;
  if (!NN_VK_ROOM(d, b, slice, nslice, capslice) || !nn_vk_host_take(d, b, (uint64_t)n * sizeof(nn_vk_param), d->uniform_align, &h)) return NULL;
  last = &b->slice[b->nslice++];
  *last = (nn_vk_slice){.param = param, .n = n, .at = (nn_vk_param *)(void *)h.map, .buffer = h.buffer, .offset = h.offset};
  fill_slice(last, d->param);
  return last;
}

typedef struct sets {
  VkDescriptorBufferInfo buffer[NN_VK_NBUF + 2];
  VkWriteDescriptorSet write[NN_VK_NBUF + 2];
  uint32_t n;
} sets;
static void put(sets *s, VkDescriptorSet set, uint32_t binding, VkDescriptorType type, VkBuffer buffer, uint64_t offset, uint64_t range) {
  s->buffer[s->n] = (VkDescriptorBufferInfo){buffer, offset, range};
  s->write[s->n] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                          .dstSet = set,
                                          .dstBinding = binding,
                                          .descriptorCount = 1,
                                          .descriptorType = type,
                                          .pBufferInfo = &s->buffer[s->n]};
  s->n++;
}

/* Storage buffers of the dispatch: their descriptors and the spans they cover. */
static nn_status put_ranges(nn_vk_device *d, const nn_vk_work *w, VkDescriptorSet set, sets *s, nn_vk_span *span, uint64_t *writes, nni_error *err) {
  for (int i = 0; i < w->nbind; i++) {
    const nn_vk_bind *x = &w->bind[i];
    uint64_t at = 0, range;
    const nn_vk_block *b = nn_vk_find(d, x->data, &at);
    if (!b) return nni_fail(err, NN_EINTERNAL, "%s: buffer %d of a dispatch has no address of this device (a bug in nnlua)", d->base.name, i + 1);
    range = x->bytes + at % d->range_align;
    at -= at % d->range_align;
    if (x->bytes == 0) at = 0, range = d->range_align;
    if (at + range > b->size)
      return nni_fail(err, NN_EINTERNAL, "%s: buffer %d of a dispatch ends behind its memory (a bug in nnlua)", d->base.name, i + 1);
    if (range > d->props.limits.maxStorageBufferRange)
      return nni_fail(err, NN_EDEVICE, "%s: a tensor of %zu bytes is too large for a kernel on this device, which can see %u at a time", d->base.name,
                      x->bytes, d->props.limits.maxStorageBufferRange);
    put(s, set, (uint32_t)i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, b->buffer, at, range);
    span[i] = (nn_vk_span){nn_vk_address(b, at), nn_vk_address(b, at + range)};
    if (x->write) *writes |= (uint64_t)1 << i;
  }
  return NN_OK;
}

/* The groups of a dispatch, all at once or, where they would take long, cut along the last axis that has several: their linear numbers stay what they are. */
static nn_status in_parts(nn_vk_device *d, nn_vk_batch *b, const nn_vk_work *w, VkDescriptorSet set, const nn_vk_span *span, uint64_t writes, nni_error *err) {
  const int axis = w->groups[2] > 1 ? 2 : w->groups[1] > 1 ? 1 : 0;
  const uint32_t all = w->groups[axis];
  uint64_t ops = 0;
  for (int i = 0; i < w->nbind; i++) ops += w->bind[i].bytes * PER_BYTE;
  if (ops < w->ops) ops = w->ops;
  const uint64_t wanted = nn_vk_ceil_div(ops ? ops : 1, d->budget), parts = wanted < all ? wanted : all;
  uint32_t base[3] = {0, 0, 0}, n[3] = {w->groups[0], w->groups[1], w->groups[2]};
  const uint32_t each = (uint32_t)nn_vk_ceil_div(all, parts);
  for (uint32_t at = 0; at < all; at += n[axis]) {
    base[axis] = at;
    n[axis] = all - at < each ? all - at : each;
    nn_status st = nn_vk_make_way(d, b, ops / parts, err);
    if (st != NN_OK) return st;
    nn_vk_order(d, b, span, w->nbind, writes);
    d->vk.vkCmdBindPipeline(b->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, nn_vk_pipeline_handle(w->pipeline));
    d->vk.vkCmdBindDescriptorSets(b->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, d->layout, 0, 1, &set, 0, NULL);
    d->counts.dispatches++;
    d->vk.vkCmdDispatchBase(b->cmd, base[0], base[1], base[2], n[0], n[1], n[2]);
  }
  return NN_OK;
}

nn_status nn_vk_dispatch(nn_vk_device *d, const nn_vk_work *w, nni_error *err) {
  sets s = {.n = 0};
  nn_vk_span span[NN_VK_NBUF];
  nn_vk_batch *b;
  VkDescriptorSet set;
  uint64_t writes = 0;
  if (!w->pipeline) return err->status;
  if (w->groups[0] == 0 || w->groups[1] == 0 || w->groups[2] == 0) return NN_OK;
  if (w->nbind > d->nbuf)
    return nni_fail(err, NN_EUNSUPPORTED, "%s: a kernel needs %d buffers at a time; this device has %d", d->base.name, w->nbind, d->nbuf);
  if (w->ninfo > NN_VK_MAXINFO || w->nparam > NN_VK_MAXPARAM || (w->nparam > 0 && w->param + w->nparam > d->nparam))
    return nni_fail(err, NN_EINTERNAL, "%s: a dispatch of %zu bytes and %d parameters from %d of %d (a bug in nnlua)", d->base.name, w->ninfo,
                    w->nparam, w->param, d->nparam);
  nn_status st = nn_vk_current(d, &b, err);
  if (st == NN_OK) st = next_set(d, b, &set, err);
  if (st == NN_OK) st = put_ranges(d, w, set, &s, span, &writes, err);
  if (st != NN_OK) return st;
  if (w->ninfo > 0) {
    nn_vk_piece h;
    if (!nn_vk_host_take(d, b, w->ninfo, d->uniform_align, &h)) return nni_fail(err, NN_ENOMEM, "%s: out of memory while recording", d->base.name);
    memcpy(h.map, w->info, w->ninfo);
    put(&s, set, NN_VK_INFO, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, h.buffer, h.offset, w->ninfo);
  }
  if (w->nparam > 0) {
    const nn_vk_slice *p = slice_of(d, b, w->param, w->nparam);
    if (!p) return nni_fail(err, NN_ENOMEM, "%s: out of memory while recording", d->base.name);
    put(&s, set, NN_VK_PARAMS, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, p->buffer, p->offset, sizeof(nn_vk_param) * (uint64_t)w->nparam);
  }
  d->vk.vkUpdateDescriptorSets(d->handle, s.n, s.write, 0, NULL);
  return in_parts(d, b, w, set, span, writes, err);
}

nn_status nn_vk_faults(const nni_kernel_call *k, nn_vk_say say, const int64_t *ia, int nia, nn_vk_bind *words) {
  nn_vk_device *d = nn_vk_of(k->dev);
  nni_error *err = k->err;
  nn_vk_batch *b;
  nn_vk_piece h;
  nn_status st = nn_vk_current(d, &b, err);
  if (st != NN_OK) return st;
  if (!NN_VK_ROOM(d, b, fault, nfault, capfault) || !nn_vk_host_take(d, b, sizeof(uint32_t) * NN_VK_FAULT_WORDS, d->range_align, &h))
    return nni_fail(err, NN_ENOMEM, "%s: out of memory while recording", d->base.name);
  nn_vk_fault *f = &b->fault[b->nfault++];
  *f = (nn_vk_fault){.say = say, .unit = k->unit, .words = (uint32_t *)(void *)h.map, .nia = nia < NN_VK_FAULT_IA ? nia : NN_VK_FAULT_IA};
  memcpy(f->ia, ia, sizeof *ia * (size_t)f->nia);
  b->tohost = true;
  *words = (nn_vk_bind){.data = h.address, .bytes = sizeof(uint32_t) * NN_VK_FAULT_WORDS, .write = true};
  return NN_OK;
}
