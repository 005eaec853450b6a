/* io/archive_file.c - archives to and from files: the module nn_hdf5, the seal, reading and writing.
**
** The module is looked for beside libnn (or beside the program that libnn is linked into, and in ../lib from there) and stays loaded: HDF5
** cannot be unloaded safely. Bytes reach HDF5 only behind a seal that holds.
**
** Memory: a save takes a few MB beside the archive's elements. HDF5 hands out chunks of at most 1 MiB, which go to the temporary file at once
** (sheet.h); what was written is read back and compared chunk by chunk. A load reads elements straight into the memory that they stay in.
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
#include "sheet.h"

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

/* ---- reading ----------------------------------------------------------------------------------------------------------------------- */
typedef struct reader {
  nni_archive *a;
  const nni_archive *same; /* comparing: what the file must hold, sorted, */
  void *piece;             /* and room for a piece of it */
  nni_error *err;
  int64_t room; /* bytes of elements the file can still hold */
  int64_t version;
  char digest[NNI_DIGEST_TEXT];
} reader;

static void *reader_scratch(void *ud, size_t n) { return nni_arena_get(&((reader *)ud)->a->arena, n); }

/* Note d, without its elements; NULL on failure. */
static nni_array *note_dataset(reader *r, const nni_array *d) {
  nni_array *mine;
  if (nni_archive_add(r->a, d->path, d->dtype, d->ndim, d->shape, NULL, r->err) != NN_OK) return NULL;
  mine = &r->a->arrays[r->a->narrays - 1];
  if ((uint64_t)mine->bytes > (uint64_t)r->room) {
    nni_fail(r->err, NN_EFORMAT, "%.200s claims more elements than the file holds", d->path);
    return NULL;
  }
  r->room -= (int64_t)mine->bytes;
  return mine;
}

