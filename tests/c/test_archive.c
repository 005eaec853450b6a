/* Archives: what is written comes back, what is damaged is refused, and no way of failing to save harms the old file.
** Sweeps print their counts; NNLUA_SOAK=10 makes them ten times as long, NNLUA_SEED=n rolls other dice. Prints one line per failed check; "skipped: ..." names what this machine cannot show. `test_archive bench` times a 10 MB save and load instead. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "io/archive.h"
#include "io/sheet.h"

/* HDF5 leaks when it refuses a damaged file, which it only gets to see here (see seal_again). */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5\n"; }

static int failures;
#define CHECK(cond, ...)                                                                                                                             \
  do {                                                                                                                                               \
    if (!(cond)) {                                                                                                                                   \
      failures++;                                                                                                                                    \
      printf("%s:%d: %s: ", __FILE__, __LINE__, #cond);                                                                                              \
      printf(__VA_ARGS__);                                                                                                                           \
      printf("\n");                                                                                                                                  \
    }                                                                                                                                                \
  } while (0)

static int soak = 1; /* NNLUA_SOAK (10 in scripts/soak.sh): so many times the cases */

static nni_memory *mem;
static char dir[64]; /* everything happens in here */
static uint64_t dice = 12345;

static uint32_t roll(uint32_t n) {
  dice = dice * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((dice >> 33) % n);
}

static const char *in_dir(const char *name) {
  static char path[4][400];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
  return path[turn];
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */
typedef struct blob {
  char *p;
  size_t n;
} blob;

static blob slurp(const char *path) {
  blob b = {NULL, 0};
  FILE *f = fopen(path, "rb");
  if (!f) return b;
  fseek(f, 0, SEEK_END);
  b.n = (size_t)ftell(f);
  rewind(f);
  b.p = malloc(b.n + 1);
  if (fread(b.p, 1, b.n, f) != b.n) b.n = 0;
  fclose(f);
  return b;
}

static void spill(const char *path, const void *p, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) {
    perror(path);
    exit(2);
  }
}

static bool same_file(const char *path, blob b) {
  blob now = slurp(path);
  const bool same = now.p && now.n == b.n && memcmp(now.p, b.p, b.n) == 0;
  free(now.p);
  return same;
}

static int count_temporaries(const char *folder) {
  DIR *d = opendir(folder);
  const struct dirent *e;
  int n = 0;
  while (d && (e = readdir(d)) != NULL) n += strncmp(e->d_name, ".nnlua-", 7) == 0;
  if (d) closedir(d);
  return n;
}

static int count_fds(void) {
  DIR *d = opendir("/proc/self/fd");
  int n = 0;
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

/* ---- archives to play with -------------------------------------------------------------------------------------------------- */
static float kernel[64 * 10], big[1 << 20];
static int64_t counts[3] = {1, -2, INT64_MAX};
static int32_t words[2][3] = {{1, 2, 3}, {-4, -5, INT32_MIN}};
static uint8_t bytes[1000], flags[5] = {1, 0, 1, 1, 0};
static float scalar = 2.5f;

static int64_t ballast; /* more elements, for tests that want a file of some size */

/* What every test wants to see come back. `version` makes archives of one shape tell apart. */
static nn_status fill(nni_archive *a, int version, nni_error *err) {
  static const char *const layers[] = {"dense", "dropout", "\xc3\xa9t\xc3\xa9"}, *const none[1] = {NULL};
  nn_status s[16];
  int i, n = 0;
  for (i = 0; i < NNI_COUNT(kernel); i++) kernel[i] = (float)(i * 7 % 101) / 8 + (float)version;
  for (i = 0; i < NNI_COUNT(bytes); i++) bytes[i] = (uint8_t)(i * i + version);
  s[n++] = nni_archive_add(a, "/model_weights/dense/dense/kernel:0", NN_F32, 2, (int64_t[]){64, 10}, kernel, err);
  s[n++] = nni_archive_add(a, "/model_weights/dense/dense/bias:0", NN_F32, 1, (int64_t[]){10}, kernel, err);
  s[n++] = nni_archive_add(a, "/nnlua/state", NN_U8, 1, (int64_t[]){1000}, bytes, err);
  s[n++] = nni_archive_add(a, "/nnlua/flags", NN_BOOL, 1, (int64_t[]){5}, flags, err);
  s[n++] = nni_archive_add(a, "/nnlua/counts", NN_I64, 1, (int64_t[]){3}, counts, err);
  s[n++] = nni_archive_add(a, "/nnlua/words", NN_I32, 2, (int64_t[]){2, 3}, words, err);
  s[n++] = nni_archive_add(a, "/nnlua/scalar", NN_F32, 0, NULL, &scalar, err);
  s[n++] = nni_archive_add(a, "/nnlua/empty", NN_I32, 3, (int64_t[]){2, 0, 3}, NULL, err);
  s[n++] = nni_archive_add(a, "/ballast", NN_F32, 1, &ballast, big, err);
  s[n++] = nni_archive_add(a, "/a-b", NN_BOOL, 0, NULL, flags, err);
  s[n++] = nni_archive_set_text(a, "/", "model_config", "{\"class_name\": \"Sequential\"}", err);
  s[n++] = nni_archive_set_text(a, "/a", "note", "", err);
  s[n++] = nni_archive_set_texts(a, "/model_weights", "layer_names", 3, layers, err);
  s[n++] = nni_archive_set_texts(a, "/model_weights/dropout", "weight_names", 0, none, err);
  s[n++] = nni_archive_set_int(a, "/nnlua", "epoch", version, err);
  s[n++] = nni_archive_set_float(a, "/nnlua/state", "rate", 0.1, err);
  for (i = 0; i < n; i++)
    if (s[i] != NN_OK) return s[i];
  return NN_OK;
}

static nn_status save(const char *path, int version, nni_error *err) {
  nni_archive a;
  nn_status s;
  nni_archive_init(&a, mem);
  s = fill(&a, version, err);
  if (s == NN_OK) s = nni_archive_write(&a, path, err);
  nni_archive_close(&a);
  return s;
}

/* Does a hold what fill(version) makes? The digest covers everything, and the arrays are compared by hand as well. */
static bool holds(nni_archive *a, int version) {
  nni_archive want;
  char x[NNI_DIGEST_TEXT] = "", y[NNI_DIGEST_TEXT] = "-";
  const nni_array *d;
  int i;
  bool same;
  nni_archive_init(&want, mem);
  same = fill(&want, version, NULL) == NN_OK && nni_archive_digest(&want, x, NULL) == NN_OK && nni_archive_digest(a, y, NULL) == NN_OK;
  same = same && strcmp(x, y) == 0;
  same = same && want.narrays == a->narrays && want.nattrs == a->nattrs;
  for (i = 0; same && i < want.narrays; i++) {
    d = nni_archive_find(a, want.arrays[i].path);
    same = d && d->dtype == want.arrays[i].dtype && d->ndim == want.arrays[i].ndim && d->bytes == want.arrays[i].bytes &&
           memcmp(d->shape, want.arrays[i].shape, (size_t)d->ndim * 8) == 0 && (!d->bytes || memcmp(d->data, want.arrays[i].data, d->bytes) == 0);
  }
  nni_archive_close(&want);
  return same;
}

/* 1: holds version; 0: refused with a one-line message; -1: anything else. */
static int load(const char *path, int version, nni_error *err) {
  nni_archive a;
  int r;
  memset(err, 0, sizeof *err);
  nni_archive_init(&a, mem);
  if (nni_archive_read(&a, path, err) == NN_OK) r = holds(&a, version) ? 1 : -1;
  else r = err->status != NN_OK && strstr(err->text, strrchr(path, '/') + 1) && !strchr(err->text, '\n') && a.narrays == 0 && a.nattrs == 0 ? 0 : -1;
  nni_archive_close(&a);
  return r;
}

/* ---- round trip ---------------------------------------------------------------------------------------------------------------- */
static void test_round_trip(void) {
  nni_error err = {NN_OK, ""};
  nni_archive a;
  const nn_attr *at;
  blob first;
  CHECK(save(in_dir("a.h5"), 1, &err) == NN_OK, "%s", err.text);
  CHECK(load(in_dir("a.h5"), 1, &err) == 1, "%s", err.text);
  first = slurp(in_dir("a.h5"));
  sleep(1); /* no times in the file */
  CHECK(save(in_dir("b.h5"), 1, &err) == NN_OK && same_file(in_dir("b.h5"), first), "the same archive gave other bytes");
  free(first.p);
  CHECK(save(in_dir("a.h5"), 2, &err) == NN_OK && load(in_dir("a.h5"), 2, &err) == 1 && load(in_dir("a.h5"), 1, &err) == -1, "%s", err.text);
  nni_archive_init(&a, mem);
  CHECK(nni_archive_read(&a, in_dir("a.h5"), &err) == NN_OK, "%s", err.text);
  at = nni_archive_find_attr(&a, "/model_weights", "layer_names");
  CHECK(at && at->kind == NN_ATTR_TEXTS && at->n == 3 && !strcmp(at->texts[2], "\xc3\xa9t\xc3\xa9"), "list of texts");
  at = nni_archive_find_attr(&a, "/model_weights/dropout", "weight_names");
  CHECK(at && at->kind == NN_ATTR_TEXTS && at->n == 0, "empty list of texts");
  at = nni_archive_find_attr(&a, "/a", "note");
  CHECK(at && at->kind == NN_ATTR_TEXT && at->texts[0][0] == 0, "empty text");
  at = nni_archive_find_attr(&a, "/nnlua/state", "rate");
  CHECK(at && at->kind == NN_ATTR_FLOAT && at->f == 0.1, "float");
  at = nni_archive_find_attr(&a, "/nnlua", "epoch");
  CHECK(at && at->kind == NN_ATTR_INT && at->i == 2, "int");
  CHECK(!nni_archive_find_attr(&a, "/nnlua", "sha256") && !nni_archive_find_attr(&a, "/nnlua/flags", "nnlua_dtype"), "inner attributes show");
  nni_archive_close(&a);
  nni_archive_init(&a, mem); /* the empty archive */
  CHECK(nni_archive_write(&a, in_dir("empty.h5"), &err) == NN_OK && nni_archive_read(&a, in_dir("empty.h5"), &err) == NN_OK, "%s", err.text);
  nni_archive_close(&a);
}

/* Many items, deep groups, long texts, several chunks: everything that HDF5 stores in other ways when there is more of it. */
static void test_large(void) {
  nni_error err = {NN_OK, ""};
  nni_archive a, b;
  char name[300], x[NNI_DIGEST_TEXT], y[NNI_DIGEST_TEXT], *text = malloc(200001);
  const char *const *texts;
  const char *names[300];
  int i;
  for (i = 0; i < NNI_COUNT(big); i++) big[i] = (float)i;
  memset(text, 'x', 200000);
  text[200000] = 0;
  nni_archive_init(&a, mem);
  nni_archive_init(&b, mem);
  for (i = 0; i < 300; i++) {
    names[i] = text + 200000 - i;
    snprintf(name, sizeof name, "/many/%d/layer_%d/kernel", i % 7, i);
    CHECK(nni_archive_add(&a, name, NN_I32, 1, (int64_t[]){3}, words, &err) == NN_OK, "%s", err.text);
    snprintf(name, sizeof name, "attribute %d", i);
    CHECK(nni_archive_set_int(&a, "/many/3", name, i, &err) == NN_OK, "%s", err.text);
  }
  texts = names;
  CHECK(nni_archive_add(&a, "/big", NN_F32, 3, (int64_t[]){3, 1000, 333}, big, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_add(&a, "/wide", NN_F32, 2, (int64_t[]){1, 1 << 20}, big, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_set_text(&a, "/", "model_config", text, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_set_texts(&a, "/", "texts", 300, texts, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_write(&a, in_dir("large.h5"), &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_read(&b, in_dir("large.h5"), &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_digest(&a, x, &err) == NN_OK && nni_archive_digest(&b, y, &err) == NN_OK && !strcmp(x, y), "large archive changed");
  nni_archive_close(&a);
  nni_archive_close(&b);
  free(text);
}

/* The digest by its definition in archive.h, for one small archive, computed with another program (Python's hashlib). */
static void test_digest(void) {
  nni_error err = {NN_OK, ""};
  nni_archive a;
  char hex[NNI_DIGEST_TEXT];
  nni_archive_init(&a, mem);
  CHECK(nni_archive_digest(&a, hex, &err) == NN_OK && !strcmp(hex, "ce36c3326af46b26f2e145579ddd08f3ed691d2aebc2ab6768b2081d8da08cf0"), "%s", hex);
  nni_archive_add(&a, "/a/b", NN_I32, 1, (int64_t[]){3}, words, &err);
  nni_archive_add(&a, "/a-b", NN_U8, 0, NULL, flags, &err);
  nni_archive_set_text(&a, "/a", "t", "x", &err);
  nni_archive_set_int(&a, "/", "i", 5, &err);
  CHECK(nni_archive_digest(&a, hex, &err) == NN_OK && !strcmp(hex, "b1eaaee73d44ae157414cac5905af14b07b45337e91143e1e7bd810d3a803fab"), "%s", hex);
  nni_archive_close(&a);
}

/* What cannot be an archive is refused before anything is written. */
static void test_bad_trees(void) {
  static const char *const paths[] = {"", "a", "/", "//a", "/a/", "/a//b", "/.", "/a/../b", "/a\nb"};
  nni_error err = {NN_OK, ""};
  char longest[400], deep[100] = "";
  nni_archive a;
  int i;
  nni_archive_init(&a, mem);
  for (i = 0; i < NNI_COUNT(paths); i++) CHECK(nni_archive_add(&a, paths[i], NN_U8, 0, NULL, flags, &err) == NN_EINVAL, "path '%s' taken", paths[i]);
  memset(longest, 'a', sizeof longest);
  longest[0] = '/';
  longest[257] = 0;
  CHECK(nni_archive_add(&a, longest, NN_U8, 0, NULL, flags, &err) == NN_EINVAL, "name of 256 bytes taken");
  longest[256] = 0;
  CHECK(nni_archive_add(&a, longest, NN_U8, 0, NULL, flags, &err) == NN_OK, "%s", err.text);
  for (i = 0; i < 33; i++) strcat(deep, "/a");
  CHECK(nni_archive_add(&a, deep, NN_U8, 0, NULL, flags, &err) == NN_EINVAL, "depth 33 taken");
  deep[64] = 0;
  CHECK(nni_archive_add(&a, deep, NN_U8, 0, NULL, flags, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_write(&a, in_dir("limits.h5"), &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_add(&a, "/x", NN_U8, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, flags, &err) == NN_EINVAL, "9 dims taken");
  CHECK(nni_archive_add(&a, "/x", NN_F32, 2, (int64_t[]){INT64_MAX, 3}, flags, &err) == NN_EINVAL, "overflow taken");
  CHECK(nni_archive_add(&a, "/x", NN_F32, 1, (int64_t[]){-1}, flags, &err) == NN_EINVAL, "negative size taken");
  CHECK(nni_archive_set_int(&a, "/nnlua", "sha256", 1, &err) == NN_EINVAL, "own name taken");
  CHECK(nni_archive_add(&a, "/a/a", NN_U8, 0, NULL, flags, &err) == NN_OK, "%s", err.text);
  CHECK(nni_archive_write(&a, in_dir("never.h5"), &err) == NN_EINVAL && strstr(err.text, "cannot hold"), "%s", err.text);
  nni_archive_close(&a);
  nni_archive_init(&a, mem);
  nni_archive_add(&a, "/a", NN_U8, 0, NULL, flags, &err);
  nni_archive_add(&a, "/a", NN_I32, 0, NULL, words, &err);
  CHECK(nni_archive_write(&a, in_dir("never.h5"), &err) == NN_EINVAL && strstr(err.text, "twice"), "%s", err.text);
  nni_archive_close(&a);
  nni_archive_init(&a, mem);
  nni_archive_set_int(&a, "/g", "n", 1, &err);
  nni_archive_set_int(&a, "/g", "n", 2, &err);
  CHECK(nni_archive_write(&a, in_dir("never.h5"), &err) == NN_EINVAL && strstr(err.text, "twice"), "%s", err.text);
  nni_archive_close(&a);
  CHECK(access(in_dir("never.h5"), F_OK) != 0 && count_temporaries(dir) == 0, "something was written");
}

/* ---- damaged files ---------------------------------------------------------------------------------------------------------------- */
static void test_truncation(void) {
  const blob b = slurp(in_dir("a.h5"));
  nni_error err;
  size_t n;
  int cases = 0;
  for (n = 0; n < b.n; n += n < 100 || n + 100 > b.n ? 1 : 7) {
    spill(in_dir("cut.h5"), b.p, n);
    CHECK(load(in_dir("cut.h5"), 2, &err) == 0, "cut at %zu of %zu: %s", n, b.n, err.text);
    cases++;
  }
  printf("truncation: %d cuts of a file of %zu bytes\n", cases, b.n);
  CHECK(load(in_dir("missing.h5"), 2, &err) == 0 && err.status == NN_ENOTFOUND, "%s", err.text);
  spill(in_dir("text.h5"), "hello, world: this is not an HDF5 file, but it is long enough", 60);
  CHECK(load(in_dir("text.h5"), 2, &err) == 0 && strstr(err.text, "not an HDF5 file"), "%s", err.text);
  CHECK(load(dir, 2, &err) == 0 && strstr(err.text, "not a regular file"), "%s", err.text);
  free(b.p);
}

/* Put a seal on bytes that were changed, as nobody does by accident: what lies behind it is tested so. */
static void seal_again(blob b) {
  const uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), (const Bytef *)b.p, (uInt)(b.n - 16)), inverse = ~crc;
  memcpy(b.p + b.n - 16, "nnluaend", 8);
  memcpy(b.p + b.n - 8, &crc, 4);
  memcpy(b.p + b.n - 4, &inverse, 4);
}

/* One byte changed, anywhere: the same content or an error. */
static void flip_bytes(bool sealed, int cases, int *same, int *refused) {
  const blob b = slurp(in_dir("a.h5"));
  nni_error err;
  int i;
  *same = *refused = 0;
  for (i = 0; i < cases; i++) {
    const size_t at = roll((uint32_t)b.n - (sealed ? 16 : 0));
    const char was = b.p[at];
    int r;
    b.p[at] = (char)(i % 2 ? was ^ (1 << roll(8)) : was + 1 + (int)roll(255));
    if (sealed) seal_again(b);
    spill(in_dir("flip.h5"), b.p, b.n);
    r = load(in_dir("flip.h5"), 2, &err);
    CHECK(r >= 0, "flip at %zu of %zu: silent change or a bad message '%s'", at, b.n, err.text);
    if (r == 1) ++*same;
    else ++*refused;
    b.p[at] = was;
  }
  free(b.p);
}

/* What disks, transfers and people do to files. The result has at most n bytes more than the original (b has room for that); false: nothing changed. */
static bool corrupt(char *p, size_t *n, const blob b) {
  size_t at = roll((uint32_t)b.n), from = roll((uint32_t)b.n), len = 1 + roll(600), i;
  memcpy(p, b.p, b.n);
  *n = b.n;
  if (len > b.n - at) len = b.n - at;
  if (len > b.n - from) len = b.n - from;
  switch (roll(9)) {
  case 0: p[at] ^= (char)(1 << roll(8)); break;
  case 1: p[at] = (char)roll(256); break;
  case 2:
    for (i = 2 + roll(20); i > 0; i--) p[roll((uint32_t)b.n)] = (char)roll(256);
    break;
  case 3: *n = at; break;
  case 4: memset(p + at, 0, len); break;                                        /* a hole */
  case 5: memcpy(p + at, b.p + from, len); break;                               /* a block in a wrong place */
  case 6: memmove(p + at, p + at + len, b.n - at - len), *n = b.n - len; break; /* bytes lost */
  case 7: memmove(p + at + len, p + at, b.n - at), *n = b.n + len; break;       /* bytes twice */
  default: memset(p + at, 0xff, len < 8 ? len : 8); break;                      /* a field */
  }
  return *n != b.n || memcmp(p, b.p, b.n) != 0;
}

static void test_corruptions(void) {
  const blob b = slurp(in_dir("a.h5"));
  char *p = malloc(b.n + 1000);
  const uint64_t seed = dice;
  const int cases = 10000 * soak;
  nni_error err;
  size_t n;
  int i;
  for (i = 0; i < cases; i++) {
    if (!corrupt(p, &n, b)) {
      i--;
      continue;
    }
    spill(in_dir("corrupt.h5"), p, n);
    CHECK(load(in_dir("corrupt.h5"), 2, &err) == 0, "case %d: not refused: %s", i, err.text);
  }
  printf("corruptions and truncations: seed %llu, %d cases, each refused\n", (unsigned long long)seed, i);
  CHECK(i >= cases && nni_archive_open_objects() == 0, "%d cases", i);
  free(p);
  free(b.p);
}

static void test_flips(void) {
  int same, refused, cases = 2000 * soak;
  blob b = slurp(in_dir("a.h5"));
  nni_error err;
  char *longer = calloc(1, b.n + 100);
  flip_bytes(false, cases, &same, &refused);
  printf("single bytes changed: %d cases, %d refused\n", cases, refused);
  CHECK(refused == cases, "%d of %d", refused, cases);
  flip_bytes(true, cases, &same, &refused);
  printf("single bytes changed and sealed again: %d cases, %d refused, %d without effect\n", cases, refused, same);
  CHECK(same + refused == cases && refused > cases / 2, "%d of %d", refused, cases);
  memcpy(longer, b.p, b.n);
  spill(in_dir("long.h5"), longer, b.n + 100);
  CHECK(load(in_dir("long.h5"), 2, &err) == 0, "a file with a tail was read");
  spill(in_dir("long.h5"), b.p, b.n - 16);
  CHECK(load(in_dir("long.h5"), 2, &err) == 0, "a file without a seal was read");
  seal_again(b);
  spill(in_dir("long.h5"), b.p, b.n);
  CHECK(load(in_dir("long.h5"), 2, &err) == 1, "this test knows another seal: %s", err.text);
  free(longer);
  free(b.p);
}

/* ---- saving fails ------------------------------------------------------------------------------------------------------------------- */
static void test_size_limit(void) {
  nni_error err = {NN_OK, ""};
  struct rlimit old, now;
  blob b = slurp(in_dir("a.h5"));
  const int fds = count_fds();
  int level, failed = 0;
  getrlimit(RLIMIT_FSIZE, &old);
  for (level = 0; level < 60; level++) {
    now = old;
    now.rlim_cur = (rlim_t)(b.n * (size_t)level / 50);
    setrlimit(RLIMIT_FSIZE, &now);
    if (save(in_dir("a.h5"), 3, &err) != NN_OK) {
      failed++;
      setrlimit(RLIMIT_FSIZE, &old);
      CHECK(same_file(in_dir("a.h5"), b), "level %d changed the old file", level);
      CHECK(strstr(err.text, "a.h5") && strstr(err.text, "needs"), "%s", err.text);
    } else {
      setrlimit(RLIMIT_FSIZE, &old);
      CHECK(load(in_dir("a.h5"), 3, &err) == 1, "level %d: %s", level, err.text);
    }
    CHECK(count_temporaries(dir) == 0, "level %d left a temporary", level);
  }
  setrlimit(RLIMIT_FSIZE, &old);
  CHECK(failed >= 49 && failed < 60, "%d of 60 levels failed", failed);
  CHECK(count_fds() == fds && nni_archive_open_objects() == 0, "something stays open");
  printf("file-size limit: %d of 60 levels failed to save, each kept the old file\n", failed);
  free(b.p);
}

/* A small tmpfs with room for 0 to 118 % of the file, in a mount namespace of a child of ours, which then ends in the ordinary way. */
static int child_full_disk(void) {
  nni_error err = {NN_OK, ""};
  const char *disk = in_dir("disk");
  char path[500], filler[500];
  struct statvfs room;
  blob b;
  int level, failed = 0;
  mkdir(disk, 0700);
  if (mount("tmpfs", disk, "tmpfs", 0, "size=4m") != 0) return 77;
  snprintf(path, sizeof path, "%s/model.h5", disk);
  snprintf(filler, sizeof filler, "%s/filler", disk);
  ballast = 100000;
  CHECK(save(path, 1, &err) == NN_OK, "%s", err.text);
  b = slurp(path);
  for (level = 0; level < 60; level++) {
    const int next = 2 + level % 2, fd = open(filler, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    statvfs(disk, &room);
    if (posix_fallocate(fd, 0, (off_t)(room.f_bavail * room.f_frsize - b.n * (size_t)level / 50 / 4096 * 4096)) != 0) perror(filler);
    close(fd);
    if (save(path, next, &err) != NN_OK) {
      failed++;
      CHECK(same_file(path, b) && strstr(err.text, "model.h5") && strstr(err.text, "free"), "level %d: %s", level, err.text);
    } else CHECK(load(path, next, &err) == 1, "level %d: %s", level, err.text);
    free(b.p);
    b = slurp(path);
    CHECK(count_temporaries(disk) == 0, "level %d left a temporary", level);
  }
  CHECK(failed >= 49 && failed < 60, "%d of 60 levels failed", failed);
  CHECK(nni_archive_open_objects() == 0, "HDF5 objects stay open");
  unlink(filler);
  CHECK(save(path, 5, &err) == NN_OK && load(path, 5, &err) == 1, "after the disk emptied: %s", err.text);
  printf("full disk: %d of 60 levels failed to save, each kept the old file\n", failed);
  umount(disk);
  free(b.p);
  return failures ? 1 : 42;
}

static void test_full_disk(void) {
  int status = 0;
  pid_t pid;
  fflush(stdout);
  if ((pid = fork()) == 0) {
    failures = 0;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) exit(77);
    exit(child_full_disk()); /* exit handlers included */
  }
  waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) printf("skipped: full disk (no right to mount a tmpfs)\n");
  else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, "the child that filled a disk ended with status %d", status);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_kill(void) {
  nni_error err = {NN_OK, ""};
  const int moments = 200 * soak;
  const uint64_t seed = dice;
  int i, seen[2] = {0, 0}, torn = 0, stale = 0;
  double time = now(); /* of a save */
  CHECK(save(in_dir("kill.h5"), 0, &err) == NN_OK && save(in_dir("kill.h5"), 0, &err) == NN_OK, "%s", err.text);
  time = (now() - time) / 2;
  for (i = 0; i < moments; i++) {
    const int next = i % 2 ? 8 : 9;
    pid_t pid;
    int r8, r9, status;
    struct timespec t = {0, (long)(time * roll(1000) * 3e6)};
    fflush(stdout);
    if ((pid = fork()) == 0) {
      for (;;)
        if (save(in_dir("kill.h5"), next, &err) != NN_OK) _exit(3);
    }
    nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status), "a save failed by itself: %d", status);
    stale += count_temporaries(dir);
    r8 = load(in_dir("kill.h5"), 8, &err);
    r9 = load(in_dir("kill.h5"), 9, &err);
    time *= r8 == 1 || r9 == 1 ? 0.95 : 1.1; /* whatever else the machine does: some kills before, some after the first save */
    if (r8 == 1) seen[0]++;
    else if (r9 == 1) seen[1]++;
    else if (load(in_dir("kill.h5"), 0, &err) != 1) torn++;
    CHECK(count_temporaries(dir) <= 1, "temporaries pile up");
  }
  CHECK(torn == 0, "%d torn files", torn);
  CHECK(stale > 0 && seen[0] + seen[1] > moments / 10, "the kills came at no interesting moment: %d temporaries, %d saves", stale, seen[0] + seen[1]);
  CHECK(save(in_dir("kill.h5"), 1, &err) == NN_OK && count_temporaries(dir) == 0, "stale temporaries stay");
  printf("kill -9 while saving: seed %llu, %d moments, %d torn, %d temporaries left behind and swept\n", (unsigned long long)seed, i, torn, stale);
}

/* A temporary that a living process holds is not swept. */
static void test_sweep(void) {
  nni_error err = {NN_OK, ""};
  const char *held = in_dir(".nnlua-0123456789abcdef.tmp"), *other = in_dir(".nnlua-0123456789abcdeg.tmp");
  int fds[2], status;
  char c;
  pid_t pid;
  if (pipe(fds) != 0) exit(2);
  spill(other, "x", 1);
  fflush(stdout);
  if ((pid = fork()) == 0) {
    const int fd = open(held, O_RDWR | O_CREAT, 0600);
    if (flock(fd, LOCK_EX) != 0 || write(fds[1], "x", 1) != 1) _exit(1);
    pause();
  }
  if (read(fds[0], &c, 1) != 1) exit(2);
  CHECK(save(in_dir("a.h5"), 2, &err) == NN_OK && access(held, F_OK) == 0, "a temporary in use was swept");
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  CHECK(save(in_dir("a.h5"), 2, &err) == NN_OK && access(held, F_OK) != 0, "a stale temporary was not swept");
  CHECK(access(other, F_OK) == 0, "somebody else's file was swept");
  unlink(other);
  close(fds[0]);
  close(fds[1]);
}

static void test_targets(void) {
  nni_error err = {NN_OK, ""};
  struct stat s;
  const mode_t mask = umask(027);
  char name[300], cwd[400];
  int status;
  pid_t pid;
  CHECK(save(in_dir("mode.h5"), 1, &err) == NN_OK && stat(in_dir("mode.h5"), &s) == 0 && (s.st_mode & 0777) == 0640, "mode %o", s.st_mode);
  chmod(in_dir("mode.h5"), 0604);
  CHECK(save(in_dir("mode.h5"), 2, &err) == NN_OK && stat(in_dir("mode.h5"), &s) == 0 && (s.st_mode & 0777) == 0604, "mode %o", s.st_mode);
  umask(mask);
  CHECK(symlink("mode.h5", in_dir("link.h5")) == 0 && save(in_dir("link.h5"), 3, &err) == NN_OK, "%s", err.text);
  CHECK(lstat(in_dir("link.h5"), &s) == 0 && S_ISLNK(s.st_mode) && load(in_dir("mode.h5"), 3, &err) == 1, "link: %s", err.text);
  mkdir(in_dir("sub"), 0700);
  CHECK(symlink("sub/new.h5", in_dir("dangling.h5")) == 0 && save(in_dir("dangling.h5"), 4, &err) == NN_OK, "%s", err.text);
  CHECK(load(in_dir("sub/new.h5"), 4, &err) == 1, "link to a new file: %s", err.text);
  CHECK(symlink("loop.h5", in_dir("loop.h5")) == 0 && save(in_dir("loop.h5"), 1, &err) == NN_EIO, "%s", err.text);
  CHECK(save(in_dir("sub"), 1, &err) == NN_EIO && strstr(err.text, "sub"), "%s", err.text);
  CHECK(save(in_dir("sub/"), 1, &err) != NN_OK && strstr(err.text, "sub"), "%s", err.text);
  CHECK(save(in_dir("no/such/folder.h5"), 1, &err) == NN_ENOTFOUND && strstr(err.text, "folder.h5"), "%s", err.text);
  CHECK(mkfifo(in_dir("fifo"), 0600) == 0 && save(in_dir("fifo"), 1, &err) == NN_EIO && strstr(err.text, "regular"), "%s", err.text);
  CHECK(load(in_dir("fifo"), 1, &err) == 0, "%s", err.text);
  memset(name, 'n', sizeof name);
  name[255] = 0;
  CHECK(save(in_dir(name), 6, &err) == NN_OK && load(in_dir(name), 6, &err) == 1, "name of 255 bytes: %s", err.text);
  name[255] = 'n';
  name[256] = 0;
  CHECK(save(in_dir(name), 6, &err) == NN_EIO && strstr(err.text, "too long"), "%s", err.text);
  if (!getcwd(cwd, sizeof cwd) || chdir(dir) != 0) exit(2);
  CHECK(save("here.h5", 7, &err) == NN_OK && chdir(cwd) == 0 && load(in_dir("here.h5"), 7, &err) == 1, "relative name: %s", err.text);
  CHECK(save("/proc/model.h5", 7, &err) != NN_OK, "saved into /proc");
  chmod(dir, 0755);
  chmod(in_dir("sub"), 0555);
  fflush(stdout);
  if ((pid = fork()) == 0) { /* root may write everywhere: somebody else tries */
    if (geteuid() == 0 && setuid(65534) != 0) _exit(3);
    _exit(save(in_dir("sub/new.h5"), 5, &err) == NN_EIO && strstr(err.text, "sub/new.h5") ? 42 : 1);
  }
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, "saving in a read-only folder ended with %d", status);
  chmod(in_dir("sub"), 0755);
  CHECK(load(in_dir("sub/new.h5"), 4, &err) == 1, "%s", err.text);
  CHECK(count_temporaries(dir) == 0, "a temporary stays");
}

/* ---- the trace of a save -------------------------------------------------------------------------------------------------------------- */
/* What reached the system in the course of a save, for the replay of power losses. A file is one: the temporary that becomes the target. */
typedef struct event {
  enum { WRITTEN, SYNCED, RENAMED, FOLDER_SYNCED } what;
  size_t at, n; /* of WRITTEN */
  char *p;
} event;

static event trace[64];
static int events;
static bool tracing;

static void note_event(int what, const void *p, size_t n, size_t at) {
  event *e = &trace[events];
  if (!tracing) return;
  if (events + 1 >= NNI_COUNT(trace)) exit(2);
  events++;
  *e = (event){.what = what, .at = at, .n = n};
  if (n > 0 && (e->p = malloc(n)) != NULL) memcpy(e->p, p, n);
}

static void note_sync(int fd) {
  struct stat st;
  note_event(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? FOLDER_SYNCED : SYNCED, NULL, 0, 0);
}

/* ---- the N-th system call fails --------------------------------------------------------------------------------------------------- */
/* The linker sends these calls of ours through here (--wrap in CMakeLists.txt). */
static int calls_left = -1, call_error; /* call_error 0: a short write */
static int lies_left = -1;              /* so many writes on, the disk keeps another byte than it was given */
static char *meddle;                    /* changes when a file is synced */

static bool call_fails(void) {
  if (calls_left < 0 || --calls_left >= 0) return false;
  errno = call_error;
  return true;
}

#define WRAP(type, name, params, args)                                                                                                               \
  type __real_##name params;                                                                                                                         \
  type __wrap_##name params;                                                                                                                         \
  type __wrap_##name params { return call_fails() && call_error ? (type)-1 : __real_##name args; }
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
  if (call_fails() && call_error) return -1;
  if (meddle) *meddle ^= 1;
  note_sync(fd);
  return __real_fsync(fd);
}
WRAP(int, flock, (int fd, int op), (fd, op))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
int __real_renameat(int d, const char *a, int e, const char *b);
int __wrap_renameat(int d, const char *a, int e, const char *b);
int __wrap_renameat(int d, const char *a, int e, const char *b) {
  if (call_fails() && call_error) return -1;
  note_event(RENAMED, NULL, 0, 0);
  return __real_renameat(d, a, e, b);
}
int __real_renameat2(int d, const char *a, int e, const char *b, unsigned how);
int __wrap_renameat2(int d, const char *a, int e, const char *b, unsigned how);
int __wrap_renameat2(int d, const char *a, int e, const char *b, unsigned how) {
  if (call_fails() && call_error) return -1;
  note_event(RENAMED, NULL, 0, 0);
  return __real_renameat2(d, a, e, b, how);
}
WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
static bool unlink_failed;
int __real_unlinkat(int fd, const char *name, int mode_bits);
int __wrap_unlinkat(int fd, const char *name, int mode_bits);
int __wrap_unlinkat(int fd, const char *name, int mode_bits) {
  if (!call_fails() || !call_error) return __real_unlinkat(fd, name, mode_bits);
  unlink_failed = true;
  return -1;
}
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) { /* closes in any case, as Linux does */
  const bool fails = call_fails() && call_error;
  const int code = errno, r = __real_close(fd);
  if (!fails) return r;
  errno = code;
  return -1;
}
int __real_open(const char *path, int mode_bits, ...);
int __wrap_open(const char *path, int mode_bits, ...);
int __wrap_open(const char *path, int mode_bits, ...) { return call_fails() && call_error ? -1 : __real_open(path, mode_bits, 0600); }
int __real_openat(int fd, const char *path, int mode_bits, ...);
int __wrap_openat(int fd, const char *path, int mode_bits, ...);
int __wrap_openat(int fd, const char *path, int mode_bits, ...) {
  va_list args;
  mode_t mode;
  va_start(args, mode_bits);
  mode = mode_bits & O_CREAT ? va_arg(args, mode_t) : 0;
  va_end(args);
  return call_fails() && call_error ? -1 : __real_openat(fd, path, mode_bits, mode);
}
int __real_posix_fallocate(int fd, off_t at, off_t n);
int __wrap_posix_fallocate(int fd, off_t at, off_t n);
int __wrap_posix_fallocate(int fd, off_t at, off_t n) { return call_fails() && call_error ? call_error : __real_posix_fallocate(fd, at, n); }
ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at) {
  if (!call_fails()) {
    ssize_t r = __real_pwrite(fd, p, n, at);
    note_event(WRITTEN, p, n, (size_t)at);
    if (lies_left >= 0 && lies_left-- == 0 && r > 0) {
      const char wrong = (char)~((const char *)p)[r / 2];
      if (__real_pwrite(fd, &wrong, 1, at + r / 2) != 1) r = -1;
    }
    return r;
  }
  return call_error ? -1 : __real_pwrite(fd, p, n / 2 + 1, at);
}

static void test_system_calls(void) {
  static const int errors[] = {0, EINTR, EIO, ENOSPC, EDQUOT};
  nni_error err = {NN_OK, ""};
  const int fds = count_fds();
  int k, n, total = 0, refused = 0;
  CHECK(save(in_dir("calls.h5"), 1, &err) == NN_OK, "%s", err.text);
  for (k = 0; k < NNI_COUNT(errors); k++) {
    for (n = 0; n < 100; n++) {
      nn_status s;
      int left, stay;
      call_error = errors[k];
      calls_left = n;
      unlink_failed = false;
      s = save(in_dir("calls.h5"), 2 + k, &err);
      left = calls_left;
      calls_left = -1;
      if (s != NN_OK) refused++;
      if (s != NN_OK) CHECK(strstr(err.text, "calls.h5") && errors[k] > EINTR, "call %d, error %d: %s", n, errors[k], err.text);
      CHECK(load(in_dir("calls.h5"), s == NN_OK ? 2 + k : 1, &err) == 1, "call %d, error %d: %s", n, errors[k], err.text);
      stay = count_temporaries(dir); /* what cannot be removed stays until the next save */
      CHECK((stay == 0 || (stay == 1 && unlink_failed)) && nni_archive_open_objects() == 0 && count_fds() == fds, "call %d, error %d leaves something", n,
            errors[k]);
      if (s == NN_OK || stay > 0) CHECK(save(in_dir("calls.h5"), 1, &err) == NN_OK && count_temporaries(dir) == 0, "%s", err.text);
      if (left >= 0) break; /* fewer calls than n */
      total++;
    }
  }
  CHECK(total >= 14 * NNI_COUNT(errors) && refused >= 30, "%d calls failed, %d saves refused", total, refused);
  printf("failed system calls: %d cases, %d saves refused\n", total, refused);
}

/* What the disk made of it is compared with what it was given, and what HDF5 made of it with the archive, elements and all. */
static void test_read_back(void) {
  char *const places[] = {(char *)kernel, (char *)&kernel[639], (char *)&bytes[999], (char *)&flags[4], (char *)&counts[2], (char *)&scalar,
                          (char *)&big[0], (char *)&big[299999], (char *)&big[699999]};
  nni_error err = {NN_OK, ""};
  int n, lies = 0;
  ballast = 700000; /* several chunks */
  CHECK(save(in_dir("back.h5"), 1, &err) == NN_OK, "%s", err.text);
  for (n = 0; n < 64; n++) {
    nn_status s;
    lies_left = n;
    s = save(in_dir("back.h5"), 2, &err);
    if (lies_left >= 0) break; /* fewer writes than n */
    lies++;
    CHECK(s != NN_OK && strstr(err.text, "back.h5") && strstr(err.text, "does not read back"), "write %d: %s", n, err.text);
    CHECK(load(in_dir("back.h5"), 1, &err) == 1, "write %d: %s", n, err.text);
  }
  CHECK(lies >= 10 && lies < 64, "%d writes", lies);
  lies_left = -1;
  CHECK(save(in_dir("back.h5"), 1, &err) == NN_OK, "%s", err.text);
  for (n = 0; n < NNI_COUNT(places); n++) {
    nn_status s;
    meddle = places[n];
    s = save(in_dir("back.h5"), 2, &err);
    meddle = NULL;
    *places[n] ^= 1;
    CHECK(s == NN_EIO && strstr(err.text, "reads back differently"), "place %d: %s", n, err.text);
    CHECK(load(in_dir("back.h5"), 1, &err) == 1 && count_temporaries(dir) == 0, "place %d: %s", n, err.text);
  }
  ballast = 0;
  printf("read back: %d writes that the disk got wrong, %d elements that changed\n", lies, n);
}

/* Bytes of this process in memory, and its threads. */
static long resident_now(void) {
  long size, pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f && fscanf(f, "%ld %ld", &size, &pages) != 2) pages = 0;
  if (f) fclose(f);
  return pages * sysconf(_SC_PAGESIZE);
}

