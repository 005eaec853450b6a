-- The window, its plans and runs: what is cached, what stays in memory, what a failed run leaves behind, scopes.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local message, close = support.message, support.close

local function misses() return nn.run_stats().plan_misses end

-- plan misses of each of n calls of step()
local function misses_of(n, step)
  local list = {}
  for i = 1, n do
    local before = misses()
    step(i)
    list[i] = misses() - before
  end
  return list
end

local function sum_from(list, first)
  local s = 0
  for i = first, #list do s = s + list[i] end
  return s
end

describe("plans:", function()
  before_each(function()
    nn.eager(false)
    nn.eval()
  end)

  -- a training loop as a user writes it: names that live on from step to step, a loss read now and then
  local function training(read)
    local w = nn.randn(20, 8):requires_grad(true)
    local b = nn.zeros(8):requires_grad(true)
    local mw, mb, vw, vb = nn.zeros(20, 8), nn.zeros(8), nn.zeros(20, 8), nn.zeros(8)
    local last, seen
    return function(i)
      local x, y = nn.rand(16, 20), nn.one_hot(nn.tensor { 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8 }, 8)
      local h = nn.relu(x:matmul(w) + b)
      local loss = (h:softmax() - y):square():mean()
      w:set_grad(nil)
      b:set_grad(nil)
      loss:backward()
      nn.adam_step({ w, b }, { mw, mb }, { vw, vb }, { lr = 1e-3, step = i })
      if read(i) then seen = loss:item() end
      last = h
      return last, seen
    end
  end

  it("a loop makes no new plan after its third step", function()
    local list = misses_of(200, training(function() return true end))
    assert.equal(0, sum_from(list, 4), table.concat(list, " "))
  end)

  it("nor does one that reads its loss at times, after both kinds of steps were seen", function()
    local list = misses_of(200, training(function(i) return i % 5 == 0 end))
    assert.equal(0, sum_from(list, 11), table.concat(list, " "))
  end)

  it("are the same whether the collector has run or not", function()
    local step = training(function() return false end)
    local list = misses_of(60, function(i)
      step(i)
      if i % 3 == 0 then collectgarbage() end
      if i % 4 == 0 then collectgarbage "step" end
    end)
    assert.equal(0, sum_from(list, 6), table.concat(list, " "))
  end)

  it("do not depend on numbers: a learning rate, a constant, a seed", function()
    local x = nn.rand(50)
    x:eval()
    local list = misses_of(20, function(i)
      nn.seed(i)
      local y = (x * (i / 7) + i):dropout(i / 40)
      y:eval()
    end)
    assert.equal(0, sum_from(list, 2), table.concat(list, " "))
  end)

  it("are made anew for other shapes, and the old ones are kept", function()
    local list = misses_of(40, function(i)
      local x = nn.ones(3 + i % 2, 5)
      nn.eval();
      (x + 1):sum():item()
    end)
    assert.equal(0, sum_from(list, 5), table.concat(list, " "))
  end)

  it("of many different windows come and go without harm", function()
    local x = nn.ones(7)
    for i = 1, 700 do
      local y = x
      for k = 0, 9 do y = (i >> k) % 2 == 1 and y + 1 or y * 1 end
      local bits = 0
      for k = 0, 9 do bits = bits + (i >> k) % 2 end
      assert.equal(1 + bits, y[1]:item())
    end
  end)

  it("run what nobody reads only as far as somebody needs it", function()
    local x = nn.ones(1000)
    x:eval()
    local before = nn.run_stats()
    do
      local dead = (x * 3):exp():matmul(nn.ones(1000))
      dead:free()
    end
    local y = x + 1
    y:eval()
    assert.is_true(nn.run_stats().units - before.units <= 2, nn.run_stats().units - before.units)
  end)
end)

describe("the window", function()
  it("runs by itself when it is long, and loses nothing", function()
    local before = nn.run_stats().runs
    local x = nn.zeros(3)
    for _ = 1, 10000 do x = x + 1 end
    assert.is_true(nn.run_stats().runs - before >= 3)
    close({ 10000, 10000, 10000 }, x)
  end)

  it("keeps memory small over 1e5 temporaries without the collector's help", function()
    local x = nn.ones(2500) -- 10 kB each: 1 GB in all
    x:eval()
    local start, most = nn.memory().live, 0
    for i = 1, 100000 do
      x = x + x
      if i % 100 == 0 then x = x * 0 + 1 end
      if i % 1000 == 0 then most = math.max(most, nn.memory().live - start) end
    end
    nn.eval()
    assert.is_true(most < 32e6, ("%d bytes"):format(most))
    close({ 1 }, x[1]:reshape(1))
  end)

  it("keeps memory small when every result is read", function()
    local x = nn.ones(100000)
    x:eval()
    local start, most = nn.memory().live, 0
    for i = 1, 2000 do
      local y = (x * i):sum()
      y:item()
      x = x * 1
      x:eval()
      if i % 50 == 0 then most = math.max(most, nn.memory().live - start) end
    end
    assert.is_true(most < 128e6, ("%d bytes"):format(most))
  end)

  it("updates in place when nobody else holds the old value", function()
    local x = nn.ones(1000000)
    x:eval()
    collectgarbage()
    local live = nn.memory().live
    for _ = 1, 5 do
      local y = x + 1
      x:free()
      x = y
      x:eval()
    end
    assert.is_true(nn.memory().live - live < 1e6, nn.memory().live - live)
    close({ 6 }, x[1]:reshape(1))
  end)

  it("leaves values alone that a view still shows", function()
    local x = nn.arange(0, 6):reshape(2, 3)
    local row = x[2]
    x:eval()
    local y = x * 10
    x:free()
    y:eval()
    close({ 3, 4, 5 }, row)
    close({ 0, 10, 20, 30, 40, 50 }, y)
  end)
end)

