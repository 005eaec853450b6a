--- Safetensors files: `nn.safetensors`. Named tensors and a table of texts; what PyTorch models are shared as.
--
-- Owns: the format (a length, a JSON header, the elements one tensor behind the other) and what is refused: headers above 100 MB or outside the file,
-- duplicate keys, sizes that are no integers or overflow, tensors that overlap or leave holes, bytes behind the last one, types we have not (F8_*).
-- `open` reads the header; each tensor is read when asked for, straight into its memory. I8, I16 and U16 become i32, U32 and U64 i64.
--
-- Why no mapping: what a mapping is for holds without one (nothing is read before it is asked for, no copy is made on the way, files may be larger
-- than memory), and a tensor is a value, which bytes of a file that somebody writes to are not. A file that shrinks under a mapping ends the process
-- (SIGBUS); asking for its size before each access leaves a gap, and a handler for the signal belongs to the host program. Here it is an error.
--
--     local nn = require "nnlua"
--     local file = os.tmpname()
--     assert(nn.safetensors.save(file, { scale = nn.tensor{1, 2, 3} }, { format = "pt" }))
--     local f = assert(nn.safetensors.open(file))
--     print(f.names[1], f.shapes.scale[1], f.metadata.format, f:tensor("scale"):sum():item())   --> scale  3  pt  6
--     f:close()
--     os.remove(file)

local core = require "nnlua.core"
local options = require "nnlua.options"
local foreign = require "nnlua.foreign"

local safetensors = {}
local MOST_HEADER = 100000000

-- dtype -> encoding of core.elements, bytes an element
local types = { BOOL = { "<b1", 1 }, I8 = { "<i1", 1 }, U8 = { "<u1", 1 }, I16 = { "<i2", 2 }, U16 = { "<u2", 2 }, I32 = { "<i4", 4 },
  U32 = { "<u4", 4 }, I64 = { "<i8", 8 }, U64 = { "<u8", 8 }, F16 = { "<f2", 2 }, BF16 = { "<B2", 2 }, F32 = { "<f4", 4 }, F64 = { "<f8", 8 } }
local type_names = { bool = "BOOL", u8 = "U8", i32 = "I32", i64 = "I64", f16 = "F16", bf16 = "BF16", f32 = "F32", f64 = "F64" }

