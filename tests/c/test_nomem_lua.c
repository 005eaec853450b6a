/* tests/c/test_nomem_lua.c - the sweep of test_nomem.c through Lua: Lua's requests and the runtime's are counted together, and the N-th is
** refused, for every N.
**
** Scripts set up without failures; then step() is disturbed. Afterwards the same step run again, undisturbed, must give the reference's
** bytes, and closing the state must leave nothing alive. Linked with --wrap=nn_open, so that the context which the bindings open uses the
** failing allocator too.
*/
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>
#include "../../bindings/nnL.h"
#include "nomem.h"

static int failures;
static nomem *hook; /* of the state that is open */

nn_status __real_nn_open(const nn_options *opt, nn_context **out);
nn_status __wrap_nn_open(const nn_options *opt, nn_context **out);
nn_status __wrap_nn_open(const nn_options *opt, nn_context **out) {
  nn_options o = opt ? *opt : (nn_options){0};
  o.alloc = nomem_alloc;
  o.alloc_ud = hook;
  o.threads = 1;
  return __real_nn_open(&o, out);
}

/* Lua gives a type tag as the size of nothing. */
static void *lua_alloc(void *ud, void *p, size_t osize, size_t nsize) { return nomem_alloc(ud, p, p ? osize : 0, nsize); }

lua_State *__wrap_luaL_newstate(void);
lua_State *__wrap_luaL_newstate(void) { return lua_newstate(lua_alloc, hook); } /* the states of workers */

/* Each script returns step and state: step() may fail anywhere; state() gives what it changes, as one string. */
typedef struct job {
  const char *name, *script;
  bool threads; /* requests come in no certain order */
} job;

