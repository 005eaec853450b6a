/* tests/c/row_program.h - a small assembler of row programs, for test_program.c and test_emit.c: each call appends an instruction and gives its number.
*/
#ifndef ROW_PROGRAM_H
#define ROW_PROGRAM_H
#include <string.h>
#include "graph/device.h"

typedef struct prog {
  nni_program p;
  nni_rinstr code[160];
  const char *name;
} prog;
static inline void start(prog *g, const char *name, int ndim, const int64_t *shape) {
  memset(g, 0, sizeof *g);
  g->name = name;
  g->p.ndim = ndim;
  g->p.rows = 1;
  for (int d = 0; d < ndim; d++) {
    g->p.shape[d] = shape[d];
    if (d < ndim - 1) g->p.rows *= shape[d];
  }
  g->p.cols = shape[ndim - 1];
  g->p.instr = g->code;
}
static inline int cls_of(nn_dtype d) { return d == NN_F64 ? NNI_D : d >= NN_F16 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I; }
static inline nni_rinstr *emit(prog *g, int kind, int level, nn_dtype d) {
  nni_rinstr *i = &g->code[g->p.ninstr++];
  i->kind = (uint8_t)kind;
  i->level = (uint8_t)level;
  i->dtype = (uint8_t)d;
  i->cls = i->opcls = (uint8_t)cls_of(d);
  return i;
}
static inline int last(const prog *g) { return g->p.ninstr - 1; }
static inline int load(prog *g, nn_dtype d, int level, const int64_t *strides) { /* strides: NULL for a dense array */
  nni_access *a = &g->p.in[g->p.nin];
  int64_t s = 1;
  a->dtype = d;
  a->level = (uint8_t)level;
  for (int k = g->p.ndim - 1 - (level == NNI_ROW); k >= 0; s *= g->p.shape[k--]) a->stride[k] = s;
  if (strides) memcpy(a->stride, strides, sizeof(int64_t) * (size_t)g->p.ndim);
  emit(g, NNI_R_LOAD, level, d)->slot = (int16_t)g->p.nin++;
  return last(g);
}
static inline int dense(prog *g, nn_dtype d) { return load(g, d, NNI_FULL, NULL); }
static inline int param(prog *g, nn_dtype d, int slot) {
  emit(g, NNI_R_PARAM, NNI_FULL, d)->slot = (int16_t)slot;
  return last(g);
}
static inline int pw(prog *g, int op, nn_dtype d, int a, int b, int c) {
  int level = NNI_ROW, n = (a >= 0) + (b >= 0) + (c >= 0), arg[3] = {a, b, c};
  for (int k = 0; k < n; k++)
    if (g->code[arg[k]].level == NNI_FULL) level = NNI_FULL;
  nni_rinstr *i = emit(g, NNI_R_PW, level, d);
  i->op = (uint16_t)op;
  i->nargs = (uint8_t)n;
  i->opcls = g->code[op == NNI_PW_where ? b : a].cls;
  for (int k = 0; k < 3; k++) i->a[k] = (int16_t)arg[k];
  return last(g);
}
#define F1(op, a) pw(g, NNI_PW_##op, NN_F32, a, -1, -1)
#define F2(op, a, b) pw(g, NNI_PW_##op, NN_F32, a, b, -1)
static inline int cast(prog *g, nn_dtype d, int a) {
  nni_rinstr *i = emit(g, NNI_R_CAST, g->code[a].level, d);
  i->a[0] = (int16_t)a;
  i->nargs = 1;
  i->opcls = g->code[a].cls;
  return last(g);
}
static inline int reduce(prog *g, int op, nn_dtype d, int a) {
  nni_rinstr *i = emit(g, NNI_R_REDUCE, NNI_ROW, d);
  i->op = (uint16_t)op;
  i->a[0] = (int16_t)a;
  i->nargs = 1;
  i->opcls = g->code[a].cls;
  return last(g);
}
static inline void store(prog *g, nn_dtype d, int a) {
  nni_access *o = &g->p.out[g->p.nout];
  o->dtype = d;
  o->level = g->code[a].level;
  nni_rinstr *i = emit(g, NNI_R_STORE, g->code[a].level, d);
  i->a[0] = (int16_t)a;
  i->slot = (int16_t)g->p.nout++;
}

#endif
