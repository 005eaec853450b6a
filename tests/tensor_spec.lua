-- Tensors: making them, what they are, reading them back, handles; how they print (lua/nnlua/print.lua).
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

describe("making tensors", function()
  it("from tables takes shape and dtype from the elements", function()
    local x = nn.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ 2, 3 }, x:shape())
    assert.equal("i64", x:dtype())
    assert.equal("f32", nn.tensor({ 1, 2.5 }):dtype())
    assert.equal("bool", nn.tensor({ true, false }):dtype())
    assert.equal("f32", nn.tensor({}):dtype())
    assert.same({ 0 }, nn.tensor({}):shape())
    assert.same({ 2, 0 }, nn.tensor({ {}, {} }):shape())
    assert.same({}, nn.tensor(3):shape())
    assert.equal(3, nn.tensor(3):item())
    assert.equal(2.5, nn.tensor(2.5):item())
    assert.equal("u8", nn.tensor({ 1, 2 }, "u8"):dtype())
    assert.equal("i32", nn.tensor({ 1, 2 }, { dtype = "int32" }):dtype())
    assert.same({ 1, 2, -3 }, nn.tensor({ 1.9, 2.1, -3.7 }, "i64"):totable())
    assert.same({ { 1, 2 }, { 3, 4 } }, nn.tensor({ { 1, 2 }, { 3, 4 } }):totable())
    assert.same({ math.maxinteger, math.mininteger }, nn.tensor({ math.maxinteger, math.mininteger }):totable())
  end)

  it("refuses tables that are not regular, and other things", function()
    for _, bad in ipairs { { { 1, 2 }, { 3 } }, { 1, { 2 } }, { { 1 }, 2 }, { "a" }, { print }, { { 1, 2 }, { 3, nil } } } do
      assert.truthy(message(nn.tensor, bad):find "^tensor: ")
    end
    assert.truthy(message(nn.tensor, "text"):find "^tensor: ")
    assert.truthy(message(nn.tensor, nil):find "^tensor: ")
    assert.truthy(message(nn.tensor, { 1 }, "f99"):find("unknown dtype f99; there are bool, u8, i32, i64, f16, bf16, f32, f64", 1, true))
    local deep = 1
    for _ = 1, 9 do deep = { deep } end
    assert.truthy(message(nn.tensor, deep):find("nested deeper than 8", 1, true))
  end)

  it("of constants, by lists and by numbers", function()
    assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, nn.zeros(2, 3):long():totable())
    assert.same({ 1, 1 }, nn.ones({ 2 }, "i64"):totable())
    assert.same({ true, true }, nn.ones(2, "bool"):totable())
    assert.same({}, nn.zeros():shape())
    assert.same({ 3, 1 }, nn.zeros_like(nn.ones(3, 1)):shape())
    assert.equal("u8", nn.ones_like(nn.zeros({ 2 }, "u8")):dtype())
    assert.same({ 2, 2 }, nn.rand(2, 2):shape())
  end)

  it("from bytes and back", function()
    local bytes = string.pack("<fff", 1, -2.5, 3e10)
    local x = nn.from_string(bytes, "f32", { 3, 1 })
    close({ 1, -2.5, 3e10 }, x)
    assert.equal(bytes, x:tostring_bytes())
    assert.equal("abc", nn.from_string("abc"):tostring_bytes())
    assert.same({ 97, 98 }, nn.from_string("ab"):totable())
    assert.equal(string.pack("<i8i8", 4, 6), nn.tensor({ { 3, 4 }, { 5, 6 } }):transpose()[2]:tostring_bytes())
    assert.equal("from_string: 3 bytes do not fill the shape", message(nn.from_string, "abc", "u8", { 2 }))
    assert.truthy(message(nn.from_string, "abc", "u8", { -3 }):find "^from_string: ")
    assert.truthy(message(nn.from_string, "", "u8", { 2 ^ 40 | 0, 2 ^ 40 | 0 }):find "^from_string: ")
  end)
end)

