--- Texts as ids: TextVectorization.
--
-- Owns: how a text is cut into words, and which id a word has: 1 is padding, 2 any word that is not known, then come the words by how often adapt()
-- saw them (alphabetical where that is equal). Keras counts the same list from 0. Strings are no tensors, so the layer stands before a model, not in
-- it.
--
--     local nn = require "nnlua"
--     local words = nn.TextVectorization{ output_sequence_length = 5 }
--     words:adapt{ "A cat, a dog.", "the cat" }
--     print(table.concat(words:vocabulary(), " ", 2))       --> [UNK] a cat dog the
--     local ids = words{ "The dog barks!", "cat" }
--     print(table.concat(ids[1]:totable(), " "))            --> 6 5 2 1 1
--     print(words:decode(ids)[1])                           --> the dog [UNK]

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local Layer = require "nnlua.layer"

local M = {}
local PADDING, UNKNOWN = 1, 2

local standards = {
  none = function(text) return text end,
  lower = function(text) return text:lower() end,
  strip_punctuation = function(text) return (text:gsub("%p", "")) end,
  lower_and_strip_punctuation = function(text) return (text:lower():gsub("%p", "")) end,
}
local splits = {
  whitespace = function(text) return text:gmatch "%S+" end,
  character = function(text) return text:gmatch "[\0-\x7F\xC2-\xFD][\x80-\xBF]*" end, -- of UTF-8
}

--- Texts (a list of strings, or one) as a tensor of ids (N, T) i64: `nn.TextVectorization{ max_tokens = 10000, output_sequence_length = 40 }`.
--- adapt(texts) learns the words, or `vocabulary` names them. T is `output_sequence_length`, to which texts are cut and filled up, or the longest
--- text's.
--- standardize: "lower_and_strip_punctuation" (of ASCII), "lower", "strip_punctuation", "none"; split: "whitespace" or "character". output_mode
--- "multi_hot" and "count" give (N, words) f32 instead: whether, or how often, a text has a word.
---@class nnlua.TextVectorization: nnlua.Layer
---@overload fun(options: { max_tokens?: integer, output_sequence_length?: integer, vocabulary?: string[], name?: string }): nnlua.TextVectorization
local Text = Layer.define("TextVectorization", {
  max_tokens = { "integer", position = 1, min = 3 }, output_sequence_length = { "integer", min = 1 },
  standardize = { "string", default = "lower_and_strip_punctuation", choices = lists.sorted(standards) },
  split = { "string", default = "whitespace", choices = lists.sorted(splits) },
  output_mode = { "string", default = "int", choices = { "int", "multi_hot", "count" } },
  vocabulary = { "table" },
})
Text.fields = { vocabulary = "known" }
M.TextVectorization = Text

-- Takes the words of ids 3, 4, ...
local function learn(self, words)
  local known, ids = {}, {}
  for i, word in ipairs(words) do
    if type(word) ~= "string" or ids[word] then
      options.raise(("%s: vocabulary[%d] is %s; it needs different strings"):format(self:label(), i, options.shown(word)))
    end
    known[i], ids[word] = word, i + UNKNOWN
  end
  rawset(self, "known", known)
  rawset(self, "ids", ids)
end

function Text:checked()
  rawset(self, "built", true)
  local given = self.known
  if not given then return end
  local skip = given[1] == "" and given[2] == "[UNK]" and UNKNOWN or 0 -- as vocabulary() gives it
  if self.max_tokens and #given - skip > self.max_tokens - UNKNOWN then
    options.raise(("%s: %d words do not fit max_tokens = %d, which counts padding and unknown words too"):format(self:label(), #given - skip,
      self.max_tokens))
  end
  learn(self, table.move(given, skip + 1, #given, 1, {}))
end

local function words_of(self, text) return splits[self.split](standards[self.standardize](text)) end

-- The texts of a call as a list.
local function listed(self, what, texts)
  if type(texts) == "string" then return { texts } end
  if type(texts) ~= "table" then
    options.raise(("%s: %s takes a string or a list of strings, got %s"):format(self:label(), what, options.shown(texts)))
  end
  for i, text in ipairs(texts) do
    if type(text) ~= "string" then options.raise(("%s: text %d is %s; it must be a string"):format(self:label(), i, options.shown(text))) end
  end
  if #texts == 0 then options.raise(("%s: %s got no texts"):format(self:label(), what)) end
  return texts
end

--- Learn the words of `texts`: the max_tokens - 2 most frequent ones, or all. Returns self.
---@param texts string[]
function Text:adapt(texts)
  local counts, words = {}, {}
  for _, text in ipairs(listed(self, "adapt", texts)) do
    for word in words_of(self, text) do
      if not counts[word] then words[#words + 1] = word end
      counts[word] = (counts[word] or 0) + 1
    end
  end
  table.sort(words, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  learn(self, table.move(words, 1, math.min(#words, (self.max_tokens or math.huge) - UNKNOWN), 1, {}))
  return self
end

local function need_words(self)
  return self.known or options.raise(("%s: it knows no words yet; call adapt(texts), or give a vocabulary"):format(self:label()))
end

--- The words by id: "" (padding), "[UNK]", ...; its length is what Embedding needs.
---@return string[]
function Text:vocabulary()
  local known = need_words(self)
  return table.move(known, 1, #known, UNKNOWN + 1, { "", "[UNK]" })
end

function Text:forward(texts)
  local count = #need_words(self) + UNKNOWN
  texts = listed(self, "the call", texts)
  local rows, longest = {}, 1
  for i, text in ipairs(texts) do
    local row = {}
    for word in words_of(self, text) do row[#row + 1] = self.ids[word] or UNKNOWN end
    rows[i], longest = row, math.max(longest, #row)
  end
  local whole = self.output_mode ~= "int"
  local length, flat = not whole and self.output_sequence_length or longest, {}
  for _, row in ipairs(rows) do
    for t = 1, length do flat[#flat + 1] = row[t] or PADDING end
  end
  local ids = core.tensor(flat, { dtype = "i64" }):reshape(#rows, length)
  if not whole then return ids end
  local hot = core.one_hot(ids, count)
  hot = self.output_mode == "count" and hot:sum(2) or hot:amax(2)
  return core.cat({ core.zeros(#rows, 1), hot:narrow(2, UNKNOWN, count - 1):float() }, 2) -- padding is no word
end

Text.__call = Text.forward -- no tensor comes in: there is nothing to build or to record

--- Ids (N, T) as texts, their words joined by a space (characters by nothing).
---@param ids nnlua.Tensor|integer[][]
---@return string[]
function Text:decode(ids)
  local words, texts = self:vocabulary(), {}
  for i, row in ipairs(core.is_tensor(ids) and ids:totable() or ids) do
    local parts = {}
    for _, id in ipairs(row) do
      if not words[id] then options.raise(("%s: id %s is not in 1..%d"):format(self:label(), options.shown(id), #words)) end
      if id ~= PADDING then parts[#parts + 1] = words[id] end
    end
    texts[i] = table.concat(parts, self.split == "character" and "" or " ")
  end
  return texts
end

function Text:detail() return self.known and ("%d words"):format(#self.known + UNKNOWN) or "knows no words" end

return M
