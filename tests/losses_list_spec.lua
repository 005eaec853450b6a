-- lua/nnlua/losses.lua: the whole list against the formulas in doubles, gradients against central differences, options by table and in files.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

local L = nn.losses
local exp, log, abs, max = math.exp, math.log, math.abs, math.max

-- Numbers, probabilities, and targets of each kind; 3 samples of 2.
local numbers = { { 0.3, -1.2 }, { 2.5, 0.1 }, { -0.4, 1.7 } }
local chances = { { 0.2, 0.7 }, { 0.9, 0.6 }, { 0.35, 0.05 } }
local yes = { { 0, 1 }, { 1, 1 }, { 1, 0 } }
local one_hot = { { 0, 1 }, { 1, 0 }, { 0, 1 } }
local rows = { { 0.3, 0.7 }, { 0.8, 0.2 }, { 0.45, 0.55 } }
local values = { { 1, -1 }, { 0.5, 3 }, { 0.2, -0.3 } }
local positive = { { 1, 0.5 }, { 0.5, 3 }, { 0.2, 2 } }

local function sigmoid(x) return 1 / (1 + exp(-x)) end
local function bce(p, t) return -t * log(p) - (1 - t) * log(1 - p) end
local function softplus_error(e) return log((exp(e) + exp(-e)) / 2) end
local function huber(d) return function(p, t) local e = abs(p - t) return e <= d and e * e / 2 or d * e - d * d / 2 end end
local function norm(row) return math.sqrt(row[1] ^ 2 + row[2] ^ 2) end

local function mean_of(f) -- per element, then over the last dim
  return function(p, t) return (f(p[1], t[1]) + f(p[2], t[2])) / 2 end
end
local function sum_of(f) return function(p, t) return f(p[1], t[1]) + f(p[2], t[2]) end end
local function soft(row) return support.softmax(row) end
local function focal(p, t) local r = t * p + (1 - t) * (1 - p) return (1 - r) ^ 2 * bce(p, t) end

-- name, options, predictions, targets, value of a sample
local cases = {
  { "mean_squared_error", {}, numbers, values, mean_of(function(p, t) return (p - t) ^ 2 end) },
  { "mean_absolute_error", {}, numbers, values, mean_of(function(p, t) return abs(p - t) end) },
  { "mean_absolute_percentage_error", {}, numbers, values, mean_of(function(p, t) return 100 * abs((p - t) / t) end) },
  { "mean_squared_logarithmic_error", {}, chances, positive, mean_of(function(p, t) return (log(1 + p) - log(1 + t)) ^ 2 end) },
  { "huber", {}, numbers, values, mean_of(huber(1)) },
  { "huber", { delta = 0.5 }, numbers, values, mean_of(huber(0.5)) },
  { "smooth_l1", { beta = 2 }, numbers, values, mean_of(function(p, t) return huber(2)(p, t) / 2 end) },
  { "log_cosh", {}, numbers, values, mean_of(function(p, t) return softplus_error(p - t) end) },
  { "poisson", {}, chances, positive, mean_of(function(p, t) return p - t * log(p) end) },
  { "hinge", {}, numbers, yes, mean_of(function(p, t) return max(0, 1 - (2 * t - 1) * p) end) },
  { "hinge", {}, numbers, values, mean_of(function(p, t) return max(0, 1 - t * p) end) },
  { "squared_hinge", {}, numbers, yes, mean_of(function(p, t) return max(0, 1 - (2 * t - 1) * p) ^ 2 end) },
  { "categorical_hinge", {}, numbers, one_hot, function(p, t)
    return max(0, max((1 - t[1]) * p[1], (1 - t[2]) * p[2]) - t[1] * p[1] - t[2] * p[2] + 1)
  end },
  { "binary_crossentropy", {}, chances, yes, mean_of(bce) },
  { "binary_crossentropy", { from_logits = true }, numbers, yes, mean_of(function(p, t) return bce(sigmoid(p), t) end) },
  { "binary_crossentropy", { label_smoothing = 0.2 }, chances, yes, mean_of(function(p, t) return bce(p, t * 0.8 + 0.1) end) },
  { "binary_focal_crossentropy", {}, chances, yes, mean_of(focal) },
  { "binary_focal_crossentropy", { from_logits = true, apply_class_balancing = true, alpha = 0.3 }, numbers, yes,
    mean_of(function(p, t) return (t == 1 and 0.3 or 0.7) * focal(sigmoid(p), t) end) },
  { "categorical_crossentropy", { label_smoothing = 0.1 }, rows, one_hot, sum_of(function(p, t) return -(t * 0.9 + 0.05) * log(p) end) },
  { "categorical_crossentropy", { from_logits = true }, numbers, one_hot, function(p, t)
    local q = soft(p)
    return -t[1] * log(q[1]) - t[2] * log(q[2])
  end },
  { "categorical_focal_crossentropy", {}, rows, one_hot, function(p, t) -- predictions are made to sum to 1
    local all = p[1] + p[2]
    return sum_of(function(a, b) return -0.25 * b * (1 - a / all) ^ 2 * log(a / all) end)(p, t)
  end },
  { "categorical_focal_crossentropy", { from_logits = true, gamma = 3 }, numbers, one_hot, function(p, t)
    local q = soft(p)
    return sum_of(function(a, b) return -0.25 * b * (1 - a) ^ 3 * log(a) end)(q, t)
  end },
  { "kl_divergence", {}, rows, chances, sum_of(function(p, t) return t * log(t / p) end) },
  { "cosine_similarity", {}, numbers, values, function(p, t) return -(p[1] * t[1] + p[2] * t[2]) / norm(p) / norm(t) end },
  { "contrastive", { margin = 0.5 }, chances, yes, mean_of(function(p, t) return t == 1 and p * p or max(0, 0.5 - p) ^ 2 end) },
}

