/* vulkan/vk_program.c - row programs: the module that emit.c makes of one, and how it is dispatched.
**
** A program keeps its module and what its dispatch needs; the pipeline is made when it runs first. Programs of equal modules share one.
*/
#include "vk_device.h"

typedef struct program {
  nn_vk_device *d;
  nn_vk_module module;
  nn_vk_pipeline *pipeline;
  uint64_t groups;
  uint32_t rows, cols;
  int nin, nout, nparam;
  struct { size_t bytes, below; uint32_t size; } end[2 * NNI_PROG_MAXIO]; /* inputs, then outputs: extent of what is accessed, and how far it starts before element 0 */
} program;

/* extent of an access over the space */
static void measure(program *g, int i, const nni_program *p, const nni_access *a, bool output) {
  const int last = p->ndim - 1, dims = a->level == NNI_ROW ? last : p->ndim;
  const size_t each = nn_dtype_size(a->dtype);
  int64_t below = 0, above = 0;
  if (output) above = (a->level == NNI_ROW ? p->rows : p->rows * p->cols) - 1;
  else
    for (int k = 0; k < dims; k++)
      if (a->stride[k] < 0) below -= a->stride[k] * (p->shape[k] - 1);
      else above += a->stride[k] * (p->shape[k] - 1);
  g->end[i].size = (uint32_t)each;
  g->end[i].below = (size_t)below * each;
  g->end[i].bytes = (size_t)(below + above + 1) * each;
}

void *nn_vk_program_new(nni_device *base, const nni_program *p) {
  nni_error ignored = {0};
  if (p->rows >> 32 || p->cols >> 32 || (uint64_t)p->rows * (uint64_t)p->cols >> 32) return NULL;
  program *g = nni_calloc(base->mem, sizeof *g);
  if (!g) return NULL;
  *g = (program){.d = nn_vk_of(base), .rows = (uint32_t)p->rows, .cols = (uint32_t)p->cols, .nin = p->nin, .nout = p->nout};
  for (int i = 0; i < p->nin; i++) measure(g, i, p, &p->in[i], false);
  for (int i = 0; i < p->nout; i++) measure(g, p->nin + i, p, &p->out[i], true);
  for (int i = 0; i < p->ninstr; i++) {
    const nni_rinstr *r = &p->instr[i];
    const int top = r->kind == NNI_R_PARAM ? r->slot + 1 : r->kind == NNI_R_RANDOM ? r->slot + 2 : 0;
    if (top > g->nparam) g->nparam = top;
  }
  if (nn_vk_emit(base->mem, p, &g->module, &ignored) != NN_OK) {
    nni_free(base->mem, g, sizeof *g);
    return NULL;
  }
  g->groups = g->module.rows ? (uint64_t)p->rows : ((uint64_t)p->rows * (uint64_t)p->cols + g->module.workgroup - 1) / g->module.workgroup;
  return g;
}

void nn_vk_program_free(nni_device *base, void *prog) {
  program *g = prog;
  if (!g) return;
  nni_free(base->mem, g->module.words, sizeof *g->module.words * g->module.nwords);
  nni_free(base->mem, g, sizeof *g);
}

size_t nn_vk_program_scratch(nni_device *base, const void *prog) { return (void)base, (void)prog, 0; }

nn_status nn_vk_program_run(const void *prog, const nni_kernel_call *c) {
  program *g = (program *)prog;
  nn_vk_bind b[2 * NNI_PROG_MAXIO];
  nn_vk_rowinfo info = {.rows = g->rows, .cols = g->cols, .n = g->rows * g->cols};
  if (!g->pipeline) g->pipeline = nn_vk_generated(g->d, g->module.words, g->module.nwords, c->err);
  for (int i = 0; i < g->nin + g->nout; i++) {
    const nni_operand *o = i < g->nin ? &c->in[i] : &c->out[i - g->nin];
    b[i] = nn_vk_range(g->d, (const char *)o->data - g->end[i].below, g->end[i].bytes, g->end[i].size, i >= g->nin);
    info.offset[i] = b[i].offset + (uint32_t)(g->end[i].below / g->end[i].size);
  }
  nn_vk_work w = {.pipeline = g->pipeline, .bind = b, .nbind = g->nin + g->nout, .info = &info, .ninfo = sizeof info, .param = c->param, .nparam = g->nparam};
  nn_vk_grid(g->d, g->groups, w.groups);
  return nn_vk_dispatch(g->d, &w, c->err);
}
