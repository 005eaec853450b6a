--- Attention: MultiHeadAttention, GroupedQueryAttention, Attention, AdditiveAttention.
--
-- Owns: how masks join, and the projections onto heads. They are called with (query, value, key): without value and key a sequence attends to
-- itself, so they work in a Sequential; the key is the value unless given. Names, defaults, weights and their order are Keras's: kernels (C, heads,
-- dim), (heads, dim, C) behind. A mask is true where attention is allowed: `attention_mask` (N, T, S), (T, S) or with heads (N, H, T, S); the masks
-- that query, value and key carry (nnlua.mask) are taken too.
--
--     local nn = require "nnlua"
--     local layer = nn.MultiHeadAttention{ 2, 8 }                    -- num_heads, key_dim
--     local q, v = nn.ones(3, 5, 16), nn.ones(3, 7, 16)
--     print(layer(q, v):size())                                      --> 3 5 16
--     local _, scores = layer(q, v, { return_attention_scores = true })
--     print(scores:size())                                           --> 3 2 5 7
--     print(nn.Sequential{ nn.Input{5, 16}, layer }:output_shape{5, 16}[2])   --> 16

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"

local M = {}

-- ---- what they share -------------------------------------------------------------------------------------------------

local NEVER = -1e9 -- added to a score that is not allowed, as in Keras: where none is, all count the same

local call_spec = {
  mask = { "table" }, query_mask = { "tensor" }, value_mask = { "tensor" }, key_mask = { "tensor" }, attention_mask = { "tensor" },
  return_attention_scores = { "boolean", default = false }, use_causal_mask = { "boolean", default = false },
}

local function owner(self) return rawget(self, "name") or getmetatable(self).__name end

