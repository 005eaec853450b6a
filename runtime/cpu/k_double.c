/* cpu/k_double.c - structural kernels of f64: matrix product, reduction, rows added by id, statistics of columns, LSTM cells.
**
** f64 is for checking gradients and for numbers that need it: these are plain loops shared out over the threads, each result computed by one
** of them in one order, whatever their number.
*/
#include <math.h>
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

/* ---- statistics of the columns of (R, C): a thread owns columns ---------------------------------------------------------------------- */
typedef struct columns {
  int64_t R, C;
  const double *a, *x, *mean; /* moments: x alone */
  double *out[2];
} columns;

/* out[0] = sum of a, out[1] = sum of a (x - mean), over columns begin..end-1 */
static void dot_columns(void *arg, int64_t begin, int64_t end, int tid) {
  const columns *j = arg;
  (void)tid;
  for (int64_t c = begin; c < end; c++) j->out[0][c] = j->out[1][c] = 0;
  for (int64_t r = 0; r < j->R; r++)
    for (int64_t c = begin; c < end; c++) {
      const double v = j->a[r * j->C + c];
      j->out[0][c] += v;
      j->out[1][c] += v * (j->x[r * j->C + c] - j->mean[c]);
    }
}

static void moments_columns(void *arg, int64_t begin, int64_t end, int tid) {
  const columns *j = arg;
  double *mean = j->out[0], *variance = j->out[1];
  (void)tid;
  for (int64_t c = begin; c < end; c++) mean[c] = variance[c] = 0;
  for (int64_t r = 0; r < j->R; r++)
    for (int64_t c = begin; c < end; c++) mean[c] += j->x[r * j->C + c];
  for (int64_t c = begin; c < end; c++) mean[c] /= (double)j->R;
  for (int64_t r = 0; r < j->R; r++)
    for (int64_t c = begin; c < end; c++) {
      const double d = j->x[r * j->C + c] - mean[c];
      variance[c] += d * d;
    }
  for (int64_t c = begin; c < end; c++) variance[c] /= (double)j->R;
}

static nn_status run_columns(const nni_kernel_call *k, nni_block_fn fn, columns *j) {
  j->R = k->in[0].shape[0];
  j->C = k->in[0].shape[1];
  for (int i = 0; i < 2; i++) j->out[i] = k->out[i].data;
  if (j->R * j->C < SERIAL || j->C < 16) fn(j, 0, j->C, 0);
  else nni_parallel(k->threads, j->C, fn, j);
  return NN_OK;
}

nn_status nn_cpu_moments_f64(const nni_kernel_call *k) { return run_columns(k, moments_columns, &(columns){.x = k->in[0].data}); }
nn_status nn_cpu_column_dots_f64(const nni_kernel_call *k) {
  return run_columns(k, dot_columns, &(columns){.a = k->in[0].data, .x = k->in[1].data, .mean = k->in[2].data});
}

/* ---- LSTM: a thread takes some rows of the batch through all steps (k_lstm.c says what is computed) ------------------------------------ */
typedef struct cells {
  int64_t N, T, H;
  const double *x, *w, *h0, *c0, *dh, *dc, *dgates; /* cotangents may be NULL */
  const double *c_in, *gates_in;                    /* lstm_dx: what lstm gave */
  double *h, *c, *gates, *dx, *dh0, *dc0;
} cells;

