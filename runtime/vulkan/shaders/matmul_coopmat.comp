#version 450
/* vulkan/shaders/matmul_coopmat.comp - products of matrices by cooperative matrices: as matmul.comp, of f16 operands (or f32 ones that are rounded to f16: MIXED),
** with sums in f32.
**
** A workgroup makes a tile of BM x BN of one product, each of its subgroups WM x WN of it in pieces of TM x TN. K is walked in steps of BK: the group copies
** its share of both matrices to shared memory, eight halves at a time and lying as they lie in memory, so what the operand's unit stride runs along must be a
** multiple of eight, and so must all strides and offsets (k_matmul.c sees to it); rows and columns outside are zeros. A piece is stored through shared memory, since the
** result may end anywhere. Written for NV_cooperative_matrix: k_coopmat.c turns the words into KHR_cooperative_matrix, which asks that TM, TN and TK be constants of their own.
*/
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint BM = 128;
layout(constant_id = 2) const uint BN = 128;
layout(constant_id = 3) const uint BK = 32;
layout(constant_id = 4) const uint WM = 64;
layout(constant_id = 5) const uint WN = 32;
layout(constant_id = 6) const bool A_ALONG_K = true;
layout(constant_id = 7) const bool B_ALONG_N = true;
layout(constant_id = 8) const bool MIXED = false; /* operands are f32 */
layout(constant_id = 9) const uint DST = F32;
layout(constant_id = 10) const uint TM = 16;
layout(constant_id = 11) const uint TN = 16;
layout(constant_id = 12) const uint TK = 16;
layout(constant_id = 13) const uint SUBGROUPS = 8;
layout(set = 0, binding = 0, std430) readonly buffer A { uvec4 a[]; };
layout(set = 0, binding = 1, std430) readonly buffer B { uvec4 b[]; };
NN_STORER(2, c, DST)
INFO { /* of matmul.comp */
  uint a_from, b_from, c_from;
  uint M, N, K;
  uint a_row, a_col, b_row, b_col;
  uint tiles_m, tiles_n;
  uint items;
  uint parts, part_k;
  uint part_size;
  uint nbatch;
  uint batch_size[6], a_batch[6], b_batch[6];
} info;

/* lines of eights, one longer than they need be, so that neighbouring lines start in other banks */
const uint A_LINE = (A_ALONG_K ? BK : BM) / 8 + 1, B_LINE = (B_ALONG_N ? BN : BK) / 8 + 1;
const uint A_LINES = A_ALONG_K ? BM : BK, B_LINES = B_ALONG_N ? BK : BN;
shared uvec4 as[A_LINES * A_LINE];
shared uvec4 bs[B_LINES * B_LINE];
shared float piece[SUBGROUPS * TM * TN];

uvec4 halves(const in uvec4 low, const in uvec4 high) {
  const vec4 x = uintBitsToFloat(low), y = uintBitsToFloat(high);
  return uvec4(packHalf2x16(x.xy), packHalf2x16(x.zw), packHalf2x16(y.xy), packHalf2x16(y.zw));
}
uvec4 a_eight(const in uint at) { return MIXED ? halves(a[at / 4], a[at / 4 + 1]) : a[at / 8]; }
uvec4 b_eight(const in uint at) { return MIXED ? halves(b[at / 4], b[at / 4 + 1]) : b[at / 8]; }

void main() {
  const uint THREADS = gl_WorkGroupSize.x, t = gl_LocalInvocationID.x;
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
  const uint m0 = tile / info.tiles_n * BM, n0 = tile % info.tiles_n * BN;
  const uint k1 = min(info.K, (part + 1) * info.part_k);
  const uint own = gl_SubgroupID, lane = gl_SubgroupInvocationID, across = BN / WN;
  const uint wm = own / across * WM, wn = own % across * WN; /* of the tile */

  fcoopmatNV<32, gl_ScopeSubgroup, TM, TN> sum[(WM / TM) * (WN / TN)];
  [[unroll]] for (uint i = 0; i < (WM / TM) * (WN / TN); i++) sum[i] = fcoopmatNV<32, gl_ScopeSubgroup, TM, TN>(0.0);
  for (uint k0 = part * info.part_k; k0 < k1; k0 += BK) {
    const uint a_eights = A_LINE - 1, b_eights = B_LINE - 1;
    for (uint e = t; e < A_LINES * a_eights; e += THREADS) {
      const uint line = e / a_eights, eight = e % a_eights;
      const uint m = m0 + (A_ALONG_K ? line : eight * 8), k = k0 + (A_ALONG_K ? eight * 8 : line);
      as[line * A_LINE + eight] = m < info.M && k < k1 ? a_eight(a0 + m * info.a_row + k * info.a_col) : uvec4(0);
    }
    for (uint e = t; e < B_LINES * b_eights; e += THREADS) {
      const uint line = e / b_eights, eight = e % b_eights;
      const uint n = n0 + (B_ALONG_N ? eight * 8 : line), k = k0 + (B_ALONG_N ? line : eight * 8);
      bs[line * B_LINE + eight] = n < info.N && k < k1 ? b_eight(b0 + k * info.b_row + n * info.b_col) : uvec4(0);
    }
    barrier();
    [[unroll]] for (uint k = 0; k < BK; k += TK) {
      fcoopmatNV<16, gl_ScopeSubgroup, TM, TK> x[WM / TM];
      [[unroll]] for (uint i = 0; i < WM / TM; i++) {
        const uint m = wm + i * TM;
        if (A_ALONG_K) coopMatLoadNV(x[i], as, m * A_LINE + k / 8, A_LINE, false);
        else coopMatLoadNV(x[i], as, k * A_LINE + m / 8, A_LINE, true);
      }
      [[unroll]] for (uint j = 0; j < WN / TN; j++) {
        const uint n = wn + j * TN;
        fcoopmatNV<16, gl_ScopeSubgroup, TK, TN> y;
        if (B_ALONG_N) coopMatLoadNV(y, bs, k * B_LINE + n / 8, B_LINE, false);
        else coopMatLoadNV(y, bs, n * B_LINE + k / 8, B_LINE, true);
        [[unroll]] for (uint i = 0; i < WM / TM; i++) sum[i * (WN / TN) + j] = coopMatMulAddNV(x[i], y, sum[i * (WN / TN) + j]);
      }
    }
    barrier();
  }
  const uint to = info.c_from + part * info.part_size + batch * info.M * info.N;
  [[unroll]] for (uint i = 0; i < WM / TM; i++)
    [[unroll]] for (uint j = 0; j < WN / TN; j++) {
      coopMatStoreNV(sum[i * (WN / TN) + j], piece, own * TM * TN, TN, false);
      barrier();
      for (uint e = lane; e < TM * TN; e += gl_SubgroupSize) {
        const uint m = m0 + wm + i * TM + e / TN, n = n0 + wn + j * TN + e % TN;
        if (m < info.M && n < info.N) c_put_f(to + m * info.N + n, piece[own * TM * TN + e]);
      }
      barrier();
    }
}
