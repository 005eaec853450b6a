/* io/archive.c - archives in memory: building, ordering, digest; and their way to and from files through the module nn_hdf5.
**
** See archive.h for the format and the digest. The module is looked for next to libnn (or the program that libnn is linked into), then in
** the folder nnlua beside it, and stays loaded: HDF5 cannot be unloaded safely.
*/
#define _GNU_SOURCE /* dladdr */
#include <sys/types.h>

#include "archive.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sha2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hdf5_module.h"
#include "replace.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "archives are written as they lie in memory, which must be little-endian"
#endif

#define ARCHIVE_VERSION 1

static nn_status fail_memory(nni_error *err) { return nni_fail(err, NN_ENOMEM, "archive: out of memory"); }

/* ---- building ------------------------------------------------------------------------------------------------------------ */
void nni_archive_init(nni_archive *a, nni_memory *m) {
  memset(a, 0, sizeof *a);
  a->m = m;
  nni_arena_init(&a->arena, m);
}

void nni_archive_close(nni_archive *a) {
  int i;
  for (i = 0; i < a->ndatasets; i++)
    if (a->datasets[i].owned) nni_buffer_put(a->m, a->datasets[i].owned, a->datasets[i].bytes);
  nni_free(a->m, a->datasets, (size_t)a->datasets_cap * sizeof *a->datasets);
  nni_free(a->m, a->attrs, (size_t)a->attrs_cap * sizeof *a->attrs);
  nni_arena_close(&a->arena);
  nni_archive_init(a, a->m);
}

static char *keep_text(nni_archive *a, const char *s) {
  const size_t n = strlen(s) + 1;
  char *copy = nni_arena_get(&a->arena, n);
  if (copy) memcpy(copy, s, n);
  return copy;
}

/* "/a/b c/d": names of 1 to 255 bytes without control characters, not "." or "..", at most 32 of them. */
static bool path_is_good(const char *path) {
  const char *p = path;
  int depth = 0;
  if (strlen(path) > NNI_ARCHIVE_MAXPATH || *p != '/') return false;
  while (*p == '/') {
    const size_t n = strcspn(++p, "/");
    size_t i;
    if (n == 0 || n > NNI_ARCHIVE_MAXNAME || ++depth > NNI_ARCHIVE_MAXDEPTH) return false;
    if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
    for (i = 0; i < n; i++)
      if ((unsigned char)p[i] < 32 || p[i] == 127) return false;
    p += n;
  }
  return true;
}

static bool name_is_good(const char *name) {
  size_t i;
  for (i = 0; name[i]; i++)
    if ((unsigned char)name[i] < 32 || name[i] == 127) return false;
  return i > 0 && i <= NNI_ARCHIVE_MAXNAME;
}

/* Room for one more element of `size` bytes; NULL on failure. */
static void *grow_list(nni_memory *m, void *list, int n, int *cap, size_t size) {
  const int want = *cap ? 2 * *cap : 16;
  void *p = list;
  if (n < *cap) return list;
  p = nni_realloc(m, list, (size_t)*cap * size, (size_t)want * size);
  if (p) *cap = want;
  return p;
}

nn_status nni_archive_add(nni_archive *a, const char *path, nn_dtype dtype, int ndim, const int64_t *shape, const void *data, nni_error *err) {
  nni_dataset *list, d;
  int64_t count;
  memset(&d, 0, sizeof d);
  if (!path_is_good(path)) return nni_fail(err, NN_EINVAL, "archive: bad path '%.100s'", path);
  if (ndim < 0 || ndim > NN_MAXDIM) return nni_fail(err, NN_EINVAL, "archive: %.200s has %d dims, at most %d are possible", path, ndim, NN_MAXDIM);
  if (!nni_size_mul(shape, ndim, nn_dtype_size(dtype), &count)) return nni_fail(err, NN_EINVAL, "archive: %.200s has an impossible shape", path);
  if (a->ndatasets + a->nattrs >= NNI_ARCHIVE_MAXITEMS) return nni_fail(err, NN_EINVAL, "archive: more than %d items", NNI_ARCHIVE_MAXITEMS);
  if (!(list = grow_list(a->m, a->datasets, a->ndatasets, &a->datasets_cap, sizeof *list))) return fail_memory(err);
  a->datasets = list;
  if (!(d.path = keep_text(a, path))) return fail_memory(err);
  d.dtype = dtype;
  d.ndim = ndim;
  if (ndim) memcpy(d.shape, shape, (size_t)ndim * sizeof *shape);
  d.bytes = (size_t)count * nn_dtype_size(dtype);
  d.data = data;
  a->datasets[a->ndatasets++] = d;
  a->sorted = false;
  return NN_OK;
}

