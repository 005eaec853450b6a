/* data/dataset.h - lazy data sets: a source and a chain of verbs, pulled one element at a time.
**
** A data set (nni_dataset) only describes; verbs make a new one and change nothing. An iterator (nni_iter) is one pass: a chain of stages, one per
** data set, each pulling from the one before it. An element is a few arrays (components): a row of each source array, or a batch of them.
**
** Two kinds of stages. A *row* stage (sources, shuffle, take, skip, repeated over rows) yields numbers of source rows, so a pipeline shuffles,
** skips and repeats without touching data, and `batch` gathers a whole batch from the source arrays with one allocation per component. An *element*
** stage (batch, map, prefetch, and whatever stands on them) yields elements. A verb is a row of functions (nni_verb); adding one edits no other file.
**
** A verb may stand on several data sets (zip, concat, choose): `ups`, of which `up` is the first. A node's own parameters are `own`
** (verb->node_bytes of it, zeroed) or, for the oldest verbs, in the union.
**
** State: a stage adds its words to those of the stages before it. Where what a stage holds is not a few numbers (buckets, carries, what was seen),
** its verb says `replay`: the state is where the stages before it stood when the pass began and how many elements were given since; they are
** made again and dropped.
**
** Order is a function of (seed, opening, repetition): never of threads or of how far ahead a worker ran. An opening is the number of times
** a pass over this shuffle was begun, so each epoch has its own order and a resumed run goes on with the next.
**
** Threads: data sets and iterators belong to the consumer's thread (one at a time). Only prefetch runs stages elsewhere: the stages before it run
** on its worker, or on one of the pool's, while the iterator is being read; and a native map (native.c) runs its function, nothing else, on its
** workers. Element buffers come from the thread-safe nni_memory.
*/
#ifndef NNI_DATASET_H
#define NNI_DATASET_H
#include "../base/base.h"
#include "../nn_data.h"

/* ---- elements -------------------------------------------------------------------------------------------------------- */

typedef struct nni_component {
  nn_dtype dtype;
  int32_t ndim;
  int64_t shape[NN_MAXDIM]; /* in a spec -1: varies */
  uint32_t loose;           /* in a spec, bit i: dim i may be smaller in the last element */
  void *buffer;             /* row-major, of nni_buffer_get(m, bytes); or NULL and */
  size_t bytes;
  nn_tensor *tensor;        /* the value itself: what a map function gave; consumer's thread only */
} nni_component;

typedef struct nni_element {
  int n; /* components; 0 from nni_iter_next: the end; -1 in a spec: not known before it runs */
  nni_component c[NN_DATA_MAX];
} nni_element;

void nni_element_free(nni_memory *m, nni_element *e); /* give back what it still holds; then n is 0 */

/* ---- data sets --------------------------------------------------------------------------------------------------------- */

typedef struct nni_dataset nni_dataset;

/* An array whose rows are elements. The data stay where they are; drop(owner) is called when the last data set on them goes. */
typedef struct nni_column {
  nn_dtype dtype;
  int32_t ndim;             /* of one row */
  int64_t shape[NN_MAXDIM]; /* of one row */
  const void *data;         /* rows x row, row-major */
  const int32_t *ends;      /* texts: row i is bytes [ends[i], ends[i + 1]) of data (u8, ndim 1, shape -1); rows + 1 of them, ascending; else NULL */
  void *owner;
  void (*drop)(void *owner);
} nni_column;

/* What a map function is: takes `in` (may keep or free its parts), fills `out`; out->n 0 leaves the element out, -1 ends the pass (filter, take_while).
** `caller` is what nni_iter_next was given. */
typedef nn_status (*nni_map_fn)(void *caller, void *ud, nni_element *in, nni_element *out, nni_error *err);

/* What random draws of a native map are made of: (seed, epoch, sample) and nothing else, so never who runs it or when. Use
** nni_philox4x32(key, n, stream) or nni_random_u32(key, stream, offset, ...) with a stream of your own. */
typedef struct nni_sample {
  uint64_t key;  /* of seed, opening and repetition, and index: as good as a fresh seed for each sample of each epoch */
  int64_t index; /* of the element in this pass, from 0 */
  void *caller;  /* without workers: what nni_iter_next was given; else NULL */
} nni_sample;

