-- x[...] and x[...] = v, against plain tables.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message

describe("indexing", function()
  local x = nn.arange(1, 25):reshape(2, 3, 4) -- x[i][j][k] = 12 (i - 1) + 4 (j - 1) + k
  local function at(i, j, k) return 12 * (i - 1) + 4 * (j - 1) + k end

  it("by numbers, from either end", function()
    for i = 1, 2 do
      for j = 1, 3 do
        for k = 1, 4 do
          assert.equal(at(i, j, k), x[i][j][k]:item())
          assert.equal(at(i, j, k), x[{ i, j, k }]:item())
          assert.equal(at(i, j, k), x[{ i - 3, j - 4, k - 5 }]:item())
        end
      end
    end
    assert.same({ 3, 4 }, x[2]:shape())
    assert.same({ 4 }, x[{ 2, -1 }]:shape())
    assert.same({}, x[{ 1, 1, 1 }]:shape())
  end)

  it("by closed ranges with steps, forwards and backwards", function()
    close({ at(1, 2, 1), at(1, 3, 1) }, x[{ 1, { 2, 3 }, 1 }])
    close({ at(2, 1, 1), at(2, 1, 3) }, x[{ 2, 1, { 1, 4, 2 } }])
    close({ at(2, 1, 4), at(2, 1, 3), at(2, 1, 2) }, x[{ 2, 1, { -1, 2, -1 } }])
    assert.same({ 2, 3, 1 }, x[{ {}, {}, { 4 } }]:shape())
    assert.same({ 2, 3, 4 }, x[{ {}, {}, {} }]:shape())
    assert.same({ 1, 3, 4 }, x[{ { 2, 2 } }]:shape())
    assert.same({ 0, 3, 4 }, x[{ { 2, 1 } }]:shape())
    close({ at(1, 1, 2), at(1, 2, 2), at(1, 3, 2), at(2, 1, 2), at(2, 2, 2), at(2, 3, 2) }, x[{ {}, {}, 2 }])
  end)

  it("of views of views", function()
    local t = x:transpose(1, 3)[{ { 2, 4, 2 } }] -- (2, 3, 2): k = 2, 4
    close({ at(2, 3, 2), at(2, 3, 4) }, t[{ {}, 3, 2 }])
    close({ at(2, 1, 4), at(1, 1, 4) }, t[{ 2, 1, { 2, 1, -1 } }])
  end)

  it("by tensors of positions, one a key", function()
    close({ at(2, 1, 1), at(1, 1, 1), at(2, 1, 1) }, x[nn.tensor { 2, 1, 2 }][{ {}, 1, 1 }])
    close({ at(1, 3, 2), at(1, 1, 2) }, x[{ 1, nn.tensor { 3, 1 }, 2 }])
    assert.same({ 2, 2, 4 }, x[{ {}, nn.tensor { true, false, true } }]:shape())
    assert.truthy(message(function() return x[nn.tensor { 3 }]:totable() end):find("3 at position 1 is not in 1..2", 1, true))
    assert.truthy(message(function() return x[nn.tensor { 0 }]:totable() end):find("0 at position 1 is not in 1..2", 1, true))
    assert.truthy(message(function() return x[{ nn.tensor { 1 }, nn.tensor { 1 } }] end):find("dim 2 has a second", 1, true))
    assert.truthy(message(function() return x[nn.tensor { 1.5 }] end):find("1-D tensor of integers or booleans", 1, true))
  end)

  it("by masks of the same shape", function()
    close({ 23, 24 }, x[x:gt(22)])
    assert.same({ 0 }, x[x:gt(99)]:shape())
    assert.equal("index: the mask must have the tensor's shape", message(function() return x[nn.ones(3, 4):bool()] end))
  end)

  it("refuses what is out of range", function()
    assert.equal("index: position 3 is out of range in dim 1 of size 2", message(function() return x[3] end))
    assert.equal("index: position -3 is out of range in dim 1 of size 2", message(function() return x[-3] end))
    assert.equal("index: position 0 in dim 2: positions count from 1, or from -1 at the end", message(function() return x[{ 1, 0 }] end))
    assert.equal("index: the range 3..1 in dim 2 runs backwards", message(function() return x[{ 1, { 3, 1 } }] end))
    assert.equal("index: step 0 in dim 1", message(function() return x[{ { 1, 2, 0 } }] end))
    assert.equal("index: 4 entries for a tensor of 3 dims", message(function() return x[{ 1, 1, 1, 1 }] end))
    assert.truthy(message(function() return x[1.5] end):find("dim 1 must be an integer", 1, true))
    assert.truthy(message(function() return x[{ { 1, 2, 3, 4 } }] end):find("a range is {first, last} or {first, last, step}", 1, true))
    assert.truthy(message(function() return x[{ { 1, 9 } }] end):find("position 9 is out of range in dim 1 of size 2", 1, true))
    assert.equal("index: a scalar cannot be indexed; use :item()", message(function() return nn.tensor(1)[1] end))
    assert.truthy(message(function() return x[true] end):find("index: ", 1, true))
  end)
end)

