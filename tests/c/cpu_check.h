/* tests/c/cpu_check.h - for the tests of the CPU's kernels: checks, drawn numbers, and pools of 1, 2 and 3 threads whose results must agree to the bit.
*/
#ifndef CPU_CHECK_H
#define CPU_CHECK_H
#include "cpu/cpu.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures, checks;
static nni_memory *mem;
static nni_threads *pools[3];
static uint64_t seed = 1;

#define CHECK(ok, ...)                                                                                                                               \
  do {                                                                                                                                               \
    checks++;                                                                                                                                        \
    if (!(ok)) {                                                                                                                                     \
      failures++;                                                                                                                                    \
      printf("%s:%d: ", __func__, __LINE__);                                                                                                         \
      printf(__VA_ARGS__);                                                                                                                           \
      printf("\n");                                                                                                                                  \
    }                                                                                                                                                \
  } while (0)

static inline uint32_t draw(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33);
}
static inline int64_t below(int64_t n) { return (int64_t)(draw() % (uint32_t)n); }

enum { GUARD = 128 }; /* bytes before and behind an output */

static inline bool pools_open(void) {
  mem = nni_memory_open(NULL, NULL);
  for (int t = 0; t < 3; t++)
    if (!mem || !(pools[t] = nni_threads_open(mem, t + 1))) return false;
  return true;
}
static inline void pools_close(void) {
  for (int t = 0; t < 3; t++) nni_threads_close(pools[t]);
  nni_memory_close(mem);
}

#endif
