/* vulkan/shaders/index.glsl - what the shaders of k_index.c share: positions ids (a, m, b) that name elements (a, v, b) of a table. Positions that are the same
** for all of b (nb = 1) are stored once a row. A position outside 0..v-1 is noted, the smallest number of all of them. */
#ifndef NN_INDEX_GLSL
#define NN_INDEX_GLSL
INFO {
  uint n;                    /* invocations */
  uint a, v, m, b, nb;
  uint ids, ia, im, ib;      /* element 0, elements per step */
  uint from, sa, sm, sb;     /* what is read or stored, in the same way */
  uint to, old, aux, at, words;
  uint m0, m1;               /* the part of m that a dispatch does */
  uint pad;
  uvec2 div_b, div_nb, div_m, div_v; /* divisors; of m1 - m0 where that is walked */
  uint size[8];              /* ravel: sizes that the columns of ids have */
} info;

/* words[0]: complement of the first bad position's number */
#define NN_NOTE(number) atomicMax(words[info.words], ~(number))
#define NN_WORDS(B) layout(set = 0, binding = B, std430) buffer Words { uint words[]; }

/* row r = (a, m) */
uint nn_id_at(const in uint r, const in uint bi) {
  const uint ai = fastdiv(r, info.div_m);
  return info.ids + ai * info.ia + (r - ai * info.m) * info.im + bi * info.ib;
}
#endif