static int count_threads(void) {
  DIR *d = opendir("/proc/self/task");
  int n = 0;
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

/* 200 saves of 1.2 MB fail at all kinds of calls, some loads too: nothing of them stays in this process. */
static void test_many_failures(void) {
  static const int errors[] = {ENOSPC, EIO, EDQUOT};
  nni_error err = {NN_OK, ""};
  const int fds = count_fds(), threads = count_threads();
  long before = 0;
  int i, refused = 0;
  ballast = 300000;
  for (i = 0; i < 220; i++) {
    if (i == 20) before = resident_now(), refused = 0;
    call_error = errors[i % 3];
    calls_left = i % 10;
    refused += save(in_dir("many.h5"), 1, &err) != NN_OK;
    calls_left = -1;
    unlink(in_dir("many.h5"));
    CHECK(load(in_dir("many.h5"), 1, &err) == 0 && load(in_dir("long.h5"), 1, &err) <= 0, "%s", err.text);
  }
  ballast = 0;
  printf("many failures: %d saves refused, %.1f MB more in memory\n", refused, (double)(resident_now() - before) / 1e6);
  CHECK(refused >= 100 && count_fds() == fds && count_threads() == threads && nni_archive_open_objects() == 0, "something stays after failures");
#ifndef __SANITIZE_ADDRESS__ /* it keeps what was freed */
  CHECK(resident_now() - before < 5000000, "%ld bytes stay after failures", resident_now() - before);
#endif
}

/* ---- power losses -------------------------------------------------------------------------------------------------------------------- */
#define BLOCK 4096

/* The target after a power loss that follows event `last` (-1: before all). Each block that no sync covers is on disk or not, a length that is not
** synced may be shorter, and a rename is on disk from the time it was made, at the latest when the folder is synced. false: the old file. */
static bool after_power_loss(int last, blob *out) {
  int synced = -1, i;
  bool renamed = false, kept = false;
  size_t k, most = 0;
  for (i = 0; i <= last; i++) {
    if (trace[i].what == SYNCED) synced = i;
    if (trace[i].what == RENAMED) renamed = true;
    if (trace[i].what == FOLDER_SYNCED && renamed) kept = true;
    if (trace[i].what == WRITTEN && trace[i].at + trace[i].n > most) most = trace[i].at + trace[i].n;
  }
  if (!renamed || (!kept && roll(2))) return false;
  out->p = calloc(1, most + 1);
  out->n = most;
  for (i = 0; i <= last; i++) {
    const event *e = &trace[i];
    if (e->what != WRITTEN) continue;
    for (k = 0; k < e->n; k += BLOCK)
      if (i < synced || roll(2)) memcpy(out->p + e->at + k, e->p + k, e->n - k < BLOCK ? e->n - k : BLOCK);
  }
  if (synced < 0 && roll(4) == 0) out->n = roll((uint32_t)most);
  return true;
}

typedef struct losses {
  int states, torn, lost, old, renewed;
} losses;

/* Loads what is left after losses at random moments of the trace; a third of them after save() returned. */
static losses replay(int states, blob old) {
  losses l = {0};
  nni_error err;
  for (l.states = 0; l.states < states; l.states++) {
    const bool returned = roll(3) == 0;
    const int last = returned ? events - 1 : (int)roll((uint32_t)events + 1) - 1;
    blob b = {NULL, 0};
    int r;
    if (after_power_loss(last, &b)) spill(in_dir("loss.h5"), b.p, b.n);
    else spill(in_dir("loss.h5"), old.p, old.n);
    free(b.p);
    r = load(in_dir("loss.h5"), 2, &err);
    if (r == 1) l.renewed++;
    else if (load(in_dir("loss.h5"), 1, &err) == 1) l.old++;
    else l.torn++;
    if (returned && r != 1) l.lost++;
  }
  return l;
}

static void drop_events(int what) {
  int i, n = 0;
  for (i = 0; i < events; i++)
    if ((int)trace[i].what != what) trace[n++] = trace[i];
  events = n;
}

static void test_power_loss(void) {
  nni_error err = {NN_OK, ""};
  const uint64_t seed = dice;
  losses l;
  blob old;
  ballast = 30000;
  CHECK(save(in_dir("power.h5"), 1, &err) == NN_OK, "%s", err.text);
  old = slurp(in_dir("power.h5"));
  events = 0;
  tracing = true;
  CHECK(save(in_dir("power.h5"), 2, &err) == NN_OK, "%s", err.text);
  tracing = false;
  l = replay(2000 * soak, old);
  printf("power losses: seed %llu, %d states of %d events: %d torn, %d lost after the save returned, %d old, %d new\n", (unsigned long long)seed,
         l.states, events, l.torn, l.lost, l.old, l.renewed);
  CHECK(l.torn == 0 && l.lost == 0 && l.states >= 2000 && l.old > l.states / 10 && l.renewed > l.states / 10, "%d torn, %d lost", l.torn, l.lost);
  drop_events(FOLDER_SYNCED); /* what this test would say of a save without its syncs */
  l = replay(200, old);
  CHECK(l.lost > 0 && l.torn == 0, "no sync of the folder: %d lost, %d torn", l.lost, l.torn);
  drop_events(SYNCED);
  l = replay(200, old);
  CHECK(l.torn > 0, "no sync of the file: %d torn", l.torn);
  while (events > 0) free(trace[--events].p);
  ballast = 0;
  free(old.p);
}

/* ---- the N-th allocation fails -------------------------------------------------------------------------------------------------------- */
typedef struct hook {
  long left;
  bool lasting;
  long live, calls, peak;
} hook;

static void *failing_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  hook *h = ud;
  void *q;
  if (nsize == 0) {
    if (p) h->live -= (long)osize;
    free(p);
    return NULL;
  }
  h->calls++;
  if (h->left >= 0 && (h->left == 0 || --h->left == 0)) {
    if (!h->lasting) h->left = -1;
    return NULL;
  }
  q = realloc(p, nsize);
  if (q) h->live += (long)nsize - (p ? (long)osize : 0);
  return q;
}

