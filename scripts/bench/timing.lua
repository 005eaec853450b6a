--- What the benchmarks share: the command line, the clock, one line of figures per workload.
-- usage of each: nnlua bench/FILE.lua [--device NAME] [threads] [name ...]; NNLUA_BENCH_SECONDS: how long a workload is timed. The number of threads
-- may be left out where a device is named.
local nn = require "nnlua"

local timing = {}

local wanted, words, device = nil, {}, "cpu"
do
  local i = 1
  while i <= #arg do
    if arg[i] == "--device" then
      device = assert(arg[i + 1], "--device needs a name")
      i = i + 1
    else
      words[#words + 1] = arg[i]
    end
    i = i + 1
  end
end
local threads = math.tointeger(tonumber(words[1]))
for i = threads and 2 or 1, #words do
  wanted = wanted or {}
  wanted[words[i]] = true
end
nn.threads(threads or 2)
assert(nn.device(device))
nn.seed(0)

local clock = nn.sys.clock
local seconds = tonumber(os.getenv "NNLUA_BENCH_SECONDS")

-- Peak resident memory of this process, when asked for by NNLUA_BENCH_PEAK.
local function peak()
  local f = os.getenv "NNLUA_BENCH_PEAK" and io.open "/proc/self/status"
  if not f then return "" end
  local kb = f:read("a"):match "VmHWM:%s*(%d+)"
  f:close()
  return kb and ("  peak %d MB"):format(kb // 1024) or ""
end

--- Was the workload asked for (all are when none is named)?
function timing.wants(name) return not wanted or wanted[name] end

-- Calls between two waits for the device: enough for 20 ms, so that work is queued as in training and the wait itself does not count. On the CPU each
-- call is timed alone.
local function calls_per_wait(step)
  if device == "cpu" then return 1 end
  local start = clock()
  step()
  nn.finish()
  return math.max(1, math.min(200, math.ceil(0.02 / (clock() - start))))
end

--- Times `step` for `budget` seconds after `warm` calls and prints median and minimum; `per` calls' worth of work is done by one step.
function timing.bench(name, step, warm, budget, per)
  if not timing.wants(name) then return end
  for _ = 1, warm or 5 do step() end
  nn.finish()
  local calls = calls_per_wait(step)
  local times, stop = {}, clock() + (seconds or budget or 8)
  while clock() < stop and #times < 400 do
    local start = clock()
    for _ = 1, calls do step() end
    if device ~= "cpu" then nn.finish() end
    times[#times + 1] = (clock() - start) / (calls * (per or 1))
  end
  table.sort(times)
  print(("%-28s %9.5g ms/step  (min %.5g, n=%d)%s"):format(name, times[#times // 2 + 1] * 1e3, times[1] * 1e3, #times, peak()))
  io.stdout:flush()
end

--- Runs what sets up and times a workload, if it is wanted; where a device cannot do it, its line says why and the others still run.
function timing.row(name, make)
  if not timing.wants(name) then return end
  local ok, message = pcall(make, name)
  if not ok then print(("%-28s failed: %s"):format(name, (tostring(message):gsub("\n.*", "")))) end
  collectgarbage()
  collectgarbage()
  nn.memory_trim()
end

return timing
