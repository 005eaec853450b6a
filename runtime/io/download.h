/* io/download.h - fetch one file over HTTPS into place, whole and verified, or not at all.
**
** libcurl lives in the module nn_curl beside libnn (io/curl_module.c), loaded on first use: a program that downloads nothing pays nothing.
** Main thread only.
*/
#ifndef NNI_DOWNLOAD_H
#define NNI_DOWNLOAD_H
#include "../base/base.h"
#include "../nn_data.h"

/* NN_EIO: no network, refused, stalled, full disk; NN_EFORMAT: the bytes are not those that md5 or sha256 names. dest is untouched on failure. */
nn_status nni_download_run(const nn_download *d, nni_error *err);

/* What the module is handed; it exports NNI_CURL_SYMBOL with the type nni_curl_fn. */
#define NNI_CURL_SYMBOL "nn_curl_get"
typedef struct nni_curl_job {
  const char *url, *ca_file; /* ca_file: instead of the system's certificates; may be NULL */
  int fd;                    /* where the bytes go */
  int64_t limit;
  bool (*progress)(void *ud, int64_t done, int64_t total);
  void *ud;
  char md5[33], sha256[65]; /* out */
  int64_t bytes;            /* out */
  char text[512];           /* out: why it failed */
} nni_curl_job;
typedef nn_status (*nni_curl_fn)(nni_curl_job *job);

#endif
