-- Lecture 7: the fully connected layer, backward.
-- You learn: a layer gets dy, the gradient of the loss by its output, and owes three things: the gradients by its weights, by its bias, and by its
-- input, which is the dy of the layer before. Written by hand for two layers with a relu between them, and compared with autograd.
local nn = require "nnlua"

local Linear = {} -- a layer as in the lecture: forward keeps what backward needs
Linear.__index = Linear
function Linear.new(inputs, units) return setmetatable({ w = nn.randn(inputs, units) / math.sqrt(inputs), b = nn.zeros(units) }, Linear) end
function Linear:forward(x)
  self.x = x
  return x:matmul(self.w) + self.b       -- {N, IN} @ {IN, OUT} + {OUT} -> {N, OUT}
end
function Linear:backward(dy)
  self.dw = self.x:transpose():matmul(dy) -- {IN, N} @ {N, OUT} -> {IN, OUT}: each weight met x on one side and dy on the other
  self.db = dy:sum(1)                     -- {N, OUT} -> {OUT}: the bias was added to every sample
  return dy:matmul(self.w:transpose())    -- {N, OUT} @ {OUT, IN} -> {N, IN}: back through the same connections
end

nn.seed(2)
local N, IN, HIDDEN, OUT = 16, 5, 8, 3
local x, target = nn.randn(N, IN), nn.randn(N, OUT)
local first, second = Linear.new(IN, HIDDEN), Linear.new(HIDDEN, OUT)

local z = first:forward(x)
local h = z:relu()
local y = second:forward(h)
local loss = (y - target):square():mean()

local dy = (y - target) * (2 / (N * OUT)) -- the mean of squares
local dh = second:backward(dy)
local dz = dh * z:gt(0):float()           -- relu lets through what was above 0
local dx = first:backward(dz)

-- The same with autograd.
local leaves = {}
for i, t in ipairs { first.w, first.b, second.w, second.b, x } do leaves[i] = t:detach():requires_grad(true) end
local w1, b1, w2, b2, input = table.unpack(leaves)
local again = (nn.linear(nn.linear(input, w1, b1):relu(), w2, b2) - target):square():mean()
again:backward()
print(("loss by hand %.6f, with autograd %.6f\n"):format(loss:item(), again:item()))

print "gradient   shape      by hand, its first number   largest difference from autograd"
for i, row in ipairs { { "dw1", first.dw }, { "db1", first.db }, { "dw2", second.dw }, { "db2", second.db }, { "dx", dx } } do
  local name, mine = row[1], row[2]
  local difference = (mine - leaves[i]:grad()):abs():amax():item()
  print(("%-10s %-10s %12.6f %26.1e"):format(name, "{" .. table.concat(mine:shape(), ", ") .. "}", mine:reshape(-1)[1]:item(), difference))
  assert(difference < 1e-6 and mine:abs():amax():item() > 1e-3)
end

local rate, before = 0.5, loss:item()
for _, layer in ipairs { first, second } do layer.w, layer.b = layer.w - rate * layer.dw, layer.b - rate * layer.db end
local after = (second:forward(first:forward(x):relu()) - target):square():mean():item()
print(("\none step of gradient descent with these gradients: loss %.4f -> %.4f"):format(before, after))
assert(after < before)
