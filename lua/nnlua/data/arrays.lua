-- data/arrays.lua - data sets of functions, series, and files of arrays: from_function, timeseries, HDF5, IDX. Returns its functions by name.

local Dataset = require "nnlua.data.dataset"
local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local sources, pipeline = core.sources, core.pipeline
local data = {}

local function_spec = { fn = { "function", position = 1, required = true }, count = { "integer", min = 0 } }

--- Element i is what `fn(i)` returns (tensors, numbers, texts), i = 1, 2, ...; it ends where fn returns nil, or after `count` elements (option). fn
--- must depend on i alone: then a pass resumes anywhere at once, and rows can be asked for again. With `count` a shuffle right after
--- it draws numbers, and fn is called for what is given only.
---@param fn function|table
---@param opts? table
---@return nnlua.Dataset
function data.from_function(fn, opts)
  local o = options.check("from_function", Dataset.given(fn, opts), function_spec)
  local f = o.fn
  local numbers = Dataset(pipeline.range(1, 1, o.count or 1 << 62))
  if o.count then
    return Dataset.made(numbers, function(rows) return rows:map(function(i) return f(i:item()) end) end)
  end
  local values -- of the element that take_while has just let through
  return numbers:take_while(function(i)
    values = table.pack(f(i:item()))
    return values[1] ~= nil
  end):map(function() return table.unpack(values, 1, values.n) end)
end

local series_spec = {
  x = { "userdata", position = 1, required = true },
  targets = { "userdata" },
  sequence_length = { "integer", required = true, min = 1 },
  stride = { "integer", default = 1, min = 1 },
  sampling_rate = { "integer", default = 1, min = 1 },
  batch = { "integer", min = 1 },
}

--- Windows over the rows of a tensor: element i has the rows s, s + sampling_rate, ... (sequence_length of them) with s = 1 + (i-1)*stride, and row
--- s of `targets` when that is given, as many as both have (Keras's timeseries_dataset_from_array). To predict the row behind a window of consecutive
--- rows, targets is x from row sequence_length + 1 on. Option batch: batches of so many. Nothing is copied before a window is asked for.
---@param x nnlua.Tensor|table
---@param opts? table
---@return nnlua.Dataset
function data.timeseries(x, opts)
  local o = options.check("timeseries", Dataset.given(x, opts), series_spec)
  local ds = Dataset(sources.windows(o.x, o.targets, o.sequence_length, o.stride, o.sampling_rate))
  return o.batch and ds:batch(o.batch) or ds
end

-- Columns of the tensors that `names` picks of those in a file; prefix: what their names begin with.
local function columns_of(who, file, tensors, names, prefix)
  local all, columns = lists.sorted(tensors), {}
  if type(names) == "string" then names = { names } end
  for i, name in ipairs(names or all) do
    local t = tensors[name] or tensors[prefix .. tostring(name)]
    if not t then return nil, ("%s: has no %s; it has %s"):format(file, options.shown(name), table.concat(all, ", ")) end
    columns[i] = t
  end
  if #columns == 0 then return nil, file .. ": holds no arrays" end
  if #columns > 8 then return nil, ("%s: %d arrays; an element has up to 8: name some"):format(file, #columns) end
  local ok, handle = pcall(pipeline.tensors, table.unpack(columns))
  if ok then return Dataset(handle) end
  return nil, ("%s: %s: its arrays have no common number of rows"):format(who, file)
end

local hdf5_spec = { file = { "string", position = 1, required = true }, names = { "table|string", position = 2 } }

--- Rows of data sets in an HDF5 file (nnlua's own, or another program's), by their paths: `hdf5("train.h5", { "x", "y" })`. Without names: all, in
--- the order of their names. They are read into memory.
---@param file string|table
---@param names? string[]|string
---@return nnlua.Dataset?, string?
function data.hdf5(file, names)
  local given = type(file) == "table" and file or { file, names }
  local o = options.check("hdf5", given, hdf5_spec)
  local tensors, message = require("nnlua.h5").load(o.file)
  if not tensors then return nil, message end
  return columns_of("hdf5", o.file, tensors, o.names, "/")
end

local npz_spec = { file = { "string", position = 1, required = true }, names = { "table|string", position = 2 } }

--- Rows of arrays in a NumPy .npz file, by their names: `npz("train.npz", { "x", "y" })`. Without names: all, in the order of their names.
---@param file string|table
---@param names? string[]|string
---@return nnlua.Dataset?, string?
function data.npz(file, names)
  local o = options.check("npz", type(file) == "table" and file or { file, names }, npz_spec)
  local tensors, message = require("nnlua.numpy").load_npz(o.file)
  if not tensors then return nil, message end
  return columns_of("npz", o.file, tensors, o.names, "")
end

--- Rows of IDX files (MNIST's format; gzipped or not): `idx("images.gz", "labels.gz")` has elements of two tensors.
---@param ... string
---@return nnlua.Dataset?, string?
function data.idx(...)
  local columns = {}
  for i, file in ipairs { ... } do
    if type(file) ~= "string" then options.raise(("idx: value %d must be a file's name, got %s"):format(i, options.shown(file))) end
    local t, message = pipeline.idx_read(file)
    if not t then return nil, message end
    if i > 1 and #t ~= #columns[1] then return nil, ("%s: has %d rows, the first file has %d"):format(file, #t, #columns[1]) end
    columns[i] = t
  end
  if #columns == 0 or #columns > 8 then options.raise(("idx: %d files; 1 to 8"):format(#columns)) end
  return Dataset(pipeline.tensors(table.unpack(columns)))
end

return data
