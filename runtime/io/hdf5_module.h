/* io/hdf5_module.h - what archive.c and the module nn_hdf5 know of each other.
**
** The module is the only code that sees HDF5. It is loaded on first use, links to nothing of ours, and so gets what it needs of the runtime
** through nni_h5_host. It never gets a file to write to: HDF5 1.10 cannot recover from a failed write (the file stays open for ever, and the
** process may crash at exit). What it writes goes to the host, which keeps failures of the disk to itself (io/sheet.h).
**
** The same code is also part of the program nn_h5_reader, a process of its own that reads the files of others (h5_foreign.h).
*/
#ifndef NNI_HDF5_MODULE_H
#define NNI_HDF5_MODULE_H
#include "archive.h"

#define NNI_H5_ABI 3
#define NNI_H5_SYMBOL "nni_h5_module"
#define NNI_H5_DIGEST "sha256"
#define NNI_H5_VERSION "archive_version"
#define NNI_H5_DTYPE "nnlua_dtype" /* attribute of a u8 data set that holds booleans */

#define NNI_H5_PIECE ((size_t)1 << 20) /* bytes of a chunk at most */

typedef struct nni_h5_host {
  void *ud;
  bool (*put)(void *ud, int64_t at, const void *p, size_t n, bool elements); /* writing: bytes of the file; elements are not read again; false fails */
  void (*get)(void *ud, int64_t at, void *p, size_t n);                      /* writing: bytes that were put; zeros where none were */
  const bool *stop;                               /* writing: what is written is of no use any more; may be NULL */
  void *(*scratch)(void *ud, size_t n);           /* lives as long as the archive; NULL fails */
  void *(*dataset)(void *ud, const nni_array *d); /* reading: where d's elements go; NULL fails, with the error slot filled */
  /* reading, may be NULL: dataset gives room for NNI_H5_PIECE bytes only, which then hold the n bytes of d's elements from `at` on; false fails */
  bool (*piece)(void *ud, const nni_array *d, size_t at, const void *p, size_t n);
  bool (*attr)(void *ud, const nn_attr *at);      /* reading: takes a copy; false fails, with the error slot filled */
} nni_h5_host;

typedef struct nni_h5_module_table {
  int abi;
  /* Write the sorted archive to host->put; *size is the length of the file. */
  nn_status (*write)(const nni_archive *a, const nni_h5_host *host, int64_t *size, nni_error *err);
  nn_status (*read)(const char *path, int64_t file_size, const nni_h5_host *host, nni_error *err);
  /* A file of any program's, in memory. Only in a process that may be lost: HDF5 crashes on some hostile files. `name` is for messages. */
  nn_status (*read_foreign)(const char *name, const void *image, size_t size, const nni_h5_host *host, nni_error *err);
  int64_t (*open_objects)(void);
} nni_h5_module_table;

#endif
