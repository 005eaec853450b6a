/* test_vulkan_reduce.c - vulkan/k_reduce.c and k_moments.c against the CPU's kernels: every operator and dtype, short and long, one column and many, NaN, equals. */
#include "vk_check.h"

static void values(arr *a, int span) { /* few different ones, so that there are equals */
  const size_t each = nn_dtype_size(a->host.dtype);
  for (size_t i = 0; i < a->bytes / each; i++) {
    const int64_t n = (int64_t)(draw() % (uint32_t)(2 * span + 1)) - span;
    nn_element_write(a->host.dtype, a->memory + i * each, (double)n / 8, a->host.dtype == NN_U8 ? n + span : n);
    if (a->host.dtype == NN_BOOL) a->memory[i] = (char)(draw() & 1);
  }
  arr_send(a);
}

static void check(nni_redid op, nn_dtype t, int64_t outer, int64_t n, int64_t inner, bool nan) {
  const nn_dtype to = op >= NNI_RED_rargmax ? NN_I64 : (op <= NNI_RED_rprod && (t == NN_U8 || t == NN_BOOL)) ? NN_I64 : t;
  const int64_t ia[] = {op, outer, n, inner};
  arr *in = arr_new(t, 3, (int64_t[]){outer, n, inner}, NULL, 3), *out = arr_new(to, 2, (int64_t[]){outer, inner}, NULL, 1);
  values(in, op == NNI_RED_rprod ? 1 : 100);
  if (op == NNI_RED_rprod && t == NN_F32)
    for (size_t i = 0; i < in->bytes / 4; i++) ((float *)(void *)in->memory)[i] = draw() % 2 ? 1.0f : draw() % 2 ? -2.0f : 0.5f; /* exact in any order */
  if (nan && outer * n * inner > 0) ((float *)(void *)in->host.data)[(outer * n * inner) / 2] = NAN;
  arr_fill(out);
  check_kernel(KERNEL(reduce), &in, 1, &out, 1, ia, NULL, 0, 2e-5);
  arr_free(in);
  arr_free(out);
}

static void check_columns(int64_t R, int64_t C) {
  arr *x = arr_new(NN_F32, 2, (int64_t[]){R, C}, NULL, 1), *a = arr_new(NN_F32, 2, (int64_t[]){R, C}, NULL, 0), *m = arr_new(NN_F32, 1, &C, NULL, 2);
  arr *out[2] = {arr_new(NN_F32, 1, &C, NULL, 1), arr_new(NN_F32, 1, &C, NULL, 0)};
  values(x, 100);
  values(a, 20);
  values(m, 5);
  for (size_t i = 0; i < x->bytes / 4; i++) ((float *)(void *)x->memory)[i] += 300; /* a variance far from the mean */
  check_kernel(KERNEL(moments), &x, 1, out, 2, NULL, NULL, 0, 2e-5);
  for (size_t i = 0; i < x->bytes / 4; i++) ((float *)(void *)x->memory)[i] -= 300;
  check_kernel(KERNEL(column_dots), (arr *[]){a, x, m}, 3, out, 2, NULL, NULL, 0, 1e-4);
  arr_free(x);
  arr_free(a);
  arr_free(m);
  arr_free(out[0]);
  arr_free(out[1]);
}

static void all(void) {
  static const int64_t shapes[][3] = {{1, 1, 1}, {3, 7, 1}, {1, 40000, 1}, {2, 9000, 1}, {5, 33, 4}, {1, 3000, 3}, {2, 17, 70}, {1, 5000, 40}, {3, 0, 2}, {0, 5, 2}};
  static const nn_dtype types[] = {NN_F32, NN_I64, NN_I32, NN_U8, NN_BOOL};
  for (int op = 0; op < NNI_NRED; op++)
    for (int t = 0; t < NNI_COUNT(types); t++)
      for (int s = 0; s < NNI_COUNT(shapes); s++) check((nni_redid)op, types[t], shapes[s][0], shapes[s][1], shapes[s][2], false);
  for (int op = NNI_RED_rmax; op < NNI_NRED; op++)
    for (int s = 0; s < 8; s++) check((nni_redid)op, NN_F32, shapes[s][0], shapes[s][1], shapes[s][2], true);
  check_columns(1, 1);
  check_columns(5, 3);
  check_columns(300, 40);
  check_columns(6000, 5);
  check_columns(2000, 33);
}

int main(void) { return vk_check_main("test_vulkan_reduce", all); }
