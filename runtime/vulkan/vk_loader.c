/* vulkan/vk_loader.c - the Vulkan loader, the instance and the list of devices.
**
** Owns the one process-wide state of this room: libvulkan is loaded and the instance made once, under a lock, on first use, and both are kept until
** the process ends, as every shared library is (making an instance takes a tenth of a second and drivers do not like to be unloaded). The list never
** changes afterwards. No loader, no driver and no device are no errors here: the list is empty.
** With NNLUA_VK_VALIDATE=1 the Khronos validation layer watches (core and synchronization checks); its warnings and errors are printed and counted by
** our own messenger, and a process that had any ends with code 70.
*/
#define VOLK_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "vk_device.h"
#pragma GCC diagnostic pop
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_int messages;
int nn_vk_messages(void) { return atomic_load(&messages); }

/* ---- validation ------------------------------------------------------------------------------------------------------------------------ */
static VKAPI_ATTR VkBool32 VKAPI_CALL hear(VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT type,
                                           const VkDebugUtilsMessengerCallbackDataEXT *data, void *ud) {
  (void)type, (void)ud;
  atomic_fetch_add(&messages, 1);
  fprintf(stderr, "vulkan validation %s: %s\n", severity & VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT ? "error" : "warning", data->pMessage);
  return VK_FALSE;
}

static void fail_process(void) {
  const int n = nn_vk_messages();
  if (n == 0) return;
  fprintf(stderr, "vulkan validation: %d messages\n", n);
  fflush(NULL);
  _Exit(70);
}

static bool wants_validation(void) {
  const char *s = getenv("NNLUA_VK_VALIDATE");
  return s && *s && strcmp(s, "0") != 0;
}

static VkResult make_instance(VkInstance *out) {
  static const VkValidationFeatureEnableEXT sync[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
  static const char *const layer[] = {"VK_LAYER_KHRONOS_validation"}, *const extension[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
                                                                                            VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
  const bool validate = wants_validation();
  const VkApplicationInfo app = {
      .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "nnlua", .pEngineName = "nnlua", .apiVersion = VK_API_VERSION_1_3};
  const VkDebugUtilsMessengerCreateInfoEXT messenger = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
                                                        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                                                                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
                                                        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
                                                        .pfnUserCallback = hear};
  const VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                            .pNext = &messenger,
                                            .enabledValidationFeatureCount = 1,
                                            .pEnabledValidationFeatures = sync};
  const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                     .pNext = validate ? &features : NULL,
                                     .pApplicationInfo = &app,
                                     .enabledLayerCount = validate,
                                     .ppEnabledLayerNames = layer,
                                     .enabledExtensionCount = validate ? 2 : 0,
                                     .ppEnabledExtensionNames = extension};
  VkResult r = vkCreateInstance(&info, NULL, out);
  if (r != VK_SUCCESS) {
    if (validate) { /* asked for and not there must not pass for silent */
      fprintf(stderr, "vulkan validation: the validation layer (or the instance) is not available (%d)\n", (int)r);
      atomic_fetch_add(&messages, 1);
      atexit(fail_process);
    }
    return r;
  }
  volkLoadInstanceOnly(*out);
  if (validate) {
    VkDebugUtilsMessengerEXT kept;
    if (vkCreateDebugUtilsMessengerEXT(*out, &messenger, NULL, &kept) != VK_SUCCESS) atomic_fetch_add(&messages, 1);
    atexit(fail_process);
  }
  return VK_SUCCESS;
}

/* ---- devices ------------------------------------------------------------------------------------------------------------------------- */
static const char *kind_of(VkPhysicalDeviceType t) {
  switch (t) {
  case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return "discrete";
  case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
  case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return "virtual";
  default: return "software";
  }
}
static int rank_of(const char *kind) { return kind[0] == 'd' ? 0 : kind[0] == 'i' ? 1 : kind[0] == 'v' ? 2 : 3; }

bool nn_vk_has_extension(VkPhysicalDevice p, const char *name) {
  uint32_t n = 0;
  bool found = false;
  if (vkEnumerateDeviceExtensionProperties(p, NULL, &n, NULL) != VK_SUCCESS || n == 0) return false;
  VkExtensionProperties *e = calloc(n, sizeof *e);
  if (e && vkEnumerateDeviceExtensionProperties(p, NULL, &n, e) >= 0)
    for (uint32_t i = 0; i < n && !found; i++) found = strcmp(e[i].extensionName, name) == 0;
  free(e);
  return found;
}

