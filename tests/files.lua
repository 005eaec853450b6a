-- Files of a spec: what they hold, and names for new ones, which clean() removes: teardown(files.clean). Each dofile has its own.
local sys = require("nnlua.core").sys

local files = {}
local made = {}

function files.read(path)
  local f = assert(io.open(path, "rb"))
  local bytes = f:read "a"
  f:close()
  return bytes
end

--- Lets clean() remove a file that others make.
function files.clean_up(path) made[#made + 1] = path end

--- Returns the path.
function files.write(path, bytes)
  local f = assert(io.open(path, "wb"))
  assert(f:write(bytes))
  assert(f:close())
  return path
end

--- A name for a file that is not there yet, or is empty; `ending`: what it ends in (".h5").
function files.temporary(ending)
  local name = os.tmpname()
  made[#made + 1] = name
  if not ending then return name end
  made[#made + 1] = name .. ending
  return name .. ending
end

--- A fresh folder.
function files.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(sys.mkdir_p(path, true))
  made[#made + 1] = path
  return path
end

--- Removes a folder of folder() or a file of temporary().
function files.remove(path)
  assert(#path > 5 and path:find "^/tmp/", path)
  os.execute("rm -rf '" .. path:gsub("'", "'\\''") .. "'")
end

function files.clean()
  for _, path in ipairs(made) do files.remove(path) end
  made = {}
end

return files
