/* vulkan/emit_value.c - row programs as SPIR-V: buffers and parameters, where an element lies, and the values of instructions. See emit.c for the loops
** around them.
*/
#include "emit.h"
#include "emit_value.h"

/* ---- variables --------------------------------------------------------------------------------------------------------------- */
static uint32_t element_type(emitter *e, nn_dtype d) {
  if (d == NN_BOOL || d == NN_U8) return nn_vk_type_uint(&e->o, 8);
  if (d == NN_F16 || d == NN_BF16) return nn_vk_type_uint(&e->o, 16);
  return nn_vk_type(&e->o, d == NN_F32 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I);
}
static void decorate_binding(emitter *e, uint32_t var, uint32_t binding) {
  nn_vk_put(&e->o, &e->o.decor, OpDecorate, IDS(var, DEC_SET, 0));
  nn_vk_put(&e->o, &e->o.decor, OpDecorate, IDS(var, DEC_BINDING, binding));
}
/* { T x[]; } at a binding; access: DEC_NON_WRITABLE or DEC_NON_READABLE. Types are made anew: a decorated one must not be mistaken for another */
static uint32_t buffer(emitter *e, nn_dtype d, uint32_t binding, uint32_t access) {
  module *o = &e->o;
  uint32_t elem = element_type(e, d), array = nn_vk_id(o), block = nn_vk_id(o), var;
  nn_vk_put(o, &o->globals, OpTypeRuntimeArray, IDS(array, elem));
  nn_vk_put(o, &o->decor, OpDecorate, IDS(array, DEC_ARRAY_STRIDE, (uint32_t)nn_dtype_size(d)));
  nn_vk_put(o, &o->globals, OpTypeStruct, IDS(block, array));
  nn_vk_put(o, &o->decor, OpDecorate, IDS(block, DEC_BLOCK));
  nn_vk_put(o, &o->decor, OpMemberDecorate, IDS(block, 0, DEC_OFFSET, 0));
  nn_vk_put(o, &o->decor, OpMemberDecorate, IDS(block, 0, access));
  var = nn_vk_variable(o, &o->globals, pointer(e, SC_STORAGE, block), SC_STORAGE);
  nn_vk_put(o, &o->decor, OpDecorate, IDS(var, DEC_ALIASED));
  decorate_binding(e, var, binding);
  return var;
}
static uint32_t uniform_struct(emitter *e, int n, const uint32_t *member, const uint32_t *offset) {
  module *o = &e->o;
  uint32_t w[NN_VK_MAXINFO / 4 + 1], block = w[0] = nn_vk_id(o);
  for (int i = 0; i < n; i++) {
    w[i + 1] = member[i];
    nn_vk_put(o, &o->decor, OpMemberDecorate, IDS(block, (uint32_t)i, DEC_OFFSET, offset[i]));
  }
  nn_vk_put(o, &o->globals, OpTypeStruct, n + 1, w);
  return block;
}
static uint32_t uniform_block(emitter *e, int n, const uint32_t *member, const uint32_t *offset, uint32_t binding) {
  uint32_t block = uniform_struct(e, n, member, offset), var;
  nn_vk_put(&e->o, &e->o.decor, OpDecorate, IDS(block, DEC_BLOCK));
  var = nn_vk_variable(&e->o, &e->o.globals, pointer(e, SC_UNIFORM, block), SC_UNIFORM);
  decorate_binding(e, var, binding);
  return var;
}
static void declare_params(emitter *e) {
  module *o = &e->o;
  int n = nn_vk_param_count(e->p);
  if (!n) return;
  uint32_t u64 = nn_vk_type_uint(o, 64), array = nn_vk_id(o);
  const uint32_t member[] = {nn_vk_type(o, NNI_F), nn_vk_type(o, NNI_I), nn_vk_type(o, NNI_L), u64, u64}, offset[] = {0, 4, 8, 16, 24};
  uint32_t one = uniform_struct(e, 5, member, offset);
  uint32_t count = uint_of(e, (uint32_t)n);
  nn_vk_put(o, &o->globals, OpTypeArray, IDS(array, one, count));
  nn_vk_put(o, &o->decor, OpDecorate, IDS(array, DEC_ARRAY_STRIDE, sizeof(nn_vk_param)));
  e->params = uniform_block(e, 1, &array, (uint32_t[]){0}, NN_VK_PARAMS);
}
void nn_vk_emit_declare(emitter *e) {
  uint32_t member[NN_VK_MAXINFO / 4], offset[NN_VK_MAXINFO / 4];
  e->u32 = nn_vk_type_uint(&e->o, 32);
  e->yes_no = nn_vk_type_bool(&e->o);
  for (uint32_t i = 0; i < e->l.nwords; i++) member[i] = e->u32, offset[i] = 4 * i;
  for (int i = 0; i < e->p->nin; i++) e->in[i] = buffer(e, e->p->in[i].dtype, (uint32_t)i, DEC_NON_WRITABLE);
  for (int i = 0; i < e->p->nout; i++) e->out[i] = buffer(e, e->p->out[i].dtype, (uint32_t)(e->p->nin + i), DEC_NON_READABLE);
  e->info = uniform_block(e, (int)e->l.nwords, member, offset, NN_VK_INFO);
  declare_params(e);
}
uint32_t nn_vk_emit_info(emitter *e, uint32_t word) {
  if (e->info_word[word]) return e->info_word[word];
  uint32_t id = load(e, e->u32, nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_UNIFORM, e->u32), IDS(e->info, uint_of(e, word))));
  if (e->o.scope == 0) e->info_word[word] = id;
  return id;
}
static uint32_t param(emitter *e, int slot, uint32_t member, uint32_t type) {
  uint32_t at[] = {e->params, uint_of(e, 0), uint_of(e, (uint32_t)slot), uint_of(e, member)};
  return load(e, type, nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_UNIFORM, type), 4, at));
}
uint32_t nn_vk_emit_builtin(emitter *e, uint32_t which, uint32_t type) {
  uint32_t var = nn_vk_variable(&e->o, &e->o.globals, pointer(e, SC_INPUT, type), SC_INPUT);
  nn_vk_put(&e->o, &e->o.decor, OpDecorate, IDS(var, DEC_BUILTIN, which));
  return load(e, type, var);
}

