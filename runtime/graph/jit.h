/* graph/jit.h - what the rest of graph/ tells a recording that is going on (jit.c). */
#ifndef NNI_JIT_H
#define NNI_JIT_H
#include "plan.h"

void nni_jit_window(nn_context *ctx);               /* before a window runs: it becomes a segment of the recording */
void nni_jit_read(nn_context *ctx, const nn_tensor *t); /* a value is read: the function may depend on it in ways that no replay sees */

#endif
