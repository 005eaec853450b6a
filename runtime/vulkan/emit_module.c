/* vulkan/emit_module.c - writes SPIR-V modules (emit_module.h). No driver is called here. */
#include "emit_module.h"

static const uint32_t library[] = {
#include "math_library.inc"
};
#define LIBRARY_WORDS (uint32_t)(sizeof library / 4)
#define HEAD 5
enum { GLOBAL = 0xffff };
enum { GLSL_STD_450_WORDS = 4 };
static const uint32_t glsl_std_450[GLSL_STD_450_WORDS] = {0x4c534c47, 0x6474732e, 0x3035342e, 0}; /* "GLSL.std.450" */

/* ---- words ------------------------------------------------------------------------------------------------------------------- */
static uint32_t *room(module *o, words *to, size_t n) {
  if (to->n + n > to->cap) {
    size_t cap = to->cap ? to->cap * 2 : 256;
    while (cap < to->n + n) cap *= 2;
    uint32_t *w = nni_realloc(o->m, to->w, to->cap * 4, cap * 4);
    if (!w) {
      o->failed = true;
      return NULL;
    }
    to->w = w;
    to->cap = cap;
  }
  to->n += n;
  return to->w + to->n - n;
}
uint32_t nn_vk_id(module *o) { return o->next++; }
void nn_vk_put(module *o, words *to, uint32_t op, int n, const uint32_t *w) {
  uint32_t *at = room(o, to, (size_t)n + 1);
  if (!at) return;
  *at = (uint32_t)(n + 1) << 16 | op;
  if (n) memcpy(at + 1, w, (size_t)n * 4);
}

/* ---- declarations and pure instructions, once -------------------------------------------------------------------------------- */
static bool grow_table(module *o) {
  size_t n = o->ntable ? o->ntable * 2 : 512;
  known *t = nni_calloc(o->m, n * sizeof *t);
  if (!t) {
    o->failed = true;
    return false;
  }
  for (size_t i = 0; i < o->ntable; i++) {
    if (!o->table[i].id) continue;
    size_t k = o->table[i].hash & (n - 1);
    while (t[k].id) k = (k + 1) & (n - 1);
    t[k] = o->table[i];
  }
  nni_free(o->m, o->table, o->ntable * sizeof *t);
  o->table = t;
  o->ntable = n;
  return true;
}
/* op type? result w...; type 0: none. The instruction is looked for in the scopes that it may come from, else written. */
static uint32_t once(module *o, words *to, uint16_t scope, uint32_t op, uint32_t type, int n, const uint32_t *w) {
  uint32_t h = (op * 0x9E3779B1u ^ type) * 0x85EBCA6Bu, shift = type ? 3 : 2;
  for (int i = 0; i < n; i++) h = (h ^ w[i]) * 0x9E3779B1u, h ^= h >> 15;
  if (o->failed || (o->used * 2 >= o->ntable && !grow_table(o))) return 1;
  size_t k = h & (o->ntable - 1);
  for (; o->table[k].id; k = (k + 1) & (o->ntable - 1)) {
    const known *e = &o->table[k];
    if (e->hash != h || e->words != n + (int)shift || (e->scope != scope && e->scope != 0)) continue;
    if ((scope == GLOBAL) != (e->scope == GLOBAL)) continue;
    const uint32_t *at = (scope == GLOBAL ? o->globals.w : o->body.w) + e->at;
    if ((*at & 0xffff) == op && (!type || at[1] == type) && (n == 0 || memcmp(at + shift, w, (size_t)n * 4) == 0)) return e->id;
  }
  uint32_t id = nn_vk_id(o), at = (uint32_t)to->n, *p = room(o, to, (size_t)n + shift);
  if (!p) return 1;
  *p++ = ((uint32_t)n + shift) << 16 | op;
  if (type) *p++ = type;
  *p++ = id;
  if (n) memcpy(p, w, (size_t)n * 4);
  o->table[k] = (known){.hash = h, .at = at, .id = id, .words = (uint16_t)(n + (int)shift), .scope = scope};
  o->used++;
  return id;
}
uint32_t nn_vk_declare(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w) {
  if (op == OpTypeInt && w[0] == 64) o->caps |= 1;
  if (op == OpTypeInt && w[0] == 8) o->caps |= 2;
  if (op == OpTypeInt && w[0] == 16) o->caps |= 4;
  return once(o, &o->globals, GLOBAL, op, type, n, w);
}
static bool contracts(uint32_t op) { return op == OpFAdd || op == OpFSub || op == OpFMul || op == OpFDiv; }
uint32_t nn_vk_result(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w) {
  uint32_t id = nn_vk_id(o), *p = room(o, &o->body, (size_t)n + 3);
  if (!p) return 1;
  *p++ = (uint32_t)(n + 3) << 16 | op;
  *p++ = type;
  *p++ = id;
  if (n) memcpy(p, w, (size_t)n * 4);
  return id;
}
uint32_t nn_vk_pure(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w) {
  uint32_t before = o->next, id = once(o, &o->body, o->scope, op, type, n, w);
  if (id >= before && contracts(op)) nn_vk_put(o, &o->decor, OpDecorate, IDS(id, DEC_NO_CONTRACTION));
  return id;
}
uint32_t nn_vk_variable(module *o, words *to, uint32_t type, uint32_t storage) {
  uint32_t id = nn_vk_id(o);
  nn_vk_put(o, to, OpVariable, IDS(type, id, storage));
  if (to == &o->globals) {
    uint32_t *p = room(o, &o->interface, 1);
    if (p) *p = id;
  }
  return id;
}
uint16_t nn_vk_scope_enter(module *o) {
  uint16_t outer = o->scope;
  o->scope = ++o->scopes;
  return outer;
}
void nn_vk_scope_leave(module *o, uint16_t outer) { o->scope = outer; }

