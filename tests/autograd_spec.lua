-- Gradients: accumulation, histories and their end, kinks and ties, gradients through indexing, long chains.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
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
