#version 450
/* vulkan/shaders/matmul_lanes.comp - the products of matmul.comp, by lanes.glsl's tiles. A workgroup is a subgroup. The host may have exchanged the operands, to
** make a product's transpose: so the result has strides of its own. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint SG = 8;
layout(constant_id = 2) const bool ROWS_ALONG_K = true; /* has unit stride along K; else along the other dim */
layout(constant_id = 3) const bool COLUMNS_ALONG_K = false;
layout(constant_id = 4) const bool WHOLE_A = true;      /* can be read four elements at a time */
layout(constant_id = 5) const bool WHOLE_B = true;
layout(constant_id = 6) const uint SRC = F32;
layout(constant_id = 7) const uint DST = F32;
const uint STEP = 4;
#include "lanes.glsl"
NN_LOADER(0, a, SRC)
NN_LOADER(1, b, SRC)
NN_LOADER4(0, a, WHOLE_A)
NN_LOADER4(1, b, WHOLE_B)
NN_STORER(2, c, DST)
INFO { /* as in matmul.comp */
  uint a_from, b_from, c_from;
  uint M, N, K;
  uint a_row, a_col, b_row, b_col;
  uint tiles_m, tiles_n;
  uint items;
  uint parts, part_k;
  uint part_size;
  uint nbatch;
  uint batch_size[6], a_batch[6], b_batch[6];
  uint c_row, c_col; /* strides of the result */
} info;

void main() {
  uint item = NN_GROUP;
  if (item >= info.items) return;
  const uint tiles = info.tiles_m * info.tiles_n, tile = item % tiles;
  item /= tiles;
  const uint part = item % info.parts, batch = item / info.parts;
  uint rest = batch, a0 = info.a_from, b0 = info.b_from;
  for (uint d = info.nbatch; d > 0; d--) {
    const uint at = rest % info.batch_size[d - 1];
    rest /= info.batch_size[d - 1];
    a0 += at * info.a_batch[d - 1];
    b0 += at * info.b_batch[d - 1];
  }
  const uint m0 = tile / info.tiles_n * 4 * SG, n0 = tile % info.tiles_n * NN_COLUMNS, M = info.M, N = info.N;
  const uint k0 = part * info.part_k, k1 = min(info.K, k0 + info.part_k);
  const uint a_row = info.a_row, a_col = info.a_col, b_row = info.b_row, b_col = info.b_col;
  uint from[4];
  [[unroll]] for (uint i = 0; i < 4; i++) from[i] = a0 + (ROWS_ALONG_K ? min(m0 + nn_row(i), M - 1) * a_row : 0);
  nn_clear();
  for (uint k = k0; k < k1; k += 4) {
    const bvec4 inside = lessThan(k + uvec4(0, 1, 2, 3), uvec4(k1));
    [[unroll]] for (uint i = 0; i < 4; i++) {
      if (ROWS_ALONG_K) xs[i] = mix(vec4(0.0), a_f4(from[i], k, k1, a_col), inside);
      else xs[i] = mix(vec4(0.0), a_f4(a0 + min(k + i, k1 - 1) * a_col, m0 + 4 * nn_lane, M, a_row), bvec4(inside[i]));
    }
    [[unroll]] for (uint l = 0; l < NN_LOADS; l++) {
      const uint slot = nn_slot(l), kk = k + slot / 4;
      if (COLUMNS_ALONG_K) ys[l] = mix(vec4(0.0), b_f4(b0 + min(n0 + slot, N - 1) * b_col, k, k1, b_row), inside);
      else ys[l] = mix(vec4(0.0), b_f4(b0 + min(kk, k1 - 1) * b_row, n0 + slot % 4 * 4, N, b_col), bvec4(kk < k1));
    }
    nn_add();
  }
  const uint to = info.c_from + part * info.part_size + batch * M * N, c_row = info.c_row, c_col = info.c_col;
  [[unroll]] for (uint n = 0; n < NN_COLUMNS; n++)
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const uint m = m0 + nn_row(i);
      if (m < M && n0 + n < N) c_put_f(to + m * c_row + (n0 + n) * c_col, sum[n][i]);
    }
}
