-- lua/nnlua/functional/*: values and gradients as PyTorch computed them (golden/neural.lua), gradients of gradients, arguments, and what has no
-- golden value.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local it, host_it = support.on_device(it)
local close, message = support.close, support.message
local golden = dofile(here .. "golden/neural.lua")

-- `real`: what stands for f32
local function tensor(t, real)
  local dtype, shape, values = table.unpack(t)
  if dtype == "f32" then dtype = real or dtype end
  if dtype == "bool" then
    return nn.tensor(values, { dtype = "i64" }):bool():reshape(shape)
  end
  return nn.tensor(values, { dtype = dtype }):reshape(shape)
end

-- The call of a case as a function of its inputs (a table by name).
local function callable(case)
  return function(inputs)
    local env = setmetatable({ nn = nn }, { __index = inputs })
    return table.pack(assert(load("return " .. case.call, "=" .. case.name, "t", env))())
  end
end

local function inputs_of(case, real)
  local inputs, leaves = {}, {}
  for name, t in pairs(case.inputs) do
    inputs[name] = tensor(t, real)
    if case.grads and case.grads[name] then
      inputs[name] = inputs[name]:requires_grad(true)
      leaves[#leaves + 1] = name
    end
  end
  table.sort(leaves)
  return inputs, leaves
end

-- Sum of outputs under the case's cotangents, without those that are not finite.
local function total(case, outputs)
  local sum
  for i, cotangent in ipairs(case.cotangents) do
    if cotangent then
      local y = outputs[i]
      local term = (y * tensor(cotangent)):sum()
      sum = sum and sum + term or term
    end
  end
  return sum
end

local loose = { ["interpolate"] = 1e-4, ["grid_sample"] = 1e-4 }

describe("golden", function()
  for _, case in ipairs(golden) do
    local tolerance = loose[case.name:match "^[%w_]+"] or 2e-5
    it(case.name, function()
      local inputs, leaves = inputs_of(case)
      local outputs = callable(case)(inputs)
      assert.equal(#case.outputs, outputs.n)
      for i, want in ipairs(case.outputs) do
        assert.same(want[2], outputs[i]:shape())
        if want[1] == "i64" then assert.equal("i64", outputs[i]:dtype()) end
        close(want[3], outputs[i], tolerance, "output " .. i)
      end
      if #leaves == 0 then return end
      local list = {}
      for i, name in ipairs(leaves) do list[i] = inputs[name] end
      local grads = table.pack(nn.grad(total(case, outputs), list))
      for i, name in ipairs(leaves) do
        local want = case.grads[name]
        local got = grads[i] or list[i]:zeros_like()
        assert.same(want[2], got:shape())
        close(want[3], got, 5 * tolerance, "gradient of " .. name)
      end
    end)
  end
end)

-- Their gradients are not the slopes, as in PyTorch: ties (the first of equals takes all), a row that is to get none, a limit that lets the gradient
-- through.
local odd = { ["max_pool1d, ties"] = true, ["max_pool2d, ties"] = true, ["max_pool3d, ties"] = true, ["embedding, padding"] = true,
  ["gaussian_nll_loss, full"] = true }

-- Of f64 on the CPU alone; elsewhere all of these count as two tests that are left out.
local wide = nn.device() == "cpu" and golden or {}
if #wide == 0 then
  host_it("functions in f64", "it has no f64", function() end)
  host_it("gradients of gradients in f64", "it has no f64", function() end)
end

-- The same functions of f64: values are those of PyTorch's f32, and gradients are held to central differences of our own values, which tell more.
describe("in f64", function()
  for _, case in ipairs(wide) do
    it(case.name, function()
      local inputs, leaves = inputs_of(case, "f64")
      local outputs = callable(case)(inputs)
      for i, want in ipairs(case.outputs) do
        if want[1] == "f32" then assert.equal("f64", outputs[i]:dtype()) end
        close(want[3], outputs[i], loose[case.name:match "^[%w_]+"] or 2e-5, "output " .. i)
      end
      if #leaves == 0 or odd[case.name] then return end
      local list = {}
      for i, name in ipairs(leaves) do list[i] = inputs[name]:detach() end
      assert(nn.gradcheck(function(...)
        local given = setmetatable({}, { __index = inputs })
        for i, name in ipairs(leaves) do given[name] = (select(i, ...)) end
        return total(case, callable(case)(given))
      end, list))
    end)
  end
end)

describe("f16 and bf16 go in and come out:", function()
  for _, case in ipairs(golden) do
    it(case.name, function()
      for _, half in ipairs { "f16", "bf16" } do
        local outputs = callable(case)(inputs_of(case, half))
        for i, want in ipairs(case.outputs) do
          if want[1] == "f32" then assert.equal(half, outputs[i]:dtype()) end
        end
      end
    end)
  end
end)

-- Gradients of gradients, and of those, along random directions, in f64.
describe("gradient of gradient", function()
  local function dots(list, ways)
    local sum = nn.zeros(1):sum()
    for i = 1, #ways do
      if list[i] then sum = sum + (list[i] * ways[i]):sum() end
    end
    return sum
  end

  -- The derivative along ways[1], then ways[2], ... of the case's total, and the leaves; `bend` applied to each output.
  local function derivative(case, inputs, leaves, ways, bend)
    local list, outputs = {}, callable(case)(inputs)
    for i, name in ipairs(leaves) do list[i] = inputs[name] end
    for i = 1, outputs.n do outputs[i] = bend(outputs[i]) end
    local sum = total(case, outputs)
    for _, way in ipairs(ways) do
      sum = dots(sum:requires_grad() and table.pack(nn.grad(sum, list, { create_graph = true })) or {}, way)
    end
    return sum
  end

  -- The derivative of order `n` against central differences of that of order n - 1.
  local function check(case, n, bend)
    nn.seed(3)
    local inputs, leaves = inputs_of(case, "f64")
    local ways = {}
    for k = 1, n do
      ways[k] = {}
      for i, name in ipairs(leaves) do ways[k][i] = nn.rand(table.unpack(inputs[name]:shape())) - 0.5 end
    end
    local analytic, last = derivative(case, inputs, leaves, ways, bend):item(), table.remove(ways)
    local function at(step)
      local moved = setmetatable({}, { __index = inputs })
      for i, name in ipairs(leaves) do moved[name] = (inputs[name]:detach() + last[i] * step):requires_grad(true) end
      return derivative(case, moved, leaves, ways, bend):item()
    end
    local e = 1e-5
    close({ (at(e) - at(-e)) / (2 * e) }, { analytic }, 1e-6)
  end

  for _, case in ipairs(wide) do
    if case.grads and not odd[case.name] then
      it("of " .. case.name, function() check(case, 2, function(y) return y end) end)
      if not case.name:find "^grid_sample" then -- a cubic's second derivative jumps from pixel to pixel
        it("and of that, of the sine of " .. case.name, function() check(case, 3, function(y) return y:sin() end) end)
      end
    end
  end
end)

-- nn.jvp, nn.hvp and hooks give what nn.grad gives.
describe("products and hooks:", function()
  for _, case in ipairs(golden) do
    if case.grads and case.cotangents[1] then
      it(case.name, function()
        nn.seed(4)
        local inputs, leaves = inputs_of(case)
        local list, ways, seen = {}, {}, {}
        for i, name in ipairs(leaves) do
          list[i] = inputs[name]
          ways[i] = nn.rand(table.unpack(list[i]:shape())) - 0.5
        end
        local function value(...) -- of the leaves, in order
          local given = setmetatable({}, { __index = inputs })
          for i, name in ipairs(leaves) do given[name] = select(i, ...) end
          return (callable(case)(given)[1])
        end
        local cotangent = tensor(case.cotangents[1])
        local function scalar(...) return (value(...):sin() * cotangent):sum() end
        local function dot(g)
          local sum = 0
          for i = 1, #list do sum = sum + (g[i] and (g[i] * ways[i]):sum():item() or 0) end
          return sum
        end
        local y, slope = nn.jvp(value, list, ways)
        assert.same(y:shape(), slope:shape())
        close({ dot(table.pack(nn.grad((value(table.unpack(list)) * cotangent):sum(), list))) }, { (slope * cotangent):sum():item() }, 1e-4)
        local function hooked(x, i) return nn.hook(x, function(d) seen[i] = d end) end
        local through = {}
        for i, x in ipairs(list) do through[i] = hooked(x, i) end
        local first = table.pack(nn.grad(scalar(table.unpack(through)), list, { create_graph = true }))
        for i = 1, #list do
          if first[i] then close(first[i], seen[i], 0) end
        end
        local products = table.pack(nn.hvp(scalar, list, ways))
        local along = nn.zeros(1):sum()
        for i = 1, #list do
          if first[i] then along = along + (first[i] * ways[i]):sum() end
        end
        if along:requires_grad() then
          local second = table.pack(nn.grad(along, list))
          for i = 1, #list do close(second[i] or list[i]:zeros_like(), products[i + 1], 1e-4) end
        end
      end)
    end
  end
end)

describe("arguments", function()
  local x = nn.ones(1, 4, 4, 2)
  it("are given by place, by name, or as a method", function()
    local want = nn.avg_pool2d(x, 2, 1):totable()
    assert.same(want, nn.avg_pool2d(x, { size = 2, stride = 1 }):totable())
    assert.same(want, nn.avg_pool2d(x, { 2, 2 }, { stride = { 1, 1 } }):totable())
    assert.same(want, x:avg_pool2d(2, 1):totable())
    assert.same(want, nn.avg_pool2d { x = x, size = 2, stride = 1 }:totable())
  end)

  local bad = {
    { "avg_pool2d: argument 'size' is missing", function() nn.avg_pool2d(x) end },
    { "avg_pool2d: argument 'x' must be a tensor, got 3", function() nn.avg_pool2d(3, 2) end },
    { "avg_pool2d: argument 'size' must be an integer or a list of 2, got 1.5", function() nn.avg_pool2d(x, 1.5) end },
    { "avg_pool2d: unknown option 'strides'; did you mean 'stride'?", function() nn.avg_pool2d(x, 2, { strides = 1 }) end },
    { "avg_pool2d: argument 'size' is given twice", function() nn.avg_pool2d(x, 2, { size = 2 }) end },
    { "avg_pool2d: 8 arguments, at most 7 are possible", function() nn.avg_pool2d(x, 2, 2, 0, false, true, 2, 2) end },
    { "avg_pool2d: the input must be (batch, height, width, channels), its shape is (4x4)", function() nn.avg_pool2d(nn.ones(4, 4), 2) end },
    { "avg_pool2d: a window of 5 does not fit 4 elements with padding 0+0", function() nn.avg_pool2d(x, 5) end },
    { "avg_pool2d: padding 2 must be between 0 and half of the window's 2", function() nn.avg_pool2d(x, 2, 1, 2) end },
    { "max_pool3d: size, stride and dilation must be at least 1", function() nn.max_pool3d(nn.ones(1, 2, 2, 2, 1), 0) end },
    { "max_unpool2d: positions must be in 1..16, they reach from 1 to 17", function()
      nn.max_unpool2d(nn.ones(1, 2, 2, 1), nn.tensor({ 1, 2, 3, 17 }, { dtype = "i64" }):reshape(1, 2, 2, 1), 2)
    end },
    { "max_unpool2d: one position is needed per element", function() nn.max_unpool2d(x, nn.ones(1, 4, 4, 1):long(), 2) end },
    { "adaptive_avg_pool2d: cannot make 0 of 4 elements in dim 2", function() nn.adaptive_avg_pool2d(x, 0) end },
    { "conv1d: an input (N, L, C) and a kernel with 3 dims are needed, got (1x4x4x2) and (2)", function() nn.conv1d(x, nn.ones(2)) end },
    { "conv3d: groups = 2 must divide 3 channels", function() nn.conv3d(nn.ones(1, 2, 2, 2, 3), nn.ones(1, 1, 1, 1, 2), { groups = 2 }) end },
    { "conv_transpose2d: the last dim of the kernel (1x1x3x4) must be the input's 2 channels", function()
      nn.conv_transpose2d(x, nn.ones(1, 1, 3, 4))
    end },
    { "conv_transpose1d: padding 4+4 leaves nothing", function() nn.conv_transpose1d(nn.ones(1, 2, 1), nn.ones(2, 1, 1), { padding = 4 }) end },
    { "batch_norm: running_mean and running_var are needed", function() nn.batch_norm(x) end },
    { "batch_norm: weight must have 2 elements, its shape is (3)", function() nn.batch_norm(x, { training = true, weight = nn.ones(3) }) end },
    { "batch_norm: training needs more than one value per channel", function() nn.batch_norm(nn.ones(1, 2), { training = true }) end },
    { "group_norm: groups = 3 must divide 2 channels", function() nn.group_norm(x, 3) end },
    { "interpolate: either size or scale is needed", function() nn.interpolate(x) end },
    { 'interpolate: mode "linear" needs 1 spatial dims', function() nn.interpolate(x, { size = 2, mode = "linear" }) end },
    { "interpolate: argument 'mode' must be one of \"nearest\"", function() nn.interpolate(x, { size = 2, mode = "cubic" }) end },
    { 'interpolate: mode "area" has its own coordinates', function() nn.interpolate(x, { size = 2, mode = "area", box = { 0, 1, 0, 1 } }) end },
    { "interpolate: one of align_corners, coordinates and box says where to look", function()
      nn.interpolate(x, { size = 2, mode = "bilinear", align_corners = true, coordinates = "asymmetric" })
    end },
    { "interpolate: box must list first and last for each of 2 spatial dims", function() nn.interpolate(x, { size = 2, box = { 0, 1 } }) end },
    { 'interpolate: rounding has no meaning for mode "bilinear"', function()
      nn.interpolate(x, { size = 2, mode = "bilinear", rounding = "ceil" })
    end },
    { "pixel_shuffle: argument 'order' must be one of \"crd\", \"dcr\"", function() nn.pixel_shuffle(x, 1, "cdr") end },
    { "lstm: weights[1].peephole must have 6 elements: those of input, forget and output, its shape is (4)", function()
      nn.lstm(nn.ones(1, 2, 3), { w_ih = nn.ones(3, 8), w_hh = nn.ones(2, 8), peephole = nn.ones(4) })
    end },
    { "gru: weights[1] holds the tensors w_ih, w_hh, b_ih and b_hh, not peephole", function()
      nn.gru(nn.ones(1, 2, 3), { w_ih = nn.ones(3, 6), w_hh = nn.ones(2, 6), peephole = nn.ones(6) })
    end },
    { "grid_sample: an input (N,H,W,C) and a grid (N,OH,OW,2), or (N,D,H,W,C) and (N,OD,OH,OW,3), are needed, got (1x4x4x2) and (2x2x2x2)",
      function() nn.grid_sample(x, nn.ones(2, 2, 2, 2)) end },
    { "grid_sample: mode \"bicubic\" is for images", function() nn.grid_sample(nn.ones(1, 2, 2, 2, 1), nn.ones(1, 2, 2, 2, 3), "bicubic") end },
    { "pixel_shuffle: the input must be (N,H,W,C * 9)", function() nn.pixel_shuffle(x, 3) end },
    { "embedding_bag: ids of one dim need offsets", function() nn.embedding_bag(nn.ones(2):long(), nn.ones(2, 2)) end },
    { "embedding_bag: the first bag must begin at 1", function()
      nn.embedding_bag(nn.ones(2):long(), nn.ones(2, 2), nn.tensor({ 2 }, { dtype = "i64" }))
    end },
    { "lstm: the input must be (N, T, C) with at least one step", function() nn.lstm(x, { w_ih = x, w_hh = x }) end },
    { "gru: weights[1] must be w_ih (2x9), w_hh (3x9) and biases (9), got (2x8) and (3x9)", function()
      nn.gru(nn.ones(1, 2, 2), { w_ih = nn.ones(2, 8), w_hh = nn.ones(3, 9) })
    end },
    { "rnn: the state must be (1x1x3)", function() nn.rnn(nn.ones(1, 2, 2), { w_ih = nn.ones(2, 3), w_hh = nn.ones(3, 3) }, nn.ones(1, 3)) end },
    { "mse_loss: predictions (1x4x4x2) and targets (2) must have the same shape", function() nn.mse_loss(x, nn.ones(2)) end },
    { "mse_loss: argument 'reduction' must be one of \"mean\", \"sum\", \"none\", got \"avg\"", function() nn.mse_loss(x, x, "avg") end },
    { "cross_entropy: label_smoothing = 2 is not in 0..1", function() nn.cross_entropy(x, x, { label_smoothing = 2 }) end },
    { "cross_entropy: weight must have 2 elements", function() nn.cross_entropy(x, x, nn.ones(3)) end },
    { "nll_loss: predictions (2x3) need class ids of shape (2), got (3)", function() nn.nll_loss(nn.ones(2, 3), nn.ones(3):long()) end },
    { "nll_loss: class ids must be integers, got f32", function() nn.nll_loss(nn.ones(2, 3), nn.ones(2)) end },
    { "multilabel_margin_loss: class id 4 in row 1 is not in 1..3", function()
      nn.multilabel_margin_loss(nn.ones(1, 3), nn.full({ 1, 3 }, 4):long())
    end },
    { "ctc_loss: input_lengths[1] = 9 is not in 0..3", function() nn.ctc_loss(nn.ones(1, 3, 2), nn.ones(1, 1):long(), { 9 }) end },
    { "ctc_loss: targets and blank must be in 1..2", function() nn.ctc_loss(nn.ones(1, 3, 2), nn.full({ 1, 1 }, 3):long()) end },
  }
  for _, case in ipairs(bad) do
    it("raise: " .. case[1], function()
      local text = message(case[2])
      assert.equal(case[1], text:sub(1, #case[1]))
    end)
  end

  it("raise at the caller's line", function()
    local _, err = pcall(function() nn.avg_pool2d(x, 5) end)
    assert.truthy(err:find("functional_spec.lua:%d+: avg_pool2d"), err)
    _, err = pcall(function() nn.conv1d(nn.ones(1, 4, 2), nn.ones(3, 3, 1)) end)
    assert.truthy(err:find "functional_spec.lua:%d+: ", err)
  end)
end)

describe("what has no golden value", function()
  it("batch_norm in f64 is that of f32", function()
    local x, w, b = nn.randn(6, 3, 4), nn.randn(4), nn.randn(4)
    local function run(dtype)
      local mean, var = nn.zeros({ 4 }, dtype), nn.ones({ 4 }, dtype)
      local y = nn.batch_norm(x:to(dtype), mean, var, w:to(dtype), b:to(dtype), true)
      assert.equal(dtype, y:dtype())
      return y, mean, var
    end
    local single, double = { run "f32" }, { run "f64" }
    for k = 1, 3 do close(double[k], single[k], 1e-5) end
  end)

  it("lstm in f64, step by step, is that of f32 in one operator", function()
    local function weights(c) return { w_ih = nn.randn(c, 12), w_hh = nn.randn(3, 12), b_ih = nn.randn(12), b_hh = nn.randn(12) } end
    local list, x, h, c = { weights(2), weights(2), weights(6), weights(6) }, nn.randn(2, 5, 2), nn.randn(4, 2, 3), nn.randn(4, 2, 3)
    local function run(dtype)
      local w = {}
      for i, t in ipairs(list) do
        w[i] = {}
        for key, v in pairs(t) do w[i][key] = v:to(dtype) end
      end
      return nn.lstm(x:to(dtype), w, { h:to(dtype), c:to(dtype) }, { bidirectional = true })
    end
    local single, double = { run "f32" }, { run "f64" }
    assert.equal("f64", double[1]:dtype())
    for k = 1, 3 do close(double[k], single[k], 1e-5) end
  end)

  it("same padding: ceil(n / stride) results; a transposed one makes n * stride", function()
    for _, n in ipairs { 5, 6 } do
      for _, k in ipairs { 2, 3 } do
        local x = nn.rand(1, n, n, n, 2)
        assert.same({ 1, 3, 3, 3, 2 }, nn.avg_pool3d(x, k, 2, "same"):shape())
        assert.same({ 1, 3, 3, 3, 2 }, nn.max_pool3d(x, k, 2, "same"):shape())
        assert.same({ 1, 3, 3, 3, 4 }, nn.conv3d(x, nn.rand(k, k, k, 2, 4), { stride = 2, padding = "same" }):shape())
        assert.same({ 1, 2 * n, 2 * n, 2 * n, 4 }, nn.conv_transpose3d(x, nn.rand(k, k, k, 4, 2), { stride = 2, padding = "same" }):shape())
        assert.same({ 1, 3 * n, 4 }, nn.conv_transpose1d(nn.rand(1, n, 2), nn.rand(k, 4, 2), { stride = 3, padding = "same" }):shape())
      end
    end
  end)

  it("a transposed convolution is the gradient of the convolution, with pads of any kind", function()
    for _, padding in ipairs { "same", "valid", { 1, 0, 2, 0, 1, 1 } } do
      local w, o = nn.rand(3, 2, 3, 2, 4), { stride = { 2, 1, 1 }, padding = padding }
      local v = nn.rand(1, 6, 5, 6, 2):requires_grad(true)
      local y = nn.conv3d(v, w, o)
      local d = nn.rand(table.unpack(y:shape()))
      local extra = padding == "same" and 0 or (6 + (padding == "valid" and 0 or 1) - 3) % 2
      local dx = nn.conv_transpose3d(d, w, { stride = { 2, 1, 1 }, padding = padding, output_padding = { extra, 0, 0 } })
      close(nn.grad(y, v, { cotangents = d }), dx, 1e-4)
    end
  end)

  it("NaN wins in every pooling of maxima", function()
    local nan = 0 / 0
    for place = 1, 4 do
      local values = { 1, 2, 3, 4 }
      values[place] = nan
      local x = nn.tensor(values):reshape(1, 2, 2, 1)
      local y, at = nn.max_pool2d(x, 2, { return_indices = true })
      assert.is_true(y:item() ~= y:item())
      assert.equal(place, at:item())
      y = nn.adaptive_max_pool2d(x, 1)
      assert.is_true(y:item() ~= y:item())
    end
  end)

  it("a window of many elements", function()
    local x = nn.rand(1, 40, 30, 2)
    close(x:amax { 2, 3 }, nn.max_pool2d(x, { 40, 30 }, { ceil_mode = true }):reshape(1, 2), 0)
    close(x:mean { 2, 3 }, nn.avg_pool2d(x, { 40, 30 }):reshape(1, 2), 1e-5)
  end)

  it("long sequences", function()
    local w = { w_ih = nn.rand(1, 2) - 0.5, w_hh = nn.rand(2, 2) - 0.5 }
    local x = nn.rand(1, 250, 1)
    local y, h = nn.rnn(x, w)
    assert.same({ 1, 250, 2 }, y:shape())
    close(y[1][250], h:reshape(2), 0)
    local a = nn.rnn(x[{ {}, { 1, 130 } }], w)
    close(y[{ {}, { 1, 130 } }], a, 0)
  end)

  it("split4 gives four pieces, and joins their gradients", function()
    local x = nn.rand(2, 7):requires_grad(true)
    local p = { nn.split4(x, 2, { 2, 0, 4, 1 }) }
    local at = 0
    for k, size in ipairs { 2, 0, 4, 1 } do
      assert.same({ 2, size }, p[k]:shape())
      if size > 0 then close(x[{ {}, { at + 1, at + size } }], p[k], 0) end
      at = at + size
    end
    local d = nn.grad((p[3] * 3):sum() + (p[1] * p[1]):sum(), x) -- the fourth is not used
    close({ { 2 * x[1][1]:item(), 2 * x[1][2]:item(), 3, 3, 3, 3, 0 }, { 2 * x[2][1]:item(), 2 * x[2][2]:item(), 3, 3, 3, 3, 0 } }, d, 1e-6)
  end)

  it("dropout between layers, in training only", function()
    local function layer(c) return { w_ih = nn.rand(c, 8), w_hh = nn.rand(2, 8) } end
    local x, w = nn.rand(1, 3, 2), { layer(2), layer(2) }
    close(nn.lstm(x, w), nn.lstm(x, w, { dropout = 0.5 }), 0)
    local zeroed = nn.lstm(x, w, { dropout = 1, training = true }) -- the second layer sees zeros
    close(nn.lstm(x * 0, { w[2] }), zeroed, 0)
  end)

  it("dropout of attention weights keeps their mean", function()
    nn.seed(5)
    local q, v = nn.zeros(400, 4), nn.ones(50, 2)
    local y = nn.scaled_dot_product_attention(q, nn.zeros(50, 4), v, { dropout_p = 0.4 })
    assert.is_true(math.abs(y:mean():item() - 1) < 0.02)
    assert.is_true(y:var():item() > 1e-3)
  end)

  it("hinge losses", function()
    local x, t = nn.tensor { 0.5, -2, 3 }, nn.tensor { 1.0, 1, -1 }
    close({ 0.5, 3, 4 }, nn.hinge_loss(x, t, "none"), 1e-6)
    close({ 0.25, 9, 16 }, nn.squared_hinge_loss(x, t, "none"), 1e-6)
  end)

  it("impossible alignments", function()
    local x, t = nn.rand(1, 2, 3):log_softmax(-1), nn.tensor({ { 2, 2, 3 } }, { dtype = "i64" })
    assert.equal(math.huge, nn.ctc_loss(x, t):item())
    assert.equal(0.0, nn.ctc_loss(x, t, { zero_infinity = true }):item())
    local v = nn.rand(1, 2, 3):requires_grad(true)
    close(nn.zeros(1, 2, 3), nn.grad(nn.ctc_loss(v:log_softmax(-1), t, { zero_infinity = true }), v), 0)
  end)

  it("an ignored class id may be anything", function()
    local x, at = nn.rand(3, 4), nn.tensor({ 2, -100, 1 }, { dtype = "i64" })
    local kept = nn.cross_entropy(x[{ { 1, 3, 2 } }], nn.tensor({ 2, 1 }, { dtype = "i64" }))
    close({ kept:item() }, { nn.cross_entropy(x, at, { ignore_id = -100 }):item() }, 1e-6)
    assert.truthy(message(function() nn.cross_entropy(x, at):item() end):find "class id %-100 at position 2 is not in 1..4")
  end)

  it("a mean over no class id is NaN, its gradient 0", function()
    local x, at = nn.rand(2, 3):requires_grad(true), nn.tensor({ 2, 2 }, { dtype = "i64" })
    for _, name in ipairs { "cross_entropy", "nll_loss" } do
      local y = nn[name](x, at, { ignore_id = 2 })
      assert.is_true(y:item() ~= y:item())
      close(nn.zeros(2, 3), nn.grad(y, x), 0)
    end
  end)

  it("layer_norm and rms_norm are one program", function()
    local eager = nn.eager(false) -- call by call there are no programs of several
    finally(function() nn.eager(eager) end)
    local x, w = nn.rand(64, 128), nn.rand(128)
    nn.eval()
    for _, f in ipairs { function() return nn.layer_norm(x, { 128 }, w, w) end, function() return nn.rms_norm(x, { 128 }, w) end } do
      local before = nn.run_stats().units
      local y = f()
      nn.eval()
      assert.equal(1, nn.run_stats().units - before)
      assert.same({ 64, 128 }, y:shape())
    end
  end)

  it("every declared function is in nn, and the other way round", function()
    local rows = {}
    for _, row in ipairs(require("nnlua.functional").rows) do
      rows[row.name] = true
      assert.equal(row.fn, nn[row.name])
      assert.equal(row.method, (pcall(function() return nn.zeros(1)[row.name] end)), row.name)
    end
    for name, f in pairs(require "nnlua.functional") do
      assert.is_true(name == "rows" or rows[name] and type(f) == "function", name)
    end
  end)
end)

describe("deferred and eager", function()
  local threads = nn.threads()
  after_each(function()
    nn.eager(false)
    nn.threads(threads)
  end)
  it("agree to the bit, and so do 1, 2 and 3 threads", function()
    for _, case in ipairs(golden) do
      local first
      for _, mode in ipairs { { false, 1 }, { true, 1 }, { false, 2 }, { false, 3 } } do
        nn.eager(mode[1])
        nn.threads(mode[2])
        local bytes = {}
        local inputs = inputs_of(case)
        local outputs = callable(case)(inputs)
        for i = 1, outputs.n do bytes[i] = outputs[i]:detach():tostring_bytes() end
        local text = table.concat(bytes, "|")
        first = first or text
        assert.is_true(first == text, case.name)
      end
    end
  end)
end)
