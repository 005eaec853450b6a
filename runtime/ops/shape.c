/* ops/shape.c - operators that rearrange, repeat or border a tensor, triangles and diagonals, and tensors made from nothing with a pattern
** or by chance.
**
** All of them are composed of views, cat, where, index_select and slice_set; their gradients are those of the parts.
*/
#include <math.h>
#include "ops.h"

static nn_status err(const nni_scope *s) { return nni_error_of(s->ctx)->status; }

static nn_tensor *narrow(nni_scope *s, nn_tensor *x, int dim, int64_t start, int64_t size) {
  return nni_do(s, narrow, NN_T(x), NN_I(dim), NN_INTS(1, &start), NN_I(size));
}
static nn_tensor *permuted(nni_scope *s, nn_tensor *x, const int64_t *dims) {
  return x ? nni_do(s, permute, NN_T(x), NN_INTS(x->l.ndim, dims)) : NULL;
}

static void list_of(const nn_arg *a, int *n, const int64_t **v) {
  *n = a->kind == NN_ARG_INTS ? a->n : 1;
  *v = a->kind == NN_ARG_INTS ? a->u.ints : &a->u.i;
}

/* ---- views ---- */
nn_status nni_rule_view(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t, *y = nni_do(&c->s, reshape, NN_T(x), c->arg[1]);
  char a[150], b[150];
  if (!y || y->v == x->v) return nni_give(c, y);
  nn_shape_text(x, a, sizeof a);
  nn_shape_text(y, b, sizeof b);
  return nni_opfail(&c->s, NN_ESHAPE, "%s as it lies in memory cannot be seen as %s without a copy; use reshape, or contiguous() first", a, b);
}

nn_status nni_rule_broadcast_to(nni_call *c) { return nni_give(c, nni_do(&c->s, expand, c->arg[0], c->arg[1])); }

nn_status nni_rule_movedim(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int nf, nt, nd = x->l.ndim;
  const int64_t *from, *to;
  bool taken[NN_MAXDIM], placed[NN_MAXDIM];
  int64_t dims[NN_MAXDIM];
  list_of(&c->arg[1], &nf, &from);
  list_of(&c->arg[2], &nt, &to);
  if (nf != nt) return nni_opfail(s, NN_EINVAL, "%d dims are to be moved to %d places", nf, nt);
  if (!nni_dims(s, &c->arg[1], nd, taken) || !nni_dims(s, &c->arg[2], nd, placed)) return NN_EINVAL;
  for (int i = 0; i < nf; i++) dims[to[i] < 0 ? to[i] + nd : to[i]] = from[i] < 0 ? from[i] + nd : from[i];
  for (int i = 0, k = 0; i < nd; i++) {
    if (placed[i]) continue;
    while (taken[k]) k++;
    dims[i] = k++;
  }
  return nni_give(c, permuted(s, x, dims));
}

nn_status nni_rule_narrow(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int64_t start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM];
  const int64_t n = c->arg[3].u.i;
  int dim;
  if (!nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return NN_EINVAL;
  if (c->arg[2].n != 1) return nni_opfail(s, NN_EINVAL, "start must be one position");
  const int64_t first = c->arg[2].u.ints[0];
  if (first < 0 || n < 0 || first > x->l.shape[dim] || n > x->l.shape[dim] - first)
    return nni_opfail(s, NN_EINDEX, "%lld elements from position %lld on are not in dim %d, which has size %lld", (long long)n, (long long)first + 1,
                      dim + 1, (long long)x->l.shape[dim]);
  for (int i = 0; i < x->l.ndim; i++) step[i] = 1, size[i] = x->l.shape[i];
  start[dim] = first;
  size[dim] = n;
  return nni_give(c, nni_do(s, slice, NN_T(x), NN_INTS(x->l.ndim, start), NN_INTS(x->l.ndim, size), NN_INTS(x->l.ndim, step)));
}

static nn_tensor *flipped(nni_scope *s, nn_tensor *x, const bool *on) {
  int64_t start[NN_MAXDIM] = {0}, step[NN_MAXDIM];
  if (!x) return NULL;
  for (int i = 0; i < x->l.ndim; i++) {
    step[i] = on[i] ? -1 : 1;
    start[i] = on[i] && x->l.shape[i] ? x->l.shape[i] - 1 : 0;
  }
  return nni_do(s, slice, NN_T(x), NN_INTS(x->l.ndim, start), NN_INTS(x->l.ndim, x->l.shape), NN_INTS(x->l.ndim, step));
}
nn_status nni_rule_flip(nni_call *c) {
  bool on[NN_MAXDIM];
  if (!nni_dims(&c->s, &c->arg[1], c->arg[0].u.t->l.ndim, on)) return NN_EINVAL;
  return nni_give(c, flipped(&c->s, c->arg[0].u.t, on));
}

