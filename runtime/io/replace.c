/* io/replace.c - atomic replacement of a file: see replace.h for the promise and the steps.
**
** Temporaries are called .nnlua-<16 hex digits>.tmp. Their maker holds a flock on them, so a temporary that can be locked belongs to nobody alive;
** process numbers would lie across containers and network file systems. Where flock does not work nothing is ever swept.
*/
#define _GNU_SOURCE
#include "replace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define TMP_PREFIX ".nnlua-"
#define TMP_SUFFIX ".tmp"
#define TMP_DIGITS 16
#define TMP_SIZE (sizeof TMP_PREFIX + TMP_DIGITS + sizeof TMP_SUFFIX)

typedef struct job {
  const char *path;      /* as the user wrote it: for messages */
  char target[PATH_MAX]; /* the file behind every link */
  char folder[PATH_MAX];
  const char *name;   /* last part of target */
  char tmp[TMP_SIZE]; /* name in folder; "" when there is none */
  char tmp_path[PATH_MAX];
  int dirfd, fd;
  size_t need; /* bytes that the file has at least, for messages */
  bool exists; /* the target, when we began */
  struct stat old;
} job;

/* ---- held-back SIGXFSZ --------------------------------------------------------------------------------------------------- */
typedef struct guard {
  sigset_t set, old;
  bool pending;
} guard;

static void guard_enter(guard *g) {
  sigset_t now;
  sigemptyset(&g->set);
  sigaddset(&g->set, SIGXFSZ);
  g->pending = sigpending(&now) == 0 && sigismember(&now, SIGXFSZ) == 1;
  pthread_sigmask(SIG_BLOCK, &g->set, &g->old);
}

static void guard_leave(guard *g) {
  const struct timespec none = {0, 0};
  if (!g->pending) /* ours: take it away before it could be delivered */
    while (sigtimedwait(&g->set, NULL, &none) == -1 && errno == EINTR) {
    }
  pthread_sigmask(SIG_SETMASK, &g->old, NULL);
}

/* ---- messages ---------------------------------------------------------------------------------------------------------------- */
static nn_status fail_errno(const job *j, nni_error *err, const char *doing, int code) {
  return nni_fail(err, code == ENOENT ? NN_ENOTFOUND : NN_EIO, "%s: cannot save: %s: %s", j->path, doing, strerror(code));
}

/* The reason alone; for no room how much is needed and how much there is. */
static nn_status fail_content(const job *j, nni_error *err, const char *doing, int code) {
  struct statvfs s;
  if ((code == ENOSPC || code == EDQUOT || code == EFBIG) && fstatvfs(j->fd, &s) == 0) {
    const unsigned long long room = (unsigned long long)s.f_bavail * (unsigned long long)s.f_frsize;
    return nni_fail(err, NN_EIO, "%s: needs at least %zu bytes, the file system has %llu free", strerror(code), j->need, room);
  }
  return nni_fail(err, NN_EIO, "%s: %s", doing, strerror(code));
}

/* Put the file's name before the reason. */
static nn_status fail_named(const job *j, nn_status s, nni_error *err) {
  const nni_error why = err ? *err : (nni_error){NN_OK, ""};
  return nni_fail(err, s, "%s: cannot save: %s", j->path, why.text);
}

/* ---- where to write ------------------------------------------------------------------------------------------------------------ */
/* Follow links by hand, since the last one may point to a file that does not exist yet. */
static nn_status find_target(job *j, nni_error *err) {
  char link[PATH_MAX], joined[PATH_MAX];
  struct stat s;
  int hops;
  if (snprintf(j->target, sizeof j->target, "%s", j->path) >= (int)sizeof j->target) return fail_errno(j, err, "path", ENAMETOOLONG);
  for (hops = 0; lstat(j->target, &s) == 0 && S_ISLNK(s.st_mode); hops++) {
    const ssize_t n = readlink(j->target, link, sizeof link - 1);
    const char *slash = strrchr(j->target, '/');
    const int dir = link[0] == '/' || !slash ? 0 : (int)(slash - j->target) + 1;
    if (n < 0) return fail_errno(j, err, "reading the link", errno);
    if (hops >= 40) return fail_errno(j, err, "following links", ELOOP);
    link[n] = 0;
    if (snprintf(joined, sizeof joined, "%.*s%s", link[0] == '/' ? 0 : dir, j->target, link) >= (int)sizeof joined)
      return fail_errno(j, err, "following links", ENAMETOOLONG);
    memcpy(j->target, joined, sizeof joined);
  }
  j->exists = stat(j->target, &j->old) == 0;
  if (!j->exists && errno != ENOENT) return fail_errno(j, err, "looking at the file", errno);
  if (j->exists && S_ISDIR(j->old.st_mode)) return fail_errno(j, err, "the path", EISDIR);
  if (j->exists && !S_ISREG(j->old.st_mode)) return nni_fail(err, NN_EIO, "%s: cannot save: not a regular file", j->path);
  return NN_OK;
}

