/* io/archive_file.c - archives to and from files: the module nn_hdf5, the seal, reading and writing.
**
** The module is looked for beside libnn (or beside the program that libnn is linked into, and in ../lib from there) and stays loaded: HDF5
** cannot be unloaded safely. Bytes reach HDF5 only behind a seal that holds.
*/
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "archive.h"
#include "beside.h"
#include "hdf5_module.h"
#include "replace.h"

#define ARCHIVE_VERSION 1

static nn_status fail_memory(nni_error *err) { return nni_fail(err, NN_ENOMEM, "archive: out of memory"); }

/* ---- the module ------------------------------------------------------------------------------------------------------------------ */
static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER; /* also: one thread at a time inside HDF5 */
static const nni_h5_module_table *module;                       /* set once */

/* With the lock held. */
static nn_status load_module(nni_error *err) {
  char path[PATH_MAX];
  void *lib;
  if (module) return NN_OK;
  if (!nni_find_beside("libnn_hdf5.so", path, sizeof path))
    return nni_fail(err, NN_EUNSUPPORTED, "HDF5 files need the module nn_hdf5 and libhdf5: libnn_hdf5.so is not beside libnn");
  if (!(lib = dlopen(path, RTLD_NOW | RTLD_LOCAL)))
    return nni_fail(err, NN_EUNSUPPORTED, "HDF5 files need the module nn_hdf5 and libhdf5: %s", dlerror());
  module = dlsym(lib, NNI_H5_SYMBOL);
  if (module && module->abi == NNI_H5_ABI) return NN_OK;
  module = NULL;
  dlclose(lib);
  return nni_fail(err, NN_EUNSUPPORTED, "HDF5 files need the module nn_hdf5 and libhdf5: %.300s belongs to another version of nnlua", path);
}

int64_t nni_archive_open_objects(void) {
  int64_t n;
  pthread_mutex_lock(&module_lock);
  n = module ? module->open_objects() : 0;
  pthread_mutex_unlock(&module_lock);
  return n;
}

/* ---- the seal ------------------------------------------------------------------------------------------------------------------- */
typedef struct seal {
  char magic[8];
  uint32_t crc, not_crc; /* CRC-32 of all bytes before the seal, and its complement */
} seal;

static void make_seal(seal *s, uint32_t crc) {
  memcpy(s->magic, "nnluaend", sizeof s->magic);
  s->crc = crc;
  s->not_crc = ~crc;
}