local function described(o)
  local words = {}
  for key, value in pairs(o) do words[#words + 1] = ("%s = %s"):format(key, value) end
  table.sort(words)
  return #words > 0 and " with " .. table.concat(words, ", ") or ""
end

local function with(o, reduction)
  local all = { reduction = reduction }
  for key, value in pairs(o) do all[key] = value end
  return all
end

describe("loss", function()
  for _, case in ipairs(cases) do
    local name, o, pred, target, reference = table.unpack(case)
    it(name .. described(o), function()
      local want, total = {}, 0
      for i = 1, 3 do
        want[i] = reference(pred[i], target[i])
        total = total + want[i]
      end
      local p, t = nn.tensor(pred, { dtype = "f32" }), nn.tensor(target, { dtype = "f32" })
      close(want, L[name](p, t, with(o, "none")), 3e-6)
      close({ total }, { L[name](p, t, with(o, "sum")):item() }, 3e-6)
      close({ total / 3 }, { L[name](p, t, next(o) and o or nil):item() }, 3e-6)

      -- The gradient of the sum, against central differences of the formula.
      p = nn.parameter(pred)
      L[name](p, t, with(o, "sum")):backward()
      local got, h = p:grad():totable(), 1e-5
      for i = 1, 3 do
        for j = 1, 2 do
          local up, down = { table.unpack(pred[i]) }, { table.unpack(pred[i]) }
          up[j], down[j] = up[j] + h, down[j] - h
          close({ (reference(up, target[i]) - reference(down, target[i])) / (2 * h) }, { got[i][j] }, 2e-4, ("d%d%d"):format(i, j))
        end
      end
    end)
  end

  it("dice and tversky, of the whole batch", function()
    local p, t = nn.tensor(chances), nn.tensor(yes)
    local both, found, missed = 0, 0, 0
    for i = 1, 3 do
      for j = 1, 2 do
        local a, b = chances[i][j], yes[i][j]
        both, found, missed = both + a * b, found + a * (1 - b), missed + (1 - a) * b
      end
    end
    close({ 1 - 2 * both / (2 * both + found + missed) }, { L.dice(p, t):item() }, 1e-6)
    close({ 1 - both / (both + 0.3 * found + 0.7 * missed) }, { L.tversky(p, t, { alpha = 0.3, beta = 0.7 }):item() }, 1e-6)
  end)

  it("binary cross-entropy of extreme scores is finite", function()
    local v = L.bce(nn.tensor { { 100, -100 } }, nn.tensor { { 0, 1 } }, { from_logits = true }):item()
    close({ 100 }, { v }, 1e-6)
  end)

  it("sparse cross-entropy leaves out a class", function()
    local scores, ids = nn.tensor(rows), nn.tensor({ 1, 2, 1 }, { dtype = "i64" })
    local want = -log(0.2)
    close({ want }, { L.sparse_categorical_crossentropy(scores, ids, { ignore_class = 1 }):item() }, 1e-6)
    close({ 0, want, 0 }, L.sparse_categorical_crossentropy(scores, ids, { ignore_class = 1, reduction = "none" }), 1e-6)
    local z = scores:log()
    close({ want }, { L.cross_entropy(z, ids, { ignore_class = 1 }):item() }, 1e-6)
    -- of steps, together with a mask: the second of three steps is the only one of class 2, the third is padding
    local masked = nn.with_mask(z:unsqueeze(1), nn.tensor { { true, true, false } })
    local steps = ids:unsqueeze(1)
    close({ 0, want, 0 }, L.cross_entropy(masked, steps, { ignore_class = 1, reduction = "none" }), 1e-6)
    close({ want }, { L.cross_entropy(masked, steps, { ignore_class = 1 }):item() }, 1e-6)
    close({ -log(0.3) }, { L.cross_entropy(masked, steps, { ignore_class = 2 }):item() }, 1e-6)
  end)
end)

describe("a loss with options", function()
  it("comes as a table, and stays in a file", function()
    local x, y = nn.ones(2, 1), nn.full({ 2, 1 }, 9)
    local model = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, init = "zeros" } }
    model:compile { optimizer = "sgd", loss = { "huber", delta = 2 } }
    close({ 2 * 9 - 2 }, { (model:evaluate(x, y)) }, 1e-6)
    local file = os.tmpname()
    assert(model:save(file))
    local copy = assert(nn.load(file))
    os.remove(file)
    close({ 16 }, { (copy:evaluate(x, y)) }, 1e-6)
  end)
  it("is checked", function()
    assert.truthy(message(L.get, { "huber", detla = 2 }):find('did you mean "delta"?', 1, true))
    assert.truthy(message(L.get, { "hubber" }):find('did you mean "huber"?', 1, true))
    assert.truthy(message(L.get, { 3 }):find("begins with its name", 1, true))
    assert.truthy(message(L.get, { "cross_entropy", ignore_clas = 2 }):find('did you mean "ignore_class"?', 1, true))
    assert.truthy(message(L.get, function() end, true):find("takes no options", 1, true))
    assert.truthy(message(L.hinge, nn.ones(2, 1), nn.ones(2)):find("the same shape", 1, true))
  end)
