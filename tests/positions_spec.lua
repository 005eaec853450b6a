-- x[...] and its assignment by tensors of positions and masks (bindings/lua_index.c; index_spec has numbers and ranges), and the operators
-- composed in lua/nnlua/tensor.lua, against plain loops and written-out numbers.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local it = support.on_device(it)

local function same(expected, x) assert.same(expected, type(x) == "table" and x or x:totable()) end
-- a[i][j] = 10 i + j
local function matrix() return nn.tensor(support.matrix(3, 4, function(i, j) return 10.0 * i + j end)) end
local function cube()
  local t = {}
  for i = 1, 2 do t[i] = support.matrix(3, 4, function(j, k) return 100.0 * i + 10 * j + k end) end
  return nn.tensor(t)
end
local function ids(t) return nn.tensor(t, { dtype = "i64" }) end

-- the gradient of sum(f(x) * weights) by every element of x, against central differences of f itself
local function check_gradient(x, f)
  local noise = support.noise(3)
  local leaf = x:detach():requires_grad(true)
  local y = f(leaf)
  local w = {}
  for i = 1, y:numel() do w[i] = noise() end
  local weights = nn.tensor(w):reshape(y:shape())
  local g = nn.grad((y * weights):sum(), leaf):flatten():totable()
  local flat = x:flatten():totable()
  local function loss(i, h)
    local t = { table.unpack(flat) }
    t[i] = t[i] + h
    return (f(nn.tensor(t):reshape(x:shape())) * weights):sum():item()
  end
  for i = 1, #flat do close({ (loss(i, 0.5) - loss(i, -0.5)) }, { g[i] }, 2e-3) end -- x[...] is linear: a wide step is exact
end

describe("x[...]", function()
  it("takes numbers and ranges", function()
    local x = matrix()
    same({ 21, 22, 23, 24 }, x[2])
    same({ 31, 32, 33, 34 }, x[-1])
    same({ { 12, 13 }, { 22, 23 }, { 32, 33 } }, x[{ {}, { 2, 3 } }])
    same({ 34, 32 }, x[{ 3, { 4, 1, -2 } }])
    same({}, x[{ {}, { 3, 2 } }]:flatten())
    assert.equal(23, x[{ 2, 3 }]:item())
  end)

  it("takes a tensor of positions of any shape", function()
    local x = matrix()
    same({ { 31, 32, 33, 34 }, { 11, 12, 13, 14 } }, x[ids { 3, 1 }])
    same({ { 31, 32, 33, 34 }, { 11, 12, 13, 14 } }, x[nn.tensor({ 3, 1 }, { dtype = "i32" })])
    same({ 21, 22, 23, 24 }, x[ids(2)])
    local y = x[{ {}, ids { { 1, 4 }, { 2, 2 } } }]
    assert.same({ 3, 2, 2 }, y:shape())
    same({ { { 11, 14 }, { 12, 12 } }, { { 21, 24 }, { 22, 22 } }, { { 31, 34 }, { 32, 32 } } }, y)
    same({ { 31, 32, 33, 34 }, { 21, 22, 23, 24 } }, x[ids { -1, -2 }])
    assert.same({ 0, 4 }, x[nn.zeros({ 0 }, "i64")]:shape())
  end)

  it("broadcasts several tensors of positions together", function()
    local x = matrix()
    same({ 12, 24, 31 }, x[{ ids { 1, 2, 3 }, ids { 2, 4, 1 } }])
    same({ { 12, 14 }, { 32, 34 } }, x[{ ids { { 1 }, { 3 } }, ids { 2, 4 } }])
    same({ 14, 24 }, x[{ ids { 1, 2 }, ids(-1) }])
  end)

  it("puts the dims of the positions where they are neighbours, else in front", function()
    local x = cube()
    local y = x[{ {}, ids { 1, 3 }, ids { 4, 2 } }]
    same({ { 114, 132 }, { 214, 232 } }, y)
    local z = x[{ ids { 1, 2, 2 }, {}, ids { 4, 1, 2 } }] -- (3 positions, dim 2)
    same({ { 114, 124, 134 }, { 211, 221, 231 }, { 212, 222, 232 } }, z)
    same({ { 121, 131 }, { 122, 132 } }, x[{ 1, { 2, 3 }, ids { 1, 2 } }]:transpose())
  end)

  it("takes masks of one or more dims, beside other keys too", function()
    local x = matrix()
    same({ 24, 31, 32, 33, 34 }, x[nn.gt(x, 23)])
    same({ { 11, 12, 13, 14 }, { 31, 32, 33, 34 } }, x[nn.tensor { true, false, true }])
    same({ { 12, 14 }, { 22, 24 }, { 32, 34 } }, x[{ {}, nn.tensor { false, true, false, true } }])
    same({ 12, 34 }, x[{ nn.tensor { true, false, true }, ids { 2, 4 } }])
    local c = cube()
    local m = nn.gt(c[1], 130)
    same({ { 131, 132, 133, 134 }, { 231, 232, 233, 234 } }, c[{ {}, m }])
    same({ 124, 134 }, c[{ 1, nn.tensor { false, true, true }, 4 }])
    assert.same({ 0 }, x[nn.gt(x, 99)]:shape())
  end)

  it("has gradients", function()
    local x, c = matrix(), cube()
    local keys = { { 2 }, { { {}, { 2, 3 } } }, { ids { 3, 1, 3 } }, { { ids { 1, 2, 1 }, ids { 2, 4, 2 } } },
      { { {}, ids { { 1, 4 }, { 2, 2 } } } }, { nn.gt(x, 23) } }
    for _, key in ipairs(keys) do
      check_gradient(x, function(t) return t[key[1]] end)
    end
    check_gradient(c, function(t) return t[{ ids { 1, 2, 2 }, {}, ids { 4, 1, 1 } }] end)
    check_gradient(c, function(t) return t[{ {}, nn.gt(c[1], 130) }] end)
  end)
end)

