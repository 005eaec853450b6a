-- nn.jit: replays give the bits of calls, say why a call was recorded, and are refused where they would not be right.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local message = support.message
local it = support.on_device(it)

local function bytes(x) return x:tostring_bytes() end

-- ready tensors, so that recordings hold nothing but the function
local function draws(...)
  local list = {}
  for i, shape in ipairs { ... } do list[i] = nn.randn(table.unpack(shape)):eval() end
  return table.unpack(list)
end

-- What n calls return (bytes), and what `state()` (a list of tensors) holds after each.
local function history(f, state, arguments, n)
  local out = {}
  for i = 1, n do
    out[#out + 1] = bytes(f(table.unpack(arguments[(i - 1) % #arguments + 1])))
    for _, x in ipairs(state and state() or {}) do out[#out + 1] = bytes(x) end
  end
  return out
end

describe("jit:", function()
  before_each(function()
    nn.eager(false)
    nn.seed(1)
  end)

  it("replays a function of tensors on other tensors", function()
    local calls = { n = 0 }
    local function fn(x, y)
      calls.n = calls.n + 1
      return (x * y + 1):tanh(), x:sum()
    end
    local f = nn.jit(fn)
    for _ = 1, 6 do
      local x, y = draws({ 3, 4 }, { 4 })
      local a, b = f(x, y)
      local ea, eb = fn(x, y)
      assert.equal(bytes(ea), bytes(a))
      assert.equal(bytes(eb), bytes(b))
    end
    assert.equal(8, calls.n) -- two recordings, six calls of fn itself
    assert.equal(4, f:replays())
    assert.equal(2, f:recordings())
    assert.same({ "recorded: the first call" }, f:why())
  end)

  it("takes pending arguments, tables of tensors, constants, and returns tables", function()
    local f = nn.jit(function(t, scale, word)
      return { sum = t.a + t.list[1] * scale, word = word, n = 3 }, nil, t.list[2]
    end)
    for i = 1, 5 do
      local a, b, c = nn.randn(3), nn.randn(3), nn.randn(2)
      local r, none, third = f({ a = a * 2, list = { b, c } }, 0.5, "w")
      assert.equal(bytes(a * 2 + b * 0.5), bytes(r.sum))
      assert.equal("w", r.word)
      assert.equal(3, r.n)
      assert.is_nil(none)
      assert.equal(bytes(c), bytes(third), "call " .. i)
    end
    assert.equal(3, f:replays())
  end)

  it("says why a call was recorded", function()
    local lr = 1
    local w = nn.ones(3):eval()
    local function scaled(x) return x * lr end
    local f = nn.jit(function(x, k) return scaled(x * (k or 4) * w) end)
    local function thrice(...)
      for _ = 1, 3 do f(...) end
    end
    local x = nn.ones(2, 3):eval()
    thrice(x, 2)
    thrice(nn.ones(4, 3):eval(), 2)
    local other = nn.device() == "cpu" and "f64" or "f16"
    thrice(x:to(other):eval(), 2)
    thrice(x, 3)
    do
      local _ <close> = nn.no_grad()
      thrice(x, 3)
    end
    lr = 2
    thrice(x, 3)
    w:requires_grad(true)
    thrice(x, 3)
    thrice(x, nil)
    assert.same({ "recorded: the first call", "recorded: argument 1 changed shape: 2x3 -> 4x3",
      "recorded: argument 1 changed dtype: f32 -> " .. other,
      "recorded: argument 2 changed: 2 -> 3", "recorded: gradients are off now", "recorded: its variable lr changed: 1 -> 2",
      "recorded: tensor 1 of those that it uses requires a gradient now" }, table.move(f:why(), 1, 7, 1, {}))
    assert.truthy(tostring(f):find("changed shape: 2x3 -> 4x3", 1, true))
    assert.truthy(tostring(f):find "^jit: %d+ recordings %(8 kept%), %d+ replays", tostring(f))
    f(x:to(other):eval(), 3) -- the eighth kind went, this is the ninth
    assert.truthy(tostring(f):find "%(8 kept%)")
  end)

  it("reads captured tensors at their present value", function()
    local w = nn.ones(3):eval()
    local f = nn.jit(function(x) return x * w end)
    local x = draws { 3 }
    for i = 1, 6 do
      w[2] = i
      assert.equal(bytes(x * w), bytes(f(x)))
    end
    w:assign(nn.full({ 3 }, 7))
    assert.equal(bytes(x * 7), bytes(f(x)))
    assert.equal(5, f:replays())
  end)

  it("assigns what the function assigns, arguments too", function()
    local function make()
      local h = nn.zeros(4)
      return function(x)
        h:assign((h * 0.9 + x):tanh())
        x[1] = 5
        return h * 2
      end, function() return { h } end
    end
    local a, b = draws({ 4 }, { 4 })
    local fn, state = make()
    local plain = history(fn, state, { { a:clone() }, { b:clone() } }, 7)
    local jitted, jstate = make()
    jitted = nn.jit(jitted)
    local c, d = a:clone(), b:clone()
    assert.same(plain, history(jitted, jstate, { { c }, { d } }, 7))
    assert.equal(5, jitted:replays())
    assert.equal(5, c[1]:item())
  end)

  it("updates in place: a replay of an assignment takes no second buffer", function()
    local w = nn.zeros(1000000):eval()
    local f = nn.jit(function() w:assign(w + 1) end)
    for _ = 1, 3 do f() end
    collectgarbage()
    local before = nn.memory().live
    for _ = 1, 5 do
      f()
      assert.is_true(nn.memory().live <= before + 4096)
    end
    assert.equal(8, w[1]:item())
    assert.equal(6, f:replays())
  end)

  it("draws what calls would have drawn", function()
    local function fn(x) return nn.dropout(x, 0.5) + nn.rand(8) + nn.randn(8) end
    local x = draws { 8 }
    nn.seed(5)
    local plain = history(fn, nil, { { x } }, 6)
    local after = nn.rng_state().position
    nn.seed(5)
    local f = nn.jit(fn)
    assert.same(plain, history(f, nil, { { x } }, 6))
    assert.equal(after, nn.rng_state().position)
    assert.equal(4, f:replays())
    assert.are_not.equal(plain[5], plain[6])
  end)

  -- Twelve steps of a network with everything that has state, by hand and jitted.
  local function train(make_optimizer, jit)
    nn.seed(7)
    local net = nn.Sequential { nn.Input { 20 }, nn.Dense { 16, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.3 }, nn.Dense { 5 } }
    local opt = make_optimizer(net:parameters())
    local function step(x, y)
      local loss = nn.losses.cross_entropy(net(x), y)
      opt:zero_grad()
      loss:backward()
      opt:step()
      return loss
    end
    local f = jit and nn.jit(step) or step
    local out = {}
    for i = 1, 12 do
      if i == 8 then net:eval() end
      if i == 9 then net:train() end
      out[i] = bytes(f(nn.randn(8, 20), nn.randint(1, 6, { 8 })))
    end
    for _, w in ipairs(net:weights()) do out[#out + 1] = bytes(w.tensor) end
    out[#out + 1] = opt.iterations
    out[#out + 1] = opt.lr
    out[#out + 1] = nn.rng_state().position
    return out, f
  end

  for name, make in pairs {
    ["Adam with a schedule"] = function(p) return nn.optim.Adam { p, lr = nn.schedules.cosine { 0.01, 12 } } end,
    ["AdamW"] = function(p) return nn.optim.AdamW { p, lr = function(n) return 0.01 / (1 + n) end } end,
    ["SGD with momentum and decay"] = function(p) return nn.optim.SGD { p, lr = 0.05, momentum = 0.9, weight_decay = 1e-3 } end,
    ["Nadam with clipping and averages"] = function(p) return nn.optim.Nadam { p, lr = 0.01, global_clipnorm = 1, use_ema = true } end,
    ["Lamb over two batches"] = function(p) return nn.optim.Lamb { p, lr = 0.01, gradient_accumulation_steps = 2 } end,
  } do
    it("trains to the same bits: " .. name, function()
      local plain = train(make, false)
      local jitted, f = train(make, true)
      assert.same(plain, jitted)
      assert.is_true(f:replays() >= 6, tostring(f))
      assert.truthy(tostring(f):find("option \"training\" of a layer or optimizer that it uses changed: true -> false", 1, true), tostring(f))
    end)
  end

  it("follows what is changed between steps: rates, options, groups", function()
    local function run(jit)
      nn.seed(4)
      local a, b = nn.parameter(nn.randn(6, 3)), nn.parameter(nn.randn(3))
      local opt = nn.optim.AdamW { { { params = { a }, lr_scale = 0.5 }, { params = { b }, weight_decay = 0 } }, lr = 0.1 }
      local sgd = nn.optim.SGD { { nn.parameter(nn.randn(3)) }, lr = 0.2, momentum = 0.5 }
      local c = sgd.parameters[1]
      local function step(x)
        for _, o in ipairs { opt, sgd } do o:zero_grad() end
        local loss = ((x:matmul(a) + b):tanh() * c):square():sum()
        loss:backward()
        opt:step()
        sgd:step()
        return loss
      end
      local f, out = jit and nn.jit(step) or step, {}
      for i = 1, 24 do
        if i == 8 then opt:adjust { lr = 0.03 } end
        if i == 12 then sgd:adjust { lr = nn.schedules.cosine { 0.1, 30 } } end
        if i == 16 then opt:adjust { beta_1 = 0.7 } end
        if i == 20 then sgd:adjust { momentum = 0 } end
        out[#out + 1] = bytes(f(nn.randn(4, 6)))
        for _, p in ipairs { a, b, c } do out[#out + 1] = bytes(p) end
      end
      return out, f
    end
    local plain = run(false)
    local jitted, f = run(true)
    assert.same(plain, jitted)
    assert.equal(24, f:replays() + f:recordings())
    local text = tostring(f)
    assert.equal(7, f:recordings(), text) -- no gradients, gradients twice, and twice after each change of what is no rate
    assert.truthy(text:find("option \"beta_1\" of a layer or optimizer that it uses changed: 0.9 -> 0.7", 1, true), text)
  end)

  it("makes one run of a training step, updated in place", function()
    local w = nn.parameter(nn.randn(500, 400))
    local opt = nn.optim.Adam { { w }, lr = 0.1 }
    local f = nn.jit(function(x)
      opt:zero_grad()
      local loss = x:matmul(w):square():sum()
      loss:backward()
      opt:step()
      return loss
    end)
    local x = nn.randn(2, 500):eval()
    for _ = 1, 4 do f(x) end
    collectgarbage()
    local runs, live = nn.run_stats().runs, nn.memory().live
    for _ = 1, 5 do
      f(x)
      assert.is_true(nn.memory().live < live + 4096)
    end
    assert.equal(runs + 5, nn.run_stats().runs)
    assert.equal(9, opt.iterations)
  end)

  it("trains by hand to the same bits, gradients included", function()
    local function make()
      nn.seed(3)
      local w = nn.parameter(nn.randn(6, 2))
      return function(x)
        local loss = (x:matmul(w)):square():mean()
        w:set_grad(nil)
        loss:backward()
        local _ <close> = nn.no_grad()
        w:assign(w - w:grad() * 0.1)
        return loss
      end, function() return { w, w:grad() } end
    end
    local x, y = draws({ 4, 6 }, { 4, 6 })
    local fn, state = make()
    local plain = history(fn, state, { { x }, { y } }, 8)
    local jitted, jstate = make()
    jitted = nn.jit(jitted)
    assert.same(plain, history(jitted, jstate, { { x }, { y } }, 8))
    assert.is_true(jitted:replays() >= 4, tostring(jitted))
  end)

  it("accumulates gradients as calls do", function()
    local w = nn.parameter(nn.ones(3))
    local f = nn.jit(function(x) (x * w):sum():backward() end)
    local x = nn.full({ 3 }, 2):eval()
    for i = 1, 7 do
      f(x)
      assert.equal(2 * i, w:grad()[1]:item())
    end
    assert.equal(4, f:replays())
  end)

  it("keeps aliases apart", function()
    local f = nn.jit(function(x, y)
      x:assign(x + y)
      return x * y
    end)
    local function both(x, y)
      local e = bytes((x + y) * y)
      assert.equal(e, bytes(f(x, y)))
    end
    for _ = 1, 3 do both(draws({ 3 }, { 3 })) end
    local x = draws { 3 }
    for _ = 1, 3 do both(x:clone(), x:clone()) end -- two handles of one value
    for _ = 1, 3 do both(draws({ 3 }, { 3 })) end
    assert.equal(5, f:replays())
    local w = draws { 3 }
    local g = nn.jit(function(a) return a + w end)
    for _ = 1, 3 do assert.equal(bytes(w + w), bytes(g(w))) end
    local v = draws { 3 }
    assert.equal(bytes(v + w), bytes(g(v)))
  end)

  describe("is refused, with the reason, when", function()
    -- Four calls give what calls of fn give, none is a replay, and the last line of why() holds `reason`.
    local function refused(reason, make, ...)
      local fn, f = make(), nn.jit((make()))
      for i = 1, 6 do
        local r, e = f(...), fn(...)
        if e then assert.equal(bytes(e), bytes(r), "call " .. i) end
      end
      assert.equal(0, f:replays())
      local why = f:why()
      assert.truthy(why[#why]:find("every call calls the function: ", 1, true), tostring(f))
      assert.truthy(why[#why]:find(reason, 1, true), tostring(f))
    end
    local x = nn.tensor { 1.0, -2.0, 3.0 }

    it("it reads a value", function()
      refused("it reads a value while it runs", function()
        return function(a) return a:sum():item() > 0 and a * 2 or a end
      end, x)
      refused("it reads a value while it runs (nonzero", function()
        return function(a) return a:nonzero() end
      end, x)
      refused("it reads a value while it runs", function()
        return function(a) return a * tonumber(tostring(a[1]:totable())) end
      end, x)
    end)

    it("a number changes from call to call", function()
      refused("a number that mul is given changes from call to call (3, then 4, line", function()
        local t = { n = 0 }
        return function(a)
          t.n = t.n + 1
          return a * t.n
        end
      end, x)
    end)

    it("it changes a variable of its own", function()
      refused("its variable n changed: 0 -> 1", function()
        local n = 0
        return function(a)
          n = n + 1
          return a * n
        end
      end, x)
    end)

    it("a tensor that it makes of numbers changes", function()
      refused("a tensor of 3 elements that it makes of numbers differs", function()
        local t = { n = 0 }
        return function(a)
          t.n = t.n + 1
          return a * nn.tensor { t.n, 2, 3 }
        end
      end, x)
    end)

    it("it keeps a tensor that it does not return", function()
      refused("it keeps a tensor of 3 elements", function()
        local t = {}
        return function(a)
          t[#t + 1] = a * 2
          return a + 1
        end
      end, x)
      refused("it keeps a tensor of 3 elements", function()
        local t = {}
        return function(a)
          t.last = a * 2
          return t.last
        end
      end, x)
    end)

    it("it sets the seed", function()
      refused("it sets the seed", function()
        return function(a)
          nn.seed(9)
          return a * nn.rand(3)
        end
      end, x)
    end)

    it("operators differ from call to call", function()
      refused("it recorded other operators", function()
        local t = { n = 0 }
        return function(a)
          t.n = t.n + 1
          return t.n % 2 == 0 and a:exp() or a:tanh()
        end
      end, x)
    end)

    it("what it uses has a history from outside", function()
      refused("a tensor with a history", function()
        local h = nn.parameter(nn.ones(3)) * 2
        return function(a) return a * h end
      end, x)
    end)

    it("no two calls are alike", function()
      local f = nn.jit(function(a, k) return a * k end)
      for i = 1, 40 do assert.equal(i, f(nn.ones(1), i):item()) end
      local why = f:why()
      assert.truthy(why[#why]:find("recorded 16 times without a replay; the last time because argument 2 changed: 16 -> 17", 1, true), tostring(f))
      assert.equal(16, f:recordings())
    end)
  end)

  it("constants made inside are part of the recording", function()
    local f = nn.jit(function(x) return x * nn.tensor { 1.0, 2.0, 3.0 } end)
    for _ = 1, 5 do
      local x = draws { 3 }
      assert.equal(bytes(x * nn.tensor { 1.0, 2.0, 3.0 }), bytes(f(x)))
    end
    assert.equal(3, f:replays())
  end)

  it("results have no history; an argument that requires a gradient calls the function", function()
    local w = nn.parameter(nn.ones(3))
    local f = nn.jit(function(x) return (x * w):sum() end)
    local x = nn.ones(3):eval()
    for _ = 1, 4 do assert.is_false(f(x):requires_grad()) end
    assert.equal(2, f:replays())
    local v = nn.parameter(nn.ones(3))
    f(v):backward()
    assert.equal(1, v:grad()[1]:item())
    assert.equal(2, f:replays())
  end)

  it("takes gradients inside", function()
    local f = nn.jit(function(x)
      local v = x:detach():requires_grad(true)
      local g = nn.grad((v * v * v):sum(), v, { create_graph = true })
      return g, (nn.grad(g:sum(), v))
    end)
    for _ = 1, 4 do
      local x = draws { 3 }
      local g, h = f(x)
      support.close(x * x * 3, g)
      support.close(x * 6, h)
    end
    assert.equal(2, f:replays())
  end)

  it("a replay that fails names the operator, binds nothing, and gives back its draws", function()
    local w, table_ = nn.zeros(2):eval(), draws { 4, 2 }
    local f = nn.jit(function(ids)
      w:assign(w + 1)
      return nn.embedding(ids, table_) + nn.rand(2)
    end)
    local good, bad = nn.tensor({ 1, 4 }, "i64"), nn.tensor({ 1, 9 }, "i64")
    for _ = 1, 3 do f(good) end
    local position = nn.rng_state().position
    local plain = message(function() nn.embedding(bad, table_):eval() end)
    assert.equal(plain, message(f, bad))
    assert.equal(3, w[1]:item(), tostring(f))
    assert.equal(position, nn.rng_state().position)
    f(good)
    assert.equal(4, w[1]:item())
    assert.equal(2, f:replays())
  end)

  it("an error of the function comes through, and the next call is recorded", function()
    local t = { fail = true }
    local f = nn.jit(function(x)
      local y = x * 2
      if t.fail then error "inside" end
      return y
    end)
    assert.equal("inside", message(f, nn.ones(2)))
    t.fail = false
    for _ = 1, 3 do assert.equal(2, f(nn.ones(2))[1]:item()) end
    assert.equal(1, f:replays())
    local opt = nn.optim.SGD { { nn.parameter(nn.ones(2)) }, lr = function(n) return n < 4 and 0.1 or error "no rate" end }
    local p = opt.parameters[1]
    local g = nn.jit(function(x)
      p:set_grad(nil);
      (x * p):sum():backward()
      opt:step()
    end)
    for _ = 1, 4 do g(nn.ones(2)) end
    assert.truthy(message(g, nn.ones(2)):find "no rate")
    assert.equal(4, opt.iterations)
  end)

  it("calls the function in eager mode, under nn.graph, and inside another jitted function", function()
    local f = nn.jit(function(x) return x * 2 + 1 end)
    local x = draws { 3 }
    for _ = 1, 3 do f(x) end
    nn.eager(true)
    f(x)
    nn.eager(false)
    assert.equal(2, nn.graph(f, x).nodes)
    local outer = nn.jit(function(a) return f(a):exp() end)
    for _ = 1, 4 do assert.equal(bytes((x * 2 + 1):exp()), bytes(outer(x))) end
    assert.equal(2, outer:replays())
    assert.equal(1, f:replays())
  end)

  it("gives the graph of what it recorded", function()
    local f = nn.jit(function(x) return (x * 2 + 1):relu():sum() end)
    assert.truthy(message(function() f:graph() end):find "nothing was recorded yet")
    for _ = 1, 3 do f(nn.ones(4, 3):eval()) end
    local g = f:graph()
    assert.equal(4, g.nodes)
    assert.equal(1, g.kernels)
    assert.truthy(g:dot():find "digraph")
    assert.truthy(tostring(g):find("4 nodes, 1 kernels", 1, true))
  end)

  it("computes only what is returned", function()
    local w = nn.parameter(nn.ones(4, 4))
    local f = nn.jit(function(x) return x:matmul(w):tanh():exp():sum() end)
    for _ = 1, 3 do f(nn.ones(2, 4):eval()) end
    local kept = 0
    for _, node in ipairs(f:graph().runs[1].nodes) do kept = kept + (node.visible and 1 or 0) end
    assert.equal(1, kept)
  end)

  it("holds no inputs, and is collected with all that it holds", function()
    collectgarbage()
    collectgarbage()
    local before = nn.memory().live
    do
      local f = nn.jit(function(x) return x:sum() end)
      for _ = 1, 4 do f(nn.ones(1000000):eval()) end
      collectgarbage()
      assert.is_true(nn.memory().live - before < 4096, "holds its inputs")
      local g = nn.jit(function(x) return x * nn.tensor({ 1.0, 2.0 }):reshape(2, 1):expand(2, 100000):contiguous() end)
      for _ = 1, 3 do g(nn.ones(2, 100000):eval()) end
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(nn.memory().live <= before)
  end)

  it("is flat over many calls", function()
    local f = nn.jit(function(x) return x + 1 end)
    local x = nn.ones(1000):eval()
    for _ = 1, 10 do x = f(x) end
    collectgarbage()
    local live, lua = nn.memory().live, collectgarbage "count"
    for _ = 1, 20000 do x = f(x) end
    collectgarbage()
    collectgarbage()
    assert.equal(live, nn.memory().live)
    assert.is_true(collectgarbage "count" < lua + 500) -- kilobytes; a leak of 32 bytes a call would be more
    assert.equal(20011, x[1]:item())
  end)

  it("errors help", function()
    assert.truthy(message(nn.jit, 3):find "jit: the first argument must be a function, got 3")
    assert.truthy(message(nn.jit, print, { loud = true }):find "loud")
  end)
end)

describe("penalties of activities", function()
  it("are part of each replay", function()
    nn.seed(1)
    local net = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 }, nn.ActivityRegularization { l1 = 0.5, l2 = 0.1 } }
    local f = nn.jit(function(x) return net(x):sum() + net:regularization() end)
    for _ = 1, 5 do
      local x = nn.randn(2, 4)
      local y = net(x)
      net:regularization() -- taken away, so that f has none but its own
      local want = y:sum():item() + (0.5 * y:abs():sum():item() + 0.1 * y:square():sum():item()) / 2 -- the penalty is a sample's
      assert.is_true(math.abs(f(x):item() - want) < 1e-5)
    end
    assert.equal(3, f:replays())
  end)
  it("that are taken outside keep the function from being replayed", function()
    local net = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 }, nn.ActivityRegularization { l2 = 0.1 } }
    local f = nn.jit(function(x) return net(x) end)
    for _ = 1, 4 do
      local y = f(nn.randn(2, 4))
      assert.is_true(math.abs(net:regularization():item() - 0.1 * y:square():sum():item() / 2) < 1e-5)
    end
    assert.equal(0, f:replays())
  end)
end)
