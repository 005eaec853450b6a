--- NumPy's files: `nn.numpy`. `.npy` is one tensor, `.npz` an archive of them by name.
--
-- Owns: the format of `.npy` (versions 1 to 3 are read, 1 is written; either byte order; Fortran order becomes ours) and that an `.npz` is a ZIP archive of
-- `.npy` files, stored or deflated. Refused: objects (pickles), records, texts, complex numbers, shapes that the file cannot hold. i1, i2 and u2
-- become i32, u4 and u8 i64; bf16 has no type there and is refused in saving.
--
--     local nn = require "nnlua"
--     local file = os.tmpname()
--     assert(nn.numpy.save(file, nn.tensor{ {1, 2}, {3, 4} }))
--     print(assert(nn.numpy.load(file)):sum():item())   --> 10
--     assert(nn.numpy.save_npz(file, { x = nn.ones(3), y = nn.zeros(2) }))
--     print(assert(nn.numpy.load_npz(file)).x:size(1))   --> 3
--     os.remove(file)

local core = require "nnlua.core"
local options = require "nnlua.options"
local foreign = require "nnlua.foreign"
local zip = require "nnlua.zip"

local numpy = {}
local MAGIC, MOST_HEADER = "\147NUMPY", 65536

local types = { bool = { "|b1", "<b1" }, u8 = { "|u1" }, i32 = { "<i4" }, i64 = { "<i8" }, f16 = { "<f2" }, f32 = { "<f4" }, f64 = { "<f8" } }

-- The descr of a header as an encoding of core.elements and bytes an element.
local function encoding_of(descr)
  local order, kind, size = descr:match "^([<>=|])([biuf])(%d)$"
  local known = kind and ({ b = "1", i = "1248", u = "1248", f = "248" })[kind]:find(size, 1, true)
  if not known or order == "|" and size ~= "1" then foreign.refuse("elements of the type %s are not read", options.shown(descr)) end
  return (order == ">" and ">" or "<") .. kind .. size, tonumber(size)
end

