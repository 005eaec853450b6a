/* vulkan/emit.c - row programs as SPIR-V: one invocation per element or some per row, loops and trees of reductions.
**
** Without a reduction and without an output per row, an invocation makes an element or a few: loads, then instructions, then stores.
** Otherwise `lanes` invocations share a row, and a workgroup has `per_group` rows. Stages follow each other: what is known per row, a loop over the
** columns that feeds the reductions whose arguments are known by then, a tree in shared memory. FULL values of rows that are short enough stay in
** registers; those of others are computed anew in every loop, from loads. All FULL stores are in the last loop, ROW stores behind a barrier at the
** end: so what an output overwrites has been read.
** Column j of a row belongs to the same invocation in every loop; orders of summation depend on cols alone.
*/
#include "emit.h"
#include "emit_value.h"

/* ---- control ------------------------------------------------------------------------------------------------------------------ */
static void barrier(emitter *e) { /* execution of the workgroup; its writes to shared memory and buffers can be seen */
  nn_vk_put(&e->o, &e->o.body, OpControlBarrier, IDS(uint_of(e, 2), uint_of(e, 2), uint_of(e, 0x148)));
}
static void label(emitter *e, uint32_t id) { nn_vk_put(&e->o, &e->o.body, OpLabel, IDS(id)); }
static void branch(emitter *e, uint32_t to) { nn_vk_put(&e->o, &e->o.body, OpBranch, IDS(to)); }
/* if (cond) {: returns the label behind it */
static uint32_t begin_if(emitter *e, uint32_t cond) {
  uint32_t then = nn_vk_id(&e->o), end = nn_vk_id(&e->o);
  nn_vk_put(&e->o, &e->o.body, OpSelectionMerge, IDS(end, 0));
  nn_vk_put(&e->o, &e->o.body, OpBranchConditional, IDS(cond, then, end));
  label(e, then);
  return end;
}
static void end_if(emitter *e, uint32_t end) {
  branch(e, end);
  label(e, end);
}

/* ---- one invocation per element ---------------------------------------------------------------------------------------------- */
static void set_place(emitter *e) { /* row and col of element `linear`, if an input asks for them */
  bool places = false;
  for (int i = 0; i < e->p->nin; i++) places = places || (!e->l.in[i].linear && (e->l.in[i].row || e->l.in[i].col));
  if (!places) return;
  if (!e->cols) e->cols = nn_vk_emit_info(e, INFO_COLS);
  e->row = nn_vk_emit_divide(e, e->linear, INFO_COLS);
  e->col = op_uint(e, OpISub, e->linear, op_uint(e, OpIMul, e->row, e->cols));
}
/* An invocation makes `each` elements: all loads, then all stores. Past the end it makes the last element again and stores nothing. */
static void emit_elements(emitter *e) {
  const int n = e->p->ninstr;
  uint32_t group = nn_vk_emit_group(e), inside = op_bool(e, OpULessThan, group, nn_vk_emit_info(e, INFO_GROUPS)), count = nn_vk_emit_info(e, INFO_COUNT);
  uint32_t first = op_uint(e, OpIAdd, op_uint(e, OpIMul, group, uint_of(e, e->l.workgroup * e->l.each)), e->local);
  uint32_t at[MOST_EACH], ok[MOST_EACH];
  for (uint32_t k = 0; k < e->l.each; k++) {
    at[k] = k ? op_uint(e, OpIAdd, first, uint_of(e, k * e->l.workgroup)) : first;
    ok[k] = op_bool(e, OpULessThan, at[k], count);
  }
  uint32_t end = begin_if(e, op_bool(e, OpLogicalAnd, inside, ok[0]));
  for (uint32_t k = 0; k < e->l.each; k++) {
    e->v = e->all + (size_t)k * (size_t)n;
    e->linear = k ? nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok[k], at[k], op_uint(e, OpISub, count, uint_of(e, 1)))) : at[k];
    set_place(e);
    nn_vk_emit_bases(e);
    for (int i = 0; i < n; i++)
      if (k && e->p->instr[i].kind == NNI_R_PARAM) e->v[i] = e->all[i];
      else nn_vk_emit_value(e, i);
  }
  for (uint32_t k = 0; k < e->l.each; k++) {
    uint32_t then = k ? begin_if(e, ok[k]) : 0;
    e->v = e->all + (size_t)k * (size_t)n;
    e->linear = at[k];
    uint16_t outer = k ? nn_vk_scope_enter(&e->o) : 0;
    for (int i = 0; i < n; i++)
      if (e->p->instr[i].kind == NNI_R_STORE) nn_vk_emit_store(e, &e->p->instr[i]);
    if (!k) continue;
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, then);
  }
  end_if(e, end);
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */
static bool is_position(const nni_rinstr *i) { return i->op == NNI_RED_rargmax || i->op == NNI_RED_rargmin; }
static int nargs_of(const nni_rinstr *i) {
  if (i->kind == NNI_R_PW) return i->nargs;
  return i->kind == NNI_R_STORE || i->kind == NNI_R_CAST || i->kind == NNI_R_REDUCE;
}
static bool is_full(const emitter *e, int n) { /* made anew for each element */
  const nni_rinstr *i = &e->p->instr[n];
  if (i->kind == NNI_R_STORE) return e->p->out[i->slot].level == NNI_FULL;
  return i->level == NNI_FULL && i->kind != NNI_R_PARAM && i->kind != NNI_R_REDUCE;
}
/* returns the number of loops */
static int set_depths(emitter *e) {
  int loops = 0;
  for (int n = 0; n < e->p->ninstr; n++) {
    const nni_rinstr *i = &e->p->instr[n];
    int d = 0;
    for (int k = 0; k < nargs_of(i); k++) d = e->depth[i->a[k]] > d ? e->depth[i->a[k]] : d;
    if ((i->kind == NNI_R_REDUCE || (i->kind == NNI_R_STORE && is_full(e, n))) && d + 1 > loops) loops = d + 1;
    if (i->kind == NNI_R_REDUCE) d++;
    if (d > 250) e->o.failed = true;
    e->depth[n] = (uint8_t)d;
  }
  return loops;
}
static bool in_loop(const emitter *e, int n, int loop, int loops) { /* does instruction n end in this loop? */
  const nni_rinstr *i = &e->p->instr[n];
  return (i->kind == NNI_R_REDUCE && e->depth[n] == loop + 1) || (i->kind == NNI_R_STORE && is_full(e, n) && loop == loops - 1);
}

