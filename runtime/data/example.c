/* data/example.c - tf.train.Example records as tensors. See source_record.h.
**
** Wire format (protobuf): a field is a varint key (number << 3 | type) and, by type, a varint (0), 8 bytes (1), a length and bytes (2), 4 bytes (5).
**   Example      1: Features      Features  1: entry, repeated      entry  1: name, 2: Feature
**   Feature      1: BytesList, 2: FloatList, 3: Int64List           a list 1: values, repeated; numbers packed or one by one
** Nothing is allocated before the values have been counted; unknown fields are passed over; of two entries of one name the last counts.
*/
#include <stdio.h>
#include "source_record.h"

typedef struct slice {
  const uint8_t *p, *end; /* p NULL: not there */
} slice;

enum { BYTES = 1, FLOATS = 2, INTS = 3 }; /* which list of a Feature */

typedef struct reader {
  nni_memory *m;
  int n;
  nn_feature f[NN_DATA_MAX];
} reader;

/* ---- the wire format --------------------------------------------------------------------------------------------------- */

static bool varint(slice *s, uint64_t *v) {
  *v = 0;
  for (int shift = 0; shift < 70 && s->p < s->end; shift += 7) {
    uint8_t b = *s->p++;
    *v |= (uint64_t)(b & 127) << (shift < 64 ? shift : 0);
    if (b < 128) return true;
  }
  return false;
}

typedef struct field {
  uint64_t number, value; /* value: of type 0 */
  int type;
  slice bytes; /* of types 1, 2 and 5 */
} field;

/* The next field; false: s is damaged. Only while s->p < s->end. */
static bool next_field(slice *s, field *f) {
  uint64_t key, n;
  if (!varint(s, &key)) return false;
  f->number = key >> 3;
  f->type = (int)(key & 7);
  if (f->type == 0) return varint(s, &f->value);
  if (f->type == 2) {
    if (!varint(s, &n)) return false;
  } else if (f->type == 1 || f->type == 5) {
    n = f->type == 1 ? 8 : 4;
  } else {
    return false;
  }
  if (n > (uint64_t)(s->end - s->p)) return false;
  f->bytes = (slice){s->p, s->p + n};
  s->p += n;
  return true;
}

/* ---- what a record holds ----------------------------------------------------------------------------------------------- */

typedef struct found {
  int kind; /* 0: not there, or empty */
  slice list;
} found;

static bool read_feature(slice s, found *to) {
  field f;
  *to = (found){0};
  while (s.p < s.end) {
    if (!next_field(&s, &f)) return false;
    if (f.type == 2 && f.number >= BYTES && f.number <= INTS) *to = (found){.kind = (int)f.number, .list = f.bytes};
  }
  return true;
}

static bool read_entry(const reader *r, slice s, found *all) {
  slice name = {0}, feature = {0};
  field f;
  while (s.p < s.end) {
    if (!next_field(&s, &f)) return false;
    if (f.type == 2 && f.number == 1) name = f.bytes;
    if (f.type == 2 && f.number == 2) feature = f.bytes;
  }
  size_t n = (size_t)(name.end - name.p);
  for (int i = 0; i < r->n; i++)
    if (strlen(r->f[i].name) == n && (n == 0 || memcmp(r->f[i].name, name.p, n) == 0) && !read_feature(feature, &all[i])) return false;
  return true;
}