describe("x[...] = v", function()
  local function set(x, key, v)
    local y = x:clone()
    y[key] = v
    return y
  end

  it("leaves every other handle as it was", function()
    local x = matrix()
    local y = x:clone()
    y[1] = 0
    assert.equal(11, x[{ 1, 1 }]:item())
    assert.equal(0, y[{ 1, 1 }]:item())
  end)

  it("takes numbers, ranges, positions and masks", function()
    local x = matrix()
    same({ { 0, 0, 0, 0 }, { 21, 22, 23, 24 }, { 31, 32, 33, 34 } }, set(x, 1, 0))
    same({ { 11, 1, 2, 14 }, { 21, 1, 2, 24 }, { 31, 1, 2, 34 } }, set(x, { {}, { 2, 3 } }, nn.tensor { 1.0, 2.0 }))
    same({ { 1, 1, 1, 1 }, { 21, 22, 23, 24 }, { 2, 2, 2, 2 } }, set(x, ids { 3, 1 }, nn.tensor { { 2.0 }, { 1.0 } }))
    same({ { 11, 7, 13, 14 }, { 21, 22, 23, 8 }, { 31, 32, 33, 34 } }, set(x, { ids { 1, 2 }, ids { 2, 4 } }, nn.tensor { 7.0, 8.0 }))
    same({ { 11, 12, 13, 9 }, { 21, 22, 23, 9 }, { 31, 32, 33, 34 } }, set(x, { { 1, 2 }, ids { -1 } }, 9))
    same({ { 11, 12, 13, 14 }, { 21, 22, 23, 0 }, { 0, 0, 0, 0 } }, set(x, nn.gt(x, 23), 0))
    same({ { 11, 12, 13, 14 }, { 21, 22, 23, 1 }, { 2, 3, 4, 5 } }, set(x, nn.gt(x, 23), nn.tensor { 1.0, 2, 3, 4, 5 }))
    same({ { 11, 12, 13, 14 }, { 21, 22, 23, -24 }, { -31, -32, -33, -34 } }, set(x, nn.gt(x, 23), -x))
    same({ { 1, 2, 3, 4 }, { 21, 22, 23, 24 }, { 1, 2, 3, 4 } }, set(x, nn.tensor { true, false, true }, nn.tensor { 1.0, 2, 3, 4 }))
    same({ { 5, 12, 6, 14 }, { 21, 22, 23, 24 }, { 31, 32, 33, 34 } }, set(x, { 1, ids { 1, 3 } }, nn.tensor { 5.0, 6.0 }))
    same({ 1, 7, 3 }, set(ids { 1, 2, 3 }, 2, 7.9))
  end)

  it("keeps the last of several values for one element", function()
    same({ 0, 3, 0 }, set(nn.zeros(3), ids { 2, 2, 2 }, nn.tensor { 1.0, 2.0, 3.0 }))
  end)

  it("has gradients by the tensor and by the values", function()
    local x, c = matrix(), cube()
    for _, key in ipairs { { ids { 3, 1 } }, { { ids { 1, 2, 2 }, ids { 2, 4, 4 } } }, { { { 1, 2 }, ids { 4, 1 } } }, { nn.gt(x, 23) } } do
      check_gradient(x, function(t) return set(t, key[1], 1) end)
      check_gradient(x[key[1]], function(v) return set(x, key[1], v) end)
    end
    local key = { ids { 1, 2, 2 }, {}, ids { 4, 1, 1 } }
    check_gradient(c[key], function(v) return set(c, key, v) end)
  end)

  it("under no_grad keeps a variable a variable", function()
    local x = nn.zeros(3):requires_grad(true)
    nn.no_grad(function() x[ids { 1, 3 }] = 2 end)
    assert.is_true(x:requires_grad())
    same({ 2, 0, 2 }, x)
  end)
end)

