--- Tokens as ids: StringLookup and IntegerLookup.
--
-- Owns: which id a token has. Ids count from 1: first the mask token's, when there is one, then those of tokens that are not known, then the
-- vocabulary's, by how often adapt() saw them (in ascending order where that is equal). Keras counts the same list from 0. The vocabulary is part
-- of the configuration, so files hold it. Strings are no tensors: a StringLookup stands before a model, an IntegerLookup also in one.
--
--     local nn = require "nnlua"
--     local colours = nn.StringLookup{}:adapt{ "red", "blue", "red" }
--     print(table.concat(colours:vocabulary(), " "))                        --> [UNK] red blue
--     local ids = colours{ "blue", "green", "red" }
--     print(table.concat(ids:totable(), " "))                               --> 3 1 2
--     print(table.concat(colours:decode(ids), " "))                         --> blue [UNK] red
--     print(nn.IntegerLookup{ vocabulary = {10, 20} }(nn.tensor{20, 7}):totable()[1]) --> 3

local core = require "nnlua.core"
local options = require "nnlua.options"
local class = require "nnlua.class"
local Layer = require "nnlua.layer"
local preparing = require "nnlua.layers.preprocessing"

local M = {}

-- ---- what both share -------------------------------------------------------------------------------------------------

local Lookup = class("Lookup", Layer)
Lookup.fields = { vocabulary = "known" }

local function options_of(token, unknown)
  return {
    max_tokens = { "integer", position = 1, min = 1 }, num_oov_indices = { "integer", default = 1, min = 0 }, mask_token = { token },
    oov_token = { token, default = unknown }, vocabulary = { "table" }, invert = { "boolean", default = false },
    output_mode = { "string", default = "int", choices = { "int", "one_hot", "multi_hot", "count" } },
  }
end

-- Ids before the vocabulary's.
local function special(self) return (self.mask_token ~= nil and 1 or 0) + self.num_oov_indices end

-- Takes the vocabulary: ids special + 1, special + 2, ...
local function learn(self, tokens)
  local first, ids, known = special(self), {}, {}
  for i, token in ipairs(tokens) do
    local value = self.token_of(token)
    if value == nil or ids[value] or value == self.mask_token then
      options.raise(("%s: vocabulary[%d] is %s; it needs different %s"):format(self:label(), i, options.shown(token), self.tokens))
    end
    known[i], ids[value] = value, first + i
  end
  if self.max_tokens and first + #known > self.max_tokens then
    options.raise(("%s: %d tokens do not fit max_tokens = %d, which counts the mask's and unknown ones too"):format(self:label(), #known,
      self.max_tokens))
  end
  rawset(self, "known", known)
  rawset(self, "ids", ids)
  rawset(self, "sorted", nil)
end

