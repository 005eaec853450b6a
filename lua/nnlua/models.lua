--- Models: `nn.Sequential`, layers one after the other.
--
-- Owns: the order and the names of layers, building. `model[i]` is the i-th layer, `#model` their number,
-- `model:layer "name"` one by name.
-- With an `nn.Input` first, parameters are made at once; without, when the first batch comes.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{28, 28, 1}, nn.Flatten{}, nn.Dense{128, activation = "relu"}, nn.Dense{10} }
--     model:summary()
--     print(model[3], model:layer "dense_1".units)  --> Dense(784 -> 128, relu)  10

local class = require "nnlua.class"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local Layer = require "nnlua.layer"
local symbolic = require "nnlua.symbolic"

local models = {}

---@class nnlua.Sequential: nnlua.Module
---@overload fun(layers: table): nnlua.Sequential
local Sequential = class("Sequential", Module)
models.Sequential = Sequential

function Sequential.new_object()
  local object = Module.new_object()
  object.built = false
  return object
end

--- The layers in order, and `name =`.
function Sequential:init(given)
  if type(given) ~= "table" then options.raise("Sequential: needs a table of layers, got " .. options.shown(given)) end
  if Module.is_module(given) then given = { given } end
  for key in pairs(given) do
    if math.type(key) ~= "integer" and key ~= "name" then
      options.raise(("Sequential: unknown option %s (valid: name, and the layers in order)"):format(options.shown(key)))
    end
  end
  if given.name then rawset(self, "name", given.name) end
  local count = 0
  for key in pairs(given) do count = math.max(count, math.type(key) == "integer" and key or 0) end
  for i = 1, count do self:add(given[i]) end
end

-- "MaxPooling2D" -> "max_pooling2d", as Keras names layers.
local function snake_case(name)
  return (name:gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):lower())
end

--- What a layer without a name is called: dense, max_pooling2d.
---@param layer nnlua.Module
function models.default_name(layer)
  local c = getmetatable(layer)
  return c.__name == "Operation" and layer.op or snake_case(c.keras == "InputLayer" and "Input" or c.keras or c.__name)
end

-- A name that no other layer has: dense, dense_1, dense_2, ...
local function free_name(self, base)
  local taken = {}
  for i = 1, #self do taken[self[i].name] = true end
  if not taken[base] then return base end
  local k = 1
  while taken[base .. "_" .. k] do k = k + 1 end
  return base .. "_" .. k
end

