--- How Keras describes what we have: the JSON texts model_config and training_config of its HDF5 files.
--
-- Owns: the translation of configurations, so that Keras 2 and 3 open our checkpoints: an InputLayer with batch_input_shape, only keys that
-- both know, default values left out where one of them lacks the key. Reading Keras's own files is another file's job.

local core = require "nnlua.core"
local lists = require "nnlua.lists"

local keras = {}

local function list(t) return #t == 0 and setmetatable({}, core.json_array) or t end

-- Keras's key -> our key, per class; `only` holds values that are left out.
local function with(keys, more)
  local all = {}
  for _, t in ipairs { keys, more } do
    for k, v in pairs(t) do all[k] = v end
  end
  return all
end
local function same(...)
  local keys = {}
  for _, key in ipairs { ... } do keys[key] = key end
  return keys
end

local weights = same("kernel_initializer", "bias_initializer", "use_bias", "activation", "kernel_regularizer", "bias_regularizer",
  "kernel_constraint", "bias_constraint")

local function options_of(weight) return same(weight .. "_initializer", weight .. "_regularizer", weight .. "_constraint") end
local affine = with(with(options_of "gamma", options_of "beta"), same("epsilon", "center", "scale"))
local by_channel = with(options_of "bias", same("use_bias", "activation", "depth_multiplier"))

