/* data/dataset.c - data sets, iterators and their state: everything that is the same for every verb. See dataset.h. */
#include "dataset.h"
#include <stdio.h>

#define MAX_DEPTH 200       /* verbs in a chain: stages call each other */
#define STATE_FORMAT 1
#define MAX_STATE_WORDS 4096

struct nni_iter {
  nni_dataset *d;
  nni_stage *top;
  bool done;
};

/* ---- elements -------------------------------------------------------------------------------------------------------- */

void nni_element_free(nni_memory *m, nni_element *e) {
  for (int i = 0; i < e->n; i++) {
    if (e->c[i].buffer != NULL) nni_buffer_put(m, e->c[i].buffer, e->c[i].bytes);
    if (e->c[i].tensor != NULL) nn_release(e->c[i].tensor);
    e->c[i].buffer = NULL;
    e->c[i].tensor = NULL;
  }
  e->n = 0;
}

nn_status nni_element_data(const nni_component *c, const void **data, nni_error *err) {
  *data = c->buffer;
  if (c->tensor == NULL) return NN_OK;
  *data = nn_data(c->tensor);
  return *data != NULL ? NN_OK : nni_fail(err, NN_EINVAL, "%s", nn_error(nn_context_of(c->tensor)));
}

/* One component copied into a buffer. */
static nn_status component_copy(nni_memory *m, const nni_component *from, nni_component *to, nni_error *err) {
  const void *data;
  int64_t count;
  size_t elem = nn_dtype_size(from->dtype);
  nn_status rc = nni_element_data(from, &data, err);
  if (rc != NN_OK) return rc;
  bool fits = nni_size_mul(from->shape, from->ndim, elem, &count);
  size_t bytes = fits ? (size_t)count * elem : 0;
  void *buffer = fits ? nni_buffer_get(m, bytes) : NULL;
  if (buffer == NULL) return nni_fail(err, NN_ENOMEM, "data set: out of memory for an element");
  memcpy(buffer, data, bytes);
  *to = *from;
  to->tensor = NULL;
  to->buffer = buffer;
  to->bytes = bytes;
  return NN_OK;
}

nn_status nni_element_own(nni_memory *m, nni_element *e, nni_error *err) {
  for (int i = 0; i < e->n; i++) {
    nni_component *c = &e->c[i], own;
    if (c->tensor == NULL) continue;
    nn_status rc = component_copy(m, c, &own, err);
    if (rc != NN_OK) return rc;
    nn_release(c->tensor);
    *c = own;
  }
  return NN_OK;
}

nn_status nni_element_copy(nni_memory *m, const nni_element *from, nni_element *to, nni_error *err) {
  to->n = 0;
  for (int i = 0; i < from->n; i++) {
    nn_status rc = component_copy(m, &from->c[i], &to->c[i], err);
    if (rc != NN_OK) {
      nni_element_free(m, to);
      return rc;
    }
    to->n = i + 1;
  }
  return NN_OK;
}

