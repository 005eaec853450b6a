/* tests/c/test_data.c - runtime/data and runtime/io: IDX files, downloads without a network, digits, and the data-set engine against plain loops.
** Prints a line per failed check. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include "base/base.h"
#include "base/check.h"
#include "data/dataset.h"
#include "data/digits.h"
#include "io/download.h"
#include "io/idx.h"

static int failures;
static bool check(bool ok, const char *what, int line) {
  if (!ok && ++failures <= 50) printf("tests/c/test_data.c:%d: failed: %s\n", line, what);
  return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

static nni_memory *mem;
static nni_error err;
static char folder[] = "/tmp/nn_test_data_XXXXXX";

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool all_returned(nni_memory *m) {
  nni_memory_check c = nni_memory_inspect(m);
  if (c.small != 0 || c.buffers != 0 || c.damaged != 0) printf("  %zu small bytes, %zu buffers, %zu damaged\n", c.small, c.buffers, c.damaged);
  return c.small == 0 && c.buffers == 0 && c.damaged == 0;
}

static int thread_count(void) {
  FILE *f = fopen("/proc/self/status", "r");
  char line[200];
  int n = -1;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) sscanf(line, "Threads: %d", &n);
  if (f != NULL) fclose(f);
  return n;
}

/* ---- IDX ---------------------------------------------------------------------------------------------------------------- */