static void *reader_dataset(void *ud, const nni_array *d) {
  reader *r = ud;
  nni_array *mine = note_dataset(r, d);
  if (!mine) return NULL;
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

/* The elements come in the order of a sorted archive, so the data set that was noted last has its like in the same place. */
static void *compare_dataset(void *ud, const nni_array *d) {
  reader *r = ud;
  const nni_array *mine = note_dataset(r, d), *like = r->a->narrays <= r->same->narrays ? &r->same->arrays[r->a->narrays - 1] : NULL;
  if (!mine) return NULL;
  if (like && strcmp(like->path, mine->path) == 0 && like->dtype == mine->dtype && like->ndim == mine->ndim && like->bytes == mine->bytes &&
      memcmp(like->shape, mine->shape, sizeof like->shape) == 0)
    return r->piece;
  nni_fail(r->err, NN_EIO, "%.200s reads back differently", d->path);
  return NULL;
}

static bool compare_piece(void *ud, const nni_array *d, size_t at, const void *p, size_t n) {
  const reader *r = ud;
  const nni_array *like = &r->same->arrays[r->a->narrays - 1];
  if (n <= like->bytes && at <= like->bytes - n && (n == 0 || memcmp((const char *)like->data + at, p, n) == 0)) return true;
  nni_fail(r->err, NN_EIO, "%.200s reads back differently", d->path);
  return false;
}

/* Fill r->a from the file. With r->same set only names and attributes stay, and the elements are compared with those of r->same. */
static nn_status read_items(reader *r, const char *path) {
  const nni_h5_host host = {.ud = r, .scratch = reader_scratch, .attr = reader_attr,
                            .dataset = r->same ? compare_dataset : reader_dataset, .piece = r->same ? compare_piece : NULL};
  nn_status s = check_file(path, &r->room, r->a->m, r->err);
  if (s != NN_OK) return s;
  r->version = -1;
  pthread_mutex_lock(&module_lock);
  s = load_module(r->err);
  if (s == NN_OK) s = module->read(path, r->room, &host, r->err);
  pthread_mutex_unlock(&module_lock);
  if (s != NN_OK) return s;
  if (r->version < 0 || !r->digest[0]) return nni_fail(r->err, NN_EFORMAT, "%s: an HDF5 file, but not one that nnlua wrote (no digest)", path);
  if (r->version > ARCHIVE_VERSION)
    return nni_fail(r->err, NN_EFORMAT, "%s: archive version %lld; this nnlua reads versions up to %d", path, (long long)r->version, ARCHIVE_VERSION);
  return NN_OK;
}

nn_status nni_archive_read(nni_archive *a, const char *path, nni_error *err) {
  reader r = {.a = a, .err = err};
  char found[NNI_DIGEST_TEXT];
  nn_status s = read_items(&r, path);
  if (s == NN_OK) s = nni_archive_digest(a, found, err);
  if (s == NN_OK && memcmp(r.digest, found, sizeof found) != 0)
    s = nni_fail(err, NN_EFORMAT, "%s: damaged or changed since it was written: the digest of its content does not match", path);
  if (s != NN_OK) nni_archive_close(a);
  return s;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------------ */
typedef struct writer {
  nni_archive *a;
  const char *path;
  char digest[NNI_DIGEST_TEXT];
  nni_arena scratch;
  nni_sheet sheet;
  int64_t size; /* of the file */
} writer;

static bool writer_put(void *ud, int64_t at, const void *p, size_t n, bool elements) {
  writer *w = ud;
  if (!elements) return nni_sheet_keep(&w->sheet, at, p, n);
  nni_sheet_elements(&w->sheet, at, p, n);
  return true;
}
static void writer_get(void *ud, int64_t at, void *p, size_t n) { nni_sheet_get(&((writer *)ud)->sheet, at, p, n); }
static void *writer_scratch(void *ud, size_t n) { return nni_arena_get(&((writer *)ud)->scratch, n); }

static size_t count_elements(const nni_archive *a) {
  size_t n = 0;
  for (int i = 0; i < a->narrays; i++) n += a->arrays[i].bytes;
  return n;
}

/* At least what a file holds beside its elements: an index entry and a checksum a chunk, generous headers. */
static size_t guess_room(const nni_archive *a) {
  size_t n = (size_t)1 << 18;
  int i, k;
  for (i = 0; i < a->narrays; i++) n += a->arrays[i].bytes / 1024 + 8192 + 64 * strlen(a->arrays[i].path);
  for (i = 0; i < a->nattrs; i++) {
    size_t longest = 1;
    for (k = 0; k < a->attrs[i].n; k++)
      if (strlen(a->attrs[i].texts[k]) > longest) longest = strlen(a->attrs[i].texts[k]);
    n += 2 * longest * (size_t)a->attrs[i].n + 8192 + 64 * strlen(a->attrs[i].path);
  }
  return n;
}

/* Everything but the seal; `full` is the sorted archive with the attributes of its own behind it. */
static nn_status write_content(writer *w, const nni_archive *full, const nni_sink *to, uint32_t *crc, nni_error *err) {
  const nni_h5_host host = {.ud = w, .put = writer_put, .get = writer_get, .stop = &w->sheet.failed, .scratch = writer_scratch};
  nn_status s = to->reserve(to->ud, count_elements(full), err); /* to learn now that the disk is full */
  if (s != NN_OK) return s;
  if (!nni_sheet_open(&w->sheet, full->m, to, guess_room(full))) return nni_fail(err, NN_ENOMEM, "out of memory");
  pthread_mutex_lock(&module_lock);
  s = module->write(full, &host, &w->size, err);
  pthread_mutex_unlock(&module_lock);
  if (w->sheet.failed) {
    if (err) *err = w->sheet.err;
    return w->sheet.err.status;
  }
  if (s == NN_OK) s = to->reserve(to->ud, (size_t)w->size + sizeof(seal), err);
  return s == NN_OK ? nni_sheet_finish(&w->sheet, w->size, crc, err) : s;
}

static nn_status fill_file(void *ud, const nni_sink *to, nni_error *err) {
  writer *w = ud;
  const nni_archive *a = w->a;
  const char *texts[1] = {w->digest};
  nni_archive full = *a;
  uint32_t crc = 0;
  seal end;
  nn_status s;
  full.attrs = nni_malloc(a->m, (size_t)(a->nattrs + 2) * sizeof *full.attrs);
  if (!full.attrs) return nni_fail(err, NN_ENOMEM, "out of memory");
  if (a->nattrs) memcpy(full.attrs, a->attrs, (size_t)a->nattrs * sizeof *full.attrs);
  full.attrs[full.nattrs++] = (nn_attr){.path = "/nnlua", .name = NNI_H5_VERSION, .kind = NN_ATTR_INT, .i = ARCHIVE_VERSION};
  full.attrs[full.nattrs++] = (nn_attr){.path = "/nnlua", .name = NNI_H5_DIGEST, .kind = NN_ATTR_TEXT, .n = 1, .texts = texts};
  nni_arena_init(&w->scratch, a->m);
  s = write_content(w, &full, to, &crc, err);
  nni_sheet_close(&w->sheet);
  nni_arena_close(&w->scratch);
  nni_free(a->m, full.attrs, (size_t)full.nattrs * sizeof *full.attrs);
  if (s != NN_OK) return s;
  make_seal(&end, crc);
  return to->write(to->ud, &end, sizeof end, (size_t)w->size, err);
}

static bool same_attrs(const nni_archive *a, const nni_archive *b) {
  int i, k;
  if (a->nattrs != b->nattrs) return false;
  for (i = 0; i < a->nattrs; i++) {
    const nn_attr *s = &a->attrs[i], *t = &b->attrs[i];
    if (strcmp(s->path, t->path) != 0 || strcmp(s->name, t->name) != 0 || s->kind != t->kind || s->n != t->n || s->i != t->i ||
        memcmp(&s->f, &t->f, sizeof s->f) != 0)
      return false;
    for (k = 0; k < s->n; k++)
      if (strcmp(s->texts[k], t->texts[k]) != 0) return false;
  }
  return true;
}

static nn_status verify_file(void *ud, const char *temporary, nni_error *err) {
  writer *w = ud;
  nni_archive back;
  nni_error why = {NN_OK, ""};
  reader r = {.a = &back, .same = w->a, .err = &why, .piece = nni_buffer_get(w->a->m, NNI_H5_PIECE)};
  nn_status s;
  if (!r.piece) return nni_fail(err, NN_ENOMEM, "%s: cannot save: out of memory", w->path);
  nni_archive_init(&back, w->a->m);
  s = read_items(&r, temporary);
  if (s == NN_OK) s = nni_archive_sort(&back, &why);
  if (s != NN_OK) s = nni_fail(err, s, "%s: cannot save: what was written does not read back: %s", w->path, why.text);
  else if (strcmp(r.digest, w->digest) != 0 || back.narrays != w->a->narrays || !same_attrs(w->a, &back))
    s = nni_fail(err, NN_EIO, "%s: cannot save: what was written reads back differently", w->path);
  nni_archive_close(&back);
  nni_buffer_put(w->a->m, r.piece, NNI_H5_PIECE);
  return s;
}

/* What can be wrong before there is a file. */
static nn_status prepare(writer *w, nni_error *err) {
  nn_status s = nni_archive_digest(w->a, w->digest, err);
  if (s != NN_OK) return s;
  pthread_mutex_lock(&module_lock);
  s = load_module(err);
  pthread_mutex_unlock(&module_lock);
  return s;
}

nn_status nni_archive_write(nni_archive *a, const char *path, nni_error *err) {
  writer w = {.a = a, .path = path};
  const nn_status s = prepare(&w, err);
  return s == NN_OK ? nni_file_replace_by(path, fill_file, verify_file, &w, err) : s;
}

/* ---- into memory ---------------------------------------------------------------------------------------------------------------------- */
typedef struct image {
  nni_memory *m;
  char *p;
  size_t capacity;
} image;

static nn_status image_reserve(void *ud, size_t n, nni_error *err) {
  image *i = ud;
  char *p;
  if (n <= i->capacity) return NN_OK;
  if (!(p = nni_buffer_get(i->m, n))) return nni_fail(err, NN_ENOMEM, "out of memory");
  if (i->p) {
    memcpy(p, i->p, i->capacity);
    nni_buffer_put(i->m, i->p, i->capacity);
  }
  i->p = p;
  i->capacity = n;
  return NN_OK;
}

static nn_status image_write(void *ud, const void *p, size_t n, size_t at, nni_error *err) {
  image *i = ud;
  const nn_status s = image_reserve(ud, at + n, err);
  if (s == NN_OK) memcpy(i->p + at, p, n);
  return s;
}

nn_status nni_archive_image(nni_archive *a, void **p, size_t *capacity, size_t *size, nni_error *err) {
  writer w = {.a = a};
  image i = {.m = a->m};
  const nni_sink to = {&i, image_reserve, image_write};
  nn_status s = prepare(&w, err);
  if (s == NN_OK) s = image_reserve(&i, count_elements(a) + guess_room(a), err); /* once, to copy nothing */
  if (s == NN_OK) s = fill_file(&w, &to, err);
  if (s != NN_OK && i.p) nni_buffer_put(a->m, i.p, i.capacity);
  *p = s == NN_OK ? i.p : NULL;
  *capacity = i.capacity;
  *size = (size_t)w.size + sizeof(seal);
  return s;
}
