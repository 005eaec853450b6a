--- What training shows while it runs.
--
-- Owns: the bar and the line of an epoch. On a terminal one line of standard error is redrawn, at most ten times a second; the finished line of an
-- epoch goes to standard output, so that a log holds one line per epoch and nothing else. It asks for figures only when it draws, since reading
-- one from the device costs.
--
--     epoch 2/5 [===========>        ]  531/938  2.31 ms/step  left 0:01  loss 0.1532  accuracy 0.9548
--     epoch 2/5  2.2 s  loss 0.1459  accuracy 0.9571  val_loss 0.1102  val_accuracy 0.9674

local sys = require("nnlua.core").sys
local class = require "nnlua.class"

---@class nnlua.Progress
local Progress = class "Progress"

local INTERVAL, WIDTH = 0.1, 20

--- `label` begins the line; `total` is the number of steps, nil when it is not known; `verbose`: 0 nothing, 1 as it fits, 2 lines only.
function Progress:init(o)
  self.label, self.total = o.label, o.total
  self.lines = (o.verbose or 1) > 0
  self.bar = (o.verbose or 1) == 1 and sys.isatty(2)
  self.start, self.step, self.first_step = sys.clock(), 0, 0
  self.next_draw = self.start + INTERVAL
end

--- Begin counting at step `n`, for an epoch that was begun before.
function Progress:skip(n) self.step, self.first_step = n, n end

local function clock_text(seconds)
  local s = math.floor(seconds + 0.5)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

local function time_text(seconds)
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  return clock_text(seconds)
end

-- "0.1532"; small and large numbers with an exponent.
local function number_text(v)
  if math.type(v) == "integer" then return ("%d"):format(v) end
  local a = math.abs(v)
  return (v ~= v or a == math.huge or a ~= 0 and (a < 1e-3 or a >= 1e5)) and ("%.3g"):format(v) or ("%.4f"):format(v)
end

--- "loss 0.1532  accuracy 0.9548" of a list of { name, value }.
---@param figures table[]
function Progress.figures_text(figures)
  local words = {}
  for i, f in ipairs(figures) do words[i] = ("  %s %s"):format(f[1], number_text(f[2])) end
  return table.concat(words)
end

--- The bar as text, at time `now`, in at most `columns`: the bar itself gives way first.
function Progress:text(now, figures, columns)
  local done = self.step - self.first_step
  local per_step = done > 0 and (now - self.start) / done or 0
  local rate = per_step < 1 and ("%.2f ms/step"):format(per_step * 1e3) or ("%.2f s/step"):format(per_step)
  local shown = Progress.figures_text(figures)
  if not self.total then
    return ("%s  %d  %s  %s%s"):format(self.label, self.step, rate, time_text(now - self.start), shown):sub(1, columns)
  end
  local counts = ("%" .. #tostring(self.total) .. "d/%d"):format(self.step, self.total)
  local rest = (" %s  %s  left %s%s"):format(counts, rate, clock_text(per_step * math.max(0, self.total - self.step)), shown)
  local width = math.min(WIDTH, columns - #self.label - #rest - 3)
  if width < 4 then return (self.label .. rest):sub(1, columns) end
  local filled = math.min(width, math.floor(width * self.step / math.max(1, self.total)))
  local bar = ("="):rep(filled) .. (filled < width and ">" or "")
  return ("%s [%s%s]%s"):format(self.label, bar, (" "):rep(width - #bar), rest)
end

--- One step is done. `figures` is a function that gives { {name, value}, ... }; it is called when the bar is drawn.
---@param figures function
function Progress:update(figures)
  self.step = self.step + 1
  if not self.bar then return end
  local now = sys.clock()
  if now < self.next_draw then return end
  self.next_draw = now + INTERVAL
  io.stderr:write("\r", self:text(now, figures(), sys.terminal_width(2) - 1), "\27[K")
  io.stderr:flush()
end

--- Take the bar away.
function Progress:clear()
  if self.bar then
    io.stderr:write "\r\27[K"
    io.stderr:flush()
  end
end

--- The epoch is over: its line. Returns the seconds it took.
---@param figures table[]
---@return number
function Progress:finish(figures)
  local seconds = sys.clock() - self.start
  self:clear()
  if self.lines then
    io.stdout:write(("%s  %s%s\n"):format(self.label, time_text(seconds), Progress.figures_text(figures)))
    io.stdout:flush()
  end
  return seconds
end

return Progress
