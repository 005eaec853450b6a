--- Metrics of classes: Precision, Recall, F1, FBeta, ConfusionMatrix, MeanIoU, IoU, TopK, BinaryAccuracy, AUC.
--
-- Owns: their counts and ratios. Predictions are rows of scores (..., classes) with class ids or one-hot rows as targets, or, with a last dim of 1 or
-- one dim only, probabilities of "yes"; with from_logits these are scores before the sigmoid.

local core = require "nnlua.core"
local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text
local Sums = require("nnlua.metrics.base").Sums
local weighting = require "nnlua.weighting"

local M = {}

local function floats(x) return x:dtype() == "f32" and x or x:float() end

local function chances(self, pred) return self.from_logits and pred:sigmoid() or pred end

-- Is this a question of yes and no?
local function yes_or_no(pred) return pred:dim() == 1 or pred:size(-1) == 1 end

-- A weight for each row of marks(), as a column; nil without weights.
local function row_weights(pred, weight)
  if not weight then return nil end
  local rows = pred:shape()
  if not yes_or_no(pred) then rows[#rows] = nil end
  return weighting.flat(weight, rows):reshape { -1, 1 }
end

local function weighted(values, weight) return weight and values * weight or values end

-- Class ids (N) of predictions and of targets, and the number of classes.
local function ids_of(self, pred, target)
  local classes = pred:size(-1)
  if pred:dim() == target:dim() and target:size(-1) == classes then
    target = target:argmax(-1)
  elseif pred:numel() ~= target:numel() * classes then
    options.raise(("%s: predictions (%s) need class ids or one-hot rows, got targets (%s)"):format(self.name, shape_text(pred:shape()),
      shape_text(target:shape())))
  end
  local dtype = target:dtype()
  if dtype ~= "i64" and dtype ~= "i32" then target = target:long() end
  return pred:argmax(-1):reshape { -1 }, target:reshape { -1 }, classes
end

-- 1 where a class is predicted, and where it is true: two tensors (N, classes); (N, 1) for yes and no.
local function marks(self, pred, target)
  if yes_or_no(pred) then
    if pred:numel() ~= target:numel() then
      options.raise(("%s: predictions (%s) and targets (%s) must have as many elements"):format(self.name, shape_text(pred:shape()),
        shape_text(target:shape())))
    end
    return chances(self, pred):reshape { -1, 1 }:gt(self.threshold):float(), floats(target):reshape { -1, 1 }:gt(0.5):float()
  end
  local found, true_ids, classes = ids_of(self, pred, target)
  return found:one_hot(classes), true_ids:one_hot(classes)
end

-- ---- ratios of counts per class --------------------------------------------------------------------------------------

local function ratio_options(more)
  local spec = {
    average = { "string", default = "macro", choices = { "macro", "micro", "none" } }, class_id = { "integer", min = 1 },
    threshold = { "number", default = 0.5 }, from_logits = { "boolean", default = false },
  }
  for key, rule in pairs(more or {}) do spec[key] = rule end
  return spec
end

-- thresholds and top_k of precision and recall.
local pooled_options = { thresholds = { "number|table" }, top_k = { "integer", min = 1 } }

-- Does it count as Keras's precision and recall do: every element of the predictions is a question of yes and no?
local function pooled(self) return self.thresholds ~= nil or self.top_k ~= nil end

-- The sums of pooled counts, (thresholds): predictions above each threshold, and among the top_k of their row.
local function add_pooled(self, pred, target, weight)
  local scores, truth = chances(self, pred), target
  if yes_or_no(pred) or pred:numel() == target:numel() then
    if pred:numel() ~= target:numel() then
      options.raise(("%s: predictions (%s) and targets (%s) must have as many elements"):format(self.name, shape_text(pred:shape()),
        shape_text(target:shape())))
    end
  else
    local _, ids, classes = ids_of(self, pred, target)
    truth = ids:one_hot(classes)
  end
  local classes = yes_or_no(pred) and 1 or pred:size(-1)
  scores, truth = scores:reshape { -1, classes }, floats(truth):reshape { -1, classes }
  local kept, w = core.ones_like(scores), row_weights(pred, weight)
  if self.top_k then
    local _, best = scores:topk(math.min(self.top_k, classes), 2)
    kept = best:one_hot(classes):sum(2)
  end
  if w then w = core.ones_like(scores) * w end
  local function column(x) -- of the class asked for, or of all, as one column
    if self.class_id and self.class_id > classes then
      options.raise(("%s: class_id = %d, and there are %d classes"):format(self.name, self.class_id, classes))
    end
    return (self.class_id and x:narrow(2, self.class_id, 1) or x):reshape { -1, 1 }
  end
  local limits = type(self.thresholds) == "table" and self.thresholds or { self.thresholds or -math.huge }
  local found = column(scores):gt(core.tensor(limits, { dtype = "f32" }):to(pred:device())):float() * column(kept)
  truth, w = column(truth) * core.ones_like(found), w and column(w)
  self:add("both", weighted(found * truth, w):sum(1))
  self:add("found", weighted(found, w):sum(1))
  self:add("truth", weighted(truth, w):sum(1))
  self.count = self.count + found:size(1)
end

-- Of classes: "macro" is the mean over the classes that occur, "micro" counts all samples alike, "none" gives a table by class.
local function define_ratio(name, label, spec, over, under)
  local c = Sums.define(name, label, ratio_options(spec))
  M[name] = c

  function c:update(pred, target, weight)
    if pooled(self) then return add_pooled(self, pred, target, weight) end
    local found, truth = marks(self, pred, target)
    local w = row_weights(pred, weight)
    self:add("both", weighted(found * truth, w):sum(1))
    self:add("found", weighted(found, w):sum(1))
    self:add("truth", weighted(truth, w):sum(1))
    self.count = self.count + found:size(1)
  end

  local function ratio(self, both, found, truth)
    local below = under(self, both, found, truth)
    return below > 0 and over(self, both, found, truth) / below or 0
  end

  function c:result()
    local both, found, truth = self:value "both", self:value "found", self:value "truth"
    if not both then return 0 / 0 end
    local each, sum, n, total = {}, 0, 0, { 0, 0, 0 }
    for i = 1, #both do
      each[i] = ratio(self, both[i], found[i], truth[i])
      if found[i] + truth[i] > 0 then sum, n = sum + each[i], n + 1 end
      for k, list in ipairs { both, found, truth } do total[k] = total[k] + list[i] end
    end
    if pooled(self) then return type(self.thresholds) == "table" and each or each[1] end
    if self.class_id then return each[self.class_id] or 0 / 0 end
    if self.average == "none" then return each end
    if self.average == "micro" or #each == 1 then return ratio(self, table.unpack(total)) end
    return n > 0 and sum / n or 0
  end
end

local function both_of(_, both) return both end
-- Of what is said to be of a class, the share that is. With `thresholds` (a number, or a list that gives a list) or `top_k` it is Keras's: each
-- element of the predictions says yes when it is above the threshold and among the top_k of its row, and all of them, or those of class_id, are
-- counted alike.
define_ratio("Precision", "precision", pooled_options, both_of, function(_, _, found) return found end)
-- Of what is of a class, the share that is found; `thresholds` and `top_k` as of Precision.
define_ratio("Recall", "recall", pooled_options, both_of, function(_, _, _, truth) return truth end)
-- The harmonic mean of precision and recall.
define_ratio("F1", "f1", {}, function(_, both) return 2 * both end, function(_, _, found, truth) return found + truth end)
-- F1 with recall beta times as important as precision.
define_ratio("FBeta", "fbeta", { beta = { "number", position = 1, default = 1, above = 0 } },
  function(self, both) return (1 + self.beta ^ 2) * both end, function(self, _, found, truth) return found + self.beta ^ 2 * truth end)

-- ---- the confusion matrix --------------------------------------------------------------------------------------------

--- How often a class (row) is taken for a class (column): result() is a table of rows of integers; of sums of weights, where there are weights.
---@class nnlua.ConfusionMatrix: nnlua.Sums
local ConfusionMatrix = Sums.define("ConfusionMatrix", "confusion_matrix", {
  threshold = { "number", default = 0.5 }, from_logits = { "boolean", default = false } })
M.ConfusionMatrix = ConfusionMatrix

function ConfusionMatrix:update(pred, target, weight)
  local found, truth = marks(self, pred, target)
  if found:size(2) == 1 then found, truth = core.cat({ 1 - found, found }, 2), core.cat({ 1 - truth, truth }, 2) end
  self:add("matrix", weighted(truth, row_weights(pred, weight)):transpose(1, 2):matmul(found))
  self.count = self.count + found:size(1)
end

function ConfusionMatrix:result()
  local matrix = self:value "matrix" or {}
  for _, row in ipairs(matrix) do
    for j = 1, #row do row[j] = math.tointeger(row[j]) or row[j] end -- f32 counts are whole numbers
  end
  return matrix
end

--- The mean over classes of |both| / |either|, of what is predicted and what is true; "none" gives a table by class.
---@class nnlua.MeanIoU: nnlua.Sums
local average, threshold = { "string", default = "macro", choices = { "macro", "none" } }, { "number", default = 0.5 }
local MeanIoU = Sums.define("MeanIoU", "mean_iou", { average = average, threshold = threshold, from_logits = { "boolean", default = false } })
M.MeanIoU = MeanIoU
MeanIoU.update = ConfusionMatrix.update

-- |both| / |either| of each class of `list` (all), and their mean over those that are there.
local function overlaps(matrix, list)
  local each, sum, n = {}, 0, 0
  for k = 1, list and #list or #matrix do
    local i = list and list[k] or k
    local either = -matrix[i][i]
    for j = 1, #matrix do either = either + matrix[i][j] + matrix[j][i] end
    each[k] = either > 0 and matrix[i][i] / either or 0
    if either > 0 then sum, n = sum + each[k], n + 1 end
  end
  return each, n > 0 and sum / n or 0 / 0
end

function MeanIoU:result()
  local matrix = self:value "matrix"
  if not matrix then return 0 / 0 end
  local each, mean = overlaps(matrix)
  return self.average == "none" and each or mean
end

--- MeanIoU of the classes in target_class_ids only (of all, when there are none): `nn.metrics.IoU{ {2} }`.
---@class nnlua.IoU: nnlua.Sums
local IoU = Sums.define("IoU", "iou", { target_class_ids = { "table", position = 1 }, average = average, threshold = threshold,
  from_logits = { "boolean", default = false } })
M.IoU = IoU
IoU.update = ConfusionMatrix.update

function IoU:result()
  local matrix = self:value "matrix"
  if not matrix then return 0 / 0 end
  for _, id in ipairs(self.target_class_ids or {}) do
    if not matrix[id] then options.raise(("%s: there is no class %s of %d"):format(self.name, options.shown(id), #matrix)) end
  end
  local each, mean = overlaps(matrix, self.target_class_ids)
  return self.average == "none" and each or mean
end

-- ---- shares of samples -----------------------------------------------------------------------------------------------

-- A metric that is the mean of what hits(self, pred, target) gives per sample, in a row; by_classes: a sample is a row of scores.
local function define_share(name, label, spec, by_classes, hits)
  local c = Sums.define(name, label, spec)
  M[name] = c
  function c:update(pred, target, weight)
    local samples = pred:shape()
    if by_classes then samples[#samples] = nil end
    self:add_mean(hits(self, pred, target), weight and weighting.flat(weight, samples))
  end
  function c:result() return self:mean() end
end

-- The share of samples whose class is among the k with the largest scores.
define_share("TopK", "top_k", { k = { "integer", position = 1, default = 5, min = 1 } }, true, function(self, pred, target)
  local _, ids, classes = ids_of(self, pred, target)
  local scores = pred:reshape { -1, classes }
  local own = (scores * ids:one_hot(classes)):sum(2, true)
  return scores:gt(own):float():sum(2):lt(self.k):float()
end)

-- The share of right answers to yes or no, by a threshold.
define_share("BinaryAccuracy", "binary_accuracy", {
  threshold = { "number", default = 0.5 }, from_logits = { "boolean", default = false },
}, false, function(self, pred, target)
  return chances(self, pred):reshape { -1 }:gt(self.threshold):eq(floats(target):reshape { -1 }:gt(0.5)):float()
end)

-- ---- areas under curves ----------------------------------------------------------------------------------------------

--- The area under the curve of true against false alarms ("roc"), or of precision against recall ("pr"), at so many thresholds between 0 and 1,
--- as Keras computes it, or at the `thresholds` of a list and both ends. 0.5 is chance for "roc". summation_method: the height between two thresholds
--- is their mean ("interpolation", which for "pr" follows the counts), the smaller ("minoring") or the larger ("majoring").
---@class nnlua.AUC: nnlua.Sums
local AUC = Sums.define("AUC", "auc", {
  num_thresholds = { "integer", default = 200, min = 3 }, curve = { "string", default = "roc", choices = { "roc", "pr" } },
  from_logits = { "boolean", default = false }, thresholds = { "table" },
  summation_method = { "string", default = "interpolation", choices = { "interpolation", "minoring", "majoring" } } })
M.AUC = AUC

function AUC:checked()
  if self.thresholds and #self.thresholds == 0 then options.raise(("%s: thresholds is an empty list"):format(self.name)) end
  local list = { -1e-7 } -- all say yes at the first, none at the last
  if self.thresholds then
    for i, v in ipairs(self.thresholds) do
      if type(v) ~= "number" or not (v >= 0 and v <= 1) then
        options.raise(("%s: thresholds[%d] is %s; it must be a number from 0 to 1"):format(self.name, i, options.shown(v)))
      end
      list[i + 1] = v
    end
    table.sort(list)
  else
    local last = self.num_thresholds - 1
    for i = 1, last - 1 do list[i + 1] = i / last end
  end
  list[#list + 1] = 1 + 1e-7
  self.limits = core.tensor(list, { dtype = "f32" })
  self.limits:keep()
end

function AUC:update(pred, target, weight)
  if pred:numel() ~= target:numel() then
    options.raise(("%s: predictions (%s) and targets (%s) must have as many elements"):format(self.name, shape_text(pred:shape()),
      shape_text(target:shape())))
  end
  if self.limits:device() ~= pred:device() then core.move(self.limits, pred:device()) end
  local over = chances(self, pred):reshape { -1, 1 }:gt(self.limits):float()
  local truth = floats(target):reshape { -1, 1 }
  local w = weight and weighting.flat(weight, pred:shape()):reshape { -1, 1 }
  self:add("right", weighted(over * truth, w):sum(1))
  self:add("wrong", weighted(over * (1 - truth), w):sum(1))
  self:add("yes", weighted(truth, w):sum())
  self:add("no", weighted(1 - truth, w):sum())
  self.count = self.count + pred:numel()
end

-- Trapezoids.
local function roc(right, wrong, yes, no)
  local area = 0
  for i = 1, #right - 1 do area = area + (wrong[i] - wrong[i + 1]) / no * (right[i] + right[i + 1]) / (2 * yes) end
  return area
end

-- Davis and Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006: between two thresholds counts grow in a line, precision
-- does not.
local function pr(right, wrong, yes)
  local area = 0
  for i = 1, #right - 1 do
    local here, after = right[i] + wrong[i], right[i + 1] + wrong[i + 1]
    local slope = here > after and (right[i] - right[i + 1]) / (here - after) or 0
    local offset = right[i + 1] - slope * after
    local ratio = here > 0 and after > 0 and here / after or 1
    area = area + slope * (right[i] - right[i + 1] + offset * math.log(ratio)) / yes
  end
  return area
end

-- Between two thresholds the height is the smaller of theirs, or the larger.
local function stairs(self, right, wrong, yes, no)
  local pick, area = self.summation_method == "minoring" and math.min or math.max, 0
  local function point(i)
    local recall = right[i] / yes
    if self.curve == "roc" then return wrong[i] / no, recall end
    local said = right[i] + wrong[i]
    return recall, said > 0 and right[i] / said or 0
  end
  for i = 1, #right - 1 do
    local x, y = point(i)
    local after, height = point(i + 1)
    area = area + (x - after) * pick(y, height)
  end
  return area
end

function AUC:result()
  local yes, no = self:value "yes", self:value "no"
  if not yes or yes == 0 or no == 0 then return 0 / 0 end
  if self.summation_method ~= "interpolation" then return stairs(self, self:value "right", self:value "wrong", yes, no) end
  return (self.curve == "roc" and roc or pr)(self:value "right", self:value "wrong", yes, no)
end

--- The curve itself: result() is { thresholds =, false_rates =, true_rates = }, lists from the lowest threshold (all say yes) to the highest.
---@class nnlua.ROC: nnlua.Sums
local ROC = Sums.define("ROC", "roc", { num_thresholds = { "integer", default = 200, min = 3 }, from_logits = { "boolean", default = false } })
M.ROC = ROC
ROC.checked, ROC.update = AUC.checked, AUC.update

function ROC:result()
  local yes, no = self:value "yes" or 0, self:value "no" or 0
  local curve = { thresholds = self.limits:totable(), true_rates = self:value "right" or {}, false_rates = self:value "wrong" or {} }
  for i = 1, #curve.true_rates do
    curve.true_rates[i], curve.false_rates[i] = curve.true_rates[i] / yes, curve.false_rates[i] / no
  end
  return curve
end

return M
