/* io/h5_reader_main.c - the program nn_h5_reader: one HDF5 file of unknown origin, read under limits (h5_foreign.h).
**
**   nn_h5_reader NAME    descriptor 3: the file; descriptor 4: where the records go; NAME: for messages
**
** Order matters: the file is mapped, then every right that is not needed any more is given up, and only then HDF5 sees a byte of it.
** What it needs of memory it takes from malloc and never gives back: the process ends after one file.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#define FILTER_CALLS 1
#endif

#include "h5_foreign.h"
#include "hdf5_module.h"

extern const nni_h5_module_table nni_h5_module;

#define WORK_MEMORY ((int64_t)256 << 20) /* the program, HDF5's tables and caches; besides multiples of the file */

typedef struct output {
  int64_t room; /* bytes of elements that may still come */
  nni_array waiting; /* its elements are being read into waiting.owned */
  bool failed;
} output;

/* ---- records ------------------------------------------------------------------------------------------------------------- */
static bool put(const void *p, size_t n) {
  const char *from = p;
  while (n) {
    const ssize_t w = write(NNI_READER_OUT, from, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return false;
    from += w;
    n -= (size_t)w;
  }
  return true;
}

/* The part, then zeros up to a multiple of 8. */
static bool put_part(const void *p, size_t n) {
  static const char zeros[8];
  return put(p, n) && put(zeros, -n & 7);
}

static bool put_head(uint32_t tag, uint32_t a, uint32_t b, size_t text, uint64_t body) {
  const nni_h5_record r = {tag, a, b, (uint32_t)text, body};
  return put(&r, sizeof r);
}

static bool flush_dataset(output *o) {
  nni_array *d = &o->waiting;
  bool ok;
  if (!d->owned) return true;
  ok = put_head(NNI_H5_DATASET, (uint32_t)d->dtype, (uint32_t)d->ndim, strlen(d->path), d->bytes) &&
       put(d->shape, (size_t)d->ndim * sizeof *d->shape) && put_part(d->path, strlen(d->path)) && put_part(d->owned, d->bytes);
  free(d->owned);
  free((void *)(uintptr_t)d->path);
  memset(d, 0, sizeof *d);
  return ok;
}

/* ---- what the reader of HDF5 asks for (nni_h5_host) ------------------------------------------------------------------------- */
static void *give_scratch(void *ud, size_t n) {
  (void)ud;
  return malloc(n ? n : 1);
}

static void *refuse(output *o, nni_error *err, nn_status s, const char *why) {
  (void)o;
  err->status = s;
  snprintf(err->text, sizeof err->text, "%s", why);
  return NULL;
}

typedef struct host_state {
  output out;
  nni_error *err;
} host_state;

static void *give_dataset(void *ud, const nni_array *d) {
  host_state *h = ud;
  output *o = &h->out;
  if (!flush_dataset(o)) return refuse(o, h->err, NN_ENOMEM, "no room for what was read");
  if ((uint64_t)d->bytes > (uint64_t)o->room) return refuse(o, h->err, NN_EFORMAT, "its tensors take more than 8 times the bytes of the file");
  o->room -= (int64_t)d->bytes;
  o->waiting = *d;
  o->waiting.path = strdup(d->path);
  o->waiting.owned = malloc(d->bytes ? d->bytes : 1);
  if (!o->waiting.path || !o->waiting.owned) return refuse(o, h->err, NN_ENOMEM, "out of memory");
  return o->waiting.owned;
}

static bool give_attr(void *ud, const nn_attr *at) {
  host_state *h = ud;
  size_t n = strlen(at->path) + 1 + strlen(at->name) + 1, i = 0;
  char *text, *to;
  bool ok;
  int k;
  for (k = 0; k < at->n; k++) n += strlen(at->texts[k]) + 1;
  if (n > (size_t)1 << 30 || !(text = malloc(n))) return refuse(&h->out, h->err, NN_ENOMEM, "out of memory") != NULL;
  to = stpcpy(text, at->path) + 1;
  to = stpcpy(to, at->name) + 1;
  for (k = 0; k < at->n; k++) to = stpcpy(to, at->texts[k]) + 1;
  i = (size_t)(to - text);
  ok = flush_dataset(&h->out) && put_head(NNI_H5_ATTR, (uint32_t)at->kind, (uint32_t)at->n, i, 0) &&
       put(at->kind == NN_ATTR_FLOAT ? (const void *)&at->f : (const void *)&at->i, 8) && put_part(text, i);
  free(text);
  return ok || refuse(&h->out, h->err, NN_ENOMEM, "no room for what was read") != NULL;
}

/* ---- giving up rights ------------------------------------------------------------------------------------------------------- */
static bool limit(int what, int64_t most) {
  const struct rlimit r = {(rlim_t)most, (rlim_t)most};
  return setrlimit(what, &r) == 0;
}

#if defined(FILTER_CALLS) && !defined(NNI_SANITIZE)
/* Only what computing, memory, writing what was read and ending need; every other call fails with EPERM. Where the kernel has no filters the
** limits stand alone. */
static void filter_calls(void) {
  static const int allowed[] = {SYS_read, SYS_write, SYS_pread64, SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_mmap, SYS_munmap, SYS_mremap,
                                SYS_mprotect, SYS_brk, SYS_madvise, SYS_futex, SYS_close, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
                                SYS_clock_gettime, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_rt_sigprocmask};
  enum { N = NNI_COUNT(allowed) };
  struct sock_filter code[N + 6];
  struct sock_fprog program = {0, code};
  unsigned short n = 0;
  int i;
#ifdef __x86_64__
  const uint32_t arch = AUDIT_ARCH_X86_64;
#else
  const uint32_t arch = AUDIT_ARCH_AARCH64;
#endif
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch, 1, 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (i = 0; i < N; i++) /* a match jumps over the other comparisons and the refusal */
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], (uint8_t)(N - i), 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program.len = n;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#elif !defined(NNI_SANITIZE)
static void filter_calls(void) {}
#endif

static bool drop_rights(int64_t size) {
  const int64_t room = NNI_READER_ROOM(size);
  const struct rlimit cpu = {(rlim_t)NNI_READER_CPU(size), (rlim_t)NNI_READER_CPU(size) + 1}; /* SIGXCPU first, so that the parent knows why */
  bool ok = limit(RLIMIT_CORE, 0) && setrlimit(RLIMIT_CPU, &cpu) == 0 && limit(RLIMIT_FSIZE, 2 * room + WORK_MEMORY);
#ifndef NNI_SANITIZE /* AddressSanitizer reserves terabytes of addresses, and reads files of its own */
  ok = ok && limit(RLIMIT_NOFILE, 0) && limit(RLIMIT_AS, 2 * room + WORK_MEMORY);
  if (ok) filter_calls();
#endif
  return ok;
}

/* ---- the program ---------------------------------------------------------------------------------------------------------------- */
static int end_with(nn_status s, const char *text) {
  const size_t n = strlen(text);
  return put_head(NNI_H5_FAILURE, (uint32_t)s, 0, n, 0) && put_part(text, n) ? 0 : 1;
}

static int read_all(const char *name, const void *image, size_t size) {
  nni_error err = {NN_OK, ""};
  host_state h = {.out = {.room = NNI_READER_ROOM(size)}, .err = &err};
  const nni_h5_host host = {.ud = &h, .scratch = give_scratch, .dataset = give_dataset, .attr = give_attr};
  const nn_status s = nni_h5_module.read_foreign(name, image, size, &host, &err);
  if (s != NN_OK) return end_with(s, err.text);
  if (!flush_dataset(&h.out)) return end_with(NN_ENOMEM, "no room for what was read");
  return put_head(NNI_H5_END, 0, 0, 0, 0) ? 0 : 1;
}

int main(int argc, char **argv) {
  const uint64_t magic = NNI_READER_MAGIC;
  struct stat st;
  void *image;
  int code;
  if (argc != 2 || fstat(NNI_READER_IN, &st) != 0 || !put(&magic, sizeof magic)) {
    fputs("nn_h5_reader is a part of nnlua and is started by it\n", stderr);
    return 2;
  }
  if (st.st_size <= 0) return end_with(NN_EFORMAT, "the file is empty");
  image = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, NNI_READER_IN, 0);
  if (image == MAP_FAILED) return end_with(NN_EIO, strerror(errno));
  close(NNI_READER_IN);
  if (!drop_rights(st.st_size)) return end_with(NN_EIO, "the limits of the helper process cannot be set");
  code = read_all(argv[1], image, (size_t)st.st_size);
  _exit(code); /* HDF5 has nothing to tidy up */
}
