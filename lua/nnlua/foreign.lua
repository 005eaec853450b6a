--- What readers of other programs' files share: opening, checked sizes, one-line errors.
--
-- Owns: how such a reader fails. It calls foreign.refuse(...) anywhere, which foreign.guard turns into nil and a message that begins with the
-- file's name; every other error is a defect and stays one. Nothing that is read is ever executed.

local core = require "nnlua.core"
local options = require "nnlua.options"

local foreign = {}
local Refusal = {}

--- Give up reading, for a reason that is the file's fault.
function foreign.refuse(text, ...) error(setmetatable({ text = select("#", ...) > 0 and text:format(...) or text }, Refusal), 0) end

local function outcome(name, ok, ...)
  if ok then return ... end
  local why = ...
  if getmetatable(why) ~= Refusal then error(why, 0) end
  local text = why.text:gsub("%c", "?")
  return nil, text:sub(1, #name + 1) == name .. ":" and text or ("%s: %s"):format(name, text)
end

--- What reader(...) gives; or nil and "name: why" where it refuses.
function foreign.guard(name, reader, ...) return outcome(name, pcall(reader, ...)) end

--- An open file and its size in bytes; refuses what cannot be opened and folders.
---@param file string
function foreign.open(file)
  if type(file) ~= "string" then options.raise("needs a file name, got " .. options.shown(file)) end
  local f, message = io.open(file, "rb")
  if not f then foreign.refuse(message) end
  local total = f:seek "end"
  if not total or total == math.maxinteger then
    f:close()
    foreign.refuse "not a file"
  end
  return f, total
end

--- The whole of a file, at most `most` bytes.
function foreign.slurp(file, most)
  local f, total = foreign.open(file)
  if total > most then
    f:close()
    foreign.refuse("%d bytes; files up to %d are read", total, most)
  end
  f:seek "set"
  local bytes = f:read(total) or ""
  f:close()
  if #bytes < total then foreign.refuse "truncated while it was read" end
  return bytes
end

--- The number of elements of a shape from a file: a list of at most 8 integers >= 0 whose product is at most 2^53. `what` is for messages.
function foreign.elements(shape, what)
  if #shape > 8 then foreign.refuse("%s has %d dims; at most 8 are read", what, #shape) end
  local n, empty = 1, false
  for _, size in ipairs(shape) do
    if math.type(size) ~= "integer" or size < 0 then foreign.refuse("%s has the size %s", what, options.shown(size)) end
    if size == 0 then empty = true
    elseif size > (1 << 53) // n then foreign.refuse("%s: the product of its sizes is too large", what)
    else n = n * size end
  end
  return empty and 0 or n
end

--- core.elements, refusing where it fails.
function foreign.tensor(from, encoding, shape, offset, name)
  local tensor, message = core.elements(from, encoding, shape, offset, name)
  if not tensor then foreign.refuse(message) end
  return tensor
end

--- Keys of a table of texts in order.
function foreign.sorted(t, what)
  local keys = {}
  for key in pairs(t) do
    if type(key) ~= "string" then options.raise(("%s: names must be texts, got %s"):format(what, options.shown(key))) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

return foreign