-- Arguments of a call: query, value, key, options, and whether the three were given as a list.
local function arguments(self, query, ...)
  local rest, given = { ... }, nil
  if type(rest[#rest]) == "table" then given = table.remove(rest) end
  local value, key = rest[1], rest[2]
  if type(query) == "table" then query, value, key = query[1], query[2], query[3] end
  value = value or query
  key = key or value
  for i, t in ipairs { query, value, key } do
    if not core.is_tensor(t) then
      options.raise(("%s: argument %d must be a tensor, got %s"):format(owner(self), i, options.shown(t)))
    elseif t:dim() ~= 3 then
      options.raise(("%s: needs sequences (N, T, C), the %s is (%s)"):format(owner(self), ({ "query", "value", "key" })[i],
        table.concat(t:shape(), ", ")))
    end
  end
  if key:size(2) ~= value:size(2) then
    options.raise(("%s: the key has %d steps but the value %d"):format(owner(self), key:size(2), value:size(2)))
  end
  return query, value, key, given and options.check(owner(self), given, call_spec) or {}
end

local function both(a, b) return a and b and a:logical_and(b) or a or b end

-- true on and below the diagonal: step t sees steps 1..t.
local function causal(steps, sources) return core.tri(steps, sources, 0, "bool") end

-- The shape of a sample, from a batch.
local function sample(x)
  local s = x:shape()
  return table.move(s, 2, #s, 1, {})
end

local function build_from(self, ...)
  local query, value, key = arguments(self, ...)
  self:build_once(sample(query), sample(value), sample(key))
end

-- One build for the three shapes; a shape alone is that of all. What a file must know to build it again is the query's.
local function build_once(self, query, value, key)
  value = value or query
  key = key or value
  local out = self:output_shape(query, value, key)
  if not self.built then
    self:build(query, value, key)
    rawset(self, "input_size", query)
    rawset(self, "output_size", out)
    rawset(self, "built", true)
  end
  return out
end

local function need_sequences(self, shape)
  if #shape ~= 2 then self:refuse("needs sequences (N, T, C)", shape) end
end

-- The mask of all heads (broadcasts over (N, H, T, S)) from the masks of steps (N, T), (N, S), (N, S) and the one of pairs; nil for none.
local function pair_mask(self, o, query, value, key)
  local q, v, k = o.query_mask or masks.of(query), o.value_mask or masks.of(value), o.key_mask or masks.of(key)
  local n, t, s = query:size(1), query:size(2), value:size(2)
  local joined = q and q:reshape { n, 1, t, 1 }
  joined = both(joined, v and v:reshape { n, 1, 1, s })
  if not rawequal(k, v) then joined = both(joined, k and k:reshape { n, 1, 1, s }) end
  if o.use_causal_mask then joined = both(joined, causal(t, s)) end
  local pairs_of = o.attention_mask
  if pairs_of then
    local d = pairs_of:dim()
    if d < 2 or d > 4 or pairs_of:size(-2) ~= t or pairs_of:size(-1) ~= s then
      options.raise(("%s: attention_mask must be (N, %d, %d), got (%s)"):format(owner(self), t, s, table.concat(pairs_of:shape(), ", ")))
    end
    if pairs_of:dtype() ~= "bool" then pairs_of = pairs_of:ne(0) end
    joined = both(joined, d == 3 and pairs_of:unsqueeze(2) or pairs_of)
  end
  return joined
end

-- What is added to scores of a dtype where `allowed` is false; in halves -1e9 would be no number.
local function barrier(allowed, dtype)
  return core.where(allowed, core.full({ 1 }, 0, dtype), dtype == "f16" and -3e4 or NEVER)
end

-- Softmax of q k^T * scale over q (N, H, T, E), k (N, H, S, E), and its product with v; the scores after dropout too, when wanted.
local function attend(self, q, k, v, mask, scale, want_scores)
  local bias = mask and barrier(mask, q:dtype())
  local rate = self.training and self.dropout or 0
  if not want_scores then
    return core.scaled_dot_product_attention(q, k, v, { mask = bias, dropout_p = rate, scale = scale })
  end
  local scores = core.matmul(q * scale, k:transpose())
  if bias then scores = scores + bias end
  scores = scores:softmax(-1)
  if rate > 0 then scores = core.dropout(scores, rate) end
  return core.matmul(scores, v), scores
end

-- ---- projections -----------------------------------------------------------------------------------------------------

local projection_names = { "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint",
  "use_bias", "trainable" }

-- A Dense with its output, or its input, in heads: kernel (C, H, E) or (H, E, C).
local Projection = Layer.define("Projection", Layer.with_kernel {
  shape = { "integer", position = 1, rest = true, required = true }, inputs = { "integer", default = 1 } })

function Projection.of(layer, kernel_shape, inputs)
  local given = { shape = kernel_shape, inputs = inputs, dtype = layer.dtype or "float32" } -- built later, perhaps under another policy
  for _, key in ipairs(projection_names) do given[key] = layer[key] end
  return Projection(given)
end

function Projection:build()
  local shape = self.shape
  local bias = table.move(shape, self.inputs + 1, #shape, 1, {})
  self.kernel = self:weight(shape, self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
  if self.use_bias then self.bias = self:weight(bias, self.bias_initializer, self.bias_regularizer, self.bias_constraint) end
end

-- (N, T, C) -> (N, H, T, E)
function Projection:onto_heads(x)
  local c, heads, size = table.unpack(self.shape)
  if x:size(3) ~= c then
    options.raise(("%s: was built for %d features, got (%s)"):format(self.name, c, table.concat(x:shape(), ", ")))
  end
  local input, kernel, bias = self:operands(x)
  local y = core.linear(input, kernel:reshape { c, heads * size }, bias and bias:reshape { heads * size })
  return y:reshape({ x:size(1), x:size(2), heads, size }):permute(1, 3, 2, 4)
end

-- (N, H, T, E) -> (N, T, C)
function Projection:from_heads(x)
  local heads, size, c = table.unpack(self.shape)
  x = x:permute(1, 3, 2, 4):reshape { x:size(1), x:size(3), heads * size }
  local input, kernel, bias = self:operands(x)
  return core.linear(input, kernel:reshape { heads * size, c }, bias)
end

function Projection:detail() return table.concat(self.shape, "x") end

local function build_projections(self, shapes)
  for _, entry in ipairs(shapes) do
    local p = Projection.of(self, entry[2], entry[3])
    p:build_once {}
    self[entry[1]] = p
  end
end

-- ---- MultiHeadAttention ----------------------------------------------------------------------------------------------

--- Several attentions side by side (Vaswani et al.): `nn.MultiHeadAttention{ num_heads, key_dim }`, called with (query, value, key, options).
--- Options of a call: attention_mask, use_causal_mask, return_attention_scores (a second result (N, H, T, S)), query_mask, value_mask, key_mask.
--- `output_shape` is the number of features of the result, those of the query by default.
---@class nnlua.MultiHeadAttention: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, value_dim?: integer, dropout?: number, output_shape?: integer }): nnlua.MultiHeadAttention
local MultiHead = Layer.define("MultiHeadAttention", Layer.with_kernel {
  num_heads = { "integer", position = 1, required = true, min = 1 }, key_dim = { "integer", position = 2, required = true, min = 1 },
  value_dim = { "integer", min = 1 }, dropout = { "number", default = 0, min = 0, below = 1 }, output_features = { "integer", min = 1 },
}, { output_shape = "output_features", init = "kernel_initializer", regularizer = "kernel_regularizer", constraint = "kernel_constraint" })
M.MultiHeadAttention = MultiHead
MultiHead.keeps_mask, MultiHead.build_from, MultiHead.build_once = true, build_from, build_once

function MultiHead:output_shape(query)
  need_sequences(self, query)
  return { query[1], self.output_features or query[2] }
end

function MultiHead:build(query, value, key)
  local heads, size = self.num_heads, self.value_dim or self.key_dim
  build_projections(self, {
    { "query", { query[2], heads, self.key_dim }, 1 }, { "key", { key[2], heads, self.key_dim }, 1 }, { "value", { value[2], heads, size }, 1 },
    { "attention_output", { heads, size, self.output_features or query[2] }, 2 },
  })
end

function MultiHead:forward(...)
  local query, value, key, o = arguments(self, ...)
  local y, scores = attend(self, self.query:onto_heads(query), self.key:onto_heads(key), self.value:onto_heads(value),
    pair_mask(self, o, query, value, key), self.key_dim ^ -0.5, o.return_attention_scores)
  return self.attention_output:from_heads(y), scores
end

function MultiHead:__tostring() return ("MultiHeadAttention(%d heads of %d)"):format(self.num_heads, self.key_dim) end

-- ---- GroupedQueryAttention -------------------------------------------------------------------------------------------

--- Multi-head attention whose query heads share keys and values in groups (Ainslie et al.):
--- `nn.GroupedQueryAttention{ head_dim, num_query_heads, num_key_value_heads }`; called like MultiHeadAttention.
---@class nnlua.GroupedQueryAttention: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, [3]: integer, dropout?: number, use_bias?: boolean }): nnlua.GroupedQueryAttention
local Grouped = Layer.define("GroupedQueryAttention", Layer.with_kernel {
  head_dim = { "integer", position = 1, required = true, min = 1 }, num_query_heads = { "integer", position = 2, required = true, min = 1 },
  num_key_value_heads = { "integer", position = 3, required = true, min = 1 }, dropout = { "number", default = 0, min = 0, below = 1 },
}, { init = "kernel_initializer", regularizer = "kernel_regularizer", constraint = "kernel_constraint" })
M.GroupedQueryAttention = Grouped
Grouped.keeps_mask, Grouped.build_from, Grouped.build_once = true, build_from, build_once

function Grouped:checked()
  if self.num_query_heads % self.num_key_value_heads ~= 0 then
    options.raise(("GroupedQueryAttention: num_query_heads (%d) must be a multiple of num_key_value_heads (%d)"):format(self.num_query_heads,
      self.num_key_value_heads))
  end
end

function Grouped:output_shape(query)
  need_sequences(self, query)
  return query
end

function Grouped:build(query, value, key)
  local many, few, size = self.num_query_heads, self.num_key_value_heads, self.head_dim
  build_projections(self, {
    { "query", { query[2], many, size }, 1 }, { "key", { key[2], few, size }, 1 }, { "value", { value[2], few, size }, 1 },
    { "attention_output", { many, size, query[2] }, 2 },
  })
end

function Grouped:forward(...)
  local query, value, key, o = arguments(self, ...)
  local times = self.num_query_heads // self.num_key_value_heads
  local function spread(x) -- each head serves `times` query heads
    local n, h, t, e = x:size()
    return x:unsqueeze(3):expand({ n, h, times, t, e }):reshape { n, h * times, t, e }
  end
  local y, scores = attend(self, self.query:onto_heads(query), spread(self.key:onto_heads(key)), spread(self.value:onto_heads(value)),
    pair_mask(self, o, query, value, key), self.head_dim ^ -0.5, o.return_attention_scores)
  return self.attention_output:from_heads(y), scores
end

function Grouped:__tostring()
  return ("GroupedQueryAttention(%d heads of %d, %d for keys and values)"):format(self.num_query_heads, self.head_dim, self.num_key_value_heads)
end

-- ---- Attention, AdditiveAttention ------------------------------------------------------------------------------------

-- Scores (N, T, S) to the result; masks of query and value as Keras has them: a query step that does not count gives 0.
local function weighted(self, scores, query, value, o)
  local q, v = o.query_mask or o.mask and o.mask[1] or masks.of(query), o.value_mask or o.mask and o.mask[2] or masks.of(value)
  local n, t, s = query:size(1), query:size(2), value:size(2)
  local allowed = both(v and v:reshape { n, 1, s }, o.use_causal_mask and causal(t, s) or nil)
  if allowed then scores = scores + barrier(allowed, scores:dtype()) end
  scores = scores:softmax(-1)
  if self.training and self.dropout > 0 then scores = core.dropout(scores, self.dropout) end
  local y = core.matmul(scores, value)
  if q then y = masks.set(core.where(q:reshape { n, t, 1 }, y, 0), q) end
  if o.return_attention_scores then return y, scores end
  return y
end

local function output_shape(self, query, value)
  need_sequences(self, query)
  return { query[1], (value or query)[2] }
end

--- Attention by products (Luong): softmax(query key^T) value, without weights; `use_scale`: a trained factor; score_mode "concat":
--- a trained factor times the sum of tanh(query + key). Called with (query, value, key, options) or a list of the tensors.
---@class nnlua.Attention: nnlua.Layer
---@overload fun(options: { use_scale?: boolean, score_mode?: string, dropout?: number, name?: string }): nnlua.Attention
local Attention = Layer.define("Attention", {
  use_scale = { "boolean", default = false }, score_mode = { "string", default = "dot", choices = { "dot", "concat" } },
  dropout = { "number", default = 0, min = 0, below = 1 } })
M.Attention = Attention
Attention.build_from, Attention.build_once, Attention.output_shape = build_from, build_once, output_shape

function Attention:build()
  if self.use_scale then self.scale = self:weight({}, "ones") end
  if self.score_mode == "concat" then self.concat_score_weight = self:weight({}, "ones") end
end

-- (N, T, E), (N, S, E) -> (N, T, S, E): every query with every key.
local function sums(query, key) return query:unsqueeze(3) + key:unsqueeze(2) end

function Attention:forward(...)
  local query, value, key, o = arguments(self, ...)
  local scores
  if self.score_mode == "dot" then
    scores = core.matmul(query, key:transpose())
    if self.scale then scores = scores * self.scale end
  else
    local s = sums(query, key)
    if self.scale then s = s * self.scale end
    scores = s:tanh():sum(-1) * self.concat_score_weight
  end
  return weighted(self, scores, query, value, o)
end

function Attention:detail() return self.score_mode .. (self.use_scale and ", use_scale" or "") end

--- Attention by sums (Bahdanau): scores are the sum of scale * tanh(query + key), scale (C) trained.
---@class nnlua.AdditiveAttention: nnlua.Layer
---@overload fun(options: { use_scale?: boolean, dropout?: number, name?: string }): nnlua.AdditiveAttention
local Additive = Layer.define("AdditiveAttention", {
  use_scale = { "boolean", default = true }, dropout = { "number", default = 0, min = 0, below = 1 } })
M.AdditiveAttention = Additive
Additive.build_from, Additive.build_once, Additive.output_shape = build_from, build_once, output_shape

function Additive:build(query)
  if self.use_scale then self.scale = self:weight({ query[2] }, "glorot_uniform") end
end

function Additive:forward(...)
  local query, value, key, o = arguments(self, ...)
  local s = sums(query, key):tanh()
  if self.scale then s = s * self.scale end
  return weighted(self, s:sum(-1), query, value, o)
end

function Additive:detail() return self.use_scale and "use_scale" or "" end

return M
