-- What a file holds: `nnlua show model.h5`. Every kind that nnlua reads (nnlua.inspect): checkpoints, Keras's files, HDF5, safetensors, NumPy's,
-- ONNX, Torch7's, IDX, TFRecord, tables, pictures, sound. Nothing of the file is run; HDF5 files of other programs are read in a process of its own.
local nn = require "nnlua"
local core = require "nnlua.core"
local sorted = require("nnlua.lists").sorted

local opt = nn.options.parse_args(arg, {
  about = "Show what a file holds: model, where its training stood, tensors.",
  { "file", "string", positional = true, required = true, help = "of any kind that nnlua reads: .h5, .keras, .safetensors, .npz, .onnx, ..." },
  { "script", "flag", help = "print the script that wrote it, and nothing else" },
})

local function fail(message)
  io.stdout:flush()
  io.stderr:write("show: ", tostring(message), "\n")
  os.exit(1, true)
end

-- Text of a file for the terminal: no control characters.
local function plain(text) return (tostring(text):gsub("[%c\u{7f}]", "?")) end
local function short(text)
  text = plain(text)
  return #text > 100 and text:sub(1, 97) .. "..." or text
end
local function long(text)
  text = plain(text)
  return #text > 1000 and text:sub(1, 997) .. "..." or text
end
local function line(name, value) print(("%-12s %s"):format(name, value)) end

local function tensor_text(dtype, shape) return dtype .. (#shape > 0 and " " .. table.concat(shape, "x") or "") end

-- `tensors` by name: { dtype =, shape = }.
local function show_tensors(tensors)
  local names, width, elements = sorted(tensors), 10, 0
  for _, name in ipairs(names) do width = math.max(width, #name) end
  print(("\n%d tensor%s"):format(#names, #names == 1 and "" or "s"))
  for _, name in ipairs(names) do
    local t, n = tensors[name], 1
    for _, size in ipairs(t.shape) do n = n * size end
    elements = elements + n
    print(("  %-" .. math.min(width, 90) .. "s  %s"):format(plain(name), tensor_text(t.dtype, t.shape)))
  end
  print(("  %d elements"):format(elements))
end

local function show_attributes(attrs, passed_over)
  for _, path in ipairs(sorted(attrs)) do
    for _, name in ipairs(path ~= passed_over and sorted(attrs[path]) or {}) do
      local value = attrs[path][name]
      print(("  %s @%s = %s"):format(plain(path), plain(name), short(type(value) == "table" and table.concat(value, ", ") or value)))
    end
  end
end

local function json(own, name)
  local value = own[name] and core.json_decode(own[name])
  return type(value) == "table" and value or nil
end

-- Layers as "Dense{10}", one a line, from an architecture; of models within models the depth shows.
local function show_layers(config, depth)
  for _, layer in ipairs(type(config) == "table" and type(config.layers) == "table" and config.layers or {}) do
    local own = type(layer.config) == "table" and layer.config or {}
    local words = {}
    for _, key in ipairs(sorted(own)) do
      local value = own[key]
      if key ~= "name" and type(value) ~= "table" and value ~= core.json_null and #words < 5 then words[#words + 1] = key .. "=" .. plain(value) end
    end
    local name, kind = short(layer.name or own.name or ""), short(layer.class_name)
    print(("  %s%-20s %-22s %s"):format(("  "):rep(depth), name, kind, short(table.concat(words, " "))))
    show_layers(own, depth + 1)
  end
end

-- Figures of the last epochs, a line each.
local function show_history(history)
  local epochs = type(history.epoch) == "table" and history.epoch or {}
  for i = math.max(1, #epochs - 4), #epochs do
    local words = {}
    for _, name in ipairs(sorted(history)) do
      local value = name ~= "epoch" and type(history[name]) == "table" and history[name][i]
      if type(value) == "table" then value = value["$number"] end
      if value and value ~= core.json_null then
        words[#words + 1] = ("%s %s"):format(plain(name), type(value) == "number" and ("%.5g"):format(value) or plain(value))
      end
    end
    print(("  epoch %s  %s"):format(plain(epochs[i]), table.concat(words, "  ")))
  end
end

local function show_checkpoint(own)
  local architecture, optimizer, compiled = json(own, "architecture"), json(own, "optimizer"), json(own, "compile")
  line("format", ("checkpoint %s of nnlua %s, %s kernels"):format(plain(own.format_version), plain(own.nnlua_version), plain(own.cpu_level)))
  if own.epoch then
    line("training", ("%d epochs done%s, %d steps"):format(own.epoch, (own.batch or 0) > 0 and (" and %d batches"):format(own.batch) or "",
      own.step or 0))
  end
  if own.rng_seed then line("seed", ("%d, at position %s"):format(own.rng_seed, plain(own.rng_position))) end
  if optimizer then
    local config = {}
    for _, key in ipairs(sorted(type(optimizer.config) == "table" and optimizer.config or {})) do
      local value = optimizer.config[key]
      if type(value) ~= "table" and value ~= core.json_null then config[#config + 1] = key .. "=" .. plain(value) end
    end
    line("optimizer", short(optimizer.class_name) .. "  " .. short(table.concat(config, " ")))
  end
  if compiled then line("loss", type(compiled.loss) == "table" and short(own.compile) or short(compiled.loss)) end
  for _, name in ipairs { "script_name", "arguments", "options", "labels", "user" } do
    if own[name] then line(name:gsub("_name", ""), short(own[name])) end
  end
  if architecture then
    line("model", short(architecture.class_name))
    show_layers(architecture.config, 0)
  elseif own.architecture_missing then
    line("model", "not described: " .. short(own.architecture_missing))
  end
  local history = json(own, "history")
  if history then
    print "\nfigures"
    show_history(history)
  end
end

local tree, message = require("nnlua.inspect").read(opt.file)
if not tree then fail(message) end
local attrs = tree.attrs or {}
local own = attrs["/nnlua"]
if opt.script then
  if not own or not own.script then fail(opt.file .. ": it holds no script") end
  io.write(own.script)
  return
end
line("file", ("%s, %d bytes"):format(opt.file, core.sys.file_size(opt.file)))
if own and own.format_version then
  show_checkpoint(own)
else
  for _, pair in ipairs(tree.lines or {}) do line(pair[1], long(pair[2])) end
  local keras = (attrs["/"] or {}).model_config
  local config = type(keras) == "string" and core.json_decode(keras)
  if type(config) == "table" then
    line("model", "of Keras: " .. short(config.class_name))
    show_layers(config.config, 0)
  end
  show_attributes(attrs, config and "/" or nil)
end
if tree.shown then show_tensors(tree.shown) end
