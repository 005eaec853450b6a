-- Input pipelines over MNIST in images a second, beside PyTorch's DataLoader where it is installed: shuffle(10000):batch(64):prefetch(2), a Lua
-- function on workers, and how much of a training epoch the steps spend waiting for their batches. An epoch is timed whole; the best of several
-- counts. MNIST is read from NNLUA_DATA; without it images of the same shape are made up. Two cores: run it under `taskset -c 0,1`.
-- usage: nnlua bench/data.lua [epochs]; PYTHON names the interpreter.
local nn = require "nnlua"

local N, epochs = 60000, tonumber(arg[1]) or 5
local clock = nn.sys.clock
nn.seed(0)
nn.threads(2)
local ds = nn.datasets.mnist { download = false }
if ds then
  print "MNIST's 60000 training images"
else
  print "made-up images of MNIST's shape (NNLUA_DATA names no folder that holds it)"
  ds = nn.data.from_tensors { nn.randint(0, 255, { N, 28, 28, 1 }):to "u8", nn.randint(1, 10, { N }):to "i64" }
end

local function bench(name, pipeline, asked)
  local best = math.huge
  for _ = 1, epochs do
    local start, seen = clock(), 0
    for images, labels in pipeline:iter() do
      seen = seen + #labels
      assert(#images == #labels)
    end
    assert(seen == N)
    best = math.min(best, clock() - start)
  end
  print(("%-36s %12.0f images/s%s"):format(name, N / best, asked or ""))
end

bench("nnlua shuffle batch prefetch", ds:shuffle(10000):batch(64):prefetch(2), "   asked for: 2000000")
local function normalise(images, labels) return (images:float() / 255 - 0.1307) / 0.3081, labels end
for workers = 0, 2 do
  bench(("nnlua normalise, %d workers"):format(workers), ds:shuffle(10000):batch(64):map(normalise, { workers = workers }), nil)
end

-- Epochs of the quickest network in use here, a hand-written loop: how long a step has to wait until it has its batch, whoever makes it (a batch this
-- small is gathered by a thread of the pool while the step before it is recorded), and the same steps on a batch that is there.
local net = nn.Sequential { nn.Input { 28, 28, 1 }, nn.Rescaling { 1 / 255 }, nn.Flatten {}, nn.Dense { 128, activation = "relu" }, nn.Dense { 10 } }
local opt = nn.optim.Adam { net:parameters(), lr = 1e-3 }
local steps = (N + 63) // 64

local function train(images, labels)
  local loss = nn.losses.cross_entropy(net(images:float()), labels)
  opt:zero_grad()
  loss:backward()
  opt:step()
end

-- time of an epoch, and the part of it between asking for batches and having them
local function epoch(pipeline)
  local waited, start = 0, clock()
  local next_batch, state = pipeline:iter()
  while true do
    local asked = clock()
    local images, labels = next_batch(state)
    waited = waited + clock() - asked
    if not images then break end
    train(images, labels)
  end
  return clock() - start, waited
end

local pipeline = ds:shuffle(10000):batch(64):prefetch(2)
local images, labels = ds:batch(64):iter()()
local total, waited, bare = math.huge, math.huge, math.huge
for _ = 1, 2 * epochs do -- in turns, so that a busy machine is busy for both
  local t, w = epoch(pipeline)
  total, waited = math.min(total, t), math.min(waited, w)
  local start = clock()
  for _ = 1, steps do train(images, labels) end
  bare = math.min(bare, clock() - start)
end
local us = 1e6 / steps
print(("training 784-128-10, two threads: %.1f us a step, %.1f us on a batch in hand"):format(total * us, bare * us))
print(("  waits for a batch: %.2f us a step, %.1f %% of the epoch   asked for: never"):format(waited * us, 100 * waited / total))
print(("  steps take %.2f M images/s, the pipeline gives %.1f M: %.0f times as many"):format(N / bare / 1e6, N / waited / 1e6, bare / waited))

local here = arg[0]:match "^(.*)/[^/]*$" or "."
local python = os.getenv "PYTHON" or "python3"
local peer <close> = assert(io.popen(("%s %s/peer_data.py %d 2>/dev/null"):format(python, here, epochs)))
local lines = peer:read "a"
io.write(lines ~= "" and lines or "skipped: PyTorch (no module torch for " .. python .. ")\n")
