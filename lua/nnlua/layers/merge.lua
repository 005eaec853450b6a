--- Layers that make one tensor of several: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot.
--
-- They are called with the tensors, or a list of them:
--
--     local nn = require "nnlua"
--     print(nn.Add{}(nn.ones(1, 2), nn.full({1, 2}, 2)):totable()[1][2])              --> 3.0
--     print(nn.Concatenate{}{ nn.ones(1, 2), nn.ones(1, 3) }:size())                  --> 1  5
--     print(nn.Dot{ axes = 2 }(nn.ones(1, 3), nn.ones(1, 3)):item())                  --> 3.0

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local Several = require "nnlua.layers.several"

local M = {}

-- ---- element by element ----------------------------------------------------------------------------------------------

local function define(name, join, at_most)
  local c = Layer.define(name, {}, nil, nil, Several)
  M[name] = c
  c.at_most, c.join, c.output_shape = at_most, join, Several.broadcast
end

local function fold(f)
  return function(_, list)
    local y = list[1]
    for i = 2, #list do y = f(y, list[i]) end
    return y
  end
end

--- Tensors of one shape, or of shapes that broadcast, as one: `nn.Add{}(a, b)`.
---@class nnlua.Add: nnlua.Layer
---@class nnlua.Multiply: nnlua.Layer
---@class nnlua.Maximum: nnlua.Layer
---@class nnlua.Minimum: nnlua.Layer
---@class nnlua.Average: nnlua.Layer
define("Add", fold(core.add))
define("Multiply", fold(core.mul))
define("Maximum", fold(core.maximum))
define("Minimum", fold(core.minimum))
local sum = fold(core.add)
define("Average", function(self, list) return sum(self, list) * (1 / #list) end)

--- The first tensor less the second.
---@class nnlua.Subtract: nnlua.Layer
define("Subtract", fold(core.sub), 2)

-- ---- joined and multiplied -------------------------------------------------------------------------------------------

--- Tensors joined along `axis`, the last by default; dim 1 is the batch.
---@class nnlua.Concatenate: nnlua.Layer
---@overload fun(options: { axis?: integer, name?: string }): nnlua.Concatenate
local Concatenate = Layer.define("Concatenate", { axis = { "integer", position = 1, default = -1 } }, nil, nil, Several)
M.Concatenate = Concatenate

function Concatenate:output_shape(list)
  local first = list[1]
  local at = (self.axis < 0 and #first + 1 + self.axis or self.axis - 1)
  local out = table.move(first, 1, #first, 1, {})
  for i = 2, #list do
    for k = 1, math.max(#first, #list[i]) do
      local n = list[i][k] or 0
      if k ~= at and n ~= first[k] and n >= 0 and (first[k] or 0) >= 0 then
        self:refuse_all("the sizes must be equal but along axis " .. self.axis, list)
      end
    end
    if at >= 1 then out[at] = (out[at] < 0 or list[i][at] < 0) and -1 or out[at] + list[i][at] end
  end
  return out
end

function Concatenate:join(list) return core.cat(list, self.axis) end

function Concatenate:joined_mask(list)
  if (self.axis < 0 and list[1]:dim() + 1 + self.axis or self.axis) ~= 2 then return Several.joined_mask(self, list) end
  local all = {} -- steps after steps
  for i, x in ipairs(list) do
    all[i] = masks.of(x)
    if not all[i] then return nil end
  end
  return core.cat(all, 2)
end

function Concatenate:detail() return self.axis == -1 and "" or ("axis %d"):format(self.axis) end

--- Products of two tensors, summed over dim `axes` (one for both, or one of each; dim 1 is the batch): `nn.Dot{ axes = {2, 3} }`. With normalize
--- their cosine.
---@class nnlua.Dot: nnlua.Layer
---@overload fun(options: { axes: integer|integer[], normalize?: boolean, name?: string }): nnlua.Dot
local Dot = Layer.define("Dot", { axes = { "integer|table", position = 1, required = true }, normalize = { "boolean", default = false } }, nil, nil,
  Several)
M.Dot = Dot
Dot.at_most = 2

function Dot:checked()
  local a = self.axes
  if type(a) == "number" then a = { a, a } end
  if #a ~= 2 or not (math.type(a[1]) == "integer" and math.type(a[2]) == "integer") then
    options.raise 'Dot: option "axes" must be a dim, or one of each tensor'
  end
  rawset(self, "axes", { a[1], a[2] })
end

function Dot:output_shape(list)
  local out = {}
  local a, b = self:dim_of(self.axes[1], list[1]), self:dim_of(self.axes[2], list[2])
  local n, m = list[1][a - 1], list[2][b - 1]
  if n ~= m and n > 0 and m > 0 then self:refuse_all(("dims %d and %d must be equal"):format(a, b), list) end
  for k = 1, 2 do
    for i, size in ipairs(list[k]) do
      if i + 1 ~= (k == 1 and a or b) then out[#out + 1] = size end
    end
  end
  return #out > 0 and out or { 1 }
end

local function unit(x, dim) return x * core.rsqrt(core.maximum(x:square():sum(dim, true), 1e-12)) end

function Dot:joined_mask() end -- luacheck: no unused args

function Dot:join(list)
  local x, y = list[1], list[2]
  local n, a, b = x:size(1), self.axes[1], self.axes[2]
  if self.normalize then x, y = unit(x, a), unit(y, b) end
  local left, right = x:movedim(a, -1), y:movedim(b, 2) -- (N, ..., K) and (N, K, ...)
  local k, shape = left:size(-1), { n }
  for i = 2, left:dim() - 1 do shape[#shape + 1] = left:size(i) end
  for i = 3, right:dim() do shape[#shape + 1] = right:size(i) end
  local product = core.bmm(left:reshape { n, -1, k }, right:reshape { n, k, -1 })
  return product:reshape(#shape > 1 and shape or { n, 1 })
end

function Dot:detail() return table.concat(self.axes, ", ") .. (self.normalize and ", normalized" or "") end

return M
