/* cpu/k_rows.c - kernels that look rows up by id: take_rows, add_rows, check_ids.
**
** Every id is checked before anything is written. Messages show ids and positions 1-based, as Lua counts.
*/
#include "isa_kernels.h"
#include <inttypes.h>
#include <stdio.h>

enum { SERIAL = 1 << 14, COLUMNS = 16, IDS = 1024 };

static int64_t id_at(const nni_operand *ids, int64_t i) {
  switch (ids->dtype) {
  case NN_I64: return ((const int64_t *)ids->data)[i];
  case NN_I32: return ((const int32_t *)ids->data)[i];
  default: return ((const uint8_t *)ids->data)[i];
  }
}

/* Position of the first id outside 0..v-1, or -1. A block is tested without branches, then searched only if it holds one. */
#define FIND(T)                                                                                                                                      \
  {                                                                                                                                                  \
    const T *x = ids->data;                                                                                                                          \
    for (int64_t i0 = 0; i0 < n; i0 += IDS) {                                                                                                        \
      const int64_t i1 = n - i0 < IDS ? n : i0 + IDS;                                                                                                \
      int bad = 0;                                                                                                                                   \
      for (int64_t i = i0; i < i1; i++) bad |= (uint64_t)(int64_t)x[i] >= (uint64_t)v;                                                               \
      for (int64_t i = i0; bad && i < i1; i++)                                                                                                       \
        if ((uint64_t)(int64_t)x[i] >= (uint64_t)v) return i;                                                                                        \
    }                                                                                                                                                \
  }
static int64_t find_bad(const nni_operand *ids, int64_t n, int64_t v) {
  switch (ids->dtype) {
  case NN_I64: FIND(int64_t) break;
  case NN_I32: FIND(int32_t) break;
  default: FIND(uint8_t) break;
  }
  return -1;
}

/* NN_OK when every id lies in 0..v-1. */
static nn_status check(const nni_kernel_call *k, const nni_operand *ids, int64_t v, const char *what) {
  const int64_t n = nn_cpu_numel(ids), bad = find_bad(ids, n, v);
  if (bad < 0) return NN_OK;
  const int64_t id = id_at(ids, bad);
  char shown[24]; /* id + 1, which INT64_MAX has no room for */
  if (id < 0) snprintf(shown, sizeof shown, "%" PRId64, id + 1);
  else snprintf(shown, sizeof shown, "%" PRIu64, (uint64_t)id + 1);
  return nni_fail(k->err, NN_EINDEX, "%sid %s at position %" PRId64 " is not in 1..%" PRId64, what, shown, bad + 1, v);
}

/* ---- take_rows ------------------------------------------------------------------------------------------------------------- */
typedef struct take {
  const nni_operand *ids;
  const char *table;
  char *out;
  size_t row;
} take;

static void take_some(void *arg, int64_t begin, int64_t end, int tid) {
  const take *t = arg;
  (void)tid;
  if (t->row == 4) { /* single numbers: a memcpy each would be mostly calls */
    for (int64_t i = begin; i < end; i++) memcpy(t->out + 4 * i, t->table + 4 * id_at(t->ids, i), 4);
    return;
  }
  for (int64_t i = begin; i < end; i++) memcpy(t->out + (size_t)i * t->row, t->table + (size_t)id_at(t->ids, i) * t->row, t->row);
}

nn_status nn_cpu_take_rows(const nni_kernel_call *k) {
  const nni_operand *table = &k->in[0], *ids = &k->in[1];
  const int64_t n = nn_cpu_numel(ids);
  nn_status s = check(k, ids, table->shape[0], "");
  if (s != NN_OK) return s;
  size_t row = nn_dtype_size(table->dtype);
  for (int d = 1; d < table->ndim; d++) row *= (size_t)table->shape[d];
  if (n == 0 || row == 0) return NN_OK;
  take t = {ids, table->data, k->out[0].data, row};
  if ((size_t)n * row < SERIAL * 4) take_some(&t, 0, n, 0);
  else nni_parallel(k->threads, n, take_some, &t);
  return NN_OK;
}

/* ---- add_rows -------------------------------------------------------------------------------------------------------------- */
/* A thread owns columns (wide rows) or destination rows (narrow ones), and walks all positions in order: the order in which a destination
** is added to never depends on the threads. */
typedef struct add {
  const nni_operand *ids;
  const float *in;
  float *out;
  int64_t n, v, width;
} add;

static void add_columns(void *arg, int64_t begin, int64_t end, int tid) {
  const add *a = arg;
  const int64_t c0 = begin * COLUMNS, c1 = end * COLUMNS < a->width ? end * COLUMNS : a->width;
  (void)tid;
  NN_ISA_PICK(nn_cpu_add_some_rows)(a->ids->dtype, a->ids->data, a->n, a->in, a->out, a->width, 0, a->v, c0, c1);
}
static void add_range(void *arg, int64_t begin, int64_t end, int tid) {
  const add *a = arg;
  (void)tid;
  NN_ISA_PICK(nn_cpu_add_some_rows)(a->ids->dtype, a->ids->data, a->n, a->in, a->out, a->width, begin, end, 0, a->width);
}

nn_status nn_cpu_add_rows(const nni_kernel_call *k) {
  const nni_operand *in = &k->in[0], *ids = &k->in[1];
  add a = {.ids = ids, .in = in->data, .out = k->out[0].data, .n = nn_cpu_numel(ids), .v = k->ia[0], .width = 1};
  nn_status s = check(k, ids, a.v, "");
  if (s != NN_OK) return s;
  for (int d = 1; d < k->out[0].ndim; d++) a.width *= k->out[0].shape[d];
  nn_cpu_zero_bytes(k->threads, a.out, (size_t)(a.v * a.width) * sizeof(float));
  if (a.n == 0 || a.width == 0) return NN_OK;
  const int64_t blocks = (a.width + COLUMNS - 1) / COLUMNS;
  if (a.n * a.width < SERIAL || a.width < COLUMNS) /* for very narrow rows looking at the ids is most of the work */
    add_columns(&a, 0, blocks, 0);
  else if (blocks >= 32) nni_parallel(k->threads, blocks, add_columns, &a);
  else nni_parallel(k->threads, a.v, add_range, &a);
  return NN_OK;
}

/* ---- check_ids ------------------------------------------------------------------------------------------------------------- */
nn_status nn_cpu_check_ids(const nni_kernel_call *k) {
  const int64_t one = 1, n = nn_cpu_numel(&k->in[0]);
  nn_status s = check(k, &k->in[0], k->ia[0], "class ");
  if (s != NN_OK) return s;
  nn_cpu_copy_strided(k->threads, 1, &n, (nn_cpu_side){k->out[0].data, NN_I64, &one}, (nn_cpu_side){k->in[0].data, k->in[0].dtype, &one}, false);
  return NN_OK;
}

size_t nn_cpu_take_rows_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_add_rows_scratch(const nni_kernel_call *k) { return (void)k, 0; }
size_t nn_cpu_check_ids_scratch(const nni_kernel_call *k) { return (void)k, 0; }
