--- The reference models of the benchmarks, in the sizes that other systems are measured with too: each function returns what makes one
--- step of training on made-up input of the real shapes. Images are channels-last.
local nn = require "nnlua"

local models = {}

local Dense, Conv2D, BatchNorm = nn.Dense, nn.Conv2D, nn.BatchNorm

local function labels(n, classes) return (nn.uniform({ n }, 0, classes):floor() + 1):clamp(1, classes):long() end

--- One step as fit does it: the handles of the step expire before the window runs. It returns nothing; `read` makes it return the loss.
function models.stepper(model, opt)
  return function(x, y, read)
    local loss <const> = {}
    do
      local scope <close> = nn.scope()
      loss[1] = nn.losses.cross_entropy(model(x), y)
      if read then scope:keep(loss[1]) end
      opt:zero_grad()
      loss[1]:backward()
    end
    opt:step()
    return read and loss[1]:item()
  end
end

--- A step on x and y as a function of `read`, by Adam unless `opt` makes another optimizer for the model.
function models.trainer(model, x, y, opt)
  model:build(x)
  local step = models.stepper(model, opt and opt(model) or nn.optim.Adam { model:parameters(), lr = 1e-3 })
  return function(read) return step(x, y, read) end
end

function models.mlp_784_128_10_b64()
  return models.trainer(nn.Sequential { Dense { 128, activation = "relu" }, Dense { 10 } }, nn.randn(64, 784), labels(64, 10))
end

--- A step of `n` examples, for those who try several sizes.
function models.mlp_784_512_512_10(n)
  return models.trainer(nn.Sequential { Dense { 512, activation = "relu" }, Dense { 512, activation = "relu" }, Dense { 10 } },
    nn.randn(n, 784), labels(n, 10))
end

function models.mlp_784_512_512_10_b128() return models.mlp_784_512_512_10(128) end

--- The network of many MNIST examples; also measured in inference.
function models.mnist_net()
  return nn.Sequential {
    Conv2D { 32, 3, activation = "relu" }, Conv2D { 64, 3, activation = "relu" }, nn.MaxPooling2D { 2 }, nn.Dropout { 0.25 },
    nn.Flatten {}, Dense { 128, activation = "relu" }, nn.Dropout { 0.5 }, Dense { 10 },
  }
end

function models.mnist_cnn(n) return models.trainer(models.mnist_net(), nn.randn(n, 28, 28, 1), labels(n, 10)) end

function models.mnist_cnn_b64() return models.mnist_cnn(64) end

-- ---- LSTM ------------------------------------------------------------------------------------------------------------

local function weights(fan, ...) return nn.parameter(nn.uniform({ ... }, -fan ^ -0.5, fan ^ -0.5)) end

--- A layer of long short-term memory (N, T, C) -> its last output (N, hidden), then class scores.
local LSTMNet = nn.class("LSTMNet", nn.Module)

function LSTMNet:init(inputs, hidden, classes)
  self.w_ih, self.w_hh = weights(hidden, inputs, 4 * hidden), weights(hidden, hidden, 4 * hidden)
  self.b_ih, self.b_hh = weights(hidden, 4 * hidden), weights(hidden, 4 * hidden)
  self.out = Dense { classes }
end

function LSTMNet:forward(x)
  local y = nn.lstm(x, { w_ih = self.w_ih, w_hh = self.w_hh, b_ih = self.b_ih, b_hh = self.b_hh })
  return self.out(y[{ {}, -1 }])
end

function models.lstm_28x28_h128_b64() return models.trainer(LSTMNet(28, 128, 10), nn.randn(64, 28, 28), labels(64, 10)) end

-- ---- ResNet-20 -------------------------------------------------------------------------------------------------------

local function conv(channels, kernel, stride)
  return Conv2D { channels, kernel, strides = stride, padding = "same", use_bias = false, kernel_initializer = "he_normal" }
end

local function norm() return BatchNorm { momentum = 0.9, epsilon = 1e-5 } end -- PyTorch's figures

local Block = nn.class("Block", nn.Module)

function Block:init(inputs, outputs, stride)
  self.c1, self.b1 = conv(outputs, 3, stride), norm()
  self.c2, self.b2 = conv(outputs, 3, 1), norm()
  if stride ~= 1 or inputs ~= outputs then self.cs, self.bs = conv(outputs, 1, stride), norm() end
