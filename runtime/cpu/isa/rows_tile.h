/* cpu/isa/rows_tile.h - tile kernels of one register class, expanded from ops/pointwise.def and ops/reduce.def.
**
** The includer (rows_f.c, rows_i.c, rows_l.c) defines the class:
**   V, MASK, LANES        vector, its mask and how many elements it has; T the element
**   X(name)               name with the class letter: vm_<name>f, ...
**   LOADV(p) SPLATV(x)    vector at p; all lanes x
**   LOADM(p) STOREM(p, m) LANES int32 zero / not zero at p as a mask; a mask as LANES int32 of 1 or 0
**   REAL(f) INTEGER(f)    f where rows computed in floats only, in integers only, are computed (nothing elsewhere)
**   LOGIC(f)              f where logic is computed (class I)
** and the formula words that depend on it: K MIN MAX ABS NEG FLOOR CEIL RINT TRUNC FMOD MOD FLOORDIV, those of real functions and those of
** bits.
*/
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define LT(a, b) X(vm_lt)(a, b)
#define LE(a, b) X(vm_le)(a, b)
#define GT(a, b) X(vm_gt)(a, b)
#define GE(a, b) X(vm_ge)(a, b)
#define EQ(a, b) X(vm_eq)(a, b)
#define NE(a, b) X(vm_ne)(a, b)
#define AND(a, b) ((MASK)((a) & (b)))
#define OR(a, b) ((MASK)((a) | (b)))
#define XOR(a, b) ((MASK)((a) ^ (b)))
#define NOT(a) X(vm_not)(a)
#define SEL(m, a, b) X(vm_sel)(m, a, b)
#define INF 1e300 /* K turns it into the end of the class's range */

#define CAT2(a, b) a##b
#define CAT(a, b) CAT2(a, b)
#define X(name) CAT(name, LETTER)

/* One operand each: a vector, or a mask read from class I. */
#define V_a V a = LOADV(pa); pa += sa;
#define V_b V b = LOADV(pb); pb += sb;
#define V_c V c = LOADV(pc); pc += sc;
#define M_a MASK a = LOADM(pa); pa += sa;
#define M_b MASK b = LOADM(pb); pb += sb;
#define ARGS_V1 V_a
#define ARGS_V2 V_a V_b
#define ARGS_V3 V_a V_b V_c
#define ARGS_M1 M_a
#define ARGS_M2 M_a M_b
#define ARGS_W3 M_a V_b V_c
#define PUTV(x) *(VMEM *)po = (x); po += sizeof(V);
#define PUTM(x) STOREM(po, x); po += LANES * 4;

#define KERNEL(name, args, put, formula)                                                                             \
  static void pw_##name(void *o, const void *a_, const void *b_, const void *c_, const int32_t *step, int64_t n) {   \
    char *po = o;                                                                                                    \
    const char *pa = a_, *pb = b_, *pc = c_;                                                                         \
    const ptrdiff_t sa = step[0], sb = step[1], sc = step[2];                                                        \
    (void)pb, (void)pc, (void)sb, (void)sc;                                                                          \
    for (; n > 0; n -= LANES) {                                                                                      \
      args                                                                                                           \
      put(formula)                                                                                                   \
    }                                                                                                                \
  }
#define KERNEL_F(name, nargs, f) REAL(KERNEL(name, ARGS_V##nargs, PUTV, f))
#define KERNEL_N(name, nargs, f) KERNEL(name, ARGS_V##nargs, PUTV, f)
#define KERNEL_C(name, nargs, f) KERNEL(name, ARGS_V##nargs, PUTM, f)
#define KERNEL_B(name, nargs, f) LOGIC(KERNEL(name, ARGS_M##nargs, PUTM, f))
#define KERNEL_I(name, nargs, f) INTEGER(KERNEL(name, ARGS_V##nargs, PUTV, f))
#define KERNEL_W(name, nargs, f) KERNEL(name, ARGS_W##nargs, PUTV, f)
#define NN_PW(name, TYPE, sig, nargs, doc, f, ...) KERNEL_##TYPE(name, nargs, f)
#include "../../ops/pointwise.def"
#undef NN_PW