static void run_cells(const nni_kernel_call *k, nni_block_fn fn, cells *j) {
  if (j->N * j->T * j->H * j->H < SERIAL) fn(j, 0, j->N, 0);
  else nni_parallel(k->threads, j->N, fn, j);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void step(const cells *j, int64_t at, const double *h, const double *c) {
  const int64_t H = j->H;
  double *z = j->gates + at * 4 * H;
  memcpy(z, j->x + at * 4 * H, (size_t)(4 * H) * sizeof *z);
  for (int64_t k = 0; k < H; k++) {
    const double *restrict w = j->w + k * 4 * H;
    for (int64_t i = 0; i < 4 * H; i++) z[i] += h[k] * w[i];
  }
  for (int64_t i = 0; i < 4 * H; i++) z[i] = i / H == 2 ? tanh(z[i]) : sigmoid(z[i]);
  for (int64_t k = 0; k < H; k++) {
    const double cell = z[H + k] * c[k] + z[k] * z[2 * H + k];
    j->c[at * H + k] = cell;
    j->h[at * H + k] = z[3 * H + k] * tanh(cell);
  }
}

static void forward(void *arg, int64_t begin, int64_t end, int tid) {
  const cells *j = arg;
  (void)tid;
  for (int64_t at = begin * j->T; at < end * j->T; at++) {
    const bool first = at % j->T == 0;
    const int64_t n = at / j->T;
    step(j, at, first ? j->h0 + n * j->H : j->h + (at - 1) * j->H, first ? j->c0 + n * j->H : j->c + (at - 1) * j->H);
  }
}

nn_status nn_cpu_lstm_f64(const nni_kernel_call *k) {
  const nni_operand *in = k->in;
  cells j = {.N = in[0].shape[0], .T = in[0].shape[1], .H = in[1].shape[0], .x = in[0].data, .w = in[1].data, .h0 = in[2].data, .c0 = in[3].data};
  j.h = k->out[0].data;
  j.c = k->out[1].data;
  j.gates = k->out[2].data;
  run_cells(k, forward, &j);
  return NN_OK;
}

static double or_zero(const double *p, int64_t i) { return p ? p[i] : 0; }

/* dh, dc (H): cotangents of the states after step `at`, replaced by those before it */
static void step_back(const cells *j, int64_t at, const double *before, double *dh, double *dc) {
  const int64_t H = j->H;
  const double *i = j->gates_in + at * 4 * H, *f = i + H, *a = f + H, *o = a + H;
  double *dz = j->dx + at * 4 * H;
  for (int64_t k = 0; k < H; k++) {
    const double y = tanh(j->c_in[at * H + k]), d = dh[k] + or_zero(j->dh, at * H + k);
    const double e = dc[k] + or_zero(j->dc, at * H + k) + d * o[k] * (1 - y * y), gates[4] = {e * a[k], e * before[k], e * i[k], d * y};
    for (int64_t q = 0; q < 4; q++) {
      const double g = i[q * H + k];
      dz[q * H + k] = (gates[q] + or_zero(j->dgates, at * 4 * H + q * H + k)) * (q == 2 ? 1 - g * g : g * (1 - g));
    }
    dc[k] = e * f[k];
  }
  for (int64_t k = 0; k < H; k++) {
    const double *w = j->w + k * 4 * H;
    dh[k] = 0;
    for (int64_t q = 0; q < 4 * H; q++) dh[k] += dz[q] * w[q];
  }
}

static void backward(void *arg, int64_t begin, int64_t end, int tid) {
  const cells *j = arg;
  const int64_t T = j->T, H = j->H;
  (void)tid;
  memset(j->dh0 + begin * H, 0, (size_t)((end - begin) * H) * sizeof(double));
  memset(j->dc0 + begin * H, 0, (size_t)((end - begin) * H) * sizeof(double));
  for (int64_t n = begin; n < end; n++)
    for (int64_t t = T - 1; t >= 0; t--)
      step_back(j, n * T + t, t ? j->c_in + (n * T + t - 1) * H : j->c0 + n * H, j->dh0 + n * H, j->dc0 + n * H);
}

nn_status nn_cpu_lstm_dx_f64(const nni_kernel_call *k) {
  const nni_operand *in = k->in;
  cells j = {.N = in[2].shape[0], .T = in[2].shape[1], .H = in[0].shape[0], .w = in[0].data, .c0 = in[1].data, .c_in = in[2].data, .gates_in = in[3].data};
  int next = 4;
  if (k->ia[0] & 1) j.dh = in[next++].data;
  if (k->ia[0] & 2) j.dc = in[next++].data;
  if (k->ia[0] & 4) j.dgates = in[next].data;
  j.dx = k->out[0].data;
  j.dh0 = k->out[1].data;
  j.dc0 = k->out[2].data;
  run_cells(k, backward, &j);
  return NN_OK;
}
