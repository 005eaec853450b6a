/* ops/signature.h - signatures as arrays: what the Lua binding, help and nn_op_call are driven by. The only header of ops/ that bindings/ may include. */
#ifndef NNI_SIGNATURE_H
#define NNI_SIGNATURE_H
#include "../nn.h"

typedef enum nni_argtype { NNI_A_T, NNI_A_TF, NNI_A_TI, NNI_A_TL, NNI_A_F, NNI_A_I, NNI_A_B, NNI_A_IL, NNI_A_I2, NNI_A_Y, NNI_A_D, NNI_A_DL, NNI_A_PL, NNI_A_PAD, NNI_A_S, NNI_A_TD } nni_argtype;
typedef struct nni_param_spec {
  nni_argtype type;
  bool optional;     /* may be absent and has no default */
  char name[16];
  nn_arg def;        /* NN_ARG_NONE when there is none */
  int64_t ints[2];   /* storage of an I2 default */
  char text[16];     /* storage of an S default */
} nni_param_spec;
typedef struct nni_sig {
  int n, nrequired, nresult;
  nni_param_spec p[NN_MAXARG];
  bool index_result[NN_MAXOUT]; /* TI: positions, 1-based in Lua */
} nni_sig;
NN_API const nni_sig *nni_op_sig(const nn_op *op);

#endif
