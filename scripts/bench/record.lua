-- What recording costs: microseconds of one pointwise operator without and with a gradient (running left out), of a small loop that reads now
-- and then, and of one training step's recording. usage: nnlua bench/record.lua [threads]
local nn = require "nnlua"
local here = arg[0]:match "^(.*[/\\])" or ""
dofile(here .. "timing.lua")

local clock = nn.sys.clock

-- Least and median microseconds per call of `fn`, which makes `calls` of them; `finish` is not timed.
local function cost(name, calls, fn, finish)
  local times = {}
  for i = 1, 300 do
    local start = clock()
    fn()
    times[i] = (clock() - start) / calls * 1e6
    finish()
  end
  table.sort(times)
  print(("%-28s %9.3f us/op  (min %.3f)"):format(name, times[#times // 2 + 1], times[1]))
end

local n = 1000
local a, b = nn.randn(64), nn.randn(64)
nn.eval()
cost("record_add", n, function()
  local x = a
  for _ = 1, n do x = x + b end
end, nn.eval)
cost("record_relu_method", n, function()
  local x = a
  for _ = 1, n do x = x:relu() end
end, nn.eval)

local w = nn.parameter(nn.randn(64))
nn.eval()
cost("record_add_grad", n, function()
  local x = w
  for _ = 1, n do x = x + b end
end, nn.eval)
cost("record_mul_grad", n, function()
  local x = w
  for _ = 1, n do x = x * b end
end, nn.eval)

cost("add_read_each", 100, function()
  for _ = 1, 100 do
    local z = a + b
    z:eval()
  end
end, function() end)

-- x = x + x, read each 100 operators: recording, planning (from the cache) and running together
local x = nn.randn(64) * 1e-30
cost("loop_add_read_100", 100, function()
  for _ = 1, 100 do x = x + x end
  x = x * 0 + 1e-30
  assert(x[1]:item() < 1)
end, function() end)

-- What nn.jit saves: calls of a function and of its replay, in turns. Running is included.
local function compare(name, fn, calls, ...)
  local jitted, plain, replayed = nn.jit(fn), {}, {}
  for _ = 1, 4 do
    fn(...)
    jitted(...)
    nn.eval()
  end
  for i = 1, 60 do
    for times, f in pairs { [plain] = fn, [replayed] = jitted } do
      local start = clock()
      for _ = 1, calls do
        f(...)
        nn.eval()
      end
      times[i] = (clock() - start) / calls * 1e6
    end
  end
  table.sort(plain)
  table.sort(replayed)
  print(("%-28s %9.2f us/call, jitted %9.2f us/call  (min %.2f, %.2f)"):format(name, plain[30], replayed[30], plain[1], replayed[1]))
end

compare("jit_chain_50", function(t)
  for _ = 1, 25 do t = t * 0.9 + 0.1 end
  return t
end, 100, nn.randn(64):eval())

local function training(inputs, hidden, outputs, batch, calls)
  local net = nn.Sequential { nn.Input { inputs }, nn.Dense { hidden, activation = "relu" }, nn.Dense { outputs } }
  local opt = nn.optim.Adam { net:parameters(), lr = 1e-3 }
  compare(("jit_mlp_%d_%d_%d_b%d"):format(inputs, hidden, outputs, batch), function(images, labels)
    local loss = nn.losses.cross_entropy(net(images), labels)
    opt:zero_grad()
    loss:backward()
    opt:step()
    return loss
  end, calls, nn.randn(batch, inputs):eval(), nn.randint(1, outputs + 1, { batch }):eval())
end
training(784, 128, 10, 64, 10)
training(16, 16, 4, 8, 50)
