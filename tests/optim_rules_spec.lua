-- lua/nnlua/optim/: every rule over 20 steps against plain doubles; clipping, accumulation, averages, groups, schedules, state.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

-- f(w) = sum(a * w^2 / 2 + b * w): the gradient is a * w + b.
local a, b, start = { 1, 3, 0.5 }, { 0.5, -1, 0.1 }, { 1, -2, 3 }
local N = #start

local function backward(w)
  local loss = (nn.tensor(a, { dtype = w:dtype() }) * w * w * 0.5 + nn.tensor(b, { dtype = w:dtype() }) * w):sum()
  loss:backward()
end

local function train(opt, w, n)
  for _ = 1, n or 20 do
    opt:zero_grad()
    backward(w)
    opt:step()
  end
  return w
end

-- rule(i, g, p, state, step) gives the new p of one element.
local function reference(rule, n)
  local w, states = { table.unpack(start) }, { {}, {}, {} }
  for step = 1, n or 20 do
    for i = 1, N do w[i] = rule(a[i] * w[i] + b[i], w[i], states[i], step) end
  end
  return w
end

local function follow(s, name, rate, value)
  s[name] = rate * (s[name] or 0) + (1 - rate) * value
  return s[name]
end
local function sign(x) return x > 0 and 1 or x < 0 and -1 or 0 end
local function clamp(x, lo, hi) return math.max(lo, math.min(hi, x)) end

local function rmsprop(lr, rho, momentum, eps, centered)
  return function(g, p, s)
    local v = follow(s, "v", rho, g * g)
    if centered then v = v - follow(s, "mean", rho, g) ^ 2 end
    s.step = momentum * (s.step or 0) + lr * g / math.sqrt(v + eps)
    return p - s.step
  end
end

local function ftrl(lr, power, l1, l2, shrink, beta)
  return function(g, p, s)
    s.n, s.z = s.n or 0.1, s.z or 0
    local n = s.n + g * g
    s.z = s.z + g + 2 * shrink * p - (n ^ power - s.n ^ power) / lr * p
    s.n = n
    if math.abs(s.z) <= l1 then return 0 end
    return (sign(s.z) * l1 - s.z) / (n ^ power / lr + 2 * (l2 + beta / (2 * lr)))
  end
end