/* a reduction's argument in the class that it runs in: u8 and bool add up in i64 */
static uint32_t running_argument(emitter *e, const nni_rinstr *i) {
  value a = e->v[i->a[0]];
  uint32_t x = nn_vk_emit_id(e, i->a[0]);
  return i->cls == NNI_L && !is_position(i) && a.cls != NNI_L ? nn_vk_emit_cast(e, a, x, NN_I64).id : x;
}
static uint32_t local_variable(emitter *e, uint32_t type) { return nn_vk_variable(&e->o, &e->o.locals, pointer(e, SC_FUNCTION, type), SC_FUNCTION); }
static uint32_t shared_array(emitter *e, uint32_t *known_as, uint32_t type) {
  module *o = &e->o;
  if (!*known_as) {
    uint32_t array = nn_vk_declare(o, OpTypeArray, 0, IDS(type, uint_of(e, e->l.workgroup)));
    *known_as = nn_vk_variable(o, &o->globals, pointer(e, SC_WORKGROUP, array), SC_WORKGROUP);
  }
  return *known_as;
}
static uint32_t shared_at(emitter *e, uint32_t var, uint32_t type, uint32_t at) {
  return nn_vk_result(&e->o, OpAccessChain, pointer(e, SC_WORKGROUP, type), IDS(var, at));
}

static void slot(emitter *e, uint32_t k) { e->v = e->all + (size_t)k * (size_t)e->p->ninstr; }
static void spread(emitter *e, int n) { /* what is known per row is known with every element */
  for (uint32_t k = 1; k < e->l.each; k++) e->all[k * (uint32_t)e->p->ninstr + (uint32_t)n] = e->all[n];
}

typedef struct running { int n, cls; uint32_t type, acc, acc_at, sh, sh_at; } running; /* one reduction of a loop; _at: positions */

