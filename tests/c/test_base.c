#include <stdio.h>
#include "base/base.h"
static void part(void *a, int64_t b, int64_t e, int tid) { (void)tid; for (int64_t i = b; i < e; i++) ((int *)a)[i]++; }
int main(void) {
  nni_memory *m = nni_memory_open(NULL, NULL); nni_threads *t = nni_threads_open(m, 3); int x[100] = {0};
  for (int k = 0; k < 1000; k++) nni_parallel(t, 100, part, x);
  for (int k = 0; k < 100; k++) if (x[k] != 1000) printf("bad %d\n", k);
  nni_philox p = nni_philox4x32(0, 0, 0); printf("%08x %08x %08x %08x\n", p.v[0], p.v[1], p.v[2], p.v[3]);
  void *b = nni_buffer_get(m, 5000000); memset(b, 0, 5000000); nni_buffer_put(m, b, 5000000);
  nni_threads_close(t); nni_memory_close(m); return 0; }
