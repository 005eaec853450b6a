-- data/dataset.lua - the Dataset class: the oldest verbs, passes, state, printing. Sources make one with
-- Dataset(handle); more verbs are in data/verbs.lua.

local class = require "nnlua.class"
local options = require "nnlua.options"
local pipeline = require("nnlua.core").pipeline

---@class nnlua.Dataset
---@field labels? nnlua.LabelEncoder  what its class ids stand for; handed on by every verb
local Dataset = class "Dataset"

-- `handle` is the runtime's data set; `from` the one that it stands on, whose labels and name go on.
function Dataset:init(handle, from)
  self.handle = handle
  self.passes = setmetatable({}, { __mode = "v" }) -- [1]: the pass that was opened last, as long as somebody uses it
  if from then
    self.labels, self.name, self.batched, self.from = from.labels, from.name, from.batched, from
  end
end

-- Options of a verb: f(n, {key = ...}) and f{n, key = ...} are the same.
function Dataset.given(first, rest)
  if type(first) == "table" then return first end
  local all = { first }
  for key, value in pairs(rest or {}) do all[key] = value end
  return all
end

-- Elements that are made one by one of numbered rows, by make(rows), a data set: verbs that only pick elements pick rows then, so that they make
-- and hold nothing that is not asked for.
function Dataset.made(rows, make)
  local ds = make(rows)
  ds.numbered = { rows = rows, make = make }
  return ds
end

-- What a verb that only picks elements, verb(handle, ...), makes of self.
function Dataset:picked(verb, ...)
  local from = self.numbered
  if not from then return Dataset(verb(self.handle, ...), self) end
  local ds = Dataset.made(from.rows:picked(verb, ...), from.make)
  ds.labels, ds.name = self.labels, self.name
  return ds
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
  local o = options.check("shuffle", Dataset.given(buffer, opts), shuffle_spec)
  return self:picked(pipeline.shuffle, o.buffer, o.seed, o.reshuffle)
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
  local o = options.check("batch", Dataset.given(size, opts), batch_spec)
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
  return self:picked(pipeline.repeated, options.check("repeated", n, repeated_spec).n or -1)
end

--- The first `n` elements.
---@param n integer
---@return nnlua.Dataset
function Dataset:take(n) return self:picked(pipeline.take, options.check("take", n, take_spec).n) end

--- All but the first `n` elements.
---@param n integer
---@return nnlua.Dataset
function Dataset:skip(n) return self:picked(pipeline.skip, options.check("skip", n, take_spec).n) end

--- Make up to `n` elements (2) ahead on a thread of its own, while the one before is used. Where elements are so small that this thread would cost
--- more than it gains (rows of an array, up to 256 KB), the threads of `nn.threads` make one ahead while they have nothing else to do. What a Lua
--- function makes (map) cannot be made ahead; then this does nothing.
---@param n? integer
---@return nnlua.Dataset
function Dataset:prefetch(n) return Dataset(pipeline.prefetch(self.handle, options.check("prefetch", n, prefetch_spec).n), self) end

--- Number of elements of a pass: math.huge when it never ends, nil when it is not known.
---@return number?
function Dataset:cardinality() return pipeline.cardinality(self.handle) end

--- What an element is: a list of {dtype = "u8", shape = {28, 28, 1}}, -1 for a size that varies; nil when that is not known before it runs
--- (after a Lua function).
---@return table[]?
function Dataset:element_spec()
  local spec = pipeline.components(self.handle)
  for i, c in ipairs(spec or {}) do spec[i] = { dtype = c[1], shape = c[2] } end
  return spec
end

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

return Dataset
