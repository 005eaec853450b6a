-- Choosing devices: the list, "auto" and its trial, no loader and no device, running out of a device's memory. What needs surroundings of its own (no
-- driver, little memory) runs in processes of its own. The parts that compute on Vulkan are skipped where there is no device.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local program = dofile(here .. "program.lua")

local has_vulkan = #nn.devices() > 1

-- Runs a script with `nn` in place; fails unless it ends well. Returns its two outputs.
local function script(text, env)
  local folder = program.folder()
  program.write(folder .. "/script.lua", 'local nn = require "nnlua"\n' .. text)
  local out, err, code = program.run({ folder .. "/script.lua" }, { env = env })
  program.remove(folder)
  assert.equal(0, code, out .. err)
  return out, err
end

local function vulkan_it(name, fn)
  if has_vulkan and program.path then it(name, fn) else pending(name .. " (no Vulkan device)") end
end
local function program_it(name, fn)
  if program.path then it(name, fn) else pending(name .. " (needs the program)") end
end

-- A model of everything that must come back after a trial: weights, running averages, dropout's draws, moments, shuffled batches. The layer Slow
-- waits on the device that is to lose.
local training = [[
local slow, choose = os.getenv "SLOW", os.getenv "CHOOSE"
local Slow = nn.class("Slow", nn.Module)
function Slow:forward(x)
  local stop = nn.sys.clock() + (x:device() == slow and 0.05 or 0)
  while nn.sys.clock() < stop do end
  return x
end
nn.seed(3)
local x = nn.randn(48, 8)
local y = nn.randint(1, 4, { 48 })
local model = nn.Sequential { nn.Input { 8 }, nn.Dense { 16, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.3 }, nn.Dense { 3 }, Slow() }
model:compile { optimizer = nn.optim.Adam { lr = nn.schedules.cosine { 0.05, 20 } }, loss = "sparse_categorical_crossentropy", from_logits = true,
  metrics = { "accuracy", "confusion_matrix" } }
if choose == "auto" then
  assert(nn.device "auto" == "auto" and nn.device() == "auto")
else
  model:to(choose)
  assert(nn.device(choose))
end
local batches = 0
local count = { on_batch_end = function() batches = batches + 1 end }
local ds = nn.data.from_tensors(x, y):shuffle(48):batch(16):map(function(a, b) return a + nn.uniform({ a:size(1), 8 }):to(a:device()), b end)
local history = model:fit { ds, epochs = 2, verbose = 0, callbacks = { count } }
print(nn.device(), model:device(), batches, model.compiled.optimizer.iterations)
print(("%a %a %a"):format(history.loss[1], history.loss[2], history.accuracy[2]))
for _, w in ipairs(model:weights()) do print(w.name, (w.tensor:tostring_bytes():gsub(".", function(c) return ("%02x"):format(c:byte()) end))) end
for _, s in ipairs(model.compiled.optimizer:state().slots) do print(s.name, s.slot, ("%a"):format(s.tensor:to "cpu":sum():item())) end
print(nn.rng_state().position)
]]