/* ---- repeating ---- */
static nn_tensor *repeated(nni_scope *s, nn_tensor *x, int dim, int64_t n, bool each) { /* each: elements, else the whole dim */
  int64_t wide[NN_MAXDIM + 1], flat[NN_MAXDIM];
  if (!x || n == 1) return x;
  const int nd = x->l.ndim;
  if (nd == NN_MAXDIM) {
    nni_opfail(s, NN_ESHAPE, "at most %d dims are possible here", NN_MAXDIM - 1);
    return NULL;
  }
  nn_tensor *y = nni_do(s, unsqueeze, NN_T(x), NN_I(each ? dim + 1 : dim));
  if (!y) return NULL;
  for (int i = 0; i < nd; i++) flat[i] = x->l.shape[i];
  for (int i = 0; i <= nd; i++) wide[i] = y->l.shape[i];
  wide[each ? dim + 1 : dim] = n;
  if (__builtin_mul_overflow(flat[dim], n, &flat[dim])) {
    nni_opfail(s, NN_ESHAPE, "%lld repetitions are too many", (long long)n);
    return NULL;
  }
  y = nni_do(s, expand, NN_T(y), NN_INTS(nd + 1, wide));
  return y ? nni_reshape(s, y, nd, flat) : NULL;
}

nn_status nni_rule_tile(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int64_t shape[NN_MAXDIM];
  const int n = c->arg[1].n, nd = x->l.ndim > n ? x->l.ndim : n;
  if (nd > NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "%d dims, at most %d are possible", nd, NN_MAXDIM);
  for (int i = 0; i < nd; i++) shape[i] = i < nd - x->l.ndim ? 1 : x->l.shape[i - (nd - x->l.ndim)];
  if (nd > x->l.ndim) x = nni_reshape(s, x, nd, shape);
  for (int i = 0; i < n; i++) {
    if (c->arg[1].u.ints[i] < 0) return nni_opfail(s, NN_EINVAL, "%lld repetitions", (long long)c->arg[1].u.ints[i]);
    x = repeated(s, x, nd - n + i, c->arg[1].u.ints[i], false);
  }
  return nni_give(c, x);
}

/* As often as a tensor says: element i of the result is the first whose running count is above i. The sum must be known: the window runs here. */
static nn_tensor *repeated_by(nni_scope *s, nn_tensor *x, int dim, nn_tensor *counts) {
  int64_t total, least = 0;
  if (nn_dtype_is_float(counts->dtype) || counts->dtype == NN_BOOL || counts->l.ndim != 1 || counts->l.shape[0] != x->l.shape[dim]) {
    nni_opfail(s, NN_ESHAPE, "repeats must be an integer, or a 1-D integer tensor as long as dim %d (%lld)", dim + 1, (long long)x->l.shape[dim]);
    return NULL;
  }
  nn_tensor *sum = nni_do(s, sum, NN_T(counts), NN_NONE, NN_I(0)), *low = nn_numel(counts) ? nni_do(s, amin, NN_T(counts), NN_NONE, NN_I(0)) : NULL;
  if (!sum || nn_item(sum, NULL, &total) != NN_OK || (low && nn_item(low, NULL, &least) != NN_OK)) return NULL;
  if (least < 0) {
    nni_opfail(s, NN_EINVAL, "%lld repetitions", (long long)least);
    return NULL;
  }
  nn_tensor *ends = nni_do(s, cumsum, NN_T(counts), NN_I(0), NN_I(0), NN_I(0));
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)total), NN_F(1), NN_I(NN_I64));
  return nni_do(s, index_select, NN_T(x), NN_I(dim), NN_T(nni_do(s, searchsorted, NN_T(ends), NN_T(i), NN_I(1))));
}

