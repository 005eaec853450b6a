/* vulkan/shaders/math.glsl - the functions of the tables' language on scalars, for structural kernels (#include) and row programs (emit.c copies
** them out of the module made of math_library.comp).
**
** GLSL's own exp, log, sin, pow ... may be off by many ulp; these have the bounds of cpu/isa/vm_math.h and are made of its polynomials. Nothing needs
** doubles: where the CPU uses them there are pairs of floats or whole numbers here. Every float is `precise`: no contraction, no reordering.
** Parameters are `const in`, which glslang passes by value. No switch, no global variables (emit.c does not copy them).
*/
#ifndef NN_MATH_GLSL
#define NN_MATH_GLSL
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require

#define NN_INF intBitsToFloat(0x7f800000)
#define NN_NAN intBitsToFloat(0x7fc00000)

/* ---- exact functions; NaN by its bits, whatever the driver assumes ----------------------------------------------------------- */
bool nn_isnan(const in float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }
float nn_abs(const in float x) { return uintBitsToFloat(floatBitsToUint(x) & 0x7fffffffu); }
float nn_neg(const in float x) { return uintBitsToFloat(floatBitsToUint(x) ^ 0x80000000u); }
float nn_copysign(const in float magnitude, const in float sign) {
  return uintBitsToFloat((floatBitsToUint(magnitude) & 0x7fffffffu) | (floatBitsToUint(sign) & 0x80000000u));
}
/* NaN if either is NaN */
float nn_min(const in float a, const in float b) { return nn_isnan(a) ? a : nn_isnan(b) ? b : b < a ? b : a; }
float nn_max(const in float a, const in float b) { return nn_isnan(a) ? a : nn_isnan(b) ? b : b > a ? b : a; }
/* x - x: what tells numbers from infinities and NaN */
float nn_zero_if_finite(const in float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u ? 0.0 : NN_NAN; }
float nn_times_zero(const in float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u ? nn_copysign(0.0, x) : NN_NAN; }
float nn_floor(const in float x) { return floor(x); }
float nn_ceil(const in float x) { return ceil(x); }
float nn_rint(const in float x) { return roundEven(x); }
float nn_trunc(const in float x) { return trunc(x); }
float nn_sqrt(const in float x) { return x < 0.0 ? NN_NAN : sqrt(x); }

/* ---- exp and log ------------------------------------------------------------------------------------------------------------- */
/* x * 2^n for whole n in [-252, 254] */
float nn_scale(const in float x, const in float n) {
  int k = int(n), h = k >> 1;
  precise float y = x * intBitsToFloat((h + 127) << 23) * intBitsToFloat((k - h + 127) << 23);
  return y;
}
/* e^x, relative error < 1.2e-7 */
float nn_exp(const in float v) {
  precise float x = v > 89.0 ? 89.0 : v, n, r, p;
  x = x < -104.0 ? -104.0 : x;
  n = (x * 1.44269504 + 12582912.0) - 12582912.0;
  r = x - n * 0.693359375;
  r = r + n * 2.12194440e-4;
  p = r * 1.9875691500e-4 + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = p * (r * r) + r + 1.0;
  return nn_isnan(v) ? v : nn_scale(p, n);
}
/* e^x - 1, relative error < 2.5e-7 */
float nn_expm1(const in float v) {
  precise float x = v > 89.0 ? 89.0 : v, n, r, p;
  x = x < -20.0 ? -20.0 : x;
  n = (x * 1.44269504 + 12582912.0) - 12582912.0;
  r = x - n * 0.693359375;
  r = r + n * 2.12194440e-4;
  p = r * 1.9875691500e-4 + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = p * (r * r) + r;
  p = p + (1.0 - nn_scale(1.0, -n));
  return nn_isnan(v) ? v : nn_scale(p, n);
}
/* ln x, relative error < 2e-7; denormals too, where the device has them */
float nn_log(const in float x) {
  bool tiny = x < 1.17549435e-38;
  precise float u = tiny ? x * 8388608.0 : x, e, r, z, p;
  int b = floatBitsToInt(u), k = (b - 0x3f3504f3) >> 23;
  r = intBitsToFloat(b - (k << 23)) - 1.0;
  e = float(k) - (tiny ? 23.0 : 0.0);
  z = r * r;
  p = r * 7.0376836292e-2 - 1.1514610310e-1;
  p = p * r + 1.1676998740e-1;
  p = p * r - 1.2420140846e-1;
  p = p * r + 1.4249322787e-1;
  p = p * r - 1.6668057665e-1;
  p = p * r + 2.0000714765e-1;
  p = p * r - 2.4999993993e-1;
  p = p * r + 3.3333331174e-1;
  p = p * r * z;
  p = p - e * 2.12194440e-4;
  p = p - z * 0.5;
  p = r + p + e * 0.693359375;
  p = x == 0.0 ? -NN_INF : p;
  return nn_isnan(x) || x < 0.0 ? NN_NAN : x == NN_INF ? x : p;
}
/* ln(1 + x), relative error < 4e-7 */
float nn_log1p(const in float x) {
  precise float u = x + 1.0, y = nn_log(u), lost = (x - (u - 1.0)) / u;
  return u > 0.0 && u < NN_INF ? y + lost : y;
}

