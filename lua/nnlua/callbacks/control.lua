--- Callbacks that steer training: EarlyStopping, ReduceLROnPlateau, LRSchedule, TerminateOnNaN, SwapEMA; and Lambda and Progress.
--
-- Owns: when training stops, and what the learning rate is from epoch to epoch. Names and defaults are Keras's.

local core = require "nnlua.core"
local options = require "nnlua.options"
local base = require "nnlua.callbacks.base"
local ProgressBar = require "nnlua.progress"

local M = {}

local function optimizer_of(model) return model.compiled.optimizer end

-- ---- EarlyStopping ---------------------------------------------------------------------------------------------------

--- Stop when `monitor` has not become better by more than min_delta for `patience` epochs. With restore_best the model ends with the weights of
--- its best epoch. `best_epoch` and `best` tell afterwards.
---@class nnlua.EarlyStopping: nnlua.Callback
---@overload fun(options: { [1]?: string, patience?: integer, min_delta?: number, mode?: string, restore_best?: boolean }): nnlua.EarlyStopping
local EarlyStopping = base.define("EarlyStopping", base.monitor_options {
  patience = { "integer", default = 0, min = 0 }, baseline = { "number" }, restore_best = { "boolean", default = false },
  start_from_epoch = { "integer", default = 0, min = 0 },
}, { restore_best_weights = "restore_best" })
M.EarlyStopping = EarlyStopping

function EarlyStopping:on_train_begin()
  if self.restored then
    self.restored = nil
    return
  end
  self.best, self.best_epoch, self.wait, self.weights = nil, nil, 0, nil
end

function EarlyStopping:on_epoch_end(model, epoch, logs)
  if epoch <= self.start_from_epoch then return end
  local value = base.figure(self, self.monitor, logs)
  if not value then return end
  self.wait = self.wait + 1
  if base.better(self, value, self.best) then
    self.best, self.best_epoch = value, epoch
    if self.restore_best then self.weights = model:state() end
    if self.baseline == nil or base.better(self, value, self.baseline) then self.wait = 0 end
  end
  if self.wait > 0 and self.wait >= self.patience then model.stop_training = true end
end

function EarlyStopping:on_train_end(model)
  if self.weights then
    model:load_state(self.weights)
    core.eval()
  end
end

--- The weights of the best epoch are not in it: after a resume they are kept from the next better epoch on.
function EarlyStopping:state() return { best = self.best, best_epoch = self.best_epoch, wait = self.wait } end

function EarlyStopping:set_state(state)
  self.best, self.best_epoch, self.wait, self.restored = state.best, state.best_epoch, state.wait, true
end

-- ---- learning rates --------------------------------------------------------------------------------------------------

--- Multiply the learning rate by `factor` when `monitor` has not become better for `patience` epochs; then wait `cooldown` epochs.
---@class nnlua.ReduceLROnPlateau: nnlua.Callback
---@overload fun(options: { [1]?: string, factor?: number, patience?: integer, min_lr?: number }): nnlua.ReduceLROnPlateau
local ReduceLROnPlateau = base.define("ReduceLROnPlateau", base.monitor_options {
  factor = { "number", default = 0.1, above = 0, below = 1 }, patience = { "integer", default = 10, min = 0 },
  cooldown = { "integer", default = 0, min = 0 }, min_lr = { "number", default = 0, min = 0 },
  min_delta = { "number", default = 1e-4, min = 0 },
})
M.ReduceLROnPlateau = ReduceLROnPlateau

function ReduceLROnPlateau:on_train_begin(model)
  if optimizer_of(model).schedule then
    options.raise "ReduceLROnPlateau: the optimizer's learning rate is a schedule; give it a number"
  end
  if self.restored then
    self.restored = nil
    return
  end
  self.best, self.wait, self.cool = nil, 0, 0
end

