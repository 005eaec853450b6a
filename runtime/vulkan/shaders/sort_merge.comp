#version 450
/* vulkan/shaders/sort_merge.comp - runs of `width` sorted elements become runs of twice as many: an element's place is its own in its run plus how many of the other run
** come before it, which a binary search tells. Equal elements of the first run come first. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SRC = F32;
layout(constant_id = 1) const bool FINAL = false;
#include "sort.glsl"
NN_BUFFER(5, readonly, keys)
layout(set = 0, binding = 6, std430) readonly buffer At { uint at[]; };

uint64_t key_at(const in uint i) { return WIDE ? keys_raw8[info.keys + i] : uint64_t(keys_raw4[info.keys + i]); }

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.items) return;
  const uint row = fastdiv(i, info.div_n) * info.n, c = i - row, run = c / info.width;
  const bool right = (run & 1u) != 0u;
  const uint start = run * info.width, pair = right ? start - info.width : start;
  const uint other = right ? pair : info.n - start > info.width ? start + info.width : info.n; /* where the other run begins; it may be empty */
  const uint64_t key = key_at(i);
  uint lo = 0, hi = min(info.width, info.n - other);
  while (lo < hi) {
    const uint middle = (lo + hi) / 2;
    const uint64_t k = key_at(row + other + middle);
    if (right ? k <= key : k < key) lo = middle + 1;
    else hi = middle;
  }
  nn_place(row + pair + (c - start) + lo, key, row, at[info.at + i]);
}
