--- Layers that prepare data: Normalization, CategoryEncoding, Discretization, Hashing. (Rescaling: core.lua, Resizing: shapes.lua.)
--
-- Owns: what adapt() learns of data. Ids count from 1.
--
--     local nn = require "nnlua"
--     local x = nn.tensor{ {1.0, 10.0}, {3.0, 30.0} }
--     local norm = nn.Normalization{}
--     norm:adapt(x)
--     print(table.concat(norm(x):reshape(-1):totable(), " "))                        --> -1.0 -1.0 1.0 1.0
--     print(nn.Discretization{ {0, 1} }(nn.tensor{-5.0, 0.0, 0.5, 7.0}):totable()[4]) --> 3

local core = require "nnlua.core"
local options = require "nnlua.options"
local real = require("nnlua.functional.shapes").real
local Layer = require "nnlua.layer"

local M = {}

--- Calls f(x) for the batches of data: a tensor is one, a data set gives the first of what each batch holds.
local function batches(owner, data, f)
  if core.is_tensor(data) then return f(data) end
  if type(data) == "table" and data.iter then
    for x in data:iter() do f(x) end
    return
  end
  options.raise(("%s: adapt takes a tensor or a data set, got %s"):format(owner, options.shown(data)))
end

M.batches = batches -- for lookup.lua

-- ---- Normalization ---------------------------------------------------------------------------------------------------

--- `(x - mean) / sqrt(variance)`, with the mean and variance of each place along `axis` (the last dim; false: one for all), which adapt(data)
--- measures or the options give. invert = true is the way back.
---@class nnlua.Normalization: nnlua.Layer
---@overload fun(options: { axis?: any, mean?: number|number[], variance?: number|number[], invert?: boolean }): nnlua.Normalization
local Normalization = Layer.define("Normalization", {
  axis = { "integer|table|boolean", position = 1, default = -1 }, mean = { "number|table" }, variance = { "number|table" },
  invert = { "boolean", default = false },
})
Normalization.fields = { mean = "given_mean", variance = "given_variance" }
M.Normalization, Normalization.keeps_mask = Normalization, true

function Normalization:checked()
  if (self.given_mean == nil) ~= (self.given_variance == nil) then
    options.raise "Normalization: give both mean and variance, or none and call adapt()"
  end
end

