-- lua/nnlua/data.lua and bindings/lua_data.c: pipelines as a script writes them. What the engine does with every combination of verbs is tested in
-- tests/c/test_data.c.
local nn = require "nnlua"
local sys = require("nnlua.core").sys
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local message = support.message

-- The elements of a pass: plain values of the first component, or of all as lists when there are several.
local function collect(ds, most)
  local out = {}
  for x, y in ds:iter() do
    out[#out + 1] = y and { x:totable(), y:totable() } or x:totable()
    if #out == most then break end
  end
  return out
end

local function threads()
  for line in io.lines "/proc/self/status" do
    local n = line:match "^Threads:%s*(%d+)"
    if n then return math.tointeger(n) end
  end
end

-- Batches of 400 KB: large enough that prefetch starts a thread for them.
local function large(n)
  return nn.data.from_tensors { nn.zeros(n or 1000, 100, 10) }:batch(100)
end

describe("a data set", function()
  it("numbers rows of tensors and keeps them together", function()
    local x, y = nn.tensor { { 1, 2 }, { 3, 4 }, { 5, 6 } }, nn.tensor { 10, 20, 30 }
    local ds = nn.data.from_tensors { x, y }
    assert.same({ { { 1, 2 }, 10 }, { { 3, 4 }, 20 }, { { 5, 6 }, 30 } }, collect(ds))
    assert.same({ { { { 1, 2 }, { 3, 4 } }, { 10, 20 } }, { { { 5, 6 } }, { 30 } } }, collect(ds:batch(2)))
    assert.same(collect(ds), collect(nn.data.from_tensors(x, y)))
    for a, b in ds:shuffle(3, { seed = 1 }):batch(3):iter() do
      for i = 1, 3 do assert.equal(b:totable()[i], 5 * (a:totable()[i][2])) end
    end
  end)

  it("has tf.data's verbs", function()
    local ds = nn.data.range(5)
    assert.same({ 1, 2, 3, 4, 5 }, collect(ds))
    assert.same({ { 1, 2 }, { 3, 4 }, { 5 } }, collect(ds:batch(2)))
    assert.same({ { 1, 2 }, { 3, 4 } }, collect(ds:batch(2, { drop_last = true })))
    assert.same({ { 1, 2 }, { 3, 4 } }, collect(ds:batch { 2, drop_last = true }))
    assert.same({ 1, 2 }, collect(ds:take(2)))
    assert.same({ 4, 5 }, collect(ds:skip(3)))
    assert.same({ 1, 2, 1, 2 }, collect(ds:take(2):repeated(2)))
    assert.same({ 1, 2, 1, 2, 1 }, collect(ds:take(2):repeated(), 5))
    assert.same({ 2, 4, 6 }, collect(ds:take(3):map(function(x) return x * 2 end):prefetch(2)))
    assert.same({ 10, 7, 4 }, collect(nn.data.range(10, 3, -3)))
    assert.same({}, collect(nn.data.range(0)))
    local seen = {}
    for _, v in ipairs(collect(ds:shuffle(2))) do seen[v] = true end
    assert.equal(5, #seen)
  end)

  it("makes elements of lists", function()
    assert.same({ 1, 2, 3 }, collect(nn.data.from_table { 1, 2, 3 }))
    local ds = nn.data.from_table { { nn.tensor { 1.5, 2.5 }, 1 }, { nn.tensor { 3.5, 4.5 }, 2 } }
    assert.same({ { { 1.5, 2.5 }, 1 }, { { 3.5, 4.5 }, 2 } }, collect(ds))
    assert.equal("Dataset<f32 2, i64 scalar> 2 elements", tostring(ds))
    assert.equal("Dataset<f32 scalar> 2 elements", tostring(nn.data.from_table { 1, 2.5 }))
    assert.equal("Dataset<f32 2, f32 scalar> 1 element", tostring(nn.data.from_table { { { 0.5, 1 }, 0.5 } }))
    assert.equal("from_table: element 2 has 1 values, the first has 2", message(nn.data.from_table, { { 1, 2 }, { 1 } }))
    assert.equal('from_table: element 1 holds "a"; it takes numbers, tensors and tables of numbers', message(nn.data.from_table, { "a" }))
    assert.equal("from_table: needs a list that is not empty, got a table", message(nn.data.from_table, {}))
  end)

  it("shows what its elements are and how many", function()
    local ds = nn.data.from_tensors { nn.zeros({ 130, 28, 28, 1 }, "u8"), nn.zeros({ 130 }, "i64") }
    assert.equal("Dataset<u8 28x28x1, i64 scalar> 130 elements", tostring(ds))
    assert.equal("Dataset<u8 64x28x28x1, i64 64> 3 batches", tostring(ds:batch(64)))
    assert.equal("Dataset<u8 64x28x28x1, i64 64> 2 batches", tostring(ds:shuffle(9):batch(64, { drop_last = true }):prefetch()))
    assert.equal("Dataset<u8 28x28x1, i64 scalar> endless elements", tostring(ds:repeated()))
    assert.equal("Dataset<?> 3 batches", tostring(ds:batch(64):map(function(x) return x end)))
    assert.equal(3, #ds:batch(64))
    assert.equal(3, ds:batch(64):cardinality())
    assert.equal(math.huge, ds:repeated():batch(64):cardinality())
  end)

  it("never changes: a verb makes a new one", function()
    local ds = nn.data.range(4)
    local before = collect(ds)
    assert.not_equal(ds, ds:shuffle(4))
    ds:batch(2)
    ds:take(1)
    assert.same(before, collect(ds))
  end)

  it("hands on what belongs to it", function()
    local ds = nn.data.range(4)
    ds.labels = nn.data.LabelEncoder { values = { "a", "b", "c", "d" } }
    local last = ds:shuffle(4):batch(2):repeated(2):take(3):skip(1):map(function(x) return x end):prefetch(1)
    assert.equal(ds.labels, last.labels)
  end)

  it("keeps its tensors alive, and survives them being changed", function()
    local x = nn.tensor { 1, 2, 3 }
    local ds = nn.data.from_tensors { x }
    x = x * 100
    assert.same({ 100, 200, 300 }, x:totable())
    collectgarbage()
    collectgarbage()
    assert.same({ 1, 2, 3 }, collect(ds))
  end)

  it("says what is wrong", function()
    local ds = nn.data.range(4)
    assert.equal('shuffle: unknown option "sed"; did you mean "seed"? (valid: buffer, reshuffle, seed)', message(ds.shuffle, ds, 4, { sed = 1 }))
    assert.equal('shuffle: option "buffer" is missing; it must be an integer', message(ds.shuffle, ds))
    assert.equal('batch: option "size" must be at least 1, got 0', message(ds.batch, ds, 0))
    assert.equal('take: option "n" must be at least 0, got -1', message(ds.take, ds, -1))
    assert.equal("map: needs a function, got 3", message(ds.map, ds, 3))
    assert.equal("range: the step is 0", message(nn.data.range, 1, 2, 0))
    assert.equal("range: value 2 must be an integer, got 2.5", message(nn.data.range, 2.5))
    assert.equal("data set: tensor 2 has 2 rows, the first has 3", message(nn.data.from_tensors, { nn.zeros(3, 4), nn.zeros(2) }))
    assert.equal("data set: tensor 1 is a scalar; its first dim must number the elements", message(nn.data.from_tensors, { nn.tensor(1) }))
    assert.equal("from_tensors: value 2 must be a tensor, got 5", message(nn.data.from_tensors, { nn.zeros(3), 5 }))
    assert.equal("batch: value 1 of element 2 has another shape or dtype (i64) than the first (f32)", message(collect,
      ds:map(function(x) if x:item() == 2 then return x end return x:float() end):batch(4)))
  end)
end)

describe("a shuffle", function()
  it("has another order each pass, which the seed decides", function()
    local function passes(seed)
      local ds, out = nn.data.range(50):shuffle(50, { seed = seed }), {}
      for i = 1, 3 do out[i] = collect(ds) end
      return out
    end
    local a = passes(3)
    assert.same(a, passes(3))
    assert.not_same(a, passes(4))
    assert.not_same(a[1], a[2])
    assert.not_same(a[2], a[3])
    table.sort(a[1])
    assert.same(collect(nn.data.range(50)), a[1])
    local fixed = nn.data.range(50):shuffle(50, { seed = 3, reshuffle = false })
    assert.same(collect(fixed), collect(fixed))
  end)

  it("takes its seed from nn.seed by default", function()
    local function order(seed)
      nn.seed(seed)
      local ds = nn.data.range(50)
      return { collect(ds:shuffle(50)), collect(ds:shuffle(50)) }
    end
    local a = order(1)
    assert.same(a, order(1))
    assert.not_same(a, order(2))
    assert.not_same(a[1], a[2])
  end)
end)

describe("a pass", function()
  it("can be asked by hand, and ends for good", function()
    local pass = nn.data.range(2):iter()
    assert.equal(1, pass():item())
    assert.equal(2, pass():item())
    assert.is_nil(pass())
    assert.is_nil(pass())
    pass:close()
    local other = nn.data.range(2):iter()
    other:close()
    assert.is_nil(other())
  end)

  it("is closed by break, errors and the collector, with its thread", function()
    local ds = large():prefetch(2)
    local before = threads()
    for x in ds:iter() do -- luacheck: ignore 512 (the thread is there while the pass is)
      assert.equal(100, #x)
      assert.equal(before + 1, threads())
      break
    end
    assert.equal(before, threads())
    for _ = 1, 200 do
      for _ in ds:iter() do break end -- luacheck: ignore 512
    end
    assert.equal(before, threads())
    assert.equal("enough", message(function()
      for _ in ds:iter() do error("enough", 0) end -- luacheck: ignore 512
    end))
    assert.equal(before, threads())
    do
      local pass = ds:iter()
      pass()
      assert.equal(before + 1, threads())
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, threads())
  end)

  it("gives the same whether a thread works ahead or not", function()
    local x = nn.arange(0, 30000):reshape { 300, 100 }
    local plain = nn.data.from_tensors { x }:shuffle(100, { seed = 5 }):batch(16)
    local ahead = nn.data.from_tensors { x:reshape { 300, 100, 1 }:expand { 300, 100, 50 } }:shuffle(100, { seed = 5 }):batch(16):prefetch(3)
    local a, b = {}, {}
    for v in plain:iter() do a[#a + 1] = v:totable()[1][1] end
    for v in ahead:iter() do b[#b + 1] = v:totable()[1][1][1] end
    assert.equal(19, #a)
    assert.same(a, b)
  end)

  it("takes memory for what is in use only", function()
    local ds = large(2000):shuffle(4):prefetch(2)
    local function epochs(n)
      for _ = 1, n do
        for x in ds:iter() do assert.equal(10, x:size(3)) end
      end
    end
    epochs(10)
    local before = sys.resident_memory()
    epochs(60) -- 480 MB of batches
    assert.is_true(sys.resident_memory() - before < 30e6)
  end)
end)

describe("map", function()
  it("takes and gives several tensors, numbers and booleans", function()
    local ds = nn.data.from_tensors { nn.tensor { 1, 2 }, nn.tensor { 3, 4 } }:map(function(x, y) return x + y, 7, 0.5, true end)
    local pass = ds:iter()
    local a, b, c, d = pass()
    assert.equal(4, a:item())
    assert.equal("i64", b:dtype())
    assert.equal(7, b:item())
    assert.equal(0.5, c:item())
    assert.equal(true, d:item())
    assert.same({ { 4, 6 }, { 7, 7 } }, collect(ds:batch(2))[1])
  end)

  it("hands errors of its function on as they are", function()
    local thing = { code = 3 }
    local ds = nn.data.range(3):map(function(x)
      if x:item() == 2 then error(thing) end
      return x
    end)
    local seen = 0
    local ok, err = pcall(function()
      for _ in ds:prefetch(2):batch(1):iter() do seen = seen + 1 end
    end)
    assert.is_false(ok)
    assert.equal(thing, err)
    assert.equal(1, seen)
    assert.equal("map: value 1 that the function returned is a table; it must be a tensor, a number, a boolean or a string",
      message(collect, nn.data.range(1):map(function() return {} end)))
    assert.equal("map: the function returned 0 values; it must return 1 to 8", message(collect, nn.data.range(1):map(function() end)))
  end)

  it("may use other data sets, but not its own pass", function()
    local inner = nn.data.range(3)
    assert.same({ 6, 6 }, collect(nn.data.range(2):map(function()
      local sum = 0
      for x in inner:iter() do sum = sum + x:item() end
      return sum
    end)))
    local pass
    pass = nn.data.range(3):map(function() return pass() end):iter()
    assert.equal("data set: its own map function asks the iterator for the next element", message(pass))
    pass = nn.data.range(3):map(function(x)
      pass:close()
      return x
    end):iter()
    assert.equal("data set: its own map function closes the iterator", message(pass))
  end)

  it("lets functions be collected that refer to their data set", function()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local ds
      local fn = function(x) return x, ds and 1 or 2 end
      ds = nn.data.range(3):map(fn)
      weak[fn] = true
      collect(ds)
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)
end)

describe("state", function()
  local function pipeline(seed)
    return nn.data.range(100):shuffle(30, { seed = seed }):batch(7):map(function(x) return x * 2 end):prefetch(2)
  end

  -- What a checkpoint does to it: only strings and integers may be in there.
  local function copied(v)
    if type(v) ~= "table" then
      assert.is_true(type(v) == "string" or math.type(v) == "integer")
      return v
    end
    local out = {}
    for key, value in pairs(v) do out[key] = copied(value) end
    return out
  end

  it("resumes in the middle of a pass, with nothing repeated or lost", function()
    local ds = pipeline(1)
    collect(ds)
    local pass, rest = ds:iter(), {}
    for _ = 1, 5 do pass() end
    local state = copied(ds:state())
    for x in pass do rest[#rest + 1] = x:totable() end
    assert.equal(10, #rest)
    local third = collect(ds)

    local again = pipeline(99):restore(state)
    assert.same(state, again:state())
    assert.same(rest, collect(again))
    assert.same(third, collect(again))
  end)

  it("resumes between passes", function()
    local ds = pipeline(1)
    collect(ds)
    local state = copied(ds:state())
    local again = pipeline(2):restore(state)
    assert.same(collect(ds), collect(again))
    for _ in ds:iter() do break end -- luacheck: ignore 512 (a pass that was left counts as one)
    for _ in again:iter() do break end -- luacheck: ignore 512
    assert.same(collect(ds), collect(again))
  end)

  it("fits the same pipeline only", function()
    local state = pipeline(1):state()
    local other = nn.data.range(100):shuffle(30):batch(8)
    assert.equal("restore: the state is of another data set: range(1 1 100) shuffle(30) batch(7) map; "
      .. "this one is range(1 1 100) shuffle(30) batch(8)", message(other.restore, other, state))
    assert.equal("restore: needs what ds:state() gave, got 5", message(other.restore, other, 5))
    state.pipeline = other:state().pipeline
    state.words[#state.words] = nil
    assert.truthy(message(other.restore, other, state):find "numbers are not a state of this data set")
  end)
end)

describe("LabelEncoder", function()
  it("turns raw labels into class ids and back", function()
    local e = nn.data.LabelEncoder { values = { "cat", "dog", 7 } }
    assert.equal(2, e:encode "dog")
    assert.equal(7, e:decode(3))
    assert.same({ 3, 1 }, e:encode { 7, "cat" })
    assert.same({ "dog", "cat" }, e:decode { 2, 1 })
    assert.same({ "dog", "cat" }, e:decode(nn.tensor({ 2, 1 }, { dtype = "i64" })))
    assert.equal("cat", e:decode(nn.tensor(1)))
    assert.equal(3, #e)
    assert.equal("LabelEncoder(cat dog 7)", tostring(e))
    assert.equal("LabelEncoder: class id 4 is not in 1..3", message(e.decode, e, 4))
    assert.equal('LabelEncoder: "cow" is none of its 3 values', message(e.encode, e, "cow"))
    assert.equal("LabelEncoder: the value 1 comes twice; LabelEncoder.fit(list) takes data", message(nn.data.LabelEncoder, { { 1, 1 } }))
    assert.same({ "cat", "dog" }, nn.data.LabelEncoder { "cat", "dog" }.values)
    assert.same({ 3, 5, "a" }, nn.data.LabelEncoder.fit { "a", 5, 3, 5 }.values)
  end)
end)
