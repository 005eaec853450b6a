--- Activations as layers: Activation, and one class for each of nn.activations.
--
--     local nn = require "nnlua"
--     print(nn.ELU{0.5}, nn.ELU{0.5}(nn.tensor{0.0}):item())   --> ELU(0.5) 0.0

local core = require "nnlua.core"
local activations = require "nnlua.activations"
local Layer = require "nnlua.layer"
local policy = require "nnlua.policy"

local M = {}

--- Any activation by name or function: `nn.Activation{"tanh"}`.
---@class nnlua.Activation: nnlua.Layer
---@overload fun(options: { [1]: string|function, name?: string }): nnlua.Activation
local Activation = Layer.define("Activation", { activation = { "string|function", position = 1, required = true } })
M.Activation = Activation
Activation.keeps_mask = true

function Activation:forward(x) return self.act and self.act(x) or x end

function Activation:detail() return Layer.activation_text(self):sub(3) end

--- `max(x, 0)`, with Keras's options: limited to max_value, slope below the threshold.
---@class nnlua.ReLU: nnlua.Layer
---@overload fun(options: { [1]?: number, negative_slope?: number, threshold?: number, name?: string }): nnlua.ReLU
local ReLU = Layer.define("ReLU", {
  max_value = { "number", position = 1, min = 0 }, negative_slope = { "number", default = 0, min = 0 }, threshold = { "number", default = 0 } })
M.ReLU = ReLU
ReLU.keeps_mask = true

function ReLU:forward(x)
  local limit, slope, threshold = self.max_value, self.negative_slope, self.threshold
  if slope == 0 and threshold == 0 then
    return limit and core.clamp(x, 0, limit) or core.relu(x)
  end
  local high = limit and core.clamp(x, -math.huge, limit) or x
  return core.where(x:ge(threshold), high, (x - threshold) * slope)
end

function ReLU:detail() return self.max_value and ("max %g"):format(self.max_value) or "" end

--- `x` where positive, else `negative_slope * x` (0.3 as in Keras): `nn.LeakyReLU{0.01}`.
---@class nnlua.LeakyReLU: nnlua.Layer
---@overload fun(options: { [1]?: number, name?: string }): nnlua.LeakyReLU
local LeakyReLU = Layer.define("LeakyReLU", { negative_slope = { "number", position = 1, default = 0.3, min = 0 } }, { alpha = "negative_slope" })
M.LeakyReLU = LeakyReLU
LeakyReLU.keeps_mask = true

function LeakyReLU:forward(x) return core.leaky_relu(x, self.negative_slope) end

function LeakyReLU:detail() return ("%g"):format(self.negative_slope) end

-- ---- tables of them --------------------------------------------------------------------------------------------------

local function axis_text(self) return self.axis == -1 and "" or ("axis %d"):format(self.axis) end

--- Along `axis` (the last by default): probabilities, their logarithms, probabilities of -x; probabilities many of which are 0 (sparsemax).
--- GLU halves its size: one half times the sigmoid of the other; CReLU doubles it: the positive parts of x and of -x.
---@class nnlua.Softmax: nnlua.Layer
---@class nnlua.LogSoftmax: nnlua.Layer
---@class nnlua.Softmin: nnlua.Layer
---@class nnlua.Sparsemax: nnlua.Layer
---@class nnlua.GLU: nnlua.Layer
---@class nnlua.CReLU: nnlua.Layer
---@overload fun(options: { [1]?: integer, name?: string }): nnlua.Softmax
for name, f in pairs { Softmax = core.softmax, LogSoftmax = core.log_softmax, Softmin = activations.softmin, Sparsemax = activations.sparsemax,
  GLU = activations.glu, CReLU = activations.crelu } do
  local c = Layer.define(name, { axis = { "integer", position = 1, default = -1 } })
  M[name], c.detail, c.keeps_mask = c, axis_text, true
  local probabilities = name ~= "GLU" and name ~= "CReLU" -- made in f32, whatever the policy
  function c:forward(x) return f(probabilities and self.compute_dtype and policy.single(x) or x, self.axis) end
end

