#version 450
/* vulkan/shaders/nonzero.comp - positions of true elements in row-major order. A workgroup has a share of the elements: the first dispatch counts the true ones of
** every share, the second (WRITE) adds up the counts of the shares before its own and stores. words: 0 when the whole count is the one that was said, else 1, the count. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const bool WRITE = false;
NN_BUFFER(0, readonly, src)
layout(set = 0, binding = 1, std430) buffer Counts { uint counts[]; };
NN_BUFFER(2, writeonly, dst)
layout(set = 0, binding = 3, std430) writeonly buffer Words { uint words[]; };
INFO {
  uint n, share, groups, dims; /* share: a multiple of STRIP */
  uint from, counts, to, words;
  uint want, pad;
  uint shape[8];
} info;
const uint EACH = 16, STRIP = 256 * EACH;
shared uint sums[256];

/* sum of x of the invocations up to this one */
uint running(const in uint x) {
  const uint t = gl_LocalInvocationID.x;
  uint sum = x;
  sums[t] = x;
  barrier();
  for (uint step = 1; step < 256; step *= 2) {
    const uint before = t >= step ? sums[t - step] : 0;
    barrier();
    sum += before;
    sums[t] = sum;
    barrier();
  }
  return sum;
}

void put(const in uint number, const in uint element) {
  uint left = element;
  for (uint k = info.dims; k > 0; k--) {
    const uint q = left / info.shape[k - 1];
    dst_raw8[info.to + number * info.dims + k - 1] = uint64_t(left - q * info.shape[k - 1]);
    left = q;
  }
}

void main() {
  const uint t = gl_LocalInvocationID.x, group = NN_GROUP;
  if (group >= info.groups) return;
  const uint begin = group * info.share, size = min(info.n - begin, info.share);
  uint base = 0;
  if (WRITE) {
    uint mine = 0;
    for (uint g = t; g < group; g += 256) mine += counts[info.counts + g];
    running(mine);
    base = sums[255];
    barrier();
  }
  for (uint s = 0; s < size; s += STRIP) {
    const uint first = begin + min(s + t * EACH, size), last = begin + min(s + t * EACH + EACH, size);
    uint count = 0;
    for (uint i = first; i < last; i++) count += uint(src_raw1[info.from + i]) != 0u ? 1 : 0;
    uint number = base + running(count) - count;
    base += sums[255];
    barrier();
    if (WRITE)
      for (uint i = first; i < last; i++)
        if (uint(src_raw1[info.from + i]) != 0u) {
          if (number < info.want) put(number, i);
          number++;
        }
  }
  if (t != 0) return;
  if (!WRITE) counts[info.counts + group] = base;
  else if (group == info.groups - 1 && base != info.want) {
    words[info.words] = 1;
    words[info.words + 1] = base;
  }
}
