--- fit: epochs of batches, validation, callbacks, and files to go on from. A method of every module.
--
-- Owns: the loop over epochs, what is recorded of it, and where it stands when it is saved.

local core = require "nnlua.core"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local devices = require "nnlua.device"
local Progress = require "nnlua.progress"
local compiled = require("nnlua.training.compile").compiled
local batches = require "nnlua.training.batch"
local feed = require "nnlua.training.feed"
local History = require "nnlua.training.history"
local evaluate_batches = require("nnlua.training.predict").evaluate_batches
local base = require "nnlua.callbacks.base"

local announce = base.announce

-- What the outside world (a file, a full disk) did: raised as an object, which the program shows as one line without a traceback.
-- It can be searched and joined like the message that it stands for.
local Failure = { __tostring = function(failure) return failure.message end }
function Failure.__concat(a, b) return tostring(a) .. tostring(b) end
function Failure.__index(_, name)
  local method = string[name]
  return method and function(failure, ...) return method(failure.message, ...) end
end
local function fail(text, ...) error(setmetatable({ message = text:format(...) }, Failure), 0) end

-- ---- options ---------------------------------------------------------------------------------------------------------

local fit_spec = {
  data = { "any", position = 1, required = true },
  y = { "tensor|table", position = 2 },
  sample_weight = { "tensor|table", position = 3 },
  class_weight = { "table" },
  epochs = { "integer", default = 1, min = 0 },
  batch_size = { "integer", default = 32, min = 1 },
  steps_per_epoch = { "integer", min = 1 },
  shuffle = { "boolean", default = true },
  validation = { "table|userdata" },
  validation_split = { "number", above = 0, below = 1 },
  validation_steps = { "integer", min = 1 },
  validation_freq = { "integer|table", default = 1, min = 1 },
  validation_batch_size = { "integer", default = 256, min = 1 },
  initial_epoch = { "integer", min = 0 },
  callbacks = { "table", default = {} },
  verbose = { "integer", default = 1, min = 0, max = 2 },
  save = { "string" },
  resume = { "string" },
}
local other_names = { x = "data", validation_data = "validation" }

-- The data sets of batches for training and, where there is one, for validation.
local function datasets_of(self, c, o)
  local ds, validation
  if o.validation_split and not o.validation then
    ds, validation = feed.split("fit", self, c, o, o.validation_split)
  else
    ds = feed.dataset("fit", self, c, o)
    validation = o.validation and feed.dataset("fit: validation", self, c, { data = o.validation, batch_size = o.validation_batch_size })
  end
  if not o.steps_per_epoch then feed.check_end("fit", ds, "steps_per_epoch") end
  if validation and not o.validation_steps then feed.check_end("fit", validation, "validation_steps") end
  return ds, validation
end

-- Is there a validation after this epoch?
local function validated(o, epoch)
  if type(o.validation_freq) == "number" then return epoch % o.validation_freq == 0 end
  for _, e in ipairs(o.validation_freq) do
    if e == epoch then return true end
  end
  return false
end

-- ---- files -----------------------------------------------------------------------------------------------------------

-- Where training stands, for files. `batch` counts the steps of an epoch that is not done; `data` is the state of the data set after `data_batch`
-- batches of that epoch (0: as it began; the batches between the two are passed over).
local function standing(c, at, history)
  return { epoch = at.epoch, batch = at.batch, step = c.optimizer.iterations, data = at.data, data_batch = at.data_batch, rng = at.rng,
    history = history, meters = at.meters }
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
      for b in feed.batches(self, c, ds, 1) do self:build(b.x) end
    end
    c.optimizer:bind(self:parameters())
  end
  local checkpoint = require "nnlua.checkpoint"
  local ok, message = (core.sys.file_type(file) == "folder" and checkpoint.restore_newest or checkpoint.restore)(self, file)
  if not ok then fail("fit: cannot resume: %s", tostring(message)) end
  local at = rawget(self, "progress")
  if not at then fail("fit: cannot resume: %s holds a model, but not where its training stood", file) end
  if at.data and ds.restore then ds:restore(at.data) end
  if at.rng then core.set_rng_state(at.rng) end
  return at
end

local function is_interrupt(message) return type(message) == "string" and message:find("interrupted", 1, true) ~= nil end

-- ---- an epoch --------------------------------------------------------------------------------------------------------

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

