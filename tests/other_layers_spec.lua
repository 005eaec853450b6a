-- lua/nnlua/layers/activation.lua, noise.lua, merge.lua, products.lua, preprocessing.lua: what is drawn, several tensors, adapt, wrong use, Keras's
-- names. (Values and gradients of most: golden/layers.lua.)
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local it = support.on_device(it)

local function refuses(text, f, ...)
  local told = message(f, ...)
  assert(told:find(text, 1, true), told)
end

describe("activations:", function()
  it("sparsemax is the nearest point of the simplex", function()
    local rows = { { 3, 1, 0.2, 2.5 }, { 0.1, 0.2, 0.1, 0.15 }, { -5, 2, 2, 1.5 } }
    local want = {}
    for _, row in ipairs(rows) do -- by bisection on tau: sum(max(z - tau, 0)) = 1
      local low, high = -10, 10
      for _ = 1, 100 do
        local tau, sum = (low + high) / 2, 0
        for _, z in ipairs(row) do sum = sum + math.max(z - tau, 0) end
        if sum > 1 then low = tau else high = tau end
      end
      for _, z in ipairs(row) do want[#want + 1] = math.max(z - low, 0) end
    end
    close(want, nn.Sparsemax {}(nn.tensor(rows, { dtype = "f32" })), 1e-6)
    close(want, nn.Activation { "sparsemax" }(nn.tensor(rows, { dtype = "f32" })), 1e-6)
    close(nn.tensor(want):reshape { 3, 4 }:transpose(1, 2):totable(), nn.Sparsemax { 1 }(nn.tensor(rows, { dtype = "f32" }):transpose(1, 2)), 1e-6)
    assert(nn.gradcheck(function(x) return (nn.activations.sparsemax(x) * nn.tensor({ 1, -2, 3, 0.5 }, { dtype = "f64" })):sum() end,
      { nn.tensor(rows, { dtype = "f64" }) }))
  end)
  it("RReLU draws slopes in training", function()
    local layer = nn.RReLU { 0.2, 0.4 }
    local x = nn.full({ 2000 }, -1)
    local y = layer(x)
    assert(y:amin():item() >= -0.4 and y:amax():item() <= -0.2 and y:std():item() > 0.03)
    close({ -0.3 }, y:mean():reshape(1), 0.02)
    assert.equal(0, (layer:eval()(x) + 0.3):abs():amax():item() // 1e-6)
  end)
  it("Keras's other names, and how they print", function()
    assert.equal(nn.SiLU, nn.Swish)
    assert.equal(nn.HardSwish, nn.HardSiLU)
    for code, text in pairs { ["nn.Threshold{0.1, 20}"] = "Threshold(0.1, 20)", ["nn.GELU{true}"] = "GELU(tanh)",
      ["nn.SoftShrink{}"] = "SoftShrink(0.5)",
      ["nn.RReLU{}"] = "RReLU(0.125, 0.333333)", ["nn.LogSoftmax{2}"] = "LogSoftmax(axis 2)", ["nn.SELU{}"] = "SELU()" } do
      assert.equal(text, tostring(load("local nn = ... return " .. code)(nn)))
    end
  end)
  it("refuse what they cannot take", function()
    refuses("GLU needs an even size along axis -1, got samples of shape 3", nn.GLU {}, nn.zeros(2, 3))
    refuses("axis 1 must be a dim of the samples (2 to 3", nn.PReLU { shared_axes = 1 }, nn.zeros(2, 3, 3))
    refuses('option "alpha" must be above 0', nn.CELU, { 0 })
    assert.same({ 8 }, nn.CReLU {}:output_shape { 4 })
    assert.same({ 2 }, nn.GLU {}:output_shape { 4 })
  end)
end)

describe("noise:", function()
  local x = nn.normal { 400, 50 }
  local function moments(t) return t:mean():item(), t:var():item() end

  it("AlphaDropout keeps mean and variance, and drops to selu's least value", function()
    nn.seed(4)
    local layer = nn.AlphaDropout { 0.3 }
    local mean, var = moments(layer(x))
    close({ 0, 1 }, { mean, var }, 0.06)
    local least = -1.7580993408473766
    local a = (0.7 * (1 + 0.3 * least ^ 2)) ^ -0.5
    local dropped = a * least - a * least * 0.3
    local y = layer(nn.zeros(1000, 20))
    local share = (y - dropped):abs():lt(1e-5):float():mean():item()
    close({ 0.3 }, { share }, 0.03)
    assert.equal(x, layer:eval()(x))
  end)
  it("noise_shape draws once", function()
    for _, layer in ipairs { nn.Dropout { 0.5, noise_shape = { -1, 1 } }, nn.AlphaDropout { 0.5, noise_shape = { -1, 1 } } } do
      local y = layer(nn.ones(300, 8))
      assert.equal(0, (y:amax(2) - y:amin(2)):abs():amax():item()) -- rows are dropped whole
      assert(y:std():item() > 0.3)
    end
    refuses("noise_shape has 1 dims, the batch 2", nn.Dropout { 0.5, noise_shape = { 1 } }, x)
    refuses("noise_shape[2] must be 1, -1 or the input's 50, got 7", nn.Dropout { 0.5, noise_shape = { 1, 7 } }, x)
  end)
  it("SpatialDropout3D drops channels, DropPath samples", function()
    nn.seed(1)
    local y = nn.SpatialDropout3D { 0.5 }(nn.ones(20, 2, 3, 4, 5)):reshape { 20, 24, 5 }
    assert.equal(0, (y:amax(2) - y:amin(2)):abs():amax():item())
    close({ 1 }, { y:mean():item() }, 0.3)
    refuses("needs volumes (N, D, H, W, C)", nn.SpatialDropout3D { 0.5 }, nn.ones(2, 3, 4))
    local path = nn.DropPath { 0.25 }
    y = path(nn.ones(4000, 3))
    assert.equal(0, (y:amax(2) - y:amin(2)):abs():amax():item())
    close({ 1 }, { y:mean():item() }, 0.05)
    close({ 4 / 3 }, { y:amax():item() })
    assert.equal(x, path:eval()(x))
    assert.equal(nn.DropPath, nn.StochasticDepth)
  end)
  it("ActivityRegularization adds to the loss, once per call", function()
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 2, init = "identity" }, nn.ActivityRegularization { l1 = 0.5, l2 = 2 } }
    local y = model(nn.tensor { { 1.0, -3.0 } })
    close({ 0.5 * 4 + 2 * 10 }, model:regularization():reshape(1))
    assert.is_nil(model:regularization())
    close({ 1, -3 }, y)
    model:compile { optimizer = nn.optim.SGD { lr = 0 }, loss = "mse" }
    local loss = model:train_on_batch(nn.tensor { { 1.0, -3.0 } }, nn.tensor { { 1.0, -3.0 } })
    model:predict(nn.ones(3, 2))
    assert.is_nil(model:regularization()) -- what predict saw is no part of a loss
    close({ 22 }, { type(loss) == "table" and loss.loss or loss })
    close({ 0 }, { (model:evaluate(nn.tensor { { 1.0, -3.0 } }, nn.tensor { { 1.0, -3.0 } })) })
    assert.is_nil(model:regularization())
    local input = nn.Input { 2 }
    local graph = nn.Model { inputs = input, outputs = nn.ActivityRegularization { l1 = 1 }(input) }
    assert.is_nil(graph:regularization()) -- of the call that told the shape
    graph(nn.tensor { { 1.0, -3.0 }, { 2.0, 0.0 } })
    close({ 3 }, graph:regularization():reshape(1)) -- per sample of the batch
  end)
  it("activity_regularizer is an option of every layer", function()
    for _, layer in ipairs { nn.Dense { 2, init = "identity", activity_regularizer = nn.regularizers.l2 { 0.5 } },
      nn.ReLU { negative_slope = 1, activity_regularizer = nn.regularizers.l2 { 0.5 } } } do
      local model = nn.Sequential { nn.Input { 2 }, layer }
      model(nn.tensor { { 1.0, -3.0 }, { 2.0, 0.0 } })
      close({ 0.5 * 14 / 2 }, model:regularization():reshape(1))
      assert.is_nil(model:regularization())
      local file = os.tmpname()
      assert(model:save(file))
      local copy = assert(nn.load(file))
      os.remove(file)
      copy:train()
      copy(nn.tensor { { 1.0, -3.0 }, { 2.0, 0.0 } })
      close({ 3.5 }, copy:regularization():reshape(1))
    end
    -- a sequence and its states: of the sequence
    local lstm = nn.LSTM { 3, return_sequences = true, return_state = true, activity_regularizer = "l1" }
    local y, h = lstm(nn.ones(2, 4, 5))
    assert.same({ 2, 3 }, h:shape())
    close((y:abs():sum() * 0.01 / 2):reshape(1):totable(), lstm:regularization():reshape(1), 1e-6)
  end)
end)

