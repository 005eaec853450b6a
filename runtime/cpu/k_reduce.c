/* cpu/k_reduce.c - the general reduction: (outer, n, inner) -> (outer, inner).
**
** A tree whose form depends on the sizes alone, so that any number of threads gives the same bits. inner == 1: each row is cut into runs of
** RUN elements. inner > 1: the rows are cut into blocks and the columns into strips. When there is more than one run or block, partial
** results go to scratch and a second step joins them in order.
*/
#include "double.h"
#include "isa_kernels.h"

enum {
  RUN = 16384,       /* elements of one run */
  AREA = 32768,      /* elements of one block of rows times columns */
  MIN_ROWS = 32,     /* least rows of a block: bounds the scratch and what joining costs */
  MAX_ROWS = 1 << 20 /* most rows of a block: row numbers within one are 32 bits */
};

typedef struct job {
  nni_redid op;
  nn_dtype d, od;
  const char *x;
  char *out;
  int64_t size, osize; /* bytes per element of x and out */
  int64_t outer, n, inner;
  int64_t step;   /* elements of a run, rows of a block */
  int64_t blocks; /* runs or blocks along n */
  int64_t strips; /* along inner */
  void *part;     /* blocks > 1. inner == 1 or arg: nn_cpu_part, else float or int64_t; (outer, blocks, inner) */
} job;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static bool is_arg(nni_redid op) { return op == NNI_RED_rargmax || op == NNI_RED_rargmin; }

static job make_job(const nni_kernel_call *k) {
  job j = {.op = (nni_redid)k->ia[0], .d = k->in[0].dtype, .od = k->out[0].dtype, .x = k->in[0].data, .out = k->out[0].data};
  j.outer = k->ia[1];
  j.n = k->ia[2];
  j.inner = k->ia[3];
  j.size = (int64_t)nn_dtype_size(j.d);
  j.osize = (int64_t)nn_dtype_size(j.od);
  j.part = k->scratch;
  if (j.outer == 0 || j.n == 0 || j.inner == 0) return j;
  if (j.inner == 1) {
    j.step = RUN;
  } else {
    j.step = AREA / (j.inner < NN_CPU_STRIP ? j.inner : NN_CPU_STRIP);
    if (j.step < MIN_ROWS) j.step = MIN_ROWS;
    if (j.step > MAX_ROWS) j.step = MAX_ROWS;
  }
  j.blocks = ceil_div(j.n, j.step);
  j.strips = ceil_div(j.inner, NN_CPU_STRIP);
  return j;
}

/* bytes of one partial result */
static size_t part_size(const job *j) {
  return j->inner == 1 || is_arg(j->op) ? sizeof(nn_cpu_part) : j->d == NN_F32 ? sizeof(float) : sizeof(int64_t);
}

static void put(const job *j, int64_t i, nn_cpu_part p) {
  char *o = j->out + i * j->osize;
  const float f = (float)p.f;
  if (is_arg(j->op)) memcpy(o, &p.at, sizeof p.at);
  else if (j->d == NN_F32) memcpy(o, &f, sizeof f);
  else NN_ISA_PICK(nn_cpu_copy_row)(j->od, o, 1, NN_I64, &p.v, 1, 1);
}

/* ---- inner == 1 -------------------------------------------------------------------------------------------------------------- */
static void reduce_runs(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  nn_cpu_part *part = j->part;
  (void)tid;
  if (j->blocks == 1 && j->d == NN_F32 && !is_arg(j->op)) {
    NN_ISA_PICK(nn_cpu_reduce_rows_f32)(j->op, (const float *)(const void *)j->x + begin * j->n, j->n, end - begin, (float *)(void *)j->out + begin);
    return;
  }
  for (int64_t i = begin; i < end; i++) {
    const int64_t o = i / j->blocks, r0 = i % j->blocks * j->step, left = j->n - r0;
    nn_cpu_part p = NN_ISA_PICK(nn_cpu_reduce_run)(j->op, j->d, j->x + (o * j->n + r0) * j->size, left < j->step ? left : j->step);
    if (j->blocks == 1) {
      put(j, o, p);
    } else {
      p.at += r0;
      part[i] = p;
    }
  }
}
static void join_runs(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t o = begin; o < end; o++) {
    const nn_cpu_part *part = (const nn_cpu_part *)j->part + o * j->blocks;
    nn_cpu_part p = part[0];
    for (int64_t b = 1; b < j->blocks; b++) p = NN_ISA_PICK(nn_cpu_reduce_join)(j->op, j->d == NN_F32, p, part[b]);
    put(j, o, p);
  }
}

