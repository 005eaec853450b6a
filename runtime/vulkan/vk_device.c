/* vulkan/vk_device.c - opening and closing a device, and its table of features that we cannot do without.
**
** A device belongs to one context and one thread. It needs a Vulkan 1.3 driver with 64-bit integers and 8- and 16-bit storage; what it lacks is named.
*/
#include "vk_device.h"
#include <stdlib.h>

enum { GROUP = 256 }; /* the largest workgroup of any kernel */

static bool wants(const char *name) {
  const char *s = getenv(name);
  return s && *s && strcmp(s, "0") != 0;
}

nn_status nn_vk_failed(nn_vk_device *d, VkResult r, const char *doing, nni_error *err) {
  if (r == VK_ERROR_DEVICE_LOST || d->lost) {
    d->lost = true;
    return nni_fail(err, NN_EDEVICE,
                    "%s: the device was lost (while %s): its driver reset it, often because one piece of work took too long; close and open it again",
                    d->base.name, doing);
  }
  if (r == VK_ERROR_OUT_OF_HOST_MEMORY || r == VK_ERROR_OUT_OF_DEVICE_MEMORY || r == VK_ERROR_OUT_OF_POOL_MEMORY || r == VK_ERROR_FRAGMENTED_POOL)
    return nni_fail(err, NN_ENOMEM, "%s: out of memory while %s", d->base.name, doing);
  return nni_fail(err, NN_EDEVICE, "%s: the driver failed while %s (VkResult %d)", d->base.name, doing, (int)r);
}

typedef struct features {
  VkPhysicalDeviceVulkan13Features v13;
  VkPhysicalDeviceVulkan12Features v12;
  VkPhysicalDeviceVulkan11Features v11;
  VkPhysicalDeviceFeatures2 v10;
} features;

static void chain(features *f) {
  memset(f, 0, sizeof *f);
  f->v13.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES;
  f->v12 = (VkPhysicalDeviceVulkan12Features){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f->v13};
  f->v11 = (VkPhysicalDeviceVulkan11Features){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f->v12};
  f->v10 = (VkPhysicalDeviceFeatures2){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f->v11};
}

