--- Dense layers beyond Dense: EinsumDense, Bilinear.
--
--     local nn = require "nnlua"
--     local layer = nn.EinsumDense{ "abc,cde->abde", output_shape = {-1, 4, 8}, bias_axes = "de" }
--     print(layer(nn.ones(2, 5, 16)):size())                       --> 2  5  4  8
--     print(nn.Bilinear{3}(nn.ones(2, 4), nn.ones(2, 5)):size())   --> 2  3

local core = require "nnlua.core"
local options = require "nnlua.options"
local linalg = require "nnlua.linalg"
local Layer = require "nnlua.layer"
local Several = require "nnlua.layers.several"

local M = {}

--- A product that an equation describes, Keras's: "...x,xy->...y" is a Dense layer. Its first part is the input with its batch, the second the
--- kernel.
--- output_shape tells the sizes of the result's letters (without the batch, without what `...` stands for); -1 where the input has them.
--- bias_axes are the letters that the bias has.
---@class nnlua.EinsumDense: nnlua.Layer
---@overload fun(options: { [1]: string, output_shape: integer|integer[], activation?: any, bias_axes?: string, name?: string }): nnlua.EinsumDense
local EinsumDense = Layer.define("EinsumDense", Layer.with_kernel {
  equation = { "string", position = 1, required = true },
  output_shape = { "integer|table", position = 2, required = true },
  activation = { "string|function", default = "linear" },
  bias_axes = { "string" },
}, Layer.kernel_aliases())
EinsumDense.options.use_bias = nil
EinsumDense.aliases.bias = nil
EinsumDense.fields = { output_shape = "result_shape" }
M.EinsumDense = EinsumDense

-- "...ab" -> { ".", "a", "b" }
local function labels_of(text)
  local list = {}
  for label in text:gsub("%.%.%.", "."):gmatch "." do list[#list + 1] = label end
  return list
end

function EinsumDense:checked()
  local a, b, c = self.equation:gsub("%s", ""):match "^([%a%.]+),(%a+)%->([%a%.]+)$"
  if not a then options.raise(("EinsumDense: option \"equation\" must be like \"ab,bc->ac\", got %s"):format(options.shown(self.equation))) end
  rawset(self, "labels", { labels_of(a), labels_of(b), labels_of(c) })
  rawset(self, "equation", ("%s,%s->%s"):format(a, b, c))
  if type(self.result_shape) == "number" then rawset(self, "result_shape", { self.result_shape }) end
end

-- Sizes of the labels for samples of `shape`: letter -> size; and what "..." stands for.
function EinsumDense:sizes(shape)
  local size, dots, full = {}, {}, table.move(shape, 1, #shape, 2, { -1 })
  local input, result = self.labels[1], self.labels[3]
  local at, spare = 1, #full - #input
  for _, label in ipairs(input) do
    if label == "." then
      if spare < -1 then self:refuse(("%s does not fit"):format(self.equation), shape) end
      table.move(full, at, at + spare, 1, dots)
      at = at + spare + 1
    else
      size[label] = full[at]
      at = at + 1
    end
  end
  if at ~= #full + 1 then self:refuse(("%s names other dims"):format(self.equation), shape) end
  local given, k = self.result_shape, 0
  for i, label in ipairs(result) do
    if label ~= "." and i > 1 then -- the first is the batch
      k = k + 1
      local n = given[k] or -1
      if n > 0 and (size[label] or -1) > 0 and size[label] ~= n then
        self:refuse(("%s: output_shape has %d for '%s', which is %d"):format(self.equation, n, label, size[label]), shape)
      end
      if not size[label] or size[label] < 0 then size[label] = n end
    end
  end
  if k ~= #given then self:refuse(("%s has %d letters for an output_shape of %d sizes"):format(self.equation, k, #given), shape) end
  return size, dots
end

local function spread(labels, size, dots)
  local out = {}
  for _, label in ipairs(labels) do
    if label == "." then table.move(dots, 1, #dots, #out + 1, out) else out[#out + 1] = size[label] end
  end
  return out
end

function EinsumDense:output_shape(shape)
  local size, dots = self:sizes(shape)
  local out = spread(self.labels[3], size, dots)
  return table.move(out, 2, #out, 1, {})
end

function EinsumDense:build(shape)
  local size, dots = self:sizes(shape)
  for _, label in ipairs(self.labels[2]) do
    if not size[label] then self:refuse(("%s: '%s' of the kernel is in neither the input nor the result"):format(self.equation, label), shape) end
  end
  self.kernel = self:make("kernel", spread(self.labels[2], size, {}))
  if self.bias_axes then
    local ones, biased = {}, {}
    for i in ipairs(dots) do ones[i] = 1 end
    for _, label in ipairs(self.labels[3]) do biased[label] = self.bias_axes:find(label, 1, true) and size[label] or 1 end
    for label in self.bias_axes:gmatch "." do
      if not biased[label] then options.raise(("EinsumDense: bias_axes has '%s', which the result of %s has not"):format(label, self.equation)) end
    end
    local sizes, first = spread(self.labels[3], biased, ones), 1
    while sizes[first] == 1 and first < #sizes do first = first + 1 end -- dims in front broadcast
    self.bias = self:make("bias", table.move(sizes, first, #sizes, 1, {}))
  end
end

function EinsumDense:forward(x)
  local input, kernel, bias = self:operands(x)
  local y = linalg.einsum(self.equation, input, kernel)
  return self:activated(bias and y + bias or y)
end

function EinsumDense:detail() return self.equation .. Layer.activation_text(self) end

--- `x1 W x2 + b` of two tensors, over their last dims: `nn.Bilinear{16}(a, b)`. kernel (in 1, in 2, units).
---@class nnlua.Bilinear: nnlua.Layer
---@overload fun(options: { [1]: integer, activation?: any, use_bias?: boolean, name?: string }): nnlua.Bilinear
local Bilinear = Layer.define("Bilinear", Layer.with_kernel {
  units = { "integer", position = 1, required = true, min = 1 },
  activation = { "string|function", default = "linear" },
}, Layer.kernel_aliases(), nil, Several)
M.Bilinear = Bilinear
Bilinear.at_most = 2

function Bilinear:output_shape(list)
  local a, b = list[1], list[2]
  for i = 1, math.max(#a, #b) - 1 do
    if a[i] ~= b[i] or not a[i + 1] or not b[i + 1] then self:refuse_all("the sizes must be equal but for the last dim", list) end
  end
  local out = table.move(a, 1, #a, 1, {})
  out[#out] = self.units
  return out
end

function Bilinear:build(list) self:build_kernel({ list[1][#list[1]], list[2][#list[2]], self.units }, self.units) end

function Bilinear:join(list)
  local x, z, units = list[1], list[2], self.units
  local n, m, shape = x:size(-1), z:size(-1), x:shape()
  shape[#shape] = units
  local rows = core.matmul(x:reshape { -1, n }, self.kernel:reshape { n, m * units }):reshape { -1, m, units }
  local y = (rows * z:reshape { -1, m, 1 }):sum(2):reshape(shape)
  return self:activated(self.bias and y + self.bias or y)
end

function Bilinear:detail()
  local sizes = self.built and self.input_size
  local a, b = sizes and sizes[1][#sizes[1]] or "?", sizes and sizes[2][#sizes[2]] or "?"
  return ("%s, %s -> %d%s"):format(a, b, self.units, Layer.activation_text(self))
end

return M
