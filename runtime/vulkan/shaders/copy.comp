#version 450
/* vulkan/shaders/copy.comp - one element of a strided copy with conversion: dst[to(i)] = src[from(i)]. An invocation moves one element. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "strided.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SRC = F32;
layout(constant_id = 1) const uint DST = F32;
layout(constant_id = 2) const uint RANK = 1;
NN_LOADER(0, src, SRC)
NN_STORER(1, dst, DST)

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uvec2 at = nn_place(i, RANK);
  if (SRC == DST) { /* bits, so that every NaN stays the one it is */
    if (SRC == I64) dst_raw8[at.y] = src_raw8[at.x];
    else if (SRC == F32 || SRC == I32) dst_raw4[at.y] = src_raw4[at.x];
    else if (SRC == F16 || SRC == BF16) dst_raw2[at.y] = src_raw2[at.x];
    else dst_raw1[at.y] = src_raw1[at.x];
  } else if (NN_CLASS(SRC) == NN_F) dst_put_f(at.y, src_f(at.x));
  else if (NN_CLASS(SRC) == NN_I) dst_put_i(at.y, src_i(at.x));
  else dst_put_l(at.y, src_l(at.x));
}