/* acc = acc combined with (b, ib), both of them ids; for positions ib too */
static void combine(emitter *e, const running *r, uint32_t *a, uint32_t *ia, uint32_t b, uint32_t ib) {
  int op = e->p->instr[r->n].op;
  if (!r->acc_at) {
    *a = nn_vk_reduce_combine(&e->o, op, r->cls, *a, b);
    return;
  }
  uint32_t takes = nn_vk_reduce_takes(&e->o, op, r->cls, *a, *ia, b, ib);
  *a = nn_vk_pure(&e->o, OpSelect, r->type, IDS(takes, b, *a));
  *ia = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(takes, ib, *ia));
}
static void begin_running(emitter *e, running *r, int n) {
  const nni_rinstr *i = &e->p->instr[n];
  *r = (running){.n = n, .cls = is_position(i) ? i->opcls : i->cls};
  r->type = nn_vk_type(&e->o, r->cls);
  r->acc = local_variable(e, r->type);
  store(e, r->acc, nn_vk_reduce_identity(&e->o, i->op, r->cls));
  if (!is_position(i)) return;
  r->acc_at = local_variable(e, e->u32);
  store(e, r->acc_at, uint_of(e, UINT32_MAX));
}
static void step_running(emitter *e, const running *r, uint32_t ok) { /* ok: 0, or "the element exists" */
  const nni_rinstr *i = &e->p->instr[r->n];
  uint32_t a = load(e, r->type, r->acc), ia = r->acc_at ? load(e, e->u32, r->acc_at) : 0, x = running_argument(e, i), at = e->col;
  if (ok) x = nn_vk_pure(&e->o, OpSelect, r->type, IDS(ok, x, nn_vk_reduce_identity(&e->o, i->op, r->cls)));
  if (ok && ia) at = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok, at, uint_of(e, UINT32_MAX)));
  combine(e, r, &a, &ia, x, at);
  store(e, r->acc, a);
  if (r->acc_at) store(e, r->acc_at, ia);
}
/* the results of up to MAX_BATCH reductions: every invocation of the row has them afterwards */
static void join(emitter *e, running *r, int n) {
  uint32_t a, ia = 0, end;
  for (int k = 0; k < n && e->l.lanes > 1; k++) {
    r[k].sh = shared_array(e, &e->shared_value[r[k].cls][k], r[k].type);
    if (r[k].acc_at) r[k].sh_at = shared_array(e, &e->shared_at[k], e->u32);
    store(e, shared_at(e, r[k].sh, r[k].type, e->local), load(e, r[k].type, r[k].acc));
    if (r[k].acc_at) store(e, shared_at(e, r[k].sh_at, e->u32, e->local), load(e, e->u32, r[k].acc_at));
  }
  for (uint32_t s = e->l.lanes / 2; s > 0; s /= 2) {
    barrier(e);
    end = begin_if(e, op_bool(e, OpULessThan, e->lane, uint_of(e, s)));
    uint16_t outer = nn_vk_scope_enter(&e->o);
    uint32_t other = op_uint(e, OpIAdd, e->local, uint_of(e, s));
    for (int k = 0; k < n; k++) {
      uint32_t mine = shared_at(e, r[k].sh, r[k].type, e->local), my_at = r[k].acc_at ? shared_at(e, r[k].sh_at, e->u32, e->local) : 0, ib = 0;
      a = load(e, r[k].type, mine);
      if (my_at) ia = load(e, e->u32, my_at), ib = load(e, e->u32, shared_at(e, r[k].sh_at, e->u32, other));
      combine(e, &r[k], &a, &ia, load(e, r[k].type, shared_at(e, r[k].sh, r[k].type, other)), ib);
      store(e, mine, a);
      if (my_at) store(e, my_at, ia);
    }
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, end);
  }
  if (e->l.lanes > 1) barrier(e);
  uint32_t first = op_uint(e, OpISub, e->local, e->lane);
  for (int k = 0; k < n; k++) {
    const nni_rinstr *i = &e->p->instr[r[k].n];
    uint32_t type = r[k].acc_at ? e->u32 : r[k].type, from = r[k].acc_at ? r[k].acc_at : r[k].acc;
    if (e->l.lanes > 1) from = shared_at(e, r[k].acc_at ? r[k].sh_at : r[k].sh, type, first);
    a = load(e, type, from);
    if (r[k].acc_at) a = nn_vk_emit_widen(e, a);
    value v = {.cls = (uint8_t)(r[k].acc_at ? NNI_L : r[k].cls), .dtype = r[k].acc_at ? NN_I64 : i->dtype, .id = a};
    if (is_half(i->dtype) && !r[k].acc_at) v.dtype = NN_F32, v = nn_vk_emit_cast(e, v, a, (nn_dtype)i->dtype);
    e->v[r[k].n] = v;
    spread(e, r[k].n);
  }
  if (e->l.lanes > 1) barrier(e); /* before anybody writes there again */
}

