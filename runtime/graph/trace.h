/* graph/trace.h - a record of what runs did, for printing, drawing and profiling. Off unless asked for; costs one branch per run then. */
#ifndef NNI_TRACE_H
#define NNI_TRACE_H
#include "plan.h"

/* called by run.c */
bool nni_trace_run(nn_context *ctx, const nni_plan *p, bool hit); /* before the units run: copies nodes and units; false: out of memory, error set */
void nni_trace_unit(nn_context *ctx, int unit, double t0, double t1);
nn_status nni_check_finite(nn_context *ctx);                      /* after a run of one call's nodes: the first result that is not finite though its arguments are */
void nni_trace_free(nn_context *ctx);
bool nni_trace_on(const nn_context *ctx);
double nni_clock(void); /* seconds, monotonic */
const char *nni_node_name(const nni_node *n);

#endif
