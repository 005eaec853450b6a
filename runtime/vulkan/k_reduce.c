/* vulkan/k_reduce.c - the general reduction (shaders/reduce.comp): (outer, n, inner) -> (outer, inner).
**
** Long reductions with few results are cut into blocks, whose partial results a second dispatch joins; sizes alone decide. A partial result is a float or a 64-bit
** integer; positions have their values and numbers (all values first, then all numbers).
*/
#include "shaders.h"
#include "vk.h"

_Static_assert(NNI_RED_rsum == 0 && NNI_RED_rprod == 1 && NNI_RED_rmax == 2 && NNI_RED_rmin == 3 && NNI_RED_rargmax == 4 && NNI_RED_rargmin == 5, "numbers in shaders/reduce.comp");

enum { GROUP = 256, STRIP = 32, LEAST = 16, ENOUGH = 512 }; /* invocations; columns of a group; least elements per invocation of a block; groups that fill a device */

nn_vk_cut nn_vk_cut_columns(uint64_t outer, uint64_t n, uint64_t inner) {
  nn_vk_cut c = {.cx = 1, .step = 1, .blocks = 1};
  while (c.cx < inner && c.cx < STRIP) c.cx *= 2;
  c.strips = nn_vk_ceil_div(inner, c.cx);
  const uint64_t groups = outer * c.strips, least = GROUP / c.cx * LEAST;
  uint64_t blocks = groups && groups < ENOUGH ? ENOUGH / groups : 1;
  if (blocks > n / least) blocks = n / least;
  if (blocks < 1) blocks = 1;
  if (n == 0) return c;
  c.step = nn_vk_ceil_div(n, blocks);
  c.blocks = nn_vk_ceil_div(n, c.step);
  return c;
}

typedef struct job {
  uint64_t outer, n, inner;
  nn_vk_cut cut;
  bool floats, position;
} job;

static job job_of(const nni_kernel_call *k) {
  job j = {.outer = (uint64_t)k->ia[1], .n = (uint64_t)k->ia[2], .inner = (uint64_t)k->ia[3]};
  j.cut = nn_vk_cut_columns(j.outer, j.n, j.inner);
  j.floats = nn_dtype_is_float(k->in[0].dtype);
  j.position = k->ia[0] >= NNI_RED_rargmax;
  return j;
}

static uint64_t partials(const job *j) { return j->outer * j->cut.blocks * j->inner; }
static size_t each(const job *j) { return j->floats ? sizeof(float) : sizeof(int64_t); }

size_t nn_vk_reduce_scratch(const nni_kernel_call *k) {
  const job j = job_of(k);
  return j.cut.blocks > 1 ? (size_t)partials(&j) * (each(&j) + (j.position ? sizeof(uint32_t) : 0)) : 0;
}

/* The identity; what an empty reduction gives. */
static void identity(int64_t op, nn_dtype d, float *f, int64_t *l) {
  const bool max = op == NNI_RED_rmax;
  *f = op == NNI_RED_rprod ? 1 : op == NNI_RED_rmax ? -__builtin_inff() : op == NNI_RED_rmin ? __builtin_inff() : 0;
  *l = op == NNI_RED_rprod;
  if (max || op == NNI_RED_rmin)
    *l = d == NN_I64 ? (max ? INT64_MIN : INT64_MAX) : d == NN_I32 ? (max ? INT32_MIN : INT32_MAX) : max ? 0 : d == NN_BOOL ? 1 : 255;
}

/* One dispatch (or several short ones). first: elements to partial results or to the end; else partial results to the end. */
static nn_status run(const nni_kernel_call *k, const job *j, bool first) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const bool last = !first || j->cut.blocks == 1;
  const nn_dtype wide = j->floats ? NN_F32 : NN_I64;
  const size_t values = (size_t)partials(j) * each(j), numbers = j->position ? (size_t)partials(j) * sizeof(uint32_t) : 0;
  char *part = k->scratch;
  struct {
    uint32_t from, to, numbers, numbers_to, outer, n, inner, step, blocks, strips;
    int64_t none_l;
    float none_f;
    uint32_t items;
  } info = {.outer = (uint32_t)j->outer, .n = (uint32_t)j->n, .inner = (uint32_t)j->inner, .step = (uint32_t)j->cut.step, .blocks = (uint32_t)j->cut.blocks, .strips = (uint32_t)j->cut.strips};
  if (!first) info.n = info.step = (uint32_t)j->cut.blocks, info.blocks = 1;
  identity(k->ia[0], k->out[0].dtype, &info.none_f, &info.none_l);
  nn_vk_bind b[4] = {first ? nn_vk_dense(d, &k->in[0], false) : nn_vk_range(d, part, values, each(j), false), {0},
                     last ? nn_vk_dense(d, &k->out[0], true) : nn_vk_range(d, part, values, each(j), true), {0}};
  b[1] = b[0]; /* what is not used is bound to something that is */
  b[3] = b[2];
  if (j->position && !first) b[1] = nn_vk_range(d, part + values, numbers, sizeof(uint32_t), false);
  if (j->position && !last) b[3] = nn_vk_range(d, part + values, numbers, sizeof(uint32_t), true);
  info.from = b[0].offset, info.numbers = b[1].offset, info.to = b[2].offset, info.numbers_to = b[3].offset;
  const uint32_t spec[] = {first ? k->in[0].dtype : wide, last ? k->out[0].dtype : wide, (uint32_t)k->ia[0], j->cut.cx, !first, last};
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_reduce, spec, NNI_COUNT(spec), k->err), .bind = b, .nbind = 4, .info = &info, .ninfo = sizeof info};
  const uint64_t groups = j->outer * j->cut.strips * info.blocks, per = (uint64_t)info.step * j->cut.cx + GROUP;
  info.items = (uint32_t)groups;
  w.ops = groups * per;
  nn_vk_grid(d, groups, w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}

nn_status nn_vk_reduce(const nni_kernel_call *k) {
  const job j = job_of(k);
  nn_status st = nn_vk_fits(nn_vk_of(k->dev), &k->in[0], k->err);
  if (st != NN_OK || j.outer * j.inner == 0) return st;
  st = run(k, &j, true);
  return st == NN_OK && j.cut.blocks > 1 ? run(k, &j, false) : st;
}