#define ENTRY_F(name) REAL([NNI_PW_##name] = pw_##name,)
#define ENTRY_N(name) [NNI_PW_##name] = pw_##name,
#define ENTRY_C(name) [NNI_PW_##name] = pw_##name,
#define ENTRY_B(name) LOGIC([NNI_PW_##name] = pw_##name,)
#define ENTRY_I(name) INTEGER([NNI_PW_##name] = pw_##name,)
#define ENTRY_W(name) [NNI_PW_##name] = pw_##name,
extern const nn_rows_fn PW_TABLE[NNI_NPW];
const nn_rows_fn PW_TABLE[NNI_NPW] = {
#define NN_PW(name, TYPE, ...) ENTRY_##TYPE(name)
#include "../../ops/pointwise.def"
#undef NN_PW
};

/* ---- reductions of rows ------------------------------------------------------------------------------------------------------ */
/* 4 vectors of partial results over at most LEAF elements, these in a balanced tree. */
#define LEAF NN_ROWS_LEAF
static const T lane_numbers[LANES] = {LANE_NUMBERS};
#define TAIL(x, k, filler) SEL(LT(LOADV(lane_numbers), SPLATV((T)(k))), x, filler) /* the first k lanes of x */

/* Of LANES rows' vectors at once: from blocks of 2 h lanes to blocks of h lanes, those of a and b in turn; the lower and the upper halves. */
#define HALVES(a, b, h, upper) \
  __builtin_shuffle(a, b, LANE_V / (h) / 2 * 2 * (h) + LANE_V % (h) + (upper) * (h) + LANE_V / (h) % 2 * LANES)

/* FOLD(name, first, combine): vector fold_<name>(p, n) of the elements from p on, every lane holding the result. part_<name>: a vector whose
** lanes are yet to be combined, in halves: across_<name> does one, across_rows_<name> those of LANES rows (lane r: the result of row r). */
#define FOLD(name, first, combine)                                                                              \
  static inline V pair_##name(V a, V b) { return combine; }                                                          \
  static inline V part_##name(const T *p, int64_t n) {                                                               \
    V r0 = first, r1 = r0, r2 = r0, r3 = r0;                                                                         \
    for (; n >= 4 * LANES; n -= 4 * LANES, p += 4 * LANES) {                                                         \
      r0 = pair_##name(r0, LOADV(p));                                                                           \
      r1 = pair_##name(r1, LOADV(p + LANES));                                                                   \
      r2 = pair_##name(r2, LOADV(p + 2 * LANES));                                                               \
      r3 = pair_##name(r3, LOADV(p + 3 * LANES));                                                               \
    }                                                                                                                \
    for (; n >= LANES; n -= LANES, p += LANES) r0 = pair_##name(r0, LOADV(p));                                  \
    if (n > 0) r1 = pair_##name(r1, TAIL(LOADV(p), n, first));                                                  \
    return pair_##name(pair_##name(r0, r1), pair_##name(r2, r3));                                                    \
  }                                                                                                                  \
  static inline V across_##name(V x) {                                                                               \
    for (int s = LANES / 2; s > 0; s /= 2) x = pair_##name(x, ROTATE(x, s));                                         \
    return SPLATV(x[0]);                                                                                             \
  }                                                                                                                  \
  static __attribute__((unused)) void across_rows_##name(T *o, const V *x) {                                         \
    V r[LANES];                                                                                                      \
    for (int i = 0; i < LANES; i++) r[i] = x[i];                                                                     \
    _Pragma("GCC unroll 8") for (int h = LANES / 2; h > 0; h /= 2)                                                   \
      _Pragma("GCC unroll 8") for (int i = 0; i < h; i++)                                                            \
        r[i] = pair_##name(HALVES(r[i], r[i + h], h, 0), HALVES(r[i], r[i + h], h, 1));                              \
    *(VMEM *)o = r[0];                                                                                               \
  }                                                                                                                  \
  static inline V leaf_##name(const T *p, int64_t n) { return across_##name(part_##name(p, n)); }                    \
  static V fold_##name(const T *p, int64_t n) {                                                                      \
    if (n <= LEAF) return leaf_##name(p, n);                                                                         \
    int64_t half = (n / 2 + LEAF - 1) / LEAF * LEAF;                                                                 \
    return pair_##name(fold_##name(p, half), fold_##name(p + half, n - half));                                       \
  }                                                                                                                  \
  static V tree_##name(const T *part, int64_t n) {                                                                   \
    if (n <= LEAF) return SPLATV(*part);                                                                             \
    int64_t half = (n / 2 + LEAF - 1) / LEAF * LEAF;                                                                 \
    return pair_##name(tree_##name(part, half), tree_##name(part + half / LEAF, n - half));                          \
  }                                                                                                                  \
  static __attribute__((unused)) void join_##name(void *o, const void *a, int64_t rows, int64_t cols) {              \
    V v = tree_##name(a, cols);                                                                                      \
    (void)rows;                                                                                                      \
    for (int j = 0; j < VW; j += LANES) *(VMEM *)((T *)o + j) = v;                                                   \
  }