/* ---- inner > 1 --------------------------------------------------------------------------------------------------------------- */
/* Columns c0..c0+cols of rows >= 1 rows of x, `stride` apart, to elements `to` of out (last) or of the partial results. */
static void reduce_strip(const job *j, nn_dtype d, const char *x, int64_t rows, int64_t cols, int64_t row0, int64_t to, bool last) {
  if (is_arg(j->op)) {
    nn_cpu_part local[NN_CPU_STRIP];
    nn_cpu_part *p = last ? local : (nn_cpu_part *)j->part + to;
    NN_ISA_PICK(nn_cpu_reduce_cols_arg)(j->op, d, x, j->inner, rows, cols, row0, p);
    for (int64_t c = 0; last && c < cols; c++) put(j, to + c, p[c]);
  } else if (d == NN_F32) {
    float *y = last ? (float *)(void *)j->out : (float *)j->part;
    NN_ISA_PICK(nn_cpu_reduce_cols_f32)(j->op, (const float *)(const void *)x, j->inner, rows, cols, y + to);
  } else {
    int64_t local[NN_CPU_STRIP];
    int64_t *p = last ? local : (int64_t *)j->part + to;
    NN_ISA_PICK(nn_cpu_reduce_cols_int)(j->op, d, x, j->inner, rows, cols, p);
    if (last) NN_ISA_PICK(nn_cpu_copy_row)(j->od, j->out + to * j->osize, 1, NN_I64, p, 1, cols);
  }
}
static int64_t strip_cols(const job *j, int64_t c0) { return j->inner - c0 < NN_CPU_STRIP ? j->inner - c0 : NN_CPU_STRIP; }

static void reduce_blocks(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t c0 = i % j->strips * NN_CPU_STRIP, ob = i / j->strips, o = ob / j->blocks, r0 = ob % j->blocks * j->step;
    const int64_t rows = j->n - r0 < j->step ? j->n - r0 : j->step;
    reduce_strip(j, j->d, j->x + ((o * j->n + r0) * j->inner + c0) * j->size, rows, strip_cols(j, c0), r0, ob * j->inner + c0, j->blocks == 1);
  }
}
static void join_blocks(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    const int64_t c0 = i % j->strips * NN_CPU_STRIP, o = i / j->strips, cols = strip_cols(j, c0), to = o * j->inner + c0;
    const int64_t from = o * j->blocks * j->inner + c0;
    if (is_arg(j->op)) {
      const nn_cpu_part *part = (const nn_cpu_part *)j->part + from;
      for (int64_t c = 0; c < cols; c++) {
        nn_cpu_part p = part[c];
        for (int64_t b = 1; b < j->blocks; b++) p = NN_ISA_PICK(nn_cpu_reduce_join)(j->op, j->d == NN_F32, p, part[b * j->inner + c]);
        put(j, to + c, p);
      }
    } else {
      reduce_strip(j, j->d == NN_F32 ? NN_F32 : NN_I64, (const char *)j->part + (size_t)from * part_size(j), j->blocks, cols, 0, to, true);
    }
  }
}

/* ---- the kernel -------------------------------------------------------------------------------------------------------------- */
/* What an empty reduction gives: the identity; the least or greatest integer for rmax and rmin, position 0 for rargmax and rargmin. */
static void fill_identity(const job *j) {
  nn_cpu_part p = {0};
  const bool max = j->op == NNI_RED_rmax, wide = j->od == NN_I64;
  if (j->op == NNI_RED_rprod) p.f = 1, p.v = 1;
  if (max || j->op == NNI_RED_rmin) {
    p.f = max ? -(double)__builtin_inff() : (double)__builtin_inff();
    p.v = wide ? (max ? INT64_MIN : INT64_MAX) : j->od == NN_I32 ? (max ? INT32_MIN : INT32_MAX) : max ? 0 : j->od == NN_BOOL ? 1 : 255;
  }
  for (int64_t i = 0; i < j->outer * j->inner; i++) put(j, i, p);
}

nn_status nn_cpu_reduce(const nni_kernel_call *k) {
  if (k->in[0].dtype == NN_F64) return nn_cpu_reduce_f64(k);
  job j = make_job(k);
  if (j.outer == 0 || j.inner == 0) return NN_OK;
  if (j.n == 0) {
    fill_identity(&j);
    return NN_OK;
  }
  const int64_t units = j.outer * j.blocks * j.strips, joins = j.outer * j.strips;
  const nni_block_fn first = j.inner == 1 ? reduce_runs : reduce_blocks, second = j.inner == 1 ? join_runs : join_blocks;
  if (j.outer * j.n * j.inner <= AREA) first(&j, 0, units, 0);
  else nni_parallel(k->threads, units, first, &j);
  if (j.blocks == 1) return NN_OK;
  if (joins * j.blocks <= 4096) second(&j, 0, joins, 0);
  else nni_parallel(k->threads, joins, second, &j);
  return NN_OK;
}

size_t nn_cpu_reduce_scratch(const nni_kernel_call *k) {
  if (k->in[0].dtype == NN_F64) return 0;
  const job j = make_job(k);
  return j.blocks > 1 ? (size_t)(j.outer * j.blocks * j.inner) * part_size(&j) : 0;
}
