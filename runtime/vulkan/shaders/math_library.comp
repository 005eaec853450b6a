#version 450
/* The module that emit.c takes the functions of math.glsl from. main is never run: it is there because glslang drops what nobody calls. */
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
layout(local_size_x = 1) in;
layout(std430, set = 0, binding = 0) buffer B { float f; int i; uint u; int64_t l; uint64_t d; } b;
void main() {
  b.f = nn_abs(b.f) + nn_neg(b.f) + nn_min(b.f, b.f) + nn_max(b.f, b.f) + nn_zero_if_finite(b.f) + nn_times_zero(b.f);
  b.f += nn_floor(b.f) + nn_ceil(b.f) + nn_rint(b.f) + nn_trunc(b.f) + nn_sqrt(b.f);
  b.f += nn_exp(b.f) + nn_expm1(b.f) + nn_log(b.f) + nn_log1p(b.f) + nn_log2(b.f) + nn_log10(b.f) + nn_pow(b.f, b.f);
  b.f += nn_sin(b.f) + nn_cos(b.f) + nn_atan2(b.f, b.f) + nn_tanh(b.f) + nn_erf(b.f) + nn_erfc(b.f);
  b.f += nn_fmod(b.f, b.f) + nn_mod(b.f, b.f) + nn_floordiv(b.f, b.f);
  b.i += nn_fmod_i(b.i, b.i) + nn_mod_i(b.i, b.i) + nn_floordiv_i(b.i, b.i) + nn_shl_i(b.i, b.i) + nn_pow_i(b.i, b.i) + nn_shr_i(b.i, b.i);
  b.l += nn_fmod_l(b.l, b.l) + nn_mod_l(b.l, b.l) + nn_floordiv_l(b.l, b.l) + nn_shl_l(b.l, b.l) + nn_pow_l(b.l, b.l) + nn_shr_l(b.l, b.l);
  b.i += nn_to_i32(b.f);
  b.l += nn_to_i64(b.f);
  b.u += nn_to_f16(b.f) + nn_to_bf16(b.f);
  b.f += nn_from_f16(b.u) + nn_from_bf16(b.u) + nn_round_f16(b.f) + nn_round_bf16(b.f) + nn_uniform(b.d, b.d, b.d);
}
