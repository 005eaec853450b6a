/* ops/ids.h - the rows of the tables as numbers, in the order of the files. They live in memory only: nothing stored ever holds one. */
#ifndef NNI_IDS_H
#define NNI_IDS_H

typedef enum nni_pwid {
#define NN_PW(name, ...) NNI_PW_##name,
#include "pointwise.def"
#undef NN_PW
  NNI_NPW
} nni_pwid;

typedef enum nni_redid {
#define NN_RED(name, ...) NNI_RED_##name,
#include "reduce.def"
#undef NN_RED
  NNI_NRED
} nni_redid;

typedef enum nni_kernel_id {
#define NN_KERNEL(name, doc) NNI_K_##name,
#include "kernels.def"
#undef NN_KERNEL
  NNI_NKERNEL
} nni_kernel_id;

#endif