/* A map function without Lua. `run` is called from several threads at once, with another `worker` and another element each; it takes `in` (components
** are buffers, never tensors; it may move a component's buffer to `out` and then sets it to NULL in `in`; the caller frees what is left),
** and fills `out` with buffers of nni_buffer_get(m, bytes). On failure it gives back what it put into out (nni_element_free) and fills err. Its
** result depends on ud, in and sample only. out->n == 0 leaves the element out (then cardinality is not known: set `drops`). */
typedef struct nni_native {
  const char *name; /* "resize": shown, and part of what a saved state must match; outlives the data set */
  bool drops;
  nn_status (*run)(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err);
  nn_status (*spec)(void *ud, const nni_element *in, nni_element *out, nni_error *err); /* what its elements look like; also refuses; in->n may be -1; NULL: unknown */
  /* What one thread alone uses; both on the consumer's thread, with what nni_iter_next was given. NULL: worker is NULL. */
  nn_status (*begin)(void *caller, void *ud, void **worker, nni_error *err);
  void (*end)(void *ud, void *worker);
  void (*drop)(void *ud); /* when the data set goes, also when making it fails; NULL: nothing */
  void *ud;
} nni_native;
#define NNI_WORKERS_MOST 256

/* Each makes a new data set, or returns NULL and fills err. A verb holds a reference to `up`. Owners of columns are taken
** over only on success. */
nni_dataset *nni_data_columns(nni_memory *m, int64_t rows, int ncols, const nni_column *cols, nni_error *err);
/* Row i is rows i*stride + k*rate, k < length, of the first column; and row i*stride of the second where ncols is 2 (`count` such rows exist). */
nni_dataset *nni_data_windows(nni_memory *m, int64_t count, int64_t length, int64_t stride, int64_t rate, int ncols, const nni_column *cols,
                              nni_error *err);
nni_dataset *nni_data_range(nni_memory *m, int64_t first, int64_t step, int64_t count, nni_error *err); /* scalars, i64 */
nni_dataset *nni_data_shuffle(nni_dataset *up, int64_t buffer, uint64_t seed, bool reshuffle, nni_error *err);
nni_dataset *nni_data_batch(nni_dataset *up, int64_t n, bool drop_last, nni_error *err);
nni_dataset *nni_data_repeated(nni_dataset *up, int64_t times, nni_error *err); /* times < 0: for ever */
nni_dataset *nni_data_take(nni_dataset *up, int64_t n, nni_error *err);
nni_dataset *nni_data_skip(nni_dataset *up, int64_t n, nni_error *err);
nni_dataset *nni_data_shard(nni_dataset *up, int64_t n, int64_t index, nni_error *err); /* elements index, index + n, ...; from 0 */
nni_dataset *nni_data_enumerate(nni_dataset *up, int64_t first, nni_error *err); /* a first component: first, first + 1, ... (i64) */
nni_dataset *nni_data_ignore_errors(nni_dataset *up, nni_error *err);
nni_dataset *nni_data_zip(int n, nni_dataset *const *ups, nni_error *err);
nni_dataset *nni_data_concat(int n, nni_dataset *const *ups, nni_error *err);
/* choices gives i64 scalars 1..n; stop: when one has ended, else it is passed over. */
nni_dataset *nni_data_choose(nni_dataset *choices, int n, nni_dataset *const *ups, bool stop, nni_error *err);
/* `block` elements of each in turn; those that have ended are passed over. */
nni_dataset *nni_data_turns(int n, nni_dataset *const *ups, int64_t block, nni_error *err);
nni_dataset *nni_data_sample_from(int n, nni_dataset *const *ups, const double *weights, uint64_t seed, bool stop, nni_error *err);
/* fn runs on the consumer's thread. ud_bytes > 0: ud is of nni_malloc(m, ud_bytes), and the data set's from now on, also when this fails. */
nni_dataset *nni_data_map(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err);
nni_dataset *nni_data_filter(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err);
nni_dataset *nni_data_take_while(nni_dataset *up, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err);
nni_dataset *nni_data_scan(nni_dataset *up, nn_tensor *initial, nni_map_fn fn, void *ud, size_t ud_bytes, nni_error *err);
/* What fn gives (a reference) is passed over; slot: which of the `cycle` that are open, `block` elements of each in turn. */
typedef nn_status (*nni_flat_fn)(void *caller, void *ud, int slot, nni_element *in, nni_dataset **out, nni_error *err);
nni_dataset *nni_data_flat_map(nni_dataset *up, nni_flat_fn fn, void *ud, size_t ud_bytes, int64_t cycle, int64_t block, nni_error *err);
nni_dataset *nni_data_unbatch(nni_dataset *up, nni_error *err);
/* Elements [i*shift, i*shift + size*stride) by stride, as one batch each. */
nni_dataset *nni_data_window(nni_dataset *up, int64_t size, int64_t shift, int64_t stride, bool drop_last, nni_error *err);
/* Batches of elements of several shapes: each filled up to the largest, or to the shape that pad gives. */
nni_dataset *nni_data_padded_batch(nni_dataset *up, int64_t n, const nn_padding *pad, bool drop_last, nni_error *err);
/* What an element is counted under. It stays; its buffers may become tensors. *size: of its group's windows, if it is new; may be changed. */
typedef nn_status (*nni_key_fn)(void *caller, void *ud, nni_element *e, int64_t *key, int64_t *size, nni_error *err);
typedef struct nni_key { /* of nni_malloc(m, ud_bytes), the data set's from then on, also when making it fails; fn NULL: none */
  nni_key_fn fn;
  void *ud;
  size_t ud_bytes;
} nni_key;
/* Elements whose length (the first dim of component `which`, or what `by` says) lies below bounds[i] (and not below those before) gather in padded
** batches of sizes[i]; nbounds + 1 sizes. */
nni_dataset *nni_data_bucket(nni_dataset *up, int which, const nni_key *by, int nbounds, const int64_t *bounds, const int64_t *sizes,
                             const nn_padding *pad, bool drop_last, nni_error *err);