static const job jobs[] = {
    {.name = "core", .script = "local nn = require 'nnlua.core'\n"
             "local w, b = nn.randn(5, 4):requires_grad(true), nn.zeros(4):requires_grad(true)\n"
             "local m, v = { nn.zeros(5, 4), nn.zeros(4) }, { nn.zeros(5, 4), nn.zeros(4) }\n"
             "local x, y = nn.rand(6, 5):eval(), nn.tensor { 1, 4, 2, 3, 1, 2 }\n"
             "local t = 0\n"
             "local function step()\n"
             "  nn.seed(3)\n"
             "  local scope <close> = nn.scope()\n"
             "  w:set_grad(nil) b:set_grad(nil)\n"
             "  local h = nn.linear(x[{ { 1, 6 }, {} }], w, b)\n"
             "  local z = nn.dropout(h, 0.2) + nn.cat({ h[{ {}, { 1, 2 } }], h[{ {}, { 3, 4 } }] }, 2) * 0.5\n"
             "  z[1] = 2\n"
             "  z[{ {}, 2 }] = z[{ {}, 1 }] * 2\n"
             "  local picked = z:index_select(1, { 6, 5, 4, 3, 2, 1 })\n"
             "  local loss = nn.softmax_cross_entropy(picked, y):mean() + z:sum { dim = 1, keepdim = true }:square():mean()\n"
             "  local gw = nn.grad(loss, { w, b }, { retain_graph = true })\n"
             "  loss = loss + (gw * gw):sum() * 0.01\n"
             "  loss:backward()\n"
             "  nn.adam_step({ w, b }, m, v, { lr = 0.01, step = t + 1 })\n"
             "  t = t + 1\n"
             "  local a = z:detach():argmax(-1)\n"
             "  do local _ <close> = nn.no_grad() a = (a + 1):to('f32'):clone() end\n"
             "  assert(#a:totable() == 6 and loss:item() == loss:item() and a:tostring_bytes())\n"
             "end\n"
             "return step, function()\n"
             "  local s = {}\n"
             "  for _, p in ipairs { w, b, m[1], m[2], v[1], v[2] } do s[#s + 1] = p:tostring_bytes() end\n"
             "  return table.concat(s)\n"
             "end\n"},
    {.name = "library", .script =
     "local nn = require 'nnlua'\n"
     "nn.seed(1)\n"
     "local net = nn.Sequential { nn.Input { 6, 6, 1 }, nn.Rescaling { 1 / 255 }, nn.Conv2D { 3, 3, activation = 'relu' }, nn.MaxPooling2D { 2 },\n"
     "  nn.Flatten {}, nn.Dense { 8, init = 'he_normal' }, nn.BatchNorm {}, nn.LeakyReLU { 0.01 }, nn.Dropout { 0.2 }, nn.Dense { 4 } }\n"
     "net:train()\n"
     "local opt = nn.optim.Adam { net:parameters(), lr = 1e-3 }\n"
     "local pixels = {}\n"
     "for i = 1, 6 * 36 do pixels[i] = string.char(i * 37 % 256) end\n"
     "local x, y = nn.from_string(table.concat(pixels), 'u8', { 6, 6, 6, 1 }), nn.tensor { 1, 4, 2, 3, 1, 2 }\n"
     "local function step()\n"
     "  nn.seed(3)\n"
     "  local loss = nn.losses.cross_entropy(net(x), y)\n"
     "  opt:zero_grad()\n"
     "  loss:backward()\n"
     "  opt:step()\n"
     "  return loss:item()\n"
     "end\n"
     "return step, function()\n"
     "  local s = {}\n"
     "  for _, p in ipairs(net:parameters()) do s[#s + 1] = p:tostring_bytes() end\n"
     "  for _, slot in ipairs(opt:state().slots) do s[#s + 1] = slot.tensor:tostring_bytes() end\n"
     "  return table.concat(s)\n"
     "end\n"},
    {.name = "data", .script = "local nn = require 'nnlua'\n"
             "local x, y = nn.arange(0, 10):reshape { 5, 2 }:eval(), nn.tensor { 1, 2, 3, 1, 2 }\n"
             "local result = 'none'\n"
             "local function step()\n"
             "  local ds = nn.data.from_tensors { x, y }:map(function(a, b) return a * 2, b end):shuffle(6, { seed = 5 "
             "}):repeated(2):skip(1):take(15):batch(4)\n"
             "  local sums = {}\n"
             "  for a, b in ds:iter() do sums[#sums + 1] = a:sum():item() .. ' ' .. b:sum():item() end\n"
             "  local train = nn.datasets.digits { train = 5, test = 2 }\n"
             "  for a in train:batch(5):iter() do sums[#sums + 1] = a:float():sum():item() end\n"
             "  result = table.concat(sums, ' ')\n"
             "end\n"
             "return step, function() return result end\n"},
    {.name = "extras", .script = "local nn = require 'nnlua'\n"
               "local x = nn.tensor { 0.5, -0.25, 2 }\n"
               "local clip = nn.custom { forward = function(a) return a:clamp(-1, 1), a end, backward = function(d, a) return d * a end }\n"
               "local result = 'none'\n"
               "local function step()\n"
               "  local v = x:clone():requires_grad(true)\n"
               "  local hooked = nn.hook(v, function(d) return d * 2 end)\n"
               "  clip(hooked):square():sum():backward()\n"
               "  local _, h = nn.hvp(function(a) return (a * a * a):sum() end, x, nn.ones(3))\n"
               "  local g = nn.graph(function(a) return (a * 2 + 1):relu():sum() end, x)\n" /* may be empty: a trace costs no run its result */
               "  assert(#g:dot() > 0 and #tostring(g) > 0)\n"
               "  local tall = nn.stack({ x, x }, 1)\n"
               "  tall[x:gt(0):unsqueeze(1):expand { 2, 3 }] = 0\n"
               "  local picked = tall[nn.tensor { 2, 1, 2 }][{ { 1, 3, 2 }, { -2, -1 } }]\n"
               "  result = table.concat({ v:grad():tostring_bytes(), h:tostring_bytes(), picked:tostring_bytes() }, ' ')\n"
               "end\n"
               "return step, function() return result end\n"},
    {.name = "jit", .script = "local nn = require 'nnlua'\n"
            "local x, h, result = nn.tensor { 0.5, -0.25, 2 }, nn.zeros(3), 'none'\n"
            "nn.eval()\n"
            "local function step()\n"
            "  local w = h:clone()\n"
            "  local f = nn.jit(function(a, t)\n"
            "    w:assign(w + a * t.k)\n"
            "    return { y = w:exp(), name = 'y' }\n"
            "  end)\n"
            "  local sums = {}\n"
            "  for i = 1, 3 do sums[i] = f(x, { k = x }).y:sum():item() end\n" /* short of memory it may call the function: no other result */
            "  result = table.concat(sums, ' ') .. w:tostring_bytes()\n"
            "end\n"
            "return step, function() return result end\n"},
    /* A function is copied to a worker's state and run there. The library of the workers is the core, or opening it would be most of the time. */
    {.name = "worker", .script = "local nn = require 'nnlua.core'\n"
               "local folder = os.tmpname()\n"
               "os.remove(folder)\n"
               "assert(nn.sys.mkdir_p(folder))\n"
               "local f = assert(io.open(folder .. '/nnlua.lua', 'w'))\n"
               "f:write 'return require \"nnlua.core\"'\n"
               "f:close()\n"
               "package.path = folder .. '/?.lua'\n"
               "setmetatable(package, { __gc = function() os.remove(folder .. '/nnlua.lua') os.remove(folder) end })\n"
               "local x, by = nn.tensor { 1, 2, 3 }, { k = 2, t = nn.tensor { 5 }, list = { 'a', 'b', { 1.5 } } }\n"
               "local function more(v) return v + by.t end\n"
               "local meta = setmetatable({}, { __index = function(_, k) return k .. by.list[1] end })\n"
               "local result = 'none'\n"
               "local function step()\n"
               "  local d = nn.pipeline.parallel(nn.pipeline.tensors(x), function(v) return #meta.key == 4 and more(v * by.k) end, 1, 7)\n"
               "  local got = {}\n"
               "  local pass <close> = nn.pipeline.open(d)\n"
               "  for v in pass do got[#got + 1] = v:tostring_bytes() end\n"
               "  assert(#got == 3)\n"
               "  result = table.concat(got)\n"
               "end\n"
               "return step, function() return result end\n", .threads = true},
};

