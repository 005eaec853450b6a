--- Keras's descriptions of models as ours: the JSON of its `.h5` and `.keras` files, by versions 2 and 3.
--
-- Owns: the translation into what our classes' from_config takes. It only rewrites plain data: layers are found by name among ours and those given
-- to nn.register_layer, and nothing in a file is ever run. Keys that we don't know are left out, as Keras's own readers do, but a layer
-- whose key says something that we compute otherwise is refused (`means_otherwise`).

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local keras_read = {}
local MOST_LAYERS = 4096 -- in a model: the largest that Keras publishes has some 800

local our_dtypes = {}
for ours, theirs in pairs(require("nnlua.keras").dtype_names) do our_dtypes[theirs] = ours end

local function is_object(value) return type(value) == "table" and type(value.class_name) == "string" end

-- What JSON's null stands for is no value.
local function plain(value)
  if value == core.json_null then return nil end
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in pairs(value) do out[key] = plain(item) end
  return out
end

-- Dims count from 0 there, the batch is 0.
local function raised(axis)
  if axis == false then return false end
  if type(axis) ~= "table" then return math.type(axis) == "integer" and axis >= 0 and axis + 1 or axis end
  if #axis == 1 then return raised(axis[1]) end
  local out = {}
  for i, n in ipairs(axis) do out[i] = raised(n) end
  return out
end

local axis_keys = { axis = true, axes = true, shared_axes = true }

-- Values that mean another computation than ours: key -> the only values that are read.
local means_otherwise = {
  data_format = { channels_last = true }, rms_scaling = { [false] = true }, use_gate = { [false] = true }, renorm = { [false] = true },
  ragged = { [false] = true }, sparse = { [false] = true }, time_major = { [false] = true },
}

local layer

-- { class_name, config } of an initialiser, regulariser, constraint; the name of an activation or policy; a layer inside a layer.
local function object(key, value)
  if key == "dtype" then return value end
  if key:find "layer$" or key == "cell" then return layer(value) end
  if key:find "activation$" then -- { class_name = "function", config = "relu" }
    return type(value.config) == "string" and value.config or value.config and value.config.name or value.class_name
  end
  if value.class_name == "__tuple__" then return value.items end
  local config = {}
  for name, item in pairs(value.config or {}) do
    if axis_keys[name] then item = raised(item) end
    config[name] = is_object(item) and object(name, item) or item
  end
  return { class_name = value.class_name, config = config }
end

local function options_of(class_name, config)
  local out = {}
  for key, value in pairs(config) do
    local allowed = means_otherwise[key]
    if allowed and not allowed[value] then
      options.raise(("%s %s: %s = %s is computed otherwise there and is not read"):format(class_name, options.shown(config.name), key,
        options.shown(value)))
    end
    if is_object(value) then
      value = object(key, value)
    elseif axis_keys[key] then
      value = raised(value)
    elseif type(value) == "table" and is_object(value[1]) then -- cells of StackedRNNCells, layers of a pipeline
      local list = {}
      for i, item in ipairs(value) do list[i] = layer(item) end
      value = list
    end
    out[key] = value
  end
  return out
end

local special = {}

local our_names = { GroupQueryAttention = "GroupedQueryAttention" } -- classes that files name otherwise

-- { class_name =, config = } of one layer.
function layer(entry)
  if not is_object(entry) or type(entry.config) ~= "table" then options.raise "a layer is not described by a class_name and a config" end
  local translate = special[entry.class_name]
  if translate then return { class_name = entry.class_name, config = translate(entry.config) } end
  return { class_name = our_names[entry.class_name] or entry.class_name, config = options_of(entry.class_name, entry.config) }
end

-- Sizes of a sample: the batch is left out, null is a size that is not known. `values` still has its nulls.
local function sample_shape(values)
  if type(values) ~= "table" or values == core.json_null then return nil end
  local shape = {}
  for i = 2, #values do shape[i - 1] = math.type(values[i]) == "integer" and values[i] or -1 end
  return shape
end

function special.InputLayer(config)
  local shape = sample_shape(config.batch_shape or config.batch_input_shape)
  if not shape then options.raise(("InputLayer %s: has no batch_shape"):format(options.shown(config.name))) end
  local dtype = type(config.dtype) == "string" and config.dtype ~= "float32" and config.dtype or nil
  return { name = config.name, shape = shape, dtype = our_dtypes[dtype] or dtype }
end

