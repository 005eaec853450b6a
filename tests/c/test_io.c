/* tests/c/test_io.c - runtime/io: IDX files of every kind and damage, downloads without a network; and the generated digits of runtime/data.
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
#include "data/digits.h"
#include "io/download.h"
#include "io/idx.h"

static int failures;
static bool check(bool ok, const char *what, int line) {
  if (!ok && ++failures <= 50) printf("tests/c/test_io.c:%d: failed: %s\n", line, what);
  return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

static nni_memory *mem;
static nni_error err;
static char folder[] = "/tmp/nn_test_io_XXXXXX";

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
  CHECK(nni_idx_read(mem, put("g.gz", z, n / 2), NNI_IDX_U8, 1, &x, &err) == NN_EFORMAT);
  CHECK(strstr(err.text, " bytes of data, expected 3000") != NULL && strstr(err.text, "g.gz: truncated: ") != NULL);
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

int main(void) {
  mem = nni_memory_open(NULL, NULL);
  if (mem == NULL || mkdtemp(folder) == NULL) return 2;
  test_idx_types();
  test_idx_plain_errors();
  test_idx_gz_errors();
  test_idx_growth();
  test_download();
  test_digits();
  nni_memory_close(mem);
  static const char *const names[] = {"typed", "typed.gz", "none", "a", "g.gz", "big.gz"};
  for (int i = 0; i < NNI_COUNT(names); i++) unlink(path_of(names[i]));
  CHECK(rmdir(folder) == 0);
  if (failures > 0) printf("test_io: %d failed\n", failures);
  return failures > 0;
}
