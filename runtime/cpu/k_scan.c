/* cpu/k_scan.c - running sums, products, extremes, logsumexps and first-order recurrences along the middle dim of (A, N, B).
**
** A thread owns whole lanes, so that an element never depends on how many threads there are. f32 is accumulated in double.
*/
#include <math.h>
#include "cpu.h"

enum { SERIAL = 1 << 13, STRIP = 64 };
enum { SUM, PROD, MAX, MIN, LSE, LINEAR };

typedef struct job {
  int op;
  bool reverse, exclusive;
  nn_dtype d;
  const void *x, *k; /* k: LINEAR's factors */
  void *y;
  int64_t *at; /* MAX and MIN: positions */
  int64_t a, n, b, strips;
} job;

static inline double add_logs(double a, double b) {
  const double hi = a > b ? a : b, lo = a > b ? b : a;
  if (a != a || b != b) return a + b;
  return lo == -(double)INFINITY || hi == (double)INFINITY ? hi : hi + log1p(exp(lo - hi));
}

/* W lanes from element `base` of (n, b) on; acc holds ACC, e is the element */
#define LANES(T, ACC, start, next)                                                                                                                   \
  {                                                                                                                                                  \
    const T *x = (const T *)j->x + base;                                                                                                             \
    T *y = (T *)j->y + base;                                                                                                                         \
    ACC acc[STRIP];                                                                                                                                  \
    for (int64_t i = 0; i < w; i++) acc[i] = (start);                                                                                                \
    for (int64_t s = 0; s < j->n; s++) {                                                                                                             \
      const int64_t r = (j->reverse ? j->n - 1 - s : s) * j->b;                                                                                      \
      for (int64_t i = 0; i < w; i++) {                                                                                                              \
        const ACC e = (ACC)x[r + i], c = acc[i];                                                                                                     \
        acc[i] = (next);                                                                                                                             \
        y[r + i] = (T)(j->exclusive ? c : acc[i]);                                                                                                   \
      }                                                                                                                                              \
    }                                                                                                                                                \
  }
#define BEST(T, better)                                                                                                                              \
  {                                                                                                                                                  \
    const T *x = (const T *)j->x + base;                                                                                                             \
    T *y = (T *)j->y + base;                                                                                                                         \
    int64_t *at = j->at + base, took[STRIP];                                                                                                         \
    T acc[STRIP];                                                                                                                                    \
    const int64_t first = j->reverse ? j->n - 1 : 0;                                                                                                 \
    for (int64_t i = 0; i < w; i++) acc[i] = x[first * j->b + i], took[i] = first;                                                                   \
    for (int64_t s = 0; s < j->n; s++) {                                                                                                             \
      const int64_t p = j->reverse ? j->n - 1 - s : s, r = p * j->b;                                                                                 \
      for (int64_t i = 0; i < w; i++) {                                                                                                              \
        const T e = x[r + i], c = acc[i];                                                                                                            \
        if (e != e || (c == c && (better))) acc[i] = e, took[i] = p;                                                                                 \
        y[r + i] = acc[i];                                                                                                                           \
        at[r + i] = took[i];                                                                                                                         \
      }                                                                                                                                              \
    }                                                                                                                                                \
  }

#define FLOATS(T)                                                                                                                                    \
  {                                                                                                                                                  \
    const T *k = j->k ? (const T *)j->k + base : NULL;                                                                                               \
    switch (j->op) {                                                                                                                                 \
    case SUM: LANES(T, double, 0, c + e) break;                                                                                                      \
    case PROD: LANES(T, double, 1, c *e) break;                                                                                                      \
    case MAX: BEST(T, e >= c) break;                                                                                                                 \
    case MIN: BEST(T, e <= c) break;                                                                                                                 \
    case LSE: LANES(T, double, -(double)INFINITY, add_logs(c, e)) break;                                                                             \
    default: LANES(T, double, 0, (double)k[r + i] * c + e) break;                                                                                    \
    }                                                                                                                                                \
  }
static inline __attribute__((always_inline)) void run_lanes(const job *j, int64_t base, int64_t w) {
  if (j->d == NN_F32) FLOATS(float)
  else if (j->d == NN_F64) FLOATS(double)
  else
    switch (j->op) {
    case SUM: LANES(int64_t, int64_t, 0, c + e) break;
    case PROD: LANES(int64_t, int64_t, 1, c *e) break;
    case MAX: BEST(int64_t, e >= c) break;
    default: BEST(int64_t, e <= c) break;
    }
}

static void scan_some(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t u = begin; u < end; u++) {
    const int64_t o = u / j->strips, i0 = u % j->strips * STRIP, w = j->b - i0 < STRIP ? j->b - i0 : STRIP;
    if (w == 1) run_lanes(j, o * j->n * j->b + i0, 1); /* a loop of its own, without the inner loop */
    else run_lanes(j, o * j->n * j->b + i0, w);
  }
}

nn_status nn_cpu_scan(const nni_kernel_call *k) {
  const nni_operand *x = &k->in[0];
  job j = {.op = (int)k->ia[0], .reverse = k->ia[1] != 0, .exclusive = k->ia[2] != 0, .d = x->dtype, .x = x->data, .y = k->out[0].data};
  j.a = x->shape[0], j.n = x->shape[1], j.b = x->shape[2];
  j.strips = (j.b + STRIP - 1) / STRIP;
  if (k->nin > 1) j.k = k->in[1].data;
  if (k->nout > 1) j.at = k->out[1].data;
  if (j.a * j.n * j.b == 0) return NN_OK;
  if ((j.d != NN_F32 && j.d != NN_F64 && (j.d != NN_I64 || j.op > MIN)) || (j.op == LINEAR && !j.k) || ((j.op == MAX || j.op == MIN) && !j.at))
    return nni_fail(k->err, NN_EINTERNAL, "scan: no such operands");
  if (j.a * j.n * j.b < SERIAL) scan_some(&j, 0, j.a * j.strips, 0);
  else nni_parallel(k->threads, j.a * j.strips, scan_some, &j);
  return NN_OK;
}

size_t nn_cpu_scan_scratch(const nni_kernel_call *k) { return (void)k, 0; }