local rules = {
  { "Adagrad", {}, function(g, p, s)
    s.n = (s.n or 0.1) + g * g
    return p - 0.001 * g / math.sqrt(s.n + 1e-7)
  end },
  { "Adagrad", { lr = 0.5, initial_accumulator_value = 0.3, epsilon = 1e-3 }, function(g, p, s)
    s.n = (s.n or 0.3) + g * g
    return p - 0.5 * g / math.sqrt(s.n + 1e-3)
  end },
  { "Adadelta", { lr = 2, rho = 0.8, epsilon = 1e-3 }, function(g, p, s)
    local v = follow(s, "v", 0.8, g * g)
    local step = math.sqrt((s.d or 0) + 1e-3) * g / math.sqrt(v + 1e-3)
    follow(s, "d", 0.8, step * step)
    return p - 2 * step
  end },
  { "RMSprop", {}, rmsprop(0.001, 0.9, 0, 1e-7) },
  { "RMSprop", { lr = 0.05, rho = 0.8, momentum = 0.5, epsilon = 1e-3 }, rmsprop(0.05, 0.8, 0.5, 1e-3) },
  { "RMSprop", { lr = 0.05, centered = true, epsilon = 1e-2 }, rmsprop(0.05, 0.9, 0, 1e-2, true) },
  { "Ftrl", { lr = 0.3 }, ftrl(0.3, 0.5, 0, 0, 0, 0) },
  { "Ftrl", { lr = 0.3, l1 = 0.4, l2 = 0.1, l2_shrinkage_regularization_strength = 0.05, beta = 0.2, learning_rate_power = -0.7 },
    ftrl(0.3, 0.7, 0.4, 0.1, 0.05, 0.2) },
  { "Lion", { lr = 0.05 }, function(g, p, s)
    local step = sign(0.9 * (s.m or 0) + 0.1 * g)
    follow(s, "m", 0.99, g)
    return p - 0.05 * step
  end },
  { "Adamax", { lr = 0.1 }, function(g, p, s, t)
    s.u = math.max(0.999 * (s.u or 0), math.abs(g))
    return p - 0.1 / (1 - 0.9 ^ t) * follow(s, "m", 0.9, g) / (s.u + 1e-7)
  end },
  { "Nadam", { lr = 0.1 }, function(g, p, s, t)
    local function u(k) return 0.9 * (1 - 0.5 * 0.96 ^ k) end
    s.u = (s.u or 1) * u(t)
    local m, v = follow(s, "m", 0.9, g), follow(s, "v", 0.999, g * g)
    local hat = u(t + 1) * m / (1 - s.u * u(t + 1)) + (1 - u(t)) * g / (1 - s.u)
    return p - 0.1 * hat / (math.sqrt(v / (1 - 0.999 ^ t)) + 1e-7)
  end },
  { "RAdam", { lr = 0.1, beta_2 = 0.99 }, function(g, p, s, t)
    local m, v = follow(s, "m", 0.9, g), follow(s, "v", 0.99, g * g)
    local inf = 2 / 0.01 - 1
    local rho = inf - 2 * t * 0.99 ^ t / (1 - 0.99 ^ t)
    local step = m / (1 - 0.9 ^ t)
    if rho > 5 then
      local r = math.sqrt((rho - 4) * (rho - 2) * inf / ((inf - 4) * (inf - 2) * rho))
      step = step * r * math.sqrt(1 - 0.99 ^ t) / (math.sqrt(v) + 1e-7)
    end
    return p - 0.1 * step
  end },
  { "AdamW", { lr = 0.1 }, function(g, p, s, t)
    local m, v = follow(s, "m", 0.9, g), follow(s, "v", 0.999, g * g)
    return p * (1 - 0.1 * 0.004) - 0.1 * m / (1 - 0.9 ^ t) / (math.sqrt(v / (1 - 0.999 ^ t)) + 1e-7)
  end },
  { "Adam", { lr = 0.1, beta_2 = 0.5, amsgrad = true }, function(g, p, s, t)
    local m = follow(s, "m", 0.9, g)
    s.max = math.max(s.max or 0, follow(s, "v", 0.5, g * g))
    return p - 0.1 * m / (1 - 0.9 ^ t) / (math.sqrt(s.max / (1 - 0.5 ^ t)) + 1e-7)
  end },
  { "ASGD", { lr = 0.2, lambd = 0.01, t0 = 5 }, function(g, p, _, t)
    local eta = 0.2 / (1 + 0.01 * 0.2 * (t - 1)) ^ 0.75
    return p * (1 - 0.01 * eta) - eta * g
  end },
  { "Rprop", { lr = 0.1 }, function(g, p, s)
    s.size, s.g = s.size or 0.1, s.g or 0
    local turn = g * s.g
    s.size = clamp(s.size * (turn > 0 and 1.2 or turn < 0 and 0.5 or 1), 1e-6, 50)
    s.g = turn < 0 and 0 or g
    return p - sign(s.g) * s.size
  end },
}

