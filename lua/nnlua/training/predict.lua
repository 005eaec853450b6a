--- evaluate, predict, train_on_batch, test_on_batch and predict_on_batch. Methods of every module.
--
-- Owns: passes over data that train nothing, and single batches.

local core = require "nnlua.core"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local Progress = require "nnlua.progress"
local single = require("nnlua.policy").single
local announce = require("nnlua.callbacks.base").announce
local compiled = require("nnlua.training.compile").compiled
local batch = require "nnlua.training.batch"
local feed = require "nnlua.training.feed"
local labels = require "nnlua.training.labels"

local predict = {}

-- ---- options ---------------------------------------------------------------------------------------------------------

local pass_spec = {
  data = { "any", position = 1, required = true }, batch_size = { "integer", default = 256, min = 1 }, steps = { "integer", min = 1 },
  callbacks = { "table", default = {} }, verbose = { "integer", default = 0, min = 0, max = 2 },
}
local function with(more)
  for key, rule in pairs(pass_spec) do more[key] = rule end
  return more
end
local evaluate_spec = with { y = { "tensor|table", position = 2 }, sample_weight = { "tensor|table", position = 3 } }
local predict_spec = with { mc_dropout = { "integer", min = 1 } }

-- Is the first argument all of the options, and not data: a table with names of options in it?
local function is_options(self, given, spec)
  if not options.is_plain(given) or given.iter then return false end
  local inputs = {}
  for _, name in ipairs(rawget(self, "input_names") or {}) do inputs[name] = true end
  for key in next, given do
    if type(key) == "string" and not inputs[key] and (spec[key] or key == "x" or given[1] ~= nil) then return true end
  end
  return false
end

local function options_of(what, self, spec, first, by_place)
  if is_options(self, first, spec) then return options.check(what, options.renamed(what, first, { x = "data" }), spec) end
  by_place[1] = first
  return options.check(what, by_place, spec)
end

-- ---- passes ----------------------------------------------------------------------------------------------------------

--- Loss and table of figures over all batches, or the first `steps`. `o`: steps, callbacks, verbose.
function predict.evaluate_batches(self, c, ds, o)
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  if not o.steps then feed.check_end("evaluate", ds, "steps") end
  local bar = Progress { label = "evaluate", total = o.steps or feed.cardinality(ds), verbose = o.verbose }
  local function figures() return (batch.figures(c)) end
  batch.reset(c)
  announce(o.callbacks, "on_test_begin", self)
  local count = 0
  for b in feed.batches(self, c, ds, o.steps) do
    if b.y == nil then feed.target_missing "evaluate" end
    if self:first_unbuilt() then self:build(batch.beside(self:device(), b.x)) end
    count = count + 1
    announce(o.callbacks, "on_test_batch_begin", self, count)
    batch.test(self, c, b)
    bar:update(figures)
    announce(o.callbacks, "on_test_batch_end", self, count)
  end
  if count == 0 then options.raise "evaluate: the data set is empty" end
  announce(o.callbacks, "on_test_end", self)
  local list, logs = batch.figures(c)
  bar:finish(list)
  return logs.loss, logs
end

--- Loss and metrics in inference mode: `local loss, m = model:evaluate(test:batch(256))`, or of tensors `model:evaluate(x, y)`.
---
--- With options: `model:evaluate{ x, y, sample_weight = w, batch_size = 64 }` or `model:evaluate{ ds, steps = 10, callbacks = {...}, verbose = 1 }`;
--- steps: so many batches only; verbose: 0 nothing (the default), 1 a bar on a terminal and a line, 2 the line.
---@param data table|nnlua.Tensor
---@param y? nnlua.Tensor
---@param sample_weight? nnlua.Tensor
---@return number loss, table<string, number> values by name, "loss" among them
function Module:evaluate(data, y, sample_weight)
  local c = compiled(self, "evaluate")
  local o = options_of("evaluate", self, evaluate_spec, data, { nil, y, sample_weight })
  return predict.evaluate_batches(self, c, feed.dataset("evaluate", self, c, o), o)
end

-- Adds the outputs for a batch to `parts`, by output.
local function add_outputs(self, parts, count, b)
  do
    local _ <close> = core.scope()
    for i, pred in ipairs { self(batch.beside(self:device(), b.x)) } do
      parts[i] = parts[i] or {}
      pred = single(pred)
      pred:keep()
      parts[i][count] = pred
    end
  end
  core.eval()
end

