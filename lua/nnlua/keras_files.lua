--- Keras's model files: `.h5` (whole models and weights, layout of Keras 2), `.weights.h5` and `.keras` (Keras 3), read and written without Python.
--
-- Owns: where the weights of a model lie in each layout, and the containers. What the descriptions say is keras_read.lua's (reading) and
-- keras.lua's (writing). Files come from anywhere: HDF5 is read by the helper process (io/h5_foreign.h), layers are found by name among ours, and a
-- file that does not fit changes nothing.
--
-- Layouts: in `.h5` weights are lists by layer (attributes layer_names and weight_names). In Keras 3 they follow the tree of objects:
-- layers/<class in snake case>[_<k>]/<attribute>/vars/<i>, k counting the layers of a class within their container.

local core = require "nnlua.core"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local h5 = require "nnlua.h5"
local zip = require "nnlua.zip"
local keras = require "nnlua.keras"
local keras_read = require "nnlua.keras_read"
local initializers = require "nnlua.initializers"

local keras_files = {}

local function shape_of(tensor) return Module.shape_text(tensor:shape()) end
local function class_of(module)
  local c = getmetatable(module)
  return c.keras or c.__name
end

-- ---- where weights lie ---------------------------------------------------------------------------------------------------------

-- "Conv2DTranspose" -> "conv2d_transpose"
local function snake(name)
  return (name:gsub("[^%w_]", ""):gsub("(.)(%u%l+)", "%1_%2"):gsub("(%l)(%u)", "%1_%2"):lower())
end

-- Our names of parts -> Keras's attributes.
local heads = { query = "query_dense", key = "key_dense", value = "value_dense", attention_output = "output_dense" }
local private_heads = { query = "_query_dense", key = "_key_dense", value = "_value_dense", attention_output = "_output_dense" }
local attributes = { MultiHeadAttention = heads, GroupQueryAttention = private_heads, GroupedQueryAttention = private_heads }

local containers = { StackedRNNCells = "cells", Sequential = true, Functional = true, Model = true } -- or the attribute with their parts

