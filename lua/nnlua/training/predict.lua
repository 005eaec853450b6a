--- evaluate, predict, train_on_batch and test_on_batch. Methods of every module.
--
-- Owns: passes over data that train nothing, and single batches.

local core = require "nnlua.core"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local single = require("nnlua.policy").single
local compiled = require("nnlua.training.compile").compiled
local batch = require "nnlua.training.batch"
local feed = require "nnlua.training.feed"

local predict = {}

-- Loss and table of figures over all batches.
function predict.evaluate_batches(self, c, ds)
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  batch.reset(c)
  for x, y in feed.batches(self, c, ds) do
    if y == nil then feed.target_missing "evaluate" end
    if self:first_unbuilt() then self:build(x) end
    batch.test(self, c, x, y)
  end
  if c.meters[1].count == 0 then options.raise "evaluate: the data set is empty" end
  local _, logs = batch.figures(c)
  return logs.loss, logs
end

--- Loss and metrics in inference mode: `local loss, m = model:evaluate(test:batch(256))`, or of tensors `model:evaluate(x, y)`.
---@param data table|nnlua.Tensor
---@param y? nnlua.Tensor
---@return number loss, table<string, number> values by name, "loss" among them
function Module:evaluate(data, y)
  local c = compiled(self, "evaluate")
  return predict.evaluate_batches(self, c, feed.dataset("evaluate", self, c, data, y, 256))
end

--- Predictions in inference mode for a data set of batches, or a tensor of samples (of several inputs a list, or a table by name). A model of
--- several outputs gives as many tensors.
---@param data table|nnlua.Tensor
---@param batch_size? integer for a tensor; 256
---@return nnlua.Tensor ...
function Module:predict(data, batch_size)
  local ds = feed.dataset("predict", self, nil, data, nil, batch_size or 256)
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  local parts, count = {}, 0 -- by output, one of each batch
  for x in feed.batches(self, nil, ds) do
    if self:first_unbuilt() then self:build(x) end
    count = count + 1
    do
      local _ <close> = core.scope()
      for i, pred in ipairs { self(batch.beside(self:device(), x)) } do
        parts[i] = parts[i] or {}
        pred = single(pred)
        pred:keep()
        parts[i][count] = pred
      end
    end
    core.eval()
  end
  if count == 0 then options.raise "predict: the data set is empty" end
  for i, list in ipairs(parts) do parts[i] = count == 1 and list[1] or core.cat(list, 1) end
  return table.unpack(parts)
end

--- One step on one batch. Returns its loss and a table of its figures.
---@param x nnlua.Tensor
---@param y nnlua.Tensor
---@return number loss, table<string, number>
function Module:train_on_batch(x, y)
  local c = compiled(self, "train_on_batch")
  batch.prepare(self, c, x)
  local _ <close> = batch.in_mode(self, true)
  batch.reset(c)
  batch.train(self, c, x, y)
  local _, logs = batch.figures(c)
  return logs.loss, logs
end

--- Loss and figures of one batch, in inference mode.
---@param x nnlua.Tensor
---@param y nnlua.Tensor
---@return number loss, table<string, number>
function Module:test_on_batch(x, y)
  local c = compiled(self, "test_on_batch")
  if self:first_unbuilt() then self:build(x) end
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  batch.reset(c)
  batch.test(self, c, x, y)
  local _, logs = batch.figures(c)
  return logs.loss, logs
end

return predict
