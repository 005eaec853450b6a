/* vulkan/emit.c - row programs as SPIR-V: how inputs are addressed, one invocation per element or some per row, loops and trees of reductions.
**
** Without a reduction and without an output per row, an invocation makes an element or a few: loads, then instructions, then stores.
** Otherwise `lanes` invocations share a row, and a workgroup has `per_group` rows. Stages follow each other: what is known per row, a loop over the
** columns that feeds the reductions whose arguments are known by then, a tree in shared memory. FULL values of rows that are short enough stay in
** registers; those of others are computed anew in every loop, from loads. All FULL stores are in the last loop, ROW stores behind a barrier at the
** end: so what an output overwrites has been read.
** Column j of a row belongs to the same invocation in every loop; orders of summation depend on cols alone.
*/
#include "emit.h"
#include "emit_formula.h"
#include "emit_layout.h"

enum { MAX_BATCH = 3, MOST_EACH = 4 }; /* reductions that share a tree (at most 15 KiB of shared memory); layout.each */

/* ---- the emitter ------------------------------------------------------------------------------------------------------------- */
typedef struct value { uint32_t id, mask; uint8_t cls, dtype; } value; /* id or mask may be 0: made from the other when asked for */
typedef struct emitter {
  module o;
  const nni_program *p;
  nn_vk_layout l;
  value *all, *v;          /* of the elements that an invocation has at once, one after the other; of the element in hand */
  uint8_t *depth, *need;   /* depth: reductions on the longest way to an instruction */
  uint8_t *made;           /* FULL values that stay in registers */
  uint32_t in[NNI_PROG_MAXIO], out[NNI_PROG_MAXIO], in_base[NNI_PROG_MAXIO], in_step[NNI_PROG_MAXIO], out_base[NNI_PROG_MAXIO];
  uint32_t info, params, info_word[NN_VK_MAXINFO / 4]; /* info_word: those read in scope 0 */
  uint32_t u32, yes_no;    /* types */
  uint32_t lane, local, row, col, linear, valid, cols; /* lane: within the row; valid: 0 or "the row exists" */
  uint32_t shared_value[NNI_NCLASS][MAX_BATCH], shared_at[MAX_BATCH];
} emitter;

static uint32_t uint_of(emitter *e, uint32_t x) { return nn_vk_constant_uint(&e->o, x); }
static uint32_t op_uint(emitter *e, uint32_t op, uint32_t a, uint32_t b) { return nn_vk_pure(&e->o, op, e->u32, IDS(a, b)); }
static uint32_t op_bool(emitter *e, uint32_t op, uint32_t a, uint32_t b) { return nn_vk_pure(&e->o, op, e->yes_no, IDS(a, b)); }
static uint32_t pointer(emitter *e, uint32_t storage, uint32_t type) { return nn_vk_declare(&e->o, OpTypePointer, 0, IDS(storage, type)); }
static uint32_t load(emitter *e, uint32_t type, uint32_t from) { return nn_vk_result(&e->o, OpLoad, type, IDS(from)); }
static void store(emitter *e, uint32_t to, uint32_t x) { nn_vk_put(&e->o, &e->o.body, OpStore, IDS(to, x)); }
static void barrier(emitter *e) { /* execution of the workgroup; its writes to shared memory and buffers can be seen */
  nn_vk_put(&e->o, &e->o.body, OpControlBarrier, IDS(uint_of(e, 2), uint_of(e, 2), uint_of(e, 0x148)));
}
static void label(emitter *e, uint32_t id) { nn_vk_put(&e->o, &e->o.body, OpLabel, IDS(id)); }
static void branch(emitter *e, uint32_t to) { nn_vk_put(&e->o, &e->o.body, OpBranch, IDS(to)); }
/* if (cond) {: returns the label behind it */
static uint32_t begin_if(emitter *e, uint32_t cond) {
  uint32_t then = nn_vk_id(&e->o), end = nn_vk_id(&e->o);
  nn_vk_put(&e->o, &e->o.body, OpSelectionMerge, IDS(end, 0));
  nn_vk_put(&e->o, &e->o.body, OpBranchConditional, IDS(cond, then, end));
  label(e, then);
  return end;
}
static void end_if(emitter *e, uint32_t end) {
  branch(e, end);
  label(e, end);
}

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
static void declare(emitter *e) {
  uint32_t member[NN_VK_MAXINFO / 4], offset[NN_VK_MAXINFO / 4];
  e->u32 = nn_vk_type_uint(&e->o, 32);
  e->yes_no = nn_vk_type_bool(&e->o);
  for (uint32_t i = 0; i < e->l.nwords; i++) member[i] = e->u32, offset[i] = 4 * i;
  for (int i = 0; i < e->p->nin; i++) e->in[i] = buffer(e, e->p->in[i].dtype, (uint32_t)i, DEC_NON_WRITABLE);
  for (int i = 0; i < e->p->nout; i++) e->out[i] = buffer(e, e->p->out[i].dtype, (uint32_t)(e->p->nin + i), DEC_NON_READABLE);
  e->info = uniform_block(e, (int)e->l.nwords, member, offset, NN_VK_INFO);
  declare_params(e);
}
static uint32_t info(emitter *e, uint32_t word) {
  if (e->info_word[word]) return e->info_word[word];
  uint32_t id = load(e, e->u32, nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_UNIFORM, e->u32), IDS(e->info, uint_of(e, word))));
  if (e->o.scope == 0) e->info_word[word] = id;
  return id;
}
static uint32_t param(emitter *e, int slot, uint32_t member, uint32_t type) {
  uint32_t at[] = {e->params, uint_of(e, 0), uint_of(e, (uint32_t)slot), uint_of(e, member)};
  return load(e, type, nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_UNIFORM, type), 4, at));
}
static uint32_t builtin(emitter *e, uint32_t which, uint32_t type) {
  uint32_t var = nn_vk_variable(&e->o, &e->o.globals, pointer(e, SC_INPUT, type), SC_INPUT);
  nn_vk_put(&e->o, &e->o.decor, OpDecorate, IDS(var, DEC_BUILTIN, which));
  return load(e, type, var);
}

