/* data/source_record.c - lines and TFRecord records as a stream, and files by their paths. See source_record.h.
**
** TFRecord (tensorflow/core/lib/io/record_writer.h): u64 length, masked CRC-32C of these 8 bytes, the record, masked CRC-32C of it; little-endian.
*/
#include "source_record.h"
#include <stdio.h>
#include "../io/stream.h"
#include "vision.h"

#define HEAD 12 /* of a TFRecord record: length and its check */

typedef struct records_own {
  nni_record_kind kind;
  int nfiles;
  char **files;
  int64_t most;
} records_own;

typedef struct records_stage {
  nni_stage s;
  nni_stream in;  /* in.m NULL: no file is open */
  int64_t file;   /* the one that is open, or comes next */
  int64_t number; /* records of it that were given */
} records_stage;

static const records_own *own_of(const nni_dataset *d) { return d->own; }

/* ---- CRC-32C ----------------------------------------------------------------------------------------------------------- */

/* Castagnoli's; RFC 3720 B.4. */
/* Four bits at a time: a table of 64 bytes that is known when this is compiled. x86 and ARM have an instruction, used where it is there. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
static uint32_t crc32c(const void *data, size_t n) {
  const uint8_t *p = data;
  uint32_t crc = ~0u;
  for (uint64_t v; n >= 8; n -= 8, p += 8) {
    memcpy(&v, p, 8);
    crc = __crc32cd(crc, v);
  }
  for (; n > 0; n--) crc = __crc32cb(crc, *p++);
  return ~crc;
}
#else
static uint32_t crc_plain(uint32_t crc, const uint8_t *p, size_t n) {
  static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                     0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
  for (size_t i = 0; i < n; i++) {
    crc ^= p[i];
    crc = table[crc & 15] ^ crc >> 4;
    crc = table[crc & 15] ^ crc >> 4;
  }
  return crc;
}
#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *p, size_t n) {
  uint64_t wide = crc, v;
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(&v, p, 8);
    wide = __builtin_ia32_crc32di(wide, v);
  }
  return crc_plain((uint32_t)wide, p, n);
}
#endif
static uint32_t crc32c(const void *data, size_t n) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("sse4.2")) return ~crc_sse42(~0u, data, n);
#endif
  return ~crc_plain(~0u, data, n);
}
#endif
/* the form in which TFRecord files hold it */
static uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

/* ---- one record -------------------------------------------------------------------------------------------------------- */

static uint64_t little(const uint8_t *p, int bytes) {
  uint64_t v = 0;
  for (int i = bytes; i-- > 0;) v = v << 8 | p[i];
  return v;
}

static nn_status bad(const records_stage *t, const char *what, nni_error *err) {
  bool lines = own_of(t->s.d)->kind == NNI_LINES;
  return nni_fail(err, NN_EFORMAT, "%s: %s %lld (byte %lld): %s", t->in.path, lines ? "line" : "record", (long long)t->number + 1,
                  (long long)nni_stream_tell(&t->in), what);
}

/* The next record lies at window[lo + *from], n bytes, and whole bytes of the window are used up by it; *whole == 0: the file has ended. */
static nn_status find_line(records_stage *t, size_t *from, size_t *n, size_t *whole, nni_error *err) {
  nni_stream *in = &t->in;
  size_t most = (size_t)own_of(t->s.d)->most, seen = 0;
  const uint8_t *end = NULL;
  *from = 0;
  for (;;) {
    nn_status rc = nni_stream_want(in, seen + 1);
    if (rc != NN_OK) return rc;
    size_t have = in->hi - in->lo;
    if (have > seen) end = memchr(in->window + in->lo + seen, '\n', have - seen);
    *n = end != NULL ? (size_t)(end - in->window) - in->lo : have;
    if (*n > most) return bad(t, "is longer than a line may be (option limit)", err);
    if (end != NULL || have == seen) break;
    seen = have;
  }
  *whole = end != NULL ? *n + 1 : *n;
  if (*n > 0 && in->window[in->lo + *n - 1] == '\r') --*n;
  return NN_OK;
}

