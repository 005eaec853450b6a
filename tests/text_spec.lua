-- lua/nnlua/layers/text.lua: words, their order and ids, config round trip, wrong use.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")

local texts = { "The cat sat on the mat.", "A dog; the dog!", "cat" } -- the 3, cat 2, dog 2, then a mat on sat

describe("TextVectorization", function()
  it("orders words by how often they come, then by the alphabet", function()
    local words = nn.TextVectorization {}:adapt(texts)
    assert.same({ "", "[UNK]", "the", "cat", "dog", "a", "mat", "on", "sat" }, words:vocabulary())
    assert.equal("TextVectorization(9 words)", tostring(words))
    assert.same({ { 3, 4, 9, 8, 3, 7 }, { 6, 5, 3, 5, 1, 1 }, { 4, 1, 1, 1, 1, 1 } }, words(texts):totable())
    assert.equal("i64", words(texts):dtype())
  end)

  it("cuts, fills up and does not know", function()
    local words = nn.TextVectorization { 5, output_sequence_length = 4 }:adapt(texts)
    assert.same({ "", "[UNK]", "the", "cat", "dog" }, words:vocabulary())
    assert.same({ { 3, 4, 2, 2 }, { 4, 1, 1, 1 }, { 1, 1, 1, 1 } }, words { "the cat sat on the mat", "CAT", "" }:totable())
    assert.same({ { 3, 5, 1, 1 } }, words("the dog"):totable())
    assert.same({ { 1 } }, nn.TextVectorization {}:adapt(texts) { "..." }:totable())
  end)

  it("cuts as it is told", function()
    local function ids(o, text)
      o.vocabulary = { "a", "A", "b.", "b", "é", "ab" }
      return nn.TextVectorization(o)(text):totable()[1]
    end
    assert.same({ 3, 6 }, ids({}, "A B."))
    assert.same({ 4, 2 }, ids({ standardize = "none" }, "A B."))
    assert.same({ 3, 5 }, ids({ standardize = "lower" }, "A B."))
    assert.same({ 4, 2 }, ids({ standardize = "strip_punctuation" }, "A B."))
    assert.same({ 3, 6, 7, 2 }, ids({ split = "character" }, "Abéü"))
    assert.same({ 8, 2 }, ids({}, "A.B \n\t ab,c"))
  end)

  it("counts words", function()
    local words = nn.TextVectorization { output_mode = "count", vocabulary = { "a", "b" }, output_sequence_length = 1 }
    assert.same({ { 0, 1, 2, 1 }, { 0, 0, 0, 0 }, { 0, 0, 0, 1 } }, words { "a x a b", "", "b" }:totable())
    words = nn.TextVectorization { output_mode = "multi_hot", vocabulary = { "a", "b" } }
    assert.same({ { 0, 1, 1, 1 }, { 0, 0, 0, 1 } }, words { "a x a b", "b" }:totable())
  end)

  it("turns ids back into texts", function()
    local words = nn.TextVectorization { vocabulary = { "the", "cat" } }
    assert.same({ "the [UNK] cat", "cat" }, words:decode(words { "The big cat", "cat" }))
    assert.same({ "tee" }, nn.TextVectorization { vocabulary = { "t", "e" }, split = "character" }:decode { { 3, 4, 4, 1 } })
  end)

  it("makes an equal one of its config", function()
    local words = nn.TextVectorization { 7, output_sequence_length = 6, split = "whitespace" }:adapt(texts)
    local again = nn.TextVectorization.from_config(nn.TextVectorization, words:config())
    assert.same(words:vocabulary(), again:vocabulary())
    assert.same(words(texts):totable(), again(texts):totable())
    local keras = nn.TextVectorization.from_config(nn.TextVectorization, { vocabulary = words:vocabulary(), ragged = false })
    assert.same(words:vocabulary(), keras:vocabulary())
    local fresh = nn.TextVectorization.from_config(nn.TextVectorization, nn.TextVectorization { 9 }:config())
    assert.equal("TextVectorization(knows no words)", tostring(fresh))
  end)

  it("feeds an Embedding whose mask leaves padding out", function()
    nn.seed(1)
    local words = nn.TextVectorization { output_sequence_length = 6 }:adapt(texts)
    local model = nn.Sequential { nn.Input { -1 }, nn.Embedding { #words:vocabulary(), 4, mask_zero = true }, nn.GRU { 3 } }
    local long, short = model(words "a cat"), model(words("a cat"):narrow(2, 1, 2))
    support.close(short, long, 1e-6)
  end)

  it("tells of wrong use", function()
    local words = nn.TextVectorization { name = "words" }
    for _, case in ipairs {
      { function() words "a" end, "words: it knows no words yet; call adapt(texts), or give a vocabulary" },
      { function() words:vocabulary() end, "words: it knows no words yet" },
      { function() words:adapt { "a", 5 } end, "words: text 2 is 5; it must be a string" },
      { function() words:adapt {} end, "words: adapt got no texts" },
      { function() words:adapt(nn.ones(2)) end, "words: adapt takes a string or a list of strings, got " },
      { function() nn.TextVectorization { vocabulary = { "a", "a" } } end, "vocabulary[2] is \"a\"; it needs different strings" },
      { function() nn.TextVectorization { 3, vocabulary = { "a", "b" } } end, "2 words do not fit max_tokens = 3" },
      { function() nn.TextVectorization { split = "word" } end, "split" },
      { function() nn.TextVectorization { vocabulary = { "a" } }:decode { { 9 } } end, "id 9 is not in 1..3" },
    } do
      assert.truthy(support.message(case[1]):find(case[2], 1, true), support.message(case[1]))
    end
  end)
end)
