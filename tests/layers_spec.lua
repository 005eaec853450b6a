-- lua/nnlua/layer.lua and lua/nnlua/layers: values against plain loops, shapes, options, configuration, printing.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message, noise = support.close, support.message, support.noise

-- A table of `shape` filled by f().
local function filled(shape, f, i)
  i = i or 1
  if i > #shape then return f() end
  local t = {}
  for k = 1, shape[i] do t[k] = filled(shape, f, i + 1) end
  return t
end

describe("Dense", function()
  it("computes activation(x @ kernel + bias)", function()
    local x, layer = filled({ 5, 3 }, noise(1)), nn.Dense { 4, activation = "relu", bias_initializer = "ones" }
    local y = layer(nn.tensor(x))
    local w = layer.kernel:totable()
    close(support.matrix(5, 4, function(i, j)
      local sum = 1
      for k = 1, 3 do sum = sum + x[i][k] * w[k][j] end
      return math.max(sum, 0)
    end), y)
  end)

  it("works over the last dim of longer shapes, and without a bias", function()
    local layer = nn.Dense { 4, use_bias = false }
    assert.same({ 2, 5, 4 }, layer(nn.ones(2, 5, 3)):shape())
    assert.is_nil(layer.bias)
    assert.same({ 5, 4 }, layer:output_shape { 5, 3 })
  end)

  it("takes any function as activation and `init` for its kernel", function()
    local layer = nn.Dense { 2, activation = function(x) return x * 2 end, init = nn.initializers.constant { 3 } }
    close({ { 6, 6 } }, layer(nn.ones(1, 1)))
  end)

  it("prints itself", function()
    local layer = nn.Dense { 128, activation = "relu" }
    assert.equal("Dense(? -> 128, relu)", tostring(layer))
    layer:build_once { 784 }
    assert.equal("Dense(784 -> 128, relu)", tostring(layer))
  end)

  it("refuses bad options with help", function()
    assert.equal('Dense: unknown option "activaton"; did you mean "activation"? (valid: units, activation, activity_regularizer, bias_constraint, '
      .. "bias_initializer, bias_regularizer, dtype, kernel_constraint, kernel_initializer, kernel_regularizer, name, trainable, use_bias)",
      message(nn.Dense, { 128, activaton = "relu" }))
    assert.truthy(message(nn.Dense, {}):find('option "units" is missing', 1, true))
    assert.truthy(message(nn.Dense, { 3, activation = "rleu" }):find('unknown activation "rleu"; did you mean "relu"?', 1, true))
    assert.truthy(message(nn.Dense, { 3, init = "he_norml" }):find('unknown initializer "he_norml"; did you mean "he_normal"?', 1, true))
    assert.truthy(message(nn.Dense, { 3, init = "zeros", kernel_initializer = "ones" }):find("another name", 1, true))
  end)
end)

