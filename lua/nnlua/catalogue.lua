--- Small families of functions with options: initializers, regularizers, constraints, schedules.
--
-- Owns: how such a family is named, configured and found again. A member is an object that is called with one thing (a tensor, a shape, a
-- step); it has options, config() for files with Keras's class name, and prints itself.

local class = require "nnlua.class"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local Member = class "Member"

function Member:init(given)
  for key, value in pairs(options.check(self.label, given, self.options)) do self[key] = value end
  if self.checked then self:checked() end
end

function Member:__call(x) return self:apply(x) end

-- What config() gives of an option: of a member in it (the schedule inside of a warm-up) the config.
local function plain(value)
  if type(value) ~= "table" then return value end
  if value.config then return value:config() end
  local out = {}
  for key, item in pairs(value) do out[key] = plain(item) end
  return out
end

--- Class name and options, for files: get{ class_name = .., config = .. } of the family makes an equal one.
function Member:config()
  local config = {}
  for key in pairs(self.options) do config[key] = plain(self[key]) end
  return { class_name = self.keras, config = config }
end

local function shown(value)
  if type(value) ~= "table" or value.config then return tostring(value) end
  local words = {}
  for i, item in ipairs(value) do words[i] = shown(item) end
  return "{" .. table.concat(words, ", ") .. "}"
end

function Member:__tostring()
  local words = {}
  for _, key in ipairs(lists.sorted(self.options)) do
    if self[key] ~= nil then words[#words + 1] = ("%s = %s"):format(key, shown(self[key])) end
  end
  return ("%s{%s}"):format(self.label, table.concat(words, ", "))
end

local catalogue = {}

--- A family: its table, and a function define(name, keras, options, apply[, checked]) that adds to it. `what` is "a regularizer", and `of`
--- what its members are called with ("a tensor" unless given), for messages.
---@param what string
---@param of? string
---@return table family
---@return function define
function catalogue.new(what, of)
  local family, by_keras_name = {}, {}
  local word = what:match "%S+$"
  local Own = class(word:gsub("^%l", string.upper), Member)

  local function define(name, keras, spec, apply, checked)
    local c = class(keras, Own)
    c.label, c.keras, c.options, c.apply, c.checked = name, keras, spec, apply, checked
    family[name], by_keras_name[keras] = c, c
  end

  local function names()
    return lists.sorted(family, function(_, value) return type(value) == "table" end)
  end

  local function fail(owner, text, ...) options.raise((owner and owner .. ": " or "") .. text:format(...)) end

  --- The member that `spec` names: a name, { class_name =, config = }, a member or its class, or any function. `owner` is
  --- whose option it is, for messages.
  function family.get(spec, owner)
    if type(spec) == "function" or class.isa(spec, Own) then return spec end
    if type(spec) == "string" then
      local c = type(rawget(family, spec)) == "table" and family[spec] or by_keras_name[spec]
      if c then return c {} end
      fail(owner, "unknown %s %q%s (valid: %s)", word, spec, options.advice(spec, names()), table.concat(names(), ", "))
    elseif type(spec) == "table" and type(spec.class_name) == "string" then
      local c = by_keras_name[spec.class_name]
      if not c then
        local known = lists.sorted(by_keras_name)
        fail(owner, "unknown %s %q%s (valid: %s)", word, spec.class_name, options.advice(spec.class_name, known), table.concat(known, ", "))
      end
      local given = {}
      for key, value in pairs(spec.config or {}) do
        if c.options[key] then given[key] = value end -- files also hold seeds and nulls
      end
      return c(given)
    elseif type(spec) == "table" and rawget(spec, "__index") == spec and spec.apply then
      return spec {}
    end
    fail(owner, "%s must be a name, an object of nn.%ss or a function of %s, got %s", what, word, of or "a tensor", options.shown(spec))
  end

  return options.closed(family, ("nn.%ss"):format(word)), define
end

return catalogue
