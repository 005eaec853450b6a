--- Recurrent networks over sequences (N, T, C): lstm, gru, rnn, with layers, two directions and an initial state.
--
-- Owns: the order of gates and what the weights are called. A layer's weights, per direction, are a table
--   { w_ih = (C, G * H), w_hh = (H, G * H), b_ih = (G * H), b_hh = (G * H) }, the biases both or not at all,
-- with the G gates side by side in PyTorch's order: lstm input, forget, cell, output; gru reset, update, new; rnn has one.
-- A layer of an lstm may have `peephole` = (3 * H): how much the gates input, forget, output see of the cell itself (output: of the new one).
-- PyTorch's own matrices are the transposed ones.
-- `weights` lists those tables: layer 1 (forward, then backward when bidirectional), layer 2, ... One table alone is one layer.
-- A state is (layers * directions, N, H), in the same order.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"
local steps_of, stack_all = shapes.steps_of, shapes.stack_all

local M = {}

-- The gates (N, G * H) one by one, the fourth empty for G = 3.
local function gates_of(t, size, count) return core.split4(t, 2, { size, size, size, count == 4 and size or 0 }) end

-- cells: step(input part (N, G*H), h, c, weights, H) -> h, c. `split`: the recurrent bias must not join the input's (gru's new gate multiplies it).
-- `sequence`: the core's operator that makes all steps at once, where the dtype has it. `prepare`: adds to a copy of the weights what every step
-- needs.
local cells = {}
cells.lstm = { gates = 4, has_c = true, sequence = core.lstm_sequence, step = function(x, h, c, w, size)
  local g = x + core.matmul(h, w.w_hh)
  local input, forget, new, output = gates_of(g, size, 4)
  local cell = core.sigmoid(forget) * c + core.sigmoid(input) * core.tanh(new)
  return core.sigmoid(output) * core.tanh(cell), cell
end }
cells.peephole_lstm = { gates = 4, has_c = true, prepare = function(w, size)
  w.see_input, w.see_forget, w.see_output = core.split4(w.peephole, 1, { size, size, size, 0 })
end, step = function(x, h, c, w, size)
  local g = x + core.matmul(h, w.w_hh)
  local input, forget, new, output = gates_of(g, size, 4)
  local cell = core.sigmoid(forget + w.see_forget * c) * c + core.sigmoid(input + w.see_input * c) * core.tanh(new)
  return core.sigmoid(output + w.see_output * cell) * core.tanh(cell), cell
end }
cells.gru = { gates = 3, split = true, step = function(x, h, _, w, size)
  local r = core.matmul(h, w.w_hh)
  if w.b_hh then r = r + w.b_hh end
  local x_reset, x_update, x_new = gates_of(x, size, 3)
  local h_reset, h_update, h_new = gates_of(r, size, 3)
  local reset, update = core.sigmoid(x_reset + h_reset), core.sigmoid(x_update + h_update)
  local new = core.tanh(x_new + reset * h_new)
  return new + update * (h - new)
end }
cells.gru_reset_before = { gates = 3, prepare = function(w, size)
  w.w_gates, w.w_new = core.split4(w.w_hh, 2, { 2 * size, size, 0, 0 })
end, step = function(x, h, _, w, size)
  local r = core.matmul(h, w.w_gates)
  local x_reset, x_update, x_new = gates_of(x, size, 3)
  local h_reset, h_update = core.split4(r, 2, { size, size, 0, 0 })
  local reset, update = core.sigmoid(x_reset + h_reset), core.sigmoid(x_update + h_update)
  local new = core.tanh(x_new + core.matmul(reset * h, w.w_new))
  return new + update * (h - new)
end }
cells.rnn = { gates = 1, step = function(x, h, _, w, _, activation) return activation(x + core.matmul(h, w.w_hh)) end }

local weight_names = { w_ih = true, w_hh = true, b_ih = true, b_hh = true }

