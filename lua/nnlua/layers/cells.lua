--- Cells of recurrent layers: SimpleRNNCell, LSTMCell, GRUCell, and those of ConvLSTM1D, 2D, 3D.
--
-- Owns: their formulas, their weights and states; recurrent.lua walks them over sequences. Names, defaults, weights and the order of gates are
-- Keras's: kernel (C, G * H), recurrent_kernel (H, G * H), bias (G * H); LSTM input, forget, cell, output; GRU update, reset, new, and bias
-- (2, 3 * H) with reset_after.
--
--     local nn = require "nnlua"
--     local cell = nn.LSTMCell{4}
--     local x = nn.ones(2, 3)
--     local y, states = cell(x)
--     print(y:size(2), #states)                                 --> 4  2

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local single = require("nnlua.policy").single
local initializers = require "nnlua.initializers"
local convolutions = require "nnlua.functional.conv"
local Layer = require "nnlua.layer"

local M = {}

-- ---- cells -----------------------------------------------------------------------------------------------------------

-- What every cell of ours has besides its units; `more` is added.
local function cell_options(more)
  local spec = Layer.with_kernel {
    activation = { "string|function", default = "tanh" },
    recurrent_initializer = { "string|table|function", default = "orthogonal" },
    recurrent_regularizer = { "string|table|function" }, recurrent_constraint = { "string|table|function" },
    dropout = { "number", default = 0, min = 0, below = 1 }, recurrent_dropout = { "number", default = 0, min = 0, below = 1 },
  }
  for key, rule in pairs(more) do spec[key] = rule end
  return spec
end

local aliases = { init = "kernel_initializer", regularizer = "kernel_regularizer", constraint = "kernel_constraint" }

-- Cells of ours: begin() makes what all steps of a walk share (draws, pieces of weights), project() does what can be done for all steps at once,
-- step() the rest.
local Cell = class("Cell", Layer)

function Cell:output_shape(shape)
  if #shape ~= 1 then self:refuse("a cell needs steps (N, C)", shape) end
  return { self.units }
end

function Cell:bias_shape() return { self.gates * self.units } end

function Cell:first_bias() return self.bias_initializer end

function Cell:build(shape)
  local units, wide = self.units, self.gates * self.units
  self.kernel = self:weight({ shape[1], wide }, self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
  self.recurrent_kernel = self:weight({ units, wide }, self.recurrent_initializer, self.recurrent_regularizer, self.recurrent_constraint)
  if self.use_bias then self.bias = self:weight(self:bias_shape(), self:first_bias(), self.bias_regularizer, self.bias_constraint) end
end

--- States before the first step, for samples like those of x (N, ...).
function Cell:initial_state(x)
  local list = {}
  for k = 1, self.state_count do list[k] = core.full({ x:size(1), self.units }, 0, x:dtype()) end
  return list
end

--- What the steps of one walk from `states` share: a table. recurrent: the recurrent kernel in the dtype that the cell computes in; noise: what the
--- state h is multiplied with in the products, or nil.
function Cell:begin(states)
  local h, shared = states[1], { recurrent = self:lowered(self.recurrent_kernel) }
  if self.training and self.recurrent_dropout > 0 then
    shared.noise = core.dropout(core.full(h:shape(), 1, h:dtype()), self.recurrent_dropout)
  end
  return shared
end

-- x (T, N, ...) of many steps or (N, ...) of one, with dropout; one draw for all steps.
function Cell:dropped(x, shared, many)
  if not self.training or self.dropout == 0 then return x end
  if not shared.input_noise then
    local shape = x:shape()
    if many then shape[1] = 1 end
    shared.input_noise = core.dropout(core.full(shape, 1, x:dtype()), self.dropout)
  end
  return x * shared.input_noise
end

function Cell:project(x, shared, many) return core.linear(self:operands(self:dropped(x, shared, many))) end

--- States in the dtype that the cell computes in.
function Cell:lowered_states(states)
  if not rawget(self, "compute_dtype") then return states end
  local list = {}
  for k, state in ipairs(states) do list[k] = self:lowered(state) end
  return list
end

function Cell:forward(x, states)
  x = self:lowered(x)
  states = self:lowered_states(states or self:initial_state(x))
  local shared = self:begin(states)
  return self:step(self:project(x, shared), states, shared)
end

function Cell:detail()
  return ("%s -> %d%s"):format(self.built and self.input_size[1] or "?", self.units, Layer.activation_text(self))
end

local function noisy(h, shared) return shared.noise and h * shared.noise or h end
local function apply(f, x) return f and f(x) or x end

local function define_cell(name, gates, states, spec)
  local c = class(name, Cell)
  c.options, c.aliases, c.keras, c.gates, c.state_count = cell_options(spec), aliases, name, gates, states
  M[name] = c
  return c
end

local units = { "integer", position = 1, required = true, min = 1 }

--- One step of a plain recurrent layer: `h = activation(x kernel + h recurrent_kernel + bias)`.
---@class nnlua.SimpleRNNCell: nnlua.Layer
---@overload fun(options: { [1]: integer, activation?: any, use_bias?: boolean, dropout?: number, name?: string }): nnlua.SimpleRNNCell
local SimpleRNNCell = define_cell("SimpleRNNCell", 1, 1, { units = units })

function SimpleRNNCell:step(x, states, shared)
  local h = apply(self.act, x + core.matmul(noisy(states[1], shared), shared.recurrent))
  return h, { h }
end

local gate = { "string|function", default = "sigmoid" }

--- One step of an LSTM; states { h, c }.
---@class nnlua.LSTMCell: nnlua.Layer
---@overload fun(options: { [1]: integer, activation?: any, unit_forget_bias?: boolean, use_bias?: boolean, name?: string }): nnlua.LSTMCell
local LSTMCell = define_cell("LSTMCell", 4, 2, {
  units = units, recurrent_activation = gate, unit_forget_bias = { "boolean", default = true } })

-- Ones for the forget gate: at first nothing is forgotten.
local function forget_bias(cell, n)
  return function()
    local init = initializers.get(cell.bias_initializer)
    return core.cat { init { n }, core.ones(n), init { 2 * n } }
  end
end

function LSTMCell:first_bias() return self.unit_forget_bias and forget_bias(self, self.units) or self.bias_initializer end

-- States h, c from what the four gates got, their values side by side in dim `dim`.
local function lstm_states(cell, z, c, dim, size)
  local input, forget, new, output = core.split4(z, dim, { size, size, size, size })
  local act, gated = cell.act, cell.recurrent_act
  c = apply(gated, forget) * c + apply(gated, input) * apply(act, new)
  local h = apply(gated, output) * apply(act, c)
  return h, { h, c }
end

function LSTMCell:step(x, states, shared)
  return lstm_states(self, x + core.matmul(noisy(states[1], shared), shared.recurrent), states[2], 2, self.units)
end

-- Does the core's operator of all steps compute this cell?
function LSTMCell:has_sequence(x)
  return self.act == core.tanh and self.recurrent_act == core.sigmoid and (x:dtype() == "f32" or rawget(self, "compute_dtype") == x:dtype())
    and (self.recurrent_dropout == 0 or not self.training)
end

-- All steps of x (N, T, C) by one operator: h and c of each step, (N, T, H). The operator computes in f32: of a layer that computes in halves only
-- the product with the input does.
function LSTMCell:sequence(x, states)
  if self.training and self.dropout > 0 then
    local shape = x:shape()
    shape[2] = 1
    x = x * core.dropout(core.full(shape, 1, x:dtype()), self.dropout)
  end
  local z, halves = single(core.linear(self:operands(x)))
  local h, c = core.lstm_sequence(z, self.recurrent_kernel, (single(states[1])), (single(states[2])))
  if halves then h, c = h:to(x:dtype()), c:to(x:dtype()) end
  return h, { h, c }
end

--- One step of a GRU. `reset_after` (Keras's default): the reset gate multiplies what the state gives, else the state itself.
---@class nnlua.GRUCell: nnlua.Layer
---@overload fun(options: { [1]: integer, activation?: any, reset_after?: boolean, use_bias?: boolean, name?: string }): nnlua.GRUCell
local GRUCell = define_cell("GRUCell", 3, 1, { units = units, recurrent_activation = gate, reset_after = { "boolean", default = true } })

function GRUCell:bias_shape() return self.reset_after and { 2, 3 * self.units } or { 3 * self.units } end

function GRUCell:begin(states)
  local shared = Cell.begin(self, states)
  if self.reset_after then
    if self.bias then shared.input_bias, shared.bias = self:lowered(self.bias[1]), self:lowered(self.bias[2]) end
  else
    shared.input_bias = self:lowered(self.bias)
    shared.gates, shared.new = core.split4(shared.recurrent, 2, { 2 * self.units, self.units, 0, 0 })
  end
  return shared
end

function GRUCell:project(x, shared, many)
  return core.linear(self:lowered(self:dropped(x, shared, many)), self:lowered(self.kernel), shared.input_bias)
end

function GRUCell:step(x, states, shared)
  local h, n, gated = states[1], self.units, self.recurrent_act
  local seen = noisy(h, shared)
  local x_update, x_reset, x_new = core.split4(x, 2, { n, n, n, 0 })
  local h_update, h_reset, h_new
  if self.reset_after then
    h_update, h_reset, h_new = core.split4(core.linear(seen, shared.recurrent, shared.bias), 2, { n, n, n, 0 })
  else
    h_update, h_reset = core.split4(core.matmul(seen, shared.gates), 2, { n, n, 0, 0 })
  end
  local update, reset = apply(gated, x_update + h_update), apply(gated, x_reset + h_reset)
  h_new = self.reset_after and reset * h_new or core.matmul(reset * seen, shared.new)
  local new = apply(self.act, x_new + h_new)
  h = new + update * (h - new)
  return h, { h }
end

-- ---- convolutional cells ---------------------------------------------------------------------------------------------

-- n or a list of `rank` -> that list
local function spread(layer, key)
  local value, rank = layer[key], layer.rank
  if type(value) == "number" then
    local n = value
    value = {}
    for i = 1, rank do value[i] = n end
  end
  local ok = #value == rank
  for _, n in ipairs(value) do ok = ok and math.type(n) == "integer" and n >= 1 end
  if not ok then
    local list = rank == 1 and "" or rank == 2 and " or a pair of them" or " or three of them"
    options.raise(("%s: option %q must be an integer%s, at least 1, got %s"):format(getmetatable(layer).__name, key, list,
      options.list_text(layer[key])))
  end
  rawset(layer, key, table.move(value, 1, rank, 1, {}))
end

local conv_spec = {
  filters = { "integer", position = 1, required = true, min = 1 }, kernel_size = { "integer|table", position = 2, required = true },
  strides = { "integer|table", default = 1 }, dilation_rate = { "integer|table", default = 1 },
  padding = { "string", default = "valid", choices = { "valid", "same" } },
  recurrent_activation = gate, unit_forget_bias = { "boolean", default = true },
}

-- One step of an LSTM whose products are convolutions over `rank` axes; states are sequences, images or volumes.
local ConvCell = class("ConvLSTMCell", Cell)
ConvCell.state_count, ConvCell.gates = 2, 4

local samples = { "sequences of sequences (N, T, L, C)", "sequences of images (N, T, H, W, C)", "sequences of volumes (N, T, D, H, W, C)" }

function ConvCell:checked()
  for _, key in ipairs { "kernel_size", "strides", "dilation_rate" } do spread(self, key) end
end

function ConvCell:output_shape(shape)
  local rank = self.rank
  if #shape ~= rank + 1 then self:refuse("needs " .. samples[rank], shape) end
  local out = {}
  for i = 1, rank do
    local n, stride = shape[i], self.strides[i]
    local window = self.dilation_rate[i] * (self.kernel_size[i] - 1) + 1
    out[i] = n < 0 and -1 or self.padding == "same" and (n + stride - 1) // stride or (n - window) // stride + 1
    if out[i] == 0 or out[i] < -1 then self:refuse("the window does not fit", shape) end
  end
  out[rank + 1] = self.filters
  return out
end

function ConvCell:build(shape)
  local n, rank = self.filters, self.rank
  local function kernel(channels)
    local list = table.move(self.kernel_size, 1, rank, 1, {})
    list[rank + 1], list[rank + 2] = channels, 4 * n
    return list
  end
  self.kernel = self:weight(kernel(shape[rank + 1]), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
  self.recurrent_kernel = self:weight(kernel(n), self.recurrent_initializer, self.recurrent_regularizer, self.recurrent_constraint)
  local first = self.unit_forget_bias and forget_bias(self, n) or self.bias_initializer
  if self.use_bias then self.bias = self:weight({ 4 * n }, first, self.bias_regularizer, self.bias_constraint) end
end

function ConvCell:initial_state(x)
  local out = self:output_shape(table.move(x:shape(), 2, x:dim(), 1, {}))
  local zeros = core.full({ x:size(1), table.unpack(out) }, 0, x:dtype())
  return { zeros, zeros }
end

-- Steps join the batch: one convolution for all.
function ConvCell:project(x, shared, many)
  x = self:dropped(x, shared, many)
  local s = x:shape()
  if many then x = x:reshape { s[1] * s[2], table.unpack(s, 3) } end
  local input, kernel, bias = self:operands(x)
  local y = self.convolution(input, kernel, bias, { stride = self.strides, padding = self.padding, dilation = self.dilation_rate })
  return many and y:reshape { s[1], s[2], table.unpack(y:shape(), 2) } or y
end

function ConvCell:step(x, states, shared)
  local z = x + self.convolution(noisy(states[1], shared), shared.recurrent, nil, { padding = "same" })
  return lstm_states(self, z, states[2], self.rank + 2, self.filters)
end

function ConvCell:detail() return ("%d, %s"):format(self.filters, table.concat(self.kernel_size, "x")) end

M.conv_lstm = {} -- rank -> cell
for rank, convolution in ipairs { convolutions.conv1d, core.conv2d, convolutions.conv3d } do
  local name = ("ConvLSTM%dDCell"):format(rank)
  local c = class(name, ConvCell)
  c.options, c.aliases, c.keras, c.rank, c.convolution = cell_options(conv_spec), aliases, name, rank, convolution
  M.conv_lstm[rank] = c
end

M.aliases = aliases
return M
