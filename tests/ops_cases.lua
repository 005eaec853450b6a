-- Cases of the operator battery (ops_spec.lua): for every row of nn.ops() inputs and an independent reference in Lua's doubles, written from the
-- operator's definition with plain loops, never through our kernels.
--
-- cases[name] = { case, case, ...; no_gradient = "why" }. A case is { arguments..., ref = function(...) } with optional fields:
--   ref(...)      the result as an array {shape = {...}, [1..n] = numbers in row-major order}, from the arguments: tensors come as such arrays,
--                 tensors of positions hold 1-based positions, lists of tensors are lists of arrays, everything else is passed as it is
--   dtype         of the result ("f32" when absent)      tol    tolerance of values (relative and absolute; 0: exact); tol64 in f64
--   gradtol       tolerance of gradients                 nograd the case is at a kink or in integers: values only
--   layouts       false: inputs are tried row-major only
--   only          "f32": no other float can stand for f32 here; nohalf: f16 and bf16 can't
--   nothird       it has no third derivative that could be compared
--   result        which result is looked at, of operators that have several (1)
-- bad = { {arguments..., "text of the error"}, ... } are calls that must fail; the message must begin with the operator's name.
local M = {}

local unpack, floor = table.unpack, math.floor

-- ---- arrays -----------------------------------------------------------------------------------------------------------------
local function numel(shape)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return n
end

--- The array of `shape` whose element at (1-based) index idx is f(idx).
local function build(shape, f)
  local out, idx, nd = { shape = shape }, {}, #shape
  for d = 1, nd do idx[d] = 1 end
  for i = 1, numel(shape) do
    out[i] = f(idx)
    for d = nd, 1, -1 do
      idx[d] = idx[d] + 1
      if idx[d] <= shape[d] then break end
      idx[d] = 1
    end
  end
  return out
end

--- Element of a at idx; dims of a count from the end, its dims of size 1 repeat.
local function at(a, idx)
  local sh, k, lead = a.shape, 0, #idx - #a.shape
  for d = 1, #sh do k = k * sh[d] + (sh[d] == 1 and 0 or idx[d + lead] - 1) end
  return a[k + 1]
end

local function joint(shapes)
  local out = {}
  for _, s in ipairs(shapes) do
    for d = 1, #s do
      local e = #s - d + 1
      if (out[d] or 1) == 1 then out[d] = s[e] end
    end
  end
  local shape = {}
  for d = 1, #out do shape[d] = out[#out - d + 1] end
  return shape
end

local function dim_of(d, n) return d < 0 and d + n + 1 or d end
local function copy(t) return { unpack(t) } end

--- dims (nil, a number or a list) as a set
local function dims_of(dims, n)
  local on = {}
  if dims == nil then
    for d = 1, n do on[d] = true end
  end
  for _, d in ipairs(type(dims) == "table" and dims or { dims }) do on[dim_of(d, n)] = true end
  return on
end