-- Keras 1 and 2 gave the first layer the input's shape.
local function first_shape(config)
  local first = config.layers[1]
  local found = is_object(first) and first.class_name ~= "InputLayer" and sample_shape(first.config.batch_input_shape or first.config.batch_shape)
  return found or sample_shape(config.build_input_shape)
end

local function check_count(list)
  if #list > MOST_LAYERS then options.raise(("it has %d layers; models of at most %d are read"):format(#list, MOST_LAYERS)) end
end

function special.Sequential(config)
  local list = #config > 0 and config or config.layers -- Keras 1 wrote the list alone
  if type(list) ~= "table" then options.raise "a Sequential without layers" end
  check_count(list)
  local layers = {}
  for i, entry in ipairs(list) do layers[i] = layer(entry) end
  if not (layers[1] and layers[1].class_name == "InputLayer") and config.layers then
    local shape = first_shape(config)
    if shape then table.insert(layers, 1, { class_name = "InputLayer", config = { shape = shape } }) end
  end
  return { name = config.name, layers = layers }
end

-- ---- functional models -------------------------------------------------------------------------------------------------------

-- [layer, call, place] from 0, in both versions; `calls` counts the calls of each layer. A nested model's calls count from 1 in some places.
local function reference(calls, history)
  local name, node, place = history[1], history[2], history[3]
  if type(name) ~= "string" or math.type(node) ~= "integer" or math.type(place) ~= "integer" or not calls[name] then
    options.raise "a call of its layers reads from something that is none of them"
  end
  if node >= math.max(1, calls[name]) then node = node - 1 end
  return { ref = { name, node + 1, place + 1 } }
end

-- An argument of a call in Keras 3's form: a tensor, a list of arguments, or a plain value.
local function argument(calls, value)
  if is_object(value) and value.class_name == "__keras_tensor__" then return reference(calls, value.config.keras_history or {}) end
  if type(value) == "table" and (value[1] ~= nil) then
    local list = {}
    for i, item in ipairs(value) do list[i] = argument(calls, item) end
    return { list = list }
  end
  return { value = value }
end

-- Arguments that have a name there and a place here, from the second on; the others of these layers' calls must be at rest.
local places = {
  MultiHeadAttention = { query = 1, value = 2, key = 3 }, GroupQueryAttention = { query = 1, value = 2, key = 3 },
  GroupedQueryAttention = { query = 1, value = 2, key = 3 },
}

local function named_arguments(calls, entry, kwargs, args)
  for key, value in pairs(kwargs) do
    local at = (places[entry.class_name] or {})[key]
    if at then
      args[at] = argument(calls, value)
    elseif value ~= false and key ~= "training" then
      options.raise(("%s %s: is called with %s, which is not read"):format(entry.class_name, options.shown(entry.name), key))
    end
  end
  return args
end

