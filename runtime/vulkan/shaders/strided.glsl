/* vulkan/shaders/strided.glsl - a walk over RANK dims with two sets of strides (k_copy.c): element number i of the space lies at `from` and at `to`. */
#ifndef NN_STRIDED_GLSL
#define NN_STRIDED_GLSL
INFO {
  uint n;         /* elements of the space */
  uint from, to;  /* where element 0 is */
  uint pad;
  uvec2 size[8];  /* divisors of the dims' sizes */
  uint shape[8], from_stride[8], to_stride[8]; /* modulo 2^32: strides may be negative */
} info;

uvec2 nn_place(const in uint number, const in uint rank) {
  uint i = number;
  uvec2 at = uvec2(info.from, info.to);
  [[unroll]] for (uint k = rank - 1; k > 0; k--) {
    const uint q = fastdiv(i, info.size[k]), r = i - q * info.shape[k];
    at += r * uvec2(info.from_stride[k], info.to_stride[k]);
    i = q;
  }
  return at + i * uvec2(info.from_stride[0], info.to_stride[0]);
}
#endif
