/* test_vulkan_limits.c - what lies beyond the ordinary: work that takes long, times, drivers that fail, tensors that are too large.
**
** Runs in the modes of vk_check.h; ctest runs it under validation as well.
*/
#include "vk_check.h"
#include "graph/graph.h"
#include "vulkan/vk_device.h"

/* ---- long work -------------------------------------------------------------------------------------------------------------------------------- */
static nni_device *other(const char *variable, const char *value) {
  nni_device *d = NULL;
  if (variable) setenv(variable, value, 1);
  MUST(nn_vk_open(mem, 0, &d, &err));
  if (variable) unsetenv(variable);
  return d;
}

/* Dispatches beyond the budget are cut, runs beyond 16 of them are several submissions, and compute the same; others are one of each. */
static void check_parts(void) {
  enum { N = 100000, GROUPS = (N + 255) / 256 };
  nni_device *usual = dev;
  static float x[N], y[N];
  for (int i = 0; i < N; i++) x[i] = (float)i;
  for (int turn = 0; turn < 2; turn++) {
    dev = other(turn ? "NNLUA_VK_BUDGET" : NULL, "4096");
    void *prog = scale_program(N), *record = NULL, *in = dev->is->buffer_get(dev, sizeof x), *out = dev->is->buffer_get(dev, sizeof x);
    MUST(dev->is->upload(dev, in, x, sizeof x, &err));
    MUST(dev->is->finish(dev, &err));
    for (int run = 1; run < 4; run++) {
      const nn_vk_counts before = nn_vk_counted(dev);
      MUST(scaled(dev, prog, &record, in, out, run));
      const nn_vk_counts now = nn_vk_counted(dev);
      const uint64_t dispatches = now.dispatches - before.dispatches, submissions = now.submissions - before.submissions;
      const uint64_t part = (uint64_t)N * 8 * 8 / GROUPS, fit = 16 * 4096 / part; /* operations of a group; such dispatches in a command buffer */
      if (now.recorded > before.recorded) CHECK(dispatches == (turn ? GROUPS : 1), "%llu dispatches", (unsigned long long)dispatches);
      CHECK(submissions == (turn ? (GROUPS + fit - 1) / fit : 1), "%llu submissions", (unsigned long long)submissions);
      MUST(dev->is->download(dev, y, out, sizeof y, &err));
      for (int i = 0; i < N; i++) CHECK(y[i] == (float)i * (float)run, "run %d: y[%d] is %g", run, i, (double)y[i]);
    }
    dev->is->recorded_free(dev, record);
    dev->is->program_free(dev, prog);
    dev->is->buffer_put(dev, in, sizeof x);
    dev->is->buffer_put(dev, out, sizeof x);
    CHECK(dev->is->memory(dev).live == 0, "live");
    dev->is->close(dev);
  }
  dev = usual;
}

/* Times of what is between marks: none is negative, and more work takes longer. */
static void check_marks(void) {
  enum { SMALL = 1000, LARGE = 4 << 20 };
  void *a = dev->is->buffer_get(dev, LARGE), *b = dev->is->buffer_get(dev, LARGE), *c = dev->is->buffer_get(dev, LARGE);
  double t[4] = {-1, -1, -1, -1};
  for (int turn = 0; turn < 2; turn++) {
    void *const address[] = {a, b, c};
    const nni_submission s = {.address = address, .naddress = 3, .err = &err};
    bool replay;
    MUST(dev->is->begin(dev, &s, &replay));
    MUST(dev->is->mark(dev, 0, turn + 3, &err));
    MUST(nn_vk_copy_bytes(nn_vk_of(dev), b, a, SMALL, &err));
    MUST(dev->is->mark(dev, 1, turn + 3, &err));
    for (int i = 0; i < 20; i++) MUST(nn_vk_copy_bytes(nn_vk_of(dev), i % 2 ? a : c, i % 2 ? c : a, LARGE, &err));
    MUST(dev->is->mark(dev, 2, turn + 3, &err));
    if (turn) MUST(dev->is->mark(dev, 3, turn + 3, &err));
    MUST(dev->is->end(dev, false, &err));
    MUST(dev->is->marked(dev, turn + 3, t, &err));
    CHECK(t[0] == 0 && t[1] >= 0 && t[2] - t[1] > 1e-4 && t[2] - t[1] > t[1] && t[2] < 60, "%g %g %g", t[0], t[1], t[2]);
  }
  CHECK(t[3] >= t[2], "%g after %g", t[3], t[2]);
  dev->is->buffer_put(dev, a, LARGE);
  dev->is->buffer_put(dev, b, LARGE);
  dev->is->buffer_put(dev, c, LARGE);
}

