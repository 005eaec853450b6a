--- Initial values of weights: `nn.initializers`, with Keras's names and defaults.
--
-- Owns: how a weight starts. An initializer is an object that is called with a shape and gives a tensor; it draws from the one random stream
-- that `nn.seed` starts. Layers take one by name, as an object, or as any function of a shape:
--
--     local nn = require "nnlua"
--     local a = nn.Dense{128, init = "he_normal"}
--     local b = nn.Dense{128, init = nn.initializers.normal{stddev = 0.02}}
--     local c = nn.Dense{128, init = function(shape) return nn.full(shape, 0.5) end}
--
-- A scaled initializer looks at the fans of the shape: (in, out) for a product, (..., in, out) times the window for a convolution.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local initializers = {}
local by_keras_name = {} -- "HeNormal" -> class, for files

---@class nnlua.Initializer
---@overload fun(shape: integer[]): nnlua.Tensor
local Initializer = class "Initializer"

function Initializer:init(given)
  local o = options.check(self.label, given, self.options)
  for key, value in pairs(o) do self[key] = value end
end

--- The options, for files: `initializers.get{ class_name = .., config = .. }` makes an equal object.
function Initializer:config()
  local config = {}
  for key in pairs(self.options) do config[key] = self[key] end
  return { class_name = self.keras, config = config }
end

local blank = false
function Initializer:__call(shape) return blank and core.zeros(shape) or self:values(shape) end

--- What make(...) gives, while all weights begin as zeros: of a model whose weights come from a file, nothing is drawn or computed for its first
--- ones, however many a hostile description asks for.
function initializers.blank(make, ...)
  local before = blank
  blank = true
  local list = table.pack(pcall(make, ...))
  blank = before
  if not list[1] then error(list[2], 0) end
  return table.unpack(list, 2, list.n)
end

