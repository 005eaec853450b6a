--- What training measured, epoch by epoch: the history that fit returns.
--
-- Owns: the values per epoch, which of them was best, and their charts.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{1}, nn.Dense{1, use_bias = false, init = "ones"} }
--     model:compile{ optimizer = nn.optim.SGD{ lr = 0.1 }, loss = "mse" }
--     local history = model:fit{ nn.ones(1, 1), nn.zeros(1, 1), epochs = 3, verbose = 0 }
--     print(history:best "loss", #history.loss)     --> 3  3
--     print(history:plot_text{ width = 40, height = 1 }:match "[^\n]*")   --> loss

local class = require "nnlua.class"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local metrics = require "nnlua.metrics"
local plot = require "nnlua.plot"

---@class nnlua.History
--- Values per epoch: `history.loss[3]`, `history.val_accuracy[#history.val_accuracy]`; `history.epoch` numbers them.
local History = class "History"

local reserved = { best = true, names = true, add = true, init = true, isa = true, plot = true, plot_text = true, svg = true, draw = true }

function History:init(values)
  local epochs = values and values.epoch or {}
  self.epoch = {}
  for name, list in pairs(values or {}) do -- lists may have holes: not every epoch is validated
    if not reserved[name] then self[name] = table.move(list, 1, math.max(#epochs, #list), 1, {}) end
  end
end

--- Names of what was measured, in alphabetical order.
function History:names()
  return lists.sorted(self, function(name) return name ~= "epoch" end)
end

function History:add(epoch, logs)
  self.epoch[#self.epoch + 1] = epoch
  for name, value in pairs(logs) do
    if not self[name] then self[name] = {} end
    self[name][#self.epoch] = value
  end
end

--- The epoch with the best value, and the value: `history:best "val_accuracy"`. Losses and errors are best when small, everything else when large.
---@param name? string by default val_loss, or loss where there was no validation
---@return integer epoch, number value
function History:best(name)
  name = name or (rawget(self, "val_loss") and "val_loss" or "loss")
  local list = not reserved[name] and rawget(self, name)
  if not list then options.raise(("history: there is no %s (measured: %s)"):format(options.shown(name), table.concat(self:names(), ", "))) end
  local small = metrics.lower_is_better(name)
  local at
  for i = 1, #self.epoch do
    local v = list[i]
    if type(v) == "number" and v == v and (not at or small and v < list[at] or not small and v > list[at]) then at = i end
  end
  return at and self.epoch[at], at and list[at]
end

function History:__tostring()
  local lines = {}
  for i, epoch in ipairs(self.epoch) do
    local words = { ("epoch %d"):format(epoch) }
    for _, name in ipairs(self:names()) do
      local value = self[name][i]
      if type(value) == "number" then words[#words + 1] = ("%s %.4f"):format(name, value) end
    end
    lines[i] = table.concat(words, "  ")
  end
  return table.concat(lines, "\n")
end

-- ---- charts ----------------------------------------------------------------------------------------------------------


-- The charts of a call: one of the names given, else one for each figure, with that of validation.
local function charts_of(self, what, o)
  local function series(name)
    local list = not reserved[name] and rawget(self, name)
    if not list then options.raise(("%s: there is no %s (measured: %s)"):format(what, options.shown(name), table.concat(self:names(), ", "))) end
    return { name = name, values = list }
  end
  local charts = {}
  local function add(title, names)
    local chart = { title = title, x = self.epoch, log = o.log, series = {} }
    for i, name in ipairs(names) do chart.series[i] = series(name) end
    charts[#charts + 1] = chart
  end
  if #(o.names or {}) > 0 then
    add(table.concat(o.names, ", "), o.names)
    return charts
  end
  for _, name in ipairs(self:names()) do
    local numbers = false
    for i = 1, #self.epoch do numbers = numbers or type(self[name][i]) == "number" end
    if numbers and not (name:find "^val_" and rawget(self, name:sub(5))) then
      add(name, { name, rawget(self, "val_" .. name) and "val_" .. name })
    end
  end
  return charts
end

--- The charts: `history:plot()` prints one for each figure with that of validation, or one with those named: `history:plot{ "loss", "accuracy" }`;
--- plot_text, svg and draw are nnlua.plot's.
plot.give_methods(History, charts_of)

return History
