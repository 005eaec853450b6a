-- What the library has by name beside layers and optimizers: activations against formulas in doubles; of every loss the reductions, forms, gradients,
-- masks and files; schedules, initializers, regularizers, constraints: nothing is without a check. (Values of losses: losses_spec, losses_list_spec,
-- losses_pairs_spec; of metrics: metrics_spec; of the others: schedules_spec, initializers_spec, regularizers_spec.)
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local it, host = support.on_device(it, pending)
local close, flat = support.close, support.flat

local function functions_of(family, ...)
  local names, not_members = {}, {}
  for _, name in ipairs { "get", ... } do not_members[name] = true end
  for name in pairs(family) do
    if not not_members[name] then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- ---- activations -----------------------------------------------------------------------------------------------------

local exp, log, max, min, abs = math.exp, math.log, math.max, math.min, math.abs
local function sigmoid(x) return 1 / (1 + exp(-x)) end
local function tanh(x) return (exp(x) - exp(-x)) / (exp(x) + exp(-x)) end
local function softplus(x) return log(1 + exp(x)) end
local function clamp(x, a, b) return max(a, min(b, x)) end
local function erf(x) -- Abramowitz and Stegun 7.1.5
  local sum, term = 0, x
  if abs(x) > 4 then return x > 0 and 1 or -1 end
  for n = 0, 60 do
    sum = sum + term / (2 * n + 1)
    term = -term * x * x / (n + 1)
  end
  return sum * 2 / math.sqrt(math.pi)
end
local function elementwise(f)
  return function(row)
    local out = {}
    for i, v in ipairs(row) do out[i] = f(v) end
    return out
  end
end
local function hard_swish(x) return x * clamp(x / 6 + 0.5, 0, 1) end
local function silu(x) return x * sigmoid(x) end

local activations = {
  linear = function(x) return x end, relu = function(x) return max(x, 0) end, relu6 = function(x) return clamp(x, 0, 6) end,
  leaky_relu = function(x) return x > 0 and x or 0.2 * x end, sigmoid = sigmoid, tanh = tanh, exponential = exp,
  celu = function(x) return x > 0 and x or exp(x) - 1 end, elu = function(x) return x > 0 and x or exp(x) - 1 end,
  gelu = function(x) return x / 2 * (1 + erf(x / math.sqrt(2))) end,
  gelu_tanh = function(x) return x / 2 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) end,
  hard_shrink = function(x) return abs(x) > 0.5 and x or 0 end, hard_sigmoid = function(x) return clamp(x / 6 + 0.5, 0, 1) end,
  hard_swish = hard_swish, hard_silu = hard_swish, hard_tanh = function(x) return clamp(x, -1, 1) end,
  log_sigmoid = function(x) return log(sigmoid(x)) end, mish = function(x) return x * tanh(softplus(x)) end,
  selu = function(x) return 1.0507009873554805 * (x > 0 and x or 1.6732632423543772 * (exp(x) - 1)) end,
  silu = silu, swish = silu, soft_shrink = function(x) return x > 0.5 and x - 0.5 or x < -0.5 and x + 0.5 or 0 end,
  softplus = softplus, softsign = function(x) return x / (1 + abs(x)) end, tanh_shrink = function(x) return x - tanh(x) end,
}
for name, f in pairs(activations) do activations[name] = elementwise(f) end
activations.softmax = support.softmax
function activations.softmin(row) return support.softmax(elementwise(function(v) return -v end)(row)) end
function activations.log_softmax(row) return elementwise(log)(support.softmax(row)) end
function activations.glu(row)
  local out, n = {}, #row // 2
  for i = 1, n do out[i] = row[i] * sigmoid(row[n + i]) end
  return out
end
function activations.crelu(row)
  local out, n = {}, #row
  for i, v in ipairs(row) do out[i], out[n + i] = max(v, 0), max(-v, 0) end
  return out
end
function activations.sparsemax(row) -- by bisection on tau: sum(max(z - tau, 0)) = 1
  local low, high = -20, 20
  for _ = 1, 80 do
    local tau, sum = (low + high) / 2, 0
    for _, z in ipairs(row) do sum = sum + max(z - tau, 0) end
    if sum > 1 then low = tau else high = tau end
  end
  return elementwise(function(z) return max(z - low, 0) end)(row)
end

