--- Optimizers: `nn.optim`. How gradients change parameters.
--
-- Owns: the options and the state (moments, step count) of an optimizer; the arithmetic is one fused update in the runtime. An optimizer is made
-- for a model that compile() will give it, or by hand with the parameters first:
--
--     local nn = require "nnlua"
--     local w = nn.parameter{ 3 }
--     local opt = nn.optim.SGD{ {w}, lr = 0.1 }
--     for _ = 1, 20 do
--       local loss = (w * w):sum()
--       opt:zero_grad()
--       loss:backward()
--       opt:step()
--     end
--     print(("%.4f"):format(w:item()))              --> 0.0346
--
-- A step runs what is pending, so memory stays bounded in any loop. Parameters without a gradient are left as they are.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local optim = {}

---@class nnlua.Optimizer
---@field lr number learning rate
---@field iterations integer steps taken
local Optimizer = class "Optimizer"
optim.Optimizer = Optimizer
Optimizer.aliases = { learning_rate = "lr" }

-- Options by their own names; `parameters` comes first, by place.
local function checked(self, given, spec)
  local plain = {}
  for key, value in pairs(type(given) == "table" and given or {}) do
    local name = self.aliases[key] or key
    if plain[name] ~= nil then options.raise(("%s: %q is given twice"):format(getmetatable(self).__name, name)) end
    plain[name] = value
  end
  return options.check(getmetatable(self).__name, plain, spec)
end

local function with_common(spec)
  spec.parameters = { "table", position = 1 }
  spec.name = { "string" }
  return spec
end

function Optimizer:init(given)
  local o = checked(self, given, self.options)
  for key in pairs(self.options) do
    if key ~= "parameters" then self[key] = o[key] end
  end
  self.iterations = 0
  self:checked()
  if o.parameters then self:bind(o.parameters) end
end

function Optimizer:checked() end -- luacheck: no unused args

--- Give the optimizer the parameters that it is to train: a list of tensors, as `model:parameters()` makes it. Returns self.
---@param parameters nnlua.Tensor[]
function Optimizer:bind(parameters)
  local list, names = {}, {}
  for i, p in ipairs(parameters) do
    if type(p) ~= "userdata" then
      options.raise(("%s: parameter %d must be a tensor, got %s"):format(getmetatable(self).__name, i, options.shown(p)))
    end
    list[i], names[i] = p, parameters.names and parameters.names[i] or ("p%d"):format(i)
  end
  if #list == 0 then options.raise(getmetatable(self).__name .. ": the list of parameters is empty") end
  self.parameters, self.names, self.slots = list, names, {}
  for _, slot in ipairs(self:slot_names()) do
    local tensors = {}
    for i, p in ipairs(list) do
      tensors[i] = core.zeros(p:shape(), p:dtype() == "f64" and "f64" or "f32")
      tensors[i]:keep()
    end
    self.slots[slot] = tensors
  end
  core.eval() -- so that a first step that fails finds the values from before it
  return self
end

--- Names of what the optimizer remembers per parameter.
function Optimizer:slot_names() return {} end -- luacheck: no unused args

local function bound(self)
  if not self.parameters then
    options.raise(("%s: no parameters; make it with them, nn.optim.%s{ net:parameters(), lr = ... }, or give it to model:compile")
      :format(getmetatable(self).__name, getmetatable(self).__name))
  end
  return self.parameters
end

--- Forget all gradients.
function Optimizer:zero_grad()
  local parameters = bound(self)
  for i = 1, #parameters do parameters[i]:set_grad(nil) end
end

--- Change each parameter by its gradient, and run all that is pending.
function Optimizer:step()
  local parameters = bound(self)
  self:update(parameters, self.iterations + 1)
  self.iterations = self.iterations + 1
end

--- Change options between steps: `opt:adjust{ lr = 1e-4 }`. Returns self.
---@param given table
function Optimizer:adjust(given)
  local spec = {}
  for key, rule in pairs(self.options) do
    if key ~= "parameters" and key ~= "name" then spec[key] = { rule[1], min = rule.min, max = rule.max, above = rule.above, below = rule.below } end
  end
  for key, value in pairs(checked(self, given, spec)) do self[key] = value end
  return self
end

--- Class name and options, for files, with Keras's names.
---@return table
function Optimizer:config()
  local config = {}
  for key in pairs(self.options) do
    if key ~= "parameters" then config[self.keras_keys[key] or key] = self[key] end
  end
  return { class_name = getmetatable(self).__name, config = config }
end
Optimizer.keras_keys = { lr = "learning_rate" }

