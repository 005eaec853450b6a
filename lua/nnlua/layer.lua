--- Layers: modules with options, whose parameters are made when the input size is known. `nn.Layer` is their base.
--
-- Owns: options and their aliases, building, shapes of results, configuration for files. A layer is its options, `build` (parameters),
-- `output_shape` (no kernel runs to find it) and `forward`:
--
--     local nn = require "nnlua"
--     local Scale = nn.class("Scale", nn.Layer)
--     Scale.options = { start = { "number", position = 1, default = 1 } }
--     function Scale:build(shape) self.gain = self:weight({ shape[#shape] }, nn.initializers.constant{ self.start }) end
--     function Scale:forward(x) return x * self.gain end
--     local model = nn.Sequential{ nn.Input{3}, Scale{2}, nn.Dense{1} }
--     print(model(nn.ones(5, 3)):size())            --> 5  1
--
-- Shapes here are those of one sample, without the batch: {28, 28, 1}; -1 is a size that is not known.

local class = require "nnlua.class"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local initializers = require "nnlua.initializers"
local regularizers = require "nnlua.regularizers"
local constraints = require "nnlua.constraints"
local activations = require "nnlua.activations"
local policy = require "nnlua.policy"

---@class nnlua.Layer: nnlua.Module
---@field options table<string, nnlua.OptionRule>
---@field aliases? table<string, string> other spellings of options
---@field keras? string class name in Keras's files, when it is not our own
local Layer = class("Layer", Module)
Layer.options, Layer.aliases = {}, {}

function Layer.new_object()
  local object = Module.new_object()
  object.built = false
  return object
end

local common = { name = { "string" }, trainable = { "boolean", default = true },
  dtype = { "string", choices = policy.names } }
local specs = setmetatable({}, { __mode = "k" }) -- class -> its options with the common ones

local function spec_of(c)
  local spec = specs[c]
  if not spec then
    spec = {}
    for key, rule in pairs(common) do spec[key] = rule end
    for key, rule in pairs(c.options) do spec[key] = rule end
    specs[c] = spec
  end
  return spec
end

-- `given` with the aliases of the class replaced by the options' own names.
local function unaliased(c, given)
  if type(given) ~= "table" then return given end
  local plain
  for alias, key in pairs(c.aliases) do
    if given[alias] ~= nil then
      if given[key] ~= nil then options.raise(("%s: %q is another name of %q; give one of them"):format(c.__name, alias, key)) end
      if not plain then
        plain = {}
        for k, v in pairs(given) do plain[k] = v end
      end
      plain[key], plain[alias] = plain[alias], nil
    end
  end
  return plain or given
end

-- Probabilities are made in f32, whatever the layer computes in.
local in_single = { softmax = true, log_softmax = true, softmin = true }

local function set_policy(self)
  local compute, name = policy.of_layer(rawget(self, "dtype"))
  rawset(self, "dtype", name)
  rawset(self, "compute_dtype", compute)
end

local function compute_in_single(self, act, name)
  if not rawget(self, "compute_dtype") or not in_single[name] then return act end
  return function(x) return act((policy.single(x))) end
end

--- Checks the options and stores them as fields.
---@param given any
function Layer:init(given)
  local c = getmetatable(self)
  for key, value in pairs(options.check(c.__name, unaliased(c, given), spec_of(c))) do
    if key:find "_initializer$" then value = initializers.get(value) end
    if key:find "_regularizer$" then value = regularizers.get(value) end
    if key:find "_constraint$" then value = constraints.get(value) end
    rawset(self, key, value)
  end
  if not c.options.dtype then set_policy(self) end
  if rawget(self, "activation") then
    local act, name = activations.get(self.activation)
    rawset(self, "act", compute_in_single(self, act, name))
  end
  if rawget(self, "recurrent_activation") then rawset(self, "recurrent_act", (activations.get(self.recurrent_activation))) end
  self:checked()
end

--- Hook: checks beyond the options' types, once they are stored.
function Layer:checked() end -- luacheck: no unused args

--- A new parameter of `shape`, for build().
---@param shape integer[]
---@param initializer string|table|function
---@param regularizer? table|function adds to the loss
---@param constraint? table|function what optimizers put it back to
---@return nnlua.Tensor
function Layer:weight(shape, initializer, regularizer, constraint)
  local p = Module.parameter(initializers.get(initializer)(shape))
  if not self.trainable then p:requires_grad(false) end
  if regularizer then Module.penalize(p, regularizer) end
  if constraint then Module.constrain(p, constraint) end
  return p
end

--- The options of a layer with a kernel and a bias, added to its own.
---@param spec table<string, nnlua.OptionRule>
function Layer.with_kernel(spec)
  spec.use_bias = { "boolean", default = true }
  spec.kernel_initializer = { "string|table|function", default = "glorot_uniform" }
  spec.bias_initializer = { "string|table|function", default = "zeros" }
  for _, name in ipairs { "kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint" } do
    spec[name] = { "string|table|function" }
  end
  return spec
end

--- Makes self.kernel, and self.bias when the layer has one.
---@param kernel integer[]
---@param bias integer
function Layer:build_kernel(kernel, bias)
  self.kernel = self:weight(kernel, self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
  if self.use_bias then self.bias = self:weight({ bias }, self.bias_initializer, self.bias_regularizer, self.bias_constraint) end
end

--- x, the kernel and the bias in the dtype that the layer computes in (nn.policy).
---@param x nnlua.Tensor
function Layer:operands(x)
  local dtype, bias = rawget(self, "compute_dtype"), self.bias
  if not dtype then return x, self.kernel, bias end
  return x:to(dtype), self.kernel:to(dtype), bias and bias:to(dtype)
end

--- Make the parameters for samples of `shape`. Layers without parameters leave it.
---@param shape integer[]
function Layer:build(shape) end -- luacheck: no unused args

--- Shape of the result for samples of `shape`; raises when the layer cannot take them.
---@param shape integer[]
---@return integer[]
function Layer:output_shape(shape) return shape end -- luacheck: no unused args

--- Build once for samples of `shape` and return the shape of the result.
---@param shape integer[]
---@return integer[]
function Layer:build_once(shape)
  local out = self:output_shape(shape)
  if not self.built then
    self:build(shape)
    rawset(self, "input_size", shape)
    rawset(self, "output_size", out)
    rawset(self, "built", true)
  end
  return out
end

function Layer:build_from(x)
  local shape = x:shape()
  self:build_once(table.move(shape, 2, #shape, 1, {}))
end

--- Raise about the input, naming the layer.
function Layer:refuse(what, shape)
  options.raise(("%s: %s, got samples of shape %s"):format(rawget(self, "name") or getmetatable(self).__name, what, Module.shape_text(shape)))
end

--- The options, with Keras's names, as plain data: for files.
---@return table
function Layer:config()
  local config = {}
  for key in pairs(spec_of(getmetatable(self))) do
    local value = self[key]
    if type(value) == "function" then
      local _, name = activations.get(value)
      if not key:find "activation$" or name == "function" then
        options.raise(("%s: %s is a function without a name, which a file cannot hold; name it: nn.activations.<name> = ...")
          :format(rawget(self, "name") or getmetatable(self).__name, key))
      end
      value = name
    elseif Module.is_module(value) then
      value = Layer.describe(value)
    elseif type(value) == "table" and Module.is_module(value[1]) then
      local list = {}
      for i, layer in ipairs(value) do list[i] = Layer.describe(layer) end
      value = list
    elseif type(value) == "table" and value.config then
      value = value:config()
    end
    config[key] = value
  end
  return config
end

--- A layer inside another one, for files: { class_name =, config = }.
---@param layer nnlua.Module
---@return table
function Layer.describe(layer)
  local c = getmetatable(layer)
  if not layer.config then options.raise(("%s: a file cannot hold it, it has no config()"):format(rawget(layer, "name") or c.__name)) end
  return { class_name = c.keras or c.__name, config = layer:config() }
end

-- What Layer.describe gave, as a layer again; of a list, each.
local function described(value)
  if type(value) ~= "table" or Module.is_module(value) then return value end
  if not value.class_name then
    local list = {}
    for i, entry in ipairs(value) do list[i] = described(entry) end
    return list
  end
  local c = require("nnlua.models").layer_class(value.class_name)
  if not c then options.raise(("unknown kind of layer %s"):format(options.shown(value.class_name))) end
  return c.from_config(c, value.config)
end

--- A layer from what config() gave, or from Keras's configuration of the same layer: keys that are not ours are ignored.
---@param c table the class: Dense.from_config(Dense, config)
---@param config table
---@return nnlua.Layer
function Layer.from_config(c, config)
  local given, spec = {}, spec_of(c)
  for key, value in pairs(unaliased(c, config)) do
    if key == "dtype" and not c.options.dtype then value = policy.from_config(value) end
    if spec[key] and type(value) ~= "userdata" then given[key] = spec[key].layer and described(value) or value end
  end
  return c(given)
end

--- ", relu" for a layer with an activation, "" for one without.
function Layer.activation_text(layer)
  local _, name = activations.get(layer.activation)
  return name == "linear" and "" or ", " .. name
end

function Layer:detail() return "" end -- luacheck: no unused args

--- Define a layer class: name, options, aliases and Keras's name. For this library's own files.
---@param name string
---@param spec table
---@param aliases? table
---@param keras? string
function Layer.define(name, spec, aliases, keras)
  local c = class(name, Layer)
  c.options, c.aliases, c.keras = spec, aliases or {}, keras or name
  return c
end

return Layer
