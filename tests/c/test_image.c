/* tests/c/test_image.c - runtime/io's image and sound files: what goes out comes back, EXIF turns by hand-made tables, and 2,000 damaged files per format
** (bits, lengths, cuts; PNG with its checksums repaired): an image or a message of one line, all memory returned, never more of it than the file declares.
** Prints a line per failed check. NN_MUTANTS sets another count. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>
#include "base/base.h"
#include "base/check.h"
#include "io/image.h"

static int failures;
static bool check(bool ok, const char *what, int line) {
  if (!ok && ++failures <= 50) printf("tests/c/test_image.c:%d: failed: %s\n", line, what);
  return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

static nni_memory *mem;
static nni_error err;

static bool all_returned(void) {
  nni_memory_check c = nni_memory_inspect(mem);
  return c.small == 0 && c.buffers == 0 && c.damaged == 0;
}

static uint64_t state = 88172645463325252u;
static uint32_t draw(uint32_t n) { /* xorshift */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)((state >> 20) % n);
}

static nni_image picture(int h, int w, int c, int depth) {
  nni_image x;
  CHECK(nni_image_alloc(mem, h, w, c, depth, &x, &err) == NN_OK);
  for (int i = 0; i < h * w * c; i++) {
    const int v = 20 + (i / c % w) * 5 + i / c / w * 3 + i % c * 40; /* smooth: JPEG keeps it nearly */
    if (depth == 16) ((int32_t *)x.pixels)[i] = (v < 255 ? v : 255) * 250 + i % 250;
    else ((uint8_t *)x.pixels)[i] = (uint8_t)(v < 255 ? v : 255);
  }
  return x;
}

/* ---- there and back ------------------------------------------------------------------------------------------------------------------------ */

static void round_trips(void) {
  static const struct { nni_image_format format; int channels, depth, off; } cases[] = {
    {NNI_IMAGE_PNG, 1, 8, 0}, {NNI_IMAGE_PNG, 2, 8, 0}, {NNI_IMAGE_PNG, 3, 8, 0}, {NNI_IMAGE_PNG, 4, 8, 0}, {NNI_IMAGE_PNG, 1, 16, 0},
    {NNI_IMAGE_PNG, 3, 16, 0}, {NNI_IMAGE_BMP, 3, 8, 0}, {NNI_IMAGE_PNM, 1, 8, 0}, {NNI_IMAGE_PNM, 3, 8, 0}, {NNI_IMAGE_PNM, 3, 16, 0},
    {NNI_IMAGE_JPEG, 1, 8, 4}, {NNI_IMAGE_JPEG, 3, 8, 16},
  };
  for (int k = 0; k < NNI_COUNT(cases); k++) {
    nni_image x = picture(19, 23, cases[k].channels, cases[k].depth), y = {0};
    nni_bytes b = {.m = mem};
    const nni_image_want want = {.depth = cases[k].depth};
    CHECK(nni_image_encode(&x, cases[k].format, 98, &b, &err) == NN_OK);
    CHECK(nni_image_sniff(b.p, b.n) == cases[k].format);
    if (CHECK(nni_image_decode(mem, b.p, b.n, &want, &y, &err) == NN_OK)) {
      CHECK(y.height == 19 && y.width == 23 && y.channels == x.channels && y.depth == x.depth && y.bytes == x.bytes);
      int most = 0;
      for (size_t i = 0; i < (size_t)(19 * 23 * x.channels); i++) {
        const int a = x.depth == 16 ? ((int32_t *)x.pixels)[i] - ((int32_t *)y.pixels)[i] : ((uint8_t *)x.pixels)[i] - ((uint8_t *)y.pixels)[i];
        most = abs(a) > most ? abs(a) : most;
      }
      if (most > cases[k].off) printf("  case %d: off by %d\n", k, most);
      CHECK(most <= cases[k].off);
    }
    nni_image_free(mem, &x);
    nni_image_free(mem, &y);
    nni_bytes_free(&b);
  }
  CHECK(all_returned());
}