describe("assignment", function()
  local function fresh() return nn.zeros(2, 3) end

  it("writes numbers, slices, boxes, masks", function()
    local x = fresh()
    x[1] = 5
    close({ { 5, 5, 5 }, { 0, 0, 0 } }, x)
    x[{ 2, -1 }] = 7
    close({ { 5, 5, 5 }, { 0, 0, 7 } }, x)
    x[{ {}, { 1, 2 } }] = nn.tensor { 1, 2 }
    close({ { 1, 2, 5 }, { 1, 2, 7 } }, x)
    x[{ {}, { 3, 1, -2 } }] = nn.tensor { { 10, 20 }, { 30, 40 } }
    close({ { 20, 2, 10 }, { 40, 2, 30 } }, x)
    x[x:gt(15)] = -1
    close({ { -1, 2, 10 }, { -1, 2, -1 } }, x)
    x[2] = nn.tensor { 7, 8, 9 }
    close({ 7, 8, 9 }, x[2])
    x[{ {}, 2 }] = nn.tensor { 100, 200 }
    close({ { -1, 100, 10 }, { 7, 200, 9 } }, x)
    x[x:eq(200)] = nn.tensor(0)
    assert.equal(0, x[2][2]:item())
  end)

  it("keeps dtype and leaves other handles alone", function()
    local x = nn.tensor { 1, 2, 3 }
    local y, view = x:clone(), x[{ { 1, 2 } }]
    x[1] = 9.7
    assert.equal("i64", x:dtype())
    assert.same({ 9, 2, 3 }, x:totable())
    assert.same({ 1, 2, 3 }, y:totable())
    assert.same({ 1, 2 }, view:totable())
    x[1] = true
    assert.same({ 1, 2, 3 }, x:totable())
    local b = nn.zeros({ 2 }, "bool")
    b[2] = true
    assert.same({ false, true }, b:totable())
  end)

  it("in a loop runs in place", function()
    local x = nn.zeros(100, 100)
    for i = 1, 100 do x[{ i, i }] = i end
    assert.equal(5050, x:sum():item())
    assert.equal(37, x[37][37]:item())
  end)

  it("of itself to itself reads before it writes", function()
    local x = nn.tensor { 1, 2, 3, 4 }
    x[{ { 2, 4 } }] = x[{ { 1, 3 } }]
    assert.same({ 1, 1, 2, 3 }, x:totable())
    x[{ {} }] = x[{ { -1, 1, -1 } }]
    assert.same({ 3, 2, 1, 1 }, x:totable())
  end)

  it("refuses values that do not fit", function()
    local x = fresh()
    assert.truthy(message(function() x[1] = nn.ones(4) end):find("4", 1, true))
    assert.truthy(message(function() x[{ {}, { 1, 2 } }] = nn.ones(3, 2) end):find("a value of shape 3x2 does not fit a box of shape 2x2", 1, true))
    assert.truthy(message(function() x[3] = 1 end):find("position 3 is out of range", 1, true))
    assert.truthy(message(function() x[1] = "a" end):find("the value must be a tensor or a number, got string", 1, true))
    assert.truthy(message(function() x.name = 1 end):find("no fields to assign ('name')", 1, true))
    assert.truthy(message(function() x[nn.tensor { 1 }] = 1 end):find("use a mask or ranges", 1, true))
    close({ { 0, 0, 0 }, { 0, 0, 0 } }, x)
  end)
end)
