/* vulkan/k_rows.c - ids: checking them (check_ids; for other kernels nn_vk_check_ids_in).
**
** A bad id is found by a dispatch of its own, whose words are looked at when the run has ended; kernels that follow must not read or write outside their
** operands because of one (their results do not count then). Messages show ids and positions 1-based, as the CPU's do.
*/
#include <inttypes.h>
#include <stdio.h>
#include "vk.h"
#include "shaders.h"

/* ia: size, 1 when it is "class id" */
static nn_status say_id(const uint32_t *words, const int64_t *ia, int nia, nni_error *err) {
  const int64_t id = (int64_t)((uint64_t)words[3] << 32 | words[2]);
  char shown[24]; /* id + 1, which INT64_MAX has no room for */
  (void)nia;
  if (id < 0) snprintf(shown, sizeof shown, "%" PRId64, id + 1);
  else snprintf(shown, sizeof shown, "%" PRIu64, (uint64_t)id + 1);
  return nni_fail(err, NN_EINDEX, "%sid %s at position %" PRIu32 " is not in 1..%" PRId64, ia[1] ? "class " : "", shown, words[1] + 1, ia[0]);
}

nn_status nn_vk_check_ids_in(const nni_kernel_call *k, const nni_operand *ids, int64_t size, bool classes) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const uint64_t n = nn_vk_numel(ids);
  nn_vk_bind b[2] = {nn_vk_dense(d, ids, false)};
  nn_status st = nn_vk_fits(d, ids, k->err);
  if (st != NN_OK || n == 0) return st;
  st = nn_vk_faults(k, say_id, (int64_t[]){size, classes}, 2, &b[1]);
  if (st != NN_OK) return st;
  struct { uint32_t n, ids, words, pad; uint64_t v; } info = {(uint32_t)n, b[0].offset, b[1].offset, 0, (uint64_t)size};
  const uint32_t spec[] = {ids->dtype};
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_ids, spec, 1, k->err), .bind = b, .nbind = 2, .info = &info, .ninfo = sizeof info, .groups = {1, 1, 1}};
  return nn_vk_dispatch(d, &w, k->err);
}

nn_status nn_vk_check_ids(const nni_kernel_call *k) {
  nn_status st = nn_vk_check_ids_in(k, &k->in[0], k->ia[0], true);
  return st == NN_OK ? nn_vk_copy(k) : st;
}
size_t nn_vk_check_ids_scratch(const nni_kernel_call *k) { return (void)k, 0; }
