/* ops/conv.c - convolution and max pooling over (N,H,W,C). Kernels of a convolution are (KH,KW,C/groups,K).
** The input gradient and the kernel gradient are operators of their own, and the three are closed under differentiation. */
#include "ops.h"

typedef struct window { /* what slides: sizes in {h, w} order */
  int64_t k[2], stride[2], pad[4], dilation[2]; /* pad: top, left, bottom, right */
} window;

static void pair(const nn_arg *a, int64_t v[2]) {
  if (a->kind == NN_ARG_INTS) v[0] = a->u.ints[0], v[1] = a->u.ints[1];
  else v[0] = v[1] = a->u.i;
}

static nn_status padding(nni_scope *s, const nn_arg *a, const int64_t in[2], window *w) {
  if (a->kind == NN_ARG_INT) {
    for (int i = 0; i < 4; i++) w->pad[i] = a->u.i;
  } else if (a->kind == NN_ARG_INTS) {
    for (int i = 0; i < 4; i++) w->pad[i] = a->u.ints[i % a->n]; /* {h, w}, or the four */
  } else if (strcmp(a->u.s, "valid") == 0) {
    memset(w->pad, 0, sizeof w->pad);
  } else if (strcmp(a->u.s, "same") == 0) { /* output = ceil(input / stride); what is odd goes to the bottom and the right */
    for (int i = 0; i < 2; i++) {
      int64_t st = w->stride[i] > 0 ? w->stride[i] : 1, out = (in[i] + st - 1) / st, ext = (w->k[i] - 1) * w->dilation[i] + 1;
      int64_t total = (out - 1) * st + ext - in[i];
      if (total < 0) total = 0;
      w->pad[i] = total / 2;
      w->pad[i + 2] = total - total / 2;
    }
  } else return nni_opfail(s, NN_EINVAL, "padding must be \"valid\", \"same\" or sizes, got \"%.40s\"", a->u.s);
  for (int i = 0; i < 4; i++)
    if (w->pad[i] < 0 || w->pad[i] > 1 << 20) return nni_opfail(s, NN_EINVAL, "padding %lld is out of range", (long long)w->pad[i]);
  return NN_OK;
}

static nn_status out_size(nni_scope *s, const int64_t in[2], const window *w, int64_t out[2]) {
  for (int i = 0; i < 2; i++) {
    if (w->stride[i] < 1 || w->stride[i] > 1 << 20) return nni_opfail(s, NN_EINVAL, "stride %lld must be at least 1", (long long)w->stride[i]);
    if (w->dilation[i] < 1 || w->dilation[i] > 1 << 20) return nni_opfail(s, NN_EINVAL, "dilation %lld must be at least 1", (long long)w->dilation[i]);
    if (w->k[i] < 1 || w->k[i] > 1 << 20) return nni_opfail(s, NN_EINVAL, "window size %lld must be at least 1", (long long)w->k[i]);
    int64_t room = in[i] + w->pad[i] + w->pad[i + 2] - ((w->k[i] - 1) * w->dilation[i] + 1);
    if (room < 0)
      return nni_opfail(s, NN_ESHAPE, "a window of %lldx%lld does not fit an input of %lldx%lld with padding %lld+%lld, %lld+%lld", (long long)w->k[0], (long long)w->k[1],
                        (long long)in[0], (long long)in[1], (long long)w->pad[0], (long long)w->pad[2], (long long)w->pad[1], (long long)w->pad[3]);
    out[i] = room / w->stride[i] + 1;
  }
  return NN_OK;
}

static nn_status images(nni_scope *s, const nn_tensor *x, const char *what) {
  if (x->l.ndim == 4) return NN_OK;
  char a[150];
  nn_shape_text(x, a, sizeof a);
  return nni_opfail(s, NN_ESHAPE, "the %s must be (batch, height, width, channels), its shape is (%s)", what, a);
}

/* the attributes of kernels.def; `more` follows (sizes), and last whether Winograd is off */
static int attributes(const nni_scope *s, const window *w, int64_t groups, int nmore, const int64_t *more, int64_t *ia) {
  const int64_t v[9] = {w->stride[0], w->stride[1], w->pad[0], w->pad[1], w->pad[2], w->pad[3], w->dilation[0], w->dilation[1], groups};
  memcpy(ia, v, sizeof v);
  for (int i = 0; i < nmore; i++) ia[9 + i] = more[i];
  ia[9 + nmore] = nn_exact(s->ctx);
  return 10 + nmore;
}