/* ---- places ------------------------------------------------------------------------------------------------------------------ */
/* the number of the workgroup: x + nx (y + ny z) */
static uint32_t group_number(emitter *e) {
  module *o = &e->o;
  uint32_t vec = nn_vk_declare(o, OpTypeVector, 0, IDS(e->u32, 3));
  uint32_t id = builtin(e, BUILTIN_WORKGROUP_ID, vec), n = builtin(e, BUILTIN_NUM_WORKGROUPS, vec);
  uint32_t c[3], m[2];
  for (uint32_t i = 0; i < 3; i++) c[i] = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(id, i));
  for (uint32_t i = 0; i < 2; i++) m[i] = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(n, i));
  return op_uint(e, OpIAdd, c[0], op_uint(e, OpIMul, m[0], op_uint(e, OpIAdd, c[1], op_uint(e, OpIMul, m[1], c[2]))));
}
/* x / the divisor at `word`: as fastdiv of common.glsl */
static uint32_t divide(emitter *e, uint32_t x, uint32_t word) {
  module *o = &e->o;
  uint32_t pair = nn_vk_declare(o, OpTypeStruct, 0, IDS(e->u32, e->u32)), shift = info(e, word + 2);
  uint32_t wide = nn_vk_pure(o, OpUMulExtended, pair, IDS(x, info(e, word + 1))), high = nn_vk_pure(o, OpCompositeExtract, e->u32, IDS(wide, 1));
  uint32_t rest = op_uint(e, OpShiftRightLogical, op_uint(e, OpISub, x, high), op_uint(e, OpBitwiseAnd, shift, uint_of(e, 255)));
  return op_uint(e, OpShiftRightLogical, op_uint(e, OpIAdd, high, rest), op_uint(e, OpShiftRightLogical, shift, uint_of(e, 8)));
}
/* where the row starts in input i, less its offset; 0: at 0 */
static uint32_t row_start(emitter *e, int i) {
  uint32_t at = e->l.walk_at[i], sum = 0, rest = e->row;
  if (e->l.in[i].row == ROW_SAME) return 0;
  if (e->l.in[i].row == ROW_PITCH) return op_uint(e, OpIMul, e->row, info(e, at));
  for (int d = e->p->ndim - 2; d >= 0; d--) {
    uint32_t c = rest;
    if (d > 0) {
      uint32_t n = e->l.shape_at + 3 * ((uint32_t)d - 1), q = divide(e, rest, n);
      c = op_uint(e, OpISub, rest, op_uint(e, OpIMul, q, info(e, n)));
      rest = q;
    }
    c = op_uint(e, OpIMul, c, info(e, at + (uint32_t)d));
    sum = sum ? op_uint(e, OpIAdd, sum, c) : c;
  }
  return sum;
}
static uint32_t walk_words(const emitter *e, int i) {
  return e->l.in[i].row == ROW_PITCH ? 1 : e->l.in[i].row == ROW_STRIDES ? (uint32_t)e->p->ndim - 1 : 0;
}
static void set_bases(emitter *e) {
  for (int i = 0; i < e->p->nin; i++) {
    uint32_t start = e->l.in[i].linear ? e->l.rows ? op_uint(e, OpIMul, e->row, e->cols) : 0 : row_start(e, i);
    e->in_base[i] = info(e, INFO_OFFSETS + (uint32_t)i);
    if (start) e->in_base[i] = op_uint(e, OpIAdd, e->in_base[i], start);
    if (!e->l.in[i].linear && e->l.in[i].col == COL_STRIDE) e->in_step[i] = info(e, e->l.walk_at[i] + walk_words(e, i));
  }
  for (int k = 0; k < e->p->nout; k++) {
    e->out_base[k] = info(e, INFO_OFFSETS + (uint32_t)(e->p->nin + k));
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
static bool is_half(int d) { return d == NN_F16 || d == NN_BF16; }
static int class_of(int d) { return d >= NN_F16 ? NNI_F : d == NN_I64 ? NNI_L : NNI_I; }
static uint32_t id_of(emitter *e, int i) {
  value *v = &e->v[i];
  if (v->id || !v->mask) return v->id;
  return nn_vk_pure(&e->o, OpSelect, nn_vk_type(&e->o, NNI_I), IDS(v->mask, nn_vk_constant(&e->o, NNI_I, 1), nn_vk_constant(&e->o, NNI_I, 0)));
}
static uint32_t mask_of(emitter *e, int i) {
  return e->v[i].mask ? e->v[i].mask : op_bool(e, OpINotEqual, id_of(e, i), nn_vk_constant(&e->o, NNI_I, 0));
}
static uint32_t convert(emitter *e, uint32_t op, int cls, uint32_t x) { return nn_vk_pure(&e->o, op, nn_vk_type(&e->o, cls), IDS(x)); }
static uint32_t widen(emitter *e, uint32_t x) { /* uint32 -> i64 */
  return convert(e, OpBitcast, NNI_L, nn_vk_pure(&e->o, OpUConvert, nn_vk_type_uint(&e->o, 64), IDS(x)));
}
static uint32_t to_float(emitter *e, int from, uint32_t x) { return from == NNI_F ? x : convert(e, OpConvertSToF, NNI_F, x); }

/* a value converted to dtype d: as cpu/isa/rows_io.c */
static value cast(emitter *e, value from, uint32_t x, nn_dtype d) {
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
  for (int k = 0; k < i->nargs && k < 3; k++) a[k] = type == 'B' || (type == 'W' && k == 0) ? mask_of(e, i->a[k]) : id_of(e, i->a[k]);
  value r = {.cls = i->cls, .dtype = i->dtype};
  uint32_t id = nn_vk_formula(&e->o, i->op, i->opcls, a);
  if (type == 'C' || type == 'B') r.mask = id;
  else r.id = id;
  if (is_half(i->dtype)) r.dtype = NN_F32; /* even what a comparison chose: a number among the operands is no half */
  else if (i->cls == NNI_I && i->dtype != NN_I32 && !nn_vk_pw_keeps_range(i->op)) r.dtype = NN_I32;
  else return r;
  return cast(e, r, r.id, (nn_dtype)i->dtype);
}
static void make_value(emitter *e, int n) {
  const nni_rinstr *i = &e->p->instr[n];
  switch ((nni_rkind)i->kind) {
  case NNI_R_LOAD: e->v[n] = value_load(e, i); break;
  case NNI_R_PARAM: e->v[n] = value_param(e, i); break;
  case NNI_R_INDEX: e->v[n] = (value){.cls = NNI_L, .dtype = NN_I64, .id = widen(e, point(e))}; break;
  case NNI_R_RANDOM: e->v[n] = value_random(e, i); break;
  case NNI_R_CAST: e->v[n] = cast(e, e->v[i->a[0]], id_of(e, i->a[0]), (nn_dtype)i->dtype); break;
  case NNI_R_PW: e->v[n] = value_pw(e, i); break;
  case NNI_R_REDUCE: case NNI_R_STORE: break;
  }
}
static void make_store(emitter *e, const nni_rinstr *i) {
  nn_dtype d = e->p->out[i->slot].dtype;
  module *o = &e->o;
  uint32_t at = e->out_base[i->slot];
  value from = e->v[i->a[0]], v = cast(e, from, id_of(e, i->a[0]), d);
  uint32_t x = v.id;
  if (!x) x = nn_vk_pure(o, OpSelect, nn_vk_type(o, NNI_I), IDS(v.mask, nn_vk_constant(o, NNI_I, 1), nn_vk_constant(o, NNI_I, 0)));
  if (is_half(d)) x = nn_vk_call(o, d == NN_F16 ? LIB_to_f16 : LIB_to_bf16, IDS(x));
  if (d == NN_BOOL || d == NN_U8) x = nn_vk_pure(o, OpBitcast, e->u32, IDS(x));
  if (is_half(d) || d == NN_BOOL || d == NN_U8) x = nn_vk_pure(o, OpUConvert, element_type(e, d), IDS(x));
  if (e->p->out[i->slot].level == NNI_FULL) at = op_uint(e, OpIAdd, at, e->l.rows ? e->col : e->linear);
  store(e, element(e, e->out[i->slot], d, at), x);
}

/* ---- one invocation per element ---------------------------------------------------------------------------------------------- */
static void set_place(emitter *e) { /* row and col of element `linear`, if an input asks for them */
  bool places = false;
  for (int i = 0; i < e->p->nin; i++) places = places || (!e->l.in[i].linear && (e->l.in[i].row || e->l.in[i].col));
  if (!places) return;
  if (!e->cols) e->cols = info(e, INFO_COLS);
  e->row = divide(e, e->linear, INFO_COLS);
  e->col = op_uint(e, OpISub, e->linear, op_uint(e, OpIMul, e->row, e->cols));
}
/* An invocation makes `each` elements: all loads, then all stores. Past the end it makes the last element again and stores nothing. */
static void emit_elements(emitter *e) {
  const int n = e->p->ninstr;
  uint32_t group = group_number(e), inside = op_bool(e, OpULessThan, group, info(e, INFO_GROUPS)), count = info(e, INFO_COUNT);
  uint32_t first = op_uint(e, OpIAdd, op_uint(e, OpIMul, group, uint_of(e, e->l.workgroup * e->l.each)), e->local);
  uint32_t at[MOST_EACH], ok[MOST_EACH];
  for (uint32_t k = 0; k < e->l.each; k++) {
    at[k] = k ? op_uint(e, OpIAdd, first, uint_of(e, k * e->l.workgroup)) : first;
    ok[k] = op_bool(e, OpULessThan, at[k], count);
  }
  uint32_t end = begin_if(e, op_bool(e, OpLogicalAnd, inside, ok[0]));
  for (uint32_t k = 0; k < e->l.each; k++) {
    e->v = e->all + (size_t)k * (size_t)n;
    e->linear = k ? nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok[k], at[k], op_uint(e, OpISub, count, uint_of(e, 1)))) : at[k];
    set_place(e);
    set_bases(e);
    for (int i = 0; i < n; i++)
      if (k && e->p->instr[i].kind == NNI_R_PARAM) e->v[i] = e->all[i];
      else make_value(e, i);
  }
  for (uint32_t k = 0; k < e->l.each; k++) {
    uint32_t then = k ? begin_if(e, ok[k]) : 0;
    e->v = e->all + (size_t)k * (size_t)n;
    e->linear = at[k];
    uint16_t outer = k ? nn_vk_scope_enter(&e->o) : 0;
    for (int i = 0; i < n; i++)
      if (e->p->instr[i].kind == NNI_R_STORE) make_store(e, &e->p->instr[i]);
    if (!k) continue;
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, then);
  }
  end_if(e, end);
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */
static bool is_position(const nni_rinstr *i) { return i->op == NNI_RED_rargmax || i->op == NNI_RED_rargmin; }
static int nargs_of(const nni_rinstr *i) {
  if (i->kind == NNI_R_PW) return i->nargs;
  return i->kind == NNI_R_STORE || i->kind == NNI_R_CAST || i->kind == NNI_R_REDUCE;
}
static bool is_full(const emitter *e, int n) { /* made anew for each element */
  const nni_rinstr *i = &e->p->instr[n];
  if (i->kind == NNI_R_STORE) return e->p->out[i->slot].level == NNI_FULL;
  return i->level == NNI_FULL && i->kind != NNI_R_PARAM && i->kind != NNI_R_REDUCE;
}
/* returns the number of loops */
static int set_depths(emitter *e) {
  int loops = 0;
  for (int n = 0; n < e->p->ninstr; n++) {
    const nni_rinstr *i = &e->p->instr[n];
    int d = 0;
    for (int k = 0; k < nargs_of(i); k++) d = e->depth[i->a[k]] > d ? e->depth[i->a[k]] : d;
    if ((i->kind == NNI_R_REDUCE || (i->kind == NNI_R_STORE && is_full(e, n))) && d + 1 > loops) loops = d + 1;
    if (i->kind == NNI_R_REDUCE) d++;
    if (d > 250) e->o.failed = true;
    e->depth[n] = (uint8_t)d;
  }
  return loops;
}
static bool in_loop(const emitter *e, int n, int loop, int loops) { /* does instruction n end in this loop? */
  const nni_rinstr *i = &e->p->instr[n];
  return (i->kind == NNI_R_REDUCE && e->depth[n] == loop + 1) || (i->kind == NNI_R_STORE && is_full(e, n) && loop == loops - 1);
}