static nn_status add_attr(nni_archive *a, nni_attr at, nni_error *err) {
  nni_attr *list;
  const char **texts = NULL;
  int i;
  if (strcmp(at.path, "/") != 0 && !path_is_good(at.path)) return nni_fail(err, NN_EINVAL, "archive: bad path '%.100s'", at.path);
  if (!name_is_good(at.name) || strcmp(at.name, NNI_H5_DTYPE) == 0)
    return nni_fail(err, NN_EINVAL, "archive: bad attribute name '%.100s' at %.200s", at.name, at.path);
  if (strcmp(at.path, "/nnlua") == 0 && (strcmp(at.name, NNI_H5_DIGEST) == 0 || strcmp(at.name, NNI_H5_VERSION) == 0))
    return nni_fail(err, NN_EINVAL, "archive: the attribute %s at /nnlua is made by the archive itself", at.name);
  if (a->ndatasets + a->nattrs >= NNI_ARCHIVE_MAXITEMS) return nni_fail(err, NN_EINVAL, "archive: more than %d items", NNI_ARCHIVE_MAXITEMS);
  if (!(list = grow_list(a->m, a->attrs, a->nattrs, &a->attrs_cap, sizeof *list))) return fail_memory(err);
  a->attrs = list;
  if (!(at.path = keep_text(a, at.path)) || !(at.name = keep_text(a, at.name))) return fail_memory(err);
  if (at.n && !(texts = nni_arena_get(&a->arena, (size_t)at.n * sizeof *texts))) return fail_memory(err);
  for (i = 0; i < at.n; i++)
    if (!(texts[i] = keep_text(a, at.texts[i]))) return fail_memory(err);
  at.texts = texts;
  a->attrs[a->nattrs++] = at;
  a->sorted = false;
  return NN_OK;
}

nn_status nni_archive_set_text(nni_archive *a, const char *path, const char *name, const char *text, nni_error *err) {
  return add_attr(a, (nni_attr){.path = path, .name = name, .kind = NNI_ATTR_TEXT, .n = 1, .texts = &text}, err);
}

nn_status nni_archive_set_texts(nni_archive *a, const char *path, const char *name, int n, const char *const *texts, nni_error *err) {
  return add_attr(a, (nni_attr){.path = path, .name = name, .kind = NNI_ATTR_TEXTS, .n = n, .texts = texts}, err);
}

nn_status nni_archive_set_int(nni_archive *a, const char *path, const char *name, int64_t value, nni_error *err) {
  return add_attr(a, (nni_attr){.path = path, .name = name, .kind = NNI_ATTR_INT, .i = value}, err);
}

nn_status nni_archive_set_float(nni_archive *a, const char *path, const char *name, double value, nni_error *err) {
  return add_attr(a, (nni_attr){.path = path, .name = name, .kind = NNI_ATTR_FLOAT, .f = value}, err);
}

const nni_dataset *nni_archive_find(const nni_archive *a, const char *path) {
  int i;
  for (i = 0; i < a->ndatasets; i++)
    if (strcmp(a->datasets[i].path, path) == 0) return &a->datasets[i];
  return NULL;
}

const nni_attr *nni_archive_find_attr(const nni_archive *a, const char *path, const char *name) {
  int i;
  for (i = 0; i < a->nattrs; i++)
    if (strcmp(a->attrs[i].path, path) == 0 && strcmp(a->attrs[i].name, name) == 0) return &a->attrs[i];
  return NULL;
}

