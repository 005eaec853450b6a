/* vk_check.h - for test_vulkan*.c: a device in its modes, operands that lie on the host and on the device, and kernels of both run side by side.
**
** The reference of a structural kernel is the CPU's, which test_kernels.c and its like hold against naive loops.
*/
#ifndef VK_CHECK_H
#define VK_CHECK_H
#include "cpu/cpu.h"
#include "vulkan/vk.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures, checks;
static nni_memory *mem;
static nni_threads *threads;
static nni_device *dev; /* the Vulkan device */
static const char *mode = "default";
static uint64_t seed = 1;
static nni_error err;

#define CHECK(ok, ...)                                \
  do {                                                \
    checks++;                                         \
    if (!(ok)) {                                      \
      failures++;                                     \
      printf("%s:%d (%s): ", __func__, __LINE__, mode); \
      printf(__VA_ARGS__);                            \
      printf("\n");                                   \
    }                                                 \
  } while (0)
#define MUST(call)                                    \
  do {                                                \
    const nn_status must = (call);                    \
    CHECK(must == NN_OK, "%s: %s", #call, err.text);  \
  } while (0)

static inline uint32_t draw(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33);
}

/* An operand, its elements in host memory and in device memory. */
typedef struct arr {
  nni_operand host, device;
  int64_t shape[NN_MAXDIM], stride[NN_MAXDIM];
  char *memory;
  void *buffer; /* the device's; element 0 of both lies `first` bytes behind the start */
  size_t bytes, first;
} arr;

static inline arr *arr_new(nn_dtype t, int ndim, const int64_t *shape, const int64_t *stride, int64_t before) {
  arr *a = calloc(1, sizeof *a);
  const int64_t each = (int64_t)nn_dtype_size(t);
  int64_t dense = 1, below = 0, above = 0;
  for (int i = ndim - 1; i >= 0; i--) {
    a->shape[i] = shape[i];
    a->stride[i] = stride ? stride[i] : dense;
    dense *= shape[i];
    if (shape[i] > 0 && a->stride[i] < 0) below -= a->stride[i] * (shape[i] - 1);
    else if (shape[i] > 0) above += a->stride[i] * (shape[i] - 1);
  }
  a->first = (size_t)((below + before) * each);
  a->bytes = a->first + (size_t)((above + 1) * each);
  a->memory = calloc(1, a->bytes + 64);
  a->buffer = dev->is->buffer_get(dev, a->bytes);
  a->host = (nni_operand){.data = a->memory + a->first, .dtype = t, .ndim = ndim, .shape = a->shape, .stride = a->stride};
  a->device = a->host;
  a->device.data = (char *)a->buffer + a->first;
  CHECK(a->buffer, "no buffer of %zu bytes", a->bytes);
  return a;
}
static inline void arr_send(arr *a) { MUST(dev->is->upload(dev, a->buffer, a->memory, a->bytes, &err)); }
static inline void arr_free(arr *a) {
  dev->is->buffer_put(dev, a->buffer, a->bytes);
  free(a->memory);
  free(a);
}
/* every element, also those between the strides; floats with whole and broken parts, negative ones, now and then an extreme */
static inline void arr_fill(arr *a) {
  const size_t each = nn_dtype_size(a->host.dtype);
  for (size_t i = 0; i < a->bytes / each; i++) {
    const double f = draw() % 64 == 0 ? (draw() % 2 ? 3e9 : -1e19) : ((double)(draw() % 20001) - 10000) / 128;
    nn_element_write(a->host.dtype, a->memory + i * each, f, (int64_t)(draw() % 3 ? draw() % 200 : draw()) - 50);
    if (a->host.dtype == NN_BOOL) a->memory[i] = (char)(draw() & 1);
  }
  arr_send(a);
}
static inline double arr_get(const arr *a, const char *bytes, size_t i) {
  double f;
  int64_t n;
  nn_element_read(a->host.dtype, bytes + i * nn_dtype_size(a->host.dtype), &f, &n);
  return nn_dtype_is_float(a->host.dtype) || a->host.dtype == NN_BOOL ? f : (double)n;
}

