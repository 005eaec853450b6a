--- ZIP archives: for `.keras` and `.npz` files. Members that are stored or deflated; nothing is ever unpacked to a folder.
--
-- Owns: the format (PKWARE's APPNOTE 6.3), and what is refused: members whose place or size the file cannot hold, that overlap, come twice, are
-- encrypted, unpack to more than 1000 times their bytes, or whose CRC-32 does not match. Sizes above 4 GiB (ZIP64) are not read.
--
--     local zip = require "nnlua.zip"
--     local bytes = zip.pack{ { "a.txt", "hello" } }
--     local members = assert(zip.parse(bytes, "example"))
--     print(members.names[1], members.read "a.txt")   --> a.txt  hello

local core = require "nnlua.core"
local options = require "nnlua.options"

local zip = {}
local MOST_MEMBERS, MOST_RATIO = 65535, 1000

-- `size` bytes from offset `at` of a source: a string or an open file.
local function bytes_of(source, at, size)
  if type(source) == "string" then return source:sub(at + 1, at + size) end
  if size == 0 then return "" end
  source:seek("set", at)
  return source:read(size) or ""
end

-- The end record: number of members, size and place of their list.
local function end_record(source, total)
  local tail_size = math.min(total, 22 + 65535)
  local tail = bytes_of(source, total - tail_size, tail_size)
  for at = #tail - 21, 1, -1 do
    if tail:sub(at, at + 3) == "PK\5\6" then
      local _, disk, first_disk, here, count, size, offset, comment = string.unpack("<I4I2I2I2I2I4I4I2", tail, at)
      local whole = at + 21 + comment == #tail and disk == 0 and first_disk == 0 and here == count
      if whole then return count, size, offset, total - tail_size + at - 1 end
    end
  end
end

local function entry(list, at)
  if at + 45 > #list or list:sub(at, at + 3) ~= "PK\1\2" then return nil end
  local _, _, _, flags, method, _, _, crc, packed, size, name_size, extra, comment, _, _, attributes, offset =
    string.unpack("<I4I2I2I2I2I2I2I4I4I4I2I2I2I2I2I4I4", list, at)
  local next_at = at + 46 + name_size + extra + comment
  if next_at > #list + 1 then return nil end
  return { name = list:sub(at + 46, at + 45 + name_size), flags = flags, method = method, crc = crc, packed = packed, size = size, offset = offset,
    mode = attributes >> 16 }, next_at
end

-- What is wrong with a member, or nil.
local function fault(m, list_at)
  if m.packed == 0xffffffff or m.size == 0xffffffff or m.offset == 0xffffffff then return "is larger than 4 GiB, which is not read" end
  if m.flags & 1 ~= 0 then return "is encrypted" end
  if m.method ~= 0 and m.method ~= 8 then return ("is packed by method %d; stored and deflated members are read"):format(m.method) end
  local kind = m.mode & 0xf000
  if kind == 0xa000 then return "is a symbolic link" end
  if kind ~= 0 and kind ~= 0x8000 and kind ~= 0x4000 then return "is no plain file" end
  if m.name == "" or m.name:find "%c" or m.name:sub(1, 1) == "/" or ("/" .. m.name .. "/"):find "/%.%./" or m.name:find "\\" or
    m.name:find "^%a:" then
    return "has a name that leads elsewhere"
  end
  if m.offset + 30 + #m.name + m.packed > list_at then return "lies outside the file" end
  if m.method == 0 and m.size ~= m.packed or m.size > m.packed * MOST_RATIO then return "claims a size that its bytes cannot hold" end
end

-- The bytes of a member; or nil and what is wrong.
local function read(source, m)
  local head = bytes_of(source, m.offset, 30)
  if #head < 30 or head:sub(1, 4) ~= "PK\3\4" then return nil, "has no head where the list says" end
  local name_size, extra = string.unpack("<I2I2", head, 27)
  local from = m.offset + 30 + name_size + extra
  if from + m.packed > m.limit then return nil, "reaches into what follows it" end
  local bytes, why = bytes_of(source, from, m.packed), nil
  if #bytes < m.packed then return nil, "is cut" end
  if m.method == 8 then bytes, why = core.inflate(bytes, m.size) end
  if not bytes then return nil, why end
  if core.crc32(bytes) ~= m.crc then return nil, "is damaged: its CRC-32 does not match" end
  return bytes
end

local function parse(source, total, name)
  local function bad(what, ...) return nil, ("%s: not a ZIP archive or damaged: "):format(name) .. what:format(...) end
  local count, list_size, list_at, end_at = end_record(source, total)
  if not count then return bad "it has no end record" end
  if count > MOST_MEMBERS or list_at + list_size > end_at then return bad "its list of members lies outside the file" end
  local list, by_name, names, order, at = bytes_of(source, list_at, list_size), {}, {}, {}, 1
  for i = 1, count do
    local m
    m, at = entry(list, at)
    if not m then return bad("member %d of its list is cut", i) end
    local wrong = by_name[m.name] and "comes twice" or fault(m, list_at)
    if wrong then return nil, ("%s: refused: the member %s %s"):format(name, options.shown(m.name), wrong) end
    by_name[m.name], names[i], order[i] = m, m.name, m
  end
  table.sort(order, function(a, b) return a.offset < b.offset end)
  for i, m in ipairs(order) do
    m.limit = order[i + 1] and order[i + 1].offset or list_at
    if m.offset + 30 + #m.name + m.packed > m.limit then
      return nil, ("%s: refused: the members %s and %s overlap"):format(name, options.shown(m.name), options.shown(order[i + 1].name))
    end
  end
  local function member(wanted)
    local m = by_name[wanted]
    if not m then return nil, ("%s: has no member %s"):format(name, options.shown(wanted)) end
    local bytes, why = read(source, m)
    if not bytes then return nil, ("%s: the member %s %s"):format(name, options.shown(wanted), why) end
    return bytes
  end
  local function size(wanted) return by_name[wanted] and by_name[wanted].size end
  return { names = names, read = member, size = size, has = function(wanted) return by_name[wanted] ~= nil end }
end

--- The members of an archive in a string: { names =, has(name), size(name), read(name) -> bytes | nil, message }; or nil and a message. `name` is
--- for messages.
---@param bytes string
---@param name string
function zip.parse(bytes, name) return parse(bytes, #bytes, name) end

--- The same of a file, whose members are read when they are asked for. `close` it.
---@param file string
function zip.open(file)
  local f, message = io.open(file, "rb")
  if not f then return nil, message end
  local total = f:seek "end"
  if not total or total == math.maxinteger then -- a folder
    f:close()
    return nil, ("%s: not a file"):format(file)
  end
  local members, why = parse(f, total, file)
  if not members then
    f:close()
    return nil, why
  end
  function members.close() f:close() end
  return members
end

--- An archive of stored members, as a string: `zip.pack{ { name, bytes }, ... }`. The same members give the same bytes.
---@param members { [1]: string, [2]: string }[]
---@return string
function zip.pack(members)
  local parts, list, offset = {}, {}, 0
  for i, m in ipairs(members) do
    local name, bytes = m[1], m[2]
    if #bytes >= 0xffffffff or offset >= 0xffffffff then options.raise(("zip: %s: archives above 4 GiB are not written"):format(name)) end
    local common = string.pack("<I2I2I2I2I2I4I4I4I2I2", 20, 0x800, 0, 0, 0x21, core.crc32(bytes), #bytes, #bytes, #name, 0) -- UTF-8; 1980-01-01
    parts[#parts + 1] = "PK\3\4" .. common .. name
    parts[#parts + 1] = bytes
    list[i] = "PK\1\2" .. string.pack("<I2", 20) .. common .. string.pack("<I2I2I2I4I4", 0, 0, 0, 0, offset) .. name
    offset = offset + 30 + #name + #bytes
  end
  local directory = table.concat(list)
  parts[#parts + 1] = directory
  parts[#parts + 1] = "PK\5\6" .. string.pack("<I2I2I2I2I4I4I2", 0, 0, #list, #list, #directory, offset, 0)
  return table.concat(parts)
end

return zip
