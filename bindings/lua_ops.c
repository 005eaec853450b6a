/* bindings/lua_ops.c - every row of the operator table as a Lua function and a tensor method: one C function driven by the signature.
**
** Here, and only here, 1-based dims and positions become 0-based and back: D, DL, PL and TI arguments, TI results.
** Conversion never raises in the middle: it notes the first error, gives back what it made, and then raises.
*/
#include <stdio.h>
#include <string.h>
#include "nnL.h"
#include "ops/signature.h"

#define MAXINTS 64
#define MAXLIST 250
typedef struct call {
  lua_State *L;
  nnL_state *state;
  const nn_op *op;
  const nni_sig *sig;
  nn_arg arg[NN_MAXARG];
  int64_t ints[MAXINTS];
  int nints;
  nn_tensor *list[MAXLIST];
  nn_tensor *temp[4]; /* made by conversion */
  int ntemp;
  bool failed;
  char text[600];
} call;

static bool fail(call *c, const char *fmt, ...) {
  if (c->failed) return false;
  va_list ap;
  va_start(ap, fmt);
  int n = snprintf(c->text, sizeof c->text, "%s: ", nn_op_name(c->op));
  vsnprintf(c->text + n, sizeof c->text - (size_t)n, fmt, ap);
  va_end(ap);
  c->failed = true;
  return false;
}

/* upvalues of an operator's function */
#define UP_OP lua_upvalueindex(1)
#define UP_STATE lua_upvalueindex(2)
#define UP_METATABLE lua_upvalueindex(3)

static nn_tensor *tensor_at(call *c, int i) {
  nnL_box *b = nnL_testbox(c->L, i);
  if (!b) return NULL;
  if (!b->t) fail(c, "a tensor argument is gone: its scope has ended or it was freed");
  else if (c->state->jit && nn_jit_recording(c->state->ctx)) nnL_jit_touch(c->L, b, i);
  return b->t;
}

static bool integer_at(call *c, int i, const char *name, int64_t *v) {
  int ok;
  *v = lua_tointegerx(c->L, i, &ok);
  if (ok && lua_type(c->L, i) == LUA_TNUMBER) return true;
  return fail(c, "argument '%s' must be an integer, got %s", name, lua_type(c->L, i) == LUA_TNUMBER ? lua_tostring(c->L, i) : luaL_typename(c->L, i));
}

static bool dim_of(call *c, const char *name, int64_t *v) {
  if (*v == 0) return fail(c, "argument '%s' is dim 0: dims count from 1, or from -1 at the end", name);
  if (*v > 0) (*v)--;
  return true;
}

static bool position_of(call *c, const char *name, int64_t *v) {
  if (*v < 1) return fail(c, "argument '%s' has position %lld: positions count from 1", name, (long long)*v);
  (*v)--;
  return true;
}

/* a number, or a list of numbers at i; `upto` the last stack index to collect when numbers stand side by side */
static bool ints_at(call *c, int i, int upto, const nni_param_spec *p, nn_arg *a) {
  lua_State *L = c->L;
  int64_t *v = &c->ints[c->nints];
  int n = 0;
  bool table = lua_istable(L, i);
  int64_t count = table ? (int64_t)lua_rawlen(L, i) : upto - i + 1;
  if (!table && lua_type(L, i) != LUA_TNUMBER) return fail(c, "argument '%s' must be a list of integers, got %s", p->name, luaL_typename(L, i));
  if (c->nints + count > MAXINTS) return fail(c, "argument '%s' is too long", p->name);
  for (; n < count; n++) {
    bool ok;
    if (table) {
      lua_rawgeti(L, i, n + 1);
      ok = integer_at(c, lua_gettop(L), p->name, &v[n]);
      lua_pop(L, 1);
    } else ok = integer_at(c, i + n, p->name, &v[n]);
    if (ok && p->type == NNI_A_DL) ok = dim_of(c, p->name, &v[n]);
    if (ok && p->type == NNI_A_PL) ok = position_of(c, p->name, &v[n]);
    if (!ok) return false;
  }
  c->nints += n;
  *a = NN_INTS(n, v);
  return true;
}