end

function Block:forward(x)
  local y = self.b2(self.c2(self.b1(self.c1(x)):relu()))
  return (y + (self.cs and self.bs(self.cs(x)) or x)):relu()
end

local ResNet = nn.class("ResNet", nn.Module)

function ResNet:init()
  self.c, self.b = conv(16, 3, 1), norm()
  local blocks, from = {}, 16
  for _, to in ipairs { 16, 32, 64 } do
    for _ = 1, 3 do
      blocks[#blocks + 1] = Block(from, to, from == to and 1 or 2)
      from = to
    end
  end
  self.blocks, self.out = blocks, Dense { 10 }
end

function ResNet:forward(x)
  x = self.b(self.c(x)):relu()
  for _, block in ipairs(self.blocks) do x = block(x) end
  return self.out(x:mean { 2, 3 })
end

models.ResNet = ResNet
function models.sgd(model, lr) return nn.optim.SGD { model:parameters(), lr = lr or 0.1, momentum = 0.9, weight_decay = 1e-4 } end

function models.resnet20_cifar_b64() return models.trainer(ResNet(), nn.randn(64, 32, 32, 3), labels(64, 10), models.sgd) end

-- ---- a small GPT over characters -------------------------------------------------------------------------------------

local Norm = nn.class("Norm", nn.Module)

function Norm:init(d) self.weight, self.bias = nn.parameter(nn.ones(d)), nn.parameter(nn.zeros(d)) end

local layer_norm = rawget(nn, "layer_norm") or function(x, shape, weight, bias, eps) -- luacheck: no unused args
  local centred = x - x:mean(-1, true)
  return centred * (centred:square():mean(-1, true) + (eps or 1e-5)):rsqrt() * weight + bias
end
models.layer_norm = layer_norm

function Norm:forward(x) return layer_norm(x, { x:size(-1) }, self.weight, self.bias) end

local gelu = rawget(nn, "gelu") or function(x) return x * 0.5 * ((x * 2 ^ -0.5):erf() + 1) end

local GPTBlock = nn.class("GPTBlock", nn.Module)

function GPTBlock:init(d, heads)
  self.heads = heads
  self.n1, self.qkv, self.o = Norm(d), Dense { 3 * d }, Dense { d }
  self.n2, self.up, self.down = Norm(d), Dense { 4 * d }, Dense { d }
end

function GPTBlock:forward(x, mask)
  local B, T, D = x:size(1), x:size(2), x:size(3)
  local E = D // self.heads
  local qkv = self.qkv(self.n1(x)):reshape(B, T, 3, self.heads, E):permute { 3, 1, 4, 2, 5 }
  local a = qkv[1]:matmul(qkv[2]:transpose(-1, -2)) * E ^ -0.5
  a = nn.where(mask, a, -math.huge):softmax(-1)
  x = x + self.o(a:matmul(qkv[3]):transpose(2, 3):reshape(B, T, D))
  return x + self.down(gelu(self.up(self.n2(x))))
end

local GPT = nn.class("GPT", nn.Module)
models.GPT = GPT

function GPT:init(V, d, heads, layers, T)
  self.e, self.p = nn.parameter(nn.randn(V, d)), nn.parameter(nn.zeros(T, d))
  local blocks = {}
  for i = 1, layers do blocks[i] = GPTBlock(d, heads) end
  self.blocks, self.n, self.f = blocks, Norm(d), Dense { V }
  local at = nn.arange(0, T)
  self.mask = nn.buffer(at:reshape(T, 1):ge(at))
end

function GPT:forward(ids)
  local B, T = ids:size(1), ids:size(2)
  local x = nn.index_select(self.e, 1, ids:reshape(-1)):reshape(B, T, -1) + self.p
  for _, block in ipairs(self.blocks) do x = block(x, self.mask) end
  return self.f(self.n(x)):reshape(B * T, -1)
end

function models.chargpt_L4_d128_T64_b12()
  return models.trainer(GPT(65, 128, 4, 4, 64), labels(12 * 64, 65):reshape(12, 64), labels(12 * 64, 65))
end

return models