/* ---- pairs of floats: the value is x.x + x.y --------------------------------------------------------------------------------- */
vec2 nn_two_sum(const in float a, const in float b) {
  precise float s = a + b, t = s - a, e = (a - (s - t)) + (b - t);
  return vec2(s, e);
}
vec2 nn_two_prod(const in float a, const in float b) {
  precise float p = a * b, t = a * 4097.0, u = b * 4097.0;
  precise float ah = t - (t - a), al = a - ah, bh = u - (u - b), bl = b - bh;
  precise float e = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
  return vec2(p, e);
}
vec2 nn_pair_mul(const in vec2 a, const in vec2 b) {
  vec2 p = nn_two_prod(a.x, b.x);
  precise float e = p.y + (a.x * b.y + a.y * b.x);
  return nn_two_sum(p.x, e);
}
/* log2 x of finite x > 0 as a pair, absolute error < 1e-9 */
vec2 nn_log2_pair(const in float x) {
  bool tiny = x < 1.17549435e-38;
  float u = tiny ? x * 8388608.0 : x;
  int b = floatBitsToInt(u), k = (b - 0x3f3504f3) >> 23;
  precise float m = intBitsToFloat(b - (k << 23)), f = m - 1.0, s, rest, z, p;
  vec2 d = nn_two_sum(m, 1.0), q, t;
  s = f / d.x;
  q = nn_two_prod(s, d.x);
  rest = ((f - q.x) - q.y - s * d.y) / d.x; /* s + rest = (m - 1) / (m + 1) */
  z = s * s;
  p = z * 0.0666666667 + 0.0769230769;
  p = p * z + 0.0909090909;
  p = p * z + 0.111111111;
  p = p * z + 0.142857143;
  p = p * z + 0.2;
  p = p * z + 0.333333333;
  p = p * z * s + rest;
  t = nn_pair_mul(nn_two_sum(s, p), vec2(2.885390043258667, 3.851926067e-8));
  q = nn_two_sum(float(k) - (tiny ? 23.0 : 0.0), t.x);
  precise float e = q.y + t.y;
  return nn_two_sum(q.x, e);
}
/* exact at powers of 2 and of 10 */
float nn_log2(const in float x) {
  if (nn_isnan(x) || x < 0.0) return NN_NAN;
  if (x == 0.0) return -NN_INF;
  if (x == NN_INF) return x;
  return nn_log2_pair(x).x;
}
float nn_log10(const in float x) {
  if (nn_isnan(x) || x < 0.0) return NN_NAN;
  if (x == 0.0) return -NN_INF;
  if (x == NN_INF) return x;
  return nn_pair_mul(nn_log2_pair(x), vec2(0.3010300099849701, -1.432098884e-8)).x;
}
/* x^y, relative error < 4e-7; special cases as C's pow */
float nn_pow(const in float x, const in float y) {
  if (y == 0.0 || x == 1.0) return 1.0;
  if (nn_isnan(x) || nn_isnan(y)) return NN_NAN;
  float a = nn_abs(x), r;
  bool large = nn_abs(y) == NN_INF, whole = large || trunc(y) == y, odd = !large && whole && trunc(y * 0.5) != y * 0.5;
  if (a == 1.0) r = 1.0;
  else if (a == 0.0 || a == NN_INF || large) r = (a > 1.0) == (y > 0.0) ? NN_INF : 0.0;
  else {
    precise float w = nn_abs(y) > 1e30 ? nn_copysign(1e30, y) : y, n, f, p, e;
    vec2 l = nn_log2_pair(a), t = nn_two_prod(w, l.x);
    e = t.y + w * l.y;
    if (nn_abs(t.x) > 300.0) {
      t.x = nn_copysign(300.0, t.x);
      e = 0.0;
    }
    n = roundEven(t.x);
    n = n < -252.0 ? -252.0 : n > 254.0 ? 254.0 : n;
    f = (t.x - n) + e;
    f = (f > 1.0 ? 1.0 : f < -1.0 ? -1.0 : f) * 0.693147181;
    p = f * 1.9875691500e-4 + 1.3981999507e-3;
    p = p * f + 8.3334519073e-3;
    p = p * f + 4.1665795894e-2;
    p = p * f + 1.6666665459e-1;
    p = p * f + 5.0000001201e-1;
    p = p * (f * f) + f + 1.0;
    r = nn_scale(p, n);
  }
  if (x < 0.0 && a != NN_INF && !whole) return NN_NAN;
  return floatBitsToInt(x) < 0 && odd ? -r : r;
}

