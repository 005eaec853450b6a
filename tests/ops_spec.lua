-- The battery: walks the operator table and holds every row to its cases in ops_cases.lua. A row without cases fails.
--
-- Values in four layouts against the reference; result dtype; eager = deferred and 1 = 2 = 3 threads, to the bit; gradients, and gradients of
-- gradients, against central differences of the reference in doubles under a fixed random cotangent; calls that must fail. That is f32; values and
-- gradients once more with f64 in its place, which is far sharper; and f16 and bf16 go in and come out.
local nn = require "nnlua"
local core = require "nnlua.core"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local battery = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "ops_cases.lua")
local cases, build, numel = battery.cases, battery.build, battery.numel

local unpack, pack = table.unpack, table.pack
-- On another device than the CPU each case has one layout and each row one case with gradients: shaders are compiled for every program.
local device = nn.device()
local on_cpu = device == "cpu"
local excepted, nexcepted, ntried = {}, 0, 0 -- rows with calls that the device has not: what it said; how many calls, of how many

-- f(); pending when each of its calls was excepted
local function some(name, f)
  local tried, without = ntried, nexcepted
  f()
  if ntried > tried and ntried - tried == nexcepted - without then pending(("%s excepts %s: %s"):format(device, name, excepted[name])) end
end

local function single(x) return (string.unpack("f", string.pack("f", x))) end

-- to nearest, halves to even, with `bits` bits behind the first and exponents from `least` on
local function rounded(x, bits, least, largest)
  if x ~= x or x == 0 or math.abs(x) == math.huge then return x end
  local unit = 2.0 ^ (math.max(math.floor(math.log(math.abs(x), 2)), least) - bits)
  local q = x / unit
  local n = math.floor(q)
  if q - n > 0.5 or (q - n == 0.5 and n % 2 == 1) then n = n + 1 end
  return math.abs(n * unit) > largest and x / 0 or n * unit
end

-- What stands for a case's f32: inputs and expected values are rounded by it, and a result has its dtype. tolerances(case): of values, of gradients,
-- of second gradients. extrapolate: their reference, a difference of differences, is taken at two widths.
local F32 = { dtype = "f32", round = single }
function F32.tolerances(c)
  local g = c.gradtol or 5e-4
  return c.tol or 3e-6, g, 4 * g
end
local F64 = { dtype = "f64", round = function(x) return x end, extrapolate = true }
function F64.tolerances(c) return c.tol == 0 and 0 or c.tol64 or 2e-12, 1e-6, 2e-6 end
local F16 = { dtype = "f16", round = function(x) return rounded(x, 10, -14, 65504) end }
function F16.tolerances() return 4e-3 end
local BF16 = { dtype = "bf16", round = function(x) return rounded(x, 7, -126, 3.3895314e38) end }
function BF16.tolerances() return 3e-2 end
local real = F32

-- ---- inputs ----
local function draw_element(rng, spec, i)
  if spec.values then return spec.dtype == "f32" and real.round(spec.values[i]) or spec.values[i] end
  if spec.dtype ~= "f32" then return rng.int(spec.lo, spec.hi) end
  while true do
    local x = real.round(rng.real(spec.lo, spec.hi))
    local ok = true
    for _, kink in ipairs(spec.away or {}) do ok = ok and math.abs(x - kink) > 0.06 end
    if ok then return x end
  end
end

-- distinct numbers, at least 1/64 apart; `apart` shifts them against those of another tensor
local function spread_apart(a, spec, rng)
  local order = {}
  for i = 1, #a do order[i] = i end
  rng.shuffle(order)
  for i = 1, #a do a[i] = real.round((order[i] - #a / 2) / 16 + spec.apart / 64) end
end

