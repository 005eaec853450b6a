/* vulkan/shaders/dtype.glsl - one buffer of any dtype: loads and stores with the conversions of NNI_R_CAST. The dtype is a specialization constant, so
** every pipeline keeps one case.
**
**   layout(constant_id = 0) const uint SRC = F32;
**   NN_LOADER(0, src, SRC)    src_f(i) src_i(i) src_l(i): element i as float, int, int64_t; src_raw1/2/4/8[]: its bits
**   NN_STORER(1, dst, DST)    dst_put_f(i, x), dst_put_i, dst_put_l; dst_raw1/2/4/8[]
**
** A dtype belongs to a class: F (f32, f16, bf16), I (i32, u8, bool), L (i64); NN_CLASS tells it, and a kernel loads and stores in the class of what it computes.
*/
#ifndef NN_DTYPE_GLSL
#define NN_DTYPE_GLSL
#include "math.glsl"

const uint BOOL = 0, U8 = 1, I32 = 2, I64 = 3, F16 = 4, BF16 = 5, F32 = 6; /* nn_dtype (checked in k_copy.c) */
const uint NN_F = 0, NN_I = 1, NN_L = 2;
#define NN_CLASS(d) ((d) == I64 ? NN_L : (d) >= F16 ? NN_F : NN_I)

#define NN_BUFFER(B, ACCESS, name)                                                                 \
  layout(set = 0, binding = B, std430) ACCESS buffer name##_block1 { uint8_t name##_raw1[]; };     \
  layout(set = 0, binding = B, std430) ACCESS buffer name##_block2 { uint16_t name##_raw2[]; };    \
  layout(set = 0, binding = B, std430) ACCESS buffer name##_block4 { uint name##_raw4[]; };        \
  layout(set = 0, binding = B, std430) ACCESS buffer name##_block8 { uint64_t name##_raw8[]; };

#define NN_LOADER(B, name, D)                                                   \
  NN_BUFFER(B, readonly, name)                                                  \
  int name##_i(const in uint i);                                                \
  int64_t name##_l(const in uint i);                                            \
  float name##_f(const in uint i) {                                             \
    if (D == F32) return uintBitsToFloat(name##_raw4[i]);                       \
    if (D == F16) return nn_from_f16(uint(name##_raw2[i]));                     \
    if (D == BF16) return nn_from_bf16(uint(name##_raw2[i]));                   \
    if (D == I64) return float(int64_t(name##_raw8[i]));                        \
    if (D == I32) return float(int(name##_raw4[i]));                            \
    return float(uint(name##_raw1[i]));                                         \
  }                                                                             \
  int name##_i(const in uint i) {                                               \
    if (NN_CLASS(D) == NN_F) return nn_to_i32(name##_f(i));                     \
    if (D == I64) return int(name##_raw8[i]);                                   \
    if (D == I32) return int(name##_raw4[i]);                                   \
    return int(uint(name##_raw1[i]));                                           \
  }                                                                             \
  int64_t name##_l(const in uint i) {                                           \
    if (NN_CLASS(D) == NN_F) return nn_to_i64(name##_f(i));                     \
    if (D == I64) return int64_t(name##_raw8[i]);                               \
    return int64_t(name##_i(i));                                                \
  }

#define NN_STORER(B, name, D)                                                                \
  NN_BUFFER(B, writeonly, name)                                                              \
  void name##_put_i(const in uint i, const in int x) {                                       \
    if (D == I32) name##_raw4[i] = uint(x);                                                  \
    else if (D == I64) name##_raw8[i] = uint64_t(int64_t(x));                                \
    else if (D == F32) name##_raw4[i] = floatBitsToUint(float(x));                           \
    else if (D == F16) name##_raw2[i] = uint16_t(nn_to_f16(float(x)));                       \
    else if (D == BF16) name##_raw2[i] = uint16_t(nn_to_bf16(float(x)));                     \
    else if (D == U8) name##_raw1[i] = uint8_t(uint(x) & 255u);                              \
    else name##_raw1[i] = uint8_t(x != 0 ? 1u : 0u);                                         \
  }                                                                                          \
  void name##_put_l(const in uint i, const in int64_t x) {                                   \
    if (D == I64) name##_raw8[i] = uint64_t(x);                                              \
    else if (D == F32) name##_raw4[i] = floatBitsToUint(float(x));                           \
    else if (D == F16) name##_raw2[i] = uint16_t(nn_to_f16(float(x)));                       \
    else if (D == BF16) name##_raw2[i] = uint16_t(nn_to_bf16(float(x)));                     \
    else name##_put_i(i, D == BOOL ? (x != 0 ? 1 : 0) : int(x));                             \
  }                                                                                          \
  void name##_put_f(const in uint i, const in float x) {                                     \
    if (D == F32) name##_raw4[i] = floatBitsToUint(x);                                       \
    else if (D == F16) name##_raw2[i] = uint16_t(nn_to_f16(x));                              \
    else if (D == BF16) name##_raw2[i] = uint16_t(nn_to_bf16(x));                            \
    else if (D == I64) name##_raw8[i] = uint64_t(nn_to_i64(x));                              \
    else if (D == BOOL) name##_raw1[i] = uint8_t((floatBitsToUint(x) << 1) != 0u ? 1u : 0u); \
    else name##_put_i(i, nn_to_i32(x));                                                      \
  }
#endif
