-- data/sources.lua - data sets of what a script has in memory: tensors, lists, ranges. Returns its functions by name.

local Dataset = require "nnlua.data.dataset"
local core = require "nnlua.core"
local options = require "nnlua.options"

local pipeline = core.pipeline
local data = {}

--- A data set whose element i is row i of each tensor: `nn.data.from_tensors{ x, y }`. Nothing is copied.
---@return nnlua.Dataset
function data.from_tensors(first, ...)
  local list = type(first) == "table" and first or { first, ... }
  for key in pairs(list) do
    if math.type(key) ~= "integer" then
      options.raise(("from_tensors: unknown option %s; it takes tensors only"):format(options.shown(key)))
    end
  end
  for i, t in ipairs(list) do
    if type(t) ~= "userdata" then options.raise(("from_tensors: value %d must be a tensor, got %s"):format(i, options.shown(t))) end
  end
  return Dataset(pipeline.tensors(table.unpack(list)))
end

-- The values of one column as a tensor with a row for each.
local function column(values)
  local integers = true
  for i, v in ipairs(values) do
    local t = type(v)
    if t ~= "number" then
      if t == "table" then v = core.tensor(v) end
      if type(v) ~= "userdata" then
        options.raise(("from_table: element %d holds %s; it takes numbers, tensors and tables of numbers"):format(i, options.shown(v)))
      end
      values[i], integers = v, nil
    elseif integers == nil then
      options.raise(("from_table: element %d is a number, the first is a tensor"):format(i))
    elseif math.type(v) ~= "integer" then
      integers = false
    end
  end
  if integers == nil then return core.stack(values, 1) end
  return core.tensor(values, { dtype = integers and "i64" or "f32" })
end

--- A data set of the elements of a list: numbers or tensors, or tables of several of these:
--- `nn.data.from_table{ {x1, 1}, {x2, 2} }` has elements of two tensors. Whole numbers become i64, others f32.
---@param list table
---@return nnlua.Dataset
function data.from_table(list)
  if type(list) ~= "table" or #list == 0 then options.raise("from_table: needs a list that is not empty, got " .. options.shown(list)) end
  local width = type(list[1]) == "table" and #list[1] or nil
  local columns = {}
  for c = 1, width or 1 do columns[c] = {} end
  for i, element in ipairs(list) do
    local parts = type(element) == "table" and element or { element }
    if (type(element) == "table") ~= (width ~= nil) or #parts ~= #columns then
      options.raise(("from_table: element %d has %d values, the first has %d"):format(i, #parts, #columns))
    end
    for c = 1, #columns do columns[c][i] = parts[c] end
  end
  for c = 1, #columns do columns[c] = column(columns[c]) end
  return data.from_tensors(columns)
end

--- Whole numbers as i64 scalars: `range(n)` is 1 to n, `range(first, last[, step])` as in a numeric for.
---@param first integer
---@param last? integer
---@param step? integer
---@return nnlua.Dataset
function data.range(first, last, step)
  if last == nil then first, last = 1, first end
  step = step or 1
  for i, v in ipairs { first, last, step } do
    if math.type(v) ~= "integer" then options.raise(("range: value %d must be an integer, got %s"):format(i, options.shown(v))) end
  end
  if step == 0 then options.raise "range: the step is 0" end
  return Dataset(pipeline.range(first, step, math.max(0, (last - first) // step + 1)))
end

return data
