#version 450
/* vulkan/shaders/lstm.comp - one time step of a layer of LSTM cells: gates (N,4H) = sigmoid, sigmoid, tanh, sigmoid of x + h w, then c and h of the step.
**
** A workgroup makes a tile of rows x CELLS cells, an invocation one cell with its four gates. The inner size H is walked in steps of DEPTH through shared memory.
** Results have a row per step: (N,T,H) and (N,T,4H).
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 64;
layout(constant_id = 1) const uint CELLS = 8;
layout(constant_id = 2) const uint DEPTH = 16;
layout(set = 0, binding = 0, std430) readonly buffer X { float x[]; };
layout(set = 0, binding = 1, std430) readonly buffer W { float w[]; };
layout(set = 0, binding = 2, std430) readonly buffer HBefore { float h_before[]; };
layout(set = 0, binding = 3, std430) readonly buffer CBefore { float c_before[]; };
layout(set = 0, binding = 4, std430) writeonly buffer H { float h_out[]; };
layout(set = 0, binding = 5, std430) writeonly buffer C { float c_out[]; };
layout(set = 0, binding = 6, std430) writeonly buffer Gates { float gates[]; };
INFO {
  uint x_from, w_from, h_before_from, c_before_from, before_row, h_from, c_from, gates_from;
  uint N, T, H, t, tiles_h, tiles;
} info;

const uint ROWS = THREADS / CELLS;
shared float hs[ROWS * (DEPTH + 1)];
shared float ws[DEPTH * 4 * CELLS];

float sigmoid(const in float v) { return 1.0 / (1.0 + nn_exp(nn_neg(v))); }

void main() {
  const uint me = gl_LocalInvocationID.x, H = info.H;
  if (NN_GROUP >= info.tiles) return;
  const uint tile = NN_GROUP, n0 = tile / info.tiles_h * ROWS, k0 = tile % info.tiles_h * CELLS;
  const uint row = me / CELLS, cell = me % CELLS, n = n0 + row, k = k0 + cell;
  float z[4];
  [[unroll]] for (uint g = 0; g < 4; g++) z[g] = 0.0;
  for (uint j0 = 0; j0 < H; j0 += DEPTH) {
    for (uint e = me; e < ROWS * DEPTH; e += THREADS) {
      const uint r = e / DEPTH, j = e % DEPTH;
      hs[r * (DEPTH + 1) + j] = n0 + r < info.N && j0 + j < H ? h_before[info.h_before_from + (n0 + r) * info.before_row + j0 + j] : 0.0;
    }
    for (uint e = me; e < DEPTH * 4 * CELLS; e += THREADS) {
      const uint j = e / (4 * CELLS), g = e / CELLS % 4, c = e % CELLS;
      ws[e] = j0 + j < H && k0 + c < H ? w[info.w_from + (j0 + j) * 4 * H + g * H + k0 + c] : 0.0;
    }
    barrier();
    for (uint j = 0; j < DEPTH; j++) {
      const float a = hs[row * (DEPTH + 1) + j];
      [[unroll]] for (uint g = 0; g < 4; g++) z[g] = fma(a, ws[(j * 4 + g) * CELLS + cell], z[g]);
    }
    barrier();
  }
  if (n >= info.N || k >= H) return;
  const uint at = n * info.T + info.t;
  [[unroll]] for (uint g = 0; g < 4; g++) z[g] += x[info.x_from + (at * 4 + g) * H + k];
  const float i = sigmoid(z[0]), f = sigmoid(z[1]), a = nn_tanh(z[2]), o = sigmoid(z[3]);
  const float c = f * c_before[info.c_before_from + n * info.before_row + k] + i * a;
  const uint to = info.gates_from + at * 4 * H + k;
  gates[to] = i;
  gates[to + H] = f;
  gates[to + 2 * H] = a;
  gates[to + 3 * H] = o;
  c_out[info.c_from + at * H + k] = c;
  h_out[info.h_from + at * H + k] = o * nn_tanh(c);
}
