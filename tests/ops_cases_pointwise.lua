-- Cases of the operator battery for the wider rows of pointwise.def and composite.c; ops_cases.lua merges them (the format is described there).
local exp, log, sqrt, abs, floor, pi = math.exp, math.log, math.sqrt, math.abs, math.floor, math.pi
local huge, nan = math.huge, 0 / 0

---@param cases table  the table to add to
---@param h table  helpers of ops_cases.lua
return function(cases, h)
  local T, given, ints, map, build, at = h.T, h.given, h.ints, h.map, h.build, h.at
  local case1, pair, erf, tanh, trunc, bool = h.case1, h.pair, h.erf, h.tanh, h.trunc, h.bool

  --- one more case of values only: name's function at `values`
  local function extra(list, f, values, o)
    local c = { given({ #values }, values, o and o.dtype), ref = function(a) return map(f, a) end, nograd = true, tol = o and o.tol,
      dtype = o and o.result }
    list[#list + 1] = c
  end

  -- ---- remainders --------------------------------------------------------------------------------------------------------------
  local function floor_div(a, b) return floor(a / b) end
  local function mod(a, b) return a - floor(a / b) * b end
  local function fmod(a, b) return a - trunc(a / b) * b end
  local range = { { away = { 0 } }, { 2.5, 4, scalar = 3.5 } }
  for name, f in pairs { floor_div = floor_div, mod = mod, fmod = fmod } do
    local _, more = pair(name, f, range)
    more(given({ 8 }, { 7, -7, 7, -7, 5.5, -5.5, 0.75, -0.75 }), given({ 8 }, { 3, 3, -3, -3, 0.5, 0.5, -0.25, 8 }), { nograd = true, tol = 0 })
    local function whole(a, b)
      if b == 0 then return 0 end
      return name == "floor_div" and a // b or name == "mod" and a % b or math.fmod(a, b)
    end
    for _, d in ipairs { "i32", "i64" } do
      more(ints({ 40 }, -9, 9, d), ints({ 40 }, -4, 4, d), { ref = function(a, b) return map(whole, a, b) end, dtype = d, tol = 0 })
    end
    more(ints({ 40 }, 0, 255, "u8"), ints({ 40 }, 0, 9, "u8"), { ref = function(a, b) return map(whole, a, b) end, dtype = "u8", tol = 0 })
  end

  -- ---- exponentials and logarithms ------------------------------------------------------------------------------------------------
  local function log1p(x) return abs(x) < 1e-5 and x - x * x / 2 or log(1 + x) end
  local function expm1(x) return abs(x) < 1e-5 and x + x * x / 2 or exp(x) - 1 end
  extra(case1("exp2", function(x) return 2 ^ x end, { -3, 3 }), function(x) return 2 ^ x end, { 0, 10, -20, 127, -140, 200, -huge, huge })
  extra(case1("expm1", expm1, { -3, 3 }), function(x) return abs(x) < 1e-3 and x or expm1(x) end, { 0, 1e-20, -1e-30, -50, 30, huge, -huge })
  extra(case1("log1p", log1p, { -0.8, 4 }), log1p, { 0, 1e-20, -1e-8, 1e20, huge, -1 })
  extra(case1("log2", function(x) return log(x, 2) end, { 0.2, 5 }), function(x) return x <= 0 and (x == 0 and -huge or nan) or log(x, 2) end,
    { 8, 2 ^ -100, 1024, 1, 0, -1, huge })
  extra(case1("log10", function(x) return log(x, 10) end, { 0.2, 5 }), function(x) return floor(log(x, 10) + 0.5) end, { 1, 10, 100, 1e10, 1000000 },
    { tol = 0 })

  -- ---- trigonometry ------------------------------------------------------------------------------------------------------------------
  local function sinh(x) return (exp(x) - exp(-x)) / 2 end
  local function cosh(x) return (exp(x) + exp(-x)) / 2 end
  local function asinh(x) return x < 0 and -log(-x + sqrt(x * x + 1)) or log(x + sqrt(x * x + 1)) end
  case1("tan", math.tan, { -1.3, 1.3, gradtol = 2e-3 })
  extra(case1("asin", math.asin, { -0.9, 0.9 }), math.asin, { 1, -1, 0, 1e-20 })
  extra(case1("acos", math.acos, { -0.9, 0.9 }), math.acos, { 1, -1, 0 })
  extra(case1("atan", math.atan, { -4, 4 }), math.atan, { 1e30, -1e30, huge, -huge, 0, 1e-20 })
  local _, more = pair("atan2", math.atan, { { 0.3, 2 }, { -2, 2, scalar = -0.5 } })
  more(given({ 9 }, { 0, 0, 1, -1, -1, 1, huge, huge, 1e-30 }), given({ 9 }, { 1, -1, 0, 0, -1, -1, huge, -huge, 1e-30 }), { nograd = true })
  extra(case1("sinh", sinh, { -3, 3 }), sinh, { 0, 80, -80, 89, 1e-10 })
  extra(case1("cosh", cosh, { -3, 3 }), cosh, { 0, 80, -80, -89 })
  extra(case1("asinh", asinh, { -4, 4 }), asinh, { 0, 1e20, -1e20, 3 })
  extra(case1("acosh", function(x) return log(x + sqrt(x * x - 1)) end, { 1.2, 5 }), function(x) return log(2 * x) end, { 1e20, 1e10 })
  extra(case1("atanh", function(x) return log((1 + x) / (1 - x)) / 2 end, { -0.85, 0.85 }), function(x) return log((1 + x) / (1 - x)) / 2 end,
    { 1, -1, 0, 0.999 })
  extra(case1("erfc", function(x) return 1 - erf(x) end, { -2, 2 }), function(x) -- the tail: relative, so scaled up by the tolerance of the logarithm
    return ({ [0] = 1, [5] = 1.5374597944280349e-12, [9] = 4.137031746513810e-37, [-9] = 2 })[x]
  end, { 0, 5, 9, -9 })

  -- ---- rounding, bits, tests ------------------------------------------------------------------------------------------------------
  local kinks = { -4, -3, -2, -1, 0, 1, 2, 3, 4 }
  case1("frac", function(x) return x - trunc(x) end, { -4, 4, away = kinks, tol = 1e-6 })
  local function lerp(a, b, w) return a + w * (b - a) end
  local function lerps(a, b, w) return map(lerp, a, b, w) end
  cases.lerp = {
    { T { 3, 4 }, T { 3, 4 }, T({ 3, 4 }, { 0, 1 }), ref = lerps }, { T { 3, 1 }, T { 4 }, 0.25, ref = lerps },
    { T { 2, 3 }, 1.5, T({ 3 }, { 0, 1 }), ref = lerps }, { 0.5, T { 3 }, 0.75, ref = lerps }, { T { 0, 3 }, T { 3 }, 0.5, ref = lerps },
    bad = { { T { 2 }, T { 3 }, 0.5, "shapes do not broadcast: (2) and (3)" }, { 1, 2, 3, "at least one argument must be a tensor" } },
  }
  local odd = { nan, huge, -huge, 0, 1.5, -3e38, 1e-40 }
  for name, f in pairs {
    isnan = function(x) return bool(x ~= x) end, isinf = function(x) return bool(x == huge or x == -huge) end,
    isfinite = function(x) return bool(x == x and abs(x) ~= huge) end,
  } do
    local list = case1(name, f, { tol = 0, result = "bool" })
    extra(list, f, odd, { result = "bool", tol = 0 })
    list[#list + 1] = { ints({ 5 }, -9, 9), ref = function(a) return map(f, a) end, dtype = "bool", tol = 0 }
    list.no_gradient = "a test of a number gives a bool"
  end
  cases.logical_xor = {
    { ints({ 4, 5 }, 0, 1, "bool"), ints({ 5 }, 0, 1, "bool"), ref = function(a, b) return map(function(x, y) return bool(x ~= y) end, a, b) end,
      tol = 0,
      dtype = "bool" },
    { given({ 4 }, { 0, 0.5, -1, 0 }), given({ 4 }, { 2, 0, 1, 0 }), tol = 0, dtype = "bool",
      ref = function(a, b) return map(function(x, y) return bool((x ~= 0) ~= (y ~= 0)) end, a, b) end },
    no_gradient = "logic on truth values",
    bad = { { T { 2 }, 1, "argument 'b' must be a tensor, got number" }, { T { 2, 3 }, T { 4 }, "shapes do not broadcast: (2x3) and (4)" } },
  }
  local width = { u8 = 8, i32 = 32, i64 = 64 }
  local function bits(name, f, second)
    local list = { no_gradient = "bits of integers", bad = {
      { given({ 2 }, { 1, 2 }), second and 1, "floats have no bits to work on" }, { ints({ 2 }, 0, 1), second and "2", "argument 'b' must be" } } }
    if not second then
      list.bad = { { given({ 2 }, { 1, 2 }), "floats have no bits to work on" }, { 1, "argument 'a' must be a tensor, got number" } }
    end
    for _, d in ipairs { "u8", "i32", "i64" } do
      local lo, hi = d == "u8" and 0 or -100000, d == "u8" and 255 or 100000
      local function wrapped(x, y)
        local r = f(x, y, width[d])
        if d == "u8" then return r & 255 end
        return d == "i32" and (r << 32 >> 32 ~ 0x80000000) - 0x80000000 or r
      end
      local function ref(x, y) return map(wrapped, x, y) end
      list[#list + 1] = { ints({ 4, 5 }, lo, hi, d), second and ints({ 5 }, second[1], d == "u8" and 7 or second[2], d), ref = ref, dtype = d,
        tol = 0,
        n = second and 2 or 1 }
      if second then list[#list + 1] = { ints({ 9 }, lo, hi, d), 3, ref = ref, dtype = d, tol = 0 } end
    end
    list[#list + 1] = { ints({ 0, 3 }, 0, 9), second and ints({ 3 }, 0, 1), ref = function(a) return a end, dtype = "i64", tol = 0,
      n = second and 2 or 1 }
    cases[name] = list
    return list
  end
  local any = { -100000, 100000 }
  local function truth(list, f, n)
    list[#list + 1] = { ints({ 8 }, 0, 1, "bool"), n == 2 and ints({ 8 }, 0, 1, "bool") or nil, ref = function(a, b) return map(f, a, b) end,
      dtype = "bool",
      tol = 0, n = n }
  end
  truth(bits("bitwise_and", function(x, y) return x & y end, any), function(x, y) return x & y end, 2)
  truth(bits("bitwise_or", function(x, y) return x | y end, any), function(x, y) return x | y end, 2)
  truth(bits("bitwise_xor", function(x, y) return x ~ y end, any), function(x, y) return x ~ y end, 2)
  truth(bits("bitwise_not", function(x) return ~x end), function(x) return 1 - x end, 1)
  bits("bitwise_left_shift", function(x, n, w) return n >= 0 and n < w and x << n or 0 end, { -2, 70 })
  bits("bitwise_right_shift", function(x, n, w) return x // 2 ^ (n >= 0 and n < w and n or w) | 0 end, { -2, 70 })

  -- ---- activations ----------------------------------------------------------------------------------------------------------------
  local function sigmoid(x) return x < 0 and exp(x) / (1 + exp(x)) or 1 / (1 + exp(-x)) end
  local function softplus(x) return x > 0 and x + log1p(exp(-x)) or log1p(exp(x)) end
  local function unit(x) return x < 0 and 0 or x > 1 and 1 or x end
  local far = { 0, -100, 100, -30, 30, 1e-6, -1e-6 }
  local function activation(name, f, o, values)
    local list = case1(name, f, o)
    extra(list, f, values or far)
    return list
  end
  activation("relu6", function(x) return x < 0 and 0 or x > 6 and 6 or x end, { -3, 9, away = { 0, 6 } })
  activation("selu", function(x) return 1.0507009873554805 * (x > 0 and x or 1.6732632423543772 * expm1(x)) end, { away = { 0 } })
  local function exact(x) return x * (1 + erf(x / sqrt(2))) / 2 end
  local function by_tanh(x) return x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ^ 3))) / 2 end
  activation("gelu_erf", exact, { -3, 3 })
  activation("gelu_tanh", by_tanh, { -3, 3 })
  activation("silu", function(x) return x * sigmoid(x) end, { -4, 4 })
  activation("mish", function(x) return x * tanh(softplus(x)) end, { -4, 4 })
  activation("softsign", function(x) return x / (1 + abs(x)) end, { away = { 0 } })
  activation("log_sigmoid", function(x) return -softplus(-x) end, { -4, 4 }, { 0, -100, 20, -1000, 200, huge })
  activation("hard_sigmoid", function(x) return unit(x / 6 + 0.5) end, { -5, 5, away = { -3, 3 } })
  activation("hard_swish", function(x) return x * unit(x / 6 + 0.5) end, { -5, 5, away = { -3, 3 } })
  activation("tanh_shrink", function(x) return x - tanh(x) end, { -3, 3 })

  --- f(x, option) with its default, the option as a number and by name
  local function option(name, f, key, default, value, o)
    local function ref(a, v) return map(function(x) return f(x, type(v) == "table" and v[key] or v or default) end, a) end
    cases[name] = {
      { T({ 3, 4 }, o), ref = ref }, { T({ 2, 1, 3 }, o), value, ref = ref }, { T({ 7 }, o), { [key] = value }, ref = ref }, { T({ 0 }, o),
        ref = ref },
      { T({}, o), ref = ref }, { given({ #far }, far), ref = ref, nograd = true },
      bad = { { T { 2 }, "1", "argument '" .. key .. "' must be a number, got string" } },
    }
  end
  option("elu", function(x, a) return x > 0 and x or a * expm1(x) end, "alpha", 1, 1.5, { away = { 0 } })
  option("celu", function(x, a) return x > 0 and x or a * expm1(x / a) end, "alpha", 1, 1.5, { away = { 0 } })
  option("hard_shrink", function(x, l) return abs(x) <= l and 0 or x end, "lambda", 0.5, 0.75, { away = { -0.75, -0.5, 0.5, 0.75 } })
  option("soft_shrink", function(x, l) return abs(x) <= l and 0 or x > 0 and x - l or x + l end, "lambda", 0.5, 0.75,
    { away = { -0.75, -0.5, 0.5, 0.75 } })
  local function logit(a, eps)
    return map(function(x)
      if eps then x = math.max(math.min(x, 1 - eps), eps) end
      return x >= 0 and x <= 1 and log(x / (1 - x)) or nan
    end, a)
  end
  cases.logit = {
    { T({ 3, 4 }, { 0.1, 0.9 }), ref = logit }, { T({ 9 }, { 0.02, 0.98, away = { 0.2, 0.8 } }), 0.2, ref = logit }, { T({ 0 }, { 0, 1 }),
      ref = logit },
    { given({ 7 }, { 0, 1, 0.5, 1e-30, 1 - 2 ^ -24, -0.5, 1.5 }), ref = logit, nograd = true },
    { given({ 3 }, { 0, 1, 0.5 }), 0.25, ref = logit, nograd = true },
    bad = { { T { 2 }, "1", "argument 'eps' must be a number, got string" } },
  }
  local function plus(a, b, limit)
    return map(function(x)
      local z = x * (b or 1)
      return z > (limit or 20) and x or softplus(z) / (b or 1)
    end, a)
  end
  cases.softplus = {
    { T { 3, 4 }, ref = plus }, { T { 2, 1, 3 }, 2.5, ref = plus }, { T({ 9 }, { -4, 4, away = { 1 } }), 2, 2, ref = plus }, { T { 0 }, ref = plus },
    { given({ 6 }, { -100, 100, 20.5, 0, -30, 1000 }), ref = plus, nograd = true },
    bad = { { T { 2 }, "1", "argument 'beta' must be a number, got string" } },
  }
  local function within(a, lo, hi) return map(function(x) return math.max(math.min(x, hi or 1), lo or -1) end, a) end
  cases.hard_tanh = {
    { T({ 3, 4 }, { away = { -1, 1 } }), ref = within, tol = 0 }, { T({ 7 }, { away = { -0.5, 1.5 } }), -0.5, 1.5, ref = within, tol = 0 },
    { T { 0, 2 }, ref = within }, bad = { { T { 2 }, "1", "argument 'min' must be a number, got string" } },
  }
  local function threshold(a, t, v) return map(function(x) return x > t and x or v end, a) end
  cases.threshold = {
    { T({ 3, 4 }, { away = { 0.5 } }), 0.5, -1.25, ref = threshold, tol = 0 }, { T { 0 }, 1, 2, ref = threshold },
    { given({ 3 }, { 0.5, 0.25, 1 }), 0.5, 9, ref = threshold, nograd = true },
    bad = { { T { 2 }, 1, "argument 'value' is missing" }, { T { 2 }, "1", 2, "argument 'threshold' must be a number, got string" } },
  }
  local function prelu(a, w) return map(function(x, y) return x > 0 and x or x * y end, a, w) end
  cases.prelu = {
    { T({ 2, 5, 3 }, { away = { 0 } }), T { 3 }, ref = prelu }, { T({ 3, 4 }, { away = { 0 } }), T { 1 }, ref = prelu },
    { T({ 3, 4 }, { away = { 0 } }), T {}, ref = prelu }, { T { 0, 4 }, T { 4 }, ref = prelu },
    bad = { { T { 2, 3 }, T { 4 }, "shapes do not broadcast: (2x3) and (4)" }, { T { 2 }, 0.5, "argument 'weight' must be a tensor, got number" } },
  }

  -- ---- composites -------------------------------------------------------------------------------------------------------------------
  local function gelu(a, how)
    how = type(how) == "table" and how.approximate or how
    return map(how == "tanh" and by_tanh or exact, a)
  end
  cases.gelu = {
    { T({ 3, 4 }, { -3, 3 }), ref = gelu }, { T({ 2, 5 }, { -3, 3 }), "tanh", ref = gelu },
    { T({ 7 }, { -3, 3 }), { approximate = "tanh" }, ref = gelu },
    { T({ 7 }, { -3, 3 }), "none", ref = gelu }, { T { 0, 2 }, ref = gelu }, { ints({ 4 }, -3, 3), ref = gelu },
    bad = { { T { 2 }, 1, "argument 'approximate' must be a word" }, { T { 2 }, "erf", 'approximate = "erf"; there are none, tanh' } },
  }
  local function glu(a, dim)
    local d, shape = dim or -1, {}
    if d < 0 then d = d + #a.shape + 1 end
    for i, s in ipairs(a.shape) do shape[i] = i == d and s // 2 or s end
    return build(shape, function(idx)
      local other = { table.unpack(idx) }
      other[d] = other[d] + shape[d]
      return at(a, idx) * sigmoid(at(a, other))
    end)
  end
  cases.glu = {
    { T { 3, 4 }, ref = glu }, { T { 4, 2, 3 }, 1, ref = glu }, { T { 2, 6, 3 }, -2, ref = glu }, { T { 0, 4 }, ref = glu },
    bad = { { T { 3, 5 }, "dim 2 has 5 elements, which can't be halved" }, { T {}, "a scalar has no dims" } },
  }
  local function softmin(a, dim)
    return h.along(a, dim or -1, function(l)
      local m, s, out = huge, 0, {}
      for _, x in ipairs(l) do m = math.min(m, x) end
      for i, x in ipairs(l) do
        out[i] = exp(m - x)
        s = s + out[i]
      end
      for i = 1, #l do out[i] = out[i] / s end
      return out
    end)
  end
  cases.softmin = {
    { T { 3, 4 }, ref = softmin }, { T { 3, 4, 2 }, 1, ref = softmin }, { T { 2, 5, 3 }, -2, ref = softmin }, { T { 3, 1 }, ref = softmin },
    { T { 0, 3 }, ref = softmin }, { given({ 1, 3 }, { 1000, -1000, -999 }), ref = softmin, nograd = true },
    bad = { { T {}, "a scalar has no dims" } },
  }
  local function finite(a, x, up, down)
    return map(function(v) return v ~= v and (x or 0) or v == huge and (up or 3.4028234663852886e38) or v == -huge and (down
      or -3.4028234663852886e38) or v end,
      a)
  end
  cases.nan_to_num = {
    { T { 3, 4 }, ref = finite, tol = 0 }, { given({ 5 }, { nan, huge, -huge, 1, 0 }), ref = finite, nograd = true, tol = 0, only = "f32" },
    { given({ 5 }, { nan, huge, -huge, 1, 0 }), 7, 8, -9, ref = finite, nograd = true, tol = 0 }, { T { 0, 3 }, ref = finite },
    { ints({ 5 }, -9, 9), ref = finite, dtype = "i64", tol = 0 },
    bad = { { T { 2 }, "1", "argument 'nan' must be a number, got string" } },
  }
end
