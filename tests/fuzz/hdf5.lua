-- HDF5 files as parts whose checksums of metadata can be made right again, so that the library looks at what was changed in them.
-- Bob Jenkins's lookup3 (hashlittle, start 0), which HDF5 uses for superblocks of version 2 and 3, object headers of version 2 and its indices.
local hdf5 = {}

local M32 = 0xffffffff
local function rot(x, k) return (x << k | x >> (32 - k)) & M32 end

-- The checksum of bytes[from .. from + size - 1].
local function lookup3(bytes, from, size)
  local a = (0xdeadbeef + size) & M32
  local b, c, at, left = a, a, from, size
  while left > 12 do
    local x, y, z = string.unpack("<I4I4I4", bytes, at)
    a, b, c = (a + x) & M32, (b + y) & M32, (c + z) & M32
    a = (a - c) & M32 ~ rot(c, 4)
    c = (c + b) & M32
    b = (b - a) & M32 ~ rot(a, 6)
    a = (a + c) & M32
    c = (c - b) & M32 ~ rot(b, 8)
    b = (b + a) & M32
    a = (a - c) & M32 ~ rot(c, 16)
    c = (c + b) & M32
    b = (b - a) & M32 ~ rot(a, 19)
    a = (a + c) & M32
    c = (c - b) & M32 ~ rot(b, 4)
    b = (b + a) & M32
    at, left = at + 12, left - 12
  end
  if left == 0 then return c end
  local x, y, z = string.unpack("<I4I4I4", bytes:sub(at, at + left - 1) .. ("\0"):rep(12 - left))
  a, b, c = (a + x) & M32, (b + y) & M32, (c + z) & M32
  c = ((c ~ b) - rot(b, 14)) & M32
  a = ((a ~ c) - rot(c, 11)) & M32
  b = ((b ~ a) - rot(a, 25)) & M32
  c = ((c ~ b) - rot(b, 16)) & M32
  a = ((a ~ c) - rot(c, 4)) & M32
  b = ((b ~ a) - rot(a, 14)) & M32
  return ((c ~ b) - rot(b, 24)) & M32
end

local LONGEST = 1200

-- The regions of a file that end in a checksum: list of { from =, size = } (without the four bytes of the checksum), in order.
local function regions(bytes)
  local list = {}
  local function try(from, size)
    if from + size + 3 > #bytes or string.unpack("<I4", bytes, from + size) ~= lookup3(bytes, from, size) then return false end
    list[#list + 1] = { from = from, size = size }
    return true
  end
  try(1, 44)
  for _, signature in ipairs { "OHDR", "OCHK", "FRHP", "FHIB", "BTHD", "BTLF", "BTIN", "EAHD", "EAIB", "EADB", "FAHD", "FADB" } do
    local at = bytes:find(signature, 1, true)
    while at do
      for size = 8, LONGEST do
        if try(at, size) then break end
      end
      at = bytes:find(signature, at + 4, true)
    end
  end
  table.sort(list, function(a, b) return a.from < b.from end)
  return list
end

--- The file as parts: what lies between the regions (odd places), and the regions without their checksums (even places).
function hdf5.parts(bytes)
  local parts, at = {}, 1
  for _, r in ipairs(regions(bytes)) do
    if r.from >= at then
      parts[#parts + 1], parts[#parts + 2] = bytes:sub(at, r.from - 1), bytes:sub(r.from, r.from + r.size - 1)
      at = r.from + r.size + 4
    end
  end
  parts[#parts + 1] = bytes:sub(at)
  return parts
end

--- The file of such parts, checksums made again.
function hdf5.join(parts)
  local out = {}
  for i, part in ipairs(parts) do out[i] = i % 2 == 0 and part .. string.pack("<I4", lookup3(part, 1, #part)) or part end
  return table.concat(out)
end

return hdf5
