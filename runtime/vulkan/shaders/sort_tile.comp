#version 450
/* vulkan/shaders/sort_tile.comp - sorts pieces of at most 256 elements: whole rows, several to a workgroup, or the tiles of a long row. An invocation counts how many
** elements of the piece come before its own. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SRC = F32;
layout(constant_id = 1) const bool FINAL = false;
#include "sort.glsl"
shared uint64_t key[256];

/* orders as elements do: NaN above all, -0 equal to 0 */
uint64_t key_of(const in uint e) {
  uint64_t u;
  if (SRC == KEYS) return uint64_t(src_raw4[e]);
  if (SRC == I64) u = src_raw8[e] ^ 0x8000000000000000UL;
  else if (SRC == F32) {
    const uint b = src_raw4[e];
    u = uint64_t((b & 0x7fffffffu) > 0x7f800000u ? 0xffffffffu : b == 0x80000000u ? b : (b & 0x80000000u) != 0u ? ~b : b | 0x80000000u);
  } else if (SRC == I32) u = uint64_t(src_raw4[e] ^ 0x80000000u);
  else u = uint64_t(src_raw1[e]);
  return info.down == 0 ? u : WIDE ? ~u : u ^ 0xffffffffUL;
}

void main() {
  const uint t = gl_LocalInvocationID.x, group = NN_GROUP;
  if (group >= info.items) return;
  uint row, at, piece, size; /* element 0 of the row, position in it; the piece: where it begins among the invocations, elements */
  if (info.per_group > 0) {
    const uint r = fastdiv(t, info.div_n);
    piece = r * info.n, size = info.n, at = t - piece;
    row = (group * info.per_group + r) * info.n;
    if (r >= info.per_group || row >= info.count) size = 0;
  } else {
    const uint tile = group % info.tiles;
    row = group / info.tiles * info.n, at = tile * 256 + t, piece = 0, size = min(256, info.n - tile * 256);
    if (t >= size) size = 0;
  }
  if (size > 0) key[t] = key_of(info.from + row + at);
  barrier();
  if (size == 0) return;
  const uint64_t mine = key[t];
  uint before = 0;
  for (uint i = piece; i < piece + size; i++) before += key[i] < mine || (key[i] == mine && i < t) ? 1 : 0;
  nn_place(row + at - (t - piece) + before, mine, row, at);
}
