/* tests/c/test_base.c - runtime/base: error slot, sizes, Philox, memory, threads. Prints a line per failed check. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "base/base.h"
#include "base/check.h"

static int failures;
static bool check(bool ok, const char *what, int line) {
  if (!ok && ++failures <= 50) printf("tests/c/test_base.c:%d: failed: %s\n", line, what);
  return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

/* A small generator of its own, so that the tests do not lean on what they test. */
static uint64_t rng_state = 0x9E3779B97F4A7C15u;
static uint64_t rng(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

/* ---- status ------------------------------------------------------------------------------------------------------------ */

static void test_status(void) {
  nni_error e = {0};
  char longer[3000];
  CHECK(nni_fail(&e, NN_ESHAPE, "matmul: %d vs %s", 784, "512") == NN_ESHAPE);
  CHECK(e.status == NN_ESHAPE && strcmp(e.text, "matmul: 784 vs 512") == 0);
  CHECK(nni_fail(&e, NN_EIO, "load: %s", e.text) == NN_EIO && strcmp(e.text, "load: matmul: 784 vs 512") == 0);
  CHECK(nni_fail(NULL, NN_ENOMEM, "nobody listens %d", 1) == NN_ENOMEM);
  nni_fail(&e, NN_EINVAL, "two\nlines\tand %%s");
  CHECK(strcmp(e.text, "two lines and %s") == 0);
  memset(longer, 'x', sizeof longer);
  longer[sizeof longer - 1] = 0;
  nni_fail(&e, NN_EINVAL, "%s", longer);
  CHECK(strlen(e.text) == sizeof e.text - 1);
  for (size_t pad = 0; pad < 4; pad++) { /* 3-byte letters: the cut never leaves a part of one */
    size_t n = pad;
    memset(longer, 'x', pad);
    while (n + 3 < sizeof longer) memcpy(longer + n, "\xE2\x82\xAC", 3), n += 3;
    longer[n] = 0;
    nni_fail(&e, NN_EINVAL, "%s", longer);
    CHECK(strlen(e.text) > 990 && (strlen(e.text) - pad) % 3 == 0);
  }
  CHECK(strcmp(nn_status_text(NN_ENOMEM), "out of memory") == 0);
  CHECK(strcmp(nn_status_text(NN_OK), "ok") == 0);
  CHECK(strcmp(nn_status_text((nn_status)999), "unknown status") == 0);
}

static void test_size_mul(void) {
  const int64_t top = PTRDIFF_MAX, g = (int64_t)1 << 31;
  static const struct { int n; size_t elem; bool ok; } shape[] = {
    {0, 4, true}, {0, SIZE_MAX, false}, {0, PTRDIFF_MAX, true},
  };
  const struct { int64_t s[4]; int n; size_t elem; bool ok; int64_t count; } t[] = {
    {{2, 3, 4}, 3, 4, true, 24},           {{0, 5}, 2, 4, true, 0},
    {{5, 0}, 2, 4, true, 0},               {{-1, 0}, 2, 4, false, 0},
    {{0, -1}, 2, 4, false, 0},             {{-1, -1}, 2, 1, false, 0},
    {{top}, 1, 1, true, top},              {{top}, 1, 2, false, 0},
    {{top, 2}, 2, 1, false, 0},            {{top, top, 0}, 3, 8, true, 0},
    {{0, top, top}, 3, 8, true, 0},        {{g, g}, 2, 1, true, g * g},
    {{g, g}, 2, 2, false, 0},              {{g, g / 2}, 2, 4, false, 0},
    {{g, g / 4}, 2, 4, true, g / 4 * g},   {{g, g, g, g}, 4, 1, false, 0},
    {{g, g, 2}, 3, 1, false, 0},           {{INT64_MIN}, 1, 1, false, 0},
    {{INT64_MIN, 2}, 2, 1, false, 0},      {{top / 4}, 1, 4, true, top / 4},
    {{top / 4 + 1}, 1, 4, false, 0},       {{1, 1, 1, 1}, 4, 8, true, 1},
    {{3}, 1, SIZE_MAX / 2, false, 0},      {{1}, 1, SIZE_MAX, false, 0},
  };
  int64_t count = 0;
  for (int i = 0; i < NNI_COUNT(t); i++) {
    bool ok = nni_size_mul(t[i].s, t[i].n, t[i].elem, &count);
    if (!CHECK(ok == t[i].ok && (!ok || count == t[i].count))) printf("  row %d\n", i);
  }
  for (int i = 0; i < NNI_COUNT(shape); i++)
    CHECK(nni_size_mul(NULL, shape[i].n, shape[i].elem, &count) == shape[i].ok && (!shape[i].ok || count == 1));
}

/* ---- Philox ------------------------------------------------------------------------------------------------------------ */

/* Product of 32-bit numbers from 16-bit digits, as on paper. */
static void paper_mul(uint32_t a, uint32_t b, uint32_t *hi, uint32_t *lo) {
  uint32_t digit[4] = {0};
  for (int i = 0; i < 2; i++) {
    uint32_t carry = 0;
    for (int j = 0; j < 2; j++) {
      uint32_t s = ((a >> 16 * i) & 0xFFFF) * ((b >> 16 * j) & 0xFFFF);
      uint32_t low = digit[i + j] + (s & 0xFFFF) + (carry & 0xFFFF);
      digit[i + j] = low & 0xFFFF;
      carry = (s >> 16) + (carry >> 16) + (low >> 16);
    }
    digit[i + 2] += carry;
  }
  *lo = digit[1] << 16 | digit[0];
  *hi = (digit[3] << 16) + digit[2];
}

/* The paper's definition, one round after the other. */
static void paper_philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
  for (int r = 0; r < 10; r++) {
    uint32_t h0, l0, h1, l1, next[4];
    paper_mul(0xD2511F53u, c[0], &h0, &l0);
    paper_mul(0xCD9E8D57u, c[2], &h1, &l1);
    next[0] = h1 ^ c[1] ^ k0, next[1] = l1, next[2] = h0 ^ c[3] ^ k1, next[3] = l0;
    memcpy(c, next, sizeof next);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

static void test_philox_known(void) {
  /* Random123's vectors: counter, key, result */
  static const struct { uint64_t counter, stream, key; uint32_t v[4]; } known[] = {
    {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < NNI_COUNT(known); i++) {
    nni_philox p = nni_philox4x32(known[i].key, known[i].counter, known[i].stream);
    CHECK(memcmp(p.v, known[i].v, sizeof p.v) == 0);
  }
  for (int i = 0; i < 2000; i++) {
    uint64_t key = rng(&rng_state), counter = rng(&rng_state), stream = rng(&rng_state);
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    nni_philox p = nni_philox4x32(key, counter, stream);
    paper_philox(c, (uint32_t)key, (uint32_t)(key >> 32));
    if (!CHECK(memcmp(p.v, c, sizeof c) == 0)) break;
  }
}

enum { DRAWS = 2000 };

/* The bulk functions against single blocks, from starts that are not multiples of 4 and across the carry of the counter. */
static void test_random_values(uint64_t first) {
  static uint32_t u[DRAWS];
  static float x[DRAWS], z[DRAWS];
  const uint64_t key = 0x123456789ABCDEFu, stream = 77;
  double worst = 0;
  nni_random_u32(key, stream, first, u, DRAWS);
  nni_random_uniform(key, stream, first, x, DRAWS);
  nni_random_normal(key, stream, first, z, DRAWS);
  for (uint64_t i = 0; i < DRAWS; i++) {
    uint64_t d = first + i, pair = d & ~(uint64_t)1;
    nni_philox b = nni_philox4x32(key, d / 4, stream), c = nni_philox4x32(key, pair / 4, stream);
    double r = sqrt(-2 * log(((c.v[pair % 4] >> 8) + 1) * 0x1p-24)), a = 2 * 3.14159265358979323846 * ((c.v[pair % 4 + 1] >> 8) * 0x1p-24);
    double want = d % 2 == 0 ? r * cos(a) : r * sin(a), off = fabs(want - (double)z[i]);
    if (!CHECK(u[i] == b.v[d % 4] && x[i] == nni_uniform01(u[i]) && x[i] >= 0 && x[i] < 1)) return;
    if (!(off <= worst)) worst = off;
  }
  CHECK(worst < 1.5e-6);
}

/* Any cut into pieces gives the same bits. */
static void test_random_pieces(void) {
  static uint32_t u[DRAWS], v[DRAWS];
  static float x[DRAWS], y[DRAWS], z[DRAWS], w[DRAWS];
  for (int round = 0; round < 40; round++) {
    uint64_t first = rng(&rng_state) % 1000;
    nni_random_u32(5, 6, first, u, DRAWS);
    nni_random_uniform(5, 6, first, x, DRAWS);
    nni_random_normal(5, 6, first, z, DRAWS);
    for (uint64_t at = 0; at < DRAWS;) {
      int64_t n = (int64_t)(rng(&rng_state) % (round < 20 ? 7 : 600));
      if (n > DRAWS - (int64_t)at) n = DRAWS - (int64_t)at;
      nni_random_u32(5, 6, first + at, v + at, n);
      nni_random_uniform(5, 6, first + at, y + at, n);
      nni_random_normal(5, 6, first + at, w + at, n);
      at += (uint64_t)n;
    }
    if (!CHECK(memcmp(u, v, sizeof u) == 0 && memcmp(x, y, sizeof x) == 0 && memcmp(z, w, sizeof z) == 0)) return;
  }
}

static void test_random_moments(void) {
  enum { N = 1 << 18, BINS = 64 };
  static float x[N];
  double s1 = 0, s2 = 0, s3 = 0, s4 = 0, lag = 0, chi = 0;
  int bin[BINS] = {0}, far = 0;
  nni_random_uniform(42, 0, 0, x, N);
  for (int i = 0; i < N; i++) {
    double d = (double)x[i] - 0.5;
    s1 += d, s2 += d * d, bin[(int)(x[i] * BINS)]++;
    if (i > 0) lag += d * ((double)x[i - 1] - 0.5);
  }
  for (int i = 0; i < BINS; i++) chi += (bin[i] - N / BINS) * (double)(bin[i] - N / BINS) / (N / BINS);
  CHECK(fabs(s1 / N) < 5 * sqrt(1.0 / 12 / N) && fabs(s2 / N - 1.0 / 12) < 5 * sqrt(1.0 / 180 / N));
  CHECK(fabs(lag / N) < 5.0 / 12 / sqrt(N) && chi > 20 && chi < 130); /* 63 degrees of freedom */
  nni_random_normal(42, 0, 0, x, N);
  s1 = s2 = lag = 0;
  for (int i = 0; i < N; i++) {
    double d = (double)x[i];
    s1 += d, s2 += d * d, s3 += d * d * d, s4 += d * d * d * d, far += fabs(d) > 3;
    if (i > 0) lag += d * (double)x[i - 1];
  }
  CHECK(fabs(s1 / N) < 5 / sqrt(N) && fabs(s2 / N - 1) < 5 * sqrt(2.0 / N) && fabs(s3 / N) < 5 * sqrt(15.0 / N));
  CHECK(fabs(s4 / N - 3) < 5 * sqrt(96.0 / N) && fabs(lag / N) < 5 / sqrt(N) && abs(far - 708) < 150); /* 2 * (1 - Phi(3)) N = 707.7 */
  nni_random_uniform(43, 0, 0, x, 4);
  CHECK(x[0] != nni_uniform01(nni_philox4x32(42, 0, 0).v[0]));
}

static void test_below(void) {
  int seen[7] = {0};
  for (uint64_t d = 0; d < 70000; d++) {
    uint64_t r = nni_random_below(9, 3, d, 7);
    if (!CHECK(r < 7)) return;
    seen[r]++;
  }
  for (int i = 0; i < 7; i++) CHECK(abs(seen[i] - 10000) < 500);
  for (uint64_t d = 0; d < 500; d++) { /* n = 2^63: the product's top half is the draw shifted by one */
    uint32_t u[2];
    nni_random_u32(9, 3, 2 * d, u, 2);
    CHECK(nni_random_below(9, 3, d, (uint64_t)1 << 63) == ((uint64_t)u[1] << 32 | u[0]) >> 1);
    CHECK(nni_random_below(9, 3, d, 1) == 0 && nni_random_below(9, 3, d, 0) == 0);
  }
}

/* ---- a hook that counts, checks the sizes it is told, and fails on demand ----------------------------------------------------- */

typedef struct hook {
  pthread_mutex_t lock;
  size_t live, peak, limit; /* bytes; limit 0: none */
  long calls, fail_at;      /* fail_at: number of the request that fails, from 1; 0: none */
  bool persistent;          /* and all after it */
  bool failed;
  int wrong;                /* sizes that did not match, under- or overrun */
} hook;
#define MARK 0x5EA1D0C5u
typedef struct head { size_t size; uint64_t mark; } head; /* in front of each block, and the mark again behind it */

static void *hook_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  hook *h = ud;
  head *old = p == NULL ? NULL : (head *)p - 1, *b = NULL;
  uint32_t mark = MARK;
  bool fail = false;
  pthread_mutex_lock(&h->lock);
  if (old != NULL && (old->size != osize || old->mark != MARK || memcmp((char *)p + osize, &mark, 4) != 0)) h->wrong++;
  if (nsize > 0) {
    h->calls++;
    fail = h->fail_at > 0 && (h->persistent ? h->calls >= h->fail_at : h->calls == h->fail_at);
    fail = fail || (h->limit > 0 && h->live - (old != NULL ? osize : 0) + nsize > h->limit);
    h->failed = h->failed || fail;
  }
  if (!fail) {
    h->live += nsize - (old != NULL ? osize : 0);
    if (h->live > h->peak) h->peak = h->live;
  }
  pthread_mutex_unlock(&h->lock);
  if (fail) return NULL;
  if (nsize == 0) {
    free(old);
    return NULL;
  }
  b = realloc(old, sizeof *b + nsize + 4);
  if (b == NULL) return NULL;
  *b = (head){nsize, MARK};
  memcpy((char *)(b + 1) + nsize, &mark, 4);
  return b + 1;
}

static void hook_init(hook *h) {
  memset(h, 0, sizeof *h);
  pthread_mutex_init(&h->lock, NULL);
}

static void hook_check(hook *h) {
  CHECK(h->live == 0);
  CHECK(h->wrong == 0);
  pthread_mutex_destroy(&h->lock);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

static void test_small(void) {
  hook h;
  nni_memory *m;
  char *p, *q;
  hook_init(&h);
  m = nni_memory_open(hook_alloc, &h);
  p = nni_malloc(m, 100);
  memset(p, 7, 100);
  q = nni_realloc(m, p, 100, 200);
  CHECK(q != NULL && q[99] == 7 && nni_memory_inspect(m).small == 200);
  h.limit = h.live;
  CHECK(nni_realloc(m, q, 200, 300) == NULL && q[99] == 7 && nni_malloc(m, 1) == NULL && nni_strdup(m, "x") == NULL);
  h.limit = 0;
  q = nni_realloc(m, q, 200, 10);
  CHECK(q != NULL && q[9] == 7 && nni_memory_inspect(m).small == 10);
  CHECK(nni_realloc(m, q, 10, 0) == NULL);
  CHECK(nni_malloc(m, 0) == NULL && nni_malloc(m, SIZE_MAX) == NULL && nni_calloc(m, (size_t)PTRDIFF_MAX + 1) == NULL);
  p = nni_calloc(m, 64);
  for (int i = 0; i < 64; i++) CHECK(p[i] == 0);
  nni_free(m, p, 64);
  nni_free(m, NULL, 64);
  p = nni_strdup(m, "words");
  CHECK(strcmp(p, "words") == 0);
  nni_free(m, p, 6);
  CHECK(nni_memory_inspect(m).small == 0 && nni_memory_stats(m).live == 0);
  nni_memory_close(m);
  hook_check(&h);
}

static void test_buffers(void) {
  static const size_t sizes[] = {0, 1, 63, 64, 65, 511, 512, 513, 1000, 4096, 65537, 1 << 20, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9000000};
  void *p[NNI_COUNT(sizes)];
  size_t total = 0;
  volatile unsigned sum = 0;
  hook h;
  nni_memory *m;
  hook_init(&h);
  m = nni_memory_open(hook_alloc, &h);
  for (int i = 0; i < NNI_COUNT(sizes); i++) {
    size_t n = sizes[i];
    p[i] = nni_buffer_get(m, n);
    if (!CHECK(p[i] != NULL)) return;
    CHECK((uintptr_t)p[i] % (n >= 2 << 20 ? 2 << 20 : 64) == 0);
    memset(p[i], i, n);
    for (size_t k = n; k < n + NNI_PAD; k++) sum += ((unsigned char *)p[i])[k]; /* readable: AddressSanitizer looks on */
    total += n;
    CHECK(nni_memory_stats(m).live == total && nni_memory_stats(m).allocated == total && nni_memory_stats(m).peak == total);
  }
  (void)sum;
  CHECK(h.live < total + total / 8 + NNI_COUNT(sizes) * 400 + 4 * (2 << 20) + 8192); /* an eighth, records, 3 + 1 alignments */
  for (int i = 0; i < NNI_COUNT(sizes); i++) {
    for (size_t k = 0; k < sizes[i]; k += 61) CHECK(((unsigned char *)p[i])[k] == i);
    nni_buffer_put(m, p[i], sizes[i]);
  }
  nni_buffer_put(m, NULL, 5);
  CHECK(nni_memory_stats(m).live == 0 && nni_memory_stats(m).cached >= total && nni_memory_stats(m).peak == total);
  for (int i = NNI_COUNT(sizes) - 1; i >= 0; i--) { /* the same blocks come back, last put first */
    long calls = h.calls;
    void *q = nni_buffer_get(m, sizes[i]);
    CHECK(q == p[i] && h.calls == calls);
    p[i] = q;
  }
  CHECK(nni_memory_stats(m).cached == 0);
  for (int i = 0; i < NNI_COUNT(sizes); i++) nni_buffer_put(m, p[i], sizes[i]);
  nni_memory_trim(m);
  CHECK(nni_memory_stats(m).cached == 0 && h.live < 8192); /* the pool's own record */
  p[0] = nni_buffer_get(m, 1000000);
  nni_buffer_put(m, p[0], 1000000);
  p[1] = nni_buffer_get(m, 900000); /* a little smaller: takes the bigger block; much smaller does not */
  p[2] = nni_buffer_get(m, 500000);
  CHECK(p[1] == p[0] && p[2] != NULL);
  nni_buffer_put(m, p[1], 900000);
  nni_buffer_put(m, p[2], 500000);
  CHECK(nni_buffer_get(m, SIZE_MAX) == NULL && nni_buffer_get(m, PTRDIFF_MAX) == NULL);
  CHECK(nni_memory_inspect(m).damaged == 0);
  nni_memory_close(m);
  hook_check(&h);
}

/* On exhaustion the cache is given back and the request tried again. */
static void test_exhaustion(void) {
  hook h;
  nni_memory *m;
  void *p, *q;
  hook_init(&h);
  m = nni_memory_open(hook_alloc, &h);
  h.limit = 16 << 20;
  nni_buffer_put(m, nni_buffer_get(m, 7 << 20), 7 << 20);
  CHECK(!h.failed && nni_memory_stats(m).cached >= 7 << 20);
  p = nni_buffer_get(m, 12 << 20);
  CHECK(p != NULL && h.failed && nni_memory_stats(m).cached == 0);
  CHECK(nni_buffer_get(m, 12 << 20) == NULL);
  q = nni_buffer_get(m, 1 << 20);
  CHECK(q != NULL && nni_memory_stats(m).live == 13 << 20 && nni_memory_inspect(m).buffers == 2);
  nni_buffer_put(m, p, 12 << 20);
  nni_buffer_put(m, q, 1 << 20);
  nni_memory_close(m);
  hook_check(&h);
}

/* Sizes that never come again do not fill the memory: without a bound the cache would hold 9 times the last of them. */
static void test_cache_bound(void) {
  const size_t last = 64 << 20;
  hook h;
  nni_memory *m;
  hook_init(&h);
  m = nni_memory_open(hook_alloc, &h);
  for (size_t n = 1 << 20; n < last; n += n / 8) nni_buffer_put(m, nni_buffer_get(m, n), n);
  CHECK(h.peak > last / 2 && h.peak < last * 2 + last / 4 + (72 << 20));
  nni_memory_close(m);
  hook_check(&h);
}

#ifdef NNI_DEBUG
/* A write behind the pad and a wrong size are counted; the messages go to stderr, which is set aside. */
static void test_guard(void) {
  nni_memory *m = nni_memory_open(NULL, NULL);
  int keep = dup(2);
  char *p;
  if (!CHECK(keep >= 0 && freopen("/dev/null", "w", stderr) != NULL)) return;
  p = nni_buffer_get(m, 100);
  p[99 + NNI_PAD] = 1; /* the last byte of the pad: allowed */
  nni_buffer_put(m, p, 100);
  CHECK(nni_memory_inspect(m).damaged == 0);
  p = nni_buffer_get(m, 100);
  p[100 + NNI_PAD] = 1;
  nni_buffer_put(m, p, 100);
  CHECK(nni_memory_inspect(m).damaged == 1);
  p = nni_buffer_get(m, 100);
  CHECK((unsigned char)p[0] == 0xFF && (unsigned char)p[99] == 0xFF); /* a fresh buffer is full of NaN */
  nni_buffer_put(m, p, 100);
  p = nni_buffer_get(m, 3000);
  nni_buffer_put(m, p, 3001);
  CHECK(nni_memory_inspect(m).damaged == 2 && nni_memory_stats(m).live == 0);
  fflush(stderr);
  dup2(keep, 2);
  close(keep);
  nni_memory_close(m);
}
#endif

typedef struct stress { nni_memory *m; uint64_t seed; int bad; } stress;

static void *stress_main(void *arg) {
  enum { HELD = 32, ROUNDS = 4000 };
  stress *s = arg;
  struct { unsigned char *p; size_t n; unsigned char fill; } held[HELD] = {0};
  for (int i = 0; i < ROUNDS; i++) {
    uint64_t r = rng(&s->seed);
    int k = (int)(r % HELD);
    if (held[k].p != NULL) {
      for (size_t j = 0; j < held[k].n; j += 97) s->bad += held[k].p[j] != held[k].fill;
      nni_buffer_put(s->m, held[k].p, held[k].n);
      held[k].p = NULL;
    } else {
      held[k].n = (size_t)(r >> 8) % (r % 5 == 0 ? 300000 : 3000);
      held[k].fill = (unsigned char)(r >> 40);
      held[k].p = nni_buffer_get(s->m, held[k].n);
      if (held[k].p == NULL) s->bad++;
      else memset(held[k].p, held[k].fill, held[k].n);
    }
    if (i % 1000 == 999) nni_memory_trim(s->m);
  }
  for (int k = 0; k < HELD; k++) nni_buffer_put(s->m, held[k].p, held[k].n);
  return NULL;
}

static void test_stress(void) {
  pthread_t th[4];
  stress s[4];
  hook h;
  nni_memory *m;
  hook_init(&h);
  m = nni_memory_open(hook_alloc, &h);
  for (int i = 0; i < 4; i++) {
    s[i] = (stress){m, rng(&rng_state), 0};
    CHECK(pthread_create(&th[i], NULL, stress_main, &s[i]) == 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(th[i], NULL);
    CHECK(s[i].bad == 0);
  }
  CHECK(nni_memory_stats(m).live == 0 && nni_memory_inspect(m).buffers == 0 && nni_memory_inspect(m).damaged == 0);
  nni_memory_close(m);
  hook_check(&h);
}

static void test_slab_arena(void) {
  nni_memory *m = nni_memory_open(NULL, NULL);
  nni_slab s;
  nni_arena a;
  void *p, *q, *first = NULL;
  size_t held;
  nni_slab_init(&s, m, 3); /* smaller than a link */
  p = nni_slab_get(&s), q = nni_slab_get(&s);
  CHECK(p != NULL && q != NULL && p != q);
  nni_slab_put(&s, p);
  nni_slab_put(&s, NULL);
#ifndef __SANITIZE_ADDRESS__
  CHECK(nni_slab_get(&s) == p && s.free == NULL);
  nni_slab_put(&s, p);
#endif
  nni_slab_put(&s, q);
  nni_slab_close(&s);
  CHECK(nni_memory_inspect(m).small == 0);
  nni_arena_init(&a, m);
  for (int round = 0; round < 3; round++) {
    unsigned char *piece[300];
    size_t n[300];
    for (int i = 0; i < 300; i++) {
      n[i] = i == 100 ? 3000000 : i % 50 == 0 ? 0 : (size_t)(i * 37 % 4000);
      piece[i] = nni_arena_get(&a, n[i]);
      if (!CHECK(piece[i] != NULL && (uintptr_t)piece[i] % 16 == 0)) return;
      memset(piece[i], i & 0xFF, n[i]);
    }
    for (int i = 0; i < 300; i++)
      if (n[i] > 0) CHECK(piece[i][0] == (i & 0xFF) && piece[i][n[i] - 1] == (i & 0xFF));
    if (round == 0) first = piece[0], held = nni_memory_inspect(m).small;
    CHECK(piece[0] == first && nni_memory_inspect(m).small == held); /* blocks are kept */
    nni_arena_reset(&a);
  }
  CHECK(nni_arena_get(&a, SIZE_MAX) == NULL && nni_arena_get(&a, 8) == first);
  nni_arena_close(&a);
  CHECK(nni_memory_inspect(m).small == 0);
  nni_memory_close(m);
}

/* ---- threads ----------------------------------------------------------------------------------------------------------- */

static int create_limit = -1; /* pthread_create works this many times more; < 0: always */

/* Takes the place of the C library's, so that a test can make it fail. */
int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  if (create_limit == 0) return 11; /* EAGAIN */
  if (create_limit > 0) create_limit--;
  return real(t, attr, fn, arg);
}

typedef struct cover { nni_threads *t; int64_t count; int hits[128]; int owner[128]; atomic_int calls, wrong; } cover;

static void cover_part(void *arg, int64_t begin, int64_t end, int tid) {
  cover *c = arg;
  atomic_fetch_add(&c->calls, 1);
  if (begin >= end || begin < 0 || end > c->count || tid < 0 || tid >= nni_threads_count(c->t)) atomic_fetch_add(&c->wrong, 1);
  else
    for (int64_t i = begin; i < end; i++) c->hits[i]++, c->owner[i] = tid;
}

/* Each block once, by the thread that the static partition says. `threads`: 0 when they may be fewer than asked for. */
static bool covers(nni_threads *t, int64_t count, int threads) {
  cover c = {.t = t, .count = count};
  bool ok;
  nni_parallel(t, count, cover_part, &c);
  ok = c.wrong == 0 && c.calls >= (count > 0) && c.calls <= nni_threads_count(t);
  for (int64_t i = 0; i < count; i++) {
    ok = ok && c.hits[i] == 1;
    if (threads > 0 && count > 1) /* tid is the one with count * tid / n <= i < count * (tid + 1) / n */
      ok = ok && count * c.owner[i] / threads <= i && i < count * (c.owner[i] + 1) / threads;
  }
  return ok;
}

static void test_cover(nni_memory *m) {
  nni_threads *t = nni_threads_open(m, 1);
  for (int n = 1; n <= 5; n++) {
    CHECK(nni_threads_resize(t, n) && nni_threads_count(t) == n);
    for (int64_t count = 0; count <= 100; count++)
      if (!CHECK(covers(t, count, n))) printf("  count %d, %d threads\n", (int)count, n);
  }
  CHECK(nni_threads_resize(t, 2) && covers(t, 100, 2) && nni_threads_resize(t, 0) && nni_threads_count(t) >= 1 && covers(t, 100, 0));
  nni_threads_close(t);
  t = nni_threads_open(m, 0);
  CHECK(t != NULL && nni_threads_count(t) >= 1 && nni_threads_count(t) <= 64);
  nni_threads_close(t); /* no thread was ever started */
  nni_threads_close(NULL);
}

typedef struct huge { atomic_llong sum; atomic_int calls; } huge;
static void huge_part(void *arg, int64_t begin, int64_t end, int tid) {
  huge *h = arg;
  (void)tid;
  atomic_fetch_add(&h->sum, end - begin);
  atomic_fetch_add(&h->calls, begin >= 0 && end > begin);
}

typedef struct nest { nni_threads *t, *other; atomic_int inner, outer, wrong; int tid; } nest;
static void nest_inner(void *arg, int64_t begin, int64_t end, int tid) {
  nest *n = arg;
  if (begin != 0 || end != 50 || tid != n->tid) atomic_fetch_add(&n->wrong, 1);
  atomic_fetch_add(&n->inner, 1);
}
static void nest_outer(void *arg, int64_t begin, int64_t end, int tid) {
  nest *shared = arg;
  for (int64_t i = begin; i < end; i++) {
    nest n = {.t = shared->t, .tid = tid};
    nni_parallel(n.t, 50, nest_inner, &n);
    if (n.inner != 1) atomic_fetch_add(&shared->wrong, 1);
    n.tid = 0; /* of another pool this is just a thread */
    nni_parallel(shared->other, 50, nest_inner, &n);
    if (n.inner != 2 || n.wrong != 0) atomic_fetch_add(&shared->wrong, 1);
    atomic_fetch_add(&shared->outer, 1);
  }
}

static void test_nested(nni_memory *m) {
  nni_threads *t = nni_threads_open(m, 3), *other = nni_threads_open(m, 2);
  nest n = {.t = t, .other = other};
  huge h = {0};
  for (int i = 0; i < 50; i++) nni_parallel(t, 10, nest_outer, &n);
  CHECK(n.outer == 500 && n.wrong == 0);
  CHECK(covers(t, 100, 3) && covers(other, 100, 2)); /* and the caller is outside again */
  nni_parallel(t, INT64_MAX, huge_part, &h);
  CHECK(h.sum == INT64_MAX && h.calls == 3);
  nni_threads_close(t);
  nni_threads_close(other);
}

static void nap(long us) {
  struct timespec s = {0, us * 1000};
  nanosleep(&s, NULL);
}

typedef struct sleeper { int slow; atomic_int done; } sleeper;
static void sleeper_part(void *arg, int64_t begin, int64_t end, int tid) {
  sleeper *s = arg;
  if (tid == s->slow) nap(300);
  atomic_fetch_add(&s->done, (int)(end - begin));
}

/* Workers that went to sleep wake up, and so does a caller that did. */
static void test_sleep(nni_memory *m) {
  for (int n = 2; n <= 5; n += 3) {
    nni_threads *t = nni_threads_open(m, n);
    sleeper s = {0};
    for (int i = 0; i < 300; i++) {
      s.slow = i % (n + 1);
      nni_parallel(t, n, sleeper_part, &s);
      nap(i % 3 == 0 ? 0 : i % 60); /* about as long as the spinning takes */
    }
    CHECK(s.done == 300 * n);
    for (int i = 0; i < 3000; i++) nni_parallel(t, n, sleeper_part, &(sleeper){.slow = -1});
    nni_threads_close(t);
  }
}

/* Fewer threads than asked for, or none, still do all the blocks; asking again later works. */
static void test_no_thread(nni_memory *m) {
  for (int have = 0; have < 4; have++) {
    nni_threads *t = nni_threads_open(m, 4);
    create_limit = have;
    CHECK(covers(t, 100, 0) && covers(t, 3, 0));
    CHECK(nni_threads_count(t) == have + 1);
    create_limit = -1;
    CHECK(covers(t, 100, have + 1));
    CHECK(nni_threads_resize(t, 4) && covers(t, 100, 4) && nni_threads_count(t) == 4);
    nni_threads_close(t);
  }
}

/* A pool that believes it has the machine, on one CPU: slower, but it goes on. */
static void test_one_cpu(nni_memory *m) {
  nni_threads *t = nni_threads_open(m, 2);
  cpu_set_t all, one;
  struct timespec a, b;
  int first = 0;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof all, &all) == 0) {
    while (!CPU_ISSET(first, &all)) first++;
    CPU_SET(first, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 500; i++) CHECK(covers(t, 100, 2)); /* the worker inherits the one CPU */
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK(b.tv_sec - a.tv_sec < 10);
    sched_setaffinity(0, sizeof all, &all);
  } else printf("skipped: one CPU (no affinity)\n");
  nni_threads_close(t);
}

typedef struct chore { nni_errand e; nni_threads *t; int64_t begun, kept, refused; atomic_int ran; } chore;
static void chore_run(void *arg) {
  chore *c = arg;
  nni_parallel(c->t, 4, sleeper_part, &(sleeper){.slow = -1}); /* runs inline */
  atomic_fetch_add(&c->ran, 1);
}
static void *chores(void *arg) {
  chore *c = arg;
  for (int i = 0; i < 20000; i++) {
    if (!nni_threads_offer(c->t, &c->e)) c->refused++;
    else if (nni_threads_take_back(c->t, &c->e)) c->kept++;
    else c->begun++;
  }
  return NULL;
}

/* What is offered is done once by a worker or taken back, never both; the loops go on beside it. */
static void test_errands(nni_memory *m) {
  for (int n = 2; n <= 5; n += 3) {
    nni_threads *t = nni_threads_open(m, n);
    chore a = {.t = t}, b = {.t = t};
    sleeper s = {.slow = -1};
    a.e = (nni_errand){.run = chore_run, .arg = &a};
    b.e = (nni_errand){.run = chore_run, .arg = &b};
    CHECK(nni_threads_offer(t, &a.e) && !nni_threads_offer(t, &b.e)); /* no worker runs yet; there is room for one */
    CHECK(nni_threads_take_back(t, &a.e) && a.ran == 0);
    CHECK(nni_threads_offer(t, &a.e));
    for (int i = 0; i < 20000 && a.ran == 0; i++) nni_parallel(t, n, sleeper_part, &s), nap(50);
    CHECK(a.ran == 1 && !nni_threads_take_back(t, &a.e) && a.ran == 1);
    CHECK(nni_threads_offer(t, &b.e) && (nni_threads_resize(t, n + 1), nni_threads_resize(t, 1))); /* it outlasts the workers */
    CHECK(nni_threads_take_back(t, &b.e) + b.ran == 1);
    b.ran = 0;
    CHECK(nni_threads_resize(t, n));
    pthread_t others[2];
    CHECK(pthread_create(&others[0], NULL, chores, &a) == 0 && pthread_create(&others[1], NULL, chores, &b) == 0);
    atomic_store(&s.done, 0);
    for (int i = 0; i < 20000; i++) nni_parallel(t, n, sleeper_part, &s);
    CHECK(s.done == 20000 * n);
    pthread_join(others[0], NULL);
    pthread_join(others[1], NULL);
    CHECK(a.begun + a.kept + a.refused == 20000 && a.ran == a.begun + 1 && b.begun + b.kept + b.refused == 20000 && b.ran == b.begun);
    nni_threads_close(t);
  }
}

/* ---- the N-th allocation fails, once or from then on ------------------------------------------------------------------------ */

/* A bit of everything; false when a step failed. Whatever happens, all is given back. */
static bool everything(nni_memory *m) {
  static const size_t sizes[] = {100, 5000, 3 << 20};
  void *p[NNI_COUNT(sizes)], *obj[5];
  char *text = nni_strdup(m, "text"), *more = NULL;
  nni_threads *t = nni_threads_open(m, 2);
  nni_slab s;
  nni_arena a;
  bool ok = text != NULL && t != NULL;
  nni_slab_init(&s, m, 40);
  nni_arena_init(&a, m);
  more = nni_realloc(m, text, 5, 500);
  if (more != NULL) ok = ok && strcmp(more, "text") == 0;
  else ok = false;
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < NNI_COUNT(sizes); i++) ok = (p[i] = nni_buffer_get(m, sizes[i] * (size_t)(round + 1))) != NULL && ok;
    for (int i = 0; i < NNI_COUNT(sizes); i++) nni_buffer_put(m, p[i], sizes[i] * (size_t)(round + 1));
  }
  for (int i = 0; i < NNI_COUNT(obj); i++) ok = (obj[i] = nni_slab_get(&s)) != NULL && ok;
  for (int i = 0; i < NNI_COUNT(obj); i++) nni_slab_put(&s, obj[i]);
  for (int i = 0; i < 40; i++) ok = nni_arena_get(&a, 3000) != NULL && ok;
  if (t != NULL) {
    int n = nni_threads_count(t);
    bool grew = nni_threads_resize(t, 3);
    CHECK(nni_threads_count(t) == (grew ? 3 : n) && covers(t, 10, 0));
    ok = ok && grew;
  }
  nni_threads_close(t);
  nni_arena_close(&a);
  nni_slab_close(&s);
  if (more != NULL) nni_free(m, more, 500);
  else nni_free(m, text, 5);
  return ok;
}

