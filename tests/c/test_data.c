/* tests/c/test_data.c - runtime/data: the data-set engine against plain loops. Prints a line per failed check. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include "base/base.h"
#include "base/check.h"
#include "data/dataset.h"

static int failures;
static bool check(bool ok, const char *what, int line) {
  if (!ok && ++failures <= 50) printf("tests/c/test_data.c:%d: failed: %s\n", line, what);
  return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

static nni_memory *mem;
static nni_error err;
static nni_threads *pool;

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
static nni_dataset *prefetch(nni_dataset *d, int64_t n) { return then(nni_data_prefetch(d, n, -1, NULL, &err), d); }

static nni_dataset *idly(nni_dataset *d) { return then(nni_data_prefetch(d, 1, INT64_MAX, pool, &err), d); }
static void nothing(void *arg, int64_t begin, int64_t end, int tid) { (void)arg, (void)begin, (void)end, (void)tid; }

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
    nni_parallel(pool, 2, nothing, NULL); /* its thread is awake, and may take what was offered, or not */
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
    case 8: return idly(batch(shuffle(range(23), 10, seed), 4, false));
    case 9: return repeated(take(idly(idly(repeated(batch(shuffle(range(6), 6, seed), 2, false), -1))), 5), 3);
    default: return NULL;
  }
}

