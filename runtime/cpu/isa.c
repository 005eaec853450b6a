/* cpu/isa.c - which instruction-set level this machine has. See isa.h. */
#include "isa.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int detect(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  int best = 0;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) best = 1;
  if (best == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    best = 2;
  const char *want = getenv("NNLUA_ISA");
  if (want && strcmp(want, "v2") == 0) return 0;
  if (want && strcmp(want, "v3") == 0 && best > 1) return 1;
  return best;
#else
  return 0;
#endif
}

int nn_cpu_level(void) {
  static atomic_int level = -1;
  int l = atomic_load_explicit(&level, memory_order_relaxed);
  if (l < 0) {
    l = detect();
    atomic_store_explicit(&level, l, memory_order_relaxed);
  }
  return l;
}

const char *nn_cpu_level_name(void) {
#if defined(__x86_64__)
  static const char *const names[] = {"x86-64-v2", "x86-64-v3", "x86-64-v4"};
  return names[nn_cpu_level()];
#elif defined(__aarch64__)
  return "aarch64-neon";
#else
  return "generic";
#endif
}
