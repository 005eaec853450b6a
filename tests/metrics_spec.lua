-- lua/nnlua/metrics/: counts and areas against plain loops over the samples, in batches; names, options, state, files.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message
local M = nn.metrics

local N, C = 60, 4
local random = support.random(11)
local scores, ids, chance, truth, numbers, wanted = {}, {}, {}, {}, {}, {}
for i = 1, N do
  scores[i] = {}
  for j = 1, C do scores[i][j] = random.real(0, 1) end
  ids[i] = random.int(1, C - 1) -- class 4 is only predicted
  truth[i] = random.chance(0.4) and 1 or 0
  chance[i] = math.min(0.999, math.max(0.001, 0.5 * random.real(0, 1) + 0.4 * truth[i]))
  numbers[i], wanted[i] = { random.real(100, 103), random.real(-1, 1) }, { random.real(100, 104), random.real(-1, 1) }
end

local function best(row)
  local at = 1
  for j = 2, #row do if row[j] > row[at] then at = j end end
  return at
end

-- Feeds a metric in batches of 25, 25, 10.
local function measured(metric, pred, target, dtype)
  for from = 1, N, 25 do
    local to = math.min(N, from + 24)
    metric:update(nn.tensor(table.move(pred, from, to, 1, {}), { dtype = "f32" }),
      nn.tensor(table.move(target, from, to, 1, {}), { dtype = dtype or "f32" }))
  end
  return metric:result()
end
local function of_classes(metric) return measured(metric, scores, ids, "i64") end
local function of_chances(metric) return measured(metric, chance, truth) end

-- Plain counts: both, found, true per class.
local function counts()
  local both, found, real = {}, {}, {}
  for c = 1, C do both[c], found[c], real[c] = 0, 0, 0 end
  for i = 1, N do
    local p, t = best(scores[i]), ids[i]
    found[p], real[t] = found[p] + 1, real[t] + 1
    if p == t then both[p] = both[p] + 1 end
  end
  return both, found, real
end

local function yes_counts(threshold)
  local tp, fp, fn, tn = 0, 0, 0, 0
  for i = 1, N do
    local p = chance[i] > threshold
    if truth[i] == 1 then
      if p then tp = tp + 1 else fn = fn + 1 end
    elseif p then
      fp = fp + 1
    else
      tn = tn + 1
    end
  end
  return tp, fp, fn, tn
end

describe("precision, recall and F", function()
  it("of classes: macro, micro, by class", function()
    local both, found, real = counts()
    local p, r, f = {}, {}, {}
    local mean = { 0, 0, 0 }
    for c = 1, C do
      p[c] = found[c] > 0 and both[c] / found[c] or 0
      r[c] = real[c] > 0 and both[c] / real[c] or 0
      f[c] = 5 * both[c] / (4 * real[c] + found[c])
      mean[1], mean[2], mean[3] = mean[1] + p[c] / C, mean[2] + r[c] / C, mean[3] + f[c] / C
    end
    close(p, of_classes(M.Precision { average = "none" }), 1e-9)
    close({ mean[1], mean[2], mean[3] },
      { of_classes(M.Precision {}), of_classes(M.Recall {}), of_classes(M.FBeta { 2 }) }, 1e-9)
    close({ p[2], r[3] }, { of_classes(M.Precision { class_id = 2 }), of_classes(M.Recall { class_id = 3 }) }, 1e-9)
    local right = both[1] + both[2] + both[3] + both[4]
    close({ right / N, right / N }, { of_classes(M.F1 { average = "micro" }), of_classes(M.Precision { average = "micro" }) }, 1e-9)
  end)

  it("of yes and no, with thresholds and logits", function()
    for _, threshold in ipairs { 0.5, 0.3 } do
      local tp, fp, fn = yes_counts(threshold)
      close({ tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn) }, { of_chances(M.Precision { threshold = threshold }),
        of_chances(M.Recall { threshold = threshold }), of_chances(M.F1 { threshold = threshold }) }, 1e-9)
    end
    local m = M.Precision { from_logits = true }
    m:update(nn.tensor { { 1.5 }, { -0.5 }, { 0.25 } }, nn.tensor { { 1 }, { 1 }, { 0 } })
    assert.equal(0.5, m:result())
  end)

  it("of one-hot rows", function()
    local m = M.Recall {}
    m:update(nn.tensor { { 0.1, 0.9 }, { 0.2, 0.8 } }, nn.tensor { { 0, 1 }, { 1, 0 } })
    assert.equal(0.5, m:result())
    assert.truthy(message(m.update, m, nn.ones(2, 3), nn.ones(3)):find("need class ids or one-hot rows", 1, true))
  end)
end)

