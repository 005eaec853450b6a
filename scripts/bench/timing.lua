--- What the benchmarks share: the command line, the clock, one line of figures per workload.
-- usage of each: nnlua bench/FILE.lua [threads] [name ...]; NNLUA_BENCH_SECONDS: how long a workload is timed.
local nn = require "nnlua"

local timing = {}

local wanted
for i = 2, #arg do
  wanted = wanted or {}
  wanted[arg[i]] = true
end
nn.threads(math.tointeger(tonumber(arg[1])) or 2)
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

--- Times `step` for `budget` seconds after `warm` calls and prints median and minimum; `per` calls' worth of work is done by one step.
function timing.bench(name, step, warm, budget, per)
  if not timing.wants(name) then return end
  for _ = 1, warm or 5 do step() end
  local times, stop = {}, clock() + (seconds or budget or 8)
  while clock() < stop and #times < 400 do
    local start = clock()
    step()
    times[#times + 1] = (clock() - start) / (per or 1)
  end
  table.sort(times)
  print(("%-28s %9.5g ms/step  (min %.5g, n=%d)%s"):format(name, times[#times // 2 + 1] * 1e3, times[1] * 1e3, #times, peak()))
  io.stdout:flush()
end

return timing
