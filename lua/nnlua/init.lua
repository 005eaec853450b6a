--- `local nn = require "nnlua"`: one table with everything.
--
-- Owns: which file a name lives in. Operators and tensors come from the core at once; a file of the library is loaded when one of its names is first
-- used, so that starting costs next to nothing. `pairs(nn)` lists every name.

local core = require "nnlua.core"

local nn = {}
for name, value in pairs(core) do nn[name] = value end
core.tensor_metatable.__tostring = function(t) return require("nnlua.print").tostring(t) end

-- Operators written in Lua: one file per family in functional/. They are methods of tensors too.
local functions = {
  conv = { "conv1d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d" },
  pool = { "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d" },
  norm = { "batch_norm", "group_norm", "instance_norm", "local_response_norm", "normalize", "embedding_bag" },
  resample = { "interpolate", "grid_sample", "pixel_shuffle", "pixel_unshuffle" },
  recurrent = { "lstm", "gru", "rnn" },
  loss = { "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "gaussian_nll_loss", "nll_loss", "cross_entropy",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "hinge_embedding_loss", "hinge_loss", "squared_hinge_loss",
    "soft_margin_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "margin_ranking_loss", "pairwise_distance",
    "triplet_margin_loss", "cosine_similarity", "cosine_embedding_loss", "ctc_loss" },
}

-- Files whose table is the value: nn.optim, nn.data.
local files = {}
for _, name in ipairs { "initializers", "regularizers", "constraints", "activations", "losses", "metrics", "optim",
  "schedules", "callbacks", "tensorboard", "options", "data", "datasets", "preprocess", "vision", "audio", "class", "h5", "help", "safetensors",
  "numpy", "torch7", "onnx", "hub", "applications" } do
  files[name] = "nnlua." .. name
end
files.Module, files.Layer = "nnlua.module", "nnlua.layer"

