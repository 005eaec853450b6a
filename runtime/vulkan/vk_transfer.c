/* vulkan/vk_transfer.c - bytes that are filled, copied, and brought to and from the device by way of mapped memory. All of it goes through the stream.
*/
#include "vk_device.h"

static const uint64_t PIECE = (uint64_t)32 << 20;

/* Records a copy between addresses that were found to be good. */
static void copy(nn_vk_device *d, nn_vk_batch *b, const void *to, const void *from, uint64_t bytes) {
  uint64_t at, first;
  const nn_vk_block *dst = nn_vk_find(d, to, &at), *src = nn_vk_find(d, from, &first);
  const nn_vk_span span[] = {{(uintptr_t)from, (uintptr_t)from + bytes}, {(uintptr_t)to, (uintptr_t)to + bytes}};
  const VkBufferCopy region = {.srcOffset = first, .dstOffset = at, .size = bytes};
  nn_vk_order(d, b, span, 2, 2);
  d->vk.vkCmdCopyBuffer(b->cmd, src->buffer, dst->buffer, 1, &region);
}

static nn_vk_block *find(const nn_vk_device *d, const void *p, size_t bytes, uint64_t *at, nni_error *err) {
  nn_vk_block *b = nn_vk_find(d, p, at);
  if (b && *at + bytes <= b->size) return b;
  nni_fail(err, NN_EINTERNAL, "%s: a transfer outside the device's memory (a bug in nnlua)", d->base.name);
  return NULL;
}

nn_status nn_vk_fill(nn_vk_device *d, void *dst, size_t bytes, uint32_t word, nni_error *err) {
  nn_vk_batch *b;
  uint64_t at;
  if (bytes == 0) return NN_OK;
  const nn_vk_block *to = find(d, dst, bytes, &at, err);
  if (!to) return err->status;
  nn_status st = nn_vk_current(d, &b, err);
  if (st != NN_OK) return st;
  nn_vk_order(d, b, &(nn_vk_span){nn_vk_address(to, at), nn_vk_address(to, at + bytes)}, 1, 1);
  d->vk.vkCmdFillBuffer(b->cmd, to->buffer, at, bytes, word);
  return NN_OK;
}

nn_status nn_vk_copy_bytes(nn_vk_device *d, void *dst, const void *src, size_t bytes, nni_error *err) {
  nn_vk_batch *b;
  uint64_t at;
  if (bytes == 0 || dst == src) return NN_OK;
  if (!find(d, dst, bytes, &at, err) || !find(d, src, bytes, &at, err)) return err->status;
  nn_status st = nn_vk_current(d, &b, err);
  if (st == NN_OK) copy(d, b, dst, src, bytes);
  return st;
}

nn_status nn_vk_upload(nni_device *base, void *dst, const void *src, size_t bytes, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  uint64_t at;
  if (bytes == 0) return NN_OK;
  if (!find(d, dst, bytes, &at, err)) return err->status;
  d->counts.uploads++;
  for (uint64_t done = 0, n; done < bytes; done += n) {
    nn_vk_batch *b = NULL;
    nn_vk_piece h;
    nn_status st = nn_vk_current(d, &b, err);
    if (st != NN_OK) return st;
    n = bytes - done < PIECE ? bytes - done : PIECE;
    if (!nn_vk_host_take(d, b, n, 16, &h)) return nni_fail(err, NN_ENOMEM, "%s: no memory for an upload of %zu bytes", d->base.name, bytes);
    memcpy(h.map, (const char *)src + done, n);
    copy(d, b, (char *)dst + done, h.address, n);
    b->staged += n;
  }
  return NN_OK;
}

/* One piece of a download, by way of h, which is mapped at map. */
static nn_status bring(nn_vk_device *d, char *dst, const char *src, uint64_t n, void *h, const char *map, nni_error *err) {
  nn_vk_batch *b = NULL;
  nn_status st = nn_vk_loose(d, &b, err);
  if (st != NN_OK) return st;
  copy(d, b, h, src, n);
  b->tohost = true;
  st = nn_vk_submit(d, NULL, err);
  if (st == NN_OK) st = nn_vk_wait(d, d->value, err);
  if (st == NN_OK) memcpy(dst, map, n);
  return st;
}

nn_status nn_vk_download(nni_device *base, void *dst, const void *src, size_t bytes, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  uint64_t at = 0;
  const uint64_t most = bytes < PIECE ? bytes : PIECE;
  if (bytes == 0) return nn_vk_finish(base, err);
  if (!find(d, src, bytes, &at, err)) return err->status;
  void *h = nn_vk_memory_get(d, NN_VK_FROM_DEVICE, most);
  const nn_vk_block *block = h ? nn_vk_find(d, h, &at) : NULL;
  if (!block) return nni_fail(err, NN_ENOMEM, "%s: no memory for a download of %zu bytes", d->base.name, bytes);
  nn_status st = NN_OK;
  d->counts.downloads++;
  for (uint64_t done = 0; done < bytes && st == NN_OK; done += most)
    st = bring(d, (char *)dst + done, (const char *)src + done, bytes - done < most ? bytes - done : most, h, block->map + at, err);
  nn_vk_memory_put(d, h, most);
  return st == NN_OK ? nn_vk_reported(d, err) : st;
}
