/* cpu/k_matmul.c - the matrix product: cuts it into pieces and shares them out over the threads.
**
** With our own product an element of the result does not depend on the cut (isa/gemm.c), so pieces are joined again when a thread has
** neighbouring ones. A BLAS gives other bits when a product is cut elsewhere: its pieces are those of the shape, never joined.
*/
#include "blas.h"
#include "double.h"
#include "isa_kernels.h"

enum {
  UNIT_N = 32,     /* a piece is a multiple of this many columns, */
  UNIT_M = 48,     /* and of this many rows */
  PIECE = 1 << 19, /* floating-point operations of a piece, about; */
  FETCH = 16,      /* reading an element of B once counts as so many of them */
  SMALL = 200000   /* fewer operations than this are done by the calling thread */
};

typedef struct job {
  const nni_kernel_call *k;
  nn_cpu_gemm g; /* of the first matrix */
  int nbatch;    /* batch dims */
  int64_t batches;
  int64_t tm, tn;     /* pieces of a matrix along M and N */
  int64_t rows, cols; /* of a piece */
  bool blas;          /* try it */
} job;

/* Ours is as fast as OpenBLAS with AVX2 and twice as fast with AVX-512 (measured on Zen 5 with OpenBLAS 0.3.21, which has no kernel of its
** own for it); without them a BLAS is worth loading, for products that are not small. */
static bool prefer_blas(double flops) { return nn_cpu_blas_wanted() && flops >= SMALL; }

void nn_cpu_gemm_run(const nn_cpu_gemm *g) {
  if (g->m == 0 || g->n == 0) return;
  if (g->k == 0) {
    for (int64_t i = 0; i < g->m; i++) memset(g->c + i * g->ldc, 0, (size_t)g->n * sizeof(float));
    return;
  }
  NN_ISA_PICK(nn_cpu_gemm_own)(g);
}

int64_t nn_cpu_gemm_packed_size(int64_t n, int64_t k) { return (n + UNIT_N - 1) / UNIT_N * UNIT_N * k; }
void nn_cpu_gemm_pack(const nn_cpu_gemm *g, float *out) { NN_ISA_PICK(nn_cpu_gemm_pack_own)(g, out); }

/* Matrix number i. */
static nn_cpu_gemm matrix(const job *j, int64_t i) {
  nn_cpu_gemm g = j->g;
  g.c += i * g.m * g.n;
  for (int d = j->nbatch - 1; d >= 0; d--) {
    const int64_t p = i % j->k->out[0].shape[d];
    i /= j->k->out[0].shape[d];
    g.a += p * j->k->in[0].stride[d];
    g.b += p * j->k->in[1].stride[d];
  }
  return g;
}

/* Pieces are numbered (matrix, columns, rows), rows fastest: neighbouring row pieces of the same columns are done as one. */
static void run_pieces(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end;) {
    const int64_t per = j->tm * j->tn, r = i % per, pn = r / j->tm, pm = r % j->tm;
    int64_t take = 1, wide = 1;
    if (j->blas) {
      ;                                       /* one at a time */
    } else if (pm == 0 && end - i >= j->tm) { /* whole columns: as many column pieces as the range holds */
      take = j->tm;
      wide = (end - i) / j->tm < j->tn - pn ? (end - i) / j->tm : j->tn - pn;
    } else {
      take = end - i < j->tm - pm ? end - i : j->tm - pm;
    }
    nn_cpu_gemm g = matrix(j, i / per);
    const int64_t m0 = pm * j->rows, n0 = pn * j->cols;
    const int64_t m = g.m - m0 < take * j->rows ? g.m - m0 : take * j->rows, n = g.n - n0 < wide * j->cols ? g.n - n0 : wide * j->cols;
    g.a += m0 * g.am;
    g.b += n0 * g.bn;
    g.c += m0 * g.ldc + n0;
    g.m = m;
    g.n = n;
    if (!j->blas || !nn_cpu_blas_gemm(&g)) nn_cpu_gemm_run(&g);
    i += take * wide;
  }
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* How a matrix is cut: first along N (a piece then packs its own columns of B), along M when that does not give enough. */
static void cut(job *j) {
  const nn_cpu_gemm *g = &j->g;
  const double flops = (2.0 * (double)g->m + FETCH) * (double)g->n * (double)g->k;
  int64_t want = flops / PIECE < 1 ? 1 : flops / PIECE > 64 ? 64 : (int64_t)(flops / PIECE);
  const int64_t units_n = ceil_div(g->n, UNIT_N), units_m = ceil_div(g->m, UNIT_M);
  j->cols = ceil_div(units_n, want < units_n ? want : units_n) * UNIT_N;
  j->tn = ceil_div(g->n, j->cols);
  want = ceil_div(want, j->tn);
  j->rows = ceil_div(units_m, want < units_m ? want : units_m) * UNIT_M;
  j->tm = ceil_div(g->m, j->rows);
}

nn_status nn_cpu_matmul(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_matmul_f64(k);
  const nni_operand *a = &k->in[0], *b = &k->in[1], *c = &k->out[0];
  const int d = a->ndim - 2;
  job j = {.k = k, .nbatch = d, .batches = 1};
  j.g = (nn_cpu_gemm){a->data,      b->data,          c->data,      a->shape[d],      b->shape[d + 1], a->shape[d + 1],
                      a->stride[d], a->stride[d + 1], b->stride[d], b->stride[d + 1], b->shape[d + 1], NULL};
  for (int i = 0; i < d; i++) j.batches *= c->shape[i];
  if (j.batches == 0 || j.g.m == 0 || j.g.n == 0) return NN_OK;
  /* One B for a whole batch of A that lie below one another: one tall product. */
  while (j.nbatch > 0) {
    const int e = j.nbatch - 1;
    if (c->shape[e] != 1 && (b->stride[e] != 0 || a->stride[e] != j.g.m * j.g.am)) break;
    j.g.m *= c->shape[e];
    j.batches /= c->shape[e];
    j.nbatch--;
  }
  cut(&j);
  j.blas = prefer_blas(2.0 * (double)j.g.m * (double)j.g.n * (double)j.g.k);
  const int64_t pieces = j.batches * j.tm * j.tn;
  if ((2.0 * (double)j.g.m + FETCH) * (double)j.batches * (double)j.g.n * (double)j.g.k < SMALL) run_pieces(&j, 0, pieces, 0);
  else nni_parallel(k->threads, pieces, run_pieces, &j);
  return NN_OK;
}

size_t nn_cpu_matmul_scratch(const nni_kernel_call *k) { return (void)k, 0; }
