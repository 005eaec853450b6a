-- Lecture 22: CPU, GPU and other devices compared.
-- You learn: which devices this machine has; that all of them compute the same, up to rounding; that a product of small matrices is a matter of
-- overhead and one of large ones a matter of arithmetic, so that a GPU pays from some size on only. TPUs are not supported: they are Google's own.
local nn = require "nnlua"

print(nn.devices())
local names = {}
for _, device in ipairs(nn.devices()) do
  if device.kind ~= "software" or arg[1] == "--software" then
    names[#names + 1] = device.name
  else
    print(("(%s imitates a GPU on the CPU, to test programs; --software includes it here)"):format(device.name))
  end
end

-- Seconds of one call of f, from the fastest of some rounds.
local function seconds(f)
  local best = math.huge
  f():item()
  for _ = 1, 5 do
    local start, calls = nn.sys.clock(), 0
    repeat
      f():item() -- reading a number waits for the device
      calls = calls + 1
    until nn.sys.clock() - start > 0.01
    best = math.min(best, (nn.sys.clock() - start) / calls)
  end
  return best
end

print "\nA product of two n x n matrices: 2 n^3 operations."
local speed, sums = {}, {}
for _, name in ipairs(names) do
  speed[name], sums[name] = {}, {}
  for _, n in ipairs { 8, 32, 128, 512 } do
    nn.seed(n)
    local a, b = nn.randn(n, n):to(name), nn.randn(n, n):to(name)
    local time = seconds(function() return a:matmul(b):sum() end)
    speed[name][n], sums[name][n] = 2 * n ^ 3 / time / 1e9, a:matmul(b):to "cpu"
    print(("  %-9s n = %3d  %9.1f us  %8.2f GFLOP/s"):format(name, n, time * 1e6, speed[name][n]))
    assert((sums[name][n] - sums.cpu[n]):abs():amax():item() < 1e-3 * math.sqrt(n), "every device computes the same, up to rounding")
  end
end
assert(speed.cpu[512] > 5 * speed.cpu[8], "small products are mostly overhead")

print "\nThreads: the same product in one and in all threads gives the same bits; work is cut by shape, never by the number of threads."
local threads = nn.threads()
local x = nn.randn(512, 512)
nn.threads(1)
local one, time_one = x:matmul(x):tostring_bytes(), seconds(function() return x:matmul(x):sum() end)
nn.threads(threads)
local all, time_all = x:matmul(x):tostring_bytes(), seconds(function() return x:matmul(x):sum() end)
print(("  1 thread %.2f ms, %d threads %.2f ms, the same bits: %s"):format(time_one * 1e3, threads, time_all * 1e3, tostring(one == all)))
assert(one == all)
print "\n`nnlua bench` measures more; nn.device \"auto\" lets the first steps of fit decide; docs/vulkan.md has the rest."