static void test_allocations(void) {
  nni_memory *old = mem;
  nni_error err = {NN_OK, ""};
  int lasting, job, cases = 0;
  CHECK(save(in_dir("mem.h5"), 1, &err) == NN_OK, "%s", err.text);
  for (lasting = 0; lasting < 2; lasting++)
    for (job = 0; job < 2; job++) {
      long n;
      bool done = false;
      for (n = 1; n < 1000 && !done; n++) {
        hook h = {-1, lasting != 0, 0, 0, 0};
        int r;
        mem = nni_memory_open(failing_alloc, &h);
        if (!mem) exit(2);
        h.left = n;
        if (job == 0) r = save(in_dir("mem.h5"), 1, &err) == NN_OK ? 1 : 0;
        else {
          nni_archive a;
          nni_archive_init(&a, mem);
          r = nni_archive_read(&a, in_dir("mem.h5"), &err) == NN_OK;
          h.left = -1;
          if (r) CHECK(holds(&a, 1), "other content");
          nni_archive_close(&a);
        }
        if (!r) CHECK(err.status == NN_ENOMEM, "allocation %ld of job %d: '%s'", n, job, err.text);
        done = h.left > 0; /* it did not need n allocations */
        if (job == 1 && r && h.calls < n) done = true;
        h.left = -1;
        nni_memory_close(mem);
        CHECK(h.live == 0, "allocation %ld of job %d leaks %ld bytes", n, job, h.live);
        mem = old;
        CHECK(load(in_dir("mem.h5"), 1, &err) == 1, "allocation %ld of job %d harmed the file: %s", n, job, err.text);
        CHECK(count_temporaries(dir) == 0 && nni_archive_open_objects() == 0, "allocation %ld of job %d leaves something", n, job);
        cases++;
      }
      CHECK(done, "job %d did not end", job);
    }
  printf("failed allocations: %d cases\n", cases);
}

