#version 450
/* vulkan/shaders/index_fault.comp - the position that was noted as bad, for the message: words 1: its number, 2 and 3: low and high half. One invocation. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 1) in;
layout(constant_id = 0) const uint IDS = I64;
NN_LOADER(0, ids, IDS)
NN_WORDS(1);

void main() {
  const uint number = ~words[info.words], r = fastdiv(number, info.div_nb);
  if (number == 0xffffffffu) return;
  const uint64_t id = uint64_t(ids_l(nn_id_at(r, number - r * info.nb)));
  words[info.words + 1] = number;
  words[info.words + 2] = uint(id);
  words[info.words + 3] = uint(id >> 32);
}
