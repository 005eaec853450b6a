/* cpu/k_lstm.c - the structural kernels lstm and lstm_dx: all steps of a layer of LSTM cells.
**
** Rows of the batch never meet, so each thread takes some rows through all steps and no step waits for another thread; the weight is packed once and
** stays in the caches. An element depends on its row alone (cpu/cpu.h, nn_cpu_gemm), so who takes which rows changes no bit.
** Letters: N batch, T steps, H cells.
*/
#include <string.h>
#include "double.h"
#include "isa_kernels.h"

enum { SERIAL = 200000 }; /* fewer operations than this are done by the calling thread */

typedef struct job {
  int64_t N, T, H;
  const float *x, *c0, *h0, *dh, *dc, *dgates; /* cotangents may be NULL */
  const float *c_in, *gates_in;                /* lstm_dx: what lstm gave */
  const float *weight;                         /* packed */
  float *h, *c, *gates;                        /* lstm */
  float *dx, *dh0, *dc0;                       /* lstm_dx */
  float *hw;                                   /* lstm: (N, 4H) */
} job;

static size_t packed_bytes(int64_t n, int64_t k) { return ((size_t)nn_cpu_gemm_packed_size(n, k) * sizeof(float) + 63) & ~(size_t)63; }

static void pack(float *out, const float *w, int64_t n, int64_t k, int64_t bk, int64_t bn) {
  nn_cpu_gemm_pack(&(nn_cpu_gemm){.b = w, .n = n, .k = k, .bk = bk, .bn = bn}, out);
}

static void run_rows(const nni_kernel_call *k, const job *j, nni_block_fn fn, job *arg) {
  if (j->N * j->T * j->H * j->H * 8 < SERIAL) fn(arg, 0, j->N, 0);
  else nni_parallel(k->threads, j->N, fn, arg);
}

static void forward(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t T = j->T, H = j->H;
  (void)tid;
  for (int64_t t = 0; t < T; t++) {
    nn_cpu_gemm g = {.m = end - begin, .n = 4 * H, .k = H, .am = t ? T * H : H, .ak = 1, .bk = 4 * H, .bn = 1, .ldc = 4 * H, .packed = j->weight};
    g.a = t ? j->h + (begin * T + t - 1) * H : j->h0 + begin * H;
    g.c = j->hw + begin * 4 * H;
    nn_cpu_gemm_run(&g);
    for (int64_t n = begin; n < end; n++) {
      const int64_t at = n * T + t;
      const float *before = t ? j->c + (at - 1) * H : j->c0 + n * H;
      NN_ISA_PICK(nn_cpu_lstm_row)(H, j->x + at * 4 * H, j->hw + n * 4 * H, before, j->gates + at * 4 * H, j->c + at * H, j->h + at * H);
    }
  }
}

nn_status nn_cpu_lstm(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_lstm_f64(k);
  const nni_operand *in = k->in;
  job j = {.N = in[0].shape[0], .T = in[0].shape[1], .H = in[1].shape[0], .x = in[0].data, .h0 = in[2].data, .c0 = in[3].data, .weight = k->scratch};
  j.h = k->out[0].data;
  j.c = k->out[1].data;
  j.gates = k->out[2].data;
  if (j.N == 0 || j.T == 0 || j.H == 0) return NN_OK;
  j.hw = (float *)(void *)((char *)k->scratch + packed_bytes(4 * j.H, j.H));
  pack(k->scratch, in[1].data, 4 * j.H, j.H, 4 * j.H, 1);
  run_rows(k, &j, forward, &j);
  return NN_OK;
}

size_t nn_cpu_lstm_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const int64_t N = k->in[0].shape[0], H = k->in[1].shape[0];
  return packed_bytes(4 * H, H) + (size_t)(N * 4 * H) * sizeof(float) + NNI_PAD;
}

static const float *row_of(const float *p, int64_t at, int64_t width) { return p ? p + at * width : NULL; }

/* dh0 and dc0 hold the cotangents of the step's states while they travel back in time */
static void backward(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  const int64_t T = j->T, H = j->H;
  (void)tid;
  memset(j->dh0 + begin * H, 0, (size_t)((end - begin) * H) * sizeof(float));
  memset(j->dc0 + begin * H, 0, (size_t)((end - begin) * H) * sizeof(float));
  for (int64_t t = T - 1; t >= 0; t--) {
    for (int64_t n = begin; n < end; n++) {
      const int64_t at = n * T + t;
      const float *before = t ? j->c_in + (at - 1) * H : j->c0 + n * H;
      NN_ISA_PICK(nn_cpu_lstm_row_dx)(H, j->gates_in + at * 4 * H, before, j->c_in + at * H, row_of(j->dh, at, H), row_of(j->dc, at, H),
                                      row_of(j->dgates, at, 4 * H), j->dh0 + n * H, j->dc0 + n * H, j->dx + at * 4 * H);
    }
    nn_cpu_gemm_run(&(nn_cpu_gemm){.a = j->dx + (begin * T + t) * 4 * H, .c = j->dh0 + begin * H, .m = end - begin, .n = H, .k = 4 * H, .am = T * 4 * H, .ak = 1,
                                   .bk = 1, .bn = 4 * H, .ldc = H, .packed = j->weight});
  }
}

nn_status nn_cpu_lstm_dx(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return nn_cpu_lstm_dx_f64(k);
  const nni_operand *in = k->in;
  job j = {.N = in[2].shape[0], .T = in[2].shape[1], .H = in[0].shape[0], .c0 = in[1].data, .c_in = in[2].data, .gates_in = in[3].data, .weight = k->scratch};
  int next = 4;
  if (k->ia[0] & 1) j.dh = in[next++].data;
  if (k->ia[0] & 2) j.dc = in[next++].data;
  if (k->ia[0] & 4) j.dgates = in[next].data;
  j.dx = k->out[0].data;
  j.dh0 = k->out[1].data;
  j.dc0 = k->out[2].data;
  if (j.N == 0 || j.H == 0) return NN_OK;
  pack(k->scratch, in[0].data, j.H, 4 * j.H, 1, 4 * j.H);
  run_rows(k, &j, backward, &j);
  return NN_OK;
}

size_t nn_cpu_lstm_dx_scratch(const nni_kernel_call *k) {
  if (k->out[0].dtype == NN_F64) return 0;
  const int64_t H = k->in[0].shape[0];
  return packed_bytes(H, 4 * H);
}
