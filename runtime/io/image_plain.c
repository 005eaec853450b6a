/* io/image_plain.c - the formats that need no library: PPM and PGM, BMP; and the orientation in a JPEG's EXIF block. See image.h. Pure functions.
**
** Every offset is compared with the length of the file before it is used, in 64 bits.
*/
#include <stdio.h>
#include "image.h"

nn_status nni_image_alloc(nni_memory *m, int64_t height, int64_t width, int channels, int depth, nni_image *out, nni_error *err) {
  if (height < 1 || width < 1 || height > NNI_IMAGE_PIXELS || width > NNI_IMAGE_PIXELS || height * width > NNI_IMAGE_PIXELS)
    return nni_fail(err, NN_EFORMAT, "image: %lld x %lld pixels; it can have 1 to 2^28", (long long)height, (long long)width);
  *out = (nni_image){.height = (int32_t)height, .width = (int32_t)width, .channels = channels, .depth = depth};
  out->bytes = (size_t)height * (size_t)width * (size_t)channels * (depth == 16 ? sizeof(int32_t) : 1);
  out->pixels = nni_buffer_get(m, out->bytes);
  return out->pixels != NULL ? NN_OK : nni_fail(err, NN_ENOMEM, "image: out of memory for %zu bytes", out->bytes);
}

/* ---- PPM and PGM: P2, P3 (text), P5, P6 ------------------------------------------------------------------------------------------------- */

typedef struct cursor {
  const uint8_t *p, *end;
} cursor;

/* The next number of a header or a text raster; -1 when there is none. Comments begin with # and end with the line. */
static int64_t read_number(cursor *c) {
  int64_t v = 0;
  bool comment = false;
  for (; c->p < c->end; c->p++) {
    const uint8_t ch = *c->p;
    if (comment) comment = ch != '\n';
    else if (ch == '#') comment = true;
    else if (ch != ' ' && ch != '\t' && ch != '\n' && ch != '\r') break;
  }
  if (c->p == c->end || *c->p < '0' || *c->p > '9') return -1;
  for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
    if ((v = 10 * v + (*c->p - '0')) > INT32_MAX) return -1;
  return v;
}

/* v of 0..top as a sample of `depth` bits */
static int32_t scaled(int64_t v, int64_t top, int depth) {
  const int64_t full = depth == 16 ? 65535 : 255;
  if (v > top) v = top;
  return (int32_t)(top == full ? v : (v * full + top / 2) / top);
}

nn_status nni_pnm_decode(nni_memory *m, const uint8_t *p, size_t n, int depth, nni_image *out, nni_error *err) {
  cursor c = {p + 2, p + n};
  const int kind = p[1] - '0', channels = kind == 3 || kind == 6 ? 3 : 1;
  const int64_t width = read_number(&c), height = read_number(&c), top = read_number(&c);
  if (width < 1 || height < 1 || top < 1 || top > 65535) return nni_fail(err, NN_EFORMAT, "PNM image: its header is damaged");
  const bool text = kind < 4;
  if (!text) {
    if (c.p == c.end) return nni_fail(err, NN_EFORMAT, "PNM image: the file ends early");
    c.p++; /* one blank ends the header */
  }
  const int64_t each = text ? 2 : top > 255 ? 2 : 1; /* a number in text takes two bytes at least, but for the last */
  if (height > NNI_IMAGE_PIXELS || width > NNI_IMAGE_PIXELS || height * width > NNI_IMAGE_PIXELS)
    return nni_fail(err, NN_EFORMAT, "PNM image: %lld x %lld pixels; it can have 1 to 2^28", (long long)height, (long long)width);
  const int64_t count = height * width * channels;
  if (count * each > c.end - c.p + (text ? 1 : 0)) return nni_fail(err, NN_EFORMAT, "PNM image: the file ends early");
  nn_status rc = nni_image_alloc(m, height, width, channels, depth == 16 && top > 255 ? 16 : 8, out, err);
  if (rc != NN_OK) return rc;
  for (int64_t i = 0; i < count; i++) {
    int64_t v;
    if (text) v = read_number(&c);
    else {
      v = *c.p++;
      if (top > 255) v = v << 8 | *c.p++;
    }
    if (v < 0) {
      nni_image_free(m, out);
      return nni_fail(err, NN_EFORMAT, "PNM image: the file ends early");
    }
    const int32_t s = scaled(v, top, out->depth);
    if (out->depth == 16) ((int32_t *)out->pixels)[i] = s;
    else ((uint8_t *)out->pixels)[i] = (uint8_t)s;
  }
  return NN_OK;
}

