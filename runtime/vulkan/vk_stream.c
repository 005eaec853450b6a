/* vulkan/vk_stream.c - the one stream of a device: recording dispatches and transfers, barriers, submitting, waiting, staging.
**
** Commands go into batches. Every batch opens with a full barrier, so all that was submitted earlier has happened; within it ranges read and written since
** the last barrier are kept, and a barrier is recorded when a new command overlaps them. What is outside nn_vk_begin ... nn_vk_end (uploads, downloads,
** tests) goes to the loose batch, which is submitted before the next run, or when somebody waits, or when it has grown large. Each submission
** signals the next value of the timeline; batches, and all host memory that they hold, are used again when theirs is reached.
*/
#include "vk_device.h"

enum { SETS = 64, MAXCOMMANDS = 512, LONG = 16, /* budgets, some two seconds: what one command buffer may hold */ PER_BYTE = 8 /* operations that take as long as a byte */ };
static const uint64_t PIECE = (uint64_t)32 << 20, STAGED = (uint64_t)64 << 20, HOST = 32 << 10;

/* ---- barriers ------------------------------------------------------------------------------------------------------------------------ */
static void barrier(nn_vk_device *d, VkCommandBuffer cmd, VkPipelineStageFlags2 from, VkAccessFlags2 written, VkPipelineStageFlags2 to,
                    VkAccessFlags2 used) {
  const VkMemoryBarrier2 m = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2, .srcStageMask = from, .srcAccessMask = written, .dstStageMask = to, .dstAccessMask = used};
  const VkDependencyInfo info = {.sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .memoryBarrierCount = 1, .pMemoryBarriers = &m};
  d->vk.vkCmdPipelineBarrier2(cmd, &info);
}

static bool overlaps(const nn_vk_span *s, int n, nn_vk_span x) {
  for (int i = 0; i < n; i++)
    if (s[i].lo < x.hi && x.lo < s[i].hi) return true;
  return false;
}

/* Before a command that uses spans s[0..n), the ones with their bit set in `writes` to write: a barrier if it has to wait for an earlier command. */
static void order(nn_vk_device *d, nn_vk_batch *b, const nn_vk_span *s, int n, uint64_t writes) {
  bool must = d->barriers && b->nread + b->nwrite > 0;
  if (b->nread + n > NN_VK_NSPAN || b->nwrite + n > NN_VK_NSPAN) must = true;
  for (int i = 0; i < n && !must; i++) must = overlaps(b->writes, b->nwrite, s[i]) || ((writes >> i & 1) && overlaps(b->reads, b->nread, s[i]));
  if (must) {
    const VkPipelineStageFlags2 stages = VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT;
    const VkAccessFlags2 written = VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT;
    barrier(d, b->cmd, stages, written, stages, written | VK_ACCESS_2_SHADER_STORAGE_READ_BIT | VK_ACCESS_2_TRANSFER_READ_BIT);
    b->nread = b->nwrite = 0;
    d->counts.barriers++;
  }
  for (int i = 0; i < n; i++)
    if (writes >> i & 1) b->writes[b->nwrite++] = s[i];
    else b->reads[b->nread++] = s[i];
  b->commands++;
}

/* ---- batches ------------------------------------------------------------------------------------------------------------------------- */
/* room for one more in a growing array */
static bool room(nn_vk_device *d, void **p, int n, int *cap, size_t each) {
  if (n < *cap) return true;
  const int more = *cap ? *cap * 2 : 8;
  void *q = nni_realloc(d->base.mem, *p, each * (size_t)*cap, each * (size_t)more);
  if (!q) return false;
  *p = q;
  *cap = more;
  return true;
}
#define ROOM(d, b, array, n, cap) room(d, (void **)&(b)->array, (b)->n, &(b)->cap, sizeof *(b)->array)

/* Command buffer i becomes the one that is recorded into. */
static bool next_cmd(nn_vk_device *d, nn_vk_batch *b, int i) {
  const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = b->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
  if (i == b->ncmd) {
    if (!ROOM(d, b, cmds, ncmd, capcmd) || d->vk.vkAllocateCommandBuffers(d->handle, &info, &b->cmds[i]) != VK_SUCCESS) return false;
    b->ncmd++;
  }
  b->icmd = i;
  b->cmd = b->cmds[i];
  return true;
}

