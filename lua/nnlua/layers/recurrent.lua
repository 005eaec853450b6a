--- Recurrent layers over sequences (N, T, C): SimpleRNN, LSTM, GRU, ConvLSTM1D, 2D, 3D, RNN{cell}.
--
-- Owns: the walk over steps, with masks, initial states, direction and states that are kept; several cells as one. The cells are in cells.lua.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{28, 8}, nn.LSTM{16, return_sequences = true}, nn.GRU{4} }
--     print(model(nn.ones(2, 28, 8)):size())                    --> 2  4
--     local y, h, c = nn.LSTM{5, return_state = true}(nn.ones(2, 7, 3))
--     print(h:size(), c:size(2))                                --> 2 5
--     print((y - h):abs():sum():item())                         --> 0.0
--
-- A call may have options: `layer(x, { initial_state = {h, c}, mask = mask })`. A step that the mask (nnlua.mask) leaves out repeats the last output
-- and leaves the states alone. dropout is of the input and recurrent_dropout of the state in the products with the kernels; a draw serves all steps.
--
-- A cell of yours is a layer with `state_size` (an integer or a list) whose forward(x, states) of one step gives the output and the new states:
--
--     local nn = require "nnlua"
--     local Leaky = nn.class("Leaky", nn.Layer)
--     Leaky.options = { units = { "integer", position = 1, required = true } }
--     function Leaky:checked() self.state_size = self.units end
--     function Leaky:build(shape) self.kernel = self:weight({ shape[1], self.units }, "ones") end
--     function Leaky:output_shape() return { self.units } end
--     function Leaky:forward(x, states)
--       local h = states[1] * 0.5 + x:matmul(self.kernel)
--       return h, { h }
--     end
--     print(nn.RNN{ Leaky{1} }(nn.ones(1, 3, 1)):item())         --> 1.75

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"
local Module = require "nnlua.module"
local kinds = require "nnlua.layers.cells"
local shapes = require "nnlua.functional.shapes"

local M = {}

-- ---- several cells ---------------------------------------------------------------------------------------------------

local function shown(value) return Module.is_module(value) and getmetatable(value).__name or options.shown(value) end

local function is_cell(value) return Module.is_module(value) and (value.initial_state ~= nil or value.state_size ~= nil) end

--- Cells one behind the other, as one cell: `nn.StackedRNNCells{ nn.LSTMCell{32}, nn.GRUCell{16} }`. Its states are those of all, in order.
---@class nnlua.StackedRNNCells: nnlua.Layer
---@overload fun(cells: nnlua.Layer[]): nnlua.StackedRNNCells
local Stacked = Layer.define("StackedRNNCells", { cells = { "table", position = 1, rest = true, required = true, layer = true } })
M.StackedRNNCells = Stacked

function Stacked:checked()
  local cells = self.cells
  for i, cell in ipairs(cells) do
    if not is_cell(cell) then options.raise(("StackedRNNCells: cell %d must be a cell, got %s"):format(i, shown(cell))) end
  end
  rawset(self, "cells", nil)
  self.cells = cells
end

function Stacked:output_shape(shape)
  for _, cell in ipairs(self.cells) do shape = cell:output_shape(shape) end
  return shape
end

function Stacked:build(shape)
  for _, cell in ipairs(self.cells) do shape = cell:build_once(shape) end
end

local function first_states(cell, x)
  if cell.initial_state then return cell:initial_state(x) end
  local size, list = cell.state_size, {}
  for k, n in ipairs(type(size) == "table" and size or { size }) do list[k] = core.full({ x:size(1), n }, 0, x:dtype()) end
  return list
end

