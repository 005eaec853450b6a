/* cpu/cpu.c - the CPU backend's table: nn_cpu_device, expanded from ops/kernels.def. */
#include "cpu.h"

static nni_kernel_fn kernel_of(int id) {
  static const nni_kernel_fn table[] = {
#define NN_KERNEL(name, doc) nn_cpu_##name,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

static nni_scratch_fn scratch_of(int id) {
  static const nni_scratch_fn table[] = {
#define NN_KERNEL(name, doc) nn_cpu_##name##_scratch,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

const nni_device nn_cpu_device = {
    .name = "cpu",
    .program_new = nn_cpu_program_new,
    .program_free = nn_cpu_program_free,
    .program_scratch = nn_cpu_program_scratch,
    .program_run = nn_cpu_program_run,
    .kernel = kernel_of,
    .kernel_scratch = scratch_of,
};