/* ---- files written in any order ----------------------------------------------------------------------------------------------------------- */
typedef struct memory_file {
  unsigned char p[1 << 16];
  long writes_left;
  size_t reserved;
} memory_file;

static nn_status memory_reserve(void *ud, size_t n, nni_error *err) {
  (void)err;
  ((memory_file *)ud)->reserved = n;
  return NN_OK;
}

static nn_status memory_write(void *ud, const void *p, size_t n, size_t at, nni_error *err) {
  memory_file *f = ud;
  if (f->writes_left-- == 0) return nni_fail(err, NN_EIO, "no more");
  memcpy(f->p + at, p, n);
  return NN_OK;
}

/* Random pieces of a file of 40000 bytes: of each 1000 the bytes 300 to 799 are elements, given once or never, the rest is kept. */
static void scribble(nni_sheet *s, unsigned char *want, int rounds) {
  unsigned char piece[500], got[500];
  bool taken[40] = {false};
  int i;
  size_t k;
  for (i = 0; i < rounds; i++) {
    const bool elements = roll(3) == 0;
    const size_t slot = roll(40), n = 1 + roll(500), at = slot * 1000 + (elements ? 300 : 800);
    if ((elements && taken[slot]) || (!elements && slot == 39)) continue;
    for (k = 0; k < n; k++) piece[k] = (unsigned char)roll(256);
    if (elements) {
      nni_sheet_elements(s, (int64_t)at, piece, n);
      taken[slot] = true;
    } else {
      CHECK(nni_sheet_keep(s, (int64_t)at, piece, n), "no memory");
      nni_sheet_get(s, (int64_t)at, got, n);
      CHECK(memcmp(got, piece, n) == 0, "kept bytes changed");
    }
    memcpy(want + at, piece, n);
  }
}