nn_status nni_rule_repeat_interleave(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int dim = 0;
  if (c->arg[2].kind == NN_ARG_NONE) x = nni_reshape(s, x, 1, (int64_t[]){-1});
  else if (!nni_dim(s, c->arg[2].u.i, x->l.ndim, &dim)) return NN_EINVAL;
  if (!x) return err(s);
  if (c->arg[1].kind == NN_ARG_TENSOR) return nni_give(c, repeated_by(s, x, dim, c->arg[1].u.t));
  if (c->arg[1].kind != NN_ARG_INT || c->arg[1].u.i < 0) return nni_opfail(s, NN_EINVAL, "repeats must be an integer of 0 or more");
  return nni_give(c, repeated(s, x, dim, c->arg[1].u.i, true));
}

static nn_tensor *joined(nni_scope *s, nn_tensor **part, int n, int dim) {
  for (int i = 0; i < n; i++)
    if (!part[i]) return NULL;
  return n == 1 ? part[0] : nni_do(s, cat, NN_TENSORS(n, part), NN_I(dim));
}

static nn_tensor *rolled(nni_scope *s, nn_tensor *x, int dim, int64_t shift) {
  if (!x || x->l.shape[dim] == 0) return x;
  const int64_t n = x->l.shape[dim], k = ((shift % n) + n) % n;
  if (k == 0) return x;
  nn_tensor *part[2] = {narrow(s, x, dim, n - k, k), narrow(s, x, dim, 0, n - k)};
  return joined(s, part, 2, dim);
}
nn_status nni_rule_roll(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  int n;
  const int64_t *dims;
  bool on[NN_MAXDIM];
  if (c->arg[2].kind == NN_ARG_NONE) {
    if (c->arg[1].n != 1) return nni_opfail(s, NN_EINVAL, "%d shifts without dims; one shift moves the flattened tensor", c->arg[1].n);
    nn_tensor *y = rolled(s, nni_reshape(s, x, 1, (int64_t[]){-1}), 0, c->arg[1].u.ints[0]);
    return nni_give(c, y ? nni_reshape(s, y, x->l.ndim, x->l.shape) : NULL);
  }
  list_of(&c->arg[2], &n, &dims);
  if (n != c->arg[1].n) return nni_opfail(s, NN_EINVAL, "%d shifts for %d dims", c->arg[1].n, n);
  if (!nni_dims(s, &c->arg[2], x->l.ndim, on)) return NN_EINVAL;
  for (int i = 0; i < n; i++) x = rolled(s, x, (int)(dims[i] < 0 ? dims[i] + c->arg[0].u.t->l.ndim : dims[i]), c->arg[1].u.ints[i]);
  return nni_give(c, x);
}

/* ---- borders ---- */
enum { CONSTANT, REFLECT, REPLICATE, CIRCULAR };
static const char *const modes[] = {"constant", "reflect", "replicate", "circular"};

/* n elements that continue x (n in dim) before or behind it */
static nn_tensor *border(nni_scope *s, nn_tensor *x, int dim, int64_t n, bool before, int mode) {
  const int64_t size = x->l.shape[dim];
  bool on[NN_MAXDIM] = {false};
  int64_t shape[NN_MAXDIM];
  on[dim] = true;
  if (mode == CIRCULAR) return narrow(s, x, dim, before ? size - n : 0, n);
  if (mode == REFLECT) return flipped(s, narrow(s, x, dim, before ? 1 : size - 1 - n, n), on);
  for (int i = 0; i < x->l.ndim; i++) shape[i] = i == dim ? n : x->l.shape[i];
  nn_tensor *edge = narrow(s, x, dim, before ? 0 : size - 1, 1);
  return edge ? nni_do(s, expand, NN_T(edge), NN_INTS(x->l.ndim, shape)) : NULL;
}

/* before < 0 or after < 0: cut off */
static nn_tensor *bordered(nni_scope *s, nn_tensor *x, int dim, int64_t before, int64_t after, int mode) {
  const int64_t cut_front = before < 0 ? -before : 0, cut_back = after < 0 ? -after : 0, size = x->l.shape[dim];
  if (cut_front || cut_back) x = narrow(s, x, dim, cut_front, size - cut_front - cut_back);
  if (!x || (before <= 0 && after <= 0)) return x;
  const int64_t most = x->l.shape[dim] - (mode == REFLECT ? 1 : 0);
  if (x->l.shape[dim] < 1 || (mode != REPLICATE && (before > most || after > most))) {
    nni_opfail(s, NN_ESHAPE, "%s borders of %lld and %lld are too wide for dim %d of size %lld", modes[mode], (long long)before, (long long)after,
               dim + 1, (long long)size);
    return NULL;
  }
  nn_tensor *part[3];
  int n = 0;
  if (before > 0) part[n++] = border(s, x, dim, before, true, mode);
  part[n++] = x;
  if (after > 0) part[n++] = border(s, x, dim, after, false, mode);
  return joined(s, part, n, dim);
}

