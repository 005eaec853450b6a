-- Devices beside the CPU: what a step costs, that runs repeat to the bit in all modes, that models and checkpoints move, that memory comes back.
-- Needs a Vulkan device; without one all but the table of what a device can do is pending.
local nn = require "nnlua"
local core = require "nnlua.core"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local program = dofile(here .. "program.lua")
local close, message = support.close, support.message

local found = #nn.devices() > 1
local DEVICE = "vulkan"

local function on_device(name, f)
  it(name, function()
    if not found then return pending "there is no Vulkan device" end
    f()
  end)
end

-- f() with tensors made on `device`
local function making(device, f)
  local was = nn.device()
  assert(nn.device(device))
  local ok, err = pcall(f)
  nn.device(was)
  if not ok then error(err, 0) end
end

local function data(n)
  nn.seed(3)
  local x = nn.rand(n, 8, 8, 1)
  return x, nn.tensor(support.matrix(1, n, function(_, j) return 1 + j % 3 end)[1], { dtype = "i64" })
end

local function cnn()
  nn.seed(5)
  return nn.Sequential { nn.Input { 8, 8, 1 }, nn.Conv2D { 4, 3, activation = "relu" }, nn.BatchNorm {}, nn.MaxPooling2D { 2 }, nn.Flatten {},
    nn.Dropout { 0.2 }, nn.Dense { 3 } }
end

local function numbers(model)
  local list = {}
  for i, w in ipairs(model:weights()) do list[i] = w.tensor:totable() end
  return list
end

local function train(model, x, y, steps)
  local opt = nn.optim.Adam { model:parameters(), lr = 0.01 }
  local loss
  nn.seed(11)
  for _ = 1, steps do
    do
      local _ <close> = nn.scope()
      loss = nn.losses.cross_entropy(model(x), y)
      opt:zero_grad()
      loss:backward()
      loss = loss:detach():keep()
    end
    opt:step()
  end
  return loss:item()
end

