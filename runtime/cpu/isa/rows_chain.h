/* cpu/isa/rows_chain.h - several steps of class F in one go: the kernel of a chain (rows.h). Part of rows_f.c, which includes it for
** each set of operators with
**   CHAIN, OF(name)   the name of the kernel; of what it is made of
**   STRIP, LINKS      vectors of a strip; the list of operators
**
** A strip of STRIP vectors stays in registers while the links of the chain are applied to it one after the other, so what one link hands to the
** next never goes through memory. Each link is one operator with the formula of its own tile kernel, in a case of its own (no multiplication is
** contracted with another link's addition), and a reduction adds up in the order of its own kernel: the bits are those of the steps one by one.
*/
#ifndef NN_CPU_ROWS_CHAIN_H
#define NN_CPU_ROWS_CHAIN_H
#define FORMULA_F(name, f) static inline __attribute__((always_inline, unused)) V one_##name(V a, V b, V c) { return (void)b, (void)c, f; }
#define FORMULA_N FORMULA_F
#define FORMULA_C(name, f)
#define FORMULA_B(name, f)
#define FORMULA_I(name, f)
#define FORMULA_W(name, f)
#define NN_PW(name, TYPE, sig, nargs, doc, f, ...) FORMULA_##TYPE(name, f)
#include "../../ops/pointwise.def"
#undef NN_PW

#define EACH(x) for (int j = 0; j < w; j++) a[j] = x
#define UNARY(name) case NN_LINK_##name: EACH(one_##name(a[j], a[j], a[j])); break;
#define BINARY(name)                                                                                                 \
  case NN_LINK_##name: EACH(one_##name(a[j], LOADV(p + j * LANES), a[j])); break;                                    \
  case NN_LINK_##name##_row: { const V y = SPLATV(*e); EACH(one_##name(a[j], y, y)); break; }                            \
  case NN_LINK_##name##_into: EACH(one_##name(LOADV(p + j * LANES), a[j], a[j])); break;                             \
  case NN_LINK_##name##_row_into: { const V y = SPLATV(*e); EACH(one_##name(y, a[j], y)); break; }
/* as leaf_<name>: strips go to four partial results, single vectors to the first, the tail to the second */
#define FOLDING(name, first)                                                                                         \
  case NN_LINK_##name:                                                                                               \
    if (n < LANES) r[1] = pair_##name(r[1], TAIL(a[0], n, first));                                                   \
    else for (int j = 0; j < w; j++) r[j & 3] = pair_##name(r[j & 3], a[j]);                                   \
    break;

/* a row's partial results in one vector; then its lanes in one element, or those of LANES rows at once */
#define FOLDED(name) case NN_LINK_##name: return pair_##name(pair_##name(r[0], r[1]), pair_##name(r[2], r[3]));
#define ACROSS(name) case NN_LINK_##name: return across_##name(x);
#define ACROSS_ROWS(name) case NN_LINK_##name: across_rows_##name(to, x); return;
#define FOLDS(CASE) CASE(rsum) CASE(rprod) CASE(rmax) CASE(rmin)
static inline V fold_strips(int op, const V r[4]) {
  switch (op) {
  FOLDS(FOLDED)
  default: return r[0];
  }
}
static V fold_lanes(int op, V x) {
  switch (op) {
  FOLDS(ACROSS)
  default: return x;
  }
}
static void fold_rows(int op, T *to, const V *x) {
  switch (op) {
  FOLDS(ACROSS_ROWS)
  default: return;
  }
}
#endif

/* w vectors from element `at` of row `row` on (w is STRIP, 4 or 1), of the last one n lanes (n < LANES only where w is 1) */
static inline __attribute__((always_inline)) void OF(run_strip)(const nn_rows_link *k, int64_t row, int64_t at, V r[4], const int w,
                                                                const int64_t n) {
  V a[STRIP];
  for (int j = 0; j < w; j++) a[j] = LOADV((const T *)(const void *)(k->p + row * k->stride) + at + j * LANES);
  for (k++;; k++) {
    T *e = (T *)(void *)(k->p + row * k->stride), *p = e + at; /* the row's element, the strip */
    if ((unsigned)k->op >= NN_LINK_count) __builtin_unreachable();
    switch (k->op) {
    case NN_LINK_store:
      if (n < LANES) memcpy(p, a, (size_t)n * sizeof(T));
      else for (int j = 0; j < w; j++) *(VMEM *)(p + j * LANES) = a[j];
      break;
    case NN_LINK_stream:
      if (n < LANES) memcpy(p, a, (size_t)n * sizeof(T));
      else for (int j = 0; j < w; j++) STREAM(p + j * LANES, a[j]);
      break;
    LINKS(UNARY, BINARY)
    FOLDING(rsum, K(0))
    FOLDING(rprod, K(1))
    FOLDING(rmax, K(-INF))
    FOLDING(rmin, K(INF))
    case NN_LINK_end: return;
    default: __builtin_unreachable(); /* of the other list */
    }
  }
}

void CHAIN(const nn_rows_link *k, int nlinks, int64_t rows, int64_t cols);
void CHAIN(const nn_rows_link *k, int nlinks, int64_t rows, int64_t cols) {
  const nn_rows_link *z = &k[nlinks - 1];
  const V first = z->op == NN_LINK_rprod ? K(1) : z->op == NN_LINK_rmax ? K(-INF) : z->op == NN_LINK_rmin ? K(INF) : K(0);
  const int reduces = z->op >= NN_LINK_rsum && z->op <= NN_LINK_rmin;
  V x[LANES];
  for (int64_t i = reduces ? rows : LANES; i < LANES; i++) x[i] = first; /* rows that are not there */
  for (int64_t row = 0; row < rows; row++) {
    V r[4] = {first, first, first, first};
    int64_t at = 0;
    for (; at + STRIP * LANES <= cols; at += STRIP * LANES) OF(run_strip)(k, row, at, r, STRIP, LANES);
    if (STRIP > 4 && at + 4 * LANES <= cols) {
      OF(run_strip)(k, row, at, r, 4, LANES);
      at += 4 * LANES;
    }
    for (; at + LANES <= cols; at += LANES) OF(run_strip)(k, row, at, r, 1, LANES);
    if (at < cols) OF(run_strip)(k, row, at, r, 1, cols - at);
    if (!reduces) continue;
    x[row % LANES] = fold_strips(z->op, r);
    if (rows == 1) *(VMEM *)(void *)z->p = fold_lanes(z->op, x[0]);
    else if (row % LANES == LANES - 1 || row == rows - 1) fold_rows(z->op, (T *)(void *)z->p + row / LANES * LANES, x);
  }
}
#undef CHAIN
#undef OF
#undef STRIP
#undef LINKS
