-- lua/nnlua/optim.lua: trajectories against the rules in doubles, state, options.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

-- Twenty steps on f(w) = sum(a * w^2 / 2 + b * w) from `start`; the gradient is a * w + b.
local a, b, start = { 1, 3, 0.5 }, { 0.5, -1, 0.1 }, { 1, -2, 3 }
local function trajectory(make)
  local w = nn.parameter(start)
  local opt = make(w)
  for _ = 1, 20 do
    local loss = (nn.tensor(a) * w * w * 0.5 + nn.tensor(b) * w):sum()
    opt:zero_grad()
    loss:backward()
    opt:step()
  end
  return w, opt
end

-- The same in doubles: rule(i, g, p, state, step) gives the new p.
local function reference(rule)
  local w, states = { table.unpack(start) }, { {}, {}, {} }
  for step = 1, 20 do
    for i = 1, 3 do w[i] = rule(a[i] * w[i] + b[i], w[i], states[i], step) end
  end
  return w
end

describe("SGD", function()
  it("plain", function()
    close(reference(function(g, p) return p - 0.1 * g end), (trajectory(function(w) return nn.optim.SGD { { w }, lr = 0.1 } end)), 1e-6)
  end)
  for _, nesterov in ipairs { false, true } do
    it("with momentum" .. (nesterov and ", nesterov" or ""), function()
      local want = reference(function(g, p, s)
        s.v = 0.9 * (s.v or 0) + g
        return p - 0.05 * (nesterov and g + 0.9 * s.v or s.v)
      end)
      close(want, (trajectory(function(w) return nn.optim.SGD { { w }, lr = 0.05, momentum = 0.9, nesterov = nesterov } end)), 1e-6)
    end)
  end
  it("with weight decay", function()
    close(reference(function(g, p) return p - 0.1 * (g + 0.01 * p) end),
      (trajectory(function(w) return nn.optim.SGD { { w }, lr = 0.1, weight_decay = 0.01 } end)), 1e-6)
  end)
end)

describe("Adam", function()
  local function rule(lr, b1, b2, eps)
    return function(g, p, s, t)
      s.m = b1 * (s.m or 0) + (1 - b1) * g
      s.v = b2 * (s.v or 0) + (1 - b2) * g * g
      return p - lr * (s.m / (1 - b1 ^ t)) / (math.sqrt(s.v / (1 - b2 ^ t)) + eps)
    end
  end
  it("with the defaults", function()
    close(reference(rule(0.001, 0.9, 0.999, 1e-7)), (trajectory(function(w) return nn.optim.Adam { { w } } end)), 1e-6)
  end)
  it("with other options, under either spelling", function()
    local want = reference(rule(0.1, 0.8, 0.99, 1e-3))
    close(want, (trajectory(function(w) return nn.optim.Adam { { w }, lr = 0.1, beta1 = 0.8, beta2 = 0.99, eps = 1e-3 } end)), 1e-6)
    close(want, (trajectory(function(w)
      return nn.optim.Adam { { w }, learning_rate = 0.1, beta_1 = 0.8, beta_2 = 0.99, epsilon = 1e-3 }
    end)), 1e-6)
  end)
end)

describe("an optimizer", function()
  it("goes on exactly from its state", function()
    local w, opt = trajectory(function(p) return nn.optim.Adam { { p }, lr = 0.1 } end)
    local v = nn.parameter(w:totable())
    local copy = nn.optim.Adam { { v }, lr = 0.1 }
    copy:set_state(opt:state())
    for _, pair in ipairs { { w, opt }, { v, copy } } do
      for _ = 1, 3 do
        local loss = (pair[1] * pair[1]):sum()
        pair[2]:zero_grad()
        loss:backward()
        pair[2]:step()
      end
    end
    assert.same(w:totable(), v:totable())
    assert.equal(23, copy.iterations)
  end)

  it("names its state after the parameters", function()
    local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 2 } }
    local opt = nn.optim.Adam { model:parameters() }
    local names = {}
    for i, s in ipairs(opt:state().slots) do names[i] = s.name .. " " .. s.slot end
    assert.same({ "dense.kernel m", "dense.kernel v", "dense.bias m", "dense.bias v" }, names)
    assert.same({}, nn.optim.SGD { model:parameters() }:state().slots)
  end)

  it("changes nothing when a state does not fit", function()
    local opt = nn.optim.Adam { { nn.parameter { 1, 2 } } }
    local other = nn.optim.Adam { { nn.parameter { 1, 2, 3 } } }
    assert.equal("Adam: m of p1 is 2 here but 3 in the state", message(opt.set_state, opt, other:state()))
    assert.equal("Adam: the state has no m of p1", (message(opt.set_state, opt, { iterations = 1, slots = {} }):gsub("no v of", "no m of")))
    assert.equal(0, opt.iterations)
  end)

  it("leaves parameters without a gradient, and frozen ones", function()
    local w, v = nn.parameter { 1 }, nn.parameter { 1 }
    local opt = nn.optim.Adam { { w, v }, lr = 0.1 }
    w:sum():backward()
    opt:step()
    assert.equal(1, v:item())
    assert.is_true(w:item() < 1)
    assert.is_true(w:requires_grad())
  end)

  it("can be adjusted and printed", function()
    local opt = nn.optim.SGD { { nn.parameter { 1 } }, lr = 0.5 }
    opt:adjust { learning_rate = 0.25, momentum = nil }
    assert.equal(0.25, opt.lr)
    assert.equal(0, opt.momentum)
    assert.equal("SGD{lr = 0.25, momentum = 0, nesterov = false, weight_decay = 0}", tostring(opt))
    assert.truthy(message(opt.adjust, opt, { lr = -1 }):find("at least 0", 1, true))
  end)

  it("comes by name and from its configuration", function()
    local opt = nn.optim.get(nn.optim.Adam { lr = 0.5, beta_1 = 0.7 }:config())
    assert.equal(0.5, opt.lr)
    assert.equal(0.7, opt.beta_1)
    assert.equal(0.01, nn.optim.get("sgd").lr)
    assert.truthy(message(nn.optim.get, "adma"):find('did you mean "Adam"?', 1, true))
  end)

  it("says what is wrong with its use", function()
    assert.truthy(message(nn.optim.SGD, { { nn.parameter { 1 } }, rate = 1 }):find('unknown option "rate"', 1, true))
    assert.truthy(message(nn.optim.SGD, { nn.parameter { 1 } }):find('must be a table', 1, true))
    assert.truthy(message(nn.optim.SGD, { {} }):find("the list of parameters is empty", 1, true))
    assert.truthy(message(nn.optim.SGD, { nesterov = true }):find("nesterov needs a momentum", 1, true))
    local opt = nn.optim.Adam {}
    assert.truthy(message(opt.step, opt):find("no parameters", 1, true))
  end)
end)
