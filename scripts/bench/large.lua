-- Milliseconds of the operators that fill a GPU: element-wise, Adam, softmax and norm over NNLUA_BENCH_MB megabytes (256) of f32, products of
-- NNLUA_BENCH_N^3 (4096) in f32 and of twice that in f16. peer_torch.py has the same rows. usage: nnlua bench/large.lua --device vulkan [name ...]
local nn = require "nnlua"
local here = arg[0]:match "^(.*[/\\])" or ""
local timing, models = dofile(here .. "timing.lua"), dofile(here .. "models.lua")

local mb = math.tointeger(tonumber(os.getenv "NNLUA_BENCH_MB" or 256))
local size = math.tointeger(tonumber(os.getenv "NNLUA_BENCH_N" or 4096))
local n = mb << 18 -- elements
local cols = 1024
local rows = n // cols

local function op(name, fn) timing.bench(name, function() fn():eval() end, 5, 3) end

local row = timing.row

row("large_adam", function(name)
  local p = nn.parameter(nn.randn(n))
  local opt = nn.optim.Adam { { p }, lr = 1e-3 }
  p:set_grad(nn.randn(n))
  timing.bench(name, function() opt:step() end, 5, 3)
end)

local _ <close> = nn.no_grad()
row("large_add", function(name)
  local x, y = nn.randn(n), nn.randn(n)
  op(name, function() return x + y end)
end)
row("large_exp", function(name)
  local x = nn.randn(n)
  op(name, function() return x:exp() end)
end)
row("large_chain", function(name)
  local x, y, z = nn.randn(n), nn.randn(n), nn.randn(n)
  op(name, function() return ((x * y + z):tanh() * x - y):relu() end)
end)
row("large_sum", function(name)
  local x = nn.randn(n)
  op(name, function() return x:sum() end)
end)
row("large_softmax", function(name)
  local x = nn.randn(rows, cols)
  op(name, function() return x:softmax(-1) end)
end)
row("large_layernorm", function(name)
  local x, w, b = nn.randn(rows, cols), nn.ones(cols), nn.zeros(cols)
  op(name, function() return models.layer_norm(x, { cols }, w, b) end)
end)
row("large_matmul_f32", function(name)
  local a, b = nn.randn(size, size), nn.randn(size, size)
  op(name, function() return a:matmul(b) end)
end)
row("large_matmul_f16", function(name)
  local a, b = nn.randn(2 * size, 2 * size):to "f16", nn.randn(2 * size, 2 * size):to "f16"
  op(name, function() return a:matmul(b) end)
end)