-- Python's dict of three entries, in any order.
local function header_of(text)
  local found, rest = {}, text:match "^%s*{(.*)}%s*$"
  if not rest then foreign.refuse "its header is no dict" end
  local function take(key, pattern)
    local value
    rest = rest:gsub("['\"]" .. key .. "['\"]%s*:%s*" .. pattern, function(v)
      if value then foreign.refuse("its header has %s twice", key) end
      value = v
      return ""
    end)
    if not value then foreign.refuse("its header has no %s that is read", key) end
    found[key] = value
  end
  take("descr", "['\"]([^'\"]*)['\"]")
  take("fortran_order", "(%a+)")
  take("shape", "(%b())")
  if rest:find "[^%s,]" then foreign.refuse "its header holds more than descr, fortran_order and shape" end
  if found.fortran_order ~= "True" and found.fortran_order ~= "False" then foreign.refuse "its fortran_order is neither True nor False" end
  local shape = {}
  local inside = found.shape:sub(2, -2)
  if inside:find "[^%d%s,L]" then foreign.refuse("its shape is %s", found.shape) end
  for digits in inside:gmatch "%d+" do
    shape[#shape + 1] = #digits <= 18 and math.tointeger(tonumber(digits)) or foreign.refuse("a size of %s", digits)
  end
  return found.descr, found.fortran_order == "True", shape
end

-- head: the first bytes; total: of the file or member; from, name: of core.elements.
local function read(head, total, from, name)
  if head:sub(1, 6) ~= MAGIC or #head < 10 then foreign.refuse "not a .npy file" end
  local major = head:byte(7)
  if major < 1 or major > 3 or head:byte(8) ~= 0 then foreign.refuse("version %d.%d of .npy; 1 to 3 are read", major, head:byte(8)) end
  if major > 1 and #head < 12 then foreign.refuse "truncated: its header is cut" end
  local size, at = string.unpack(major == 1 and "<I2" or "<I4", head, 9)
  if size > MOST_HEADER then foreign.refuse("a header of %d bytes; at most %d are read", size, MOST_HEADER) end
  if at - 1 + size > #head then foreign.refuse "truncated: its header is cut" end
  local descr, fortran, shape = header_of(head:sub(at, at + size - 1))
  local encoding, width = encoding_of(descr)
  local bytes, offset = foreign.elements(shape, "the array") * width, at - 1 + size
  if bytes ~= total - offset then foreign.refuse("%d bytes of elements, its shape and type need %d", total - offset, bytes) end
  local order = {}
  if fortran and #shape > 1 then
    for i = 1, #shape // 2 do shape[i], shape[#shape + 1 - i] = shape[#shape + 1 - i], shape[i] end
    for i = 1, #shape do order[i] = #shape + 1 - i end
  end
  local tensor = foreign.tensor(type(from) == "string" and from:sub(offset + 1) or from, encoding, shape, offset, name)
  return #order > 0 and tensor:permute(order):contiguous() or tensor
end

local function read_file(file)
  local f, total = foreign.open(file)
  local _ <close> = setmetatable({}, { __close = function() f:close() end })
  f:seek "set"
  return read(f:read(math.min(total, MOST_HEADER + 12)) or "", total, f, file)
end

--- The tensor of a `.npy` file; or nil and a message.
---@param file string
---@return nnlua.Tensor?, string?
function numpy.load(file) return foreign.guard(tostring(file), read_file, file) end

-- The bytes before the elements.
local function head_for(t, what)
  local kind = types[t:dtype()]
  if not kind then options.raise(("%s: NumPy has no type for %s; convert with x:to \"f32\""):format(what, t:dtype())) end
  local shape = table.concat(t:shape(), ", ") .. (t:dim() == 1 and "," or "")
  local text = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"):format(kind[1], shape)
  text = text .. (" "):rep(-(#text + 11) % 64) .. "\n"
  return MAGIC .. "\1\0" .. string.pack("<I2", #text) .. text
end

--- Save a tensor as a `.npy` file, atomically: true, or nil and a message.
---@param file string
---@param t nnlua.Tensor
function numpy.save(file, t)
  if not core.is_tensor(t) then options.raise("numpy.save: needs a tensor, got " .. options.shown(t)) end
  return core.file_replace(file, { head_for(t, "numpy.save"), t })
end

local function read_npz(file)
  local members, message = zip.open(file)
  if not members then foreign.refuse(message) end
  local _ <close> = setmetatable({}, { __close = members.close })
  local tensors = {}
  for _, member in ipairs(members.names) do
    local name, bytes = member:match "^(.+)%.npy$", nil
    if not name then foreign.refuse("the member %s is no .npy file", options.shown(member)) end
    bytes, message = members.read(member)
    if not bytes then foreign.refuse(message) end
    local tensor
    tensor, message = foreign.guard("the member " .. member, read, bytes, #bytes, bytes, member)
    if not tensor then foreign.refuse(message) end
    tensors[name] = tensor
  end
  return tensors
end

--- The tensors of an `.npz` file by name; or nil and a message.
---@param file string
---@return table<string, nnlua.Tensor>?, string?
function numpy.load_npz(file) return foreign.guard(tostring(file), read_npz, file) end

--- Save tensors by name as an `.npz` file (stored, not deflated), atomically: true, or nil and a message.
---@param file string
---@param tensors table<string, nnlua.Tensor>
function numpy.save_npz(file, tensors)
  local members = {}
  for i, name in ipairs(foreign.sorted(tensors, "numpy.save_npz")) do
    local t = tensors[name]
    if not core.is_tensor(t) then options.raise(("numpy.save_npz: %s must be a tensor, got %s"):format(name, options.shown(t))) end
    members[i] = { name .. ".npy", head_for(t, "numpy.save_npz") .. t:tostring_bytes() }
  end
  return core.file_replace(file, zip.pack(members))
end

return numpy
