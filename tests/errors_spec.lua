-- Wrong use of what is no operator (those: ops_spec.lua): every call raises one line that says what was wrong, at the caller's line, and the process
-- goes on.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local message, close = support.message, support.close
local it = support.on_device(it)

local x = nn.ones(2, 3)
local param = nn.ones(4):requires_grad(true)
local big = 2 ^ 40 | 0

-- { what, call, text of the message }
local calls = {
  { "zeros of 2^80 elements", function() nn.zeros(big, big) end, "zeros: size 1099511627776x1099511627776 is negative or too large" },
  { "zeros of 2^42 elements", function() nn.zeros(big):eval() end, "out of memory" },
  { "zeros of a negative size", function() nn.zeros(-1) end, "zeros: size -1 is negative or too large" },
  { "zeros of NaN", function() nn.zeros(0 / 0) end, "zeros: a shape is a list of integers, entry 1 is" },
  { "zeros of infinity", function() nn.zeros(math.huge) end, "zeros: a shape is a list of integers, entry 1 is inf" },
  { "zeros of a fraction", function() nn.zeros(2, 1.5) end, "zeros: a shape is a list of integers, entry 2 is 1.5" },
  { "zeros of a text", function() nn.zeros({ 2, "x" }) end, "zeros: a shape is a list of integers, entry 2 is string" },
  { "zeros of 9 dims", function() nn.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end, "zeros: a shape of 9 dims; at most 8 are possible" },
  { "zeros of an unknown dtype", function() nn.zeros({ 2 }, "f64x") end, "zeros: unknown dtype f64x" },
  { "rand of a negative size", function() nn.rand(3, -2) end, "rand: size 3x-2 is negative or too large" },
  { "randn of a huge size", function() nn.randn(big, big) end, "randn: size" },
  { "full of a missing value", function() nn.full { 2 } end, "full: " },
  { "zeros_like of a number", function() nn.zeros_like(3) end, "zeros_like: argument 1 must be a tensor, got number" },
  { "a tensor of nothing", function() nn.tensor() end, "tensor: elements must be numbers or booleans, got nil" },
  { "a gradient of integers", function() nn.zeros({ 2 }, "i64"):requires_grad(true) end,
    "requires_grad: only tensors of floats can have a gradient, this one is i64" },
  { "backward without history", function() x:sum():backward() end, "backward: the result does not depend on anything that requires a gradient" },
  { "backward of a matrix", function() (param * 2):backward() end, "backward: the loss must be a scalar, its shape is 4" },
  { "backward with a text", function() param:sum():backward("x") end, "must be a tensor, got string" },
  { "grad of a number", function() nn.grad(1, param) end, "grad: outputs must be a tensor or a list of tensors" },
  { "grad by a list of numbers", function() nn.grad(param:sum(), { 1 }) end, "must be a tensor, got number" },
  { "assign of another shape", function() param:assign(nn.ones(5)) end, "assign: f32 5 cannot take the place of f32 4" },
  { "assign of another dtype", function() param:assign(nn.ones({ 4 }, "i64")) end, "assign: i64 4 cannot take the place of f32 4" },
  { "assign of a number", function() param:assign(1) end, "must be a tensor, got number" },
  { "threads(0)", function() nn.threads(0) end, "threads: 0 is not in 1..64" },
  { "threads(1000)", function() nn.threads(1000) end, "threads: 1000 is not in 1..64" },
  { "an optimizer without states", function() nn.adam_step({ param }, nil, nil, {}) end, "first and second moments are needed" },
  { "an optimizer with too few states", function() nn.adam_step({ param }, {}, {}, {}) end, "0 first moments for 1 parameters" },
  { "an optimizer with a text for lr", function() nn.sgd_step({ param }, nil, { lr = "x" }) end, "sgd_step: 'lr' must be a number" },
  { "momentum without velocities", function() nn.sgd_step({ param }, nil, { momentum = 0.9 }) end, "sgd_step: momentum needs velocities" },
  { "adam's step 0", function() nn.adam_step({ param }, { nn.zeros(4) }, { nn.zeros(4) }, { step = 0 }) end, "adam_step: step counts from 1, got 0" },
  { "a parameter that is no tensor", function() nn.sgd_step({ 1 }, nil, {}) end, "must be a tensor, got number" },
  { "a tensor called with a dot", function() x.sum() end, "sum: argument 'x' is missing" },
  { "a method of a number", function() x.sum(3) end, "sum: argument 'x' must be a tensor, got number" },
  { "an order of tensors", function() return x < x end, "" },
  { "a tensor as a table of names", function() x.y = 1 end, "index: a tensor has no fields to assign ('y')" },
  { "a position that is a text", function() return x[{ "1" }] end, "index: entry of dim 1 must be an integer" },
  { "size of a text", function() x:size "a" end, "size: argument 2 must be an integer, got string" },
  { "to nothing", function() x:to() end, "to: argument 2 must be a string, got no value" },
  { "set_rng_state without a seed", function() nn.set_rng_state { position = 1 } end,
    "set_rng_state: a table of integers seed and position is needed" },
  { "elements past the end", function() x:elements(1, 7) end, "elements: 1..7 is not in 1..6" },
  { "named and positional at once", function() x:sum(1, { dim = 1 }) end, "sum: argument 'dim' is given twice" },
  { "a parameter given twice to a step", function() nn.sgd_step({ param, param }, nil, { lr = 1 }) end, "sgd_step: a tensor is given twice" },
  { "moments that are the parameter", function() nn.adam_step({ param }, { param }, { nn.zeros(4) }, { lr = 1 }) end,
    "adam_step: a tensor is given twice" },
  { "a step of NaN", function() nn.adam_step({ param }, { nn.zeros(4) }, { nn.zeros(4) }, { step = 0 / 0 }) end,
    "adam_step: step counts from 1" },
  { "a step without options", function() nn.adam_step({ param }, { nn.zeros(4) }, { nn.zeros(4) }) end,
    "adam_step: argument 4 must be a table of options, got no value" },
  { "a gradient of another shape", function() nn.zeros(4):set_grad(nn.zeros(5)) end, "set_grad: the gradient does not have the tensor's shape" },
  { "a gradient of whole numbers", function() nn.zeros(4):set_grad(nn.zeros({ 4 }, "i64")) end,
    "set_grad: a gradient has a floating dtype, not i64" },
  { "clipping what is no tensor", function() nn.clip_grad_norm({ 3 }, 1) end, "clip_grad_norm: parameter 1 must be a tensor, got" },
  { "gradients of a list with a number", function() nn.grad(nn.ones(1), { 2 }) end, "grad: entry 1 of the inputs must be a tensor, got number" },
  { "gradients of a constant", function() nn.grad(nn.ones(1), nn.ones(1)) end, "grad: the result does not depend on anything" },
  { "backward along a text", function() nn.ones(1):backward "x" end, "backward: argument 2 must be a tensor, got string" },
  { "more threads than there can be", function() nn.threads(math.tointeger(2 ^ 32 + 1)) end, "threads: 2147483647 is not in 1..64" },
  { "a composition of a scalar", function() nn.cosine_similarity(nn.tensor(1.0), nn.ones(5)) end, "cosine_similarity: sum: a scalar has no dims" },
  { "a range of an empty dim", function() return nn.zeros(0, 3)[{ { 5, 9 } }] end, "index: position 5 is out of range in dim 1 of size 0" },
  { "an empty range past the end", function() return nn.zeros(3)[{ { 12, 11 } }] end, "index: position 12 is out of range in dim 1 of size 3" },
  { "positions in f64", function() return nn.zeros(3):index_put({ nn.zeros({ 1 }, "f64") }, 1) end, "index_put: positions must be integers" },
  { "a value too large for a slice", function()
    local y = nn.zeros(2, 3)
    y[1] = nn.zeros(4)
  end, "index: the value does not fit" },
  { "a size that tables cannot hold", function() nn.adaptive_avg_pool1d(nn.zeros(1, 3, 1), 1 << 40) end, "adaptive_avg_pool1d: cannot make" },
  { "an image as wide as the sky", function() nn.interpolate(nn.zeros(1, 3, 1), { size = 1 << 40, mode = "linear" }) end,
    "interpolate: a result of" },
  { "an instance norm of a scalar", function() nn.instance_norm(nn.tensor(1.0)) end, "instance_norm: the input must be" },
  { "a misspelt name", function() x:sum { dims = 1 } end, "sum: unknown option 'dims'" },
  { "matmul of images", function() nn.matmul(nn.ones(64, 784), nn.ones(512, 10)) end, "matmul: inner sizes differ: (64x784) x (512x10): 784 vs 512" },
}

