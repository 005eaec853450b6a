-- lua/nnlua/module.lua
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local message = support.message

describe("Module", function()
  local Net = nn.class("Net", nn.Module)
  function Net:init(hidden)
    self.scale = nn.parameter { 1, 1 }
    self.fc1 = nn.Linear(3, hidden)
    self.blocks = { nn.Linear(hidden, hidden), nn.Linear(hidden, hidden) }
    self.mean = nn.buffer { 0 }
    self.plain = nn.zeros(2)
    self.fc2 = nn.Linear(hidden, 2)
  end
  function Net:forward(x)
    x = self.fc1(x)
    for _, block in ipairs(self.blocks) do x = block(x) end
    return self.fc2(x) * self.scale
  end

  local function names(list)
    local out = {}
    for i, entry in ipairs(list) do out[i] = entry.name end
    return out
  end

  it("names parameters by path, in the order they were made, and buffers apart", function()
    local net = Net(4)
    assert.same({ "scale", "fc1.kernel", "fc1.bias", "blocks.1.kernel", "blocks.1.bias", "blocks.2.kernel", "blocks.2.bias", "fc2.kernel",
      "fc2.bias" }, names(net:named_parameters()))
    assert.same({ "mean" }, names(net:named_buffers()))
    assert.equal("mean", net:weights()[10].name)
    assert.equal(9, #net:parameters())
    assert.same(names(net:named_parameters()), net:parameters().names)
  end)

  it("keeps the order of what is assigned at once, and of what is replaced", function()
    local Pair = nn.class("Pair", nn.Module)
    function Pair:init() self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2) end
    local pair = Pair()
    assert.same({ "a.kernel", "a.bias", "b.kernel", "b.bias" }, names(pair:named_parameters()))
    pair.a = nn.Linear(2, 3)
    assert.same({ "a.kernel", "a.bias", "b.kernel", "b.bias" }, names(pair:named_parameters()))
  end)

  it("counts elements", function()
    local trained, other = Net(4):count_params()
    assert.equal(2 + 16 + 2 * 20 + 10, trained)
    assert.equal(1, other)
  end)

  it("sees an attribute that was replaced, and lists shared parameters once", function()
    local net = Net(4)
    net.fc2 = nn.Linear(4, 7)
    assert.equal(7, net.fc2.bias:size(1))
    assert.equal(2 + 16 + 2 * 20 + 35, (net:count_params()))
    net.blocks[2] = net.blocks[1]
    assert.equal(2 + 16 + 20 + 35, (net:count_params()))
    net.blocks[2] = nil
    net.scale = nil
    assert.equal("fc1.kernel", net:named_parameters()[1].name)
  end)

  it("computes and differentiates through children", function()
    local net = Net(4)
    local y = net(nn.ones(5, 3))
    assert.same({ 5, 2 }, y:shape())
    y:sum():backward()
    for _, p in ipairs(net:named_parameters()) do assert.is_truthy(p.tensor:grad(), p.name) end
    net:zero_grad()
    for _, p in ipairs(net:parameters()) do assert.is_nil(p:grad()) end
  end)

  it("switches modes all the way down", function()
    local net = Net(4)
    assert.is_true(net.training)
    assert.equal(net, net:eval())
    assert.is_false(net.blocks[2].training)
    net:train()
    assert.is_true(net.blocks[2].training)
  end)

  it("freezes and unfreezes", function()
    local net = Net(4)
    net.fc1:freeze()
    assert.is_false(net.fc1.kernel:requires_grad())
    assert.is_true(net.fc2.kernel:requires_grad())
    net(nn.ones(1, 3)):sum():backward()
    assert.is_nil(net.fc1.kernel:grad())
    assert.is_truthy(net.fc2.kernel:grad())
    net:unfreeze()
    assert.is_true(net.fc1.kernel:requires_grad())
  end)

  it("gives a state that training does not change, and takes it back", function()
    local net = Net(4)
    local state = net:state()
    local before = net.fc1.kernel:totable()
    local opt = nn.optim.SGD { net:parameters(), lr = 0.5 }
    net(nn.ones(1, 3)):sum():backward()
    opt:step()
    assert.not_same(before, net.fc1.kernel:totable())
    assert.same(before, state["fc1.kernel"]:totable())
    net:load_state(state)
    assert.same(before, net.fc1.kernel:totable())
    assert.is_true(net.fc1.kernel:requires_grad())
  end)

  it("changes nothing when a state does not fit", function()
    local net, other = Net(4), Net(5)
    local before = net.scale:totable()
    local state = other:state()
    state.scale = nn.tensor { 9, 9 }
    assert.equal("load_state: fc1.kernel is 3x4 here but 3x5 in the state", message(net.load_state, net, state))
    assert.same(before, net.scale:totable())
    state = net:state()
    state.extra = nn.zeros(1)
    assert.equal('load_state: the module has no "extra"', message(net.load_state, net, state))
    state.extra, state.scale = nil, nil
    assert.equal('load_state: no value for "scale"', message(net.load_state, net, state))
  end)

  it("names the path of the layer in errors", function()
    local net = Net(4)
    local m = message(net, nn.ones(2, 7))
    assert.truthy(m:find("Net/fc1: linear", 1, true), m)
    assert.truthy(m:find("2x7", 1, true) and m:find("3x4", 1, true), m)
    assert.same({ 2, 2 }, net(nn.ones(2, 3)):shape()) -- and the next call is not confused
  end)

  it("builds lazily, and says what is not built", function()
    local Lazy = nn.class("Lazy", nn.Module)
    function Lazy:init() self.body = nn.Sequential { nn.Dense { 4 }, nn.Dropout { 0.5 }, nn.Dense { 2 } } end
    function Lazy:forward(x) return self.body(x) end
    local m = message(function() return Lazy():parameters() end)
    assert.truthy(m:find("body.dense (Dense) is not built", 1, true), m)
    local net = Lazy():build { 3 }
    assert.equal(4, #net:parameters())
    assert.is_true(net.training)
    local state = nn.rng_state()
    net = Lazy()
    net(nn.ones(1, 3))
    assert.equal(4, #net:parameters())
    assert.not_same(state, nn.rng_state())
  end)

  it("prints itself", function()
    local Small = nn.class("Small", nn.Module)
    function Small:init() self.fc, self.w = nn.Linear(3, 4), nn.parameter(nn.ones(2, 3)) end
    assert.equal("Small(\n  w: parameter 2x3\n  fc: Dense(3 -> 4)\n)", tostring(Small()))
  end)

  it("asks for a forward", function()
    local Empty = nn.class("Empty", nn.Module)
    assert.equal("Empty: no forward(); define `function Empty:forward(x) ... end`", message(Empty(), nn.ones(1)))
  end)
end)
