/* tests/c/test_core.c - the C interface end to end: values, views, plans, gradients, assignment; XOR is learnt. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "nn.h"

static int failures;
#define CHECK(c) ((c) ? (void)0 : (void)(failures++, fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #c, nn_error(ctx))))
static nn_context *ctx;

static bool near(nn_tensor *t, const float *want, int n, float tol) {
  float got[256];
  if (!t || nn_read(t, got, sizeof(float) * (size_t)n) != NN_OK) return false;
  for (int i = 0; i < n; i++)
    if (!(fabsf(got[i] - want[i]) <= tol * (1 + fabsf(want[i])))) {
      fprintf(stderr, "  element %d: %g, expected %g\n", i, (double)got[i], (double)want[i]);
      return false;
    }
  return true;
}

static nn_tensor *vec(const float *v, int64_t n) { return nn_tensor_new(ctx, NN_F32, 1, &n, v); }

static void test_chain(void) {
  nn_tensor *x = vec((float[]){1, -2, 3}, 3), *y = vec((float[]){4, 5, -6}, 3);
  nn_tensor *s = nn_call(ctx, "add", NN_T(x), NN_T(y)), *p = nn_call(ctx, "mul", NN_T(s), NN_F(2)), *r = nn_call(ctx, "relu", NN_T(p));
  CHECK(near(r, (float[]){10, 6, 0}, 3, 0));
  nn_tensor *m = nn_call(ctx, "softmax", NN_T(x));
  CHECK(near(m, (float[]){0.11849965f, 0.005899747f, 0.87560061f}, 3, 1e-6f));
  nn_tensor *one = nn_scalar(ctx, NN_F32, 1), *bad = nn_call(ctx, "matmul", NN_T(x), NN_T(one));
  nn_release(one);
  CHECK(bad == NULL);
  nn_release(x), nn_release(y), nn_release(s), nn_release(p), nn_release(r), nn_release(m);
}

static void test_grad(void) {
  nn_tensor *a = vec((float[]){1, 2, 3, 4}, 4), *x = nn_variable(a);
  nn_tensor *t = nn_call(ctx, "tanh", NN_T(x)), *q = nn_call(ctx, "mul", NN_T(t), NN_T(x)), *l = nn_call(ctx, "sum", NN_T(q));
  CHECK(nn_backward(l, NULL, false, false) == NN_OK);
  float want[4];
  for (int i = 0; i < 4; i++) {
    float th = tanhf((float)i + 1);
    want[i] = th + (float)(i + 1) * (1 - th * th);
  }
  CHECK(near(nn_grad_of(x), want, 4, 1e-5f));
  nn_release(a), nn_release(x), nn_release(t), nn_release(q), nn_release(l);
}

/* 2-8-1, tanh, sigmoid, squared error, Adam */
static void test_xor(void) {
  const float in[] = {0, 0, 0, 1, 1, 0, 1, 1}, out[] = {0, 1, 1, 0};
  nn_tensor *x = nn_tensor_new(ctx, NN_F32, 2, (int64_t[]){4, 2}, in), *y = nn_tensor_new(ctx, NN_F32, 2, (int64_t[]){4, 1}, out);
  nn_tensor *p[4], *m[4], *v[4];
  const int64_t shapes[4][2] = {{2, 8}, {1, 8}, {8, 1}, {1, 1}};
  nn_seed(ctx, 3);
  for (int i = 0; i < 4; i++) {
    nn_tensor *w = nn_call(ctx, "normal", NN_INTS(2, shapes[i]));
    p[i] = nn_variable(w);
    nn_release(w);
    m[i] = nn_tensor_new(ctx, NN_F32, 2, shapes[i], NULL);
    v[i] = nn_tensor_new(ctx, NN_F32, 2, shapes[i], NULL);
  }
  double loss = 0;
  uint64_t misses = 0;
  for (int s = 1; s <= 300; s++) {
    nn_tensor *h0 = nn_call(ctx, "linear", NN_T(x), NN_T(p[0]), NN_T(p[1])), *h = nn_call(ctx, "tanh", NN_T(h0));
    nn_tensor *o = nn_call(ctx, "linear", NN_T(h), NN_T(p[2]), NN_T(p[3])), *z = nn_call(ctx, "sigmoid", NN_T(o));
    nn_tensor *d = nn_call(ctx, "sub", NN_T(z), NN_T(y)), *q = nn_call(ctx, "square", NN_T(d)), *l = nn_call(ctx, "mean", NN_T(q));
    CHECK(nn_backward(l, NULL, false, false) == NN_OK);
    nn_release(h0), nn_release(h), nn_release(o), nn_release(z), nn_release(d), nn_release(q);
    CHECK(nn_adam_step(ctx, &(nn_adam){0.05, 0.9, 0.999, 1e-8, 0, s, false}, 4, p, m, v) == NN_OK);
    for (int i = 0; i < 4; i++) nn_set_grad(p[i], NULL);
    CHECK(nn_item(l, &loss, NULL) == NN_OK);
    nn_release(l);
    if (s == 3) misses = nn_run_stats(ctx).plan_misses;
  }
  CHECK(loss < 0.01);
  CHECK(nn_run_stats(ctx).plan_misses == misses);
  printf("xor: loss %.5f, %llu runs, %llu plans\n", loss, (unsigned long long)nn_run_stats(ctx).runs, (unsigned long long)nn_run_stats(ctx).plan_misses);
  for (int i = 0; i < 4; i++) nn_release(p[i]), nn_release(m[i]), nn_release(v[i]);
  nn_release(x), nn_release(y);
}

int main(void) {
  if (nn_open(NULL, &ctx) != NN_OK) return 1;
  test_chain();
  test_grad();
  test_xor();
  CHECK(nn_memory(ctx).live == 0);
  nn_close(ctx);
  return failures != 0;
}
