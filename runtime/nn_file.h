/* nn_file.h - bytes and files; a part of the public interface (nn.h is the first). Conventions are nn.h's. */
#ifndef NN_FILE_H
#define NN_FILE_H
#include "nn.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Put new content in a file's place, atomically and on disk when it returns; on failure the old file is untouched. */
NN_API nn_status nn_file_replace(nn_context *ctx, const char *path, const void *data, size_t size);
/* CRC-32 (of zip, gzip, PNG) of the bytes, going on from `before` (0 at first). */
NN_API uint32_t nn_crc32(uint32_t before, const void *data, size_t size);
/* SHA-256 of the bytes, and of a file, as 64 hex digits and a NUL. */
NN_API void nn_sha256(const void *data, size_t size, char hex[65]);
NN_API nn_status nn_file_sha256(nn_context *ctx, const char *path, char hex[65]);
/* Unpack deflated bytes (raw: without zlib's header) into exactly `size` bytes at `to`; NN_EFORMAT when they are more, fewer or damaged. */
NN_API nn_status nn_inflate(nn_context *ctx, const void *from, size_t packed, void *to, size_t size);

#ifdef __cplusplus
}
#endif
#endif
