/* vulkan/vk_memory.c - device memory, and mapped host memory for staging: blocks with sub-allocation.
**
** A block is one VkBuffer in one place. Buffers below 1 MiB come from small blocks, larger ones from large blocks, still larger ones have a block of their own.
** A loop must get the same addresses again, since records of plans are found by address: a buffer that is given back stays a gap of its own size, and the
** lowest gap of just the size that is asked for is taken first; a new one is cut off the largest gap, so that the others stay whole. Only when nothing fits (or
** a block is full of small gaps) are neighbouring gaps joined, and then the smallest that suffices is taken.
** Ranges of the device's memory may be used again at once: the stream is in order. Blocks go back to the driver in trim, or when memory is short, after all work
** has ended.
** Only stream and kernels resolve addresses (nn_vk_find).
*/
#include "vk_device.h"
#include <stdlib.h>

#define MiB ((uint64_t)1 << 20)
enum { ALIGN = 256, MOST_GAPS = 1024 };
static const uint64_t SMALL = 1 * MiB;
static const struct {
  uint64_t small, large;
} usual[] = {[NN_VK_DEVICE_LOCAL] = {32 * MiB, 256 * MiB}, [NN_VK_NEAR] = {4 * MiB, 4 * MiB}, [NN_VK_TO_DEVICE] = {4 * MiB, 64 * MiB}, [NN_VK_FROM_DEVICE] = {4 * MiB, 32 * MiB}};

/* ---- blocks -------------------------------------------------------------------------------------------------------------------------- */
static int memory_type(const nn_vk_device *d, uint32_t allowed, VkMemoryPropertyFlags need, VkMemoryPropertyFlags avoid) {
  int fallback = -1;
  for (uint32_t i = 0; i < d->memtypes.memoryTypeCount; i++) {
    const VkMemoryPropertyFlags f = d->memtypes.memoryTypes[i].propertyFlags;
    if (!(allowed >> i & 1) || (f & need) != need) continue;
    if (!(f & avoid)) return (int)i;
    if (fallback < 0) fallback = (int)i;
  }
  return fallback;
}