/* a reduction's argument in the class that it runs in: u8 and bool add up in i64 */
static uint32_t running_argument(emitter *e, const nni_rinstr *i) {
  value a = e->v[i->a[0]];
  uint32_t x = id_of(e, i->a[0]);
  return i->cls == NNI_L && !is_position(i) && a.cls != NNI_L ? cast(e, a, x, NN_I64).id : x;
}
static uint32_t local_variable(emitter *e, uint32_t type) { return nn_vk_variable(&e->o, &e->o.locals, pointer(e, SC_FUNCTION, type), SC_FUNCTION); }
static uint32_t shared_array(emitter *e, uint32_t *known_as, uint32_t type) {
  module *o = &e->o;
  if (!*known_as) {
    uint32_t array = nn_vk_declare(o, OpTypeArray, 0, IDS(type, uint_of(e, e->l.workgroup)));
    *known_as = nn_vk_variable(o, &o->globals, pointer(e, SC_WORKGROUP, array), SC_WORKGROUP);
  }
  return *known_as;
}
static uint32_t shared_at(emitter *e, uint32_t var, uint32_t type, uint32_t at) {
  return nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_WORKGROUP, type), IDS(var, at));
}

static void slot(emitter *e, uint32_t k) { e->v = e->all + (size_t)k * (size_t)e->p->ninstr; }
static void spread(emitter *e, int n) { /* what is known per row is known with every element */
  for (uint32_t k = 1; k < e->l.each; k++) e->all[k * (uint32_t)e->p->ninstr + (uint32_t)n] = e->all[n];
}

