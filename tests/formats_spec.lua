-- lua/nnlua/safetensors.lua, numpy.lua, foreign.lua and runtime/io/elements.c: round trips, files of NumPy, what is refused, damaged files.
local nn = require "nnlua"
local core = require "nnlua.core"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
local temporary, slurp, spill = files.temporary, files.read, files.write

local function same(a, b)
  assert.equal(a:dtype(), b:dtype())
  assert.same(a:shape(), b:shape())
  if a:numel() > 0 then assert.truthy(a:eq(b):all():item()) end
end
local function refused(word, value, message)
  assert.is_nil(value)
  assert.truthy(message:find(word, 1, true), message)
  assert.falsy(message:find("\n", 1, true), message)
end

local function samples()
  nn.seed(5)
  local x = nn.randn(3, 4)
  return { x = x, t = x:transpose(1, 2), half = x:to "f16", double = x:to "f64", i = nn.tensor({ -1, 2 ^ 31 - 1 }, "i32"), s = nn.tensor(2.5),
    l = nn.tensor({ math.mininteger, math.maxinteger }, "i64"), e = nn.zeros(0, 3), b = nn.tensor { true, false }, u = nn.tensor({ 0, 255 }, "u8") }
end

describe("elements", function()
  it("are read from strings and files in every encoding", function()
    local cases = { ["i1"] = { "<i1", "i32", { -2, 127 } }, ["i2"] = { "i2", "i32", { -2, 32767 } }, ["i4"] = { "i4", "i32", { -2, 1 << 30 } },
      ["i8"] = { "i8", "i64", { -2, 1 << 62 } }, ["I1"] = { "u1", "u8", { 2, 255 } }, ["I2"] = { "u2", "i32", { 2, 65535 } },
      ["I4"] = { "u4", "i64", { 2, 4294967295 } }, ["I8"] = { "u8", "i64", { 2, 1 << 62 } }, ["f"] = { "f4", "f32", { -1.5, 2.25 } },
      ["d"] = { "f8", "f64", { -1.5, 1e300 } } }
    for pack, case in pairs(cases) do
      for _, order in ipairs { "<", ">" } do
        local bytes = string.pack(order .. pack .. pack, case[3][1], case[3][2])
        local encoding = order .. case[1]:gsub("^<", "")
        local t = assert(core.elements(bytes, encoding, { 2 }))
        assert.equal(case[2], t:dtype())
        assert.same(case[3], t:totable())
        local f = assert(io.open(spill(temporary(), "abc" .. bytes), "rb"))
        same(t, assert(core.elements(f, encoding, { 2 }, 3, "it")))
        refused("truncated", core.elements(f, encoding, { 2 }, 4, "it"))
        refused("memory cannot hold", core.elements(f, encoding, { 1 << 40, 1 << 40 }, 0, "it"))
        f:close()
      end
    end
    refused("2^63", core.elements(("\255"):rep(8), "<u8", { 1 }))
    refused("not read", core.elements("ab", "<c2", { 1 }))
    refused("the shape needs 8", core.elements("ab", "<f4", { 2 }))
  end)

  it("of many blocks keep their order", function()
    local list = {}
    for i = 1, 40000 do list[i] = i % 60000 - 30000 end
    local t = assert(core.elements(string.pack(">" .. ("i2"):rep(100), table.unpack(list, 1, 100)):rep(400), ">i2", { 400, 100 }))
    assert.equal(list[100], t[400]:totable()[100])
    assert.equal(list[1], t[399]:totable()[1])
  end)
end)