/* ---- the library ------------------------------------------------------------------------------------------------------------- */
/* What follows the opcode: t type, r result, i id, l literal; * repeats the letter before it to the end. NULL: not in a library. */
static const char *operands_of(uint32_t op) {
  switch (op) {
  case OpTypeVoid: case OpTypeBool: case OpLabel: return "r";
  case OpTypeInt: case OpTypeFloat: return "rl*";
  case OpTypeVector: return "ril";
  case OpTypeArray: case OpTypeStruct: case OpTypeFunction: return "ri*";
  case OpTypePointer: return "rli";
  case OpConstantTrue: case OpConstantFalse: case OpFunctionParameter: return "tr";
  case OpConstant: return "trl*";
  case OpFunction: return "trli";
  case OpVariable: return "trli*";
  case OpLoad: return "tril*";
  case OpStore: return "iil*";
  case OpExtInst: return "trili*";
  case OpCompositeExtract: return "tril*";
  case OpLoopMerge: return "iil*";
  case OpSelectionMerge: return "il*";
  case OpBranch: case OpReturnValue: return "i";
  case OpBranchConditional: return "iiil*";
  case OpFunctionEnd: case OpReturn: return "";
  case OpConstantComposite: case OpFunctionCall: case OpAccessChain: case OpCompositeConstruct: case OpPhi: return "tri*";
  default: return op >= OpConvertFToU && op <= OpNot ? "tri*" : NULL; /* arithmetic, comparisons, bits */
  }
}
static bool has_type(const char *operands) { return operands[0] == 't'; }

/* def: where each id is defined; precise: NoContraction */
static void library_open(module *o) {
  o->bound = library[3];
  o->map = nni_calloc(o->m, (size_t)o->bound * 4);
  o->def = nni_calloc(o->m, (size_t)o->bound * 4);
  o->queue = nni_calloc(o->m, (size_t)o->bound * 4);
  o->precise = nni_calloc(o->m, o->bound);
  if (!o->map || !o->def || !o->queue || !o->precise) {
    o->failed = true;
    return;
  }
  for (uint32_t at = HEAD; at < LIBRARY_WORDS; at += library[at] >> 16) {
    const uint32_t *w = library + at, op = *w & 0xffff;
    const char *s = operands_of(op);
    if (op == OpDecorate && w[2] == DEC_NO_CONTRACTION) o->precise[w[1]] = 1;
    if (op == OpExtInstImport) o->def[w[1]] = at;
    else if (s && s[0] == 'r') o->def[w[1]] = at;
    else if (s && has_type(s)) o->def[w[2]] = at;
  }
}
static uint32_t library_find(const char *name) {
  size_t n = strlen(name);
  for (uint32_t at = HEAD; at < LIBRARY_WORDS; at += library[at] >> 16) {
    const char *text = (const char *)(library + at + 2); /* "nn_exp(f1;" */
    if ((library[at] & 0xffff) == OpName && strncmp(text, name, n) == 0 && text[n] == '(') return library[at + 1];
  }
  return 0;
}