#define REDUCE_N(name, identity, combine)                                                                            \
  FOLD(name, identity, combine)                                                                                      \
  static void reduce_##name(void *o_, const void *a_, int64_t rows, int64_t cols) {                                  \
    const T *a = a_;                                                                                                 \
    T *o = o_;                                                                                                       \
    V x[LANES];                                                                                                      \
    for (int64_t i = rows; i < LANES; i++) x[i] = identity;                                                          \
    if (rows == 1) {                                                                                                 \
      x[0] = cols <= LEAF ? leaf_##name(a, cols) : fold_##name(a, cols);                                             \
      for (int j = 0; j < VW; j += LANES) *(VMEM *)(o + j) = x[0];                                                   \
      return;                                                                                                        \
    }                                                                                                                \
    for (int64_t r = 0; r < rows; r++, a += cols) {                                                                  \
      x[r % LANES] = part_##name(a, cols);                                                                           \
      if (r % LANES == LANES - 1 || r == rows - 1) across_rows_##name(o + r / LANES * LANES, x);                     \
    }                                                                                                                \
  }
/* First the extreme value (NaN wins), then where it stands first. */
static int64_t position(const T *p, int64_t n, V best) {
  for (int64_t i = 0; i < n; i += LANES) {
    V x = LOADV(p + i);
    if (X(vm_any)(OR(EQ(x, best), NE(x, x))))
      for (int64_t j = i; j < n && j < i + LANES; j++)
        if (p[j] == best[0] || p[j] != p[j]) return j;
  }
  return 0;
}
#define REDUCE_P(name, identity, combine)                                                                            \
  FOLD(name, identity, SEL(OR(combine, NE(a, a)), a, b))                                                   \
  static void reduce_##name(void *o, const void *a_, int64_t rows, int64_t cols) {                                   \
    const T *a = a_;                                                                                                 \
    for (int64_t r = 0; r < rows; r++, a += cols) {                                                                  \
      vl at = vm_l(position(a, cols, fold_##name(a, cols)));                                                         \
      for (int j = 0; j < VW; j += VW / 2) *(vl_mem *)((int64_t *)o + r + j) = at;                                   \
    }                                                                                                                \
  }
#define NN_RED(name, TYPE, identity, combine) REDUCE_##TYPE(name, identity, combine)
#include "../../ops/reduce.def"
#undef NN_RED

extern const nn_rows_reduce_fn REDUCE_TABLE[NNI_NRED], JOIN_TABLE[NNI_NRED];
const nn_rows_reduce_fn JOIN_TABLE[NNI_NRED] = {
#define NN_RED(name, ...) [NNI_RED_##name] = join_##name,
#include "../../ops/reduce.def"
#undef NN_RED
};
const nn_rows_reduce_fn REDUCE_TABLE[NNI_NRED] = {
#define NN_RED(name, ...) [NNI_RED_##name] = reduce_##name,
#include "../../ops/reduce.def"
#undef NN_RED
};
