/* vulkan/k_conv.c - convolutions (shaders/conv2d.comp, conv2d_lanes.comp, conv2d_direct.comp). Letters: N batch, H W C input, OH OW K output, KH KW taps.
**
** Tiles, the split of the inner size and the choice of shader depend on shapes and the kind of device alone.
*/
#include "shaders.h"
#include "vk.h"

typedef enum mode { FORWARD, DX, DW } mode;

/* the Info block of conv.glsl */
typedef struct info {
  uint32_t from0, from1, to, H, W, C, OH, OW, K, KH, KW, CG, KG, groups;
  int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  uint32_t M, COLS, INNER, tiles_m, tiles_n, parts, part_k, part_size;
  nn_vk_div by_OW, by_OH, by_W, by_H, by_CG, by_KG, by_KW;
  uint32_t items;
} info;

typedef struct job {
  mode m;
  const nni_operand *x, *y, *w; /* their shapes: input, output, kernel */
  uint64_t items;               /* work items in all, multiply-adds of one */
  uint64_t each, out;           /* out: elements of the result */
  bool direct;
  uint32_t lanes; /* not 0: products by shaders/conv2d_lanes.comp, unless direct */
  uint32_t threads, bm, bn, bk, tm, tn;
  info i;
} job;

static void set_sizes(job *j, const int64_t *ia) {
  info *i = &j->i;
  i->H = (uint32_t)j->x->shape[1], i->W = (uint32_t)j->x->shape[2], i->C = (uint32_t)j->x->shape[3];
  i->OH = (uint32_t)j->y->shape[1], i->OW = (uint32_t)j->y->shape[2], i->K = (uint32_t)j->y->shape[3];
  i->KH = (uint32_t)j->w->shape[0], i->KW = (uint32_t)j->w->shape[1], i->groups = (uint32_t)ia[8];
  i->CG = i->C / i->groups, i->KG = i->K / i->groups;
  i->stride_h = (int32_t)ia[0], i->stride_w = (int32_t)ia[1], i->pad_top = (int32_t)ia[2], i->pad_left = (int32_t)ia[3];
  i->dilation_h = (int32_t)ia[6], i->dilation_w = (int32_t)ia[7];
  const uint32_t size[] = {i->OW, i->OH, i->W, i->H, i->CG, i->KG, i->KW};
  nn_vk_div *by = &i->by_OW;
  for (int k = 0; k < NNI_COUNT(size); k++) by[k] = nn_vk_divisor(size[k] ? size[k] : 1);
}

static void set_tiles(job *j, const nn_vk_device *d) {
  info *i = &j->i;
  const uint64_t pixels = (uint64_t)j->y->shape[0] * i->OH * i->OW, taps = (uint64_t)i->KH * i->KW;
  i->M = (uint32_t)(j->m == FORWARD ? pixels : j->m == DX ? (uint64_t)j->x->shape[0] * i->H * i->W : taps * i->CG);
  i->COLS = j->m == DX ? i->CG : i->KG;
  i->INNER = (uint32_t)(j->m == FORWARD ? taps * i->CG : j->m == DX ? taps * i->KG : pixels);
  const uint32_t rows = NN_VK_LANE_ROWS * j->lanes, columns = NN_VK_LANE_COLUMNS;
  if (j->lanes) j->threads = j->lanes, j->bm = j->m == DW ? columns : rows, j->bn = j->m == DW ? rows : columns, j->bk = NN_VK_LANE_STEP;
  else if (nn_vk_is_software(d)) j->threads = 64, j->bm = j->bn = j->bk = 16, j->tm = j->tn = 2;
  else if (i->COLS > 32 && i->M > 32) j->threads = 256, j->bm = j->bn = 64, j->bk = 16, j->tm = j->tn = 4;
  else if (j->m == DW) j->threads = 256, j->bm = j->bn = j->bk = 32, j->tm = j->tn = 2;
  else j->threads = 256, j->bm = 64, j->bn = 16, j->bk = 32, j->tm = 4, j->tn = 1;
  i->tiles_m = (uint32_t)nn_vk_ceil_div(i->M, j->bm);
  i->tiles_n = (uint32_t)nn_vk_ceil_div(i->COLS, j->bn);
  enum { ENOUGH = 256, LEAST_K = 256, MOST = 64 };
  const uint64_t groups = (uint64_t)i->tiles_m * i->tiles_n * i->groups;
  uint64_t parts = j->m == DW && groups && groups < ENOUGH ? ENOUGH / groups : 1;
  if (parts > i->INNER / LEAST_K) parts = i->INNER / LEAST_K;
  if (parts > MOST) parts = MOST;
  if (parts < 1) parts = 1;
  if (j->lanes && j->m == DW && parts < nn_vk_ceil_div(i->INNER, NN_VK_LANE_LONGEST)) parts = nn_vk_ceil_div(i->INNER, NN_VK_LANE_LONGEST);
  i->part_k = (uint32_t)(nn_vk_ceil_div(nn_vk_ceil_div(i->INNER, parts), j->bk) * j->bk);
  if (i->part_k == 0) i->part_k = 1;
  i->parts = i->INNER ? (uint32_t)nn_vk_ceil_div(i->INNER, i->part_k) : 1;
  i->part_size = i->parts > 1 ? (uint32_t)j->out : 0;
  j->items = groups * i->parts;
  j->each = (uint64_t)j->bm * j->bn * i->part_k;
}

