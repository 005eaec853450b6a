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

  it("measures norms", function()
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 1, init = function() return nn.tensor({ { 3 }, { 4 } }, { dtype = "f32" }) end } }
    local health = watch(model, nil, nn.optim.SGD { lr = 0 }, 1, nn.ones(16, 2), nn.full({ 16, 1 }, 6))
    -- d = 7 - 6; the gradient is 2 d for both weights and the bias
    close({ math.sqrt(12), 5, math.sqrt(12) / 5 }, { health.rows[1].gradient, health.rows[1].weight, health.rows[1].ratio }, 1e-6)
  end)
end)
