--- Training: compile, fit, evaluate, predict, train_on_batch, test_on_batch; methods of every module.
--
-- Owns: the loop over epochs and batches and what is recorded of it. It is made of the same public pieces as a loop by hand: the call of the
-- module, a loss, an optimizer, metrics.
--
--     local nn = require "nnlua"
--     nn.seed(1)
--     local x = nn.tensor{ {0, 0}, {0, 1}, {1, 0}, {1, 1} }
--     local y = nn.tensor({ 1, 2, 2, 1 }, { dtype = "i64" })
--     local model = nn.Sequential{ nn.Input{2}, nn.Dense{16, activation = "tanh"}, nn.Dense{2} }
--     model:compile{ optimizer = nn.optim.Adam{ lr = 0.05 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
--     local history = model:fit{ x, y, epochs = 60, batch_size = 4, verbose = 0 }
--     local loss, m = model:evaluate(x, y)
--     print(m.accuracy, #history.loss, loss < 0.1)  --> 1.0  60  true
--
-- A step runs inside a scope whose handles expire before the window runs, so exactly what the step must keep is computed, the plan of
-- the first step serves all, and memory stays flat. Sums of losses and hits stay on the device and are read when they are shown.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local losses = require "nnlua.losses"
local metrics = require "nnlua.metrics"
local optim = require "nnlua.optim"
local devices = require "nnlua.device"
local single = require("nnlua.policy").single
local Progress = require "nnlua.progress"

local training = {}

-- What the outside world (a file, a full disk) did: raised as an object, which the program shows as one line without a traceback.
-- It can be searched and joined like the message that it stands for.
local Failure = { __tostring = function(failure) return failure.message end }
function Failure.__concat(a, b) return tostring(a) .. tostring(b) end
function Failure.__index(_, name)
  local method = string[name]
  return method and function(failure, ...) return method(failure.message, ...) end
end
local function fail(text, ...) error(setmetatable({ message = text:format(...) }, Failure), 0) end

-- ---- history ---------------------------------------------------------------------------------------------------------

---@class nnlua.History
--- Values per epoch: `history.loss[3]`, `history.val_accuracy[#history.val_accuracy]`; `history.epoch` numbers them.
local History = class "History"
training.History = History

local reserved = { best = true, names = true, add = true, init = true, isa = true }

function History:init(values)
  self.epoch = {}
  for name, list in pairs(values or {}) do
    if not reserved[name] then self[name] = table.move(list, 1, #list, 1, {}) end
  end
end

--- Names of what was measured, in alphabetical order.
function History:names()
  local names = {}
  for name in pairs(self) do
    if name ~= "epoch" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

function History:add(epoch, logs)
  self.epoch[#self.epoch + 1] = epoch
  for name, value in pairs(logs) do
    if not self[name] then self[name] = {} end
    self[name][#self.epoch] = value
  end
end

--- The epoch with the best value, and the value. Losses and errors are best when small, everything else when large.
---@param name string
---@return integer epoch, number value
function History:best(name)
  local list = not reserved[name] and rawget(self, name)
  if not list then options.raise(("history: there is no %s (measured: %s)"):format(options.shown(name), table.concat(self:names(), ", "))) end
  local small = metrics.lower_is_better(name)
  local at
  for i = 1, #self.epoch do
    local v = list[i]
    if v and v == v and (not at or small and v < list[at] or not small and v > list[at]) then at = i end
  end
  return at and self.epoch[at], at and list[at]
end

function History:__tostring()
  local lines = {}
  for i, epoch in ipairs(self.epoch) do
    local words = { ("epoch %d"):format(epoch) }
    for _, name in ipairs(self:names()) do
      local value = self[name][i] or 0 / 0
      if type(value) == "number" then words[#words + 1] = ("%s %.4f"):format(name, value) end
    end
    lines[i] = table.concat(words, "  ")
  end
  return table.concat(lines, "\n")
end

-- ---- compile ---------------------------------------------------------------------------------------------------------

local compile_spec = {
  optimizer = { "string|table", position = 1, default = "adam" },
  loss = { "string|function|table", position = 2, required = true },
  from_logits = { "boolean|table" },
  loss_weights = { "number|table" },
  metrics = { "table|string|function", default = {} },
}

-- Does any layer? Then gradients vanish without a loss scale.
local function computes_in_f16(module)
  if rawget(module, "compute_dtype") == "f16" then return true end
  for _, child in ipairs(module:children()) do
    if computes_in_f16(child[2]) then return true end
  end
  return false
end

local function is_plain(value) return type(value) == "table" and getmetatable(value) == nil end

-- What `value` says of each output, by place: one value for all, a list, or a table by the names of outputs.
local function per_output(what, value, names, is_one)
  local list = {}
  if value == nil or not is_plain(value) or is_one(value) then
    for i in ipairs(names) do list[i] = value end
    return list
  end
  local known = {}
  for i, name in ipairs(names) do known[name] = i end
  for key, item in next, value do
    local i = known[key] or math.type(key) == "integer" and key
    if not i then
      local near = type(key) == "string" and options.nearest(key, names)
      options.raise(("compile: %s: there is no output %s%s (outputs: %s)"):format(what, options.shown(key),
        near and ('; did you mean "' .. near .. '"?') or "", table.concat(names, ", ")))
    end
    list[i] = item or nil
  end
  if #value > 0 and #value ~= #names then
    options.raise(("compile: %s: a list needs one for each output (%s), got %d; false for none"):format(what, table.concat(names, ", "), #value))
  end
  return list
end

-- { "huber", delta = 2 }, or what losses.get gave for files: one loss with options.
local function is_loss(value)
  for key in next, value do
    if type(key) == "string" and (value[1] or value.name) then return true end
  end
  return false
end

local function is_metric(value) return type(value[1]) == "string" and next(value, #value) ~= nil or value.class_name ~= nil end
local function never() return false end

-- The metrics of one output: a list of meters.
local function meters_of(given)
  local list = {}
  if given == nil then return list end
  local specs = is_plain(given) and not given.update and not is_metric(given) and given or { given }
  for i, spec in ipairs(specs) do list[i] = metrics.get(spec, i) end
  return list
end

-- One output of the model: how it is judged. `name` is nil when it is the only one.
local function new_output(name, loss, from_logits, weight, meters)
  local output = { name = name, weight = weight or 1, meters = meters, from_logits = from_logits }
  if type(output.weight) ~= "number" then options.raise("compile: loss_weights must be numbers, got " .. options.shown(weight)) end
  if loss ~= nil then output.loss, output.loss_name = losses.get(loss, from_logits) end
  return output
end

local function compile_outputs(o, names)
  if #names < 2 then
    local loss, weight = o.loss, o.loss_weights
    if is_plain(loss) and not is_loss(loss) and type(loss[1]) ~= "string" then loss = loss[names[1]] or loss[1] or loss end
    if type(weight) == "table" then weight = weight[1] or weight[names[1]] end
    local given = o.metrics
    if is_plain(given) and names[1] and given[names[1]] then given = given[names[1]] end
    if type(o.from_logits) == "table" then o.from_logits = o.from_logits[names[1]] end
    return { new_output(nil, loss, o.from_logits, weight, meters_of(given)) }
  end
  local loss, logits = per_output("loss", o.loss, names, is_loss), per_output("from_logits", o.from_logits, names, never)
  local weights, given = per_output("loss_weights", o.loss_weights, names, never), per_output("metrics", o.metrics, names, function(value)
    return next(value) == nil or is_metric(value)
  end)
  local list, judged = {}, false
  for i, name in ipairs(names) do
    list[i] = new_output(name, loss[i], loss[i] and logits[i], weights[i], meters_of(given[i]))
    judged = judged or loss[i] ~= nil
  end
  if not judged then options.raise "compile: no output has a loss" end
  return list
end

--- Say how to train: `model:compile{ optimizer = nn.optim.Adam{lr = 1e-3}, loss = "sparse_categorical_crossentropy", from_logits = true,
--- metrics = {"accuracy"} }`. Returns self.
---
--- A model of several outputs takes one loss for all, a list, or a table by their names (`model.output_names`); likewise metrics, loss_weights and
--- from_logits: `loss = { kind = "sparse_categorical_crossentropy", price = "mse" }, loss_weights = { price = 0.1 },
--- metrics = { kind = "accuracy" }`. Figures are then called loss, kind_loss, price_loss, kind_accuracy. Your own module with several results
--- names them in `self.output_names`.
---@param given table
---@return nnlua.Module
function Module:compile(given)
  local o = options.check("compile", given, compile_spec)
  local outputs = compile_outputs(o, rawget(self, "output_names") or {})
  local meters, names, taken, targets = { metrics.Mean { name = "loss" } }, { "loss" }, { loss = true }, {}
  local function add(meter, name)
    if taken[name] then options.raise(("compile: two metrics are called %q"):format(name)) end
    taken[name] = true
    meters[#meters + 1], names[#names + 1] = meter, name
  end
  for _, output in ipairs(outputs) do
    if output.name and output.loss then
      output.meter = metrics.Mean { name = output.name .. "_loss" }
      add(output.meter, output.meter.name)
    end
  end
  for i, output in ipairs(outputs) do
    for _, meter in ipairs(output.meters) do add(meter, output.name and output.name .. "_" .. meter.name or meter.name) end
    if output.loss or #output.meters > 0 then
      targets[#targets + 1] = { name = output.name or (rawget(self, "output_names") or {})[1], output = i }
    end
  end
  local optimizer = optim.get(o.optimizer)
  if optimizer.loss_scale == nil and computes_in_f16(self) then optimizer:use_loss_scale "dynamic" end
  rawset(self, "compiled", { optimizer = optimizer, outputs = outputs, targets = targets, meters = meters, names = names })
  return self
end

local function compiled(self, what)
  local c = rawget(self, "compiled")
  if not c then options.raise(("%s: compile the model first: model:compile{ optimizer = ..., loss = ... }"):format(what)) end
  return c
end

-- ---- one batch -------------------------------------------------------------------------------------------------------

-- A batch where the weights are. Data sets give batches on the CPU; the copy to a device does not wait.
local function beside(device, value)
  if core.is_tensor(value) then return value:device() == device and value or value:to(device) end
  if type(value) ~= "table" then return value end
  local moved = {}
  for key, part in pairs(value) do moved[key] = beside(device, part) end
  return moved
end

-- Parameters must exist, outside any scope, before a step.
local function prepare(self, c, x)
  if self:first_unbuilt() then self:build(beside(self:device(), x)) end
  if not c.optimizer.parameters then c.optimizer:bind(self:parameters()) end
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

local function train_step(self, c, x, y)
  do
    local _ <close> = core.scope() -- the handles made here expire before the step runs: only what lives on is computed
    local device, values = self:device(), {}
    x, y = beside(device, x), targets_of(self, c, beside(device, y))
    local preds = predictions(self, c, x)
    local loss = loss_of(self, c, preds, y, values)
    c.optimizer:zero_grad()
    c.optimizer:scale_loss(loss):backward()
    measure(c, preds, y, loss, values, x)
  end
  c.optimizer:step()
end

-- nn.device "auto": the steps of the trial are those of training, but for the figures, which are not for the history.
local function decide_device(self, c, x, y)
  local trial = { optimizer = c.optimizer, outputs = {}, targets = c.targets, names = c.names, meters = { metrics.Mean { name = "loss" } } }
  for i, output in ipairs(c.outputs) do
    trial.outputs[i] = { name = output.name, weight = output.weight, loss = output.loss, from_logits = output.from_logits, meters = {} }
  end
  devices.trial(self, c.optimizer, function() train_step(self, trial, x, y) end)
end

local function test_step(self, c, x, y)
  do
    local _ <close> = core.scope()
    local device, values = self:device(), {}
    x, y = beside(device, x), targets_of(self, c, beside(device, y))
    local preds = predictions(self, c, x)
    measure(c, preds, y, loss_of(self, c, preds, y, values), values, x)
  end
  core.eval()
end

local function reset(c)
  for _, meter in ipairs(c.meters) do meter:reset() end
  core.eval() -- a step that fails falls back to values from before it, which must be there
end

-- What was measured since reset: a list of { name, value }, and the same as a table by name.
local function figures_of(c)
  local list, logs = {}, {}
  for i, meter in ipairs(c.meters) do
    local name, value = c.names[i], meter:result()
    if type(value) == "number" then list[#list + 1] = { name, value } end -- a table (a confusion matrix) is for the history only
    logs[name] = value
  end
  return list, logs
end

-- Sets the mode for as long as the result is open: `local _ <close> = in_mode(model, false)`.
local function in_mode(self, train)
  local before = self.training
  self:train(train)
  return setmetatable({}, { __close = function() self:train(before) end })
end

-- ---- data ------------------------------------------------------------------------------------------------------------

local function is_dataset(value)
  return (type(value) == "table" or type(value) == "userdata" and not core.is_tensor(value)) and value.iter ~= nil
end

-- How many values of an element are inputs and how many targets; names where there are any.
local function sides_of(self, c)
  local sides = { inputs = rawget(self, "input_names") or {}, targets = {} }
  for i, target in ipairs(c and c.targets or {}) do sides.targets[i] = target.name end
  sides.n, sides.m = math.max(1, #sides.inputs), c and #c.targets or 0
  return sides
end

-- The tensors of `value` in order: it is one, a list, or a table by `names`.
local function tensors_of(what, value, names, count, side)
  if core.is_tensor(value) then value = { value } end
  if not is_plain(value) then
    options.raise(("%s: needs a data set of batches, or tensors x and y, got %s"):format(what, options.shown(value)))
  end
  local list = {}
  for key in next, value do
    local known = math.type(key) == "integer"
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      local near = type(key) == "string" and options.nearest(key, names)
      options.raise(("%s: the model has no %s %s%s (%s)"):format(what, side, options.shown(key), near and ('; did you mean "' .. near .. '"?') or "",
        #names > 0 and side .. "s: " .. table.concat(names, ", ") or "it takes one tensor"))
    end
  end
  for i = 1, math.max(count, #value) do
    list[i] = value[i]
    if list[i] == nil and names[i] then list[i] = value[names[i]] end
    if not core.is_tensor(list[i]) then
      options.raise(("%s: the %s %s must be a tensor, got %s"):format(what, side, names[i] and ("%q"):format(names[i]) or i, options.shown(list[i])))
    end
  end
  if #list ~= count then
    options.raise(("%s: the model has %d %s%s%s, got %d"):format(what, count, side, count == 1 and "" or "s",
      #names > 0 and " (" .. table.concat(names, ", ") .. ")" or "", #list))
  end
  return list
end

-- { x, y } in one table, where y was not given apart: not a list of inputs.
local function is_pair(data, sides)
  if not is_plain(data) then return false end
  return is_plain(data[1]) or is_plain(data[2]) or sides.n == 1 and data[1] ~= nil
end

-- A data set of batches from what the user gave: a data set; x and y; { x, y }. x and y are tensors, lists or tables by name.
local function dataset_of(what, self, c, data, y, batch_size, shuffle)
  if is_dataset(data) then
    if y ~= nil then options.raise(what .. ": a data set brings its own targets; leave out the second value") end
    return data
  end
  local sides = sides_of(self, c)
  if y == nil and is_pair(data, sides) then data, y = data[1], data[2] end
  local list = tensors_of(what, data, sides.inputs, sides.n, "input")
  if y ~= nil and c then
    for i, target in ipairs(tensors_of(what, y, sides.targets, sides.m, "target")) do list[sides.n + i] = target end
  end
  local size = list[1]:size(1)
  for i = 2, #list do
    if list[i]:size(1) ~= size then
      local function call(k)
        if k <= sides.n then return sides.n == 1 and "x" or sides.inputs[k] end
        return sides.m == 1 and "y" or "the target " .. sides.targets[k - sides.n]
      end
      options.raise(("%s: %s has %d samples but %s has %d"):format(what, call(1), size, call(i), list[i]:size(1)))
    end
  end
  local ds = require("nnlua.data").from_tensors(list)
  if shuffle then ds = ds:shuffle(size) end
  return ds:batch(batch_size)
end

-- An element as inputs and targets. Elements are x, y; or tables of tensors; or all tensors one after the other, inputs first.
local function regrouped(sides, ...)
  local x, at = ..., 2
  if x == nil or type(x) ~= "table" and sides.n == 1 and sides.m <= 1 then return ... end
  local count = select("#", ...)
  if type(x) ~= "table" and sides.n > 1 then
    if count < sides.n then options.raise(("the data set gives %d values, the model has %d inputs"):format(count, sides.n)) end
    x, at = table.move({ ... }, 1, sides.n, 1, {}), sides.n + 1
  end
  local y = select(at, ...)
  if y ~= nil and type(y) ~= "table" and sides.m > 1 then
    if count - at + 1 < sides.m then
      options.raise(("the data set gives %d target%s, the model needs %d (%s)"):format(count - at + 1, count == at and "" or "s", sides.m,
        table.concat(sides.targets, ", ")))
    end
    y = table.move({ select(at, ...) }, 1, sides.m, 1, {})
  end
  return x, y
end

-- for x, y in batches(self, c, ds): tensors, or tables of them where there are several.
local function batches(self, c, ds)
  local sides = sides_of(self, c)
  local iterate, state, control, closing = ds:iter()
  if sides.n == 1 and sides.m <= 1 then return iterate, state, control, closing end
  return function() return regrouped(sides, iterate(state, control)) end, nil, nil, closing
end

local function cardinality(ds)
  local n = ds.cardinality and ds:cardinality()
  return type(n) == "number" and n >= 0 and n < math.huge and n or nil
end

local function target_missing(what)
  options.raise(what .. ": the data set gives no targets; its elements must be x and y")
end

-- ---- callbacks -------------------------------------------------------------------------------------------------------

-- A callback is a table with any of the methods that nnlua.callbacks lists, or a function that is called at the end of each epoch.
local function announce(callbacks, event, self, ...)
  for _, callback in ipairs(callbacks) do
    if type(callback) == "function" then
      if event == "on_epoch_end" then callback(self, ...) end
    elseif callback[event] then
      callback[event](callback, self, ...)
    end
  end
end

-- ---- fit -------------------------------------------------------------------------------------------------------------

local fit_spec = {
  data = { "any", position = 1, required = true },
  y = { "tensor|table", position = 2 },
  epochs = { "integer", default = 1, min = 0 },
  batch_size = { "integer", default = 32, min = 1 },
  shuffle = { "boolean", default = true },
  validation = { "table|userdata" },
  initial_epoch = { "integer", min = 0 },
  callbacks = { "table", default = {} },
  verbose = { "integer", default = 1, min = 0, max = 2 },
  save = { "string" },
  resume = { "string" },
}

-- Where training stands, for files. `batch` counts the steps of an epoch that was interrupted; `data` is the state of the data set when that
-- epoch began.
local function standing(c, epoch, batch, data, rng, history, meters)
  return { epoch = epoch, batch = batch, step = c.optimizer.iterations, data = data, rng = rng, history = history, meters = meters }
end

local function save(self, file)
  local ok, message = self:save(file)
  if not ok then fail("fit: %s", tostring(message)) end
end

-- Before hours of work rather than after them.
local function check_folder(file)
  local folder = file:match "^(.*/)[^/]*$" or "."
  if core.sys.file_type(folder) ~= "folder" then fail("fit: cannot save %s: there is no folder %s", file, folder) end
end

-- Load everything from `file`, and put the data set and the random stream where they stood. Returns what standing() gave.
local function resume(self, c, ds, file)
  if self:first_unbuilt() or not c.optimizer.parameters then
    if self:first_unbuilt() then
      local iterate, s, control, _ <close> = ds:iter()
      self:build((iterate(s, control)))
    end
    c.optimizer:bind(self:parameters())
  end
  local ok, message = require("nnlua.checkpoint").restore(self, file)
  if not ok then fail("fit: cannot resume: %s", tostring(message)) end
  local at = rawget(self, "progress")
  if not at then fail("fit: cannot resume: %s holds a model, but not where its training stood", file) end
  if at.data and ds.restore then ds:restore(at.data) end
  if at.rng then core.set_rng_state(at.rng) end
  return at
end

local function is_interrupt(message) return type(message) == "string" and message:find("interrupted", 1, true) ~= nil end

-- One epoch of training from batch `at.batch` on. `at` is kept up to date: it is what can be saved when an error ends the epoch.
local function train_epoch(self, c, ds, bar, o, at)
  local function figures() return (figures_of(c)) end
  local hold = core.sys.hold_interrupt
  local _ <close> = in_mode(self, true)
  local batch = 0
  for x, y in batches(self, c, ds) do
    batch = batch + 1
    if batch > at.batch then -- the steps before are done; the data set was set back to where their epoch began
      if y == nil then target_missing "fit" end
      prepare(self, c, x)
      if devices.undecided() then decide_device(self, c, x, y) end
      if #o.callbacks > 0 then announce(o.callbacks, "on_batch_begin", self, batch) end
      hold(true) -- Ctrl-C does not cut a step in two
      train_step(self, c, x, y)
      at.batch, at.rng = batch, core.rng_state()
      for i, meter in ipairs(c.meters) do at.counts[i] = meter.count end
      hold(false)
      bar:update(figures)
      if #o.callbacks > 0 then announce(o.callbacks, "on_batch_end", self, batch) end
    elseif batch == at.batch then
      core.set_rng_state(at.rng) -- after the draws of the batches that were passed over
    end
    if rawget(self, "stop_training") then break end
  end
  if batch == 0 then options.raise "fit: the data set is empty" end
end

-- What the meters hold after the last whole step.
local function meter_states(c, at)
  local states = {}
  for i, meter in ipairs(c.meters) do
    if meter.state then
      states[i] = meter:state()
      states[i].count = at.counts[i]
    end
  end
  return states
end

-- What callbacks remember, by place: for files.
local function callback_states(callbacks)
  local states = {}
  for i, callback in ipairs(callbacks) do states[i] = type(callback) == "table" and callback.state and callback:state() or false end
  return states
end

local function restore_callbacks(self, callbacks, states)
  for i, callback in ipairs(callbacks) do
    if type(callback) == "table" and callback.set_state and states and states[i] then callback:set_state(states[i], self) end
  end
end

local function check_finite(logs, epoch)
  if logs.loss ~= logs.loss or math.abs(logs.loss) == math.huge then
    options.raise(("fit: the loss of epoch %d is %s; training stopped and the weights are as they were left: lower the learning rate, or look for "
      .. "bad values in the data"):format(epoch, logs.loss ~= logs.loss and "nan" or tostring(logs.loss)))
  end
end

-- One epoch with its validation: a list of figures to show, and a table of them.
local function whole_epoch(self, c, ds, validation, bar, o, at)
  train_epoch(self, c, ds, bar, o, at)
  at.meters = meter_states(c, at) -- validation uses the meters too
  local list, logs = figures_of(c)
  if validation then
    announce(o.callbacks, "on_test_begin", self)
    local _, values = training.evaluate_batches(self, c, validation)
    announce(o.callbacks, "on_test_end", self)
    for i = 1, #list do list[#list + 1] = { "val_" .. list[i][1], values[list[i][1]] } end
    for name, value in pairs(values) do logs["val_" .. name] = value end
  end
  return list, logs
end

-- whole_epoch; when it is interrupted, saves what was asked to be saved and passes the error on.
local function guarded_epoch(self, c, ds, validation, bar, o, at, history)
  local ok, list, logs = pcall(whole_epoch, self, c, ds, validation, bar, o, at)
  core.sys.hold_interrupt(false)
  if ok then return list, logs end
  local message = list
  local interrupted = core.sys.clear_interrupt() or is_interrupt(message) -- what follows must not be stopped too
  bar:clear()
  if o.save and interrupted and at.batch > 0 then
    rawset(self, "progress", standing(c, at.epoch, at.batch, at.data, at.rng, history, at.meters or meter_states(c, at)))
    self.progress.callbacks = callback_states(o.callbacks)
    save(self, o.save)
  end
  error(message, 0)
end

--- Train for `epochs` epochs: `model:fit{ train:shuffle(10000):batch(128), epochs = 5, validation = test:batch(256) }` or
--- `model:fit{ x, y, epochs = 5, batch_size = 32 }`.
---
--- Options: validation (a data set of batches, or {x, y}), callbacks, verbose (0 nothing, 1 bar on a terminal, 2 one line per epoch), initial_epoch,
--- shuffle and batch_size (for tensors), save (a file, written after each epoch and on Ctrl-C), resume (a file to go on from; epochs counts
--- from the very beginning). Returns the history.
---@param given table
---@return nnlua.History
function Module:fit(given)
  local o = options.check("fit", given, fit_spec)
  local c = compiled(self, "fit")
  announce(o.callbacks, "on_fit", self, o)
  local ds = dataset_of("fit", self, c, o.data, o.y, o.batch_size, o.shuffle)
  local validation = o.validation and dataset_of("fit: validation", self, c, o.validation, nil, 256)
  if o.save then check_folder(o.save) end
  local from = o.resume and resume(self, c, ds, o.resume) or { epoch = o.initial_epoch or 0, batch = 0 }
  local history = History(from.history)
  rawset(self, "history", history)
  if ds.labels then rawset(self, "labels", ds.labels) end -- what class ids stand for goes with the model, into files too
  rawset(self, "stop_training", false)
  restore_callbacks(self, o.callbacks, from.callbacks)
  announce(o.callbacks, "on_train_begin", self)
  for epoch = from.epoch + 1, o.epochs do
    local at = { epoch = epoch - 1, batch = from.batch or 0, rng = from.rng, data = ds.state and ds:state(), counts = {} }
    local bar = Progress { label = ("epoch %d/%d"):format(epoch, o.epochs), total = cardinality(ds), verbose = o.verbose }
    bar:skip(at.batch)
    reset(c)
    for i, state in ipairs(at.batch > 0 and from.meters or {}) do c.meters[i]:set_state(state) end
    for i, meter in ipairs(c.meters) do at.counts[i] = meter.count end
    announce(o.callbacks, "on_epoch_begin", self, epoch)
    local list, logs = guarded_epoch(self, c, ds, validation, bar, o, at, history)
    from = {}
    bar:finish(list)
    if not self.stop_training then check_finite(logs, epoch) end
    history:add(epoch, logs)
    announce(o.callbacks, "on_epoch_end", self, epoch, logs)
    rawset(self, "progress", standing(c, epoch, 0, ds.state and ds:state(), core.rng_state(), history))
    self.progress.callbacks = callback_states(o.callbacks)
    if o.save then save(self, o.save) end
    announce(o.callbacks, "on_epoch_saved", self, epoch, logs)
    if self.stop_training then break end
  end
  announce(o.callbacks, "on_train_end", self)
  return history
end

-- ---- evaluate and predict --------------------------------------------------------------------------------------------

-- Loss and table of figures over all batches.
function training.evaluate_batches(self, c, ds)
  local _ <close> = in_mode(self, false)
  local _ <close> = core.no_grad()
  reset(c)
  for x, y in batches(self, c, ds) do
    if y == nil then target_missing "evaluate" end
    if self:first_unbuilt() then self:build(x) end
    test_step(self, c, x, y)
  end
  if c.meters[1].count == 0 then options.raise "evaluate: the data set is empty" end
  local _, logs = figures_of(c)
  return logs.loss, logs
end

--- Loss and metrics in inference mode: `local loss, m = model:evaluate(test:batch(256))`, or of tensors `model:evaluate(x, y)`.
---@param data table|nnlua.Tensor
---@param y? nnlua.Tensor
---@return number loss, table<string, number> values by name, "loss" among them
function Module:evaluate(data, y)
  local c = compiled(self, "evaluate")
  return training.evaluate_batches(self, c, dataset_of("evaluate", self, c, data, y, 256))
end

--- Predictions in inference mode for a data set of batches, or a tensor of samples (of several inputs a list, or a table by name). A model of
--- several outputs gives as many tensors.
---@param data table|nnlua.Tensor
---@param batch_size? integer for a tensor; 256
---@return nnlua.Tensor ...
function Module:predict(data, batch_size)
  local ds = dataset_of("predict", self, nil, data, nil, batch_size or 256)
  local _ <close> = in_mode(self, false)
  local _ <close> = core.no_grad()
  local parts, count = {}, 0 -- by output, one of each batch
  for x in batches(self, nil, ds) do
    if self:first_unbuilt() then self:build(x) end
    count = count + 1
    do
      local _ <close> = core.scope()
      for i, pred in ipairs { self(beside(self:device(), x)) } do
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
  prepare(self, c, x)
  local _ <close> = in_mode(self, true)
  reset(c)
  train_step(self, c, x, y)
  local _, logs = figures_of(c)
  return logs.loss, logs
end

--- Loss and figures of one batch, in inference mode.
---@param x nnlua.Tensor
---@param y nnlua.Tensor
---@return number loss, table<string, number>
function Module:test_on_batch(x, y)
  local c = compiled(self, "test_on_batch")
  if self:first_unbuilt() then self:build(x) end
  local _ <close> = in_mode(self, false)
  local _ <close> = core.no_grad()
  reset(c)
  test_step(self, c, x, y)
  local _, logs = figures_of(c)
  return logs.loss, logs
end

return training