--- f(list of elements) over dims.
local function reduce(a, dims, keep, f)
  local on, shape, full = dims_of(dims, #a.shape), {}, {}
  for d, s in ipairs(a.shape) do
    full[d] = on[d] and 1 or s
    if not on[d] then shape[#shape + 1] = s elseif keep then shape[#shape + 1] = 1 end
  end
  local lists = {}
  for i = 1, numel(full) do lists[i] = {} end
  local k = 0
  build(a.shape, function(idx)
    k = k + 1
    local at_ = 0
    for d = 1, #full do at_ = at_ * full[d] + (on[d] and 0 or idx[d] - 1) end
    local l = lists[at_ + 1]
    l[#l + 1] = a[k]
  end)
  local out = { shape = shape }
  for i = 1, #lists do out[i] = f(lists[i]) end
  return out
end

--- f(list) -> list along one dim.
local function along(a, dim, f)
  local d = dim_of(dim, #a.shape)
  local out, inner = { shape = a.shape }, 1
  for e = d + 1, #a.shape do inner = inner * a.shape[e] end
  local n = a.shape[d]
  for base = 0, #a - 1 do
    if base // inner % n == 0 then
      local l = {}
      for i = 1, n do l[i] = a[base + (i - 1) * inner + 1] end
      for i, v in ipairs(f(l)) do out[base + (i - 1) * inner + 1] = v end
    end
  end
  return out
end

M.build, M.at, M.numel, M.along = build, at, numel, along

-- ---- inputs -------------------------------------------------------------------------------------------------------------------
-- T(shape, {lo, hi, away = {kinks}, dtype, values, nograd, ids}): numbers in lo..hi, at least 0.06 away from every kink
local function T(shape, o)
  o = o or {}
  return { tensor = true, shape = shape, lo = o.lo or o[1] or -2, hi = o.hi or o[2] or 2, away = o.away, dtype = o.dtype or "f32", values = o.values,
    apart = o.apart, nograd = o.nograd or (o.values and not o.leaf) }
end
local function ids(shape, max) return { tensor = true, shape = shape, lo = 1, hi = max, dtype = "i64", positions = true } end
local function given(shape, values, dtype) return T(shape, { values = values, dtype = dtype, nograd = true }) end

-- ---- numbers --------------------------------------------------------------------------------------------------------------------
local function erf(x)
  if math.abs(x) > 3 then
    local c = 0 -- continued fraction of erfc
    for k = 60, 1, -1 do c = k / 2 / (math.abs(x) + c) end
    local r = 1 - math.exp(-x * x) / math.sqrt(math.pi) / (math.abs(x) + c)
    return x < 0 and -r or r
  end
  local term, sum = x, x
  for n = 1, 80 do
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  end
  return 2 / math.sqrt(math.pi) * sum
end
local function tanh(x)
  if math.abs(x) > 20 then return x > 0 and 1 or -1 end
  local e = math.exp(2 * x)
  return (e - 1) / (e + 1)
end
local function round(x)
  local r = floor(x + 0.5)
  return (r - x == 0.5 and r % 2 == 1) and r - 1 or r
end
local function trunc(x) return x < 0 and math.ceil(x) or floor(x) end
local function sign(x) return x > 0 and 1 or x < 0 and -1 or x == 0 and 0 or x end
local function isnan(x) return x ~= x end
local function nan_max(a, b) return (isnan(a) or isnan(b)) and 0 / 0 or math.max(a, b) end
local function nan_min(a, b) return (isnan(a) or isnan(b)) and 0 / 0 or math.min(a, b) end
local function largest(l)
  local m = -math.huge
  for _, x in ipairs(l) do m = nan_max(m, x) end
  return m
end
local function smallest(l)
  local m = math.huge
  for _, x in ipairs(l) do m = nan_min(m, x) end
  return m
end
local function total(l)
  local s = 0
  for _, x in ipairs(l) do s = s + x end
  return s
end
local function truth(x) return x == true or (x ~= false and x ~= 0) end
local function bool(x) return x and 1 or 0 end
local function logsumexp(l)
  local m, s = largest(l), 0
  if m == math.huge or m == -math.huge or isnan(m) then return m end
  for _, x in ipairs(l) do s = s + math.exp(x - m) end
  return m + math.log(s)
end

-- ---- Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) --------------------------------------
local function philox_word(seed, stream, draw)
  local block, m32 = draw // 4, 0xffffffff
  local c = { block & m32, block >> 32, stream & m32, stream >> 32 }
  local k0, k1 = seed & m32, seed >> 32
  for _ = 1, 10 do
    local p0, p1 = 0xD2511F53 * c[1], 0xCD9E8D57 * c[3]
    c = { (p1 >> 32) ~ c[2] ~ k0, p1 & m32, (p0 >> 32) ~ c[4] ~ k1, p0 & m32 }
    k0, k1 = (k0 + 0x9E3779B9) & m32, (k1 + 0xBB67AE85) & m32
  end
  return c[draw % 4 + 1]
end
local function draw(stream, i) return (philox_word(M.seed, stream, i) >> 8) * 2.0 ^ -24 end
M.seed = 77 -- what the battery calls nn.seed with before every call

-- ---- pointwise ------------------------------------------------------------------------------------------------------------------
local SHAPES1 = { { 3, 4 }, {}, { 1 }, { 0, 3 }, { 2, 1, 5 }, { 37 } }
local SHAPES2 = {
  { { 3, 4 }, { 3, 4 } }, { { 2, 3 }, { 3 } }, { { 3, 1 }, { 1, 4 } }, { {}, { 2, 2 } }, { { 2, 1, 3 }, { 4, 1 } }, { { 0, 3 }, { 3 } },
  { { 1 }, { 1 } },
}

local function map(f, ...)
  local args, shapes = { ... }, {}
  for _, a in ipairs(args) do
    if type(a) == "table" then shapes[#shapes + 1] = a.shape end
  end
  return build(joint(shapes), function(idx)
    local v = {}
    for i, a in ipairs(args) do
      if type(a) == "table" then v[i] = at(a, idx) else v[i] = a end
    end
    return f(unpack(v))
  end)
end

local cases = {}
M.cases = cases

local NOT_A_TENSOR = "argument 'a' must be a tensor, got string"
local function case1(name, f, o)
  local list = { bad = { { "x", NOT_A_TENSOR } } }
  for i, shape in ipairs(SHAPES1) do
    list[i] = { T(shape, o), ref = function(a, ...) return map(f, a, ...) end, tol = o.tol, dtype = o.result, nograd = o.nograd, gradtol = o.gradtol }
  end
  cases[name] = list
  return list
end

local function case2(f, o)
  local list = { bad = {
    { given({ 2, 3 }, { 1, 2, 3, 4, 5, 6 }), given({ 2, 4 }, { 1, 2, 3, 4, 5, 6, 7, 8 }), "shapes do not broadcast: (2x3) and (2x4)" },
    { T { 2 }, "2", "argument 'b' must be a tensor or a number, got string" },
    { 1, 2, "at least one argument must be a tensor" },
  } }
  local function add(a, b, extra)
    local c = { a, b, ref = function(x, y) return map(f, x, y) end, tol = o.tol, dtype = o.result, nograd = o.nograd, gradtol = o.gradtol }
    for k, v in pairs(extra or {}) do c[k] = v end
    list[#list + 1] = c
  end
  local p, q = o[1] or o, o[2] or o
  for _, s in ipairs(SHAPES2) do add(T(s[1], p), T(s[2], q)) end
  add(T({ 2, 3 }, p), q.scalar or 1.5)
  add(p.scalar or 1.25, T({ 2, 3 }, q))
  return list, add
end
local function pair(name, f, o)
  local list, add = case2(f, o)
  cases[name] = list
  return list, add
end

local function ints(shape, lo, hi, dtype) return T(shape, { lo, hi, dtype = dtype or "i64", nograd = true }) end

local _, more
_, more = pair("add", function(a, b) return a + b end, {})
more(ints({ 5 }, -9, 9), ints({ 5 }, -9, 9), { dtype = "i64", tol = 0 })
more(ints({ 5 }, -9, 9, "i32"), 3, { dtype = "i32", tol = 0 })
more(ints({ 5 }, -9, 9, "i32"), T({ 5 }, { nograd = true }), { nograd = true })
more(T({ 40, 1001 }), T({ 1001 }), { nograd = true, layouts = false })
_, more = pair("sub", function(a, b) return a - b end, {})
more(ints({ 5 }, -9, 9), ints({ 5 }, -9, 9), { dtype = "i64", tol = 0 })
_, more = pair("mul", function(a, b) return a * b end, {})
more(ints({ 3, 3 }, -9, 9, "i32"), ints({ 3 }, -9, 9, "i32"), { dtype = "i32", tol = 0 })
_, more = pair("div", function(a, b) return a / b end, { {}, { 0.5, 2, scalar = 0.75 } })
more(ints({ 5 }, -9, 9), ints({ 5 }, 1, 9), { nograd = true })
more(given({ 4 }, { 1, -1, 0, 2 }), given({ 4 }, { 0, 0, 0, math.huge }), { nograd = true })
_, more = pair("pow", function(a, b) return a ^ b end, { { 0.3, 2 }, { -2, 3, scalar = 2.5 } })
more(T({ 6 }, { -2, 2, away = { 0 } }), 3)
more(T({ 6 }, { -2, 2, away = { 0 } }), -2)
more(T({ 6 }, { -2, 2 }), 2, { tol = 1e-5 })
more(given({ 3 }, { 0, 2, -3 }), 0, { nograd = true })
more(given({ 2 }, { 0, 0 }), given({ 2 }, { 0.5, 2 }), { nograd = true })
more(ints({ 5 }, -9, 9), 3, { dtype = "i64", tol = 0 })
more(2, ints({ 5 }, 0, 30, "i32"), { dtype = "i32", tol = 0 })
more(ints({ 5 }, -3, 3, "i32"), ints({ 5 }, 0, 9), { dtype = "i64", tol = 0 })
more(ints({ 5 }, 1, 9), 0.5)
more(ints({ 6 }, 1, 9), -1.0)
_, more = pair("minimum", nan_min, { { apart = 1 }, { apart = 2, scalar = 0.53125 } })
more(given({ 4 }, { 0 / 0, 1, 0 / 0, 3 }), given({ 4 }, { 1, 0 / 0, 0 / 0, 3 }), { nograd = true })
more(ints({ 5 }, -9, 9), ints({ 5 }, -9, 9), { dtype = "i64", tol = 0 })
_, more = pair("maximum", nan_max, { { apart = 1 }, { apart = 2, scalar = 0.53125 } })
more(given({ 4 }, { 0 / 0, 1, 0 / 0, 3 }), given({ 4 }, { 1, 0 / 0, 0 / 0, 3 }), { nograd = true })
more(ints({ 5 }, 0, 9, "u8"), ints({ 5 }, -9, 9), { dtype = "i64", tol = 0 })

local list
list = case1("neg", function(a) return -a end, { tol = 0 })
list[#list + 1] = { ints({ 5 }, -9, 9), ref = function(a) return map(function(x) return -x end, a) end, dtype = "i64", tol = 0 }
list = case1("abs", math.abs, { away = { 0 }, tol = 0 })
list[#list + 1] = { ints({ 5 }, -9, 9, "i32"), ref = function(a) return map(math.abs, a) end, dtype = "i32", tol = 0 }
list = case1("sign", sign, { away = { 0 }, tol = 0 })
list[#list + 1] = { given({ 3 }, { 0, -math.huge, 3 }), ref = function(a) return map(sign, a) end, tol = 0, nograd = true }
case1("square", function(a) return a * a end, {})
list = case1("sqrt", math.sqrt, { 0.2, 4 })
list[#list + 1] = { given({ 3 }, { 0, -1, math.huge }), ref = function(a) return map(function(x) return x < 0 and 0 / 0 or math.sqrt(x) end, a) end,
  nograd = true }
case1("rsqrt", function(a) return 1 / math.sqrt(a) end, { 0.3, 4 })
case1("reciprocal", function(a) return 1 / a end, { 0.4, 3 })
list = case1("exp", math.exp, { -3, 3 })
list[#list + 1] = { given({ 6 }, { -200, -87, 88, 100, -math.huge, math.huge }),
  ref = function(a) return map(math.exp, a) end, nograd = true }
list = case1("log", math.log, { 0.2, 5 })
list[#list + 1] = { given({ 4 }, { 0, -1, math.huge, 1e-30 }),
  ref = function(a) return map(function(x) return x < 0 and 0 / 0 or math.log(x) end, a) end,
  nograd = true }
list = case1("sin", math.sin, { -7, 7 })
list[#list + 1] = { given({ 4 }, { 100.5, -1000.25, 31415.9, 1e-20 }), ref = function(a) return map(math.sin, a) end, nograd = true }
case1("cos", math.cos, { -7, 7 })
list = case1("tanh", tanh, { -3, 3 })
list[#list + 1] = { given({ 4 }, { 0, 30, -100, 1e-5 }), ref = function(a) return map(tanh, a) end, nograd = true, tol = 1e-6 }
list = case1("erf", erf, { -3, 3 })
list[#list + 1] = { given({ 4 }, { 0, 5, -9, 1e-5 }), ref = function(a) return map(erf, a) end, nograd = true, tol = 1e-6 }
local halves = given({ 8 }, { 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e9, -1e9 })
for name, f in pairs { floor = floor, ceil = math.ceil, round = round, trunc = trunc } do
  list = case1(name, f, { -4, 4, away = { -4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4 }, tol = 0 })
  list[#list + 1] = { halves, ref = function(a) return map(f, a) end, tol = 0, nograd = true }
end
local function clamped(a, lo, hi) return map(function(x) return isnan(x) and x or math.min(math.max(x, lo or -math.huge), hi or math.huge) end, a) end
cases.clamp = {
  { T({ 3, 4 }, { away = { -0.5, 1 } }), -0.5, 1, ref = clamped, tol = 0 },
  { T({ 3, 4 }, { away = { 0.25 } }), 0.25, ref = clamped, tol = 0 },
  { T({ 5 }, { away = { 0.25 } }), nil, 0.25, ref = clamped, tol = 0, n = 3 },
  { T({ 5 }, { away = { 0.25 } }), { max = 0.25 }, ref = function(a) return clamped(a, nil, 0.25) end, tol = 0 },
  { ints({ 6 }, -9, 9), -3, 4, ref = clamped, tol = 0, dtype = "i64" },
  { T { 0, 2 }, -1, 1, ref = clamped },
  { given({ 2 }, { 0 / 0, 5 }), -1, 1, ref = clamped, nograd = true },
  bad = { { "x", NOT_A_TENSOR }, { T { 2 }, "1", "argument 'min' must be a number, got string" } },
}

-- comparisons and logic
for name, f in pairs {
  eq = function(a, b) return bool(a == b) end, ne = function(a, b) return bool(a ~= b) end, lt = function(a, b) return bool(a < b) end,
  le = function(a, b) return bool(a <= b) end, gt = function(a, b) return bool(a > b) end, ge = function(a, b) return bool(a >= b) end,
} do
  list, more = case2(f, { tol = 0, result = "bool" })
  more(ints({ 20 }, 0, 3), ints({ 20 }, 0, 3))
  more(ints({ 20 }, 0, 3, "u8"), ints({ 20 }, 0, 3, "i32"))
  more(ints({ 20 }, 0, 3), 2)
  more(given({ 4 }, { 0 / 0, 1, math.huge, -math.huge }), given({ 4 }, { 0 / 0, 0 / 0, math.huge, math.huge }))
  list.no_gradient = "a comparison is constant almost everywhere and gives a bool"
  cases[name] = list
end
for name, f in pairs { logical_and = function(a, b) return bool(truth(a) and truth(b)) end,
  logical_or = function(a, b) return bool(truth(a) or truth(b)) end } do
  cases[name] = {
    { ints({ 4, 5 }, 0, 1, "bool"), ints({ 5 }, 0, 1, "bool"), ref = function(a, b) return map(f, a, b) end, tol = 0, dtype = "bool" },
    { ints({ 9 }, -1, 1), given({ 9 }, { 0, 0.5, -1, 0, 2, 0, 1, 0, 0 }), ref = function(a, b) return map(f, a, b) end, tol = 0, dtype = "bool" },
    { ints({ 0 }, 0, 1, "bool"), ints({ 1 }, 0, 1, "bool"), ref = function(a, b) return map(f, a, b) end, tol = 0, dtype = "bool" },
    no_gradient = "logic on truth values",
    bad = { { T { 2 }, 1, "argument 'b' must be a tensor, got number" }, { T { 2, 3 }, T { 4 }, "shapes do not broadcast: (2x3) and (4)" } },
  }
end
cases.logical_not = {
  { ints({ 3, 4 }, 0, 1, "bool"), ref = function(a) return map(function(x) return bool(not truth(x)) end, a) end, tol = 0, dtype = "bool" },
  { given({ 4 }, { 0, 0.25, -0.0, 0 / 0 }), ref = function(a) return map(function(x) return bool(not truth(x)) end, a) end, tol = 0, dtype = "bool" },
  no_gradient = "logic on truth values",
  bad = { { "x", NOT_A_TENSOR } },
}
local function where(c, a, b) return map(function(x, y, z) if truth(x) then return y end return z end, c, a, b) end
cases.where = {
  { ints({ 3, 4 }, 0, 1, "bool"), T { 3, 4 }, T { 3, 4 }, ref = where, tol = 0 },
  { ints({ 3, 1 }, 0, 1, "bool"), T { 4 }, T { 3, 4 }, ref = where, tol = 0 },
  { ints({ 3, 1 }, 0, 1, "bool"), T { 4 }, 0.5, ref = where, tol = 0 },
  { ints({ 5 }, 0, 1, "bool"), 1.5, T {}, ref = where, tol = 0 },
  { ints({ 5 }, 0, 1), ints({ 5 }, -4, 4), ints({ 5 }, -4, 4, "i32"), ref = where, tol = 0, dtype = "i64" },
  { ints({ 0, 2 }, 0, 1, "bool"), T { 2 }, T { 0, 2 }, ref = where, tol = 0 },
  bad = { { T { 2 }, T { 3 }, T { 2 }, "shapes do not broadcast: (2), (3), (2)" },
    { 1, T { 2 }, T { 2 }, "argument 'a' must be a tensor, got number" } },
}
list = case1("relu", function(a) return isnan(a) and a or math.max(a, 0) end, { away = { 0 }, tol = 0 })
list[#list + 1] = { given({ 3 }, { 0, -0.0, 0 / 0 }), ref = list[1].ref, nograd = true, tol = 0 }
cases.leaky_relu = {
  { T({ 3, 4 }, { away = { 0 } }), ref = function(a) return map(function(x) return x > 0 and x or 0.01 * x end, a) end },
  { T({ 2, 1, 3 }, { away = { 0 } }), 0.3, ref = function(a, s) return map(function(x) return x > 0 and x or s * x end, a) end },
  { T({ 7 }, { away = { 0 } }), { slope = 0.1 }, ref = function(a) return map(function(x) return x > 0 and x or 0.1 * x end, a) end },
  { T { 0 }, ref = function(a) return a end },
  bad = { { T { 2 }, "1", "argument 'slope' must be a number, got string" } },
}
list = case1("sigmoid", function(a) return 1 / (1 + math.exp(-a)) end, { -4, 4 })
list[#list + 1] = { given({ 4 }, { -200, 200, -math.huge, math.huge }), ref = list[1].ref, nograd = true }

-- ---- views ------------------------------------------------------------------------------------------------------------------------
local function shaped(a, shape)
  local out = copy(a)
  out.shape = shape
  return out
end
local function permuted(a, dims)
  local shape = {}
  for i, d in ipairs(dims) do shape[i] = a.shape[dim_of(d, #a.shape)] end
  return build(shape, function(idx)
    local from = {}
    for i, d in ipairs(dims) do from[dim_of(d, #a.shape)] = idx[i] end
    return at(a, from)
  end)
end
cases.reshape = {
  { T { 3, 4 }, { 2, 6 }, ref = shaped, tol = 0 },
  { T { 3, 4 }, { 2, -1, 3 }, ref = function(a) return shaped(a, { 2, 2, 3 }) end, tol = 0 },
  { T { 3, 4 }, 12, ref = function(a) return shaped(a, { 12 }) end, tol = 0 },
  { T { 1 }, {}, ref = function(a) return shaped(a, {}) end, tol = 0 },
  { T {}, { 1, 1 }, ref = shaped, tol = 0 },
  { T { 0, 3 }, { 3, 0, 2 }, ref = shaped, tol = 0 },
  { ints({ 2, 3 }, 0, 9, "u8"), { 6 }, ref = shaped, tol = 0, dtype = "u8" },
  bad = {
    { T { 3, 4 }, { 5, 2 }, "3x4 (12 elements) cannot take the shape 5x2" }, { T { 3, 4 }, { 5, -1 }, "cannot take the shape 5x-1" },
    { T { 3, 4 }, { -1, -1 }, "size -1 is negative (one size may be -1)" }, { T { 4 }, { 2, -2 }, "size -2 is negative" },
    { T { 3 }, { 1.5, 2 }, "argument 'shape' must be an integer, got 1.5" },
    { T { 3 }, { 1, 1, 1, 1, 1, 1, 1, 1, 3 }, "9 dims, at most 8 are possible" },
    { T { 3 }, { 2 ^ 40 | 0, 2 ^ 40 | 0 }, "cannot take the shape" }, { T { 3 }, {}, "cannot take the shape" },
    { T { 3 }, "argument 'shape' is missing" },
  },
}
local function flattened(a, from, to)
  local n = #a.shape
  if n == 0 then return shaped(a, { 1 }) end
  from, to = dim_of(from or 1, n), dim_of(to or -1, n)
  local shape = {}
  for d, s in ipairs(a.shape) do
    if d > from and d <= to then shape[#shape] = shape[#shape] * s else shape[#shape + 1] = s end
  end
  return shaped(a, shape)
end
cases.flatten = {
  { T { 2, 3, 2 }, ref = flattened, tol = 0 }, { T { 2, 3, 2 }, 2, ref = flattened, tol = 0 }, { T { 2, 3, 2 }, 1, 2, ref = flattened, tol = 0 },
  { T { 2, 3, 2 }, -2, -1, ref = flattened, tol = 0 }, { T {}, ref = flattened, tol = 0 }, { T { 2, 0 }, ref = flattened, tol = 0 },
  bad = { { T { 2, 3 }, 2, 1, "dim 2 comes after dim 1" }, { T { 2, 3 }, 3, "dim 3 is out of range: the tensor has 2 dims" },
    { T { 2 }, 0, "dim 0" } },
}
local function squeezed(a, dims)
  local on, shape = dims_of(dims, #a.shape), {}
  for d, s in ipairs(a.shape) do
    if not (on[d] and s == 1) then shape[#shape + 1] = s end
  end
  return shaped(a, shape)
end
cases.squeeze = {
  { T { 1, 3, 1, 2 }, ref = squeezed, tol = 0 }, { T { 1, 3, 1, 2 }, 3, ref = squeezed, tol = 0 },
  { T { 1, 3, 1 }, { 1, -1 }, ref = squeezed, tol = 0 },
  { T { 1, 3 }, 2, ref = squeezed, tol = 0 }, { T { 1 }, ref = squeezed, tol = 0 }, { T { 1, 0 }, 1, ref = squeezed, tol = 0 },
  bad = { { T { 1, 2 }, 3, "dim 3 is out of range" }, { T { 1, 1 }, { 1, 1 }, "dim 1 is named twice" }, { T { 1 }, 0, "dim 0" } },
}
local function unsqueezed(a, d)
  local shape = copy(a.shape)
  table.insert(shape, d < 0 and d + #shape + 2 or d, 1)
  return shaped(a, shape)
end
cases.unsqueeze = {
  { T { 3, 2 }, 1, ref = unsqueezed, tol = 0 }, { T { 3, 2 }, -1, ref = unsqueezed, tol = 0 }, { T { 3, 2 }, 2, ref = unsqueezed, tol = 0 },
  { T {}, 1, ref = unsqueezed, tol = 0 }, { T { 0 }, -2, ref = unsqueezed, tol = 0 },
  bad = { { T { 2 }, 3, "dim 3 is out of range" }, { T { 2 }, 0, "dim 0" }, { T { 1, 1, 1, 1, 1, 1, 1, 1 }, 1, "8 dims" },
    { T { 2 }, "argument 'dim' is missing" } },
}
local function transposed(a, p, q)
  local n, dims = #a.shape, {}
  p, q = dim_of(p or -2, n), dim_of(q or -1, n)
  for d = 1, n do dims[d] = d == p and q or d == q and p or d end
  return permuted(a, dims)
end
cases.transpose = {
  { T { 3, 4 }, ref = transposed, tol = 0 }, { T { 2, 3, 4 }, ref = transposed, tol = 0 }, { T { 2, 3, 4 }, 1, 3, ref = transposed, tol = 0 },
  { T { 2, 3, 4 }, -1, 2, ref = transposed, tol = 0 }, { T { 2, 3 }, 1, 1, ref = transposed, tol = 0 }, { T { 0, 3 }, ref = transposed, tol = 0 },
  { T { 1, 4 }, ref = transposed, tol = 0 }, { T { 150, 130 }, ref = transposed, tol = 0, nograd = true },
  bad = { { T { 3 }, "dim -2 is out of range: the tensor has 1 dims" }, { T { 2, 3 }, 1, 3, "dim 3 is out of range" },
    { T { 2, 3 }, 0, 1, "dim 0" } },
}
cases.permute = {
  { T { 2, 3, 4 }, { 3, 1, 2 }, ref = permuted, tol = 0 }, { T { 2, 3, 4 }, { -1, -2, -3 }, ref = permuted, tol = 0 },
  { T { 5 }, { 1 }, ref = permuted, tol = 0 }, { T { 2, 0, 3 }, { 3, 2, 1 }, ref = permuted, tol = 0 },
  { T { 2, 1, 3, 2 }, { 4, 2, 1, 3 }, ref = permuted, tol = 0 },
  { T { 2, 3 }, 2, 1, ref = function(a) return permuted(a, { 2, 1 }) end, tol = 0 },
  bad = { { T { 2, 3 }, { 1 }, "1 dims are named, the tensor has 2" }, { T { 2, 3 }, { 1, 1 }, "dim 1 is named twice" },
    { T { 2, 3 }, { 0, 1 }, "dim 0" } },
}
local function expanded(a, shape)
  shape = copy(shape)
  for i, s in ipairs(shape) do
    if s == -1 then shape[i] = a.shape[i - (#shape - #a.shape)] end
  end
  return build(shape, function(idx) return at(a, idx) end)
end
cases.expand = {
  { T { 3, 1 }, { 3, 4 }, ref = expanded, tol = 0 }, { T { 3 }, { 2, 3 }, ref = expanded, tol = 0 },
  { T { 1, 3, 1 }, { 2, -1, 4 }, ref = expanded, tol = 0 },
  { T {}, { 2, 2 }, ref = expanded, tol = 0 }, { T { 1 }, { 0 }, ref = expanded, tol = 0 }, { T { 0, 1 }, { 0, 3 }, ref = expanded, tol = 0 },
  bad = { { T { 3 }, { 4 }, "3 cannot be expanded to 4" }, { T { 2, 3 }, { 3 }, "2x3 cannot be expanded to 3" },
    { T { 1 }, { -2 }, "cannot be expanded to -2" },
    { T { 1, 1 }, { 2 ^ 40 | 0, 2 ^ 40 | 0 }, "cannot be expanded" } },
}
local function sliced(a, start, size, step)
  return build(copy(size), function(idx)
    local from = {}
    for d = 1, #idx do from[d] = start[d] + (idx[d] - 1) * step[d] end
    return at(a, from)
  end)
end
cases.slice = {
  { T { 5, 4 }, { 2, 1 }, { 2, 4 }, { 1, 1 }, ref = sliced, tol = 0 }, { T { 5, 4 }, { 1, 4 }, { 3, 2 }, { 2, -2 }, ref = sliced, tol = 0 },
  { T { 5 }, { 5 }, { 5 }, { -1 }, ref = sliced, tol = 0 }, { T { 5 }, { 1 }, { 0 }, { 1 }, ref = sliced, tol = 0 },
  { T {}, {}, {}, {}, ref = sliced, tol = 0 },
  bad = { { T { 5 }, { 4 }, { 3 }, { 1 }, "positions 4..6 are outside of dim 1, which has size 5" }, { T { 5 }, { 0 }, { 1 }, { 1 }, "position 0" },
    { T { 5 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, "one entry for each of 1 dims" }, { T { 5 }, { 1 }, { 2 }, { 0 }, "step 0" },
    { T { 5 }, { 1 }, { 6 }, { 1 }, "size 6" },
    { T { 5 }, { 1 }, { 2 }, { math.maxinteger }, "outside of dim 1" } },
}
local function slice_set(a, v, start, size, step)
  local out = shaped(a, a.shape)
  build(copy(size), function(idx)
    local k = 0
    for d = 1, #idx do k = k * a.shape[d] + start[d] + (idx[d] - 1) * step[d] - 1 end
    out[k + 1] = at(v, idx)
  end)
  return out
end
cases.slice_set = {
  { T { 5, 4 }, T { 2, 4 }, { 2, 1 }, { 2, 4 }, { 1, 1 }, ref = slice_set, tol = 0 },
  { T { 5, 4 }, T { 2 }, { 1, 4 }, { 3, 2 }, { 2, -2 }, ref = slice_set, tol = 0 },
  { T { 5 }, T {}, { 2 }, { 3 }, { 1 }, ref = slice_set, tol = 0 }, { T { 5 }, T { 0 }, { 1 }, { 0 }, { 1 }, ref = slice_set, tol = 0 },
  { ints({ 4 }, 0, 9), ints({ 2 }, 0, 9), { 2 }, { 2 }, { 2 }, ref = slice_set, tol = 0, dtype = "i64" },
  bad = { { T { 5 }, T { 3 }, { 1 }, { 2 }, { 1 }, "a value of shape 3 does not fit a box of shape 2" },
    { T { 5 }, T {}, { 6 }, { 1 }, { 1 }, "outside of dim 1" } },
}
local function slice_add(a, v, start, size, step)
  local out = shaped(a, a.shape)
  build(copy(size), function(idx)
    local k = 0
    for d = 1, #idx do k = k * a.shape[d] + start[d] + (idx[d] - 1) * step[d] - 1 end
    out[k + 1] = out[k + 1] + at(v, idx)
  end)
  return out
end
cases.slice_add = {
  { T { 5, 4 }, T { 2, 4 }, { 2, 1 }, { 2, 4 }, { 1, 1 }, ref = slice_add }, { T { 5, 4 }, T { 2 }, { 1, 4 }, { 3, 2 }, { 2, -2 }, ref = slice_add },
  { T { 5 }, T {}, { 2 }, { 3 }, { 1 }, ref = slice_add }, { T { 5 }, T { 0 }, { 1 }, { 0 }, { 1 }, ref = slice_add },
  { ints({ 4 }, 0, 9), ints({ 2 }, 0, 9), { 2 }, { 2 }, { 2 }, ref = slice_add, tol = 0, dtype = "i64" },
  bad = { { T { 5 }, T { 3 }, { 1 }, { 2 }, { 1 }, "a value of shape 3 does not fit a box of shape 2" },
    { ints({ 3 }, 0, 9, "u8"), ints({ 1 }, 0, 9, "u8"), { 1 }, { 1 }, { 1 }, "adds floats, i64 or i32, not u8" } },
}
local function same(a) return shaped(a, a.shape) end
cases.contiguous = {
  { T { 3, 4 }, ref = same, tol = 0 }, { T { 2, 3, 4 }, ref = same, tol = 0 }, { T { 0 }, ref = same },
  { ints({ 3, 5 }, 0, 9, "u8"), ref = same, tol = 0, dtype = "u8" }, { ints({ 3, 5 }, 0, 9), ref = same, tol = 0, dtype = "i64" },
  bad = { { 3, "argument 'x' must be a tensor, got number" } },
}
local function cast_case(from, to, f)
  return { from, to, ref = function(a) return map(f, a) end, tol = 0, dtype = to, nograd = true }
end
cases.cast = {
  cast_case(T { 3, 4 }, "i64", trunc), cast_case(T { 3, 4 }, "i32", trunc), cast_case(T { 3, 4 }, "bool", function(x) return bool(x ~= 0) end),
  cast_case(given({ 4 }, { 0, 0.2, 300, 255 }), "u8", function(x) return trunc(x) % 256 end),
  cast_case(ints({ 5 }, -300, 300), "u8", function(x) return x % 256 end),
  cast_case(ints({ 5 }, -300, 300), "f32", function(x) return x end),
  cast_case(ints({ 5 }, 0, 1, "bool"), "f32", function(x) return bool(truth(x)) end),
  cast_case(ints({ 2, 5 }, 0, 255, "u8"), "i32", function(x) return x end),
  cast_case(ints({ 2, 5 }, -3, 3, "i32"), "bool", function(x) return bool(x ~= 0) end),
  cast_case(T { 0 }, "i64", trunc), { T { 3 }, "f32", ref = same, tol = 0, only = "f32" },
  bad = { { T { 2 }, "float99", "argument 'dtype' must be a dtype (bool, u8, i32, i64, f16, bf16, f32, f64), got float99" },
    { T { 2 }, "argument 'dtype' is missing" } },
}

-- ---- joining, picking ---------------------------------------------------------------------------------------------------------------
local function joined(xs, dim)
  local d = dim_of(dim or 1, #xs[1].shape)
  local shape, n = copy(xs[1].shape), 0
  for _, x in ipairs(xs) do n = n + x.shape[d] end
  shape[d] = n
  return build(shape, function(idx)
    local i, k = copy(idx), 1
    while i[d] > xs[k].shape[d] do i[d], k = i[d] - xs[k].shape[d], k + 1 end
    return at(xs[k], i)
  end)
end
cases.cat = {
  { { T { 2, 3 }, T { 1, 3 } }, ref = joined, tol = 0 }, { { T { 2, 3 }, T { 2, 1 }, T { 2, 2 } }, 2, ref = joined, tol = 0 },
  { { T { 2, 0 }, T { 2, 2 } }, -1, ref = joined, tol = 0 }, { { T { 2, 2, 3 }, T { 2, 1, 3 } }, 2, ref = joined, tol = 0 },
  { { T { 3 } }, ref = joined, tol = 0 },
  { { ints({ 2 }, 0, 9, "i32"), ints({ 3 }, 0, 9) }, ref = joined, tol = 0, dtype = "i64" },
  { { T({ 2 }, { nograd = true }), ints({ 3 }, 0, 9) }, ref = joined, tol = 0 },
  bad = { { { T { 2, 3 }, T { 2, 4 } }, "tensor 2 has shape 2x4, the first has 2x3; they may differ in dim 1 only" },
    { {}, "the list of tensors is empty" },
    { { T { 2 }, 3 }, "entry 2 of 'xs' is no tensor" }, { { T { 2 } }, 2, "dim 2 is out of range" },
    { T { 2 }, "argument 'xs' must be a list of tensors" } },
}
local function stacked(xs, dim)
  local list_ = {}
  local d = dim or 1
  if d < 0 then d = d + #xs[1].shape + 2 end
  for i, x in ipairs(xs) do list_[i] = unsqueezed(x, d) end
  return joined(list_, d)
end
cases.stack = {
  { { T { 2, 3 }, T { 2, 3 } }, ref = stacked, tol = 0 }, { { T { 2, 3 }, T { 2, 3 }, T { 2, 3 } }, -1, ref = stacked, tol = 0 },
  { { T {}, T {} }, ref = stacked, tol = 0 },
  { { T { 2, 3 }, T { 2, 3 } }, 2, ref = stacked, tol = 0 }, { { T { 0 }, T { 0 } }, ref = stacked, tol = 0 },
  bad = { { { T { 2 }, T { 3 } }, "has shape" }, { {}, "the list of tensors is empty" }, { { T { 2 } }, 3, "dim 3 is out of range" } },
}
local function selected(a, dim, pos)
  local d, shape = dim_of(dim, #a.shape), copy(a.shape)
  if not pos.shape then pos = shaped(pos, { #pos }) end
  shape[d] = pos.shape[1]
  return build(shape, function(idx)
    local from = copy(idx)
    from[d] = pos[idx[d]]
    return at(a, from)
  end)
end
cases.index_select = {
  { T { 5, 3 }, 1, ids({ 4 }, 5), ref = selected, tol = 0 }, { T { 2, 4, 3 }, 2, ids({ 6 }, 4), ref = selected, tol = 0 },
  { T { 2, 3 }, -1, { 3, 1, 3 }, ref = selected, tol = 0 },
  { T { 5 }, 1, ids({ 0 }, 5), ref = selected, tol = 0 }, { ints({ 5, 2 }, 0, 9, "u8"), 1, ids({ 3 }, 5), ref = selected, tol = 0, dtype = "u8" },
  bad = { { T { 5 }, 1, given({ 2 }, { 1, 6 }, "i64"), "id 6 at position 2 is not in 1..5" },
    { T { 5 }, 1, given({ 1 }, { 0 }, "i64"), "id 0 at position 1 is not in 1..5" },
    { T { 5 }, 1, T { 2 }, "must hold integers" }, { T { 5 }, 2, { 1 }, "dim 2 is out of range" }, { T { 5 }, 1, { 0 }, "position 0" },
    { T { 5 }, 1, given({ 1, 1 }, { 1 }, "i64"), "must have 1 dims, got 2" } },
}
local function added_rows(a, pos, rows)
  local shape = copy(a.shape)
  shape[1] = rows
  local out, inner = build(shape, function() return 0 end), #a / a.shape[1]
  for i = 1, #pos do
    for k = 1, inner do
      local to = (pos[i] - 1) * inner + k
      out[to] = out[to] + a[(i - 1) * inner + k]
    end
  end
  return out
end
cases.add_rows = {
  { T { 4, 3 }, ids({ 4 }, 5), 5, ref = added_rows }, { T { 6 }, ids({ 6 }, 2), 3, ref = added_rows },
  { T { 1, 2, 2 }, ids({ 1 }, 1), 1, ref = added_rows },
  bad = { { T { 4, 3 }, given({ 3 }, { 1, 1, 1 }, "i64"), 5, "3 positions for 4 slices" },
    { T { 1, 3 }, given({ 1 }, { 6 }, "i64"), 5, "id 6 at position 1 is not in 1..5" } },
}
local function one_hot(pos, n)
  local shape = copy(pos.shape)
  shape[#shape + 1] = n
  return build(shape, function(idx)
    local p = { unpack(idx, 1, #idx - 1) }
    return bool(at(pos, p) == idx[#idx])
  end)
end
cases.one_hot = {
  { ids({ 5 }, 4), 4, ref = one_hot, tol = 0 }, { ids({ 2, 3 }, 4), 6, ref = one_hot, tol = 0 }, { ids({ 0 }, 4), 4, ref = one_hot, tol = 0 },
  { ids({}, 3), 3, ref = one_hot, tol = 0 },
  no_gradient = "its argument is positions",
  bad = { { given({ 2 }, { 1, 5 }, "i64"), 4, "id 5 at position 2 is not in 1..4" }, { given({ 1 }, { 1 }, "i64"), 0, "classes = 0" },
    { T { 2 }, 3, "must hold integers" } },
}

-- ---- reductions ---------------------------------------------------------------------------------------------------------------------
-- over the usual shapes and dims
local function reduction(name, f, o)
  local function ref(a, dims, keep)
    if type(dims) == "table" and (dims.dim ~= nil or dims.keepdim ~= nil) then dims, keep = dims.dim, dims.keepdim end
    return reduce(a, dims, keep, f)
  end
  local l = { bad = {
    { T { 2, 3 }, 3, "dim 3 is out of range: the tensor has 2 dims (1..2 or -1..-2)" }, { T { 2, 3 }, 0, "dim 0: dims count from 1" },
    { T { 2, 3 }, { 1, -2 }, "dim 1 is named twice" }, { T { 2, 3 }, "1", "argument 'dim'" },
    { T { 2, 3 }, 1, 1, "argument 'keepdim' must be true or false, got number" },
    { T { 2, 3 }, { axis = 1 }, "unknown option 'axis'" }, { T {}, 1, "a scalar has no dims" },
  }, no_gradient = o.no_gradient }
  local function add(...)
    local c = { ... }
    c.ref, c.tol, c.dtype, c.nograd, c.gradtol = ref, o.tol, o.result, o.nograd, o.gradtol
    l[#l + 1] = c
    return c
  end
  add(T({ 3, 4 }, o)); add(T({ 3, 4 }, o), 1); add(T({ 3, 4 }, o), 2, true); add(T({ 2, 3, 4 }, o), { 1, 3 }); add(T({ 2, 3, 4 }, o), 2)
  add(T({ 2, 3, 2 }, o), { dim = -1, keepdim = true }); add(T({}, o)); add(T({ 1, 5 }, o), 1); add(T({ 3, 1 }, o), 2); add(T({ 2, 2, 2, 3 }, o),
    { 2, 4 }, true)
  add(T({ 19 }, o)); add(T({ 2, 33, 2 }, o), 2)
  if o.big ~= false then -- longer than a row of a program, and across rows
    for _, c in ipairs { { { 1, 20011 } }, { { 2, 17000 }, 2 }, { { 20011, 2 }, 1 }, { { 3, 4001, 3 }, { 1, 3 } }, { { 3, 4001, 3 }, 2 },
      { { 70000 } } } do
      local big = add(T(c[1], o), c[2])
      big.nograd, big.layouts, big.tol = true, false, o.tol or o.bigtol
    end
  end
  if o.empty then
    add(T({ 0 }, o)); add(T({ 2, 0, 3 }, o), 2); add(T({ 0, 3 }, o), 2)
  end
  cases[name] = l
  return l, add
end
local add
_, add = reduction("sum", total, { empty = true, bigtol = 2e-4 })
for _, d in ipairs { "i64", "i32", "u8", "bool" } do
  local c = add(ints({ 7, 5 }, d == "bool" and 0 or d == "u8" and 200 or -9, d == "bool" and 1 or 250, d), 1)
  c.dtype, c.tol = "i64", 0
end
_, add = reduction("mean", function(l) return total(l) / #l end, { bigtol = 1e-5, empty = false })
add(ints({ 4, 3 }, -9, 9), 2).nograd = true
add(T { 2, 0 }, 2).nograd = true
reduction("prod", function(l)
  local p = 1
  for _, x in ipairs(l) do p = p * x end
  return p
end, { 0.4, 1.6, empty = true, big = false, gradtol = 2e-3 })
for zeros_in_row = 1, 3 do
  local values = {}
  for i = 1, 12 do values[i] = i % 4 < zeros_in_row and 0 or i / 8 end
  table.insert(cases.prod, { T({ 3, 4 }, { values = values, leaf = true }), 2, ref = cases.prod[1].ref, layouts = false })
end
for name, f in pairs { amax = largest, amin = smallest } do
  list, add = reduction(name, f, { apart = 1, tol = 0 })
  add(given({ 2, 3 }, { 1, 0 / 0, 3, 4, 5, 6 }), 2).nograd = true
  add(given({ 3, 2 }, { 1, 0 / 0, 3, 4, 5, 6 }), 1).nograd = true
  add(given({ 2, 2 }, { -math.huge, -math.huge, math.huge, 1 }), 2).nograd = true
  local c = add(ints({ 4, 40 }, -99, 99), 2)
  c.dtype = "i64"
  c = add(ints({ 40, 4 }, 0, 255, "u8"), 1)
  c.dtype = "u8"
  list.bad[#list.bad + 1] = { T { 2, 0 }, 2, "there is nothing to choose from" }
end
for name, better in pairs { argmax = function(a, b) return a > b end, argmin = function(a, b) return a < b end } do
  local function f(l)
    local k = 1
    for i, x in ipairs(l) do
      if isnan(x) then return i end
      if better(x, l[k]) then k = i end
    end
    return k
  end
  local no = "positions are integers"
  list, add = reduction(name, f, { result = "i64", tol = 0, no_gradient = no })
  for i = #list, 1, -1 do -- one dim at most; all dims: the position in row-major order
    local d = list[i][2]
    if type(d) == "table" and #d > 0 then table.remove(list, i) end
  end
  add(given({ 2, 4 }, { 1, 3, 3, 0, 0, 0, -1, -1 }), 2)
  add(given({ 4, 2 }, { 1, 3, 3, 0, 0, 3, 3, -1 }), 1)
  add(given({ 5 }, { 1, 0 / 0, 7, 0 / 0, -7 }))
  add(given({ 5, 1 }, { 1, 0 / 0, 7, 0 / 0, -7 }), 1)
  add(ints({ 40, 33 }, 0, 5), 1)
  add(ints({ 40, 33 }, 0, 5), 2)
  add(ints({ 12, 9 }, 0, 3, "u8"), 1)
  add(ints({ 20000 }, 0, 3))
  list.bad[3] = { T { 2, 0 }, 2, "there is nothing to choose from" }
  list.bad[4] = { T { 2, 3 }, "1", "argument 'dim' must be an integer" }
end
for name, f in pairs {
  any = function(l)
    for _, x in ipairs(l) do
      if truth(x) then return 1 end
    end
    return 0
  end,
  all = function(l)
    for _, x in ipairs(l) do
      if not truth(x) then return 0 end
    end
    return 1
  end,
} do
  _, add = reduction(name, f, { result = "bool", tol = 0, empty = true, no_gradient = "a truth value", dtype = "bool", lo = 0, hi = 1 })
  add(given({ 2, 3 }, { 0, 0, 0.5, 0, 0, 0 }), 2)
  add(given({ 2, 3 }, { 1, -1, 0.5, 0, 2, 0 / 0 }), 2)
end
local function variance(l, correction)
  local m, s = total(l) / #l, 0
  for _, x in ipairs(l) do s = s + (x - m) * (x - m) end
  return s / (#l - correction)
end
local function spread(root)
  return function(a, dims, correction, keep)
    return reduce(a, dims, keep, function(l)
      local v = variance(l, correction or 1)
      return root and math.sqrt(v) or v
    end)
  end
end
for name, root in pairs { var = false, std = true } do
  local ref = spread(root)
  cases[name] = {
    { T { 3, 4 }, ref = ref, gradtol = 2e-3 }, { T { 3, 4 }, 1, ref = ref, gradtol = 2e-3 }, { T { 3, 4 }, 2, 0, true, ref = ref, gradtol = 2e-3 },
    { T { 2, 3, 4 }, { 1, 3 }, 0, ref = ref, gradtol = 2e-3 }, { T { 2, 3, 2 }, -1, 1, true, ref = ref, gradtol = 5e-3 },
    { T({ 2, 5000 }, { 9, 11 }), 2, ref = ref, nograd = true, layouts = false, tol = 1e-4 },
    bad = { { T { 2, 3 }, 3, "dim 3 is out of range" }, { T { 2, 3 }, 0, "dim 0" },
      { T { 2, 3 }, 1, 0.5, "argument 'correction' must be an integer, got 0.5" } },
  }
end
cases.var[#cases.var + 1] = { T { 3, 1 }, 2, 1, ref = function(a) return build({ a.shape[1] }, function() return 0 / 0 end) end, nograd = true }
_, add = reduction("logsumexp", logsumexp, { bigtol = 1e-5, empty = true })
add(given({ 2, 3 }, { 1000, 1000, 1000, -1000, -1001, -1e4 }), 2).nograd = true
add(given({ 3, 2 }, { -math.huge, -math.huge, math.huge, 1, -math.huge, 2 }), 2).nograd = true
add(given({ 3, 2 }, { -math.huge, math.huge, -math.huge, 1, -math.huge, 2 }), 1).nograd = true

local function softmax_of(log)
  return function(a, dim)
    return along(a, dim or -1, function(l)
      local z, out = logsumexp(l), {}
      for i, x in ipairs(l) do out[i] = log and x - z or math.exp(x - z) end
      return out
    end)
  end
end
for name, log in pairs { softmax = false, log_softmax = true } do
  local ref = softmax_of(log)
  cases[name] = {
    { T { 3, 4 }, ref = ref }, { T { 3, 4 }, 1, ref = ref }, { T { 2, 3, 4 }, 2, ref = ref }, { T { 2, 3, 4 }, -3, ref = ref },
    { T { 7 }, ref = ref }, { T { 3, 1 }, ref = ref },
    { T { 0, 3 }, ref = ref }, { T { 3, 0 }, ref = ref }, { T { 2, 0, 3 }, 2, ref = ref }, { T { 2, 1000 }, ref = ref, nograd = true },
    { T { 1, 20000 }, ref = ref, nograd = true, layouts = false },
    { given({ 2, 3 }, { 1000, 999, -1000, -1e4, -1e4, -1e4 }), ref = ref, nograd = true },
    { given({ 1, 3 }, { -math.huge, 0, 1 }), ref = ref, nograd = true },
    bad = { { T { 2, 3 }, 3, "dim 3 is out of range" }, { T { 2, 3 }, 0, "dim 0" }, { T {}, "a scalar has no dims" },
      { T { 2 }, "last", "argument 'dim' must be an integer" } },
  }
end

-- ---- products -------------------------------------------------------------------------------------------------------------------------
local function matmul(a, b)
  local va, vb = #a.shape == 1, #b.shape == 1
  if va then a = shaped(a, { 1, a.shape[1] }) end
  if vb then b = shaped(b, { b.shape[1], 1 }) end
  local la, lb = { unpack(a.shape, 1, #a.shape - 2) }, { unpack(b.shape, 1, #b.shape - 2) }
  local shape, k = joint { la, lb }, a.shape[#a.shape]
  local nb = #shape
  shape[nb + 1], shape[nb + 2] = a.shape[#a.shape - 1], b.shape[#b.shape]
  local y = build(shape, function(idx)
    local i, j, s = copy(idx), copy(idx), 0
    for p = 1, k do
      i[nb + 2], j[nb + 1] = p, p
      s = s + at(a, i) * at(b, j)
    end
    return s
  end)
  if va then table.remove(shape, nb + 1) end
  if vb then table.remove(shape) end
  return y
end
cases.matmul = { bad = {
  { T { 2, 3 }, T { 4, 5 }, "inner sizes differ: (2x3) x (4x5): 3 vs 4" }, { T { 3 }, T { 4 }, "inner sizes differ: (3) x (4): 3 vs 4" },
  { T {}, T { 3 }, "a scalar has no matrix product" }, { T { 2, 2, 3 }, T { 3, 3, 2 }, "leading dims do not broadcast: (2x2x3) x (3x3x2)" },
  { T { 2 }, 3, "argument 'b' must be a tensor, got number" },
} }
for _, s in ipairs {
  { { 2, 3 }, { 3, 4 } }, { { 3 }, { 3 } }, { { 2, 3 }, { 3 } }, { { 3 }, { 3, 4 } }, { { 2, 2, 3 }, { 3, 4 } }, { { 2, 2, 3 }, { 2, 3, 2 } },
  { { 2, 1, 2, 3 }, { 3, 3, 2 } },
  { { 3 }, { 2, 3, 2 } }, { { 2, 2, 3 }, { 3 } }, { { 1, 1 }, { 1, 1 } }, { { 1, 5 }, { 5, 1 } }, { { 2, 0 }, { 0, 3 } }, { { 0, 2 }, { 2, 3 } },
  { { 2, 3 }, { 3, 0 } },
  { { 2, 0, 3 }, { 3, 2 } }, { { 0, 2, 3 }, { 3, 2 } },
} do
  cases.matmul[#cases.matmul + 1] = { T(s[1]), T(s[2]), ref = matmul }
end
for _, s in ipairs { { { 70, 33 }, { 33, 65 } }, { { 1, 300 }, { 300, 7 } }, { { 3, 17, 40 }, { 40, 19 } }, { { 4, 9, 8 }, { 4, 8, 10 } } } do
  cases.matmul[#cases.matmul + 1] = { T(s[1]), T(s[2]), ref = matmul, nograd = true, tol = 2e-5 }
end
local function linear(x, w, b)
  local y = matmul(x, w)
  return b and map(function(p, q) return p + q end, y, b) or y
end
cases.linear = {
  { T { 2, 3 }, T { 3, 4 }, ref = linear }, { T { 2, 3 }, T { 3, 4 }, T { 4 }, ref = linear }, { T { 2, 2, 3 }, T { 3, 2 }, T { 2 }, ref = linear },
  { T { 3 }, T { 3, 2 }, T { 2 }, ref = linear },
  { T { 0, 3 }, T { 3, 2 }, T { 2 }, ref = linear },
  bad = { { T { 2, 3 }, T { 4, 5 }, "the input (2x3) has 3 features, the weight (4x5) takes 4" },
    { T { 2, 3 }, T { 3 }, "the weight must be a matrix (in, out), its shape is (3)" },
    { T { 2, 3 }, T { 3, 4 }, T { 5 }, "(2x4) and (5)" } },
}

-- ---- convolution and pooling ------------------------------------------------------------------------------------------------------------
local function two(v) if type(v) == "table" then return v[1], v[2] end return v, v end

-- geometry of a window over x: output sizes and padding at top and left
local function window(h, w, kh, kw, stride, padding, dilation)
  local sh, sw = two(stride or 1)
  local dh, dw = two(dilation or 1)
  local eh, ew = (kh - 1) * dh + 1, (kw - 1) * dw + 1
  local pt, pl, pb, pr = 0, 0, 0, 0
  if padding == "same" then
    local oh, ow = math.ceil(h / sh), math.ceil(w / sw)
    local th, tw = math.max(0, (oh - 1) * sh + eh - h), math.max(0, (ow - 1) * sw + ew - w)
    pt, pl = th // 2, tw // 2
    pb, pr = th - pt, tw - pl
  elseif type(padding) == "number" then pt, pl, pb, pr = padding, padding, padding, padding
  elseif type(padding) == "table" then
    pt, pl, pb, pr = unpack(padding)
    pb, pr = pb or pt, pr or pl
  end
  return { oh = (h + pt + pb - eh) // sh + 1, ow = (w + pl + pr - ew) // sw + 1, pt = pt, pl = pl, sh = sh, sw = sw, dh = dh, dw = dw }
end

-- visit(n, oh, ow, k, kh, kw, c in group, h, w, c): every product of a convolution
local function conv_terms(xs, ws, o, groups, visit)
  local N, H, W, C = unpack(xs)
  local KH, KW, CG, K = unpack(ws)
  local per = K // groups
  assert(CG * groups == C)
  for n = 1, N do
    for oh = 1, o.oh do
      for ow = 1, o.ow do
        for kh = 1, KH do
          local h = (oh - 1) * o.sh - o.pt + (kh - 1) * o.dh + 1
          for kw = 1, KW do
            local w = (ow - 1) * o.sw - o.pl + (kw - 1) * o.dw + 1
            if h >= 1 and h <= H and w >= 1 and w <= W then
              for k = 1, K do
                local g = (k - 1) // per
                for c = 1, CG do
                  visit((((n - 1) * o.oh + oh - 1) * o.ow + ow - 1) * K + k, (((kh - 1) * KW + kw - 1) * CG + c - 1) * K + k,
                    (((n - 1) * H + h - 1) * W + w - 1) * C + g * CG + c)
                end
              end
            end
          end
        end
      end
    end
  end
end
local function zeros(shape) return build(shape, function() return 0 end) end
local function conv2d(x, w, b, stride, padding, dilation, groups)
  if type(stride) == "table" and not stride[1] then
    stride, padding, dilation, groups = stride.stride, stride.padding, stride.dilation, stride.groups
  end
  local o = window(x.shape[2], x.shape[3], w.shape[1], w.shape[2], stride, padding, dilation)
  local y = zeros { x.shape[1], o.oh, o.ow, w.shape[4] }
  if b then y = map(function(_, q) return q end, y, b) end
  conv_terms(x.shape, w.shape, o, groups or 1, function(yi, wi, xi) y[yi] = y[yi] + x[xi] * w[wi] end)
  return y
end
cases.conv2d = { bad = {
  { T { 4, 4, 1 }, T { 3, 3, 1, 2 }, "the input must be (batch, height, width, channels), its shape is (4x4x1)" },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1 }, "it has 3 dims" },
  { T { 1, 4, 4, 2 }, T { 3, 3, 1, 2 }, "input (1x4x4x2) has 2 channels, kernel (3x3x1x2) takes 1 in 1 group" },
  { T { 1, 2, 2, 1 }, T { 3, 3, 1, 2 }, "a window of 3x3 does not fit an input of 2x2" },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1, 2 }, nil, 0, "stride 0 must be at least 1" },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1, 2 }, nil, 1, "SAME", 'padding must be "valid", "same" or sizes, got "SAME"' },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1, 2 }, T { 3 }, "the bias must have 2 elements" },
  { T { 1, 4, 4, 3 }, T { 1, 1, 1, 2 }, nil, 1, "valid", 1, 2, "groups = 2 must divide" },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1, 2 }, { padding = { 1, 1, 1 } }, "argument 'padding'" },
  { T { 1, 4, 4, 1 }, T { 3, 3, 1, 2 }, { strides = 2 }, "unknown option 'strides'" },
} }
local function conv(x, w, b, ...)
  local c = { T(x), T(w), b and T(b) or nil, ... }
  c.n = 3 + select("#", ...)
  c.ref = conv2d
  cases.conv2d[#cases.conv2d + 1] = c
  return c
end
conv({ 1, 4, 4, 1 }, { 3, 3, 1, 1 })
conv({ 2, 4, 5, 2 }, { 3, 2, 2, 3 }, { 3 })
conv({ 1, 5, 5, 2 }, { 3, 3, 2, 2 }, nil, 2, "same")
conv({ 1, 5, 4, 2 }, { 2, 2, 2, 2 }, { 2 }, 1, "same")
conv({ 1, 5, 6, 1 }, { 3, 3, 1, 2 }, nil, { 2, 1 }, { 1, 0, 0, 2 })
conv({ 1, 6, 6, 1 }, { 2, 2, 1, 2 }, nil, 1, 1, 2)
conv({ 1, 4, 5, 2 }, { 3, 2, 1, 2 }, nil, { 1, 2 }, { 2, 1 }, 1, 2) -- pads of height and width
conv({ 1, 4, 4, 4 }, { 3, 3, 2, 2 }, nil, 1, "valid", 1, 2)
conv({ 1, 4, 4, 3 }, { 3, 3, 1, 3 }, { 3 }, 1, "same", 1, 3) -- one channel a group
conv({ 2, 3, 3, 2 }, { 1, 1, 2, 3 })
conv({ 1, 6, 6, 2 }, { 3, 3, 1, 2 }, nil, 2, "same", { 1, 2 }, 2)
conv({ 1, 3, 3, 1 }, { 1, 1, 1, 1 }, nil, 3)
conv({ 1, 1, 1, 2 }, { 3, 3, 2, 2 }, nil, 1, "same")
cases.conv2d[#cases.conv2d + 1] = { T { 1, 5, 5, 1 }, T { 3, 3, 1, 2 }, nil, { stride = 2, padding = "same" }, n = 4, ref = conv2d }
for _, s in ipairs { { { 2, 9, 11, 3 }, { 3, 3, 3, 5 } }, { { 1, 12, 12, 16 }, { 3, 3, 16, 17 } },
  { { 2, 8, 8, 4 }, { 5, 5, 4, 3 } } } do -- Winograd, direct, im2col
  local c = conv(s[1], s[2], nil, 1, "same")
  c.nograd, c.tol = true, 5e-5
end
local function conv_dx(dy, w, size, stride, padding, dilation, groups)
  local o = window(size[1], size[2], w.shape[1], w.shape[2], stride, padding, dilation)
  local dx = zeros { dy.shape[1], size[1], size[2], w.shape[3] * groups }
  conv_terms(dx.shape, w.shape, o, groups, function(yi, wi, xi) dx[xi] = dx[xi] + dy[yi] * w[wi] end)
  return dx
end
local function conv_dw(x, dy, size, stride, padding, dilation, groups)
  local o = window(x.shape[2], x.shape[3], size[1], size[2], stride, padding, dilation)
  local dw = zeros { size[1], size[2], x.shape[4] // groups, dy.shape[4] }
  conv_terms(x.shape, dw.shape, o, groups, function(yi, wi, xi) dw[wi] = dw[wi] + dy[yi] * x[xi] end)
  return dw
end
cases.conv2d_dx = {
  { T { 1, 2, 2, 2 }, T { 3, 3, 1, 2 }, { 4, 4 }, 1, { 0, 0, 0, 0 }, 1, 1, ref = conv_dx },
  { T { 2, 3, 2, 2 }, T { 3, 2, 2, 2 }, { 5, 4 }, 2, { 1, 0, 1, 1 }, 1, 1, ref = conv_dx },
  { T { 1, 4, 4, 2 }, T { 2, 2, 1, 2 }, { 6, 6 }, 1, { 0, 0, 0, 0 }, 2, 2, ref = conv_dx },
  bad = { { T { 1, 2, 2, 2 }, T { 3, 3, 1, 2 }, { 9, 9 }, 1, { 0, 0, 0, 0 }, 1, 1, "the output is 2x2, these sizes make 7x7" },
    { T { 1, 2, 2, 3 }, T { 3, 3, 1, 2 }, { 4, 4 }, 1, { 0, 0, 0, 0 }, 1, 1, "the kernel does not fit the output's channels" },
    { T { 1, 2, 2, 2 }, T { 3, 3, 1, 2 }, { 4 }, 1, { 0, 0, 0, 0 }, 1, 1, "size needs 2 entries" } },
}
cases.conv2d_dw = {
  { T { 1, 4, 4, 1 }, T { 1, 2, 2, 2 }, { 3, 3 }, 1, { 0, 0, 0, 0 }, 1, 1, ref = conv_dw },
  { T { 2, 5, 4, 2 }, T { 2, 3, 2, 2 }, { 3, 2 }, 2, { 1, 0, 1, 1 }, 1, 1, ref = conv_dw },
  { T { 1, 6, 6, 2 }, T { 1, 4, 4, 2 }, { 2, 2 }, 1, { 0, 0, 0, 0 }, 2, 2, ref = conv_dw },
  bad = { { T { 1, 4, 4, 1 }, T { 1, 2, 2, 2 }, { 2, 2 }, 1, { 0, 0, 0, 0 }, 1, 1, "the output is 2x2, these sizes make 3x3" },
    { T { 2, 4, 4, 1 }, T { 1, 2, 2, 2 }, { 3, 3 }, 1, { 0, 0, 0, 0 }, 1, 1, "batch sizes 2 and 1" } },
}
-- which tap of each window wins: the first of equals, NaN before all; padding never
local function pool_taps(x, size, stride, padding)
  local kh, kw = two(size)
  local o = window(x.shape[2], x.shape[3], kh, kw, stride or size, padding, 1)
  local best, tap, from = {}, {}, {}
  conv_terms({ x.shape[1], x.shape[2], x.shape[3], x.shape[4] }, { kh, kw, 1, x.shape[4] }, o, x.shape[4], function(yi, wi, xi)
    local v = x[xi]
    if best[yi] == nil or (not isnan(best[yi]) and (v > best[yi] or isnan(v))) then best[yi], tap[yi], from[yi] = v, (wi - 1) // x.shape[4], xi end
  end)
  local shape = { x.shape[1], o.oh, o.ow, x.shape[4] }
  return shaped(best, shape), shaped(tap, shape), shaped(from, shape)
end
local function max_pool(x, size, stride, padding)
  if type(stride) == "table" and not stride[1] then stride, padding = stride.stride, stride.padding end
  return (pool_taps(x, size, stride, padding))
end
local distinct = { apart = 1 }
cases.max_pool2d = {
  { T({ 1, 4, 4, 2 }, distinct), 2, ref = max_pool, tol = 0 }, { T({ 2, 5, 5, 1 }, distinct), { 3, 2 }, { 2, 1 }, ref = max_pool, tol = 0 },
  { T({ 1, 5, 4, 2 }, distinct), 3, 2, "same", ref = max_pool, tol = 0 },
  { T({ 1, 4, 4, 1 }, distinct), 2, 1, { 1, 0, 0, 1 }, ref = max_pool, tol = 0 },
  { T({ 1, 4, 4, 1 }, distinct), 2, { stride = 1 }, ref = max_pool, tol = 0 }, { T({ 1, 1, 1, 3 }, distinct), 1, ref = max_pool, tol = 0 },
  { given({ 1, 2, 2, 2 }, { 0 / 0, 1, 2, 1, 3, 1, 4, 1 }), 2, ref = max_pool, tol = 0, nograd = true },
  { T({ 3, 20, 21, 33 }, distinct), 2, ref = max_pool, tol = 0, nograd = true },
  bad = { { T { 4, 4, 1 }, 2, "the input must be (batch, height, width, channels), its shape is (4x4x1)" },
    { T { 1, 2, 2, 1 }, 3, "a window of 3x3 does not fit an input of 2x2" },
    { T { 1, 4, 4, 1 }, 0, "0 must be at least 1" }, { T { 1, 4, 4, 1 }, 2, 0, "stride 0 must be at least 1" },
    { T { 1, 4, 4, 1 }, 2, 2, 2, "padding must be smaller than the window" },
    { T { 1, 40, 40, 1 }, 20, "windows of more than 255 elements" }, { T { 1, 4, 4, 1 }, "argument 'size' is missing" } },
}
local function taps_case(shape, kh, kw, stride, pad, spread_)
  local o = window(shape[2], shape[3], kh, kw, stride, pad, 1)
  local ys, values = { shape[1], o.oh, o.ow, shape[4] }, {}
  local x = build(shape, function(idx) return (idx[1] * 7 + idx[2] * 13 + idx[3] * spread_ + idx[4] * 5) % 17 + idx[2] / 50 + idx[3] / 700 end)
  local _, tap = pool_taps(x, { kh, kw }, stride, pad)
  for i = 1, #tap do values[i] = tap[i] end
  return ys, given(ys, values, "u8")
end
local function pool_walk(taps, xs, size, stride, pad, visit) -- visit(y, x) for the tap of every window
  local o = window(xs[2], xs[3], size[1], size[2], stride, pad, 1)
  conv_terms(xs, { size[1], size[2], 1, xs[4] }, o, xs[4], function(yi, wi, xi)
    if (wi - 1) // xs[4] == taps[yi] then visit(yi, xi) end
  end)
end
cases.max_pool2d_dx, cases.max_pool2d_take = {}, {}
for _, g in ipairs { { { 1, 4, 4, 2 }, { 2, 2 }, { 2, 2 }, { 0, 0, 0, 0 }, 3 }, { { 2, 5, 4, 1 }, { 3, 2 }, { 2, 1 }, { 1, 0, 1, 1 }, 11 } } do
  local xs, size, stride, pad = g[1], g[2], g[3], g[4]
  local ys, taps = taps_case(xs, size[1], size[2], stride, pad, g[5])
  table.insert(cases.max_pool2d_dx, { T(ys), taps, { xs[2], xs[3] }, size, stride, pad, ref = function(dy, t)
    local dx = zeros(xs)
    pool_walk(t, xs, size, stride, pad, function(y, x) dx[x] = dx[x] + dy[y] end)
    return dx
  end })
  table.insert(cases.max_pool2d_take, { T(xs), taps, size, stride, pad, ref = function(x, t)
    local y = zeros(ys)
    pool_walk(t, xs, size, stride, pad, function(yi, xi) y[yi] = x[xi] end)
    return y
  end })
end
cases.max_pool2d_dx.bad = { { T { 1, 2, 2, 1 }, given({ 1, 2, 1, 1 }, { 0, 0 }, "u8"), { 4, 4 }, 2, 2, { 0, 0, 0, 0 },
  "cotangent and taps differ in shape" } }
cases.max_pool2d_take.bad = { { T { 1, 4, 4, 1 }, T { 1, 2, 2, 1 }, 2, 2, { 0, 0, 0, 0 }, "taps must be u8, got f32" } }

-- ---- statistics of channels, recurrent layers --------------------------------------------------------------------------------------
-- (their further results, and gradients through them, are in batchnorm_spec.lua and recurrent_spec.lua)
local function channel_sums(x, f)
  local c = x.shape[#x.shape]
  local out = { shape = { c } }
  for k = 1, c do out[k] = 0 end
  for i = 1, numel(x.shape) do
    local k = (i - 1) % c + 1
    out[k] = out[k] + f(x[i], k, i)
  end
  return out, numel(x.shape) / c
end
local function channel_means(x, f)
  local sums, n = channel_sums(x, f)
  for k = 1, #sums do sums[k] = sums[k] / n end
  return sums
end
local function identity(v) return v end
cases.moments = {
  { T { 4, 3 }, ref = function(x) return channel_means(x, identity) end }, { T { 2, 3, 5 }, ref = function(x) return channel_means(x, identity) end },
  { T { 1, 2 }, ref = function(x) return channel_means(x, identity) end },
  bad = { { T {}, "it needs channels" }, { T { 0, 2 }, "the batch is empty" } },
}
cases.column_dots = {
  { T { 4, 3 }, T { 4, 3 }, T { 3 }, ref = function(a) return (channel_sums(a, identity)) end },
  { T { 2, 3, 5 }, T { 2, 3, 5 }, T { 5 }, ref = function(a) return (channel_sums(a, identity)) end },
  { T { 0, 2 }, T { 0, 2 }, T { 2 }, ref = function(a) return (channel_sums(a, identity)) end },
  bad = { { T { 2, 3 }, T { 3, 3 }, T { 3 }, "a and x differ in shape" },
    { T { 2, 3 }, T { 2, 3 }, T { 2 }, "mean must have one element for each of 3" } },
}
local function batch_norm(x, weight, bias, eps)
  local mean = channel_means(x, identity)
  local second = channel_means(x, function(v, k) return (v - mean[k]) ^ 2 end)
  local out = { shape = x.shape }
  for i = 1, numel(x.shape) do
    local k = (i - 1) % #mean + 1
    out[i] = (x[i] - mean[k]) / (second[k] + (eps or 1e-5)) ^ 0.5 * weight[k] + bias[k]
  end
  return out
end
cases.batch_norm_train = {
  { T { 6, 3 }, T { 3 }, T { 3 }, 0.1, ref = batch_norm }, { T { 2, 3, 2, 5 }, T { 5 }, T { 5 }, 0.1, ref = batch_norm },
  { T { 40, 2 }, T { 2 }, T { 2 }, ref = batch_norm, nograd = true, layouts = false }, -- equal rows would be rounding over sqrt(eps)
  bad = { { T { 0, 2 }, T { 2 }, T { 2 }, "the batch is empty" },
    { T { 3, 2 }, T { 3 }, T { 2 }, "weight must have one element for each of 2 channels" } },
}
local function lstm(x, w, h, c)
  local N, steps, H = x.shape[1], x.shape[2], w.shape[1]
  local out = { shape = { N, steps, H } }
  local function sigmoid(v) return 1 / (1 + math.exp(-v)) end
  for n = 1, N do
    local hs, cs = { unpack(h, (n - 1) * H + 1, n * H) }, { unpack(c, (n - 1) * H + 1, n * H) }
    for t = 1, steps do
      local z = {}
      for j = 1, 4 * H do
        z[j] = x[((n - 1) * steps + t - 1) * 4 * H + j]
        for k = 1, H do z[j] = z[j] + hs[k] * w[(k - 1) * 4 * H + j] end
      end
      for j = 1, H do
        cs[j] = sigmoid(z[H + j]) * cs[j] + sigmoid(z[j]) * tanh(z[2 * H + j])
        hs[j] = sigmoid(z[3 * H + j]) * tanh(cs[j])
        out[((n - 1) * steps + t - 1) * H + j] = hs[j]
      end
    end
  end
  return out
end
cases.lstm_sequence = {
  { T { 2, 3, 8 }, T { 2, 8 }, T { 2, 2 }, T { 2, 2 }, ref = lstm }, { T { 1, 2, 20 }, T { 5, 20 }, T { 1, 5 }, T { 1, 5 }, ref = lstm },
  { T { 0, 2, 4 }, T { 1, 4 }, T { 0, 1 }, T { 0, 1 }, ref = lstm },
  bad = { { T { 2, 3, 8 }, T { 2, 9 }, T { 2, 2 }, T { 2, 2 }, "needs x (N, T, 4H)" },
    { T { 2, 3, 8 }, T { 2, 8 }, T { 3, 2 }, T { 2, 2 }, "the state h must be (2, 2)" } },
}

-- ---- made from nothing --------------------------------------------------------------------------------------------------------------------
local function filled(shape, f)
  local k = -1
  return build(copy(shape), function()
    k = k + 1
    return f(k)
  end)
end
cases.full = {
  { { 2, 3 }, 1.5, ref = function(s, v) return filled(s, function() return v end) end },
  { {}, 2, ref = function(s, v) return filled(s, function() return v end) end },
  { { 0, 2 }, 2, ref = function(s, v) return filled(s, function() return v end) end },
  { { 3 }, 7, "i64", ref = function(s, v) return filled(s, function() return v end) end, dtype = "i64" },
  { { 3 }, 2, "bool", ref = function(s) return filled(s, function() return 1 end) end, dtype = "bool" },
  no_gradient = "no tensor argument",
  bad = { { { -1 }, 0, "size -1 is negative or too large" }, { { 2 ^ 40 | 0, 2 ^ 40 | 0 }, 0, "is negative or too large" },
    { { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 0, "9 dims" },
    { { 2 }, "a", "argument 'value' must be a number" }, { { 0 / 0 }, 1, "argument 'shape' must be an integer" },
    { { 2 }, "argument 'value' is missing" } },
}
local function arange(a, b, s)
  s = type(s) == "number" and s or 1
  local n = math.max(0, math.ceil((b - a) / s))
  return filled({ n }, function(i) return a + i * s end)
end
cases.arange = {
  { 0, 5, ref = arange }, { 4, ref = function(n) return arange(0, n) end },
  { 3, { dtype = "i64" }, ref = function(n) return arange(0, n) end, dtype = "i64" },
  { 2, 11, 3, ref = arange }, { 5, 0, -2, ref = arange }, { 0, 1, 0.25, ref = arange }, { 3, 3, ref = arange },
  { 3, 1, ref = arange },
  { 1, 9, 2, "i64", ref = arange, dtype = "i64" }, { 0, 4, { dtype = "i32" }, ref = arange, dtype = "i32" }, { 0, 70001, ref = arange, tol = 0 },
  no_gradient = "no tensor argument",
  bad = { { 0, 5, 0, "has no end" }, { 0, math.huge, "too many elements" }, { 0, 0 / 0, "has no end" },
    { 0, "5", "argument 'stop' must be a number" } },
}
cases.uniform = {
  { { 3, 5 }, ref = function(s) return filled(s, function(i) return draw(0, i) end) end, tol = 0 },
  { { 50 }, -2, 3, ref = function(s, lo, hi) return filled(s, function(i) return lo + (hi - lo) * draw(0, i) end) end, tol = 1e-6 },
  { { 30001 }, ref = function(s) return filled(s, function(i) return draw(0, i) end) end, tol = 0 },
  { { 0 }, ref = function() return { shape = { 0 } } end },
  no_gradient = "no tensor argument", bad = { { { -2 }, "size -2 is negative or too large" }, { { 2 }, "x", "argument 'low' must be a number" } },
}
local function gauss(i) return math.sqrt(-2 * math.log(1 - draw(0, i))) * math.cos(2 * math.pi * draw(1, i)) end
cases.normal = {
  { { 3, 50 }, ref = function(s) return filled(s, gauss) end, tol = 1e-5 },
  { { 40 }, 5, 2, ref = function(s, m, d) return filled(s, function(i) return m + d * gauss(i) end) end, tol = 1e-5 },
  { {}, ref = function(s) return filled(s, gauss) end, tol = 1e-5 },
  no_gradient = "no tensor argument", bad = { { { 2 ^ 62 | 0, 4 }, "is negative or too large" } },
}
local chances = {}
for i = 1, 30 do chances[i] = (i - 1) / 32 end
cases.bernoulli = {
  { { 100 }, 0.3, ref = function(s, p) return filled(s, function(i) return bool(draw(0, i) < p) end) end, dtype = "bool", tol = 0 },
  { { 10 }, 0, ref = function(s) return filled(s, function() return 0 end) end, dtype = "bool", tol = 0 },
  { { 10 }, 1, ref = function(s) return filled(s, function() return 1 end) end, dtype = "bool", tol = 0 },
  { { 4, 30 }, given({ 30 }, chances), ref = function(s, p) return filled(s, function(i) return bool(draw(0, i) < p[i % 30 + 1]) end) end,
    dtype = "bool", tol = 0 },
  no_gradient = "a truth value", bad = { { { -1 }, "is negative or too large" }, { { 2 }, T { 3 }, "p of shape 3 does not broadcast to 2" } },
}
local function dropped(x, p)
  p = p or 0.5
  local y = shaped(x, x.shape)
  for i = 1, #x do
    if p > 0 then y[i] = draw(0, i - 1) >= p and p < 1 and x[i] / (1 - p) or 0 end
  end
  return y
end
cases.dropout = {
  { T { 5, 6 }, ref = dropped }, { T { 5, 6 }, 0.2, ref = dropped }, { T { 6 }, 0, ref = dropped }, { T { 6 }, 1, ref = dropped },
  { T { 0 }, 0.3, ref = dropped },
  bad = { { T { 2 }, 1.5, "p = 1.5 is not in 0..1" }, { T { 2 }, -0.1, "p = -0.1 is not in 0..1" }, { T { 2 }, 0 / 0, "is not in 0..1" } },
}

-- ---- losses -------------------------------------------------------------------------------------------------------------------------------
local function picked(x, pos, f)
  local n = x.shape[#x.shape]
  local out = { shape = copy(pos.shape) }
  for i = 1, #pos do out[i] = f({ unpack(x, (i - 1) * n + 1, i * n) }, pos[i]) end
  return out
end
local function cross_entropy(x, pos) return picked(x, pos, function(l, k) return logsumexp(l) - l[k] end) end
local function nll(x, pos) return picked(x, pos, function(l, k) return -l[k] end) end
local loss_bad = {
  { T { 2, 3 }, given({ 3 }, { 1, 1, 1 }, "i64"), "one class id is needed per row: predictions are (2x3), ids are (3)" },
  { T { 2, 3 }, given({ 2 }, { 1, 4 }, "i64"), "class id 4 at position 2 is not in 1..3" },
  { T { 2, 3 }, given({ 2 }, { 0, 1 }, "i64"), "class id 0 at position 1 is not in 1..3" }, { T { 2, 3 }, T { 2 }, "must hold integers" },
}
cases.softmax_cross_entropy = {
  { T { 4, 5 }, ids({ 4 }, 5), ref = cross_entropy }, { T { 2, 3, 4 }, ids({ 2, 3 }, 4), ref = cross_entropy },
  { T { 1, 1 }, ids({ 1 }, 1), ref = cross_entropy },
  { given({ 2, 3 }, { 1000, -1000, 0, 88, 89, 90 }), ids({ 2 }, 3), ref = cross_entropy, nograd = true },
  { T { 300, 130 }, ids({ 300 }, 130), ref = cross_entropy, nograd = true },
  { T { 4, 5 }, ids({ 4 }, 5), ref = cross_entropy, nograd = true, id_dtype = "i32" }, { T { 0, 3 }, ids({ 0 }, 3), ref = cross_entropy },
  bad = loss_bad,
}
cases.nll = { { T { 4, 5 }, ids({ 4 }, 5), ref = nll, tol = 0 }, { T { 2, 3, 4 }, ids({ 2, 3 }, 4), ref = nll, tol = 0 },
  { T { 1, 2 }, ids({ 1 }, 2), ref = nll, tol = 0 }, bad = loss_bad }

-- ---- the other families, a file each --------------------------------------------------------------------------------------------------------
M.reduce, M.T, M.ids, M.given, M.philox_word = reduce, T, ids, given, philox_word
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
for _, family in ipairs { "index", "neural", "linalg" } do
  for name, rows in pairs(dofile(here .. "ops_cases_" .. family .. ".lua")(M)) do cases[name] = rows end
end
dofile(here .. "ops_cases_pointwise.lua")(cases, {
  T = T, given = given, ints = ints, map = map, build = build, at = at, along = along, case1 = case1, pair = pair, erf = erf, tanh = tanh,
  trunc = trunc, bool = bool,
})

return M
