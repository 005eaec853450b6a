-- lua/nnlua/losses.lua and metrics.lua: values against doubles, gradients against central differences, shapes.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

local scores = { { 1.5, -0.3, 0.2 }, { -2, 0.1, 3 }, { 0.4, 0.4, 0.4 }, { 30, -40, 2 } }
local ids = { 1, 2, 3, 1 }
local function ids_tensor(dtype) return nn.tensor(ids, { dtype = dtype or "i64" }) end
local function one_hot()
  return support.matrix(4, 3, function(i, j) return ids[i] == j and 1 or 0 end)
end

-- -log softmax(row)[id], in doubles
local function entropy(row, id)
  local big, sum = math.max(table.unpack(row)), 0
  for _, v in ipairs(row) do sum = sum + math.exp(v - big) end
  return big + math.log(sum) - row[id]
end
local function entropies()
  local out = {}
  for i, row in ipairs(scores) do out[i] = entropy(row, ids[i]) end
  return out
end
local function mean(list)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + v end
  return sum / #list
end

-- Gradient of f (a loss of a table in doubles) by central differences.
local function differences(f, x)
  local out, h = {}, 1e-5
  for _, row in ipairs(x) do
    for j, v in ipairs(row) do
      row[j] = v + h
      local up = f(x)
      row[j] = v - h
      out[#out + 1] = (up - f(x)) / (2 * h)
      row[j] = v
    end
  end
  return out
end

local function gradient(loss, x, target, o)
  local leaf = nn.parameter(x)
  loss(leaf, target, o):backward()
  return leaf:grad()
end

describe("cross-entropy of class ids", function()
  local loss = nn.losses.sparse_categorical_crossentropy

  it("from scores, averaged, summed and per sample", function()
    local x, y = nn.tensor(scores), ids_tensor()
    close(mean(entropies()), loss(x, y, { from_logits = true }):item())
    close(mean(entropies()), nn.losses.cross_entropy(x, y):item())
    close(4 * mean(entropies()), loss(x, y, { from_logits = true, reduction = "sum" }):item())
    close(entropies(), loss(x, y, { from_logits = true, reduction = "none" }))
    close(entropies(), loss(x, ids_tensor "i32":reshape { 4, 1 }, { from_logits = true, reduction = "none" }))
  end)

  it("from probabilities, kept away from 0 and 1", function()
    local p = { { 0.7, 0.2, 0.1 }, { 0, 1, 0 }, { 0.5, 0.5, 0 }, { 0.25, 0.5, 0.25 } }
    close({ -math.log(0.7), 1e-7, -math.log(1e-7), -math.log(0.25) }, loss(nn.tensor(p), ids_tensor(), { reduction = "none" }), 1e-5)
  end)

  it("has the gradient of central differences", function()
    local want = differences(function(x)
      local sum = 0
      for i, row in ipairs(x) do sum = sum + entropy(row, ids[i]) / 4 end
      return sum
    end, scores)
    close(want, gradient(loss, scores, ids_tensor(), { from_logits = true }), 1e-4)
  end)

  it("takes sequences", function()
    local x = nn.tensor { { scores[1], scores[2] }, { scores[3], scores[4] } }
    local y = nn.tensor({ { 1, 2 }, { 3, 1 } }, { dtype = "i64" })
    close(mean(entropies()), nn.losses.cross_entropy(x, y):item())
    assert.same({ 2, 2 }, loss(x, y, { from_logits = true, reduction = "none" }):shape())
  end)

  it("refuses other shapes and ids out of range", function()
    assert.equal("sparse_categorical_crossentropy: predictions of shape 4x3 need class ids of shape 4, got 4x3; "
      .. "for one-hot targets use categorical_crossentropy",
      (message(loss, nn.tensor(scores), nn.tensor(one_hot())):gsub("[()]", "")))
    local m = message(function() return nn.losses.cross_entropy(nn.tensor(scores), nn.tensor({ 1, 2, 4, 1 }, { dtype = "i64" })):item() end)
    assert.truthy(m:find("class id 4", 1, true), m)
    assert.truthy(m:find("1..3", 1, true), m)
    m = message(function() return nn.losses.cross_entropy(nn.tensor(scores), nn.tensor({ 1, 2, 0, 1 }, { dtype = "i64" })):item() end)
    assert.truthy(m:find("0", 1, true), m)
  end)
end)

describe("cross-entropy of one-hot rows", function()
  local loss = nn.losses.categorical_crossentropy
  it("from scores and probabilities", function()
    close(mean(entropies()), loss(nn.tensor(scores), nn.tensor(one_hot()), { from_logits = true }):item())
    local p = nn.tensor(scores):softmax(-1)
    close(entropies()[1], loss(p, nn.tensor(one_hot()), { reduction = "none" }):totable()[1])
  end)
  it("has the gradient of central differences, for soft targets too", function()
    local soft = support.matrix(4, 3, function(i, j) return (i + j) / (3 * i + 6) end)
    local want = differences(function(x)
      local sum = 0
      for i, row in ipairs(x) do
        for j = 1, 3 do sum = sum + soft[i][j] * entropy(row, j) / 4 end
      end
      return sum
    end, scores)
    close(want, gradient(loss, scores, nn.tensor(soft), { from_logits = true }), 1e-4)
  end)
  it("hints at the sparse form", function()
    assert.truthy(message(loss, nn.tensor(scores), ids_tensor()):find("for class ids use sparse_categorical_crossentropy", 1, true))
  end)
end)

describe("mean squared error", function()
  it("is one value per sample, averaged", function()
    local a, b = nn.tensor { { 1, 2 }, { 3, 5 } }, nn.tensor { { 1, 0 }, { 0, 1 } }
    close({ 2, 12.5 }, nn.losses.mse(a, b, { reduction = "none" }))
    close(7.25, nn.losses.mean_squared_error(a, b):item())
    close({ 0, 1, 1.5, 2 }, gradient(nn.losses.mse, { { 1, 2 }, { 3, 5 } }, b))
  end)
  it("never broadcasts", function()
    assert.equal("mean_squared_error: predictions (4x1) and targets (4) must have the same shape", message(nn.losses.mse, nn.ones(4, 1), nn.ones(4)))
  end)
end)

describe("losses by name", function()
  it("come with from_logits bound", function()
    local f = nn.losses.get("sparse_categorical_crossentropy", true)
    close(mean(entropies()), f(nn.tensor(scores), ids_tensor()):item())
    close(25, nn.losses.get "mse" (nn.tensor { 5.0 }, nn.zeros(1)):item())
  end)
  it("are known or refused", function()
    assert.truthy(message(nn.losses.get, "crossentropy"):find("unknown loss", 1, true))
    assert.equal("from_logits has no meaning for the loss mse", message(nn.losses.get, "mse", true))
  end)
end)

describe("metrics", function()
  it("accuracy takes ids and one-hot rows", function()
    local x = nn.tensor(scores)
    assert.equal(0.75, nn.metrics.accuracy(x, nn.tensor({ 1, 3, 2, 1 }, { dtype = "i64" })):item())
    assert.equal(0.5, nn.metrics.accuracy(x, nn.tensor(one_hot())):item()) -- the tie of row 3 goes to the first
    assert.equal(0.5, nn.metrics.accuracy(nn.tensor { { 0.2 }, { 0.7 } }, nn.tensor { { 1 }, { 1 } }):item())
    assert.truthy(message(nn.metrics.accuracy, x, nn.ones(4, 2, 2)):find("need class ids or one-hot rows", 1, true))
  end)

  it("accumulate by samples and start again", function()
    local acc = nn.metrics.Accuracy {}
    acc:update(nn.tensor(scores), nn.tensor({ 1, 3, 1, 1 }, { dtype = "i64" }))
    acc:update(nn.tensor { scores[1] }, nn.tensor({ 3 }, { dtype = "i64" }))
    close(0.8, acc:result())
    local state = acc:state()
    acc:reset()
    acc:update(nn.tensor { scores[1] }, nn.tensor({ 1 }, { dtype = "i64" }))
    assert.equal(1, acc:result())
    acc:set_state(state)
    close(0.8, acc:result())
  end)

  it("weigh means by the size of the batch", function()
    local mean_of = nn.metrics.Mean {}
    mean_of:add(nn.tensor(2), 10)
    mean_of:add(5, 5)
    mean_of:add(nn.tensor { 1, 2, 3 })
    close((20 + 25 + 6) / 18, mean_of:result(), 1e-6)
  end)

  it("are found by name, or made of functions", function()
    assert.equal("accuracy", nn.metrics.get("acc").name)
    local m = nn.metrics.get(function(pred, y) return (pred - y):abs():mean() end, 2)
    assert.equal("metric_2", m.name)
    m:update(nn.tensor { 1, 2 }, nn.tensor { 0, 0 })
    close(1.5, m:result())
    assert.truthy(message(nn.metrics.get, "acuracy"):find('did you mean "accuracy"?', 1, true))
  end)
end)
