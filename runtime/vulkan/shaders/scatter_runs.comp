#version 450
/* vulkan/shaders/scatter_runs.comp - scatter_walk with sorted positions: keys[a, nb, j] and where each came from, at[a, nb, j]. A run of equal keys has the values
** of one element, in their order; the invocation at its start (or where m0 cuts it, in a later dispatch) joins them. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint DTYPE = F32;
layout(constant_id = 1) const uint MODE = 1;
layout(set = 0, binding = 0, std430) readonly buffer Keys { uint keys[]; };
layout(set = 0, binding = 1, std430) readonly buffer At { uint at[]; };
NN_LOADER(2, src, DTYPE)
NN_BUFFER(3, restrict, dst)
#include "scatter.glsl"

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint r = fastdiv(i, info.div_b), bi = i - r * info.b, ai = fastdiv(r, info.div_m);
  const uint lane = (info.nb == 1 ? ai : ai * info.b + bi) * info.m;
  uint j = info.m0 + r - ai * (info.m1 - info.m0);
  const uint key = keys[info.aux + lane + j];
  if (key == info.v || (j > info.m0 && keys[info.aux + lane + j - 1] == key)) return;
  const uint from = info.from + ai * info.sa + bi * info.sb, o = info.to + (ai * info.v + key) * info.b + bi;
  if (DTYPE == F32) {
    float sum = uintBitsToFloat(dst_raw4[o]);
    for (; j < info.m1 && keys[info.aux + lane + j] == key; j++) sum = nn_join_f(sum, src_f(from + at[info.at + lane + j] * info.sm));
    dst_raw4[o] = floatBitsToUint(sum);
  } else {
    int64_t sum = int64_t(dst_raw8[o]);
    for (; j < info.m1 && keys[info.aux + lane + j] == key; j++) sum = nn_join_l(sum, src_l(from + at[info.at + lane + j] * info.sm));
    dst_raw8[o] = uint64_t(sum);
  }
}
