--- Activation functions by name: `nn.activations`.
--
-- Owns: the names that `activation = "..."` takes. Each is a function of a tensor; your own belongs here as soon as a saved model is to find it:
--
--     local nn = require "nnlua"
--     nn.activations.cube = function(x) return x * x * x end
--     local layer = nn.Dense{8, activation = "cube"}

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local activations = {
  linear = function(x) return x end,
  relu = core.relu,
  relu6 = core.relu6,
  leaky_relu = function(x, slope) return core.leaky_relu(x, slope or 0.2) end, -- Keras's slope for the function; the layer's is 0.3
  sigmoid = core.sigmoid,
  tanh = core.tanh,
  exponential = core.exp,
  softmax = core.softmax,
  softmin = core.softmin,
  log_softmax = core.log_softmax,
  glu = core.glu,
}
-- with the defaults of their options
for _, name in ipairs { "celu", "elu", "gelu", "gelu_tanh", "hard_shrink", "hard_sigmoid", "hard_swish", "hard_tanh", "log_sigmoid", "mish", "selu",
  "silu", "soft_shrink", "softplus", "softsign", "tanh_shrink" } do
  activations[name] = core[name]
end
activations.swish = activations.silu -- Keras's other names
--- Keras's name of hard_swish.
function activations.hard_silu(x) return core.hard_swish(x) end

--- Probabilities of which many are exactly 0: the point of the simplex that is nearest to x (Martins and Astudillo).
function activations.sparsemax(x, dim)
  dim = dim or -1
  local sorted = core.sort(x:detach(), dim, true)
  local rank = core.ones_like(sorted):cumsum(dim)
  local inside = (rank * sorted + 1):gt(sorted:cumsum(dim)) -- the largest ones, which get a share
  local least = core.where(inside, sorted, math.huge):amin(dim, true)
  local mine = x:ge(least)
  local kept = core.where(mine, x, 0)
  local tau = (kept:sum(dim, true) - 1) / mine:to(x:dtype()):sum(dim, true)
  return core.relu(x - tau)
end

--- The positive parts of x and of -x, joined along `dim`.
function activations.crelu(x, dim) return core.cat({ core.relu(x), core.relu(-x) }, dim or -1) end

--- The function of `spec` and its name: a name, a function, or nil for none.
---@param spec string|function|nil
---@param owner? string whose option it is, for messages
---@return function? apply  nil when it changes nothing
---@return string name
function activations.get(spec, owner)
  if spec == nil or spec == "linear" then return nil, "linear" end
  if type(spec) == "function" then
    local found -- of two names the first in the alphabet
    for name, f in pairs(activations) do
      if f == spec and (not found or name < found) then found = name end
    end
    return spec, found or "function"
  end
  local f = spec ~= "get" and rawget(activations, spec)
  if f then return f, spec end
  local names = lists.sorted(activations, function(name) return name ~= "get" end)
  options.raise(("%sunknown activation %q%s (valid: %s)"):format(owner and owner .. ": " or "", spec,
    options.advice(spec, names), table.concat(names, ", ")))
end

return options.closed(activations, "nn.activations")
