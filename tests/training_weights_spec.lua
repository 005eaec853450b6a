-- lua/nnlua/weighting.lua, and what losses, metrics, compile and fit do with weights of samples, steps and classes: against doubles and PyTorch.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it, pending)
local close, message = support.close, support.message

local scores = { { 2, 1, 0 }, { 0, 3, 1 }, { 1, 1, -2 }, { 0.5, -1, 2 } }
local ids = { 1, 2, 3, 2 }
local by_class = { 1, 0.5, 4 }
local function ids_tensor(list) return nn.tensor(list or ids, { dtype = "i64" }) end

-- Cross-entropy of each row, in doubles.
local function entropies()
  local list = {}
  for i, row in ipairs(scores) do list[i] = -math.log(support.softmax(row)[ids[i]]) end
  return list
end

local function weighted(values, weights, count)
  local sum = 0
  for i, v in ipairs(values) do sum = sum + v * weights[i] end
  return sum / (count or #values)
end

-- A model that gives its input back.
local function same(width, compile)
  local model = nn.Sequential { nn.Input { width }, nn.Dense { width, use_bias = false, init = "identity" } }
  return model:compile(compile)
end
local function classifier(more)
  local o = { optimizer = nn.optim.SGD { lr = 0 }, loss = "sparse_categorical_crossentropy", from_logits = true }
  for key, value in pairs(more or {}) do o[key] = value end
  return same(3, o)
end

describe("a loss with sample_weight", function()
  it("multiplies values; the mean is over their number", function()
    local w = { 2, 0, 1, 0.5 }
    local given = { from_logits = true, sample_weight = nn.tensor(w) }
    close(weighted(entropies(), w), nn.losses.sparse_categorical_crossentropy(nn.tensor(scores), ids_tensor(), given), 1e-6)
    close(weighted(entropies(), w), nn.losses.cross_entropy(nn.tensor(scores), ids_tensor(), { sample_weight = nn.tensor(w) }), 1e-6)
    given.reduction = "sum"
    close(weighted(entropies(), w, 1), nn.losses.sparse_categorical_crossentropy(nn.tensor(scores), ids_tensor(), given), 1e-6)
    local p, t = nn.tensor { { 1, 2 }, { 3, 5 } }, nn.zeros(2, 2)
    close((2.5 * 3 + 17 * 1) / 2, nn.losses.mse(p, t, { sample_weight = nn.tensor { 3, 1 } }), 1e-6)
    close((2.5 * 3 + 17 * 1) / 2, nn.losses.mse(p, t, { sample_weight = nn.tensor { { 3 }, { 1 } } }), 1e-6)
  end)

  -- torch 1.13: F.cross_entropy(scores, ids, weight=(1, .5, 4), reduction="sum") / 4 and its gradient;
  -- F.binary_cross_entropy_with_logits((.3, -1.2, 2), (1, 0, 1), weight=(2, 1, .5))
  it("has the value and the gradient of PyTorch's weighted cross-entropy", function()
    local p = nn.parameter(scores)
    local w = {}
    for i, id in ipairs(ids) do w[i] = by_class[id] end
    local loss = nn.losses.cross_entropy(p, ids_tensor(), { sample_weight = nn.tensor(w) })
    loss:backward()
    close(4.246032074304478, loss, 1e-6)
    close({ { -0.083689761, 0.061182118, 0.022507643 }, { 0.005251258, -0.019525658, 0.014274400 }, { 0.487855551, 0.487855551, -0.975711102 },
      { 0.021911299, -0.120110928, 0.098199629 } }, p:grad(), 1e-6)
    close(4.246032074304478, (classifier():train_on_batch(nn.tensor(scores), ids_tensor(), { class_weight = by_class })), 1e-6)
    local b = same(1, { optimizer = "sgd", loss = "binary_crossentropy", from_logits = true })
    local x, y = nn.tensor { { 0.3 }, { -1.2 }, { 2 } }, nn.tensor { { 1 }, { 0 }, { 1 } }
    close(0.4784856539321906, (b:test_on_batch(x, y, nn.tensor { 2, 1, 0.5 })), 1e-6)
  end)

  it("takes weights of steps, and multiplies masks into them", function()
    local x = nn.tensor { { { 1 }, { 2 }, { 3 } }, { { 4 }, { 5 }, { 6 } } } -- (2, 3, 1)
    local zero, steps = nn.zeros(2, 3, 1), { { 1, 2, 0 }, { 0.5, 1, 3 } }
    local squares = { 1, 4, 9, 16, 25, 36 }
    close(weighted(squares, support.flat(steps)), nn.losses.mse(x, zero, { sample_weight = nn.tensor(steps) }), 1e-6)
    close(weighted(squares, { 1, 1, 1, 2, 2, 2 }), nn.losses.mse(x, zero, { sample_weight = nn.tensor { 1, 2 } }), 1e-6)
    local masked = nn.with_mask(x, nn.tensor { { true, true, true }, { true, false, false } })
    close(weighted(squares, { 1, 2, 0, 0.5, 0, 0 }, 4), nn.losses.mse(masked, zero, { sample_weight = nn.tensor(steps) }), 1e-6)
    local rows, row_ids = nn.tensor { { scores[1], scores[2] }, { scores[3], scores[4] } }, ids_tensor { { 1, 2 }, { 3, 2 } }
    close(weighted(entropies(), { 1, 3, 0, 2 }), nn.losses.cross_entropy(rows, row_ids, { sample_weight = nn.tensor { { 1, 3 }, { 0, 2 } } }), 1e-6)
    close(weighted(entropies(), { 1, 0, 2, 0 }, 2), nn.losses.sparse_categorical_crossentropy(rows, row_ids,
      { from_logits = true, ignore_class = 2, sample_weight = nn.tensor { 1, 2 } }), 1e-6)
  end)

  it("says when weights do not fit", function()
    local m = message(nn.losses.mse, nn.ones(4, 2), nn.ones(4, 2), { sample_weight = nn.ones(3) })
    assert.equal("sample_weight: weights (3) do not fit values of shape (4); give one for each sample, or for each step", m)
    m = message(nn.losses.dice, nn.ones(4, 2), nn.ones(4, 2), { sample_weight = nn.ones(4) })
    assert.truthy(m:find("one value for the whole batch", 1, true))
  end)
end)

describe("metrics with weights:", function()
  local w = { 2, 0, 1, 0.5 }
  local function of(spec, pred, target, weight)
    local meter = nn.metrics.get(spec)
    -- in two batches
    for _, part in ipairs { { 1, 3 }, { 4, 1 } } do
      local function cut(t) return t:narrow(1, part[1], part[2]) end
      meter:update(cut(pred), cut(target), weight and cut(weight))
    end
    return meter:result()
  end
  local p, t = nn.tensor(scores), ids_tensor()

  it("means are of values times weights over weights", function()
    local hit = { 1, 1, 0, 0 } -- argmax: 1 2 1 3
    close(weighted(hit, w, 3.5), of("accuracy", p, t, nn.tensor(w)), 1e-6)
    close(weighted(entropies(), w, 3.5), of({ "sparse_categorical_crossentropy", from_logits = true }, p, t, nn.tensor(w)), 1e-6)
    close(math.exp(weighted(entropies(), w, 3.5)), of({ "perplexity", from_logits = true }, p, t, nn.tensor(w)), 1e-5)
    close(weighted({ 1, 1, 0, 0 }, w, 3.5), of({ "top_k", k = 1 }, p, t, nn.tensor(w)), 1e-6)
    local x, y = nn.tensor { { 1 }, { 2 }, { 3 }, { 5 } }, nn.zeros(4, 1)
    close(weighted({ 1, 4, 9, 25 }, w, 3.5), of("mse", x, y, nn.tensor(w)), 1e-6)
    close(math.sqrt(weighted({ 1, 4, 9, 25 }, w, 3.5)), of("rmse", x, y, nn.tensor(w)), 1e-6)
  end)

  it("counts are sums of weights", function()
    assert.same({ { 2, 0, 0 }, { 0, 0, 0.5 }, { 1, 0, 0 } }, of("confusion_matrix", p, t, nn.tensor(w)))
    assert.same({ { 1, 0, 0 }, { 0, 1, 1 }, { 1, 0, 0 } }, of("confusion_matrix", p, t))
    close(2 / 3, of({ "precision", class_id = 1 }, p, t, nn.tensor(w)), 1e-6)
    close(0, of({ "recall", class_id = 2 }, p, t, nn.tensor(w)), 1e-6)
    close(2 / 3.5, of({ "f1", average = "micro" }, p, t, nn.tensor(w)), 1e-6)
    local yes, truth = nn.tensor { 0.9, 0.2, 0.6, 0.4 }, nn.tensor { 1, 1, 0, 0 }
    close(2 / 3.5 + 0.5 / 3.5, of("binary_accuracy", yes, truth, nn.tensor(w)), 1e-6)
    -- of pairs (yes, no), weighted: both with the first are right; the second has no weight
    close(1, of("auc", yes, truth, nn.tensor(w)), 1e-6)
    close(0.5 * 1 + 0.5 * 0, of("auc", yes, truth, nn.tensor { 1, 1, 1, 1 }), 1e-6)
  end)

  it("whole weights are samples that come more than once", function()
    local x, y = { { 1, 0.5 }, { 2, 3 }, { 0.5, -1 }, { 4, 2 } }, { { 1.5, 0 }, { 1, 2 }, { 0, -2 }, { 5, 3 } }
    local times, more_x, more_y = { 2, 1, 3, 1 }, {}, {}
    for i, n in ipairs(times) do
      for _ = 1, n do more_x[#more_x + 1], more_y[#more_y + 1] = x[i], y[i] end
    end
    for _, name in ipairs { "r2", "mae", "rmse", "cosine" } do
      local meter = nn.metrics.get(name)
      meter:update(nn.tensor(more_x), nn.tensor(more_y))
      close(meter:result(), of(name, nn.tensor(x), nn.tensor(y), nn.tensor(times)), 1e-5, name)
    end
    local more_p, more_t = {}, {}
    for i, n in ipairs(times) do
      for _ = 1, n do more_p[#more_p + 1], more_t[#more_t + 1] = scores[i], ids[i] end
    end
    for _, name in ipairs { "precision", "recall", "f1", "fbeta", "mean_iou", "iou" } do
      local meter = nn.metrics.get(name)
      meter:update(nn.tensor(more_p), ids_tensor(more_t))
      close(meter:result(), of(name, p, t, nn.tensor(times)), 1e-6, name)
    end
  end)

  it("keep their sums in files, and start again", function()
    for _, name in ipairs { "accuracy", "f1", "top_k" } do
      local a, b = nn.metrics.get(name), nn.metrics.get(name)
      a:update(p, t, nn.tensor(w))
      b:set_state(a:state())
      a:update(p, t, nn.tensor { 1, 1, 5, 1 })
      b:update(p, t, nn.tensor { 1, 1, 5, 1 })
      close(a:result(), b:result(), 1e-6)
      a:reset()
      a:update(p, t)
      local fresh = nn.metrics.get(name)
      fresh:update(p, t)
      close(fresh:result(), a:result(), 1e-6)
    end
  end)
end)

describe("compile and fit with weights", function()
  local x, y, w = nn.tensor(scores), ids_tensor(), { 2, 0, 1, 0.5 }
  local want = weighted(entropies(), w)

  it("take them with tensors, with data sets, and in validation", function()
    local weights = nn.tensor(w)
    local ways = {
      { x, y, weights, shuffle = false }, { x = x, y = y, sample_weight = weights }, { { x, y, weights } },
      { nn.data.from_tensors(x, y, weights):batch(2) },
    }
    for _, o in ipairs(ways) do
      o.verbose, o.batch_size, o.validation_data = 0, 4, { x, y, weights }
      local history = classifier():fit(o)
      close({ want, want }, { history.loss[1], history.val_loss[1] }, 1e-6)
    end
    local model = classifier()
    close(want, (model:evaluate(x, y, weights)), 1e-6)
    close(want, (model:evaluate { x, y, sample_weight = weights, batch_size = 2 }), 1e-6)
    close(want, (model:test_on_batch(x, y, weights)), 1e-6)
  end)

  it("weighted_metrics heed them, metrics do not", function()
    local model = classifier { metrics = { "accuracy" }, weighted_metrics = { "accuracy", "perplexity" } }
    local _, m = model:evaluate(x, y, nn.tensor(w))
    close({ 0.5, 2 / 3.5 }, { m.accuracy, m.weighted_accuracy }, 1e-6)
    _, m = model:evaluate(x, y)
    close({ 0.5, 0.5 }, { m.accuracy, m.weighted_accuracy }, 1e-6)
    local only = classifier { weighted_metrics = "accuracy" }
    close(2 / 3.5, select(2, only:evaluate(x, y, nn.tensor(w))).accuracy, 1e-6)
  end)

  it("masks reach the loss and the weighted metrics", function()
    local model = nn.Sequential { nn.Input { 3, 1 }, nn.Masking {}, nn.Dense { 1, use_bias = false, init = "ones" } }
    model:compile { optimizer = "sgd", loss = "mse", metrics = "mae", weighted_metrics = "mae" }
    local loss, m = model:evaluate(nn.tensor { { { 1 }, { 2 }, { 0 } }, { { 4 }, { 0 }, { 0 } } }, nn.ones(2, 3, 1))
    close({ (0 + 1 + 9) / 3, (0 + 1 + 1 + 3 + 1 + 1) / 6, 4 / 3 }, { loss, m.mae, m.weighted_mae }, 1e-6)
  end)

  it("class_weight is by class id or label, multiplies sample weights, and is for training", function()
    local each = {}
    for i, id in ipairs(ids) do each[i] = by_class[id] end
    local loss = weighted(entropies(), each)
    local function history(o)
      o[1], o[2], o.verbose, o.batch_size, o.validation = x, y, 0, 4, { x, y }
      return classifier():fit(o)
    end
    close(loss, history { class_weight = by_class }.loss[1], 1e-6)
    close(weighted(entropies(), { 1, 1, 1, 1 }), history { class_weight = by_class }.val_loss[1], 1e-6)
    close(weighted(entropies(), { 1, 1, 4, 1 }), history { class_weight = { [3] = 4 } }.loss[1], 1e-6)
    for i in ipairs(each) do each[i] = each[i] * w[i] end
    close(weighted(entropies(), each), history { class_weight = by_class, sample_weight = nn.tensor(w) }.loss[1], 1e-6)
    local ds = nn.data.from_tensors(x, y):batch(4)
    ds.labels = nn.data.LabelEncoder { values = { "ant", "bee", "cat" } }
    close(loss, classifier():fit({ ds, verbose = 0, class_weight = { cat = 4, bee = 0.5 } }).loss[1], 1e-6)
    local hot = same(3, { optimizer = "sgd", loss = "categorical_crossentropy", from_logits = true })
    close(loss, (hot:train_on_batch(x, y:one_hot(3), { class_weight = by_class })), 1e-6)
    local b = same(1, { optimizer = "sgd", loss = "mse" })
    close((4 * 1 + 9 * 5) / 2, (b:train_on_batch(nn.tensor { { 2 }, { 4 } }, nn.tensor { { 0 }, { 1 } }, { class_weight = { 1, 5 } })), 1e-6)
  end)

  it("several outputs have weights of their own", function()
    local a = nn.Input { 3 }
    local function eye(name) return nn.Dense { 3, use_bias = false, init = "identity", name = name } end
    local model = nn.Model { inputs = a, outputs = { eye "kind" (a), eye "price" (a) } }
    model:compile { optimizer = nn.optim.SGD { lr = 0 }, loss_weights = { price = 0.5 },
      loss = { kind = { "sparse_categorical_crossentropy", from_logits = true }, price = "mse" }, weighted_metrics = { kind = "accuracy" } }
    local squares = {}
    for i, row in ipairs(scores) do squares[i] = (row[1] ^ 2 + row[2] ^ 2 + row[3] ^ 2) / 3 end
    local one, w2 = { 1, 1, 1, 1 }, { 0, 1, 0, 3 }
    local targets = { kind = y, price = nn.zeros(4, 3) }
    local function check(kind, price, o)
      o[1], o[2], o.verbose, o.batch_size, o.shuffle = x, targets, 0, 4, false
      local h = model:fit(o)
      kind, price = weighted(entropies(), kind), weighted(squares, price)
      close({ kind, price, kind + price / 2 }, { h.kind_loss[1], h.price_loss[1], h.loss[1] }, 1e-6)
    end
    check(w, w, { sample_weight = nn.tensor(w) })
    check(w, w2, { sample_weight = { kind = nn.tensor(w), price = nn.tensor(w2) } })
    check({ 1, 0.5, 4, 0.5 }, one, { class_weight = { kind = by_class } })
    close(2 / 3.5, select(2, model:evaluate { x, targets, sample_weight = nn.tensor(w) }).kind_accuracy, 1e-6)
    local ds = nn.data.from_tensors(x, y, nn.zeros(4, 3), nn.tensor(w), nn.tensor(w2)):batch(4)
    close(weighted(squares, w2), model:fit({ ds, verbose = 0 }).price_loss[1], 1e-6)
    local both = nn.data.from_tensors(x, y, nn.zeros(4, 3), nn.tensor(w)):batch(4)
    close(weighted(squares, w), model:fit({ both, verbose = 0 }).price_loss[1], 1e-6)
    assert.truthy(message(model.fit, model, { x, targets, class_weight = { kin = {} } }):find("there is no output", 1, true))
  end)

  it("a loss function gives values per sample to be weighted", function()
    local model = same(1, { optimizer = "sgd", loss = function(p, t) return (p - t):square():mean(-1) end })
    local a, b = nn.tensor { { 1 }, { 3 } }, nn.zeros(2, 1)
    close(5, (model:evaluate(a, b)), 1e-6)
    close((1 * 2 + 9) / 2, (model:evaluate(a, b, nn.tensor { 2, 1 })), 1e-6)
    local all = same(1, { optimizer = "sgd", loss = function(p, t) return (p - t):square():mean() end })
    assert.truthy(message(all.evaluate, all, a, b, nn.ones(2)):find("must give one value for each sample", 1, true))
  end)

  it("say what is wrong", function()
    local model = classifier()
    assert.truthy(message(model.fit, model, { x, y, class_weight = { [9] = 1 }, verbose = 0 }):find("there is no class 9, the model has 3", 1, true))
    assert.truthy(message(model.fit, model, { x, y, class_weight = { dog = 1 } }):find('there is no class "dog"; keys are class ids', 1, true))
    assert.truthy(message(model.fit, model, { x, y, class_weight = { -1 } }):find("must be a number of at least 0", 1, true))
    assert.truthy(message(model.fit, model, { x, y, nn.ones(3) }):find("x has 4 samples but sample_weight has 3", 1, true))
    local ds = nn.data.from_tensors(x, y):batch(2)
    assert.truthy(message(model.fit, model, { ds, sample_weight = nn.ones(4) }):find("leave out sample_weight", 1, true))
    assert.truthy(message(model.compile, model, { loss = "mse", metrics = { "mae", "mae" } }):find('two metrics are called "mae"', 1, true))
  end)
end)
