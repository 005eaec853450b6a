/* nn_archive.h - named tensors and attributes in an HDF5 file; a part of the public interface (nn.h is the first).
**
** An archive is filled in memory and saved in one go, or loaded from a file. Saving replaces the file atomically: on failure the old one is
** untouched. Loading gives all of a file or nothing. Paths look like "/model_weights/dense/kernel:0"; what they say of groups makes the groups.
** The format, its checksums and its limits are described in io/archive.h. Conventions are nn.h's.
*/
#ifndef NN_ARCHIVE_H
#define NN_ARCHIVE_H
#include "nn.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct nn_archive nn_archive;

NN_API nn_archive *nn_archive_new(nn_context *ctx); /* NULL on failure */
NN_API void nn_archive_free(nn_archive *a);         /* NULL is allowed */

/* Items to save. Texts and bytes are copied; tensors are retained and read when the archive is saved. */
NN_API nn_status nn_archive_add(nn_archive *a, const char *path, nn_tensor *t);
NN_API nn_status nn_archive_add_bytes(nn_archive *a, const char *path, nn_dtype d, int ndim, const int64_t *shape, const void *data);
/* Attributes of a group or of a tensor. */
NN_API nn_status nn_archive_set_text(nn_archive *a, const char *path, const char *name, const char *text);
NN_API nn_status nn_archive_set_texts(nn_archive *a, const char *path, const char *name, int n, const char *const *texts);
NN_API nn_status nn_archive_set_int(nn_archive *a, const char *path, const char *name, int64_t value);
NN_API nn_status nn_archive_set_float(nn_archive *a, const char *path, const char *name, double value);
NN_API nn_status nn_archive_save(nn_archive *a, const char *file);

/* a must be new; it stays empty on failure. */
NN_API nn_status nn_archive_load(nn_archive *a, const char *file);
/* The HDF5 file of another program, read by a process of its own under limits, because libhdf5 crashes on some hostile files. Data sets of numbers
** and truth values; attributes that are a text, a list of texts or one number, others are left out. Refused: links that are not hard, external and
** virtual storage, filters but deflate, shuffle and fletcher32, tensors of more than 8 times the file's bytes + 16 MiB. */
NN_API nn_status nn_archive_load_foreign(nn_archive *a, const char *file);
NN_API nn_status nn_archive_load_image(nn_archive *a, const char *name, const void *image, size_t size); /* the same of a file in memory */
/* The bytes of the file that nn_archive_save would write; they live as long as the archive. */
NN_API nn_status nn_archive_image(nn_archive *a, const void **image, size_t *size);

/* What a loaded archive holds, numbered from 0, in the order of its tree. NULL and false past the end. */
NN_API int nn_archive_tensors(const nn_archive *a);                         /* how many */
NN_API nn_tensor *nn_archive_take(nn_archive *a, int i, const char **path); /* a new reference; each tensor can be taken once */
typedef enum nn_attr_kind { NN_ATTR_TEXT, NN_ATTR_TEXTS, NN_ATTR_INT, NN_ATTR_FLOAT } nn_attr_kind;
typedef struct nn_attr {
  const char *path, *name; /* all pointers live as long as the archive */
  nn_attr_kind kind;
  int64_t i;
  double f;
  int n; /* number of texts: 1 for NN_ATTR_TEXT */
  const char *const *texts;
} nn_attr;
NN_API bool nn_archive_attr(const nn_archive *a, int i, nn_attr *out);

#ifdef __cplusplus
}
#endif
#endif
