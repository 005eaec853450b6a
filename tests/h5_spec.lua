-- bindings/lua_h5.c, bindings/lua_json.c and lua/nnlua/h5.lua.
local nn = require "nnlua"
local core = require "nnlua.core"
local h5 = require "nnlua.h5"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local support = dofile(here .. "support.lua")
local temporary, slurp, spill = files.temporary, files.read, files.write
local message = support.message

describe("JSON", function()
  local encode, decode = core.json_encode, core.json_decode

  it("keeps numbers, order and kinds", function()
    assert.equal('{"a":1,"b":[0.1,2.0,-0.0,1e+300],"c":null,"d":true}',
      encode { d = true, c = core.json_null, b = { 0.1, 2.0, -0.0, 1e300 }, a = 1 })
    assert.equal("9223372036854775807", encode(math.maxinteger))
    assert.equal(math.mininteger, decode(encode(math.mininteger)))
    assert.equal("integer", math.type(decode "7"))
    assert.equal("float", math.type(decode "7.0"))
    for _, x in ipairs { 1 / 3, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 123456789.125 } do assert.equal(x, decode(encode(x))) end
  end)

  it("tells lists from objects when they are empty", function()
    assert.equal("{}", encode {})
    assert.equal("[]", encode(setmetatable({}, core.json_array)))
    assert.equal('{"a":[],"b":{}}', encode(decode '{"b": {}, "a": []}'))
  end)

  it("writes texts that any reader takes", function()
    local text = "a\"b\\c\n\t\1\127 \u{e9}\u{1F600}"
    assert.equal(text, decode(encode(text)))
    assert.equal([["\u0001"]], encode "\1")
    assert.equal("\u{e9}\0x", decode [["\u00e9\u0000x"]])
  end)

  it("indents", function()
    assert.equal('{\n  "a": [\n    1\n  ]\n}', encode({ a = { 1 } }, { indent = 2 }))
  end)

  it("refuses what JSON cannot say", function()
    assert.truthy(message(encode, { 1, nil, 3 }):find "list 1..n without holes")
    assert.truthy(message(encode, { 1, a = 2 }):find "list 1..n without holes")
    assert.truthy(message(encode, 0 / 0):find "nan")
    assert.truthy(message(encode, { -1 / 0 }):find "inf")
    assert.truthy(message(encode, print):find "function")
    assert.truthy(message(encode, "\xff"):find "UTF%-8")
    local cycle = {}
    cycle[1] = cycle
    assert.truthy(message(encode, cycle):find "deeper than 64")
  end)

  it("refuses malformed texts with nil and a message", function()
    for text, why in pairs { ['{"a":1,"a":2}'] = "duplicate", ["[1,2"] = "expected", ["99999999999999999999"] = "too big", [""] = "",
      ["nan"] = "", ["[1] x"] = "end of file", ['"\xff"'] = "decode" } do
      local value, err = decode(text)
      assert.is_nil(value)
      assert.truthy(err:find "^JSON: line 1" and err:find(why), err)
    end
    assert.is_nil((decode(("["):rep(65) .. ("]"):rep(65))))
    assert.is_table(decode(("["):rep(64) .. ("]"):rep(64)))
    assert.is_nil((decode(("["):rep(1000000))))
  end)
end)

