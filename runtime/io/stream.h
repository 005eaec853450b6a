/* io/stream.h - a file's bytes in order, plain or gzipped, for the readers of this room and of data/.
**
** Whether a file is gzipped is told by its content, never by its name. A stream knows why it ended: at the end of the data, cut short, or corrupt;
** what reads it is written once for plain and gzipped files. Nothing is allocated on a file's word: buffers grow as bytes really come.
** A stream belongs to one thread at a time.
*/
#ifndef NNI_STREAM_H
#define NNI_STREAM_H
#include <zlib.h>
#include "../base/base.h"

typedef struct nni_stream {
  const char *path; /* borrowed */
  nni_memory *m;    /* NULL: not open */
  nni_error *err;   /* where failures go; may be changed between calls */
  int fd;
  int64_t file_bytes;  /* -1: not a regular file */
  uint8_t *chunk;      /* the next bytes of the file */
  size_t have, used;   /* bytes in chunk, bytes of it consumed */
  size_t at;           /* bytes given so far, inflated */
  bool eof;            /* the file has no more */
  bool gz, gz_started; /* gz_started: z must be ended */
  bool gz_end;         /* the last gzip member is complete */
  z_stream z;
  uint8_t *window; /* nni_stream_want: bytes [lo, hi) of it are next */
  size_t cap, lo, hi;
  bool ended; /* the window's end is the data's */
} nni_stream;

nn_status nni_stream_open(nni_stream *s, nni_memory *m, const char *path, nni_error *err); /* on failure too: nni_stream_close */
void nni_stream_close(nni_stream *s); /* harmless twice, and on zeros */
/* Up to n bytes; *got < n only when the data has ended. */
nn_status nni_stream_read(nni_stream *s, void *dst, size_t n, size_t *got);
nn_status nni_stream_end(nni_stream *s); /* the data has ended: was that where it should? Fails for gzip data that are cut. */

/* The window: window[lo .. hi) has at least n bytes, or all that are left. The reader moves lo. Pointers into it last until the next call.
** Use these or nni_stream_read, not both. */
nn_status nni_stream_want(nni_stream *s, size_t n);
int64_t nni_stream_tell(const nni_stream *s); /* the place of window[lo] in the (inflated) data */
nn_status nni_stream_seek(nni_stream *s, int64_t at); /* constant time in a plain file; in others only ahead, by reading */

#endif
