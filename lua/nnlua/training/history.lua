--- What training measured, epoch by epoch: the history that fit returns.
--
-- Owns: the values per epoch and which of them was best.

local class = require "nnlua.class"
local options = require "nnlua.options"
local metrics = require "nnlua.metrics"

---@class nnlua.History
--- Values per epoch: `history.loss[3]`, `history.val_accuracy[#history.val_accuracy]`; `history.epoch` numbers them.
local History = class "History"

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

return History