static void test_sheet(void) {
  static memory_file f;
  nni_memory *old = mem;
  const nni_sink to = {&f, memory_reserve, memory_write};
  unsigned char *want = malloc(40000);
  nni_error err = {NN_OK, ""};
  nni_sheet s;
  uint32_t crc;
  int round, k, grown = 0;
  for (round = 0; round < 200; round++) {
    memset(&f, 0xee, sizeof f); /* what is never written must become zero */
    memset(want, 0, 40000);
    f.writes_left = -1;
    CHECK(nni_sheet_open(&s, mem, &to, round % 2 ? 40000 : 100), "no memory");
    scribble(&s, want, 1 + (int)roll(60));
    grown += s.nslabs > 1;
    CHECK(nni_sheet_finish(&s, 40000, &crc, &err) == NN_OK && !s.failed, "%s", err.text);
    CHECK(memcmp(f.p, want, 40000) == 0 && f.p[40000] == 0xee, "round %d: other bytes", round);
    CHECK(crc == (uint32_t)crc32(0, want, 40000), "round %d: other checksum", round);
    nni_sheet_close(&s);
  }
  CHECK(grown > 50, "%d rounds needed more room than they asked for", grown);
  CHECK(nni_sheet_open(&s, mem, &to, 1000), "no memory");
  nni_sheet_elements(&s, 100, want, 100);
  nni_sheet_elements(&s, 150, want, 10);
  CHECK(!s.failed && nni_sheet_finish(&s, 1000, &crc, &err) == NN_EINTERNAL, "elements twice in a place");
  nni_sheet_close(&s);
  CHECK(nni_sheet_open(&s, mem, &to, 1000), "no memory");
  f.writes_left = 1; /* a disk that fails */
  nni_sheet_elements(&s, 0, want, 10);
  CHECK(!s.failed, "failed");
  nni_sheet_elements(&s, 10, want, 10);
  CHECK(s.failed && strcmp(s.err.text, "no more") == 0 && nni_sheet_keep(&s, 50, want, 10), "%s", s.err.text);
  nni_sheet_close(&s);
  for (k = 1; k < 12; k++) { /* no memory for more */
    hook h = {-1, true, 0, 0, 0};
    bool ok;
    if (!(mem = nni_memory_open(failing_alloc, &h))) exit(2);
    h.left = k;
    f.writes_left = -1;
    ok = nni_sheet_open(&s, mem, &to, 100);
    for (round = 0; ok && round < 30; round++) ok = nni_sheet_keep(&s, round * 1024, want, 10);
    for (round = 0; ok && round < 100; round++) nni_sheet_elements(&s, 40000 + 10 * round, want, 10);
    CHECK((ok && !s.failed) == (h.left > 0) && (!s.failed || s.err.status == NN_ENOMEM), "allocation %d: %s", k, s.err.text);
    nni_sheet_close(&s);
    nni_memory_close(mem);
    CHECK(h.live == 0, "allocation %d: %ld bytes leak", k, h.live);
  }
  mem = old;
  free(want);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------------------- */
static void *peak_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  hook *h = ud;
  void *q = failing_alloc(ud, p, osize, nsize);
  if (h->live > h->peak) h->peak = h->live;
  return q;
}