-- Convolution by the definition; "same" puts the odd element of padding at the end.
local function conv(x, w, b, stride, padding)
  local n, h, wd, kh, kw, c, k = #x, #x[1], #x[1][1], #w, #w[1], #w[1][1], #w[1][1][1]
  local oh, ow, top, left = (h - kh) // stride + 1, (wd - kw) // stride + 1, 0, 0
  if padding == "same" then
    oh, ow = (h + stride - 1) // stride, (wd + stride - 1) // stride
    top, left = math.max(0, (oh - 1) * stride + kh - h) // 2, math.max(0, (ow - 1) * stride + kw - wd) // 2
  end
  local out = {}
  for s = 1, n do
    for i = 1, oh do
      for j = 1, ow do
        for f = 1, k do
          local sum = b[f]
          for p = 1, kh do
            for q = 1, kw do
              local row = x[s][(i - 1) * stride + p - top]
              local pixel = row and row[(j - 1) * stride + q - left]
              for ch = 1, pixel and c or 0 do sum = sum + pixel[ch] * w[p][q][ch][f] end
            end
          end
          out[#out + 1] = sum
        end
      end
    end
  end
  return out, { n, oh, ow, k }
end

describe("Conv2D", function()
  for _, case in ipairs { { 1, "valid" }, { 2, "valid" }, { 1, "same" }, { 2, "same" }, { 3, "same" } } do
    it(("computes a convolution, stride %d, %s"):format(case[1], case[2]), function()
      local draw = noise(7)
      local x = filled({ 2, 6, 7, 3 }, draw)
      local layer = nn.Conv2D { 4, { 3, 2 }, strides = case[1], padding = case[2], bias_initializer = "random_normal" }
      local y = layer(nn.tensor(x))
      local want, shape = conv(x, layer.kernel:totable(), layer.bias:totable(), case[1], case[2])
      assert.same(shape, y:shape())
      assert.same(table.move(shape, 2, 4, 1, {}), layer:output_shape { 6, 7, 3 })
      close(want, y, 1e-4)
    end)
  end

  it("refuses what it cannot take", function()
    assert.equal("Conv2D: needs images (N, H, W, C), got samples of shape 784", message(nn.Conv2D { 4, 3 }, nn.ones(2, 784)))
    assert.truthy(message(nn.Conv2D { 4, 5 }, nn.ones(2, 4, 4, 1)):find("a window of 5x5 does not fit, got samples of shape 4x4x1", 1, true))
    assert.truthy(message(nn.Conv2D, { 4, { 3, 3, 3 } }):find('option "kernel_size"', 1, true))
    assert.truthy(message(nn.Conv2D, { 4, 3, padding = "full" }):find("must be one of valid, same", 1, true))
  end)

  it("prints itself", function()
    local layer = nn.Conv2D { 32, 3, activation = "relu", strides = 2, padding = "same" }
    layer:build_once { 28, 28, 1 }
    assert.equal("Conv2D(1 -> 32, 3x3, stride 2x2, same, relu)", tostring(layer))
  end)
end)

describe("MaxPooling2D", function()
  for _, case in ipairs { { 2, nil, "valid" }, { 3, 2, "same" }, { 2, 1, "valid" } } do
    it(("takes the largest of each window, %d %s %s"):format(case[1], tostring(case[2]), case[3]), function()
      local x = filled({ 2, 5, 6, 2 }, noise(3))
      local layer = nn.MaxPooling2D { case[1], strides = case[2], padding = case[3] }
      local y = layer(nn.tensor(x))
      local stride, size = case[2] or case[1], case[1]
      local oh, ow, top, left = (5 - size) // stride + 1, (6 - size) // stride + 1, 0, 0
      if case[3] == "same" then
        oh, ow = (5 + stride - 1) // stride, (6 + stride - 1) // stride
        top, left = ((oh - 1) * stride + size - 5) // 2, math.max(0, ((ow - 1) * stride + size - 6)) // 2
      end
      assert.same({ 2, oh, ow, 2 }, y:shape())
      assert.same({ oh, ow, 2 }, layer:output_shape { 5, 6, 2 })
      local want = {}
      for n = 1, 2 do
        for i = 1, oh do
          for j = 1, ow do
            for c = 1, 2 do
              local best = -math.huge
              for p = 1, size do
                for q = 1, size do
                  local row = x[n][(i - 1) * stride + p - top]
                  local pixel = row and row[(j - 1) * stride + q - left]
                  if pixel then best = math.max(best, pixel[c]) end
                end
              end
              want[#want + 1] = best
            end
          end
        end
      end
      close(want, y)
    end)
  end
end)

describe("shape layers", function()
  it("Flatten and Reshape keep the order of elements", function()
    local x = nn.arange(0, 24):reshape { 2, 3, 2, 2 }
    local flat = nn.Flatten {}(x)
    assert.same({ 2, 12 }, flat:shape())
    assert.same({ 12 }, nn.Flatten {}:output_shape { 3, 2, 2 })
    local back = nn.Reshape { 3, -1, 2 }(flat)
    assert.same({ 2, 3, 2, 2 }, back:shape())
    assert.same({ 3, 2, 2 }, nn.Reshape { 3, -1, 2 }:output_shape { 12 })
    assert.same(x:totable(), back:totable())
  end)

  it("Reshape refuses sizes that do not fit", function()
    assert.truthy(message(nn.Reshape { 5, -1 }, nn.ones(2, 12)):find("cannot reshape to 5x?, got samples of shape 12", 1, true))
  end)
end)

describe("Dropout", function()
  it("drops and scales in training only", function()
    nn.seed(5)
    local layer, x = nn.Dropout { 0.25 }, nn.ones(100, 100)
    local y = layer(x)
    local zeros, others = 0, 0
    for _, v in ipairs(support.flat(y:totable())) do
      if v == 0 then zeros = zeros + 1 elseif math.abs(v - 4 / 3) < 1e-6 then others = others + 1 end
    end
    assert.equal(10000, zeros + others)
    assert.is_true(math.abs(zeros - 2500) < 5 * math.sqrt(10000 * 0.25 * 0.75), zeros)
    assert.not_same(y:totable(), layer(x):totable())
    layer:eval()
    assert.same(x:totable(), layer(x):totable())
  end)

  it("draws the same from the same seed, in any number of threads", function()
    local layer, x = nn.Dropout { 0.5 }, nn.ones(64, 65)
    local threads = nn.threads()
    nn.seed(9)
    nn.threads(1)
    local a = layer(x):totable()
    nn.seed(9)
    nn.threads(3)
    local b = layer(x):totable()
    nn.threads(threads)
    assert.same(a, b)
  end)

  it("refuses a rate of 1", function()
    assert.equal('Dropout: option "rate" must be at least 0 and below 1, got 1', message(nn.Dropout, { 1 }))
  end)
end)

describe("BatchNorm", function()
  local function channel(x, c)
    local list = {}
    for _, row in ipairs(x) do list[#list + 1] = row[c] end
    local mean, var = 0, 0
    for _, v in ipairs(list) do mean = mean + v / #list end
    for _, v in ipairs(list) do var = var + (v - mean) ^ 2 / #list end
    return mean, var
  end

  it("normalizes by the batch in training and by running averages otherwise", function()
    local x = support.matrix(16, 3, function(i, j) return math.sin(i * j) * j + j end)
    local layer = nn.BatchNorm { momentum = 0.9 }
    local y = layer(nn.tensor(x)):totable()
    local moving = {}
    for c = 1, 3 do
      local mean, var = channel(x, c)
      moving[c] = { 0.1 * mean, 0.9 + 0.1 * var }
      for i = 1, 16 do close((x[i][c] - mean) / math.sqrt(var + 1e-3), y[i][c], 1e-4) end
    end
    close({ moving[1][1], moving[2][1], moving[3][1] }, layer.moving_mean)
    close({ moving[1][2], moving[2][2], moving[3][2] }, layer.moving_variance)
    layer:eval()
    y = layer(nn.tensor(x)):totable()
    for c = 1, 3 do
      for i = 1, 16 do close((x[i][c] - moving[c][1]) / math.sqrt(moving[c][2] + 1e-3), y[i][c], 1e-4) end
    end
    assert.same({ "gamma", "beta", "moving_mean", "moving_variance" }, (function()
      local names = {}
      for i, w in ipairs(layer:weights()) do names[i] = w.name end
      return names
    end)())
  end)

  it("has the gradient of central differences under a random cotangent", function()
    local draw = noise(11)
    local x, r = filled({ 6, 2 }, draw), filled({ 6, 2 }, draw)
    local layer = nn.BatchNorm { gamma_initializer = "random_normal" }
    local function loss(values) return (layer(values) * nn.tensor(r)):sum() end
    local leaf = nn.parameter(x)
    loss(leaf):backward()
    local got = leaf:grad():totable()
    local gamma = layer.gamma:totable()
    -- the same in doubles
    local function plain(values)
      local total = 0
      for c = 1, 2 do
        local mean, var = channel(values, c)
        for i = 1, 6 do total = total + r[i][c] * gamma[c] * (values[i][c] - mean) / math.sqrt(var + 1e-3) end
      end
      return total
    end
    local h = 1e-5
    for i = 1, 6 do
      for c = 1, 2 do
        local keep = x[i][c]
        x[i][c] = keep + h
        local up = plain(x)
        x[i][c] = keep - h
        local down = plain(x)
        x[i][c] = keep
        close((up - down) / (2 * h), got[i][c], 1e-3)
      end
    end
  end)

  it("works on images and keeps still when frozen", function()
    local layer = nn.BatchNorm {}
    assert.same({ 2, 4, 4, 3 }, layer(nn.randn(2, 4, 4, 3)):shape())
    layer:freeze()
    local before = layer.moving_mean:totable()
    layer(nn.randn(2, 4, 4, 3))
    assert.same(before, layer.moving_mean:totable())
  end)
end)

describe("value layers", function()
  it("Rescaling takes bytes", function()
    local bytes = nn.tensor({ { 0, 51, 255 } }, { dtype = "u8" })
    close({ { 0, 0.2, 1 } }, nn.Rescaling { 1 / 255 }(bytes))
    close({ { -1, -0.6, 1 } }, nn.Rescaling { 2 / 255, -1 }(bytes))
  end)

  it("activations", function()
    local x = nn.tensor { { -2, -0.5, 0, 1, 8 } }
    close({ { 0, 0, 0, 1, 8 } }, nn.ReLU {}(x))
    close({ { 0, 0, 0, 1, 6 } }, nn.ReLU { 6 }(x))
    close({ { -0.25, -0.1, -0.05, 1, 8 } }, nn.ReLU { negative_slope = 0.1, threshold = 0.5 }(x))
    close({ { -0.6, -0.15, 0, 1, 8 } }, nn.LeakyReLU {}(x))
    close({ { -0.02, -0.005, 0, 1, 8 } }, nn.LeakyReLU { 0.01 }(x))
    close({ support.softmax { -2, -0.5, 0, 1, 8 } }, nn.Softmax {}(x))
    close({ { math.exp(-2), math.exp(-0.5), 1, math.exp(1), math.exp(8) } }, nn.Activation { "exponential" }(x))
    assert.equal("Activation(tanh)", tostring(nn.Activation { "tanh" }))
    assert.equal("LeakyReLU(0.01)", tostring(nn.LeakyReLU { 0.01 }))
  end)
end)

describe("configuration", function()
  local layers = {
    nn.Dense { 7, activation = "tanh", init = nn.initializers.normal { stddev = 0.5 }, use_bias = false },
    nn.Conv2D { 4, 3, strides = { 2, 1 }, padding = "same", activation = "relu" },
    nn.MaxPooling2D { 3, strides = 2 }, nn.Flatten {}, nn.Reshape { 4, -1 }, nn.Dropout { 0.3 },
    nn.BatchNorm { momentum = 0.8, scale = false }, nn.Rescaling { 1 / 255, -1 }, nn.ReLU { 6 }, nn.LeakyReLU { 0.2 }, nn.Softmax {},
    nn.Activation { "sigmoid" }, nn.Input { 3, 4 },
  }
  for _, layer in ipairs(layers) do
    it("of " .. tostring(layer) .. " makes an equal layer", function()
      local class = getmetatable(layer)
      local config = layer:config()
      config["a key from elsewhere"] = 1
      local copy = class.from_config(class, config)
      assert.same(layer:config(), copy:config())
      assert.equal(tostring(layer), tostring(copy))
    end)
  end

  it("refuses a function without a name", function()
    local layer = nn.Dense { 2, activation = function(x) return x end }
    assert.truthy(message(layer.config, layer):find("activation is a function without a name", 1, true))
  end)
end)

describe("your own layer", function()
  local Scale = nn.class("Scale", nn.Layer)
  Scale.options = { start = { "number", position = 1, default = 1 } }
  function Scale:build(shape) self.gain = self:weight({ shape[#shape] }, nn.initializers.constant { self.start }) end
  function Scale:forward(x) return x * self.gain end

  it("has options, parameters and errors like any other", function()
    local model = nn.Sequential { nn.Input { 3 }, Scale { 2 }, nn.Dense { 1, init = "ones" } }
    close({ { 6 } }, model(nn.ones(1, 3)))
    assert.equal("scale.gain", model:named_parameters()[1].name)
    assert.truthy(message(Scale, { begin = 1 }):find('Scale: unknown option "begin"', 1, true))
  end)

  it("with an init of its own needs nothing else", function()
    local Twice = nn.class("Twice", nn.Layer)
    function Twice:init() self.factor = 2 end
    function Twice:forward(x) return x * self.factor end
    close({ 2, 2 }, Twice()(nn.ones(2)))
  end)
end)

describe("layer:build", function()
  it("of sizes or a batch makes a layer that is built, once", function()
    local dense = nn.Dense { 3 }
    assert.equal(dense, dense:build { 4 })
    assert.is_true(dense.built)
    assert.equal("Dense(4 -> 3)", tostring(dense))
    assert.equal(2, #dense:parameters())
    local kernel = dense.kernel
    dense:build { 4 }
    assert.equal(kernel, dense.kernel)
    assert.same({ 2, 3 }, nn.LSTM { 3 }:build(nn.ones(2, 5, 4))(nn.ones(2, 5, 4)):shape())
    assert.equal(8, #nn.MultiHeadAttention { 2, 3 }:build { 5, 4 }:parameters())
    assert.equal(1, #nn.Embedding { 7, 2 }:build { 5 }:parameters())
    local Own = nn.class("OwnBuilt", nn.Layer)
    function Own:build(shape) self.gain = self:weight({ shape[#shape] }, "ones") end
    function Own:forward(x) return x * self.gain end
    local own = Own()
    own:build { 3 }
    assert.is_true(own.built)
    assert.is_nil(own:first_unbuilt())
  end)
end)