nn_vk_batch *nn_vk_batch_new(nn_vk_device *d) {
  nn_vk_batch *b = nni_calloc(d->base.mem, sizeof *b);
  if (!b) return NULL;
  const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = d->family};
  if (d->vk.vkCreateCommandPool(d->handle, &pool, NULL, &b->pool) == VK_SUCCESS) {
    if (next_cmd(d, b, 0)) return b;
    nni_free(d->base.mem, b->cmds, sizeof *b->cmds * (size_t)b->capcmd);
    d->vk.vkDestroyCommandPool(d->handle, b->pool, NULL);
  }
  nni_free(d->base.mem, b, sizeof *b);
  return NULL;
}

static void unwatch(nn_vk_device *d, const nn_vk_batch *b) {
  int n = 0;
  for (int i = 0; i < d->nwatch; i++)
    if (d->watch[i] != b) d->watch[n++] = d->watch[i];
  d->nwatch = n;
}

static void drop_host(nn_vk_device *d, nn_vk_batch *b) {
  for (; b->nhost > 0; b->nhost--) nn_vk_memory_put(d, b->host[b->nhost - 1].address, b->host[b->nhost - 1].bytes);
}

void nn_vk_batch_free(nn_vk_device *d, nn_vk_batch *b) {
  if (!b) return;
  nni_error ignored = {0};
  nn_vk_wait(d, b->value, &ignored);
  nn_vk_look(d, b);
  unwatch(d, b);
  for (int i = 0; i < b->nsets; i++) d->vk.vkDestroyDescriptorPool(d->handle, b->sets[i], NULL);
  drop_host(d, b);
  d->vk.vkDestroyCommandPool(d->handle, b->pool, NULL);
  nni_free(d->base.mem, b->cmds, sizeof *b->cmds * (size_t)b->capcmd);
  nni_free(d->base.mem, b->sets, sizeof *b->sets * (size_t)b->capsets);
  nni_free(d->base.mem, b->host, sizeof *b->host * (size_t)b->caphost);
  nni_free(d->base.mem, b->slice, sizeof *b->slice * (size_t)b->capslice);
  nni_free(d->base.mem, b->fault, sizeof *b->fault * (size_t)b->capfault);
  nni_free(d->base.mem, b, sizeof *b);
}

void nn_vk_settle(nn_vk_device *d, nn_vk_batch *b) {
  barrier(d, b->cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, VK_ACCESS_2_MEMORY_WRITE_BIT, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
          VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT);
  b->nread = b->nwrite = 0;
}

static VkResult begin_cmd(nn_vk_device *d, nn_vk_batch *b) {
  const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                          .flags = b->again ? 0 : VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
  VkResult r = d->vk.vkBeginCommandBuffer(b->cmd, &begin);
  if (r != VK_SUCCESS) return r;
  nn_vk_settle(d, b);
  b->ops = 0;
  return VK_SUCCESS;
}

/* Before a command of so many operations: a batch of long work goes on in another command buffer. */
static nn_status make_way(nn_vk_device *d, nn_vk_batch *b, uint64_t ops, nni_error *err) {
  if (b->ops > 0 && b->ops + ops > LONG * d->budget) {
    VkResult r = d->vk.vkEndCommandBuffer(b->cmd);
    if (r == VK_SUCCESS) r = next_cmd(d, b, b->icmd + 1) ? begin_cmd(d, b) : VK_ERROR_OUT_OF_HOST_MEMORY;
    if (r != VK_SUCCESS) return nn_vk_failed(d, r, "recording", err);
  }
  b->ops += ops;
  return NN_OK;
}

nn_status nn_vk_batch_open(nn_vk_device *d, nn_vk_batch *b, bool again, nni_error *err) {
  nn_status st = nn_vk_wait(d, b->value, err);
  if (st != NN_OK) return st;
  nn_vk_look(d, b);
  unwatch(d, b);
  VkResult r = d->vk.vkResetCommandPool(d->handle, b->pool, 0);
  for (int i = 0; i < b->nsets && r == VK_SUCCESS; i++) r = d->vk.vkResetDescriptorPool(d->handle, b->sets[i], 0);
  drop_host(d, b);
  b->open = false;
  b->value = b->filled = b->staged = 0;
  b->set = b->inset = b->nslice = b->nfault = b->commands = 0;
  b->tohost = false;
  b->again = again;
  next_cmd(d, b, 0); /* it is there */
  if (r == VK_SUCCESS) r = begin_cmd(d, b);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, "starting to record", err);
  b->open = true;
  return NN_OK;
}

nn_status nn_vk_batch_close(nn_vk_device *d, nn_vk_batch *b, nni_error *err) {
  if (b->tohost)
    barrier(d, b->cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, VK_ACCESS_2_MEMORY_WRITE_BIT, VK_PIPELINE_STAGE_2_HOST_BIT, VK_ACCESS_2_HOST_READ_BIT);
  b->open = false;
  VkResult r = d->vk.vkEndCommandBuffer(b->cmd);
  return r == VK_SUCCESS ? NN_OK : nn_vk_failed(d, r, "recording", err);
}

