/* test_vulkan_lstm.c - vulkan/k_lstm.c against the CPU's: sizes around the tiles, no step, one step, every set of cotangents. */
#include "vk_check.h"

static arr *make(int ndim, int64_t a, int64_t b, int64_t c, double range) {
  arr *x = arr_new(NN_F32, ndim, (int64_t[]){a, b, c}, NULL, (int64_t)(draw() % 4));
  for (size_t i = 0; i < x->bytes / 4; i++) ((float *)(void *)x->memory)[i] = (float)(((double)(draw() % 2001) / 1000 - 1) * range);
  arr_send(x);
  return x;
}

static void check(int64_t N, int64_t T, int64_t H) {
  arr *x = make(3, N, T, 4 * H, 3), *w = make(2, H, 4 * H, 0, 0.5), *h = make(2, N, H, 0, 1), *c = make(2, N, H, 0, 1);
  arr *out[3] = {make(3, N, T, H, 1), make(3, N, T, H, 1), make(3, N, T, 4 * H, 1)};
  arr *in[7] = {x, w, h, c};
  check_kernel(KERNEL(lstm), in, 4, out, 3, NULL, NULL, 0, 1e-5);
  arr *dy[3] = {make(3, N, T, H, 1), make(3, N, T, H, 1), make(3, N, T, 4 * H, 1)};
  arr *back[3] = {make(3, N, T, 4 * H, 1), make(2, N, H, 0, 1), make(2, N, H, 0, 1)};
  for (int64_t given = 1; given < 8; given++) { /* out holds the CPU's results, arr_send uploads them */
    in[0] = w, in[1] = c, in[2] = out[1], in[3] = out[2];
    int n = 4;
    for (int i = 0; i < 3; i++)
      if (given >> i & 1) in[n++] = dy[i];
    check_kernel(KERNEL(lstm_dx), in, n, back, 3, &given, NULL, 0, 1e-5);
  }
  for (int i = 0; i < 3; i++) arr_free(out[i]), arr_free(dy[i]), arr_free(back[i]);
  arr_free(x), arr_free(w), arr_free(h), arr_free(c);
}

static void all(void) {
  static const int64_t sizes[][3] = {{1, 1, 1}, {3, 4, 5}, {8, 2, 8}, {9, 3, 17}, {20, 2, 33}, {2, 0, 3}, {0, 2, 3}, {2, 3, 0}};
  for (int i = 0; i < NNI_COUNT(sizes); i++) check(sizes[i][0], sizes[i][1], sizes[i][2]);
}

int main(void) { return vk_check_main("test_vulkan_lstm", all); }
