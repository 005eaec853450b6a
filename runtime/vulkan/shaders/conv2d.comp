#version 450
/* vulkan/shaders/conv2d.comp - convolutions as products of matrices whose left one is never stored (implicit GEMM); tiles as in matmul.comp.
**
** FORWARD  rows: output pixels, columns: KG filters, inner: taps x CG      x at taps,  w (taps, CG, K)
** DX       rows: input pixels, columns: CG channels, inner: taps x KG      dy at taps, w
** DW       rows: taps x CG, columns: KG filters, inner: output pixels      x at taps,  dy; the inner size may be split in parts, which matmul_join.comp adds up
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "conv.glsl"
layout(local_size_x_id = 1) in;
layout(constant_id = 2) const uint BM = 16;
layout(constant_id = 3) const uint BN = 16;
layout(constant_id = 4) const uint BK = 16;
layout(constant_id = 5) const uint TM = 2;
layout(constant_id = 6) const uint TN = 2;

const uint AS = BM + 1, BS = BN + 1;
shared float as[BK * AS];
shared float bs[BK * BS];

float left(const in uint m, const in uint k, const in uint group) {
  if (MODE == DW) {
    const ivec3 tap = nn_tap(m, info.by_CG, info.CG);
    return nn_meet(nn_pixel(k), tap.xy, group * info.CG + uint(tap.z));
  }
  const ivec3 tap = MODE == DX ? nn_tap(k, info.by_KG, info.KG) : nn_tap(k, info.by_CG, info.CG);
  return nn_meet(nn_pixel(m), tap.xy, group * (MODE == DX ? info.KG : info.CG) + uint(tap.z));
}
float right(const in uint k, const in uint n, const in uint group) {
  if (MODE == FORWARD || MODE == DW) return in1_f(info.from1 + k * info.K + group * info.KG + n);
  const uint t = fastdiv(k, info.by_KG), filter_ = k - t * info.KG;
  return in1_f(info.from1 + (t * info.CG + n) * info.K + group * info.KG + filter_);
}

void main() {
  const uint THREADS = gl_WorkGroupSize.x, t = gl_LocalInvocationID.x;
  uint item = NN_GROUP;
  if (item >= info.items) return;
  const uint tiles = info.tiles_m * info.tiles_n, tile = item % tiles;
  item /= tiles;
  const uint part = item % info.parts, group = item / info.parts;
  const uint m0 = tile / info.tiles_n * BM, n0 = tile % info.tiles_n * BN;
  const uint k1 = min(info.INNER, (part + 1) * info.part_k);
  const uint columns = BN / TN, tm = t / columns, tn = t % columns, rows = BM / TM;
  float sum[TM * TN];
  [[unroll]] for (uint i = 0; i < TM * TN; i++) sum[i] = 0.0;
  for (uint k0 = part * info.part_k; k0 < k1; k0 += BK) {
    for (uint e = t; e < BM * BK; e += THREADS) { /* neighbours read neighbouring channels */
      const uint m = MODE == DW ? e % BM : e / BK, k = MODE == DW ? e / BM : e % BK;
      as[k * AS + m] = m0 + m < info.M && k0 + k < k1 ? left(m0 + m, k0 + k, group) : 0.0;
    }
    for (uint e = t; e < BN * BK; e += THREADS) {
      const uint n = MODE == DX ? e / BK : e % BN, k = MODE == DX ? e % BK : e / BN;
      bs[k * BS + n] = n0 + n < info.COLS && k0 + k < k1 ? right(k0 + k, n0 + n, group) : 0.0;
    }
    barrier();
    for (uint k = 0; k < BK; k++) {
      float x[TM], y[TN];
      [[unroll]] for (uint i = 0; i < TM; i++) x[i] = as[k * AS + tm + i * rows];
      [[unroll]] for (uint j = 0; j < TN; j++) y[j] = bs[k * BS + tn + j * columns];
      [[unroll]] for (uint i = 0; i < TM; i++)
        [[unroll]] for (uint j = 0; j < TN; j++) sum[i * TN + j] = fma(x[i], y[j], sum[i * TN + j]);
    }
    barrier();
  }
  const uint line = MODE == DX ? info.C : info.K, to = info.to + part * info.part_size + group * info.COLS;
  [[unroll]] for (uint i = 0; i < TM; i++)
    [[unroll]] for (uint j = 0; j < TN; j++) {
      const uint m = m0 + tm + i * rows, n = n0 + tn + j * columns;
      if (m < info.M && n < info.COLS) result_put_f(to + m * line + n, sum[i * TN + j]);
    }
}
