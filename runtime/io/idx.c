/* io/idx.c - the IDX reader. See idx.h.
**
** Invariant: nothing is allocated on a header's word alone.
*/
#include "idx.h"
#include <stdio.h>
#include "stream.h"

#define HEADER (4 + 4 * NN_MAXDIM)
/* No deflate stream expands more than this many times (zlib's technical notes: 1032 : 1). */
#define MAX_EXPANSION 1032
#define FIRST_STEP ((size_t)1 << 20) /* least the buffer of a gzipped file grows by */

/* ---- header ---------------------------------------------------------------------------------------------------------- */

typedef struct header {
  nni_idx_type type;
  int ndim;
  int64_t shape[NN_MAXDIM];
  size_t file_elem; /* bytes of an element in the file */
  size_t bytes;     /* of all elements in the file */
} header;

static bool element_type(unsigned code, size_t *file_elem, nn_dtype *dtype) {
  static const struct { uint8_t code, bytes; nn_dtype dtype; } types[] = {
    {NNI_IDX_U8, 1, NN_U8},   {NNI_IDX_I8, 1, NN_I32},  {NNI_IDX_I16, 2, NN_I32},
    {NNI_IDX_I32, 4, NN_I32}, {NNI_IDX_F32, 4, NN_F32}, {NNI_IDX_F64, 8, NN_F32},
  };
  for (int i = 0; i < NNI_COUNT(types); i++) {
    if (types[i].code != code) continue;
    *file_elem = types[i].bytes;
    *dtype = types[i].dtype;
    return true;
  }
  return false;
}

static uint32_t big32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static nn_status bad_magic(nni_stream *s, const uint8_t *b, bool valid, nni_idx_type type, int ndim) {
  char want[64] = "00 00, a type (08 09 0b 0c 0d 0e), 01 to 08";
  if (type != NNI_IDX_ANY && ndim > 0) snprintf(want, sizeof want, "00 00 %02x %02x", (unsigned)type, (unsigned)ndim);
  return nni_fail(s->err, NN_EFORMAT, "%s: not an IDX file%s: first bytes %02x %02x %02x %02x, expected %s", s->path,
                  valid ? " of the kind asked for" : "", b[0], b[1], b[2], b[3], want);
}

static nn_status read_header(nni_stream *s, nni_idx_type type, int ndim, header *h, nn_dtype *dtype) {
  uint8_t b[HEADER];
  size_t got;
  nn_status rc = nni_stream_read(s, b, 4, &got);
  if (rc != NN_OK) return rc;
  if (got < 4) return nni_fail(s->err, NN_EFORMAT, "%s: truncated: %zu bytes, an IDX file has at least 8", s->path, got);
  bool valid = b[0] == 0 && b[1] == 0 && element_type(b[2], &h->file_elem, dtype) && b[3] >= 1 && b[3] <= NN_MAXDIM;
  if (!valid || (type != NNI_IDX_ANY && b[2] != (unsigned)type) || (ndim > 0 && b[3] != ndim)) return bad_magic(s, b, valid, type, ndim);
  h->type = (nni_idx_type)b[2];
  h->ndim = b[3];
  size_t sizes = 4 * (size_t)h->ndim;
  rc = nni_stream_read(s, b + 4, sizes, &got);
  if (rc != NN_OK) return rc;
  if (got < sizes) return nni_fail(s->err, NN_EFORMAT, "%s: truncated: %zu bytes, the header alone has %zu", s->path, got + 4, sizes + 4);
  int64_t count;
  for (int i = 0; i < h->ndim; i++) h->shape[i] = big32(b + 4 + 4 * i);
  /* eight bytes an element, so that widened elements are covered too */
  if (!nni_size_mul(h->shape, h->ndim, 8, &count)) {
    char text[128];
    size_t k = 0;
    for (int i = 0; i < h->ndim; i++) k += (size_t)snprintf(text + k, sizeof text - k, "%s%lld", i > 0 ? "x" : "", (long long)h->shape[i]);
    return nni_fail(s->err, NN_EFORMAT, "%s: corrupt: sizes %s are more than memory can hold", s->path, text);
  }
  h->bytes = (size_t)count * h->file_elem;
  return NN_OK;
}

/* ---- elements -------------------------------------------------------------------------------------------------------- */

static nn_status cut_short(nni_stream *s, const header *h, size_t got) {
  return nni_fail(s->err, NN_EFORMAT, "%s: truncated: %zu bytes of data, expected %zu", s->path, got, h->bytes);
}

/* How many bytes to begin with: all of them where the file's size vouches for them, else a step. */
static nn_status first_capacity(nni_stream *s, const header *h, size_t *cap) {
  size_t head = 4 + 4 * (size_t)h->ndim;
  *cap = h->bytes;
  if (s->file_bytes < 0 || s->gz) {
    if (s->gz && s->file_bytes >= 0 && h->bytes / MAX_EXPANSION > (size_t)s->file_bytes)
      return nni_fail(s->err, NN_EFORMAT, "%s: truncated: %lld gzipped bytes can't hold the %zu bytes of data expected", s->path,
                      (long long)s->file_bytes, h->bytes);
    size_t step = s->file_bytes > 0 ? 16 * (size_t)s->file_bytes : 0;
    if (step < FIRST_STEP) step = FIRST_STEP;
    if (*cap > step) *cap = step;
    return NN_OK;
  }
  size_t rest = (size_t)s->file_bytes > head ? (size_t)s->file_bytes - head : 0;
  return rest < h->bytes ? cut_short(s, h, rest) : NN_OK;
}

