--- The loss scale of an optimizer: keeps gradients of f16 computations from vanishing.
--
-- Owns: the scale and its arithmetic, which is Keras's LossScaleOptimizer's: the loss is multiplied by the scale (2^15 at first), the gradients are
-- divided by it; after 2000 good steps it doubles; where any gradient is infinite or NaN it is halved (never below 1) and the step changes nothing
-- else. All of it is recorded, where(finite, new, old): nothing is read by the host. So iterations, and with them schedules and Adam's corrections,
-- count skipped steps too.
--
--     local nn = require "nnlua"
--     local w = nn.parameter{ 3 }
--     local opt = nn.optim.SGD{ {w}, lr = 0.5, loss_scale = "dynamic" }
--     opt:scale_loss((w * w * 0.5):sum()):backward()
--     opt:step()
--     print(w:item(), opt:current_scale())          --> 1.5  32768.0

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

---@class nnlua.LossScale
local LossScale = class "LossScale"

local spec = { initial = { "number", default = 2 ^ 15, min = 1 }, steps = { "integer", default = 2000, min = 1 } }

--- From the option loss_scale: "dynamic", a table { initial =, steps = }, or a number that never changes. nil for none.
function LossScale.of(owner, given, device)
  if not given then return nil end
  local o
  if type(given) == "number" then
    o = options.check(owner .. ": loss_scale", { initial = given }, spec)
    o.steps = nil
  else
    if given ~= "dynamic" and type(given) ~= "table" then
      options.raise(('%s: loss_scale must be "dynamic", a number, a table { initial =, steps = } or false, got %s')
        :format(owner, options.shown(given)))
    end
    o = options.check(owner .. ": loss_scale", type(given) == "table" and given or {}, spec)
  end
  return LossScale(o, device)
end

function LossScale:init(o, device)
  self.steps = o.steps
  self.scale, self.good = core.full({}, o.initial, "f32"), core.full({}, 0, "f32")
  for _, t in ipairs { self.scale, self.good } do
    t:keep()
    core.move(t, device)
  end
end

--- grads[1..n], a table with holes, divided by the scale, zeros where any of them is not finite. Returns a scalar bool tensor: all are finite;
--- nil without gradients.
function LossScale:unscale(grads, n)
  local finite
  for i = 1, n do
    if grads[i] then
      local all = grads[i]:isfinite():all()
      finite = finite and core.logical_and(finite, all) or all
    end
  end
  local factor = 1 / self.scale
  for i = 1, n do
    if grads[i] then grads[i] = core.where(finite, grads[i] * factor, 0) end
  end
  return finite
end

--- The scale after a step.
function LossScale:follow(finite)
  if not self.steps then return end
  local good = core.where(finite, self.good + 1, 0)
  local grow = good:ge(self.steps)
  local scale = core.where(finite, core.where(grow, self.scale * 2, self.scale), core.maximum(self.scale * 0.5, 1))
  self.good:assign(core.where(grow, 0, good))
  self.scale:assign(scale)
end

return LossScale
