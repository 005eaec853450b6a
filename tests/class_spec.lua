-- lua/nnlua/class.lua
local class = require "nnlua.class"

describe("class", function()
  local Animal = class "Animal"
  function Animal:init(name) self.name = name end
  function Animal:speak() return self.name .. " speaks" end
  function Animal.__tostring(a) return "<" .. a.name .. ">" end
  function Animal.__call(a, x) return a.name .. x end
  local Dog = class("Dog", Animal)
  function Dog:speak() return Animal.speak(self) .. ": woof" end

  it("makes objects and calls init", function()
    assert.equal("Rex speaks", Animal("Rex"):speak())
    assert.equal("Rex speaks: woof", Dog("Rex"):speak())
  end)

  it("inherits metamethods that the base had", function()
    assert.equal("<Rex>", tostring(Dog "Rex"))
    assert.equal("Rex!", Dog "Rex" "!")
  end)

  it("finds methods that the base gets later", function()
    local d = Dog "Rex"
    function Animal:late() return self.name .. " late" end
    assert.equal("Rex late", d:late())
  end)

  it("knows kinship", function()
    local d = Dog "Rex"
    assert.is_true(d:isa(Dog))
    assert.is_true(d:isa(Animal))
    assert.is_false(Animal("x"):isa(Dog))
    assert.is_false(class.isa(3, Dog))
    assert.is_false(class.isa({}, Dog))
    assert.equal(Animal, Dog.super)
  end)

  it("starts an object from new_object, also for derived classes", function()
    local Counter = class "Counter"
    function Counter.new_object() return { n = 0 } end
    local Sub = class("Sub", Counter)
    function Sub:init() self.n = self.n + 1 end
    assert.equal(1, Sub().n)
  end)

  it("prints and names itself", function()
    assert.equal("class Dog", tostring(Dog))
    assert.equal("Plain", tostring(class "Plain"()))
  end)

  it("refuses what is no class", function()
    assert.has_error(function() class(1) end, "class: the name must be a string, got a number")
    assert.has_error(function() class("X", {}) end, 'class: the base of "X" must be a class, got a table')
  end)
end)