/* ---- trigonometry ------------------------------------------------------------------------------------------------------------ */
/* |x| = q pi/2 + r with |r| <= pi/4, for finite |x| beyond 1e4: the product of x's 24 bits with those 96 bits of 2/pi that matter modulo 4 */
vec2 nn_reduce_far(const in float x) {
  const uint two_over_pi[8] = uint[8](0u, 0xA2F9836Eu, 0x4E441529u, 0xFC2757D1u, 0xF534DDC0u, 0xDB629599u, 0x3C439041u, 0xFE5163ABu);
  uint b = floatBitsToUint(x) & 0x7fffffffu, m = (b & 0x7fffffu) | 0x800000u;
  int at = int(b >> 23) - 150 - 2 + 32, i = at >> 5, s = at & 31; /* first bit of the window, counted with the leading word of zeros */
  uint w0 = two_over_pi[i], w1 = two_over_pi[i + 1], w2 = two_over_pi[i + 2], w3 = two_over_pi[i + 3];
  if (s != 0) {
    w0 = (w0 << s) | (w1 >> (32 - s));
    w1 = (w1 << s) | (w2 >> (32 - s));
    w2 = (w2 << s) | (w3 >> (32 - s));
  }
  uint64_t p = (uint64_t(m * w0) << 32) + uint64_t(m) * uint64_t(w1) + ((uint64_t(m) * uint64_t(w2)) >> 32); /* in units of 2^-62 */
  uint64_t q = (p + 0x2000000000000000ul) >> 62;
  precise float r = float(int64_t(p - (q << 62))) * 3.4061215800304e-19; /* pi / 2 * 2^-62 */
  return vec2(r, float(uint(q)));
}
/* sin (quarter 0) or cos (quarter 1): absolute error < 1.5e-7 */
float nn_sincos(const in float x, const in int quarter) {
  float a = nn_abs(x);
  if (!(a < NN_INF)) return NN_NAN;
  precise float n, r, z, s, c;
  int q = quarter;
  if (a <= 1e4) {
    n = (x * 0.636619772 + 12582912.0) - 12582912.0;
    q += int(n);
    r = x - n * 1.5703125;
    r = r - n * 4.837512969970703125e-4;
    r = r - n * 7.54978995489188216e-8;
  } else {
    vec2 f = nn_reduce_far(a);
    bool down = x < 0.0;
    r = down ? -f.x : f.x;
    q += down ? -int(f.y) : int(f.y);
  }
  z = r * r;
  s = z * -1.9515295891e-4 + 8.3321608736e-3;
  s = s * z - 1.6666654611e-1;
  s = s * z * r + r;
  c = z * 2.443315711809948e-5 - 1.388731625493765e-3;
  c = c * z + 4.166664568298827e-2;
  c = c * z * z - z * 0.5 + 1.0;
  float v = (q & 1) != 0 ? c : s;
  return (q & 2) != 0 ? nn_neg(v) : v;
}
float nn_sin(const in float x) { return nn_sincos(x, 0); }
float nn_cos(const in float x) { return nn_sincos(x, 1); }
/* the angle of the point (x, y), relative error < 3e-7 */
float nn_atan2(const in float y, const in float x) {
  if (nn_isnan(x) || nn_isnan(y)) return NN_NAN;
  float ay = nn_abs(y), ax = nn_abs(x);
  bool steep = ay > ax, both = ay == NN_INF && ax == NN_INF;
  precise float big = steep ? ay : ax, little = steep ? ax : ay, k, t, z, p;
  k = big > 1e30 ? 0.0625 : big < 1e-30 ? 16777216.0 : 1.0;
  big = both ? 1.0 : big * k;
  little = both ? 1.0 : little * k;
  bool large = little > big * 0.414213562;
  t = (large ? little - big : little) / (large ? little + big : big);
  t = big == 0.0 ? 0.0 : t;
  z = t * t;
  p = z * 0.07986974458 - 0.138521799;
  p = p * z + 0.1997448212;
  p = p * z - 0.3333279975;
  p = p * z * t + t;
  p = p + (large ? 0.785398163 : 0.0);
  p = steep ? 1.57079633 - p : p;
  p = floatBitsToInt(x) < 0 ? 3.14159265 - p : p;
  return nn_copysign(p, y);
}

