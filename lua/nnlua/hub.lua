--- Models and files from elsewhere: `nn.hub`.
--
-- Owns: handles, the cache of what was downloaded, and what is refused. A handle is
--
--   "keras:mobilenet_v2"             the weights that Keras publishes for a model of nn.applications (hub.names() lists them)
--   "https://host/path/model.h5"     a file; nothing but https is fetched, redirects included
--   "models/flowers.keras"           a file or a folder of this machine
--
-- each with "#sha256=<64 digits>" behind it, or the option sha256, where the content must be that and no other. What is fetched is checked before it
-- gets its name, so the cache holds whole files only, also when several processes fetch at once or one is killed.
--
--   $NNLUA_HUB            the cache folder; by default $XDG_CACHE_HOME/nnlua/hub or ~/.cache/nnlua/hub (made for this user alone)
--   $NNLUA_OFFLINE=1      or the option offline = true: nothing is fetched, what is in the cache is used
--   $https_proxy          is honoured, as is $SSL_CERT_FILE
--
-- Options of fetch and load: sha256, offline, cache (a folder), limit (most bytes, default 2 GiB), timeout (seconds for all of it; a sender that
-- stalls is given up in any case), refresh (fetch again). Messages leave out user names, passwords and what follows "?" in an address.
--
--     local nn = require "nnlua"
--     local _, why = nn.hub.fetch("https://example.org/model.h5", { offline = true, cache = "/nowhere" })
--     print(why)   --> hub: https://example.org/model.h5 is not in the cache, and the hub is offline

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local zip = require "nnlua.zip"

local hub = {}
local sys, download = core.sys, core.pipeline.download
local DEFAULT_LIMIT, MOST_RATIO = 2 << 30, 100
local INFO = "info.json"

-- ---- what Keras publishes -------------------------------------------------------------------------------------------------

-- Where each file lies, and the MD5 sums that Keras names; those without one are checked by what they hold only. `%s` of names is the width.
-- Every address and sum was compared with Keras's own sources (keras/src/applications of github.com/keras-team/keras, commit 3422977a).
local PLACE, BASE = "https://storage.googleapis.com/", "tensorflow/keras-applications/"
local KERNELS = "_weights_tf_dim_ordering_tf_kernels"
local published = {
  vgg16 = { model = "VGG16", folder = BASE .. "vgg16/", md5 = { "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc" } },
  vgg19 = { model = "VGG19", folder = BASE .. "vgg19/", md5 = { "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6" } },
  resnet50 = { model = "ResNet50", folder = BASE .. "resnet/", md5 = { "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626" } },
  resnet50v2 = { model = "ResNet50V2", folder = BASE .. "resnet/", md5 = { "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917" } },
  densenet121 = { model = "DenseNet121", folder = BASE .. "densenet/",
    md5 = { "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738" } },
  efficientnetb0 = { model = "EfficientNetB0", folder = "keras-applications/", names = { "efficientnetb0.h5", "efficientnetb0_notop.h5" },
    md5 = { "902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d" } },
  mobilenet = { model = "MobileNet", folder = BASE .. "mobilenet/", names = { "mobilenet_%s_224_tf.h5", "mobilenet_%s_224_tf_no_top.h5" },
    widths = { [0.25] = "2_5", [0.5] = "5_0", [0.75] = "7_5", [1] = "1_0" } },
  mobilenet_v2 = { model = "MobileNetV2", folder = BASE .. "mobilenet_v2/",
    names = { "mobilenet_v2" .. KERNELS .. "_%s_224.h5", "mobilenet_v2" .. KERNELS .. "_%s_224_no_top.h5" },
    widths = { [0.35] = "0.35", [0.5] = "0.5", [0.75] = "0.75", [1] = "1.0", [1.3] = "1.3", [1.4] = "1.4" } },
}
for name, p in pairs(published) do p.names = p.names or { name .. KERNELS .. ".h5", name .. KERNELS .. "_notop.h5" } end

--- The names behind "keras:", in order.
---@return string[]
function hub.names()
  return lists.sorted(published)
end