describe("fused parts", function()
  local function both(f)
    local got = {}
    for i, eager in ipairs { true, false } do
      nn.eager(eager)
      got[i] = f():tostring_bytes()
    end
    nn.eager(false)
    assert.equal(got[1], got[2])
  end

  it("that are read in place may lie in a program of another shape, at its row level too", function()
    both(function()
      local x = nn.arange(0, 21):reshape(3, 7)
      x:eval()
      local y = (x * 2 + 1):reshape(7, 3)
      local z = nn.where(y:sin():gt(0):unsqueeze(-1), nn.arange(0, 3), -1) + y:unsqueeze(-1)
      return nn.cat { z:flatten(), y:flatten() }
    end)
  end)

  it("may hold positions of one row and count on with them", function()
    both(function()
      local x = nn.arange(0, 33) * 7
      x:eval()
      local at = x:sin():argmax(1)
      return nn.where(at:gt(2), at + 1, x) * 1
    end)
  end)

  it("may have more than 16 visible results", function()
    both(function()
      local x, ys = nn.arange(0, 40), {}
      for i = 1, 40 do ys[i] = (i == 1 and x or ys[i - 1]) * 1.5 + i end
      local all = nn.stack(ys)
      all:eval()
      local total = ys[1]
      for i = 2, 40 do total = total + ys[i] end
      return nn.cat { all:sum(1), total }
    end)
  end)

  it("may read more than 16 tensors", function()
    both(function()
      local xs = {}
      for i = 1, 40 do
        xs[i] = nn.arange(i, i + 30)
        xs[i]:eval()
      end
      local sum = xs[1]
      for i = 2, 40 do sum = sum * 0.5 + xs[i] end
      return sum
    end)
  end)
end)

