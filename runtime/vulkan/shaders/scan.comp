#version 450
/* vulkan/shaders/scan.comp - running sums, products, extremes, logsumexps and first-order recurrences along n of (a, n, b).
**
** A lane (a, b) is cut into chunks of `step` elements. PHASE 0 makes the total of every chunk, 1 turns totals into what comes before each chunk (an invocation per
** lane), 2 runs through the chunks and stores; a lane of one chunk has phase 2 alone. Sums, products and recurrences of floats are pairs of floats (the CPU's are
** doubles); a logsumexp is the largest element and the sum of exp of the others' distances to it.
*/
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dtype.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint SRC = F32; /* or I64 */
layout(constant_id = 1) const uint OP = 0;
NN_LOADER(0, src, SRC)
NN_LOADER(1, factor, SRC)
NN_STORER(2, dst, SRC)
NN_BUFFER(3, writeonly, where)
layout(set = 0, binding = 4, std430) buffer Parts { uvec4 part[]; };
INFO {
  uint lanes, n, b, step, chunks;
  uint phase, reverse, exclusive;
  uint from, factors, to, positions, parts, pad;
  uvec2 div_b, div_lanes;
} info;
const uint SUM = 0, PROD = 1, MAX = 2, MIN = 3, LSE = 4, LINEAR = 5, NONE = 0xffffffffu;
const bool FLOATS = SRC == F32, BEST = OP == MAX || OP == MIN;

/* what a stretch of elements comes to. f: SUM, PROD: xy the pair; LSE: x the largest, yz the sum; LINEAR: y -> xy y + zw; BEST: x. at: of the best; NONE: no element */
struct Acc { vec4 f; int64_t l; uint at; };

bool finite(const in float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u; }
/* pairs; infinities and NaN have no lower part */
vec2 plus(const in vec2 a, const in vec2 b) {
  precise float s = a.x + b.x;
  vec2 v = nn_two_sum(a.x, b.x);
  precise float low = v.y + (a.y + b.y);
  v = nn_two_sum(v.x, low);
  return finite(v.x) ? v : vec2(s, 0.0);
}
vec2 times(const in vec2 a, const in vec2 b) {
  precise float p = a.x * b.x;
  const vec2 v = nn_pair_mul(a, b);
  return finite(v.x) ? v : vec2(p, 0.0);
}
/* is x behind `old` the new best? NaN is the best of all, of equals the last */
bool better(const in Acc old, const in Acc x) {
  if (old.at == NONE || x.at == NONE) return x.at != NONE;
  if (!FLOATS) return OP == MAX ? x.l >= old.l : x.l <= old.l;
  if (nn_isnan(x.f.x) || nn_isnan(old.f.x)) return nn_isnan(x.f.x);
  return OP == MAX ? x.f.x >= old.f.x : x.f.x <= old.f.x;
}
float far(const in float x, const in float most) { return x == most ? 1.0 : x == -NN_INF ? 0.0 : nn_exp(x - most); }

Acc nothing() {
  return Acc(OP == PROD || OP == LINEAR ? vec4(1.0, 0.0, 0.0, 0.0) : OP == LSE ? vec4(-NN_INF, 0.0, 0.0, 0.0) : vec4(0.0), OP == PROD ? 1 : 0, NONE);
}
/* a, then b */
Acc both(const in Acc a, const in Acc b) {
  Acc r = a;
  if (BEST) {
    if (better(a, b)) r = b;
  } else if (!FLOATS) r.l = OP == SUM ? a.l + b.l : a.l * b.l;
  else if (OP == SUM) r.f.xy = plus(a.f.xy, b.f.xy);
  else if (OP == PROD) r.f.xy = times(a.f.xy, b.f.xy);
  else if (OP == LINEAR) r.f = vec4(times(a.f.xy, b.f.xy), plus(times(b.f.xy, a.f.zw), b.f.zw));
  else if (nn_isnan(b.f.x) && !nn_isnan(a.f.x)) r.f = b.f;
  else if (!nn_isnan(a.f.x)) {
    const float most = max(a.f.x, b.f.x);
    r.f = vec4(most, plus(times(a.f.yz, vec2(far(a.f.x, most), 0.0)), times(b.f.yz, vec2(far(b.f.x, most), 0.0))), 0.0);
  }
  return r;
}
/* element e, number p of its lane */
Acc element(const in uint e, const in uint p) {
  Acc r = Acc(vec4(0.0), 0, p);
  if (!FLOATS) r.l = src_l(info.from + e);
  else if (OP == LINEAR) r.f = vec4(factor_f(info.factors + e), 0.0, src_f(info.from + e), 0.0);
  else r.f = vec4(src_f(info.from + e), OP == LSE ? 1.0 : 0.0, 0.0, 0.0);
  return r;
}

uvec4 packed(const in Acc a) {
  return !FLOATS ? uvec4(uint(a.l), uint(a.l >> 32), a.at, 0) : BEST ? uvec4(floatBitsToUint(a.f.x), 0, a.at, 0) : floatBitsToUint(a.f);
}
Acc unpacked(const in uvec4 p) {
  return Acc(BEST ? vec4(uintBitsToFloat(p.x), 0.0, 0.0, 0.0) : uintBitsToFloat(p), int64_t(uint64_t(p.y) << 32 | uint64_t(p.x)), p.z);
}

void put(const in uint e, const in Acc a) {
  if (BEST) where_raw8[info.positions + e] = uint64_t(a.at);
  if (!FLOATS) dst_put_l(info.to + e, a.l);
  else if (OP == LSE) dst_put_f(info.to + e, finite(a.f.x) ? a.f.x + nn_log(a.f.y) : a.f.x);
  else dst_put_f(info.to + e, OP == LINEAR ? a.f.z : a.f.x);
}

void main() {
  const uint i = NN_INVOCATION;
  if (info.phase == 1) {
    Acc before = nothing();
    if (i < info.lanes)
      for (uint c = 0; c < info.chunks; c++) {
        const uint at = info.parts + c * info.lanes + i;
        const Acc chunk = unpacked(part[at]);
        part[at] = packed(before);
        before = both(before, chunk);
      }
    return;
  }
  if (i >= info.lanes * info.chunks) return;
  const uint chunk = fastdiv(i, info.div_lanes), lane = i - chunk * info.lanes, a = fastdiv(lane, info.div_b);
  const uint base = a * info.n * info.b + (lane - a * info.b), first = chunk * info.step, last = min(info.n, first + info.step);
  Acc sum = nothing();
  if (info.phase == 2 && info.chunks > 1) sum = unpacked(part[info.parts + i]);
  for (uint s = first; s < last; s++) {
    const uint p = info.reverse != 0 ? info.n - 1 - s : s, e = base + p * info.b;
    const Acc next = both(sum, element(e, p));
    if (info.phase == 2) put(e, info.exclusive != 0 && !BEST ? sum : next);
    sum = next;
  }
  if (info.phase == 0) part[info.parts + i] = packed(sum);
}
