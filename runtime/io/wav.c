/* io/wav.c - sound as RIFF WAVE, see image.h. Pure functions. Chunks that are not known are skipped; the data end where the file ends. */
#include <math.h>
#include "image.h"

static uint32_t le16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t le32(const uint8_t *p) { return le16(p) | le16(p + 2) << 16; }
static uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t)le32(p + 4) << 32; }

typedef struct format {
  uint32_t kind, channels, rate, bits; /* kind 1: integers, 3: floats; 0: not seen */
} format;

static const char *read_format(const uint8_t *p, size_t n, format *f) {
  if (n < 16) return "its header is damaged";
  *f = (format){le16(p), le16(p + 2), le32(p + 4), le16(p + 14)};
  if (f->kind == 0xfffe) { /* extensible: the kind begins the GUID */
    if (n < 26) return "its header is damaged";
    f->kind = le16(p + 24);
  }
  const bool pcm = f->kind == 1 && (f->bits == 8 || f->bits == 16 || f->bits == 24 || f->bits == 32);
  const bool real = f->kind == 3 && (f->bits == 32 || f->bits == 64);
  if (!pcm && !real) return "its coding is not supported (integers of 8, 16, 24, 32 bits and floats are)";
  if (f->channels < 1 || f->channels > 1024 || f->rate < 1 || f->rate > INT32_MAX) return "its header is damaged";
  return NULL;
}

static float sample(const uint8_t *p, const format *f) {
  if (f->kind == 3 && f->bits == 32) {
    const uint32_t u = le32(p);
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
  }
  if (f->kind == 3) {
    const uint64_t u = le64(p);
    double v;
    memcpy(&v, &u, sizeof v);
    return (float)v;
  }
  switch (f->bits) {
    case 8: return (float)((int)p[0] - 128) / 128.0f;
    case 16: return (float)(int16_t)le16(p) / 32768.0f;
    case 24: return (float)((int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24) >> 8) / 8388608.0f;
    default: return (float)((double)(int32_t)le32(p) / 2147483648.0);
  }
}

nn_status nni_wav_decode(nni_memory *m, const uint8_t *p, size_t n, nni_sound *out, nni_error *err) {
  format f = {0};
  *out = (nni_sound){0};
  if (n < 12 || memcmp(p, "RIFF", 4) != 0 || memcmp(p + 8, "WAVE", 4) != 0) return nni_fail(err, NN_EFORMAT, "WAV: the bytes are no RIFF WAVE file");
  for (size_t at = 12; n - at >= 8;) {
    const uint8_t *chunk = p + at;
    const size_t size = le32(chunk + 4), left = n - at - 8, have = size < left ? size : left;
    if (memcmp(chunk, "fmt ", 4) == 0) {
      const char *wrong = read_format(chunk + 8, have, &f);
      if (wrong != NULL) return nni_fail(err, NN_EFORMAT, "WAV: %s", wrong);
    } else if (memcmp(chunk, "data", 4) == 0) {
      if (f.kind == 0) return nni_fail(err, NN_EFORMAT, "WAV: its header is damaged");
      if (size > left && size < 0xffffff00u) return nni_fail(err, NN_EFORMAT, "WAV: the file ends early"); /* written as a stream: size not known */
      const size_t each = f.bits / 8, frames = have / (each * f.channels), count = frames * f.channels;
      *out = (nni_sound){.frames = (int64_t)frames, .channels = (int32_t)f.channels, .rate = (int32_t)f.rate, .bytes = count * sizeof(float)};
      if ((out->samples = nni_buffer_get(m, out->bytes)) == NULL) return nni_fail(err, NN_ENOMEM, "WAV: out of memory");
      for (size_t i = 0; i < count; i++) out->samples[i] = sample(chunk + 8 + i * each, &f);
      return NN_OK;
    }
    const size_t step = 8 + size + (size & 1);
    if (step > n - at) break;
    at += step;
  }
  return nni_fail(err, NN_EFORMAT, "WAV: it has no data");
}

static void put(uint8_t *p, uint32_t v, int bytes) {
  for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
}

nn_status nni_wav_encode(const nni_sound *s, nni_bytes *out, nni_error *err) {
  const uint64_t count = (uint64_t)s->frames * (uint64_t)s->channels;
  uint8_t head[44] = "RIFF----WAVEfmt ";
  if (count > (UINT32_MAX - 44) / 2) return nni_fail(err, NN_EUNSUPPORTED, "WAV: too long for the format");
  put(head + 4, (uint32_t)(36 + 2 * count), 4);
  put(head + 16, 16, 4);
  put(head + 20, 1, 2);
  put(head + 22, (uint32_t)s->channels, 2);
  put(head + 24, (uint32_t)s->rate, 4);
  put(head + 28, (uint32_t)s->rate * (uint32_t)s->channels * 2, 4);
  put(head + 32, (uint32_t)s->channels * 2, 2);
  put(head + 34, 16, 2);
  memcpy(head + 36, "data", 4);
  put(head + 40, (uint32_t)(2 * count), 4);
  bool ok = nni_bytes_add(out, head, sizeof head);
  for (uint64_t i = 0; ok && i < count; i++) {
    float v = s->samples[i] * 32768.0f;
    v = v > 32767.0f ? 32767.0f : v >= -32768.0f ? v : -32768.0f; /* NaN becomes the lowest */
    uint8_t pair[2];
    put(pair, (uint32_t)(int32_t)lrintf(v), 2);
    ok = nni_bytes_add(out, pair, 2);
  }
  return ok ? NN_OK : nni_fail(err, NN_ENOMEM, "WAV: out of memory");
}