describe("tables", function()
  it("the confusion matrix has a row per true class", function()
    local want = {}
    for c = 1, C do want[c] = { 0, 0, 0, 0 } end
    for i = 1, N do
      local row = want[ids[i]]
      row[best(scores[i])] = row[best(scores[i])] + 1
    end
    assert.same(want, of_classes(M.ConfusionMatrix {}))
    local tp, fp, fn, tn = yes_counts(0.5)
    assert.same({ { tn, fp }, { fn, tp } }, of_chances(M.ConfusionMatrix {}))
  end)

  it("intersection over union", function()
    local both, found, real = counts()
    local each, mean = {}, 0
    for c = 1, C do
      each[c] = both[c] / (found[c] + real[c] - both[c])
      mean = mean + each[c] / C
    end
    close({ mean }, { of_classes(M.MeanIoU {}) }, 1e-9)
    close(each, of_classes(M.MeanIoU { average = "none" }), 1e-9)
  end)
end)

describe("shares", function()
  it("top k", function()
    for k = 1, 4 do
      local hits = 0
      for i = 1, N do
        local above = 0
        for j = 1, C do if scores[i][j] > scores[i][ids[i]] then above = above + 1 end end
        if above < k then hits = hits + 1 end
      end
      close({ hits / N }, { of_classes(M.TopK { k }) }, 1e-7)
    end
  end)
  it("of yes and no", function()
    local tp, _, _, tn = yes_counts(0.3)
    close({ (tp + tn) / N }, { of_chances(M.BinaryAccuracy { threshold = 0.3 }) }, 1e-7)
  end)
end)

describe("the area under the curve", function()
  it("of alarms is the share of pairs in the right order", function()
    local right, pairs_n = 0, 0
    for i = 1, N do
      for j = 1, N do
        if truth[i] == 1 and truth[j] == 0 then
          pairs_n = pairs_n + 1
          right = right + (chance[i] > chance[j] and 1 or 0)
        end
      end
    end
    close({ right / pairs_n }, { of_chances(M.AUC { num_thresholds = 5000 }) }, 2e-3)
    assert.is_true(math.abs(of_chances(M.AUC {}) - right / pairs_n) < 0.01)
  end)

  it("of precision and recall has Keras's values", function()
    -- keras.metrics.AUC(num_thresholds=3): its documented example, and the formula by hand for "pr"
    local m = M.AUC { num_thresholds = 3 }
    m:update(nn.tensor { 0, 0.5, 0.3, 0.9 }, nn.tensor { 0, 0, 1, 1 })
    close({ 0.75 }, { m:result() }, 1e-6)
    m = M.AUC { num_thresholds = 3, curve = "pr" }
    m:update(nn.tensor { 0, 0.5, 0.3, 0.9 }, nn.tensor { 0, 0, 1, 1 })
    -- (tp, fp) at -e, .5, 1 + e: (2, 2), (1, 0), (0, 0)
    local slope = 1 / 3
    local offset = 1 - slope
    close({ (slope * (1 + offset * math.log(4)) + 1) / 2 }, { m:result() }, 1e-6)
    assert.is_true(of_chances(M.AUC { curve = "pr" }) > 0.5)
    assert.truthy(message(m.update, m, nn.ones(3), nn.ones(2)):find("as many elements", 1, true))
  end)
end)

describe("metrics of numbers", function()
  it("root of squares, r2, cosine, perplexity", function()
    local squares, r2 = 0, 0
    for k = 1, 2 do
      local mean, total, errors = 0, 0, 0
      for i = 1, N do mean = mean + wanted[i][k] / N end
      for i = 1, N do
        total, errors = total + (wanted[i][k] - mean) ^ 2, errors + (wanted[i][k] - numbers[i][k]) ^ 2
      end
      squares, r2 = squares + errors, r2 + (1 - errors / total) / 2
    end
    close({ math.sqrt(squares / (2 * N)), r2 }, { measured(M.RMSE {}, numbers, wanted), measured(M.R2 {}, numbers, wanted) }, 1e-4)
    local m = M.CosineSimilarity {}
    m:update(nn.tensor { { 3, 4 }, { 1, 0 } }, nn.tensor { { 4, 3 }, { 0, 2 } })
    close({ 0.48 }, { m:result() }, 1e-6)
    m = M.Perplexity {}
    m:update(nn.tensor { { 0.5, 0.5 }, { 0.125, 0.875 } }, nn.tensor({ 1, 1 }, { dtype = "i64" }))
    close({ 4 }, { m:result() }, 1e-5)
  end)
end)