-- Names that are fields of a file's table: nn.Dense.
local fields = {
  ["nnlua.device"] = { "device", "devices", "supported" },
  ["nnlua.module"] = { "parameter", "buffer" },
  ["nnlua.models"] = { "Sequential", "register_layer" },
  ["nnlua.model"] = { "Model" },
  ["nnlua.layers.operation"] = { "Operation" },
  ["nnlua.layers.core"] = { "Input", "Dense", "Linear", "Flatten", "Reshape", "Rescaling", "Dropout" },
  ["nnlua.layers.activation"] = { "Activation", "ReLU", "LeakyReLU", "Softmax", "LogSoftmax", "Softmin", "ELU", "CELU", "GELU", "GLU", "PReLU",
    "RReLU", "CReLU", "ThresholdedReLU", "Threshold", "HardShrink", "SoftShrink", "Sparsemax", "ReLU6", "Sigmoid", "Tanh", "Exponential", "SELU",
    "SiLU", "Swish", "Mish", "Softplus", "Softsign", "LogSigmoid", "HardSigmoid", "HardSwish", "HardSiLU", "HardTanh", "TanhShrink" },
  ["nnlua.layers.conv"] = { "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "DepthwiseConv1D",
    "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D" },
  ["nnlua.layers.norm"] = { "BatchNorm", "BatchNormalization", "LayerNorm", "LayerNormalization", "GroupNorm", "GroupNormalization", "InstanceNorm",
    "InstanceNormalization", "RMSNorm", "RMSNormalization", "UnitNorm", "UnitNormalization" },
  ["nnlua.layers.wrappers"] = { "SpectralNorm", "SpectralNormalization", "WeightNorm", "WeightNormalization", "SkipConnection", "Parallel" },
  ["nnlua.layers.products"] = { "EinsumDense", "Bilinear" },
  ["nnlua.layers.shapes"] = { "Permute", "RepeatVector", "Identity", "Lambda", "Resizing", "PixelShuffle", "ZeroPadding1D", "ZeroPadding2D",
    "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D", "UpSampling3D" },
  ["nnlua.layers.noise"] = { "GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "DropPath", "StochasticDepth", "ActivityRegularization" },
  ["nnlua.layers.merge"] = { "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot" },
  ["nnlua.layers.preprocessing"] = { "Normalization", "CategoryEncoding", "Discretization", "Hashing" },
  ["nnlua.layers.augmentation"] = { "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomGrayscale", "ColorJitter",
    "SaltPepper" },
  ["nnlua.layers.text"] = { "TextVectorization" },
  ["nnlua.layers.lookup"] = { "StringLookup", "IntegerLookup" },
  ["nnlua.layers.recurrent"] = { "RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "StackedRNNCells" },
  ["nnlua.layers.cells"] = { "SimpleRNNCell", "LSTMCell", "GRUCell" },
  ["nnlua.layers.sequence"] = { "Bidirectional", "TimeDistributed" },
  ["nnlua.layers.embedding"] = { "Embedding", "Masking", "SinePositionEncoding", "PositionEmbedding", "TokenAndPositionEmbedding",
    "RotaryEmbedding" },
  ["nnlua.layers.attention"] = { "MultiHeadAttention", "GroupedQueryAttention", "Attention", "AdditiveAttention" },
  ["nnlua.layers.transformer"] = { "TransformerEncoder", "TransformerDecoder" },
  ["nnlua.mask"] = { "mask_of", "with_mask" },
  ["nnlua.optim.clip"] = { "clip_grad_norm" },
  ["nnlua.checkpoint"] = { "load" },
  ["nnlua.policy"] = { "policy" },
  ["nnlua.picture"] = { "picture" },
  ["nnlua.script"] = { "script" },
  ["nnlua.jit"] = { "jit" },
  ["nnlua.graph"] = { "graph", "profile", "debug" },
  ["nnlua.tensor"] = { "split", "chunk", "unbind", "meshgrid", "index_put", "full_like", "empty", "empty_like", "rand_like", "randn_like",
    "from_table" },
  ["nnlua.linalg"] = { "einsum" },
  ["nnlua.autograd"] = { "value_and_grad", "custom", "hook", "jvp", "hvp", "gradcheck" },
}
fields["nnlua.layers.pooling"] = {}
for _, kind in ipairs { "Max", "Average", "GlobalMax", "GlobalAverage", "AdaptiveMax", "AdaptiveAverage" } do
  for rank = 1, 3 do table.insert(fields["nnlua.layers.pooling"], ("%sPooling%dD"):format(kind, rank)) end
end
for file, names in pairs(functions) do fields["nnlua.functional." .. file] = names end
local owner = {}
for file, names in pairs(fields) do
  for _, name in ipairs(names) do owner[name] = file end
end

-- Operators of nnlua.tensor that are methods as well.
local methods = core.tensor_metatable.methods
for _, name in ipairs { "split", "chunk", "unbind", "index_put", "full_like", "empty_like", "rand_like", "randn_like" } do
  methods[name] = function(...) return require("nnlua.tensor")[name](...) end
end

function methods.hook(...) return nn.hook(...) end
function methods.labels(...) return require("nnlua.training.labels").of(...) end

-- Loading a family waits until one of its functions is called. max_pool2d is the core's with more options.
for _, names in pairs(functions) do
  for _, name in ipairs(names) do
    nn[name] = nil
    methods[name] = function(...) return nn[name](...) end
  end
end

-- So is a method that tensors lack, when one is asked for; the first time brings the file with the words.
setmetatable(methods, { __index = function(t, name)
  require("nnlua.options").closed(t, "a tensor")
  return t[name]
end })
nn.device, nn.devices = nil, nil -- nnlua.device's, which know "auto"

-- The value of a name that is not loaded yet, nil when there is none.
local function find(name)
  if files[name] then return require(files[name]) end
  if owner[name] then return require(owner[name])[name] end
end

local mt = {}

--- The file of a name, for nn.help.
function mt.module_of(name) return files[name] or owner[name] end

-- A name that does not exist is an error, not nil: a misspelt layer is found where it is written. Ask with rawget(nn, name) where nil is wanted.
function mt.__index(t, name)
  local value = find(name)
  if value ~= nil then
    rawset(t, name, value)
    return value
  end
  local options = require "nnlua.options"
  local names = {}
  for _, list in ipairs { t, files, owner } do
    for key in next, list do names[#names + 1] = key end
  end
  table.sort(names)
  options.raise(("nn has no %s%s"):format(options.shown(name), options.advice(name, names)))
end

function mt.__pairs(t)
  for _, list in ipairs { files, owner } do
    for name in next, list do
      if rawget(t, name) == nil then
        local ok, value = pcall(find, name)
        if ok then rawset(t, name, value) end
      end
    end
  end
  return next, t, nil
end

-- Where tensors are made: NNLUA_DEVICE=vulkan nnlua script.lua
local wanted = os.getenv "NNLUA_DEVICE"
if wanted and wanted ~= "" then
  local ok, message = require("nnlua.device").device(wanted)
  if not ok then error("NNLUA_DEVICE: " .. message, 0) end
end

return setmetatable(nn, mt)
