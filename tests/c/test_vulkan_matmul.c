/* test_vulkan_matmul.c - vulkan/k_matmul.c against the CPU's products: sizes around the tiles, transposed and broadcast operands, batches, split inner sizes. */
#include "vk_check.h"

typedef struct one { int ndim; int64_t a[NN_MAXDIM], b[NN_MAXDIM], sa[NN_MAXDIM], sb[NN_MAXDIM]; } one;

static void small(arr *a) { /* values whose sums stay exact enough */
  for (size_t i = 0; i < a->bytes / 4; i++) ((float *)(void *)a->memory)[i] = (float)(draw() % 2001) / 1000 - 1;
  arr_send(a);
}

static int64_t apart = 1; /* operands begin so many elements, or three times as many, behind where vectors of four can be read */

static void check(const one *c) {
  int64_t shape[NN_MAXDIM];
  for (int i = 0; i < c->ndim; i++) shape[i] = c->a[i];
  shape[c->ndim - 1] = c->b[c->ndim - 1];
  arr *in[2] = {arr_new(NN_F32, c->ndim, c->a, c->sa, 3 * apart), arr_new(NN_F32, c->ndim, c->b, c->sb, apart)}, *out = arr_new(NN_F32, c->ndim, shape, NULL, 2);
  small(in[0]);
  small(in[1]);
  arr_fill(out);
  check_kernel(KERNEL(matmul), in, 2, &out, 1, NULL, NULL, 0, 1e-5);
  arr_free(in[0]);
  arr_free(in[1]);
  arr_free(out);
}

/* f16 and bf16 operands: every element against a sum in double of the stored values. At most half a unit of the result's last place, besides what sums in f32 lose. */
static double value(const arr *a, int64_t row, int64_t column) { return arr_get(a, a->memory, (size_t)(a->stride[0] * row + a->stride[1] * column) + a->first / 2); }
static void check_half(nn_dtype t, int64_t M, int64_t K, int64_t N, bool at, bool bt) {
  arr *a = arr_new(t, 2, (int64_t[]){M, K}, (int64_t[]){at ? 1 : K, at ? M : 1}, 3), *b = arr_new(t, 2, (int64_t[]){K, N}, (int64_t[]){bt ? 1 : N, bt ? K : 1}, 1);
  arr *out = arr_new(t, 2, (int64_t[]){M, N}, NULL, 2);
  arr *in[] = {a, b};
  for (int i = 0; i < 2; i++) {
    for (size_t e = 0; e < in[i]->bytes / 2; e++) nn_element_write(t, in[i]->memory + 2 * e, (double)(draw() % 2001) / 1000 - 1, 0);
    arr_send(in[i]);
  }
  const nni_operand di[] = {a->device, b->device};
  nni_kernel_call k = {.dev = dev, .threads = threads, .in = di, .out = &out->device, .nin = 2, .nout = 1, .err = &err};
  const size_t n = nn_vk_matmul_scratch(&k);
  k.scratch = dev->is->buffer_get(dev, n);
  bool replay;
  void *address[] = {di[0].data, di[1].data, out->device.data, k.scratch}, *record = NULL;
  const nni_submission s = {.recorded = &record, .address = address, .naddress = 4, .err = &err};
  MUST(dev->is->begin(dev, &s, &replay));
  const nn_status st = nn_vk_matmul(&k);
  CHECK(st == NN_OK, "%s", err.text);
  MUST(dev->is->end(dev, st != NN_OK, &err));
  MUST(dev->is->download(dev, out->memory, out->buffer, out->bytes, &err));
  int bad = 0;
  for (int64_t i = 0; i < M; i++)
    for (int64_t j = 0; j < N; j++) {
      double want = 0, size = 0;
      for (int64_t e = 0; e < K; e++) want += value(a, i, e) * value(b, e, j), size += fabs(value(a, i, e) * value(b, e, j));
      int exponent;
      frexp(want, &exponent);
      const double got = arr_get(out, out->memory, (size_t)(i * N + j) + out->first / 2), half = ldexp(0.5, exponent - (t == NN_F16 ? 11 : 8));
      bad += !(fabs(got - want) <= half + size * 1e-6);
    }
  CHECK(bad == 0, "%s %lldx%lldx%lld: %d of %lld are off", nn_dtype_name(t), (long long)M, (long long)K, (long long)N, bad, (long long)(M * N));
  dev->is->recorded_free(dev, record);
  dev->is->buffer_put(dev, k.scratch, n);
  arr_free(a), arr_free(b), arr_free(out);
}

