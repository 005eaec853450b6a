/* cpu/isa/lstm.c - the gates of a row of LSTM cells, forward and backward. See ../isa_kernels.h; called by ../k_lstm.c.
**
** Gates lie side by side: input, forget, cell, output, H each. Everything is element by element, so H may be any number.
*/
#include "../isa_kernels.h"
#include <string.h>
#include "vm.h"

VM_FN vf load(const float *p, int64_t n) {
  if (n >= VW) return *(const vf_mem *)p;
  float t[VW] = {0};
  memcpy(t, p, (size_t)n * sizeof *p);
  return *(const vf_mem *)t;
}
VM_FN void store(float *p, vf v, int64_t n) {
  if (n >= VW) *(vf_mem *)p = v;
  else memcpy(p, &v, (size_t)n * sizeof *p);
}
VM_FN vf sigmoid(vf x) { return 1.f / (1.f + vm_exp(vm_neg(x))); }

void NN_ISA_FN(nn_cpu_lstm_row)(int64_t H, const float *x, const float *hw, const float *c, float *gates, float *c_out, float *h_out) {
  for (int64_t k = 0; k < H; k += VW) {
    const int64_t n = H - k;
    vf z[4];
    for (int g = 0; g < 4; g++) z[g] = load(x + g * H + k, n) + load(hw + g * H + k, n);
    const vf i = sigmoid(z[0]), f = sigmoid(z[1]), a = vm_tanh(z[2]), o = sigmoid(z[3]), cell = f * load(c + k, n) + i * a;
    store(gates + k, i, n);
    store(gates + H + k, f, n);
    store(gates + 2 * H + k, a, n);
    store(gates + 3 * H + k, o, n);
    store(c_out + k, cell, n);
    store(h_out + k, o * vm_tanh(cell), n);
  }
}

void NN_ISA_FN(nn_cpu_lstm_row_dx)(int64_t H, const float *gates, const float *c, const float *c_out, const float *dh, const float *dc, const float *dgates,
                                   const float *dh_next, float *dc_next, float *dz) {
  for (int64_t k = 0; k < H; k += VW) {
    const int64_t n = H - k;
    const vf i = load(gates + k, n), f = load(gates + H + k, n), a = load(gates + 2 * H + k, n), o = load(gates + 3 * H + k, n);
    const vf y = vm_tanh(load(c_out + k, n));
    vf d = load(dh_next + k, n), e = load(dc_next + k, n), g[4];
    if (dh) d += load(dh + k, n);
    if (dc) e += load(dc + k, n);
    e += d * o * (1.f - y * y);
    g[0] = e * a, g[1] = e * load(c + k, n), g[2] = e * i, g[3] = d * y;
    for (int q = 0; dgates && q < 4; q++) g[q] += load(dgates + q * H + k, n);
    store(dz + k, g[0] * i * (1.f - i), n);
    store(dz + H + k, g[1] * f * (1.f - f), n);
    store(dz + 2 * H + k, g[2] * (1.f - a * a), n);
    store(dz + 3 * H + k, g[3] * o * (1.f - o), n);
    store(dc_next + k, e * f, n);
  }
}