end)

describe("losses as Keras's classes", function()
  it("are the functions with options", function()
    local pred, target = nn.tensor { { 0.2, 5.0 } }, nn.tensor { { 0.0, 1.0 } }
    local loss = nn.losses.Huber { delta = 2 }
    -- 0.2^2 / 2, and 2 * (4 - 2 / 2)
    assert.is_true(math.abs(loss(pred, target):item() - (0.02 + 6) / 2) < 1e-6)
    assert.is_true(math.abs(nn.losses.MeanSquaredError()(pred, target):item() - (0.04 + 16) / 2) < 1e-6)
    for name, of in pairs { KLDivergence = "kl_divergence",
      CTC = "ctc", LogCosh = "log_cosh", BinaryFocalCrossentropy = "binary_focal_crossentropy" } do
      assert.equal("loss " .. of, tostring(nn.losses[name] {}))
    end
  end)

  it("train a model, whose file names them", function()
    local function model(loss)
      nn.seed(3)
      local net = nn.Sequential { nn.Input { 2 }, nn.Dense { 1 } }
      net:compile { optimizer = "sgd", loss = loss }
      return net, (net:train_on_batch(nn.ones(4, 2), nn.full({ 4, 1 }, 9)))
    end
    local net, loss = model(nn.losses.Huber { delta = 2 })
    local _, other = model { "huber", delta = 2 }
    assert.equal(other, loss)
    local file = os.tmpname()
    assert(net:save(file))
    local again = assert(nn.load(file))
    os.remove(file)
    assert.equal(net:evaluate(nn.ones(4, 2), nn.full({ 4, 1 }, 9)), again:evaluate(nn.ones(4, 2), nn.full({ 4, 1 }, 9)))
  end)

  it("tell of wrong use", function()
    for text, f in pairs {
      ['unknown option "detla"; did you mean "delta"?'] = function() nn.losses.Huber { detla = 2 } end,
      ['did you mean "huber"?'] = function() nn.losses.Hubert {} end,
      ["it takes named options only"] = function() nn.losses.Huber { 2 } end,
      ["the function is nn.losses.huber"] = function() nn.losses.Huber(nn.ones(2), nn.ones(2)) end,
    } do
      local ok, told = pcall(f)
      assert(not ok and told:find(text, 1, true), told)
    end
  end)
end)
