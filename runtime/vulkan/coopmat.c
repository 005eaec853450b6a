/* vulkan/coopmat.c - see coopmat.h. Knows no Vulkan call, so that all of it is tested on machines without such a device.
**
** glslc of 2023 writes SPV_NV_cooperative_matrix only, drivers of today list SPV_KHR_cooperative_matrix. Both say the same in other words: KHR's matrix type also
** has a use (0 left factor, 1 right factor, 2 sum), its loads and stores name the layout (0 rows, 1 columns) before the stride, and the numbers differ.
*/
#include "coopmat.h"

bool nn_vk_coopmat_listed(const nn_vk_coopmat *list, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    const nn_vk_coopmat *p = &list[i];
    if (p->M == 16 && p->N == 16 && p->K == 16 && p->a == NN_VK_CM_F16 && p->b == NN_VK_CM_F16 && p->c == NN_VK_CM_F32 && p->result == NN_VK_CM_F32 &&
        p->scope == NN_VK_CM_SUBGROUP && !p->saturating)
      return true;
  }
  return false;
}

bool nn_vk_coopmat_tile(uint32_t subgroup, uint64_t M, uint64_t N, nn_vk_cooptile *t) {
  if (subgroup != 32 && subgroup != 64) return false;
  if (M < 16 || N < 16) return false; /* mostly zeros */
  if (M < 512 || N < 512) *t = (nn_vk_cooptile){4, 64, 64, 32, 32, 32};
  else if (subgroup == 32) *t = (nn_vk_cooptile){8, 128, 128, 32, 64, 32};
  else *t = (nn_vk_cooptile){4, 128, 128, 32, 64, 64};
  return true;
}

bool nn_vk_coopmat_aligned(const nni_operand *o, uint32_t from) {
  const int r = o->ndim - 2, c = o->ndim - 1, along = o->stride[c] == 1 ? c : r, other = along == c ? r : c;
  if (o->stride[along] != 1 || from % 8 != 0 || o->shape[along] % 8 != 0 || (o->shape[other] > 1 && o->stride[other] % 8 != 0)) return false;
  for (int i = 0; i < o->ndim - 2; i++)
    if (o->shape[i] > 1 && o->stride[i] % 8 != 0) return false;
  return true;
}

/* ---- words ------------------------------------------------------------------------------------------------------------------------------- */
enum {
  OP_EXTENSION = 10, OP_CAPABILITY = 17, OP_TYPE_INT = 21, OP_CONSTANT_TRUE = 41, OP_CONSTANT_FALSE = 42, OP_CONSTANT = 43, OP_SPEC_OP = 52, OP_DECORATE = 71,
  DECORATION_SPEC_ID = 1, CAPABILITY_NV = 5357, CAPABILITY_KHR = 6022,
  NV_TYPE = 5358, NV_LOAD, NV_STORE, NV_MULADD, NV_LENGTH,
  KHR_TYPE = 4456, KHR_LOAD, KHR_STORE, KHR_MULADD, KHR_LENGTH
};
static const char nv_name[] = "SPV_NV_cooperative_matrix", khr_name[] = "SPV_KHR_cooperative_matrix";

typedef struct patch {
  uint32_t tm, tn, tk, no, yes, uint_, use; /* ids; use, use + 1, use + 2: the constants 0, 1 and 2 */
  uint32_t *out;
  size_t n, room;
  bool typed, bad;
} patch;

static void put(patch *p, uint32_t word) {
  if (p->n < p->room) p->out[p->n] = word;
  else p->bad = true;
  p->n++;
}
static void copy(patch *p, const uint32_t *w, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) put(p, w[i]);
}
static void begin(patch *p, uint32_t op, uint32_t words) { put(p, words << 16 | op); }