/* After every number of elements: save, make the pipeline anew with another seed, restore, and go on as if nothing had been. */
static void test_state(void) {
  for (int kind = 0; kind < 10; kind++) {
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

/* ---- what a resume reads ------------------------------------------------------------------------------------------------------------ */

static _Atomic int64_t rows_read;
static const nni_verb *read_verb;
static void counting_gather(const nni_dataset *d, const int64_t *rows, int64_t n, void *const *dst) {
  rows_read += n;
  read_verb->gather(d, rows, n, dst);
}

/* Rows are numbered: going on at the end of a long pass reads the rows that come, and none of those that have been. */
static void test_reads(void) {
  enum { MANY = 100000, SIZE = 10 };
  static uint8_t x[MANY];
  nni_column col = {.dtype = NN_U8, .data = x};
  nni_dataset *source = nni_data_columns(mem, MANY, 1, &col, &err);
  nni_verb counting = *source->verb;
  read_verb = source->verb;
  counting.gather = counting_gather;
  source->verb = &counting;
  nni_dataset *two[] = {source, nni_dataset_retain(source)};
  nni_dataset *both = nni_data_concat(2, two, &err);
  nni_dataset_release(two[0]);
  nni_dataset_release(two[1]);
  nni_dataset *d = prefetch(batch(skip(shuffle(nni_data_shard(both, 2, 1, &err), MANY, 5), 3), SIZE, false), 2);
  nni_dataset_release(both);
  const int64_t batches = nni_dataset_cardinality(d), stop = batches - 2;
  CHECK(batches == (MANY - 3 + SIZE - 1) / SIZE);
  int64_t words[40], n = 0;
  nni_element e;
  nni_iter *it = nni_iter_open(d, &err), *again = NULL;
  for (; n < stop && nni_iter_next(it, NULL, &e, &err) == NN_OK; n++) nni_element_free(mem, &e);
  CHECK(rows_read >= stop * SIZE && nni_state_words(d) <= 40);
  const int count = nni_state_save(d, it, words);
  nni_iter_close(it);
  rows_read = 0;
  CHECK(nni_state_restore(d, NULL, words, count, &again, &err) == NN_OK && again != NULL);
  CHECK(rows_read == 0);
  for (n = 0; again != NULL && nni_iter_next(again, NULL, &e, &err) == NN_OK && e.n > 0; n++) nni_element_free(mem, &e);
  CHECK(n == 2 && rows_read == MANY - 3 - stop * SIZE);
  nni_iter_close(again);
  nni_dataset_release(d);
  CHECK(all_returned(mem));
}

/* While nobody asks, the pool's thread makes the next batch and no more; the state stays where the consumer is; asking then reads nothing. */
static void test_idle(void) {
  int64_t x[40], words[40], rest[40];
  for (int i = 0; i < 40; i++) x[i] = i;
  nni_column col = {.dtype = NN_I64, .data = x};
  nni_dataset *d = nni_data_columns(mem, 10, 1, &col, &err);
  nni_verb counting = *d->verb;
  read_verb = d->verb;
  counting.gather = counting_gather;
  d->verb = &counting;
  d = idly(batch(d, 4, false));
  nni_element e;
  nni_iter *it = nni_iter_open(d, &err), *back = NULL;
  for (int k = 0; k < 3; k++) {
    const int64_t all[] = {4, 8, 10, 10};
    if (k == 0) rows_read = 0;
    CHECK(nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n == 1 && *(int64_t *)e.c[0].buffer == 4 * k && rows_read >= all[k]);
    nni_element_free(mem, &e);
    for (int i = 0; i < 100000 && rows_read < all[k + 1]; i++) nni_parallel(pool, 2, nothing, NULL);
    CHECK(rows_read == all[k + 1]);
  }
  nni_iter_close(it); /* with the end made ahead */
  it = nni_iter_open(d, &err);
  CHECK(nni_iter_next(it, NULL, &e, &err) == NN_OK && e.n == 1);
  nni_element_free(mem, &e);
  for (rows_read = 4; rows_read < 8;) nni_parallel(pool, 2, nothing, NULL);
  CHECK(nni_state_save(d, it, words) <= 40);
  nni_iter_close(it); /* with a batch made ahead */
  bool ok;
  CHECK(nni_state_restore(d, NULL, words, nni_state_words(d), &back, &err) == NN_OK);
  CHECK(drain(back, rest, 40, &ok) == 8 && ok && rest[0] == 4 && rest[5] == 8);
  nni_iter_close(back);
  nni_dataset_release(d);
  CHECK(all_returned(mem));
}

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
    d = then(nni_data_prefetch(d, 2, worth, NULL, &err), d);
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


/* ---- native maps -------------------------------------------------------------------------------------------------------------- */

static atomic_int begun, ended, dropped_native;

static nn_status native_begin(void *caller, void *ud, void **worker, nni_error *e) {
  (void)caller, (void)ud, (void)e;
  *worker = &begun;
  atomic_fetch_add(&begun, 1);
  return NN_OK;
}
static void native_end(void *ud, void *worker) {
  (void)ud;
  CHECK(worker == &begun);
  atomic_fetch_add(&ended, 1);
}
static void native_drop(void *ud) {
  (void)ud;
  atomic_fetch_add(&dropped_native, 1);
}

/* v -> {v * v, low bits of the key}; 7 is left out, 13 is an error; the later the sooner done. */
static nn_status squared(void *ud, void *worker, nni_memory *m, const nni_sample *sample, nni_element *in, nni_element *out, nni_error *e) {
  int64_t v = *(int64_t *)in->c[0].buffer;
  (void)ud;
  if (worker != &begun) return nni_fail(e, NN_EINVAL, "no worker");
  for (int64_t i = 0; i < 3000 * (8 - sample->index % 8); i++) __asm__ volatile("");
  if (v == 13) return nni_fail(e, NN_EINVAL, "map: 13");
  if (v == 7) return NN_OK;
  int64_t *to = nni_buffer_get(m, 2 * sizeof *to);
  if (to == NULL) return nni_fail(e, NN_ENOMEM, "map: out of memory");
  to[0] = v * v;
  to[1] = (int64_t)(sample->key % 1000000007) + sample->index;
  out->c[0] = (nni_component){.dtype = NN_I64, .ndim = 1, .shape = {2}, .buffer = to, .bytes = 2 * sizeof *to};
  out->n = 1;
  return NN_OK;
}
static nni_dataset *native(nni_dataset *d, int workers, uint64_t seed) {
  nni_native fn = {.name = "squared", .drops = true, .run = squared, .begin = native_begin, .end = native_end, .drop = native_drop};
  return then(d != NULL ? nni_data_native(d, &fn, workers, seed, &err) : NULL, d);
}

static void test_native(void) {
  int64_t want[2][60], got[60], words[64];
  int threads = thread_count();
  for (int workers = 0; workers <= 4; workers++) {
    nni_dataset *d = native(range(12), workers, 3);
    for (int epoch = 0; epoch < 2; epoch++) {
      CHECK(pass(d, got, 60) == 33);
      if (workers == 0) memcpy(want[epoch], got, sizeof got);
      CHECK(memcmp(got, want[epoch], 33 * sizeof *got) == 0);
    }
    CHECK(nni_dataset_cardinality(d) == NN_UNKNOWN);
    nni_dataset_release(d);
    for (int stop = 0; stop <= 11; stop++) { /* elements 0 to 6, 8 to 11 */
      nni_iter *it, *back;
      bool ok;
      d = native(range(12), workers, 3);
      CHECK(pass(d, got, 60) == 33);
      it = nni_iter_open(d, &err);
      CHECK(stop == 0 || drain(it, got, 3 * stop, &ok) == 3 * stop);
      nni_state_save(d, it, words);
      nni_dataset *again = native(range(12), 4 - workers, 99);
      CHECK(nni_state_restore(again, NULL, words, nni_state_words(again), &back, &err) == NN_OK && back != NULL);
      CHECK(drain(back, got, 60, &ok) == 33 - 3 * stop && ok && memcmp(got, want[1] + 3 * stop, (size_t)(33 - 3 * stop) * sizeof *got) == 0);
      nni_iter_close(it);
      nni_iter_close(back);
      nni_dataset_release(d);
      nni_dataset_release(again);
    }
    d = native(range(20), workers, 3); /* an error comes in its place */
    nni_iter *it = nni_iter_open(d, &err);
    bool ok;
    CHECK(drain(it, got, 60, &ok) == 36 && !ok && strcmp(err.text, "map: 13") == 0 && got[33] == 144);
    nni_iter_close(it);
    nni_dataset_release(d);
    d = native(range(20), workers, 3); /* and can be gone past */
    d = then(nni_data_ignore_errors(d, &err), d);
    CHECK(pass(d, got, 60) == 54 && got[36] == 196);
    nni_dataset_release(d);
    d = repeated(native(range(5), workers, 3), 2); /* a new key each time */
    CHECK(pass(d, got, 60) == 30 && got[0] == got[15] && got[1] != got[16]);
    nni_dataset_release(d);
  }
  CHECK(thread_count() == threads && begun == ended && begun > 0 && dropped_native > 0);
  CHECK(nni_data_native(NULL, &(nni_native){.drop = native_drop}, -1, 0, &err) == NULL);
  CHECK(all_returned(mem));
}

/* ---- every other verb ------------------------------------------------------------------------------------------------------------- */

/* i -> the numbers 0 to i % 3 */
static nn_status opened(void *caller, void *ud, int slot, nni_element *in, nni_dataset **out, nni_error *e) {
  const void *data;
  (void)caller, (void)ud, (void)slot;
  nn_status rc = nni_element_data(&in->c[0], &data, e);
  *out = rc == NN_OK ? nni_data_range(mem, 0, 1, *(const int64_t *)data % 3 + 1, e) : NULL;
  return *out != NULL ? NN_OK : e->status;
}

static nn_status by_size(void *caller, void *ud, nni_element *e, int64_t *key, int64_t *size, nni_error *why) {
  (void)caller, (void)ud, (void)why;
  *key = e->c[0].shape[0];
  *size = *key; /* as many elements as they have rows */
  return NN_OK;
}

static nn_status as_it_is(void *caller, void *ud, int64_t key, nni_dataset *window, nni_dataset **out, nni_error *why) {
  (void)caller, (void)ud, (void)key, (void)why;
  *out = nni_dataset_retain(window);
  return NN_OK;
}

/* All of them, on two threads; NULL when something fails. */
static nni_dataset *everything(void) {
  nni_dataset *d = nni_data_range(mem, 0, 1, 40, &err), *e, *two[2];
  for (int k = 0; k < 16 && d != NULL; k++) {
    two[0] = two[1] = d;
    static const int64_t bounds[] = {2, 4}, sizes[] = {3, 3, 3};
    static const nn_padding pad = {.ndim = {-1, -1, -1, -1, -1, -1, -1, -1}};
    nni_native fn = {.name = "squared", .run = squared, .begin = native_begin, .end = native_end};
    e = k == 0 ? nni_data_concat(2, two, &err) : k == 1 ? nni_data_shard(d, 2, 1, &err) : k == 2 ? nni_data_window(d, 3, 2, 2, false, &err)
      : k == 3 ? nni_data_unbatch(d, &err) : k == 4 ? nni_data_unique(d, &err) : k == 5 ? nni_data_cache(d, NULL, &err)
      : k == 6 ? nni_data_flat_map(d, opened, NULL, 0, 2, 1, &err) : k == 7 ? nni_data_window(d, 2, 3, 1, true, &err)
      : k == 8 ? nni_data_bucket(d, 0, &(nni_key){0}, 2, bounds, sizes, &pad, false, &err) : k == 9 ? nni_data_unbatch(d, &err)
      : k == 10 ? nni_data_sample_from(2, two, (const double[]){1, 2}, 4, false, &err) : k == 11 ? nni_data_unbatch(d, &err)
      : k == 12 ? nni_data_native(d, &fn, 2, 5, &err) : k == 13 ? nni_data_padded_batch(d, 2, &pad, false, &err)
      : k == 14 ? nni_data_group(d, &(nni_key){.fn = by_size}, as_it_is, 4, &err) : nni_data_turns(2, two, 2, &err);
    d = then(e, d);
  }
  return d;
}

static int drained(nni_dataset *d, bool *ok) {
  nni_iter *it = nni_iter_open(d, &err);
  nni_element e;
  int n = 0;
  *ok = it != NULL;
  while (*ok && (*ok = nni_iter_next(it, NULL, &e, &err) == NN_OK) && e.n > 0) {
    n++;
    nni_element_free(mem, &e);
  }
  nni_iter_close(it);
  return n;
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
        : k == 2 ? nni_data_shuffle(d, 3, 2, true, &err) : nni_data_prefetch(d, 2, -1, NULL, &err);
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

/* Every verb, two passes, and a resume in between. */
static void test_everything(void) {
  bool finished = false, ok = false;
  int whole = 0;
  for (long n = 0; n < 6000 && !finished; n += n < 400 ? 1 : 7) {
    atomic_store(&fail_at, 0);
    nni_memory *m = nni_memory_open(flaky, NULL), *old = mem;
    mem = m;
    atomic_store(&calls, 0);
    atomic_store(&fail_at, n);
    nni_dataset *d = everything();
    nni_iter *it = NULL;
    int64_t words[300];
    int k = d != NULL ? drained(d, &ok) : -1;
    if (n == 0) whole = k;
    CHECK(d == NULL || !ok || k == whole);
    if (d != NULL && CHECK(nni_state_words(d) <= 300)) {
      nni_state_save(d, NULL, words);
      words[1] = 1; /* as if a pass had just begun: what the stages make of such a state must be an error or a pass, and leak nothing */
      if (nni_state_restore(d, NULL, words, nni_state_words(d), &it, &err) == NN_OK) nni_iter_close(it);
      k = drained(d, &ok);
    }
    finished = n > 0 && ok && atomic_load(&calls) < n;
    nni_dataset_release(d);
    atomic_store(&fail_at, 0);
    if (!CHECK(all_returned(m))) printf("  allocation %ld\n", n);
    nni_memory_close(m);
    mem = old;
  }
  CHECK(finished && whole > 10);
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
  nni_memory *apart = nni_memory_open(NULL, NULL); /* what mem gave is to come back to the last byte */
  pool = apart != NULL ? nni_threads_open(apart, 2) : NULL;
  if (mem == NULL || pool == NULL) return 2;
  nni_parallel(pool, 2, nothing, NULL);
  test_verbs();
  test_columns();
  test_shuffle();
  test_state();
  test_reads();
  test_idle();
  test_workers();
  test_native();
  test_out_of_memory();
  test_everything();
  test_public();
  nni_threads_close(pool);
  nni_memory_close(apart);
  nni_memory_close(mem);
  if (failures > 0) printf("test_data: %d failed\n", failures);
  return failures > 0;
}