--- The array of a spec and, in `layout`, a function that makes its tensor. An expanded input repeats its first slice.
local function make_input(rng, spec, layout)
  local k = 0
  local a = build(spec.shape, function()
    k = k + 1
    return draw_element(rng, spec, k)
  end)
  if spec.apart and spec.dtype == "f32" then spread_apart(a, spec, rng) end
  local shape, nd = spec.shape, #spec.shape
  local dtype = spec.dtype == "f32" and real.dtype or spec.dtype
  if layout == "expanded" and nd > 0 and shape[1] > 1 then
    local inner = #a / shape[1]
    for i = inner + 1, #a do a[i] = a[(i - 1) % inner + 1] end
  end
  local function tensor(values, s) return nn.tensor(values, { dtype = dtype }):reshape(s) end
  local function plain(b)
    local flat = {}
    for i = 1, #b do flat[i] = b[i] end
    return tensor(flat, b.shape)
  end
  return a, function()
    if #a == 0 then return nn.zeros(shape, dtype) end
    if layout == "transposed" and nd > 1 then
      local dims, reversed = {}, {}
      for d = 1, nd do dims[d], reversed[d] = nd - d + 1, shape[nd - d + 1] end
      return plain(build(reversed, function(idx)
        local from = {}
        for d = 1, nd do from[d] = idx[nd - d + 1] end
        return battery.at(a, from)
      end)):permute(dims)
    elseif layout == "sliced" and nd > 0 then -- every other element, from the second on; what lies between is NaN
      local wide, key = {}, {}
      for d = 1, nd do wide[d], key[d] = 2 * shape[d] + 1, { 2, 2 * shape[d], 2 } end
      local junk = spec.dtype == "f32" and 0 / 0 or spec.dtype == "bool" and 1 or 99
      return plain(build(wide, function(idx)
        local from = {}
        for d = 1, nd do
          if idx[d] % 2 == 1 then return junk end
          from[d] = idx[d] // 2
        end
        return battery.at(a, from)
      end))[key]
    elseif layout == "expanded" and nd > 0 and shape[1] > 1 then
      local key = {}
      for i = 1, #a / shape[1] do key[i] = a[i] end
      return tensor(key, { 1, unpack(shape, 2) }):expand(shape)
    end
    return plain(a)
  end
end

-- ---- a case with its inputs drawn ----
local function count(c) return c.n or #c end

