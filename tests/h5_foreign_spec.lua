-- runtime/io/h5_foreign.c, h5_reader_main.c, hdf5_read_module.c: HDF5 files that other programs wrote. Files by h5py (golden/make_foreign_h5.py).
local nn = require "nnlua"
local core = require "nnlua.core"
local h5 = require "nnlua.h5"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

local folder
local function path(name) return folder .. "/" .. name end
local function slurp(name)
  local f = assert(io.open(path(name), "rb"))
  local text = f:read "a"
  f:close()
  return text
end
local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
local has_h5py = os.execute(python .. " -c 'import h5py' 2>/dev/null")

describe("HDF5 files of other programs", function()
  if not has_h5py then
    pending "python3-h5py is not installed"
    return
  end
  setup(function()
    folder = io.popen("mktemp -d"):read "l"
    assert(os.execute((python .. " %sgolden/make_foreign_h5.py %s"):format(here, folder)))
  end)
  teardown(function() os.execute("rm -rf " .. folder) end)

  it("gives numbers and truth values of every kind", function()
    local t, attrs = assert(h5.load(path "kinds.h5"))
    local kinds = { i1 = "i32", u1 = "u8", i2 = "i32", u2 = "i32", i4 = "i32", u4 = "i64", i8 = "i64", f2 = "f16", f4 = "f32", f8 = "f64",
      big_i4 = "i32", big_f4 = "f32", big_f2 = "f16" }
    for kind, dtype in pairs(kinds) do
      local x = t["/numbers/" .. kind]
      assert.equal(dtype, x:dtype(), kind)
      assert.same({ { 1, 2, 3 }, { 100, 5, 6 } }, x:to "f64":totable(), kind)
    end
    assert.same({ true, false, true }, t["/truth"]:totable())
    assert.equal(2.5, t["/scalar"]:item())
    assert.same({ 0, 3 }, { t["/none"]:size() })
    assert.equal(4999 * 5000 / 2, t["/packed"]:to "f64":sum():item())
    assert.same({ text = "h\u{e9}llo", fixed = "abc", texts = { "a", "", "ccc" }, fixed_texts = { "x", "yy" }, empty = {}, int = -3, float = 0.5 },
      attrs["/"])
    assert.is_nil(t["/type"])
    assert.same({ 0, 1, 2, 3, 4, 5 }, assert(h5.load(path "latest.h5"))["/x"]:totable())
  end)

  it("reads the same from bytes", function()
    local tree = assert(core.h5_foreign("a name", slurp "latest.h5"))
    assert.equal(15, tree.datasets["/x"]:sum():item())
  end)

  for _, case in ipairs {
    { "soft.h5", "not a hard link" }, { "link.h5", "not a hard link" }, { "alias.h5", "several links" }, { "cycle.h5", "several links" },
    { "external.h5", "another file" }, { "virtual.h5", "virtual" }, { "bomb.h5", "claims more elements" },
    { "packed_bomb.h5", "8 times the bytes" }, { "texts.h5", "type that is not supported" }, { "compound.h5", "type that is not supported" },
    { "filter.h5", "filter" }, { "deep.h5", "too deep" }, { "secret", "not an HDF5 file" },
  } do
    it("refuses " .. case[1], function()
      local tree, message = h5.load(path(case[1]))
      assert.is_nil(tree)
      assert.truthy(message:find(case[2], 1, true), message)
      assert.equal(1, select(2, message:gsub(case[1]:gsub("%p", "%%%0"), "")), message)
    end)
  end

  it("holds files of ours to the digest that they carry", function()
    local image = assert(core.h5_image { datasets = {
      { path = "/x", tensor = nn.tensor { 1, 2, 3 } }, { path = "/b", tensor = nn.tensor { true } } } })
    local tree = assert(core.h5_foreign("inner", image))
    assert.same({ 1, 2, 3 }, tree.datasets["/x"]:totable())
    assert.same({ true }, tree.datasets["/b"]:totable())
    local name = os.tmpname()
    assert(h5.save(name, { ["/x"] = nn.tensor { 1, 2, 3 } }))
    local edit = [[import h5py,sys; f = h5py.File(sys.argv[1], 'r+'); f['x'][0] = 7; f.close()]]
    assert(os.execute((python .. " -c \"%s\" %s"):format(edit, name)))
    local ok, message = h5.load(name)
    os.remove(name)
    assert.is_nil(ok)
    assert.truthy(message:find("checksum", 1, true) or message:find("digest", 1, true), message)
  end)

  it("refuses in seconds what libhdf5 would read for ever, until memory ends", function()
    local f = assert(io.open(here .. "golden/keras/mlp.h5", "rb"))
    local bytes = f:read "a"
    f:close()
    local began = nn.sys.clock()
    local tree, message = core.h5_foreign("endless", bytes:sub(1, 1043) .. "\255" .. bytes:sub(1045))
    assert.is_nil(tree)
    assert.truthy(message:find "^endless: ", message) -- by the limit on memory, or under the sanitizers by that on time
    assert.is_true(nn.sys.clock() - began < 20)
    assert.same({ 0, 1, 2, 3, 4, 5 }, assert(h5.load(path "latest.h5"))["/x"]:totable())
  end)
end)