static nn_tensor *set_in(nni_scope *s, nn_tensor *x, const int64_t *before, const int64_t *after, double value) {
  int64_t shape[NN_MAXDIM], start[NN_MAXDIM], step[NN_MAXDIM], count;
  const int nd = x->l.ndim;
  for (int i = 0; i < nd; i++) {
    const int64_t front = before[i] < 0 ? -before[i] : 0, back = after[i] < 0 ? -after[i] : 0;
    if (front || back) x = narrow(s, x, i, front, x->l.shape[i] - front - back);
    if (!x) return NULL;
    start[i] = before[i] > 0 ? before[i] : 0;
    step[i] = 1;
    if (__builtin_add_overflow(x->l.shape[i], start[i], &shape[i]) || __builtin_add_overflow(shape[i], after[i] > 0 ? after[i] : 0, &shape[i]))
      shape[i] = -1;
  }
  if (!nni_size_mul(shape, nd, 8, &count)) {
    nni_opfail(s, NN_ESHAPE, "the result would be too large");
    return NULL;
  }
  nn_tensor *base = nni_do(s, full, NN_INTS(nd, shape), NN_F(value), NN_I(x->dtype));
  return nni_do(s, slice_set, NN_T(base), NN_T(x), NN_INTS(nd, start), NN_INTS(nd, x->l.shape), NN_INTS(nd, step));
}

nn_status nni_rule_pad(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const int n = c->arg[1].n, nd = x->l.ndim;
  const int64_t *pads = c->arg[1].u.ints;
  int64_t before[NN_MAXDIM] = {0}, after[NN_MAXDIM] = {0};
  int mode = 0;
  while (mode < NNI_COUNT(modes) && strcmp(modes[mode], c->arg[2].u.s) != 0) mode++;
  if (mode == NNI_COUNT(modes)) return nni_opfail(s, NN_EINVAL, "mode = \"%s\"; there are constant, reflect, replicate, circular", c->arg[2].u.s);
  if (n % 2 || n / 2 > nd)
    return nni_opfail(s, NN_EINVAL, "%d border sizes for %d dims; they come in pairs {before, after}, the last dim first", n, nd);
  for (int i = 0; i < n / 2; i++) {
    const int d = nd - 1 - i;
    before[d] = pads[2 * i], after[d] = pads[2 * i + 1];
    if ((before[d] < 0 || after[d] < 0) &&
        (before[d] < -x->l.shape[d] || after[d] < -x->l.shape[d] || (before[d] < 0 ? before[d] : 0) + (after[d] < 0 ? after[d] : 0) < -x->l.shape[d]))
      return nni_opfail(s, NN_ESHAPE, "borders of %lld and %lld cut more than dim %d of size %lld has", (long long)before[d], (long long)after[d],
                        d + 1, (long long)x->l.shape[d]);
  }
  if (mode == CONSTANT) return nni_give(c, set_in(s, x, before, after, c->arg[3].u.f));
  for (int d = nd - 1; x && d >= 0; d--) x = bordered(s, x, d, before[d], after[d], mode);
  return nni_give(c, x);
}

/* ---- triangles and diagonals ---- */
/* bool (rows, cols): true where the column is at most row + k */
static nn_tensor *below(nni_scope *s, int64_t rows, int64_t cols, int64_t k) {
  nn_tensor *r = nni_do(s, arange, NN_F((double)k), NN_F((double)k + (double)rows), NN_F(1), NN_I(NN_I64)),
            *q = nni_do(s, arange, NN_F(0), NN_F((double)cols), NN_F(1), NN_I(NN_I64));
  return nni_do(s, ge, NN_T(nni_do(s, unsqueeze, NN_T(r), NN_I(1))), NN_T(q));
}

static nn_status triangle(nni_call *c, bool upper) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const int nd = x->l.ndim;
  int64_t k = c->arg[1].u.i;
  if (nd < 2) return nni_opfail(s, NN_ESHAPE, "at least 2 dims are needed, the tensor has %d", nd);
  const int64_t rows = x->l.shape[nd - 2], cols = x->l.shape[nd - 1];
  k = k > cols + 1 ? cols + 1 : k < -rows - 1 ? -rows - 1 : k;
  nn_tensor *keep = below(s, rows, cols, upper ? k - 1 : k), *zero = nni_do(s, full, NN_INTS(0, NULL), NN_F(0), NN_I(x->dtype));
  return nni_give(c, upper ? nni_do(s, where, NN_T(keep), NN_T(zero), NN_T(x)) : nni_do(s, where, NN_T(keep), NN_T(x), NN_T(zero)));
}
nn_status nni_rule_tril(nni_call *c) { return triangle(c, false); }
nn_status nni_rule_triu(nni_call *c) { return triangle(c, true); }

