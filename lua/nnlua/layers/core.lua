--- Input, Dense, Flatten, Reshape, Dropout, Rescaling, Activation.

local core = require "nnlua.core"
local options = require "nnlua.options"
local Layer = require "nnlua.layer"
local Module = require "nnlua.module"
local real = require("nnlua.functional.shapes").real

local M = {}
local shape_text = Module.shape_text

-- ---- Input -----------------------------------------------------------------------------------------------------------

--- The shape of one sample, so that a model knows its sizes before it sees data: `nn.Input{28, 28, 1}`; -1 is a size that varies from batch to
--- batch. First in a Sequential, or called on by layers: `nn.Dense{10}(nn.Input{784})` gives a symbolic tensor for nn.Model.
--- Checks what comes in; bytes and booleans (u8 images) become floats.
---@class nnlua.Input: nnlua.Layer
---@overload fun(options: { [integer]: integer, dtype?: string, name?: string }): nnlua.Input
local Input = Layer.define("Input", { shape = { "integer", position = 1, rest = true, required = true, min = -1 }, dtype = { "string" } },
  nil, "InputLayer")
M.Input = Input
require("nnlua.symbolic").lend_operators(Input) -- in a graph it is what comes in there

function Input:checked()
  for i, n in ipairs(self.shape) do
    if n == 0 then options.raise(("Input: shape[%d] must be at least 1, or -1 for a size that varies from batch to batch, got 0"):format(i)) end
  end
end

function Input:output_shape(shape)
  local ok = #shape == #self.shape
  for i = 1, #shape do ok = ok and (shape[i] == self.shape[i] or shape[i] < 0 or self.shape[i] < 0) end
  if not ok then self:refuse("the model takes samples of shape " .. shape_text(self.shape), shape) end
  return self.shape
end

function Input:forward(x)
  local want, n = self.shape, x:dim()
  local ok = n == #want + 1
  for i = 1, ok and #want or 0 do ok = ok and (want[i] < 0 or x:size(i + 1) == want[i]) end
  if not ok then
    local words = {}
    for i, size in ipairs(want) do words[i] = size < 0 and "?" or size end
    options.raise(("the model takes batches (N, %s), got a tensor of shape (%s)"):format(table.concat(words, ", "), table.concat(x:shape(), ", ")))
  end
  local dtype = x:dtype()
  if self.dtype then return dtype == self.dtype and x or x:to(self.dtype) end
  return (dtype == "u8" or dtype == "bool") and x:float() or x
end

function Input:config()
  return { name = self.name, dtype = self.dtype, shape = self.shape }
end

