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

local digits_spec = {
  train = { "integer", default = 60000, min = 1 },
  test = { "integer", default = 10000, min = 1 },
  seed = { "integer", default = 1 },
}

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
