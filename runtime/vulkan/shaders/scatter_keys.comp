#version 450
/* vulkan/shaders/scatter_keys.comp - positions as keys to sort: keys[a, nb, m] = ids[a, m, nb], v where there is no such element. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint IDS = I64;
NN_LOADER(0, ids, IDS)
layout(set = 0, binding = 1, std430) writeonly buffer Keys { uint keys[]; };
NN_WORDS(2);

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint lane = fastdiv(i, info.div_m), m = i - lane * info.m, ai = fastdiv(lane, info.div_nb), bi = lane - ai * info.nb;
  const uint64_t id = uint64_t(ids_l(info.ids + ai * info.ia + m * info.im + bi * info.ib));
  if (id >= info.v) NN_NOTE((ai * info.m + m) * info.nb + bi);
  keys[info.aux + i] = id >= info.v ? info.v : uint(id);
}