static bool list_at(call *c, int i, const char *name, nn_arg *a) {
  lua_State *L = c->L;
  if (!lua_istable(L, i)) return fail(c, "argument '%s' must be a list of tensors, got %s", name, luaL_typename(L, i));
  int n = (int)lua_rawlen(L, i);
  if (n > MAXLIST) return fail(c, "%d tensors, at most %d are possible in one call", n, MAXLIST);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, i, k + 1);
    c->list[k] = tensor_at(c, lua_gettop(L));
    lua_pop(L, 1); /* the table holds it */
    if (!c->list[k]) return fail(c, "entry %d of '%s' is no tensor", k + 1, name);
  }
  *a = NN_TENSORS(n, c->list);
  return true;
}

/* where the tensors lie that were read so far */
static int device_among(const call *c) {
  for (int k = 0; k < c->sig->n; k++) /* the places behind were never filled */
    if (c->arg[k].kind == NN_ARG_TENSOR) return nn_device_of(c->arg[k].u.t);
  return nn_device(nnL_context(c->L));
}

/* positions: a tensor of 1-based ids, or a list of integers */
static bool ids_at(call *c, int i, const char *name, nn_arg *a) {
  nn_context *ctx = nnL_context(c->L);
  nn_tensor *t = tensor_at(c, i), *z = NULL;
  if (t) {
    if (nn_dtype_is_float(nn_dtype_of(t)) || nn_dtype_of(t) == NN_BOOL) return fail(c, "argument '%s' must hold integers (positions from 1), its dtype is %s", name, nn_dtype_name(nn_dtype_of(t)));
    nn_tensor *w = nn_dtype_of(t) == NN_I64 ? nn_retain(t) : nn_call(ctx, "cast", NN_T(t), NN_I(NN_I64));
    z = w ? nn_call(ctx, "sub", NN_T(w), NN_I(1)) : NULL;
    nn_release(w);
  } else if (lua_istable(c->L, i)) {
    int64_t v[MAXINTS];
    int64_t n = (int64_t)lua_rawlen(c->L, i);
    if (n > MAXINTS) return fail(c, "argument '%s': a list longer than %d must be a tensor", name, MAXINTS);
    for (int k = 0; k < n; k++) {
      lua_rawgeti(c->L, i, k + 1);
      bool ok = integer_at(c, lua_gettop(c->L), name, &v[k]) && position_of(c, name, &v[k]);
      lua_pop(c->L, 1);
      if (!ok) return false;
    }
    z = nnL_place(nn_tensor_new(ctx, NN_I64, 1, &n, v), device_among(c));
  } else return fail(c, "argument '%s' must be a tensor of positions, got %s", name, luaL_typename(c->L, i));
  if (!z) return fail(c, "%s", nn_error(ctx));
  c->temp[c->ntemp++] = z;
  *a = NN_T(z);
  return true;
}

static bool convert(call *c, int i, int upto, const nni_param_spec *p, nn_arg *a) {
  lua_State *L = c->L;
  int64_t v;
  nn_tensor *t;
  if ((p->type == NNI_A_T || p->type == NNI_A_TF) && (t = tensor_at(c, i))) { /* mostly */
    *a = NN_T(t);
    return true;
  }
  int type = lua_type(L, i);
  if (type == LUA_TNIL || type == LUA_TNONE) return true; /* the default */
  switch (p->type) {
    case NNI_A_T:
    case NNI_A_TF:
      if (p->type == NNI_A_TF && type == LUA_TNUMBER) *a = lua_isinteger(L, i) ? NN_I(lua_tointeger(L, i)) : NN_F(lua_tonumber(L, i));
      else if (p->type == NNI_A_TF && type == LUA_TBOOLEAN) *a = NN_I(lua_toboolean(L, i));
      else return fail(c, "argument '%s' must be %s, got %s", p->name, p->type == NNI_A_T ? "a tensor" : "a tensor or a number", luaL_typename(L, i));
      return true;
    case NNI_A_TI: return ids_at(c, i, p->name, a);
    case NNI_A_TL: return list_at(c, i, p->name, a);
    case NNI_A_F:
      if (type != LUA_TNUMBER) return fail(c, "argument '%s' must be a number, got %s", p->name, luaL_typename(L, i));
      *a = NN_F(lua_tonumber(L, i));
      return true;
    case NNI_A_B:
      if (type != LUA_TBOOLEAN) return fail(c, "argument '%s' must be true or false, got %s", p->name, luaL_typename(L, i));
      *a = NN_I(lua_toboolean(L, i));
      return true;
    case NNI_A_TD:
      t = tensor_at(c, i);
      if (t) {
        *a = NN_T(t);
        return true;
      }
      if (type != LUA_TNUMBER) return fail(c, "argument '%s' must be a tensor or a dim, got %s", p->name, luaL_typename(L, i)); /* fall through */
    case NNI_A_I:
    case NNI_A_D:
      if (!integer_at(c, i, p->name, &v) || (p->type != NNI_A_I && !dim_of(c, p->name, &v))) return false;
      *a = NN_I(v);
      return true;
    case NNI_A_Y: {
      nn_dtype d;
      const char *s = type == LUA_TSTRING ? lua_tostring(L, i) : NULL;
      if (!s || !nn_dtype_from_name(s, &d)) return fail(c, "argument '%s' must be a dtype (bool, u8, i32, i64, f16, bf16, f32, f64), got %s", p->name, s ? s : luaL_typename(L, i));
      *a = NN_I(d);
      return true;
    }
    case NNI_A_S:
      if (type != LUA_TSTRING) return fail(c, "argument '%s' must be a word (a string), got %s", p->name, luaL_typename(L, i));
      *a = NN_TEXT(lua_tostring(L, i));
      return true;
    case NNI_A_PAD:
      if (type == LUA_TSTRING) {
        *a = NN_TEXT(lua_tostring(L, i));
        return true;
      } /* fall through */
    case NNI_A_I2:
      if (type == LUA_TNUMBER) {
        if (!integer_at(c, i, p->name, &v)) return false;
        *a = NN_I(v);
        return true;
      } /* fall through */
    default: return ints_at(c, i, upto, p, a);
  }
}

