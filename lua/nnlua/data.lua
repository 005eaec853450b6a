--- Data sets: `nn.data`. Lazy pipelines with tf.data's verbs and meanings.
--
-- Owns: how pipelines are written in Lua. The work (order, gathering batches, reading ahead) is done by the runtime.
--
--     local nn = require "nnlua"
--     local ds = nn.data.range(6):shuffle(6, {seed = 1}):batch(4)
--     print(ds)                              --> Dataset<i64 4> 2 batches
--     local n = 0
--     for x in ds:iter() do n = n + #x end
--     print(n)                               --> 6
--
-- A verb returns a new data set and changes nothing. Each pass over a shuffle has its own order, which depends on its seed and on how many passes
-- were begun, and on nothing else. Leaving a loop early closes the pass and its threads.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local pipeline = core.pipeline
local data = {}

-- ---- labels ----------------------------------------------------------------------------------------------------------

---@class nnlua.LabelEncoder
--- Class ids 1..n and the raw values that they stand for: `LabelEncoder{ values = {0, 1, 2} }:decode(1)` is 0.
local LabelEncoder = class "LabelEncoder"
data.LabelEncoder = LabelEncoder

local encoder_spec = { values = { "table", position = 1, required = true } }

function LabelEncoder:init(given)
  local values = options.check("LabelEncoder", given, encoder_spec).values
  self.values, self.ids = {}, {}
  for i, value in ipairs(values) do
    if self.ids[value] then options.raise(("LabelEncoder: the value %s comes twice"):format(options.shown(value))) end
    self.values[i], self.ids[value] = value, i
  end
end

