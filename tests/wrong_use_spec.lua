-- Wrong use of the library (of operators: errors_spec, ops_spec): every message is one line at the line of the user, names the path of the layer,
-- tells what was expected and what came, and of a misspelt name the nearest one.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it, pending)

local function seq(...) return nn.Sequential { ... } end
local function compiled(...) return seq(...):compile { optimizer = "sgd", loss = "mse" } end
local function ids(...) return nn.tensor({ ... }, { dtype = "i64" }) end
local x = nn.ones(2, 5)

local Net = nn.class("Net", nn.Module)
function Net:init() self.encoder = seq(nn.Dense { 4 }, nn.Dropout { 0.5 }, nn.Dense { 2 }) end
function Net:forward(input) return self.encoder(input) end
local net, twice = Net(), {}
net(x)
for name, layer in pairs { -- layers that were built for five features
  dense = nn.Dense { 3 }, norm = nn.LayerNorm {}, batch = nn.BatchNorm {}, rms = nn.RMSNorm {},
} do
  twice[name] = layer
  layer(x)
end
twice.lstm, twice.attention, twice.conv = nn.LSTM { 3 }, nn.MultiHeadAttention { 2, 4 }, nn.Conv2D { 4, 3, name = "stem" }
twice.lstm(nn.ones(2, 4, 5))
twice.attention(nn.ones(2, 4, 5))
twice.conv(nn.ones(1, 5, 5, 3))
nn.eval() -- or a run that fails loses what was not computed yet
local Half = nn.class("Half", nn.Layer)
function Half:forward(input) return input:matmul(nn.ones(3, 3)) end -- luacheck: no unused args
local Scale = nn.class("Scale", nn.Layer)
Scale.options = { start = { "number" } }
local a, b = nn.Input { 3 }, nn.Input { 4, name = "second" }

