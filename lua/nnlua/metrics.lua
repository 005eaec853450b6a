--- Metrics: `nn.metrics`. What is measured over many batches.
--
-- Owns: how a measure is accumulated. A metric keeps its sum on the device: `update` only records operators, and nothing is computed or copied
-- back for it until `result` is asked for. Batches weigh as many samples as they have, so an odd last batch is no problem.
--
--     local nn = require "nnlua"
--     local acc = nn.metrics.Accuracy{}
--     acc:update(nn.tensor{ {0.9, 0.1}, {0.2, 0.8}, {0.6, 0.4} }, nn.tensor({1, 2, 2}, {dtype = "i64"}))
--     print(("%.4f"):format(acc:result()))          --> 0.6667

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text

local metrics = {}

-- ---- values per sample -----------------------------------------------------------------------------------------------

-- 1 where a sample is right, else 0, as floats. Targets are class ids or, in the shape of the predictions, one-hot rows;
-- predictions with a last dim of 1 are probabilities of "yes".
local function hits(pred, target)
  local p, n = pred:dim(), target:dim()
  local classes = pred:size(-1)
  if n == p and classes > 1 and target:size(-1) == classes then
    target = target:argmax(-1)
  elseif n == p and classes == 1 and target:size(-1) == 1 then
    return pred:gt(0.5):eq(target:gt(0.5)):float()
  elseif n == p and target:size(-1) == 1 then
    target = target:squeeze(-1)
  elseif n ~= p - 1 then
    options.raise(("accuracy: predictions (%s) need class ids or one-hot rows, got targets (%s)"):format(shape_text(pred:shape()),
      shape_text(target:shape())))
  end
  return pred:argmax(-1):eq(target):float()
end

--- Share of samples whose largest prediction is the target's class, as a tensor.
---@param pred nnlua.Tensor
---@param target nnlua.Tensor  class ids, or one-hot rows
---@return nnlua.Tensor
function metrics.accuracy(pred, target) return hits(pred, target):mean() end

-- ---- accumulators ----------------------------------------------------------------------------------------------------

---@class nnlua.Mean
---@overload fun(options: table): nnlua.Mean
local Mean = class "Mean"
metrics.Mean = Mean

--- A weighted mean. With a function `measure(pred, target)`, update takes predictions and targets, and the function gives the value of a batch (a
--- number or a tensor; the mean over the batch, or one value per sample).
function Mean:init(given)
  local o = options.check("Mean", given, { measure = { "function", position = 1 }, name = { "string", default = "mean" } })
  self.name, self.measure = o.name, o.measure
  self.total = core.zeros {}
  self.total:keep()
  self.count = 0
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
    local sum = size == 1 and value:reshape {} or value:sum()
    total = self.total + (n == size and sum or sum * (n / size))
  end
  self.total:assign(total)
  self.count = self.count + n
end

--- Measure one batch.
function Mean:update(pred, target) self:add(self.measure(pred, target), pred:size(1)) end

--- The mean so far: a number (NaN when nothing was added). Reads from the device.
---@return number
function Mean:result() return self.total:item() / self.count end

--- Start again.
function Mean:reset()
  self.total:assign(core.zeros {})
  self.count = 0
end

--- What was added so far, as plain numbers; set_state takes it back.
function Mean:state() return { total = self.total:item(), count = self.count } end

function Mean:set_state(state)
  self.total:assign(core.full({}, state.total))
  self.count = state.count
end

--- Share of right classes over all batches; targets are class ids or one-hot rows.
local Accuracy = class("Accuracy", Mean)
metrics.Accuracy = Accuracy

function Accuracy:init(given)
  local o = options.check("Accuracy", given, { name = { "string", default = "accuracy" } })
  Mean.init(self, { name = o.name, measure = hits })
end

local errors = { "loss", "error", "entropy", "mse", "mae", "mape", "msle", "divergence", "hinge", "poisson", "huber", "perplexity", "nll" }

--- Is a figure of this name best when it is small? Losses and errors are, everything else is best when it is large.
---@param name string
---@return boolean
function metrics.lower_is_better(name)
  for _, word in ipairs(errors) do
    if name:find(word, 1, true) then return true end
  end
  return false
end

--- The metric of `spec`: a name, an object with update/result/reset, or a function of (predictions, targets).
---@param spec string|table|function
---@param index? integer names functions
function metrics.get(spec, index)
  if type(spec) == "table" and spec.update and spec.result and spec.reset then return spec end
  if type(spec) == "function" then
    for name, f in pairs(metrics) do
      if f == spec and name == "accuracy" then return Accuracy { name = name } end
    end
    return Mean { spec, name = ("metric_%d"):format(index or 1) }
  end
  local losses = require "nnlua.losses"
  if spec == "accuracy" or spec == "acc" or spec == "sparse_categorical_accuracy" or spec == "categorical_accuracy" then
    return Accuracy { name = spec == "acc" and "accuracy" or spec }
  elseif type(spec) == "string" and spec ~= "get" and losses[spec] then
    return Mean { losses[spec], name = spec }
  end
  local names = { "accuracy", "sparse_categorical_accuracy", "categorical_accuracy" }
  for name in pairs(losses) do
    if name ~= "get" then names[#names + 1] = name end
  end
  table.sort(names)
  local near = type(spec) == "string" and options.nearest(spec, names)
  options.raise(("unknown metric %s%s (valid: %s, or a function of predictions and targets)"):format(options.shown(spec),
    near and ('; did you mean "' .. near .. '"?') or "", table.concat(names, ", ")))
end

return metrics
