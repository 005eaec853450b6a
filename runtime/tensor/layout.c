/* tensor/layout.c - shapes and strides: pure functions, no allocation. Everybody may call them. */
#include <stdio.h>
#include "tensor.h"

void nni_layout_contiguous(nni_layout *l, int ndim, const int64_t *shape) {
  int64_t s = 1;
  l->ndim = ndim;
  l->offset = 0;
  for (int i = ndim - 1; i >= 0; i--) {
    l->shape[i] = shape[i];
    l->stride[i] = s;
    s *= shape[i] > 0 ? shape[i] : 1;
  }
}

int64_t nni_layout_numel(const nni_layout *l) {
  int64_t n = 1;
  for (int i = 0; i < l->ndim; i++) n *= l->shape[i];
  return n;
}

bool nni_layout_is_contiguous(const nni_layout *l) {
  int64_t s = 1;
  for (int i = l->ndim - 1; i >= 0; i--) {
    if (l->shape[i] == 0) return true;
    if (l->shape[i] != 1 && l->stride[i] != s) return false;
    s *= l->shape[i];
  }
  return true;
}

bool nni_layout_same_shape(const nni_layout *a, const nni_layout *b) {
  if (a->ndim != b->ndim) return false;
  for (int i = 0; i < a->ndim; i++)
    if (a->shape[i] != b->shape[i]) return false;
  return true;
}

bool nni_layout_broadcast(const nni_layout *a, const nni_layout *b, int *ndim, int64_t *shape) {
  int n = a->ndim > b->ndim ? a->ndim : b->ndim;
  for (int i = 0; i < n; i++) {
    int ia = i - (n - a->ndim), ib = i - (n - b->ndim);
    int64_t sa = ia >= 0 ? a->shape[ia] : 1, sb = ib >= 0 ? b->shape[ib] : 1;
    if (sa != sb && sa != 1 && sb != 1) return false;
    shape[i] = sa == 1 ? sb : sa;
  }
  *ndim = n;
  return true;
}

bool nni_layout_expand(const nni_layout *l, int ndim, const int64_t *shape, nni_layout *out) {
  if (ndim < l->ndim) return false;
  nni_layout r = {.ndim = ndim, .offset = l->offset};
  for (int i = 0; i < ndim; i++) {
    int j = i - (ndim - l->ndim);
    r.shape[i] = shape[i];
    if (j < 0) r.stride[i] = 0;
    else if (l->shape[j] == shape[i]) r.stride[i] = l->stride[j];
    else if (l->shape[j] == 1) r.stride[i] = 0;
    else return false;
  }
  *out = r;
  return true;
}

/* Split l's dims into runs that are contiguous among themselves, then cut each run into the new dims (NumPy's no-copy reshape). */
bool nni_layout_reshape(const nni_layout *l, int ndim, const int64_t *shape, nni_layout *out) {
  nni_layout r = {.ndim = ndim, .offset = l->offset};
  for (int i = 0; i < ndim; i++) r.shape[i] = shape[i];
  if (nni_layout_is_contiguous(l)) {
    nni_layout_contiguous(&r, ndim, shape);
    r.offset = l->offset;
    *out = r;
    return true;
  }
  int64_t os[NN_MAXDIM], ost[NN_MAXDIM]; /* old dims without those of size 1 */
  int on = 0;
  for (int i = 0; i < l->ndim; i++)
    if (l->shape[i] != 1) os[on] = l->shape[i], ost[on] = l->stride[i], on++;
  int oi = 0, ni = 0;
  while (oi < on || ni < ndim) {
    while (ni < ndim && shape[ni] == 1) r.stride[ni++] = 0;
    if (oi == on) break;
    if (ni == ndim) return false;
    int oe = oi + 1, ne = ni + 1;
    int64_t op = os[oi], np = shape[ni];
    while (op != np) {
      if (np < op) {
        if (ne == ndim) return false;
        np *= shape[ne++];
      } else {
        if (oe == on) return false;
        op *= os[oe++];
      }
    }
    for (int k = oi; k < oe - 1; k++)
      if (ost[k] != ost[k + 1] * os[k + 1]) return false;
    int64_t s = ost[oe - 1];
    for (int k = ne - 1; k >= ni; k--) r.stride[k] = s, s *= shape[k];
    oi = oe;
    ni = ne;
  }
  *out = r;
  return true;
}

int nni_shape_text(int ndim, const int64_t *shape, char *buf, size_t n) {
  int len = 0;
  if (n) buf[0] = 0;
  if (ndim == 0) return snprintf(buf, n, "scalar");
  for (int i = 0; i < ndim && len < (int)n - 1; i++) {
    int w = snprintf(buf + len, n - (size_t)len, i ? "x%lld" : "%lld", (long long)shape[i]);
    if (w < 0) break;
    len += w;
  }
  return len < (int)n ? len : (int)n - 1;
}