local function published_as(name)
  local found = published[name]
  if found then return found end
  options.raise(("hub: no model %q is published by Keras%s (there are: %s)"):format(name, options.advice(name, hub.names()),
    table.concat(hub.names(), ", ")))
end

-- Address and MD5 (or nil) of a model's file; or nil and a message.
local function keras_file(name, include_top, alpha)
  local p = published_as(name)
  local kind = include_top == false and 2 or 1
  local file = p.names[kind]
  if p.widths then
    local width = p.widths[alpha or 1]
    if not width then return nil, ("hub: keras:%s: no weights are published for alpha = %g"):format(name, alpha) end
    file = file:format(width)
  end
  return PLACE .. p.folder .. file, p.md5 and p.md5[kind]
end

-- ---- handles ------------------------------------------------------------------------------------------------------------

-- An address for messages and files: without user, password, query and fragment.
local function shown_url(url)
  local rest = url:gsub("[?#].*$", ""):match "^%a[%w+.-]*://(.*)$"
  if not rest then return (url:gsub("[?#].*$", "")) end
  local host, path = rest:match "^([^/]*)(.*)$"
  return url:match "^%a[%w+.-]*://" .. host:gsub("^.*@", "") .. path
end

local fetch_spec = {
  sha256 = { "string" }, offline = { "boolean" }, cache = { "string" }, limit = { "integer", default = DEFAULT_LIMIT, min = 1 },
  timeout = { "number", above = 0 }, refresh = { "boolean", default = false }, include_top = { "boolean", default = true },
  alpha = { "number" }, progress = { "boolean", default = true },
}

-- { url =, path =, pin =, md5 =, keras = name, shown = for messages }, or nil and a message. Raises on what is no handle.
local function parsed(handle, o)
  if type(handle) ~= "string" or handle == "" or handle:find "%c" then
    options.raise(("hub: a handle is \"keras:<name>\", an https address or a path, got %s"):format(options.shown(handle)))
  end
  local place, pin = handle:match "^(.*)#sha256=(.*)$"
  place, pin = place or handle, pin or o.sha256
  if pin and o.sha256 and pin:lower() ~= o.sha256:lower() then options.raise "hub: the handle and the option sha256 name different files" end
  if pin and not pin:find("^" .. ("%x"):rep(64) .. "$") then
    options.raise(("hub: sha256 is 64 hexadecimal digits, got %s"):format(options.shown(pin)))
  end
  local h = { pin = pin and pin:lower() }
  local name = place:match "^keras:(.*)$"
  if name then
    local url, md5 = keras_file(name, o.include_top, o.alpha)
    if not url then return nil, md5 end
    h.keras, h.url, h.md5, h.shown = name, url, md5, "keras:" .. name
  elseif place:find "^https://[^/]" then
    h.url, h.shown = place, shown_url(place)
  elseif place:find "^%a[%w+.-]*://" then
    options.raise(("hub: %s: only https addresses are fetched"):format(shown_url(place)))
  else
    h.path, h.shown = place, place
  end
  return h
end

-- ---- the cache -----------------------------------------------------------------------------------------------------------

local function cache_folder(given)
  local named = given or os.getenv "NNLUA_HUB"
  if named and named ~= "" then return named end
  local base, message = sys.cache_dir()
  if not base then return nil, "hub: " .. message end
  return base .. "/hub"
end

local function is_offline(o)
  if o.offline ~= nil then return o.offline end
  local value = os.getenv "NNLUA_OFFLINE"
  return value ~= nil and value ~= "" and value ~= "0"
end

-- Folder and file of an address. A folder for each, so that different files of one name are kept apart.
local function place_of(cache, url)
  local name = shown_url(url):match "([^/]*)$":gsub("[^%w._-]", "_"):gsub("^%.+", "_")
  if name == "" or name == INFO then name = "file" end
  return ("%s/%s"):format(cache, core.sha256(url):sub(1, 32)), name:sub(-120)
end

local function read_info(folder)
  local f = io.open(folder .. "/" .. INFO, "rb")
  if not f then return nil end
  local text = f:read(65536) or ""
  f:close()
  local info = core.json_decode(text)
  local ok = type(info) == "table" and type(info.file) == "string" and not info.file:find "/" and type(info.url) == "string"
  return ok and info or nil