typedef struct running { int n, cls; uint32_t type, acc, acc_at, sh, sh_at; } running; /* one reduction of a loop; _at: positions */

/* acc = acc combined with (b, ib), both of them ids; for positions ib too */
static void combine(emitter *e, const running *r, uint32_t *a, uint32_t *ia, uint32_t b, uint32_t ib) {
  int op = e->p->instr[r->n].op;
  if (!r->acc_at) {
    *a = nn_vk_reduce_combine(&e->o, op, r->cls, *a, b);
    return;
  }
  uint32_t takes = nn_vk_reduce_takes(&e->o, op, r->cls, *a, *ia, b, ib);
  *a = nn_vk_pure(&e->o, OpSelect, r->type, IDS(takes, b, *a));
  *ia = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(takes, ib, *ia));
}
static void begin_running(emitter *e, running *r, int n) {
  const nni_rinstr *i = &e->p->instr[n];
  *r = (running){.n = n, .cls = is_position(i) ? i->opcls : i->cls};
  r->type = nn_vk_type(&e->o, r->cls);
  r->acc = local_variable(e, r->type);
  store(e, r->acc, nn_vk_reduce_identity(&e->o, i->op, r->cls));
  if (!is_position(i)) return;
  r->acc_at = local_variable(e, e->u32);
  store(e, r->acc_at, uint_of(e, UINT32_MAX));
}
static void step_running(emitter *e, const running *r, uint32_t ok) { /* ok: 0, or "the element exists" */
  const nni_rinstr *i = &e->p->instr[r->n];
  uint32_t a = load(e, r->type, r->acc), ia = r->acc_at ? load(e, e->u32, r->acc_at) : 0, x = running_argument(e, i), at = e->col;
  if (ok) x = nn_vk_pure(&e->o, OpSelect, r->type, IDS(ok, x, nn_vk_reduce_identity(&e->o, i->op, r->cls)));
  if (ok && ia) at = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok, at, uint_of(e, UINT32_MAX)));
  combine(e, r, &a, &ia, x, at);
  store(e, r->acc, a);
  if (r->acc_at) store(e, r->acc_at, ia);
}
/* the results of up to MAX_BATCH reductions: every invocation of the row has them afterwards */
static void join(emitter *e, running *r, int n) {
  uint32_t a, ia = 0, end;
  for (int k = 0; k < n && e->l.lanes > 1; k++) {
    r[k].sh = shared_array(e, &e->shared_value[r[k].cls][k], r[k].type);
    if (r[k].acc_at) r[k].sh_at = shared_array(e, &e->shared_at[k], e->u32);
    store(e, shared_at(e, r[k].sh, r[k].type, e->local), load(e, r[k].type, r[k].acc));
    if (r[k].acc_at) store(e, shared_at(e, r[k].sh_at, e->u32, e->local), load(e, e->u32, r[k].acc_at));
  }
  for (uint32_t s = e->l.lanes / 2; s > 0; s /= 2) {
    barrier(e);
    end = begin_if(e, op_bool(e, OpULessThan, e->lane, uint_of(e, s)));
    uint16_t outer = nn_vk_scope_enter(&e->o);
    uint32_t other = op_uint(e, OpIAdd, e->local, uint_of(e, s));
    for (int k = 0; k < n; k++) {
      uint32_t mine = shared_at(e, r[k].sh, r[k].type, e->local), my_at = r[k].acc_at ? shared_at(e, r[k].sh_at, e->u32, e->local) : 0, ib = 0;
      a = load(e, r[k].type, mine);
      if (my_at) ia = load(e, e->u32, my_at), ib = load(e, e->u32, shared_at(e, r[k].sh_at, e->u32, other));
      combine(e, &r[k], &a, &ia, load(e, r[k].type, shared_at(e, r[k].sh, r[k].type, other)), ib);
      store(e, mine, a);
      if (my_at) store(e, my_at, ia);
    }
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, end);
  }
  if (e->l.lanes > 1) barrier(e);
  uint32_t first = op_uint(e, OpISub, e->local, e->lane);
  for (int k = 0; k < n; k++) {
    const nni_rinstr *i = &e->p->instr[r[k].n];
    uint32_t type = r[k].acc_at ? e->u32 : r[k].type, from = r[k].acc_at ? r[k].acc_at : r[k].acc;
    if (e->l.lanes > 1) from = shared_at(e, r[k].acc_at ? r[k].sh_at : r[k].sh, type, first);
    a = load(e, type, from);
    if (r[k].acc_at) a = widen(e, a);
    value v = {.cls = (uint8_t)(r[k].acc_at ? NNI_L : r[k].cls), .dtype = r[k].acc_at ? NN_I64 : i->dtype, .id = a};
    if (is_half(i->dtype) && !r[k].acc_at) v.dtype = NN_F32, v = cast(e, v, a, (nn_dtype)i->dtype);
    e->v[r[k].n] = v;
    spread(e, r[k].n);
  }
  if (e->l.lanes > 1) barrier(e); /* before anybody writes there again */
}

