-- data/folders.lua - data sets of files in folders, a folder for each class. Returns its functions by name.

local Dataset = require "nnlua.data.dataset"
local LabelEncoder = require "nnlua.data.labels"
local common = require "nnlua.data.common"
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

-- The folders in `dir`, and the files in each that end as they should: names, ids, classes; or nil and a message.
local function class_files(who, dir, extensions)
  local entries, message = sources.folder(dir)
  if not entries then return nil, message end
  local classes, names, ids = {}, {}, {}
  for _, class in ipairs(sorted(entries)) do
    local folder = dir .. "/" .. class
    if sys.file_type(folder) == "folder" and class:sub(1, 1) ~= "." then
      local files, why = sources.folder(folder)
      if not files then return nil, why end
      classes[#classes + 1] = class
      for _, name in ipairs(sorted(files)) do
        if ends_in(name, extensions) then
          names[#names + 1], ids[#ids + 1] = folder .. "/" .. name, #classes
        end
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

local folder_spec = {
  dir = { "string", position = 1, required = true },
  split = { "table" },
  shuffle = { "boolean", default = false },
  seed = { "integer", default = 0 },
  extensions = { "table" },
  workers = { "integer", default = 0, min = 0, max = 256 },
  limit = { "integer", default = 64 * 1024 * 1024, min = 1 },
}

local function folder(who, given, opts, extensions)
  local o = options.check(who, Dataset.given(given, opts), folder_spec)
  local names, ids, classes = class_files(who, o.dir, o.extensions or extensions)
  if not names then return nil, ids end
  local encoder = LabelEncoder { values = classes }
  local function read(list)
    local some_names, some_ids = {}, {}
    for i, k in ipairs(list) do some_names[i], some_ids[i] = names[k], ids[k] end
    local ds = Dataset(sources.columns { sources.texts(some_names), core.tensor(some_ids, { dtype = "i64" }) })
    ds.labels, ds.name = encoder, who
    if o.shuffle then ds = ds:shuffle(#list, { seed = o.seed }) end
    return Dataset(sources.read_files(ds.handle, 1, o.limit, o.workers), ds)
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

--- The pictures in a folder that has a folder for each class: elements of a file's bytes (u8, not decoded) and a class id; `ds.labels` has the
--- names of the classes. Sorted by name. Options: split = { train = 0.8, val = 0.2 }: a table of data sets instead, whose files are drawn by
--- `seed` (0), always the same; shuffle = true: another order each pass; files are read after that, on `workers` threads (0: where they are
--- needed), each of up to `limit` bytes (64 MiB); extensions ({ "jpg", "jpeg", "png", "bmp", "ppm", "pgm" }). nil and a message when there are
--- no such files.
---@param dir string|table
---@param opts? table
---@return nnlua.Dataset|table<string, nnlua.Dataset>|nil, string?
function data.image_folder(dir, opts) return folder("image_folder", dir, opts, { "jpg", "jpeg", "png", "bmp", "ppm", "pgm" }) end

--- The texts in a folder that has a folder for each class: elements of a text (u8) and a class id. Options are image_folder's; extensions
--- ({ "txt" }).
---@param dir string|table
---@param opts? table
---@return nnlua.Dataset|table<string, nnlua.Dataset>|nil, string?
function data.text_folder(dir, opts) return folder("text_folder", dir, opts, { "txt" }) end

return data
