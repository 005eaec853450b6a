-- Lecture 5: back-propagation.
-- You learn: the chain rule, step by step on one unit with numbers; that autograd does the same; that a small change of a weight confirms it; and
-- that steps against the gradient make the error smaller.
local nn = require "nnlua"

local x, w, b, target = 1.5, 0.8, -0.3, 1.0

print "Forward, one operation after the other:"
local z = w * x + b
local a = 1 / (1 + math.exp(-z))
local e = (a - target) ^ 2
print(("  z = w x + b       = %.1f * %.1f - 0.3 = %.4f"):format(w, x, z))
print(("  a = sigmoid(z)    = %.4f"):format(a))
print(("  e = (a - t)^2     = %.4f"):format(e))

print "\nBackward, from the error to the weights; each step multiplies with the slope of one operation:"
local de_da = 2 * (a - target)
local de_dz = de_da * a * (1 - a)
local de_dw, de_db, de_dx = de_dz * x, de_dz * 1, de_dz * w
print(("  de/da = 2 (a - t)         = %.4f"):format(de_da))
print(("  de/dz = de/da * a (1 - a) = %.4f"):format(de_dz))
print(("  de/dw = de/dz * x         = %.4f"):format(de_dw))
print(("  de/db = de/dz * 1         = %.4f"):format(de_db))
print(("  de/dx = de/dz * w         = %.4f   (what the layer before would get)"):format(de_dx))

print "\nAutograd writes down the operations and does the same:"
local W, B = nn.tensor(w):requires_grad(true), nn.tensor(b):requires_grad(true)
local function error_of(weight, bias) return ((weight * x + bias):sigmoid() - target) ^ 2 end
error_of(W, B):backward()
print(("  W:grad() = %.4f   B:grad() = %.4f"):format(W:grad():item(), B:grad():item()))
assert(math.abs(W:grad():item() - de_dw) < 1e-6 and math.abs(B:grad():item() - de_db) < 1e-6)

local function e_at(weight) return (1 / (1 + math.exp(-(weight * x + b))) - target) ^ 2 end
local difference = (e_at(w + 1e-5) - e_at(w - 1e-5)) / 2e-5
print(("\nThe test of any gradient: a little more and a little less w, %.4f. nn.gradcheck does it for every element."):format(difference))
assert(math.abs(difference - de_dw) < 1e-6 and nn.gradcheck(error_of, { nn.tensor(w), nn.tensor(b) }))

print "\nSteps against the gradient, learning rate 2:"
local before = e
for step = 1, 5 do
  local value, dw, db = nn.value_and_grad(error_of)(W, B)
  W, B = W:detach() - 2 * dw, B:detach() - 2 * db
  print(("  step %d: w %.4f  b %.4f  error before it %.4f"):format(step, W:item(), B:item(), value:item()))
  assert(step == 1 or value:item() < before)
  before = value:item()
end
assert(error_of(W, B):item() < e / 5)
