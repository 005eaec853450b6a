/* vulkan/k_matmul.c - products of matrices (shaders/matmul.comp, matmul_lanes.comp, matmul_coopmat.comp). Letters: M rows of a, K inner size, N columns of b.
**
** The tile and the split of K depend on the shape and the kind of device alone, so a product has the same bits at every run.
*/
#include "coopmat.h"
#include "shaders.h"
#include "vk.h"

typedef struct tile { uint32_t threads, m, n, k, per_m, per_n; } tile; /* a workgroup's, and what one invocation makes of it */

typedef struct product {
  tile t;
  bool cooperative; /* shaders/matmul_coopmat.comp, cut as c says; t.m, t.n, t.k and t.threads are its too */
  nn_vk_cooptile c;
  uint32_t lanes; /* not 0: shaders/matmul_lanes.comp; `exchanged`: it makes out^T = b^T a^T, and M and N, a and b have changed places */
  bool exchanged;
  uint64_t M, N, K, batch, tiles_m, tiles_n;
  uint32_t parts, part_k;
} product;

/* Software devices compile a tile for as long as it is large and do not gain from it. */
static tile tile_for(const nn_vk_device *d, uint64_t M, uint64_t N) {
  if (nn_vk_is_software(d)) return (tile){64, 16, 16, 16, 2, 2};
  if (M >= 512 && N >= 512) return (tile){256, 128, 128, 16, 8, 8};
  if (M > 32 && N > 32) return (tile){256, 64, 64, 16, 4, 4};
  return (tile){256, 32, 32, 32, 2, 2};
}

/* f16 operands, and f32 ones where the program allows them to be rounded. Depends on what is the same at every run: shapes, strides, where buffers' elements
** start (buffers begin at multiples of 64 bytes), the device. */
static bool cooperates(const nni_kernel_call *k, uint64_t M, uint64_t N, uint64_t K, nn_vk_cooptile *c) {
  const nn_vk_device *d = nn_vk_of(k->dev);
  const uint32_t lanes = nn_vk_cooperates(d);
  const bool rounded = k->in[0].dtype == NN_F32 && k->ia && k->ia[0] == NN_MATMUL_MEDIUM;
  if (!lanes || K < 16 || (k->in[0].dtype != NN_F16 && !rounded) || !nn_vk_coopmat_tile(lanes, M, N, c)) return false;
  for (int i = 0; i < 2; i++)
    if (!nn_vk_coopmat_aligned(&k->in[i], nn_vk_strided(d, &k->in[i]).offset)) return false;
  return true;
}

/* The tile of lanes.glsl; of the two ways to lay it the one that wastes less. */
static void cut_in_lanes(product *p) {
  const uint64_t rows = NN_VK_LANE_ROWS * p->lanes, columns = NN_VK_LANE_COLUMNS, M = p->M, N = p->N;
  p->t = (tile){.threads = p->lanes, .m = (uint32_t)rows, .n = (uint32_t)columns, .k = NN_VK_LANE_STEP};
  p->exchanged = nn_vk_ceil_div(N, rows) * nn_vk_ceil_div(M, columns) < nn_vk_ceil_div(M, rows) * nn_vk_ceil_div(N, columns);
  if (p->exchanged) p->M = N, p->N = M;
}

