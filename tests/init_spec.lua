-- lua/nnlua/init.lua: names, loading on first use.
describe("nnlua", function()
  local loaded
  before_each(function()
    loaded = {}
    for name, value in pairs(package.loaded) do
      if name:find "^nnlua" and name ~= "nnlua.core" then
        loaded[name] = value
        package.loaded[name] = nil
      end
    end
  end)
  after_each(function()
    for name, value in pairs(loaded) do package.loaded[name] = value end
  end)

  it("loads nothing of the library until it is used, and sets no globals", function()
    local globals = {}
    for name in pairs(_G) do globals[name] = true end
    local nn = require "nnlua"
    for name in pairs(package.loaded) do assert.is_true(not name:find "^nnlua%." or name == "nnlua.core", name) end
    assert.is_table(nn.Dense)
    assert.is_table(package.loaded["nnlua.layers.core"])
    assert.is_nil(package.loaded["nnlua.training"])
    for name in pairs(_G) do assert.is_true(globals[name], name) end
  end)

  it("has the operators of the core", function()
    local nn, core = require "nnlua", require "nnlua.core"
    assert.equal(core.matmul, nn.matmul)
    assert.equal(core.zeros, nn.zeros)
  end)

  it("lists all names", function()
    local nn, names = require "nnlua", {}
    for name, value in pairs(nn) do names[name] = value end
    for _, name in ipairs { "Dense", "Sequential", "optim", "losses", "class", "Module", "parameter", "zeros" } do
      assert.is_truthy(names[name], name)
    end
  end)

  it("raises on a name that does not exist, with the nearest one", function()
    local nn = require "nnlua"
    local ok, err = pcall(function() return nn.Denes end)
    assert.is_false(ok)
    assert.truthy(err:find('nn has no "Denes"; did you mean "Dense"?', 1, true), err)
    assert.is_nil(rawget(nn, "Denes"))
  end)

  it("knows its devices", function()
    local nn = require "nnlua"
    assert.equal("cpu", nn.device "cpu")
    local device, message = nn.device "abacus"
    assert.is_nil(device)
    assert.is_string(message)
  end)
end)