/* which FULL values this loop has to make */
static void find_needed(emitter *e, int loop, int loops) {
  memset(e->need, 0, (size_t)e->p->ninstr);
  for (int n = e->p->ninstr - 1; n >= 0; n--) {
    if (!e->need[n] && !in_loop(e, n, loop, loops)) continue;
    for (int k = 0; k < nargs_of(&e->p->instr[n]); k++) {
      int a = e->p->instr[n].a[k];
      e->need[a] |= is_full(e, a) && !e->made[a];
    }
  }
}
/* Columns base, base + lanes, ...: their values, what they add to the reductions, their stores. first_ok: base is known to be inside. */
static void emit_columns(emitter *e, uint32_t base, uint32_t limit, bool first_ok, bool stores, const running *r, int nrun) {
  uint32_t at[MOST_EACH], ok[MOST_EACH], col[MOST_EACH], last = op_uint(e, OpISub, e->cols, uint_of(e, 1));
  for (uint32_t k = 0; k < e->l.each; k++) {
    at[k] = col[k] = k ? op_uint(e, OpIAdd, base, uint_of(e, k * e->l.lanes)) : base;
    ok[k] = k || !first_ok ? op_bool(e, OpULessThan, at[k], limit) : 0;
    if (ok[k]) col[k] = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok[k], at[k], last)); /* the last one once more: not added, not stored */
  }
  for (int n = 0; n < e->p->ninstr; n++)
    for (uint32_t k = 0; k < e->l.each && e->need[n]; k++) {
      slot(e, k);
      e->col = col[k];
      make_value(e, n);
      e->made[n] = e->l.resident;
    }
  for (uint32_t k = 0; k < e->l.each; k++) {
    slot(e, k);
    e->col = col[k];
    for (int j = 0; j < nrun; j++) step_running(e, &r[j], ok[k]);
  }
  for (uint32_t k = 0; k < e->l.each && stores; k++) {
    uint32_t then = ok[k] ? begin_if(e, ok[k]) : 0;
    uint16_t outer = nn_vk_scope_enter(&e->o);
    slot(e, k);
    e->col = at[k];
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_STORE && is_full(e, n)) make_store(e, &e->p->instr[n]);
    nn_vk_scope_leave(&e->o, outer);
    if (then) end_if(e, then);
  }
  slot(e, 0);
  e->col = 0;
}
/* all columns of the row, in a loop where they are many */
static void emit_loop(emitter *e, int loop, int loops, const running *r, int nrun) {
  module *o = &e->o;
  uint32_t limit = e->valid ? nn_vk_pure(o, OpSelect, e->u32, IDS(e->valid, e->cols, uint_of(e, 0))) : e->cols;
  find_needed(e, loop, loops);
  if (e->l.resident) {
    emit_columns(e, e->lane, limit, false, loop == loops - 1, r, nrun);
    return;
  }
  uint32_t var = local_variable(e, e->u32), head = nn_vk_id(o), test = nn_vk_id(o), body = nn_vk_id(o), next = nn_vk_id(o), end = nn_vk_id(o), base;
  store(e, var, e->lane);
  branch(e, head);
  label(e, head);
  uint16_t outer = nn_vk_scope_enter(o);
  nn_vk_put(o, &o->body, OpLoopMerge, IDS(end, next, 0));
  branch(e, test);
  label(e, test);
  base = load(e, e->u32, var);
  nn_vk_put(o, &o->body, OpBranchConditional, IDS(op_bool(e, OpULessThan, base, limit), body, end));
  label(e, body);
  emit_columns(e, base, limit, true, loop == loops - 1, r, nrun);
  branch(e, next);
  label(e, next);
  store(e, var, op_uint(e, OpIAdd, base, uint_of(e, e->l.lanes * e->l.each)));
  branch(e, head);
  nn_vk_scope_leave(o, outer);
  label(e, end);
}

