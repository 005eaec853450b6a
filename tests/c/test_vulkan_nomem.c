/* test_vulkan_nomem.c - every allocation of a device's life is refused once, and from there on: opening, buffers, uploads, a recorded run with a kernel, a check
** of ids and a row program, its replay, reading back, closing. Nothing may crash or leak; what says it worked must have worked.
*/
#include "base/check.h"
#include "vulkan/vk.h"
#include <stdio.h>
#include <stdlib.h>

static int failures, asked, fail_at;
static bool fail_on; /* all that follow fail as well */

static void *alloc(void *ud, void *p, size_t osize, size_t nsize) {
  (void)ud, (void)osize;
  if (nsize == 0) {
    free(p);
    return NULL;
  }
  asked++;
  if (fail_at > 0 && (asked == fail_at || (fail_on && asked > fail_at))) return NULL;
  return realloc(p, nsize);
}

#define CHECK(ok, ...)                                                                                                                               \
  do {                                                                                                                                               \
    if (!(ok)) {                                                                                                                                     \
      failures++;                                                                                                                                    \
      printf("allocation %d%s: ", fail_at, fail_on ? " and on" : "");                                                                                \
      printf(__VA_ARGS__);                                                                                                                           \
      printf("\n");                                                                                                                                  \
    }                                                                                                                                                \
  } while (0)

enum { N = 300 };

static void *negate(nni_device *d) {
  nni_rinstr r[] = {{.kind = NNI_R_LOAD, .cls = NNI_F, .dtype = NN_F32, .slot = 0},
                    {.kind = NNI_R_PARAM, .cls = NNI_F, .dtype = NN_F32, .level = NNI_ROW, .slot = 0},
                    {.kind = NNI_R_PW, .cls = NNI_F, .opcls = NNI_F, .dtype = NN_F32, .nargs = 2, .op = NNI_PW_mul, .a = {0, 1}},
                    {.kind = NNI_R_STORE, .cls = NNI_F, .dtype = NN_F32, .nargs = 1, .a = {2}, .slot = 0}};
  nni_program p = {.ndim = 1, .shape = {N}, .rows = 1, .cols = N, .nin = 1, .nout = 1, .ninstr = NNI_COUNT(r), .instr = r};
  p.in[0] = (nni_access){.dtype = NN_F32, .stride = {1}};
  p.out[0] = (nni_access){.dtype = NN_F32};
  return d->is->program_new(d, &p);
}

typedef struct work {
  nni_device *d;
  void *ids, *floats, *result, *prog, *record;
} work;

/* ids (i64) -> checked -> floats (f32) -> result = floats * -2 */
static nn_status run(work *w, nni_error *err) {
  const int64_t shape = N, one = 1, size = N;
  nni_operand ids = {w->ids, NN_I64, 1, &shape, &one}, floats = {w->floats, NN_F32, 1, &shape, &one}, result = {w->result, NN_F32, 1, &shape, &one};
  const nni_param pa[] = {{.f = -2}};
  void *const address[] = {w->ids, w->floats, w->result};
  const nni_submission s = {.recorded = &w->record, .address = address, .naddress = 3, .param = pa, .nparam = 1, .err = err};
  const nni_kernel_call check = {.dev = w->d, .in = &ids, .out = &ids, .nin = 1, .nout = 1, .ia = &size, .err = err};
  const nni_kernel_call copy = {.dev = w->d, .in = &ids, .out = &floats, .nin = 1, .nout = 1, .err = err};
  const nni_kernel_call mul = {.dev = w->d, .in = &floats, .out = &result, .nin = 1, .nout = 1, .pa = pa, .err = err};
  bool replay;
  nn_status st = w->d->is->begin(w->d, &s, &replay);
  if (st != NN_OK) return st;
  if (!replay) {
    st = nn_vk_check_ids_in(&check, &ids, size, false);
    if (st == NN_OK) st = nn_vk_copy(&copy);
    if (st == NN_OK) st = w->d->is->program_run(w->prog, &mul);
  }
  const nn_status end = w->d->is->end(w->d, st != NN_OK, err);
  return st == NN_OK ? end : st;
}

static nn_status use(work *w, nni_error *err) {
  int64_t x[N];
  float y[N];
  nn_status st = NN_OK;
  for (int i = 0; i < N; i++) x[i] = N - 1 - i;
  w->ids = w->d->is->buffer_get(w->d, sizeof x);
  w->floats = w->d->is->buffer_get(w->d, sizeof y);
  w->result = w->d->is->buffer_get(w->d, sizeof y);
  w->prog = negate(w->d);
  if (!w->ids || !w->floats || !w->result || !w->prog) return NN_ENOMEM;
  st = w->d->is->upload(w->d, w->ids, x, sizeof x, err);
  for (int turn = 0; turn < 2 && st == NN_OK; turn++) {
    st = run(w, err);
    if (st == NN_OK) st = w->d->is->download(w->d, y, w->result, sizeof y, err);
    for (int i = 0; i < N && st == NN_OK; i++)
      if (y[i] != -2.0f * (float)x[i]) {
        CHECK(false, "result %d is %g", i, (double)y[i]);
        break;
      }
  }
  return st;
}

static nn_status life(void) {
  nni_error err = {0};
  work w = {0};
  asked = 0;
  nni_memory *m = nni_memory_open(alloc, NULL);
  if (!m) return NN_ENOMEM;
  nn_status st = nn_vk_open(m, 0, &w.d, &err);
  if (st == NN_OK) {
    st = use(&w, &err);
    w.d->is->recorded_free(w.d, w.record);
    if (w.prog) w.d->is->program_free(w.d, w.prog);
    if (w.ids) w.d->is->buffer_put(w.d, w.ids, N * 8);
    if (w.floats) w.d->is->buffer_put(w.d, w.floats, N * 4);
    if (w.result) w.d->is->buffer_put(w.d, w.result, N * 4);
    CHECK(w.d->is->memory(w.d).live == 0, "%zu bytes of the device are in use", w.d->is->memory(w.d).live);
    w.d->is->close(w.d);
  }
  CHECK(st == NN_OK || st == NN_ENOMEM, "status %d: %s", st, err.text);
  CHECK(nni_memory_inspect(m).small == 0, "%zu bytes are left", nni_memory_inspect(m).small);
  nni_memory_close(m);
  return st;
}

int main(void) {
  nni_error err = {0};
  nni_memory *m = nni_memory_open(NULL, NULL);
  const int devices = m ? nn_vk_count(m, &err) : 0;
  nni_memory_close(m);
  if (devices == 0) {
    printf("test_vulkan_nomem: skipped: no Vulkan device\n");
    return 77;
  }
  CHECK(life() == NN_OK, "without failures");
  const int all = asked;
  CHECK(all > 20, "%d allocations", all);
  int refused = 0;
  for (int on = 0; on < 2; on++)
    for (fail_at = 1; fail_at <= all; fail_at++) {
      fail_on = on;
      refused += life() != NN_OK;
    }
  CHECK(refused > all, "%d of %d failed", refused, 2 * all);
  CHECK(nn_vk_messages() == 0, "%d messages of the validation layers", nn_vk_messages());
  printf("test_vulkan_nomem: %d allocations, %d failures\n", all, failures);
  return failures != 0;
}