function Input.from_config(c, config)
  local shape = config.shape or config.batch_input_shape or config.batch_shape
  if shape ~= config.shape then shape = table.move(shape, 2, #shape, 1, {}) end -- Keras's begins with the batch
  return c { shape = shape, name = config.name, dtype = config.dtype ~= "float32" and config.dtype or nil }
end

function Input:detail() return shape_text(self.shape) end

-- ---- Dense -----------------------------------------------------------------------------------------------------------

--- `activation(x @ kernel + bias)` over the last dim: `nn.Dense{128, activation = "relu", init = "he_normal"}`. kernel (in, units).
---@class nnlua.Dense: nnlua.Layer
---@overload fun(options: { [1]: integer, activation?: string|function, use_bias?: boolean, init?: any, name?: string }): nnlua.Dense
local Dense = Layer.define("Dense", Layer.with_kernel {
  units = { "integer", position = 1, required = true, min = 1 },
  activation = { "string|function", default = "linear" },
}, Layer.kernel_aliases())
M.Dense = Dense
Dense.keeps_mask = true

function Dense:output_shape(shape)
  if #shape < 1 then self:refuse("needs samples of at least one dim", shape) end
  local out = table.move(shape, 1, #shape, 1, {})
  out[#out] = self.units
  return out
end

function Dense:build(shape)
  self:build_kernel({ shape[#shape], self.units }, self.units)
end

function Dense:forward(x)
  return self:activated(core.linear(self:operands(x)))
end

function Dense:detail()
  local from = self.built and self.input_size[#self.input_size] or "?"
  return ("%s -> %d%s"):format(from, self.units, Layer.activation_text(self))
end

--- PyTorch's spelling: `nn.Linear(784, 128)` is a Dense that is built at once.
---@param inputs integer
---@param units integer
function M.Linear(inputs, units, given)
  if type(inputs) == "table" then inputs, units, given = inputs[1], inputs[2], inputs end
  if math.type(inputs) ~= "integer" or inputs < 1 or math.type(units) ~= "integer" then
    options.raise(("Linear: needs two sizes, nn.Linear(inputs, units), got %s and %s"):format(options.shown(inputs), options.shown(units)))
  end
  local o = { units }
  for key, value in pairs(given or {}) do
    if type(key) == "string" then o[key] = value end
  end
  local layer = Dense(o)
  layer:build_once { inputs }
  return layer
end

-- ---- shapes ----------------------------------------------------------------------------------------------------------

--- Each sample as one row.
---@class nnlua.Flatten: nnlua.Layer
---@overload fun(options: { name?: string }): nnlua.Flatten
local Flatten = Layer.define("Flatten", {})
M.Flatten = Flatten

function Flatten:output_shape(shape) -- luacheck: no unused args
  local n = 1
  for _, size in ipairs(shape) do n = (size < 0 or n < 0) and -1 or n * size end
  return { n }
end

function Flatten:forward(x) return x:dim() == 2 and x or x:reshape { x:size(1), -1 } end -- luacheck: no unused args

--- Each sample in another shape; one size may be -1: `nn.Reshape{28, 28, 1}`.
---@class nnlua.Reshape: nnlua.Layer
---@overload fun(options: { [integer]: integer, name?: string }): nnlua.Reshape
local Reshape = Layer.define("Reshape", { target_shape = { "integer", position = 1, rest = true, required = true, min = -1 } })
M.Reshape = Reshape

function Reshape:output_shape(shape)
  local known, product, hole = 1, 1, nil
  for _, n in ipairs(shape) do known = (n < 0 or known < 0) and -1 or known * n end
  local out = {}
  for i, n in ipairs(self.target_shape) do
    out[i] = n
    if n == -1 then
      if hole then options.raise "Reshape: only one size may be -1" end
      hole = i
    else
      product = product * n
    end
  end
  if known >= 0 then
    if hole then out[hole] = product > 0 and known // product or 0 end
    if hole and out[hole] * product ~= known or not hole and product ~= known then
      self:refuse(("cannot reshape to %s"):format(shape_text(self.target_shape)), shape)
    end
  end
  return out
end

function Reshape:forward(x) return x:reshape(table.move(self.target_shape, 1, #self.target_shape, 2, { x:size(1) })) end

function Reshape:detail() return shape_text(self.target_shape) end

-- ---- values ----------------------------------------------------------------------------------------------------------

--- `x * scale + offset`, of u8 images too: `nn.Rescaling{1/255}`. Either may be a list, a number for each channel.
---@class nnlua.Rescaling: nnlua.Layer
---@overload fun(options: { [1]: number|number[], [2]?: number|number[], name?: string }): nnlua.Rescaling
local Rescaling = Layer.define("Rescaling", {
  scale = { "number|table", position = 1, required = true }, offset = { "number|table", position = 2, default = 0 } })
M.Rescaling = Rescaling
Rescaling.keeps_mask = true

function Rescaling:checked()
  for _, key in ipairs { "scale", "offset" } do
    local list = type(self[key]) == "table" and self[key] or { self[key] }
    local ok = #list > 0
    for _, n in ipairs(list) do ok = ok and type(n) == "number" end
    if not ok then options.raise(("Rescaling: %s must be a number or a list of them, got %s"):format(key, options.shown(self[key]))) end
  end
end

-- A number, or a list as a tensor beside x.
local function factor(layer, key, x)
  local value = layer[key]
  if type(value) ~= "table" then return value end
  if #value ~= 1 and #value ~= x:size(-1) then
    layer:refuse(("%d numbers in %s for %d channels"):format(#value, key, x:size(-1)), layer:sample_shape(x))
  end
  return core.tensor(value, { dtype = x:dtype() }):to(x:device())
end

function Rescaling:forward(x)
  x = real(x)
  local y = x * factor(self, "scale", x)
  if self.offset == 0 then return y end
  return y + factor(self, "offset", x)
end

function Rescaling:detail()
  local function shown(value) return type(value) == "table" and ("%d numbers"):format(#value) or ("%.6g"):format(value) end
  return self.offset == 0 and shown(self.scale) or ("%s, offset %s"):format(shown(self.scale), shown(self.offset))
end

--- In training each element is dropped with probability `rate`, the others grow to keep the expectation: `nn.Dropout{0.5}`.
--- noise_shape draws once for all elements of the dims where it is 1; -1 is the input's size: `{-1, 1, -1}`.
---@class nnlua.Dropout: nnlua.Layer
---@overload fun(options: { [1]: number, noise_shape?: integer[], name?: string }): nnlua.Dropout
local Dropout = Layer.define("Dropout", { rate = { "number", position = 1, required = true, min = 0, below = 1 }, noise_shape = { "table" } })
M.Dropout = Dropout
Dropout.keeps_mask = true

--- The shape of the draws for x, for layers with noise_shape.
function Dropout:draws(x)
  local shape, given = x:shape(), self.noise_shape
  if given and #given ~= #shape then
    options.raise(("%s: noise_shape has %d dims, the batch %d"):format(self:label(), #given, #shape))
  end
  for i, n in ipairs(given or {}) do
    if n ~= -1 and n ~= 1 and n ~= shape[i] then
      options.raise(("%s: noise_shape[%d] must be 1, -1 or the input's %d, got %s"):format(self:label(), i, shape[i], tostring(n)))
    end
    shape[i] = n == 1 and 1 or shape[i]
  end
  return shape
end

function Dropout:forward(x)
  if not self.training or self.rate == 0 then return x end
  if not self.noise_shape then return core.dropout(x, self.rate) end
  return x * core.dropout(core.ones(self:draws(x), x:dtype()), self.rate)
end

function Dropout:detail() return ("%g"):format(self.rate) end

return M
