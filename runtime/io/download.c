/* io/download.c - see download.h. Owns the temporary file: it is gone, or has become the destination, when nni_download_run returns. */
#define _GNU_SOURCE /* dladdr */
#include "download.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The module is looked for only in the folder that this library was loaded from, never along a search path. */
static nn_status load_module(nni_curl_fn *fn, nni_error *err) {
  char path[PATH_MAX];
  Dl_info info;
  if (dladdr((void *)&nn_status_text, &info) == 0 || info.dli_fname == NULL)
    return nni_fail(err, NN_EUNSUPPORTED, "download: can't tell where the runtime library is");
  const char *slash = strrchr(info.dli_fname, '/');
  int dir = slash != NULL ? (int)(slash - info.dli_fname) : 0;
  int n = snprintf(path, sizeof path, "%.*s/libnn_curl.so", slash != NULL ? dir : 1, slash != NULL ? info.dli_fname : ".");
  if (n < 0 || (size_t)n >= sizeof path) return nni_fail(err, NN_EUNSUPPORTED, "download: path of the runtime library is too long");
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (lib == NULL) return nni_fail(err, NN_EUNSUPPORTED, "download: can't load libcurl: %s", dlerror());
  void *sym = dlsym(lib, NNI_CURL_SYMBOL);
  if (sym == NULL) return nni_fail(err, NN_EUNSUPPORTED, "download: %s has no " NNI_CURL_SYMBOL, path);
  memcpy(fn, &sym, sizeof sym); /* ISO C has no cast from object to function pointers */
  return NN_OK;
}

/* mkdir -p of path's first n bytes. */
static nn_status make_folder(const char *path, size_t n, nni_error *err) {
  char dir[PATH_MAX];
  if (n >= sizeof dir) return nni_fail(err, NN_EIO, "%s: %s", path, strerror(ENAMETOOLONG));
  memcpy(dir, path, n);
  dir[n] = 0;
  for (char *p = dir + 1; n > 0; p++) {
    char c = *p;
    if (c != '/' && c != 0) continue;
    *p = 0;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
      return nni_fail(err, NN_EIO, "can't create the folder %s: %s", dir, strerror(errno));
    *p = c;
    if (c == 0) break;
  }
  return NN_OK;
}

static void sync_folder(const char *path, size_t n) {
  char dir[PATH_MAX];
  if (n >= sizeof dir) return;
  memcpy(dir, path, n);
  dir[n] = 0;
  int fd = open(n > 0 ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

static nn_status fetch(const nn_download *d, nni_curl_fn get, int fd, nni_error *err) {
  nni_curl_job job = {.url = d->url, .fd = fd, .limit = d->limit, .progress = d->progress, .ud = d->ud};
  const char *ca = getenv("SSL_CERT_FILE");
  if (ca != NULL && ca[0] != 0) job.ca_file = ca;
  nn_status rc = get(&job);
  if (rc != NN_OK) return nni_fail(err, rc, "%s: %s", d->url, job.text);
  if (d->md5 != NULL && strcmp(d->md5, job.md5) != 0)
    return nni_fail(err, NN_EFORMAT, "%s: the file is not the one expected: MD5 %s, expected %s", d->url, job.md5, d->md5);
  if (d->sha256 != NULL && strcmp(d->sha256, job.sha256) != 0)
    return nni_fail(err, NN_EFORMAT, "%s: the file is not the one expected: SHA-256 %s, expected %s", d->url, job.sha256, d->sha256);
  return NN_OK;
}

nn_status nni_download_run(const nn_download *d, nni_error *err) {
  nni_curl_fn get = NULL;
  nn_status rc = load_module(&get, err);
  if (rc != NN_OK) return rc;
  const char *slash = strrchr(d->dest, '/');
  size_t dir = slash != NULL ? (size_t)(slash - d->dest) : 0;
  if ((rc = make_folder(d->dest, dir, err)) != NN_OK) return rc;

  char tmp[PATH_MAX];
  int n = snprintf(tmp, sizeof tmp, "%s.part-XXXXXX", d->dest);
  if (n < 0 || (size_t)n >= sizeof tmp) return nni_fail(err, NN_EIO, "%s: %s", d->dest, strerror(ENAMETOOLONG));
  int fd = mkstemp(tmp);
  if (fd < 0) return nni_fail(err, NN_EIO, "%s: %s", tmp, strerror(errno));
  (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  rc = fetch(d, get, fd, err);
  if (rc == NN_OK && fsync(fd) != 0) rc = nni_fail(err, NN_EIO, "%s: %s", tmp, strerror(errno));
  if (close(fd) != 0 && rc == NN_OK) rc = nni_fail(err, NN_EIO, "%s: %s", tmp, strerror(errno));
  if (rc == NN_OK && rename(tmp, d->dest) != 0) rc = nni_fail(err, NN_EIO, "%s: %s", d->dest, strerror(errno));
  if (rc != NN_OK) {
    unlink(tmp);
    return rc;
  }
  sync_folder(d->dest, dir);
  return NN_OK;
}
