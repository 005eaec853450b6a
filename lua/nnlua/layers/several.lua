--- Layers of several tensors: called with them, or with a list of them. Not exported.
--
-- Owns: how such a layer is called and built. Its output_shape and build take a list of the samples' shapes instead of one.

local class = require "nnlua.class"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local shape_text = require("nnlua.module").shape_text

---@class nnlua.Several: nnlua.Layer
---@field at_least integer number of tensors
---@field at_most? integer
local Several = class("Several", Layer)
Several.several, Several.at_least = true, 2

-- The tensors as a list.
local function list_of(layer, ...)
  local first = ...
  local list = type(first) == "table" and first or { ... }
  local few, many = layer.at_least, layer.at_most
  if few == many and #list ~= few then options.raise(("%s: takes %d tensors, got %d"):format(layer:label(), few, #list)) end
  if #list < few then options.raise(("%s: needs two tensors or more"):format(layer:label())) end
  return list
end

function Several:build_from(...)
  local sizes = {}
  for i, x in ipairs(list_of(self, ...)) do
    local shape = x:shape()
    sizes[i] = table.move(shape, 2, #shape, 1, {})
  end
  self:build_once(sizes)
end

--- Build for a call on symbolic tensors, by their samples' sizes.
---@param symbols nnlua.SymbolicTensor[]
function Several:build_for(symbols)
  local sizes = {}
  for i, symbol in ipairs(list_of(self, symbols)) do sizes[i] = symbol.sample end
  self:build_once(sizes)
end

--- The mask of the result: a step counts where it does in one of the tensors; none unless all have one.
function Several:joined_mask(list) -- luacheck: no unused args
  local mask = masks.of(list[1])
  for i = 2, #list do
    local other = masks.of(list[i])
    mask = mask and other and (rawequal(mask, other) and mask or mask:logical_or(other))
  end
  return mask or nil
end

function Several:forward(...)
  local list = list_of(self, ...)
  return masks.set(self:join(list), self:joined_mask(list))
end

--- Raise about the shapes of the samples.
function Several:refuse_all(what, list)
  local words = {}
  for i, shape in ipairs(list) do words[i] = shape_text(shape) end
  options.raise(("%s: %s, got samples of shapes %s"):format(self:label(), what, table.concat(words, " and ")))
end

--- The shape that all of `list` broadcast to.
function Several:broadcast(list)
  local most = 0
  for _, shape in ipairs(list) do most = math.max(most, #shape) end
  local out = {}
  for i = 1, most do
    out[i] = 1
    for _, shape in ipairs(list) do
      local n = shape[i - most + #shape] or 1
      if n ~= 1 and out[i] ~= 1 and n ~= out[i] and n > 0 and out[i] > 0 then self:refuse_all("the sizes must be equal, or 1", list) end
      if n ~= 1 and (out[i] < 2) then out[i] = n end
    end
  end
  return out
end

return Several
