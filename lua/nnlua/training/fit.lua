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

-- What the outside world (a file, a full disk) did: raised as an object, which the program shows as one line without a traceback.
-- It can be searched and joined like the message that it stands for.
local Failure = { __tostring = function(failure) return failure.message end }
function Failure.__concat(a, b) return tostring(a) .. tostring(b) end
function Failure.__index(_, name)
  local method = string[name]
  return method and function(failure, ...) return method(failure.message, ...) end
end
local function fail(text, ...) error(setmetatable({ message = text:format(...) }, Failure), 0) end
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
  local function figures() return (batches.figures(c)) end
  local hold = core.sys.hold_interrupt
  local _ <close> = batches.in_mode(self, true)
  local batch = 0
  for x, y in feed.batches(self, c, ds) do
    batch = batch + 1
    if batch > at.batch then -- the steps before are done; the data set was set back to where their epoch began
      if y == nil then feed.target_missing "fit" end
      batches.prepare(self, c, x)
      if devices.undecided() then batches.decide_device(self, c, x, y) end
      if #o.callbacks > 0 then announce(o.callbacks, "on_batch_begin", self, batch) end
      hold(true) -- Ctrl-C does not cut a step in two
      batches.train(self, c, x, y)
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
  local list, logs = batches.figures(c)
  if validation then
    announce(o.callbacks, "on_test_begin", self)
    local _, values = evaluate_batches(self, c, validation)
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
  local ds = feed.dataset("fit", self, c, o.data, o.y, o.batch_size, o.shuffle)
  local validation = o.validation and feed.dataset("fit: validation", self, c, o.validation, nil, 256)
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
    local bar = Progress { label = ("epoch %d/%d"):format(epoch, o.epochs), total = feed.cardinality(ds), verbose = o.verbose }
    bar:skip(at.batch)
    batches.reset(c)
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
