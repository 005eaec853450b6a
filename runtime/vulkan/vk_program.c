/* vulkan/vk_program.c - row programs: the module that emit.c makes of one, and how it is dispatched.
**
** A program keeps its module and what its dispatch needs; the pipeline is made when it runs first. Programs of equal modules share one.
*/
#include "emit.h"
#include "vk_device.h"

typedef struct end {
  size_t bytes, below;
  uint32_t size;
} end; /* of an operand: extent of what is accessed, how far it starts before element 0; bytes per element */
typedef struct program {
  nn_vk_device *d;
  nni_program p; /* a copy */
  nn_vk_module module;
  nn_vk_pipeline *pipeline;
  int nparam;
  end end[2 * NNI_PROG_MAXIO]; /* inputs, then outputs */
} program;

static end measure(const nni_program *p, const nni_access *a, bool output) {
  const int dims = a->level == NNI_ROW ? p->ndim - 1 : p->ndim;
  const size_t each = nn_dtype_size(a->dtype);
  int64_t below = 0, above = 0;
  if (output) above = (a->level == NNI_ROW ? p->rows : p->rows * p->cols) - 1;
  else
    for (int k = 0; k < dims; k++)
      if (a->stride[k] < 0) below -= a->stride[k] * (p->shape[k] - 1);
      else above += a->stride[k] * (p->shape[k] - 1);
  return (end){.size = (uint32_t)each, .below = (size_t)below * each, .bytes = (size_t)(below + above + 1) * each};
}

void *nn_vk_program_new(nni_device *base, const nni_program *p) {
  nn_vk_device *d = nn_vk_of(base);
  nni_error ignored = {0};
  program *g = nni_calloc(base->mem, sizeof *g);
  if (!g) return NULL;
  *g = (program){.d = d, .p = *p, .nparam = nn_vk_param_count(p)};
  for (int i = 0; i < p->nin; i++) g->end[i] = measure(p, &p->in[i], false);
  for (int i = 0; i < p->nout; i++) g->end[p->nin + i] = measure(p, &p->out[i], true);
  g->p.instr = nni_malloc(base->mem, sizeof *p->instr * (size_t)p->ninstr);
  if (g->p.instr) {
    memcpy(g->p.instr, p->instr, sizeof *p->instr * (size_t)p->ninstr);
    if (nn_vk_emit(base->mem, &g->p, d->floats, &g->module, &ignored) == NN_OK) return g;
  }
  nn_vk_program_free(base, g);
  return NULL;
}

void nn_vk_program_free(nni_device *base, void *prog) {
  program *g = prog;
  if (!g) return;
  nni_free(base->mem, g->module.words, sizeof *g->module.words * g->module.nwords);
  nni_free(base->mem, g->p.instr, sizeof *g->p.instr * (size_t)g->p.ninstr);
  nni_free(base->mem, g, sizeof *g);
}

size_t nn_vk_program_scratch(nni_device *base, const void *prog) { return (void)base, (void)prog, 0; }

nn_status nn_vk_program_run(const void *prog, const nni_kernel_call *c) {
  program *g = (program *)prog;
  const nni_program *p = &g->p;
  nn_vk_bind b[2 * NNI_PROG_MAXIO];
  uint32_t offset[2 * NNI_PROG_MAXIO];
  nn_vk_rowinfo info;
  for (int i = 0; i < p->nin + p->nout; i++) {
    const nni_operand *o = i < p->nin ? &c->in[i] : &c->out[i - p->nin];
    const end *e = &g->end[i];
    b[i] = nn_vk_range(g->d, (const char *)o->data - e->below, e->bytes, e->size, i >= p->nin);
    offset[i] = b[i].offset + (uint32_t)(e->below / e->size);
  }
  if (!nn_vk_rowinfo_fill(p, offset, &info))
    return nni_fail(c->err, NN_EUNSUPPORTED, "%s: %lld elements at once are more than kernels on Vulkan devices can count", g->d->base.name,
                    (long long)(p->rows * p->cols));
  if (!g->pipeline) g->pipeline = nn_vk_generated(g->d, g->module.words, g->module.nwords, c->err);
  nn_vk_work w = {.pipeline = g->pipeline,
                  .bind = b,
                  .nbind = p->nin + p->nout,
                  .info = info.word,
                  .ninfo = info.nwords * sizeof *info.word,
                  .param = c->param,
                  .nparam = g->nparam,
                  .ops = (uint64_t)(p->rows * p->cols) * (uint64_t)p->ninstr * 8};
  nn_vk_grid(g->d, info.groups, w.groups);
  return nn_vk_dispatch(g->d, &w, c->err);
}
