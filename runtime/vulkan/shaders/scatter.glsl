/* vulkan/shaders/scatter.glsl - one value joined to another in the modes of the kernel scatter that compute; MODE and DTYPE (F32 or I64) are the shader's. */
const uint ADD = 1, LEAST = 2, MOST = 3, TIMES = 4;
float nn_join_f(const in float old, const in float x) {
  precise float sum = old + x, product = old * x;
  return MODE == ADD ? sum : MODE == TIMES ? product : nn_isnan(x) ? x : nn_isnan(old) ? old : (MODE == LEAST ? x < old : x > old) ? x : old;
}
int64_t nn_join_l(const in int64_t old, const in int64_t x) { return MODE == ADD ? old + x : MODE == TIMES ? old * x : MODE == LEAST ? min(old, x) : max(old, x); }