static void describe(VkPhysicalDevice p, nn_device_info *info, uint8_t uuid[VK_UUID_SIZE]) {
  VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
  VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES, .pNext = &subgroup};
  VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES, .pNext = &id};
  VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
  VkPhysicalDeviceShaderFloat16Int8Features small = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES};
  VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &small};
  VkPhysicalDeviceMemoryProperties mem;
  vkGetPhysicalDeviceProperties2(p, &props);
  vkGetPhysicalDeviceFeatures2(p, &features);
  vkGetPhysicalDeviceMemoryProperties(p, &mem);
  memset(info, 0, sizeof *info);
  memcpy(uuid, id.deviceUUID, VK_UUID_SIZE);
  snprintf(info->title, sizeof info->title, "%.200s", props.properties.deviceName);
  snprintf(info->driver, sizeof info->driver, "%.120s %.120s", driver.driverName, driver.driverInfo);
  snprintf(info->kind, sizeof info->kind, "%s", kind_of(props.properties.deviceType));
  for (uint32_t i = 0; i < mem.memoryHeapCount; i++)
    if (mem.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT && mem.memoryHeaps[i].size > info->memory) info->memory = mem.memoryHeaps[i].size;
  info->subgroup = subgroup.subgroupSize;
  snprintf(info->features, sizeof info->features, "vulkan%u.%u%s%s%s%s", VK_API_VERSION_MAJOR(props.properties.apiVersion),
           VK_API_VERSION_MINOR(props.properties.apiVersion), small.shaderFloat16 ? " f16" : "", small.shaderInt8 ? " i8" : "",
           nn_vk_has_extension(p, "VK_KHR_cooperative_matrix") ? " coopmat" : "", nn_vk_has_extension(p, "VK_NV_cooperative_matrix") ? " nv_coopmat" : "");
}

static void list(nn_vk_loader *l) {
  VkPhysicalDevice all[NN_VK_MAXDEV];
  uint8_t uuid[NN_VK_MAXDEV][VK_UUID_SIZE];
  uint32_t n = NN_VK_MAXDEV;
  VkResult r = vkEnumeratePhysicalDevices(l->instance, &n, all);
  if (r != VK_SUCCESS && r != VK_INCOMPLETE) return;
  for (uint32_t i = 0; i < n; i++) {
    nn_vk_physical d = {.handle = all[i]};
    uint8_t id[VK_UUID_SIZE];
    int at = l->n;
    bool twice = false;
    describe(all[i], &d.info, id);
    for (int k = 0; k < l->n && !twice; k++) twice = memcmp(uuid[k], id, sizeof id) == 0; /* one device under two drivers: the loader's first */
    if (twice) continue;
    while (at > 0 && rank_of(l->dev[at - 1].info.kind) > rank_of(d.info.kind)) {
      l->dev[at] = l->dev[at - 1];
      memcpy(uuid[at], uuid[at - 1], sizeof id);
      at--;
    }
    l->dev[at] = d;
    memcpy(uuid[at], id, sizeof id);
    l->n++;
  }
  for (int i = 0; i < l->n; i++) snprintf(l->dev[i].info.name, sizeof l->dev[i].info.name, "vulkan:%d", i + 1);
}

/* Devices, and why there are none. */
static void look_around(nn_vk_loader *l) {
  if (volkInitialize() != VK_SUCCESS) {
    l->why = "no libvulkan.so.1 that works was found; install the Vulkan loader (the package libvulkan1, vulkan-loader or vulkan-icd-loader) and the driver of your GPU";
    return;
  }
  const VkResult r = make_instance(&l->instance);
  if (r == VK_SUCCESS) list(l);
  if (r != VK_SUCCESS && r != VK_ERROR_INCOMPATIBLE_DRIVER) l->why = "the Vulkan loader is there and could not start; `vulkaninfo` may say more";
  else if (l->n == 0) l->why = "the Vulkan loader is there and no driver found a device; install the Vulkan driver of your GPU (and look at VK_ICD_FILENAMES, VK_DRIVER_FILES)";
}

const nn_vk_loader *nn_vk_load(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static bool tried;
  static nn_vk_loader loader;
  pthread_mutex_lock(&lock);
  if (!tried) {
    tried = true;
    look_around(&loader);
  }
  pthread_mutex_unlock(&lock);
  return &loader;
}

int nn_vk_count(nni_memory *m, nni_error *err) {
  (void)m;
  const nn_vk_loader *l = nn_vk_load();
  if (l->n == 0) nni_fail(err, NN_ENOTFOUND, "%s", l->why);
  return l->n;
}

nn_status nn_vk_describe(nni_memory *m, int index, nn_device_info *info, nni_error *err) {
  (void)m;
  const nn_vk_loader *l = nn_vk_load();
  if (index < 0 || index >= l->n) return nni_fail(err, NN_ENOTFOUND, "there is no device vulkan:%d", index + 1);
  *info = l->dev[index].info;
  return NN_OK;
}
