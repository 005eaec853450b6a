/* ops/half.c - f16 and bf16 are dtypes to store: an operator with a rule of its own gets them as f32, and its results become halves again.
**
** This is the one place that knows about it. Operators that only move elements are the exception (a list, for speed alone: the way through f32
** changes nothing); pointwise rows compute in f32 registers and round each result.
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
/* Kernels that move bytes take every dtype; the others know f32, f64 and integers. */
bool nni_kernel_takes(int kernel, nn_dtype d) {
  if (d != NN_F16 && d != NN_BF16) return true;
  switch (kernel) {
    case NNI_K_copy: case NNI_K_slice_set: case NNI_K_slice_add: case NNI_K_concat: case NNI_K_take_rows: case NNI_K_gather: return true;
    default: return false;
  }
}

static bool is_half(const nn_tensor *t) { return t && (t->dtype == NN_F16 || t->dtype == NN_BF16); }

bool nni_wants_wider(const nn_op *op, const nn_arg *arg, int nargs) {
  bool any = false;
  for (int i = 0; i < nargs && !any; i++) {
    if (arg[i].kind == NN_ARG_TENSOR) any = is_half(arg[i].u.t);
    for (int k = 0; arg[i].kind == NN_ARG_TENSORS && k < arg[i].n && !any; k++) any = is_half(arg[i].u.tensors[k]);
  }
  return any && !moves_only(op);
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
