/* cpu/blas.c - a BLAS and a LAPACK from the system (OpenBLAS by preference, which is both), loaded by dlopen on first use so that a program that
** never needs them pays nothing, and kept for the life of the process. The variable NNLUA_BLAS names another file to load instead.
**
** We share products out over our own threads, so the library must not start any: OPENBLAS_NUM_THREADS is 1 while it is loaded. A build of
** OpenBLAS without threads is not safe for concurrent calls (wrong products); calls to it, and to a library that we don't know, take turns.
*/
#include "blas.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Fortran's interface: every BLAS has it. The two lengths at the end are those of the character arguments. */
typedef void (*sgemm_fn)(const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha, const float *a, const int *lda,
                         const float *b, const int *ldb, const float *beta, float *c, const int *ldc, size_t len_ta, size_t len_tb);
typedef void (*set_threads_fn)(int n);
typedef int (*get_parallel_fn)(void);
typedef char *(*get_core_fn)(void);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static sgemm_fn sgemm; /* NULL: there is none */
static nn_cpu_lapack lapack;
static bool have_lapack, take_turns;
static char kernels[64]; /* what nn_cpu_kernels_name gives where products are the library's */

/* ISO C has no conversion from an object pointer to a function pointer; POSIX says that this one works. */
static bool find(void *lib, const char *name, void *fn) {
  void *p = dlsym(lib, name);
  memcpy(fn, &p, sizeof p);
  return p != NULL;
}

static bool find_lapack(void *lib) {
  bool all = true;
#define NN_X(name, ...) all = all && find(lib, "s" #name "_", &lapack.f32.name) && find(lib, "d" #name "_", &lapack.f64.name);
  NN_CPU_LAPACK_MAP(NN_X)
#undef NN_X
  return all;
}

/* The first of the files that can be loaded. */
static void *open_one(const char *const *names, int n) {
  const char *given = getenv("NNLUA_BLAS");
  void *lib = NULL;
  if (given && *given) return dlopen(given, RTLD_NOW | RTLD_LOCAL);
  for (int i = 0; i < n && !lib; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  return lib;
}

static void load(void) {
  static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", "libblas.so.3"}, *const lapacks[] = {"liblapack.so.3"};
  static const char variable[] = "OPENBLAS_NUM_THREADS";
  const char *was = getenv(variable);
  char *keep = was ? strdup(was) : NULL; /* setenv may free what getenv gave */
  set_threads_fn set_threads;
  get_parallel_fn get_parallel;
  get_core_fn get_core;
  void *lib = NULL, *second = NULL;
  snprintf(kernels, sizeof kernels, "%s", nn_cpu_level_name());
  if (was && !keep) return;
  if (setenv(variable, "1", 1) == 0) {
    lib = open_one(names, NNI_COUNT(names));
    have_lapack = lib && find_lapack(lib);
    if (!have_lapack) second = open_one(lapacks, NNI_COUNT(lapacks));
  }
  if (keep) (void)setenv(variable, keep, 1);
  else (void)unsetenv(variable);
  free(keep);
  have_lapack = have_lapack || (second && find_lapack(second));
  if (second && !have_lapack) dlclose(second);
  take_turns = second != NULL || !lib || !find(lib, "openblas_get_parallel", &get_parallel) || get_parallel() == 0;
  if (!lib) return;
  if (find(lib, "openblas_get_corename", &get_core)) snprintf(kernels, sizeof kernels, "%s with OpenBLAS %s", nn_cpu_level_name(), get_core());
  if (find(lib, "openblas_set_num_threads", &set_threads)) set_threads(1);
  if (!find(lib, "sgemm_", &sgemm) && !have_lapack) dlclose(lib);
}

bool nn_cpu_blas_wanted(void) { return nn_cpu_level() == 0; }

const char *nn_cpu_kernels_name(void) {
  if (!nn_cpu_blas_wanted()) return nn_cpu_level_name();
  pthread_once(&once, load);
  return kernels;
}

const nn_cpu_lapack *nn_cpu_lapack_get(void) {
  pthread_once(&once, load);
  return have_lapack ? &lapack : NULL;
}
void nn_cpu_lapack_enter(void) {
  if (take_turns) pthread_mutex_lock(&turn);
}
void nn_cpu_lapack_leave(void) {
  if (take_turns) pthread_mutex_unlock(&turn);
}

/* Row-major C = A B is column-major C' = B' A': 'N' for a matrix with unit stride along its rows. */
static bool describe(int64_t row, int64_t col, int64_t rows, int64_t cols, char *how, int *ld) {
  const bool plain = col == 1 && row >= cols;
  const int64_t far = plain ? row : col;
  if (!plain && !(row == 1 && col >= rows)) return false;
  *how = plain ? 'N' : 'T';
  *ld = (int)far;
  return far <= INT_MAX;
}

bool nn_cpu_blas_gemm(const nn_cpu_gemm *g) {
  char ta, tb;
  int lda, ldb;
  const int m = (int)g->m, n = (int)g->n, k = (int)g->k, ldc = (int)g->ldc;
  const float one = 1, zero = 0;
  if (g->m < 1 || g->n < 1 || g->k < 1 || g->m > INT_MAX || g->n > INT_MAX || g->k > INT_MAX || g->ldc > INT_MAX) return false;
  if (!describe(g->am, g->ak, g->m, g->k, &ta, &lda) || !describe(g->bk, g->bn, g->k, g->n, &tb, &ldb)) return false;
  pthread_once(&once, load);
  if (!sgemm) return false;
  if (take_turns) pthread_mutex_lock(&turn);
  sgemm(&tb, &ta, &n, &m, &k, &one, g->b, &ldb, g->a, &lda, &zero, g->c, &ldc, 1, 1);
  if (take_turns) pthread_mutex_unlock(&turn);
  return true;
}
