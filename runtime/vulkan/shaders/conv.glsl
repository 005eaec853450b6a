/* vulkan/shaders/conv.glsl - what the shaders of convolutions share: the Info block of k_conv.c and the walk over pixels and taps.
** Letters: N batch, H W C input, OH OW K output, KH KW taps, CG and KG channels of a group. */
#ifndef NN_CONV_GLSL
#define NN_CONV_GLSL
layout(constant_id = 0) const uint MODE = 0;
const uint FORWARD = 0, DX = 1, DW = 2;
#include "dtype.glsl"
layout(constant_id = 7) const uint SRC = F32; /* f32, f16 or bf16; sums are f32, rounded once (parts are stored as f32) */
layout(constant_id = 8) const uint DST = F32;
NN_LOADER(0, in0, SRC) /* x; dy of DX */
NN_LOADER(1, in1, SRC) /* w; dy of DW */
NN_STORER(2, result, DST)
INFO {
  uint from0, from1, to;
  uint H, W, C, OH, OW, K, KH, KW, CG, KG, groups;
  int stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  uint M, COLS, INNER;         /* of one group's product: rows, columns, inner size */
  uint tiles_m, tiles_n;
  uint parts, part_k, part_size;
  uvec2 by_OW, by_OH, by_W, by_H, by_CG, by_KG, by_KW; /* divisors */
  uint items;                  /* tiles or, direct, elements */
} info;

/* number of a pixel of the output (or, DX, of the input) -> (image, row, column) */
ivec3 nn_pixel(const in uint p) {
  const uvec2 by_w = MODE == DX ? info.by_W : info.by_OW, by_h = MODE == DX ? info.by_H : info.by_OH;
  const uint w = MODE == DX ? info.W : info.OW, h = MODE == DX ? info.H : info.OH;
  const uint q = fastdiv(p, by_w), n = fastdiv(q, by_h);
  return ivec3(n, q - n * h, p - q * w);
}
/* number of (tap row, tap column, channel) -> those; by, size: of the channels */
ivec3 nn_tap(const in uint q, const in uvec2 by, const in uint size) {
  const uint t = fastdiv(q, by), h = fastdiv(t, info.by_KW);
  return ivec3(h, t - h * info.KW, q - t * size);
}
/* Where the output pixel (DX: input pixel) meets in0 at a tap: the number of the element of channel 0; false outside of the image. */
bool nn_place(const in ivec3 pixel, const in ivec2 tap, out uint at) {
  const uint h_size = MODE == DX ? info.OH : info.H, w_size = MODE == DX ? info.OW : info.W, channels = MODE == DX ? info.K : info.C;
  int h, w;
  bool inside = true;
  if (MODE == DX) {
    const int y = pixel.y + info.pad_top - tap.x * info.dilation_h, z = pixel.z + info.pad_left - tap.y * info.dilation_w;
    h = y / info.stride_h, w = z / info.stride_w;
    inside = y >= 0 && z >= 0 && h * info.stride_h == y && w * info.stride_w == z;
  } else {
    h = pixel.y * info.stride_h - info.pad_top + tap.x * info.dilation_h;
    w = pixel.z * info.stride_w - info.pad_left + tap.y * info.dilation_w;
  }
  at = info.from0 + ((uint(pixel.x) * h_size + uint(h)) * w_size + uint(w)) * channels;
  return inside && h >= 0 && w >= 0 && h < int(h_size) && w < int(w_size);
}
/* the element of in0 there; 0 outside of the image. channel: of all groups */
float nn_meet(const in ivec3 pixel, const in ivec2 tap, const in uint channel) {
  uint at;
  return nn_place(pixel, tap, at) ? in0_f(at + channel) : 0.0;
}
#endif