/* where a diagonal starts in a (rows, cols) matrix and how long it is */
static int64_t diagonal_of(int64_t rows, int64_t cols, int64_t k, int64_t *start) {
  *start = 0;
  if (k <= -rows || k >= cols) return 0;
  const int64_t r = k < 0 ? -k : 0, q = k > 0 ? k : 0;
  *start = r * cols + q;
  return rows - r < cols - q ? rows - r : cols - q;
}

nn_status nni_rule_diagonal(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const int nd = x->l.ndim;
  int a, b, n = 0;
  int64_t dims[NN_MAXDIM], shape[NN_MAXDIM], start[NN_MAXDIM] = {0}, size[NN_MAXDIM], step[NN_MAXDIM];
  if (nd < 2) return nni_opfail(s, NN_ESHAPE, "at least 2 dims are needed, the tensor has %d", nd);
  if (!nni_dim(s, c->arg[2].u.i, nd, &a) || !nni_dim(s, c->arg[3].u.i, nd, &b)) return NN_EINVAL;
  if (a == b) return nni_opfail(s, NN_EINVAL, "dim1 and dim2 are both %d", a + 1);
  for (int i = 0; i < nd; i++)
    if (i != a && i != b) step[n] = 1, size[n] = shape[n] = x->l.shape[i], dims[n++] = i;
  dims[n] = a, dims[n + 1] = b;
  const int64_t rows = x->l.shape[a], cols = x->l.shape[b];
  shape[n] = rows * cols;
  step[n] = cols + 1;
  size[n] = diagonal_of(rows, cols, c->arg[1].u.i, &start[n]);
  x = permuted(s, x, dims);
  x = x ? nni_reshape(s, x, n + 1, shape) : NULL;
  return nni_give(c, nni_do(s, slice, NN_T(x), NN_INTS(n + 1, start), NN_INTS(n + 1, size), NN_INTS(n + 1, step)));
}

nn_status nni_rule_diag_embed(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const int nd = x->l.ndim;
  int a, b;
  int64_t shape[NN_MAXDIM], flat[NN_MAXDIM], start[NN_MAXDIM] = {0}, step[NN_MAXDIM], k = c->arg[1].u.i, count;
  if (nd < 1 || nd == NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "1..%d dims are needed, the tensor has %d", NN_MAXDIM - 1, nd);
  if (!nni_dim(s, c->arg[2].u.i, nd + 1, &a) || !nni_dim(s, c->arg[3].u.i, nd + 1, &b)) return NN_EINVAL;
  if (a == b) return nni_opfail(s, NN_EINVAL, "dim1 and dim2 are both %d", a + 1);
  if (k > INT32_MAX || k < -INT32_MAX) return nni_opfail(s, NN_EINVAL, "offset %lld is too large", (long long)k);
  const int64_t m = x->l.shape[nd - 1], n = m + (k < 0 ? -k : k);
  for (int i = 0; i < nd - 1; i++) shape[i] = flat[i] = x->l.shape[i], step[i] = 1;
  shape[nd - 1] = shape[nd] = n;
  if (!nni_size_mul(shape, nd + 1, 8, &count)) return nni_opfail(s, NN_ESHAPE, "the result would be too large");
  flat[nd - 1] = n * n;
  step[nd - 1] = n + 1;
  diagonal_of(n, n, k, &start[nd - 1]);
  nn_tensor *zero = nni_do(s, full, NN_INTS(nd, flat), NN_F(0), NN_I(x->dtype));
  nn_tensor *y = nni_do(s, slice_set, NN_T(zero), NN_T(x), NN_INTS(nd, start), NN_INTS(nd, x->l.shape), NN_INTS(nd, step));
  y = y ? nni_reshape(s, y, nd + 1, shape) : NULL;
  return nni_give(c, nni_do(s, movedim, NN_T(y), NN_INTS(2, ((const int64_t[]){nd - 1, nd})), NN_INTS(2, ((const int64_t[]){a, b}))));
}

