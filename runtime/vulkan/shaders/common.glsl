/* vulkan/shaders/common.glsl - what every kernel includes first: extensions, the Info and Params blocks (../vk.h), numbers of invocations, division. */
#ifndef NN_COMMON_GLSL
#define NN_COMMON_GLSL
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_control_flow_attributes : require

/* INFO { uint n; ... } info;   the words that the kernel's host side gave, in std430 layout */
#define INFO layout(set = 0, binding = 33, std430) uniform NnInfo
/* PARAMS(2)   run-time parameters of the dispatch: param[0], param[1] */
struct NnParam { float f; int i; int64_t l; uint64_t u; uint64_t pad; };
#define PARAMS(n) layout(set = 0, binding = 32, std430) uniform NnParams { NnParam param[n]; }

/* Linear numbers: the grid may be folded into y and z, and may be larger than what is to be done. */
#define NN_GROUP (gl_WorkGroupID.x + gl_NumWorkGroups.x * (gl_WorkGroupID.y + gl_NumWorkGroups.y * gl_WorkGroupID.z))
#define NN_INVOCATION (NN_GROUP * gl_WorkGroupSize.x + gl_LocalInvocationID.x)

/* x / the number that nn_vk_divisor was given; div = (mul, shift) */
uint fastdiv(const in uint x, const in uvec2 div) {
  uint high, low;
  umulExtended(x, div.x, high, low);
  return (high + ((x - high) >> (div.y & 0xffu))) >> (div.y >> 8);
}
#endif