/* The device's memory of `a` against the host's: to the bit, or |difference| <= tol * (1 + |host|). */
static inline void arr_compare(const char *what, const arr *a, double tol) {
  char *got = malloc(a->bytes + 64);
  const size_t each = nn_dtype_size(a->host.dtype);
  MUST(dev->is->download(dev, got, a->buffer, a->bytes, &err));
  size_t bad = 0, first = 0;
  for (size_t i = 0; i < a->bytes / each; i++) {
    const double x = arr_get(a, got, i), y = arr_get(a, a->memory, i);
    const bool same = tol == 0 ? memcmp(got + i * each, a->memory + i * each, each) == 0 || (x != x && y != y) : (x != x && y != y) || x == y || fabs(x - y) <= tol * (1 + fabs(y));
    if (!same && bad++ == 0) first = i;
  }
  CHECK(bad == 0, "%s: %zu of %zu %s differ; number %zu is %.9g, not %.9g", what, bad, a->bytes / each, nn_dtype_name(a->host.dtype), first, arr_get(a, got, first),
        arr_get(a, a->memory, first));
  free(got);
}

typedef struct kernel { const char *name; nni_kernel_fn run, vk; nni_scratch_fn scratch, vk_scratch; } kernel;
/* KERNEL(copy): of the CPU and of the device */
#define KERNEL(name) (kernel){#name, nn_cpu_##name, nn_vk_##name, nn_cpu_##name##_scratch, nn_vk_##name##_scratch}

/* Runs a kernel on both and compares the outputs, then once more through the record with other contents. alias: out[0] is in[0]'s memory. Kernels that fail
** must fail with the same status on both. */
static inline void check_kernel(kernel f, arr **in, int nin, arr **out, int nout, const int64_t *ia, const nni_param *pa, int npa, double tol) {
  nni_operand hi[32], ho[8], di[32], d_o[8];
  for (int i = 0; i < nin; i++) hi[i] = in[i]->host, di[i] = in[i]->device;
  for (int i = 0; i < nout; i++) ho[i] = out[i]->host, d_o[i] = out[i]->device;
  nni_error cpu_err = {0};
  nni_kernel_call h = {.threads = threads, .in = hi, .out = ho, .nin = nin, .nout = nout, .ia = ia, .pa = pa, .err = &cpu_err};
  nni_kernel_call v = {.dev = dev, .threads = threads, .in = di, .out = d_o, .nin = nin, .nout = nout, .ia = ia, .pa = pa, .err = &err};
  const size_t hs = f.scratch(&h), vs = f.vk_scratch(&v);
  void *record = NULL, *scratch = dev->is->buffer_get(dev, vs), *address[64];
  int n = 0;
  h.scratch = nni_buffer_get(mem, hs);
  v.scratch = scratch;
  for (int i = 0; i < nin; i++) address[n++] = di[i].data;
  for (int i = 0; i < nout; i++) address[n++] = d_o[i].data;
  address[n++] = scratch;
  const nni_submission s = {.recorded = &record, .address = address, .naddress = n, .param = pa, .nparam = npa, .err = &err};
  for (int turn = 0; turn < 2; turn++) {
    bool replay;
    for (int i = 0; i < nin; i++) arr_send(in[i]);
    for (int i = 0; i < nout; i++) arr_send(out[i]);
    const nn_status hst = f.run(&h);
    MUST(dev->is->begin(dev, &s, &replay));
    CHECK(replay == (turn == 1 && getenv("NNLUA_VK_NO_REPLAY") == NULL), "%s: replay is %d in turn %d", f.name, replay, turn);
    nn_status st = replay ? NN_OK : f.vk(&v);
    const nn_status ended = dev->is->end(dev, st != NN_OK, &err);
    if (st == NN_OK) st = ended;
    if (st == NN_OK) st = dev->is->finish(dev, &err);
    CHECK(st == hst, "%s: status %d, not %d: %s", f.name, st, hst, err.text);
    if (hst != NN_OK) CHECK(strcmp(err.text, cpu_err.text) == 0, "%s: \"%s\", not \"%s\"", f.name, err.text, cpu_err.text);
    for (int i = 0; i < nout && hst == NN_OK; i++) arr_compare(f.name, out[i], tol);
  }
  dev->is->recorded_free(dev, record);
  dev->is->buffer_put(dev, scratch, vs);
  nni_buffer_put(mem, h.scratch, hs);
}

