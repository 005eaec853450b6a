--- PyTorch's weights: `model:load_weights("x.safetensors", {names = ...})` and `model:save_weights("x.safetensors", {...})`.
--
-- Owns: how a layer's weights are named and laid out there. Dense (out, in); convolutions (out, in / groups, k...), transposed ones (in, out,
-- k...); batch normalization weight, bias, running_mean, running_var; LSTM, GRU and RNN weight_ih_l0, weight_hh_l0 and two biases, the GRU's gates
-- in another order; a Dense behind a Flatten of images counts its inputs channels first. A file that does not fit changes nothing; a weight that
-- nobody takes is an error.
--
-- Options: names = { [our layer] = "their module" } or a function of our layer's name (default: the same names; for files of an nn.Sequential, "0",
-- "2", ...: in their order); flatten = { [our layer] = {H, W, C} } says which layers follow a Flatten (found out for nn.Sequential; elsewhere to be
-- given, {}: none).

local core = require "nnlua.core"
local options = require "nnlua.options"
local foreign = require "nnlua.foreign"
local safetensors = require "nnlua.safetensors"
local Module = require "nnlua.module"

local torch_weights = {}

-- ---- layouts ---------------------------------------------------------------------------------------------------------------

-- A rule turns a layer into entries { ours = weight, theirs = { names behind the module's }, from = f(theirs...) -> ours, to = f(ours) -> theirs...
-- }.
local rules = {}

local function same(t) return t end
local function plain(ours, theirs, from, to) return { ours = ours, theirs = { theirs }, from = from or same, to = to or from or same } end
local function turned(t) return t:transpose(1, 2) end

function rules.Dense(layer) return { plain(layer.kernel, "weight", turned), plain(layer.bias, "bias") } end

-- (O, I, k...) <-> (k..., I, O); for transposed convolutions the same with (I, O, k...) and (k..., O, I).
local function to_last(t)
  local order = {}
  for d = 3, t:dim() do order[#order + 1] = d end
  order[#order + 1], order[#order + 2] = 2, 1
  return t:permute(order)
end
local function to_first(t)
  local n = t:dim()
  local order = { n, n - 1 }
  for d = 1, n - 2 do order[#order + 1] = d end
  return t:permute(order)
end
local function conv(layer) return { plain(layer.kernel, "weight", to_last, to_first), plain(layer.bias, "bias") } end
for rank = 1, 3 do
  rules[("Conv%dD"):format(rank)], rules[("Conv%dDTranspose"):format(rank)] = conv, conv
end

-- (I * M, 1, k...) <-> (k..., I, M)
local function depthwise(layer)
  local shape = layer.kernel:shape()
  local n = #shape
  local inputs, many = shape[n - 1], shape[n]
  local apart, back = {}, { n - 1, n }
  for d = 3, n do apart[#apart + 1] = d end
  apart[#apart + 1], apart[#apart + 2] = 1, 2
  for d = 1, n - 2 do back[#back + 1] = d end
  local function from(t)
    if t:dim() ~= n or t:size(1) ~= inputs * many or t:size(2) ~= 1 then return t end -- the shapes are compared later
    return t:reshape { inputs, many, table.unpack(t:shape(), 3) }:permute(apart)
  end
  local function to(t)
    return t:permute(back):reshape { inputs * many, 1, table.unpack(shape, 1, n - 2) }
  end
  return { plain(layer.kernel, "weight", from, to), plain(layer.bias, "bias") }
end
rules.DepthwiseConv1D, rules.DepthwiseConv2D = depthwise, depthwise

local function norm(layer)
  return { plain(layer.gamma, "weight"), plain(layer.beta, "bias") }
end
rules.LayerNorm, rules.GroupNorm, rules.InstanceNorm = norm, norm, norm
function rules.BatchNorm(layer)
  return { plain(layer.gamma, "weight"), plain(layer.beta, "bias"), plain(layer.moving_mean, "running_mean"),
    plain(layer.moving_variance, "running_var") }
end
function rules.Embedding(layer) return { plain(layer.embeddings, "weight") } end
function rules.PReLU(layer) return { plain(layer.alpha, "weight") } end

-- Gates in columns (or of a vector) in another order.
local function reordered(t, order)
  local d, parts = t:dim(), {}
  local size = t:size(d) // #order
  for i, k in ipairs(order) do parts[i] = t:narrow(d, (k - 1) * size + 1, size) end
  return core.cat(parts, d)
end

-- order: which of their gates stands at each place of ours, nil for the same.
local function cell_rule(cell, order, suffix)
  local function ours(t) return order and t:size(t:dim()) % #order == 0 and reordered(t, order) or t end
  local matrix = { function(t) return ours(t:transpose(1, 2)) end, function(t) return ours(t):transpose(1, 2) end }
  local list = { plain(cell.kernel, "weight_ih_l0" .. suffix, matrix[1], matrix[2]),
    plain(cell.recurrent_kernel, "weight_hh_l0" .. suffix, matrix[1], matrix[2]) }
  local bias = cell.bias
  if not bias then return list end
  local entry = { ours = bias, theirs = { "bias_ih_l0" .. suffix, "bias_hh_l0" .. suffix } }
  if bias:dim() == 2 then -- GRU: one for the input, one for the state
    function entry.from(a, b) return ours(core.stack { a, b }) end
    function entry.to(t)
      local there = ours(t)
      return there:narrow(1, 1, 1):reshape { -1 }, there:narrow(1, 2, 1):reshape { -1 }
    end
  else
    function entry.from(a, b) return ours(a + b) end
    function entry.to(t) return ours(t), core.zeros_like(t) end
  end
  list[3] = entry
  return list
end

local orders = { LSTM = false, SimpleRNN = false, GRU = { 2, 1, 3 } } -- r z n there; z r h here
local function recurrent(layer, path, suffix)
  local kind = getmetatable(layer).__name
  if orders[kind] == nil then options.raise(("%s is a %s, which PyTorch's weights have no layout for here"):format(path, kind)) end
  if kind == "GRU" and layer.cell.bias and layer.cell.bias:dim() == 1 then
    options.raise(("%s: PyTorch's GRU is nn.GRU{reset_after = true}; this one has reset_after = false"):format(path))
  end
  return cell_rule(layer.cell, orders[kind] or nil, suffix)
end
for kind in pairs(orders) do rules[kind] = function(layer, path) return recurrent(layer, path, "") end end
function rules.Bidirectional(layer, path)
  local list = recurrent(layer.forward_layer, path, "")
  for _, entry in ipairs(recurrent(layer.backward_layer, path, "_reverse")) do list[#list + 1] = entry end
  return list
end

-- ---- layers behind a Flatten ----------------------------------------------------------------------------------------------

-- The last dim of t counts (C, H, W) and shall count (H, W, C), or back.
local function flattened(t, shape, back)
  local n, last = #shape, t:dim()
  local head = table.move(t:shape(), 1, last - 1, 1, {})
  local k, size = #head, 1
  for _, s in ipairs(shape) do size = size * s end
  if t:size(last) ~= size then return t end
  local wide, order = { table.unpack(head) }, {}
  for d = 1, k do order[d] = d end
  if back then
    table.move(shape, 1, n, k + 1, wide)
    order[k + 1] = k + n
    for d = 1, n - 1 do order[k + 1 + d] = k + d end
  else
    wide[k + 1] = shape[n]
    table.move(shape, 1, n - 1, k + 2, wide)
    for d = 1, n - 1 do order[k + d] = k + 1 + d end
    order[k + n] = k + 1
  end
  head[k + 1] = size
  return t:reshape(wide):permute(order):reshape(head)
end

local function behind_flatten(entries, shape, kind)
  for _, entry in ipairs(entries) do
    local from, to = entry.from, entry.to
    if kind ~= "Dense" or entry.theirs[1] == "weight" then -- a Dense's bias counts its results
      function entry.from(t) return from(flattened(t, shape)) end
      function entry.to(t) return flattened(to(t), shape, true) end
    end
  end
end

-- Which layers of a Sequential follow a Flatten of channels-last samples: shape by path.
local function find_flattens(model, prefix, found)
  local shape, pending, channels = rawget(model, "input_size"), nil, false
  for _, child in ipairs(model:children()) do
    local path, layer = prefix .. child[1], child[2]
    local kind = getmetatable(layer).__name
    if kind == "Flatten" and shape and (#shape > 2 or #shape == 2 and channels) then pending = shape end
    if kind:find "^Conv1D" then channels = true elseif orders[kind] ~= nil or kind == "Bidirectional" then channels = false end
    if pending and rules[kind] and #layer:weights() > 0 then
      found[path] = pending
      if kind == "Dense" then pending = nil end
    end
    shape = shape and layer.output_shape and layer:output_shape(shape)
  end
  return found
end

local function has_flatten(module)
  if getmetatable(module).__name == "Flatten" then return true end
  for _, child in ipairs(module:children()) do
    if has_flatten(child[2]) then return true end
  end
  return false
end

-- ---- a model as a list of units -----------------------------------------------------------------------------------------------

-- Units { path, entries }: the parts of a model that a rule describes; a weight that is in none is an error.
local function units_of(model, given)
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("%s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
  local flatten = given.flatten
  if not flatten then
    flatten = getmetatable(model).__name == "Sequential" and find_flattens(model, "", {}) or nil
    if not flatten and has_flatten(model) then
      options.raise "PyTorch's Flatten counts channels first: say which layers follow one, flatten = { [layer] = {H, W, C} }, or {} for none"
    end
  end
  local units, seen = {}, {}
  local function visit(module, path)
    local rule = rules[getmetatable(module).__name]
    if not rule then
      for _, w in ipairs(module:weights()) do
        if not w.name:find(".", 1, true) then
          options.raise(("%s is a %s, which PyTorch's weights have no layout for here"):format(path, getmetatable(module).__name))
        end
      end
      for _, child in ipairs(module:children()) do visit(child[2], path == "" and child[1] or path .. "." .. child[1]) end
    elseif #module:weights() > 0 then
      local entries = {}
      for _, entry in pairs(rule(module, path)) do
        if entry.ours then entries[#entries + 1] = entry end
      end
      if flatten and flatten[path] then behind_flatten(entries, flatten[path], getmetatable(module).__name) end
      seen[path] = true
      units[#units + 1] = { path = path, kind = getmetatable(module).__name, entries = entries }
    end
  end
  visit(model, "")
  for path in pairs(flatten or {}) do
    if not seen[path] then options.raise(("flatten: the model has no layer %s with weights"):format(options.shown(path))) end
  end
  return units
end

-- ---- names -----------------------------------------------------------------------------------------------------------------------

local function joined(prefix, name) return prefix == "" and name or prefix .. "." .. name end

-- The numbers of an nn.Sequential's modules that have weights, in order; nil when the file is not of one.
local function numbered(names)
  local list, seen = {}, {}
  for _, name in ipairs(names) do
    local number = tonumber(name:match "^(%d+)%.[^%.]+$")
    if not number then return nil end
    if not seen[number] then list[#list + 1], seen[number] = number, true end
  end
  table.sort(list)
  return list
end

-- Their module for each unit.
local function prefixes(units, names, given)
  local out, order = {}, given.names == nil and numbered(names) or nil
  if order and #order ~= #units then
    foreign.refuse("its weights are of %d modules, the model has %d layers with weights", #order, #units)
  end
  local unknown = type(given.names) == "table" and {} or nil
  for key in pairs(unknown and given.names or {}) do unknown[key] = true end
  for i, unit in ipairs(units) do
    local theirs
    if order then theirs = tostring(order[i])
    elseif type(given.names) == "function" then theirs = given.names(unit.path)
    elseif given.names then theirs, unknown[unit.path] = given.names[unit.path], nil
    else theirs = unit.path end
    if type(theirs) ~= "string" then options.raise(("names: gives no name for the layer %s"):format(unit.path)) end
    out[i] = theirs
  end
  local left = unknown and next(unknown)
  if left then options.raise(("names: the model has no layer %s with weights"):format(options.shown(left))) end
  return out
end

local spec = { names = { "table|function" }, flatten = { "table" } }
local function checked(what, given) return options.check(what, given or {}, spec) end

-- Pairs { weight, tensor }, checked; nothing is changed.
local function matched(f, units, given)
  local theirs, used, found = prefixes(units, f.names, given), {}, {}
  for i, unit in ipairs(units) do
    for _, entry in ipairs(unit.entries) do
      local parts = {}
      for k, name in ipairs(entry.theirs) do
        local full = joined(theirs[i], name)
        if not f.shapes[full] then foreign.refuse("has no %s, where PyTorch keeps a weight of %s", full, unit.path) end
        local part, message = f:tensor(full)
        if not part then foreign.refuse(message) end
        parts[k], used[full] = part, true
        if Module.shape_text(part:shape()) ~= Module.shape_text(parts[1]:shape()) then
          foreign.refuse("%s is not of %s's shape", full, entry.theirs[1])
        end
      end
      local full = joined(theirs[i], entry.theirs[1])
      local want = { entry.to(entry.ours) }
      if Module.shape_text(parts[1]:shape()) ~= Module.shape_text(want[1]:shape()) then
        foreign.refuse("%s is %s in the file, %s is %s there for this model", full, Module.shape_text(parts[1]:shape()), unit.path,
          Module.shape_text(want[1]:shape()))
      end
      found[#found + 1] = { entry.ours, entry.from(table.unpack(parts)):to(entry.ours:dtype()) }
    end
  end
  for _, name in ipairs(f.names) do
    if not used[name] and not name:find "num_batches_tracked$" then foreign.refuse("holds %s, which this model has no weight for", name) end
  end
  return found
end

--- Bind a model's weights to those of a safetensors file of PyTorch's: true, or nil and a message; then nothing has changed.
---@param model nnlua.Module
---@param file string
---@param given? { names: (table<string, string>|fun(layer: string): string)?, flatten: table<string, integer[]>? }
function torch_weights.load(model, file, given)
  local o = checked("load_weights", given)
  local units = units_of(model, o)
  local f <close>, message = safetensors.open(file)
  if not f then return nil, message end
  local found
  found, message = foreign.guard(file, matched, f, units, o)
  if not found then return nil, message end
  for _, pair in ipairs(found) do pair[1]:assign(pair[2]:contiguous()) end
  return true
end

--- Write a model's weights as a safetensors file with PyTorch's names and layouts: true, or nil and a message.
---@param model nnlua.Module
---@param file string
---@param given? table as for load
function torch_weights.save(model, file, given)
  local o = checked("save_weights", given)
  local units, tensors = units_of(model, o), {}
  local theirs = prefixes(units, {""}, o)
  for i, unit in ipairs(units) do
    for _, entry in ipairs(unit.entries) do
      local parts = { entry.to(entry.ours:detach()) }
      for k, name in ipairs(entry.theirs) do
        local full = joined(theirs[i], name)
        if tensors[full] then options.raise(("save_weights: names: two weights would be called %s"):format(full)) end
        tensors[full] = parts[k]:contiguous()
      end
    end
    if unit.kind == "BatchNorm" then tensors[joined(theirs[i], "num_batches_tracked")] = core.tensor(0, { dtype = "i64" }) end
  end
  return safetensors.save(file, tensors, { format = "pt" })
end

return torch_weights
