/* scripts/bench/vk_properties.c - prints what the drivers say of every Vulkan device: limits, heaps, extensions, and both lists of cooperative-matrix shapes.
**
** What to look at first on a new machine, and what to keep beside figures that were measured there. usage: build/vk_properties
*/
#define VOLK_IMPLEMENTATION
#define VK_NO_PROTOTYPES
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <volk.h>

/* VK_KHR_cooperative_matrix, which is younger than the headers that we build with: the struct is the registry's. */
enum { COOPERATIVE_MATRIX_PROPERTIES_KHR = 1000506001 };
typedef struct khr_shape {
  VkStructureType sType;
  void *pNext;
  uint32_t M, N, K;
  int32_t a, b, c, result; /* component types: 0 f16, 1 f32, 2 f64, 3-6 s8-s64, 7-10 u8-u64 */
  VkBool32 saturating;
  int32_t scope; /* 1 device, 2 workgroup, 3 subgroup */
} khr_shape;
typedef VkResult(VKAPI_PTR *khr_list)(VkPhysicalDevice, uint32_t *, khr_shape *);

static const char *component(int32_t t) {
  static const char *const name[] = {"f16", "f32", "f64", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64"};
  return t >= 0 && t < (int32_t)(sizeof name / sizeof *name) ? name[t] : "?";
}
static void print_shape(const char *list, uint32_t m, uint32_t n, uint32_t k, int32_t a, int32_t b, int32_t c, int32_t r, int32_t scope) {
  printf("  %s %ux%ux%u  %s x %s + %s -> %s  scope %d\n", list, m, n, k, component(a), component(b), component(c), component(r), scope);
}

static void print_khr(VkInstance instance, VkPhysicalDevice p) {
  PFN_vkVoidFunction found = vkGetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
  khr_list list;
  uint32_t n = 0;
  memcpy(&list, &found, sizeof list);
  if (!list || list(p, &n, NULL) != VK_SUCCESS || n == 0) return;
  khr_shape *s = calloc(n, sizeof *s);
  for (uint32_t i = 0; s && i < n; i++) s[i].sType = (VkStructureType)COOPERATIVE_MATRIX_PROPERTIES_KHR;
  if (s && list(p, &n, s) == VK_SUCCESS)
    for (uint32_t i = 0; i < n; i++) print_shape("KHR", s[i].M, s[i].N, s[i].K, s[i].a, s[i].b, s[i].c, s[i].result, s[i].scope);
  free(s);
}

static void print_nv(VkPhysicalDevice p) {
  uint32_t n = 0;
  if (!vkGetPhysicalDeviceCooperativeMatrixPropertiesNV || vkGetPhysicalDeviceCooperativeMatrixPropertiesNV(p, &n, NULL) != VK_SUCCESS || n == 0) return;
  VkCooperativeMatrixPropertiesNV *s = calloc(n, sizeof *s);
  for (uint32_t i = 0; s && i < n; i++) s[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_NV;
  if (s && vkGetPhysicalDeviceCooperativeMatrixPropertiesNV(p, &n, s) == VK_SUCCESS)
    for (uint32_t i = 0; i < n; i++)
      print_shape("NV ", s[i].MSize, s[i].NSize, s[i].KSize, (int32_t)s[i].AType, (int32_t)s[i].BType, (int32_t)s[i].CType, (int32_t)s[i].DType, (int32_t)s[i].scope);
  free(s);
}

/* Prints the extensions; are the two for cooperative matrices among them? */
static void print_extensions(VkPhysicalDevice p, int *khr, int *nv) {
  uint32_t n = 0;
  *khr = *nv = 0;
  if (vkEnumerateDeviceExtensionProperties(p, NULL, &n, NULL) != VK_SUCCESS) return;
  VkExtensionProperties *e = calloc(n ? n : 1, sizeof *e);
  if (e && vkEnumerateDeviceExtensionProperties(p, NULL, &n, e) == VK_SUCCESS)
    for (uint32_t i = 0; i < n; i++) {
      printf("  extension %s %u\n", e[i].extensionName, e[i].specVersion);
      *khr = *khr || strcmp(e[i].extensionName, "VK_KHR_cooperative_matrix") == 0;
      *nv = *nv || strcmp(e[i].extensionName, "VK_NV_cooperative_matrix") == 0;
    }
  free(e);
}

static void print_device(VkInstance instance, VkPhysicalDevice p) {
  VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
  VkPhysicalDeviceMaintenance4Properties m4 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES, .pNext = &subgroup};
  VkPhysicalDeviceMaintenance3Properties m3 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &m4};
  VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES, .pNext = &m3};
  VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
  VkPhysicalDeviceMemoryProperties mem;
  int khr, nv;
  vkGetPhysicalDeviceProperties2(p, &props);
  vkGetPhysicalDeviceMemoryProperties(p, &mem);
  const VkPhysicalDeviceLimits *l = &props.properties.limits;
  printf("%s\n  driver %s %s, Vulkan %u.%u.%u\n", props.properties.deviceName, driver.driverName, driver.driverInfo,
         VK_API_VERSION_MAJOR(props.properties.apiVersion), VK_API_VERSION_MINOR(props.properties.apiVersion), VK_API_VERSION_PATCH(props.properties.apiVersion));
  printf("  subgroup %u, shared memory %u, invocations %u, groups %u x %u x %u\n", subgroup.subgroupSize, l->maxComputeSharedMemorySize,
         l->maxComputeWorkGroupInvocations, l->maxComputeWorkGroupCount[0], l->maxComputeWorkGroupCount[1], l->maxComputeWorkGroupCount[2]);
  printf("  storage range %u, storage buffers %u, uniform range %u, alignment %llu and %llu\n", l->maxStorageBufferRange, l->maxPerStageDescriptorStorageBuffers,
         l->maxUniformBufferRange, (unsigned long long)l->minStorageBufferOffsetAlignment, (unsigned long long)l->minUniformBufferOffsetAlignment);
  printf("  allocation %llu, buffer %llu, allocations %u, timestamp %g ns\n", (unsigned long long)m3.maxMemoryAllocationSize,
         (unsigned long long)m4.maxBufferSize, l->maxMemoryAllocationCount, (double)l->timestampPeriod);
  for (uint32_t i = 0; i < mem.memoryHeapCount; i++)
    printf("  heap %u: %llu MiB, flags %x\n", i, (unsigned long long)(mem.memoryHeaps[i].size >> 20), mem.memoryHeaps[i].flags);
  for (uint32_t i = 0; i < mem.memoryTypeCount; i++) printf("  memory type %u: heap %u, flags %x\n", i, mem.memoryTypes[i].heapIndex, mem.memoryTypes[i].propertyFlags);
  print_extensions(p, &khr, &nv);
  if (khr) print_khr(instance, p);
  if (nv) print_nv(p);
  if (!khr && !nv) printf("  no cooperative matrices\n");
}

int main(void) {
  VkPhysicalDevice all[16];
  uint32_t n = 16;
  VkInstance instance;
  const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
  const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
  if (volkInitialize() != VK_SUCCESS || vkCreateInstance(&info, NULL, &instance) != VK_SUCCESS) {
    printf("no Vulkan here\n");
    return 1;
  }
  volkLoadInstance(instance);
  if (vkEnumeratePhysicalDevices(instance, &n, all) < 0) n = 0;
  for (uint32_t i = 0; i < n; i++) print_device(instance, all[i]);
  vkDestroyInstance(instance, NULL);
  return n > 0 ? 0 : 1;
}