/* which FULL values this loop has to make */
static void find_needed(emitter *e, int loop, int loops) {
  memset(e->need, 0, (size_t)e->p->ninstr);
  for (int n = e->p->ninstr - 1; n >= 0; n--) {
    if (!e->need[n] && !in_loop(e, n, loop, loops)) continue;
    for (int k = 0; k < nargs_of(&e->p->instr[n]); k++) {
      int a = e->p->instr[n].a[k];
      e->need[a] |= is_full(e, a) && !e->made[a];
    }
  }
}
/* Columns base, base + lanes, ...: their values, what they add to the reductions, their stores. first_ok: base is known to be inside. */
static void emit_columns(emitter *e, uint32_t base, uint32_t limit, bool first_ok, bool stores, const running *r, int nrun) {
  uint32_t at[MOST_EACH], ok[MOST_EACH], col[MOST_EACH], last = op_uint(e, OpISub, e->cols, uint_of(e, 1));
  for (uint32_t k = 0; k < e->l.each; k++) {
    at[k] = col[k] = k ? op_uint(e, OpIAdd, base, uint_of(e, k * e->l.lanes)) : base;
    ok[k] = k || !first_ok ? op_bool(e, OpULessThan, at[k], limit) : 0;
    if (ok[k]) col[k] = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(ok[k], at[k], last)); /* the last one once more: not added, not stored */
  }
  for (int n = 0; n < e->p->ninstr; n++)
    for (uint32_t k = 0; k < e->l.each && e->need[n]; k++) {
      slot(e, k);
      e->col = col[k];
      nn_vk_emit_value(e, n);
      e->made[n] = e->l.resident;
    }
  for (uint32_t k = 0; k < e->l.each; k++) {
    slot(e, k);
    e->col = col[k];
    for (int j = 0; j < nrun; j++) step_running(e, &r[j], ok[k]);
  }
  for (uint32_t k = 0; k < e->l.each && stores; k++) {
    uint32_t then = ok[k] ? begin_if(e, ok[k]) : 0;
    uint16_t outer = nn_vk_scope_enter(&e->o);
    slot(e, k);
    e->col = at[k];
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_STORE && is_full(e, n)) nn_vk_emit_store(e, &e->p->instr[n]);
    nn_vk_scope_leave(&e->o, outer);
    if (then) end_if(e, then);
  }
  slot(e, 0);
  e->col = 0;
}
/* all columns of the row, in a loop where they are many */
static void emit_loop(emitter *e, int loop, int loops, const running *r, int nrun) {
  module *o = &e->o;
  uint32_t limit = e->valid ? nn_vk_pure(o, OpSelect, e->u32, IDS(e->valid, e->cols, uint_of(e, 0))) : e->cols;
  find_needed(e, loop, loops);
  if (e->l.resident) {
    emit_columns(e, e->lane, limit, false, loop == loops - 1, r, nrun);
    return;
  }
  uint32_t var = local_variable(e, e->u32), head = nn_vk_id(o), test = nn_vk_id(o), body = nn_vk_id(o), next = nn_vk_id(o), end = nn_vk_id(o), base;
  store(e, var, e->lane);
  branch(e, head);
  label(e, head);
  uint16_t outer = nn_vk_scope_enter(o);
  nn_vk_put(o, &o->body, OpLoopMerge, IDS(end, next, 0));
  branch(e, test);
  label(e, test);
  base = load(e, e->u32, var);
  nn_vk_put(o, &o->body, OpBranchConditional, IDS(op_bool(e, OpULessThan, base, limit), body, end));
  label(e, body);
  emit_columns(e, base, limit, true, loop == loops - 1, r, nrun);
  branch(e, next);
  label(e, next);
  store(e, var, op_uint(e, OpIAdd, base, uint_of(e, e->l.lanes * e->l.each)));
  branch(e, head);
  nn_vk_scope_leave(o, outer);
  label(e, end);
}

