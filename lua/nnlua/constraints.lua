--- Constraints: `nn.constraints`. What weights may be; optimizers put them back after each step.
--
-- Owns: the formulas, with Keras's names and defaults. A constraint is called with a weight and gives the nearest that is allowed; layers take one as
-- `kernel_constraint =` or `bias_constraint =`. Norms run over the dims in `axis`: 1, the inputs, for the kernel of a Dense; {1, 2, 3} for that of a
-- Conv2D.
--
--     local nn = require "nnlua"
--     local limit = nn.constraints.max_norm{1}
--     print(("%.1f"):format(limit(nn.tensor{ {3, 0}, {4, 0.5} })[{2, 1}]:item()))   --> 0.8

local core = require "nnlua.core"

local constraints, define = require("nnlua.catalogue").new "a constraint"

local EPSILON = 1e-7
local axis = { "integer|table", default = 1 }

local function norms(w, dims) return w:square():sum(dims, true):sqrt() end

-- Norms along `axis` of at most max_value.
define("max_norm", "MaxNorm", { max_value = { "number", position = 1, default = 2, min = 0 }, axis = axis }, function(self, w)
  local n = norms(w, self.axis)
  return w * (n:clamp(0, self.max_value) / (n + EPSILON))
end)

-- Norms along `axis` of 1.
define("unit_norm", "UnitNorm", { axis = axis }, function(self, w) return w / (norms(w, self.axis) + EPSILON) end)

-- Norms along `axis` between min_value and max_value; with a rate below 1 put back by that part only.
define("min_max_norm", "MinMaxNorm", {
  min_value = { "number", position = 1, default = 0, min = 0 }, max_value = { "number", position = 2, default = 1, min = 0 },
  rate = { "number", default = 1, min = 0, max = 1 }, axis = axis,
}, function(self, w)
  local n = norms(w, self.axis)
  local wanted = n:clamp(self.min_value, self.max_value) * self.rate + n * (1 - self.rate)
  return w * (wanted / (n + EPSILON))
end)

-- No weight below 0.
define("non_neg", "NonNeg", {}, function(_, w) return core.maximum(w, 0) end)

return constraints
