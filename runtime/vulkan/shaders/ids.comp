#version 450
/* vulkan/shaders/ids.comp - the first of n ids that is not in 0..v-1: one workgroup, whose invocations look at every 256th id.
** words: 0 nothing was found, else 1, position, low and high word of the id. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint IDS = I64;
NN_LOADER(0, ids, IDS)
layout(set = 0, binding = 1, std430) writeonly buffer Words { uint words[]; };
INFO { uint n, ids, words, pad; uint64_t v; } info;
shared uint first[256];

void main() {
  const uint me = gl_LocalInvocationID.x, none = 0xffffffffu;
  uint mine = none;
  for (uint i = me; i < info.n && mine == none; i += 256)
    if (uint64_t(ids_l(info.ids + i)) >= info.v) mine = i;
  first[me] = mine;
  for (uint half_ = 128; half_ > 0; half_ /= 2) {
    barrier();
    if (me < half_) first[me] = min(first[me], first[me + half_]);
  }
  if (me == 0 && first[0] != none) {
    const uint64_t id = uint64_t(ids_l(info.ids + first[0]));
    words[info.words] = 1;
    words[info.words + 1] = first[0];
    words[info.words + 2] = uint(id);
    words[info.words + 3] = uint(id >> 32);
  }
}
