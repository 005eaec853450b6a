--- What the callbacks of this library share: options, and watching one figure of an epoch.
--
-- Owns: the class Callback (options as in layers) and Monitor, which knows whether a figure got better.

local class = require "nnlua.class"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local metrics = require "nnlua.metrics"

local M = {}

---@class nnlua.Callback
local Callback = class "Callback"
M.Callback = Callback
Callback.aliases = {}

function Callback:init(given)
  local name, plain = getmetatable(self).__name, given
  if type(given) == "table" then
    plain = {}
    for key, value in pairs(given) do plain[self.aliases[key] or key] = value end
  end
  for key, value in pairs(options.check(name, plain, self.options)) do self[key] = value end
  if self.checked then self:checked() end
end

--- A callback class with these options.
---@param name string
---@param spec table<string, nnlua.OptionRule>
---@param aliases? table<string, string>
function M.define(name, spec, aliases)
  local c = class(name, Callback)
  c.options, c.aliases = spec, aliases or {}
  return c
end

--- Options of what watches a figure, with `more`.
function M.monitor_options(more)
  local spec = {
    monitor = { "string", position = 1, default = "val_loss" },
    mode = { "string", default = "auto", choices = { "auto", "min", "max" } },
    min_delta = { "number", default = 0, min = 0 },
  }
  for key, rule in pairs(more) do spec[key] = rule end
  return spec
end

local passed_over = setmetatable({}, { __mode = "k" }) -- figures of epochs after which validation was not due

--- `logs` are of an epoch after which validation was not due (fit's validation_freq).
function M.passed_over(logs) passed_over[logs] = true end
function M.was_passed_over(logs) return passed_over[logs] ~= nil end

--- The watched figure of an epoch; raises when it is not measured, gives nil when it is one of validation and that was not due.
function M.figure(callback, name, logs)
  local value = logs[name]
  if type(value) == "number" then return value end
  if passed_over[logs] and name:find "^val_" then return nil end
  local names = lists.sorted(logs)
  options.raise(("%s: there is no figure %q (measured: %s)%s"):format(getmetatable(callback).__name, name, table.concat(names, ", "),
    name:find "^val_" and #names > 0 and "; fit needs validation = ... for those with val_" or ""))
end

--- Is `value` better than `best` (nil: nothing yet) by more than min_delta? NaN never is.
function M.better(callback, value, best)
  if value ~= value then return false end
  if best == nil then return true end
  local lower = callback.mode == "min" or callback.mode == "auto" and metrics.lower_is_better(callback.monitor)
  local delta = callback.min_delta or 0
  if lower then return value < best - delta end
  return value > best + delta
end

--- Tell all of them: a callback is a table with any of the methods that nnlua.callbacks lists, or a function that is called at the end of each epoch.
---@param callbacks table
---@param event string
function M.announce(callbacks, event, model, ...)
  for _, callback in ipairs(callbacks) do
    if type(callback) == "function" then
      if event == "on_epoch_end" then callback(model, ...) end
    elseif callback[event] then
      callback[event](callback, model, ...)
    end
  end
end

return M
