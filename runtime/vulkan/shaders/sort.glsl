/* vulkan/shaders/sort.glsl - what sort_tile and sort_merge share: operands, and what becomes of an element whose place is known. SRC and FINAL are the shader's. */
#ifndef NN_SORT_GLSL
#define NN_SORT_GLSL
const uint KEYS = 7;           /* SRC: uint32 keys, taken as they are */
const bool WIDE = SRC == I64;  /* keys have 64 bits, else 32 */
NN_LOADER(0, src, SRC)
NN_BUFFER(1, writeonly, to_keys)
NN_BUFFER(2, writeonly, to_at)
NN_BUFFER(3, writeonly, values)
NN_BUFFER(4, writeonly, positions)
INFO {
  uint n, count;                /* elements of a row; of all rows */
  uint items;                   /* tile: workgroups, merge: elements */
  uint per_group, tiles;        /* tile: whole rows of a workgroup, or 0 and how many workgroups share a row */
  uint width;                   /* merge: elements of a sorted run */
  uint down;
  uint from, keys, at, to_keys, to_at, values, positions;
  uvec2 div_n;
} info;

/* The element with this key, which came from `at` in the row that begins at element `row`, gets place `to` among all elements. */
void nn_place(const in uint to, const in uint64_t key, const in uint row, const in uint at) {
  if (FINAL) {
    const uint e = info.from + row + at, o = info.values + to;
    if (SRC == I64) values_raw8[o] = src_raw8[e];
    else if (SRC == F32 || SRC == I32) values_raw4[o] = src_raw4[e];
    else values_raw1[o] = src_raw1[e];
    positions_raw8[info.positions + to] = uint64_t(at);
  } else {
    if (WIDE) to_keys_raw8[info.to_keys + to] = key;
    else to_keys_raw4[info.to_keys + to] = uint(key);
    to_at_raw4[info.to_at + to] = at;
  }
}
#endif
