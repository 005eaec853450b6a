/* cpu/program_chain.c - which steps of a row program run as one chain (isa/rows.h): those whose result the next one takes over as it is.
**
** A chain stands where its last link stood, so no value that it makes on the way may be read in between. Called by program.c while compiling.
*/
#include "program_steps.h"

#define MAXLINKS (NN_ROWS_MAXLINKS / 2 - 1) /* each is at most two: itself and a store; with a load and an end */

static bool is_splat(const program *p, const step *s) { return s->shape == CONST || (s->shape == ROW && p->tile_rows == 1); }

/* a row value that is no splat */
static bool is_row(const program *p, int v) { return v >= 0 && p->steps[v].shape == ROW && p->tile_rows > 1; }

static int link_of(const program *p, const step *s) {
#define UNARY(name) [NNI_RED_##name] = NN_LINK_##name
  static const uint8_t reductions[NNI_NRED] = {UNARY(rsum), UNARY(rprod), UNARY(rmax), UNARY(rmin)};
#undef UNARY
  if (s->prologue || s->chained) return 0;
  if (s->kind == S_PW) return s->op;
  if (s->kind != S_REDUCE || s->src_cls != NNI_F) return 0;
  if (p->split ? p->seg > NN_ROWS_LEAF : p->cols > NN_ROWS_LEAF) return 0;
  return p->tile_rows == 1 || p->cols >= 4 * p->k->vw ? reductions[s->op] : 0;
}

static bool is_heavy(int link) {
#define IS_1(name) case NN_LINK_##name: return false;
#define IS_2(name) case NN_LINK_##name: return false;
  switch (link) {
  NN_ROWS_LIGHT(IS_1, IS_2)
  default: return true;
  }
}

/* first[v], second[v]: the first two steps that read value v, or the number of steps */
static void find_readers(const program *p, int16_t *first, int16_t *second) {
  for (int i = 0; i < p->nsteps; i++) first[i] = second[i] = (int16_t)p->nsteps;
  for (int i = 0; i < p->nsteps; i++)
    for (int k = 0; k < 3; k++) {
      const int v = p->steps[i].a[k];
      if (v < 0 || first[v] == i || second[v] < p->nsteps) continue;
      if (first[v] == p->nsteps) first[v] = (int16_t)i;
      else second[v] = (int16_t)i;
    }
}

/* step i becomes a link; before: the link whose strip it takes over, -1 for the first */
static void set_link(program *p, int i, int before) {
  step *s = &p->steps[i];
  const int op = link_of(p, s), strip = before >= 0 ? s->a[0] != before : p->steps[s->a[0]].shape != FULL;
  const int other = s->kind == S_PW && s->a[1] >= 0 ? s->a[!strip] : -1;
  s->chained = true;
  s->next = -1;
  s->keeps = true;
  s->other = (int8_t)(other < 0 ? -1 : !strip);
  s->link = (uint8_t)op;
  s->step[0] = 0;
  if (other < 0) return;
  const step *o = &p->steps[other];
  s->link = (uint8_t)(op + (o->shape != FULL) + 2 * strip);
  if (is_row(p, other)) s->step[0] = 4;
  else if (!is_splat(p, o) && !(o->kind == S_LOAD && o->prologue) && p->tile_rows > 1) s->step[0] = (int32_t)p->cols * 4;
}

/* The chain that starts with step i: as far as the first reader of each link's value can be the next one. */
static void build_chain(program *p, int i, const int16_t *first, const int16_t *second) {
  int link[MAXLINKS], n = 0, bound = p->nsteps; /* bound: the first step elsewhere that reads what the chain makes on the way */
  bool by_row = false, heavy = false;
  for (int j = i; j < bound && n < MAXLINKS && link_of(p, &p->steps[j]); j = first[j]) {
    const step *s = &p->steps[j];
    link[n++] = j;
    if (n == 1 && s->kind == S_REDUCE) return;
    by_row |= s->kind == S_REDUCE || is_row(p, s->a[0]) || is_row(p, s->a[1]);
    if (s->kind == S_REDUCE) break;
    heavy |= is_heavy(s->op);
    if (second[j] < bound) bound = second[j];
  }
  if (n == 0 || (n == 1 && !by_row && !(p->steps[i].direct && (p->out_stream >> p->steps[i].io & 1)))) return;
  for (int k = 0; k < n; k++) set_link(p, link[k], k ? link[k - 1] : -1);
  for (int k = 0; k < n; k++) {
    step *s = &p->steps[link[k]];
    s->head = (int16_t)i;
    if (k + 1 == n) break;
    const step *next = &p->steps[link[k + 1]];
    s->next = (int16_t)link[k + 1];
    s->keeps = second[link[k]] < p->nsteps || (next->kind == S_PW && next->a[0] == next->a[1]);
  }
  p->steps[i].nlinks = (uint8_t)n;
  p->steps[i].by_row = by_row;
  p->steps[i].fn.chain = heavy ? p->k->heavy : p->k->light;
}

void nn_cpu_program_chain(program *p, int16_t *first, int16_t *second) {
  find_readers(p, first, second);
  for (int i = 0; i < p->nsteps; i++) build_chain(p, i, first, second);
  for (int o = 0; o < p->nout; o++)
    if (p->out_direct[o] >= 0 && p->steps[p->out_direct[o]].chained && (p->rows == 1 || p->cols % 16 == 0)) p->out_link |= 1u << o;
}
