--- Activations as layers: Activation, ReLU, LeakyReLU, Softmax.

local core = require "nnlua.core"
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

--- Probabilities along `axis` (the last by default).
---@class nnlua.Softmax: nnlua.Layer
---@overload fun(options: { [1]?: integer, name?: string }): nnlua.Softmax
local Softmax = Layer.define("Softmax", { axis = { "integer", position = 1, default = -1 } })
M.Softmax = Softmax
Softmax.keeps_mask = true

function Softmax:forward(x) return core.softmax(self.compute_dtype and policy.single(x) or x, self.axis) end

function Softmax:detail() return self.axis == -1 and "" or ("axis %d"):format(self.axis) end

return M