/* ---- places ------------------------------------------------------------------------------------------------------------------ */
/* the number of the workgroup: x + nx (y + ny z) */
uint32_t nn_vk_emit_group(emitter *e) {
  module *o = &e->o;
  uint32_t vec = nn_vk_declare(o, OpTypeVector, 0, IDS(e->u32, 3));
  uint32_t id = nn_vk_emit_builtin(e, BUILTIN_WORKGROUP_ID, vec), n = nn_vk_emit_builtin(e, BUILTIN_NUM_WORKGROUPS, vec);
  uint32_t c[3], m[2];
  for (uint32_t i = 0; i < 3; i++) c[i] = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(id, i));
  for (uint32_t i = 0; i < 2; i++) m[i] = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(n, i));
  return op_uint(e, OpIAdd, c[0], op_uint(e, OpIMul, m[0], op_uint(e, OpIAdd, c[1], op_uint(e, OpIMul, m[1], c[2]))));
}
/* x / the divisor at `word`: as fastdiv of common.glsl */
uint32_t nn_vk_emit_divide(emitter *e, uint32_t x, uint32_t word) {
  module *o = &e->o;
  uint32_t pair = nn_vk_declare(o, OpTypeStruct, 0, IDS(e->u32, e->u32)), shift = nn_vk_emit_info(e, word + 2);
  uint32_t wide = nn_vk_pure(o, OpUMulExtended, pair, IDS(x, nn_vk_emit_info(e, word + 1))), high = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(wide, 1));
  uint32_t rest = op_uint(e, OpShiftRightLogical, op_uint(e, OpISub, x, high), op_uint(e, OpBitwiseAnd, shift, uint_of(e, 255)));
  return op_uint(e, OpShiftRightLogical, op_uint(e, OpIAdd, high, rest), op_uint(e, OpShiftRightLogical, shift, uint_of(e, 8)));
}
/* where the row starts in input i, less its offset; 0: at 0 */
static uint32_t row_start(emitter *e, int i) {
  uint32_t at = e->l.walk_at[i], sum = 0, rest = e->row;
  if (e->l.in[i].row == ROW_SAME) return 0;
  if (e->l.in[i].row == ROW_PITCH) return op_uint(e, OpIMul, e->row, nn_vk_emit_info(e, at));
  for (int d = e->p->ndim - 2; d >= 0; d--) {
    uint32_t c = rest;
    if (d > 0) {
      uint32_t n = e->l.shape_at + 3 * ((uint32_t)d - 1), q = nn_vk_emit_divide(e, rest, n);
      c = op_uint(e, OpISub, rest, op_uint(e, OpIMul, q, nn_vk_emit_info(e, n)));
      rest = q;
    }
    c = op_uint(e, OpIMul, c, nn_vk_emit_info(e, at + (uint32_t)d));
    sum = sum ? op_uint(e, OpIAdd, sum, c) : c;
  }
  return sum;
}
static uint32_t walk_words(const emitter *e, int i) {
  return e->l.in[i].row == ROW_PITCH ? 1 : e->l.in[i].row == ROW_STRIDES ? (uint32_t)e->p->ndim - 1 : 0;
}
void nn_vk_emit_bases(emitter *e) {
  for (int i = 0; i < e->p->nin; i++) {
    uint32_t start = e->l.in[i].linear ? e->l.rows ? op_uint(e, OpIMul, e->row, e->cols) : 0 : row_start(e, i);
    e->in_base[i] = nn_vk_emit_info(e, INFO_OFFSETS + (uint32_t)i);
    if (start) e->in_base[i] = op_uint(e, OpIAdd, e->in_base[i], start);
    if (!e->l.in[i].linear && e->l.in[i].col == COL_STRIDE) e->in_step[i] = nn_vk_emit_info(e, e->l.walk_at[i] + walk_words(e, i));
  }
  for (int k = 0; k < e->p->nout; k++) {
    e->out_base[k] = nn_vk_emit_info(e, INFO_OFFSETS + (uint32_t)(e->p->nin + k));
    if (e->p->out[k].level == NNI_ROW) e->out_base[k] = op_uint(e, OpIAdd, e->out_base[k], e->row);
    else if (e->l.rows) e->out_base[k] = op_uint(e, OpIAdd, e->out_base[k], op_uint(e, OpIMul, e->row, e->cols));
  }
}
static uint32_t element_at(emitter *e, int i) {
  uint32_t base = e->in_base[i];
  if (e->l.in[i].linear) return op_uint(e, OpIAdd, base, e->l.rows ? e->col : e->linear);
  if (e->l.in[i].col == COL_SAME) return base;
  return op_uint(e, OpIAdd, base, e->l.in[i].col == COL_NEXT ? e->col : op_uint(e, OpIMul, e->col, e->in_step[i]));
}
static uint32_t element(emitter *e, uint32_t var, nn_dtype d, uint32_t at) {
  return nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_STORAGE, element_type(e, d)), IDS(var, uint_of(e, 0), at));
}