describe("bad keys", function()
  local function get(key)
    return message(function() return matrix()[key]:totable() end)
  end
  local function put(key, v)
    return message(function()
      local x = matrix()
      x[key] = v
      return x:totable()
    end)
  end

  it("are errors that say what is wrong", function()
    assert.matches("position 0 in dim 1: positions count from 1", get(0))
    assert.matches("position 4 is out of range in dim 1 of size 3", get(4))
    assert.matches("position %-5 is out of range in dim 2 of size 4", get { 1, -5 })
    assert.matches("3 entries for a tensor of 2 dims", get { 1, 2, 3 })
    assert.matches("must be an integer, a range", get { "x" })
    assert.matches("must be an integer, a range", get(1.5))
    assert.matches("step 0 in dim 1", get { { 1, 2, 0 } })
    assert.matches("runs backwards", get { { 3, 1 } })
    assert.matches("a range is {first, last}", get { { 1, 2, 3, 4 } })
    assert.matches("positions must be integers or a mask, dim 2 has a tensor of dtype f32", get { 1, nn.tensor { 1.5 } })
    assert.matches("the mask's size 2 differs from the tensor's in dim 1, 3", get(nn.tensor { true, false }))
    assert.matches("a mask of 2 dims at dim 2 of a tensor of 2 dims", get { 1, nn.gt(matrix(), 3) })
    assert.matches("cannot be expanded", get { ids { 1, 2 }, ids { 1, 2, 3 } })
    assert.matches("position 5 .element 2 of the positions. is not in 1..4 of dim 2", get { ids { 1, 1 }, ids { 1, 5 } })
    assert.matches("position %-4 .element 1 of the positions. is not in 1..3 of dim 1", get { ids { -4 }, ids { 1 } })
    assert.matches("position 0 ", get { ids { 0 }, ids { 1 } })
    assert.matches("4 .* 1..3", get(ids { 1, 4 }))
    assert.matches("a scalar cannot be indexed", message(function() return nn.tensor(1.0)[1] end))
    assert.matches("values of shape 3 do not fit the 2x4 elements", put(ids { 1, 2 }, nn.zeros(3)))
    assert.matches("position 9 ", put({ {}, ids { 9 } }, 1))
    assert.matches("position 0 ", put(ids { 0 }, 1))
    assert.matches("the value must be a tensor or a number, got string", put(1, "x"))
    assert.matches("the value must be a tensor or a number, got nil", put(1, nil))
    assert.matches("a tensor has no fields to assign %('y'%)", put("y", 1))
    same({ { 1, 1 }, { 1, 1 } }, nn.ones(2, 2)) -- and things go on
  end)
end)