nn_status nni_rule_diag(nni_call *c) {
  nn_tensor *x = c->arg[0].u.t;
  if (x->l.ndim == 1) return nni_give(c, nni_do(&c->s, diag_embed, NN_T(x), c->arg[1], NN_I(-2), NN_I(-1)));
  if (x->l.ndim == 2) return nni_give(c, nni_do(&c->s, diagonal, NN_T(x), c->arg[1], NN_I(0), NN_I(1)));
  return nni_opfail(&c->s, NN_ESHAPE, "a vector or a matrix is needed, the tensor has %d dims", x->l.ndim);
}

nn_status nni_rule_unfold(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = c->arg[0].u.t;
  const int64_t size = c->arg[2].u.i, step = c->arg[3].u.i;
  int64_t shape[NN_MAXDIM];
  int dim;
  if (!nni_dim(s, c->arg[1].u.i, x->l.ndim, &dim)) return NN_EINVAL;
  const int64_t n = x->l.shape[dim];
  if (x->l.ndim == NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "the tensor has %d dims already", NN_MAXDIM);
  if (size < 0 || size > n || step < 1)
    return nni_opfail(s, NN_EINVAL, "windows of %lld every %lld in dim %d of size %lld", (long long)size, (long long)step, dim + 1, (long long)n);
  const int64_t count = (n - size) / step + 1;
  int64_t all;
  if (!nni_size_mul((int64_t[]){nn_numel(x) / (n ? n : 1), count, size}, 3, 8, &all))
    return nni_opfail(s, NN_ESHAPE, "the result would be too large");
  nn_tensor *first = nni_do(s, arange, NN_F(0), NN_F((double)count), NN_F(1), NN_I(NN_I64)),
            *off = nni_do(s, arange, NN_F(0), NN_F((double)size), NN_F(1), NN_I(NN_I64));
  nn_tensor *ids = nni_do(s, add, NN_T(nni_do(s, unsqueeze, NN_T(nni_do(s, mul, NN_T(first), NN_I(step))), NN_I(1))), NN_T(off));
  nn_tensor *y = nni_do(s, index_select, NN_T(x), NN_I(dim), NN_T(ids ? nni_reshape(s, ids, 1, (int64_t[]){count * size}) : NULL));
  int k = 0;
  for (int i = 0; i < x->l.ndim; i++) {
    shape[k++] = i == dim ? count : x->l.shape[i];
    if (i == dim) shape[k++] = size;
  }
  y = y ? nni_reshape(s, y, k, shape) : NULL;
  return nni_give(c, nni_do(s, movedim, NN_T(y), NN_I(dim + 1), NN_I(-1)));
}

/* ---- from nothing ---- */
static bool sizes(nni_scope *s, int64_t rows, int64_t cols, int64_t dtype) {
  int64_t n;
  if (dtype < 0 || dtype >= NN_NDTYPE) return nni_opfail(s, NN_EDTYPE, "unknown dtype"), false;
  if (nni_size_mul((int64_t[]){rows, cols}, 2, 8, &n)) return true;
  nni_opfail(s, NN_ESHAPE, "size %lldx%lld is negative or too large", (long long)rows, (long long)cols);
  return false;
}

nn_status nni_rule_tri(nni_call *c) {
  const int64_t rows = c->arg[0].u.i, cols = c->arg[1].kind == NN_ARG_NONE ? rows : c->arg[1].u.i;
  int64_t k = c->arg[2].u.i;
  if (!sizes(&c->s, rows, cols, c->arg[3].u.i)) return err(&c->s);
  k = k > cols ? cols : k < -rows - 1 ? -rows - 1 : k;
  return nni_give(c, nni_cast(&c->s, below(&c->s, rows, cols, k), (nn_dtype)c->arg[3].u.i));
}

nn_status nni_rule_eye(nni_call *c) {
  nni_scope *s = &c->s;
  const int64_t rows = c->arg[0].u.i, cols = c->arg[1].kind == NN_ARG_NONE ? rows : c->arg[1].u.i;
  if (!sizes(s, rows, cols, c->arg[2].u.i)) return err(s);
  nn_tensor *r = nni_do(s, arange, NN_F(0), NN_F((double)rows), NN_F(1), NN_I(NN_I64)),
            *q = nni_do(s, arange, NN_F(0), NN_F((double)cols), NN_F(1), NN_I(NN_I64));
  return nni_give(c, nni_cast(s, nni_do(s, eq, NN_T(nni_do(s, unsqueeze, NN_T(r), NN_I(1))), NN_T(q)), (nn_dtype)c->arg[2].u.i));
}