/* However many products there are to fill a device: a software driver gives up loops that are too long, so such inner sizes are made in parts. */
static void check_long(void) {
  const int64_t a[] = {300, 1, 300000}, b[] = {300, 300000, 1}, sa[] = {0, 300000, 1}, sb[] = {0, 1, 1}, out[] = {300, 1, 1}, so[] = {1, 1, 1};
  const nni_operand in[] = {{.dtype = NN_F32, .ndim = 3, .shape = a, .stride = sa}, {.dtype = NN_F32, .ndim = 3, .shape = b, .stride = sb}};
  const nni_operand to = {.dtype = NN_F32, .ndim = 3, .shape = out, .stride = so};
  const nni_kernel_call k = {.dev = dev, .threads = threads, .in = in, .out = &to, .nin = 2, .nout = 1, .err = &err};
  if (nn_vk_lanes(nn_vk_of(dev))) CHECK(nn_vk_matmul_scratch(&k) == 2 * 300 * sizeof(float), "%zu bytes of parts", nn_vk_matmul_scratch(&k));
}

static void all(void) {
  check_long();
  for (int i = 0; i < 4; i++) {
    check_half(NN_F16, 17, 33, 15, i & 1, i & 2);
    check_half(NN_BF16, 5, 100, 19, i & 1, i & 2);
  }
  check_half(NN_F16, 3, 1500, 2, false, false); /* in parts */
  check_half(NN_BF16, 2, 1500, 5, true, true);
  static const int64_t sizes[][3] = {{1, 1, 1}, {1, 7, 1}, {16, 16, 16}, {17, 33, 15}, {5, 100, 40}, {64, 784, 10}, {33, 2, 65}, {3, 1500, 2}};
  for (int i = 0; i < NNI_COUNT(sizes); i++) {
    const int64_t M = sizes[i][0], K = sizes[i][1], N = sizes[i][2];
    for (int t = 0; t < 4; t++)
      check(&(one){2, {M, K}, {K, N}, {t & 1 ? 1 : K, t & 1 ? M : 1}, {t & 2 ? 1 : N, t & 2 ? K : 1}});
  }
  apart = 4;
  for (int t = 0; t < 4; t++) check(&(one){2, {36, 20}, {20, 44}, {t & 1 ? 1 : 20, t & 1 ? 36 : 1}, {t & 2 ? 1 : 44, t & 2 ? 20 : 1}});
  check(&(one){2, {8, 20}, {20, 44}, {1, 8}, {44, 1}});
  check(&(one){3, {3, 8, 4}, {3, 4, 8}, {0, 4, 1}, {32, 1, 4}});
  apart = 1;
  check(&(one){2, {9, 12}, {12, 8}, {20, 1}, {1, 30}});                                          /* rows that are parts of longer ones */
  check(&(one){3, {3, 5, 4}, {3, 4, 6}, {20, 4, 1}, {24, 6, 1}});
  check(&(one){3, {3, 5, 4}, {3, 4, 6}, {0, 4, 1}, {24, 1, 4}});                                 /* a is one matrix for all */
  check(&(one){4, {2, 3, 5, 4}, {2, 3, 4, 6}, {60, 20, 4, 1}, {0, 24, 6, 1}});
  check(&(one){5, {2, 1, 3, 2, 17}, {2, 1, 3, 17, 18}, {102, 102, 34, 17, 1}, {0, 0, 306, 18, 1}});
  check(&(one){2, {4, 0}, {0, 5}, {1, 1}, {5, 1}});                                              /* nothing to sum */
}

int main(void) { return vk_check_main("test_vulkan_matmul", all); }
