--- How metrics accumulate: Mean, and sums of any shape.
--
-- Owns: running sums that stay on the device, their state for files. Counts are f32 sums: exact up to 16.7 million per cell.

local core = require "nnlua.core"
local class = require "nnlua.class"
local weighting = require "nnlua.weighting"
local options = require "nnlua.options"

local M = {}

-- A running sum lives where its values come from.
local function beside(sum, value)
  if sum:device() ~= value:device() then core.move(sum, value:device()) end
end

---@class nnlua.Mean
---@overload fun(options: table): nnlua.Mean
local Mean = class "Mean"
M.Mean = Mean

local mean_spec = { measure = { "function", position = 1 }, each = { "function" }, name = { "string", default = "mean" } }

--- A weighted mean. With a function `measure(pred, target)`, update takes predictions and targets, and the function gives the value of a batch (a
--- number or a tensor; the mean over the batch, or one value per sample). For weights `each(pred, target)` gives a value for each sample; without
--- it `measure` must.
function Mean:init(given)
  local o = options.check("Mean", given, mean_spec)
  self.name, self.measure, self.each = o.name, o.measure, o.each or o.measure
  self.total = core.zeros {}
  self.total:keep()
  self.count = 0 -- samples; what weights sum to is in self.weight, on the device
end

--- Add `value`, the mean of `n` samples, or one value for each of them.
---@param value nnlua.Tensor|number
---@param n? integer
function Mean:add(value, n)
  local total
  if type(value) == "number" then
    total = self.total + value * (n or 1)
  else
    local size = value:numel()
    n = n or size
    value = value:detach()
    beside(self.total, value)
    local sum = size == 1 and value:reshape {} or value:sum()
    total = self.total + (n == size and sum or sum * (n / size))
  end
  self.total:assign(total)
  self.count = self.count + n
end

-- Adds values and their weights.
local function add_weighted(self, values, weight)
  if not core.is_tensor(values) or values:dim() == 0 then
    options.raise(("%s: with weights it needs a value for each sample; the function gave one for all"):format(self.name))
  end
  values, weight = weighting.samplewise(values:detach(), weight)
  beside(self.total, values)
  if not self.weight then
    self.weight = self.total:zeros_like()
    self.weight:keep()
  end
  beside(self.weight, values)
  self.total:assign(self.total + (values * weight):sum())
  self.weight:assign(self.weight + weight:sum())
  self.count = self.count + values:size(1)
end

--- Measure one batch, with weights (N), or (N, T) of steps: then the mean is that of values times weights over weights.
---@param weight? nnlua.Tensor
function Mean:update(pred, target, weight)
  if weight then return add_weighted(self, self.each(pred, target), weight) end
  self:add(self.measure(pred, target), pred:size(1))
end

--- The mean so far: a number (NaN when nothing was added). Reads from the device.
---@return number
function Mean:result() return self.total:item() / (self.weight and self.weight:item() or self.count) end

--- Start again.
function Mean:reset()
  self.total:assign(self.total:zeros_like())
  self.count, self.weight = 0, nil
end

--- What was added so far, as plain numbers; set_state takes it back.
function Mean:state() return { total = self.total:item(), count = self.count, weight = self.weight and self.weight:item() } end

function Mean:set_state(state)
  self.total:assign(self.total:zeros_like() + state.total)
  self.count, self.weight = state.count, nil
  if state.weight then
    self.weight = self.total:zeros_like() + state.weight
    self.weight:keep()
  end
end

-- ---- sums of any shape -----------------------------------------------------------------------------------------------

---@class nnlua.Sums
---@field label string the name that compile() takes
local Sums = class "Sums"
M.Sums = Sums

function Sums:init(given)
  local spec = { name = { "string", default = self.label } }
  for key, rule in pairs(self.options) do spec[key] = rule end
  for key, value in pairs(options.check(getmetatable(self).__name, given, spec)) do self[key] = value end
  self.sums, self.count = {}, 0
  if self.checked then self:checked() end
end

--- A metric class: update(self, pred, target, weight) calls self:add, result(self) makes a number (or a table of them) of self:value(name).
--- weight is nil, or a tensor (N), or (N, T) of steps (nnlua.weighting).
---@param name string
---@param label string
---@param spec table<string, nnlua.OptionRule>
function Sums.define(name, label, spec)
  local c = class(name, Sums)
  c.label, c.options = label, spec
  return c
end

--- Add values, (N, ...), times weights where there are any, for self:mean(), their mean.
function Sums:add_mean(values, weight)
  if weight then values, weight = weighting.samplewise(values, weight) end
  self:add("total", weight and (values * weight):sum() or values:sum())
  if weight then self:add("weights", weight:sum()) else self.count = self.count + values:numel() end
end

--- The mean of what add_mean() was given.
function Sums:mean() return (self:value "total" or 0) / (self.count + (self:value "weights" or 0)) end

--- Add to the sum `name`, which has the shape of its first value.
function Sums:add(name, value)
  local sum = self.sums[name]
  if not sum then
    sum = value:zeros_like("f32")
    sum:keep()
    self.sums[name] = sum
  end
  beside(sum, value)
  sum:assign(sum + value:detach())
end

--- A sum as plain numbers, nil when nothing was added. Reads from the device.
function Sums:value(name)
  local sum = self.sums[name]
  if not sum then return nil end
  return sum:dim() == 0 and sum:item() or sum:totable()
end

function Sums:reset()
  for _, sum in pairs(self.sums) do sum:assign(sum:zeros_like()) end
  self.count = 0
end

function Sums:state()
  local sums = {}
  for name in pairs(self.sums) do sums[name] = self:value(name) end
  return { sums = sums, count = self.count }
end

function Sums:set_state(state)
  self.sums, self.count = {}, state.count
  for name, value in pairs(state.sums) do
    self.sums[name] = core.tensor(value, { dtype = "f32" })
    self.sums[name]:keep()
  end
end

--- Label and options, for files: metrics.get makes an equal metric of it.
function Sums:config()
  local config = { name = self.name }
  for key in pairs(self.options) do config[key] = self[key] end
  return { class_name = self.label, config = config }
end

return M
