/* io/idx.h - IDX files (the MNIST format), plain or gzipped.
**
** IDX: two zero bytes, an element type, the number of dimensions, big-endian u32 sizes, then the elements row-major, big-endian.
** Whether a file is gzipped is told by its content, never by its name. Called from any thread.
*/
#ifndef NNI_IDX_H
#define NNI_IDX_H
#include "../base/base.h"

typedef enum nni_idx_type {
  NNI_IDX_ANY = 0,
  NNI_IDX_U8 = 0x08,
  NNI_IDX_I8 = 0x09,
  NNI_IDX_I16 = 0x0b,
  NNI_IDX_I32 = 0x0c,
  NNI_IDX_F32 = 0x0d,
  NNI_IDX_F64 = 0x0e
} nni_idx_type;

/* What a file holds. i8 and i16 are widened to i32 and f64 is narrowed to f32: the runtime has no such dtypes. */
typedef struct nni_idx {
  nn_dtype dtype;
  int ndim;
  int64_t shape[NN_MAXDIM];
  void *buffer; /* of nni_buffer_get(m, bytes) */
  size_t bytes; /* elements times the size of dtype */
} nni_idx;

/* Read a whole file. type and ndim: what it must be (NNI_IDX_ANY and 0: anything). Memory taken never exceeds what the file can hold:
** a lying header is found out before anything is allocated. On failure out->buffer is NULL. */
nn_status nni_idx_read(nni_memory *m, const char *path, nni_idx_type type, int ndim, nni_idx *out, nni_error *err);
void nni_idx_free(nni_memory *m, nni_idx *x); /* gives the buffer back; harmless when there is none */

#endif
