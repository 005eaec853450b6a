--- Normalization: BatchNorm, LayerNorm.

local core = require "nnlua.core"
local Layer = require "nnlua.layer"
local policy = require "nnlua.policy"

local M = {}

-- Halves are normalized in f32 and are halves again, under a mixed policy.
local function in_single(forward)
  return function(self, x)
    if not self.compute_dtype then return forward(self, x) end
    local wide, was = policy.single(x)
    local y = forward(self, wide)
    return was and y:to(x:dtype()) or y
  end
end

--- Each channel with mean 0 and variance 1 over the batch, then `* gamma + beta`. In inference, and when frozen, it uses running averages:
--- `moving = moving * momentum + batch * (1 - momentum)`. Keras's BatchNormalization: place it before the activation.
---@class nnlua.BatchNorm: nnlua.Layer
---@overload fun(options: { momentum?: number, epsilon?: number, center?: boolean, scale?: boolean, name?: string }): nnlua.BatchNorm
local BatchNorm = Layer.define("BatchNorm", {
  momentum = { "number", default = 0.99, min = 0, max = 1 },
  epsilon = { "number", default = 1e-3, above = 0 },
  center = { "boolean", default = true },
  scale = { "boolean", default = true },
  beta_initializer = { "string|table|function", default = "zeros" },
  gamma_initializer = { "string|table|function", default = "ones" },
  moving_mean_initializer = { "string|table|function", default = "zeros" },
  moving_variance_initializer = { "string|table|function", default = "ones" },
}, { eps = "epsilon" }, "BatchNormalization")
M.BatchNorm, M.BatchNormalization = BatchNorm, BatchNorm
BatchNorm.keeps_mask = true

function BatchNorm:output_shape(shape)
  if #shape < 1 then self:refuse("needs samples of at least one dim", shape) end
  return shape
end

function BatchNorm:build(shape)
  local c = { shape[#shape] }
  if self.scale then self.gamma = self:weight(c, self.gamma_initializer) end
  if self.center then self.beta = self:weight(c, self.beta_initializer) end
  self.moving_mean = Layer.buffer(self.moving_mean_initializer(c))
  self.moving_variance = Layer.buffer(self.moving_variance_initializer(c))
  local dims = {}
  for i = 1, #shape do dims[i] = i end -- all but the channels
  rawset(self, "dims", dims)
end

local function follow(moving, batch, momentum)
  moving:assign((moving * momentum + batch:detach() * (1 - momentum)):to(moving:dtype())) -- of f64, it may be the narrower one
end

local function batch_norm(self, x)
  if not (self.training and self.trainable) then
    local y = (x - self.moving_mean) * core.rsqrt(self.moving_variance + self.epsilon)
    if self.gamma then y = y * self.gamma end
    return self.beta and y + self.beta or y
  end
  local c = x:size(-1)
  local y, mean, variance = core.batch_norm_train(x, self.gamma or core.ones(c), self.beta or core.zeros(c), self.epsilon)
  follow(self.moving_mean, mean, self.momentum)
  follow(self.moving_variance, variance, self.momentum)
  return y
end

BatchNorm.forward = in_single(batch_norm)

function BatchNorm:detail() return self.built and ("%d"):format(self.input_size[#self.input_size]) or "" end

--- Each sample with mean 0 and variance 1 over `axis` (the last dim; dim 1 is the batch), then `* gamma + beta`. Keras's LayerNormalization.
---@class nnlua.LayerNorm: nnlua.Layer
---@overload fun(options: { axis?: integer|integer[], epsilon?: number, center?: boolean, scale?: boolean, name?: string }): nnlua.LayerNorm
local LayerNorm = Layer.define("LayerNorm", {
  axis = { "integer|table", default = -1 },
  epsilon = { "number", default = 1e-3, above = 0 },
  center = { "boolean", default = true },
  scale = { "boolean", default = true },
  beta_initializer = { "string|table|function", default = "zeros" },
  gamma_initializer = { "string|table|function", default = "ones" },
  beta_regularizer = { "string|table|function" },
  gamma_regularizer = { "string|table|function" },
  beta_constraint = { "string|table|function" },
  gamma_constraint = { "string|table|function" },
}, { eps = "epsilon" }, "LayerNormalization")
M.LayerNorm, M.LayerNormalization = LayerNorm, LayerNorm
LayerNorm.keeps_mask = true

function LayerNorm:build(shape)
  local dims, sizes, spread = {}, {}, { 1 }
  for i = 1, #shape do spread[i + 1] = 1 end
  for i, axis in ipairs(type(self.axis) == "table" and self.axis or { self.axis }) do
    local d = axis < 0 and #shape + 2 + axis or axis
    if d < 2 or d > #shape + 1 or spread[d] ~= 1 then self:refuse(("cannot normalize over dim %d"):format(axis), shape) end
    dims[i], sizes[i], spread[d] = d, shape[d - 1], shape[d - 1]
  end
  table.sort(dims)
  for i, d in ipairs(dims) do sizes[i] = shape[d - 1] end
  rawset(self, "dims", dims)
  rawset(self, "spread", (#dims > 1 or dims[1] ~= #shape + 1) and spread or nil) -- the shape that gamma and beta take beside x
  if self.scale then self.gamma = self:weight(sizes, self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint) end
  if self.center then self.beta = self:weight(sizes, self.beta_initializer, self.beta_regularizer, self.beta_constraint) end
end

local function layer_norm(self, x)
  local centred = x - x:mean(self.dims, true)
  local y = centred * core.rsqrt(centred:square():mean(self.dims, true) + self.epsilon)
  local gamma, beta, spread = self.gamma, self.beta, self.spread
  if gamma then y = y * (spread and gamma:reshape(spread) or gamma) end
  return beta and y + (spread and beta:reshape(spread) or beta) or y
end

LayerNorm.forward = in_single(layer_norm)

function LayerNorm:detail() return self.built and table.concat(self.dims, ", ") or "" end

return M
