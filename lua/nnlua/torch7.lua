--- Torch7's files, read only: `nn.torch7.load "model.t7"`. Tensors, tables, strings, numbers and booleans, binary or ASCII.
--
-- Owns: the format (type ids, objects by number with references back, tensors as views of storages). Functions are bytecode and are refused, whatever
-- asks for them. Objects of other classes (nn.Linear, ...) come as the plain tables of their fields with the class in `torch_typename`; those that
-- write themselves in a way of their own cannot be told and give an error. Bytes stay u8; CharTensor and ShortTensor become i32. Longs have 8 bytes.
--
--     local nn = require "nnlua"
--     local file = os.tmpname()
--     local f = io.open(file, "wb")
--     f:write(string.pack("<i4i4i4 i4s4 i4d", 3, 1, 1, 2, "answer", 1, 42))  -- a table of one pair
--     f:close()
--     print(assert(nn.torch7.load(file)).answer)   --> 42
--     os.remove(file)

local core = require "nnlua.core"
local options = require "nnlua.options"
local foreign = require "nnlua.foreign"

local torch7 = {}
local MOST_DEPTH, MOST_TEXT = 64, 1 << 24

-- class -> encoding of core.elements, bytes an element
local kinds = { Double = { "<f8", 8 }, Float = { "<f4", 4 }, Half = { "<f2", 2 }, Long = { "<i8", 8 }, Int = { "<i4", 4 }, Short = { "<i2", 2 },
  Char = { "<i1", 1 }, Byte = { "<u1", 1 }, Cuda = { "<f4", 4 } }
for name, of in pairs { CudaDouble = "Double", CudaLong = "Long", CudaInt = "Int", CudaShort = "Short", CudaChar = "Char", CudaByte = "Byte",
  CudaHalf = "Half" } do kinds[name] = kinds[of] end

-- ---- bytes -----------------------------------------------------------------------------------------------------------------

-- A reader of the open file f: both spellings of the format have these five functions.
local function bytes_of(r, n)
  if n < 0 or n > r.total - r.at then foreign.refuse("truncated: %d bytes are expected at byte %d of %d", n, r.at, r.total) end
  local bytes = n == 0 and "" or r.f:read(n)
  if not bytes or #bytes < n then foreign.refuse "truncated while it was read" end
  r.at = r.at + n
  return bytes
end

local binary = { least = 4 } -- bytes that the smallest object takes
function binary.int(r) return (string.unpack("<i4", bytes_of(r, 4))) end
function binary.number(r) return (string.unpack("<d", bytes_of(r, 8))) end
function binary.text(r, n) return bytes_of(r, n) end
function binary.longs(r, n)
  local list = {}
  for i = 1, n do list[i] = string.unpack("<i8", bytes_of(r, 8)) end
  return list
end
function binary.elements(r, kind, n)
  if n < 0 or n > (r.total - r.at) // kind[2] then foreign.refuse("truncated: a storage of %d elements at byte %d of %d", n, r.at, r.total) end
  local t = foreign.tensor(r.f, kind[1], { n }, r.at, r.name)
  r.at = r.at + n * kind[2]
  r.f:seek("set", r.at)
  return t
end

