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
local options = require "nnlua.options"
local Optimizer = require "nnlua.optim.base"

--- Limited-memory BFGS (Liu and Nocedal), PyTorch's rule without line search: opt:step(f) calls f, which zeroes the gradients, computes the loss,
--- calls its backward() and returns it, for up to max_iter steps along directions made of the last history_size changes. What it remembers of them
--- is not kept in files. fit() cannot use it.
---@class nnlua.LBFGS: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, max_iter?: integer, history_size?: integer }): nnlua.LBFGS
local LBFGS = class("LBFGS", Optimizer)
LBFGS.needs_function = true
LBFGS.options = Optimizer.with_common {
  lr = { "number|table|function", default = 1 },
  max_iter = { "integer", default = 20, min = 1 },
  max_eval = { "integer", min = 1 },
  tolerance_grad = { "number", default = 1e-7, min = 0 },
  tolerance_change = { "number", default = 1e-9, min = 0 },
  history_size = { "integer", default = 100, min = 1 },
}

function LBFGS:checked()
  for _, key in ipairs { "clipnorm", "clipvalue", "global_clipnorm" } do
    if self[key] then options.raise(("LBFGS: it takes no %s: a changed gradient tells a wrong curvature"):format(key)) end
  end
  if self.weight_decay > 0 or self.use_ema or self.gradient_accumulation_steps > 1 then
    options.raise "LBFGS: it takes no weight_decay, use_ema or gradient_accumulation_steps; add penalties to the loss"
  end
  if not self.max_eval then self.max_eval = self.max_iter * 5 // 4 end
end

local function dot(a, b) return (a * b):sum():item() end
local function largest(a) return a:abs():amax():item() end

-- The gradients of all parameters as one row.
local function gather(self)
  local list = {}
  for i, p in ipairs(self.parameters) do
    local g = p:grad()
    list[i] = g and g:reshape(-1) or core.zeros({ p:numel() }, p:dtype())
  end
  local row = (#list > 1 and core.cat(list, 1) or list[1]):detach()
  row:keep()
  return row
end

-- parameters + rate * direction
local function move(self, rate, direction)
  local _ <close> = core.no_grad()
  local at = 1
  for _, p in ipairs(self.parameters) do
    local n = p:numel()
    p:assign(p:detach() + direction:narrow(1, at, n):reshape(p:shape()) * rate)
    at = at + n
  end
  core.eval()
end

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
  if type(f) ~= "function" then
    options.raise "LBFGS: step needs a function that computes the loss and its gradients: opt:step(function() ... return loss end)"
  end
  if not self.parameters then return Optimizer.step(self) end -- which says so
  if self.schedule then self.lr = self.schedule(self.iterations) end
  local first = f()
  local loss, evaluations = first:item(), 1
  local g = gather(self)
  local m = self.memory or { changes = {}, scale = 1 }
  local n, done = 0, largest(g) <= self.tolerance_grad
  while not done and n < self.max_iter do
    n = n + 1
    local fresh = not m.direction
    local d = fresh and -g or direction(self, m, g)
    local rate = fresh and math.min(1, 1 / g:abs():sum():item()) * self.lr or self.lr
    m.direction, m.gradient, m.rate = d, g, rate
    if dot(g, d) > -self.tolerance_change then break end
    move(self, rate, d)
    if n == self.max_iter then break end
    local before = loss
    loss, evaluations = f():item(), evaluations + 1
    g = gather(self)
    done = evaluations >= self.max_eval or largest(g) <= self.tolerance_grad or largest(d) * rate <= self.tolerance_change
      or math.abs(loss - before) < self.tolerance_change
  end
  for _, t in ipairs { m.direction, m.gradient } do t:keep() end
  self.memory, self.iterations = m, self.iterations + 1
  return first
end

return { LBFGS = LBFGS }