/* ---- conv2d ---- */
static nn_status conv_window(nni_scope *s, const nn_arg *arg, const int64_t in[2], const int64_t k[2], window *w, int64_t out[2]) {
  w->k[0] = k[0], w->k[1] = k[1];
  pair(&arg[0], w->stride);
  pair(&arg[2], w->dilation);
  nn_status st = padding(s, &arg[1], in, w);
  return st == NN_OK ? out_size(s, in, w, out) : st;
}

static nn_status conv_channels(nni_scope *s, const nn_tensor *x, const nn_tensor *w, int64_t groups) {
  char a[150], b[150];
  nn_shape_text(x, a, sizeof a);
  nn_shape_text(w, b, sizeof b);
  int64_t c = x->l.shape[3];
  if (groups < 1 || c % groups || w->l.shape[3] % groups) return nni_opfail(s, NN_EINVAL, "groups = %lld must divide the channels of input (%s) and kernel (%s)", (long long)groups, a, b);
  if (c / groups != w->l.shape[2])
    return nni_opfail(s, NN_ESHAPE, "input (%s) has %lld channels, kernel (%s) takes %lld in %lld group%s", a, (long long)c, b, (long long)(w->l.shape[2] * groups), (long long)groups,
                      groups == 1 ? "" : "s");
  return NN_OK;
}

/* the first two arguments: contiguous, of one float dtype */
static bool operands(nni_call *c, nn_tensor **in) {
  for (int i = 0; i < 2; i++) in[i] = c->arg[i].u.t;
  if (!nni_reals(&c->s, 2, in)) return false;
  for (int i = 0; i < 2; i++) in[i] = nni_dense(&c->s, in[i]);
  return in[0] && in[1];
}

nn_status nni_rule_conv2d(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[2], *x, *k;
  if (!operands(c, in)) return nni_error_of(s->ctx)->status;
  x = in[0], k = in[1];
  nn_status st = images(s, x, "input");
  if (st == NN_OK && k->l.ndim != 4) st = nni_opfail(s, NN_ESHAPE, "the kernel must be (height, width, channels / groups, filters), it has %d dims", k->l.ndim);
  int64_t groups = c->arg[6].u.i, out[2];
  window w;
  if (st == NN_OK) st = conv_channels(s, x, k, groups);
  if (st == NN_OK) st = conv_window(s, &c->arg[3], &x->l.shape[1], k->l.shape, &w, out);
  if (st != NN_OK) return st;
  nni_out o = nni_like(x->dtype, 4, (int64_t[]){x->l.shape[0], out[0], out[1], k->l.shape[3]});
  int64_t ia[12];
  int nia = attributes(s, &w, groups, 0, NULL, ia);
  nn_tensor *y = nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_conv2d, .nin = 2, .in = in, .nia = nia, .ia = ia, .nout = 1, .out = &o});
  if (c->arg[2].kind == NN_ARG_TENSOR) {
    nn_tensor *b = c->arg[2].u.t;
    if (b->l.ndim != 1 || b->l.shape[0] != k->l.shape[3]) return nni_opfail(s, NN_ESHAPE, "the bias must have %lld elements", (long long)k->l.shape[3]);
    y = nni_do(s, add, NN_T(y), NN_T(b));
  }
  return nni_give(c, y);
}

nn_status nni_grad_conv2d(nni_gradcall *g) {
  nni_scope *s = &g->s;
  window w;
  int64_t out[2];
  nn_arg pad, stride, dil;
  nn_status st = conv_window(s, &g->arg[3], &g->xs[0].shape[1], g->xs[1].shape, &w, out);
  if (st != NN_OK) return st;
  stride = NN_INTS(2, w.stride), pad = NN_INTS(4, w.pad), dil = NN_INTS(2, w.dilation);
  if (g->need[0]) g->dx[0] = nni_do(s, conv2d_dx, NN_T(g->d[0]), NN_T(g->x[1]), NN_INTS(2, &g->xs[0].shape[1]), stride, pad, dil, g->arg[6]);
  if (g->need[1]) g->dx[1] = nni_do(s, conv2d_dw, NN_T(g->x[0]), NN_T(g->d[0]), NN_INTS(2, g->xs[1].shape), stride, pad, dil, g->arg[6]);
  if (g->nx > 2 && g->need[2]) g->dx[2] = nni_do(s, sum, NN_T(g->d[0]), NN_INTS(3, ((const int64_t[]){0, 1, 2})), NN_I(0));
  for (int i = 0; i < g->nx; i++)
    if (g->need[i] && !g->dx[i]) return nni_error_of(s->ctx)->status;
  return NN_OK;
}

