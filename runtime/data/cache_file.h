/* data/cache_file.h - elements of a data set in a file, for cache.c. Everything is little-endian and in multiples of 8 bytes:
**   "NNLDATA2", bytes of the file, elements, length of the text; the text (what pipeline they are of), zeros up to 8; checksum
**   per element: components; per component: name of the dtype in 8 bytes, dims, sizes, bytes of data; the data, zeros up to 8; checksum
** A checksum is the CRC-32 of the bytes since the last one. They are all checked when the file is opened; a file of ours that is damaged, cut, or of
** an earlier version ("NNLDATA1", without checksums) counts as none, so that it is made anew.
** Reading believes nothing: every count is held against what is left of the file, so memory is bounded by the file's size (times 40: an element of no
** bytes has a descriptor). Writing needs 64 KiB: elements go to the file from where they lie.
*/
#ifndef NNI_CACHE_FILE_H
#define NNI_CACHE_FILE_H
#include "dataset.h"

typedef struct nni_cache_map {
  void *base; /* NULL: no file */
  size_t size;
  nni_element *e; /* their buffers lie in the file */
  int64_t n;
} nni_cache_map;

nn_status nni_cache_write(nni_memory *m, const char *path, const char *text, const nni_element *e, int64_t n, nni_error *err);
nn_status nni_cache_open(nni_memory *m, const char *path, const char *text, nni_cache_map *out, nni_error *err); /* none, or damaged: NN_OK, base NULL */
void nni_cache_unmap(nni_memory *m, nni_cache_map *map);

#endif
