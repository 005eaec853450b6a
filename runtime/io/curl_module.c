/* io/curl_module.c - the module nn_curl: the only file that includes libcurl's header.
**
** Exports nn_curl_get (download.h), one blocking HTTPS GET. It never waits for ever: 10 s to connect, 20 s below 100 bytes a second.
** Uses nothing of libnn, so that it loads beside any way of linking it.
*/
#include <curl/curl.h>
#include <errno.h>
#include <md5.h>
#include <sha2.h>
#include <stdio.h>
#include <unistd.h>
#include "download.h"

#define CONNECT_SECONDS 10L
#define STALL_SECONDS 20L
#define STALL_BYTES 100L /* a second */
#define MAX_REDIRECTS 5L

typedef struct transfer {
  nni_curl_job *job;
  MD5_CTX md5;
  SHA2_CTX sha256;
  int write_errno;        /* of the write that failed, else 0 */
  bool too_long, stopped; /* over job->limit; stopped by the progress function */
} transfer;

static size_t on_data(char *p, size_t size, size_t n, void *ud) {
  transfer *t = ud;
  nni_curl_job *job = t->job;
  size_t bytes = size * n, done = 0;
  if (job->limit > 0 && (int64_t)bytes > job->limit - job->bytes) {
    t->too_long = true;
    return 0;
  }
  while (done < bytes) {
    ssize_t k = write(job->fd, p + done, bytes - done);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      t->write_errno = k < 0 ? errno : ENOSPC;
      return 0;
    }
    done += (size_t)k;
  }
  MD5Update(&t->md5, (const uint8_t *)p, bytes);
  SHA256Update(&t->sha256, (const uint8_t *)p, bytes);
  job->bytes += (int64_t)bytes;
  return bytes;
}

static int on_progress(void *ud, curl_off_t total, curl_off_t done, curl_off_t up_total, curl_off_t up) {
  transfer *t = ud;
  (void)up_total, (void)up;
  t->stopped = t->job->progress != NULL && !t->job->progress(t->job->ud, done, total > 0 ? total : -1);
  return t->stopped;
}

/* Redirects keep to the same rules as the first request. */
static CURLcode set_options(CURL *c, nni_curl_job *job, transfer *t, char *text) {
  CURLcode rc = CURLE_OK;
#define SET(option, value) \
  if (rc == CURLE_OK) rc = curl_easy_setopt(c, option, value)
  SET(CURLOPT_ERRORBUFFER, text);
  SET(CURLOPT_URL, job->url);
#if LIBCURL_VERSION_NUM >= 0x075500
  SET(CURLOPT_PROTOCOLS_STR, "https");
  SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
#else
  SET(CURLOPT_PROTOCOLS, (long)CURLPROTO_HTTPS);
  SET(CURLOPT_REDIR_PROTOCOLS, (long)CURLPROTO_HTTPS);
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
  SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that is silent doesn't hold up the end */
#endif
  if (job->ca_file != NULL) SET(CURLOPT_CAINFO, job->ca_file);
  if (job->limit > 0) SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)job->limit); /* a length that the server announces; on_data holds it to it */
  SET(CURLOPT_FOLLOWLOCATION, 1L);
  SET(CURLOPT_MAXREDIRS, MAX_REDIRECTS);
  SET(CURLOPT_FAILONERROR, 1L);
  SET(CURLOPT_NOSIGNAL, 1L);
  SET(CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
  SET(CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
  SET(CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
  SET(CURLOPT_USERAGENT, "nnlua/" NN_VERSION);
  SET(CURLOPT_WRITEFUNCTION, on_data);
  SET(CURLOPT_WRITEDATA, t);
  SET(CURLOPT_NOPROGRESS, 0L);
  SET(CURLOPT_XFERINFOFUNCTION, on_progress);
  SET(CURLOPT_XFERINFODATA, t);
#undef SET
  return rc;
}

static nn_status explain(nni_curl_job *job, const transfer *t, CURLcode code, const char *text) {
  size_t n = sizeof job->text;
  if (t->stopped) {
    snprintf(job->text, n, "download stopped");
    return NN_EINTERRUPT;
  }
  if (t->too_long || code == CURLE_FILESIZE_EXCEEDED) {
    snprintf(job->text, n, "the file is longer than the %lld bytes expected", (long long)job->limit);
    return NN_EFORMAT;
  }
  if (t->write_errno != 0) snprintf(job->text, n, "can't write: %s", strerror(t->write_errno));
  else snprintf(job->text, n, "%s", text[0] != 0 ? text : curl_easy_strerror(code));
  return code == CURLE_OUT_OF_MEMORY ? NN_ENOMEM : NN_EIO;
}

static void write_hex(const uint8_t *digest, int n, char *to) {
  for (int i = 0; i < n; i++) snprintf(to + 2 * i, 3, "%02x", digest[i]);
}

__attribute__((visibility("default"))) nn_status nn_curl_get(nni_curl_job *job);

nn_status nn_curl_get(nni_curl_job *job) {
  transfer t = {.job = job};
  char text[CURL_ERROR_SIZE] = "";
  job->bytes = 0;
  MD5Init(&t.md5);
  SHA256Init(&t.sha256);
  CURL *c = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
  if (c == NULL) {
    snprintf(job->text, sizeof job->text, "libcurl can't start");
    return NN_EIO;
  }
  CURLcode code = set_options(c, job, &t, text);
  if (code == CURLE_OK) code = curl_easy_perform(c);
  curl_easy_cleanup(c);
  nn_status rc = code == CURLE_OK ? NN_OK : explain(job, &t, code, text);
  uint8_t digest[SHA256_DIGEST_LENGTH];
  MD5Final(digest, &t.md5);
  write_hex(digest, MD5_DIGEST_LENGTH, job->md5);
  SHA256Final(digest, &t.sha256);
  write_hex(digest, SHA256_DIGEST_LENGTH, job->sha256);
  return rc;
}
