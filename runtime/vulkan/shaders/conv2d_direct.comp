#version 450
/* vulkan/shaders/conv2d_direct.comp - convolutions with few channels per group (depthwise ones, above all), element by element.
**
** FORWARD, DX  an invocation makes one element of the output or of the input's gradient.
** DW           a workgroup makes one element of the kernel's gradient: every invocation sums its share of the output pixels, a tree of fixed shape joins them.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "conv.glsl"
layout(local_size_x = 256) in;
shared float part[256];

void by_pixel(const in uint i) {
  const uint channels = MODE == DX ? info.C : info.K, per = MODE == DX ? info.CG : info.KG, inner = MODE == DX ? info.KG : info.CG;
  const uint p = i / channels, ch = i % channels, group = ch / per;
  const ivec3 pixel = nn_pixel(p);
  float sum = 0.0;
  for (uint kh = 0; kh < info.KH; kh++)
    for (uint kw = 0; kw < info.KW; kw++)
      for (uint j = 0; j < inner; j++) {
        const uint c = MODE == DX ? ch - group * info.CG : j, k = MODE == DX ? group * info.KG + j : ch; /* of the weight */
        const float w = in1_f(info.from1 + ((kh * info.KW + kw) * info.CG + c) * info.K + k);
        sum = fma(nn_meet(pixel, ivec2(kh, kw), group * inner + j), w, sum);
      }
  result_put_f(info.to + i, sum);
}

void main() {
  if (MODE != DW) {
    const uint i = NN_INVOCATION;
    if (i < info.items) by_pixel(i);
    return;
  }
  if (NN_GROUP >= info.items) return;
  const uint i = NN_GROUP, t = gl_LocalInvocationID.x, k = i % info.K, group = k / info.KG;
  const ivec3 tap = nn_tap(i / info.K, info.by_CG, info.CG);
  float sum = 0.0;
  for (uint p = t; p < info.INNER; p += 256) sum = fma(nn_meet(nn_pixel(p), tap.xy, group * info.CG + uint(tap.z)), in1_f(info.from1 + p * info.K + k), sum);
  part[t] = sum;
  barrier();
  for (uint h = 128; h > 0; h /= 2) {
    if (t < h) part[t] += part[t + h];
    barrier();
  }
  if (t == 0) result_put_f(info.to + i, part[0]);
}
