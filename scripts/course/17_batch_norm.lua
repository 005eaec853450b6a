-- Lecture 17: batch normalization.
-- You learn: each unit's values are brought to mean 0 and variance 1 over the batch, then scaled and shifted by two numbers that are learned;
-- averages are kept for test time; it stands between the layer and the activation; training gets faster, and larger steps become possible.
local nn = require "nnlua"

nn.seed(1)
local x = nn.randn(64, 3) * nn.tensor { 1, 10, 0.1 } + nn.tensor { 0, 50, -3 }
local bn = nn.BatchNorm { momentum = 0.9, epsilon = 1e-5 }
local y = bn(x)
local function row(t)
  local words = {}
  for i, v in ipairs(t:totable()) do words[i] = ("%9.4f"):format(v) end
  return table.concat(words)
end
print "Three units, a batch of 64 samples:"
print("  what comes in:  mean" .. row(x:mean(1)) .. "   deviation" .. row(x:std(1, 0)))
print("  what comes out: mean" .. row(y:mean(1)) .. "   deviation" .. row(y:std(1, 0)))
local by_hand = (x - x:mean(1)) / (x:var(1, 0) + 1e-5):sqrt() -- then * gamma + beta, which begin as 1 and 0
assert((y - by_hand):abs():amax():item() < 1e-3 and y:mean(1):abs():amax():item() < 1e-3)

print "\nMoving averages follow the batches, 0.9 of the old and 0.1 of the new; at test time they take the batch's place:"
for batch = 1, 60 do
  if batch == 1 or batch == 10 or batch == 60 then print(("  after batch %2d: mean%s"):format(batch, row(bn.moving_mean))) end
  bn(nn.randn(64, 3) * nn.tensor { 1, 10, 0.1 } + nn.tensor { 0, 50, -3 })
end
bn:eval()
local one = nn.tensor { { 0, 50, -3 } }:float()
print("  one sample alone, the means themselves, at test time:" .. row(bn(one)[1]))
assert(bn(one):abs():amax():item() < 0.5)

print "\nFour layers, too small weights, learning rate 0.1, with and without batch norm after each Dense:"
local function train(with)
  nn.seed(3)
  local inputs = nn.randn(512, 10)
  local target = (inputs[{ {}, 1 }] * inputs[{ {}, 2 }]):gt(0):long() + 1
  local layers = { nn.Input { 10 } }
  for _ = 1, 3 do
    layers[#layers + 1] = nn.Dense { 32, init = nn.initializers.normal { stddev = 0.05 } }
    if with then layers[#layers + 1] = nn.BatchNorm {} end
    layers[#layers + 1] = nn.ReLU {}
  end
  layers[#layers + 1] = nn.Dense { 2 }
  local model = nn.Sequential(layers)
  model:compile { optimizer = nn.optim.SGD { lr = 0.1 }, loss = "sparse_categorical_crossentropy", from_logits = true }
  return model:fit { inputs, target, epochs = 15, batch_size = 32, verbose = 0 }.loss
end
local plain, normed = train(false), train(true)
for _, epoch in ipairs { 1, 5, 10, 15 } do
  print(("  epoch %2d   loss without %.3f   with %.3f"):format(epoch, plain[epoch], normed[epoch]))
end
assert(normed[15] < 0.3 and plain[15] > 0.6)
