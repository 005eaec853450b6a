-- Milliseconds of single operators, under the names of the scripts of other systems: one line each, median and minimum.
-- usage: nnlua bench/ops.lua [--device NAME] [threads] [name ...]
local nn = require "nnlua"
local here = arg[0]:match "^(.*[/\\])" or ""
local timing, models = dofile(here .. "timing.lua"), dofile(here .. "models.lua")

-- Each call computes one result, as a system without deferred calls does.
local function op(name, fn) timing.bench(name, function() fn():eval() end, 5, 3) end

local function prepare(names, make)
  for _, name in ipairs(names) do
    if timing.wants(name) then return make() end
  end
end

prepare({ "op_layernorm_grad_32768x128" }, function()
  local x, w, b = nn.parameter(nn.randn(32768, 128)), nn.parameter(nn.ones(128)), nn.parameter(nn.zeros(128))
  local d = nn.randn(32768, 128)
  timing.bench("op_layernorm_grad_32768x128", function() -- forward and backward
    local _ <close> = nn.scope()
    local gradients = table.pack(nn.grad(models.layer_norm(x, { 128 }, w, b), { x, w, b }, { cotangents = d }))
    nn.eval()
    return gradients
  end, 5, 3)
end)

local _ <close> = nn.no_grad()
prepare({ "op_matmul_1024" }, function()
  local a, b = nn.randn(1024, 1024), nn.randn(1024, 1024)
  op("op_matmul_1024", function() return a:matmul(b) end)
end)
prepare({ "op_add_4M", "op_exp_4M", "op_sum_4M", "op_softmax_4096x1024", "op_chain_4M" }, function()
  local x, y, z = nn.randn(1 << 22), nn.randn(1 << 22), nn.randn(1 << 22)
  local rows = x:reshape(4096, 1024)
  op("op_add_4M", function() return x + y end)
  op("op_exp_4M", function() return x:exp() end)
  op("op_sum_4M", function() return x:sum() end)
  op("op_softmax_4096x1024", function() return rows:softmax(-1) end)
  op("op_chain_4M", function() return ((x * y + z):tanh() * x - y):relu() end)
end)
prepare({ "op_layernorm_32768x128" }, function()
  local x, w, b = nn.randn(32768, 128), nn.ones(128), nn.zeros(128)
  op("op_layernorm_32768x128", function() return models.layer_norm(x, { 128 }, w, b) end)
end)
prepare({ "op_add_64_overhead" }, function()
  local s, kept = nn.randn(64), {} -- kept, so that every result is computed
  timing.bench("op_add_64_overhead", function()
    for i = 1, 100 do kept[i] = s + s end
    nn.eval()
    return kept
  end, 5, 3, 100)
end)
prepare({ "op_conv3x3_32x64x56" }, function()
  local x, w = nn.randn(32, 56, 56, 64), nn.randn(3, 3, 64, 64)
  op("op_conv3x3_32x64x56", function() return nn.conv2d(x, w, nil, { padding = "same" }) end)
end)
prepare({ "infer_mnist_cnn_b1" }, function()
  local x, model = nn.randn(1, 28, 28, 1), models.mnist_net()
  model:build(x)
  model:eval()
  op("infer_mnist_cnn_b1", function() return model(x) end)
end)