end

local function remove_tree(path)
  if sys.file_type(path) == "folder" then
    for _, name in ipairs(sys.list_folder(path) or {}) do remove_tree(path .. "/" .. name) end
  end
  return os.remove(path)
end

-- What processes that were killed left beside a file that is whole now.
local function sweep(folder, name)
  for _, other in ipairs(sys.list_folder(folder) or {}) do
    if other:find("^" .. name:gsub("%p", "%%%0") .. "%.part%-") then os.remove(folder .. "/" .. other) end
  end
end

-- ---- fetching ------------------------------------------------------------------------------------------------------------

-- A function for download that stops when the time is over and draws a line, and one that ends it.
local function watch(h, o)
  local stop_at = o.timeout and sys.clock() + o.timeout
  local draws, next_draw = o.progress and sys.isatty(2), 0
  local late = {}
  local function step(done, total)
    local now = sys.clock()
    if stop_at and now > stop_at then error(late, 0) end
    if not draws or now < next_draw then return end
    next_draw = now + 0.1
    io.stderr:write(("\r%s %.1f%s MB\27[K"):format(h.shown, done / 1e6, total > 0 and ("/%.1f"):format(total / 1e6) or ""))
  end
  local function finish()
    if draws then io.stderr:write "\r\27[K" end
  end
  return step, finish, late
end

