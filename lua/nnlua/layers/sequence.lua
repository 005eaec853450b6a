--- Layers around a layer, over the steps of sequences: Bidirectional, TimeDistributed.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{7, 3}, nn.Bidirectional{ nn.LSTM{4, return_sequences = true} }, nn.TimeDistributed{ nn.Dense{2} } }
--     print(model(nn.ones(5, 7, 3)):size())                --> 5  7  2
--     print(model[2])   --> Bidirectional(LSTM(3 -> 4, tanh, return_sequences), concat)

local core = require "nnlua.core"
local options = require "nnlua.options"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local Module = require "nnlua.module"

local M = {}

local function need_layer(self, layer)
  if not Module.is_module(layer) or not layer.build_once then
    options.raise(("%s: needs a layer, got %s"):format(getmetatable(self).__name, options.shown(layer)))
  end
end

-- ---- Bidirectional ---------------------------------------------------------------------------------------------------

--- A recurrent layer forwards and backwards over sequences, and both results joined: merge_mode concat, sum, mul, ave, or none (two results).
--- With return_state the states follow, those of the forward layer first; initial_state is given in the same order.
---@class nnlua.Bidirectional: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Layer, merge_mode?: string, backward_layer?: nnlua.Layer, name?: string }): nnlua.Bidirectional
local Bidirectional = Layer.define("Bidirectional", {
  layer = { "table", position = 1, required = true, layer = true }, backward_layer = { "table", layer = true },
  merge_mode = { "string", default = "concat", choices = { "concat", "sum", "mul", "ave", "none" } } })
M.Bidirectional = Bidirectional

-- The same layer in the other direction.
local function reversed(layer)
  local config, c = layer:config(), getmetatable(layer)
  config.name, config.go_backwards = nil, not layer.go_backwards
  return c.from_config(c, config)
end

function Bidirectional:checked()
  local forward, backward = self.layer, self.backward_layer
  need_layer(self, forward)
  if forward.return_sequences == nil then options.raise("Bidirectional: needs a recurrent layer, got " .. tostring(forward)) end
  backward = backward or reversed(forward)
  need_layer(self, backward)
  for _, key in ipairs { "return_sequences", "return_state", "stateful" } do
    if forward[key] ~= backward[key] then options.raise(("Bidirectional: the two layers differ in %s"):format(key)) end
  end
  if forward.go_backwards == backward.go_backwards then
    options.raise "Bidirectional: one of the layers must go forwards and the other backwards (go_backwards)"
  end
  rawset(self, "layer", forward) -- for config(); a child under the name forward_layer
  rawset(self, "backward_layer", nil)
  self.forward_layer = forward
  self.backward_layer = backward
end

-- In Keras's order, whichever of the two was made first.
function Bidirectional:children()
  return { { "forward_layer", self.forward_layer }, { "backward_layer", self.backward_layer } }
end

function Bidirectional:output_shape(shape)
  local out = self.forward_layer:output_shape(shape)
  self.backward_layer:output_shape(shape)
  if self.merge_mode == "concat" then
    out = table.move(out, 1, #out, 1, {})
    local back = self.backward_layer:output_shape(shape)
    if out[#out] > 0 then out[#out] = out[#out] + back[#back] end
  end
  return out
end

function Bidirectional:build(shape)
  self.forward_layer:build_once(shape)
  self.backward_layer:build_once(shape)
end

local joins = {
  concat = function(a, b) return core.cat({ a, b }, -1) end,
  sum = core.add, mul = core.mul,
  ave = function(a, b) return (a + b) * 0.5 end,
}

function Bidirectional:forward(x, given)
  local one, two = given, given
  if given and given.initial_state then
    local s = given.initial_state
    if type(s) ~= "table" or #s % 2 ~= 0 then
      options.raise(("%s: the initial state must be a list: states of the forward layer, then of the backward one"):format(
        rawget(self, "name") or "Bidirectional"))
    end
    one = { mask = given.mask, initial_state = table.move(s, 1, #s // 2, 1, {}) }
    two = { mask = given.mask, initial_state = table.move(s, #s // 2 + 1, #s, 1, {}) }
  end
  local a, b = table.pack(self.forward_layer(x, one)), table.pack(self.backward_layer(x, two))
  local mask = self.forward_layer.return_sequences and (given and given.mask or masks.of(x)) or nil
  local function in_order(y, layer) return layer.return_sequences and layer.go_backwards and y:flip(2) or y end
  local ya, yb = in_order(a[1], self.forward_layer), in_order(b[1], self.backward_layer)
  local states = table.move(b, 2, b.n, a.n, table.move(a, 2, a.n, 1, {}))
  if self.merge_mode == "none" then return masks.set(ya, mask), masks.set(yb, mask), table.unpack(states) end
  return masks.set(joins[self.merge_mode](ya, yb), mask), table.unpack(states)
end

--- Forget the states that `stateful` layers keep. Returns self.
function Bidirectional:reset_states()
  self.forward_layer:reset_states()
  self.backward_layer:reset_states()
  return self
end

function Bidirectional:__tostring() return ("Bidirectional(%s, %s)"):format(tostring(self.forward_layer), self.merge_mode) end

-- ---- TimeDistributed -------------------------------------------------------------------------------------------------

--- A layer applied to every step of sequences (N, T, ...): `nn.TimeDistributed{ nn.Conv2D{8, 3} }`. Steps join the batch, so batch norm inside
--- sees all of them at once.
---@class nnlua.TimeDistributed: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Layer, name?: string }): nnlua.TimeDistributed
local TimeDistributed = Layer.define("TimeDistributed", { layer = { "table", position = 1, required = true, layer = true } })
M.TimeDistributed = TimeDistributed
TimeDistributed.keeps_mask = true

function TimeDistributed:checked()
  local layer = self.layer
  need_layer(self, layer)
  rawset(self, "layer", nil)
  self.layer = layer
end

function TimeDistributed:output_shape(shape)
  if #shape < 2 then self:refuse("needs sequences (N, T, ...)", shape) end
  local out = self.layer:output_shape(table.move(shape, 2, #shape, 1, {}))
  return table.move(out, 1, #out, 2, { shape[1] })
end

function TimeDistributed:build(shape) self.layer:build_once(table.move(shape, 2, #shape, 1, {})) end

function TimeDistributed:forward(x)
  local s = x:shape()
  if #s < 3 then self:refuse("needs sequences (N, T, ...)", table.move(s, 2, #s, 1, {})) end
  local y = self.layer(x:reshape(table.move(s, 3, #s, 2, { s[1] * s[2] })))
  local out = y:shape()
  return y:reshape(table.move(out, 2, #out, 3, { s[1], s[2] }))
end

function TimeDistributed:__tostring() return ("TimeDistributed(%s)"):format(tostring(self.layer)) end

return M