nn_status nni_pnm_encode(const nni_image *x, nni_bytes *out, nni_error *err) {
  char head[64];
  const int n = snprintf(head, sizeof head, "P%d\n%d %d\n%d\n", x->channels == 1 ? 5 : 6, x->width, x->height, x->depth == 16 ? 65535 : 255);
  const size_t count = (size_t)x->height * (size_t)x->width * (size_t)x->channels;
  bool ok = nni_bytes_add(out, head, (size_t)n);
  if (x->depth == 8) ok = ok && nni_bytes_add(out, x->pixels, count);
  for (size_t i = 0; x->depth == 16 && ok && i < count; i++) {
    const int32_t v = ((const int32_t *)x->pixels)[i];
    const uint8_t pair[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    ok = nni_bytes_add(out, pair, 2);
  }
  return ok ? NN_OK : nni_fail(err, NN_ENOMEM, "image: out of memory");
}

/* ---- BMP: 1, 4, 8 bits with a palette, 16 (5-5-5 or masks), 24, 32 bits; not compressed ---------------------------------------------------- */

static uint32_t le16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t le32(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

typedef struct bmp {
  int64_t width, height;
  bool upward; /* the last row is stored first, as it usually is */
  int bits;
  uint64_t pixels, palette, colours; /* where they begin; how many colours */
  int palette_each;
  uint32_t mask[4]; /* red, green, blue, alpha */
  bool masked;
} bmp;

static const char *bmp_header(const uint8_t *p, size_t n, bmp *b) {
  if (n < 26) return "the file ends early";
  const uint32_t head = le32(p + 14);
  *b = (bmp){.pixels = le32(p + 10)};
  uint32_t packed = 0;
  if (head == 12) {
    b->width = le16(p + 18);
    b->height = le16(p + 20);
    b->bits = (int)le16(p + 24);
    b->palette_each = 3;
  } else {
    if (head < 40 || head > 1024 || n < 14 + (size_t)head) return "its header is damaged";
    b->width = (int32_t)le32(p + 18);
    b->height = (int32_t)le32(p + 22);
    b->bits = (int)le16(p + 28);
    packed = le32(p + 30);
    b->colours = le32(p + 46);
    b->palette_each = 4;
  }
  b->upward = b->height > 0;
  if (b->height < 0) b->height = -b->height;
  b->palette = 14 + (uint64_t)head;
  if (packed == 3 || packed == 6) { /* masks: behind a header of 40 bytes, or in a longer one */
    const int masks = packed == 6 || head >= 56 ? 4 : 3;
    if (b->bits != 16 && b->bits != 32) return "its header is damaged";
    if (n < 54 + (size_t)masks * 4) return "the file ends early";
    for (int i = 0; i < masks; i++) b->mask[i] = le32(p + 54 + 4 * i);
    b->masked = true;
  } else if (packed != 0) {
    return "it is compressed, which is not supported";
  }
  if (b->bits == 16 && !b->masked) b->mask[0] = 0x7c00, b->mask[1] = 0x3e0, b->mask[2] = 0x1f, b->masked = true;
  if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 && b->bits != 32) return "its header is damaged";
  if (b->width < 1 || b->height < 1) return "its header is damaged";
  return NULL;
}

/* The bits of v under mask as 0..255 */
static uint8_t masked(uint32_t v, uint32_t mask) {
  if (mask == 0) return 0;
  const int low = __builtin_ctz(mask);
  const uint64_t top = mask >> low;
  return (uint8_t)(((uint64_t)((v & mask) >> low) * 255 + top / 2) / top);
}

static void bmp_pixel(const bmp *b, const uint8_t *file, const uint8_t *row, int64_t x, int channels, uint8_t *to) {
  if (b->bits <= 8) {
    const int per = 8 / b->bits;
    uint32_t i = (uint32_t)row[x / per] >> (b->bits * (per - 1 - (int)(x % per))) & ((1u << b->bits) - 1);
    if (i >= b->colours) i = 0; /* no such colour */
    const uint8_t *c = file + b->palette + (size_t)i * (size_t)b->palette_each;
    to[0] = c[2], to[1] = c[1], to[2] = c[0];
    return;
  }
  const uint8_t *at = row + x * (b->bits / 8);
  if (!b->masked) {
    to[0] = at[2], to[1] = at[1], to[2] = at[0];
    return;
  }
  const uint32_t v = b->bits == 16 ? le16(at) : le32(at);
  for (int c = 0; c < channels; c++) to[c] = masked(v, b->mask[c]);
}

nn_status nni_bmp_decode(nni_memory *m, const uint8_t *p, size_t n, nni_image *out, nni_error *err) {
  bmp b;
  const char *wrong = bmp_header(p, n, &b);
  if (wrong != NULL) return nni_fail(err, NN_EFORMAT, "BMP image: %s", wrong);
  if (b.bits <= 8) {
    if (b.colours == 0 || b.colours > 1u << b.bits) b.colours = 1u << b.bits;
    if (b.palette + b.colours * (uint64_t)b.palette_each > n) return nni_fail(err, NN_EFORMAT, "BMP image: the file ends early");
  }
  const uint64_t stride = ((uint64_t)b.width * (uint64_t)b.bits + 31) / 32 * 4;
  if (b.pixels > n || (uint64_t)b.height > (n - b.pixels) / stride) return nni_fail(err, NN_EFORMAT, "BMP image: the file ends early");
  const int channels = b.masked && b.mask[3] != 0 ? 4 : 3;
  nn_status rc = nni_image_alloc(m, b.height, b.width, channels, 8, out, err);
  if (rc != NN_OK) return rc;
  uint8_t *to = out->pixels;
  for (int64_t y = 0; y < b.height; y++) {
    const uint8_t *row = p + b.pixels + stride * (uint64_t)(b.upward ? b.height - 1 - y : y);
    for (int64_t x = 0; x < b.width; x++, to += channels) bmp_pixel(&b, p, row, x, channels, to);
  }
  return NN_OK;
}

static void put32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

nn_status nni_bmp_encode(const nni_image *x, nni_bytes *out, nni_error *err) {
  const uint64_t stride = ((uint64_t)x->width * 3 + 3) / 4 * 4, total = stride * (uint64_t)x->height;
  uint8_t head[54] = {'B', 'M', [10] = 54, [14] = 40, [26] = 1, [28] = 24};
  if (total > UINT32_MAX - 54) return nni_fail(err, NN_EUNSUPPORTED, "BMP image: too large for the format");
  put32(head + 2, (uint32_t)(54 + total));
  put32(head + 18, (uint32_t)x->width);
  put32(head + 22, (uint32_t)x->height);
  put32(head + 34, (uint32_t)total);
  bool ok = nni_bytes_add(out, head, sizeof head);
  for (int32_t y = x->height - 1; ok && y >= 0; y--) {
    const uint8_t *row = (const uint8_t *)x->pixels + (size_t)y * (size_t)x->width * (size_t)x->channels;
    for (int32_t i = 0; ok && i < x->width; i++, row += x->channels) {
      const uint8_t bgr[3] = {row[x->channels == 1 ? 0 : 2], row[x->channels == 1 ? 0 : 1], row[0]};
      ok = nni_bytes_add(out, bgr, 3);
    }
    ok = ok && nni_bytes_add(out, "\0\0\0", stride - (uint64_t)x->width * 3);
  }
  return ok ? NN_OK : nni_fail(err, NN_ENOMEM, "image: out of memory");
}

/* ---- EXIF ------------------------------------------------------------------------------------------------------------------------------ */

/* Of a TIFF block of n bytes: tag 0x0112 of its first directory. */
static int tiff_orientation(const uint8_t *t, size_t n) {
  if (n < 14 || (memcmp(t, "II*\0", 4) != 0 && memcmp(t, "MM\0*", 4) != 0)) return 1;
  const bool big = t[0] == 'M';
#define U16(at) (big ? (uint32_t)t[at] << 8 | t[(at) + 1] : le16(t + (at)))
  const uint32_t at = big ? __builtin_bswap32(le32(t + 4)) : le32(t + 4);
  if (at < 8 || (uint64_t)at + 2 > n) return 1;
  const uint32_t entries = U16(at);
  for (uint32_t i = 0; i < entries; i++) {
    const uint64_t e = (uint64_t)at + 2 + 12 * (uint64_t)i;
    if (e + 12 > n) return 1;
    if (U16(e) != 0x0112) continue;
    const uint32_t v = U16(e + 8);
    return U16(e + 2) == 3 && v >= 1 && v <= 8 ? (int)v : 1;
  }
#undef U16
  return 1;
}

int nni_exif_orientation(const uint8_t *p, size_t n) {
  size_t at = 2;
  while (at + 4 <= n && p[at] == 0xff) {
    const int marker = p[at + 1];
    if (marker == 0xff) { /* fill byte */
      at++;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) return 1; /* the pixels begin */
    const size_t size = (size_t)p[at + 2] << 8 | p[at + 3];
    if (size < 2 || size > n - at - 2) return 1;
    if (marker == 0xe1 && size >= 8 && memcmp(p + at + 4, "Exif\0\0", 6) == 0) return tiff_orientation(p + at + 10, size - 8);
    at += 2 + size;
  }
  return 1;
}
