--- The base of all optimizers: options, parameters and groups, state for files, and what happens around a rule in a step.
--
-- Owns: a step from gradients to new values, except the rule itself. In order: learning rate of the schedule, accumulation over several calls,
-- the loss scale, clipping, the rule, moving averages (EMA), constraints of layers. All of it is recorded and runs once. A rule is a method:
--
--     local nn = require "nnlua"
--     local SignSGD = nn.class("SignSGD", nn.optim.Optimizer)
--     SignSGD.options = SignSGD.with_common { lr = { "number|table|function", default = 0.01 } }
--     function SignSGD:rule(p, g, slot, o) return p - nn.sign(g) * o.lr end
--     local w = nn.parameter{ 3 }
--     local opt = SignSGD{ {w}, lr = 0.5 }
--     w:sum():backward()
--     opt:step()
--     print(w:item())                               --> 2.5
--
-- `slot` holds what slot_names() names, per parameter; a rule assigns new tensors to its fields. `o` has lr, weight_decay (of the group), step
-- (from 1) and name, the parameter's. The options of the optimizer are fields of self. A failed step changes nothing.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local schedules = require "nnlua.schedules"
local clip = require "nnlua.optim.clip"
local LossScale = require "nnlua.optim.scale"

---@class nnlua.Optimizer
---@field lr number learning rate, now
---@field schedule? function|table gives the learning rate from the number of steps taken
---@field iterations integer steps taken
local Optimizer = class "Optimizer"
Optimizer.aliases = { learning_rate = "lr" }
Optimizer.keras_keys = { lr = "learning_rate" }

local common = {
  parameters = { "table", position = 1 },
  name = { "string" },
  weight_decay = { "number", default = 0, min = 0 },
  clipnorm = { "number", above = 0 },
  clipvalue = { "number", above = 0 },
  global_clipnorm = { "number", above = 0 },
  use_ema = { "boolean", default = false },
  ema_momentum = { "number", default = 0.99, min = 0, max = 1 },
  ema_overwrite_frequency = { "integer", min = 1 },
  gradient_accumulation_steps = { "integer", default = 1, min = 1 },
  loss_scale = { "string|number|boolean|table" },
}

--- The options that every optimizer has, added to its own. Returns spec.
---@param spec table<string, nnlua.OptionRule>
function Optimizer.with_common(spec)
  for key, rule in pairs(common) do spec[key] = spec[key] or rule end
  return spec
end

local function name_of(self) return getmetatable(self).__name end

-- Options by their own names; `parameters` comes first, by place.
local function checked(self, given, spec)
  local plain = {}
  for key, value in pairs(type(given) == "table" and given or {}) do
    local name = self.aliases[key] or key
    if plain[name] ~= nil then options.raise(("%s: %q is given twice"):format(name_of(self), name)) end
    plain[name] = value
  end
  return options.check(name_of(self), plain, spec, self.aliases)
end

local function set_lr(self, lr)
  if type(lr) == "number" then
    if lr < 0 or lr ~= lr then options.raise(('%s: option "lr" must be at least 0, got %s'):format(name_of(self), options.shown(lr))) end
    self.lr, self.schedule = lr, nil
  else
    self.schedule = schedules.get(lr)
    self.lr = self.schedule(self.iterations)
  end
end

function Optimizer:init(given)
  local o = checked(self, given, self.options)
  self.iterations, self.pending = 0, 0 -- pending: calls since the last step, when gradients are accumulated
  for key in pairs(self.options) do
    if key ~= "parameters" and key ~= "lr" then self[key] = o[key] end
  end
  set_lr(self, o.lr)
  local clips = (self.clipnorm and 1 or 0) + (self.clipvalue and 1 or 0) + (self.global_clipnorm and 1 or 0)
  if clips > 1 then options.raise(name_of(self) .. ": give only one of clipnorm, clipvalue and global_clipnorm") end
  self:checked()
  if o.parameters then self:bind(o.parameters) end
end

--- Hook: checks beyond the options' types.
function Optimizer:checked() end -- luacheck: no unused args

-- ---- parameters and groups -------------------------------------------------------------------------------------------

local group_spec = {
  params = { "table", position = 1, required = true }, lr = { "number|table|function" }, lr_scale = { "number", default = 1, min = 0 },
  weight_decay = { "number", min = 0 }, name = { "string" },
}

