/* io/replace.h - put new content in a file's place so that every observer, and every crash, finds the old file or the new one.
**
** Steps: sweep temporaries that died processes left in the folder; make a unique temporary there (O_EXCL, locked while we live);
** let the caller fill it; fsync; let the caller verify what is on disk; swap it with the target; fsync the folder; drop the old file.
** When a step fails the target is what it was before, no temporary stays, and the message names the file (for a full disk also the bytes
** needed and free).
** The call may be made from any thread; SIGXFSZ is held back in it, so a file-size limit is an error and not the end of the process.
**
** A new file gets the mode that any new file gets (0666 & ~umask); a replaced one keeps its mode, and its owner where we may set it.
** A symbolic link is followed: the file it points to is replaced. Anything but a regular file is refused.
*/
#ifndef NNI_REPLACE_H
#define NNI_REPLACE_H
#include "../base/base.h"
#include "../nn_file.h"

/* Where the content goes. Both fill the error slot with the reason alone: the file's name is put in front of it later. */
typedef struct nni_sink {
  void *ud;
  nn_status (*reserve)(void *ud, size_t size, nni_error *err); /* the file will have at least so many bytes: have room for them, or fail now */
  nn_status (*write)(void *ud, const void *p, size_t n, size_t at, nni_error *err);
} nni_sink;

/* Write the whole content, in any order, without holes. Anything but NN_OK (with err filled: the reason alone) ends the replacement. */
typedef nn_status (*nni_fill_fn)(void *ud, const nni_sink *to, nni_error *err);
/* Look at the temporary file: anything but NN_OK (with err filled) ends the replacement. */
typedef nn_status (*nni_verify_fn)(void *ud, const char *temporary, nni_error *err);

/* verify may be NULL. */
nn_status nni_file_replace_by(const char *path, nni_fill_fn fill, nni_verify_fn verify, void *ud, nni_error *err);
/* With what lies in memory, one part behind the other. */
nn_status nni_file_replace_parts(const char *path, const nn_part *parts, int n, nni_error *err);
nn_status nni_file_replace(const char *path, const void *data, size_t size, nni_error *err);

#endif