static nn_status find_tfrecord(records_stage *t, size_t *from, size_t *n, size_t *whole, nni_error *err) {
  nni_stream *in = &t->in;
  nn_status rc = nni_stream_want(in, HEAD);
  *whole = 0;
  if (rc != NN_OK || in->hi == in->lo) return rc;
  const uint8_t *p = in->window + in->lo;
  if (in->hi - in->lo < HEAD) return bad(t, "is cut", err);
  if (masked(crc32c(p, 8)) != little(p + 8, 4)) return bad(t, "its length is damaged (CRC-32C); is this a TFRecord file?", err);
  uint64_t length = little(p, 8);
  if (length > (uint64_t)own_of(t->s.d)->most) return bad(t, "is longer than a record may be (option limit)", err);
  if ((rc = nni_stream_want(in, HEAD + (size_t)length + 4)) != NN_OK) return rc;
  p = in->window + in->lo;
  if (in->hi - in->lo < HEAD + length + 4) return bad(t, "is cut", err);
  if (masked(crc32c(p + HEAD, (size_t)length)) != little(p + HEAD + length, 4)) return bad(t, "is damaged (CRC-32C)", err);
  *from = HEAD;
  *n = (size_t)length;
  *whole = HEAD + *n + 4;
  return NN_OK;
}

/* ---- the stage --------------------------------------------------------------------------------------------------------- */

static nn_status open_file(records_stage *t, nni_error *err) {
  t->in.err = err;
  return t->in.m != NULL ? NN_OK : nni_stream_open(&t->in, t->s.d->m, own_of(t->s.d)->files[t->file], err);
}

static void leave_file(records_stage *t, int64_t next) {
  nni_stream_close(&t->in);
  t->file = next;
  t->number = 0;
}

static nn_status give(records_stage *t, size_t from, size_t n, nni_element *out, nni_error *err) {
  void *buffer = nni_buffer_get(t->s.d->m, n);
  if (buffer == NULL) return nni_fail(err, NN_ENOMEM, "%s: out of memory for %zu bytes", t->in.path, n);
  if (n > 0) memcpy(buffer, t->in.window + t->in.lo + from, n);
  out->n = 1;
  out->c[0] = (nni_component){.dtype = NN_U8, .ndim = 1, .shape = {(int64_t)n}, .buffer = buffer, .bytes = n};
  return NN_OK;
}

static nn_status records_next(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  records_stage *t = (records_stage *)s;
  const records_own *o = own_of(s->d);
  (void)caller;
  for (; t->file < o->nfiles; leave_file(t, t->file + 1)) {
    size_t from = 0, n = 0, whole = 0;
    nn_status rc = open_file(t, err);
    if (rc == NN_OK) rc = o->kind == NNI_LINES ? find_line(t, &from, &n, &whole, err) : find_tfrecord(t, &from, &n, &whole, err);
    if (rc == NN_OK && whole > 0) rc = give(t, from, n, out, err);
    if (rc != NN_OK) return rc;
    if (whole == 0) continue;
    t->in.lo += whole;
    t->number++;
    return NN_OK;
  }
  return NN_OK;
}

static nn_status records_rewind(nni_stage *s, nni_error *err) {
  (void)err;
  leave_file((records_stage *)s, 0);
  return NN_OK;
}

static void records_save(const nni_stage *s, int64_t *words) {
  const records_stage *t = (const records_stage *)s;
  words[0] = t->file;
  words[1] = t->in.m != NULL ? nni_stream_tell(&t->in) : 0;
  words[2] = t->number;
}