static uint32_t sum_bytes(const unsigned char *p, size_t n) {
  uLong crc = crc32(0, NULL, 0);
  for (; n > 0;) {
    const size_t piece = n < ((size_t)1 << 30) ? n : (size_t)1 << 30;
    crc = crc32(crc, p, (uInt)piece);
    p += piece;
    n -= piece;
  }
  return (uint32_t)crc;
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

static void *reader_dataset(void *ud, const nni_array *d) {
  reader *r = ud;
  nni_array *mine;
  if (nni_archive_add(r->a, d->path, d->dtype, d->ndim, d->shape, NULL, r->err) != NN_OK) return NULL;
  mine = &r->a->arrays[r->a->narrays - 1];
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

static bool reader_attr(void *ud, const nn_attr *at) {
  reader *r = ud;
  if (strcmp(at->path, "/nnlua") == 0 && strcmp(at->name, NNI_H5_VERSION) == 0 && at->kind == NN_ATTR_INT) {
    r->version = at->i;
    return true;
  }
  if (strcmp(at->path, "/nnlua") == 0 && strcmp(at->name, NNI_H5_DIGEST) == 0 && at->kind == NN_ATTR_TEXT) {
    snprintf(r->digest, sizeof r->digest, "%s", at->texts[0]);
    return true;
  }
  return nni_archive_set(r->a, *at, r->err) == NN_OK;
}

static ssize_t read_at(int fd, void *p, size_t n, int64_t at) {
  ssize_t r;
  do r = pread(fd, p, n, (off_t)at);
  while (r < 0 && errno == EINTR);
  return r;
}

/* CRC-32 of the first n bytes, in pieces of `size` bytes. */
static nn_status sum_file(int fd, int64_t n, void *piece, size_t size, uint32_t *sum, const char *path, nni_error *err) {
  uLong crc = crc32(0, NULL, 0);
  int64_t at = 0;
  while (at < n) {
    const ssize_t r = read_at(fd, piece, n - at < (int64_t)size ? (size_t)(n - at) : size, at);
    if (r < 0) return nni_fail(err, NN_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (r == 0) return nni_fail(err, NN_EFORMAT, "%s: truncated while it was read", path);
    crc = crc32(crc, piece, (uInt)r);
    at += r;
  }
  *sum = (uint32_t)crc;
  return NN_OK;
}

/* The superblock of format V110 lies at byte 0: signature (8), version 3, size of offsets 8, size of lengths 8, flags, base address (8),
** extension (8), end of file (8). Checked by hand for the sake of the messages; then the seal decides. */
static nn_status check_content(int fd, const char *path, int64_t size, nni_memory *m, nni_error *err) {
  static const uint8_t signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  const size_t piece_size = (size_t)1 << 18;
  uint8_t head[36];
  seal want, found;
  int64_t end;
  void *piece;
  nn_status s;
  const ssize_t n = read_at(fd, head, sizeof head, 0);
  if (n < 0) return nni_fail(err, NN_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (n == 0) return nni_fail(err, NN_EFORMAT, "%s: the file is empty", path);
  if (n < 8 || memcmp(head, signature, 8) != 0) return nni_fail(err, NN_EFORMAT, "%s: not an HDF5 file or damaged at its start", path);
  if (n < (ssize_t)sizeof head) return nni_fail(err, NN_EFORMAT, "%s: truncated: only %d bytes are left", path, (int)n);
  memcpy(&end, head + 28, sizeof end);
  if (head[8] != 3 || head[9] != 8 || head[10] != 8 || end < 48)
    return nni_fail(err, NN_EFORMAT, "%s: an HDF5 file, but not one that nnlua wrote (or damaged at its start)", path);
  if (end > size - (int64_t)sizeof found)
    return nni_fail(err, NN_EFORMAT, "%s: truncated, damaged or not written by nnlua: %lld bytes where %lld were expected", path, (long long)size,
                    (long long)end + (long long)sizeof found);
  if (read_at(fd, &found, sizeof found, end) != (ssize_t)sizeof found) return nni_fail(err, NN_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (!(piece = nni_buffer_get(m, piece_size))) return fail_memory(err);
  s = sum_file(fd, end, piece, piece_size, &want.crc, path, err);
  nni_buffer_put(m, piece, piece_size);
  if (s != NN_OK) return s;
  make_seal(&want, want.crc);
  if (end + (int64_t)sizeof found != size || memcmp(&want, &found, sizeof want) != 0)
    return nni_fail(err, NN_EFORMAT, "%s: damaged or changed since nnlua wrote it: the checksum does not match", path);
  return NN_OK;
}

/* Look at the file before HDF5 does. */
static nn_status check_file(const char *path, int64_t *size, nni_memory *m, nni_error *err) {
  struct stat st;
  nn_status s;
  int fd;
  do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return nni_fail(err, errno == ENOENT ? NN_ENOTFOUND : NN_EIO, "%s: %s", path, strerror(errno));
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) s = nni_fail(err, NN_EIO, "%s: not a regular file", path);
  else s = check_content(fd, path, *size = st.st_size, m, err);
  close(fd);
  return s;
}

/* Fill a from the file; digest is what the file says. */
static nn_status read_items(nni_archive *a, const char *path, char digest[NNI_DIGEST_TEXT], nni_error *err) {
  reader r = {.a = a, .err = err, .version = -1};
  const nni_h5_host host = {.ud = &r, .scratch = reader_scratch, .dataset = reader_dataset, .attr = reader_attr};
  nn_status s = check_file(path, &r.room, a->m, err);
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

/* What is large goes back to the system: kept for re-use it would be of no use to tensors, and a save would need the file's size twice. */
#define LARGE ((size_t)1 << 24)

static void drop_image(writer *w) {
  if (!w->image) return;
  nni_buffer_put(w->a->m, w->image, w->capacity);
  if (w->capacity >= LARGE) nni_memory_trim(w->a->m);
  w->image = NULL;
}

static nn_status seal_image(writer *w, size_t *size, nni_error *err) {
  seal end;
  make_seal(&end, sum_bytes(w->image, *size));
  if (!writer_image(w, *size + sizeof end)) return fail_memory(err);
  memcpy((char *)w->image + *size, &end, sizeof end);
  *size += sizeof end;
  return NN_OK;
}

/* At least the length of the file: elements with a checksum and an index entry a chunk, generous headers. */
static size_t guess_size(const nni_archive *a) {
  size_t n = (size_t)1 << 18;
  int i, k;
  for (i = 0; i < a->narrays; i++) n += a->arrays[i].bytes + a->arrays[i].bytes / 1024 + 8192 + 64 * strlen(a->arrays[i].path);
  for (i = 0; i < a->nattrs; i++) {
    size_t longest = 1;
    for (k = 0; k < a->attrs[i].n; k++)
      if (strlen(a->attrs[i].texts[k]) > longest) longest = strlen(a->attrs[i].texts[k]);
    n += 2 * longest * (size_t)a->attrs[i].n + 8192 + 64 * strlen(a->attrs[i].path);
  }
  return n;
}

static bool same_archive(const nni_archive *a, const nni_archive *b) {
  nni_archive_walk x = {a, 0, 0}, y = {b, 0, 0};
  const nni_array *d, *e;
  const nn_attr *s, *t;
  int i;
  if (a->narrays != b->narrays || a->nattrs != b->nattrs) return false;
  while (nni_archive_next(&x, &d, &s) && nni_archive_next(&y, &e, &t)) {
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

typedef struct verifier {
  writer *w;
  const char *path;
  const char *digest;
  bool large;
} verifier;

/* The image is no longer needed: its memory goes to the copy that is read back. */
static nn_status verify_file(void *ud, const char *temporary, nni_error *err) {
  verifier *v = ud;
  char digest[NNI_DIGEST_TEXT];
  nni_archive back;
  nni_error why = {NN_OK, ""};
  nn_status s;
  v->large = v->w->capacity >= LARGE;
  drop_image(v->w);
  nni_archive_init(&back, v->w->a->m);
  s = read_items(&back, temporary, digest, &why);
  if (s == NN_OK) s = nni_archive_sort(&back, &why);
  if (s != NN_OK) s = nni_fail(err, s, "%s: cannot save: what was written does not read back: %s", v->path, why.text);
  else if (strcmp(digest, v->digest) != 0 || !same_archive(v->w->a, &back))
    s = nni_fail(err, NN_EIO, "%s: cannot save: what was written reads back differently", v->path);
  nni_archive_close(&back);
  if (v->large) nni_memory_trim(v->w->a->m);
  return s;
}

/* The sealed image of a, with its digest. */
static nn_status make_image(writer *w, char digest[NNI_DIGEST_TEXT], size_t *size, nni_error *err) {
  nni_archive *a = w->a;
  const char *texts[1] = {digest};
  nn_attr own[2]; /* appended for the module, behind the sorted list */
  const nni_h5_host host = {.ud = w, .image = writer_image, .scratch = writer_scratch};
  nni_archive full;
  nn_status s = nni_archive_digest(a, digest, err);
  if (s != NN_OK) return s;
  own[0] = (nn_attr){.path = "/nnlua", .name = NNI_H5_VERSION, .kind = NN_ATTR_INT, .i = ARCHIVE_VERSION};
  own[1] = (nn_attr){.path = "/nnlua", .name = NNI_H5_DIGEST, .kind = NN_ATTR_TEXT, .n = 1, .texts = texts};
  full = *a;
  full.attrs = nni_malloc(a->m, (size_t)(a->nattrs + 2) * sizeof *full.attrs);
  if (!full.attrs) return fail_memory(err);
  if (a->nattrs) memcpy(full.attrs, a->attrs, (size_t)a->nattrs * sizeof *full.attrs);
  memcpy(full.attrs + a->nattrs, own, sizeof own);
  full.nattrs = a->nattrs + 2;
  if (!writer_image(w, guess_size(&full))) s = fail_memory(err);
  else {
    pthread_mutex_lock(&module_lock);
    s = load_module(err);
    if (s == NN_OK) s = module->write(&full, &host, w->capacity, size, err);
    pthread_mutex_unlock(&module_lock);
    if (s == NN_OK) s = seal_image(w, size, err);
  }
  nni_free(a->m, full.attrs, (size_t)(a->nattrs + 2) * sizeof *full.attrs);
  return s;
}

nn_status nni_archive_write(nni_archive *a, const char *path, nni_error *err) {
  char digest[NNI_DIGEST_TEXT];
  writer w = {.a = a};
  verifier v = {&w, path, digest, false};
  size_t size = 0;
  nn_status s = make_image(&w, digest, &size, err);
  if (s == NN_OK) s = nni_file_replace(path, w.image, size, verify_file, &v, err);
  else if (err && s != NN_EUNSUPPORTED && s != NN_EINVAL) {
    const nni_error why = *err;
    nni_fail(err, s, "%s: cannot save: %s", path, why.text);
  }
  drop_image(&w);
  return s;
}

nn_status nni_archive_image(nni_archive *a, void **image, size_t *capacity, size_t *size, nni_error *err) {
  char digest[NNI_DIGEST_TEXT];
  writer w = {.a = a};
  const nn_status s = make_image(&w, digest, size, err);
  if (s != NN_OK) drop_image(&w);
  *image = w.image;
  *capacity = w.capacity;
  return s;
}