/* ---- tanh, erf, erfc --------------------------------------------------------------------------------------------------------- */
/* relative error < 2.5e-7 */
float nn_tanh(const in float x) {
  precise float a = nn_abs(x), z = x * x, p, q;
  p = z * -5.70498872745e-3 + 2.06390887954e-2;
  p = p * z - 5.37397155531e-2;
  p = p * z + 1.33314422036e-1;
  p = p * z - 3.33332819422e-1;
  p = p * z * x + x;
  q = 1.0 - 2.0 / (nn_exp(a + a) + 1.0);
  return a < 0.625 ? p : nn_copysign(q, x);
}
/* relative error < 3e-7 */
float nn_erf(const in float x) {
  precise float a = nn_abs(x), z = x * x, t = a > 4.0 ? 4.0 : a, p, q;
  p = z * 7.853859279e-5 - 8.010193123e-4;
  p = p * z + 5.188327748e-3;
  p = p * z - 2.685381100e-2;
  p = p * z + 1.128358543e-1;
  p = p * z - 3.761262596e-1;
  p = p * z + 1.128379107;
  p = p * x;
  q = t * -1.915046014e-4 + 2.999545075e-3;
  q = q * t - 2.205201425e-2;
  q = q * t + 1.035669222e-1;
  q = q * t + 6.376000047e-1;
  q = q * t + 1.127426147;
  q = q * t + 2.564409806e-4;
  q = 1.0 - nn_exp(-q);
  return a < 1.0 ? p : nn_copysign(q, x);
}
/* 1 - erf(x), relative error < 1e-6 */
float nn_erfc(const in float x) {
  precise float a = nn_abs(x), hi, lo, t, p, e;
  a = a > 10.5 ? 10.5 : a;
  hi = intBitsToFloat(floatBitsToInt(a) & -4096);
  lo = (a - hi) * (a + hi);
  e = nn_exp(-(hi * hi)) * (1.0 - lo * (1.0 - lo * (0.5 - lo * (0.16666667 - lo * 0.041666668))));
  t = 1.0 / (a * 0.4 + 1.0);
  p = t * 0.04161289189 - 0.1420818227;
  p = p * t + 0.08765734764;
  p = p * t + 0.08373263025;
  p = p * t + 0.08270340962;
  p = p * t + 0.1921276797;
  p = p * t + 0.2022139537;
  p = p * t + 0.226397018;
  p = p * t + 0.2256369554;
  p = p * t * e;
  return nn_isnan(x) ? x : x < 0.0 ? 2.0 - p : p;
}

