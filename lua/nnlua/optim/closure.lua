--- The base of optimizers whose step evaluates the loss several times, and so takes a function: LBFGS and CG.
--
-- Owns: what they do not take, all gradients as one row, and moving along a row. They are for full batches; fit cannot use them.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Optimizer = require "nnlua.optim.base"

---@class nnlua.ClosureOptimizer: nnlua.Optimizer
local Closure = class("ClosureOptimizer", Optimizer)
Closure.needs_function = true

function Closure:checked()
  local name = getmetatable(self).__name
  for _, key in ipairs { "clipnorm", "clipvalue", "global_clipnorm" } do
    if self[key] then options.raise(("%s: it takes no %s: a changed gradient tells a wrong curvature"):format(name, key)) end
  end
  if self.weight_decay > 0 or self.use_ema or self.gradient_accumulation_steps > 1 then
    options.raise(name .. ": it takes no weight_decay, use_ema or gradient_accumulation_steps; add penalties to the loss")
  end
  if not self.max_eval then self.max_eval = self.max_iter * 5 // 4 end
end

--- Ready for a step with the function f? Raises when not.
function Closure:begin(f)
  if type(f) ~= "function" then
    options.raise(("%s: step needs a function that computes the loss and its gradients: opt:step(function() ... return loss end)"):format(
      getmetatable(self).__name))
  end
  if not self.parameters then Optimizer.step(self) end -- which says so
  if self.schedule then self.lr = self.schedule(self.iterations) end
end

--- The inner product of two rows, the largest size in one: numbers.
function Closure.dot(a, b) return (a * b):sum():item() end
function Closure.largest(a) return a:abs():amax():item() end

--- The gradients of all parameters as one row.
function Closure:gather()
  local list = {}
  for i, p in ipairs(self.parameters) do
    local g = p:grad()
    list[i] = g and g:reshape(-1) or core.zeros({ p:numel() }, p:dtype())
  end
  local row = (#list > 1 and core.cat(list, 1) or list[1]):detach()
  row:keep()
  return row
end

--- The values of all parameters now, for move_from.
function Closure:values()
  local list = {}
  for i, p in ipairs(self.parameters) do
    list[i] = p:detach()
    list[i]:keep()
  end
  return list
end

--- parameters = values + rate * direction
function Closure:move_from(values, rate, direction)
  local _ <close> = core.no_grad()
  local at = 1
  for i, p in ipairs(self.parameters) do
    local n = p:numel()
    p:assign(values[i] + direction:narrow(1, at, n):reshape(p:shape()) * rate)
    at = at + n
  end
  core.eval()
end

return Closure
