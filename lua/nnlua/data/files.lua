-- data/files.lua - data sets of what stands in text and record files: names of files, lines, CSV, JSON lines, TFRecord, records of fixed length.
-- Returns its functions by name. Tables are read once into columns, whose rows shuffle and resume at once; lines and TFRecord records are a stream.

local Dataset = require "nnlua.data.dataset"
local LabelEncoder = require "nnlua.data.labels"
local common = require "nnlua.data.common"
local core = require "nnlua.core"
local options = require "nnlua.options"

local sources, pipeline = core.sources, core.pipeline
local given_options, with = Dataset.given, common.with
local data = {}

local MIB = 1024 * 1024

-- The files that `given` means: a name, a list of names, or a data set of names (list_files).
local function names_of(who, given)
  if type(given) == "string" then return { given } end
  if type(given) == "table" and type(given.iter) == "function" then
    local list = {}
    for name in given:iter() do list[#list + 1] = sources.text(name) end
    given = list
  end
  if type(given) ~= "table" or #given == 0 then
    options.raise(who .. ": needs a file's name, or a list of them, got " .. options.shown(given))
  end
  return given
end

-- The first of the files that can't be read: nil and a message.
local function unreadable(files)
  for _, name in ipairs(files) do
    local f, message = io.open(name, "rb")
    if not f then return nil, message end
    f:close()
  end
  return true
end

--- The string of a u8 tensor: elements of text are u8 tensors of their bytes.
---@param bytes nnlua.Tensor
---@return string
function data.text(bytes) return sources.text(bytes) end

local list_spec = {
  pattern = { "string|table", position = 1, required = true },
  shuffle = { "boolean", default = false },
  seed = { "integer", default = 0 },
}

--- The names of files, as texts: `list_files "pictures/*/*.jpg"` (`*`, `?` and `[a-z]` as in a shell; a list of patterns works too). Sorted by their
--- bytes; with shuffle = true in an order that depends on `seed` (0). nil and a message when there are none.
---@param given string|table
---@param opts? table
---@return nnlua.Dataset?, string?
function data.list_files(given, opts)
  local o = options.check("list_files", with(given, opts), list_spec)
  local seen, names = {}, {}
  for _, pattern in ipairs(type(o.pattern) == "string" and { o.pattern } or o.pattern) do
    local found, message = sources.glob(pattern)
    if not found then return nil, message end
    for _, name in ipairs(found) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  if #names == 0 then return nil, ("list_files: no file is called %s"):format(options.shown(o.pattern)) end
  table.sort(names)
  if o.shuffle then
    local sorted = names
    names = {}
    for i, k in ipairs(common.order(#sorted, o.seed)) do names[i] = sorted[k] end
  end
  return Dataset(sources.columns { sources.texts(names) })
end

local lines_spec = { files = { "any", position = 1, required = true }, limit = { "integer", default = MIB, min = 1 } }

--- The lines of a text file, or of several, without their ends (LF or CR LF); files may be gzipped. Option limit: most bytes of a line (1 MiB).
--- They are read as they are needed; a state goes on from the byte it stood at.
---@param files string|string[]|nnlua.Dataset
---@param opts? table
---@return nnlua.Dataset?, string?
function data.lines(files, opts)
  local o = options.check("lines", with(files, opts), lines_spec)
  local names = names_of("lines", o.files)
  local ok, message = unreadable(names)
  if not ok then return nil, message end
  return Dataset(sources.lines(names, o.limit))
end

-- ---- CSV -------------------------------------------------------------------------------------------------------------

local csv_spec = {
  file = { "string", position = 1, required = true },
  columns = { "table" },
  types = { "table", default = {} },
  labels = { "string|integer" },
  header = { "boolean", default = true },
  delimiter = { "string", default = "," },
  missing = { "table", default = {} },
  fill = { "number", default = -(0 / 0) },
}
local TYPES = { f32 = true, f64 = true, i64 = true, i32 = true, u8 = true, bool = true, text = true }

-- The number of the column that a name or a number means.
local function column_number(table_of, which)
  if math.type(which) == "integer" and which >= 1 and which <= table_of.width then return which end
  for i, name in pairs(table_of.names) do
    if name == which then return i end
  end
  local list = {}
  for i = 1, math.min(table_of.width, 30) do list[i] = table_of.names[i] or tostring(i) end
  options.raise(("csv: %s has no column %s; it has %s"):format(table_of.file, options.shown(which), table.concat(list, ", ")))
end

-- What nnlua.core's csv_read wants for a column, or a list of columns that become one vector.
local function part_of(table_of, entry, o)
  local list, dtype = {}, nil
  for i, which in ipairs(type(entry) == "table" and entry or { entry }) do
    local c = column_number(table_of, which)
    local t = o.types[which] or o.types[c] or o.types[table_of.names[c]] or table_of.kinds[c]
    if not TYPES[t] then
      options.raise(("csv: column %s: type %s; it is one of f32 f64 i64 i32 u8 bool text"):format(options.shown(which), options.shown(t)))
    end
    if type(entry) == "table" and t == "text" then
      options.raise(("csv: column %s holds texts, which can't be a part of a vector"):format(options.shown(which)))
    end
    list[i] = c
    dtype = (dtype == nil or dtype == t) and t or "f32"
  end
  if #list == 0 then options.raise "csv: an empty list of columns" end
  local text = dtype == "text"
  return { columns = list, scalar = type(entry) ~= "table", text = text, dtype = text and "u8" or dtype, fill = o.fill }
end

--- The rows of a CSV table (RFC 4180: quoted cells, "" in them, line ends in them; gzipped or not), read once into columns. Options:
--- columns: what an element is made of, by name or number: `{ "age", { "height", "weight" } }` is a scalar and a vector of two; by default every
--- column (up to 8). types: by name or number: f32 f64 i64 i32 u8 bool text; else whole numbers become i64, numbers (and whole ones where some are
--- missing) f32, others texts (u8). labels: a column that becomes class ids, its values in ds.labels. header (true): the first row holds
--- names. delimiter (","). missing: texts that stand for missing cells, beside the empty cell. fill (NaN): what those become. Blank lines are
--- passed over.
--- The file is read twice; memory is what the columns need: up to 4 times the text, 8 for f64 and for i64 that are filled.
---@param given string|table
---@param opts? table
---@return nnlua.Dataset?, string?
function data.csv(given, opts)
  local o = options.check("csv", given_options(given, opts), csv_spec)
  if #o.delimiter ~= 1 or o.delimiter:find '[\r\n"]' then options.raise("csv: a delimiter is one character, got " .. options.shown(o.delimiter)) end
  local handle, rows, names, kinds = sources.csv_scan(o.file, o.delimiter, o.header, o.missing)
  if not handle then return nil, rows end
  if rows == 0 then return nil, o.file .. ": holds no rows" end
  local table_of = { file = o.file, names = names, kinds = kinds, width = #kinds }
  local wanted, parts, label_at = o.columns, {}, nil
  if not wanted then
    wanted = {}
    for i = 1, table_of.width do wanted[i] = i end
  end
  if #wanted > 8 then
    local remedy = "name some in `columns`, where a list of columns becomes one vector"
    options.raise(("csv: %d columns; an element has up to 8 parts: %s"):format(#wanted, remedy))
  end
  for i, entry in ipairs(wanted) do parts[i] = part_of(table_of, entry, o) end
  if o.labels then
    local c = column_number(table_of, o.labels)
    for i, part in ipairs(parts) do
      if part.scalar and part.columns[1] == c then label_at = i end
    end
    if not label_at then options.raise(("csv: the column of labels, %s, is none of `columns`"):format(options.shown(o.labels))) end
  end
  local columns, message = sources.csv_read(handle, o.file, o.delimiter, o.header, o.missing, parts)
  if not columns then return nil, message end
  local encoder
  if label_at then
    local column = columns[label_at]
    local values = type(column) == "table" and sources.strings(column[1], column[2]) or column:totable()
    encoder = LabelEncoder.fit(values)
    columns[label_at] = core.tensor(encoder:encode(values), { dtype = "i64" })
  end
  local ds = Dataset(sources.columns(columns))
  ds.labels = encoder
  return ds
end

-- ---- JSON lines ------------------------------------------------------------------------------------------------------

-- Columns are packed each so many bytes of text: Lua's values take up to 30 times their text, packed ones 8 times at most.
local JSON_PIECE = 4 * MIB

-- Begin or go on with the column of one field: `values` of the lines from `from` + 1 on become a tensor; texts stay. Nil and a message when unlike.
local function pack_json(file, field, column, values, from)
  column.kind = column.kind or type(values[1])
  for i, v in ipairs(values) do
    if type(v) ~= column.kind then
      return nil, ("%s: line %d: field %s is a %s, the first is a %s"):format(file, from + i, options.shown(field), type(v), column.kind)
    end
    column.broken = column.broken or math.type(v) ~= "integer"
  end
  if column.kind == "string" then
    table.move(values, 1, #values, #column + 1, column)
    return true
  end
  local integers = true
  for _, v in ipairs(values) do integers = integers and math.type(v) == "integer" end
  local ok, t = pcall(core.tensor, values, { dtype = column.kind == "boolean" and "bool" or integers and "i64" or "f32" })
  local shape = ok and t:shape()
  local before = column.shape or shape
  for k = 2, ok and math.max(#shape, #before) or 0 do ok = ok and before[k] == shape[k] end
  if not ok then
    return nil, ("%s: field %s: lists of numbers of one shape are read, and numbers, texts, true and false"):format(file, options.shown(field))
  end
  column.shape, column[#column + 1] = shape, t
  return true
end

-- The whole column: whole numbers stay so where all are.
local function join_json(column)
  if column.kind == "string" then return sources.texts(column) end
  for i, t in ipairs(column) do
    if column.kind == "number" and column.broken and t:dtype() == "i64" then column[i] = t:to "f32" end
  end
  return #column > 1 and core.cat(column, 1) or column[1]
end

local json_spec = {
  file = { "string", position = 1, required = true },
  fields = { "table" },
  limit = { "integer", default = 256 * MIB, min = 1 },
}

--- The objects of a file with one JSON object a line (gzipped or not), read once into columns. Option fields: the names of what an element is
--- made of, in order; by default the first object's, sorted. Whole numbers become i64, numbers and lists of numbers f32, texts u8. Option
--- limit: most bytes of text (256 MiB); memory is up to 16 times the text and 200 MB. Blank lines are passed over.
---@param given string|table
---@param opts? table
---@return nnlua.Dataset?, string?
function data.json_lines(given, opts)
  local o = options.check("json_lines", given_options(given, opts), json_spec)
  local ok, message = unreadable { o.file }
  if not ok then return nil, message end
  local fields, columns, values, total, number, failed = o.fields, {}, {}, 0, 0, nil
  local waiting, packed = 0, 0 -- bytes of text whose values wait; objects that were packed
  local function pack()
    if not values[1] then return end
    local n = #values[1]
    for i, field in ipairs(fields) do
      columns[i] = columns[i] or {}
      local fine, wrong = pack_json(o.file, field, columns[i], values[i], packed)
      if not fine then return wrong end
    end
    values, waiting, packed = {}, 0, packed + n
  end
  local function take(line)
    number, total = number + 1, total + #line + 1
    if total > o.limit then return ("%s: more than %d bytes (option limit)"):format(o.file, o.limit) end
    if not line:find "%S" then return end
    local decoded, value = pcall(core.json_decode, line)
    if not decoded or type(value) ~= "table" then return ("%s: line %d: not a JSON object"):format(o.file, number) end
    if not fields then
      fields = {}
      for key in pairs(value) do
        if type(key) ~= "string" then return ("%s: line %d: not a JSON object"):format(o.file, number) end
        fields[#fields + 1] = key
      end
      table.sort(fields)
    end
    for i, field in ipairs(fields) do
      local v = value[field]
      if v == nil or v == core.json_null then return ("%s: line %d: has no field %s"):format(o.file, number, options.shown(field)) end
      values[i] = values[i] or {}
      values[i][#values[i] + 1] = v
    end
    waiting = waiting + #line
    if waiting >= JSON_PIECE then return pack() end
  end
  local read, why = pcall(function()
    local pass <close> = pipeline.open(sources.lines({ o.file }, o.limit))
    for line in pass do
      failed = take(sources.text(line))
      if failed then return end
    end
    failed = pack()
  end)
  if not read then return nil, (tostring(why):gsub("^[^\n]-:%d+: ", "", 1)) end
  if failed then return nil, failed end
  if #columns == 0 then return nil, o.file .. ": holds no objects" end
  if #columns > 8 then return nil, ("%s: %d fields; an element has up to 8: name some in `fields`"):format(o.file, #columns) end
  for i, column in ipairs(columns) do columns[i] = join_json(column) end
  return Dataset(sources.columns(columns))
end

-- ---- records ---------------------------------------------------------------------------------------------------------

local tfrecord_spec = {
  files = { "any", position = 1, required = true },
  features = { "table" },
  workers = { "integer", default = 0, min = 0, max = 256 },
  limit = { "integer", default = 256 * MIB, min = 1 },
}
local FEATURES = { bytes = "u8", f32 = "f32", i64 = "i64" }

local function feature_of(i, given)
  local name, kind, shape, default
  if type(given) == "table" then name, kind, shape, default = given[1], given[2], given[3], given.default end
  local right = type(name) == "string" and FEATURES[kind] and (shape == nil or type(shape) == "table")
    and (default == nil or type(default) == "number")
  if not right then
    options.raise(('tfrecord: feature %d must be { name, "bytes" | "f32" | "i64", shape, default = number }, as { "label", "i64" }'):format(i))
  end
  return { name, FEATURES[kind], shape or {}, default }
end

--- The records of TFRecord files (gzipped or not), each checked (CRC-32C), as u8 vectors; read as they are needed, and a state goes on from the
--- byte it stood at. Option features: records are tf.train.Example's, and an element has the features of this list of
--- { name, "bytes" | "f32" | "i64", shape, default = number }: without a shape a scalar, shape {-1} as many numbers as there are, bytes one byte
--- string as u8; missing features become `default` or an error. Examples are read on `workers` threads (0: where they are needed).
--- Option limit: most bytes of a record (256 MiB).
---@param files string|string[]|nnlua.Dataset
---@param opts? table
---@return nnlua.Dataset?, string?
function data.tfrecord(files, opts)
  local o = options.check("tfrecord", with(files, opts), tfrecord_spec)
  local names, features = names_of("tfrecord", o.files), {}
  for i, given in ipairs(o.features or {}) do features[i] = feature_of(i, given) end
  local ok, message = unreadable(names)
  if not ok then return nil, message end
  local handle = sources.tfrecord(names, o.limit)
  return Dataset(o.features and sources.examples(handle, features, o.workers) or handle)
end

local fixed_spec = {
  file = { "string", position = 1, required = true },
  bytes = { "integer", position = 2, required = true, min = 1 },
  header = { "integer", default = 0, min = 0 },
  footer = { "integer", default = 0, min = 0 },
}

-- The rows of a file as a u8 tensor (n, bytes); or nil and a message.
local function rows_of(file, bytes, header, footer)
  local f, message = io.open(file, "rb")
  if not f then return nil, message end
  local size = f:seek "end"
  local body = size and size - header - footer
  local wrong = not size or size == math.maxinteger and "is not a file" or body < bytes and ("has %d bytes, less than a record"):format(size)
    or body % bytes ~= 0 and ("has %d bytes of records, which are no whole number of %d"):format(body, bytes)
    or body > 0x7fffffff and "is larger than 2 GiB"
  local content = not wrong and f:seek("set", header) and f:read(body)
  f:close()
  if wrong or not content or #content < body then return nil, ("%s: %s"):format(file, wrong or "is cut") end
  return sources.texts({ content })[1]:reshape { body // bytes, bytes }
end

--- Records of `bytes` bytes each, as u8 vectors: `fixed_length("batch.bin", 3073)`. Options header and footer: bytes before the first and behind
--- the last.
---@param file string|table
---@param bytes? integer
---@param opts? table
---@return nnlua.Dataset?, string?
function data.fixed_length(file, bytes, opts)
  local all = given_options(file, opts)
  all[2] = bytes or all[2]
  local o = options.check("fixed_length", all, fixed_spec)
  local rows, message = rows_of(o.file, o.bytes, o.header, o.footer)
  if not rows then return nil, message end
  return Dataset(pipeline.tensors(rows))
end

local cifar_spec = { files = { "any", position = 1, required = true }, fine = { "boolean", default = false } }

--- CIFAR-10's binary files (3073 bytes an image), or with fine = true CIFAR-100's (3074, fine classes): x (32, 32, 3) u8, y a class id. The
--- whole data set, found and checked, is nn.datasets.cifar10's.
---@param files string|string[]|nnlua.Dataset
---@param opts? table
---@return nnlua.Dataset?, string?
function data.cifar(files, opts)
  local o = options.check("cifar", with(files, opts), cifar_spec)
  local labels = o.fine and 2 or 1
  local x, y = {}, {}
  for i, name in ipairs(names_of("cifar", o.files)) do
    local rows, message = rows_of(name, labels + 3072, 0, 0)
    if not rows then return nil, message end
    x[i] = rows[{ {}, { labels + 1, -1 } }]:reshape { -1, 3, 32, 32 }:permute { 1, 3, 4, 2 }
    y[i] = rows[{ {}, labels }]:long() + 1
  end
  return Dataset(pipeline.tensors(#x > 1 and core.cat(x, 1) or x[1], #y > 1 and core.cat(y, 1) or y[1]))
end

return data
