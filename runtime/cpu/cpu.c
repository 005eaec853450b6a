/* cpu/cpu.c - the CPU backend's table: nn_cpu_backend, expanded from ops/kernels.def. */
#include "cpu.h"

static nni_kernel_fn kernel_of(int id) {
  static const nni_kernel_fn table[] = {
#define NN_KERNEL(name, doc) nn_cpu_##name,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

static nni_scratch_fn scratch_of(int id) {
  static const nni_scratch_fn table[] = {
#define NN_KERNEL(name, doc) nn_cpu_##name##_scratch,
#include "../ops/kernels.def"
#undef NN_KERNEL
  };
  return id >= 0 && id < NNI_COUNT(table) ? table[id] : NULL;
}

static bool takes(int id, nn_dtype d) {
  (void)d;
  return nni_kernel_moves(id);
}

static void *buffer_get(nni_device *d, size_t n) { return nni_buffer_get(d->mem, n); }
static void buffer_put(nni_device *d, void *p, size_t n) { nni_buffer_put(d->mem, p, n); }
static nn_memory_info memory(nni_device *d) { return nni_memory_stats(d->mem); }
static void trim(nni_device *d) { nni_memory_trim(d->mem); }
static void *program_new(nni_device *d, const nni_program *p) { return nn_cpu_program_new(d->mem, p); }
static void program_free(nni_device *d, void *prog) { nn_cpu_program_free(d->mem, prog); }
static size_t program_scratch(nni_device *d, const void *prog) { return nn_cpu_program_scratch(prog, nni_threads_count(d->threads)); }
static nn_status program_run(const void *prog, const nni_kernel_call *k) {
  void *in[NNI_PROG_MAXIO], *out[NNI_PROG_MAXIO];
  for (int i = 0; i < k->nin; i++) in[i] = k->in[i].data;
  for (int i = 0; i < k->nout; i++) out[i] = k->out[i].data;
  nn_cpu_program_run(prog, k->threads, in, out, k->pa, k->scratch);
  return NN_OK;
}

const nni_backend nn_cpu_backend = {
    .buffer_get = buffer_get,
    .buffer_put = buffer_put,
    .memory = memory,
    .trim = trim,
    .program_new = program_new,
    .program_free = program_free,
    .program_scratch = program_scratch,
    .program_run = program_run,
    .kernel = kernel_of,
    .kernel_scratch = scratch_of,
    .takes = takes,
};
