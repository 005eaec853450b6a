/* docs/xor.c - nn.h without Lua: a network of 2-8-1 learns exclusive or.
**
**     cc docs/xor.c -Iruntime -Lbuild -lnn -o xor && LD_LIBRARY_PATH=build ./xor
**
** Prints the loss, then the four answers; the exit code is 0 when they are right.
*/
#include <stdio.h>
#include "nn.h"

enum { W1, B1, W2, B2, NPARAM };

/* probability that the two inputs differ, for each row of x (N, 2); every result is a reference of ours, so each is released */
static nn_tensor *forward(nn_context *nn, nn_tensor *x, nn_tensor **p) {
  nn_tensor *a = nn_call(nn, "linear", NN_T(x), NN_T(p[W1]), NN_T(p[B1])), *h = nn_call(nn, "tanh", NN_T(a));
  nn_tensor *b = nn_call(nn, "linear", NN_T(h), NN_T(p[W2]), NN_T(p[B2])), *y = nn_call(nn, "sigmoid", NN_T(b));
  nn_release(a), nn_release(h), nn_release(b);
  return y; /* NULL when one of them failed: a call on NULL gives NULL */
}

static nn_status train(nn_context *nn, nn_tensor *x, nn_tensor *want, nn_tensor **p, nn_tensor **m, nn_tensor **v) {
  for (int step = 1; step <= 300; step++) {
    nn_tensor *y = forward(nn, x, p), *error = nn_call(nn, "sub", NN_T(y), NN_T(want)), *square = nn_call(nn, "square", NN_T(error));
    nn_tensor *loss = nn_call(nn, "mean", NN_T(square));
    double value = 0;
    nn_status st = loss ? nn_backward(loss, NULL, false, false) : NN_EINVAL;
    nn_release(y), nn_release(error), nn_release(square);
    if (st == NN_OK) st = nn_adam_step(nn, &(nn_adam){.lr = 0.05, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step}, NPARAM, p, m, v);
    if (st == NN_OK) st = nn_item(loss, &value, NULL);
    nn_release(loss);
    if (st != NN_OK) return st;
    for (int i = 0; i < NPARAM; i++) nn_set_grad(p[i], NULL);
    if (step % 100 == 0) printf("step %d  loss %.5f\n", step, value);
  }
  return NN_OK;
}

int main(void) {
  const float in[] = {0, 0, 0, 1, 1, 0, 1, 1}, out[] = {0, 1, 1, 0};
  const int64_t shapes[NPARAM][2] = {{2, 8}, {1, 8}, {8, 1}, {1, 1}};
  nn_context *nn;
  if (nn_open(&(nn_options){.seed = 3}, &nn) != NN_OK) return 1;
  nn_tensor *x = nn_tensor_new(nn, NN_F32, 2, (int64_t[]){4, 2}, in), *want = nn_tensor_new(nn, NN_F32, 2, (int64_t[]){4, 1}, out);
  nn_tensor *p[NPARAM], *m[NPARAM], *v[NPARAM]; /* parameters, and Adam's two moments of each */
  bool ok = x && want;
  for (int i = 0; i < NPARAM; i++) {
    nn_tensor *w = nn_call(nn, "normal", NN_INTS(2, shapes[i]));
    p[i] = w ? nn_variable(w) : NULL;
    m[i] = nn_tensor_new(nn, NN_F32, 2, shapes[i], NULL);
    v[i] = nn_tensor_new(nn, NN_F32, 2, shapes[i], NULL);
    ok = ok && p[i] && m[i] && v[i];
    nn_release(w);
  }
  float y[4] = {0};
  nn_tensor *answer = NULL;
  ok = ok && train(nn, x, want, p, m, v) == NN_OK && (answer = forward(nn, x, p)) && nn_read(answer, y, sizeof y) == NN_OK;
  if (!ok) fprintf(stderr, "xor: %s\n", nn_error(nn));
  for (int i = 0; i < 4 && ok; i++) printf("%g xor %g = %.3f\n", (double)in[2 * i], (double)in[2 * i + 1], (double)y[i]);
  for (int i = 0; i < 4; i++) ok = ok && (y[i] > 0.5f) == (out[i] > 0.5f);
  nn_release(answer), nn_release(x), nn_release(want);
  for (int i = 0; i < NPARAM; i++) nn_release(p[i]), nn_release(m[i]), nn_release(v[i]);
  nn_close(nn);
  return ok ? 0 : 1;
}