/* ---- a driver that fails ------------------------------------------------------------------------------------------------------------------------ */
static VkResult refusal;
static int refusals;
static PFN_vkQueueSubmit2 driver;
static VkResult refuse(VkQueue q, uint32_t n, const VkSubmitInfo2 *s, VkFence f) {
  return refusals-- > 0 ? refusal : driver(q, n, s, f);
}
static void inject(nni_device *d, VkResult r, int times) {
  if (nn_vk_of(d)->vk.vkQueueSubmit2 != refuse) driver = nn_vk_of(d)->vk.vkQueueSubmit2;
  nn_vk_of(d)->vk.vkQueueSubmit2 = refuse;
  refusal = r;
  refusals = times;
}

/* A submission that fails: no memory is an error and the next one works; a lost device stays lost, says so, and can be closed. */
static void check_refused(void) {
  enum { N = 1000 };
  float x[N], y[N];
  nni_device *usual = dev;
  for (int i = 0; i < N; i++) x[i] = (float)i;
  dev = other(NULL, NULL);
  void *prog = scale_program(N), *record = NULL, *in = dev->is->buffer_get(dev, sizeof x), *out = dev->is->buffer_get(dev, sizeof x);
  MUST(dev->is->upload(dev, in, x, sizeof x, &err));
  MUST(scaled(dev, prog, &record, in, out, 2));
  inject(dev, VK_ERROR_OUT_OF_HOST_MEMORY, 1);
  CHECK(scaled(dev, prog, &record, in, out, 3) == NN_ENOMEM && strstr(err.text, "out of memory while submitting"), "%s", err.text);
  MUST(scaled(dev, prog, &record, in, out, 4));
  MUST(dev->is->download(dev, y, out, sizeof y, &err));
  for (int i = 0; i < N; i++) CHECK(y[i] == 4 * x[i], "y[%d] is %g", i, (double)y[i]);
  inject(dev, VK_ERROR_DEVICE_LOST, 1);
  CHECK(scaled(dev, prog, &record, in, out, 5) == NN_EDEVICE && strstr(err.text, "the device was lost (while submitting work)"), "%s", err.text);
  CHECK(scaled(dev, prog, &record, in, out, 6) == NN_EDEVICE && strstr(err.text, "lost"), "%s", err.text);
  CHECK(dev->is->download(dev, y, out, sizeof y, &err) == NN_EDEVICE && dev->is->finish(dev, &err) == NN_EDEVICE, "%s", err.text);
  dev->is->recorded_free(dev, record);
  dev->is->program_free(dev, prog);
  dev->is->close(dev);
  dev = usual;
}

/* The same under a context: calls fail with the driver's story, the CPU computes on, and all of it can be closed. */
static void check_lost_context(void) {
  nn_context *ctx;
  CHECK(nn_open(NULL, &ctx) == NN_OK && nn_set_device(ctx, 1) == NN_OK, "no context");
  const float x[] = {1, 2, 3};
  double sum = 0;
  nn_tensor *there = nn_call(ctx, "full", NN_INTS(1, ((int64_t[]){6})), NN_F(1)), *twice = nn_call(ctx, "add", NN_T(there), NN_T(there)), *total = nn_call(ctx, "sum", NN_T(twice));
  CHECK(total && nn_item(total, &sum, NULL) == NN_OK && sum == 12, "%s", nn_error(ctx));
  nn_tensor *next = nn_call(ctx, "mul", NN_T(twice), NN_F(3)), *late = nn_call(ctx, "sum", NN_T(next));
  inject(ctx->dev[1], VK_ERROR_DEVICE_LOST, 1);
  CHECK(nn_item(late, &sum, NULL) == NN_EDEVICE && strstr(nn_error(ctx), "vulkan:1: the device was lost"), "%s", nn_error(ctx));
  CHECK(nn_item(total, &sum, NULL) == NN_EDEVICE, "%s", nn_error(ctx));
  CHECK(nn_to_device(twice, 0) == NULL && strstr(nn_error(ctx), "lost"), "%s", nn_error(ctx));
  CHECK(nn_set_device(ctx, 0) == NN_OK, "%s", nn_error(ctx));
  nn_tensor *here = nn_tensor_new(ctx, NN_F32, 1, (int64_t[]){3}, x), *six = nn_call(ctx, "sum", NN_T(here));
  CHECK(six && nn_item(six, &sum, NULL) == NN_OK && sum == 6, "%s", nn_error(ctx));
  nn_tensor *all[] = {there, twice, total, next, late, here, six};
  for (int i = 0; i < NNI_COUNT(all); i++) nn_release(all[i]);
  nn_close(ctx);
}

