/* io/archive_api.c - archives as nn_archive.h shows them: tensors of a context instead of memory.
**
** Owns the references to the tensors that wait to be saved. A failure is in the context's error slot.
*/
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tensor/tensor.h"
#include "archive.h"
#include "h5_foreign.h"

struct nn_archive {
  nn_context *ctx;
  nni_archive items;
  nn_tensor **waiting; /* with a reference each, since their elements are borrowed */
  int *index;          /* waiting[i] gives the elements of array index[i], until it was read: then arrays may be in another order */
  int nwaiting, nread, cap;
  void *image; /* what nn_archive_image gave */
  size_t image_bytes;
};

static nni_error *slot(const nn_archive *a) { return nni_error_of(a->ctx); }

nn_archive *nn_archive_new(nn_context *ctx) {
  nni_memory *m = nni_memory_of(ctx);
  nn_archive *a = nni_calloc(m, sizeof *a);
  if (!a) {
    nni_fail(nni_error_of(ctx), NN_ENOMEM, "archive: out of memory");
    return NULL;
  }
  a->ctx = ctx;
  nni_archive_init(&a->items, m);
  return a;
}

static void drop_waiting(nn_archive *a) {
  int i;
  for (i = 0; i < a->nwaiting; i++) nn_release(a->waiting[i]);
  nni_free(a->items.m, a->waiting, (size_t)a->cap * sizeof *a->waiting);
  nni_free(a->items.m, a->index, (size_t)a->cap * sizeof *a->index);
  a->waiting = NULL;
  a->index = NULL;
  a->nwaiting = a->nread = a->cap = 0;
}

void nn_archive_free(nn_archive *a) {
  if (!a) return;
  drop_waiting(a);
  if (a->image) nni_buffer_put(a->items.m, a->image, a->image_bytes);
  nni_archive_close(&a->items);
  nni_free(a->items.m, a, sizeof *a);
}

static bool grow_waiting(nn_archive *a) {
  const int cap = a->cap ? 2 * a->cap : 16;
  nni_memory *m = a->items.m;
  nn_tensor **waiting = nni_malloc(m, (size_t)cap * sizeof *waiting);
  int *index = nni_malloc(m, (size_t)cap * sizeof *index);
  if (!waiting || !index) {
    nni_free(m, waiting, (size_t)cap * sizeof *waiting);
    nni_free(m, index, (size_t)cap * sizeof *index);
    return false;
  }
  if (a->nwaiting) {
    memcpy(waiting, a->waiting, (size_t)a->nwaiting * sizeof *waiting);
    memcpy(index, a->index, (size_t)a->nwaiting * sizeof *index);
  }
  nni_free(m, a->waiting, (size_t)a->cap * sizeof *waiting);
  nni_free(m, a->index, (size_t)a->cap * sizeof *index);
  a->waiting = waiting;
  a->index = index;
  a->cap = cap;
  return true;
}

nn_status nn_archive_add(nn_archive *a, const char *path, nn_tensor *t) {
  nn_status s;
  if (a->nwaiting == a->cap && !grow_waiting(a)) return nni_fail(slot(a), NN_ENOMEM, "archive: out of memory");
  s = nni_archive_add(&a->items, path, nn_dtype_of(t), nn_ndim(t), nn_shape(t), NULL, slot(a));
  if (s != NN_OK) return s;
  a->waiting[a->nwaiting] = nn_retain(t);
  a->index[a->nwaiting++] = a->items.narrays - 1;
  return NN_OK;
}

nn_status nn_archive_add_bytes(nn_archive *a, const char *path, nn_dtype d, int ndim, const int64_t *shape, const void *data) {
  nn_status s = nni_archive_add(&a->items, path, d, ndim, shape, NULL, slot(a));
  nni_array *mine;
  if (s != NN_OK) return s;
  mine = &a->items.arrays[a->items.narrays - 1];
  if (!(mine->owned = nni_buffer_get(a->items.m, mine->bytes))) return nni_fail(slot(a), NN_ENOMEM, "archive: out of memory");
  if (mine->bytes) memcpy(mine->owned, data, mine->bytes);
  mine->data = mine->owned;
  return NN_OK;
}

