/* cpu/isa.h - one source, one object per instruction-set level, picked at run time.
**
** Files in cpu/isa/ are compiled once per level with NN_ISA (suffix) and VW (floats per vector) defined; every function they export is
** named NN_ISA_FN(name). The rest of cpu/ declares them with NN_ISA_DECL and calls them through NN_ISA_PICK.
** x86-64: v2 (SSE4, VW 4), v3 (AVX2+FMA, VW 8, 16 registers), v4 (AVX-512, VW 16, 32 registers). aarch64: neon (ARMv8.0, VW 4, 32 registers).
** Elsewhere: base (VW 4, whatever the compiler makes of it).
*/
#ifndef NN_CPU_ISA_H
#define NN_CPU_ISA_H
#include "../nn.h" /* nn_cpu_level_name */

#define NN_ISA_CAT2(a, b) a##_##b
#define NN_ISA_CAT(a, b) NN_ISA_CAT2(a, b)
#ifdef NN_ISA
#define NN_ISA_FN(name) NN_ISA_CAT(name, NN_ISA)
#endif

#if defined(__x86_64__)
#define NN_ISA_DECL(ret, name, args) ret name##_v2 args; ret name##_v3 args; ret name##_v4 args
#define NN_ISA_PICK(name) (nn_cpu_level() == 2 ? name##_v4 : nn_cpu_level() == 1 ? name##_v3 : name##_v2)
#elif defined(__aarch64__)
#define NN_ISA_DECL(ret, name, args) ret name##_neon args
#define NN_ISA_PICK(name) name##_neon
#else
#define NN_ISA_DECL(ret, name, args) ret name##_base args
#define NN_ISA_PICK(name) name##_base
#endif

/* 0, 1, 2 for v2, v3, v4 (0 elsewhere): the best the machine has, lowered by NNLUA_ISA=v2|v3|v4. Read once. */
int nn_cpu_level(void);

#endif
