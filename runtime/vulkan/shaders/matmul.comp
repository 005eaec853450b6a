#version 450
/* vulkan/shaders/matmul.comp - products of matrices: out (batch, M, N) = a (batch, M, K) b (batch, K, N), of f32, f16 or bf16. Sums are f32,
** rounded once when the result is stored (parts of K are stored as f32: DST).
**
** A workgroup makes a tile of BM x BN of one product, an invocation TM x TN of it (rows and columns BM / TM and BN / TN apart, so that neighbours
** store neighbours). K is walked in steps of BK through shared memory; with SPLIT the group makes the share `part` of K, and its tile goes to part number `part`
** of the output, to be joined by matmul_join.comp. Each matrix has unit stride in one of its dims: A_ALONG_K, B_ALONG_N say which one is read in a row.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint BM = 16;
layout(constant_id = 2) const uint BN = 16;
layout(constant_id = 3) const uint BK = 16;
layout(constant_id = 4) const uint TM = 2;
layout(constant_id = 5) const uint TN = 2;
layout(constant_id = 6) const bool A_ALONG_K = true;
layout(constant_id = 7) const bool B_ALONG_N = true;
layout(constant_id = 8) const uint SRC = F32;
layout(constant_id = 9) const uint DST = F32;
NN_LOADER(0, a, SRC)
NN_LOADER(1, b, SRC)
NN_STORER(2, c, DST)
INFO {
  uint a_from, b_from, c_from; /* element 0 of each */
  uint M, N, K;
  uint a_row, a_col, b_row, b_col; /* strides */
  uint tiles_m, tiles_n;           /* of one product */
  uint items;                      /* work items: tile + tiles * (part + parts * batch) */
  uint parts, part_k;              /* of K: how many, and how long */
  uint part_size;                  /* elements of the output per part */
  uint nbatch;                     /* leading dims */
  uint batch_size[6], a_batch[6], b_batch[6];
} info;

const uint AS = BM + 1, BS = BN + 1; /* rows in shared memory do not start in the same bank */
shared float as[BK * AS];
shared float bs[BK * BS];

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
  const uint columns = BN / TN, tm = t / columns, tn = t % columns, rows = BM / TM;

  float sum[TM * TN];
  [[unroll]] for (uint i = 0; i < TM * TN; i++) sum[i] = 0.0;
  for (uint k0 = part * info.part_k; k0 < k1; k0 += BK) {
    [[unroll]] for (uint e = t; e < BM * BK; e += THREADS) {
      const uint m = A_ALONG_K ? e / BK : e % BM, k = A_ALONG_K ? e % BK : e / BM;
      as[k * AS + m] = m0 + m < info.M && k0 + k < k1 ? a_f(a0 + (m0 + m) * info.a_row + (k0 + k) * info.a_col) : 0.0;
    }
    [[unroll]] for (uint e = t; e < BN * BK; e += THREADS) {
      const uint n = B_ALONG_N ? e % BN : e / BK, k = B_ALONG_N ? e / BN : e % BK;
      bs[k * BS + n] = n0 + n < info.N && k0 + k < k1 ? b_f(b0 + (k0 + k) * info.b_row + (n0 + n) * info.b_col) : 0.0;
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
  const uint to = info.c_from + part * info.part_size + batch * info.M * info.N;
  [[unroll]] for (uint i = 0; i < TM; i++)
    [[unroll]] for (uint j = 0; j < TN; j++) {
      const uint m = m0 + tm + i * rows, n = n0 + tn + j * columns;
      if (m < info.M && n < info.N) c_put_f(to + m * info.N + n, sum[i * TN + j]);
    }
}
