--- Small families of functions with options: regularizers, constraints.
--
-- Owns: how such a family is named, configured and found again. A member is an object that is called with a tensor; it has options, config() for
-- files with Keras's class name, and prints itself.

local class = require "nnlua.class"
local options = require "nnlua.options"

local Member = class "Member"

function Member:init(given)
  for key, value in pairs(options.check(self.label, given, self.options)) do self[key] = value end
  if self.checked then self:checked() end
end

function Member:__call(x) return self:apply(x) end

function Member:config()
  local config = {}
  for key in pairs(self.options) do config[key] = self[key] end
  return { class_name = self.keras, config = config }
end

local function shown(value) return type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value) end

function Member:__tostring()
  local words = {}
  for key in pairs(self.options) do words[#words + 1] = ("%s = %s"):format(key, shown(self[key])) end
  table.sort(words)
  return ("%s{%s}"):format(self.label, table.concat(words, ", "))
end

local catalogue = {}

--- A family: its table, and a function define(name, keras, options, apply[, checked]) that adds to it. `what` is "a regularizer", for messages.
---@param what string
---@return table family
---@return function define
function catalogue.new(what)
  local family, by_keras_name = {}, {}

  local function define(name, keras, spec, apply, checked)
    local c = class(keras, Member)
    c.label, c.keras, c.options, c.apply, c.checked = name, keras, spec, apply, checked
    family[name], by_keras_name[keras] = c, c
  end

  local function names()
    local list = {}
    for name, value in pairs(family) do
      if type(value) == "table" then list[#list + 1] = name end
    end
    table.sort(list)
    return list
  end

  local function fail(owner, text, ...) options.raise((owner and owner .. ": " or "") .. text:format(...)) end

  --- The member that `spec` names: a name, { class_name =, config = }, a member or its class, or any function of a tensor; nil for nil. `owner` is
  --- whose option it is, for messages.
  function family.get(spec, owner)
    if spec == nil or type(spec) == "function" or class.isa(spec, Member) then return spec end
    local word = what:match "%S+$"
    if type(spec) == "string" then
      local c = type(rawget(family, spec)) == "table" and family[spec] or by_keras_name[spec]
      if c then return c {} end
      local near = options.nearest(spec, names())
      fail(owner, "unknown %s %q%s (valid: %s)", word, spec, near and ('; did you mean "' .. near .. '"?') or "", table.concat(names(), ", "))
    elseif type(spec) == "table" and type(spec.class_name) == "string" then
      local c = by_keras_name[spec.class_name]
      if not c then fail(owner, "unknown %s %q", word, spec.class_name) end
      local given = {}
      for key, value in pairs(spec.config or {}) do
        if c.options[key] then given[key] = value end
      end
      return c(given)
    elseif type(spec) == "table" and rawget(spec, "__index") == spec and spec.apply then
      return spec {}
    end
    fail(owner, "%s must be a name, an object of nn.%ss or a function of a tensor, got %s", what, word, options.shown(spec))
  end

  return options.closed(family, ("nn.%ss"):format(what:match "%S+$")), define
end

return catalogue
