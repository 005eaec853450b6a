-- Statistics of channels and batch normalization in training, against plain means.
local nn = require "nnlua"

local function worst(a, b)
  local d = (a - b):abs():amax():item()
  return d == d and d or math.huge
end

local function leaf(t)
  t = t:detach()
  t:requires_grad(true)
  return t
end

local function dims_before(x)
  local dims = {}
  for i = 1, x:dim() - 1 do dims[i] = i end
  return dims
end

local function plain(x, weight, bias, eps)
  local mean = x:mean(dims_before(x))
  local variance = (x - mean):square():mean(dims_before(x))
  return (x - mean) * (variance + eps):rsqrt() * weight + bias, mean, variance
end

local function dots(a, x, mean) return a:sum(dims_before(a)), (a * (x - mean)):sum(dims_before(a)) end

-- a scalar of all results, each under a cotangent of its own
local function scalar(...)
  nn.seed(4)
  local sum = nn.tensor(0)
  for _, y in ipairs { ... } do sum = sum + (y * nn.randn(y:shape())):sum() end
  return sum
end

local shapes = { { 7, 5, 3, 19 }, { 40, 1 }, { 600, 16 }, { 3, 300 }, { 1, 4 }, { 33 } }

describe("channel statistics", function()
  it("keep their digits far from 0", function()
    nn.seed(1)
    local x = nn.randn(5000, 3) + 1000
    local mean, variance = nn.moments(x)
    local m, list = mean:totable(), x:totable()
    for c = 1, 3 do
      local sum, squares = 0, 0
      for _, row in ipairs(list) do sum = sum + row[c] end
      for _, row in ipairs(list) do squares = squares + (row[c] - sum / #list) ^ 2 end
      assert.is_true(math.abs(m[c] - sum / #list) < 2e-4)
      assert.is_true(math.abs(variance[c]:item() / (squares / #list) - 1) < 1e-4)
    end
  end)

  for _, shape in ipairs(shapes) do
    local name = table.concat(shape, "x")
    it("batch_norm_train is what plain means give, to the second gradient: " .. name, function()
      local function all(fn)
        nn.seed(2)
        local c = shape[#shape]
        local l = { leaf(nn.randn(shape) * 2 + 1), leaf(nn.randn(c)), leaf(nn.randn(c)) }
        local y, mean, variance = fn(l[1], l[2], l[3], 0.5)
        local first = { nn.grad({ scalar(y, mean, variance) }, l, { create_graph = true }) }
        local sum = nn.tensor(0)
        for k = 1, 2 do sum = sum + (first[k] * first[k]):sum() end
        local second = { nn.grad({ sum }, { l[1], l[2] }) }
        return { y, mean, variance, first[1], first[2], first[3], second[1], second[2] }
      end
      local got, want = all(nn.batch_norm_train), all(plain)
      for k = 1, 8 do
        assert.same(want[k]:shape(), got[k]:shape())
        assert.is_true(worst(got[k], want[k]) <= 2e-4 * (1 + want[k]:abs():amax():item()), "value " .. k)
      end
    end)

    it("moments and column_dots are what sums give, to the second gradient: " .. name, function()
      local function all(moments, column_dots)
        nn.seed(3)
        local l = { leaf(nn.randn(shape)), leaf(nn.randn(shape)), leaf(nn.randn(shape[#shape])) }
        local sum, dot = column_dots(l[1], l[2], l[3])
        local mean, variance = moments(l[2])
        local first = { nn.grad({ scalar(sum, dot, mean, variance) }, l, { create_graph = true }) }
        local second = { nn.grad({ (first[1] * first[1]):sum() + (first[2] * first[2]):sum() }, { l[1], l[2] }) }
        return { sum, dot, mean, variance, first[1], first[2], first[3], second[1], second[2] }
      end
      local function sums(x)
        local mean = x:mean(dims_before(x))
        return mean, (x - mean):square():mean(dims_before(x))
      end
      if #shape == 1 then sums = function(x) return x * 1, (x - x):square() end end
      local function columns(a, x, mean)
        if #shape == 1 then return a * 1, a * (x - mean) end
        return dots(a, x, mean)
      end
      local got, want = all(nn.moments, nn.column_dots), all(sums, columns)
      for k = 1, 9 do assert.is_true(worst(got[k], want[k]) <= 2e-4 * (1 + want[k]:abs():amax():item()), "value " .. k) end
    end)
  end

  it("are the same to the bit for any number of threads", function()
    local bytes, before = {}, nn.threads()
    for threads = 1, 3 do
      nn.threads(threads)
      nn.seed(5)
      local x, a = nn.randn(3001, 33), nn.randn(3001, 33)
      local mean, variance = nn.moments(x)
      local sum, dot = nn.column_dots(a, x, mean)
      bytes[threads] = mean:tostring_bytes() .. variance:tostring_bytes() .. sum:tostring_bytes() .. dot:tostring_bytes()
    end
    nn.threads(before)
    assert.is_true(bytes[1] == bytes[2] and bytes[1] == bytes[3])
  end)

  it("take views, and say what they cannot take", function()
    nn.seed(6)
    local x = nn.randn(4, 6):transpose()
    assert.is_true(worst((nn.moments(x)), x:mean(1)) < 1e-6)
    local one = nn.ones(3)
    assert.error_matches(function() nn.batch_norm_train(nn.zeros(0, 3), one, one) end, "the batch is empty")
    assert.error_matches(function() nn.batch_norm_train(nn.zeros(2, 4), one, one) end, "weight must have one element for each of 4 channels")
    assert.error_matches(function() nn.moments(nn.tensor(1)) end, "needs channels")
    assert.error_matches(function() nn.column_dots(nn.zeros(2, 3), nn.zeros(3, 3), one) end, "differ in shape")
    assert.error_matches(function() nn.column_dots(nn.zeros(2, 3), nn.zeros(2, 3), nn.ones(2)) end, "mean must have")
  end)
end)