static nn_status records_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  records_stage *t = (records_stage *)s;
  int nfiles = own_of(s->d)->nfiles;
  (void)caller;
  if (words[0] < 0 || words[0] > nfiles || words[1] < 0 || words[2] < 0 || (words[0] == nfiles && words[1] != 0))
    return nni_fail(err, NN_EFORMAT, "%s: the state stands at byte %lld of file %lld of %d", s->d->verb->name, (long long)words[1],
                    (long long)words[0] + 1, nfiles);
  leave_file(t, words[0]);
  t->number = words[2];
  if (words[1] == 0) return NN_OK;
  nn_status rc = open_file(t, err);
  return rc == NN_OK ? nni_stream_seek(&t->in, words[1]) : rc;
}

static void records_close(nni_stage *s) { nni_stream_close(&((records_stage *)s)->in); }

static int64_t records_cardinality(const nni_dataset *d) {
  (void)d;
  return NN_UNKNOWN;
}

/* The first file's name without its folder, and how many there are. */
static int records_params(const nni_dataset *d, char *buf, size_t n) {
  const records_own *o = d->own;
  const char *name = strrchr(o->files[0], '/');
  name = name != NULL ? name + 1 : o->files[0];
  return o->nfiles == 1 ? snprintf(buf, n, "%.60s", name) : snprintf(buf, n, "%.60s and %d more", name, o->nfiles - 1);
}

static void records_free(nni_dataset *d) {
  records_own *o = d->own;
  for (int i = 0; o->files != NULL && i < o->nfiles; i++)
    if (o->files[i] != NULL) nni_free(d->m, o->files[i], strlen(o->files[i]) + 1);
  nni_free(d->m, o->files, (size_t)o->nfiles * sizeof *o->files);
}

#define RECORDS_VERB                                                                                                                   \
  .stage_bytes = sizeof(records_stage), .node_bytes = sizeof(records_own), .words = 3, .params = records_params,                      \
  .cardinality = records_cardinality, .next = records_next, .rewind = records_rewind, .save = records_save, .restore = records_restore, \
  .close = records_close, .free = records_free

static const nni_verb lines_verb = {.name = "lines", RECORDS_VERB};
static const nni_verb tfrecord_verb = {.name = "tfrecord", RECORDS_VERB};

nni_dataset *nni_data_records(nni_memory *m, nni_record_kind kind, int nfiles, const char *const *files, int64_t most, nni_error *err) {
  const nni_verb *verb = kind == NNI_LINES ? &lines_verb : &tfrecord_verb;
  if (nfiles < 1 || most < 0) {
    nni_fail(err, NN_EINVAL, "%s: %d files, records of up to %lld bytes", verb->name, nfiles, (long long)most);
    return NULL;
  }
  nni_dataset *d = nni_dataset_new(m, verb, NULL, err);
  if (d == NULL) return NULL;
  records_own *o = d->own;
  *o = (records_own){.kind = kind, .nfiles = nfiles, .most = most, .files = nni_calloc(m, (size_t)nfiles * sizeof *o->files)};
  bool whole = o->files != NULL;
  for (int i = 0; whole && i < nfiles; i++) whole = (o->files[i] = nni_strdup(m, files[i])) != NULL;
  if (!whole) {
    nni_dataset_release(d);
    nni_fail(err, NN_ENOMEM, "%s: out of memory", verb->name);
    return NULL;
  }
  d->spec.n = 1;
  d->spec.c[0] = (nni_component){.dtype = NN_U8, .ndim = 1, .shape = {-1}};
  return d;
}

/* ---- files by their paths ------------------------------------------------------------------------------------------------ */

typedef struct reading {
  nni_memory *m;
  int which;
  int64_t most;
  nni_vision v; /* what is done to the bytes at once, so that a failure can name the file */
  char name[NNI_VISION_NAME];
} reading;

