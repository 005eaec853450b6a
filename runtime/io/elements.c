/* io/elements.c - tensors from elements as other programs' files hold them: of either byte order, and of types that the runtime has not (nn_file.h).
**
** Owns nothing. Sizes are checked against the file before memory is taken; what needs no conversion is read straight into the tensor's memory, the rest through
** a small block. Safetensors, NumPy, Torch7 and ONNX readers come here. Called from any thread that may use the context.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../nn_file.h"
#include "../tensor/tensor.h"

#define BLOCK 32768 /* bytes that are converted at a time; a multiple of every element's */

typedef struct encoding {
  char kind; /* b truth value, i, u, f, B bf16 */
  int bytes;
  nn_dtype dtype; /* what it becomes */
  bool swapped, copied; /* high byte first; the bytes are the runtime's own */
} encoding;

/* Where elements come from: an open file, or memory when bytes is not NULL. */
typedef struct source {
  const unsigned char *bytes;
  int fd;
  const char *name;
  int64_t offset;
} source;

static bool encoding_of(const char *text, encoding *e) {
  static const struct { char kind; char bytes; nn_dtype dtype; bool copied; } kinds[] = {
    {'b', 1, NN_BOOL, false}, {'i', 1, NN_I32, false}, {'i', 2, NN_I32, false}, {'i', 4, NN_I32, true}, {'i', 8, NN_I64, true},
    {'u', 1, NN_U8, true},    {'u', 2, NN_I32, false}, {'u', 4, NN_I64, false}, {'u', 8, NN_I64, false}, {'f', 2, NN_F16, true},
    {'f', 4, NN_F32, true},   {'f', 8, NN_F64, true},  {'B', 2, NN_BF16, true},
  };
  if ((text[0] != '<' && text[0] != '>') || text[1] == 0 || text[2] == 0 || text[3] != 0) return false;
  for (int i = 0; i < NNI_COUNT(kinds); i++) {
    if (kinds[i].kind != text[1] || kinds[i].bytes != text[2] - '0') continue;
    *e = (encoding){kinds[i].kind, kinds[i].bytes, kinds[i].dtype, text[0] == '>' && kinds[i].bytes > 1, kinds[i].copied};
    return true;
  }
  return false;
}

static nn_status get_bytes(const source *s, void *to, size_t n, size_t at, nni_error *err) {
  if (s->bytes) {
    memcpy(to, s->bytes + at, n);
    return NN_OK;
  }
  for (size_t done = 0; done < n;) {
    const size_t piece = n - done < ((size_t)1 << 24) ? n - done : (size_t)1 << 24;
    const ssize_t k = pread(s->fd, (char *)to + done, piece, (off_t)(s->offset + (int64_t)(at + done)));
    if (k == 0) return nni_fail(err, NN_EFORMAT, "%s: truncated while it was read", s->name);
    if (k < 0 && errno != EINTR) return nni_fail(err, NN_EIO, "%s: reading: %s", s->name, strerror(errno));
    if (k > 0) done += (size_t)k;
  }
  return NN_OK;
}

/* An integer of `bytes` bytes, sign or zeros in front. */
static uint64_t take_int(const unsigned char *p, const encoding *e) {
  uint64_t u = 0;
  for (int i = 0; i < e->bytes; i++) u |= (uint64_t)p[e->swapped ? e->bytes - 1 - i : i] << (8 * i);
  if (e->kind == 'i' && e->bytes < 8 && (u >> (8 * e->bytes - 1)) != 0) u |= UINT64_MAX << (8 * e->bytes);
  return u;
}

/* n elements from p to `to`, of the runtime's dtype; false: a number that does not fit. */
static bool convert(const encoding *e, const unsigned char *p, void *to, size_t n) {
  const size_t size = nn_dtype_size(e->dtype);
  for (size_t i = 0; i < n; i++, p += e->bytes) {
    const uint64_t u = take_int(p, e);
    char *at = (char *)to + i * size;
    if (e->kind == 'u' && u > INT64_MAX) return false;
    if (e->kind == 'b') *(unsigned char *)at = u != 0;
    else if (size == 2) memcpy(at, &(uint16_t){(uint16_t)u}, 2);
    else if (size == 4) memcpy(at, &(uint32_t){(uint32_t)u}, 4);
    else memcpy(at, &u, 8);
  }
  return true;
}