/* ---- order -------------------------------------------------------------------------------------------------------------------- */
/* Depth first: '/' sorts before every character of a name ("/" itself is the empty path). */
static int compare_paths(const char *a, const char *b) {
  if (a[1] == 0) a++;
  if (b[1] == 0) b++;
  for (; *a && *a == *b; a++, b++) {}
  if (*a == *b) return 0;
  if (!*a || !*b) return *a ? 1 : -1;
  if (*a == '/' || *b == '/') return *a == '/' ? -1 : 1;
  return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

static int compare_datasets(const void *a, const void *b) {
  return compare_paths(((const nni_dataset *)a)->path, ((const nni_dataset *)b)->path);
}

static int compare_attrs(const void *a, const void *b) {
  const nni_attr *x = a, *y = b;
  const int c = compare_paths(x->path, y->path);
  return c ? c : strcmp(x->name, y->name);
}

/* The items in the archive's one order. */
typedef struct walk { const nni_archive *a; int d, t; } walk;

static bool walk_next(walk *w, const nni_dataset **d, const nni_attr **at) {
  *d = w->d < w->a->ndatasets ? &w->a->datasets[w->d] : NULL;
  *at = w->t < w->a->nattrs ? &w->a->attrs[w->t] : NULL;
  if (!*d && !*at) return false;
  if (*d && *at) {
    if (compare_paths((*at)->path, (*d)->path) <= 0) *d = NULL;
    else *at = NULL;
  }
  if (*d) w->d++;
  else w->t++;
  return true;
}

/* Heap sort, since glibc's qsort may call malloc, which our hook would not see. The n elements at list, the root of a heap but for element i: */
static void sift_down(char *list, size_t n, size_t size, size_t i, int (*compare)(const void *, const void *), char *tmp) {
  size_t child;
  for (; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && compare(list + child * size, list + (child + 1) * size) < 0) child++;
    if (compare(list + i * size, list + child * size) >= 0) return;
    memcpy(tmp, list + i * size, size);
    memcpy(list + i * size, list + child * size, size);
    memcpy(list + child * size, tmp, size);
  }
}

static void sort_list(void *items, size_t n, size_t size, int (*compare)(const void *, const void *), char *tmp) {
  char *list = items;
  size_t i;
  for (i = n / 2; i > 0; i--) sift_down(list, n, size, i - 1, compare, tmp);
  for (i = n; i > 1; i--) {
    memcpy(tmp, list, size);
    memcpy(list, list + (i - 1) * size, size);
    memcpy(list + (i - 1) * size, tmp, size);
    sift_down(list, i - 1, size, 0, compare, tmp);
  }
}

nn_status nni_archive_sort(nni_archive *a, nni_error *err) {
  union { nni_dataset d; nni_attr t; } tmp;
  const nni_dataset *d, *last = NULL;
  const nni_attr *at, *last_attr = NULL;
  walk w = {a, 0, 0};
  if (a->sorted) return NN_OK;
  sort_list(a->datasets, (size_t)a->ndatasets, sizeof *a->datasets, compare_datasets, (char *)&tmp);
  sort_list(a->attrs, (size_t)a->nattrs, sizeof *a->attrs, compare_attrs, (char *)&tmp);
  while (walk_next(&w, &d, &at)) {
    const char *path = d ? d->path : at->path;
    const size_t n = last ? strlen(last->path) : 0;
    if (last && strncmp(path, last->path, n) == 0 && path[n] == '/')
      return nni_fail(err, NN_EINVAL, "archive: %.200s cannot hold %.200s: it is a data set", last->path, path);
    if (d && last && compare_paths(d->path, last->path) == 0) return nni_fail(err, NN_EINVAL, "archive: %.200s is there twice", path);
    if (at && last_attr && compare_attrs(at, last_attr) == 0)
      return nni_fail(err, NN_EINVAL, "archive: the attribute %.200s at %.200s is there twice", at->name, path);
    if (d) last = d;
    else last_attr = at;
  }
  a->sorted = true;
  return NN_OK;
}