/* dy, other (w or x), {H, W} or {KH, KW}, stride, padding, dilation, groups */
static nn_status explicit_window(nni_call *c, window *w) {
  nni_scope *s = &c->s;
  if (c->arg[2].n != 2 || c->arg[4].kind != NN_ARG_INTS || c->arg[4].n != 4) return nni_opfail(s, NN_EINVAL, "size needs 2 entries, padding 4 (top, left, bottom, right)");
  pair(&c->arg[3], w->stride);
  pair(&c->arg[5], w->dilation);
  return padding(s, &c->arg[4], NULL, w);
}

static nn_status same_out(nni_scope *s, const int64_t in[2], const window *w, const nn_tensor *dy) {
  int64_t out[2];
  nn_status st = out_size(s, in, w, out);
  if (st == NN_OK && (out[0] != dy->l.shape[1] || out[1] != dy->l.shape[2]))
    return nni_opfail(s, NN_ESHAPE, "the output is %lldx%lld, these sizes make %lldx%lld", (long long)dy->l.shape[1], (long long)dy->l.shape[2], (long long)out[0], (long long)out[1]);
  return st;
}

nn_status nni_rule_conv2d_dx(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[2], *dy, *k;
  window w;
  if (!operands(c, in)) return nni_error_of(s->ctx)->status;
  dy = in[0], k = in[1];
  nn_status st = images(s, dy, "output's cotangent");
  if (st == NN_OK && (k->l.ndim != 4 || k->l.shape[3] != dy->l.shape[3])) st = nni_opfail(s, NN_ESHAPE, "the kernel does not fit the output's channels");
  if (st == NN_OK) st = explicit_window(c, &w);
  if (st != NN_OK) return st;
  const int64_t *size = c->arg[2].u.ints, groups = c->arg[6].u.i;
  w.k[0] = k->l.shape[0], w.k[1] = k->l.shape[1];
  st = same_out(s, size, &w, dy);
  if (st == NN_OK && (groups < 1 || k->l.shape[3] % groups)) st = nni_opfail(s, NN_EINVAL, "groups = %lld must divide %lld filters", (long long)groups, (long long)k->l.shape[3]);
  if (st != NN_OK) return st;
  int64_t ia[12];
  int nia = attributes(s, &w, groups, 2, size, ia);
  nni_out o = nni_like(dy->dtype, 4, (int64_t[]){dy->l.shape[0], size[0], size[1], k->l.shape[2] * groups});
  return nni_give(c, nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_conv2d_dx, .nin = 2, .in = in, .nia = nia, .ia = ia, .nout = 1, .out = &o}));
}

nn_status nni_grad_conv2d_dx(nni_gradcall *g) { /* linear in dy and in the kernel */
  nni_scope *s = &g->s;
  if (g->need[0]) g->dx[0] = nni_do(s, conv2d, NN_T(g->d[0]), NN_T(g->x[1]), NN_NONE, g->arg[3], g->arg[4], g->arg[5], g->arg[6]);
  if (g->need[1]) g->dx[1] = nni_do(s, conv2d_dw, NN_T(g->d[0]), NN_T(g->x[0]), NN_INTS(2, g->xs[1].shape), g->arg[3], g->arg[4], g->arg[5], g->arg[6]);
  return (g->need[0] && !g->dx[0]) || (g->need[1] && !g->dx[1]) ? nni_error_of(s->ctx)->status : NN_OK;
}

nn_status nni_rule_conv2d_dw(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *in[2], *x, *dy;
  window w;
  if (!operands(c, in)) return nni_error_of(s->ctx)->status;
  x = in[0], dy = in[1];
  nn_status st = images(s, x, "input");
  if (st == NN_OK) st = images(s, dy, "output's cotangent");
  if (st == NN_OK) st = explicit_window(c, &w);
  if (st != NN_OK) return st;
  const int64_t *k = c->arg[2].u.ints, groups = c->arg[6].u.i;
  w.k[0] = k[0], w.k[1] = k[1];
  st = same_out(s, &x->l.shape[1], &w, dy);
  if (st == NN_OK && (groups < 1 || x->l.shape[3] % groups || dy->l.shape[3] % groups || x->l.shape[0] != dy->l.shape[0]))
    st = nni_opfail(s, NN_ESHAPE, "groups = %lld, or batch sizes %lld and %lld, do not fit", (long long)groups, (long long)x->l.shape[0], (long long)dy->l.shape[0]);
  if (st != NN_OK) return st;
  int64_t ia[12];
  int nia = attributes(s, &w, groups, 2, k, ia);
  nni_out o = nni_like(x->dtype, 4, (int64_t[]){k[0], k[1], x->l.shape[3] / groups, dy->l.shape[3]});
  return nni_give(c, nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_conv2d_dw, .nin = 2, .in = in, .nia = nia, .ia = ia, .nout = 1, .out = &o}));
}

