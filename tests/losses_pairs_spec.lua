-- nn.losses of pairs and neighbours, nll and ctc, and the metric IoU: values against plain doubles, gradients against central differences, wrong use.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message, matrix = support.close, support.message, support.matrix
local it = support.on_device(it)

local points = matrix(6, 3, function(i, j) return math.sin(5 * i + 2 * j) end)
local ids = { 1, 2, 1, 3, 2, 1 } -- class 3 has one row
for _, row in ipairs(points) do
  local n = math.sqrt(row[1] ^ 2 + row[2] ^ 2 + row[3] ^ 2)
  for j = 1, 3 do row[j] = row[j] / n end
end
local function long(t) return nn.tensor(t, { dtype = "i64" }) end

local function values(name, pred, target, given)
  local o = { reduction = "none" }
  for k, v in pairs(given or {}) do o[k] = v end
  return nn.losses[name](pred, target, o)
end

-- The gradient: against differences in f64 on the CPU; on another device against the CPU's
local function checked(name, pred, target, given)
  if nn.device() ~= "cpu" then
    local function gradient(device)
      local x = nn.tensor(pred, { dtype = "f32" }):to(device):requires_grad(true)
      return nn.grad(nn.losses[name](x, target:to(device), given), x):totable()
    end
    return close(gradient "cpu", gradient(nn.device()), 1e-4)
  end
  assert(nn.gradcheck(function(x) return nn.losses[name](x, target, given) end, { nn.tensor(pred, { dtype = "f64" }) }))
end

it("triplet takes the farthest friend and the nearest other", function()
  local want = {}
  for i = 1, 6 do
    local far, near
    for k = 1, 6 do
      local d = 0
      for j = 1, 3 do d = d + (points[i][j] - points[k][j]) ^ 2 end
      d = math.sqrt(d)
      if k ~= i and ids[k] == ids[i] then far = math.max(far or 0, d) elseif ids[k] ~= ids[i] then near = math.min(near or d, d) end
    end
    want[i] = far and math.max(0, far - near + 0.5) or 0
  end
  close(want, values("triplet", nn.tensor(points, { dtype = "f32" }), long(ids), { margin = 0.5 }), 1e-5)
  assert.equal(0, want[4])
  checked("triplet", points, long(ids), { margin = 0.5 })
  assert.equal(0, nn.losses.triplet(nn.tensor(points, { dtype = "f32" }), long { 1, 1, 1, 1, 1, 1 }):item()) -- no other class
end)

it("circle is Keras's", function()
  local want = {}
  for i = 1, 6 do
    local pull, push = 0, 0
    for k = 1, 6 do
      local distance = 1
      for j = 1, 3 do distance = distance - points[i][j] * points[k][j] end
      if k ~= i and ids[k] == ids[i] then
        pull = pull + math.exp(-4 * math.max(0.4 + distance, 0) * (0.4 - distance))
      elseif ids[k] ~= ids[i] then
        push = push + math.exp(4 * math.max(1.4 - distance, 0) * (0.6 - distance))
      end
    end
    want[i] = math.log(1 + pull * push)
  end
  close(want, values("circle", nn.tensor(points, { dtype = "f32" }), long(ids), { gamma = 4 }), 1e-4)
  checked("circle", points, long(ids), { gamma = 4 })
  local loss = nn.losses.circle(nn.tensor(points, { dtype = "f32" }), long(ids))
  assert(loss:item() > 0 and loss:item() < 500) -- e^(gamma ...) does not overflow
end)

it("gaussian_nll, nll and margin_ranking are PyTorch's functions", function()
  local mean, variance, target = nn.normal { 4, 2 }, nn.uniform({ 4, 2 }, 0.1, 2), nn.normal { 4, 2 }
  close(nn.gaussian_nll_loss(mean, target, variance):totable(), nn.losses.gaussian_nll(nn.cat({ mean, variance }, 2), target), 1e-5)
  checked("gaussian_nll", nn.cat({ mean, variance }, 2):totable(), nn.device() == "cpu" and target:double() or target)
  local logp = nn.normal { 5, 3 }:log_softmax(-1)
  close(nn.nll_loss(logp, long { 1, 2, 3, 1, 2 }):totable(), nn.losses.nll(logp, long { 1, 2, 3, 1, 2 }))
  assert.same({ 2, 3 }, values("nll", nn.zeros(2, 3, 4), nn.ones(2, 3):long()):shape())
  local pairs_, order = nn.normal { 5, 2 }, nn.tensor { 1.0, -1, 1, -1, 1 }
  close(nn.margin_ranking_loss(pairs_:narrow(2, 1, 1):reshape(-1), pairs_:narrow(2, 2, 1):reshape(-1), order, 0.3):totable(),
    nn.losses.margin_ranking(pairs_, order, { margin = 0.3 }), 1e-6)
  checked("margin_ranking", pairs_:totable(), order, { margin = 0.3 })
end)

it("ctc sums the ways to spell the target", function()
  -- 3 classes (1 is the blank), 3 steps, all ways counted one by one
  local scores = matrix(3, 3, function(i, j) return math.cos(3 * i + j) end)
  local p = {}
  for i, row in ipairs(scores) do p[i] = support.softmax(row) end
  local function likely(word)
    local sum = 0
    for a = 1, 3 do
      for b = 1, 3 do
        for c = 1, 3 do
          local spelt, last = "", 1
          for _, id in ipairs { a, b, c } do
            if id ~= 1 and id ~= last then spelt = spelt .. id end
            last = id
          end
          if spelt == word then sum = sum + p[1][a] * p[2][b] * p[3][c] end
        end
      end
    end
    return sum
  end
  local want = { -math.log(likely "23"), -math.log(likely "2"), -math.log(likely "33") }
  local x = nn.tensor({ scores, scores, scores }, { dtype = "f32" })
  close(want, values("ctc", x, long { { 2, 3 }, { 2, 1 }, { 3, 3 } }), 1e-5)
  close({ (want[1] + want[2] + want[3]) / 3 }, nn.losses.ctc(x, long { { 2, 3 }, { 2, 1 }, { 3, 3 } }):reshape(1), 1e-5)
  checked("ctc", { scores, scores }, long { { 2, 3 }, { 2, 1 } })
end)

it("IoU is that of the classes asked for", function()
  local pred, target = nn.one_hot(long { 1, 2, 2, 3, 3, 3 }, 3), long { 1, 2, 3, 3, 3, 1 }
  local function of(given)
    local metric = nn.metrics.IoU(given)
    metric:update(pred, target)
    return metric:result()
  end
  close({ 1 / 2 }, { of { { 2 } } })
  close({ (1 / 2 + 2 / 4) / 2 }, { of { { 1, 3 } } })
  close({ 1 / 2, 1 / 2, 2 / 4 }, of { target_class_ids = { 1, 2, 3 }, average = "none" })
  assert(message(of, { { 4 } }):find("iou: there is no class 4 of 3", 1, true))
end)

it("have short names, and refuse other shapes", function()
  assert.equal(nn.losses.kl_divergence, nn.losses.kl)
  assert.equal(nn.losses.cosine_similarity, nn.losses.cosine)
  for name, text in pairs {
    triplet = "triplet: needs predictions (N, D) and class ids (N), got predictions (2x3) and targets (4)",
    circle = "circle: needs predictions (N, D) and class ids (N)", margin_ranking = "margin_ranking: needs predictions (N, 2) and targets (N)",
    gaussian_nll = "gaussian_nll: needs means and variances",
  } do
    local told = message(nn.losses[name], nn.zeros(2, 3), nn.ones(4))
    assert(told:find(text, 1, true), told)
  end
end)
