-- lua/nnlua/graph.lua: what a function recorded, as a listing, a drawing and a profile; and the search for the first NaN.
local nn = require "nnlua"

describe("graphs", function()
  it("count nodes and kernels: a chain is one kernel", function()
    local x = nn.ones(8, 16)
    local g = nn.graph(function(t) return (t * 2 + 1):relu():softmax() end, x)
    assert.is_true(g.nodes >= 8)
    assert.equal(1, g.kernels)
    assert.is_true(g.memory_planned < g.memory_unplanned)
  end)

  it("list operators with shapes and the script's lines", function()
    local x, w = nn.ones(4, 3), nn.ones(3, 2)
    local line = debug.getinfo(1, "l").currentline + 1
    local g = nn.graph(function() return x:matmul(w):tanh() end)
    local text = tostring(g)
    assert.matches("matmul(in1, in2)", text, 1, true)
    assert.matches("4x2", text, 1, true)
    assert.matches("line " .. line, text, 1, true)
    assert.equal(48 + 8, g.flops)
    assert.equal(2, g.kernels)
  end)

  it("draw themselves", function()
    local g = nn.graph(function() return (nn.ones(3, 3):matmul(nn.ones(3, 3)) + 1):sum() end)
    assert.matches("^digraph nnlua {.*}%s*$", g:dot())
    local svg = g:svg()
    assert.matches("^<svg .*</svg>%s*$", svg)
    local _, boxes = svg:gsub("<rect", "")
    assert.equal(g.kernels + 1, boxes)
  end)

  it("know that a plan was met before", function()
    local x = nn.ones(5)
    local function f() return (x * 3 - 1):sum() end
    nn.graph(f)
    assert.equal(1, nn.graph(f).hit_rate)
  end)

  it("pass on errors of the function", function()
    local ok, message = pcall(nn.graph, function() error "inside" end)
    assert.is_false(ok)
    assert.matches("inside", message, 1, true)
    assert.has_error(function() nn.graph(3) end)
    assert.equal(6, (nn.ones(2, 3)):sum():item())
  end)
end)

describe("profiles", function()
  it("add up kernels and write a trace that a JSON reader takes", function()
    local p = nn.profile(function()
      for _ = 1, 3 do nn.ones(32, 32):matmul(nn.ones(32, 32)):eval() end
    end)
    local calls
    for _, row in ipairs(p.rows) do
      if row.name == "matmul" then calls = row.calls end
    end
    assert.equal(3, calls)
    assert.is_true(p.seconds > 0)
    assert.matches("matmul", tostring(p), 1, true)
    local file = os.tmpname()
    assert(p:chrome(file))
    local f = assert(io.open(file))
    local events = require("nnlua.core").json_decode(f:read "a")
    f:close()
    os.remove(file)
    assert.equal(#p.events, #events)
    assert.equal("X", events[1].ph)
    assert.is_nil((p:chrome "/no such folder/trace.json"))
  end)
end)

describe("nn.debug", function()
  after_each(function() nn.debug { nan = false } end)

  it("stops at the operator and line where the first NaN appears", function()
    nn.debug { nan = true }
    local x = nn.tensor { 1.0, -1.0 }
    local y = x * 2
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, message = pcall(function() return y:log() end)
    assert.is_false(ok)
    assert.matches((":%d: log: the result (2) holds NaN or Inf"):format(line), message, 1, true)
    assert.same({ 2, -2 }, y:totable())
  end)

  it("lets NaN through when it is off", function()
    local y = nn.tensor { -1.0 }:log():item()
    assert.is_true(y ~= y)
  end)
end)
