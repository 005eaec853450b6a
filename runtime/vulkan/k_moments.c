/* vulkan/k_moments.c - moments and column_dots (shaders/columns.comp): two sums down the columns of (R, C), long ones in blocks of rows whose partial results a
** second dispatch joins. Sizes alone decide. */
#include "shaders.h"
#include "vk.h"

typedef struct job { uint64_t R, C; nn_vk_cut cut; } job;

static job job_of(const nni_kernel_call *k) {
  const uint64_t R = (uint64_t)k->in[0].shape[0], C = (uint64_t)k->in[0].shape[1];
  return (job){.R = R, .C = C, .cut = nn_vk_cut_columns(1, R, C)};
}

static size_t scratch_of(const nni_kernel_call *k) {
  const job j = job_of(k);
  return j.cut.blocks > 1 ? (size_t)(2 * j.cut.blocks * j.C) * sizeof(float) : 0;
}
size_t nn_vk_moments_scratch(const nni_kernel_call *k) { return scratch_of(k); }
size_t nn_vk_column_dots_scratch(const nni_kernel_call *k) { return scratch_of(k); }

/* a, mean: of column_dots, else NULL. first: from the matrix, to partial results unless there is one block; else from partial results to the end */
static nn_status run(const nni_kernel_call *k, const job *j, const nni_operand *x, const nni_operand *a, const nni_operand *mean, bool first) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const bool last = !first || j->cut.blocks == 1;
  const size_t line = (size_t)j->C * sizeof(float), all = 2 * (size_t)j->cut.blocks * line;
  struct { uint32_t x_from, a_from, mean_from, first_to, second_to, R, C, step, blocks, strips, rows, out_step, final; } info = {
      .R = (uint32_t)j->R, .C = (uint32_t)j->C, .step = (uint32_t)j->cut.step, .blocks = first ? (uint32_t)j->cut.blocks : 1, .strips = (uint32_t)j->cut.strips,
      .rows = first ? (uint32_t)j->R : (uint32_t)j->cut.blocks, .out_step = last ? 0 : (uint32_t)(2 * j->C), .final = last};
  nn_vk_bind from = first ? nn_vk_dense(d, x, false) : nn_vk_range(d, k->scratch, all, sizeof(float), false);
  nn_vk_bind b[5] = {from, a && first ? nn_vk_dense(d, a, false) : from, a && first ? nn_vk_dense(d, mean, false) : from};
  b[3] = last ? nn_vk_dense(d, &k->out[0], true) : nn_vk_range(d, k->scratch, all - line, sizeof(float), true);
  b[4] = last ? nn_vk_dense(d, &k->out[1], true) : nn_vk_range(d, (char *)k->scratch + line, all - line, sizeof(float), true);
  info.x_from = b[0].offset, info.a_from = b[1].offset, info.mean_from = b[2].offset, info.first_to = b[3].offset, info.second_to = b[4].offset;
  const uint32_t spec[] = {a != NULL, !first, j->cut.cx};
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_columns, spec, NNI_COUNT(spec), k->err), .bind = b, .nbind = 5, .info = &info, .ninfo = sizeof info};
  nn_vk_grid(d, j->cut.strips * info.blocks, w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}

static nn_status both(const nni_kernel_call *k, const nni_operand *x, const nni_operand *a, const nni_operand *mean) {
  const job j = job_of(k);
  nn_status st = nn_vk_fits(nn_vk_of(k->dev), x, k->err);
  if (st != NN_OK || j.C == 0) return st;
  st = run(k, &j, x, a, mean, true);
  return st == NN_OK && j.cut.blocks > 1 ? run(k, &j, x, a, mean, false) : st;
}

nn_status nn_vk_moments(const nni_kernel_call *k) { return both(k, &k->in[0], NULL, NULL); }
nn_status nn_vk_column_dots(const nni_kernel_call *k) { return both(k, &k->in[1], &k->in[0], &k->in[2]); }
