--- Metrics: `nn.metrics`. What is measured over many batches.
--
-- Owns: which metrics there are, accuracy, and finding them by name; how they accumulate is in metrics/base.lua. A metric keeps its sums on the
-- device: `update` only records operators, and nothing is computed or copied back for it until `result` is asked for. Batches weigh as many samples
-- as they have, so an odd last batch is no problem. A third argument of `update`, (N), or (N, T) of steps, weighs them.
--
--     local nn = require "nnlua"
--     local acc = nn.metrics.Accuracy{}
--     acc:update(nn.tensor{ {0.9, 0.1}, {0.2, 0.8}, {0.6, 0.4} }, nn.tensor({1, 2, 2}, {dtype = "i64"}))
--     print(("%.4f"):format(acc:result()))          --> 0.6667

local class = require "nnlua.class"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local shape_text = require("nnlua.module").shape_text

local metrics, by_name = {}, {}
for _, file in ipairs { "base", "classes", "numbers" } do
  for name, value in pairs(require("nnlua.metrics." .. file)) do
    metrics[name] = value
    if value.label then by_name[value.label] = value end
  end
end
local Mean = metrics.Mean

-- Keras's names of metrics that are others under ours.
local aliases = { top_k_accuracy = "top_k", top_k_categorical_accuracy = "top_k", sparse_top_k_categorical_accuracy = "top_k",
  root_mean_squared_error = "rmse", f1_score = "f1", fbeta_score = "fbeta", r2_score = "r2" }

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
  local best = pred:argmax(-1)
  if not lists.same(best:shape(), target:shape()) then
    options.raise(("accuracy: predictions (%s) need class ids (%s), got targets (%s)"):format(shape_text(pred:shape()), shape_text(best:shape()),
      shape_text(target:shape())))
  end
  return best:eq(target):float()
end

--- Share of samples whose largest prediction is the target's class, as a tensor.
---@param pred nnlua.Tensor
---@param target nnlua.Tensor  class ids, or one-hot rows
---@return nnlua.Tensor
function metrics.accuracy(pred, target) return hits(pred, target):mean() end

--- Share of right classes over all batches; targets are class ids or one-hot rows.
---@class nnlua.Accuracy: nnlua.Mean
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

local function names()
  local list = { "accuracy", "sparse_categorical_accuracy", "categorical_accuracy" }
  for name in pairs(by_name) do list[#list + 1] = name end
  for name in pairs(aliases) do list[#list + 1] = name end
  for name in pairs(require "nnlua.losses") do
    if name ~= "get" then list[#list + 1] = name end
  end
  table.sort(list)
  for i = #list, 2, -1 do -- a loss and a metric may have one name
    if list[i] == list[i - 1] then table.remove(list, i) end
  end
  return list
end

--- The metric of `spec`: a name, a table of a name and options such as { "top_k", k = 3 }, what config() gave, an object with
--- update/result/reset, or a function of (predictions, targets).
---@param spec string|table|function
---@param index? integer names functions
function metrics.get(spec, index)
  local given = {}
  if type(spec) == "table" and spec.update and spec.result and spec.reset then return spec end
  if type(spec) == "table" and (type(spec[1]) == "string" or type(spec.class_name) == "string") then
    for key, value in pairs(spec.config or spec) do
      if key ~= 1 then given[key] = value end
    end
    spec = spec.class_name or spec[1]
  end
  if type(spec) == "function" then
    if spec == metrics.accuracy then return Accuracy { name = "accuracy" } end
    return Mean { spec, name = ("metric_%d"):format(index or 1) }
  end
  local losses = require "nnlua.losses"
  if aliases[spec] then
    given.name = given.name or spec
    return by_name[aliases[spec]](given)
  elseif by_name[spec] then
    return by_name[spec](given)
  elseif spec == "accuracy" or spec == "acc" or spec == "sparse_categorical_accuracy" or spec == "categorical_accuracy" then
    return Accuracy { name = given.name or spec == "acc" and "accuracy" or spec }
  elseif type(spec) == "string" and spec ~= "get" and rawget(losses, spec) then
    local name, each = given.name or spec, { reduction = "none" }
    given.name = nil
    for key, value in pairs(given) do each[key] = value end
    return Mean { losses.get { name = spec, options = given }, each = losses.get { name = spec, options = each }, name = name }
  end
  local list = names()
  options.raise(("unknown metric %s%s (valid: %s, or a function of predictions and targets)"):format(options.shown(spec),
    options.advice(spec, list), table.concat(list, ", ")))
end

return options.closed(metrics, "nn.metrics")
