/* cpu/program.h - row programs on the CPU. The contract is graph/device.h's; what a program computes never depends on the number of threads. */
#ifndef NN_CPU_PROGRAM_H
#define NN_CPU_PROGRAM_H
#include "../graph/device.h"

void *nn_cpu_program_new(nni_memory *m, const nni_program *p); /* NULL: out of memory, or an instruction that no class has */
void nn_cpu_program_free(nni_memory *m, void *prog);           /* prog may be NULL */
size_t nn_cpu_program_scratch(const void *prog, int nthreads);
/* scratch: 64-byte aligned, of the size that nn_cpu_program_scratch gave for at least t's number of threads (one when t is NULL) */
void nn_cpu_program_run(const void *prog, nni_threads *t, void *const *in, void *const *out, const nni_param *params, void *scratch);
#endif
