#version 450
/* vulkan/shaders/matmul_join.comp - out[i] = the sum of part[p * n + i] over the parts p in order, rounded to DST. An invocation makes one element. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(set = 0, binding = 0, std430) readonly buffer Parts { float part[]; };
layout(constant_id = 0) const uint DST = F32;
NN_STORER(1, c, DST)
INFO { uint from, to, n, parts; } info;

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  float sum = part[info.from + i];
  for (uint p = 1; p < info.parts; p++) sum += part[info.from + p * info.n + i];
  c_put_f(info.to + i, sum);
}
