-- Who computes never changes what is computed: a program that exactness_spec.lua runs once for each set of kernels (NNLUA_ISA, OPENBLAS_CORETYPE).
-- A dense and a convolutional network, each 200 steps, with dropout, batch statistics, random draws in the map function and a last batch that is odd:
-- 1 to 4 threads x 0 to 2 workers; killed at 20 random steps and gone on; 3 resumptions in a chain, each with other threads and workers. Prints a
-- line for each, raises at the first bit that differs. Arguments: a folder to write in, a seed, the number of kills.
local nn = require "nnlua"
local core = require "nnlua.core"
local support, program = dofile "tests/support.lua", dofile "tests/program.lua"
local folder, seed, kills, kill = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4]
local EPOCHS, STEPS = 8, 25 -- an epoch's steps; a pass has 7

local models = {}
function models.mlp()
  local model = nn.Sequential { nn.Input { 40 }, nn.Dense { 128, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.3 },
    nn.Dense { 64, activation = "tanh" }, nn.LayerNorm {}, nn.Dense { 5 } }
  return model, { 40 }
end
function models.cnn()
  local model = nn.Sequential { nn.Input { 8, 8, 16 }, nn.Conv2D { 16, 3, padding = "same", activation = "relu" }, nn.BatchNorm {},
    nn.MaxPooling2D { 2 }, nn.Conv2D { 12, 3, strides = 2 }, nn.LeakyReLU { 0.1 }, nn.Flatten {}, nn.Dropout { 0.2 }, nn.Dense { 5 } }
  return model, { 8, 8, 16 }
end

local function start(name, threads, workers)
  nn.threads(threads)
  nn.seed(11)
  local model, sizes = models[name]()
  local x = nn.randn(200, table.unpack(sizes))
  local y = nn.randint(1, 6, { 200 })
  model:compile { optimizer = nn.optim.Adam { lr = 0.003 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  local function noisy(batch, labels) return batch + require("nnlua").randn(table.unpack(batch:shape())) * 0.1, labels end
  return model, nn.data.from_tensors(x, y):shuffle(200):batch(33):map(noisy, { workers = workers, seed = 5 }):repeated()
end

local function fit(name, threads, workers, callbacks)
  local model, ds = start(name, threads, workers)
  local history = model:fit { ds, epochs = EPOCHS, steps_per_epoch = STEPS, verbose = 0, callbacks = callbacks }
  assert(model.compiled.optimizer.iterations == EPOCHS * STEPS)
  local bytes = {}
  for _, w in ipairs(model:weights()) do bytes[#bytes + 1] = w.tensor:tostring_bytes() end
  for _, s in ipairs(model.compiled.optimizer:state().slots) do bytes[#bytes + 1] = s.tensor:tostring_bytes() end
  for _, v in ipairs(history.loss) do bytes[#bytes + 1] = ("%a"):format(v) end
  return core.sha256(table.concat(bytes))
end

-- A run that goes on from what is there and ends itself with SIGKILL at a step, when that comes.
if kill then
  local name, step = kill:match "^(%a+):(%d+)$"
  local steps = tonumber(step)
  print(fit(name, 1, 0, { nn.callbacks.Resume { folder }, nn.callbacks.Checkpoint { folder .. "/m-{step}.h5", batches = 10, keep = 2 },
    { on_batch_begin = function(_, model)
      if model.compiled.optimizer.iterations >= steps then os.execute "kill -9 $PPID" end
    end } }))
  return
end

local function killed(name, want, random)
  local steps = {}
  for i = 1, kills do steps[i] = random.int(1, EPOCHS * STEPS - 1) end
  table.sort(steps)
  steps[#steps + 1] = EPOCHS * STEPS + 1
  for i, step in ipairs(steps) do
    local out, err, code = program.run({ arg[0], folder, arg[2], arg[3], name .. ":" .. step })
    if i <= kills then assert(code == 137, ("killed at step %d: code %s: %s"):format(step, code, err))
    else assert(out == want .. "\n", "killed and gone on: other bits\n" .. err) end
  end
  for _, file in ipairs(nn.sys.list_folder(folder)) do os.remove(folder .. "/" .. file) end
end

local function chained(name, want)
  local file = folder .. "/chain.h5"
  for i, how in ipairs { { 1, 0 }, { 4, 2 }, { 3, 1 }, { 2, 2 } } do
    local left = 53
    local cut = { on_batch_saved = function()
      left = left - 1
      if left == 0 then error("cut", 0) end
    end, batches = 1 }
    local ok, result = pcall(fit, name, how[1], how[2], { nn.callbacks.Resume { file, batches = 10 }, cut })
    assert(ok == (i == 4) and result == (ok and want or "cut"), ok and "chain: other bits" or result)
  end
end

local random = support.random(seed)
print("kernels " .. core.cpu_level())
for _, name in ipairs { "mlp", "cnn" } do
  local want, count = fit(name, 1, 0), 0
  for threads = 1, 4 do
    for workers = 0, 2 do
      assert(fit(name, threads, workers) == want, ("%s: other bits with %d threads and %d workers"):format(name, threads, workers))
      count = count + 1
    end
  end
  killed(name, want, random)
  chained(name, want)
  print(("%s: seed %d, %d threads x workers, %d steps each, %d kills, 3 resumptions in a chain: %s"):format(name, seed, count, EPOCHS * STEPS, kills,
    want))
end