-- Writes of callbacks in the middle of an epoch: those with on_batch_saved and a field `batches`, after every so many. model.progress stands there.
local function save_batch(self, c, run, at)
  local due = {}
  for _, callback in ipairs(run.o.callbacks) do
    local every = type(callback) == "table" and callback.on_batch_saved and callback.batches
    if every and at.batch % every == 0 then due[#due + 1] = callback end
  end
  if #due == 0 then return end
  local here = setmetatable({ meters = meter_states(c, at) }, { __index = at })
  if at.data then here.data, here.data_batch = run.ds:state(), at.batch end
  rawset(self, "progress", standing(c, here, run.history))
  self.progress.callbacks = callback_states(run.o.callbacks)
  local _, logs = batches.figures(c)
  for _, callback in ipairs(due) do callback:on_batch_saved(self, at.epoch + 1, at.batch, logs) end
end

-- One epoch of training from batch `at.batch` on. `at` is kept up to date: it is what can be saved when an error ends the epoch.
local function train_epoch(self, c, run, bar, at)
  local function figures() return (batches.figures(c)) end
  local hold, o = core.sys.hold_interrupt, run.o
  local _ <close> = batches.in_mode(self, true)
  local batch = at.data_batch
  local iterate, state, control, closing = run.passes and run.passes.take(o.steps_per_epoch - batch)
  if not iterate then iterate, state, control, closing = feed.batches(self, c, run.ds) end
  for b in iterate, state, control, closing do
    batch = batch + 1
    if batch > at.batch then -- the steps before are done; the data set was set back to where their epoch began
      if b.y == nil then feed.target_missing "fit" end
      b.classes = run.classes
      batches.prepare(self, c, b.x)
      if devices.undecided() then batches.decide_device(self, c, b) end
      if #o.callbacks > 0 then announce(o.callbacks, "on_batch_begin", self, batch) end
      hold(true) -- Ctrl-C does not cut a step in two
      batches.train(self, c, b)
      at.batch, at.rng = batch, core.rng_state()
      for i, meter in ipairs(c.meters) do at.counts[i] = meter.count end
      hold(false)
      bar:update(figures)
      if #o.callbacks > 0 then
        announce(o.callbacks, "on_batch_end", self, batch)
        save_batch(self, c, run, at)
      end
    elseif batch == at.batch then
      core.set_rng_state(at.rng) -- after the draws of the batches that were passed over
    end
    if rawget(self, "stop_training") then break end
  end
  if batch == 0 then options.raise "fit: the data set is empty" end
end

local function restore_callbacks(self, callbacks, states)
  for i, callback in ipairs(callbacks) do
    if type(callback) == "table" and callback.set_state and states and states[i] then callback:set_state(states[i], self) end
  end
end

local function is_finite(x) return x == x and math.abs(x) < math.huge end

local function check_finite(logs, epoch)
  if not is_finite(logs.loss) then
    options.raise(("fit: the loss of epoch %d is %s; training stopped and the weights are as they were left: lower the learning rate, or look for "
      .. "bad values in the data"):format(epoch, logs.loss ~= logs.loss and "nan" or tostring(logs.loss)))
  end
end

-- One epoch with its validation: a list of figures to show, and a table of them.
local function whole_epoch(self, c, run, bar, at)
  local o = run.o
  train_epoch(self, c, run, bar, at)
  at.meters = meter_states(c, at) -- validation uses the meters too
  local list, logs = batches.figures(c)
  if run.validation and not validated(o, at.epoch + 1) then
    base.passed_over(logs)
  elseif run.validation then
    local _, values = evaluate_batches(self, c, run.validation, { steps = o.validation_steps, callbacks = o.callbacks, verbose = 0 })
    for i = 1, #list do list[#list + 1] = { "val_" .. list[i][1], values[list[i][1]] } end
    for name, value in pairs(values) do logs["val_" .. name] = value end
  end
  return list, logs
end

-- whole_epoch; when it is interrupted, saves what was asked to be saved and passes the error on.
local function guarded_epoch(self, c, run, bar, at)
  local ok, list, logs = pcall(whole_epoch, self, c, run, bar, at)
  core.sys.hold_interrupt(false)
  if ok then return list, logs end
  local message, o = list, run.o
  local interrupted = core.sys.clear_interrupt() or is_interrupt(message) -- what follows must not be stopped too
  bar:clear()
  if o.save and interrupted and at.batch > 0 and is_finite(c.meters[1]:result()) then
    at.meters = at.meters or meter_states(c, at)
    rawset(self, "progress", standing(c, at, run.history))
    self.progress.callbacks = callback_states(o.callbacks)
    save(self, o.save)
  end
  error(message, 0)
end

-- Epoch `epoch`, and what is told and saved of it. `from` is where a file stood, for the first one.
local function run_epoch(self, c, run, epoch, from, history)
  local o, ds = run.o, run.ds
  local at = { epoch = epoch - 1, batch = from.batch or 0, data_batch = from.data_batch or 0, rng = from.rng, data = ds.state and ds:state(),
    counts = {} }
  local bar = Progress { label = ("epoch %d/%d"):format(epoch, o.epochs), total = o.steps_per_epoch or feed.cardinality(ds), verbose = o.verbose }
  bar:skip(at.batch)
  batches.reset(c)
  for i, state in ipairs(at.batch > 0 and from.meters or {}) do c.meters[i]:set_state(state) end
  for i, meter in ipairs(c.meters) do at.counts[i] = meter.count end
  announce(o.callbacks, "on_epoch_begin", self, epoch)
  local list, logs = guarded_epoch(self, c, run, bar, at)
  bar:finish(list)
  if not self.stop_training then check_finite(logs, epoch) end
  history:add(epoch, logs)
  announce(o.callbacks, "on_epoch_end", self, epoch, logs)
  local done = { epoch = epoch, batch = 0, data_batch = 0, data = ds.state and ds:state(), rng = core.rng_state() }
  rawset(self, "progress", standing(c, done, history))
  self.progress.callbacks = callback_states(o.callbacks)
  if o.save and is_finite(logs.loss) then save(self, o.save) end -- the file keeps the last good state
  announce(o.callbacks, "on_epoch_saved", self, epoch, logs)
end

--- Train for `epochs` epochs: `model:fit{ train:shuffle(10000):batch(128), epochs = 5, validation = test:batch(256) }` or
--- `model:fit{ x, y, epochs = 5, batch_size = 32 }`. Returns the history.
---
--- Data: `data` (or `x`) and `y`, tensors or tables of them, with batch_size and shuffle; or a data set of batches x, y or x, y, weight.
--- How much samples count: sample_weight, a tensor (N), or (N, T) for steps of sequences; class_weight, a table by class id or by raw label (of
--- several outputs tables by their names): `class_weight = { 1, 5 }`. Of a prediction of yes or no, 0 and 1 are classes 1 and 2. Both multiply the
--- loss of a sample; the mean is still over the number of samples.
--- Validation: `validation` (or validation_data; a data set of batches, or {x, y[, weight]}), or validation_split, the last share of the tensors;
--- validation_steps batches of it, after each validation_freq-th epoch (or after the epochs of a list).
--- Epochs: steps_per_epoch batches make one, passes going on from epoch to epoch (for data sets without an end); initial_epoch is how many are done
--- already. Besides: callbacks, verbose (0 nothing, 1 bar on a terminal, 2 one line per epoch), save (a file, written after each epoch and on
--- Ctrl-C), resume (a file to go on from, or a folder: the newest of its checkpoints that is whole; epochs counts from the very beginning).
---@param given table
---@return nnlua.History
function Module:fit(given)
  local o = options.check("fit", options.is_plain(given) and options.renamed("fit", given, other_names) or given, fit_spec)
  local c = compiled(self, "fit")
  announce(o.callbacks, "on_fit", self, o)
  local ds, validation = datasets_of(self, c, o)
  if o.save then check_folder(o.save) end
  local from = o.resume and resume(self, c, ds, o.resume) or { epoch = o.initial_epoch or 0, batch = 0 }
  local history = History(from.history)
  rawset(self, "history", history)
  if ds.labels then rawset(self, "labels", ds.labels) end -- what class ids stand for goes with the model, into files too
  rawset(self, "stop_training", false)
  c.guard = nil
  local passes <close> = o.steps_per_epoch and feed.passes(self, c, ds) or nil
  local run = { o = o, ds = ds, history = history, passes = passes, validation = validation,
    classes = batches.class_weights("fit", self, c, o.class_weight) }
  restore_callbacks(self, o.callbacks, from.callbacks)
  announce(o.callbacks, "on_train_begin", self)
  for epoch = from.epoch + 1, o.epochs do
    run_epoch(self, c, run, epoch, from, history)
    from = {}
    if self.stop_training then break end
  end
  announce(o.callbacks, "on_train_end", self)
  return history
end
