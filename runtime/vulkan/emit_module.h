/* vulkan/emit_module.h - a SPIR-V module while it is written: sections, declarations that exist once, pure instructions that are not repeated, and
** functions copied out of the library made of shaders/math.glsl. Used by emit.c, emit_value.c and emit_formula.c only.
**
** Nothing returns an error: when memory runs out `failed` is set, ids become meaningless and nn_vk_module_finish says so.
*/
#ifndef NN_VK_EMIT_MODULE_H
#define NN_VK_EMIT_MODULE_H
#include "../base/base.h"

/* the part of SPIR-V that we write or copy */
enum {
  OpName = 5, OpExtInstImport = 11, OpExtInst = 12, OpMemoryModel = 14, OpEntryPoint = 15, OpExecutionMode = 16, OpCapability = 17,
  OpTypeVoid = 19, OpTypeBool = 20, OpTypeInt = 21, OpTypeFloat = 22, OpTypeVector = 23, OpTypeArray = 28, OpTypeRuntimeArray = 29,
  OpTypeStruct = 30, OpTypePointer = 32, OpTypeFunction = 33, OpConstantTrue = 41, OpConstantFalse = 42, OpConstant = 43, OpConstantComposite = 44,
  OpFunction = 54, OpFunctionParameter = 55, OpFunctionEnd = 56, OpFunctionCall = 57, OpVariable = 59, OpLoad = 61, OpStore = 62, OpAccessChain = 65,
  OpDecorate = 71, OpMemberDecorate = 72, OpCompositeConstruct = 80, OpCompositeExtract = 81, OpConvertFToU = 109, OpConvertFToS = 110,
  OpConvertSToF = 111, OpConvertUToF = 112, OpUConvert = 113, OpSConvert = 114, OpBitcast = 124, OpSNegate = 126, OpFNegate = 127, OpIAdd = 128,
  OpFAdd = 129, OpISub = 130, OpFSub = 131, OpIMul = 132, OpFMul = 133, OpUDiv = 134, OpSDiv = 135, OpFDiv = 136, OpUMod = 137, OpUMulExtended = 151,
  OpLogicalEqual = 164, OpLogicalNotEqual = 165, OpLogicalOr = 166, OpLogicalAnd = 167, OpLogicalNot = 168, OpSelect = 169, OpIEqual = 170,
  OpINotEqual = 171, OpUGreaterThan = 172, OpSGreaterThan = 173, OpUGreaterThanEqual = 174, OpSGreaterThanEqual = 175, OpULessThan = 176,
  OpSLessThan = 177, OpULessThanEqual = 178, OpSLessThanEqual = 179, OpFOrdEqual = 180, OpFOrdNotEqual = 182, OpFUnordNotEqual = 183,
  OpFOrdLessThan = 184, OpFOrdGreaterThan = 186, OpFOrdLessThanEqual = 188, OpFOrdGreaterThanEqual = 190, OpShiftRightLogical = 194,
  OpShiftRightArithmetic = 195, OpShiftLeftLogical = 196, OpBitwiseOr = 197, OpBitwiseXor = 198, OpBitwiseAnd = 199, OpNot = 200,
  OpControlBarrier = 224, OpPhi = 245, OpLoopMerge = 246, OpSelectionMerge = 247, OpLabel = 248, OpBranch = 249, OpBranchConditional = 250,
  OpReturn = 253, OpReturnValue = 254
};
enum { CAP_SHADER = 1, CAP_INT64 = 11, CAP_16BIT = 4433, CAP_8BIT = 4448 };
enum { CAP_DENORM_PRESERVE = 4464, CAP_NAN_PRESERVE = 4466, CAP_ROUND_EVEN = 4467 };
enum { MODE_LOCAL_SIZE = 17, MODE_DENORM_PRESERVE = 4459, MODE_NAN_PRESERVE = 4461, MODE_ROUND_EVEN = 4462 };
enum { DEC_BLOCK = 2, DEC_ARRAY_STRIDE = 6, DEC_BUILTIN = 11, DEC_ALIASED = 20, DEC_NON_WRITABLE = 24, DEC_NON_READABLE = 25 };
enum { DEC_BINDING = 33, DEC_SET = 34, DEC_OFFSET = 35, DEC_NO_CONTRACTION = 42 };
enum { BUILTIN_NUM_WORKGROUPS = 24, BUILTIN_WORKGROUP_ID = 26, BUILTIN_LOCAL_INDEX = 29 };
enum { SC_INPUT = 1, SC_UNIFORM = 2, SC_WORKGROUP = 4, SC_FUNCTION = 7, SC_STORAGE = 12 };