/* what is known per row once `depth` reductions are done; r: room for the reductions of one loop */
static void emit_stages(emitter *e, running *r) {
  int loops = set_depths(e);
  for (int stage = 0; stage <= loops; stage++) {
    for (int n = 0; n < e->p->ninstr; n++)
      if (!is_full(e, n) && e->depth[n] == stage && e->p->instr[n].kind != NNI_R_REDUCE) {
        nn_vk_emit_value(e, n);
        spread(e, n);
      }
    int nrun = 0;
    if (stage == loops) return;
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_REDUCE && e->depth[n] == stage + 1) begin_running(e, &r[nrun++], n);
    if (nrun || stage == loops - 1) emit_loop(e, stage, loops, r, nrun);
    for (int k = 0; k < nrun; k += MAX_BATCH) join(e, r + k, nrun - k < MAX_BATCH ? nrun - k : MAX_BATCH);
  }
}
static void emit_rows(emitter *e, running *r) {
  uint32_t group = nn_vk_emit_group(e), end = begin_if(e, op_bool(e, OpULessThan, group, nn_vk_emit_info(e, INFO_GROUPS))), zero = uint_of(e, 0);
  bool row_stores = false;
  e->cols = nn_vk_emit_info(e, INFO_COLS);
  e->lane = e->local;
  e->row = group;
  if (e->l.per_group > 1) {
    uint32_t rows = nn_vk_emit_info(e, INFO_ROWS), last = op_uint(e, OpISub, rows, uint_of(e, 1));
    e->lane = op_uint(e, OpBitwiseAnd, e->local, uint_of(e, e->l.lanes - 1));
    e->row = op_uint(e, OpIAdd, op_uint(e, OpIMul, group, uint_of(e, e->l.per_group)), op_uint(e, OpUDiv, e->local, uint_of(e, e->l.lanes)));
    e->valid = op_bool(e, OpULessThan, e->row, rows);
    e->row = nn_vk_pure(&e->o, OpSelect, e->u32, IDS(e->valid, e->row, last)); /* others see the last row, and store nothing */
  }
  nn_vk_emit_bases(e);
  emit_stages(e, r);
  for (int n = 0; n < e->p->ninstr; n++) row_stores = row_stores || (e->p->instr[n].kind == NNI_R_STORE && !is_full(e, n));
  if (row_stores) {
    barrier(e);
    uint32_t who = op_bool(e, OpIEqual, e->lane, zero), then = begin_if(e, e->valid ? op_bool(e, OpLogicalAnd, who, e->valid) : who);
    uint16_t outer = nn_vk_scope_enter(&e->o);
    for (int n = 0; n < e->p->ninstr; n++)
      if (e->p->instr[n].kind == NNI_R_STORE && !is_full(e, n)) nn_vk_emit_store(e, &e->p->instr[n]);
    nn_vk_scope_leave(&e->o, outer);
    end_if(e, then);
  }
  end_if(e, end);
}

/* ---- the module -------------------------------------------------------------------------------------------------------------- */
static bool has_doubles(const nni_program *p) {
  bool d = false;
  for (int i = 0; i < p->ninstr; i++) d = d || p->instr[i].cls == NNI_D || p->instr[i].opcls == NNI_D || p->instr[i].dtype == NN_F64;
  for (int i = 0; i < p->nin; i++) d = d || p->in[i].dtype == NN_F64;
  for (int i = 0; i < p->nout; i++) d = d || p->out[i].dtype == NN_F64;
  return d;
}

nn_status nn_vk_emit(nni_memory *m, const nni_program *p, uint32_t features, nn_vk_module *out, nni_error *err) {
  emitter e = {.p = p, .l = nn_vk_layout_of(p)};
  size_t n = (size_t)p->ninstr, bytes = n * (e.l.each * sizeof(value) + sizeof(running) + 3);
  running *r;
  bool done;
  *out = (nn_vk_module){.words = NULL};
  if (has_doubles(p)) return nni_fail(err, NN_EDTYPE, "Vulkan devices do not compute in f64; cast to f32, or use the CPU");
  r = nni_calloc(m, bytes);
  if (!r) return nni_fail(err, NN_ENOMEM, "no memory for a shader");
  e.all = e.v = (value *)(void *)(r + n);
  e.depth = (uint8_t *)(e.v + n * e.l.each);
  e.need = e.depth + n;
  e.made = e.need + n;
  nn_vk_module_start(&e.o, m);
  nn_vk_emit_declare(&e);
  e.local = nn_vk_emit_builtin(&e, BUILTIN_LOCAL_INDEX, e.u32);
  if (e.l.rows) emit_rows(&e, r);
  else emit_elements(&e);
  done = nn_vk_module_finish(&e.o, e.l.workgroup, features, &out->words, &out->nwords);
  nn_vk_module_close(&e.o);
  nni_free(m, r, bytes);
  return done ? NN_OK : nni_fail(err, NN_ENOMEM, "no memory for a shader");
}