/* Beyond what a kernel of the device can see or count. */
static void check_too_large(void) {
  enum { N = 4096 };
  nni_device *usual = dev;
  dev = other(NULL, NULL);
  void *prog = scale_program(N), *record = NULL, *in = dev->is->buffer_get(dev, N * 4), *out = dev->is->buffer_get(dev, N * 4);
  const uint32_t range = nn_vk_of(dev)->props.limits.maxStorageBufferRange;
  CHECK(range >= N * 4, "%u", range);
  nn_vk_of(dev)->props.limits.maxStorageBufferRange = N * 4 - 1;
  CHECK(scaled(dev, prog, &record, in, out, 2) == NN_EDEVICE && strstr(err.text, "16384 bytes is too large for a kernel on this device, which can see 16383"), "%s", err.text);
  nn_vk_of(dev)->props.limits.maxStorageBufferRange = range;
  MUST(scaled(dev, prog, &record, in, out, 2));
  dev->is->program_free(dev, prog);
  prog = scale_program((int64_t)1 << 32);
  CHECK(prog && scaled(dev, prog, NULL, in, out, 2) == NN_EUNSUPPORTED && strstr(err.text, "4294967296 elements at once"), "%s", err.text);
  dev->is->program_free(dev, prog);
  dev->is->recorded_free(dev, record);
  dev->is->buffer_put(dev, in, N * 4);
  dev->is->buffer_put(dev, out, N * 4);
  dev->is->close(dev);
  dev = usual;
}

/* A lost device says so, whatever is asked of it, and can be closed. */
static void check_lost(void) {
  nni_device *d;
  float x[64] = {0};
  bool replay;
  void *record = NULL;
  MUST(nn_vk_open(mem, 0, &d, &err));
  void *p = d->is->buffer_get(d, sizeof x), *address[] = {p};
  const nni_submission s = {.recorded = &record, .address = address, .naddress = 1, .err = &err};
  MUST(d->is->upload(d, p, x, sizeof x, &err));
  CHECK(nn_vk_failed(nn_vk_of(d), VK_ERROR_DEVICE_LOST, "testing", &err) == NN_EDEVICE && strstr(err.text, "lost"), "%s", err.text);
  CHECK(d->is->upload(d, p, x, sizeof x, &err) == NN_EDEVICE, "upload");
  CHECK(d->is->begin(d, &s, &replay) == NN_EDEVICE, "begin");
  CHECK(d->is->end(d, true, &err) == NN_OK, "the end of what did not begin");
  CHECK(d->is->download(d, x, p, sizeof x, &err) == NN_EDEVICE && strstr(err.text, "lost"), "%s", err.text);
  CHECK(d->is->finish(d, &err) == NN_EDEVICE, "finish");
  CHECK(nn_vk_fill(nn_vk_of(d), p, 64, 0, &err) == NN_EDEVICE, "fill");
  d->is->recorded_free(d, record);
  d->is->buffer_put(d, p, sizeof x);
  d->is->trim(d);
  d->is->close(d);
}

static void all(void) {
  check_parts();
  check_marks();
  check_lost();
  check_refused();
  check_lost_context();
  check_too_large();
}

int main(void) { return vk_check_main("test_vulkan_limits", all); }
