-- Gradients: accumulation, histories and their end, kinks and ties, gradients through indexing, long chains.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

local function leaf(t) return nn.tensor(t, { dtype = "f32", requires_grad = true }) end

describe("backward", function()
  it("adds to .grad until it is cleared", function()
    local x = leaf { 1, 2, 3 }
    assert.is_nil(x:grad());
    (x * 2):sum():backward()
    close({ 2, 2, 2 }, x:grad());
    (x * x):sum():backward()
    close({ 4, 6, 8 }, x:grad())
    x:set_grad(nil)
    assert.is_nil(x:grad());
    (x * 3):sum():backward()
    close({ 3, 3, 3 }, x:grad())
    x:set_grad(nn.zeros(3))
    close({ 0, 0, 0 }, x:grad())
  end)

  it("takes a cotangent for a result that is no scalar, and asks for one", function()
    local x = leaf { 1, 2, 3 }
    local m = message(function() (x * 2):backward() end)
    assert.equal("backward: the loss must be a scalar, its shape is 3; reduce it (mean, sum) or give a cotangent of its shape", m)
    m = message(function() (x * 2):backward(nn.ones(2)) end)
    assert.equal("backward: the cotangent's shape is 2, the result's 3", m);
    (x * x):backward(nn.tensor { 1.0, 10, 100 })
    close({ 2, 40, 600 }, x:grad())
  end)

  it("works on a leaf itself", function()
    local x = leaf(5)
    x:backward()
    assert.equal(1, x:grad():item())
  end)

  it("twice needs retain_graph", function()
    local x = leaf { 1, 2 }
    local y = (x * x):sum()
    y:backward { retain_graph = true }
    close({ 2, 4 }, x:grad())
    y:backward()
    close({ 4, 8 }, x:grad())
    local m = message(function() y:backward() end)
    assert.truthy(m:find("history was freed by an earlier backward; call that one with retain_graph = true", 1, true), m)
    close({ 4, 8 }, x:grad())
  end)

  it("fails without anything to differentiate", function()
    local m = message(function() (nn.ones(2) * 2):sum():backward() end)
    assert.equal("backward: the result does not depend on anything that requires a gradient", m)
    m = message(function() nn.tensor({ 1, 2 }, { requires_grad = true }) end)
    assert.truthy(m:find("only tensors of floats can have a gradient, this one is i64", 1, true), m)
  end)

  it("counts every use of a tensor", function()
    local x = leaf { 2, 3 }
    local y = x * x
    local z = (y * y + y + x):sum() -- x^4 + x^2 + x
    z:backward()
    close({ 4 * 8 + 4 + 1, 4 * 27 + 6 + 1 }, x:grad())
    x:set_grad(nil);
    (x + x):sum():backward()
    close({ 2, 2 }, x:grad())
  end)

  it("sums over what was broadcast", function()
    local a, b, c = leaf { { 1 }, { 2 } }, leaf { 1, 2, 3 }, leaf(2);
    (a * b * c):sum():backward()
    close({ { 12 }, { 12 } }, a:grad())
    close({ 6, 6, 6 }, b:grad())
    close(18, c:grad())
    assert.same({ 2, 1 }, a:grad():shape())
    assert.same({}, c:grad():shape())
  end)

  it("goes through slices, assignment, joins and picks", function()
    local x = leaf { { 1, 2, 3 }, { 4, 5, 6 } };
    (x[2] * x[2]):sum():backward()
    close({ { 0, 0, 0 }, { 8, 10, 12 } }, x:grad())
    x:set_grad(nil);
    (x[{ {}, { 3, 1, -2 } }] * nn.tensor { 1.0, 10 }):sum():backward()
    close({ { 10, 0, 1 }, { 10, 0, 1 } }, x:grad())
    x:set_grad(nil)
    local y, v = x * 2, leaf { 7, 8 }
    y[{ 1, { 1, 2 } }] = v;
    (y * y):sum():backward()
    close({ { 0, 0, 24 }, { 32, 40, 48 } }, x:grad())
    close({ 14, 16 }, v:grad())
    x:set_grad(nil)
    y = nn.cat({ x, x * 3 }, 1)[{ { 2, 3 } }]
    y:sum():backward()
    close({ { 3, 3, 3 }, { 1, 1, 1 } }, x:grad())
    x:set_grad(nil)
    x:index_select(2, { 3, 3, 1 }):sum():backward()
    close({ { 1, 0, 2 }, { 1, 0, 2 } }, x:grad())
    x:set_grad(nil)
    x[nn.tensor { 2, 2 }]:sum():backward()
    close({ { 0, 0, 0 }, { 2, 2, 2 } }, x:grad())
    x:set_grad(nil)
    x[x:gt(3.5)]:sum():backward()
    close({ { 0, 0, 0 }, { 1, 1, 1 } }, x:grad())
  end)

  it("of a chain of 20,000 operators does not overflow a stack", function()
    local x = leaf { 1, 2, 3 }
    local y = x
    for _ = 1, 20000 do y = y * 1.0001 end
    y:sum():backward()
    local expected = 1.0001 ^ 20000
    close({ expected, expected, expected }, x:grad(), 1e-3)
    y = nil -- luacheck: ignore
    collectgarbage() -- and neither does letting go of one that was never walked
    local z = x
    for _ = 1, 20000 do z = z + 1 end
    z:free()
    collectgarbage()
  end)
end)

