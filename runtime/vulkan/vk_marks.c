/* vulkan/vk_marks.c - the device's clock: marks between the units of a run that is profiled, and the times at which it passed them.
**
** The marks are queries of one pool, of the run that was profiled last.
*/
#include "vk_device.h"

nn_status nn_vk_mark(nni_device *base, int i, int n, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  nn_vk_batch *b;
  if (!d->clock) return NN_OK;
  if (i == 0 && n > d->nmarks) {
    const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = (uint32_t)n};
    nn_status st = nn_vk_wait(d, d->value, err); /* nothing uses the old ones */
    if (st != NN_OK) return st;
    d->vk.vkDestroyQueryPool(d->handle, d->marks, NULL);
    d->marks = VK_NULL_HANDLE;
    d->nmarks = 0;
    const VkResult r = d->vk.vkCreateQueryPool(d->handle, &info, NULL, &d->marks);
    if (r != VK_SUCCESS) return nn_vk_failed(d, r, "profiling", err);
    d->nmarks = n;
  }
  nn_status st = nn_vk_current(d, &b, err);
  if (st != NN_OK) return st;
  if (i == 0) d->vk.vkCmdResetQueryPool(b->cmd, d->marks, 0, (uint32_t)n);
  nn_vk_settle(d, b); /* units follow each other, so that a time is of one */
  d->vk.vkCmdWriteTimestamp2(b->cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, d->marks, (uint32_t)i);
  b->commands++;
  return NN_OK;
}

nn_status nn_vk_marked(nni_device *base, int n, double *seconds, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  memset(seconds, 0, sizeof *seconds * (size_t)n);
  nn_status st = nn_vk_wait(d, d->value, err);
  for (int i = 0; i < n && d->clock && st == NN_OK; i++) {
    uint64_t first = 0, now = 0;
    VkResult r = d->vk.vkGetQueryPoolResults(d->handle, d->marks, 0, 1, sizeof first, &first, sizeof first, VK_QUERY_RESULT_64_BIT);
    if (r == VK_SUCCESS) r = d->vk.vkGetQueryPoolResults(d->handle, d->marks, (uint32_t)i, 1, sizeof now, &now, sizeof now, VK_QUERY_RESULT_64_BIT);
    if (r != VK_SUCCESS) st = nn_vk_failed(d, r, "profiling", err);
    seconds[i] = 1e-9 * (double)d->props.limits.timestampPeriod * (double)((now - first) & d->clock);
  }
  return st;
}

void nn_vk_marks_close(nn_vk_device *d) { d->vk.vkDestroyQueryPool(d->handle, d->marks, NULL); }
