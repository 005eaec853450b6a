/* tests/c/fuzz.c - the fuzz targets: damaged files for every reader, each within bounds of time and memory. scripts/fuzz.sh runs it.
**
**   fuzz list                   the names of the readers
**   fuzz run READER FOLDER [cases=N] [seconds=N] [seed=N] [first=N]
**                               damaged files, from the first on until N are done or the time is over
**   fuzz replay READER FILE     one kept file once more, in this process: what it gives, its time and memory
**
** Readers, seeds and how files are damaged are Lua (tests/fuzz); this is what Lua can't do. A child process takes the cases one behind the other, so
** that a crash or a hang costs one case: the parent knows from a shared page which, keeps its file in FOLDER, and goes on with the next in a new child.
** Case i depends on the seed and i alone; the first ones are the undamaged files, which must be read.
**
** A case fails by a crash, a sanitizer's report, more than MOST_SECONDS of the processor (its own and its helper's: this machine may be busy) or
** KILL_SECONDS of the clock, an error that is raised or is not one line of text, or more memory than the
** reader's bound. Memory is every byte of malloc in this process (Lua, libnn and all libraries), its peak above what lived before the case: counted
** by AddressSanitizer's hooks, or by functions of our own in malloc's place. What exceeds memory gets a second try on a collected heap, since Lua's
** collector may have been behind.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../../bindings/nnL.h"

#define MOST_SECONDS 5.0
#define KILL_SECONDS 60.0 /* two tries */
#define FREE_BYTES ((size_t)16 << 20)
#define MOST_FAILURES 10 /* then it gives up */

/* ---- memory ------------------------------------------------------------------------------------------------------------------- */
static _Atomic size_t live, peak;

static void count_up(size_t n) {
  const size_t now = atomic_fetch_add(&live, n) + n;
  size_t most = atomic_load(&peak);
  while (now > most && !atomic_compare_exchange_weak(&peak, &most, now)) {
  }
}
static void count_down(size_t n) { atomic_fetch_sub(&live, n); }

#ifdef __SANITIZE_ADDRESS__
/* <sanitizer/allocator_interface.h>, which gcc's packages leave out */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t), void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);
static void on_malloc(const volatile void *p, size_t n) { count_up(p ? n : 0); }
static void on_free(const volatile void *p) { count_down(p ? __sanitizer_get_allocated_size(p) : 0); }
static bool count_memory(void) { return __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0; }
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static void *counted(void *p) {
  if (p) count_up(malloc_usable_size(p));
  return p;
}
void *malloc(size_t n) { return counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return counted(__libc_calloc(n, size)); }
void *memalign(size_t align, size_t n) { return counted(__libc_memalign(align, n)); }
void *aligned_alloc(size_t align, size_t n) { return counted(__libc_memalign(align, n)); }
int posix_memalign(void **out, size_t align, size_t n) {
  void *p = counted(__libc_memalign(align, n));
  if (!p) return ENOMEM;
  *out = p;
  return 0;
}
void *realloc(void *p, size_t n) {
  const size_t before = p ? malloc_usable_size(p) : 0;
  void *q = __libc_realloc(p, n);
  if (q || n == 0) count_down(before);
  return counted(q);
}
void free(void *p) {
  if (p) count_down(malloc_usable_size(p));
  __libc_free(p);
}
static bool count_memory(void) { return true; }
#endif

/* The counter must see what a case takes, else its bound means nothing. */
static bool memory_is_counted(void) {
  const size_t before = atomic_load(&live);
  void *volatile p = malloc(100000);
  const bool up = atomic_load(&live) >= before + 100000;
  free(p);
  return up && atomic_load(&live) < before + 100000;
}

/* ---- a case ------------------------------------------------------------------------------------------------------------------------ */
typedef struct options {
  const char *reader, *folder;
  long long cases, seconds, seed, first;
} options;

/* What parent and child share. */
typedef struct board {
  _Atomic long long at, began; /* the case, and its begin in nanoseconds */
  _Atomic long long accepted, refused, failures;
  double slowest; /* the child's; read when it is gone */
  size_t most;
  bool done;
} board;

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu_seconds(void) {
  double sum = 0;
  struct rusage use;
  for (int who = 0; who < 2; who++) {
    if (getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &use) != 0) continue;
    sum += (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
  }
  return sum;
}

typedef struct outcome {
  bool read;
  char why[400];   /* the reader's message */
  char wrong[400]; /* "" when the reader did what it should */
  double seconds;
  size_t bytes;
} outcome;

enum { MUTANT = 1, READ, FACTOR, BASE = 3 }; /* the stack of a state: functions and the bound of memory in sizes of the file */

