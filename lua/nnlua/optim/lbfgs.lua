--- LBFGS: steps by an estimate of the curvature, for full batches and few parameters.
--
-- Owns: its rule, and its step, which evaluates the loss several times and so takes a function:
--
--     local nn = require "nnlua"
--     local w = nn.parameter{ -1.0, 2.0 }
--     local opt = nn.optim.LBFGS{ {w}, max_iter = 30 }
--     opt:step(function()
--       opt:zero_grad()
--       local loss = ((w - nn.tensor{ 3.0, 1.0 }):square() * nn.tensor{ 1.0, 10.0 }):sum()
--       loss:backward()
--       return loss
--     end)
--     print(("%.4f %.4f"):format(w[1]:item(), w[2]:item()))   --> 3.0000 1.0000

local core = require "nnlua.core"
local class = require "nnlua.class"
local Closure = require "nnlua.optim.closure"

local dot, largest = Closure.dot, Closure.largest

--- Limited-memory BFGS (Liu and Nocedal), PyTorch's rule without line search: opt:step(f) calls f, which zeroes the gradients, computes the loss,
--- calls its backward() and returns it, for up to max_iter steps along directions made of the last history_size changes. What it remembers of them
--- is not kept in files. fit() cannot use it.
---@class nnlua.LBFGS: nnlua.ClosureOptimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, max_iter?: integer, history_size?: integer }): nnlua.LBFGS
local LBFGS = class("LBFGS", Closure)
LBFGS.options = Closure.with_common {
  lr = { "number|table|function", default = 1 },
  max_iter = { "integer", default = 20, min = 1 },
  max_eval = { "integer", min = 1 },
  tolerance_grad = { "number", default = 1e-7, min = 0 },
  tolerance_change = { "number", default = 1e-9, min = 0 },
  history_size = { "integer", default = 100, min = 1 },
}

-- The direction that the remembered changes give for gradient g; remembers the last one first.
local function direction(self, m, g)
  local y, s = g - m.gradient, m.direction * m.rate
  local ys = dot(y, s)
  if ys > 1e-10 then
    if #m.changes == self.history_size then table.remove(m.changes, 1) end
    table.insert(m.changes, { y = y, s = s, rho = 1 / ys })
    m.scale = ys / dot(y, y)
  end
  local q, alpha = -g, {}
  for i = #m.changes, 1, -1 do
    local c = m.changes[i]
    alpha[i] = dot(c.s, q) * c.rho
    q = q - c.y * alpha[i]
  end
  q = q * m.scale
  for i, c in ipairs(m.changes) do q = q + c.s * (alpha[i] - dot(c.y, q) * c.rho) end
  core.eval()
  return q
end

--- Step as often as max_iter and the tolerances allow; `f` computes loss and gradients. Returns the first loss.
---@param f fun(): nnlua.Tensor
function LBFGS:step(f)
  self:begin(f)
  local first = f()
  local loss, evaluations = first:item(), 1
  local g = self:gather()
  local m = self.memory or { changes = {}, scale = 1 }
  local n, done = 0, largest(g) <= self.tolerance_grad
  while not done and n < self.max_iter do
    n = n + 1
    local fresh = not m.direction
    local d = fresh and -g or direction(self, m, g)
    local rate = fresh and math.min(1, 1 / g:abs():sum():item()) * self.lr or self.lr
    m.direction, m.gradient, m.rate = d, g, rate
    if dot(g, d) > -self.tolerance_change then break end
    self:move_from(self:values(), rate, d)
    if n == self.max_iter then break end
    local before = loss
    loss, evaluations = f():item(), evaluations + 1
    g = self:gather()
    done = evaluations >= self.max_eval or largest(g) <= self.tolerance_grad or largest(d) * rate <= self.tolerance_change
      or math.abs(loss - before) < self.tolerance_change
  end
  for _, t in ipairs { m.direction, m.gradient } do t:keep() end
  self.memory, self.iterations = m, self.iterations + 1
  return first
end

return { LBFGS = LBFGS }