static product product_of(const nni_kernel_call *k, bool may_cooperate) {
  const nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *a = &k->in[0], *b = &k->in[1];
  product p = {.M = (uint64_t)a->shape[a->ndim - 2], .K = (uint64_t)a->shape[a->ndim - 1], .N = (uint64_t)b->shape[b->ndim - 1], .batch = 1, .parts = 1};
  enum { ENOUGH = 256, LEAST_K = 256, MOST = 16 }; /* workgroups that fill a device; a part of K worth a group of its own; parts */
  for (int i = 0; i < a->ndim - 2; i++) p.batch *= (uint64_t)a->shape[i];
  p.t = tile_for(d, p.M, p.N);
  p.cooperative = may_cooperate && cooperates(k, p.M, p.N, p.K, &p.c);
  if (p.cooperative) p.t = (tile){.threads = p.c.subgroups * nn_vk_cooperates(d), .m = p.c.m, .n = p.c.n, .k = p.c.k};
  p.lanes = p.cooperative ? 0 : nn_vk_lanes(d);
  if (p.lanes) cut_in_lanes(&p);
  p.tiles_m = nn_vk_ceil_div(p.M, p.t.m);
  p.tiles_n = nn_vk_ceil_div(p.N, p.t.n);
  const uint64_t groups = p.tiles_m * p.tiles_n * p.batch;
  uint64_t parts = groups && groups < ENOUGH ? ENOUGH / groups : 1;
  if (parts > p.K / LEAST_K) parts = p.K / LEAST_K;
  if (parts > MOST) parts = MOST;
  if (parts < 1) parts = 1;
  if (p.lanes && parts < nn_vk_ceil_div(p.K, NN_VK_LANE_LONGEST)) parts = nn_vk_ceil_div(p.K, NN_VK_LANE_LONGEST);
  p.part_k = (uint32_t)(nn_vk_ceil_div(nn_vk_ceil_div(p.K, parts), p.t.k) * p.t.k);
  p.parts = p.part_k ? (uint32_t)nn_vk_ceil_div(p.K, p.part_k) : 1;
  if (p.part_k == 0) p.part_k = 1;
  return p;
}

static size_t scratch_of(const product *p) { return p->parts > 1 ? (size_t)(p->M * p->N * p->batch * p->parts) * sizeof(float) : 0; }

size_t nn_vk_matmul_scratch(const nni_kernel_call *k) { /* where the operands will start is not known yet: enough for both ways */
  const product a = product_of(k, true), b = product_of(k, false);
  return scratch_of(&a) > scratch_of(&b) ? scratch_of(&a) : scratch_of(&b);
}

nn_status nn_vk_join_parts(const nni_kernel_call *k, uint32_t parts) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const uint64_t n = nn_vk_numel(&k->out[0]);
  nn_vk_bind b[] = {nn_vk_range(d, k->scratch, (size_t)(n * parts) * sizeof(float), sizeof(float), false), nn_vk_dense(d, &k->out[0], true)};
  const uint32_t dst = k->out[0].dtype, info[] = {b[0].offset, b[1].offset, (uint32_t)n, parts};
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_matmul_join, &dst, 1, k->err), .bind = b, .nbind = 2, .info = info, .ninfo = sizeof info};
  nn_vk_grid(d, nn_vk_ceil_div(n, 256), w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}

/* May four neighbours along dim `along` be read at a time, from element `from` of the bound range on? */
static bool in_fours(const nni_operand *o, int along, uint32_t from) {
  bool yes = o->dtype == NN_F32 && o->stride[along] == 1 && o->shape[along] % 4 == 0 && from % 4 == 0;
  for (int i = 0; i < o->ndim; i++) yes = yes && (i == along || o->shape[i] == 1 || o->stride[i] % 4 == 0);
  return yes;
}

/* The shader that makes the product. from: where a and b start; dst: the dtype that is stored. */
static nn_vk_pipeline *shader_of(nn_vk_device *d, const product *p, const nni_operand *a, const nni_operand *b, const uint32_t *from, nn_dtype dst, nni_error *err) {
  const int last = p->exchanged ? a->ndim - 2 : a->ndim - 1, row = p->exchanged ? a->ndim - 1 : a->ndim - 2;
  const uint32_t a_along = a->stride[last] == 1, b_along = b->stride[last] == 1;
  const uint32_t plain[] = {p->t.threads, p->t.m, p->t.n, p->t.k, p->t.per_m, p->t.per_n, a_along, b_along, a->dtype, dst};
  const uint32_t whole[] = {p->t.threads, p->t.m, p->t.n, p->t.k, p->c.wm, p->c.wn, a_along, b_along, a->dtype == NN_F32, dst, 16, 16, 16, p->c.subgroups};
  const bool a_fours = in_fours(a, a_along ? last : row, from[0]), b_fours = in_fours(b, b_along ? last : row, from[1]);
  const uint32_t lanes[] = {p->lanes, p->lanes, a_along, !b_along, a_fours, b_fours, a->dtype, dst};
  if (p->cooperative) return nn_vk_shader(d, NN_VK_S_matmul_coopmat, whole, NNI_COUNT(whole), err);
  if (p->lanes) return nn_vk_shader(d, NN_VK_S_matmul_lanes, lanes, NNI_COUNT(lanes), err);
  return nn_vk_shader(d, NN_VK_S_matmul, plain, NNI_COUNT(plain), err);
}