static long most_resident(void) { /* bytes, since the last forget_resident */
  char line[200];
  long kb = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "VmHWM: %ld", &kb) == 1) break;
  if (f) fclose(f);
  return kb * 1024;
}

static bool forget_resident(void) {
  FILE *f = fopen("/proc/self/clear_refs", "w");
  return f && fputs("5", f) >= 0 && fclose(f) == 0;
}

/* A save needs little beside what it saves; a load what it loads. By our own count, and, where no sanitizer keeps freed memory, by the system's. */
static void test_memory(void) {
  enum { MB = 1 << 20, TOTAL = 96 * MB };
  hook h = {-1, false, 0, 0, 0};
  nni_memory *old = mem;
  nni_error err = {NN_OK, ""};
  nni_archive a, b;
  char *live = malloc(TOTAL), name[40];
  long resident = 0, by_system[2] = {0, 0}, by_count[2];
  bool measured;
  int i;
  if (!live || !(mem = nni_memory_open(peak_alloc, &h))) exit(2);
  for (i = 0; i < TOTAL / 4; i++) ((uint32_t *)(void *)live)[i] = (uint32_t)i * 2654435761u;
  nni_archive_init(&a, mem);
  nni_archive_init(&b, mem);
  for (i = 0; i < 6; i++) {
    snprintf(name, sizeof name, "/model_weights/%d/kernel", i);
    CHECK(nni_archive_add(&a, name, NN_F32, 2, (int64_t[]){4096, 1024}, live + (long)i * 16 * MB, &err) == NN_OK, "%s", err.text);
  }
  measured = forget_resident();
  resident = most_resident();
  CHECK(nni_archive_write(&a, in_dir("memory.h5"), &err) == NN_OK, "%s", err.text);
  by_system[0] = most_resident() - resident;
  by_count[0] = h.peak;
  h.peak = h.live;
  resident = measured && forget_resident() ? most_resident() : 0;
  CHECK(nni_archive_read(&b, in_dir("memory.h5"), &err) == NN_OK, "%s", err.text);
  by_system[1] = most_resident() - resident;
  by_count[1] = h.peak;
  CHECK(by_count[0] > MB / 2 && by_count[0] < 8 * MB, "a save takes %ld bytes of memory", by_count[0]);
  CHECK(by_count[1] > 90L * MB && by_count[1] < 120L * MB, "a load of 96 MB takes %ld bytes of memory", by_count[1]);
  printf("memory beside a state of 96 MB: save %.1f MB, load %.1f MB", (double)by_count[0] / MB, (double)by_count[1] / MB);
#ifdef __SANITIZE_ADDRESS__
  measured = false;
#endif
  if (measured) {
    printf("; resident: save %.1f MB, load %.1f MB", (double)by_system[0] / MB, (double)by_system[1] / MB);
    CHECK(by_system[0] < 16L * MB, "a save takes %ld bytes of resident memory", by_system[0]);
    CHECK(by_system[1] > 80L * MB && by_system[1] < 112L * MB, "a load takes %ld bytes of resident memory", by_system[1]);
  }
  printf("\n");
  nni_archive_close(&a);
  nni_archive_close(&b);
  nni_memory_close(mem);
  mem = old;
  unlink(in_dir("memory.h5"));
  free(live);
}

