/* ops/table.c - the operator table, expanded from pointwise.def and structural.def, and looking it up. */
#include "ops.h"

enum { SA = NNI_SA, SB = NNI_SB, SC = NNI_SC, SD = NNI_SD, SY = NNI_SY, SY2 = NNI_SY2, SY3 = NNI_SY3 };
#define GRAD_OWN(name) .grad_own = true, .grad = nni_grad_##name
#define GRAD_PARTS(name) .grad_parts = true
#define GRAD_NONE(name) .grad_own = false
#define PW_GRAD_F true
#define PW_GRAD_N true
#define PW_GRAD_W true
#define PW_GRAD_C false
#define PW_GRAD_B false
#define PW_GRAD_I false

static const nn_op rows[NNI_NOP] = {
#define NN_PW(nm, ty, sg, n, dc, formula, sv, ...) \
  {.name = #nm, .sig = sg, .doc = dc, .id = NNI_OP_##nm, .pw = NNI_PW_##nm, .type = #ty[0], .saves = sv, .grad_own = PW_GRAD_##ty, .grad = nni_pw_grad},
#include "pointwise.def"
#undef NN_PW
#define NN_OP(nm, GRAD, sv, sg, dc) {.name = #nm, .sig = sg, .doc = dc, .id = NNI_OP_##nm, .pw = -1, .saves = sv, .rule = nni_rule_##nm, GRAD_##GRAD(nm)},
#include "structural.def"
#undef NN_OP
};

const nn_op *nni_op_row(nni_opid id) { return &rows[id]; }
const nn_op *nn_op_at(int i) { return i >= 0 && i < NNI_NOP ? &rows[i] : NULL; }
const char *nn_op_name(const nn_op *op) { return op->name; }
const char *nn_op_signature(const nn_op *op) { return op->sig; }
const char *nn_op_doc(const nn_op *op) { return op->doc; }
bool nn_op_differentiable(const nn_op *op) { return op->grad_own || op->grad_parts; }

const nn_op *nn_op_find(const char *name) {
  for (int i = 0; i < NNI_NOP; i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  return NULL;
}
