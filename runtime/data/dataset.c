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

nn_status nni_rows_gather(const nni_dataset *d, const int64_t *rows, int64_t n, bool lead, nni_element *out, nni_error *err) {
  const nni_dataset *src = d->source;
  void *dst[NN_DATA_MAX];
  out->n = 0;
  for (int i = 0; i < src->spec.n; i++) {
    const nni_component *from = &src->spec.c[i];
    nni_component *to = &out->c[i];
    int64_t count;
    *to = *from;
    if (lead) {
      memmove(to->shape + 1, from->shape, sizeof to->shape - sizeof to->shape[0]);
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

nni_dataset *nni_dataset_new(nni_memory *m, const nni_verb *verb, nni_dataset *up, nni_error *err) {
  int depth = up != NULL ? up->depth + 1 : 1, words = (up != NULL ? up->words : NNI_STATE_HEAD) + verb->words;
  if (depth > MAX_DEPTH || words > MAX_STATE_WORDS) {
    nni_fail(err, NN_EINVAL, "%s: a chain of more than %d verbs", verb->name, MAX_DEPTH);
    return NULL;
  }
  nni_dataset *d = nni_calloc(m, sizeof *d);
  if (d == NULL) {
    nni_fail(err, NN_ENOMEM, "%s: out of memory", verb->name);
    return NULL;
  }
  d->refs = 1;
  d->depth = depth;
  d->words = words;
  d->verb = verb;
  d->m = m;
  if (up == NULL) return d;
  d->up = nni_dataset_retain(up);
  d->spec = up->spec;
  d->consumer_only = up->consumer_only;
  if (verb->rows != NULL) d->source = up->source;
  return d;
}

nni_dataset *nni_dataset_retain(nni_dataset *d) {
  d->refs++;
  return d;
}

void nni_dataset_release(nni_dataset *d) {
  while (d != NULL && --d->refs == 0) {
    nni_dataset *up = d->up;
    if (d->verb->free != NULL) d->verb->free(d);
    nni_free(d->m, d, sizeof *d);
    d = up;
  }
}

int64_t nni_dataset_cardinality(const nni_dataset *d) { return d->verb->cardinality(d); }
const nni_element *nni_dataset_spec(const nni_dataset *d) { return &d->spec; }
nni_memory *nni_dataset_memory(const nni_dataset *d) { return d->m; }

int nni_dataset_describe(const nni_dataset *d, char *buf, size_t n) {
  int k = d->up != NULL ? nni_dataset_describe(d->up, buf, n) : 0;
  if (d->verb->silent) return k;
  char params[96] = "";
  if (d->verb->params != NULL) d->verb->params(d, params, sizeof params);
  size_t at = (size_t)k < n ? (size_t)k : n;
  return k + snprintf(buf + at, n - at, params[0] != 0 ? "%s%s(%s)" : "%s%s", k > 0 ? " " : "", d->verb->name, params);
}

/* ---- stages -------------------------------------------------------------------------------------------------------------- */

static void stage_close(nni_stage *s) {
  while (s != NULL) {
    nni_stage *up = s->up;
    nni_memory *m = s->d->m;
    if (s->d->verb->close != NULL) s->d->verb->close(s);
    nni_free(m, s, s->d->verb->stage_bytes);
    s = up;
  }
}

static nn_status stage_open(nni_dataset *d, nni_stage **out, nni_error *err) {
  nni_stage *up = NULL;
  nn_status rc = NN_OK;
  *out = NULL;
  if (d->up != NULL && (rc = stage_open(d->up, &up, err)) != NN_OK) return rc;
  nni_stage *s = nni_calloc(d->m, d->verb->stage_bytes);
  if (s == NULL) {
    stage_close(up);
    return nni_fail(err, NN_ENOMEM, "%s: out of memory", d->verb->name);
  }
  s->d = d;
  s->up = up;
  if (d->verb->open != NULL) rc = d->verb->open(s, err);
  if (rc == NN_OK) *out = s;
  else stage_close(s);
  return rc;
}

nn_status nni_stage_pull(nni_stage *s, void *caller, nni_element *out, nni_error *err) {
  out->n = 0;
  if (s->d->source == NULL) return s->d->verb->next(s, caller, out, err);
  int64_t row, got = 0;
  nn_status rc = s->d->verb->rows(s, &row, 1, &got, err);
  if (rc != NN_OK || got == 0) return rc;
  return nni_rows_gather(s->d, &row, 1, false, out, err);
}

nn_status nni_stage_rewind(nni_stage *s, uint64_t pass, nni_error *err) {
  s->pass = pass;
  if (s->d->verb->rewind != NULL) return s->d->verb->rewind(s, err);
  return s->up != NULL ? nni_stage_rewind(s->up, pass, err) : NN_OK;
}

uint64_t nni_pass_number(uint64_t pass, int64_t repetition) {
  if (repetition == 0) return pass;
  nni_philox p = nni_philox4x32(pass, (uint64_t)repetition, 0x70617373 /* "pass" */);
  return (uint64_t)p.v[0] << 32 | p.v[1];
}

int nni_stage_save(const nni_stage *s, int64_t *words) {
  const nni_verb *v = s->d->verb;
  int n = 0;
  if (s->up != NULL) {
    n = s->up->d->words - NNI_STATE_HEAD;
    if (v->save_up != NULL) v->save_up(s, words);
    else nni_stage_save(s->up, words);
  }
  if (v->save != NULL) v->save(s, words + n);
  return n + v->words;
}

static nn_status stage_restore(nni_stage *s, void *caller, const int64_t *words, nni_error *err) {
  int n = 0;
  if (s->up != NULL) {
    n = s->up->d->words - NNI_STATE_HEAD;
    nn_status rc = stage_restore(s->up, caller, words, err);
    if (rc != NN_OK) return rc;
  }
  const nni_verb *v = s->d->verb;
  return v->restore != NULL ? v->restore(s, caller, words + n, err) : NN_OK;
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

int nni_state_save(const nni_dataset *d, const nni_iter *it, int64_t *words) {
  bool in_pass = it != NULL && !it->done;
  memset(words, 0, (size_t)d->words * sizeof *words);
  words[0] = STATE_FORMAT;
  words[1] = in_pass;
  if (in_pass) {
    nni_stage_save(it->top, words + NNI_STATE_HEAD);
    return d->words;
  }
  for (const nni_dataset *p = d; p != NULL; p = p->up)
    if (p->verb->save_node != NULL) p->verb->save_node(p, words + p->words - p->verb->words);
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
  for (nni_dataset *p = d; p != NULL; p = p->up)
    if (p->verb->restore_node != NULL) p->verb->restore_node(p, words + p->words - p->verb->words, in_pass);
  *out = it;
  return NN_OK;
}