nn_status nn_archive_set_text(nn_archive *a, const char *path, const char *name, const char *text) {
  return nni_archive_set_text(&a->items, path, name, text, slot(a));
}
nn_status nn_archive_set_texts(nn_archive *a, const char *path, const char *name, int n, const char *const *texts) {
  return nni_archive_set_texts(&a->items, path, name, n, texts, slot(a));
}
nn_status nn_archive_set_int(nn_archive *a, const char *path, const char *name, int64_t value) {
  return nni_archive_set_int(&a->items, path, name, value, slot(a));
}
nn_status nn_archive_set_float(nn_archive *a, const char *path, const char *name, double value) {
  return nni_archive_set_float(&a->items, path, name, value, slot(a));
}

/* Have the elements of all tensors that wait. */
static nn_status read_waiting(nn_archive *a) {
  for (; a->nread < a->nwaiting; a->nread++) {
    const void *data = nn_data(a->waiting[a->nread]);
    if (!data) return slot(a)->status;
    a->items.arrays[a->index[a->nread]].data = data;
  }
  return NN_OK;
}

nn_status nn_archive_save(nn_archive *a, const char *file) {
  const nn_status s = read_waiting(a);
  return s == NN_OK ? nni_archive_write(&a->items, file, slot(a)) : s;
}

nn_status nn_archive_image(nn_archive *a, const void **image, size_t *size) {
  nn_status s = read_waiting(a);
  if (a->image) nni_buffer_put(a->items.m, a->image, a->image_bytes);
  a->image = NULL;
  if (s == NN_OK) s = nni_archive_image(&a->items, &a->image, &a->image_bytes, size, slot(a));
  *image = a->image;
  return s;
}

static nn_status check_new(nn_archive *a) {
  if (!a->items.narrays && !a->items.nattrs) return NN_OK;
  return nni_fail(slot(a), NN_EINVAL, "archive: only a new one can be loaded");
}

nn_status nn_archive_load(nn_archive *a, const char *file) {
  const nn_status s = check_new(a);
  return s == NN_OK ? nni_archive_read(&a->items, file, slot(a)) : s;
}

nn_status nn_archive_load_foreign(nn_archive *a, const char *file) {
  struct stat st;
  nn_status s = check_new(a);
  int fd;
  if (s != NN_OK) return s;
  if ((fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
    return nni_fail(slot(a), errno == ENOENT ? NN_ENOTFOUND : NN_EIO, "%s: %s", file, strerror(errno));
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) s = nni_fail(slot(a), NN_EIO, "%s: not a regular file", file);
  else s = nni_archive_read_foreign(&a->items, fd, file, slot(a));
  close(fd);
  return s;
}

nn_status nn_archive_load_image(nn_archive *a, const char *name, const void *image, size_t size) {
  const char *from = image;
  nn_status s = check_new(a);
  int fd;
  if (s != NN_OK) return s;
  if ((fd = memfd_create("nnlua-image", MFD_CLOEXEC)) < 0) return nni_fail(slot(a), NN_EIO, "%s: %s", name, strerror(errno));
  while (size) {
    const ssize_t n = write(fd, from, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    from += n;
    size -= (size_t)n;
  }
  s = size ? nni_fail(slot(a), NN_ENOMEM, "%s: %s", name, strerror(errno)) : nni_archive_read_foreign(&a->items, fd, name, slot(a));
  close(fd);
  return s;
}

int nn_archive_tensors(const nn_archive *a) { return a->items.narrays; }

nn_tensor *nn_archive_take(nn_archive *a, int i, const char **path) {
  nni_array *x;
  void *buffer;
  if (i < 0 || i >= a->items.narrays) return NULL;
  x = &a->items.arrays[i];
  if (!(buffer = x->owned)) {
    nni_fail(slot(a), NN_EINVAL, "archive: %.200s was taken before", x->path);
    return NULL;
  }
  *path = x->path;
  x->owned = NULL;
  x->data = NULL;
  return nni_tensor_adopt(a->ctx, x->dtype, x->ndim, x->shape, buffer);
}

bool nn_archive_attr(const nn_archive *a, int i, nn_attr *out) {
  if (i < 0 || i >= a->items.nattrs) return false;
  *out = a->items.attrs[i];
  return true;
}