/* `size` elements of one key at a time are a data set; the elements of what fn makes of it (a reference) come out. At the end the windows that are
** not full, by their keys. */
typedef nn_status (*nni_group_fn)(void *caller, void *ud, int64_t key, nni_dataset *window, nni_dataset **out, nni_error *err);
nni_dataset *nni_data_group(nni_dataset *up, const nni_key *by, nni_group_fn fn, int64_t size, nni_error *err);
nni_dataset *nni_data_unique(nni_dataset *up, nni_error *err);
nni_dataset *nni_data_cache(nni_dataset *up, const char *file, nni_error *err); /* file NULL: in memory */
/* worth: elements that are only gathered, and take up to this many bytes, come without the worker: handing them over would cost more. They
** are made one ahead by the pool's threads while those have no loop to run, or else when asked for; pool NULL: when asked for. */
#define NNI_PREFETCH_WORTH (256 * 1024) /* measured: a hand-over costs as much as gathering 250 KB */
nni_dataset *nni_data_prefetch(nni_dataset *up, int64_t n, int64_t worth, nni_threads *pool, nni_error *err);

/* fn->run of each element on `workers` threads (0: on the one that asks), in order; the same elements for any number. */
nni_dataset *nni_data_native(nni_dataset *up, const nni_native *fn, int workers, uint64_t seed, nni_error *err);

nni_dataset *nni_dataset_retain(nni_dataset *d);
void nni_dataset_release(nni_dataset *d); /* NULL is allowed */
int64_t nni_dataset_cardinality(const nni_dataset *d);
const nni_element *nni_dataset_spec(const nni_dataset *d); /* what its elements look like; no buffers */
/* "columns(60000) shuffle(10000) batch(64)": also what a saved state must match. Returns the length, as snprintf does. */
int nni_dataset_describe(const nni_dataset *d, char *buf, size_t n);

/* ---- iterating --------------------------------------------------------------------------------------------------------- */

typedef struct nni_iter nni_iter;
nni_iter *nni_iter_open(nni_dataset *d, nni_error *err);
nn_status nni_iter_next(nni_iter *it, void *caller, nni_element *out, nni_error *err); /* out->n == 0: the end, also ever after */
nn_status nni_iter_skip(nni_iter *it, void *caller, int64_t n, int64_t *skipped, nni_error *err); /* as nni_stage_skip */
void nni_iter_close(nni_iter *it); /* joins workers, frees everything; NULL is allowed */
bool nni_iter_done(const nni_iter *it); /* the end was reached, or a failure */