describe("activation", function()
  local rows = { { -4.2, -1.7, -0.3, 0.2 }, { 0.4, 0.8, 2.3, 7.1 }, { 3.3, -0.6, 0.15, -2.9 } }
  for _, name in ipairs(functions_of(nn.activations)) do
    it(name, function()
      local f = assert(activations[name], name .. " has no formula here")
      local x = nn.parameter(rows)
      local y = nn.Activation { name }(x)
      local want = {}
      for i, row in ipairs(rows) do want[i] = f(row) end
      close(want, y, 3e-6)
      close(want, nn.activations[name](x), 3e-6)
      local cot = support.matrix(3, #want[1], function(i, j) return math.sin(5 * i + 3 * j) end)
      y:backward(nn.tensor(cot, { dtype = "f32" }))
      local grad, h = {}, 1e-5
      for i, row in ipairs(rows) do
        grad[i] = {}
        for j = 1, #row do
          local up, down = { table.unpack(row) }, { table.unpack(row) }
          up[j], down[j] = up[j] + h, down[j] - h
          up, down = f(up), f(down)
          local sum = 0
          for k = 1, #up do sum = sum + cot[i][k] * (up[k] - down[k]) / (2 * h) end
          grad[i][j] = sum
        end
      end
      close(grad, x:grad(), 2e-5, "gradient")
      local _, told = nn.activations.get(nn.activations[name])
      assert.equal(nn.activations[told], nn.activations[name])
    end)
  end
end)

-- ---- losses ----------------------------------------------------------------------------------------------------------

local numbers, values = { { 0.3, -1.2 }, { 2.5, 0.1 }, { -0.4, 1.7 } }, { { 1, -1 }, { 0.5, 3 }, { 0.2, -0.3 } }
local chances, yes = { { 0.2, 0.7 }, { 0.9, 0.6 }, { 0.35, 0.05 } }, { { 0, 1 }, { 1, 1 }, { 1, 0 } }
local rows, one_hot = { { 0.3, 0.7 }, { 0.8, 0.2 }, { 0.45, 0.55 } }, { { 0, 1 }, { 1, 0 }, { 0, 1 } }
local positive, ids, order = { { 1, 0.5 }, { 0.5, 3 }, { 0.2, 2 } }, { 1, 2, 1 }, { 1, -1, 1 }
local unit = { { 0.6, 0.8 }, { 0, 1 }, { 0.8, -0.6 } }
local scores = { { { 0.3, -1, 0.2 }, { 1, 0.4, -0.5 }, { 0, 0.2, 0.9 } }, { { 1, -1, 0.3 }, { -0.2, 0.8, 0.1 }, { 0.4, 0, 0.2 } },
  { { 0, 0.5, 0.2 }, { 0.3, 0.4, -1 }, { 0.9, 0.2, -0.4 } } }

-- predictions, targets, options that are not the defaults; whole: one value for the batch; pairs: samples depend on each other
local losses = {
  mean_squared_error = { numbers, values, {} }, mean_absolute_error = { numbers, values, {} },
  mean_absolute_percentage_error = { numbers, values, {} }, mean_squared_logarithmic_error = { chances, positive, {} },
  huber = { numbers, values, { delta = 0.5 } }, smooth_l1 = { numbers, values, { beta = 2 } }, log_cosh = { numbers, values, {} },
  poisson = { chances, positive, {} }, hinge = { numbers, yes, {} }, squared_hinge = { numbers, yes, {} },
  categorical_hinge = { numbers, one_hot, {} },
  binary_crossentropy = { chances, yes, { label_smoothing = 0.1 }, logits = numbers }, kl_divergence = { rows, chances, {} },
  binary_focal_crossentropy = { chances, yes, { gamma = 3 }, logits = numbers },
  categorical_crossentropy = { rows, one_hot, { label_smoothing = 0.1 }, logits = numbers },
  categorical_focal_crossentropy = { rows, one_hot, { gamma = 3 }, logits = numbers },
  sparse_categorical_crossentropy = { rows, ids, {}, logits = numbers },
  cross_entropy = { numbers, ids, {} }, nll = { numbers, ids, {} }, cosine_similarity = { numbers, values, {} },
  contrastive = { chances, yes, { margin = 0.5 } }, margin_ranking = { numbers, order, { margin = 0.7 } },
  gaussian_nll = { { { 0.1, 0.5 }, { 0.3, 1.2 }, { -0.4, 0.8 } }, { { 0 }, { 1 }, { 0.5 } }, { epsilon = 1e-3 } },
  triplet = { unit, ids, { margin = 0.5 }, pairs = true }, circle = { unit, ids, { gamma = 4 }, pairs = true },
  ctc = { scores, { { 2, 3 }, { 2, 1 }, { 3, 3 } }, {} }, dice = { chances, yes, {}, whole = true },
  tversky = { chances, yes, { alpha = 0.3, beta = 0.7 }, whole = true },
}
local takes_ids = { sparse_categorical_crossentropy = true, cross_entropy = true, nll = true, triplet = true, circle = true, ctc = true }

local function joined(...)
  local out = {}
  for _, t in ipairs { ... } do
    for key, value in pairs(t) do out[key] = value end
  end
  return out
end

describe("loss", function()
  local alias_of, checked = {}, ""
  for _, file in ipairs { "losses", "losses_list", "losses_pairs" } do
    checked = checked .. assert(io.open(here .. file .. "_spec.lua")):read "a"
  end
  for _, name in ipairs(functions_of(nn.losses)) do
    if losses[name] then alias_of[nn.losses[name]] = name end
  end
  it("names are all known here, and their values are checked", function()
    for _, name in ipairs(functions_of(nn.losses)) do
      local own = assert(alias_of[nn.losses[name]], name .. " has no row")
      assert(checked:find(own, 1, true), own .. " has no values")
    end
    for name in pairs(losses) do assert(nn.losses[name]) end
  end)

  for name, case in pairs(losses) do
    local pred, target, given = table.unpack(case)
    local f = nn.losses[name]
    local function tensors(of)
      return nn.tensor(of or pred, { dtype = "f32" }), nn.tensor(target, { dtype = takes_ids[name] and "i64" or "f32" })
    end
    local has_logits = getmetatable(nn.losses).rules_of[f] and getmetatable(nn.losses).rules_of[f].from_logits and case.logits

    it(name .. " is averaged, summed, or left alone", function()
      local p, t = tensors()
      local each = flat(f(p, t, joined(given, { reduction = "none" })):totable())
      local sum = 0
      for _, v in ipairs(each) do sum = sum + v end
      assert.equal(case.whole and 1 or 3, #each)
      close({ sum }, { f(p, t, joined(given, { reduction = "sum" })):item() }, 2e-6, "sum")
      close({ sum / #each }, { f(p, t, joined(given, { reduction = "mean" })):item() }, 2e-6, "mean")
      close({ sum / #each }, { f(p, t, given):item() }, 2e-6, "default")
      if case.pairs or case.whole then return end
      for i = 1, 3 do -- a sample's loss is its own
        local alone = f(p:narrow(1, i, 1), t:narrow(1, i, 1), given)
        close({ each[i] }, { alone:item() }, 2e-6, "sample " .. i)
      end
    end)

    it(name .. " by name, with options and from logits, is the function", function()
      local p, t = tensors()
      assert.equal(f(p, t):item(), nn.losses.get(name)(p, t):item())
      local bound, kept = nn.losses.get(joined({ name }, given))
      assert.equal(f(p, t, given):item(), bound(p, t):item())
      assert.equal(f(p, t, given):item(), nn.losses.get(kept)(p, t):item())
      if has_logits then
        local z = tensors(case.logits)
        local probabilities = name:find "binary" and z:sigmoid() or z:softmax(-1)
        close({ f(probabilities, t):item() }, { f(z, t, { from_logits = true }):item() }, 1e-5)
        close({ f(z, t, { from_logits = true }):item() }, { (nn.losses.get(name, true)(z, t)):item() }, 1e-7)
      else
        assert(support.message(nn.losses.get, name, true):find("from_logits has no meaning for the loss " .. name, 1, true))
      end
    end)

    host(name .. " has its gradient", "f64", function()
      local _, t = tensors()
      assert(nn.gradcheck(function(x) return f(x, takes_ids[name] and t or t:double(), given) end, { nn.tensor(pred, { dtype = "f64" }) }))
      if has_logits then
        assert(nn.gradcheck(function(x) return f(x, takes_ids[name] and t or t:double(), { from_logits = true }) end,
          { nn.tensor(case.logits, { dtype = "f64" }) }))
      end
    end)

    it(name .. " leaves out what a mask does", function()
      if case.pairs or case.whole or name == "ctc" then return end
      local p, t = tensors()
      local each = flat(f(p, t, joined(given, { reduction = "none" })):totable())
      -- a sample of three steps, of which two count
      local masked = nn.with_mask(p:unsqueeze(1), nn.tensor { { true, false, true } })
      local row = t:unsqueeze(1)
      local ok, got = pcall(f, masked, row, given)
      if not ok then return assert(tostring(got):find("needs", 1, true), got) end -- takes no sequences
      close({ (each[1] + each[3]) / 2 }, { got:item() }, 2e-6)
    end)

    it(name .. " trains, and is in the file", function()
      local p, t = tensors()
      local sizes = p:shape()
      local model = nn.Sequential { nn.Input { table.unpack(sizes, 2) }, nn.Identity {} }
      model:compile { optimizer = "sgd", loss = joined({ name }, given) }
      local file = os.tmpname()
      assert(model:save(file))
      local again = assert(nn.load(file))
      os.remove(file)
      local want = f(p, t, given):item()
      close({ want }, { (model:evaluate(p, t)) }, 1e-6)
      close({ want }, { (again:evaluate(p, t)) }, 1e-6)
    end)
  end
end)

-- ---- the rest --------------------------------------------------------------------------------------------------------

describe("nothing is without a check:", function()
  local function text_of(spec) return assert(io.open(here .. spec .. "_spec.lua")):read "a" end
  for family, spec in pairs { schedules = "schedules", initializers = "initializers", regularizers = "regularizers", constraints = "regularizers" } do
    it(family, function()
      local text = text_of(spec) .. (family == "initializers" and text_of "regularizers" or "")
      for _, name in ipairs(functions_of(nn[family], "fans")) do
        assert(text:find("%f[%w_]" .. name .. "%f[^%w_]"), family .. "." .. name .. " is not in " .. spec .. "_spec")
      end
    end)
  end
  it("metrics", function()
    assert.equal(nn.metrics.RMSE, nn.metrics.RootMeanSquaredError)
    local text = text_of "metrics" .. text_of "losses" .. text_of "losses_pairs"
    for _, name in ipairs(functions_of(nn.metrics, "lower_is_better", "RootMeanSquaredError", "Sums")) do
      assert(text:find("%f[%w_]" .. name .. "%f[^%w_]"), name .. " is not in metrics_spec")
    end
  end)
end)

describe("a configuration makes the same", function()
  for _, family in ipairs { "initializers", "regularizers", "constraints" } do
    for _, name in ipairs(functions_of(nn[family], "fans")) do
      it(name .. ", of " .. family, function()
        local given = { identity = { 2 }, constant = { 3 }, max_norm = { 1.5 }, l1 = { 0.3 }, l2 = { 0.4 }, l1l2 = { 0.2, 0.1 } }
        local one = nn[family][name](given[name] or {})
        local copy = nn[family].get(one:config())
        assert.equal(tostring(one), tostring(copy))
        assert.same(one:config(), copy:config())
        local argument = family == "initializers" and { 4, 3 } or nn.tensor({ { 3, -1 }, { -4, 0.5 }, { 0.3, 2 } }, { dtype = "f32" })
        nn.seed(5)
        local want = one(argument)
        nn.seed(5)
        close(want, copy(argument), 0)
        if family == "initializers" then assert.same({ 4, 3 }, want:shape()) end
      end)
    end
  end
  for _, name in ipairs(functions_of(nn.regularizers)) do
    host(name .. " has its gradient", "f64", function()
      local one = nn.regularizers[name] { 0.3 }
      assert(nn.gradcheck(function(w) return one(w) end, { nn.tensor({ { 3, -1 }, { -4, 0.5 }, { 0.3, 2 } }, { dtype = "f64" }) }))
    end)
  end
end)

describe("a file holds the metric", function()
  local options = { ConfusionMatrix = {}, FBeta = { beta = 2 }, TopK = { k = 2 }, Precision = { average = "micro" }, IoU = { { 1, 2 } } }
  for _, name in ipairs(functions_of(nn.metrics, "lower_is_better", "accuracy", "RootMeanSquaredError", "Sums", "Mean")) do
    it(name, function()
      local metric = nn.metrics[name](options[name] or {})
      local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 3, activation = "softmax" } }
      model:compile { optimizer = "sgd", loss = "sparse_categorical_crossentropy", metrics = { metric } }
      local file = os.tmpname()
      assert(model:save(file))
      local again = assert(nn.load(file))
      os.remove(file)
      local found
      for i, meter in ipairs(model.compiled.meters) do
        local other = again.compiled.meters[i]
        assert.equal(meter.name, other.name)
        assert.equal(getmetatable(meter), getmetatable(other))
        if meter.config and meter.label then
          assert.same(meter:config(), other:config())
        end
        found = found or getmetatable(meter) == nn.metrics[name]
      end
      assert(found, name .. " is not among the meters")
    end)
  end
end)