static uint32_t copy_id(module *o, uint32_t id);
/* the operands of a library instruction, ids translated; result: its place among them or -1 */
static int copy_operands(module *o, const uint32_t *w, const char *s, uint32_t *to, int *result) {
  int n = (int)(*w >> 16) - 1;
  *result = -1;
  for (int i = 0; i < n; i++) {
    if (*s == 'l') to[i] = w[i + 1];
    else if (*s == 'r') *result = i, to[i] = 0;
    else to[i] = copy_id(o, w[i + 1]);
    if (s[1] && s[1] != '*') s++;
    else if (!s[1] && i + 1 < n) o->failed = true; /* longer than its description */
  }
  return n;
}
/* What an id of the library is here. Types and constants are declared, functions put in the queue; the rest are names within a function. */
static uint32_t copy_id(module *o, uint32_t id) {
  uint32_t args[64];
  if (o->failed || id >= o->bound) {
    o->failed = true;
    return 1;
  }
  if (o->map[id]) return o->map[id];
  const uint32_t *w = library + o->def[id], op = o->def[id] ? *w & 0xffff : 0;
  const char *s = operands_of(op);
  if (op == OpExtInstImport) return o->map[id] = o->ext = o->ext ? o->ext : nn_vk_id(o);
  if ((op >= OpTypeVoid && op <= OpConstantComposite) && s && *w >> 16 <= 64) {
    int result, n = copy_operands(o, w, s, args, &result), type = has_type(s);
    return o->map[id] = nn_vk_declare(o, op, type ? args[0] : 0, n - 1 - type, args + 1 + type);
  }
  if (op == OpFunction) o->queue[o->nqueue++] = id;
  return o->map[id] = nn_vk_id(o);
}
static void copy_function(module *o, uint32_t id) {
  uint32_t args[64];
  for (uint32_t at = o->def[id];; at += library[at] >> 16) {
    const uint32_t *w = library + at, op = *w & 0xffff;
    const char *s = operands_of(op);
    int result, n;
    if (!s || *w >> 16 > 64) {
      o->failed = true;
      return;
    }
    n = copy_operands(o, w, s, args, &result);
    if (result >= 0) {
      args[result] = copy_id(o, w[result + 1]);
      if (o->precise[w[result + 1]]) nn_vk_put(o, &o->decor, OpDecorate, IDS(args[result], DEC_NO_CONTRACTION));
    }
    nn_vk_put(o, &o->funcs, op, n, args);
    if (op == OpFunctionEnd || o->failed) return;
  }
}
uint32_t nn_vk_call(module *o, libfn f, int n, const uint32_t *args) {
  static const char *const names[] = {
#define NN_X(name) "nn_" #name,
    NN_VK_LIBRARY(NN_X)
#undef NN_X
  };
  uint32_t w[8];
  if (!o->map && !o->failed) library_open(o);
  if (o->failed || n > 7) return 1;
  if (!o->fn[f]) o->fn[f] = library_find(names[f]);
  if (!o->fn[f]) {
    o->failed = true;
    return 1;
  }
  w[0] = copy_id(o, o->fn[f]);
  for (int i = 0; i < n; i++) w[i + 1] = args[i];
  return nn_vk_pure(o, OpFunctionCall, copy_id(o, library[o->def[o->fn[f]] + 1]), n + 1, w);
}

