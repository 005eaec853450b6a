-- Lecture 8: activations, and activations in practice.
-- You learn: what relu, leaky relu, sigmoid and tanh do to a number and to a gradient; why hidden layers mostly use relu and never sigmoid; how to
-- watch for dead units, and what to do about them.
local nn = require "nnlua"

local points = { -6, -2, -0.5, 0.5, 2, 6 }
local functions = { "relu", "leaky_relu", "sigmoid", "tanh" }

local function table_of(title, row)
  io.write(("%-14s"):format(title))
  for _, p in ipairs(points) do io.write(("%9g"):format(p)) end
  print()
  for _, name in ipairs(functions) do
    io.write("  ", ("%-12s"):format(name))
    for _, v in ipairs(row(name)) do io.write(("%9.4f"):format(v)) end
    print()
  end
end

local steepest = {}
table_of("value at", function(name) return nn[name](nn.tensor(points)):totable() end)
print()
table_of("slope at", function(name)
  local x = nn.linspace(-8, 8, 1601):requires_grad(true)
  nn[name](x):sum():backward()
  steepest[name] = x:grad():amax():item()
  x = nn.tensor(points):requires_grad(true)
  nn[name](x):sum():backward()
  return x:grad():totable()
end)
print(("\nThe slope of sigmoid is at most %.2f: each layer of them divides the gradient by four or more. relu hands it on as it is."):format(
  steepest.sigmoid))
assert(math.abs(steepest.sigmoid - 0.25) < 1e-4 and steepest.relu == 1 and math.abs(steepest.tanh - 1) < 1e-4)

local model = nn.Sequential { nn.Input { 8 }, nn.Dense { 32, activation = "sigmoid" }, nn.Dense { 3 } }
print("\nmodel:lint() knows the rule:\n  " .. tostring(model:lint()))
assert(model:lint()[1].rule == "saturating")

print "\nDead units: a relu whose input is negative for every sample has slope 0 and never learns again. Too large a step can do that."
local function train(activation, rate)
  nn.seed(4)
  local x = nn.randn(256, 8)
  local y = x:sum(2, true):sin()
  local net = nn.Sequential { nn.Input { 8 }, nn.Dense { 64, name = "hidden", activation = activation }, nn.Dense { 1 } }
  net:compile { optimizer = nn.optim.Adam { lr = rate }, loss = "mse" }
  net:fit { x, y, epochs = 20, batch_size = 32, verbose = 0 }
  local hidden = nn.Model { inputs = net.inputs, outputs = net:layer("hidden").output }:predict(x) -- {256, 64}
  local dead = hidden:amax(1):le(0):float():mean():item()
  print(("  %-10s  learning rate %-5g  %3.0f %% of 64 units are dead, loss %.3f"):format(activation, rate, 100 * dead, (net:evaluate(x, y))))
  return dead
end
local careful, greedy = train("relu", 0.01), train("relu", 1)
local leaky = train("leaky_relu", 1)
assert(careful < 0.05 and greedy > 0.4 and leaky < greedy)
print "(fit{ callbacks = { nn.callbacks.Health{} } } watches this while a network trains.)"

print "\nIn practice: relu with he_normal weights. When units die: a smaller learning rate, or leaky_relu. Sigmoid is for the last layer: yes or no."
