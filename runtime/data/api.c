/* data/api.c - nn_data.h on top of the engine: tensors instead of buffers, the context's error slot instead of one handed in. */
#include <stdio.h>
#include "../io/download.h"
#include "../io/idx.h"
#include "../tensor/tensor.h"
#include "dataset.h"
#include "digits.h"

#define SEED_STREAM 0x73656564ull /* "seed" */

/* ---- data sets ------------------------------------------------------------------------------------------------------------ */

static void drop_tensor(void *owner) { nn_release(owner); }

nn_dataset *nn_data_tensors(nn_context *ctx, int n, nn_tensor *const *t) {
  nni_error *err = nni_error_of(ctx);
  nni_column cols[NN_DATA_MAX] = {0};
  if (n < 1 || n > NN_DATA_MAX) {
    nni_fail(err, NN_EINVAL, "data set: %d tensors; it takes 1 to %d", n, NN_DATA_MAX);
    return NULL;
  }
  for (int i = 0; i < n; i++) {
    const int64_t *shape = nn_shape(t[i]);
    int ndim = nn_ndim(t[i]);
    if (ndim < 1) {
      nni_fail(err, NN_ESHAPE, "data set: tensor %d is a scalar; its first dim must number the elements", i + 1);
      return NULL;
    }
    if (shape[0] != nn_shape(t[0])[0]) {
      nni_fail(err, NN_ESHAPE, "data set: tensor %d has %lld rows, the first has %lld", i + 1, (long long)shape[0], (long long)nn_shape(t[0])[0]);
      return NULL;
    }
    cols[i] = (nni_column){.dtype = nn_dtype_of(t[i]), .ndim = ndim - 1, .owner = t[i], .drop = drop_tensor};
    memcpy(cols[i].shape, shape + 1, (size_t)(ndim - 1) * sizeof *shape);
    if ((cols[i].data = nn_data(t[i])) == NULL) return NULL;
  }
  nni_dataset *d = nni_data_columns(nni_memory_of(ctx), nn_shape(t[0])[0], n, cols, err);
  for (int i = 0; d != NULL && i < n; i++) nn_retain(t[i]);
  return d;
}

nn_dataset *nn_data_range(nn_context *ctx, int64_t first, int64_t step, int64_t count) {
  return nni_data_range(nni_memory_of(ctx), first, step, count, nni_error_of(ctx));
}
nn_dataset *nn_data_shuffle(nn_context *ctx, nn_dataset *up, int64_t buffer, uint64_t seed, bool reshuffle) {
  return nni_data_shuffle(up, buffer, seed, reshuffle, nni_error_of(ctx));
}
nn_dataset *nn_data_batch(nn_context *ctx, nn_dataset *up, int64_t n, bool drop_last) {
  return nni_data_batch(up, n, drop_last, nni_error_of(ctx));
}
nn_dataset *nn_data_repeated(nn_context *ctx, nn_dataset *up, int64_t times) { return nni_data_repeated(up, times, nni_error_of(ctx)); }
nn_dataset *nn_data_take(nn_context *ctx, nn_dataset *up, int64_t n) { return nni_data_take(up, n, nni_error_of(ctx)); }
nn_dataset *nn_data_skip(nn_context *ctx, nn_dataset *up, int64_t n) { return nni_data_skip(up, n, nni_error_of(ctx)); }
nn_dataset *nn_data_prefetch(nn_context *ctx, nn_dataset *up, int64_t n) {
  return nni_data_prefetch(up, n, NNI_PREFETCH_WORTH, nni_error_of(ctx));
}

nn_dataset *nn_dataset_retain(nn_dataset *d) { return nni_dataset_retain(d); }
void nn_dataset_release(nn_dataset *d) { nni_dataset_release(d); }
int64_t nn_dataset_cardinality(const nn_dataset *d) { return nni_dataset_cardinality(d); }
int nn_dataset_describe(const nn_dataset *d, char *buf, size_t n) { return nni_dataset_describe(d, buf, n); }

int nn_dataset_spec(const nn_dataset *d, char *buf, size_t n) {
  const nni_element *spec = nni_dataset_spec(d);
  int k = 0;
  if (spec->n < 0) return snprintf(buf, n, "?");
  for (int i = 0; i < spec->n; i++) {
    char shape[256];
    nni_shape_text(spec->c[i].ndim, spec->c[i].shape, shape, sizeof shape);
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += snprintf(buf + at, n - at, "%s%s %s", i > 0 ? ", " : "", nn_dtype_name(spec->c[i].dtype), shape);
  }
  return k;
}

uint64_t nn_data_seed(nn_context *ctx) {
  nn_rng_state s = nn_rng_get(ctx);
  nni_philox p = nni_philox4x32(s.seed, s.position, SEED_STREAM);
  s.position++;
  nn_rng_set(ctx, s);
  return (uint64_t)p.v[0] << 32 | p.v[1];
}

/* ---- elements and tensors -------------------------------------------------------------------------------------------------- */

nn_status nni_element_tensors(nn_context *ctx, nni_element *e, nn_tensor **out, int *n) {
  nn_status rc = NN_OK;
  *n = 0;
  for (int i = 0; i < e->n && rc == NN_OK; i++) {
    nni_component *c = &e->c[i];
    nn_tensor *t = c->tensor != NULL ? c->tensor : nni_tensor_adopt(ctx, c->dtype, c->ndim, c->shape, c->buffer);
    c->tensor = NULL;
    c->buffer = NULL;
    if (t != NULL) out[(*n)++] = t;
    else rc = nni_error_of(ctx)->status;
  }
  nni_element_free(nni_memory_of(ctx), e);
  if (rc == NN_OK) return rc;
  while (*n > 0) nn_release(out[--*n]);
  return rc;
}