/* functions of math.glsl that formulas and the emitter call */
#define NN_VK_LIBRARY(X)                                                                                                     \
  X(isnan) X(abs) X(neg) X(min) X(max) X(zero_if_finite) X(times_zero) X(floor) X(ceil) X(rint) X(trunc) X(sqrt) X(exp) X(expm1) X(log)    \
  X(log1p) X(log2) X(log10) X(pow) X(sin) X(cos) X(atan2) X(tanh) X(erf) X(erfc) X(fmod) X(mod) X(floordiv)                  \
  X(fmod_i) X(mod_i) X(floordiv_i) X(shl_i) X(shr_i) X(pow_i) X(fmod_l) X(mod_l) X(floordiv_l) X(shl_l) X(shr_l) X(pow_l)                   \
  X(to_i32) X(to_i64) X(from_f16) X(from_bf16) X(to_f16) X(to_bf16) X(round_f16) X(round_bf16) X(uniform)
typedef enum libfn {
#define NN_X(name) LIB_##name,
  NN_VK_LIBRARY(NN_X)
#undef NN_X
  LIB_COUNT
} libfn;

typedef struct words { uint32_t *w; size_t n, cap; } words;
typedef struct known { uint32_t hash, at, id; uint16_t words, scope; } known; /* an instruction in `globals` (scope GLOBAL) or `body` */

typedef struct module {
  nni_memory *m;
  bool failed;
  uint32_t next;               /* first free id */
  words decor, globals, locals, body, funcs, interface;
  known *table;                /* open addressing; id 0: free */
  size_t ntable, used;
  uint16_t scope, scopes;      /* of the instructions written now; how many there were */
  uint32_t caps;               /* bit 0: Int64, 1: 8-bit storage, 2: 16-bit storage */
  uint32_t ext;                /* GLSL.std.450 */
  /* the library: what its ids became here (0: not copied), where they are defined, NoContraction; functions waiting to be copied */
  uint32_t *map, *def, *queue;
  uint8_t *precise;
  uint32_t fn[LIB_COUNT], nqueue, bound;
} module;

void nn_vk_module_start(module *o, nni_memory *m);
void nn_vk_module_close(module *o);
/* sections -> one block of nni_malloc. body: of main, without its first label; false: out of memory */
bool nn_vk_module_finish(module *o, uint32_t workgroup, uint32_t features, uint32_t **out, size_t *nwords);

uint32_t nn_vk_id(module *o);
void nn_vk_put(module *o, words *to, uint32_t op, int n, const uint32_t *w);            /* any instruction, as it is */
uint32_t nn_vk_declare(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w); /* a type (type 0) or constant, once */
/* a pure instruction of main: not repeated where an equal one has been written in this scope or in straight code before */
uint32_t nn_vk_pure(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w);
uint32_t nn_vk_result(module *o, uint32_t op, uint32_t type, int n, const uint32_t *w);  /* an instruction of main with a result */
uint32_t nn_vk_call(module *o, libfn f, int n, const uint32_t *args);
uint32_t nn_vk_variable(module *o, words *to, uint32_t type, uint32_t storage);           /* type: of the pointer */

/* Code in scope 0 runs before everything after it; code in a loop or a branch has a scope of its own, which nothing outside may use. */
uint16_t nn_vk_scope_enter(module *o); /* returns the scope around it, for leave */
void nn_vk_scope_leave(module *o, uint16_t outer);

#define IDS(...) (int)(sizeof((uint32_t[]){__VA_ARGS__}) / 4), (const uint32_t[]){__VA_ARGS__}

#endif