/* All h->bytes into a buffer of *cap bytes; in the end *cap == h->bytes. The buffer of a gzipped file grows as the data really comes. */
static nn_status read_elements(nni_stream *s, const header *h, uint8_t **buffer, size_t *cap) {
  size_t got = 0, k;
  nn_status rc = first_capacity(s, h, cap);
  if (rc != NN_OK) return rc;
  *buffer = nni_buffer_get(s->m, *cap);
  while (*buffer != NULL) {
    rc = nni_stream_read(s, *buffer + got, *cap - got, &k);
    if (rc != NN_OK) return rc;
    got += k;
    if (got == h->bytes) return NN_OK;
    if (got < *cap) return cut_short(s, h, got);
    size_t bigger = *cap < h->bytes / 2 ? 2 * *cap : h->bytes;
    uint8_t *next = nni_buffer_get(s->m, bigger);
    if (next == NULL) break;
    memcpy(next, *buffer, got);
    nni_buffer_put(s->m, *buffer, *cap);
    *buffer = next;
    *cap = bigger;
  }
  return nni_fail(s->err, NN_ENOMEM, "%s: out of memory for %zu bytes", s->path, h->bytes);
}

/* The data must end here; in a gzipped file this also checks the CRC that follows it. */
static nn_status check_end(nni_stream *s, const header *h) {
  uint8_t extra[256];
  size_t got;
  nn_status rc = nni_stream_read(s, extra, sizeof extra, &got);
  if (rc != NN_OK) return rc;
  if (got > 0)
    return nni_fail(s->err, NN_EFORMAT, "%s: corrupt: %s%zu bytes follow the %zu bytes of data expected", s->path,
                    got == sizeof extra ? "at least " : "", got, h->bytes);
  return nni_stream_end(s);
}

/* n elements of the file at src into the runtime's dtypes at dst; four-byte elements may be converted in place. */
static void convert(nni_idx_type type, const uint8_t *src, void *dst, size_t n) {
  switch (type) {
    case NNI_IDX_I8:
      for (size_t i = 0; i < n; i++) ((int32_t *)dst)[i] = (int8_t)src[i];
      break;
    case NNI_IDX_I16:
      for (size_t i = 0; i < n; i++) ((int32_t *)dst)[i] = (int16_t)(uint16_t)(src[2 * i] << 8 | src[2 * i + 1]);
      break;
    case NNI_IDX_F64:
      for (size_t i = 0; i < n; i++) {
        uint64_t u = (uint64_t)big32(src + 8 * i) << 32 | big32(src + 8 * i + 4);
        double d;
        memcpy(&d, &u, sizeof d);
        ((float *)dst)[i] = (float)d;
      }
      break;
    default:
      for (size_t i = 0; i < n; i++) {
        uint32_t u = big32(src + 4 * i);
        memcpy((uint8_t *)dst + 4 * i, &u, 4);
      }
  }
}

nn_status nni_idx_read(nni_memory *m, const char *path, nni_idx_type type, int ndim, nni_idx *out, nni_error *err) {
  nni_stream s;
  header h;
  uint8_t *raw = NULL;
  size_t cap = 0;
  *out = (nni_idx){.dtype = NN_U8};
  nn_status rc = nni_stream_open(&s, m, path, err);
  if (rc == NN_OK) rc = read_header(&s, type, ndim, &h, &out->dtype);
  if (rc == NN_OK) rc = read_elements(&s, &h, &raw, &cap);
  if (rc == NN_OK) rc = check_end(&s, &h);
  if (rc == NN_OK) {
    size_t n = h.bytes / h.file_elem;
    out->ndim = h.ndim;
    memcpy(out->shape, h.shape, sizeof h.shape);
    out->bytes = n * nn_dtype_size(out->dtype);
    if (h.type == NNI_IDX_U8 || h.file_elem == 4) {
      if (h.file_elem == 4) convert(h.type, raw, raw, n);
      out->buffer = raw;
      raw = NULL;
    } else if ((out->buffer = nni_buffer_get(m, out->bytes)) != NULL) {
      convert(h.type, raw, out->buffer, n);
    } else {
      rc = nni_fail(err, NN_ENOMEM, "%s: out of memory for %zu bytes", path, out->bytes);
    }
  }
  if (raw != NULL) nni_buffer_put(m, raw, cap);
  nni_stream_close(&s);
  return rc;
}

void nni_idx_free(nni_memory *m, nni_idx *x) {
  if (x->buffer != NULL) nni_buffer_put(m, x->buffer, x->bytes);
  x->buffer = NULL;
}
