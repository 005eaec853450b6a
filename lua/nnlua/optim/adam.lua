--- Adam and its relatives: Adam, AdamW, Adamax, Nadam, RAdam, Lamb.
--
-- Owns: their rules and options: running means of the gradient (m) and of its square (v). Adam and AdamW are one fused update in the runtime.
-- weight_decay shrinks the parameters themselves, by lr * weight_decay a step; it is not added to the gradient.

local core = require "nnlua.core"
local class = require "nnlua.class"
local Optimizer = require "nnlua.optim.base"
local runtime_lists = require("nnlua.optim.momentum").runtime_lists

local M = {}

-- Options of all of them, with `more`.
local function spec(more)
  local s = {
    lr = { "number|table|function", default = 0.001 },
    beta_1 = { "number", default = 0.9, min = 0, below = 1 },
    beta_2 = { "number", default = 0.999, min = 0, below = 1 },
    epsilon = { "number", default = 1e-7, min = 0 },
  }
  for key, rule in pairs(more or {}) do s[key] = rule end
  return Optimizer.with_common(s)
end

local aliases = { learning_rate = "lr", beta1 = "beta_1", beta2 = "beta_2", eps = "epsilon" }

local function define(name, more)
  local c = class(name, Optimizer)
  c.aliases, c.options = aliases, spec(more)
  M[name] = c
  return c
end

-- Both running means with the gradient in them.
local function moments(self, g, slot)
  slot.m = slot.m * self.beta_1 + g * (1 - self.beta_1)
  slot.v = slot.v * self.beta_2 + g:square() * (1 - self.beta_2)
  return slot.m, slot.v
end

-- What undoes the start of the means at zero.
local function corrections(self, step) return 1 - self.beta_1 ^ step, 1 - self.beta_2 ^ step end

local function two_slots() return { "m", "v" } end

--- Adam (Kingma and Ba), PyTorch's rule: steps scaled by the means, both corrected for their start at zero; `amsgrad` divides by the largest
--- v so far.
---@class nnlua.Adam: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.Adam
local Adam = define("Adam", { amsgrad = { "boolean", default = false } })

function Adam:slot_names() return self.amsgrad and { "m", "v", "v_max" } or { "m", "v" } end

local function runtime_options(self, o)
  return { lr = o.lr, beta1 = self.beta_1, beta2 = self.beta_2, eps = self.epsilon, weight_decay = o.weight_decay, step = o.step, defer = true }
end

function Adam:update_group(group, grads, o, changed, updates)
  if self.amsgrad then return Optimizer.update_group(self, group, grads, o, changed, updates) end
  local lists = runtime_lists(self, group, grads, changed, self:slot_names())
  core.adam_step(lists[1], lists[2], lists[3], runtime_options(self, o))
end

function Adam:renew(o)
  if self.amsgrad then return false end
  if o then core.adam_renew(runtime_options(self, o)) end
  return true
end

function Adam:rule(p, g, slot, o)
  local m, v = moments(self, g, slot)
  local c1, c2 = corrections(self, o.step)
  slot.v_max = core.maximum(slot.v_max, v)
  return p - m * (o.lr / c1) / (slot.v_max:sqrt() * (1 / math.sqrt(c2)) + self.epsilon)
end

--- Adam with weight decay (Loshchilov and Hutter): weight_decay is 0.004 unless told.
---@class nnlua.AdamW: nnlua.Adam
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, weight_decay?: number }): nnlua.AdamW
local AdamW = class("AdamW", Adam)
M.AdamW = AdamW
AdamW.options = spec { amsgrad = { "boolean", default = false }, weight_decay = { "number", default = 0.004, min = 0 } }

--- Adamax (Kingma and Ba), Keras's rule: Adam with the largest recent gradient in place of the mean of squares.
---@class nnlua.Adamax: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.Adamax
local Adamax = define "Adamax"

function Adamax:slot_names() return { "m", "u" } end -- luacheck: no unused args

function Adamax:rule(p, g, slot, o)
  slot.m = slot.m * self.beta_1 + g * (1 - self.beta_1)
  slot.u = core.maximum(slot.u * self.beta_2, g:abs())
  return p - slot.m * (o.lr / (1 - self.beta_1 ^ o.step)) / (slot.u + self.epsilon)
end

--- Nadam (Dozat), Keras's rule: Adam with Nesterov's look ahead; its momentum warms up as `beta_1 * (1 - 0.5 * 0.96^t)`.
---@class nnlua.Nadam: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.Nadam
local Nadam = define "Nadam"
Nadam.slot_names = two_slots

local function warmed(self, t) return self.beta_1 * (1 - 0.5 * 0.96 ^ t) end

-- The product of warmed(1) to warmed(step). It is kept from step to step; always multiplied in the same order, so that a resumed run has the same.
local function product(self, step)
  local from = self.product_step and self.product_step <= step and self.product_step or 0
  local value = from > 0 and self.product_value or 1
  for t = from + 1, step do value = value * warmed(self, t) end
  self.product_step, self.product_value = step, value
  return value
end

function Nadam:rule(p, g, slot, o)
  local m, v = moments(self, g, slot)
  local done, now, ahead = product(self, o.step), warmed(self, o.step), warmed(self, o.step + 1)
  local m_hat = m * (ahead / (1 - done * ahead)) + g * ((1 - now) / (1 - done))
  return p - m_hat * o.lr / ((v * (1 / (1 - self.beta_2 ^ o.step))):sqrt() + self.epsilon)
end

--- Rectified Adam (Liu et al.), PyTorch's rule: plain momentum until v has seen enough steps to be trusted, so no warm-up is needed.
---@class nnlua.RAdam: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.RAdam
local RAdam = define "RAdam"
RAdam.slot_names = two_slots

function RAdam:rule(p, g, slot, o)
  local m, v = moments(self, g, slot)
  local c1, c2 = corrections(self, o.step)
  local longest = 2 / (1 - self.beta_2) - 1
  local length = longest - 2 * o.step * self.beta_2 ^ o.step / c2
  if length <= 5 then return p - m * (o.lr / c1) end
  local rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
  return p - m * (o.lr / c1 * rectified * math.sqrt(c2)) / (v:sqrt() + self.epsilon)
end

--- Lamb (You et al.), Keras's rule: Adam's step, as long as lr times the norm of the parameter. For large batches.
---@class nnlua.Lamb: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.Lamb
local Lamb = define "Lamb"
Lamb.slot_names = two_slots

function Lamb:rule(p, g, slot, o)
  local m, v = moments(self, g, slot)
  local c1, c2 = corrections(self, o.step)
  local step = m * (1 / c1) / ((v * (1 / c2)):sqrt() + self.epsilon)
  local weight, size = p:square():sum():sqrt(), step:square():sum():sqrt()
  local ratio = core.where(weight:gt(0), core.where(size:gt(0), weight / size, 1), 1)
  return p - step * (ratio * o.lr)
end

return M