/* what is known per row once `depth` reductions are done; r: room for the reductions of one loop */
static void emit_stages(emitter *e, running *r) {
  int loops = set_depths(e);
  for (int stage = 0; stage <= loops; stage++) {
    for (int n = 0; n < e->p->ninstr; n++)
      if (!is_full(e, n) && e->depth[n] == stage && e->p->instr[n].kind != NNI_R_REDUCE) {
        make_value(e, n);
        spread(e, n);
      }
    int nrun = 0;
    if (stage == loops) return;
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_REDUCE && e->depth[n] == stage + 1) begin_running(e, &r[nrun++], n);
    if (nrun || stage == loops - 1) emit_loop(e, stage, loops, r, nrun);
    for (int k = 0; k < nrun; k += MAX_BATCH) join(e, r + k, nrun - k < MAX_BATCH ? nrun - k : MAX_BATCH);
  }
}
static void emit_rows(emitter *e, running *r) {
  uint32_t group = group_number(e), end = begin_if(e, op_bool(e, OpULessThan, group, info(e, INFO_GROUPS))), zero = uint_of(e, 0);
  bool row_stores = false;
  e->cols = info(e, INFO_COLS);
  e->lane = e->local;
  e->row = group;
  if (e->l.per_group > 1) {
    uint32_t rows = info(e, INFO_ROWS), last = op_uint(e, OpISub, rows, uint_of(e, 1));
    e->lane = op_uint(e, OpBitwiseAnd, e->local, uint_of(e, e->l.lanes - 1));
    e->row = op_uint(e, OpIAdd, op_uint(e, OpIMul, group, uint_of(e, e->l.per_group)), op_uint(e, OpUDiv, e->local, uint_of(e, e->l.lanes)));
    e->valid = op_bool(e, OpULessThan, e->row, rows);
    e->row = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(e->valid, e->row, last)); /* others see the last row, and store nothing */
  }
  set_bases(e);
  emit_stages(e, r);
  for (int n = 0; n < e->p->ninstr; n++) row_stores = row_stores || (e->p->instr[n].kind == NNI_R_STORE && !is_full(e, n));
  if (row_stores) {
    barrier(e);
    uint32_t who = op_bool(e, OpIEqual, e->lane, zero), then = begin_if(e, e->valid ? op_bool(e, OpLogicalAnd, who, e->valid) : who);
    uint16_t outer = nn_vk_scope_enter(&e->o);
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_STORE && !is_full(e, n)) make_store(e, &e->p->instr[n]);
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, then);
  }
  end_if(e, end);
}