-- kind -> { { message (of several: each is in it; with a capital, the first begins it), call, in_forward: the line is in a layer of the user's } }
local cases = {
  ["shapes"] = {
    { "Sequential/input: the model takes batches (N, 8), got a tensor of shape (2, 5)", function() seq(nn.Input { 8 }, nn.Dense { 4 })(x) end },
    { "Sequential/conv2d: needs images (N, H, W, C), got samples of shape 4", function() seq(nn.Dense { 4 }, nn.Conv2D { 3, 3 })(x) end },
    { { "Net/encoder/dense: linear: ", "it was built for samples of shape 5, got 6" }, function() net(nn.ones(2, 6)) end },
    { "Sequential/sequential/max_pooling2d: needs images", function() seq(seq(nn.Dense { 4 }, nn.MaxPooling2D {}))(x) end },
    { "Sequential/second: needs sequences (N, T, C), got samples of shape 4",
      function() seq(nn.Dense { 4, name = "first" }, nn.Conv1D { 2, 3, name = "second" })(x) end },
    { "Sequential/lstm: needs sequences (N, T, C), got samples of shape 5", function() seq(nn.Input { 5 }, nn.LSTM { 3 }) end },
    { "Sequential/conv2d: needs images (N, H, W, C), got samples of shape 64",
      function() seq(nn.Input { 8, 8, 1 }, nn.Flatten {}, nn.Conv2D { 4, 3 }) end },
    { "Sequential/conv2d_1: a window of 3x3 does not fit, got samples of shape 1x1x4",
      function() seq(nn.Input { 4, 4, 1 }, nn.Conv2D { 4, 3 }, nn.MaxPooling2D {}, nn.Conv2D { 4, 3 }) end },
    { "Sequential/dense: a weight of shape ?x3 cannot be made; that size of the input must be known",
      function() seq(nn.Input { -1, -1 }, nn.Dense { 3 }) end },
    { "Sequential/half: matmul: inner sizes differ: (2x5) x (3x3): 5 vs 3", function() seq(nn.Input { 5 }, Half {})(x) end, in_forward = true },
    { "Conv2D: needs images (N, H, W, C), got samples of shape 5", function() nn.Conv2D { 4, 3 }(x) end },
    { { "stem: conv2d: ", "1 channels", "takes 3", "it was built for samples of shape 5x5x3, got 5x5x1" },
      function() twice.conv(nn.ones(1, 5, 5, 1)) end },
    { { "Dense: linear: ", "it was built for samples of shape 5, got 7" }, function() twice.dense(nn.ones(2, 7)) end },
    { { "LayerNorm: ", "it was built for samples of shape 5, got 7" }, function() twice.norm(nn.ones(2, 7)) end },
    { { "BatchNorm: ", "it was built for samples of shape 5, got 7" }, function() twice.batch(nn.ones(2, 7)) end },
    { { "RMSNorm: ", "it was built for samples of shape 5, got 7" }, function() twice.rms(nn.ones(2, 7)) end },
    { { "LSTM: linear: ", "it was built for samples of shape 4x5, got 4x7" }, function() twice.lstm(nn.ones(2, 4, 7)) end },
    { "MultiHeadAttention: query: was built for 5 features, got (2, 4, 6)", function() twice.attention(nn.ones(2, 4, 6)) end },
    { "MultiHeadAttention: needs sequences (N, T, C), the query is (2, 5)", function() nn.MultiHeadAttention { 2, 4 }(x) end },
    { "MultiHeadAttention: attention_mask must be (N, 4, 4), got (2, 3, 3)",
      function() twice.attention(nn.ones(2, 4, 5), { attention_mask = nn.ones(2, 3, 3) }) end },
    { "LSTM: needs sequences (N, T, C), got samples of shape 5", function() nn.LSTM { 3 }(x) end },
    { "GRU: state 1 of the initial state must be (2, 3), got (2, 4)",
      function() nn.GRU { 3 }(nn.ones(2, 4, 5), { initial_state = nn.ones(2, 4) }) end },
    { "ConvLSTM2D: cell: needs sequences of images (N, T, H, W, C), got samples of shape 4x1",
      function() nn.ConvLSTM2D { 2, 3 }(nn.ones(2, 4, 4, 1)) end },
    { "TransformerEncoder: 3 heads need a multiple of that many features, got samples of shape 4x8",
      function() nn.TransformerEncoder { 8, 3 }(nn.ones(2, 4, 8)) end },
    { "GroupNorm: 32 groups must divide the 8 channels, got samples of shape 4x4x8", function() nn.GroupNorm {}(nn.ones(2, 4, 4, 8)) end },
    { "Reshape: cannot reshape to 3x3, got samples of shape 5", function() nn.Reshape { 3, 3 }(x) end },
    { "Permute: permutes 2 dims, got samples of shape 3x4x5", function() nn.Permute { 2, 1 }(nn.ones(2, 3, 4, 5)) end },
    { "RepeatVector: needs rows (N, C), got samples of shape 3x4", function() nn.RepeatVector { 2 }(nn.ones(2, 3, 4)) end },
    { "Cropping1D: nothing is left of", function() nn.Cropping1D { 3 }(nn.ones(2, 4, 5)) end },
    { "PixelShuffle: needs a multiple of 4 channels, got samples of shape 2x2x3", function() nn.PixelShuffle { 2 }(nn.ones(1, 2, 2, 3)) end },
    { "Concatenate: the sizes must be equal but along axis -1, got samples of shapes 3x4 and 5x4",
      function() nn.Concatenate {}(nn.ones(2, 3, 4), nn.ones(2, 5, 4)) end },
    { "Add: the sizes must be equal, or 1, got samples of shapes 3 and 4", function() nn.Add {}(nn.ones(2, 3), nn.ones(2, 4)) end },
    { "Subtract: takes 2 tensors, got 3", function() nn.Subtract {}(x, x, x) end },
    { "Add: needs two tensors or more", function() nn.Add {}(x) end },
    { "TimeDistributed: needs sequences (N, T, ...), got samples of shape 5", function() nn.TimeDistributed { nn.Dense { 2 } }(x) end },
    { "PositionEmbedding: has places for 3 steps, got samples of shape 4x5", function() nn.PositionEmbedding { 3 }(nn.ones(2, 4, 5)) end },
    { "RotaryEmbedding: needs an even number of features", function() nn.RotaryEmbedding {}(nn.ones(2, 4, 5)) end },
    { "Dot: dims 2 and 2 must be equal, got samples of shapes 5 and 4", function() nn.Dot { axes = 2 }(x, nn.ones(2, 4)) end },
    { "Bilinear: takes 2 tensors, got 1", function() nn.Bilinear { 3 }(x) end },
    { "SkipConnection: Add: the sizes must be equal, or 1, got samples of shapes 4 and 5", function() nn.SkipConnection { nn.Dense { 4 } }(x) end },
    { "Normalization: 2 means for 5 places along the axis, got samples of shape 5",
      function() nn.Normalization { mean = { 1, 2 }, variance = { 1, 2 } }(x) end },
    { "Masking: needs sequences (N, T, C), got samples of shape 5", function() nn.Masking {}(x) end },
    { "WeightNorm: Flatten() has no kernel or embeddings", function() nn.WeightNorm { nn.Flatten {} }(x) end },
    { "embedding: id 9 at position 2 is not in 1..5", function() nn.Embedding { 5, 3 }(ids(1, 9)):eval() end },
    { "embedding: id 0 at position 1 is not in 1..5", function() nn.Embedding { 5, 3 }(ids(0, 1)):eval() end },
    { "with_mask: x of shape (2, 3, 4) needs a mask (N, T) of its first two sizes, got (2, 4)",
      function() nn.with_mask(nn.ones(2, 3, 4), nn.ones(2, 4)) end },
  },
  ["what is no tensor"] = {
    { "Dense: needs a tensor, got 3", function() nn.Dense { 4 }(3) end },
    { "Dense: needs a tensor, got nil", function() nn.Dense { 4 }() end },
    { "Sequential: needs a tensor, got a table", function() seq(nn.Dense { 4 }) { 1, 2 } end },
    { "Dense: linear: argument 'x' must be a tensor, got string", function() twice.dense "x" end },
    { "Dense: needs samples of at least one dim", function() nn.Dense { 4 }(nn.tensor(1.0)) end },
    { "Sequential: takes one input, got another: a tensor of shape (2, 5)", function() seq(nn.Input { 5 }, nn.Dense { 2 })(x, x) end },
    { "Normalization: adapt takes a tensor or a data set, got 3", function() nn.Normalization {}:adapt(3) end },
    { "mean_squared_error: needs tensors of predictions and of targets, got a tensor of shape (2, 5) and 3", function() nn.losses.mse(x, 3) end },
    { "triplet: needs tensors of predictions and of targets, got a tensor of shape (2, 5) and nil", function() nn.losses.triplet(x) end },
  },
  ["models"] = {
    { "Model/input: the model takes batches (N, 3), got a tensor of shape (2, 5)",
      function() nn.Model { inputs = a, outputs = nn.Dense { 2 }(a) }(x) end },
    { "Model: takes 2 inputs", function() nn.Model { inputs = { a, b }, outputs = nn.Dense { 2 }(nn.Concatenate {}(a, b)) }(x) end },
    { "Model: outputs must be a symbolic tensor or a table of them, got a tensor of shape (2, 5)",
      function() nn.Model { inputs = a, outputs = x } end },
    { "Model: output 1 needs the input second of shape (N, 4), which is not among the inputs",
      function() nn.Model { inputs = a, outputs = nn.Dense { 2 }(b) } end },
    { "Conv2D: needs images (N, H, W, C), got samples of shape 3", function() nn.Conv2D { 4, 3 }(a) end },
    { "Add: the sizes must be equal, or 1, got samples of shapes 3 and 4", function() nn.Add {}(a, b) end },
    { "LSTMCell: it gives a table; on symbolic tensors a layer must give tensors; given (N, 3)", function() nn.LSTMCell { 3 }(a) end },
    { 'two layers have the name "a"; give one of them another',
      function() nn.Model { inputs = a, outputs = nn.Dense { 2, name = "a" }(nn.Dense { 2, name = "a" }(a)) } end },
    { "Sequential: layer 2 must be a layer or module, got 5", function() seq(nn.Dense { 3 }, 5) end },
    { "Sequential: layer 2 is a class; make one of it: nn.Flatten{...}", function() seq(nn.Dense { 3 }, nn.Flatten) end },
    { 'Sequential: there is no layer "frist"; did you mean "first"? (layers: first)',
      function() seq(nn.Dense { 3, name = "first" }):layer "frist" end },
    { "parameters: dense (Dense) is not built yet, its input size is unknown", function() seq(nn.Dense { 3 }):parameters() end },
    { "load_state: dense.kernel is 4x1 here but 4x2 in the state",
      function() seq(nn.Input { 4 }, nn.Dense { 1 }):load_state(seq(nn.Input { 4 }, nn.Dense { 2 }):state()) end },
    { "set_weights: dense.kernel is 4x1, got 4x2", function() seq(nn.Input { 4 }, nn.Dense { 1 }):set_weights { nn.ones(4, 2), nn.ones(1) } end },
    { 'freeze: there is no layer "dence"; did you mean "dense"?', function() seq(nn.Input { 4 }, nn.Dense { 1 }):freeze { from = "dence" } end },
    { "Nothing: no forward(); define `function Nothing:forward(x) ... end`", function() nn.class("Nothing", nn.Module)()(x) end },
    { "Sequential/conv2d.kernel: orthogonal regularizer: needs a matrix, got a weight with 4 dims",
      function() seq(nn.Input { 4, 4, 1 }, nn.Conv2D { 2, 3, regularizer = "orthogonal" }):regularization() end },
  },
  ["options"] = {
    { { 'Dense: unknown option "activaton"; did you mean "activation"?', "valid: units, activation" },
      function() nn.Dense { 4, activaton = "relu" } end },
    { 'Conv2D: unknown option "stides"; did you mean "strides"?', function() nn.Conv2D { 4, 3, stides = 2 } end },
    { 'LSTM: unknown option "return_sequence"; did you mean "return_sequences"?', function() nn.LSTM { 4, return_sequence = true } end },
    { 'BatchNorm: unknown option "momentun"; did you mean "momentum"?', function() nn.BatchNorm { momentun = 0.9 } end },
    { 'Embedding: unknown option "maskzero"; did you mean "mask_zero"?', function() nn.Embedding { 4, 2, maskzero = true } end },
    { 'Dense: unknown option "initt"; did you mean "init"?', function() nn.Dense { 4, initt = "ones" } end }, -- an alias
    { 'Scale: unknown option "strat"; did you mean "start"?', function() Scale { strat = 2 } end },
    { 'Dense: "bias" is another name of "use_bias"; give one of them', function() nn.Dense { 4, bias = true, use_bias = true } end },
    { 'MultiHeadAttention: unknown option "causal"; did you mean "use_causal_mask"?',
      function() twice.attention(nn.ones(2, 4, 5), { causal = true }) end },
    { 'Dense: option "activation": unknown activation "rleu"; did you mean "relu"?', function() nn.Dense { 4, activation = "rleu" } end },
    { 'LSTM: option "recurrent_activation": unknown activation "sigmod"; did you mean "sigmoid"?',
      function() nn.LSTM { 4, recurrent_activation = "sigmod" } end },
    { 'Dense: option "kernel_initializer": unknown initializer "he_norml"; did you mean "he_normal"?',
      function() nn.Dense { 4, init = "he_norml" } end },
    { 'Dense: option "bias_initializer": an initializer must be a name', function() nn.Dense { 4, bias_initializer = { 3 } } end },
    { 'Dense: option "kernel_regularizer": unknown regularizer "l3"; did you mean "l1"?', function() nn.Dense { 4, regularizer = "l3" } end },
    { 'Dense: option "kernel_constraint": unknown constraint "maxnorm"; did you mean "max_norm"?',
      function() nn.Dense { 4, constraint = "maxnorm" } end },
    { 'Dense: option "units" is missing; it must be an integer', function() nn.Dense {} end },
    { 'Dense: option "units" must be at least 1, got -4', function() nn.Dense { -4 } end },
    { 'Dense: option "units" must be an integer, got "4"', function() nn.Dense { "4" } end },
    { 'Dense: option "units" must be an integer, got 2.5', function() nn.Dense { 2.5 } end },
    { "Dense: value 2 has no meaning; the positional part is units", function() nn.Dense { 4, "relu" } end },
    { 'Conv2D: option "padding" must be one of valid, same, got "full"', function() nn.Conv2D { 4, 3, padding = "full" } end },
    { 'Conv2D: option "strides" must be an integer or a pair of them, at least 1, got {1, 2, 3}',
      function() nn.Conv2D { 4, 3, strides = { 1, 2, 3 } } end },
    { 'Conv2D: option "kernel_size" must be an integer or a pair of them, at least 1, got 0', function() nn.Conv2D { 4, 0 } end },
    { 'ZeroPadding2D: option "padding" must be an integer, {height, width} or {{top, bottom}, {left, right}}, at least 0, got {1, -1}',
      function() nn.ZeroPadding2D { { 1, -1 } } end },
    { 'Dropout: option "rate" must be at least 0 and below 1, got 1.5', function() nn.Dropout { 1.5 } end },
    { 'Dropout: option "rate" must be at least 0 and below 1, got nan', function() nn.Dropout { 0 / 0 } end },
    { "Bidirectional: needs a recurrent layer, got Dense(? -> 3)", function() nn.Bidirectional { nn.Dense { 3 } } end },
    { 'TimeDistributed: option "layer" must be a layer, such as nn.Dense{10}, got 3', function() nn.TimeDistributed { 3 } end },
    { "RNN: needs a cell, like nn.LSTMCell{32}, got Dense", function() nn.RNN { nn.Dense { 3 } } end },
    { "Input: shape[1] must be at least 1, or -1", function() nn.Input { 0 } end },
    { "Linear: needs two sizes, nn.Linear(inputs, units), got 3 and nil", function() nn.Linear(3) end },
    { "GroupedQueryAttention: num_query_heads (3) must be a multiple of num_key_value_heads (2)",
      function() nn.GroupedQueryAttention { 4, 3, 2 } end },
  },
  ["names"] = {
    { 'nn has no "Dens"; did you mean "Dense"?', function() return nn.Dens end },
    { 'nn has no "BatchNormalisation"; did you mean "BatchNormalization"?', function() return nn.BatchNormalisation end },
    { 'nn.optim has no "Adm"; did you mean "Adam"?', function() return nn.optim.Adm end },
    { 'nn.losses has no "hubber"; did you mean "huber"?', function() return nn.losses.hubber end },
    { 'nn.metrics has no "F11"; did you mean "F1"?', function() return nn.metrics.F11 end },
    { 'nn.schedules has no "cosin"; did you mean "cosine"?', function() return nn.schedules.cosin end },
    { 'nn.initializers has no "he_norml"; did you mean "he_normal"?', function() return nn.initializers.he_norml end },
    { 'nn.regularizers has no "l3"; did you mean "l1"?', function() return nn.regularizers.l3 end },
    { 'nn.constraints has no "maxnorm"; did you mean "max_norm"?', function() return nn.constraints.maxnorm end },
    { 'nn.activations has no "rleu"; did you mean "relu"?', function() return nn.activations.rleu end },
    { { 'unknown optimizer "adm"; did you mean "Adam"?', "valid: ASGD" }, function() nn.optim.get "adm" end },
    { 'unknown loss "msee"; did you mean "mse"?', function() nn.losses.get "msee" end },
    { 'unknown metric "acuracy"; did you mean "accuracy"?', function() nn.metrics.get "acuracy" end },
  },
  ["optimizers and schedules"] = {
    { 'Adam: unknown option "learning_rat"; did you mean "learning_rate"?', function() nn.optim.Adam { learning_rat = 0.1 } end },
    { 'SGD: option "lr" must be at least 0, got -1', function() nn.optim.SGD { lr = -1 } end },
    { 'SGD: option "lr" must be a number or a table or a function, got "0.1"', function() nn.optim.SGD { lr = "0.1" } end },
    { "SGD: no parameters; make it with them", function() nn.optim.SGD { lr = 0.1 }:step() end },
    { "SGD: takes the parameters of a model, not the model: nn.optim.SGD{ model:parameters() }, got Net", function() nn.optim.SGD { net } end },
    { "SGD: parameter 1 must be a tensor, got 1", function() nn.optim.SGD { { 1, 2 } } end },
    { "SGD: nesterov needs a momentum above 0", function() nn.optim.SGD { nesterov = true } end },
    { "Adam: give only one of clipnorm, clipvalue and global_clipnorm", function() nn.optim.Adam { clipnorm = 1, clipvalue = 1 } end },
    { "SGD: set_state needs what state() gave, got a table", function() nn.optim.SGD { { nn.parameter { 1 } } }:set_state {} end },
    { 'SGD: group 1: unknown option "lrr"; did you mean "lr"?', function() nn.optim.SGD { { { params = { nn.parameter { 1 } }, lrr = 1 } } } end },
    { 'SGD: unknown option "momentun"; did you mean "momentum"?', function() nn.optim.SGD { lr = 0.1 }:adjust { momentun = 0.5 } end },
    { "piecewise: 2 boundaries need 3 values, got 1", function() nn.schedules.piecewise { { 1, 2 }, { 1 } } end },
    { 'Adam: option "beta_1" must be at least 0 and below 1, got 1', function() nn.optim.Adam { beta_1 = 1 } end },
    { 'cosine: option "decay_steps" is missing; it must be a number', function() nn.schedules.cosine { 0.1 } end },
    { 'exponential: unknown option "decay_step"; did you mean "decay_steps"?',
      function() nn.schedules.exponential { 0.1, decay_step = 10, decay_rate = 1 } end },
  },
  ["losses, metrics and fit"] = {
    { { "sparse_categorical_crossentropy: predictions of shape (2x5) need class ids of shape (2), got (2x5)",
      "; for one-hot targets use categorical_crossentropy" },
      function() nn.losses.sparse_categorical_crossentropy(x, x) end },
    { "categorical_crossentropy: predictions (2x5) and targets (2) must have the same shape; for class ids use sparse_categorical_crossentropy",
      function() nn.losses.categorical_crossentropy(x, ids(1, 2)) end },
    { "class id 6 at position 2 is not in 1..5", function() nn.losses.cross_entropy(x, ids(1, 6)):item() end },
    { "class id 0 at position 2 is not in 1..5", function() nn.losses.cross_entropy(x, ids(1, 0)):item() end },
    { "mean_squared_error: predictions (2x1) and targets (2) must have the same shape", function() nn.losses.mse(nn.ones(2, 1), nn.ones(2)) end },
    { "a loss must be a name, a function or a table of a name and options, got 3", function() nn.losses.get(3) end },
    { 'Precision: option "average" must be one of macro, micro, none, got "makro"; did you mean "macro"?',
      function() nn.metrics.Precision { average = "makro" } end },
    { 'fit: option "data" is missing', function() compiled(nn.Dense { 1 }):fit {} end },
    { 'huber: unknown option "dela"; did you mean "delta"?', function() nn.losses.huber(x, x, { dela = 1 }) end },
    { 'mean_squared_error: option "reduction" must be one of mean, sum, none, got "avg"', function() nn.losses.mse(x, x, { reduction = "avg" }) end },
    { "gaussian_nll: needs means and variances in the last dim, twice the size of the targets', got predictions (2x5) and targets (2x5)",
      function() nn.losses.gaussian_nll(x, x) end },
    { 'TopK: unknown option "kk"; did you mean "k"?', function() nn.metrics.TopK { kk = 3 } end },
    { "accuracy: predictions (2x5) need class ids (2), got targets (3)", function() nn.metrics.Accuracy {}:update(x, ids(1, 2, 3)) end },
    { "auc: predictions (2x5) and targets (3) must have as many elements", function() nn.metrics.AUC {}:update(x, nn.ones(3)) end },
    { "fit: compile the model first: model:compile{ optimizer = ..., loss = ... }", function() seq(nn.Input { 5 }, nn.Dense { 1 }):fit { x, x } end },
    { 'compile: unknown option "optimiser"; did you mean "optimizer"?',
      function() seq(nn.Dense { 1 }):compile { optimiser = "sgd", loss = "mse" } end },
    { 'fit: unknown option "epoch"; did you mean "epochs"?', function() compiled(nn.Dense { 1 }):fit { x, x, epoch = 3 } end },
    { "fit: x has 2 samples but y has 3", function() compiled(nn.Dense { 1 }):fit { x, nn.ones(3, 1) } end },
    { "Sequential/input: the model takes batches (N, 4), got a tensor of shape (2, 5)",
      function() compiled(nn.Input { 4 }, nn.Dense { 1 }):fit { x, nn.ones(2, 1), verbose = 0 } end },
    { "Sequential/input: the model takes batches (N, 4), got a tensor of shape (2, 5)",
      function() seq(nn.Input { 4 }, nn.Dense { 1 }):predict(x) end },
  },
}

local count = 0
for kind, list in pairs(cases) do
  describe(kind .. ":", function()
    for i, case in ipairs(list) do
      count = count + 1
      local wanted = type(case[1]) == "table" and case[1] or { case[1] }
      it(("%d, %s"):format(i, wanted[1]), function()
        local ok, err = pcall(case[2])
        assert(not ok, "no error")
        err = tostring(err)
        local info = debug.getinfo(case.in_forward and Half.forward or case[2], "S")
        local file, line, text = err:match "^([^\n]-):(%d+): (.*)$"
        assert(file == info.short_src and tonumber(line) >= info.linedefined and tonumber(line) <= info.lastlinedefined,
          "not at the line of the user: " .. err)
        for k, part in ipairs(wanted) do
          local at = text:find(part, 1, true)
          assert(at and (k > 1 or at == 1 or not part:find "^%u"), text)
        end
        assert(not text:find "\n" and not text:find "attempt to" and not text:find "internal error", text)
      end)
    end
  end)
end

it("at least 60 of them", function() assert(count >= 60) end)
