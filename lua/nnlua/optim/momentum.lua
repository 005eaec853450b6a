--- Optimizers with a direction and no scaling by squares: SGD, ASGD, Rprop, Lion.
--
-- Owns: their rules and options. SGD is one fused update in the runtime.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Optimizer = require "nnlua.optim.base"

local M = {}
local with_common = Optimizer.with_common

--- Stochastic gradient descent: `v = momentum * v + g; p = p - lr * v` (nesterov: `p = p - lr * (g + momentum * v)`).
--- weight_decay is added to the gradient, as in PyTorch.
---@class nnlua.SGD: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, momentum?: number, nesterov?: boolean, weight_decay?: number }): nnlua.SGD
local SGD = class("SGD", Optimizer)
M.SGD = SGD
SGD.options = with_common {
  lr = { "number|table|function", default = 0.01 },
  momentum = { "number", default = 0, min = 0, max = 1 },
  nesterov = { "boolean", default = false },
}

function SGD:checked()
  if self.nesterov and self.momentum == 0 then options.raise "SGD: nesterov needs a momentum above 0" end
end

function SGD:slot_names() return self.momentum > 0 and { "momentum" } or {} end

-- The runtime's step works on the gradients that the parameters hold.
local function runtime_lists(self, group, grads, changed, slots)
  local lists = { {} }
  for k = 1, #slots do lists[k + 1] = {} end
  for _, i in ipairs(group.members) do
    if grads[i] then
      local p, n = self.parameters[i], #lists[1] + 1
      if changed then p:set_grad(grads[i]) end
      lists[1][n] = p
      for k, slot in ipairs(slots) do lists[k + 1][n] = self.slots[slot][i] end
    end
  end
  return lists
end
M.runtime_lists = runtime_lists

local function runtime_options(self, o)
  return { lr = o.lr, momentum = self.momentum, nesterov = self.nesterov, weight_decay = o.weight_decay, dampening = 0,
    defer = true }
end

function SGD:update_group(group, grads, o, changed)
  local lists = runtime_lists(self, group, grads, changed, self:slot_names())
  core.sgd_step(lists[1], lists[2], runtime_options(self, o))
end

function SGD:renew(o)
  if o then core.sgd_renew(runtime_options(self, o)) end
  return true
end

--- Averaged SGD (Polyak and Juditsky), PyTorch's rule: the learning rate falls as `lr / (1 + lambd * lr * t)^alpha`, and slot "average_sgd" is
--- the mean of the parameters from step t0 on.
---@class nnlua.ASGD: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, lambd?: number, alpha?: number, t0?: number }): nnlua.ASGD
local ASGD = class("ASGD", Optimizer)
M.ASGD = ASGD
ASGD.options = with_common {
  lr = { "number|table|function", default = 0.01 },
  lambd = { "number", default = 1e-4, min = 0 },
  alpha = { "number", default = 0.75, min = 0 },
  t0 = { "number", default = 1e6, min = 0 },
}

function ASGD:slot_names() return { "average_sgd" } end -- luacheck: no unused args

function ASGD:rule(p, g, slot, o)
  local before = o.step - 1
  local eta = o.lr / (1 + self.lambd * o.lr * before) ^ self.alpha
  local mu = before == 0 and 1 or 1 / math.max(1, before - self.t0)
  p = p * (1 - self.lambd * eta) - g * eta
  slot.average_sgd = mu == 1 and p or slot.average_sgd + (p - slot.average_sgd) * mu
  return p
end

--- Rprop (Riedmiller and Braun), PyTorch's rule: only the sign of the gradient counts; each element has its own step size, which grows while the
--- sign stays and shrinks when it turns. For full batches.
---@class nnlua.Rprop: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, eta_minus?: number, eta_plus?: number }): nnlua.Rprop
local Rprop = class("Rprop", Optimizer)
M.Rprop = Rprop
Rprop.options = with_common {
  lr = { "number|table|function", default = 0.01 },
  eta_minus = { "number", default = 0.5, above = 0, below = 1 },
  eta_plus = { "number", default = 1.2, above = 1 },
  step_min = { "number", default = 1e-6, above = 0 },
  step_max = { "number", default = 50, above = 0 },
}

function Rprop:slot_names() return { "previous", "step_size" } end -- luacheck: no unused args
function Rprop:slot_start(name) return name == "step_size" and self.lr or 0 end

function Rprop:rule(p, g, slot)
  local agree = g * slot.previous
  local turned = agree:lt(0)
  local size = core.where(agree:gt(0), slot.step_size * self.eta_plus, core.where(turned, slot.step_size * self.eta_minus, slot.step_size))
  slot.step_size = size:clamp(self.step_min, self.step_max)
  slot.previous = core.where(turned, 0, g)
  return p - slot.previous:sign() * slot.step_size
end

--- Lion (Chen et al.), Keras's rule: the sign of a mix of gradient and momentum. Its learning rate is some ten times smaller than Adam's.
---@class nnlua.Lion: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, weight_decay?: number }): nnlua.Lion
local Lion = class("Lion", Optimizer)
M.Lion = Lion
Lion.aliases = { learning_rate = "lr", beta1 = "beta_1", beta2 = "beta_2" }
Lion.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  beta_1 = { "number", default = 0.9, min = 0, below = 1 },
  beta_2 = { "number", default = 0.99, min = 0, below = 1 },
}

function Lion:slot_names() return { "m" } end -- luacheck: no unused args

function Lion:rule(p, g, slot, o)
  local direction = (slot.m * self.beta_1 + g * (1 - self.beta_1)):sign()
  slot.m = slot.m * self.beta_2 + g * (1 - self.beta_2)
  return p - direction * o.lr
end

return M
