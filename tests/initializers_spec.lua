-- lua/nnlua/initializers.lua: moments and bounds of draws, fans, names.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message

local function moments(t)
  local list = support.flat(t:totable())
  local mean, var, low, high = 0, 0, math.huge, -math.huge
  for _, v in ipairs(list) do
    mean = mean + v / #list
    low, high = math.min(low, v), math.max(high, v)
  end
  for _, v in ipairs(list) do var = var + (v - mean) ^ 2 / #list end
  return mean, math.sqrt(var), low, high
end

describe("initializers", function()
  before_each(function() nn.seed(1) end)

  it("know fans", function()
    assert.same({ 784, 128 }, { nn.initializers.fans { 784, 128 } })
    assert.same({ 288, 576 }, { nn.initializers.fans { 3, 3, 32, 64 } })
    assert.same({ 5, 5 }, { nn.initializers.fans { 5 } })
  end)

  local shape = { 300, 200 } -- 60,000 draws: the mean is within 5 s / sqrt(n), the deviation within 2 %
  for name, std in pairs {
    glorot_normal = math.sqrt(2 / 500), glorot_uniform = math.sqrt(2 / 500), he_normal = math.sqrt(2 / 300), he_uniform = math.sqrt(2 / 300),
    lecun_normal = math.sqrt(1 / 300), lecun_uniform = math.sqrt(1 / 300), random_normal = 0.05, random_uniform = 0.05 / math.sqrt(3),
    normal = 0.05, uniform = 0.05 / math.sqrt(3), truncated_normal = 0.05 * 0.87962566103423978, variance_scaling = math.sqrt(1 / 300),
  } do
    it(name .. " has mean 0 and the right deviation and bounds", function()
      local mean, deviation, low, high = moments(nn.initializers.get(name)(shape))
      assert.is_true(math.abs(mean) < 5 * std / math.sqrt(60000), mean)
      assert.is_true(math.abs(deviation / std - 1) < 0.02, deviation / std)
      local bound = name:find "uniform" and std * math.sqrt(3) or (name:find "random_normal" or name == "normal") and 6 * std
        or 2 * std / 0.87962566103423978
      assert.is_true(low >= -bound * 1.000001 and high <= bound * 1.000001 and high > 0.9 * math.min(bound, 3 * std))
    end)
  end

  it("constants", function()
    close({ 0, 0 }, nn.initializers.zeros {} { 2 })
    close({ 1, 1 }, nn.initializers.ones {} { 2 })
    close({ 3, 3 }, nn.initializers.constant { 3 } { 2 })
  end)

  it("draw the same from the same seed, and not the same twice", function()
    local init = nn.initializers.he_normal {}
    local first, second = init { 4, 4 }:totable(), init { 4, 4 }:totable()
    assert.not_same(first, second)
    nn.seed(1)
    assert.same(first, init { 4, 4 }:totable())
  end)

  it("round trip through their configuration", function()
    local init = nn.initializers.variance_scaling { 2, mode = "fan_out", distribution = "uniform" }
    assert.same({ class_name = "VarianceScaling", config = { scale = 2, mode = "fan_out", distribution = "uniform" } }, init:config())
    assert.same(init:config(), nn.initializers.get(init:config()):config())
    assert.equal("RandomNormal", nn.initializers.get({ class_name = "RandomNormal", config = { seed = 3, stddev = 1 } }):config().class_name)
    assert.equal("GlorotUniform", nn.initializers.get("GlorotUniform").keras)
  end)

  it("refuse what is none", function()
    assert.truthy(message(nn.initializers.get, "hee_normal"):find('did you mean "he_normal"?', 1, true))
    assert.truthy(message(nn.initializers.get, 3):find("an initializer must be", 1, true))
    assert.truthy(message(nn.initializers.normal, { stddev = -1 }):find("at least 0", 1, true))
  end)
end)
