-- Milliseconds of one training step, for the models that scripts in other systems measure too: one line each, median and minimum over steps.
-- Input is made up and has the real shapes, so only computing is timed. usage: nnlua bench/steps.lua [threads] [name ...]
local nn = require "nnlua"

nn.threads(math.tointeger(tonumber(arg[1])) or 2)
nn.seed(0)
local wanted
for i = 2, #arg do
  wanted = wanted or {}
  wanted[arg[i]] = true
end

local clock = nn.sys.clock

-- Times `step` for `budget` seconds after some warm-up.
local function bench(name, step, warm, budget)
  for _ = 1, warm or 5 do step() end
  local times, stop = {}, clock() + (budget or 8)
  while clock() < stop and #times < 400 do
    local start = clock()
    step()
    times[#times + 1] = clock() - start
  end
  table.sort(times)
  print(("%-28s %9.3f ms/step  (min %.3f, n=%d)"):format(name, times[#times // 2 + 1] * 1e3, times[1] * 1e3, #times))
  io.stdout:flush()
end

-- One step of training as fit does it: the handles of the step expire before the window runs.
local function trainer(model, x, y)
  model:build(x)
  local opt = nn.optim.Adam { model:parameters(), lr = 1e-3 }
  return function()
    do
      local _ <close> = nn.scope()
      local loss = nn.losses.cross_entropy(model(x), y)
      opt:zero_grad()
      loss:backward()
    end
    opt:step()
  end
end

local function labels(n, classes) return (nn.uniform({ n }, 0, classes):floor() + 1):clamp(1, classes):long() end

local benches = {
  { "mlp_784_128_10_b64", function()
    return trainer(nn.Sequential { nn.Dense { 128, activation = "relu" }, nn.Dense { 10 } }, nn.randn(64, 784), labels(64, 10))
  end },
  { "mlp_784_512_512_10_b128", function()
    return trainer(nn.Sequential { nn.Dense { 512, activation = "relu" }, nn.Dense { 512, activation = "relu" }, nn.Dense { 10 } },
      nn.randn(128, 784), labels(128, 10))
  end },
  { "mnist_cnn_b64", function()
    return trainer(nn.Sequential {
      nn.Conv2D { 32, 3, activation = "relu" }, nn.Conv2D { 64, 3, activation = "relu" }, nn.MaxPooling2D { 2 }, nn.Dropout { 0.25 },
      nn.Flatten {}, nn.Dense { 128, activation = "relu" }, nn.Dropout { 0.5 }, nn.Dense { 10 },
    }, nn.randn(64, 28, 28, 1), labels(64, 10))
  end },
}
for _, b in ipairs(benches) do
  if not wanted or wanted[b[1]] then bench(b[1], b[2]()) end
end
