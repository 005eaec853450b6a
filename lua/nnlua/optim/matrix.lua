--- Optimizers that treat matrices as matrices: Adafactor, Muon.
--
-- Owns: their rules and options. Both work on the last two dims of a weight, and have another rule for what has fewer.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Optimizer = require "nnlua.optim.base"

local M = {}
local with_common = Optimizer.with_common

local function without(shape, dim)
  local out = table.move(shape, 1, #shape, 1, {})
  table.remove(out, dim)
  return out
end

-- ---- Adafactor -------------------------------------------------------------------------------------------------------

--- Adafactor (Shazeer and Stern), Keras's rule: of a matrix it remembers means of squares per row and per column only. Steps are relative to the size
--- of the weight (at least epsilon_2) and limited to clip_threshold; relative_step: the rate is at most 1 / sqrt(step), else it is lr (Keras limits
--- it all the same).
---@class nnlua.Adafactor: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_2_decay?: number, clip_threshold?: number }): nnlua.Adafactor
local Adafactor = class("Adafactor", Optimizer)
M.Adafactor = Adafactor
Adafactor.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  beta_2_decay = { "number", default = -0.8, below = 0 },
  epsilon_1 = { "number", default = 1e-30, min = 0 },
  epsilon_2 = { "number", default = 1e-3, min = 0 },
  clip_threshold = { "number", default = 1, above = 0 },
  relative_step = { "boolean", default = true },
}

function Adafactor:slot_names() return { "r", "c", "v" } end -- luacheck: no unused args

-- r and c are of matrices, v of what has fewer dims; the others are one element that is not used.
function Adafactor:slot_shape(name, shape) -- luacheck: no unused args
  local n = #shape
  if name == "v" and n >= 2 then return { 1 } end
  if name ~= "r" and name ~= "c" then return shape end
  return n >= 2 and without(shape, name == "r" and n or n - 1) or { 1 }
end

local function rms(x) return core.sqrt(x:square():mean()) end

function Adafactor:rule(p, g, slot, o)
  local rate = self.relative_step and math.min(o.lr, 1 / math.sqrt(o.step)) or o.lr
  local beta = 1 - o.step ^ self.beta_2_decay
  local squares, v = g:square() + self.epsilon_1, slot.v
  if p:dim() >= 2 then
    slot.r = slot.r * beta + squares:mean(-1) * (1 - beta)
    slot.c = slot.c * beta + squares:mean(-2) * (1 - beta)
    v = (slot.r / slot.r:mean(-1, true)):unsqueeze(-1) * slot.c:unsqueeze(-2)
  else
    v = v * beta + squares * (1 - beta)
    slot.v = v
  end
  local step = g / core.sqrt(v)
  step = step / core.maximum(rms(step) / self.clip_threshold, 1)
  return p - step * core.maximum(rms(p), self.epsilon_2) * rate
end

-- ---- Muon ------------------------------------------------------------------------------------------------------------

--- Muon (Jordan et al.), Keras's rule: the momentum of a matrix is made nearly orthogonal by ns_steps Newton-Schulz steps, and scaled by rms_rate
--- times the root of its longer side (Liu et al., "Muon is scalable for LLM training"; false: not scaled). For hidden layers; weights that are no
--- matrices, embeddings, and those whose name has one of exclude_layers in it get Adam's rule with adam_lr_ratio of the rate and adam_weight_decay.
--- weight_decay is 0.004 unless told.
---@class nnlua.Muon: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, momentum?: number, ns_steps?: integer, exclude_layers?: string[] }): nnlua.Muon
local Muon = class("Muon", Optimizer)
M.Muon = Muon
Muon.options = with_common {
  lr = { "number|table|function", default = 0.001 },
  weight_decay = { "number", default = 0.004, min = 0 },
  adam_weight_decay = { "number", default = 0.004, min = 0 },
  adam_beta_1 = { "number", default = 0.9, min = 0, below = 1 },
  adam_beta_2 = { "number", default = 0.999, min = 0, below = 1 },
  epsilon = { "number", default = 1e-7, min = 0 },
  exclude_layers = { "table" },
  exclude_embeddings = { "boolean", default = true },
  muon_a = { "number", default = 3.4445 },
  muon_b = { "number", default = -4.775 },
  muon_c = { "number", default = 2.0315 },
  adam_lr_ratio = { "number", default = 1, min = 0 },
  momentum = { "number", default = 0.95, min = 0, max = 1 },
  ns_steps = { "integer", default = 5, min = 1 },
  rms_rate = { "number|boolean", default = 0.2, above = 0 },
  nesterov = { "boolean", default = true },
}

function Muon:checked()
  if self.rms_rate == true then options.raise 'Muon: option "rms_rate" must be a number, or false' end
end

function Muon:slot_names() return { "m", "v" } end -- luacheck: no unused args

local function by_adam(self, p, name)
  if p:dim() ~= 2 or self.exclude_embeddings and name:lower():find("embedding", 1, true) then return true end
  for _, word in ipairs(self.exclude_layers or {}) do
    if name:find(word, 1, true) then return true end
  end
  return false
end

-- x with its singular values near 1.
local function orthogonal(self, x)
  local tall = x:size(-2) > x:size(-1)
  if tall then x = x:transpose(-1, -2) end
  x = x / (core.sqrt(x:square():sum({ -2, -1 }, true)) + 1e-7)
  for _ = 1, self.ns_steps do
    local a = x:matmul(x:transpose(-1, -2))
    x = x * self.muon_a + (a * self.muon_b + a:matmul(a) * self.muon_c):matmul(x)
  end
  return tall and x:transpose(-1, -2) or x
end

function Muon:decay_of(p, o) return by_adam(self, p, o.name) and self.adam_weight_decay or o.weight_decay end

function Muon:rule(p, g, slot, o)
  if by_adam(self, p, o.name) then
    local b1, b2 = self.adam_beta_1, self.adam_beta_2
    slot.m = slot.m * b1 + g * (1 - b1)
    slot.v = slot.v * b2 + g:square() * (1 - b2)
    local rate = o.lr * self.adam_lr_ratio * math.sqrt(1 - b2 ^ o.step) / (1 - b1 ^ o.step)
    return p - slot.m * rate / (core.sqrt(slot.v) + self.epsilon)
  end
  slot.m = slot.m * self.momentum + g
  local direction = self.nesterov and g + slot.m * self.momentum or slot.m
  local scale = self.rms_rate and math.sqrt(math.max(p:size(1), p:size(2))) * self.rms_rate or 1
  return p - orthogonal(self, direction) * (o.lr * scale)
end

return M
