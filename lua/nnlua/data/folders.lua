-- data/folders.lua - data sets of files in folders, a folder for each class. Returns its functions by name.

local Dataset = require "nnlua.data.dataset"
local LabelEncoder = require "nnlua.data.labels"
local common = require "nnlua.data.common"
local class = require "nnlua.class"
local core = require "nnlua.core"
local options = require "nnlua.options"

local sources, sys = core.sources, core.sys
local data = {}

local function sorted(list)
  table.sort(list)
  return list
end

local function ends_in(name, extensions)
  local found = name:lower():match "%.([^.]+)$"
  for _, extension in ipairs(extensions) do
    if found == extension:lower() then return true end
  end
  return false
end

-- The names of the folders in `dir`, sorted; or nil and a message.
local function folders_in(dir)
  local entries, message = sources.folder(dir)
  if not entries then return nil, message end
  local classes = {}
  for _, name in ipairs(sorted(entries)) do
    if name:sub(1, 1) ~= "." and sys.file_type(dir .. "/" .. name) == "folder" then classes[#classes + 1] = name end
  end
  return classes
end

-- The files in the folder of each class that end as they should: names, ids, classes; or nil and a message.
local function class_files(who, dir, extensions, classes)
  local message
  if classes == nil then classes, message = folders_in(dir) end
  if not classes then return nil, message end
  local names, ids = {}, {}
  for id, name_of in ipairs(classes) do
    local folder = dir .. "/" .. name_of
    local files, why = sources.folder(folder)
    if not files then return nil, why end
    for _, name in ipairs(sorted(files)) do
      if ends_in(name, extensions) then
        names[#names + 1], ids[#ids + 1] = folder .. "/" .. name, id
      end
    end
  end
  if #names == 0 then
    return nil, ("%s: %s: no folder in it holds a file that ends in %s"):format(who, dir, table.concat(extensions, ", "))
  end
  return names, ids, classes
end

-- Order of all files, drawn from the seed; then cut into the parts of `split`, in the order of their names.
local function cut(who, split, seed, n)
  local shares, total = {}, 0
  for name, share in pairs(split) do
    if type(name) ~= "string" or type(share) ~= "number" or not (share > 0 and share <= 1) then
      options.raise(("%s: split is a table of shares, as { train = 0.8, val = 0.2 }"):format(who))
    end
    shares[#shares + 1], total = name, total + share
  end
  if #shares == 0 or total > 1 + 1e-9 then options.raise(("%s: the shares of split add up to %g; at most 1"):format(who, total)) end
  local order, parts, sum = common.order(n, seed), {}, 0
  for _, name in ipairs(sorted(shares)) do
    local first = math.floor(sum * n + 0.5)
    sum = sum + split[name]
    parts[name] = table.move(order, first + 1, math.floor(sum * n + 0.5), 1, {})
  end
  return parts
end

local function spec_of(more)
  local spec = {
    dir = { "string", position = 1, required = true },
    classes = { "table" },
    split = { "table" },
    shuffle = { "boolean", default = false },
    seed = { "integer", default = 0 },
    extensions = { "table" },
    workers = { "integer", default = 0, min = 0, max = 256 },
    limit = { "integer", default = 64 * 1024 * 1024, min = 1 },
  }
  for key, rule in pairs(more or {}) do spec[key] = rule end
  return spec
end

-- transforms: what is done to a file's bytes (a list of nn.vision), or nil.
local function folder(who, o, extensions, transforms)
  local known = o.classes and (class.isa(o.classes, LabelEncoder) and o.classes.values or o.classes)
  local names, ids, classes = class_files(who, o.dir, o.extensions or extensions, known)
  if not names then return nil, ids end
  local encoder = LabelEncoder { values = classes }
  local function read(list)
    local some_names, some_ids = {}, {}
    for i, k in ipairs(list) do some_names[i], some_ids[i] = names[k], ids[k] end
    local rows = Dataset(sources.columns { sources.texts(some_names), core.tensor(some_ids, { dtype = "i64" }) })
    rows.labels, rows.name = encoder, who
    local ds = Dataset.made(rows, function(from)
      return Dataset(sources.read_files(from.handle, 1, o.limit, o.workers, transforms and transforms.handle), from)
    end)
    return o.shuffle and ds:shuffle(#list, { seed = o.seed }) or ds
  end
  if not o.split then
    local all = {}
    for i = 1, #names do all[i] = i end
    return read(all)
  end
  local parts = {}
  for name, list in pairs(cut(who, o.split, o.seed, #names)) do
    if #list == 0 then return nil, ("%s: %s: %d files leave none for the part %s"):format(who, o.dir, #names, options.shown(name)) end
    parts[name] = read(list)
  end
  return parts
end

local image_spec = spec_of {
  size = { "integer|table" },
  channels = { "integer|boolean", default = 3 },
  interpolation = { "string", default = "bilinear", choices = { "bilinear", "bicubic", "area", "nearest" } },
  antialias = { "boolean", default = true },
  quick = { "boolean", default = false },
  decode = { "boolean", default = true },
}

-- What image_folder does to the bytes of a file.
local function pictures(o)
  if not o.decode then return nil end
  local vision = require "nnlua.vision.transforms"
  local size = type(o.size) == "table" and o.size or o.size and { o.size, o.size }
  local steps = { vision.Decode { o.channels, at_least = o.quick and size or nil } }
  if size then
    if #size ~= 2 then options.raise("image_folder: size must be a number or {height, width}, got " .. options.shown(o.size)) end
    steps[2] = vision.Resize { size[1], size[2], method = o.interpolation, antialias = o.antialias }
  end
  return vision.Compose(steps)
end

--- The pictures in a folder that has a folder for each class: elements of a picture (u8 H x W x C, decoded when it is asked for) and a class id;
--- `ds.labels` has the names of the classes, which are the folders', sorted. Options: size (a number or { height, width }; by default as stored, and
--- pictures of several sizes don't batch) with interpolation ("bilinear", "bicubic", "area", "nearest") and antialias (true) as in
--- nn.vision.Resize; channels (3: RGB; 1, 4, or false: as stored); quick = true: a JPEG may be decoded at a half or less, as long as neither side
--- falls below size; decode = false: the bytes of files. Pictures are read and decoded on `workers` threads (0: where they are needed), each of a
--- file of up to `limit` bytes (64 MiB); a damaged one is an error that names it (`ignore_errors` leaves it out). classes: a list of folders, or
--- the labels of another data set: these, in this order. shuffle = true: another order each pass, by `seed` (0); it draws file names, and so does
--- `:shuffle(n)` right after. split = { train = 0.8, val = 0.2 }: a table of data sets instead, whose files are drawn by `seed`, always the same.
--- extensions ({ "jpg", "jpeg", "png", "bmp", "ppm", "pgm" }). nil and a message when there are no such files.
---@param dir string|table
---@param opts? table
---@return nnlua.Dataset|table<string, nnlua.Dataset>|nil, string?
function data.image_folder(dir, opts)
  local o = options.check("image_folder", Dataset.given(dir, opts), image_spec)
  return folder("image_folder", o, { "jpg", "jpeg", "png", "bmp", "ppm", "pgm" }, pictures(o))
end

local text_spec = spec_of()

--- The texts in a folder that has a folder for each class: elements of a text (u8; `nn.data.text` makes a string of it) and a class id. Options are
--- image_folder's, without those of pictures; extensions ({ "txt" }).
---@param dir string|table
---@param opts? table
---@return nnlua.Dataset|table<string, nnlua.Dataset>|nil, string?
function data.text_folder(dir, opts)
  return folder("text_folder", options.check("text_folder", Dataset.given(dir, opts), text_spec), { "txt" })
end

return data
