/* nn_file.h - bytes and files; a part of the public interface (nn.h is the first). Conventions are nn.h's. */
#ifndef NN_FILE_H
#define NN_FILE_H
#include "nn.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Put new content in a file's place, atomically and on disk when it returns; on failure the old file is untouched. */
NN_API nn_status nn_file_replace(nn_context *ctx, const char *path, const void *data, size_t size);
/* The same of several pieces of memory, one behind the other: a file of many tensors is never put together in memory. */
typedef struct nn_part { const void *data; size_t size; } nn_part;
NN_API nn_status nn_file_replace_parts(nn_context *ctx, const char *path, const nn_part *parts, int n);
/* A tensor of elements as files hold them, row-major. encoding: '<' or '>' (bytes low or high first), a letter and the bytes of an element, as NumPy has them: b1
** truth values, i1 i2 i4 i8, u1 u2 u4 u8, f2 f4 f8, B2 for bf16. i1, i2, u2 become i32, u4 and u8 i64 (numbers above its range: NN_EFORMAT). NN_EFORMAT also
** when the file is too short, found out before anything is allocated. _file reads the open file fd at `offset` straight into the tensor; `name` is for
** messages. _bytes: `size` bytes in memory, which must be exactly the elements. */
NN_API nn_tensor *nn_elements_file(nn_context *ctx, int fd, const char *name, int64_t offset, const char *encoding, int ndim, const int64_t *shape);
NN_API nn_tensor *nn_elements_bytes(nn_context *ctx, const void *from, size_t size, const char *encoding, int ndim, const int64_t *shape);
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
