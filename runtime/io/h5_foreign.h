/* io/h5_foreign.h - HDF5 files that other programs wrote: read by a process of its own, nn_h5_reader.
**
** HDF5 cannot be made safe against hostile files in the process that uses it (3 to 4 of 100 crash it, whatever is checked first). So the bytes
** go to a helper program that is started for one file, has limits on memory, time and output and cannot open files, and a crash
** in it is an error message here. The helper gets the file as descriptor NNI_READER_IN and writes what it read to NNI_READER_OUT, a file in
** memory, as the records below; nothing of it is believed: h5_foreign.c checks each length against what is there.
**
** A stream is a head, then records. Every record begins with an nni_h5_record at a multiple of 8 bytes:
**   dataset  a = dtype, b = number of dims, text = bytes of the path, body = bytes of the elements; then shape (i64 each), path, elements
**   attr     a = kind (nn_attr_kind), b = number of texts, text = bytes of path, name and texts with a zero byte each, body 0; then value (i64 or
**            double, 8 bytes), path, name, texts
**   failure  a = nn_status, text = bytes of the message; then the message
**   end      the last one of a file that was read whole
** Parts are padded to multiples of 8 bytes.
*/
#ifndef NNI_H5_FOREIGN_H
#define NNI_H5_FOREIGN_H
#include "archive.h"

#define NNI_READER_IN 3
#define NNI_READER_OUT 4
#define NNI_READER_PROGRAM "nn_h5_reader"
#define NNI_READER_MAGIC UINT64_C(0x3168357265646872) /* changes with the records */
/* Most seconds that a file of n bytes may take, of the clock and of the processor: a small one is read in 0.01 s, 100 MB in 0.1 s. */
#define NNI_READER_SECONDS(n) (30 + (int64_t)(n) / (8 << 20))
#define NNI_READER_CPU(n) (2 + (int64_t)(n) / (8 << 20))
/* A file of n bytes may become this many bytes of tensors. */
#define NNI_READER_ROOM(n) (8 * (int64_t)(n) + ((int64_t)16 << 20))

enum { NNI_H5_DATASET = 1, NNI_H5_ATTR, NNI_H5_FAILURE, NNI_H5_END };
typedef struct nni_h5_record {
  uint32_t tag, a, b, text;
  uint64_t body;
} nni_h5_record;

/* a must be fresh and stays empty on failure. `name` is for messages. fd is left open. */
nn_status nni_archive_read_foreign(nni_archive *a, int fd, const char *name, nni_error *err);

#endif