/* y = x * parameter 1, the second of three */
static inline void *scale_program(int64_t n) {
  nni_rinstr r[] = {{.kind = NNI_R_LOAD, .cls = NNI_F, .dtype = NN_F32, .slot = 0},
                    {.kind = NNI_R_PARAM, .cls = NNI_F, .dtype = NN_F32, .level = NNI_ROW, .slot = 1},
                    {.kind = NNI_R_PW, .cls = NNI_F, .opcls = NNI_F, .dtype = NN_F32, .nargs = 2, .op = NNI_PW_mul, .a = {0, 1}},
                    {.kind = NNI_R_STORE, .cls = NNI_F, .dtype = NN_F32, .nargs = 1, .a = {2}, .slot = 0}};
  nni_program p = {.ndim = 1, .shape = {n}, .rows = 1, .cols = n, .nin = 1, .nout = 1, .ninstr = NNI_COUNT(r), .instr = r};
  p.in[0] = (nni_access){.dtype = NN_F32, .stride = {1}};
  p.out[0] = (nni_access){.dtype = NN_F32};
  return dev->is->program_new(dev, &p);
}

/* One run of scale_program over n elements on d: y[i] = i * by. */
static inline nn_status scaled(nni_device *d, void *prog, void **record, void *in, void *out, double by) {
  const nni_operand a = {.data = in}, b = {.data = out};
  void *const address[] = {in, out};
  const nni_param pa[] = {{.f = -1}, {.f = by}, {.f = -2}};
  const nni_submission s = {.recorded = record, .address = address, .naddress = 2, .param = pa, .nparam = 3, .err = &err};
  const nni_kernel_call c = {.dev = d, .in = &a, .out = &b, .nin = 1, .nout = 1, .pa = pa, .err = &err};
  bool replay;
  nn_status st = d->is->begin(d, &s, &replay), end;
  if (st != NN_OK) return st;
  if (!replay) st = d->is->program_run(prog, &c);
  end = d->is->end(d, st != NN_OK, &err);
  return st == NN_OK ? end : st;
}

/* Calls `all` on the first Vulkan device, in the modes that must agree. Returns what main returns. */
static inline int vk_check_main(const char *name, void (*all)(void)) {
  static const struct { const char *name, *variable; } modes[] = {{"default", NULL}, {"barriers", "NNLUA_VK_BARRIERS"}, {"no replay", "NNLUA_VK_NO_REPLAY"},
                                                                {"no lanes", "NNLUA_VK_NO_LANES"}}; /* the last: on a software device, the shaders of real ones */
  mem = nni_memory_open(NULL, NULL);
  threads = nni_threads_open(mem, 1);
  if (nn_vk_count(mem, &err) == 0) {
    printf("%s: skipped: no Vulkan device\n", name);
    return 77;
  }
  for (int i = 0; i < NNI_COUNT(modes); i++) {
    mode = modes[i].name;
    if (modes[i].variable) setenv(modes[i].variable, "1", 1);
    nn_status st = nn_vk_open(mem, 0, &dev, &err);
    CHECK(st == NN_OK, "open: %s", err.text);
    if (st == NN_OK) {
      dev->threads = threads;
      all();
      const size_t live = dev->is->memory(dev).live;
      CHECK(live == 0, "%zu bytes are still in use", live);
      dev->is->close(dev);
    }
    if (modes[i].variable) unsetenv(modes[i].variable);
  }
  nni_threads_close(threads);
  nni_memory_close(mem);
  CHECK(nn_vk_messages() == 0, "%d messages of the validation layers", nn_vk_messages());
  printf("%s: %d checks, %d failures\n", name, checks, failures);
  return failures != 0;
}
#endif
