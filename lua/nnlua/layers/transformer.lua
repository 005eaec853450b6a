--- Transformer blocks: TransformerEncoder, TransformerDecoder, with KerasHub's names and defaults.
--
-- A block is attention and two Dense layers, each with a residual connection, dropout and layer norm: behind it (Vaswani et al.), or, with
-- `normalize_first`, before it.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{6}, nn.TokenAndPositionEmbedding{20, 6, 16},
--       nn.TransformerDecoder{ 32, 2, normalize_first = true }, nn.LayerNorm{}, nn.Dense{20} }
--     print(model(nn.tensor({ {1, 2, 3, 4, 5, 6} }, { dtype = "i64" })):size())   --> 1 6 20

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local MultiHeadAttention = require("nnlua.layers.attention").MultiHeadAttention
local Dense = require("nnlua.layers.core").Dense
local LayerNorm = require("nnlua.layers.norm").LayerNorm

local M = {}

local function block_options()
  return {
    intermediate_dim = { "integer", position = 1, required = true, min = 1 }, num_heads = { "integer", position = 2, required = true, min = 1 },
    dropout = { "number", default = 0, min = 0, below = 1 }, activation = { "string|function", default = "relu" },
    layer_norm_epsilon = { "number", default = 1e-5, above = 0 }, kernel_initializer = { "string|table|function", default = "glorot_uniform" },
    bias_initializer = { "string|table|function", default = "zeros" }, normalize_first = { "boolean", default = false },
  }
end

local function owner(self) return rawget(self, "name") or getmetatable(self).__name end

local function output_shape(self, shape)
  if #shape ~= 2 then self:refuse("needs sequences (N, T, C)", shape) end
  if shape[2] % self.num_heads ~= 0 then self:refuse(("%d heads need a multiple of that many features"):format(self.num_heads), shape) end
  return shape
end

-- A layer inside the block, built for sequences of `shape`.
local function part(self, key, layer, ...)
  layer:build_once(...)
  self[key] = layer
end

local function attention(self, size)
  return MultiHeadAttention { self.num_heads, size // self.num_heads, dropout = self.dropout, trainable = self.trainable,
    kernel_initializer = self.kernel_initializer, bias_initializer = self.bias_initializer }
end

local function norm(self) return LayerNorm { epsilon = self.layer_norm_epsilon, trainable = self.trainable } end

local function build_feedforward(self, shape)
  local function dense(units, activation)
    return Dense { units, activation = activation, kernel_initializer = self.kernel_initializer, bias_initializer = self.bias_initializer,
      trainable = self.trainable }
  end
  part(self, "feedforward_layer_norm", norm(self), shape)
  part(self, "feedforward_intermediate_dense", dense(self.intermediate_dim, self.activation), shape)
  part(self, "feedforward_output_dense", dense(shape[2]), { shape[1], self.intermediate_dim })
end

-- x + inner(x) with dropout, and the norm on the side that the block has it.
local function residual(self, x, layer_norm, inner)
  local y = inner(self.normalize_first and layer_norm(x) or x)
  if self.training and self.dropout > 0 then y = core.dropout(y, self.dropout) end
  y = x + y
  return self.normalize_first and y or layer_norm(y)
end

local function feedforward(self)
  return function(x) return self.feedforward_output_dense(self.feedforward_intermediate_dense(x)) end
end

local function detail(self)
  return ("%d, %d heads%s"):format(self.intermediate_dim, self.num_heads, self.normalize_first and ", normalize_first" or "")
end

-- ---- encoder ---------------------------------------------------------------------------------------------------------

--- A block whose steps see all steps: `nn.TransformerEncoder{ intermediate_dim, num_heads, dropout = 0.1 }`. Options of a call: padding_mask (N, T),
--- attention_mask (N, T, T).
---@class nnlua.TransformerEncoder: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, dropout?: number, activation?: any, normalize_first?: boolean }): nnlua.TransformerEncoder
local Encoder = Layer.define("TransformerEncoder", block_options())
M.TransformerEncoder = Encoder
Encoder.keeps_mask, Encoder.output_shape = true, output_shape