static bool read_example(const reader *r, slice s, found *all) {
  field f, e;
  while (s.p < s.end) {
    if (!next_field(&s, &f)) return false;
    if (f.type != 2 || f.number != 1) continue;
    for (slice entries = f.bytes; entries.p < entries.end;) {
      if (!next_field(&entries, &e)) return false;
      if (e.type == 2 && e.number == 1 && !read_entry(r, e.bytes, all)) return false;
    }
  }
  return true;
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

/* The values of a list, into `to` unless that is NULL; of byte strings the last into *text. -1: damaged. */
static int64_t values(const found *x, void *to, slice *text) {
  int64_t n = 0;
  slice s = x->list;
  field f;
  while (s.p < s.end) {
    if (!next_field(&s, &f)) return -1;
    if (f.number != 1) continue;
    if (x->kind == BYTES) {
      if (f.type != 2) return -1;
      *text = f.bytes;
      n++;
    } else if (x->kind == FLOATS) {
      if ((f.type != 2 && f.type != 5) || (f.bytes.end - f.bytes.p) % 4 != 0) return -1;
      int64_t k = (f.bytes.end - f.bytes.p) / 4;
      if (to != NULL && k > 0) memcpy((float *)to + n, f.bytes.p, (size_t)k * 4); /* little-endian, as are all machines we run on */
      n += k;
    } else if (f.type == 0) {
      if (to != NULL) ((int64_t *)to)[n] = (int64_t)f.value;
      n++;
    } else {
      uint64_t v;
      if (f.type != 2) return -1;
      for (slice packed = f.bytes; packed.p < packed.end; n++) {
        if (!varint(&packed, &v)) return -1;
        if (to != NULL) ((int64_t *)to)[n] = (int64_t)v;
      }
    }
  }
  return n;
}

static nn_status give_missing(const nn_feature *f, nni_component *c, nni_memory *m, nni_error *err) {
  int64_t count;
  if (c->shape[0] < 0 && c->ndim > 0) c->shape[0] = 0;
  size_t elem = nn_dtype_size(f->dtype);
  c->bytes = nni_size_mul(c->shape, c->ndim, elem, &count) ? (size_t)count * elem : 0;
  c->buffer = nni_buffer_get(m, c->bytes);
  if (c->buffer == NULL) return nni_fail(err, NN_ENOMEM, "examples: out of memory");
  for (size_t i = 0; i < c->bytes / elem; i++) {
    if (f->dtype == NN_F32) ((float *)c->buffer)[i] = (float)f->missing;
    else if (f->dtype == NN_I64) ((int64_t *)c->buffer)[i] = (int64_t)f->missing;
  }
  return NN_OK;
}

static nn_status give(const nn_feature *f, const found *x, nni_memory *m, long long record, nni_component *c, nni_error *err) {
  static const char *const kinds[] = {"nothing", "bytes", "f32", "i64"};
  const int wanted = f->dtype == NN_U8 ? BYTES : f->dtype == NN_F32 ? FLOATS : INTS;
  slice text = {0};
  int64_t count, n = x->kind == 0 ? 0 : values(x, NULL, &text);
  *c = (nni_component){.dtype = f->dtype, .ndim = f->ndim};
  memcpy(c->shape, f->shape, sizeof c->shape);
  if (n < 0) return nni_fail(err, NN_EFORMAT, "examples: record %lld: feature \"%s\" is damaged", record, f->name);
  if (n == 0 && f->optional) return give_missing(f, c, m, err);
  if (n == 0 && (f->dtype == NN_U8 || f->ndim == 0 || f->shape[0] >= 0 || x->kind == 0))
    return nni_fail(err, NN_EFORMAT, "examples: record %lld has no feature \"%s\" (option default)", record, f->name);
  if (x->kind != wanted)
    return nni_fail(err, NN_EFORMAT, "examples: record %lld: feature \"%s\" holds %s, not %s", record, f->name, kinds[x->kind], kinds[wanted]);
  if (f->dtype == NN_U8) {
    if (n > 1) return nni_fail(err, NN_EFORMAT, "examples: record %lld: feature \"%s\" has %lld byte strings; one is read", record, f->name, (long long)n);
    c->shape[0] = (int64_t)(text.end - text.p);
  } else if (f->ndim == 1 && f->shape[0] < 0) {
    c->shape[0] = n;
  } else if (!nni_size_mul(f->shape, f->ndim, 8, &count) || count != n) {
    return nni_fail(err, NN_EFORMAT, "examples: record %lld: feature \"%s\" has %lld values; its shape needs another number", record, f->name, (long long)n);
  }
  c->bytes = f->dtype == NN_U8 ? (size_t)c->shape[0] : (size_t)n * nn_dtype_size(f->dtype);
  c->buffer = nni_buffer_get(m, c->bytes);
  if (c->buffer == NULL) return nni_fail(err, NN_ENOMEM, "examples: out of memory");
  if (f->dtype != NN_U8) values(x, c->buffer, &text);
  else if (c->bytes > 0) memcpy(c->buffer, text.p, c->bytes);
  return NN_OK;
}

static nn_status run(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *err) {
  const reader *r = ud;
  const nni_component *c = &in->c[0];
  const long long record = (long long)sample->index + 1;
  found all[NN_DATA_MAX] = {{0}};
  (void)worker;
  out->n = 0;
  if (in->n != 1 || c->dtype != NN_U8 || c->ndim != 1) return nni_fail(err, NN_EINVAL, "examples: elements must be records, as tfrecord gives them");
  slice s = {c->buffer, (const uint8_t *)c->buffer + c->bytes};
  if (!read_example(r, s, all)) return nni_fail(err, NN_EFORMAT, "examples: record %lld is no tf.train.Example, or damaged", record);
  for (int i = 0; i < r->n; i++) {
    nn_status rc = give(&r->f[i], &all[i], m, record, &out->c[i], err);
    if (rc != NN_OK) {
      nni_element_free(m, out);
      return rc;
    }
    out->n = i + 1;
  }
  return NN_OK;
}

static nn_status spec(void *ud, const nni_element *in, nni_element *out, nni_error *err) {
  const reader *r = ud;
  if (in->n >= 0 && (in->n != 1 || in->c[0].dtype != NN_U8 || in->c[0].ndim != 1))
    return nni_fail(err, NN_EINVAL, "examples: elements must be records, as tfrecord gives them");
  out->n = r->n;
  for (int i = 0; i < r->n; i++) {
    out->c[i] = (nni_component){.dtype = r->f[i].dtype, .ndim = r->f[i].ndim};
    memcpy(out->c[i].shape, r->f[i].shape, sizeof out->c[i].shape);
  }
  return NN_OK;
}

static void drop(void *ud) {
  reader *r = ud;
  for (int i = 0; i < r->n; i++) nni_free(r->m, (void *)(uintptr_t)r->f[i].name, strlen(r->f[i].name) + 1);
  nni_free(r->m, r, sizeof *r);
}

nni_dataset *nni_data_examples(nni_dataset *up, int n, const nn_feature *features, int workers, nni_error *err) {
  if (n < 1 || n > NN_DATA_MAX) {
    nni_fail(err, NN_EINVAL, "examples: %d features; 1 to %d", n, NN_DATA_MAX);
    return NULL;
  }
  reader *r = nni_calloc(up->m, sizeof *r);
  if (r != NULL) r->m = up->m;
  for (int i = 0; r != NULL && i < n; i++) {
    nn_feature *f = &r->f[i];
    int64_t count;
    *f = features[i];
    bool varies = f->ndim == 1 && f->shape[0] == -1;
    if (f->dtype == NN_U8) varies = (f->ndim = 1, f->shape[0] = -1, true);
    bool fits = varies || nni_size_mul(f->shape, f->ndim, 8, &count);
    f->name = fits ? nni_strdup(up->m, features[i].name) : NULL;
    if (f->name != NULL) r->n = i + 1;
    else {
      drop(r);
      if (fits) nni_fail(err, NN_ENOMEM, "examples: out of memory");
      else nni_fail(err, NN_EINVAL, "examples: feature %d has a shape with negative or absurd sizes", i + 1);
      return NULL;
    }
  }
  if (r == NULL) {
    nni_fail(err, NN_ENOMEM, "examples: out of memory");
    return NULL;
  }
  return nni_data_native(up, &(nni_native){.name = "examples", .run = run, .spec = spec, .drop = drop, .ud = r}, workers, 0, err);
}
