-- lua/nnlua/autograd.lua: gradients of functions, of the user's own making, along directions; against formulas and differences.
local nn = require "nnlua"

local function near(want, got, tolerance)
  assert.equal(#want, #got)
  for i = 1, #want do
    local close = math.abs(want[i] - got[i]) <= (tolerance or 1e-5) * (1 + math.abs(want[i]))
    assert.is_true(close, ("element %d: %g, expected %g"):format(i, got[i], want[i]))
  end
end

describe("gradient functions", function()
  it("value_and_grad gives the value and a gradient per argument", function()
    local f = nn.value_and_grad(function(a, b) return (a * a * b):sum() end)
    local value, da, db = f(nn.tensor { 1.0, 2.0 }, nn.tensor { 3.0, 4.0 })
    assert.equal(19, value:item())
    near({ 6, 16 }, da:totable())
    near({ 1, 4 }, db:totable())
    assert.is_false(value:requires_grad())
  end)

  it("custom takes the user's backward, with what forward saved", function()
    local calls = 0
    local cube = nn.custom {
      forward = function(x) return x * x * x, x end,
      backward = function(d, x)
        calls = calls + 1
        return d * x * x * 30 -- ten times the true one, to be seen
      end,
    }
    local x = nn.tensor({ 1.0, -2.0 }, { requires_grad = true })
    local y = cube(x * 1)
    near({ 1, -8 }, y:totable())
    local loss = (y * nn.tensor { 1.0, 0.5 }):sum()
    loss:backward()
    near({ 30, 60 }, x:grad():totable())
    assert.equal(1, calls)
    assert.is_false(nn.no_grad(cube, x):requires_grad())
  end)

  it("custom tells of a gradient of the wrong shape and of an error inside", function()
    local x = nn.tensor({ 1.0, 2.0 }, { requires_grad = true })
    local bad = nn.custom { forward = function(t) return t * 2 end, backward = function(d) return d:sum() end }
    assert.has_error(function() bad(x):sum():backward() end)
    local ok, message = pcall(function() bad(x):sum():backward() end)
    assert.is_false(ok)
    assert.matches("custom: the gradient of argument 1 has shape scalar, the argument has 2", message, 1, true)
    local raises = nn.custom { forward = function(t) return t * 2 end, backward = function() error "no gradient today" end }
    ok, message = pcall(function() raises(x):sum():backward() end)
    assert.is_false(ok)
    assert.matches("no gradient today", message, 1, true)
    assert.has_error(function() nn.custom { forwards = print } end)
  end)

  it("custom and ordinary operators make one history", function()
    local double = nn.custom { forward = function(t) return t * 2 end, backward = function(d) return d * 2 end }
    local x = nn.tensor({ 0.3, -0.7 }, { requires_grad = true })
    double(double(x):tanh()):sum():backward()
    local want = {}
    for i, v in ipairs { 0.3, -0.7 } do
      local e = math.exp(4 * v)
      local t = (e - 1) / (e + 1)
      want[i] = 4 * (1 - t * t)
    end
    near(want, x:grad():totable())
  end)

  it("hook sees the gradient and may replace it", function()
    local x, seen = nn.tensor({ 1.0, 2.0 }, { requires_grad = true }), nil
    local y = nn.hook(x * 3, function(d)
      seen = d:totable()
      return d * 10
    end)
    y:sum():backward()
    assert.same({ 1, 1 }, seen)
    near({ 30, 30 }, x:grad():totable())
  end)

  it("jvp is the derivative along a direction", function()
    local f = function(t) return (t * t):sin() end
    local x, v = { 0.4, -1.2, 2.0 }, { 1.0, 0.5, -2.0 }
    local y, d = nn.jvp(f, nn.tensor(x), nn.tensor(v))
    local want, value = {}, {}
    for i = 1, 3 do
      want[i], value[i] = math.cos(x[i] * x[i]) * 2 * x[i] * v[i], math.sin(x[i] * x[i])
    end
    near(value, y:totable())
    near(want, d:totable(), 1e-4)
  end)

  it("hvp is the Hessian times a vector, also for several arguments and softmax", function()
    local _, h = nn.hvp(function(t) return (t * t * t):sum() end, nn.tensor { 1.0, 2.0 }, nn.tensor { 1.0, -1.0 })
    near({ 6, -12 }, h:totable())
    local one = nn.tensor { 1.0 }
    local _, ha, hb = nn.hvp(function(a, b) return (a * a * b):sum() end, { nn.tensor { 2.0 }, nn.tensor { 3.0 } }, { one, one })
    near({ 2 * 3 + 2 * 2 }, ha:totable())
    near({ 2 * 2 }, hb:totable())
    local w = { 0.2, -1.0, 0.7 }
    local f = function(t) return (t:softmax() * nn.tensor(w)):sum() end
    local x, v = { 0.1, 0.5, -0.3 }, { 1.0, 2.0, -1.0 }
    local _, hv = nn.hvp(f, nn.tensor(x), nn.tensor(v))
    -- central differences of the gradient, in doubles: g_i = s_i (w_i - w.s)
    local function gradient(p)
      local sum, s, dot, g = 0, {}, 0, {}
      for i = 1, 3 do s[i] = math.exp(p[i]) sum = sum + s[i] end
      for i = 1, 3 do s[i] = s[i] / sum dot = dot + w[i] * s[i] end
      for i = 1, 3 do g[i] = s[i] * (w[i] - dot) end
      return g
    end
    local e, up, down, want = 1e-5, {}, {}, {}
    for i = 1, 3 do up[i], down[i] = x[i] + e * v[i], x[i] - e * v[i] end
    local gu, gd = gradient(up), gradient(down)
    for i = 1, 3 do want[i] = (gu[i] - gd[i]) / (2 * e) end
    near(want, hv:totable(), 1e-4)
  end)

  it("gradcheck passes what is right and names what is wrong", function()
    nn.seed(3)
    assert.is_true(nn.gradcheck(function(a, b) return a:matmul(b):tanh() end, { nn.randn(2, 3), nn.randn(3, 2) }))
    local wrong = nn.custom { forward = function(t) return t * t end, backward = function(d) return d end }
    local ok, message = nn.gradcheck(function(a) return wrong(a) end, nn.tensor { 1.0, 2.0 })
    assert.is_false(ok)
    assert.matches("argument 1, element 1: gradient", message, 1, true)
  end)
end)
