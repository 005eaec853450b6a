/* cpu/k_moments.c - the structural kernels moments and column_dots: two sums down the columns of (R, C), read once from memory.
**
** Rows are cut into blocks and columns into strips by shape alone. A block that stays in the caches is read twice (its mean, then squared differences from
** it), so that a variance far from the mean loses nothing; blocks are joined in order, in double (Chan, Golub, LeVeque, "Updating formulae and a
** pairwise algorithm for computing sample variances", 1979).
*/
#include "double.h"
#include "isa_kernels.h"

enum {
  AREA = 8192,   /* elements of a block: 32 KB */
  STRIP = 256,   /* most columns of a block */
  SERIAL = 16384 /* fewer elements than this are not worth waking a thread for */
};

typedef struct job {
  const float *a, *x, *mean; /* moments: x alone */
  int64_t R, C, rows, blocks, strips;
  float *part; /* (blocks, 2, C) */
  float *out[2];
} job;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static job make_job(const nni_kernel_call *k) {
  job j = {.R = k->in[0].shape[0], .C = k->in[0].shape[1], .part = k->scratch, .out = {k->out[0].data, k->out[1].data}};
  const int64_t width = j.C < STRIP ? j.C : STRIP;
  if (j.R == 0 || j.C == 0) return j;
  j.rows = AREA / width < j.R ? AREA / width : j.R;
  j.blocks = ceil_div(j.R, j.rows);
  j.strips = ceil_div(j.C, STRIP);
  return j;
}

static void run_blocks(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t b = i / j->strips, c = i % j->strips * STRIP, at = b * j->rows * j->C + c;
    const int64_t rows = j->R - b * j->rows < j->rows ? j->R - b * j->rows : j->rows, cols = j->C - c < STRIP ? j->C - c : STRIP;
    float *p = j->part + 2 * b * j->C + c;
    if (j->a) NN_ISA_PICK(nn_cpu_dots_block)(j->a + at, j->x + at, j->C, j->mean + c, rows, cols, p, p + j->C);
    else NN_ISA_PICK(nn_cpu_moments_block)(j->x + at, j->C, rows, cols, p, p + j->C);
  }
}

static void run(const nni_kernel_call *k, job *j) {
  if (j->R * j->C < SERIAL) run_blocks(j, 0, j->blocks * j->strips, 0);
  else nni_parallel(k->threads, j->blocks * j->strips, run_blocks, j);
}

nn_status nn_cpu_moments(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_moments_f64(k);
  job j = make_job(k);
  j.x = k->in[0].data;
  run(k, &j);
  for (int64_t c = 0; c < j.C; c++) {
    double mean = 0, squares = 0;
    for (int64_t b = 0; b < j.blocks; b++) {
      const float *p = j.part + 2 * b * j.C + c;
      const double n = (double)(j.R - b * j.rows < j.rows ? j.R - b * j.rows : j.rows), before = (double)(b * j.rows), d = (double)p[0] - mean;
      mean += d * n / (before + n);
      squares += (double)p[j.C] + d * d * before * n / (before + n);
    }
    j.out[0][c] = (float)mean;
    j.out[1][c] = (float)(squares / (double)j.R);
  }
  return NN_OK;
}

nn_status nn_cpu_column_dots(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_column_dots_f64(k);
  job j = make_job(k);
  j.a = k->in[0].data;
  j.x = k->in[1].data;
  j.mean = k->in[2].data;
  run(k, &j);
  for (int o = 0; o < 2; o++)
    for (int64_t c = 0; c < j.C; c++) {
      double s = 0;
      for (int64_t b = 0; b < j.blocks; b++) s += (double)j.part[(2 * b + o) * j.C + c];
      j.out[o][c] = (float)s;
    }
  return NN_OK;
}

size_t nn_cpu_moments_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const job j = make_job(k);
  return (size_t)(2 * j.blocks * j.C) * sizeof(float);
}
size_t nn_cpu_column_dots_scratch(const nni_kernel_call *k) { return nn_cpu_moments_scratch(k); }
