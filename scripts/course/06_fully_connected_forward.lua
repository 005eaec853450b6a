-- Lecture 6: the fully connected layer, forward.
-- You learn: y = x W + b with all its shapes; the three loops that it is; why the matrix product is what everything is made of, and how many
-- multiplications it takes.
local nn = require "nnlua"

local N, IN, OUT = 64, 100, 30 -- samples, inputs, units
nn.seed(1)
local x, w, b = nn.randn(N, IN), nn.randn(IN, OUT) / math.sqrt(IN), nn.randn(OUT)
print(("x {%d, %d}: a row for each sample     w {%d, %d}: a column for each unit     b {%d}: one for each unit"):format(N, IN, IN, OUT, OUT))

-- By hand: y[n][j] = b[j] + sum over i of x[n][i] w[i][j]
local X, W, B = x:totable(), w:totable(), b:totable()
local start = os.clock()
local Y = {}
for n = 1, N do
  Y[n] = {}
  for j = 1, OUT do
    local sum = B[j]
    for i = 1, IN do sum = sum + X[n][i] * W[i][j] end
    Y[n][j] = sum
  end
end
local by_hand = os.clock() - start

local products = N * IN * OUT
print(("\nthree loops in Lua: %d multiplications and additions, y[1][1] = %.5f"):format(products, Y[1][1]))

local function seconds(f) -- of one of the fastest calls
  local best = math.huge
  for _ = 1, 20 do
    local t = os.clock()
    f()
    nn.eval()
    best = math.min(best, os.clock() - t)
  end
  return best
end
local y = nn.linear(x, w, b)
local fast = seconds(function() y = nn.linear(x, w, b) end)
local shape = table.concat(y:shape(), ", ")
print(("nn.linear(x, w, b):  {%s}, y[1][1] = %.5f, about %.0f times as fast"):format(shape, y[{ 1, 1 }]:item(), by_hand / fast))

local largest = (y - nn.tensor(Y)):abs():amax():item()
print(("largest difference of all %d numbers: %.1e (the loops compute in double precision, tensors in single)"):format(N * OUT, largest))
assert(largest < 1e-5)

-- The three ways to write it are one operator and one layer.
local layer = nn.Linear(IN, OUT)
layer:set_weights { w, b }
assert((x:matmul(w) + b - y):abs():amax():item() < 1e-5)
assert((layer(x) - y):abs():amax():item() == 0)
print("\nx:matmul(w) + b, nn.linear(x, w, b) and the layer", layer, "are the same.")

print "\nLinear layers in a row are one linear layer: (x A) B = x (A B). It takes an activation between them to compute more."
local a, c = nn.randn(IN, 50) / 10, nn.randn(50, OUT) / 7
local two, one = x:matmul(a):matmul(c), x:matmul(a:matmul(c))
print(("  largest difference between two layers and the product matrix: %.1e"):format((two - one):abs():amax():item()))
assert((two - one):abs():amax():item() < 1e-4 and (x:matmul(a):relu():matmul(c) - one):abs():amax():item() > 0.1)