/* ---- digest ------------------------------------------------------------------------------------------------------------------- */
static void hash_bytes(SHA2_CTX *c, const void *p, size_t n) {
  if (n) SHA256Update(c, p, n);
}
static void hash_text(SHA2_CTX *c, const char *s) { hash_bytes(c, s, strlen(s) + 1); }
static void hash_i64(SHA2_CTX *c, int64_t v) { hash_bytes(c, &v, sizeof v); }

static void hash_attr(SHA2_CTX *c, const nni_attr *at) {
  const char kind = (char)at->kind;
  int i;
  hash_bytes(c, "A", 1);
  hash_text(c, at->path);
  hash_text(c, at->name);
  hash_bytes(c, &kind, 1);
  if (at->kind == NNI_ATTR_INT) hash_i64(c, at->i);
  else if (at->kind == NNI_ATTR_FLOAT) hash_bytes(c, &at->f, sizeof at->f);
  else {
    hash_i64(c, at->n);
    for (i = 0; i < at->n; i++) hash_text(c, at->texts[i]);
  }
}

nn_status nni_archive_digest(nni_archive *a, char hex[NNI_DIGEST_TEXT], nni_error *err) {
  static const char digits[] = "0123456789abcdef";
  SHA2_CTX c;
  uint8_t sum[SHA256_DIGEST_LENGTH];
  const nni_dataset *d;
  const nni_attr *at;
  walk w = {a, 0, 0};
  int i;
  const nn_status s = nni_archive_sort(a, err);
  if (s != NN_OK) return s;
  SHA256Init(&c);
  hash_text(&c, "nnlua archive 1");
  while (walk_next(&w, &d, &at)) {
    if (at) hash_attr(&c, at);
    else {
      hash_bytes(&c, "D", 1);
      hash_text(&c, d->path);
      hash_text(&c, nn_dtype_name(d->dtype));
      hash_i64(&c, d->ndim);
      for (i = 0; i < d->ndim; i++) hash_i64(&c, d->shape[i]);
      hash_bytes(&c, d->data, d->bytes);
    }
  }
  SHA256Final(sum, &c);
  for (i = 0; i < SHA256_DIGEST_LENGTH; i++) {
    hex[2 * i] = digits[sum[i] >> 4];
    hex[2 * i + 1] = digits[sum[i] & 15];
  }
  hex[2 * i] = 0;
  return NN_OK;
}

/* ---- the module ------------------------------------------------------------------------------------------------------------------ */
static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER; /* also: one thread at a time inside HDF5 */
static const nni_h5_module_table *module; /* set once */

static const nni_h5_module_table *open_module(const char *dir, int len, const char *sub, char *why, size_t size) {
  char path[PATH_MAX];
  void *lib;
  const nni_h5_module_table *t;
  if (snprintf(path, sizeof path, "%.*s%snn_hdf5.so", len, dir, sub) >= (int)sizeof path) return NULL;
  if (access(path, R_OK) != 0) return NULL;
  if (!(lib = dlopen(path, RTLD_NOW | RTLD_LOCAL))) {
    snprintf(why, size, "%s", dlerror());
    return NULL;
  }
  t = dlsym(lib, NNI_H5_SYMBOL);
  if (t && t->abi == NNI_H5_ABI) return t;
  snprintf(why, size, "%.300s belongs to another version of nnlua", path);
  dlclose(lib);
  return NULL;
}

/* With the lock held. */
static nn_status load_module(nni_error *err) {
  static const char *const subs[] = {"", "nnlua/", "../lib/nnlua/"};
  char why[400] = "nn_hdf5.so is not beside libnn", self[PATH_MAX];
  Dl_info info;
  int i, k;
  if (module) return NN_OK;
  for (k = 0; k < 2 && !module; k++) {
    const char *slash, *file = NULL;
    if (k == 0 && dladdr((const void *)&module, &info) && info.dli_fname) file = info.dli_fname;
    if (k == 1) { /* a program started by name has no folder in dli_fname */
      const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
      if (n > 0) self[n] = 0, file = self;
    }
    if (!file || !(slash = strrchr(file, '/'))) continue;
    for (i = 0; i < NNI_COUNT(subs) && !module; i++) module = open_module(file, (int)(slash - file) + 1, subs[i], why, sizeof why);
  }
  if (!module) return nni_fail(err, NN_EUNSUPPORTED, "HDF5 files need the module nn_hdf5 and libhdf5: %s", why);
  return NN_OK;
}