bool nni_component_alike(const nni_component *a, const nni_component *b) {
  return a->dtype == b->dtype && a->ndim == b->ndim && memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

/* The first dim of component i in all n rows, where that varies from row to row. */
static nn_status common_length(const nni_dataset *src, int i, const int64_t *rows, int64_t n, int64_t *length, nni_error *err) {
  *length = n > 0 ? src->verb->length(src, i, rows[0]) : 0;
  for (int64_t k = 1; k < n; k++) {
    int64_t other = src->verb->length(src, i, rows[k]);
    if (other != *length)
      return nni_fail(err, NN_ESHAPE, "batch: elements of several sizes (%lld and %lld in component %d); padded_batch takes them",
                      (long long)*length, (long long)other, i + 1);
  }
  return NN_OK;
}

nn_status nni_rows_gather(const nni_dataset *d, const int64_t *rows, int64_t n, bool lead, nni_element *out, nni_error *err) {
  const nni_dataset *src = d->source;
  void *dst[NN_DATA_MAX];
  out->n = 0;
  for (int i = 0; i < src->spec.n; i++) {
    const nni_component *from = &src->spec.c[i];
    nni_component *to = &out->c[i];
    int64_t count;
    *to = *from;
    if (from->ndim > 0 && from->shape[0] < 0) {
      nn_status rc = common_length(src, i, rows, n, &to->shape[0], err);
      if (rc != NN_OK) {
        nni_element_free(src->m, out);
        return rc;
      }
    }
    if (lead) {
      memmove(to->shape + 1, to->shape, sizeof to->shape - sizeof to->shape[0]);
      to->shape[0] = n;
      to->ndim = from->ndim + 1;
    }
    size_t elem = nn_dtype_size(to->dtype);
    bool fits = nni_size_mul(to->shape, to->ndim, elem, &count);
    to->bytes = fits ? (size_t)count * elem : 0;
    to->buffer = fits ? nni_buffer_get(src->m, to->bytes) : NULL;
    if (to->buffer == NULL) {
      nni_element_free(src->m, out);
      return nni_fail(err, NN_ENOMEM, "data set: out of memory for a batch of %lld rows", (long long)n);
    }
    dst[i] = to->buffer;
    out->n = i + 1;
  }
  src->verb->gather(src, rows, n, dst);
  return NN_OK;
}

/* ---- data sets --------------------------------------------------------------------------------------------------------- */

nni_dataset *nni_dataset_join(nni_memory *m, const nni_verb *verb, int nups, nni_dataset *const *ups, int more, nni_error *err) {
  int depth = 1, words = NNI_STATE_HEAD + verb->words + more;
  bool consumer_only = false;
  for (int i = 0; i < nups; i++) {
    if (ups[i]->depth >= depth) depth = ups[i]->depth + 1;
    if (words <= MAX_STATE_WORDS) words += ups[i]->words - NNI_STATE_HEAD;
    consumer_only = consumer_only || ups[i]->consumer_only;
  }
  if (depth > MAX_DEPTH || words > MAX_STATE_WORDS) {
    nni_fail(err, NN_EINVAL, "%s: a chain of more than %d verbs", verb->name, MAX_DEPTH);
    return NULL;
  }
  nni_dataset *d = nni_calloc(m, sizeof *d);
  if (d == NULL) {
    nni_fail(err, NN_ENOMEM, "%s: out of memory", verb->name);
    return NULL;
  }
  *d = (nni_dataset){.refs = 1, .depth = depth, .verb = verb, .m = m, .words = words, .own_words = verb->words + more,
                     .consumer_only = consumer_only, .ups = &d->up};
  if (nups > 1) d->ups = nni_calloc(m, (size_t)nups * sizeof *d->ups);
  if (verb->node_bytes > 0) d->own = nni_calloc(m, verb->node_bytes);
  if (d->ups == NULL || (verb->node_bytes > 0 && d->own == NULL)) {
    if (nups > 1) nni_free(m, d->ups, (size_t)nups * sizeof *d->ups);
    nni_free(m, d->own, verb->node_bytes);
    nni_free(m, d, sizeof *d);
    nni_fail(err, NN_ENOMEM, "%s: out of memory", verb->name);
    return NULL;
  }
  d->nups = nups;
  for (int i = 0; i < nups; i++) d->ups[i] = nni_dataset_retain(ups[i]);
  if (nups == 0) return d;
  d->up = d->ups[0];
  d->spec = d->up->spec;
  return d;
}

nni_dataset *nni_dataset_new(nni_memory *m, const nni_verb *verb, nni_dataset *up, nni_error *err) {
  nni_dataset *d = nni_dataset_join(m, verb, up != NULL, &up, 0, err);
  if (d != NULL && up != NULL && verb->rows != NULL) d->source = up->source;
  return d;
}

int nni_words_before(const nni_dataset *d) { return d->words - d->own_words - NNI_STATE_HEAD; }

nni_dataset *nni_dataset_retain(nni_dataset *d) {
  d->refs++;
  return d;
}

void nni_dataset_release(nni_dataset *d) {
  if (d == NULL || --d->refs > 0) return;
  if (d->verb->free != NULL) d->verb->free(d);
  for (int i = 0; i < d->nups; i++) nni_dataset_release(d->ups[i]); /* as deep as the chain, which is bounded */
  if (d->nups > 1) nni_free(d->m, d->ups, (size_t)d->nups * sizeof *d->ups);
  nni_free(d->m, d->own, d->verb->node_bytes);
  nni_free(d->m, d, sizeof *d);
}

int64_t nni_dataset_cardinality(const nni_dataset *d) { return d->verb->cardinality(d); }

int64_t nni_dataset_rows_in(const nni_dataset *d) {
  if (d->verb->rows_in != NULL) return d->verb->rows_in(d);
  int64_t n = nni_dataset_cardinality(d), rows;
  bool alike = d->spec.n > 0 && d->spec.c[0].ndim > 0 && d->spec.c[0].shape[0] >= 0 && (d->spec.c[0].loose & 1) == 0;
  if (n <= 0) return n;
  return alike && !__builtin_mul_overflow(n, d->spec.c[0].shape[0], &rows) ? rows : NN_UNKNOWN;
}

int64_t nni_up_rows_in(const nni_dataset *d) { return nni_dataset_rows_in(d->up); }

const nni_element *nni_dataset_spec(const nni_dataset *d) { return &d->spec; }

int nni_dataset_describe(const nni_dataset *d, char *buf, size_t n) {
  int k = 0;
  for (int i = 0; i < d->nups; i++) {
    size_t at = (size_t)k < n ? (size_t)k : n;
    if (d->nups > 1) k += snprintf(buf + at, n - at, i == 0 ? "{" : " | ");
    at = (size_t)k < n ? (size_t)k : n;
    k += nni_dataset_describe(d->ups[i], buf + at, n - at);
  }
  size_t at = (size_t)k < n ? (size_t)k : n;
  if (d->nups > 1) k += snprintf(buf + at, n - at, "}");
  if (d->verb->silent) return k;
  char params[96] = "";
  if (d->verb->params != NULL) d->verb->params(d, params, sizeof params);
  at = (size_t)k < n ? (size_t)k : n;
  return k + snprintf(buf + at, n - at, params[0] != 0 ? "%s%s(%s)" : "%s%s", k > 0 ? " " : "", d->verb->name, params);
}

/* ---- stages -------------------------------------------------------------------------------------------------------------- */

static void stage_close(nni_stage *s) {
  if (s == NULL) return;
  const nni_dataset *d = s->d;
  if (d->verb->close != NULL) d->verb->close(s);
  for (int i = 0; i < d->nups && s->ups != NULL; i++) stage_close(s->ups[i]);
  if (d->nups > 1) nni_free(d->m, s->ups, (size_t)d->nups * sizeof *s->ups);
  if (d->verb->replay) nni_free(d->m, s->start, (size_t)nni_words_before(d) * sizeof *s->start);
  nni_free(d->m, s, d->verb->stage_bytes);
}

/* The stages before s stand at the begin of a pass. */
static void stage_begin(nni_stage *s) {
  s->given = 0;
  if (s->d->verb->replay) nni_stage_save_ups(s, s->start);
  if (s->d->verb->reset != NULL) s->d->verb->reset(s);
}

static nn_status stage_open(nni_dataset *d, nni_stage **out, nni_error *err) {
  nn_status rc = NN_OK;
  nni_stage *s = nni_calloc(d->m, d->verb->stage_bytes);
  *out = NULL;
  if (s == NULL) return nni_fail(err, NN_ENOMEM, "%s: out of memory", d->verb->name);
  s->d = d;
  s->ups = d->nups > 1 ? nni_calloc(d->m, (size_t)d->nups * sizeof *s->ups) : &s->up;
  if (d->verb->replay) s->start = nni_malloc(d->m, (size_t)nni_words_before(d) * sizeof *s->start);
  bool opened = s->ups != NULL && (s->start != NULL || !d->verb->replay);
  if (!opened) rc = nni_fail(err, NN_ENOMEM, "%s: out of memory", d->verb->name);
  for (int i = 0; i < d->nups && rc == NN_OK; i++) rc = stage_open(d->ups[i], &s->ups[i], err);
  if (rc == NN_OK) {
    s->up = s->ups[0];
    if (d->verb->open != NULL) rc = d->verb->open(s, err);
    if (rc == NN_OK) stage_begin(s);
    else stage_close(s);
  } else { /* its own close must not see what it has not opened */
    for (int i = 0; s->ups != NULL && i < d->nups; i++) stage_close(s->ups[i]);
    if (d->nups > 1) nni_free(d->m, s->ups, (size_t)d->nups * sizeof *s->ups);
    if (d->verb->replay) nni_free(d->m, s->start, (size_t)nni_words_before(d) * sizeof *s->start);
    nni_free(d->m, s, d->verb->stage_bytes);
  }
  if (rc == NN_OK) *out = s;
  return rc;
}

nn_status nni_stage_pull(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  out->n = 0;
  if (s->d->source == NULL) {
    nn_status rc = s->d->verb->next(s, caller, out, err);
    s->given += out->n > 0;
    return rc;
  }
  int64_t row, got = 0;
  nn_status rc = s->d->verb->rows(s, &row, 1, &got, err);
  if (rc != NN_OK || got == 0) return rc;
  return nni_rows_gather(s->d, &row, 1, false, out, err);
}

nn_status nni_stage_skip(nni_stage *s, void *caller, int64_t n, int64_t *skipped, nni_error *err) {
  for (*skipped = 0; *skipped < n;) {
    int64_t drop[256], got = 0, left = n - *skipped;
    nni_element e = {0};
    nn_status rc = s->d->source != NULL ? s->d->verb->rows(s, drop, left < 256 ? left : 256, &got, err) : nni_stage_pull(s, caller, &e, err);
    if (e.n > 0) got = 1;
    nni_element_free(s->d->m, &e);
    if (rc != NN_OK || got == 0) return rc;
    *skipped += got;
  }
  return NN_OK;
}

nn_status nni_stage_rewind(nni_stage *s, uint64_t pass, nni_error *err) {
  nn_status rc = NN_OK;
  s->pass = pass;
  if (s->d->verb->rewind != NULL) rc = s->d->verb->rewind(s, err);
  else
    for (int i = 0; i < s->d->nups && rc == NN_OK; i++) rc = nni_stage_rewind(s->ups[i], pass, err);
  if (rc == NN_OK) stage_begin(s);
  return rc;
}

uint64_t nni_pass_number(uint64_t pass, int64_t repetition) {
  if (repetition == 0) return pass;
  nni_philox p = nni_philox4x32(pass, (uint64_t)repetition, 0x70617373 /* "pass" */);
  return (uint64_t)p.v[0] << 32 | p.v[1];
}

void nni_stage_save_ups(const nni_stage *s, int64_t *words) {
  for (int i = 0; i < s->d->nups; i++) words += nni_stage_save(s->ups[i], words);
}

int nni_stage_save(const nni_stage *s, int64_t *words) {
  const nni_verb *v = s->d->verb;
  int n = nni_words_before(s->d);
  if (v->replay) {
    memcpy(words, s->start, (size_t)n * sizeof *words);
    words[n] = s->given;
    return n + 1;
  }
  if (v->save_up != NULL) v->save_up(s, words);
  else nni_stage_save_ups(s, words);
  if (v->save != NULL) v->save(s, words + n);
  return n + s->d->own_words;
}

static nn_status stage_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  const nni_verb *v = s->d->verb;
  nn_status rc = nni_stage_restore_ups(s, caller, words, err);
  if (rc != NN_OK) return rc;
  words += nni_words_before(s->d);
  if (!v->replay) return v->restore != NULL ? v->restore(s, caller, words, err) : NN_OK;
  int64_t skipped = 0;
  stage_begin(s);
  if (words[0] < 0) return nni_fail(err, NN_EFORMAT, "%s: the state has the count %lld", v->name, (long long)words[0]);
  if (v->seek != NULL) {
    s->given = words[0];
    return v->seek(s, caller, words[0], err);
  }
  rc = nni_stage_skip(s, caller, words[0], &skipped, err);
  if (rc == NN_OK && skipped < words[0])
    rc = nni_fail(err, NN_EFORMAT, "%s: the state stands at element %lld; there are %lld", v->name, (long long)words[0], (long long)skipped);
  return rc;
}

