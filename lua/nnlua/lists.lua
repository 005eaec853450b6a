--- What is asked of plain tables all over the library: their keys in order, whether two are the same, their leaves.
--
-- Owns: nothing, and loads nothing, so that every file may use it.

local lists = {}

--- The keys of a table in order, so that what is made of it is the same each time; with `wanted` those for which wanted(key, value) holds.
--- A metatable is not asked. Keys must be all numbers or all texts.
---@param t table
---@param wanted? fun(key: any, value: any): any
---@return any[]
function lists.sorted(t, wanted)
  local keys = {}
  for key, value in next, t do
    if not wanted or wanted(key, value) then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

--- Are two values the same, tables by what they hold? Shapes: lists.same(x:shape(), y:shape()).
---@param a any
---@param b any
---@return boolean
function lists.same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for key, value in next, a do
    if not lists.same(value, b[key]) then return false end
  end
  for key in next, b do
    if a[key] == nil then return false end
  end
  return true
end

--- All that is in nested lists, in order.
---@param t any a list, or a single value
---@param into? any[] where it is added
---@return any[]
function lists.flat(t, into)
  into = into or {}
  if type(t) ~= "table" then
    into[#into + 1] = t
  else
    for _, item in ipairs(t) do lists.flat(item, into) end
  end
  return into
end

return lists