describe("several tensors:", function()
  local a, b = nn.normal { 2, 3, 4 }, nn.normal { 2, 1, 4 }
  it("broadcast, and tell the shape", function()
    for _, name in ipairs { "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum" } do
      local layer = nn[name] {}
      local y = layer(a, b)
      assert.same({ 2, 3, 4 }, y:shape())
      assert.same({ 3, 4 }, layer:output_shape { { 3, 4 }, { 1, 4 } })
      refuses(name .. ": the sizes must be equal, or 1, got samples of shapes 3x4 and 2x4", layer.output_shape, layer, { { 3, 4 }, { 2, 4 } })
      assert.equal(name .. "()", tostring(layer))
    end
    assert.same({ -1, 4 }, nn.Add {}:output_shape { { -1, 4 }, { 1, 4 } })
  end)
  it("Concatenate tells the shape", function()
    assert.same({ 4, 4 }, nn.Concatenate { axis = 2 }:output_shape { { 3, 4 }, { 1, 4 } })
    assert.same({ 3, 9 }, nn.Concatenate {}:output_shape { { 3, 4 }, { 3, 5 } })
    assert.same({ 3, -1 }, nn.Concatenate {}:output_shape { { 3, 4 }, { 3, -1 } })
    refuses("the sizes must be equal but along axis -1, got samples of shapes 3x4 and 2x4", nn.Concatenate {}, a, nn.zeros(2, 2, 4))
    assert.same({ 2, 4, 4 }, nn.Concatenate { axis = 2 }(a, b):shape())
  end)
  it("Dot and Bilinear refuse what does not fit", function()
    refuses("dims 3 and 2 must be equal, got samples of shapes 3x4 and 3x4", nn.Dot { axes = { 3, 2 } }, a, a)
    refuses("axis 1 must be a dim of the samples", nn.Dot { axes = 1 }, a, a)
    refuses("takes 2 tensors, got 3", nn.Dot { axes = 2 }, a, a, a)
    refuses("must be a dim, or one of each tensor", nn.Dot, { axes = { 1, 2, 3 } })
    refuses("the sizes must be equal but for the last dim", nn.Bilinear { 3 }, a, nn.zeros(2, 2, 4))
    local layer = nn.Bilinear { 3, activation = "relu" }
    layer(a, a)
    assert.equal("Bilinear(4, 4 -> 3, relu)", tostring(layer))
    assert.same({ 4, 4, 3 }, layer.kernel:shape())
  end)
  it("EinsumDense refuses equations that do not fit", function()
    refuses('option "equation" must be like "ab,bc->ac"', nn.EinsumDense, { "ab->a", output_shape = 3 })
    refuses("ab,bc->ac names other dims, got samples of shape 3x4", nn.EinsumDense { "ab,bc->ac", output_shape = 3 }, a)
    refuses("has 2 letters for an output_shape of 1 sizes", nn.EinsumDense { "abc,cd->abd", output_shape = 3 }, a)
    refuses("output_shape has 5 for 'b', which is 3", nn.EinsumDense { "abc,cd->abd", output_shape = { 5, 2 } }, a)
    refuses("bias_axes has 'z'", nn.EinsumDense { "abc,cd->abd", output_shape = { -1, 2 }, bias_axes = "z" }, a)
  end)
end)

