/* ops/ops.h - the operator table, and what the rules and gradients of operators are written with.
**
** An operator is a row of pointwise.def or structural.def. Calling it runs its rule: check, infer, record. Rules and gradients are written with nni_do, which
** calls another operator and owns the result until the rule is over; a failed call gives NULL, and a call on NULL gives NULL, so that expressions nest
** without checks and only the last result is looked at.
*/
#ifndef NNI_OPS_H
#define NNI_OPS_H
#include "../tensor/tensor.h"
#include "ids.h"
#include "signature.h"

/* ---- what rules record (graph/record.c) ---------------------------------------------------------------------------------- */
typedef enum nni_nodekind { NNI_N_PW, NNI_N_CAST, NNI_N_FILL, NNI_N_INDEX, NNI_N_RANDOM, NNI_N_REDUCE, NNI_N_KERNEL } nni_nodekind;
typedef struct nni_out { nn_dtype dtype; int32_t ndim; int64_t shape[NN_MAXDIM]; } nni_out;
/* NNI_N_PW: op = row of pointwise.def, in[i] NULL takes the next of pa. NNI_N_CAST: in[0] to out's dtype. NNI_N_FILL: pa[0]. NNI_N_INDEX: linear index (i64).
** NNI_N_RANDOM: pa = seed, stream. NNI_N_REDUCE: op = row of reduce.def over the last dim of in[0]; out without that dim. NNI_N_KERNEL: op = row of kernels.def. */
#define NNI_LONGEST_ROW 16384 /* of a row program that reduces; longer rows go to the structural kernel, which shares them among threads */
typedef struct nni_rec {
  nni_nodekind kind;
  int op, nin, npa, nia, nout;
  nn_tensor *const *in;
  const nni_param *pa;
  const int64_t *ia;
  const nni_out *out;
} nni_rec;
nn_status nni_record(nn_context *ctx, const nni_rec *r, nn_tensor **result);

/* ---- the table ------------------------------------------------------------------------------------------------------------ */
typedef enum nni_opid {
#define NN_PW(name, ...) NNI_OP_##name,
#include "pointwise.def"
#undef NN_PW
#define NN_OP(name, ...) NNI_OP_##name,
#include "structural.def"
#undef NN_OP
  NNI_NOP
} nni_opid;

const nn_op *nni_op_row(nni_opid id);

/* ---- rules ------------------------------------------------------------------------------------------------------------------ */
#define NNI_MAXTMP 128
typedef struct nni_scope { /* temporaries of one rule or gradient */
  nn_context *ctx;
  const nn_op *op; /* for messages */
  nn_tensor *tmp[NNI_MAXTMP];
  int ntmp;
  bool failed; /* one of its calls gave NULL: a gradient that is NULL is no gradient only as long as nothing failed */
} nni_scope;
typedef struct nni_call {
  nni_scope s;
  nn_arg arg[NN_MAXARG];
  nn_tensor *out[NN_MAXOUT];
  int nout;
} nni_call;
typedef struct nni_gradcall {
  nni_scope s;
  const nn_arg *arg;        /* as called; tensors are in x */
  nn_tensor *const *x;      /* tensor arguments (lists flattened), NULL unless saved (SAVES, or needed by an OWN gradient) */
  nn_tensor *const *y;      /* results, NULL unless saved */
  nn_tensor *const *d;      /* cotangents of the results, NULL where there is none */
  const bool *need;         /* which arguments want a gradient */
  const nni_out *xs;        /* dtype and shape of the tensor arguments */
  int nx;
  nn_tensor *sum;           /* what the first argument has been given so far, or NULL: a gradient that fills a part adds its part to it, ... */
  bool summed;              /* ... and says so here: dx[0] holds both */
  nn_tensor *dx[NN_MAXARG]; /* to be set; borrowed from the scope. Longer lists: dxl */
  const nn_custom *custom;  /* of nn_record_custom */
  nn_tensor **dxl;          /* nx entries; dx when nx <= NN_MAXARG */
} nni_gradcall;
typedef nn_status (*nni_rule_fn)(nni_call *c);
typedef nn_status (*nni_grad_fn)(nni_gradcall *g);

