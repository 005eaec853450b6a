#version 450
/* vulkan/shaders/scatter_walk.comp - dst[a, ids[a, m, b], b] joined with src[a, m, b], m in order: an invocation walks m0..m1-1 for one (a, b), so that no two
** meet at an element. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint IDS = I64;
layout(constant_id = 1) const uint DTYPE = F32;
layout(constant_id = 2) const uint MODE = 1;
NN_LOADER(0, ids, IDS)
NN_LOADER(1, src, DTYPE)
NN_BUFFER(2, restrict, dst)
NN_WORDS(3);
#include "scatter.glsl"

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint ai = fastdiv(i, info.div_b), bi = i - ai * info.b;
  for (uint m = info.m0; m < info.m1; m++) {
    const uint64_t id = uint64_t(ids_l(info.ids + ai * info.ia + m * info.im + bi * info.ib));
    if (id >= info.v) {
      if (info.nb != 1 || bi == 0) NN_NOTE((ai * info.m + m) * info.nb + bi);
      continue;
    }
    const uint e = info.from + ai * info.sa + m * info.sm + bi * info.sb, o = info.to + (ai * info.v + uint(id)) * info.b + bi;
    if (DTYPE == F32) dst_raw4[o] = floatBitsToUint(nn_join_f(uintBitsToFloat(dst_raw4[o]), src_f(e)));
    else dst_raw8[o] = uint64_t(nn_join_l(int64_t(dst_raw8[o]), src_l(e)));
  }
}
