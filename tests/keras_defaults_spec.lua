-- The options of layers, optimizers, losses, metrics, initializers, regularizers, constraints and schedules are Keras's, with its defaults
-- (golden/keras_defaults.lua, read from Keras's source): whatever differs is listed here with the reason, and so is what Keras has and nnlua has not.
-- And every weight of every layer has its initializer, regularizer and constraint, and masks are kept where Keras keeps them.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local keras = dofile(here .. "golden/keras_defaults.lua")

local function words(text)
  local set = {}
  for word in text:gmatch "[%w_%.]+" do set[word] = true end
  return set
end

-- Options of Keras that have no meaning here: of its back ends, its quantization, its sparse and ragged tensors; seed: nn.seed is of everything;
-- axis of a loss or metric: the last dim; data_format: channels last; weights: load_state; input_axes: kernels have one layout.
local meaningless = words [[lora_rank lora_alpha quantization_config gptq_unpacked_column_size flash_attention use_cudnn autocast sparse seed weights
  input_axes output_axes loss_scale_factor data_format dtype name]]

-- Class.option: not here, or otherwise.
local others = {
  layers = words [[BatchNormalization.renorm BatchNormalization.renorm_clipping BatchNormalization.renorm_momentum BatchNormalization.synchronized
    RandomFlip.mode Discretization.epsilon GroupedQueryAttention.sliding_window GroupedQueryAttention.use_gate
    MultiHeadAttention.attention_axes MultiHeadAttention.sliding_window MultiHeadAttention.use_gate Lambda.mask Lambda.arguments
    Resizing.antialias
    TextVectorization.ngrams TextVectorization.pad_to_max_tokens
    TextVectorization.idf_weights TextVectorization.ragged TextVectorization.encoding
    StringLookup.idf_weights StringLookup.pad_to_max_tokens StringLookup.encoding StringLookup.salt
    IntegerLookup.idf_weights IntegerLookup.pad_to_max_tokens IntegerLookup.vocabulary_dtype IntegerLookup.oov_method IntegerLookup.salt
    Hashing.salt CategoryEncoding.num_tokens AveragePooling1D.pool_size AveragePooling2D.pool_size AveragePooling3D.pool_size]],
  optimizers = {}, initializers = {}, regularizers = {}, constraints = {}, schedules = {},
  metrics = words [[AUC.multi_label AUC.num_labels AUC.label_weights CosineSimilarity.axis IoU.num_classes
    IoU.target_class_ids IoU.ignore_class IoU.sparse_y_true IoU.sparse_y_pred IoU.axis MeanIoU.num_classes MeanIoU.ignore_class
    MeanIoU.sparse_y_true MeanIoU.sparse_y_pred MeanIoU.axis AUC.curve]],
  losses = words [[BinaryCrossentropy.axis BinaryFocalCrossentropy.axis CategoricalCrossentropy.axis CategoricalFocalCrossentropy.axis
    CosineSimilarity.axis Dice.axis SparseCategoricalCrossentropy.axis Tversky.axis]],
}

-- What Keras has under a name that nnlua has not: augmentation is nn.data's; classes to derive from; metrics that are losses by name or
-- methods of one.
local absent = {
  layers = words [[AugMix AutoContrast CenterCrop ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization
    FeatureSpace HashedCrossing InputLayer InputSpec MaxNumBoundingBoxes MelSpectrogram MixUp Pipeline RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomGaussianBlur
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomSaturation RandomSharpness RandomShear
    ReversibleEmbedding STFTSpectrogram Solarization TernaryDense Wrapper]],
  optimizers = words "LegacyOptimizerWarning LossScaleOptimizer MultiOptimizer OptimizerMap ScheduleFreeAdamW",
  initializers = words "STFT", regularizers = {}, constraints = {}, schedules = {},
  metrics = words [[BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy CategoricalHinge ConcordanceCorrelation F1Score
    FBetaScore FalseNegatives FalsePositives Hinge KLDivergence LogCoshError MeanAbsoluteError MeanAbsolutePercentageError
    MeanMetricWrapper MeanSquaredError
    MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson PrecisionAtRecall R2Score RecallAtPrecision
    SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity
    SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives]],
  losses = words "CategoricalGeneralizedCrossEntropy KLDivergence Loss",
}

local function by_keras_name(family)
  return function(name)
    for _, value in next, nn[family] do
      if type(value) == "table" and value.keras == name then return value end
    end
  end
end

local find = {
  layers = function(name)
    local ok, value = pcall(function() return nn[name] end)
    return ok and value or nil
  end,
  optimizers = function(name) return rawget(nn.optim, name) end,
  metrics = function(name) return rawget(nn.metrics, name) end,
  losses = function(name)
    local f = rawget(nn.losses, (name:gsub("(%l)(%u)", "%1_%2"):lower()))
    return f and { options = getmetatable(nn.losses).rules_of[f] }
  end,
}
for _, family in ipairs { "initializers", "regularizers", "constraints", "schedules" } do find[family] = by_keras_name(family) end

-- { 2, 2 } is 2; dims count from 1; "" and false are nothing.
local function plain(value)
  if type(value) ~= "table" then return value end
  local first, equal, list = plain(value[1]), true, {}
  for i, v in ipairs(value) do
    list[i] = plain(v)
    equal = equal and list[i] == first
  end
  return equal and first or table.concat(list, " ")
end

-- Defaults that are written otherwise: option -> Keras's -> ours.
local written = {
  activation = { None = "linear" }, reduction = { sum_over_batch_size = "mean" },
  weight_decay = { None = 0 }, gradient_accumulation_steps = { None = 1 }, alpha_initializer = { Zeros = "zeros" },
}

local function same_default(family, key, told, ours)
  if family == "constraints" and key == "axis" then return ours == told + 1 end -- dims count from 1
  local w = written[key] and written[key][told]
  if w ~= nil and ours == w then return true end
  if told == "None" or told == "" then return ours == nil end
  return plain(told) == plain(ours)
end

for family in pairs(find) do
  local classes = keras[family]
  describe(family .. ":", function()
    local names = {}
    for name in pairs(classes) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      local class = find[family](name)
      if class then
        it(name, function()
          assert(not absent[family][name], "is there, and listed as absent")
          local spec, aliases = class.options or {}, class.aliases or {}
          for _, option in ipairs(classes[name]) do
            local key, told = aliases[option[1]] or option[1], option[2]
            local listed = others[family][name .. "." .. option[1]]
            local rule = spec[key] or key == "trainable" and { default = true } or key == "activity_regularizer" and {}
            local fits
            if meaningless[option[1]] or key == "self" then
              fits, listed = true, false
            elseif not rule then
              fits = false
            elseif told == nil then
              fits = rule.required or false
            else
              fits = not rule.required and same_default(family, key, told, rule.default)
            end
            assert(fits ~= (listed or false), ("%s: Keras has %s, nnlua %s%s"):format(option[1], tostring(told),
              rule and tostring(rule.default) or "none", listed and ", which is listed as an exception" or ""))
          end
        end)
      else
        it(name .. " is not here, as listed", function() assert(absent[family][name], name .. " is missing") end)
      end
    end
  end)
end

-- ---- the options of weights ------------------------------------------------------------------------------------------

-- Weights that Keras gives no regularizer and constraint (r), or no initializer of their own either (i).
local bare = {
  RMSNorm = "ir", PositionEmbedding = "r", TokenAndPositionEmbedding = "r", TransformerEncoder = "ir", TransformerDecoder = "ir", Attention = "ir",
  AdditiveAttention = "ir",
}

describe("every weight has its initializer, regularizer and constraint:", function()
  local seen = {}
  local function evaluate(code, env) return assert(load("return " .. code, "=" .. code, "t", env))() end
  local function tensor(entry) return nn.tensor(entry[2], { dtype = "f32" }):reshape(entry[1]) end

  local function check(code, call, env)
    local class = code:match "^nn%.(%w+)"
    local wraps = code:find("nn%.", 4) -- the layer inside has the options
    if seen[class] or wraps then return end
    seen[class] = true
    it(class, function()
      local layer = evaluate(code, { nn = nn })
      local spec, config = getmetatable(layer).options, layer:config()
      for key in pairs(spec) do
        if key:find "initializer$" then config[key] = nn.initializers.constant { 0.25 }:config() end
        if key:find "_regularizer$" then config[key] = nn.regularizers.l1 { 1 }:config() end
        if key:find "_constraint$" then config[key] = nn.constraints.non_neg {}:config() end
      end
      if spec.unit_forget_bias then config.unit_forget_bias = false end
      local marked = getmetatable(layer).from_config(getmetatable(layer), config)
      env.layer = marked
      evaluate(call, env)
      local lacks, total = bare[class] or "", 0
      local parameters = marked:named_parameters()
      for _, w in ipairs(parameters) do
        total = total + 0.25 * w.tensor:numel()
        if not lacks:find "i" then
          support.close((nn.zeros_like(w.tensor) + 0.25):totable(), w.tensor, 0, w.name .. "'s initializer")
        end
      end
      if lacks:find "r" or #parameters == 0 then return end
      support.close({ total }, { marked:regularization():item() }, 1e-6, "regularizers")
      local opt = nn.optim.SGD { marked:parameters(), lr = 1 }
      for _, w in ipairs(parameters) do w.tensor:set_grad(nn.zeros_like(w.tensor) + 1) end
      opt:step() -- to -0.75, which the constraint puts back to 0
      for _, w in ipairs(parameters) do support.close(nn.zeros_like(w.tensor):totable(), w.tensor, 0, w.name .. "'s constraint") end
    end)
  end

  for _, c in ipairs(dofile(here .. "golden/layers.lua")) do
    if next(c.weights) then
      local env, names = { nn = nn }, {}
      for i, entry in ipairs(c.inputs) do
        names[i] = "x" .. i
        env[names[i]] = tensor(entry)
      end
      check(c.layer, ("layer(%s)"):format(table.concat(names, ", ")), env)
    end
  end
  for _, c in ipairs(dofile(here .. "golden/sequence.lua")) do
    if #c.weights > 0 then
      local env = { nn = nn }
      for name, entry in pairs(c.inputs) do env[name] = tensor(entry) end
      check(c.layer, c.call, env)
    end
  end
end)

-- ---- masks -----------------------------------------------------------------------------------------------------------

-- Layers that know of masks in Keras: how each is made here, its input where it is not (2, 3, 4), and whether its result has none.
local masked = {
  Activation = { { "relu" } }, ActivityRegularization = { { 0.1 } }, AlphaDropout = { { 0.5 } }, BatchNormalization = { {} }, Dense = { { 5 } },
  Dropout = { { 0.5 } }, ELU = { {} }, GaussianDropout = { { 0.5 } }, GaussianNoise = { { 0.5 } }, GroupNormalization = { { 2 } }, Identity = { {} },
  LayerNormalization = { {} }, LeakyReLU = { {} }, Normalization = { {} }, PReLU = { {} }, ReLU = { {} }, Rescaling = { { 2 } }, Softmax = { {} },
  UnitNormalization = { {} }, SpatialDropout1D = { { 0.5 } }, SpatialDropout2D = { { 0.5 }, { 2, 3, 2, 4 } },
  SpatialDropout3D = { { 0.5 }, { 2, 3, 2, 2, 4 } }, MultiHeadAttention = { { 2, 2 } }, GroupedQueryAttention = { { 2, 2, 1 } }, Attention = { {} },
  AdditiveAttention = { {} }, LSTM = { { 3, return_sequences = true } }, GRU = { { 3, return_sequences = true } },
  SimpleRNN = { { 3, return_sequences = true } }, RNN = { { nn.LSTMCell { 3 }, return_sequences = true } },
  Bidirectional = { { nn.LSTM { 3, return_sequences = true } } },
  ConvLSTM1D = { { 2, 2, return_sequences = true }, { 2, 3, 4, 1 } }, ConvLSTM3D = { { 2, 2, return_sequences = true }, { 2, 3, 4, 4, 4, 1 } },
  ConvLSTM2D = { { 2, 2, return_sequences = true }, { 2, 3, 4, 4, 1 } }, Add = { {}, several = true }, Average = { {}, several = true },
  Maximum = { {}, several = true }, Minimum = { {}, several = true }, Multiply = { {}, several = true }, Subtract = { {}, several = true },
  Concatenate = { {}, several = true }, Dot = { { axes = { 3, 3 } }, several = true, none = true }, GlobalAveragePooling1D = { {}, none = true },
  Lambda = { { function(x) return x * 2 end }, none = true }, -- Keras's drops it too, unless it is told a mask
  Embedding = "recurrent_layers_spec: makes one", Masking = "recurrent_layers_spec: makes one",
}

describe("masks:", function()
  for _, name in ipairs(keras.masks) do
    if not absent.layers[name] then
      local case = assert(masked[name], name .. " has no case")
      if type(case) == "table" then
        it(name, function()
          local mask = nn.tensor { { true, true, false }, { true, false, true } }
          local x = nn.with_mask(nn.randn(table.unpack(case[2] or { 2, 3, 4 })), mask)
          local layer = nn[name](case[1])
          local y = case.several and layer(x, nn.with_mask(x * 2, mask)) or layer(x)
          if case.none then assert.is_nil(nn.mask_of(y)) else assert.same(mask:totable(), nn.mask_of(y):totable()) end
        end)
      end
    end
  end
end)
