--- CG: conjugate gradients with a line search, for full batches.
--
-- Owns: its rule and its line search, which evaluate the loss several times; so step takes a function (Torch7's optim.cg):
--
--     local nn = require "nnlua"
--     local w = nn.parameter{ -1.0, 2.0 }
--     local opt = nn.optim.CG{ {w}, max_iter = 10 }
--     opt:step(function()
--       opt:zero_grad()
--       local loss = ((w - nn.tensor{ 3.0, 1.0 }):square() * nn.tensor{ 1.0, 10.0 }):sum()
--       loss:backward()
--       return loss
--     end)
--     print(("%.4f %.4f"):format(w[1]:item(), w[2]:item()))   --> 3.0000 1.0000

local class = require "nnlua.class"
local Closure = require "nnlua.optim.closure"

local dot, largest = Closure.dot, Closure.largest

--- Conjugate gradients (Polak and Ribiere, beginning anew where that points uphill), each direction searched for a point that meets the strong Wolfe
--- conditions: loss at most loss + c1 * rate * slope, and a slope of at most c2 times the one at the start. opt:step(f) calls f, which zeroes the
--- gradients, computes the loss, calls its backward() and returns it, for up to max_iter directions and max_eval calls; `lr` is the length of the
--- first try. Each step begins with the gradient. fit() cannot use it.
---@class nnlua.CG: nnlua.ClosureOptimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, max_iter?: integer, max_eval?: integer, c1?: number, c2?: number }): nnlua.CG
local CG = class("CG", Closure)
CG.options = Closure.with_common {
  lr = { "number|table|function", default = 1 },
  max_iter = { "integer", default = 20, min = 1 },
  max_eval = { "integer", min = 1 },
  c1 = { "number", default = 0.01, above = 0, below = 1 },
  c2 = { "number", default = 0.1, above = 0, below = 1 },
  tolerance_grad = { "number", default = 1e-7, min = 0 },
  tolerance_change = { "number", default = 1e-9, min = 0 },
}

function CG:checked()
  self.max_eval = self.max_eval or self.max_iter * 4 -- a direction takes one to three
  Closure.checked(self)
end

local MOST_TRIES, WIDEST = 20, 10 -- evaluations of one search; how many times farther the next try may be

local function finite(x) return x == x and math.abs(x) < math.huge end

-- Where the cubic through two points with their slopes is lowest; nil where it has no such place.
local function lowest(a, b)
  local d = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.rate - b.rate)
  local square = d * d - a.slope * b.slope
  if square < 0 then return nil end
  local root = math.sqrt(square) * (b.rate > a.rate and 1 or -1)
  local rate = b.rate - (b.rate - a.rate) * (b.slope + root - d) / (b.slope - a.slope + 2 * root)
  return finite(rate) and rate or nil
end

-- The next rate to try: beyond `low` while nothing is too far, else between low and high.
local function next_rate(low, high, before)
  if not high then
    local rate = lowest(before, low)
    local step = low.rate - before.rate
    return math.max(low.rate + 0.1 * step, math.min(rate and rate > low.rate and rate or low.rate + 2 * step, low.rate + WIDEST * step))
  end
  local width = high.rate - low.rate
  local rate = finite(high.loss) and finite(high.slope) and lowest(low, high) or low.rate + 0.5 * width
  return math.max(low.rate + 0.1 * width, math.min(rate, high.rate - 0.1 * width))
end

-- Searches along `direction` from `start` { rate = 0, loss, slope, g }. Gives the point found, with the parameters there: one that meets the
-- conditions, else the lowest of those where the loss has fallen enough; nil when there is none, with the parameters where they were.
-- Invariant: at `low` the loss has fallen enough and falls on; at `high` it does not.
local function search(self, start, direction, rate, evaluate)
  local values = self:values()
  local low, high, before, best = start, nil, start, start
  for _ = 1, MOST_TRIES do
    self:move_from(values, rate, direction)
    local at = evaluate(direction)
    if not at then break end -- max_eval
    at.rate = rate
    if not finite(at.loss) or at.loss > start.loss + self.c1 * rate * start.slope or at.loss > low.loss then
      high = at
    elseif math.abs(at.slope) <= -self.c2 * start.slope then
      return at
    else
      if at.loss < best.loss then best = at end
      if at.slope < 0 then before, low = low, at else high = at end
    end
    rate = next_rate(low, high, before)
    if high and math.abs(high.rate - low.rate) * largest(direction) <= self.tolerance_change then break end
  end
  self:move_from(values, best.rate, direction)
  return best.rate > 0 and best or nil
end

--- Step along as many directions as max_iter, max_eval and the tolerances allow; `f` computes loss and gradients. Returns the first loss.
---@param f fun(): nnlua.Tensor
function CG:step(f)
  self:begin(f)
  local first, calls
  calls = 0
  local function evaluate(direction)
    if calls == self.max_eval then return nil end
    calls = calls + 1
    local loss = f()
    first = first or loss
    local g = self:gather()
    return { loss = loss:item(), g = g, slope = direction and dot(g, direction), rate = 0 }
  end
  local at = evaluate()
  local direction, fresh, rate = -at.g, true, nil
  at.slope = -dot(at.g, at.g)
  for _ = 1, self.max_iter do
    if largest(at.g) <= self.tolerance_grad then break end
    rate = rate or self.lr / (1 - at.slope)
    local found = search(self, at, direction, rate, evaluate)
    if found then
      local beta = dot(found.g, found.g - at.g) / dot(at.g, at.g)
      local flat = math.abs(at.loss - found.loss) <= self.tolerance_change * math.max(1, math.abs(at.loss))
      local old_slope = at.slope
      direction, fresh = beta > 0 and direction * beta - found.g or -found.g, beta <= 0
      at = { loss = found.loss, g = found.g, slope = dot(found.g, direction), rate = 0 }
      if at.slope >= 0 then
        direction, fresh = -at.g, true
        at.slope = -dot(at.g, at.g)
      end
      direction:keep()
      rate = found.rate * math.min(WIDEST, old_slope / at.slope)
      if flat and fresh then break end
    elseif fresh or calls == self.max_eval then
      break
    else
      direction, fresh, rate = -at.g, true, nil
      at.slope = -dot(at.g, at.g)
    end
    if calls == self.max_eval then break end
  end
  self.iterations = self.iterations + 1
  return first
end

return { CG = CG }
