-- How fast this machine is, device by device: `nnlua bench`, or `nnlua bench --device vulkan`. Products, memory, training steps, and the batch
-- size from which on a GPU is faster than the CPU. Least times of several; in half a minute on an ordinary machine.
local nn = require "nnlua"
local models = dofile((arg[0]:match "^(.*[/\\])" or "") .. "bench/models.lua")
local clock = nn.sys.clock

local opt = nn.options.parse_args(arg, {
  about = "Measure this machine: each device's products, memory and training steps.",
  { "device", "string", value = "NAME", help = "this one only (also a software device, which is left out otherwise)" },
  { "threads", "integer", min = 1, help = "CPU threads, by default all" },
  { "seconds", "number", default = 0.5, above = 0, help = "time for each figure" },
})
if opt.threads then nn.threads(opt.threads) end
nn.seed(0)

local function once(fn)
  local start = clock()
  fn()
  nn.finish()
  return clock() - start
end

-- Least seconds of one call of `fn`, which is called for `budget` seconds and at least three times; once when that takes long.
local function least(fn, budget)
  local first = once(fn)
  if first > 2 then return first end
  local best, stop = once(fn), clock() + budget
  repeat best = math.min(best, once(fn)) until clock() > stop
  return best
end

-- The figure of a row: `make` gives the function to time, `figure` turns its seconds into what is printed. What a device can't do is "-".
local failures = {}
local function measure(name, device, make, figure)
  local ok, result = pcall(function() return least(make(), opt.seconds) end)
  collectgarbage()
  if ok then return figure(result) end
  failures[#failures + 1] = ("%s on %s: %s"):format(name, device, tostring(result):gsub("^[^:]*:%d+: ", ""))
  return nil
end

local function gigaflops(seconds) return ("%.0f GFLOP/s"):format(2 * 1024 ^ 3 / seconds / 1e9) end
local function milliseconds(seconds) return ("%.3g ms"):format(seconds * 1e3) end
local function rate(bytes) return function(seconds) return ("%.0f GB/s"):format(bytes / seconds / 1e9) end end

local big = 1 << 24
local rows = {
  { "product of 1024 x 1024", function()
    local a, b = nn.randn(1024, 1024), nn.randn(1024, 1024)
    return function() a:matmul(b):eval() end
  end, gigaflops },
  { "sum of 64 MB", function()
    local x = nn.rand(big)
    return function() x:sum():eval() end
  end, rate(4 * big) },
  { "addition, 192 MB moved", function()
    local x, y = nn.rand(big), nn.rand(big)
    return function() (x + y):eval() end
  end, rate(12 * big) },
}
for _, name in ipairs { "mlp_784_128_10_b64", "mlp_784_512_512_10_b128", "mnist_cnn_b64", "lstm_28x28_h128_b64", "resnet20_cifar_b64",
  "chargpt_L4_d128_T64_b12" } do
  rows[#rows + 1] = { "step of " .. name, function() return models[name]() end, milliseconds }
end

-- ---- devices ---------------------------------------------------------------------------------------------------------

local devices = {}
for _, d in ipairs(nn.devices()) do
  if opt.device and (d.name == opt.device or (opt.device == "vulkan" and d.name == "vulkan:1")) or not opt.device and d.kind ~= "software" then
    devices[#devices + 1] = d
  end
end
if #devices == 0 then
  local _, why = nn.device(opt.device)
  io.stderr:write("bench: ", why or "no device", "\n")
  os.exit(1, true)
end
for _, d in ipairs(devices) do print(("%-10s %s%s"):format(d.name, d.title, d.driver ~= "" and " (" .. d.driver .. ")" or "")) end

local function line(name, cells)
  for i, cell in ipairs(cells) do cells[i] = ("%14s"):format(cell) end
  print(("%-36s%s"):format(name, table.concat(cells)))
  io.stdout:flush()
end

local function each_device(fn)
  local cells = {}
  for i, d in ipairs(devices) do
    assert(nn.device(d.name))
    cells[i] = fn(d.name) or "-"
  end
  return cells
end

print()
line("", each_device(function(name) return name end))
for _, row in ipairs(rows) do
  line(row[1], each_device(function(device) return measure(row[1], device, row[2], row[3]) end))
end

-- ---- from which batch size on a GPU wins -------------------------------------------------------------------------------

-- Seconds of a step of `n` examples, nil when the device can't do it.
local function step_time(make, device, n)
  assert(nn.device(device))
  local ok, seconds = pcall(function() return least(make(n), opt.seconds / 5) end)
  collectgarbage()
  return ok and seconds or nil
end

local function first_win(make, device)
  for power = 0, 10 do
    local n = 1 << power
    local gpu = step_time(make, device, n)
    if not gpu then return "-" end
    if gpu < step_time(make, "cpu", n) then return tostring(n) end
    if gpu > 1 then return "not up to " .. n end -- bigger ones would take too long
  end
  return "not up to 1024"
end

if #devices > 1 or devices[1].name ~= "cpu" then
  print "\nBatch size from which on a training step is faster than the CPU's:"
  for _, name in ipairs { "mlp_784_512_512_10", "mnist_cnn" } do
    line(name, each_device(function(device) return device == "cpu" and "" or first_win(models[name], device) end))
  end
end
for _, text in ipairs(failures) do print("not measured: " .. text) end
