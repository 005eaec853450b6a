-- Random graphs of operators: run eagerly (node by node) and deferred (fused, buffers shared, inputs overwritten in place), by 1 to 3 threads, with
-- handles kept, freed and left to the collector at random. Every way must give the same bits.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it, host_it = support.on_device(it)
local on_cpu = nn.device() == "cpu"

local DTYPES = { "f32", "f32", "f32", "f32", "i64", "i32", "u8", "bool" }
local used -- how often each kind of step was made

-- ---- shapes ----
local function numel(shape)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return n
end

local function random_shape(rng, limit)
  local sizes = { 1, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33 }
  while true do
    local shape = {}
    for i = 1, rng.int(0, 4) do shape[i] = rng.pick(sizes) end
    if numel(shape) <= limit then return shape end
  end
end

-- ---- leaves: data made once, a fresh tensor for every replay ----
local function new_leaf(rng, shape, dtype)
  local data = {}
  for i = 1, numel(shape) do
    local x = rng.chance(0.1) and 0 or rng.real(-3, 3)
    data[i] = dtype == "f32" and x or dtype == "bool" and x > 0 or dtype == "u8" and math.floor(x * x * 20) or math.floor(x * 10)
  end
  return { data = nn.tensor(data, { dtype = dtype }):tostring_bytes(), dtype = dtype, shape = shape, grad = dtype == "f32" and rng.chance(0.5) }
end

local function make_leaf(leaf)
  local x = nn.from_string(leaf.data, leaf.dtype, leaf.shape)
  return leaf.grad and x:requires_grad(true) or x
end

