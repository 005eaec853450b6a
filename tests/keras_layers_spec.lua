-- lua/nnlua/keras*.lua: every layer that Keras has too goes through .keras, .h5 (read as Keras's own) and .weights.h5 with equal
-- predictions. The list of layers is Keras's (golden/keras_defaults.lua): one that is neither tested nor named as absent fails.
local nn = require "nnlua"
local core = require "nnlua.core"
local zip = require "nnlua.zip"
local keras_files = require "nnlua.keras_files"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local listed = dofile(here .. "golden/keras_defaults.lua").layers
local temporary = files.temporary

local IMAGE, SERIES, VECTOR, VOLUME = { 6, 6, 3 }, { 5, 4 }, { 6 }, { 4, 4, 4, 2 }

-- What is tested: Keras's name -> shape of a sample, then options (several: several models), made when the test runs.
local cells = {
  lstm = function() return nn.LSTMCell { 3 } end,
  gru = function() return nn.GRUCell { 3 } end,
  simple = function() return nn.SimpleRNNCell { 3 } end,
}
local rows = {
  Activation = { VECTOR, { "tanh" }, { "gelu" } },
  ActivityRegularization = { VECTOR, { l1 = 0.1, l2 = 0.2 } },
  AlphaDropout = { VECTOR, { 0.3 } }, Dropout = { VECTOR, { 0.3 }, { 0.3, noise_shape = { -1, 1 } } }, GaussianDropout = { VECTOR, { 0.3 } },
  GaussianNoise = { VECTOR, { 0.3 } }, Dense = { VECTOR, { 4, activation = "relu" }, { 4, use_bias = false, kernel_regularizer = "l2",
    kernel_constraint = nn.constraints.max_norm { 2 } } },
  BatchNormalization = { IMAGE, {}, { axis = 2 }, { center = false, scale = false } },
  LayerNormalization = { SERIES, {}, { axis = { 2, 3 } }, { center = false } },
  GroupNormalization = { { 6, 6, 4 }, { groups = 2 } }, RMSNormalization = { SERIES, {} }, UnitNormalization = { SERIES, {}, { axis = 2 } },
  SpectralNormalization = { VECTOR, function() return nn.SpectralNormalization { nn.Dense { 4 } } end },
  CategoryEncoding = { { 3 }, { 5 }, { 5, output_mode = "count" }, ids = 5 },
  Discretization = { { 3 }, { { -0.5, 0.1, 0.7 } }, { { -0.5, 0.5 }, output_mode = "one_hot" } },
  Normalization = { IMAGE, {}, { axis = false }, { axis = { 2, 4 } }, { mean = 2, variance = 3 }, { mean = { 1, 2, 3 }, variance = { 1, 2, 3 } },
    { invert = true } },
  Rescaling = { IMAGE, { 1 / 255 }, { 2, offset = -1 }, { { 1, 2, 3 }, { 4, 5, 6 } } },
  Resizing = { IMAGE, { 4, 5 }, { 8, 8, interpolation = "nearest" } },
  Bidirectional = { SERIES, function() return nn.Bidirectional { nn.LSTM { 3, return_sequences = true } } end,
    function() return nn.Bidirectional { nn.GRU { 3 }, merge_mode = "sum" } end },
  TimeDistributed = { { 3, 6, 6, 2 }, function() return nn.TimeDistributed { nn.Conv2D { 2, 3 } } end,
    function() return nn.TimeDistributed { nn.Sequential { nn.Flatten {}, nn.Dense { 2 } } } end },
  ConvLSTM1D = { { 3, 6, 2 }, { 2, 3 } }, ConvLSTM3D = { { 2, 4, 4, 4, 2 }, { 2, 3, padding = "same" } },
  ConvLSTM2D = { { 3, 6, 6, 2 }, { 2, 3 }, { 2, 3, padding = "same", return_sequences = true } },
  LSTM = { SERIES, { 3 }, { 3, return_sequences = true, go_backwards = true }, { 3, use_bias = false } },
  GRU = { SERIES, { 3 }, { 3, reset_after = false } }, SimpleRNN = { SERIES, { 3 } },
  RNN = { SERIES, function() return nn.RNN { cells.lstm() } end, function() return nn.RNN { cells.gru(), return_sequences = true } end,
    function() return nn.RNN { cells.simple() } end },
  StackedRNNCells = { SERIES, function() return nn.RNN { nn.StackedRNNCells { cells.lstm(), cells.gru(), cells.simple() } } end,
    function() return nn.RNN { nn.StackedRNNCells { cells.lstm(), cells.lstm() }, return_sequences = true } end },
  LSTMCell = { SERIES, function() return nn.RNN { nn.LSTMCell { 3, use_bias = false } } end },
  GRUCell = { SERIES, function() return nn.RNN { nn.GRUCell { 3, reset_after = false } } end },
  SimpleRNNCell = { SERIES, function() return nn.RNN { nn.SimpleRNNCell { 3, activation = "relu" } } end },
  Embedding = { { 4 }, { 7, 3 }, { 7, 3, mask_zero = true }, ids = 7 }, Masking = { SERIES, { mask_value = 0 } },
  EinsumDense = { SERIES, { "abc,cd->abd", output_shape = { -1, 6 }, bias_axes = "d" }, { "...x,xy->...y", output_shape = 6 } },
  Flatten = { IMAGE, {} }, Identity = { VECTOR, {} }, Permute = { IMAGE, { 2, 1, 3 } }, RepeatVector = { VECTOR, { 3 } },
  Reshape = { VECTOR, { 3, 2 }, { -1, 2 } },
  ReLU = { VECTOR, {}, { max_value = 6, negative_slope = 0.1, threshold = 0.2 } }, LeakyReLU = { VECTOR, {}, { 0.05 } }, ELU = { VECTOR, { 0.5 } },
  PReLU = { IMAGE, {}, { shared_axes = { 2, 3 } } }, Softmax = { SERIES, {}, { axis = 2 } },
  SpatialDropout1D = { SERIES, { 0.2 } }, SpatialDropout2D = { IMAGE, { 0.2 } }, SpatialDropout3D = { VOLUME, { 0.2 } },
  RandomFlip = { IMAGE, {}, { "horizontal" } }, RandomGrayscale = { IMAGE, { 0.5 } }, RandomRotation = { IMAGE, { 0.1 } },
  RandomTranslation = { IMAGE, { 0.1, 0.1 } }, RandomZoom = { IMAGE, { 0.1 } },
  Concatenate = { VECTOR, "pair", {} }, Dot = { VECTOR, "pair", { axes = 2 }, { axes = 2, normalize = true } },
  Attention = { SERIES, "pair", {}, { use_scale = true, score_mode = "concat" } }, AdditiveAttention = { SERIES, "pair", {} },
  MultiHeadAttention = { SERIES, "apart", { num_heads = 2, key_dim = 3 }, { num_heads = 2, key_dim = 3, value_dim = 2, use_bias = false,
    output_shape = 5 } },
  GroupedQueryAttention = { SERIES, "apart", { head_dim = 4, num_query_heads = 4, num_key_value_heads = 2 } },
}
for _, name in ipairs { "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum" } do rows[name] = { VECTOR, "pair", {} } end
for rank, shape in ipairs { { 9, 2 }, { 9, 8, 2 }, { 5, 6, 5, 2 } } do
  local function row(pattern, ...) rows[pattern:format(rank)] = { shape, ... } end
  row("Conv%dD", { 4, 3 }, { 4, 2, strides = 2, padding = "same", groups = 2, activation = "relu" }, { 4, 2, dilation_rate = 2, use_bias = false })
  row("Conv%dDTranspose", { 4, 3 }, { 4, 2, strides = 2, padding = "same" })
  if rank < 3 then
    row("DepthwiseConv%dD", { 3 }, { 2, depth_multiplier = 2, padding = "same" })
    row("SeparableConv%dD", { 4, 3 }, { 4, 2, depth_multiplier = 2, use_bias = false })
  end
  for _, kind in ipairs { "Max", "Average" } do
    row(kind .. "Pooling%dD", { 2 }, { 3, strides = 2, padding = "same" })
    row("Global" .. kind .. "Pooling%dD", {}, { keepdims = true })
    row("Adaptive" .. kind .. "Pooling%dD", { 2 })
  end
  row("ZeroPadding%dD", { 2 })
  row("Cropping%dD", { 1 })
  row("UpSampling%dD", { 2 })
end

-- Is each layer of a config.json one of Keras's own, and none of the user's?
local function all_of_keras(value)
  for key, item in pairs(type(value) == "table" and value ~= core.json_null and value or {}) do
    if key == "registered_name" and item ~= core.json_null then return false, item end
    local ok, what = all_of_keras(item)
    if not ok then return false, what end
  end
  return true
end

-- Layers that both have and that are not written for Keras: code, what to derive from, a hash that is not its own, a vocabulary (an asset there).
local without_words = { Lambda = true, Layer = true, Hashing = true, TextVectorization = true, StringLookup = true, IntegerLookup = true }

local function model_of(name, how, shape, given, ids)
  local function make() return type(given) == "function" and given() or nn[name](given) end
  if how == "pair" then
    local a, b = nn.Input { shape = shape, name = "a" }, nn.Input { shape = shape, name = "b" }
    return nn.Model { inputs = { a, b }, outputs = make() { a, b } }
  elseif how == "apart" then
    local a, b = nn.Input { shape = shape, name = "a" }, nn.Input { shape = shape, name = "b" }
    return nn.Model { inputs = { a, b }, outputs = make()(a, b) }
  end
  return nn.Sequential { nn.Input { shape = shape, dtype = ids and "i64" or nil }, make() }
end

describe("layer by layer, files of Keras's carry", function()
  teardown(files.clean)

  for name in pairs(listed) do
    local there = pcall(function() return nn[name] end)
    local row = rows[name]
    if there and row then
      it(name, function()
        local how = type(row[2]) == "string" and row[2] or nil
        for k = how and 3 or 2, #row do
          nn.seed(k)
          local model = model_of(name, how, row[1], row[k], row.ids)
          for _, w in ipairs(model:weights()) do -- no weight is what it starts as
            if w.tensor:dtype() == "f32" then w.tensor:assign(w.tensor + nn.rand(w.tensor:shape()) * 0.5) end
          end
          local batch = table.move(row[1], 1, #row[1], 2, { 3 })
          local function draw() return row.ids and nn.randint(1, row.ids, batch) or nn.randn(batch) end
          local x = how and { draw(), draw() } or draw()
          local want = model:predict(x)
          local spot = ("%s, row %d: "):format(name, k)
          local function check(back, what)
            local far = (want - back:predict(x)):abs():max():item()
            assert.message(spot .. what .. " differs by " .. far).is_true(far == 0)
          end
          for _, ending in ipairs { ".keras", ".h5" } do
            local file = temporary(ending)
            local ok, message = pcall(model.save, model, file)
            assert.message(spot .. tostring(message)).is_true(ok)
            if ending == ".keras" then
              local members = assert(zip.open(file))
              local fine, what = all_of_keras(assert(core.json_decode((members.read "config.json"))))
              members.close()
              assert.message(spot .. tostring(what) .. " is written as a layer of the user's").is_true(fine)
            end
            local back
            back, message = keras_files.load(file)
            assert.message(spot .. ending .. ": " .. tostring(message)).truthy(back)
            check(back, ending)
          end
          local weights = temporary ".weights.h5"
          assert(model:save_weights(weights))
          nn.seed(99)
          local other = model_of(name, how, row[1], row[k], row.ids)
          local ok, message = other:load_weights(weights)
          assert.message(spot .. tostring(message)).truthy(ok)
          check(other, ".weights.h5")
        end
      end)
    elseif there then
      it(name .. ": no words for it", function() assert.message(name .. " is not in the table").is_true(without_words[name]) end)
    end
  end
end)