--- refs: arguments of the reference; makers: functions that give the arguments of the call; leaves: which are f32 tensors to differentiate by
local function prepare(c, layout, seed)
  local rng = support.random(seed)
  local p = { n = count(c), refs = {}, makers = {}, leaves = {} }
  local function one(spec)
    if type(spec) ~= "table" or not spec.tensor then return spec, function() return spec end end
    if c.id_dtype and spec.positions then spec = setmetatable({ dtype = c.id_dtype }, { __index = spec }) end
    local a, make = make_input(rng, spec, layout)
    if spec.dtype == "f32" and not spec.nograd then p.leaves[#p.leaves + 1] = a end
    return a, make
  end
  for i = 1, p.n do
    local spec = c[i]
    if type(spec) == "table" and type(spec[1]) == "table" and spec[1].tensor then -- a list of tensors
      local list, makes = {}, {}
      for k, s in ipairs(spec) do list[k], makes[k] = one(s) end
      p.refs[i] = list
      p.makers[i] = function()
        local t = {}
        for k, m in ipairs(makes) do t[k] = m() end
        return t
      end
    else
      p.refs[i], p.makers[i] = one(spec)
    end
  end
  return p
end

local function arguments(p)
  local args = { n = p.n }
  for i = 1, p.n do args[i] = p.makers[i]() end
  return args
end

local function call(name, args, c)
  nn.seed(battery.seed)
  return (select(c and c.result or 1, nn[name](unpack(args, 1, args.n))))
end

local function reference(c, p) return c.ref(unpack(p.refs, 1, p.n)) end

-- ---- comparing ----
local function close(what, expected, actual, tol)
  if #expected ~= #actual then error(("%s: %d values expected, got %d"):format(what, #expected, #actual), 0) end
  for i = 1, #expected do
    local e, a = expected[i], actual[i]
    if type(a) == "boolean" then a = a and 1 or 0 end
    if type(e) == "boolean" then e = e and 1 or 0 end
    local near = math.abs(e) ~= math.huge and math.abs(e - a) <= tol * math.max(1, math.abs(e))
    local fine = near or e == a or (e ~= e and a ~= a) -- a NaN or Inf where none is expected fails, and the other way round
    if not fine then error(("%s: element %d: expected %.9g, got %.9g (tolerance %g)"):format(what, i, e, a, tol), 0) end
  end
end

local function text(shape) return "(" .. table.concat(shape, "x") .. ")" end
local function label(c, layout)
  local parts = {}
  for i = 1, count(c) do
    local s = c[i]
    parts[i] = type(s) == "table" and (s.tensor and s.dtype .. text(s.shape) or s[1] and type(s[1]) == "table" and "list" or "{" .. table.concat(s,
      ",") .. "}") or tostring(s)
  end
  return layout .. " " .. table.concat(parts, ", ")
end

-- ---- values ----
local LAYOUTS = { "contiguous", "transposed", "sliced", "expanded" }

local function check_values(name, c, layout, seed)
  local p = prepare(c, layout, seed)
  local expected, dtype = reference(c, p), c.dtype or real.dtype
  for i = 1, #expected do
    if c.dtype == nil and type(expected[i]) == "number" then expected[i] = real.round(expected[i]) end
  end
  local first
  for _, how in ipairs(on_cpu and { { true, 1 }, { false, 1 }, { false, 2 }, { false, 3 } } or { { true, 1 }, { false, 1 } }) do
    nn.eager(how[1])
    nn.threads(how[2])
    local y = call(name, arguments(p), c)
    assert(y:dtype() == dtype, ("dtype %s, expected %s"):format(y:dtype(), dtype))
    assert(text(y:shape()) == text(expected.shape), ("shape %s, expected %s"):format(text(y:shape()), text(expected.shape)))
    local bytes = y:tostring_bytes()
    if not first then
      first = bytes
      close("value", expected, support.flat(y:totable()), (real.tolerances(c)))
    elseif bytes ~= first then
      error(("%s, %d threads: other bits than eager with one thread: %s vs %s"):format(how[1] and "eager" or "deferred", how[2],
        support.hex(bytes, first),
        support.hex(first, bytes)), 0)
    end
  end
end

-- ---- gradients ----
-- f with element k of `a` at x
local function with(a, k, x, f)
  local was = a[k]
  a[k] = x
  local r = f()
  a[k] = was
  return r
end

local function central(a, k, h, f) return (with(a, k, a[k] + h, f) - with(a, k, a[k] - h, f)) / (2 * h) end

local function weighted(y, u)
  local s = 0
  for i = 1, #y do s = s + y[i] * u[i] end
  return s
end

local function random_array(rng, shape)
  return build(shape, function() return real.round(rng.real(-1, 1)) end)
end

local function as_tensor(a)
  local flat = {}
  for i = 1, #a do flat[i] = a[i] end
  return nn.tensor(flat, real.dtype):reshape(a.shape)
end

local function flat_or_zeros(t, n)
  if t then return support.flat(t:totable()) end
  local z = {}
  for i = 1, n do z[i] = 0 end
  return z
end

-- the call with its float tensors as leaves: result and leaves in the order of p.leaves
local function differentiable_call(name, p, c)
  local args, leaves = arguments(p), {}
  local function leaf(spec, t)
    if type(spec) == "table" and spec.tensor and spec.dtype == "f32" and not spec.nograd then
      t:requires_grad(true)
      leaves[#leaves + 1] = t
    end
  end
  for i = 1, p.n do
    if type(args[i]) == "table" and type(c[i][1]) == "table" then
      for k, t in ipairs(args[i]) do leaf(c[i][k], t) end
    else
      leaf(c[i], args[i])
    end
  end
  return call(name, args, c), leaves
end

local function check_gradient(name, c, layout, seed)
  local p = prepare(c, layout, seed)
  if #p.leaves == 0 then return end
  local rng, _, tol, second = support.random(seed + 1), real.tolerances(c)
  local f = function() return reference(c, p) end
  local u = random_array(rng, f().shape)
  local y, leaves = differentiable_call(name, p, c)
  if numel(y:shape()) == 0 then -- nothing to differentiate; it must not fail either
    for i, g in ipairs(pack(nn.grad({ y }, leaves, { cotangents = { as_tensor(u) } }))) do assert(text(g:shape()) == text(p.leaves[i].shape)) end
    return
  end
  assert(y:requires_grad(), "the result has no gradient")
  local ut = as_tensor(u):requires_grad(true)
  local grads = pack(nn.grad({ y }, leaves, { cotangents = { ut }, create_graph = true }))
  for i, a in ipairs(p.leaves) do
    if grads[i] then assert(text(grads[i]:shape()) == text(a.shape), "gradient of shape " .. text(grads[i]:shape())) end
    local expected = {}
    for k = 1, #a do
      expected[k] = central(a, k, 1e-5 * math.max(1, math.abs(a[k])), function() return weighted(f(), u) end)
    end
    close(("gradient by tensor %d"):format(i), expected, flat_or_zeros(grads[i], #a), tol)
  end
  -- second order: s = sum over tensors of <gradient, v> is the derivative of <f, u> along v
  local vs, outs, cots = {}, {}, {}
  for i, a in ipairs(p.leaves) do
    vs[i] = random_array(rng, a.shape)
    if grads[i] and grads[i]:requires_grad() then outs[#outs + 1], cots[#cots + 1] = grads[i], as_tensor(vs[i]) end
  end
  local again = #outs > 0 and pack(nn.grad(outs, { ut, unpack(leaves) }, { cotangents = cots })) or {}
  local function along(h, g)
    for i, a in ipairs(p.leaves) do
      for k = 1, #a do a[k] = a[k] + h * vs[i][k] end
    end
    local r = g()
    for i, a in ipairs(p.leaves) do
      for k = 1, #a do a[k] = a[k] - h * vs[i][k] end
    end
    return r
  end
  local up, down = along(1e-5, f), along(-1e-5, f)
  local expected = {}
  for k = 1, #up do expected[k] = (up[k] - down[k]) / 2e-5 end
  close("gradient of the gradient by the cotangent", expected, flat_or_zeros(again[1], #up), 2 * tol)
  local function curvature(a, k, h)
    local function dot() return weighted(f(), u) end
    return central(a, k, h, function() return (along(h, dot) - along(-h, dot)) / (2 * h) end)
  end
  for i, a in ipairs(p.leaves) do
    expected = {}
    for k = 1, #a do
      expected[k] = curvature(a, k, 5e-4)
      if real.extrapolate then expected[k] = (4 * expected[k] - curvature(a, k, 1e-3)) / 3 end
    end
    close(("second gradient by tensor %d"):format(i), expected, flat_or_zeros(again[i + 1], #a), second)
  end
end

-- Third order, in one number: the derivative of <f, u> along v, w and z, one after the other.
local function check_third(name, c, seed)
  local p = prepare(c, "contiguous", seed)
  if #p.leaves == 0 or c.nothird then return end
  local rng = support.random(seed + 7)
  local u = random_array(rng, reference(c, p).shape)
  if #u == 0 then return end
  local ways = {}
  for k = 1, 3 do
    ways[k] = {}
    for i, a in ipairs(p.leaves) do ways[k][i] = random_array(rng, a.shape) end
  end
  local y, leaves = differentiable_call(name, p, c)
  local list, cotangents = { y }, { as_tensor(u) }
  local actual, size = 0, 0
  for k = 1, 3 do
    local grads = #list > 0 and pack(nn.grad(list, leaves, { cotangents = cotangents, create_graph = k < 3 })) or {}
    list, cotangents = {}, {}
    for i = 1, #leaves do
      local g = grads[i]
      if g and k == 3 then
        local along = flat_or_zeros(g, 0)
        actual = actual + weighted(along, ways[3][i])
        for j = 1, #along do size = size + math.abs(along[j] * ways[3][i][j]) end
      elseif g and g:requires_grad() then
        list[#list + 1], cotangents[#cotangents + 1] = g, as_tensor(ways[k][i])
      end
    end
  end
  local h, expected, elements = 5e-4, 0, 0
  for _, a in ipairs(p.leaves) do elements = elements + #a end
  for corner = 0, elements > 0 and 7 or -1 do -- of nothing all derivatives are 0
    local sign, was = 1, {}
    for k = 1, 3 do
      local step = corner >> (k - 1) & 1 == 0 and h or -h
      if step < 0 then sign = -sign end
      for i, a in ipairs(p.leaves) do
        was[i] = was[i] or table.move(a, 1, #a, 1, {})
        for j = 1, #a do a[j] = a[j] + step * ways[k][i][j] end
      end
    end
    expected = expected + sign * weighted(reference(c, p), u)
    for i, a in ipairs(p.leaves) do table.move(was[i], 1, #a, 1, a) end
  end
  expected = expected / (8 * h ^ 3)
  local within = math.abs(expected - actual) <= 8 * (c.gradtol or 5e-4) * math.max(1, math.abs(expected), size) -- false for NaN
  if not within then error(("third derivative: expected %.9g, got %.9g"):format(expected, actual), 0) end
end

-- ---- calls that fail ----
local function failure(name, args)
  local ok, err = pcall(function()
    local y = call(name, args)
    if type(y) == "userdata" then y:eval() end
    if not on_cpu then core.finish() end -- a device reports what it finds when its work is waited for
  end)
  if ok then return nil end
  return (tostring(err):gsub("^[^\n]-:%d+: ", ""))
end

local function expect_failure(name, args, what, must)
  local message = failure(name, args)
  if not message then error(("%s: no error for %s"):format(name, what), 0) end
  assert(message:sub(1, #name + 1) == name .. ":", ("the message for %s does not begin with the operator: %s"):format(what, message))
  assert(not message:find "\n", "more than one line: " .. message)
  assert(not must or message:find(must, 1, true) or (not on_cpu and support.lacks(message)),
    ("%s: expected %q in: %s"):format(what, must or "", message))
end

local function valid_arguments(c) return arguments(prepare(c, "contiguous", 5)) end

local bad_calls = 0
local function check_bad(op, list)
  local function fails(args, what, must)
    bad_calls = bad_calls + 1
    expect_failure(op.name, args, what, must)
  end
  for i, bad in ipairs(list.bad or {}) do
    local n = #bad
    local args = prepare({ n = n - 1, unpack(bad, 1, n - 1) }, "contiguous", i)
    fails(arguments(args), ("bad call %d"):format(i), bad[n])
  end
  -- what the signature alone forbids
  local first = valid_arguments(list[1])
  fails({ n = 0 }, "no arguments at all", "is missing")
  local many = { n = 13 }
  for i = 1, 13 do many[i] = first[1] end
  if not op.signature:match "IL [%w_]+$" and not op.signature:match "DL %w+$" then fails(many, "13 arguments", "") end
  local options = { n = first.n + 1, unpack(first, 1, first.n) }
  while options.n > 1 and options[options.n - 1] == nil do options.n = options.n - 1 end
  if type(options[options.n - 1]) ~= "table" or #options[options.n - 1] > 0 then
    options[options.n] = { no_such_option = 1 }
    fails(options, "an unknown option", "unknown option 'no_such_option'")
  end
  local i = 0
  for kind in op.signature:gsub("%->.*", ""):gmatch "([%u%d|]+)%??%s[%w_]+" do
    i = i + 1
    for _, wrong in ipairs { "text", function() end, nil } do
      if not (kind == "PAD" or kind == "Y") or type(wrong) ~= "string" then
        local args = { n = math.max(first.n, i), unpack(first, 1, first.n) }
        args[i] = wrong
        fails(args, ("argument %d a %s"):format(i, type(wrong)))
      end
    end
    if kind == "T" or kind == "T|F" then
      local args = { n = first.n, unpack(first, 1, first.n) }
      args[i] = {}
      if i < first.n then fails(args, ("argument %d an empty table"):format(i)) end
    end
    if kind == "D" or kind == "DL" then
      for _, dim in ipairs { 0, 99, -99, 1.5 } do
        local args = { n = math.max(first.n, i), unpack(first, 1, first.n) }
        args[i] = kind == "DL" and op.name == "permute" and { dim } or dim
        fails(args, ("argument %d the dim %s"):format(i, dim))
      end
    end
  end
end

-- ---- the walk ----
-- f(name, c, layout, seed) of case i. What the device has not counts as excepted and not as a failure.
local function try(f, name, i, c, layout)
  local ok, err = pcall(f, name, c, layout, i * 100 + #layout)
  ntried = ntried + 1
  if ok then return end
  local why = not on_cpu and support.lacks(err)
  if not why then error(("%s, case %d, %s %s: %s"):format(name, i, real.dtype, label(c, layout), err), 0) end
  nexcepted = nexcepted + 1
  excepted[name] = why
end

-- is one of the arguments a tensor of f32, for which another float can stand?
local function has_reals(c)
  local any = false
  if c.only then return false end
  local function look(spec) any = any or type(spec) == "table" and spec.tensor and spec.dtype == "f32" end
  for i = 1, count(c) do
    look(c[i])
    for _, s in ipairs(type(c[i]) == "table" and c[i] or {}) do look(s) end
  end
  return any
end

describe("operators:", function()
  local threads = nn.threads()
  before_each(function()
    real = F32
    nn.eager(false)
  end)
  teardown(function()
    nn.eager(false)
    nn.threads(threads)
  end)
  local function layouts_of(c, i)
    if c.layouts == false then return { "contiguous" } end
    return on_cpu and LAYOUTS or { LAYOUTS[(i - 1) % #LAYOUTS + 1] }
  end

  local known, without = {}, {}
  for _, op in ipairs(nn.ops()) do
    known[op.name] = true
    local list = cases[op.name]
    it(op.name .. " has cases", function() assert(list and #list > 0 and list.bad and #list.bad > 0, "no cases in tests/ops_cases.lua") end)
    if list then
      it(op.name .. " has the right values", function() some(op.name, function()
        for i, c in ipairs(list) do
          for _, layout in ipairs(layouts_of(c, i)) do try(check_values, op.name, i, c, layout) end
        end
      end) end)
      if on_cpu then it(op.name .. " has the right values in f64", function()
        real = F64
        for i, c in ipairs(list) do
          if has_reals(c) then try(check_values, op.name, i, c, "contiguous") end
        end
      end) end
      it(op.name .. " takes f16 and bf16 and gives them back", function() some(op.name, function()
        for _, half in ipairs { F16, BF16 } do
          real = half
          local checked = 0
          for i, c in ipairs(list) do
            if has_reals(c) and not c.nohalf and (on_cpu or checked == 0) then
              checked = checked + 1
              try(check_values, op.name, i, c, "contiguous")
            end
          end
        end
      end) end)
      if list.no_gradient then
        without[#without + 1] = ("%s (%s)"):format(op.name, list.no_gradient)
        it(op.name .. " has no gradient", function() assert.is_false(op.differentiable) end)
      else
        it(op.name .. " has the right gradients", function() some(op.name, function()
          assert.is_true(op.differentiable)
          nn.threads(2)
          local checked = 0
          for i, c in ipairs(list) do
            for k, layout in ipairs(LAYOUTS) do
              if not c.nograd and (k == 1 or (i <= 3 and k < 4)) and (on_cpu or (checked == 0 and k == 1)) then
                checked = checked + 1
                try(check_gradient, op.name, i, c, layout)
              end
            end
          end
          assert(checked > 0 or op.name == "cast", "no case of it is differentiated")
        end) end)
        if on_cpu then it(op.name .. " has the right third derivative", function()
          for i, c in ipairs(list) do
            local ok, err = pcall(function() return not c.nograd and check_third(op.name, c, i * 100) end)
            if not ok then error(("%s, case %d, %s: %s"):format(op.name, i, label(c, "contiguous"), err), 0) end
          end
        end) end
        if on_cpu then it(op.name .. " has the right gradients in f64", function()
          real = F64
          for i, c in ipairs(list) do
            if not c.nograd and has_reals(c) then try(check_gradient, op.name, i, c, "contiguous") end
          end
        end) end
      end
      it(op.name .. " refuses bad calls", function() check_bad(op, list) end)
    end
  end

  if not on_cpu then
    it("counts what " .. device .. " has not", function()
      local names, kernels = {}, {}
      for name, why in pairs(excepted) do
        names[#names + 1] = name
        if why:find("has no kernel", 1, true) then kernels[#kernels + 1] = name end
      end
      table.sort(names)
      table.sort(kernels)
      assert.equal("cholesky cofactor det eigh inv lstsq pinv qr slogdet solve svd", table.concat(kernels, " ")) -- LAPACK's
      local said = {}
      for _, row in ipairs(nn.supported()) do
        if not row.vulkan then said[#said + 1] = row.name end
      end
      table.sort(said)
      assert.same(kernels, said)
      pending(("%s excepts %d of %d calls, f64 and LAPACK, of: %s"):format(device, nexcepted, ntried, table.concat(names, ", ")))
    end)
  end
  it("has no cases of operators that are gone", function()
    for name in pairs(cases) do assert(known[name], name) end
  end)
  it("without gradient are: " .. table.concat(without, ", "), function() assert.truthy(#without > 0) end)
  it("refused hundreds of bad calls", function() assert.truthy(bad_calls >= 300, bad_calls) end)
end)
