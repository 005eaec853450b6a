-- Mixed precision: nn.policy, the loss scale of optimizers, nn.matmul_precision.
local nn = require "nnlua"

local function with_policy(name, f)
  local before = nn.policy(name)
  local ok, why = pcall(f)
  nn.policy(before)
  assert(ok, why)
end

local function small()
  return nn.Sequential { nn.Input { 28, 28, 1 }, nn.Conv2D { 8, 3, strides = 2, activation = "relu" }, nn.BatchNorm {},
    nn.Flatten {}, nn.Dense { 10 } }
end

local function bytes_of(model, optimizer)
  local list = {}
  for _, w in ipairs(model:weights()) do list[#list + 1] = w.tensor:tostring_bytes() end
  for _, s in ipairs(optimizer:state().slots) do list[#list + 1] = s.tensor:tostring_bytes() end
  return table.concat(list)
end

-- Layers over sequences (N, T, 4), by name: made under a policy, called with x (and themselves as value).
local sequences = {
  SimpleRNN = function() return nn.SimpleRNN { 6, return_sequences = true } end,
  LSTM = function() return nn.LSTM { 6, return_sequences = true } end,
  ["LSTM, step by step"] = function() return nn.LSTM { 6, activation = "relu", return_sequences = true } end,
  GRU = function() return nn.GRU { 6 } end,
  ["GRU, reset before"] = function() return nn.GRU { 6, reset_after = false } end,
  ["RNN of cells"] = function() return nn.RNN { { nn.LSTMCell { 6 }, nn.GRUCell { 5 } }, return_sequences = true } end,
  Bidirectional = function() return nn.Bidirectional { nn.LSTM { 3 } } end,
  MultiHeadAttention = function() return nn.MultiHeadAttention { 2, 3 } end,
  GroupedQueryAttention = function() return nn.GroupedQueryAttention { 3, 4, 2 } end,
}

describe("under a policy", function()
  for name, make in pairs(sequences) do
    it(name .. " computes in halves, near what it gives in f32", function()
      local x = nn.normal { 3, 5, 4 }
      local mask = nn.tensor { { true, true, true, true, true }, { true, true, false, false, false }, { false, true, true, false, true } }
      for policy, dtype in pairs { mixed_float16 = "f16", mixed_bfloat16 = "bf16" } do
        local unit = dtype == "f16" and 2 ^ -10 or 2 ^ -7
        local full = make()
        local half
        with_policy(policy, function() half = make() end) -- parameters are made under another policy
        local function call(layer, input)
          if name:find "Attention" then return (layer(input, input)) end
          return (layer(input))
        end
        for _, input in ipairs { x, nn.with_mask(x, mask) } do
          local want = call(full, input)
          call(half, input)
          half:load_state(full:state())
          local got = call(half, input)
          assert.equal(dtype, got:dtype())
          local off = (got:float() - want):abs()
          if name:find "Attention" and input ~= x then off = off * mask:float():unsqueeze(3) end -- what a step that does not count sees is open
          local error = off:amax():item()
          assert(error < 8 * unit, ("%s: off by %g"):format(policy, error)) -- false for NaN
          assert(error > 0, "computed in f32")
        end
        for _, w in ipairs(half:weights()) do assert.equal("f32", w.tensor:dtype()) end
        call(half, x):float():square():sum():backward()
        for _, w in ipairs(half:named_parameters()) do assert.is_true(w.tensor:grad():abs():sum():item() < math.huge, w.name) end
      end
    end)
  end
end)

describe("under a policy", function()
  it("ConvLSTM2D and a cell alone compute in halves", function()
    local x, full, half, cell = nn.normal { 2, 3, 4, 4, 1 }, nn.ConvLSTM2D { 2, 3, padding = "same" }, nil, nil
    with_policy("mixed_float16", function() half, cell = nn.ConvLSTM2D { 2, 3, padding = "same" }, nn.LSTMCell { 4 } end)
    full(x)
    half(x)
    half:load_state(full:state())
    local y = half(x)
    assert.equal("f16", y:dtype())
    assert.is_true((y:float() - full(x)):abs():amax():item() < 2 ^ -8)
    local h, states = cell(nn.ones(2, 3))
    assert.same({ "f16", "f16" }, { h:dtype(), states[2]:dtype() })
  end)

  it("a model with recurrent layers trains, and comes back from its file computing in halves", function()
    local model
    with_policy("mixed_float16", function() model = nn.Sequential { nn.Input { 6, 3 }, nn.LSTM { 4 }, nn.Dense { 1 } } end)
    model:compile { optimizer = "adam", loss = "mse" }
    local history = model:fit { nn.normal { 32, 6, 3 }, nn.zeros(32, 1), epochs = 5, verbose = 0 }
    assert.is_true(history.loss[5] < history.loss[1])
    assert.equal(32768, model.compiled.optimizer:current_scale())
    local file = os.tmpname()
    assert(model:save(file))
    local again = assert(nn.load(file))
    os.remove(file)
    assert.same({ "f16", "f16" }, { again[2].compute_dtype, again[2].cell.compute_dtype })
    assert.same(model:predict(nn.ones(2, 6, 3)):totable(), again:predict(nn.ones(2, 6, 3)):totable())
  end)
end)

describe("policy", function()
  it("has three names, and says so", function()
    assert.equal("float32", nn.policy())
    assert.has_error(function() nn.policy "mixed_floaty16" end)
    local _, message = pcall(nn.policy, "mixed_float61")
    assert.truthy(tostring(message):find("valid: float32, mixed_bfloat16, mixed_float16", 1, true))
    assert.equal("float32", nn.policy())
  end)

  it("layers compute in halves over weights of f32; norms, softmax and losses in f32", function()
    for name, dtype in pairs { mixed_float16 = "f16", mixed_bfloat16 = "bf16" } do
      with_policy(name, function()
        local x, dense = nn.randn(4, 6), nn.Dense { 3, activation = "relu" }
        local y = dense(x)
        assert.same({ dtype, "f32" }, { y:dtype(), dense.kernel:dtype() })
        local function wide(t) return t:to "cpu":to "f64" end
        local want = wide(x:to(dtype)):matmul(wide(dense.kernel:to(dtype))):relu()
        local unit = 2 ^ (dtype == "f16" and -10 or -7)
        assert.is_true((wide(y) - want):abs():max():item() <= want:abs():max():item() * unit)
        y:sum():backward()
        assert.equal("f32", dense.kernel:grad():dtype())
        local norm = nn.LayerNorm {}
        local centred = norm(y + 100)
        assert.equal(dtype, centred:dtype())
        local reference = nn.LayerNorm { dtype = "float32" }((y + 100):to "f32")
        assert.is_true((centred:to "f32" - reference):abs():max():item() < (dtype == "f16" and 2e-3 or 2e-2))
        assert.equal("f32", nn.Dense { 3, activation = "softmax" }(x):dtype())
        assert.equal("f32", nn.Softmax {}(y):dtype())
        assert.equal("f32", nn.Dense { 3, dtype = "float32" }(x):dtype())
        assert.equal("f32", nn.losses.cross_entropy(y, nn.tensor({ 1, 2, 3, 1 }, "i64")):dtype())
        assert.equal("f32", nn.losses.mse(y, y):dtype())
        assert.equal(dtype, nn.Conv2D { 2, 3 }(nn.randn(1, 5, 5, 2)):dtype())
      end)
    end
    assert.equal("f32", nn.Dense { 3 }(nn.randn(4, 6)):dtype())
  end)

  it("every kind of layer with a kernel, and every norm", function()
    with_policy("mixed_float16", function()
      local sequence, image = nn.randn(2, 6, 4), nn.randn(2, 6, 6, 4)
      for layer, x in pairs {
        [nn.EinsumDense { "abc,cd->abd", output_shape = { 6, 3 }, bias_axes = "d" }] = sequence, [nn.Conv1D { 2, 3, padding = "causal" }] = sequence,
        [nn.Conv1DTranspose { 2, 3 }] = sequence, [nn.Conv2DTranspose { 2, 3 }] = image, [nn.DepthwiseConv2D { 2 }] = image,
        [nn.SeparableConv2D { 3, 2 }] = image, [nn.SpectralNorm { nn.Conv2D { 2, 3 } }] = image, [nn.WeightNorm { nn.Dense { 2 } }] = sequence } do
        layer:eval()
        local y = layer(x)
        assert.equal("f16", y:dtype(), tostring(layer))
        y:sum():backward()
        for _, w in ipairs(layer:named_parameters()) do assert.equal("f32", w.tensor:grad():dtype(), w.name) end
        nn.policy "float32"
        local copy = getmetatable(layer).from_config(getmetatable(layer), layer:config())
        nn.policy "mixed_float16"
        assert.equal("f16", copy:eval()(x):dtype()) -- the configuration says it
      end
      local half = (image * 100):to "f16" -- squares of it are beyond f16
      for _, c in ipairs { nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, nn.UnitNorm, nn.InstanceNorm } do
        local y, want = c {}(half), c { dtype = "float32" }(half:to "f32")
        assert.equal("f16", y:dtype())
        assert.is_true((y:to "f32" - want):abs():max():item() < 3e-3)
      end
      for _, name in ipairs { "Softmax", "LogSoftmax", "Softmin", "Sparsemax" } do assert.equal("f32", nn[name] {}(half):dtype()) end
    end)
  end)

  it("travels with the layer's configuration, Keras's words included", function()
    with_policy("mixed_float16", function()
      local model = small()
      assert.equal("mixed_float16", model[2]:config().dtype)
      nn.policy "float32"
      local again = nn.Conv2D.from_config(nn.Conv2D, model[2]:config())
      assert.equal("f16", again(nn.randn(1, 5, 5, 2)):dtype())
      local keras = { filters = 2, kernel_size = 3, dtype = { class_name = "Policy", config = { name = "mixed_bfloat16" } } }
      assert.equal("bf16", nn.Conv2D.from_config(nn.Conv2D, keras)(nn.randn(1, 5, 5, 2)):dtype())
      assert.is_nil(nn.Dense.from_config(nn.Dense, { units = 2, dtype = "float32" }):config().dtype)
    end)
  end)

  it("trains digits as well as f32 does", function()
    local accuracy, n, best, room = {}, 2000, 0.85, 0.03
    if nn.device() ~= "cpu" then n, best, room = 300, 0.5, 0.08 end -- a software device takes its time
    for _, name in ipairs { "float32", "mixed_float16", "mixed_bfloat16" } do
      with_policy(name, function()
        nn.seed(3)
        local train, test = nn.datasets.digits { train = n, test = 500 }
        local model = small()
        model:compile { optimizer = nn.optim.Adam { lr = 2e-3 }, loss = "sparse_categorical_crossentropy",
          from_logits = true, metrics = { "accuracy" } }
        assert.equal(name == "mixed_float16" and "dynamic" or nil, model.compiled.optimizer.loss_scale)
        model:fit { train:batch(50), epochs = 3, verbose = 0 }
        local _, figures = model:evaluate(test:batch(250))
        accuracy[name] = figures.accuracy
        assert.equal("f32", model[2].kernel:dtype())
        assert.equal("f32", model:predict(nn.ones(2, 28, 28, 1)):dtype())
      end)
    end
    assert(accuracy.float32 > best, accuracy.float32)
    assert(math.abs(accuracy.mixed_float16 - accuracy.float32) < room, accuracy.mixed_float16)
    assert(math.abs(accuracy.mixed_bfloat16 - accuracy.float32) < room + 0.02, accuracy.mixed_bfloat16)
  end)
end)

describe("the loss scale", function()
  local makers = {
    Adam = function(p, o) return nn.optim.Adam { p, lr = 0.1, loss_scale = o } end,
    AMSGrad = function(p, o) return nn.optim.Adam { p, lr = 0.1, amsgrad = true, use_ema = true, loss_scale = o } end,
    SGD = function(p, o) return nn.optim.SGD { p, lr = 0.1, momentum = 0.9, global_clipnorm = 1, loss_scale = o } end,
    RMSprop = function(p, o) return nn.optim.RMSprop { p, lr = 0.1, loss_scale = o } end,
  }
  local function step(opt, w, factor)
    opt:zero_grad()
    opt:scale_loss((w * w * factor):sum()):backward()
    opt:step()
  end

  for name, make in pairs(makers) do
    it(name .. ": changes nothing where the gradients are finite", function()
      local a, b = nn.parameter { 3, -2 }, nn.parameter { 3, -2 }
      local scaled, plain = make({ a }, "dynamic"), make({ b }, nil)
      for _ = 1, 5 do
        step(scaled, a, 0.5)
        step(plain, b, 0.5)
      end
      assert.same(b:totable(), a:totable()) -- a power of two rounds nothing
      assert.equal(2 ^ 15, scaled:current_scale())
      assert.is_nil(plain:current_scale())
    end)

    it(name .. ": an overflow halves it and leaves weights and state", function()
      local w, still = nn.parameter { 3, -2 }, nn.parameter { 1 }
      local opt = make({ w, still }, "dynamic")
      step(opt, w, 0.5)
      local function all()
        local list = { w:tostring_bytes(), still:tostring_bytes() }
        for _, s in ipairs(opt:state().slots) do
          if s.name ~= "loss_scale" then list[#list + 1] = s.tensor:tostring_bytes() end
        end
        return table.concat(list)
      end
      local before = all()
      for i, bad in ipairs { 1e38, 0 / 0, -1e38 } do
        step(opt, w, bad)
        assert.is_true(before == all(), "a bad step changed something")
        assert.equal(2 ^ (15 - i), opt:current_scale())
      end
      step(opt, w, 0.5)
      assert.is_false(before == all())
      assert.equal(2 ^ 12, opt:current_scale())
    end)
  end

  it("doubles after so many good steps in a row, and is never below 1", function()
    local w = nn.parameter { 3 }
    local opt = nn.optim.SGD { { w }, lr = 1e-3, loss_scale = { initial = 4, steps = 3 } }
    local seen = {}
    for i, factor in ipairs { 1, 1, 1, 1, 1, 0 / 0, 1, 1, 1, 0 / 0, 0 / 0, 0 / 0, 0 / 0, 0 / 0 } do
      step(opt, w, factor)
      seen[i] = opt:current_scale()
    end
    assert.same({ 4, 4, 8, 8, 8, 4, 4, 4, 8, 4, 2, 1, 1, 1 }, seen)
  end)

  it("a number stays what it is", function()
    local w = nn.parameter { 3 }
    local opt = nn.optim.SGD { { w }, lr = 1e-3, loss_scale = 128 }
    step(opt, w, 0 / 0)
    step(opt, w, 1)
    assert.equal(128, opt:current_scale())
    assert.has_error(function() nn.optim.SGD { { w }, lr = 1e-3, loss_scale = "much" } end)
  end)

  it("with accumulated gradients a bad one spoils its step only", function()
    local w = nn.parameter { 3, -2 }
    local opt = nn.optim.SGD { { w }, lr = 0.1, gradient_accumulation_steps = 2, loss_scale = "dynamic" }
    step(opt, w, 0.5)
    step(opt, w, 0 / 0)
    assert.same({ 3, -2 }, w:totable())
    assert.equal(2 ^ 14, opt:current_scale())
    step(opt, w, 0.5)
    step(opt, w, 0.5)
    assert.is_true((w - nn.tensor { 2.7, -1.8 }):abs():max():item() < 1e-6)
  end)

  it("keeps small gradients of f16 alive", function()
    local function gradient(scale)
      local w = nn.parameter { 1 }
      local opt = nn.optim.SGD { { w }, lr = 1, loss_scale = scale }
      local loss = (w:to "f16" * 2 ^ -10):to "f32":sum() * 2 ^ -16 -- the cotangent in f16 is 2^-16 * 2^-10: 0
      opt:scale_loss(loss):backward()
      opt:step()
      return w:grad():item()
    end
    assert.equal(0, gradient(nil))
    assert.is_true(gradient "dynamic" > 0)
  end)

  it("travels with checkpoints: a resumed run is the same to the bit", function()
    with_policy("mixed_float16", function()
      local file = os.tmpname()
      local function make()
        nn.seed(5)
        local model = small()
        model:compile { optimizer = nn.optim.Adam { lr = 1e-3, loss_scale = { initial = 2 ^ 30, steps = 7 } },
          loss = "sparse_categorical_crossentropy", from_logits = true }
        return model
      end
      local function data() return (nn.datasets.digits { train = 500, test = 10 }):shuffle(500, { seed = 1 }):batch(50) end
      local whole = make()
      whole:fit { data(), epochs = 2, verbose = 0 }
      local scale = whole.compiled.optimizer:current_scale()
      assert(scale < 2 ^ 30, "nothing overflowed")
      local half = make()
      half:fit { data(), epochs = 1, verbose = 0, save = file }
      local again = make()
      again:fit { data(), epochs = 2, verbose = 0, resume = file }
      assert.is_true(bytes_of(whole, whole.compiled.optimizer) == bytes_of(again, again.compiled.optimizer))
      assert.equal(scale, again.compiled.optimizer:current_scale())
      nn.policy "float32"
      local loaded = assert(nn.load(file))
      assert.equal("f16", loaded[2](nn.ones(1, 28, 28, 1)):dtype())
      assert.equal(half.compiled.optimizer:current_scale(), loaded.compiled.optimizer:current_scale())
      os.remove(file)
    end)
  end)
end)

describe("halves on Vulkan", function()
  local device
  for _, d in ipairs(nn.devices()) do
    if d.name:find "^vulkan" then device = device or d.name end
  end

  local function close_to(what, got, want, dtype) -- got: halves; want: f64. Half a unit of the last place, and what sums in f32 lose
    assert.equal(dtype, got:dtype(), what)
    local g, w = got:to "cpu":to "f64", want
    local room = w:abs() * 2 ^ (dtype == "f16" and -11 or -8) + w:abs():max() * 1e-6 + 2 ^ -25
    local over = ((g - w):abs() - room):max():item()
    assert(over <= 0, ("%s %s: off by %g"):format(what, dtype, over))
  end

  it("products and convolutions take them, sum in f32 and round once", function()
    if not device then return pending "no Vulkan device" end
    nn.seed(7)
    for _, dtype in ipairs { "f16", "bf16" } do
      local function both(shape)
        local x = nn.randn(shape):to(dtype)
        if nn.device() ~= "cpu" then x = x:to "cpu" end
        return x:to "f64":requires_grad(true), x:to(device):requires_grad(true)
      end
      local a, da = both { 3, 9, 20 }
      local b, db = both { 20, 7 }
      local c, dc = both { 3, 9, 7 }
      close_to("matmul", da:matmul(db), a:matmul(b), dtype)
      local want, got = nn.grad((a:matmul(b) * c):sum(), { a, b }), nn.grad((da:matmul(db) * dc):sum(), { da, db })
      for i = 1, 2 do close_to("its gradient " .. i, got[i], want[i], dtype) end
      for groups, out in pairs { [1] = 6, [2] = 6, [8] = 8 } do
        local x, dx = both { 2, 7, 6, 8 }
        local k, dk = both { 3, 3, 8 // groups, out }
        local o = { padding = "same", groups = groups, stride = 2 }
        local y, dy = nn.conv2d(x, k, nil, o), nn.conv2d(dx, dk, nil, o)
        close_to("conv2d", dy, y, dtype)
        local t, dt = both(y:shape())
        want, got = nn.grad((y * t):sum(), { x, k }), nn.grad((dy * dt):sum(), { dx, dk })
        for i = 1, 2 do close_to(("gradient %d of conv2d in %d groups"):format(i, groups), got[i], want[i], dtype) end
      end
      local x, dx = both { 0, 4 }
      local k, dk = both { 4, 3 }
      assert.same(nn.matmul(x, k):shape(), nn.matmul(dx, dk):shape())
      assert.equal(0, nn.matmul(nn.zeros({ 3, 0 }, dtype):to(device), nn.zeros({ 0, 3 }, dtype):to(device)):to "f32":abs():sum():item())
    end
  end)

  it("the properties of a device can be read", function()
    if not device then return pending "no Vulkan device" end
    local text = assert(nn.device_properties(device))
    for _, name in ipairs { "VK_KHR_cooperative_matrix: ", "VK_NV_cooperative_matrix: ", "subgroup: ", "heap 0: " } do
      assert.truthy(text:find(name, 1, true), name)
    end
    assert.has_error(function() nn.device_properties() end)
    assert.is_nil((nn.device_properties "vulkan:99"))
  end)
end)

describe("matmul_precision", function()
  it("is kept and checked; the CPU computes the same", function()
    local a, b = nn.randn(40, 64), nn.randn(64, 48)
    local want = a:matmul(b):tostring_bytes()
    assert.equal("highest", nn.matmul_precision())
    assert.equal("highest", nn.matmul_precision "medium")
    local got = a:matmul(b):tostring_bytes()
    assert.equal("medium", nn.matmul_precision "highest")
    assert.is_true(want == got)
    assert.has_error(function() nn.matmul_precision "low" end)
    assert.equal("highest", nn.matmul_precision())
  end)
end)