describe("every metric", function()
  local objects = {}
  for name, c in pairs(M) do
    if type(c) == "table" and c.label and name ~= "RMSE" then objects[#objects + 1] = c end
  end
  it("starts again, goes on from its state, comes back from its configuration", function()
    assert.equal(15, #objects)
    for _, c in ipairs(objects) do
      local regression = c.label == "rmse" or c.label == "r2" or c.label == "cosine"
      local function feed(m, from, to)
        local function part(t, dtype) return nn.tensor(table.move(t, from, to, 1, {}), { dtype = dtype or "f32" }) end
        if regression then
          m:update(part(numbers), part(wanted))
        elseif c.label == "auc" or c.label == "roc" or c.label == "binary_accuracy" then
          m:update(part(chance), part(truth))
        else
          m:update(part(scores), part(ids, "i64"))
        end
      end
      local m = M.get(c {}:config())
      assert.equal(c.label, m.name)
      feed(m, 31, 60)
      m:reset()
      feed(m, 1, 7) -- batches of other sizes count by their samples
      feed(m, 8, 30)
      local fresh = c {}
      fresh:set_state(m:state())
      feed(m, 31, 60)
      feed(fresh, 31, 60)
      local whole = c {}
      feed(whole, 1, 60)
      close({ whole:result() }, { m:result() }, 1e-5, c.label)
      close({ m:result() }, { fresh:result() }, 1e-5, c.label)
      assert.equal(60, m:state().count / (c.label == "rmse" and 2 or 1))
    end
  end)

  it("works in fit, by name or with options, and in files", function()
    nn.seed(2)
    local x, y = nn.tensor(scores), nn.tensor(ids, { dtype = "i64" })
    local model = nn.Sequential { nn.Input { C }, nn.Dense { C, activation = "softmax" } }
    model:compile { optimizer = nn.optim.Adam { lr = 0.1 }, loss = "sparse_categorical_crossentropy",
      metrics = { "accuracy", "f1", { "top_k", k = 2 }, "confusion_matrix", { "precision", average = "micro", name = "p" } } }
    local history = model:fit { x, y, epochs = 3, verbose = 0, validation = { x, y } }
    assert.is_true(history.val_top_k[3] >= history.val_accuracy[3])
    close(history.val_accuracy, history.val_p, 1e-6)
    local diagonal = 0
    for c = 1, C do diagonal = diagonal + history.val_confusion_matrix[3][c][c] end
    close({ history.val_accuracy[3] }, { diagonal / N }, 1e-6)
    assert.truthy(tostring(history):find "val_f1")
    local file = os.tmpname()
    assert(model:save(file))
    local copy = assert(nn.load(file))
    os.remove(file)
    local _, a = model:evaluate(x, y)
    local _, b = copy:evaluate(x, y)
    assert.same(a, b)
    assert.equal(2, copy.compiled.meters[4].k)
    assert.truthy(message(M.get, "precison"):find('did you mean "precision"?', 1, true))
    assert.truthy(message(M.get, { "top_k", n = 3 }):find('unknown option "n"', 1, true))
  end)
end)

describe("ROC", function()
  it("is the curve whose area AUC is", function()
    local roc, auc = nn.metrics.get { "roc", num_thresholds = 5 }, nn.metrics.get { "auc", num_thresholds = 5 }
    local p, t = nn.tensor { 0.9, 0.6, 0.4, 0.1 }, nn.tensor { 1, 0, 1, 0 }
    roc:update(p, t)
    auc:update(p, t)
    local curve = roc:result() -- thresholds just below 0, 1/4, 1/2, 3/4, just above 1
    assert.same({ 1, 1, 0.5, 0.5, 0 }, curve.true_rates)
    assert.same({ 1, 0.5, 0.5, 0, 0 }, curve.false_rates)
    local area = 0
    for i = 1, 4 do area = area + (curve.false_rates[i] - curve.false_rates[i + 1]) * (curve.true_rates[i] + curve.true_rates[i + 1]) / 2 end
    assert.equal(area, auc:result())
  end)
end)

-- Precision and recall of elements that are above `limit` and among the k largest of their row, of one class or of all; weights by row.
local function plain_ratios(limit, k, class, weights)
  local both, found, real = 0, 0, 0
  for i = 1, N do
    for j = class or 1, class or C do
      local larger = 0
      for other = 1, C do larger = larger + (scores[i][other] > scores[i][j] and 1 or 0) end
      local yes, w = scores[i][j] > limit and larger < k, weights and weights[i] or 1
      if yes then found = found + w end
      if ids[i] == j then real = real + w end
      if yes and ids[i] == j then both = both + w end
    end
  end
  return both / found, both / real
end

describe("thresholds and top_k", function()
  it("of precision and recall count elements, as loops do", function()
    for _, case in ipairs { { 0.3 }, { 0.7 }, { nil, 2 }, { 0.5, 2 }, { 0.5, nil, 2 }, { nil, 1, 3 }, { nil, 9 } } do
      local o = { thresholds = case[1], top_k = case[2], class_id = case[3] }
      local p, r = plain_ratios(case[1] or -math.huge, case[2] or C, case[3])
      close({ p, r }, { of_classes(M.Precision(o)), of_classes(M.Recall(o)) }, 1e-6)
    end
    local list, wanted_p, wanted_r = { 0.2, 0.5, 0.8 }, {}, {}
    for i, limit in ipairs(list) do wanted_p[i], wanted_r[i] = plain_ratios(limit, C) end
    close(wanted_p, of_classes(M.Precision { thresholds = list }), 1e-6)
    close(wanted_r, of_classes(M.Recall { thresholds = list }), 1e-6)
  end)

  it("of precision and recall take one-hot and multi-hot targets, weights, and yes or no", function()
    local weights, hot = {}, nn.tensor(ids, { dtype = "i64" }):one_hot(C)
    for i = 1, N do weights[i] = i % 3 / 2 end
    local p, r = plain_ratios(0.4, 2, nil, weights)
    for k, want in ipairs { p, r } do
      local m = M[k == 1 and "Precision" or "Recall"] { thresholds = 0.4, top_k = 2 }
      m:update(nn.tensor(scores), hot, nn.tensor(weights))
      close({ want }, { m:result() }, 1e-6)
    end
    local m = M.Recall { thresholds = { 0.5, 0.9 } } -- two labels a row
    m:update(nn.tensor { { 0.6, 0.95, 0.1 }, { 0.3, 0.7, 0.8 } }, nn.tensor { { 1.0, 1, 0 }, { 1, 0, 1 } })
    close({ 3 / 4, 1 / 4 }, m:result(), 1e-6)
    close({ of_chances(M.Precision { threshold = 0.6 }) }, { of_chances(M.Precision { thresholds = 0.6 }) }, 0)
    local scored = M.Precision { thresholds = 0.5, from_logits = true }
    scored:update(nn.tensor { 2.0, -1, 0.5 }, nn.tensor { 1.0, 1, 0 })
    close({ 1 / 2 }, { scored:result() }, 1e-6)
    local again = M.get(M.Recall { thresholds = { 0.5, 0.9 }, top_k = 2 }:config())
    assert.same({ { 0.5, 0.9 }, 2 }, { again.thresholds, again.top_k })
    assert.truthy(message(function() of_classes(M.Recall { top_k = 1, class_id = 9 }) end):find("class_id = 9, and there are 4 classes", 1, true))
  end)

  it("of AUC are what is summed between", function()
    local limits = { 0.1, 0.35, 0.6, 0.8 }
    local points = {} -- by threshold: right, wrong
    local yes, no = 0, 0
    for i = 1, N do yes, no = yes + truth[i], no + 1 - truth[i] end
    for t, limit in ipairs { -1, 0.1, 0.35, 0.6, 0.8, 2 } do
      local right, wrong = 0, 0
      for i = 1, N do
        if chance[i] > limit then right, wrong = right + truth[i], wrong + 1 - truth[i] end
      end
      points[t] = { right, wrong }
    end
    local function area(curve, pick)
      local sum = 0
      local function at(p)
        local recall, said = p[1] / yes, p[1] + p[2]
        if curve == "roc" then return p[2] / no, recall end
        return recall, said > 0 and p[1] / said or 0
      end
      for t = 1, #points - 1 do
        local x, y = at(points[t])
        local after, height = at(points[t + 1])
        sum = sum + (x - after) * pick(y, height)
      end
      return sum
    end
    local function mean(a, b) return (a + b) / 2 end
    close({ area("roc", mean) }, { of_chances(M.AUC { thresholds = limits }) }, 1e-6)
    close({ area("roc", mean) }, { of_chances(M.AUC { thresholds = { 0.8, 0.1, 0.6, 0.35 } }) }, 1e-6)
    for _, curve in ipairs { "roc", "pr" } do
      for name, pick in pairs { minoring = math.min, majoring = math.max } do
        close({ area(curve, pick) }, { of_chances(M.AUC { thresholds = limits, curve = curve, summation_method = name }) }, 1e-6)
      end
    end
    assert.same(limits, M.get(M.AUC { thresholds = limits }:config()).thresholds)
    assert.truthy(message(function() M.AUC { thresholds = { 2 } } end):find("thresholds[1] is 2; it must be a number from 0 to 1", 1, true))
    assert.truthy(message(function() M.AUC { thresholds = {} } end):find("empty", 1, true))
  end)
end)
