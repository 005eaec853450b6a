/* vulkan/k_pool.c - max pooling, its gradient, and the gradient's gradient (shaders/pool.comp). Letters: N batch, H W C input, OH OW output, KH KW window. */
#include "shaders.h"
#include "vk.h"

typedef enum mode { FORWARD, DX, TAKE } mode;

/* in: x or dy; image, pooled: shapes of the two sides */
static nn_status run(const nni_kernel_call *k, mode m, const int64_t *image, const int64_t *pooled) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const int64_t *ia = k->ia;
  const nni_operand *taps_in = m == FORWARD ? NULL : &k->in[1], *taps_out = m == FORWARD ? &k->out[1] : NULL;
  struct {
    uint32_t n, from, taps_from, to, taps_to, H, W, C, OH, OW, KH, KW;
    int32_t stride_h, stride_w, pad_top, pad_left;
    nn_vk_div by_C, by_w, by_h, by_stride_h, by_stride_w;
  } info = {.n = (uint32_t)nn_vk_numel(&k->out[0]), .H = (uint32_t)image[1], .W = (uint32_t)image[2], .C = (uint32_t)image[3], .OH = (uint32_t)pooled[1],
            .OW = (uint32_t)pooled[2], .KH = (uint32_t)ia[0], .KW = (uint32_t)ia[1], .stride_h = (int32_t)ia[2], .stride_w = (int32_t)ia[3],
            .pad_top = (int32_t)ia[4], .pad_left = (int32_t)ia[5]};
  nn_status st = nn_vk_fits(d, &k->in[0], k->err);
  if (st == NN_OK) st = nn_vk_fits(d, &k->out[0], k->err);
  if (st != NN_OK || info.n == 0) return st;
  info.by_C = nn_vk_divisor(info.C), info.by_w = nn_vk_divisor((uint32_t)k->out[0].shape[2]), info.by_h = nn_vk_divisor((uint32_t)k->out[0].shape[1]);
  info.by_stride_h = nn_vk_divisor((uint32_t)ia[2]), info.by_stride_w = nn_vk_divisor((uint32_t)ia[3]);
  nn_vk_bind b[] = {nn_vk_dense(d, &k->in[0], false), {0}, nn_vk_dense(d, &k->out[0], true), {0}};
  b[1] = taps_in ? nn_vk_dense(d, taps_in, false) : b[0]; /* what is not used is bound to something that is */
  b[3] = taps_out ? nn_vk_dense(d, taps_out, true) : b[2];
  info.from = b[0].offset, info.taps_from = b[1].offset, info.to = b[2].offset, info.taps_to = b[3].offset;
  const uint32_t spec[] = {m};
  nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_pool, spec, 1, k->err), .bind = b, .nbind = 4, .info = &info, .ninfo = sizeof info, .ops = (uint64_t)info.n * info.KH * info.KW * 16};
  nn_vk_grid(d, ((uint64_t)info.n + 255) / 256, w.groups);
  return nn_vk_dispatch(d, &w, k->err);
}

nn_status nn_vk_max_pool2d(const nni_kernel_call *k) { return run(k, FORWARD, k->in[0].shape, k->out[0].shape); }
nn_status nn_vk_max_pool2d_dx(const nni_kernel_call *k) { return run(k, DX, k->out[0].shape, k->in[0].shape); }
nn_status nn_vk_max_pool2d_take(const nni_kernel_call *k) { return run(k, TAKE, k->in[0].shape, k->out[0].shape); }
size_t nn_vk_max_pool2d_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_max_pool2d_dx_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_vk_max_pool2d_take_scratch(const nni_kernel_call *k) { return (void)k, 0; }