describe("at kinks", function()
  it("relu, |x| and sign have gradient 0, leaky_relu its slope", function()
    local x = leaf { -1, 0, 2 }
    x:relu():sum():backward()
    close({ 0, 0, 1 }, x:grad())
    x:set_grad(nil)
    x:abs():sum():backward()
    close({ -1, 0, 1 }, x:grad())
    x:set_grad(nil)
    x:leaky_relu(0.25):sum():backward()
    close({ 0.25, 0.25, 1 }, x:grad())
  end)

  it("ties of maximum, minimum, amax and amin share; clamp passes its limits", function()
    local a, b = leaf { 1, 2, 3 }, leaf { 1, 5, 0 }
    nn.maximum(a, b):sum():backward()
    close({ 0.5, 0, 1 }, a:grad())
    close({ 0.5, 1, 0 }, b:grad())
    local x = leaf { { 3, 3, 1 }, { 2, 2, 2 } }
    x:amax(2):sum():backward()
    close({ { 0.5, 0.5, 0 }, { 1 / 3, 1 / 3, 1 / 3 } }, x:grad())
    x:set_grad(nil)
    x:amin():backward()
    close({ { 0, 0, 1 }, { 0, 0, 0 } }, x:grad())
    x = leaf { -1, 0, 0.5, 1, 2 }
    x:clamp(0, 1):sum():backward()
    close({ 0, 1, 1, 1, 0 }, x:grad())
  end)

  it("max_pool2d takes the first of equals", function()
    local x = nn.zeros(1, 2, 2, 1):requires_grad(true)
    x:max_pool2d(2):sum():backward()
    close({ 1, 0, 0, 0 }, x:grad())
  end)

  it("softmax and logsumexp of infinite scores have finite gradients", function()
    local x = leaf { -math.huge, 0, 0 }
    x:logsumexp():backward()
    close({ 0, 0.5, 0.5 }, x:grad())
    x:set_grad(nil);
    (x:softmax() * nn.tensor { 1.0, 2, 3 }):sum():backward()
    close({ 0, -0.25, 0.25 }, x:grad())
  end)

  -- gradients of the sum at these points, as PyTorch 1.13 gives them
  local points = { -6.0, -3, -1, -0.5, 0, 0.5, 1, 3, 6 }
  local conventions = {
    { "relu", function(x) return x:relu() end, {0, 0, 0, 0, 0, 1, 1, 1, 1} },
    { "relu6", function(x) return x:relu6() end, {0, 0, 0, 0, 0, 1, 1, 1, 0} },
    { "leaky_relu", function(x) return x:leaky_relu() end, {0.01, 0.01, 0.01, 0.01, 0.01, 1, 1, 1, 1} },
    { "elu", function(x) return x:elu() end, {0.00247875, 0.0497871, 0.367879, 0.606531, 1, 1, 1, 1, 1} },
    { "selu", function(x) return x:selu() end, {0.00435789, 0.0875306, 0.646769, 1.06634, 1.7581, 1.0507, 1.0507, 1.0507, 1.0507} },
    { "celu", function(x) return x:celu() end, {0.00247875, 0.0497871, 0.367879, 0.606531, 1, 1, 1, 1, 1} },
    { "softsign", function(x) return x:softsign() end, {0.0204082, 0.0625, 0.25, 0.444444, 1, 0.444444, 0.25, 0.0625, 0.0204082} },
    { "hard_sigmoid", function(x) return x:hard_sigmoid() end, {0, 0, 0.166667, 0.166667, 0.166667, 0.166667, 0.166667, 0, 0} },
    { "hard_swish", function(x) return x:hard_swish() end, {0, -0.5, 0.166667, 0.333333, 0.5, 0.666667, 0.833333, 1.5, 1} },
    { "hard_tanh", function(x) return x:hard_tanh() end, {0, 0, 0, 1, 1, 1, 0, 0, 0} },
    { "hard_shrink", function(x) return x:hard_shrink() end, {1, 1, 1, 0, 0, 0, 1, 1, 1} },
    { "soft_shrink", function(x) return x:soft_shrink() end, {1, 1, 1, 0, 0, 0, 1, 1, 1} },
    { "abs", function(x) return x:abs() end, {-1, -1, -1, -1, 0, 1, 1, 1, 1} },
    { "sign", function(x) return x:sign() end, {0, 0, 0, 0, 0, 0, 0, 0, 0} },
    { "square", function(x) return x:square() end, {-12, -6, -2, -1, 0, 1, 2, 6, 12} },
    { "silu", function(x) return x:silu() end, {-0.0123264, -0.0881041, 0.0723295, 0.260039, 0.5, 0.739961, 0.927671, 1.0881, 1.01233} },
    { "mish", function(x) return x:mish() end, {-0.01236, -0.0933931, 0.0592167, 0.289511, 0.6, 0.886424, 1.04904, 1.02111, 1.00013} },
    { "gelu", function(x) return x:gelu() end, {-2.98023e-08, -0.0119456, -0.0833154, 0.132505, 0.5, 0.867495, 1.08332, 1.01195, 1} },
    { "clamp", function(x) return nn.clamp(x, -1, 1) end, {0, 0, 1, 1, 1, 1, 1, 0, 0} },
    { "threshold", function(x) return nn.threshold(x, 0.5, 7) end, {0, 0, 0, 0, 0, 0, 1, 1, 1} },
    { "prelu", function(x) return nn.prelu(x, nn.tensor{0.25}) end, {0.25, 0.25, 0.25, 0.25, 0.25, 1, 1, 1, 1} },
    { "maximum", function(x) return nn.maximum(x, 0) end, {0, 0, 0, 0, 0.5, 1, 1, 1, 1} },
    { "minimum", function(x) return nn.minimum(x, 1) end, {1, 1, 1, 1, 1, 1, 0.5, 0, 0} },
    { "amax", function(x) return nn.amax(nn.maximum(x, 1) * 0 + nn.clamp(x, -3, 0.5)) end, {0, 0, 0, 0, 0, 0.25, 0, 0, 0} },
    { "max dim", function(x) return nn.max(nn.cat({x, x:flip(1)}, 1), 1) end, {0, 0, 0, 0, 0, 0, 0, 0, 1} },
    { "std", function(x) return nn.std(x * 0, 1) end, {-0, -0, -0, -0, 0, 0, 0, 0, 0} },
    { "norm", function(x) return nn.norm(x * 0) end, {0, 0, 0, 0, 0, 0, 0, 0, 0} },
    { "norm1", function(x) return nn.norm(x, 1) end, {-1, -1, -1, -1, 0, 1, 1, 1, 1} },
    { "norm inf", function(x) return nn.norm(x, 1/0) end, {-0.5, -0, -0, -0, 0, 0, 0, 0, 0.5} },
    { "median", function(x) return (nn.median(nn.cat({x, x}, 1))) end, {0, 0, 0, 0, 1, 0, 0, 0, 0} },
    { "cummax", function(x) return (nn.cummax(x:abs(), 1)) end, {-8, -0, -0, -0, 0, 0, 0, 0, 1} },
    { "pow", function(x) return nn.pow(x, 2) end, {-12, -6, -2, -1, 0, 1, 2, 6, 12} },
    { "pow0", function(x) return nn.pow(x, 0) end, {0, 0, 0, 0, 0, 0, 0, 0, 0} },
    { "prod", function(x) return nn.prod(x) end, {-0, -0, -0, -0, 81, 0, 0, 0, 0} },
    { "fmod", function(x) return nn.fmod(x, 1) end, {1, 1, 1, 1, 1, 1, 1, 1, 1} },
    { "mod", function(x) return nn.mod(x, 1) end, {1, 1, 1, 1, 1, 1, 1, 1, 1} },
    { "round", function(x) return nn.round(x) end, {0, 0, 0, 0, 0, 0, 0, 0, 0} },
    { "softplus", function(x) return nn.softplus(x, 1, 3) end, {0.00247262, 0.0474259, 0.268941, 0.377541, 0.5, 0.622459, 0.731059, 0.952574, 1} },
    { "smooth_l1", function(x) return nn.smooth_l1_loss(x, x * 0, 1, 'sum') end, {-1, -1, -1, -0.5, 0, 0.5, 1, 1, 1} },
    { "l1", function(x) return nn.l1_loss(x, nn.zeros(9), 'sum') end, {-1, -1, -1, -1, 0, 1, 1, 1, 1} },
    { "huber", function(x) return nn.huber_loss(x, nn.zeros(9), 1, 'sum') end, {-1, -1, -1, -0.5, 0, 0.5, 1, 1, 1} },
    { "hinge_emb", function(x) return nn.hinge_embedding_loss(x, nn.full({9}, -1), 1, 'sum') end, {-1, -1, -1, -1, -1, -1, -1, 0, 0} },
    { "max_pool", function(x) return nn.max_pool1d(nn.cat({x, x}, 1):reshape(1, 18, 1), 18) end, {0, 0, 0, 0, 0, 0, 0, 0, 1} },
    { "cdist", function(x) return nn.cdist(x:reshape(9, 1), x:detach():reshape(9, 1)) end, {-8, -6, -4, -2, 0, 2, 4, 6, 8} },
  }
  for _, c in ipairs(conventions) do
    local name, f, want = table.unpack(c)
    it(name .. " follows PyTorch", function()
      local x = leaf(points)
      local y = f(x)
      if y:requires_grad() then close(want, nn.grad(y:sum(), x), 1e-5) else close(want, nn.zeros(#points), 0) end
    end)
  end
end)

describe("history", function()
  it("is not recorded under no_grad, as a guard and as a call", function()
    local x = leaf { 1, 2 }
    do
      local _ <close> = nn.no_grad()
      assert.is_false((x * 2):requires_grad())
      nn.no_grad(function() assert.is_false((x * 2):requires_grad()) end)
      assert.is_false((x * 2):requires_grad())
    end
    assert.is_true((x * 2):requires_grad())
    assert.equal(7, nn.no_grad(function(n) return n + 1 end, 6))
    local m = message(function() nn.no_grad(function() error "inside" end) end)
    assert.truthy(m:find("inside", 1, true))
    assert.is_true((x * 2):requires_grad())
  end)

  it("ends at detach", function()
    local x = leaf { 1, 2 }
    local y = x * 3
    assert.is_false(y:detach():requires_grad());
    (y * y:detach()):sum():backward()
    close({ 9, 18 }, x:grad())
  end)

  it("is no part of integers and truth values", function()
    local x = leaf { 1, 2 }
    assert.is_false(x:gt(1):requires_grad())
    assert.is_false(x:long():requires_grad())
    assert.is_false(x:argmax():requires_grad());
    (x:gt(1):float() * x):sum():backward()
    close({ 0, 1 }, x:grad())
  end)

  it("lets go of its tensors", function()
    collectgarbage()
    collectgarbage()
    nn.eval()
    local live = nn.memory().live
    local x = nn.ones(1000):requires_grad(true)
    for _ = 1, 300 do
      local loss = (x:exp() * x):sum()
      loss:backward()
      x:set_grad(nil)
    end
    nn.eval()
    x:free()
    collectgarbage()
    collectgarbage()
    assert.is_true(nn.memory().live - live < 100000, nn.memory().live - live)
  end)

  it("survives assignment to a variable under no_grad", function()
    local w = leaf { 1, 2, 3 }
    w:set_grad(nn.ones(3))
    nn.no_grad(function() w[2] = 9 end)
    assert.is_true(w:requires_grad())
    close({ 1, 9, 3 }, w)
    close({ 1, 1, 1 }, w:grad())
    w:assign(w * 2)
    close({ 2, 18, 6 }, w)
    assert.is_true(w:requires_grad())
  end)
end)

describe("nn.grad", function()
  it("gives gradients by leaves and by inner results, and touches no .grad", function()
    local x = leaf { 1, 2 }
    local y = x * x
    local z = (y * 3):sum()
    local gx, gy = nn.grad(z, { x, y })
    close({ 6, 12 }, gx)
    close({ 3, 3 }, gy)
    assert.is_nil(x:grad())
  end)

  it("gives nil where an input is not reached", function()
    local x, other = leaf { 1 }, leaf { 2 }
    local a, b = nn.grad((x * 2):sum(), { other, x })
    assert.is_nil(a)
    close({ 2 }, b)
  end)

  it("takes several outputs with cotangents", function()
    local x = leaf { 1, 2 }
    local a, b = x * 2, x * x
    local g = nn.grad({ a, b }, { x }, { cotangents = { nn.ones(2), nn.tensor { 1.0, 10 } } })
    close({ 4, 42 }, g)
    local m = message(function() nn.grad({ x * 2, x * 3 }, { x }, { cotangents = { nn.ones(2) } }) end)
    assert.equal("grad: 1 cotangents for 2 outputs", m)
  end)

  it("goes to third order", function()
    local x = leaf { 2, 3 }
    local y = (x ^ 4):sum()
    local g1 = nn.grad(y, { x }, { create_graph = true })
    local g2 = nn.grad(g1:sum(), { x }, { create_graph = true })
    local g3 = nn.grad(g2:sum(), { x })
    close({ 32, 108 }, g1)
    close({ 48, 108 }, g2)
    close({ 48, 72 }, g3)
  end)
end)