local function check_weights(owner, w, at, features, gates)
  if type(w) ~= "table" then define.fail(owner, "weights[%d] must be a table { w_ih =, w_hh =, b_ih =, b_hh = }", at) end
  for key, t in pairs(w) do
    if not weight_names[key] and not (owner == "lstm" and key == "peephole") or not define.is_tensor(t) then
      local more = owner == "lstm" and ", and peephole" or ""
      define.fail(owner, "weights[%d] holds the tensors w_ih, w_hh, b_ih and b_hh%s, not %s", at, more, tostring(key))
    end
  end
  if not w.w_ih or not w.w_hh or (w.b_ih == nil) ~= (w.b_hh == nil) then
    define.fail(owner, "weights[%d] needs w_ih and w_hh, and both biases or none", at)
  end
  local size = w.w_hh:size(1)
  local function fits(t, text) return not t or define.shape_text(t) == text end
  local wide = gates * size
  local matrices = fits(w.w_ih, features .. "x" .. wide) and fits(w.w_hh, size .. "x" .. wide)
  if not (matrices and fits(w.b_ih, tostring(wide)) and fits(w.b_hh, tostring(wide))) then
    define.fail(owner, "weights[%d] must be w_ih (%dx%d), w_hh (%dx%d) and biases (%d), got (%s) and (%s)", at, features, wide, size, wide, wide,
      define.shape_text(w.w_ih), define.shape_text(w.w_hh))
  end
  if not fits(w.peephole, tostring(3 * size)) then
    define.fail(owner, "weights[%d].peephole must have %d elements: those of input, forget and output, its shape is (%s)", at, 3 * size,
      define.shape_text(w.peephole))
  end
  return size
end

-- One direction over x (N, T, C); gives the outputs (N, T, H) and the last states.
local function run(cell, x, w, h, c, size, backward, activation)
  local bias = w.b_ih
  if bias and not cell.split then bias = bias + w.b_hh end
  if w.peephole then cell = cells.peephole_lstm end
  if cell.prepare then
    local more = {}
    for key, t in pairs(w) do more[key] = t end
    cell.prepare(more, size)
    w = more
  end
  local steps = x:size(2)
  if cell.sequence and x:dtype() ~= "f64" and w.w_hh:dtype() ~= "f64" then
    if backward then x = x:flip(2) end
    local y, all_c = cell.sequence(core.linear(x, w.w_ih, bias), w.w_hh, h, c)
    h, c = y:narrow(2, steps, 1):squeeze(2), all_c:narrow(2, steps, 1):squeeze(2)
    return backward and y:flip(2) or y, h, c
  end
  local input = steps_of(core.linear(x:permute(2, 1, 3), w.w_ih, bias))
  local out = {}
  for i = 1, steps do
    local t = backward and steps + 1 - i or i
    h, c = cell.step(input[t], h, c, w, size, activation)
    out[t] = h
  end
  return stack_all(out):permute(2, 1, 3), h, c
end

local function first_state(owner, state, k, count, n, size)
  if not state then return core.full({ n, size }, 0) end
  local want = ("%dx%dx%d"):format(count, n, size)
  if define.shape_text(state) ~= want then
    define.fail(owner, "the state must be (%s): (layers * directions, N, H), got (%s)", want, define.shape_text(state))
  end
  return state[k]
end