nn_status nni_stage_restore_ups(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  nn_status rc = NN_OK;
  for (int i = 0; i < s->d->nups && rc == NN_OK; i++) {
    rc = stage_restore(s->ups[i], caller, words, err);
    words += s->d->ups[i]->words - NNI_STATE_HEAD;
  }
  return rc;
}

/* ---- iterating --------------------------------------------------------------------------------------------------------- */

nni_iter *nni_iter_open(nni_dataset *d, nni_error *err) {
  nni_iter *it = nni_calloc(d->m, sizeof *it);
  if (it == NULL) {
    nni_fail(err, NN_ENOMEM, "data set: out of memory");
    return NULL;
  }
  if (stage_open(d, &it->top, err) != NN_OK) {
    nni_free(d->m, it, sizeof *it);
    return NULL;
  }
  it->d = nni_dataset_retain(d);
  return it;
}

nn_status nni_iter_next(nni_iter *it, void *caller, nni_element *out, nni_error *err) {
  out->n = 0;
  if (it->done) return NN_OK;
  nn_status rc = nni_stage_pull(it->top, caller, out, err);
  it->done = rc != NN_OK || out->n == 0;
  return rc;
}

nn_status nni_iter_skip(nni_iter *it, void *caller, int64_t n, int64_t *skipped, nni_error *err) {
  *skipped = 0;
  if (it->done) return NN_OK;
  nn_status rc = nni_stage_skip(it->top, caller, n, skipped, err);
  it->done = rc != NN_OK || *skipped < n;
  return rc;
}