local ascii = { least = 2 }
local function word(r)
  local letters = {}
  while true do
    local c = r.at < r.total and bytes_of(r, 1) or ""
    if c == "" or c:find "%s" then
      if #letters > 0 or c == "" then break end
    else
      letters[#letters + 1] = c
      if #letters > 40 then foreign.refuse("a number of more than 40 letters at byte %d", r.at) end
    end
  end
  return table.concat(letters)
end
local function numeral(r)
  local text = word(r)
  local special = ({ nan = 0 / 0, ["-nan"] = 0 / 0, inf = math.huge, ["-inf"] = -math.huge })[text]
  local v = special or text:find "^[%d%.eE+-]+$" and tonumber(text)
  if not v then foreign.refuse("%s at byte %d is no number", options.shown(text), r.at) end
  return v
end
function ascii.int(r) return math.tointeger(numeral(r)) or foreign.refuse("an integer is expected at byte %d", r.at) end
ascii.number = numeral
function ascii.text(r, n)
  local bytes = bytes_of(r, n)
  if n > 0 and r.at < r.total and bytes_of(r, 1) ~= "\n" then foreign.refuse("a line does not end at byte %d", r.at) end
  return bytes
end
function ascii.longs(r, n)
  local list = {}
  for i = 1, n do list[i] = ascii.int(r) end
  return list
end
local native = { ["<f8"] = "<d", ["<f4"] = "<f", ["<i8"] = "<i8", ["<i4"] = "<i4", ["<i2"] = "<i2" }
local limits = { ["<i4"] = 1 << 31, ["<i2"] = 1 << 15 }
function ascii.elements(r, kind, n)
  if n < 0 or n > r.total - r.at then foreign.refuse("truncated: a storage of %d elements at byte %d of %d", n, r.at, r.total) end
  if kind[2] == 1 then return foreign.tensor(ascii.text(r, n), kind[1], { n }) end -- bytes stand for themselves
  local pack, limit, parts, few = native[kind[1]], limits[kind[1]], {}, {}
  if not pack then foreign.refuse "half precision in ASCII is not read" end
  for _ = 1, n do
    local v = pack:find "i" and ascii.int(r) or numeral(r)
    if limit and (v < -limit or v >= limit) then foreign.refuse("the element %s does not fit its type", v) end
    few[#few + 1] = string.pack(pack, v)
    if #few == 4096 then parts[#parts + 1], few = table.concat(few), {} end -- small strings take many times their bytes
  end
  return foreign.tensor(table.concat(parts) .. table.concat(few), kind[1], { n })
end

-- ---- objects -----------------------------------------------------------------------------------------------------------------

local object

local function text(r)
  local n = r.way.int(r)
  if n < 0 or n > MOST_TEXT then foreign.refuse("a text of %d bytes at byte %d", n, r.at) end
  return r.way.text(r, n)
end

-- The tensor of sizes, strides and an offset on a flat storage.
local function view(r, storage, size, stride, offset)
  local numel = foreign.elements(size, "a tensor")
  if #size == 0 then return core.zeros({ 0 }, storage and storage:dtype() or "f32") end
  if numel == 0 then return core.zeros(size, storage and storage:dtype() or "f32") end
  local have, reach, packed, dense = storage and storage:numel() or 0, offset, 1, true
  for d = #size, 1, -1 do
    if stride[d] < 0 then foreign.refuse("a tensor with the stride %d", stride[d]) end
    if size[d] > 1 and stride[d] > (have - reach) // (size[d] - 1) then foreign.refuse "a tensor reaches beyond its storage" end
    reach = reach + (size[d] - 1) * stride[d]
    dense = dense and (size[d] == 1 or stride[d] == packed)
    packed = packed * size[d]
  end
  if offset < 1 or reach > have then foreign.refuse "a tensor reaches beyond its storage" end
  if dense then return storage:narrow(1, offset, numel):reshape(size) end
  r.copied = r.copied + numel
  if numel > have or r.copied > r.total then foreign.refuse "its tensors repeat their storages more often than is read" end
  local places = core.tensor(offset, { dtype = "i64" })
  for d = 1, #size do
    local shape = {}
    for k = 1, #size do shape[k] = k == d and size[d] or 1 end
    places = places + (core.arange(0, size[d], 1, "i64") * stride[d]):reshape(shape)
  end
  return storage:index_select(1, places:reshape { -1 }):reshape(size)
end

local function tensor(r, kind, depth)
  local n = r.way.int(r)
  if n < 0 or n > 8 then foreign.refuse("a tensor of %d dims; at most 8 are read", n) end
  local size, stride = r.way.longs(r, n), r.way.longs(r, n)
  local offset = r.way.longs(r, 1)[1]
  local storage = object(r, depth + 1)
  if storage ~= nil and (not core.is_tensor(storage) or r.storages[storage] ~= kind) then
    foreign.refuse "a tensor whose storage is none of its type"
  end
  return view(r, storage, size, stride, offset)
end

local function of_class(r, index, depth)
  local name = text(r)
  if name:find "^V %d+$" then name = text(r) end
  if not name:find "^[%w_%.]+$" then foreign.refuse("%s is no name of a class", options.shown(name)) end
  local what, sort = name:match "^torch%.(%a+)(Tensor)$"
  if not what then what, sort = name:match "^torch%.(%a+)(Storage)$" end
  local kind = what and kinds[what]
  if kind and sort == "Storage" then
    local t = r.way.elements(r, kind, r.way.longs(r, 1)[1])
    r.objects[index], r.storages[t] = t, kind
    return t
  elseif kind then
    r.objects[index] = tensor(r, kind, depth)
    return r.objects[index]
  end
  local fields = object(r, depth + 1) -- a class that writes its fields
  if type(fields) ~= "table" or rawget(fields, "torch_typename") then foreign.refuse("an object of the class %s, which is not read", name) end
  fields.torch_typename = name
  r.objects[index] = fields
  return fields
end

local function fill(r, t, depth)
  local n = r.way.int(r)
  if n < 0 or n > (r.total - r.at) // (2 * r.way.least) then foreign.refuse("a table of %d pairs at byte %d of %d", n, r.at, r.total) end
  for _ = 1, n do
    local key = object(r, depth + 1)
    if key == nil or key ~= key then foreign.refuse("a table with a key that is nil or NaN at byte %d", r.at) end
    t[key] = object(r, depth + 1)
  end
  return t
end

function object(r, depth)
  if depth > MOST_DEPTH then foreign.refuse("nested deeper than %d", MOST_DEPTH) end
  local kind = r.way.int(r)
  if kind == 0 then return nil end
  if kind == 1 then
    local v = r.way.number(r)
    return math.tointeger(v) or v
  end
  if kind == 2 then return text(r) end
  if kind == 5 then return r.way.int(r) ~= 0 end
  if kind >= 6 and kind <= 8 then foreign.refuse("holds a function (bytecode) at byte %d: it is never read", r.at) end
  if kind ~= 3 and kind ~= 4 then foreign.refuse("an object of the unknown type %d at byte %d", kind, r.at) end
  local index = r.way.int(r)
  local known = r.objects[index]
  if known ~= nil then
    if (type(known) == "table") ~= (kind == 3) and not (kind == 4 and type(known) == "table" and known.torch_typename) then
      foreign.refuse("object %d is of two types", index)
    end
    return known
  end
  r.count = r.count + 1
  if r.count > 100000 + r.total // 40 then foreign.refuse("more than %d objects, which its bytes do not need", r.count - 1) end
  if kind == 4 then return of_class(r, index, depth) end
  r.objects[index] = {}
  return fill(r, r.objects[index], depth)
end

local function read(file)
  local f, total = foreign.open(file)
  local _ <close> = setmetatable({}, { __close = function() f:close() end })
  f:seek "set"
  local head = f:read(4) or ""
  f:seek "set"
  local way = head:find "^%d%s" and ascii or binary
  local r = { f = f, name = file, at = 0, total = total, way = way, objects = {}, storages = {}, count = 0, copied = 0 }
  local value = object(r, 1)
  if value == nil then foreign.refuse "holds nil" end
  if way == ascii and r.at < total and f:read(total - r.at):find "%S" or way == binary and r.at < total then
    foreign.refuse("%d bytes follow its object", total - r.at)
  end
  return value
end

--- What a Torch7 file holds: a tensor, table, text, number or boolean; or nil and a message. `torch.save(file, x)` and `torch.save(file, x,
--- "ascii")`.
---@param file string
---@return any, string?
function torch7.load(file) return foreign.guard(tostring(file), read, file) end

return torch7
