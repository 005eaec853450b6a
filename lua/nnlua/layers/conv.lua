--- Images, channels last: Conv2D, MaxPooling2D. Samples are (H, W, C).

local core = require "nnlua.core"
local Layer = require "nnlua.layer"

local M = {}

-- n or {n, m} -> {n, m}
local function pair(layer, key, value)
  if type(value) == "number" then value = { value, value } end
  local ok = #value == 2
  for _, n in ipairs(value) do ok = ok and math.type(n) == "integer" and n >= 1 end
  if not ok then
    require("nnlua.options").raise(("%s: option %q must be an integer or a pair of them, at least 1"):format(getmetatable(layer).__name, key))
  end
  rawset(layer, key, { value[1], value[2] })
end

local function pair_text(p) return ("%dx%d"):format(p[1], p[2]) end

-- Positions of a window of `size` (spread by `dilation`) along `n` elements. "same" covers every element: ceil(n / stride).
local function positions(n, size, stride, dilation, padding)
  if n < 0 then return -1 end
  if padding == "same" then return (n + stride - 1) // stride end
  return (n - dilation * (size - 1) - 1) // stride + 1
end

local function window_shape(layer, shape, window, strides, dilation, channels)
  if #shape ~= 3 then layer:refuse("needs images (N, H, W, C)", shape) end
  local out = { 0, 0, channels }
  for i = 1, 2 do
    out[i] = positions(shape[i], window[i], strides[i], dilation[i], layer.padding)
    if out[i] == 0 or out[i] < -1 then layer:refuse(("a window of %s does not fit"):format(pair_text(window)), shape) end
  end
  return out
end

-- ---- Conv2D ----------------------------------------------------------------------------------------------------------

--- `nn.Conv2D{32, 3, activation = "relu", padding = "same", strides = 2}`. kernel (KH, KW, C / groups, filters).
---@class nnlua.Conv2D: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer|integer[], strides?: any, padding?: string, activation?: any, name?: string }): nnlua.Conv2D
local Conv2D = Layer.define("Conv2D", Layer.with_kernel {
  filters = { "integer", position = 1, required = true, min = 1 },
  kernel_size = { "integer|table", position = 2, required = true },
  strides = { "integer|table", default = 1 },
  padding = { "string", default = "valid", choices = { "valid", "same" } },
  dilation_rate = { "integer|table", default = 1 },
  groups = { "integer", default = 1, min = 1 },
  activation = { "string|function", default = "linear" },
}, { init = "kernel_initializer", regularizer = "kernel_regularizer", constraint = "kernel_constraint", bias = "use_bias",
  stride = "strides", dilation = "dilation_rate" })
M.Conv2D = Conv2D

function Conv2D:checked()
  pair(self, "kernel_size", self.kernel_size)
  pair(self, "strides", self.strides)
  pair(self, "dilation_rate", self.dilation_rate)
  rawset(self, "settings", { stride = self.strides, padding = self.padding, dilation = self.dilation_rate, groups = self.groups })
end

function Conv2D:output_shape(shape)
  return window_shape(self, shape, self.kernel_size, self.strides, self.dilation_rate, self.filters)
end

function Conv2D:build(shape)
  local channels, groups = shape[3], self.groups
  if channels % groups ~= 0 or self.filters % groups ~= 0 then
    self:refuse(("%d groups must divide the channels and the %d filters"):format(groups, self.filters), shape)
  end
  self:build_kernel({ self.kernel_size[1], self.kernel_size[2], channels // groups, self.filters }, self.filters)
end

function Conv2D:forward(x)
  local input, kernel, bias = self:operands(x)
  local y = core.conv2d(input, kernel, bias, self.settings)
  return self.act and self.act(y) or y
end

function Conv2D:detail()
  local words = { ("%s -> %d, %s"):format(self.built and self.input_size[3] or "?", self.filters, pair_text(self.kernel_size)) }
  if self.strides[1] ~= 1 or self.strides[2] ~= 1 then words[#words + 1] = "stride " .. pair_text(self.strides) end
  if self.padding ~= "valid" then words[#words + 1] = self.padding end
  return table.concat(words, ", ") .. Layer.activation_text(self)
end

-- ---- MaxPooling2D ----------------------------------------------------------------------------------------------------

--- The largest of each window: `nn.MaxPooling2D{2}`. Strides are the window's size by default.
---@class nnlua.MaxPooling2D: nnlua.Layer
---@overload fun(options: { [1]?: integer|integer[], strides?: integer|integer[], padding?: string, name?: string }): nnlua.MaxPooling2D
local MaxPooling2D = Layer.define("MaxPooling2D", {
  pool_size = { "integer|table", position = 1, default = 2 },
  strides = { "integer|table", position = 2 },
  padding = { "string", default = "valid", choices = { "valid", "same" } },
}, { stride = "strides" })
M.MaxPooling2D = MaxPooling2D

function MaxPooling2D:checked()
  pair(self, "pool_size", self.pool_size)
  pair(self, "strides", self.strides or self.pool_size)
end

function MaxPooling2D:output_shape(shape)
  return window_shape(self, shape, self.pool_size, self.strides, { 1, 1 }, shape[3])
end

function MaxPooling2D:forward(x) return core.max_pool2d(x, self.pool_size, self.strides, self.padding) end

function MaxPooling2D:detail() return pair_text(self.pool_size) end

return M