nn_status nni_grad_conv2d_dw(nni_gradcall *g) { /* linear in x and in dy; d has the kernel's shape */
  nni_scope *s = &g->s;
  if (g->need[0]) g->dx[0] = nni_do(s, conv2d_dx, NN_T(g->x[1]), NN_T(g->d[0]), NN_INTS(2, &g->xs[0].shape[1]), g->arg[3], g->arg[4], g->arg[5], g->arg[6]);
  if (g->need[1]) g->dx[1] = nni_do(s, conv2d, NN_T(g->x[0]), NN_T(g->d[0]), NN_NONE, g->arg[3], g->arg[4], g->arg[5], g->arg[6]);
  return (g->need[0] && !g->dx[0]) || (g->need[1] && !g->dx[1]) ? nni_error_of(s->ctx)->status : NN_OK;
}

/* ---- max pooling ---- */
static nn_status pool_window(nni_scope *s, const nn_arg *size, const nn_arg *stride, const nn_arg *pad, const int64_t in[2], window *w, int64_t out[2]) {
  w->dilation[0] = w->dilation[1] = 1;
  pair(size, w->k);
  if (stride->kind == NN_ARG_NONE) pair(size, w->stride);
  else pair(stride, w->stride);
  nn_status st = padding(s, pad, in, w);
  if (st == NN_OK) st = out_size(s, in, w, out);
  if (st == NN_OK && w->k[0] * w->k[1] > 255) st = nni_opfail(s, NN_EUNSUPPORTED, "windows of more than 255 elements (got %lldx%lld)", (long long)w->k[0], (long long)w->k[1]);
  for (int i = 0; st == NN_OK && i < 2; i++)
    if (w->pad[i] >= w->k[i] || w->pad[i + 2] >= w->k[i]) st = nni_opfail(s, NN_EINVAL, "padding must be smaller than the window");
  return st;
}

static void pool_attributes(const window *w, int64_t *ia) {
  const int64_t v[8] = {w->k[0], w->k[1], w->stride[0], w->stride[1], w->pad[0], w->pad[1], w->pad[2], w->pad[3]};
  memcpy(ia, v, sizeof v);
}

nn_status nni_rule_max_pool2d(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_dense(s, nni_real(s, c->arg[0].u.t)), *res[NN_MAXOUT];
  window w;
  int64_t out[2], ia[8];
  nn_status st = x ? images(s, x, "input") : nni_error_of(s->ctx)->status;
  if (st == NN_OK) st = pool_window(s, &c->arg[1], &c->arg[2], &c->arg[3], &x->l.shape[1], &w, out);
  if (st != NN_OK) return st;
  nni_out o[2];
  o[0] = o[1] = nni_like(x->dtype, 4, (int64_t[]){x->l.shape[0], out[0], out[1], x->l.shape[3]});
  o[1].dtype = NN_U8;
  pool_attributes(&w, ia);
  st = nni_record(s->ctx, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_max_pool2d, .nin = 1, .in = &x, .nia = 8, .ia = ia, .nout = 2, .out = o}, res);
  if (st != NN_OK) return st;
  c->out[0] = res[0]; /* the second result, which tap was taken, is for the gradient */
  c->out[1] = res[1];
  c->nout = 2;
  return NN_OK;
}

nn_status nni_grad_max_pool2d(nni_gradcall *g) {
  window w;
  int64_t out[2];
  nn_status st = pool_window(&g->s, &g->arg[1], &g->arg[2], &g->arg[3], &g->xs[0].shape[1], &w, out);
  if (st != NN_OK || !g->d[0]) return st;
  g->dx[0] = nni_do(&g->s, max_pool2d_dx, NN_T(g->d[0]), NN_T(g->y[1]), NN_INTS(2, &g->xs[0].shape[1]), NN_INTS(2, w.k), NN_INTS(2, w.stride), NN_INTS(4, w.pad));
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}

