--- Optimizers that divide by a running size of the gradient: Adagrad, Adadelta, RMSprop, Ftrl; all by Keras's rules.
--
-- Owns: their rules and options. weight_decay shrinks the parameters themselves, by lr * weight_decay a step.

local core = require "nnlua.core"
local class = require "nnlua.class"
local Optimizer = require "nnlua.optim.base"

local M = {}
local with_common = Optimizer.with_common
local aliases = { learning_rate = "lr", eps = "epsilon" }

--- Adagrad (Duchi et al.): `a = a + g^2; p = p - lr * g / sqrt(a + epsilon)`.
---@class nnlua.Adagrad: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, initial_accumulator_value?: number, epsilon?: number }): nnlua.Adagrad
local Adagrad = class("Adagrad", Optimizer)
M.Adagrad = Adagrad
Adagrad.aliases = aliases
Adagrad.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  initial_accumulator_value = { "number", default = 0.1, min = 0 },
  epsilon = { "number", default = 1e-7, min = 0 },
}

function Adagrad:slot_names() return { "accumulator" } end -- luacheck: no unused args
function Adagrad:slot_start() return self.initial_accumulator_value end

function Adagrad:rule(p, g, slot, o)
  slot.accumulator = slot.accumulator + g:square()
  return p - g * o.lr / (slot.accumulator + self.epsilon):sqrt()
end

--- Adadelta (Zeiler): steps in units of the parameter, from running means of squared gradients and squared steps.
---@class nnlua.Adadelta: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, rho?: number, epsilon?: number }): nnlua.Adadelta
local Adadelta = class("Adadelta", Optimizer)
M.Adadelta = Adadelta
Adadelta.aliases = aliases
Adadelta.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  rho = { "number", default = 0.95, min = 0, below = 1 },
  epsilon = { "number", default = 1e-7, min = 0 },
}

function Adadelta:slot_names() return { "squares", "steps" } end -- luacheck: no unused args

function Adadelta:rule(p, g, slot, o)
  slot.squares = slot.squares * self.rho + g:square() * (1 - self.rho)
  local step = (slot.steps + self.epsilon):sqrt() * g / (slot.squares + self.epsilon):sqrt()
  slot.steps = slot.steps * self.rho + step:square() * (1 - self.rho)
  return p - step * o.lr
end

--- RMSprop (Hinton): `v = rho * v + (1 - rho) * g^2; p = p - lr * g / sqrt(v + epsilon)`; `centered` subtracts the squared mean of the gradient
--- from v, `momentum` accumulates the steps.
---@class nnlua.RMSprop: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, rho?: number, momentum?: number, centered?: boolean }): nnlua.RMSprop
local RMSprop = class("RMSprop", Optimizer)
M.RMSprop = RMSprop
RMSprop.aliases = aliases
RMSprop.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  rho = { "number", default = 0.9, min = 0, below = 1 },
  momentum = { "number", default = 0, min = 0, max = 1 },
  epsilon = { "number", default = 1e-7, min = 0 },
  centered = { "boolean", default = false },
}

function RMSprop:slot_names()
  local names = { "v" }
  if self.centered then names[#names + 1] = "mean" end
  if self.momentum > 0 then names[#names + 1] = "momentum" end
  return names
end

function RMSprop:rule(p, g, slot, o)
  slot.v = slot.v * self.rho + g:square() * (1 - self.rho)
  local size = slot.v + self.epsilon
  if self.centered then
    slot.mean = slot.mean * self.rho + g * (1 - self.rho)
    size = slot.v - slot.mean:square() + self.epsilon
  end
  local step = g * o.lr / size:sqrt()
  if self.momentum == 0 then return p - step end
  slot.momentum = slot.momentum * self.momentum + step
  return p - slot.momentum
end

--- Follow the regularized leader (McMahan et al.): for wide, sparse models; l1 makes exact zeros.
---@class nnlua.Ftrl: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, l1_regularization_strength?: number, beta?: number }): nnlua.Ftrl
local Ftrl = class("Ftrl", Optimizer)
M.Ftrl = Ftrl
Ftrl.aliases = { learning_rate = "lr", l1 = "l1_regularization_strength", l2 = "l2_regularization_strength" }
Ftrl.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  learning_rate_power = { "number", default = -0.5, max = 0 },
  initial_accumulator_value = { "number", default = 0.1, min = 0 },
  l1_regularization_strength = { "number", default = 0, min = 0 },
  l2_regularization_strength = { "number", default = 0, min = 0 },
  l2_shrinkage_regularization_strength = { "number", default = 0, min = 0 },
  beta = { "number", default = 0, min = 0 },
}

function Ftrl:slot_names() return { "accumulator", "linear" } end -- luacheck: no unused args
function Ftrl:slot_start(name) return name == "accumulator" and self.initial_accumulator_value or 0 end

function Ftrl:rule(p, g, slot, o)
  local power, l1 = -self.learning_rate_power, self.l1_regularization_strength
  local l2 = self.l2_regularization_strength + self.beta / (2 * o.lr)
  local pull = g + p * (2 * self.l2_shrinkage_regularization_strength)
  local accumulator = slot.accumulator + g:square()
  local function raised(a) return power == 0.5 and a:sqrt() or core.pow(a, power) end
  local size = raised(accumulator)
  local linear = slot.linear + pull - (size - raised(slot.accumulator)) / o.lr * p
  slot.accumulator, slot.linear = accumulator, linear
  return (linear:clamp(-l1, l1) - linear) / (size / o.lr + 2 * l2)
end

return M
