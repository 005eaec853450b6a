-- lua/nnlua/data/verbs.lua and combine.lua: what each verb gives. That neither threads nor a resume at any place change it: data_resume_spec.lua.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local message = support.message
local data = nn.data
local range = data.range

local function text(...)
  local words = {}
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    local function shown(v)
      if type(v) ~= "table" then return tostring(v) end
      local list = {}
      for k, e in ipairs(v) do list[k] = shown(e) end
      return "{" .. table.concat(list, " ") .. "}"
    end
    words[i] = x:dtype() .. ":" .. shown(x:totable())
  end
  return table.concat(words, " ")
end

-- The elements of a pass as strings; at most `most`.
local function collect(ds, most)
  local out = {}
  local pass <close> = ds:iter()
  while #out ~= most do
    local element = table.pack(pass())
    if element.n == 0 then break end
    out[#out + 1] = text(table.unpack(element, 1, element.n))
  end
  return out
end

-- The same without dtypes, for reading.
local function plain(ds, most)
  local out = collect(ds, most)
  for i, s in ipairs(out) do out[i] = s:gsub("%w+:", "") end
  return table.concat(out, ", ")
end

-- ---- what each verb gives ------------------------------------------------------------------------------------------------------

describe("verbs", function()
  it("leave elements out", function()
    assert.equal("2, 4, 6", plain(range(7):filter(function(x) return x:item() % 2 == 0 end)))
    assert.equal("2, 4, 6", plain(range(7):filter(function(x) return (x % 2):eq(0) end)))
    assert.equal("1, 2, 3", plain(range(7):take_while(function(x) return x:item() ~= 4 end)))
    assert.equal("3, 1, 2", plain(data.from_table { 3, 1, 3, 2, 1 }:unique()))
    assert.equal("2, 5", plain(range(7):shard(3, 2)))
    assert.equal("1, 4, 7", plain(range(7):map(function(x) return x end):shard(3, 1)))
    assert.equal(2, #range(7):shard(3, 2))
    assert.equal(3, #range(7):shard(3, 1))
    local a, b = range(10):split(0.3)
    assert.equal("1, 2, 3", plain(a))
    assert.equal(7, #b)
    a, b = range(10):split(9)
    assert.equal(9, #a)
    assert.equal("10", plain(b))
    assert.equal("filter: the function returned a nil; it must return true or false", message(collect, range(2):filter(function() end)))
    assert.equal("shard: part 4 of 3", message(range(7).shard, range(7), 3, 4))
    assert.equal("filter: needs a function, got 3", message(range(7).filter, range(7), 3))
  end)

  it("tells equal elements by their values, shapes and dtypes", function()
    local ds = range(6):map(function(x)
      local i = x:item()
      if i == 1 or i == 4 then return nn.zeros(2, 1), 1 end
      if i == 2 then return nn.zeros(1, 2), 1 end
      if i == 3 then return nn.zeros({ 2, 1 }, "i32"), 1 end
      return nn.zeros(2, 1), i == 5 and 2 or 1
    end)
    assert.equal(4, #collect(ds:unique()))
    assert.equal(300, #collect(data.concat { range(300), range(300) }:unique()))
  end)

  it("go on after failures", function()
    local ds = range(5):map(function(x) return x:item() == 3 and error("no") or x end)
    assert.equal("1, 2, 4, 5", plain(ds:ignore_errors()))
    assert.equal("{1 2}, {4 5}", plain(ds:prefetch(2):ignore_errors():batch(2)))
    assert.equal("1, 2, 4, 5", plain(range(5):map(function(x) return x:item() == 3 and error("no") or x end, { workers = 2 }):ignore_errors()))
    assert.truthy(message(collect, range(1):repeated():map(function() error "never" end):ignore_errors()):find "never")
  end)

  it("cut up and put together", function()
    assert.equal("1, 2, 3, 4, 5", plain(range(5):batch(2):unbatch()))
    assert.equal("{1 2}, {3 4}, {5}", plain(range(5):batch(4):rebatch(2)))
    assert.equal("{1 2 3}, {3 4 5}, {5 6}", plain(range(6):window(3, { shift = 2 })))
    assert.equal("{1 2 3}, {3 4 5}", plain(range(6):window(3, { shift = 2, drop_last = true })))
    for _, ds in ipairs { range(7), range(7):map(function(x) return x end) } do -- over rows, over elements
      assert.equal("{1 3}, {2 4}, {3 5}, {4 6}, {5 7}, {6}, {7}", plain(ds:window { 2, shift = 1, stride = 2 }))
      assert.equal("{1 2}, {5 6}", plain(ds:window(2, { shift = 4 })))
    end
    for size = 1, 4 do -- as many as it says
      for shift = 1, 4 do
        for stride = 1, 3 do
          for _, drop_last in ipairs { true, false } do
            local ds = range(9):window { size, shift = shift, stride = stride, drop_last = drop_last }
            assert.equal(#ds, #collect(ds))
          end
        end
      end
    end
    local ragged = range(4):map(function(x) return nn.full({ x:item(), 5 - x:item() }, x:item(), "i64"), x end)
    assert.equal("{{{1 1 1 1} {-1 -1 -1 -1}} {{2 2 2 -1} {2 2 2 -1}}} {1 2}, {{{3 3} {3 3} {3 3} {-1 -1}} {{4 -1} {4 -1} {4 -1} {4 -1}}} {3 4}",
      plain(ragged:padded_batch(2, { value = -1 })))
    local lengths = data.from_table { 1, 5, 2, 3, 1, 6, 4, 2 }:map(function(n) return nn.full({ n:item() }, n:item(), "i64") end)
    assert.equal("{{1 0} {2 2}}, {{3 3 3 0} {4 4 4 4}}, {{1 0} {2 2}}, {{5 5 5 5 5 0} {6 6 6 6 6 6}}", plain(lengths:bucket({ 3, 5 }, { 2, 2, 9 })))
    assert.equal("{{5 5 5 5 5}}, {{1 0} {2 2}}, {{6 6 6 6 6 6}}, {{1 0} {2 2}}, {{3 3 3 0} {4 4 4 4}}", plain(lengths:bucket({ 3, 5 }, { 2, 3, 1 })))
    -- to shapes, with a value for each
    assert.equal("{{{1 -1 -1} {-1 -1 -1}} {{2 2 -1} {-1 -1 -1}}} {7 7}",
      plain(range(2):map(function(x) return nn.full({ 1, x:item() }, x:item(), "i64"), 7 end)
        :padded_batch(2, { value = { -1, 5 }, shapes = { { 2, 3 }, {} } })))
    local sized = ragged:padded_batch(2, { value = { -1 }, shapes = { { -1, 4 }, false } })
    local shapes = {}
    for x in sized:iter() do shapes[#shapes + 1] = table.concat(x:shape(), "x") end
    assert.same({ "2x2x4", "2x4x4" }, shapes)
    local known = data.from_tensors { nn.zeros(5, 2), nn.zeros(5, 3) }
    assert.equal("Dataset<f32 2x4, f32 2x3> 3 batches", tostring(known:padded_batch(2, { shapes = { 4 } })))
    assert.equal("padded_batch: dim 2 of value 1 of an element is 4, more than the 3 of the shape for it",
      message(collect, ragged:padded_batch(2, { shapes = { { 9, 3 } } })))
    assert.equal("padded_batch: value 1 of an element has 1 dims, the shape for it 2",
      message(known.padded_batch, known, 2, { shapes = { { 9, 3 } } }))
    assert.truthy(message(known.padded_batch, known, 2, { shapes = { "a" } }):find "^padded_batch: tensor 1: its value must be a number")
    -- by a function: the other tensor says how long
    local by_last = data.from_table { { 1, 9 }, { 2, 1 }, { 3, 8 }, { 4, 2 }, { 5, 7 } }:bucket({ 5 }, { 2, 3 }, { by = function(_, y) return y end })
    assert.equal("{2 4} {1 2}, {1 3 5} {9 8 7}", plain(by_last))
    assert.equal("key: the function returned a; it must return a whole number",
      message(collect, lengths:bucket({ 3 }, 1, { by = function() return "a" end })))
    assert.equal("unbatch: value 1 of an element is a scalar; there is nothing to take apart", message(range(3).unbatch, range(3)))
    assert.equal("bucket: 1 bounds make 2 buckets; there are 3 sizes", message(range(3).bucket, range(3), { 3 }, { 1, 2, 3 }))
  end)

  it("gather elements by a key, in tf.data's order", function()
    local function third(x) return x % 3 end
    local function batch(_, window) return window:batch(9) end
    -- by hand from tf.data's page: a window is given when it is full, what is left at the end by ascending keys
    assert.equal("{1 4}, {2 5}, {3 6}, {9}, {7}, {8}", plain(range(9):group_by(third, batch, { size = 2 })))
    assert.equal("{3}, {1 4}, {6}, {2 5 8}, {9}, {7}", plain(range(9):group_by(third, batch, { size = function(k) return k + 1 end })))
    local seen = {}
    local ds = range(4):batch(2):group_by(function(x) return x:sum() end, function(key, window)
      seen[#seen + 1] = key .. tostring(window)
      return window:unbatch():map(function(x) return x * key end)
    end, { size = 5 })
    assert.equal("3, 6, 21, 28", plain(ds))
    assert.same({ "3Dataset<i64 2> 1 batch", "7Dataset<i64 2> 1 batch" }, seen)
    assert.equal("", plain(range(0):group_by(third, batch, { size = 2 })))
    assert.equal("group_by: the function returned a number; it must return a data set",
      message(collect, range(2):group_by(third, function() return 3 end, { size = 1 })))
    assert.equal("group: a window of 0 elements for the key 1; at least 1",
      message(collect, range(2):group_by(third, batch, { size = function() return 0 end })))
    assert.equal("here", message(collect, range(2):group_by(third, function() error("here", 0) end, { size = 1 })))
  end)

  it("know how many elements they give, where it can be known", function()
    local function told(n, ds, shown) -- nil: not known
      assert.equal(n, ds:cardinality())
      if n and n < math.huge then assert.equal(n, #collect(ds)) end
      if shown then assert.equal(shown, tostring(ds)) end
    end
    local ten, endless, unknown = range(10), range(2):repeated(), range(5):filter(function() return true end)
    told(10, ten:batch(4):unbatch(), "Dataset<i64 scalar> 10 elements")
    told(8, ten:batch(4, { drop_last = true }):unbatch())
    told(8, ten:batch(4, { drop_last = true }):map(nn.vision.Compose { nn.vision.Invert {}, kinds = { "label" } }):unbatch())
    told(nil, ten:batch(4):take(2):unbatch()) -- the last may be the small one
    told(10, ten:batch(5):take(2):unbatch())
    told(10, ten:padded_batch(4):shuffle(3):prefetch():cache():unbatch())
    told(30, ten:batch(4):repeated(3):unbatch())
    told(15, data.from_tensors { nn.zeros(5, 3, 2) }:unbatch(), "Dataset<f32 2> 15 elements")
    told(8, range(8):batch(4):batch(2):unbatch():unbatch())
    told(nil, ten:batch(4):batch(1):unbatch():unbatch()) -- its last batch is small
    told(10, ten:batch(4):rebatch(3):unbatch())
    told(4, ten:batch(4):rebatch(3))
    told(math.huge, endless:batch(4):unbatch())
    told(nil, unknown:batch(4):unbatch())
    told(nil, data.from_table { { 1, 2, 3 } }:map(function(...) return ... end):window(1):unbatch())
    told(7, data.interleave { range(3), range(4) }, "Dataset<i64 scalar> 7 elements")
    told(math.huge, data.interleave { range(3), endless })
    told(nil, data.interleave { range(3), unknown })
    told(7, data.sample_from { range(3), range(4) })
    told(3, data.sample_from({ range(3), range(4) }, { weights = { 1, 0 }, stop = true }))
    told(nil, data.sample_from({ range(3), range(4) }, { stop = true }))
    told(math.huge, data.sample_from { range(3), endless })
    told(math.huge, data.sample_from({ endless, endless }, { stop = true }))
    told(2, data.choose(range(2), { range(2), range(4) }))
    told(nil, data.choose(data.from_table { 1, 1, 1 }, { range(2), range(4) }))
    told(5, data.choose(endless:take(5), { endless, endless }))
    told(2, data.choose(range(1, 1):repeated(), { range(2) }))
    told(0, data.choose(range(0), { range(2), unknown }))
    told(0, range(0):flat_map(function() return ten end))
    told(nil, ten:flat_map(function() return ten end))
  end)

  it("join what they know of elements", function()
    local a, b = data.from_tensors { nn.zeros(2, 3), nn.zeros(2, 4) }, data.from_tensors { nn.zeros(2, 3), nn.zeros(2, 5) }
    assert.equal("Dataset<f32 3, f32 ?> 4 elements", tostring(data.concat { a, b }))
    assert.equal("Dataset<f32 3, f32 ?> 4 elements", tostring(data.interleave { a, b }))
    assert.equal("Dataset<?> 4 elements", tostring(data.concat { data.from_tensors { nn.zeros(2) }, data.from_tensors { nn.zeros(2, 3) } }))
    local names = data.concat { data.csv(support.file("t\na\nbbb\n")), data.csv(support.file("t\nccccc\n")) } -- texts, as rows
    local seen = {}
    for x in names:shuffle(9, { seed = 1 }):iter() do seen[#seen + 1] = data.text(x) end
    table.sort(seen)
    assert.same({ "a", "bbb", "ccccc" }, seen)
    for x in names:skip(2):batch(2):iter() do assert.same({ 1, 5 }, x:shape()) end
  end)

  it("number, carry and fold", function()
    assert.equal("0 5, 1 6", plain(range(5, 6):enumerate(0)))
    assert.equal("1, 3, 6, 10", plain(range(4):scan(0, function(c, x) return c + x, c + x end)))
    assert.equal(10, range(4):reduce(0, function(c, x) return c + x:item() end))
    assert.equal("1, 2, 3", plain(range(9):apply(function(ds) return ds:take(3) end)))
    assert.equal("scan: the function must return the next carry and at least one value", message(collect, range(2):scan(0, function(c) return c end)))
  end)

  it("put data sets side by side and one after the other", function()
    assert.equal("1 7, 2 8", plain(data.zip { range(3), range(7, 8) }))
    assert.equal(2, #data.zip { range(3), range(7, 8) })
    assert.equal("1, 2, 7, 8", plain(data.concat { range(2), range(7, 8) }))
    assert.equal("{1 2 7}, {8}", plain(data.concat { range(2), range(7, 8) }:batch(3)))
    local x = data.from_tensors { nn.arange(0, 6):reshape { 3, 2 } }
    local all = collect(data.concat { x, x:skip(1), data.concat { x, x:take(1) } }:shuffle(9, { seed = 4 }):batch(9))
    local rows = {}
    for row in all[1]:gmatch "{%d%.%d %d%.%d}" do rows[#rows + 1] = row end
    table.sort(rows)
    assert.equal("{0.0 1.0}{0.0 1.0}{0.0 1.0}{2.0 3.0}{2.0 3.0}{2.0 3.0}{4.0 5.0}{4.0 5.0}{4.0 5.0}", table.concat(rows))
    assert.equal("1, 7, 2, 8, 3", plain(data.interleave { range(3), range(7, 8) }))
    assert.equal("1, 2, 7, 8, 3", plain(data.interleave({ range(3), range(7, 8) }, { block = 2 })))
    assert.equal("7, 1, 8, 2", plain(data.choose(data.from_table { 2, 1, 2, 1, 2, 1 }, { range(3), range(7, 8) })))
    assert.equal("7, 1, 8, 2, 3", plain(data.choose(data.from_table { 2, 1, 2, 1, 2, 1 }, { range(3), range(7, 8) }, { stop = false })))
    local count = { 0, 0, 0 }
    local from = data.sample_from({ range(1, 1):repeated(), range(2, 2):repeated(), range(3, 3):repeated() }, { weights = { 3, 0, 1 }, seed = 1 })
    for v in from:take(4000):iter() do count[v:item()] = count[v:item()] + 1 end
    assert.equal(0, count[2])
    assert.near(3000, count[1], 5 * math.sqrt(4000 * 0.75 * 0.25))
    assert.equal("1, 2, 3", plain(data.sample_from({ range(3), range(7, 8) }, { weights = { 1, 0 } })))
    assert.equal("concat: elements of data set 2 have other components or dtypes than those of the first",
      message(data.concat, { range(2), x }))
    assert.equal("choose: a choice is 3; there are data sets 1 to 2", message(collect, data.choose(range(3, 3), { range(3), range(3) })))
    assert.equal("sample_from: weights must not be negative, and one must be above 0", message(data.sample_from, { range(2) }, { weights = { -1 } }))
    assert.equal("zip: needs a list of data sets, got one", message(data.zip, range(2)))
  end)

  it("open data sets for elements", function()
    local function up_to(x) return range(x:item()):map(function(y) return y * 10 + x end) end
    assert.equal("11, 12, 22, 13, 23, 33", plain(range(3):flat_map(up_to)))
    -- by hand, in tf.data's order: a data set that has ended gives its place to the next one when its turn comes again
    assert.equal("11, 12, 22, 13, 23, 14, 33, 24, 34, 44", plain(range(4):interleave(up_to, { cycle = 2 })))
    assert.equal("1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5", -- the example of tf.data's page
      plain(range(5):interleave(function(x) return range(x:item(), x:item()):repeated(6) end, { cycle = 2, block = 4 })))
    assert.equal("flat_map: the function returned a number; it must return a data set", message(collect, range(2):flat_map(function() return 3 end)))
  end)

  it("keep what the first pass gave", function()
    local calls = 0
    local ds = range(4):map(function(x) calls = calls + 1 return x end):shuffle(4, { seed = 1 }):cache()
    local first = collect(ds)
    assert.same(first, collect(ds))
    assert.equal(4, calls)
    assert.same({ first[1] }, collect(ds, 1))
    local again = range(4):map(function(x) calls = calls + 1 return x end):cache()
    assert.equal(2, #collect(again, 2)) -- a pass that was left is gone on with, from its beginning
    assert.equal("1, 2, 3, 4", plain(again))
    assert.equal("1, 2, 3, 4", plain(again))
    assert.equal(4 + 2 + 4, calls)
  end)

  it("keep elements in a file", function()
    local path = os.tmpname()
    os.remove(path)
    local calls = 0
    local function make(n)
      return range(n or 4):map(function(x) calls = calls + 1 return x, nn.ones(x:item(), 2), nn.tensor { true, false } end):snapshot(path)
    end
    local want = collect(make())
    assert.equal(4, calls)
    local ds = make()
    assert.same(want, collect(ds))
    assert.same(want, collect(ds))
    assert.equal(4, calls)
    assert.equal(4, #ds)
    assert.equal(("cache: %s is of another pipeline; remove it, or name another file"):format(path), message(collect, make(5)))
    local f = assert(io.open(path, "rb"))
    local bytes = f:read "a"
    f:close()
    -- A file that is damaged is made anew; one that is not ours is left alone. Never a crash, never other elements.
    local made_anew = 0
    local function damaged(content)
      f = assert(io.open(path, "wb"))
      f:write(content)
      f:close()
      calls = 0
      local ok, found = pcall(collect, make())
      if not ok then
        assert.matches("^[^\n]*cache: ", found)
        assert.is_true(#content < 32 or content:sub(1, 7) ~= "NNLDATA", found)
        return
      end
      assert.same(want, found)
      assert.equal(content ~= bytes and 4 or 0, calls)
      f = assert(io.open(path, "rb"))
      assert.is_true(f:read "a" == bytes)
      f:close()
      made_anew = made_anew + calls // 4
    end
    for size = 0, #bytes, 9 do damaged(bytes:sub(1, size)) end
    for at = 1, #bytes, 3 do
      for _, bit in ipairs { 1, 128 } do damaged(bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ bit) .. bytes:sub(at + 1)) end
    end
    damaged(bytes .. ("\0"):rep(8))
    damaged((bytes:gsub("NNLDATA2", "NNLDATA1", 1))) -- the version without checksums
    assert.is_true(made_anew > #bytes // 2, made_anew)
    damaged(bytes)
    assert.equal(0, calls)
    os.remove(path)
  end)

  it("show what elements are and one sample step by step", function()
    local ds = range(20):shuffle(20, { seed = 3 }):batch(4)
    assert.same({ { dtype = "i64", shape = { 4 } } }, ds:element_spec())
    assert.is_nil(ds:map(function(x) return x end):element_spec())
    assert.equal("Dataset<i64 ?> 4 elements", tostring(range(7):window(2)))
    assert.equal("Dataset<i64 scalar> unknown number of elements", tostring(range(7):unique()))
    local lines = ds:map(function(x) return x, nn.ones(2) end):debug { print = false }
    assert.equal(4, select(2, lines:gsub("[^\n]+", "")))
    assert.truthy(lines:find("1 range%(1 1 20%) +i64 scalar = 1\n2 shuffle%(20%) +i64 scalar = %d+\n3 batch%(4%) +i64 4, .-\n"
      .. "4 map data_verbs_spec.lua:%d+ +i64 4, .*; f32 2, 1 to 1"))
    lines = ds:map(function() error("no", 0) end):prefetch():batch(2):debug { print = false }
    assert.truthy(lines:find "\n4 map data_verbs_spec.lua:%d+ +fails: no$")
    assert.truthy(ds:prefetch():debug { print = false }:find "\n4 prefetch +i64 4, ")
    lines = data.from_function(function(i) return i end, { count = 9 }):shuffle(9, { seed = 1 }):debug { print = false }
    assert.truthy(lines:find "^1 range%(1 1 9%) .*\n2 shuffle%(9%) .*\n3 map arrays.lua:%d+ +i64 scalar = %d$")
    assert.same(collect(range(20):shuffle(20, { seed = 3 }):batch(4)), collect((function() ds:debug { print = false } return ds end)()))
  end)
end)

-- ---- workers ---------------------------------------------------------------------------------------------------------------------

describe("map with workers", function()
  it("takes along what its function captures", function()
    local scale, config, t, floor = 3, { deep = { add = 4 } }, nn.tensor { 1, 2 }, math.floor
    config.self = config
    local function helper(x) return x * scale end
    local recursive
    recursive = function(n) return n == 0 and 0 or 1 + recursive(n - 1) end
    local encoder = data.LabelEncoder { values = { "a", "b" } }
    local ds = range(2):map(function(x)
      return helper(x) + config.self.deep.add + floor(0.5) + recursive(3), t * 2, encoder:encode "b", nn.relu(nn.tensor { -1.5 })
    end, { workers = 2 })
    local flip = nn.vision.Compose { nn.vision.RandomFlip { p = 1 }, nn.vision.Invert {} }
    assert.equal("{{{0.0} {1.0}}}", plain(range(1):map(function() return flip(nn.tensor { { { 0.0 }, { 1.0 } } }) end, { workers = 1 })))
    scale, t = 100, nil
    config.deep.add = 100
    assert.equal("10 {2 4} 2 {0.0}, 13 {2 4} 2 {0.0}", plain(ds))
  end)

  it("names what cannot travel", function()
    local file = { log = io.stdout }
    assert.equal("map: the function captures `file.log` (userdata), which cannot travel to a worker; it may capture plain values, tables, tensors, "
      .. "modules and Lua functions. Make it inside of the function, or leave out `workers`",
      message(function() return range(2):map(function(x) file.log:write "" return x end, { workers = 1 }) end))
    local list = { { deep = io.stdout } }
    local told = message(function() range(2):map(function() return list end, { workers = 1 }) end)
    assert.truthy(told:find("captures `list[1].deep` (userdata)", 1, true))
    local co = coroutine.create(print)
    assert.truthy(message(function() return range(2):map(function() return co end, { workers = 1 }) end):find "captures `co` %(thread%)")
  end)

  it("tells a worker's error with its traceback", function()
    local function inner(x) return x:item() == 3 and error("this one") or x end
    local ds = range(5):map(function(x) local y = inner(x) return y end, { workers = 2 })
    local seen = 0
    local text_of_error = message(function() for _ in ds:iter() do seen = seen + 1 end end)
    assert.equal(2, seen)
    assert.truthy(text_of_error:find "map: in a worker: .*data_verbs_spec.lua:%d+: this one\nstack traceback:\n\t.*in upvalue 'inner'\n\t")
    local thing = range(2):map(function() error { code = 3 } end, { workers = 2 })
    assert.truthy(message(collect, thing):find "map: in a worker: an error that is a table, which does not leave its worker\nstack traceback:\n\t")
  end)

  it("draws for each element of each pass anew, and for each the same again", function()
    local function make(workers, seed) return range(6):map(function(x) return x, nn.rand(2) end, { workers = workers, seed = seed }) end
    local ds = make(0, 1)
    local a, b = collect(ds), collect(ds)
    assert.not_same(a, b)
    local seen = {}
    for _, s in ipairs(a) do seen[s:match "{.*}"] = true end
    for _, s in ipairs(b) do seen[s:match "{.*}"] = true end
    local n = 0
    for _ in pairs(seen) do n = n + 1 end
    assert.equal(12, n)
    assert.not_same(a, collect(make(0, 2)))
    for _, workers in ipairs { 1, 2, 4 } do
      ds = make(workers, 1)
      assert.same(a, collect(ds))
      assert.same(b, collect(ds))
    end
    nn.seed(1)
    local before = nn.rand(3):totable()
    nn.seed(1)
    ds = make(0, 1)
    collect(ds)
    assert.same(before, nn.rand(3):totable()) -- the script's own draws are not disturbed
  end)

  it("closes its threads", function()
    local function threads()
      for line in io.lines "/proc/self/status" do
        local n = line:match "^Threads:%s*(%d+)"
        if n then return math.tointeger(n) end
      end
    end
    local pictures = data.from_tensors { nn.zeros(100, 4, 4, 3) }
    for _, ds in ipairs { range(100):map(function(x) return x end, { workers = 3 }), pictures:map(nn.vision.Invert {}, { workers = 3 }) } do
      local before = threads()
      for _ in ds:iter() do -- luacheck: ignore 512
        assert.is_true(threads() >= before + 3)
        break
      end
      assert.equal(before, threads())
      assert.equal("enough", message(function()
        for _ in ds:batch(2):iter() do error("enough", 0) end -- luacheck: ignore 512
      end))
      assert.equal(before, threads())
    end
  end)
end)