function Encoder:build(shape)
  part(self, "self_attention", attention(self, shape[2]), shape)
  part(self, "self_attention_layer_norm", norm(self), shape)
  build_feedforward(self, shape)
end

local encoder_spec = { padding_mask = { "tensor" }, attention_mask = { "tensor" } }

function Encoder:forward(x, given)
  local o = given and options.check(owner(self), given, encoder_spec) or {}
  local mask = o.padding_mask or masks.of(x)
  local y = residual(self, x, self.self_attention_layer_norm, function(z)
    return self.self_attention(z, { value_mask = mask, attention_mask = o.attention_mask })
  end)
  return residual(self, y, self.feedforward_layer_norm, feedforward(self))
end

function Encoder:__tostring() return ("TransformerEncoder(%s)"):format(detail(self)) end

-- ---- decoder ---------------------------------------------------------------------------------------------------------

--- A block whose steps see themselves and the steps before; called with a second sequence, an encoder's result, it attends to that too:
--- `decoder(x, encoded)`. Options of a call: decoder_padding_mask, decoder_attention_mask, encoder_padding_mask, encoder_attention_mask,
--- use_causal_mask (true).
---@class nnlua.TransformerDecoder: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, dropout?: number, activation?: any, normalize_first?: boolean }): nnlua.TransformerDecoder
local Decoder = Layer.define("TransformerDecoder", block_options())
M.TransformerDecoder = Decoder
Decoder.keeps_mask, Decoder.output_shape = true, output_shape

-- `encoded` is the shape of the encoder's result, when there is one.
function Decoder:build(shape, encoded)
  part(self, "self_attention", attention(self, shape[2]), shape)
  part(self, "self_attention_layer_norm", norm(self), shape)
  if encoded then
    part(self, "cross_attention", attention(self, shape[2]), shape, encoded, encoded)
    part(self, "cross_attention_layer_norm", norm(self), shape)
  end
  build_feedforward(self, shape)
end

function Decoder:build_once(shape, encoded)
  local out = self:output_shape(shape)
  if not self.built then
    self:build(shape, encoded)
    rawset(self, "input_size", shape)
    rawset(self, "output_size", out)
    rawset(self, "built", true)
  end
  return out
end

local function sample(x)
  local s = x:shape()
  return table.move(s, 2, #s, 1, {})
end

function Decoder:build_from(x, encoded) self:build_once(sample(x), core.is_tensor(encoded) and sample(encoded) or nil) end

local decoder_spec = {
  decoder_padding_mask = { "tensor" }, decoder_attention_mask = { "tensor" }, encoder_padding_mask = { "tensor" },
  encoder_attention_mask = { "tensor" }, use_causal_mask = { "boolean", default = true },
}

function Decoder:forward(x, encoded, given)
  if not core.is_tensor(encoded) then encoded, given = nil, encoded end
  local o = given and options.check(owner(self), given, decoder_spec) or { use_causal_mask = true }
  if (encoded ~= nil) ~= (rawget(self, "cross_attention") ~= nil) then
    options.raise(("%s: was built %s an encoder's result, and is called %s one"):format(owner(self), encoded and "without" or "with",
      encoded and "with" or "without"))
  end
  local mask = o.decoder_padding_mask or masks.of(x)
  local y = residual(self, x, self.self_attention_layer_norm, function(z)
    return self.self_attention(z, { value_mask = mask, attention_mask = o.decoder_attention_mask, use_causal_mask = o.use_causal_mask })
  end)
  if encoded then
    local from = o.encoder_padding_mask or masks.of(encoded)
    y = residual(self, y, self.cross_attention_layer_norm, function(z)
      return self.cross_attention(z, encoded, { value_mask = from, attention_mask = o.encoder_attention_mask })
    end)
  end
  return residual(self, y, self.feedforward_layer_norm, feedforward(self))
end

function Decoder:__tostring() return ("TransformerDecoder(%s)"):format(detail(self)) end

return M
