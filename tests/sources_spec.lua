-- lua/nnlua/data/{files,arrays,folders}.lua and what stands under them in C: each source against values written down here, resumed after every
-- element. Damaged files: tests/fuzz.
local nn = require "nnlua"
local core = require "nnlua.core"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local message = support.message

local folder = os.tmpname()
os.remove(folder)
assert(core.sys.mkdir_p(folder))

local function write(name, content)
  local path = folder .. "/" .. name
  local f = assert(io.open(path, "wb"))
  f:write(content)
  f:close()
  return path
end

local gzipped, collect = support.gzipped, support.elements

-- make() gives the data set; its pass is stopped after every element, and goes on in a new one.
local function resumes(make)
  local all = collect(make())
  for stop = 1, #all do
    local ds = make()
    local pass = ds:iter()
    for _ = 1, stop do pass() end
    local rest = collect(make():restore(ds:state()))
    pass:close()
    assert.same(table.move(all, stop + 1, #all, 1, {}), rest)
  end
end

describe("lines", function()
  local text = "first\r\nsecond line\n\nlast \226\130\172"
  local want = { "first", "second line", "", "last \226\130\172" }

  it("are read from files, gzipped or not", function()
    local a, b = write("a.txt", text), write("b.txt.gz", gzipped(text))
    assert.same(want, collect(nn.data.lines(a)))
    assert.same(want, collect(nn.data.lines(b)))
    local both = nn.data.lines { a, b }
    assert.equal("Dataset<u8 ?> unknown number of elements", tostring(both))
    assert.equal(8, #collect(both))
    assert.same(collect(both), collect(nn.data.lines(nn.data.list_files { folder .. "/a.txt", folder .. "/b.*" })))
    assert.same({}, collect(nn.data.lines(write("empty.txt", ""))))
    resumes(function() return nn.data.lines { a, b } end)
    local x = nn.data.lines(a):padded_batch(4):iter()()
    assert.same({ 4, 11 }, x:shape())
    assert.matches("elements of several sizes", message(function() nn.data.list_files(folder .. "/*.*"):batch(9):iter()() end))
  end)

  it("pass the edges of what is read at a time", function()
    local list = {}
    for i = 1, 400 do list[i] = ("%d"):format(i):rep(i * 7 % 501) end
    assert.same(list, collect(nn.data.lines(write("many.txt", table.concat(list, "\n") .. "\n"))))
    local long = write("long.txt", ("x"):rep(300000) .. "\n" .. ("y"):rep(3))
    assert.equal(300000, #collect(nn.data.lines(long))[1])
    assert.matches("long.txt: line 1 %(byte 0%): is longer than a line may be", message(function()
      collect(nn.data.lines(long, { limit = 1000 }))
    end))
  end)

  it("say what is wrong with files", function()
    local none, why = nn.data.lines(folder .. "/none.txt")
    assert.is_nil(none)
    assert.matches("none.txt: No such file", why)
    local gz = gzipped(("words "):rep(100))
    assert.matches("cut.gz: truncated", message(function() collect(nn.data.lines(write("cut.gz", gz:sub(1, -20)))) end))
  end)
end)

describe("csv", function()
  local text = '\239\187\191id,score,"the name",when\r\n1,0.5,"a, ""b""",\r\n\r\n-2,1e3,"two\nlines",7\n3,-4.25, spaced ,8'

  it("infers columns", function()
    local path = write("t.csv", text)
    local ds = nn.data.csv(path)
    assert.equal("Dataset<i64 scalar, f32 scalar, u8 ?, f32 scalar> 3 elements", tostring(ds))
    local rows = collect(ds)
    assert.is_true(rows[1][4] ~= rows[1][4]) -- NaN
    rows[1][4] = 0
    local want = { { 1, 0.5, 'a, "b"', 0 }, { -2, 1000, "two\nlines", 7 }, { 3, -4.25, " spaced ", 8 } }
    assert.same(want, rows)
    assert.same(want, collect(nn.data.csv(path, { fill = 0 })))
    assert.same(want, collect(nn.data.csv(write("t.csv.gz", gzipped(text)), { fill = 0 })))
    resumes(function() return nn.data.csv(path, { fill = 0 }):shuffle(3, { seed = 3 }) end)
  end)

  it("selects, groups and converts columns", function()
    local path = write("t2.csv", "1;2;x\n4;NA;y\n7;8;x\n")
    local ds = nn.data.csv { path, header = false, delimiter = ";", missing = { "NA" }, fill = -1,
      columns = { { 2, 1 }, 3 }, types = { "f32" }, labels = 3 }
    assert.same({ { { 2, 1 }, 1 }, { { -1, 4 }, 2 }, { { 8, 7 }, 1 } }, collect(ds))
    assert.equal("Dataset<f32 2, i64 scalar> 3 elements", tostring(ds))
    assert.same({ "x", "y" }, ds.labels.values)
    local u8 = nn.data.csv { path, header = false, delimiter = ";", columns = { 1, 3 }, types = { [1] = "u8", [3] = "text" } }
    assert.equal("Dataset<u8 scalar, u8 ?> 3 elements", tostring(u8))
    assert.matches("has no column \"z\"; it has 1, 2, 3", message(nn.data.csv, path, { header = false, delimiter = ";", columns = { "z" } }))
    local none, why = nn.data.csv(path, { header = false, delimiter = ";", types = { [2] = "i64" }, missing = { "NA" } })
    assert.is_nil(none)
    assert.matches("t2.csv: line 2, column 2: \"NA\" is missing", why)
    none, why = nn.data.csv(path, { header = false, delimiter = ";", types = { [3] = "f32" } })
    assert.is_nil(none)
    assert.matches("t2.csv: line 1, column 3: \"x\" is no number of f32", why)
  end)

  it("reads numbers as Lua does", function()
    local list, want = {}, {}
    local seed = 99
    for i = 1, 500 do
      seed = (seed * 16807) % 2147483647
      local shown = i % 3 == 0 and ("%.17g"):format((seed - 1e9) * 10.0 ^ (i % 41 - 20)) or i % 3 == 1 and ("%.4f"):format(seed / 7 - 1e8)
        or ("%d.%d"):format(seed, i)
      list[i], want[i] = shown, tonumber(shown) + 0.0
    end
    local path = write("n.csv", table.concat(list, "\n"))
    assert.same(want, collect(nn.data.csv(path, { header = false, types = { "f64" } })))
    assert.same({ math.maxinteger, math.mininteger, 0, 5 },
      collect(nn.data.csv(write("i.csv", ("%d\n%d\n-0\n +5"):format(math.maxinteger, math.mininteger)), { header = false })))
  end)

  it("refuses damaged tables", function()
    for content, why in pairs { ["a,b\n1,2\n3\n"] = "line 3: 1 cells, the first row has 2", ['a\n"x\n'] = "line 2: a quote is not closed",
      ['a\n"x"y\n'] = "line 2: something follows a closing quote", [""] = "holds no rows", ["a,b\n"] = "holds no rows",
      ['a\n"x' .. ("x"):rep(5000000)] = "line 2: a row of more than 4 MB" } do
      local none, got = nn.data.csv(write("bad.csv", content))
      assert.is_nil(none)
      assert(got:find(folder .. "/bad.csv: " .. why, 1, true), got)
    end
  end)

  it("reads what Python wrote", function()
    local py = io.popen("python3 -c 'import sys' 2>&1")
    if not py:close() then pending "python3 is not there" end
    local path = folder .. "/py.csv"
    local script = write("w.py", 'import csv,sys\nw=csv.writer(open(sys.argv[1],"w",newline=""))\nw.writerow(["n","t"])\n'
      .. 'for i in range(50): w.writerow([i/8, "a\\"b,"*(i%4)+"\\n"*(i%3)])\n')
    assert(os.execute(("python3 '%s' '%s'"):format(script, path)))
    local want = {}
    for i = 0, 49 do want[i + 1] = { i / 8, ('a"b,'):rep(i % 4) .. ("\n"):rep(i % 3) } end
    assert.same(want, collect(nn.data.csv(path)))
  end)
end)

describe("json_lines", function()
  local text = '{"x": [1, 2.5], "y": 3, "t": "d\\u00e9j\\u00e0", "b": true}\n\n{"y": -4, "x": [0, 1], "t": "", "b": false}\n'

  it("makes columns of fields", function()
    local path = write("t.jsonl", text)
    local ds = nn.data.json_lines(path)
    assert.equal("Dataset<bool scalar, u8 ?, f32 2, i64 scalar> 2 elements", tostring(ds))
    assert.same({ { true, "déjà", { 1, 2.5 }, 3 }, { false, "", { 0, 1 }, -4 } }, collect(ds))
    assert.same({ { 3, { 1, 2.5 } }, { -4, { 0, 1 } } }, collect(nn.data.json_lines(path, { fields = { "y", "x" } })))
    resumes(function() return nn.data.json_lines(path) end)
  end)

  it("refuses damaged files", function()
    for content, why in pairs { ["{}"] = "holds no objects", ['{"a": 1}\n{"b": 1}'] = 'line 2: has no field "a"',
      ['{"a": 1}\n{"a": '] = "line 2: not a JSON object",
      ['{"a": 1}\n{"a": "x"}'] = 'line 2: field "a" is a string, the first is a number', ["[1]"] = "line 1: not a JSON object" } do
      local none, got = nn.data.json_lines(write("bad.jsonl", content))
      assert.is_nil(none)
      assert.equal(folder .. "/bad.jsonl: " .. why, got)
    end
  end)
end)

describe("tfrecord", function()
  local masked, record = support.masked_crc, support.record
  local written = dofile(here .. "example.lua")
  local varint, field, example, floats = written.varint, written.field, written.of, written.floats
  local function ints(...)
    local out = {}
    for i, v in ipairs { ... } do out[i] = varint(v) end
    return field(3, field(1, table.concat(out)))
  end
  local function one_by_one(...)
    local out = {}
    for i, v in ipairs { ... } do out[i] = varint(8) .. varint(v) end
    return field(3, table.concat(out))
  end
  local function bytes(s) return field(1, field(1, s)) end
  local content = record(example { { "image", bytes "abc" }, { "label", ints(7) }, { "box", floats(1, 2.5) }, { "other", ints(1, 2) } })
    .. record(example { { "box", floats(3, 4) }, { "label", one_by_one(-1) }, { "image", bytes "" }, { "tags", ints(300, -1, 1 << 40) } })
  local features = { { "image", "bytes" }, { "label", "i64" }, { "box", "f32", { 2 } }, { "tags", "i64", { -1 }, default = 0 } }

  it("gives checked records, and the features of examples", function()
    local path = write("a.tfrecord", record "one" .. record "" .. record(("x"):rep(200000)))
    assert.same({ "one", "", ("x"):rep(200000) }, collect(nn.data.tfrecord(path)))
    local gz = write("a.gz", gzipped(record "one" .. record "" .. record(("x"):rep(200000))))
    assert.same(collect(nn.data.tfrecord(path)), collect(nn.data.tfrecord(gz)))
    local other = write("b.tfrecord", content)
    local ds = nn.data.tfrecord(other, { features = features })
    assert.equal("Dataset<u8 ?, i64 scalar, f32 2, i64 ?> unknown number of elements", tostring(ds))
    local want = { { "abc", 7, { 1, 2.5 }, {} }, { "", -1, { 3, 4 }, { 300, -1, 1 << 40 } } }
    assert.same(want, collect(ds))
    assert.same(want, collect(nn.data.tfrecord(other, { features = features, workers = 2 })))
    resumes(function() return nn.data.tfrecord { path, other } end)
    resumes(function() return nn.data.tfrecord({ other, other }, { features = features, workers = 2 }) end)
  end)

  it("refuses damaged files", function()
    local length = string.pack("<I8", 1 << 50)
    local huge = length .. string.pack("<I4", masked(length))
    local most = string.pack("<I8", 200 * 1024 * 1024)
    local before = core.sys.resident_memory()
    for bad, why in pairs { [huge] = "record 1 (byte 0): is longer than a record may be",
      [content:sub(1, -2)] = "record 2 ", ["junk"] = "record 1 (byte 0): is cut",
      [("junk"):rep(9)] = "its length is damaged", [most .. string.pack("<I4", masked(most)) .. "x"] = "is cut",
      [(content:gsub("abc", "abd"))] = "record 1 (byte 0): is damaged" } do
      local got = message(function() collect(nn.data.tfrecord(write("bad.tfrecord", bad))) end)
      assert(got:find(folder .. "/bad.tfrecord: ", 1, true) and got:find(why, 1, true), got)
    end
    assert.is_true(core.sys.resident_memory() - before < 32 * 1024 * 1024)
  end)
end)

describe("other sources", function()
  it("list files, sorted or by a seed", function()
    for _, name in ipairs { "l2.dat", "l10.dat", "l1.dat", "l3.dat" } do write(name, name) end
    local function names(opts)
      local out = collect(nn.data.list_files(folder .. "/l*.dat", opts))
      for i, name in ipairs(out) do out[i] = name:match "[^/]+$" end
      return out
    end
    assert.same({ "l1.dat", "l10.dat", "l2.dat", "l3.dat" }, names())
    local drawn = names { shuffle = true, seed = 5 }
    assert.same(drawn, names { shuffle = true, seed = 5 })
    table.sort(drawn)
    assert.same(names(), drawn)
    assert.is_nil((nn.data.list_files(folder .. "/nothing*")))
    resumes(function() return nn.data.list_files(folder .. "/l*.dat") end)
  end)

  it("read records of fixed length", function()
    local path = write("f.bin", "HHabcdefghiF")
    local ds = nn.data.fixed_length(path, 3, { header = 2, footer = 1 })
    assert.equal("Dataset<u8 3> 3 elements", tostring(ds))
    assert.same({ "abc", "def", "ghi" }, collect(ds))
    resumes(function() return nn.data.fixed_length(path, 3, { header = 2, footer = 1 }):shuffle(3, { seed = 1 }) end)
    assert.same({ nil, path .. ": has 12 bytes of records, which are no whole number of 5", n = 2 }, table.pack(nn.data.fixed_length(path, 5)))
    assert.matches("less than a record", select(2, nn.data.fixed_length(path, 50)))
    local image = {}
    for i = 0, 3071 do image[i + 1] = string.char(i % 251) end
    local cifar = nn.data.cifar(write("c.bin", "\4" .. table.concat(image)))
    local x, y = cifar:iter()()
    assert.equal("Dataset<u8 32x32x3, i64 scalar> 1 element", tostring(cifar))
    assert.equal(5, y:item())
    x = x:totable()
    assert.same({ 33 % 251, (1024 + 33) % 251, (2048 + 33) % 251 }, x[2][2]) -- row 1, column 1 of each plane
  end)

  it("read HDF5, npz and IDX files", function()
    local path = folder .. "/d.h5"
    assert(require("nnlua.h5").save(path, { ["/x"] = nn.tensor { { 1, 2 }, { 3, 4 }, { 5, 6 } }, ["/y"] = nn.tensor { 7, 8, 9 } }))
    assert.same({ { 7, { 1, 2 } }, { 8, { 3, 4 } }, { 9, { 5, 6 } } }, collect(nn.data.hdf5(path, { "y", "x" })))
    assert.same({ { 5, 6 }, 9 }, collect(nn.data.hdf5(path))[3])
    assert.matches('has no "z"; it has /x, /y', select(2, nn.data.hdf5(path, "z")))
    assert.is_nil((nn.data.hdf5(folder .. "/none.h5")))
    resumes(function() return nn.data.hdf5(path) end)
    local npz = folder .. "/d.npz"
    assert(require("nnlua.numpy").save_npz(npz, { x = nn.tensor { { 1, 2 }, { 3, 4 } }, y = nn.tensor { 5, 6 }, z = nn.tensor { 1 } }))
    assert.same({ { 5, { 1, 2 } }, { 6, { 3, 4 } } }, collect(nn.data.npz(npz, { "y", "x" })))
    assert.matches("no common number of rows", select(2, nn.data.npz(npz)))
    resumes(function() return nn.data.npz(npz, "x") end)
    local a, b = write("a.idx", "\0\0\8\2\0\0\0\2\0\0\0\3abcdef"), write("b.idx", "\0\0\8\1\0\0\0\2\1\2")
    assert.same({ { "abc", 1 }, { "def", 2 } }, collect(nn.data.idx(a, b)))
    assert.matches("a.idx: truncated", select(2, nn.data.idx(write("a.idx", "\0\0\8\2\0\0\0\2\0\0\0\3abcde"))))
  end)

  it("cut series into windows", function()
    local x, y = nn.tensor { { 1 }, { 2 }, { 3 }, { 4 }, { 5 }, { 6 }, { 7 }, { 8 } }, nn.tensor { 10, 20, 30, 40 }
    local ds = nn.data.timeseries(x, { targets = y, sequence_length = 3, sampling_rate = 2 })
    assert.matches("^Dataset<%w+ 3x1, %w+ scalar> 4 elements$", tostring(ds))
    assert.same({ { { { 1 }, { 3 }, { 5 } }, 10 }, { { { 2 }, { 4 }, { 6 } }, 20 }, { { { 3 }, { 5 }, { 7 } }, 30 },
      { { { 4 }, { 6 }, { 8 } }, 40 } }, collect(ds))
    assert.same({ { { { 1 }, { 2 } }, { { 4 }, { 5 } } }, { { { 7 }, { 8 } } } },
      collect(nn.data.timeseries(x, { sequence_length = 2, stride = 3, batch = 2 })))
    assert.equal(0, #nn.data.timeseries(x, { sequence_length = 9 }))
    resumes(function() return nn.data.timeseries(x, { sequence_length = 2 }):shuffle(8, { seed = 2 }) end)
  end)

  it("call a function", function()
    local function square(i) if i < 5 then return i * i, ("s"):rep(i) end end
    local want = { { 1, "s" }, { 4, "ss" }, { 9, "sss" }, { 16, "ssss" } }
    assert.same(want, collect(nn.data.from_function(square)))
    local ds = nn.data.from_function(square, { count = 4 })
    assert.same(want, collect(ds))
    assert.equal(4, ds:cardinality())
    resumes(function() return nn.data.from_function(square) end)
  end)

  it("decode the pictures in a folder for each class", function()
    local V, names = nn.vision, {}
    for i = 1, 7 do
      local class = i % 2 == 0 and "b" or "a"
      assert(core.sys.mkdir_p(folder .. "/pictures/" .. class))
      names[i] = ("%s/pictures/%s/%d.%s"):format(folder, class, i, i == 3 and "jpg" or i == 4 and "bmp" or "png")
      assert(V.save(names[i], (nn.rand(20 + i, 31, i == 5 and 1 or 3) * 255):to "u8"))
    end
    local order = { 1, 3, 5, 7, 2, 4, 6 } -- by folder, then by name
    local ds = assert(nn.data.image_folder(folder .. "/pictures"))
    assert.equal("Dataset<u8 ?x?x3, i64 scalar> 7 elements", tostring(ds))
    assert.same({ "a", "b" }, ds.labels.values)
    local k = 0
    for x, y in ds:iter() do
      k = k + 1
      assert.same(assert(V.load(names[order[k]], { channels = 3 })):totable(), x:totable())
      assert.equal(k <= 4 and 1 or 2, y:item())
    end
    for _, method in ipairs { "bilinear", "bicubic", "area", "nearest" } do
      for _, workers in ipairs { 0, 2 } do
        local how = { size = { 9, 7 }, channels = 1, interpolation = method, antialias = false, workers = workers }
        ds = nn.data.image_folder(folder .. "/pictures", how)
        assert.equal("Dataset<u8 4x9x7x1, i64 4> 2 batches", tostring(ds:batch(4)))
        local want = V.Resize { 9, 7, method = method, antialias = false }
        local x = ds:batch(7):iter()()
        for i = 1, 7 do assert.same(want(V.load(names[order[i]], { channels = 1 })):totable(), x[i]:totable()) end
      end
    end
    assert.equal("Dataset<u8 ?x?x?, i64 scalar> 7 elements", tostring(nn.data.image_folder(folder .. "/pictures", { channels = false })))
    assert.equal("Dataset<u8 ?, i64 scalar> 7 elements", tostring(nn.data.image_folder(folder .. "/pictures", { decode = false })))
    assert.same({ 16, 16, 3 }, nn.data.image_folder(folder .. "/pictures", { size = 16, quick = true }):iter()():shape())
    write("pictures/a/8.jpg", "no picture")
    for _, workers in ipairs { 0, 2 } do
      ds = nn.data.image_folder(folder .. "/pictures", { size = 8, workers = workers })
      assert.matches("pictures/a/8.jpg: image: the bytes are no JPEG", message(collect, ds))
      assert.equal(7, #collect(ds:ignore_errors()))
    end
    local none, why = nn.data.image_folder(folder .. "/pictures", { classes = { "a", "cow" } })
    assert.truthy(none == nil and why:find "cow: No such file")
    assert.truthy(message(nn.data.image_folder, folder .. "/pictures", { size = { 1, 2, 3 } }):find "size must be a number or")
  end)

  it("read a folder for each class", function()
    for class, n in pairs { cat = 7, dog = 3 } do
      assert(core.sys.mkdir_p(folder .. "/pets/" .. class))
      for i = 1, n do write(("pets/%s/%d.txt"):format(class, i), class .. i) end
    end
    write("pets/cat/notes.md", "no")
    local ds = nn.data.text_folder(folder .. "/pets")
    assert.equal("Dataset<u8 ?, i64 scalar> 10 elements", tostring(ds))
    assert.same({ "cat1", 1 }, collect(ds)[1])
    assert.same({ "dog3", 2 }, collect(ds)[10])
    assert.same({ "cat", "dog" }, ds.labels.values)
    local parts = nn.data.text_folder(folder .. "/pets", { split = { train = 0.8, val = 0.2 }, seed = 4, shuffle = true, workers = 2 })
    assert.equal(8, #parts.train)
    assert.equal(2, #parts.val)
    local seen = {}
    for _, part in pairs(parts) do
      for _, e in ipairs(collect(part)) do
        assert.equal(e[2], e[1]:find "cat" and 1 or 2)
        seen[e[1]] = (seen[e[1]] or 0) + 1
      end
    end
    local n = 0
    for _, times in pairs(seen) do n = n + times end
    assert.equal(10, n)
    resumes(function() return nn.data.text_folder(folder .. "/pets", { shuffle = true, seed = 9 }) end)
    assert.same({ "dog", "cat" }, nn.data.text_folder(folder .. "/pets", { classes = { "dog", "cat" } }).labels.values)
    assert.same({ "dog1", 1 }, collect(nn.data.text_folder(folder .. "/pets", { classes = { "dog", "cat" } }))[1])
    assert.matches("no folder in it holds a file that ends in jpg", select(2, nn.data.image_folder(folder .. "/pets")))
    assert.matches("add up to 1.2; at most 1", message(nn.data.text_folder, folder .. "/pets", { split = { a = 0.6, b = 0.6 } }))
  end)
end)

teardown(function() os.execute(("rm -r '%s'"):format(folder)) end)