static nn_status slurp(const reading *r, nni_memory *m, const char *path, nni_component *to, nni_error *err) {
  nni_stream in;
  nn_status rc = nni_stream_open(&in, m, path, err);
  size_t size = in.file_bytes > 0 ? (size_t)in.file_bytes : 0, got = 0;
  if (rc == NN_OK && in.file_bytes < 0) rc = nni_fail(err, NN_EIO, "%s: is not a regular file", path);
  if (rc == NN_OK && (int64_t)size > r->most)
    rc = nni_fail(err, NN_EFORMAT, "%s: has %zu bytes, more than %lld (option limit)", path, size, (long long)r->most);
  void *buffer = rc == NN_OK ? nni_buffer_get(m, size) : NULL;
  if (rc == NN_OK && buffer == NULL) rc = nni_fail(err, NN_ENOMEM, "%s: out of memory for %zu bytes", path, size);
  in.gz = false; /* as it is */
  if (rc == NN_OK) rc = nni_stream_read(&in, buffer, size, &got);
  if (rc == NN_OK && got < size) rc = nni_fail(err, NN_EFORMAT, "%s: is cut: %zu bytes of %zu", path, got, size);
  nni_stream_close(&in);
  if (rc == NN_OK) *to = (nni_component){.dtype = NN_U8, .ndim = 1, .shape = {(int64_t)size}, .buffer = buffer, .bytes = size};
  else if (buffer != NULL) nni_buffer_put(m, buffer, size);
  return rc;
}

static nn_status reading_run(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err) {
  const reading *r = ud;
  char path[4096];
  (void)worker;
  if (r->which >= in->n) return nni_fail(err, NN_EINVAL, "read_files: there is no component %d", r->which + 1);
  nni_component *c = &in->c[r->which], bytes;
  if (c->dtype != NN_U8 || c->ndim != 1 || c->bytes >= sizeof path || (c->bytes > 0 && memchr(c->buffer, 0, c->bytes) != NULL))
    return nni_fail(err, NN_EINVAL, "read_files: component %d is not a path", r->which + 1);
  if (c->bytes > 0) memcpy(path, c->buffer, c->bytes);
  path[c->bytes] = 0;
  nn_status rc = slurp(r, m, path, &bytes, err);
  if (rc != NN_OK) return rc;
  nni_buffer_put(m, c->buffer, c->bytes);
  *c = bytes;
  if (r->v.n == 0) {
    *out = *in;
    in->n = 0;
    return NN_OK;
  }
  rc = nni_vision_apply(&r->v, m, sample->key, in, out, err);
  if (rc == NN_OK || rc == NN_ENOMEM) return rc;
  const nni_error why = *err;
  return nni_fail(err, rc, "%s: %s", path, why.text);
}

static nn_status reading_spec(void *ud, const nni_element *in, nni_element *out, nni_error *err) {
  const reading *r = ud;
  *out = *in;
  if (in->n < 0) return NN_OK;
  if (r->which >= in->n || in->c[r->which].dtype != NN_U8 || in->c[r->which].ndim != 1)
    return nni_fail(err, NN_EINVAL, "read_files: component %d must be a path, as list_files gives them", r->which + 1);
  out->c[r->which].shape[0] = -1;
  const nni_element bytes = *out;
  if (r->v.n > 0) nni_vision_spec(&r->v, &bytes, out);
  return NN_OK;
}

static void reading_drop(void *ud) { nni_free(((reading *)ud)->m, ud, sizeof(reading)); }

nni_dataset *nni_data_read_files(nni_dataset *up, int which, int64_t most, const nn_vision *v, int workers, nni_error *err) {
  reading *r = nni_calloc(up->m, sizeof *r);
  if (r == NULL) {
    nni_fail(err, NN_ENOMEM, "read_files: out of memory");
    return NULL;
  }
  r->m = up->m, r->which = which, r->most = most;
  if (v != NULL) r->v = *v;
  snprintf(r->name, sizeof r->name, "read_files");
  nni_vision_name(&r->v, r->name, sizeof r->name);
  const nni_native native = {.name = r->name, .run = reading_run, .spec = reading_spec, .drop = reading_drop, .ud = r};
  return nni_data_native(up, &native, workers, 0, err);
}
