--- One batch: a step of training, a test, and the figures that they add to. What fit, evaluate and the *_on_batch methods share.
--
-- Owns: from a batch to its loss, gradients, the optimizer's step and the metrics. It is made of the same public pieces as a loop by hand.
-- A step runs inside a scope whose handles expire before the window runs, so exactly what the step must keep is computed, the plan of
-- the first step serves all, and memory stays flat. Sums of losses and hits stay on the device and are read when they are shown.
--
-- A batch is a table { x =, y =, weight =, classes = }: tensors, or tables of them where there are several inputs or targets; weight: nil, or how
-- much samples (or steps) count; classes: nil, or by output the weights of its classes (class_weights below).

local core = require "nnlua.core"
local options = require "nnlua.options"
local metrics = require "nnlua.metrics"
local masks = require "nnlua.mask"
local weighting = require "nnlua.weighting"
local devices = require "nnlua.device"
local single = require("nnlua.policy").single

local is_plain = options.is_plain
local batch = {}

--- Parameters must exist, outside any scope, before a step.
function batch.prepare(self, c, x)
  if self:first_unbuilt() then self:build(batch.beside(self:device(), x)) end
  if not c.optimizer.parameters then c.optimizer:bind(self:parameters()) end
end

--- A batch where the weights are. Data sets give batches on the CPU; the copy to a device does not wait.
function batch.beside(device, value)
  if core.is_tensor(value) then return value:device() == device and value or value:to(device) end
  if type(value) ~= "table" then return value end
  local moved = {}
  for key, part in pairs(value) do moved[key] = batch.beside(device, part) end
  return moved
end