static nn_status taps_fit(nni_scope *s, const nn_tensor *taps) {
  nn_status st = images(s, taps, "taps");
  if (st == NN_OK && taps->dtype != NN_U8) st = nni_opfail(s, NN_EDTYPE, "taps must be u8, got %s", nn_dtype_name(taps->dtype));
  return st;
}

nn_status nni_rule_max_pool2d_dx(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *dy = nni_dense(s, nni_real(s, c->arg[0].u.t)), *taps = nni_dense(s, c->arg[1].u.t);
  window w;
  int64_t out[2], ia[10];
  nn_status st = dy && taps ? images(s, dy, "output's cotangent") : nni_error_of(s->ctx)->status;
  if (st == NN_OK) st = taps_fit(s, taps);
  if (st == NN_OK && !nni_layout_same_shape(&dy->l, &taps->l)) st = nni_opfail(s, NN_ESHAPE, "cotangent and taps differ in shape");
  if (st == NN_OK && (c->arg[2].n != 2 || c->arg[5].n != 4)) st = nni_opfail(s, NN_EINVAL, "size needs 2 entries, padding 4");
  if (st == NN_OK) st = pool_window(s, &c->arg[3], &c->arg[4], &c->arg[5], c->arg[2].u.ints, &w, out);
  if (st == NN_OK) st = same_out(s, c->arg[2].u.ints, &w, dy);
  if (st != NN_OK) return st;
  pool_attributes(&w, ia);
  ia[8] = c->arg[2].u.ints[0], ia[9] = c->arg[2].u.ints[1];
  nni_out o = nni_like(dy->dtype, 4, (int64_t[]){dy->l.shape[0], ia[8], ia[9], dy->l.shape[3]});
  nn_tensor *in[2] = {dy, taps};
  return nni_give(c, nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_max_pool2d_dx, .nin = 2, .in = in, .nia = 10, .ia = ia, .nout = 1, .out = &o}));
}

nn_status nni_grad_max_pool2d_dx(nni_gradcall *g) {
  g->dx[0] = nni_do(&g->s, max_pool2d_take, NN_T(g->d[0]), NN_T(g->x[1]), g->arg[3], g->arg[4], g->arg[5]);
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}

nn_status nni_rule_max_pool2d_take(nni_call *c) {
  nni_scope *s = &c->s;
  nn_tensor *x = nni_dense(s, nni_real(s, c->arg[0].u.t)), *taps = nni_dense(s, c->arg[1].u.t);
  window w;
  int64_t out[2], ia[8];
  nn_status st = x && taps ? images(s, x, "input") : nni_error_of(s->ctx)->status;
  if (st == NN_OK) st = taps_fit(s, taps);
  if (st == NN_OK) st = pool_window(s, &c->arg[2], &c->arg[3], &c->arg[4], &x->l.shape[1], &w, out);
  if (st == NN_OK) st = same_out(s, &x->l.shape[1], &w, taps);
  if (st == NN_OK && (x->l.shape[0] != taps->l.shape[0] || x->l.shape[3] != taps->l.shape[3])) st = nni_opfail(s, NN_ESHAPE, "input and taps differ in batch or channels");
  if (st != NN_OK) return st;
  pool_attributes(&w, ia);
  nni_out o = nni_like(x->dtype, 4, taps->l.shape);
  nn_tensor *in[2] = {x, taps};
  return nni_give(c, nni_rec1(s, &(nni_rec){.kind = NNI_N_KERNEL, .op = NNI_K_max_pool2d_take, .nin = 2, .in = in, .nia = 8, .ia = ia, .nout = 1, .out = &o}));
}

nn_status nni_grad_max_pool2d_take(nni_gradcall *g) {
  window w;
  int64_t out[2];
  nn_status st = pool_window(&g->s, &g->arg[2], &g->arg[3], &g->arg[4], &g->xs[0].shape[1], &w, out);
  if (st != NN_OK) return st;
  g->dx[0] = nni_do(&g->s, max_pool2d_dx, NN_T(g->d[0]), NN_T(g->x[1]), NN_INTS(2, &g->xs[0].shape[1]), NN_INTS(2, w.k), NN_INTS(2, w.stride), NN_INTS(4, w.pad));
  return g->dx[0] ? NN_OK : nni_error_of(g->s.ctx)->status;
}