-- Learnt values are weights with the shape of what is kept, and the number of values that they were learnt from (Keras's order); given ones are none.
function Normalization:build(shape)
  local spread, sizes, count, kept, over = { 1 }, {}, 1, {}, { 1 }
  local axes = self.axis and (type(self.axis) == "table" and self.axis or { self.axis }) or {}
  for _, axis in ipairs(axes) do kept[self:dim_of(axis, shape)] = true end
  for i, n in ipairs(shape) do
    spread[i + 1] = kept[i + 1] and n or 1
    if kept[i + 1] then sizes[#sizes + 1], count = n, count * n else over[#over + 1] = i + 1 end
  end
  rawset(self, "over", over)
  rawset(self, "spread", spread)
  local function given(value)
    local list = type(value) == "table" and value or { value }
    if #list ~= 1 and #list ~= count then self:refuse(("%d means for %d places along the axis"):format(#list, count), shape) end
    local t = core.tensor(list, { dtype = "f32" })
    return #list == count and t:reshape(spread) or t:expand { count }:reshape(spread)
  end
  if self.given_mean then
    rawset(self, "given_tensors", { given(self.given_mean), given(self.given_variance) })
    return
  end
  self.mean, self.variance = Layer.buffer(core.zeros(sizes)), Layer.buffer(core.ones(sizes))
  self.count = Layer.buffer(core.zeros({}, "i64"))
end

-- Mean and variance, with the dims of a batch.
function Normalization:moments(x)
  if self.given_mean then return self.given_tensors[1]:to(x:device()), self.given_tensors[2]:to(x:device()) end
  return self.mean:reshape(self.spread), self.variance:reshape(self.spread)
end

--- Measure mean and variance of all of `data`, a tensor (with the batch first) or a data set. Returns self.
function Normalization:adapt(data)
  if self.given_mean then options.raise "Normalization: adapt: mean and variance are given" end
  local count, mean, m2 = 0, nil, nil
  batches("Normalization", data, function(x)
    if not self.built then self:build_from(x) end
    x = x:to(x:device() == "cpu" and "f64" or "f32") -- sums of centred squares: f32 will do where there is no f64
    local m = x:mean(self.over, true)
    local n, spread = x:numel() // m:numel(), (x - m):square():sum(self.over, true)
    if not mean then
      count, mean, m2 = n, m, spread
    else -- two samples as one (Chan et al.)
      local gap, all = m - mean, count + n
      mean, m2, count = mean + gap * (n / all), m2 + spread + gap:square() * (count * n / all), all
    end
    core.eval()
  end)
  if count == 0 then options.raise "Normalization: adapt got no data" end
  self.mean:assign(mean:float():reshape(self.mean:shape()))
  self.variance:assign((m2 / count):float():reshape(self.variance:shape()))
  self.count:assign(core.tensor(count, { dtype = "i64" }))
  core.eval()
  return self
end

function Normalization:forward(x)
  x = real(x)
  local mean, variance = self:moments(x)
  local deviation = core.maximum(core.sqrt(variance), 1e-7)
  if self.invert then return x * deviation + mean end
  return (x - mean) / deviation
end

function Normalization:detail() return self.invert and "inverted" or "" end

-- ---- ids -------------------------------------------------------------------------------------------------------------

local modes = { "one_hot", "multi_hot", "count" }

-- Shape of ids of samples of `shape` as rows of `classes`.
local function encoded_shape(shape, classes, mode)
  local out = table.move(shape, 1, #shape, 1, {})
  if mode == "int" then return out end
  if mode ~= "one_hot" or out[#out] == 1 then out[#out] = nil end
  out[#out + 1] = classes
  return out
end

-- Ids (N, ...) as rows: one_hot has a row per id; multi_hot and count have one for all ids of the last dim.
local function encode(ids, classes, mode, weights)
  if mode == "int" then return ids end
  if ids:dim() == 1 then ids = ids:unsqueeze(-1) end
  local rows = core.one_hot(ids, classes)
  if mode == "one_hot" then return ids:size(-1) == 1 and rows:squeeze(-2) or rows end
  if mode == "multi_hot" then return rows:amax(-2) end
  return (weights and rows * weights:reshape(ids:shape()):unsqueeze(-1) or rows):sum(-2)
end

M.encode, M.encoded_shape = encode, encoded_shape -- for lookup.lua

--- Ids 1 to num_tokens as rows: which of them a sample has ("multi_hot", the default), how often ("count", with weights as second argument), or a row
--- per id ("one_hot"): `nn.CategoryEncoding{4, output_mode = "one_hot"}`.
---@class nnlua.CategoryEncoding: nnlua.Layer
---@overload fun(options: { [1]: integer, output_mode?: string, name?: string }): nnlua.CategoryEncoding
local CategoryEncoding = Layer.define("CategoryEncoding", {
  num_tokens = { "integer", position = 1, required = true, min = 1 }, output_mode = { "string", default = "multi_hot", choices = modes },
})
M.CategoryEncoding = CategoryEncoding

function CategoryEncoding:output_shape(shape) return encoded_shape(shape, self.num_tokens, self.output_mode) end

function CategoryEncoding:forward(ids, count_weights)
  if count_weights and self.output_mode ~= "count" then options.raise 'CategoryEncoding: count_weights need output_mode = "count"' end
  return encode(ids:long(), self.num_tokens, self.output_mode, count_weights)
end

function CategoryEncoding:detail() return ("%d, %s"):format(self.num_tokens, self.output_mode) end

local with_int = { "int", "one_hot", "multi_hot", "count" }

--- Which of the ranges between `bin_boundaries` a number is in, from 1; a boundary belongs to the range above it. With num_bins instead,
--- adapt(data) finds boundaries that give all ranges as many numbers.
---@class nnlua.Discretization: nnlua.Layer
---@overload fun(options: { [1]?: number[], num_bins?: integer, output_mode?: string, name?: string }): nnlua.Discretization
local Discretization = Layer.define("Discretization", {
  bin_boundaries = { "table", position = 1 }, num_bins = { "integer", min = 2 }, output_mode = { "string", default = "int", choices = with_int },
})
M.Discretization = Discretization

function Discretization:checked()
  local list = self.bin_boundaries
  if (list == nil) == (self.num_bins == nil) then options.raise "Discretization: give either bin_boundaries or num_bins" end
  for i, v in ipairs(list or {}) do
    if type(v) ~= "number" or i > 1 and v <= list[i - 1] then options.raise "Discretization: bin_boundaries must be numbers that grow" end
  end
end

function Discretization:bins() return self.num_bins or #self.bin_boundaries + 1 end

function Discretization:output_shape(shape) return encoded_shape(shape, self:bins(), self.output_mode) end

-- Boundaries that are given are no weight.
function Discretization:build()
  local list = self.bin_boundaries
  if list then rawset(self, "boundaries", core.tensor(list, { dtype = "f32" }))
  else self.boundaries = Layer.buffer(core.zeros(self.num_bins - 1)) end
end

--- Find the boundaries of num_bins ranges: quantiles of all of `data`, a tensor or a data set, which are held at once. Returns self.
function Discretization:adapt(data)
  if not self.num_bins then options.raise "Discretization: adapt needs num_bins; bin_boundaries are given" end
  local parts = {}
  batches("Discretization", data, function(x)
    if not self.built then self:build_from(x) end
    parts[#parts + 1] = real(x):reshape(-1)
  end)
  if #parts == 0 then options.raise "Discretization: adapt got no data" end
  local all, at = #parts > 1 and core.cat(parts, 1) or parts[1], {}
  for i = 1, self.num_bins - 1 do at[i] = i / self.num_bins end
  local found = {}
  for i, q in ipairs(at) do found[i] = all:quantile(q):item() end
  self.boundaries:assign(core.tensor(found, { dtype = "f32" }))
  core.eval()
  return self
end

function Discretization:forward(x)
  return encode(core.searchsorted(self.boundaries:to(x:device()), real(x), true), self:bins(), self.output_mode)
end

function Discretization:detail() return ("%d bins, %s"):format(self:bins(), self.output_mode) end

--- Whole numbers as ids 1 to num_bins, by a hash that is the same everywhere (not Keras's); mask_value becomes id 1, which no other number gets then.
---@class nnlua.Hashing: nnlua.Layer
---@overload fun(options: { [1]: integer, mask_value?: integer, salt?: integer, output_mode?: string, name?: string }): nnlua.Hashing
local Hashing = Layer.define("Hashing", {
  num_bins = { "integer", position = 1, required = true, min = 2 }, mask_value = { "integer" }, salt = { "integer", default = 0 },
  output_mode = { "string", default = "int", choices = with_int },
})
M.Hashing = Hashing

function Hashing:output_shape(shape) return encoded_shape(shape, self.num_bins, self.output_mode) end

-- A 64-bit number as a tensor: as an operator's number it would be a double.
local function whole(n) return core.tensor({ n }, { dtype = "i64" }) end

-- x ^ (x >>> places)
local function folded(x, places) return x:bitwise_xor(x:bitwise_right_shift(places):bitwise_and(whole((1 << (64 - places)) - 1))) end

function Hashing:forward(x)
  local ids = x:long()
  local h = ids + whole((self.salt + 1) * 0x9E3779B97F4A7C15) -- splitmix64
  h = folded(h, 30) * whole(0xBF58476D1CE4E5B9)
  h = folded(folded(h, 27) * whole(0x94D049BB133111EB), 31):bitwise_and(whole(math.maxinteger))
  if self.mask_value then
    h = core.where(ids:eq(self.mask_value), 1, h:mod(self.num_bins - 1) + 2)
  else
    h = h:mod(self.num_bins) + 1
  end
  return encode(h, self.num_bins, self.output_mode)
end

function Hashing:detail() return ("%d"):format(self.num_bins) end

return M