describe("compositions:", function()
  it("split, chunk, unbind", function()
    local x = nn.arange(1, 8)
    local function tables(list)
      for i, t in ipairs(list) do list[i] = t:totable() end
      return list
    end
    same({ { 1, 2, 3 }, { 4, 5, 6 }, { 7 } }, tables(x:split(3)))
    same({ { 1 }, {}, { 2, 3, 4, 5, 6, 7 } }, tables(nn.split(x, { 1, 0, 6 })))
    same({ { 1, 2, 3 }, { 4, 5, 6 }, { 7 } }, tables(x:chunk(3)))
    same({ { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7 } }, tables(x:chunk(5)))
    same({ { { 11, 12 }, { 21, 22 }, { 31, 32 } }, { { 13, 14 }, { 23, 24 }, { 33, 34 } } }, tables(matrix():split(2, -1)))
    same({ { 11, 21, 31 }, { 12, 22, 32 }, { 13, 23, 33 }, { 14, 24, 34 } }, tables(matrix():unbind(2)))
    same({ {} }, tables(nn.zeros(0):split(2)))
    check_gradient(matrix(), function(t)
      local a, b = table.unpack(t:split({ 1, 3 }, 2))
      return nn.cat({ b * 2, a }, 2) + t:unbind(1)[3]
    end)
  end)

  it("meshgrid", function()
    local a, b = table.unpack(nn.meshgrid { nn.arange(0, 2), nn.arange(5, 8) })
    same({ { 0, 0, 0 }, { 1, 1, 1 } }, a)
    same({ { 5, 6, 7 }, { 5, 6, 7 } }, b)
    a, b = table.unpack(nn.meshgrid({ nn.arange(0, 2), nn.arange(5, 8) }, { indexing = "xy" }))
    same({ { 0, 1 }, { 0, 1 }, { 0, 1 } }, a)
    same({ { 5, 5 }, { 6, 6 }, { 7, 7 } }, b)
  end)

  it("index_put", function()
    same({ { 0, 5, 0 }, { 7, 0, 0 } }, nn.zeros(2, 3):index_put({ ids { 1, 2 }, ids { 2, 1 } }, nn.tensor { 5.0, 7.0 }))
    same({ { 0, 3, 0 }, { 0, 0, 0 } }, nn.zeros(2, 3):index_put({ ids { 1 }, ids { 2, 2, 2 } }, 1, true))
    same({ { 1, 1, 1 }, { 0, 0, 0 } }, nn.zeros(2, 3):index_put({ ids { 1 } }, 1))
  end)

  it("index_put takes positions from the end, as x[...] does", function()
    same({ { 0, 0, 4 }, { 9, 0, 0 } }, nn.zeros(2, 3):index_put({ ids { 1, -1 }, ids { -1, -3 } }, nn.tensor { 4.0, 9.0 }))
    assert.matches("position %-4 .* is not in 1%.%.3 of dim 2", message(function()
      return nn.zeros(2, 3):index_put({ ids { 1 }, ids { -4 } }, 1):totable()
    end))
  end)

  it("zeros_like and its kin keep shape and dtype, or take a dtype", function()
    local x = nn.tensor({ { 1, 2 } }, { dtype = "i32" })
    for name, value in pairs { zeros_like = 0, ones_like = 1, empty_like = 0 } do
      assert.equal("i32", nn[name](x):dtype())
      same({ { value, value } }, x[name](x))
      assert.equal("f64", nn[name](x, "f64"):dtype())
      assert.equal("f16", x[name](x, { dtype = "f16" }):dtype())
      assert.matches(name .. ": unknown option 'dtyp'", message(nn[name], x, { dtyp = "f16" }))
    end
    for _, name in ipairs { "rand_like", "randn_like" } do
      local y = nn[name](x)
      assert.same({ "f32", 1, 2 }, { y:dtype(), y:size() })
      assert.equal("f16", x:half()[name](x:half()):dtype())
      assert.equal("f64", nn[name](x, { dtype = "f64" }):dtype())
    end
    nn.seed(4)
    local u, z = nn.rand_like(nn.zeros(100)), nn.randn_like(nn.zeros(100))
    nn.seed(4)
    same(nn.rand(100):totable(), u)
    same(nn.randn(100):totable(), z)
    assert.equal("i64", nn.zeros({ 2, 3 }, { dtype = "i64" }):dtype())
    assert.equal("i64", nn.ones(2, 3, { dtype = "i64" }):dtype())
    assert.equal("u8", nn.empty(2, "u8"):dtype())
    assert.matches("zeros: unknown option 'type'", message(nn.zeros, 2, { type = "i64" }))
  end)

  it("full_like, empty, empty_like, from_table", function()
    same({ { 3, 3 } }, nn.full_like(nn.zeros(1, 2), 3))
    assert.equal("i64", nn.full_like(nn.zeros(2), 3, { dtype = "i64" }):dtype())
    same({ true }, nn.full_like(nn.tensor { false }, true))
    assert.same({ 2, 3 }, nn.empty(2, 3):shape())
    assert.equal("bool", nn.empty_like(nn.tensor { true }):dtype())
    same({ 1, 2 }, nn.from_table { 1, 2 })
  end)

  it("refuse bad calls", function()
    local x = matrix()
    local function bad(pattern, name, ...) assert.matches(pattern, message(nn[name], ...)) end
    bad("split: argument 'x' must be a tensor, got 3", "split", 3, 1)
    bad("split: size 0", "split", x, 0)
    bad("split: argument 'size' must be an integer or a list", "split", x, 1.5)
    bad("split: dim 3 is out of range: the tensor has 2 dims", "split", x, 1, 3)
    bad("split: argument 'dim' must be a dim %(from 1, or from %-1 at the end%), got 0", "split", x, 1, 0)
    bad("split: argument 'dim' must be a dim", "split", x, 1, "x")
    bad("split: the sizes add up to 2, dim 1 has size 3", "split", x, { 1, 1 })
    bad("split: the sizes add up to more than 3", "split", x, { 2, 2 })
    bad("split: size %-1 is no size", "split", x, { -1, 4 })
    bad("split: a scalar has no dims", "split", nn.tensor(1.0), 1)
    bad("chunk: count = 0", "chunk", x, 0)
    bad("chunk: argument 'count' must be an integer, got 1.5", "chunk", x, 1.5)
    bad("unbind: dim %-3 is out of range", "unbind", x, -3)
    bad("meshgrid: a list of vectors is needed", "meshgrid", {})
    bad("meshgrid: vector 1 has 2 dims", "meshgrid", { x })
    bad("meshgrid: .*indexing", "meshgrid", { x[1] }, { indexing = "yx" })
    bad("index_put: a list of tensors of positions is needed", "index_put", x, {}, 1)
    bad("index_put: positions must be integers, tensor 1 has dtype f32", "index_put", x, { nn.zeros(2) }, 1)
    bad("index_put: 3 tensors of positions for 2 dims", "index_put", x, { ids { 1 }, ids { 1 }, ids { 1 } }, 1)
    bad("full_like: argument 'x' must be a tensor", "full_like", 3, 1)
    bad("full_like: unknown option", "full_like", x, 1, { device = "cpu" })
  end)
end)

