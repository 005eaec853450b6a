-- The fuzz targets: one row for every reader of files. tests/c/fuzz.c runs them, scripts/fuzz.sh says how.
--
-- A row: how a file is read (a result, or nil and one line: what is raised is a defect, but where documents say that passes raise), and `factor`: the
-- most bytes of memory a byte of the file may take, besides 16 MiB. 4 by default; 100 where bytes are packed.
local nn = require "nnlua"
local core = require "nnlua.core"
local zip = require "nnlua.zip"
local h5 = require "nnlua.h5"
local keras_read = require "nnlua.keras_read"
local models = require "nnlua.models"
local Layer = require "nnlua.layer"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local seeds, mutate = dofile(here .. "seeds.lua"), dofile(here .. "mutate.lua")

local PACKED = 100

local function slurp(file)
  local f = assert(io.open(file, "rb"))
  local bytes = f:read "a"
  f:close()
  return bytes
end

-- The message of what is raised, without the place of the program.
local function raised(message) return nil, (tostring(message):gsub("^[^\n]-:%d+: ", "")) end

-- A data set with all of its elements: passes raise what the files under them are guilty of.
local function pass(make)
  return function(file)
    local ds, message = make(file)
    if not ds then return nil, message end
    local n = 0
    local ok, why = pcall(function()
      for _ in ds:iter() do n = n + 1 end
    end)
    if not ok then
      n, message = raised(why)
      if not (message:find(file, 1, true) or message:find "^examples: record %d+") then error("its message names no file: " .. message, 0) end
      return n, message
    end
    return n
  end
end

local data = nn.data
local features = { { "image", "bytes" }, { "label", "i64" }, { "box", "f32", { 2 } }, { "tags", "i64", { -1 }, default = 0 } }
-- Reads the file twice; the second result counts.
local function both(first, second)
  return function(file)
    local n, message = first(file)
    if not n then return nil, message end
    return second(file)
  end
end
local records, with_features = pass(data.tfrecord), pass(function(file) return data.tfrecord(file, { features = features }) end)

local function picture(file)
  local bytes = slurp(file)
  local x, message = nn.vision.decode(bytes)
  nn.vision.decode(bytes, { channels = 4, depth = 16 })
  nn.vision.decode(bytes, { channels = 1, at_least = { 4, 4 } })
  return x, message
end

-- Keras's description of a model and the model made of it, as keras_files.lua does it, but without a file of weights.
local function description(file)
  local described, message = core.json_decode(slurp(file))
  if type(described) ~= "table" then return nil, message or "no object" end
  local ok, model = pcall(function()
    local read = keras_read.model(described)
    local c = models.layer_class(read.class_name)
    return Layer.without_values(1000000, c.from_config, c, read.config)
  end)
  if not ok then return raised(model) end
  return model
end

local function members(file)
  local archive, message = zip.open(file)
  if not archive then return nil, message end
  for _, name in ipairs(archive.names) do
    local bytes, why = archive.read(name)
    if not bytes then
      archive.close()
      return nil, why
    end
  end
  archive.close()
  return #archive.names
end

-- Deflate makes at most 1032 bytes of one, but the sources and archives are held to 100 here; Lua takes 40 bytes and more for a number in a table
-- (JSON, Torch7, ONNX). Images: what a byte of JPEG (512 pixels) or deflate (1032) can stand for, in up to four channels; a bit of BMP is a pixel.
local rows = {
  idx = { read = core.pipeline.idx_read, factor = PACKED },
  gzip = { read = pass(function(file) return data.lines(file, { limit = 4096 }) end), factor = PACKED },
  lines = { read = pass(data.lines), factor = PACKED },
  csv = { read = both(pass(function(file) return data.csv(file, { fill = 0 }) end), pass(data.csv)), factor = PACKED },
  json = { read = function(file) return core.json_decode(slurp(file)) end, factor = PACKED },
  json_lines = { read = pass(data.json_lines), factor = PACKED },
  tfrecord = { read = both(records, with_features), factor = PACKED },
  fixed_length = { read = pass(function(file) return data.fixed_length(file, 8) end) },
  npy = { read = nn.numpy.load },
  zip = { read = members, factor = PACKED },
  npz = { read = nn.numpy.load_npz, factor = PACKED },
  safetensors = { read = nn.safetensors.load },
  onnx = { read = nn.onnx.load, factor = PACKED },
  torch7 = { read = nn.torch7.load, factor = PACKED },
  keras_config = { read = description, factor = PACKED },
  keras = { read = nn.load, factor = PACKED },
  jpeg = { read = picture, factor = 4096 },
  png = { read = picture, factor = 4096 },
  pnm = { read = picture, factor = 16 },
  bmp = { read = picture, factor = 256 },
  wav = { read = nn.audio.load, factor = 8 },
  archive = { read = h5.load },
  hdf5 = { read = function(file) return core.h5_foreign(file) end },
}

local readers = {}

--- The names, one a line.
function readers.list()
  local names = {}
  for name in pairs(rows) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, "\n")
end

--- What fuzz.c needs of a reader: mutant(case) -> bytes, is it an undamaged file; read; factor.
function readers.open(name, seed)
  local row = rows[name] or error(("there is no reader %s; there are: %s"):format(name, readers.list():gsub("\n", " ")), 0)
  local list = seeds[name]()
  local whole = #list
  for i = 1, 99 do -- files that once were a defect here
    local f = io.open(("%sfound/%s-%d"):format(here, name, i), "rb")
    if not f then break end
    list[whole + i] = f:read "a"
    f:close()
  end
  local function mutant(case)
    if case < #list then return mutate.whole(list[case + 1]), case < whole end
    return mutate.make(list, mutate.random(seed, case)), false
  end
  return mutant, row.read, row.factor or 4
end

return readers