-- Fetch h.url to `file`: true, or nil and a message.
local function get(h, o, file)
  local step, finish, late = watch(h, o)
  local ran, ok, message = pcall(download, h.url, file, o.limit, h.pin or h.md5, step)
  finish()
  if not ran then
    if ok ~= late then error(ok, 0) end -- Ctrl-C
    return nil, ("hub: %s: gave up after %g s"):format(h.shown, o.timeout)
  end
  if ok then return true end
  message = tostring(message)
  if message:sub(1, #h.url) == h.url then message = message:sub(#h.url + 1):gsub("^: ", "") end
  local user = h.url:match "^https://([^/@]*)@"
  if user then message = message:gsub(user:gsub("%p", "%%%0"), "...") end
  return nil, ("hub: %s: %s"):format(h.shown, message)
end

-- Is the file the one that was pinned? True, or nil and a message.
local function check_pin(h, file, where)
  if not h.pin then return true end
  local sum, message = core.sha256_file(file)
  if not sum then return nil, "hub: " .. message end
  if sum == h.pin then return true end
  return nil, ("hub: %s: %s is not the one expected: SHA-256 %s, expected %s"):format(h.shown, where, sum, h.pin)
end

local function fetch_url(h, o)
  local cache, message = cache_folder(o.cache)
  if not cache then return nil, message end
  local folder, name = place_of(cache, h.url)
  local file = folder .. "/" .. name
  if sys.file_type(file) == "file" and not o.refresh then
    local ok
    ok, message = check_pin(h, file, "the copy in the cache")
    if not ok then return nil, message .. "; nn.hub.rm(handle) removes it" end
    return file
  end
  if is_offline(o) then return nil, ("hub: %s is not in the cache, and the hub is offline"):format(h.shown) end
  local ok
  ok, message = sys.mkdir_p(folder, true)
  if not ok then return nil, "hub: " .. message end
  ok, message = get(h, o, file)
  if not ok then
    if not o.refresh and sys.file_type(file) == "file" and check_pin(h, file) then return file end -- another process was first
    os.remove(folder) -- where nothing else is in it
    return nil, message
  end
  sweep(folder, name)
  local info = { url = shown_url(h.url), handle = h.keras and h.shown or nil, file = name, sha256 = core.sha256_file(file),
    bytes = sys.file_size(file), fetched = os.date "!%Y-%m-%dT%H:%M:%SZ" }
  ok, message = core.file_replace(folder .. "/" .. INFO, core.json_encode(info))
  if not ok then return nil, "hub: " .. message end
  return file
end

--- The path of what a handle names: fetched when it is not in the cache yet. Or nil and a message. Options: see the top of this page.
---@param handle string
---@param given? table
---@return string?, string?
function hub.fetch(handle, given)
  local o = options.check("hub.fetch", given, fetch_spec)
  local h, message = parsed(handle, o)
  if not h then return nil, message end
  if h.url then return fetch_url(h, o) end
  local kind = sys.file_type(h.path)
  if not kind then return nil, ("hub: %s: there is no such file or folder"):format(h.shown) end
  if kind == "folder" and h.pin then options.raise "hub: sha256 is of a file; a folder has none" end
  local ok
  ok, message = check_pin(h, h.path, "the file")
  if not ok then return nil, message end
  return h.path
end

-- For nn.applications: the file of weights.
function hub.weights(handle, include_top, alpha)
  local keras = type(handle) == "string" and handle:find "^keras:"
  return hub.fetch(handle, keras and { include_top = include_top, alpha = alpha } or nil)
end

-- ---- archives ------------------------------------------------------------------------------------------------------------

--- Unpack a ZIP archive into `folder`, which must not exist yet: it appears there whole or not at all. Only plain files below it are made; members
--- that lead elsewhere, links, and archives that grow beyond 100 times their size or `limit` bytes (2 GiB) are refused. True, or nil and a message.
---@param file string
---@param folder string
---@param limit? integer
---@return true?, string?
function hub.unpack(file, folder, limit)
  limit = math.min(limit or DEFAULT_LIMIT, MOST_RATIO * (sys.file_size(file) or 0))
  local archive, message = zip.open(file)
  if not archive then return nil, "hub: " .. message end
  local temporary = ("%s.part-%d-%s"):format(folder, sys.getpid(), core.sha256(("%s %s %s"):format(file, os.time(), sys.clock())):sub(1, 8))
  local function failed(why)
    archive.close()
    remove_tree(temporary)
    return nil, "hub: " .. why
  end
  if sys.file_type(folder) then return failed(folder .. ": is there already") end
  local ok
  ok, message = sys.mkdir_p(temporary, true)
  if not ok then return failed(message) end
  local total = 0
  for _, name in ipairs(archive.names) do
    total = total + archive.size(name)
    if total > limit then return failed(("%s: refused: its members unpack to more than %d bytes"):format(file, limit)) end
  end
  for _, name in ipairs(archive.names) do
    local inner = name:match "^(.*)/"
    if inner then
      ok, message = sys.mkdir_p(temporary .. "/" .. inner, true)
      if not ok then return failed(message) end
    end
    if name:sub(-1) ~= "/" then
      local bytes
      bytes, message = archive.read(name)
      if not bytes then return failed(message) end
      local path = temporary .. "/" .. name
      if sys.file_type(path) then return failed(("%s: refused: two members are called %s"):format(file, options.shown(name))) end
      ok, message = core.file_replace(path, bytes)
      if not ok then return failed(message) end
    end
  end
  ok, message = os.rename(temporary, folder)
  if not ok then return failed(message) end
  archive.close()
  return true
end

-- ---- models --------------------------------------------------------------------------------------------------------------

-- The one model file of a folder: model.keras, model.h5, or the only one that ends so.
local function model_in(folder, shown)
  local names, message = sys.list_folder(folder)
  if not names then return nil, "hub: " .. message end
  local found = {}
  for _, name in ipairs(names) do
    if name == "model.keras" or name == "model.h5" then return folder .. "/" .. name end
    if name:find "%.keras$" or name:find "%.h5$" and not name:find "%.weights%.h5$" then found[#found + 1] = name end
  end
  if #found == 1 then return folder .. "/" .. found[1] end
  return nil, ("hub: %s: %s"):format(shown, #found == 0 and "holds no model (a .keras or .h5 file)" or
    ("holds %d models; name one of them, or call it model.keras"):format(#found))
end

--- The model that a handle names. "keras:<name>" makes the model of nn.applications with its weights, and takes that one's options too (include_top,
--- input_shape or input, pooling, alpha); files and folders, also zipped ones, are loaded as nn.load does. Or nil and a message.
---@param handle string
---@param given? table
---@return nnlua.Module?, string?
function hub.load(handle, given)
  local o, build = {}, {}
  for key, value in pairs(given or {}) do
    if fetch_spec[key] then o[key] = value end
    if not fetch_spec[key] or key == "include_top" or key == "alpha" then build[key == "input" and "input_shape" or key] = value end
  end
  local name = type(handle) == "string" and handle:match "^keras:([^#]*)"
  if name then
    local p = published_as(name)
    if not p.widths then o.alpha = nil end
    local file, message = hub.fetch(handle, o)
    if not file then return nil, message end
    return require("nnlua.applications").with_weights(p.model, build, file, true)
  end
  if next(build) then options.check("hub.load", build, fetch_spec) end
  local file, message = hub.fetch(handle, o)
  if not file then return nil, message end
  if file:find "%.zip$" then
    local folder = file .. ".unpacked"
    if sys.file_type(folder) ~= "folder" or o.refresh then
      if sys.file_type(folder) then remove_tree(folder) end
      local ok
      ok, message = hub.unpack(file, folder, o.limit)
      if not ok and sys.file_type(folder) ~= "folder" then return nil, message end -- another process may have been first
    end
    file = folder
  end
  if sys.file_type(file) == "folder" then
    file, message = model_in(file, handle)
    if not file then return nil, message end
  end
  return require("nnlua.checkpoint").load(file)
end

-- ---- the cache for users -----------------------------------------------------------------------------------------------------

local cache_spec = { cache = { "string" } }

--- What is in the cache, in the order of addresses: a list of { url =, handle =, path =, bytes =, sha256 =, fetched = }. Or nil and a message.
---@param given? { cache?: string }
---@return table[]?, string?
function hub.list(given)
  local cache, message = cache_folder(options.check("hub.list", given, cache_spec).cache)
  if not cache then return nil, message end
  local list, names = {}, {}
  if sys.file_type(cache) then names, message = sys.list_folder(cache) end
  if not names then return nil, "hub: " .. message end
  for _, name in ipairs(names) do
    local folder = cache .. "/" .. name
    local info = name:find "^%x+$" and read_info(folder)
    if info and sys.file_type(folder .. "/" .. info.file) == "file" then
      info.path = folder .. "/" .. info.file
      list[#list + 1] = info
    end
  end
  table.sort(list, function(a, b) return a.url .. a.path < b.url .. b.path end)
  return list
end

-- The cache folder and the folder of an entry, of a handle.
local function entry_of(what, handle, given)
  local spec = { cache = cache_spec.cache, include_top = fetch_spec.include_top, alpha = fetch_spec.alpha }
  local o = options.check(what, given, spec)
  local h, message = parsed(handle, o)
  if not h then return nil, message end
  if not h.url then return nil, ("hub: %s is a path; it is not in the cache"):format(h.shown) end
  local cache
  cache, message = cache_folder(o.cache)
  if not cache then return nil, message end
  local folder, name = place_of(cache, h.url)
  if sys.file_type(folder .. "/" .. name) ~= "file" then return nil, ("hub: %s is not in the cache"):format(h.shown) end
  return folder, name
end

--- What the cache knows of a handle, as an entry of list(), with its SHA-256 measured anew. Or nil and a message.
---@param handle string
---@param given? { cache?: string, include_top?: boolean, alpha?: number }
---@return table?, string?
function hub.info(handle, given)
  local folder, name = entry_of("hub.info", handle, given)
  if not folder then return nil, name end
  local path = folder .. "/" .. name
  local info, sum = read_info(folder) or {}, core.sha256_file(path)
  return { url = info.url, handle = info.handle, fetched = info.fetched, path = path, bytes = sys.file_size(path), sha256 = sum,
    intact = info.sha256 == nil or info.sha256 == sum }
end

--- Remove a handle's file from the cache. True, or nil and a message.
---@param handle string
---@param given? { cache?: string, include_top?: boolean, alpha?: number }
---@return true?, string?
function hub.rm(handle, given)
  local folder, message = entry_of("hub.rm", handle, given)
  if not folder then return nil, message end
  local ok, why = remove_tree(folder)
  if not ok then return nil, "hub: " .. why end
  return true
end

return hub
