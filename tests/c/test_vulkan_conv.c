/* test_vulkan_conv.c - vulkan/k_conv.c and k_pool.c against the CPU's kernels (exact ones, without Winograd): strides, dilations, paddings, groups, odd sizes. */
#include "vk_check.h"

typedef struct conv { int64_t N, H, W, C, K, KH, KW, sh, sw, pt, pl, pb, pr, dh, dw, groups; } conv;

static int64_t apart = 1; /* operands begin so many elements, or two or three times as many, behind where vectors of four can be read */

static void small(arr *a) {
  for (size_t i = 0; i < a->bytes / 4; i++) ((float *)(void *)a->memory)[i] = (float)(draw() % 2001) / 1000 - 1;
  arr_send(a);
}

static void check_conv(const conv *c) {
  const int64_t OH = (c->H + c->pt + c->pb - (c->KH - 1) * c->dh - 1) / c->sh + 1, OW = (c->W + c->pl + c->pr - (c->KW - 1) * c->dw - 1) / c->sw + 1;
  arr *x = arr_new(NN_F32, 4, (int64_t[]){c->N, c->H, c->W, c->C}, NULL, apart), *y = arr_new(NN_F32, 4, (int64_t[]){c->N, OH, OW, c->K}, NULL, 2 * apart);
  arr *w = arr_new(NN_F32, 4, (int64_t[]){c->KH, c->KW, c->C / c->groups, c->K}, NULL, 3 * apart);
  int64_t ia[12] = {c->sh, c->sw, c->pt, c->pl, c->pb, c->pr, c->dh, c->dw, c->groups, 1};
  small(x);
  small(w);
  arr_fill(y);
  check_kernel(KERNEL(conv2d), (arr *[]){x, w}, 2, &y, 1, ia, NULL, 0, 1e-5);
  small(y);
  ia[9] = c->H, ia[10] = c->W, ia[11] = 1;
  check_kernel(KERNEL(conv2d_dx), (arr *[]){y, w}, 2, &x, 1, ia, NULL, 0, 1e-5);
  small(x);
  ia[9] = c->KH, ia[10] = c->KW;
  check_kernel(KERNEL(conv2d_dw), (arr *[]){x, y}, 2, &w, 1, ia, NULL, 0, 2e-5);
  arr_free(x);
  arr_free(y);
  arr_free(w);
}

static void check_pool(int64_t N, int64_t H, int64_t W, int64_t C, const int64_t *window) { /* KH, KW, strides, pads */
  int64_t ia[10];
  memcpy(ia, window, sizeof(int64_t) * 8);
  const int64_t OH = (H + ia[4] + ia[6] - ia[0]) / ia[2] + 1, OW = (W + ia[5] + ia[7] - ia[1]) / ia[3] + 1;
  const int64_t image[] = {N, H, W, C}, pooled[] = {N, OH, OW, C};
  arr *x = arr_new(NN_F32, 4, image, NULL, 1), *y = arr_new(NN_F32, 4, pooled, NULL, 2), *taps = arr_new(NN_U8, 4, pooled, NULL, 3);
  for (size_t i = 0; i < x->bytes / 4; i++) ((float *)(void *)x->memory)[i] = draw() % 30 == 0 ? NAN : (float)(draw() % 5); /* equals and NaN */
  arr_send(x);
  arr_fill(y);
  arr_fill(taps);
  check_kernel(KERNEL(max_pool2d), &x, 1, (arr *[]){y, taps}, 2, ia, NULL, 0, 0);
  check_kernel(KERNEL(max_pool2d_take), (arr *[]){x, taps}, 2, &y, 1, ia, NULL, 0, 0);
  small(y);
  ia[8] = H, ia[9] = W;
  check_kernel(KERNEL(max_pool2d_dx), (arr *[]){y, taps}, 2, &x, 1, ia, NULL, 0, 1e-6);
  arr_free(x);
  arr_free(y);
  arr_free(taps);
}

static void all(void) {
  static const conv c[] = {
      {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1},   {2, 7, 6, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {2, 9, 8, 4, 18, 3, 2, 2, 3, 0, 1, 1, 0, 1, 1, 1},
      {1, 10, 11, 2, 3, 3, 3, 1, 2, 2, 2, 2, 2, 2, 3, 1}, {3, 5, 5, 17, 19, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1}, {2, 6, 7, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2},
      {2, 6, 7, 5, 5, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1, 5},   {1, 6, 6, 3, 6, 2, 2, 1, 1, 0, 0, 1, 1, 1, 1, 3}, {1, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2},
      {4, 20, 20, 1, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
  for (int i = 0; i < NNI_COUNT(c); i++) check_conv(&c[i]);
  static const conv fours[] = {{2, 7, 6, 4, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {2, 9, 8, 20, 36, 3, 2, 2, 3, 0, 1, 1, 0, 2, 1, 1}, {1, 8, 8, 16, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2},
                               {3, 9, 9, 1, 8, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1}, {2, 6, 6, 8, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
  apart = 4;
  for (int i = 0; i < NNI_COUNT(fours); i++) check_conv(&fours[i]);
  apart = 1;
  check_pool(2, 6, 8, 3, (int64_t[]){2, 2, 2, 2, 0, 0, 0, 0});
  check_pool(1, 7, 9, 5, (int64_t[]){3, 2, 2, 1, 1, 0, 1, 1});
  check_pool(3, 5, 5, 1, (int64_t[]){3, 3, 1, 1, 1, 1, 1, 1});
  check_pool(1, 9, 9, 2, (int64_t[]){2, 2, 3, 3, 0, 0, 0, 0});
}

int main(void) { return vk_check_main("test_vulkan_conv", all); }