static void read_once(lua_State *L, const char *file, outcome *o) {
  const size_t before = atomic_load(&live);
  const double start = cpu_seconds();
  atomic_store(&peak, before);
  lua_pushvalue(L, READ);
  lua_pushstring(L, file);
  const int status = lua_pcall(L, 1, 2, 0);
  *o = (outcome){.seconds = cpu_seconds() - start, .bytes = atomic_load(&peak) - before};
  const char *text = lua_tostring(L, -1);
  if (status != LUA_OK) snprintf(o->wrong, sizeof o->wrong, "it raised: %s", text ? text : "no text");
  else if (!lua_isnil(L, -2)) o->read = true;
  else if (!text || !*text) snprintf(o->wrong, sizeof o->wrong, "it gave nil without a message");
  else if (strchr(text, '\n')) snprintf(o->wrong, sizeof o->wrong, "its message has more than a line: %s", text);
  else snprintf(o->why, sizeof o->why, "%s", text);
  lua_settop(L, BASE);
}

static void read_file(lua_State *L, const char *file, size_t size, outcome *o) {
  const size_t bound = (size_t)lua_tointeger(L, FACTOR) * size + FREE_BYTES;
  read_once(L, file, o);
  if (!o->wrong[0] && o->bytes > bound) {
    lua_gc(L, LUA_GCCOLLECT);
    read_once(L, file, o);
  }
  if (o->wrong[0]) return;
  if (o->seconds > MOST_SECONDS) snprintf(o->wrong, sizeof o->wrong, "%.1f s; at most %.0f s are allowed", o->seconds, MOST_SECONDS);
  else if (o->bytes > bound)
    snprintf(o->wrong, sizeof o->wrong, "%zu bytes of memory for a file of %zu; at most %zu are allowed", o->bytes, size, bound);
}

/* ---- the Lua side --------------------------------------------------------------------------------------------------------------------- */
static lua_State *state_open(void) {
  lua_State *L = luaL_newstate();
  if (!L) return NULL;
  luaL_openlibs(L);
  lua_gc(L, LUA_GCGEN, 0, 0);
  luaL_requiref(L, "nnlua.core", luaopen_nnlua_core, 0);
  lua_getglobal(L, "package");
  lua_pushliteral(L, FUZZ_ROOT "/lua/?.lua;" FUZZ_ROOT "/lua/?/init.lua");
  lua_setfield(L, -2, "path");
  lua_settop(L, 0);
  if (luaL_dofile(L, FUZZ_ROOT "/tests/fuzz/readers.lua") == LUA_OK) return L;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  lua_close(L);
  return NULL;
}

/* mutant(case) -> bytes, is it undamaged?; read(file); factor */
static bool reader_open(lua_State *L, const options *o) {
  lua_getfield(L, 1, "open");
  lua_remove(L, 1);
  lua_pushstring(L, o->reader);
  lua_pushinteger(L, o->seed);
  lua_pushstring(L, o->folder);
  if (lua_pcall(L, 3, 3, 0) == LUA_OK) return true;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  return false;
}

static bool write_file(const char *path, const char *bytes, size_t n) {
  unlink(path); /* writing over a file may wait for the disk */
  FILE *f = fopen(path, "wb");
  const bool ok = f && fwrite(bytes, 1, n, f) == n;
  return f && fclose(f) == 0 && ok;
}

static void work_name(const options *o, char path[4096]) { snprintf(path, 4096, "%s/%s.now", o->folder, o->reader); }

/* A failure is told with the way to see it again; its file is kept. */
static void report(const options *o, board *b, long long at, const char *what) {
  char path[4096], kept[4096];
  work_name(o, path);
  snprintf(kept, sizeof kept, "%s/%s-%lld-%lld", o->folder, o->reader, o->seed, at);
  const bool is = rename(path, kept) == 0;
  atomic_fetch_add(&b->failures, 1);
  fprintf(stderr, "%s: case %lld of seed %lld: %s\n  sh scripts/fuzz.sh replay %s %s\n", o->reader, at, o->seed, what, o->reader,
          is ? kept : "(its file could not be kept)");
}

