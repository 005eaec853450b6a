-- Damaged files: mutate.make(seed file, others, random) -> bytes.
--
-- A seed is a string, or { parts = { strings }, join = function(parts) -> string } of a format with lengths or checksums: then mostly one part is
-- damaged and the whole is joined again with lengths and checksums that are right, so that the reader looks behind them; else the whole bytes are.
local mutate = {}

local fields = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, -1, -2, 1 << 40,
  1 << 53, 1 << 63 }
local numerals = { "0", "-1", "1", "7", "255", "65536", "2147483647", "2147483648", "4294967296", "9007199254740993", "9223372036854775807",
  "9223372036854775808", "1e308", "1e999", "-0.5", "99999999999999999999999999", "", "null", "[]", "{}", '""', "true" }
local marks = { "\0", "\n", "\r\n", '"', "'", ",", "{", "}", "[", "]", "\\", "\\u0000", "\\ud800", "\255", "\239\187\191", "(", ")", "-", ".", "/" }

--- A generator of integers: random(n) gives 1 to n, random(a, b) a to b; the same for the same two numbers.
function mutate.random(seed, case)
  local state = (seed * 0x9E3779B97F4A7C15 ~ case * 0xD1B54A32D192ED03) | 1
  local function random(a, b)
    if not b then a, b = 1, a end
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return a + (state >> 11) % (b - a + 1)
  end
  for _ = 1, 4 do random(2) end
  return random
end

local function put(bytes, at, piece) return bytes:sub(1, at - 1) .. piece .. bytes:sub(at + #piece) end

-- Each gives the bytes changed at `at`.
local changes = {}
function changes.flip(bytes, at, random) return put(bytes, at, string.char((bytes:byte(at) or 0) ~ 1 << random(0, 7))) end
function changes.byte(bytes, at, random) return put(bytes, at, string.char(random(0, 255))) end
function changes.field(bytes, at, random) -- a length, size or offset of 1 to 8 bytes, of either order
  local packed = string.pack(random(3) == 1 and ">i8" or "<i8", fields[random(#fields)])
  local width = 1 << random(0, 3)
  return put(bytes, at, packed:byte(1) == 0 and packed:sub(9 - width) or packed:sub(1, width))
end
function changes.cut(bytes, at) return bytes:sub(1, at - 1) end
function changes.insert(bytes, at, random) return bytes:sub(1, at - 1) .. string.char(random(0, 255)):rep(random(9)) .. bytes:sub(at) end
function changes.mark(bytes, at, random) return bytes:sub(1, at - 1) .. marks[random(#marks)] .. bytes:sub(at) end
function changes.remove(bytes, at, random) return bytes:sub(1, at - 1) .. bytes:sub(at + random(9)) end
function changes.again(bytes, at, random) -- a piece twice, or many times
  local piece = bytes:sub(at, at + random(random(2) == 1 and 16 or 200))
  return bytes:sub(1, at - 1) .. piece:rep(random(8) == 1 and random(200) or 2) .. bytes:sub(at + #piece)
end
function changes.splice(bytes, at, random, other) -- a piece from elsewhere, over what is there
  local from = random(math.max(1, #other))
  return put(bytes, at, other:sub(from, from + random(random(2) == 1 and 8 or 100)))
end
function changes.numeral(bytes, at, random) -- the next number in text
  local from, to = bytes:find("%d[%d%.]*", at)
  if not from then return changes.flip(bytes, at, random) end
  return bytes:sub(1, from - 1) .. numerals[random(#numerals)] .. bytes:sub(to + 1)
end
local kinds = { "flip", "flip", "flip", "byte", "field", "field", "field", "cut", "insert", "mark", "remove", "again", "splice", "splice", "numeral",
  "numeral" }

local function damage(bytes, other, random, times)
  for _ = 1, times do
    if #bytes == 0 then return "x" end
    local at = random(random(2) == 1 and math.min(#bytes, 400) or #bytes) -- heads are where the lies tell
    bytes = changes[kinds[random(#kinds)]](bytes, at, random, other)
    if #bytes > 1 << 20 then bytes = bytes:sub(1, 1 << 20) end
  end
  return bytes
end

local function whole(seed) return type(seed) == "string" and seed or seed.join(seed.parts) end
mutate.whole = whole

--- One of the seeds, damaged.
function mutate.make(seeds, random)
  local seed, other = seeds[random(#seeds)], whole(seeds[random(#seeds)])
  local times = random(random(2) == 1 and 1 or 4)
  if type(seed) == "string" or random(4) == 1 then return damage(whole(seed), other, random, times) end
  local parts = table.move(seed.parts, 1, #seed.parts, 1, {})
  local which = random(#parts)
  local kind = random(16)
  if kind == 1 then table.remove(parts, which)
  elseif kind == 2 then table.insert(parts, random(#parts), parts[which])
  else parts[which] = damage(parts[which], random(2) == 1 and other or parts[random(#parts)], random, times) end
  return seed.join(parts)
end

return mutate
