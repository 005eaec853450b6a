/* io/stream.c - a file's bytes in order, inflated if it is gzipped. See stream.h. */
#include "stream.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)256 * 1024)
#define WINDOW ((size_t)64 * 1024) /* first size of the window */

/* ---- bytes of the file ------------------------------------------------------------------------------------------------- */

/* Read more of the file when the chunk is used up. */
static nn_status refill(nni_stream *s) {
  if (s->used < s->have || s->eof) return NN_OK;
  s->used = s->have = 0;
  while (s->have < CHUNK) {
    ssize_t n = read(s->fd, s->chunk + s->have, CHUNK - s->have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return nni_fail(s->err, NN_EIO, "%s: %s", s->path, strerror(errno));
    if (n == 0) {
      s->eof = true;
      break;
    }
    s->have += (size_t)n;
  }
  return NN_OK;
}

/* zlib gives no size back when it frees: keep it in front. */
static void *z_get(void *ud, unsigned items, unsigned size) {
  size_t n = (size_t)items * size + 16;
  size_t *p = nni_malloc(ud, n);
  if (p == NULL) return NULL;
  *p = n;
  return (char *)p + 16;
}

static void z_put(void *ud, void *p) {
  size_t *head = (size_t *)(void *)((char *)p - 16);
  nni_free(ud, head, *head);
}

static nn_status corrupt(nni_stream *s) {
  return nni_fail(s->err, NN_EFORMAT, "%s: corrupt gzip data after %zu bytes: %s", s->path, s->at,
                  s->z.msg != NULL ? s->z.msg : "invalid stream");
}

nn_status nni_stream_open(nni_stream *s, nni_memory *m, const char *path, nni_error *err) {
  struct stat st;
  *s = (nni_stream){.path = path, .m = m, .err = err};
  s->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (s->fd < 0 || fstat(s->fd, &st) != 0)
    return nni_fail(err, errno == ENOENT ? NN_ENOTFOUND : NN_EIO, "%s: %s", path, strerror(errno));
  if (S_ISDIR(st.st_mode)) return nni_fail(err, NN_EIO, "%s: is a folder", path);
  s->file_bytes = S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
  s->chunk = nni_malloc(m, CHUNK);
  if (s->chunk == NULL) return nni_fail(err, NN_ENOMEM, "%s: out of memory", path);
  nn_status rc = refill(s);
  if (rc != NN_OK) return rc;
  s->gz = s->have >= 2 && s->chunk[0] == 0x1f && s->chunk[1] == 0x8b;
  if (!s->gz) return NN_OK;
  s->z.zalloc = z_get;
  s->z.zfree = z_put;
  s->z.opaque = m;
  if (inflateInit2(&s->z, 15 + 16) != Z_OK) return nni_fail(err, NN_ENOMEM, "%s: out of memory", path);
  s->gz_started = true;
  return NN_OK;
}

void nni_stream_close(nni_stream *s) {
  if (s->m == NULL) return;
  if (s->gz_started) inflateEnd(&s->z);
  nni_free(s->m, s->chunk, CHUNK);
  nni_free(s->m, s->window, s->cap);
  if (s->fd >= 0) close(s->fd);
  *s = (nni_stream){.fd = -1};
}

/* At the end of a gzip member: is there another one, the end of the file, or rubbish? */
static nn_status next_member(nni_stream *s) {
  nn_status rc = refill(s);
  if (rc != NN_OK) return rc;
  s->gz_end = s->used == s->have;
  if (s->gz_end) return NN_OK;
  if (s->chunk[s->used] != 0x1f) return nni_fail(s->err, NN_EFORMAT, "%s: corrupt gzip data: something follows its end", s->path);
  return inflateReset(&s->z) == Z_OK ? NN_OK : corrupt(s);
}

nn_status nni_stream_read(nni_stream *s, void *to, size_t n, size_t *got) {
  uint8_t *dst = to;
  nn_status rc;
  *got = 0;
  while (*got < n && !s->gz_end) {
    if ((rc = refill(s)) != NN_OK) return rc;
    size_t in = s->have - s->used;
    if (in == 0) return NN_OK;
    size_t room = n - *got < CHUNK * 1024 ? n - *got : CHUNK * 1024; /* fits zlib's 32-bit counters */
    if (!s->gz) {
      size_t k = in < room ? in : room;
      memcpy(dst + *got, s->chunk + s->used, k);
      s->used += k;
      *got += k;
      s->at += k;
      continue;
    }
    s->z.next_in = s->chunk + s->used;
    s->z.avail_in = (uInt)in;
    s->z.next_out = dst + *got;
    s->z.avail_out = (uInt)room;
    int z = inflate(&s->z, Z_NO_FLUSH);
    s->used = s->have - s->z.avail_in;
    size_t k = room - s->z.avail_out;
    *got += k;
    s->at += k;
    if (z == Z_STREAM_END) {
      if ((rc = next_member(s)) != NN_OK) return rc;
    } else if (z == Z_MEM_ERROR) {
      return nni_fail(s->err, NN_ENOMEM, "%s: out of memory", s->path);
    } else if (z != Z_OK && z != Z_BUF_ERROR) {
      return corrupt(s);
    }
  }
  return NN_OK;
}

nn_status nni_stream_end(nni_stream *s) {
  if (s->gz && !s->gz_end) return nni_fail(s->err, NN_EFORMAT, "%s: truncated: the gzip data has no end", s->path);
  return NN_OK;
}

/* ---- the window -------------------------------------------------------------------------------------------------------- */

nn_status nni_stream_want(nni_stream *s, size_t n) {
  while (s->hi - s->lo < n && !s->ended) {
    if (s->lo > 0 && s->lo + n > s->cap) { /* what is left moves to the front; then only bytes that really come make it grow */
      memmove(s->window, s->window + s->lo, s->hi - s->lo);
      s->hi -= s->lo;
      s->lo = 0;
    }
    if (s->hi == s->cap) {
      size_t bigger = s->cap == 0 ? WINDOW : 2 * s->cap;
      uint8_t *w = bigger > s->cap ? nni_realloc(s->m, s->window, s->cap, bigger) : NULL;
      if (w == NULL) return nni_fail(s->err, NN_ENOMEM, "%s: out of memory for %zu bytes", s->path, bigger);
      s->window = w;
      s->cap = bigger;
    }
    size_t room = s->cap - s->hi, got;
    nn_status rc = nni_stream_read(s, s->window + s->hi, room, &got);
    if (rc != NN_OK) return rc;
    s->hi += got;
    s->ended = got < room;
    if (s->ended && (rc = nni_stream_end(s)) != NN_OK) return rc;
  }
  return NN_OK;
}

int64_t nni_stream_tell(const nni_stream *s) { return (int64_t)(s->at - (s->hi - s->lo)); }

nn_status nni_stream_seek(nni_stream *s, int64_t at) {
  if (s->gz || s->file_bytes < 0) { /* from its begin, which is where a stream that was just opened stands */
    while (nni_stream_tell(s) < at) {
      nn_status rc = nni_stream_want(s, 1);
      if (rc != NN_OK) return rc;
      size_t have = s->hi - s->lo, left = (size_t)(at - nni_stream_tell(s));
      if (have == 0) break;
      s->lo += have < left ? have : left;
    }
  } else if (at >= 0 && at <= s->file_bytes) {
    if (lseek(s->fd, (off_t)at, SEEK_SET) < 0) return nni_fail(s->err, NN_EIO, "%s: %s", s->path, strerror(errno));
    s->at = (size_t)at;
    s->have = s->used = s->lo = s->hi = 0;
    s->eof = s->ended = false;
  }
  if (nni_stream_tell(s) == at) return NN_OK;
  return nni_fail(s->err, NN_EFORMAT, "%s: byte %lld is past its end", s->path, (long long)at);
}
