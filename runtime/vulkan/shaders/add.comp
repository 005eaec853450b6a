#version 450
/* vulkan/shaders/add.comp - one element of a strided sum: dst[to(i)] = old[to(i)] + src[from(i)], old being dst's memory as it is read. One dtype: a float, i32 or i64. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "strided.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint DTYPE = F32;
layout(constant_id = 1) const uint RANK = 1;
NN_LOADER(0, src, DTYPE)
NN_LOADER(1, old, DTYPE)
NN_STORER(2, dst, DTYPE)

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uvec2 at = nn_place(i, RANK);
  if (NN_CLASS(DTYPE) == NN_F) dst_put_f(at.y, old_f(at.y) + src_f(at.x));
  else if (NN_CLASS(DTYPE) == NN_I) dst_put_i(at.y, old_i(at.y) + src_i(at.x));
  else dst_put_l(at.y, old_l(at.y) + src_l(at.x));
}