/* ---- the module -------------------------------------------------------------------------------------------------------------- */
static bool has_doubles(const nni_program *p) {
  bool d = false;
  for (int i = 0; i < p->ninstr; i++) d = d || p->instr[i].cls == NNI_D || p->instr[i].opcls == NNI_D || p->instr[i].dtype == NN_F64;
  for (int i = 0; i < p->nin; i++) d = d || p->in[i].dtype == NN_F64;
  for (int i = 0; i < p->nout; i++) d = d || p->out[i].dtype == NN_F64;
  return d;
}

nn_status nn_vk_emit(nni_memory *m, const nni_program *p, uint32_t features, nn_vk_module *out, nni_error *err) {
  emitter e = {.p = p, .l = nn_vk_layout_of(p)};
  size_t n = (size_t)p->ninstr, bytes = n * (e.l.each * sizeof(value) + sizeof(running) + 3);
  running *r;
  bool done;
  *out = (nn_vk_module){.words = NULL};
  if (has_doubles(p)) return nni_fail(err, NN_EDTYPE, "Vulkan devices do not compute in f64; cast to f32, or use the CPU");
  r = nni_calloc(m, bytes);
  if (!r) return nni_fail(err, NN_ENOMEM, "no memory for a shader");
  e.all = e.v = (value *)(void *)(r + n);
  e.depth = (uint8_t *)(e.v + n * e.l.each);
  e.need = e.depth + n;
  e.made = e.need + n;
  nn_vk_module_start(&e.o, m);
  declare(&e);
  e.local = builtin(&e, BUILTIN_LOCAL_INDEX, e.u32);
  if (e.l.rows) emit_rows(&e, r);
  else emit_elements(&e);
  done = nn_vk_module_finish(&e.o, e.l.workgroup, features, &out->words, &out->nwords);
  nn_vk_module_close(&e.o);
  nni_free(m, r, bytes);
  return done ? NN_OK : nni_fail(err, NN_ENOMEM, "no memory for a shader");
}
