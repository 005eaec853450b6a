/* vulkan/vk_coopmat.c - cooperative matrices of a device: what its driver lists, whether to use them, and the dump of its properties.
**
** VK_KHR_cooperative_matrix is younger than the headers that this is built with, so what is needed of it is declared here (numbers of the registry). None of the
** devices that this was tested on has either extension: everything but the calls themselves is in coopmat.c, which is tested without one.
*/
#include "vk_device.h"
#include <stdio.h>
#include <stdlib.h>

enum { KHR_FEATURES = 1000506000, KHR_PROPERTIES = 1000506001, KHR_DEVICE_PROPERTIES = 1000506002, MOST = 256 };
typedef struct khr_properties {
  VkStructureType sType;
  void *pNext;
  uint32_t M, N, K, a, b, c, result;
  VkBool32 saturating;
  uint32_t scope;
} khr_properties;
typedef struct khr_device_properties {
  VkStructureType sType;
  void *pNext;
  VkShaderStageFlags stages;
} khr_device_properties;
typedef VkResult(VKAPI_PTR *khr_list)(VkPhysicalDevice, uint32_t *, khr_properties *);

static const char nv_name[] = "VK_NV_cooperative_matrix", khr_name[] = "VK_KHR_cooperative_matrix";

/* Both lists have the same form here. Gives the number of entries, at most MOST. */
static uint32_t list_khr(const nn_vk_loader *l, VkPhysicalDevice p, nn_vk_coopmat out[MOST]) {
  const khr_list get = (khr_list)vkGetInstanceProcAddr(l->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
  uint32_t n = MOST;
  khr_properties *e = get && nn_vk_has_extension(p, khr_name) ? calloc(MOST, sizeof *e) : NULL;
  if (!e) return 0;
  for (int i = 0; i < MOST; i++) e[i].sType = (VkStructureType)KHR_PROPERTIES;
  if (get(p, &n, e) < 0) n = 0;
  for (uint32_t i = 0; i < n; i++) out[i] = (nn_vk_coopmat){e[i].M, e[i].N, e[i].K, e[i].a, e[i].b, e[i].c, e[i].result, e[i].saturating, e[i].scope};
  free(e);
  return n;
}

static uint32_t list_nv(VkPhysicalDevice p, nn_vk_coopmat out[MOST]) {
  uint32_t n = MOST;
  VkCooperativeMatrixPropertiesNV *e =
      vkGetPhysicalDeviceCooperativeMatrixPropertiesNV && nn_vk_has_extension(p, nv_name) ? calloc(MOST, sizeof *e) : NULL;
  if (!e) return 0;
  for (int i = 0; i < MOST; i++) e[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_NV;
  if (vkGetPhysicalDeviceCooperativeMatrixPropertiesNV(p, &n, e) < 0) n = 0;
  for (uint32_t i = 0; i < n; i++)
    out[i] = (nn_vk_coopmat){e[i].MSize, e[i].NSize, e[i].KSize, (uint32_t)e[i].AType, (uint32_t)e[i].BType, (uint32_t)e[i].CType, (uint32_t)e[i].DType, 0,
                             (uint32_t)e[i].scope};
  free(e);
  return n;
}

static bool can_compute(VkPhysicalDevice p, bool khr) {
  khr_device_properties mine = {.sType = (VkStructureType)KHR_DEVICE_PROPERTIES};
  VkPhysicalDeviceCooperativeMatrixPropertiesNV theirs = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_NV};
  VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = khr ? (void *)&mine : (void *)&theirs};
  vkGetPhysicalDeviceProperties2(p, &props);
  return ((khr ? mine.stages : theirs.cooperativeMatrixSupportedStages) & VK_SHADER_STAGE_COMPUTE_BIT) != 0;
}

static bool has_feature(VkPhysicalDevice p, bool khr) {
  nn_vk_coopmat_features f = {.sType = khr ? (VkStructureType)KHR_FEATURES : VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_NV};
  VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f};
  vkGetPhysicalDeviceFeatures2(p, &all);
  return f.cooperative != 0;
}