/* have -> want: the ones we need, an error for one that is missing, and the optional ones that are there */
static nn_status choose(nn_vk_device *d, const features *have, features *want, nni_error *err) {
#define NEED(part, feature)                                                                                                                          \
  if (!have->part.feature) return nni_fail(err, NN_EUNSUPPORTED, "%s: the driver lacks the Vulkan feature %s", d->base.name, #feature);              \
  want->part.feature = VK_TRUE;
  NEED(v10.features, shaderInt64)
  NEED(v11, storageBuffer16BitAccess)
  NEED(v12, storageBuffer8BitAccess)
  NEED(v12, timelineSemaphore)
  NEED(v12, uniformBufferStandardLayout)
  NEED(v13, synchronization2)
  NEED(v13, maintenance4)
#undef NEED
  want->v12.shaderFloat16 = have->v12.shaderFloat16;
  want->v12.shaderInt8 = have->v12.shaderInt8;
  want->v10.features.shaderInt16 = have->v10.features.shaderInt16;
  want->v12.vulkanMemoryModel = have->v12.vulkanMemoryModel;
  want->v12.vulkanMemoryModelDeviceScope = have->v12.vulkanMemoryModelDeviceScope; /* the scope of atomics on buffers */
  want->v13.subgroupSizeControl = have->v13.subgroupSizeControl;
  want->v13.computeFullSubgroups = have->v13.computeFullSubgroups;
  return NN_OK;
}

/* A family that computes; without graphics when there is one (a queue of its own). */
static bool pick_family(nn_vk_device *d) {
  VkQueueFamilyProperties f[32];
  uint32_t n = 32;
  int best = -1;
  vkGetPhysicalDeviceQueueFamilyProperties(d->physical, &n, f);
  for (uint32_t i = 0; i < n; i++)
    if (f[i].queueFlags & VK_QUEUE_COMPUTE_BIT && f[i].queueCount > 0 &&
        (best < 0 || (!(f[i].queueFlags & VK_QUEUE_GRAPHICS_BIT) && f[best].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
      best = (int)i;
  d->family = (uint32_t)best;
  if (best >= 0 && f[best].timestampValidBits > 0) d->clock = f[best].timestampValidBits < 64 ? ((uint64_t)1 << f[best].timestampValidBits) - 1 : UINT64_MAX;
  return best >= 0;
}

/* A subgroup of lanes.glsl is a whole workgroup, and hands values from lane to lane. */
static uint32_t choose_lanes(const nn_vk_device *d, const VkPhysicalDeviceSubgroupProperties *is, bool full) {
  const bool able = full && is->supportedStages & VK_SHADER_STAGE_COMPUTE_BIT && is->supportedOperations & VK_SUBGROUP_FEATURE_BALLOT_BIT;
  const bool fits = d->subgroup == 4 || d->subgroup == 8 || d->subgroup == 16;
  return nn_vk_is_software(d) && able && fits && !wants("NNLUA_VK_NO_LANES") ? d->subgroup : 0;
}

static nn_status create(nn_vk_device *d, nni_error *err) {
  features have, want;
  nn_vk_coopmat_features matrices;
  const float priority = 1;
  VkPhysicalDeviceFloatControlsProperties floats = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES};
  VkPhysicalDeviceMaintenance4Properties m4 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES, .pNext = &floats};
  VkPhysicalDeviceMaintenance3Properties m3 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &m4};
  VkPhysicalDeviceSubgroupProperties lanes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &m3};
  VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &lanes};
  vkGetPhysicalDeviceProperties(d->physical, &d->props);
  if (d->props.apiVersion < VK_API_VERSION_1_3)
    return nni_fail(err, NN_EUNSUPPORTED, "%s: %s speaks Vulkan %u.%u; 1.3 is needed (a newer driver may help)", d->base.name, d->props.deviceName,
                    VK_API_VERSION_MAJOR(d->props.apiVersion), VK_API_VERSION_MINOR(d->props.apiVersion));
  vkGetPhysicalDeviceProperties2(d->physical, &props);
  vkGetPhysicalDeviceMemoryProperties(d->physical, &d->memtypes);
  d->floats = (floats.shaderSignedZeroInfNanPreserveFloat32 ? NN_VK_EMIT_NAN : 0u) |
              (floats.shaderDenormPreserveFloat32 ? NN_VK_EMIT_DENORMALS : 0u) | (floats.shaderRoundingModeRTEFloat32 ? NN_VK_EMIT_ROUND_EVEN : 0u);
  d->subgroup = lanes.subgroupSize;
  d->max_alloc = m3.maxMemoryAllocationSize < m4.maxBufferSize ? m3.maxMemoryAllocationSize : m4.maxBufferSize;
  d->range_align = d->props.limits.minStorageBufferOffsetAlignment;
  d->uniform_align = d->props.limits.minUniformBufferOffsetAlignment;
  d->nbuf = d->props.limits.maxPerStageDescriptorStorageBuffers < NN_VK_NBUF ? (int)d->props.limits.maxPerStageDescriptorStorageBuffers : NN_VK_NBUF;
  const bool own = d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU || d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU;
  const char *budget = getenv("NNLUA_VK_BUDGET");
  d->budget = budget && strtoull(budget, NULL, 10) ? strtoull(budget, NULL, 10) : (uint64_t)1 << (own ? 37 : 34); /* 0.1 s at 1.4 T/s; integrated at 0.17 T/s */
  if ((int)d->props.limits.maxDescriptorSetStorageBuffers < d->nbuf) d->nbuf = (int)d->props.limits.maxDescriptorSetStorageBuffers;
  if (d->props.limits.maxComputeWorkGroupInvocations < GROUP || d->props.limits.maxComputeWorkGroupSize[0] < GROUP)
    return nni_fail(err, NN_EUNSUPPORTED, "%s: %s runs at most %u invocations in a group; %d are needed", d->base.name, d->props.deviceName,
                    d->props.limits.maxComputeWorkGroupInvocations, GROUP);
  if (!pick_family(d)) return nni_fail(err, NN_EUNSUPPORTED, "%s: %s has no queue that computes", d->base.name, d->props.deviceName);
  chain(&have);
  chain(&want);
  vkGetPhysicalDeviceFeatures2(d->physical, &have.v10);
  nn_status st = choose(d, &have, &want, err);
  if (st != NN_OK) return st;
  d->lanes = choose_lanes(d, &lanes, want.v13.computeFullSubgroups);
  /* what its shader uses besides the extension */
  const bool able = want.v12.shaderFloat16 && want.v12.vulkanMemoryModel && want.v13.computeFullSubgroups;
  const char *const extension = nn_vk_coopmat_choose(d, !able || wants("NNLUA_VK_NO_COOPMAT"), wants("NNLUA_VK_VALIDATE"), &matrices);
  if (extension) want.v13.pNext = &matrices;
  const VkDeviceQueueCreateInfo queue = {
      .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = d->family, .queueCount = 1, .pQueuePriorities = &priority};
  const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                   .pNext = &want.v10,
                                   .queueCreateInfoCount = 1,
                                   .pQueueCreateInfos = &queue,
                                   .enabledExtensionCount = extension ? 1 : 0,
                                   .ppEnabledExtensionNames = &extension};
  VkResult r = vkCreateDevice(d->physical, &info, NULL, &d->handle);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, "opening it", err);
  volkLoadDeviceTable(&d->vk, d->handle);
  d->vk.vkGetDeviceQueue(d->handle, d->family, 0, &d->queue);
  return NN_OK;
}