-- The targets by output, from what a batch brought. A model with one output takes them as they are: its loss may want a table.
local function targets_of(self, c, y)
  local outputs = c.outputs
  if #outputs == 1 then
    local name = (rawget(self, "output_names") or {})[1]
    if name and is_plain(y) and (y[name] ~= nil or #y == 1) then y = y[name] or y[1] end
    return { y }
  end
  local list = {}
  for i, target in ipairs(c.targets) do
    if is_plain(y) then
      list[target.output] = y[target.name]
      if list[target.output] == nil then list[target.output] = y[i] end
    end
    if list[target.output] == nil then
      options.raise(("the targets of the output %q are missing; they are a list or a table by name (%s)"):format(target.name,
        table.concat(rawget(self, "output_names"), ", ")))
    end
  end
  return list
end

-- The results of the model for a batch, checked against what compile() was told.
local function predictions(self, c, x)
  local list = table.pack(self(x))
  if list.n < #c.outputs then
    options.raise(("the model gave %d results, but output_names has %d"):format(list.n, #c.outputs))
  end
  return list
end

-- ---- weights ---------------------------------------------------------------------------------------------------------

-- The weights of samples by output, from what a batch brought: one tensor for all, a list by target, or a table by their names.
local function sample_weights(c, given)
  local list = {}
  for i, target in ipairs(given ~= nil and c.targets or {}) do
    if core.is_tensor(given) then
      list[target.output] = given
    elseif is_plain(given) then
      list[target.output] = given[target.name] or given[i]
    else
      options.raise("sample_weight: needs a tensor, or a table of them by target, got " .. options.shown(given))
    end
  end
  return list
end

-- Class ids of targets: these are ids, one-hot rows, or for a prediction of yes or no 0 and 1, which are classes 1 and 2.
local function class_ids(pred, y)
  local classes = pred:size(-1)
  if classes == 1 then
    if y:dim() == pred:dim() then y = y:squeeze(-1) end
    return y:gt(0.5):long() + 1, 2
  elseif y:dim() == pred:dim() then
    y = y:size(-1) == classes and y:argmax(-1) or y:squeeze(-1)
  end
  return y:long(), classes
end

-- The weight of each sample by its class: `list` holds weights by class id, 1 where there is none.
local function class_weights(list, pred, y)
  local ids, classes = class_ids(pred, y)
  local weights = {}
  for i = 1, classes do weights[i] = list[i] or 1 end
  for id in pairs(list) do
    if id > classes then options.raise(("class_weight: there is no class %d, the model has %d"):format(id, classes)) end
  end
  local bad = ids:clamp(1, classes) -- a class id out of range is the loss's to tell
  return core.tensor(weights, { dtype = "f32" }):take(bad)
end

-- Weights by class id, of keys that are ids or raw labels.
local function by_id(what, self, given)
  local list, encoder = {}, rawget(self, "labels")
  for key, value in next, given do
    local id = math.type(key) == "integer" and key or encoder and encoder.ids[key]
    if type(value) ~= "number" or value < 0 then
      options.raise(("%s: class_weight[%s] must be a number of at least 0, got %s"):format(what, options.shown(key), options.shown(value)))
    elseif not id or id < 1 then
      options.raise(("%s: class_weight: there is no class %s; keys are class ids (from 1)%s"):format(what, options.shown(key),
        encoder and " or labels of the data set" or ""))
    end
    list[id] = value
  end
  return list
end

--- What `class_weight` says, by output: weights by class id; nil for nil. It is a table by class id or raw label, of a model with several outputs a
--- table of these by the names of outputs.
function batch.class_weights(what, self, c, given)
  if not given then return nil end
  if #c.outputs == 1 then return { by_id(what, self, given) } end
  local list, names = {}, {}
  for i, output in ipairs(c.outputs) do
    names[i] = output.name
    local own = given[output.name]
    if own ~= nil and not is_plain(own) then options.raise(("%s: class_weight.%s must be a table"):format(what, output.name)) end
    list[i] = own and by_id(what, self, own)
  end
  for key in next, given do
    local known = false
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      options.raise(("%s: class_weight: there is no output %s (outputs: %s)"):format(what, options.shown(key), table.concat(names, ", ")))
    end
  end
  return list
end

-- By output the weight of each sample: its own times that of its class; nil where there are none.
local function weights_of(c, given, classes, preds, y)
  local list = sample_weights(c, given)
  for i, by_class in pairs(classes or {}) do
    local _ <close> = core.here(preds[i])
    list[i] = weighting.product(list[i], class_weights(by_class, preds[i], y[i]))
  end
  return list
end

-- ---- losses and figures ----------------------------------------------------------------------------------------------

-- The losses of the outputs, weighted, with what the regularizers of the layers add. `values` receives the loss of each output.
local function loss_of(self, c, preds, y, weights, values)
  local total
  for i, output in ipairs(c.outputs) do
    if output.loss then
      local loss = output.loss(preds[i], y[i], weights[i])
      if type(loss) ~= "userdata" then options.raise("the loss function must return a tensor, got " .. options.shown(loss)) end
      values[i] = loss
      if output.weight ~= 1 then loss = loss * output.weight end
      total = total and total + loss or loss
    end
  end
  local penalty = self:regularization()
  return penalty and total + penalty or total
end

-- What a batch gives: the loss; and by output predictions, targets, losses, and the weights for weighted metrics.
local function judged(self, c, b)
  local device, values = self:device(), {}
  local x, y = batch.beside(device, b.x), targets_of(self, c, batch.beside(device, b.y))
  local preds = predictions(self, c, x)
  local weights = weights_of(c, batch.beside(device, b.weight), b.classes, preds, y)
  local loss = loss_of(self, c, preds, y, weights, values)
  for i, output in ipairs(c.outputs) do
    weights[i] = #output.weighted > 0 and weighting.product(masks.of(preds[i]), weights[i]) or nil
  end
  return loss, preds, y, values, weights
end

-- Records what is measured of a batch.
local function measure(c, b, loss, preds, y, values, weights)
  local _ <close> = core.no_grad()
  local first = b.x
  if type(first) == "table" then first = select(2, next(first)) end
  local n = first:size(1)
  c.meters[1]:add(loss, n)
  for i, output in ipairs(c.outputs) do
    if output.meter then output.meter:add(values[i], n) end
    if #output.meters + #output.weighted > 0 then
      local seen = single(preds[i]):detach()
      for _, meter in ipairs(output.meters) do meter:update(seen, y[i]) end
      for _, meter in ipairs(output.weighted) do meter:update(seen, y[i], weights[i]) end
    end
  end
end

-- compile{ jit = true }: all of a step but its figures, as a function that is recorded once and replayed.
local function replayed(self, c)
  local function step(x, y, weight, classes)
    local results = table.pack(judged(self, c, { x = x, y = y, weight = weight, classes = classes }))
    c.optimizer:zero_grad()
    c.optimizer:scale_loss(results[1]):backward()
    c.optimizer:step()
    return table.unpack(results, 1, results.n)
  end
  return require("nnlua.jit").jit(step)
end

--- One step of training. With `c.guard` (TerminateOnNaN) the loss and the gradients are looked at first; the step ends there where it says so.
function batch.train(self, c, b)
  local replay, guard = c.jit and not c.observed and not c.guard, c.guard
  do
    local _ <close> = core.scope() -- the handles made here expire before the step runs: only what lives on is computed
    if replay then
      c.step = c.step or replayed(self, c)
      measure(c, b, c.step(b.x, b.y, b.weight, b.classes))
    else
      local loss, preds, y, values, weights = judged(self, c, b)
      c.optimizer:zero_grad()
      c.optimizer:scale_loss(loss):backward()
      measure(c, b, loss, preds, y, values, weights)
      if guard and not guard(self, c, loss, b) then return c.optimizer:zero_grad() end
    end
  end
  if replay then core.eval() else c.optimizer:step() end
end

--- nn.device "auto": the steps of the trial are those of training, but for the figures, which are not for the history.
function batch.decide_device(self, c, b)
  local trial = { optimizer = c.optimizer, outputs = {}, targets = c.targets, names = c.names, meters = { metrics.Mean { name = "loss" } } }
  for i, output in ipairs(c.outputs) do
    trial.outputs[i] = { name = output.name, weight = output.weight, loss = output.loss, from_logits = output.from_logits, meters = {},
      weighted = {} }
  end
  devices.trial(self, c.optimizer, function() batch.train(self, trial, b) end)
end

--- Measure a batch.
function batch.test(self, c, b)
  do
    local _ <close> = core.scope()
    measure(c, b, judged(self, c, b))
  end
  core.eval()
end

--- Begin to measure anew.
function batch.reset(c)
  for _, meter in ipairs(c.meters) do meter:reset() end
  core.eval() -- a step that fails falls back to values from before it, which must be there
end

--- What was measured since reset: a list of { name, value }, and the same as a table by name.
function batch.figures(c)
  local list, logs = {}, {}
  for i, meter in ipairs(c.meters) do
    local name, value = c.names[i], meter:result()
    if type(value) == "number" then list[#list + 1] = { name, value } end -- a table (a confusion matrix) is for the history only
    logs[name] = value
  end
  return list, logs
end

--- Sets the mode for as long as the result is open: `local _ <close> = in_mode(model, false)`.
function batch.in_mode(self, train)
  local before = self.training
  self:train(train)
  return setmetatable({}, { __close = function() self:train(before) end })
end

return batch