describe("safetensors", function()
  teardown(files.clean)
  local file = temporary()

  it("come back, one at a time and all", function()
    local given = samples()
    given.bf = given.x:to "bf16"
    assert(nn.safetensors.save(file, given, { format = "pt" }))
    local bytes = slurp(file)
    assert(nn.safetensors.save(file, given, { format = "pt" }))
    assert.equal(bytes, slurp(file))
    local f = assert(nn.safetensors.open(file))
    assert.equal("pt", f.metadata.format)
    assert.same({ 4, 3 }, f.shapes.t)
    assert.equal("BF16", f.dtypes.bf)
    same(given.t, assert(f:tensor "t"))
    refused("has no tensor", f:tensor "nobody")
    f:close()
    refused("closed", f:tensor "t")
    local all = assert(nn.safetensors.load(file))
    for name, t in pairs(given) do same(t, all[name]) end
    assert(nn.safetensors.save(file, {}))
    assert.same({}, (assert(nn.safetensors.load(file))))
  end)

  it("agree with the format to the byte", function()
    assert(nn.safetensors.save(file, { a = nn.tensor({ 1, 2 }, "f32") }))
    local header = '{"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2]}}  '
    assert.equal(string.pack("<I8", #header) .. header .. string.pack("<ff", 1, 2), slurp(file))
  end)

  it("are refused when they lie", function()
    local function with(header, data) return spill(file, string.pack("<I8", #header) .. header .. (data or "")) end
    local function t(dtype, shape, from, to) return ('{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}'):format(dtype, shape, from, to) end
    for _, case in ipairs {
      { '{"a":' .. t("F32", "[1]", 0, 4) .. ',"a":' .. t("F32", "[1]", 0, 4) .. "}", "1234", "duplicate" },
      { '{"a":' .. t("F32", "[1]", 0, 4) .. ',"b":' .. t("F32", "[1]", 5, 9) .. "}", "123456789", "hole" },
      { '{"a":' .. t("F32", "[1]", 0, 4) .. ',"b":' .. t("F32", "[1]", 2, 6) .. "}", "123456", "overlaps" },
      { '{"a":' .. t("F32", "[1]", 0, 4) .. "}", "12345", "follow" }, { '{"a":' .. t("F32", "[1]", 0, 4) .. "}", "123", "outside" },
      { '{"a":' .. t("F8_E4M3", "[4]", 0, 4) .. "}", "1234", "F8_E4M3" }, { '{"a":' .. t("F32", "[1.0]", 0, 4) .. "}", "1234", "size" },
      { '{"a":' .. t("F32", "[1]", "0.0", 4) .. "}", "1234", "integers" }, { '{"a":' .. t("F32", "[-1]", 0, 4) .. "}", "1234", "size" },
      { '{"a":' .. t("F32", "[4294967296,4294967296]", 0, 0) .. "}", "", "too large" },
      { '{"a":' .. t("F32", "[9223372036854775807,2]", 0, 4) .. "}", "1234", "too large" },
      { '{"a":' .. t("F32", "[2]", 0, 4) .. "}", "1234", "need 8" }, { '{"a":' .. t("F32", "null", 0, 4) .. "}", "1234", "shape" },
      { '{"a":' .. t("F32", "[1]", 4, 0) .. "}", "1234", "outside" }, { '{"a":7}', "", "description" }, { "[]", "", "begin" }, { "{", "", "header" },
      { '{"__metadata__":{"a":1}}', "", "no text" }, { '{"a":' .. t("F32", "[1]", 0, 4):gsub("}", ',"x":1}') .. "}", "1234", "unknown key" },
      { '{"a":' .. t("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) .. "}", "1234", "dims" },
    } do refused(case[3], nn.safetensors.load(with(case[1], case[2]))) end
    refused("header", nn.safetensors.load(spill(file, string.pack("<I8", 1 << 62) .. "{}")))
    refused("shorter", nn.safetensors.load(spill(file, "abc")))
    refused("No such file", nn.safetensors.load "/nonexistent/x")
    assert.error_matches(function() nn.safetensors.save(file, { a = 7 }) end, "must be a tensor")
    assert.error_matches(function() nn.safetensors.save(file, { a = nn.ones(1) }, { b = 7 }) end, "metadata")
    assert.is_nil((nn.safetensors.save("/nonexistent/x", { a = nn.ones(1) })))
  end)
end)

describe("NumPy's files", function()
  local file, other = temporary(), temporary ".npz"

  it("come back and NumPy reads them", function()
    local given = samples()
    for name, t in pairs(given) do
      assert(nn.numpy.save(file, t))
      same(t, assert(nn.numpy.load(file)))
      assert.equal(0, (#slurp(file) - #t:tostring_bytes()) % 64, name)
    end
    assert(nn.numpy.save_npz(other, given))
    for name, t in pairs(assert(nn.numpy.load_npz(other))) do same(given[name], t) end
    local script = spill(temporary(), [[
import numpy as np, sys
z = np.load(sys.argv[1])
x = z["x"]
assert x.shape == (3, 4) and x.dtype == np.float32
assert np.array_equal(z["t"], x.T) and z["s"] == 2.5 and z["s"].shape == ()
assert z["l"].tolist() == [-2**63, 2**63-1]
assert z["b"].tolist() == [True, False] and z["u"].tolist() == [0, 255] and z["e"].shape == (0, 3)
assert np.array_equal(z["double"].astype(np.float32), x) and z["half"].dtype == np.float16 and z["i"].tolist() == [-1, 2**31-1]
a = np.arange(24).reshape(2, 3, 4)
out = {"f": np.asfortranarray(a.astype(">f8")), "c": a.astype(">i2"), "u": np.array([1, 2**32-1], "u4"), "s": np.array(3, "i1"),
       "e": np.zeros((2, 0)),
       "v": a[0, :, 1].astype("f4")}
np.savez(sys.argv[1], **out)
np.savez_compressed(sys.argv[1] + "c.npz", **out)
for major in (2, 3):
    with open(sys.argv[1] + str(major), "wb") as f: np.lib.format.write_array(f, a.astype("<f4"), (major, 0))
]])
    assert(os.execute(("%s %s %s"):format(python, script, other)))
    for _, name in ipairs { "c.npz", "2", "3" } do files.clean_up(other .. name) end
    for _, name in ipairs { other, other .. "c.npz" } do
      local z = assert(nn.numpy.load_npz(name))
      local a = nn.arange(0, 24):reshape(2, 3, 4)
      same(a:to "f64", z.f)
      same(a:to "i32", z.c)
      same(nn.tensor({ 1, 4294967295 }, "i64"), z.u)
      same(nn.tensor(3, "i32"), z.s)
      assert.same({ 2, 0 }, z.e:shape())
      same(a:to "f32"[1][{ {}, 2 }], z.v)
      for _, major in ipairs { "2", "3" } do same(a:to "f32", assert(nn.numpy.load(other .. major))) end
    end
  end)

  it("are refused when they lie", function()
    local function with(header, data) return spill(file, "\147NUMPY\1\0" .. string.pack("<s2", header) .. (data or "")) end
    local function d(descr, order, shape) return ("{'descr': %s, 'fortran_order': %s, 'shape': %s, }"):format(descr, order, shape) end
    for _, case in ipairs {
      { d("'|O'", "False", "(1,)"), "object", "|O" }, { d("'<c8'", "False", "(1,)"), "12345678", "<c8" },
      { d("'<U1'", "False", "(1,)"), "1234", "<U1" },
      { d("[('a', '<f4')]", "False", "(1,)"), "1234", "descr" }, { d("'<f4'", "Maybe", "(1,)"), "1234", "fortran_order" },
      { d("'<f4'", "False", "(-1,)"), "1234", "shape" }, { d("'<f4'", "False", "(1 << 3,)"), "1234", "shape" },
      { d("'<f4'", "False", "(2,)"), "1234", "need 8" }, { d("'<f4'", "False", "(1,)"), "12345", "need 4" },
      { d("'<f4'", "False", "(4294967296, 4294967296)"), "", "too large" }, { d("'<f4'", "False", "(9999999999999999999,)"), "", "size of" },
      { d("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), "1234", "dims" }, { "os.execute('x')", "", "dict" }, { "{'descr': '<f4'}", "", "fortran_order" },
      { d("'<f4'", "False", "(1,), 'x': 1"), "1234", "more than" }, { d("'<f4', 'descr': '<f4'", "False", "(1,)"), "1234", "twice" },
    } do refused(case[3], nn.numpy.load(with(case[1], case[2]))) end
    refused("version", nn.numpy.load(spill(file, "\147NUMPY\9\0" .. ("\0"):rep(20))))
    refused("cut", nn.numpy.load(spill(file, "\147NUMPY\1\0\255\0")))
    refused("not a .npy", nn.numpy.load(spill(file, "abc")))
    refused("no .npy file", nn.numpy.load_npz(spill(other, require("nnlua.zip").pack { { "a.txt", "x" } })))
    refused("the member a.npy", nn.numpy.load_npz(spill(other, require("nnlua.zip").pack { { "a.npy", "x" } })))
    assert.error_matches(function() nn.numpy.save(file, nn.ones(2):to "bf16") end, "bf16")
  end)
end)
