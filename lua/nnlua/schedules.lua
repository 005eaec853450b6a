--- Schedules: `nn.schedules`. Learning rates that change with the steps taken; wherever an optimizer takes `lr`, it takes one of these.
--
-- Owns: the formulas, with Keras's names and defaults where Keras has them. A schedule is called with the number of steps taken so far (0 before the
-- first) and gives a number. Any function of that number is a schedule too.
--
--     local nn = require "nnlua"
--     local lr = nn.schedules.cosine{ 0.1, decay_steps = 100 }
--     print(lr(0), ("%.3f"):format(lr(50)), lr(100))    --> 0.1  0.050  0.0
--     local opt = nn.optim.SGD{ lr = lr, momentum = 0.9 }

local options = require "nnlua.options"

---@class nnlua.Schedule
---@overload fun(step: integer): number
local schedules, define = require("nnlua.catalogue").new("a schedule", "the step")
local member = schedules.get

local initial = { "number", position = 1, required = true, min = 0 }
local steps = { "number", position = 2, required = true, above = 0 }

-- Times decay_rate every decay_steps steps; with staircase only after whole ones.
define("exponential", "ExponentialDecay", {
  initial_learning_rate = initial, decay_steps = steps, decay_rate = { "number", position = 3, required = true, above = 0 },
  staircase = { "boolean", default = false },
}, function(self, step)
  local t = step / self.decay_steps
  return self.initial_learning_rate * self.decay_rate ^ (self.staircase and t // 1 or t)
end)

-- values[i] up to and including step boundaries[i], the last value from then on.
define("piecewise", "PiecewiseConstantDecay", {
  boundaries = { "table", position = 1, required = true }, values = { "table", position = 2, required = true },
}, function(self, step)
  for i, boundary in ipairs(self.boundaries) do
    if step <= boundary then return self.values[i] end
  end
  return self.values[#self.values]
end, function(self)
  if #self.values ~= #self.boundaries + 1 then
    options.raise(("piecewise: %d boundaries need %d values, got %d"):format(#self.boundaries, #self.boundaries + 1, #self.values))
  end
end)

-- From the first rate to end_learning_rate in decay_steps, along (1 - step / decay_steps)^power; with cycle it begins again, over more and more
-- steps.
define("polynomial", "PolynomialDecay", {
  initial_learning_rate = initial, decay_steps = steps, end_learning_rate = { "number", default = 1e-4, min = 0 },
  power = { "number", default = 1, above = 0 }, cycle = { "boolean", default = false },
}, function(self, step)
  local length = self.decay_steps
  if self.cycle then length = length * math.max(1, math.ceil(step / length)) end
  local left = 1 - math.min(step, length) / length
  return (self.initial_learning_rate - self.end_learning_rate) * left ^ self.power + self.end_learning_rate
end)

-- The first rate / (1 + decay_rate * step / decay_steps).
define("inverse_time", "InverseTimeDecay", {
  initial_learning_rate = initial, decay_steps = steps, decay_rate = { "number", position = 3, required = true, min = 0 },
  staircase = { "boolean", default = false },
}, function(self, step)
  local t = step / self.decay_steps
  return self.initial_learning_rate / (1 + self.decay_rate * (self.staircase and t // 1 or t))
end)

-- From warmup_target (reached from initial_learning_rate in warmup_steps), or from initial_learning_rate, to alpha times it along half a cosine.
define("cosine", "CosineDecay", {
  initial_learning_rate = initial, decay_steps = steps, alpha = { "number", default = 0, min = 0 }, warmup_target = { "number", min = 0 },
  warmup_steps = { "number", default = 0, min = 0 },
}, function(self, step)
  local top = self.warmup_target or self.initial_learning_rate
  if self.warmup_target and step < self.warmup_steps then
    return self.initial_learning_rate + (top - self.initial_learning_rate) * step / self.warmup_steps
  end
  if self.warmup_target then step = step - self.warmup_steps end
  local t = math.min(step, self.decay_steps) / self.decay_steps
  return top * ((1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * t)) + self.alpha)
end)

-- Cosine decays, each t_mul times as long and starting m_mul times as high as the one before.
define("cosine_restarts", "CosineDecayRestarts", {
  initial_learning_rate = initial, first_decay_steps = steps, t_mul = { "number", default = 2, min = 1 },
  m_mul = { "number", default = 1, above = 0 }, alpha = { "number", default = 0, min = 0 },
}, function(self, step)
  local length, height = self.first_decay_steps, 1
  while step >= length do step, length, height = step - length, length * self.t_mul, height * self.m_mul end
  local cosine = 0.5 * height * (1 + math.cos(math.pi * step / length))
  return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)
end)

-- PyTorch's StepLR: times gamma every step_size steps.
define("step", "StepDecay", {
  initial_learning_rate = initial, step_size = steps, gamma = { "number", position = 3, default = 0.1, above = 0 },
}, function(self, step) return self.initial_learning_rate * self.gamma ^ (step // self.step_size) end)

-- In a straight line from the first rate to the second, which stays.
define("linear", "LinearDecay", {
  initial_learning_rate = initial, end_learning_rate = { "number", position = 2, required = true, min = 0 },
  total_steps = { "number", position = 3, required = true, above = 0 },
}, function(self, step)
  return self.initial_learning_rate + (self.end_learning_rate - self.initial_learning_rate) * math.min(1, step / self.total_steps)
end)

local function half_cosine(from, to, t) return to + (from - to) * 0.5 * (1 + math.cos(math.pi * t)) end

-- PyTorch's OneCycleLR: from max_lr / div_factor to max_lr in pct_start of the steps, to 1 / final_div_factor of the start by the last.
define("one_cycle", "OneCycle", {
  max_lr = initial, total_steps = { "integer", position = 2, required = true, min = 2 },
  pct_start = { "number", default = 0.3, above = 0, below = 1 },
  div_factor = { "number", default = 25, above = 0 }, final_div_factor = { "number", default = 1e4, above = 0 },
}, function(self, step)
  local start = self.max_lr / self.div_factor
  local peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
  if step <= peak then return half_cosine(start, self.max_lr, peak > 0 and step / peak or 1) end
  return half_cosine(self.max_lr, start / self.final_div_factor, math.min(1, (step - peak) / (last - peak)))
end)

-- Between base_lr and max_lr, up in step_size steps and down in as many; each round is gamma times as high as the one before.
define("cyclic", "CyclicDecay", {
  base_lr = initial, max_lr = { "number", position = 2, required = true, min = 0 },
  step_size = { "number", position = 3, default = 2000, above = 0 }, gamma = { "number", default = 1, above = 0 },
}, function(self, step)
  local round = step // (2 * self.step_size)
  local height = 1 - math.abs(step / self.step_size - 2 * round - 1)
  return self.base_lr + (self.max_lr - self.base_lr) * height * self.gamma ^ round
end)

-- Vaswani et al., "Attention is all you need": up in a line for warmup_steps, then down with the root of the steps.
define("noam", "NoamDecay", {
  model_size = { "number", position = 1, required = true, above = 0 }, warmup_steps = { "number", position = 2, default = 4000, above = 0 },
  factor = { "number", default = 1, above = 0 },
}, function(self, step)
  local t = step + 1
  return self.factor * self.model_size ^ -0.5 * math.min(t ^ -0.5, t * self.warmup_steps ^ -1.5)
end)

-- schedules[i] until boundaries[i] steps are taken, then the next, which counts from 0 again.
define("join", "JoinSchedules", {
  schedules = { "table", position = 1, required = true }, boundaries = { "table", position = 2, required = true },
}, function(self, step)
  local from = 0
  for i, boundary in ipairs(self.boundaries) do
    if step < boundary then return self.schedules[i](step - from) end
    from = boundary
  end
  return self.schedules[#self.schedules](step - from)
end, function(self)
  if #self.schedules ~= #self.boundaries + 1 then
    options.raise(("join: %d schedules need %d boundaries, got %d"):format(#self.schedules, #self.schedules - 1, #self.boundaries))
  end
  local list = {}
  for i, s in ipairs(self.schedules) do list[i] = schedules.get(s) end
  self.schedules = list
end)

-- In a straight line from initial_learning_rate (0) to where `schedule` begins, in warmup_steps; then the schedule, which counts from 0.
define("warmup", "WarmupSchedule", {
  schedule = { "table|function|number", position = 1, required = true }, warmup_steps = { "number", position = 2, required = true, above = 0 },
  initial_learning_rate = { "number", default = 0, min = 0 },
}, function(self, step)
  if step >= self.warmup_steps then return self.schedule(step - self.warmup_steps) end
  return self.initial_learning_rate + (self.schedule(0) - self.initial_learning_rate) * step / self.warmup_steps
end, function(self) self.schedule = schedules.get(self.schedule) end)

-- The same rate until the figures that it is told get no better: times `factor` when `patience` calls of lr:report(figure) brought nothing better by
-- min_delta. For loops by hand; with fit use the callback ReduceLROnPlateau.
define("plateau", "PlateauSchedule", {
  learning_rate = initial, factor = { "number", default = 0.1, above = 0, below = 1 }, patience = { "integer", default = 10, min = 0 },
  min_delta = { "number", default = 1e-4, min = 0 }, min_lr = { "number", default = 0, min = 0 },
  mode = { "string", default = "min", choices = { "min", "max" } },
}, function(self) return self.learning_rate end, function(self) self.wait = 0 end)

--- Tell a figure, such as the loss of validation. Returns the rate from now on.
---@param figure number
function schedules.plateau:report(figure)
  local better = self.best == nil or self.mode == "min" and figure < self.best - self.min_delta
    or self.mode == "max" and figure > self.best + self.min_delta
  if better then
    self.best, self.wait = figure, 0
  else
    self.wait = self.wait + 1
    if self.wait >= math.max(1, self.patience) then
      self.learning_rate, self.wait = math.max(self.learning_rate * self.factor, self.min_lr), 0
    end
  end
  return self.learning_rate
end

-- The same rate at all steps.
define("constant", "ConstantLearningRate", { learning_rate = initial }, function(self) return self.learning_rate end)

--- The schedule of `spec`: a schedule, what config() gave, a function of the step, or a number.
---@param spec table|function|number
---@return nnlua.Schedule|function
function schedules.get(spec)
  if type(spec) == "number" then return schedules.constant { spec } end
  if type(spec) == "function" or type(spec) == "table" and (spec.class_name or spec.options) then return member(spec) end
  options.raise("a learning rate must be a number, a schedule such as nn.schedules.cosine{0.1, 1000}, or a function of the step, got "
    .. options.shown(spec))
end

return schedules
