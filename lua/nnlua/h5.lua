--- HDF5 files: `nn.h5`. Named tensors and attributes, saved all at once and safely.
--
-- Owns: the plain form of such a file in Lua. Saving replaces the file only when the new one is whole and on disk; loading gives everything
-- or nothing. Files are checked against their digest. Those that other programs wrote (h5py, Keras) are read too, by a process of its own with
-- limits on memory and time, since libhdf5 crashes on some damaged files: an error message then.
--
--     local h5 = require "nnlua.h5"
--     local nn = require "nnlua"
--     local file = os.tmpname()
--     assert(h5.save(file, { ["/points/x"] = nn.tensor{1, 2, 3} }, { ["/points"] = { unit = "mm" } }))
--     local tensors, attributes = assert(h5.load(file))
--     print(tensors["/points/x"]:sum():item(), attributes["/points"].unit)   --> 6  mm
--     os.remove(file)

local core = require "nnlua.core"
local lists = require "nnlua.lists"

local h5 = {}

local function from_root(path) return type(path) == "string" and not path:find "^/" and "/" .. path or path end

--- Save tensors by path ("/a/b", or "a/b" for the same), and attributes (texts, numbers, lists of texts) by path and name. True, or nil and a
--- message.
---@param file string
---@param tensors table<string, nnlua.Tensor>
---@param attributes? table<string, table<string, string|number|string[]>>
function h5.save(file, tensors, attributes)
  local datasets, attrs = {}, {}
  for _, path in ipairs(lists.sorted(tensors)) do datasets[#datasets + 1] = { path = from_root(path), tensor = tensors[path] } end
  for _, path in ipairs(lists.sorted(attributes or {})) do
    for _, name in ipairs(lists.sorted(attributes[path])) do
      attrs[#attrs + 1] = { path = from_root(path), name = name, value = attributes[path][name] }
    end
  end
  return core.h5_write(file, { datasets = datasets, attrs = attrs })
end

--- Did nnlua write this file? Those end in a seal of 16 bytes that begins with this word (io/archive.h). True for what is no readable file: the
--- reader has the message.
---@param file string
function h5.is_sealed(file)
  local f = io.open(file, "rb")
  if not f then return true end
  local found = f:seek("end", -16) and f:read(8) == "nnluaend"
  f:close()
  return found
end

--- Tensors by path, and attributes by path and name; or nil and a message. Of a file that another program wrote: data sets of numbers and truth
--- values (i8 and i16 become i32, u32 and u64 i64) and attributes that are a text, a list of texts or a number; others are left out.
--- Refused: links and storage outside the file, tensors of more than 8 times its bytes + 16 MiB.
---@param file string
---@return table<string, nnlua.Tensor>? tensors, table<string, table>|string attributes
function h5.load(file)
  local read = h5.is_sealed(file) and core.h5_read or core.h5_foreign
  local tree, message = read(file)
  if not tree then return nil, message end
  return tree.datasets, tree.attrs
end

return h5
