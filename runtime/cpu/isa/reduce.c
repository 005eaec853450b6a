/* cpu/isa/reduce.c - reductions of one run of neighbours and of the columns of one block of rows: the inner loops of k_reduce.c.
**
** The order of the operations depends on the sizes alone. NaN: rmax and rmin give it back; rargmax and rargmin choose the first one.
*/
#include "../isa_kernels.h"

typedef float V __attribute__((vector_size(VW * 4), aligned(4)));
typedef int32_t VI __attribute__((vector_size(VW * 4), aligned(4)));
enum { NACC = 8 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define MAXI(a, b) ((a) > (b) ? (a) : (b))
#define MINI(a, b) ((a) < (b) ? (a) : (b))

INLINE V select_v(VI m, V a, V b) { return (V)((m & (VI)a) | (~m & (VI)b)); }
INLINE V sum_v(V a, V b) { return a + b; }
INLINE V prod_v(V a, V b) { return a * b; }
/* a NaN in either argument wins */
INLINE V max_v(V a, V b) { return select_v((VI)(a > b) | (VI)(a != a), a, b); }
INLINE V min_v(V a, V b) { return select_v((VI)(a < b) | (VI)(a != a), a, b); }

/* ---- runs ------------------------------------------------------------------------------------------------------------------ */
/* NACC accumulators joined as a tree, the vectors left over, a last one padded with the identity (it reads past the end, within NNI_PAD);
** then the lanes, halving. */
#define RUN_F32(name, OPV, ID)                                                                                                                       \
  static inline float name(const float *x, int64_t n) {                                                                                              \
    V a, acc[NACC];                                                                                                                                  \
    VI lane;                                                                                                                                         \
    int64_t i = 0;                                                                                                                                   \
    for (int l = 0; l < VW; l++) lane[l] = l;                                                                                                        \
    a = (V){0} + (ID);                                                                                                                               \
    if (n >= NACC * VW) {                                                                                                                            \
      UNROLL for (int j = 0; j < NACC; j++) acc[j] = *(const V *)(x + j * VW);                                                                       \
      for (i = NACC * VW; i + NACC * VW <= n; i += NACC * VW)                                                                                        \
        UNROLL for (int j = 0; j < NACC; j++) acc[j] = OPV(acc[j], *(const V *)(x + i + j * VW));                                                    \
      a = OPV(OPV(OPV(acc[0], acc[1]), OPV(acc[2], acc[3])), OPV(OPV(acc[4], acc[5]), OPV(acc[6], acc[7])));                                         \
    }                                                                                                                                                \
    for (; i + VW <= n; i += VW) a = OPV(a, *(const V *)(x + i));                                                                                    \
    if (i < n) a = OPV(a, select_v((VI)(lane < (int32_t)(n - i)), *(const V *)(x + i), (V){0} + (ID)));                                              \
    UNROLL for (int w = VW / 2; w > 0; w /= 2) a = OPV(a, __builtin_shuffle(a, (lane + w) & (VW - 1)));                                              \
    return a[0];                                                                                                                                     \
  }                                                                                                                                                  \
  static void name##_rows(const float *x, int64_t n, int64_t rows, float *out) {                                                                     \
    for (int64_t r = 0; r < rows; r++) out[r] = name(x + r * n, n);                                                                                  \
  }
RUN_F32(run_sum, sum_v, 0.0f)
RUN_F32(run_prod, prod_v, 1.0f)
RUN_F32(run_max, max_v, -__builtin_inff())
RUN_F32(run_min, min_v, __builtin_inff())

void NN_ISA_FN(nn_cpu_reduce_rows_f32)(nni_redid op, const float *x, int64_t n, int64_t rows, float *out) {
  switch (op) {
  case NNI_RED_rsum: run_sum_rows(x, n, rows, out); break;
  case NNI_RED_rprod: run_prod_rows(x, n, rows, out); break;
  case NNI_RED_rmax: run_max_rows(x, n, rows, out); break;
  default: run_min_rows(x, n, rows, out); break;
  }
}

/* position of the first element equal to m (of the first NaN when m is one) */
static int64_t find_f32(const float *x, int64_t n, float m) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    int hit = 0;
    if (m != m)
      for (int j = 0; j < 64; j++) hit |= x[i + j] != x[i + j];
    else
      for (int j = 0; j < 64; j++) hit |= x[i + j] == m;
    if (hit) break;
  }
  for (; i < n; i++)
    if (x[i] == m || (m != m && x[i] != x[i])) return i;
  return 0;
}

