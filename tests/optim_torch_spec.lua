-- lua/nnlua/optim/: twenty steps against PyTorch's (golden/optim.lua), and the options that all optimizers share, for each of them. Whose rule an
-- optimizer follows: SGD, Adam, AdamW, RAdam, ASGD, Rprop, LBFGS PyTorch's; RMSprop, Adagrad, Adamax Keras's, which has epsilon elsewhere, so that
-- they are compared with one too small to count; Adadelta both; Nadam, Ftrl, Lion, Lamb, Adafactor, Muon Keras's (optim_rules_spec and
-- optim_matrix_spec, against doubles). weight_decay shrinks the weight by lr times itself (Keras, AdamW); SGD adds it to the gradient (PyTorch).
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local it = support.on_device(it, pending)
local close, flat = support.close, support.flat

local size, A, b = 7, {}, {}
for i = 1, size do
  A[i], b[i] = {}, math.cos(2 * (i - 1))
  for j = 1, size do A[i][j] = (i == j and 2 or 0) + math.sin(3 * (i - 1) + 5 * (j - 1) + 1) / 2 end
end
local first, second = { 1, -2, 0.5 }, { { 0.3, -0.7 }, { 1.5, 2 } }

-- The parameters u and v, and a function that gives them their gradients.
local function problem(dtype)
  local o = { dtype = dtype }
  local u, v = nn.parameter(nn.tensor(first, o)), nn.parameter(nn.tensor(second, o))
  local matrix, target = nn.tensor(A, o), nn.tensor(b, o)
  return { u, v }, function()
    local loss = (matrix:matmul(nn.cat({ u, v:reshape(4) }, 1):unsqueeze(2)):squeeze(2) - target):square():sum() * 0.5
    loss:backward()
  end
end

local function numbers(list)
  local all = {}
  for _, p in ipairs(list) do flat(p:totable(), all) end
  return all
end

-- Every number within `tolerance` of the expected one, relative to the largest of them.
local function near(want, got, tolerance, what)
  local largest, values = 0, numbers(got)
  for _, v in ipairs(want) do largest = math.max(largest, math.abs(v)) end
  for i, v in ipairs(want) do
    assert(math.abs(v - values[i]) <= tolerance * largest, ("%s: value %d: expected %.12g, got %.12g"):format(what, i, v, values[i]))
  end
end

local function make(name, parameters, given)
  local o = { parameters }
  for key, value in pairs(given or {}) do o[key] = value end
  return nn.optim[name](o)
end