--- All that training needs to go on: { iterations =, slots = { { name = "dense.kernel", slot = "m", tensor = }, ... } }, parameter by parameter.
---@return table
function Optimizer:state()
  local list = {}
  for i in ipairs(self.parameters or {}) do
    for _, slot in ipairs(self:slot_names()) do
      list[#list + 1] = { name = self.names[i], slot = slot, tensor = self.slots[slot][i] }
    end
  end
  return { iterations = self.iterations, slots = list }
end

--- Take back what state() gave. Nothing changes unless every name and shape fits. Returns self.
---@param state table
function Optimizer:set_state(state)
  local mine, from = {}, {}
  for _, entry in ipairs(self:state().slots) do mine[entry.slot .. " of " .. entry.name] = entry.tensor end
  for _, entry in ipairs(state.slots) do
    local key = entry.slot .. " of " .. entry.name
    local here = mine[key]
    if not here then options.raise(("%s: the state has %s, which this optimizer has not"):format(getmetatable(self).__name, key)) end
    if table.concat(here:shape(), "x") ~= table.concat(entry.tensor:shape(), "x") then
      options.raise(("%s: %s is %s here but %s in the state"):format(getmetatable(self).__name, key, table.concat(here:shape(), "x"),
        table.concat(entry.tensor:shape(), "x")))
    end
    from[key] = entry.tensor
  end
  for key in pairs(mine) do
    if not from[key] then options.raise(("%s: the state has no %s"):format(getmetatable(self).__name, key)) end
  end
  for key, tensor in pairs(from) do mine[key]:assign(tensor) end
  self.iterations = state.iterations
  return self
end

function Optimizer:__tostring()
  local words = {}
  for key in pairs(self.options) do
    if key ~= "parameters" and key ~= "name" then words[#words + 1] = ("%s = %s"):format(key, self[key]) end
  end
  table.sort(words)
  return ("%s{%s}"):format(getmetatable(self).__name, table.concat(words, ", "))
end

-- ---- SGD -------------------------------------------------------------------------------------------------------------

--- Stochastic gradient descent: `v = momentum * v + g; p = p - lr * v` (nesterov: `p = p - lr * (g + momentum * v)`).
---@class nnlua.SGD: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, momentum?: number, nesterov?: boolean, weight_decay?: number }): nnlua.SGD
local SGD = class("SGD", Optimizer)
optim.SGD = SGD
SGD.options = with_common {
  lr = { "number", default = 0.01, min = 0 },
  momentum = { "number", default = 0, min = 0, max = 1 },
  nesterov = { "boolean", default = false },
  weight_decay = { "number", default = 0, min = 0 },
}

function SGD:checked()
  if self.nesterov and self.momentum == 0 then options.raise "SGD: nesterov needs a momentum above 0" end
end

function SGD:slot_names() return self.momentum > 0 and { "momentum" } or {} end

function SGD:update(parameters)
  core.sgd_step(parameters, self.slots.momentum, {
    lr = self.lr, momentum = self.momentum, nesterov = self.nesterov, weight_decay = self.weight_decay, dampening = 0 })
end

-- ---- Adam ------------------------------------------------------------------------------------------------------------

--- Adam: steps scaled by running means of the gradient (m) and of its square (v), both corrected for their start at zero.
--- weight_decay shrinks the parameters themselves (AdamW), it is not added to the gradient.
---@class nnlua.Adam: nnlua.Optimizer
---@overload fun(options: { [1]?: nnlua.Tensor[], lr?: number, beta_1?: number, beta_2?: number, epsilon?: number }): nnlua.Adam
local Adam = class("Adam", Optimizer)
optim.Adam = Adam
Adam.aliases = { learning_rate = "lr", beta1 = "beta_1", beta2 = "beta_2", eps = "epsilon" }
Adam.options = with_common {
  lr = { "number", default = 0.001, min = 0 },
  beta_1 = { "number", default = 0.9, min = 0, below = 1 },
  beta_2 = { "number", default = 0.999, min = 0, below = 1 },
  epsilon = { "number", default = 1e-7, min = 0 },
  weight_decay = { "number", default = 0, min = 0 },
}

function Adam:slot_names() return { "m", "v" } end -- luacheck: no unused args

function Adam:update(parameters, step)
  core.adam_step(parameters, self.slots.m, self.slots.v, {
    lr = self.lr, beta1 = self.beta_1, beta2 = self.beta_2, eps = self.epsilon, weight_decay = self.weight_decay, step = step })
end

-- ---- by name ---------------------------------------------------------------------------------------------------------

--- The optimizer of `spec`: an optimizer, a name ("adam"), or what config() gave.
---@param spec string|table
---@return nnlua.Optimizer
function optim.get(spec)
  if class.isa(spec, Optimizer) then return spec end
  local name, config = spec, {}
  if type(spec) == "table" and type(spec.class_name) == "string" then name, config = spec.class_name, spec.config or {} end
  if type(name) == "string" then
    local names = {}
    for key, c in pairs(optim) do
      if type(c) == "table" and c ~= Optimizer then
        names[#names + 1] = key
        if key:lower() == name:lower() then
          local given = {}
          for k, value in pairs(config) do
            local own = c.aliases[k] or k
            if c.options[own] and own ~= "parameters" and type(value) ~= "userdata" then given[own] = value end
          end
          return c(given)
        end
      end
    end
    table.sort(names)
    local near = options.nearest(name, names)
    options.raise(("unknown optimizer %q%s (valid: %s)"):format(name, near and ('; did you mean "' .. near .. '"?') or "", table.concat(names, ", ")))
  end
  options.raise("an optimizer must be a name or an object such as nn.optim.Adam{lr = 1e-3}, got " .. options.shown(spec))
end

return optim
