#version 450
/* vulkan/shaders/conv2d_lanes.comp - the products of conv2d.comp, by lanes.glsl's tiles. A workgroup is a subgroup.
**
** FORWARD, DX  rows: pixels, columns: filters or channels; the inner index walks the taps, and at each the channels or filters in steps of STEP
** DW           rows: filters, columns: taps x CG; the inner index walks the output pixels of the part
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "conv.glsl"
layout(local_size_x_id = 1) in;
layout(constant_id = 2) const uint SG = 8;
layout(constant_id = 3) const uint STEP = 4;
layout(constant_id = 4) const bool WHOLE0 = true; /* in0 and in1 can be read four elements at a time */
layout(constant_id = 5) const bool WHOLE1 = true;
const bool ROWS_ALONG_K = MODE != DW, COLUMNS_ALONG_K = MODE == DX;
#include "lanes.glsl"
NN_LOADER4(0, in0, WHOLE0)
NN_LOADER4(1, in1, WHOLE1)

void by_pixels(const in uint m0, const in uint n0, const in uint group) {
  const uint inner = MODE == DX ? info.KG : info.CG, columns = info.COLS, CG = info.CG, K = info.K, KH = info.KH, KW = info.KW;
  const uint channels = group * inner, filters = info.from1 + group * info.KG;
  ivec3 pixel[4];
  [[unroll]] for (uint i = 0; i < 4; i++) pixel[i] = nn_pixel(min(m0 + nn_row(i), info.M - 1));
  for (uint kh = 0; kh < KH; kh++)
    for (uint kw = 0; kw < KW; kw++) {
      uint at[4], to[NN_LOADS];
      bool inside[4];
      [[unroll]] for (uint i = 0; i < 4; i++) {
        inside[i] = nn_place(pixel[i], ivec2(kh, kw), at[i]);
        at[i] = inside[i] ? at[i] + channels : info.from0;
      }
      const uint tap = (kh * KW + kw) * CG;
      for (uint k = 0; k < inner; k += STEP) {
        [[unroll]] for (uint i = 0; i < 4; i++) {
          const uint e = inside[i] ? at[i] + k : at[i];
          const vec4 v = STEP == 4 ? in0_f4(e, 0, 4, 1) : vec4(in0_f(e), 0.0, 0.0, 0.0);
          xs[i] = inside[i] ? v : vec4(0.0);
        }
        [[unroll]] for (uint l = 0; l < NN_LOADS; l++) {
          const uint slot = nn_slot(l);
          if (MODE == FORWARD) ys[l] = in1_f4(filters + (tap + k + slot / 4) * K, n0 + slot % 4 * 4, columns, 1);
          else {
            const uint e = filters + (tap + min(n0 + slot, columns - 1)) * K + k;
            ys[l] = STEP == 4 ? in1_f4(e, 0, 4, 1) : vec4(in1_f(e), 0.0, 0.0, 0.0);
          }
        }
        nn_add();
      }
    }
}

void by_taps(const in uint n0, const in uint m0, const in uint group, const in uint k0, const in uint k1) {
  const uint channels = group * info.CG, K = info.K, KG = info.KG, M = info.M;
  const uint filters = info.from1 + group * KG, n = n0 + nn_row(0), m = m0 + nn_slot(0) % 4 * 4; /* the same for every load: SG is a multiple of 4 */
  ivec3 tap[4];
  [[unroll]] for (uint e = 0; e < 4; e++) tap[e] = nn_tap(min(m + e, M - 1), info.by_CG, info.CG);
  for (uint k = k0; k < k1; k += 4) {
    [[unroll]] for (uint j = 0; j < 4; j++) {
      const vec4 v = in1_f4(filters + min(k + j, k1 - 1) * K, n, KG, 1);
      xs[j] = k + j < k1 ? v : vec4(0.0);
    }
    [[unroll]] for (uint l = 0; l < NN_LOADS; l++) {
      const uint p = k + nn_slot(l) / 4;
      const ivec3 pixel = nn_pixel(min(p, k1 - 1));
      vec4 v = vec4(0.0);
      [[unroll]] for (uint e = 0; e < (WHOLE0 ? 1 : 4); e++) {
        uint at;
        const bool inside = nn_place(pixel, tap[e].xy, at) && p < k1;
        at = inside ? at + channels + uint(tap[e].z) : info.from0;
        if (WHOLE0) {
          const vec4 x = in0_f4(at, 0, 4, 1);
          v = inside ? x : vec4(0.0);
        } else {
          const float x = in0_f(at);
          v[e] = inside ? x : 0.0;
        }
      }
      ys[l] = v;
    }
    nn_add();
  }
}

void main() {
  uint item = NN_GROUP;
  if (item >= info.items) return;
  const uint tiles = info.tiles_m * info.tiles_n, tile = item % tiles;
  item /= tiles;
  const uint part = item % info.parts, group = item / info.parts;
  const uint m0 = tile / info.tiles_n * (MODE == DW ? NN_COLUMNS : 4 * SG), n0 = tile % info.tiles_n * (MODE == DW ? 4 * SG : NN_COLUMNS);
  nn_clear();
  if (MODE == DW) by_taps(n0, m0, group, part * info.part_k, min(info.INNER, (part + 1) * info.part_k));
  else by_pixels(m0, n0, group);
  const uint line = MODE == DX ? info.C : info.K, to = info.to + part * info.part_size + group * info.COLS;
  [[unroll]] for (uint c = 0; c < NN_COLUMNS; c++)
    [[unroll]] for (uint i = 0; i < 4; i++) {
      const uint m = m0 + (MODE == DW ? c : nn_row(i)), n = n0 + (MODE == DW ? nn_row(i) : c);
      if (m < info.M && n < info.COLS) result_put_f(to + m * line + n, sum[c][i]);
    }
}