/* The file in memory is the file on disk. */
static void test_image(void) {
  nni_error err = {NN_OK, ""};
  nni_archive a;
  blob b;
  void *image = NULL;
  size_t capacity = 0, n = 0;
  nni_archive_init(&a, mem);
  ballast = 700000;
  CHECK(save(in_dir("image.h5"), 1, &err) == NN_OK && fill(&a, 1, &err) == NN_OK, "%s", err.text);
  b = slurp(in_dir("image.h5"));
  CHECK(nni_archive_image(&a, &image, &capacity, &n, &err) == NN_OK && n == b.n && memcmp(image, b.p, n) == 0, "%zu bytes, %zu in the file", n, b.n);
  if (image) nni_buffer_put(mem, image, capacity);
  nni_archive_close(&a);
  ballast = 0;
  free(b.p);
}

/* ---- time --------------------------------------------------------------------------------------------------------------------------------- */
static void bench(void) {
  nni_error err = {NN_OK, ""};
  nni_archive a;
  char name[100];
  int i, k;
  double t0, t1, t2;
  for (i = 0; i < NNI_COUNT(big); i++) big[i] = (float)i * 0.37f;
  for (k = 0; k < 5; k++) {
    nni_archive_init(&a, mem);
    for (i = 0; i < 40; i++) {
      snprintf(name, sizeof name, "/model_weights/layer_%d/layer_%d/kernel:0", i, i);
      nni_archive_add(&a, name, NN_F32, 2, (int64_t[]){256, 256}, big, &err);
    }
    t0 = now();
    if (nni_archive_write(&a, in_dir("bench.h5"), &err) != NN_OK) printf("%s\n", err.text);
    t1 = now();
    nni_archive_close(&a);
    if (nni_archive_read(&a, in_dir("bench.h5"), &err) != NN_OK) printf("%s\n", err.text);
    t2 = now();
    nni_archive_close(&a);
    printf("10.5 MB in 40 data sets: save %.1f ms, load %.1f ms\n", 1e3 * (t1 - t0), 1e3 * (t2 - t1));
  }
}