describe("wrong use", function()
  for _, c in ipairs(calls) do
    it(c[1] .. " is an error of one line", function()
      local m = message(c[2])
      if support.lacks(m) and not m:find(c[3], 1, true) then error(m, 0) end
      assert.truthy(m:find(c[3], 1, true), m)
      assert.is_nil(m:find "\n", m)
      assert.is_nil(m:find("internal error", 1, true), m)
      assert.is_nil(m:find("a bug in nnlua", 1, true), m)
    end)
  end

  it("local response normalization over more channels than there are is quick", function()
    local y = nn.local_response_norm(nn.ones(2, 3), 1 << 40, { alpha = 2.0 ^ 40, beta = 1 })
    close({ { 0.25, 0.25, 0.25 }, { 0.25, 0.25, 0.25 } }, y, 1e-6) -- 1 / (1 + 3)
  end)

  it("is reported at the line of the caller, through the library too", function()
    local here = debug.getinfo(1, "S").short_src
    local line = debug.getinfo(1, "l").currentline
    local _, err = pcall(function() return x + nn.ones(7) end)
    assert.equal(("%s:%d: add: shapes do not broadcast: (2x3) and (7)"):format(here, line + 1), err)
    local dense = nn.Dense { 3 }
    dense(nn.ones(2, 5))
    _, err = pcall(function() return dense(nn.ones(2, 4)) end)
    assert.truthy(err:find(("%s:%d: "):format(here, line + 5), 1, true), err)
  end)

  it("of formats is no format", function()
    local m = message(function() x:to "%s%n%d" end)
    assert.truthy(m:find("%s%n%d", 1, true), m)
    m = message(function() nn.sum(x, { ["%s%n"] = 1 }) end)
    assert.truthy(m:find("%s%n", 1, true), m)
  end)

  it("with long names is cut, not overrun", function()
    local m = message(function() nn.sum(x, { [("n"):rep(5000)] = 1 }) end)
    assert.is_true(#m < 1100)
    m = message(function() x:to(("n"):rep(5000)) end)
    assert.is_true(#m < 1100)
  end)

  it("leaves everything as it was", function()
    close({ { 1, 1, 1 }, { 1, 1, 1 } }, x)
    close({ 1, 1, 1, 1 }, param)
    assert.is_nil(param:grad())
  end)

  it("thousands of times in a row leaks nothing", function()
    collectgarbage()
    nn.eval()
    local live = nn.memory().live
    for i = 1, 3000 do pcall(calls[i % #calls + 1][2]) end
    nn.eval()
    collectgarbage()
    collectgarbage()
    assert.is_true(nn.memory().live - live < 10000, nn.memory().live - live)
  end)
end)
