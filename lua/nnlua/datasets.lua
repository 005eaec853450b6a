--- Ready-made data sets: `nn.datasets`.
--
-- Owns: where the files of a data set are looked for, how they are fetched, and what they must hold. What the outside world can get wrong gives nil
-- and a message.
--
--     local nn = require "nnlua"
--     local train, test = nn.datasets.digits{ train = 500, test = 100 }
--     print(train, #train.labels)            --> Dataset<u8 28x28x1, i64 scalar> 500 elements  10

local core = require "nnlua.core"
local data = require "nnlua.data"
local options = require "nnlua.options"

local pipeline, sys = core.pipeline, core.sys
local datasets = {}

-- Public copies of the MNIST files, tried in this order; what comes is checked, so any mirror will do.
datasets.mirrors = {
  "https://ossci-datasets.s3.amazonaws.com/mnist/",
  "https://storage.googleapis.com/cvdf-datasets/mnist/",
}

local U8, SIDE, DIGITS = 0x08, 28, 10

local mnist_files = {
  { part = "train", what = "images", bytes = 9912422, md5 = "f68b3c2dcbeaaa9fbdd348bbdeb94873" },
  { part = "train", what = "labels", bytes = 28881, md5 = "d53e105ee54ea40749a09fcbcd1e9432" },
  { part = "t10k", what = "images", bytes = 1648877, md5 = "9fb629c4189551a2d022fa330f9573f3" },
  { part = "t10k", what = "labels", bytes = 4542, md5 = "ec29112dd5afa0611ce80d1b7f02629c" },
}
for _, f in ipairs(mnist_files) do
  f.ndim = f.what == "images" and 3 or 1
  f.name = ("%s-%s-idx%d-ubyte"):format(f.part, f.what, f.ndim)
end

-- ---- digits ----------------------------------------------------------------------------------------------------------

-- A data set of images (N, 28, 28) and raw labels (N), both u8: x (28, 28, 1) u8, y class ids i64.
local function of_digits(images, labels, name)
  local values = {}
  for digit = 0, DIGITS - 1 do values[digit + 1] = digit end
  local ds = data.from_tensors { images:reshape { -1, SIDE, SIDE, 1 }, labels:long() + 1 }
  ds.labels, ds.name = data.LabelEncoder { values = values }, name
  return ds
end

-- The options of generated sets with `n` samples for training unless told.
local function generated(n)
  return { train = { "integer", default = n, min = 1 }, test = { "integer", default = 10000, min = 1 }, seed = { "integer", default = 1 } }
end
local digits_spec, textures_spec = generated(60000), generated(50000)

--- Generated digits: strokes under random affine maps, thickness and noise. Returns two data sets, train and test, like mnist.
--- Options: train and test (how many), seed. A sample depends on the seed and its number only.
---@param given? table
---@return nnlua.Dataset train, nnlua.Dataset test
function datasets.digits(given)
  local o = options.check("digits", given, digits_spec)
  local function part(first, n)
    local images, labels = pipeline.digits(o.seed, first, n)
    return of_digits(images, labels, "digits")
  end
  return part(0, o.train), part(1 << 40, o.test)
end

-- ---- textures --------------------------------------------------------------------------------------------------------

local EDGE, CHANNELS = 32, 3 -- of CIFAR-10's images, which these stand in for

local texture_names = {}
for _, grain in ipairs { "coarse", "fine" } do
  for _, kind in ipairs { "rows", "columns", "diagonals", "checks", "rings" } do texture_names[#texture_names + 1] = grain .. " " .. kind end
end

-- As long as the result is open, tensors are made on the CPU, where data sets live; in the end device and random stream are what they were.
local function own_draws()
  local device, stream = core.device(), core.rng_state()
  core.device "cpu"
  return setmetatable({}, { __close = function()
    core.device(device)
    core.set_rng_state(stream)
  end })
end

-- A data set of images (N, 32, 32, 3) u8 and class ids (N) i64.
local function of_images(images, ids, names, name)
  local ds = data.from_tensors { images, ids }
  ds.labels, ds.name = data.LabelEncoder { values = names }, name
  return ds
end

-- `n` textures: waves between two random colours, with noise. The class says how the wave runs and how long it is; colours and places say nothing.
local function textures(n)
  local function each(low, high, ...) return core.uniform({ n, 1, 1, ... }, low, high) end
  local ids = core.randint(1, #texture_names + 1, { n })
  local kind, fine = (ids - 1):mod(5):reshape { n, 1, 1 }, ids:gt(5):reshape { n, 1, 1 }
  local place = core.arange(0, EDGE)
  local row, column = place:reshape { 1, EDGE, 1 }, place:reshape { 1, 1, EDGE }
  local rate = core.where(fine, each(4.5, 7), each(2, 3.2)) * (2 * math.pi / EDGE)
  local function wave(distance) return (distance * rate + each(0, 2 * math.pi)):sin() end
  local slope = each(0, 1):round() * 2 - 1
  local centre_row, centre_column = each(0, EDGE), each(0, EDGE)
  local rows, columns, diagonals = wave(row), wave(column), wave((row + column * slope) * 0.5 ^ 0.5)
  local rings = wave(((row - centre_row):square() + (column - centre_column):square()):sqrt())
  local p = core.where(kind:eq(0), rows, core.where(kind:eq(1), columns, core.where(kind:eq(2), diagonals,
    core.where(kind:eq(3), rows * columns, rings)))):unsqueeze(-1) * 0.5 + 0.5
  local images = each(0, 255, CHANNELS):lerp(each(0, 255, CHANNELS), p) + core.normal({ n, EDGE, EDGE, CHANNELS }, 0, 30)
  return images:clamp(0, 255):round():byte(), ids
end

--- Generated colour textures in CIFAR-10's shapes: ten classes (rows, columns, diagonals, checks and rings, coarse and fine), x (32, 32, 3) u8 and
--- y, a class id; `train.labels` has the names. Returns two data sets, train and test. Options: train and test (how many), seed. A sample depends
--- on the seed and its number only.
---@param given? table
---@return nnlua.Dataset train, nnlua.Dataset test
function datasets.textures(given)
  local o = options.check("textures", given, textures_spec)
  local block = 500
  local _ <close> = own_draws()
  local function part(first, n)
    local images, ids = {}, {}
    for from = 0, n - 1, block do -- a block is always drawn whole, so a sample does not depend on how many there are
      core.seed(o.seed * 1000003 + first + from // block)
      local x, y = textures(block)
      local count = math.min(block, n - from)
      images[#images + 1], ids[#ids + 1] = x:narrow(1, 1, count), y:narrow(1, 1, count)
      core.eval()
    end
    return of_images(core.cat(images, 1), core.cat(ids, 1), texture_names, "textures")
  end
  return part(0, o.train), part(500000, o.test)
end

-- ---- cifar10 ---------------------------------------------------------------------------------------------------------

local cifar_names = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }
local cifar_files = { "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin" }
local CIFAR_FOLDER, CIFAR_RECORD = "cifar-10-batches-bin", 1 + CHANNELS * EDGE * EDGE
local cifar_help = [[
cifar10: the files are nowhere. Get them (170 MB) with
  curl -O https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz && tar xzf cifar-10-binary.tar.gz
and name the folder: nn.datasets.cifar10{ dir = "cifar-10-batches-bin" }; or put it into $NNLUA_DATA]]

-- Images (N, 32, 32, 3) and class ids (N) of a file of records: a label byte, then the planes red, green, blue. Or nil and what is wrong.
local function read_cifar(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message end
  local bytes, why = file:read "a"
  file:close()
  if not bytes then return nil, ("%s: %s"):format(path, why) end
  local n = #bytes // CIFAR_RECORD
  if n == 0 or #bytes % CIFAR_RECORD ~= 0 then
    return nil, ("%s: %d bytes are no whole number of records of %d (a label and 3x32x32)"):format(path, #bytes, CIFAR_RECORD)
  end
  local records = core.from_string(bytes, "u8", { n, CIFAR_RECORD })
  local labels = records[{ {}, 1 }]
  local largest = labels:amax():item()
  if largest >= #cifar_names then
    return nil, ("%s: label %d of image %d is above %d"):format(path, largest, labels:argmax():item(), #cifar_names - 1)
  end
  return records:narrow(2, 2, CIFAR_RECORD - 1):reshape { n, CHANNELS, EDGE, EDGE }:permute({ 1, 3, 4, 2 }):contiguous(), labels:long() + 1
end

-- Where the files are: the folder that was named, or the one in $NNLUA_DATA, also one folder further down, as the archive unpacks. Or nil, a message.
local function cifar_folder(dir)
  local shared = os.getenv "NNLUA_DATA"
  if not dir and (not shared or shared == "") then return nil, cifar_help end
  local places = dir and { dir, dir .. "/" .. CIFAR_FOLDER } or { shared .. "/cifar10", shared .. "/" .. CIFAR_FOLDER }
  for _, place in ipairs(places) do
    local missing = {}
    for _, name in ipairs(cifar_files) do
      if sys.file_type(place .. "/" .. name) ~= "file" then missing[#missing + 1] = name end
    end
    if #missing == 0 then return place end
    if #missing < #cifar_files then return nil, ("cifar10: files are missing in %s (expected %s)"):format(place, table.concat(missing, ", ")) end
  end
  if not dir then return nil, cifar_help end
  local what = sys.file_type(dir) == "folder" and "files are missing in" or "there is no folder"
  return nil, ("cifar10: %s %s (expected %s)"):format(what, dir, table.concat(cifar_files, ", "))
end

--- CIFAR-10: 50,000 + 10,000 colour photographs of ten kinds of things. Returns two data sets, train and test, with elements x (32, 32, 3) u8 and
--- y, a class id; `train.labels` has the names. Reads the six files of the binary version (data_batch_1.bin to 5, test_batch.bin) from `dir`, else
--- from $NNLUA_DATA/cifar10 or $NNLUA_DATA/cifar-10-batches-bin. Missing or damaged files give nil and a message, which says where to get them.
---@param given? table
---@return nnlua.Dataset? train, nnlua.Dataset|string test
function datasets.cifar10(given)
  local folder, message = cifar_folder(options.check("cifar10", given, { dir = { "string", position = 1 } }).dir)
  if not folder then return nil, message end
  local images, ids = {}, {}
  for i, name in ipairs(cifar_files) do
    images[i], ids[i] = read_cifar(folder .. "/" .. name)
    if not images[i] then return nil, ids[i] end
  end
  local function part(first, last)
    local x, y = core.cat(table.move(images, first, last, 1, {}), 1), core.cat(table.move(ids, first, last, 1, {}), 1)
    return of_images(x, y, cifar_names, "cifar10")
  end
  local last = #cifar_files
  return part(1, last - 1), part(last, last)
end

-- ---- mnist -----------------------------------------------------------------------------------------------------------

-- The path of a file in a folder under one of the names it goes by, or nil.
local function find_file(dir, file)
  for _, name in ipairs { file.name, (file.name:gsub("%-idx", ".idx")) } do
    for _, path in ipairs { dir .. "/" .. name, dir .. "/" .. name .. ".gz" } do
      if sys.file_type(path) == "file" then return path end
    end
  end
end

-- Paths of the files, in the order of mnist_files, and the list of those that are missing.
local function find_files(dir)
  local paths, missing = {}, {}
  for i, file in ipairs(mnist_files) do
    paths[i] = find_file(dir, file) or false
    if not paths[i] then missing[#missing + 1] = file.name .. "(.gz)" end
  end
  return paths, missing
end

-- $XDG_CACHE_HOME (which counts only when absolute) or ~/.cache; nil without a home.
local function cache_folder()
  local base, home = os.getenv "XDG_CACHE_HOME", os.getenv "HOME"
  if not base or base:sub(1, 1) ~= "/" then base = home and home ~= "" and home .. "/.cache" end
  return base and base .. "/nnlua/mnist"
end

local function nothing() end

-- A function for pipeline.download that draws a bar on standard error, and one that ends its line. Where that is no terminal they do nothing, but the
-- first is called all the same: that is when Ctrl-C is noticed.
local function download_bar(name, bytes)
  if not sys.isatty(2) then return nothing, nothing end
  local width, next_draw = 30, 0
  local function draw(done)
    local now = sys.clock()
    if now < next_draw and done < bytes then return end
    next_draw = now + 0.1
    local filled = math.min(width, width * done // bytes)
    io.stderr:write(("\r%s [%-" .. width .. "s] %.1f/%.1f MB\27[K"):format(name, ("="):rep(filled), done / 1e6, bytes / 1e6))
  end
  return draw, function() io.stderr:write "\r\27[K" end
end

-- Fetch what is missing in `dir`. True, or nil and why not.
local function download(dir, paths)
  for i, file in ipairs(mnist_files) do
    if not paths[i] then
      local name, ok, message = file.name .. ".gz", nil, "there are no mirrors"
      for _, mirror in ipairs(datasets.mirrors) do
        local draw, finish = download_bar(name, file.bytes)
        ok, message = pipeline.download(mirror .. name, dir .. "/" .. name, file.bytes, file.md5, draw)
        finish()
        if ok then break end
      end
      if not ok then return nil, message end
    end
  end
  return true
end

-- Images and labels of one part as a data set, or nil and what is wrong with the files.
local function read_part(images_path, labels_path)
  local images, labels, message
  images, message = pipeline.idx_read(images_path, U8, 3)
  if not images then return nil, message end
  labels, message = pipeline.idx_read(labels_path, U8, 1)
  if not labels then return nil, message end
  local n, height, width = table.unpack(images:shape())
  if height ~= SIDE or width ~= SIDE then
    return nil, ("%s: images of %dx%d, expected %dx%d"):format(images_path, height, width, SIDE, SIDE)
  end
  local count = labels:shape()[1]
  if n ~= count then return nil, ("%s has %d images but %s has %d labels"):format(images_path, n, labels_path, count) end
  if n == 0 then return nil, images_path .. ": holds no images" end
  local largest = labels:amax():item()
  if largest >= DIGITS then
    return nil, ("%s: label %d of image %d is above %d"):format(labels_path, largest, labels:argmax():item(), DIGITS - 1)
  end
  return of_digits(images, labels, "mnist")
end

local function read_all(paths, hint)
  local train, test, message
  train, message = read_part(paths[1], paths[2])
  if train then test, message = read_part(paths[3], paths[4]) end
  if not test then return nil, message .. (hint or "") end
  return train, test
end

local mnist_spec = {
  dir = { "string", position = 1 },
  download = { "boolean", default = true },
}

--- MNIST: 60,000 + 10,000 handwritten digits. Returns two data sets, train and test, with elements x (28, 28, 1) u8 and y, a class id; `train.labels`
--- decodes ids (digit 7 has id 8). The four files are read from `dir`, else from $NNLUA_DATA/mnist, else from the user's cache folder, into which
--- they are downloaded when they are nowhere. Without a network (or with download = false) it says so and returns generated digits.
--- A folder that was named and does not hold the files, and files that are damaged, give nil and a message.
---@param given? table
---@return nnlua.Dataset? train, nnlua.Dataset|string test
function datasets.mnist(given)
  local o = options.check("mnist", given, mnist_spec)
  local named = o.dir
  local shared = os.getenv "NNLUA_DATA"
  if not named and shared and shared ~= "" then
    local _, missing = find_files(shared .. "/mnist")
    if #missing < #mnist_files then named = shared .. "/mnist" end -- with some files there, those that are missing are an error
  end
  if named then
    local paths, missing = find_files(named)
    if #missing > 0 then
      local what = sys.file_type(named) == "folder" and "files are missing in" or "there is no folder"
      return nil, ("mnist: %s %s (expected %s)"):format(what, named, table.concat(missing, ", "))
    end
    return read_all(paths)
  end
  local cache, ok, message = cache_folder(), nil, "the environment names no home folder"
  local paths, missing
  if cache then
    paths, missing = find_files(cache)
    ok = #missing == 0
    if not ok and o.download then
      ok, message = download(cache, paths)
      paths = find_files(cache)
    end
  end
  if ok then return read_all(paths, "; delete it to have it downloaded again") end
  io.stderr:write("mnist: the files are nowhere", o.download and (" and cannot be downloaded (%s)"):format(message) or "",
    "; going on with generated digits (nn.datasets.digits)\n")
  return datasets.digits()
end

return datasets