void nni_iter_close(nni_iter *it) {
  if (it == NULL) return;
  nni_dataset *d = it->d;
  stage_close(it->top);
  nni_free(d->m, it, sizeof *it);
  nni_dataset_release(d);
}

bool nni_iter_done(const nni_iter *it) { return it->done; }

/* ---- state ------------------------------------------------------------------------------------------------------------- */

int nni_state_words(const nni_dataset *d) { return d->words; }

static void save_nodes(const nni_dataset *d, int64_t *words) {
  for (int i = 0; i < d->nups; i++) {
    save_nodes(d->ups[i], words);
    words += d->ups[i]->words - NNI_STATE_HEAD;
  }
  if (d->verb->save_node != NULL) d->verb->save_node(d, words);
}

static void restore_nodes(nni_dataset *d, const int64_t *words, bool in_pass) {
  for (int i = 0; i < d->nups; i++) {
    restore_nodes(d->ups[i], words, in_pass);
    words += d->ups[i]->words - NNI_STATE_HEAD;
  }
  if (d->verb->restore_node != NULL) d->verb->restore_node(d, words, in_pass);
}

int nni_state_save(const nni_dataset *d, const nni_iter *it, int64_t *words) {
  bool in_pass = it != NULL && !it->done;
  memset(words, 0, (size_t)d->words * sizeof *words);
  words[0] = STATE_FORMAT;
  words[1] = in_pass;
  if (in_pass) {
    nni_stage_save(it->top, words + NNI_STATE_HEAD);
    return d->words;
  }
  save_nodes(d, words + NNI_STATE_HEAD);
  return d->words;
}

nn_status nni_state_restore(nni_dataset *d, void *caller, const int64_t *words, int n, nni_iter **out, nni_error *err) {
  *out = NULL;
  if (n != d->words || words[0] != STATE_FORMAT || (words[1] != 0 && words[1] != 1))
    return nni_fail(err, NN_EFORMAT, "data set: not a state of this pipeline (%d numbers, expected %d)", n, d->words);
  bool in_pass = words[1] == 1;
  nni_iter *it = in_pass ? nni_iter_open(d, err) : NULL;
  if (in_pass && it == NULL) return err->status;
  nn_status rc = in_pass ? stage_restore(it->top, caller, words + NNI_STATE_HEAD, err) : NN_OK;
  if (rc != NN_OK) {
    nni_iter_close(it);
    return rc;
  }
  restore_nodes(d, words + NNI_STATE_HEAD, in_pass);
  *out = it;
  return NN_OK;
}