/* Bulk data stays out of memory that the host can see (measured to be slow on cards where all of it is mapped); what the host reads must be cached. */
static int type_for(const nn_vk_device *d, uint32_t allowed, nn_vk_place place) {
  const VkMemoryPropertyFlags seen = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  int t;
  if (place == NN_VK_DEVICE_LOCAL) {
    t = memory_type(d, allowed, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    return t >= 0 ? t : memory_type(d, allowed, 0, 0);
  }
  if (place == NN_VK_NEAR) {
    t = memory_type(d, allowed, seen | VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0);
    if (t >= 0) return t;
  }
  if (place != NN_VK_FROM_DEVICE) return memory_type(d, allowed, seen, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
  t = memory_type(d, allowed, seen | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
  return t >= 0 ? t : memory_type(d, allowed, seen, 0);
}

static void block_free(nn_vk_device *d, nn_vk_block *b) {
  if (!b) return;
  if (b->map) d->vk.vkUnmapMemory(d->handle, b->memory);
  d->vk.vkDestroyBuffer(d->handle, b->buffer, NULL);
  d->vk.vkFreeMemory(d->handle, b->memory, NULL);
  if (b->number < d->nblock) d->block[b->number] = NULL;
  nni_free(d->base.mem, b->gap, sizeof *b->gap * (size_t)b->cap);
  nni_free(d->base.mem, b, sizeof *b);
}

static bool reserve_gaps(nn_vk_device *d, nn_vk_block *b, int n) {
  if (n <= b->cap) return true;
  const int cap = n < 16 ? 16 : n * 2;
  nn_vk_gap *g = nni_realloc(d->base.mem, b->gap, sizeof *g * (size_t)b->cap, sizeof *g * (size_t)cap);
  if (!g) return false;
  b->gap = g;
  b->cap = cap;
  return true;
}

static bool number(nn_vk_device *d, nn_vk_block *b) {
  if (d->nblock == d->capblock) {
    const uint32_t cap = d->capblock ? d->capblock * 2 : 64;
    nn_vk_block **t = nni_realloc(d->base.mem, d->block, sizeof *t * d->capblock, sizeof *t * cap);
    if (!t) return false;
    d->block = t;
    d->capblock = cap;
  }
  if (d->nblock >= (1u << 23) - 1) return false; /* addresses have 64 bits */
  b->number = d->nblock++;
  d->block[b->number] = b;
  return true;
}

static nn_vk_block *block_new(nn_vk_device *d, nn_vk_place place, uint64_t size) {
  const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                   .size = size,
                                   .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT |
                                            VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
  VkMemoryRequirements need;
  nn_vk_block *b = nni_calloc(d->base.mem, sizeof *b);
  if (!b) return NULL;
  *b = (nn_vk_block){.size = size, .place = place, .number = UINT32_MAX};
  if (!reserve_gaps(d, b, 1) || d->vk.vkCreateBuffer(d->handle, &info, NULL, &b->buffer) != VK_SUCCESS) goto fail;
  d->vk.vkGetBufferMemoryRequirements(d->handle, b->buffer, &need);
  const int type = type_for(d, need.memoryTypeBits, place);
  if (type < 0) goto fail;
  const VkMemoryAllocateInfo alloc = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size, .memoryTypeIndex = (uint32_t)type};
  if (d->vk.vkAllocateMemory(d->handle, &alloc, NULL, &b->memory) != VK_SUCCESS) goto fail;
  if (d->vk.vkBindBufferMemory(d->handle, b->buffer, b->memory, 0) != VK_SUCCESS) goto fail;
  if (place != NN_VK_DEVICE_LOCAL && d->vk.vkMapMemory(d->handle, b->memory, 0, VK_WHOLE_SIZE, 0, (void **)&b->map) != VK_SUCCESS) {
    b->map = NULL;
    goto fail;
  }
  if (!number(d, b)) goto fail;
  b->gap[b->ngap++] = (nn_vk_gap){0, size};
  return b;
fail:
  block_free(d, b);
  return NULL;
}

nn_vk_block *nn_vk_find(const nn_vk_device *d, const void *p, uint64_t *offset) {
  const uint64_t a = (uint64_t)(uintptr_t)p, n = a >> 40;
  if (n == 0 || n > d->nblock || !d->block[n - 1]) return NULL;
  *offset = a & (((uint64_t)1 << 40) - 1);
  return d->block[n - 1];
}

/* ---- buffers ------------------------------------------------------------------------------------------------------------------------- */
static uint64_t rounded(size_t bytes) { return bytes == 0 ? ALIGN : ((uint64_t)bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1); }

static void *take_gap(nn_vk_device *d, nn_vk_block *b, int i, uint64_t n) {
  if (!reserve_gaps(d, b, b->ngap + b->nlive + 2)) return NULL;
  const uint64_t at = b->gap[i].offset;
  b->gap[i].offset += n;
  b->gap[i].size -= n;
  if (b->gap[i].size == 0) memmove(b->gap + i, b->gap + i + 1, sizeof *b->gap * (size_t)(--b->ngap - i));
  b->nlive++;
  if (b->place == NN_VK_DEVICE_LOCAL) {
    d->stats.live += n;
    d->stats.allocated += n;
    if (d->stats.live > d->stats.peak) d->stats.peak = d->stats.live;
  }
  return (void *)nn_vk_address(b, at);
}

static void join(nn_vk_block *b) {
  int n = 0;
  for (int i = 0; i < b->ngap; i++)
    if (n > 0 && b->gap[n - 1].offset + b->gap[n - 1].size == b->gap[i].offset) b->gap[n - 1].size += b->gap[i].size;
    else b->gap[n++] = b->gap[i];
  b->ngap = n;
}

/* The gap to take n bytes from; of all blocks the first that is best. */
static nn_vk_block *choose(nn_vk_device *d, nn_vk_place place, uint64_t n, bool smallest, bool any, int *at) {
  nn_vk_block *best = NULL;
  uint64_t size = 0;
  for (nn_vk_block *b = d->blocks; b; b = b->next) {
    if (b->place != place || (!any && b->small != (n < SMALL))) continue;
    for (int i = 0; i < b->ngap; i++) {
      const uint64_t have = b->gap[i].size;
      if (have < n || (best && (smallest ? have >= size : have <= size))) continue;
      best = b, size = have, *at = i;
    }
  }
  return best;
}

static void *take(nn_vk_device *d, nn_vk_place place, uint64_t n) {
  int at = 0;
  nn_vk_block *b = NULL;
  for (b = d->blocks; b; b = b->next) { /* of just this size */
    if (b->place != place || b->small != (n < SMALL)) continue;
    for (int i = 0; i < b->ngap; i++)
      if (b->gap[i].size == n) return take_gap(d, b, i, n);
  }
  b = choose(d, place, n, false, false, &at);
  if (!b) {
    for (nn_vk_block *q = d->blocks; q; q = q->next)
      if (q->place == place) join(q);
    b = choose(d, place, n, true, false, &at);
  }
  return b ? take_gap(d, b, at, n) : NULL;
}

/* A new block in which n bytes fit: of the usual size, of just that size where there is no room for it. */
static bool grow(nn_vk_device *d, nn_vk_place place, uint64_t n) {
  uint64_t most = d->max_alloc, common = n < SMALL ? usual[place].small : usual[place].large;
  if (place == NN_VK_DEVICE_LOCAL) { /* a block is a small part of a small device */
    const uint64_t part = d->limit / (n < SMALL ? 16 : 4) & ~(MiB - 1);
    if (common > part) common = part;
  }
  if (common > most) common = most;
  if (place == NN_VK_DEVICE_LOCAL && d->limit - d->reserved < most) most = d->limit - d->reserved;
  for (int tries = 0; tries < 2; tries++) {
    const uint64_t size = tries == 0 && n <= common ? common : (n + MiB - 1) & ~(MiB - 1);
    nn_vk_block *b = size <= most ? block_new(d, place, size) : NULL, **end = &d->blocks;
    if (!b) continue;
    b->small = n < SMALL;
    while (*end) end = &(*end)->next; /* the oldest first */
    *end = b;
    if (place == NN_VK_DEVICE_LOCAL) d->reserved += size;
    return true;
  }
  return false;
}

static void drop_unused(nn_vk_device *d) {
  nni_error ignored = {0};
  if (d->timeline && (nn_vk_submit(d, NULL, &ignored) != NN_OK || nn_vk_wait(d, d->value, &ignored) != NN_OK) && !d->lost)
    return; /* work may still use them */
  for (nn_vk_block **p = &d->blocks; *p;) {
    nn_vk_block *b = *p;
    if (b->nlive > 0) {
      p = &b->next;
      continue;
    }
    *p = b->next;
    if (b->place == NN_VK_DEVICE_LOCAL) d->reserved -= b->size;
    block_free(d, b);
  }
}

void *nn_vk_memory_get(nn_vk_device *d, nn_vk_place place, size_t bytes) {
  if (bytes > (uint64_t)1 << 39) return NULL; /* beyond an address's offset; no such device */
  const uint64_t n = rounded(bytes);
  void *p = take(d, place, n);
  if (!p && grow(d, place, n)) p = take(d, place, n);
  int at = 0;
  nn_vk_block *b = !p && n < SMALL ? choose(d, place, n, true, true, &at) : NULL; /* a small one among the large, when nothing else is left */
  if (b) p = take_gap(d, b, at, n);
  if (!p && place == NN_VK_DEVICE_LOCAL && !d->target) { /* not from within recording, which it would submit */
    drop_unused(d);
    if (grow(d, place, n)) p = take(d, place, n);
  }
  return p;
}

void nn_vk_memory_put(nn_vk_device *d, void *p, size_t bytes) {
  uint64_t at, n = rounded(bytes);
  nn_vk_block *b = nn_vk_find(d, p, &at);
  if (!b) return;
  int lo = 0, hi = b->ngap; /* the first gap behind it */
  while (lo < hi) {
    const int mid = (lo + hi) / 2;
    if (b->gap[mid].offset < at) lo = mid + 1;
    else hi = mid;
  }
  memmove(b->gap + lo + 1, b->gap + lo, sizeof *b->gap * (size_t)(b->ngap++ - lo));
  b->gap[lo] = (nn_vk_gap){at, n};
  if (b->ngap > MOST_GAPS) join(b);
  b->nlive--;
  if (b->place == NN_VK_DEVICE_LOCAL) d->stats.live -= n;
}

void *nn_vk_buffer_get(nni_device *base, size_t bytes) { return nn_vk_memory_get(nn_vk_of(base), NN_VK_DEVICE_LOCAL, bytes); }
void nn_vk_buffer_put(nni_device *base, void *p, size_t bytes) { nn_vk_memory_put(nn_vk_of(base), p, bytes); }

nn_memory_info nn_vk_memory(nni_device *base) {
  nn_vk_device *d = nn_vk_of(base);
  nn_memory_info m = d->stats;
  m.cached = d->reserved - m.live;
  return m;
}
void nn_vk_trim(nni_device *base) { drop_unused(nn_vk_of(base)); }

/* ---- device -------------------------------------------------------------------------------------------------------------------------- */
void nn_vk_memory_open(nn_vk_device *d) {
  const char *s = getenv("NNLUA_VK_MEMORY");
  const uint64_t mib = s ? strtoull(s, NULL, 10) : 0;
  for (uint32_t i = 0; i < d->memtypes.memoryHeapCount; i++)
    if (d->memtypes.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT && d->memtypes.memoryHeaps[i].size > d->limit)
      d->limit = d->memtypes.memoryHeaps[i].size;
  if (mib > 0 && mib < d->limit / MiB) d->limit = mib * MiB;
}

void nn_vk_memory_close(nn_vk_device *d) {
  for (uint32_t i = 0; i < d->nblock; i++) block_free(d, d->block[i]);
  nni_free(d->base.mem, d->block, sizeof *d->block * d->capblock);
  d->block = NULL;
  d->blocks = NULL;
  d->nblock = d->capblock = 0;
}
