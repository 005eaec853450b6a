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

-- x = x + x, read each 100 operators: recording, planning (from the cache) and running together
local x = nn.randn(64) * 1e-30
cost("loop_add_read_100", 100, function()
  for _ = 1, 100 do x = x + x end
  x = x * 0 + 1e-30
  assert(x[1]:item() < 1)
end, function() end)
