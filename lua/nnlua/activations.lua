--- Activation functions by name: `nn.activations`.
--
-- Owns: the names that `activation = "..."` takes. Each is a function of a tensor; your own belongs here as soon as a saved model is to find it:
--
--     local nn = require "nnlua"
--     nn.activations.cube = function(x) return x * x * x end
--     local layer = nn.Dense{8, activation = "cube"}

local core = require "nnlua.core"
local options = require "nnlua.options"

local activations = {
  linear = function(x) return x end,
  relu = core.relu,
  leaky_relu = function(x, slope) return core.leaky_relu(x, slope or 0.2) end, -- Keras's slope for the function; the layer's is 0.3
  sigmoid = core.sigmoid,
  tanh = core.tanh,
  exponential = core.exp,
  softmax = core.softmax,
  log_softmax = core.log_softmax,
}

--- The function of `spec` and its name: a name, a function, or nil for none.
---@param spec string|function|nil
---@return function? apply  nil when it changes nothing
---@return string name
function activations.get(spec)
  if spec == nil or spec == "linear" then return nil, "linear" end
  if type(spec) == "function" then
    for name, f in pairs(activations) do
      if f == spec then return spec, name end
    end
    return spec, "function"
  end
  local f = spec ~= "get" and activations[spec]
  if f then return f, spec end
  local names = {}
  for name in pairs(activations) do
    if name ~= "get" then names[#names + 1] = name end
  end
  table.sort(names)
  local near = options.nearest(spec, names)
  options.raise(("unknown activation %q%s (valid: %s)"):format(spec, near and ('; did you mean "' .. near .. '"?') or "",
    table.concat(names, ", ")))
end

return activations
