--- Normalization: BatchNorm, LayerNorm, GroupNorm, InstanceNorm, RMSNorm, UnitNorm. (Of weights: layers/wrappers.lua.)
--
-- Owns: over which dims each normalizes, and gamma and beta. axis counts from 1, the batch; -1 is the last dim.
--
--     local nn = require "nnlua"
--     print(nn.UnitNorm{}(nn.tensor{ {3.0, 4.0} }):totable()[1][2] - 0.8 < 1e-6)   --> true

local core = require "nnlua.core"
local functional = require "nnlua.functional.norm"
local Layer = require "nnlua.layer"
local policy = require "nnlua.policy"

local M = {}

-- The options of a layer with gamma and beta, added to its own.
local function with_scale(spec)
  spec.center, spec.scale = { "boolean", default = true }, { "boolean", default = true }
  return Layer.with_weight(Layer.with_weight(spec, "gamma", "ones"), "beta", "zeros")
end

local function build_scale(self, sizes)
  if self.scale then self.gamma = self:make("gamma", sizes) end
  if self.center then self.beta = self:make("beta", sizes) end
end

-- Dim `axis` last, and back.
local function channels_last(x, axis) return axis == -1 and x or x:movedim(axis, -1) end
local function channels_back(y, axis) return axis == -1 and y or y:movedim(-1, axis) end

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
local spec = with_scale {
  axis = { "integer", default = -1 },
  momentum = { "number", default = 0.99, min = 0, max = 1 },
  epsilon = { "number", default = 1e-3, above = 0 },
  moving_mean_initializer = { "string|table|function", default = "zeros" },
  moving_variance_initializer = { "string|table|function", default = "ones" },
}
local BatchNorm = Layer.define("BatchNorm", spec, { eps = "epsilon" }, "BatchNormalization")
M.BatchNorm, M.BatchNormalization = BatchNorm, BatchNorm
BatchNorm.keeps_mask = true

function BatchNorm:output_shape(shape)
  if #shape < 1 then self:refuse("needs samples of at least one dim", shape) end
  if self.axis ~= -1 then self:dim_of(self.axis, shape) end
  return shape
end

function BatchNorm:build(shape)
  local c = { shape[self:dim_of(self.axis, shape) - 1] }
  build_scale(self, c)
  self.moving_mean = Layer.buffer(self.moving_mean_initializer(c))
  self.moving_variance = Layer.buffer(self.moving_variance_initializer(c))
end

local function follow(moving, batch, momentum)
  moving:assign((moving * momentum + batch:detach() * (1 - momentum)):to(moving:dtype())) -- of f64, it may be the narrower one
end

local function batch_norm(self, x)
  x = channels_last(x, self.axis)
  if not (self.training and self.trainable) then
    local y = (x - self.moving_mean) * core.rsqrt(self.moving_variance + self.epsilon)
    if self.gamma then y = y * self.gamma end
    return channels_back(self.beta and y + self.beta or y, self.axis)
  end
  local c = x:size(-1)
  local y, mean, variance = core.batch_norm_train(x, self.gamma or core.ones(c), self.beta or core.zeros(c), self.epsilon)
  follow(self.moving_mean, mean, self.momentum)
  follow(self.moving_variance, variance, self.momentum)
  return channels_back(y, self.axis)
end

BatchNorm.forward = in_single(batch_norm)