static const nni_param_spec *find_param(const call *c, const char *name, int *k) {
  for (*k = 0; *k < c->sig->n; (*k)++)
    if (strcmp(c->sig->p[*k].name, name) == 0) return &c->sig->p[*k];
  return NULL;
}

/* {dim = 2, keepdim = true} */
static bool named(call *c, int i, int positional) {
  lua_State *L = c->L;
  lua_pushnil(L);
  while (lua_next(L, i)) {
    int k, value = lua_gettop(L);
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    const nni_param_spec *p = key ? find_param(c, key, &k) : NULL;
    bool ok;
    if (!p) ok = fail(c, "unknown option '%s' (%s)", key ? key : "?", nn_op_signature(c->op));
    else if (k < positional) ok = fail(c, "argument '%s' is given twice", key);
    else ok = convert(c, value, value, p, &c->arg[k]);
    if (!ok) return lua_settop(L, value - 2), false;
    lua_settop(L, value - 1); /* values stay alive in the options table */
  }
  return true;
}

static bool is_options(lua_State *L, int i) {
  if (!lua_istable(L, i)) return false;
  lua_rawgeti(L, i, 1);
  bool list = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (list) return false;
  lua_pushnil(L);
  bool any = lua_next(L, i) != 0;
  if (any) lua_pop(L, 2);
  return any;
}

/* arguments 1..top of the stack */
static bool parse(call *c, int top) {
  lua_State *L = c->L;
  int n = top;
  bool options = top > 0 && is_options(L, top);
  if (options) n--;
  int last = c->sig->n - 1;
  bool spread = last >= 0 && n > last + 1 && (c->sig->p[last].type == NNI_A_IL || c->sig->p[last].type == NNI_A_DL) && lua_type(L, last + 1) == LUA_TNUMBER;
  if (n > c->sig->n && !spread) return fail(c, "%d arguments, at most %d are possible (%s)", n, c->sig->n, nn_op_signature(c->op));
  for (int k = 0; k < c->sig->n; k++) c->arg[k].kind = NN_ARG_NONE;
  int k = 0;
  for (; k < c->sig->n && k < n; k++) {
    if (!convert(c, k + 1, spread && k == last ? n : k + 1, &c->sig->p[k], &c->arg[k])) return false;
  }
  return options ? named(c, top, k) : true;
}

static bool shift_ids(call *c, nn_tensor **out, int nout) {
  for (int k = 0; k < nout && k < c->sig->nresult; k++) {
    if (!c->sig->index_result[k]) continue;
    nn_tensor *one = nn_call(nn_context_of(out[k]), "add", NN_T(out[k]), NN_I(1));
    if (!one) return false;
    nn_release(out[k]);
    out[k] = one;
  }
  return true;
}