/* A JPEG of 2 x 3 gray blocks of 16 pixels, each of one value, with an EXIF block put in: where block (0, 0) and (0, 1) are seen. */
static void turns(void) {
  /* orientation -> rows and columns of blocks, place of stored block (0, 0), of (0, 1) */
  static const int seen[9][6] = {{0}, {2, 3, 0, 0, 0, 1}, {2, 3, 0, 2, 0, 1}, {2, 3, 1, 2, 1, 1}, {2, 3, 1, 0, 1, 1},
                                 {3, 2, 0, 0, 1, 0}, {3, 2, 0, 1, 1, 1}, {3, 2, 2, 1, 1, 1}, {3, 2, 2, 0, 1, 0}};
  nni_image x;
  CHECK(nni_image_alloc(mem, 32, 48, 1, 8, &x, &err) == NN_OK);
  for (int i = 0; i < 32 * 48; i++) ((uint8_t *)x.pixels)[i] = (uint8_t)(20 + 40 * (i / 48 / 16 * 3 + i % 48 / 16));
  for (int big = 0; big < 2; big++)
    for (int o = 1; o <= 8; o++) {
      nni_bytes b = {.m = mem};
      CHECK(nni_image_encode(&x, NNI_IMAGE_JPEG, 95, &b, &err) == NN_OK);
      uint8_t little[] = "\xff\xe1\0\x22" "Exif\0\0" "II*\0\x08\0\0\0" "\x01\0" "\x12\x01\x03\0\x01\0\0\0?\0\0\0" "\0\0\0\0";
      uint8_t large[] = "\xff\xe1\0\x22" "Exif\0\0" "MM\0*\0\0\0\x08" "\0\x01" "\x01\x12\0\x03\0\0\0\x01\0?\0\0" "\0\0\0\0";
      uint8_t *exif = big ? large : little, *file = malloc(b.n + 36);
      exif[big ? 29 : 28] = (uint8_t)o;
      memcpy(file, b.p, 2), memcpy(file + 2, exif, 36), memcpy(file + 38, b.p + 2, b.n - 2);
      nni_image y;
      if (CHECK(nni_image_decode(mem, file, b.n + 36, &(nni_image_want){0}, &y, &err) == NN_OK)) {
        const int *s = seen[o];
        const uint8_t *p = y.pixels;
        CHECK(y.height == 16 * s[0] && y.width == 16 * s[1]);
        CHECK(abs(p[(16 * s[2] + 8) * y.width + 16 * s[3] + 8] - 20) < 4);
        if (!CHECK(abs(p[(16 * s[4] + 8) * y.width + 16 * s[5] + 8] - 60) < 4)) printf("  orientation %d\n", o);
        nni_image_free(mem, &y);
      }
      if (CHECK(nni_image_decode(mem, file, b.n + 36, &(nni_image_want){.as_stored = true}, &y, &err) == NN_OK)) {
        CHECK(y.height == 32 && y.width == 48);
        nni_image_free(mem, &y);
      }
      free(file);
      nni_bytes_free(&b);
    }
  nni_image_free(mem, &x);
  CHECK(all_returned());
}

/* ---- damage ----------------------------------------------------------------------------------------------------------------------------------- */

/* Right checksums for all chunks that are whole, so that damage gets past them. */
static void repair_png(uint8_t *p, size_t n) {
  for (size_t at = 8; n >= 12 && at <= n - 12;) {
    const size_t size = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
    if (size > n - at - 12) return;
    const uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), p + at + 4, (uInt)size + 4);
    for (int i = 0; i < 4; i++) p[at + 8 + size + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    at += 12 + size;
  }
}

