--- `local nn = require "nnlua"`: one table with everything.
--
-- Owns: which file a name lives in. Operators and tensors come from the core at once; a file of the library is loaded when one of its names is first
-- used, so that starting costs next to nothing. `pairs(nn)` lists every name.

local core = require "nnlua.core"

local nn = {}
for name, value in pairs(core) do nn[name] = value end
core.tensor_metatable.__tostring = function(t) return require("nnlua.print").tostring(t) end

-- Files whose table is the value: nn.optim, nn.data.
local files = {}
for _, name in ipairs { "initializers", "regularizers", "constraints", "activations", "losses", "metrics", "optim",
  "schedules", "callbacks", "tensorboard", "options", "data", "datasets", "class", "h5" } do
  files[name] = "nnlua." .. name
end
files.Module, files.Layer = "nnlua.module", "nnlua.layer"

-- Names that are fields of a file's table: nn.Dense.
local fields = {
  ["nnlua.module"] = { "parameter", "buffer" },
  ["nnlua.models"] = { "Sequential", "register_layer" },
  ["nnlua.layers.core"] = { "Input", "Dense", "Linear", "Flatten", "Reshape", "Rescaling", "Dropout" },
  ["nnlua.layers.activation"] = { "Activation", "ReLU", "LeakyReLU", "Softmax" },
  ["nnlua.layers.conv"] = { "Conv2D", "MaxPooling2D" },
  ["nnlua.layers.norm"] = { "BatchNorm", "BatchNormalization", "LayerNorm", "LayerNormalization" },
  ["nnlua.layers.shapes"] = { "Permute", "RepeatVector", "ZeroPadding2D", "Cropping2D", "UpSampling2D" },
  ["nnlua.layers.pooling"] = { "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D" },
  ["nnlua.layers.noise"] = { "GaussianNoise", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D" },
  ["nnlua.layers.merge"] = { "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate" },
  ["nnlua.optim.clip"] = { "clip_grad_norm" },
  ["nnlua.checkpoint"] = { "load" },
  ["nnlua.graph"] = { "graph", "profile", "debug" },
  ["nnlua.autograd"] = { "value_and_grad", "custom", "hook", "jvp", "hvp", "gradcheck" },
}
local owner = {}
for file, names in pairs(fields) do
  for _, name in ipairs(names) do owner[name] = file end
end

-- The value of a name that is not loaded yet, nil when there is none.
local function find(name)
  if files[name] then return require(files[name]) end
  if owner[name] then return require(owner[name])[name] end
end

local mt = {}

-- A name that does not exist is an error, not nil: a misspelt layer is found where it is written. Ask with rawget(nn, name) where nil is wanted.
function mt.__index(t, name)
  local value = find(name)
  if value ~= nil then
    rawset(t, name, value)
    return value
  end
  local options = require "nnlua.options"
  local names = {}
  for _, list in ipairs { t, files, owner } do
    for key in next, list do names[#names + 1] = key end
  end
  table.sort(names)
  local near = type(name) == "string" and options.nearest(name, names)
  options.raise(("nn has no %s%s"):format(options.shown(name), near and ('; did you mean "' .. near .. '"?') or ""))
end

function mt.__pairs(t)
  for _, list in ipairs { files, owner } do
    for name in next, list do
      if rawget(t, name) == nil then
        local ok, value = pcall(find, name)
        if ok then rawset(t, name, value) end
      end
    end
  end
  return next, t, nil
end

--- Choose where to compute. Returns the device's name, or nil and a message when there is no such device here.
---@param name? string "cpu", or "auto" for the best there is
---@return string?, string?
nn.device = rawget(core, "device") or function(name)
  if name == nil or name == "auto" or name == "cpu" then return "cpu" end
  return nil, ("there is no device %s here (devices: cpu)"):format(require("nnlua.options").shown(name))
end

return setmetatable(nn, mt)