/* Integers from a to b, without their fractions, in integers alone: every device has them, and 7 * (1 / 7) is 1. The ends count in units of 2^-shift, so that
** doubles lose nothing to speak of; value i of them is start + each * i + rest * i / gaps. */
static nn_tensor *whole_between(nni_scope *s, double a, double b, int64_t n) {
  const double top = fmax(fabs(a), fabs(b)), most = 0x1p52; /* differences are numbers of an operator, which are doubles */
  if (!(fabs(a) < most && fabs(b) < most) || n > (int64_t)1 << 31)
    return nni_opfail(s, NN_EINVAL, "%lld integers from %g to %g: both must be below 2^52, and at most 2^31 of them", (long long)n, a, b), NULL;
  const int shift = top >= 0x1p-1 ? 51 - ilogb(top) : 52, by = shift > 40 ? 40 : shift;
  const int64_t start = llrint(ldexp(a, by)), span = llrint(ldexp(b, by)) - start, unit = (int64_t)1 << by, gaps = n > 1 ? n - 1 : 1;
  const int64_t each = span / gaps - (span % gaps < 0), rest = n > 1 ? span - each * gaps : 0;
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)n), NN_F(1), NN_I(NN_I64));
  nn_tensor *near = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(i), NN_I(each))), NN_I(start)), *more = nni_do(s, mul, NN_T(i), NN_I(rest));
  nn_tensor *down = nni_do(s, add, NN_T(near), NN_T(nni_do(s, floor_div, NN_T(more), NN_I(gaps))));
  if (a >= 0 && b >= 0) return nni_do(s, floor_div, NN_T(down), NN_I(unit));
  nn_tensor *up = nni_do(s, add, NN_T(near), NN_T(nni_do(s, floor_div, NN_T(nni_do(s, add, NN_T(more), NN_I(gaps - 1))), NN_I(gaps))));
  up = nni_do(s, floor_div, NN_T(nni_do(s, add, NN_T(up), NN_I(unit - 1))), NN_I(unit)); /* below 0 towards 0 is upwards */
  return nni_do(s, where, NN_T(nni_do(s, lt, NN_T(down), NN_F(0))), NN_T(up), NN_T(nni_do(s, floor_div, NN_T(down), NN_I(unit))));
}

nn_status nni_rule_linspace(nni_call *c) {
  nni_scope *s = &c->s;
  const double a = c->arg[0].u.f, b = c->arg[1].u.f;
  const int64_t n = c->arg[2].u.i;
  if (!sizes(s, n, 1, c->arg[3].u.i)) return err(s);
  const nn_dtype want = (nn_dtype)c->arg[3].u.i, d = want == NN_F64 ? NN_F64 : NN_F32; /* what it is computed in */
  if (!nn_dtype_is_float(want) && want != NN_BOOL) return nni_give(c, nni_cast(s, whole_between(s, a, b, n), want));
  const double step = n > 1 ? (b - a) / (double)(n - 1) : 0;
  nn_tensor *i = nni_do(s, arange, NN_F(0), NN_F((double)n), NN_F(1), NN_I(d)),
            *left = nni_do(s, arange, NN_F((double)n - 1), NN_F(-1), NN_F(-1), NN_I(d));
  nn_tensor *front = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(i), NN_F(step))), NN_F(a)),
            *back = nni_do(s, add, NN_T(nni_do(s, mul, NN_T(left), NN_F(-step))), NN_F(b));
  nn_tensor *early = nni_do(s, lt, NN_T(i), NN_F(n > 1 ? (double)n / 2 : 1)); /* each half from its own end: both ends are exact */
  return nni_give(c, nni_cast(s, nni_do(s, where, NN_T(early), NN_T(front), NN_T(back)), want));
}

nn_status nni_rule_logspace(nni_call *c) {
  const double base = c->arg[3].u.f;
  if (!(base > 0)) return nni_opfail(&c->s, NN_EINVAL, "base = %g, it must be above 0", base);
  nn_tensor *e = nni_do(&c->s, linspace, c->arg[0], c->arg[1], c->arg[2], NN_I(NN_F32));
  return nni_give(c, e ? nni_do(&c->s, pow, NN_F(base), NN_T(e)) : NULL);
}

