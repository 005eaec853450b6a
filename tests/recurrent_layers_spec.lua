-- lua/nnlua/layers/recurrent.lua, sequence.lua, embedding.lua and lua/nnlua/mask.lua: masks against sequences without the steps that don't count,
-- files, shapes, wrong use. (Values and gradients: library_spec.)
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local sequence = assert(loadfile(here .. "sequence_support.lua"))(assert)
local close, message = support.close, support.message

-- A model that Keras made, from its own configuration; ids there begin with 0.
it("Keras's model of Embedding, GRU and Bidirectional{LSTM} gives what Keras computed", function()
  local case, layers = dofile(here .. "golden/keras_rnn.lua"), {}
  for i, entry in ipairs(require "nnlua.core".json_decode(case.config).config.layers) do
    local c = assert(require "nnlua.models".layer_class(entry.class_name))
    layers[i] = c.from_config(c, entry.config)
  end
  local model = nn.Sequential(layers)
  local weights = model:weights()
  assert.equal(#case.weights, #weights)
  for i, w in ipairs(weights) do
    assert.same(case.weights[i][2][1], w.tensor:shape(), case.weights[i][1])
    w.tensor:assign(nn.tensor(case.weights[i][2][2], { dtype = "f32" }):reshape(case.weights[i][2][1]))
  end
  close(case.y[2], model(nn.tensor(case.x[2]):long():reshape(case.x[1]) + 1), 1e-6)
end)

-- What `layer` gives for the rows of x (N, T, C) one by one, with only the steps that the mask (a table) counts: outputs per step, last output,
-- states.
local function one_by_one(layer, x, mask, go_backwards)
  local all, last, states = {}, {}, {}
  for n = 1, #mask do
    local kept, order = {}, {}
    for t = 1, #mask[n] do order[t] = go_backwards and #mask[n] + 1 - t or t end
    for _, t in ipairs(order) do
      if mask[n][t] then kept[#kept + 1] = t end
    end
    local results, out = {}, {}
    if #kept > 0 then
      results = table.pack(layer(nn.index_select(x[{ { n, n } }], 2, nn.tensor(kept, { dtype = "i64" }))))
    end
    local size = layer.cell.units
    local zeros = {}
    for i = 1, size do zeros[i] = 0 end
    local steps = #kept > 0 and results[1]:totable()[1] or {}
    local at = 0
    for i, t in ipairs(order) do
      if mask[n][t] then at = at + 1 end
      out[i] = steps[at] or zeros
    end
    all[n], last[n] = out, out[#out]
    for k = 2, #kept > 0 and results.n or 0 do
      states[k - 1] = states[k - 1] or {}
      states[k - 1][n] = results[k]:totable()[1]
    end
    if #kept == 0 then
      for k = 1, layer.cell.state_count do
        states[k] = states[k] or {}
        states[k][n] = zeros
      end
    end
  end
  return all, last, states
end

local patterns = { { true, true, false, false, false }, { false, true, false, true, true }, { true, true, true, true, true },
  { false, false, false, false, false }, { false, false, false, false, true } }

describe("masks", function()
  for name, make in pairs {
    SimpleRNN = function(o) return nn.SimpleRNN(o) end, GRU = function(o) return nn.GRU(o) end,
    ["GRU, reset before"] = function(o)
      o.reset_after = false
      return nn.GRU(o)
    end,
    ["LSTM at once"] = function(o) return nn.LSTM(o) end,
    ["LSTM step by step"] = function(o)
      o.activation = "softsign"
      return nn.LSTM(o)
    end,
  } do
    for _, go_backwards in ipairs { false, true } do
      it(("%s leaves out steps%s"):format(name, go_backwards and ", backwards" or ""), function()
        nn.seed(2)
        local x, mask = nn.randn(5, 5, 3), nn.tensor(patterns)
        local plain = make { 4, return_sequences = true, return_state = true }
        plain:build_once { 5, 3 }
        local function like(o)
          o.go_backwards = go_backwards
          local layer = make(o)
          layer:build_once { 5, 3 }
          for i, w in ipairs(layer:weights()) do w.tensor:assign(plain:weights()[i].tensor) end
          return layer
        end
        local all, last, states = one_by_one(plain, x, patterns, go_backwards)
        local y, s1, s2 = like { 4, return_sequences = true, return_state = true }(x, { mask = mask })
        close(all, y, 1e-5, "outputs")
        close(states[1], s1, 1e-5, "state 1")
        if s2 then close(states[2], s2, 1e-5, "state 2") end
        close(last, like { 4 }(nn.with_mask(x, mask)), 1e-5, "last")
        local zeroed = like { 4, return_sequences = true, zero_output_for_mask = true }(x, { mask = mask }):totable()
        for n, row in ipairs(patterns) do
          for t = 1, 5 do
            local at = go_backwards and 6 - t or t
            close(row[at] and all[n][t] or { 0, 0, 0, 0 }, zeroed[n][t], 1e-5)
          end
        end
      end)
    end
  end

  it("have the gradients of the steps that count, by both ways", function()
    nn.seed(3)
    local x, mask = nn.randn(5, 5, 3), nn.tensor(patterns)
    local fast, slow = nn.LSTM { 4, return_sequences = true }, nn.LSTM { 4, return_sequences = true, recurrent_dropout = 0.5 }
    local cot, grads = nn.randn(5, 5, 4), {}
    for i, layer in ipairs { fast, slow } do
      layer:build_once { 5, 3 }
      for k, w in ipairs(layer:weights()) do w.tensor:assign(fast:weights()[k].tensor) end
      if i == 2 then layer.cell.has_sequence = function() return false end end
      layer:eval()
      local p = nn.parameter(x)
      local loss = (layer(p, { mask = mask }) * cot):sum()
      grads[i] = { nn.grad({ loss }, { p, layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias }) }
    end
    for k = 1, 4 do close(grads[2][k], grads[1][k], 1e-5, "gradient " .. k) end
    for n, row in ipairs(patterns) do
      for t = 1, 5 do
        assert.equal(row[t], grads[1][1][{ n, t }]:abs():sum():item() > 1e-6, ("step %d of %d"):format(t, n))
      end
    end
  end)

  it("come from Embedding and Masking, and travel through layers that keep them", function()
    local ids = nn.tensor({ { 3, 2, 1, 1 }, { 1, 4, 4, 1 } }, { dtype = "i64" })
    local want = { { true, true, false, false }, { false, true, true, false } }
    local x = nn.Embedding { 5, 6, mask_zero = true }(ids)
    assert.same(want, nn.mask_of(x):totable())
    assert.is_nil(nn.mask_of(nn.Embedding { 5, 6 }(ids)))
    local keeping = nn.Sequential { nn.Dense { 3, activation = "relu" }, nn.Dropout { 0.5 }, nn.LayerNorm {}, nn.BatchNorm {},
      nn.Activation { "tanh" }, nn.LeakyReLU {}, nn.GaussianNoise { 0.1 },
      nn.SinePositionEncoding { add = true }, nn.TimeDistributed { nn.Dense { 4 } },
      nn.GRU { 4, return_sequences = true }, nn.Bidirectional { nn.LSTM { 2, return_sequences = true } },
      nn.MultiHeadAttention { 2, 2 }, nn.TransformerEncoder { 4, 2 } }
    assert.same(want, nn.mask_of(keeping(x)):totable())
    for _, layer in ipairs { nn.GroupNorm { 3 }, nn.InstanceNorm {}, nn.RMSNorm {}, nn.UnitNorm {}, nn.GaussianDropout { 0.5 },
      nn.AlphaDropout { 0.5 }, nn.SpatialDropout1D { 0.5 }, nn.DropPath { 0.5 }, nn.ActivityRegularization { l1 = 1 }, nn.ReLU {},
      nn.Softmax {}, nn.Sparsemax {}, nn.SiLU {}, nn.ELU {}, nn.SoftShrink {}, nn.Threshold { 0, 1 }, nn.GELU {}, nn.PReLU {}, nn.RReLU {},
      nn.GLU {}, nn.CReLU { 3 }, nn.Identity {}, nn.WeightNorm { nn.Dense { 3 } }, nn.SkipConnection { nn.Dense { 6 } } } do
      assert.same(want, nn.mask_of(layer(x)):totable(), tostring(layer))
    end
    assert.is_nil(nn.mask_of(nn.GLU { 2 }(x)))
    assert.is_nil(nn.mask_of(nn.Conv1D { 2, 3 }(x)))
    assert.is_nil(nn.mask_of(nn.Flatten {}(x)))
    assert.is_nil(nn.mask_of(nn.LSTM { 2 }(x)))
    assert.is_nil(nn.mask_of(x * 2))
    local a = nn.Masking { -1 }(nn.tensor({ { { -1, -1 }, { -1, 0 }, { 0, 0 } } }, { dtype = "f32" }))
    assert.same({ { false, true, true } }, nn.mask_of(a):totable())
    close({ 0, 0, -1, 0, 0, 0 }, a)
    local b = nn.with_mask(nn.ones(1, 3, 2), nn.tensor { { true, false, true } })
    assert.same({ { true, true, true } }, nn.mask_of(nn.Add {}(a, b)):totable())
    assert.is_nil(nn.mask_of(nn.Add {}(a, nn.ones(1, 3, 2))))
    assert.same({ { true, true, true } }, nn.mask_of(nn.Concatenate {}(a, b)):totable())
    for axis = -2, 2, 4 do -- along the steps
      assert.same({ { false, true, true, true, false, true } }, nn.mask_of(nn.Concatenate { axis }(a, b)):totable())
    end
    assert.is_nil(nn.mask_of(nn.Concatenate { 2 }(a, nn.ones(1, 3, 2))))
    assert.is_nil(nn.mask_of(nn.Dot { axes = 3 }(a, b)))
    assert.same({ { true, false, true } }, nn.mask_of(nn.LSTM { 1, return_sequences = true, go_backwards = true }(
      nn.with_mask(nn.ones(1, 3, 2), nn.tensor { { true, false, true } }))):totable())
    assert.truthy(message(nn.with_mask, nn.ones(2, 3, 4), nn.ones(2, 4)):find("needs a mask (N, T)", 1, true))
  end)

  it("count in pooling and in losses", function()
    local x = nn.with_mask(nn.tensor { { { 1, 2 }, { 3, 4 }, { 50, 60 } }, { { 7, 8 }, { 9, 9 }, { 9, 9 } } },
      nn.tensor { { true, true, false }, { true, false, false } })
    close({ 2, 3, 7, 8 }, nn.GlobalAveragePooling1D {}(x))
    close({ (1 + 9 + 49) / 3 }, nn.losses.mse(nn.with_mask(x[{ {}, {}, { 1, 1 } }], nn.mask_of(x)), nn.zeros(2, 3, 1)):item())
    close({ 1, 9, 0, 49, 0, 0 }, nn.losses.mse(nn.with_mask(x[{ {}, {}, { 1, 1 } }], nn.mask_of(x)), nn.zeros(2, 3, 1), { reduction = "none" }))
    local scores = { { { 2, 1 }, { 0, 3 }, { 5, 5 } }, { { 1, 1 }, { 9, 0 }, { 0, 9 } } }
    local ids = nn.tensor({ { 1, 1, 1 }, { 2, 1, 1 } }, { dtype = "i64" })
    local p = nn.parameter(scores)
    local loss = nn.losses.cross_entropy(nn.with_mask(p, nn.mask_of(x)), ids)
    close({ (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3)) + math.log(2)) / 3 }, loss:item())
    loss:backward()
    for _, at in ipairs { { 1, 3 }, { 2, 2 }, { 2, 3 } } do close({ 0, 0 }, p:grad()[at]) end
    close({ loss:item() }, nn.losses.sparse_categorical_crossentropy(nn.with_mask(nn.tensor(scores), nn.mask_of(x)), ids, { from_logits = true }))
  end)

  it("train: what is padded changes nothing", function()
    local function trained(pad)
      nn.seed(5)
      local model = nn.Sequential { nn.Input { 4 }, nn.Embedding { 6, 5, mask_zero = true }, nn.LSTM { 4, return_sequences = true }, nn.Dense { 3 } }
      model:compile { optimizer = nn.optim.SGD { lr = 0.1 }, loss = "sparse_categorical_crossentropy", from_logits = true }
      local x = nn.tensor({ { 2, 3, 1, 1 }, { 4, 5, 6, 1 } }, { dtype = "i64" })
      local y = nn.tensor({ { 1, 2, pad, pad }, { 3, 1, 2, pad } }, { dtype = "i64" })
      model:fit { x, y, epochs = 3, batch_size = 2, verbose = 0 }
      return model:layer("lstm").cell.kernel:totable()
    end
    assert.same(trained(1), trained(3))
  end)
end)

describe("recurrent layers", function()
  it("begin as Keras's: glorot, orthogonal, ones for the forget gate", function()
    nn.seed(1)
    local cell = nn.LSTMCell { 3 }
    cell:build_once { 2 }
    close({ 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0 }, cell.bias)
    local limit = math.sqrt(6 / (2 + 12))
    assert.is_true(cell.kernel:abs():amax():item() <= limit and cell.kernel:abs():amax():item() > limit / 2)
    close(nn.eye(3), cell.recurrent_kernel:matmul(cell.recurrent_kernel:transpose()), 1e-5)
    local names = {}
    local lstm, gru = nn.LSTM { 3 }, nn.GRU { 3 }
    lstm:build_once { 4, 2 }
    gru:build_once { 4, 2 }
    for i, w in ipairs(lstm:weights()) do names[i] = w.name end
    assert.same({ "cell.kernel", "cell.recurrent_kernel", "cell.bias" }, names)
    assert.same({ 2, 9 }, gru.cell.bias:shape())
  end)

  it("keep states from batch to batch when stateful", function()
    nn.seed(1)
    local x = nn.randn(2, 6, 3)
    for _, kind in ipairs { "SimpleRNN", "LSTM", "GRU" } do
      local whole, parts = nn[kind] { 4 }, nn[kind] { 4, stateful = true }
      whole:build_once { 6, 3 }
      parts:build_once { 3, 3 }
      for k, w in ipairs(parts:weights()) do w.tensor:assign(whole:weights()[k].tensor) end
      for _ = 1, 2 do
        parts(x[{ {}, { 1, 3 } }])
        close(whole(x), parts(x[{ {}, { 4, 6 } }]), 1e-5, kind)
        parts:reset_states()
      end
      parts(x)
      assert.truthy(message(parts, x[{ { 1, 1 } }]):find("reset_states", 1, true))
    end
  end)

  it("dropout: one draw for all steps, none in inference", function()
    nn.seed(6)
    for _, kind in ipairs { "SimpleRNN", "LSTM", "GRU" } do
      for _, o in ipairs { { dropout = 0.5 }, { recurrent_dropout = 0.5 } } do
        o[1], o.return_sequences, o.kernel_initializer = 8, true, "ones"
        local layer, x = nn[kind](o), nn.ones(3, 5, 6) * 0.1
        local a, b = layer(x), layer(x)
        assert.is_true((a - b):abs():sum():item() > 1e-3, kind)
        layer:eval()
        assert.equal(0, (layer(x) - layer(x)):abs():sum():item())
      end
    end
    -- of the input: with a unit kernel and no state, outputs tell which features were dropped: the same ones at each step
    local o = { 6, activation = "linear", dropout = 0.5, kernel_initializer = "identity", recurrent_initializer = "zeros" }
    local cell = nn.SimpleRNNCell(o)
    for _, layer in ipairs { nn.RNN { cell, return_sequences = true }, nn.RNN { { nn.SimpleRNNCell(o) }, return_sequences = true } } do
      local y = layer(nn.ones(4, 5, 6))
      assert.equal(0, (y - y[{ {}, { 1, 1 } }]):abs():sum():item())
      local seen = {}
      for _, v in ipairs(support.flat(y:totable())) do seen[v] = true end
      assert.same({ [0] = true, [2] = true }, seen)
    end
  end)

  it("join two directions in five ways", function()
    nn.seed(4)
    local x = nn.randn(2, 4, 3)
    local base = nn.Bidirectional { nn.GRU { 5, return_sequences = true }, merge_mode = "none" }
    local a, b = base(x)
    local forward = base.forward_layer(x)
    close(forward, a)
    close(base.backward_layer(x):flip(2), b)
    for mode, want in pairs { concat = nn.cat({ a, b }, 3), sum = a + b, mul = a * b, ave = (a + b) / 2 } do
      local layer = nn.Bidirectional { nn.GRU { 5, return_sequences = true }, merge_mode = mode }
      layer:build_once { 4, 3 }
      for k, w in ipairs(layer:weights()) do w.tensor:assign(base:weights()[k].tensor) end
      close(want, layer(x), 1e-6, mode)
      assert.same({ 4, mode == "concat" and 10 or 5 }, layer:output_shape { 4, 3 })
    end
    local layer = nn.Bidirectional { nn.LSTM { 5, return_state = true } }
    assert.equal(5, select("#", layer(x)))
    local start = {}
    for k = 1, 4 do start[k] = nn.randn(2, 5) end
    local y = layer(x, { initial_state = start })
    local one, two = layer.forward_layer(x, { initial_state = { start[1], start[2] } }), layer.backward_layer(x,
      { initial_state = { start[3], start[4] } })
    close(nn.cat({ one, two }, 2), y)
  end)

  it("apply a layer to each step", function()
    local x = nn.randn(2, 3, 4, 4, 1)
    local layer = nn.TimeDistributed { nn.Conv2D { 2, 3 } }
    local y = layer(x)
    assert.same({ 3, 2, 2, 2 }, layer:output_shape { 3, 4, 4, 1 })
    for t = 1, 3 do close(layer.layer(x[{ {}, t }]), y[{ {}, t }], 1e-5) end
  end)

  it("run cells of the user's, and one step of ours", function()
    local cell = nn.LSTMCell { 3 }
    local x = nn.randn(2, 4, 5)
    local y, states = cell(x[{ {}, 1 }])
    for t = 2, 4 do y, states = cell(x[{ {}, t }], states) end
    local layer = nn.RNN { cell, return_state = true }
    local out, h, c = layer(x)
    close(y, out)
    close(states[1], h)
    close(states[2], c)
  end)
end)

describe("places", function()
  it("SinePositionEncoding", function()
    local want = {}
    for t = 0, 2 do
      for i = 0, 4 do
        local angle = t / 100 ^ (2 * (i // 2) / 5)
        want[#want + 1] = i % 2 == 0 and math.sin(angle) or math.cos(angle)
      end
    end
    close(want, nn.SinePositionEncoding { max_wavelength = 100 }(nn.ones(1, 3, 5)), 1e-6)
    close(nn.tensor(want):reshape(1, 3, 5) + 1, nn.SinePositionEncoding { max_wavelength = 100, add = true }(nn.ones(1, 3, 5)), 1e-6)
    close(table.move(want, 6, 10, 1, {}), nn.SinePositionEncoding { max_wavelength = 100 }(nn.ones(1, 1, 5), { start_index = 1 }), 1e-6)
  end)
  it("PositionEmbedding and TokenAndPositionEmbedding", function()
    local layer = nn.PositionEmbedding { 4, init = "random_normal" }
    local y = layer(nn.ones(2, 3, 5))
    assert.same({ 2, 3, 5 }, y:shape())
    close(layer.position_embeddings[{ { 1, 3 } }], y[2])
    close(layer.position_embeddings[{ { 3, 4 } }], layer(nn.ones(1, 2, 5), { start_index = 2 })[1])
    assert.truthy(message(layer, nn.ones(2, 5, 5)):find("places for 4 steps", 1, true))
    local both = nn.TokenAndPositionEmbedding { 10, 4, 6, mask_zero = true }
    local z = both(nn.tensor({ { 3, 1 } }, { dtype = "i64" }))
    close(both.token_embedding.embeddings[3] + both.position_embedding.position_embeddings[1], z[{ 1, 1 }])
    assert.same({ { true, false } }, nn.mask_of(z):totable())
  end)
  it("RotaryEmbedding turns pairs", function()
    nn.seed(1)
    for axis, shape in pairs { [2] = { 1, 3, 2, 4 }, [3] = { 1, 2, 3, 4 } } do
      local x = nn.randn(shape)
      local y, t = nn.RotaryEmbedding { max_wavelength = 50, sequence_axis = axis }(x, { start_index = 2 }):totable(), x:totable()
      for a = 1, shape[2] do
        for b = 1, shape[3] do
          for i = 1, 2 do
            local angle = ((axis == 2 and a or b) + 1) / 50 ^ (2 * (i - 1) / 4)
            local p, q = t[1][a][b][i], t[1][a][b][i + 2]
            close({ p * math.cos(angle) - q * math.sin(angle), q * math.cos(angle) + p * math.sin(angle) },
              { y[1][a][b][i], y[1][a][b][i + 2] }, 1e-5)
          end
        end
      end
    end
    assert.truthy(message(nn.RotaryEmbedding {}, nn.ones(1, 2, 3)):find("even number", 1, true))
  end)
end)

describe("files", function()
  it("hold them all, and configurations come back", function()
    nn.seed(2)
    sequence.round_trip({ nn.Input { 5, 3 }, nn.Masking { 0 }, nn.SimpleRNN { 4, return_sequences = true, recurrent_regularizer = "l2" },
      nn.LSTM { 4, return_sequences = true, recurrent_activation = "hard_sigmoid", unit_forget_bias = false },
      nn.GRU { 4, return_sequences = true, reset_after = false, go_backwards = true, recurrent_constraint = "non_neg" },
      nn.Bidirectional { nn.GRU { 3, return_sequences = true }, backward_layer = nn.LSTM { 2, return_sequences = true, go_backwards = true } },
      nn.RNN { { nn.LSTMCell { 4, use_bias = false }, nn.GRUCell { 4 } }, return_sequences = true },
      nn.RNN { nn.SimpleRNNCell { 6, activation = "relu" }, return_sequences = true },
      nn.TimeDistributed { nn.Dense { 4, activation = "relu" } }, nn.SinePositionEncoding { add = true }, nn.PositionEmbedding { 5, add = true },
      nn.RotaryEmbedding { sequence_axis = 2 }, nn.LSTM { 2 } }, nn.randn(2, 5, 3))
    sequence.round_trip({ nn.Input { 3 }, nn.Embedding { 7, 4, mask_zero = true, embeddings_constraint = "unit_norm" }, nn.GRU { 2 } },
      nn.tensor({ { 1, 7, 2 } }, { dtype = "i64" }))
    sequence.round_trip({ nn.Input { 3 }, nn.TokenAndPositionEmbedding { 7, 3, 4 } }, nn.tensor({ { 1, 7, 2 } }, { dtype = "i64" }))
    sequence.round_trip({ nn.Input { 2, 4, 4, 1 }, nn.ConvLSTM2D { 2, { 3, 1 }, strides = { 1, 2 } } }, nn.randn(1, 2, 4, 4, 1))
  end)
end)

describe("Keras's own text", function()
  it("of them is what Keras writes, in keys and values", function()
    local case = dofile(here .. "golden/keras_rnn.lua")
    local core = require "nnlua.core"
    local theirs, layers = core.json_decode(case.config).config.layers, {}
    for i, entry in ipairs(theirs) do
      local c = require "nnlua.models".layer_class(entry.class_name)
      layers[i] = c.from_config(c, entry.config)
    end
    local seen = 0
    local function compare(ours, his, path)
      for key, value in pairs(ours) do
        local want = his[key]
        if key == "dtype" or key == "batch_input_shape" then want = nil end -- Keras 2's forms, which Keras 3 reads
        if type(value) == "table" and type(want) == "table" then
          compare(value, want, path .. "." .. key)
        elseif want ~= nil and want ~= core.json_null then
          assert.equal(want, value, path .. "." .. key)
          seen = seen + 1
        end
        assert.truthy(his[key] ~= nil or key == "batch_input_shape", path .. "." .. key)
      end
    end
    for i, entry in ipairs(require("nnlua.keras").sequential(nn.Sequential(layers):config()).layers) do
      compare(entry, theirs[i], entry.class_name)
    end
    assert.is_true(seen > 40, tostring(seen))
  end)
end)

describe("printing", function()
  it("is one line each", function()
    local function shown(layer, shape)
      layer:build_once(shape)
      return tostring(layer)
    end
    assert.equal("LSTM(3 -> 4, tanh, return_sequences)", shown(nn.LSTM { 4, return_sequences = true }, { 5, 3 }))
    assert.equal("RNN(StackedRNNCells(LSTMCell(3 -> 4, tanh), GRUCell(4 -> 2, tanh)))",
      shown(nn.RNN { { nn.LSTMCell { 4 }, nn.GRUCell { 2 } } }, { 5, 3 }))
    assert.equal("Bidirectional(GRU(3 -> 4, tanh), sum)", shown(nn.Bidirectional { nn.GRU { 4 }, merge_mode = "sum" }, { 5, 3 }))
    assert.equal("TimeDistributed(Dense(3 -> 2))", shown(nn.TimeDistributed { nn.Dense { 2 } }, { 5, 3 }))
    assert.equal("Embedding(7 -> 4, mask_zero)", shown(nn.Embedding { 7, 4, mask_zero = true }, { 5 }))
    assert.equal("ConvLSTM2D(2, 3x3)", shown(nn.ConvLSTM2D { 2, 3 }, { 5, 4, 4, 1 }))
  end)
end)

describe("wrong use names the layer and what to do", function()
  local x = nn.ones(2, 4, 3)
  for name, case in pairs {
    ["needs sequences (N, T, C)"] = function() nn.LSTM { 4 }(nn.ones(2, 3)) end,
    ["lstm: needs sequences"] = function() nn.Sequential { nn.Input { 3 }, nn.LSTM { 4 } } end,
    ["sequential/gru: "] = function()
      local model = nn.Sequential { nn.Input { 4, 3 }, nn.GRU { 4 }, name = "sequential" }
      model:layer("gru").cell.recurrent_kernel = nn.ones(5, 12)
      model(x)
    end,
    ['unknown option "unit"; did you mean "units"?'] = function() nn.LSTM { unit = 4 } end,
    ['option "units" is missing'] = function() nn.GRU {} end,
    ["the initial state must be 2 tensors, got 1"] = function() nn.LSTM { 4 }(x, { initial_state = { nn.ones(2, 4) } }) end,
    ["state 2 of the initial state must be (2, 4), got (2, 5)"] = function()
      nn.LSTM { 4 }(x, { initial_state = { nn.ones(2, 4), nn.ones(2, 5) } })
    end,
    ["the mask must be (2, 4): (N, T), got (2, 3)"] = function() nn.GRU { 4 }(x, { mask = nn.ones(2, 3) }) end,
    ['unknown option "masks"; did you mean "mask"?'] = function() nn.GRU { 4 }(x, { masks = nn.ones(2, 3) }) end,
    ["RNN: needs a cell"] = function() nn.RNN { { 4 } } end,
    ["RNN: needs a cell, like nn.LSTMCell{32}, got Dense"] = function() nn.RNN { nn.Dense { 4 } } end,
    ["StackedRNNCells: cell 2 must be a cell"] = function() nn.RNN { { nn.GRUCell { 4 }, nn.Dense { 4 } } } end,
    ["Bidirectional: needs a recurrent layer"] = function() nn.Bidirectional { nn.Dense { 3 } } end,
    ["one of the layers must go forwards"] = function() nn.Bidirectional { nn.GRU { 3 }, backward_layer = nn.GRU { 3 } } end,
    ["TimeDistributed: needs a layer"] = function() nn.TimeDistributed { { 3 } } end,
    ["needs sequences (N, T, ...)"] = function() nn.TimeDistributed { nn.Dense { 3 } }(nn.ones(2, 3)) end,
    ["id 9 at position 1 is not in 1..5"] = function() nn.Embedding { 5, 2 }(nn.tensor({ { 9 } }, { dtype = "i64" })):totable() end,
    ["needs sequences of images"] = function() nn.ConvLSTM2D { 2, 3 }(x) end,
    ["the window does not fit"] = function() nn.ConvLSTM2D { 2, 3 }(nn.ones(1, 2, 2, 2, 1)) end,
  } do
    it(name, function()
      local m = message(case)
      assert.truthy(m:find(name, 1, true), m)
    end)
  end
end)

-- Volumes and sequences of size 1 along some axes are images, and images of width 1 are sequences: the same sums, to which golden/sequence.lua holds
-- ConvLSTM2D.
describe("ConvLSTM1D and 3D", function()
  -- `c` on x, and `other` on x in another shape: values, gradients of input and kernels. `places` has the window's sizes where both have them.
  local function same(c, other, x, shape)
    local a, b = c, other
    local xa, xb = x:requires_grad(true), x:detach():reshape(shape):requires_grad(true)
    a(xa)
    b(xb)
    for i, w in ipairs(a:weights()) do
      local to = b:weights()[i].tensor
      local drawn = nn.randn(w.tensor:shape()) * 0.4
      w.tensor:assign(drawn)
      to:assign(drawn:reshape(to:shape()))
    end
    local ya, yb = a(xa), b(xb)
    support.close(ya:reshape(-1):totable(), yb:reshape(-1), 1e-5, "values")
    ;(ya * ya):sum():backward()
    ;(yb * yb):sum():backward()
    support.close(xa:grad():reshape(-1):totable(), xb:grad():reshape(-1), 1e-4, "gradient of the input")
    for i, w in ipairs(a:weights()) do
      support.close(w.tensor:grad():reshape(-1):totable(), b:weights()[i].tensor:grad():reshape(-1), 1e-3, "gradient of " .. w.name)
    end
    return ya:shape()
  end

  it("compute as ConvLSTM2D does", function()
    nn.seed(5)
    for _, o in ipairs { {}, { padding = "same", strides = 2 }, { dilation_rate = 2 }, { padding = "same", return_sequences = true } } do
      local function of(class, size, more)
        local given = { 2, size }
        for key, value in pairs(o) do
          if type(value) == "number" then value = more(value) end
          given[key] = value
        end
        return class(given)
      end
      local x = nn.randn(2, 3, 7, 3)
      local function first(v) return { v, 1 } end
      same(of(nn.ConvLSTM1D, 3, function(v) return v end), of(nn.ConvLSTM2D, { 3, 1 }, first), x, { 2, 3, 7, 1, 3 })
      x = nn.randn(2, 2, 6, 7, 2)
      for at = 1, 3 do -- the axis of size 1
        local size, shape = { 3, 2 }, { 6, 7 }
        table.insert(size, at, 1)
        table.insert(shape, at, 1)
        same(of(nn.ConvLSTM2D, { 3, 2 }, function(v) return { v, 1 } end), of(nn.ConvLSTM3D, size, function(v)
          local list = { v, 1 }
          table.insert(list, at, 1)
          return list
        end), x, { 2, 2, shape[1], shape[2], shape[3], 2 })
      end
    end
  end)

  it("tell shapes without running, and a file holds them", function()
    for _, case in ipairs { { nn.ConvLSTM1D { 2, 3, strides = 2, return_sequences = true }, { 2, 6, 3 } },
      { nn.ConvLSTM3D { 2, { 1, 2, 3 }, padding = "same", strides = { 1, 2, 1 } }, { 2, 3, 4, 5, 1 } } } do
      sequence.round_trip({ nn.Input(case[2]), case[1] }, nn.randn { 2, table.unpack(case[2]) })
      local y, told = case[1](nn.randn { 2, table.unpack(case[2]) }):shape(), case[1]:output_shape(case[2])
      table.insert(told, 1, 2)
      assert.same(told, y)
    end
    for text, f in pairs {
      ["needs sequences of sequences (N, T, L, C)"] = function() nn.ConvLSTM1D { 2, 3 }(nn.ones(2, 4, 4, 4, 1)) end,
      ["needs sequences of volumes (N, T, D, H, W, C)"] = function() nn.ConvLSTM3D { 2, 3 }(nn.ones(2, 4, 4, 4, 1)) end,
      ["must be an integer or three of them, at least 1, got {3, 3}"] = function() nn.ConvLSTM3D { 2, { 3, 3 } }(nn.ones(1, 2, 4, 4, 4, 1)) end,
      ["must be an integer, at least 1, got {3, 3}"] = function() nn.ConvLSTM1D { 2, { 3, 3 } }(nn.ones(1, 2, 4, 1)) end,
    } do
      local ok, told = pcall(f)
      assert(not ok and told:find(text, 1, true), told)
    end
  end)
end)