/* ---- values ------------------------------------------------------------------------------------------------------------------ */
static int class_of(int d) { return d >= NN_F16 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I; }
uint32_t nn_vk_emit_id(emitter *e, int i) {
  value *v = &e->v[i];
  if (v->id || !v->mask) return v->id;
  return nn_vk_pure(&e->o, OpSelect, nn_vk_type(&e->o, NNI_I), IDS(v->mask, nn_vk_constant(&e->o, NNI_I, 1), nn_vk_constant(&e->o, NNI_I, 0)));
}
static uint32_t mask_of(emitter *e, int i) {
  return e->v[i].mask ? e->v[i].mask : op_bool(e, OpINotEqual, nn_vk_emit_id(e, i), nn_vk_constant(&e->o, NNI_I, 0));
}
static uint32_t convert(emitter *e, uint32_t op, int cls, uint32_t x) { return nn_vk_pure(&e->o, op, nn_vk_type(&e->o, cls), IDS(x)); }
uint32_t nn_vk_emit_widen(emitter *e, uint32_t x) { /* uint32 -> i64 */
  return convert(e, OpBitcast, NNI_L, nn_vk_pure(&e->o, OpUConvert, nn_vk_type_uint(&e->o, 64), IDS(x)));
}
static uint32_t to_float(emitter *e, int from, uint32_t x) { return from == NNI_F ? x : convert(e, OpConvertSToF, NNI_F, x); }

