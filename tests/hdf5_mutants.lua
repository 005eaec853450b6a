-- Hostile HDF5 files: mutants of good ones whose metadata checksums are right again, so that the library looks at what was changed.
-- Bob Jenkins's lookup3 (hashlittle, start 0), which HDF5 uses for superblocks of version 2 and 3, object headers of version 2 and its indices.
local mutants = {}

local M32 = 0xffffffff
local function rot(x, k) return (x << k | x >> (32 - k)) & M32 end

--- The checksum of bytes[from .. from + size - 1].
function mutants.lookup3(bytes, from, size)
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

--- The regions of a file that end in a checksum: list of { from =, size = } (without the four bytes of the checksum).
function mutants.regions(bytes)
  local list = {}
  local function try(from, size)
    if from + size + 3 > #bytes or string.unpack("<I4", bytes, from + size) ~= mutants.lookup3(bytes, from, size) then return false end
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
  return list
end

local values = { 0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, -1, -2 }

--- A mutant of the bytes: one to four changes (a bit, a byte, a field of 1 to 8 bytes, a copy from elsewhere) in the regions, checksums repaired.
--- `random(n)` gives 1 to n.
function mutants.make(bytes, regions, random)
  local touched = {}
  for _ = 1, random(4) do
    local region = regions[random(#regions)]
    touched[region] = true
    local at = region.from + (random(8) == 1 and random(region.size) - 1 or math.min(region.size - 1, 4 + random(region.size) - 1))
    local kind, last = random(4), region.from + region.size - 1
    local piece
    if kind == 1 then
      piece = string.char(bytes:byte(at) ~ 1 << (random(8) - 1))
    elseif kind == 2 then
      piece = string.char(random(256) - 1)
    elseif kind == 3 then
      piece = string.pack("<i8", values[random(#values)]):sub(1, 1 << (random(4) - 1))
    else
      local from = random(#bytes - 16)
      piece = bytes:sub(from, from + random(16))
    end
    piece = piece:sub(1, last - at + 1)
    bytes = bytes:sub(1, at - 1) .. piece .. bytes:sub(at + #piece)
  end
  for region in pairs(touched) do
    local sum = string.pack("<I4", mutants.lookup3(bytes, region.from, region.size))
    bytes = bytes:sub(1, region.from + region.size - 1) .. sum .. bytes:sub(region.from + region.size + 4)
  end
  return bytes
end

--- Reads o.count mutants of the files whose names are in `o`, with the numbers o.first, o.first + o.step, ...: each is drawn from its own number, so
--- that it can be made again. Each must give a tree, or nil and one line, within 5 seconds. Gives { ran, refused, died (the helper), slowest
--- (seconds), grown (bytes that this process took more at its highest) }.
function mutants.sweep(o)
  local core = require "nnlua.core"
  local support = dofile "tests/support.lua"
  local function peak() -- bytes
    local f <close> = assert(io.open "/proc/self/status")
    return f:read "a":match "VmHWM:%s*(%d+)" * 1024
  end
  local files, regions = {}, {}
  for i, name in ipairs(o) do
    local f <close> = assert(io.open(name, "rb"))
    files[i] = f:read "a"
    regions[i] = mutants.regions(files[i])
    assert(#regions[i] >= 3)
    assert(core.h5_foreign("whole", files[i]))
  end
  local n, before = { ran = 0, refused = 0, died = 0, slowest = 0 }, peak()
  for i = o.first, o.count, o.step do
    local random = support.random(o.seed + i)
    local which, start = i % #files + 1, core.sys.clock()
    local tree, text = core.h5_foreign("mutant", mutants.make(files[which], regions[which], function(k) return random.int(1, k) end))
    local seconds = core.sys.clock() - start
    assert(seconds < 5, ("mutant %d took %.1f s"):format(i, seconds))
    n.ran, n.slowest = n.ran + 1, math.max(n.slowest, seconds)
    if not tree then
      n.refused = n.refused + 1
      assert(#text > 15 and not text:find "\n", text)
      if text:find("libhdf5 dies", 1, true) then n.died = n.died + 1 end
    end
  end
  n.grown = peak() - before
  return n
end

return mutants
