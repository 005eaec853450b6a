/* tensor/dtype.c - the dtypes and how they promote. */
#include "tensor.h"

static const struct { const char *name; size_t size; } types[] = {
#define NN_X(name, text, type, bytes) {text, bytes},
    NN_DTYPE_MAP(NN_X)
#undef NN_X
};

const char *nn_dtype_name(nn_dtype d) { return (unsigned)d < NN_NDTYPE ? types[d].name : "?"; }
size_t nn_dtype_size(nn_dtype d) { return (unsigned)d < NN_NDTYPE ? types[d].size : 0; }

bool nn_dtype_from_name(const char *s, nn_dtype *d) {
  static const struct { const char *name; nn_dtype d; } alias[] = {
      {"float32", NN_F32}, {"float", NN_F32}, {"int32", NN_I32}, {"int", NN_I32}, {"int64", NN_I64}, {"long", NN_I64},
      {"uint8", NN_U8}, {"byte", NN_U8}, {"boolean", NN_BOOL}};
  for (int i = 0; i < NN_NDTYPE; i++)
    if (strcmp(s, types[i].name) == 0) return *d = (nn_dtype)i, true;
  for (int i = 0; i < NNI_COUNT(alias); i++)
    if (strcmp(s, alias[i].name) == 0) return *d = alias[i].d, true;
  return false;
}

/* bool < u8 < i32 < i64 < f32, as in NumPy with f32 as the only float */
nn_dtype nn_dtype_promote(nn_dtype a, nn_dtype b) { return a > b ? a : b; }