/* ---- the whole --------------------------------------------------------------------------------------------------------------- */
void nn_vk_module_start(module *o, nni_memory *m) {
  *o = (module){.m = m, .next = 1};
}
static void free_words(module *o, words *w) { nni_free(o->m, w->w, w->cap * 4); }
void nn_vk_module_close(module *o) {
  words *all[] = {&o->decor, &o->globals, &o->locals, &o->body, &o->funcs, &o->interface};
  for (int i = 0; i < NNI_COUNT(all); i++) free_words(o, all[i]);
  nni_free(o->m, o->table, o->ntable * sizeof *o->table);
  nni_free(o->m, o->map, o->map ? (size_t)o->bound * 4 : 0);
  nni_free(o->m, o->def, o->def ? (size_t)o->bound * 4 : 0);
  nni_free(o->m, o->queue, o->queue ? (size_t)o->bound * 4 : 0);
  nni_free(o->m, o->precise, o->precise ? o->bound : 0);
}

static void put_all(module *o, words *to, const words *from) {
  uint32_t *p = from->n ? room(o, to, from->n) : NULL;
  if (p) memcpy(p, from->w, from->n * 4);
}
static void put_head(module *o, words *out, uint32_t main_id, uint32_t workgroup, uint32_t features) {
  static const struct { uint32_t cap, mode; } control[] = {
    {CAP_NAN_PRESERVE, MODE_NAN_PRESERVE}, {CAP_DENORM_PRESERVE, MODE_DENORM_PRESERVE}, {CAP_ROUND_EVEN, MODE_ROUND_EVEN}};
  static const uint32_t storage[] = {CAP_INT64, CAP_8BIT, CAP_16BIT};
  uint32_t *p = room(o, out, HEAD);
  if (p) p[0] = 0x07230203, p[1] = 0x10500, p[2] = 0, p[3] = o->next, p[4] = 0;
  nn_vk_put(o, out, OpCapability, IDS(CAP_SHADER));
  for (int i = 0; i < 3; i++) {
    if (o->caps >> i & 1) nn_vk_put(o, out, OpCapability, IDS(storage[i]));
    if (features >> i & 1) nn_vk_put(o, out, OpCapability, IDS(control[i].cap));
  }
  if (o->ext) {
    nn_vk_put(o, out, OpExtInstImport, IDS(o->ext, glsl_std_450[0], glsl_std_450[1], glsl_std_450[2], glsl_std_450[3]));
  }
  nn_vk_put(o, out, OpMemoryModel, IDS(0, 1)); /* logical addressing, GLSL450 */
  p = room(o, out, 5 + o->interface.n);
  if (p) {
    p[0] = (uint32_t)(5 + o->interface.n) << 16 | OpEntryPoint, p[1] = 5 /* GLCompute */, p[2] = main_id, p[3] = 0x6e69616d /* "main" */, p[4] = 0;
    memcpy(p + 5, o->interface.w, o->interface.n * 4);
  }
  nn_vk_put(o, out, OpExecutionMode, IDS(main_id, MODE_LOCAL_SIZE, workgroup, 1, 1));
  for (int i = 0; i < 3; i++)
    if (features >> i & 1) nn_vk_put(o, out, OpExecutionMode, IDS(main_id, control[i].mode, 32));
}
bool nn_vk_module_finish(module *o, uint32_t workgroup, uint32_t features, uint32_t **result, size_t *nwords) {
  words out = {NULL, 0, 0};
  uint32_t none = nn_vk_declare(o, OpTypeVoid, 0, 0, NULL), type = nn_vk_declare(o, OpTypeFunction, 0, IDS(none)), main_id = nn_vk_id(o);
  for (uint32_t i = 0; i < o->nqueue && !o->failed; i++) copy_function(o, o->queue[i]); /* grows while it is worked off */
  uint32_t label = nn_vk_id(o);
  put_head(o, &out, main_id, workgroup, features);
  put_all(o, &out, &o->decor);
  put_all(o, &out, &o->globals);
  nn_vk_put(o, &out, OpFunction, IDS(none, main_id, 0, type));
  nn_vk_put(o, &out, OpLabel, IDS(label));
  put_all(o, &out, &o->locals);
  put_all(o, &out, &o->body);
  nn_vk_put(o, &out, OpReturn, 0, NULL);
  nn_vk_put(o, &out, OpFunctionEnd, 0, NULL);
  put_all(o, &out, &o->funcs);
  if (!o->failed) {
    *result = nni_malloc(o->m, out.n * 4);
    if (*result) memcpy(*result, out.w, out.n * 4);
    else o->failed = true;
    *nwords = out.n;
  }
  free_words(o, &out);
  return !o->failed;
}
