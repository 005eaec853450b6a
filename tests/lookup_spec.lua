-- lua/nnlua/layers/lookup.lua: which token has which id, both ways; files; wrong use.
local nn = require "nnlua"

local function integers(list) return nn.tensor(list, { dtype = "i64" }) end

describe("StringLookup", function()
  it("orders strings by how often they come, then by the alphabet", function()
    local lookup = nn.StringLookup {}:adapt { "b", "c", "a", "c", "b", "d" }
    assert.same({ "[UNK]", "b", "c", "a", "d" }, lookup:vocabulary())
    assert.equal("StringLookup(5 tokens)", tostring(lookup))
    local ids = lookup { "a", "x", "b" }
    assert.same({ 4, 1, 2 }, ids:totable())
    assert.equal("i64", ids:dtype())
    assert.same({ 2 }, lookup("b"):totable())
    assert.same({ { 2, 3 }, { 1, 5 } }, lookup { { "b", "c" }, { "", "d" } }:totable())
    assert.same({ "a", "[UNK]", "b" }, lookup:decode(ids))
    assert.same({ "[UNK]", "b" }, nn.StringLookup { 2 }:adapt { "b", "c", "b" }:vocabulary())
    assert.same({ "m", "[UNK]", "b", "a" }, nn.StringLookup { mask_token = "m" }:adapt { "a", "m", "b", "b", "[UNK]" }:vocabulary())
  end)

  it("has ids for the mask and for unknown strings", function()
    local lookup = nn.StringLookup { mask_token = "", vocabulary = { "a", "b" } }
    assert.same({ 1, 2, 3, 4 }, lookup { "", "?", "a", "b" }:totable())
    assert.same({ "", "[UNK]", "a", "b" }, lookup:vocabulary())
    local spread = nn.StringLookup { num_oov_indices = 4, vocabulary = { "a" } }
    assert.same({ "[UNK]", "[UNK]", "[UNK]", "[UNK]", "a" }, spread:vocabulary())
    local words, seen = {}, { 0, 0, 0, 0 }
    for i = 1, 400 do words[i] = "word " .. i end
    local ids = spread(words):totable()
    for _, id in ipairs(ids) do seen[id] = seen[id] + 1 end
    for _, n in ipairs(seen) do assert(n > 60 and n < 140, n) end
    assert.same(ids, spread(words):totable())
    assert.same({ 5 }, spread("a"):totable())
    assert.same({ 1, 2 }, nn.StringLookup { num_oov_indices = 0, vocabulary = { "a", "b" } } { "a", "b" }:totable())
  end)

  it("makes rows, in which the mask has no column", function()
    local function rows(mode, mask)
      return nn.StringLookup { output_mode = mode, mask_token = mask, vocabulary = { "a", "b" } } { { "a", "a", "" }, { "b", "?", "a" } }:totable()
    end
    assert.same({ { 0, 2, 0 }, { 1, 1, 1 } }, rows("count", ""))
    assert.same({ { 0, 1, 0 }, { 1, 1, 1 } }, rows("multi_hot", ""))
    assert.same({ { 1, 2, 0 }, { 1, 1, 1 } }, rows("count"))
    assert.same({ { { 0, 1, 0 }, { 0, 1, 0 }, { 0, 0, 0 } }, { { 0, 0, 1 }, { 1, 0, 0 }, { 0, 1, 0 } } }, rows("one_hot", ""))
    assert.same({ { 0, 1, 0 }, { 0, 0, 1 } }, nn.StringLookup { output_mode = "one_hot", vocabulary = { "a", "b" } } { "a", "b" }:totable())
  end)

  it("makes an equal one of its config, and the other way round by invert", function()
    local lookup = nn.StringLookup { mask_token = "", num_oov_indices = 2 }:adapt { "b", "a", "b" }
    local core = require "nnlua.core"
    local config = core.json_decode(core.json_encode(lookup:config()))
    local again = nn.StringLookup.from_config(nn.StringLookup, config)
    assert.same(lookup:vocabulary(), again:vocabulary())
    local keras = nn.StringLookup { mask_token = "", num_oov_indices = 2, vocabulary = lookup:vocabulary(), invert = true }
    assert.same(lookup:vocabulary(), keras:vocabulary())
    assert.same({ { "b", "a" }, { "", "[UNK]" } }, keras(integers { { 4, 5 }, { 1, 3 } }))
  end)

  it("tells of wrong use", function()
    local lookup = nn.StringLookup { name = "words" }
    local known = nn.StringLookup { name = "words", num_oov_indices = 0, vocabulary = { "label", "other" } }
    for _, case in ipairs {
      { function() lookup "a" end, "words: it knows no tokens yet; call adapt(data), or give a vocabulary" },
      { function() lookup:adapt {} end, "words: adapt got no data" },
      { function() lookup:adapt { "a", 5 } end, "words: adapt needs strings, got 5" },
      { function() lookup:adapt(5) end, "words: adapt takes a string or a list of strings, got 5" },
      { function() known "lable" end, 'words: "lable" is not in the vocabulary ("label" is), and num_oov_indices is 0' },
      { function() known { 5 } end, "words: 5 is no string" },
      { function() known:decode { 3 } end, "words: id 3 is not in 1..2" },
      { function() nn.StringLookup { vocabulary = { "a", "a" } } end, 'vocabulary[2] is "a"; it needs different strings' },
      { function() nn.StringLookup { vocabulary = { 1 } } end, "vocabulary[1] is 1; it needs different strings" },
      { function() nn.StringLookup { 2, vocabulary = { "a", "b" } } end, "2 tokens do not fit max_tokens = 2" },
      { function() nn.StringLookup { invert = true, output_mode = "count" } end, 'invert = true needs output_mode = "int"' },
      { function() nn.StringLookup { output_mode = "hot" } end, 'option "output_mode" must be one of int, one_hot, multi_hot, count' },
    } do
      local ok, message = pcall(case[1])
      assert.is_false(ok)
      assert(message:find(case[2], 1, true), message)
    end
  end)
end)

