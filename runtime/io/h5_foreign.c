/* io/h5_foreign.c - starts nn_h5_reader for one file and takes over what it read (h5_foreign.h).
**
** Nothing the helper wrote is trusted: every length is checked against the bytes that are there, and every item goes through the rules of
** archive.c. The helper is gone, and its output sealed against writing, before the first byte is looked at.
*/
#define _GNU_SOURCE
#include "h5_foreign.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "beside.h"
#include "hdf5_module.h"

/* ---- the helper process --------------------------------------------------------------------------------------------------- */
static nn_status fail_start(nni_error *err, const char *name, int code) {
  return nni_fail(err, NN_EIO, "%s: the helper process that reads foreign HDF5 files does not start: %s", name, strerror(code));
}

/* Descriptors 0 to 2 are /dev/null, 3 and 4 as agreed, no other is handed on; no environment; signals as by default. in and out are above 4. */
static int spawn(pid_t *pid, const char *program, const char *name, int in, int out) {
  char *const argv[] = {(char *)(uintptr_t)NNI_READER_PROGRAM, (char *)(uintptr_t)name, NULL};
  char *const env[] = {NULL};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attr;
  sigset_t all, none;
  int i, code = posix_spawn_file_actions_init(&files);
  if (code) return code;
  if ((code = posix_spawnattr_init(&attr))) {
    posix_spawn_file_actions_destroy(&files);
    return code;
  }
  sigfillset(&all);
  sigemptyset(&none);
  for (i = 0; i < 3 && !code; i++) code = posix_spawn_file_actions_addopen(&files, i, "/dev/null", O_RDWR, 0);
  if (!code) code = posix_spawn_file_actions_adddup2(&files, in, NNI_READER_IN);
  if (!code) code = posix_spawn_file_actions_adddup2(&files, out, NNI_READER_OUT);
  if (!code) code = posix_spawnattr_setsigdefault(&attr, &all);
  if (!code) code = posix_spawnattr_setsigmask(&attr, &none);
  if (!code) code = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  if (!code) code = posix_spawn(pid, program, &files, &attr, argv, env);
  posix_spawnattr_destroy(&attr);
  posix_spawn_file_actions_destroy(&files);
  return code;
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the process ends or its time is over, when it is killed. */
static int wait_for(pid_t pid, int64_t seconds, bool *late) {
  const int64_t end = now_ms() + seconds * 1000;
  int status = 0, pause_us = 200;
  pid_t r;
  *late = false;
  while ((r = waitpid(pid, &status, WNOHANG)) == 0 || (r < 0 && errno == EINTR)) {
    const struct timespec t = {0, pause_us * 1000};
    if (!*late && now_ms() > end) {
      *late = true;
      kill(pid, SIGKILL);
    }
    nanosleep(&t, NULL);
    if (pause_us < 5000) pause_us *= 2;
  }
  return r < 0 ? -1 : status;
}

static nn_status run_helper(int in, int out, int64_t seconds, const char *name, nni_error *err) {
  char program[PATH_MAX];
  pid_t pid;
  bool late;
  int code;
  if (!nni_find_beside(NNI_READER_PROGRAM, program, sizeof program))
    return nni_fail(err, NN_EUNSUPPORTED, "%s: HDF5 files of other programs need the program " NNI_READER_PROGRAM ", which is not beside libnn", name);
  if ((code = spawn(&pid, program, name, in, out))) return fail_start(err, name, code);
  code = wait_for(pid, seconds, &late);
  if (late) return nni_fail(err, NN_EFORMAT, "%s: refused: reading it takes more than %lld seconds; damaged or hostile", name, (long long)seconds);
  if (code != -1 && WIFSIGNALED(code) && WTERMSIG(code) == SIGXCPU)
    return nni_fail(err, NN_EFORMAT, "%s: refused: reading it takes longer than its size explains; damaged or hostile", name);
  if (code != -1 && WIFSIGNALED(code))
    return nni_fail(err, NN_EFORMAT, "%s: refused: libhdf5 dies of it (%s) in the helper process; damaged or hostile", name, strsignal(WTERMSIG(code)));
  if (code == -1 || !WIFEXITED(code) || WEXITSTATUS(code) != 0)
    return nni_fail(err, NN_EFORMAT, "%s: refused: the helper process that read it failed; damaged or hostile, or memory is short", name);
  return NN_OK;
}

/* ---- what it wrote ------------------------------------------------------------------------------------------------------------- */
typedef struct stream {
  nni_archive *a;
  int fd;
  const char *name;
  int64_t at, size;
  nni_error *err;
  char digest[NNI_DIGEST_TEXT]; /* of a file that nnlua wrote */
  bool sealed;                  /* it ends as those do (archive.h) */
} stream;

static nn_status fail_stream(stream *s) {
  return nni_fail(s->err, NN_EFORMAT, "%s: refused: the helper process that read it did not give an archive; damaged or hostile", s->name);
}

static bool fetch(stream *s, void *to, uint64_t n) {
  char *p = to;
  if (n > (uint64_t)(s->size - s->at)) return false;
  while (n) {
    const ssize_t r = pread(s->fd, p, (size_t)n, (off_t)s->at);
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) return false;
    p += r;
    s->at += r;
    n -= (uint64_t)r;
  }
  return true;
}

