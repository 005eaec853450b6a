#version 450
/* vulkan/shaders/ravel.comp - the row-major numbers of tuples: dst[m] from ids (m, nb) and the sizes of the nb columns. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
#include "index.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint IDS = I64;
NN_LOADER(0, ids, IDS)
NN_STORER(1, dst, I64)
NN_WORDS(2);

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.n) return;
  int64_t at = 0;
  for (uint c = 0; c < info.nb; c++) {
    const int64_t id = ids_l(nn_id_at(i, c));
    if (uint64_t(id) >= info.size[c]) {
      NN_NOTE(i * info.nb + c);
      at = 0; /* an element there is, so that who looks it up finds no second fault */
      break;
    }
    at = at * int64_t(info.size[c]) + id;
  }
  dst_put_l(info.to + i, at);
}
