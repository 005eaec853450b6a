/* vulkan/emit_formula.h - the rows of pointwise.def and reduce.def as SPIR-V, per register class. Used by emit.c and emit_value.c. */
#ifndef NN_VK_EMIT_FORMULA_H
#define NN_VK_EMIT_FORMULA_H
#include "emit_module.h"
#include "../graph/device.h"

uint32_t nn_vk_type(module *o, int cls);                     /* NNI_F float, NNI_I int, NNI_L int64_t */
uint32_t nn_vk_type_bool(module *o);
uint32_t nn_vk_type_uint(module *o, uint32_t bits);
uint32_t nn_vk_constant(module *o, int cls, double x);       /* saturated to the class's range; 1e300 is its end */
uint32_t nn_vk_constant_uint(module *o, uint32_t x);
char nn_vk_pw_type(int op);                                   /* F N C B I W: see pointwise.def */
bool nn_vk_pw_keeps_range(int op);                            /* the result of u8 and bool operands, computed in i32, fits their dtype */
/* a: values of class cls, but masks for type B and for a[0] of type W. Types C and B give a mask. */
uint32_t nn_vk_formula(module *o, int op, int cls, const uint32_t a[3]);
uint32_t nn_vk_reduce_identity(module *o, int op, int cls);
/* combine: of a and b, for reductions that keep the dtype. takes, for rargmax and rargmin: a mask, "(b, ib) is to be taken instead of (a, ia)":
** the extreme value wins, NaN before all, then the smaller position. */
uint32_t nn_vk_reduce_combine(module *o, int op, int cls, uint32_t a, uint32_t b);
uint32_t nn_vk_reduce_takes(module *o, int op, int cls, uint32_t a, uint32_t ia, uint32_t b, uint32_t ib);

#endif