static size_t damage(const uint8_t *from, size_t n, uint8_t *to) {
  static const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff};
  memcpy(to, from, n);
  const uint32_t front = n < 128 ? (uint32_t)n : 128, kind = draw(5);
  if (kind == 4) n = draw((uint32_t)n);
  for (uint32_t i = 0, times = 1 + draw(4); n > 0 && kind != 4 && i < times; i++) {
    const uint32_t at = draw(draw(2) && front < n ? front : (uint32_t)n), run = 1 + draw(4);
    if (kind == 0) to[at] ^= (uint8_t)(1u << draw(8));
    else if (kind == 1) to[at] = (uint8_t)draw(256);
    else if (kind == 2) for (uint32_t k = at; k < at + run && k < n; k++) to[k] = extremes[draw(5)]; /* lengths */
    else { /* a piece gone */
      const size_t gone = at + run < n ? run : 0;
      memmove(to + at, to + at + gone, n - at - gone);
      n -= gone;
    }
  }
  return n;
}

static bool one_line(void) { return err.text[0] != 0 && strchr(err.text, '\n') == NULL; }

static void hold_image(const uint8_t *p, size_t n, int *good, int *bad) {
  const nni_image_want want = {.channels = (int[]){0, 1, 3, 4}[draw(4)], .depth = draw(2) ? 16 : 8, .height = draw(2) ? 5 : 0, .width = 5};
  nni_image y = {0};
  err = (nni_error){0};
  const nn_status rc = nni_image_decode(mem, p, n, &want, &y, &err);
  if (rc == NN_OK) {
    (*good)++;
    CHECK((int64_t)y.height * y.width <= NNI_IMAGE_PIXELS && (want.channels == 0 || want.channels == y.channels));
    uint64_t sum = 0; /* every byte is there */
    for (size_t i = 0; i < y.bytes; i += 61) sum += ((uint8_t *)y.pixels)[i];
    CHECK(sum <= 255 * (uint64_t)y.bytes);
  } else {
    (*bad)++;
    CHECK(one_line() && y.pixels == NULL && rc == err.status);
  }
  nni_image_free(mem, &y);
}

static void hold_sound(const uint8_t *p, size_t n, int *good, int *bad) {
  nni_sound s;
  err = (nni_error){0};
  if (nni_wav_decode(mem, p, n, &s, &err) == NN_OK) {
    (*good)++;
    CHECK(s.bytes <= 4 * n + 64);
    nni_buffer_put(mem, s.samples, s.bytes);
  } else {
    (*bad)++;
    CHECK(one_line());
  }
}

/* The bytes of a palette BMP and of a PPM in text, which are not written here. */
static void text_of(nni_bytes *b, bool bmp) {
  if (!bmp) {
    nni_bytes_add(b, "P3 # text\n4 3\n255\n", 18);
    for (int i = 0; i < 36; i++) {
      char t[8];
      nni_bytes_add(b, t, (size_t)snprintf(t, sizeof t, "%d ", i * 7));
    }
    return;
  }
  uint8_t head[54] = {'B', 'M', [10] = 118, [14] = 40, [18] = 9, [22] = 5, [26] = 1, [28] = 4, [46] = 16};
  uint8_t rest[64 + 5 * 8];
  for (size_t i = 0; i < sizeof rest; i++) rest[i] = (uint8_t)(i * 37);
  nni_bytes_add(b, head, sizeof head);
  nni_bytes_add(b, rest, sizeof rest);
}

