/* io/bytes.c - checksums, deflated bytes and whole files for callers outside the runtime (nn_file.h). Owns nothing. */
#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stdio.h>
#include <zlib.h>

#include "../nn_file.h"
#include "../tensor/tensor.h"
#include "replace.h"

nn_status nn_file_replace(nn_context *ctx, const char *path, const void *data, size_t size) {
  return nni_file_replace(path, data, size, nni_error_of(ctx));
}

nn_status nn_file_replace_parts(nn_context *ctx, const char *path, const nn_part *parts, int n) {
  return nni_file_replace_parts(path, parts, n, nni_error_of(ctx));
}

#define PIECE ((size_t)1 << 30) /* zlib counts in 32 bits */

uint32_t nn_crc32(uint32_t before, const void *data, size_t size) {
  const unsigned char *p = data;
  uLong crc = before;
  for (; size > 0;) {
    const size_t n = size < PIECE ? size : PIECE;
    crc = crc32(crc, p, (uInt)n);
    p += n;
    size -= n;
  }
  return (uint32_t)crc;
}

static void finish_sha256(SHA2_CTX *c, char hex[65]) {
  uint8_t sum[SHA256_DIGEST_LENGTH];
  int i;
  SHA256Final(sum, c);
  for (i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

void nn_sha256(const void *data, size_t size, char hex[65]) {
  SHA2_CTX c;
  SHA256Init(&c);
  if (size > 0) SHA256Update(&c, data, size);
  finish_sha256(&c, hex);
}

nn_status nn_file_sha256(nn_context *ctx, const char *path, char hex[65]) {
  nni_error *err = nni_error_of(ctx);
  nn_status rc = NN_OK;
  uint8_t piece[65536];
  struct stat st;
  SHA2_CTX c;
  ssize_t n = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold it up */
  if (fd < 0) return nni_fail(err, NN_EIO, "%s: %s", path, strerror(errno));
  SHA256Init(&c);
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) rc = nni_fail(err, NN_EIO, "%s: not a file", path);
  while (rc == NN_OK && (n = read(fd, piece, sizeof piece)) != 0) {
    if (n > 0) SHA256Update(&c, piece, (size_t)n);
    else if (errno != EINTR) rc = nni_fail(err, NN_EIO, "%s: %s", path, strerror(errno));
  }
  close(fd);
  finish_sha256(&c, hex);
  return rc;
}

nn_status nn_inflate(nn_context *ctx, const void *from, size_t packed, void *to, size_t size) {
  nni_error *err = nni_error_of(ctx);
  unsigned char spare; /* bytes behind the last are an error, not a loss */
  z_stream z;
  size_t in = packed, out = size;
  int code;
  memset(&z, 0, sizeof z);
  if (inflateInit2(&z, -MAX_WBITS) != Z_OK) return nni_fail(err, NN_ENOMEM, "inflate: out of memory");
  z.next_in = (Bytef *)(uintptr_t)from;
  z.next_out = to;
  do {
    z.avail_in = (uInt)(in < PIECE ? in : PIECE);
    in -= z.avail_in;
    z.avail_out = (uInt)(out < PIECE ? out : PIECE);
    out -= z.avail_out;
    if (z.avail_out == 0) {
      z.next_out = &spare;
      z.avail_out = 1;
    }
    code = inflate(&z, Z_NO_FLUSH);
    in += z.avail_in;
    if (z.next_out != &spare && z.next_out != &spare + 1) out += z.avail_out;
  } while (code == Z_OK && z.next_out != &spare + 1 && in > 0);
  inflateEnd(&z);
  if (code != Z_STREAM_END || out != 0 || z.next_out == &spare + 1 || in != 0)
    return nni_fail(err, NN_EFORMAT, "inflate: the packed bytes are damaged, or do not unpack to %lld bytes", (long long)size);
  return NN_OK;
}
