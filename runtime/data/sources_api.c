/* data/sources_api.c - nn_sources.h on top of the engine and the readers: tensors instead of buffers, the context's error slot. */
#include "../nn_sources.h"
#include "../tensor/tensor.h"
#include "source_csv.h"
#include "source_record.h"

static void drop_tensor(void *owner) { nn_release(owner); }

/* t as a column of its rows. The tensor stays the caller's. */
static nn_status to_column(nn_context *ctx, nn_tensor *t, int which, nni_column *c) {
  const int64_t *shape = nn_shape(t);
  const int ndim = nn_ndim(t);
  if (ndim < 1) return nni_fail(nni_error_of(ctx), NN_ESHAPE, "data set: tensor %d is a scalar; its first dim must number the elements", which + 1);
  *c = (nni_column){.dtype = nn_dtype_of(t), .ndim = ndim - 1, .owner = t, .drop = drop_tensor, .data = nn_data(t)};
  memcpy(c->shape, shape + 1, (size_t)(ndim - 1) * sizeof *shape);
  return c->data != NULL ? NN_OK : nni_error_of(ctx)->status;
}

typedef struct text_owner {
  nni_memory *m;
  nn_tensor *bytes, *ends;
} text_owner;

static void drop_texts(void *owner) {
  text_owner *o = owner;
  nn_release(o->bytes);
  nn_release(o->ends);
  nni_free(o->m, o, sizeof *o);
}

/* Texts as a column, which owns *out's owner. */
static nn_status to_texts(nn_context *ctx, const nn_column *from, nni_column *c, int64_t *rows) {
  nni_error *err = nni_error_of(ctx);
  const bool form = nn_dtype_of(from->data) == NN_U8 && nn_ndim(from->data) == 1 && nn_dtype_of(from->ends) == NN_I32 && nn_ndim(from->ends) == 1;
  if (!form || nn_shape(from->ends)[0] < 1) return nni_fail(err, NN_EINVAL, "texts: needs bytes (u8) and where they end (i32)");
  const int64_t bytes = nn_shape(from->data)[0];
  const int32_t *ends = nn_data(from->ends);
  const void *data = nn_data(from->data);
  if (ends == NULL || data == NULL) return err->status;
  *rows = nn_shape(from->ends)[0] - 1;
  bool ascend = ends[0] >= 0 && ends[*rows] <= bytes;
  for (int64_t i = 0; ascend && i < *rows; i++) ascend = ends[i] <= ends[i + 1];
  if (!ascend) return nni_fail(err, NN_EINVAL, "texts: where they end must ascend, up to %lld bytes", (long long)bytes);
  text_owner *o = nni_malloc(nni_memory_of(ctx), sizeof *o);
  if (o == NULL) return nni_fail(err, NN_ENOMEM, "texts: out of memory");
  *o = (text_owner){nni_memory_of(ctx), nn_retain(from->data), nn_retain(from->ends)};
  *c = (nni_column){.dtype = NN_U8, .ndim = 1, .shape = {-1}, .data = data, .ends = ends, .owner = o, .drop = drop_texts};
  return NN_OK;
}

nn_dataset *nn_data_columns(nn_context *ctx, int n, const nn_column *cols) {
  nni_error *err = nni_error_of(ctx);
  nni_column c[NN_DATA_MAX] = {{0}};
  int64_t rows = 0, first = 0;
  nn_status rc = n >= 1 && n <= NN_DATA_MAX ? NN_OK : nni_fail(err, NN_EINVAL, "data set: %d columns; it takes 1 to %d", n, NN_DATA_MAX);
  int have = 0;
  for (; have < n && rc == NN_OK; have++) {
    if (cols[have].ends != NULL) {
      rc = to_texts(ctx, &cols[have], &c[have], &rows);
    } else if ((rc = to_column(ctx, cols[have].data, have, &c[have])) == NN_OK) {
      rows = nn_shape(cols[have].data)[0];
      nn_retain(cols[have].data);
    }
    if (rc != NN_OK) break;
    if (have == 0) first = rows;
    if (rows != first)
      rc = nni_fail(err, NN_ESHAPE, "data set: column %d has %lld rows, the first has %lld", have + 1, (long long)rows, (long long)first);
  }
  nni_dataset *d = rc == NN_OK ? nni_data_columns(nni_memory_of(ctx), first, n, c, err) : NULL;
  for (int i = 0; d == NULL && i < have; i++) c[i].drop(c[i].owner);
  return d;
}

