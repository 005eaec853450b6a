/* io/replace.h - put new content in a file's place so that every observer, and every crash, finds the old file or the new one.
**
** Steps: sweep temporaries that died processes left in the folder; make a unique temporary there (O_EXCL, locked while we live);
** reserve its space; write; fsync; let the caller verify what is on disk; swap it with the target; fsync the folder; drop the old file.
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

/* Look at the temporary file: anything but NN_OK (with err filled) ends the replacement. May free data. */
typedef nn_status (*nni_verify_fn)(void *ud, const char *temporary, nni_error *err);

nn_status nni_file_replace(const char *path, const void *data, size_t size, nni_verify_fn verify, void *ud, nni_error *err);
nn_status nni_file_replace_parts(const char *path, const nn_part *parts, int n, nni_verify_fn verify, void *ud, nni_error *err); /* one behind the other */

#endif