/* a value converted to dtype d: as cpu/isa/rows_io.c */
value nn_vk_emit_cast(emitter *e, value from, uint32_t x, nn_dtype d) {
  value r = {.cls = (uint8_t)class_of(d), .dtype = (uint8_t)d};
  module *o = &e->o;
  bool fits = d == NN_I32 || d == from.dtype || (d == NN_U8 && from.dtype == NN_BOOL);
  if (r.cls == from.cls && (!is_half(d) || d == from.dtype) && (r.cls != NNI_I || fits)) {
    r = from, r.id = x;
    return r;
  }
  switch (d) {
  case NN_BOOL: r.mask = op_bool(e, from.cls == NNI_F ? OpFUnordNotEqual : OpINotEqual, x, nn_vk_constant(o, from.cls, 0)); break;
  case NN_U8: case NN_I32:
    r.id = from.cls == NNI_F ? nn_vk_call(o, LIB_to_i32, IDS(x)) : from.cls == NNI_L ? convert(e, OpSConvert, NNI_I, x) : x;
    if (d == NN_U8) r.id = nn_vk_pure(o, OpBitwiseAnd, nn_vk_type(o, NNI_I), IDS(r.id, nn_vk_constant(o, NNI_I, 255)));
    break;
  case NN_I64:
    if (from.dtype == NN_BOOL) { /* chosen, not converted: comparisons of a converted truth value come out wrong in llvmpipe of Mesa 22.3 */
      uint32_t mask = from.mask ? from.mask : op_bool(e, OpINotEqual, x, nn_vk_constant(o, NNI_I, 0));
      r.id = nn_vk_pure(o, OpSelect, nn_vk_type(o, NNI_L), IDS(mask, nn_vk_constant(o, NNI_L, 1), nn_vk_constant(o, NNI_L, 0)));
    } else r.id = from.cls == NNI_F ? nn_vk_call(o, LIB_to_i64, IDS(x)) : convert(e, OpSConvert, NNI_L, x);
    break;
  case NN_F16: r.id = nn_vk_call(o, LIB_round_f16, IDS(to_float(e, from.cls, x))); break;
  case NN_BF16: r.id = nn_vk_call(o, LIB_round_bf16, IDS(to_float(e, from.cls, x))); break;
  default: r.id = to_float(e, from.cls, x);
  }
  return r;
}
static value value_load(emitter *e, const nni_rinstr *i) {
  nn_dtype d = e->p->in[i->slot].dtype;
  module *o = &e->o;
  value r = {.cls = (uint8_t)class_of(d), .dtype = (uint8_t)d};
  r.id = load(e, element_type(e, d), element(e, e->in[i->slot], d, element_at(e, i->slot)));
  if (d != NN_BOOL && d != NN_U8 && !is_half(d)) return r;
  r.id = nn_vk_pure(o, OpUConvert, e->u32, IDS(r.id));
  r.id = is_half(d) ? nn_vk_call(o, d == NN_F16 ? LIB_from_f16 : LIB_from_bf16, IDS(r.id)) : convert(e, OpBitcast, NNI_I, r.id);
  return r;
}
static value value_param(emitter *e, const nni_rinstr *i) {
  module *o = &e->o;
  value r = {.cls = i->cls, .dtype = is_half(i->dtype) ? NN_F32 : i->dtype}; /* numbers are not rounded, results are */
  uint32_t member = i->cls == NNI_F ? 0 : i->cls == NNI_I ? 1 : 2;
  if (i->dtype == NN_BOOL) {
    r.mask = op_bool(e, OpFUnordNotEqual, param(e, i->slot, 0, nn_vk_type(o, NNI_F)), nn_vk_constant(o, NNI_F, 0));
    return r;
  }
  r.id = param(e, i->slot, member, nn_vk_type(o, i->cls));
  if (i->dtype == NN_U8) r.id = nn_vk_pure(o, OpBitwiseAnd, nn_vk_type(o, NNI_I), IDS(r.id, nn_vk_constant(o, NNI_I, 255)));
  return r;
}
static uint32_t point(emitter *e) { /* number of the element in the space */
  if (!e->l.rows) return e->linear;
  return op_uint(e, OpIAdd, op_uint(e, OpIMul, e->row, e->cols), e->col);
}
static value value_random(emitter *e, const nni_rinstr *i) {
  uint32_t u64 = nn_vk_type_uint(&e->o, 64), draw = nn_vk_pure(&e->o, OpUConvert, u64, IDS(point(e)));
  uint32_t seed = param(e, i->slot, 3, u64), stream = param(e, i->slot + 1, 3, u64);
  return (value){.cls = NNI_F, .dtype = NN_F32, .id = nn_vk_call(&e->o, LIB_uniform, IDS(seed, stream, draw))};
}
static value value_pw(emitter *e, const nni_rinstr *i) {
  char type = nn_vk_pw_type(i->op);
  uint32_t a[3] = {0, 0, 0};
  for (int k = 0; k < i->nargs && k < 3; k++) a[k] = type == 'B' || (type == 'W' && k == 0) ? mask_of(e, i->a[k]) : nn_vk_emit_id(e, i->a[k]);
  value r = {.cls = i->cls, .dtype = i->dtype};
  uint32_t id = nn_vk_formula(&e->o, i->op, i->opcls, a);
  if (type == 'C' || type == 'B') r.mask = id;
  else r.id = id;
  if (is_half(i->dtype)) r.dtype = NN_F32; /* even what a comparison chose: a number among the operands is no half */
  else if (i->cls == NNI_I && i->dtype != NN_I32 && !nn_vk_pw_keeps_range(i->op)) r.dtype = NN_I32;
  else return r;
  return nn_vk_emit_cast(e, r, r.id, (nn_dtype)i->dtype);
}
void nn_vk_emit_value(emitter *e, int n) {
  const nni_rinstr *i = &e->p->instr[n];
  switch ((nni_rkind)i->kind) {
  case NNI_R_LOAD: e->v[n] = value_load(e, i); break;
  case NNI_R_PARAM: e->v[n] = value_param(e, i); break;
  case NNI_R_INDEX: e->v[n] = (value){.cls = NNI_L, .dtype = NN_I64, .id = nn_vk_emit_widen(e, point(e))}; break;
  case NNI_R_RANDOM: e->v[n] = value_random(e, i); break;
  case NNI_R_CAST: e->v[n] = nn_vk_emit_cast(e, e->v[i->a[0]], nn_vk_emit_id(e, i->a[0]), (nn_dtype)i->dtype); break;
  case NNI_R_PW: e->v[n] = value_pw(e, i); break;
  case NNI_R_REDUCE: case NNI_R_STORE: break;
  }
}
void nn_vk_emit_store(emitter *e, const nni_rinstr *i) {
  nn_dtype d = e->p->out[i->slot].dtype;
  module *o = &e->o;
  uint32_t at = e->out_base[i->slot];
  value from = e->v[i->a[0]], v = nn_vk_emit_cast(e, from, nn_vk_emit_id(e, i->a[0]), d);
  uint32_t x = v.id;
  if (!x) x = nn_vk_pure(o, OpSelect, nn_vk_type(o, NNI_I), IDS(v.mask, nn_vk_constant(o, NNI_I, 1), nn_vk_constant(o, NNI_I, 0)));
  if (is_half(d)) x = nn_vk_call(o, d == NN_F16 ? LIB_to_f16 : LIB_to_bf16, IDS(x));
  if (d == NN_BOOL || d == NN_U8) x = nn_vk_pure(o, OpBitcast, e->u32, IDS(x));
  if (is_half(d) || d == NN_BOOL || d == NN_U8) x = nn_vk_pure(o, OpUConvert, element_type(e, d), IDS(x));
  if (e->p->out[i->slot].level == NNI_FULL) at = op_uint(e, OpIAdd, at, e->l.rows ? e->col : e->linear);
  store(e, element(e, e->out[i->slot], d, at), x);
}
