/* vulkan/shaders/lanes.glsl - the tile of a product for devices that are a CPU: they run a subgroup as one vector, read buffers lane by lane, and switch
** threads at every barrier. So no shared memory: a subgroup makes a tile of 4 SG rows x NN_COLUMNS columns by itself, reads four elements per lane at a
** time, keeps 4 rows per lane in registers and hands the other operand around from lane to lane.
**
**   xs[]   the operand of the rows.     ROWS_ALONG_K: xs[i][j], else xs[j][i]: row i of the lane (nn_row) at inner index j of the step
**   ys[]   the operand of the columns.  One vec4 per slot of NN_SLOTS, slot s in lane s % SG of ys[s / SG]. COLUMNS_ALONG_K: slot c holds inner indices 0..3 of column c,
**          else slot 4 j + q columns 4 q .. 4 q + 3 at inner index j
**   sum[]  sum[c][i]: row i of the lane, column c. Products are added in the order of the inner index.
** STEP (1 or 4): inner indices per step; of 1, only index 0 is there. */
#ifndef NN_LANES_GLSL
#define NN_LANES_GLSL
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require

/* name_f4(from, at, size, step): elements at .. at + 3 of `size`, from + step * number of a buffer of NN_LOADER; behind the last one, the last. WHOLE: it is f32, step
** is 1, and from, at and size are multiples of 4. */
#define NN_LOADER4(B, name, WHOLE)                                                                                       \
  layout(set = 0, binding = B, std430) readonly buffer name##_block16 { vec4 name##_raw16[]; };                          \
  vec4 name##_f4(const in uint from, const in uint at, const in uint size, const in uint step_) {                        \
    if (WHOLE) return name##_raw16[(from + min(at, size - 4)) / 4];                                                      \
    const uint last = size - 1;                                                                                          \
    return vec4(name##_f(from + step_ * min(at, last)), name##_f(from + step_ * min(at + 1, last)),                      \
                name##_f(from + step_ * min(at + 2, last)), name##_f(from + step_ * min(at + 3, last)));                 \
  }

#define NN_COLUMNS 16
const uint NN_SLOTS = COLUMNS_ALONG_K ? NN_COLUMNS : NN_COLUMNS / 4 * STEP;
const uint NN_LOADS = (NN_SLOTS + SG - 1) / SG; /* of ys */
#define nn_lane gl_SubgroupInvocationID
vec4 sum[NN_COLUMNS];
vec4 xs[4], ys[NN_LOADS];

uint nn_row(const in uint i) { return ROWS_ALONG_K ? nn_lane + SG * i : 4 * nn_lane + i; }
uint nn_slot(const in uint load) { return min(nn_lane + SG * load, NN_SLOTS - 1); }

void nn_clear() {
  [[unroll]] for (uint c = 0; c < NN_COLUMNS; c++) sum[c] = vec4(0.0);
}
void nn_add() {
  [[unroll]] for (uint j = 0; j < STEP; j++) {
    const vec4 x = ROWS_ALONG_K ? vec4(xs[0][j], xs[1][j], xs[2][j], xs[3][j]) : xs[j];
    [[unroll]] for (uint c = 0; c < NN_COLUMNS; c++) {
      const uint slot = COLUMNS_ALONG_K ? c : 4 * j + c / 4;
      const float y = subgroupBroadcast(ys[slot / SG][COLUMNS_ALONG_K ? j : c % 4], slot % SG);
      sum[c] = fma(x, vec4(y), sum[c]);
    }
  }
}
#endif