nn_status nn_vk_loose(nn_vk_device *d, nn_vk_batch **out, nni_error *err) {
  nn_vk_batch *b = d->loose[d->iloose];
  nn_status st = NN_OK;
  if (b && b->open && (b->commands >= MAXCOMMANDS || b->staged >= STAGED) && d->target != b) {
    st = nn_vk_submit(d, NULL, err);
    b = d->loose[d->iloose];
  }
  if (st != NN_OK) return st;
  if (!b && !(b = d->loose[d->iloose] = nn_vk_batch_new(d)))
    return nni_fail(err, NN_ENOMEM, "%s: out of memory while starting to record", d->base.name);
  if (!b->open) st = nn_vk_batch_open(d, b, false, err);
  *out = b;
  return st;
}

nn_status nn_vk_current(nn_vk_device *d, nn_vk_batch **out, nni_error *err) {
  if (d->lost) return nn_vk_failed(d, VK_ERROR_DEVICE_LOST, "recording", err);
  if (!d->target) return nn_vk_loose(d, out, err);
  *out = d->target;
  return NN_OK;
}

/* A piece of mapped memory that the batch keeps until it is emptied. */
typedef struct piece {
  char *map;
  VkBuffer buffer;
  uint64_t offset;
  void *address;
} piece;
static bool host_take(nn_vk_device *d, nn_vk_batch *b, uint64_t bytes, uint64_t align, piece *out) {
  nn_vk_host *h = b->nhost > 0 ? &b->host[b->nhost - 1] : NULL;
  uint64_t at = (b->filled + align - 1) / align * align;
  if (!h || at + bytes > h->bytes) {
    const uint64_t n = bytes < HOST ? HOST : bytes;
    uint64_t start;
    if (!ROOM(d, b, host, nhost, caphost)) return false;
    void *p = bytes <= HOST ? nn_vk_memory_get(d, NN_VK_NEAR, n) : NULL;
    if (!p) p = nn_vk_memory_get(d, NN_VK_TO_DEVICE, n);
    const nn_vk_block *block = p ? nn_vk_find(d, p, &start) : NULL;
    if (!block) return false;
    h = &b->host[b->nhost++];
    *h = (nn_vk_host){.address = p, .map = block->map + start, .buffer = block->buffer, .offset = start, .bytes = n};
    at = 0;
    if (bytes > HOST && b->nhost > 1) { /* of its own: what is half full stays the last */
      const nn_vk_host own = *h;
      *h = h[-1];
      h[-1] = own;
      *out = (piece){own.map, own.buffer, own.offset, own.address};
      return true;
    }
  }
  b->filled = at + bytes;
  *out = (piece){h->map + at, h->buffer, h->offset + at, (char *)h->address + at};
  return true;
}

/* ---- submitting and waiting ------------------------------------------------------------------------------------------------------------ */
nn_status nn_vk_wait(nn_vk_device *d, uint64_t value, nni_error *err) {
  if (value <= d->reached || (!d->lost && nn_vk_ended(d, value))) return NN_OK;
  d->counts.waits++;
  const VkSemaphoreWaitInfo info = {
      .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &d->timeline, .pValues = &value};
  VkResult r = d->lost ? VK_ERROR_DEVICE_LOST : d->vk.vkWaitSemaphores(d->handle, &info, UINT64_MAX);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, "waiting for it", err);
  d->reached = value;
  return NN_OK;
}

bool nn_vk_ended(nn_vk_device *d, uint64_t value) {
  uint64_t now;
  if (value > d->reached && d->vk.vkGetSemaphoreCounterValue(d->handle, d->timeline, &now) == VK_SUCCESS && now > d->reached) d->reached = now;
  return value <= d->reached;
}

void nn_vk_look(nn_vk_device *d, nn_vk_batch *b) {
  if (b->checked || b->value == 0 || b->value > d->reached) return;
  b->checked = true;
  for (int i = 0; i < b->nfault; i++) {
    uint32_t words[NN_VK_FAULT_WORDS];
    memcpy(words, b->fault[i].words, sizeof words);
    if (words[0] == 0 || d->fault.status != NN_OK) continue;
    nni_error said = {0};
    const nn_status st = b->fault[i].say(words, b->fault[i].ia, b->fault[i].nia, &said);
    nni_fail(&d->fault, st, "%s", said.text);
    d->faulty = b->fault[i].unit;
  }
}

