/* ops/signature.c - turns the signature texts of the tables into arrays, once per process. The language is described in structural.def. */
#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include "ops.h"

static nni_sig sigs[NNI_NOP];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct { const char *text; nni_argtype type; } kinds[] = {
    {"T|F", NNI_A_TF}, {"T|D", NNI_A_TD}, {"TI", NNI_A_TI}, {"TL", NNI_A_TL}, {"T", NNI_A_T}, {"F", NNI_A_F}, {"IL", NNI_A_IL}, {"I2", NNI_A_I2},
    {"I", NNI_A_I}, {"B", NNI_A_B}, {"Y", NNI_A_Y}, {"DL", NNI_A_DL}, {"PL", NNI_A_PL}, {"D", NNI_A_D}, {"PAD", NNI_A_PAD}, {"S", NNI_A_S}};

static const char *skip(const char *s) {
  while (*s == ' ') s++;
  return s;
}

static const char *word(const char *s, char *out, size_t n) {
  size_t k = 0;
  while (*s && !strchr(" ,=?", *s)) {
    if (k + 1 < n) out[k++] = *s;
    s++;
  }
  out[k] = 0;
  return s;
}

static void parse_default(nni_param_spec *p, const char *w) {
  nn_dtype d;
  if (p->type == NNI_A_Y && nn_dtype_from_name(w, &d)) p->def = NN_I(d);
  else if (p->type == NNI_A_B) p->def = NN_I(strcmp(w, "true") == 0);
  else if (p->type == NNI_A_PAD) p->def = NN_TEXT("valid"); /* the only one in the tables; checked by tests/c */
  else if (p->type == NNI_A_S) {
    memcpy(p->text, w, strnlen(w, sizeof p->text - 1));
    p->def = NN_TEXT(p->text);
  } else if (p->type == NNI_A_F || p->type == NNI_A_TF) p->def = NN_F(strtod(w, NULL));
  else if (p->type == NNI_A_I2) {
    p->ints[0] = p->ints[1] = strtoll(w, NULL, 10);
    p->def = NN_INTS(2, p->ints);
  } else p->def = NN_I(strtoll(w, NULL, 10));
}

static void parse(nni_sig *g, const char *s) {
  char w[32];
  while (*(s = skip(s)) && strncmp(s, "->", 2) != 0) {
    nni_param_spec *p = &g->p[g->n++];
    s = word(s, w, sizeof w);
    for (int i = 0; i < NNI_COUNT(kinds); i++)
      if (strcmp(w, kinds[i].text) == 0) p->type = kinds[i].type;
    if (*s == '?') p->optional = true, s++;
    s = word(skip(s), p->name, sizeof p->name);
    s = skip(s);
    if (*s == '=') {
      s = word(skip(s + 1), w, sizeof w);
      parse_default(p, w);
      s = skip(s);
    }
    if (!p->optional && p->def.kind == NN_ARG_NONE) g->nrequired = g->n;
    if (*s == ',') s++;
  }
  g->nresult = 1;
  if (strncmp(s, "->", 2) != 0) return;
  s += 2;
  g->nresult = 0;
  while (*(s = skip(s))) {
    s = word(s, w, sizeof w);
    g->index_result[g->nresult++] = strcmp(w, "TI") == 0;
    s = skip(s);
    if (*s == ',') s++;
  }
}

static void parse_all(void) {
  for (int i = 0; i < NNI_NOP; i++) parse(&sigs[i], nni_op_row((nni_opid)i)->sig);
}

const nni_sig *nni_op_sig(const nn_op *op) {
  pthread_once(&once, parse_all);
  return &sigs[op->id];
}
