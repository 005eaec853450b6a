#version 450
/* vulkan/shaders/pool.comp - max pooling: an invocation makes one element.
**
** FORWARD  of the output: the largest of its window (NaN wins, the first of equals) and the number of its tap
** DX       of the input: the sum of dy over the windows whose tap it was, in the order of the windows
** TAKE     of the output: the element of x that the tap names, 0 in the padding
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint MODE = 0;
const uint FORWARD = 0, DX = 1, TAKE = 2;
layout(set = 0, binding = 0, std430) readonly buffer In { float x[]; };  /* DX: dy */
layout(set = 0, binding = 1, std430) readonly buffer Taps { uint8_t taps[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Out { float result[]; };
layout(set = 0, binding = 3, std430) writeonly buffer TapsOut { uint8_t taps_out[]; };
INFO {
  uint n, from, taps_from, to, taps_to;
  uint H, W, C, OH, OW, KH, KW;
  int stride_h, stride_w, pad_top, pad_left;
  uvec2 by_C, by_w, by_h, by_stride_h, by_stride_w; /* divisors; w and h: of the result */
} info;

uint windows_before(const in int x, const in uvec2 by_stride) { return x > 0 ? fastdiv(uint(x), by_stride) : 0; }

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  const uint w = MODE == DX ? info.W : info.OW, h = MODE == DX ? info.H : info.OH;
  const uint p = fastdiv(i, info.by_C), q = fastdiv(p, info.by_w), image = fastdiv(q, info.by_h), c = i - p * info.C;
  const int col = int(p - q * w), row = int(q - image * h);
  if (MODE == DX) {
    /* windows oh with oh * stride - pad + kh == row for a kh in 0..KH-1 */
    const int y = row + info.pad_top, z = col + info.pad_left;
    const int h0 = int(windows_before(y - int(info.KH) + info.stride_h, info.by_stride_h)), h1 = min(int(info.OH) - 1, int(windows_before(y, info.by_stride_h)));
    const int w0 = int(windows_before(z - int(info.KW) + info.stride_w, info.by_stride_w)), w1 = min(int(info.OW) - 1, int(windows_before(z, info.by_stride_w)));
    float sum = 0.0;
    for (int oh = h0; oh <= h1; oh++)
      for (int ow = w0; ow <= w1; ow++) {
        const int kh = y - oh * info.stride_h, kw = z - ow * info.stride_w;
        if (kh < 0 || kw < 0 || kh >= int(info.KH) || kw >= int(info.KW)) continue;
        const uint e = ((image * info.OH + uint(oh)) * info.OW + uint(ow)) * info.C + c;
        if (uint(taps[info.taps_from + e]) == uint(kh) * info.KW + uint(kw)) sum += x[info.from + e];
      }
    result[info.to + i] = sum;
    return;
  }
  const int top = row * info.stride_h - info.pad_top, left = col * info.stride_w - info.pad_left;
  if (MODE == TAKE) {
    const uint tap = uint(taps[info.taps_from + i]);
    const int y = top + int(tap / info.KW), z = left + int(tap % info.KW);
    const bool inside = y >= 0 && z >= 0 && y < int(info.H) && z < int(info.W);
    result[info.to + i] = inside ? x[info.from + ((image * info.H + uint(y)) * info.W + uint(z)) * info.C + c] : 0.0;
    return;
  }
  float best = -NN_INF;
  uint tap = 0xffffffffu;
  for (int kh = 0; kh < int(info.KH); kh++)
    for (int kw = 0; kw < int(info.KW); kw++) {
      const int y = top + kh, z = left + kw;
      if (y < 0 || z < 0 || y >= int(info.H) || z >= int(info.W)) continue;
      const float v = x[info.from + ((image * info.H + uint(y)) * info.W + uint(z)) * info.C + c];
      if (tap == 0xffffffffu || (nn_isnan(v) ? !nn_isnan(best) : v > best)) best = v, tap = uint(kh) * info.KW + uint(kw);
    }
  result[info.to + i] = best;
  taps_out[info.taps_to + i] = uint8_t(tap == 0xffffffffu ? 0u : tap);
}