nn_status nn_vk_matmul(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const product p = product_of(k, true);
  const nni_operand *a = &k->in[p.exchanged], *b = &k->in[!p.exchanged];
  const int nd = a->ndim, nb = nd - 2, last = p.exchanged ? nd - 2 : nd - 1, row = p.exchanged ? nd - 1 : nd - 2;
  struct {
    uint32_t a_from, b_from, c_from, M, N, K, a_row, a_col, b_row, b_col, tiles_m, tiles_n, items, parts, part_k, part_size, nbatch;
    uint32_t batch_size[6], a_batch[6], b_batch[6], c_row, c_col;
  } info = {.M = (uint32_t)p.M, .N = (uint32_t)p.N, .K = (uint32_t)p.K, .a_row = (uint32_t)a->stride[row], .a_col = (uint32_t)a->stride[last],
            .b_row = (uint32_t)b->stride[row], .b_col = (uint32_t)b->stride[last], .tiles_m = (uint32_t)p.tiles_m, .tiles_n = (uint32_t)p.tiles_n,
            .parts = p.parts, .part_k = p.part_k, .nbatch = (uint32_t)nb, .c_row = p.exchanged ? 1 : (uint32_t)p.N, .c_col = p.exchanged ? (uint32_t)p.M : 1};
  for (int i = 0; i < nb; i++) {
    info.batch_size[i] = (uint32_t)a->shape[i];
    info.a_batch[i] = (uint32_t)a->stride[i];
    info.b_batch[i] = (uint32_t)b->stride[i];
  }
  const uint64_t out = p.M * p.N * p.batch, groups = p.tiles_m * p.tiles_n * p.batch * p.parts;
  if (out == 0) return NN_OK;
  if (p.K == 0) return nn_vk_fill(d, k->out[0].data, ((size_t)out * nn_dtype_size(k->out[0].dtype) + 3) & ~(size_t)3, 0, k->err);
  for (int i = 0; i < 3; i++) {
    nn_status st = nn_vk_fits(d, i < 2 ? &k->in[i] : &k->out[0], k->err);
    if (st != NN_OK) return st;
  }
  nn_vk_bind to = p.parts > 1 ? nn_vk_range(d, k->scratch, (size_t)(out * p.parts) * sizeof(float), sizeof(float), true) : nn_vk_dense(d, &k->out[0], true);
  nn_vk_bind bind[] = {nn_vk_strided(d, a), nn_vk_strided(d, b), to};
  info.a_from = bind[0].offset, info.b_from = bind[1].offset, info.c_from = bind[2].offset;
  info.part_size = p.parts > 1 ? (uint32_t)out : 0, info.items = (uint32_t)groups;
  nn_vk_work w = {.bind = bind, .nbind = 3, .info = &info, .ninfo = sizeof info};
  w.pipeline = shader_of(d, &p, a, b, &info.a_from, p.parts > 1 ? NN_F32 : k->out[0].dtype, k->err);
  w.ops = groups * p.t.m * p.t.n * p.part_k;
  nn_vk_grid(d, groups, w.groups);
  nn_status st = nn_vk_dispatch(d, &w, k->err);
  return st == NN_OK && p.parts > 1 ? nn_vk_join_parts(k, p.parts) : st;
}
