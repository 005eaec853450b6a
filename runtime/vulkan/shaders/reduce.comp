#version 450
/* vulkan/shaders/reduce.comp - sums, products, extremes and their positions: x (outer, n, inner) -> (outer, blocks, inner).
**
** A workgroup of CX columns (of inner) by 256 / CX rows makes one block of n for CX columns: every row of invocations walks its share of the block, then a tree joins
** the rows. Sizes alone decide who adds what. With more than one block the results are partial and the shader runs again on them. Integers are
** reduced in 64 bits. POSITION: the value decides, the number of the element is the result; partial results are the values with their numbers.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 256) in;
layout(constant_id = 0) const uint SRC = F32;
layout(constant_id = 1) const uint DST = F32;
layout(constant_id = 2) const uint OP = 0;            /* nni_redid */
layout(constant_id = 3) const uint CX = 1;
layout(constant_id = 4) const bool NUMBERED = false;  /* the elements bring their numbers (second run) */
layout(constant_id = 5) const bool LAST = true;       /* the result is final: positions alone are stored */
NN_LOADER(0, src, SRC)
layout(set = 0, binding = 1, std430) readonly buffer Numbers { uint number[]; };
NN_STORER(2, dst, DST)
layout(set = 0, binding = 3, std430) writeonly buffer NumbersOut { uint number_out[]; };
INFO {
  uint from, to, numbers, numbers_to;
  uint outer, n, inner;
  uint step, blocks, strips;
  int64_t none_l;            /* the identity */
  float none_f;
  uint items;                /* workgroups: strip + strips * (block + blocks * outer) */
} info;
const uint SUM = 0, PROD = 1, MAX = 2, MIN = 3, ARGMAX = 4, ARGMIN = 5;
const bool POSITION = OP >= ARGMAX;
const bool FLOATS = NN_CLASS(SRC) == NN_F;

shared float fs[256];
shared int64_t ls[256];
shared uint is[256];

float join_f(const in float a, const in float b) { return OP == SUM ? a + b : OP == PROD ? a * b : OP == MAX ? nn_max(a, b) : nn_min(a, b); }
int64_t join_l(const in int64_t a, const in int64_t b) { return OP == SUM ? a + b : OP == PROD ? a * b : OP == MAX ? max(a, b) : min(a, b); }
/* is b at position j to be taken instead of a at i? NaN is the first of all, of equals the one that comes first */
bool takes_f(const in float a, const in uint i, const in float b, const in uint j) {
  const bool na = nn_isnan(a), nb = nn_isnan(b);
  if (na || nb) return nb && (!na || j < i);
  return (OP == ARGMAX ? b > a : b < a) || (b == a && j < i);
}
bool takes_l(const in int64_t a, const in uint i, const in int64_t b, const in uint j) { return (OP == ARGMAX ? b > a : b < a) || (b == a && j < i); }

void main() {
  const uint t = gl_LocalInvocationID.x, cx = t % CX, ry = t / CX, ROWS = 256 / CX;
  uint item = NN_GROUP;
  if (item >= info.items) return;
  const uint strip = item % info.strips;
  item /= info.strips;
  const uint block = item % info.blocks, o = item / info.blocks, c = strip * CX + cx;
  const uint end = min(info.n, (block + 1) * info.step), base = info.from + o * info.n * info.inner + c;
  float f = info.none_f;
  int64_t l = info.none_l;
  uint at = 0xffffffffu;
  if (c < info.inner)
    for (uint r = block * info.step + ry; r < end; r += ROWS) {
      const uint e = base + r * info.inner;
      const uint num = !POSITION ? 0 : NUMBERED ? number[info.numbers + e - info.from] : r;
      if (FLOATS) {
        const float x = src_f(e);
        if (!POSITION) f = join_f(f, x);
        else if (at == 0xffffffffu || takes_f(f, at, x, num)) f = x, at = num;
      } else {
        const int64_t x = src_l(e);
        if (!POSITION) l = join_l(l, x);
        else if (at == 0xffffffffu || takes_l(l, at, x, num)) l = x, at = num;
      }
    }
  if (FLOATS) fs[t] = f;
  else ls[t] = l;
  if (POSITION) is[t] = at;
  barrier();
  for (uint half_rows = ROWS / 2; half_rows > 0; half_rows /= 2) {
    if (ry < half_rows) {
      const uint u = t + half_rows * CX;
      if (POSITION) {
        const uint i = is[t], j = is[u];
        if (j != 0xffffffffu && (i == 0xffffffffu || (FLOATS ? takes_f(fs[t], i, fs[u], j) : takes_l(ls[t], i, ls[u], j)))) {
          is[t] = j;
          if (FLOATS) fs[t] = fs[u];
          else ls[t] = ls[u];
        }
      } else if (FLOATS) fs[t] = join_f(fs[t], fs[u]);
      else ls[t] = join_l(ls[t], ls[u]);
    }
    barrier();
  }
  if (ry != 0 || c >= info.inner) return;
  const uint e = (o * info.blocks + block) * info.inner + c;
  if (POSITION && LAST) dst_put_l(info.to + e, int64_t(is[t] == 0xffffffffu ? 0 : is[t]));
  else if (FLOATS) dst_put_f(info.to + e, fs[t]);
  else dst_put_l(info.to + e, ls[t]);
  if (POSITION && !LAST) number_out[info.numbers_to + e] = is[t];
}
