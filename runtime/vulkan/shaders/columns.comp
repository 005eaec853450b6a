#version 450
/* vulkan/shaders/columns.comp - two sums down the columns of (R, C): mean and variance of x, or the sums of a and of a * (x - mean).
**
** A workgroup of CX columns by 256 / CX rows makes one block of rows for CX columns; each invocation walks its share of the block, then a tree joins the rows.
** Several blocks give partial results (blocks, 2, C), which the shader joins when it runs on them (PARTS). Means and squared differences are kept up to date by
** Welford's rule (1962) and joined by Chan, Golub and LeVeque's (1979), so that a variance far from the mean loses nothing.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const bool DOTS = false;
layout(constant_id = 1) const bool PARTS = false;
layout(constant_id = 2) const uint CX = 1;
layout(set = 0, binding = 0, std430) readonly buffer X { float x[]; };       /* or partial results */
layout(set = 0, binding = 1, std430) readonly buffer A { float a[]; };
layout(set = 0, binding = 2, std430) readonly buffer Mean { float mean[]; };
layout(set = 0, binding = 3, std430) writeonly buffer First { float first_out[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Second { float second_out[]; };
INFO {
  uint x_from, a_from, mean_from, first_to, second_to;
  uint R, C;              /* of the matrix */
  uint step, blocks;      /* rows per block */
  uint strips;
  uint rows;              /* to walk: of the matrix, or partial results */
  uint out_step;          /* elements from one block's results to the next's */
  uint final;             /* the last: variances are divided */
} info;

shared float p0[256];
shared float p1[256];
shared float ns[256];

/* (n, m, s) of both: how many, mean, sum of squared differences */
vec3 both(const in vec3 u, const in vec3 v) {
  if (v.x == 0.0) return u;
  if (u.x == 0.0) return v;
  const float n = u.x + v.x, d = v.y - u.y;
  return vec3(n, u.y + d * (v.x / n), u.z + v.z + d * d * (u.x * (v.x / n)));
}

void main() {
  const uint t = gl_LocalInvocationID.x, cx = t % CX, ry = t / CX, ROWS = 256 / CX;
  const uint block = NN_GROUP / info.strips, c = NN_GROUP % info.strips * CX + cx;
  if (block >= info.blocks) return;
  const uint per = (info.rows + info.blocks - 1) / info.blocks, end = min(info.rows, (block + 1) * per);
  vec3 v = vec3(0.0); /* n, first, second */
  if (c < info.C)
    for (uint r = block * per + ry; r < end; r += ROWS) {
      if (PARTS) {
        const uint e = info.x_from + 2 * r * info.C + c;
        const vec3 u = vec3(float(min(info.step, info.R - r * info.step)), x[e], x[e + info.C]);
        v = DOTS ? v + u : both(v, u);
      } else {
        const float y = x[info.x_from + r * info.C + c];
        if (DOTS) {
          const float g = a[info.a_from + r * info.C + c];
          v += vec3(1.0, g, g * (y - mean[info.mean_from + c]));
        } else {
          const float d = y - v.y;
          v.x += 1.0;
          v.y += d / v.x;
          v.z += d * (y - v.y);
        }
      }
    }
  ns[t] = v.x;
  p0[t] = v.y;
  p1[t] = v.z;
  barrier();
  for (uint half_rows = ROWS / 2; half_rows > 0; half_rows /= 2) {
    if (ry < half_rows) {
      const uint o = t + half_rows * CX;
      const vec3 u = vec3(ns[t], p0[t], p1[t]), w = vec3(ns[o], p0[o], p1[o]), sum = DOTS ? u + w : both(u, w);
      ns[t] = sum.x;
      p0[t] = sum.y;
      p1[t] = sum.z;
    }
    barrier();
  }
  if (ry != 0 || c >= info.C) return;
  first_out[info.first_to + block * info.out_step + c] = p0[t];
  second_out[info.second_to + block * info.out_step + c] = DOTS || info.final == 0 ? p1[t] : p1[t] / float(info.R);
}
