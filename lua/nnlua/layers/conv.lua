--- Convolutions, channels last: Conv1D/2D/3D, their transposes, DepthwiseConv1D/2D, SeparableConv1D/2D.
--
-- Owns: their options, kernels and the padding that each stands for. Samples are (T, C), (H, W, C) or (D, H, W, C).
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{28, 28, 1}, nn.Conv2D{8, 3, strides = 2, padding = "same", activation = "relu"},
--       nn.Conv2DTranspose{1, 3, strides = 2, padding = "same"} }
--     print(model[2], table.concat(model:output_shape{28, 28, 1}, " "))   --> Conv2D(1 -> 8, 3x3, stride 2x2, same, relu)  28 28 1

local core = require "nnlua.core"
local class = require "nnlua.class"
local functional = require "nnlua.functional.conv"
local options = require "nnlua.options"
local shapes = require "nnlua.functional.shapes"
local Layer = require "nnlua.layer"
local spatial = require "nnlua.layers.spatial"

local M = {}
local joined = spatial.joined
local convolve = { functional.conv1d, core.conv2d, functional.conv3d }
local short = { stride = "strides", dilation = "dilation_rate" }

-- The options of all convolutions; `more` are a class's own.
local function window_options(rank, more, kernel)
  local spec = Layer.with_kernel(spatial.options {
    strides = { "integer|table", default = 1 },
    padding = { "string", default = "valid", choices = rank == 1 and { "valid", "same", "causal" } or { "valid", "same" } },
    dilation_rate = { "integer|table", default = 1 },
    activation = { "string|function", default = "linear" },
  }, kernel)
  for key, rule in pairs(more) do spec[key] = rule end
  return spec
end

-- ---- Conv1D, Conv2D, Conv3D ------------------------------------------------------------------------------------------

local Conv = class("Conv", Layer)

function Conv:checked()
  spatial.check_format(self)
  spatial.store(self, { "kernel_size", "strides", "dilation_rate" })
  rawset(self, "settings", { stride = self.strides, padding = self.padding == "causal" and "valid" or self.padding, dilation = self.dilation_rate,
    groups = self.groups })
end

