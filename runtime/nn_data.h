/* nn_data.h - data sets, the second part of the public interface (nn.h is the first): lazy pipelines of tensors, IDX files, generated
** digits, downloads.
**
** A data set describes a source of elements and what is done to them; an element is one or more tensors. Verbs make a new data set and
** change nothing. The order of a shuffle depends on its seed and on how many passes were begun, never on threads. Conventions are nn.h's:
** NULL or a status on failure, with the message in the context; everything belongs to the context's thread.
*/
#ifndef NN_DATA_H
#define NN_DATA_H
#include "nn.h"
#ifdef __cplusplus
extern "C" {
#endif

#define NN_DATA_MAX 8 /* most tensors in an element */
#define NN_INFINITE (-1)
#define NN_UNKNOWN (-2)

typedef struct nni_dataset nn_dataset;
typedef struct nni_iter nn_iter;

/* ---- data sets: each returns a new reference ------------------------------------------------------------------------------ */
NN_API nn_dataset *nn_data_tensors(nn_context *ctx, int n, nn_tensor *const *t); /* element i is row i of each; no copy is made */
NN_API nn_dataset *nn_data_range(nn_context *ctx, int64_t first, int64_t step, int64_t count); /* i64 scalars */
NN_API nn_dataset *nn_data_shuffle(nn_context *ctx, nn_dataset *up, int64_t buffer, uint64_t seed, bool reshuffle);
NN_API nn_dataset *nn_data_batch(nn_context *ctx, nn_dataset *up, int64_t n, bool drop_last);
NN_API nn_dataset *nn_data_repeated(nn_context *ctx, nn_dataset *up, int64_t times); /* < 0: for ever */
NN_API nn_dataset *nn_data_take(nn_context *ctx, nn_dataset *up, int64_t n);
NN_API nn_dataset *nn_data_skip(nn_context *ctx, nn_dataset *up, int64_t n);
NN_API nn_dataset *nn_data_prefetch(nn_context *ctx, nn_dataset *up, int64_t n); /* up to n elements ahead on a thread, or one on the pool's */
NN_API nn_dataset *nn_data_shard(nn_context *ctx, nn_dataset *up, int64_t n, int64_t index); /* elements index, index + n, ...; from 0 */
NN_API nn_dataset *nn_data_enumerate(nn_context *ctx, nn_dataset *up, int64_t first); /* first, first + 1, ... in front of the tensors */
NN_API nn_dataset *nn_data_unbatch(nn_context *ctx, nn_dataset *up);
NN_API nn_dataset *nn_data_window(nn_context *ctx, nn_dataset *up, int64_t size, int64_t shift, int64_t stride, bool drop_last);
typedef struct nn_padding { /* how values of several shapes become one batch */
  double value[NN_DATA_MAX]; /* what each value of an element is filled up with */
  int ndim[NN_DATA_MAX];     /* -1: to the largest of the batch; else to this shape, whose dims of -1 are the largest of the batch */
  int64_t shape[NN_DATA_MAX][NN_MAXDIM];
} nn_padding;
NN_API nn_dataset *nn_data_padded_batch(nn_context *ctx, nn_dataset *up, int64_t n, const nn_padding *pad, bool drop_last);
NN_API nn_dataset *nn_data_unique(nn_context *ctx, nn_dataset *up);
NN_API nn_dataset *nn_data_cache(nn_context *ctx, nn_dataset *up, const char *file); /* file NULL: in memory */
NN_API nn_dataset *nn_data_ignore_errors(nn_context *ctx, nn_dataset *up);
NN_API nn_dataset *nn_data_zip(nn_context *ctx, int n, nn_dataset *const *ups);
NN_API nn_dataset *nn_data_concat(nn_context *ctx, int n, nn_dataset *const *ups);
/* choices: i64 scalars from 1 to n; stop: end with the first that ends */
NN_API nn_dataset *nn_data_choose(nn_context *ctx, nn_dataset *choices, int n, nn_dataset *const *ups, bool stop);
/* block elements of each in turn; those that have ended are passed over */
NN_API nn_dataset *nn_data_interleave(nn_context *ctx, int n, nn_dataset *const *ups, int64_t block);
NN_API nn_dataset *nn_data_sample_from(nn_context *ctx, int n, nn_dataset *const *ups, const double *weights, uint64_t seed, bool stop);

/* fn borrows in[nin] and gives *nout new references in out (0: the element is left out; -1: the pass ends here); on failure it leaves a status
** and its message in the context (nn_data_fail). It is called inside nn_iter_next, which hands `caller` on. ud must outlive the data set. */
typedef nn_status (*nn_map_fn)(void *caller, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout);
NN_API nn_dataset *nn_data_map(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud);
NN_API nn_dataset *nn_data_filter(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud);     /* gives what it takes, or nothing */
NN_API nn_dataset *nn_data_take_while(nn_context *ctx, nn_dataset *up, nn_map_fn fn, void *ud); /* or -1 */
/* in[0] is the carry, `initial` at first; out[0] is the next one. */
NN_API nn_dataset *nn_data_scan(nn_context *ctx, nn_dataset *up, nn_tensor *initial, nn_map_fn fn, void *ud);
/* fn gives a new reference; `cycle` of these data sets are open at a time, `block` elements of each come in turn; slot: which of the cycle. */
typedef nn_status (*nn_flat_fn)(void *caller, void *ud, int slot, nn_tensor *const *in, int nin, nn_dataset **out);
NN_API nn_dataset *nn_data_flat_map(nn_context *ctx, nn_dataset *up, nn_flat_fn fn, void *ud, int64_t cycle, int64_t block);
/* fn says what an element is counted under; *size is the group's and may be changed. */
typedef nn_status (*nn_key_fn)(void *caller, void *ud, nn_tensor *const *in, int nin, int64_t *key, int64_t *size);
/* Padded batches of elements of similar length (by's key; by NULL: the size of dim 0 of tensor `which`, from 0): nbounds ascending bounds,
** nbounds + 1 batch sizes. */
NN_API nn_dataset *nn_data_bucket(nn_context *ctx, nn_dataset *up, int which, nn_key_fn by, void *ud, int nbounds, const int64_t *bounds,
                                  const int64_t *sizes, const nn_padding *pad, bool drop_last);
/* `size` elements of one key become a data set (lent); fn gives a new reference to what comes out of it. Windows that are not full come last. */
typedef nn_status (*nn_group_fn)(void *caller, void *ud, int64_t key, nn_dataset *window, nn_dataset **out);
NN_API nn_dataset *nn_data_group(nn_context *ctx, nn_dataset *up, nn_key_fn by, nn_group_fn fn, void *ud, int64_t size);
NN_API nn_status nn_data_fail(nn_context *ctx, nn_status s, const char *message); /* for such functions: sets the message, returns s */

/* A map on threads of its own. begin makes what one thread uses and end drops it, both on the context's thread (begin with the caller of
** nn_iter_next); run is called on the thread, one call at a time for each worker: key is as good as a fresh seed for each element of each pass, `in`
** is lent, what it points `out` to stays until the worker's next call. Failures: a status, the text in message. drop: when the data set goes. */
typedef struct nn_array {
  nn_dtype dtype;
  int ndim;
  int64_t shape[NN_MAXDIM];
  const void *data;
} nn_array;
typedef struct nn_workers {
  nn_status (*begin)(void *caller, void *ud, void **worker, char *message, size_t size);
  nn_status (*run)(void *worker, void *caller, uint64_t key, const nn_array *in, int nin, nn_array *out, int *nout, char *message, size_t size);
  void (*end)(void *ud, void *worker);
  void (*drop)(void *ud);
  void *ud;
} nn_workers;
NN_API nn_dataset *nn_data_parallel(nn_context *ctx, nn_dataset *up, const nn_workers *fn, int workers, uint64_t seed); /* drops fn on failure too */

NN_API nn_dataset *nn_dataset_retain(nn_dataset *d);
NN_API void nn_dataset_release(nn_dataset *d);                        /* NULL is allowed */
NN_API int64_t nn_dataset_cardinality(const nn_dataset *d);           /* elements of a pass, NN_INFINITE or NN_UNKNOWN */
NN_API int nn_dataset_components(const nn_dataset *d, nn_array *spec); /* of an element: how many, no data, dims that vary -1; -1: not known */
NN_API int nn_dataset_spec(const nn_dataset *d, char *buf, size_t n); /* "u8 64x28x28x1, i64 64", "?": not known; as snprintf */
NN_API int nn_dataset_describe(const nn_dataset *d, char *buf, size_t n); /* "tensors(60000) shuffle(10000) batch(64)"; as snprintf */
NN_API uint64_t nn_data_seed(nn_context *ctx);                        /* a seed from the context's random stream */

/* ---- passes ------------------------------------------------------------------------------------------------------------- */
NN_API nn_iter *nn_iter_open(nn_context *ctx, nn_dataset *d);
NN_API nn_status nn_iter_next(nn_context *ctx, nn_iter *it, void *caller, nn_tensor **out, int *n); /* out[NN_DATA_MAX]; *n == 0: the end */
NN_API void nn_iter_close(nn_iter *it); /* joins its threads; NULL is allowed */
NN_API bool nn_iter_done(const nn_iter *it);

/* Where a pass stands, as a few numbers. it NULL or done: between two passes. words has room for nn_dataset_state_words(d). */
NN_API int nn_dataset_state_words(const nn_dataset *d);
NN_API int nn_dataset_save(const nn_dataset *d, const nn_iter *it, int64_t *words);
/* Let d, an equal pipeline, go on from there: *it is a pass that continues, or NULL when the state lies between passes. */
NN_API nn_status nn_dataset_restore(nn_context *ctx, nn_dataset *d, void *caller, const int64_t *words, int n, nn_iter **it);

/* ---- where data come from -------------------------------------------------------------------------------------------------- */
/* The array of an IDX file, gzipped or not. type (0x08 u8 .. 0x0e f64, 0 any) and ndim (0 any) are what it must have. */
NN_API nn_tensor *nn_idx_read(nn_context *ctx, const char *path, int type, int ndim);
/* Samples [first, first + n) of an endless list of generated digits: images u8 n x 28 x 28, labels u8 n, 0 to 9. */
NN_API nn_status nn_digits(nn_context *ctx, uint64_t seed, int64_t first, int64_t n, nn_tensor **images, nn_tensor **labels);

typedef struct nn_download {
  const char *url;  /* https only; so are redirects */
  const char *dest; /* its folder is created (0700); it appears there whole and verified, or not at all */
  int64_t limit;    /* most bytes it may have; 0: no limit */
  const char *md5, *sha256; /* 32 and 64 lower-case hex digits, or NULL */
  bool (*progress)(void *ud, int64_t done, int64_t total); /* total -1: unknown; false stops; may be NULL */
  void *ud;
} nn_download;
NN_API nn_status nn_download_run(nn_context *ctx, const nn_download *d); /* never waits for ever: 10 s to connect, 20 s below 100 bytes a second */

#ifdef __cplusplus
}
#endif
#endif