/* State: where a pass stands, as a few numbers. `it` NULL or done: between two passes. nni_state_words(d) words are written;
** returns how many. */
int nni_state_words(const nni_dataset *d);
int nni_state_save(const nni_dataset *d, const nni_iter *it, int64_t *words);
/* Make d go on from a saved state of an equal pipeline. *out: an iterator in the middle of its pass, or NULL when the state lies between passes.
** Costs a few nanoseconds a row for indexable sources (no data is read); other stages are run again and their elements dropped. */
nn_status nni_state_restore(nni_dataset *d, void *caller, const int64_t *words, int n, nni_iter **out, nni_error *err);

/* ---- for the files of this room: what a verb is -------------------------------------------------------------------------- */

typedef struct nni_stage nni_stage;
#define NNI_STATE_HEAD 2 /* words of a state in front of the stages': format; in a pass or between two */

typedef struct nni_verb {
  const char *name;
  bool silent;        /* changes neither elements nor order: left out of nni_dataset_describe */
  bool replay;        /* made again from the start of the pass when restored; then save, save_up and restore are not given, and words is 1 */
  size_t stage_bytes; /* of its stage struct, which begins with an nni_stage */
  size_t node_bytes;  /* of d->own */
  int words;          /* of state it adds */
  int (*params)(const nni_dataset *d, char *buf, size_t n); /* "10000"; as snprintf; NULL: none */
  int64_t (*cardinality)(const nni_dataset *d);
  int64_t (*rows_in)(const nni_dataset *d); /* first dims of all its elements together; NULL: what the spec says, where elements are alike */
  nn_status (*open)(nni_stage *s, nni_error *err); /* prepare a pass (s->up is open); on failure close is still called; may be NULL */
  /* Row stages: up to max (> 0) numbers of source rows; *got == 0: the end. */
  nn_status (*rows)(nni_stage *s, int64_t *out, int64_t max, int64_t *got, nni_error *err);
  /* Element stages: the next element; n == 0: the end. */
  nn_status (*next)(nni_stage *s, void *caller, nni_element *out, nni_error *err);
  nn_status (*rewind)(nni_stage *s, nni_error *err);             /* begin again as pass s->pass; rewinds s->ups itself; NULL: only that */
  void (*reset)(nni_stage *s);                                    /* the stages before it stand at a pass's begin: forget what is held; after open too */
  nn_status (*seek)(nni_stage *s, void *caller, int64_t n, nni_error *err); /* replay, where there is a quicker way to where n were given; or NULL */
  void (*save)(const nni_stage *s, int64_t *words);
  void (*save_up)(const nni_stage *s, int64_t *words);           /* state of the stages before it, when that isn't where they stand now */
  nn_status (*restore)(nni_stage *s, void *caller, const int64_t *words, nni_error *err); /* the stages before it have been restored */
  void (*save_node)(const nni_dataset *d, int64_t *words);       /* between passes; NULL: zeros */
  void (*restore_node)(nni_dataset *d, const int64_t *words, bool in_pass);
  void (*close)(nni_stage *s);                                    /* before s->up is closed; may be NULL */
  void (*free)(nni_dataset *d);                                   /* what its parameters hold; may be NULL */
  void (*gather)(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst); /* sources: rows into one buffer per component */
  int64_t (*length)(const nni_dataset *d, int component, int64_t row); /* sources: the first dim of a row whose spec has -1 there */
} nni_verb;

struct nni_dataset {
  int refs, depth;
  const nni_verb *verb;
  nni_memory *m;
  nni_dataset *up;           /* ups[0], or NULL */
  nni_dataset **ups;         /* &up when there is one */
  int nups;
  void *own;
  const nni_dataset *source; /* of a row stage: where its rows are; NULL: an element stage */
  bool consumer_only;        /* calls back: must run on the consumer's thread */
  bool gathered;             /* elements are made of rows and nothing else is done */
  int words;                 /* of state: head, those of ups, its own */
  int own_words;             /* its own */
  nni_element spec;
  union {
    struct { int64_t rows; int ncols; nni_column *cols; } columns;
    struct { int64_t first, step, count; } range;
    struct { int64_t buffer, opens; uint64_t seed; bool reshuffle; } shuffle;
    struct { int64_t n; bool drop_last; } batch;
    struct { int64_t n; bool worker; nni_threads *pool; } prefetch; /* worker, or pool, or neither: when asked for */
    int64_t n; /* repeated, take, skip, enumerate */
  } u;
};

