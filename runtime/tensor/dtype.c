/* tensor/dtype.c - the dtypes and how they promote. */
#include "half.h"
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
      {"uint8", NN_U8}, {"byte", NN_U8}, {"boolean", NN_BOOL}, {"float64", NN_F64}, {"double", NN_F64}, {"float16", NN_F16}, {"half", NN_F16},
      {"bfloat16", NN_BF16}};
  for (int i = 0; i < NN_NDTYPE; i++)
    if (strcmp(s, types[i].name) == 0) return *d = (nn_dtype)i, true;
  for (int i = 0; i < NNI_COUNT(alias); i++)
    if (strcmp(s, alias[i].name) == 0) return *d = alias[i].d, true;
  return false;
}

/* bool < u8 < i32 < i64 < f16, bf16 < f32 < f64: the wider one, a float before any integer (docs/dtypes.md) */
nn_dtype nn_dtype_promote(nn_dtype a, nn_dtype b) {
  if ((a == NN_F16 && b == NN_BF16) || (a == NN_BF16 && b == NN_F16)) return NN_F32;
  return a > b ? a : b;
}

void nn_element_read(nn_dtype d, const void *p, double *f, int64_t *i) {
  union { int32_t i; int64_t l; float f; uint16_t h; } u = {0};
  double x;
  switch (d) {
    case NN_BOOL:
    case NN_U8: u.l = *(const uint8_t *)p; break;
    case NN_I32: memcpy(&u.i, p, 4), u.l = u.i; break;
    case NN_I64: memcpy(&u.l, p, 8); break;
    default:
      if (d == NN_F64) memcpy(&x, p, 8);
      else if (d == NN_F32) memcpy(&u.f, p, 4), x = (double)u.f;
      else memcpy(&u.h, p, 2), x = (double)(d == NN_F16 ? nni_from_f16(u.h) : nni_from_bf16(u.h));
      *f = x;
      *i = x >= -9.2e18 && x <= 9.2e18 ? (int64_t)x : 0;
      return;
  }
  *i = u.l;
  *f = (double)u.l;
}

int64_t nn_element_int(nn_dtype d, double f) {
  if (f != f) return 0;
  if (d == NN_I32) return f >= 0x1p31 ? INT32_MAX : f < -0x1p31 ? INT32_MIN : (int64_t)f;
  return f >= 0x1p63 ? INT64_MAX : f < -0x1p63 ? INT64_MIN : (int64_t)f;
}

void nn_element_write(nn_dtype d, void *p, double f, int64_t i) {
  float x = (float)f;
  int32_t n = (int32_t)i;
  uint16_t h;
  switch (d) {
    case NN_BOOL: *(uint8_t *)p = f != 0; break;
    case NN_U8: *(uint8_t *)p = (uint8_t)i; break;
    case NN_I32: memcpy(p, &n, 4); break;
    case NN_I64: memcpy(p, &i, 8); break;
    case NN_F32: memcpy(p, &x, 4); break;
    case NN_F64: memcpy(p, &f, 8); break;
    default: h = d == NN_F16 ? nni_to_f16(x) : nni_to_bf16(x), memcpy(p, &h, 2);
  }
}

bool nn_dtype_is_float(nn_dtype d) { return d >= NN_F16; }
