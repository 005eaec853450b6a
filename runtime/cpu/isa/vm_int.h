/* cpu/isa/vm_int.h - integer division, remainders, powers and shifts for vectors of int32 (i) and int64 (l), lane by lane.
**
** Nothing traps or is undefined: division by 0 gives 0 (as NumPy), the smallest number divided by -1 wraps to itself, and a shift by a
** negative count or by the width and more moves every bit out. Powers wrap; a negative one is what is left of 1 / a^-n without its fraction, 0 for a = 0.
*/
#ifndef NN_CPU_VM_INT_H
#define NN_CPU_VM_INT_H
#include "vm.h"

#define VM_DIVISION(L, V, T, U, LANES)                                                                      \
  VM_FN V vm_fmod##L(V a, V b) {                                                                            \
    for (int j = 0; j < LANES; j++) a[j] = b[j] == 0 || b[j] == -1 ? 0 : a[j] % b[j];                       \
    return a;                                                                                               \
  }                                                                                                         \
  VM_FN V vm_mod##L(V a, V b) {                                                                             \
    V r = vm_fmod##L(a, b);                                                                                 \
    return r + (b & (V)(r != 0) & (V)((r ^ b) < 0));                                                        \
  }                                                                                                         \
  VM_FN V vm_floordiv##L(V a, V b) {                                                                        \
    for (int j = 0; j < LANES; j++) {                                                                       \
      T d = b[j], q = d == 0 ? 0 : d == -1 ? (T)(0 - (U)a[j]) : a[j] / d;                                   \
      a[j] = d != 0 && d != -1 && (a[j] ^ d) < 0 && q * d != a[j] ? q - 1 : q;                              \
    }                                                                                                       \
    return a;                                                                                               \
  }                                                                                                         \
  VM_FN V vm_pow##L(V a, V b) {                                                                             \
    for (int j = 0; j < LANES; j++) {                                                                       \
      U r = 1, x = (U)a[j];                                                                                 \
      T n = b[j];                                                                                           \
      if (n < 0) r = a[j] == 1 || (a[j] == -1 && !(n & 1)) ? 1 : a[j] == -1 ? (U)-1 : 0;                    \
      for (; n > 0; n >>= 1, x *= x)                                                                        \
        if (n & 1) r *= x;                                                                                  \
      a[j] = (T)r;                                                                                          \
    }                                                                                                       \
    return a;                                                                                               \
  }                                                                                                         \
  VM_FN V vm_shl##L(V a, V n) {                                                                             \
    const T top = 8 * (T)sizeof(T) - 1;                                                                     \
    V out = (V)(n < 0) | (V)(n > top);                                                                      \
    return (a << (n & top)) & ~out;                                                                         \
  }                                                                                                         \
  VM_FN V vm_shr##L(V a, V n) {                                                                             \
    const T top = 8 * (T)sizeof(T) - 1;                                                                     \
    V out = (V)(n < 0) | (V)(n > top);                                                                      \
    return a >> ((n & top & ~out) | (top & out));                                                           \
  }
VM_DIVISION(i, vi, int32_t, uint32_t, VW)
VM_DIVISION(l, vl, int64_t, uint64_t, (VW / 2))
#endif
