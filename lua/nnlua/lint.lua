--- What is likely wrong with a model before it is trained: `model:lint()`.
--
-- Owns: the rules. Each finding says which layer, why it matters, what to do, and the page to read. A finding is advice: nothing is changed.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{4}, nn.Dense{8, activation = "sigmoid"}, nn.Dense{2} }
--     local found = model:lint()
--     print(#found, found[1].layer, found[1].rule)   --> 1  dense  saturating

local Module = require "nnlua.module"
local activations = require "nnlua.activations"

local PAGE = "docs/models.md#"

---@class nnlua.Finding
---@field rule string    saturating, linear, norm_after_activation, zero_kernel, constant_kernel, softmax_twice, logits
---@field layer string   its path in the model
---@field reason string
---@field remedy string
---@field page string

local Report = {}
Report.__index = Report

function Report:__tostring()
  if #self == 0 then return "lint: nothing to remark" end
  local lines = {}
  for i, f in ipairs(self) do lines[i] = ("%s: %s; %s (%s)"):format(f.layer, f.reason, f.remedy, f.page) end
  return table.concat(lines, "\n")
end

-- ---- kinds of layers -------------------------------------------------------------------------------------------------

local function set(...)
  local names = {}
  for _, name in ipairs { ... } do names[name] = true end
  return names
end

local function class_of(layer) return getmetatable(layer).__name end
local function is_weighted(layer)
  local name = class_of(layer)
  return name == "Dense" or name == "EinsumDense" or name:find "Conv%dD" ~= nil
end
local function is_norm(layer) return set("BatchNorm", "GroupNorm", "InstanceNorm")[class_of(layer)] end

-- What leaves values as they are, or depends on them linearly.
local linear = set("Input", "Identity", "Flatten", "Reshape", "Permute", "RepeatVector", "Rescaling", "BatchNorm", "Dropout", "SpatialDropout1D",
  "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D",
  "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D", "UpSampling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
  "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
local noise = set("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "Identity")

-- The activation that a layer ends with: "relu", "softmax"; nil when it has none.
local function activation_of(layer)
  local class = class_of(layer)
  if class == "Softmax" then return "softmax" end
  if class == "ReLU" or class == "LeakyReLU" or class == "PReLU" or class == "ELU" then return class:lower() end
  if class == "Operation" then return rawget(activations, layer.op) and layer.op or nil end
  if not is_weighted(layer) and class ~= "Activation" then return nil end
  local _, name = activations.get(layer.activation)
  return name ~= "linear" and name or nil
end

-- ---- the flow of values ----------------------------------------------------------------------------------------------

-- Calls as { layer, path, from = calls, to = calls }, models inside models in their places; and the calls of the outputs, in order.
local function flow_of(model, prefix, given, list)
  local calls = model.call_list and model:call_list()
  if not calls then -- shapes are not known yet: the layers of a Sequential follow each other, those of a module of the user's may do anything
    calls = {}
    for i, child in ipairs(model:children()) do
      calls[i] = { layer = child[2], call = 1, from = model.add and i > 1 and { { layer = model[i - 1], call = 1, place = 1 } } or {} }
    end
  end
  local made, results = {}, {}
  for i, call in ipairs(calls) do
    local layer, from = call.layer, {}
    for k, at in ipairs(call.from) do from[k] = made[at.layer][at.call][at.place] or made[at.layer][at.call][1] end
    if #from == 0 and given then -- what comes in from outside
      local which = 1
      for k, symbol in ipairs(rawget(model, "entries") and model.inputs or {}) do
        if model.entries[symbol].layer == layer then which = k end
      end
      from = { given[which] }
    end
    local path = prefix .. (rawget(layer, "name") or class_of(layer))
    made[layer] = made[layer] or {}
    if layer.call_list then
      made[layer][call.call] = flow_of(layer, path .. ".", from, list)
    else
      local entry = { layer = layer, path = path, from = from, to = {}, again = call.call > 1, node = call.node }
      for _, source in ipairs(from) do table.insert(source.to, entry) end
      list[#list + 1] = entry
      made[layer][call.call] = { entry }
    end
    results[1] = i == #calls and made[layer][call.call][1] or nil
  end
  if model.reference then
    for k, symbol in ipairs(model.outputs) do
      local at = model:reference(symbol)
      results[k] = made[at.layer][at.call][at.place] or made[at.layer][at.call][1]
    end
  end
  return results
end

-- The call before, beyond layers of `passed`; nil where several flow together or there is none.
local function before(entry, passed)
  local at = entry.from[1]
  while at and #entry.from == 1 do
    if not passed[class_of(at.layer)] then return at end
    if #at.from ~= 1 then return nil end
    at = at.from[1]
  end
end

local function reaches_weights(entry, seen)
  for _, next_entry in ipairs(entry.to) do
    if not seen[next_entry] then
      seen[next_entry] = true
      if is_weighted(next_entry.layer) or reaches_weights(next_entry, seen) then return true end
    end
  end
  return false
end

-- ---- rules -----------------------------------------------------------------------------------------------------------

local rules = {}

local saturating = { sigmoid = "its slope is at most 0.25", hard_sigmoid = "it is flat on both sides", tanh = "its slope goes to 0 on both sides",
  hard_tanh = "it is flat on both sides", softsign = "its slope goes to 0 on both sides" }

function rules.saturating(entry, found)
  local name = activation_of(entry.layer)
  if not saturating[name] or not reaches_weights(entry, {}) then return end
  for _, to in ipairs(entry.to) do
    if class_of(to.layer) == "Multiply" then return end -- a gate
  end
  found("saturating", entry.path, ("%s in a hidden layer: %s, so gradients vanish on their way to the layers before"):format(name,
    saturating[name]),
    "use relu, leaky_relu or gelu here, and " .. name .. " at the output only", "saturating-activations")
end

local function units(layer) return layer.units or layer.filters end

-- Dense after Dense is one Dense, unless the first has fewer units than what is around it: then it limits the rank, as the code of an autoencoder.
function rules.linear(entry, found)
  if not is_weighted(entry.layer) or class_of(entry.layer):find "Depthwise" then return end
  local source = before(entry, linear)
  if not source or not is_weighted(source.layer) or activation_of(source.layer) or class_of(source.layer):find "Depthwise" then return end
  local size, shape = units(source.layer), rawget(source.layer, "input_size")
  if size and units(entry.layer) and size < units(entry.layer) and shape and size < shape[#shape] then return end
  found("linear", entry.path, ("no non-linearity between %s and %s: two linear layers compute what one can"):format(source.path, entry.path),
    ('give %s an activation = "relu", or leave one out'):format(source.path), "no-non-linearity-between-layers")
end

function rules.norm_after_activation(entry, found)
  if not is_norm(entry.layer) then return end
  local source = before(entry, noise)
  local name = source and activation_of(source.layer)
  if not name then return end
  found("norm_after_activation", entry.path, ("%s comes after the activation %s of %s: what was made non-linear is centred again, and negative "
    .. "inputs of the activation are lost to its averages"):format(class_of(entry.layer), name, source.path),
    ("put it between %s and its activation: Dense{n}, BatchNorm{}, Activation{%q}"):format(source.path, name), "normalisation-after-the-activation")
end

function rules.softmax_twice(entry, found)
  if activation_of(entry.layer) ~= "softmax" then return end
  local source = class_of(entry.layer) ~= "Dense" and before(entry, linear)
  if not source or activation_of(source.layer) ~= "softmax" then return end
  found("softmax_twice", entry.path, ("softmax of the softmax of %s: probabilities come out almost equal, and learning stalls"):format(source.path),
    "keep one of them", "softmax-on-softmax")
end

-- Kernels whose values are all equal, of every module below.
local function check_kernels(model, found)
  for _, at in ipairs(model:modules()) do
    local layer = at[2]
    for _, key in ipairs { "kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel" } do
      local kernel, initializer, value = rawget(layer, key), rawget(layer, key .. "_initializer"), nil
      if kernel and kernel:numel() > 1 then
        local low, high = kernel:amin():item(), kernel:amax():item()
        if low == high then value = low end
      elseif not kernel and type(initializer) == "table" and initializer.config then
        local config = initializer:config()
        local values = { Zeros = 0, Ones = 1, Constant = config.config and config.config.value }
        value = values[config.class_name]
      end
      if value then
        local zero = value == 0
        found(zero and "zero_kernel" or "constant_kernel", at[1] == "" and class_of(layer) or at[1],
          ("all values of the %s are %s: %s"):format(key, zero and "0" or ("%g"):format(value), zero
            and "no gradient passes to the layers before, and all units learn the same" or "all units get the same gradient and stay equal"),
          "begin with random values that fit the fan-in: he_normal for relu, glorot_uniform else", "zero-initial-kernels")
      end
    end
  end
end

local of_probabilities = { softmax = true, sigmoid = true }
local names_of = { sparse_categorical_crossentropy = "softmax", categorical_crossentropy = "softmax", binary_crossentropy = "sigmoid",
  bce = "sigmoid", categorical_focal_crossentropy = "softmax", binary_focal_crossentropy = "sigmoid" }

-- Do the loss and what the output gives speak of the same: probabilities, or scores?
local function check_losses(model, results, found)
  local compiled = rawget(model, "compiled")
  for i, output in ipairs(compiled and compiled.outputs or {}) do
    local entry, loss, logits = results[i], output.loss_name, output.from_logits
    if type(loss) == "table" then
      if loss.options and loss.options.from_logits ~= nil then logits = loss.options.from_logits end
      loss = loss.name
    end
    if loss == "cross_entropy" then logits = true end
    local wanted = loss == "cross_entropy" and "softmax" or names_of[loss]
    if entry and wanted then
      if linear[class_of(entry.layer)] and class_of(entry.layer) ~= "Input" then entry = before(entry, linear) or entry end
      local name = activation_of(entry.layer)
      if logits and of_probabilities[name] then
        found("logits", entry.path, ("the loss %s takes scores (from_logits), but the output ends with %s: it is applied twice"):format(loss, name),
          loss == "cross_entropy" and ("leave out the %s"):format(name) or ("leave out the %s, or from_logits = true"):format(name),
          "logits-and-losses")
      elseif not logits and not of_probabilities[name] and (name or is_weighted(entry.layer)) then
        found("logits", entry.path, ("the loss %s takes probabilities, but the output ends with %s: scores outside 0..1 are cut off and give no "
          .. "gradient"):format(loss, name or "no activation"), ("compile with from_logits = true, or end with %s"):format(wanted),
          "logits-and-losses")
      elseif not logits and name == "sigmoid" and wanted == "softmax" then
        found("logits", entry.path, ("the loss %s is about one class of several, but the output ends with sigmoid, whose values do not add up "
          .. "to 1"):format(loss), "end with softmax, or use binary_crossentropy where several classes can be true", "logits-and-losses")
      end
    end
  end
end

--- Look for what commonly goes wrong: saturating activations in hidden layers, linear layers one after the other, normalisation after the
--- activation, kernels that begin as zeros, softmax on softmax, a loss that expects the other of scores and probabilities (once compiled).
--- Gives a list of findings { rule, layer, reason, remedy, page }, which prints as text: `print(model:lint())`.
---@return nnlua.Finding[]
function Module:lint()
  local report, list = setmetatable({}, Report), {}
  local function found(rule, layer, reason, remedy, page)
    report[#report + 1] = { rule = rule, layer = layer, reason = reason, remedy = remedy, page = PAGE .. page }
  end
  local results = flow_of(self, "", nil, list)
  for _, entry in ipairs(list) do
    if not entry.again then
      for _, rule in ipairs { "saturating", "linear", "norm_after_activation", "softmax_twice" } do rules[rule](entry, found) end
    end
  end
  check_kernels(self, found)
  check_losses(self, results, found)
  return report
end

return true
