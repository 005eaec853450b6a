-- lua/nnlua/callbacks/health.lua: planted faults are found, healthy models are left in peace, figures are right.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close = support.close

local function watch(model, given, opt, n, x, y)
  local text = {}
  given = given or {}
  given.write = function(s) text[#text + 1] = s end
  given.every = given.every or 1
  local health = nn.callbacks.Health(given)
  model:compile { optimizer = opt or nn.optim.SGD { lr = 0.01 }, loss = "mse" }
  local size = rawget(model, "input_size") or { 8 }
  x = x or nn.normal { 64, size[1] }
  model:fit { x, y or nn.normal { 64, 1 }, epochs = n or 1, batch_size = 16, verbose = 0, callbacks = { health } }
  return health, table.concat(text)
end

local function row(health, name)
  for _, r in ipairs(health.rows) do
    if r.name == name then return r end
  end
end

describe("Health", function()
  before_each(function() nn.seed(7) end)

  it("is quiet about a healthy model, and costs other batches nothing", function()
    local model = nn.Sequential { nn.Input { 8 }, nn.Dense { 16, activation = "relu" }, nn.Dense { 16, activation = "tanh" }, nn.Dense { 1 } }
    local health, text = watch(model, { every = 3 }, nil, 2)
    assert.is_true(health:ok(), text)
    assert.equal(4, health.looks) -- batches 1 and 4 of two epochs
    assert.equal(2, select(2, text:gsub("health after epoch", "")))
    assert.truthy(text:find "layer +dead +saturated +gradient +weight +ratio\ndense +%d+ %% +%- ")
    assert.is_nil(rawget(model[2], "forward"))
  end)

  it("counts dead units: those that did not fire in the last n looks", function()
    local bias = {}
    for i = 1, 16 do bias[i] = i <= 8 and -100 or 1 end
    local model = nn.Sequential { nn.Input { 8 },
      nn.Dense { 16, activation = "relu", bias_initializer = function() return nn.tensor(bias, { dtype = "f32" }) end }, nn.Dense { 1 } }
    local health = watch(model)
    assert.equal(0.5, row(health, "dense").dead)
    assert.truthy(row(health, "dense").flags[1]:find("50 % dead", 1, true))
    assert.is_false(health:ok())
  end)

  it("sees ReLU layers after convolutions, per channel", function()
    local model = nn.Sequential { nn.Input { 6, 6, 1 },
      nn.Conv2D { 4, 3, init = "he_normal", bias_initializer = function() return nn.tensor({ 5, -99, 5, 5 }, { dtype = "f32" }) end },
      nn.ReLU {}, nn.Flatten {}, nn.Dense { 1 } }
    local health = watch(model, nil, nil, 1, nn.normal { 64, 6, 6, 1 })
    assert.equal(0.25, row(health, "re_lu") and row(health, "re_lu").dead or health.rows[2].dead)
    assert.is_nil(row(health, "conv2d").dead)
  end)

  it("finds vanishing gradients and saturation in a deep sigmoid net", function()
    local layers = { nn.Input { 8 } }
    for _ = 1, 20 do layers[#layers + 1] = nn.Dense { 8, activation = "sigmoid" } end
    layers[#layers + 1] = nn.Dense { 1 }
    local health = watch(nn.Sequential(layers))
    assert.truthy(health.rows[1].flags[1]:find("^vanishing"))
    assert.is_nil(health.rows[21].flags[1])
    local wide = nn.Sequential { nn.Input { 8 }, nn.Dense { 8, activation = "tanh", init = nn.initializers.normal { stddev = 60 } }, nn.Dense { 1 } }
    assert.truthy(row(watch(wide), "dense").flags[1]:find "saturated")
  end)

  it("finds exploding gradients, and weights that are zero", function()
    local layers = { nn.Input { 8 } }
    for _ = 1, 12 do layers[#layers + 1] = nn.Dense { 8, init = nn.initializers.normal { stddev = 3 } } end
    layers[#layers + 1] = nn.Dense { 1 }
    local health = watch(nn.Sequential(layers), nil, nn.optim.SGD { lr = 0 })
    assert.truthy(health.rows[1].flags[1]:find "^exploding: clip", tostring(health))
    health = watch(nn.Sequential { nn.Input { 8 }, nn.Dense { 4, init = "zeros" }, nn.Dense { 1 } }, nil, nn.optim.SGD { lr = 0 })
    assert.is_nil(row(health, "dense_1").flags[1])
    assert.truthy(row(health, "dense").flags[1]:find "all weights are zero")
  end)

  it("finds an exploding recurrent layer, and names the layer, not its cell", function()
    local model = nn.Sequential { nn.Input { 40, 4 },
      nn.SimpleRNN { 16, activation = "linear", recurrent_initializer = nn.initializers.normal { stddev = 0.6 } }, nn.Dense { 1 } }
    local health = watch(model, nil, nn.optim.SGD { lr = 0 }, 1, nn.normal { 32, 40, 4 }, nn.normal { 32, 1 })
    assert.truthy(row(health, "simple_rnn").flags[1]:find "^exploding: clip")
    assert.equal(2, #health.rows)
    model = nn.Sequential { nn.Input { 12, 4 }, nn.SimpleRNN { 8, init = nn.initializers.normal { stddev = 50 } }, nn.Dense { 1 } }
    health = watch(model, nil, nn.optim.SGD { lr = 0 }, 1, nn.normal { 32, 12, 4 }, nn.normal { 32, 1 })
    assert.truthy(row(health, "simple_rnn").flags[1]:find "saturated: scale the input")
  end)

  it("says so when a step made numbers that are not finite", function()
    local model = nn.Sequential { nn.Input { 8 }, nn.Dense { 4, activation = "relu", init = nn.initializers.constant { 1e30 } }, nn.Dense { 1 } }
    local text = {}
    local health = nn.callbacks.Health { every = 1, write = function(s) text[#text + 1] = s end }
    local stop = nn.callbacks.Lambda { on_batch_end = function(m) m.stop_training = true end }
    model:compile { optimizer = nn.optim.SGD { lr = 0 }, loss = "mse" }
    model:fit { nn.ones(16, 8) * 1e9, nn.ones(16, 1), verbose = 0, callbacks = { health, stop } }
    assert.truthy(health.rows[1].flags[1]:find("exploding: gradient or weights are not finite", 1, true), tostring(health))
  end)

  it("stays quiet on healthy models of every kind", function()
    local function quiet(layers, x, y)
      nn.seed(11)
      local health, text = watch(nn.Sequential(layers), nil, nn.optim.Adam { lr = 1e-3 }, 3, x, y)
      assert.is_true(health:ok(), text)
    end
    nn.seed(3)
    local y = nn.normal { 64, 1 }
    quiet({ nn.Input { 8, 8, 1 }, nn.Conv2D { 8, 3, activation = "relu", init = "he_normal" }, nn.BatchNorm {}, nn.MaxPooling2D {}, nn.Flatten {},
      nn.Dense { 16, activation = "relu" }, nn.Dropout { 0.3 }, nn.Dense { 1 } }, nn.normal { 64, 8, 8, 1 }, y)
    quiet({ nn.Input { 10, 4 }, nn.LSTM { 12, return_sequences = true }, nn.GRU { 8 }, nn.Dense { 1 } }, nn.normal { 64, 10, 4 }, y)
    quiet({ nn.Input { 10, 4 }, nn.Bidirectional { nn.SimpleRNN { 8 } }, nn.LayerNorm {}, nn.Dense { 1, activation = "sigmoid" } },
      nn.normal { 64, 10, 4 }, y)
    local deep = { nn.Input { 8 } }
    for _ = 1, 6 do deep[#deep + 1] = nn.Dense { 32, activation = "relu", init = "he_normal" } end
    deep[#deep + 1] = nn.Dense { 1 }
    quiet(deep, nn.normal { 64, 8 }, y)
  end)

  it("draws its figures by epoch", function()
    local health = watch(nn.Sequential { nn.Input { 8 }, nn.Dense { 4, activation = "relu" }, nn.Dense { 1 } }, nil, nil, 3)
    assert.equal(3, #health.epochs)
    local text = health:plot_text { width = 40, height = 3 }
    for _, title in ipairs { "gradient", "ratio", "weight", "dead" } do assert.truthy(("\n" .. text):find("\n" .. title .. "\n", 1, true), title) end
    assert.is_nil(text:find("saturated", 1, true))
    assert.truthy(text:find("── dense   ·· dense_1", 1, true))
    assert.equal(2, select(2, health:svg { "weight" }:gsub("<polyline", "")))
    assert.truthy(support.message(health.plot_text, health, "gradients"):find('did you mean "gradient"?', 1, true))
  end)

  it("measures norms", function()
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 1, init = function() return nn.tensor({ { 3 }, { 4 } }, { dtype = "f32" }) end } }
    local health = watch(model, nil, nn.optim.SGD { lr = 0 }, 1, nn.ones(16, 2), nn.full({ 16, 1 }, 6))
    -- d = 7 - 6; the gradient is 2 d for both weights and the bias
    close({ math.sqrt(12), 5, math.sqrt(12) / 5 }, { health.rows[1].gradient, health.rows[1].weight, health.rows[1].ratio }, 1e-6)
  end)
end)
