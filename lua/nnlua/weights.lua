--- The weights of a module as values: model:state(), get_weights(), model:copy(). Methods of every module.
--
-- Owns: what a snapshot holds, how it is put back, and what of a module a copy shares with it. nnlua.module loads this file when one of its methods
-- is first called.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{2}, nn.Dense{1} }
--     local before = model:state()
--     model:set_weights{ { {1}, {2} }, {3} }
--     print(model(nn.ones(1, 2)):item(), #model:copy():get_weights())   --> 6.0  2
--     model:load_state(before)

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local Module = require "nnlua.module"

-- ---- state -----------------------------------------------------------------------------------------------------------

--- A snapshot of all weights: name -> tensor. Tensors are values, so it costs no copy and later training does not change it.
---@return table<string, nnlua.Tensor>
function Module:state()
  local state = {}
  for _, w in ipairs(self:weights()) do
    state[w.name] = w.tensor:detach()
    state[w.name]:keep()
  end
  return state
end

--- Bind all weights to the values of `state` (what state() gave). Nothing changes unless every name and shape fits. Returns self.
---@param state table<string, nnlua.Tensor>
function Module:load_state(state)
  local known = {}
  for _, w in ipairs(self:weights()) do
    local value = state[w.name]
    known[w.name] = true
    if not value then options.raise(("load_state: no value for %q"):format(w.name)) end
    if not lists.same(value:shape(), w.tensor:shape()) then
      options.raise(("load_state: %s is %s here but %s in the state"):format(w.name, Module.shape_text(w.tensor:shape()),
        Module.shape_text(value:shape())))
    end
  end
  for name in pairs(state) do
    if not known[name] then options.raise(("load_state: the module has no %q"):format(tostring(name))) end
  end
  for _, w in ipairs(self:weights()) do w.tensor:assign(state[w.name]) end
  return self
end

--- Parameters, then buffers, as a list of tensors (Keras's order). Tensors are values: later training does not change them.
---@return nnlua.Tensor[]
function Module:get_weights()
  local list = {}
  for i, w in ipairs(self:weights()) do
    list[i] = w.tensor:detach()
    list[i]:keep()
  end
  return list
end

--- Bind the weights to the values of a list as get_weights() gives it; tables of numbers will do. Nothing changes unless every shape fits.
--- Returns self.
---@param list (nnlua.Tensor|table)[]
function Module:set_weights(list)
  local weights, values = self:weights(), {}
  if type(list) ~= "table" then options.raise("set_weights: needs a list of tensors, got " .. options.shown(list)) end
  if #list ~= #weights then
    options.raise(("set_weights: %s has %d weights, got %d%s"):format(rawget(self, "name") or getmetatable(self).__name, #weights, #list,
      self:first_unbuilt() and (" (%s is not built yet)"):format(self:first_unbuilt()) or ""))
  end
  for i, w in ipairs(weights) do
    local value = list[i]
    if not core.is_tensor(value) then value = core.tensor(value, { dtype = w.tensor:dtype() }) end
    if not lists.same(value:shape(), w.tensor:shape()) then
      options.raise(("set_weights: %s is %s, got %s"):format(w.name, Module.shape_text(w.tensor:shape()), Module.shape_text(value:shape())))
    end
    values[i] = value:dtype() == w.tensor:dtype() and value or value:to(w.tensor:dtype())
  end
  for i, w in ipairs(weights) do w.tensor:assign(values[i]) end
  return self
end

-- ---- copies ----------------------------------------------------------------------------------------------------------

-- What belongs to one place in a model, or to its training, and so not to a copy.
local own_only = { input = true, output = true, inputs = true, outputs = true, symbols = true, compiled = true, progress = true, history = true }

local copied -- a value of a module's field, copied where modules or weights are in it

local function copied_module(module, done)
  local copy = getmetatable(module).new_object()
  setmetatable(copy, getmetatable(module))
  done[module] = copy
  local keys = {}
  for key in next, module do
    if not own_only[key] and key ~= "serial" then keys[#keys + 1] = key end
  end
  for _, key in ipairs(keys) do rawset(copy, key, copied(rawget(module, key), done)) end
  if module.on_copy then module:on_copy(copy, done) end
  return copy
end

function copied(value, done)
  if done[value] then return done[value] end
  local weight = Module.copy_weight(value)
  if weight then
    done[value] = weight
    return weight
  elseif Module.is_module(value) then
    return copied_module(value, done)
  elseif type(value) == "table" and getmetatable(value) == nil then
    local list = {}
    done[value] = list
    for key, item in next, value do list[copied(key, done)] = copied(item, done) end
    return list
  end
  return value
end

local copy_spec = { name = { "string" } }

--- A module of the same options with weights of its own, which begin with the values of this one's: `layer:copy{ name = "second" }`. What is
--- shared within this module is shared within the copy. It has no name unless one is given, and is not compiled.
---@param given? { name?: string }
function Module:copy(given)
  local o = options.check("copy", given, copy_spec)
  local copy = copied_module(self, {})
  rawset(copy, "name", o.name)
  return copy
end

return Module