local layer_keys = {
  Dense = with(weights, same "units"),
  Flatten = {},
  Reshape = same "target_shape",
  Rescaling = same("scale", "offset"),
  Dropout = same("rate", "noise_shape"),
  Activation = same "activation",
  ReLU = same("max_value", "negative_slope", "threshold"),
  LeakyReLU = { alpha = "negative_slope" },
  ELU = same "alpha",
  PReLU = with(options_of "alpha", same "shared_axes"),
  BatchNormalization = with(affine, same("axis", "momentum", "moving_mean_initializer", "moving_variance_initializer")),
  LayerNormalization = with(affine, same "axis"),
  GroupNormalization = with(affine, same("axis", "groups")),
  RMSNormalization = same("axis", "epsilon"),
  SpectralNormalization = same("layer", "power_iterations"),
  Identity = {},
  EinsumDense = with(weights, { equation = "equation", output_shape = "output_shape", bias_axes = "bias_axes" }),
  Permute = same "dims",
  RepeatVector = same "n",
  Resizing = same("height", "width", "interpolation", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "fill_mode", "fill_value"),
  GaussianNoise = same "stddev",
  ActivityRegularization = same("l1", "l2"),
  CategoryEncoding = same("num_tokens", "output_mode"),
  Dot = same("axes", "normalize"),
  RandomFlip = same "mode",
  RandomGrayscale = same "factor",
  Normalization = same("axis", "mean", "variance", "invert"),
  Discretization = same("bin_boundaries", "num_bins", "output_mode"),
}
local filled = same("fill_mode", "interpolation", "fill_value")
layer_keys.RandomRotation = with(filled, same "factor")
for _, name in ipairs { "RandomTranslation", "RandomZoom" } do layer_keys[name] = with(filled, same("height_factor", "width_factor")) end
local merges = { Concatenate = true, Dot = true, Attention = true, AdditiveAttention = true } -- they take several tensors, as a list
for _, name in ipairs { "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum" } do layer_keys[name], merges[name] = {}, true end
for _, name in ipairs { "Softmax", "UnitNormalization", "Concatenate" } do layer_keys[name] = same "axis" end
for _, name in ipairs { "GaussianDropout", "AlphaDropout" } do layer_keys[name] = same "rate" end
local walks = same("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
local recurrent = with(with(weights, walks), same("units", "recurrent_initializer", "recurrent_regularizer", "recurrent_constraint", "dropout",
  "recurrent_dropout"))
local gated = same("recurrent_activation", "unit_forget_bias")
layer_keys.SimpleRNN, layer_keys.LSTM = recurrent, with(recurrent, gated)
layer_keys.GRU = with(recurrent, same("recurrent_activation", "reset_after"))
layer_keys.RNN, layer_keys.StackedRNNCells = with(walks, same("cell", "zero_output_for_mask")), same "cells"
for _, name in ipairs { "SimpleRNN", "LSTM", "GRU" } do -- a step of a layer has its options, but for those of the walk
  local keys = {}
  for key, own in pairs(layer_keys[name]) do keys[key] = not walks[key] and own or nil end
  layer_keys[name .. "Cell"] = keys
end
for rank = 1, 3 do
  layer_keys[("ConvLSTM%dD"):format(rank)] = with(layer_keys.LSTM, same("filters", "kernel_size", "strides", "padding", "dilation_rate"))
end
layer_keys.Embedding = same("input_dim", "output_dim", "embeddings_initializer", "embeddings_regularizer", "embeddings_constraint", "mask_zero")
layer_keys.Masking = same "mask_value"
layer_keys.MultiHeadAttention = with(weights, same("num_heads", "key_dim", "value_dim", "dropout", "output_shape", "attention_axes"))
layer_keys.MultiHeadAttention.activation, layer_keys.MultiHeadAttention.output_shape = nil, "output_features"
layer_keys.GroupedQueryAttention = with(weights, same("head_dim", "num_query_heads", "num_key_value_heads", "dropout"))
layer_keys.GroupedQueryAttention.activation = nil
layer_keys.Attention, layer_keys.AdditiveAttention = same("use_scale", "score_mode", "dropout"), same("use_scale", "dropout")
local query_value_key = { "query", "value", "key" } -- layers of several tensors, by the names that Keras has for them
local call_names = { MultiHeadAttention = query_value_key, GroupedQueryAttention = query_value_key }
layer_keys.Bidirectional, layer_keys.TimeDistributed = same("layer", "backward_layer", "merge_mode"), same "layer"

local left_out = { BatchNormalization = { axis = -1 } } -- values that are not written: what Keras 2 does not know, or writes otherwise
local window = same("kernel_size", "strides", "padding", "dilation_rate")
local ones = { 1, { 1, 1 }, { 1, 1, 1 } }
for rank = 1, 3 do
  local function name(pattern) return pattern:format(rank) end
  layer_keys[name "Conv%dD"] = with(with(weights, window), same("filters", "groups"))
  left_out[name "Conv%dD"] = { dilation_rate = ones[rank], groups = 1 }
  layer_keys[name "Conv%dDTranspose"] = with(with(weights, window), same("filters", "output_padding"))
  layer_keys[name "DepthwiseConv%dD"] = with(with(options_of "depthwise", by_channel), window)
  layer_keys[name "SeparableConv%dD"] = with(with(options_of "depthwise", options_of "pointwise"), with(with(by_channel, window), same "filters"))
  for _, kind in ipairs { "Max", "Average" } do
    layer_keys[name(kind .. "Pooling%dD")] = same("pool_size", "strides", "padding")
    layer_keys[name("Global" .. kind .. "Pooling%dD")] = same "keepdims"
    layer_keys[name("Adaptive" .. kind .. "Pooling%dD")] = same "output_size"
  end
  layer_keys[name "ZeroPadding%dD"], layer_keys[name "Cropping%dD"] = same "padding", same "cropping"
  layer_keys[name "UpSampling%dD"], layer_keys[name "SpatialDropout%dD"] = same("size", rank == 2 and "interpolation" or "size"), same "rate"
end

local file_names = { GroupedQueryAttention = "GroupQueryAttention" } -- classes that files name otherwise
local sizes = { output_shape = true, noise_shape = true } -- a size that is not known is null there

-- Dims count from 0 there; none is null.
local function lowered(axis)
  if axis == false then return core.json_null end
  if type(axis) ~= "table" then return axis > 0 and axis - 1 or axis end
  local out = {}
  for i, n in ipairs(axis) do out[i] = lowered(n) end
  return out
end

-- A constraint as Keras describes it.
local function constraint(value)
  if type(value) ~= "table" or type(value.config) ~= "table" or value.config.axis == nil then return value end
  local config = {}
  for key, item in pairs(value.config) do config[key] = item end
  config.axis = lowered(config.axis)
  return { class_name = value.class_name, config = config }
end

local dtype_names = { f16 = "float16", bf16 = "bfloat16", f32 = "float32", f64 = "float64",
  i32 = "int32", i64 = "int64", u8 = "uint8", i8 = "int8" }

local function input_layer(name, shape, dtype)
  local batch = { core.json_null }
  for i, n in ipairs(shape) do batch[i + 1] = n > 0 and n or core.json_null end
  return { class_name = "InputLayer",
    config = { name = name, batch_input_shape = batch, dtype = dtype_names[dtype] or dtype or "float32", sparse = false } }
end

local function layer(entry)
  local class_name, config = entry.class_name, entry.config
  if class_name == "Sequential" then return { class_name = class_name, config = keras.sequential(config) } end
  if class_name == "Functional" then return { class_name = class_name, config = keras.functional(config) } end
  if class_name == "InputLayer" then return input_layer(config.name, config.shape, config.dtype) end
  local keys = layer_keys[class_name]
  if not keys then return entry end -- a layer of the user's: Keras wants it as a custom object of this name
  local out = { name = config.name, trainable = config.trainable ~= false, dtype = require("nnlua.policy").to_keras(config.dtype) }
  for key, own in pairs(keys) do
    local value = config[own]
    if key:find "_constraint$" then value = constraint(value) end
    if key:find "layer$" or key == "cell" then value = layer(value) end
    if key == "cells" then
      local cells = {}
      for i, cell in ipairs(value) do cells[i] = layer(cell) end
      value = cells
    end
    if sizes[key] and type(value) == "table" then
      local known = {}
      for i, n in ipairs(value) do known[i] = n ~= -1 and n or core.json_null end
      value = known
    end
    if key == "merge_mode" and value == "none" then value = core.json_null end
    if not (left_out[class_name] and lists.same(value, left_out[class_name][key])) then out[key] = value end
  end
  for _, key in ipairs { "axis", "axes", "shared_axes" } do
    if out[key] ~= nil then out[key] = lowered(out[key]) end
  end
  return { class_name = class_name, config = out }
end

--- The config of a Sequential, from ours. `input_size` is the shape of a sample, for a model that does not begin with an Input.
---@param config table
---@param input_size? integer[]
---@return table
function keras.sequential(config, input_size)
  local layers, names = {}, {}
  for _, entry in ipairs(config.layers) do names[entry.config.name or ""] = true end
  if input_size and (not config.layers[1] or config.layers[1].class_name ~= "InputLayer") then
    local name = "input"
    while names[name] do name = name .. "_" end
    layers[1] = input_layer(name, input_size)
  end
  for _, entry in ipairs(config.layers) do layers[#layers + 1] = layer(entry) end
  return { name = config.name, layers = list(layers) }
end

local function place_of(arg) return arg.ref and { arg.ref[1], arg.ref[2] - 1, arg.ref[3] - 1 } end

-- The tensors of a call, as Keras's legacy layout lists them: { layer, call, place, options } from 0; nil where it has no words for the call.
local function inbound(class_name, args)
  local names = call_names[class_name]
  if #args > 1 and names then -- the first, with the others as its options
    local entry, more = place_of(args[1]), {}
    if not entry then return nil end
    for i = 2, #args do
      local place = place_of(args[i])
      if place and names[i] then
        more[names[i]] = place
      elseif next(args[i]) ~= nil then -- an option of the call
        return nil
      end
    end
    entry[4] = more
    return { entry }
  end
  if #args > 1 and not merges[class_name] then return nil end -- it wants those behind the first as options of the layer's own
  local refs = #args == 1 and args[1].list or args
  local entries = {}
  for i, arg in ipairs(refs) do
    entries[i] = place_of(arg)
    if not entries[i] then return nil end
    entries[i][4] = {}
  end
  return entries
end

--- The config of an nn.Model, from ours; nil when Keras has no words for one of its calls (nn.Operation, arguments that are no tensors).
---@param config table
---@return table?
function keras.functional(config)
  local layers, nested = {}, {}
  local function place(ref) -- Keras counts the calls of a nested model from 1 here (the first is how it was made), but not in inbound_nodes
    return { ref[1], ref[2] - 1 + (nested[ref[1]] and 1 or 0), ref[3] - 1 }
  end
  for i, entry in ipairs(config.layers) do
    if entry.class_name == "Operation" then return nil end
    nested[entry.name] = entry.class_name == "Functional"
    local out = layer(entry)
    if not out.config then return nil end
    local nodes = {}
    for k, args in ipairs(entry.calls) do
      nodes[k] = inbound(entry.class_name, args)
      if not nodes[k] then return nil end
    end
    layers[i] = { class_name = out.class_name, name = entry.name, config = out.config, inbound_nodes = list(nodes) }
    if out.config.name ~= entry.name then -- of a layer of the user's, the name it has in this model
      local named = {}
      for key, value in pairs(out.config) do named[key] = value end
      named.name = entry.name
      layers[i].config = named
    end
  end
  local inputs, outputs = {}, {}
  for i, name in ipairs(config.inputs) do inputs[i] = { name, 0, 0 } end
  for i, ref in ipairs(config.outputs) do outputs[i] = place(ref) end
  return { name = config.name, trainable = true, layers = list(layers), input_layers = inputs, output_layers = outputs }
end

--- Our names of dtypes -> Keras's.
keras.dtype_names = dtype_names

--- Kinds of models that Keras has -> what translates their configuration.
keras.models = { Sequential = keras.sequential, Functional = keras.functional }

local loss_classes = {
  sparse_categorical_crossentropy = "SparseCategoricalCrossentropy", categorical_crossentropy = "CategoricalCrossentropy",
  binary_crossentropy = "BinaryCrossentropy",
}

--- The training_config, from an optimizer's config() and names; nil when Keras has no name for the loss.
---@param optimizer table
---@param loss_name string|table
---@param from_logits? boolean
---@param metrics string[]
---@return table?
function keras.training(optimizer, loss_name, from_logits, metrics)
  if loss_name == "function" or type(loss_name) == "table" then return nil end
  local loss = loss_name
  if from_logits ~= nil then
    if not loss_classes[loss_name] then return nil end
    loss = { class_name = loss_classes[loss_name], config = { name = loss_name, from_logits = from_logits } }
  end
  local config = {}
  for key, value in pairs(optimizer.config) do config[key] = value end
  config.loss_scale = nil -- Keras wraps the optimizer when it compiles
  if config.weight_decay == 0 then config.weight_decay = nil end -- Keras 2's optimizers lack it
  return {
    optimizer_config = { class_name = optimizer.class_name, config = config }, loss = loss, metrics = list(metrics),
    weighted_metrics = core.json_null, loss_weights = core.json_null,
  }
end

-- ---- Keras 3 -----------------------------------------------------------------------------------------------------------------

local homes = { initializer = "keras.initializers", regularizer = "keras.regularizers", constraint = "keras.constraints" }

-- An object as Keras 3 writes it.
local function in_module(home, value) return
  { module = home, class_name = value.class_name, config = value.config, registered_name = core.json_null }
end

local containers_3 = { Sequential = "keras", Functional = "keras.src.models.functional" }
local wrapped

-- The options of a layer: objects get their modules, layers inside are layers.
local function options_of_3(config)
  local out = {}
  for key, value in pairs(config) do
    local home = type(value) == "table" and value.class_name and homes[key:match "_(%a+)$"]
    if home then value = in_module(home, value)
    elseif type(value) == "table" and value.class_name == "Policy" then value = { module = "keras", class_name = "DTypePolicy", config = value.config,
      registered_name = core.json_null }
    elseif type(value) == "table" and value.class_name then value = wrapped(value)
    elseif key == "cells" then
      local cells = {}
      for i, cell in ipairs(value) do cells[i] = wrapped(cell) end
      value = cells
    end
    out[key] = value
  end
  return out
end

-- A tensor between layers. Keras wants its shape, which it finds anew.
local function tensor_3(entry, model)
  local layer_calls = model and model.calls and model.calls[model:layer(entry[1])]
  local node = layer_calls and layer_calls[entry[2] + 1]
  local symbol = node and node.symbols[entry[3] + 1]
  local shape = { core.json_null }
  for i, n in ipairs(symbol and symbol.sample or {}) do shape[i + 1] = n > 0 and n or core.json_null end
  return { class_name = "__keras_tensor__", config = { shape = shape, dtype = "float32", keras_history = { entry[1], entry[2], entry[3] } } }
end

-- A layer of keras.sequential or keras.functional, as Keras 3 writes it; `module` is ours, for the shapes inside a model.
function wrapped(entry, module)
  local class_name, config = entry.class_name, entry.config
  local out = in_module(containers_3[class_name] or "keras.layers", { class_name = class_name, config = config })
  if class_name == "Sequential" or class_name == "Functional" then
    local layers, full = setmetatable({}, core.json_array), {}
    for i, inner in ipairs(config.layers) do
      local part = module and inner.class_name ~= "InputLayer" and module:layer(inner.name or inner.config.name) or nil
      layers[i] = wrapped(inner, part)
      if class_name == "Functional" then
        layers[i].name, layers[i].inbound_nodes = inner.name, setmetatable({}, core.json_array)
        for k, node in ipairs(inner.inbound_nodes) do
          local refs = setmetatable({}, core.json_array)
          for j, ref in ipairs(node) do refs[j] = tensor_3(ref, module) end
          for _, name in ipairs(call_names[inner.class_name] or {}) do
            if node[1][4][name] then refs[#refs + 1] = tensor_3(node[1][4][name], module) end
          end
          layers[i].inbound_nodes[k] = { args = merges[inner.class_name] and { refs } or refs, kwargs = {} }
        end
      end
    end
    for key, value in pairs(config) do full[key] = value end
    full.layers, full.trainable = layers, true
    for _, key in ipairs { "input_layers", "output_layers" } do
      if full[key] and #full[key] == 1 then full[key] = full[key][1] end
    end
    if class_name == "Sequential" then full.build_input_shape = layers[1] and layers[1].config.batch_shape or nil end
    out.config = full
  elseif class_name == "InputLayer" then
    out.config = { name = config.name, batch_shape = config.batch_input_shape, dtype = config.dtype, sparse = false, ragged = false }
  elseif layer_keys[class_name] then
    local plain = options_of_3(config)
    if class_name == "LeakyReLU" then plain.alpha, plain.negative_slope = nil, plain.alpha end
    out.config, out.class_name = plain, file_names[class_name] or class_name
  else
    out.module, out.registered_name = core.json_null, class_name -- a layer of the user's
  end
  return out
end

-- How a model was compiled, as Keras 3 says it: of several outputs lists, in their order. Nil where it has no words for a loss.
local function compile_config(compiled)
  local losses, metrics, loss_weights, optimizer = {}, {}, {}, nil
  for i, output in ipairs(compiled.outputs) do
    local names = {}
    for k, meter in ipairs(output.meters) do names[k] = meter.name end
    local training = output.loss_name and keras.training(compiled.optimizer:config(), output.loss_name, output.from_logits, names)
    if not training then return nil end
    local loss = training.loss
    losses[i] = type(loss) == "table" and in_module("keras.losses", loss) or loss
    metrics[i], loss_weights[i], optimizer = training.metrics, output.weight, training.optimizer_config
  end
  local several = #losses > 1
  return { optimizer = in_module("keras.optimizers", optimizer), loss = several and losses or losses[1], metrics = several and metrics or metrics[1],
    loss_weights = several and loss_weights or core.json_null, weighted_metrics = core.json_null, run_eagerly = false, steps_per_execution = 1,
    jit_compile = false }
end

--- The config.json of a `.keras` file, of a model; nil when Keras has no words for it.
---@param model nnlua.Module
---@return table?
function keras.described(model)
  local c = getmetatable(model)
  local class_name = c.keras or c.__name
  if not keras.models[class_name] then return nil end
  local config = keras.models[class_name](model:config(), rawget(model, "input_size"))
  if not config then return nil end
  local out = wrapped({ class_name = class_name, config = config }, model)
  local compiled = rawget(model, "compiled")
  out.compile_config = compiled and compile_config(compiled)
  return out
end

return keras