--- The encoder of the values that occur in a list or a tensor, in ascending order (numbers before strings).
---@param list any[]
---@return nnlua.LabelEncoder
function LabelEncoder.fit(list)
  if type(list) == "userdata" then list = list:totable() end
  local seen, values = {}, {}
  for _, value in ipairs(list) do
    if not seen[value] then
      seen[value] = true
      values[#values + 1] = value
    end
  end
  table.sort(values, function(a, b)
    if type(a) ~= type(b) then return type(a) < type(b) end
    return a < b
  end)
  return LabelEncoder { values = values }
end

local function each(value, f)
  if type(value) == "userdata" then value = value:totable() end
  if type(value) ~= "table" then return f(value) end
  local out = {}
  for i, v in ipairs(value) do out[i] = each(v, f) end
  return out
end

--- The class id of a raw value; of a list or tensor, a list of ids.
function LabelEncoder:encode(value)
  return each(value, function(v)
    return self.ids[v] or options.raise(("LabelEncoder: %s is none of its %d values"):format(options.shown(v), #self.values))
  end)
end

--- The raw value of a class id; of a list or tensor, a list of values.
function LabelEncoder:decode(id)
  return each(id, function(i)
    local value = self.values[i]
    if value == nil then options.raise(("LabelEncoder: class id %s is not in 1..%d"):format(options.shown(i), #self.values)) end
    return value
  end)
end

function LabelEncoder:__len() return #self.values end

function LabelEncoder:__tostring()
  local words = {}
  for i = 1, math.min(#self.values, 10) do words[i] = tostring(self.values[i]) end
  return ("LabelEncoder(%s%s)"):format(table.concat(words, " "), #self.values > 10 and " ..." or "")
end

-- ---- data sets -------------------------------------------------------------------------------------------------------

---@class nnlua.Dataset
---@field labels? nnlua.LabelEncoder  what its class ids stand for; handed on by every verb
local Dataset = class "Dataset"
data.Dataset = Dataset

-- `handle` is the runtime's data set; `from` an object whose labels and name go on.
function Dataset:init(handle, from)
  self.handle = handle
  self.passes = setmetatable({}, { __mode = "v" }) -- [1]: the pass that was opened last, as long as somebody uses it
  if from then
    self.labels, self.name, self.batched = from.labels, from.name, from.batched
  end
end

-- Options of a verb: f(n, {key = ...}) and f{n, key = ...} are the same.
local function given(first, rest)
  if type(first) == "table" then return first end
  local all = { first }
  for key, value in pairs(rest or {}) do all[key] = value end
  return all
end

local shuffle_spec = {
  buffer = { "integer", position = 1, required = true, min = 1 },
  seed = { "integer" },
  reshuffle = { "boolean", default = true },
}

--- Elements in random order: a buffer of `buffer` elements is kept and a random one of them comes next, so a buffer as large as the data set
--- gives every order the same chance. Options: seed (by default from nn.seed's stream), reshuffle (another order each pass, the default).
---@param buffer integer|table
---@param opts? table
---@return nnlua.Dataset
function Dataset:shuffle(buffer, opts)
  local o = options.check("shuffle", given(buffer, opts), shuffle_spec)
  return Dataset(pipeline.shuffle(self.handle, o.buffer, o.seed, o.reshuffle), self)
end

local batch_spec = {
  size = { "integer", position = 1, required = true, min = 1 },
  drop_last = { "boolean", default = false },
}

--- Batches of `size` elements, joined along a new first dim. Option drop_last: leave out a last batch that is not full.
---@param size integer|table
---@param opts? table
---@return nnlua.Dataset
function Dataset:batch(size, opts)
  local o = options.check("batch", given(size, opts), batch_spec)
  local ds = Dataset(pipeline.batch(self.handle, o.size, o.drop_last), self)
  ds.batched = true
  return ds
end

local function count_spec(rule) return { n = rule } end
local repeated_spec = count_spec { "integer", position = 1, min = 0 }
local take_spec = count_spec { "integer", position = 1, required = true, min = 0 }
local prefetch_spec = count_spec { "integer", position = 1, default = 2, min = 1 }

--- The data set `n` times over, without n for ever. (`repeat` is a keyword of Lua.)
---@param n? integer
---@return nnlua.Dataset
function Dataset:repeated(n)
  return Dataset(pipeline.repeated(self.handle, options.check("repeated", n, repeated_spec).n or -1), self)
end

--- The first `n` elements.
---@param n integer
---@return nnlua.Dataset
function Dataset:take(n) return Dataset(pipeline.take(self.handle, options.check("take", n, take_spec).n), self) end

--- All but the first `n` elements.
---@param n integer
---@return nnlua.Dataset
function Dataset:skip(n) return Dataset(pipeline.skip(self.handle, options.check("skip", n, take_spec).n), self) end

--- Make up to `n` elements (2) ahead on a thread of its own, while the one before is used. What a Lua function makes (map) cannot be made
--- ahead; then, and where elements are so small that a thread would cost more than it gains, this does nothing.
---@param n? integer
---@return nnlua.Dataset
function Dataset:prefetch(n) return Dataset(pipeline.prefetch(self.handle, options.check("prefetch", n, prefetch_spec).n), self) end

--- `fn(x, y, ...)` of each element; it returns the tensors (or numbers) of the new one.
---@param fn function
---@return nnlua.Dataset
function Dataset:map(fn)
  if type(fn) ~= "function" then options.raise("map: needs a function, got " .. options.shown(fn)) end
  return Dataset(pipeline.map(self.handle, fn), self)
end

--- Number of elements of a pass: math.huge when it never ends, nil when it is not known.
---@return number?
function Dataset:cardinality() return pipeline.cardinality(self.handle) end

function Dataset:__len()
  return self:cardinality() or options.raise "the number of elements of this data set is not known"
end

function Dataset:__tostring()
  local n, unit = self:cardinality(), self.batched and "batch" or "element"
  local plural = unit == "batch" and "batches" or "elements"
  local count = n and n < math.huge and ("%d %s"):format(n, n == 1 and unit or plural) or (n and "endless " or "unknown number of ") .. plural
  return ("Dataset<%s> %s"):format(pipeline.spec(self.handle), count)
end

--- One pass: `for x, y in ds:iter() do ... end`. The first value can also be called by hand for the next element, and has a `close` method.
---@return function
function Dataset:iter()
  local pass = self.resumed or pipeline.open(self.handle)
  self.resumed = nil
  self.passes[1] = pass
  return pass, nil, nil, pass
end

--- Where the data set stands, as a small table of plain values: in the middle of the pass that was opened last, or between two passes.
--- Between two passes it holds what the next ones need: seeds, and how many passes there have been.
---@return table
function Dataset:state()
  return { format = 1, pipeline = pipeline.describe(self.handle), words = pipeline.state(self.handle, self.resumed or self.passes[1]) }
end

--- Go on from a state of an equal pipeline: the next `iter` continues its pass, with no element repeated or lost. Returns self.
---@param state table
---@return nnlua.Dataset
function Dataset:restore(state)
  if type(state) ~= "table" or state.format ~= 1 or type(state.words) ~= "table" then
    options.raise("restore: needs what ds:state() gave, got " .. options.shown(state))
  end
  local own = pipeline.describe(self.handle)
  if state.pipeline ~= own then
    options.raise(("restore: the state is of another data set: %s; this one is %s"):format(tostring(state.pipeline), own))
  end
  self.resumed = pipeline.restore(self.handle, state.words)
  self.passes[1] = nil
  return self
end

-- ---- sources ---------------------------------------------------------------------------------------------------------

--- A data set whose element i is row i of each tensor: `nn.data.from_tensors{ x, y }`. Nothing is copied.
---@return nnlua.Dataset
function data.from_tensors(first, ...)
  local list = type(first) == "table" and first or { first, ... }
  for key in pairs(list) do
    if math.type(key) ~= "integer" then
      options.raise(("from_tensors: unknown option %s; it takes tensors only"):format(options.shown(key)))
    end
  end
  for i, t in ipairs(list) do
    if type(t) ~= "userdata" then options.raise(("from_tensors: value %d must be a tensor, got %s"):format(i, options.shown(t))) end
  end
  return Dataset(pipeline.tensors(table.unpack(list)))
end

-- The values of one column as a tensor with a row for each.
local function column(values)
  local integers = true
  for i, v in ipairs(values) do
    local t = type(v)
    if t ~= "number" then
      if t == "table" then v = core.tensor(v) end
      if type(v) ~= "userdata" then
        options.raise(("from_table: element %d holds %s; it takes numbers, tensors and tables of numbers"):format(i, options.shown(v)))
      end
      values[i], integers = v, nil
    elseif integers == nil then
      options.raise(("from_table: element %d is a number, the first is a tensor"):format(i))
    elseif math.type(v) ~= "integer" then
      integers = false
    end
  end
  if integers == nil then return core.stack(values, 1) end
  return core.tensor(values, { dtype = integers and "i64" or "f32" })
end

--- A data set of the elements of a list: numbers or tensors, or tables of several of these:
--- `nn.data.from_table{ {x1, 1}, {x2, 2} }` has elements of two tensors. Whole numbers become i64, others f32.
---@param list table
---@return nnlua.Dataset
function data.from_table(list)
  if type(list) ~= "table" or #list == 0 then options.raise("from_table: needs a list that is not empty, got " .. options.shown(list)) end
  local width = type(list[1]) == "table" and #list[1] or nil
  local columns = {}
  for c = 1, width or 1 do columns[c] = {} end
  for i, element in ipairs(list) do
    local parts = type(element) == "table" and element or { element }
    if (type(element) == "table") ~= (width ~= nil) or #parts ~= #columns then
      options.raise(("from_table: element %d has %d values, the first has %d"):format(i, #parts, #columns))
    end
    for c = 1, #columns do columns[c][i] = parts[c] end
  end
  for c = 1, #columns do columns[c] = column(columns[c]) end
  return data.from_tensors(columns)
end

--- Whole numbers as i64 scalars: `range(n)` is 1 to n, `range(first, last[, step])` as in a numeric for.
---@param first integer
---@param last? integer
---@param step? integer
---@return nnlua.Dataset
function data.range(first, last, step)
  if last == nil then first, last = 1, first end
  step = step or 1
  for i, v in ipairs { first, last, step } do
    if math.type(v) ~= "integer" then options.raise(("range: value %d must be an integer, got %s"):format(i, options.shown(v))) end
  end
  if step == 0 then options.raise "range: the step is 0" end
  return Dataset(pipeline.range(first, step, math.max(0, (last - first) // step + 1)))
end

return data