typedef struct mapping {
  nn_context *ctx;
  nn_map_fn fn;
  void *ud;
} mapping;

static nn_status call_map(void *caller, void *ud, nni_element *in, nni_element *out, nni_error *err) {
  mapping *map = ud;
  nn_tensor *from[NN_DATA_MAX], *to[NN_DATA_MAX];
  int nin, nout = 0;
  nn_status rc = nni_element_tensors(map->ctx, in, from, &nin);
  if (rc == NN_OK) rc = map->fn(caller, map->ud, from, nin, to, &nout);
  if (rc != NN_OK && err != nni_error_of(map->ctx)) *err = *nni_error_of(map->ctx);
  for (int i = 0; i < nin; i++) nn_release(from[i]);
  if (rc != NN_OK) return rc;
  for (int i = 0; i < nout; i++) {
    nni_component *c = &out->c[i];
    *c = (nni_component){.dtype = nn_dtype_of(to[i]), .ndim = nn_ndim(to[i]), .tensor = to[i]};
    memcpy(c->shape, nn_shape(to[i]), (size_t)c->ndim * sizeof *c->shape);
  }
  out->n = nout;
  return NN_OK;
}

nn_dataset *nn_data_map(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud) {
  mapping *map = nni_malloc(nni_memory_of(ctx), sizeof *map);
  if (map == NULL) {
    nni_fail(nni_error_of(ctx), NN_ENOMEM, "map: out of memory");
    return NULL;
  }
  *map = (mapping){.ctx = ctx, .fn = fn, .ud = ud};
  return nni_data_map(up, call_map, map, sizeof *map, nni_error_of(ctx));
}

nn_status nn_data_fail(nn_context *ctx, nn_status s, const char *message) { return nni_fail(nni_error_of(ctx), s, "%s", message); }

/* ---- passes ------------------------------------------------------------------------------------------------------------- */

nn_iter *nn_iter_open(nn_context *ctx, nn_dataset *d) { return nni_iter_open(d, nni_error_of(ctx)); }
void nn_iter_close(nn_iter *it) { nni_iter_close(it); }
bool nn_iter_done(const nn_iter *it) { return nni_iter_done(it); }

nn_status nn_iter_next(nn_context *ctx, nn_iter *it, void *caller, nn_tensor **out, int *n) {
  nni_element e;
  *n = 0;
  nn_status rc = nni_iter_next(it, caller, &e, nni_error_of(ctx));
  return rc == NN_OK ? nni_element_tensors(ctx, &e, out, n) : rc;
}

int nn_dataset_state_words(const nn_dataset *d) { return nni_state_words(d); }
int nn_dataset_save(const nn_dataset *d, const nn_iter *it, int64_t *words) { return nni_state_save(d, it, words); }
nn_status nn_dataset_restore(nn_context *ctx, nn_dataset *d, void *caller, const int64_t *words, int n, nn_iter **it) {
  return nni_state_restore(d, caller, words, n, it, nni_error_of(ctx));
}

/* ---- where data come from -------------------------------------------------------------------------------------------------- */

nn_tensor *nn_idx_read(nn_context *ctx, const char *path, int type, int ndim) {
  nni_idx x;
  if (nni_idx_read(nni_memory_of(ctx), path, (nni_idx_type)type, ndim, &x, nni_error_of(ctx)) != NN_OK) return NULL;
  return nni_tensor_adopt(ctx, x.dtype, x.ndim, x.shape, x.buffer);
}

nn_status nn_digits(nn_context *ctx, uint64_t seed, int64_t first, int64_t n, nn_tensor **images, nn_tensor **labels) {
  nni_memory *m = nni_memory_of(ctx);
  int64_t shape[] = {n, NNI_DIGIT_SIDE, NNI_DIGIT_SIDE}, count;
  *images = *labels = NULL;
  if (first < 0 || !nni_size_mul(shape, 3, 1, &count))
    return nni_fail(nni_error_of(ctx), NN_EINVAL, "digits: %lld samples from %lld", (long long)n, (long long)first);
  uint8_t *x = nni_buffer_get(m, (size_t)count), *y = nni_buffer_get(m, (size_t)n);
  if (x == NULL || y == NULL) {
    if (x != NULL) nni_buffer_put(m, x, (size_t)count);
    if (y != NULL) nni_buffer_put(m, y, (size_t)n);
    return nni_fail(nni_error_of(ctx), NN_ENOMEM, "digits: out of memory for %lld samples", (long long)n);
  }
  nni_digits(nni_threads_of(ctx), seed, first, n, x, y);
  *images = nni_tensor_adopt(ctx, NN_U8, 3, shape, x);
  *labels = nni_tensor_adopt(ctx, NN_U8, 1, shape, y);
  if (*images != NULL && *labels != NULL) return NN_OK;
  nn_release(*images);
  nn_release(*labels);
  *images = *labels = NULL;
  return nni_error_of(ctx)->status;
}

nn_status nn_download_run(nn_context *ctx, const nn_download *d) { return nni_download_run(d, nni_error_of(ctx)); }