struct nni_stage {
  nni_dataset *d;
  nni_stage *up, **ups; /* ups[0], or NULL; as many as d->nups */
  uint64_t pass;  /* names the repetition: 0 at first, then from nni_pass_number */
  int64_t given;  /* elements of this pass (not rows) */
  int64_t *start; /* replay: state of the stages before it when the pass began */
};

/* dataset.c */
nni_dataset *nni_dataset_new(nni_memory *m, const nni_verb *verb, nni_dataset *up, nni_error *err); /* spec and kind taken from up */
/* On several, spec and kind of the first (an element stage unless the caller sets source); more: words of state beyond the verb's. */
nni_dataset *nni_dataset_join(nni_memory *m, const nni_verb *verb, int nups, nni_dataset *const *ups, int more, nni_error *err);
int nni_words_before(const nni_dataset *d); /* of state of the stages before its own */
nn_status nni_stage_pull(nni_stage *s, void *caller, nni_element *out, nni_error *err); /* the next element of any stage */
nn_status nni_stage_rewind(nni_stage *s, uint64_t pass, nni_error *err);
int nni_stage_save(const nni_stage *s, int64_t *words);
void nni_stage_save_ups(const nni_stage *s, int64_t *words); /* of the stages before it, where they stand: nni_words_before */
nn_status nni_stage_restore_ups(nni_stage *s, void *caller, const int64_t *words, nni_error *err);
/* n elements dropped, fewer at the end; nanoseconds each over rows */
nn_status nni_stage_skip(nni_stage *s, void *caller, int64_t n, int64_t *skipped, nni_error *err);
int64_t nni_dataset_rows_in(const nni_dataset *d); /* of all its elements together, as cardinality */
int64_t nni_up_rows_in(const nni_dataset *d);      /* for verbs that give the elements they take */
uint64_t nni_pass_number(uint64_t pass, int64_t repetition); /* of a repetition within a pass; repetition 0 is the pass itself */
/* n rows into fresh buffers, as one element; lead: rows become the first dim (else n is 1). */
nn_status nni_rows_gather(const nni_dataset *d, const int64_t *rows, int64_t n, bool lead, nni_element *out, nni_error *err);
nn_status nni_element_data(const nni_component *c, const void **data, nni_error *err); /* where its bytes are; runs a pending tensor */
nn_status nni_element_own(nni_memory *m, nni_element *e, nni_error *err); /* tensors copied into buffers, so that e may go to another thread */
nn_status nni_element_copy(nni_memory *m, const nni_element *from, nni_element *to, nni_error *err); /* buffers of its own */
/* Elements [0, n) as one with a new first dim, in fresh buffers. pad (or NULL): shapes may differ, all are filled up. */
nn_status nni_elements_stack(nni_memory *m, const char *name, const nni_element *list, int64_t n, const nn_padding *pad, nni_element *out,
                             nni_error *err);
int nni_padding_text(const nn_padding *pad, char *buf, size_t n); /* for params, with a blank in front */
bool nni_padding_fits(const char *name, const nni_dataset *up, const nn_padding *pad, nni_error *err); /* as far as up's spec tells */
nni_dataset *nni_lead_spec(nni_dataset *d, int64_t n, bool drop_last, const nn_padding *pad);
bool nni_lead_room(const char *name, const nni_dataset *up, nni_error *err); /* have its elements room for one more dim? */

typedef struct nni_heap { /* elements that wait, in an array that grows */
  nni_element *e;
  int64_t n, cap;
} nni_heap;
nn_status nni_heap_add(nni_memory *m, nni_heap *h, nni_element *e, nni_error *err); /* takes e, on failure too */
void nni_heap_drop(nni_memory *m, nni_heap *h, int64_t n);                          /* the first n */
void nni_heap_free(nni_memory *m, nni_heap *h);
bool nni_component_alike(const nni_component *a, const nni_component *b); /* dtype and shape */

/* api.c: the parts of e as tensors, new references; e is empty afterwards, whatever happens. Consumer's thread. */
nn_status nni_element_tensors(nn_context *ctx, nni_element *e, nn_tensor **out, int *n);

#endif