describe("HDF5 archives", function()
  teardown(files.clean)

  it("give back tensors of every dtype and shape, and attributes", function()
    local file = temporary()
    local x = nn.tensor { { 1, 2, 3 }, { 4, 5, 6.5 } }
    assert.is_true(core.h5_write(file, {
      datasets = {
        { path = "/a/x", tensor = x }, { path = "/a/view", tensor = x:transpose(1, 2) }, { path = "/pending", tensor = x * 2 + 1 },
        { path = "/i32", tensor = nn.tensor({ -1, 2 }, { dtype = "i32" }) }, { path = "/i64", tensor = nn.tensor({ 2 ^ 40 }, { dtype = "i64" }) },
        { path = "/bool", tensor = x:gt(2) }, { path = "/scalar", tensor = nn.tensor(2.5) }, { path = "/empty", tensor = nn.zeros { 2, 0, 3 } },
        { path = "/raw", dtype = "u8", shape = { 3 }, bytes = "a\0c" },
      },
      attrs = {
        { path = "/", name = "text", value = "caf\u{e9}" }, { path = "/a", name = "int", value = math.mininteger },
        { path = "/a/x", name = "float", value = 0.1 }, { path = "/g", name = "list", value = { "x", "", "long enough" } },
        { path = "/g", name = "none", value = {} },
      },
    }))
    local tree = assert(core.h5_read(file))
    local d, a = tree.datasets, tree.attrs
    assert.same({ { 1, 2, 3 }, { 4, 5, 6.5 } }, d["/a/x"]:totable())
    assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6.5 } }, d["/a/view"]:totable())
    assert.same({ { 3, 5, 7 }, { 9, 11, 14 } }, d["/pending"]:totable())
    assert.same({ -1, 2 }, d["/i32"]:totable())
    assert.same({ 2 ^ 40 }, d["/i64"]:totable())
    assert.same({ { false, false, true }, { true, true, true } }, d["/bool"]:totable())
    assert.same({ 97, 0, 99 }, d["/raw"]:totable())
    assert.equal(2.5, d["/scalar"]:item())
    assert.same({ 2, 0, 3 }, d["/empty"]:shape())
    local dtypes = {}
    for path, t in pairs(d) do dtypes[path] = t:dtype() end
    assert.same({ ["/a/x"] = "f32", ["/a/view"] = "f32", ["/pending"] = "f32", ["/i32"] = "i32", ["/i64"] = "i64", ["/bool"] = "bool",
      ["/scalar"] = "f32", ["/empty"] = "f32", ["/raw"] = "u8" }, dtypes)
    assert.same({ text = "caf\u{e9}" }, a["/"])
    assert.same({ int = math.mininteger }, a["/a"])
    assert.same({ float = 0.1 }, a["/a/x"])
    assert.same({ list = { "x", "", "long enough" }, none = {} }, a["/g"])
  end)

  it("are the same bytes for the same content", function()
    local one, two = temporary(), temporary()
    assert(h5.save(one, { ["/b"] = nn.ones(3), ["/a"] = nn.zeros(2) }, { ["/"] = { y = 1, x = "t" } }))
    assert(h5.save(two, { ["/a"] = nn.zeros(2), ["/b"] = nn.ones(3) }, { ["/"] = { x = "t", y = 1 } }))
    assert.equal(slurp(one), slurp(two))
  end)

  it("that are cut or changed are refused in one line that names the file", function()
    local good, bad = temporary(), temporary()
    assert(h5.save(good, { ["/x"] = nn.ones(100) }))
    local text = slurp(good)
    local cases = 0
    local function refused(content, why)
      spill(bad, content)
      local tensors, err = h5.load(bad)
      assert.is_nil(tensors, why)
      assert.truthy(err:find(bad, 1, true) and not err:find "\n", err)
      cases = cases + 1
    end
    for i = 1, 100 do
      refused(text:sub(1, (#text - 1) * i // 100), "cut")
      local at = 1 + (#text - 1) * i // 100
      refused(text:sub(1, at - 1) .. string.char(text:byte(at) ~ (1 << i % 8)) .. text:sub(at + 1), "changed")
    end
    refused("", "empty")
    refused(text .. "\0", "longer")
    assert.equal(202, cases)
    local tensors, err = h5.load(bad .. ".missing")
    assert.is_nil(tensors)
    assert.truthy(err:find("No such file", 1, true))
  end)

  it("that cannot be written leave the old file alone", function()
    local file = temporary()
    assert(h5.save(file, { ["/x"] = nn.ones(3) }))
    local before = slurp(file)
    local ok, err = h5.save(file .. "/below", { ["/x"] = nn.ones(3) })
    assert.is_nil(ok)
    assert.truthy(err:find(file, 1, true), err)
    assert.truthy(message(h5.save, file, { ["x//y"] = nn.ones(3) }):find "bad path '/x//y'")
    assert.truthy(message(h5.save, file, { ["/x"] = nn.ones(3), ["/x/y"] = nn.ones(3) }):find "/x cannot hold /x/y")
    assert.truthy(message(core.h5_write, file, { datasets = { { path = "/x" } } }):find "needs a tensor, or dtype, shape and bytes")
    assert.truthy(message(core.h5_write, file, { datasets = { { path = "/x", dtype = "f32", shape = { 2 }, bytes = "1234" } } }):find "do not fill")
    assert.truthy(message(core.h5_write, file, { attrs = { { path = "/x", name = "n", value = print } } }):find "needs a text, a number")
    assert.truthy(message(core.h5_write, file, { attrs = { { path = "/x", name = "n", value = { 1 } } } }):find "not a text")
    assert.equal(before, slurp(file))
  end)

  it("take paths from the root without the first slash", function()
    local file = temporary()
    assert(h5.save(file, { ["a/x"] = nn.ones(3), y = nn.zeros(2) }, { a = { unit = "mm" } }))
    local tensors, attributes = assert(h5.load(file))
    assert.same({ { 1, 1, 1 }, { 0, 0 }, "mm" }, { tensors["/a/x"]:totable(), tensors["/y"]:totable(), attributes["/a"].unit })
  end)

  it("outlive a scope when they are kept", function()
    local file = temporary()
    assert(h5.save(file, { ["/x"] = nn.ones(3) }))
    local x
    do
      local _ <close> = nn.scope()
      x = assert(h5.load(file))["/x"]
      x:keep()
    end
    assert.equal(3.0, x:sum():item())
  end)
end)