void nn_vk_close(nni_device *base) {
  nn_vk_device *d = nn_vk_of(base);
  if (d->handle) {
    d->vk.vkDeviceWaitIdle(d->handle);
    nn_vk_stream_close(d);
    nn_vk_pipelines_close(d);
    nn_vk_memory_close(d);
    d->vk.vkDestroyDevice(d->handle, NULL);
  }
  nni_free(d->base.mem, d, sizeof *d);
}

nn_vk_counts nn_vk_counted(const nni_device *d) { return ((const nn_vk_device *)d)->counts; }

nn_status nn_vk_open(nni_memory *m, int index, nni_device **out, nni_error *err) {
  const nn_vk_loader *l = nn_vk_load();
  *out = NULL;
  if (l->n == 0) return nni_fail(err, NN_ENOTFOUND, "vulkan:%d: there is no Vulkan device here: %s", index + 1, l->why);
  if (index < 0 || index >= l->n) return nni_fail(err, NN_ENOTFOUND, "there is no device vulkan:%d; the last one is vulkan:%d", index + 1, l->n);
  nn_vk_device *d = nni_calloc(m, sizeof *d);
  if (!d) return nni_fail(err, NN_ENOMEM, "vulkan:%d: out of memory while opening it", index + 1);
  d->base = (nni_device){.is = &nn_vk_backend, .mem = m};
  memcpy(d->base.name, l->dev[index].info.name, sizeof d->base.name);
  d->loader = l;
  d->physical = l->dev[index].handle;
  d->barriers = wants("NNLUA_VK_BARRIERS");
  d->replay = !wants("NNLUA_VK_NO_REPLAY");
  d->base.unfused = wants("NNLUA_VK_NO_FUSION");
  nn_status st = create(d, err);
  if (st == NN_OK) {
    nn_vk_memory_open(d);
    st = nn_vk_pipelines_open(d, err);
  }
  if (st == NN_OK) st = nn_vk_stream_open(d, err);
  if (st != NN_OK) {
    nn_vk_close(&d->base);
    return st;
  }
  *out = &d->base;
  return NN_OK;
}
