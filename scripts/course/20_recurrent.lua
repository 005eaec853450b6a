-- Lecture 20: recurrent networks.
-- You learn: a recurrent layer reads a sequence step by step and keeps a state: new state = tanh(x W + state U + b), with the same weights at each
-- step; the gradient passes through all steps and vanishes on the way where U is small; then the layer cannot learn to remember. Cures: an orthogonal
-- U, which keeps lengths (the default), or the gates of an LSTM.
local nn = require "nnlua"

nn.seed(1)
local N, T, IN, UNITS = 3, 5, 2, 4 -- samples, steps, numbers per step, units
local x = nn.randn(N, T, IN)
local layer = nn.SimpleRNN { UNITS, return_sequences = true }
local y = layer(x)
local W, U, b = table.unpack(layer:get_weights())
print(("x {%d, %d, %d}   W {%d, %d}   U {%d, %d}   b {%d}   ->   a state {%d, %d} after each of %d steps"):format(
  N, T, IN, IN, UNITS, UNITS, UNITS, UNITS, N, UNITS, T))
local state = nn.zeros(N, UNITS)
for t = 1, T do
  state = (x[{ {}, t }]:matmul(W) + state:matmul(U) + b):tanh()
  local difference = (state - y[{ {}, t }]):abs():amax():item()
  print(("  step %d: first unit of the first sample %7.4f, the layer differs by %.0e"):format(t, state[{ 1, 1 }]:item(), difference))
  assert(difference < 1e-5)
end

local small = nn.initializers.normal { stddev = 0.1 }
local kinds = {
  { "SimpleRNN, small U", function() return nn.SimpleRNN { 16, recurrent_initializer = small } end },
  { "SimpleRNN, orthogonal U", function() return nn.SimpleRNN { 16 } end },
  { "LSTM", function() return nn.LSTM { 16 } end },
}

print "\nHow much does the last state depend on each of 25 steps? Norm of its gradient by the input of that step:"
local long, first = nn.randn(8, 25, IN), {}
for i, kind in ipairs(kinds) do
  local input = long:detach():requires_grad(true)
  kind[2]()(input):sum():backward()
  local norms = input:grad():square():sum { 1, 3 }:sqrt():totable()
  first[i] = norms[1] / norms[25]
  print(("  %-24s step 25 %.1e   step 20 %.1e   step 10 %.1e   step 1 %.1e"):format(kind[1], norms[25], norms[20], norms[10], norms[1]))
end
assert(first[1] < 1e-6 and first[2] > 1e-4 and first[3] > 1e-4)

print "\nRemembering: 25 numbers, the first is 1 or -1, the rest is noise. Which was it? A guess is right in half of the cases."
local function task(n)
  local ids, sequence = nn.randint(1, 3, { n }), nn.randn(n, 25, 1) * 0.3
  sequence[{ {}, 1, 1 }] = ids:float() * 2 - 3
  return sequence, ids
end
local train_x, train_y = task(1024)
local test_x, test_y = task(512)
for i, kind in ipairs(kinds) do
  nn.seed(2)
  local model = nn.Sequential { nn.Input { 25, 1 }, kind[2](), nn.Dense { 2 } }
  model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  model:fit { train_x, train_y, epochs = 12, batch_size = 64, verbose = 0 }
  local _, figures = model:evaluate(test_x, test_y)
  print(("  %-24s %5d weights, accuracy %.3f"):format(kind[1], (model:count_params()), figures.accuracy))
  assert(i == 1 and figures.accuracy < 0.7 or i > 1 and figures.accuracy > 0.9)
end
