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
  return nni_data_prefetch(up, n, NNI_PREFETCH_WORTH, nni_threads_of(ctx), nni_error_of(ctx));
}

nn_dataset *nn_data_shard(nn_context *ctx, nn_dataset *up, int64_t n, int64_t index) { return nni_data_shard(up, n, index, nni_error_of(ctx)); }
nn_dataset *nn_data_enumerate(nn_context *ctx, nn_dataset *up, int64_t first) { return nni_data_enumerate(up, first, nni_error_of(ctx)); }
nn_dataset *nn_data_unbatch(nn_context *ctx, nn_dataset *up) { return nni_data_unbatch(up, nni_error_of(ctx)); }
nn_dataset *nn_data_unique(nn_context *ctx, nn_dataset *up) { return nni_data_unique(up, nni_error_of(ctx)); }
nn_dataset *nn_data_cache(nn_context *ctx, nn_dataset *up, const char *file) { return nni_data_cache(up, file, nni_error_of(ctx)); }
nn_dataset *nn_data_ignore_errors(nn_context *ctx, nn_dataset *up) { return nni_data_ignore_errors(up, nni_error_of(ctx)); }
nn_dataset *nn_data_zip(nn_context *ctx, int n, nn_dataset *const *ups) { return nni_data_zip(n, ups, nni_error_of(ctx)); }
nn_dataset *nn_data_concat(nn_context *ctx, int n, nn_dataset *const *ups) { return nni_data_concat(n, ups, nni_error_of(ctx)); }
nn_dataset *nn_data_window(nn_context *ctx, nn_dataset *up, int64_t size, int64_t shift, int64_t stride, bool drop_last) {
  return nni_data_window(up, size, shift, stride, drop_last, nni_error_of(ctx));
}
nn_dataset *nn_data_padded_batch(nn_context *ctx, nn_dataset *up, int64_t n, const nn_padding *pad, bool drop_last) {
  return nni_data_padded_batch(up, n, pad, drop_last, nni_error_of(ctx));
}
nn_dataset *nn_data_interleave(nn_context *ctx, int n, nn_dataset *const *ups, int64_t block) {
  return nni_data_turns(n, ups, block, nni_error_of(ctx));
}
nn_dataset *nn_data_choose(nn_context *ctx, nn_dataset *choices, int n, nn_dataset *const *ups, bool stop) {
  return nni_data_choose(choices, n, ups, stop, nni_error_of(ctx));
}
nn_dataset *nn_data_sample_from(nn_context *ctx, int n, nn_dataset *const *ups, const double *weights, uint64_t seed, bool stop) {
  return nni_data_sample_from(n, ups, weights, seed, stop, nni_error_of(ctx));
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
    char shape[256] = "scalar";
    for (int j = 0, at_shape = 0; j < spec->c[i].ndim; j++) {
      const char *between = j > 0 ? "x" : "";
      size_t room = sizeof shape - (size_t)at_shape;
      at_shape += spec->c[i].shape[j] < 0 ? snprintf(shape + at_shape, room, "%s?", between)
                                          : snprintf(shape + at_shape, room, "%s%lld", between, (long long)spec->c[i].shape[j]);
    }
    size_t at = (size_t)k < n ? (size_t)k : n;
    k += snprintf(buf + at, n - at, "%s%s %s", i > 0 ? ", " : "", nn_dtype_name(spec->c[i].dtype), shape);
  }
  return k;
}

