/* base/check.h - what tests look at in the memory pool; nothing else includes it. */
#ifndef NNI_CHECK_H
#define NNI_CHECK_H
#include "base.h"

typedef struct nni_memory_check {
  size_t small;     /* bytes of nni_malloc not yet freed */
  size_t buffers;   /* buffers handed out */
  size_t damaged;   /* buffers whose guard bytes, or size, were wrong when put (NNI_DEBUG builds; else 0) */
} nni_memory_check;
nni_memory_check nni_memory_inspect(nni_memory *m);

#endif