static int run_cases(const options *o, board *b, long long first, long long end) {
  char path[4096];
  work_name(o, path);
  lua_State *L = state_open();
  if (!L || !reader_open(L, o)) return 2;
  for (long long i = first; (o->cases == 0 || i < o->cases) && now() < end && atomic_load(&b->failures) < MOST_FAILURES; i++) {
    outcome result;
    size_t n;
    atomic_store(&b->at, i);
    atomic_store(&b->began, now());
    lua_pushvalue(L, MUTANT);
    lua_pushinteger(L, i);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK) {
      fprintf(stderr, "%s: case %lld: %s\n", o->reader, i, lua_tostring(L, -1));
      return 2;
    }
    const bool whole = lua_toboolean(L, -1);
    const char *bytes = lua_tolstring(L, -2, &n);
    if (!bytes || !write_file(path, bytes, n)) return 2;
    lua_settop(L, BASE);
    atomic_store(&b->began, now());
    read_file(L, path, n, &result);
    if (!result.wrong[0] && whole && !result.read) snprintf(result.wrong, sizeof result.wrong, "it refuses an undamaged file");
    if (result.wrong[0]) report(o, b, i, result.wrong);
    atomic_fetch_add(result.read ? &b->accepted : &b->refused, 1);
    if (result.seconds > b->slowest) b->slowest = result.seconds;
    if (result.bytes > b->most) b->most = result.bytes;
  }
  b->done = true;
  unlink(path);
  lua_close(L);
  return 0; /* LeakSanitizer looks at exit */
}

/* ---- the parent ----------------------------------------------------------------------------------------------------------------------- */
static int wait_for(pid_t pid, const board *b, bool *late) {
  const struct timespec pause = {0, 20000000};
  int status = 0;
  *late = false;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (!*late && (double)(now() - atomic_load(&b->began)) / 1e9 > KILL_SECONDS && !b->done) {
      *late = true;
      kill(pid, SIGKILL);
    }
    nanosleep(&pause, NULL);
  }
  return status;
}

static int run(const options *o) {
  const long long end = o->seconds ? now() + o->seconds * 1000000000LL : INT64_MAX, start = now();
  board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (b == MAP_FAILED) return 2;
  for (long long first = o->first; !b->done && atomic_load(&b->failures) < MOST_FAILURES;) {
    char what[100] = "";
    bool late;
    atomic_store(&b->at, -1);
    atomic_store(&b->began, now());
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0) return 2;
    if (pid == 0) exit(run_cases(o, b, first, end));
    const int status = wait_for(pid, b, &late);
    const long long at = atomic_load(&b->at);
    if (late) snprintf(what, sizeof what, "it hangs");
    else if (WIFSIGNALED(status)) snprintf(what, sizeof what, "it died: %s", strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0 || !b->done)
      snprintf(what, sizeof what, "%s (code %d)", b->done ? "memory leaks, as told at the end" : "it ended", WEXITSTATUS(status));
    if (!what[0]) continue;
    report(o, b, at < 0 ? first : at, what);
    if (at < first) return 2; /* before its first case */
    first = at + 1;
  }
  const long long accepted = atomic_load(&b->accepted), refused = atomic_load(&b->refused), failures = atomic_load(&b->failures);
  printf("%s: seed %lld, %lld files, %lld read, %lld refused, slowest %.2f s, most memory %.1f MB, %.0f s: %lld failures\n", o->reader, o->seed,
         accepted + refused, accepted, refused, b->slowest, (double)b->most / 1e6, (double)(now() - start) / 1e9, failures);
  return failures == 0 && accepted > 0 && refused > 0 ? 0 : 1; /* a reader that takes or refuses everything was not tried */
}

static int replay(options *o, const char *file) {
  outcome result;
  FILE *f = fopen(file, "rb");
  lua_State *L = f ? state_open() : NULL;
  if (!L || fseek(f, 0, SEEK_END) != 0 || !reader_open(L, o)) return 2;
  read_file(L, file, (size_t)ftell(f), &result);
  fclose(f);
  printf("%s: %s, %.3f s, %zu bytes of memory%s%s\n", file, result.read ? "read" : result.why, result.seconds, result.bytes,
         result.wrong[0] ? "; wrong: " : "", result.wrong);
  lua_close(L);
  return result.wrong[0] ? 1 : 0;
}

static int list(void) {
  lua_State *L = state_open();
  if (!L) return 2;
  lua_getfield(L, 1, "list");
  lua_call(L, 0, 1);
  puts(lua_tostring(L, -1));
  lua_close(L);
  return 0;
}

int main(int argc, char **argv) {
  options o = {.folder = ".", .seed = 1};
  if (!count_memory() || !memory_is_counted()) {
    fputs("fuzz: memory cannot be counted here\n", stderr);
    return 2;
  }
  if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
  if (argc < 4) return 2;
  o.reader = argv[2];
  if (strcmp(argv[1], "replay") == 0) return replay(&o, argv[3]);
  o.folder = argv[3];
  for (int i = 4; i < argc; i++)
    if (sscanf(argv[i], "cases=%lld", &o.cases) + sscanf(argv[i], "seconds=%lld", &o.seconds) + sscanf(argv[i], "seed=%lld", &o.seed) +
          sscanf(argv[i], "first=%lld", &o.first) != 1)
      return 2;
  return run(&o);
}
