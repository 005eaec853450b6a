#version 450
/* vulkan/shaders/lstm_dx.comp - one time step back through a layer of LSTM cells: dx (N,4H) of step t from the cotangents of its results and from dx of step t + 1.
**
** A workgroup makes a tile of rows x CELLS cells, an invocation one cell: first the cotangent of its h, dx(t+1) (N,4H) times the transpose of w (H,4H), whose
** inner size 4H is walked in steps of DEPTH through shared memory; then dx of its four gates, and dc, which travels back in time.
** BEGIN: there is no step t + 1. END: all steps are done; the product over step 0 is dh of the layer.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 64;
layout(constant_id = 1) const uint CELLS = 8;
layout(constant_id = 2) const uint DEPTH = 16;
layout(constant_id = 3) const uint GIVEN = 7; /* cotangents there are: 1: h, 2: c, 4: gates */
layout(constant_id = 4) const bool BEGIN = false;
layout(constant_id = 5) const bool END = false;
layout(set = 0, binding = 0, std430) readonly buffer W { float w[]; };
layout(set = 0, binding = 1, std430) readonly buffer C0 { float c0[]; };
layout(set = 0, binding = 2, std430) readonly buffer C { float c_all[]; };
layout(set = 0, binding = 3, std430) readonly buffer Gates { float gates[]; };
layout(set = 0, binding = 4, std430) readonly buffer DH { float dh[]; };
layout(set = 0, binding = 5, std430) readonly buffer DC { float dc[]; };
layout(set = 0, binding = 6, std430) readonly buffer DGates { float dgates[]; };
layout(set = 0, binding = 7, std430) buffer DX { float dx[]; };
layout(set = 0, binding = 8, std430) writeonly buffer DH0 { float dh0[]; };
layout(set = 0, binding = 9, std430) buffer DC0 { float dc0[]; };
INFO {
  uint w_from, c0_from, c_from, gates_from, dh_from, dc_from, dgates_from, dx_from, dh0_from, dc0_from;
  uint N, T, H, t, tiles_h, tiles;
} info;

const uint ROWS = THREADS / CELLS;
shared float ds[ROWS * (DEPTH + 1)];
shared float ws[CELLS * (DEPTH + 1)];

void main() {
  const uint me = gl_LocalInvocationID.x, H = info.H;
  if (NN_GROUP >= info.tiles) return;
  const uint tile = NN_GROUP, n0 = tile / info.tiles_h * ROWS, k0 = tile % info.tiles_h * CELLS;
  const uint row = me / CELLS, cell = me % CELLS, n = n0 + row, k = k0 + cell;
  float d = 0.0;
  if (!BEGIN) {
    const uint later = END ? 0 : info.t + 1;
    for (uint j0 = 0; j0 < 4 * H; j0 += DEPTH) {
      for (uint e = me; e < ROWS * DEPTH; e += THREADS) {
        const uint r = e / DEPTH, j = e % DEPTH;
        ds[r * (DEPTH + 1) + j] = n0 + r < info.N && j0 + j < 4 * H ? dx[info.dx_from + ((n0 + r) * info.T + later) * 4 * H + j0 + j] : 0.0;
      }
      for (uint e = me; e < CELLS * DEPTH; e += THREADS) {
        const uint c = e / DEPTH, j = e % DEPTH;
        ws[c * (DEPTH + 1) + j] = k0 + c < H && j0 + j < 4 * H ? w[info.w_from + (k0 + c) * 4 * H + j0 + j] : 0.0;
      }
      barrier();
      for (uint j = 0; j < DEPTH; j++) d = fma(ds[row * (DEPTH + 1) + j], ws[cell * (DEPTH + 1) + j], d);
      barrier();
    }
  }
  if (n >= info.N || k >= H) return;
  if (END) {
    dh0[info.dh0_from + n * H + k] = d;
    return;
  }
  const uint at = n * info.T + info.t, cells = at * H + k, four = at * 4 * H + k;
  const float i = gates[info.gates_from + four], f = gates[info.gates_from + four + H], a = gates[info.gates_from + four + 2 * H],
              o = gates[info.gates_from + four + 3 * H], y = nn_tanh(c_all[info.c_from + cells]);
  const float before = info.t > 0 ? c_all[info.c_from + cells - H] : c0[info.c0_from + n * H + k];
  float e = BEGIN ? 0.0 : dc0[info.dc0_from + n * H + k], g[4];
  if ((GIVEN & 1) != 0) d += dh[info.dh_from + cells];
  if ((GIVEN & 2) != 0) e += dc[info.dc_from + cells];
  e += d * o * (1.0 - y * y);
  g[0] = e * a;
  g[1] = e * before;
  g[2] = e * i;
  g[3] = d * y;
  if ((GIVEN & 4) != 0)
    [[unroll]] for (uint q = 0; q < 4; q++) g[q] += dgates[info.dgates_from + four + q * H];
  const uint to = info.dx_from + four;
  dx[to] = g[0] * i * (1.0 - i);
  dx[to + H] = g[1] * f * (1.0 - f);
  dx[to + 2 * H] = g[2] * (1.0 - a * a);
  dx[to + 3 * H] = g[3] * o * (1.0 - o);
  dc0[info.dc0_from + n * H + k] = e * f;
}