local function call(calls, entry, node)
  if type(node.args) == "table" or type(node.kwargs) == "table" then -- Keras 3
    local args = {}
    for i, value in ipairs(node.args or {}) do args[i] = argument(calls, value) end
    return named_arguments(calls, entry, node.kwargs or {}, args)
  end
  local refs, kwargs = {}, {} -- Keras 2: [[name, node, place, kwargs], ...]
  if type(node[1]) == "string" then node = { node } end
  for i, item in ipairs(node) do
    refs[i] = reference(calls, item)
    for key, value in pairs(item[4] or {}) do kwargs[key] = type(value) == "table" and #value == 3 and type(value[1]) == "string" and
      { class_name = "__keras_tensor__", config = { keras_history = value } } or value end
  end
  return named_arguments(calls, entry, kwargs, #refs == 1 and refs or { { list = refs } })
end

-- One reference or a list of them; also by name (a dict of inputs or outputs).
local function references(calls, list)
  if type(list) ~= "table" then options.raise "a model without inputs or outputs" end
  if type(list[1]) == "string" then list = { list } end
  if list[1] == nil then
    local names = lists.sorted(list)
    for i, name in ipairs(names) do names[i] = list[name] end
    list = names
  end
  local out = {}
  for i, item in ipairs(list) do out[i] = reference(calls, item).ref end
  return out
end

function special.Functional(config)
  if type(config.layers) ~= "table" then options.raise "a Functional model without layers" end
  check_count(config.layers)
  local calls, layers = {}, {}
  for _, entry in ipairs(config.layers) do
    local name = entry.name or type(entry.config) == "table" and entry.config.name
    if type(name) ~= "string" then options.raise "a layer without a name" end
    calls[name] = #(entry.inbound_nodes or {})
  end
  for i, entry in ipairs(config.layers) do
    local out = layer(entry)
    out.name, out.calls = entry.name or entry.config.name, {}
    for k, node in ipairs(entry.inbound_nodes or {}) do out.calls[k] = call(calls, { class_name = entry.class_name, name = out.name }, node) end
    layers[i] = out
  end
  local inputs = {}
  for i, ref in ipairs(references(calls, config.input_layers)) do inputs[i] = ref[1] end
  return { name = config.name, layers = layers, inputs = inputs, outputs = references(calls, config.output_layers) }
end
special.Model = special.Functional

--- { class_name =, config = } for from_config, of the decoded JSON of a model_config or config.json. Raises with a message that names the layer.
---@param described table
---@return table
function keras_read.model(described)
  if not is_object(described) then options.raise "no description of a model" end
  if described.class_name ~= "Sequential" and described.class_name ~= "Functional" and described.class_name ~= "Model" then
    options.raise(("its model is a %s; Sequential and Functional models are read"):format(options.shown(described.class_name)))
  end
  -- Shapes need their nulls (a size that is not known), and so does the axis of Normalization (one mean for all); everything else is better without.
  local function keep_shapes(value, of)
    if value == core.json_null then return nil end
    if type(value) ~= "table" then return value end
    local out = {}
    for key, item in pairs(value) do
      if key == "axis" and item == core.json_null and of == "Normalization" then out[key] = false
      elseif (key == "noise_shape" or key == "output_shape") and type(item) == "table" and item ~= core.json_null then
        local sizes = {}
        for i, n in ipairs(item.class_name == "__tuple__" and item.items or item) do sizes[i] = n ~= core.json_null and n or -1 end
        out[key] = of == "MultiHeadAttention" and #sizes == 1 and sizes[1] or sizes
      elseif key == "batch_shape" or key == "batch_input_shape" or key == "build_input_shape" then out[key] = item
      else out[key] = keep_shapes(item, value.class_name) end
    end
    return out
  end
  return layer(keep_shapes(described))
end

-- The name of a loss, and whether it takes logits where that is said; nil when it is none that has a name.
local function named_loss(loss)
  if is_object(loss) then return loss.config and loss.config.name or loss.class_name, loss.config and loss.config.from_logits end
  return type(loss) == "string" and loss or nil
end

-- The names of metrics in a list, which may hold lists.
local function names_of(list, names)
  names = names or {}
  for _, item in ipairs(list) do
    if type(item) == "string" then names[#names + 1] = item
    elseif is_object(item) then names[#names + 1] = item.config and item.config.name or item.class_name
    elseif type(item) == "table" then names_of(item, names) end
  end
  return names
end

--- What compile() takes, of a training_config (.h5) or compile_config (.keras): { optimizer =, loss =, metrics =, from_logits = }; nil when it says
--- nothing that we can name.
---@param described table
---@return table?
function keras_read.compiled(described)
  described = plain(described)
  local optimizer = described and (described.optimizer_config or described.optimizer)
  if type(optimizer) == "string" then optimizer = { class_name = optimizer, config = {} } end
  if not is_object(optimizer) or not described.loss then return nil end
  local loss, from_logits = named_loss(described.loss)
  local several = loss == nil and type(described.loss) == "table" and {} -- key -> loss, by place or by the output's name
  for key, item in pairs(several and described.loss or {}) do
    from_logits = from_logits or {}
    several[key], from_logits[key] = named_loss(item)
    if not several[key] then return nil end
    from_logits[key] = from_logits[key] or false
  end
  loss = loss or several and next(several) and several
  if not loss then return nil end
  local config = {}
  for key, value in pairs(optimizer.config or {}) do
    if type(value) == "number" or type(value) == "boolean" then config[key] = value end
  end
  local lr = (optimizer.config or {}).learning_rate
  if is_object(lr) then config.learning_rate = lr.config and lr.config.initial_learning_rate end
  local metrics = described.metrics or {}
  if several then
    local by_output = {}
    for key, list in pairs(metrics) do by_output[key] = several[key] and names_of(type(list) == "table" and list or { list }) or nil end
    metrics = by_output
  else
    metrics = names_of(metrics)
  end
  return { optimizer = { class_name = optimizer.class_name, config = config }, loss = loss, from_logits = from_logits, metrics = metrics,
    loss_weights = several and type(described.loss_weights) == "table" and described.loss_weights or nil }
end

return keras_read
