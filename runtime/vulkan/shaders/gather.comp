#version 450
/* vulkan/shaders/gather.comp - dst[a, m, b] = src[a, ids[a, m, b], b], an element of SIZE bytes per invocation. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint IDS = I64;
layout(constant_id = 1) const uint SIZE = 4;
NN_LOADER(0, ids, IDS)
NN_BUFFER(1, readonly, src)
NN_BUFFER(2, writeonly, dst)
NN_WORDS(3);

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint r = fastdiv(i, info.div_b), bi = i - r * info.b, ai = fastdiv(r, info.div_m);
  const uint64_t id = uint64_t(ids_l(nn_id_at(r, bi)));
  if (id >= info.v) {
    if (info.nb != 1 || bi == 0) NN_NOTE(r * info.nb + bi);
    return;
  }
  const uint e = info.from + (ai * info.v + uint(id)) * info.b + bi, o = info.to + i;
  if (SIZE == 4) dst_raw4[o] = src_raw4[e];
  else if (SIZE == 8) dst_raw8[o] = src_raw8[e];
  else if (SIZE == 2) dst_raw2[o] = src_raw2[e];
  else dst_raw1[o] = src_raw1[e];
}