/* ---- remainders: exact, by long division of the mantissas, 8 bits at a time -------------------------------------------------- */
float nn_fmod(const in float a, const in float b) {
  uint x = floatBitsToUint(a) & 0x7fffffffu, y = floatBitsToUint(b) & 0x7fffffffu, sign = floatBitsToUint(a) & 0x80000000u;
  if (y == 0u || x >= 0x7f800000u || y > 0x7f800000u) return NN_NAN;
  if (x < y) return a;
  uint mx = (x & 0x7fffffu) | (x >> 23 != 0u ? 0x800000u : 0u), my = (y & 0x7fffffu) | (y >> 23 != 0u ? 0x800000u : 0u);
  int ey = max(int(y >> 23), 1), d = max(int(x >> 23), 1) - ey;
  uint r = mx % my;
  while (d > 0 && r != 0u) {
    int s = min(d, 8);
    r = (r << s) % my;
    d -= s;
  }
  if (r == 0u) return uintBitsToFloat(sign);
  int up = 23 - findMSB(r), e = ey - up;
  uint v = e >= 1 ? (uint(e) << 23) | ((r << up) & 0x7fffffu) : r << (ey - 1);
  return uintBitsToFloat(sign | v);
}
/* a - floor(a / b) b, with the sign of b */
float nn_mod(const in float a, const in float b) {
  precise float r = nn_fmod(a, b);
  if (r == 0.0) return nn_copysign(0.0, b);
  bool other = ((floatBitsToUint(r) ^ floatBitsToUint(b)) & 0x80000000u) != 0u && !nn_isnan(r);
  return other ? r + b : r;
}
/* floor of the exact a / b; a / 0 is infinite or NaN */
float nn_floordiv(const in float a, const in float b) {
  precise float r = nn_fmod(a, b), q = (a - r) / b, whole = a / b;
  bool other = ((floatBitsToUint(r) ^ floatBitsToUint(b)) & 0x80000000u) != 0u && r != 0.0;
  q = q - (other ? 1.0 : 0.0);
  return b == 0.0 ? whole : nn_isnan(r) ? r : nn_copysign(roundEven(q), whole);
}

/* ---- integers: nothing traps or is undefined; the remainder of signed numbers only through magnitudes ------------------------ */
#define NN_INTEGERS(L, T, U, BITS)                                                                                  \
  U nn_magnitude_##L(const in T a) { return a < T(0) ? U(0) - U(a) : U(a); }                                        \
  T nn_fmod_##L(const in T a, const in T b) {                                                                       \
    if (b == T(0)) return T(0);                                                                                     \
    U r = nn_magnitude_##L(a) % nn_magnitude_##L(b);                                                                \
    return a < T(0) ? T(U(0) - r) : T(r);                                                                           \
  }                                                                                                                 \
  T nn_mod_##L(const in T a, const in T b) {                                                                        \
    T r = nn_fmod_##L(a, b);                                                                                        \
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;                                                       \
  }                                                                                                                 \
  T nn_floordiv_##L(const in T a, const in T b) {                                                                   \
    if (b == T(0)) return T(0);                                                                                     \
    U x = nn_magnitude_##L(a), y = nn_magnitude_##L(b), q = x / y;                                                  \
    if ((a < T(0)) == (b < T(0))) return T(q);                                                                      \
    return T(U(0) - q) - (q * y != x ? T(1) : T(0));                                                                \
  }                                                                                                                 \
  T nn_pow_##L(const in T a, const in T b) { /* wraps; what is left of 1 / a^-b without its fraction, 0 for a = 0 */ \
    if (b < T(0)) return a == T(1) || (a == T(-1) && (b & T(1)) == T(0)) ? T(1) : a == T(-1) ? T(-1) : T(0);      \
    U r = U(1), x = U(a), n = U(b);                                                                                 \
    for (; n > U(0); n >>= 1, x *= x)                                                                               \
      if ((n & U(1)) != U(0)) r *= x;                                                                               \
    return T(r);                                                                                                    \
  }                                                                                                                 \
  T nn_shl_##L(const in T a, const in T n) { return n < T(0) || n >= T(BITS) ? T(0) : a << int(n); }                \
  T nn_shr_##L(const in T a, const in T n) { return a >> (n < T(0) || n >= T(BITS) ? BITS - 1 : int(n)); }
