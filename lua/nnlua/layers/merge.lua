--- Layers that make one tensor of several: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate.
--
-- They are called with the tensors, or a list of them:
--
--     local nn = require "nnlua"
--     print(nn.Add{}(nn.ones(1, 2), nn.full({1, 2}, 2)):totable()[1][2])              --> 3.0
--     print(nn.Concatenate{}{ nn.ones(1, 2), nn.ones(1, 3) }:size())                  --> 1  5

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"

local M = {}

local function list_of(layer, ...)
  local first = ...
  local list = type(first) == "table" and first or { ... }
  if #list < 2 then options.raise(("%s: needs two tensors or more"):format(rawget(layer, "name") or getmetatable(layer).__name)) end
  return list
end

-- A step counts where it does in one of the tensors; no mask unless all have one.
local function joined_mask(list)
  local mask = masks.of(list[1])
  for i = 2, #list do
    local other = masks.of(list[i])
    mask = mask and other and (rawequal(mask, other) and mask or mask:logical_or(other))
  end
  return mask or nil
end

local function define(name, spec, join, at_most)
  local c = Layer.define(name, spec)
  M[name] = c
  function c:build_from() rawset(self, "built", true) end -- luacheck: no unused args
  function c:forward(...)
    local list = list_of(self, ...)
    if at_most and #list > at_most then options.raise(("%s: takes %d tensors, got %d"):format(name, at_most, #list)) end
    return masks.set(join(self, list), joined_mask(list))
  end
end

local function fold(f)
  return function(_, list)
    local y = list[1]
    for i = 2, #list do y = f(y, list[i]) end
    return y
  end
end

define("Add", {}, fold(core.add))
define("Subtract", {}, fold(core.sub), 2)
define("Multiply", {}, fold(core.mul))
define("Maximum", {}, fold(core.maximum))
define("Minimum", {}, fold(core.minimum))
local sum = fold(core.add)
define("Average", {}, function(self, list) return sum(self, list) * (1 / #list) end)
-- Joined along `axis`, the last by default; dim 1 is the batch.
define("Concatenate", { axis = { "integer", position = 1, default = -1 } }, function(self, list) return core.cat(list, self.axis) end)

return M
