--- One batch: a step of training, a test, and the figures that they add to. What fit, evaluate and the *_on_batch methods share.
--
-- Owns: from a batch to its loss, gradients, the optimizer's step and the metrics. It is made of the same public pieces as a loop by hand.
-- A step runs inside a scope whose handles expire before the window runs, so exactly what the step must keep is computed, the plan of
-- the first step serves all, and memory stays flat. Sums of losses and hits stay on the device and are read when they are shown.

local core = require "nnlua.core"
local options = require "nnlua.options"
local metrics = require "nnlua.metrics"
local devices = require "nnlua.device"
local single = require("nnlua.policy").single

local is_plain = options.is_plain
local batch = {}

-- Parameters must exist, outside any scope, before a step.
function batch.prepare(self, c, x)
  if self:first_unbuilt() then self:build(x) end
  if not c.optimizer.parameters then c.optimizer:bind(self:parameters()) end
end

-- A batch where the weights are. Data sets give batches on the CPU; the copy to a device does not wait.
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

-- The losses of the outputs, weighted, with what the regularizers of the layers add. `values` receives the loss of each output.
local function loss_of(self, c, preds, y, values)
  local total
  for i, output in ipairs(c.outputs) do
    if output.loss then
      local loss = output.loss(preds[i], y[i])
      if type(loss) ~= "userdata" then options.raise("the loss function must return a tensor, got " .. options.shown(loss)) end
      values[i] = loss
      if output.weight ~= 1 then loss = loss * output.weight end
      total = total and total + loss or loss
    end
  end
  local penalty = self:regularization()
  return penalty and total + penalty or total
end

-- Records what is measured of a batch.
local function measure(c, preds, y, loss, values, x)
  local _ <close> = core.no_grad()
  local first = x
  if type(x) == "table" then first = select(2, next(x)) end
  local n = first:size(1)
  c.meters[1]:add(loss, n)
  for i, output in ipairs(c.outputs) do
    if output.meter then output.meter:add(values[i], n) end
    if #output.meters > 0 then
      local seen = single(preds[i]):detach()
      for _, meter in ipairs(output.meters) do meter:update(seen, y[i]) end
    end
  end
end

function batch.train(self, c, x, y)
  do
    local _ <close> = core.scope() -- the handles made here expire before the step runs: only what lives on is computed
    local device, values = self:device(), {}
    x, y = batch.beside(device, x), targets_of(self, c, batch.beside(device, y))
    local preds = predictions(self, c, x)
    local loss = loss_of(self, c, preds, y, values)
    c.optimizer:zero_grad()
    c.optimizer:scale_loss(loss):backward()
    measure(c, preds, y, loss, values, x)
  end
  c.optimizer:step()
end

-- nn.device "auto": the steps of the trial are those of training, but for the figures, which are not for the history.
function batch.decide_device(self, c, x, y)
  local trial = { optimizer = c.optimizer, outputs = {}, targets = c.targets, names = c.names, meters = { metrics.Mean { name = "loss" } } }
  for i, output in ipairs(c.outputs) do
    trial.outputs[i] = { name = output.name, weight = output.weight, loss = output.loss, from_logits = output.from_logits, meters = {} }
  end
  devices.trial(self, c.optimizer, function() batch.train(self, trial, x, y) end)
end

function batch.test(self, c, x, y)
  do
    local _ <close> = core.scope()
    local device, values = self:device(), {}
    x, y = batch.beside(device, x), targets_of(self, c, batch.beside(device, y))
    local preds = predictions(self, c, x)
    measure(c, preds, y, loss_of(self, c, preds, y, values), values, x)
  end
  core.eval()
end

function batch.reset(c)
  for _, meter in ipairs(c.meters) do meter:reset() end
  core.eval() -- a step that fails falls back to values from before it, which must be there
end

-- What was measured since reset: a list of { name, value }, and the same as a table by name.
function batch.figures(c)
  local list, logs = {}, {}
  for i, meter in ipairs(c.meters) do
    local name, value = c.names[i], meter:result()
    if type(value) == "number" then list[#list + 1] = { name, value } end -- a table (a confusion matrix) is for the history only
    logs[name] = value
  end
  return list, logs
end

-- Sets the mode for as long as the result is open: `local _ <close> = in_mode(model, false)`.
function batch.in_mode(self, train)
  local before = self.training
  self:train(train)
  return setmetatable({}, { __close = function() self:train(before) end })
end

return batch
