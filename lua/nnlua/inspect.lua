--- What a file is and holds, told by its first bytes and its name: for `nnlua show` (scripts/show.lua).
--
-- Owns: the list of kinds of files. Each is read by its own reader, so what is refused there is refused here, and nothing of a file is run.

local core = require "nnlua.core"

local inspect = {}

-- { shape =, dtype = } of what a reader gave.
local function described(tensors)
  local shown = {}
  for name, t in pairs(tensors) do shown[name] = { dtype = t:dtype(), shape = t:shape() } end
  return shown
end

local function one(name, t, message)
  if not t then return nil, message end
  return { shown = described { [name] = t } }
end

local function hdf5(file)
  local tensors, attrs = require("nnlua.h5").load(file)
  if not tensors then return nil, attrs end
  return { shown = described(tensors), attrs = attrs }
end

local function archive(file)
  local members, message = require("nnlua.zip").open(file)
  if not members then return nil, message end
  local _ <close> = setmetatable({}, { __close = members.close })
  if members.has "config.json" and members.has "model.weights.h5" then
    local config, weights
    config, message = members.read "config.json"
    if config then weights, message = members.read "model.weights.h5" end
    if not weights then return nil, message end
    local tree, bad = core.h5_foreign(file, weights)
    if not tree then return nil, bad end
    tree.attrs["/"] = tree.attrs["/"] or {}
    tree.attrs["/"].model_config = config
    return { shown = described(tree.datasets), attrs = tree.attrs }
  end
  local tensors, why = require("nnlua.numpy").load_npz(file)
  if not tensors then return nil, why .. " (of ZIP archives, .keras and .npz files are shown)" end
  return { shown = described(tensors) }
end

local function safetensors(file)
  local f, message = require("nnlua.safetensors").open(file)
  if not f then return nil, message end
  local shown = {}
  for _, name in ipairs(f.names) do shown[name] = { dtype = f.dtypes[name], shape = f.shapes[name] } end
  f:close()
  return { shown = shown, attrs = next(f.metadata or {}) and { metadata = f.metadata } or {} }
end

-- "x  N x 3 x 8 x 8" of the inputs or outputs of a graph.
local function ends_of(list)
  local words = {}
  for i, e in ipairs(list) do words[i] = e.name .. (#e.shape > 0 and " " .. table.concat(e.shape, "x") or "") end
  return table.concat(words, ", ")
end

local function onnx(file)
  local model, message = require("nnlua.onnx").load(file)
  if not model then return nil, message end
  local counts, names, shown = {}, {}, described(model.constants)
  for _, node in ipairs(model.nodes) do
    if not counts[node.op] then names[#names + 1] = node.op end
    counts[node.op] = (counts[node.op] or 0) + 1
  end
  for i, name in ipairs(names) do names[i] = counts[name] > 1 and ("%d %s"):format(counts[name], name) or name end
  for name, key in pairs(model.keys) do shown[name] = { dtype = model[key]:dtype(), shape = model[key]:shape() } end
  return { shown = shown, lines = { { "model", ("ONNX, operators of version %d"):format(model.opset) }, { "inputs", ends_of(model.inputs) },
    { "outputs", ends_of(model.outputs) }, { "nodes", ("%d: %s"):format(#model.nodes, table.concat(names, ", ")) } } }
end

-- Tensors of a tree of tables by their paths; the rest is counted.
local function torch7(file)
  local value, message = require("nnlua.torch7").load(file)
  if value == nil then return nil, message end
  local shown, seen, others = {}, {}, 0
  local function walk(item, path)
    if core.is_tensor(item) then shown[path == "" and "value" or path] = { dtype = item:dtype(), shape = item:shape() }
    elseif type(item) ~= "table" then others = others + 1
    elseif not seen[item] then
      seen[item] = true
      for key, part in pairs(item) do walk(part, (path == "" and "" or path .. ".") .. tostring(key)) end
    end
  end
  walk(value, "")
  local kind = type(value) == "table" and value.torch_typename
  return { shown = shown, lines = { { "value", type(kind) == "string" and kind or core.is_tensor(value) and "a tensor" or "a " .. type(value) },
    { "besides", ("%d texts, numbers and truth values"):format(others) } } }
end

local function picture(file) return one("picture", require("nnlua.vision").load(file)) end

local function sound(file)
  local x, rate = require("nnlua.audio").load(file)
  if not x then return nil, rate end
  return { shown = described { sound = x }, lines = { { "rate", ("%d frames a second"):format(rate) } } }
end

-- A data set: what an element is, and how many there are.
local function rows(source)
  return function(file)
    local ds, message = require("nnlua.data")[source](file)
    if not ds then return nil, message end
    local n = ds:cardinality()
    if not n or n < 0 then -- it is counted, and each record checked
      n = 0
      local ok, why = pcall(function()
        for _ in ds:iter() do n = n + 1 end
      end)
      if not ok then return nil, (tostring(why):gsub("^[^\n]-:%d+: ", "")) end
    end
    return { lines = { { "elements", ("%d of nn.data.%s: %s"):format(n, source, tostring(ds):match "^Dataset<(.*)>" or "") },
      ds.names and { "columns", table.concat(ds.names, ", ") } } }
  end
end

-- Kinds in the order of asking: { pattern of the first bytes or false, pattern of the name or false, reader }.
local kinds = {
  { "^\137HDF", false, hdf5 }, { "^PK[\3\5]", false, archive }, { "^\147NUMPY", false, function(file)
    return one("array", require("nnlua.numpy").load(file))
  end },
  { "^\255\216\255", false, picture }, { "^\137PNG", false, picture }, { "^BM", "%.bmp$", picture }, { "^P[2356]%s", "%.p[pgn]m$", picture },
  { "^RIFF....WAVE", false, sound }, { "^........{", "%.safetensors$", safetensors }, { false, "%.onnx$", onnx }, { false, "%.t[7h]$", torch7 },
  { false, "idx%d%-ubyte", function(file) return one("array", core.pipeline.idx_read(file)) end },
  { "^%z%z[\8\9\11-\14][\1-\8]", false, function(file) return one("array", core.pipeline.idx_read(file)) end },
  { false, "%.tfrecords?$", rows "tfrecord" }, { false, "%.tfrecords?%.gz$", rows "tfrecord" }, { false, "tfevents", rows "tfrecord" },
  { false, "%.csv$", rows "csv" }, { false, "%.csv%.gz$", rows "csv" }, { false, "%.jsonl$", rows "json_lines" },
  { false, "%.jsonl%.gz$", rows "json_lines" },
}

--- What a file holds: { shown = tensors by name, each { dtype =, shape = }; attrs = by path and name; lines = pairs of a word and what it
--- says }, each where there is such. Or nil and a message.
---@param file string
---@return table?, string?
function inspect.read(file)
  local f, message = io.open(file, "rb")
  if not f then return nil, message end
  local head, why = f:read(16)
  f:close()
  if not head then return nil, ("%s: %s"):format(file, why or "it is empty") end
  local name = file:lower()
  for _, kind in ipairs(kinds) do
    if (not kind[1] or head:find(kind[1])) and (not kind[2] or name:find(kind[2])) then return kind[3](file) end
  end
  return nil, file .. ": its kind is not known; checkpoints, HDF5, .keras, .safetensors, .npy, .npz, .onnx, .t7, IDX, TFRecord, .csv, .jsonl, "
    .. "pictures and WAV are shown"
end

return inspect