local function one_pass(self, ds, o)
  local parts, count = {}, 0 -- by output, one of each batch
  local bar = Progress { label = "predict", total = o.steps or feed.cardinality(ds), verbose = o.verbose }
  local function figures() return {} end
  for b in feed.batches(self, nil, ds, o.steps) do
    if self:first_unbuilt() then self:build(batch.beside(self:device(), b.x)) end
    count = count + 1
    announce(o.callbacks, "on_predict_batch_begin", self, count)
    add_outputs(self, parts, count, b)
    bar:update(figures)
    announce(o.callbacks, "on_predict_batch_end", self, count)
  end
  if count == 0 then options.raise "predict: the data set is empty" end
  bar:finish {}
  for i, list in ipairs(parts) do parts[i] = count == 1 and list[1] or core.cat(list, 1) end
  return parts
end

-- Switches on what drops at random, and nothing else that training does.
local function let_drop(self)
  for _, entry in ipairs(self:modules()) do
    if getmetatable(entry[2]).__name:find "Dropout" then entry[2].training = true end
  end
end

-- The means of n passes.
local function averaged(self, ds, o)
  let_drop(self)
  local sums
  for _ = 1, o.mc_dropout do
    local parts = one_pass(self, ds, o)
    for i, part in ipairs(parts) do
      parts[i] = sums and sums[i] + part or part
      parts[i]:keep()
    end
    sums = parts
    core.eval()
  end
  for i, sum in ipairs(sums) do sums[i] = sum / o.mc_dropout end
  return sums
end

--- Predictions in inference mode for a data set of batches, or a tensor of samples (of several inputs a list, or a table by name). A model of
--- several outputs gives as many tensors. `predictions:labels()` are the raw labels of the likeliest classes, where the model was trained on a data
--- set with a label encoder.
---
--- With options: `model:predict{ x, batch_size = 64 }`, `model:predict{ ds, steps = 10, callbacks = {...}, verbose = 1 }`; `mc_dropout = n` gives the
--- mean of n passes with dropout at work, as if of n models.
---@param data table|nnlua.Tensor
---@param batch_size? integer for a tensor; 256
---@return nnlua.Tensor ...
function Module:predict(data, batch_size)
  local o = options_of("predict", self, predict_spec, data, { batch_size = batch_size })
  local ds = feed.dataset("predict", self, nil, o)
  if not o.steps then feed.check_end("predict", ds, "steps") end
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  announce(o.callbacks, "on_predict_begin", self)
  local parts = o.mc_dropout and averaged(self, ds, o) or one_pass(self, ds, o)
  announce(o.callbacks, "on_predict_end", self)
  for _, part in ipairs(parts) do labels.remember(part, self) end
  return table.unpack(parts)
end

-- ---- single batches --------------------------------------------------------------------------------------------------

local on_batch_spec = { sample_weight = { "tensor|table", position = 1 }, class_weight = { "table" } }

local function on_batch(what, self, x, y, given)
  local c = compiled(self, what)
  if y == nil then options.raise(what .. ": needs targets: model:" .. what .. "(x, y)") end
  local o = options.check(what, core.is_tensor(given) and { given } or given or {}, on_batch_spec)
  return c, { x = x, y = y, weight = o.sample_weight, classes = batch.class_weights(what, self, c, o.class_weight) }
end

local function figures(c)
  local _, logs = batch.figures(c)
  return logs.loss, logs
end

--- One step on one batch. Returns its loss and a table of its figures. The third value is a tensor of weights of the samples, or options:
--- `model:train_on_batch(x, y, { sample_weight = w, class_weight = { 1, 5 } })`.
---@param x nnlua.Tensor
---@param y nnlua.Tensor
---@param given? nnlua.Tensor|{ sample_weight?: nnlua.Tensor, class_weight?: table }
---@return number loss, table<string, number>
function Module:train_on_batch(x, y, given)
  local c, b = on_batch("train_on_batch", self, x, y, given)
  batch.prepare(self, c, x)
  local _ <close> = batch.in_mode(self, true)
  batch.reset(c)
  batch.train(self, c, b)
  return figures(c)
end

--- Loss and figures of one batch, in inference mode.
---@param x nnlua.Tensor
---@param y nnlua.Tensor
---@param given? nnlua.Tensor|{ sample_weight?: nnlua.Tensor }
---@return number loss, table<string, number>
function Module:test_on_batch(x, y, given)
  local c, b = on_batch("test_on_batch", self, x, y, given)
  if self:first_unbuilt() then self:build(batch.beside(self:device(), x)) end
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  batch.reset(c)
  batch.test(self, c, b)
  return figures(c)
end

--- Predictions for one batch, in inference mode.
---@param x nnlua.Tensor
---@return nnlua.Tensor ...
function Module:predict_on_batch(x)
  if self:first_unbuilt() then self:build(batch.beside(self:device(), x)) end
  local _ <close> = batch.in_mode(self, false)
  local _ <close> = core.no_grad()
  local parts = {}
  add_outputs(self, parts, 1, { x = x })
  for i, list in ipairs(parts) do
    parts[i] = list[1]
    labels.remember(parts[i], self)
  end
  return table.unpack(parts)
end

return predict