function ReduceLROnPlateau:on_epoch_end(model, _, logs)
  local value = base.figure(self, self.monitor, logs)
  if not value then return end
  if self.cool > 0 then self.cool, self.wait = self.cool - 1, 0 end
  if base.better(self, value, self.best) then
    self.best, self.wait = value, 0
  elseif self.cool == 0 then
    self.wait = self.wait + 1
    local opt = optimizer_of(model)
    if self.wait >= self.patience and opt.lr > self.min_lr then
      opt:adjust { lr = math.max(opt.lr * self.factor, self.min_lr) }
      self.cool, self.wait = self.cooldown, 0
    end
  end
  self.lr = optimizer_of(model).lr
end

function ReduceLROnPlateau:state() return { best = self.best, wait = self.wait, cool = self.cool, lr = self.lr } end

function ReduceLROnPlateau:set_state(state, model)
  self.best, self.wait, self.cool, self.lr, self.restored = state.best, state.wait, state.cool, state.lr, true
  if state.lr then optimizer_of(model):adjust { lr = state.lr } end
end

--- The learning rate of each epoch from a function of the epoch (from 1) and the present rate, or from a schedule of the epochs done before.
---@class nnlua.LRSchedule: nnlua.Callback
---@overload fun(options: { [1]: function|table }): nnlua.LRSchedule
local LRSchedule = base.define("LRSchedule", { schedule = { "function|table", position = 1, required = true } })
M.LRSchedule = LRSchedule

function LRSchedule:on_epoch_begin(model, epoch)
  local opt, schedule = optimizer_of(model), self.schedule
  local lr
  if type(schedule) == "function" then
    lr = schedule(epoch, opt.lr)
  else
    lr = require("nnlua.schedules").get(schedule)(epoch - 1)
  end
  if type(lr) ~= "number" then options.raise("LRSchedule: the function must return a number, got " .. options.shown(lr)) end
  opt:adjust { lr = lr }
end

-- ---- others ----------------------------------------------------------------------------------------------------------

