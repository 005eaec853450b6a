-- Lecture 9: vanishing and exploding gradients.
-- You learn: the gradient of an early layer is a product with one factor per layer above it; factors below 1 make it vanish, factors above 1 make it
-- explode. The cures: relu with fitting initial weights, batch norm, shortcuts; and clipping against explosions.
local nn = require "nnlua"

local DEPTH, WIDTH = 20, 32
nn.seed(3)
local x, y = nn.randn(64, WIDTH), nn.randint(1, 5, { 64 })

-- Norm of the gradient of each layer's kernel after one backward pass through a network of DEPTH blocks.
local function gradients(block)
  local layers = { nn.Input { WIDTH } }
  for _ = 1, DEPTH do
    for _, layer in ipairs(block()) do layers[#layers + 1] = layer end
  end
  layers[#layers + 1] = nn.Dense { 4 }
  local net, norms = nn.Sequential(layers), {}
  nn.losses.cross_entropy(net(x), y):backward()
  for _, p in ipairs(net:named_parameters()) do
    if p.name:find "kernel$" then norms[#norms + 1] = p.tensor:grad():norm():item() end
  end
  return norms
end

local function bar(v) return ("#"):rep(math.max(0, math.floor(2 * math.log(v, 10) + 24))) end
local function show(title, block)
  local norms = gradients(block)
  print(title)
  for _, i in ipairs { 1, 5, 10, 15, 20 } do print(("  layer %2d  %9.1e  %s"):format(i, norms[i], bar(norms[i]))) end
  return norms[1]
end

print(("Norm of the gradient of each layer, %d layers; the loss is below layer %d, a bar is shorter by two per power of ten.\n"):format(DEPTH, DEPTH))
local sick = show("sigmoid: vanishes", function() return { nn.Dense { WIDTH, activation = "sigmoid" } } end)
local wild = show("relu with weights of deviation 0.7: explodes", function()
  return { nn.Dense { WIDTH, activation = "relu", init = nn.initializers.normal { stddev = 0.7 } } }
end)
local he = show("relu with he_normal weights", function() return { nn.Dense { WIDTH, activation = "relu", init = "he_normal" } } end)
local shortcut = show("sigmoid with batch norm and a shortcut around each layer", function()
  return { nn.SkipConnection { nn.Sequential { nn.BatchNorm {}, nn.Dense { WIDTH, activation = "sigmoid" } } } }
end)

print(("\nfirst layer: sigmoid %.0e, large weights %.0e, he_normal %.2f, shortcuts %.2f"):format(sick, wild, he, shortcut))
assert(sick < 1e-8 and wild > 1e4)
for _, healthy in ipairs { he, shortcut } do assert(healthy > 0.01 and healthy < 10) end

local w = nn.parameter(nn.ones(100) * 50)
w:square():sum():backward()
local before = nn.clip_grad_norm({ w }, 1)
print(("\nClipping: a gradient of norm %.0f keeps its direction and gets norm %.3f. (optimizers: clipnorm, global_clipnorm)"):format(
  before:item(), w:grad():norm():item()))
assert(math.abs(w:grad():norm():item() - 1) < 1e-4)