static int call_op(lua_State *L) {
  call c;
  c.L = L;
  c.op = lua_touserdata(L, UP_OP);
  nnL_state *state = c.state = lua_touserdata(L, UP_STATE);
  c.sig = nni_op_sig(c.op);
  c.nints = c.ntemp = 0;
  c.failed = false;
  nn_tensor *out[NN_MAXOUT];
  nnL_box *box[NN_MAXOUT];
  int nout = 0, nargs = lua_gettop(L), nresult = c.sig->nresult;
  for (int k = 0; k < nresult; k++) box[k] = nnL_newbox_in(L, state, UP_METATABLE); /* before anything native is made; with these and what conversion pushes the stack stays below LUA_MINSTACK */
  if (state->lines) nn_set_line(state->ctx, nnL_line(L));
  nn_status st = parse(&c, nargs) ? nn_op_call(state->ctx, c.op, c.arg, c.sig->n, out, &nout) : NN_OK;
  if (nout && !shift_ids(&c, out, nout)) {
    for (int k = 0; k < nout; k++) nn_release(out[k]);
    nout = 0;
    st = NN_ENOMEM;
  }
  while (c.ntemp > 0) nn_release(c.temp[--c.ntemp]);
  for (int k = 0; k < nout; k++) {
    if (k < nresult) box[k]->t = out[k];
    else nn_release(out[k]);
  }
  if (c.failed) return nnL_raise(L, "%s", c.text);
  nnL_check(L, st);
  if (nout < nresult) nresult = nout; /* max without dim has one result */
  lua_settop(L, nargs + nresult);
  nnL_pace_in(L, state);
  return nresult;
}

/* rows of the table for help, docs and tests */
static int list_ops(lua_State *L) {
  const nn_op *op;
  lua_newtable(L);
  for (int i = 0; (op = nn_op_at(i)); i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, nn_op_name(op));
    lua_setfield(L, -2, "name");
    lua_pushstring(L, nn_op_signature(op));
    lua_setfield(L, -2, "signature");
    lua_pushstring(L, nn_op_doc(op));
    lua_setfield(L, -2, "doc");
    lua_pushboolean(L, nn_op_differentiable(op));
    lua_setfield(L, -2, "differentiable");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* a + b and the like: the operator's function as a metamethod */
static const char *const meta[][2] = {{"__add", "add"}, {"__sub", "sub"}, {"__mul", "mul"}, {"__div", "div"}, {"__pow", "pow"},
                                     {"__idiv", "floor_div"}, {"__mod", "mod"}, {"__band", "bitwise_and"}, {"__bor", "bitwise_or"},
                                     {"__bxor", "bitwise_xor"}, {"__shl", "bitwise_left_shift"}, {"__shr", "bitwise_right_shift"}};

/* Lua turns what < and <= give into true or false, so they can't compare element by element */
static int call_order(lua_State *L) { return nnL_raise(L, "tensors have no order: compare element by element with a:lt(b), a:le(b), a:gt(b), a:ge(b)"); }

static int call_neg(lua_State *L) {
  lua_settop(L, 1); /* Lua passes the operand twice */
  return call_op(L);
}

static void push_op(lua_State *L, const nn_op *op, lua_CFunction f) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)op);
  lua_pushlightuserdata(L, nnL_getstate(L));
  luaL_getmetatable(L, NNL_TENSOR);
  lua_pushcclosure(L, f, 3);
}

void nnL_open_ops(lua_State *L) {
  const nn_op *op;
  int core = lua_gettop(L);
  luaL_getmetatable(L, NNL_TENSOR);
  lua_getfield(L, -1, "methods");
  for (int i = 0; (op = nn_op_at(i)); i++) {
    push_op(L, op, call_op);
    lua_pushvalue(L, -1);
    lua_setfield(L, core, nn_op_name(op));
    lua_setfield(L, -2, nn_op_name(op));
  }
  for (int i = 0; i < (int)(sizeof meta / sizeof meta[0]); i++) {
    lua_getfield(L, core, meta[i][1]);
    lua_setfield(L, -3, meta[i][0]);
  }
  lua_pushcfunction(L, call_order);
  lua_setfield(L, -3, "__lt");
  lua_pushcfunction(L, call_order);
  lua_setfield(L, -3, "__le");
  push_op(L, nn_op_find("neg"), call_neg);
  lua_setfield(L, -3, "__unm");
  push_op(L, nn_op_find("bitwise_not"), call_neg);
  lua_setfield(L, -3, "__bnot");
  lua_settop(L, core);
  lua_pushcfunction(L, list_ops);
  lua_setfield(L, core, "ops");
}
