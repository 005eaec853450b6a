/* data/cache_file.c - see cache_file.h. */
#include "cache_file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h> /* strerror */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../io/replace.h"

#define MAGIC "NNLDATA1"

static size_t padded(size_t n) { return (n + 7) / 8 * 8; }

/* Writes when there is somewhere to write, and counts in any case. */
typedef struct sink {
  char *p;
  size_t n;
} sink;

static void put(sink *s, const void *data, size_t n) {
  if (s->p != NULL) {
    memset(s->p + s->n, 0, padded(n));
    memcpy(s->p + s->n, data, n);
  }
  s->n += padded(n);
}
static void put_i64(sink *s, int64_t v) { put(s, &v, sizeof v); }

static void put_all(sink *s, size_t size, const char *text, const nni_element *e, int64_t n) {
  put(s, MAGIC, 8);
  put_i64(s, (int64_t)size);
  put_i64(s, n);
  put_i64(s, (int64_t)strlen(text));
  put(s, text, strlen(text));
  for (int64_t i = 0; i < n; i++) {
    put_i64(s, e[i].n);
    for (int k = 0; k < e[i].n; k++) {
      const nni_component *c = &e[i].c[k];
      char name[8] = {0};
      memcpy(name, nn_dtype_name(c->dtype), strlen(nn_dtype_name(c->dtype)));
      put(s, name, 8);
      put_i64(s, c->ndim);
      for (int d = 0; d < c->ndim; d++) put_i64(s, c->shape[d]);
      put_i64(s, (int64_t)c->bytes);
      put(s, c->buffer, c->bytes);
    }
  }
}

nn_status nni_cache_write(nni_memory *m, const char *path, const char *text, const nni_element *e, int64_t n, nni_error *err) {
  sink count = {NULL, 0}, all = {NULL, 0};
  put_all(&count, 0, text, e, n);
  all.p = nni_malloc(m, count.n);
  if (all.p == NULL) return nni_fail(err, NN_ENOMEM, "cache: out of memory for the %zu bytes of %s", count.n, path);
  put_all(&all, count.n, text, e, n);
  nn_status rc = nni_file_replace(path, all.p, all.n, err);
  nni_free(m, all.p, count.n);
  return rc;
}

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

typedef struct reader {
  const char *p;
  size_t left;
} reader;

static const void *take(reader *r, int64_t n) { /* NULL: there is no such number of bytes */
  const char *at = r->p;
  if (n < 0 || (uint64_t)n > r->left || padded((size_t)n) > r->left) return NULL;
  r->p += padded((size_t)n);
  r->left -= padded((size_t)n);
  return at;
}

static bool take_i64(reader *r, int64_t low, int64_t high, int64_t *v) {
  const void *p = take(r, 8);
  if (p == NULL) return false;
  memcpy(v, p, 8);
  return *v >= low && *v <= high;
}

static bool read_component(reader *r, nni_component *c) {
  int64_t ndim, bytes, count;
  char name[9] = {0};
  const void *p = take(r, 8);
  *c = (nni_component){0};
  if (p == NULL) return false;
  memcpy(name, p, 8);
  if (!nn_dtype_from_name(name, &c->dtype) || !take_i64(r, 0, NN_MAXDIM, &ndim)) return false;
  c->ndim = (int32_t)ndim;
  for (int i = 0; i < c->ndim; i++)
    if (!take_i64(r, 0, INT64_MAX, &c->shape[i])) return false;
  if (!take_i64(r, 0, (int64_t)r->left, &bytes) || !nni_size_mul(c->shape, c->ndim, nn_dtype_size(c->dtype), &count)) return false;
  c->bytes = (size_t)bytes;
  if ((uint64_t)count * nn_dtype_size(c->dtype) != c->bytes) return false;
  c->buffer = (void *)(uintptr_t)take(r, bytes);
  return c->buffer != NULL;
}

static bool read_all(reader r, nni_memory *m, const char *text, nni_cache_map *out, bool *other) {
  int64_t size, length, n;
  const char *magic = take(&r, 8);
  if (magic == NULL || memcmp(magic, MAGIC, 8) != 0 || !take_i64(&r, 0, INT64_MAX, &size) || (uint64_t)size != out->size) return false;
  if (!take_i64(&r, 0, (int64_t)(r.left / 8), &n) || !take_i64(&r, 0, (int64_t)r.left, &length)) return false;
  const char *own = take(&r, length);
  if (own == NULL) return false;
  *other = (size_t)length != strlen(text) || memcmp(own, text, (size_t)length) != 0;
  if (*other) return false;
  out->n = n;
  out->e = nni_calloc(m, (size_t)(n > 0 ? n : 1) * sizeof *out->e);
  if (out->e == NULL) return false;
  for (int64_t i = 0; i < n; i++) {
    int64_t parts;
    if (!take_i64(&r, 1, NN_DATA_MAX, &parts)) return false;
    for (int k = 0; k < parts; k++)
      if (!read_component(&r, &out->e[i].c[k])) return false;
    out->e[i].n = (int)parts;
  }
  return r.left == 0;
}

nn_status nni_cache_open(nni_memory *m, const char *path, const char *text, nni_cache_map *out, nni_error *err) {
  struct stat st;
  bool other = false;
  *out = (nni_cache_map){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return NN_OK;
  if (fd < 0) return nni_fail(err, NN_EIO, "cache: %s: %s", path, strerror(errno));
  bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 32;
  void *base = regular ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  close(fd);
  if (base == MAP_FAILED) return nni_fail(err, NN_EFORMAT, "cache: %s is not a file of elements", path);
  out->base = base;
  out->size = (size_t)st.st_size;
  if (read_all((reader){base, out->size}, m, text, out, &other)) return NN_OK;
  bool no_memory = out->e == NULL && out->n > 0;
  nni_cache_unmap(m, out);
  if (other) return nni_fail(err, NN_EFORMAT, "cache: %s is of another pipeline; remove it, or name another file", path);
  return no_memory ? nni_fail(err, NN_ENOMEM, "cache: out of memory for %s", path) : nni_fail(err, NN_EFORMAT, "cache: %s is damaged; remove it", path);
}

void nni_cache_unmap(nni_memory *m, nni_cache_map *map) {
  nni_free(m, map->e, (size_t)(map->n > 0 ? map->n : 1) * sizeof *map->e);
  if (map->base != NULL) munmap(map->base, map->size);
  *map = (nni_cache_map){0};
}
