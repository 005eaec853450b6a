/* vulkan/vk_stream.c - the one stream of a device: batches of commands, barriers, host memory that they hold, submitting, waiting.
** What is recorded into them: vk_dispatch.c, vk_transfer.c.
**
** Commands go into batches. Every batch opens with a full barrier, so all that was submitted earlier has happened; within it ranges read and written since
** the last barrier are kept, and a barrier is recorded when a new command overlaps them. What is outside nn_vk_begin ... nn_vk_end (uploads, downloads,
** tests) goes to the loose batch, which is submitted before the next run, or when somebody waits, or when it has grown large. Each submission
** signals the next value of the timeline; batches, and all host memory that they hold, are used again when theirs is reached.
*/
#include "vk_device.h"

enum { MAXCOMMANDS = 512, LONG = 16 /* budgets, some two seconds: what one command buffer may hold */ };
static const uint64_t STAGED = (uint64_t)64 << 20, HOST = 32 << 10;

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

void nn_vk_order(nn_vk_device *d, nn_vk_batch *b, const nn_vk_span *s, int n, uint64_t writes) {
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
bool nn_vk_room(nn_vk_device *d, void **p, int n, int *cap, size_t each) {
  if (n < *cap) return true;
  const int more = *cap ? *cap * 2 : 8;
  void *q = nni_realloc(d->base.mem, *p, each * (size_t)*cap, each * (size_t)more);
  if (!q) return false;
  *p = q;
  *cap = more;
  return true;
}
/* Command buffer i becomes the one that is recorded into. */
static bool next_cmd(nn_vk_device *d, nn_vk_batch *b, int i) {
  const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = b->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
  if (i == b->ncmd) {
    if (!NN_VK_ROOM(d, b, cmds, ncmd, capcmd) || d->vk.vkAllocateCommandBuffers(d->handle, &info, &b->cmds[i]) != VK_SUCCESS) return false;
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

nn_status nn_vk_make_way(nn_vk_device *d, nn_vk_batch *b, uint64_t ops, nni_error *err) {
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

bool nn_vk_host_take(nn_vk_device *d, nn_vk_batch *b, uint64_t bytes, uint64_t align, nn_vk_piece *out) {
  nn_vk_host *h = b->nhost > 0 ? &b->host[b->nhost - 1] : NULL;
  uint64_t at = (b->filled + align - 1) / align * align;
  if (!h || at + bytes > h->bytes) {
    const uint64_t n = bytes < HOST ? HOST : bytes;
    uint64_t start;
    if (!NN_VK_ROOM(d, b, host, nhost, caphost)) return false;
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
      *out = (nn_vk_piece){own.map, own.buffer, own.offset, own.address};
      return true;
    }
  }
  b->filled = at + bytes;
  *out = (nn_vk_piece){h->map + at, h->buffer, h->offset + at, (char *)h->address + at};
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