NN_INTEGERS(i, int, uint, 32)
NN_INTEGERS(l, int64_t, uint64_t, 64)

/* ---- conversions ------------------------------------------------------------------------------------------------------------- */
/* saturate, NaN -> 0 */
int nn_to_i32(const in float x) {
  if (nn_isnan(x)) return 0;
  return x >= 2147483648.0 ? 0x7fffffff : x <= -2147483648.0 ? -0x7fffffff - 1 : int(x);
}
int64_t nn_to_i64(const in float x) {
  if (nn_isnan(x)) return 0l;
  return x >= 9223372036854775808.0 ? 0x7fffffffffffffffl : x <= -9223372036854775808.0 ? -0x7fffffffffffffffl - 1l : int64_t(x);
}
/* f16 and bf16 as their 16 bits, to nearest, halves to even; without f32 denormals, which a device may flush */
float nn_from_f16(const in uint h) {
  uint sign = (h & 0x8000u) << 16, a = h & 0x7fffu;
  uint u = a >= 0x7c00u ? (a << 13) | 0x7f800000u : a < 0x400u ? floatBitsToUint(float(a) * 5.9604644775390625e-8) : (a << 13) + 0x38000000u;
  return uintBitsToFloat(sign | u);
}
uint nn_to_f16(const in float x) {
  uint u = floatBitsToUint(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu, r;
  precise float shifted = uintBitsToFloat(a) + 0.5; /* below 2^-14: has its last bit where a denormal has it */
  r = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  r = a < 0x38800000u ? floatBitsToUint(shifted) - 0x3f000000u : a >= 0x477ff000u ? 0x7c00u : r;
  return sign | (a > 0x7f800000u ? 0x7e00u : r);
}
float nn_from_bf16(const in uint h) { return uintBitsToFloat(h << 16); }
uint nn_to_bf16(const in float x) {
  uint u = floatBitsToUint(x), r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return nn_isnan(x) ? (u >> 16) | 0x40u : r;
}
float nn_round_f16(const in float x) { return nn_from_f16(nn_to_f16(x)); }
float nn_round_bf16(const in float x) { return nn_from_bf16(nn_to_bf16(x)); }

/* ---- random numbers: Philox4x32-10 as in base/philox.c ----------------------------------------------------------------------- */
uvec4 nn_philox(const in uint64_t key, const in uint64_t counter, const in uint64_t stream) {
  uint c0 = uint(counter), c1 = uint(counter >> 32), c2 = uint(stream), c3 = uint(stream >> 32);
  uint k0 = uint(key), k1 = uint(key >> 32), h0, l0, h1, l1;
  for (int r = 0; r < 10; r++) {
    umulExtended(0xD2511F53u, c0, h0, l0);
    umulExtended(0xCD9E8D57u, c2, h1, l1);
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return uvec4(c0, c1, c2, c3);
}
/* draw number `draw` of a stream as a number in [0, 1) */
float nn_uniform(const in uint64_t seed, const in uint64_t stream, const in uint64_t draw) {
  uvec4 w = nn_philox(seed, draw >> 2, stream);
  uint d = uint(draw) & 3u, u = d == 0u ? w.x : d == 1u ? w.y : d == 2u ? w.z : w.w;
  return float(u >> 8) * 5.9604644775390625e-8;
}
#endif
