--- Checkpoints: `model:save(file)`, `nn.load(file)`, `model:load_weights(file)`, and what `fit{ save =, resume = }` needs.
--
-- Owns: what stands where in a checkpoint. The file is HDF5 in Keras's legacy layout (attributes model_config and training_config, groups
-- /model_weights and /optimizer_weights), so Keras opens it; what only we need is in the attributes of /nnlua:
--
--   format_version, nnlua_version   1; the program that wrote it
--   cpu_level                       the kernels it used: others round differently, so a resumed run is equal to rounding only
--   architecture                    JSON { class_name, config, input_size }; or architecture_missing, the reason why there is none
--   weights                         JSON list of { name, path }: every parameter and buffer, in the model's order
--   optimizer                       JSON { class_name, config, iterations, pending, slots = { { name, slot, path } } }
--   compile                         JSON { loss, from_logits, loss_weights, metrics, weighted_metrics, jit }; of several outputs tables by their
--                                   names (by_name)
--   epoch, batch, step              whole epochs done; steps of an epoch that was interrupted; steps of the optimizer
--   rng_seed, rng_position          where the random stream stood
--   data, data_batch                JSON: state of the data set, and after how many batches of the epoch it was taken
--   history, meters                 JSON: figures per epoch, sums within the epoch
--   callbacks                       JSON: what the callbacks of fit remember, by place; false for those that remember nothing
--   script, arguments, options      the text of the script that ran (up to 256 kB), JSON of its arguments and of the options nn.script made of them
--   script_name                     its path as typed
--   labels                          JSON list: what the class ids stand for (nn.data.LabelEncoder)
--   user                            JSON: what the caller gave to keep
--
-- Saving replaces the file only when the new one is whole and on disk. Loading builds everything, checks it, then binds it: a file that does not fit
-- changes nothing. A file never holds code: layers are found by name among ours and those given to nn.register_layer.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{4}, nn.Dense{3} }
--     local file = os.tmpname()
--     assert(model:save(file))
--     local same = assert(nn.load(file))
--     print(same[2], (same[2].kernel - model[2].kernel):abs():sum():item())   --> Dense(4 -> 3)  0.0
--     os.remove(file)

local core = require "nnlua.core"
local options = require "nnlua.options"
local Module = require "nnlua.module"
local Layer = require "nnlua.layer"

local checkpoint = {}
local FORMAT = 1
local KERAS = { keras_version = "2.15.0", backend = "tensorflow" } -- whose layout this is

-- ---- plain data as JSON ------------------------------------------------------------------------------------------------

-- JSON has no NaN, no infinity and no holes in lists: { number = "nan" } and null stand for them.
local function portable(value)
  if type(value) == "number" and (value ~= value or value == math.huge or value == -math.huge) then
    return { ["$number"] = value ~= value and "nan" or value > 0 and "inf" or "-inf" }
  elseif type(value) ~= "table" then
    return value
  end
  local out, last = setmetatable({}, getmetatable(value) == core.json_array and core.json_array or nil), 0
  for key, item in next, value do
    out[key] = portable(item)
    if math.type(key) == "integer" and key > last then last = key end
  end
  for i = 1, last do
    if out[i] == nil then out[i] = core.json_null end
  end
  return out
end

local numbers = { nan = 0 / 0, inf = math.huge, ["-inf"] = -math.huge }

local function native(value)
  if value == core.json_null then return nil end
  if type(value) ~= "table" then return value end
  if value["$number"] then return numbers[value["$number"]] end
  local out = {}
  for key, item in pairs(value) do out[key] = native(item) end
  return out
end

local function encode(value) return core.json_encode(portable(value)) end

-- ---- saving ------------------------------------------------------------------------------------------------------------

-- What a model is made of, or nil and why a file cannot say it.
local function describe(model)
  local c = getmetatable(model)
  if not model.config then return nil, ("%s has no config()"):format(c.__name) end
  local ok, config = pcall(model.config, model)
  if not ok then return nil, (tostring(config):gsub("^[^\n]-:%d+: ", "")) end
  local architecture = { class_name = c.keras or c.__name, config = config, input_size = rawget(model, "input_size") }
  local good, why = pcall(core.json_encode, portable(architecture))
  if not good then return nil, (tostring(why):gsub("^[^\n]-:%d+: ", "")) end
  return architecture
end

