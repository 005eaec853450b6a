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
local core = require "nnlua.core"
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
---@field fields table<string, string> option -> field that holds it, where its own name is taken
Layer.options, Layer.aliases, Layer.fields = {}, {}, {}

-- layer:build{28, 28, 1} by the user: the class's build() makes parameters only, and a built layer knows its sizes too. Layers of several inputs
-- find theirs in a call.
local function build_by_hand(self, input, ...)
  local c = getmetatable(self)
  if select("#", ...) > 0 then return c.build(self, input, ...) end
  if self.built then return self end
  if c.build_from ~= Layer.build_from then return Module.build(self, input) end
  local shape = input
  if type(input) == "userdata" then
    shape = input:shape()
    table.remove(shape, 1)
  end
  self:build_once(shape)
  return self
end

function Layer.new_object()
  local object = Module.new_object()
  object.built, object.build = false, build_by_hand
  return object
end

local common = { name = { "string" }, trainable = { "boolean", default = true }, activity_regularizer = { "string|table|function" },
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

-- The forward of a layer with an activity_regularizer: what that says of the (first) result, divided by the size of the batch, joins the loss.
local function penalized(self, ...)
  local function note(y, ...)
    Module.penalize_activity(self, self.activity_regularizer(y) / y:size(1))
    return y, ...
  end
  return note(getmetatable(self).forward(self, ...))
end

--- Checks the options and stores them as fields.
---@param given any
function Layer:init(given)
  local c = getmetatable(self)
  local function owner(key) return ('%s: option "%s"'):format(c.__name, key) end
  for key, value in pairs(options.check(c.__name, unaliased(c, given), spec_of(c), c.aliases)) do
    if key:find "_initializer$" then value = initializers.get(value, owner(key)) end
    if key:find "_regularizer$" then value = regularizers.get(value, owner(key)) end
    if key:find "_constraint$" then value = constraints.get(value, owner(key)) end
    rawset(self, self.fields[key] or key, value)
  end
  if rawget(self, "activity_regularizer") then rawset(self, "forward", penalized) end
  if not c.options.dtype then set_policy(self) end
  if rawget(self, "activation") then
    local act, name = activations.get(self.activation, owner "activation")
    rawset(self, "act", compute_in_single(self, act, name))
  end
  if rawget(self, "recurrent_activation") then
    rawset(self, "recurrent_act", (activations.get(self.recurrent_activation, owner "recurrent_activation")))
  end
  self:checked()
end

--- y with the layer's activation.
function Layer:activated(y) return self.act and self.act(y) or y end

--- Hook: checks beyond the options' types, once they are stored.
function Layer:checked() end -- luacheck: no unused args

-- Inside without_values: elements that new parameters may still have.
local room

--- fn(...) where new parameters are zeros instead of initial values, since those of a file take their place: a file's description must not make us
--- draw, or even hold, more than about twice the `elements` that the file has. What fn gives; raises what it raises.
---@param elements integer
---@param fn function
function Layer.without_values(elements, fn, ...)
  local before = room
  room = 2.0 * elements + 65536
  local list = table.pack(pcall(fn, ...))
  room = before
  if not list[1] then error(list[2], 0) end
  return table.unpack(list, 2, list.n)
end

local function zeros_in_room(layer, shape)
  for _, n in ipairs(shape) do if n == 0 then return core.zeros(shape) end end
  local count = 1.0
  for _, n in ipairs(shape) do count = count * n end
  room = room - count
  if room < 0 then
    options.raise(("%s: a weight of shape %s is more than the file holds values for"):format(layer:label(), Module.shape_text(shape)))
  end
  return core.zeros(shape)
end

--- A new parameter of `shape`, for build().
---@param shape integer[]
---@param initializer string|table|function
---@param regularizer? table|function adds to the loss
---@param constraint? table|function what optimizers put it back to
---@return nnlua.Tensor
function Layer:weight(shape, initializer, regularizer, constraint)
  for _, n in ipairs(shape) do
    if n < 0 then
      options.raise(("%s: a weight of shape %s cannot be made; that size of the input must be known"):format(self:label(), Module.shape_text(shape)))
    end
  end
  local p = Module.parameter(room and zeros_in_room(self, shape) or initializers.get(initializer)(shape))
  if not self.trainable then p:requires_grad(false) end
  if regularizer then Module.penalize(p, regularizer) end
  if constraint then Module.constrain(p, constraint) end
  return p
end

--- The initializer, regularizer and constraint of the weight `name` as options, added to those of a layer. Returns spec.
---@param spec table<string, nnlua.OptionRule>
---@param name string
---@param initializer string by default
function Layer.with_weight(spec, name, initializer)
  spec[name .. "_initializer"] = { "string|table|function", default = initializer }
  spec[name .. "_regularizer"], spec[name .. "_constraint"] = { "string|table|function" }, { "string|table|function" }
  return spec
end

--- The options of a layer with a kernel and a bias, added to its own.
---@param spec table<string, nnlua.OptionRule>
---@param kernel? string what the options call the kernel
function Layer.with_kernel(spec, kernel)
  spec.use_bias = { "boolean", default = true }
  return Layer.with_weight(Layer.with_weight(spec, kernel or "kernel", "glorot_uniform"), "bias", "zeros")
end

--- Short names of the options of a layer with a kernel, and more of its own.
---@param more? table<string, string>
---@param kernel? string
function Layer.kernel_aliases(more, kernel)
  local aliases = { bias = "use_bias" }
  for short, name in pairs { init = "initializer", regularizer = "regularizer", constraint = "constraint" } do
    aliases[short] = (kernel or "kernel") .. "_" .. name
  end
  for short, name in pairs(more or {}) do aliases[short] = name end
  return aliases
end

--- A new parameter of `shape` by the options of the weight `name`.
---@param name string
---@param shape integer[]
function Layer:make(name, shape)
  return self:weight(shape, self[name .. "_initializer"], self[name .. "_regularizer"], self[name .. "_constraint"])
end

--- Makes self.kernel, and self.bias when the layer has one.
---@param kernel integer[]
---@param bias integer
function Layer:build_kernel(kernel, bias)
  self.kernel = self:make("kernel", kernel)
  if self.use_bias then self.bias = self:make("bias", { bias }) end
end

--- x, the kernel (self.kernel when not given) and the bias in the dtype that the layer computes in (nn.policy).
---@param x nnlua.Tensor
---@param kernel? nnlua.Tensor
function Layer:operands(x, kernel)
  local dtype, bias = rawget(self, "compute_dtype"), self.bias
  kernel = kernel or self.kernel
  if not dtype then return x, kernel, bias end
  return x:to(dtype), kernel:to(dtype), bias and bias:to(dtype)
end

--- t in the dtype that the layer computes in (nn.policy): t itself without a policy; nil for nil.
---@param t? nnlua.Tensor
function Layer:lowered(t)
  local dtype = rawget(self, "compute_dtype")
  return dtype and t and t:to(dtype) or t
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
    getmetatable(self).build(self, shape)
    rawset(self, "input_size", shape)
    rawset(self, "output_size", out)
    rawset(self, "built", true)
  end
  return out
end

function Layer:build_from(x) self:build_once(self:sample_shape(x)) end

--- What messages call the layer.
function Layer:label() return rawget(self, "name") or getmetatable(self).__name end

--- Raise about the input, naming the layer.
function Layer:refuse(what, shape)
  options.raise(("%s: %s, got samples of shape %s"):format(self:label(), what, Module.shape_text(shape)))
end

--- Dim `axis` of a batch (from 1, or from -1 at the end) of samples of `shape`, from 1; the batch itself is refused.
---@param axis integer
---@param shape integer[]
function Layer:dim_of(axis, shape)
  local d = axis < 0 and #shape + 2 + axis or axis
  if d < 2 or d > #shape + 1 then
    self:refuse(("axis %d must be a dim of the samples (2 to %d, or from -1 at the end)"):format(axis, #shape + 1), shape)
  end
  return d
end

--- The options, with Keras's names, as plain data: for files.
---@return table
function Layer:config()
  local config = {}
  for key in pairs(spec_of(getmetatable(self))) do
    local value = rawget(self, self.fields[key] or key)
    if type(value) == "function" then
      local _, name = activations.get(value)
      local activation = key:find "activation$"
      if not activation or name == "function" then
        options.raise(("%s: %s is a function without a name, which a file cannot hold%s"):format(self:label(), key,
          activation and "; name it: nn.activations.<name> = ..." or ""))
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
---@param base? table class that it is derived from
function Layer.define(name, spec, aliases, keras, base)
  local c = class(name, base or Layer)
  c.options, c.aliases, c.keras = spec, aliases or {}, keras or name
  return c
end

return Layer