enum { NNI_SA = 1, NNI_SB = 2, NNI_SC = 4, NNI_SD = 8, NNI_SY = 64, NNI_SY2 = 128, NNI_SY3 = 256 }; /* what a gradient uses */
struct nn_op {
  const char *name, *sig, *doc;
  nni_opid id;
  int pw;            /* nni_pwid, or -1 */
  char type;         /* pointwise: F N C B W */
  uint16_t saves;
  bool grad_own, grad_parts;
  nni_rule_fn rule;  /* NULL for pointwise */
  nni_grad_fn grad;
};

/* Call an operator with complete arguments (no defaults are filled in): the way from rules and gradients. */
nn_status nni_apply(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout);
nn_tensor *nni_do_(nni_scope *s, nni_opid id, const nn_arg *args, int nargs); /* first result, borrowed */
#define nni_do(s, id, ...) \
  nni_do_((s), NNI_OP_##id, (const nn_arg[]){__VA_ARGS__}, (int)(sizeof((nn_arg[]){__VA_ARGS__}) / sizeof(nn_arg)))
nn_tensor *nni_hold(nni_scope *s, nn_tensor *t);   /* s takes over the reference; returns t */
void nni_scope_close(nni_scope *s);
nn_status nni_give(nni_call *c, nn_tensor *t);     /* t (borrowed) becomes the next result; the context's error when NULL */
nn_tensor *nni_rec1(nni_scope *s, const nni_rec *r); /* record; first result, borrowed */

/* helpers shared by the rules (common.c) */
nn_status nni_opfail(nni_scope *s, nn_status st, const char *fmt, ...) NNI_PRINTF(3, 4); /* "<op>: ..." */
bool nni_dim(nni_scope *s, int64_t dim, int ndim, int *out);              /* negative from the end; false: error set */
bool nni_dims(nni_scope *s, const nn_arg *dims, int ndim, bool *on);      /* absent: all */
nn_tensor *nni_dense(nni_scope *s, nn_tensor *t);                         /* contiguous (offset may be anything) */
nn_tensor *nni_real(nni_scope *s, nn_tensor *t);                          /* a float stays what it is, anything else becomes f32 */
bool nni_reals(nni_scope *s, int n, nn_tensor **t);                       /* all become the float that they promote to; false: error set */
nn_tensor *nni_cast(nni_scope *s, nn_tensor *t, nn_dtype d);
nn_tensor *nni_reshape(nni_scope *s, nn_tensor *t, int ndim, const int64_t *shape);
nn_tensor *nni_unbroadcast(nni_scope *s, nn_tensor *t, int ndim, const int64_t *shape); /* sums what was broadcast */
nni_out nni_like(nn_dtype d, int ndim, const int64_t *shape);
nn_tensor *nni_one_hot_mask(nni_scope *s, nn_tensor *ids, int64_t classes); /* bool (ids..., classes): true at the id; ids are checked by the run */
/* half.c: operators that have no form for f16 and bf16 are computed in f32 */
bool nni_device_takes(const nn_tensor *t, int kernel); /* has the device of t a form of the kernel for t's dtype, f16 or bf16? (graph/devices.c) */
bool nni_wants_wider(const nn_op *op, const nn_arg *arg, int nargs);
nn_status nni_apply_wider(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out, int *nout);
typedef double (*nni_number_fn)(double a, double b, double c); /* numbers.c: by nni_pwid */
extern const nni_number_fn nni_numbers[NNI_NPW];
nn_status nni_pw_rule(nn_context *ctx, const nn_op *op, const nn_arg *arg, int nargs, nn_tensor **out);
nn_status nni_pw_grad(nni_gradcall *g);
nn_dtype nni_weak_promote(const nn_arg *arg, int from, int n, nn_dtype floor); /* tensors decide; a fractional number lifts integers to f32 */

/* random stream (graph/context.c): reserves n draws, gives seed and stream number */
void nni_draw(nn_context *ctx, nni_param pa[2]);
/* recordings (graph/jit.c): the last n numbers that were recorded are num, and each replay has its own; n == 0 begins a set of them (nn_jit_renew) */
void nni_renewed(nn_context *ctx, const double *num, int n);

#define NN_PW(...)
#define NN_OP(name, GRAD, ...) nn_status nni_rule_##name(nni_call *c);
#include "structural.def"
#undef NN_OP
#define NNI_DECL_OWN(name) nn_status nni_grad_##name(nni_gradcall *g);
#define NNI_DECL_PARTS(name)
#define NNI_DECL_NONE(name)
#define NN_OP(name, GRAD, ...) NNI_DECL_##GRAD(name)
#include "structural.def"
#undef NN_OP
#undef NN_PW

#endif