nn_dataset *nn_data_windows(nn_context *ctx, nn_tensor *x, nn_tensor *targets, int64_t length, int64_t stride, int64_t rate, int64_t most) {
  nni_error *err = nni_error_of(ctx);
  nni_column c[2] = {{0}};
  nn_tensor *t[] = {x, targets};
  int ncols = targets != NULL ? 2 : 1;
  int64_t reach;
  for (int i = 0; i < ncols; i++)
    if (to_column(ctx, t[i], i, &c[i]) != NN_OK) return NULL;
  if (length < 1 || stride < 1 || rate < 1 || __builtin_mul_overflow(length - 1, rate, &reach)) {
    nni_fail(err, NN_EINVAL, "timeseries: windows of %lld rows by %lld, one each %lld; all are 1 or more", (long long)length, (long long)rate, (long long)stride);
    return NULL;
  }
  int64_t starts = nn_shape(x)[0] > reach ? nn_shape(x)[0] - reach : 0;
  if (targets != NULL && nn_shape(targets)[0] < starts) starts = nn_shape(targets)[0];
  int64_t count = starts > 0 ? (starts - 1) / stride + 1 : 0;
  if (most >= 0 && count > most) count = most;
  nni_dataset *d = nni_data_windows(nni_memory_of(ctx), count, length, stride, rate, ncols, c, err);
  for (int i = 0; d != NULL && i < ncols; i++) nn_retain(t[i]);
  return d;
}

nn_dataset *nn_data_lines(nn_context *ctx, int nfiles, const char *const *files, int64_t most) {
  return nni_data_records(nni_memory_of(ctx), NNI_LINES, nfiles, files, most, nni_error_of(ctx));
}
nn_dataset *nn_data_tfrecord(nn_context *ctx, int nfiles, const char *const *files, int64_t most) {
  return nni_data_records(nni_memory_of(ctx), NNI_TFRECORDS, nfiles, files, most, nni_error_of(ctx));
}
nn_dataset *nn_data_read_files(nn_context *ctx, nn_dataset *up, int which, int64_t most, const nn_vision *v, int workers) {
  return nni_data_read_files(up, which, most, v, workers, nni_error_of(ctx));
}
nn_dataset *nn_data_examples(nn_context *ctx, nn_dataset *up, int n, const nn_feature *features, int workers) {
  return nni_data_examples(up, n, features, workers, nni_error_of(ctx));
}

/* ---- CSV tables ---------------------------------------------------------------------------------------------------------- */

nn_status nn_csv_scan(nn_context *ctx, const nn_csv_form *form, nn_csv_table *table) {
  return nni_csv_scan(nni_memory_of(ctx), form, table, nni_error_of(ctx));
}
void nn_csv_table_free(nn_context *ctx, nn_csv_table *table) { nni_csv_table_free(nni_memory_of(ctx), table); }

nn_status nn_csv_read(nn_context *ctx, const nn_csv_form *form, const nn_csv_table *table, int n, const nn_csv_part *parts, nn_column *out) {
  nni_error *err = nni_error_of(ctx);
  nni_csv_data data[NN_DATA_MAX] = {{0}};
  if (n < 1 || n > NN_DATA_MAX) return nni_fail(err, NN_EINVAL, "%s: %d columns; an element has 1 to %d", form->path, n, NN_DATA_MAX);
  nn_status rc = nni_csv_read(nni_memory_of(ctx), form, table, n, parts, data, err);
  memset(out, 0, (size_t)n * sizeof *out);
  if (rc != NN_OK) return rc;
  for (int i = 0; i < n; i++) { /* adopting takes the buffer over, also when it fails */
    const nn_csv_part *part = &parts[i];
    int64_t bytes = (int64_t)data[i].bytes, ends = table->rows + 1, shape[] = {table->rows, part->ncols};
    out[i].data = part->text ? nni_tensor_adopt(ctx, NN_U8, 1, &bytes, data[i].data)
                             : nni_tensor_adopt(ctx, part->dtype, part->scalar ? 1 : 2, shape, data[i].data);
    if (part->text) out[i].ends = nni_tensor_adopt(ctx, NN_I32, 1, &ends, data[i].ends);
    if (out[i].data == NULL || (part->text && out[i].ends == NULL)) rc = err->status;
  }
  for (int i = 0; rc != NN_OK && i < n; i++) {
    nn_release(out[i].data);
    nn_release(out[i].ends);
    out[i] = (nn_column){0};
  }
  return rc;
}