local function recurrent(owner, cell, x, weights, h0, c0, o)
  if x:dim() ~= 3 or x:size(2) < 1 then
    define.fail(owner, "the input must be (N, T, C) with at least one step, its shape is (%s)", define.shape_text(x))
  end
  if weights.w_ih then weights = { weights } end
  local directions = o.bidirectional and 2 or 1
  if #weights == 0 or #weights % directions ~= 0 then define.fail(owner, "weights has %d entries for %d direction(s)", #weights, directions) end
  local n, hs, cs = x:size(1), {}, {}
  local y = shapes.real(x)
  for k = 1, #weights, directions do
    local outs = {}
    for d = 0, directions - 1 do
      local w = weights[k + d]
      local size = check_weights(owner, w, k + d, y:size(3), cell.gates)
      local h = first_state(owner, h0, k + d, #weights, n, size)
      local c = cell.has_c and first_state(owner, c0, k + d, #weights, n, size)
      outs[d + 1], hs[k + d], cs[k + d] = run(cell, y, w, h, c, size, d == 1, o.activation)
    end
    y = directions == 2 and core.cat(outs, 3) or outs[1]
    if o.training and o.dropout > 0 and k + directions <= #weights then y = core.dropout(y, o.dropout) end
  end
  if cell.has_c then return y, stack_all(hs), stack_all(cs) end
  return y, stack_all(hs)
end

--- LSTM: gives the outputs (N, T, H * directions) and the last hidden and cell states (layers * directions, N, H). A layer with weights `peephole`
--- (3 * H) lets the gates input, forget and output see the cell.
--
--     local nn = require "nnlua"
--     local weights = { w_ih = nn.randn(3, 4 * 5), w_hh = nn.randn(5, 4 * 5) }
--     local y, h, c = nn.lstm(nn.ones(2, 7, 3), weights)
--     print(y:size(), h:size(), c:size())  --> 2 1 1 2 5
--     print(y:size(2), y:size(3))  --> 7 5
define.op(M, "lstm(T x, TBL weights, TL? state, B bidirectional = false, F dropout = 0, B training = false) -> T, T, T",
  "LSTM layers over x (N,T,C), gates input, forget, cell, output; state {h, c}; gives outputs, h, c",
  function(x, weights, state, bidirectional, dropout, training)
    if state and #state ~= 2 then define.fail("lstm", "the state must be a list of two tensors, h and c") end
    return recurrent("lstm", cells.lstm, x, weights, state and state[1], state and state[2],
      { bidirectional = bidirectional, dropout = dropout, training = training })
  end)

--- GRU: gives the outputs (N, T, H * directions) and the last states (layers * directions, N, H). The reset gate multiplies after the product with
--- w_hh, as in PyTorch; reset_after = false: the state before it, as in the paper.
--
--     local nn = require "nnlua"
--     local y = nn.gru(nn.ones(2, 7, 3), { w_ih = nn.randn(3, 15), w_hh = nn.randn(5, 15) })
--     print(y:size())  --> 2 7 5
define.op(M,
  "gru(T x, TBL weights, T? state, B bidirectional = false, F dropout = 0, B training = false, B reset_after = true) -> T, T",
  "GRU layers over x (N,T,C), gates reset, update, new; gives outputs and last states",
  function(x, weights, state, bidirectional, dropout, training, reset_after)
    return recurrent("gru", reset_after and cells.gru or cells.gru_reset_before, x, weights, state, nil,
      { bidirectional = bidirectional, dropout = dropout, training = training })
  end)

--- Plain recurrent network, h = tanh(x w_ih + h w_hh + biases); gives the outputs and the last states.
--
--     local nn = require "nnlua"
--     local y = nn.rnn(nn.ones(2, 7, 3), { w_ih = nn.randn(3, 5), w_hh = nn.randn(5, 5) }, { activation = "relu" })
--     print(y:size())  --> 2 7 5
define.op(M, "rnn(T x, TBL weights, T? state, S(tanh|relu) activation = tanh, B bidirectional = false, F dropout = 0, B training = false) -> T, T",
  "recurrent layers over x (N,T,C), h = activation(x w_ih + h w_hh + biases)",
  function(x, weights, state, activation, bidirectional, dropout, training)
    return recurrent("rnn", cells.rnn, x, weights, state, nil,
      { bidirectional = bidirectional, dropout = dropout, training = training, activation = core[activation] })
  end)

return M