local function described(given)
  local words = {}
  for key, value in pairs(given) do words[#words + 1] = ("%s = %s"):format(key, value) end
  table.sort(words)
  return table.concat(words, ", ")
end

-- Which optimizers have a row; a name is the spec that has steps of its own.
local rowed = { LBFGS = "optim_matrix_spec", CG = "optim_matrix_spec",
  Nadam = "optim_rules_spec", Ftrl = "optim_rules_spec", Lion = "optim_rules_spec",
  Lamb = "optim_rules_spec", Adafactor = "optim_matrix_spec", Muon = "optim_matrix_spec" }

describe("PyTorch's twenty steps of", function()
  for _, row in ipairs(dofile(here .. "golden/optim.lua").rules) do
    local name, given, steps = table.unpack(row)
    rowed[name] = true
    for dtype, tolerance in pairs { f32 = 1e-6, f64 = 1e-10 } do
      it(("%s{%s} in %s"):format(name, described(given), dtype), function()
        local parameters, backward = problem(dtype)
        local opt = make(name, parameters, given)
        for t = 1, 20 do
          opt:zero_grad()
          backward()
          opt:step()
          if steps[t] then near(steps[t], parameters, tolerance, "step " .. t) end
        end
      end)
    end
  end
end)

local names = {}
for name, c in pairs(nn.optim) do
  if type(c) == "table" and c ~= nn.optim.Optimizer then names[#names + 1] = name end
end
table.sort(names)

it("no optimizer is without its steps", function()
  for _, name in ipairs(names) do
    local where = assert(rowed[name], name .. " has no reference")
    if where ~= true then -- the file does check it
      local text = assert(io.open(here .. where .. ".lua")):read "a"
      assert(text:find(name, 1, true), name .. " is not in " .. where)
    end
  end
end)

-- ---- options of all --------------------------------------------------------------------------------------------------

-- The gradients of step t, the same for every run.
local function gradients(t)
  return { { math.sin(t), 3 * math.cos(2 * t), -2 }, { { math.cos(t), -1.5 }, { math.sin(3 * t) * 4, 0.25 } } }
end

local function map(x, f)
  if type(x) ~= "table" then return f(x) end
  local out = {}
  for i, v in ipairs(x) do out[i] = map(v, f) end
  return out
end

local function norm(x)
  local sum = 0
  for _, v in ipairs(flat(x)) do sum = sum + v * v end
  return math.sqrt(sum)
end

-- Steps of an optimizer whose gradients change(g, parameters) makes of those of the step; and the numbers after each.
local function run(name, given, count, change, before)
  local parameters = problem "f32"
  local opt, trail = make(name, parameters, given), {}
  for t = 1, count do
    local g = gradients(t)
    if before then before(parameters, opt) end
    if change then g = change(g, parameters) end
    for i, p in ipairs(parameters) do p:set_grad(nn.tensor(g[i], { dtype = "f32" })) end
    opt:step()
    trail[t] = numbers(parameters)
  end
  return trail, parameters, opt
end

local function same_trail(want, got)
  assert.equal(#want, #got)
  for t, values in ipairs(want) do close(values, got[t], 2e-6, "step " .. t) end
end

-- What the gradients become by each option, in doubles.
local clips = {
  clipvalue = { 0.8, function(g) return map(g, function(v) return math.max(-0.8, math.min(0.8, v)) end) end },
  clipnorm = { 1.5, function(g)
    local out = {}
    for i, x in ipairs(g) do out[i] = map(x, function(v) return v * math.min(1, 1.5 / norm(x)) end) end
    return out
  end },
  global_clipnorm = { 1.5, function(g)
    local whole = norm(g)
    return map(g, function(v) return v * math.min(1, 1.5 / whole) end)
  end },
}

for _, name in ipairs(names) do
  if not nn.optim[name].needs_function then -- LBFGS refuses these options
    describe(name, function()
      local plain = { lr = 0.05, weight_decay = 0, adam_weight_decay = name == "Muon" and 0 or nil }
      local function with(key, value)
        local o = { [key] = value }
        for k, v in pairs(plain) do if o[k] == nil then o[k] = v end end
        return o
      end

      for option, case in pairs(clips) do
        it("with " .. option, function() same_trail(run(name, plain, 20, case[2]), (run(name, with(option, case[1]), 20))) end)
      end

      it("with weight_decay", function()
        local decay, change, before = 0.1, nil, nil
        local given = with("weight_decay", decay)
        if name == "Muon" then given.adam_weight_decay = decay end -- of weights that are no matrices
        if name == "SGD" then
          change = function(g, parameters)
            local out = {}
            for i, p in ipairs(parameters) do
              local w, k = numbers { p }, 0
              out[i] = map(g[i], function(v)
                k = k + 1
                return v + decay * w[k]
              end)
            end
            return out
          end
        else
          before = function(parameters, opt)
            for _, p in ipairs(parameters) do
              local less = map(p:totable(), function(v) return v * (1 - opt.lr * decay) end)
              p:assign(nn.tensor(less, { dtype = "f32" }))
            end
          end
        end
        same_trail(run(name, plain, 20, change, before), (run(name, given, 20)))
      end)

      it("with gradient_accumulation_steps", function()
        local parameters = problem "f32"
        local opt, trail = make(name, parameters, with("gradient_accumulation_steps", 2)), {}
        for t = 1, 20 do -- two unequal gradients with the mean that run() has
          for sign = -1, 1, 2 do
            local g = gradients(t)
            for i, p in ipairs(parameters) do
              p:set_grad(nn.tensor(map(g[i], function(v) return v + sign * (1 + v) end), { dtype = "f32" }))
            end
            opt:step()
          end
          trail[t] = numbers(parameters)
        end
        assert.equal(20, opt.iterations)
        same_trail(run(name, plain, 20), trail)
      end)

      it("with use_ema", function()
        local trail, _, opt = run(name, with("use_ema", true), 20)
        same_trail(run(name, plain, 20), trail)
        local mean = table.move(trail[1], 1, size, 1, {})
        for t = 2, 20 do
          for i = 1, size do mean[i] = 0.99 * mean[i] + 0.01 * trail[t][i] end
        end
        close(mean, numbers(opt.slots.average), 2e-6)
      end)
    end)
  end
end

describe("a checkpoint goes on exactly with", function()
  local x, y = nn.randn(8, 3), nn.randn(8, 2)
  -- Two batches, a file, and two batches more of both: the model's and the file's.
  local function resumed(optimizer)
    local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 4, activation = "tanh" }, nn.Dense { 2 } }
    model:compile { optimizer = optimizer, loss = "mse" }
    for _ = 1, 2 do model:train_on_batch(x, y) end
    local file = os.tmpname()
    assert(model:save(file))
    local again = assert(nn.load(file))
    os.remove(file)
    assert.equal(tostring(model.compiled.optimizer), tostring(again.compiled.optimizer))
    for _ = 1, 2 do
      model:train_on_batch(x, y)
      again:train_on_batch(x, y)
    end
    local want, got = model:state(), again:state()
    for key, value in pairs(want) do assert.same(value:totable(), got[key]:totable(), key) end
  end
  for _, name in ipairs(names) do
    if not nn.optim[name].needs_function then
      it(name, function() resumed(nn.optim[name] { lr = 0.05, clipnorm = 1, use_ema = true, weight_decay = 0.01 }) end)
    end
  end
  local S = nn.schedules
  local schedules = {
    constant = S.constant { 0.1 }, exponential = S.exponential { 0.1, 2, 0.5 }, piecewise = S.piecewise { { 1, 3 }, { 0.3, 0.2, 0.1 } },
    polynomial = S.polynomial { 0.1, 4 }, inverse_time = S.inverse_time { 0.1, 2, 0.5 },
    cosine = S.cosine { 0, 10, warmup_target = 0.1, warmup_steps = 3 }, cosine_restarts = S.cosine_restarts { 0.1, 2 },
    step = S.step { 0.1, 2, 0.5 }, linear = S.linear { 0.1, 0.01, 4 }, one_cycle = S.one_cycle { 0.1, 10 }, cyclic = S.cyclic { 0.01, 0.1, 2 },
    warmup = S.warmup { S.constant { 0.1 }, 3 }, plateau = S.plateau { 0.1 },
    noam = S.noam { 64, 10 }, join = S.join { { S.linear { 0, 0.1, 2 }, S.exponential { 0.1, 1, 0.5 } }, { 2 } },
  }
  for name, value in pairs(S) do
    if name ~= "get" and (type(value) == "table" or type(value) == "function") then
      it("the schedule " .. name, function() resumed(nn.optim.SGD { lr = assert(schedules[name], name .. " has no row") }) end)
    end
  end
end)