-- The states of each cell begin where those of the cell before end.
function Stacked:initial_state(x)
  local list, counts = {}, {}
  for i, cell in ipairs(self.cells) do
    local own = first_states(cell, x)
    counts[i] = #own
    table.move(own, 1, #own, #list + 1, list)
  end
  rawset(self, "counts", counts)
  return list
end

-- The states of cell i, of all.
local function states_of(self, states, i)
  local at = 1
  for k = 1, i - 1 do at = at + self.counts[k] end
  return table.move(states, at, at + self.counts[i] - 1, 1, {})
end

function Stacked:lowered_states(states)
  local list = {}
  for i, cell in ipairs(self.cells) do
    local own = states_of(self, states, i)
    if cell.lowered_states then own = cell:lowered_states(own) end
    table.move(own, 1, #own, #list + 1, list)
  end
  return list
end

function Stacked:begin(states)
  local shared = {}
  for i, cell in ipairs(self.cells) do shared[i] = cell.begin and cell:begin(states_of(self, states, i)) or {} end
  return shared
end

function Stacked:step(x, states, shared)
  local new = {}
  for i, cell in ipairs(self.cells) do
    local own = states_of(self, states, i)
    if cell.step then
      x, own = cell:step(cell:project(x, shared[i]), own, shared[i])
    else
      x, own = cell(x, own)
    end
    table.move(own, 1, #own, #new + 1, new)
  end
  return x, new
end

function Stacked:forward(x, states)
  local first = self:initial_state(x)
  states = self:lowered_states(states or first)
  return self:step(x, states, self:begin(states))
end

function Stacked:__tostring()
  local words = {}
  for i, cell in ipairs(self.cells) do words[i] = tostring(cell) end
  return ("StackedRNNCells(%s)"):format(table.concat(words, ", "))
end

-- ---- layers ----------------------------------------------------------------------------------------------------------

local function layer_options(more)
  local spec = {
    return_sequences = { "boolean", default = false }, return_state = { "boolean", default = false },
    go_backwards = { "boolean", default = false }, stateful = { "boolean", default = false },
    unroll = { "boolean", default = false }, zero_output_for_mask = { "boolean", default = false },
  }
  for key, rule in pairs(more) do spec[key] = rule end
  return spec
end

--- The walk of a cell over sequences: `nn.RNN{ nn.LSTMCell{32}, return_sequences = true }`; of a list of cells, stacked.
--- `unroll` is accepted and changes nothing.
---@class nnlua.RNN: nnlua.Layer
---@overload fun(options: { [1]: nnlua.Layer, return_sequences?: boolean, return_state?: boolean, stateful?: boolean, name?: string }): nnlua.RNN
local RNN = Layer.define("RNN", layer_options { cell = { "table", position = 1, required = true, layer = true } })
M.RNN = RNN

function RNN:checked()
  local cell = self.cell
  if not Module.is_module(cell) and Module.is_module(cell[1]) then cell = Stacked(cell) end
  if not is_cell(cell) then options.raise("RNN: needs a cell, like nn.LSTMCell{32}, got " .. shown(cell)) end
  rawset(self, "cell", nil)
  self.cell = cell
end

function RNN:output_shape(shape)
  if #shape < 2 then self:refuse("needs sequences (N, T, C)", shape) end
  local out = self.cell:output_shape(table.move(shape, 2, #shape, 1, {}))
  if not self.return_sequences then return out end
  return table.move(out, 1, #out, 2, { shape[1] })
end

function RNN:build(shape) self.cell:build_once(table.move(shape, 2, #shape, 1, {})) end

local call_spec = { initial_state = { "table|tensor" }, mask = { "tensor" } }

local function owner(self) return rawget(self, "name") or getmetatable(self).__name end

-- `given`, or the states kept of the batch before, or zeros.
local function start(self, x, given)
  local one = x:size(2) > 0 and x:narrow(2, 1, 1):squeeze(2) or core.zeros(table.move(x:shape(), 3, x:dim(), 2, { x:size(1) }))
  local first = first_states(self.cell, one)
  local states = given or self.stateful and rawget(self, "kept") or first
  if core.is_tensor(states) then states = { states } end
  local what = given and "the initial state" or "the state of the batch before"
  if #states ~= #first then options.raise(("%s: %s must be %d tensors, got %d"):format(owner(self), what, #first, #states)) end
  for k, state in ipairs(states) do
    if not lists.same(state:shape(), first[k]:shape()) then
      options.raise(("%s: state %d of %s must be (%s), got (%s)%s"):format(owner(self), k, what, table.concat(first[k]:shape(), ", "),
        table.concat(state:shape(), ", "), given and "" or "; call reset_states() before a batch of another size"))
    end
  end
  return states
end

local function like_mask(m, y) -- (N) so that it broadcasts over y (N, ...)
  local shape = { m:size(1) }
  for i = 2, y:dim() do shape[i] = 1 end
  return m:reshape(shape)
end

-- Step by step over x (N, T, ...): all outputs (N, T, ...), or the last; the last states.
local function walk(self, x, states, mask)
  local cell, order = self.cell, { 2, 1 }
  for i = 3, x:dim() do order[i] = i end
  local by_step = x:permute(order)
  local shared = cell.begin and cell:begin(states)
  local steps = shapes.steps_of(cell.project and cell:project(by_step, shared, true) or by_step)
  local counted = mask and shapes.steps_of(mask:permute { 2, 1 })
  local out, last = {}, nil
  for i, step in ipairs(steps) do
    local y, new
    if cell.step then
      y, new = cell:step(step, states, shared)
    else
      y, new = cell(step, states)
    end
    if counted then
      local m = like_mask(counted[i], y)
      last = last or core.full(y:shape(), 0, y:dtype())
      local kept = {}
      for k, state in ipairs(new) do kept[k] = core.where(like_mask(counted[i], state), state, states[k]) end
      last, new = core.where(m, y, last), kept
      y = self.zero_output_for_mask and core.where(m, y, 0) or last
    else
      last = y
    end
    out[i], states = y, new
  end
  if not self.return_sequences then return last, states end
  local y = shapes.stack_all(out)
  for i = 3, y:dim() do order[i] = i end
  return y:permute(order), states
end

local function steps_at(x, at) -- x (N, T, H), at (N, S) -> (N, S, H)
  local s = at:shape()
  return core.gather(x, 2, at:reshape { s[1], s[2], 1 }:expand { s[1], s[2], x:size(3) })
end

-- All steps by one operator. With a mask the steps that count move to the front first (the others don't change a state), and results back.
local function at_once(self, x, states, mask)
  local cell, count = self.cell, x:size(2)
  local position -- how many steps have counted so far
  if mask then
    position = mask:long():cumsum(2)
    x = steps_at(x, core.argsort(mask:logical_not():long(), 2))
  end
  local y, all = cell:sequence(x, states)
  local final = {}
  if not mask then
    for k, state in ipairs(all) do final[k] = state:narrow(2, count, 1):squeeze(2) end
    return self.return_sequences and y or final[1], final
  end
  local function with_first(first, rest) return core.cat({ first:unsqueeze(2), rest }, 2) end
  local behind = position:narrow(2, count, 1) + 1
  for k, state in ipairs(all) do final[k] = steps_at(with_first(states[k], state), behind):squeeze(2) end
  local outputs = with_first(core.full(states[1]:shape(), 0, y:dtype()), y) -- zeros before the first step that counts
  if not self.return_sequences then return steps_at(outputs, behind):squeeze(2), final end
  y = steps_at(outputs, position + 1)
  return self.zero_output_for_mask and core.where(mask:unsqueeze(3), y, 0) or y, final
end

function RNN:forward(x, given)
  given = given and options.check(owner(self), given, call_spec) or {}
  if x:dim() < 3 or x:size(2) < 1 then
    options.raise(("%s: needs sequences (N, T, C) of at least one step, got (%s)"):format(owner(self), table.concat(x:shape(), ", ")))
  end
  local mask = given.mask or masks.of(x)
  x = shapes.real(x)
  if self.cell.lowered_states then x = self.cell:lowered(x) end
  if mask then
    if not lists.same(mask:shape(), { x:size(1), x:size(2) }) then
      options.raise(("%s: the mask must be (%d, %d): (N, T), got (%s)"):format(owner(self), x:size(1), x:size(2), table.concat(mask:shape(), ", ")))
    end
    if mask:dtype() ~= "bool" then mask = mask:ne(0) end
  end
  local states = start(self, x, given.initial_state)
  if self.cell.lowered_states then states = self.cell:lowered_states(states) end
  if self.go_backwards then
    x, mask = x:flip(2), mask and mask:flip(2)
  end
  local fast = self.cell.sequence and self.cell:has_sequence(x)
  local y, last = (fast and at_once or walk)(self, x, states, mask)
  if self.stateful then
    local kept = {}
    for k, state in ipairs(last) do
      kept[k] = state:detach()
      kept[k]:keep()
    end
    rawset(self, "kept", kept)
  end
  if mask and self.return_sequences then masks.set(y, mask) end
  if self.return_state then return y, table.unpack(last) end
  return y
end

--- Forget the states that `stateful` keeps from batch to batch. Returns self.
function RNN:reset_states()
  rawset(self, "kept", nil)
  return self
end

function RNN:__tostring()
  local words = { tostring(self.cell) }
  for _, key in ipairs { "return_sequences", "return_state", "go_backwards", "stateful" } do
    if self[key] then words[#words + 1] = key end
  end
  local inside = getmetatable(self).wraps and self.cell:detail() or words[1]
  words[1] = inside
  return ("%s(%s)"):format(getmetatable(self).__name, table.concat(words, ", "))
end

-- A layer that makes its cell itself: its options are the cell's and the walk's.
local function define_layer(name, cell)
  local c = class(name, RNN)
  c.options, c.aliases, c.keras, c.wraps = layer_options(cell.options), kinds.aliases, name, cell
  function c:checked()
    local given = { trainable = self.trainable, dtype = self.dtype }
    for key in pairs(cell.options) do given[key] = self[key] end
    self.cell = cell(given)
  end
  M[name] = c
end

--- Plain recurrent layer: `nn.SimpleRNN{32}`.
---@class nnlua.SimpleRNN: nnlua.RNN
---@overload fun(options: { [1]: integer, activation?: any, return_sequences?: boolean, name?: string }): nnlua.SimpleRNN
define_layer("SimpleRNN", kinds.SimpleRNNCell)

--- `nn.LSTM{128, return_sequences = true, dropout = 0.2}`.
---@class nnlua.LSTM: nnlua.RNN
---@overload fun(options: { [1]: integer, return_sequences?: boolean, return_state?: boolean, dropout?: number, name?: string }): nnlua.LSTM
define_layer("LSTM", kinds.LSTMCell)

--- `nn.GRU{128}`.
---@class nnlua.GRU: nnlua.RNN
---@overload fun(options: { [1]: integer, return_sequences?: boolean, reset_after?: boolean, dropout?: number, name?: string }): nnlua.GRU
define_layer("GRU", kinds.GRUCell)

--- An LSTM over sequences of images (N, T, H, W, C), of volumes (3D: N, T, D, H, W, C) or of sequences (1D: N, T, L, C), whose products are
--- convolutions: `nn.ConvLSTM2D{16, 3, padding = "same"}`.
---@class nnlua.ConvLSTM1D: nnlua.RNN
---@class nnlua.ConvLSTM2D: nnlua.RNN
---@class nnlua.ConvLSTM3D: nnlua.RNN
for rank, cell in ipairs(kinds.conv_lstm) do define_layer(("ConvLSTM%dD"):format(rank), cell) end

return M
