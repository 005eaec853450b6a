#version 450
/* vulkan/shaders/matmul_join.comp - out[i] = the sum of part[p * n + i] over the parts p in order. An invocation makes one element. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(local_size_x = 256) in;
layout(set = 0, binding = 0, std430) readonly buffer Parts { float part[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Out { float c[]; };
INFO { uint from, to, n, parts; } info;

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  float sum = part[info.from + i];
  for (uint p = 1; p < info.parts; p++) sum += part[info.from + p * info.n + i];
  c[info.to + i] = sum;
}