int64_t nni_archive_open_objects(void) {
  int64_t n;
  pthread_mutex_lock(&module_lock);
  n = module ? module->open_objects() : 0;
  pthread_mutex_unlock(&module_lock);
  return n;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------------- */
typedef struct reader {
  nni_archive *a;
  nni_error *err;
  int64_t room; /* bytes of elements the file can still hold */
  int64_t version;
  char digest[NNI_DIGEST_TEXT];
} reader;

static void *reader_scratch(void *ud, size_t n) { return nni_arena_get(&((reader *)ud)->a->arena, n); }

static void *reader_dataset(void *ud, const nni_dataset *d) {
  reader *r = ud;
  nni_dataset *mine;
  if (nni_archive_add(r->a, d->path, d->dtype, d->ndim, d->shape, NULL, r->err) != NN_OK) return NULL;
  mine = &r->a->datasets[r->a->ndatasets - 1];
  if ((uint64_t)mine->bytes > (uint64_t)r->room) {
    nni_fail(r->err, NN_EFORMAT, "%.200s claims more elements than the file holds", d->path);
    return NULL;
  }
  r->room -= (int64_t)mine->bytes;
  mine->owned = nni_buffer_get(r->a->m, mine->bytes);
  mine->data = mine->owned;
  if (!mine->owned) fail_memory(r->err);
  return mine->owned;
}

static bool reader_attr(void *ud, const nni_attr *at) {
  reader *r = ud;
  if (strcmp(at->path, "/nnlua") == 0 && strcmp(at->name, NNI_H5_VERSION) == 0 && at->kind == NNI_ATTR_INT) {
    r->version = at->i;
    return true;
  }
  if (strcmp(at->path, "/nnlua") == 0 && strcmp(at->name, NNI_H5_DIGEST) == 0 && at->kind == NNI_ATTR_TEXT) {
    snprintf(r->digest, sizeof r->digest, "%s", at->texts[0]);
    return true;
  }
  return add_attr(r->a, *at, r->err) == NN_OK;
}

/* Look at the file before HDF5 does: what is no file of ours does not reach it. The superblock of format V110 lies at byte 0:
** signature (8), version 3, size of offsets 8, size of lengths 8, flags, base address (8), extension (8), end of file (8). */
static nn_status check_file(const char *path, int64_t *size, nni_error *err) {
  static const uint8_t signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  uint8_t head[36];
  struct stat s;
  int64_t end;
  ssize_t n;
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nni_fail(err, errno == ENOENT ? NN_ENOTFOUND : NN_EIO, "%s: %s", path, strerror(errno));
  if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
    close(fd);
    return nni_fail(err, NN_EIO, "%s: not a regular file", path);
  }
  do n = pread(fd, head, sizeof head, 0);
  while (n < 0 && errno == EINTR);
  close(fd);
  if (n < 0) return nni_fail(err, NN_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (n == 0) return nni_fail(err, NN_EFORMAT, "%s: the file is empty", path);
  if (memcmp(head, signature, n < 8 ? (size_t)n : 8) != 0 || n < 8) return nni_fail(err, NN_EFORMAT, "%s: not an HDF5 file or damaged at its start", path);
  if (n < (ssize_t)sizeof head) return nni_fail(err, NN_EFORMAT, "%s: truncated: only %d bytes are left", path, (int)n);
  if (head[8] != 3 || head[9] != 8 || head[10] != 8)
    return nni_fail(err, NN_EFORMAT, "%s: an HDF5 file, but not one that nnlua wrote (or damaged at its start)", path);
  memcpy(&end, head + 28, sizeof end);
  if (end > s.st_size) return nni_fail(err, NN_EFORMAT, "%s: truncated or damaged: %lld of %lld bytes are there", path, (long long)s.st_size, (long long)end);
  *size = s.st_size;
  return NN_OK;
}

/* Fill a from the file; digest is what the file says. */
static nn_status read_items(nni_archive *a, const char *path, char digest[NNI_DIGEST_TEXT], nni_error *err) {
  reader r = {.a = a, .err = err, .version = -1};
  const nni_h5_host host = {.ud = &r, .scratch = reader_scratch, .dataset = reader_dataset, .attr = reader_attr};
  nn_status s = check_file(path, &r.room, err);
  if (s != NN_OK) return s;
  pthread_mutex_lock(&module_lock);
  s = load_module(err);
  if (s == NN_OK) s = module->read(path, r.room, &host, err);
  pthread_mutex_unlock(&module_lock);
  if (s != NN_OK) return s;
  if (r.version < 0 || !r.digest[0]) return nni_fail(err, NN_EFORMAT, "%s: an HDF5 file, but not one that nnlua wrote (no digest)", path);
  if (r.version > ARCHIVE_VERSION)
    return nni_fail(err, NN_EFORMAT, "%s: archive version %lld; this nnlua reads versions up to %d", path, (long long)r.version, ARCHIVE_VERSION);
  memcpy(digest, r.digest, sizeof r.digest);
  return NN_OK;
}

nn_status nni_archive_read(nni_archive *a, const char *path, nni_error *err) {
  char stored[NNI_DIGEST_TEXT], found[NNI_DIGEST_TEXT];
  nn_status s = read_items(a, path, stored, err);
  if (s == NN_OK) s = nni_archive_digest(a, found, err);
  if (s == NN_OK && memcmp(stored, found, sizeof found) != 0)
    s = nni_fail(err, NN_EFORMAT, "%s: damaged or changed since it was written: the digest of its content does not match", path);
  if (s != NN_OK) nni_archive_close(a);
  return s;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------------ */
typedef struct writer {
  nni_archive *a;
  void *image;
  size_t capacity;
} writer;

/* HDF5 must not meet a failure here, so the first call gets a guess that is enough and the later ones stay below it. */
static void *writer_image(void *ud, size_t n) {
  writer *w = ud;
  void *p;
  if (w->image && n <= w->capacity) return w->image;
  if (!(p = nni_buffer_get(w->a->m, n))) return NULL;
  if (w->image) {
    memcpy(p, w->image, w->capacity < n ? w->capacity : n);
    nni_buffer_put(w->a->m, w->image, w->capacity);
  }
  w->image = p;
  w->capacity = n;
  return p;
}

static void *writer_scratch(void *ud, size_t n) { return nni_arena_get(&((writer *)ud)->a->arena, n); }

static void drop_image(writer *w) {
  if (w->image) nni_buffer_put(w->a->m, w->image, w->capacity);
  w->image = NULL;
}

/* At least the length of the file: elements with a checksum and an index entry a chunk, generous headers. */
static size_t guess_size(const nni_archive *a) {
  size_t n = (size_t)1 << 18;
  int i, k;
  for (i = 0; i < a->ndatasets; i++) n += a->datasets[i].bytes + a->datasets[i].bytes / 1024 + 8192 + 64 * strlen(a->datasets[i].path);
  for (i = 0; i < a->nattrs; i++) {
    size_t longest = 1;
    for (k = 0; k < a->attrs[i].n; k++)
      if (strlen(a->attrs[i].texts[k]) > longest) longest = strlen(a->attrs[i].texts[k]);
    n += 2 * longest * (size_t)a->attrs[i].n + 8192 + 64 * strlen(a->attrs[i].path);
  }
  return n;
}

static bool same_archive(const nni_archive *a, const nni_archive *b) {
  walk x = {a, 0, 0}, y = {b, 0, 0};
  const nni_dataset *d, *e;
  const nni_attr *s, *t;
  int i;
  if (a->ndatasets != b->ndatasets || a->nattrs != b->nattrs) return false;
  while (walk_next(&x, &d, &s) && walk_next(&y, &e, &t)) {
    if (!d != !e) return false;
    if (d && (strcmp(d->path, e->path) != 0 || d->dtype != e->dtype || d->ndim != e->ndim || d->bytes != e->bytes ||
              memcmp(d->shape, e->shape, sizeof d->shape) != 0 || (d->bytes && memcmp(d->data, e->data, d->bytes) != 0)))
      return false;
    if (d) continue;
    if (strcmp(s->path, t->path) != 0 || strcmp(s->name, t->name) != 0 || s->kind != t->kind || s->n != t->n || s->i != t->i ||
        memcmp(&s->f, &t->f, sizeof s->f) != 0)
      return false;
    for (i = 0; i < s->n; i++)
      if (strcmp(s->texts[i], t->texts[i]) != 0) return false;
  }
  return true;
}

typedef struct verifier { writer *w; const char *path; const char *digest; } verifier;

/* The image is no longer needed: its memory goes to the copy that is read back. */
static nn_status verify_file(void *ud, const char *temporary, nni_error *err) {
  verifier *v = ud;
  char digest[NNI_DIGEST_TEXT];
  nni_archive back;
  nni_error why = {NN_OK, ""};
  nn_status s;
  drop_image(v->w);
  nni_archive_init(&back, v->w->a->m);
  s = read_items(&back, temporary, digest, &why);
  if (s == NN_OK) s = nni_archive_sort(&back, &why);
  if (s != NN_OK) s = nni_fail(err, s, "%s: cannot save: what was written does not read back: %s", v->path, why.text);
  else if (strcmp(digest, v->digest) != 0 || !same_archive(v->w->a, &back))
    s = nni_fail(err, NN_EIO, "%s: cannot save: what was written reads back differently", v->path);
  nni_archive_close(&back);
  return s;
}

nn_status nni_archive_write(nni_archive *a, const char *path, nni_error *err) {
  char digest[NNI_DIGEST_TEXT];
  const char *texts[1];
  nni_attr own[2]; /* appended for the module, behind the sorted list */
  writer w = {.a = a};
  const nni_h5_host host = {.ud = &w, .image = writer_image, .scratch = writer_scratch};
  verifier v = {&w, path, digest};
  nni_archive full;
  size_t size = 0;
  nn_status s = nni_archive_digest(a, digest, err);
  if (s != NN_OK) return s;
  texts[0] = digest;
  own[0] = (nni_attr){.path = "/nnlua", .name = NNI_H5_VERSION, .kind = NNI_ATTR_INT, .i = ARCHIVE_VERSION};
  own[1] = (nni_attr){.path = "/nnlua", .name = NNI_H5_DIGEST, .kind = NNI_ATTR_TEXT, .n = 1, .texts = texts};
  full = *a;
  full.attrs = nni_malloc(a->m, (size_t)(a->nattrs + 2) * sizeof *full.attrs);
  if (!full.attrs) return fail_memory(err);
  if (a->nattrs) memcpy(full.attrs, a->attrs, (size_t)a->nattrs * sizeof *full.attrs);
  memcpy(full.attrs + a->nattrs, own, sizeof own);
  full.nattrs = a->nattrs + 2;
  if (!writer_image(&w, guess_size(&full))) s = fail_memory(err);
  else {
    pthread_mutex_lock(&module_lock);
    s = load_module(err);
    if (s == NN_OK) s = module->write(&full, &host, w.capacity, &size, err);
    pthread_mutex_unlock(&module_lock);
    if (s == NN_OK) s = nni_file_replace(path, w.image, size, verify_file, &v, err);
    else if (err && s != NN_EUNSUPPORTED) {
      const nni_error why = *err;
      nni_fail(err, s, "%s: cannot save: %s", path, why.text);
    }
  }
  drop_image(&w);
  nni_free(a->m, full.attrs, (size_t)(a->nattrs + 2) * sizeof *full.attrs);
  return s;
}
