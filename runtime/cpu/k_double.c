/* cpu/k_double.c - the structural kernels of f64: matrix product, reduction, rows added by id.
**
** f64 is for checking gradients and for numbers that need it: these are plain loops shared out over the threads, each result computed by one
** of them in one order, whatever their number.
*/
#include "double.h"

enum { SERIAL = 1 << 14, ROWS = 8, STRIP = 256 };

/* ---- matrix product: blocks of ROWS rows of one matrix ---------------------------------------------------------------------------- */
typedef struct product {
  const nni_kernel_call *k;
  int nbatch;
  int64_t m, n, depth, blocks; /* blocks: of rows, per matrix */
} product;

static void product_rows(const product *p, const double *a, const double *b, double *c, int64_t rows) {
  const nni_operand *oa = &p->k->in[0], *ob = &p->k->in[1];
  const int64_t am = oa->stride[p->nbatch], ak = oa->stride[p->nbatch + 1], bk = ob->stride[p->nbatch], bn = ob->stride[p->nbatch + 1];
  memset(c, 0, (size_t)(rows * p->n) * sizeof *c);
  for (int64_t k = 0; k < p->depth; k++)
    for (int64_t i = 0; i < rows; i++) {
      const double x = a[i * am + k * ak], *restrict y = b + k * bk;
      double *restrict z = c + i * p->n;
      if (bn == 1)
        for (int64_t j = 0; j < p->n; j++) z[j] += x * y[j];
      else
        for (int64_t j = 0; j < p->n; j++) z[j] += x * y[j * bn];
    }
}

static void product_blocks(void *arg, int64_t begin, int64_t end, int tid) {
  const product *p = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t r0 = i % p->blocks * ROWS, rows = p->m - r0 < ROWS ? p->m - r0 : ROWS;
    const double *a = p->k->in[0].data, *b = p->k->in[1].data;
    int64_t matrix = i / p->blocks;
    double *c = (double *)p->k->out[0].data + (matrix * p->m + r0) * p->n;
    for (int d = p->nbatch - 1; d >= 0; d--) {
      const int64_t at = matrix % p->k->out[0].shape[d];
      matrix /= p->k->out[0].shape[d];
      a += at * p->k->in[0].stride[d];
      b += at * p->k->in[1].stride[d];
    }
    product_rows(p, a + r0 * p->k->in[0].stride[p->nbatch], b, c, rows);
  }
}

nn_status nn_cpu_matmul_f64(const nni_kernel_call *k) {
  const int d = k->in[0].ndim - 2;
  product p = {.k = k, .nbatch = d, .m = k->in[0].shape[d], .n = k->in[1].shape[d + 1], .depth = k->in[0].shape[d + 1]};
  int64_t matrices = 1;
  for (int i = 0; i < d; i++) matrices *= k->out[0].shape[i];
  p.blocks = (p.m + ROWS - 1) / ROWS;
  if (matrices == 0 || p.m == 0 || p.n == 0) return NN_OK;
  if (matrices * p.m * p.n * p.depth < SERIAL) product_blocks(&p, 0, matrices * p.blocks, 0);
  else nni_parallel(k->threads, matrices * p.blocks, product_blocks, &p);
  return NN_OK;
}

/* ---- reduction: (outer, n, inner) -> (outer, inner), STRIP columns at a time ------------------------------------------------------- */
typedef struct job {
  nni_redid op;
  const double *x;
  double *out;
  int64_t *at; /* positions */
  int64_t n, inner, strips;
} job;

static void reduce_strips(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t c0 = i % j->strips * STRIP, cols = j->inner - c0 < STRIP ? j->inner - c0 : STRIP, o = i / j->strips;
    const bool min = j->op == NNI_RED_rmin || j->op == NNI_RED_rargmin;
    double acc[STRIP];
    int64_t at[STRIP] = {0};
    memcpy(acc, j->x + o * j->n * j->inner + c0, (size_t)cols * sizeof *acc);
    for (int64_t r = 1; r < j->n; r++) {
      const double *x = j->x + (o * j->n + r) * j->inner + c0;
      for (int64_t c = 0; c < cols; c++) {
        if (j->op == NNI_RED_rsum) acc[c] += x[c];
        else if (j->op == NNI_RED_rprod) acc[c] *= x[c];
        else if (acc[c] == acc[c] && (x[c] != x[c] || (min ? x[c] < acc[c] : x[c] > acc[c]))) acc[c] = x[c], at[c] = r;
      }
    }
    if (j->at) memcpy(j->at + o * j->inner + c0, at, (size_t)cols * sizeof *at);
    else memcpy(j->out + o * j->inner + c0, acc, (size_t)cols * sizeof *acc);
  }
}

nn_status nn_cpu_reduce_f64(const nni_kernel_call *k) {
  const int64_t outer = k->ia[1];
  job j = {.op = (nni_redid)k->ia[0], .x = k->in[0].data, .out = k->out[0].data, .n = k->ia[2], .inner = k->ia[3]};
  if (j.op == NNI_RED_rargmax || j.op == NNI_RED_rargmin) j.at = k->out[0].data;
  if (outer == 0 || j.inner == 0) return NN_OK;
  if (j.n == 0) {
    const double empty = j.op == NNI_RED_rprod ? 1 : j.op == NNI_RED_rmax ? -__builtin_inf() : j.op == NNI_RED_rmin ? __builtin_inf() : 0;
    for (int64_t i = 0; i < outer * j.inner; i++) {
      if (j.at) j.at[i] = 0;
      else j.out[i] = empty;
    }
    return NN_OK;
  }
  j.strips = (j.inner + STRIP - 1) / STRIP;
  if (outer * j.n * j.inner < SERIAL) reduce_strips(&j, 0, outer * j.strips, 0);
  else nni_parallel(k->threads, outer * j.strips, reduce_strips, &j);
  return NN_OK;
}

/* ---- rows by id: a thread owns columns ---------------------------------------------------------------------------------------------- */
typedef struct add {
  bool wide;
  const void *ids;
  const double *in;
  double *out;
  int64_t n, width;
} add;

static void add_columns(void *arg, int64_t begin, int64_t end, int tid) {
  const add *a = arg;
  (void)tid;
  for (int64_t i = 0; i < a->n; i++) {
    const int64_t id = a->wide ? ((const int64_t *)a->ids)[i] : ((const int32_t *)a->ids)[i];
    for (int64_t c = begin; c < end; c++) a->out[id * a->width + c] += a->in[i * a->width + c];
  }
}

void nn_cpu_add_rows_f64(nni_threads *t, nn_dtype idtype, const void *ids, int64_t n, const double *in, double *out, int64_t width) {
  add a = {idtype == NN_I64, ids, in, out, n, width};
  if (n * width < SERIAL || width < 16) add_columns(&a, 0, width, 0);
  else nni_parallel(t, width, add_columns, &a);
}
