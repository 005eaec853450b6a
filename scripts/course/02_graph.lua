-- Lecture 2: the graph of operations.
-- You learn: what you compute is first written down as a graph of operators; it runs when somebody reads a number; operators that follow each other
-- become one kernel; the gradient is more of the same graph; and a traced function replays its graph without running your Lua code.
local nn = require "nnlua"
nn.eager(false) -- record operators, run them together; true runs each by itself, with the same results

local function loss(x, w, b, target)
  local y = (x:matmul(w) + b):sigmoid()
  return ((y - target) ^ 2):mean()
end

nn.seed(1)
local x, w, b, target = nn.rand(64, 8), nn.randn(8, 1), nn.zeros(1), nn.rand(64, 1)

local forward = nn.graph(loss, x, w, b, target)
print "The graph of loss(x, w, b, target): nodes are operators, %n their results, in n what comes in.\n"
print(forward)
print(("\n%d operators were written, %d kernels run: a chain of them is computed piece by piece while the numbers are in the cache."):format(
  forward.nodes, forward.kernels))
assert(forward.kernels < forward.nodes)

-- Training adds nodes for the gradients and for the update: the whole step is one graph.
w, b = w:requires_grad(true), b:requires_grad(true)
local step = nn.graph(function()
  local dw, db = nn.grad(loss(x, w, b, target), { w, b })
  return w:detach() - 0.1 * dw, b:detach() - 0.1 * db
end)
print(("\nWith gradients and an update of w and b the same function has %d operators in %d kernels."):format(step.nodes, step.kernels))
assert(step.nodes > 2 * forward.nodes and step.kernels < step.nodes)

-- A function traced by nn.jit is called a few times and then replayed.
local calls = { count = 0 }
local fast = nn.jit(function(t)
  calls.count = calls.count + 1
  return (t * 2 + 1):tanh():sum()
end)
local results = {}
for i = 1, 100 do results[i] = fast(nn.full({ 4 }, i / 100)):item() end
print(("\nnn.jit: 100 calls with other numbers, %d replays, the Lua function itself ran %d times."):format(fast:replays(), calls.count))
assert(fast:replays() > 90 and calls.count < 10)
for i = 1, 100 do assert(math.abs(results[i] - 4 * (1 - 2 / (math.exp(2 * (i / 50 + 1)) + 1))) < 1e-5) end -- 4 tanh(2 t + 1)

print "\nforward:draw \"graph.svg\" draws the picture; model:draw does so for layers."