static nn_cpu_part run_f32(nni_redid op, const float *x, int64_t n) {
  nn_cpu_part p = {0};
  float r = 0;
  switch (op) {
  case NNI_RED_rsum: r = run_sum(x, n); break;
  case NNI_RED_rprod: r = run_prod(x, n); break;
  case NNI_RED_rmax:
  case NNI_RED_rargmax: r = run_max(x, n); break;
  case NNI_RED_rmin:
  case NNI_RED_rargmin: r = run_min(x, n); break;
  case NNI_NRED: break;
  }
  p.f = (double)r;
  if (op == NNI_RED_rargmax || op == NNI_RED_rargmin) p.at = find_f32(x, n, r);
  return p;
}

#define FIRST(T, m)                                                                                                                                  \
  for (int64_t i = 0; i < n; i++)                                                                                                                    \
    if (x[i] == (m)) {                                                                                                                               \
      p.at = i;                                                                                                                                      \
      break;                                                                                                                                         \
    }
#define RUN_INT(name, T)                                                                                                                             \
  static nn_cpu_part name(nni_redid op, const T *x, int64_t n) {                                                                                     \
    nn_cpu_part p = {0};                                                                                                                             \
    T m = x[0];                                                                                                                                      \
    uint64_t u = 0;                                                                                                                                  \
    switch (op) {                                                                                                                                    \
    case NNI_RED_rsum:                                                                                                                               \
      for (int64_t i = 0; i < n; i++) u += (uint64_t)(int64_t)x[i];                                                                                  \
      break;                                                                                                                                         \
    case NNI_RED_rprod:                                                                                                                              \
      u = 1;                                                                                                                                         \
      for (int64_t i = 0; i < n; i++) u *= (uint64_t)(int64_t)x[i];                                                                                  \
      break;                                                                                                                                         \
    case NNI_RED_rmax:                                                                                                                               \
    case NNI_RED_rargmax:                                                                                                                            \
      for (int64_t i = 0; i < n; i++) m = MAXI(m, x[i]);                                                                                             \
      u = (uint64_t)(int64_t)m;                                                                                                                      \
      if (op == NNI_RED_rargmax) FIRST(T, m)                                                                                                         \
      break;                                                                                                                                         \
    case NNI_RED_rmin:                                                                                                                               \
    case NNI_RED_rargmin:                                                                                                                            \
      for (int64_t i = 0; i < n; i++) m = MINI(m, x[i]);                                                                                             \
      u = (uint64_t)(int64_t)m;                                                                                                                      \
      if (op == NNI_RED_rargmin) FIRST(T, m)                                                                                                         \
      break;                                                                                                                                         \
    case NNI_NRED: break;                                                                                                                            \
    }                                                                                                                                                \
    p.v = (int64_t)u;                                                                                                                                \
    return p;                                                                                                                                        \
  }
RUN_INT(run_u8, uint8_t)
RUN_INT(run_i32, int32_t)
RUN_INT(run_i64, int64_t)

nn_cpu_part NN_ISA_FN(nn_cpu_reduce_run)(nni_redid op, nn_dtype d, const void *x, int64_t n) {
  switch (d) {
  case NN_F32: return run_f32(op, x, n);
  case NN_I32: return run_i32(op, x, n);
  case NN_I64: return run_i64(op, x, n);
  default: return run_u8(op, x, n);
  }
}

nn_cpu_part NN_ISA_FN(nn_cpu_reduce_join)(nni_redid op, bool is_f32, nn_cpu_part a, nn_cpu_part b) {
  switch (op) {
  case NNI_RED_rsum: return (nn_cpu_part){a.f + b.f, (int64_t)((uint64_t)a.v + (uint64_t)b.v), 0};
  case NNI_RED_rprod: return (nn_cpu_part){a.f * b.f, (int64_t)((uint64_t)a.v * (uint64_t)b.v), 0};
  case NNI_RED_rmax:
  case NNI_RED_rargmax:
    if (!is_f32) return b.v > a.v ? b : a;
    return a.f != a.f ? a : b.f > a.f || b.f != b.f ? b : a;
  case NNI_RED_rmin:
  case NNI_RED_rargmin:
    if (!is_f32) return b.v < a.v ? b : a;
    return a.f != a.f ? a : b.f < a.f || b.f != b.f ? b : a;
  case NNI_NRED: break;
  }
  return a;
}

