/* vulkan/none.c - in place of this room when it is not built (NNLUA_VULKAN=OFF): no devices. */
#include "../graph/device.h"

int nn_vk_count(nni_memory *m, nni_error *err) {
  (void)m;
  nni_fail(err, NN_EUNSUPPORTED, "this nnlua was built without Vulkan");
  return 0;
}

nn_status nn_vk_describe(nni_memory *m, int index, nn_device_info *info, nni_error *err) {
  (void)m, (void)index, (void)info;
  return nni_fail(err, NN_EUNSUPPORTED, "this nnlua was built without Vulkan");
}

nn_status nn_vk_open(nni_memory *m, int index, nni_device **out, nni_error *err) {
  (void)m, (void)index, (void)out;
  return nni_fail(err, NN_EUNSUPPORTED, "this nnlua was built without Vulkan");
}

nn_status nn_vk_properties(int index, char *buf, size_t room, nni_error *err) {
  (void)index, (void)buf, (void)room;
  return nni_fail(err, NN_EUNSUPPORTED, "this nnlua was built without Vulkan");
}

bool nn_vk_has_kernel(int kernel_id) {
  (void)kernel_id;
  return false;
}
