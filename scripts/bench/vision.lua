-- Pictures per second: a JPEG decoded by libjpeg-turbo alone, and decoded, resized to 224 x 224, mirrored at random and jittered; then the same in a
-- pipeline without workers, with one and with two; beside PyTorch's DataLoader with PIL where both are installed.
-- usage: nnlua bench/vision.lua [height width]; PYTHON names the interpreter. The pipeline needs two idle cores.
local nn = require "nnlua"
local V = nn.vision
nn.threads(1)
nn.seed(0)
local height, width = math.tointeger(tonumber(arg[1] or 375)), math.tointeger(tonumber(arg[2] or 500))

-- something like a photograph: smooth colours, edges, noise; about as many bytes as the mean of ImageNet, 110 kB
local y = nn.arange(0, height):reshape { height, 1, 1 } / height
local x = nn.arange(0, width):reshape { 1, width, 1 } / width
local phase = nn.tensor { 0, 1, 2.5 }:reshape { 1, 1, 3 }
local picture = ((x * 9 + phase):sin() * (y * 7 - phase):cos() * 0.3 + 0.5 + ((x * 40):sin() * (y * 31):sin()):sign() * 0.1
  + nn.randn(height, width, 3) * 0.06):clamp(0, 1)
local bytes = V.encode(picture, "jpeg", { quality = 90 })

local jitter = V.ColorJitter { brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 }
local finish = { V.Resize { 224, 224 }, V.RandomFlip { "horizontal" }, jitter }
local ways = {
  { "decode", function() return assert(V.decode(bytes)) end },
  { "decode, resize, flip, jitter", V.Compose { V.Decode {}, table.unpack(finish) } },
  { "the same, decoded no larger than needed", V.Compose { V.Decode { at_least = { 224, 224 } }, table.unpack(finish) } },
}
local encoded = nn.from_string(bytes, "u8")
local best = {}
for _ = 1, 15 do -- in turns, so that a busy machine is busy for all
  for i, way in ipairs(ways) do
    local start = os.clock()
    for _ = 1, 10 do way[2](encoded) end
    best[i] = math.min(best[i] or math.huge, (os.clock() - start) / 10)
  end
end
print(("JPEG %d x %d, %d bytes, one thread"):format(height, width, #bytes))
for i, way in ipairs(ways) do
  print(("%-42s %7.0f pictures/s  %5.2f ms  %.2f of decoding%s"):format(way[1], 1 / best[i], best[i] * 1e3, best[1] / best[i],
    i == 2 and "   asked for: 0.70" or ""))
end

-- Real time, and time of all threads together: where that does not grow with the workers, they do not stand in each other's way.
local files = 400
local batch = encoded:reshape { 1, #bytes }:expand { files, #bytes }:contiguous()
local time, work = {}, {}
for _ = 1, 6 do
  for workers = 0, 2 do
    local ds = nn.data.from_tensors { batch }:map(ways[2][2], { workers = workers, seed = 1 })
    local start, used = nn.sys.clock(), os.clock()
    for _ in ds:iter() do end -- luacheck: ignore
    time[workers] = math.min(time[workers] or math.huge, (nn.sys.clock() - start) / files)
    work[workers] = math.min(work[workers] or math.huge, (os.clock() - used) / files)
  end
end
for workers = 0, 2 do
  print(("pipeline, %d workers: %5.0f pictures/s, %.3f ms of all threads' time each"):format(workers, 1 / time[workers], work[workers] * 1e3))
end
print(("two workers are %.2f times as fast as one   asked for: 1.70"):format(time[1] / time[2]))

local python, name = os.getenv "PYTHON" or "python3", os.tmpname()
local file <close> = assert(io.open(name, "wb"))
file:write(bytes)
file:close()
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local peer <close> = assert(io.popen(("%s %s/peer_vision.py %s %d 2>/dev/null"):format(python, here, name, files // 2)))
local lines = peer:read "a"
os.remove(name)
io.write(lines ~= "" and lines or "skipped: PyTorch and PIL (not both installed for " .. python .. ")\n")