describe("a tensor", function()
  local x = nn.tensor { { 1.5, 2, 3 }, { 4, 5, 6 } }

  it("knows its sizes", function()
    assert.equal(2, #x)
    assert.equal(6, x:numel())
    assert.equal(2, x:dim())
    assert.equal(3, x:size(2))
    assert.equal(3, x:size(-1))
    assert.same({ 2, 3 }, { x:size() })
    assert.equal(nn.device(), x:device())
    assert.equal("size: dim 0 is out of range: the tensor has 2 dims (counted from 1)", message(x.size, x, 0))
    assert.truthy(message(x.size, x, 3):find("dim 3", 1, true))
    assert.equal("#: a scalar has no length", message(function() return #nn.tensor(1) end))
  end)

  it("gives its only element as a Lua number or truth value", function()
    assert.equal(1.5, x[1][1]:item())
    assert.equal("integer", math.type(nn.tensor({ 7 }):item()))
    assert.is_true(nn.tensor(true):item())
    assert.equal("item: the tensor must have one element, its shape is 2x3", message(x.item, x))
    assert.equal("item: the tensor must have one element, its shape is 0", message(function() nn.zeros(0):item() end))
  end)

  it("gives pieces of its elements", function()
    close({ 3, 4 }, x:elements(3, 4))
    close({}, x:elements(2, 1))
    close({ 1.5, 4, 2, 5, 3, 6 }, x:transpose():elements(1, 6))
    assert.equal("elements: 0..7 is not in 1..6", message(x.elements, x, 0, 7))
  end)

  it("computes with operators of Lua", function()
    close({ { 2.5, 3, 4 }, { 5, 6, 7 } }, x + 1)
    close({ { 0.5, 0, -1 }, { -2, -3, -4 } }, 2 - x)
    close({ { 3, 4, 6 }, { 8, 10, 12 } }, x * 2)
    close({ { 2, 1.5, 1 }, { 0.75, 0.6, 0.5 } }, 3 / x)
    close({ { 2.25, 4, 9 }, { 16, 25, 36 } }, x ^ 2)
    close({ { -1.5, -2, -3 }, { -4, -5, -6 } }, -x)
    assert.is_false(x == nn.tensor { { 1.5, 2, 3 }, { 4, 5, 6 } }) -- identity, as with tables
    assert.is_true(x:eq(x):all():item())
    assert.truthy(message(function() return x + "1" end):find "^add: ")
    assert.truthy(message(function() return x + {} end):find "^add: ")
  end)

  it("promotes dtypes: bool < u8 < i32 < i64 < f32; whole numbers do not lift integers, fractions do", function()
    local function of(d) return nn.ones({ 2 }, d) end
    local order = { "bool", "u8", "i32", "i64", "f32" }
    for i, a in ipairs(order) do
      for k, b in ipairs(order) do
        local expected = order[math.max(i, k)]
        if expected == "bool" then expected = "i64" end -- arithmetic on truth values counts
        assert.equal(expected, (of(a) + of(b)):dtype(), a .. " + " .. b)
      end
      assert.equal("f32", (of(a) / of(a)):dtype())
      assert.equal(a == "bool" and "i64" or a, (of(a) * 2):dtype())
      assert.equal("f32", (of(a) * 0.5):dtype())
    end
  end)

  it("changes its dtype", function()
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:long():totable())
    assert.equal("i32", x:int():dtype())
    assert.equal("u8", x:byte():dtype())
    assert.equal("bool", x:bool():dtype())
    assert.equal("f32", x:long():float():dtype())
    assert.equal("i64", x:to("int64"):dtype())
    assert.equal("f32", x:to("cpu"):dtype())
    assert.truthy(message(x.to, x, "gpu9"):find("neither a dtype (bool, u8, i32, i64, f32, ...) nor a device (cpu, vulkan,", 1, true))
    assert.same({ 255, 0, 1 }, nn.tensor({ 255, 256, 257 }):byte():totable())
  end)

  it("is a value: a clone is not touched by assignment", function()
    local a = nn.zeros(3)
    local b = a:clone()
    a[2] = 5
    close({ 0, 5, 0 }, a)
    close({ 0, 0, 0 }, b)
  end)

  it("has no methods in place, and says what to write", function()
    local m = message(function() return x:add_(1) end)
    assert.equal("there are no in-place methods: a tensor is a value; write x = x:add(...)", m)
  end)

  it("has no method of a name that is misspelt, and says which was meant", function()
    assert.equal('a tensor has no "flor"; did you mean "floor"?', message(function() return x:flor() end))
    assert.equal('a tensor has no "qqqqqq"', message(function() return x.qqqqqq end))
    assert.equal('a tensor has no "zzzzzz_"', message(function() return x:zzzzzz_() end))
  end)

  it("can be let go of by hand", function()
    local y = nn.ones(3)
    y:free()
    assert.is_false(y:is_alive())
    y:free()
    assert.truthy(message(function() return y:shape() end):find("this tensor is gone", 1, true))
    assert.is_false(nn.is_tensor(y))
    assert.is_true(nn.is_tensor(x))
    assert.is_false(nn.is_tensor(3))
    do
      local z <close> = nn.ones(2)
      y = z
    end
    assert.is_false(y:is_alive())
  end)
end)

describe("draws", function()
  it("depend on the seed alone, for any number of threads", function()
    local threads = nn.threads()
    local function some()
      nn.seed(9)
      return (nn.rand(40000) + nn.randn(40000)):tostring_bytes()
    end
    nn.threads(1)
    local one = some()
    nn.threads(3)
    assert.equal(one, some())
    nn.threads(threads)
    assert.not_equal(nn.rand(5):tostring_bytes(), nn.rand(5):tostring_bytes())
  end)

  it("go on where a saved state was", function()
    nn.seed(3)
    nn.rand(2)
    local state = nn.rng_state()
    local a = nn.rand(3):totable()
    nn.set_rng_state(state)
    assert.same(a, nn.rand(3):totable())
    assert.truthy(message(nn.set_rng_state, {}):find "^set_rng_state: ")
  end)

  it("have the moments they should", function()
    nn.seed(1)
    local u, z = nn.rand(200000), nn.randn(200000)
    close(0.5, u:mean():item(), 3e-3)
    close(1 / 12, u:var():item(), 1e-3)
    close(0, z:mean():item(), 1e-2)
    close(1, z:var():item(), 1e-2)
    close(3, (z ^ 4):mean():item(), 5e-2)
    assert.is_true(u:amin():item() >= 0 and u:amax():item() < 1)
    close(0.3, nn.bernoulli({ 100000 }, 0.3):float():mean():item(), 5e-3)
    close(0.5, nn.bernoulli({ 100000 }):float():mean():item(), 5e-3)
    close(0.6, nn.ones(100000):dropout(0.4):gt(0):float():mean():item(), 5e-3)
  end)
end)

describe("printing", function()
  local function check(expected, x) assert.equal(expected, tostring(x)) end

  it("shows values, dtype and shape, aligned", function()
    check("tensor([[ 1.5  2. ]\n        [-3.   4. ]], dtype=f32, shape=2x2)", nn.tensor { { 1.5, 2 }, { -3, 4.0 } })
    check("tensor([ 1  2 30], dtype=i64, shape=3)", nn.tensor { 1, 2, 30 })
    check("tensor([ true false], dtype=bool, shape=2)", nn.tensor { true, false })
    check("tensor(3.25, dtype=f32, shape=scalar)", nn.tensor(3.25))
    check("tensor(7, dtype=i64, shape=scalar)", nn.tensor(7))
    check("tensor([], dtype=f32, shape=0x3)", nn.zeros(0, 3))
    check("tensor([[[0. 1.]\n         [2. 3.]]\n\n        [[4. 5.]\n         [6. 7.]]], dtype=f32, shape=2x2x2)", nn.arange(0, 8):reshape(2, 2, 2))
    check("tensor([1. 1.], dtype=f32, shape=2, requires_grad=true)", nn.ones(2):requires_grad(true))
  end)

  it("rounds to four digits and uses powers of ten for wide ranges", function()
    check("tensor([0.3333 0.6667 1.    ], dtype=f32, shape=3)", nn.tensor { 1, 2, 3 } / 3)
    check("tensor([1.e-06 1.e+00 1.e+10], dtype=f32, shape=3)", nn.tensor { 1e-6, 1, 1e10 })
    check("tensor([1.2346e-05], dtype=f32, shape=1)", nn.tensor { 1.23456e-5 })
    check("tensor([ 1.       nan    inf   -inf -2.125], dtype=f32, shape=5)", nn.tensor { 1, 0 / 0, math.huge, -math.huge, -2.125 })
    check("tensor([nan], dtype=f32, shape=1)", nn.tensor { 0 / 0 })
  end)

  it("summarises large tensors and reads little of them", function()
    check("tensor([   0    1    2 ... 1997 1998 1999], dtype=i64, shape=2000)", nn.arange(0, 2000, 1, "i64"))
    local text = tostring(nn.zeros(100, 100))
    assert.equal(7, select(2, text:gsub("\n", "\n")) + 1)
    assert.truthy(text:find "%[0%. 0%. 0%. %.%.%. 0%. 0%. 0%.%]")
    assert.is_true(#tostring(nn.zeros(20, 20, 20, 20)) < 20000)
  end)

  it("breaks long rows", function()
    for line in (tostring(nn.arange(0, 900)) .. "\n"):gmatch "(.-)\n" do assert.is_true(#line <= 120, line) end
  end)

  it("does not fail on a tensor that is gone", function()
    local x = nn.ones(2)
    x:free()
    check("tensor(gone)", x)
  end)
end)