/* The ids that the rewriting needs; false: the words are no such module. */
static bool look(patch *p, const uint32_t *in, size_t n) {
  if (n < 5 || in[0] != 0x07230203u) return false;
  for (size_t i = 5; i < n; i += in[i] >> 16) {
    const uint32_t op = in[i] & 0xffffu, words = in[i] >> 16;
    if (words == 0 || words > n - i) return false;
    if (op == OP_DECORATE && words == 4 && in[i + 2] == DECORATION_SPEC_ID) {
      if (in[i + 3] == 10) p->tm = in[i + 1];
      if (in[i + 3] == 11) p->tn = in[i + 1];
      if (in[i + 3] == 12) p->tk = in[i + 1];
    }
    if (op == OP_CONSTANT_FALSE && words == 3) p->no = in[i + 2];
    if (op == OP_CONSTANT_TRUE && words == 3) p->yes = in[i + 2];
    if (op == OP_TYPE_INT && words == 4 && in[i + 2] == 32 && in[i + 3] == 0) p->uint_ = in[i + 1];
  }
  return p->tm && p->tn && p->tk && p->uint_;
}

static uint32_t layout_of(patch *p, uint32_t by_column) {
  if (by_column != p->no && by_column != p->yes) p->bad = true; /* decided at run time: not written by us */
  return p->use + (by_column == p->yes ? 1 : 0);
}

static void type(patch *p, const uint32_t *w) { /* result, element, scope, rows, columns */
  const uint32_t rows = w[4], columns = w[5];
  if (!p->typed)
    for (uint32_t u = 0; u < 3; u++) {
      begin(p, OP_CONSTANT, 4);
      put(p, p->uint_), put(p, p->use + u), put(p, u);
    }
  p->typed = true;
  uint32_t use = 3;
  if (rows == p->tm && columns == p->tk) use = 0;
  if (rows == p->tk && columns == p->tn) use = 1;
  if (rows == p->tm && columns == p->tn) use = 2;
  if (use == 3) p->bad = true;
  begin(p, KHR_TYPE, 7);
  copy(p, w + 1, 5);
  put(p, p->use + use);
}

static void instruction(patch *p, const uint32_t *w, uint32_t words) {
  const uint32_t op = w[0] & 0xffffu;
  switch (op) {
  case OP_CAPABILITY:
    begin(p, op, words);
    put(p, w[1] == CAPABILITY_NV ? CAPABILITY_KHR : w[1]);
    break;
  case OP_EXTENSION:
    if (words == (sizeof nv_name + 3) / 4 + 1 && memcmp(w + 1, nv_name, sizeof nv_name) == 0) {
      uint32_t name[(sizeof khr_name + 3) / 4] = {0};
      memcpy(name, khr_name, sizeof khr_name);
      begin(p, op, NNI_COUNT(name) + 1);
      copy(p, name, NNI_COUNT(name));
    } else copy(p, w, words);
    break;
  case NV_TYPE: type(p, w); break;
  case NV_LOAD: /* type, result, pointer, stride, by column, memory operands */
    begin(p, KHR_LOAD, words);
    copy(p, w + 1, 3);
    put(p, layout_of(p, w[5])), put(p, w[4]);
    copy(p, w + 6, words - 6);
    break;
  case NV_STORE: /* pointer, value, stride, by column, memory operands */
    begin(p, KHR_STORE, words);
    copy(p, w + 1, 2);
    put(p, layout_of(p, w[4])), put(p, w[3]);
    copy(p, w + 5, words - 5);
    break;
  case NV_MULADD: case NV_LENGTH:
    begin(p, op == NV_MULADD ? KHR_MULADD : KHR_LENGTH, words);
    copy(p, w + 1, words - 1);
    break;
  case OP_SPEC_OP:
    copy(p, w, 3);
    put(p, w[3] == NV_LENGTH ? KHR_LENGTH : w[3]);
    copy(p, w + 4, words - 4);
    break;
  default: copy(p, w, words);
  }
}

size_t nn_vk_coopmat_patch(const uint32_t *in, size_t n, uint32_t *out, size_t room) {
  static const uint32_t least[] = {6, 6, 5, 5, 3}; /* words of NV_TYPE, NV_LOAD, ... */
  patch p = {.out = out, .room = room};
  if (!look(&p, in, n)) return 0;
  p.use = in[3];
  copy(&p, in, 5);
  for (size_t i = 5; i < n && !p.bad; i += in[i] >> 16) {
    const uint32_t op = in[i] & 0xffffu, words = in[i] >> 16;
    if (op >= NV_TYPE && op <= NV_LENGTH && words < least[op - NV_TYPE]) return 0;
    instruction(&p, in + i, words);
  }
  if (p.bad || !p.typed) return 0;
  out[3] = p.use + 3;
  return p.n;
}
