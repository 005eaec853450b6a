-- Undamaged files of every format, small, and how their parts are joined again with lengths and checksums that are right (mutate.lua has the form).
local nn = require "nnlua"
local core = require "nnlua.core"
local zip = require "nnlua.zip"
local tensorboard = require "nnlua.tensorboard"
local root = debug.getinfo(1, "S").source:match "^@(.*/)fuzz/" or "./tests/"
local hdf5 = dofile(root .. "fuzz/hdf5.lua")
local seeds = {}

local slurp = dofile(root .. "files.lua").read

-- The bytes that save(file) writes.
local function saved(save, ending)
  local name = os.tmpname()
  local file = name .. (ending or "")
  assert(save(file))
  local bytes = slurp(file)
  os.remove(file)
  os.remove(name)
  return bytes
end

local function golden(folder, ...)
  local list = {}
  for i, name in ipairs { ... } do list[i] = slurp(root .. "golden/" .. folder .. "/" .. name) end
  return list
end

-- ---- packed bytes ------------------------------------------------------------------------------------------------------

local function noise(n)
  local random, list = nn.data and 7, {}
  for i = 1, n do
    random = (random * 1103515245 + 12345) & 0x7fffffff
    list[i] = string.char(i % 3 == 0 and random >> 16 & 255 or i // 16 & 255)
  end
  return table.concat(list)
end

local function chunks_of(png)
  local list, at = {}, 9
  while at <= #png do
    local size = string.unpack(">I4", png, at)
    list[#list + 1] = png:sub(at + 4, at + 7 + size)
    at = at + size + 12
  end
  return list
end
local function png_of(parts)
  local out = { "\137PNG\r\n\26\n" }
  for _, part in ipairs(parts) do out[#out + 1] = string.pack(">I4", math.max(0, #part - 4)) .. part .. string.pack(">I4", core.crc32(part)) end
  return table.concat(out)
end

-- Bytes really deflated, which libpng does for us: the rows of a picture with a 0 before each. { packed, content }
local function deflated()
  local picture = nn.from_string(noise(40 * 50), "u8", { 40, 50, 1 })
  local packed = {}
  for _, chunk in ipairs(chunks_of(nn.vision.encode(picture, "png"))) do
    if chunk:sub(1, 4) == "IDAT" then packed[#packed + 1] = chunk:sub(5) end
  end
  packed = table.concat(packed):sub(3, -5)
  return packed, assert(core.inflate(packed, 40 * 51))
end

local GZIP = "\31\139\8\0\0\0\0\0\0\3"
local function gzip_stored(s)
  local out = { GZIP }
  for at = 1, math.max(#s, 1), 65535 do
    local piece = s:sub(at, at + 65534)
    out[#out + 1] = string.pack("<BI2I2", at + 65535 > #s and 1 or 0, #piece, #piece ~ 0xffff) .. piece
  end
  return table.concat(out) .. string.pack("<I4I4", core.crc32(s), #s)
end
local function gzipped(s) return { parts = { s }, join = function(parts) return gzip_stored(table.concat(parts)) end } end

function seeds.gzip()
  local packed, content = deflated()
  local function member(parts) return GZIP .. (parts[1] or "") .. string.pack("<I4I4", core.crc32(content), #content) end
  return { member { packed }, { parts = { packed }, join = member }, gzipped "one line\nand another\n", gzip_stored "a\n" .. gzip_stored "b\n",
    GZIP:sub(1, 3) .. "\8" .. GZIP:sub(5) .. "name\0" .. gzip_stored("x\n"):sub(11) }
end

-- An archive with one stored and one deflated member.
function seeds.zip()
  local packed, content = deflated()
  local function pack(parts)
    local members = {}
    for i, part in ipairs(parts) do members[i] = { "m" .. i .. ".bin", part } end
    return zip.pack(members)
  end
  local function deflate_pack(parts)
    local body = parts[1] or ""
    local common = string.pack("<I2I2I2I2I2I4I4I4I2I2", 20, 0x800, 8, 0, 0x21, core.crc32(content), #body, #content, 1, 0)
    local list = "PK\1\2\20\0" .. common .. string.pack("<I2I2I2I4I4", 0, 0, 0, 0, 0) .. "d"
    return "PK\3\4" .. common .. "d" .. body .. list .. "PK\5\6" .. string.pack("<I2I2I2I2I4I4I2", 0, 0, 1, 1, #list, 31 + #body, 0)
  end
  return { { parts = { "hello", ("\0\1"):rep(300) }, join = pack }, { parts = { packed }, join = deflate_pack }, deflate_pack { packed },
    zip.pack { { "a/b.txt", "text" } } }
end

-- ---- tensors ---------------------------------------------------------------------------------------------------------------

function seeds.idx()
  local list = {}
  local packs = { [8] = "B", [9] = "b", [11] = ">i2", [12] = ">i4", [13] = ">f", [14] = ">d" }
  for code, pack in pairs(packs) do
    local bytes = { string.pack(">I2BB>I4I4", 0, code, 2, 6, 4) }
    for i = 1, 24 do bytes[i + 1] = pack:find "[fd]" and pack:pack(i / 2) or pack:pack(i) end
    list[#list + 1] = table.concat(bytes)
  end
  table.sort(list)
  list[#list + 1] = string.pack(">I2BB>I4I4I4", 0, 8, 3, 5, 10, 10) .. noise(500)
  list[#list + 1] = gzipped(list[#list])
  list[#list + 1] = gzip_stored(list[1])
  return list
end

local function npy_parts(bytes)
  local size = string.unpack("<I2", bytes, 9)
  return { parts = { bytes:sub(11, 10 + size), bytes:sub(11 + size) }, join = function(parts)
    return "\147NUMPY\1\0" .. string.pack("<I2", #(parts[1] or "") & 0xffff) .. table.concat(parts)
  end }
end
local function arrays()
  local list = {}
  for i, t in ipairs { nn.ones(2, 3, 4), nn.arange(0, 10):to "f64", nn.tensor { true, false }, nn.tensor(3), nn.zeros { 0, 4 },
    nn.arange(0, 12):to "i32":reshape { 3, 4 } } do
    list[i] = saved(function(file) return nn.numpy.save(file, t) end)
  end
  local fortran = list[6]:gsub("'fortran_order': False, ", "'fortran_order': True,  ")
  list[#list + 1] = fortran
  list[#list + 1] = list[6]:gsub("<i4", ">i4")
  return list
end
function seeds.npy()
  local list = {}
  for _, bytes in ipairs(arrays()) do
    list[#list + 1] = npy_parts(bytes)
    list[#list + 1] = bytes
  end
  return list
end
function seeds.npz()
  local members = arrays()
  local function join(parts)
    local list = {}
    for i, part in ipairs(parts) do list[i] = { "x" .. i .. ".npy", part } end
    return zip.pack(list)
  end
  return { { parts = members, join = join }, join { members[1], members[4] } }
end

function seeds.safetensors()
  local function split(bytes)
    local size = string.unpack("<I8", bytes)
    return { parts = { bytes:sub(9, 8 + size), bytes:sub(9 + size) }, join = function(parts)
      return string.pack("<I8", #(parts[1] or "")) .. table.concat(parts)
    end }
  end
  local all = { a = nn.ones(2, 3), b = nn.arange(0, 5):to "i64", c = nn.tensor { true }, d = nn.zeros(4):to "f16", e = nn.zeros(3):to "bf16",
    f = nn.zeros { 0, 2 }, g = nn.arange(0, 9):to "u8" }
  local mine = saved(function(file) return nn.safetensors.save(file, all, { format = "pt" }) end)
  local torch = golden("torch", "mlp.safetensors", "rnn.safetensors")
  return { split(mine), split(torch[1]), split(torch[2]), mine, torch[1] }
end

-- ---- models -------------------------------------------------------------------------------------------------------------------

function seeds.onnx() return golden("onnx", "mlp.onnx", "old.onnx", "cnn.onnx", "rnn.onnx", "attention.onnx") end

function seeds.torch7()
  local t7 = dofile(root .. "fuzz/t7.lua")
  return { t7.everything(t7.binary), t7.everything(t7.ascii), t7.number(t7.binary, 7) }
end

-- The descriptions in Keras's files.
local keras_files = { "cnn.keras", "func.keras", "mlp.keras", "norms.keras", "rnn.keras" }
local function keras_members(bytes)
  local members = assert(zip.parse(bytes, "golden"))
  return members.read "metadata.json", members.read "config.json", members.read "model.weights.h5"
end
function seeds.keras_config()
  local list = {}
  for i, bytes in ipairs(golden("keras", table.unpack(keras_files))) do list[i] = select(2, keras_members(bytes)) end
  return list
end
function seeds.keras()
  local list = golden("keras", "cnn.h5", "mlp.h5")
  local function join(parts)
    local names, members = { "metadata.json", "config.json", "model.weights.h5" }, {}
    for i, part in ipairs(parts) do members[i] = { names[i] or "more" .. i, part } end
    return zip.pack(members)
  end
  for _, bytes in ipairs(golden("keras", table.unpack(keras_files))) do
    list[#list + 1] = { parts = { keras_members(bytes) }, join = join }
    list[#list + 1] = bytes
  end
  return list
end

-- ---- HDF5 ----------------------------------------------------------------------------------------------------------------------

local function small_archive()
  return assert(core.h5_image { datasets = { { path = "/g/x", tensor = nn.arange(1, 500) }, { path = "/b", tensor = nn.tensor { true } } },
    attrs = { { path = "/g", name = "note", value = "text" }, { path = "/g", name = "list", value = { "a", "b" } } } })
end
function seeds.archive()
  local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 }, nn.Dense { 2 } }
  return { small_archive(), saved(function(file) return model:save(file) end, ".h5") }
end

-- Files of h5py where Python has it (golden/make_foreign_h5.py), of Keras and of ours; checksums of metadata are made right again.
function seeds.hdf5()
  local list = golden("keras", "cnn.weights.h5", "mlp.h5")
  list[#list + 1] = small_archive()
  local folder = io.popen("mktemp -d"):read "l"
  local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
  if os.execute(("%s '%sgolden/make_foreign_h5.py' %s 2>/dev/null"):format(python, root, folder)) then
    for _, name in ipairs { "kinds.h5", "latest.h5" } do list[#list + 1] = slurp(folder .. "/" .. name) end
  end
  os.execute("rm -rf " .. folder)
  for i = 1, #list do
    local parts = hdf5.parts(list[i])
    if #parts > 3 then
      for _ = 1, 4 do list[#list + 1] = { parts = parts, join = hdf5.join } end -- mostly these
    end
  end
  return list
end

-- ---- text and records -------------------------------------------------------------------------------------------------------------

function seeds.json()
  return { '{"a": [1, 2.5, -3e-7, true, false, null], "b": {"c": "text \\u00e9 \\ud83d\\ude00 \\n", "": []}}', "[[[[[[1]]]]]]",
    '"x"', "12345678901234567",
    '{"list": ["' .. ("word "):rep(20) .. '", {}]}' }
end
function seeds.json_lines()
  local list = { '{"a": 1, "b": "x", "v": [1, 2]}\n{"a": 2.5, "b": "y", "v": [3, 4]}\n', '{"a": 1}\r\n{"a": 2}\r\n\r\n{"a": 3}',
    '{"t": true, "w": [[1, 2], [3, 4]]}\n' }
  list[4] = gzipped(list[1])
  return list
end
function seeds.csv()
  local list = { "a,b,c\n1,2.5,x\n3,4.5,y\n,,\n", 'name,"a ""quoted"" one"\r\n"two\nlines",1\r\nx,2\r\n', "n\n1\n2\n3\n", "a,b\n1e5,-0x10\nnan,inf\n",
    "k,v\n" .. ("12345,0.25\n"):rep(50) }
  list[#list + 1] = gzipped(list[1])
  return list
end
function seeds.lines()
  return { "one\ntwo\r\nthree", "\n\n\n", ("a long line "):rep(300) .. "\nshort\n", gzipped "zipped\nlines\n", gzip_stored "more\n" }
end
function seeds.fixed_length() return { noise(40), noise(4000) } end

local written = dofile(root .. "example.lua")
local varint, field, example, floats = written.varint, written.field, written.of, written.floats
function seeds.tfrecord()
  local function int(v) return field(3, field(1, varint(v))) end
  local function join(parts)
    local out = {}
    for i, part in ipairs(parts) do out[i] = tensorboard.record(part) end
    return table.concat(out)
  end
  local parts = { example { { "image", field(1, field(1, "abc")) }, { "label", int(7) }, { "box", floats(1, 2.5) }, { "other", int(1) } },
    example { { "box", floats(3, 4) }, { "label", field(3, varint(8) .. varint(-1)) }, { "image", field(1, field(1, "")) },
      { "tags", int(1 << 40) } } }
  return { { parts = parts, join = join }, { parts = parts, join = function(p) return gzip_stored(join(p)) end }, join(parts) }
end

-- ---- images and sound ------------------------------------------------------------------------------------------------------------

local function picture(channels) return nn.from_string(noise(13 * 17 * channels), "u8", { 13, 17, channels }) end

function seeds.png()
  local list = {}
  for channels = 1, 4 do
    local png = nn.vision.encode(picture(channels), "png")
    list[#list + 1] = { parts = chunks_of(png), join = png_of }
    list[#list + 1] = png
  end
  -- chunks that ours lack: a palette of two colours with transparency, interlaced
  local packed = "\120\1\1" .. string.pack("<I2I2", 2, 0xfffd) .. "\0\1" .. string.pack(">I4", 0x00030002)
  list[#list + 1] = { parts = { "IHDR" .. string.pack(">I4I4BBBBB", 1, 1, 8, 3, 0, 0, 1), "gAMA" .. string.pack(">I4", 45455),
    "PLTE" .. "\1\2\3\4\5\6", "tRNS\0\128", "tEXtComment\0text", "IDAT" .. packed, "IEND" }, join = png_of }
  return list
end

-- EXIF: the way a camera was held, both byte orders
local function with_exif(jpeg, tiff)
  local block = "Exif\0\0" .. tiff
  return jpeg:sub(1, 2) .. "\255\225" .. string.pack(">I2", #block + 2) .. block .. jpeg:sub(3)
end
function seeds.jpeg()
  local list = { nn.vision.encode(picture(3), "jpeg", { quality = 80 }), nn.vision.encode(picture(1), "jpeg", { quality = 30 }) }
  list[3] = with_exif(list[1], "II*\0" .. string.pack("<I4I2I2I2I4I2I2I4", 8, 1, 0x0112, 3, 1, 6, 0, 0))
  list[4] = with_exif(list[1], "MM\0*" .. string.pack(">I4I2I2I2I4I2I2I4", 8, 1, 0x0112, 3, 1, 8, 0, 0))
  return list
end
function seeds.pnm()
  return { nn.vision.encode(picture(3), "ppm"), nn.vision.encode(picture(1), "ppm"), "P2\n# text\n3 2\n15\n0 1 2 3 4 15\n", "P3 1 1 255 1 2 3",
    "P5 2 2 65535\n" .. noise(8) }
end
function seeds.bmp()
  local function header(width, height, bits, packed, colours, more)
    local head = string.pack("<I4I4I4I2I2I4I4I4I4I4I4", 40, width, height, 1, bits, packed, 0, 0, 0, colours, 0) .. more
    return "BM" .. string.pack("<I4I4I4", 0, 0, 14 + #head) .. head
  end
  return { nn.vision.encode(picture(3), "bmp"), header(4, 2, 8, 0, 4, noise(16)) .. noise(8), header(9, 3, 1, 0, 2, noise(8)) .. noise(12),
    header(5, 2, 4, 0, 16, noise(64)) .. noise(8), header(2, 2, 16, 3, 0, string.pack("<I4I4I4", 0xf800, 0x7e0, 0x1f)) .. noise(8),
    header(2, 2, 32, 0, 0, "") .. noise(16), "BM" .. string.pack("<I4I4I4I4I2I2I2I2", 0, 0, 26, 12, 2, 2, 1, 24) .. noise(16) }
end
function seeds.wav()
  local function wav(kind, channels, bits, more)
    local fmt = string.pack("<I2I2I4I4I2I2", kind, channels, 8000, 8000 * channels * bits // 8, channels * bits // 8, bits) .. (more or "")
    local parts = { "fmt " .. fmt, "LIST" .. "INFOtext", "data" .. noise(48) }
    return { parts = parts, join = function(list)
      local out = {}
      for i, part in ipairs(list) do
        local size = math.max(0, #part - 4)
        out[i] = part:sub(1, 4) .. string.pack("<I4", size) .. part:sub(5) .. ("\0"):rep(size & 1)
      end
      local body = "WAVE" .. table.concat(out)
      return "RIFF" .. string.pack("<I4", #body) .. body
    end }
  end
  local plain = wav(1, 2, 16)
  return { plain, wav(1, 1, 8), wav(1, 2, 24), wav(1, 1, 32), wav(3, 1, 32), wav(3, 2, 64),
    wav(0xfffe, 1, 16, string.pack("<I2I2I4I2", 22, 16, 4, 1) .. ("\0"):rep(14)), plain.join(plain.parts) }
end

return seeds
