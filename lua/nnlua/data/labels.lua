-- data/labels.lua - what class ids stand for.

local class = require "nnlua.class"
local options = require "nnlua.options"

---@class nnlua.LabelEncoder
--- Class ids 1..n and the raw values that they stand for: `LabelEncoder{"cat", "dog"}:decode(1)` is "cat"; also as `{ values = {"cat", "dog"} }`.
--- LabelEncoder.fit finds them in data, where values come many times.
local LabelEncoder = class "LabelEncoder"

local encoder_spec = { values = { "table", position = 1, required = true } }

function LabelEncoder:init(given)
  if type(given) == "table" and given[1] ~= nil and type(given[1]) ~= "table" then given = { values = given } end
  local values = options.check("LabelEncoder", given, encoder_spec).values
  self.values, self.ids = {}, {}
  for i, value in ipairs(values) do
    if self.ids[value] then
      options.raise(("LabelEncoder: the value %s comes twice; LabelEncoder.fit(list) takes data"):format(options.shown(value)))
    end
    self.values[i], self.ids[value] = value, i
  end
end

--- The encoder of the values that occur in a list or a tensor, in ascending order (numbers before strings).
---@param list any[]
---@return nnlua.LabelEncoder
function LabelEncoder.fit(list)
  if type(list) == "userdata" then list = list:totable() end
  local seen, values = {}, {}
  for _, value in ipairs(list) do
    if not seen[value] then
      seen[value] = true
      values[#values + 1] = value
    end
  end
  table.sort(values, function(a, b)
    if type(a) ~= type(b) then return type(a) < type(b) end
    return a < b
  end)
  return LabelEncoder { values = values }
end

local function each(value, f)
  if type(value) == "userdata" then value = value:totable() end
  if type(value) ~= "table" then return f(value) end
  local out = {}
  for i, v in ipairs(value) do out[i] = each(v, f) end
  return out
end

--- The class id of a raw value; of a list or tensor, a list of ids.
function LabelEncoder:encode(value)
  return each(value, function(v)
    return self.ids[v] or options.raise(("LabelEncoder: %s is none of its %d values"):format(options.shown(v), #self.values))
  end)
end

--- The raw value of a class id; of a list or tensor, a list of values.
function LabelEncoder:decode(id)
  return each(id, function(i)
    local value = self.values[i]
    if value == nil then options.raise(("LabelEncoder: class id %s is not in 1..%d"):format(options.shown(i), #self.values)) end
    return value
  end)
end

function LabelEncoder:__len() return #self.values end

function LabelEncoder:__tostring()
  local words = {}
  for i = 1, math.min(#self.values, 10) do words[i] = tostring(self.values[i]) end
  return ("LabelEncoder(%s%s)"):format(table.concat(words, " "), #self.values > 10 and " ..." or "")
end

return LabelEncoder
