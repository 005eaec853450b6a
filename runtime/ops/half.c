/* ops/half.c - f16 and bf16 are dtypes to store: an operator with a rule of its own gets them as f32, and its results become halves again.
**
** This is the one place that knows about it. Operators that only move elements are the exception (a list, for speed alone: the way through f32
** changes nothing); pointwise rows compute in f32 registers and round each result. Products and convolutions are left as they are on devices whose kernels
** take halves (nni_backend.takes): those sum in f32 and round once, as the way through f32 does.
*/
#include "ops.h"

static bool moves_only(const nn_op *op) {
  switch (op->id) {
    case NNI_OP_reshape: case NNI_OP_flatten: case NNI_OP_squeeze: case NNI_OP_unsqueeze: case NNI_OP_transpose: case NNI_OP_permute:
    case NNI_OP_expand: case NNI_OP_slice: case NNI_OP_slice_set: case NNI_OP_contiguous: case NNI_OP_cast: case NNI_OP_cat: case NNI_OP_stack:
    case NNI_OP_index_select: case NNI_OP_nan_to_num: return true;
    default: return false;
  }
}
/* The kernel that does the work of an operator which a device may have for halves, -1: there is none. */
static int kernel_of(const nn_op *op) {
  switch (op->id) {
    case NNI_OP_matmul: case NNI_OP_linear: return NNI_K_matmul;
    case NNI_OP_conv2d: return NNI_K_conv2d;
    case NNI_OP_conv2d_dx: return NNI_K_conv2d_dx;
    case NNI_OP_conv2d_dw: return NNI_K_conv2d_dw;
    default: return -1;
  }
}

static bool is_half(const nn_tensor *t) { return t && (t->dtype == NN_F16 || t->dtype == NN_BF16); }

bool nni_wants_wider(const nn_op *op, const nn_arg *arg, int nargs) {
  const nn_tensor *half = NULL;
  for (int i = 0; i < nargs && !half; i++) {
    if (arg[i].kind == NN_ARG_TENSOR && is_half(arg[i].u.t)) half = arg[i].u.t;
    for (int k = 0; arg[i].kind == NN_ARG_TENSORS && k < arg[i].n && !half; k++)
      if (is_half(arg[i].u.tensors[k])) half = arg[i].u.tensors[k];
  }
  if (!half || moves_only(op)) return false;
  const int kernel = kernel_of(op);
  return kernel < 0 || !nni_device_takes(half, kernel);
}

/* t as f32 if it is a half; the common dtype of the floats goes to d */
static nn_tensor *widen(nni_scope *s, nn_tensor *t, nn_dtype *d) {
  if (t && nn_dtype_is_float(t->dtype)) *d = nn_dtype_promote(*d, t->dtype);
  return is_half(t) ? nni_cast(s, t, NN_F32) : t;
}

nn_status nni_apply_wider(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout) {
  nni_scope s = {.ctx = ctx, .op = op, .ntmp = 0};
  nn_arg wide[NN_MAXARG];
  nn_tensor *list[NNI_MAXTMP];
  nn_dtype d = NN_BOOL;
  int used = 0;
  bool ok = true;
  for (int i = 0; i < nargs; i++) {
    wide[i] = arg[i];
    if (arg[i].kind == NN_ARG_TENSOR) ok = (wide[i].u.t = widen(&s, arg[i].u.t, &d)) && ok;
    if (arg[i].kind != NN_ARG_TENSORS || used + arg[i].n > NNI_MAXTMP - 4) continue; /* so long a list: the rule itself refuses it */
    wide[i] = NN_TENSORS(arg[i].n, list + used);
    for (int k = 0; k < arg[i].n; k++) ok = (list[used++] = widen(&s, arg[i].u.tensors[k], &d)) && ok;
  }
  nn_status st = ok ? nni_apply(ctx, op, wide, nargs, out, nout) : nni_error_of(ctx)->status;
  nni_scope_close(&s);
  for (int i = 0; st == NN_OK && i < *nout; i++) {
    nn_tensor *back = out[i]->dtype == NN_F32 ? nni_cast(&s, out[i], d) : out[i];
    if (back == out[i]) continue;
    if (back) nn_release(out[i]), out[i] = nn_retain(back);
    else {
      st = nni_error_of(ctx)->status;
      for (int k = 0; k < *nout; k++) nn_release(out[k]);
      *nout = 0;
    }
  }
  nni_scope_close(&s);
  return st;
}
