/* vulkan/emit_layout.c - how a row program's inputs are walked and its work is shared out (emit_layout.h); the Info block of a dispatch.
** Pure functions. */
#include "emit_layout.h"

enum { LINEAR_GROUP = 256, MANY = 1 << 18 }; /* MANY elements keep a device busy with several per invocation */
#define MOST_ELEMENTS (UINT32_MAX - 65536)   /* numbers of elements past the end, in the last workgroup, do not wrap around */

static int64_t stride_of(const nni_program *p, int i, int d) { return p->shape[d] == 1 ? 0 : p->in[i].stride[d]; }

static nn_vk_walk walk_of(const nni_program *p, int i) {
  nn_vk_walk w = {ROW_SAME, COL_SAME, false};
  int last = p->ndim - 1;
  int64_t want = 0, col = p->in[i].level == NNI_ROW ? 0 : stride_of(p, i, last);
  w.col = col == 0 ? COL_SAME : col == 1 ? COL_NEXT : COL_STRIDE;
  for (int d = last - 1; d >= 0; d--) {
    if (p->shape[d] == 1) continue;
    int64_t s = stride_of(p, i, d);
    if (want == 0 && w.row == ROW_SAME) {
      bool inner = false; /* a dim of stride 0 further in makes it no pitch */
      for (int k = d + 1; k < last; k++) inner = inner || p->shape[k] > 1;
      if (s != 0) w.row = inner ? ROW_STRIDES : ROW_PITCH;
      want = s * p->shape[d];
    } else if (s != want) w.row = ROW_STRIDES;
    else want = s * p->shape[d];
  }
  int64_t dense = 1;
  w.linear = p->in[i].level == NNI_FULL;
  for (int d = last; d >= 0; dense *= p->shape[d--]) w.linear = w.linear && (p->shape[d] == 1 || p->in[i].stride[d] == dense);
  return w;
}

nn_vk_layout nn_vk_layout_of(const nni_program *p) {
  nn_vk_layout l = {.workgroup = LINEAR_GROUP, .lanes = 1, .per_group = 1, .each = 1};
  const bool many = p->rows * p->cols >= MANY; /* changes no bits: an order of summation must not depend on it */
  for (int i = 0; i < p->ninstr; i++)
    l.rows = l.rows || p->instr[i].kind == NNI_R_REDUCE || (p->instr[i].kind == NNI_R_STORE && p->out[p->instr[i].slot].level == NNI_ROW);
  if (l.rows) {
    while (l.lanes < p->cols && l.lanes < 32) l.lanes *= 2;
    if (p->cols > 128) l.lanes = p->cols <= 512 ? 128 : 256; /* of cols alone: the order of summation */
    if (p->cols > l.lanes && many && p->ninstr <= 64) l.each = 4;
    l.resident = p->cols <= l.lanes * l.each;
    l.workgroup = l.lanes < 64 ? 64 : l.lanes;
    l.per_group = l.workgroup / l.lanes;
  } else if (many) l.each = p->ninstr <= 24 ? 4 : p->ninstr <= 64 ? 2 : 1; /* registers are limited */
  bool strides = false;
  uint32_t at = INFO_OFFSETS + (uint32_t)(p->nin + p->nout);
  for (int i = 0; i < p->nin; i++) {
    l.in[i] = walk_of(p, i);
    strides = strides || (l.in[i].row == ROW_STRIDES && !l.in[i].linear);
  }
  l.shape_at = at;
  if (strides) at += 3 * ((uint32_t)p->ndim - 2);
  for (int i = 0; i < p->nin; i++) {
    l.walk_at[i] = at;
    if (l.in[i].linear) continue;
    at += l.in[i].row == ROW_PITCH ? 1 : l.in[i].row == ROW_STRIDES ? (uint32_t)p->ndim - 1 : 0;
    at += l.in[i].col == COL_STRIDE;
  }
  l.nwords = at;
  return l;
}

static void put_divisor(uint32_t *w, uint32_t n) {
  nn_vk_div d = nn_vk_divisor(n);
  w[0] = n;
  w[1] = d.mul;
  w[2] = d.shift;
}

bool nn_vk_rowinfo_fill(const nni_program *p, const uint32_t *offset, nn_vk_rowinfo *out) {
  const nn_vk_layout l = nn_vk_layout_of(p);
  const int64_t count = p->rows * p->cols;
  if (p->rows > MOST_ELEMENTS || p->cols > MOST_ELEMENTS || count > MOST_ELEMENTS || l.nwords > NNI_COUNT(out->word)) return false;
  out->nwords = l.nwords;
  out->groups = (uint32_t)(l.rows ? (p->rows + l.per_group - 1) / l.per_group : (count + l.workgroup * l.each - 1) / (l.workgroup * l.each));
  out->word[INFO_GROUPS] = out->groups;
  out->word[INFO_ROWS] = (uint32_t)p->rows;
  put_divisor(out->word + INFO_COLS, (uint32_t)p->cols);
  out->word[INFO_COUNT] = (uint32_t)count;
  memcpy(out->word + INFO_OFFSETS, offset, (size_t)(p->nin + p->nout) * 4);
  for (uint32_t at = l.shape_at; at < (p->nin ? l.walk_at[0] : l.nwords); at += 3)
    put_divisor(out->word + at, (uint32_t)p->shape[1 + (at - l.shape_at) / 3]);
  for (int i = 0; i < p->nin; i++) {
    uint32_t at = l.walk_at[i], pitch = 0;
    if (l.in[i].linear) continue;
    for (int d = 0; d < p->ndim - 1 && l.in[i].row == ROW_STRIDES; d++) out->word[at++] = (uint32_t)stride_of(p, i, d);
    for (int d = 0; d < p->ndim - 1; d++)
      if (p->shape[d] > 1) pitch = (uint32_t)stride_of(p, i, d); /* the innermost one's */
    if (l.in[i].row == ROW_PITCH) out->word[at++] = pitch;
    if (l.in[i].col == COL_STRIDE) out->word[at] = (uint32_t)p->in[i].stride[p->ndim - 1];
  }
  return true;
}
int nn_vk_param_count(const nni_program *p) {
  int n = 0;
  for (int i = 0; i < p->ninstr; i++) {
    int last = p->instr[i].kind == NNI_R_PARAM ? p->instr[i].slot : p->instr[i].kind == NNI_R_RANDOM ? p->instr[i].slot + 1 : -1;
    n = last >= n ? last + 1 : n;
  }
  return n;
}
