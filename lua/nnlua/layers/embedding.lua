--- Ids and places as vectors: Embedding, Masking, SinePositionEncoding, PositionEmbedding, TokenAndPositionEmbedding, RotaryEmbedding.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{4}, nn.Embedding{10, 6, mask_zero = true}, nn.SinePositionEncoding{ add = true }, nn.LSTM{3} }
--     print(model(nn.tensor({ {5, 2, 1, 1} }, { dtype = "i64" })):size())   --> 1  3

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local real = require("nnlua.functional.shapes").real

local M = {}

local function as_ids(x)
  local dtype = x:dtype()
  return (dtype == "i64" or dtype == "i32") and x or x:long()
end

local function with_size(shape, n) return table.move({ n }, 1, 1, #shape + 1, table.move(shape, 1, #shape, 1, {})) end

-- ---- Embedding -------------------------------------------------------------------------------------------------------

--- Rows of a trained table (input_dim, output_dim) for ids 1..input_dim: `nn.Embedding{10000, 64}`. mask_zero: the first id stands for padding
--- (1 here; it is Keras's 0), and the result carries a mask that says so.
---@class nnlua.Embedding: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, mask_zero?: boolean, init?: any, name?: string }): nnlua.Embedding
local Embedding = Layer.define("Embedding", {
  input_dim = { "integer", position = 1, required = true, min = 1 }, output_dim = { "integer", position = 2, required = true, min = 1 },
  embeddings_initializer = { "string|table|function", default = "uniform" },
  embeddings_regularizer = { "string|table|function" }, embeddings_constraint = { "string|table|function" },
  mask_zero = { "boolean", default = false },
}, { init = "embeddings_initializer", regularizer = "embeddings_regularizer", constraint = "embeddings_constraint" })
M.Embedding = Embedding

function Embedding:output_shape(shape) return with_size(shape, self.output_dim) end

function Embedding:build()
  self.embeddings = self:weight({ self.input_dim, self.output_dim }, self.embeddings_initializer, self.embeddings_regularizer,
    self.embeddings_constraint)
end

function Embedding:forward(x)
  local ids = as_ids(x)
  local y = core.embedding(ids, self.embeddings)
  return self.mask_zero and masks.set(y, ids:ne(1)) or y
end

function Embedding:detail() return ("%d -> %d%s"):format(self.input_dim, self.output_dim, self.mask_zero and ", mask_zero" or "") end

-- ---- Masking ---------------------------------------------------------------------------------------------------------

--- Leaves out steps of sequences (N, T, C) all of whose features are `mask_value` (0): they become 0, and the result carries a mask.
---@class nnlua.Masking: nnlua.Layer
---@overload fun(options: { [1]?: number, name?: string }): nnlua.Masking
local Masking = Layer.define("Masking", { mask_value = { "number", position = 1, default = 0 } })
M.Masking = Masking

function Masking:output_shape(shape)
  if #shape < 2 then self:refuse("needs sequences (N, T, C)", shape) end
  return shape
end

function Masking:forward(x)
  local keep = x:ne(self.mask_value):any(-1, true)
  local y, mask = core.where(keep, x, 0), keep:squeeze(-1)
  return masks.set(y, mask)
end

function Masking:detail() return ("%g"):format(self.mask_value) end

-- ---- places ----------------------------------------------------------------------------------------------------------

local function sequences(layer, shape)
  if #shape ~= 2 then layer:refuse("needs sequences (N, T, C)", shape) end
  return shape
end

-- The encoding of the places alone, in x's shape, or x + it.
local function placed(layer, x, encoding) return layer.add and x + encoding or encoding:expand(x:shape()) end

--- Sines and cosines of the place, with wavelengths from 2 pi to max_wavelength * 2 pi (Vaswani et al.): gives the encoding in the shape of its
--- input (N, T, C), as KerasHub's layer does; `add = true` gives the sum of both. A call may name the place of the first step:
--- `layer(x, { start_index = 5 })` (from 0).
---@class nnlua.SinePositionEncoding: nnlua.Layer
---@overload fun(options: { max_wavelength?: number, add?: boolean, name?: string }): nnlua.SinePositionEncoding
local Sine = Layer.define("SinePositionEncoding", {
  max_wavelength = { "number", default = 10000, above = 0 }, add = { "boolean", default = false } })
M.SinePositionEncoding, Sine.keeps_mask = Sine, true

Sine.output_shape = sequences

local start_spec = { start_index = { "integer", default = 0, min = 0 } }
local function start_of(layer, given)
  return given and options.check(rawget(layer, "name") or getmetatable(layer).__name, given, start_spec).start_index or 0
end