describe("IntegerLookup", function()
  -- Ids by a table and its own loops.
  local function plain(vocabulary, mask, unknown, n)
    local first = mask and 1 or 0
    if n == mask then return 1 end
    for i, v in ipairs(vocabulary) do
      if v == n then return first + unknown + i end
    end
    return first + 1 + n % unknown
  end

  it("finds numbers as a table does", function()
    local numbers = {}
    for i = -60, 60 do numbers[#numbers + 1] = i end
    for _, case in ipairs { { { 30, -10, 20 }, nil, 1 }, { { 30, -10, 20 }, 0, 1 }, { { 5 }, nil, 3 }, { { 60, -60, 7, 8, 9 }, -1, 7 } } do
      local want = {}
      for i, n in ipairs(numbers) do want[i] = plain(case[1], case[2], case[3], n) end
      local lookup = nn.IntegerLookup { vocabulary = case[1], mask_token = case[2], num_oov_indices = case[3] }
      assert.same(want, lookup(integers(numbers)):totable())
      assert.same({ 11, 11 }, lookup(integers(numbers):reshape(11, 11)):shape())
    end
    assert.same({ { 1, 2 } }, nn.IntegerLookup { num_oov_indices = 0, vocabulary = { 4, 3 } }(integers { { 4, 3 } }):totable())
    assert.same({ 1, 1 }, nn.IntegerLookup { vocabulary = {} }(integers { 4, 3 }):totable())
  end)

  it("learns of tensors, lists and data sets", function()
    local want = { -1, 7, 2, 9 }
    local data = { 2, 7, 9, 7, 2, 7 }
    assert.same(want, nn.IntegerLookup {}:adapt(data):vocabulary())
    assert.same(want, nn.IntegerLookup {}:adapt(integers(data):reshape(2, 3)):vocabulary())
    assert.same(want, nn.IntegerLookup {}:adapt(nn.data.from_tensors({ integers(data) }):batch(4)):vocabulary())
    assert.same({ -1, 7, 2 }, nn.IntegerLookup { 3 }:adapt(data):vocabulary())
    assert.same({ 0, -1, 2 }, nn.IntegerLookup { mask_token = 0 }:adapt({ 2, 0, 0, -1 }):vocabulary())
  end)

  it("decodes", function()
    local lookup = nn.IntegerLookup { vocabulary = { 30, 10 }, mask_token = 0 }
    local x = integers { { 30, 0 }, { 10, 5 } }
    assert.same({ { 30, 0 }, { 10, -1 } }, lookup:decode(lookup(x)):totable())
    assert.same({ { 30, 0 }, { 10, -1 } },
      nn.IntegerLookup { vocabulary = { 30, 10 }, mask_token = 0, invert = true }(lookup(x)):totable())
  end)

  it("stands in a model, whose file holds its vocabulary", function()
    for _, mode in ipairs { "int", "one_hot", "multi_hot", "count" } do
      local lookup = nn.IntegerLookup { output_mode = mode, mask_token = 0, name = "ids" }:adapt { 300, 100, 300 }
      local model = nn.Sequential { nn.Input { 3, dtype = "i64" }, lookup }
      local x = integers { { 300, 7, 100 }, { 0, 100, 100 } }
      local want = { int = { { 3, 2, 4 }, { 1, 4, 4 } }, multi_hot = { { 1, 1, 1 }, { 0, 0, 1 } }, count = { { 1, 1, 1 }, { 0, 0, 2 } },
        one_hot = { { { 0, 1, 0 }, { 1, 0, 0 }, { 0, 0, 1 } }, { { 0, 0, 0 }, { 0, 0, 1 }, { 0, 0, 1 } } } }
      local y = model(x)
      assert.same(want[mode], y:totable())
      local told = lookup:output_shape { 3 }
      table.insert(told, 1, 2)
      assert.same(y:shape(), told)
      local file = os.tmpname()
      assert(model:save(file))
      local again = assert(nn.load(file))
      os.remove(file)
      assert.same(want[mode], again(x):totable())
      assert.same(lookup:vocabulary(), again:layer("ids"):vocabulary())
    end
  end)

  it("tells of wrong use", function()
    local known = nn.IntegerLookup { name = "codes", num_oov_indices = 0, vocabulary = { 4, 5 } }
    for _, case in ipairs {
      { function() nn.IntegerLookup { name = "codes" }(integers { 1 }) end, "codes: it knows no tokens yet" },
      { function() known(integers { 4, 6, 7 }) end, "codes: 6 is not in the vocabulary, and num_oov_indices is 0" },
      { function() nn.IntegerLookup { vocabulary = { 1, 1 } } end, "vocabulary[2] is 1; it needs different integers" },
      { function() nn.IntegerLookup { vocabulary = { 1.5 } } end, "vocabulary[1] is 1.5; it needs different integers" },
      { function() nn.IntegerLookup {}:adapt "a" end, "adapt takes a tensor or a data set, got" },
      { function() known:decode { 9 } end, "codes: id 9 is not in 1..2" },
    } do
      local ok, message = pcall(case[1])
      assert.is_false(ok)
      assert(message:find(case[2], 1, true), message)
    end
  end)
end)