static nn_status fill(const source *s, const encoding *e, void *to, size_t count, nni_error *err) {
  unsigned char block[BLOCK];
  const size_t most = BLOCK / (size_t)e->bytes, size = nn_dtype_size(e->dtype);
  if (e->copied && !e->swapped) return get_bytes(s, to, count * size, 0, err);
  for (size_t done = 0; done < count;) {
    const size_t n = count - done < most ? count - done : most;
    const nn_status rc = get_bytes(s, block, n * (size_t)e->bytes, done * (size_t)e->bytes, err);
    if (rc != NN_OK) return rc;
    if (!convert(e, block, (char *)to + done * size, n)) return nni_fail(err, NN_EFORMAT, "%s: holds integers above 2^63 - 1", s->name);
    done += n;
  }
  return NN_OK;
}

/* The encoding by its name, and the number of elements, which fit into memory even at eight bytes each. */
static nn_status measure(nni_error *err, const source *s, const char *text, encoding *e, int ndim, const int64_t *shape, int64_t *count) {
  if (!encoding_of(text, e)) return nni_fail(err, NN_EINVAL, "%s: elements of the type %s are not read", s->name, text);
  for (int i = 0; i < ndim; i++)
    if (shape[i] < 0) return nni_fail(err, NN_EFORMAT, "%s: a negative size", s->name);
  if (ndim > NN_MAXDIM || !nni_size_mul(shape, ndim, 8, count)) return nni_fail(err, NN_EFORMAT, "%s: a shape that memory cannot hold", s->name);
  return NN_OK;
}

static nn_tensor *make(nn_context *ctx, const source *s, const encoding *e, int ndim, const int64_t *shape, int64_t count) {
  nni_memory *m = nni_memory_of(ctx);
  nni_error *err = nni_error_of(ctx);
  const size_t bytes = (size_t)count * nn_dtype_size(e->dtype);
  void *buffer = nni_buffer_get(m, bytes);
  if (!buffer) {
    nni_fail(err, NN_ENOMEM, "%s: out of memory for %zu bytes", s->name, bytes);
    return NULL;
  }
  if (fill(s, e, buffer, (size_t)count, err) != NN_OK) {
    nni_buffer_put(m, buffer, bytes);
    return NULL;
  }
  return nni_tensor_adopt(ctx, e->dtype, ndim, shape, buffer);
}

nn_tensor *nn_elements_file(nn_context *ctx, int fd, const char *name, int64_t offset, const char *text, int ndim, const int64_t *shape) {
  const source s = {NULL, fd, name, offset};
  nni_error *err = nni_error_of(ctx);
  encoding e;
  struct stat st;
  int64_t count;
  if (measure(err, &s, text, &e, ndim, shape, &count) != NN_OK) return NULL;
  if (fstat(fd, &st) != 0) {
    nni_fail(err, NN_EIO, "%s: %s", name, strerror(errno));
    return NULL;
  }
  if (offset < 0 || offset > st.st_size || count * e.bytes > st.st_size - offset) {
    nni_fail(err, NN_EFORMAT, "%s: truncated: %lld bytes of elements are not there", name, (long long)(count * e.bytes));
    return NULL;
  }
  return make(ctx, &s, &e, ndim, shape, count);
}

nn_tensor *nn_elements_bytes(nn_context *ctx, const void *from, size_t size, const char *text, int ndim, const int64_t *shape) {
  const source s = {from, -1, "elements", 0};
  nni_error *err = nni_error_of(ctx);
  encoding e;
  int64_t count;
  if (measure(err, &s, text, &e, ndim, shape, &count) != NN_OK) return NULL;
  if ((uint64_t)(count * e.bytes) != size) {
    nni_fail(err, NN_EFORMAT, "%lld bytes of elements, the shape needs %lld", (long long)size, (long long)(count * e.bytes));
    return NULL;
  }
  return make(ctx, &s, &e, ndim, shape, count);
}