int main(int argc, char **argv) {
  const char *tmp = getenv("TMPDIR");
  const char *seed = getenv("NNLUA_SEED"), *more = getenv("NNLUA_SOAK");
  char remove[200];
  if (seed) dice = strtoull(seed, NULL, 10);
  if (more && atoi(more) > 0) soak = atoi(more);
  printf("seed %llu\n", (unsigned long long)dice);
  snprintf(dir, sizeof dir, "%.30s/nnlua-archive-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(dir) || !(mem = nni_memory_open(NULL, NULL))) return 2;
  if (argc > 1 && strcmp(argv[1], "bench") == 0) bench();
  else {
    test_round_trip();
    test_large();
    test_digest();
    test_bad_trees();
    test_truncation();
    test_flips();
    test_corruptions();
    test_size_limit();
    test_full_disk();
    test_kill();
    test_sweep();
    test_targets();
    test_system_calls();
    test_read_back();
    test_many_failures();
    test_power_loss();
    test_allocations();
    test_sheet();
    test_image();
    test_memory();
    CHECK(nni_archive_open_objects() == 0, "HDF5 objects stay open");
  }
  nni_memory_close(mem);
  snprintf(remove, sizeof remove, "rm -rf '%s'", dir);
  if (argc > 2 || system(remove) != 0) printf("left: %s\n", dir);
  printf("%d failed\n", failures);
  return failures ? 1 : 0;
}
