/* base/status.c - the error slot and checked sizes.
**
** Owns the texts of nn_status and the way a message is put into a slot. Anybody may call; a slot belongs to one thread at a time.
** Invariant: a slot's text is one line, ends with 0 and never ends in the middle of a UTF-8 sequence.
*/
#include <stdio.h>
#include "base.h"

const char *nn_status_text(nn_status s) {
  static const char *const texts[] = {
#define NN_X(name, text) text,
    NN_STATUS_MAP(NN_X)
#undef NN_X
  };
  return (unsigned)s < (unsigned)NNI_COUNT(texts) ? texts[s] : "unknown status";
}

/* Length of the longest prefix of s[0..n) that does not cut a UTF-8 sequence in two. */
static size_t whole_utf8(const char *s, size_t n) {
  size_t lead = n, need;
  while (lead > 0 && n - lead < 4 && ((unsigned char)s[lead - 1] & 0xC0) == 0x80) lead--;
  if (lead == 0) return n;
  need = (unsigned char)s[lead - 1] >= 0xF0 ? 4 : (unsigned char)s[lead - 1] >= 0xE0 ? 3 : (unsigned char)s[lead - 1] >= 0xC0 ? 2 : 1;
  return need > 1 && n - lead + 1 < need ? lead - 1 : n;
}

NNI_PRINTF(3, 0)
nn_status nni_failv(nni_error *slot, nn_status s, const char *fmt, va_list ap) {
  char text[sizeof slot->text]; /* an argument may be the old text of this very slot */
  size_t n;
  int wrote;
  if (slot == NULL) return s;
  wrote = vsnprintf(text, sizeof text, fmt, ap);
  if (wrote < 0) wrote = snprintf(text, sizeof text, "%s", nn_status_text(s));
  n = (size_t)wrote < sizeof text ? (size_t)wrote : whole_utf8(text, sizeof text - 1);
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)text[i] < ' ') text[i] = ' ';
  text[n] = 0;
  memcpy(slot->text, text, n + 1);
  slot->status = s;
  return s;
}

nn_status nni_fail(nni_error *slot, nn_status s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  nni_failv(slot, s, fmt, ap);
  va_end(ap);
  return s;
}

bool nni_size_mul(const int64_t *sizes, int n, size_t elem_bytes, int64_t *count) {
  int64_t product = 1;
  size_t bytes;
  bool empty = false;
  for (int i = 0; i < n; i++) {
    if (sizes[i] < 0) return false;
    empty = empty || sizes[i] == 0;
  }
  if (empty) product = 0; /* whatever the order of the sizes */
  else
    for (int i = 0; i < n; i++)
      if (__builtin_mul_overflow(product, sizes[i], &product)) return false;
  if ((uint64_t)product > PTRDIFF_MAX || __builtin_mul_overflow((size_t)product, elem_bytes, &bytes) || bytes > PTRDIFF_MAX) return false;
  *count = product;
  return true;
}