describe("Normalization", function()
  local rows = { { 1, 10, 5 }, { 2, 20, 5 }, { 6, 60, 5 }, { 7, 70, 5 } }
  local x = nn.tensor(rows, { dtype = "f32" })
  it("adapts to a tensor or a data set", function()
    local want = {}
    for _, row in ipairs(rows) do
      local d = { math.sqrt(((1 - 4) ^ 2 + (2 - 4) ^ 2 + (6 - 4) ^ 2 + (7 - 4) ^ 2) / 4) }
      for j = 1, 2 do want[#want + 1] = (row[j] - (j == 1 and 4 or 40)) / (d[1] * (j == 1 and 1 or 10)) end
      want[#want + 1] = 0
    end
    local layer = nn.Normalization {}
    layer:adapt(x)
    close(want, layer(x))
    local other = nn.Normalization {}
    other:adapt(nn.data.from_tensors(x):batch(3)) -- batches of 3 and 1
    close(want, other(x))
    local mean, variance = layer.mean:reshape(-1):totable(), layer.variance:reshape(-1):totable()
    close(rows, nn.Normalization { mean = mean, variance = variance, invert = true }(layer(x)), 1e-4)
    refuses("adapt takes a tensor or a data set", layer.adapt, layer, 3)
  end)
  it("has one mean for all, or one per place of several axes", function()
    local layer = nn.Normalization { axis = false }
    layer:adapt(x)
    close({ 0, 1 }, { layer(x):mean():item(), layer(x):square():mean():item() }, 1e-4)
    layer = nn.Normalization { axis = { 2, 3 } }
    layer:adapt(nn.normal { 50, 2, 3 })
    assert.same({ { 2, 3 }, { 2, 3 }, 50 }, { layer.mean:shape(), layer.variance:shape(), layer.count:item() })
    close({ 1, 2 }, nn.Normalization { mean = 2, variance = 4 }(nn.tensor { { 4.0, 6.0 } }))
    refuses("give both mean and variance", nn.Normalization, { mean = 2 })
    refuses("2 means for 3 places", nn.Normalization { mean = { 1, 2 }, variance = { 1, 1 } }, x)
  end)
  it("is held by files", function()
    local model = nn.Sequential { nn.Input { 3 }, nn.Normalization {}, nn.Dense { 2 } }
    model[2]:adapt(x)
    local file = os.tmpname()
    assert(model:save(file))
    local copy = assert(nn.load(file))
    os.remove(file)
    assert.same(model(x):totable(), copy(x):totable())
    assert.same(4, math.floor(copy[2].mean:totable()[1] + 0.5))
  end)
end)

describe("ids:", function()
  local ids = nn.tensor({ { 1, 3, 3 }, { 2, 1, 4 } }, { dtype = "i64" })
  it("CategoryEncoding", function()
    assert.same({ { 1, 0, 1, 0 }, { 1, 1, 0, 1 } }, nn.CategoryEncoding { 4 }(ids):totable())
    assert.same({ { 1, 0, 2, 0 }, { 1, 1, 0, 1 } }, nn.CategoryEncoding { 4, output_mode = "count" }(ids):totable())
    local weights = nn.tensor { { 0.5, 1, 2 }, { 1, 2, 3 } }
    assert.same({ { 0.5, 0, 3, 0 }, { 2, 1, 0, 3 } }, nn.CategoryEncoding { 4, output_mode = "count" }(ids, weights):totable())
    assert.same({ 2, 3, 4 }, nn.CategoryEncoding { 4, output_mode = "one_hot" }(ids):shape())
    assert.same({ { 0, 1 } }, nn.CategoryEncoding { 2, output_mode = "one_hot" }(nn.tensor({ { 2 } }, { dtype = "i64" })):totable())
    assert.same({ { 0, 1 } }, nn.CategoryEncoding { 2 }(nn.tensor({ 2 }, { dtype = "i64" })):totable())
    assert.same({ 4 }, nn.CategoryEncoding { 4 }:output_shape { 3 })
    assert.same({ 3, 4 }, nn.CategoryEncoding { 4, output_mode = "one_hot" }:output_shape { 3 })
    refuses("5", function() return nn.CategoryEncoding { 4 }(nn.tensor({ { 5 } }, { dtype = "i64" })):totable() end)
    refuses('count_weights need output_mode = "count"', nn.CategoryEncoding { 4 }, ids, weights)
  end)
  it("Discretization", function()
    local x = nn.tensor { { -1.0, 0.0, 0.4 }, { 1.0, 5.0, 0.0 } }
    assert.same({ { 1, 2, 2 }, { 3, 3, 2 } }, nn.Discretization { { 0, 1 } }(x):totable())
    assert.same({ { 1, 1, 0 }, { 0, 1, 1 } }, nn.Discretization { { 0, 1 }, output_mode = "multi_hot" }(x):totable())
    local layer = nn.Discretization { num_bins = 4 }
    layer:adapt(nn.randperm(1000):float())
    local found = layer(nn.arange(1, 1001):float()):reshape(1, 1000)
    assert.same({ 250, 250, 250, 250 }, nn.CategoryEncoding { 4, output_mode = "count" }(found):totable()[1])
    refuses("bin_boundaries must be numbers that grow", nn.Discretization, { { 1, 1 } })
    refuses("give either bin_boundaries or num_bins", nn.Discretization, {})
  end)
  it("Hashing spreads evenly, the same every time", function()
    local function splitmix(v) -- in Lua's own integers
      local h = v + 0x9E3779B97F4A7C15
      h = (h ~ (h >> 30)) * 0xBF58476D1CE4E5B9
      h = (h ~ (h >> 27)) * 0x94D049BB133111EB
      return ((h ~ (h >> 31)) & math.maxinteger) % 10 + 1
    end
    local want = {}
    for i = 1, 500 do want[i] = splitmix(i - 250) end
    assert.same(want, nn.Hashing { 10 }(nn.arange(-249, 251, 1, "i64")):totable())
    local counts = nn.Hashing { 10, output_mode = "count" }(nn.arange(1, 10001, 1, "i64"):reshape(1, -1)):totable()[1]
    for _, n in ipairs(counts) do assert(n > 850 and n < 1150) end
    local masked = nn.Hashing { 5, mask_value = 7, salt = 3 }(nn.arange(1, 101, 1, "i64")):totable()
    for i, id in ipairs(masked) do assert((id == 1) == (i == 7) and id <= 5) end
  end)
end)

describe("Keras's configuration", function()
  local keras = require "nnlua.keras"
  local function told(...) return keras.sequential(nn.Sequential { ... }:config()).layers end
  it("counts dims from 0, and knows what is wrapped", function()
    local list = told(nn.Input { 4, 4, 6 },
      nn.PReLU { shared_axes = { 2, 3 } }, nn.GroupNorm { 3, axis = 4 }, nn.BatchNorm { axis = 3 },
      nn.BatchNorm {},
      nn.SpectralNorm { nn.Conv2D { 3, 1 } }, nn.Conv2DTranspose { 2, 3, strides = 2 }, nn.UpSampling2D { 2 }, nn.ZeroPadding2D { 1 })
    assert.same({ 1, 2 }, list[2].config.shared_axes)
    assert.same({ "GroupNormalization", 3, 3 }, { list[3].class_name, list[3].config.axis, list[3].config.groups })
    assert.same({ 2, nil }, { list[4].config.axis, list[5].config.axis })
    assert.same({ "SpectralNormalization", "Conv2D", 3 },
      { list[6].class_name, list[6].config.layer.class_name, list[6].config.layer.config.filters })
    assert.is_nil(list[6].config.layer.config.groups)
    assert.same({ 2, 2 }, list[7].config.strides)
    assert.same({ { 1, 1 }, { 1, 1 } }, list[9].config.padding)
  end)
  it("of sequences has pairs and numbers where Keras wants them", function()
    local list = told(nn.Input { 8, 2 }, nn.Conv1D { 3, 3, padding = "causal" }, nn.UpSampling1D { 3 }, nn.ZeroPadding1D { 2 },
      nn.Cropping1D { { 1, 0 } }, nn.MaxPooling1D {}, nn.SeparableConv1D { 4, 2 }, nn.DepthwiseConv1D { 2 })
    assert.same({ { 3 }, "causal" }, { list[2].config.kernel_size, list[2].config.padding })
    assert.equal(3, list[3].config.size)
    assert.same({ 2, 2 }, list[4].config.padding)
    assert.same({ 1, 0 }, list[5].config.cropping)
    assert.same({ 1, "glorot_uniform" }, { list[7].config.depth_multiplier, nn.initializers.get(list[7].config.pointwise_initializer).label })
    assert.is_nil(list[8].config.kernel_initializer)
  end)
end)