function Initializer:__tostring()
  local words = {}
  for key in pairs(self.options) do words[#words + 1] = ("%s = %s"):format(key, self[key]) end
  table.sort(words)
  return ("%s{%s}"):format(self.label, table.concat(words, ", "))
end

-- Adds initializers.<name>; `values(self, shape)` gives the tensor.
local function define(name, keras, spec, values)
  local c = class(keras, Initializer)
  c.label, c.keras, c.options, c.values = name, keras, spec, values
  initializers[name], by_keras_name[keras] = c, c
end

--- Inputs and outputs that one element of a weight connects: {784, 128} -> 784, 128; {3, 3, 32, 64} -> 288, 576.
---@param shape integer[]
---@return integer fan_in, integer fan_out
function initializers.fans(shape)
  local n = #shape
  if n == 0 then return 1, 1 end
  if n == 1 then return shape[1], shape[1] end
  local window = 1
  for i = 1, n - 2 do window = window * shape[i] end
  return window * shape[n - 1], window * shape[n]
end

-- Standard normal draws that lie within two deviations: what falls outside is drawn again. After five draws one in five million is left,
-- and is clamped.
local function truncated(shape)
  local x = core.normal(shape)
  for _ = 1, 4 do x = core.where(x:abs():lt(2), x, core.normal(shape)) end
  return x:clamp(-2, 2)
end
local TRUNCATED_STD = 0.87962566103423978 -- the deviation of those draws

-- All 0: for biases; kernels that begin so never learn different things.
define("zeros", "Zeros", {}, function(_, shape) return core.zeros(shape) end)
-- All 1: for gains.
define("ones", "Ones", {}, function(_, shape) return core.ones(shape) end)
-- All `value`.
define("constant", "Constant", { value = { "number", position = 1, default = 0 } },
  function(self, shape) return core.full(shape, self.value) end)

local spread = { mean = { "number", position = 1, default = 0 }, stddev = { "number", position = 2, default = 0.05, min = 0 } }
-- Normal draws.
define("random_normal", "RandomNormal", spread,
  function(self, shape) return core.normal(shape, self.mean, self.stddev) end)
-- Normal draws that lie within two deviations.
define("truncated_normal", "TruncatedNormal", spread,
  function(self, shape) return truncated(shape) * self.stddev + self.mean end)
-- Even draws between minval and maxval.
define("random_uniform", "RandomUniform",
  { minval = { "number", position = 1, default = -0.05 }, maxval = { "number", position = 2, default = 0.05 } },
  function(self, shape) return core.uniform(shape, self.minval, self.maxval) end)

-- Variance `scale / fan`, where the fan is that of `mode`.
local function scaled(shape, scale, mode, distribution)
  local fan_in, fan_out = initializers.fans(shape)
  local fan = mode == "fan_in" and fan_in or mode == "fan_out" and fan_out or (fan_in + fan_out) / 2
  local variance = scale / math.max(1, fan)
  if distribution == "uniform" then
    local limit = math.sqrt(3 * variance)
    return core.uniform(shape, -limit, limit)
  elseif distribution == "untruncated_normal" then
    return core.normal(shape, 0, math.sqrt(variance))
  end
  return truncated(shape) * (math.sqrt(variance) / TRUNCATED_STD)
end

-- Draws with the variance scale / fan, the fan being that of `mode`.
define("variance_scaling", "VarianceScaling", {
  scale = { "number", position = 1, default = 1, above = 0 },
  mode = { "string", default = "fan_in", choices = { "fan_in", "fan_out", "fan_avg" } },
  distribution = { "string", default = "truncated_normal", choices = { "truncated_normal", "untruncated_normal", "uniform" } },
}, function(self, shape) return scaled(shape, self.scale, self.mode, self.distribution) end)

local function define_scaled(name, keras, scale, mode, distribution)
  define(name, keras, {}, function(_, shape) return scaled(shape, scale, mode, distribution) end)
end

-- Normal draws with the variance 2 / (inputs + outputs), for tanh and sigmoid (Glorot and Bengio).
define_scaled("glorot_normal", "GlorotNormal", 1, "fan_avg", "truncated_normal")
-- Even draws with the variance 2 / (inputs + outputs), for tanh and sigmoid (Glorot and Bengio): what layers begin with by default.
define_scaled("glorot_uniform", "GlorotUniform", 1, "fan_avg", "uniform")
-- Normal draws with the variance 2 / inputs, for relu (He et al.).
define_scaled("he_normal", "HeNormal", 2, "fan_in", "truncated_normal")
-- Even draws with the variance 2 / inputs, for relu (He et al.).
define_scaled("he_uniform", "HeUniform", 2, "fan_in", "uniform")
-- Normal draws with the variance 1 / inputs, for selu (LeCun et al.).
define_scaled("lecun_normal", "LecunNormal", 1, "fan_in", "truncated_normal")
-- Even draws with the variance 1 / inputs, for selu (LeCun et al.).
define_scaled("lecun_uniform", "LecunUniform", 1, "fan_in", "uniform")

local function eye(n, m) return core.arange(0, n):reshape { n, 1 }:eq(core.arange(0, m)):float() end

-- A random matrix with orthonormal columns (rows, when there are more of those): the orthogonal factor of the polar decomposition of normal draws,
-- by Newton's iteration X <- X (3 - X'X) / 2 (Higham, "Computing the polar decomposition", 1986). Dims before the last are joined.
local function orthogonal(shape)
  local columns, rows = shape[#shape], 1
  for i = 1, #shape - 1 do rows = rows * shape[i] end
  local small, big = math.min(rows, columns), math.max(rows, columns)
  local x = core.normal { big, small }
  x = x * (1 / (math.sqrt(big) + math.sqrt(small))) -- about 1 / the largest singular value
  local one = eye(small, small)
  for i = 1, 90 do
    local gram = x:transpose(1, 2):matmul(x)
    if i % 10 == 0 and (gram - one):abs():amax():item() < 1e-5 then break end
    x = x:matmul(one * 1.5 - gram * 0.5)
  end
  return (rows < columns and x:transpose(1, 2) or x):reshape(shape)
end

define("orthogonal", "Orthogonal", { gain = { "number", position = 1, default = 1 } }, function(self, shape)
  if #shape < 2 then options.raise "orthogonal: needs a weight of at least two dims" end
  return orthogonal(shape) * self.gain
end)

-- 1 on the diagonal, times gain.
define("identity", "Identity", { gain = { "number", position = 1, default = 1 } }, function(self, shape)
  if #shape ~= 2 then options.raise(("identity: needs a matrix, got a weight with %d dims"):format(#shape)) end
  return eye(shape[1], shape[2]) * self.gain
end)

initializers.normal, initializers.uniform = initializers.random_normal, initializers.random_uniform

local function names()
  local list = {}
  for name, value in pairs(initializers) do
    if type(value) == "table" then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

--- The initializer that `spec` names: a name, Keras's { class_name =, config = }, an initializer or a class of them, or a function of a shape.
---@param spec string|table|function
---@param owner? string whose option it is, for messages
---@return nnlua.Initializer|function
function initializers.get(spec, owner)
  owner = owner and owner .. ": " or ""
  if type(spec) == "function" or class.isa(spec, Initializer) then return spec end
  if type(spec) == "string" then
    local c = type(rawget(initializers, spec)) == "table" and initializers[spec] or by_keras_name[spec]
    if c then return c {} end
    local near = options.nearest(spec, names())
    options.raise(("%sunknown initializer %q%s (valid: %s)"):format(owner, spec, near and ('; did you mean "' .. near .. '"?') or "",
      table.concat(names(), ", ")))
  elseif type(spec) == "table" and type(spec.class_name) == "string" then
    local c = by_keras_name[spec.class_name]
    if not c then options.raise(("%sunknown initializer %q"):format(owner, spec.class_name)) end
    local given = {}
    for key, value in pairs(spec.config or {}) do
      if c.options[key] then given[key] = value end -- files also hold seeds and nulls
    end
    return c(given)
  elseif type(spec) == "table" and rawget(spec, "__index") == spec and spec.values then
    return spec {}
  end
  options.raise(("%san initializer must be a name, an object of nn.initializers or a function of a shape, got %s"):format(owner, options.shown(spec)))
end

return options.closed(initializers, "nn.initializers")