static bool skip_padding(stream *s) {
  s->at += -s->at & 7;
  return s->at <= s->size;
}

/* A text of n bytes in the archive's arena, with a zero byte behind it. */
static char *fetch_text(stream *s, uint32_t n) {
  char *p;
  if ((int64_t)n > s->size - s->at || !(p = nni_arena_get(&s->a->arena, (size_t)n + 1)) || !fetch(s, p, n)) return NULL;
  p[n] = 0;
  return skip_padding(s) ? p : NULL;
}

/* What the archive's rules refuse is the file's fault here, not the caller's. */
static nn_status take_item(stream *s, nn_status rc) {
  nni_error why;
  if (rc != NN_EINVAL || !s->err) return rc;
  why = *s->err;
  return nni_fail(s->err, NN_EFORMAT, "%s: refused: %s", s->name, why.text);
}

static nn_status take_dataset(stream *s, const nni_h5_record *r) {
  int64_t shape[NN_MAXDIM];
  nni_array *mine;
  const char *path;
  nn_status rc;
  if (r->a >= NN_NDTYPE || r->b > NN_MAXDIM || !fetch(s, shape, r->b * sizeof *shape) || !(path = fetch_text(s, r->text))) return fail_stream(s);
  rc = take_item(s, nni_archive_add(s->a, path, (nn_dtype)r->a, (int)r->b, shape, NULL, s->err));
  if (rc != NN_OK) return rc;
  mine = &s->a->arrays[s->a->narrays - 1];
  if (mine->bytes != r->body || r->body > (uint64_t)(s->size - s->at)) return fail_stream(s);
  if (!(mine->owned = nni_buffer_get(s->a->m, mine->bytes))) return nni_fail(s->err, NN_ENOMEM, "%s: out of memory", s->name);
  mine->data = mine->owned;
  return fetch(s, mine->owned, mine->bytes) && skip_padding(s) ? NN_OK : fail_stream(s);
}

static nn_status take_attr(stream *s, const nni_h5_record *r) {
  nn_attr at = {.kind = (nn_attr_kind)r->a, .n = (int)r->b};
  const char **texts = NULL, *p, *end;
  int64_t value;
  uint32_t i;
  if (r->a > NN_ATTR_FLOAT || r->b > NNI_ARCHIVE_MAXITEMS || r->b > r->text || (r->a == NN_ATTR_TEXT && r->b != 1) ||
      (r->a > NN_ATTR_TEXTS && r->b) || !fetch(s, &value, sizeof value) || !(p = fetch_text(s, r->text)))
    return fail_stream(s);
  if (r->b && !(texts = nni_arena_get(&s->a->arena, r->b * sizeof *texts))) return nni_fail(s->err, NN_ENOMEM, "%s: out of memory", s->name);
  end = p + r->text;
  for (i = 0; i < r->b + 2; i++) {
    if (p >= end) return fail_stream(s);
    if (i == 0) at.path = p;
    else if (i == 1) at.name = p;
    else texts[i - 2] = p;
    p += strlen(p) + 1; /* fetch_text put a zero byte behind the last */
  }
  at.texts = texts;
  at.i = value;
  memcpy(&at.f, &value, sizeof at.f);
  if (r->a != NN_ATTR_INT) at.i = 0;
  if (r->a != NN_ATTR_FLOAT) at.f = 0;
  if (strcmp(at.path, "/nnlua") == 0 && strcmp(at.name, NNI_H5_VERSION) == 0) return NN_OK;
  if (strcmp(at.path, "/nnlua") == 0 && strcmp(at.name, NNI_H5_DIGEST) == 0) {
    snprintf(s->digest, sizeof s->digest, "%s", at.n ? texts[0] : "none");
    return NN_OK;
  }
  return take_item(s, nni_archive_set(s->a, at, s->err));
}

