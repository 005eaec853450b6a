/* graph/bounds.c - what is known of integers before they are computed: bounds of ids, which the host has seen on their way to a device.
**
** A run that may find a bad id has to be waited for before its results take anybody's place. Class ids and tokens mostly come from the host: when they are
** uploaded the host looks, simple operators pass the bounds on, and where they show that every id of a run is good, the run cannot fail and nobody waits.
** Invariant: a value with bounds has all its elements within them, or the run that computes it fails. Called by record.c, devices.c and run.c.
*/
#include "graph.h"

enum { MOST = 1 << 18 }; /* elements that are looked at */
static const int64_t FAR = (int64_t)1 << 40; /* nothing wraps within */

static void bound(nni_value *v, int64_t least, int64_t most) {
  const int64_t low = v->dtype == NN_U8 ? 0 : v->dtype == NN_I32 ? INT32_MIN : -FAR, high = v->dtype == NN_U8 ? 255 : v->dtype == NN_I32 ? INT32_MAX : FAR;
  if ((v->dtype != NN_U8 && v->dtype != NN_I32 && v->dtype != NN_I64) || least < low || most > high || least > most) return;
  v->bounded = true;
  v->least = least;
  v->most = most;
}

void nni_bounds_look(nni_value *v, const void *elements) {
  const size_t size = nn_dtype_size(v->dtype);
  int64_t least = INT64_MAX, most = INT64_MIN;
  if (v->dtype != NN_U8 && v->dtype != NN_I32 && v->dtype != NN_I64) return;
  for (int64_t i = 0; i < v->numel && v->numel <= MOST; i++) {
    double f;
    int64_t n;
    nn_element_read(v->dtype, (const char *)elements + (size_t)i * size, &f, &n);
    least = n < least ? n : least;
    most = n > most ? n : most;
  }
  bound(v, least, most);
}

static void follow_sum(const nni_node *n) {
  const bool left = n->in[0] != NULL;
  const nni_value *v = left ? n->in[0]->v : n->in[1] ? n->in[1]->v : NULL;
  if (!v || !v->bounded || n->npa != 1 || (left && n->in[1]) || !(n->pa[0].f == (double)(int32_t)n->pa[0].f)) return;
  const int64_t by = (int32_t)n->pa[0].f;
  if (n->op == NNI_PW_add) bound(n->out[0], v->least + by, v->most + by);
  else if (left) bound(n->out[0], v->least - by, v->most - by);
  else bound(n->out[0], by - v->most, by - v->least);
}

void nni_bounds_follow(const nni_node *n) {
  const nni_value *first = n->nin > 0 && n->in[0] ? n->in[0]->v : NULL;
  if (n->oshape[0].dtype != NN_I64 && n->oshape[0].dtype != NN_I32 && n->oshape[0].dtype != NN_U8) return;
  switch (n->kind) {
    case NNI_N_INDEX: bound(n->out[0], 0, n->out[0]->numel - 1); break;
    case NNI_N_CAST: if (first->bounded) bound(n->out[0], first->least, first->most); break;
    case NNI_N_PW: if (n->nin == 2 && (n->op == NNI_PW_add || n->op == NNI_PW_sub)) follow_sum(n); break;
    case NNI_N_KERNEL:
      if (n->op == NNI_K_check_ids) bound(n->out[0], 0, n->ia[0] - 1);
      else if (n->op == NNI_K_copy || n->op == NNI_K_take_rows || n->op == NNI_K_gather) {
        if (first->bounded) bound(n->out[0], first->least, first->most);
      } else if (n->op == NNI_K_randint && n->pa[3].u <= (uint64_t)FAR)
        bound(n->out[0], (int64_t)n->pa[2].u, (int64_t)(n->pa[2].u + n->pa[3].u - 1));
      break;
    default: break;
  }
}

bool nni_bounds_suffice(const nni_node *n) {
  const int64_t *const table = n->nin > 0 && n->in[0] ? n->in[0]->l.shape : NULL;
  const nni_value *ids = NULL;
  int64_t size = 0;
  switch (n->op) {
    case NNI_K_take_rows: ids = n->in[1]->v, size = table[0]; break;
    case NNI_K_add_rows: ids = n->in[1]->v, size = n->ia[0]; break;
    case NNI_K_check_ids: ids = n->in[0]->v, size = n->ia[0]; break;
    case NNI_K_gather: case NNI_K_scatter: ids = n->in[1]->v, size = table[1]; break;
    default: return false;
  }
  return ids->bounded && ids->least >= 0 && ids->most < size;
}