function Conv:output_shape(shape)
  local out = spatial.window_shape(self, shape, self.kernel_size, self.strides, self.dilation_rate, self.filters)
  local channels, groups = shape[#shape], self.groups
  if channels % groups ~= 0 or self.filters % groups ~= 0 then
    self:refuse(("%d groups must divide the channels and the %d filters"):format(groups, self.filters), shape)
  end
  return out
end

function Conv:build(shape) self:build_kernel(joined(self.kernel_size, shape[#shape] // self.groups, self.filters), self.filters) end

-- x with the zeros in front that a causal window looks at
function Conv:padded(x)
  return self.padding == "causal" and shapes.pad(x, 2, self.dilation_rate[1] * (self.kernel_size[1] - 1), 0, 0) or x
end

function Conv:forward(x)
  local input, kernel, bias = self:operands(x)
  return self:activated(convolve[self.rank](self:padded(input), kernel, bias, self.settings))
end

function Conv:detail()
  local words = { ("%s -> %s, %s"):format(self.built and self.input_size[#self.input_size] or "?",
    self.filters or self.built and self.output_size[#self.output_size] or "?", spatial.text(self.kernel_size)) }
  spatial.detail(words, "stride", self.strides)
  spatial.detail(words, "dilation", self.dilation_rate)
  if self.padding ~= "valid" then words[#words + 1] = self.padding end
  if (self.groups or 1) ~= 1 then words[#words + 1] = ("%d groups"):format(self.groups) end
  return table.concat(words, ", ") .. Layer.activation_text(self)
end

local filters = { "integer", position = 1, required = true, min = 1 }
local kernel_size = { "integer|table", position = 2, required = true }
local multiplier = { "integer", default = 1, min = 1 }

--- Windows of a sequence, an image or a volume times a kernel: `nn.Conv2D{32, 3, activation = "relu", padding = "same", strides = 2}`.
--- kernel (window, C / groups, filters). padding is "valid", "same" or, of sequences, "causal".
---@class nnlua.Conv1D: nnlua.Layer
---@class nnlua.Conv2D: nnlua.Layer
---@class nnlua.Conv3D: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer|integer[], strides?: any, padding?: string, activation?: any, name?: string }): nnlua.Conv2D
spatial.each(M, "Conv%dD", function(name, rank)
  return Layer.define(name, window_options(rank, { filters = filters, kernel_size = kernel_size, groups = { "integer", default = 1, min = 1 } }),
    Layer.kernel_aliases(short), nil, Conv)
end)

-- ---- transposed ------------------------------------------------------------------------------------------------------

local Transpose = class("ConvTranspose", Conv)
local transpose = { functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d }

-- Per dim, how much of the whole result ((n - 1) * stride + window) is cut off in front and behind, or how many zeros follow it.
function Transpose:checked()
  spatial.check_format(self)
  spatial.store(self, { "kernel_size", "strides", "dilation_rate" })
  if self.output_padding then rawset(self, "output_padding", spatial.sizes(self, "output_padding", self.output_padding, 0)) end
  local rank, pads, extra = self.rank, {}, {}
  for i = 1, rank do
    local window, stride = self.dilation_rate[i] * (self.kernel_size[i] - 1) + 1, self.strides[i]
    local more = self.output_padding and self.output_padding[i]
    if more and more >= stride then
      options.raise(('%s: option "output_padding" must be below the strides, got %d for a stride of %d')
        :format(getmetatable(self).__name, more, stride))
    end
    local cut = more and -more or math.min(window - stride, 0)
    if self.padding == "same" then cut = more and 2 * (window // 2) - more or window - stride end
    pads[i], pads[rank + i], extra[i] = math.max(cut, 0) // 2, (math.max(cut, 0) + 1) // 2, math.max(-cut, 0)
  end
  rawset(self, "settings", { stride = self.strides, padding = pads, output_padding = extra, dilation = self.dilation_rate })
end

function Transpose:output_shape(shape)
  spatial.need(self, shape)
  local out, pads, extra = {}, self.settings.padding, self.settings.output_padding
  for i = 1, self.rank do
    local whole = (shape[i] - 1) * self.strides[i] + self.dilation_rate[i] * (self.kernel_size[i] - 1) + 1
    out[i] = shape[i] < 0 and -1 or whole - pads[i] - pads[self.rank + i] + extra[i]
    if shape[i] >= 0 and out[i] < 1 then self:refuse("nothing is left by the padding", shape) end
  end
  out[self.rank + 1] = self.filters
  return out
end

function Transpose:build(shape) self:build_kernel(joined(self.kernel_size, self.filters, shape[#shape]), self.filters) end

function Transpose:forward(x)
  local input, kernel, bias = self:operands(x)
  return self:activated(transpose[self.rank](input, kernel, bias, self.settings))
end

--- The gradient of a convolution as a layer: with strides its result is larger, `nn.Conv2DTranspose{16, 3, strides = 2, padding = "same"}` doubles
--- images. kernel (window, filters, C).
---@class nnlua.Conv1DTranspose: nnlua.Layer
---@class nnlua.Conv2DTranspose: nnlua.Layer
---@class nnlua.Conv3DTranspose: nnlua.Layer
spatial.each(M, "Conv%dDTranspose", function(name, rank)
  local spec = window_options(rank, { filters = filters, kernel_size = kernel_size, output_padding = { "integer|table" } })
  spec.padding = { "string", default = "valid", choices = { "valid", "same" } }
  return Layer.define(name, spec, Layer.kernel_aliases(short), nil, Transpose)
end)

-- ---- by channel ------------------------------------------------------------------------------------------------------

local Depthwise = class("DepthwiseConv", Conv)

function Depthwise:output_shape(shape)
  return spatial.window_shape(self, shape, self.kernel_size, self.strides, self.dilation_rate, shape[#shape] * self.depth_multiplier)
end

function Depthwise:build(shape)
  local channels = shape[#shape]
  self.kernel = self:make("depthwise", joined(self.kernel_size, channels, self.depth_multiplier))
  if self.use_bias then self.bias = self:make("bias", { channels * self.depth_multiplier }) end
end

-- Each channel by its own filters: a convolution of as many groups. kernel (window, C, depth_multiplier)
function Depthwise:by_channel(x, kernel, bias)
  local channels = kernel:size(-2)
  self.settings.groups = channels
  return convolve[self.rank](self:padded(x), kernel:reshape(joined(self.kernel_size, 1, channels * self.depth_multiplier)), bias, self.settings)
end

function Depthwise:forward(x) return self:activated(self:by_channel(self:operands(x))) end


--- Each channel convolved by its own `depth_multiplier` filters: `nn.DepthwiseConv2D{3, padding = "same"}`. kernel (window, C, depth_multiplier).
---@class nnlua.DepthwiseConv1D: nnlua.Layer
---@class nnlua.DepthwiseConv2D: nnlua.Layer
local function depthwise(name, rank)
  local spec = window_options(rank, { kernel_size = { "integer|table", position = 1, required = true }, depth_multiplier = multiplier }, "depthwise")
  return Layer.define(name, spec, Layer.kernel_aliases(short, "depthwise"), nil, Depthwise)
end

local Separable = class("SeparableConv", Depthwise)

function Separable:output_shape(shape)
  return spatial.window_shape(self, shape, self.kernel_size, self.strides, self.dilation_rate, self.filters)
end

function Separable:build(shape)
  local channels, ones = shape[#shape], {}
  for i = 1, self.rank do ones[i] = 1 end
  self.depthwise_kernel = self:make("depthwise", joined(self.kernel_size, channels, self.depth_multiplier))
  self.pointwise_kernel = self:make("pointwise", joined(ones, channels * self.depth_multiplier, self.filters))
  if self.use_bias then self.bias = self:make("bias", { self.filters }) end
end

function Separable:forward(x)
  local input, kernel = self:operands(x, self.depthwise_kernel)
  local y = self:by_channel(input, kernel)
  return self:activated(core.linear(self:operands(y, self.pointwise_kernel:reshape { -1, self.filters })))
end

--- A depthwise convolution, then a mix of its channels: `nn.SeparableConv2D{64, 3}`. depthwise_kernel (window, C, depth_multiplier),
--- pointwise_kernel (1s, C * depth_multiplier, filters).
---@class nnlua.SeparableConv1D: nnlua.Layer
---@class nnlua.SeparableConv2D: nnlua.Layer
local function separable(name, rank)
  local spec = window_options(rank, { filters = filters, kernel_size = kernel_size, depth_multiplier = multiplier }, "depthwise")
  return Layer.define(name, Layer.with_weight(spec, "pointwise", "glorot_uniform"), Layer.kernel_aliases(short, "depthwise"), nil, Separable)
end

for rank = 1, 2 do
  for pattern, make in pairs { ["DepthwiseConv%dD"] = depthwise, ["SeparableConv%dD"] = separable } do
    local name = pattern:format(rank)
    M[name] = make(name, rank)
    M[name].rank = rank
  end
end

return M