function BatchNorm:detail()
  local words = { self.built and ("%d"):format(self.moving_mean:size(1)) or nil }
  if self.axis ~= -1 then words[#words + 1] = "axis " .. self.axis end
  return table.concat(words, ", ")
end

-- The dims of `axis` (an integer or a list) in order, their sizes, and the shape that weights of these sizes take beside x: nil where they fit as
-- they are.
local function dims_of(self, shape)
  local dims, sizes, spread = {}, {}, { 1 }
  for i = 1, #shape do spread[i + 1] = 1 end
  for i, axis in ipairs(type(self.axis) == "table" and self.axis or { self.axis }) do
    local d = axis < 0 and #shape + 2 + axis or axis
    for k = 1, i - 1 do
      if dims[k] == d then d = 0 end
    end
    if d < 2 or d > #shape + 1 then self:refuse(("cannot normalize over dim %d"):format(axis), shape) end
    dims[i], spread[d] = d, shape[d - 1]
  end
  table.sort(dims)
  for i, d in ipairs(dims) do sizes[i] = shape[d - 1] end
  return dims, sizes, (#dims > 1 or dims[1] ~= #shape + 1) and spread or nil
end

local function beside(weight, spread) return spread and weight:reshape(spread) or weight end

local function dims_text(self) return self.built and table.concat(self.dims, ", ") or "" end

--- Each sample with mean 0 and variance 1 over `axis` (the last dim; dim 1 is the batch), then `* gamma + beta`. Keras's LayerNormalization.
---@class nnlua.LayerNorm: nnlua.Layer
---@overload fun(options: { axis?: integer|integer[], epsilon?: number, center?: boolean, scale?: boolean, name?: string }): nnlua.LayerNorm
local LayerNorm = Layer.define("LayerNorm", with_scale {
  axis = { "integer|table", default = -1 }, epsilon = { "number", default = 1e-3, above = 0 } }, { eps = "epsilon" }, "LayerNormalization")
M.LayerNorm, M.LayerNormalization = LayerNorm, LayerNorm
LayerNorm.keeps_mask = true

function LayerNorm:build(shape)
  local dims, sizes, spread = dims_of(self, shape)
  rawset(self, "dims", dims)
  rawset(self, "spread", spread)
  build_scale(self, sizes)
end

local function layer_norm(self, x)
  local centred = x - x:mean(self.dims, true)
  local y = centred * core.rsqrt(centred:square():mean(self.dims, true) + self.epsilon)
  local gamma, beta, spread = self.gamma, self.beta, self.spread
  if gamma then y = y * beside(gamma, spread) end
  return beta and y + beside(beta, spread) or y
end

LayerNorm.forward = in_single(layer_norm)
LayerNorm.detail = dims_text

--- Each sample divided by the root of its mean square over `axis` (the last dim), then `* scale`. Keras's RMSNormalization.
---@class nnlua.RMSNorm: nnlua.Layer
---@class nnlua.RMSNormalization: nnlua.Layer
---@overload fun(options: { axis?: integer|integer[], epsilon?: number, name?: string }): nnlua.RMSNorm
local RMSNorm = Layer.define("RMSNorm", Layer.with_weight({
  axis = { "integer|table", default = -1 }, epsilon = { "number", default = 1e-6, above = 0 } }, "scale", "ones"),
  { eps = "epsilon" }, "RMSNormalization")
M.RMSNorm, M.RMSNormalization = RMSNorm, RMSNorm
RMSNorm.keeps_mask = true

function RMSNorm:build(shape)
  local dims, sizes, spread = dims_of(self, shape)
  rawset(self, "dims", dims)
  rawset(self, "spread", spread)
  self.scale = self:make("scale", sizes)
end

RMSNorm.forward = in_single(function(self, x)
  return x * core.rsqrt(x:square():mean(self.dims, true) + self.epsilon) * beside(self.scale, self.spread)
end)

RMSNorm.detail = dims_text

--- Each sample divided by its length over `axis` (the last dim). Keras's UnitNormalization.
---@class nnlua.UnitNorm: nnlua.Layer
---@class nnlua.UnitNormalization: nnlua.Layer
---@overload fun(options: { axis?: integer|integer[], name?: string }): nnlua.UnitNorm
local UnitNorm = Layer.define("UnitNorm", { axis = { "integer|table", position = 1, default = -1 } }, nil, "UnitNormalization")
M.UnitNorm, M.UnitNormalization = UnitNorm, UnitNorm
UnitNorm.keeps_mask = true

function UnitNorm:build(shape) rawset(self, "dims", (dims_of(self, shape))) end

UnitNorm.forward = in_single(function(self, x) return x * core.rsqrt(core.maximum(x:square():sum(self.dims, true), 1e-24)) end)

UnitNorm.detail = dims_text

-- ---- groups of channels ----------------------------------------------------------------------------------------------

-- GroupNorm and InstanceNorm; groups = -1 has each channel alone.
local function define_grouped(name, keras, more)
  local own = with_scale { axis = { "integer", default = -1 }, epsilon = { "number", default = 1e-3, above = 0 } }
  for key, rule in pairs(more) do own[key] = rule end
  local c = Layer.define(name, own, { eps = "epsilon" }, keras)
  M[name], M[keras], c.keeps_mask = c, c, true

  function c:output_shape(shape)
    local channels, groups = shape[self:dim_of(self.axis, shape) - 1], self.groups
    if groups == 0 or groups < -1 or channels > 0 and groups > 0 and channels % groups ~= 0 then
      self:refuse(("%d groups must divide the %d channels"):format(groups, channels), shape)
    end
    return shape
  end

  function c:build(shape) build_scale(self, { shape[self:dim_of(self.axis, shape) - 1] }) end

  c.forward = in_single(function(self, x)
    x = channels_last(x, self.axis)
    local groups = self.groups == -1 and x:size(-1) or self.groups
    return channels_back(functional.group_norm(x, groups, self.gamma, self.beta, self.epsilon), self.axis)
  end)

  return c
end

--- Each sample's `groups` groups of channels with mean 0 and variance 1, then `* gamma + beta`. Keras's GroupNormalization: `nn.GroupNorm{8}`.
---@class nnlua.GroupNorm: nnlua.Layer
---@class nnlua.GroupNormalization: nnlua.Layer
---@overload fun(options: { [1]?: integer, axis?: integer, epsilon?: number, name?: string }): nnlua.GroupNorm
local GroupNorm = define_grouped("GroupNorm", "GroupNormalization", { groups = { "integer", position = 1, default = 32 } })

function GroupNorm:detail() return self.groups == -1 and "a group per channel" or ("%d groups"):format(self.groups) end

--- Each channel of each sample with mean 0 and variance 1, then `* gamma + beta`: a GroupNorm with a group per channel.
---@class nnlua.InstanceNorm: nnlua.Layer
---@class nnlua.InstanceNormalization: nnlua.Layer
---@overload fun(options: { axis?: integer, epsilon?: number, center?: boolean, scale?: boolean, name?: string }): nnlua.InstanceNorm
local InstanceNorm = define_grouped("InstanceNorm", "InstanceNormalization", {})
InstanceNorm.groups = -1

return M