static bool usable(const nn_vk_loader *l, VkPhysicalDevice p, bool khr) {
  nn_vk_coopmat list[MOST];
  const uint32_t n = khr ? list_khr(l, p, list) : list_nv(p, list);
  return n > 0 && nn_vk_coopmat_listed(list, n) && has_feature(p, khr) && can_compute(p, khr);
}

const char *nn_vk_coopmat_choose(nn_vk_device *d, bool off, bool validated, nn_vk_coopmat_features *want) {
  d->coopmat = NN_VK_CM_NONE;
  if (off) return NULL;
  /* validation layers of the age of our headers do not know KHR's structures and would report them */
  if (!validated && usable(d->loader, d->physical, true)) d->coopmat = NN_VK_CM_KHR;
  else if (usable(d->loader, d->physical, false)) d->coopmat = NN_VK_CM_NV;
  if (d->coopmat == NN_VK_CM_NONE) return NULL;
  const bool khr = d->coopmat == NN_VK_CM_KHR;
  *want = (nn_vk_coopmat_features){.sType = khr ? (VkStructureType)KHR_FEATURES : VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_NV,
                                   .cooperative = VK_TRUE};
  return khr ? khr_name : nv_name;
}

/* ---- the dump ---------------------------------------------------------------------------------------------------------------------------- */
typedef struct text { char *at; size_t room, used; } text;
static void say(text *t, const char *fmt, ...) NNI_PRINTF(2, 3);
static void say(text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const int n = vsnprintf(t->at + t->used, t->room - t->used, fmt, ap);
  va_end(ap);
  if (n > 0) t->used += (size_t)n < t->room - t->used ? (size_t)n : t->room - t->used - 1;
}

static void say_list(text *t, const char *name, const nn_vk_coopmat *e, uint32_t n) {
  static const char *const types[] = {"f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"};
  say(t, "%s: %u\n", name, n);
  for (uint32_t i = 0; i < n; i++) {
    const uint32_t k[] = {e[i].a, e[i].b, e[i].c, e[i].result};
    say(t, "  %ux%ux%u", e[i].M, e[i].N, e[i].K);
    for (int j = 0; j < NNI_COUNT(k); j++)
      if (k[j] < NNI_COUNT(types)) say(t, " %s", types[k[j]]);
      else say(t, " type%u", k[j]);
    say(t, " scope %u%s\n", e[i].scope, e[i].saturating ? " saturating" : "");
  }
}

nn_status nn_vk_properties(int index, char *buf, size_t room, nni_error *err) {
  const nn_vk_loader *l = nn_vk_load();
  if (!l || index < 0 || index >= l->n || room == 0) return nni_fail(err, NN_ENOTFOUND, "there is no device vulkan:%d", index + 1);
  const VkPhysicalDevice p = l->dev[index].handle;
  const nn_device_info *info = &l->dev[index].info;
  text t = {.at = buf, .room = room};
  VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
  VkPhysicalDeviceMemoryProperties mem;
  nn_vk_coopmat list[MOST];
  vkGetPhysicalDeviceProperties2(p, &props);
  vkGetPhysicalDeviceMemoryProperties(p, &mem);
  const VkPhysicalDeviceLimits *m = &props.properties.limits;
  say(&t, "name: %s\ntitle: %s\nkind: %s\ndriver: %s\nfeatures: %s\nvendor: 0x%04x\ndevice: 0x%04x\nsubgroup: %u\n", info->name, info->title, info->kind,
      info->driver, info->features, props.properties.vendorID, props.properties.deviceID, info->subgroup);
  say(&t, "storage_range: %u\nshared_memory: %u\ngroup_size: %u\ngroups: %u %u %u\nstorage_buffers: %u\n", m->maxStorageBufferRange, m->maxComputeSharedMemorySize,
      m->maxComputeWorkGroupInvocations, m->maxComputeWorkGroupCount[0], m->maxComputeWorkGroupCount[1], m->maxComputeWorkGroupCount[2],
      m->maxPerStageDescriptorStorageBuffers);
  for (uint32_t i = 0; i < mem.memoryHeapCount; i++)
    say(&t, "heap %u: %llu%s\n", i, (unsigned long long)mem.memoryHeaps[i].size, mem.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT ? " local" : "");
  say_list(&t, khr_name, list, list_khr(l, p, list));
  say_list(&t, nv_name, list, list_nv(p, list));
  return NN_OK;
}
