#version 450
/* vulkan/shaders/scatter_last.comp - which position names an element last: last[a, v, nb] = the largest m + 1 with ids[a, m, nb] = v (0 before). */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint IDS = I64;
NN_LOADER(0, ids, IDS)
layout(set = 0, binding = 1, std430) buffer Last { uint last[]; };
NN_WORDS(2);

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint r = fastdiv(i, info.div_nb), bi = i - r * info.nb, ai = fastdiv(r, info.div_m);
  const uint64_t id = uint64_t(ids_l(nn_id_at(r, bi)));
  if (id >= info.v) NN_NOTE(i);
  else atomicMax(last[info.aux + (ai * info.v + uint(id)) * info.nb + bi], r - ai * info.m + 1);
}
