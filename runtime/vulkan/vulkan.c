/* vulkan/vulkan.c - the Vulkan backend's table, expanded from ops/kernels.def.
**
** The one list of kernels that have no Vulkan form is here: the ones defined as NULL. Whoever writes a kernel deletes its line.
*/
#include "vk_device.h"

#define NONE NULL
/* LAPACK's: on the CPU only */
#define nn_vk_inv NONE
#define nn_vk_inv_scratch NONE
#define nn_vk_solve NONE
#define nn_vk_solve_scratch NONE
#define nn_vk_cholesky NONE
#define nn_vk_cholesky_scratch NONE
#define nn_vk_qr NONE
#define nn_vk_qr_scratch NONE
#define nn_vk_svd NONE
#define nn_vk_svd_scratch NONE
#define nn_vk_eigh NONE
#define nn_vk_eigh_scratch NONE
#define nn_vk_slogdet NONE
#define nn_vk_slogdet_scratch NONE
#define nn_vk_det NONE
#define nn_vk_det_scratch NONE
#define nn_vk_cofactor NONE
#define nn_vk_cofactor_scratch NONE
#define nn_vk_lstsq NONE
#define nn_vk_lstsq_scratch NONE

static nni_kernel_fn kernel_of(int id) {
  static const nni_kernel_fn table[] = {
#define NN_KERNEL(name, doc) nn_vk_##name,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

bool nn_vk_has_kernel(int id) { return kernel_of(id) != NULL; }

static nni_scratch_fn scratch_of(int id) {
  static const nni_scratch_fn table[] = {
#define NN_KERNEL(name, doc) nn_vk_##name##_scratch,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

static bool takes(int id, nn_dtype d) {
  (void)d;
  return nni_kernel_moves(id) || id == NNI_K_matmul || id == NNI_K_conv2d || id == NNI_K_conv2d_dx || id == NNI_K_conv2d_dw;
}

static nni_device_counts counted(const nni_device *d) {
  const nn_vk_counts c = nn_vk_counted(d);
  return (nni_device_counts){c.submissions, c.uploads, c.downloads, c.waits};
}

const nni_backend nn_vk_backend = {
    .buffer_get = nn_vk_buffer_get,
    .buffer_put = nn_vk_buffer_put,
    .memory = nn_vk_memory,
    .trim = nn_vk_trim,
    .program_new = nn_vk_program_new,
    .program_free = nn_vk_program_free,
    .program_scratch = nn_vk_program_scratch,
    .program_run = nn_vk_program_run,
    .kernel = kernel_of,
    .kernel_scratch = scratch_of,
    .takes = takes,
    .begin = nn_vk_begin,
    .end = nn_vk_end,
    .recorded_free = nn_vk_recorded_free,
    .upload = nn_vk_upload,
    .download = nn_vk_download,
    .finish = nn_vk_finish,
    .counted = counted,
    .mark = nn_vk_mark,
    .marked = nn_vk_marked,
    .close = nn_vk_close,
};
