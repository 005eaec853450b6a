#version 450
/* vulkan/shaders/scatter_pick.comp - dst[a, v, b] = src at the position that scatter_last found, old where there is none. Elements of SIZE bytes. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SIZE = 4;
layout(set = 0, binding = 0, std430) readonly buffer Last { uint last[]; };
NN_BUFFER(1, readonly, old)
NN_BUFFER(2, readonly, src)
NN_BUFFER(3, writeonly, dst)

#define PICK(raw) dst_##raw[o] = m == 0 ? old_##raw[info.old + i] : src_##raw[e]
void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint q = fastdiv(i, info.div_b), bi = i - q * info.b, ai = fastdiv(q, info.div_v);
  const uint m = last[info.aux + q * info.nb + (info.nb == 1 ? 0 : bi)];
  const uint e = m == 0 ? info.from : info.from + ai * info.sa + (m - 1) * info.sm + bi * info.sb, o = info.to + i;
  if (SIZE == 4) PICK(raw4);
  else if (SIZE == 8) PICK(raw8);
  else if (SIZE == 2) PICK(raw2);
  else PICK(raw1);
}