function Sine:forward(x, given)
  local steps, size, from = x:size(2), x:size(3), start_of(self, given)
  local rate, shift = {}, {}
  for i = 0, size - 1 do
    rate[i + 1] = self.max_wavelength ^ (-2 * (i // 2) / size)
    shift[i + 1] = i % 2 * math.pi / 2 -- cos(a) = sin(a + pi / 2)
  end
  local o = { dtype = x:dtype() }
  local angle = core.arange(from, from + steps, 1, x:dtype()):reshape(steps, 1) * core.tensor(rate, o) + core.tensor(shift, o)
  return placed(self, x, angle:sin())
end

function Sine:detail() return self.add and "add" or "" end

--- A trained vector for each of `sequence_length` places; the result is as that of SinePositionEncoding.
---@class nnlua.PositionEmbedding: nnlua.Layer
---@overload fun(options: { [1]: integer, initializer?: any, add?: boolean, name?: string }): nnlua.PositionEmbedding
local Position = Layer.define("PositionEmbedding", {
  sequence_length = { "integer", position = 1, required = true, min = 1 },
  initializer = { "string|table|function", default = "glorot_uniform" }, add = { "boolean", default = false } }, { init = "initializer" })
M.PositionEmbedding, Position.keeps_mask = Position, true

function Position:output_shape(shape)
  sequences(self, shape)
  if shape[1] > self.sequence_length then self:refuse(("has places for %d steps"):format(self.sequence_length), shape) end
  return shape
end

function Position:build(shape) self.position_embeddings = self:weight({ self.sequence_length, shape[2] }, self.initializer) end

function Position:forward(x, given)
  local from, steps = start_of(self, given), x:size(2)
  if from + steps > self.sequence_length then
    self:refuse(("has places for %d steps%s"):format(self.sequence_length, from > 0 and (", and begins at %d"):format(from) or ""),
      { steps, x:size(3) })
  end
  return placed(self, x, self.position_embeddings:narrow(1, from + 1, steps))
end

function Position:detail() return ("%d%s"):format(self.sequence_length, self.add and ", add" or "") end

--- Embedding of ids plus that of their places: `nn.TokenAndPositionEmbedding{ vocabulary_size, sequence_length, embedding_dim }`.
---@class nnlua.TokenAndPositionEmbedding: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, [3]: integer, mask_zero?: boolean, name?: string }): nnlua.TokenAndPositionEmbedding
local Tokens = Layer.define("TokenAndPositionEmbedding", {
  vocabulary_size = { "integer", position = 1, required = true, min = 1 }, sequence_length = { "integer", position = 2, required = true, min = 1 },
  embedding_dim = { "integer", position = 3, required = true, min = 1 },
  embeddings_initializer = { "string|table|function", default = "uniform" }, mask_zero = { "boolean", default = false },
}, { init = "embeddings_initializer" })
M.TokenAndPositionEmbedding = Tokens

function Tokens:checked()
  self.token_embedding = Embedding { self.vocabulary_size, self.embedding_dim, embeddings_initializer = self.embeddings_initializer,
    mask_zero = self.mask_zero, trainable = self.trainable }
  self.position_embedding = Position { self.sequence_length, initializer = self.embeddings_initializer, add = true, trainable = self.trainable }
end

function Tokens:output_shape(shape)
  if #shape ~= 1 then self:refuse("needs ids (N, T)", shape) end
  return self.position_embedding:output_shape { shape[1], self.embedding_dim }
end

function Tokens:build(shape)
  self.token_embedding:build_once(shape)
  self.position_embedding:build_once { shape[1], self.embedding_dim }
end

function Tokens:forward(x, given)
  local y = self.token_embedding(x)
  return self.position_embedding(y, given)
end

function Tokens:__tostring()
  return ("TokenAndPositionEmbedding(%d x %d -> %d)"):format(self.vocabulary_size, self.sequence_length, self.embedding_dim)
end

--- Rotates pairs of features (i and i + C / 2) by angles that grow with the place (Su et al.), for queries and keys of attention: x
--- (N, T, ..., C), steps along `sequence_axis` (from 1, the batch; 2 by default).
---@class nnlua.RotaryEmbedding: nnlua.Layer
---@overload fun(options: { max_wavelength?: number, scaling_factor?: number, sequence_axis?: integer, name?: string }): nnlua.RotaryEmbedding
local Rotary = Layer.define("RotaryEmbedding", {
  max_wavelength = { "number", default = 10000, above = 0 }, scaling_factor = { "number", default = 1, above = 0 },
  sequence_axis = { "integer", default = 2, min = 2 } })
M.RotaryEmbedding, Rotary.keeps_mask = Rotary, true

function Rotary:output_shape(shape)
  if #shape < self.sequence_axis or shape[#shape] % 2 ~= 0 then
    self:refuse(("needs an even number of features behind the steps (dim %d)"):format(self.sequence_axis), shape)
  end
  return shape
end

function Rotary:forward(x, given)
  x = real(x)
  local size, axis, from = x:size(-1), self.sequence_axis, start_of(self, given)
  local half, steps, rate = size // 2, x:size(axis), {}
  for i = 0, half - 1 do rate[i + 1] = self.max_wavelength ^ (-2 * i / size) end
  local places = core.arange(from, from + steps, 1, x:dtype()) / self.scaling_factor
  local shape = {}
  for i = 1, x:dim() do shape[i] = i == axis and steps or i == x:dim() and half or 1 end
  local angle = (places:reshape(steps, 1) * core.tensor(rate, { dtype = x:dtype() })):reshape(shape)
  local a, b = x:narrow(-1, 1, half), x:narrow(-1, half + 1, half)
  local cos, sin = angle:cos(), angle:sin()
  return core.cat({ a * cos - b * sin, b * cos + a * sin }, -1)
end

return M
