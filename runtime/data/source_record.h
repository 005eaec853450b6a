/* data/source_record.h - elements that stand one behind the other in files: lines of text and records of TFRecord files; and what is in them.
**
** A stream of records is an element stage: nothing of the files is held but the record that comes next, and its state is a file and a place in it, so
** that it goes on in constant time (in gzipped files, by inflating what lies before). Records are u8 vectors. Runs on any thread.
*/
#ifndef NNI_SOURCE_RECORD_H
#define NNI_SOURCE_RECORD_H
#include "../nn_sources.h"
#include "dataset.h"

typedef enum nni_record_kind { NNI_LINES, NNI_TFRECORDS } nni_record_kind;

/* The records of nfiles files, file after file. most: bytes of a record; a longer one is an error. */
nni_dataset *nni_data_records(nni_memory *m, nni_record_kind kind, int nfiles, const char *const *files, int64_t most, nni_error *err);

/* Component `which` (from 0; a path) replaced by the bytes of that file, of at most `most`; then v (copied; may be NULL) is applied. */
nni_dataset *nni_data_read_files(nni_dataset *up, int which, int64_t most, const nn_vision *v, int workers, nni_error *err);

/* Records of one component (u8 vectors), each a serialised tf.train.Example, as the named features; up to NN_DATA_MAX. */
nni_dataset *nni_data_examples(nni_dataset *up, int n, const nn_feature *features, int workers, nni_error *err);

#endif