static void look_at_all(nn_vk_device *d) {
  int n = 0;
  for (int i = 0; i < d->nwatch; i++) {
    nn_vk_look(d, d->watch[i]);
    if (!d->watch[i]->checked) d->watch[n++] = d->watch[i];
  }
  d->nwatch = n;
}

nn_status nn_vk_reported(nn_vk_device *d, nni_error *err) {
  look_at_all(d);
  const nn_status st = d->fault.status;
  if (st == NN_OK) return NN_OK;
  d->fault.status = NN_OK;
  d->base.blamed = d->faulty;
  return nni_fail(err, st, "%s", d->fault.text);
}

/* the batch is about to be submitted */
static void arm(nn_vk_device *d, nn_vk_batch *b) {
  for (int i = 0; i < b->nfault; i++) memset(b->fault[i].words, 0, sizeof(uint32_t) * NN_VK_FAULT_WORDS);
  b->checked = b->nfault == 0;
  if (!b->checked) unwatch(d, b), d->watch[d->nwatch++] = b;
}

/* One submission of n command buffers, at most two; the timeline reaches `value` with it (0: it signals nothing). */
static VkResult hand_over(nn_vk_device *d, const VkCommandBuffer *buffer, uint32_t n, uint64_t value) {
  VkCommandBufferSubmitInfo cmd[2];
  for (uint32_t i = 0; i < n; i++) cmd[i] = (VkCommandBufferSubmitInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = buffer[i]};
  const VkSemaphoreSubmitInfo signal = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                        .semaphore = d->timeline,
                                        .value = value,
                                        .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
  const VkSubmitInfo2 info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                              .commandBufferInfoCount = n,
                              .pCommandBufferInfos = cmd,
                              .signalSemaphoreInfoCount = value > 0,
                              .pSignalSemaphoreInfos = &signal};
  VkResult r = d->vk.vkQueueSubmit2(d->queue, 1, &info, VK_NULL_HANDLE);
  if (r == VK_SUCCESS) d->counts.submissions++;
  return r;
}

/* The command buffers of two batches at most, in order: in one submission, or in several when the work is long, so that none of them lasts. */
static VkResult hand_over_all(nn_vk_device *d, nn_vk_batch *const *batch, uint32_t n) {
  VkCommandBuffer held[2];
  uint32_t nheld = 0;
  uint64_t ops = 0;
  VkResult r = VK_SUCCESS;
  for (uint32_t i = 0; i < n; i++)
    for (int k = 0; k <= batch[i]->icmd && r == VK_SUCCESS; k++) {
      const uint64_t more = k < batch[i]->icmd ? LONG * d->budget : batch[i]->ops; /* all but the last are full */
      if (nheld > 0 && (nheld == 2 || ops + more > LONG * d->budget)) r = hand_over(d, held, nheld, 0), nheld = 0, ops = 0;
      held[nheld++] = batch[i]->cmds[k];
      ops += more;
    }
  return r == VK_SUCCESS ? hand_over(d, held, nheld, d->value + 1) : r;
}

nn_status nn_vk_submit(nn_vk_device *d, nn_vk_batch *run, nni_error *err) {
  nn_vk_batch *batch[2], *loose = d->loose[d->iloose];
  uint32_t n = 0;
  if (d->lost) return nn_vk_failed(d, VK_ERROR_DEVICE_LOST, "submitting work", err);
  if (loose && loose->open && loose->commands > 0) {
    nn_status st = nn_vk_batch_close(d, loose, err);
    if (st != NN_OK) return st;
    batch[n++] = loose;
    d->iloose = (d->iloose + 1) % NN_VK_NLOOSE;
  }
  if (run) batch[n++] = run;
  if (n == 0) return NN_OK;
  uint64_t *oldest = &d->flying[d->value % NN_VK_INFLIGHT];
  nn_status st = nn_vk_wait(d, *oldest, err); /* at most NN_VK_INFLIGHT submissions at a time */
  if (st != NN_OK) return st;
  look_at_all(d); /* leaves at most two batches for each submission in flight */
  for (uint32_t i = 0; i < n; i++) arm(d, batch[i]);
  VkResult r = hand_over_all(d, batch, n);
  if (r != VK_SUCCESS) {
    if (r != VK_ERROR_DEVICE_LOST) d->vk.vkDeviceWaitIdle(d->handle); /* a part may have been taken */
    for (uint32_t i = 0; i < n; i++) unwatch(d, batch[i]), batch[i]->checked = true;
    return nn_vk_failed(d, r, "submitting work", err);
  }
  *oldest = ++d->value;
  for (uint32_t i = 0; i < n; i++) batch[i]->value = d->value;
  return NN_OK;
}

