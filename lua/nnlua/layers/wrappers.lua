--- Layers around layers: SpectralNorm, WeightNorm, SkipConnection, Parallel.
--
-- Owns: how a wrapper holds and describes what it wraps, and how a weight is exchanged for one call.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{8}, nn.SkipConnection{ nn.Dense{8, activation = "relu"} }, nn.WeightNorm{ nn.Dense{4} } }
--     print(model(nn.ones(2, 8)):size())   --> 2  4

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Layer = require "nnlua.layer"
local Module = require "nnlua.module"

local M = {}

local function need_layer(owner, layer)
  if not (Module.is_module(layer) and layer.build_once) then
    options.raise(("%s: needs a layer, such as nn.%s{ nn.Dense{10} }, got %s"):format(owner, owner, options.shown(layer)))
  end
end

-- A layer with one inside, in field `layer`, of the same shapes.
local Wrapper = class("Wrapper", Layer)
local wrapped = { "table", position = 1, required = true, layer = true }

function Wrapper:checked()
  local layer = self.layer
  need_layer(getmetatable(self).__name, layer)
  rawset(self, "layer", nil)
  self.layer = layer -- as an attribute, so that its weights are found
end

function Wrapper:output_shape(shape) return self.layer:output_shape(shape) end

function Wrapper:build(shape) self.layer:build_once(shape) end

-- ---- weights that are normalized at every call -----------------------------------------------------------------------

local Reweighted = class("Reweighted", Wrapper)

-- The name of the layer's weight that is meant.
local function weight_of(self)
  for _, key in ipairs { "kernel", "depthwise_kernel", "embeddings" } do
    if rawget(self.layer, key) then return key end
  end
  options.raise(("%s: %s has no kernel or embeddings"):format(self:label(), tostring(self.layer)))
end

function Reweighted:build(shape)
  self.layer:build_once(shape)
  rawset(self, "key", weight_of(self))
  self:build_weight(rawget(self.layer, self.key))
end

-- The layer called with its weight replaced by normalized(), which sees the weight's own value. The parameter is put back however the call ends.
function Reweighted:forward(...)
  local layer, key = self.layer, self.key
  local parameter = rawget(layer, key)
  local _ <close> = setmetatable({}, { __close = function() rawset(layer, key, parameter) end })
  rawset(layer, key, self:normalized(parameter))
  return layer(...)
end

--- A layer whose kernel is divided by its largest singular value (Miyato et al.), which `power_iterations` steps per call in training follow:
--- `nn.SpectralNorm{ nn.Conv2D{64, 3} }`. Keras's SpectralNormalization.
---@class nnlua.SpectralNorm: nnlua.Layer
---@class nnlua.SpectralNormalization: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Layer, power_iterations?: integer, name?: string }): nnlua.SpectralNorm
local SpectralNorm = Layer.define("SpectralNorm", { layer = wrapped, power_iterations = { "integer", position = 2, default = 1, min = 1 } }, nil,
  "SpectralNormalization", Reweighted)
M.SpectralNorm, M.SpectralNormalization = SpectralNorm, SpectralNorm

local function unit(x) return x * core.rsqrt(core.maximum(x:square():sum(), 1e-12)) end

function SpectralNorm:build_weight(kernel) self.vector_u = Layer.buffer(unit(core.normal { 1, kernel:size(-1) })) end

function SpectralNorm:normalized(kernel)
  local matrix = kernel:reshape { -1, kernel:size(-1) } -- (in, out)
  local fixed, u, v = matrix:detach(), self.vector_u:detach(), nil
  for _ = 1, self.training and self.power_iterations or 1 do
    v = unit(u:matmul(fixed:transpose(1, 2))) -- (1, in)
    if self.training then u = unit(v:matmul(fixed)) end
  end
  if self.training then self.vector_u:assign(u) end
  return kernel / (v:matmul(matrix) * u):sum()
end

--- A layer whose kernel is a direction times a learned length (Salimans and Kingma), one per filter or unit: `nn.WeightNorm{ nn.Dense{10} }`.
---@class nnlua.WeightNorm: nnlua.Layer
---@class nnlua.WeightNormalization: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Layer, name?: string }): nnlua.WeightNorm
local WeightNorm = Layer.define("WeightNorm", { layer = wrapped }, nil, "WeightNormalization", Reweighted)
M.WeightNorm, M.WeightNormalization = WeightNorm, WeightNorm

local function lengths(kernel)
  local dims = {}
  for i = 1, kernel:dim() - 1 do dims[i] = i end
  return core.sqrt(kernel:square():sum(dims))
end

function WeightNorm:build_weight(kernel) self.g = Module.parameter(lengths(kernel:detach())) end

function WeightNorm:normalized(kernel) return kernel * (self.g / lengths(kernel)) end

-- ---- branches --------------------------------------------------------------------------------------------------------

local merge = { "string", default = "add", choices = { "add", "multiply", "average", "maximum", "minimum", "concatenate" } }

local function joiner(name)
  return require("nnlua.layers.merge")[name:sub(1, 1):upper() .. name:sub(2)] {}
end

--- `layer(x) + x`, or another merge of the two: `nn.SkipConnection{ block, merge = "concatenate" }`.
---@class nnlua.SkipConnection: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Module, merge?: string, name?: string }): nnlua.SkipConnection
local SkipConnection = Layer.define("SkipConnection", { layer = wrapped, merge = merge }, nil, nil, Wrapper)
M.SkipConnection = SkipConnection

function SkipConnection:checked()
  Wrapper.checked(self)
  rawset(self, "joined", joiner(self.merge))
end

function SkipConnection:output_shape(shape) return self.joined:output_shape { self.layer:output_shape(shape), shape } end

function SkipConnection:forward(x) return self.joined(self.layer(x), x) end

--- Layers that all get the same input, their results merged: `nn.Parallel{ nn.Dense{4}, nn.Dense{8}, merge = "concatenate" }`.
---@class nnlua.Parallel: nnlua.Layer
---@overload fun(options: { [integer]: nnlua.Module, merge?: string, name?: string }): nnlua.Parallel
local Parallel = Layer.define("Parallel", { layers = { "table", position = 1, rest = true, required = true, layer = true }, merge = merge })
M.Parallel = Parallel

function Parallel:checked()
  local layers = self.layers
  if #layers < 2 then options.raise "Parallel: needs two layers or more" end
  for _, layer in ipairs(layers) do need_layer("Parallel", layer) end
  rawset(self, "layers", nil)
  self.layers = layers
  rawset(self, "joined", joiner(self.merge))
end

local function all(self, method, ...)
  local out = {}
  for i, layer in ipairs(self.layers) do out[i] = layer[method](layer, ...) end
  return out
end

function Parallel:output_shape(shape) return self.joined:output_shape(all(self, "output_shape", shape)) end

function Parallel:build(shape) all(self, "build_once", shape) end

function Parallel:forward(x)
  local list = {}
  for i, layer in ipairs(self.layers) do list[i] = layer(x) end
  return self.joined(list)
end

return M
