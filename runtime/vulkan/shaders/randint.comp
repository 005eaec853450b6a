#version 450
/* vulkan/shaders/randint.comp - draws in low..low+count-1, one per invocation, as nni_random_below of base/philox.c. Parameters: seed, stream, low, count. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
NN_BUFFER(0, writeonly, dst)
PARAMS(4);
INFO { uint n, to; } info;

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uvec4 w = nn_philox(param[0].u, uint64_t(i >> 1), param[1].u);
  const uint64_t x0 = (i & 1u) != 0 ? w.z : w.x, x1 = (i & 1u) != 0 ? w.w : w.y;
  const uint64_t n0 = uint64_t(uint(param[3].u)), n1 = param[3].u >> 32;
  const uint64_t low = x0 * n0, a = x0 * n1, b = x1 * n0, low32 = 0xffffffffUL;
  const uint64_t middle = (low >> 32) + (a & low32) + (b & low32);
  dst_raw8[info.to + i] = param[2].u + x1 * n1 + (a >> 32) + (b >> 32) + (middle >> 32); /* the top half of x times count */
}