function Lookup:checked()
  if self.invert and self.output_mode ~= "int" then options.raise(('%s: invert = true needs output_mode = "int"'):format(self:label())) end
  local given, front = self.known, {}
  if not given then return end
  if self.mask_token ~= nil then front[1] = self.mask_token end
  for _ = 1, self.num_oov_indices do front[#front + 1] = self.oov_token end
  local skip = #front -- as vocabulary() gives it
  for i, token in ipairs(front) do
    if given[i] ~= token then skip = 0 end
  end
  learn(self, table.move(given, skip + 1, #given, 1, {}))
end

local function need_tokens(self)
  return self.known or options.raise(("%s: it knows no tokens yet; call adapt(data), or give a vocabulary"):format(self:label()))
end

-- Learns from counts: token -> how often.
local function learn_counts(self, counts)
  local tokens = {}
  for token in pairs(counts) do
    if token ~= self.mask_token and token ~= self.oov_token then tokens[#tokens + 1] = token end
  end
  if next(counts) == nil then options.raise(("%s: adapt got no data"):format(self:label())) end
  table.sort(tokens, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  learn(self, table.move(tokens, 1, math.min(#tokens, math.max(0, (self.max_tokens or math.huge) - special(self))), 1, {}))
  return self
end

--- The tokens by id: the mask token, the one of unknown tokens (num_oov_indices times), then the vocabulary.
---@return any[]
function Lookup:vocabulary()
  local list, known = { self.mask_token }, need_tokens(self)
  for _ = 1, self.num_oov_indices do list[#list + 1] = self.oov_token end
  return table.move(known, 1, #known, #list + 1, list)
end

-- Columns of a row that stands for ids: the mask token has none.
local function width(self) return #need_tokens(self) + self.num_oov_indices end

function Lookup:output_shape(shape)
  if self.output_mode == "int" then return shape end
  return preparing.encoded_shape(shape, width(self), self.output_mode)
end

-- Ids as the output mode wants them.
local function encode(self, ids)
  if self.output_mode == "int" then return ids end
  local count, masked = width(self), self.mask_token ~= nil and 1 or 0
  local rows = preparing.encode(ids, count + masked, self.output_mode)
  return masked == 1 and rows:narrow(rows:dim(), 2, count) or rows
end

-- `f` of every element of nested lists, in lists nested as these are.
local function mapped(value, f)
  if type(value) ~= "table" then return f(value) end
  local list = {}
  for i, item in ipairs(value) do list[i] = mapped(item, f) end
  return list
end

-- Tokens of nested ids.
local function tokens_of(self, ids)
  local tokens = self:vocabulary()
  return mapped(core.is_tensor(ids) and ids:totable() or ids, function(id)
    local token = tokens[math.tointeger(id)]
    if token == nil then options.raise(("%s: id %s is not in 1..%d"):format(self:label(), options.shown(id), #tokens)) end
    return token
  end)
end

function Lookup:detail() return self.known and ("%d tokens"):format(#self:vocabulary()) or "knows no tokens" end

-- ---- strings ---------------------------------------------------------------------------------------------------------

--- Strings (one, a list, or lists of lists of one length) as a tensor of ids: `nn.StringLookup{ vocabulary = { "red", "blue" } }`.
--- adapt(strings) learns them; `max_tokens` counts all ids. `mask_token` is a string of id 1; with num_oov_indices = 0 an unknown string is an error,
--- with more than one its id is by a hash. output_mode "one_hot", "multi_hot", "count" give rows as CategoryEncoding's, in which the mask token has
--- no column. decode(ids) is the way back, and so is a call when `invert` is true.
---@class nnlua.StringLookup: nnlua.Layer
local Strings = Layer.define("StringLookup", options_of("string", "[UNK]"), nil, nil, Lookup)
Strings.fields, Strings.tokens = Lookup.fields, "strings"
M.StringLookup = Strings

function Strings.token_of(value) return type(value) == "string" and value or nil end

local function need_strings(self, what, value)
  if type(value) ~= "string" and type(value) ~= "table" then
    options.raise(("%s: %s takes a string or a list of strings, got %s"):format(self:label(), what, options.shown(value)))
  end
end

-- A string -> its number, the same everywhere: FNV-1a.
local function hash(text)
  local h = 0xCBF29CE484222325
  for i = 1, #text do h = (h ~ text:byte(i)) * 0x100000001B3 end
  return h & math.maxinteger
end

-- The id of a string.
local function id_of(self, token)
  if type(token) ~= "string" then options.raise(("%s: %s is no string"):format(self:label(), options.shown(token))) end
  if token == self.mask_token then return 1 end
  local id, count = self.ids[token], self.num_oov_indices
  if id then return id end
  if count == 0 then
    local near = options.nearest(token, self.known)
    options.raise(("%s: %s is not in the vocabulary%s, and num_oov_indices is 0"):format(self:label(), options.shown(token),
      near and (" (%s is)"):format(options.shown(near)) or ""))
  end
  return special(self) - count + 1 + hash(token) % count
end

--- Learn the strings of a list. Returns self.
function Strings:adapt(data)
  need_strings(self, "adapt", data)
  local counts = {}
  mapped(data, function(token)
    if type(token) ~= "string" then options.raise(("%s: adapt needs strings, got %s"):format(self:label(), options.shown(token))) end
    counts[token] = (counts[token] or 0) + 1
  end)
  return learn_counts(self, counts)
end

--- Ids as strings, nested as the ids are.
function Strings:decode(ids) return tokens_of(self, ids) end

function Strings:forward(value)
  need_tokens(self)
  if self.invert then return tokens_of(self, value) end
  need_strings(self, "the call", value)
  local ids = mapped(type(value) == "table" and value or { value }, function(token) return id_of(self, token) end)
  return encode(self, core.tensor(ids, { dtype = "i64" }))
end

Strings.__call = Strings.forward -- no tensor comes in: there is nothing to build or to record

-- ---- integers --------------------------------------------------------------------------------------------------------

--- Whole numbers as ids: `nn.IntegerLookup{ vocabulary = {12, 36, 1138} }`. adapt(data) learns them of a tensor, a list or a data set. As
--- StringLookup; an unknown number n of several num_oov_indices has the id of its remainder, and decodes to oov_token, -1.
---@class nnlua.IntegerLookup: nnlua.Layer
local Integers = Layer.define("IntegerLookup", options_of("integer", -1), nil, nil, Lookup)
Integers.fields, Integers.tokens = Lookup.fields, "integers"
M.IntegerLookup = Integers

function Integers.token_of(value) return math.type(value) and math.tointeger(value) or nil end

--- Learn the numbers of a tensor, a list, or a data set. Returns self.
function Integers:adapt(data)
  local counts = {}
  if options.is_plain(data) then data = core.tensor(data, { dtype = "i64" }) end
  preparing.batches("IntegerLookup", data, function(x)
    for _, n in ipairs(x:long():reshape(-1):totable()) do counts[n] = (counts[n] or 0) + 1 end
  end)
  return learn_counts(self, counts)
end

--- Ids as a tensor of numbers of their shape.
function Integers:decode(ids)
  return core.tensor(tokens_of(self, ids), { dtype = "i64" })
end

-- The vocabulary (with the mask token) in ascending order, and the ids of that order, as tensors.
local function sorted_of(self)
  if not rawget(self, "sorted") then
    local keys, places = table.move(self.known, 1, #self.known, 1, {}), {}
    if self.mask_token ~= nil then keys[#keys + 1] = self.mask_token end
    table.sort(keys)
    for i, key in ipairs(keys) do places[i] = key == self.mask_token and 1 or self.ids[key] end
    rawset(self, "sorted", { core.tensor(keys, { dtype = "i64" }), core.tensor(places, { dtype = "i64" }) })
  end
  return self.sorted[1], self.sorted[2]
end

-- The ids of unknown numbers.
local function unknown_ids(self, x, known)
  local count = self.num_oov_indices
  if count == 0 then
    if known:logical_not():long():sum():item() > 0 then
      local wrong = core.masked_select(x, known:logical_not())[1]:item()
      options.raise(("%s: %d is not in the vocabulary, and num_oov_indices is 0"):format(self:label(), wrong))
    end
    return 1
  end
  return count == 1 and special(self) or x:mod(count) + (special(self) - count + 1)
end

function Integers:forward(x)
  need_tokens(self)
  x = x:long()
  if self.invert then return self:decode(x) end
  local keys, places = sorted_of(self)
  if keys:numel() == 0 then return encode(self, core.where(x:ge(0), unknown_ids(self, x, x:ne(x)), 0)) end
  local at = core.searchsorted(keys, x):clamp(1, keys:numel())
  local flat = at:reshape(-1)
  local known = keys:take(flat):reshape(x:shape()):eq(x)
  return encode(self, core.where(known, places:take(flat):reshape(x:shape()), unknown_ids(self, x, known)))
end

return M