/* ---- the library, compiled once: parsing it again for every N would be most of the time ---- */
typedef struct chunk {
  char name[64], *code;
  size_t n;
} chunk;
static chunk chunks[64];
static int nchunk;

static int append(lua_State *L, const void *p, size_t n, void *ud) {
  chunk *c = ud;
  (void)L;
  char *q = realloc(c->code, c->n + n);
  if (!q) return 1;
  memcpy(q + c->n, p, n);
  c->code = q;
  c->n += n;
  return 0;
}

/* A searcher of package.searchers: name -> loader. */
static int find_chunk(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  int i = 0;
  while (i < nchunk && strcmp(chunks[i].name, name) != 0) i++;
  if (i < nchunk) return luaL_loadbufferx(L, chunks[i].code, chunks[i].n, name, "b") == LUA_OK ? 1 : lua_error(L);
  luaL_gsub(L, name, ".", "/");
  lua_pushfstring(L, "%s/%s%s.lua", NOMEM_LUA, lua_tostring(L, -1), strcmp(name, "nnlua") == 0 ? "/init" : "");
  if (luaL_loadfilex(L, lua_tostring(L, -1), "t") != LUA_OK) return lua_error(L);
  if (nchunk < (int)(sizeof chunks / sizeof *chunks) && strlen(name) < sizeof chunks->name) {
    strcpy(chunks[nchunk].name, name);
    if (lua_dump(L, append, &chunks[nchunk], 0) == 0) nchunk++;
  }
  return 1;
}

static int open_all(lua_State *L) {
  luaL_openlibs(L);
  luaL_requiref(L, "nnlua.core", luaopen_nnlua_core, 0);
  lua_getglobal(L, "package");
  lua_createtable(L, 1, 0);
  lua_pushcfunction(L, find_chunk);
  lua_rawseti(L, -2, 1);
  lua_setfield(L, -2, "searchers");
  return 0;
}

enum { STEP = 1, STATE }; /* stack */
static int set_up(lua_State *L) {
  const job *j = lua_touserdata(L, 1);
  lua_settop(L, 0);
  open_all(L);
  lua_settop(L, 0);
  if (luaL_loadbufferx(L, j->script, strlen(j->script), j->name, "t") != LUA_OK) return lua_error(L);
  lua_call(L, 0, 2);
  return 2;
}

static bool complain(const job *j, nomem_mode mode, long long at, const char *what, lua_State *L) {
  const char *more = L && lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (++failures <= 20) fprintf(stderr, "%s, %s request %lld: %s: %s\n", j->name, mode == NOMEM_ONCE ? "failing" : "failing from", at, what, more);
  return false;
}

static lua_State *state_open(const job *j, nomem *h) {
  hook = h;
  lua_State *L = lua_newstate(lua_alloc, h);
  if (!L) return NULL;
  lua_pushcfunction(L, set_up);
  lua_pushlightuserdata(L, (void *)(uintptr_t)j);
  if (lua_pcall(L, 1, 2, 0) != LUA_OK) complain(j, NOMEM_NEVER, 0, "set-up", L);
  return L;
}

static int call(lua_State *L, int which, int nresults) {
  lua_pushvalue(L, which);
  return lua_pcall(L, 0, nresults, 0);
}

typedef struct text {
  size_t n;
  char *s;
} text;

static bool same(lua_State *L, const text *t) { /* state() against t */
  size_t n;
  if (call(L, STATE, 1) != LUA_OK) return false;
  const char *s = lua_tolstring(L, -1, &n);
  bool is = s && n == t->n && memcmp(s, t->s, n) == 0;
  lua_settop(L, 2);
  return is;
}

static bool take(lua_State *L, text *t) {
  const char *s = call(L, STATE, 1) == LUA_OK ? lua_tolstring(L, -1, &t->n) : NULL;
  t->s = s ? malloc(t->n + 1) : NULL;
  if (t->s) memcpy(t->s, s, t->n);
  lua_settop(L, 2);
  return t->s != NULL;
}