static void test_failures(void) {
  for (int persistent = 0; persistent < 2; persistent++) {
    long n = 0, reported = 0;
    bool failed;
    do {
      hook h;
      nni_memory *m;
      bool ok;
      hook_init(&h);
      h.fail_at = ++n;
      h.persistent = persistent;
      m = nni_memory_open(hook_alloc, &h);
      ok = m != NULL && everything(m);
      reported += !ok;
      CHECK(ok || h.failed);
      if (persistent) CHECK(ok == !h.failed); /* a single failure of a buffer is made good by the second try */
      if (m != NULL) CHECK(nni_memory_inspect(m).small == 0 && nni_memory_stats(m).live == 0);
      nni_memory_close(m);
      failed = h.failed;
      hook_check(&h);
    } while (failed && n < 1000);
    CHECK(n > 20 && n < 1000 && reported == (persistent ? n - 1 : n - 1 - 6)); /* 6 buffers come from the hook */
  }
}

int main(void) {
  nni_memory *m = nni_memory_open(NULL, NULL);
  static const uint64_t starts[] = {0, 1, 2, 3, 1001, ((uint64_t)1 << 34) - 37, ((uint64_t)1 << 63) + 5};
  test_status();
  test_size_mul();
  test_philox_known();
  for (int i = 0; i < NNI_COUNT(starts); i++) test_random_values(starts[i]);
  test_random_pieces();
  test_random_moments();
  test_below();
  test_small();
  test_buffers();
  test_exhaustion();
  test_cache_bound();
#ifdef NNI_DEBUG
  test_guard();
#endif
  test_stress();
  test_slab_arena();
  test_cover(m);
  test_nested(m);
  test_sleep(m);
  test_errands(m);
  test_no_thread(m);
  test_one_cpu(m);
  test_failures();
  nni_memory_close(m);
  if (failures > 0) printf("%d checks failed\n", failures);
  return failures > 0;
}