int nn_dataset_components(const nn_dataset *d, nn_array *spec) {
  const nni_element *e = nni_dataset_spec(d);
  for (int i = 0; i < e->n; i++) {
    spec[i] = (nn_array){.dtype = e->c[i].dtype, .ndim = e->c[i].ndim};
    memcpy(spec[i].shape, e->c[i].shape, sizeof e->c[i].shape);
  }
  return e->n;
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

typedef struct mapping { /* a verb's functions, as many as it has */
  nn_context *ctx;
  nn_map_fn fn;
  nn_flat_fn flat;
  nn_key_fn key;
  nn_group_fn group;
  void *ud;
} mapping;

static nni_component of_tensor(nn_tensor *t) {
  nni_component c = {.dtype = nn_dtype_of(t), .ndim = nn_ndim(t), .tensor = t};
  memcpy(c.shape, nn_shape(t), (size_t)c.ndim * sizeof *c.shape);
  return c;
}

static nn_status told(const mapping *map, nn_status rc, nni_error *err) { /* the context's message is err's */
  if (rc != NN_OK && err != nni_error_of(map->ctx)) *err = *nni_error_of(map->ctx);
  return rc;
}

static nn_status call_map(void *caller, void *ud, nni_element *in, nni_element *out, nni_error *err) {
  mapping *map = ud;
  nn_tensor *from[NN_DATA_MAX], *to[NN_DATA_MAX];
  int nin, nout = 0;
  nn_status rc = nni_element_tensors(map->ctx, in, from, &nin);
  if (rc == NN_OK) rc = map->fn(caller, map->ud, from, nin, to, &nout);
  told(map, rc, err);
  for (int i = 0; i < nin; i++) nn_release(from[i]);
  if (rc != NN_OK) return rc;
  for (int i = 0; i < nout; i++) out->c[i] = of_tensor(to[i]); /* nout 0: left out; -1: the end */
  out->n = nout;
  return NN_OK;
}

static mapping *new_mapping(nn_context *ctx, mapping what) {
  mapping *map = nni_malloc(nni_memory_of(ctx), sizeof *map);
  if (map == NULL) {
    nni_fail(nni_error_of(ctx), NN_ENOMEM, "data set: out of memory");
    return NULL;
  }
  *map = what;
  map->ctx = ctx;
  return map;
}

typedef nni_dataset *call_verb(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err);

static nn_dataset *new_call(nn_context *ctx, call_verb *verb, nn_dataset *up, nn_map_fn fn, void *ud) {
  mapping *map = new_mapping(ctx, (mapping){.fn = fn, .ud = ud});
  return map != NULL ? verb(up, call_map, map, sizeof *map, nni_error_of(ctx)) : NULL;
}
nn_dataset *nn_data_map(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud) { return new_call(ctx, nni_data_map, up, fn, ud); }
nn_dataset *nn_data_filter(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud) { return new_call(ctx, nni_data_filter, up, fn, ud); }
nn_dataset *nn_data_take_while(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud) {
  return new_call(ctx, nni_data_take_while, up, fn, ud);
}

nn_dataset *nn_data_scan(nn_context *ctx, nn_dataset *up, nn_tensor *initial, nn_map_fn fn, void *ud) {
  mapping *map = new_mapping(ctx, (mapping){.fn = fn, .ud = ud});
  return map != NULL ? nni_data_scan(up, initial, call_map, map, sizeof *map, nni_error_of(ctx)) : NULL;
}

static nn_status call_flat(void *caller, void *ud, int slot, nni_element *in, nni_dataset **out, nni_error *err) {
  mapping *map = ud;
  nn_tensor *from[NN_DATA_MAX];
  int nin;
  nn_status rc = nni_element_tensors(map->ctx, in, from, &nin);
  if (rc == NN_OK) rc = map->flat(caller, map->ud, slot, from, nin, out);
  told(map, rc, err);
  for (int i = 0; i < nin; i++) nn_release(from[i]);
  return rc;
}

nn_dataset *nn_data_flat_map(nn_context *ctx, nn_dataset *up, nn_flat_fn fn, void *ud, int64_t cycle, int64_t block) {
  mapping *map = new_mapping(ctx, (mapping){.flat = fn, .ud = ud});
  return map != NULL ? nni_data_flat_map(up, call_flat, map, sizeof *map, cycle, block, nni_error_of(ctx)) : NULL;
}

static nn_status call_key(void *caller, void *ud, nni_element *e, int64_t *key, int64_t *size, nni_error *err) {
  mapping *map = ud;
  nn_tensor *t[NN_DATA_MAX];
  int n;
  nn_status rc = nni_element_tensors(map->ctx, e, t, &n);
  if (rc == NN_OK) rc = map->key(caller, map->ud, t, n, key, size);
  for (e->n = 0; e->n < n; e->n++) e->c[e->n] = of_tensor(t[e->n]);
  return told(map, rc, err);
}

static nn_status call_group(void *caller, void *ud, int64_t key, nni_dataset *window, nni_dataset **out, nni_error *err) {
  mapping *map = ud;
  return told(map, map->group(caller, map->ud, key, window, out), err);
}

nn_dataset *nn_data_bucket(nn_context *ctx, nn_dataset *up, int which, nn_key_fn by, void *ud, int nbounds, const int64_t *bounds,
                           const int64_t *sizes, const nn_padding *pad, bool drop_last) {
  nni_key key = {0};
  if (by != NULL) {
    key = (nni_key){call_key, new_mapping(ctx, (mapping){.key = by, .ud = ud}), sizeof(mapping)};
    if (key.ud == NULL) return NULL;
  }
  return nni_data_bucket(up, which, &key, nbounds, bounds, sizes, pad, drop_last, nni_error_of(ctx));
}

nn_dataset *nn_data_group(nn_context *ctx, nn_dataset *up, nn_key_fn by, nn_group_fn fn, void *ud, int64_t size) {
  const nni_key key = {call_key, new_mapping(ctx, (mapping){.key = by, .group = fn, .ud = ud}), sizeof(mapping)};
  return key.ud != NULL ? nni_data_group(up, &key, call_group, size, nni_error_of(ctx)) : NULL;
}

/* ---- maps on threads: arrays instead of elements ------------------------------------------------------------------------------ */

typedef struct parallel {
  nn_workers fn;
  nni_memory *m;
} parallel;

static nn_status parallel_begin(void *caller, void *ud, void **worker, nni_error *err) {
  const parallel *p = ud;
  char message[sizeof err->text] = "";
  nn_status rc = p->fn.begin(caller, p->fn.ud, worker, message, sizeof message);
  return rc == NN_OK ? rc : nni_fail(err, rc, "%s", message);
}

static void parallel_end(void *ud, void *worker) {
  const parallel *p = ud;
  p->fn.end(p->fn.ud, worker);
}

static void parallel_drop(void *ud) {
  parallel *p = ud;
  if (p->fn.drop != NULL) p->fn.drop(p->fn.ud);
  nni_free(p->m, p, sizeof *p);
}

static nn_status parallel_run(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err) {
  const parallel *p = ud;
  nn_array from[NN_DATA_MAX], to[NN_DATA_MAX];
  char message[sizeof err->text] = "";
  int n = 0;
  nni_element lent = {0};
  for (int i = 0; i < in->n; i++) {
    const nni_component *c = &in->c[i];
    from[i] = (nn_array){.dtype = c->dtype, .ndim = c->ndim};
    memcpy(from[i].shape, c->shape, sizeof c->shape);
    nn_status rc = nni_element_data(c, &from[i].data, err);
    if (rc != NN_OK) return rc;
  }
  nn_status rc = p->fn.run(worker, sample->caller, sample->key, from, in->n, to, &n, message, sizeof message);
  if (rc != NN_OK) return nni_fail(err, rc, "%s", message);
  for (int i = 0; i < n; i++) {
    lent.c[i] = (nni_component){.dtype = to[i].dtype, .ndim = to[i].ndim, .buffer = (void *)(uintptr_t)to[i].data};
    memcpy(lent.c[i].shape, to[i].shape, sizeof to[i].shape);
  }
  lent.n = n;
  return nni_element_copy(m, &lent, out, err);
}

nn_dataset *nn_data_parallel(nn_context *ctx, nn_dataset *up, const nn_workers *fn, int workers, uint64_t seed) {
  nni_memory *m = nni_memory_of(ctx);
  parallel *p = nni_malloc(m, sizeof *p);
  if (p == NULL) {
    nni_fail(nni_error_of(ctx), NN_ENOMEM, "map: out of memory");
    if (fn->drop != NULL) fn->drop(fn->ud);
    return NULL;
  }
  *p = (parallel){.fn = *fn, .m = m};
  nni_native native = {.name = "function", .run = parallel_run, .begin = parallel_begin, .end = parallel_end, .drop = parallel_drop, .ud = p};
  return nni_data_native(up, &native, workers, seed, nni_error_of(ctx));
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
