#version 450
/* vulkan/shaders/searchsorted.comp - how many elements of a sorted row of n are below a value (right: not above it): a binary search per invocation. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SRC = F32;
NN_LOADER(0, table, SRC)
NN_LOADER(1, src, SRC)
NN_BUFFER(2, writeonly, dst)
INFO {
  uint count, n, m;            /* values; elements of a row of the table; values of a row */
  uint many, right;            /* a row of the table for each row of values? */
  uint table, from, to;
} info;

/* does a value x come behind element e? NaN comes behind everything */
bool behind_f(const in float e, const in float x) { return nn_isnan(e) || nn_isnan(x) || (info.right != 0 ? e <= x : e < x); }

void main() {
  const uint i = NN_INVOCATION;
  if (i >= info.count) return;
  const uint row = info.table + (info.many != 0 ? i / info.m * info.n : 0);
  uint lo = 0, hi = info.n;
  while (lo < hi) {
    const uint middle = lo + (hi - lo) / 2;
    bool behind;
    if (SRC == F32) behind = behind_f(table_f(row + middle), src_f(info.from + i));
    else behind = info.right != 0 ? table_l(row + middle) <= src_l(info.from + i) : table_l(row + middle) < src_l(info.from + i);
    if (behind) lo = middle + 1;
    else hi = middle;
  }
  dst_raw8[info.to + i] = uint64_t(lo);
}