describe("devices:", function()
  after_each(function() nn.device "cpu" end)

  it("print as one line each", function()
    local text = tostring(nn.devices())
    assert.truthy(text:find("^cpu +%d+ threads?, ", 1), text)
    local _, lines = text:gsub("\n", "")
    assert.equal(math.max(1, #nn.devices() - 1), lines) -- or why there is no other
    for _, d in ipairs(nn.devices()) do assert.truthy(text:find(d.name, 1, true) and text:find(d.title, 1, true), text) end
  end)

  program_it("that are not there are no error until they are asked for, and then a clear one", function()
    local folder = program.folder()
    program.write(folder .. "/libvulkan.so.1", "not a library")
    program.write(folder .. "/libvulkan.so", "not a library")
    local text = [[
      print(nn.tensor{ 1, 2 }:sum():item(), #nn.devices(), nn.device())
      print(nn.devices())
      print(nn.device "vulkan")
      print(select(2, pcall(function() return nn.ones(2):to "vulkan:1" end)))
      print(select(2, nn.device "vulkan:2"))
      print(nn.device "auto")]]
    for env, why in pairs {
      ["VK_ICD_FILENAMES=/nowhere.json VK_DRIVER_FILES=/nowhere.json"] = "no driver found a device; install the Vulkan driver of your GPU",
      ["LD_LIBRARY_PATH=" .. folder] = "no libvulkan.so.1 that works was found; install the Vulkan loader",
    } do
      local out, err = script(text, env)
      local line = {}
      for l in out:gmatch "[^\n]+" do line[#line + 1] = l end
      assert.equal("3\t1\tcpu", line[1])
      assert.truthy(line[2]:find "^cpu", out)
      assert.truthy(line[3]:find("there is no Vulkan device here: ", 1, true) and line[3]:find(why, 1, true), out)
      assert.truthy(line[4]:find "^nil\tdevice: " and line[4]:find(why, 1, true), out)
      assert.truthy(line[5]:find("script.lua:5: device: there is no Vulkan device here: ", 1, true) and line[5]:find(why, 1, true), out)
      assert.truthy(line[6]:find(why, 1, true), out)
      assert.equal("cpu", line[7])
      assert.equal("device auto: there is no GPU here; the CPU computes\n", err)
      program.write(folder .. "/empty.lua", 'require "nnlua"')
      local _, message, code = program.run({ folder .. "/empty.lua" }, { env = env .. " NNLUA_DEVICE=vulkan" })
      assert.equal(1, code)
      assert.truthy(message:find("NNLUA_DEVICE: device: there is no Vulkan device here: ", 1, true), message)
    end
    program.remove(folder)
  end)

  program_it("auto never takes a software device", function()
    local only_software = true
    for _, d in ipairs(nn.devices()) do only_software = only_software and (d.kind == "cpu" or d.kind == "software") end
    if not only_software then return end
    local out, err = script "print(nn.device 'auto', nn.device())"
    assert.equal("cpu\tcpu\n", out)
    assert.equal("device auto: there is no GPU here; the CPU computes\n", err)
  end)

  vulkan_it("auto keeps the faster one, and training is as it would have been there from the start, to the bit", function()
    for slow, fast in pairs { cpu = "vulkan:1", ["vulkan:1"] = "cpu" } do
      local auto, said = script(training, "NNLUA_AUTO_SOFTWARE=1 CHOOSE=auto SLOW=" .. slow)
      local straight = script(training, ("CHOOSE=%s SLOW=%s"):format(fast, slow))
      assert.equal(straight, auto)
      assert.truthy(auto:find(("^%s\t%s\t6\t6\n"):format(fast, fast)), auto)
      local cpu, vulkan, chosen = said:match "^device auto: cpu ([%d.]+) ms/step, vulkan:1 ([%d.]+) ms/step; (%S+) computes\n$"
      assert.equal(fast, chosen, said)
      assert.equal(chosen == "cpu", tonumber(cpu) < tonumber(vulkan), said)
    end
  end)

  vulkan_it("auto leaves out a device where a step fails, and passes a mistake of the script on", function()
    local out, said = script([[
      nn.device "auto"
      local w = nn.parameter(nn.eye(4))
      local Inverse = nn.class("Inverse", nn.Module)
      function Inverse:init() self.w = w end
      function Inverse:forward(x) return x:matmul(self.w:inv()) end
      local model = Inverse()
      model:compile { optimizer = nn.optim.SGD { lr = 0.1 }, loss = "mse" }
      model:fit { nn.ones(4, 4), nn.zeros(4, 4), verbose = 0 }
      print(nn.device(), w:device())]], "NNLUA_AUTO_SOFTWARE=1")
    assert.equal("cpu\tcpu\n", out)
    assert.truthy(said:find("vulkan:1 failed (", 1, true) and said:find("has no kernel", 1, true) and said:find("; cpu computes\n", 1, true), said)
    local folder = program.folder()
    program.write(folder .. "/wrong.lua", [[
      local nn = require "nnlua"
      nn.device "auto"
      local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 } }
      model:compile { optimizer = "sgd", loss = function() return nn.ones(2):matmul(nn.ones(3)) end }
      model:fit { nn.ones(4, 4), nn.zeros(4, 4), verbose = 0 }]])
    local _, err, code = program.run({ folder .. "/wrong.lua" }, { env = "NNLUA_AUTO_SOFTWARE=1" })
    program.remove(folder)
    assert.equal(1, code)
    assert.truthy(err:find "matmul: inner sizes differ", err)
    assert.is_nil(err:find("device auto", 1, true), err)
  end)

  vulkan_it("out of memory collects, drops caches and tries again, then says the figures, and the program goes on", function()
    local out = script([[
      local x = nn.ones(1024, 1024):eval()                          -- 4 MiB of 64
      for i = 1, 100 do local y <const> = (x * i):eval() end        -- dead ones make room by themselves
      print(nn.memory "vulkan:1".peak <= 64 << 20)
      local kept, ok, message = {}, nil, nil
      ok, message = pcall(function() for i = 1, 100 do kept[i] = (x * i):eval() end end)
      print(ok, #kept)
      print(message)
      print(nn.memory "vulkan:1".live >> 20)
      print(kept[#kept][1][1]:item() == #kept)                       -- reading takes no device memory
      ok, message = pcall(function()
        nn.device "cpu"
        local big = nn.zeros(4096, 4096):eval()
        nn.device "vulkan"
        return big:to "vulkan"
      end)
      print(ok, message)
      kept = nil                                                     -- still uncollected
      print((x:reshape(1, 1024, 1024) + nn.ones(8, 1, 1)):sum():item() == 2 ^ 24)
      for i = 1, 12 do
        nn.device "cpu"
        local host = nn.ones(1024, 1024):eval()
        nn.device "vulkan"
        local y <const> = host:to "vulkan"                           -- copies collect as well
      end
      x = nil
      collectgarbage()
      collectgarbage()
      nn.memory_trim()
      local m = nn.memory "vulkan:1"
      print(m.live < 1 << 20, m.cached < 16 << 20, m.peak <= 64 << 20, m.allocated > 400 << 20, nn.memory().live >= m.live)
    ]], "NNLUA_DEVICE=vulkan NNLUA_VK_MEMORY=64")
    local line = {}
    for l in out:gmatch "[^\n]+" do line[#line + 1] = l end
    assert.equal("true", line[1])
    local kept = tonumber(line[2]:match "^false\t(%d+)$")
    assert.is_true(kept >= 10 and kept <= 15, line[2])
    assert.truthy(line[3]:find("script.lua:6: out of memory on vulkan:1: a run needs 4194304 bytes for its results and %d+ for what is between, "
      .. "beside %d+ in live tensors"), line[3])
    assert.is_true(tonumber(line[4]) >= 4 * (kept + 1) and tonumber(line[4]) <= 64, line[4])
    assert.equal("true", line[5])
    assert.truthy(line[6]:find("^false\t.*script.lua:15: to: out of memory on vulkan:1: a copy needs 67108864 bytes, beside %d+ in live tensors"),
      line[6])
    assert.equal("true", line[7])
    assert.equal("true\ttrue\ttrue\ttrue\ttrue", line[8])
  end)
end)
