-- Lecture 4: feed forward.
-- You learn: a network is layers of units; a unit adds up its inputs times its weights, adds a bias and bends the sum; the output of a layer is the
-- input of the next. The same network three times: with plain numbers, with matrices, with layers.
local nn = require "nnlua"

-- Two inputs, three hidden units, one output.
local w1, b1 = { { 0.5, -1.0, 0.25 }, { 1.5, 0.5, -0.75 } }, { 0.1, 0.2, 0.3 } -- w1[i][j]: from input i to hidden unit j
local w2, b2 = { { 1.0 }, { -2.0 }, { 0.5 } }, { 0.05 }
local function relu(v) return math.max(v, 0) end

print "1. Unit by unit, for the input (1, 2):"
local input, hidden = { 1, 2 }, {}
for j = 1, 3 do
  local sum = b1[j]
  for i = 1, 2 do sum = sum + input[i] * w1[i][j] end
  hidden[j] = relu(sum)
  print(("   hidden %d: 1 * %5.2f + 2 * %5.2f + %.1f = %5.2f, relu gives %.2f"):format(j, w1[1][j], w1[2][j], b1[j], sum, hidden[j]))
end
local output = b2[1]
for j = 1, 3 do output = output + hidden[j] * w2[j][1] end
print(("   output:   %.2f"):format(output))

print "\n2. All units of a layer are one matrix product, and a batch of inputs is a matrix, too:"
local W1, B1, W2, B2 = nn.tensor(w1), nn.tensor(b1), nn.tensor(w2), nn.tensor(b2)
local x = nn.tensor { { 1, 2 }, { 0, 0 }, { -1, 1 }, { 3, -2 } }
local h = (x:float():matmul(W1) + B1):relu()
local y = h:matmul(W2) + B2
print "   x {4, 2}  @  W1 {2, 3}  + b1 {3}  -> relu -> h {4, 3}  @  W2 {3, 1}  + b2 {1}  ->  y {4, 1}"
print("   y =", y)
assert(math.abs(y[{ 1, 1 }]:item() - output) < 1e-6)

print "\n3. And with layers, which hold the weights:"
local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 3, activation = "relu" }, nn.Dense { 1 } }
model:set_weights { W1, B1, W2, B2 }
print(model)
print("   the same y:", model(x:float()):reshape(-1))
assert((model(x:float()) - y):abs():amax():item() < 1e-6)

print "\nConnections add up quickly. The same for images of 28x28 pixels and for photographs of 224x224 in colour:"
for _, inputs in ipairs { 28 * 28, 224 * 224 * 3 } do
  local net = nn.Sequential { nn.Input { inputs }, nn.Dense { 128 }, nn.Dense { 10 } }
  local expected = (inputs + 1) * 128 + (128 + 1) * 10
  print(("   %6d inputs -> 128 -> 10: %10d weights"):format(inputs, (net:count_params())))
  assert(net:count_params() == expected)
end
