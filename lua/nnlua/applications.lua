--- Well-known image models: `nn.applications`.
--
-- Owns: their architectures, with the layers, order and names that Keras gives them, so that the weight files published for Keras load into them
-- (model:load_weights, or weights = a file or a handle of nn.hub). Each constructor takes one table of options:
--
--   input_shape          {height, width, channels}; by default {224, 224, 3}, LeNet {28, 28, 1}
--   include_top          with the classifier (default true); without, the result is the last feature map, or its pooling
--   pooling              "avg" or "max": of the last feature map, without the top
--   classes              how many (default 1000, LeNet 10)
--   classifier_activation  default "softmax"; false: none
--   weights              a file, "https://..." or "keras:<name>" (nn.hub): what to load. By default weights are drawn
--   name                 of the model
--
-- and some have more: MobileNet and MobileNetV2 take alpha (width), the ResNets take width (filters of the first stage, 64).
-- Pictures go through nn.applications.preprocess_input(name or model, x) first; class ids count from 1 (Keras's class 0 is 1).
--
--     local nn = require "nnlua"
--     local model = nn.applications.MobileNetV2{ include_top = false, pooling = "avg", input_shape = {32, 32, 3}, alpha = 0.35 }
--     print(model(nn.zeros(1, 32, 32, 3)):size(-1))   --> 1280

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local applications = {}
local nn -- the library, once a model is made: layers are loaded when they are used

-- ---- pieces ------------------------------------------------------------------------------------------------------------

local function conv(name, filters, kernel, more)
  local o = { filters = filters, kernel_size = kernel, name = name }
  for key, value in pairs(more or {}) do o[key] = value end
  return nn.Conv2D(o)
end

local function batch_norm(name, epsilon, momentum) return nn.BatchNormalization { name = name, epsilon = epsilon, momentum = momentum } end
local function activation(name, kind) return nn.Activation { kind or "relu", name = name } end
local function channels(x) return x.sample[#x.sample] end

-- Padding that makes a strided "valid" window of `kernel` what Keras's correct_pad makes of it: one row less before an even size.
local function pad_for(x, kernel)
  local half, padding = kernel // 2, {}
  for i = 1, 2 do
    local size = x.sample[i]
    padding[i] = { half - (size > 0 and size % 2 == 0 and 1 or 0), half }
  end
  return padding
end

local function pooled(x, o, names)
  names = names or {}
  if o.pooling == "avg" then return nn.GlobalAveragePooling2D { name = names.avg }(x) end
  if o.pooling == "max" then return nn.GlobalMaxPooling2D { name = names.max }(x) end
  return x
end

local function classifier(x, o, more)
  local given = { units = o.classes, activation = o.classifier_activation or nil, name = "predictions" }
  for key, value in pairs(more or {}) do given[key] = value end
  return nn.Dense(given)(x)
end

local named_pools = { avg = "avg_pool", max = "max_pool" }

-- Average over the picture and one Dense, or the pooling asked for.
local function head(x, o, names)
  if not o.include_top then return pooled(x, o, names) end
  return classifier(nn.GlobalAveragePooling2D { name = names and names.avg }(x), o)
end

-- ---- families ------------------------------------------------------------------------------------------------------------
-- Each takes the input and the checked options and gives the output.

local function lenet(x, o)
  x = conv("conv1", 6, 5, { padding = "same", activation = "tanh" })(x)
  x = nn.AveragePooling2D { 2, name = "pool1" }(x)
  x = nn.AveragePooling2D { 2, name = "pool2" }(conv("conv2", 16, 5, { activation = "tanh" })(x))
  if not o.include_top then return pooled(x, o) end
  x = nn.Dense { 120, activation = "tanh", name = "fc1" }(nn.Flatten { name = "flatten" }(x))
  return classifier(nn.Dense { 84, activation = "tanh", name = "fc2" }(x), o)
end

local function vgg(repeats)
  return function(x, o)
    for block, filters in ipairs { 64, 128, 256, 512, 512 } do
      for i = 1, repeats[block] do
        x = conv(("block%d_conv%d"):format(block, i), filters, 3, { padding = "same", activation = "relu" })(x)
      end
      x = nn.MaxPooling2D { 2, strides = 2, name = ("block%d_pool"):format(block) }(x)
    end
    if not o.include_top then return pooled(x, o) end
    x = nn.Flatten { name = "flatten" }(x)
    for i = 1, 2 do x = nn.Dense { 4096, activation = "relu", name = "fc" .. i }(x) end
    return classifier(x, o)
  end
end

local RESNET_EPSILON = 1.001e-5

local function resnet_stem(x, o, bias)
  x = conv("conv1_conv", o.width, 7, { strides = 2, use_bias = bias })(nn.ZeroPadding2D { 3, name = "conv1_pad" }(x))
  return x
end

local function resnet_pool(x) return nn.MaxPooling2D { 3, strides = 2, name = "pool1_pool" }(nn.ZeroPadding2D { 1, name = "pool1_pad" }(x)) end

-- Two 3x3 convolutions (the ResNets 18 and 34, which Keras lacks; PyTorch's epsilon and momentum).
local function basic_block(x, filters, stride, name)
  local function normed(y, place) return batch_norm(name .. place, 1e-5, 0.9)(y) end
  local function three(y, s, place)
    return conv(name .. place, filters, 3, { strides = s, use_bias = false })(nn.ZeroPadding2D { 1, name = name .. place:gsub("conv", "pad") }(y))
  end
  local y = activation(name .. "_1_relu")(normed(three(x, stride, "_1_conv"), "_1_bn"))
  y = normed(three(y, 1, "_2_conv"), "_2_bn")
  if stride > 1 or channels(x) ~= filters then
    x = normed(conv(name .. "_0_conv", filters, 1, { strides = stride, use_bias = false })(x), "_0_bn")
  end
  return activation(name .. "_out")(nn.Add { name = name .. "_add" } { x, y })
end

local function bottleneck(x, filters, stride, name, first)
  local shortcut = x
  if first then
    shortcut = batch_norm(name .. "_0_bn", RESNET_EPSILON)(conv(name .. "_0_conv", 4 * filters, 1, { strides = stride })(x))
  end
  for i, kernel in ipairs { 1, 3 } do
    x = conv(("%s_%d_conv"):format(name, i), filters, kernel, { strides = i == 1 and stride or 1, padding = i == 2 and "same" or "valid" })(x)
    x = activation(("%s_%d_relu"):format(name, i))(batch_norm(("%s_%d_bn"):format(name, i), RESNET_EPSILON)(x))
  end
  x = batch_norm(name .. "_3_bn", RESNET_EPSILON)(conv(name .. "_3_conv", 4 * filters, 1)(x))
  return activation(name .. "_out")(nn.Add { name = name .. "_add" } { shortcut, x })
end

local function bottleneck_v2(x, filters, stride, name, first)
  local pre = activation(name .. "_preact_relu")(batch_norm(name .. "_preact_bn", RESNET_EPSILON)(x))
  local shortcut = x
  if first then shortcut = conv(name .. "_0_conv", 4 * filters, 1, { strides = stride })(pre)
  elseif stride > 1 then shortcut = nn.MaxPooling2D { 1, strides = stride }(x) end
  local y = conv(name .. "_1_conv", filters, 1, { use_bias = false })(pre)
  y = activation(name .. "_1_relu")(batch_norm(name .. "_1_bn", RESNET_EPSILON)(y))
  y = conv(name .. "_2_conv", filters, 3, { strides = stride, use_bias = false })(nn.ZeroPadding2D { 1, name = name .. "_2_pad" }(y))
  y = activation(name .. "_2_relu")(batch_norm(name .. "_2_bn", RESNET_EPSILON)(y))
  return nn.Add { name = name .. "_out" } { shortcut, conv(name .. "_3_conv", 4 * filters, 1)(y) }
end

local function resnet18(x, o)
  x = activation "conv1_relu"(batch_norm("conv1_bn", 1e-5, 0.9)(resnet_stem(x, o, false)))
  x = resnet_pool(x)
  for stage = 1, 4 do
    for i = 1, 2 do
      x = basic_block(x, o.width << (stage - 1), stage > 1 and i == 1 and 2 or 1, ("conv%d_block%d"):format(stage + 1, i))
    end
  end
  return head(x, o, named_pools)
end

local function resnet50(x, o)
  x = resnet_pool(activation "conv1_relu"(batch_norm("conv1_bn", RESNET_EPSILON)(resnet_stem(x, o, true))))
  for stage, blocks in ipairs { 3, 4, 6, 3 } do
    for i = 1, blocks do
      x = bottleneck(x, o.width << (stage - 1), stage > 1 and i == 1 and 2 or 1, ("conv%d_block%d"):format(stage + 1, i), i == 1)
    end
  end
  return head(x, o, named_pools)
end

local function resnet50_v2(x, o)
  x = resnet_pool(resnet_stem(x, o, true))
  for stage, blocks in ipairs { 3, 4, 6, 3 } do
    for i = 1, blocks do -- the last block of a stage takes the step down
      x = bottleneck_v2(x, o.width << (stage - 1), stage < 4 and i == blocks and 2 or 1, ("conv%d_block%d"):format(stage + 1, i), i == 1)
    end
  end
  return head(activation "post_relu"(batch_norm("post_bn", RESNET_EPSILON)(x)), o, named_pools)
end

local function relu6(name) return nn.ReLU { max_value = 6, name = name } end

local function mobilenet(x, o)
  local function scaled(filters) return math.max(1, math.floor(filters * o.alpha)) end
  x = relu6 "conv1_relu"(batch_norm "conv1_bn"(conv("conv1", scaled(32), 3, { strides = 2, padding = "same", use_bias = false })(x)))
  for i, filters in ipairs { 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024 } do
    local down = i == 2 or i == 4 or i == 6 or i == 12
    if down then x = nn.ZeroPadding2D { { { 0, 1 }, { 0, 1 } }, name = "conv_pad_" .. i }(x) end
    local dw, pw = "conv_dw_" .. i, "conv_pw_" .. i
    x = nn.DepthwiseConv2D { 3, strides = down and 2 or 1, padding = down and "valid" or "same", use_bias = false, name = dw }(x)
    x = relu6(dw .. "_relu")(batch_norm(dw .. "_bn")(x))
    x = relu6(pw .. "_relu")(batch_norm(pw .. "_bn")(conv(pw, scaled(filters), 1, { padding = "same", use_bias = false })(x)))
  end
  if not o.include_top then return pooled(x, o) end
  x = nn.Dropout { 1e-3, name = "dropout" }(nn.GlobalAveragePooling2D { keepdims = true }(x))
  x = nn.Reshape { o.classes, name = "reshape_2" }(conv("conv_preds", o.classes, 1, { padding = "same" })(x))
  return activation("predictions", o.classifier_activation or "linear")(x)
end

-- The nearest multiple of 8 that is not more than a tenth below.
local function multiple_of_8(n)
  local rounded = math.max(8, math.floor(n + 4) // 8 * 8)
  return rounded < 0.9 * n and rounded + 8 or rounded
end

local function mobilenet_v2(x, o)
  local function normed(y, name) return batch_norm(name, 1e-3, 0.999)(y) end
  local function block(y, filters, stride, id)
    local start, prefix, first = y, id > 0 and ("block_%d_"):format(id) or "expanded_conv_", channels(y)
    filters = multiple_of_8(math.floor(filters * o.alpha))
    if id > 0 then
      y = conv(prefix .. "expand", 6 * first, 1, { padding = "same", use_bias = false })(y)
      y = relu6(prefix .. "expand_relu")(normed(y, prefix .. "expand_BN"))
    end
    if stride == 2 then y = nn.ZeroPadding2D { pad_for(y, 3), name = prefix .. "pad" }(y) end
    y = nn.DepthwiseConv2D { 3, strides = stride, padding = stride == 2 and "valid" or "same", use_bias = false, name = prefix .. "depthwise" }(y)
    y = relu6(prefix .. "depthwise_relu")(normed(y, prefix .. "depthwise_BN"))
    y = normed(conv(prefix .. "project", filters, 1, { padding = "same", use_bias = false })(y), prefix .. "project_BN")
    return stride == 1 and first == filters and nn.Add { name = prefix .. "add" } { start, y } or y
  end
  x = conv("Conv1", multiple_of_8(32 * o.alpha), 3, { strides = 2, padding = "same", use_bias = false })(x)
  x = block(relu6 "Conv1_relu"(normed(x, "bn_Conv1")), 16, 1, 0)
  local id = 0
  for _, stage in ipairs { { 24, 2, 2 }, { 32, 3, 2 }, { 64, 4, 2 }, { 96, 3, 1 }, { 160, 3, 2 }, { 320, 1, 1 } } do
    for i = 1, stage[2] do
      id = id + 1
      x = block(x, stage[1], i == 1 and stage[3] or 1, id)
    end
  end
  local last = o.alpha > 1 and multiple_of_8(1280 * o.alpha) or 1280
  return head(relu6 "out_relu"(normed(conv("Conv_1", last, 1, { use_bias = false })(x), "Conv_1_bn")), o)
end

local EFFICIENT = { class_name = "VarianceScaling", config = { scale = 2.0, mode = "fan_out", distribution = "truncated_normal" } }
local EFFICIENT_TOP = { class_name = "VarianceScaling", config = { scale = 1 / 3, mode = "fan_out", distribution = "uniform" } }

local function efficient_conv(name, filters, kernel, more)
  local o = { kernel_initializer = EFFICIENT, padding = "same", use_bias = false }
  for key, value in pairs(more or {}) do o[key] = value end
  return conv(name, filters, kernel, o)
end

-- An inverted residual block with squeeze and excitation; `drop` is the rate at which the block is left out of a sample in training.
local function efficient_block(x, b, drop)
  local start, first, name = x, channels(x), b.name
  local wide = first * b.expand
  local function normed(y, place) return batch_norm(name .. place .. "bn")(y) end
  if b.expand > 1 then
    x = activation(name .. "expand_activation", "swish")(normed(efficient_conv(name .. "expand_conv", wide, 1)(x), "expand_"))
  end
  if b.stride == 2 then x = nn.ZeroPadding2D { pad_for(x, b.kernel), name = name .. "dwconv_pad" }(x) end
  x = nn.DepthwiseConv2D { b.kernel, strides = b.stride, padding = b.stride == 2 and "valid" or "same", use_bias = false,
    depthwise_initializer = EFFICIENT, name = name .. "dwconv" }(x)
  x = activation(name .. "activation", "swish")(normed(x, ""))
  local gate = nn.Reshape { 1, 1, wide, name = name .. "se_reshape" }(nn.GlobalAveragePooling2D { name = name .. "se_squeeze" }(x))
  gate = efficient_conv(name .. "se_reduce", math.max(1, first // 4), 1, { activation = "swish", use_bias = true })(gate)
  gate = efficient_conv(name .. "se_expand", wide, 1, { activation = "sigmoid", use_bias = true })(gate)
  x = normed(efficient_conv(name .. "project_conv", b.filters, 1)(nn.Multiply { name = name .. "se_excite" } { x, gate }), "project_")
  if b.stride == 1 and first == b.filters then
    if drop > 0 then x = nn.Dropout { drop, noise_shape = { -1, 1, 1, 1 }, name = name .. "drop" }(x) end
    x = nn.Add { name = name .. "add" } { x, start }
  end
  return x
end

local function efficientnet_b0(x, o)
  x = nn.Normalization { name = "normalization" }(nn.Rescaling { 1 / 255, name = "rescaling" }(x))
  if o.weights == "keras:" then -- those weights were trained with the deviation divided by twice; Keras does this as well
    local scale = {}
    for i, deviation in ipairs { 0.229, 0.224, 0.225 } do scale[i] = 1 / math.sqrt(deviation) end
    x = nn.Rescaling { scale, name = "rescaling_1" }(x)
  end
  x = efficient_conv("stem_conv", 32, 3, { strides = 2, padding = "valid" })(nn.ZeroPadding2D { pad_for(x, 3), name = "stem_conv_pad" }(x))
  x = activation("stem_activation", "swish")(batch_norm "stem_bn"(x))
  local stages = { { 3, 1, 16, 1, 1 }, { 3, 2, 24, 6, 2 }, { 5, 2, 40, 6, 2 }, { 3, 3, 80, 6, 2 }, { 5, 3, 112, 6, 1 }, { 5, 4, 192, 6, 2 },
    { 3, 1, 320, 6, 1 } }
  local made, blocks = 0, 16
  for s, stage in ipairs(stages) do
    for i = 1, stage[2] do
      x = efficient_block(x, { kernel = stage[1], filters = stage[3], expand = stage[4], stride = i == 1 and stage[5] or 1,
        name = ("block%d%s_"):format(s, ("abcd"):sub(i, i)) }, 0.2 * made / blocks)
      made = made + 1
    end
  end
  x = activation("top_activation", "swish")(batch_norm "top_bn"(efficient_conv("top_conv", 1280, 1)(x)))
  if not o.include_top then return pooled(x, o, named_pools) end
  x = nn.Dropout { 0.2, name = "top_dropout" }(nn.GlobalAveragePooling2D { name = "avg_pool" }(x))
  return classifier(x, o, { kernel_initializer = EFFICIENT_TOP })
end

local function densenet121(x, o)
  local growth = 32
  local function normed(y, name) return batch_norm(name, RESNET_EPSILON)(y) end
  x = conv("conv1_conv", 64, 7, { strides = 2, use_bias = false })(nn.ZeroPadding2D { 3 }(x))
  x = nn.ZeroPadding2D { 1 }(activation "conv1_relu"(normed(x, "conv1_bn")))
  x = nn.MaxPooling2D { 3, strides = 2, name = "pool1" }(x)
  for stage, blocks in ipairs { 6, 12, 24, 16 } do
    for i = 1, blocks do
      local name = ("conv%d_block%d"):format(stage + 1, i)
      local y = conv(name .. "_1_conv", 4 * growth, 1, { use_bias = false })(activation(name .. "_0_relu")(normed(x, name .. "_0_bn")))
      y = activation(name .. "_1_relu")(normed(y, name .. "_1_bn"))
      y = conv(name .. "_2_conv", growth, 3, { padding = "same", use_bias = false })(y)
      x = nn.Concatenate { name = name .. "_concat" } { x, y }
    end
    if stage < 4 then -- half the channels, half the size
      local name = "pool" .. stage + 1
      x = conv(name .. "_conv", channels(x) // 2, 1, { use_bias = false })(activation(name .. "_relu")(normed(x, name .. "_bn")))
      x = nn.AveragePooling2D { 2, strides = 2, name = name .. "_pool" }(x)
    end
  end
  return head(activation "relu"(normed(x, "bn")), o, named_pools)
end

-- ---- constructors ----------------------------------------------------------------------------------------------------------

-- What pictures of bytes, RGB, become before a model sees them: in the order BGR where `reversed`, times scale, plus offset (numbers, or one for
-- each channel of what is then there).
local preparations = {
  unit = { scale = 1 / 255, offset = 0 },
  none = { scale = 1, offset = 0 },
  tf = { scale = 1 / 127.5, offset = -1 },
  torch = { scale = { 1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225) }, offset = { -0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225 } },
  caffe = { reversed = true, scale = 1, offset = { -103.939, -116.779, -123.68 } },
}

local makers = {} -- constructor's name -> function(options, checked options)
local prepared = {} -- constructor's name, in lower case -> a name in preparations

local common = {
  input_shape = { "table" }, include_top = { "boolean", default = true }, pooling = { "string", choices = { "avg", "max" } },
  classes = { "integer", default = 1000, min = 1 }, classifier_activation = { "string|boolean", default = "softmax" }, weights = { "string" },
  name = { "string" },
}

local function shape_for(name, given, small, default)
  local shape = given or default
  local fits = #shape == 3
  for i = 1, #shape do fits = fits and math.type(shape[i]) == "integer" and (shape[i] > 0 or i < 3 and shape[i] == -1) end
  if not fits then options.raise(("%s: input_shape must be {height, width, channels}, got %s"):format(name, options.shown(given))) end
  for i = 1, 2 do
    if shape[i] > 0 and shape[i] < small then
      options.raise(("%s: input_shape: pictures must be at least %dx%d, got %dx%d"):format(name, small, small, shape[1], shape[2]))
    end
  end
  return shape
end

-- More of `info`: prepare, a name in preparations; options; small, the smallest height and width; shape, the default of input_shape;
-- tops, whether the classifier needs a size that is known.
local function define(name, model_name, build, info)
  local spec = {}
  for key, value in pairs(common) do spec[key] = value end
  for key, value in pairs(info.options or {}) do spec[key] = value end
  prepared[name:lower()] = info.prepare
  makers[name] = function(given)
    local o = options.check(name, given or {}, spec)
    if o.pooling and o.include_top then options.raise(name .. ": pooling is for models without the top; give include_top = false") end
    local shape = shape_for(name, o.input_shape, info.small or 32, info.shape or { 224, 224, 3 })
    if info.fixed and o.include_top and (shape[1] < 0 or shape[2] < 0) then
      options.raise(name .. ": with the top, input_shape must say height and width")
    end
    nn = nn or require "nnlua"
    local x = nn.Input { shape = shape, name = "input_layer" }
    return nn.Model { inputs = x, outputs = build(x, o), name = o.name or model_name }
  end
  applications[name] = function(given)
    local handle = type(given) == "table" and given.weights
    if type(handle) ~= "string" then return makers[name](given) end
    local file, message = require("nnlua.hub").weights(handle, given.include_top, given.alpha)
    if not file then return nil, message end
    return applications.with_weights(name, given, file, handle:find "^keras:" ~= nil)
  end
end

-- The model of a constructor, with the weights of a file; `published` says that Keras published them. For nn.hub.
function applications.with_weights(name, given, file, published)
  local o = {}
  for key, value in pairs(given) do o[key] = value end
  o.weights = published and "keras:" or nil
  local model = makers[name](o)
  local ok, message = model:load_weights(file)
  if not ok then return nil, message end
  return model
end

local alpha = { alpha = { "number", default = 1.0, above = 0 } }
local width = { width = { "integer", default = 64, min = 1 } }

--- LeNet-5 (LeCun 1998): two convolutions, three dense layers; for small pictures of one channel. 61,706 weights.
define("LeNet", "lenet", lenet, { prepare = "unit", small = 16, shape = { 28, 28, 1 }, fixed = true, options = { classes = { "integer", default = 10,
  min = 1 } } })
--- VGG16 (Simonyan and Zisserman 2014): 138,357,544 weights.
define("VGG16", "vgg16", vgg { 2, 2, 3, 3, 3 }, { prepare = "caffe", fixed = true })
--- VGG19: 143,667,240 weights.
define("VGG19", "vgg19", vgg { 2, 2, 4, 4, 4 }, { prepare = "caffe", fixed = true })
--- ResNet-18 (He et al. 2015), as PyTorch has it: 11,689,512 trained weights.
define("ResNet18", "resnet18", resnet18, { prepare = "torch", options = width })
--- ResNet-50: 25,636,712 weights.
define("ResNet50", "resnet50", resnet50, { prepare = "caffe", options = width })
--- ResNet-50 with activations before convolutions (He et al. 2016): 25,613,800 weights.
define("ResNet50V2", "resnet50v2", resnet50_v2, { prepare = "tf", options = width })
--- MobileNet (Howard et al. 2017): 4,253,864 weights.
define("MobileNet", "mobilenet", mobilenet, { prepare = "tf", options = alpha })
--- MobileNetV2 (Sandler et al. 2018): 3,538,984 weights.
define("MobileNetV2", "mobilenet_v2", mobilenet_v2, { prepare = "tf", options = alpha })
--- EfficientNetB0 (Tan and Le 2019), which takes pictures of bytes: 5,330,571 weights.
define("EfficientNetB0", "efficientnetb0", efficientnet_b0, { prepare = "none" })
--- DenseNet121 (Huang et al. 2016): 8,062,504 weights.
define("DenseNet121", "densenet121", densenet121, { prepare = "torch" })

-- The key in `prepared` of a constructor's name or of the names that Keras gives models: "mobilenet_v2", "mobilenetv2_1.00_224", "vgg16_1".
local function key_of(name) return (name:lower():gsub("_%d[%d._]*$", ""):gsub("_", "")) end

--- How pictures of bytes are prepared for a model, which may be given itself or by name ("VGG16", "vgg16"); nil when it is none of these:
---
---   "tf"      x / 127.5 - 1                                            MobileNet, MobileNetV2, ResNet50V2
---   "caffe"   channels in the order B, G, R, less 103.939, 116.779, 123.68   VGG16, VGG19, ResNet50
---   "torch"   x / 255, less 0.485, 0.456, 0.406, over 0.229, 0.224, 0.225    DenseNet121, ResNet18
---   "unit"    x / 255                                                  LeNet
---   "none"    as they are: the model has layers for it                 EfficientNetB0
---
--- These are Keras's (imagenet_utils.py), ResNet18's are torchvision's.
---@param model string|nnlua.Module
---@return string?
function applications.preprocessing(model)
  local name = type(model) == "table" and rawget(model, "name") or model
  return type(name) == "string" and prepared[key_of(name)] or nil
end

-- A 1x1 convolution that turns channels round and adds: Keras has no layer of its own for that, and this one its files carry.
local function reversing(offset)
  local layer = nn.Conv2D { 3, 1, trainable = false }
  layer:build { -1, -1, 3 }
  layer.kernel:assign(core.tensor({ { { { 0, 0, 1 }, { 0, 1, 0 }, { 1, 0, 0 } } } }, { dtype = "f32" }))
  layer.bias:assign(core.tensor(offset))
  return layer
end

--- Pictures (N, H, W, C) of bytes 0 to 255, RGB, as `model` takes them: a constructor's name ("VGG16"), or a model that has the name it got from its
--- constructor or from Keras. Real numbers come back; of an nn.Input or symbolic tensor a symbolic one, so that the step is a part of the model.
---
---     local nn = require "nnlua"
---     local x = nn.Input { 32, 32, 3 }
---     print(nn.applications.preprocess_input("VGG16", x):size(-1))   --> 3
---@param model string|nnlua.Module
---@param x nnlua.Tensor|nnlua.SymbolicTensor
---@return nnlua.Tensor|nnlua.SymbolicTensor
function applications.preprocess_input(model, x)
  local kind = applications.preprocessing(model)
  if not kind then
    local names = lists.sorted(applications, function(key, value) return type(value) == "function" and key:find "^%u" end)
    options.raise(("preprocess_input: unknown model %s (valid: %s)"):format(options.shown(model), table.concat(names, ", ")))
  end
  local how, symbol = preparations[kind], require("nnlua.symbolic").symbol_of(x)
  if not symbol and not core.is_tensor(x) then
    options.raise(("preprocess_input: needs a tensor of pictures, got %s"):format(options.shown(x)))
  end
  x = symbol or x
  if x:dim() == 0 or type(how.offset) == "table" and x:size(-1) ~= 3 then
    options.raise(("preprocess_input: %s takes pictures of 3 channels, got %s"):format(options.shown(model),
      table.concat(x:shape(), "x")))
  end
  nn = nn or require "nnlua"
  if kind == "none" then return symbol or require("nnlua.functional.shapes").real(x) end
  if symbol and how.reversed then return reversing(how.offset)(x) end
  return nn.Rescaling { how.scale, how.offset }(how.reversed and x:flip(-1) or x)
end

return applications
