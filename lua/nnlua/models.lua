--- Models: `nn.Sequential`, layers one after the other.
--
-- Owns: the order and the names of layers, building, the summary. `model[i]` is the i-th layer, `#model` their number,
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
    rawset(layer, "name", free_name(self, snake_case(c.keras == "InputLayer" and "Input" or c.keras or c.__name)))
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

-- Build the last layer for samples of shape `before`, when shapes can be told without running it.
function Sequential:build_next(before)
  local layer = self[#self]
  if layer.build_once then
    self.sizes[#self] = layer:build_once(before)
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
    size = layer.build_once and layer:build_once(size)
    if not size then
      rawset(self, "sizes", nil)
      break
    end
    self.sizes[i] = size
  end
  rawset(self, "input_size", shape)
  rawset(self, "built", true) -- layers after a module without shapes build themselves when they are called
  return size
end

function Sequential:build_from(x)
  local shape = x:shape()
  self:build_once(table.move(shape, 2, #shape, 1, {}))
end

--- Make all parameters, from the shape of one sample or from an example batch. Returns self.
---@param input integer[]|nnlua.Tensor
function Sequential:build(input)
  if self:first_unbuilt() then
    if type(input) == "table" then self:build_once(input) else self:build_from(input) end
    Module.build(self, input)
  end
  return self
end

--- The layer called `name`, or number `name` (negative: from the end).
---@param name string|integer
---@return nnlua.Module
function Sequential:layer(name)
  if math.type(name) == "integer" then
    local layer = self[name < 0 and #self + 1 + name or name]
    return layer or options.raise(("Sequential: there is no layer %d, the model has %d"):format(name, #self))
  end
  local names = {}
  for i = 1, #self do
    if self[i].name == name then return self[i] end
    names[i] = self[i].name
  end
  local near = type(name) == "string" and options.nearest(name, names)
  options.raise(("Sequential: there is no layer %s%s (layers: %s)"):format(options.shown(name), near and ('; did you mean "' .. near .. '"?') or "",
    table.concat(names, ", ")))
end

function Sequential:children()
  local list = {}
  for i = 1, #self do list[i] = { self[i].name, self[i] } end
  return list
end

function Sequential:forward(x)
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

-- Files of layers, and the classes that users registered.
local files = {}
for i, name in ipairs { "core", "activation", "conv", "norm", "shapes", "pooling", "noise", "merge", "wrappers", "products", "preprocessing" } do
  files[i] = "nnlua.layers." .. name
end
local registered = {}

--- The class of layers that a file calls `name` (ours or Keras's name), or nil. Only classes of this library and registered ones are found.
---@param name string
function models.layer_class(name)
  if name == "Sequential" then return Sequential end
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

-- ---- summary ---------------------------------------------------------------------------------------------------------

local function grouped(n) return (("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")) end

local function own_count(module)
  local trainable, other = module:count_params()
  return trainable + other
end

--- A table of layers, output shapes and numbers of parameters, as text.
---@return string
function Module:summary_text()
  local rows = { { "Layer", "Output shape", "Parameters" } }
  local children = self:children()
  for i, child in ipairs(children) do
    local name, module = child[1], child[2]
    local size = self.sizes and self.sizes[i] or rawget(module, "output_size")
    rows[#rows + 1] = { ("%s (%s)"):format(name, getmetatable(module).__name), size and ("(N, %s)"):format(table.concat(size, ", ")) or "?",
      module:first_unbuilt() and "?" or grouped(own_count(module)) }
  end
  local widths = { 0, 0, 0 }
  for _, row in ipairs(rows) do
    for c = 1, 3 do widths[c] = math.max(widths[c], #row[c]) end
  end
  local form = ("%%-%ds  %%-%ds  %%%ds"):format(widths[1], widths[2], widths[3])
  local rule = ("-"):rep(widths[1] + widths[2] + widths[3] + 4)
  local lines = { form:format(table.unpack(rows[1])), rule }
  for i = 2, #rows do lines[#lines + 1] = form:format(table.unpack(rows[i])) end
  lines[#lines + 1] = rule
  local trainable, other = self:count_params()
  lines[#lines + 1] = ("%s parameters: %s trained, %s not"):format(grouped(trainable + other), grouped(trainable), grouped(other))
  if self:first_unbuilt() then lines[#lines] = "not built yet: begin with nn.Input{...}, or call model:build{sizes of one sample}" end
  return table.concat(lines, "\n")
end

--- Print the summary. Returns self.
function Module:summary()
  io.stdout:write(self:summary_text(), "\n")
  return self
end

models.Layer = Layer
return models
