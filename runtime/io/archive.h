/* io/archive.h - a tree of named arrays and attributes, kept in HDF5 files of our own profile.
**
** An archive is built in memory, then written in one go; reading gives the whole archive or an error, never half of it.
** Our profile of HDF5 was measured to detect every accidental change: format V110 (all metadata carry checksums), every data set chunked with
** fletcher32 (scalars and empty ones lie in their object header, which has a checksum too), fixed-length strings, one hard link per
** object, and a SHA-256 over the content in the attribute /nnlua sha256. Behind the HDF5 file (whose readers stop at its own end) lies a seal
** of 16 bytes: "nnluaend" and the CRC-32 of everything before it, twice (the second time inverted). Only a file whose seal holds is given
** to HDF5, which leaks or worse on damaged files; files that others wrote are not read here.
**
** The digest runs over the bytes "nnlua archive 1\0", then over all objects, depth first, names of one group in bytewise order, the
** attributes of an object (by name) before its elements or members. Numbers are little-endian, texts end in a zero byte:
**   attribute:  'A' path name kind(1 byte, nn_attr_kind) and i64 | f64 | count(i64) texts...
**   data set:   'D' path dtype ndim(i64) shape(i64 each) elements
** The attributes /nnlua sha256 and /nnlua archive_version are the archive's own: left out of the digest and not shown to readers.
**
** An archive belongs to one thread at a time. HDF5 itself is entered by one thread at a time (a lock in archive.c).
*/
#ifndef NNI_ARCHIVE_H
#define NNI_ARCHIVE_H
#include "../base/base.h"
#include "../nn_archive.h"

#define NNI_ARCHIVE_MAXPATH 4000 /* bytes of a path inside the archive */
#define NNI_ARCHIVE_MAXNAME 255  /* bytes of one name */
#define NNI_ARCHIVE_MAXDEPTH 32  /* names in a path */
#define NNI_ARCHIVE_MAXITEMS 100000

typedef struct nni_array {
  const char *path; /* "/model_weights/dense/dense/kernel:0" */
  nn_dtype dtype;
  int ndim;
  int64_t shape[NN_MAXDIM];
  size_t bytes;     /* of the elements */
  const void *data; /* row-major, contiguous */
  void *owned;      /* the same when the archive frees it, else NULL */
} nni_array;

typedef struct nni_archive {
  nni_memory *m;
  nni_arena arena; /* names and texts */
  nni_array *arrays;
  nn_attr *attrs;
  int narrays, nattrs, arrays_cap, attrs_cap;
  bool sorted;
} nni_archive;

void nni_archive_init(nni_archive *a, nni_memory *m);
void nni_archive_close(nni_archive *a); /* frees everything; may be called twice */

/* Add an item. Names and texts are copied; elements are borrowed and must live until the archive was written. */
nn_status nni_archive_add(nni_archive *a, const char *path, nn_dtype dtype, int ndim, const int64_t *shape, const void *data, nni_error *err);
nn_status nni_archive_set(nni_archive *a, nn_attr at, nni_error *err); /* an attribute of any kind */
nn_status nni_archive_set_text(nni_archive *a, const char *path, const char *name, const char *text, nni_error *err);
nn_status nni_archive_set_texts(nni_archive *a, const char *path, const char *name, int n, const char *const *texts, nni_error *err);
nn_status nni_archive_set_int(nni_archive *a, const char *path, const char *name, int64_t value, nni_error *err);
nn_status nni_archive_set_float(nni_archive *a, const char *path, const char *name, double value, nni_error *err);

const nni_array *nni_archive_find(const nni_archive *a, const char *path); /* NULL when there is none */
const nn_attr *nni_archive_find_attr(const nni_archive *a, const char *path, const char *name);

/* Order the items and check that they form one tree (no duplicates, nothing below a data set). */
nn_status nni_archive_sort(nni_archive *a, nni_error *err);
/* The items of a sorted archive in its one order: either d or at is set. Start with {a, 0, 0}; false at the end. */
typedef struct nni_archive_walk {
  const nni_archive *a;
  int d, t;
} nni_archive_walk;
bool nni_archive_next(nni_archive_walk *w, const nni_array **d, const nn_attr **at);
#define NNI_DIGEST_TEXT 65
nn_status nni_archive_digest(nni_archive *a, char hex[NNI_DIGEST_TEXT], nni_error *err);

/* Replace `path` by the archive, atomically (io/replace.h): on failure the old file is untouched. */
nn_status nni_archive_write(nni_archive *a, const char *path, nni_error *err);
/* The same bytes in a buffer of *capacity bytes of nni_buffer_get, of which *size are the file. */
nn_status nni_archive_image(nni_archive *a, void **image, size_t *capacity, size_t *size, nni_error *err);
/* a must be fresh (nni_archive_init) and stays empty on failure. */
nn_status nni_archive_read(nni_archive *a, const char *path, nni_error *err);
/* HDF5 objects that are open in the process: 0 between calls. For tests. */
int64_t nni_archive_open_objects(void);

#endif