nn_status nn_vk_finish(nni_device *base, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  nn_status st = nn_vk_submit(d, NULL, err);
  if (st == NN_OK) st = nn_vk_wait(d, d->value, err);
  return st == NN_OK ? nn_vk_reported(d, err) : st;
}

/* ---- dispatches ------------------------------------------------------------------------------------------------------------------------ */
static nn_status next_set(nn_vk_device *d, nn_vk_batch *b, VkDescriptorSet *out, nni_error *err) {
  VkResult r;
  if (b->inset == SETS) b->set++, b->inset = 0;
  if (b->set == b->nsets) {
    const VkDescriptorPoolSize size[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, SETS * (uint32_t)d->nbuf},
                                         {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, SETS * 2}};
    const VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = SETS, .poolSizeCount = 2, .pPoolSizes = size};
    if (!ROOM(d, b, sets, nsets, capsets)) return nn_vk_failed(d, VK_ERROR_OUT_OF_HOST_MEMORY, "recording", err);
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
  piece h;
  if (!ROOM(d, b, slice, nslice, capslice) || !host_take(d, b, (uint64_t)n * sizeof(nn_vk_param), d->uniform_align, &h)) return NULL;
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
    nn_status st = make_way(d, b, ops / parts, err);
    if (st != NN_OK) return st;
    order(d, b, span, w->nbind, writes);
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
    piece h;
    if (!host_take(d, b, w->ninfo, d->uniform_align, &h)) return nni_fail(err, NN_ENOMEM, "%s: out of memory while recording", d->base.name);
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
  piece h;
  nn_status st = nn_vk_current(d, &b, err);
  if (st != NN_OK) return st;
  if (!ROOM(d, b, fault, nfault, capfault) || !host_take(d, b, sizeof(uint32_t) * NN_VK_FAULT_WORDS, d->range_align, &h))
    return nni_fail(err, NN_ENOMEM, "%s: out of memory while recording", d->base.name);
  nn_vk_fault *f = &b->fault[b->nfault++];
  *f = (nn_vk_fault){.say = say, .unit = k->unit, .words = (uint32_t *)(void *)h.map, .nia = nia < NN_VK_FAULT_IA ? nia : NN_VK_FAULT_IA};
  memcpy(f->ia, ia, sizeof *ia * (size_t)f->nia);
  b->tohost = true;
  *words = (nn_vk_bind){.data = h.address, .bytes = sizeof(uint32_t) * NN_VK_FAULT_WORDS, .write = true};
  return NN_OK;
}

/* ---- transfers ------------------------------------------------------------------------------------------------------------------------- */
/* Records a copy between addresses that were found to be good. */
static void copy(nn_vk_device *d, nn_vk_batch *b, const void *to, const void *from, uint64_t bytes) {
  uint64_t at, first;
  const nn_vk_block *dst = nn_vk_find(d, to, &at), *src = nn_vk_find(d, from, &first);
  const nn_vk_span span[] = {{(uintptr_t)from, (uintptr_t)from + bytes}, {(uintptr_t)to, (uintptr_t)to + bytes}};
  const VkBufferCopy region = {.srcOffset = first, .dstOffset = at, .size = bytes};
  order(d, b, span, 2, 2);
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
  order(d, b, &(nn_vk_span){nn_vk_address(to, at), nn_vk_address(to, at + bytes)}, 1, 1);
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
    piece h;
    nn_status st = nn_vk_current(d, &b, err);
    if (st != NN_OK) return st;
    n = bytes - done < PIECE ? bytes - done : PIECE;
    if (!host_take(d, b, n, 16, &h)) return nni_fail(err, NN_ENOMEM, "%s: no memory for an upload of %zu bytes", d->base.name, bytes);
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

/* ---- device ------------------------------------------------------------------------------------------------------------------------------ */
nn_status nn_vk_stream_open(nn_vk_device *d, nni_error *err) {
  const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
  const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
  VkResult r = d->vk.vkCreateSemaphore(d->handle, &info, NULL, &d->timeline);
  return r == VK_SUCCESS ? NN_OK : nn_vk_failed(d, r, "opening it", err);
}

void nn_vk_stream_close(nn_vk_device *d) {
  while (d->records) nn_vk_recorded_free(&d->base, d->records);
  for (int i = 0; i < NN_VK_NLOOSE; i++) nn_vk_batch_free(d, d->loose[i]);
  nn_vk_marks_close(d);
  if (d->timeline) d->vk.vkDestroySemaphore(d->handle, d->timeline, NULL);
}