-- Calls visit(path, module, weights) for the model and every part of it: path in the layout of Keras 3, weights that are its own.
local function walk(module, path, visit)
  local own, class_name = {}, class_of(module)
  for _, w in ipairs(module:weights()) do
    if not w.name:find(".", 1, true) then own[#own + 1] = w end
  end
  visit(path, module, own)
  local counts, names = {}, attributes[class_name] or {}
  for _, child in ipairs(module:children()) do
    local name, part = child[1], child[2]
    if containers[class_name] then
      local base = snake(class_of(part))
      local k = counts[base]
      counts[base] = (k or 0) + 1
      local list = containers[class_name] == true and "layers" or containers[class_name]
      walk(part, ("%s/%s/%s%s"):format(path, list, base, k and "_" .. k or ""), visit)
    else
      walk(part, path .. "/" .. (names[name] or name), visit)
    end
  end
end

-- ---- weights from files ----------------------------------------------------------------------------------------------------------

-- The texts of a list attribute that may be split into name0, name1, ... because it was too long for one.
local function text_list(attrs, name)
  if type(attrs[name]) == "table" then return attrs[name] end
  local all, i = {}, 0
  while type(attrs[name .. i]) == "table" do
    table.move(attrs[name .. i], 1, #attrs[name .. i], #all + 1, all)
    i = i + 1
  end
  return i > 0 and all or nil
end

local function tensors_of(tree, group, names)
  local list = {}
  for i, name in ipairs(names) do
    list[i] = tree.datasets[group .. "/" .. name] or options.raise(("%s: the weight %s is not there"):format(group, name))
  end
  return list
end

-- Layout of Keras 2: { name =, tensors = } for each layer with weights.
local function legacy_groups(tree)
  local root = tree.attrs["/model_weights"] and "/model_weights" or ""
  local names = text_list(tree.attrs[root == "" and "/" or root] or {}, "layer_names")
  if not names then return nil end
  local groups = {}
  for _, name in ipairs(names) do
    local group = root .. "/" .. name
    local weights = text_list(tree.attrs[group] or {}, "weight_names") or {}
    if #weights > 0 then groups[#groups + 1] = { name = name, tensors = tensors_of(tree, group, weights) } end
  end
  return groups
end

-- The layers of a model that have weights, each with the list of them, parameters first.
local function layer_groups(model)
  local groups = {}
  for _, child in ipairs(model:children()) do
    local weights = child[2]:weights()
    if #weights > 0 then groups[#groups + 1] = { name = child[1], weights = weights } end
  end
  return groups
end

-- The groups in the order of the model's layers, where the file and the model have layers of just the same names; else as they are: Keras goes by the
-- order, which is the same for its own models, but says nothing of two layers of one shape that changed places.
local function by_name(groups, mine)
  local named, sorted = {}, {}
  for _, group in ipairs(groups) do named[group.name] = group end
  for i, here in ipairs(mine) do
    sorted[i] = named[here.name]
    if not sorted[i] then return groups end
  end
  return sorted
end

-- Pairs { weight of the model, tensor of the file, name for messages }.
local function match_legacy(groups, model)
  local mine, pairs_found = layer_groups(model), {}
  if #mine ~= #groups then
    options.raise(("its weights are of %d layers, the model has %d with weights"):format(#groups, #mine))
  end
  groups = by_name(groups, mine)
  for i, group in ipairs(groups) do
    local here = mine[i]
    if #group.tensors ~= #here.weights then
      options.raise(("%s has %d weights in the file, %s has %d here"):format(group.name, #group.tensors, here.name, #here.weights))
    end
    for k, w in ipairs(here.weights) do
      pairs_found[#pairs_found + 1] = { w, group.tensors[k], ("%s, weight %d of %s"):format(group.name, k, here.name .. "." .. w.name) }
    end
  end
  return pairs_found
end

local function match_tree(tree, model)
  local found, used = {}, {}
  walk(model, "", function(path, _, own)
    for i, w in ipairs(own) do
      local place = ("%s/vars/%d"):format(path, i - 1)
      local tensor = tree.datasets[place]
      if not tensor then options.raise(("has no %s, where Keras keeps the weight %s of this model"):format(place, w.name)) end
      found[#found + 1], used[place] = { w, tensor, place }, true
    end
    if own[1] and tree.datasets[("%s/vars/%d"):format(path, #own)] then
      options.raise(("%s holds more than the %d weights of this model's layer"):format(path, #own))
    end
  end)
  for place in pairs(tree.datasets) do -- a layer of the file that this model lacks
    if not used[place] and place:find "/vars/%d+$" and not place:find "^/optimizer/" and not place:find "/seed_generator/" then
      options.raise(("holds %s, which this model has no weight for"):format(place))
    end
  end
  return found
end

-- Check, then bind: the weights of a model to the tensors of a file. Raises before anything has changed.
local function bind(tree, model)
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("%s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
  local groups = legacy_groups(tree)
  local found = groups and match_legacy(groups, model) or match_tree(tree, model)
  for _, entry in ipairs(found) do
    local w, tensor, name = entry[1], entry[2], entry[3]
    if shape_of(w.tensor) ~= shape_of(tensor) then
      options.raise(("%s is %s in the file, %s here"):format(name, shape_of(tensor), shape_of(w.tensor)))
    end
    if tensor:dtype() ~= w.tensor:dtype() then entry[2] = tensor:to(w.tensor:dtype()) end
  end
  for _, entry in ipairs(found) do entry[1].tensor:assign(entry[2]) end
end

-- ---- the optimizer's state ----------------------------------------------------------------------------------------------------------

-- Its tensors in Keras's order, and the number of updates; nil when the file has none.
local function optimizer_tensors(tree)
  local group = tree.attrs["/optimizer_weights"] and "/optimizer_weights"
  local list, steps = {}, nil
  if group then
    local names = text_list(tree.attrs[group], "weight_names") or {}
    for i, tensor in ipairs(tensors_of(tree, group, names)) do
      local last = names[i]:match "[^/]+$":gsub(":0$", "")
      if last == "iteration" or last == "iter" or last == "iterations" then steps = tensor:item()
      elseif last ~= "learning_rate" then list[#list + 1] = tensor end
    end
    return list, steps
  end
  local i = 0
  while tree.datasets["/optimizer/vars/" .. i] do
    local tensor = tree.datasets["/optimizer/vars/" .. i]
    if i == 0 then steps = tensor:item()
    elseif not (i == 1 and tensor:dim() == 0) then list[#list + 1] = tensor end
    i = i + 1
  end
  return i > 0 and list or nil, steps
end

-- Where it does not fit Keras goes on with a fresh optimizer, and so do we.
local function bind_optimizer(tree, model, file)
  local list, steps = optimizer_tensors(tree)
  local optimizer = model.compiled.optimizer
  if not list or not steps then return end
  if #list > 0 and not optimizer.parameters then optimizer:bind(model:parameters()) end
  local state = optimizer:state()
  local fits = #list == #state.slots or #list == 0
  for i, slot in ipairs(fits and #list > 0 and state.slots or {}) do
    fits = fits and shape_of(slot.tensor) == shape_of(list[i])
    slot.tensor = list[i]
  end
  if fits then fits = pcall(optimizer.set_state, optimizer, { iterations = math.tointeger(steps) or 0, slots = #list > 0 and state.slots or {} }) end
  if not fits then warn(("nnlua: %s: the state of its optimizer does not fit %s here; it starts afresh"):format(file, class_of(optimizer))) end
end

-- ---- reading ------------------------------------------------------------------------------------------------------------------------

-- The bytes at the start of a file; nil when it can't be read.
local function head_of(file)
  local f = io.open(file, "rb")
  local head = f and f:read(4)
  if f then f:close() end
  return head
end

local function decode(text, file, what)
  local value, why = core.json_decode(text or "")
  if type(value) ~= "table" then options.raise(("%s: bad JSON in %s: %s"):format(file, what, why or "no object")) end
  return value
end

-- { tree =, config =, training = } of a file of Keras's; or nil and a message.
local function open_file(file)
  if head_of(file) ~= "PK\3\4" then
    local tree, message = (h5.is_sealed(file) and core.h5_read or core.h5_foreign)(file)
    if not tree then return nil, message end
    local root = tree.attrs["/"] or {}
    return { tree = tree, config = root.model_config, training = root.training_config }
  end
  local members, message = zip.open(file)
  if not members then return nil, message end
  local config, weights
  config, message = members.read "config.json"
  if config then weights, message = members.read "model.weights.h5" end
  members.close()
  if not weights then return nil, message end
  local tree
  tree, message = core.h5_foreign(file, weights)
  if not tree then return nil, message end
  return { tree = tree, config = config, zipped = true }
end

-- The message of a raised error, without the place in the library, behind the file's name.
local function failed(file, message)
  local text = tostring(message):gsub("^[^\n]-:%d+: ", "")
  if text:sub(1, #file) == file then return nil, text end
  return nil, ("%s: %s"):format(file, text)
end

local function build(described)
  local c = require("nnlua.models").layer_class(described.class_name)
  return c.from_config(c, described.config)
end

local function read_model(file, found)
  local described = decode(found.config, file, "the model's description")
  local model = initializers.blank(build, keras_read.model(described))
  bind(found.tree, model)
  local training = found.training and decode(found.training, file, "training_config") or described.compile_config
  local compiled = training and keras_read.compiled(training)
  if compiled then
    local ok, why = pcall(model.compile, model, compiled)
    if ok then bind_optimizer(found.tree, model, file)
    else warn(("nnlua: %s: loaded without its optimizer and loss: %s"):format(file, (tostring(why):gsub("^[^\n]-:%d+: ", "")))) end
  end
  return model
end

--- Is this a file in one of Keras's layouts, and no checkpoint of ours? By its first bytes, its end, and for weights alone its name.
---@param file string
function keras_files.is_foreign(file)
  local head = head_of(file)
  return head == "PK\3\4" or head == "\137HDF" and (not h5.is_sealed(file) or file:find "%.weights%.h5$" ~= nil)
end

--- The model of a `.keras` or whole-model `.h5` file, with its weights; compiled where we have its optimizer and loss. Or nil and a message.
---@param file string
---@return nnlua.Module?, string?
function keras_files.load(file)
  local found, message = open_file(file)
  if not found then return nil, message end
  if not found.config then
    return nil, ("%s: holds weights, but not how to make their model; make it and call model:load_weights(file)"):format(file)
  end
  local rng = core.rng_state()
  local ok, model = pcall(read_model, file, found)
  core.set_rng_state(rng) -- initial values were drawn for nothing
  if not ok then return failed(file, model) end
  return model
end

--- Bind a model's weights to those of a file of Keras's, layer by layer in their order. True, or nil and a message; then nothing has changed.
---@param model nnlua.Module
---@param file string
function keras_files.load_weights(model, file)
  local found, message = open_file(file)
  if not found then return nil, message end
  local ok, why = pcall(bind, found.tree, model)
  if not ok then return failed(file, why) end
  return true
end

-- ---- writing ---------------------------------------------------------------------------------------------------------------------------

-- What core.h5_write and h5_image take, in the layout of Keras 3.
local function tree_of(model, optimizer)
  local tree = { datasets = {}, attrs = {} }
  walk(model, "", function(path, module, own)
    tree.attrs[#tree.attrs + 1] = { path = path .. "/vars", name = "name", value = rawget(module, "name") or snake(class_of(module)) }
    for i, w in ipairs(own) do tree.datasets[#tree.datasets + 1] = { path = ("%s/vars/%d"):format(path, i - 1), tensor = w.tensor } end
  end)
  if optimizer then
    local state = optimizer:state()
    local function put(tensor) tree.datasets[#tree.datasets + 1] = { path = "/optimizer/vars/" .. #tree.optimizer, tensor = tensor }
      tree.optimizer[#tree.optimizer + 1] = true
    end
    tree.optimizer = {}
    put(core.tensor(state.iterations, { dtype = "i64" }))
    if not optimizer.schedule then put(core.tensor(optimizer.lr, { dtype = "f32" })) end
    for _, slot in ipairs(state.slots) do
      if slot.name ~= "loss_scale" then put(slot.tensor) end
    end
    tree.optimizer = nil
  end
  return tree
end

--- Write the weights in the layout of Keras 3 (`.weights.h5`): true, or nil and a message.
---@param model nnlua.Module
---@param file string
function keras_files.save_weights(model, file)
  if type(file) ~= "string" or not file:find "%.weights%.h5$" then
    options.raise(("save_weights: needs a file name that ends in .weights.h5 (Keras asks for it too), got %s"):format(options.shown(file)))
  end
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("save_weights: %s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
  return core.h5_write(file, tree_of(model))
end

--- Write a `.keras` file: true, or nil and a message. Models that Keras has words for: Sequential and Functional, of layers that both have.
---@param model nnlua.Module
---@param file string
function keras_files.save(model, file)
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("save: %s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
  local described = keras.described(model)
  if not described then
    options.raise(("save: %s: Keras has no words for this model; Sequential and Functional models of its layers are written"):format(file))
  end
  local image, message = core.h5_image(tree_of(model, model.compiled and model.compiled.optimizer))
  if not image then return nil, message end
  local metadata = core.json_encode { keras_version = "3.0.0", date_saved = os.date "!%Y-%m-%d@%H:%M:%S" }
  return core.file_replace(file, zip.pack { { "metadata.json", metadata }, { "config.json", core.json_encode(described) },
    { "model.weights.h5", image } })
end

return keras_files