describe("other float dtypes:", function()
  local calls = {
    function(x) return (x:sort()) end, function(x) return (x:topk(2)) end, function(x) return (x:max(2)) end, function(x) return (x:median(2)) end,
    function(x) return x:quantile(0.3, 2) end, function(x) return x:quantile(nn.tensor({ 0.25, 0.5 }, { dtype = x:dtype() }), 2) end,
    function(x) return (x:unique()) end, function(x) return (x:unique { dim = 2, sorted = false }) end,
    function(x) return x:gather_nd(ids { { { 3 } }, { { 1 } } }, 1) end,
    function(x) return x:scatter_reduce(2, ids { { 1, 1 }, { 3, 2 } }, x[{ {}, { 2, 3 } }], "prod") end,
    function(x) return x:scatter_reduce(1, ids { { 1, 1 }, { 2, 2 } }, 0.75, "amin") end,
    function(x) return x:scatter_nd_reduce(ids { { 2 }, { 2 } }, x * 0.5, "prod") end,
    function(x) return x:cumsum(2) end, function(x) return x:cumprod(2) end, function(x) return (x:cummax(2)) end,
    function(x) return x:logcumsumexp(2) end,
    function(x) return nn.linear_scan(x, x, 2) end, function(x) return x:norm(2, 2) end, function(x) return x:norm(3) end,
    function(x) return x:gather(2, ids { { 1, 3 }, { 2, 2 } }) end, function(x) return x:scatter(2, ids { { 1 }, { 3 } }, x[{ {}, { 2, 2 } }]) end,
    function(x) return x:scatter_add(2, ids { { 1, 1 }, { 3, 2 } }, 1.5) end, function(x) return x:take(ids { 5, 1 }) end,
    function(x) return x:index_add(1, ids { 2, 2 }, x) end, function(x) return x[ids { 2, 1, 2 }] end,
    function(x) return x[{ ids { 2, 1 }, ids { 1, 3 } }] end,
    function(x) return x[nn.gt(x, 0)] end, function(x) return x:masked_fill(nn.gt(x, 0), 2) end, function(x) return x:pad({ 1, 1 }, "reflect") end,
    function(x) return x:tril() end, function(x) return x[1]:diag() end, function(x) return x:flip(2):roll(1, 2) end,
    function(x) return x:unfold(2, 2) end,
    function(x) return x:repeat_interleave(2, 1) end,
  }
  local data = { { 0.5, -1.25, 2 }, { 1.5, 0.25, -0.75 } }

  for dtype, tolerance in pairs { f64 = 1e-6, f16 = 4e-3, bf16 = 3e-2 } do
    it(dtype .. " results and gradients are those of f32, in its dtype", function()
      for i, f in ipairs(calls) do
        local x, y = nn.tensor(data):requires_grad(true), nn.tensor(data, { dtype = dtype }):requires_grad(true)
        local a, b = f(x), f(y)
        assert.equal(dtype, b:dtype(), i)
        close(a, b:float(), tolerance, "call " .. i)
        local g, h = nn.grad(a:sum(), x), nn.grad(b:sum(), y)
        assert.equal(dtype, h:dtype(), i)
        close(g, h:float(), tolerance, "gradient of call " .. i)
      end
    end)
  end

  it("f64 has the precision of doubles", function()
    local x = nn.tensor({ 1e-12, 1.0, 1e-12 }, { dtype = "f64" })
    close({ 1 + 2e-12 }, { x:cumsum(1)[3]:item() }, 1e-15)
    assert.same({ 1e-12, 1e-12, 1.0 }, (x:sort()):totable())
    close({ 0.1 }, { nn.linspace(0, 0.3, 4, "f64")[2]:item() }, 1e-15)
    assert.equal(2, nn.searchsorted(nn.tensor({ 1.0, 1 + 1e-12 }, { dtype = "f64" }), 1 + 5e-13):item())
  end)
end)