/* ---- columns --------------------------------------------------------------------------------------------------------------- */
INLINE V load_part(const float *p, int64_t n) {
  float lane[VW] = {0};
  memcpy(lane, p, (size_t)n * sizeof *p);
  return *(const V *)lane;
}
/* Eight rows at a time: the accumulators (out, in L1) are read and written once for eight loads. The last vector of a row of x is read
** whole, past its end within NNI_PAD. */
#define AT(p, r) (*(const V *)((p) + (r)*stride + c))
#define COLS_F32(name, OP)                                                                                                                           \
  static void name(const float *restrict x, int64_t stride, int64_t rows, int64_t cols, float *restrict out) {                                       \
    memcpy(out, x, (size_t)cols * sizeof *out);                                                                                                      \
    for (int64_t r = 1; r < rows;) {                                                                                                                 \
      const int64_t take = rows - r < 8 ? 1 : 8;                                                                                                     \
      const float *p = x + r * stride, *q = p + 4 * stride;                                                                                          \
      for (int64_t c = 0; c < cols; c += VW) {                                                                                                       \
        const bool whole = cols - c >= VW;                                                                                                           \
        V v = AT(p, 0), o = whole ? *(const V *)(out + c) : load_part(out + c, cols - c);                                                            \
        if (take == 8) v = OP(OP(OP(v, AT(p, 1)), OP(AT(p, 2), AT(p, 3))), OP(OP(AT(q, 0), AT(q, 1)), OP(AT(q, 2), AT(q, 3))));                      \
        o = OP(o, v);                                                                                                                                \
        if (whole) *(V *)(out + c) = o;                                                                                                              \
        else memcpy(out + c, &o, (size_t)(cols - c) * sizeof *out);                                                                                  \
      }                                                                                                                                              \
      r += take;                                                                                                                                     \
    }                                                                                                                                                \
  }
COLS_F32(cols_sum, sum_v)
COLS_F32(cols_prod, prod_v)
COLS_F32(cols_max, max_v)
COLS_F32(cols_min, min_v)

typedef void (*cols_fn)(const float *restrict x, int64_t stride, int64_t rows, int64_t cols, float *restrict out);

void NN_ISA_FN(nn_cpu_reduce_cols_f32)(nni_redid op, const float *x, int64_t stride, int64_t rows, int64_t cols, float *out) {
  static const cols_fn table[] = {[NNI_RED_rsum] = cols_sum, [NNI_RED_rprod] = cols_prod, [NNI_RED_rmax] = cols_max, [NNI_RED_rmin] = cols_min};
  const cols_fn fn = table[op];
  enum { GLUE = 128 };
  if (stride != cols || cols >= GLUE / 4 || rows * cols < 2 * GLUE) {
    fn(x, stride, rows, cols, out);
    return;
  }
  /* Few columns: several rows glued together make one wide row; its columns are joined afterwards, then the rows left over. */
  float wide[GLUE + VW]; /* the end is never used, but read */
  const int64_t glue = GLUE / cols, whole = rows / glue;
  fn(x, glue * cols, whole, glue * cols, wide);
  fn(wide, cols, glue, cols, out);
  if (whole * glue < rows) {
    float rest[GLUE + VW];
    memcpy(rest, out, (size_t)cols * sizeof *out);
    fn(x + whole * glue * cols, cols, rows - whole * glue, cols, rest + cols);
    fn(rest, cols, 2, cols, out);
  }
}

#define EACH(T, EXPR)                                                                                                                                \
  for (int64_t r = 0; r < rows; r++) {                                                                                                               \
    const T *p = x + r * stride;                                                                                                                     \
    for (int64_t c = 0; c < cols; c++) out[c] = (EXPR);                                                                                              \
  }
