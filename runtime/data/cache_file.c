/* data/cache_file.c - see cache_file.h. */
#include "cache_file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h> /* strerror */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../io/replace.h"

#define MAGIC "NNLDATA2"
#define MAGIC_BYTES 7 /* of those that every version has */

static size_t padded(size_t n) { return (n + 7) / 8 * 8; }

/* ---- writing --------------------------------------------------------------------------------------------------------------- */

#define BUFFER ((size_t)1 << 16)

/* Writes when there is somewhere to write, and counts in any case. */
typedef struct writer {
  const nni_sink *to;
  char *buffer; /* BUFFER bytes, of which `held` wait to be written */
  size_t held, n;
  uint32_t crc; /* of the bytes since the last checksum */
  nn_status s;
  nni_error *err;
} writer;

static void flush(writer *w) {
  if (w->s == NN_OK && w->held > 0) w->s = w->to->write(w->to->ud, w->buffer, w->held, w->n - w->held, w->err);
  w->held = 0;
}

static void put_bytes(writer *w, const void *data, size_t n) {
  if (w->to != NULL && n > 0) {
    w->crc = nn_crc32(w->crc, data, n);
    if (n > BUFFER - w->held) flush(w);
    if (n > BUFFER) {
      if (w->s == NN_OK) w->s = w->to->write(w->to->ud, data, n, w->n, w->err);
    } else {
      memcpy(w->buffer + w->held, data, n);
      w->held += n;
    }
  }
  w->n += n;
}

static void put(writer *w, const void *data, size_t n) {
  static const char zeros[8] = {0};
  put_bytes(w, data, n);
  put_bytes(w, zeros, padded(n) - n);
}
static void put_i64(writer *w, int64_t v) { put(w, &v, sizeof v); }

static void put_checksum(writer *w) {
  put_i64(w, (int64_t)w->crc);
  w->crc = 0;
}

typedef struct content {
  nni_memory *m;
  const char *text;
  const nni_element *e;
  int64_t n;
} content;

static void put_all(writer *w, size_t size, const content *c) {
  put(w, MAGIC, 8);
  put_i64(w, (int64_t)size);
  put_i64(w, c->n);
  put_i64(w, (int64_t)strlen(c->text));
  put(w, c->text, strlen(c->text));
  put_checksum(w);
  for (int64_t i = 0; i < c->n && w->s == NN_OK; i++) {
    const nni_element *e = &c->e[i];
    put_i64(w, e->n);
    for (int k = 0; k < e->n; k++) {
      const nni_component *x = &e->c[k];
      char name[8] = {0};
      memcpy(name, nn_dtype_name(x->dtype), strlen(nn_dtype_name(x->dtype)));
      put(w, name, 8);
      put_i64(w, x->ndim);
      for (int d = 0; d < x->ndim; d++) put_i64(w, x->shape[d]);
      put_i64(w, (int64_t)x->bytes);
      put(w, x->buffer, x->bytes);
    }
    put_checksum(w);
  }
}

static nn_status fill(void *ud, const nni_sink *to, nni_error *err) {
  const content *c = ud;
  writer count = {NULL}, w = {.to = to, .buffer = nni_malloc(c->m, BUFFER), .err = err};
  if (w.buffer == NULL) return nni_fail(err, NN_ENOMEM, "cache: out of memory");
  put_all(&count, 0, c);
  w.s = to->reserve(to->ud, count.n, err);
  put_all(&w, count.n, c);
  flush(&w);
  nni_free(c->m, w.buffer, BUFFER);
  return w.s;
}

nn_status nni_cache_write(nni_memory *m, const char *path, const char *text, const nni_element *e, int64_t n, nni_error *err) {
  content c = {m, text, e, n};
  return nni_file_replace_by(path, fill, NULL, &c, err);
}

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

typedef struct reader {
  const char *p;
  size_t left;
  const char *since; /* the last checksum */
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

static bool take_checksum(reader *r) {
  const uint32_t crc = nn_crc32(0, r->since, (size_t)(r->p - r->since));
  int64_t v;
  const bool good = take_i64(r, 0, UINT32_MAX, &v) && v == (int64_t)crc;
  r->since = r->p;
  return good;
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
  if (own == NULL || !take_checksum(&r)) return false;
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
    if (!take_checksum(&r)) return false;
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
  if (base == MAP_FAILED || memcmp(base, MAGIC, MAGIC_BYTES) != 0) {
    if (base != MAP_FAILED) munmap(base, (size_t)st.st_size);
    return nni_fail(err, NN_EFORMAT, "cache: %s is not a file of elements; remove it, or name another file", path);
  }
  out->base = base;
  out->size = (size_t)st.st_size;
  if (read_all((reader){base, out->size, base}, m, text, out, &other)) return NN_OK;
  bool no_memory = out->e == NULL && out->n > 0;
  nni_cache_unmap(m, out);
  if (other) return nni_fail(err, NN_EFORMAT, "cache: %s is of another pipeline; remove it, or name another file", path);
  return no_memory ? nni_fail(err, NN_ENOMEM, "cache: out of memory for %s", path) : NN_OK; /* damaged: made anew */
}

void nni_cache_unmap(nni_memory *m, nni_cache_map *map) {
  nni_free(m, map->e, (size_t)(map->n > 0 ? map->n : 1) * sizeof *map->e);
  if (map->base != NULL) munmap(map->base, map->size);
  *map = (nni_cache_map){0};
}
