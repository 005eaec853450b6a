/* vulkan/k_lstm.c - lstm and lstm_dx: all steps of a layer of LSTM cells (shaders/lstm.comp, lstm_dx.comp). Letters: N batch, T steps, H cells.
**
** A dispatch is one time step: the product with the recurrent weight fused with the cells' update. A step reads what the step before it wrote, so the stream
** puts a barrier between them. Tiles depend on the kind of device alone and sums run in a fixed order: the same bits at every run.
*/
#include "shaders.h"
#include "vk.h"

typedef struct layer {
  uint64_t N, T, H, tiles_h, tiles;
  uint32_t rows, cells, depth; /* a workgroup's tile, a thread each; how much of the inner size lies in shared memory at a time */
} layer;

static layer layer_of(nn_vk_device *d, int64_t N, int64_t T, int64_t H) {
  layer l = {.N = (uint64_t)N, .T = (uint64_t)T, .H = (uint64_t)H, .rows = 16, .cells = 16, .depth = 32};
  if (nn_vk_is_software(d)) l.rows = 8, l.cells = 8, l.depth = 16;
  l.tiles_h = (l.H + l.cells - 1) / l.cells;
  l.tiles = l.tiles_h * ((l.N + l.rows - 1) / l.rows);
  return l;
}

static nn_status all_fit(const nni_kernel_call *k) {
  nn_status st = NN_OK;
  for (int i = 0; i < k->nin && st == NN_OK; i++) st = nn_vk_fits(nn_vk_of(k->dev), &k->in[i], k->err);
  for (int i = 0; i < k->nout && st == NN_OK; i++) st = nn_vk_fits(nn_vk_of(k->dev), &k->out[i], k->err);
  return st;
}

/* One step: `w` without its grid. inner: of the product. */
static nn_status step(const nni_kernel_call *k, const layer *l, uint64_t inner, nn_vk_work *w) {
  w->ops = l->tiles * l->rows * l->cells * (inner ? inner : 1);
  nn_vk_grid(nn_vk_of(k->dev), l->tiles, w->groups);
  return nn_vk_dispatch(nn_vk_of(k->dev), w, k->err);
}

size_t nn_vk_lstm_scratch(const nni_kernel_call *k) { return (void)k, 0; }

nn_status nn_vk_lstm(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *in = k->in;
  const layer l = layer_of(d, in[0].shape[0], in[0].shape[1], in[1].shape[0]);
  if (l.N == 0 || l.T == 0 || l.H == 0) return NN_OK;
  nn_status st = all_fit(k);
  const uint32_t spec[] = {l.rows * l.cells, l.cells, l.depth};
  nn_vk_bind b[7] = {nn_vk_dense(d, &in[0], false), nn_vk_dense(d, &in[1], false)};
  for (int i = 0; i < 3; i++) b[4 + i] = nn_vk_dense(d, &k->out[i], true);
  struct { uint32_t x_from, w_from, before_from[2], before_row, h_from, c_from, gates_from, N, T, H, t, tiles_h, tiles; } info = {
      .x_from = b[0].offset, .w_from = b[1].offset, .h_from = b[4].offset, .c_from = b[5].offset, .gates_from = b[6].offset,
      .N = (uint32_t)l.N, .T = (uint32_t)l.T, .H = (uint32_t)l.H, .tiles_h = (uint32_t)l.tiles_h, .tiles = (uint32_t)l.tiles};
  for (uint64_t t = 0; t < l.T && st == NN_OK; t++) {
    for (int i = 0; i < 2; i++) { /* h and c of the step before: what was given, then what was made */
      b[2 + i] = nn_vk_dense(d, t ? &k->out[i] : &in[2 + i], false);
      info.before_from[i] = b[2 + i].offset + (t ? (uint32_t)((t - 1) * l.H) : 0);
    }
    info.before_row = (uint32_t)(t ? l.T * l.H : l.H);
    info.t = (uint32_t)t;
    nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_lstm, spec, NNI_COUNT(spec), k->err), .bind = b, .nbind = 7, .info = &info, .ninfo = sizeof info};
    st = step(k, &l, 4 * l.H, &w);
  }
  return st;
}

size_t nn_vk_lstm_dx_scratch(const nni_kernel_call *k) { return (void)k, 0; }

/* dc (out2) holds the cotangent of the cells while it travels back in time; that of h is made anew from dx of the step after. */
nn_status nn_vk_lstm_dx(const nni_kernel_call *k) {
  nn_vk_device *d = nn_vk_of(k->dev);
  const nni_operand *in = k->in;
  const layer l = layer_of(d, in[2].shape[0], in[2].shape[1], in[0].shape[0]);
  if (l.N == 0 || l.H == 0) return NN_OK;
  nn_status st = all_fit(k);
  for (int i = 1; i < 3 && l.T == 0 && st == NN_OK; i++) st = nn_vk_fill(d, k->out[i].data, (size_t)(l.N * l.H) * sizeof(float), 0, k->err);
  if (l.T == 0 || st != NN_OK) return st;
  const uint32_t given = (uint32_t)k->ia[0];
  nn_vk_bind b[10] = {nn_vk_dense(d, &in[0], false), nn_vk_dense(d, &in[1], false), nn_vk_dense(d, &in[2], false), nn_vk_dense(d, &in[3], false)};
  int next = 4;
  for (int i = 0; i < 3; i++) b[4 + i] = given >> i & 1 ? nn_vk_dense(d, &in[next++], false) : b[0]; /* one that is not given is not looked at */
  for (int i = 0; i < 3; i++) b[7 + i] = nn_vk_dense(d, &k->out[i], true);
  struct { uint32_t from[10], N, T, H, t, tiles_h, tiles; } info = {.N = (uint32_t)l.N, .T = (uint32_t)l.T, .H = (uint32_t)l.H, .tiles_h = (uint32_t)l.tiles_h, .tiles = (uint32_t)l.tiles};
  for (int i = 0; i < 10; i++) info.from[i] = b[i].offset;
  for (uint64_t t = l.T + 1; t > 0 && st == NN_OK; t--) { /* steps T-1 .. 0, then the cotangent of the first h: t - 2 is the step */
    const bool end = t == 1, begin = t == l.T + 1;
    const uint32_t spec[] = {l.rows * l.cells, l.cells, l.depth, given, begin, end};
    info.t = end ? 0 : (uint32_t)(t - 2);
    nn_vk_work w = {.pipeline = nn_vk_shader(d, NN_VK_S_lstm_dx, spec, NNI_COUNT(spec), k->err), .bind = b, .nbind = 10, .info = &info, .ninfo = sizeof info};
    st = step(k, &l, begin ? 1 : 4 * l.H, &w);
  }
  return st;
}
