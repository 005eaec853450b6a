/* cpu/isa/moments.c - sums down the columns of a block of rows. See ../isa_kernels.h; called by ../k_moments.c.
**
** Columns go by vectors; rows in fours with a sum each, so that additions don't wait for one another.
*/
#include "../isa_kernels.h"
#include "vec.h"

NN_AINLINE vf load(const float *p, int64_t n) { return n >= VW ? vf_load(p) : vf_load_n(p, n); }
NN_AINLINE void store(float *p, vf v, int64_t n) {
  if (n >= VW) vf_store(p, v);
  else vf_store_n(p, v, n);
}

NN_AINLINE vf column_sum(const float *x, int64_t stride, int64_t rows, int64_t n) {
  vf s[4] = {{0}, {0}, {0}, {0}};
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride)
    NN_UNROLL for (int i = 0; i < 4; i++) s[i] += load(x + i * stride, n);
  for (; r < rows; r++, x += stride) s[0] += load(x, n);
  return (s[0] + s[1]) + (s[2] + s[3]);
}

NN_AINLINE vf column_squares(const float *x, int64_t stride, int64_t rows, vf mean, int64_t n) {
  vf s[4] = {{0}, {0}, {0}, {0}};
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride)
    NN_UNROLL for (int i = 0; i < 4; i++) {
      const vf d = load(x + i * stride, n) - mean;
      s[i] += d * d;
    }
  for (; r < rows; r++, x += stride) {
    const vf d = load(x, n) - mean;
    s[0] += d * d;
  }
  return (s[0] + s[1]) + (s[2] + s[3]);
}

NN_AINLINE void column_dots(const float *a, const float *x, int64_t stride, int64_t rows, vf mean, int64_t n, vf *sum, vf *dot) {
  vf s[4] = {{0}, {0}, {0}, {0}}, d[4] = {{0}, {0}, {0}, {0}};
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, a += 4 * stride, x += 4 * stride)
    NN_UNROLL for (int i = 0; i < 4; i++) {
      const vf v = load(a + i * stride, n);
      s[i] += v;
      d[i] += v * (load(x + i * stride, n) - mean);
    }
  for (; r < rows; r++, a += stride, x += stride) {
    const vf v = load(a, n);
    s[0] += v;
    d[0] += v * (load(x, n) - mean);
  }
  *sum = (s[0] + s[1]) + (s[2] + s[3]);
  *dot = (d[0] + d[1]) + (d[2] + d[3]);
}

void NN_ISA_FN(nn_cpu_moments_block)(const float *x, int64_t stride, int64_t rows, int64_t cols, float *mean, float *squares) {
  const vf count = vf_set1((float)rows);
  for (int64_t c = 0; c < cols; c += VW) {
    const int64_t n = cols - c;
    const vf m = (n >= VW ? column_sum(x + c, stride, rows, VW) : column_sum(x + c, stride, rows, n)) / count;
    store(mean + c, m, n);
    store(squares + c, n >= VW ? column_squares(x + c, stride, rows, m, VW) : column_squares(x + c, stride, rows, m, n), n);
  }
}

void NN_ISA_FN(nn_cpu_dots_block)(const float *a, const float *x, int64_t stride, const float *mean, int64_t rows, int64_t cols, float *sum, float *dot) {
  for (int64_t c = 0; c < cols; c += VW) {
    const int64_t n = cols - c;
    const vf m = load(mean + c, n);
    vf s, d;
    if (n >= VW) column_dots(a + c, x + c, stride, rows, m, VW, &s, &d);
    else column_dots(a + c, x + c, stride, rows, m, n, &s, &d);
    store(sum + c, s, n);
    store(dot + c, d, n);
  }
}