static job job_of(const nni_kernel_call *k, mode m) {
  job j = {.m = m, .out = nn_vk_numel(&k->out[0])};
  j.x = m == DX ? &k->out[0] : &k->in[0];
  j.y = m == FORWARD ? &k->out[0] : m == DX ? &k->in[0] : &k->in[1];
  j.w = m == DW ? &k->out[0] : &k->in[1];
  if (j.out == 0) return j;
  set_sizes(&j, k->ia);
  j.lanes = nn_vk_lanes(nn_vk_of(k->dev));
  set_tiles(&j, nn_vk_of(k->dev));
  const info *i = &j.i;
  j.direct = i->groups > 1 && (i->CG < 8 || i->KG < 8);
  if (!j.direct) return j;
  j.i.parts = 1;
  j.i.part_size = 0;
  j.items = j.out;
  j.each = m == DW ? (uint64_t)i->INNER + 256 : (uint64_t)i->KH * i->KW * (m == DX ? i->KG : i->CG);
  return j;
}

static size_t scratch_of(const nni_kernel_call *k, mode m) {
  const job j = job_of(k, m);
  return j.i.parts > 1 ? (size_t)(j.out * j.i.parts) * sizeof(float) : 0;
}
size_t nn_vk_conv2d_scratch(const nni_kernel_call *k) { return scratch_of(k, FORWARD); }
size_t nn_vk_conv2d_dx_scratch(const nni_kernel_call *k) { return scratch_of(k, DX); }
size_t nn_vk_conv2d_dw_scratch(const nni_kernel_call *k) { return scratch_of(k, DW); }

static nn_vk_pipeline *shader_of(nn_vk_device *d, const job *j, nn_dtype src, nn_dtype dst, nni_error *err) {
  const uint32_t plain[] = {j->m, j->threads, j->bm, j->bn, j->bk, j->tm, j->tn, src, dst};
  if (j->direct) return nn_vk_shader(d, NN_VK_S_conv2d_direct, plain, NNI_COUNT(plain), err);
  if (!j->lanes) return nn_vk_shader(d, NN_VK_S_conv2d, plain, NNI_COUNT(plain), err);
  /* four neighbours at a time: channels of in0, filters of in1 */
  const uint32_t channels = j->m == DX ? j->i.KG : j->i.CG, step = j->m == DW || channels % 4 == 0 ? NN_VK_LANE_STEP : 1;
  const bool whole0 = src == NN_F32 && channels % 4 == 0 && j->i.from0 % 4 == 0;
  const bool whole1 = src == NN_F32 && j->i.KG % 4 == 0 && j->i.from1 % 4 == 0;
  const uint32_t lanes[] = {j->m, j->lanes, j->lanes, step, whole0, whole1, 0, src, dst};
  return nn_vk_shader(d, NN_VK_S_conv2d_lanes, lanes, NNI_COUNT(lanes), err);
}

static nn_status run(const nni_kernel_call *k, mode m) {
  nn_vk_device *d = nn_vk_of(k->dev);
  job j = job_of(k, m);
  for (int i = 0; i < 3; i++) {
    nn_status st = nn_vk_fits(d, i < 2 ? &k->in[i] : &k->out[0], k->err);
    if (st != NN_OK) return st;
  }
  if (j.out == 0) return NN_OK;
  if (nn_vk_numel(&k->in[0]) == 0 || nn_vk_numel(&k->in[1]) == 0) return nn_vk_fill(d, k->out[0].data, ((size_t)j.out * nn_dtype_size(k->out[0].dtype) + 3) & ~(size_t)3, 0, k->err);
  nn_vk_bind to = j.i.parts > 1 ? nn_vk_range(d, k->scratch, (size_t)(j.out * j.i.parts) * sizeof(float), sizeof(float), true) : nn_vk_dense(d, &k->out[0], true);
  nn_vk_bind b[] = {nn_vk_dense(d, &k->in[0], false), nn_vk_dense(d, &k->in[1], false), to};
  j.i.from0 = b[0].offset, j.i.from1 = b[1].offset, j.i.to = b[2].offset, j.i.items = (uint32_t)j.items;
  nn_vk_work w = {.bind = b, .nbind = 3, .info = &j.i, .ninfo = sizeof j.i};
  w.pipeline = shader_of(d, &j, k->in[0].dtype, j.i.parts > 1 ? NN_F32 : k->out[0].dtype, k->err);
  w.ops = j.items * j.each;
  nn_vk_grid(d, j.direct && m != DW ? nn_vk_ceil_div(j.items, 256) : j.items, w.groups);
  nn_status st = nn_vk_dispatch(d, &w, k->err);
  return st == NN_OK && j.i.parts > 1 ? nn_vk_join_parts(k, j.i.parts) : st;
}

nn_status nn_vk_conv2d(const nni_kernel_call *k) { return run(k, FORWARD); }
nn_status nn_vk_conv2d_dx(const nni_kernel_call *k) { return run(k, DX); }
nn_status nn_vk_conv2d_dw(const nni_kernel_call *k) { return run(k, DW); }
