/* nn_sources.h - where the elements of data sets come from, a part of the public interface (nn.h is the first, nn_data.h has data sets): columns in
** memory, windows over series, lines, TFRecord files, CSV tables. Conventions are nn.h's: NULL or a status on failure, with the message in the context.
**
** A text is a u8 vector, and texts of several lengths are a column of two tensors: all their bytes (u8), and where they end (i32, one more than there
** are texts: text i is bytes [ends[i], ends[i + 1])).
*/
#ifndef NN_SOURCES_H
#define NN_SOURCES_H
#include "nn_data.h"
#include "nn_vision.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- data sets: each returns a new reference ------------------------------------------------------------------------------ */

typedef struct nn_column {
  nn_tensor *data;
  nn_tensor *ends; /* texts; else NULL */
} nn_column;
NN_API nn_dataset *nn_data_columns(nn_context *ctx, int n, const nn_column *cols); /* element i is row i of each; no copy is made */

/* Element i: rows i*stride, i*stride + rate, ... (length of them) of x; and row i*stride of targets unless that is NULL. As many as x and targets
** have, and at most `most` (< 0: no limit). */
NN_API nn_dataset *nn_data_windows(nn_context *ctx, nn_tensor *x, nn_tensor *targets, int64_t length, int64_t stride, int64_t rate, int64_t most);

/* Lines of texts, without their ends; records of TFRecord files, checked (CRC-32C). Files may be gzipped. most: bytes of one of them. */
NN_API nn_dataset *nn_data_lines(nn_context *ctx, int nfiles, const char *const *files, int64_t most);
NN_API nn_dataset *nn_data_tfrecord(nn_context *ctx, int nfiles, const char *const *files, int64_t most);

/* Component `which` (from 0), a path, replaced by the bytes of that file, of at most `most`; on `workers` threads. v (copied; NULL: nothing): applied
** to the element then, as nn_data_vision does with seed 0; what goes wrong in it names the file. */
NN_API nn_dataset *nn_data_read_files(nn_context *ctx, nn_dataset *up, int which, int64_t most, const nn_vision *v, int workers);

/* One feature of a tf.train.Example. */
typedef struct nn_feature {
  const char *name;
  nn_dtype dtype; /* NN_U8: one byte string, as a vector; NN_F32, NN_I64 */
  int ndim;
  int64_t shape[NN_MAXDIM]; /* with ndim 1, -1: as many as there are */
  bool optional;            /* where it is missing: all `missing` (a byte string: an empty one) */
  double missing;
} nn_feature;
/* Records, each a serialised tf.train.Example, as the named features. */
NN_API nn_dataset *nn_data_examples(nn_context *ctx, nn_dataset *up, int n, const nn_feature *features, int workers);

/* ---- CSV tables ------------------------------------------------------------------------------------------------------------ */

typedef struct nn_csv_form {
  const char *path;
  char delimiter;
  bool header; /* the first row holds names */
  int nmissing;
  const char *const *missing; /* texts that stand for a missing cell, besides the empty one */
} nn_csv_form;

typedef enum nn_csv_kind { NN_CSV_INTEGERS, NN_CSV_NUMBERS, NN_CSV_TEXTS } nn_csv_kind;

typedef struct nn_csv_column {
  char *name;       /* NULL without a header */
  nn_csv_kind kind; /* of all its cells that are not missing */
  int64_t missing;  /* cells */
  int64_t bytes;    /* of its cells as texts */
} nn_csv_column;

typedef struct nn_csv_table {
  int64_t rows;
  int ncols;
  nn_csv_column *cols;
} nn_csv_table;

NN_API nn_status nn_csv_scan(nn_context *ctx, const nn_csv_form *form, nn_csv_table *table); /* the whole file is looked at */
NN_API void nn_csv_table_free(nn_context *ctx, nn_csv_table *table);                         /* harmless on zeros */

/* Some columns side by side: rows x ncols, or (scalar) one as a vector of rows; or one column of texts. */
typedef struct nn_csv_part {
  int ncols;
  const int *cols; /* from 0 */
  bool scalar, text;
  nn_dtype dtype; /* of numbers: f32 f64 i64 i32 u8 bool */
  double fill;    /* for missing cells; NaN where dtype has none: an error */
} nn_csv_part;
/* out[n]: new references. n up to NN_DATA_MAX. */
NN_API nn_status nn_csv_read(nn_context *ctx, const nn_csv_form *form, const nn_csv_table *table, int n, const nn_csv_part *parts, nn_column *out);

#ifdef __cplusplus
}
#endif
#endif
