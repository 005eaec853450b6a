/* vulkan/k_scan.c - running sums, products, extremes, logsumexps and recurrences (shaders/scan.comp) along the middle dim of (A, N, B).
**
** Where there are few lanes (a, b) and much to walk a lane is cut into chunks; sizes alone decide. Scratch holds 16 bytes for every chunk of every lane.
*/
#include "shaders.h"
#include "vk.h"

enum { SUM, PROD, MAX, MIN, LSE, LINEAR };
enum {
  GROUP = 64,
  LEAST = 32,
  ENOUGH = 1 << 14,
  MOST = 4096,
  PART = 16
}; /* least elements of a chunk; invocations that fill a device; chunks of a lane; bytes */

typedef struct job {
  uint64_t lanes, n, b, step, chunks;
} job;

static job job_of(const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0];
  job j = {.lanes = (uint64_t)x->shape[0] * (uint64_t)x->shape[2], .n = (uint64_t)x->shape[1], .b = (uint64_t)x->shape[2]};
  uint64_t chunks = j.lanes ? ENOUGH / j.lanes : 1;
  if (chunks > MOST) chunks = MOST;
  if (chunks > j.n / LEAST) chunks = j.n / LEAST;
  if (chunks < 2) chunks = 1;
  j.step = (j.n + chunks - 1) / chunks;
  j.chunks = j.step ? (j.n + j.step - 1) / j.step : 1;
  return j;
}

size_t nn_vk_scan_scratch(const nni_kernel_call *k) {
  const job j = job_of(k);
  return j.chunks > 1 ? (size_t)(j.lanes * j.chunks) * PART : 0;
}

nn_status nn_vk_scan(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *x = &k->in[0];
  const job j = job_of(k);
  const uint32_t op = (uint32_t)k->ia[0], spec[] = {x->dtype, op};
  const bool best = op == MAX || op == MIN;
  struct {
    uint32_t lanes, n, b, step, chunks, phase, reverse, exclusive, from, factors, to, positions, parts, pad;
    nn_vk_div div_b, div_lanes;
  } info = {.lanes = (uint32_t)j.lanes,
            .n = (uint32_t)j.n,
            .b = (uint32_t)j.b,
            .step = (uint32_t)j.step,
            .chunks = (uint32_t)j.chunks,
            .reverse = k->ia[1] != 0,
            .exclusive = k->ia[2] != 0};
  nn_status st = nn_vk_fits(d, x, k->err);
  if (st != NN_OK || j.lanes * j.n == 0) return st;
  if ((x->dtype != NN_F32 && (x->dtype != NN_I64 || op > MIN)) || (op == LINEAR && k->nin < 2) || (best && k->nout < 2))
    return nni_fail(k->err, NN_EINTERNAL, "scan: no such operands");
  nn_vk_bind b[] = {nn_vk_dense(d, x, false), {0}, nn_vk_dense(d, &k->out[0], true), {0}, {0}};
  b[1] = op == LINEAR ? nn_vk_dense(d, &k->in[1], false) : b[0]; /* what is not used is bound to something that is */
  b[3] = best ? nn_vk_dense(d, &k->out[1], true) : b[2];
  b[4] = j.chunks > 1 ? nn_vk_range(d, k->scratch, (size_t)(j.lanes * j.chunks) * PART, PART, true) : b[2];
  info.div_b = nn_vk_divisor(info.b), info.div_lanes = nn_vk_divisor(info.lanes);
  info.from = b[0].offset, info.factors = b[1].offset, info.to = b[2].offset, info.positions = b[3].offset, info.parts = b[4].offset;
  for (info.phase = j.chunks > 1 ? 0 : 2; info.phase < 3 && st == NN_OK; info.phase++) {
    nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_scan, spec, 2, k->err), .bind = b, .nbind = 5, .info = &info, .ninfo = sizeof info};
    nn_vk_grid(d, ((info.phase == 1 ? j.lanes : j.lanes * j.chunks) + GROUP - 1) / GROUP, w.groups);
    st = nn_vk_dispatch(d, &w, k->err);
  }
  return st;
}
