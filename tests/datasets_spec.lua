-- lua/nnlua/datasets.lua: where files are looked for, what they must hold, generated digits. Damaged files of every kind are tested in
-- tests/c/test_data.c; here is what a user sees of them. Nothing here needs a network or asks for one.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local sys = require("nnlua.core").sys
local tls = dofile(here .. "tls.lua")
local shell = tls.shell
local write, read = files.write, files.read

local function new_folder()
  local path = files.folder()
  assert(sys.mkdir_p(path .. "/mnist"))
  return path
end

local function images(n, side)
  side = side or 28
  local rows = {}
  for i = 1, n do rows[i] = string.char(i % 256):rep(side * side) end
  return (">BBBBI4I4I4"):pack(0, 0, 8, 3, n, side, side) .. table.concat(rows)
end

local function labels(list)
  return (">BBBBI4"):pack(0, 0, 8, 1, #list) .. string.char(table.unpack(list))
end

local TRAIN_X, TRAIN_Y, TEST_X, TEST_Y = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

-- A folder with four small files; `change` has other contents by name, false for none.
local function folder_with(change, dir)
  dir = dir or new_folder()
  local contained = { [TRAIN_X] = images(4), [TRAIN_Y] = labels { 7, 0, 9, 1 }, [TEST_X] = images(2), [TEST_Y] = labels { 3, 4 } }
  for name, bytes in pairs(change or {}) do contained[name] = bytes end
  for name, bytes in pairs(contained) do
    if bytes then write(dir .. "/" .. name, bytes) end
  end
  return dir
end

-- Calls f with some variables of the environment changed (false: not set) and standard error caught; gives what was written there, then f's results.
local function in_environment(variables, f, ...)
  local getenv, stderr, written = os.getenv, io.stderr, {}
  os.getenv = function(name) -- luacheck: ignore 122
    if variables[name] ~= nil then return variables[name] or nil end
    return getenv(name)
  end
  io.stderr = { write = function(_, ...) written[#written + 1] = table.concat { ... } end } -- luacheck: ignore 122
  local results = table.pack(pcall(f, ...))
  os.getenv, io.stderr = getenv, stderr -- luacheck: ignore 122
  if not results[1] then error(results[2], 0) end
  return table.concat(written), table.unpack(results, 2, results.n)
end

local function contents(ds)
  local x, y = {}, {}
  for a, b in ds:iter() do
    x[#x + 1], y[#y + 1] = a:totable()[1][1][1], b:item()
  end
  return x, y
end

teardown(files.clean)

describe("mnist", function()
  local mirrors = nn.datasets.mirrors
  before_each(function() nn.datasets.mirrors = { "https://127.0.0.1:9/" } end) -- refuses at once
  after_each(function() nn.datasets.mirrors = mirrors end)

  it("reads four files, and labels come back as digits", function()
    local train, test = assert(nn.datasets.mnist { dir = folder_with() })
    assert.equal("Dataset<u8 28x28x1, i64 scalar> 4 elements", tostring(train))
    assert.equal(2, #test)
    local x, y = contents(train)
    assert.same({ 1, 2, 3, 4 }, x)
    assert.same({ 8, 1, 10, 2 }, y)
    assert.same({ 7, 0, 9, 1 }, train.labels:decode(y))
    assert.equal(8, test.labels:encode(7))
    local xs, ys = train:batch(3):iter()()
    assert.same({ 3, 28, 28, 1 }, xs:shape())
    assert.same({ "u8", "i64" }, { xs:dtype(), ys:dtype() })
    assert.same({ 7, 0, 9 }, train.labels:decode(ys))
  end)

  it("takes the folder as its first option too, and files by their other names, gzipped or not", function()
    local dir = folder_with()
    assert(os.rename(dir .. "/" .. TRAIN_X, dir .. "/train-images.idx3-ubyte"))
    assert(os.rename(dir .. "/" .. TEST_Y, dir .. "/t10k-labels.idx1-ubyte"))
    assert(os.execute(("gzip '%s/train-images.idx3-ubyte' '%s/%s'"):format(dir, dir, TEST_X)))
    assert.equal("file", sys.file_type(dir .. "/" .. TEST_X .. ".gz"))
    local train, test = assert(nn.datasets.mnist(dir))
    assert.same({ 1, 2, 3, 4 }, (contents(train)))
    assert.same({ 4, 5 }, select(2, contents(test)))
  end)

  it("names the folder and the files that are missing", function()
    local dir = new_folder()
    local all = "train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz), t10k-images-idx3-ubyte(.gz), t10k-labels-idx1-ubyte(.gz)"
    assert.same({ nil, ("mnist: files are missing in %s (expected %s)"):format(dir, all) }, { nn.datasets.mnist { dir = dir } })
    assert.same({ nil, ("mnist: there is no folder %s/none (expected %s)"):format(dir, all) }, { nn.datasets.mnist { dir = dir .. "/none" } })
    folder_with({ [TEST_X] = false }, dir)
    assert.same({ nil, ("mnist: files are missing in %s (expected t10k-images-idx3-ubyte(.gz))"):format(dir) }, { nn.datasets.mnist { dir = dir } })
    local ok, err = pcall(nn.datasets.mnist, { folder = dir })
    assert.is_false(ok)
    assert.truthy(err:find('mnist: unknown option "folder" (valid: dir, download)', 1, true))
  end)

  it("refuses files that are damaged or do not fit, in one line", function()
    local dir = new_folder()
    local function fails(change, form, ...)
      folder_with(change, dir)
      local ds, text = nn.datasets.mnist { dir = dir }
      assert.is_nil(ds)
      assert.equal(form:gsub("DIR", dir):format(...), text)
    end
    fails({ [TRAIN_Y] = labels { 1, 2, 3 } }, "DIR/train-images-idx3-ubyte has 4 images but DIR/train-labels-idx1-ubyte has 3 labels")
    fails({ [TRAIN_Y] = labels { 1, 2, 17, 3 } }, "DIR/train-labels-idx1-ubyte: label 17 of image 3 is above 9")
    fails({ [TEST_X] = "\x89PNG\r\n" .. ("x"):rep(50) },
      "DIR/t10k-images-idx3-ubyte: not an IDX file: first bytes 89 50 4e 47, expected 00 00 08 03")
    fails({ [TEST_X] = labels { 1, 2 } },
      "DIR/t10k-images-idx3-ubyte: not an IDX file of the kind asked for: first bytes 00 00 08 01, expected 00 00 08 03")
    fails({ [TEST_X] = images(2):sub(1, -2) }, "DIR/t10k-images-idx3-ubyte: truncated: 1567 bytes of data, expected 1568")
    fails({ [TEST_X] = images(2) .. "x" }, "DIR/t10k-images-idx3-ubyte: corrupt: 1 bytes follow the 1568 bytes of data expected")
    fails({ [TEST_X] = images(2, 32) }, "DIR/t10k-images-idx3-ubyte: images of 32x32, expected 28x28")
    fails({ [TEST_X] = images(0), [TEST_Y] = labels {} }, "DIR/t10k-images-idx3-ubyte: holds no images")
  end)

  it("refuses a truncated and a corrupt .gz", function()
    local dir = folder_with()
    assert(os.execute(("gzip '%s/%s'"):format(dir, TRAIN_X)))
    local path = dir .. "/" .. TRAIN_X .. ".gz"
    local bytes = read(path)
    write(path, bytes:sub(1, -5))
    assert.same({ nil, path .. ": truncated: the gzip data has no end" }, { nn.datasets.mnist { dir = dir } })
    write(path, bytes:sub(1, -6) .. string.char(bytes:byte(-5) ~ 1) .. bytes:sub(-4))
    assert.same({ nil, path .. ": corrupt gzip data after 3152 bytes: incorrect data check" }, { nn.datasets.mnist { dir = dir } })
  end)

  it("looks in $NNLUA_DATA, then in the cache folder", function()
    local shared, cache, home = new_folder(), new_folder(), new_folder()
    folder_with({ [TRAIN_Y] = labels { 1, 1, 1, 1 } }, shared .. "/mnist")
    assert(os.execute(("mkdir -p '%s/nnlua/mnist' '%s/.cache/nnlua/mnist'"):format(cache, home)))
    folder_with({ [TRAIN_Y] = labels { 2, 2, 2, 2 } }, cache .. "/nnlua/mnist")
    folder_with({ [TRAIN_Y] = labels { 3, 3, 3, 3 } }, home .. "/.cache/nnlua/mnist")
    local function found(variables)
      local written, train = in_environment(variables, nn.datasets.mnist)
      assert.equal("", written)
      return (select(2, contents(train)))[1] - 1
    end
    assert.equal(1, found { NNLUA_DATA = shared, XDG_CACHE_HOME = cache, HOME = home })
    assert.equal(2, found { NNLUA_DATA = home, XDG_CACHE_HOME = cache, HOME = home })
    assert.equal(2, found { NNLUA_DATA = false, XDG_CACHE_HOME = cache, HOME = home })
    assert.equal(3, found { NNLUA_DATA = false, XDG_CACHE_HOME = "not/absolute", HOME = home })
    assert.equal(3, found { NNLUA_DATA = "", XDG_CACHE_HOME = false, HOME = home })
    os.remove(shared .. "/mnist/" .. TEST_Y)
    local _, train, text = in_environment({ NNLUA_DATA = shared }, nn.datasets.mnist)
    assert.is_nil(train)
    assert.equal(("mnist: files are missing in %s/mnist (expected t10k-labels-idx1-ubyte(.gz))"):format(shared), text)
    os.remove(cache .. "/nnlua/mnist/" .. TEST_Y)
    write(cache .. "/nnlua/mnist/" .. TEST_Y, "x")
    _, train, text = in_environment({ NNLUA_DATA = false, XDG_CACHE_HOME = cache }, nn.datasets.mnist)
    assert.is_nil(train)
    assert.equal(("%s/nnlua/mnist/%s: truncated: 1 bytes, an IDX file has at least 8; delete it to have it downloaded again"):format(cache,
      TEST_Y), text)
  end)

  it("says in one line that it cannot download, and gives generated digits", function()
    local cache = new_folder()
    local start = sys.clock()
    local written, train, test = in_environment({ NNLUA_DATA = false, XDG_CACHE_HOME = cache }, nn.datasets.mnist)
    assert.is_true(sys.clock() - start < 15)
    local why = written:match "^mnist: the files are nowhere and cannot be downloaded %((.-)%); going on with generated digits %(nn.data[^\n]*\n$"
    assert.truthy(why and why:find("https://127.0.0.1:9/train-images-idx3-ubyte.gz: ", 1, true), written)
    assert.same({ 60000, 10000, "digits" }, { #train, #test, train.name })
    assert.is_nil(io.popen(("find '%s' -type f"):format(cache)):read "l") -- nothing half-done stays
    written, train = in_environment({ NNLUA_DATA = false, XDG_CACHE_HOME = cache }, nn.datasets.mnist, { download = false })
    assert.equal("mnist: the files are nowhere; going on with generated digits (nn.datasets.digits)\n", written)
    assert.equal("digits", train.name)
  end)

  it("reads the real files", function()
    local shared = os.getenv "NNLUA_DATA"
    if not shared or sys.file_type(shared .. "/mnist") ~= "folder" then
      pending "$NNLUA_DATA/mnist is not there"
      return
    end
    local train, test = assert(nn.datasets.mnist { dir = shared .. "/mnist" })
    assert.equal("Dataset<u8 28x28x1, i64 scalar> 60000 elements", tostring(train))
    assert.equal("mnist", train.name)
    assert.same({ 7, 2, 1, 0, 4 }, test.labels:decode(select(2, contents(test:take(5)))))
    local count = 0
    for x, y in test:batch(1000):iter() do count = count + x:size(1) + 0 * y:size(1) end
    assert.equal(10000, count)
  end)
end)

-- A server of our own, with a certificate of its own, which the program is told to trust.
describe("a download", function()
  local dir, port, pid

  setup(function()
    dir, port = new_folder(), 20000 + sys.getpid() % 20000
    if not tls.certificate(dir) then return end
    write(dir .. "/file", ("0123456789"):rep(5000))
    pid = tls.start(dir, ("openssl s_server -WWW -quiet -accept %d -cert cert -key key"):format(port))
  end)
  teardown(function() tls.stop(pid) end)

  -- What download gives in a process of its own; `trust` the server or not.
  local function fetch(trust, name, dest, limit, md5)
    local script = ([[
      local ok, text = require "nnlua.core".pipeline.download("https://localhost:%d/%s", "%s", %d, %s)
      io.write(tostring(ok or text))]]):format(port, name, dest, limit, md5 and ("'%s'"):format(md5) or "nil")
    write(dir .. "/script.lua", script)
    local found
    for _ = 1, 50 do -- until the server has come up
      found = shell(("SSL_CERT_FILE='%s' '%s' '%s/script.lua'"):format(trust and dir .. "/cert" or "/dev/null", sys.exe_path(), dir))
      if not found:find("Failed to connect", 1, true) and not found:find("Connection refused", 1, true) then break end
      sys.sleep(0.1)
    end
    return (found:gsub("^https://localhost:%d+/%w*: ", ""))
  end

  it("comes whole and verified, or not at all", function()
    if not pid then
      pending "there is no openssl to serve files with"
      return
    end
    local dest = dir .. "/new/folder/copy"
    local md5 = shell(("md5sum '%s/file'"):format(dir)):match "%x+"
    assert.equal("true", fetch(true, "file", dest, 50000, md5))
    assert.equal(read(dir .. "/file"), read(dest))
    write(dest, "old")
    assert.equal("the file is longer than the 49999 bytes expected", fetch(true, "file", dest, 49999, md5))
    assert.equal(("the file is not the one expected: MD5 %s, expected %s"):format(md5, ("0"):rep(32)), fetch(true, "file", dest, 0, ("0"):rep(32)))
    assert.truthy(fetch(false, "file", dest, 0):find("certificate", 1, true))
    assert.equal("old", read(dest))
    assert.equal("copy\n", shell(("ls '%s/new/folder'"):format(dir)))
  end)
end)

describe("digits", function()
  it("are the same for a seed, whatever else is asked for", function()
    local train, test = nn.datasets.digits { train = 50, test = 20 }
    local again, other = nn.datasets.digits { train = 30, test = 20 }
    local function all(ds)
      local x, y = ds:batch(1000):iter()()
      return { x:totable(), y:totable() }
    end
    assert.same(all(train:take(30)), all(again))
    assert.same(all(test), all(other))
    assert.not_same(all(train:take(20)), all(test))
    assert.not_same(all(again), all((nn.datasets.digits { train = 30, test = 1, seed = 2 })))
    assert.equal(7, train.labels:decode(8))
  end)

  it("come quickly, ten kinds of them", function()
    local start = sys.clock()
    local train = nn.datasets.digits()
    assert.is_true(sys.clock() - start < 5)
    local count = {}
    for _, y in train:batch(60000):iter() do
      for _, id in ipairs(y:totable()) do count[id] = (count[id] or 0) + 1 end
    end
    assert.equal(10, #count)
    for id = 1, 10 do assert.is_true(math.abs(count[id] - 6000) < 400) end
  end)
end)

describe("textures", function()
  local function whole(ds) return ds:batch(#ds):iter()() end

  it("are the same for a seed, whatever else is asked for, and leave the stream of nn.seed alone", function()
    nn.seed(5)
    local want = nn.rand(3):totable()
    nn.seed(5)
    local a_train, a_test = nn.datasets.textures { train = 700, test = 40, seed = 3 }
    assert.same(want, nn.rand(3):totable())
    local b_train, b_test = nn.datasets.textures { train = 30, test = 600, seed = 3 }
    local function bytes(ds, n) return (whole(ds:take(n))):tostring_bytes() end
    assert.equal(bytes(a_train, 30), bytes(b_train, 30))
    assert.equal(bytes(a_test, 40), bytes(b_test, 40))
    assert.are_not.equal(bytes(a_train, 30), bytes(a_test, 30))
    assert.are_not.equal(bytes(b_train, 30), bytes(nn.datasets.textures { train = 30, test = 1, seed = 4 }, 30))
    assert.are_not.equal(bytes(a_train, 30), bytes(a_train:skip(500), 30)) -- the second block is another one
    assert.equal("Dataset<u8 32x32x3, i64 scalar> 700 elements", tostring(a_train))
    assert.equal("fine rings", a_test.labels:decode(10))
  end)

  it("are of ten kinds that differ as their names say", function()
    local train = nn.datasets.textures { train = 500, test = 1, seed = 1 }
    local x, ids = whole(train)
    for id, count in ipairs(ids:bincount():totable()) do assert.is_true(id == 1 or count > 20, train.labels:decode(math.max(1, id - 1))) end
    x = x:float()
    -- How much neighbours differ along a dim, by class.
    local function change(dim)
      local d = (x:narrow(dim, 2, 31) - x:narrow(dim, 1, 31)):square():mean { 2, 3, 4 }
      return function(name) return d:masked_select(ids:eq(train.labels:encode(name))):mean():item() end
    end
    local down, across = change(2), change(3)
    assert.is_true(down "fine rows" > 1.5 * across "fine rows" and across "fine columns" > 1.5 * down "fine columns")
    for _, kind in ipairs { "rows", "checks", "rings", "diagonals" } do
      assert.is_true(down("fine " .. kind) > 1.2 * down("coarse " .. kind), kind)
    end
  end)
end)

describe("cifar10", function()
  local none = { NNLUA_DATA = false }

  -- A record: its label, then planes where red is `first`, green the row and blue the column.
  local function record(label, first)
    local green, blue = {}, {}
    for row = 0, 31 do
      for column = 0, 31 do
        green[#green + 1], blue[#blue + 1] = string.char(row), string.char(100 + column)
      end
    end
    return string.char(label) .. string.char(first):rep(1024) .. table.concat(green) .. table.concat(blue)
  end

  local function folder(change)
    local dir = new_folder()
    for i = 1, 5 do write(("%s/data_batch_%d.bin"):format(dir, i), record(i - 1, i) .. record(9, 10 * i)) end
    write(dir .. "/test_batch.bin", record(6, 77))
    for name, bytes in pairs(change or {}) do
      if bytes then write(dir .. "/" .. name, bytes) else os.remove(dir .. "/" .. name) end
    end
    return dir
  end

  it("reads records of a label and three planes", function()
    local train, test = assert(nn.datasets.cifar10 { dir = folder() })
    assert.equal("Dataset<u8 32x32x3, i64 scalar> 10 elements", tostring(train))
    assert.equal(1, #test)
    local x, y = train:batch(10):iter()()
    assert.same({ 1, 10, 2, 10, 3, 10, 4, 10, 5, 10 }, y:totable())
    assert.same({ 1, 10, 2, 20, 3, 30, 4, 40, 5, 50 }, x[{ {}, 7, 9, 1 }]:totable())
    assert.same({ 30, 6, 108 }, x[{ 6, 7, 9 }]:totable())
    assert.same({ "airplane", "truck", "automobile" }, train.labels:decode { y[1]:item(), y[2]:item(), y[3]:item() })
    local image, id = test:iter()()
    assert.same({ { 77, 31, 131 }, "frog" }, { image[{ 32, 32 }]:totable(), test.labels:decode(id:item()) })
  end)

  it("finds the folder that the archive makes, by name and in $NNLUA_DATA", function()
    local dir = folder()
    local parent = new_folder()
    assert(os.rename(dir, parent .. "/cifar-10-batches-bin"))
    assert.equal(10, #assert(nn.datasets.cifar10(parent)))
    in_environment({ NNLUA_DATA = parent }, function() assert.equal(10, #assert(nn.datasets.cifar10())) end)
    assert(os.rename(parent .. "/cifar-10-batches-bin", parent .. "/cifar10"))
    in_environment({ NNLUA_DATA = parent }, function() assert.equal(10, #assert(nn.datasets.cifar10())) end)
  end)

  it("says where to get the files, and what is wrong with those that are there", function()
    local function why(o) return select(2, nn.datasets.cifar10(o)) end
    in_environment(none, function() assert.matches("curl .*cifar%-10%-binary%.tar%.gz", why()) end)
    in_environment({ NNLUA_DATA = new_folder() }, function() assert.matches("cifar10: the files are nowhere", why()) end)
    assert.matches("^cifar10: there is no folder /nowhere %(expected data_batch_1%.bin, ", why "/nowhere")
    assert.matches("^cifar10: files are missing in .* %(expected data_batch_1%.bin, .*test_batch%.bin%)$", why(new_folder()))
    assert.matches("^cifar10: files are missing in .* %(expected data_batch_4%.bin%)$", why(folder { ["data_batch_4.bin"] = false }))
    assert.matches("/data_batch_2%.bin: 3072 bytes are no whole number of records of 3073 ", why(folder { ["data_batch_2.bin"] = ("x"):rep(3072) }))
    assert.matches("/test_batch%.bin: 0 bytes are no whole number", why(folder { ["test_batch.bin"] = "" }))
    assert.matches("/data_batch_5%.bin: label 10 of image 2 is above 9", why(folder { ["data_batch_5.bin"] = record(3, 0) .. record(10, 0) }))
    local ok, err = pcall(nn.datasets.cifar10, { folder = "x" })
    assert.is_false(ok)
    assert.matches('cifar10: unknown option "folder" %(valid: dir%)', err)
  end)
end)