local function scaled(name, times, divided)
  return function(self, shape)
    local out, d = table.move(shape, 1, #shape, 1, {}), self:dim_of(self.axis, shape) - 1
    if out[d] >= 0 and out[d] % divided ~= 0 then self:refuse(("%s needs an even size along axis %d"):format(name, self.axis), shape) end
    out[d] = out[d] < 0 and -1 or out[d] * times // divided
    return out
  end
end
for _, name in ipairs { "GLU", "CReLU" } do -- along the steps they would change how many there are
  M[name].checked = function(self) rawset(self, "keeps_mask", self.axis == -1 or self.axis > 2) end
end
M.GLU.output_shape, M.CReLU.output_shape = scaled("GLU", 1, 2), scaled("CReLU", 2, 1)

--- Activations without options: `nn.SiLU{}`. nn.help "silu" tells the formula.
---@class nnlua.ReLU6: nnlua.Layer
---@class nnlua.Sigmoid: nnlua.Layer
---@class nnlua.Tanh: nnlua.Layer
---@class nnlua.Exponential: nnlua.Layer
---@class nnlua.SELU: nnlua.Layer
---@class nnlua.SiLU: nnlua.Layer
---@class nnlua.Swish: nnlua.Layer
---@class nnlua.Mish: nnlua.Layer
---@class nnlua.Softplus: nnlua.Layer
---@class nnlua.Softsign: nnlua.Layer
---@class nnlua.LogSigmoid: nnlua.Layer
---@class nnlua.HardSigmoid: nnlua.Layer
---@class nnlua.HardSwish: nnlua.Layer
---@class nnlua.HardSiLU: nnlua.Layer
---@class nnlua.HardTanh: nnlua.Layer
---@class nnlua.TanhShrink: nnlua.Layer
for name, f in pairs { ReLU6 = "relu6", Sigmoid = "sigmoid", Tanh = "tanh", Exponential = "exponential", SELU = "selu", SiLU = "silu", Mish = "mish",
  Softplus = "softplus", Softsign = "softsign", LogSigmoid = "log_sigmoid", HardSigmoid = "hard_sigmoid", HardSwish = "hard_swish",
  HardTanh = "hard_tanh", TanhShrink = "tanh_shrink" } do
  local c, apply = Layer.define(name, {}), activations[f]
  M[name], c.keeps_mask = c, true
  function c:forward(x) return apply(x) end -- luacheck: no unused args
end
M.Swish, M.HardSiLU = M.SiLU, M.HardSwish

-- A layer whose options, numbers by place, are the arguments of f.
local function with_numbers(name, f, spec, keys, aliases)
  local c = Layer.define(name, spec, aliases)
  M[name], c.keeps_mask = c, true
  function c:forward(x)
    if keys[2] then return f(x, self[keys[1]], self[keys[2]]) end
    return f(x, self[keys[1]])
  end
  function c:detail()
    local words = {}
    for i, key in ipairs(keys) do words[i] = ("%g"):format(self[key]) end
    return table.concat(words, ", ")
  end
end

--- `x` where positive, else `alpha * (e^x - 1)` (CELU: `alpha * (e^(x / alpha) - 1)`): `nn.ELU{1}`.
---@class nnlua.ELU: nnlua.Layer
---@class nnlua.CELU: nnlua.Layer
with_numbers("ELU", core.elu, { alpha = { "number", position = 1, default = 1 } }, { "alpha" })
with_numbers("CELU", core.celu, { alpha = { "number", position = 1, default = 1, above = 0 } }, { "alpha" })

--- 0 where |x| <= lambda, else x (HardShrink) or x brought nearer to 0 by lambda (SoftShrink).
---@class nnlua.HardShrink: nnlua.Layer
---@class nnlua.SoftShrink: nnlua.Layer
for name, f in pairs { HardShrink = core.hard_shrink, SoftShrink = core.soft_shrink } do
  with_numbers(name, f, { threshold = { "number", position = 1, default = 0.5, min = 0 } }, { "threshold" }, { lambda = "threshold" })
end

--- `x` where it is above `theta`, else 0.
---@class nnlua.ThresholdedReLU: nnlua.Layer
with_numbers("ThresholdedReLU", function(x, theta) return core.threshold(x, theta, 0) end,
  { theta = { "number", position = 1, default = 1, min = 0 } }, { "theta" })

--- `x` where it is above `threshold`, else `value`.
---@class nnlua.Threshold: nnlua.Layer
with_numbers("Threshold", core.threshold,
  { threshold = { "number", position = 1, required = true }, value = { "number", position = 2, required = true } }, { "threshold", "value" })

-- ---- those with more to them -----------------------------------------------------------------------------------------

--- `x` times the normal distribution's share below x; by a tanh when `approximate`.
---@class nnlua.GELU: nnlua.Layer
---@overload fun(options: { approximate?: boolean, name?: string }): nnlua.GELU
local GELU = Layer.define("GELU", { approximate = { "boolean", position = 1, default = false } })
M.GELU, GELU.keeps_mask = GELU, true

function GELU:forward(x) return core.gelu(x, self.approximate and "tanh" or "none") end

function GELU:detail() return self.approximate and "tanh" or "" end

--- `x` where positive, else alpha * x with learned alpha, one per element of a sample; one for all along the dims in shared_axes (dim 1 is the
--- batch): `nn.PReLU{ shared_axes = {2, 3} }` has one per channel of images.
---@class nnlua.PReLU: nnlua.Layer
---@overload fun(options: { shared_axes?: integer|integer[], alpha_initializer?: any, name?: string }): nnlua.PReLU
local PReLU = Layer.define("PReLU", Layer.with_weight({ shared_axes = { "integer|table" } }, "alpha", "zeros"),
  { init = "alpha_initializer", regularizer = "alpha_regularizer", constraint = "alpha_constraint" })
M.PReLU, PReLU.keeps_mask = PReLU, true

function PReLU:build(shape)
  local sizes, shared = table.move(shape, 1, #shape, 1, {}), self.shared_axes
  for _, axis in ipairs(type(shared) == "number" and { shared } or shared or {}) do sizes[self:dim_of(axis, shape) - 1] = 1 end
  self.alpha = self:make("alpha", sizes)
end

function PReLU:forward(x) return core.where(x:gt(0), x, x * self.alpha) end

--- `x` where positive, else x times a slope: drawn for each element between `lower` and `upper` in training, their mean in inference.
---@class nnlua.RReLU: nnlua.Layer
---@overload fun(options: { lower?: number, upper?: number, name?: string }): nnlua.RReLU
local RReLU = Layer.define("RReLU", { lower = { "number", position = 1, default = 1 / 8 }, upper = { "number", position = 2, default = 1 / 3 } })
M.RReLU, RReLU.keeps_mask = RReLU, true

function RReLU:forward(x)
  local slope = (self.lower + self.upper) / 2
  if self.training then slope = core.uniform(x:shape(), self.lower, self.upper) end
  return core.where(x:gt(0), x, x * slope)
end

function RReLU:detail() return ("%g, %g"):format(self.lower, self.upper) end

return M
