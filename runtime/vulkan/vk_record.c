/* vulkan/vk_record.c - runs of plans: recorded once, submitted again.
**
** A plan's record holds up to four variants. A variant is a batch (command buffer, descriptor sets, Info and Params of its own) and the addresses
** that it was recorded for; a run with the same addresses submits one that is not in flight again, after its Params were rewritten. Otherwise the run is
** recorded anew, in place of the variant that was used longest ago. A run without a record (it will not come again), or with NNLUA_VK_NO_REPLAY=1,
** goes into the loose batch.
*/
#include "vk_device.h"

enum { WHILE = 8 }; /* runs of a plan */

static void forget(nn_vk_device *d, nn_vk_variant *v) {
  nni_free(d->base.mem, v->address, sizeof *v->address * (size_t)v->naddress);
  v->address = NULL;
  v->naddress = 0;
}

static nn_vk_record *record_of(nn_vk_device *d, void **recorded) {
  nn_vk_record *r = *recorded;
  if (r || !(r = nni_calloc(d->base.mem, sizeof *r))) return r;
  r->next = d->records;
  if (r->next) r->next->prev = &r->next;
  r->prev = &d->records;
  d->records = r;
  *recorded = r;
  return r;
}

static bool serves(const nn_vk_variant *v, const nni_submission *s) {
  return v->address && v->naddress == s->naddress && v->nparam == s->nparam &&
         memcmp(v->address, s->address, sizeof *v->address * (size_t)v->naddress) == 0;
}

/* The variant for this run. *fits: it was recorded for these addresses (and may have to be waited for); else it has to be recorded. When all that fit are in flight,
** another is recorded in a free place, or in that of one whose addresses have not come for a while: two sets of addresses in turn must not drive each other out. */
static nn_vk_variant *choose(nn_vk_device *d, nn_vk_record *r, const nni_submission *s, bool *fits) {
  nn_vk_variant *busy = NULL, *oldest = &r->variant[0];
  *fits = true;
  for (int i = 0; i < NN_VK_NVARIANT; i++) {
    nn_vk_variant *v = &r->variant[i];
    if (v->used < oldest->used) oldest = v;
    if (!serves(v, s)) continue;
    if (nn_vk_ended(d, v->batch->value)) return v;
    if (!busy || v->used < busy->used) busy = v;
  }
  if (busy && oldest->address && r->runs - oldest->used <= WHILE) return busy;
  *fits = false;
  return oldest;
}

/* Ready to record: the variant's batch is empty, and remembers the addresses. */
static nn_status start(nn_vk_device *d, nn_vk_variant *v, const nni_submission *s) {
  forget(d, v);
  if (!v->batch && !(v->batch = nn_vk_batch_new(d))) return nni_fail(s->err, NN_ENOMEM, "%s: out of memory while recording a run", d->base.name);
  nn_status st = nn_vk_batch_open(d, v->batch, true, s->err);
  if (st != NN_OK) return st;
  d->target = v->batch;
  d->recording = v;
  return NN_OK;
}

/* Bookkeeping of a run that is recorded: the addresses are kept last, so a failure leaves a variant that serves nobody. */
static nn_status remember(nn_vk_device *d, nn_vk_variant *v, const nni_submission *s) {
  v->address = nni_malloc(d->base.mem, sizeof *v->address * (size_t)(s->naddress > 0 ? s->naddress : 1));
  if (!v->address) return nni_fail(s->err, NN_ENOMEM, "%s: out of memory while recording a run", d->base.name);
  v->naddress = s->naddress > 0 ? s->naddress : 1;
  v->address[0] = NULL;
  if (s->naddress > 0) memcpy(v->address, s->address, sizeof *v->address * (size_t)s->naddress);
  v->nparam = s->nparam;
  return NN_OK;
}

nn_status nn_vk_begin(nni_device *base, const nni_submission *s, bool *replay) {
  nn_vk_device *d = nn_vk_of(base);
  bool fits = false;
  nn_status st = NN_OK;
  *replay = false;
  if (d->lost) return nn_vk_failed(d, VK_ERROR_DEVICE_LOST, "starting a run", s->err);
  d->param = s->param;
  d->nparam = s->nparam;
  nn_vk_record *r = s->recorded && d->replay && s->naddress > 0 ? record_of(d, s->recorded) : NULL;
  if (!r) {
    d->counts.recorded++;
    st = nn_vk_loose(d, &d->target, s->err);
    if (st == NN_OK) d->target->nslice = 0; /* slices of earlier runs are not for this one */
    return st;
  }
  nn_vk_variant *v = choose(d, r, s, &fits);
  v->used = ++r->runs;
  if (!fits) {
    d->counts.recorded++;
    st = start(d, v, s);
    if (st == NN_OK) st = remember(d, v, s);
    if (st != NN_OK) d->target = NULL, d->recording = NULL;
    return st;
  }
  st = nn_vk_wait(d, v->batch->value, s->err);
  if (st != NN_OK) return st;
  nn_vk_look(d, v->batch);
  nn_vk_refill(v->batch, s->param);
  d->target = v->batch;
  d->recording = v;
  *replay = true;
  d->counts.replayed++;
  return NN_OK;
}

nn_status nn_vk_end(nni_device *base, bool failed, nni_error *err) {
  nn_vk_device *d = nn_vk_of(base);
  nn_vk_variant *v = d->recording;
  nn_vk_batch *b = d->target;
  nn_status st = NN_OK;
  d->target = NULL;
  d->recording = NULL;
  d->param = NULL;
  d->nparam = 0;
  if (!b) return NN_OK;
  if (!v)
    return nn_vk_submit(d, NULL,
                        err); /* after a failure as well: what was recorded before the run must happen, and what the run did so far harms nobody */
  if (b->open) {
    st = nn_vk_batch_close(d, b, err);
    if (failed || st != NN_OK) forget(d, v);
  }
  if (failed || st != NN_OK) return st;
  st = b->commands > 0 ? nn_vk_submit(d, b, err) : NN_OK;
  if (st != NN_OK) forget(d, v);
  return st;
}

void nn_vk_recorded_free(nni_device *base, void *recorded) {
  nn_vk_device *d = nn_vk_of(base);
  nn_vk_record *r = recorded;
  if (!r) return;
  for (int i = 0; i < NN_VK_NVARIANT; i++) {
    forget(d, &r->variant[i]);
    nn_vk_batch_free(d, r->variant[i].batch);
  }
  *r->prev = r->next;
  if (r->next) r->next->prev = r->prev;
  nni_free(d->base.mem, r, sizeof *r);
}