static nn_status open_folder(job *j, nni_error *err) {
  char *slash = strrchr(j->target, '/');
  j->name = slash ? slash + 1 : j->target;
  if (*j->name == 0) return nni_fail(err, NN_EINVAL, "%s: cannot save: a folder, not a file name", j->path);
  if (!slash) snprintf(j->folder, sizeof j->folder, ".");
  else if (slash == j->target) snprintf(j->folder, sizeof j->folder, "/");
  else snprintf(j->folder, sizeof j->folder, "%.*s", (int)(slash - j->target), j->target);
  do j->dirfd = open(j->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  while (j->dirfd < 0 && errno == EINTR);
  if (j->dirfd < 0) return fail_errno(j, err, "opening the folder", errno);
  return NN_OK;
}

/* ---- temporaries ----------------------------------------------------------------------------------------------------------------- */
static bool is_temporary(const char *name) {
  const size_t head = sizeof TMP_PREFIX - 1;
  if (strncmp(name, TMP_PREFIX, head) != 0 || strspn(name + head, "0123456789abcdef") != TMP_DIGITS) return false;
  return strcmp(name + head + TMP_DIGITS, TMP_SUFFIX) == 0;
}

/* Remove temporaries of ours that no living process holds. What goes wrong here is nobody's loss. */
static void sweep_folder(const job *j) {
  const int copy = openat(j->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = copy < 0 ? NULL : fdopendir(copy);
  const struct dirent *e;
  if (!d) {
    if (copy >= 0) close(copy);
    return;
  }
  while ((e = readdir(d)) != NULL) {
    struct stat s;
    int fd;
    if (!is_temporary(e->d_name)) continue;
    fd = openat(j->dirfd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(j->dirfd, e->d_name, 0);
    close(fd);
  }
  closedir(d);
}

static uint64_t random_name(void) {
  uint64_t r = 0;
  struct timespec t;
  if (getrandom(&r, sizeof r, GRND_NONBLOCK) == (ssize_t)sizeof r) return r;
  clock_gettime(CLOCK_REALTIME, &t);
  return ((uint64_t)getpid() << 40) ^ (uint64_t)t.tv_sec * 1000000007u ^ (uint64_t)t.tv_nsec;
}

static void drop_temporary(job *j) {
  if (j->tmp[0]) unlinkat(j->dirfd, j->tmp, 0);
  if (j->fd >= 0) close(j->fd);
  j->tmp[0] = 0;
  j->fd = -1;
}

/* A sweeper may take the new file between our open and our flock: then the lock is taken or the file has no name left, and we try again.
** Without locks on this file system (ENOLCK and the like) nobody sweeps either. */
static nn_status make_temporary(job *j, nni_error *err) {
  int tries;
  for (tries = 0; tries < 100; tries++) {
    struct stat s;
    snprintf(j->tmp, sizeof j->tmp, TMP_PREFIX "%016llx" TMP_SUFFIX, (unsigned long long)(random_name() + (uint64_t)tries));
    j->fd = openat(j->dirfd, j->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, j->exists ? 0600 : 0666);
    if (j->fd < 0) {
      j->tmp[0] = 0;
      if (errno == EEXIST || errno == EINTR) continue;
      return fail_errno(j, err, "making a temporary file in its folder", errno);
    }
    if ((flock(j->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) && fstat(j->fd, &s) == 0 && s.st_nlink > 0) {
      if (snprintf(j->tmp_path, sizeof j->tmp_path, "%s/%s", j->folder, j->tmp) < (int)sizeof j->tmp_path) return NN_OK;
      return fail_errno(j, err, "path", ENAMETOOLONG);
    }
    drop_temporary(j);
  }
  return fail_errno(j, err, "making a temporary file in its folder", EEXIST);
}

/* ---- content ----------------------------------------------------------------------------------------------------------------------- */
/* Writing cannot fail for space after this (on file systems that can reserve). */
static nn_status reserve_space(void *ud, size_t size, nni_error *err) {
  job *j = ud;
  int code;
  if (size <= j->need) return NN_OK;
  j->need = size;
  do code = posix_fallocate(j->fd, 0, (off_t)size);
  while (code == EINTR);
  if (code == 0 || code == EOPNOTSUPP || code == EINVAL || code == ENOSYS) return NN_OK;
  return fail_content(j, err, "reserving space", code);
}

static nn_status write_at(void *ud, const void *p, size_t size, size_t at, nni_error *err) {
  const job *j = ud;
  size_t done = 0;
  while (done < size) {
    const size_t piece = size - done < ((size_t)1 << 24) ? size - done : (size_t)1 << 24;
    const ssize_t n = pwrite(j->fd, (const char *)p + done, piece, (off_t)(at + done));
    if (n > 0) done += (size_t)n;
    else if (n == 0 || errno != EINTR) return fail_content(j, err, "writing", n == 0 ? ENOSPC : errno);
  }
  return NN_OK;
}

static int sync_fd(int fd) {
  int r;
  do r = fsync(fd);
  while (r != 0 && errno == EINTR);
  return r;
}

/* Set what the old file had. Losing the owner is no reason to lose the save. */
static nn_status copy_mode(const job *j, nni_error *err) {
  struct stat s;
  int r = 0;
  if (!j->exists) return NN_OK;
  if (fstat(j->fd, &s) != 0) return fail_errno(j, err, "looking at the temporary file", errno);
  if (s.st_uid != j->old.st_uid || s.st_gid != j->old.st_gid) r = fchown(j->fd, j->old.st_uid, j->old.st_gid);
  do r = fchmod(j->fd, j->old.st_mode & 0777);
  while (r != 0 && errno == EINTR);
  if (r != 0) return fail_errno(j, err, "setting the mode", errno);
  return NN_OK;
}

/* ---- the swap ------------------------------------------------------------------------------------------------------------------------ */
static int sync_folder(const job *j) {
  if (sync_fd(j->dirfd) == 0 || errno == EINVAL || errno == ENOTSUP) return 0; /* some file systems cannot, and need not */
  return -1;
}

static bool is_in_place(const job *j) {
  struct stat a, b;
  return fstat(j->fd, &a) == 0 && fstatat(j->dirfd, j->name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A rename that was interrupted (network and user-space file systems do that) may have happened or not: look before doing it again. */
static bool rename_tmp(const job *j, unsigned flags, bool want) {
  for (;;) {
    if ((flags ? renameat2(j->dirfd, j->tmp, j->dirfd, j->name, flags) : renameat(j->dirfd, j->tmp, j->dirfd, j->name)) == 0) return true;
    if (errno != EINTR) return false;
    if (is_in_place(j) == want) return true;
  }
}

/* Exchange keeps the old file under the temporary's name until the folder is on disk, so that even a failing fsync there can be undone. */
static nn_status swap_in(job *j, nni_error *err) {
  const bool exchanged = j->exists && rename_tmp(j, RENAME_EXCHANGE, true);
  int code;
  if (!exchanged) {
    if (j->exists && errno != EINVAL && errno != ENOSYS && errno != ENOENT && errno != ENOTSUP) return fail_errno(j, err, "renaming", errno);
    if (!rename_tmp(j, 0, true)) return fail_errno(j, err, "renaming", errno);
  }
  if (sync_folder(j) == 0) {
    if (exchanged) unlinkat(j->dirfd, j->tmp, 0);
    j->tmp[0] = 0;
    return NN_OK;
  }
  code = errno;
  if (exchanged && rename_tmp(j, RENAME_EXCHANGE, false)) return fail_errno(j, err, "syncing the folder", code);
  if (!j->exists) unlinkat(j->dirfd, j->name, 0);
  j->tmp[0] = 0;
  return fail_errno(j, err, "syncing the folder", code);
}

static nn_status replace_steps(job *j, nni_fill_fn fill, nni_verify_fn verify, void *ud, nni_error *err) {
  const nni_sink to = {j, reserve_space, write_at};
  nn_status s;
  if ((s = find_target(j, err)) != NN_OK) return s;
  if ((s = open_folder(j, err)) != NN_OK) return s;
  sweep_folder(j);
  if ((s = make_temporary(j, err)) != NN_OK) return s;
  if ((s = fill(ud, &to, err)) != NN_OK) return fail_named(j, s, err);
  if ((s = copy_mode(j, err)) != NN_OK) return s;
  if (sync_fd(j->fd) != 0) return fail_named(j, fail_content(j, err, "syncing", errno), err);
  if (verify && (s = verify(ud, j->tmp_path, err)) != NN_OK) return s;
  return swap_in(j, err);
}

nn_status nni_file_replace_by(const char *path, nni_fill_fn fill, nni_verify_fn verify, void *ud, nni_error *err) {
  job j;
  guard g;
  nn_status s;
  memset(&j, 0, sizeof j);
  j.path = path;
  j.fd = j.dirfd = -1;
  guard_enter(&g);
  s = replace_steps(&j, fill, verify, ud, err);
  drop_temporary(&j);
  if (j.dirfd >= 0) close(j.dirfd);
  guard_leave(&g);
  return s;
}

/* ---- what lies in memory ------------------------------------------------------------------------------------------------------------- */
typedef struct parts {
  const nn_part *list;
  int n;
} parts;

static nn_status fill_parts(void *ud, const nni_sink *to, nni_error *err) {
  const parts *p = ud;
  size_t at = 0, size = 0;
  nn_status s;
  for (int i = 0; i < p->n; i++)
    if (p->list[i].size > (size_t)PTRDIFF_MAX - size) return nni_fail(err, NN_EINVAL, "more bytes than a file can hold");
    else size += p->list[i].size;
  s = to->reserve(to->ud, size, err);
  for (int i = 0; i < p->n && s == NN_OK; at += p->list[i++].size) s = to->write(to->ud, p->list[i].data, p->list[i].size, at, err);
  return s;
}

nn_status nni_file_replace_parts(const char *path, const nn_part *list, int n, nni_error *err) {
  parts p = {list, n};
  return nni_file_replace_by(path, fill_parts, NULL, &p, err);
}

nn_status nni_file_replace(const char *path, const void *data, size_t size, nni_error *err) {
  const nn_part part = {data, size};
  return nni_file_replace_parts(path, &part, 1, err);
}