-- Products with zeros among the factors: x[k] times the src that go there, against the product of plain factors, to the second order.
describe("scatter_reduce by product", function()
  it("has the gradients of the written-out product, zeros or not", function()
    local where = { 1, 2, 2, 3, 3, 3, 4, 4, 1 }
    local xs, srcs = { 0, 2, 3, 0 }, { 5, 0, 7, 0, -2, 0, 0, 0, 3 }
    for zeros = 0, 1 do
      local function leaf(t)
        local out = {}
        for i, v in ipairs(t) do out[i] = (v == 0 and zeros == 0) and 0.5 + i / 4 or v end
        return nn.tensor(out, { dtype = "f64" }):requires_grad(true)
      end
      local function plain(x, src)
        local factors = {}
        for k = 1, #xs do factors[k] = x[k] end
        for i, k in ipairs(where) do factors[k] = factors[k] * src[i] end
        return nn.stack(factors, 1)
      end
      local function ours(x, src) return x:scatter_reduce(1, ids(where), src, "prod") end
      local weights = nn.tensor({ 1.5, -2, 0.5, 3 }, { dtype = "f64" })
      local wx, ws = nn.tensor({ 1, -1, 2, 0.5 }, { dtype = "f64" }), nn.arange(1, 10):to "f64"
      local function orders(f)
        local x, src = leaf(xs), leaf(srcs)
        local y = f(x, src)
        local gx, gs = nn.grad((y * weights):sum(), { x, src }, { create_graph = true })
        local hx, hs = nn.grad((gx * wx):sum() + (gs * ws):sum(), { x, src })
        return { y, gx, gs, hx, hs }
      end
      local got, want = orders(ours), orders(plain)
      for i = 1, 5 do close(want[i], got[i], 1e-12, ("zeros %d, result %d"):format(zeros, i)) end
    end
  end)

  it("amax shares the gradient among equals, x included", function()
    local x = nn.tensor({ 2.0, 1.0, 5.0 }):requires_grad(true)
    local src = nn.tensor({ 2.0, 2.0, 3.0, 3.0, 1.0 }):requires_grad(true)
    local y = x:scatter_reduce(1, ids { 1, 1, 2, 2, 2 }, src, "amax")
    assert.same({ 2, 3, 5 }, y:totable())
    local gx, gs = nn.grad((y * nn.tensor { 6, 4, 1 }):sum(), { x, src })
    assert.same({ 2, 0, 1 }, gx:totable())
    assert.same({ 2, 2, 2, 2, 0 }, gs:totable())
  end)
end)

describe("unique", function()
  it("compares long slices from their first element on", function()
    local x = nn.zeros(4, 5001)
    x[{ 2, 5001 }] = 1
    x[{ 3, 4999 }] = 1
    x[{ 4, 5001 }] = 1
    local v, which, count, first = x:unique(1)
    assert.same({ 3, 5001 }, v:shape())
    assert.same({ { 0, 0, 0 }, { 0, 0, 1 }, { 1, 0, 0 } }, v[{ {}, { 4999, 5001 } }]:totable())
    assert.same({ 1, 2, 3, 2 }, which:totable())
    assert.same({ 1, 2, 1 }, count:totable())
    assert.same({ 1, 2, 3 }, first:totable())
  end)
end)
