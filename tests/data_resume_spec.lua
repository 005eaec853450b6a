-- The promise of nn.data, for every verb, every source and every combination of data sets: the same seed gives the same elements for 0, 1, 2 and 4
-- workers, and after a resume at every place of a pass, which may go on with another number of workers. A verb or a source without a row fails. And
-- what a resume reads again, counted: nothing, over numbered rows.
local nn = require "nnlua"
local core = require "nnlua.core"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local data, V = nn.data, nn.vision
local range = data.range
local WORKERS = { 0, 1, 2, 4 }

local folder = os.tmpname()
os.remove(folder)
assert(core.sys.mkdir_p(folder))
teardown(function() os.execute(("rm -r '%s'"):format(folder)) end)

local function write(name, content)
  local path = folder .. "/" .. name
  local f = assert(io.open(path, "wb"))
  f:write(content)
  f:close()
  return path
end

local collect = support.elements

-- ---- the check -------------------------------------------------------------------------------------------------------

-- Passes of a new pipeline.
local function passes(make, w)
  local ds = make(w, 11)
  return { collect(ds), collect(ds), collect(ds) }
end

local function check(name, make)
  local want = passes(make, 0)
  for _, w in ipairs { 1, 2, 4 } do assert.same(want, passes(make, w), name .. ": other elements with " .. w .. " workers") end
  assert.is_true(#want[1] + #want[2] + #want[3] > 0, name)
  for stop = 0, #want[2] do
    for i, w in ipairs(WORKERS) do
      local ds = make(w, 11)
      collect(ds)
      local pass <close> = ds:iter()
      for _ = 1, stop do pass() end
      local others = WORKERS[(i + stop) % 4 + 1] -- each number of workers goes on from each other one
      local again = make(others, 77):restore(ds:state())
      local what = ("%s: resumed after %d elements, %d workers, then %d"):format(name, stop, w, others)
      assert.same(table.move(want[2], stop + 1, #want[2], 1, {}), collect(again), what)
      if i == stop % 4 + 1 then assert.same(want[3], collect(again), what .. ", the pass after it") end
    end
  end
end

-- ---- verbs -----------------------------------------------------------------------------------------------------------

local function double(x) return x * 2 end
local function noisy(x) return x, nn.rand(1) end
local files = {} -- of snapshots
local function opened(x) return range(x:item() % 3):map(function(y) return y * 10 + x end) end

-- verb = function(ds, w, seed): what stands on ds (i64 scalars 1 to 9, shuffled); w workers, or prefetched elements.
local rows = {
  map = function(ds, w, seed) return ds:map(noisy, { workers = w, seed = seed }) end,
  filter = function(ds) return ds:filter(function(x) return x:item() % 3 > 0 end) end,
  take_while = function(ds) return ds:take_while(function(x) return x:item() ~= 4 end) end,
  flat_map = function(ds) return ds:flat_map(opened) end,
  interleave = function(ds) return ds:interleave(opened, { cycle = 2, block = 2 }) end,
  scan = function(ds) return ds:scan(0, function(c, x) return c + x, c * x end) end,
  apply = function(ds) return ds:apply(function(d) return d:map(double):skip(1) end) end,
  unbatch = function(ds) return ds:batch(4):unbatch() end,
  rebatch = function(ds) return ds:batch(4):rebatch(3) end,
  batch = function(ds) return ds:batch(2) end,
  padded_batch = function(ds) return ds:map(function(x) return nn.ones(x:item()) end):padded_batch(2, { shapes = { { 9 } } }) end,
  bucket = function(ds) return ds:bucket({ 3, 6 }, 2, { by = function(x) return x end }) end,
  window = function(ds) return ds:window(3, { shift = 2 }) end,
  shard = function(ds) return ds:shard(2, 2) end,
  group_by = function(ds)
    return ds:group_by(function(x) return x % 3 end, function(_, w) return w:batch(2) end, { size = 3 })
  end,
  split = function(ds) return select(2, ds:split(3)) end,
  enumerate = function(ds) return ds:enumerate() end,
  unique = function(ds) return ds:map(function(x) return x // 2 end):unique() end,
  cache = function(ds) return ds:cache() end,
  snapshot = function(ds)
    local path = os.tmpname()
    os.remove(path)
    files[#files + 1] = path
    return ds:snapshot(path)
  end,
  ignore_errors = function(ds) return ds:map(function(x) return x:item() == 4 and error("no") or x end):ignore_errors() end,
  shuffle = function(ds, _, seed) return ds:map(double):shuffle(4, { seed = seed }) end,
  repeated = function(ds) return ds:repeated(2) end,
  take = function(ds) return ds:take(5) end,
  skip = function(ds) return ds:skip(3) end,
  prefetch = function(ds, w) return ds:window(2):prefetch(w > 0 and w or 1) end,
  zip = function(ds) return data.zip { ds, range(20, 27) } end,
  concat = function(ds) return data.concat { ds, range(20, 22) } end,
  ["data.interleave"] = function(ds) return data.interleave({ ds, range(20, 22) }, { block = 2 }) end,
  sample_from = function(ds, _, seed) return data.sample_from({ ds, range(20, 25) }, { seed = seed }) end,
  choose = function(ds) return data.choose(data.from_table { 1, 2, 2, 1, 1, 2, 1 }, { ds, range(20, 25) }) end,
}

local function numbers(w, seed)
  local ds = range(9):shuffle(9, { seed = seed + 1 })
  ds = data.zip { ds } -- elements, no rows: what a thread is worth
  return w > 0 and ds:prefetch(w) or ds
end

describe("every verb", function()
  after_each(function()
    for _, path in ipairs(files) do os.remove(path) end
    files = {}
  end)

  it("has a row", function()
    local other = { init = true, given = true, iter = true, state = true, restore = true, cardinality = true, element_spec = true, debug = true,
      reduce = true, isa = true, picked = true, made = true }
    local missing = {}
    for name, value in pairs(data.Dataset) do
      if type(value) == "function" and name:sub(1, 2) ~= "__" and not other[name] and not rows[name] then missing[#missing + 1] = name end
    end
    for name in pairs(require "nnlua.data.combine") do
      if not rows[name] then missing[#missing + 1] = name end
    end
    assert.same({}, missing)
  end)

  for name, verb in pairs(rows) do
    it(name .. " gives the same for any number of workers and after a resume anywhere", function()
      check(name, function(w, seed)
        local ds = verb(numbers(w, seed), w, seed)
        return w > 0 and ds:prefetch(w) or ds
      end)
    end)
    it(name .. " does so over rows", function()
      check(name, function(w, seed) return verb(range(9):shuffle(9, { seed = seed + 1 }), w, seed) end)
    end)
  end

  it("does so in random compositions", function()
    local names, drawn = {}, 7
    for name in pairs(rows) do
      if name ~= "split" then names[#names + 1] = name end -- needs to know how many there are
    end
    table.sort(names)
    local function draw(n)
      drawn = (drawn * 1103515245 + 12345) % 2 ^ 31
      return math.tointeger(drawn // 65536 % n) + 1
    end
    local function scalars(ds) -- whatever a verb gave, scalars again
      return ds:map(function(...)
        local sum = 0
        for i = 1, select("#", ...) do sum = sum + (select(i, ...)):double():sum():item() end
        return math.tointeger(sum // 1) % 9 + 1
      end)
    end
    for _ = 1, 12 do
      local chain = { names[draw(#names)], names[draw(#names)], names[draw(#names)] }
      check(table.concat(chain, " "), function(w, seed)
        local ds = numbers(w, seed)
        for i, name in ipairs(chain) do ds = scalars(rows[name](ds, w, seed + i)) end
        return ds:take(12)
      end)
    end
  end)
end)

-- ---- sources ---------------------------------------------------------------------------------------------------------

local N = 7 -- elements of each

-- name = a function of the number of workers that gives a data set of N elements; numbered: its rows are shuffled without being read.
local sources, numbered = {}, {}
do
  local x, y = nn.arange(0, 2 * N):reshape { N, 2 }, nn.arange(1, N + 1)
  local function numbered_source(name, make) sources[name], numbered[name] = make, true end
  numbered_source("from_tensors", function() return data.from_tensors { x, y } end)
  numbered_source("from_table", function() return data.from_table { 3, 1, 4, 1, 5, 9, 2 } end)
  numbered_source("from_function", function() return data.from_function(function(i) return i * i, ("s"):rep(i) end, { count = N }) end)
  sources["from_function without a count"] = function()
    return data.from_function(function(i) if i <= N then return i * i end end)
  end
  numbered_source("range", function() return range(N) end)
  local lines, csv, json, records, fixed = {}, { "a,b,t" }, {}, {}, {}
  for i = 1, N do
    write("list" .. i, "x")
    lines[i] = ("line "):rep(i)
    csv[i + 1] = ("%d,%g,w%s"):format(i, i / 8, ("u"):rep(i % 3))
    json[i] = ('{"n": %d, "v": [%d, 0.5]}'):format(i, i)
    records[i] = support.record(("record"):rep(i))
    fixed[i] = ("%03d"):format(i)
  end
  local half = N // 2
  local first = write("lines.txt", table.concat(lines, "\n", 1, half) .. "\n")
  local second = write("lines.gz", support.gzipped(table.concat(lines, "\n", half + 1)))
  local table_, objects = write("t.csv", table.concat(csv, "\n")), write("t.jsonl", table.concat(json, "\n"))
  local tf = write("t.tf", table.concat(records))
  local bytes, images, labels = write("t.bin", table.concat(fixed)), {}, {}
  for i = 1, N do
    for k = 1, 6 do images[#images + 1] = string.char(10 * i + k) end
    labels[i] = string.char(i % 3)
  end
  local idx = write("x.idx", "\0\0\8\3\0\0\0\7\0\0\0\2\0\0\0\3" .. table.concat(images))
  local idy = write("y.idx", "\0\0\8\1\0\0\0\7" .. table.concat(labels))
  local cifar = {}
  for i = 1, N do cifar[i] = string.char(i) .. string.char(i * 20):rep(3072) end
  cifar = write("c.bin", table.concat(cifar))
  assert(require("nnlua.h5").save(folder .. "/t.h5", { ["/x"] = x, ["/y"] = y }))
  assert(require("nnlua.numpy").save_npz(folder .. "/t.npz", { x = x, y = y }))
  nn.seed(1)
  for i = 1, N do
    local class = i % 2 == 0 and "cat" or "dog"
    assert(core.sys.mkdir_p(folder .. "/pets/" .. class))
    write(("pets/%s/%d.txt"):format(class, i), class .. i)
    assert(V.save(("%s/pets/%s/%d.png"):format(folder, class, i), nn.rand(4 + i, 9, 3)))
  end
  numbered_source("list_files", function() return data.list_files(folder .. "/list*") end)
  sources.lines = function() return data.lines { first, second } end
  numbered_source("csv", function() return data.csv(table_) end)
  numbered_source("json_lines", function() return data.json_lines(objects) end)
  sources.tfrecord = function() return data.tfrecord { tf } end
  numbered_source("fixed_length", function() return data.fixed_length(bytes, 3) end)
  numbered_source("hdf5", function() return data.hdf5(folder .. "/t.h5", { "x", "y" }) end)
  numbered_source("npz", function() return data.npz(folder .. "/t.npz", { "x", "y" }) end)
  numbered_source("idx", function() return data.idx(idx, idy) end)
  numbered_source("cifar", function() return data.cifar(cifar):map(V.Resize { 2, 2 }) end)
  numbered["cifar"] = nil -- with that map, which makes it small
  numbered_source("image_folder", function(w) return data.image_folder(folder .. "/pets", { size = { 3, 5 }, workers = w }) end)
  numbered_source("text_folder", function(w) return data.text_folder(folder .. "/pets", { workers = w }) end)
  numbered_source("timeseries", function() return data.timeseries(nn.arange(0, N + 2), { sequence_length = 3 }) end)
end

describe("every source", function()
  it("has a row", function()
    local missing = {}
    for _, room in ipairs { "sources", "arrays", "files", "folders" } do
      for name in pairs(require("nnlua.data." .. room)) do
        if not sources[name] and name ~= "text" then missing[#missing + 1] = name end
      end
    end
    assert.same({}, missing)
  end)

  local forms = {
    ["as it is"] = function(ds) return ds end,
    ["shuffled within, in batches"] = function(ds, w, seed)
      ds = ds:shuffle(4, { seed = seed }):padded_batch(2)
      return w > 0 and ds:prefetch(w) or ds
    end,
    ["shuffled, nested"] = function(ds, w, seed, again)
      ds = data.zip { data.concat { ds:shuffle(N, { seed = seed }), again }:skip(1), range(100):shuffle(9, { seed = seed }) }
      ds = data.interleave({ ds, ds:take(3) }):take(9)
      return w > 0 and ds:prefetch(w) or ds
    end,
  }
  for name, make in pairs(sources) do
    for what, form in pairs(forms) do
      it(("%s %s gives the same for any number of workers and after a resume anywhere"):format(name, what), function()
        assert.equal(N, #collect(make(0)))
        check(name, function(w, seed) return form(assert(make(w)), w, seed, what:find "nested" and make(w)) end)
      end)
    end
  end
end)

-- ---- what a resume reads ---------------------------------------------------------------------------------------------

describe("a resume", function()
  -- stop elements of a pass, then a new pipeline from there; what count() says of the part after it.
  local function counted(make, stop, count)
    local ds = make()
    local pass <close> = ds:iter()
    for _ = 1, stop do pass() end
    local state = ds:state()
    local again = make()
    local before = count()
    again:restore(state)
    local at_once = count() - before
    return at_once, collect(again), count() - before
  end

  for name in pairs(numbered) do
    it("makes nothing of " .. name .. " again", function()
      local calls = 0
      local function make()
        return sources[name](0):shuffle(N, { seed = 3 }):skip(1):map(function(...)
          calls = calls + 1
          return ...
        end)
      end
      local all = collect(make())
      for stop = 1, N - 2 do
        local at_once, rest, after = counted(make, stop, function() return calls end)
        assert.equal(0, at_once)
        assert.equal(N - 1 - stop, after)
        assert.same(table.move(all, stop + 1, N - 1, 1, {}), rest)
      end
    end)
  end

  it("calls the function of a source for what comes only", function()
    local calls = 0
    local function make()
      return data.from_function(function(i)
        calls = calls + 1
        return i
      end, { count = 100000 }):shuffle(100000, { seed = 1 }):shard(2, 1):skip(10):take(49000):batch(100)
    end
    local at_once, rest, after = counted(make, 488, function() return calls end)
    assert.equal(0, at_once)
    assert.equal(2, #rest)
    assert.equal(200, after)
  end)

  it("opens no file of a folder again", function()
    for _, of in ipairs { data.image_folder, data.text_folder } do
      local ending = of == data.image_folder and "png" or "txt"
      os.execute(("rm -rf '%s/few'; cp -r '%s/pets' '%s/few'"):format(folder, folder, folder))
      for _, w in ipairs { 0, 2 } do
        local function make() return of(folder .. "/few", { shuffle = true, seed = 4, workers = w, extensions = { ending } }) end
        local all, ds, again = collect(make()), make(), make()
        local pass = ds:iter()
        for _ = 1, 3 do pass() end
        local state = ds:state()
        pass:close()
        local gone = 0 -- the files of the elements that were given
        for name in data.list_files(folder .. "/few/*/*." .. ending):iter() do
          local path = data.text(name)
          local content = ending == "png" and V.load(path):totable() or io.open(path):read "a"
          for i = 1, 3 do
            local same = ending == "txt" and all[i][1] == content or ending == "png" and pcall(assert.same, content, all[i][1])
            if same then
              os.rename(path, path .. ".gone")
              gone = gone + 1
            end
          end
        end
        assert.equal(3, gone)
        assert.same(table.move(all, 4, N, 1, {}), collect(again:restore(state)))
        os.execute(("for f in '%s'/few/*/*.gone; do mv $f ${f%%.gone}; done"):format(folder))
      end
    end
  end)

  it("reads on where a stream stood", function()
    local path = folder .. "/stream.txt"
    local function rewrite(first) write("stream.txt", first .. "\n" .. ("second line\nthird line")) end
    rewrite "first line"
    local ds = data.lines(path)
    local pass = ds:iter()
    pass()
    local state = ds:state()
    pass:close()
    rewrite "\n\n\n lines " -- as many bytes
    assert.same({ "second line", "third line" }, collect(data.lines(path):restore(state)))
  end)
end)