--- Append a layer. Returns self.
---@param layer nnlua.Module
function Sequential:add(layer)
  if type(layer) == "table" and rawget(layer, "__index") == layer then
    options.raise(("Sequential: layer %d is a class; make one of it: nn.%s{...}"):format(#self + 1, layer.__name))
  elseif not Module.is_module(layer) then
    options.raise(("Sequential: layer %d must be a layer or module, got %s"):format(#self + 1, options.shown(layer)))
  end
  for i = 1, #self do
    if self[i] == layer then options.raise(("Sequential: layer %d is already in the model, as layer %d (%s)"):format(#self + 1, i, layer.name)) end
    if rawget(layer, "name") == self[i].name then options.raise(("Sequential: two layers have the name %q"):format(layer.name)) end
  end
  local c = getmetatable(layer)
  if rawget(layer, "name") == nil then
    rawset(layer, "name", free_name(self, models.default_name(layer)))
  end
  local before = #self == 0 or self.sizes and self.sizes[#self]
  rawset(self, #self + 1, layer)
  if #self == 1 then
    rawset(self, "built", false)
    if layer.shape and c.keras == "InputLayer" then
      rawset(self, "input_size", layer.shape)
      self:build_once(layer.shape)
    end
  elseif before then
    self:build_next(before)
  end
  return self
end

-- Keep the symbolic tensor of layer i, whose shape is known: for `layer.output`, `model.inputs` and `model.outputs`.
function Sequential:link(i)
  local layer, symbols = self[i], rawget(self, "symbols")
  if not symbols then
    symbols = {}
    rawset(self, "symbols", symbols)
    local first = getmetatable(layer).keras == "InputLayer" and layer
    rawset(self, "inputs", { symbolic.symbol_of(first or require("nnlua.layers.core").Input { shape = self.input_size, name = "input" }) })
  end
  if i == 1 and getmetatable(layer).keras == "InputLayer" then
    symbols[1] = self.inputs[1]
  else
    symbols[i] = symbolic.link(layer, symbols[i - 1] or self.inputs[1], self.sizes[i])
  end
  rawset(self, "outputs", { symbols[i] })
end

--- The calls of a built model, for the summary, pictures and lint(): as of an nn.Model. Nil before shapes are known.
function Sequential:call_list()
  local symbols = rawget(self, "symbols")
  if not symbols or #symbols < #self then return nil end
  local list = {}
  for i = 1, #self do
    list[i] = { layer = self[i], node = symbols[i].node, call = 1, from = i > 1 and { { layer = self[i - 1], call = 1, place = 1 } } or {} }
  end
  return list
end

-- The symbolic tensors of a copy go through its own layers.
function Sequential:on_copy(copy)
  for i = 1, rawget(self, "symbols") and #self or 0 do copy:link(i) end
end

-- Build the last layer for samples of shape `before`, when shapes can be told without running it.
function Sequential:build_next(before)
  local layer = self[#self]
  if layer.build_once then
    self.sizes[#self] = self:within(layer, "build_once", before)
    self:link(#self)
  else
    rawset(self, "sizes", nil) -- a module of the user's: its result's shape shows when a batch comes
  end
end

--- Build all layers for samples of `shape`; returns the shape of the result (nil when a module without output_shape is among them).
---@param shape integer[]
---@return integer[]?
function Sequential:build_once(shape)
  rawset(self, "sizes", {})
  local size = shape
  for i = 1, #self do
    local layer = self[i]
    size = layer.build_once and self:within(layer, "build_once", size)
    if not size then
      rawset(self, "sizes", nil)
      break
    end
    self.sizes[i] = size
  end
  rawset(self, "input_size", shape)
  for i = 1, self.sizes and not rawget(self, "symbols") and #self or 0 do self:link(i) end
  rawset(self, "built", true) -- layers after a module without shapes build themselves when they are called
  return size
end

function Sequential:build_from(x) self:build_once(self:sample_shape(x)) end

--- Make all parameters, from the shape of one sample or from an example batch. Returns self.
---@param input integer[]|nnlua.Tensor
function Sequential:build(input)
  if self:first_unbuilt() then
    if type(input) == "table" then self:build_once(input) else self:build_from(input) end
    Module.build(self, input)
  end
  return self
end

function Sequential:children()
  local list = {}
  for i = 1, #self do list[i] = { self[i].name, self[i] } end
  return list
end

function Sequential:forward(x, extra)
  if extra ~= nil then options.raise(("takes one input, got another: %s; nn.Model takes several"):format(options.shown(extra))) end
  for i = 1, #self do x = self[i](x) end
  return x
end

function Sequential:output_shape(shape)
  for i = 1, #self do shape = self[i]:output_shape(shape) end
  return shape
end

--- Names and configurations of the layers, for files.
---@return table
function Sequential:config()
  local layers = {}
  for i = 1, #self do
    if not self[i].config then options.raise(("%s: a file cannot hold it, it has no config()"):format(self[i].name)) end
    layers[i] = { class_name = getmetatable(self[i]).keras or getmetatable(self[i]).__name, config = self[i]:config() }
  end
  return { name = self.name or "sequential", layers = layers }
end

--- A model from what config() gave. Parameters start afresh.
---@param c table
---@param config table
function Sequential.from_config(c, config)
  local layers = { name = config.name }
  for i, entry in ipairs(config.layers) do
    local of = models.layer_class(entry.class_name)
    if not of then options.raise(("unknown kind of layer %s"):format(options.shown(entry.class_name))) end
    layers[i] = of.from_config(of, entry.config)
  end
  return c(layers)
end
Sequential.keras = "Sequential"
Sequential.only_children = true -- it has no weights but those of its layers

-- Files of layers, and the classes that users registered.
local files = {}
for i, name in ipairs { "core", "activation", "conv", "norm", "shapes", "pooling", "noise", "merge", "operation", "wrappers", "products",
  "preprocessing", "lookup", "augmentation", "cells", "recurrent", "sequence", "embedding", "attention", "transformer" } do
  files[i] = "nnlua.layers." .. name
end
local registered = {}

--- The class of layers that a file calls `name` (ours or Keras's name), or nil. Only classes of this library and registered ones are found.
---@param name string
function models.layer_class(name)
  if name == "Sequential" then return Sequential end
  if name == "Functional" or name == "Model" then return require("nnlua.model").Model end
  if registered[name] then return registered[name] end
  for _, file in ipairs(files) do
    for key, c in pairs(require(file)) do
      if type(c) == "table" and (c.keras == name or key == name) then return c end
    end
  end
end

--- Let files name your own layer class: `nn.register_layer(Scale)`. Returns the class.
---@param c table
function models.register_layer(c)
  if type(c) ~= "table" or rawget(c, "__index") ~= c or not c.forward then options.raise "register_layer: needs a class of layers" end
  registered[c.__name] = c
  return c
end

models.Layer = Layer
return models