local function is_list(t) return type(t) == "table" and (#t > 0 or next(t) == nil) and t ~= core.json_null end

-- { dtype, shape, first byte, bytes } of an entry of the header.
local function entry(name, item, room)
  if type(item) ~= "table" or #item > 0 or item == core.json_null then foreign.refuse("%s: no description of a tensor", name) end
  for key in pairs(item) do
    if key ~= "dtype" and key ~= "shape" and key ~= "data_offsets" then foreign.refuse("%s: unknown key %s", name, options.shown(key)) end
  end
  local kind = types[item.dtype]
  if not kind then foreign.refuse("%s: elements of the type %s are not read", name, options.shown(item.dtype)) end
  if not is_list(item.shape) then foreign.refuse("%s has no shape", name) end
  local offsets = item.data_offsets
  if not is_list(offsets) or #offsets ~= 2 or math.type(offsets[1]) ~= "integer" or math.type(offsets[2]) ~= "integer" then
    foreign.refuse("%s: data_offsets must be two integers", name)
  end
  local from, to, bytes = offsets[1], offsets[2], foreign.elements(item.shape, name) * kind[2]
  if from < 0 or to < from or to > room then foreign.refuse("%s lies outside the file: bytes %d to %d of %d", name, from, to, room) end
  if to - from ~= bytes then foreign.refuse("%s has %d bytes, its shape and type need %d", name, to - from, bytes) end
  return { name = name, encoding = kind[1], dtype = item.dtype, shape = item.shape, from = from, to = to }
end

local function metadata_of(item)
  if item == nil then return {} end
  if type(item) ~= "table" or item == core.json_null then foreign.refuse "__metadata__ is no table of texts" end
  for key, value in pairs(item) do
    if type(key) ~= "string" or type(value) ~= "string" then foreign.refuse("__metadata__: %s is no text", options.shown(key)) end
  end
  return item
end

local function header_of(f, total)
  f:seek "set"
  if total < 8 then foreign.refuse "not a safetensors file: shorter than 8 bytes" end
  local size = string.unpack("<i8", f:read(8) or ("\0"):rep(8))
  if size < 2 or size > MOST_HEADER or size > total - 8 then foreign.refuse("not a safetensors file or truncated: a header of %d bytes", size) end
  local text = f:read(size) or ""
  if #text < size or text:sub(1, 1) ~= "{" then foreign.refuse "not a safetensors file: its header does not begin with {" end
  local header, why = core.json_decode(text)
  if type(header) ~= "table" then foreign.refuse("bad header: %s", why) end
  return header, total - 8 - size
end

local File = {}
File.__index = File

--- One tensor of an open file: read into its memory, nothing else is. Or nil and a message.
---@param name string
function File:tensor(name)
  local e = self.entries[name]
  if not e then return nil, ("%s: has no tensor %s"):format(self.file, options.shown(name)) end
  if io.type(self.handle) ~= "file" then return nil, ("%s: closed"):format(self.file) end
  return core.elements(self.handle, e.encoding, e.shape, self.base + e.from, self.file)
end

function File:close()
  if io.type(self.handle) == "file" then self.handle:close() end
end
File.__close, File.__gc = File.close, File.close

local function read_open(file)
  local f, total = foreign.open(file)
  local self = setmetatable({ file = file, handle = f, entries = {}, names = {}, shapes = {}, dtypes = {} }, File)
  local header, room = header_of(f, total)
  local list = {}
  self.base = total - room
  self.metadata = metadata_of(header.__metadata__)
  for name, item in pairs(header) do
    if name ~= "__metadata__" then list[#list + 1] = entry(tostring(name), item, room) end
  end
  table.sort(list, function(a, b)
    if a.from ~= b.from then return a.from < b.from end
    if a.to ~= b.to then return a.to < b.to end
    return a.name < b.name
  end)
  local at = 0
  for i, e in ipairs(list) do
    if e.from ~= at then
      foreign.refuse("%s %s: bytes %d to %d", e.name, e.from > at and "leaves a hole before it" or "overlaps another", e.from, e.to)
    end
    at = e.to
    self.entries[e.name], self.names[i], self.shapes[e.name], self.dtypes[e.name] = e, e.name, e.shape, e.dtype
  end
  if at ~= room then foreign.refuse("%d bytes follow the last tensor", room - at) end
  return self
end

--- An open file: `names` in the order of their data, `shapes` and `dtypes` (theirs: "F32") by name, `metadata`; `f:tensor(name)` reads one,
--- `f:close()` (or `local f <close>`). Or nil and a message.
---@param file string
function safetensors.open(file) return foreign.guard(tostring(file), read_open, file) end

--- All tensors by name, and the metadata; or nil and a message.
---@param file string
---@return table<string, nnlua.Tensor>? tensors, table<string, string>|string metadata
function safetensors.load(file)
  local f <close>, message = safetensors.open(file)
  if not f then return nil, message end
  local tensors = {}
  for _, name in ipairs(f.names) do
    tensors[name], message = f:tensor(name)
    if not tensors[name] then return nil, message end
  end
  return tensors, f.metadata
end

--- Save tensors by name, and a table of texts; atomically. The same content gives the same bytes. True, or nil and a message.
---@param file string
---@param tensors table<string, nnlua.Tensor>
---@param metadata? table<string, string>
function safetensors.save(file, tensors, metadata)
  local names, header, parts, at = foreign.sorted(tensors, "safetensors.save"), {}, { "" }, 0
  for i, name in ipairs(names) do
    local t = tensors[name]
    if not core.is_tensor(t) then options.raise(("safetensors.save: %s must be a tensor, got %s"):format(name, options.shown(t))) end
    if name == "__metadata__" then options.raise "safetensors.save: __metadata__ is no name for a tensor" end
    local kind = type_names[t:dtype()]
    local bytes = t:numel() * types[kind][2]
    header[name] = { dtype = kind, shape = setmetatable(t:shape(), core.json_array), data_offsets = { at, at + bytes } }
    at, parts[i + 1] = at + bytes, t
  end
  for key, value in pairs(metadata or {}) do
    if type(key) ~= "string" or type(value) ~= "string" then
      options.raise(("safetensors.save: metadata must be texts by name, at %s"):format(options.shown(key)))
    end
    header.__metadata__ = metadata
  end
  local text = core.json_encode(header)
  text = text .. (" "):rep(-#text % 8)
  if #text > MOST_HEADER then options.raise "safetensors.save: the names need a header above 100 MB, which readers refuse" end
  parts[1] = string.pack("<I8", #text) .. text
  return core.file_replace(file, parts)
end

return safetensors
