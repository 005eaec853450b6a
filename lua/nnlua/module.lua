--- Modules: what holds parameters. `nn.Module` is the base of layers, of models and of your own networks.
--
-- Owns: how parameters, buffers and child modules are found and named, train/eval mode, freezing, the call, printing.
-- A module registers what is assigned to it, in the order in which it was made: tensors from `nn.parameter` (trained) or `nn.buffer` (saved,
-- not trained), modules, and plain lists of modules. So names and order are the same in every run.
--
--     local nn = require "nnlua"
--     local Net = nn.class("Net", nn.Module)
--     function Net:init(hidden)
--       self.fc1, self.fc2 = nn.Dense{hidden, activation = "relu"}, nn.Dense{10}
--       self.scale = nn.parameter(nn.ones(1))
--     end
--     function Net:forward(x) return self.fc2(self.fc1(x)) * self.scale end
--     local net = Net(32)
--     print(net(nn.zeros(4, 784)):size())           --> 4  10
--     print(table.concat(net:parameters().names, " "))   --> scale fc1.kernel fc1.bias fc2.kernel fc2.bias
--
-- Invariant: a parameter's handle never changes; training and loading bind it to new values (x:assign).

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local masks = require "nnlua.mask"

---@class nnlua.Module
---@field name? string       its name in the module that holds it
---@field training boolean   dropout drops, batch norm uses the batch
---@field trainable? boolean false after freeze()
---@field built boolean
local Module = class "Module"
Module.built, Module.trainable = true, true
Module.keeps_mask = false -- a layer whose result has the mask of its (first) input says true

local serial = 0 -- of the module or parameter made last

function Module.new_object()
  serial = serial + 1
  return { attribute_names = {}, attribute_serials = {}, serial = serial, training = true }
end

-- ---- parameters and buffers ------------------------------------------------------------------------------------------

local kinds = setmetatable({}, { __mode = "k" }) -- tensor handle -> "parameter" or "buffer"
local serials = setmetatable({}, { __mode = "k" }) -- tensor handle -> its serial

local function marked(value, kind)
  local t = type(value) == "userdata" and value:detach() or core.tensor(value, { dtype = "f32" })
  t:keep() -- layers may be built inside a step's scope
  serial = serial + 1
  kinds[t], serials[t] = kind, serial
  return t
end

--- A trained tensor from a tensor, table or number. Assigned to a module it is one of its parameters.
---@param value nnlua.Tensor|table|number
---@return nnlua.Tensor
function Module.parameter(value)
  local t = marked(value, "parameter")
  t:requires_grad(true)
  return t
end

--- A tensor that belongs to a module's state but is not trained (running averages).
---@param value nnlua.Tensor|table|number
---@return nnlua.Tensor
function Module.buffer(value) return marked(value, "buffer") end

local constraints = setmetatable({}, { __mode = "k" }) -- parameter -> function that an optimizer applies after each step
local penalties = setmetatable({}, { __mode = "k" }) -- parameter -> function that gives its part of the loss

--- Bind a parameter to `constraint`, a function of its value that gives the nearest allowed one; optimizers apply it after each step.
function Module.constrain(parameter, constraint) constraints[parameter] = constraint end

--- The constraint of a parameter, nil when it has none.
function Module.constraint_of(parameter) return constraints[parameter] end

--- Add `penalty`, a function of the parameter that gives a scalar, to the loss of every model that has the parameter.
function Module.penalize(parameter, penalty) penalties[parameter] = penalty end

--- A parameter or buffer of the same value, trainable, constrained and penalized as `value`; nil when that is neither.
function Module.copy_weight(value)
  local kind = kinds[value]
  if not kind then return nil end
  local t = marked(value, kind)
  if kind == "parameter" then t:requires_grad(value:requires_grad()) end
  constraints[t], penalties[t] = constraints[value], penalties[value]
  return t
end

local activities = setmetatable({}, { __mode = "k" }) -- module -> what its last call adds to the loss

--- Add `value`, a scalar tensor, to what the next regularization() of a model with `module` gives. Only in training mode: other calls are no part
--- of a loss.
function Module.penalize_activity(module, value)
  if module.training then activities[module] = value end
end

local function is_module(value) return type(value) == "table" and rawget(value, "attribute_names") ~= nil end
Module.is_module = is_module

-- When `value` was made: of a list of modules, its first one.
local function serial_of(value)
  if type(value) == "table" then
    if is_module(value) then return value.serial end
    return is_module(value[1]) and value[1].serial or serial
  end
  return serials[value] or serial