describe("a device", function()
  on_device("trains a model as the CPU does, moved there or made there", function()
    local x, y = data(12)
    local a = cnn()
    local want = train(a, x, y, 4)
    local b = cnn():to(DEVICE)
    assert.same({ "cpu", "vulkan:1" }, { a:device(), b:device() })
    close(want, train(b, x:to(DEVICE), y:to(DEVICE), 4), 1e-4)
    making(DEVICE, function() close(want, train(cnn():to(DEVICE), x:to(DEVICE), y:to(DEVICE), 4), 1e-4) end)
  end)

  on_device("gives the same bits at every run", function()
    local x, y = data(12)
    local runs = {}
    for i = 1, 2 do
      local model = cnn():to(DEVICE)
      train(model, x:to(DEVICE), y:to(DEVICE), 4)
      runs[i] = numbers(model)
    end
    assert.same(runs[1], runs[2])
  end)

  on_device("does a step with one submission and one copy back: that of the loss", function()
    local x, y = data(12)
    x, y = x:to(DEVICE), y:to(DEVICE)
    local model = cnn():to(DEVICE)
    local opt = nn.optim.SGD { model:parameters(), lr = 0.01, momentum = 0.9 }
    local function step()
      local loss
      do
        local _ <close> = nn.scope()
        loss = nn.losses.cross_entropy(model(x), y)
        opt:zero_grad()
        loss:backward()
        loss = loss:detach():keep()
      end
      opt:step()
      return loss:item()
    end
    for _ = 1, 6 do step() end
    local before = nn.run_stats()
    for _ = 1, 10 do step() end
    local after = nn.run_stats()
    assert.equal(0, after.plan_misses - before.plan_misses)
    assert.equal(10, after.runs - before.runs)
    assert.equal(10, after.downloads - before.downloads)
    assert.equal(0, after.uploads - before.uploads)
    assert.equal(20, after.submissions - before.submissions) -- the step's, and the copy's
  end)

  on_device("does so with a loss scale, several groups and clipped gradients too", function()
    local was = nn.policy "mixed_float16"
    local ok, why = pcall(function()
      local x, y = data(12)
      x, y = x:to(DEVICE), y:to(DEVICE)
      local model = cnn():to(DEVICE)
      local list = model:parameters()
      local half = #list // 2
      local groups = { { params = table.move(list, 1, half, 1, {}) }, { params = table.move(list, half + 1, #list, 1, {}), lr_scale = 0.5 } }
      local opt = nn.optim.Adam { groups, lr = 0.01, loss_scale = "dynamic", global_clipnorm = 1 }
      local function step()
        local loss
        do
          local _ <close> = nn.scope()
          loss = nn.losses.cross_entropy(model(x), y)
          opt:zero_grad()
          opt:scale_loss(loss):backward()
          loss = loss:detach():keep()
        end
        opt:step()
        return loss:item()
      end
      local first = step()
      for _ = 1, 5 do step() end
      local before = nn.run_stats()
      for _ = 1, 10 do step() end
      local after = nn.run_stats()
      assert.equal(0, after.plan_misses - before.plan_misses)
      assert.equal(10, after.runs - before.runs)
      assert.equal(10, after.downloads - before.downloads)
      assert.equal(20, after.submissions - before.submissions)
      assert.is_true(step() < first)
      assert.equal(2 ^ 15, opt:current_scale())
    end)
    nn.policy(was)
    assert(ok, why)
  end)

  on_device("is not waited for: steps with uploads and class ids go out while the last ones compute", function()
    local x, y = data(12)
    local model = cnn():to(DEVICE)
    local opt = nn.optim.SGD { model:parameters(), lr = 0.01 }
    local function step(a, b)
      local _ <close> = nn.scope()
      opt:zero_grad()
      nn.losses.cross_entropy(model(a:to(DEVICE)), b:to(DEVICE)):backward()
      opt:step()
    end
    for _ = 1, 20 do step(x, y) end
    nn.finish()
    local before = nn.run_stats()
    for _ = 1, 3 do step(x, y) end -- as many as may be under way
    local after = nn.run_stats()
    assert.equal(3, after.submissions - before.submissions)
    assert.equal(6, after.uploads - before.uploads)
    assert.equal(0, after.waits - before.waits)
    nn.finish()
    -- ids that the host has not seen may be wrong: that is waited for, and an error
    local made = (nn.rand(12):to(DEVICE) * 3):floor():to "i64" + 1
    before = nn.run_stats()
    step(x, made)
    assert.is_true(nn.run_stats().waits > before.waits)
    assert.truthy(message(function() step(x, made + 2) end):find("class id", 1, true))
    y[3] = 4
    local weights = numbers(model)
    assert.truthy(message(function() step(x, y) end):find("class id 4 at position 3 is not in 1..3", 1, true))
    assert.same(weights, numbers(model))
  end)

  on_device("takes the batches of fit from the CPU, and reads nothing back at each", function()
    local x, y = data(48)
    local model = cnn():to(DEVICE)
    model:compile { optimizer = nn.optim.SGD { lr = 0.01 }, loss = "sparse_categorical_crossentropy", from_logits = true }
    local set = nn.data.from_tensors(x, y):batch(4):prefetch(2)
    model:fit { set, epochs = 1, verbose = 0 }
    local function cost(n)
      local before = nn.run_stats()
      model:fit { set:take(n), epochs = 1, verbose = 0 }
      local after = nn.run_stats()
      return after.uploads - before.uploads, after.downloads - before.downloads
    end
    local up, down = cost(3)
    assert.equal(6, up)
    assert.same({ 24, down }, { cost(12) })
  end)

  on_device("tells what its kernels cost", function()
    local p = nn.profile(function()
      local a = nn.rand(96, 96):to(DEVICE)
      for _ = 1, 3 do (a:matmul(a) + 1):sum():eval() end
    end)
    local calls = {}
    for _, row in ipairs(p.rows) do
      calls[row.name] = row.calls
      assert.is_true(row.seconds >= 0 and row.seconds < 10)
    end
    assert.equal(3, calls.matmul)
    assert.is_true(p.seconds > 0)
    for _, row in ipairs(p.rows) do
      if row.name == "matmul" then assert.is_true(row.seconds > 0) end
    end
  end)

  on_device("holds its memory over 1000 steps, and gives it back", function()
    local x = nn.rand(4, 3):to(DEVICE)
    local w = nn.rand(3, 2):to(DEVICE):requires_grad(true)
    local function step()
      local _ <close> = nn.scope()
      nn.square(x:matmul(w)):mean():backward()
      core.sgd_step({ w }, nil, { lr = 0.01 })
      w:set_grad(nil)
      core.eval()
    end
    for _ = 1, 200 do step() end -- a plan keeps up to four records of its run, for runs that overlap
    nn.finish()
    collectgarbage()
    local live, held = nn.memory(DEVICE).live, nn.memory(DEVICE).cached
    for _ = 1, 1000 do step() end
    nn.finish()
    collectgarbage()
    assert.equal(live, nn.memory(DEVICE).live)
    assert.equal(held, nn.memory(DEVICE).cached)
  end)

  on_device("takes and gives checkpoints that the CPU reads, both ways", function()
    local path = os.tmpname()
    local x, y = data(12)
    local a = cnn():to(DEVICE)
    train(a, x:to(DEVICE), y:to(DEVICE), 2)
    assert(a:save(path))
    local b = assert(nn.load(path))
    assert.same(numbers(a), numbers(b))
    a:eval()
    b:eval()
    assert.equal("cpu", b:device())
    close(a(x:to(DEVICE)):totable(), b(x):totable(), 1e-5)
    assert(b:save(path))
    making(DEVICE, function()
      local c = assert(nn.load(path))
      assert.same(numbers(b), numbers(c))
      c:to(DEVICE):eval()
      close(b(x):totable(), c(x:to(DEVICE)):totable(), 1e-5)
    end)
    os.remove(path)
  end)

  on_device("makes what library functions need where their arguments lie", function()
    local x = nn.rand(2, 6, 6, 3):to(DEVICE)
    assert.equal(nn.device(), "cpu")
    for name, f in pairs {
      zeros_like = function() return x:zeros_like() end,
      full_like = function() return nn.full_like(x, 2) end,
      randn_like = function() return nn.randn_like(x) end,
      interpolate = function() return nn.interpolate(x, { size = { 3, 4 } }) end,
      dropout = function() return nn.dropout(x, 0.5) end,
      batch_norm = function() return (nn.batch_norm(x, nn.zeros(3):to(DEVICE), nn.ones(3):to(DEVICE), { training = true })) end,
      one_hot = function() return nn.one_hot(nn.tensor({ 1, 2 }, { dtype = "i64" }):to(DEVICE), 3) end,
      noise = function() return nn.GaussianNoise { 0.1 } (x) end,
    } do
      local ok, y = pcall(f)
      assert(ok, name .. ": " .. tostring(y))
      assert.equal("vulkan:1", y:device(), name)
      y:eval()
    end
    assert.equal(nn.device(), "cpu")
  end)

  on_device("is refused what it has not, and mixed arguments, with a remedy", function()
    local x = nn.rand(2, 2)
    assert.equal('add: arguments lie on different devices: cpu and vulkan:1; move one with :to("vulkan:1")',
      message(function() return x + x:to(DEVICE) end))
    assert.equal('inv: vulkan:1 has no kernel for this operator; move its arguments with :to("cpu")',
      message(function() return nn.inv(x:to(DEVICE)) end))
    assert.truthy(message(function() return nn.zeros({ 2 }, "f64"):to(DEVICE) end):find("f64 is computed on the CPU only", 1, true))
  end)

  on_device("gives batches where tensors are made", function()
    local x, y = data(6)
    local set = nn.data.from_tensors(x, y):map(function(a, b) return a + nn.ones(8, 8, 1), b end):batch(3)
    making(DEVICE, function()
      for bx, by in set:iter() do
        assert.equal("vulkan:1", bx:device())
        assert.equal("vulkan:1", by:device())
        assert.equal("vulkan:1", nn.device())
      end
    end)
  end)
end)

-- ---- processes of their own: switches are read when a device is opened ----
local FULL = [[
local nn = require "nnlua"
local kept, why = {}, nil
for i = 1, 40 do
  local ok, message = pcall(function() kept[i] = (nn.zeros(1 << 20) + i):eval() end)
  if not ok then why = message break end
end
assert(why:find("out of memory on vulkan:1: a run needs %d+ bytes"), why)
local n = #kept
assert(n > 4 and n < 20, n)
kept[1], kept[2] = nil, nil
assert(kept[3]:mean():item() == 3) -- what was there is there
local y = (nn.zeros(1 << 20) + 5):eval() -- dead tensors make room
print(n, y:mean():item())
]]
local SCRIPT = [[
local nn = require "nnlua"
nn.seed(5)
local model = nn.Sequential { nn.Input { 8, 8, 1 }, nn.Conv2D { 4, 3, activation = "relu" }, nn.BatchNorm {}, nn.MaxPooling2D { 2 }, nn.Flatten {},
  nn.Dropout { 0.2 }, nn.Dense { 3 } }
local x, y = nn.rand(12, 8, 8, 1), nn.arange(0, 12, 1, "i64") %% 3 + 1
local opt = nn.optim.Adam { model:parameters(), lr = 0.01 }
for _ = 1, 4 do
  local loss = nn.losses.cross_entropy(model(x), y)
  opt:zero_grad(); loss:backward(); opt:step()
end
local list = {}
for _, w in ipairs(model:weights()) do
  for _, v in ipairs(w.tensor:reshape(-1):totable()) do list[#list + 1] = ("%%.9g"):format(v) end
end
print(table.concat(list, " "))
]]

describe("the modes of a device", function()
  local function run(switch, script)
    local path = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write(script or (SCRIPT:gsub("%%%%", "%%")))
    f:close()
    local pipe = assert(io.popen(("NNLUA_DEVICE=vulkan %s '%s' '%s' 2>&1"):format(switch, program.path, path)))
    local out = pipe:read "a"
    local ok = pipe:close()
    os.remove(path)
    assert(ok, out)
    return out
  end
  local function values(text)
    local list = {}
    for v in text:gmatch "%S+" do list[#list + 1] = assert(tonumber(v), text) end
    return list
  end

  on_device("agree: with replay and without and with all barriers to the bit, without fusion nearly", function()
    local want = run ""
    assert.is_true(#values(want) > 100)
    assert.equal(want, run "NNLUA_VK_BARRIERS=1")
    assert.equal(want, run "NNLUA_VK_NO_REPLAY=1")
    assert.equal(want, run "NNLUA_VK_BUDGET=200000") -- dispatches in parts, runs in several submissions
    close(values(want), values(run "NNLUA_VK_NO_FUSION=1"), 1e-4)
  end)

  on_device("hold on when memory is full: an error with figures, and room again when tensors are dropped", function()
    assert.truthy(run("NNLUA_VK_VALIDATE=1 NNLUA_VK_MEMORY=48", FULL):find "^%d+%s+5.0")
  end)

  on_device("are silent under the validation layers", function()
    assert.equal(run "", run "NNLUA_VK_VALIDATE=1")
  end)
end)