typedef struct tally {
  long long requests, failed, finished;
} tally;

static bool disturb(const job *j, nomem_mode mode, long long at, const text *before, const text *after, tally *t) {
  nomem h = {0};
  lua_State *L = state_open(j, &h);
  if (!L) return complain(j, mode, at, "no state", NULL);
  nomem_arm(&h, mode, at);
  lua_pushvalue(L, STEP); /* the stack has room: nothing is asked for */
  int st = lua_pcall(L, 0, 0, 0);
  bool reached = h.calls >= at;
  nomem_arm(&h, NOMEM_NEVER, 0);
  if (st != LUA_OK) {
    t->failed++;
    const char *s = lua_tostring(L, -1);
    if (!s || !(strstr(s, "out of memory") || strstr(s, "not enough memory"))) complain(j, mode, at, "another error than out of memory", L);
  } else if (reached) t->finished++;
  lua_settop(L, 2);
  bool over = same(L, after);
  if (!over) {
    if (st == LUA_OK || !same(L, before)) complain(j, mode, at, "parameters are neither those before the step nor those after it", NULL);
    else if (call(L, STEP, 0) != LUA_OK) complain(j, mode, at, "the step failed again", L);
    else if (!same(L, after)) complain(j, mode, at, "the step run again gives other parameters", NULL);
  }
  lua_close(L);
  if (!nomem_clean(&h, j->name, mode, at)) failures++;
  return reached;
}

static void sweep(const job *j) {
  nomem h = {0};
  text before = {0}, after = {0};
  lua_State *L = state_open(j, &h);
  if (L && lua_gettop(L) == STATE) { /* once before counting, so that all chunks are there */
    call(L, STEP, 0);
    lua_close(L);
    L = state_open(j, &h);
  }
  if (!L || lua_gettop(L) != STATE || !take(L, &before)) {
    complain(j, NOMEM_NEVER, 0, "cannot open", L);
    return;
  }
  nomem_arm(&h, NOMEM_NEVER, 0);
  bool ok = call(L, STEP, 0) == LUA_OK;
  tally t[2] = {{.requests = h.calls}, {.requests = h.calls}};
  ok = ok && take(L, &after) && !same(L, &before);
  if (!ok) complain(j, NOMEM_NEVER, 0, "the undisturbed step fails or changes nothing", L);
  lua_close(L);
  if (!nomem_clean(&h, j->name, NOMEM_NEVER, 0)) failures++;
  for (int k = 0; ok && k < 2 && failures < 20; k++) {
    long long at = 1;
    while (disturb(j, k ? NOMEM_ONWARD : NOMEM_ONCE, at, &before, &after, &t[k]) && failures < 20) at++;
  }
  printf("%-8s %4lld requests; one fails: %lld steps fail, %lld absorb it; all fail from there on: %lld fail, %lld absorb it\n", j->name,
         t[0].requests, t[0].failed, t[0].finished, t[1].failed, t[1].finished);
  if (ok && t[1].failed < t[1].requests / 2) complain(j, NOMEM_ONWARD, 0, "hardly any step failed: is the hook in use?", NULL);
  free(before.s);
  free(after.s);
}

/* Opening the module: whatever fails, nothing is left behind. */
static void sweep_open(void) {
  static const job opening = {.name = "opening", .script = ""};
  long long failed = 0, at = 1;
  for (int mode = NOMEM_ONCE; mode <= NOMEM_ONWARD; mode++) {
    bool reached = true;
    for (at = 1; reached && failures < 20; at++) {
      nomem h = {0};
      hook = &h;
      nomem_arm(&h, (nomem_mode)mode, at);
      lua_State *L = lua_newstate(lua_alloc, &h);
      reached = h.failed > 0;
      if (L) {
        lua_pushcfunction(L, open_all);
        int st = lua_pcall(L, 0, 0, 0);
        reached = h.failed > 0;
        if (st != LUA_OK) {
          failed++;
          const char *s = lua_tostring(L, -1);
          if (!reached || !s || !strstr(s, "memory")) complain(&opening, (nomem_mode)mode, at, "opening", L);
        }
        lua_close(L);
      }
      if (!nomem_clean(&h, "opening", (nomem_mode)mode, at)) failures++;
    }
  }
  printf("opening  %4lld requests, %lld failures\n", at - 2, failed);
}

int main(void) {
  sweep_open();
  for (int i = 0; i < (int)(sizeof jobs / sizeof *jobs); i++) sweep(&jobs[i]);
  while (nchunk > 0) free(chunks[--nchunk].code);
  if (failures) fprintf(stderr, "%d failures\n", failures);
  return failures != 0;
}
