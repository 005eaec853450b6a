/* io/beside.c - finding the other files of the installed tree, or of the build folder (beside.h). Owns nothing. */
#define _GNU_SOURCE /* dladdr */
#include "beside.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static bool look_in(const char *file, const char *name, char *path, size_t size) {
  static const char *const subs[] = {"", "nnlua/", "../lib/", "../lib/nnlua/"};
  const char *slash = strrchr(file, '/');
  size_t i;
  for (i = 0; slash && i < sizeof subs / sizeof *subs; i++) {
    const int n = snprintf(path, size, "%.*s%s%s", (int)(slash - file) + 1, file, subs[i], name);
    if (n > 0 && (size_t)n < size && access(path, R_OK) == 0) return true;
  }
  return false;
}

bool nni_find_beside(const char *name, char *path, size_t size) {
  static const char here; /* lies in libnn, or in the program that libnn is linked into */
  char self[PATH_MAX];
  ssize_t n;
  Dl_info info;
  if (dladdr(&here, &info) && info.dli_fname && look_in(info.dli_fname, name, path, size)) return true;
  n = readlink("/proc/self/exe", self, sizeof self - 1); /* a program started by name has no folder in dli_fname */
  if (n <= 0) return false;
  self[n] = 0;
  return look_in(self, name, path, size);
}
