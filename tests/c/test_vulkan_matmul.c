/* test_vulkan_matmul.c - vulkan/k_matmul.c against the CPU's products: sizes around the tiles, transposed and broadcast operands, batches, split inner sizes. */
#include "vk_check.h"

typedef struct one { int ndim; int64_t a[NN_MAXDIM], b[NN_MAXDIM], sa[NN_MAXDIM], sb[NN_MAXDIM]; } one;

static void small(arr *a) { /* values whose sums stay exact enough */
  for (size_t i = 0; i < a->bytes / 4; i++) ((float *)(void *)a->memory)[i] = (float)(draw() % 2001) / 1000 - 1;
  arr_send(a);
}

static void check(const one *c) {
  int64_t shape[NN_MAXDIM];
  for (int i = 0; i < c->ndim; i++) shape[i] = c->a[i];
  shape[c->ndim - 1] = c->b[c->ndim - 1];
  arr *in[2] = {arr_new(NN_F32, c->ndim, c->a, c->sa, 3), arr_new(NN_F32, c->ndim, c->b, c->sb, 1)}, *out = arr_new(NN_F32, c->ndim, shape, NULL, 2);
  small(in[0]);
  small(in[1]);
  arr_fill(out);
  check_kernel(KERNEL(matmul), in, 2, &out, 1, NULL, NULL, 0, 1e-5);
  arr_free(in[0]);
  arr_free(in[1]);
  arr_free(out);
}

static void all(void) {
  static const int64_t sizes[][3] = {{1, 1, 1}, {1, 7, 1}, {16, 16, 16}, {17, 33, 15}, {5, 100, 40}, {64, 784, 10}, {33, 2, 65}, {3, 1500, 2}};
  for (int i = 0; i < NNI_COUNT(sizes); i++) {
    const int64_t M = sizes[i][0], K = sizes[i][1], N = sizes[i][2];
    for (int t = 0; t < 4; t++)
      check(&(one){2, {M, K}, {K, N}, {t & 1 ? 1 : K, t & 1 ? M : 1}, {t & 2 ? 1 : N, t & 2 ? K : 1}});
  }
  check(&(one){2, {9, 12}, {12, 8}, {20, 1}, {1, 30}});                                          /* rows that are parts of longer ones */
  check(&(one){3, {3, 5, 4}, {3, 4, 6}, {20, 4, 1}, {24, 6, 1}});
  check(&(one){3, {3, 5, 4}, {3, 4, 6}, {0, 4, 1}, {24, 1, 4}});                                 /* a is one matrix for all */
  check(&(one){4, {2, 3, 5, 4}, {2, 3, 4, 6}, {60, 20, 4, 1}, {0, 24, 6, 1}});
  check(&(one){5, {2, 1, 3, 2, 17}, {2, 1, 3, 17, 18}, {102, 102, 34, 17, 1}, {0, 0, 306, 18, 1}});
  check(&(one){2, {4, 0}, {0, 5}, {1, 1}, {5, 1}});                                              /* nothing to sum */
}

int main(void) { return vk_check_main("test_vulkan_matmul", all); }