-- Groups of what the user gave: a list of tensors is one group, a list of tables is one each.
local function groups_of(self, given)
  local module = Module.is_module(given) and given or Module.is_module(given[1]) and given[1]
  if module then
    options.raise(("%s: takes the parameters of a model, not the model: nn.optim.%s{ model:parameters() }, got %s"):format(name_of(self),
      name_of(self), rawget(module, "name") or getmetatable(module).__name))
  end
  if type(given[1]) ~= "table" then return { { params = given, lr_scale = 1 } } end
  local groups = {}
  for i, entry in ipairs(given) do
    groups[i] = options.check(("%s: group %d"):format(name_of(self), i), entry, group_spec)
    if groups[i].lr then groups[i].schedule = type(groups[i].lr) ~= "number" and schedules.get(groups[i].lr) or nil end
  end
  return groups
end

local function add_parameter(self, group, index, p, name, seen)
  if type(p) ~= "userdata" then
    options.raise(("%s: parameter %d must be a tensor, got %s"):format(name_of(self), index, options.shown(p)))
  end
  if seen[p] then options.raise(("%s: parameter %d is there twice"):format(name_of(self), index)) end
  local at = #self.parameters + 1
  name = name or ("p%d"):format(at)
  while seen[name] do name = ("%s_%d"):format(name, at) end
  seen[p], seen[name] = true, true
  self.parameters[at], self.names[at] = p, name
  group.members[#group.members + 1] = at
end

local of_all = { accumulated = true, average = true } -- slots that are no rule's: of the parameter's shape, from 0

-- Every slot with its starting values.
local function make_slots(self)
  self.slots = {}
  for _, slot in ipairs(self:all_slots()) do
    local tensors = {}
    for i, p in ipairs(self.parameters) do
      local _ <close> = core.here(p)
      local dtype = p:dtype() == "f64" and "f64" or "f32" -- a half has its state in f32
      tensors[i] = core.full(of_all[slot] and p:shape() or self:slot_shape(slot, p:shape()), of_all[slot] and 0 or self:slot_start(slot), dtype)
      tensors[i]:keep()
    end
    self.slots[slot] = tensors
  end
end

--- Give the optimizer the parameters that it is to train: a list of tensors, as `model:parameters()` makes it, or a list of groups,
--- `{ { params = base:parameters(), lr_scale = 0.1 }, { params = head:parameters(), weight_decay = 0 } }`. A group may have its own lr, or
--- lr_scale, a factor on the optimizer's. Returns self.
---@param parameters table
function Optimizer:bind(parameters)
  local groups, seen = groups_of(self, parameters), {}
  self.parameters, self.names, self.touched = {}, {}, {}
  for _, group in ipairs(groups) do
    group.members = {}
    for i, p in ipairs(group.params) do
      local name = group.params.names and group.params.names[i]
      add_parameter(self, group, i, p, name and group.name and group.name .. "." .. name or name, seen)
    end
  end
  if #self.parameters == 0 then options.raise(name_of(self) .. ": the list of parameters is empty") end
  self.groups = groups
  make_slots(self)
  self.scaler = LossScale.of(name_of(self), self.loss_scale, self.parameters[1]:device())
  core.eval() -- so that a first step that fails finds the values from before it
  return self
end

--- Names of what the rule remembers per parameter.
function Optimizer:slot_names() return {} end -- luacheck: no unused args

--- The number that fills a slot at the start.
function Optimizer:slot_start() return 0 end -- luacheck: no unused args

--- The shape of a slot of a parameter of `shape`.
function Optimizer:slot_shape(_, shape) return shape end -- luacheck: no unused args

--- Names of all slots: those of the rule, and of accumulation and averages.
function Optimizer:all_slots()
  local names = table.move(self:slot_names(), 1, #self:slot_names(), 1, {})
  if self.gradient_accumulation_steps > 1 then names[#names + 1] = "accumulated" end
  if self.use_ema then names[#names + 1] = "average" end
  return names
end

local function bound(self)
  if not self.parameters then
    options.raise(("%s: no parameters; make it with them, nn.optim.%s{ net:parameters(), lr = ... }, or give it to model:compile")
      :format(name_of(self), name_of(self)))
  end
  return self.parameters
end

--- The loss, times the loss scale where there is one: `opt:scale_loss(loss):backward()`.
---@param loss nnlua.Tensor
---@return nnlua.Tensor
function Optimizer:scale_loss(loss)
  bound(self)
  return self.scaler and loss * self.scaler.scale or loss
end

--- Switch the loss scale on (see the option loss_scale) or, with false, off. compile() does for models that compute in f16. Returns self.
function Optimizer:use_loss_scale(given)
  self.loss_scale = given
  if self.parameters then self.scaler = LossScale.of(name_of(self), given, self.parameters[1]:device()) end
  return self
end

--- The loss scale now; nil without one. Reads from the device.
---@return number?
function Optimizer:current_scale() return self.scaler and self.scaler.scale:item() end

--- Forget all gradients.
function Optimizer:zero_grad()
  local parameters = bound(self)
  for i = 1, #parameters do parameters[i]:set_grad(nil) end
end

-- ---- a step ----------------------------------------------------------------------------------------------------------

-- What is to be bound when nothing can be wrong any more: list of { handle, new value }.
local function bind_later(updates, handle, value) updates[#updates + 1] = { handle, value } end

-- Adds the gradients to those that wait; when the last of them is there, gives their means as a table by index, else nil.
local function accumulate(self, updates)
  local n, sums, grads = self.gradient_accumulation_steps, self.slots.accumulated, {}
  local last = self.pending + 1 == n
  for i, p in ipairs(self.parameters) do
    local g = p:grad()
    self.touched[i] = self.touched[i] or g ~= nil
    if self.touched[i] then
      local sum = g and sums[i] + g or sums[i]
      if last then grads[i] = sum / n end
      bind_later(updates, sums[i], last and sums[i]:zeros_like() or sum)
    end
  end
  return last and grads or nil
end

-- Gradients by index of the parameter; nil when there is nothing to do yet. Second: whether they differ from what p:grad() gives. Third: with a loss
-- scale, a tensor that says whether all of them are finite.
local function gradients(self, updates)
  local grads, changed = {}, false
  if self.gradient_accumulation_steps > 1 then
    grads, changed = accumulate(self, updates), true
    if not grads then return nil end
  else
    for i, p in ipairs(self.parameters) do grads[i] = p:grad() end
  end
  local finite
  if self.scaler then
    finite, changed = self.scaler:unscale(grads, #self.parameters), true
  end
  if self.clipvalue then
    changed = clip.by_value(grads, #self.parameters, self.clipvalue)
  elseif self.clipnorm then
    changed = clip.by_norm(grads, #self.parameters, self.clipnorm)
  elseif self.global_clipnorm then
    changed = clip.by_global_norm(grads, #self.parameters, self.global_clipnorm)
  end
  return grads, changed, finite
end

-- What a rule needs to know besides the tensors.
local function settings_of(self, group)
  local lr = group.schedule and group.schedule(self.iterations) or group.lr or self.lr
  return { lr = lr * group.lr_scale, weight_decay = group.weight_decay or self.weight_decay, step = self.iterations + 1 }
end

--- One parameter: its new value from its gradient and its slots. An optimizer has this, or update_group().
function Optimizer:rule()
  options.raise(("%s has no rule(); define `function %s:rule(p, g, slot, o) ... end`"):format(name_of(self), name_of(self)))
end

--- The weight decay of the parameter p: that of its group, or the optimizer's.
function Optimizer:decay_of(_, o) return o.weight_decay end -- luacheck: no unused args

-- Weight decay that is not part of the gradient, as Keras has it: p - lr * weight_decay * p.
local function decayed(p, lr, decay) return decay > 0 and p * (1 - lr * decay) or p end

--- Record the rule for the parameters of a group. Nothing is bound yet, so a rule that raises changes nothing.
function Optimizer:update_group(group, grads, o, _, updates)
  local names = self:slot_names()
  local slot = {}
  for _, i in ipairs(group.members) do
    if grads[i] then
      local p = self.parameters[i]
      for _, name in ipairs(names) do slot[name] = self.slots[name][i] end
      o.name = self.names[i]
      bind_later(updates, p, self:rule(decayed(p:detach(), o.lr, self:decay_of(p, o)), grads[i], slot, o))
      for _, name in ipairs(names) do
        if slot[name] ~= self.slots[name][i] then bind_later(updates, self.slots[name][i], slot[name]) end
      end
    end
  end
end

-- average = m * average + (1 - m) * p; the first average is the parameter itself.
local function follow(self)
  local m = self.iterations > 0 and self.ema_momentum or 0
  local overwrite = self.ema_overwrite_frequency and (self.iterations + 1) % self.ema_overwrite_frequency == 0
  for i, p in ipairs(self.parameters) do
    local average = self.slots.average[i]
    average:assign(average * m + p:detach() * (1 - m))
    if overwrite then p:assign(average:detach()) end
  end
end

local function constrain(self)
  for _, p in ipairs(self.parameters) do
    local constraint = Module.constraint_of(p)
    if constraint then p:assign(constraint(p:detach())) end
  end
end

-- What a step may change, with its value now: list of { handle, value }.
local function values_of(self)
  local list = {}
  for _, p in ipairs(self.parameters) do list[#list + 1] = { p, p:detach() } end
  for name, tensors in pairs(self.slots) do
    for _, t in ipairs(name ~= "accumulated" and tensors or {}) do list[#list + 1] = { t, t:detach() } end
  end
  return list
end

-- Puts back the values from before a step whose gradients were not finite.
local function skip_unless(finite, before)
  for _, entry in ipairs(before) do
    local handle, old = entry[1], entry[2]
    handle:assign(core.where(finite, handle:detach(), old))
  end
end

local function record(self)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local updates = {}
  local grads, changed, finite = gradients(self, updates)
  local before = finite and values_of(self)
  for _, group in ipairs(grads and self.groups or {}) do self:update_group(group, grads, settings_of(self, group), changed, updates) end
  for _, update in ipairs(updates) do update[1]:assign(update[2]) end
  if not grads then return false end
  self.touched = {}
  if self.use_ema then follow(self) end
  constrain(self)
  if finite then
    skip_unless(finite, before)
    self.scaler:follow(finite)
  end
  return true
end

local function step(self)
  if self.schedule then self.lr = self.schedule(self.iterations) end
  local stepped = record(self)
  core.eval()
  self.pending = stepped and 0 or self.pending + 1
  if stepped then self.iterations = self.iterations + 1 end
end

--- Does a step differ from the one before in the numbers of its updates only, and can it tell them (core.adam_renew)? With `o`, it does so now.
function Optimizer:renew() return false end -- luacheck: no unused args

-- In a function that nn.jit records. A step whose numbers can be told becomes part of the recording; each replay asks for the numbers. Another one
-- stays a call, which each replay makes.
local changing = { iterations = true, pending = true, lr = true } -- the other options are part of the recording

local function renew(self)
  if self.schedule then self.lr = self.schedule(self.iterations) end
  for _, group in ipairs(self.groups) do self:renew(settings_of(self, group)) end
end

local function finish(self) self.iterations = self.iterations + 1 end

local function recorded_step(self)
  if self.gradient_accumulation_steps > 1 or self.use_ema or self.scaler or not self:renew() then
    core.jit_host(step, self)
    return
  end
  core.jit_note(self, changing)
  for _, group in ipairs(self.groups) do core.jit_note(group) end
  core.jit_renewal(renew, self)
  if self.schedule then self.lr = self.schedule(self.iterations) end
  record(self)
  core.jit_host(finish, self)
end

--- Change each parameter by its gradient, and run all that is pending.
function Optimizer:step()
  bound(self)
  if core.jit_recording() then recorded_step(self) else step(self) end
end

--- Exchange the parameters and their moving averages (use_ema = true): once to evaluate with the averages, once more to go on. Returns self.
function Optimizer:swap_ema()
  bound(self)
  if not self.use_ema then options.raise(name_of(self) .. ": swap_ema needs use_ema = true") end
  if self.iterations == 0 then return self end
  local _ <close> = core.no_grad()
  for i, p in ipairs(self.parameters) do
    local value = p:detach()
    p:assign(self.slots.average[i]:detach())
    self.slots.average[i]:assign(value)
  end
  core.eval()
  return self
end

-- ---- options, configuration, state -----------------------------------------------------------------------------------

--- Change options between steps: `opt:adjust{ lr = 1e-4 }`. Returns self.
---@param given table
function Optimizer:adjust(given)
  local spec = {}
  for key, rule in pairs(self.options) do
    if key ~= "parameters" and key ~= "name" and key ~= "use_ema" and key ~= "loss_scale" and key ~= "gradient_accumulation_steps" then
      spec[key] = { rule[1], min = rule.min, max = rule.max, above = rule.above, below = rule.below }
    end
  end
  for key, value in pairs(checked(self, given, spec)) do
    if key == "lr" then set_lr(self, value) else self[key] = value end
  end
  return self
end

-- Common options are told only where they are not at their defaults.
local function quiet(self, key) return common[key] and self.options[key] == common[key] and self[key] == common[key].default end

--- Class name and options, for files, with Keras's names.
---@return table
function Optimizer:config()
  local config = {}
  for key in pairs(self.options) do
    if key ~= "parameters" and not quiet(self, key) then config[self.keras_keys[key] or key] = self[key] end
  end
  if type(self.schedule) == "table" then config.learning_rate = self.schedule:config() end -- of a function a file keeps the present value
  return { class_name = name_of(self), config = config }
end

--- Move what the optimizer keeps per parameter to a device; Module:to calls it. Returns self.
---@param device string
function Optimizer:to(device)
  for _, tensors in pairs(self.slots or {}) do
    for _, tensor in ipairs(tensors) do core.move(tensor, device) end
  end
  if self.scaler then
    core.move(self.scaler.scale, device)
    core.move(self.scaler.good, device)
  end
  return self
end

--- All that training needs to go on: { iterations =, pending =, slots = { { name = "dense.kernel", slot = "m", tensor = }, ... } }, parameter by
--- parameter.
---@return table
function Optimizer:state()
  local list = {}
  for i in ipairs(self.parameters or {}) do
    for _, slot in ipairs(self:all_slots()) do
      list[#list + 1] = { name = self.names[i], slot = slot, tensor = self.slots[slot][i] }
    end
  end
  if self.scaler then
    for _, slot in ipairs { "scale", "good" } do list[#list + 1] = { name = "loss_scale", slot = slot, tensor = self.scaler[slot] } end
  end
  return { iterations = self.iterations, pending = self.pending, slots = list }
end

--- Take back what state() gave. Nothing changes unless every name and shape fits. Returns self.
---@param state table
function Optimizer:set_state(state)
  if type(state) ~= "table" or type(state.slots) ~= "table" then
    options.raise(("%s: set_state needs what state() gave, got %s"):format(name_of(self), options.shown(state)))
  end
  local mine, from = {}, {}
  for _, entry in ipairs(self:state().slots) do mine[entry.slot .. " of " .. entry.name] = entry.tensor end
  for _, entry in ipairs(state.slots) do
    local key = entry.slot .. " of " .. entry.name
    local here = mine[key]
    if not here then options.raise(("%s: the state has %s, which this optimizer has not"):format(name_of(self), key)) end
    if table.concat(here:shape(), "x") ~= table.concat(entry.tensor:shape(), "x") then
      options.raise(("%s: %s is %s here but %s in the state"):format(name_of(self), key, table.concat(here:shape(), "x"),
        table.concat(entry.tensor:shape(), "x")))
    end
    from[key] = entry.tensor
  end
  for key in pairs(mine) do
    if not from[key] then options.raise(("%s: the state has no %s"):format(name_of(self), key)) end
  end
  for key, tensor in pairs(from) do mine[key]:assign(tensor) end
  self.iterations, self.pending = state.iterations, state.pending or 0
  for i in ipairs(self.parameters or {}) do self.touched[i] = self.pending > 0 end
  if self.schedule then self.lr = self.schedule(self.iterations) end
  return self
end

function Optimizer:__tostring()
  local words = {}
  for key in pairs(self.options) do
    if key ~= "parameters" and key ~= "name" and self[key] ~= nil and (key == "weight_decay" or not quiet(self, key)) then
      words[#words + 1] = ("%s = %s"):format(key, key == "lr" and self.schedule or self[key])
    end
  end
  table.sort(words)
  return ("%s{%s}"):format(name_of(self), table.concat(words, ", "))
end

return Optimizer