-- The layers of a model, as Keras lists them: { name, weights = { { name, path, tensor } } }; what belongs to no layer is in `own`.
local function layers_of(model)
  local layers, by_name, own = {}, {}, { name = "top_level_model_weights", weights = {} }
  for i, child in ipairs(model:children()) do
    layers[i] = { name = child[1], weights = {} }
    by_name[child[1]] = layers[i]
  end
  local all = model:weights()
  for _, w in ipairs(all) do
    local layer, rest = own, w.name
    local at = w.name:match ".*()%."
    while at do -- the longest name of a layer that leads to it
      if by_name[w.name:sub(1, at - 1)] then
        layer, rest = by_name[w.name:sub(1, at - 1)], w.name:sub(at + 1)
        break
      end
      at = w.name:sub(1, at - 1):match ".*()%."
    end
    rest = (layer == own and "" or layer.name .. "/") .. rest:gsub("%.", "/") .. ":0"
    w.keras_name, w.path = rest, ("/model_weights/%s/%s"):format(layer.name, rest)
    layer.weights[#layer.weights + 1] = w
  end
  return layers, own, all
end

-- Collects what core.h5_write takes.
local function new_tree()
  local tree = { datasets = {}, attrs = {} }
  function tree.tensor(path, tensor) tree.datasets[#tree.datasets + 1] = { path = path, tensor = tensor } end
  function tree.attr(path, name, value)
    if value ~= nil then tree.attrs[#tree.attrs + 1] = { path = path, name = name, value = value } end
  end
  function tree.json(name, value)
    if value ~= nil then tree.attr("/nnlua", name, encode(value)) end
  end
  return tree
end

local function put_weights(tree, model)
  local layers, own, all = layers_of(model)
  local names, index = {}, setmetatable({}, core.json_array)
  for _, layer in ipairs { own, table.unpack(layers) } do
    local weight_names = {}
    for i, w in ipairs(layer.weights) do weight_names[i] = w.keras_name end
    tree.attr("/model_weights/" .. layer.name, "weight_names", weight_names)
    if layer ~= own then names[#names + 1] = layer.name end
  end
  tree.attr("/model_weights", "layer_names", names)
  for i, w in ipairs(all) do
    tree.tensor(w.path, w.tensor)
    index[i] = { name = w.name, path = w.path }
  end
  tree.json("weights", index)
  for _, path in ipairs { "/", "/model_weights" } do
    for name, value in pairs(KERAS) do tree.attr(path, name, value) end
  end
end

-- Slots that mean the same in Keras are written where Keras looks for them.
local keras_slots = { Adam = { m = "momentum", v = "velocity" } }

local function put_optimizer(tree, optimizer)
  local config, state = optimizer:config(), optimizer:state()
  local slots, known = setmetatable({}, core.json_array), keras_slots[config.class_name]
  local folder = known and config.class_name:lower() or nil
  local weight_names = { folder and folder .. "/iteration", folder and folder .. "/learning_rate" }
  for i, s in ipairs(state.slots) do
    local rest = s.name:gsub("%.", "/") .. "_" .. (known and known[s.slot] or s.slot)
    local theirs = known and s.name ~= "loss_scale" -- Keras has no place for it there
    local path = theirs and ("/optimizer_weights/%s/%s"):format(folder, rest) or "/nnlua/optimizer/" .. rest
    if theirs then weight_names[#weight_names + 1] = folder .. "/" .. rest end
    tree.tensor(path, s.tensor)
    slots[i] = { name = s.name, slot = s.slot, path = path }
  end
  if known then
    tree.attr("/optimizer_weights", "weight_names", weight_names)
    tree.tensor(("/optimizer_weights/%s/iteration"):format(folder), core.tensor(state.iterations, { dtype = "i64" }))
    tree.tensor(("/optimizer_weights/%s/learning_rate"):format(folder), core.tensor(optimizer.lr, { dtype = "f32" }))
  end
  tree.json("optimizer", { class_name = config.class_name, config = config.config, iterations = state.iterations,
    pending = state.pending, slots = slots })
  tree.attr("/nnlua", "step", state.iterations)
end

-- Of one output the loss and the metrics as compile() takes them; of several, tables by name.
local function put_compiled(tree, c, architecture)
  local loss, logits, weights, all, weighted = {}, {}, {}, {}, {}
  local function described(meters)
    local list = setmetatable({}, core.json_array)
    for i, meter in ipairs(meters) do list[i] = meter.config and meter:config() or meter.name end
    return list
  end
  local jit = c.jit or nil
  for _, output in ipairs(c.outputs) do
    local own = #output.weighted > 0 and described(output.weighted) or nil
    if not output.name then
      tree.json("compile", { loss = output.loss_name, from_logits = output.from_logits, loss_weights = output.weight ~= 1 and output.weight or nil,
        metrics = described(output.meters), weighted_metrics = own, jit = jit })
    else
      loss[output.name], logits[output.name], all[output.name] = output.loss_name, output.from_logits, described(output.meters)
      weights[output.name], weighted[output.name] = output.weight, own
    end
  end
  local only = c.outputs[1]
  if only.name then
    tree.json("compile", { loss = loss, from_logits = next(logits) and logits or nil, loss_weights = weights, metrics = all,
      weighted_metrics = next(weighted) and weighted or nil, jit = jit, by_name = true })
  elseif architecture and require("nnlua.keras").models[architecture.class_name] and only.weight == 1 then
    local metrics = setmetatable({}, core.json_array)
    for i, meter in ipairs(only.meters) do metrics[i] = meter.name end
    local training = require("nnlua.keras").training(c.optimizer:config(), only.loss_name, only.from_logits, metrics)
    if training then tree.attr("/", "training_config", encode(training)) end
  end
end

local function put_progress(tree, progress)
  local rng = progress and progress.rng or core.rng_state()
  tree.attr("/nnlua", "rng_seed", rng.seed)
  tree.attr("/nnlua", "rng_position", rng.position)
  if not progress then return end
  tree.attr("/nnlua", "epoch", progress.epoch)
  tree.attr("/nnlua", "batch", progress.batch or 0)
  tree.attr("/nnlua", "data_batch", progress.data_batch or 0)
  for _, name in ipairs { "data", "history", "meters", "callbacks" } do tree.json(name, progress[name]) end
end

local LONGEST_SCRIPT = 256 * 1024
local script -- { name =, text =, arguments = } of this run; false when there is none

-- What ran, as it stood when the first file was written.
local function this_script()
  local given = rawget(_G, "arg")
  if script ~= nil or type(given) ~= "table" then return script end
  script = false
  local name = given[0]
  local f = type(name) == "string" and core.sys.file_type(name) == "file" and io.open(name, "rb")
  local text = f and f:read(LONGEST_SCRIPT + 1)
  if f then f:close() end
  if text and #text <= LONGEST_SCRIPT and utf8.len(text) and not text:find "%z" then
    local arguments = setmetatable({}, core.json_array)
    for i, word in ipairs(given) do arguments[i] = utf8.len(word) and word or "?" end
    script = { name = name, text = text, arguments = arguments }
  end
  return script
end

local function put_script(tree)
  local ran, made = this_script(), package.loaded["nnlua.script"]
  if not ran then return end
  tree.attr("/nnlua", "script_name", ran.name)
  tree.attr("/nnlua", "script", ran.text)
  tree.json("arguments", ran.arguments)
  if made and made.options then tree.json("options", made.options) end
end

local save_spec = { optimizer = { "table" }, progress = { "table" }, user = { "table" } }

--- Write the model to a file: true, or nil and a message. The optimizer is that of compile(), or `optimizer =` of a loop by hand; `user =`
--- is a table of plain data to keep with it.
---@param model nnlua.Module
---@param file string
---@param given? { optimizer: nnlua.Optimizer?, progress: table?, user: table? }
function checkpoint.save(model, file, given)
  if not Module.is_module(model) then options.raise("save: needs a model, got " .. options.shown(model)) end
  if type(file) ~= "string" then options.raise("save: needs a file name, got " .. options.shown(file)) end
  if file:find "%.keras$" then return require("nnlua.keras_files").save(model, file) end
  local o = options.check("save", given or {}, save_spec)
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("save: %s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
  local tree, compiled = new_tree(), rawget(model, "compiled")
  local architecture, reason = describe(model)
  local optimizer = o.optimizer or compiled and compiled.optimizer
  tree.attr("/nnlua", "format_version", FORMAT)
  tree.attr("/nnlua", "nnlua_version", core.version)
  tree.attr("/nnlua", "cpu_level", core.cpu_level())
  tree.json("architecture", architecture)
  tree.attr("/nnlua", "architecture_missing", reason)
  local translate = architecture and require("nnlua.keras").models[architecture.class_name]
  local config = translate and translate(architecture.config, architecture.input_size)
  if config then tree.attr("/", "model_config", encode { class_name = architecture.class_name, config = config }) end
  put_weights(tree, model)
  if optimizer then put_optimizer(tree, optimizer) end
  if compiled then put_compiled(tree, compiled, architecture) end
  put_progress(tree, o.progress or rawget(model, "progress"))
  put_script(tree)
  local labels = rawget(model, "labels")
  if labels then tree.json("labels", setmetatable(table.move(labels.values, 1, #labels.values, 1, {}), core.json_array)) end
  tree.json("user", o.user)
  return core.h5_write(file, tree)
end

-- ---- reading -----------------------------------------------------------------------------------------------------------

-- Keras's files, by other rules than ours.
local function is_foreign(file) return type(file) == "string" and require("nnlua.keras_files").is_foreign(file) end

local NUMBERS = { "epoch", "batch", "data_batch", "step", "rng_seed", "rng_position" }

-- The part of a file that has not the kind which the rest of this program relies on, nil when all have: a seal that holds does not say who wrote it.
local function misshapen(info, own)
  for _, name in ipairs(NUMBERS) do
    local n = own[name]
    if n and (math.type(n) ~= "integer" or n < 0 and not name:find "^rng") then return name end
  end
  if (own.rng_seed == nil) ~= (own.rng_position == nil) then return "rng_position" end
  local optimizer, compile = info.optimizer, info.compile
  if optimizer and (type(optimizer.class_name) ~= "string" or type(optimizer.slots) ~= "table") then return "optimizer" end
  if compile and compile.by_name and type(compile.loss) ~= "table" then return "compile" end
  for what, list in pairs { weights = info.weights, optimizer = optimizer and optimizer.slots } do
    for key, entry in pairs(list) do
      if math.type(key) ~= "integer" or type(entry) ~= "table" or type(entry.name) ~= "string" then return what end
    end
  end
  for _, list in pairs(info.history or {}) do
    if type(list) ~= "table" then return "history" end
  end
end

-- What a file says, checked as far as it can be without a model: { weights = list of { name, tensor }, architecture =, ... }; or nil and a message.
local function read(file)
  if type(file) ~= "string" then options.raise("load: needs a file name, got " .. options.shown(file)) end
  local tree, message = core.h5_read(file)
  if not tree then return nil, message end
  local own = tree.attrs["/nnlua"]
  local function bad(what) return nil, ("%s: %s"):format(file, what) end
  if not own or not own.format_version or not own.weights then return bad "an HDF5 file of nnlua, but no checkpoint" end
  if own.format_version ~= FORMAT then
    return bad(("checkpoint format %s; this nnlua reads format %d"):format(own.format_version, FORMAT))
  end
  local info = { file = file, nnlua_version = own.nnlua_version, cpu_level = own.cpu_level, architecture_missing = own.architecture_missing,
    step = own.step, rng = own.rng_seed and { seed = own.rng_seed, position = own.rng_position } }
  for _, name in ipairs { "architecture", "weights", "optimizer", "compile", "data", "history", "meters", "callbacks", "labels", "user" } do
    if own[name] then
      local value, why = core.json_decode(own[name])
      if type(value) ~= "table" then return bad(("bad JSON in %s: %s"):format(name, why or "no table")) end
      info[name] = native(value)
    end
  end
  local wrong = misshapen(info, own)
  if wrong then return bad(("what it says of %s cannot be read"):format(wrong)) end
  if info.labels then
    local ok, encoder = pcall(require("nnlua.data").LabelEncoder, { values = info.labels })
    if not ok then return bad "what it says of labels cannot be read" end
    info.encoder = encoder
  end
  for _, list in ipairs { info.weights, info.optimizer and info.optimizer.slots or {} } do
    for i, entry in ipairs(list) do
      entry.tensor = tree.datasets[entry.path]
      if not entry.tensor then return bad(("item %d of its index has no data"):format(i)) end
    end
  end
  if own.epoch then
    info.progress = { epoch = own.epoch, batch = own.batch, data_batch = own.data_batch, step = own.step, rng = info.rng, data = info.data,
      history = info.history, meters = info.meters, callbacks = info.callbacks }
  end
  return info
end

local function shape_of(tensor) return ("%s %s"):format(tensor:dtype(), Module.shape_text(tensor:shape())) end

-- The first difference between the weights of a file and those of a model, nil when there is none.
local function difference(info, model)
  local here, there = model:weights(), info.weights
  for i = 1, math.max(#here, #there) do
    local h, t = here[i], there[i]
    if not t then return ("this model has a weight %d, %s (%s), the file has only %d"):format(i, h.name, shape_of(h.tensor), #there) end
    if not h then return ("the file has a weight %d, %s (%s), this model has only %d"):format(i, t.name, shape_of(t.tensor), #here) end
    if h.name ~= t.name or shape_of(h.tensor) ~= shape_of(t.tensor) then
      return ("weight %d is %s (%s) in the file, %s (%s) here"):format(i, t.name, shape_of(t.tensor), h.name, shape_of(h.tensor))
    end
  end
end

local function check_weights(info, model)
  if model:first_unbuilt() then
    options.raise(("load: %s is not built yet; call the model once, or model:build{sizes of one sample}"):format(model:first_unbuilt()))
  end
  local what = difference(info, model)
  if what then return nil, ("%s: a checkpoint of another model: %s"):format(info.file, what) end
  return true
end

-- Cannot fail after check_weights.
local function bind_weights(info, model)
  for i, w in ipairs(model:weights()) do w.tensor:assign(info.weights[i].tensor) end
end

-- Give the optimizer its state: true, or nil and why it does not fit; then nothing has changed.
local function bind_optimizer(info, model, optimizer)
  local there = info.optimizer
  if not there then return nil, ("%s: holds no state of an optimizer"):format(info.file) end
  if there.class_name ~= optimizer:config().class_name then
    return nil, ("%s: its optimizer is %s, this one is %s"):format(info.file, there.class_name, optimizer:config().class_name)
  end
  if #there.slots > 0 and not optimizer.parameters then optimizer:bind(model:parameters()) end
  local ok, why = pcall(optimizer.set_state, optimizer, { iterations = there.iterations, pending = there.pending, slots = there.slots })
  if not ok then return nil, ("%s: %s"):format(info.file, (tostring(why):gsub("^[^\n]-:%d+: ", ""))) end
  return true
end

local function warn_of_cpu(info)
  local here = core.cpu_level()
  if info.cpu_level and here ~= info.cpu_level then
    warn(("nnlua: %s was written with %s kernels, this machine uses %s: training goes on equal to rounding, not to the bit"):format(info.file,
      info.cpu_level, here))
  end
end

-- What class ids stand for goes with the model.
local function bind_labels(info, model)
  if info.encoder then rawset(model, "labels", info.encoder) end
end

--- Bind the model's weights to those of the file: true, or nil and a message that names the first difference; then nothing has changed.
---@param model nnlua.Module
---@param file string
function checkpoint.load_weights(model, file)
  if is_foreign(file) then return require("nnlua.keras_files").load_weights(model, file) end
  local info, message = read(file)
  if not info then return nil, message end
  local ok, why = check_weights(info, model)
  if not ok then return nil, why end
  bind_weights(info, model)
  bind_labels(info, model)
  return true
end

--- The files of a folder that may be checkpoints (*.h5), by name; or nil and a message.
---@param folder string
---@return string[]?, string?
function checkpoint.files_of(folder)
  local names, message = core.sys.list_folder(folder)
  if not names then return nil, message end
  local files = {}
  for _, name in ipairs(names) do
    if name:find "%.h5$" and name:sub(1, 1) ~= "." then files[#files + 1] = (folder:gsub("/*$", "")) .. "/" .. name end
  end
  table.sort(files)
  return files
end

--- Put a model, its optimizer (that of compile(), or `optimizer =`) and `model.progress` where they stood when the file was written. The
--- random stream is left to the caller: `info.rng`. True and what else the file says; or nil and a message, and nothing has changed.
---@param model nnlua.Module
---@param file string
---@param given? { optimizer: nnlua.Optimizer? }
---@return true?, table|string
function checkpoint.restore(model, file, given)
  local o = options.check("restore", given or {}, { optimizer = { "table" } })
  local compiled = rawget(model, "compiled")
  local optimizer = o.optimizer or compiled and compiled.optimizer
  local info, message = read(file)
  if not info then return nil, message end
  local ok, why = check_weights(info, model)
  if ok and optimizer then ok, why = bind_optimizer(info, model, optimizer) end
  if not ok then return nil, why end
  bind_weights(info, model)
  bind_labels(info, model)
  rawset(model, "progress", info.progress)
  warn_of_cpu(info)
  return true, info
end

--- As restore, from the checkpoint of a folder that training had come furthest with. Files that are damaged, or do not fit, are passed over with a
--- warning each. Nil and a message when none is left.
---@param model nnlua.Module
---@param folder string
---@param given? { optimizer: nnlua.Optimizer? }
---@return true?, table|string
function checkpoint.restore_newest(model, folder, given)
  local list, bad = {}, 0
  local function pass_over(message)
    bad = bad + 1
    warn("nnlua: passed over " .. message)
  end
  local files, unread = checkpoint.files_of(folder)
  if not files then return nil, unread end
  for _, file in ipairs(files) do
    local info, message = read(file)
    if not info then
      pass_over(message)
    elseif info.progress then
      list[#list + 1] = { file = file, epoch = info.progress.epoch, batch = info.progress.batch or 0 }
    end
  end
  table.sort(list, function(a, b)
    if a.epoch ~= b.epoch then return a.epoch > b.epoch end
    if a.batch ~= b.batch then return a.batch > b.batch end
    return a.file > b.file
  end)
  for _, entry in ipairs(list) do
    local ok, info = checkpoint.restore(model, entry.file, given)
    if ok then return ok, info end
    pass_over(info)
  end
  return nil, ("%s: there is no checkpoint to go on from%s"):format(folder, bad > 0 and (" (%d passed over)"):format(bad) or "")
end

-- The model that a file describes, with fresh parameters; raises.
local function build(info)
  local a = info.architecture
  local c = type(a.class_name) == "string" and require("nnlua.models").layer_class(a.class_name)
  if not c then
    options.raise(("its model is a %s, which is not known here; nn.register_layer makes it known"):format(options.shown(a.class_name)))
  end
  local model = c.from_config(c, a.config)
  if model:first_unbuilt() and a.input_size then model:build(a.input_size) end
  return model
end

-- Compile as the file says, where its loss and metrics have names.
local function compile(info, model)
  local c, optimizer = info.compile, info.optimizer
  if not c or not optimizer or c.loss == "function" then return true end
  for _, loss in pairs(c.by_name and c.loss or {}) do
    if loss == "function" then return true end
  end
  local made = pcall(model.compile, model, { optimizer = { class_name = optimizer.class_name, config = optimizer.config }, loss = c.loss,
    from_logits = c.from_logits, loss_weights = c.loss_weights, metrics = c.metrics, weighted_metrics = c.weighted_metrics, jit = c.jit })
  if not made then return true end -- a metric or an optimizer of the user's
  return bind_optimizer(info, model, model.compiled.optimizer)
end

--- The model of a file, with its weights, compiled as it was (where losses and metrics have names), and `model.progress`. Then what else the
--- file says. Or nil and a message.
---@param file string
---@return nnlua.Module?, table|string
function checkpoint.load(file)
  if is_foreign(file) then return require("nnlua.keras_files").load(file) end
  local info, message = read(file)
  if not info then return nil, message end
  if not info.architecture then
    return nil, ("%s: holds weights, but not how to make their model (%s); make it and call model:load_weights(file)"):format(file,
      info.architecture_missing or "no architecture")
  end
  local elements, rng = 0, core.rng_state()
  for _, entry in ipairs(info.weights) do elements = elements + entry.tensor:numel() end
  local ok, model = pcall(Layer.without_values, elements, build, info)
  core.set_rng_state(rng) -- a model of the user's may draw
  if not ok then return nil, ("%s: %s"):format(file, (tostring(model):gsub("^[^\n]-:%d+: ", ""))) end
  local fits, why = check_weights(info, model)
  if not fits then return nil, why end
  bind_weights(info, model)
  fits, why = compile(info, model)
  if not fits then return nil, why end
  bind_labels(info, model)
  rawset(model, "progress", info.progress)
  if info.history and info.compile then rawset(model, "history", require("nnlua.training").History(info.history)) end
  return model, info
end

return checkpoint
