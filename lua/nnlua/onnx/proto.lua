--- Protocol buffers as ONNX uses them, read and written.
--
-- Owns: the wire format (varints, 32 and 64 bits, lengths) and the messages of onnx.proto that are read. A message is decoded by its table of fields,
-- in place: only names and short lists become Lua values, data stay ranges { from, to } of the string. Refused: what reaches beyond its message,
-- groups, nesting above 64, lists above 2^20 entries; unknown fields are passed over, as the format asks. A page of Lua instead of protobuf-c: the
-- few messages are tables here, a generator and a library are not needed, and a hostile file meets no C.

local foreign = require "nnlua.foreign"

local proto = {}
local MOST_DEPTH, MOST_ITEMS, FREE_ITEMS = 64, 1 << 20, 200000

-- field number -> { name, kind, repeated }; kind: int, float, text, range, ints, floats (packed or not), or the table of another message
local dimension = { [1] = { "value", "int" }, [2] = { "param", "text" } }
local tensor_type = { { "elem_type", "int" }, { "shape", { { "dims", dimension, true } } } }
local value_info = { { "name", "text" }, { "type", { { "tensor", tensor_type } } } }
local tensor = { { "dims", "ints" }, { "data_type", "int" }, { "segment", "range" }, { "float_data", "range", true }, { "int32_data", "range", true },
  { "string_data", "range" }, { "int64_data", "range", true }, { "name", "text" }, { "raw_data", "range" }, { "double_data", "range", true },
  { "uint64_data", "range", true }, [13] = { "external_data", "range" }, [14] = { "data_location", "int" } }
local attribute = { { "name", "text" }, { "f", "float" }, { "i", "int" }, { "s", "text" }, { "t", tensor }, { "g", "range" }, { "floats", "floats" },
  { "ints", "ints" }, { "strings", "text", true }, { "tensors", "range" }, { "graphs", "range" }, [20] = { "type", "int" },
  [21] = { "ref_attr_name", "text" } }
local node = { { "input", "text", true }, { "output", "text", true }, { "name", "text" }, { "op_type", "text" }, { "attribute", attribute, true },
  [7] = { "domain", "text" } }
local graph = { { "node", node, true }, { "name", "text" }, [5] = { "initializer", tensor, true }, [11] = { "input", value_info, true },
  [12] = { "output", value_info, true }, [15] = { "sparse_initializer", "range" } }
proto.model = { { "ir_version", "int" }, { "producer_name", "text" }, [7] = { "graph", graph },
  [8] = { "opset_import", { { "domain", "text" }, { "version", "int" } }, true }, [25] = { "functions", "range" } }

-- ---- reading -----------------------------------------------------------------------------------------------------------------

-- A varint at `at`, none of it behind `to`; the place behind it.
local function varint(s, at, to)
  local v, shift = 0, 0
  while true do
    local b = at <= to and s:byte(at) or foreign.refuse("a number is cut at byte %d", at)
    v, at = v | (b & 0x7f) << shift, at + 1
    if b < 0x80 then return v, at end
    shift = shift + 7
    if shift > 63 then foreign.refuse("a number of more than 10 bytes at byte %d", at) end
  end
end
proto.varint = varint

local packed = {}
function packed.ints(s, from, to, list)
  while from <= to do
    list[#list + 1], from = varint(s, from, to)
    if #list > MOST_ITEMS then foreign.refuse "a list of more than 2^20 numbers" end
  end
end
function packed.floats(s, from, to, list)
  if (to - from + 1) % 4 ~= 0 or (to - from + 1) // 4 + #list > MOST_ITEMS then
    foreign.refuse("a list of floats at byte %d is cut or too long", from)
  end
  for at = from, to, 4 do list[#list + 1] = string.unpack("<f", s, at) end
end

-- Every message and entry of a list is a table or a slot here: a file may have as many as it has bytes / 32, and some, so that memory stays near
-- its size.
local function count(budget, n)
  budget.left = budget.left - n
  if budget.left < 0 then foreign.refuse "more messages and lists than a file of its size needs" end
end

local function put(out, name, value, repeated)
  if not repeated then
    out[name] = value
    return
  end
  out[name] = out[name] or {}
  table.insert(out[name], value)
end

--- The message in bytes from..to of s, by its table of fields.
function proto.decode(s, from, to, fields, depth, budget)
  depth, budget = depth or 1, budget or { left = FREE_ITEMS + #s // 32 }
  if depth > MOST_DEPTH then foreign.refuse("nested deeper than %d", MOST_DEPTH) end
  local out, at = {}, from
  count(budget, 1)
  while at <= to do
    local key, first, last
    key, at = varint(s, at, to)
    local wire, field = key & 7, fields[key >> 3]
    local value
    if wire == 0 then
      first = at
      value, at = varint(s, at, to)
      last = at - 1
    elseif wire == 2 then
      local size
      size, at = varint(s, at, to)
      if size < 0 or size > to - at + 1 then foreign.refuse("%d bytes at byte %d reach beyond their message", size, at) end
      first, last, at = at, at + size - 1, at + size
    elseif wire == 5 or wire == 1 then
      local size = wire == 5 and 4 or 8
      if size > to - at + 1 then foreign.refuse("a number is cut at byte %d", at) end
      first, last, at = at, at + size - 1, at + size
    else
      foreign.refuse("wire type %d at byte %d", wire, at)
    end
    if field then
      local name, kind, repeated = field[1], field[2], field[3]
      local right = kind == "int" and wire == 0 or kind == "float" and wire == 5 or kind == "ints" and (wire == 0 or wire == 2)
        or kind == "floats" and (wire == 5 or wire == 2) or (kind == "text" or type(kind) == "table") and wire == 2 or kind == "range"
      if not right then foreign.refuse("the field %s has the wire type %d", name, wire) end
      if repeated or packed[kind] then count(budget, packed[kind] and 1 + (last - first) // 8 or 1) end
      if kind == "int" then out[name] = value
      elseif kind == "float" then out[name] = string.unpack("<f", s, first)
      elseif kind == "text" then put(out, name, s:sub(first, last), repeated)
      elseif kind == "range" then put(out, name, { first, last }, repeated)
      elseif packed[kind] then
        out[name] = out[name] or {}
        packed[kind](s, first, last, out[name])
      else put(out, name, proto.decode(s, first, last, kind, depth + 1, budget), repeated) end
    end
  end
  return out
end

-- ---- writing -----------------------------------------------------------------------------------------------------------------

local function number(v)
  local bytes = {}
  repeat
    local low = v & 0x7f
    v = v >> 7
    bytes[#bytes + 1] = string.char(v ~= 0 and low | 0x80 or low)
  until v == 0
  return table.concat(bytes)
end

--- Fields as bytes: an integer, a float, and bytes (a text or a message).
function proto.int(field, v) return number(field << 3) .. number(v) end
function proto.float(field, v) return number(field << 3 | 5) .. string.pack("<f", v) end
function proto.bytes(field, s) return number(field << 3 | 2) .. number(#s) .. s end
--- Only the head of such a field, whose `size` bytes follow.
function proto.head(field, size) return number(field << 3 | 2) .. number(size) end

return proto
