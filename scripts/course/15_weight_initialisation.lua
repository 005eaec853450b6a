-- Lecture 15: weight initialisation.
-- You learn: weights must not begin equal, or all units of a layer stay the same for ever; their size must fit the number of inputs, or signals die
-- out or blow up layer by layer; he_normal and glorot_uniform are the sizes that fit.
local nn = require "nnlua"

local I = nn.initializers

print "1. Equal weights: all units get the same gradient and stay equal, however long one trains. With zeros not even that: no gradient passes."
local function trained(init)
  nn.seed(1)
  local x = nn.randn(256, 4)
  local y = (x[{ {}, { 1, 1 } }] * x[{ {}, { 2, 2 } }]):gt(0):float() -- are the signs of the first two numbers equal?
  local hidden, out = nn.Dense { 8, activation = "tanh", init = init }, nn.Dense { 1, activation = "sigmoid", init = init }
  local model = nn.Sequential { nn.Input { 4 }, hidden, out }
  model:compile { optimizer = nn.optim.Adam { lr = 0.02 }, loss = "binary_crossentropy", metrics = { "accuracy" } }
  model:fit { x, y, epochs = 30, batch_size = 32, verbose = 0 }
  local kernel, _, figures = hidden.kernel, model:evaluate(x, y)
  return (kernel - kernel[{ {}, { 1, 1 } }]):abs():amax():item(), kernel:abs():amax():item(), figures.accuracy
end
local found = {}
for i, case in ipairs { { "all 0", "zeros" }, { "all 0.3", I.constant { 0.3 } }, { "glorot_uniform", "glorot_uniform" } } do
  local spread, largest, accuracy = trained(case[2])
  found[i] = { spread = spread, largest = largest, accuracy = accuracy }
  print(("   %-15s after training: largest weight %.2f, largest difference between two units %.4f, accuracy %.2f"):format(
    case[1], largest, spread, accuracy))
end
assert(found[1].largest == 0 and found[2].largest > 0.3 and found[2].spread < 1e-3)
assert(found[3].spread > 1 and found[3].accuracy > 0.95 and found[2].accuracy < 0.8 and found[1].accuracy < 0.7)

print "\n2. The size: deviation of what comes out of ten relu layers of 256 units, for inputs of deviation 1."
local function through(init)
  nn.seed(2)
  local h, row = nn.randn(128, 256), {}
  for layer = 1, 10 do
    h = h:matmul(init { 256, 256 }):relu()
    row[layer] = h:square():mean():sqrt():item() -- root of the mean square
  end
  return row
end
local last = {}
for _, case in ipairs { { "deviation 0.01", I.normal { stddev = 0.01 } }, { "deviation 0.5", I.normal { stddev = 0.5 } },
  { "lecun_normal", I.lecun_normal {} }, { "he_normal", I.he_normal {} } } do
  local row = through(case[2])
  print(("   %-15s layer 1 %9.2g   layer 5 %9.2g   layer 10 %9.2g"):format(case[1], row[1], row[5], row[10]))
  last[case[1]] = row[10]
end
assert(last["deviation 0.01"] < 1e-6 and last["deviation 0.5"] > 1e5 and last.he_normal > 0.4 and last.he_normal < 2.5)
print "   relu throws away half of the mean square; he_normal makes up for it with variance 2 / inputs, lecun_normal has 1 / inputs."

print "\n3. The rules and what they give for a kernel of 400 inputs and 100 units:"
for _, row in ipairs { { "he_normal", math.sqrt(2 / 400) }, { "lecun_normal", math.sqrt(1 / 400) }, { "glorot_uniform", math.sqrt(2 / 500) } } do
  nn.seed(3)
  local deviation = I[row[1]] {} { 400, 100 }:std():item()
  print(("   %-15s deviation %.4f, the rule says %.4f"):format(row[1], deviation, row[2]))
  assert(math.abs(deviation / row[2] - 1) < 0.02)
end