-- ---- steps: each picks operands from the pool by number and returns a function of tensors ----
local function dims_of(rng, x)
  local dims = {}
  for d = 1, x:dim() do
    if rng.chance(0.5) then dims[#dims + 1] = rng.chance(0.3) and d - x:dim() - 1 or d end
  end
  if rng.chance(0.4) and x:dim() > 0 then dims = { -1 } end
  return #dims > 0 and dims or nil
end

local function random_ranges(rng, x)
  local key, any = {}, false
  for d, size in ipairs(x:shape()) do
    local r = rng.int(1, 4)
    if r == 1 then key[d] = {}
    elseif r == 2 and rng.chance(0.6) then key[d] = rng.chance(0.3) and -rng.int(1, size) or rng.int(1, size)
    elseif r == 3 then
      local a, b = rng.int(1, size), rng.int(1, size)
      key[d] = a <= b and { a, b, rng.int(1, 2) } or { a, b, -rng.int(1, 2) }
    else
      local a = rng.int(1, size)
      key[d] = { a, rng.int(a, size) }
    end
    any = true
  end
  return any and key or nil
end

local UNARY = { "neg", "abs", "sign", "square", "exp", "sin", "cos", "tanh", "erf", "floor", "ceil", "round", "trunc", "relu", "leaky_relu",
  "sigmoid" }
local BINARY = { "add", "sub", "mul", "div", "minimum", "maximum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or" }
local REDUCE = { "sum", "sum", "mean", "amax", "amin", "any", "all", "var", "logsumexp", "prod" }

-- every maker: (rng, a: a tensor to shape the step by, find: function(filter) -> number of a fitting tensor or nil) -> function, further operands
local makers = {
  unary = function(rng)
    local op = nn[rng.pick(UNARY)]
    if op == nn.exp or op == nn.square then return function(x) return op(x:clamp(-4, 4)) end end
    return function(x) return op(x) end
  end,
  roots = function(rng)
    local op = nn[rng.pick { "sqrt", "log", "rsqrt", "reciprocal" }]
    return function(x) return op(nn.abs(x) + 0.5) end
  end,
  not_ = function() return function(x) return x:logical_not() end end,
  scalar = function(rng)
    local op, s = nn[rng.pick(BINARY)], rng.pick { 0, 1, 2, -3, 0.5, -0.25, 1.5 }
    if op == nn.logical_and or op == nn.logical_or then op = nn.add end
    if op == nn.div and s == 0 then s = 2 end
    if rng.chance(0.3) and op ~= nn.div then return function(x) return op(s, x) end end
    return function(x) return op(x, s) end
  end,
  clamp = function(rng)
    local lo = rng.int(-2, 0)
    return function(x) return x:clamp(lo, lo + 2) end
  end,
  binary = function(rng, _, find)
    local op = nn[rng.pick(BINARY)]
    local b = find(function() return true end)
    if op == nn.div then return function(x, y) return x / (nn.abs(y) + 1) end, b end
    if rng.chance(0.5) then return function(x, y) return op(y, x) end, b end
    return function(x, y) return op(x, y) end, b
  end,
  where = function(rng, _, find)
    local b, c = find(function() return true end), find(function() return true end)
    if rng.chance(0.3) then return function(x, y) return nn.where(x, y, 0.5) end, b end
    return function(x, y, z) return nn.where(x, y, z) end, b, c
  end,
  reduce = function(rng, a)
    local name, dims, keep = rng.pick(REDUCE), dims_of(rng, a), rng.chance(0.5)
    local op = nn[name]
    if name == "prod" then return function(x) return op(x:clamp(-1, 1) * 1, dims, keep) end end
    if name == "var" then return function(x) return op(x, dims, 0, keep) end end
    return function(x) return op(x, dims, keep) end
  end,
  arg = function(rng, a)
    local op, d, keep = nn[rng.pick { "argmax", "argmin" }], rng.chance(0.7) and a:dim() > 0 and rng.int(1, a:dim()) or nil, rng.chance(0.5)
    return function(x) return op(x, d, keep) end
  end,
  softmax = function(rng, a)
    if a:dim() == 0 then return end
    local op, d = nn[rng.pick { "softmax", "softmax", "log_softmax" }], rng.chance(0.6) and -1 or rng.int(1, a:dim())
    return function(x) return op(x, d) end
  end,
  cast = function(rng)
    local d = rng.pick(DTYPES)
    if d == "u8" then return function(x) return x:clamp(0, 200):to(d) end end
    return function(x) return x:clamp(-1000, 1000):to(d) end
  end,
  transpose = function(rng, a)
    if a:dim() < 2 then return end
    local p, q = rng.int(1, a:dim()), rng.int(1, a:dim())
    return function(x) return x:transpose(p, q) end
  end,
  permute = function(rng, a)
    if a:dim() < 2 then return end
    local dims = {}
    for i = 1, a:dim() do dims[i] = i end
    rng.shuffle(dims)
    return function(x) return x:permute(dims) end
  end,
  reshape = function(rng, a)
    local shape = rng.shuffle(a:shape())
    if rng.chance(0.3) then shape = { -1 } end
    return function(x) return x:reshape(shape) end
  end,
  unsqueeze = function(rng, a)
    local d = rng.int(1, a:dim() + 1)
    if a:dim() > 4 then return function(x) return x:squeeze() end end
    return function(x) return x:unsqueeze(d) end
  end,
  flatten = function() return function(x) return x:flatten() end end,
  expand = function(rng, a)
    local shape = a:shape()
    for i, s in ipairs(shape) do
      if s == 1 and rng.chance(0.5) then shape[i] = rng.int(1, 5) end
    end
    if rng.chance(0.5) and #shape < 4 then table.insert(shape, 1, rng.int(1, 4)) end
    return function(x) return x:expand(shape) end
  end,
  contiguous = function() return function(x) return x:contiguous() end end,
  slice = function(rng, a)
    local key = random_ranges(rng, a)
    return key and function(x) return x[key] end
  end,
  set = function(rng, a, find)
    local key = random_ranges(rng, a)
    if not key then return end
    if rng.chance(0.4) then
      return function(x)
        local y = x:clone()
        y[key] = 2
        return y
      end
    end
    return function(x, v)
      local y = x:clone()
      y[key] = v
      return y
    end, find(function() return true end)
  end,
  mask_set = function(rng)
    local s = rng.real(-1, 1)
    return function(x)
      local y = x:clone()
      y[x:gt(s)] = 1
      return y
    end
  end,
  assign = function(_, a, find)
    local b = find(function(y) return y:dtype() == a:dtype() and table.concat(y:shape(), "x") == table.concat(a:shape(), "x") end)
    return b and function(x, y) return x:clone():assign(y * 1) end, b
  end,
  matmul = function(_, a, find)
    if a:dim() == 0 then return end
    local k = a:size(-1)
    local b = find(function(y) return y:dim() > 0 and y:size(y:dim() > 1 and -2 or 1) == k end)
    if b then return function(x, y) return x:matmul(y) end, b end
    if a:dim() == 2 then return function(x) return x:matmul(x:transpose()) end end
  end,
  cat = function(rng, a, find)
    if a:dim() == 0 then return end
    local d = rng.int(1, a:dim())
    local b = find(function(y) return y:dim() == a:dim() end)
    if rng.chance(0.3) then return function(x, y) return nn.stack({ x, y }, d) end, b end
    return function(x, y) return nn.cat({ x, y, x }, d) end, b
  end,
  index_select = function(rng, a)
    if a:dim() == 0 then return end
    local d, ids = rng.int(1, a:dim()), {}
    for i = 1, rng.int(1, 4) do ids[i] = rng.int(1, a:size(d)) end
    return function(x) return x:index_select(d, ids) end
  end,
  dropout = function(rng)
    local p = rng.real(0, 0.9)
    return function(x) return x:dropout(p) end
  end,
  draw = function(rng, a)
    local shape, op = a:shape(), nn[rng.pick { "uniform", "normal", "bernoulli" }]
    return function(x) return op(shape) + x end
  end,
  fill = function(rng, a)
    local shape = a:shape()
    local v = rng.int(-2, 2)
    return function(x) return nn.full(shape, v) * x end
  end,
  arange = function(_, a)
    if a:dim() == 0 then return end
    local n = a:size(-1)
    return function(x) return nn.arange(0, n) - x end
  end,
  linear = function(rng, a, find)
    if a:dim() == 0 then return end
    local w = find(function(y) return y:dim() == 2 and y:size(1) == a:size(-1) end)
    local s = rng.real(-1, 1)
    return w and function(x, y) return nn.relu(x:linear(y) + s) end, w
  end,
  cross_entropy = function(rng, a)
    if a:dim() ~= 2 then return end
    local ids = {}
    for i = 1, a:size(1) do ids[i] = rng.int(1, a:size(2)) end
    local t = nn.tensor(ids)
    return function(x) return nn.softmax_cross_entropy(x, t) end
  end,
}
local kinds = {}
for kind in pairs(makers) do kinds[#kinds + 1] = kind end
table.sort(kinds)

-- ---- a graph: leaves and steps; steps are tried out eagerly while they are made ----
local function generate(seed, opts)
  local rng = support.random(seed)
  local g = { leaves = {}, steps = {}, seed = seed }
  nn.eager(true)
  nn.seed(seed)
  local v = {}
  local base = opts.shape or random_shape(rng, opts.limit)
  for i = 1, rng.int(1, 5) do
    local shape = rng.chance(0.6) and base or random_shape(rng, opts.limit)
    g.leaves[i] = new_leaf(rng, shape, rng.pick(DTYPES))
    v[i] = make_leaf(g.leaves[i])
  end
  g.nleaf = #v
  local function find(filter)
    for _ = 1, 6 do -- late ones more often: long chains
      local k = rng.chance(0.5) and #v - rng.int(0, math.min(3, #v - 1)) or rng.int(1, #v)
      if filter(v[k]) then return k end
    end
  end
  local tries = 0
  while #g.steps < opts.steps and tries < 40 * opts.steps do
    tries = tries + 1
    local kind = rng.chance(0.35) and rng.pick { "unary", "binary", "scalar", "reduce" } or rng.pick(kinds)
    local a = find(function() return true end)
    local fn, b, c = makers[kind](rng, v[a], find)
    if fn then
      local state = nn.rng_state()
      local ok, y = pcall(fn, v[a], b and v[b], c and v[c])
      if ok and y:numel() <= 4 * opts.limit and y:dim() <= 5 then
        v[#v + 1] = y
        g.steps[#g.steps + 1] = { kind = kind, fn = fn, a = a, b = b, c = c }
        used[kind] = (used[kind] or 0) + 1
      else
        nn.set_rng_state(state) -- a step that does not fit leaves no trace
      end
    end
  end
  g.grads = rng.chance(opts.grads or 0.4)
  g.last = {} -- number of a value -> number of the last value made from it
  for i, s in ipairs(g.steps) do
    for _, k in ipairs { s.a, s.b or s.a, s.c or s.a } do g.last[k] = g.nleaf + i end
  end
  return g
end

-- Values of all kept results as bytes. keep(k): is value k read at the end; drop: how the others go ("free", "gc", "mixed");
-- evals: chance of a run between steps
local function replay(g, how)
  local rng = support.random(how.seed or 1)
  nn.eager(how.eager)
  nn.threads(how.threads or 1)
  nn.seed(g.seed)
  local v, nv, handles, got = {}, g.nleaf + #g.steps, {}, {}
  for i, leaf in ipairs(g.leaves) do v[i] = make_leaf(leaf) end
  local inputs = g.grads and { table.unpack(v) }
  local function drop(k)
    if how.keep(k) or not v[k] then return end
    if how.drop == "free" or (how.drop == "mixed" and rng.chance(0.5)) then v[k]:free() end
    v[k] = nil
  end
  for i, s in ipairs(g.steps) do
    local at = g.nleaf + i
    v[at] = s.fn(v[s.a], s.b and v[s.b], s.c and v[s.c])
    if not g.grads then -- differentiation needs them all
      for k = 1, at do
        if (g.last[k] or k) <= at then drop(k) end
      end
    end
    if how.evals and rng.chance(how.evals) then nn.eval() end
    if how.collect and rng.chance(how.collect) then collectgarbage() end
  end
  if g.grads then
    local outs, cots, ins = {}, {}, {}
    for k = nv, g.nleaf + 1, -1 do
      if v[k] and v[k]:dtype() == "f32" and v[k]:requires_grad() and #outs < 3 then
        outs[#outs + 1] = v[k]
        local last = v[k]:dim() > 0
        cots[#cots + 1] = nn.full(v[k]:shape(), 0.75) * nn.arange(0, last and v[k]:size(-1) or 1):reshape(last and { -1 } or {})
      end
    end
    for i, leaf in ipairs(g.leaves) do
      if leaf.grad then ins[#ins + 1] = inputs[i] end
    end
    if #outs > 0 and #ins > 0 then
      local grads = table.pack(nn.grad(outs, ins, { cotangents = cots }))
      for i = 1, grads.n do handles["grad " .. i] = grads[i] end
    end
    inputs, outs, cots, ins = nil, nil, nil, nil -- luacheck: ignore
    for k = 1, nv do drop(k) end
  end
  if how.collect then collectgarbage() end
  for k = 1, nv do
    if how.keep(k) then handles[k] = v[k] end
  end
  v = nil -- luacheck: ignore
  for k, t in pairs(handles) do got[k] = t:dtype() .. " " .. table.concat(t:shape(), "x") .. " " .. t:tostring_bytes() end
  return got
end

-- what a step does: the values its function closes over
local function step_text(s)
  local parts = {}
  for i = 1, 8 do
    local name, value = debug.getupvalue(s.fn, i)
    if not name then break end
    if name ~= "nn" and name ~= "_ENV" then
      if type(value) == "function" then
        for op, f in pairs(nn) do
          if f == value then value = op end
        end
      elseif type(value) == "table" then
        local list = {}
        for k = 1, #value do list[k] = type(value[k]) == "table" and "{" .. table.concat(value[k], ",") .. "}" or tostring(value[k]) end
        value = "{" .. table.concat(list, ",") .. "}"
      end
      parts[#parts + 1] = name .. "=" .. tostring(value)
    end
  end
  return table.concat(parts, " ")
end

local function text_of(g, k, got)
  local lines, from = {}, { [k] = true }
  for i = #g.steps, 1, -1 do -- only what the value is made of
    local s = g.steps[i]
    if from[g.nleaf + i] or type(k) == "string" then
      from[s.a] = true
      if s.b then from[s.b] = true end
      if s.c then from[s.c] = true end
      local mark, operands = got[g.nleaf + i] and "*" or "", table.concat({ s.a, s.b, s.c }, ", ")
      table.insert(lines, 1, ("  %d%s = %s(%s) %s"):format(g.nleaf + i, mark, s.kind, operands, step_text(s)))
    end
  end
  for i = #g.leaves, 1, -1 do
    local l = g.leaves[i]
    if from[i] then table.insert(lines, 1, ("  %d = leaf %s %s%s"):format(i, l.dtype, table.concat(l.shape, "x"), l.grad and " grad" or "")) end
  end
  return ("graph %d: value %s differs (* marks what was kept)\n%s"):format(g.seed, k, table.concat(lines, "\n"))
end

local function compare(g, want, got, how)
  local names = {}
  for k in pairs(got) do names[#names + 1] = k end
  table.sort(names, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  for _, k in ipairs(names) do
    if want[k] ~= got[k] then
      error(text_of(g, k, got) .. ("\n  (threads %d, %s, evals %s, replay seed %d)\n  eager    %s\n  deferred %s"):format(how.threads, how.drop,
        tostring(how.evals), how.seed, support.hex(want[k], got[k]), support.hex(got[k], want[k])), 0)
    end
  end
end

local function check(seed, opts)
  local g = generate(seed, opts)
  local rng = support.random(seed + 7)
  local nv = g.nleaf + #g.steps
  local want = replay(g, { eager = true, threads = 1, drop = "none", keep = function() return true end })
  for round = 1, opts.rounds or 3 do
    local kept = {}
    for k = 1, nv do kept[k] = rng.chance(k > nv - 2 and 0.7 or k <= g.nleaf and 0.4 or 0.15) end
    local how = {
      eager = false,
      threads = rng.int(1, 3),
      drop = rng.pick { "free", "gc", "mixed" },
      keep = function(k) return kept[k] end,
      evals = rng.chance(0.3) and 0.15 or nil,
      collect = rng.chance(0.2) and 0.1 or nil,
      seed = seed * 10 + round,
    }
    compare(g, want, replay(g, how), how)
    if round == 1 then compare(g, want, replay(g, how), how) end -- the same once more: the plan comes from the cache
  end
end

describe("random graphs:", function()
  local threads = nn.threads()
  setup(function() used = {} end)
  teardown(function()
    nn.eager(false)
    nn.threads(threads)
  end)

  it("250 small ones give the same bits eager and deferred", function()
    for seed = 1, on_cpu and 250 or 12 do check(seed, { limit = 600, steps = 6 + seed % 30 }) end
  end)

  it("30 with many elements, where threads share the work", function()
    local shapes = { { 3, 20000 }, { 50000 }, { 40, 1000 }, { 300, 100 }, { 16, 50, 40 }, { 17, 16384 }, { 2, 16385 }, { 20001, 2 } }
    for seed = 1, on_cpu and 30 or 4 do
      check(1000 + seed, { limit = 70000, steps = 5 + seed % 8, shape = shapes[1 + seed % #shapes], rounds = 2, grads = 0.3 })
    end
  end)

  host_it("cover every kind of step", "it makes a few graphs only", function()
    for _, kind in ipairs(kinds) do assert.truthy((used[kind] or 0) >= 5, kind .. " was used " .. (used[kind] or 0) .. " times") end
  end)
end)
