/* vulkan/emit.c - stands in until the emitter is merged. */
#include "vk.h"
nn_status nn_vk_emit(nni_memory *m, const nni_program *p, nn_vk_module *out, nni_error *err) {
  (void)m, (void)p, (void)out;
  return nni_fail(err, NN_EUNSUPPORTED, "row programs are not there yet");
}
