--- Functional models: `nn.Model{ inputs = ..., outputs = ... }`, a module made of the calls between symbolic tensors.
--
-- Owns: which layers and calls belong to a model, their names and order (Keras's, so that files fit), running them, the configuration for files.
-- Several inputs and outputs, layers that are called more than once (one set of weights), models called as layers of others.
--
--     local nn = require "nnlua"
--     local words, picture = nn.Input{20, name = "words"}, nn.Input{8, 8, 1, name = "picture"}
--     local left = nn.Dense{16, activation = "relu"}(words)
--     local right = nn.Dense{16, activation = "relu"}(nn.Flatten{}(picture))
--     local both = nn.Concatenate{}{ left, right }
--     local model = nn.Model{ inputs = { words, picture },
--       outputs = { nn.Dense{3, activation = "softmax", name = "kind"}(both), nn.Dense{1, name = "price"}(both) } }
--     local kind, price = model(nn.ones(5, 20), nn.ones(5, 8, 8, 1))
--     print(kind:size(-1), price:size(-1), model:layer("dense_1").units)   --> 3  1  16
--
-- It is called with its inputs in order, a list of them, or a table by the names of its input layers; it returns its outputs in order.
-- `layer.output` is the symbolic tensor of a layer's first call: nn.Model{ inputs = model.inputs, outputs = model:layer("dense").output }
-- gives features, with the same weights.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local symbolic = require "nnlua.symbolic"
local models = require "nnlua.models"

---@class nnlua.Model: nnlua.Module
---@overload fun(given: { inputs: any, outputs: any, name?: string }): nnlua.Model
---@field inputs nnlua.SymbolicTensor[]
---@field outputs nnlua.SymbolicTensor[]
---@field input_names string[]
---@field output_names string[]
---@field layers nnlua.Module[]
local Model = class("Model", Module)
Model.keras = "Functional"

-- ---- what was given --------------------------------------------------------------------------------------------------

-- Symbols of `value` (one, a list, a table by name, then in the order of the names), and the names.
local function symbols_of(what, value)
  local one = symbolic.symbol_of(value)
  if one then return { one } end
  if type(value) ~= "table" or getmetatable(value) ~= nil then
    options.raise(("Model: %s must be a symbolic tensor or a table of them, got %s; call a layer on nn.Input{...} to make one"):format(what,
      options.shown(value)))
  end
  local keys, by_name = {}, #value == 0
  for key in next, value do
    if (type(key) == "string") ~= by_name then options.raise(("Model: %s must be a list or a table by name, not both"):format(what)) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  if #keys == 0 then options.raise(("Model: %s must not be empty"):format(what)) end
  local list = {}
  for i, key in ipairs(keys) do
    list[i] = symbolic.symbol_of(value[key])
    if not list[i] then
      options.raise(("Model: %s[%s] must be a symbolic tensor, got %s"):format(what, type(key) == "string" and ("%q"):format(key) or key,
        options.shown(value[key])))
    end
  end
  return list, by_name and keys or nil
end

-- ---- the graph -------------------------------------------------------------------------------------------------------

-- The calls that lead from the inputs to the outputs, inputs first, and the order in which layers were met. Depth first from the outputs.
local function trace(entries, outputs)
  local nodes, done, met, count = {}, {}, {}, 0
  local function visit(symbol, output)
    local node = entries[symbol] or symbol.node
    if done[node] then return end
    done[node] = true
    if #node.symbols == 0 and not entries[symbol] then
      options.raise(("Model: output %d needs the input %s of shape %s, which is not among the inputs"):format(output,
        rawget(node.layer, "name") or "without a name", symbolic.shape_text(symbol.sample)))
    end
    if not met[node.layer] then
      count = count + 1
      met[node.layer] = count
    end
    for _, from in ipairs(node.symbols) do visit(from, output) end
    nodes[#nodes + 1] = node
  end
  for i, symbol in ipairs(outputs) do visit(symbol, i) end
  return nodes, met
end

-- Layers in Keras's order: by the longest way to an output, then as they were met.
local function ordered_layers(entries, nodes, met)
  local node_depth, layer_depth, layers = {}, {}, {}
  for i = #nodes, 1, -1 do
    local node = nodes[i]
    local depth = math.max(node_depth[node] or 0, layer_depth[node.layer] or 0)
    if not layer_depth[node.layer] then layers[#layers + 1] = node.layer end
    node_depth[node], layer_depth[node.layer] = depth, depth
    for _, symbol in ipairs(node.symbols) do
      local from = entries[symbol] or symbol.node
      node_depth[from] = math.max(depth + 1, node_depth[from] or 0)
    end
  end
  table.sort(layers, function(a, b)
    if layer_depth[a] ~= layer_depth[b] then return layer_depth[a] > layer_depth[b] end
    return met[a] < met[b]
  end)
  return layers
end

-- Every layer gets a name, numbered as one reads the script; those that are given must differ.
local function name_layers(layers, nodes)
  local taken = {}
  for _, layer in ipairs(layers) do
    local name = rawget(layer, "name")
    if name and taken[name] then
      options.raise(("Model: two layers have the name %q; give one of them another: layer.name = %q"):format(name, name .. "_b"))
    end
    if name then taken[name] = layer end
  end
  for _, node in ipairs(nodes) do
    local layer = node.layer
    if not rawget(layer, "name") then
      local base = models.default_name(layer)
      local name, k = base, 0
      while taken[name] do
        k = k + 1
        name = base .. "_" .. k
      end
      taken[name] = layer
      rawset(layer, "name", name)
    end
  end
end

-- Entry points: for each input symbol the node of its Input. A symbol from the middle of another model gets an Input of its own.
local function entries_of(inputs)
  local entries = {}
  for i, symbol in ipairs(inputs) do
    if entries[symbol] then options.raise(("Model: input %d is given twice"):format(i)) end
    local node = symbol.node
    if #node.symbols > 0 then
      local input = require("nnlua.layers.core").Input { shape = symbol.sample, dtype = symbol:dtype() ~= "f32" and symbol:dtype() or nil }
      node = symbolic.symbol_of(input).node
    end
    entries[symbol] = node
  end
  return entries
end

-- Names of outputs: of the layers they come from.
local function names_of(outputs)
  local names, count = {}, {}
  for i, symbol in ipairs(outputs) do
    local name = symbol.node.layer.name
    count[name] = (count[name] or 0) + 1
    names[i] = count[name] == 1 and name or ("%s_%d"):format(name, count[name] - 1)
  end
  return names
end

local spec = { inputs = { "any", required = true }, outputs = { "any", required = true }, name = { "string" } }

--- `nn.Model{ inputs = {a, b}, outputs = {y, z}, name = "two" }`: one symbolic tensor each, a list, or a table by name.
---@param given table
function Model:init(given)
  local o = options.check("Model", given, spec)
  local inputs, input_names = symbols_of("inputs", o.inputs)
  local outputs, output_names = symbols_of("outputs", o.outputs)
  local entries = entries_of(inputs)
  local nodes, met = trace(entries, outputs)
  local layers = ordered_layers(entries, nodes, met)
  for _, symbol in ipairs(inputs) do
    local node = entries[symbol]
    if not met[node.layer] then -- an input that nothing reads from comes last, as in Keras
      nodes[#nodes + 1], layers[#layers + 1] = node, node.layer
    end
  end
  table.sort(nodes, function(x, y) return x.serial < y.serial end)
  rawset(self, "name", o.name)
  name_layers(layers, nodes)
  rawset(self, "inputs", inputs)
  rawset(self, "outputs", outputs)
  rawset(self, "entries", entries)
  rawset(self, "layers", layers)
  rawset(self, "input_names", input_names or {})
  for i, symbol in ipairs(inputs) do self.input_names[i] = self.input_names[i] or entries[symbol].layer.name end
  rawset(self, "output_names", output_names or names_of(outputs))
  self:arrange(nodes)
end

-- The steps of forward: calls in order; values are kept by symbol.
function Model:arrange(nodes)
  local steps, index = {}, {}
  for _, node in ipairs(nodes) do
    index[node.layer] = index[node.layer] or {}
    table.insert(index[node.layer], node)
    if #node.symbols > 0 then
      local args = node.arguments
      local single = args.n == 1 and symbolic.is_symbol(args[1]) and args[1] or nil
      steps[#steps + 1] = { layer = node.layer, args = args, single = single, results = node.results,
        result = #node.results == 1 and node.results[1] }
    end
  end
  rawset(self, "steps", steps)
  rawset(self, "calls", index) -- layer -> its nodes in this model, in order
end

-- ---- running ---------------------------------------------------------------------------------------------------------

local function input_list(self) return table.concat(self.input_names, ", ") end

-- The inputs in order, from what forward was given.
local function given_inputs(self, ...)
  local value, n = ..., #self.inputs
  if type(value) ~= "table" or getmetatable(value) ~= nil then
    local count = select("#", ...)
    if count ~= n then options.raise(("takes %d input%s (%s), got %d"):format(n, n == 1 and "" or "s", input_list(self), count)) end
    return { ... }
  end
  if #value > 0 then
    if #value ~= n then options.raise(("takes %d input%s (%s), got %d"):format(n, n == 1 and "" or "s", input_list(self), #value)) end
    return value
  end
  for name in next, value do
    local known = false
    for _, own in ipairs(self.input_names) do known = known or own == name end
    if not known then
      options.raise(("there is no input %s%s (inputs: %s)"):format(options.shown(name), options.advice(name, self.input_names),
        input_list(self)))
    end
  end
  local list = {}
  for i, name in ipairs(self.input_names) do
    list[i] = value[name]
    if list[i] == nil then options.raise(("the input %q is missing (inputs: %s)"):format(name, input_list(self))) end
  end
  return list
end

local function check_batches(self, list)
  for i = 1, #list do
    local x = list[i]
    if not core.is_tensor(x) then options.raise(("the input %q must be a tensor, got %s"):format(self.input_names[i], options.shown(x))) end
    if x:dim() > 0 and list[1]:dim() > 0 and x:size(1) ~= list[1]:size(1) then
      options.raise(("the input %q has %d samples, %q has %d"):format(self.input_names[i], x:size(1), self.input_names[1], list[1]:size(1)))
    end
  end
end

function Model:forward(...)
  local values, list = {}, given_inputs(self, ...)
  check_batches(self, list)
  for i, symbol in ipairs(self.inputs) do values[symbol] = self.entries[symbol].layer(list[i]) end
  local function value_of(symbol) return values[symbol] end
  for _, step in ipairs(self.steps) do
    local single, result, args = step.single, step.result, step.args
    if single and result then
      values[result] = step.layer(values[single])
    else
      local filled = {}
      for i = 1, args.n do filled[i] = symbolic.map(args[i], value_of) end
      local given = { step.layer(table.unpack(filled, 1, args.n)) }
      for i, symbol in ipairs(step.results) do values[symbol] = given[i] end
    end
  end
  local out = {}
  for i, symbol in ipairs(self.outputs) do out[i] = values[symbol] end
  return table.unpack(out)
end

-- ---- asking ----------------------------------------------------------------------------------------------------------

function Model:children()
  local list = {}
  for i, layer in ipairs(self.layers) do list[i] = { layer.name, layer } end
  return list
end

--- Shape of a sample of the (first) output; the model knows it without the shapes given. Raises when they do not fit its inputs.
---@param shape integer[]
function Model:output_shape(shape)
  if #self.inputs == 1 then self.entries[self.inputs[1]].layer:output_shape(shape) end
  return self.outputs[1].sample
end

--- Parameters were made when the layers were called.
function Model:build() return self end

-- Every call in order: { layer =, node =, from = list of { layer =, call =, place = } }. For the summary, pictures and lint().
function Model:call_list()
  local list = {}
  for layer, nodes in next, self.calls do
    for call, node in ipairs(nodes) do
      local from = {}
      for i, symbol in ipairs(node.symbols) do from[i] = self:reference(symbol) end
      list[#list + 1] = { layer = layer, node = node, call = call, from = from }
    end
  end
  table.sort(list, function(a, b) return a.node.serial < b.node.serial end)
  return list
end

--- Which call of which layer of this model makes a symbol.
---@return { layer: nnlua.Module, call: integer, place: integer }
function Model:reference(symbol)
  local entry = self.entries[symbol]
  local node = entry or symbol.node
  for call, own in ipairs(self.calls[node.layer] or {}) do
    if own == node then return { layer = node.layer, call = call, place = entry and 1 or symbol.place } end
  end
end

-- A copy has layers of its own, called as these are.
function Model:on_copy(copy, done)
  local made, nodes, entries = {}, {}, {}
  local function twin(symbol)
    local node = self.entries[symbol] or symbol.node
    return made[node].results[self.entries[symbol] and 1 or symbol.place]
  end
  for _, entry in ipairs(self:call_list()) do
    local node = entry.node
    local layer = done[node.layer]
    if #node.symbols == 0 then
      made[node] = symbolic.symbol_of(layer).node
    else
      made[node] = symbolic.repeated(node, layer, twin)
    end
    nodes[#nodes + 1] = made[node]
  end
  for _, name in ipairs { "inputs", "outputs" } do
    local list = {}
    for i, symbol in ipairs(self[name]) do list[i] = twin(symbol) end
    rawset(copy, name, list)
  end
  for i in ipairs(self.inputs) do entries[copy.inputs[i]] = copy.inputs[i].node end
  rawset(copy, "entries", entries)
  copy:arrange(nodes)
end

-- ---- files -----------------------------------------------------------------------------------------------------------

-- An argument as plain data: { ref = { layer, call, place } }, { list = ... }, { fields = ... } or { value = ... }.
local function described(self, value, owner)
  if symbolic.is_symbol(value) then
    local at = self:reference(value)
    return { ref = { at.layer.name, at.call, at.place } }
  elseif type(value) == "table" and getmetatable(value) == nil then
    local out, by_name = {}, false
    for key, item in next, value do
      out[key] = described(self, item, owner)
      by_name = by_name or type(key) == "string"
    end
    return by_name and { fields = out } or { list = setmetatable(out, core.json_array) }
  elseif type(value) == "function" or type(value) == "userdata" then
    options.raise(("%s: a file cannot hold %s among the arguments of its call"):format(owner.name, options.shown(value)))
  end
  return { value = value }
end

-- Weights that two layers share through a module inside both would be two after loading.
local function check_sharing(self)
  local owner = {}
  for _, layer in ipairs(self.layers) do
    for _, entry in ipairs(layer:modules()) do
      local before = owner[entry[2]]
      if before and before ~= layer and #entry[2]:weights() > 0 then
        options.raise(("%s: a file cannot hold it, it shares weights with %s, not as one layer that is called twice"):format(layer.name, before.name))
      end
      owner[entry[2]] = layer
    end
  end
end

--- Names, layers and calls, for files.
---@return table
function Model:config()
  check_sharing(self)
  local config = { name = self.name or "functional", layers = {}, inputs = {}, outputs = {}, input_names = self.input_names,
    output_names = self.output_names }
  for i, layer in ipairs(self.layers) do
    local c = getmetatable(layer)
    if not layer.config then options.raise(("%s: a file cannot hold it, it has no config()"):format(layer.name)) end
    local entry = { class_name = c.keras or c.__name, name = layer.name, config = layer:config(), calls = setmetatable({}, core.json_array) }
    for _, node in ipairs(self.calls[layer]) do
      if #node.symbols > 0 then
        local args = setmetatable({}, core.json_array)
        for k = 1, node.arguments.n do args[k] = described(self, node.arguments[k], layer) end
        entry.calls[#entry.calls + 1] = args
      end
    end
    config.layers[i] = entry
  end
  for i, symbol in ipairs(self.inputs) do config.inputs[i] = self.entries[symbol].layer.name end
  for i, symbol in ipairs(self.outputs) do config.outputs[i] = described(self, symbol).ref end
  return config
end

--- A model from what config() gave. Parameters start afresh.
---@param c table
---@param config table
function Model.from_config(c, config)
  local made, calls, results, given = {}, {}, {}, {}
  for i, entry in ipairs(config.layers) do
    local of = models.layer_class(entry.class_name)
    if not of then options.raise(("unknown kind of layer %s"):format(options.shown(entry.class_name))) end
    local layer = of.from_config(of, entry.config)
    rawset(layer, "name", entry.name)
    made[entry.name], calls[entry.name], results[entry.name] = layer, entry.calls or {}, {}
    given[i] = entry.name
  end
  local value_of
  -- The results of call `k` of a layer; the calls before it are made first, then those that it reads from.
  local function result(name, k, depth)
    local layer = made[name]
    if not layer then options.raise(("a call reads from %s, which is no layer of the model"):format(options.shown(name))) end
    if #calls[name] == 0 then return { symbolic.symbol_of(layer) } end
    if depth > 10000 or not calls[name][k] then options.raise(("the calls of %s form no model"):format(options.shown(name))) end
    for j = 1, k do
      if not results[name][j] then
        local args = {}
        for i, arg in ipairs(calls[name][j]) do args[i] = value_of(arg, depth + 1) end
        results[name][j] = { symbolic.apply(layer, table.unpack(args, 1, #calls[name][j])) }
      end
    end
    return results[name][k]
  end
  function value_of(arg, depth)
    if arg.ref then return result(arg.ref[1], arg.ref[2], depth)[arg.ref[3]] end
    if not arg.list and not arg.fields then return arg.value end
    local out = {}
    for key, item in pairs(arg.list or arg.fields) do out[key] = value_of(item, depth) end
    return out
  end
  for _, name in ipairs(given) do result(name, math.max(1, #calls[name]), 1) end
  local inputs, outputs = {}, {}
  for i, name in ipairs(config.inputs) do inputs[i] = made[name] end
  for i, ref in ipairs(config.outputs) do outputs[i] = value_of({ ref = ref }, 1) end
  local model = c { inputs = inputs, outputs = outputs, name = config.name }
  if config.input_names then rawset(model, "input_names", config.input_names) end
  if config.output_names then rawset(model, "output_names", config.output_names) end
  return model
end

function Model:__tostring()
  local lines = { "Model(" }
  for _, entry in ipairs(self:call_list()) do
    local from = {}
    for i, at in ipairs(entry.from) do from[i] = at.layer.name end
    local text = entry.call == 1 and tostring(entry.layer):gsub("\n", "\n  ") or "called again"
    lines[#lines + 1] = ("  %s: %s%s"):format(entry.layer.name, text, #from > 0 and " of " .. table.concat(from, ", ") or "")
  end
  lines[#lines + 1] = ")"
  return table.concat(lines, "\n")
end

return { Model = Model }