#define COLS_INT(name, T)                                                                                                                            \
  static void name(nni_redid op, const T *restrict x, int64_t stride, int64_t rows, int64_t cols, int64_t *restrict out) {                           \
    if (op == NNI_RED_rsum || op == NNI_RED_rprod)                                                                                                   \
      for (int64_t c = 0; c < cols; c++) out[c] = op == NNI_RED_rprod;                                                                               \
    else                                                                                                                                             \
      for (int64_t c = 0; c < cols; c++) out[c] = x[c];                                                                                              \
    if (op == NNI_RED_rsum) EACH(T, (int64_t)((uint64_t)out[c] + (uint64_t)(int64_t)p[c]))                                                           \
    else if (op == NNI_RED_rprod) EACH(T, (int64_t)((uint64_t)out[c] * (uint64_t)(int64_t)p[c]))                                                     \
    else if (op == NNI_RED_rmax) EACH(T, MAXI(out[c], p[c]))                                                                                         \
    else EACH(T, MINI(out[c], p[c]))                                                                                                                 \
  }
COLS_INT(cols_u8, uint8_t)
COLS_INT(cols_i32, int32_t)
COLS_INT(cols_i64, int64_t)

void NN_ISA_FN(nn_cpu_reduce_cols_int)(nni_redid op, nn_dtype d, const void *x, int64_t stride, int64_t rows, int64_t cols, int64_t *out) {
  switch (d) {
  case NN_I32: cols_i32(op, x, stride, rows, cols, out); break;
  case NN_I64: cols_i64(op, x, stride, rows, cols, out); break;
  default: cols_u8(op, x, stride, rows, cols, out); break;
  }
}

/* BETTER(v, b): v is to be taken instead of the earlier b */
#define ARG(T, S, BETTER)                                                                                                                            \
  {                                                                                                                                                  \
    const T *p = x;                                                                                                                                  \
    S best[NN_CPU_STRIP];                                                                                                                            \
    int32_t at[NN_CPU_STRIP];                                                                                                                        \
    for (int64_t c = 0; c < cols; c++) {                                                                                                             \
      best[c] = p[c];                                                                                                                                \
      at[c] = 0;                                                                                                                                     \
    }                                                                                                                                                \
    for (int32_t r = 1; r < (int32_t)rows; r++) {                                                                                                    \
      p += stride;                                                                                                                                   \
      for (int64_t c = 0; c < cols; c++) {                                                                                                           \
        const S v = p[c];                                                                                                                            \
        const bool take = BETTER(v, best[c]);                                                                                                        \
        best[c] = take ? v : best[c];                                                                                                                \
        at[c] = take ? r : at[c];                                                                                                                    \
      }                                                                                                                                              \
    }                                                                                                                                                \
    for (int64_t c = 0; c < cols; c++) STORE(best[c], at[c]);                                                                                        \
  }
#define GTF(v, b) (((v) > (b) && (b) == (b)) || ((v) != (v) && (b) == (b)))
#define LTF(v, b) (((v) < (b) && (b) == (b)) || ((v) != (v) && (b) == (b)))
#define GTI(v, b) ((v) > (b))
#define LTI(v, b) ((v) < (b))
#define COLS_ARG(name, T, S, G, L)                                                                                                                   \
  static void name(nni_redid op, const void *x, int64_t stride, int64_t rows, int64_t cols, int64_t row0, nn_cpu_part *out) {                        \
    if (op == NNI_RED_rargmax) ARG(T, S, G) else ARG(T, S, L)                                                                                        \
  }
#define STORE(b, i) (out[c] = (nn_cpu_part){(double)(b), 0, row0 + (i)})
COLS_ARG(arg_f32, float, float, GTF, LTF)
#undef STORE
#define STORE(b, i) (out[c] = (nn_cpu_part){0, (int64_t)(b), row0 + (i)})
COLS_ARG(arg_u8, uint8_t, int32_t, GTI, LTI)
COLS_ARG(arg_i32, int32_t, int32_t, GTI, LTI)
COLS_ARG(arg_i64, int64_t, int64_t, GTI, LTI)

void NN_ISA_FN(nn_cpu_reduce_cols_arg)(nni_redid op, nn_dtype d, const void *x, int64_t stride, int64_t rows, int64_t cols, int64_t row0,
                                       nn_cpu_part *out) {
  switch (d) {
  case NN_F32: arg_f32(op, x, stride, rows, cols, row0, out); break;
  case NN_I32: arg_i32(op, x, stride, rows, cols, row0, out); break;
  case NN_I64: arg_i64(op, x, stride, rows, cols, row0, out); break;
  default: arg_u8(op, x, stride, rows, cols, row0, out); break;
  }
}
