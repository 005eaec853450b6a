/* io/hdf5_module.h - what archive.c and the module nn_hdf5 know of each other.
**
** The module is the only code that sees HDF5. It is loaded on first use, links to nothing of ours, and so gets what it needs of the runtime
** through nni_h5_host. It writes archives into memory only: HDF5 1.10 cannot recover from a failed write (the file stays open
** for ever, and the process may crash at exit), so it never gets a file to write to.
**
** The same code is also part of the program nn_h5_reader, a process of its own that reads the files of others (h5_foreign.h).
*/
#ifndef NNI_HDF5_MODULE_H
#define NNI_HDF5_MODULE_H
#include "archive.h"

#define NNI_H5_ABI 2
#define NNI_H5_SYMBOL "nni_h5_module"
#define NNI_H5_DIGEST "sha256"
#define NNI_H5_VERSION "archive_version"
#define NNI_H5_DTYPE "nnlua_dtype" /* attribute of a u8 data set that holds booleans */

typedef struct nni_h5_host {
  void *ud;
  void *(*image)(void *ud, size_t n);             /* writing: memory for n bytes that keeps what it holds; NULL fails */
  void *(*scratch)(void *ud, size_t n);           /* reading: lives as long as the archive; NULL fails */
  void *(*dataset)(void *ud, const nni_array *d); /* reading: where d's elements go; NULL fails, with the error slot filled */
  bool (*attr)(void *ud, const nn_attr *at);      /* reading: takes a copy; false fails, with the error slot filled */
} nni_h5_host;

typedef struct nni_h5_module_table {
  int abi;
  /* Write the sorted archive into host->image; *size is the length of the file. `guess` is at least that length. */
  nn_status (*write)(const nni_archive *a, const nni_h5_host *host, size_t guess, size_t *size, nni_error *err);
  nn_status (*read)(const char *path, int64_t file_size, const nni_h5_host *host, nni_error *err);
  /* A file of any program's, in memory. Only in a process that may be lost: HDF5 crashes on some hostile files. `name` is for messages. */
  nn_status (*read_foreign)(const char *name, const void *image, size_t size, const nni_h5_host *host, nni_error *err);
  int64_t (*open_objects)(void);
} nni_h5_module_table;

#endif