static nn_status take_failure(stream *s, const nni_h5_record *r) {
  const char *text = r->text <= sizeof s->err->text ? fetch_text(s, r->text) : NULL;
  char clean[sizeof s->err->text];
  size_t i;
  if (!text || r->a == NN_OK) return fail_stream(s);
  for (i = 0; text[i]; i++) clean[i] = (unsigned char)text[i] < 32 ? ' ' : text[i]; /* names in the file may hold anything */
  clean[i] = 0;
  return nni_fail(s->err, r->a == NN_ENOMEM ? NN_ENOMEM : NN_EFORMAT, "%s%s%s", strncmp(clean, s->name, strlen(s->name)) == 0 ? "" : s->name,
                  strncmp(clean, s->name, strlen(s->name)) == 0 ? "" : ": ", clean);
}

/* A file of ours (inside another one, or without its seal) is held to the digest that it carries. */
static nn_status check_digest(stream *s) {
  char found[NNI_DIGEST_TEXT];
  nn_status rc = take_item(s, nni_archive_sort(s->a, s->err));
  if (rc != NN_OK || !s->digest[0]) return rc;
  rc = nni_archive_digest(s->a, found, s->err);
  if (rc == NN_OK && (!s->sealed || strcmp(found, s->digest) != 0))
    rc = nni_fail(s->err, NN_EFORMAT, "%s: nnlua wrote this file, and it was cut, damaged or changed since: its digest does not match", s->name);
  return rc;
}

static nn_status take_records(stream *s) {
  uint64_t magic;
  nni_h5_record r;
  nn_status rc = NN_OK;
  if (!fetch(s, &magic, sizeof magic) || magic != NNI_READER_MAGIC)
    return nni_fail(s->err, NN_EUNSUPPORTED, "%s: " NNI_READER_PROGRAM " beside libnn belongs to another version of nnlua", s->name);
  while (rc == NN_OK) {
    if (!fetch(s, &r, sizeof r)) return fail_stream(s);
    switch (r.tag) {
    case NNI_H5_DATASET: rc = take_dataset(s, &r); break;
    case NNI_H5_ATTR: rc = take_attr(s, &r); break;
    case NNI_H5_FAILURE: return take_failure(s, &r);
    case NNI_H5_END: return s->at == s->size ? check_digest(s) : fail_stream(s);
    default: return fail_stream(s);
    }
  }
  return rc;
}

/* ---- together ------------------------------------------------------------------------------------------------------------------- */
static bool has_seal(int fd) {
  char end[16];
  struct stat st;
  return fstat(fd, &st) == 0 && st.st_size >= 16 && pread(fd, end, sizeof end, st.st_size - 16) == 16 && memcmp(end, "nnluaend", 8) == 0;
}

static nn_status read_with(nni_archive *a, int in, int out, const char *name, nni_error *err) {
  stream s = {.a = a, .fd = out, .name = name, .err = err, .sealed = has_seal(in)};
  struct stat st;
  nn_status rc;
  if (fstat(in, &st) != 0) return nni_fail(err, NN_EIO, "%s: %s", name, strerror(errno));
  rc = run_helper(in, out, NNI_READER_SECONDS(st.st_size), name, err);
  if (rc != NN_OK) return rc;
  if (fcntl(out, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0 || fstat(out, &st) != 0)
    return nni_fail(err, NN_EIO, "%s: %s", name, strerror(errno));
  s.size = st.st_size;
  return take_records(&s);
}

nn_status nni_archive_read_foreign(nni_archive *a, int fd, const char *name, nni_error *err) {
  const int memory = memfd_create("nnlua-h5", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const int out = memory < 0 ? -1 : fcntl(memory, F_DUPFD_CLOEXEC, NNI_READER_OUT + 1);
  const int in = fcntl(fd, F_DUPFD_CLOEXEC, NNI_READER_OUT + 1);
  nn_status s = out < 0 || in < 0 ? nni_fail(err, NN_EIO, "%s: %s", name, strerror(errno)) : read_with(a, in, out, name, err);
  if (in >= 0) close(in);
  if (out >= 0) close(out);
  if (memory >= 0) close(memory);
  if (s != NN_OK) nni_archive_close(a);
  return s;
}