-- The name of the first layer whose result is not finite for a batch; nil when all are.
local function ill_layer(model, x)
  local wrapped, found = {}, nil
  for _, entry in ipairs(model:modules()) do
    local name, module = entry[1], entry[2]
    if #module:children() == 0 then
      local own, forward = rawget(module, "forward"), module.forward
      wrapped[#wrapped + 1] = { module, own }
      rawset(module, "forward", function(layer, ...)
        local y = forward(layer, ...)
        if not found and core.is_tensor(y) and y:dtype():find "f" and not y:isfinite():all():item() then found = name end
        return y
      end)
    end
  end
  local rng, _ <close> = core.rng_state(), core.no_grad()
  pcall(model, x)
  core.set_rng_state(rng)
  for _, entry in ipairs(wrapped) do rawset(entry[1], "forward", entry[2]) end
  return found
end

--- Look at the loss and the gradients of a batch before the step, and stop where one is no number or infinite: the weights stay as they were before
--- that batch. The warning names the batch and the first layer (or weight, of gradients) concerned. Looks at every `every`-th batch; each look costs
--- a wait for the device, and `jit` is not used.
---@class nnlua.TerminateOnNaN: nnlua.Callback
---@overload fun(options?: { every?: integer }): nnlua.TerminateOnNaN
local TerminateOnNaN = base.define("TerminateOnNaN", { every = { "integer", default = 1, min = 1 } })
M.TerminateOnNaN = TerminateOnNaN

-- What is wrong with a batch before its step; nil when nothing is.
local function illness(model, loss, b)
  local value = loss:item()
  if value ~= value or math.abs(value) == math.huge then
    local layer = ill_layer(model, b.x)
    return ("the loss is %s"):format(value ~= value and "nan" or "infinite"), layer and "in layer " .. layer or "all layers are finite"
  elseif not optimizer_of(model).scaler then -- a loss scale looks after gradients itself
    for _, p in ipairs(model:named_parameters()) do
      local g = p.tensor:grad()
      if g and not g:isfinite():all():item() then return "a gradient is not finite", "of " .. p.name end
    end
  end
end

function TerminateOnNaN:on_train_begin(model)
  model.compiled.guard = function(_, _, loss, b)
    if self.at % self.every ~= 0 then return true end
    local what, where = illness(model, loss, b)
    if not what then return true end
    self.batch, model.stop_training = self.at, true
    warn(("nnlua: TerminateOnNaN: %s at batch %d of epoch %d (%s); training ends with the weights from before it"):format(what, self.at,
      self.epoch, where))
    return false
  end
end

function TerminateOnNaN:on_epoch_begin(_, epoch) self.epoch = epoch end
function TerminateOnNaN:on_batch_begin(_, batch) self.at = batch end
function TerminateOnNaN:on_train_end(model) model.compiled.guard = nil end -- luacheck: no unused args

--- Validate with the moving averages of the weights (an optimizer with use_ema = true). With at_end the model keeps them when training ends.
---@class nnlua.SwapEMA: nnlua.Callback
---@overload fun(options?: { at_end?: boolean }): nnlua.SwapEMA
local SwapEMA = base.define("SwapEMA", { at_end = { "boolean", default = false } })
M.SwapEMA = SwapEMA

function SwapEMA:on_train_begin(model) -- luacheck: no unused args
  if not optimizer_of(model).use_ema then options.raise "SwapEMA: the optimizer needs use_ema = true" end
end

function SwapEMA:on_test_begin(model) optimizer_of(model):swap_ema() end -- luacheck: no unused args
function SwapEMA:on_test_end(model) optimizer_of(model):swap_ema() end -- luacheck: no unused args

function SwapEMA:on_train_end(model)
  if self.at_end then optimizer_of(model):swap_ema() end
end

--- Any functions as a callback: `nn.callbacks.Lambda{ on_epoch_end = function(model, epoch, logs) ... end }`.
---@param given table<string, function>
function M.Lambda(given)
  local events = {}
  for event in ([[fit train_begin train_end epoch_begin epoch_end epoch_saved batch_begin batch_end test_begin test_end test_batch_begin
    test_batch_end predict_begin predict_end predict_batch_begin predict_batch_end]]):gmatch "%S+" do
    events["on_" .. event] = { "function" }
  end
  local callback = {}
  for event, f in pairs(options.check("Lambda", given, events)) do callback[event] = function(_, ...) return f(...) end end
  return callback
end

--- Keeps figures over several fits in one history: `local all = nn.callbacks.History{}`, then `all.history:plot()`. Its epochs are numbered on.
---@class nnlua.HistoryCallback: nnlua.Callback
---@overload fun(): nnlua.HistoryCallback
local History = base.define("History", {})
M.History = History

function History:checked() self.history = require "nnlua.training.history" {} end

function History:on_epoch_end(_, _, logs) self.history:add(#self.history.epoch + 1, logs) end

--- A line with the figures so far every `every` batches, for logs: `write` takes it (standard output).
---@class nnlua.ProgressLines: nnlua.Callback
---@overload fun(options?: { [1]?: integer, write?: function }): nnlua.ProgressLines
local Progress = base.define("Progress", { every = { "integer", position = 1, default = 100, min = 1 }, write = { "function" } })
M.Progress = Progress

function Progress:on_epoch_begin(_, epoch) self.epoch = epoch end

function Progress:on_batch_end(model, batch)
  if batch % self.every ~= 0 then return end
  local list = {}
  for i, meter in ipairs(model.compiled.meters) do
    local value = meter:result()
    if type(value) == "number" then list[#list + 1] = { model.compiled.names[i], value } end
  end
  local line = ("epoch %d batch %d%s\n"):format(self.epoch, batch, ProgressBar.figures_text(list))
  if self.write then self.write(line) else io.stdout:write(line) end
end

return M