local function described(given)
  local words = {}
  for key, value in pairs(given) do words[#words + 1] = key .. " " .. tostring(value) end
  table.sort(words)
  return table.concat(words, ", ")
end

local function make(name, w, given)
  local o = { { w } }
  for key, value in pairs(given or {}) do o[key] = value end
  return nn.optim[name](o)
end

describe("twenty steps of", function()
  for _, row in ipairs(rules) do
    it(("%s{%s}"):format(row[1], described(row[2])), function()
      local w = nn.parameter(start)
      close(reference(row[3]), train(make(row[1], w, row[2]), w), 1e-6)
    end)
    it(("%s{%s} in f64"):format(row[1], described(row[2])), function()
      local w = nn.parameter(nn.tensor(start, { dtype = "f64" }))
      close(reference(row[3]), train(make(row[1], w, row[2]), w), 1e-12)
    end)
  end

  it("Lamb, whose step has the parameter's norm", function()
    local w, m, v = { table.unpack(start) }, { 0, 0, 0 }, { 0, 0, 0 }
    for t = 1, 20 do
      local step, ww, ss = {}, 0, 0
      for i = 1, N do
        local g = a[i] * w[i] + b[i]
        m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
        step[i] = m[i] / (1 - 0.9 ^ t) / (math.sqrt(v[i] / (1 - 0.999 ^ t)) + 1e-7)
        ww, ss = ww + w[i] ^ 2, ss + step[i] ^ 2
      end
      for i = 1, N do w[i] = w[i] - 0.05 * math.sqrt(ww / ss) * step[i] end
    end
    for dtype, tolerance in pairs { f32 = 1e-6, f64 = 1e-12 } do
      local p = nn.parameter(nn.tensor(start, { dtype = dtype }))
      close(w, train(make("Lamb", p, { lr = 0.05 }), p), tolerance, dtype)
    end
  end)

  it("ASGD, with its average of the steps after t0", function()
    local w = nn.parameter(start)
    local opt = make("ASGD", w, { lr = 0.2, lambd = 0, alpha = 0, t0 = 5 })
    local mean = {}
    for t = 1, 20 do
      train(opt, w, 1)
      local now, mu = w:totable(), 1 / math.max(1, t - 1 - 5)
      for i = 1, N do mean[i] = (mean[i] or now[i]) + mu * (now[i] - (mean[i] or now[i])) end
    end
    close(mean, opt.slots.average_sgd[1], 1e-6)
  end)
end)

describe("every optimizer", function()
  local names = {}
  for name, c in pairs(nn.optim) do
    if type(c) == "table" and c ~= nn.optim.Optimizer and not c.needs_function then names[#names + 1] = name end
  end
  table.sort(names)
  it("is there", function() assert.equal(16, #names) end)

  for _, name in ipairs(names) do
    it(name .. " goes on exactly from its state and configuration", function()
      local options = { use_ema = true, weight_decay = 0.01, lr = 0.05 }
      local w = nn.parameter(start)
      local opt = train(make(name, w, options), w, 7) and nil or make(name, w, options)
      train(opt, w, 7)
      local v = nn.parameter(w:totable())
      local copy = nn.optim.get(opt:config()):bind { v }
      assert.equal(tostring(opt), tostring(copy))
      copy:set_state(opt:state())
      train(opt, w, 5)
      train(copy, v, 5)
      assert.same(w:totable(), v:totable())
      assert.is_true(w:totable()[1] == w:totable()[1])
    end)
  end

  it("lowers a loss, in steps that use cached plans", function()
    for _, name in ipairs(names) do
      local w = nn.parameter(start)
      local opt = make(name, w, { lr = name == "Adadelta" and 5 or 0.05 })
      train(opt, w, 10)
      local before = nn.run_stats().plan_misses
      train(opt, w, 10)
      assert.is_true(nn.run_stats().plan_misses - before <= 1, name)
      local function f(x)
        local sum = 0
        for i = 1, N do sum = sum + a[i] * x[i] ^ 2 / 2 + b[i] * x[i] end
        return sum
      end
      assert.is_true(f(w:totable()) < f(start) - 0.5, name)
    end
  end)
end)

describe("a rule of one's own", function()
  it("takes part in everything, and changes nothing when it raises", function()
    local Odd = nn.class("Odd", nn.optim.Optimizer)
    Odd.options = Odd.with_common { lr = { "number|table|function", default = 1 } }
    function Odd:slot_names() return { "steps" } end -- luacheck: no unused args
    local broken = false
    function Odd:rule(p, g, slot, o) -- luacheck: no unused args
      if broken and p:item() == 5 then error("no fives", 0) end
      slot.steps = slot.steps + 1
      return p - g * o.lr
    end
    local u, v = nn.parameter { 3 }, nn.parameter { 6 }
    local opt = Odd { { u, v }, use_ema = true }
    local function step()
      opt:zero_grad()
      local loss = (u + v):sum()
      loss:backward()
      opt:step()
    end
    step()
    broken = true
    assert.equal("no fives", message(step))
    assert.same({ 2, 5, 1, 1, 1 }, { u:item(), v:item(), opt.slots.steps[1]:item(), opt.slots.steps[2]:item(), opt.iterations })
    broken = false
    step()
    assert.same({ 1, 4, 2, 2 }, { u:item(), v:item(), opt.slots.steps[1]:item(), opt.iterations })
  end)
end)

describe("weight decay", function()
  it("shrinks by lr times itself, whatever the rule", function()
    local w = nn.parameter(start)
    close(reference(function(g, p, s)
      s.n = (s.n or 0.1) + g * g
      return p * (1 - 0.1 * 0.2) - 0.1 * g / math.sqrt(s.n + 1e-7)
    end), train(make("Adagrad", w, { lr = 0.1, weight_decay = 0.2 }), w), 2e-6)
  end)
end)

describe("clipping", function()
  local big = {}
  for i = 1, N do big[i] = a[i] * start[i] + b[i] end -- 1.5, -7, 1.6
  local function after(given)
    given.lr = 1
    local w = nn.parameter(start)
    local new = train(make("SGD", w, given), w, 1):totable()
    for i = 1, N do new[i] = start[i] - new[i] end
    return new
  end
  local norm = math.sqrt(big[1] ^ 2 + big[2] ^ 2 + big[3] ^ 2)

  it("by value", function() close({ 1.5, -2, 1.6 }, after { clipvalue = 2 }, 1e-6) end)
  it("by norm", function()
    close({ big[1] / norm, big[2] / norm, big[3] / norm }, after { clipnorm = 1 }, 1e-6)
    close(big, after { clipnorm = 100 }, 1e-6)
  end)
  it("by the norm of all", function()
    local u, v = nn.parameter { 3 }, nn.parameter { 4 }
    local opt = nn.optim.SGD { { u, v }, lr = 1, global_clipnorm = 1 }
    local loss = (u * u + v * v):sum() * 0.5
    loss:backward()
    opt:step()
    close({ 3 - 0.6, 4 - 0.8 }, { u:item(), v:item() }, 1e-6)
  end)
  it("comes before rules that are no runtime step, too", function()
    local w, v = nn.parameter(start), nn.parameter(start)
    train(make("RMSprop", w, { clipvalue = 0.25 }), w)
    close(reference(function(g, p, s) return rmsprop(0.001, 0.9, 0, 1e-7)(clamp(g, -0.25, 0.25), p, s) end), w, 2e-6)
    local norms = nn.clip_grad_norm({ v }, 1)
    assert.equal(0, norms:item()) -- no gradient yet
    local one, two = nn.parameter { 3, 0 }, nn.parameter { 4 }
    one:set_grad(nn.tensor { 3.0, 0.0 })
    two:set_grad(nn.tensor { 4.0 })
    close({ 5 }, { nn.clip_grad_norm({ one, two }, 10):item() }, 1e-6)
    close({ 3, 0, 4 }, { one:grad():totable(), two:grad():totable() }, 1e-6)
    close({ 5 }, { nn.clip_grad_norm({ one, two }, 1):item() }, 1e-6)
    close({ 0.6, 0, 0.8 }, { one:grad():totable(), two:grad():totable() }, 1e-6)
  end)
  it("takes one kind at a time", function()
    assert.equal("SGD: give only one of clipnorm, clipvalue and global_clipnorm", message(nn.optim.SGD, { clipnorm = 1, clipvalue = 1 }))
    assert.truthy(message(nn.clip_grad_norm, {}, 0):find("above 0", 1, true))
  end)
end)

describe("gradient accumulation", function()
  it("steps with the mean of n gradients", function()
    for _, name in ipairs { "SGD", "Adam", "RMSprop" } do
      local w, v = nn.parameter(start), nn.parameter(start)
      local big, small = make(name, w, { lr = 0.1 }), make(name, v, { lr = 0.1, gradient_accumulation_steps = 2 })
      for _ = 1, 3 do
        big:zero_grad()
        local loss = (w * nn.tensor { 1, 2, 3 } + w * nn.tensor { 3, 2, 5 }):sum() * 0.5
        loss:backward()
        big:step()
        for _, c in ipairs { { 1, 2, 3 }, { 3, 2, 5 } } do
          small:zero_grad()
          loss = (v * nn.tensor(c)):sum()
          loss:backward()
          small:step()
        end
      end
      assert.equal(3, small.iterations)
      close(w, v, 1e-6, name)
    end
  end)

  it("goes on in the middle", function()
    local w = nn.parameter(start)
    local opt = make("SGD", w, { lr = 0.1, gradient_accumulation_steps = 3 })
    train(opt, w, 4)
    local v = nn.parameter(w:totable())
    local copy = make("SGD", v, { lr = 0.1, gradient_accumulation_steps = 3 }):set_state(opt:state())
    train(opt, w, 2)
    train(copy, v, 2)
    assert.equal(2, copy.iterations)
    assert.same(w:totable(), v:totable())
  end)
end)

describe("moving averages", function()
  it("follow the parameters, and change places with them", function()
    local w = nn.parameter(start)
    local opt = make("SGD", w, { lr = 0.1, use_ema = true, ema_momentum = 0.8 })
    local mean
    for _ = 1, 6 do
      train(opt, w, 1)
      local now = w:totable()
      mean = mean or now
      for i = 1, N do mean[i] = 0.8 * mean[i] + 0.2 * now[i] end
    end
    local last = w:totable()
    opt:swap_ema()
    close(mean, w, 1e-6)
    assert.is_true(w:requires_grad())
    opt:swap_ema()
    assert.same(last, w:totable())
    assert.truthy(message(opt.swap_ema, make("SGD", w)):find("use_ema = true", 1, true))
  end)

  it("can overwrite the parameters now and then", function()
    local w = nn.parameter(start)
    local opt = make("Adamax", w, { lr = 0.1, use_ema = true, ema_momentum = 0.5, ema_overwrite_frequency = 3 })
    train(opt, w, 3)
    assert.same(opt.slots.average[1]:totable(), w:totable())
    train(opt, w, 1)
    assert.is_not.same(opt.slots.average[1]:totable(), w:totable())
  end)
end)

describe("groups of parameters", function()
  local function step(opt, ...)
    local sum
    for _, p in ipairs { ... } do sum = sum and sum + p:sum() or p:sum() end
    opt:zero_grad()
    sum:backward()
    opt:step()
  end

  it("have rates and weight decay of their own", function()
    for _, name in ipairs { "SGD", "Lion" } do
      local u, v, w = nn.parameter { 1 }, nn.parameter { 1 }, nn.parameter { 1 }
      local opt = nn.optim[name] {
        { { params = { u } }, { params = { v }, lr_scale = 0.5 }, { params = { w }, lr = 0.01, weight_decay = 0.1 } }, lr = 0.2 }
      step(opt, u, v, w)
      close({ 0.8, 0.9 }, { u:item(), v:item() }, 1e-6)
      close({ name == "SGD" and 1 - 0.01 * 1.1 or 1 * (1 - 0.001) - 0.01 }, { w:item() }, 1e-6)
      opt:adjust { lr = 0.4 }
      step(opt, u, v, w)
      close({ 0.4, 0.7 }, { u:item(), v:item() }, 1e-6)
    end
  end)

  it("are named, and checked", function()
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 2 }, nn.Dense { 1 } }
    local opt = nn.optim.Adam { { { params = model[2]:parameters(), name = "base" }, { params = model[3]:parameters() } } }
    assert.same({ "base.kernel", "base.bias", "kernel", "bias" }, opt.names)
    local p = nn.parameter { 1 }
    assert.equal("SGD: parameter 1 is there twice", message(nn.optim.SGD, { { { params = { p } }, { params = { p } } } }))
    assert.truthy(message(nn.optim.SGD, { { { params = { p }, rate = 1 } } }):find('group 1: unknown option "rate"', 1, true))
  end)
end)

describe("a learning rate", function()
  it("may be a schedule or a function of the steps taken", function()
    local w = nn.parameter { 0 }
    local opt = nn.optim.SGD { { w }, lr = function(step) return 10 ^ -step end }
    for _ = 1, 3 do
      opt:zero_grad()
      w:sum():backward()
      opt:step()
    end
    close({ -1.11 }, { w:item() }, 1e-6)
    assert.equal(0.01, opt.lr)
    opt = nn.optim.SGD { lr = nn.schedules.step { 1, 2 } }
    assert.equal(1, opt.lr)
    local copy = nn.optim.get(opt:config())
    assert.equal(tostring(opt.schedule), tostring(copy.schedule))
    copy:adjust { lr = 0.5 }
    assert.is_nil(copy.schedule)
    assert.truthy(message(nn.optim.SGD, { lr = "fast" }):find('"lr"', 1, true))
    assert.truthy(message(nn.optim.SGD, { lr = -1 }):find("at least 0", 1, true))
  end)

  it("of a schedule is kept in a checkpoint", function()
    local x, y = nn.uniform { 8, 2 }, nn.uniform { 8, 1 }
    local function make_model(opt)
      nn.seed(3)
      local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 1 } }
      return model:compile { optimizer = opt, loss = "mse" }
    end
    local model = make_model(nn.optim.Nadam { lr = nn.schedules.exponential { 0.1, 4, 0.5 }, use_ema = true, gradient_accumulation_steps = 2 })
    model:fit { x, y, epochs = 5, batch_size = 8, verbose = 0 }
    local file = os.tmpname()
    assert(model:save(file))
    local again = assert(nn.load(file))
    os.remove(file)
    local c, d = model.compiled.optimizer, again.compiled.optimizer
    assert.same({ c.iterations, c.pending, c.lr, tostring(c) }, { d.iterations, d.pending, d.lr, tostring(d) })
    for _, m in ipairs { model, again } do
      for _ = 1, 3 do m:train_on_batch(x, y) end
    end
    assert.same(model[2].kernel:totable(), again[2].kernel:totable())
  end)
end)
