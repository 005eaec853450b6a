/* io/archive.c - archives in memory: building, ordering, digest. See archive.h; files are archive_file.c's.
**
** Owns the rules of what a tree may look like, so that everything behind it can rely on them.
*/
#include "archive.h"

#include <sys/types.h> /* sha2.h needs it */

#include <sha2.h>

#include "hdf5_module.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "archives are written as they lie in memory, which must be little-endian"
#endif

static nn_status fail_memory(nni_error *err) { return nni_fail(err, NN_ENOMEM, "archive: out of memory"); }

/* ---- building ------------------------------------------------------------------------------------------------------------ */
void nni_archive_init(nni_archive *a, nni_memory *m) {
  memset(a, 0, sizeof *a);
  a->m = m;
  nni_arena_init(&a->arena, m);
}

void nni_archive_close(nni_archive *a) {
  int i;
  for (i = 0; i < a->narrays; i++)
    if (a->arrays[i].owned) nni_buffer_put(a->m, a->arrays[i].owned, a->arrays[i].bytes);
  nni_free(a->m, a->arrays, (size_t)a->arrays_cap * sizeof *a->arrays);
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
  nni_array *list, d;
  int64_t count;
  memset(&d, 0, sizeof d);
  if (!path_is_good(path)) return nni_fail(err, NN_EINVAL, "archive: bad path '%.100s'", path);
  if (ndim < 0 || ndim > NN_MAXDIM) return nni_fail(err, NN_EINVAL, "archive: %.200s has %d dims, at most %d are possible", path, ndim, NN_MAXDIM);
  if (!nni_size_mul(shape, ndim, nn_dtype_size(dtype), &count)) return nni_fail(err, NN_EINVAL, "archive: %.200s has an impossible shape", path);
  if (a->narrays + a->nattrs >= NNI_ARCHIVE_MAXITEMS) return nni_fail(err, NN_EINVAL, "archive: more than %d items", NNI_ARCHIVE_MAXITEMS);
  if (!(list = grow_list(a->m, a->arrays, a->narrays, &a->arrays_cap, sizeof *list))) return fail_memory(err);
  a->arrays = list;
  if (!(d.path = keep_text(a, path))) return fail_memory(err);
  d.dtype = dtype;
  d.ndim = ndim;
  if (ndim) memcpy(d.shape, shape, (size_t)ndim * sizeof *shape);
  d.bytes = (size_t)count * nn_dtype_size(dtype);
  d.data = data;
  a->arrays[a->narrays++] = d;
  a->sorted = false;
  return NN_OK;
}

nn_status nni_archive_set(nni_archive *a, nn_attr at, nni_error *err) {
  nn_attr *list;
  const char **texts = NULL;
  int i;
  if (strcmp(at.path, "/") != 0 && !path_is_good(at.path)) return nni_fail(err, NN_EINVAL, "archive: bad path '%.100s'", at.path);
  if (!name_is_good(at.name) || strcmp(at.name, NNI_H5_DTYPE) == 0)
    return nni_fail(err, NN_EINVAL, "archive: bad attribute name '%.100s' at %.200s", at.name, at.path);
  if (strcmp(at.path, "/nnlua") == 0 && (strcmp(at.name, NNI_H5_DIGEST) == 0 || strcmp(at.name, NNI_H5_VERSION) == 0))
    return nni_fail(err, NN_EINVAL, "archive: the attribute %s at /nnlua is made by the archive itself", at.name);
  if (a->narrays + a->nattrs >= NNI_ARCHIVE_MAXITEMS) return nni_fail(err, NN_EINVAL, "archive: more than %d items", NNI_ARCHIVE_MAXITEMS);
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
  return nni_archive_set(a, (nn_attr){.path = path, .name = name, .kind = NN_ATTR_TEXT, .n = 1, .texts = &text}, err);
}

nn_status nni_archive_set_texts(nni_archive *a, const char *path, const char *name, int n, const char *const *texts, nni_error *err) {
  return nni_archive_set(a, (nn_attr){.path = path, .name = name, .kind = NN_ATTR_TEXTS, .n = n, .texts = texts}, err);
}

nn_status nni_archive_set_int(nni_archive *a, const char *path, const char *name, int64_t value, nni_error *err) {
  return nni_archive_set(a, (nn_attr){.path = path, .name = name, .kind = NN_ATTR_INT, .i = value}, err);
}

nn_status nni_archive_set_float(nni_archive *a, const char *path, const char *name, double value, nni_error *err) {
  return nni_archive_set(a, (nn_attr){.path = path, .name = name, .kind = NN_ATTR_FLOAT, .f = value}, err);
}

const nni_array *nni_archive_find(const nni_archive *a, const char *path) {
  int i;
  for (i = 0; i < a->narrays; i++)
    if (strcmp(a->arrays[i].path, path) == 0) return &a->arrays[i];
  return NULL;
}

const nn_attr *nni_archive_find_attr(const nni_archive *a, const char *path, const char *name) {
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
  for (; *a && *a == *b; a++, b++) {
  }
  if (*a == *b) return 0;
  if (!*a || !*b) return *a ? 1 : -1;
  if (*a == '/' || *b == '/') return *a == '/' ? -1 : 1;
  return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

static int compare_arrays(const void *a, const void *b) { return compare_paths(((const nni_array *)a)->path, ((const nni_array *)b)->path); }

static int compare_attrs(const void *a, const void *b) {
  const nn_attr *x = a, *y = b;
  const int c = compare_paths(x->path, y->path);
  return c ? c : strcmp(x->name, y->name);
}

bool nni_archive_next(nni_archive_walk *w, const nni_array **d, const nn_attr **at) {
  *d = w->d < w->a->narrays ? &w->a->arrays[w->d] : NULL;
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
  union {
    nni_array d;
    nn_attr t;
  } tmp;
  const nni_array *d, *last = NULL;
  const nn_attr *at, *last_attr = NULL;
  nni_archive_walk w = {a, 0, 0};
  if (a->sorted) return NN_OK;
  sort_list(a->arrays, (size_t)a->narrays, sizeof *a->arrays, compare_arrays, (char *)&tmp);
  sort_list(a->attrs, (size_t)a->nattrs, sizeof *a->attrs, compare_attrs, (char *)&tmp);
  while (nni_archive_next(&w, &d, &at)) {
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

static void hash_attr(SHA2_CTX *c, const nn_attr *at) {
  const char kind = (char)at->kind;
  int i;
  hash_bytes(c, "A", 1);
  hash_text(c, at->path);
  hash_text(c, at->name);
  hash_bytes(c, &kind, 1);
  if (at->kind == NN_ATTR_INT) hash_i64(c, at->i);
  else if (at->kind == NN_ATTR_FLOAT) hash_bytes(c, &at->f, sizeof at->f);
  else {
    hash_i64(c, at->n);
    for (i = 0; i < at->n; i++) hash_text(c, at->texts[i]);
  }
}

nn_status nni_archive_digest(nni_archive *a, char hex[NNI_DIGEST_TEXT], nni_error *err) {
  static const char digits[] = "0123456789abcdef";
  SHA2_CTX c;
  uint8_t sum[SHA256_DIGEST_LENGTH];
  const nni_array *d;
  const nn_attr *at;
  nni_archive_walk w = {a, 0, 0};
  int i;
  const nn_status s = nni_archive_sort(a, err);
  if (s != NN_OK) return s;
  SHA256Init(&c);
  hash_text(&c, "nnlua archive 1");
  while (nni_archive_next(&w, &d, &at)) {
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