static const char *path_of(const char *name) {
  static char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static const char *put(const char *name, const void *data, size_t n) {
  const char *path = path_of(name);
  FILE *f = fopen(path, "wb");
  if (f == NULL || fwrite(data, 1, n, f) != n) printf("can't write %s\n", path);
  if (f != NULL) fclose(f);
  return path;
}

/* data as gzip into out; returns its length */
static size_t zip(const void *data, size_t n, uint8_t *out, size_t cap) {
  z_stream z = {0};
  deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = (Bytef *)(uintptr_t)data;
  z.avail_in = (uInt)n;
  z.next_out = out;
  z.avail_out = (uInt)cap;
  deflate(&z, Z_FINISH);
  size_t k = cap - z.avail_out;
  deflateEnd(&z);
  return k;
}

static bool fails_kind(const char *path, nni_idx_type type, int ndim, nn_status status, const char *text) {
  nni_idx x;
  char want[1200];
  snprintf(want, sizeof want, "%s: %s", path, text);
  nn_status rc = nni_idx_read(mem, path, type, ndim, &x, &err);
  bool ok = rc == status && strcmp(err.text, want) == 0 && x.buffer == NULL;
  if (!ok) printf("  status %d, \"%s\"\n  expected %d, \"%s\"\n", rc, err.text, status, want);
  nni_idx_free(mem, &x);
  return ok && all_returned(mem);
}
static bool fails(const char *path, nn_status status, const char *text) { return fails_kind(path, NNI_IDX_ANY, 0, status, text); }

static void test_idx_types(void) {
  static const uint8_t u8[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 254, 255, 0};
  static const uint8_t i8[] = {0, 0, 9, 1, 0, 0, 0, 3, 0x80, 0xff, 0x7f};
  static const uint8_t i16[] = {0, 0, 0x0b, 1, 0, 0, 0, 3, 0x80, 0x00, 0xff, 0xfe, 0x01, 0x02};
  static const uint8_t i32[] = {0, 0, 0x0c, 1, 0, 0, 0, 2, 0x80, 0, 0, 0, 1, 2, 3, 4};
  static const uint8_t f32[] = {0, 0, 0x0d, 1, 0, 0, 0, 2, 0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0};
  static const uint8_t f64[] = {0, 0, 0x0e, 1, 0, 0, 0, 2, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 4, 0, 0, 0, 0, 0, 0};
  static const uint8_t none[] = {0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3};
  static const uint8_t want_u8[] = {1, 2, 3, 254, 255, 0};
  static const int32_t want_i8[] = {-128, -1, 127}, want_i16[] = {-32768, -2, 258}, want_i32[] = {INT32_MIN, 0x01020304};
  static const float want_f32[] = {1.0f, -2.5f}, want_f64[] = {1.5f, -2.5f};
#define ROW(file, dt, dims, want) {#file, file, sizeof file, dt, dims, want, sizeof want}
  static const struct { const char *name; const void *file; size_t bytes; nn_dtype dtype; int ndim; const void *want; size_t n; } rows[] = {
    ROW(u8, NN_U8, 2, want_u8),    ROW(i8, NN_I32, 1, want_i8),   ROW(i16, NN_I32, 1, want_i16),
    ROW(i32, NN_I32, 1, want_i32), ROW(f32, NN_F32, 1, want_f32), ROW(f64, NN_F32, 1, want_f64),
  };
  for (int gz = 0; gz < 2; gz++) {
    for (int i = 0; i < NNI_COUNT(rows); i++) {
      uint8_t z[200];
      const char *path = gz ? put("typed", z, zip(rows[i].file, rows[i].bytes, z, sizeof z)) : put("typed.gz", rows[i].file, rows[i].bytes);
      nni_idx x;
      if (!CHECK(nni_idx_read(mem, path, NNI_IDX_ANY, 0, &x, &err) == NN_OK)) {
        printf("  %s: %s\n", rows[i].name, err.text);
        continue;
      }
      CHECK(x.dtype == rows[i].dtype && x.ndim == rows[i].ndim && x.bytes == rows[i].n && memcmp(x.buffer, rows[i].want, x.bytes) == 0);
      CHECK(i > 0 || (x.shape[0] == 2 && x.shape[1] == 3));
      nni_idx_free(mem, &x);
    }
  }
  nni_idx x;
  CHECK(nni_idx_read(mem, put("none", none, sizeof none), NNI_IDX_U8, 2, &x, &err) == NN_OK && x.bytes == 0 && x.shape[0] == 0);
  nni_idx_free(mem, &x);
  CHECK(all_returned(mem));
}

static void test_idx_plain_errors(void) {
  static const uint8_t good[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8};
  static const uint8_t png[] = {0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10};
  static const uint8_t huge[] = {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
  static const uint8_t liar[] = {0, 0, 8, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4};
  CHECK(fails(path_of("absent"), NN_ENOTFOUND, "No such file or directory"));
  CHECK(fails(folder, NN_EIO, "is a folder"));
  CHECK(fails(put("a", good, 0), NN_EFORMAT, "truncated: 0 bytes, an IDX file has at least 8"));
  CHECK(fails(put("a", good, 7), NN_EFORMAT, "truncated: 7 bytes, the header alone has 12"));
  CHECK(fails(put("a", good, 15), NN_EFORMAT, "truncated: 3 bytes of data, expected 6"));
  CHECK(fails(put("a", good, 20), NN_EFORMAT, "corrupt: 2 bytes follow the 6 bytes of data expected"));
  CHECK(fails_kind(put("a", png, 8), NNI_IDX_U8, 3, NN_EFORMAT, "not an IDX file: first bytes 89 50 4e 47, expected 00 00 08 03"));
  CHECK(fails(put("a", png, 8), NN_EFORMAT, "not an IDX file: first bytes 89 50 4e 47, expected 00 00, a type (08 09 0b 0c 0d 0e), 01 to 08"));
  CHECK(fails_kind(put("a", good, 18), NNI_IDX_U8, 3, NN_EFORMAT,
                   "not an IDX file of the kind asked for: first bytes 00 00 08 02, expected 00 00 08 03"));
  CHECK(fails(put("a", huge, sizeof huge), NN_EFORMAT, "corrupt: sizes 4294967295x4294967295x4294967295 are more than memory can hold"));
  CHECK(fails(put("a", liar, sizeof liar), NN_EFORMAT, "truncated: 4 bytes of data, expected 1099511627776"));
}

static void test_idx_gz_errors(void) {
  static uint8_t file[8 + 3000], z[8000], two[8000];
  uint8_t head[] = {0, 0, 8, 1, 0, 0, 0x0b, 0xb8};
  memcpy(file, head, sizeof head);
  for (int i = 0; i < 3000; i++) file[8 + i] = (uint8_t)(i * i >> 3 ^ i * 7);
  size_t n = zip(file, sizeof file, z, sizeof z);
  nni_idx x;
  CHECK(nni_idx_read(mem, put("g.gz", z, n), NNI_IDX_U8, 1, &x, &err) == NN_OK && memcmp(x.buffer, file + 8, 3000) == 0);
  nni_idx_free(mem, &x);
  CHECK(fails(put("g.gz", z, n - 4), NN_EFORMAT, "truncated: the gzip data has no end"));
  CHECK(nni_idx_read(mem, put("g.gz", z, n / 2), NNI_IDX_U8, 1, &x, &err) == NN_EFORMAT && strstr(err.text, " bytes of data, expected 3000") != NULL &&
        strstr(err.text, "g.gz: truncated: ") != NULL);
  memcpy(two, z, n);
  two[n - 6] ^= 1; /* the CRC */
  CHECK(fails(put("g.gz", two, n), NN_EFORMAT, "corrupt gzip data after 3008 bytes: incorrect data check"));
  memcpy(two, z, n);
  memcpy(two + n, "rubbish", 7);
  CHECK(fails(put("g.gz", two, n + 7), NN_EFORMAT, "corrupt gzip data: something follows its end"));
  for (size_t i = 0; i < n; i++) { /* any flipped bit is noticed, but for the header fields that mean nothing */
    memcpy(two, z, n);
    two[i] ^= (uint8_t)(1u << (i % 8));
    nn_status rc = nni_idx_read(mem, put("g.gz", two, n), NNI_IDX_U8, 1, &x, &err);
    if (!CHECK(rc == NN_EFORMAT || (rc == NN_OK && i < 10 && memcmp(x.buffer, file + 8, 3000) == 0))) printf("  byte %zu: %d\n", i, rc);
    nni_idx_free(mem, &x);
  }
  size_t a = zip(file, 1000, two, sizeof two), b = zip(file + 1000, sizeof file - 1000, two + a, sizeof two - a); /* two members */
  CHECK(nni_idx_read(mem, put("g.gz", two, a + b), NNI_IDX_U8, 1, &x, &err) == NN_OK && memcmp(x.buffer, file + 8, 3000) == 0);
  nni_idx_free(mem, &x);
  file[5] = file[6] = 255; /* says 16 million bytes; so small a file can't hold them */
  n = zip(file, sizeof file, z, sizeof z);
  char text[200];
  snprintf(text, sizeof text, "truncated: %zu gzipped bytes can't hold the 16777144 bytes of data expected", n);
  CHECK(fails(put("g.gz", z, n), NN_EFORMAT, text));
  file[5] = 0;
  file[6] = 0x0b, file[7] = 0xb7; /* says one less */
  n = zip(file, sizeof file, z, sizeof z);
  CHECK(fails(put("g.gz", z, n), NN_EFORMAT, "corrupt: 1 bytes follow the 2999 bytes of data expected"));
  CHECK(all_returned(mem));
}

/* A gzipped file that expands more than 16 times: its buffer grows as the data come. */
static void test_idx_growth(void) {
  size_t bytes = 20u << 20;
  uint8_t *file = calloc(1, bytes + 8), *z = malloc(bytes);
  file[2] = 8, file[3] = 1, file[4] = 1, file[5] = 0x40;
  for (size_t i = 0; i < bytes; i += 4099) file[8 + i] = (uint8_t)i;
  size_t n = zip(file, bytes + 8, z, bytes);
  nni_idx x;
  CHECK(n * 16 < bytes && nni_idx_read(mem, put("big.gz", z, n), NNI_IDX_U8, 1, &x, &err) == NN_OK);
  CHECK(x.bytes == bytes && x.buffer != NULL && memcmp(x.buffer, file + 8, bytes) == 0);
  nni_idx_free(mem, &x);
  CHECK(all_returned(mem));
  free(file);
  free(z);
}

/* ---- download ------------------------------------------------------------------------------------------------------------ */

/* No name server is asked: these fail at once wherever they run. */
static void test_download(void) {
  static const struct { const char *url, *part; } rows[] = {
    {"http://127.0.0.1:9/x", "not supported or disabled"},
    {"https://127.0.0.1:9/x", "127.0.0.1 port 9"},
    {"file:///etc/hostname", "not supported or disabled"},
  };
  char dest[200];
  snprintf(dest, sizeof dest, "%s/new/folder/x.gz", folder);
  for (int i = 0; i < NNI_COUNT(rows); i++) {
    double t = now();
    nn_download d = {.url = rows[i].url, .dest = dest, .limit = 1000};
    nn_status rc = nni_download_run(&d, &err);
    if (!CHECK(rc == NN_EIO && strstr(err.text, rows[i].part) != NULL && strncmp(err.text, rows[i].url, strlen(rows[i].url)) == 0))
      printf("  %d: %s\n", rc, err.text);
    CHECK(now() - t < 12 && access(dest, F_OK) != 0);
  }
  struct stat st;
  CHECK(stat(path_of("new"), &st) == 0 && (st.st_mode & 0777) == 0700);
  CHECK(rmdir(path_of("new/folder")) == 0 && rmdir(path_of("new")) == 0); /* no temporary file stayed */
}

/* ---- digits ---------------------------------------------------------------------------------------------------------------- */

static void test_digits(void) {
  enum { N = 2000, P = NNI_DIGIT_SIDE * NNI_DIGIT_SIDE };
  static uint8_t a[N * P], b[N * P], la[N], lb[N];
  nni_threads *one = nni_threads_open(mem, 1), *three = nni_threads_open(mem, 3);
  nni_digits(one, 7, 0, N, a, la);
  nni_digits(three, 7, 0, N, b, lb);
  CHECK(memcmp(a, b, sizeof a) == 0 && memcmp(la, lb, sizeof la) == 0);
  nni_digits(three, 7, 500, 100, b, lb); /* a part is the same part */
  CHECK(memcmp(a + 500 * P, b, 100 * P) == 0 && memcmp(la + 500, lb, 100) == 0);
  nni_digits(three, 8, 0, N, b, lb);
  CHECK(memcmp(a, b, sizeof a) != 0 && memcmp(la, lb, sizeof la) != 0);
  int count[10] = {0}, odd = 0;
  for (int i = 0; i < N; i++) {
    int ink = 0, edge = 0;
    count[la[i] < 10 ? la[i] : 0]++;
    for (int k = 0; k < P; k++) ink += a[i * P + k] > 100;
    for (int k = 0; k < NNI_DIGIT_SIDE; k++) edge += a[i * P + k] > 100;
    odd += ink < 15 || ink > 350 || edge > 4;
  }
  for (int d = 0; d < 10; d++) CHECK(count[d] > N / 10 - 70 && count[d] < N / 10 + 70); /* five standard deviations */
  CHECK(odd < N / 200);
  nni_threads_close(one);
  nni_threads_close(three);
  CHECK(all_returned(mem));
}

/* ---- data sets: building blocks ------------------------------------------------------------------------------------------------ */

/* Verbs consume the data set that they are given here, so that chains are easy to write. */
static nni_dataset *then(nni_dataset *made, nni_dataset *up) {
  nni_dataset_release(up);
  return made;
}
static nni_dataset *range(int64_t n) { return nni_data_range(mem, 0, 1, n, &err); }
static nni_dataset *shuffle(nni_dataset *d, int64_t b, uint64_t seed) { return then(nni_data_shuffle(d, b, seed, true, &err), d); }
static nni_dataset *batch(nni_dataset *d, int64_t n, bool drop) { return then(nni_data_batch(d, n, drop, &err), d); }
static nni_dataset *repeated(nni_dataset *d, int64_t n) { return then(nni_data_repeated(d, n, &err), d); }
static nni_dataset *take(nni_dataset *d, int64_t n) { return then(nni_data_take(d, n, &err), d); }
static nni_dataset *skip(nni_dataset *d, int64_t n) { return then(nni_data_skip(d, n, &err), d); }
static nni_dataset *prefetch(nni_dataset *d, int64_t n) { return then(nni_data_prefetch(d, n, -1, &err), d); }

/* Times three, in the buffers of `in`; a negative number is an error. */
static nn_status triple(void *caller, void *ud, nni_element *in, nni_element *out, nni_error *e) {
  (void)caller, (void)ud;
  int64_t n = (int64_t)(in->c[0].bytes / sizeof(int64_t)), *v = in->c[0].buffer;
  for (int64_t i = 0; i < n; i++) {
    if (v[i] < 0) return nni_fail(e, NN_EINVAL, "map: %lld is negative", (long long)v[i]);
    v[i] *= 3;
  }
  *out = *in;
  in->n = 0;
  return NN_OK;
}
static nni_dataset *map(nni_dataset *d) { return then(nni_data_map(d, triple, NULL, 0, &err), d); }

/* All numbers that come, at most max; -1 in *ok on failure. Each element ends with the marker -9. */
static int drain(nni_iter *it, int64_t *out, int max, bool *ok) {
  int n = 0;
  nni_element e;
  while ((*ok = nni_iter_next(it, NULL, &e, &err) == NN_OK) && e.n > 0) {
    int64_t k = (int64_t)(e.c[0].bytes / sizeof(int64_t));
    for (int64_t i = 0; i < k && n < max; i++) out[n++] = ((int64_t *)e.c[0].buffer)[i];
    if (n < max) out[n++] = -9;
    nni_element_free(mem, &e);
    if (n == max) break;
  }
  return n;
}

static int pass(nni_dataset *d, int64_t *out, int max) {
  bool ok;
  nni_iter *it = nni_iter_open(d, &err);
  int n = drain(it, out, max, &ok);
  CHECK(ok);
  nni_iter_close(it);
  return n;
}

/* d gives these numbers (-9 after each element) and says so beforehand; d is released. */
static bool gives(nni_dataset *d, const int64_t *want, int n) {
  int64_t got[400];
  int k = pass(d, got, 400), elements = 0;
  for (int i = 0; i < k; i++) elements += got[i] == -9;
  bool ok = k == n && (n == 0 || memcmp(got, want, (size_t)n * sizeof *got) == 0) && nni_dataset_cardinality(d) == elements;
  for (int i = 0; !ok && i < k; i++) printf("%s%lld%s", i > 0 ? " " : "  got ", (long long)got[i], i + 1 < k ? "" : "\n");
  nni_dataset_release(d);
  return ok;
}
#define GIVES(d, ...) CHECK(gives((d), (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)))
#define NOTHING(d) CHECK(gives((d), NULL, 0))

static void test_verbs(void) {
  GIVES(range(3), 0, -9, 1, -9, 2, -9);
  GIVES(batch(range(5), 2, false), 0, 1, -9, 2, 3, -9, 4, -9);
  GIVES(batch(range(5), 2, true), 0, 1, -9, 2, 3, -9);
  GIVES(batch(range(4), 2, false), 0, 1, -9, 2, 3, -9);
  GIVES(batch(range(2), 1000000000, false), 0, 1, -9);
  NOTHING(batch(range(2), 3, true));
  NOTHING(batch(range(0), 3, false));
  GIVES(take(range(5), 2), 0, -9, 1, -9);
  GIVES(take(range(2), 5), 0, -9, 1, -9);
  NOTHING(take(range(2), 0));
  GIVES(skip(range(4), 2), 2, -9, 3, -9);
  NOTHING(skip(range(4), 9));
  GIVES(batch(skip(take(range(600), 303), 300), 2, false), 300, 301, -9, 302, -9);
  GIVES(repeated(range(2), 2), 0, -9, 1, -9, 0, -9, 1, -9);
  GIVES(batch(repeated(range(2), 2), 3, false), 0, 1, 0, -9, 1, -9);
  GIVES(repeated(batch(range(3), 2, false), 2), 0, 1, -9, 2, -9, 0, 1, -9, 2, -9);
  GIVES(take(repeated(range(2), -1), 3), 0, -9, 1, -9, 0, -9);
  NOTHING(repeated(range(0), -1));
  NOTHING(repeated(range(3), 0));
  NOTHING(repeated(take(batch(range(3), 2, false), 0), -1));
  GIVES(repeated(skip(take(batch(range(9), 2, false), 3), 1), 2), 2, 3, -9, 4, 5, -9, 2, 3, -9, 4, 5, -9);
  GIVES(map(batch(range(3), 2, false)), 0, 3, -9, 6, -9);
  GIVES(batch(map(range(5)), 2, false), 0, 3, -9, 6, 9, -9, 12, -9);
  GIVES(batch(map(range(5)), 2, true), 0, 3, -9, 6, 9, -9);
  GIVES(prefetch(batch(range(5), 2, false), 2), 0, 1, -9, 2, 3, -9, 4, -9);
  GIVES(prefetch(prefetch(batch(map(range(3)), 2, false), 1), 3), 0, 3, -9, 6, -9);
  GIVES(take(prefetch(prefetch(repeated(batch(range(3), 2, false), -1), 1), 3), 3), 0, 1, -9, 2, -9, 0, 1, -9);
  GIVES(repeated(take(prefetch(batch(range(9), 2, false), 2), 1), 3), 0, 1, -9, 0, 1, -9, 0, 1, -9);
  GIVES(nni_data_range(mem, 5, -2, 3, &err), 5, -9, 3, -9, 1, -9);
  nni_dataset *big = batch(map(range(3000)), 2900, false); /* the buffer of a batch of elements grows */
  int64_t got[3002];
  CHECK(pass(big, got, 3002) == 3002 && got[2899] == 3 * 2899 && got[2900] == -9 && got[3000] == 3 * 2999);
  nni_dataset_release(big);

  nni_dataset *d = batch(repeated(range(3), -1), 4, false);
  CHECK(nni_dataset_cardinality(d) == NN_INFINITE);
  char text[100];
  CHECK(nni_dataset_describe(d, text, sizeof text) == 34 && strcmp(text, "range(0 1 3) repeated(-1) batch(4)") == 0);
  CHECK(nni_dataset_describe(d, text, 9) > 9 && strcmp(text, "range(0 ") == 0);
  nni_dataset_release(d);
  CHECK(nni_data_batch(NULL, 0, false, &err) == NULL && strcmp(err.text, "batch: batches of 0; at least 1") == 0);
  CHECK(all_returned(mem));
}

static int dropped;
static void count_drop(void *owner) { dropped += owner != NULL; }

/* Several arrays of several dtypes, rows in shuffled batches: rows of all arrays stay together. */
static void test_columns(void) {
  enum { N = 1000 };
  static float x[N][3];
  static uint8_t y[N];
  dropped = 0;
  for (int i = 0; i < N; i++) {
    for (int k = 0; k < 3; k++) x[i][k] = (float)(10 * i + k);
    y[i] = (uint8_t)(i % 251);
  }
  nni_column cols[2] = {{.dtype = NN_F32, .ndim = 1, .shape = {3}, .data = x}, {.dtype = NN_U8, .data = y, .owner = y, .drop = count_drop}};
  nni_dataset *d = nni_data_columns(mem, N, 2, cols, &err);
  d = batch(shuffle(d, 300, 5), 64, false);
  const nni_element *spec = nni_dataset_spec(d);
  CHECK(spec->n == 2 && spec->c[0].dtype == NN_F32 && spec->c[0].ndim == 2 && spec->c[0].shape[0] == 64 && spec->c[0].shape[1] == 3);
  CHECK(spec->c[1].dtype == NN_U8 && spec->c[1].ndim == 1 && spec->c[1].shape[0] == 64);
  nni_iter *it = nni_iter_open(d, &err);
  nni_element e;
  int n = 0, seen[N] = {0}, wrong = 0;
  while (nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n > 0) {
    const float *ex = e.c[0].buffer;
    const uint8_t *ey = e.c[1].buffer;
    CHECK(e.c[0].shape[0] == (n + 64 <= N ? 64 : N % 64) && e.c[1].bytes == (size_t)e.c[0].shape[0]);
    for (int64_t i = 0; i < e.c[0].shape[0]; i++, n++) {
      int row = (int)ex[3 * i] / 10;
      seen[row]++;
      wrong += ex[3 * i + 2] != (float)(10 * row + 2) || ey[i] != row % 251;
    }
    nni_element_free(mem, &e);
  }
  for (int i = 0; i < N; i++) wrong += seen[i] != 1;
  CHECK(n == N && wrong == 0);
  nni_iter_close(it);
  nni_dataset_release(d);
  CHECK(dropped == 1);
  CHECK(all_returned(mem));
}

/* ---- shuffle ---------------------------------------------------------------------------------------------------------------- */

static void test_shuffle(void) {
  int64_t a[2000], b[2000];
  for (int elements = 0; elements < 2; elements++) { /* over rows and over elements: the same order */
    nni_dataset *d = shuffle(elements ? take(prefetch(range(500), 1), 500) : range(500), 60, 9);
    CHECK(pass(d, elements ? b : a, 2000) == 1000);
    nni_dataset_release(d);
  }
  CHECK(memcmp(a, b, 1000 * sizeof *a) == 0);
  int seen[500] = {0}, moved = 0, early = 0;
  for (int i = 0; i < 1000; i += 2) {
    seen[a[i]]++;
    moved += a[i] != i / 2;
    early += a[i] > i / 2 + 59; /* the buffer holds the next 60 only */
  }
  for (int i = 0; i < 500; i++) CHECK(seen[i] == 1);
  CHECK(moved > 450 && early == 0);

  nni_dataset *d = shuffle(range(500), 500, 9), *e = shuffle(range(500), 1000000, 9), *f = prefetch(shuffle(range(500), 500, 9), 7);
  for (int epoch = 0; epoch < 3; epoch++) { /* equal seeds, equal epochs; each epoch another order; a bigger buffer or a worker change nothing */
    int64_t last[2000];
    memcpy(last, a, sizeof a);
    CHECK(pass(d, a, 2000) == 1000 && memcmp(a, last, 1000 * sizeof *a) != 0);
    CHECK(pass(e, b, 2000) == 1000 && memcmp(a, b, 1000 * sizeof *a) == 0);
    CHECK(pass(f, b, 2000) == 1000 && memcmp(a, b, 1000 * sizeof *a) == 0);
  }
  nni_dataset_release(d);
  nni_dataset_release(e);
  nni_dataset_release(f);

  d = range(100);
  e = nni_data_shuffle(d, 100, 9, false, &err); /* without reshuffling all passes are equal */
  CHECK(pass(e, a, 2000) == 200 && pass(e, b, 2000) == 200 && memcmp(a, b, 200 * sizeof *a) == 0);
  nni_dataset_release(d);
  nni_dataset_release(e);
  d = repeated(shuffle(range(50), 50, 3), 2);
  CHECK(pass(d, a, 2000) == 200 && memcmp(a, a + 100, 100 * sizeof *a) != 0);
  nni_dataset_release(d);

  enum { PASSES = 24000 }; /* all 24 orders of four are as likely: chi-square, 23 degrees of freedom, p = 1e-6 at 71 */
  int count[256] = {0};
  double chi = 0;
  d = shuffle(range(4), 4, 1);
  for (int i = 0; i < PASSES; i++) {
    pass(d, a, 8);
    count[a[0] << 6 | a[2] << 4 | a[4] << 2 | a[6]]++;
  }
  int orders = 0;
  for (int i = 0; i < 256; i++) {
    orders += count[i] > 0;
    if (count[i] > 0) chi += (count[i] - PASSES / 24.0) * (count[i] - PASSES / 24.0) / (PASSES / 24.0);
  }
  if (!CHECK(orders == 24 && chi < 71)) printf("  %d orders, chi-square %.1f\n", orders, chi);
  nni_dataset_release(d);
  CHECK(all_returned(mem));
}

/* ---- state ------------------------------------------------------------------------------------------------------------------- */

static nni_dataset *pipeline(int kind, uint64_t seed) {
  switch (kind) {
    case 0: return range(23);
    case 1: return batch(shuffle(range(23), 10, seed), 4, false);
    case 2: return prefetch(batch(shuffle(range(23), 100, seed), 4, true), 3);
    case 3: return batch(repeated(shuffle(skip(range(12), 3), 5, seed), 3), 4, false);
    case 4: return prefetch(repeated(shuffle(batch(shuffle(range(13), 13, seed), 2, false), 3, seed + 1), 3), 2);
    case 5: return repeated(take(prefetch(repeated(batch(shuffle(range(6), 6, seed), 2, false), -1), 2), 5), 3);
    case 6: return batch(shuffle(map(shuffle(range(20), 7, seed)), 9, seed + 4), 3, false);
    case 7: return skip(take(shuffle(repeated(range(5), 5), 8, seed), 20), 3);
    default: return NULL;
  }
}

/* After every number of elements: save, make the pipeline anew with another seed, restore, and go on as if nothing had been. */
static void test_state(void) {
  for (int kind = 0; kind < 8; kind++) {
    int64_t all[400], second[400], third[400], rest[400], words[200];
    nni_dataset *d = pipeline(kind, 5);
    int n = pass(d, all, 400), n2 = pass(d, second, 400), n3 = pass(d, third, 400), bad = 0;
    nni_dataset_release(d);
    for (int stop = 0; stop < n; stop++) {
      bool ok;
      d = pipeline(kind, 5);
      nni_iter *it = nni_iter_open(d, &err), *back = NULL;
      int at = 0;
      for (int i = 0; i < stop; i++) {
        nni_element e;
        CHECK(nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n == 1);
        at += (int)(e.c[0].bytes / 8) + 1;
        nni_element_free(mem, &e);
      }
      CHECK(nni_state_words(d) <= 200 && nni_state_save(d, it, words) == nni_state_words(d));
      nni_dataset *again = pipeline(kind, 77);
      if (!CHECK(nni_state_restore(again, NULL, words, nni_state_words(again), &back, &err) == NN_OK && back != NULL)) printf("  %s\n", err.text);
      int k = drain(back, rest, 400, &ok);
      bad += !ok || k != n - at || memcmp(rest, all + at, (size_t)k * 8) != 0;
      nni_iter_close(back);
      k = pass(again, rest, 400); /* the pass after it is the second one */
      bad += k != n2 || memcmp(rest, second, (size_t)k * 8) != 0;
      nni_state_save(again, NULL, words); /* between passes */
      nni_dataset *more = pipeline(kind, 78);
      CHECK(nni_state_restore(more, NULL, words, nni_state_words(more), &back, &err) == NN_OK && back == NULL);
      k = pass(more, rest, 400);
      bad += k != n3 || memcmp(rest, third, (size_t)k * 8) != 0;
      nni_iter_close(it);
      nni_dataset_release(d);
      nni_dataset_release(again);
      nni_dataset_release(more);
      if (at == n) break;
    }
    if (!CHECK(bad == 0)) printf("  pipeline %d: %d of %d\n", kind, bad, n);
  }
  nni_dataset *d = pipeline(1, 1);
  nni_iter *it;
  int64_t words[200] = {1, 1};
  CHECK(nni_state_restore(d, NULL, words, 3, &it, &err) == NN_EFORMAT && it == NULL);
  words[2] = 999;
  CHECK(nni_state_restore(d, NULL, words, nni_state_words(d), &it, &err) == NN_EFORMAT && it == NULL &&
        strcmp(err.text, "data set: the state stands at row 999 of 23") == 0);
  words[2] = 0;
  words[6] = 24;
  CHECK(nni_state_restore(d, NULL, words, nni_state_words(d), &it, &err) == NN_EFORMAT && it == NULL &&
        strcmp(err.text, "shuffle: the state stands at element 24; there are 23") == 0);
  words[0] = 2;
  CHECK(nni_state_restore(d, NULL, words, nni_state_words(d), &it, &err) == NN_EFORMAT && it == NULL);
  nni_dataset_release(d);
  CHECK(all_returned(mem));
}

/* ---- workers and failures -------------------------------------------------------------------------------------------------------- */

static void test_workers(void) {
  int threads = thread_count();
  nni_dataset *d = prefetch(batch(shuffle(repeated(range(1000), -1), 100, 1), 32, false), 4);
  for (int i = 0; i < 200; i++) {
    nni_element e;
    nni_iter *it = nni_iter_open(d, &err);
    for (int k = 0; k < i % 5; k++) {
      CHECK(nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n == 1);
      nni_element_free(mem, &e);
    }
    nni_iter_close(it);
  }
  CHECK(thread_count() == threads);
  nni_dataset_release(d);

  for (int k = 0; k < 4; k++) { /* a worker exactly where it is worth one: 2 of 3 rows are 16 of 24 bytes */
    int64_t rows = k < 2 ? 3 : 2, worth = k % 2 == 0 ? 16 : 24;
    d = batch(range(10), rows, false);
    d = then(nni_data_prefetch(d, 2, worth, &err), d);
    nni_iter *it = nni_iter_open(d, &err);
    nni_element e;
    CHECK(nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n == 1 && thread_count() == threads + (rows * 8 > worth));
    nni_element_free(mem, &e);
    nni_iter_close(it);
    nni_dataset_release(d);
  }

  d = map(nni_data_range(mem, 2, -1, 10, &err)); /* 2 1 0 -1: the fourth fails, after that there is nothing */
  d = prefetch(d, 2);
  nni_iter *it = nni_iter_open(d, &err);
  int64_t got[20];
  bool ok;
  err.text[0] = 0;
  CHECK(drain(it, got, 20, &ok) == 6 && !ok && strcmp(err.text, "map: -1 is negative") == 0 && nni_iter_done(it));
  CHECK(drain(it, got, 20, &ok) == 0 && ok);
  nni_iter_close(it);
  nni_dataset_release(d);
  CHECK(all_returned(mem));
}

/* An allocator whose N-th call fails. */
static atomic_long calls, fail_at;
static void *flaky(void *ud, void *p, size_t osize, size_t nsize) {
  (void)ud, (void)osize;
  if (nsize == 0) {
    free(p);
    return NULL;
  }
  if (atomic_fetch_add(&calls, 1) + 1 == atomic_load(&fail_at)) return NULL;
  return realloc(p, nsize);
}

/* A worker's failure reaches the consumer; nothing leaks whichever allocation fails. */
static void test_out_of_memory(void) {
  bool finished = false, failed_in_pass = false;
  for (long n = 1; n < 500 && !finished; n++) {
    atomic_store(&calls, 0);
    atomic_store(&fail_at, 0);
    nni_memory *m = nni_memory_open(flaky, NULL), *old = mem;
    mem = m;
    atomic_store(&calls, 0);
    atomic_store(&fail_at, n);
    nni_dataset *d = nni_data_range(mem, 0, 1, 2000, &err), *e;
    for (int k = 0; k < 4 && d != NULL; k++) {
      e = k == 0 ? nni_data_shuffle(d, 600, 1, true, &err) : k == 1 ? nni_data_batch(d, 300, false, &err)
        : k == 2 ? nni_data_shuffle(d, 3, 2, true, &err) : nni_data_prefetch(d, 2, -1, &err);
      d = then(e, d);
    }
    nni_iter *it = d != NULL ? nni_iter_open(d, &err) : NULL;
    int64_t got[2100];
    bool ok = false;
    int k = it != NULL ? drain(it, got, 2100, &ok) : 0;
    finished = ok && k == 2007 && atomic_load(&calls) < n;
    failed_in_pass = failed_in_pass || (it != NULL && !ok);
    CHECK(ok ? k == 2007 : err.status == NN_ENOMEM);
    nni_iter_close(it);
    nni_dataset_release(d);
    atomic_store(&fail_at, 0);
    if (!CHECK(all_returned(m))) printf("  allocation %ld\n", n);
    nni_memory_close(m);
    mem = old;
  }
  CHECK(finished && failed_in_pass);
}

/* ---- nn_data.h ------------------------------------------------------------------------------------------------------------------ */

static nn_status pass_on(void *caller, void *ud, nn_tensor *const *in, int nin, nn_tensor **out, int *nout) {
  (*(int *)caller)++;
  (void)ud;
  for (int i = 0; i < nin; i++) out[i] = nn_retain(in[nin - 1 - i]);
  *nout = nin;
  return NN_OK;
}

/* Every verb over two tensors, in the public interface. Elements seen, or -1 with the context's message. */
static int public_pass(nn_context *ctx, int *calls_of_map) {
  int64_t shape[] = {100, 3}, words[64];
  nn_tensor *x = nn_tensor_new(ctx, NN_F32, 2, shape, NULL), *y = nn_tensor_new(ctx, NN_I64, 1, shape, NULL);
  nn_dataset *d = x != NULL && y != NULL ? nn_data_tensors(ctx, 2, (nn_tensor *[]){x, y}) : NULL;
  nn_release(x); /* the data set has its own references */
  nn_release(y);
  for (int k = 0; k < 6 && d != NULL; k++) {
    nn_dataset *up = d;
    d = k == 0 ? nn_data_shuffle(ctx, d, 100, nn_data_seed(ctx), true) : k == 1 ? nn_data_batch(ctx, d, 30, false)
      : k == 2 ? nn_data_map(ctx, d, pass_on, NULL) : k == 3 ? nn_data_shuffle(ctx, d, 3, 1, true)
      : k == 4 ? nn_data_prefetch(ctx, d, 2) : nn_data_take(ctx, d, 3);
    nn_dataset_release(up);
  }
  int n = -1, seen = 0;
  nn_tensor *out[NN_DATA_MAX];
  nn_iter *it = NULL;
  if (d != NULL && nn_dataset_state_words(d) <= 64) { /* restored to where nothing has happened yet */
    nn_dataset_save(d, NULL, words);
    if (nn_dataset_restore(ctx, d, calls_of_map, words, nn_dataset_state_words(d), &it) == NN_OK && it == NULL) it = nn_iter_open(ctx, d);
  }
  while (it != NULL && nn_iter_next(ctx, it, calls_of_map, out, &n) == NN_OK && n > 0) {
    CHECK(n == 2 && nn_dtype_of(out[0]) == NN_I64 && nn_ndim(out[0]) == 1 && nn_ndim(out[1]) == 2 && nn_shape(out[1])[1] == 3);
    seen++;
    while (n > 0) nn_release(out[--n]);
  }
  bool ok = it != NULL && nn_iter_done(it) && seen == 3;
  nn_iter_close(it);
  nn_dataset_release(d);
  return ok ? seen : -1;
}

static void test_public(void) {
  bool finished = false;
  int maps = 0;
  for (long n = 0; n < 1000 && !finished; n++) { /* n 0: nothing fails */
    nn_context *ctx;
    atomic_store(&fail_at, 0);
    if (!CHECK(nn_open(&(nn_options){.alloc = flaky, .threads = 1}, &ctx) == NN_OK)) return;
    atomic_store(&calls, 0);
    atomic_store(&fail_at, n);
    int seen = public_pass(ctx, &maps);
    finished = n > 0 && atomic_load(&calls) < n;
    atomic_store(&fail_at, 0);
    CHECK(seen == 3 || (n > 0 && strstr(nn_error(ctx), "out of memory") != NULL));
    CHECK(n > 0 || (maps == 4 && seen == 3));
    if (!CHECK(nn_memory(ctx).live == 0)) printf("  allocation %ld\n", n);
    nn_close(ctx);
  }
  CHECK(finished);
}

int main(void) {
  mem = nni_memory_open(NULL, NULL);
  if (mem == NULL || mkdtemp(folder) == NULL) return 2;
  test_idx_types();
  test_idx_plain_errors();
  test_idx_gz_errors();
  test_idx_growth();
  test_download();
  test_digits();
  test_verbs();
  test_columns();
  test_shuffle();
  test_state();
  test_workers();
  test_out_of_memory();
  test_public();
  nni_memory_close(mem);
  static const char *const names[] = {"typed", "typed.gz", "none", "a", "g.gz", "big.gz"};
  for (int i = 0; i < NNI_COUNT(names); i++) unlink(path_of(names[i]));
  CHECK(rmdir(folder) == 0);
  if (failures > 0) printf("test_data: %d failed\n", failures);
  return failures > 0;
}