static void mutants(int count) {
  static const struct { const char *name; nni_image_format format; int channels, depth; } seeds[] = {
    {"JPEG", NNI_IMAGE_JPEG, 1, 8}, {"JPEG", NNI_IMAGE_JPEG, 3, 8}, {"PNG", NNI_IMAGE_PNG, 2, 8}, {"PNG", NNI_IMAGE_PNG, 3, 16},
    {"BMP", NNI_IMAGE_BMP, 3, 8}, {"BMP4", NNI_IMAGE_NONE, 1, 8}, {"PNM", NNI_IMAGE_PNM, 3, 16}, {"PNM text", NNI_IMAGE_NONE, 0, 8}, {"WAV", NNI_IMAGE_NONE, 2, 0}};
  for (int k = 0; k < NNI_COUNT(seeds); k++) {
    nni_bytes b = {.m = mem};
    int good = 0, bad = 0;
    if (seeds[k].depth == 0) {
      float v[66];
      for (int i = 0; i < 66; i++) v[i] = sinf((float)i);
      CHECK(nni_wav_encode(&(nni_sound){.frames = 33, .channels = 2, .rate = 8000, .samples = v}, &b, &err) == NN_OK);
    } else if (seeds[k].format == NNI_IMAGE_NONE) {
      text_of(&b, seeds[k].channels == 1);
    } else {
      nni_image x = picture(21, 33, seeds[k].channels, seeds[k].depth);
      CHECK(nni_image_encode(&x, seeds[k].format, 80, &b, &err) == NN_OK);
      nni_image_free(mem, &x);
    }
    if (seeds[k].depth > 0) hold_image(b.p, b.n, &good, &bad);
    else hold_sound(b.p, b.n, &good, &bad);
    CHECK(good == 1);
    for (int i = 0; i < count; i++) {
      uint8_t *to = malloc(b.n + 1), *fit;
      const size_t n = damage(b.p, b.n, to);
      if (seeds[k].format == NNI_IMAGE_PNG && draw(4) > 0) repair_png(to, n);
      fit = malloc(n + !n); /* a tool that watches memory sees the first byte beyond */
      memcpy(fit, to, n);
      if (seeds[k].depth > 0) hold_image(fit, n, &good, &bad);
      else hold_sound(fit, n, &good, &bad);
      free(fit);
      free(to);
    }
    nni_bytes_free(&b);
    CHECK(good + bad == count + 1 && bad > count / 10);
    if (!CHECK(all_returned())) printf("  %s\n", seeds[k].name);
    printf("%s: %d damaged files, %d refused\n", seeds[k].name, count, bad);
  }
}

/* Files that claim much and hold little. */
static void claims(void) {
  static const struct { const char *bytes; size_t n; } list[] = {
    {"P6 16384 16385 255\n", 19}, {"P5 99999999999999999999 1 255\n", 30}, {"P6 2147483647 2147483647 255\n", 29}, {"P3 100 100 255 ", 15},
    {"\x89PNG\r\n\x1a\n", 8}, {"\xff\xd8\xff", 3}, {"\xff\xd8\xff\xe0", 4}, {"BM", 2}, {"P6", 2}, {"", 0}, {"RIFF\0\0\0\0WAVE", 12}};
  for (int i = 0; i < NNI_COUNT(list); i++) {
    nni_image y;
    nni_sound s;
    err = (nni_error){0};
    CHECK(nni_image_decode(mem, (const uint8_t *)list[i].bytes, list[i].n, &(nni_image_want){0}, &y, &err) != NN_OK && one_line());
    err = (nni_error){0};
    CHECK(nni_wav_decode(mem, (const uint8_t *)list[i].bytes, list[i].n, &s, &err) != NN_OK && one_line());
  }
  /* a PNG of 16383 x 16384 in 70 bytes */
  nni_image x = picture(1, 1, 1, 8), y;
  nni_bytes b = {.m = mem};
  CHECK(nni_image_encode(&x, NNI_IMAGE_PNG, 90, &b, &err) == NN_OK);
  b.p[18] = 0x3f, b.p[19] = 0xff, b.p[22] = 0x40, b.p[23] = 0;
  repair_png(b.p, b.n);
  CHECK(nni_image_decode(mem, b.p, b.n, &(nni_image_want){0}, &y, &err) == NN_EFORMAT && strstr(err.text, "more than") != NULL);
  nni_image_free(mem, &x);
  nni_bytes_free(&b);
  CHECK(nni_memory_stats(mem).peak < (size_t)1 << 30);
  CHECK(all_returned());
}

int main(void) {
  const char *given = getenv("NN_MUTANTS");
  mem = nni_memory_open(NULL, NULL);
  if (mem == NULL) return 1;
  round_trips();
  turns();
  claims();
  mutants(given != NULL ? atoi(given) : 2000);
  nni_memory_close(mem);
  if (failures > 0) printf("%d checks failed\n", failures);
  return failures > 0;
}
