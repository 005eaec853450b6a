--- Input pipelines in images a second, beside PyTorch's DataLoader where it is installed: 60,000 images of MNIST's shape (bytes, 28x28x1) with
--- their labels, shuffle(10000):batch(64):prefetch(2), and the same with a Lua function on workers. An epoch is timed whole; the best of several counts.
-- usage: nnlua bench/data.lua [epochs]; PYTHON names the interpreter. Run under `taskset -c 0,1` for two cores.
local nn = require "nnlua"

local N, epochs = 60000, tonumber(arg[1]) or 5
local clock = nn.sys.clock
nn.seed(0)
local x = nn.randint(0, 255, { N, 28, 28, 1 }):to "u8"
local y = nn.arange(0, N):to "i64" % 10
local ds = nn.data.from_tensors { x, y }

local function bench(name, pipeline, images)
  local best = math.huge
  for _ = 1, epochs do
    local start, seen = clock(), 0
    for images_of, labels in pipeline:iter() do
      seen = seen + #labels
      assert(#images_of == #labels)
    end
    assert(seen == images)
    best = math.min(best, clock() - start)
  end
  print(("%-36s %12.0f images/s"):format(name, images / best))
end

bench("nnlua shuffle batch prefetch", ds:shuffle(10000):batch(64):prefetch(2), N)
local function normalise(images, labels) return (images:float() / 255 - 0.1307) / 0.3081, labels end
for workers = 0, 2 do
  bench(("nnlua normalise, %d workers"):format(workers), ds:shuffle(10000):batch(64):map(normalise, { workers = workers }), N)
end

local here = arg[0]:match "^(.*)/[^/]*$" or "."
local python = os.getenv "PYTHON" or "python3"
local peer <close> = assert(io.popen(("%s %s/peer_data.py %d 2>/dev/null"):format(python, here, epochs)))
local lines = peer:read "a"
io.write(lines ~= "" and lines or "skipped: PyTorch (no module torch for " .. python .. ")\n")
