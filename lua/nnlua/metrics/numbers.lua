--- Metrics of numbers: RootMeanSquaredError, R2, Perplexity, CosineSimilarity. Every loss is a metric by its name too.
--
-- Owns: their sums.

local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text
local Sums = require("nnlua.metrics.base").Sums
local weighting = require "nnlua.weighting"

local M = {}

local function same(self, pred, target)
  if shape_text(pred:shape()) ~= shape_text(target:shape()) then
    options.raise(("%s: predictions (%s) and targets (%s) must have the same shape"):format(self.name, shape_text(pred:shape()),
      shape_text(target:shape())))
  end
end

-- A metric finish(mean) of values(self, pred, target).
local function define(name, label, spec, values, finish)
  local c = Sums.define(name, label, spec)
  M[name] = c
  function c:update(pred, target, weight) self:add_mean(values(self, pred, target), weight) end
  function c:result() return finish(self:mean()) end
end

-- The root of the mean square of the errors.
define("RootMeanSquaredError", "rmse", {}, function(self, pred, target)
  same(self, pred, target)
  return (pred - target):square()
end, math.sqrt)

-- The cosine between predictions and targets along the last dim: 1 is the same direction.
define("CosineSimilarity", "cosine", {}, function(self, pred, target)
  same(self, pred, target)
  return -require("nnlua.losses").cosine_similarity(pred, target, { reduction = "none" })
end, function(mean) return mean end)

-- e to the mean cross-entropy of class ids: among how many equally likely classes the model chooses.
define("Perplexity", "perplexity", { from_logits = { "boolean", default = false } }, function(self, pred, target)
  return require("nnlua.losses").sparse_categorical_crossentropy(pred, target, { from_logits = self.from_logits, reduction = "none" })
end, math.exp)

--- The share of the targets' variance that predictions explain: 1 is perfect, 0 as good as the mean. The mean over outputs (the last dim).
---@class nnlua.R2: nnlua.Sums
local R2 = Sums.define("R2", "r2", {})
M.R2 = R2

function R2:update(pred, target, weight)
  same(self, pred, target)
  local width = pred:dim() > 1 and pred:size(-1) or 1
  local p, t = pred:reshape { -1, width }, target:reshape { -1, width }
  local rows = pred:shape()
  if #rows > 1 then rows[#rows] = nil end
  local w = weight and weighting.flat(weight, rows):reshape { -1, 1 }
  local function sum(values) return w and (values * w):sum(1) or values:sum(1) end
  if not self.sums.shift then self:add("shift", t:mean(1)) end -- sums of squares are taken about the first batch's mean, so they keep their digits
  local away = t - self.sums.shift:detach()
  self:add("first", sum(away))
  self:add("second", sum(away:square()))
  self:add("errors", sum((p - t):square()))
  if w then self:add("weights", w:sum()) else self.count = self.count + t:size(1) end
end

function R2:reset()
  Sums.reset(self)
  self.sums.shift = nil
end

function R2:result()
  local first, second, errors = self:value "first", self:value "second", self:value "errors"
  local count, sum = self.count + (self:value "weights" or 0), 0
  if not first or count == 0 then return 0 / 0 end
  for i = 1, #first do sum = sum + 1 - errors[i] / (second[i] - first[i] ^ 2 / count) end
  return sum / #first
end

M.RMSE = M.RootMeanSquaredError
return M