end

-- A new attribute. Of `self.a, self.b = A(), B()` Lua may assign b first: so attributes are ordered by when their first values were made.
function Module:__newindex(key, value)
  local names, made, at = self.attribute_names, self.attribute_serials, serial_of(value)
  local i = #names + 1
  while i > 1 and made[i - 1] > at do i = i - 1 end
  table.insert(names, i, key)
  table.insert(made, i, at)
  if is_module(value) and rawget(value, "name") == nil and type(key) == "string" then rawset(value, "name", key) end
  rawset(self, key, value)
end

-- Attributes in order, each once: for key, value in attributes(m)
local function attributes(module)
  local names, seen, i = module.attribute_names, {}, 0
  return function()
    while i < #names do
      i = i + 1
      local key = names[i]
      local value = not seen[key] and rawget(module, key)
      seen[key] = true
      if value then return key, value end
    end
  end
end

-- Own tensors of `kind`, as a list of { key, tensor }.
local function own_tensors(module, kind)
  local list = {}
  for key, value in attributes(module) do
    if kinds[value] == kind then list[#list + 1] = { key, value } end
  end
  return list
end

--- The modules that are attributes of this one, as a list of { name, module }, in order.
---@return table[]
function Module:children()
  local list = {}
  for key, value in attributes(self) do
    if is_module(value) then
      list[#list + 1] = { tostring(key), value }
    elseif type(value) == "table" and getmetatable(value) == nil then
      for i, entry in ipairs(value) do
        if is_module(entry) then list[#list + 1] = { ("%s.%d"):format(key, i), entry } end
      end
    end
  end
  return list
end

local function walk(module, path, list, seen)
  if seen[module] then return list end
  seen[module] = true
  list[#list + 1] = { path, module }
  for _, child in ipairs(module:children()) do
    walk(child[2], path == "" and child[1] or path .. "." .. child[1], list, seen)
  end
  return list
end

--- This module and all below it, each once, parents first, as a list of { path, module }; the path of this one is "".
---@return table[]
function Module:modules() return walk(self, "", {}, {}) end

local function named_tensors(self, kind)
  local list, seen = {}, {}
  for _, entry in ipairs(self:modules()) do
    for _, own in ipairs(own_tensors(entry[2], kind)) do
      if not seen[own[2]] then
        seen[own[2]] = true
        list[#list + 1] = { name = entry[1] == "" and own[1] or entry[1] .. "." .. own[1], tensor = own[2], trainable = kind == "parameter" }
      end
    end
  end
  return list
end

--- All parameters with their names: a list of { name =, tensor =, trainable = true }.
---@return table[]
function Module:named_parameters() return named_tensors(self, "parameter") end

--- All buffers with their names.
---@return table[]
function Module:named_buffers() return named_tensors(self, "buffer") end

--- Parameters, then buffers: all that a file must hold, in a stable order; a list of { name =, tensor =, trainable = }.
---@return table[]
function Module:weights()
  local list, buffers = self:named_parameters(), self:named_buffers()
  return table.move(buffers, 1, #buffers, #list + 1, list)
end

--- All parameters, for an optimizer: a list of tensors, with their names in field `names`.
---@return nnlua.Tensor[]
function Module:parameters()
  local unbuilt = self:first_unbuilt(true)
  if unbuilt then
    options.raise(("parameters: %s is not built yet, its input size is unknown; call the module once or use :build{sizes of one sample}")
      :format(unbuilt))
  end
  local list, names = {}, {}
  for i, p in ipairs(self:named_parameters()) do list[i], names[i] = p.tensor, p.name end
  list.names = names
  return list
end

--- The sum of what the regularizers of all parameters below say, and of activities in the last call, as a scalar tensor; nil when there are none.
--- fit adds it to the loss; in a loop by hand: `loss + net:regularization()`.
---@return nnlua.Tensor?
function Module:regularization()
  if next(penalties) == nil and next(activities) == nil then return nil end -- asked at every step
  local total
  for _, entry in ipairs(next(activities) and self:modules() or {}) do
    local value = activities[entry[2]]
    if value then
      total = total and total + value or value
      activities[entry[2]] = nil
    end
  end
  for _, w in ipairs(self:named_parameters()) do
    local penalty = penalties[w.tensor]
    if penalty then
      local value = self:within({ name = w.name, penalty = function(_, p) return penalty(p) end }, "penalty", w.tensor)
      total = total and total + value or value
    end
  end
  return total
end

--- Number of trained elements, and of others (buffers and frozen parameters).
---@return integer trainable, integer other
function Module:count_params()
  local trainable, other = 0, 0
  for _, w in ipairs(self:weights()) do
    if w.trainable and w.tensor:requires_grad() then
      trainable = trainable + w.tensor:numel()
    else
      other = other + w.tensor:numel()
    end
  end
  return trainable, other
end

-- ---- modes -----------------------------------------------------------------------------------------------------------

--- Training mode on (or off): dropout drops, batch norm uses the batch's statistics. Modules start in it. Returns self.
---@param on? boolean
function Module:train(on)
  for _, entry in ipairs(self:modules()) do entry[2].training = on ~= false end
  return self
end

--- Inference mode. Returns self.
function Module:eval() return self:train(false) end

--- The entry of `list` (what children() gives) called `name`, or number `name` (negative: from the end), and its place.
---@param what string whose layers they are, for messages
function Module.find_layer(what, list, name)
  if math.type(name) == "integer" then
    local at = name < 0 and #list + 1 + name or name
    if list[at] then return list[at][2], at end
    options.raise(("%s: there is no layer %d, the model has %d"):format(what, name, #list))
  end
  local names, text = {}, type(name) == "string" and name or ""
  for i, entry in ipairs(list) do
    if entry[1] == name then return entry[2], i end
    names[i] = entry[1]
  end
  for i, entry in ipairs(list) do -- "block.dense": a layer of a layer
    if text:sub(1, #entry[1] + 1) == entry[1] .. "." then return Module.layer(entry[2], text:sub(#entry[1] + 2)), i end
  end
  options.raise(("%s: there is no layer %s%s (layers: %s)"):format(what, options.shown(name), options.advice(name, names),
    table.concat(names, ", ")))
end

--- The layer called `name` (of a layer within: "block.dense"), or number `name` (negative: from the end).
---@param name string|integer
---@return nnlua.Module
function Module:layer(name) return (Module.find_layer(getmetatable(self).__name, self:children(), name)) end

local range_spec = { from = { "string|integer" }, to = { "string|integer" } }

-- Of the whole module, or of the children from `from` to `to`.
local function set_trainable(self, on, what, given)
  local o = options.check(what, given, range_spec)
  local roots, list = { self }, self:children()
  if o.from or o.to then
    local _, first = Module.find_layer(what, list, o.from or 1)
    local _, last = Module.find_layer(what, list, o.to or -1)
    if first > last then options.raise(("%s: layer %s comes after layer %s"):format(what, list[first][1], list[last][1])) end
    roots = {}
    for i = first, last do roots[#roots + 1] = list[i][2] end
  end
  for _, root in ipairs(roots) do
    for _, entry in ipairs(root:modules()) do
      rawset(entry[2], "trainable", on)
      for _, own in ipairs(own_tensors(entry[2], "parameter")) do own[2]:requires_grad(on) end
    end
  end
  return self
end

--- Stop training these parameters; batch norm below keeps its averages. With `from =` and `to =` (names or numbers of layers, both included; one
--- may be left out) only those layers: `model:freeze{ to = "flatten" }`. Returns self.
---@param given? { from?: string|integer, to?: string|integer }
function Module:freeze(given) return set_trainable(self, false, "freeze", given) end

--- Undo freeze(), of all layers or of some: `model:unfreeze{ from = "conv2d_4" }`. Returns self.
---@param given? { from?: string|integer, to?: string|integer }
function Module:unfreeze(given) return set_trainable(self, true, "unfreeze", given) end

-- The first tensor of any kind: asked at every step, so without listing all of them.
local function first_tensor(module)
  for _, value in attributes(module) do
    if kinds[value] then return value end
  end
  for _, child in ipairs(module:children()) do
    local found = first_tensor(child[2])
    if found then return found end
  end
end

--- Where the weights are; of a module without weights, where tensors are made: "cpu", "vulkan:1".
---@return string
function Module:device()
  local first = first_tensor(self)
  return first and first:device() or core.device()
end

--- Move all weights to a device (and what an optimizer or metric of compile() keeps about them). Returns self.
---@param device "cpu"|"vulkan"|string
function Module:to(device)
  for _, w in ipairs(self:weights()) do core.move(w.tensor, device) end
  local c = rawget(self, "compiled")
  if c and c.optimizer.to then c.optimizer:to(device) end
  return self
end

--- Forget the gradients of all parameters. Returns self.
function Module:zero_grad()
  for _, p in ipairs(self:named_parameters()) do p.tensor:set_grad(nil) end
  return self
end

--- A shape as messages show it: "28x28x1", "?" for an unknown size, "scalar" for none.
---@param shape integer[]
---@return string
function Module.shape_text(shape)
  local words = {}
  for i, n in ipairs(shape) do words[i] = n < 0 and "?" or ("%d"):format(n) end
  return #words == 0 and "scalar" or table.concat(words, "x")
end

-- ---- building --------------------------------------------------------------------------------------------------------

-- Does the module make no weights of its own when it is built?
local function weightless(module) return module.only_children or getmetatable(module).build == require("nnlua.layer").build end

--- The path of the first layer below that waits for its input size, or nil when there is none. With `weights` those that make none do not count.
---@param weights? boolean
---@return string?
function Module:first_unbuilt(weights)
  for _, entry in ipairs(self:modules()) do
    if not entry[2].built and not (weights and weightless(entry[2])) then
      local name = getmetatable(entry[2]).__name
      return entry[1] == "" and name or ("%s (%s)"):format(entry[1], name)
    end
  end
end

--- Make all parameters, from the sizes of one sample (without the batch) or from an example batch. Nothing is computed. Returns self.
---@param input integer[]|nnlua.Tensor
function Module:build(input)
  if not self:first_unbuilt() then return self end
  local x = input
  if type(input) == "table" then x = core.zeros(table.move(input, 1, #input, 2, { 1 })) end
  local was_training = self.training
  self:eval() -- no draws, no running averages
  local _ <close> = core.no_grad()
  local ok, message = pcall(self, x) -- recorded, and dropped before it runs
  self:train(was_training)
  if not ok then error(message, 0) end
  return self
end

-- ---- the call --------------------------------------------------------------------------------------------------------

-- Modules whose forward is under way, outermost first: so an error can say where it was raised.
local stack, depth = {}, 0

local function name_of(module) return rawget(module, "name") or getmetatable(module).__name end

local enter

-- What the innermost layer was built for and what it was called with, where the last sizes of the two differ; else "".
local function built_for()
  local layer = stack[depth]
  local shape = rawget(layer, "input_size")
  if not rawget(layer, "built") or type(shape) ~= "table" or #shape == 0 or type(shape[#shape]) ~= "number" then return "" end
  for level = 3, 250 do
    local info = debug.getinfo(level, "f")
    if not info then return "" end
    if info.func == enter then
      local _, x = debug.getlocal(level, -1)
      local got = core.is_tensor(x) and x:shape()
      if not got or #got == #shape + 1 and got[#got] == shape[#shape] then return "" end
      return ("; it was built for samples of shape %s, got %s"):format(Module.shape_text(shape),
        Module.shape_text(table.move(got, 2, #got, 1, {})))
    end
  end
end

-- Runs at the point of the error: "script.lua:12: linear: ..." -> "script.lua:12: net/fc1: linear: ..."
local function located(message)
  local names, built = {}, type(message) == "string" and depth > 0 and not message:find "%f[%w]got " and built_for() or ""
  for i = 1, depth do names[i] = name_of(stack[i]) end
  depth = 0
  if type(message) ~= "string" or #names == 0 or message:find "interrupted" then return message end
  local path = table.concat(names, "/")
  local position, rest = message:match "^([^\n]-:%d+: )(.*)$"
  local text, last = rest or message, names[#names] .. ": "
  if text:sub(1, #last) == last then text = text:sub(#last + 1) end -- the path ends in it
  return (position or "") .. path .. ": " .. text .. built
end

local function leave(...)
  depth = depth - 1
  return ...
end

function enter(self, ...)
  depth = depth + 1
  stack[depth] = self
  local _ <close> = depth == 1 and core.is_tensor((...)) and core.here((...)) or nil -- layers make tensors where the input lies
  if not self.built and self.build_from then self:build_from(...) end
  if self.keeps_mask then return leave(masks.pass((...), self:forward(...))) end
  return leave(self:forward(...))
end

local function enter_method(layer, method, ...)
  depth = depth + 1
  stack[depth] = layer
  return leave(layer[method](layer, ...))
end

local function result(ok, ...)
  if ok then return ... end
  error(..., 0)
end

--- The shape of a sample of the batch x; raises when x is no tensor.
---@param x nnlua.Tensor
---@return integer[]
function Module:sample_shape(x)
  if not core.is_tensor(x) then options.raise(("%s: needs a tensor, got %s"):format(name_of(self), options.shown(x))) end
  local shape = x:shape()
  return table.move(shape, 2, #shape, 1, {})
end

--- `layer[method](layer, ...)` on behalf of `self`, which holds it: errors tell the path of both.
---@param layer nnlua.Module
---@param method string
function Module:within(layer, method, ...)
  if depth > 0 then return enter_method(layer, method, ...) end
  return result(xpcall(function(...)
    depth = 1
    stack[1] = self
    return leave(enter_method(layer, method, ...))
  end, located, ...))
end

--- `module(x)` computes `module:forward(x)`; errors name the layer. On symbolic tensors (nn.Input) it gives symbolic tensors.
function Module:__call(...)
  if type((...)) == "table" then
    local symbolic = require "nnlua.symbolic"
    if symbolic.among(...) then return symbolic.apply(self, ...) end
  end
  if core.jit_recording() then core.jit_note(self) end -- nn.jit: a replay is for these options and this mode
  if depth > 0 then return enter(self, ...) end
  return result(xpcall(enter, located, self, ...))
end

function Module:forward()
  options.raise(("no forward(); define `function %s:forward(x) ... end`"):format(getmetatable(self).__name))
end

-- ---- printing --------------------------------------------------------------------------------------------------------

--- What stands in parentheses when a module without children is printed; nil lists its parameters instead.
---@return string?
function Module:detail() end -- luacheck: no unused args

function Module:__tostring()
  local lines = { getmetatable(self).__name .. "(" }
  local detail = self:detail()
  if detail and #self:children() == 0 then return ("%s(%s)"):format(getmetatable(self).__name, detail) end
  for _, own in ipairs(own_tensors(self, "parameter")) do
    lines[#lines + 1] = ("  %s: parameter %s"):format(own[1], Module.shape_text(own[2]:shape()))
  end
  for _, child in ipairs(self:children()) do
    lines[#lines + 1] = ("  %s: %s"):format(child[1], (tostring(child[2]):gsub("\n", "\n  ")))
  end
  if #lines == 1 then return getmetatable(self).__name .. "()" end
  lines[#lines + 1] = ")"
  return table.concat(lines, "\n")
end

-- ---- what other files add --------------------------------------------------------------------------------------------

-- nnlua.training replaces these when the first of them is called.
for _, name in ipairs { "compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch" } do
  Module[name] = function(self, ...)
    require "nnlua.training"
    return Module[name](self, ...)
  end
end

-- nnlua.weights, nnlua.summary and nnlua.lint replace these likewise.
for file, names in pairs { weights = { "state", "load_state", "get_weights", "set_weights", "copy" },
  summary = { "summary", "summary_text", "dot", "svg", "draw" }, lint = { "lint" } } do
  for _, name in ipairs(names) do
    Module[name] = function(self, ...)
      require("nnlua." .. file)
      return Module[name](self, ...)
    end
  end
end

--- Write the model to a file (nnlua.checkpoint): true, or nil and a message. A name that ends in `.keras` gives a file of Keras 3.
---@param file string
function Module:save(file, ...) return require("nnlua.checkpoint").save(self, file, ...) end

--- Write the weights alone, in the layout of Keras's `.weights.h5` files: true, or nil and a message. A name that ends in
--- `.safetensors` gives PyTorch's names and layouts; `given` are the options of nnlua.torch_weights: names, flatten.
---@param file string
---@param given? table
function Module:save_weights(file, given)
  if type(file) == "string" and file:find "%.safetensors$" then return require("nnlua.torch_weights").save(self, file, given) end
  return require("nnlua.keras_files").save_weights(self, file)
end

--- Take the weights of a file that holds the same model (ours, Keras's `.h5`, `.weights.h5` or `.keras`, layer by layer in their order, or PyTorch's
--- `.safetensors`: `given` says which of their modules is which layer, `{names = {dense = "fc1"}}`, nnlua.torch_weights): true, or
--- nil and a message that names the first difference; then nothing has changed.
---@param file string
---@param given? table
function Module:load_weights(file, given)
  if type(file) == "string" and file:find "%.safetensors$" then return require("nnlua.torch_weights").load(self, file, given) end
  return require("nnlua.checkpoint").load_weights(self, file)
end

return Module
