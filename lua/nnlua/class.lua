--- Classes: `nn.class(name[, base])` makes one.
--
-- Owns: what a class is. A class is a table that is called to make an object; a call makes the object and hands its arguments to `init`:
--
--     local class = require "nnlua.class"
--     local Animal = class "Animal"
--     function Animal:init(name) self.name = name end
--     function Animal:speak() return self.name .. " makes a sound" end
--     local Dog = class("Dog", Animal)
--     function Dog:speak() return Animal.speak(self) .. ": woof" end
--     print(Dog("Rex"):speak())                     --> Rex makes a sound: woof
--     print(Dog("Rex"):isa(Animal), Dog.super == Animal)   --> true  true
--
-- Inheritance is single. Metamethods (`__call`, `__tostring`, ...) that a base has when the derived class is made are inherited; `__index`
-- is the class itself and cannot be replaced. `new_object` (a function without self) makes the raw table an object starts as, so a base can
-- rely on its fields even when a derived `init` does not call the base's.

local Class = { __name = "class" }

local function instantiate(class, ...)
  local object = setmetatable(class.new_object and class.new_object() or {}, class)
  local init = class.init
  if init then init(object, ...) end
  return object
end

--- Is `object` an instance of `class`, or of a class derived from it? Any value may be asked.
---@param object any
---@param class table
---@return boolean
function Class.isa(object, class)
  if type(object) ~= "table" then return false end
  local c = getmetatable(object)
  while type(c) == "table" do
    if c == class then return true end
    c = rawget(c, "super")
  end
  return false
end

local function tostring_default(object)
  return rawget(getmetatable(object), "__name")
end

--- A new class. With `base`, methods that it lacks are looked up there.
---@param name string
---@param base? table
---@return table
local function make(name, base)
  if type(name) ~= "string" then error("class: the name must be a string, got a " .. type(name), 2) end
  if base ~= nil and (type(base) ~= "table" or rawget(base, "__index") ~= base) then
    error(("class: the base of %q must be a class, got a %s"):format(name, type(base)), 2)
  end
  local class = {}
  if base then
    for key, value in pairs(base) do
      if type(key) == "string" and key:sub(1, 2) == "__" then class[key] = value end
    end
  else
    class.__tostring = tostring_default
    class.isa = Class.isa
  end
  class.__name, class.__index, class.super = name, class, base
  return setmetatable(class, {
    __index = base, __call = instantiate, __name = "class",
    __tostring = function() return "class " .. name end,
  })
end

return setmetatable(Class, { __call = function(_, name, base) return make(name, base) end, __tostring = function() return "nn.class" end })
