--- Pooling, channels last: Max and Average over windows, Global over whole samples, Adaptive to a given size; each of 1 to 3 dims.
--
--     local nn = require "nnlua"
--     local x = nn.arange(1, 17):reshape(1, 4, 4, 1)
--     print(nn.MaxPooling2D{2}(x):reshape(-1):totable()[4], nn.AveragePooling2D{2}(x):reshape(-1):totable()[1])   --> 16.0 3.5
--     print(nn.GlobalAveragePooling2D{}(x):item(), nn.AdaptiveMaxPooling2D{1}(x):item())                           --> 8.5 16.0

local core = require "nnlua.core"
local class = require "nnlua.class"
local masks = require "nnlua.mask"
local functional = require "nnlua.functional.pool"
local Layer = require "nnlua.layer"
local spatial = require "nnlua.layers.spatial"

local M = {}

-- ---- windows ---------------------------------------------------------------------------------------------------------

local Window = class("WindowPooling", Layer)

function Window:checked()
  spatial.check_format(self)
  if not self.strides then rawset(self, "strides", self.pool_size) end
  spatial.store(self, { "pool_size", "strides" })
end

function Window:output_shape(shape) return spatial.window_shape(self, shape, self.pool_size, self.strides, nil, shape[#shape]) end

function Window:detail()
  local other = spatial.text(self.strides) ~= spatial.text(self.pool_size)
  return spatial.text(self.pool_size) .. (other and ", stride " .. spatial.text(self.strides) or "")
    .. (self.padding ~= "valid" and ", " .. self.padding or "")
end

local function window_class(name, forward)
  local c = Layer.define(name, spatial.options {
    pool_size = { "integer|table", position = 1, default = 2 },
    strides = { "integer|table", position = 2 },
    padding = { "string", default = "valid", choices = { "valid", "same" } },
  }, { stride = "strides" }, nil, Window)
  c.forward = forward
  return c
end

--- The largest of each window: `nn.MaxPooling2D{2}`. Strides are the window's size by default.
---@class nnlua.MaxPooling1D: nnlua.Layer
---@class nnlua.MaxPooling2D: nnlua.Layer
---@class nnlua.MaxPooling3D: nnlua.Layer
---@overload fun(options: { [1]?: integer|integer[], strides?: integer|integer[], padding?: string, name?: string }): nnlua.MaxPooling2D
spatial.each(M, "MaxPooling%dD", function(name, rank)
  local pool = rank == 2 and core.max_pool2d or functional[("max_pool%dd"):format(rank)]
  return window_class(name, function(self, x) return (pool(x, self.pool_size, self.strides, self.padding)) end)
end)

--- The mean of each window; what "same" adds does not count: `nn.AveragePooling2D{2}`.
---@class nnlua.AveragePooling1D: nnlua.Layer
---@class nnlua.AveragePooling2D: nnlua.Layer
---@class nnlua.AveragePooling3D: nnlua.Layer
spatial.each(M, "AveragePooling%dD", function(name, rank)
  local pool = functional[("avg_pool%dd"):format(rank)]
  return window_class(name, function(self, x) return pool(x, self.pool_size, self.strides, self.padding, false, false) end)
end)

-- ---- whole samples ---------------------------------------------------------------------------------------------------

local Global = class("GlobalPooling", Layer)

Global.checked = spatial.check_format

function Global:output_shape(shape)
  spatial.need(self, shape)
  local out = {}
  for i = 1, self.keepdims and self.rank or 0 do out[i] = 1 end
  out[#out + 1] = shape[#shape]
  return out
end

local over = { { 2 }, { 2, 3 }, { 2, 3, 4 } }

local function global_class(method)
  return function(name, rank)
    local c = Layer.define(name, spatial.options { keepdims = { "boolean", default = false } }, nil, nil, Global)
    function c:forward(x) return x[method](x, over[rank], self.keepdims) end
    return c
  end
end

--- The mean of each channel: (N, H, W, C) becomes (N, C), or (N, 1, 1, C) with keepdims.
---@class nnlua.GlobalAveragePooling1D: nnlua.Layer
---@class nnlua.GlobalAveragePooling2D: nnlua.Layer
---@class nnlua.GlobalAveragePooling3D: nnlua.Layer
spatial.each(M, "GlobalAveragePooling%dD", global_class "mean")

-- Of sequences that carry a mask, over the steps that count.
local mean_of_all = M.GlobalAveragePooling1D.forward
function M.GlobalAveragePooling1D:forward(x)
  local mask = masks.of(x)
  if not mask then return mean_of_all(self, x) end
  local counts = mask:unsqueeze(3)
  return core.where(counts, x, 0):sum(2, self.keepdims) / core.maximum(counts:to(x:dtype()):sum(2, self.keepdims), 1)
end

--- The largest of each channel: (N, H, W, C) becomes (N, C), or (N, 1, 1, C) with keepdims.
---@class nnlua.GlobalMaxPooling1D: nnlua.Layer
---@class nnlua.GlobalMaxPooling2D: nnlua.Layer
---@class nnlua.GlobalMaxPooling3D: nnlua.Layer
spatial.each(M, "GlobalMaxPooling%dD", global_class "amax")

-- ---- to a size -------------------------------------------------------------------------------------------------------

local Adaptive = class("AdaptivePooling", Layer)
Adaptive.fields = { output_size = "target_size" } -- every layer has a field output_size, the shape of its result

function Adaptive:checked()
  spatial.check_format(self)
  rawset(self, "target_size", spatial.sizes(self, "output_size", self.target_size))
end

function Adaptive:output_shape(shape)
  spatial.need(self, shape)
  return spatial.joined(self.target_size, shape[#shape])
end

function Adaptive:detail() return "to " .. spatial.text(self.target_size) end

local function adaptive_class(pattern)
  return function(name, rank)
    local pool = functional[pattern:format(rank)]
    local c = Layer.define(name, spatial.options { output_size = { "integer|table", position = 1, required = true } }, nil, nil, Adaptive)
    function c:forward(x) return (pool(x, self.target_size)) end
    return c
  end
end

--- Means of windows that divide the sample into `output_size`: `nn.AdaptiveAveragePooling2D{7}`.
---@class nnlua.AdaptiveAveragePooling1D: nnlua.Layer
---@class nnlua.AdaptiveAveragePooling2D: nnlua.Layer
---@class nnlua.AdaptiveAveragePooling3D: nnlua.Layer
spatial.each(M, "AdaptiveAveragePooling%dD", adaptive_class "adaptive_avg_pool%dd")

--- Largest elements of windows that divide the sample into `output_size`: `nn.AdaptiveMaxPooling1D{4}`.
---@class nnlua.AdaptiveMaxPooling1D: nnlua.Layer
---@class nnlua.AdaptiveMaxPooling2D: nnlua.Layer
---@class nnlua.AdaptiveMaxPooling3D: nnlua.Layer
spatial.each(M, "AdaptiveMaxPooling%dD", adaptive_class "adaptive_max_pool%dd")

return M
