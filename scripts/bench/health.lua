-- What watching a model costs: processor time of training steps without the Health callback, with it at its default interval, and with a look at
-- every step, which tells what one look costs without the noise of a busy machine; on mlp_784_512_512_10 with batches of 128. Rounds alternate,
-- and the least of each counts. usage: nnlua bench/health.lua [threads] [rounds]
local nn = require "nnlua"
local STEPS, BATCH = 100, 128

nn.threads(math.tointeger(tonumber(arg[1])) or 2)
local rounds = math.tointeger(tonumber(arg[2])) or 12
nn.seed(0)

local x, y = nn.randn(STEPS * BATCH, 784), nn.randint(1, 11, { STEPS * BATCH })
local data = nn.data.from_tensors(x, y):batch(BATCH)

local function model()
  return nn.Sequential { nn.Input { 784 }, nn.Dense { 512, activation = "relu" }, nn.Dense { 512, activation = "relu" }, nn.Dense { 10 } }
    :compile { optimizer = "adam", loss = "sparse_categorical_crossentropy", from_logits = true, metrics = "accuracy" }
end

local ways = {
  { model = model(), callbacks = function() return {} end },
  { model = model(), callbacks = function() return { nn.callbacks.Health { write = function() end } } end },
  { model = model(), callbacks = function() return { nn.callbacks.Health { every = 1, write = function() end } } end },
}

-- Processor seconds of one step of an epoch.
local function measure(way)
  collectgarbage()
  local start = os.clock()
  way.model:fit { data, verbose = 0, callbacks = way.callbacks() }
  return (os.clock() - start) / STEPS
end

for _, way in ipairs(ways) do
  measure(way) -- plans are made
  way.least = math.huge
end
for _ = 1, rounds do
  for _, way in ipairs(ways) do way.least = math.min(way.least, measure(way)) end
end
local plain, health, all = ways[1].least, ways[2].least, ways[3].least
local every = nn.callbacks.Health {}.every
print(("plain %.4f ms/step, with Health every %d steps %.4f ms/step: %+.2f %%"):format(plain * 1e3, every, health * 1e3, (health / plain - 1) * 100))
print(("a look costs %.4f ms, %.2f %% of the steps between two of them"):format((all - plain) * 1e3, (all - plain) / plain / every * 100))