describe("a run that fails", function()
  local function bad_loss(w)
    local x = nn.ones(3, 4)
    local ids = nn.tensor { 1, 9, 2 }
    return nn.softmax_cross_entropy(x:matmul(w), ids):mean()
  end

  it("names the operator, the id and its position", function()
    assert.equal("softmax_cross_entropy: class id 9 at position 2 is not in 1..5", message(function() bad_loss(nn.ones(4, 5)):item() end))
  end)

  it("leaves parameters and optimizer states as they were, and the next step works", function()
    local w = nn.arange(0, 20):reshape(4, 5):requires_grad(true)
    local m, v = nn.zeros(4, 5), nn.zeros(4, 5)
    nn.eval()
    for _ = 1, 3 do
      w:set_grad(nil)
      local m_ = message(function()
        bad_loss(w):backward()
        nn.adam_step({ w }, { m }, { v }, { lr = 0.1, step = 1 })
      end)
      assert.truthy(m_:find("class id 9 at position 2", 1, true), m_)
      close(nn.arange(0, 20):totable(), w)
      close(nn.zeros(20):totable(), m)
      close(nn.zeros(20):totable(), v)
      assert.is_true(w:requires_grad())
    end
    w:set_grad(nil)
    nn.softmax_cross_entropy(nn.ones(3, 4):matmul(w), nn.tensor { 1, 5, 2 }):mean():backward()
    nn.adam_step({ w }, { m }, { v }, { lr = 0.1, step = 1 })
    assert.is_true(math.abs(w[1][1]:item() - 0) > 0.05)
  end)

  it("leaves the sgd step's parameters as they were, several steps deep in one window", function()
    local w = nn.ones(4, 5):requires_grad(true)
    w:set_grad(nn.ones(4, 5))
    nn.eval()
    nn.no_grad(function()
      for _ = 1, 3 do w:assign(w - w:grad() * 0.1) end
      local m_ = message(function() bad_loss(w):item() end)
      assert.truthy(m_:find("class id 9", 1, true))
    end)
    close(nn.ones(20):totable(), w)
    w:assign(w * 2)
    close(nn.full({ 20 }, 2):totable(), w)
  end)

  it("leaves what was updated in place before it alone", function()
    local w, running = nn.ones(4, 5):requires_grad(true), nn.zeros(1000)
    nn.eval()
    for _ = 1, 3 do
      nn.no_grad(function() running:assign(running * 0.9 + 0.1) end) -- as batch normalisation does on the way forward
      message(function() bad_loss(w):backward(); nn.sgd_step({ w }, nil, { lr = 0.1 }) end)
      close(nn.zeros(1000):totable(), running)
      close(nn.ones(20):totable(), w)
      w:set_grad(nil)
    end
  end)

  it("loses what depends on the bad argument, and says so", function()
    local w = nn.ones(4, 5)
    local loss = bad_loss(w)
    local after = loss * 2
    message(function() loss:item() end)
    for _, t in ipairs { loss, after } do
      local m_ = message(function() return t:totable() end)
      assert.truthy(m_:find("value is lost", 1, true), m_)
      m_ = message(function() return (t + 1):totable() end)
      assert.truthy(m_:find("lost", 1, true), m_)
    end
  end)

  it("loses nothing else: what was recorded before and after is still computed", function()
    nn.seed(5)
    local want = nn.rand(4):totable()
    local then_ = nn.rand(4):totable()
    nn.seed(5)
    nn.eval()
    local x, w = nn.rand(4), nn.ones(4, 5) * 2
    local first, second = bad_loss(w), nn.index_select(w, 1, { 1, 7 }) -- two culprits
    local y = (x + w:sum()) * 2
    local m_ = message(function() first:item() end)
    assert.truthy(m_:find("class id 9", 1, true), m_)
    close(want, x)
    close(nn.full({ 20 }, 2):totable(), w)
    close({ 2 * (want[1] + 40) }, y[1]:reshape(1))
    m_ = message(function() second:totable() end)
    assert.truthy(m_:find("lost", 1, true), m_)
    close(then_, nn.rand(4)) -- the draw was made, so it counts
  end)

  it("keeps weights that were drawn in the same window", function()
    local w, m, v = nn.randn(4, 5):requires_grad(true), nn.zeros(4, 5), nn.zeros(4, 5)
    local running = nn.zeros(10)
    nn.no_grad(function() running:assign(running * 0.9 + 0.1) end)
    bad_loss(w):backward()
    message(function() nn.adam_step({ w }, { m }, { v }, { lr = 0.1, step = 1 }) end)
    assert.is_true(math.abs(w:std():item() - 1) < 0.7)
    close(nn.zeros(20):totable(), m)
    close(nn.zeros(20):totable(), v)
    close(nn.zeros(10):totable(), running)
  end)

  it("out of memory gives up the largest result only", function()
    local a = nn.ones(3) * 7
    local huge = nn.zeros(2 ^ 42 | 0) + 1
    local b = a + 1
    assert.truthy(message(function() huge:eval() end):find("out of memory", 1, true))
    close({ 7, 7, 7 }, a)
    close({ 8, 8, 8 }, b)
  end)
end)

describe("scopes", function()
  it("let go of what was made in them, and only of that", function()
    local before = nn.ones(3)
    local inside, kept
    do
      local scope <close> = nn.scope()
      inside = before + 1
      kept = scope:keep(before * 5)
      assert.is_true(inside:is_alive())
    end
    assert.is_false(inside:is_alive())
    close({ 5, 5, 5 }, kept)
    close({ 1, 1, 1 }, before)
    local m = message(function() return inside + 1 end)
    assert.truthy(m:find "^add: " and m:find("its scope has ended", 1, true), m)
    m = message(function() return inside:item() end)
    assert.truthy(m:find("its scope has ended", 1, true), m)
  end)

  it("may be nested; keep() outlives all of them", function()
    local a, b, c
    do
      local _ <close> = nn.scope()
      a = nn.ones(1)
      do
        local _ <close> = nn.scope()
        b = nn.ones(1)
        c = nn.ones(1):keep()
      end
      assert.is_true(a:is_alive())
      assert.is_false(b:is_alive())
    end
    assert.is_false(a:is_alive())
    assert.is_true(c:is_alive())
    close({ 1 }, c)
  end)

  it("end on an error", function()
    local t
    message(function()
      local _ <close> = nn.scope()
      t = nn.ones(2)
      error "stop"
    end)
    assert.is_false(t:is_alive())
  end)

  it("free native memory at once", function()
    collectgarbage "stop"
    local live = nn.memory().live
    for _ = 1, 50 do
      local _ <close> = nn.scope()
      nn.zeros(250000):eval()
    end
    local grown = nn.memory().live - live
    collectgarbage "restart"
    assert.is_true(grown < 2e6, grown)
  end)
end)