/* ---- chance ---- */
static nn_tensor *integers(nni_scope *s, const nni_out *o, int64_t low, uint64_t count) {
  nni_param pa[4];
  nni_draw(s->ctx, pa);
  pa[2].u = (uint64_t)low;
  pa[3].u = count;
  return nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_randint, .npa = 4, .pa = pa, .nout = 1, .out = o});
}

nn_status nni_rule_randint(nni_call *c) {
  nni_scope *s = &c->s;
  const int64_t low = c->arg[0].u.i, high = c->arg[1].u.i;
  int64_t n;
  nni_out o = {.dtype = NN_I64, .ndim = c->arg[2].n};
  if (high <= low) return nni_opfail(s, NN_EINVAL, "low = %lld is not below high = %lld", (long long)low, (long long)high);
  if (o.ndim > NN_MAXDIM) return nni_opfail(s, NN_ESHAPE, "%d dims, at most %d are possible", o.ndim, NN_MAXDIM);
  if (c->arg[3].u.i < 0 || c->arg[3].u.i >= NN_NDTYPE) return nni_opfail(s, NN_EDTYPE, "unknown dtype");
  o = nni_like(NN_I64, c->arg[2].n, c->arg[2].u.ints);
  if (!nni_size_mul(o.shape, o.ndim, 8, &n)) {
    char t[150];
    nni_shape_text(o.ndim, o.shape, t, sizeof t);
    return nni_opfail(s, NN_ESHAPE, "size %s is negative or too large", t);
  }
  return nni_give(c, nni_cast(s, integers(s, &o, low, (uint64_t)high - (uint64_t)low), (nn_dtype)c->arg[3].u.i));
}

nn_status nni_rule_randperm(nni_call *c) {
  nni_scope *s = &c->s;
  const int64_t n = c->arg[0].u.i;
  if (!sizes(s, n, 1, NN_I64)) return err(s);
  nni_out o = nni_like(NN_I64, 1, &n);
  return nni_give(c, nni_do(s, argsort, NN_T(integers(s, &o, 0, (uint64_t)1 << 62)), NN_I(0), NN_I(0)));
}

nn_status nni_rule_multinomial(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *p = nni_cast(s, c->arg[0].u.t, NN_F32);
  const int64_t k = c->arg[1].u.i;
  if (!p) return err(s);
  const int last = p->l.ndim - 1;
  if (last < 0 || last > 1) return nni_opfail(s, NN_ESHAPE, "probs must have 1 or 2 dims, it has %d", last + 1);
  const int64_t n = p->l.shape[last];
  if (k < 0 || n < 1 || (c->arg[2].u.i == 0 && k > n))
    return nni_opfail(s, NN_EINVAL, "%lld draws of %lld, with replacement = %s", (long long)k, (long long)n, c->arg[2].u.i ? "true" : "false");
  int64_t shape[2] = {p->l.shape[0], n};
  if (c->arg[2].u.i) { /* where a uniform draw falls among the running sums */
    shape[last] = k;
    nn_tensor *sums = nni_do(s, cumsum, NN_T(p), NN_I(last), NN_I(0), NN_I(0)), *u = nni_do(s, uniform, NN_INTS(last + 1, shape), NN_F(0), NN_F(1));
    nn_tensor *v = nni_do(s, mul, NN_T(u), NN_T(narrow(s, sums, last, n - 1, 1)));
    nn_tensor *at = nni_do(s, searchsorted, NN_T(sums), NN_T(v), NN_I(1));
    return nni_give(c, nni_do(s, minimum, NN_T(at), NN_I(n - 1)));
  }
  nn_tensor *u = nni_do(s, uniform, NN_INTS(last + 1, shape), NN_F(0), NN_F(1)); /* the k largest of log p - log(exponential draw) */
  nn_tensor *e = nni_do(s, maximum, NN_T(nni_do(s, neg, NN_T(nni_do(s, log, NN_T(nni_do(s, sub, NN_F(1), NN_T(u))))))), NN_F(1e-9));
  nn_tensor *score = nni_do(s, sub, NN_T(nni_do(s, log, NN_T(p))), NN_T(nni_do(s, log, NN_T(e))));
  score = nni_do(s, where, NN_T(nni_do(s, gt, NN_T(p), NN_F(0))), NN_T(score), NN_F(-INFINITY));
  nn_tensor *order = nni_do(s, argsort, NN_T(score), NN_I(last), NN_I(1));
  return nni_give(c, narrow(s, order, last, 0, k));
}
