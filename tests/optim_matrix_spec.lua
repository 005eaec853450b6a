-- lua/nnlua/optim/matrix.lua, lbfgs.lua and cg.lua: Adafactor and Muon over 20 steps against plain doubles, LBFGS against PyTorch
-- (golden/optim.lua), CG against the linear method in doubles.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local close, matrix, message = support.close, support.matrix, support.message
local it = support.on_device(it)

local function noise(n, m, seed) return matrix(n, m, function(i, j) return math.sin(7 * i + 3 * j + seed) end) end
local function map(x, f) return matrix(#x, #x[1], function(i, j) return f(x[i][j], i, j) end) end
local function product(a, b)
  return matrix(#a, #b[1], function(i, j)
    local sum = 0
    for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
    return sum
  end)
end
local function turned(a) return matrix(#a[1], #a, function(i, j) return a[j][i] end) end
local function length(a)
  local sum = 0
  for _, row in ipairs(a) do
    for _, v in ipairs(row) do sum = sum + v * v end
  end
  return math.sqrt(sum)
end
local function rms(a) return length(a) / math.sqrt(#a * #a[1]) end

-- The loss sum((w - target)^2 * scale) / 2 with the gradient (w - target) * scale.
local function run(opt, start, target, scale, dtype)
  local w = nn.parameter(nn.tensor(start, { dtype = dtype }))
  opt:bind { w }
  local t, s = nn.tensor(target, { dtype = dtype }), nn.tensor(scale, { dtype = dtype })
  for _ = 1, 20 do
    opt:zero_grad()
    local loss = ((w - t):square() * s):sum() * 0.5
    loss:backward()
    opt:step()
  end
  return w
end

local function reference(start, target, scale, step)
  local w, state = start, {}
  for n = 1, 20 do w = step(w, map(w, function(v, i, j) return (v - target[i][j]) * scale[i][j] end), state, n) end
  return w
end

local function means(x, of)
  local out = {}
  for i = 1, #x do
    out[i] = 0
    for j = 1, #x[1] do out[i] = out[i] + of(x[i][j]) / #x[1] end
  end
  return out
end

local function adafactor(lr, eps2, clip, factored, fixed)
  return function(w, g, s, n)
    local rate, beta = fixed and lr or math.min(lr, 1 / math.sqrt(n)), 1 - n ^ -0.8
    local function square(v) return v * v + 1e-30 end
    local v
    if factored then
      local r, c = means(g, square), means(turned(g), square)
      s.r, s.c = s.r or {}, s.c or {}
      local mean = 0
      for i, x in ipairs(r) do
        s.r[i] = beta * (s.r[i] or 0) + (1 - beta) * x
        mean = mean + s.r[i] / #r
      end
      for j, x in ipairs(c) do s.c[j] = beta * (s.c[j] or 0) + (1 - beta) * x end
      v = map(w, function(_, i, j) return s.r[i] / mean * s.c[j] end)
    else
      s.v = map(w, function(_, i, j) return beta * (s.v and s.v[i][j] or 0) + (1 - beta) * square(g[i][j]) end)
      v = s.v
    end
    local u = map(g, function(x, i, j) return x / math.sqrt(v[i][j]) end)
    local less, size = math.max(1, rms(u) / clip), math.max(eps2, rms(w)) * rate
    return map(w, function(x, i, j) return x - size * u[i][j] / less end)
  end
end

local function muon(lr, decay, momentum, nesterov, rms_rate, steps)
  return function(w, g, s)
    w = map(w, function(x) return x * (1 - lr * decay) end)
    s.m = map(g, function(x, i, j) return momentum * (s.m and s.m[i][j] or 0) + x end)
    local x = nesterov and map(g, function(v, i, j) return v + momentum * s.m[i][j] end) or s.m
    local tall = #x > #x[1]
    if tall then x = turned(x) end
    local size = length(x) + 1e-7
    x = map(x, function(v) return v / size end)
    for _ = 1, steps do
      local a = product(x, turned(x))
      local aa = product(a, a)
      local bx = product(map(a, function(v, i, j) return -4.775 * v + 2.0315 * aa[i][j] end), x)
      x = map(x, function(v, i, j) return 3.4445 * v + bx[i][j] end)
    end
    if tall then x = turned(x) end
    local rate = lr * (rms_rate and rms_rate * math.sqrt(math.max(#w, #w[1])) or 1)
    return map(w, function(v, i, j) return v - rate * x[i][j] end)
  end
end

describe("twenty steps of", function()
  for _, dtype in ipairs { "f32", "f64" } do
    local tolerance = dtype == "f64" and 1e-9 or 1e-3 -- where a gradient is near 0 its square root tells rounding
    it("Adafactor of a matrix in " .. dtype, function()
      local start, target, scale = noise(3, 5, 1), noise(3, 5, 2), map(noise(3, 5, 3), function(v) return 1.2 + v end)
      close(reference(start, target, scale, adafactor(0.001, 1e-3, 1, true)), run(nn.optim.Adafactor {}, start, target, scale, dtype), tolerance)
      close(reference(start, target, scale, adafactor(0.1, 0.9, 0.5, true)),
        run(nn.optim.Adafactor { lr = 0.1, epsilon_2 = 0.9, clip_threshold = 0.5 }, start, target, scale, dtype), tolerance)
    end)
    it("Adafactor without relative_step in " .. dtype, function()
      local start, target, scale = noise(3, 5, 1), noise(3, 5, 2), map(noise(3, 5, 3), function(v) return 1.2 + v end)
      close(reference(start, target, scale, adafactor(0.4, 1e-3, 1, true, true)),
        run(nn.optim.Adafactor { lr = 0.4, relative_step = false }, start, target, scale, dtype), dtype == "f64" and 1e-6 or 1e-2)
    end)
    it("Adafactor of a row in " .. dtype, function()
      local start, target, scale = noise(1, 6, 1), noise(1, 6, 2), map(noise(1, 6, 3), function(v) return 1.2 + v end)
      local want = reference(start, target, scale, adafactor(0.1, 1e-3, 1))
      close(want, run(nn.optim.Adafactor { lr = 0.1 }, start[1], target[1], scale[1], dtype), tolerance)
    end)
    it("Muon of wide and tall matrices in " .. dtype, function()
      for _, size in ipairs { { 3, 5 }, { 6, 2 }, { 4, 4 } } do
        local n, m = size[1], size[2]
        local start, target, scale = noise(n, m, 1), noise(n, m, 2), map(noise(n, m, 3), function(v) return 1.2 + v end)
        local loose = dtype == "f64" and 1e-7 or 2e-3 -- the iteration is not contracting: what is small grows by 3.4445 at each step
        close(reference(start, target, scale, muon(0.02, 0.004, 0.95, true, 0.2, 5)),
          run(nn.optim.Muon { lr = 0.02 }, start, target, scale, dtype), loose)
        close(reference(start, target, scale, muon(0.02, 0.3, 0.5, false, false, 6)),
          run(nn.optim.Muon { lr = 0.02, weight_decay = 0.3, momentum = 0.5, nesterov = false, rms_rate = false, ns_steps = 6 },
            start, target, scale, dtype), loose)
      end
    end)
  end
end)

describe("Muon", function()
  it("gives Adam's rule to what is no hidden matrix", function()
    local function after(names, opt)
      local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 4, name = names[1] }, nn.Dense { 2, name = names[2] } }
      local start = model:state()
      model:load_state((function()
        local s = {}
        for key, v in pairs(start) do s[key] = v:detach() * 0 + 0.3 end
        return s
      end)())
      opt:bind(model:parameters())
      for _ = 1, 3 do
        opt:zero_grad()
        model(nn.tensor { { 1.0, -2.0, 0.5 } }):square():sum():backward()
        opt:step()
      end
      return model:state()
    end
    local plain = { weight_decay = 0, lr = 0.1 }
    local all = after({ "word_embedding", "output" }, nn.optim.Muon {
      lr = 0.1, weight_decay = 0, adam_weight_decay = 0.02, adam_lr_ratio = 0.1, exclude_layers = { "output" } })
    local adam = after({ "a", "b" }, nn.optim.AdamW { lr = 0.01, epsilon = 1e-7, weight_decay = 0.2 })
    for _, names in ipairs { { "word_embedding", "a" }, { "output", "b" } } do
      for _, w in ipairs { "kernel", "bias" } do close(adam[names[2] .. "." .. w]:totable(), all[names[1] .. "." .. w], 1e-5) end
    end
    local mixed = after({ "a", "b" }, nn.optim.Muon(plain))
    assert(math.abs(mixed["a.kernel"]:totable()[1][1] - adam["a.kernel"]:totable()[1][1]) > 1e-3)
  end)
  it("remembers one row and one column of a matrix in Adafactor", function()
    local opt = nn.optim.Adafactor { { nn.parameter(nn.ones(2, 30, 40)), nn.parameter(nn.ones(7)) } }
    assert.same({ 2, 30 }, opt.slots.r[1]:shape())
    assert.same({ 2, 40 }, opt.slots.c[1]:shape())
    assert.same({ { 1 }, { 7 }, { 1 } }, { opt.slots.v[1]:shape(), opt.slots.v[2]:shape(), opt.slots.r[2]:shape() })
  end)
end)

describe("LBFGS", function()
  local function function_of(opt, a, b)
    return function()
      opt:zero_grad()
      local x = nn.cat({ a, b }, 1)
      local left, right = x:narrow(1, 1, 3), x:narrow(1, 2, 3)
      local loss = ((right - left:square()):square() * 10 + (1 - left):square()):sum()
      loss:backward()
      return loss
    end
  end

  for _, case in ipairs(dofile(here .. "golden/optim.lua").lbfgs) do
    local words = {}
    for key, value in pairs(case.options) do words[#words + 1] = key .. " = " .. value end
    table.sort(words)
    it("takes PyTorch's steps with " .. table.concat(words, ", "), function()
      local a, b = nn.parameter(nn.tensor({ -1.2, 1 }, { dtype = "f64" })), nn.parameter(nn.tensor({ 0.7, 0.3 }, { dtype = "f64" }))
      local given = { { a, b } }
      for key, value in pairs(case.options) do given[key] = value end
      local opt = nn.optim.LBFGS(given)
      local f = function_of(opt, a, b)
      for i, want in ipairs(case.steps) do
        local loss = opt:step(f):item()
        close(want, { loss, a:totable(), b:totable() }, 1e-6, "step " .. i)
      end
    end)
  end
  it("says what it needs and what it does not take", function()
    local w = nn.parameter { 1 }
    assert(message(function() nn.optim.LBFGS { { w } }:step() end):find("step needs a function", 1, true))
    assert(message(nn.optim.LBFGS, { { w }, clipnorm = 1 }):find("it takes no clipnorm", 1, true))
    assert(message(nn.optim.LBFGS, { { w }, weight_decay = 1 }):find("add penalties to the loss", 1, true))
  end)
end)

describe("CG", function()
  local function rosenbrock(opt, w, count)
    return function()
      count[1] = count[1] + 1
      opt:zero_grad()
      local a, b = w:narrow(1, 1, 1), w:narrow(1, 2, 1)
      local loss = ((b - a:square()):square() * 100 + (1 - a):square()):sum()
      loss:backward()
      return loss
    end
  end

  it("finds the end of Rosenbrock's valley", function()
    for dtype, tolerance in pairs { f64 = 1e-8, f32 = 1e-3 } do
      local w, count = nn.parameter(nn.tensor({ -1.2, 1 }, { dtype = dtype })), { 0 }
      local opt = nn.optim.CG { { w }, max_iter = 60 }
      local f = rosenbrock(opt, w, count)
      close(24.2, opt:step(f):item(), 1e-5)
      close({ 1, 1 }, w, tolerance)
      assert.is_true(count[1] <= 100, count[1])
      assert.equal(1, opt.iterations)
    end
  end)

  -- Hestenes and Stiefel: for f(w) = |A w - b|^2 / 2 and exact searches these are the iterates.
  it("takes the steps of the linear method where its searches are exact", function()
    local n, m = 6, 4
    local a, b = noise(n, m, 1), noise(n, 1, 5)
    local square, r = product(turned(a), a), product(turned(a), b)
    local want, d, iterates = map(r, function() return 0 end), r, {}
    local function dot(x, y) return product(turned(x), y)[1][1] end
    for k = 1, m do
      local q = product(square, d)
      local alpha, rr = dot(r, r) / dot(d, q), dot(r, r)
      local step, direction = alpha, d
      want = map(want, function(v, i) return v + step * direction[i][1] end)
      r = map(r, function(v, i) return v - step * q[i][1] end)
      local beta = dot(r, r) / rr
      d = map(r, function(v, i) return v + beta * direction[i][1] end)
      iterates[k] = want
    end
    for k = 1, m do
      local w = nn.parameter(nn.zeros({ m, 1 }, "f64"))
      local opt = nn.optim.CG { { w }, max_iter = k, max_eval = 200, c2 = 1e-7 }
      local A, B = nn.tensor(a, { dtype = "f64" }), nn.tensor(b, { dtype = "f64" })
      opt:step(function()
        opt:zero_grad()
        local loss = (A:matmul(w) - B):square():sum() * 0.5
        loss:backward()
        return loss
      end)
      close(iterates[k], w, 1e-5, "iterate " .. k)
    end
  end)

  it("never ends higher than it began, and calls no more often than it may", function()
    for _, most in ipairs { 1, 2, 3, 5, 9 } do
      local w, count = nn.parameter(nn.tensor({ -1.2, 1 }, { dtype = "f64" })), { 0 }
      local opt = nn.optim.CG { { w }, max_iter = 9, max_eval = most, lr = 1000 }
      local f = rosenbrock(opt, w, count)
      local first = opt:step(f):item()
      assert.is_true(count[1] <= most)
      assert.is_true(f():item() <= first)
    end
  end)

  it("says what it needs", function()
    local w = nn.parameter { 1 }
    assert(message(function() nn.optim.CG { { w } }:step() end):find("CG: step needs a function", 1, true))
    assert(message(nn.optim.CG, { { w }, use_ema = true }):find("CG: it takes no weight_decay", 1, true))
    assert(message(nn.optim.CG, { { w }, c2 = 1 }):find("c2", 1, true))
  end)
end)
