-- What the specs of the library share: comparing tensors with plain tables, messages of errors, reference arithmetic in doubles.
local support = {}

--- All numbers of nested tables, row-major.
function support.flat(t, into)
  into = into or {}
  if type(t) ~= "table" then
    into[#into + 1] = t
  else
    for _, v in ipairs(t) do support.flat(v, into) end
  end
  return into
end

--- Fails unless `actual` (tensor or nested table) has the numbers of `expected` within `tolerance`, absolute and relative. NaN fails.
function support.close(expected, actual, tolerance, what)
  if type(expected) == "userdata" then expected = expected:totable() end
  if type(actual) == "userdata" then actual = actual:totable() end
  local e, a = support.flat(expected), support.flat(actual)
  assert(#e == #a, ("%s: %d values expected, got %d"):format(what or "close", #e, #a))
  tolerance = tolerance or 1e-5
  for i = 1, #e do
    local within = math.abs(e[i] - a[i]) <= tolerance * math.max(1, math.abs(e[i])) -- false for NaN
    if not within then
      error(("%s: value %d: expected %.9g, got %.9g (tolerance %g)"):format(what or "close", i, e[i], a[i], tolerance), 2)
    end
  end
end

--- The message of an error that must happen, without its position.
function support.message(f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "an error was expected")
  return (tostring(err):gsub("^[^\n]-:%d+: ", ""))
end

--- n x m table of f(i, j).
function support.matrix(n, m, f)
  local t = {}
  for i = 1, n do
    t[i] = {}
    for j = 1, m do t[i][j] = f(i, j) end
  end
  return t
end

--- Softmax of a row, in doubles.
function support.softmax(row)
  local big, total, out = math.max(table.unpack(row)), 0, {}
  for i, v in ipairs(row) do
    out[i] = math.exp(v - big)
    total = total + out[i]
  end
  for i = 1, #row do out[i] = out[i] / total end
  return out
end

--- Numbers that look arbitrary and are the same everywhere, in (-1, 1).
function support.noise(seed)
  local state = seed or 1
  return function()
    state = (state * 1103515245 + 12345) % 2147483648
    return state / 1073741824 - 1
  end
end

--- Where two texts part: "f32 2x3 ... at byte 12: 00 00 80 3f", for messages about bits.
function support.hex(text, other)
  local at = 1
  while at <= #text and text:byte(at) == other:byte(at) do at = at + 1 end
  local piece = text:sub(at - (at - 1) % 4, at + 11):gsub(".", function(c) return ("%02x "):format(c:byte()) end)
  return ("%s... (%d bytes) at byte %d: %s"):format(text:match "^[%g]+ [%g]* ?" or "", #text, at, piece)
end

--- A generator of its own (the program's math.random stays untouched): rng.int(a, b), rng.real(a, b), rng.chance(p), rng.pick(list).
function support.random(seed)
  local state = (seed * 2654435761 + 1013904223) & 0xffffffffffffffff
  local rng = {}
  local function bits() -- splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
    state = state + 0x9e3779b97f4a7c15
    local z = state
    z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
    z = (z ~ (z >> 27)) * 0x94d049bb133111eb
    return (z ~ (z >> 31)) >> 11
  end
  function rng.real(a, b) return a + (b - a) * (bits() * 2.0 ^ -53) end
  function rng.int(a, b) return a + bits() % (b - a + 1) end
  function rng.chance(p) return rng.real(0, 1) < p end
  function rng.pick(list) return list[rng.int(1, #list)] end
  function rng.shuffle(list)
    for i = #list, 2, -1 do
      local k = rng.int(1, i)
      list[i], list[k] = list[k], list[i]
    end
    return list
  end
  return rng
end

--- How many cases a sweep runs whose stated figure is n: NNLUA_SOAK=10 (scripts/soak.sh) asks for ten times as many. Under AddressSanitizer a tenth,
--- where each case starts a process (`processes`), which takes a second there.
function support.cases(n, processes)
  local factor = tonumber(os.getenv "NNLUA_SOAK" or "") or 1
  return math.max(1, n * factor // (processes and os.getenv "ASAN_OPTIONS" and 10 or 1) // 1 | 0)
end

--- The seed of a sweep: NNLUA_SEED, or `default`.
function support.seed(default) return math.tointeger(tonumber(os.getenv "NNLUA_SEED" or "")) or default end

-- What a device beside the CPU says of what it has not.
local LACKS = { "f64 is computed on the CPU only", "has no kernel for this operator" }

--- Why an error is no failure on the current device (its message), or nil.
function support.lacks(err)
  err = tostring(type(err) == "table" and err.message or err)
  for _, text in ipairs(LACKS) do
    if err:find(text, 1, true) then return (err:gsub("^[^\n]-:%d+: ", ""):match "^[^\n]*") end
  end
end

--- `it` on the CPU. On another device (NNLUA_DEVICE) one under which a test that needs what the device has not becomes pending, by name and with
--- what the device said, so that it is counted. `host(name, why, f)`, the second result, is for what holds on the CPU only.
function support.on_device(it)
  local device = require "nnlua".device()
  if device == "cpu" then return it, function(name, _, f) it(name, f) end end
  local function excepted(why) require "busted.core"().pending(device .. " excepts: " .. why) end -- what `pending` is inside of a test
  local function tolerant(name, f)
    it(name, f and function()
      local ok, err = xpcall(f, function(e) return type(e) == "string" and not support.lacks(e) and debug.traceback(e, 2) or e end)
      if ok then return end
      local why = support.lacks(err)
      if why then excepted(why) else error(err, 0) end
    end)
  end
  return tolerant, function(name, why) it(name, function() excepted(why) end) end
end

--- The same bytes as gzip: stored blocks, so that nothing but this says what they are.
function support.gzipped(s)
  local out = { "\31\139\8\0\0\0\0\0\0\3" }
  for at = 1, math.max(#s, 1), 65535 do
    local piece = s:sub(at, at + 65534)
    out[#out + 1] = string.pack("<BI2I2", at + 65535 > #s and 1 or 0, #piece, #piece ~ 0xffff) .. piece
  end
  return table.concat(out) .. string.pack("<I4I4", require("nnlua.core").crc32(s), #s)
end

--- The name of a new file with this content. It is removed when the program ends.
local kept = setmetatable({}, { __gc = function(list)
  for _, path in ipairs(list) do os.remove(path) end
end })
function support.file(content)
  local path = os.tmpname()
  kept[#kept + 1] = path
  local f = assert(io.open(path, "wb"))
  f:write(content)
  f:close()
  return path
end

--- TFRecord's check of some bytes, and bytes as a record.
function support.masked_crc(s)
  local crc = require("nnlua.tensorboard").crc32c(s)
  return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff
end

function support.record(s)
  local length = string.pack("<I8", #s)
  return length .. string.pack("<I4", support.masked_crc(length)) .. s .. string.pack("<I4", support.masked_crc(s))
end

--- A u8 vector as the string that it is, others as plain values; an element of one part without a list around it.
function support.plain(...)
  local out = {}
  for i, t in ipairs { ... } do
    out[i] = t:dtype() == "u8" and #t:shape() == 1 and require("nnlua.core").sources.text(t) or t:totable()
  end
  return #out == 1 and out[1] or out
end

--- The elements of a pass, plain; at most `most`.
function support.elements(ds, most)
  local out = {}
  local pass <close> = ds:iter()
  while #out ~= most do
    local element = table.pack(pass())
    if element.n == 0 then break end
    out[#out + 1] = support.plain(table.unpack(element, 1, element.n))
  end
  return out
end

return support
